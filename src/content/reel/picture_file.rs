//! The file of a reel, from which any number of readers take pictures by their index entries.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError, Weak};

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags};

use super::ReelError;
use super::format::{Damage, IndexEntry};
use crate::content::lock;
use crate::media::Size;
use crate::media::jpeg::{Chroma, Jpeg, Tables};

/// Pictures of a reel that its readers can share. Stations that air a film at nearly the same time hold each picture
/// for [`LEAD`](crate::air::LEAD), which is 59 pictures at 60 a second.
pub(super) const SHARED_SCANS: usize = 64;

/// A picture's number and its scan.
type SharedScan = (usize, Weak<Vec<u8>>);

/// The pictures in the file of a reel.
#[derive(Debug)]
pub(super) struct PictureFile {
    /// The reel's file name, for messages.
    name: String,
    file: File,
    /// The size of all pictures.
    size: Size,
    /// The scans that a reader still holds, that of picture `n` at `n % SHARED_SCANS`. The references are weak, so
    /// that sharing costs no memory. A reader holds the lock while it reads the picture from the disk, so that a
    /// second reader waits for that read instead of starting another.
    shared_scans: [Mutex<SharedScan>; SHARED_SCANS],
}

impl PictureFile {
    pub(super) fn new(name: String, file: File, size: Size) -> PictureFile {
        let shared_scans = std::array::from_fn(|_| Mutex::new((0, Weak::new())));
        PictureFile { name, file, size, shared_scans }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn size(&self) -> Size {
        self.size
    }

    /// The reel's file name.
    #[cfg(test)]
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The number of scans that a reader holds.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.shared_scans.iter().filter(|shared| lock(shared).1.strong_count() > 0).count()
    }

    /// Picture `n`, which has this entry, shared with a reader that still holds it (80 ns), or read from the file.
    pub(super) fn picture(&self, n: usize, entry: IndexEntry) -> Result<Jpeg, ReelError> {
        let read = |scan: &mut [u8], offset| self.file.read_exact_at(scan, offset).map(|()| true);
        // `read` waits for the disk, so it never returns false.
        self.fetch(n, entry, lock(self.shared_scan(n)), read)
            .and_then(|jpeg| jpeg.ok_or_else(|| self.picture_error(n, io::ErrorKind::WouldBlock.into())))
    }

    /// Picture `n`, which has this entry, if that needs no disk.
    pub(super) fn try_picture(&self, n: usize, entry: IndexEntry) -> Result<Option<Jpeg>, ReelError> {
        let shared = match self.shared_scan(n).try_lock() {
            Ok(shared) => shared,
            Err(TryLockError::Poisoned(shared)) => shared.into_inner(),
            // The other reader may wait for a disk that hangs, and the caller is the one thread of all stations.
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        self.fetch(n, entry, shared, |scan, offset| {
            let slices = &mut [IoSliceMut::new(scan)];
            // A short read: only a part of the scan is in the page cache.
            match rustix::io::preadv2(&self.file, slices, offset, ReadWriteFlags::NOWAIT) {
                Ok(read) => Ok(read == scan.len()),
                Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn shared_scan(&self, n: usize) -> &Mutex<SharedScan> {
        &self.shared_scans[n % SHARED_SCANS]
    }

    /// While the caller holds this, every reader of picture `n` waits, as for a disk that hangs.
    #[cfg(test)]
    pub(super) fn hang(&self, n: usize) -> impl Sized + '_ {
        lock(self.shared_scan(n))
    }

    /// Picture `n` from `shared`, its place among the shared scans, or else by `read`, which fills a buffer from an
    /// offset in the file or returns false if it would have to wait.
    fn fetch(
        &self,
        n: usize,
        entry: IndexEntry,
        mut shared: MutexGuard<'_, SharedScan>,
        read: impl FnOnce(&mut [u8], u64) -> io::Result<bool>,
    ) -> Result<Option<Jpeg>, ReelError> {
        let held = shared.1.upgrade().filter(|_| shared.0 == n);
        let scan = match held {
            Some(scan) => scan,
            None => {
                let mut scan = vec![0; entry.length as usize];
                if !read(&mut scan, entry.offset).map_err(|error| self.picture_error(n, error))? {
                    return Ok(None);
                }
                if crc32fast::hash(&scan) != entry.crc {
                    let damage = Damage::Picture(n);
                    return Err(ReelError::Damaged { reel: self.name.clone(), damage });
                }
                let scan = Arc::new(scan);
                *shared = (n, Arc::downgrade(&scan));
                scan
            }
        };
        Ok(Some(Jpeg {
            size: self.size,
            chroma: Chroma::Yuv420,
            tables: Tables::Standard(entry.q),
            restart_interval: None,
            scan: Bytes::from_owner(ScanOwner(scan)),
        }))
    }

    fn picture_error(&self, n: usize, error: io::Error) -> ReelError {
        read_error(&self.name, Damage::Picture(n), error)
    }
}

/// Keeps the bytes of a scan for as long as one of its readers holds the picture.
struct ScanOwner(Arc<Vec<u8>>);

impl AsRef<[u8]> for ScanOwner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The error of a read: a file that ends too early is damaged, any other failure is the system's.
pub(super) fn read_error(reel: &str, damage: Damage, error: io::Error) -> ReelError {
    let reel = reel.to_owned();
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ReelError::Damaged { reel, damage },
        _ => ReelError::Io { reel, error },
    }
}
