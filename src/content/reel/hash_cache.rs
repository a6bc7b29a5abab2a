//! The hash of a film, and the cache that saves computing it again.
//!
//! The cache is one file, little endian, replaced as a whole:
//!
//! ```text
//!   0  0x89 'F' 'I' 'L' 'M' 0x0d 0x0a 0x1a
//!   8  per film, the oldest first:  dev, inode, size  u64;  mtime, ctime  i64, nanoseconds;  blake3  32 bytes
//!  -4  CRC-32 of all bytes before it
//! ```
//!
//! If the checksum does not match, the whole file is ignored, and films are hashed again.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::key::FilmHash;
use crate::content::decode::open_file;
use crate::content::lock;
use crate::media::AirTime;

const MAGIC: [u8; 8] = *b"\x89FILM\r\n\x1a";

/// Bytes of the record of a film.
const RECORD_LEN: usize = 5 * 8 + 32;

/// Most films in the cache: 1.2 MB. When it is full, the oldest is removed.
const MAX_FILMS: usize = 16_384;

/// A film can be changed twice within one tick of its file system's clock (4 ms on ext4, 2 s on FAT) and have the same
/// times after both. So the hash of a film that changed within this time is used but not cached.
const SETTLED: Duration = Duration::from_secs(2);

/// A film of up to so many bytes is hashed while a client waits: it takes 30 ms if the film is in memory, 0.5 s if it is on a hard
/// disk.
const HASHED_AT_ONCE: u64 = 64 << 20;

/// Bytes of one read: with a megabyte, which is 0.3 ms of work, blake3 uses the widest vectors.
const CHUNK: usize = 1 << 20;

/// Tells one version of a file from another. A program cannot change the content without changing `ctime`, which it
/// cannot set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct FileVersion {
    dev: u64,
    inode: u64,
    size: u64,
    mtime: i64,
    ctime: i64,
}

impl FileVersion {
    fn of(metadata: &Metadata) -> FileVersion {
        let nanos = |s: i64, ns: i64| s.saturating_mul(1_000_000_000).saturating_add(ns);
        FileVersion {
            dev: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mtime: nanos(metadata.mtime(), metadata.mtime_nsec()),
            ctime: nanos(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn is_settled(&self, now: AirTime) -> bool {
        i128::from(self.ctime).abs_diff(i128::from(now.0)) > SETTLED.as_nanos()
    }

    fn emit(&self) -> [u8; RECORD_LEN - 32] {
        let fields = [self.dev, self.inode, self.size, self.mtime as u64, self.ctime as u64];
        let mut bytes = [0; RECORD_LEN - 32];
        bytes.as_chunks_mut().0.iter_mut().zip(fields).for_each(|(to, field)| *to = field.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8; RECORD_LEN - 32]) -> FileVersion {
        let mut fields = bytes.as_chunks().0.iter().map(|field| u64::from_le_bytes(*field));
        let mut next = || fields.next().expect("five fields of eight bytes");
        FileVersion { dev: next(), inode: next(), size: next(), mtime: next() as i64, ctime: next() as i64 }
    }
}

/// The hashes of films, cached in a file.
#[derive(Debug)]
pub(super) struct HashCache {
    path: PathBuf,
    hashes: Mutex<Vec<(FileVersion, FilmHash)>>,
    /// Films that are being hashed, each with a lock that its thread holds. A second thread with the same film waits
    /// for the hash; threads with other films do not wait.
    hashing: Mutex<HashMap<FileVersion, Arc<Mutex<()>>>>,
    #[cfg(test)]
    pub(super) hashed: std::sync::atomic::AtomicUsize,
}

impl HashCache {
    /// The cache in the file at `path`. It is empty if there is no file, or if the file is damaged.
    pub(super) fn load(path: PathBuf) -> HashCache {
        let hashes = Mutex::new(read(&path));
        HashCache {
            path,
            hashes,
            hashing: Mutex::default(),
            #[cfg(test)]
            hashed: Default::default(),
        }
    }

    /// The hash of a film's bytes. Reads all of them, unless this version of the film is in the cache.
    pub(super) fn film_hash(&self, film: &Path, now: AirTime) -> io::Result<FilmHash> {
        let file = open_file(film)?;
        let version = FileVersion::of(&file.metadata()?);
        if let Some(hash) = self.get(version) {
            return Ok(hash);
        }
        let hashing = lock(&self.hashing).entry(version).or_default().clone();
        let _hashing = lock(&hashing);
        if let Some(hash) = self.get(version) {
            return Ok(hash);
        }
        let hash = hash(&file);
        #[cfg(test)]
        self.hashed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        lock(&self.hashing).remove(&version);
        let hash = hash?;
        if FileVersion::of(&file.metadata()?) != version {
            return Err(io::Error::other("the film was changed meanwhile"));
        }
        if version.is_settled(now) {
            self.insert(version, hash);
        }
        Ok(hash)
    }

    /// Whether the hash of a film is in the cache, or the film is small.
    pub(super) fn hashes_at_once(&self, film: &Path) -> bool {
        let is_at_once = |metadata: Metadata| {
            metadata.len() <= HASHED_AT_ONCE || self.get(FileVersion::of(&metadata)).is_some()
        };
        fs::metadata(film).is_ok_and(is_at_once)
    }

    /// The identity of a film's file, known without reading it: a hash of its version, which stands for the film's until that is
    /// known, and the film's if it is in the cache. `None` for the former if the film may have changed within one tick of
    /// its file system's clock.
    pub(super) fn glance(
        &self,
        film: &Path,
        now: AirTime,
    ) -> io::Result<(Option<FilmHash>, Option<FilmHash>)> {
        let metadata = fs::metadata(film)?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
        }
        let version = FileVersion::of(&metadata);
        let of_version = version.is_settled(now).then(|| *blake3::hash(&version.emit()).as_bytes());
        Ok((of_version, self.get(version)))
    }

    fn get(&self, film: FileVersion) -> Option<FilmHash> {
        lock(&self.hashes).iter().find(|cached| cached.0 == film).map(|cached| cached.1)
    }

    fn insert(&self, film: FileVersion, hash: FilmHash) {
        let mut hashes = lock(&self.hashes);
        // Another process may have added films to the file.
        for other in read(&self.path) {
            if !hashes.iter().any(|cached| cached.0 == other.0) {
                hashes.push(other);
            }
        }
        // An inode has one content: earlier versions of this file are gone.
        hashes.retain(|cached| (cached.0.dev, cached.0.inode) != (film.dev, film.inode));
        hashes.push((film, hash));
        let surplus = hashes.len().saturating_sub(MAX_FILMS);
        hashes.drain(..surplus);

        let mut bytes = MAGIC.to_vec();
        for (version, hash) in hashes.iter() {
            bytes.extend(version.emit());
            bytes.extend(hash);
        }
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        // If this fails, the next start takes longer.
        let part = self.path.with_extension(format!("{:016x}.part", fastrand::u64(..)));
        if fs::write(&part, bytes).and_then(|()| fs::rename(&part, &self.path)).is_err() {
            let _ = fs::remove_file(&part);
        }
    }
}

fn hash(file: &File) -> io::Result<FilmHash> {
    let mut hasher = blake3::Hasher::new();
    let mut chunk = vec![0; CHUNK];
    let mut film = file;
    loop {
        match film.read(&mut chunk) {
            Ok(0) => return Ok(*hasher.finalize().as_bytes()),
            Ok(n) => drop(hasher.update(&chunk[..n])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The records of the cache's file, or none if the file is damaged.
fn read(path: &Path) -> Vec<(FileVersion, FilmHash)> {
    let longest = (MAGIC.len() + MAX_FILMS * RECORD_LEN + 4) as u64;
    let mut bytes = Vec::new();
    let whole = File::open(path).and_then(|file| file.take(longest + 1).read_to_end(&mut bytes));
    let body = whole.ok().filter(|&n| n as u64 <= longest).and_then(|_| {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        (*crc == crc32fast::hash(body).to_le_bytes()).then_some(body)?.strip_prefix(&MAGIC)
    });
    let (records, []) = body.unwrap_or_default().as_chunks::<RECORD_LEN>() else { return Vec::new() };
    let record = |record: &[u8; RECORD_LEN]| {
        let (version, hash) = record.split_first_chunk()?;
        Some((FileVersion::parse(version), hash.try_into().ok()?))
    };
    records.iter().filter_map(record).collect()
}
