//! A round of the programme: its films one after the other, from their reels where there are any, and the
//! slate when there is none to play.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, warn};

use super::{LEAST_LEAD, RETRY, START_LEAD, Station, Workers};
use crate::content::catalogue::FoundReel;
use crate::content::playlist::{PlaylistItem, look_up};
use crate::content::recording;
use crate::content::reel::{Reel, ReelError, ReelKey};
use crate::content::schedule::Schedule;
use crate::content::transcode::{Prepared, Transcoder};
use crate::content::worker::{BlockingWorker, STUCK};
use crate::content::{Fault, LONGEST_PAUSE};
use crate::directory::State;
use crate::lineup;
use crate::media::jpeg::{Jpeg, Tables};
use crate::media::{AirTime, Due, REPEAT_RATE, Unit};

/// How long a round waits for its films to be looked up. A film of some hundred megabytes is read and hashed in that time;
/// of a larger one, seen for the first time, the reel is recorded in the next round.
const LOOKING_UP: Duration = Duration::from_millis(400);

/// What the next film needs before it is due so that no place on the grid stays empty: [`START_LEAD`], a station's own share
/// of an interval, and some milliseconds to look it up.
const OPENING: Duration = Duration::from_millis(160);

/// Pictures read from a reel at a time: a third of a second at 25 a second.
const BATCH: usize = 8;

impl Station {
    /// Plays the programme, round after round, until something fails.
    pub(super) async fn run_once(&mut self) -> Result<Infallible, Fault> {
        loop {
            if self.workers.films.is_stuck() {
                return Err(Fault::Stuck);
            }
            match self.round.pop_front() {
                None => {
                    self.round = self.next_round().await?;
                    self.handle.task.rounds.fetch_add(1, Relaxed);
                }
                Some(PlaylistItem { path, reel: Some(reel), begin, .. })
                    if !self.workers.reels.is_stuck() =>
                {
                    self.play_reel(path, reel, begin).await?;
                }
                Some(PlaylistItem { path, key, .. }) => self.play_film(path, key).await?,
            }
        }
    }

    /// The films of the next round, as the media are now. Never empty.
    ///
    /// When all of them have reels, a station that comes on air joins the round where the time of day has it. One that
    /// is on air goes on without a jump, and remembers how it lies against the time of day.
    async fn next_round(&mut self) -> Result<VecDeque<PlaylistItem>, Fault> {
        // None before the first film: which size that will have is for the disk to say.
        let known = self
            .size
            .filter(|_| self.spec.reel)
            .and_then(|size| self.catalogue.known_round(&self.spec, Some(size)));
        if let Some(known) = known {
            let item = |(path, reel): FoundReel| PlaylistItem {
                path,
                key: Some(*reel.key()),
                reel: Some(reel),
                begin: None,
            };
            let (mut items, reels): (VecDeque<_>, Vec<_>) =
                known.into_iter().map(|found| (item(found.clone()), found.1)).unzip();
            self.place(&mut items, &reels).await?;
            return Ok(items);
        }
        let media = self.spec.media.clone();
        let films = self.workers.films.call(STUCK, move || lineup::films(&media)).await?;
        let films = films.map_err(Fault::Programme)?;
        if films.is_empty() {
            return Err(Fault::NoFilm);
        }
        let item = |path| PlaylistItem { path, key: None, reel: None, begin: None };
        let mut items: VecDeque<PlaylistItem> = films.iter().cloned().map(item).collect();
        if self.spec.reel && self.catalogue.keeps_reels() {
            let (catalogue, spec, size) = (self.catalogue.clone(), self.spec.clone(), self.size);
            let look_up = move || look_up(&catalogue, &spec, size, films);
            match self.workers.reels.call(LOOKING_UP, look_up).await {
                Ok(found) => (items, self.size) = found,
                Err(Fault::Stuck) => {}
                Err(fault) => return Err(fault),
            }
        }
        let reels: Option<Vec<_>> = items.iter().map(|item| item.reel.clone()).collect();
        if let Some(reels) = reels {
            let found: Vec<FoundReel> =
                items.iter().map(|item| item.path.clone()).zip(reels.iter().cloned()).collect();
            self.catalogue.note_round(&self.spec, self.size, &found);
            self.place(&mut items, &reels).await?;
        }
        Ok(items)
    }

    /// Settles when the films of a round begin, and leaves out those that are over.
    async fn place(&mut self, items: &mut VecDeque<PlaylistItem>, reels: &[Arc<Reel>]) -> Result<(), Fault> {
        let keys: Vec<ReelKey> = reels.iter().map(|reel| *reel.key()).collect();
        let (catalogue, group) = (self.catalogue.clone(), self.spec.group);
        let phase = catalogue.phase(group, keys.iter()).unwrap_or(self.phase);
        let Some(programme) = Schedule::new(reels.iter().map(|reel| reel.length()), phase) else {
            return Ok(());
        };
        if self.on_air && self.free_at > self.clock.now() {
            items[0].begin = Some(self.free_at);
            let own = programme.phase_of(self.free_at);
            if own != phase {
                // Nothing waits for it: what is not remembered now is in the next round.
                let remember = move || catalogue.remember(group, keys.iter(), own);
                self.workers.reels.start(STUCK, remember);
            }
        } else {
            let (film, begin) = programme.at(self.free_at.max(self.clock.now() + START_LEAD));
            items.drain(..film);
            items[0].begin = Some(begin);
        }
        Ok(())
    }

    /// Airs a film from its reel, to its end.
    async fn play_reel(
        &mut self,
        path: PathBuf,
        reel: Arc<Reel>,
        begin: Option<AirTime>,
    ) -> Result<(), Fault> {
        let begin = begin.unwrap_or_else(|| self.earliest());
        // A film that is on already is joined where it is. So is one that is over: then nothing is left of it.
        let joined = if self.on_air { self.free_at } else { self.free_at.max(self.clock.now() + START_LEAD) };
        let mut next = first_from(&reel, joined.since(begin));
        let mut shown = false;
        // Behind the last picture that could be read; and whether one could not.
        let (mut good, mut damaged) = (next, false);
        while next < reel.len() {
            // After a stall the programme is where the time of day has it; what would be late is left out.
            let on_time = first_from(&reel, self.clock.now().since(begin)).max(next);
            self.handle.task.skipped.fetch_add((on_time - next) as u64, Relaxed);
            next = on_time;
            // Who removes a film wants it off the air, reel or not; but no picture waits for a folder that is slow to answer.
            match self.catalogue.known_there(&path) {
                Some(there) => there?,
                None if self.workers.films.is_stuck() => return Err(Fault::Stuck),
                None => {
                    let (catalogue, path) = (self.catalogue.clone(), path.clone());
                    self.workers.films.start(STUCK, move || drop(catalogue.still_there(&path)));
                }
            }
            // As a rule the pictures are in memory, and another thread would only be a detour: measured with 999
            // stations, 5 % of a core instead of 15.
            let (units, damage) = match units(&reel, begin, next, Reel::cached) {
                (units, None) if units.is_empty() => {
                    let reel = reel.clone();
                    self.workers.reels.call(STUCK, move || units_from_disk(&reel, begin, next)).await?
                }
                units => units,
            };
            next += units.len();
            if !units.is_empty() {
                good = next;
            }
            for unit in units {
                let squeezed = matches!(unit.jpeg().tables, Tables::Standard(q) if q < self.spec.quality);
                self.handle.task.squeezed.fetch_add(squeezed.into(), Relaxed);
                self.hand_over(unit).await?;
                if !shown {
                    shown = true;
                    self.size = Some(reel.size());
                    self.announce(State::Film, reel.size(), reel.rate());
                }
            }
            // What is damaged is never aired. The others are, at their time, so that the programme stays where it is; and the
            // next round finds no reel and records it again. Where too much is missing, the film itself is better.
            if let Some(error) = damage {
                if !damaged {
                    warn!("station {} \"{}\": {error}; it is made again", self.spec.id, self.spec.name);
                    let (catalogue, reel) = (self.catalogue.clone(), reel.clone());
                    self.workers.reels.call(STUCK, move || catalogue.discard(&reel)).await?;
                }
                damaged = true;
                self.handle.task.skipped.fetch_add(1, Relaxed);
                next += 1;
                if too_much_missing(&reel, good, next) {
                    self.round.clear();
                    return Ok(());
                }
            }
        }
        self.free_at = self.free_at.max(begin + reel.length());
        Ok(())
    }

    /// Plays one film to its end, and records it if that is wanted and nobody else does.
    async fn play_film(&mut self, path: PathBuf, key: Option<ReelKey>) -> Result<(), Fault> {
        let (catalogue, earliest, size) = (self.catalogue.clone(), self.earliest(), self.size);
        let (film, clock) = (path.clone(), self.clock.clone());
        // Not while the reels' disk does not answer.
        let notes = key.filter(|_| !self.workers.reels.is_busy()).map(|key| {
            let (notes, noted) = recording::notes();
            // Nobody waits for it but at the end of the film.
            let write = move || recording::write(&catalogue, &key, &path, &clock, noted);
            self.workers.reels.start(Duration::ZERO, write);
            notes
        });
        self.transcode(films, move |transcoder| transcoder.open(&film, earliest, size, notes)).await??;
        let mut shown = false;
        loop {
            match self.transcode(films, Transcoder::prepare).await?? {
                Prepared::Unit { unit, squeezed } => {
                    self.handle.task.squeezed.fetch_add(squeezed.into(), Relaxed);
                    let size = unit.jpeg().size;
                    self.hand_over(unit).await?;
                    if !shown {
                        shown = true;
                        self.size = Some(size);
                        let rate = self.transcode(films, |transcoder| transcoder.rate()).await?;
                        self.announce(State::Film, size, rate);
                    }
                }
                Prepared::Skipped => {
                    self.handle.task.skipped.fetch_add(1, Relaxed);
                }
                Prepared::Behind(behind) => {
                    let (id, name) = (self.spec.id, &self.spec.name);
                    let seconds = behind.as_secs_f64();
                    warn!("station {id} \"{name}\" stood still for {seconds:.1} s and goes on from here");
                    self.handle.task.skipped.fetch_add(1, Relaxed);
                }
                Prepared::End => {
                    // Waiting for the disk may take longer than the pictures that are on their way last: then the
                    // next pass is encoded once more.
                    let patience = self.clock.until(self.free_at).saturating_sub(OPENING);
                    let _ = self.workers.reels.wait(Instant::now() + patience).await;
                    return Ok(());
                }
            }
        }
    }

    /// Shows why there is no programme, for `span`.
    pub(super) async fn slate(&mut self, reason: &str, span: Duration) -> Result<(), Fault> {
        let (name, text) = (self.spec.name.clone(), reason.to_owned());
        let (earliest, size) = (self.earliest(), self.size);
        for n in 0..REPEAT_RATE.nearest(span) {
            let (name, text) = (name.clone(), text.clone());
            let draw = move |transcoder: &mut Transcoder| {
                transcoder.slate(earliest, n, REPEAT_RATE, size, &name, &text)
            };
            let drawn = self.transcode(|workers| &mut workers.slates, draw).await;
            // A slate must not fail for what made the film fail: a crashed transcoder is replaced by a new one.
            let unit = match drawn {
                Ok(Ok(unit)) => unit,
                Err(Fault::Stopping) => return Err(Fault::Stopping),
                Ok(Err(fault)) | Err(fault) => {
                    let (id, name) = (self.spec.id, &self.spec.name);
                    error!("station {id} \"{name}\" cannot even show a slate: {fault}");
                    return self.wait(RETRY.0).await;
                }
            };
            let size = unit.jpeg().size;
            self.hand_over(unit).await?;
            if n == 0 {
                self.announce(State::Slate { reason: reason.to_owned() }, size, REPEAT_RATE);
            }
        }
        // They may all be ahead of their time still, and whoever asked for them wants to wait.
        self.wait(self.clock.until(self.free_at).saturating_sub(LEAST_LEAD)).await
    }
}

/// The lane of what is done with films at the transcoder.
fn films(workers: &mut Workers) -> &mut BlockingWorker {
    &mut workers.films
}

/// The first picture of a reel that is due `offset` after its beginning or later; its length if there is none.
fn first_from(reel: &Reel, offset: Duration) -> usize {
    let at = reel.at(offset);
    if reel.stamp(at) < offset { at + 1 } else { at }
}

/// Whether pictures from `good` up to `next` cannot be left out without a [pause](LONGEST_PAUSE).
fn too_much_missing(reel: &Reel, good: usize, next: usize) -> bool {
    stamp(reel, next).saturating_sub(stamp(reel, good)) > LONGEST_PAUSE
}

/// When picture `n` is due, from the first one; behind the last one, the reel's length.
fn stamp(reel: &Reel, n: usize) -> Duration {
    if n < reel.len() { reel.stamp(n) } else { reel.length() }
}

/// The next pictures of a reel, up to the first that `picture` does not have, or that cannot be read; and why that cannot.
fn units(
    reel: &Reel,
    begin: AirTime,
    next: usize,
    picture: impl Fn(&Reel, usize) -> Result<Option<Jpeg>, ReelError>,
) -> (Vec<Unit>, Option<ReelError>) {
    let mut units = Vec::with_capacity(BATCH);
    for n in next..reel.len().min(next + BATCH) {
        match picture(reel, n) {
            Ok(Some(jpeg)) => {
                let interval = stamp(reel, n + 1).saturating_sub(stamp(reel, n));
                units.push(Unit::picture(Due { at: begin + stamp(reel, n), interval }, jpeg));
            }
            Ok(None) => break,
            Err(error) => return (units, Some(error)),
        }
    }
    (units, None)
}

/// The same, waiting for the disk.
fn units_from_disk(reel: &Reel, begin: AirTime, next: usize) -> (Vec<Unit>, Option<ReelError>) {
    units(reel, begin, next, |reel, n| reel.picture(n).map(Some))
}

#[cfg(test)]
mod tests;
