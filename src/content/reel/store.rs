//! The folder that reels are in.
//!
//! ```text
//! <hash>-<width>x<height>-q<quality>.reel          a reel: whole, checked, read only
//! <hash>-<width>x<height>-q<quality>.<random>.part one that is being recorded, locked by who does
//! films                                            the memo of films' hashes
//! phases                                           how programmes lie against the time of day
//! ```
//!
//! Any number of processes may use one folder. None of them waits for another: names appear by renaming what is
//! complete, and a file that one removes stays readable to who has it open.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tracing::{info, warn};

use super::film::Memo;
use super::key::{Encoding, ReelKey};
use super::recorder::{RecordError, Recorder};
use super::{Damage, Reel, ReelError, identity, lock, modified};
use crate::media::AirTime;

/// Where files cannot be locked (some network shares), a part that nobody wrote to for so long is left over.
const LEFT_OVER: Duration = Duration::from_secs(3600);

/// When the folder is full, this share of it is emptied at once: to look through it takes 2 ms for a thousand reels,
/// and a recorder writes twice a second.
const EMPTY: u64 = 32;

/// How full a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Reels, all of them whole.
    pub reels: usize,
    /// Bytes in them.
    pub bytes: u64,
}

/// A folder of reels, kept below a limit. Cheap to clone; clones are one store.
#[derive(Debug, Clone)]
pub struct Store(Arc<Shelf>);

#[derive(Debug)]
pub(super) struct Shelf {
    dir: PathBuf,
    limit: u64,
    pub(super) memo: Memo,
    state: Mutex<State>,
    /// Bytes of reels and parts: as counted last, and what was recorded since.
    used: Mutex<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// Reels that somebody has open: never removed to make room.
    open: HashMap<ReelKey, Weak<Reel>>,
    recording: HashSet<ReelKey>,
    /// Not recorded again, only to find out again that they do not fit.
    too_large: HashSet<ReelKey>,
    /// Reels whose trouble was reported.
    reported: HashSet<ReelKey>,
}

/// A file of ours.
struct Found {
    path: PathBuf,
    name: String,
    bytes: u64,
    aired: AirTime,
}

impl Found {
    fn is_reel(&self) -> bool {
        self.name.ends_with(".reel")
    }
}

impl Store {
    /// Opens the store in folder `dir`, which is made if need be, and brings it below `limit` bytes.
    ///
    /// # Errors
    /// The folder cannot be made or written to. Stations do without reels then.
    pub fn open(dir: &Path, limit: u64, now: AirTime) -> io::Result<Store> {
        fs::create_dir_all(dir)?;
        let probe = dir.join(format!("probe.{:016x}.part", fastrand::u64(..)));
        File::create_new(&probe)?;
        fs::remove_file(&probe)?;
        let shelf = Shelf {
            dir: dir.to_owned(),
            limit,
            memo: Memo::load(dir.join("films")),
            state: Mutex::default(),
            used: Mutex::default(),
        };
        for part in shelf.files()?.iter().filter(|file| !file.is_reel()) {
            sweep(part, now);
        }
        *lock(&shelf.used) = shelf.evict(0, 0)?;
        Ok(Store(Arc::new(shelf)))
    }

    /// The key of a film in an encoding. Reads the whole film if it is not known as it is now: at a gigabyte
    /// a second or more, as far as the disk allows.
    ///
    /// # Errors
    /// The film cannot be read, or is being changed just now.
    pub fn key(&self, film: &Path, encoding: Encoding, now: AirTime) -> io::Result<ReelKey> {
        Ok(ReelKey::new(self.0.memo.content(film, now)?, encoding))
    }

    /// The reel of `key`, if there is one: the same for all who have it open. It counts as aired at `now`.
    ///
    /// One that is damaged, or was made by another version of this program, is removed, and reported in the log.
    pub fn find(&self, key: &ReelKey, now: AirTime) -> Option<Arc<Reel>> {
        let open = lock(&self.0.state).open.get(key).and_then(Weak::upgrade);
        let reel = match open {
            Some(reel) => reel,
            None => self.0.share(self.0.take_down(key)?),
        };
        reel.touch(now);
        Some(reel)
    }

    /// Begins a reel of `key`, to be made from `film`. `None` while another station of this process records it,
    /// when it was too large before, and when it is there by now: the film just airs.
    ///
    /// # Errors
    /// Nothing can be written.
    pub fn record(&self, key: &ReelKey, film: &Path) -> io::Result<Option<Recorder>> {
        let Some(turn) = Turn::take(&self.0, *key) else { return Ok(None) };
        // Whoever had the turn before may have finished it since we looked.
        if self.0.path(key).exists() {
            return Ok(None);
        }
        Recorder::begin(turn, film).map(Some)
    }

    /// Removes a reel that turned out to be damaged, so that it is made again. Another one that has taken
    /// its place by now stays.
    pub fn discard(&self, reel: &Arc<Reel>) {
        let mut state = lock(&self.0.state);
        if state.open.get(reel.key()).is_some_and(|open| Weak::ptr_eq(open, &Arc::downgrade(reel))) {
            state.open.remove(reel.key());
        }
        drop(state);
        // While `reel` has the file open, no other can get its inode.
        let path = self.0.path(reel.key());
        if fs::metadata(&path).is_ok_and(|metadata| identity(&metadata) == reel.identity) {
            let _ = fs::remove_file(&path);
        }
    }

    /// How many reels there are and how large they are. Looks through the folder.
    pub fn usage(&self) -> Usage {
        let files = self.0.files().unwrap_or_default();
        files.iter().filter(|file| file.is_reel()).fold(Usage::default(), |usage, file| Usage {
            reels: usage.reels + 1,
            bytes: usage.bytes + file.bytes,
        })
    }

    /// How many films were hashed.
    #[cfg(test)]
    pub(super) fn hashed(&self) -> usize {
        self.0.memo.hashed.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Shelf {
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn path(&self, key: &ReelKey) -> PathBuf {
        self.dir.join(format!("{key}.reel"))
    }

    /// Opens the reel of `key`, if it is there and whole.
    fn take_down(&self, key: &ReelKey) -> Option<Reel> {
        let path = self.path(key);
        let error = match Reel::open(&path, key) {
            Ok(reel) => {
                lock(&self.state).reported.remove(key);
                return Some(reel);
            }
            Err(ReelError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => error,
        };
        let removed = match &error {
            ReelError::Damaged { .. } => fs::remove_file(&path).is_ok(),
            ReelError::Io { .. } => false,
        };
        // Once, also when it cannot be removed and is found at every pass.
        if removed || lock(&self.state).reported.insert(*key) {
            let fate = if removed { "removed, and made again" } else { "the film is encoded instead" };
            match &error {
                ReelError::Damaged { damage: Damage::Version, .. } => info!("{error}; {fate}"),
                _ => warn!("{error}; {fate}"),
            }
        }
        None
    }

    /// One reel for all who want it: `reel`, or the one that somebody else opened first.
    pub(super) fn share(&self, reel: Reel) -> Arc<Reel> {
        let open = &mut lock(&self.state).open;
        if let Some(first) = open.get(reel.key()).and_then(Weak::upgrade) {
            return first;
        }
        open.retain(|_, reel| reel.strong_count() > 0);
        let reel = Arc::new(reel);
        open.insert(*reel.key(), Arc::downgrade(&reel));
        reel
    }

    pub(super) fn never_again(&self, key: ReelKey) {
        lock(&self.state).too_large.insert(key);
    }

    /// Makes room for `more` bytes of a reel that will take `whole`, and takes them as used.
    pub(super) fn make_room(&self, more: u64, whole: u64) -> Result<(), RecordError> {
        // Held all along: recorders come one by one. Who airs does not need it.
        let mut used = lock(&self.used);
        *used += more;
        if *used > self.limit {
            *used = self.evict(more, whole)?;
        }
        if *used > self.limit { Err(RecordError::NoRoom { limit: self.limit }) } else { Ok(()) }
    }

    /// Where there is no room for `more` bytes, removes reels that nobody here has open, the least recently aired
    /// first. Returns the bytes of what is left, and `more`. For a reel that is too large by itself, nothing is removed.
    fn evict(&self, more: u64, whole: u64) -> io::Result<u64> {
        let mut files = self.files()?;
        let mut total = more + files.iter().map(|file| file.bytes).sum::<u64>();
        if total <= self.limit || whole > self.limit {
            return Ok(total);
        }
        let open: HashSet<String> = {
            let state = lock(&self.state);
            let open = state.open.iter().filter(|(_, reel)| reel.strong_count() > 0);
            open.map(|(key, _)| format!("{key}.reel")).collect()
        };
        files.retain(|file| file.is_reel() && !open.contains(&file.name));
        files.sort_by(|a, b| (a.aired, &a.name).cmp(&(b.aired, &b.name)));
        for file in &files {
            if total <= self.limit - self.limit / EMPTY {
                break;
            }
            match fs::remove_file(&file.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {}
                _ => total -= file.bytes,
            }
        }
        Ok(total)
    }

    /// Every file here that is ours: strangers' are left alone, whatever they are called.
    fn files(&self) -> io::Result<Vec<Found>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // Another process may have removed it since.
            let Ok(metadata) = entry.metadata() else { continue };
            if is_ours(&name) && metadata.is_file() {
                files.push(Found {
                    path: entry.path(),
                    name,
                    bytes: metadata.len(),
                    aired: modified(&metadata),
                });
            }
        }
        Ok(files)
    }
}

/// The right to record a reel: one at a time in a process. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) shelf: Arc<Shelf>,
    pub(super) key: ReelKey,
}

impl Turn {
    fn take(shelf: &Arc<Shelf>, key: ReelKey) -> Option<Turn> {
        let mut state = lock(&shelf.state);
        let free = !state.too_large.contains(&key) && state.recording.insert(key);
        free.then(|| Turn { shelf: shelf.clone(), key })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.shelf.state).recording.remove(&self.key);
    }
}

/// Removes a part that nobody writes any more. A part is locked for as long as its process lives, even if that
/// is killed.
fn sweep(part: &Found, now: AirTime) {
    let Ok(file) = File::open(&part.path) else { return };
    let left_over = match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(_)) => now.since(part.aired) > LEFT_OVER,
    };
    if left_over {
        let _ = fs::remove_file(&part.path);
    }
}

/// Whether a file of this name is one that a store makes and may remove: `*.reel` or `*.*.part`, where the
/// hexadecimal numbers have their length.
fn is_ours(name: &str) -> bool {
    let hex = |text: &str, digits| text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
    let key = |stem: &str| stem.split_once('-').is_some_and(|(film, _)| hex(film, 32));
    match name.rsplit_once('.') {
        Some((stem, "reel")) => key(stem),
        Some((stem, "part")) => stem.rsplit_once('.').is_some_and(|(stem, random)| {
            hex(random, 16) && (key(stem) || matches!(stem, "films" | "phases" | "probe"))
        }),
        _ => false,
    }
}
