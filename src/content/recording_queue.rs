//! The queue of recordings: which film is decoded, encoded and recorded next, on which thread.
//!
//! Each turn of a recording is some pictures. At most one thread a core takes turns at normal priority, for recordings
//! that stations play: the one whose stations run out of pictures first has the next turn. So six films that begin at the
//! same time are all on air after a moment, and a film that is far ahead waits for the others. At most one thread a core
//! takes turns at idle priority, for recordings that no station plays yet, or any more.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::catalogue::Catalogue;
use super::lock;
use super::recording::{Recording, RecordingKey, RecordingReader};
use super::reel::ReelKey;
use super::worker::{Priority, Threads};
use crate::clock::AirClock;
use crate::media::AirTime;

/// Most turns that may hang at once. With more, no recording begins: each of them holds a thread.
const MAX_HANGING: usize = 8;

/// The recordings of a broadcaster.
pub(crate) struct RecordingQueue {
    clock: AirClock,
    /// Most turns at a time of each priority.
    cores: usize,
    state: Mutex<QueueState>,
}

#[derive(Default)]
struct QueueState {
    recordings: Vec<Arc<Recording>>,
    /// Threads that were started and have not begun their first turn, of normal and of idle priority.
    starting: [usize; 2],
}

impl QueueState {
    /// The next recording to have a turn at `priority`, if there is one.
    fn next(&self, priority: Priority) -> Option<&Arc<Recording>> {
        let deadline =
            |recording: &&Arc<Recording>| recording.deadline().map_or(u64::MAX, |AirTime(nanos)| nanos);
        self.waiting(priority).min_by_key(deadline)
    }

    /// Recordings that wait for a turn at `priority`.
    fn waiting(&self, priority: Priority) -> impl Iterator<Item = &Arc<Recording>> {
        let waiting = self.recordings.iter().filter(|recording| !recording.has_turn());
        waiting.filter(move |recording| recording.wanted_priority() == priority)
    }

    /// Turns at `priority` that have begun and get on.
    fn running(&self, priority: Priority) -> usize {
        self.recordings.iter().filter(|recording| recording.runs() == Some(priority)).count()
    }
}

impl RecordingQueue {
    /// A queue without recordings.
    pub(crate) fn new(clock: AirClock) -> RecordingQueue {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        RecordingQueue { clock, cores, state: Mutex::default() }
    }

    /// A place at the beginning of the recording of a film, which begins if no other station plays it. `None` if too
    /// many recordings hang. Does not block.
    pub(crate) fn join(
        self: &Arc<Self>,
        catalogue: &Arc<Catalogue>,
        threads: &Threads,
        (key, file_key): (RecordingKey, Option<ReelKey>),
        path: &Path,
        slide: Duration,
    ) -> Option<RecordingReader> {
        let mut state = lock(&self.state);
        state.recordings.retain(|recording| !recording.has_ended());
        let known = state.recordings.iter().find(|recording| recording.is_of(key, file_key));
        let reader = match known {
            Some(recording) => recording.join(),
            None if state.recordings.iter().filter(|recording| recording.hangs()).count() >= MAX_HANGING => {
                return None;
            }
            None => {
                let recording =
                    Recording::new(catalogue.clone(), self.clock.clone(), key, path.to_owned(), slide);
                let recording = Arc::new(recording);
                let reader = recording.join();
                state.recordings.push(recording);
                reader
            }
        };
        drop(state);
        self.start_threads(threads);
        Some(reader)
    }

    /// Whether the disk of the reels does not answer.
    pub(crate) fn disk_hangs(&self) -> bool {
        lock(&self.state).recordings.iter().any(|recording| recording.waits_for_disk())
    }

    /// Starts as many threads as there are recordings that wait for a turn, within the bounds.
    pub(crate) fn start_threads(self: &Arc<Self>, threads: &Threads) {
        for priority in [Priority::Normal, Priority::Idle] {
            let mut state = lock(&self.state);
            let busy = state.running(priority) + state.starting[priority as usize];
            let room = self.cores.saturating_sub(busy);
            let wanted = state.waiting(priority).count().saturating_sub(state.starting[priority as usize]);
            let start = room.min(wanted);
            state.starting[priority as usize] += start;
            drop(state);
            for _ in 0..start {
                let (queue, again) = (self.clone(), threads.clone());
                let mut first = true;
                threads.take_turns(priority, move || {
                    queue.take_turn(priority, std::mem::replace(&mut first, false), &again)
                });
            }
        }
    }

    /// Takes the next turn at `priority`. Returns false if there is none.
    fn take_turn(self: &Arc<Self>, priority: Priority, first: bool, threads: &Threads) -> bool {
        let recording = {
            let mut state = lock(&self.state);
            state.starting[priority as usize] -= usize::from(first);
            state.recordings.retain(|recording| !recording.has_ended());
            let room = state.running(priority) < self.cores;
            let Some(recording) = state.next(priority).filter(|_| room).cloned() else { return false };
            recording.begin_turn(priority);
            recording
        };
        recording.take_turn();
        if recording.has_ended() {
            lock(&self.state).recordings.retain(|other| !Arc::ptr_eq(other, &recording));
        }
        drop(recording);
        self.start_threads(threads);
        true
    }
}
