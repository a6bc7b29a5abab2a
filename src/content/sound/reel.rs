//! The sound of a film in a file: Opus packets of constant size, in blocks of a second with a checksum each.
//!
//! ```text
//! magic  version  length  frames  shorts  bytes a frame  gain  loudness  true peak  checksum      header, 64 bytes
//! block 0 ..                                            50 packets of 20 ms each, the last block fewer
//! block n                                               the short packets of 2.5 ms
//! checksum of block 0 ..                                4 bytes each
//! ```
//!
//! Numbers are little-endian. The packets make a circle: packet 0 follows the last one without a seam.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};

use super::{FRAME, SHORT};
use crate::content::lock;

const MAGIC: [u8; 8] = *b"STCSOUND";
/// Raised when packets of the same film would be others.
pub(super) const VERSION: u32 = 1;
pub(super) const HEADER_LEN: usize = 64;

/// Packets of 20 ms in a block.
pub(super) const BLOCK: u32 = 50;

/// Most bytes of a packet of 20 ms: Opus has no more than 510 kbit/s (RFC 6716 section 2.1.1).
pub(super) const MAX_FRAME_BYTES: u16 = 1275;

/// Blocks that are read ahead.
const AHEAD: u32 = 10;

/// Most blocks that are kept of a file whose file system does not tell what is in memory: 4 MB, for the stations that hear the film.
const MOST_FETCHED: usize = 256;

/// Longest sound: 49 days, far above any film. It bounds what a damaged header can claim.
const MAX_FRAMES: u32 = 50 * 86_400 * 49;

/// What the header of a sound file says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SoundHeader {
    /// The length of the film's round, in samples.
    pub(crate) length: u64,
    /// Packets of 20 ms.
    pub(crate) frames: u32,
    /// Packets of 2.5 ms after them.
    pub(crate) shorts: u32,
    /// Bytes of a packet of 20 ms. One of 2.5 ms has an eighth of that, rounded up.
    pub(crate) frame_bytes: u16,
    /// The gain that was applied, in dB.
    pub(crate) gain: f32,
    /// The loudness of the film as it was, in LUFS.
    pub(crate) loudness: f32,
    /// The highest true peak of the film as it was, in dBTP.
    pub(crate) peak: f32,
}

impl SoundHeader {
    pub(super) fn short_bytes(&self) -> usize {
        usize::from(self.frame_bytes).div_ceil(8)
    }

    fn blocks(&self) -> u32 {
        self.frames.div_ceil(BLOCK) + 1
    }

    /// The offset of a block in the file, and its bytes.
    fn block(&self, block: u32) -> (u64, usize) {
        let frame = u64::from(self.frame_bytes);
        let first = u64::from(block) * u64::from(BLOCK);
        if block + 1 == self.blocks() {
            let bytes = self.shorts as usize * self.short_bytes();
            return (HEADER_LEN as u64 + u64::from(self.frames) * frame, bytes);
        }
        let count = u64::from(BLOCK).min(u64::from(self.frames) - first);
        (HEADER_LEN as u64 + first * frame, (count * frame) as usize)
    }

    fn checksums_at(&self) -> u64 {
        let (offset, bytes) = self.block(self.blocks() - 1);
        offset + bytes as u64
    }

    pub(super) fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.length.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.frames.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.shorts.to_le_bytes());
        bytes[28..30].copy_from_slice(&self.frame_bytes.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.gain.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.loudness.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.peak.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..HEADER_LEN - 4]);
        bytes[HEADER_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` if the bytes are not the header of such a file.
    pub(super) fn parse(bytes: &[u8; HEADER_LEN]) -> Option<SoundHeader> {
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap_or_default());
        let f32_at = |at: usize| f32::from_bits(u32_at(at));
        let header = SoundHeader {
            length: u64::from(u32_at(12)) | u64::from(u32_at(16)) << 32,
            frames: u32_at(20),
            shorts: u32_at(24),
            frame_bytes: u16::from_le_bytes([bytes[28], bytes[29]]),
            gain: f32_at(32),
            loudness: f32_at(36),
            peak: f32_at(40),
        };
        let covered =
            u64::from(header.frames) * u64::from(FRAME) + u64::from(header.shorts) * u64::from(SHORT);
        let is_valid = bytes[..8] == MAGIC
            && u32_at(8) == VERSION
            && u32_at(HEADER_LEN - 4) == crc32fast::hash(&bytes[..HEADER_LEN - 4])
            && header.frames <= MAX_FRAMES
            && header.shorts <= FRAME / SHORT
            && (1..=MAX_FRAME_BYTES).contains(&header.frame_bytes)
            && [header.gain, header.loudness, header.peak].iter().all(|decibels| decibels.is_finite())
            && covered.abs_diff(header.length) <= u64::from(SHORT);
        is_valid.then_some(header)
    }
}

/// The sound of a film on disk. An [`Arc`] shares it: one open file for all stations.
#[derive(Debug)]
pub(crate) struct SoundReel {
    file: File,
    header: SoundHeader,
    checksums: Vec<u32>,
    /// Whether the file system cannot tell what is in memory, as tmpfs, NFS and FUSE: then a thread fetches the blocks.
    is_opaque: AtomicBool,
    fetched: Mutex<Fetched>,
}

/// The blocks that a thread has read.
#[derive(Debug, Default)]
struct Fetched {
    /// Whether a thread reads now.
    is_busy: bool,
    /// The oldest first; `None` for a block that cannot be read.
    blocks: VecDeque<(u32, Option<Bytes>)>,
}

impl Fetched {
    fn get(&self, block: u32) -> Option<&Option<Bytes>> {
        self.blocks.iter().find(|(known, _)| *known == block).map(|(_, bytes)| bytes)
    }
}

/// A packet of a sound reel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The block that has it.
    pub(crate) block: u32,
    /// Its bytes in the block.
    pub(crate) from: usize,
    pub(crate) to: usize,
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the sound file is damaged: {what}"))
}

impl SoundReel {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// The system's, or `InvalidData` for a file that is not whole.
    pub(crate) fn open(path: &Path) -> io::Result<SoundReel> {
        SoundReel::from_file(File::open(path)?)
    }

    /// The sound in `file`, which may have no name.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn from_file(file: File) -> io::Result<SoundReel> {
        let mut bytes = [0; HEADER_LEN];
        file.read_exact_at(&mut bytes, 0)?;
        let header = SoundHeader::parse(&bytes).ok_or_else(|| damaged("its header"))?;
        let count = header.blocks() as usize;
        if file.metadata()?.len() != header.checksums_at() + 4 * (count as u64 + 1) {
            return Err(damaged("its length"));
        }
        // The header was checked against the length of the file, so this cannot be large by mistake.
        let mut table = vec![0; 4 * (count + 1)];
        file.read_exact_at(&mut table, header.checksums_at())?;
        let mut checksums: Vec<u32> =
            table.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        if checksums.pop() != Some(crc32fast::hash(&table[..4 * count])) {
            return Err(damaged("its checksums"));
        }
        let (is_opaque, fetched) = (AtomicBool::new(false), Mutex::default());
        Ok(SoundReel { file, header, checksums, is_opaque, fetched })
    }

    /// What the header says.
    pub(crate) fn header(&self) -> &SoundHeader {
        &self.header
    }

    /// The number of packets.
    pub(crate) fn len(&self) -> u32 {
        self.header.frames + self.header.shorts
    }

    /// Where packet `n` begins, in samples from the film's beginning. For `n` equal to [`len`](Self::len): where the last one ends.
    pub(crate) fn start(&self, n: u32) -> u64 {
        let frames = n.min(self.header.frames);
        u64::from(frames) * u64::from(FRAME) + u64::from(n - frames) * u64::from(SHORT)
    }

    /// The first packet that begins at `sample` or later; [`len`](Self::len) if there is none.
    pub(crate) fn from(&self, sample: u64) -> u32 {
        let frame = sample.div_ceil(FRAME.into());
        if frame <= self.header.frames.into() {
            return frame as u32;
        }
        let over = sample.saturating_sub(u64::from(self.header.frames) * u64::from(FRAME));
        let short = over.div_ceil(SHORT.into()).min(self.header.shorts.into());
        self.header.frames + short as u32
    }

    /// Where the bytes of packet `n` are.
    pub(crate) fn place(&self, n: u32) -> Place {
        let (block, index, bytes) = match n.checked_sub(self.header.frames) {
            None => (n / BLOCK, n % BLOCK, usize::from(self.header.frame_bytes)),
            Some(short) => (self.header.blocks() - 1, short, self.header.short_bytes()),
        };
        let from = index as usize * bytes;
        Place { block, from, to: from + bytes }
    }

    /// The bytes of a block, if that needs no disk. Never waits. `None` if it must be [read ahead](Self::read_ahead) first.
    ///
    /// # Errors
    /// The system's, or `InvalidData` if the bytes are not those that were written.
    pub(crate) fn try_block(&self, block: u32) -> io::Result<Option<Bytes>> {
        if self.is_opaque.load(Relaxed) {
            return match lock(&self.fetched).get(block) {
                Some(Some(bytes)) => Ok(Some(bytes.clone())),
                Some(None) => Err(damaged(&format!("second {block}"))),
                None => Ok(None),
            };
        }
        let (offset, length) = self.header.block(block);
        let mut bytes = vec![0; length];
        let read = match rustix::io::preadv2(
            &self.file,
            &mut [IoSliceMut::new(&mut bytes)],
            offset,
            ReadWriteFlags::NOWAIT,
        ) {
            Ok(read) => read == length,
            Err(Errno::AGAIN) => false,
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.is_opaque.store(true, Relaxed);
                false
            }
            Err(error) => return Err(error.into()),
        };
        if read { self.checked(block, bytes).map(Some) } else { Ok(None) }
    }

    /// Has the system read a block and those after it into memory, without waiting.
    pub(crate) fn read_ahead(self: &Arc<Self>, block: u32) {
        let block = block.min(self.header.blocks() - 1);
        if self.is_opaque.load(Relaxed) {
            return self.fetch(block);
        }
        let (from, _) = self.header.block(block);
        let bytes = u64::from(AHEAD) * u64::from(BLOCK) * u64::from(self.header.frame_bytes);
        // Without it, sound may be missing while the disk is slow, and no more.
        let _ = rustix::fs::fadvise(&self.file, from, NonZeroU64::new(bytes), Advice::WillNeed);
    }

    /// Has a thread read a block and those after it, unless half of them are there, or one reads already: a disk that hangs has one
    /// thread waiting.
    fn fetch(self: &Arc<Self>, block: u32) {
        let mut fetched = lock(&self.fetched);
        let blocks = block..(block + AHEAD).min(self.header.blocks());
        let is_near = |n: &u32| *n < block + AHEAD / 2;
        if fetched.is_busy || blocks.clone().take_while(is_near).all(|n| fetched.get(n).is_some()) {
            return;
        }
        let reel = self.clone();
        let read = move || {
            for block in blocks {
                if lock(&reel.fetched).get(block).is_some() {
                    continue;
                }
                let (offset, length) = reel.header.block(block);
                let mut bytes = vec![0; length];
                let read = reel.file.read_exact_at(&mut bytes, offset);
                let bytes = read.and_then(|()| reel.checked(block, bytes)).ok();
                let mut fetched = lock(&reel.fetched);
                fetched.blocks.push_back((block, bytes));
                if fetched.blocks.len() > MOST_FETCHED {
                    fetched.blocks.pop_front();
                }
            }
            lock(&reel.fetched).is_busy = false;
        };
        // Without a thread, sound is missing until there is one.
        fetched.is_busy = thread::Builder::new().name("sound reader".into()).spawn(read).is_ok();
    }

    fn checked(&self, block: u32, bytes: Vec<u8>) -> io::Result<Bytes> {
        if self.checksums.get(block as usize) != Some(&crc32fast::hash(&bytes)) {
            return Err(damaged(&format!("second {block}")));
        }
        Ok(bytes.into())
    }

    /// The length of the film's round.
    #[cfg(test)]
    pub(crate) fn length(&self) -> std::time::Duration {
        std::time::Duration::from_nanos(
            (u128::from(self.header.length) * 1_000_000_000 / u128::from(super::RATE)) as u64,
        )
    }
}

/// For the fuzzer: reads the header of a sound file, whose checksum is made right first.
#[cfg(fuzzing)]
pub fn fuzz(bytes: &[u8]) {
    let Some(header) = bytes.first_chunk::<HEADER_LEN>() else { return };
    let mut header = *header;
    let crc = crc32fast::hash(&header[..HEADER_LEN - 4]);
    header[HEADER_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
    if let Some(header) = SoundHeader::parse(&header) {
        let _ = (header.checksums_at(), header.block(header.blocks() - 1));
        assert_eq!(SoundHeader::parse(&header.to_bytes()), Some(header));
    }
}
