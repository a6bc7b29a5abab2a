//! The films of a station, round after round: each from its reel if there is one, and else decoded, encoded and recorded.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::catalogue::{Catalogue, FoundReel};
use super::encode::Encoded;
use super::playlist::{PlaylistItem, look_up};
use super::recording::Recording;
use super::reel::{RecordError, Reel, ReelError, ReelKey};
use super::schedule::Schedule;
use super::transcode::{Batch, Prepared, Then, Transcoder};
use super::worker::{BlockingWorker, STUCK, Threads};
use super::{Event, Fault, LONGEST_PAUSE, Position, START_LEAD, Showing, earliest, phase};
use crate::clock::AirClock;
use crate::lineup::{self, StationSpec};
use crate::media::jpeg::{Jpeg, Tables};
use crate::media::{AirTime, Due, FrameRate, Policy, Size, Unit};

/// How long a round waits for its films to be looked up. A film of some hundred megabytes is read and hashed in that time;
/// of a larger one, seen for the first time, the reel is recorded in the next round.
const LOOKING_UP: Duration = Duration::from_millis(400);

/// What the next film needs before it is due so that no place on the grid stays empty: [`START_LEAD`], a station's own share
/// of an interval, and some milliseconds to look it up.
const OPENING: Duration = Duration::from_millis(160);

/// Pictures read from a reel at a time: a third of a second at 25 a second.
const FROM_REEL: usize = 8;

/// Pictures decoded and encoded at a time: about 10 ms of work. Each time the decoder's state crosses to another thread and back.
const FROM_FILM: usize = 4;

/// The films of a station.
pub(crate) struct Films {
    spec: Arc<StationSpec>,
    clock: AirClock,
    catalogue: Arc<Catalogue>,
    /// The films of this round that are still to come.
    round: VecDeque<PlaylistItem>,
    pass: Pass,
    /// What was found out already, in its order.
    events: VecDeque<Event>,
    /// What follows them.
    failed: Option<Fault>,
    /// Some film played to its end since that was asked last.
    played: bool,
    /// The size of all pictures, once a film has opened.
    size: Option<Size>,
    /// Decoder, encoder and time line. `None` while a blocking thread has it, or after it crashed or hung there.
    transcoder: Option<Box<Transcoder>>,
    /// Looks for films, opens and decodes them.
    decoding: BlockingWorker,
    /// Finds, reads and records reels. A reel is only a cache: the film plays on without.
    reels: BlockingWorker,
}

/// The film that is playing.
enum Pass {
    /// None: the next one begins.
    Between,
    /// From its reel.
    Reel(ReelPass),
    /// From the film itself.
    Film(FilmPass),
    /// From the film itself, which is over.
    Ended(FilmPass),
}

/// A film that plays from itself.
struct FilmPass {
    path: PathBuf,
    /// Its nominal rate.
    rate: FrameRate,
    recording: Option<Recording>,
    /// Some picture is on its way to the air.
    shown: bool,
}

/// A film that plays from its reel.
struct ReelPass {
    path: PathBuf,
    reel: Arc<Reel>,
    begin: AirTime,
    /// The number of the next picture.
    next: usize,
    /// The number after that of the last picture that could be read.
    good: usize,
    /// Some picture could not be read.
    damaged: bool,
    /// Some picture was.
    shown: bool,
}

impl Films {
    /// The films that `spec` names.
    pub(crate) fn new(
        spec: Arc<StationSpec>,
        clock: AirClock,
        catalogue: Arc<Catalogue>,
        threads: Threads,
    ) -> Films {
        Films {
            spec,
            clock,
            catalogue,
            round: VecDeque::new(),
            pass: Pass::Between,
            events: VecDeque::new(),
            failed: None,
            played: false,
            size: None,
            transcoder: None,
            decoding: BlockingWorker::new(threads.clone()),
            reels: BlockingWorker::new(threads),
        }
    }

    /// The size of all pictures, once a film has opened.
    pub(crate) fn size(&self) -> Option<Size> {
        self.size
    }

    /// Whether some film played to its end since this was asked last.
    pub(crate) fn take_played(&mut self) -> bool {
        std::mem::take(&mut self.played)
    }

    /// What comes next. There is always something, unless it cannot be played.
    ///
    /// # Errors
    /// A film cannot be played, or the folder cannot be read. Asked again, the next film is tried.
    pub(crate) async fn next(&mut self, at: Position) -> Result<Event, Fault> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if let Some(fault) = self.failed.take() {
                self.pass = Pass::Between;
                return Err(fault);
            }
            let done = match &self.pass {
                Pass::Between => self.begin(at).await,
                Pass::Reel(_) => self.play_reel().await,
                Pass::Film(_) => self.play_film(at).await,
                Pass::Ended(_) => self.end_film(at).await,
            };
            self.failed = done.err();
        }
    }

    /// Begins the film that is next.
    async fn begin(&mut self, at: Position) -> Result<(), Fault> {
        if self.decoding.is_stuck() {
            return Err(Fault::Stuck);
        }
        match self.round.pop_front() {
            None => {
                self.round = self.next_round(at).await?;
                self.events.push_back(Event::Round);
            }
            Some(PlaylistItem { path, reel: Some(reel), begin, .. }) if !self.reels.is_stuck() => {
                let begin = begin.unwrap_or_else(|| earliest(&self.clock, &self.spec, at));
                // A film that is on already is joined where it is. So is one that is over: then nothing is left of it.
                let start = self.clock.now() + START_LEAD;
                let joined = if at.on_air { at.free_at } else { at.free_at.max(start) };
                let next = first_from(&reel, joined.since(begin));
                self.pass = Pass::Reel(ReelPass {
                    path,
                    reel,
                    begin,
                    next,
                    good: next,
                    damaged: false,
                    shown: false,
                });
            }
            Some(PlaylistItem { path, key, .. }) => self.open(path, key, at).await?,
        }
        Ok(())
    }

    /// The films of the next round, as the media are now. Never empty.
    ///
    /// When all of them have reels, a station that comes on air joins the round where the time of day has it. One that
    /// is on air goes on without a jump, and remembers how it lies against the time of day.
    async fn next_round(&mut self, at: Position) -> Result<VecDeque<PlaylistItem>, Fault> {
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
            self.place(&mut items, &reels, at);
            return Ok(items);
        }
        let media = self.spec.media.clone();
        let films = self.decoding.call(STUCK, move || lineup::films(&media)).await?;
        let films = films.map_err(Fault::Programme)?;
        if films.is_empty() {
            return Err(Fault::NoFilm);
        }
        let item = |path| PlaylistItem { path, key: None, reel: None, begin: None };
        let mut items: VecDeque<PlaylistItem> = films.iter().cloned().map(item).collect();
        if self.spec.reel && self.catalogue.keeps_reels() {
            let (catalogue, spec, size) = (self.catalogue.clone(), self.spec.clone(), self.size);
            let look_up = move || look_up(&catalogue, &spec, size, films);
            match self.reels.call(LOOKING_UP, look_up).await {
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
            self.place(&mut items, &reels, at);
        }
        Ok(items)
    }

    /// Settles when the films of a round begin, and leaves out those that are over.
    fn place(&mut self, items: &mut VecDeque<PlaylistItem>, reels: &[Arc<Reel>], at: Position) {
        let keys: Vec<ReelKey> = reels.iter().map(|reel| *reel.key()).collect();
        let (catalogue, group) = (self.catalogue.clone(), self.spec.group);
        let phase = catalogue.phase(group, keys.iter()).unwrap_or_else(|| phase(self.spec.id));
        let Some(schedule) = Schedule::new(reels.iter().map(|reel| reel.length()), phase) else { return };
        if at.on_air && at.free_at > self.clock.now() {
            items[0].begin = Some(at.free_at);
            let own = schedule.phase_of(at.free_at);
            if own != phase {
                // Nothing waits for it: what is not remembered now is in the next round.
                let remember = move || catalogue.remember(group, keys.iter(), own);
                self.reels.start(STUCK, remember);
            }
        } else {
            let (film, begin) = schedule.at(at.free_at.max(self.clock.now() + START_LEAD));
            items.drain(..film);
            items[0].begin = Some(begin);
        }
    }

    /// The next pictures of the film that plays from its reel.
    async fn play_reel(&mut self) -> Result<(), Fault> {
        let Pass::Reel(pass) = &mut self.pass else { return Ok(()) };
        if pass.next < pass.reel.len() {
            // After a stall the programme is where the time of day has it; what would be late is left out.
            let on_time = first_from(&pass.reel, self.clock.now().since(pass.begin)).max(pass.next);
            let late = on_time - std::mem::replace(&mut pass.next, on_time);
            self.events.extend((late > 0).then_some(Event::Skipped(late as u64)));
        }
        if pass.next >= pass.reel.len() {
            self.events.push_back(Event::Until(pass.begin + pass.reel.length()));
            self.played |= pass.shown;
            self.pass = Pass::Between;
            return Ok(());
        }
        // Removing a film takes it off the air, reel or not; but no picture waits for a folder that is slow to answer.
        match self.catalogue.known_there(&pass.path) {
            Some(there) => there?,
            None if self.decoding.is_stuck() => return Err(Fault::Stuck),
            None => {
                let (catalogue, path) = (self.catalogue.clone(), pass.path.clone());
                self.decoding.start(STUCK, move || drop(catalogue.still_there(&path)));
            }
        }
        let (begin, next) = (pass.begin, pass.next);
        // As a rule the pictures are in memory, and another thread would only be a detour: measured with 999
        // stations, 5 % of a core instead of 15.
        let (units, damage) = match units(&pass.reel, begin, next, Reel::cached) {
            (units, None) if units.is_empty() => {
                let reel = pass.reel.clone();
                self.reels.call(STUCK, move || units_from_disk(&reel, begin, next)).await?
            }
            units => units,
        };
        pass.next += units.len();
        if !units.is_empty() {
            pass.good = pass.next;
            if !std::mem::replace(&mut pass.shown, true) {
                let (size, rate) = (pass.reel.size(), pass.reel.rate());
                self.size = Some(size);
                self.events.push_back(Event::Shows { showing: Showing::Film, size, rate });
            }
        }
        let quality = self.spec.quality;
        self.events.extend(units.into_iter().map(|unit| {
            let squeezed = matches!(unit.jpeg().tables, Tables::Standard(q) if q < quality);
            Event::Unit { unit, squeezed }
        }));
        // What is damaged is never aired. The others are, at their time, so that the programme stays where it is; and the
        // next round finds no reel and records it again. Where too much is missing, the film itself is better.
        if let Some(error) = damage {
            let first = !std::mem::replace(&mut pass.damaged, true);
            self.events.push_back(Event::Damaged(first.then(|| error.to_string())));
            pass.next += 1;
            let gone = too_much_missing(&pass.reel, pass.good, pass.next);
            if first {
                let (catalogue, reel) = (self.catalogue.clone(), pass.reel.clone());
                self.reels.call(STUCK, move || catalogue.discard(&reel)).await?;
            }
            if gone {
                self.round.clear();
                self.pass = Pass::Between;
            }
        }
        Ok(())
    }

    /// Opens the film that plays next, to be recorded if it has a `key`.
    async fn open(&mut self, path: PathBuf, key: Option<ReelKey>, at: Position) -> Result<(), Fault> {
        // Not while the reels' disk does not answer.
        let key = key.filter(|_| !self.reels.is_busy());
        let (film, size, records) = (path.clone(), self.size, key.is_some());
        let opens_at = earliest(&self.clock, &self.spec, at);
        let open = move |transcoder: &mut Transcoder| transcoder.open(&film, opens_at, size, records);
        let opened = self.transcode(at, open).await??;
        let recording = key.map(|key| {
            let (catalogue, clock) = (self.catalogue.clone(), self.clock.clone());
            Recording::new(catalogue, clock, path.clone(), key, opened.rate, opened.announced)
        });
        self.pass = Pass::Film(FilmPass { path, rate: opened.rate, recording, shown: false });
        Ok(())
    }

    /// The next pictures of the film that plays from itself.
    async fn play_film(&mut self, at: Position) -> Result<(), Fault> {
        let Pass::Film(pass) = &self.pass else { return Ok(()) };
        let records = pass.recording.is_some();
        let prepare = move |transcoder: &mut Transcoder| transcoder.prepare(FROM_FILM, records);
        let Batch { pictures, then } = self.transcode(at, prepare).await?;
        let Pass::Film(pass) = &mut self.pass else { return Ok(()) };
        for Prepared { stamp, lasts, due, policy, behind, coded } in pictures {
            if let (Some(recording), Some(coded)) = (&mut pass.recording, &coded)
                && let Err(error) = recording.add((stamp, lasts), &coded.jpeg, &mut self.reels)
            {
                pass.recording = None;
                no_reel(&self.catalogue, &pass.path, &error);
            }
            match (policy, coded) {
                (Policy::Air, Some(Encoded { jpeg, squeezed })) => {
                    if !std::mem::replace(&mut pass.shown, true) {
                        self.size = Some(jpeg.size);
                        let (showing, size, rate) = (Showing::Film, jpeg.size, pass.rate);
                        self.events.push_back(Event::Shows { showing, size, rate });
                    }
                    self.events.push_back(Event::Unit { unit: Unit::picture(due, jpeg), squeezed });
                }
                (Policy::Reanchor, _) => self.events.push_back(Event::StoodStill(behind)),
                (Policy::Air | Policy::Skip, _) => self.events.push_back(Event::Skipped(1)),
            }
        }
        match then {
            Then::More => {}
            Then::StoppedRecording => {
                if pass.recording.take().is_some() {
                    no_reel(&self.catalogue, &pass.path, &RecordError::SlowMachine);
                }
            }
            Then::Failed(fault) => return Err(fault),
            Then::End(held_until) => {
                self.events.extend(held_until.map(Event::Until));
                self.played |= pass.shown;
                if let Pass::Film(pass) = std::mem::replace(&mut self.pass, Pass::Between) {
                    self.pass = Pass::Ended(pass);
                }
            }
        }
        Ok(())
    }

    /// Ends the recording of a film, once its last pictures are on their way.
    async fn end_film(&mut self, at: Position) -> Result<(), Fault> {
        if let Pass::Ended(FilmPass { path, recording: Some(recording), .. }) =
            std::mem::replace(&mut self.pass, Pass::Between)
        {
            // The disk may take longer than the pictures that are on their way last: then the next pass is encoded once more.
            let patience = self.clock.until(at.free_at).saturating_sub(OPENING);
            if let Err(error) = recording.end(&mut self.reels, Instant::now() + patience).await {
                no_reel(&self.catalogue, &path, &error);
            }
        }
        Ok(())
    }

    /// Has the transcoder do `work` on a thread that may block.
    async fn transcode<T: Send + 'static>(
        &mut self,
        at: Position,
        work: impl FnOnce(&mut Transcoder) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let mut transcoder = self.transcoder.take().unwrap_or_else(|| {
            let start = earliest(&self.clock, &self.spec, at);
            Box::new(Transcoder::new(&self.spec, self.clock.clone(), self.catalogue.clone(), start))
        });
        let work = move || {
            let result = work(&mut transcoder);
            (transcoder, result)
        };
        let (transcoder, result) = self.decoding.call(STUCK, work).await?;
        self.transcoder = Some(transcoder);
        Ok(result)
    }
}

/// Says why there will be no reel of a film, unless that was said by what writes it.
fn no_reel(catalogue: &Catalogue, film: &Path, error: &RecordError) {
    if !matches!(error, RecordError::GivenUp) {
        catalogue.no_reel(film, error);
    }
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
    let mut units = Vec::with_capacity(FROM_REEL);
    for n in next..reel.len().min(next + FROM_REEL) {
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
