//! The recording of a film: it is decoded and encoded once, into a [growing reel](GrowingReel), for all stations that
//! play it meanwhile.
//!
//! ```text
//! film -> decode -> encode -> Recorder -> GrowingReel -> station 1, at its own place
//!                                                   \--> station 2, at its own place
//! ```
//!
//! The [queue](super::recording_queue) decides when a recording has a turn on a thread. It runs ahead of the stations as
//! far as the machine allows. Where it is slower than they play, they wait for it, and it still goes on to its end.

#![expect(clippy::disallowed_methods, reason = "a shell: it knows for how long its pictures last")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::info;

use super::catalogue::Catalogue;
use super::decode::PictureSource;
use super::encode::Encoder;
use super::reel::{Encoding, GrowingReel, RecordError, Recorder, Reel, ReelKey};
use super::timeline::Timeline;
use super::worker::{Priority, STUCK_AFTER};
use super::{Fault, lock};
use crate::clock::AirClock;
use crate::media::{AirTime, FrameRate};

/// A disk that has not answered for this long hangs: a write of half a second of film takes milliseconds.
const DISK_PATIENCE: Duration = Duration::from_millis(500);

/// A recording whose pictures last for less than this, until the first of its stations runs out of them, has short
/// turns, so that the turns of other recordings come soon.
const URGENT: Duration = Duration::from_secs(2);

/// Pictures of a turn while the stations wait for each of them, and of any other turn: some 10 ms and 40 ms of work.
const SHORT_TURN: usize = 4;
const LONG_TURN: usize = 16;

/// How far a recording is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// The pictures that were recorded, and the film's nominal rate; `None` before the film is open.
    pub(crate) reel: Option<(Arc<GrowingReel>, FrameRate)>,
    /// The number of those pictures.
    pub(crate) len: usize,
    /// Why no more pictures come; `None` while some will.
    pub(crate) end: Option<RecordingEnd>,
}

/// Why a recording has ended.
#[derive(Debug, Clone)]
pub(crate) enum RecordingEnd {
    /// All pictures of the film are there, and this is its length.
    Complete(Duration),
    /// The film cannot be recorded, or no further. It may still be played from its file.
    NoReel,
    /// The film cannot go on.
    Failed(Arc<Fault>),
}

/// Which film is recorded, in which encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum RecordingKey {
    /// The film that the reel's key is of.
    Film(ReelKey),
    /// A film that is not hashed yet: the [glance](super::reel::Store::glance) at its file. A large film is on air, and
    /// recorded, while it is hashed.
    File(ReelKey),
}

impl RecordingKey {
    /// The encoding.
    fn encoding(self) -> Encoding {
        let (RecordingKey::Film(key) | RecordingKey::File(key)) = self;
        key.encoding()
    }
}

/// The recording of a film, which its stations and the queue share.
pub(crate) struct Recording {
    key: RecordingKey,
    path: PathBuf,
    /// How long the film is on, if it is a picture.
    slide: Duration,
    catalogue: Arc<Catalogue>,
    clock: AirClock,
    progress: watch::Sender<Progress>,
    /// The time from the first picture to the last one that was recorded, in nanoseconds.
    recorded: AtomicU64,
    /// When picture 0 is due on each station that plays the recording, in nanoseconds of air time.
    begins: Mutex<Vec<Weak<AtomicU64>>>,
    stage: Mutex<Stage>,
    turn: Mutex<Option<Turn>>,
    /// The reel, once it is complete, so that it is not evicted while stations play it from the recording.
    finished: OnceLock<Arc<Reel>>,
}

/// What is there of a recording between two turns.
enum Stage {
    /// Nothing was opened yet.
    New,
    /// The film is open.
    Open(Box<OpenRecording>),
    /// A thread has it, or the recording has ended.
    Taken,
}

/// A recording whose film is open.
struct OpenRecording {
    film: Box<dyn PictureSource>,
    encoder: Encoder,
    recorder: Recorder,
    /// A time line for the reel alone, which starts at the Unix epoch: the reel does not depend on when the film is on
    /// air.
    timeline: Timeline,
}

/// A turn that has not ended.
#[derive(Debug, Clone, Copy)]
struct Turn {
    priority: Priority,
    /// When the work on one picture, or one access to the disk, began.
    since: Instant,
    /// Whether the turn waits for the disk that holds the reels.
    writes: bool,
}

/// Why a turn ends the recording.
enum TurnEnd {
    Failed(Fault),
    NoReel(RecordError),
}

impl<F: Into<Fault>> From<F> for TurnEnd {
    fn from(fault: F) -> TurnEnd {
        TurnEnd::Failed(fault.into())
    }
}

impl Recording {
    pub(super) fn new(
        catalogue: Arc<Catalogue>,
        clock: AirClock,
        key: RecordingKey,
        path: PathBuf,
        slide: Duration,
    ) -> Recording {
        Recording {
            key,
            path,
            slide,
            catalogue,
            clock,
            progress: watch::Sender::default(),
            recorded: AtomicU64::new(0),
            begins: Mutex::default(),
            stage: Mutex::new(Stage::New),
            turn: Mutex::default(),
            finished: OnceLock::new(),
        }
    }

    pub(super) fn key(&self) -> RecordingKey {
        self.key
    }

    /// Whether this is the recording of `key` or of `path` as the file is now: of one film, one station may know the
    /// hash already, and another not yet.
    pub(super) fn is_of(&self, key: RecordingKey, file_key: Option<ReelKey>) -> bool {
        self.key == key || file_key.is_some_and(|file_key| self.key == RecordingKey::File(file_key))
    }

    pub(super) fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    /// A place at the beginning of the film.
    pub(super) fn join(self: &Arc<Self>) -> RecordingReader {
        let begin = Arc::new(AtomicU64::new(self.clock.now().0));
        let mut begins = lock(&self.begins);
        begins.retain(|begin| begin.strong_count() > 0);
        begins.push(Arc::downgrade(&begin));
        RecordingReader { recording: self.clone(), progress: self.progress.subscribe(), begin }
    }

    /// When the first of its stations runs out of pictures; `None` if no station plays it.
    pub(super) fn deadline(&self) -> Option<AirTime> {
        let begins = lock(&self.begins);
        let first = begins.iter().filter_map(Weak::upgrade).map(|begin| begin.load(Relaxed)).min()?;
        Some(AirTime(first) + Duration::from_nanos(self.recorded.load(Relaxed)))
    }

    /// The priority of its next turn. A decoder's own threads have the priority of the thread that opens it, so a film
    /// that no station plays is opened at normal priority too.
    pub(super) fn wanted_priority(&self) -> Priority {
        let new = || matches!(*lock(&self.stage), Stage::New);
        if self.deadline().is_some() || new() { Priority::Normal } else { Priority::Idle }
    }

    /// Whether all turns were taken.
    pub(super) fn has_ended(&self) -> bool {
        self.progress.borrow().end.is_some() && lock(&self.turn).is_none()
    }

    /// The priority of the turn that it has now, unless that does not get on.
    pub(super) fn runs(&self) -> Option<Priority> {
        let turn = (*lock(&self.turn))?;
        (!turn.hangs()).then_some(turn.priority)
    }

    /// Whether it has a turn now.
    pub(super) fn has_turn(&self) -> bool {
        lock(&self.turn).is_some()
    }

    /// Whether its turn waits for something that does not answer.
    pub(super) fn hangs(&self) -> bool {
        lock(&self.turn).is_some_and(|turn| turn.hangs())
    }

    /// Whether its turn waits for a disk of the reels that does not answer.
    pub(super) fn waits_for_disk(&self) -> bool {
        lock(&self.turn).is_some_and(|turn| turn.waits_for_disk())
    }

    /// Begins a turn at `priority`. The queue, which has one lock for all recordings, calls this.
    pub(super) fn begin_turn(&self, priority: Priority) {
        *lock(&self.turn) = Some(Turn { priority, since: Instant::now(), writes: false });
    }

    /// Decodes, encodes and records the next pictures. Blocks.
    pub(super) fn take_turn(&self) {
        let result = catch_unwind(AssertUnwindSafe(|| self.record())).unwrap_or(Err(Fault::Crashed.into()));
        match result {
            Ok(()) => {}
            Err(TurnEnd::Failed(fault)) => self.ends(RecordingEnd::Failed(Arc::new(fault))),
            Err(TurnEnd::NoReel(error)) => {
                // The catalogue has said why there is no recorder.
                if !matches!(error, RecordError::GivenUp) {
                    self.catalogue.log_no_reel(&self.path, &error);
                }
                self.ends(RecordingEnd::NoReel);
            }
        }
        *lock(&self.turn) = None;
    }

    fn ends(&self, end: RecordingEnd) {
        self.progress.send_modify(|progress| {
            progress.end.get_or_insert(end);
        });
    }

    /// Notes that the work on one picture, or one access to the disk, begins.
    fn note(&self, writes: bool) {
        if let Some(turn) = &mut *lock(&self.turn) {
            (turn.since, turn.writes) = (Instant::now(), writes);
        }
    }

    fn priority(&self) -> Priority {
        lock(&self.turn).map_or(Priority::Normal, |turn| turn.priority)
    }

    fn record(&self) -> Result<(), TurnEnd> {
        let mut open = match std::mem::replace(&mut *lock(&self.stage), Stage::Taken) {
            Stage::New => self.open()?,
            Stage::Open(open) => open,
            Stage::Taken => return Ok(()),
        };
        let idle = self.priority() == Priority::Idle;
        let most = match self.deadline() {
            // It was opened, and has its next turn at idle priority.
            None if !idle => 0,
            Some(deadline) if self.clock.until(deadline) < URGENT => SHORT_TURN,
            _ => LONG_TURN,
        };
        for _ in 0..most {
            self.note(false);
            let picture = match open.film.next_picture() {
                Ok(Some(picture)) => picture,
                Ok(None) => return self.complete(*open),
                Err(error) => {
                    self.publish(&mut open)?;
                    return Err(error.into());
                }
            };
            open.timeline.next(picture.stamp);
            open.timeline.lasts(picture.lasts);
            let encoded = open.encoder.encode(&picture.pixels, open.film.pixel_aspect());
            if encoded.is_err() {
                self.publish(&mut open)?;
            }
            self.note(true);
            open.recorder.add(open.timeline.film_offset(), &encoded?.jpeg).map_err(TurnEnd::NoReel)?;
            // A station that begins to play it meanwhile does not wait for a thread of idle priority.
            if idle && self.deadline().is_some() {
                break;
            }
        }
        self.publish(&mut open)?;
        *lock(&self.stage) = Stage::Open(open);
        Ok(())
    }

    fn open(&self) -> Result<Box<OpenRecording>, TurnEnd> {
        self.note(true);
        let recorder = self.catalogue.recorder(self.key, &self.path, self.slide);
        let mut recorder = recorder.ok_or(TurnEnd::NoReel(RecordError::GivenUp))?;
        self.note(false);
        let mut film = self.catalogue.open(&self.path)?;
        film.show_for(self.slide);
        let encoding = self.key.encoding();
        let encoder = Encoder::new(encoding.size, encoding.quality)?;
        recorder.expect(film.announced());
        let rate = film.rate();
        let mut timeline = Timeline::new(AirTime::default(), rate);
        timeline.begin_film(rate, AirTime::default());
        let growing = recorder.growing().map(|growing| (growing, rate));
        self.progress.send_modify(|progress| progress.reel = growing);
        Ok(Box::new(OpenRecording { film, encoder, recorder, timeline }))
    }

    /// Gives the stations all pictures that were encoded.
    fn publish(&self, open: &mut OpenRecording) -> Result<(), TurnEnd> {
        self.note(true);
        open.recorder.flush().map_err(TurnEnd::NoReel)?;
        self.recorded.store(open.timeline.film_offset().as_nanos() as u64, Relaxed);
        let written = open.recorder.growing().map_or(0, |growing| growing.len());
        self.progress.send_modify(|progress| progress.len = written);
        Ok(())
    }

    /// Makes a reel after the film's last picture.
    fn complete(&self, mut open: OpenRecording) -> Result<(), TurnEnd> {
        self.publish(&mut open)?;
        let OpenRecording { film, recorder, timeline, encoder } = open;
        drop((film, encoder));
        // The stations need nothing more, whatever becomes of the reel.
        self.ends(RecordingEnd::Complete(timeline.film_length()));
        let reel = recorder
            .finish(timeline.rate(), timeline.film_length(), self.clock.now())
            .map_err(TurnEnd::NoReel)?;
        info!("recorded a reel of {}: {} pictures", self.path.display(), reel.len());
        let _ = self.finished.set(reel);
        Ok(())
    }
}

impl Turn {
    fn hangs(&self) -> bool {
        self.since.elapsed() > STUCK_AFTER || self.waits_for_disk()
    }

    fn waits_for_disk(&self) -> bool {
        self.writes && self.since.elapsed() > DISK_PATIENCE
    }
}

/// The place of a station in a recording.
pub(crate) struct RecordingReader {
    recording: Arc<Recording>,
    progress: watch::Receiver<Progress>,
    begin: Arc<AtomicU64>,
}

impl RecordingReader {
    /// How far the recording is.
    pub(crate) fn progress(&mut self) -> Progress {
        self.progress.borrow_and_update().clone()
    }

    /// Waits until the recording is further than when [`progress`](Self::progress) was asked last.
    pub(crate) async fn changed(&mut self) {
        // The sender is in `recording`, so it is not gone.
        let _ = self.progress.changed().await;
    }

    /// The film.
    pub(crate) fn path(&self) -> &Path {
        &self.recording.path
    }

    /// Tells the recording when picture 0 is due on this station.
    pub(crate) fn begins(&self, begin: AirTime) {
        self.begin.store(begin.0, Relaxed);
    }

    /// Whether the film's decoder hangs.
    pub(crate) fn is_stuck(&self) -> bool {
        self.recording.hangs() && !self.recording.waits_for_disk()
    }
}
