//! Reels: a film's coded pictures in one file, so that a film is encoded once and then only sent.
//!
//! The rest of `content` imports this room, `headend` and `rtsp` to play reels on demand, and `daemon` to open the
//! [`Store`]. It imports `media`, and the largest scan from `wire`.
//!
//! ```text
//! film --key--> ReelKey --find---> Reel     --picture(n)--> Jpeg      every pass but the first
//!                       --record-> Recorder --growing-----> GrowingReel --picture(n)--> Jpeg      the first pass
//!                                           --finish------> Reel
//! ```
//!
//! - A [`Store`] is a folder of reels with a limit in bytes. It evicts the least recently aired reels.
//! - A [`ReelKey`] is the hash of a film's bytes and the encoding. A changed film has another key, whatever its name is;
//!   one film under two names has one reel.
//! - A [`Reel`] is complete, checked and never written again. Any number of stations read it at once.
//! - A [`GrowingReel`] is what a [`Recorder`] has written so far. Any number of stations read it behind the recorder.
//! - A [`Recorder`] writes a file beside the reels, which gets a reel's name only when it is complete and on the disk.
//!   So nothing mistakes the part that a killed process leaves for a reel.
//!
//! A reel is a cache, and a fault in one costs an encoding but never airs a wrong picture: checksums cover each byte of
//! the [file](mod@format), and a damaged reel is removed, logged in one line, and recorded again.
//!
//! All of it blocks for as long as the disk takes. Time is an argument.

pub mod format;

mod growing;
mod hash_cache;
mod key;
mod picture_file;
mod recorder;
mod store;
#[cfg(test)]
mod tests;

use std::fs::{File, FileTimes, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, UNIX_EPOCH};

use crate::media::jpeg::Jpeg;
use crate::media::{AirTime, FrameRate, Size};
use format::{ENTRY_LEN, HEADER_LEN, Index, ReelHeader};
use picture_file::{PictureFile, read_error};

pub use format::Damage;
pub use growing::GrowingReel;
pub use key::{ENCODER_VERSION, Encoding, ReelKey};
pub use recorder::{RecordError, Recorder};
pub use store::{Store, Usage};

/// Least time between two updates of a reel's modification time, by which reels are evicted. The order of eviction does
/// not need it more often, and a write for each pass of each ten-second clip would load the disk.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// Why a reel cannot be read. The message names the reel's file.
#[derive(Debug, thiserror::Error)]
pub enum ReelError {
    /// The file is not what was recorded. The caller should discard the reel.
    #[error("reel {reel} is damaged: {damage}")]
    Damaged {
        /// The reel's file name.
        reel: String,
        /// The first damage that was found.
        damage: Damage,
    },
    /// The system cannot read the file.
    #[error("reel {reel} cannot be read: {error}")]
    Io {
        /// The reel's file name.
        reel: String,
        /// The system's reason.
        error: io::Error,
    },
}

/// A film's coded pictures on disk. An [`Arc`](std::sync::Arc) shares it: one open file for any number of readers.
#[derive(Debug)]
pub struct Reel {
    /// The reel's number among all that the program has opened.
    id: u32,
    pictures: PictureFile,
    /// The file's device and inode. By now, another file may be at its path.
    file_id: (u64, u64),
    header: ReelHeader,
    index: Index,
    /// The file's modification time, in nanoseconds since the Unix epoch.
    touched: AtomicU64,
}

impl Reel {
    /// Opens the reel of `key` at `path`, which may not be the reel's final name yet. Reads and checks the header and
    /// the index.
    fn open(path: &Path, key: &ReelKey) -> Result<Reel, ReelError> {
        let name = format!("{key}.reel");
        let damaged = |damage| ReelError::Damaged { reel: name.clone(), damage };
        let failed = |error| read_error(&name, Damage::Truncated, error);

        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let mut bytes = [0; HEADER_LEN];
        file.read_exact_at(&mut bytes, 0).map_err(failed)?;
        let header = ReelHeader::parse(&bytes).map_err(damaged)?;
        if header.key != *key {
            return Err(damaged(Damage::Key));
        }
        header.fits(metadata.len()).map_err(damaged)?;
        // The header was checked against the length of the file, so a damaged count cannot make this allocation large.
        let mut entries = vec![0; header.count as usize * ENTRY_LEN];
        file.read_exact_at(&mut entries, header.index_at).map_err(failed)?;
        let index = Index::parse(entries, &header).map_err(damaged)?;
        static OPENED: AtomicU32 = AtomicU32::new(0);
        Ok(Reel {
            id: OPENED.fetch_add(1, Relaxed),
            pictures: PictureFile::new(name, file, key.encoding().size),
            file_id: file_id(&metadata),
            header,
            index,
            touched: AtomicU64::new(modified(&metadata).0),
        })
    }

    /// The reel's number among all that the program has opened.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The film and the encoding of this reel.
    pub fn key(&self) -> &ReelKey {
        &self.header.key
    }

    /// The number of pictures, at least one.
    #[expect(clippy::len_without_is_empty, reason = "no reel is empty")]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// The size of all pictures.
    pub fn size(&self) -> Size {
        self.header.key.encoding().size
    }

    /// The film's nominal rate.
    pub fn rate(&self) -> FrameRate {
        self.header.rate
    }

    /// The time from the beginning of the first picture to the end of the last one, when the next film begins.
    pub fn length(&self) -> Duration {
        self.header.length
    }

    /// The time from the first picture to picture `n`. Never less than that of the picture before.
    ///
    /// # Panics
    /// If `n` is not below [`len`](Self::len).
    pub fn stamp(&self, n: usize) -> Duration {
        self.index.entry(n).stamp
    }

    /// The number of the picture that is on air `offset` after the first one: the last picture whose stamp is not
    /// later.
    pub fn at(&self, offset: Duration) -> usize {
        self.index.at(offset)
    }

    /// Picture `n`, shared with a reader that still holds it (80 ns), or read from the file.
    ///
    /// # Errors
    /// [`ReelError::Damaged`] if the file no longer has the picture that was recorded, [`ReelError::Io`] if the system
    /// cannot read it.
    ///
    /// # Panics
    /// If `n` is not below [`len`](Self::len).
    pub fn picture(&self, n: usize) -> Result<Jpeg, ReelError> {
        self.pictures.picture(n, self.index.entry(n))
    }

    /// Picture `n`, if that needs no disk: shared with a reader that still holds it, or from the system's page cache.
    /// Never waits. `None` if the picture must be read from the disk, if the file system cannot tell, or if another
    /// reader is reading it.
    ///
    /// # Errors
    /// As [`picture`](Self::picture).
    ///
    /// # Panics
    /// As [`picture`](Self::picture).
    pub fn try_picture(&self, n: usize) -> Result<Option<Jpeg>, ReelError> {
        self.pictures.try_picture(n, self.index.entry(n))
    }

    /// Records in the file's modification time, where every process sees it, that the reel is aired at `now`.
    fn touch(&self, now: AirTime) {
        let since = now.0.abs_diff(self.touched.load(Relaxed));
        if Duration::from_nanos(since) >= TOUCH_EVERY {
            self.touched.store(now.0, Relaxed);
            // Fails for a file of another user, whose own processes then keep the order of eviction.
            let _ = self.pictures.file().set_times(times(now));
        }
    }
}

#[cfg(test)]
impl Reel {
    /// While the caller holds this, every reader of picture `n` waits, as for a disk that hangs.
    pub(crate) fn hang(&self, n: usize) -> impl Sized + '_ {
        self.pictures.hang(n)
    }
}

/// For the fuzzer: reads a reel's header and its index. Their checksums are made right first.
#[cfg(fuzzing)]
pub fn fuzz(bytes: &[u8]) {
    let Some((header, entries)) = bytes.split_first_chunk::<HEADER_LEN>() else { return };
    let mut header = *header;
    let crc = crc32fast::hash(&header[..HEADER_LEN - 4]);
    header[HEADER_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
    let Ok(mut header) = ReelHeader::parse(&header) else { return };
    let entries = &entries[..entries.len() / ENTRY_LEN * ENTRY_LEN];
    if entries.is_empty() || header.fits(header.index_at.saturating_add(entries.len() as u64)).is_err() {
        return;
    }
    header.index_crc = crc32fast::hash(entries);
    if let Ok(index) = Index::parse(entries.to_vec(), &header) {
        assert!(index.at(header.length) < index.len());
    }
}

/// The device and the inode of a file.
fn file_id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn times(now: AirTime) -> FileTimes {
    FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_nanos(now.0))
}

/// A file's modification time.
fn modified(metadata: &Metadata) -> AirTime {
    let since = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    AirTime(since.unwrap_or_default().as_nanos() as u64)
}
