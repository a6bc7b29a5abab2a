//! The folder of reels.
//!
//! ```text
//! <hash>-<width>x<height>-q<quality>.reel          a reel: complete, checked, never written again
//! <hash>-<width>x<height>-q<quality>.<random>.part a reel that a process is recording, and has locked
//! films                                            the cache of films' hashes
//! phases                                           the phase of each station's programme
//! ```
//!
//! Any number of processes may use one folder. None of them waits for another: a file gets its name when it is
//! complete, by renaming, and a file that one process removes stays readable to every process that has it open.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tracing::{info, warn};

use super::hash_cache::HashCache;
use super::key::{Encoding, ReelKey};
use super::recorder::{RecordError, Recorder};
use super::{Damage, Reel, ReelError, file_id, modified};
use crate::content::lock;
use crate::media::AirTime;

/// Where files cannot be locked (some network shares), a part that no process wrote to for this long is stale.
const STALE_AFTER: Duration = Duration::from_secs(3600);

/// A full store is emptied by one part in this many at a time. Listing its folder takes 2 ms for a thousand reels, and
/// a recorder writes twice a second.
const EVICTED_PART: u64 = 32;

/// How full a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Complete reels.
    pub reels: usize,
    /// Bytes of the complete reels.
    pub bytes: u64,
}

/// A folder of reels with a limit in bytes. It is cheap to clone, and the clones are one store.
#[derive(Debug, Clone)]
pub struct Store(Arc<StoreInner>);

#[derive(Debug)]
pub(super) struct StoreInner {
    dir: PathBuf,
    limit: u64,
    pub(super) hashes: HashCache,
    state: Mutex<StoreState>,
    /// Bytes of reels and parts: the last count, and all bytes recorded since.
    used: Mutex<u64>,
    /// The names of reels that are not evicted, although no station has them open.
    kept: Mutex<HashSet<String>>,
}

#[derive(Debug, Default)]
struct StoreState {
    /// Open reels of this process, which are never evicted.
    open: HashMap<ReelKey, Weak<Reel>>,
    recording: HashSet<ReelKey>,
    /// Reels that did not fit the store. They are not recorded again.
    too_large: HashSet<ReelKey>,
    /// Reels that do not open, and for which the log has the reason.
    reported: HashSet<ReelKey>,
}

/// A reel or a part in the store's folder.
struct StoredFile {
    path: PathBuf,
    name: String,
    bytes: u64,
    aired: AirTime,
}

impl StoredFile {
    fn is_reel(&self) -> bool {
        self.name.ends_with(".reel")
    }
}

impl Store {
    /// Most bytes of all reels together.
    pub(crate) fn limit(&self) -> u64 {
        self.0.limit
    }

    /// Opens the store in folder `dir`, which it creates if necessary. Removes stale parts, and evicts reels until the
    /// store is below `limit` bytes.
    ///
    /// # Errors
    /// The folder cannot be created or written to. Stations then do without reels.
    pub fn open(dir: &Path, limit: u64, now: AirTime) -> io::Result<Store> {
        fs::create_dir_all(dir)?;
        let probe = dir.join(format!("probe.{:016x}.part", fastrand::u64(..)));
        File::create_new(&probe)?;
        fs::remove_file(&probe)?;
        let store = StoreInner {
            dir: dir.to_owned(),
            limit,
            hashes: HashCache::load(dir.join("films")),
            state: Mutex::default(),
            used: Mutex::default(),
            kept: Mutex::default(),
        };
        for part in store.files()?.iter().filter(|file| !file.is_reel()) {
            remove_stale(part, now);
        }
        *lock(&store.used) = store.evict(0, 0)?;
        Ok(Store(Arc::new(store)))
    }

    /// Whether `bytes` more can be recorded without removing a reel. False while another recording makes room. Does not block.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.0.used.try_lock().is_ok_and(|used| used.saturating_add(bytes) <= self.0.limit)
    }

    /// From now until [`keep_none`](Self::keep_none), no reel is evicted that is there now: at the start of a broadcaster most reels
    /// are not open yet, and a station that records a film is not to remove those of stations that have not looked for theirs.
    pub fn keep_all(&self) {
        // If the folder cannot be read, nothing can be evicted either.
        let files = self.0.files().unwrap_or_default();
        *lock(&self.0.kept) = files.into_iter().map(|file| file.name).collect();
    }

    /// Ends [`keep_all`](Self::keep_all).
    pub fn keep_none(&self) {
        lock(&self.0.kept).clear();
    }

    pub(super) fn of(inner: Arc<StoreInner>) -> Store {
        Store(inner)
    }

    /// The key of a film in an encoding. Reads the whole film if this version of it is not in the cache of hashes: at a
    /// gigabyte a second or more, as far as the disk allows.
    ///
    /// # Errors
    /// The film cannot be read, or changes while it is read.
    pub fn key(&self, film: &Path, encoding: Encoding, now: AirTime) -> io::Result<ReelKey> {
        Ok(ReelKey::new(self.0.hashes.film_hash(film, now)?, encoding))
    }

    /// The key of the reel of `film`, as [`key`](Self::key), but `None` if the whole of a large film would have to be read.
    ///
    /// # Errors
    /// As [`key`](Self::key).
    pub fn key_at_once(&self, film: &Path, encoding: Encoding, now: AirTime) -> io::Result<Option<ReelKey>> {
        let at_once = self.0.hashes.hashes_at_once(film);
        at_once.then(|| self.key(film, encoding, now)).transpose()
    }

    /// The same without reading the film. First a key that stands for the film's in this process until the film is
    /// hashed; `None` if the film was changed just now. Then the film's own, if it is known.
    ///
    /// # Errors
    /// There is no such file.
    pub fn glance(
        &self,
        film: &Path,
        encoding: Encoding,
        now: AirTime,
    ) -> io::Result<(Option<ReelKey>, Option<ReelKey>)> {
        let (of_version, of_film) = self.0.hashes.glance(film, now)?;
        let key = |hash| ReelKey::new(hash, encoding);
        Ok((of_version.map(key), of_film.map(key)))
    }

    /// The reel of `key`, if there is one. All callers share it. It counts as aired at `now`.
    ///
    /// A reel that is damaged, or that another version of this program made, is removed and logged.
    pub fn find(&self, key: &ReelKey, now: AirTime) -> Option<Arc<Reel>> {
        let open = lock(&self.0.state).open.get(key).and_then(Weak::upgrade);
        let reel = match open {
            Some(reel) => reel,
            None => self.0.share(self.0.open_reel(key)?),
        };
        reel.touch(now);
        Some(reel)
    }

    /// Begins to record the reel of `key` from `film`. `None` if another station of this process is recording it, if
    /// it was too large before, or if it is there by now. The station then plays the film without recording it.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn record(&self, key: &ReelKey, film: &Path) -> io::Result<Option<Recorder>> {
        let Some(permit) = RecordPermit::take(&self.0, *key) else { return Ok(None) };
        // The previous holder of the permit may have finished the reel since the caller looked for it.
        if self.0.path(key).exists() {
            return Ok(None);
        }
        Recorder::begin(permit, film).map(Some)
    }

    /// The same for a film that may not be hashed yet: `file_key` is of a [glance](Self::glance) at it, and it is on for
    /// `slide` if it is a picture. It is hashed when it is recorded.
    ///
    /// # Errors
    /// As for [`record`](Self::record).
    pub fn record_file(
        &self,
        file_key: &ReelKey,
        film: &Path,
        slide: Option<Duration>,
    ) -> io::Result<Option<Recorder>> {
        let Some(permit) = RecordPermit::take(&self.0, *file_key) else { return Ok(None) };
        Recorder::begin_file(permit, film, slide).map(Some)
    }

    /// Removes a damaged reel, so that it is recorded again. If another reel has taken its place by now, that one
    /// stays.
    pub fn discard(&self, reel: &Arc<Reel>) {
        let mut state = lock(&self.0.state);
        if state.open.get(reel.key()).is_some_and(|open| Weak::ptr_eq(open, &Arc::downgrade(reel))) {
            state.open.remove(reel.key());
        }
        drop(state);
        // While `reel` has its file open, no other file can get its inode.
        let path = self.0.path(reel.key());
        if fs::metadata(&path).is_ok_and(|metadata| file_id(&metadata) == reel.file_id) {
            let _ = fs::remove_file(&path);
        }
    }

    /// The number and size of all reels. Lists the folder.
    pub fn usage(&self) -> Usage {
        let files = self.0.files().unwrap_or_default();
        files.iter().filter(|file| file.is_reel()).fold(Usage::default(), |usage, file| Usage {
            reels: usage.reels + 1,
            bytes: usage.bytes + file.bytes,
        })
    }

    /// The number of films that were hashed.
    #[cfg(test)]
    pub(super) fn hashed(&self) -> usize {
        self.0.hashes.hashed.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl StoreInner {
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn path(&self, key: &ReelKey) -> PathBuf {
        self.dir.join(format!("{key}.reel"))
    }

    /// Opens the reel of `key`. `None` if there is none, or if it is of no use, which is logged.
    fn open_reel(&self, key: &ReelKey) -> Option<Reel> {
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
        // A reel that cannot be removed is found at every pass, but logged once.
        if removed || lock(&self.state).reported.insert(*key) {
            let fate =
                if removed { "it was removed and will be made again" } else { "the film is encoded instead" };
            match &error {
                ReelError::Damaged { damage: Damage::Version, .. } => info!("{error}; {fate}"),
                _ => warn!("{error}; {fate}"),
            }
        }
        None
    }

    /// The reel that all callers share: `reel`, or the one that another thread opened first.
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

    pub(super) fn mark_too_large(&self, key: ReelKey) {
        lock(&self.state).too_large.insert(key);
    }

    /// Reserves `more` bytes for a reel that will have `whole` bytes, and evicts reels if there is no room for them.
    pub(super) fn reserve(&self, more: u64, whole: u64) -> Result<(), RecordError> {
        // Held while reels are evicted, so that one recorder does that at a time. Playing a reel does not need this
        // lock.
        let mut used = lock(&self.used);
        *used += more;
        if *used > self.limit {
            *used = self.evict(more, whole)?;
        }
        if *used > self.limit { Err(RecordError::NoRoom { limit: self.limit }) } else { Ok(()) }
    }

    /// If there is no room for `more` bytes, removes reels that this process does not have open, the least recently
    /// aired first. Returns the bytes that then remain, plus `more`. Removes nothing for a reel that is too large by
    /// itself.
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
        let kept = lock(&self.kept);
        files.retain(|file| file.is_reel() && !open.contains(&file.name) && !kept.contains(&file.name));
        drop(kept);
        files.sort_by(|a, b| (a.aired, &a.name).cmp(&(b.aired, &b.name)));
        for file in &files {
            if total <= self.limit - self.limit / EVICTED_PART {
                break;
            }
            match fs::remove_file(&file.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {}
                _ => total -= file.bytes,
            }
        }
        Ok(total)
    }

    /// The reels and parts in the folder. All other files are ignored.
    fn files(&self) -> io::Result<Vec<StoredFile>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // Another process may have removed it since.
            let Ok(metadata) = entry.metadata() else { continue };
            if is_ours(&name) && metadata.is_file() {
                files.push(StoredFile {
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

/// Permission to record a reel, which one recorder of a process has at a time. Dropping it releases it.
#[derive(Debug)]
pub(super) struct RecordPermit {
    pub(super) store: Arc<StoreInner>,
    pub(super) key: ReelKey,
}

impl RecordPermit {
    fn take(store: &Arc<StoreInner>, key: ReelKey) -> Option<RecordPermit> {
        let mut state = lock(&store.state);
        let free = !state.too_large.contains(&key) && state.recording.insert(key);
        free.then(|| RecordPermit { store: store.clone(), key })
    }
}

impl Drop for RecordPermit {
    fn drop(&mut self) {
        lock(&self.store.state).recording.remove(&self.key);
    }
}

/// Removes a part that no process writes any more. The lock on a part lasts as long as its process, even if that is
/// killed.
fn remove_stale(part: &StoredFile, now: AirTime) {
    let Ok(file) = File::open(&part.path) else { return };
    let stale = match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(_)) => now.since(part.aired) > STALE_AFTER,
    };
    if stale {
        let _ = fs::remove_file(&part.path);
    }
}

/// Whether a store makes, and may remove, files of this name: `*.reel` or `*.*.part`, with hexadecimal numbers of the
/// right length.
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
