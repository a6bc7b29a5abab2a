//! The store of sound: finds the sound of a film on disk, or has it made.
//!
//! One thread makes sound, film after film: a station never waits for it, and hears nothing until it is there. A film of an hour
//! takes it some 20 s, once.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::SystemTime;

use tracing::{info, warn};

use super::make::{SoundOrder, make};
use super::reel::{SoundHeader, SoundReel, VERSION};
use crate::content::worker::run_when_idle;
use crate::content::{FileState, file_state, lock};

/// Sound that is kept open although no film with it is on air: the films of a long round, each an open file.
const KEPT_OPEN: usize = 256;

/// The share of the reels' bytes that sound may take besides: 16 kB a second beside the 600 and more of pictures.
const SHARE: u64 = 16;

/// The extension of a sound file.
const EXTENSION: &str = "sound";

/// What has become of the sound of a film that is wanted.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    /// It is looked for, or made.
    NotYet,
    /// It is there.
    Here(Arc<SoundReel>),
    /// The film has none, or it cannot be made.
    Nothing,
}

type Wanted = (PathBuf, SoundOrder);

#[derive(Debug, Default)]
struct State {
    known: HashMap<Wanted, (FileState, Found)>,
    /// The orders that the thread has not taken yet: each is in its queue once, however often it is wanted meanwhile.
    queued: HashSet<Wanted>,
    /// Orders whose sound file is damaged: it is made again instead of opened.
    damaged: HashSet<Wanted>,
    /// The sentences that were logged.
    logged: HashSet<String>,
}

/// Finds and makes the sound of films.
#[derive(Debug)]
pub(crate) struct SoundStore {
    maker: Arc<Maker>,
    /// To the thread that makes sound, which starts with the first order. A film is ordered at each of its beginnings on a station, and
    /// at each PLAY of a client on demand.
    orders: OnceLock<mpsc::Sender<Wanted>>,
}

impl SoundStore {
    /// A store in the folder `dir`, whose sound takes a sixteenth of `bytes` at most. Without a folder, sound is in nameless files
    /// for as long as the broadcaster runs. Its thread ends when the store is dropped, after the film that it works on.
    pub(crate) fn new(dir: Option<PathBuf>, bytes: u64) -> SoundStore {
        let maker = Arc::new(Maker { state: Mutex::default(), dir, bytes: bytes / SHARE });
        SoundStore { maker, orders: OnceLock::new() }
    }

    /// Starts the thread that makes sound, when cores are idle: no picture is late for it.
    fn start(&self) -> mpsc::Sender<Wanted> {
        let (orders, queue) = mpsc::channel();
        let maker = self.maker.clone();
        let spawned = thread::Builder::new().name("sound".into()).spawn(move || {
            run_when_idle();
            for wanted in &queue {
                // A film on which a library or our own code panics is silent; the others are heard.
                if catch_unwind(AssertUnwindSafe(|| maker.work(&wanted))).is_err() {
                    maker.give_up(wanted);
                }
            }
        });
        if let Err(error) = spawned {
            warn!("no sound: the system refuses a thread: {error}");
        }
        orders
    }

    /// Wants the sound of the film at `path`: looks whether it is there, makes it if it is not, and makes it anew if the film was changed.
    /// Does not block: [`find`](Self::find) tells what has become of it.
    pub(crate) fn want(&self, path: &Path, order: &SoundOrder) {
        let wanted = (path.to_owned(), order.clone());
        let mut state = lock(&self.maker.state);
        state.known.entry(wanted.clone()).or_insert((None, Found::NotYet));
        if state.queued.insert(wanted.clone()) {
            let _ = self.orders.get_or_init(|| self.start()).send(wanted);
        }
    }

    /// The sound `reel` of the film at `path` is damaged: has it removed, and made again. Does not block.
    pub(crate) fn discard(&self, path: &Path, order: &SoundOrder, reel: &Arc<SoundReel>) {
        let wanted = (path.to_owned(), order.clone());
        let mut state = lock(&self.maker.state);
        // Another station may have noticed before.
        let is_known =
            |(_, found): &(FileState, Found)| matches!(found, Found::Here(known) if Arc::ptr_eq(known, reel));
        if state.known.get(&wanted).is_some_and(is_known) {
            state.known.remove(&wanted);
            state.damaged.insert(wanted);
        }
        drop(state);
        self.want(path, order);
    }

    /// The sound of the film at `path`. Does not block.
    pub(crate) fn find(&self, path: &Path, order: &SoundOrder) -> Found {
        let wanted = (path.to_owned(), order.clone());
        lock(&self.maker.state).known.get(&wanted).map_or(Found::NotYet, |(_, found)| found.clone())
    }
}

/// The header of the sound of the film at `path`, if it was made before, in the folder `dir`. Blocks.
pub(crate) fn made_before(dir: &Path, path: &Path, order: &SoundOrder) -> Option<SoundHeader> {
    let file_state = file_state(path);
    let name = dir.join(format!("{}.{EXTENSION}", digest(path, order, file_state)));
    SoundReel::open(&name).ok().map(|reel| *reel.header())
}

/// The thread's part.
#[derive(Debug)]
struct Maker {
    state: Mutex<State>,
    dir: Option<PathBuf>,
    bytes: u64,
}

impl Maker {
    /// The film is silent until it is changed.
    fn give_up(&self, wanted: Wanted) {
        let file_state = file_state(&wanted.0);
        warn!("the sound of {} cannot be made; it is silent", wanted.0.display());
        lock(&self.state).known.insert(wanted, (file_state, Found::Nothing));
    }

    /// Looks for the sound of a film, and makes it if there is none. Blocks.
    fn work(&self, wanted: &Wanted) {
        let (path, order) = wanted;
        // Before the film is looked at: it may change, and be wanted again, from then on.
        let mut state = lock(&self.state);
        state.queued.remove(wanted);
        let is_damaged = state.damaged.remove(wanted);
        drop(state);
        let file_state = file_state(path);
        if let Some((known_state, Found::Here(_) | Found::Nothing)) = lock(&self.state).known.get(wanted)
            && *known_state == file_state
        {
            return;
        }
        let known = match self.find_or_make(path, order, file_state, is_damaged) {
            Ok(Some(reel)) => Found::Here(Arc::new(reel)),
            Ok(None) => Found::Nothing,
            Err(error) => {
                let sentence = format!("no sound of {}: {error}", path.display());
                if lock(&self.state).logged.insert(sentence.clone()) {
                    warn!("{sentence}");
                }
                Found::Nothing
            }
        };
        let mut state = lock(&self.state);
        state.known.insert(wanted.clone(), (file_state, known));
        if state.known.len() > KEPT_OPEN {
            // Those that no station hears. They are found on the disk when they are wanted again.
            state.known.retain(|_, (_, known)| match known {
                Found::Here(reel) => Arc::strong_count(reel) > 1,
                Found::NotYet => true,
                Found::Nothing => false,
            });
        }
    }

    fn find_or_make(
        &self,
        path: &Path,
        order: &SoundOrder,
        file_state: FileState,
        is_damaged: bool,
    ) -> Result<Option<SoundReel>, super::make::MakeError> {
        let Some(dir) = &self.dir else {
            let file = tempfile::tempfile()?;
            return self
                .make(path, order, &file)?
                .then(|| SoundReel::from_file(file))
                .transpose()
                .map_err(Into::into);
        };
        fs::create_dir_all(dir)?;
        let name = dir.join(format!("{}.{EXTENSION}", digest(path, order, file_state)));
        match SoundReel::open(&name) {
            Ok(_) if is_damaged => {}
            Ok(reel) => {
                // Modification times tell which sound was heard last.
                let _ = File::options().append(true).open(&name).and_then(|file| file.set_modified(now()));
                return Ok(Some(reel));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => warn!("{}: {error}; it will be made again", name.display()),
        }
        let part = name.with_extension(format!("part-{}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&part)?;
        let made = self.make(path, order, &file).and_then(|made| {
            if made {
                fs::rename(&part, &name)?;
            }
            Ok(made)
        });
        match made {
            Ok(true) => {
                self.evict(dir, &name);
                Ok(Some(SoundReel::from_file(file)?))
            }
            other => {
                let _ = fs::remove_file(&part);
                other.map(|_| None)
            }
        }
    }

    /// Whether the film has sound, which is in `file` now.
    fn make(&self, path: &Path, order: &SoundOrder, file: &File) -> Result<bool, super::make::MakeError> {
        let made = make(path, order, file)?;
        if let Some(made) = made
            && made.broken > 0
        {
            let sentence = format!(
                "the sound of {} is damaged: {} packets of it are silence",
                path.display(),
                made.broken
            );
            if lock(&self.state).logged.insert(sentence.clone()) {
                warn!("{sentence}");
            }
        }
        if made.is_some() {
            info!("made the sound of {}", path.display());
        }
        Ok(made.is_some())
    }

    /// Removes the sound that was not heard for longest, until what is left takes no more than its share.
    fn evict(&self, dir: &Path, newest: &Path) {
        let Ok(entries) = fs::read_dir(dir) else { return };
        let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|extension| extension == EXTENSION))
            .filter_map(|entry| {
                let metadata = entry.metadata().ok()?;
                Some((metadata.modified().ok()?, metadata.len(), entry.path()))
            })
            .collect();
        files.sort();
        let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in files {
            if total <= self.bytes || path == newest {
                break;
            }
            total -= bytes;
            let _ = fs::remove_file(path);
        }
    }
}

/// The name of the sound of a film as its file is now.
fn digest(path: &Path, order: &SoundOrder, file_state: FileState) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(path.as_os_str().as_bytes());
    hasher.update(format!("\0{order:?}{file_state:?}{VERSION}").as_bytes());
    hasher.finalize().to_hex()[..32].to_owned()
}

#[expect(clippy::disallowed_methods, reason = "a shell: it notes when sound was heard")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lineup::SoundChoice;

    fn order() -> SoundOrder {
        SoundOrder {
            choice: SoundChoice::Auto,
            length: SoundOrder::samples(Duration::from_secs(24)),
            bitrate: 64_000,
            loudness: false,
        }
    }

    #[test]
    fn a_film_that_waits_for_its_turn_is_in_the_queue_once() {
        let store = SoundStore::new(None, u64::MAX);
        let (orders, queue) = mpsc::channel();
        store.orders.set(orders).unwrap();
        let wanted = (PathBuf::from("/there/is/none.mp4"), order());
        (0..3).for_each(|_| store.want(&wanted.0, &wanted.1));
        assert_eq!(queue.try_iter().count(), 1);
        // The thread has worked on it. It may have been changed since.
        store.maker.work(&wanted);
        (0..3).for_each(|_| store.want(&wanted.0, &wanted.1));
        assert_eq!(queue.try_iter().count(), 1);
    }

    #[test]
    fn sound_that_was_damaged_on_the_disk_is_made_again() {
        let folder = tempfile::TempDir::new().unwrap();
        let film = Path::new(env!("CARGO_MANIFEST_DIR")).join("media/nature.mp4");
        let dir = folder.path().join("sound");
        let store = SoundStore::new(Some(dir.clone()), u64::MAX);
        let (orders, queue) = mpsc::channel();
        store.orders.set(orders).unwrap();
        let found = || {
            queue.try_iter().for_each(|wanted| store.maker.work(&wanted));
            let Found::Here(reel) = store.find(&film, &order()) else { panic!("no sound") };
            reel
        };
        store.want(&film, &order());
        let reel = found();
        let file = fs::read_dir(&dir).unwrap().next().unwrap().unwrap().path();
        let mut bytes = fs::read(&file).unwrap();
        bytes[1000] ^= 1;
        fs::write(&file, bytes).unwrap();
        assert!(reel.try_block(0).is_err(), "the first second is damaged");

        // As two stations do that hear it.
        (0..2).for_each(|_| store.discard(&film, &order(), &reel));
        let anew = found();
        assert!(anew.try_block(0).unwrap().is_some());
        store.discard(&film, &order(), &reel);
        assert!(Arc::ptr_eq(&anew, &found()), "it was made again already");
    }
}
