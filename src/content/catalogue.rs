//! The catalogue knows each film's geometry, whether it can be read, and its reel. All stations of a broadcaster share
//! one catalogue, so that a film that a thousand of them play is looked up once. Methods block unless they say that
//! they do not.

use std::collections::HashMap;
use std::fmt::Display;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tracing::warn;

use super::decode::{self, PictureSource, SourceError, check_readable};
use super::encode::station_size;
use super::lock;
use super::phases::Phases;
use super::reel::{Encoding, Recorder, Reel, ReelKey, Store};
use crate::clock::AirClock;
use crate::lineup::StationSpec;
use crate::log::LoggedOnce;
use crate::media::{AirTime, Size};

/// How long one station's lookup of a playlist is valid for stations with the same media. They begin their next round
/// within the time for which a station sleeps ([`LEAD`](crate::air::LEAD)), and a lookup for each would need a thread
/// for each: measured with 300 stations of one film, 371 threads without this and [`Catalogue::recent_check`], 12 with
/// them.
const LOOKUP_VALID: Duration = Duration::from_millis(800);

/// How long a check is cached that found the film readable. A check wakes a thread: once a second would be 3 % of the
/// cost of a station.
const CHECK_VALID: Duration = Duration::from_millis(2500);

/// How long a failed check is cached; shorter than the first retry.
const FAILED_CHECK_VALID: Duration = Duration::from_millis(500);

/// Most sentences that are remembered as logged. When there are more, no further ones are logged: a log with so many
/// is not read any more.
const MAX_LOGGED: usize = 1000;

/// The size of a film in pixels, and the width of a pixel divided by its height.
type FilmGeometry = ((u32, u32), f64);

/// The geometry of a film, and the attributes that its file then had. Locked while the film is opened.
type CachedGeometry = Arc<Mutex<Option<(FileAttributes, FilmGeometry)>>>;

/// When a film was checked, and with which result.
type FilmCheck = (AirTime, Result<(), SourceError>);

/// The path of a film, and its reel.
pub(crate) type FilmReel = (PathBuf, Arc<Reel>);

/// Opens films.
type FilmOpener = dyn Fn(&Path) -> Result<Box<dyn PictureSource>, SourceError> + Send + Sync;

/// Checks that films can be read.
type FilmChecker = dyn Fn(&Path) -> Result<(), SourceError> + Send + Sync;

/// The attributes of a film's file that tell whether it was changed or replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileAttributes {
    /// Bytes.
    len: u64,
    /// Time of modification, in nanoseconds since the Unix epoch.
    mtime: i128,
    /// Time of the last change of the inode, in nanoseconds since the Unix epoch.
    ctime: i128,
    inode: u64,
}

impl FileAttributes {
    fn of(film: &Path) -> Option<FileAttributes> {
        let m = fs::metadata(film).ok()?;
        let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Some(FileAttributes {
            len: m.len(),
            mtime: nanos(m.mtime(), m.mtime_nsec()),
            ctime: nanos(m.ctime(), m.ctime_nsec()),
            inode: m.ino(),
        })
    }
}

/// A lookup of a playlist in which every film had a reel.
struct PlaylistLookup {
    at: AirTime,
    /// The media of the stations for which it is valid.
    media: Vec<PathBuf>,
    /// The JPEG quality of those stations.
    quality: u8,
    /// The size of those stations.
    size: Option<Size>,
    /// The films in order, with their reels, which a cached lookup does not keep open.
    films: Vec<(PathBuf, Weak<Reel>)>,
}

impl PlaylistLookup {
    fn is_for(&self, spec: &StationSpec, size: Option<Size>) -> bool {
        (&self.media, self.quality, self.size) == (&spec.media, spec.quality, size)
    }
}

/// The films of a broadcaster.
pub struct Catalogue {
    clock: AirClock,
    opener: Arc<FilmOpener>,
    checker: Arc<FilmChecker>,
    store: Option<Store>,
    /// Each film has a lock of its own, so that a film that hangs while it is opened does not delay the others.
    geometries: Mutex<HashMap<PathBuf, CachedGeometry>>,
    phases: Phases,
    /// Sentences that the log already has.
    logged: Mutex<LoggedOnce<String>>,
    /// Lookups of the last [`LOOKUP_VALID`].
    lookups: Mutex<Vec<PlaylistLookup>>,
    /// The last check of each film that is on air from its reel.
    checks: Mutex<HashMap<PathBuf, FilmCheck>>,
}

impl Catalogue {
    /// A catalogue of films whose reels are in `store`, a store with its folder. Without a store there are no reels.
    pub fn new(clock: AirClock, store: Option<(Store, &Path)>) -> Catalogue {
        let phases = Phases::load(store.as_ref().map(|(_, dir)| dir.join("phases")));
        Catalogue {
            clock,
            opener: Arc::new(decode::open),
            checker: Arc::new(check_readable),
            store: store.map(|(store, _)| store),
            geometries: Mutex::default(),
            phases,
            logged: Mutex::new(LoggedOnce::new(MAX_LOGGED)),
            lookups: Mutex::default(),
            checks: Mutex::default(),
        }
    }

    /// The same catalogue, with films that `opener` opens.
    #[cfg(test)]
    pub(crate) fn with_opener(self, opener: Arc<FilmOpener>) -> Catalogue {
        Catalogue { opener, ..self }
    }

    /// The same catalogue, with films that `checker` checks.
    #[cfg(test)]
    pub(crate) fn with_checker(self, checker: Arc<FilmChecker>) -> Catalogue {
        Catalogue { checker, ..self }
    }

    /// Opens a film.
    ///
    /// # Errors
    /// The film cannot be opened.
    pub fn open(&self, film: &Path) -> Result<Box<dyn PictureSource>, SourceError> {
        let source = (self.opener)(film)?;
        source
            .facts()
            .iter()
            .flat_map(|facts| &facts.remarks)
            .for_each(|remark| self.log_once(remark.clone()));
        Ok(source)
    }

    /// The phases of the stations' programmes.
    pub(crate) fn phases(&self) -> &Phases {
        &self.phases
    }

    /// Whether there is a store of reels. Does not block.
    pub fn keeps_reels(&self) -> bool {
        self.store.is_some()
    }

    /// The size of a station of this `width` whose first film is `film`.
    ///
    /// # Errors
    /// The film cannot be opened.
    pub fn station_size(&self, film: &Path, width: u16) -> Result<Size, SourceError> {
        let cached = lock(&self.geometries).entry(film.to_owned()).or_default().clone();
        // Held while the film is opened, so that a thousand stations that start with one film open it once.
        let mut cached = lock(&cached);
        let attributes = FileAttributes::of(film);
        let known = cached.filter(|known| Some(known.0) == attributes).map(|known| known.1);
        let (size, pixel_aspect) = match known {
            Some(geometry) => geometry,
            None => {
                let source = self.open(film)?;
                let found = (source.size(), source.pixel_aspect());
                *cached = attributes.map(|attributes| (attributes, found));
                found
            }
        };
        Ok(station_size(size, pixel_aspect, width))
    }

    /// The result of the last [`check`](Self::check) of a film, unless it is older than 2.5 s, or 0.5 s if the check
    /// failed. Does not block.
    pub fn recent_check(&self, film: &Path) -> Option<Result<(), SourceError>> {
        let now = self.clock.now();
        let check = lock(&self.checks).get(film).cloned();
        let valid = |result: &Result<_, _>| if result.is_ok() { CHECK_VALID } else { FAILED_CHECK_VALID };
        check.filter(|(at, result)| now.since(*at) < valid(result)).map(|(_, result)| result)
    }

    /// Checks that a film can still be read: every 2.5 s, however many stations ask.
    ///
    /// # Errors
    /// The film cannot be read.
    pub fn check(&self, film: &Path) -> Result<(), SourceError> {
        if let Some(result) = self.recent_check(film) {
            return result;
        }
        // Without a lock, so that a network share that hangs does not delay films on others.
        let result = (self.checker)(film);
        lock(&self.checks).insert(film.to_owned(), (self.clock.now(), result.clone()));
        result
    }

    /// What another station has just found for the same playlist, if all its films have reels that are still open.
    /// Does not block: at the end of a film that a thousand stations play, only the first of them has to wait for the
    /// disk.
    pub(crate) fn recent_lookup(&self, spec: &StationSpec, size: Option<Size>) -> Option<Vec<FilmReel>> {
        let lookups = lock(&self.lookups);
        let lookup = lookups.iter().find(|lookup| lookup.is_for(spec, size))?;
        if self.clock.now().since(lookup.at) > LOOKUP_VALID {
            return None;
        }
        lookup.films.iter().map(|(film, reel)| Some((film.clone(), reel.upgrade()?))).collect()
    }

    /// Caches the result of a lookup: all films of a playlist, in order, with their reels. Does not block.
    pub(crate) fn cache_lookup(&self, spec: &StationSpec, size: Option<Size>, films: &[FilmReel]) {
        let now = self.clock.now();
        let mut lookups = lock(&self.lookups);
        lookups.retain(|lookup| !lookup.is_for(spec, size) && now.since(lookup.at) <= LOOKUP_VALID);
        let films = films.iter().map(|(film, reel)| (film.clone(), Arc::downgrade(reel))).collect();
        lookups.push(PlaylistLookup {
            at: now,
            media: spec.media.clone(),
            quality: spec.quality,
            size,
            films,
        });
    }

    /// The key of the reel of a film, or of a picture that is on for `slide`; `None` without a store, or if the film
    /// cannot be read. Reads the whole film if it is new or was changed.
    pub fn key(&self, film: &Path, encoding: Encoding, slide: Duration) -> Option<ReelKey> {
        // The error is reported when the film is played.
        let key = self.store.as_ref()?.key(film, encoding, self.clock.wall()).ok()?;
        Some(if decode::is_slide(film) { key.of_slide(slide) } else { key })
    }

    /// The reel of `key`, if there is one.
    pub fn reel(&self, key: &ReelKey) -> Option<Arc<Reel>> {
        self.store.as_ref()?.find(key, self.clock.now())
    }

    /// A recorder for `key`; `None` while another station records that reel, or if it cannot be recorded.
    pub fn recorder(&self, key: &ReelKey, film: &Path) -> Option<Recorder> {
        match self.store.as_ref()?.record(key, film) {
            Ok(recorder) => recorder,
            Err(error) => {
                self.log_no_reel(film, &error);
                None
            }
        }
    }

    /// Logs why there is no reel of a film: once, not in each pass. Does not block.
    pub fn log_no_reel(&self, film: &Path, error: &dyn Display) {
        self.log_once(format!("no reel of {}: {error}", film.display()));
    }

    /// Logs a sentence, unless the log has it already. Does not block.
    fn log_once(&self, sentence: String) {
        if lock(&self.logged).is_first(sentence.clone()) {
            warn!("{sentence}");
        }
    }

    /// Removes a damaged reel.
    pub fn discard(&self, reel: &Arc<Reel>) {
        if let Some(store) = &self.store {
            store.discard(reel);
        }
    }
}
