//! The queue of recordings: which film is decoded, encoded and recorded next, on which thread.
//!
//! Each turn of a section of a recording is some pictures. At most one thread a core takes turns at normal priority, for
//! those that stations play: the one whose stations run out of pictures first has the next turn. So six films that begin at the
//! same time are all on air after a moment, and a film that is far ahead waits for the others. At most one thread a core
//! takes turns at idle priority, for recordings that no station plays yet, or any more.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::catalogue::Catalogue;
use super::lock;
use super::recording::{Progress, Recording, RecordingKey, RecordingReader, Section};
use super::reel::ReelKey;
use super::worker::{Priority, Threads};
use crate::clock::AirClock;
use crate::media::{AirTime, StationId};
use crate::memory;

/// No film is recorded beforehand unless there is room for so many bytes: five minutes of pictures. It would take the room of a film
/// that is on air, or remove a reel that is aired next.
const ROOM_BEFOREHAND: u64 = 200_000_000;

/// Sections of films that stations play, a core, beyond which none begins in the middle of a film: each has a decoder
/// open, and is recorded as fast as it is played.
const SECTIONS_A_CORE: usize = 4;

/// Most recordings that have ended and are remembered, if no station wishes for their films.
const MOST_ENDED: usize = 1000;

/// Most turns that may hang at once. With more, no recording begins: each of them holds a thread.
const MAX_HANGING: usize = 8;

/// The recordings of a broadcaster.
pub(crate) struct RecordingQueue {
    clock: AirClock,
    /// Most turns at a time of each priority.
    cores: usize,
    state: Mutex<QueueState>,
}

/// A film of a station's round that has no reel yet.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) key: RecordingKey,
    pub(crate) file_key: Option<ReelKey>,
    pub(crate) path: PathBuf,
    pub(crate) slide: Duration,
    /// Films that the station plays before it.
    pub(crate) films_before: usize,
}

#[derive(Default)]
struct QueueState {
    recordings: Vec<Arc<Recording>>,
    /// The films that each station will play in its round.
    wishes: HashMap<StationId, Vec<Wish>>,
    /// Recordings that have ended. Such a film is recorded again only when it is on air, so that nothing is tried for ever.
    ended: HashSet<RecordingKey>,
    /// Threads that were started and have not begun their first turn, of normal and of idle priority.
    starting: [usize; 2],
}

impl QueueState {
    /// All sections of all recordings.
    fn sections(&self) -> impl Iterator<Item = (&Arc<Recording>, Arc<Section>)> {
        self.recordings
            .iter()
            .flat_map(|recording| recording.sections().into_iter().map(move |section| (recording, section)))
    }

    /// The section that has the next turn at `priority`, if there is one.
    fn next(&self, priority: Priority) -> Option<(&Arc<Recording>, Arc<Section>)> {
        let deadline = |(_, section): &(_, Arc<Section>)| section.deadline().map_or(u64::MAX, |at| at.0);
        self.waiting(priority).min_by_key(deadline)
    }

    /// Sections that wait for a turn at `priority`.
    fn waiting(&self, priority: Priority) -> impl Iterator<Item = (&Arc<Recording>, Arc<Section>)> {
        self.sections().filter(move |(_, section)| {
            !section.has_turn() && !section.has_ended() && section.wanted_priority() == priority
        })
    }

    /// Sections that stations play and that are not there yet.
    fn played(&self) -> usize {
        self.sections().filter(|(_, section)| !section.has_ended() && section.deadline().is_some()).count()
    }

    /// The film to record beforehand: the one that most stations wish for, and of those the one that is on air soonest. `None` if
    /// there is none, or if `most` films are recorded beforehand already.
    fn most_wanted(&self, most: usize) -> Option<Wish> {
        let beforehand = self.recordings.iter().filter(|recording| recording.deadline().is_none());
        if beforehand.count() >= most || self.hanging() >= most {
            return None;
        }
        let mut wanted: HashMap<RecordingKey, (usize, Reverse<usize>, &Wish)> = HashMap::new();
        for wish in self.wishes.values().flatten() {
            let recorded = self.recordings.iter().any(|recording| recording.is_of(wish.key, wish.file_key));
            if !recorded && !self.ended.contains(&wish.key) {
                let (stations, before, _) = wanted.entry(wish.key).or_insert((0, Reverse(usize::MAX), wish));
                *stations += 1;
                *before = (*before).max(Reverse(wish.films_before));
            }
        }
        let (_, _, wish) = wanted.into_values().max_by_key(|&(stations, before, _)| (stations, before))?;
        Some(wish.clone())
    }

    /// Turns that hang.
    fn hanging(&self) -> usize {
        self.sections().filter(|(_, section)| section.hangs()).count()
    }

    /// Notes the recordings that have ended, and drops them.
    fn clear(&mut self) {
        let (ended, left) = std::mem::take(&mut self.recordings).into_iter().partition(|one| one.has_ended());
        self.recordings = left;
        let ended: Vec<Arc<Recording>> = ended;
        self.ended.extend(ended.iter().map(|recording| recording.key()));
        if self.ended.len() > MOST_ENDED {
            let wished: HashSet<RecordingKey> = self.wishes.values().flatten().map(|wish| wish.key).collect();
            self.ended.retain(|key| wished.contains(key));
        }
    }

    /// Turns at `priority` that have begun and get on.
    fn running(&self, priority: Priority) -> usize {
        self.sections().filter(|(_, section)| section.runs() == Some(priority)).count()
    }
}

#[cfg(test)]
mod tests;

impl RecordingQueue {
    /// A queue without recordings.
    pub(crate) fn new(clock: AirClock) -> RecordingQueue {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        RecordingQueue { clock, cores, state: Mutex::default() }
    }

    /// A place in the recording of a film, which begins if no other station plays it: at the film's beginning, or `at` an
    /// offset in a film whose first picture was due at a moment. If too many sections are recorded to begin another one
    /// there, the place is at the beginning; tells whether it is where it was to be. `None` if too many recordings hang.
    /// Does not block.
    pub(crate) fn join(
        self: &Arc<Self>,
        catalogue: &Arc<Catalogue>,
        threads: &Threads,
        (key, file_key): (RecordingKey, Option<ReelKey>),
        (path, slide): (&Path, Duration),
        at: Option<(Duration, AirTime)>,
    ) -> Option<(RecordingReader, bool)> {
        let mut state = lock(&self.state);
        state.clear();
        let known = state.recordings.iter().find(|recording| recording.is_of(key, file_key)).cloned();
        let recording = match known {
            Some(recording) => recording,
            None if state.hanging() >= MAX_HANGING => return None,
            None => {
                let recording =
                    Recording::new(catalogue.clone(), self.clock.clone(), key, path.to_owned(), slide);
                Arc::new(recording)
            }
        };
        let room = state.played() < SECTIONS_A_CORE * self.cores;
        let there = at.and_then(|(place, begin)| recording.join(place, Some(begin), room));
        let is_there = there.is_some();
        let reader = there.or_else(|| recording.join(Duration::ZERO, None, room))?;
        if !state.recordings.iter().any(|known| Arc::ptr_eq(known, &recording)) {
            state.recordings.push(recording);
        }
        drop(state);
        self.start_threads(threads);
        Some((reader, is_there))
    }

    /// How far the section is recorded that has the picture at the offset `place` in a film; `None` if none has it yet.
    /// Does not block.
    pub(crate) fn recorded(
        &self,
        (key, file_key): (RecordingKey, Option<ReelKey>),
        place: Duration,
    ) -> Option<Progress> {
        let state = lock(&self.state);
        state.recordings.iter().find(|recording| recording.is_of(key, file_key))?.recorded(place)
    }

    /// Replaces what a station wishes to be recorded before it is on air. Does not block.
    pub(crate) fn wish(
        self: &Arc<Self>,
        catalogue: &Arc<Catalogue>,
        threads: &Threads,
        station: StationId,
        wishes: Vec<Wish>,
    ) {
        lock(&self.state).wishes.insert(station, wishes);
        self.record_beforehand(catalogue);
        self.start_threads(threads);
    }

    /// Forgets the wishes of the stations that are there no more. Does not block.
    pub(crate) fn forget_gone(&self, is_there: impl Fn(StationId) -> bool) {
        lock(&self.state).wishes.retain(|station, _| is_there(*station));
    }

    /// How many stations have wishes.
    #[cfg(test)]
    pub(crate) fn wishing(&self) -> usize {
        lock(&self.state).wishes.len()
    }

    /// Begins to record the films that are wanted most, within the bounds.
    fn record_beforehand(&self, catalogue: &Arc<Catalogue>) {
        if !catalogue.has_room(ROOM_BEFOREHAND) {
            return;
        }
        let mut state = lock(&self.state);
        while let Some(Wish { key, path, slide, .. }) = state.most_wanted(self.cores) {
            let recording = Recording::new(catalogue.clone(), self.clock.clone(), key, path, slide);
            state.recordings.push(Arc::new(recording.beforehand()));
        }
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
        let (recording, section) = {
            let mut state = lock(&self.state);
            state.starting[priority as usize] -= usize::from(first);
            state.clear();
            let room = state.running(priority) < self.cores;
            let Some((recording, section)) = state.next(priority).filter(|_| room) else { return false };
            section.begin_turn(priority);
            (recording.clone(), section)
        };
        recording.take_turn(&section);
        if recording.has_ended() {
            lock(&self.state).clear();
            self.record_beforehand(recording.catalogue());
            // Measured with 50 stations of 6 films: 306 MB after all recordings without this, 128 MB where they had been prepared.
            memory::give_back();
        }
        drop(recording);
        self.start_threads(threads);
        true
    }
}
