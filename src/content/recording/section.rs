//! A section of a film that is recorded: from a place in the film to its end, or to where another section begins.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Progress, RecordingEnd};
use crate::content::decode::PictureSource;
use crate::content::encode::Encoder;
use crate::content::lock;
use crate::content::reel::Recorder;
use crate::content::timeline::Timeline;
use crate::content::worker::{Priority, STUCK_AFTER};
use crate::media::AirTime;

/// A disk that has not answered for this long hangs: a write of half a second of film takes milliseconds.
const DISK_PATIENCE: Duration = Duration::from_millis(500);

/// A section of a film, which its stations and the queue share.
pub(in crate::content) struct Section {
    /// The offset in the film at which it begins: the first picture is the one that is on then.
    pub(super) from: Duration,
    pub(super) progress: watch::Sender<Progress>,
    /// The time from the film's first picture to the last one that was recorded, in nanoseconds.
    pub(super) recorded: AtomicU64,
    /// When the film's first picture is due on each station that plays the section, in nanoseconds of air time.
    begins: Mutex<Vec<Weak<AtomicU64>>>,
    pub(super) stage: Mutex<Stage>,
    turn: Mutex<Option<Turn>>,
}

/// The state of a section between two turns.
pub(super) enum Stage {
    /// Nothing was opened yet.
    New,
    /// The film is open.
    Open(Box<OpenSection>),
    /// A thread has it, or the section has ended.
    Taken,
}

/// A section whose film is open.
pub(super) struct OpenSection {
    pub(super) film: Box<dyn PictureSource>,
    pub(super) encoder: Encoder,
    pub(super) recorder: Recorder,
    /// A time line for the reel alone, which starts at the Unix epoch: the reel does not depend on when the film is on
    /// air.
    pub(super) timeline: Timeline,
    /// Whether no picture of it was decoded yet.
    pub(super) is_new: bool,
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

impl Section {
    pub(super) fn new(from: Duration) -> Section {
        Section {
            from,
            progress: watch::Sender::default(),
            recorded: AtomicU64::new(from.as_nanos() as u64),
            begins: Mutex::default(),
            stage: Mutex::new(Stage::New),
            turn: Mutex::default(),
        }
    }

    /// Enters a station on which the film's first picture is due, or was, at `begin`.
    pub(super) fn enter(&self, begin: AirTime) -> Arc<AtomicU64> {
        let begin = Arc::new(AtomicU64::new(begin.0));
        let mut begins = lock(&self.begins);
        begins.retain(|begin| begin.strong_count() > 0);
        begins.push(Arc::downgrade(&begin));
        begin
    }

    /// When the first of its stations runs out of pictures; `None` if no station plays it.
    pub(in crate::content) fn deadline(&self) -> Option<AirTime> {
        let begins = lock(&self.begins);
        let first = begins.iter().filter_map(Weak::upgrade).map(|begin| begin.load(Relaxed)).min()?;
        Some(AirTime(first) + Duration::from_nanos(self.recorded.load(Relaxed)))
    }

    /// The priority of its next turn. A decoder's own threads have the priority of the thread that opens it, so a film
    /// that no station plays is opened at normal priority too.
    pub(in crate::content) fn wanted_priority(&self) -> Priority {
        let new = || matches!(*lock(&self.stage), Stage::New);
        if self.deadline().is_some() || new() { Priority::Normal } else { Priority::Idle }
    }

    /// Whether no more of its pictures will be recorded.
    pub(in crate::content) fn has_ended(&self) -> bool {
        self.progress.borrow().end.is_some()
    }

    /// The priority of the turn that it has now, unless that does not get on.
    pub(in crate::content) fn runs(&self) -> Option<Priority> {
        let turn = (*lock(&self.turn))?;
        (!turn.hangs()).then_some(turn.priority)
    }

    /// Whether it has a turn now.
    pub(in crate::content) fn has_turn(&self) -> bool {
        lock(&self.turn).is_some()
    }

    /// Whether its turn waits for something that does not answer.
    pub(in crate::content) fn hangs(&self) -> bool {
        lock(&self.turn).is_some_and(|turn| turn.hangs())
    }

    /// Whether its turn waits for a disk of the reels that does not answer.
    pub(in crate::content) fn waits_for_disk(&self) -> bool {
        lock(&self.turn).is_some_and(|turn| turn.waits_for_disk())
    }

    /// Begins a turn at `priority`. The queue, which has one lock for all recordings, calls this.
    pub(in crate::content) fn begin_turn(&self, priority: Priority) {
        *lock(&self.turn) = Some(Turn { priority, since: Instant::now(), writes: false });
    }

    pub(super) fn end_turn(&self) {
        *lock(&self.turn) = None;
    }

    pub(super) fn ends(&self, end: RecordingEnd) {
        self.progress.send_modify(|progress| {
            progress.end.get_or_insert(end);
        });
    }

    /// Notes that the work on one picture, or one access to the disk, begins.
    pub(super) fn note(&self, writes: bool) {
        if let Some(turn) = &mut *lock(&self.turn) {
            (turn.since, turn.writes) = (Instant::now(), writes);
        }
    }

    pub(super) fn priority(&self) -> Priority {
        lock(&self.turn).map_or(Priority::Normal, |turn| turn.priority)
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
