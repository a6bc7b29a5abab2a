//! A film's content: its hash, and the memo that saves computing it again.
//!
//! The memo is one file, replaced as a whole, little endian:
//!
//! ```text
//!   0  0x89 'F' 'I' 'L' 'M' 0x0d 0x0a 0x1a
//!   8  per film, the oldest first:  dev, inode, size  u64;  mtime, ctime  i64, nanoseconds;  blake3  32 bytes
//!  -4  CRC-32 of all above
//! ```
//!
//! It is believed as a whole or not at all: without it, films are hashed again.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::key::Content;
use super::lock;
use crate::media::AirTime;

const MAGIC: [u8; 8] = *b"\x89FILM\r\n\x1a";

/// Bytes of a film in the memo.
const RECORD_LEN: usize = 5 * 8 + 32;

/// Films the memo remembers: 1.2 MB. The oldest is forgotten.
const MAX_FILMS: usize = 16_384;

/// A film may be changed twice within one tick of its file system's clock (4 ms on ext4, 2 s on FAT) and look the
/// same. So the hash of one that changed just now is used, but not remembered.
const SETTLED: Duration = Duration::from_secs(2);

/// Read at once: a megabyte lets blake3 use the widest vectors, and is 0.3 ms of work.
const CHUNK: usize = 1 << 20;

/// What says that a file is still the same: content cannot be changed without changing `ctime`, which no program
/// can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Identity {
    dev: u64,
    inode: u64,
    size: u64,
    mtime: i64,
    ctime: i64,
}

impl Identity {
    fn of(metadata: &Metadata) -> Identity {
        let nanos = |s: i64, ns: i64| s.saturating_mul(1_000_000_000).saturating_add(ns);
        Identity {
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

    fn parse(bytes: &[u8; RECORD_LEN - 32]) -> Identity {
        let mut fields = bytes.as_chunks().0.iter().map(|field| u64::from_le_bytes(*field));
        let mut next = || fields.next().expect("five fields of eight bytes");
        Identity { dev: next(), inode: next(), size: next(), mtime: next() as i64, ctime: next() as i64 }
    }
}

/// Knows the content of films.
#[derive(Debug)]
pub(super) struct Memo {
    path: PathBuf,
    known: Mutex<Vec<(Identity, Content)>>,
    /// Films that are being hashed: who asks for one waits, and no other film waits with it.
    hashing: Mutex<HashMap<Identity, Arc<Mutex<()>>>>,
    #[cfg(test)]
    pub(super) hashed: std::sync::atomic::AtomicUsize,
}

impl Memo {
    /// The memo in the file at `path`, as far as it can be believed.
    pub(super) fn load(path: PathBuf) -> Memo {
        let known = Mutex::new(read(&path));
        Memo {
            path,
            known,
            hashing: Mutex::default(),
            #[cfg(test)]
            hashed: Default::default(),
        }
    }

    /// The hash of a film's bytes. Reads all of them, unless the memo knows the film as it is.
    pub(super) fn content(&self, film: &Path, now: AirTime) -> io::Result<Content> {
        // To open a pipe would wait for whoever writes to it.
        if !fs::metadata(film)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
        }
        let file = File::open(film)?;
        let identity = Identity::of(&file.metadata()?);
        if let Some(content) = self.recall(identity) {
            return Ok(content);
        }
        let turn = lock(&self.hashing).entry(identity).or_default().clone();
        let _turn = lock(&turn);
        if let Some(content) = self.recall(identity) {
            return Ok(content);
        }
        let content = hash(&file);
        #[cfg(test)]
        self.hashed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        lock(&self.hashing).remove(&identity);
        let content = content?;
        if Identity::of(&file.metadata()?) != identity {
            return Err(io::Error::other("it was changed while it was read"));
        }
        if identity.is_settled(now) {
            self.remember(identity, content);
        }
        Ok(content)
    }

    fn recall(&self, film: Identity) -> Option<Content> {
        lock(&self.known).iter().find(|known| known.0 == film).map(|known| known.1)
    }

    fn remember(&self, film: Identity, content: Content) {
        let mut known = lock(&self.known);
        // What another process has found out meanwhile is kept.
        for other in read(&self.path) {
            if !known.iter().any(|known| known.0 == other.0) {
                known.push(other);
            }
        }
        // One inode has one content: what was known of it before is history.
        known.retain(|known| (known.0.dev, known.0.inode) != (film.dev, film.inode));
        known.push((film, content));
        let surplus = known.len().saturating_sub(MAX_FILMS);
        known.drain(..surplus);

        let mut bytes = MAGIC.to_vec();
        for (identity, content) in known.iter() {
            bytes.extend(identity.emit());
            bytes.extend(content);
        }
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        // A memo that cannot be written costs time at the next start, nothing else.
        let part = self.path.with_extension(format!("{:016x}.part", fastrand::u64(..)));
        if fs::write(&part, bytes).and_then(|()| fs::rename(&part, &self.path)).is_err() {
            let _ = fs::remove_file(&part);
        }
    }
}

fn hash(file: &File) -> io::Result<Content> {
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

/// What the memo's file says; nothing, if a bit of it is wrong.
fn read(path: &Path) -> Vec<(Identity, Content)> {
    let longest = (MAGIC.len() + MAX_FILMS * RECORD_LEN + 4) as u64;
    let mut bytes = Vec::new();
    let whole = File::open(path).and_then(|file| file.take(longest + 1).read_to_end(&mut bytes));
    let body = whole.ok().filter(|&n| n as u64 <= longest).and_then(|_| {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        (*crc == crc32fast::hash(body).to_le_bytes()).then_some(body)?.strip_prefix(&MAGIC)
    });
    let (records, []) = body.unwrap_or_default().as_chunks::<RECORD_LEN>() else { return Vec::new() };
    let record = |record: &[u8; RECORD_LEN]| {
        let (identity, content) = record.split_first_chunk()?;
        Some((Identity::parse(identity), content.try_into().ok()?))
    };
    records.iter().filter_map(record).collect()
}
