//! The reel: encode once, air for ever. A film's coded pictures, kept in one file per film and encoding.
//!
//! ```text
//! film --key--> ReelKey --find---> Reel     --picture(n)--> Jpeg      every pass but the first
//!                       --record-> Recorder --finish------> Reel      the first pass
//! ```
//!
//! - A [`Store`] is the folder they are in, with a limit in bytes: the least recently aired go first.
//! - A [`ReelKey`] is a film's *content* and how it is encoded. A film that was changed has another key, under
//!   whatever name; one film under two names has one reel.
//! - A [`Reel`] is finished, checked and never written again: any number of stations read it at once.
//! - A [`Recorder`] writes beside it, and the reel takes its name only when it is whole and on the disk. A
//!   process that is killed leaves a part that nobody takes for a reel.
//!
//! A reel is a cache. Whatever is wrong with one costs an encoding and never a picture: it is noticed (each byte of
//! the [file](mod@format) is under a checksum), removed, reported in one line, and made again.
//!
//! All of it blocks, for as long as the disk takes. Time is an argument, as everywhere.

pub mod format;

mod film;
mod key;
mod recorder;
mod store;
#[cfg(test)]
mod tests;

use std::fs::{File, FileTimes, Metadata};
use std::io::{self, IoSliceMut};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags};

use crate::media::jpeg::{Chroma, Jpeg, Tables};
use crate::media::{AirTime, FrameRate, Size};
use format::{ENTRY_LEN, HEADER_LEN, Header, Index};

pub use format::Damage;
pub use key::{ENCODER_VERSION, Encoding, ReelKey};
pub use recorder::{RecordError, Recorder};
pub use store::{Store, Usage};

/// How often a reel on air says so to those who choose what to remove. By the clock of eviction, which counts
/// in films, a minute is nothing; to a disk, a write for each pass of each ten-second clip is not.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// Pictures that stations which air a film at nearly the same time can share. They hold theirs for
/// [`LEAD`](crate::air::LEAD), 59 pictures at 60 a second.
const SHARED: usize = 64;

/// Why a reel cannot be read. It names the reel's file.
#[derive(Debug, thiserror::Error)]
pub enum ReelError {
    /// It is not what was recorded: discard it.
    #[error("reel {reel} is damaged: {damage}")]
    Damaged {
        /// The reel's file name.
        reel: String,
        /// What does not fit.
        damage: Damage,
    },
    /// The system cannot read it.
    #[error("reel {reel} cannot be read: {error}")]
    Io {
        /// The reel's file name.
        reel: String,
        /// The system's reason.
        error: io::Error,
    },
}

/// A film, coded, on disk. Share it in an [`Arc`]: one open file, any number of readers.
#[derive(Debug)]
pub struct Reel {
    /// Of the file; for messages.
    name: String,
    file: File,
    /// The file's device and inode: what is at its path may be another by now.
    identity: (u64, u64),
    header: Header,
    index: Index,
    /// When the file was last touched.
    touched: AtomicU64,
    /// The pictures that somebody still holds: picture `n` in slot `n % SHARED`. Weak, so that sharing costs no
    /// memory; and the lock of a slot is held while its picture is read, so that who comes second waits for the
    /// read that is under way.
    shared: [Mutex<Slot>; SHARED],
}

/// A picture's number, and its scan.
type Slot = (usize, Weak<Vec<u8>>);

impl Reel {
    /// Opens the reel of `key`, which is at `path`, not under its name yet perhaps. Reads and checks its header and index.
    fn open(path: &Path, key: &ReelKey) -> Result<Reel, ReelError> {
        let name = format!("{key}.reel");
        let damaged = |damage| ReelError::Damaged { reel: name.clone(), damage };
        let failed = |error| read_error(&name, Damage::Truncated, error);

        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let mut bytes = [0; HEADER_LEN];
        file.read_exact_at(&mut bytes, 0).map_err(failed)?;
        let header = Header::parse(&bytes).map_err(damaged)?;
        if header.key != *key {
            return Err(damaged(Damage::Key));
        }
        header.fits(metadata.len()).map_err(damaged)?;
        // As long as the file says, and the file is that long.
        let mut entries = vec![0; header.count as usize * ENTRY_LEN];
        file.read_exact_at(&mut entries, header.index_at).map_err(failed)?;
        let index = Index::parse(entries, &header).map_err(damaged)?;
        Ok(Reel {
            file,
            identity: identity(&metadata),
            header,
            index,
            touched: AtomicU64::new(modified(&metadata).0),
            shared: std::array::from_fn(|_| Mutex::new((0, Weak::new()))),
            name,
        })
    }

    /// What it is a reel of.
    pub fn key(&self) -> &ReelKey {
        &self.header.key
    }

    /// How many pictures it has: one at least.
    #[expect(clippy::len_without_is_empty, reason = "no reel is empty")]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// The size of all its pictures.
    pub fn size(&self) -> Size {
        self.header.key.encoding().size
    }

    /// The film's nominal rate.
    pub fn rate(&self) -> FrameRate {
        self.header.rate
    }

    /// From the first picture to the end of the last: when the next film begins.
    pub fn length(&self) -> Duration {
        self.header.length
    }

    /// When picture `n` is due, from the first one. Never less than that of the picture before.
    ///
    /// # Panics
    /// If `n` is not below [`len`](Self::len).
    pub fn stamp(&self, n: usize) -> Duration {
        self.index.entry(n).stamp
    }

    /// Which picture is on air `offset` after the first: the last one whose stamp is not later.
    pub fn at(&self, offset: Duration) -> usize {
        self.index.at(offset)
    }

    /// Picture `n`: from who still holds it (80 ns), or from the file.
    ///
    /// # Errors
    /// It is not the picture that was recorded ([`ReelError::Damaged`]), or cannot be read.
    ///
    /// # Panics
    /// If `n` is not below [`len`](Self::len).
    pub fn picture(&self, n: usize) -> Result<Jpeg, ReelError> {
        let read = |scan: &mut [u8], offset| self.file.read_exact_at(scan, offset).map(|()| true);
        // Whoever waits for the disk has an answer.
        self.fetch(n, lock(self.slot(n)), read)
            .and_then(|jpeg| jpeg.ok_or_else(|| self.failed(n, io::ErrorKind::WouldBlock.into())))
    }

    /// Picture `n`, if that takes no disk: from who still holds it, or from the system's page cache. `None` when it
    /// takes one, or the file system cannot tell, or somebody is reading there. Never waits.
    ///
    /// # Errors
    /// As [`picture`](Self::picture).
    ///
    /// # Panics
    /// As [`picture`](Self::picture).
    pub fn cached(&self, n: usize) -> Result<Option<Jpeg>, ReelError> {
        let slot = match self.slot(n).try_lock() {
            Ok(slot) => slot,
            Err(TryLockError::Poisoned(slot)) => slot.into_inner(),
            // That may be for as long as a disk hangs, and who calls this is the one thread of all stations.
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        self.fetch(n, slot, |scan, offset| {
            let slices = &mut [IoSliceMut::new(scan)];
            // Part of it may be in the cache: that is not enough.
            match rustix::io::preadv2(&self.file, slices, offset, ReadWriteFlags::NOWAIT) {
                Ok(read) => Ok(read == scan.len()),
                Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn slot(&self, n: usize) -> &Mutex<Slot> {
        &self.shared[n % SHARED]
    }

    /// Picture `n`, whose slot is `slot`, by `read`, which fills the buffer from that place of the file, or says that it
    /// cannot now.
    fn fetch(
        &self,
        n: usize,
        mut slot: MutexGuard<'_, Slot>,
        read: impl FnOnce(&mut [u8], u64) -> io::Result<bool>,
    ) -> Result<Option<Jpeg>, ReelError> {
        let entry = self.index.entry(n);
        let held = slot.1.upgrade().filter(|_| slot.0 == n);
        let scan = match held {
            Some(scan) => scan,
            None => {
                let mut scan = vec![0; entry.length as usize];
                if !read(&mut scan, entry.offset).map_err(|error| self.failed(n, error))? {
                    return Ok(None);
                }
                if crc32fast::hash(&scan) != entry.crc {
                    let damage = Damage::Picture(n);
                    return Err(ReelError::Damaged { reel: self.name.clone(), damage });
                }
                let scan = Arc::new(scan);
                *slot = (n, Arc::downgrade(&scan));
                scan
            }
        };
        Ok(Some(Jpeg {
            size: self.size(),
            chroma: Chroma::Yuv420,
            tables: Tables::Standard(entry.q),
            restart_interval: None,
            scan: Bytes::from_owner(Scan(scan)),
        }))
    }

    fn failed(&self, n: usize, error: io::Error) -> ReelError {
        read_error(&self.name, Damage::Picture(n), error)
    }

    /// Notes that it is aired at `now`, in the file's modification time, where every process sees it.
    fn touch(&self, now: AirTime) {
        let since = now.0.abs_diff(self.touched.load(Relaxed));
        if Duration::from_nanos(since) >= TOUCH_EVERY {
            self.touched.store(now.0, Relaxed);
            // In a folder of somebody else's it is read only: then they keep the order.
            let _ = self.file.set_times(times(now));
        }
    }
}

#[cfg(test)]
impl Reel {
    /// While this is held, whoever reads picture `n` waits, as for a disk that hangs.
    pub(crate) fn hang(&self, n: usize) -> impl Sized + '_ {
        lock(self.slot(n))
    }
}

/// The bytes of a scan, shared by all who hold the picture.
struct Scan(Arc<Vec<u8>>);

impl AsRef<[u8]> for Scan {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A file that ends too early is damaged; anything else is the system's fault.
fn read_error(reel: &str, damage: Damage, error: io::Error) -> ReelError {
    let reel = reel.to_owned();
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ReelError::Damaged { reel, damage },
        _ => ReelError::Io { reel, error },
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn times(now: AirTime) -> FileTimes {
    FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_nanos(now.0))
}

/// When a file was last changed, by its own word.
fn modified(metadata: &Metadata) -> AirTime {
    let since = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    AirTime(since.unwrap_or_default().as_nanos() as u64)
}

/// Nothing here is left half done by a panic: what a lock guards is valid whoever held it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
