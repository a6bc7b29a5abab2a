//! The file of a reel, byte by byte: little endian, no padding. Pure.
//!
//! ```text
//!   0 +----------------------------------------+
//!     | header, 92 bytes                       |
//!  92 +----------------------------------------+
//!     | scan of picture 0                      |   scans have no gap between them; they may be in another
//!     | scan of picture 1                      |   order, by sections of the film that were recorded in turn
//!     | ...                                    |
//!     +----------------------------------------+ <- index at
//!     | entry of picture 0, 25 bytes           |
//!     | entry of picture 1                     |
//!     | ...                                    |
//!     +----------------------------------------+ <- the end of the file
//! ```
//!
//! The recorder writes the header last. A *scan* is the entropy-coded data of one picture, as RTP/JPEG sends it. All
//! other parts of the JPEG follow from the header and the entry's Q.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+---------------+---------------+
//! |     0x89      |      'R'      |      'E'      |      'E'      |   0  magic
//! +---------------+---------------+---------------+---------------+
//! |      'L'      |     0x0d      |     0x0a      |     0x1a      |   4
//! +---------------+---------------+---------------+---------------+
//! |        format version         |        encoder version        |   8  the key begins with the latter
//! +-------------------------------+-------------------------------+
//! |                                                               |  12
//! .              film: blake3 of the film's bytes, 32             .
//! |                                                               |
//! +-------------------------------+-------------------------------+
//! |             width             |            height             |  44  pixels
//! +---------------+---------------+-------------------------------+
//! |    quality    |     type      |            unused             |  48  type 1 of RFC 2435
//! +---------------+---------------+-------------------------------+
//! |                            budget                             |  52  most bytes of a scan
//! +---------------------------------------------------------------+
//! |                        rate, numerator                        |  56  pictures
//! +---------------------------------------------------------------+
//! |                       rate, denominator                       |  60  seconds
//! +---------------------------------------------------------------+
//! |                                                               |  64  nanoseconds to the
//! +                            length                             +      end of the last
//! |                                                               |      picture
//! +---------------------------------------------------------------+
//! |                             count                             |  72  pictures, 1 or more
//! +---------------------------------------------------------------+
//! |                       CRC-32 of the index                     |  76
//! +---------------------------------------------------------------+
//! |                                                               |  80  bytes from the
//! +                           index at                            +      beginning of the file
//! |                                                               |
//! +---------------------------------------------------------------+
//! |                   CRC-32 of the 88 bytes above                |  88
//! +---------------------------------------------------------------+
//! ```
//!
//! The unused bytes are written as 0 and not read. An entry of the index:
//!
//! ```text
//!   0  offset  u64  of the scan, from the beginning of the file
//!   8  length  u32  of the scan, 1..=budget
//!  12  stamp   u64  nanoseconds from picture 0, never decreasing, less than `length`
//!  20  Q       u8   1..=99: the standard tables of RFC 2435
//!  21  CRC     u32  CRC-32 of the scan
//! ```
//!
//! CRC-32 is that of Ethernet and zlib (IEEE 802.3). It detects every error of one bit and every burst of up to 32
//! bits.

use std::time::Duration;

use super::key::{BUDGET, ENCODER_VERSION, Encoding, FilmHash, ReelKey};
use crate::media::{FrameRate, Size};

/// Bytes of the header.
pub const HEADER_LEN: usize = 92;

/// Bytes of an index entry.
pub const ENTRY_LEN: usize = 25;

/// The version of this layout.
pub const FORMAT_VERSION: u16 = 1;

/// Most pictures of a reel: 38 hours at 60 a second, with an index of 210 MB.
pub const MAX_PICTURES: u32 = 1 << 23;

const MAGIC: [u8; 8] = *b"\x89REEL\r\n\x1a";

/// Type 1 of RFC 2435: 4:2:0, no restart markers.
const TYPE: u8 = 1;

/// Why a file is not the reel that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The file is shorter or longer than its header states.
    #[error("the file is not as long as its header states")]
    Truncated,
    /// The file is of another kind.
    #[error("the file is not a reel")]
    Magic,
    /// Another version of this program made the reel. It is not damaged, but of no use.
    #[error("it was made by another version of this program")]
    Version,
    /// The header is of another film or another encoding than the file's name.
    #[error("its header is of another film or encoding than its name")]
    Key,
    /// The header's bytes changed.
    #[error("its header does not match its checksum")]
    Header,
    /// The index's bytes changed.
    #[error("its index does not match its checksum")]
    Index,
    /// The checksums are right but this value is not: the program that wrote it has a bug.
    #[error("its {0} is invalid")]
    Invalid(&'static str),
    /// A picture's bytes changed.
    #[error("picture {0} does not match its checksum")]
    Picture(usize),
}

/// The header of a reel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReelHeader {
    pub(super) key: ReelKey,
    pub(super) rate: FrameRate,
    pub(super) length: Duration,
    pub(super) count: u32,
    pub(super) index_crc: u32,
    pub(super) index_at: u64,
}

impl ReelHeader {
    pub(super) fn emit(&self) -> [u8; HEADER_LEN] {
        let Encoding { size, quality } = self.key.encoding();
        let fields: [&[u8]; 16] = [
            &MAGIC,
            &FORMAT_VERSION.to_le_bytes(),
            &ENCODER_VERSION.to_le_bytes(),
            self.key.film_hash(),
            &size.width.to_le_bytes(),
            &size.height.to_le_bytes(),
            &[quality],
            &[TYPE],
            &[0; 2],
            &BUDGET.to_le_bytes(),
            &self.rate.num().to_le_bytes(),
            &self.rate.den().to_le_bytes(),
            &nanos(self.length).to_le_bytes(),
            &self.count.to_le_bytes(),
            &self.index_crc.to_le_bytes(),
            &self.index_at.to_le_bytes(),
        ];
        let mut header = [0; HEADER_LEN];
        let (body, crc) = header.split_at_mut(HEADER_LEN - 4);
        body.copy_from_slice(&fields.concat());
        crc.copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        header
    }

    /// Reads a header. The version is checked before the checksum, which another version may have elsewhere.
    pub(super) fn parse(header: &[u8; HEADER_LEN]) -> Result<ReelHeader, Damage> {
        let mut fields = Fields(header);
        if fields.take() != MAGIC {
            return Err(Damage::Magic);
        }
        if u16::from_le_bytes(fields.take()) != FORMAT_VERSION {
            return Err(Damage::Version);
        }
        let (body, crc) = header.split_at(HEADER_LEN - 4);
        if crc != crc32fast::hash(body).to_le_bytes() {
            return Err(Damage::Header);
        }
        let encoder = u16::from_le_bytes(fields.take());
        let film: FilmHash = fields.take();
        let size =
            Size { width: u16::from_le_bytes(fields.take()), height: u16::from_le_bytes(fields.take()) };
        let [quality] = fields.take();
        let [kind] = fields.take();
        let _unused: [u8; 2] = fields.take();
        let budget = u32::from_le_bytes(fields.take());
        if (encoder, kind, budget) != (ENCODER_VERSION, TYPE, BUDGET) {
            return Err(Damage::Version);
        }
        let (num, den) = (u32::from_le_bytes(fields.take()), u32::from_le_bytes(fields.take()));
        let header = ReelHeader {
            key: ReelKey::new(film, Encoding { size, quality }),
            rate: FrameRate::new(num, den).ok_or(Damage::Invalid("rate"))?,
            length: Duration::from_nanos(u64::from_le_bytes(fields.take())),
            count: u32::from_le_bytes(fields.take()),
            index_crc: u32::from_le_bytes(fields.take()),
            index_at: u64::from_le_bytes(fields.take()),
        };
        match header.count {
            1..=MAX_PICTURES => Ok(header),
            _ => Err(Damage::Invalid("count of pictures")),
        }
    }

    /// Checks that the header is of a file of `len` bytes. After this check, `count` bounds an allocation.
    pub(super) fn fits(&self, len: u64) -> Result<(), Damage> {
        let index = u64::from(self.count) * ENTRY_LEN as u64;
        if self.index_at.checked_add(index) == Some(len) { Ok(()) } else { Err(Damage::Truncated) }
    }
}

/// The index entry of a picture: where its scan is, and its stamp, Q and checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub(super) offset: u64,
    pub(super) length: u32,
    pub(super) stamp: Duration,
    pub(super) q: u8,
    pub(super) crc: u32,
}

impl IndexEntry {
    pub(super) fn emit(&self) -> [u8; ENTRY_LEN] {
        let fields: [&[u8]; 5] = [
            &self.offset.to_le_bytes(),
            &self.length.to_le_bytes(),
            &nanos(self.stamp).to_le_bytes(),
            &[self.q],
            &self.crc.to_le_bytes(),
        ];
        let mut entry = [0; ENTRY_LEN];
        entry.copy_from_slice(&fields.concat());
        entry
    }

    pub(super) fn parse(entry: &[u8; ENTRY_LEN]) -> IndexEntry {
        let mut fields = Fields(entry);
        IndexEntry {
            offset: u64::from_le_bytes(fields.take()),
            length: u32::from_le_bytes(fields.take()),
            stamp: Duration::from_nanos(u64::from_le_bytes(fields.take())),
            q: u8::from_le_bytes(fields.take()),
            crc: u32::from_le_bytes(fields.take()),
        }
    }
}

/// An index of which every entry was checked. Kept as in the file: 25 bytes a picture.
#[derive(Debug)]
pub(super) struct Index(Vec<u8>);

impl Index {
    /// Checks an index. Scans must fill the file from the header to the index without a gap, so that a checksum covers
    /// every byte of the file. They may be in any order, since a film is not always recorded from its beginning.
    pub(super) fn parse(bytes: Vec<u8>, header: &ReelHeader) -> Result<Index, Damage> {
        if crc32fast::hash(&bytes) != header.index_crc {
            return Err(Damage::Index);
        }
        let index = Index(bytes);
        let mut scans = Vec::with_capacity(index.len());
        let mut stamp = Duration::ZERO;
        for entry in (0..index.len()).map(|n| index.entry(n)) {
            let in_order = entry.stamp >= stamp && entry.stamp < header.length;
            match entry {
                _ if !(1..=BUDGET).contains(&entry.length) => return Err(Damage::Invalid("picture")),
                _ if !(1..=99).contains(&entry.q) => return Err(Damage::Invalid("quality")),
                _ if !in_order => return Err(Damage::Invalid("order of stamps")),
                _ => {}
            }
            scans.push((entry.offset, entry.length));
            stamp = entry.stamp;
        }
        // Fast, since they are a few sections in order.
        scans.sort();
        let mut offset = HEADER_LEN as u64;
        for (begin, length) in scans {
            if begin != offset {
                return Err(Damage::Invalid("index"));
            }
            offset += u64::from(length);
        }
        if offset != header.index_at || index.entry(0).stamp != Duration::ZERO {
            return Err(Damage::Invalid("index"));
        }
        Ok(index)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len() / ENTRY_LEN
    }

    pub(super) fn entry(&self, n: usize) -> IndexEntry {
        let (entries, _) = self.0.as_chunks();
        IndexEntry::parse(&entries[n])
    }

    /// The number of the last picture whose stamp is not later than `offset`.
    pub(super) fn at(&self, offset: Duration) -> usize {
        let (entries, _) = self.0.as_chunks();
        entries.partition_point(|entry| IndexEntry::parse(entry).stamp <= offset).saturating_sub(1)
    }
}

/// Nanoseconds. 64 bits suffice for 584 years.
fn nanos(span: Duration) -> u64 {
    span.as_nanos() as u64
}

/// Takes fields off the front of a structure of fixed length.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().expect("the fields add up to the structure's length");
        self.0 = rest;
        *field
    }
}
