//! The catalogue knows each film's size, rate and length, whether it can be read, and its reel. All stations of a broadcaster share
//! one catalogue, so that a film that a thousand of them play is looked up once. Methods block unless they say that
//! they do not.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tracing::warn;

use super::decode::facts::Facts;
use super::decode::{self, PictureSource, SourceError, check_readable};
use super::encode::station_size;
use super::lock;
use super::phases::Phases;
use super::recording::RecordingKey;
use super::recording_queue::RecordingQueue;
use super::reel::{Encoding, Recorder, Reel, ReelKey, Store};
use super::sound::SoundStore;
use super::title;
use crate::clock::AirClock;
use crate::lineup::{Media, StationSpec};
use crate::log::LoggedOnce;
use crate::media::{AirTime, FrameRate, Size};

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

/// How long a title is valid that was looked up. Then the file is looked at again, and read again if it was changed.
const TITLE_VALID: Duration = Duration::from_secs(60);

/// Most sentences that are remembered as logged. When there are more, no further ones are logged: a log with so many
/// is not read any more.
const MAX_LOGGED: usize = 1000;

/// What is known of a film without its reel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FilmOutline {
    /// Its size in pixels, turned upright.
    pub(crate) size: (u32, u32),
    /// The width of a pixel divided by its height.
    pub(crate) pixel_aspect: f64,
    /// The nominal rate.
    pub(crate) rate: FrameRate,
    /// How long it plays, as far as its container knows that: within some pictures, if the film is whole. `None` if not.
    pub(crate) length: Option<Duration>,
    /// It is a picture, which is on for as long as its station says.
    pub(crate) is_slide: bool,
    /// Whether it has sound.
    pub(crate) has_sound: bool,
}

impl FilmOutline {
    fn of(source: &dyn PictureSource) -> FilmOutline {
        FilmOutline {
            size: source.size(),
            pixel_aspect: source.pixel_aspect(),
            rate: source.rate(),
            length: source.length(),
            is_slide: source.facts().is_none() && source.announced() == 1,
            has_sound: source.facts().is_some_and(|facts| facts.has_sound),
        }
    }

    /// The length of its round, if that is known: whole pictures.
    pub(crate) fn round(&self) -> Option<Duration> {
        self.length.map(|length| self.rate.nth(self.rate.nearest(length)))
    }

    /// The same of a picture that is on for `slide`.
    fn on_for(self, slide: Duration) -> FilmOutline {
        let millis = u32::try_from(slide.as_millis()).unwrap_or(u32::MAX);
        let rate = FrameRate::new(1000, millis).unwrap_or(self.rate);
        FilmOutline { rate, length: Some(slide), ..self }
    }
}

/// The outline of a film, and the attributes that its file then had. Locked while the film is opened.
type CachedOutline = Arc<Mutex<Option<(FileAttributes, FilmOutline)>>>;

/// The title of a film, the attributes that its file then had, and when these were looked at last.
struct CachedTitle {
    title: Arc<str>,
    attributes: Option<FileAttributes>,
    at: AirTime,
}

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
    media: Media,
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
    outlines: Mutex<HashMap<PathBuf, CachedOutline>>,
    titles: Mutex<HashMap<PathBuf, CachedTitle>>,
    phases: Phases,
    sounds: SoundStore,
    recordings: Arc<RecordingQueue>,
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
        let sounds = match &store {
            Some((store, dir)) => SoundStore::new(Some(dir.join("sound")), store.limit()),
            None => SoundStore::new(None, u64::MAX),
        };
        Catalogue {
            recordings: Arc::new(RecordingQueue::new(clock.clone())),
            clock,
            sounds,
            opener: Arc::new(decode::open),
            checker: Arc::new(check_readable),
            store: store.map(|(store, _)| store),
            outlines: Mutex::default(),
            titles: Mutex::default(),
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
        source.remarks().iter().for_each(|remark| self.log_once(remark.clone()));
        Ok(source)
    }

    /// Drops the cached facts of all films that are not among `media`, which are films and folders of films.
    pub(crate) fn forget_gone(&self, media: &HashSet<PathBuf>) {
        let is_there = |film: &Path| film.ancestors().any(|path| media.contains(path));
        lock(&self.outlines).retain(|film, _| is_there(film));
        lock(&self.titles).retain(|film, _| is_there(film));
        lock(&self.checks).retain(|film, _| is_there(film));
    }

    /// How many films there is something cached of: an outline, a title, and a check.
    #[cfg(test)]
    pub(crate) fn cached(&self) -> [usize; 3] {
        [lock(&self.outlines).len(), lock(&self.titles).len(), lock(&self.checks).len()]
    }

    /// Whether `bytes` more of reels can be recorded without removing one. Does not block.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.store.as_ref().is_some_and(|store| store.has_room(bytes))
    }

    /// The sound of the films.
    pub(crate) fn sounds(&self) -> &SoundStore {
        &self.sounds
    }

    /// The phases of the stations' programmes.
    pub(crate) fn phases(&self) -> &Phases {
        &self.phases
    }

    /// The films that are recorded. Does not block.
    pub(crate) fn recordings(&self) -> &Arc<RecordingQueue> {
        &self.recordings
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
        let outline = self.outline(film, Duration::ZERO)?;
        Ok(station_size(outline.size, outline.pixel_aspect, width))
    }

    /// What is known without a reel of a film, or of a picture that is on for `slide`. Opens it, unless its file is the one that was
    /// opened before.
    ///
    /// # Errors
    /// The film cannot be opened.
    pub(crate) fn outline(&self, film: &Path, slide: Duration) -> Result<FilmOutline, SourceError> {
        self.outline_by(film, slide, Some(decode::measure))
    }

    /// How long a film plays, or a picture that is on for `slide`, as far as that is known without reading the whole film. Opens
    /// it, unless its file is the one that was opened before.
    pub(crate) fn claimed_length(&self, film: &Path, slide: Duration) -> Option<Duration> {
        self.outline_by(film, slide, None).ok()?.length
    }

    /// The outline of a film. `measure` finds the length of one whose container does not tell it; without it, such a film is opened
    /// again the next time.
    fn outline_by(
        &self,
        film: &Path,
        slide: Duration,
        measure: Option<fn(&Path, &Facts) -> Option<Duration>>,
    ) -> Result<FilmOutline, SourceError> {
        let cached = lock(&self.outlines).entry(film.to_owned()).or_default().clone();
        // Held while the film is opened, so that a thousand stations that start with one film open it once.
        let mut cached = lock(&cached);
        let attributes = FileAttributes::of(film);
        let known = cached.filter(|known| Some(known.0) == attributes).map(|known| known.1);
        let outline = match known {
            Some(outline) => outline,
            None => {
                let source = self.open(film)?;
                let mut outline = FilmOutline::of(source.as_ref());
                if outline.length.is_none() {
                    outline.length = source.facts().and_then(|facts| measure?(film, facts));
                }
                if measure.is_some() || outline.length.is_some() {
                    *cached = attributes.map(|attributes| (attributes, outline));
                }
                outline
            }
        };
        Ok(if outline.is_slide { outline.on_for(slide) } else { outline })
    }

    /// The title of a film, if it was looked up within the last minute. Does not block.
    #[expect(clippy::disallowed_methods, reason = "a shell: it knows how old its checks and lookups are")]
    pub(crate) fn recent_title(&self, film: &Path) -> Option<Arc<str>> {
        let titles = lock(&self.titles);
        let known = titles.get(film)?;
        (self.clock.now().since(known.at) < TITLE_VALID).then(|| known.title.clone())
    }

    /// The title of a film, as it was when it was looked up last, or by the name of its file. Does not block.
    pub(crate) fn likely_title(&self, film: &Path) -> Arc<str> {
        lock(&self.titles).get(film).map_or_else(|| title::by_name(film), |known| known.title.clone())
    }

    /// The title of a film: the one that it has for itself, or else the name of its file, tidied. Reads the beginning of the
    /// file, unless it is the file whose title was looked up before.
    #[expect(clippy::disallowed_methods, reason = "a shell: it knows how old its checks and lookups are")]
    pub(crate) fn title(&self, film: &Path) -> Arc<str> {
        if let Some(title) = self.recent_title(film) {
            return title;
        }
        // Without a lock, so that a network share that hangs does not delay films on others.
        let attributes = FileAttributes::of(film);
        let known = lock(&self.titles)
            .get(film)
            .filter(|known| attributes.is_some() && known.attributes == attributes)
            .map(|known| known.title.clone());
        let title = known.unwrap_or_else(|| title::read(film));
        let cached = CachedTitle { title: title.clone(), attributes, at: self.clock.now() };
        lock(&self.titles).insert(film.to_owned(), cached);
        title
    }

    /// The result of the last [`check`](Self::check) of a film, unless it is older than 2.5 s, or 0.5 s if the check
    /// failed. Does not block.
    #[expect(clippy::disallowed_methods, reason = "a shell: it knows how old its checks and lookups are")]
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
    #[expect(clippy::disallowed_methods, reason = "a shell: it knows how old its checks and lookups are")]
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
    #[expect(clippy::disallowed_methods, reason = "a shell: it knows how old its checks and lookups are")]
    pub(crate) fn recent_lookup(&self, spec: &StationSpec, size: Option<Size>) -> Option<Vec<FilmReel>> {
        let lookups = lock(&self.lookups);
        let lookup = lookups.iter().find(|lookup| lookup.is_for(spec, size))?;
        if self.clock.now().since(lookup.at) > LOOKUP_VALID {
            return None;
        }
        lookup.films.iter().map(|(film, reel)| Some((film.clone(), reel.upgrade()?))).collect()
    }

    /// Caches the result of a lookup: all films of a playlist, in order, with their reels. Does not block.
    #[expect(clippy::disallowed_methods, reason = "a shell: it knows how old its checks and lookups are")]
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
    #[expect(clippy::disallowed_methods, reason = "a shell: it knows how old its checks and lookups are")]
    pub fn key(&self, film: &Path, encoding: Encoding, slide: Duration) -> Option<ReelKey> {
        // The error is reported when the film is played.
        let key = self.store.as_ref()?.key(film, encoding, self.clock.wall()).ok()?;
        Some(if decode::is_slide(film) { key.of_slide(slide) } else { key })
    }

    /// The reel of a film, or of a picture that is on for `slide`, if there is one. Does not read the whole of a large film that is
    /// new: it has no reel.
    #[expect(clippy::disallowed_methods, reason = "a shell: it knows how old its checks and lookups are")]
    pub(crate) fn reel_at_once(&self, film: &Path, encoding: Encoding, slide: Duration) -> Option<Arc<Reel>> {
        let key = self.store.as_ref()?.key_at_once(film, encoding, self.clock.wall()).ok()??;
        self.reel(&if decode::is_slide(film) { key.of_slide(slide) } else { key })
    }

    /// As [`Store::glance`], of a film, or of a picture that is on for `slide`; two times `None` without a store, or if
    /// there is no such film.
    #[expect(clippy::disallowed_methods, reason = "a shell: it knows which films were changed just now")]
    pub(crate) fn glance(
        &self,
        film: &Path,
        encoding: Encoding,
        slide: Duration,
    ) -> (Option<ReelKey>, Option<ReelKey>) {
        let glance =
            self.store.as_ref().and_then(|store| store.glance(film, encoding, self.clock.wall()).ok());
        let Some((file_key, key)) = glance else { return (None, None) };
        let is_slide = decode::is_slide(film);
        let of_slide = |key: ReelKey| if is_slide { key.of_slide(slide) } else { key };
        (file_key.map(of_slide), key.map(of_slide))
    }

    /// The reel of `key`, if there is one.
    #[expect(clippy::disallowed_methods, reason = "a shell: it knows how old its checks and lookups are")]
    pub fn reel(&self, key: &ReelKey) -> Option<Arc<Reel>> {
        self.store.as_ref()?.find(key, self.clock.now())
    }

    /// A recorder for `key`; `None` while that reel is recorded, or if it cannot be.
    pub(crate) fn recorder(&self, key: RecordingKey, film: &Path, slide: Duration) -> Option<Recorder> {
        let store = self.store.as_ref()?;
        let recorder = match key {
            RecordingKey::Film(key) => store.record(&key, film),
            RecordingKey::File(key) => store.record_file(&key, film, decode::is_slide(film).then_some(slide)),
        };
        match recorder {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[test]
    fn a_film_is_opened_for_its_outline_once_until_its_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let film = folder.path().join("film.mp4");
        let media = Path::new(env!("CARGO_MANIFEST_DIR")).join("media");
        fs::copy(media.join("nature.mp4"), &film).unwrap();
        let opened = Arc::new(AtomicUsize::new(0));
        let count = opened.clone();
        let opener = move |path: &Path| {
            count.fetch_add(1, Relaxed);
            decode::open(path)
        };
        let catalogue = Catalogue::new(AirClock::start(), None).with_opener(Arc::new(opener));
        for _ in 0..3 {
            let outline = catalogue.outline(&film, Duration::from_secs(7)).unwrap();
            let ntsc = FrameRate::new(30_000, 1001).unwrap();
            assert_eq!((outline.rate, outline.is_slide), (ntsc, false));
            let off = outline.length.unwrap().abs_diff(ntsc.nth(720));
            assert!(off < ntsc.interval(), "{:?}", outline.length);
            assert_eq!(catalogue.station_size(&film, 64).unwrap().width, 64);
        }
        assert_eq!(opened.load(Relaxed), 1);

        let picture = opencv::core::Mat::new_rows_cols_with_default(
            48,
            64,
            opencv::core::CV_8UC3,
            opencv::core::Scalar::all(128.0),
        );
        let mut bytes = opencv::core::Vector::new();
        opencv::imgcodecs::imencode(".png", &picture.unwrap(), &mut bytes, &Default::default()).unwrap();
        fs::write(&film, bytes.as_slice()).unwrap();
        for slide in [7, 9].map(Duration::from_secs) {
            let outline = catalogue.outline(&film, slide).unwrap();
            assert_eq!((outline.size, outline.length, outline.is_slide), ((64, 48), Some(slide), true));
            assert_eq!(outline.rate.interval(), slide);
        }
        assert_eq!(opened.load(Relaxed), 2);
    }
}
