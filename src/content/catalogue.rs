//! What a broadcaster knows of its films: their shape, and the reels there are of them. All stations share it, so a film
//! that a thousand of them play is looked at once. All of it blocks.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tracing::warn;

use super::decode::{self, Source, SourceError, readable};
use super::encode::station_size;
use super::reel::{Encoding, Recorder, Reel, ReelKey, Store};
use crate::clock::AirClock;
use crate::lineup::StationSpec;
use crate::media::{AirTime, Size};

/// A film's size in pixels, and the width of a pixel by its height.
type Shape = ((u32, u32), f64);

/// A file as it was when it was looked at: length, modification and change in nanoseconds, inode.
type Seen = (u64, i128, i128, u64);

/// A film's shape, and what the file was when that was found.
type SharedShape = Arc<Mutex<Option<(Seen, Shape)>>>;

/// When a film was looked for, and what was found.
type Found = (AirTime, Result<(), SourceError>);

/// A film and its reel.
pub(crate) type FoundReel = (PathBuf, Arc<Reel>);

/// For so long what one station has found of a programme holds for the others. Stations that play the same look for what comes
/// next within the time for which one sleeps ([`LEAD`](crate::air::LEAD)), and what each did on a thread of its own took their turns from them: measured with 300 stations of one
/// film, 371 threads without and 12 with this and [`Catalogue::known_there`].
const KNOWN_ROUND: Duration = Duration::from_millis(800);

/// A film that was there is looked for again after this. Each time is a thread that wakes up for it: of one station's cost, once
/// a second is 3 %.
const STILL_THERE: Duration = Duration::from_millis(2500);

/// One that was not is, before its station tries it again.
const NOT_THERE: Duration = Duration::from_millis(500);

/// A programme, when it was looked up, and what was found.
struct KnownRound {
    at: AirTime,
    media: Vec<PathBuf>,
    quality: u8,
    size: Option<Size>,
    films: Vec<(PathBuf, Weak<Reel>)>,
}

impl KnownRound {
    fn is_of(&self, spec: &StationSpec, size: Option<Size>) -> bool {
        (&self.media, self.quality, self.size) == (&spec.media, spec.quality, size)
    }
}

/// How the programme of each station lies against the time of day: what it is called, and its phase. One for a group: what was
/// on before is not asked for any more.
type Phases = HashMap<SocketAddr, (String, Duration)>;

/// Most sentences told in a run; a broadcaster that has had so much to say is not read any more.
const MAX_TOLD: usize = 1000;

/// What opens films.
type Opener = dyn Fn(&Path) -> Result<Box<dyn Source>, SourceError> + Send + Sync;

/// What tells whether a film is there.
type Looker = dyn Fn(&Path) -> Result<(), SourceError> + Send + Sync;

/// The films of a broadcaster.
pub struct Catalogue {
    clock: AirClock,
    opener: Arc<Opener>,
    looker: Arc<Looker>,
    store: Option<Store>,
    /// Each film's behind a lock of its own: who looks at one that hangs keeps nobody from another.
    shapes: Mutex<HashMap<PathBuf, SharedShape>>,
    phases: Mutex<Phases>,
    /// Where they are kept. Locked while they are written, which may block; they are not.
    phases_file: Mutex<Option<PathBuf>>,
    told: Mutex<HashSet<String>>,
    /// Rounds looked up within [`KNOWN_ROUND`].
    rounds: Mutex<Vec<KnownRound>>,
    /// Films that are on air from their reels: when each was looked for, and what was found.
    looked_for: Mutex<HashMap<PathBuf, Found>>,
}

impl Catalogue {
    /// A catalogue of what is in the folder of `store`. Without a store there are no reels.
    pub fn new(clock: AirClock, store: Option<(Store, &Path)>) -> Catalogue {
        let phases_file = store.as_ref().map(|(_, dir)| dir.join("phases"));
        let phases = phases_file.as_deref().map(load_phases).unwrap_or_default();
        let store = store.map(|(store, _)| store);
        Catalogue {
            clock,
            opener: Arc::new(decode::open),
            looker: Arc::new(readable),
            store,
            shapes: Mutex::default(),
            phases: Mutex::new(phases),
            phases_file: Mutex::new(phases_file),
            told: Mutex::default(),
            rounds: Mutex::default(),
            looked_for: Mutex::default(),
        }
    }

    /// The same catalogue, of films that `opener` opens.
    #[cfg(test)]
    pub(crate) fn of_films(self, opener: Arc<Opener>) -> Catalogue {
        Catalogue { opener, ..self }
    }

    /// The same catalogue, of films that `looker` looks for.
    #[cfg(test)]
    pub(crate) fn looked_for_by(self, looker: Arc<Looker>) -> Catalogue {
        Catalogue { looker, ..self }
    }

    /// Opens a film.
    ///
    /// # Errors
    /// It does not open.
    pub fn open(&self, film: &Path) -> Result<Box<dyn Source>, SourceError> {
        let source = (self.opener)(film)?;
        source.facts().iter().flat_map(|facts| &facts.remarks).for_each(|remark| self.tell(remark.clone()));
        Ok(source)
    }

    /// The phase of the programme of these reels on the station that sends to `group`, if it has one of its own.
    pub fn phase<'a>(&self, group: SocketAddr, reels: impl Iterator<Item = &'a ReelKey>) -> Option<Duration> {
        let name = programme_name(reels);
        self.phases().get(&group).filter(|known| known.0 == name).map(|known| known.1)
    }

    /// Remembers a phase, over a restart too. What cannot be written is not remembered so long.
    pub fn remember<'a>(&self, group: SocketAddr, reels: impl Iterator<Item = &'a ReelKey>, phase: Duration) {
        self.phases().insert(group, (programme_name(reels), phase));
        let file = self.phases_file.lock().unwrap_or_else(PoisonError::into_inner);
        // As they are by now: who wrote while we waited may have written ours.
        let phases = self.phases().clone();
        if let Err(error) = file.as_ref().map_or(Ok(()), |file| save_phases(&phases, file)) {
            warn!("the programme will not be found again after a restart: {error}");
        }
    }

    fn phases(&self) -> MutexGuard<'_, Phases> {
        self.phases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether reels are kept at all.
    pub fn keeps_reels(&self) -> bool {
        self.store.is_some()
    }

    /// The size of a station of this `width` whose first film this is.
    ///
    /// # Errors
    /// It does not open.
    pub fn station_size(&self, film: &Path, width: u16) -> Result<Size, SourceError> {
        let shape = {
            let mut shapes = self.shapes.lock().unwrap_or_else(PoisonError::into_inner);
            shapes.entry(film.to_owned()).or_default().clone()
        };
        // Held while the film is opened: a thousand stations that start with it open it once.
        let mut shape = shape.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen(film);
        let known = shape.filter(|known| Some(known.0) == seen).map(|known| known.1);
        let (size, pixel_aspect) = match known {
            Some(shape) => shape,
            None => {
                let source = self.open(film)?;
                let found = (source.size(), source.pixel_aspect());
                *shape = seen.map(|seen| (seen, found));
                found
            }
        };
        Ok(station_size(size, pixel_aspect, width))
    }

    /// What [`still_there`](Self::still_there) has found in the last 2.5 s, or 0.5 s if the film was not there. Waits for no disk.
    pub fn known_there(&self, film: &Path) -> Option<Result<(), SourceError>> {
        let now = self.clock.now();
        let known = self.looked_for().get(film).cloned();
        let holds = |result: &Result<_, _>| if result.is_ok() { STILL_THERE } else { NOT_THERE };
        known.filter(|(at, result)| now.since(*at) < holds(result)).map(|(_, result)| result)
    }

    /// Whether a film can still be read. Looked up every 2.5 s, however many stations ask.
    ///
    /// # Errors
    /// It cannot.
    pub fn still_there(&self, film: &Path) -> Result<(), SourceError> {
        if let Some(result) = self.known_there(film) {
            return result;
        }
        // No lock is held while the disk is asked: a share that hangs must not hang the stations of another one.
        let result = (self.looker)(film);
        self.looked_for().insert(film.to_owned(), (self.clock.now(), result.clone()));
        result
    }

    /// What another station has just found of the same programme, if all of it is in reels that are still on air. Waits for
    /// no disk: at the end of a film that a thousand stations play, only the first of them has to.
    pub(crate) fn known_round(&self, spec: &StationSpec, size: Option<Size>) -> Option<Vec<FoundReel>> {
        let rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        let known = rounds.iter().find(|known| known.is_of(spec, size))?;
        if self.clock.now().since(known.at) > KNOWN_ROUND {
            return None;
        }
        known.films.iter().map(|(film, reel)| Some((film.clone(), reel.upgrade()?))).collect()
    }

    /// Notes that these are all the films of a programme, in their order, and their reels.
    pub(crate) fn note_round(&self, spec: &StationSpec, size: Option<Size>, films: &[FoundReel]) {
        let now = self.clock.now();
        let mut rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        rounds.retain(|known| !known.is_of(spec, size) && now.since(known.at) <= KNOWN_ROUND);
        let films = films.iter().map(|(film, reel)| (film.clone(), Arc::downgrade(reel))).collect();
        rounds.push(KnownRound { at: now, media: spec.media.clone(), quality: spec.quality, size, films });
    }

    fn looked_for(&self) -> MutexGuard<'_, HashMap<PathBuf, Found>> {
        self.looked_for.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key of the reel of a film, or of a picture that is on for `slide`. Reads the whole film if it is new or was changed.
    pub fn key(&self, film: &Path, encoding: Encoding, slide: Duration) -> Option<ReelKey> {
        // A film that cannot be read will say so when it is played.
        let key = self.store.as_ref()?.key(film, encoding, self.clock.wall()).ok()?;
        Some(if decode::is_slide(film) { key.of_slide(slide) } else { key })
    }

    /// The reel of `key`, if it is made.
    pub fn reel(&self, key: &ReelKey) -> Option<Arc<Reel>> {
        self.store.as_ref()?.find(key, self.clock.now())
    }

    /// A recorder for `key`; `None` while another station records it, or when it cannot be.
    pub fn recorder(&self, key: &ReelKey, film: &Path) -> Option<Recorder> {
        match self.store.as_ref()?.record(key, film) {
            Ok(recorder) => recorder,
            Err(error) => {
                self.no_reel(film, &error);
                None
            }
        }
    }

    /// Says why there is no reel of a film: once, not once for each pass.
    pub fn no_reel(&self, film: &Path, error: &dyn Display) {
        self.tell(format!("no reel of {}: {error}", film.display()));
    }

    /// Tells the log, once.
    fn tell(&self, sentence: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < MAX_TOLD && !told.contains(&sentence) {
            warn!("{sentence}");
            told.insert(sentence);
        }
    }

    /// Throws a reel away that is not what was recorded.
    pub fn discard(&self, reel: &Arc<Reel>) {
        if let Some(store) = &self.store {
            store.discard(reel);
        }
    }
}

/// The phase of each station's programme. A file of one line each: its group, a hash of its reels, nanoseconds, with spaces
/// between. What is no such line is left out: it costs a jump in a programme.
fn load_phases(file: &Path) -> Phases {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = |line: &str| {
        let (group, rest) = line.split_once(' ')?;
        let (name, nanos) = rest.split_once(' ')?;
        Some((group.parse().ok()?, (name.to_owned(), Duration::from_nanos(nanos.parse().ok()?))))
    };
    text.lines().filter_map(line).collect()
}

fn save_phases(phases: &Phases, file: &Path) -> io::Result<()> {
    let line = |(group, (name, phase)): (&SocketAddr, &(String, Duration))| {
        format!("{group} {name} {}\n", phase.as_nanos())
    };
    let mut lines: Vec<_> = phases.iter().map(line).collect();
    lines.sort_unstable();
    // Beside, then renamed: a broadcaster that is killed leaves the old one or the new one, and a part that the next one
    // sweeps away.
    let beside = file.with_extension(format!("{:016x}.part", fastrand::u64(..)));
    let saved = fs::write(&beside, lines.concat()).and_then(|()| fs::rename(&beside, file));
    if saved.is_err() {
        let _ = fs::remove_file(&beside);
    }
    saved
}

fn programme_name<'a>(reels: impl Iterator<Item = &'a ReelKey>) -> String {
    let mut hasher = blake3::Hasher::new();
    for reel in reels {
        hasher.update(reel.to_string().as_bytes());
    }
    hasher.finalize().to_hex().as_str()[..32].to_owned()
}

fn seen(film: &Path) -> Option<Seen> {
    let m = fs::metadata(film).ok()?;
    let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    Some((m.len(), nanos(m.mtime(), m.mtime_nsec()), nanos(m.ctime(), m.ctime_nsec()), m.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_survive_a_restart_and_rubbish_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("phases");
        let mut phases = load_phases(&file);
        phases
            .insert("239.77.0.1:5004".parse().unwrap(), ("abc".into(), Duration::from_nanos(12_345_678_901)));
        phases.insert("[ff15::1]:5004".parse().unwrap(), ("def".into(), Duration::ZERO));
        save_phases(&phases, &file).unwrap();
        assert_eq!(load_phases(&file), phases);
        let mut text = fs::read_to_string(&file).unwrap();
        text.push_str("torn\n239.77.0.2:5004 ghi 12x\n239.77.0.2 ghi 12\nabc 12345\n\u{fffd} \n");
        fs::write(&file, text).unwrap();
        assert_eq!(load_phases(&file), phases);
        fs::write(&file, [0xff, 0xfe, 0, 10]).unwrap();
        assert!(load_phases(&file).is_empty());
    }

    #[test]
    fn a_station_has_one_phase_however_many_programmes_it_had() {
        let folder = tempfile::tempdir().unwrap();
        let clock = AirClock::start();
        let open = || {
            let store = Store::open(folder.path(), u64::MAX, clock.now()).unwrap();
            Catalogue::new(clock.clone(), Some((store, folder.path())))
        };
        let catalogue = open();
        let group = |port| SocketAddr::from(([239, 77, 0, 1], port));
        let store = catalogue.store.as_ref().unwrap();
        let encoding = Encoding { size: Size { width: 16, height: 16 }, quality: 80 };
        let keys = ["a", "b", "c"].map(|name| {
            let film = folder.path().join(name);
            fs::write(&film, name).unwrap();
            store.key(&film, encoding, clock.now()).unwrap()
        });
        for (n, key) in keys.iter().enumerate() {
            catalogue.remember(group(5004), [key].into_iter(), Duration::from_millis(n as u64));
        }
        catalogue.remember(group(5006), keys.iter(), Duration::from_millis(7));
        let again = open();
        assert_eq!(fs::read_to_string(folder.path().join("phases")).unwrap().lines().count(), 2);
        assert_eq!(again.phase(group(5004), [&keys[2]].into_iter()), Some(Duration::from_millis(2)));
        assert_eq!(again.phase(group(5004), [&keys[0]].into_iter()), None, "it was on before");
        assert_eq!(again.phase(group(5006), keys.iter()), Some(Duration::from_millis(7)));
    }

    #[test]
    fn phases_that_cannot_be_kept_leave_nothing_and_a_part_of_them_is_swept_away() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("phases");
        fs::create_dir(&file).unwrap();
        assert!(save_phases(&HashMap::new(), &file).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the folder in the way");
        let part = folder.path().join("phases.0123456789abcdef.part");
        fs::write(&part, "").unwrap();
        Store::open(folder.path(), u64::MAX, AirTime::default()).unwrap();
        assert!(!part.exists());
    }
}
