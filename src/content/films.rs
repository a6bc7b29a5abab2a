//! The films of a station, round after round. A film is played from its reel if it has one, or else from its recording,
//! which all stations share that play it meanwhile. Without a place for reels, each station plays it from its file.

mod playing_file;
mod playing_recording;
mod playing_reel;
mod reading;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::catalogue::{Catalogue, FilmReel};
use super::guide::RoundFilm;
use super::playlist::{PlaylistItem, glance, look_up};
use super::recording::RecordingKey;
use super::recording_queue::Wish;
use super::schedule::Schedule;
use super::transcode::Transcoder;
use super::worker::{BlockingWorker, STUCK_AFTER, Threads};
use super::{ContentEvent, Fault, OutputState, START_LEAD, default_phase};
use crate::clock::AirClock;
use crate::lineup::{self, StationSpec};
use crate::media::jpeg::Tables;
use crate::media::{AirTime, Size, Unit};
use playing_file::PlayingFile;
use playing_recording::PlayingRecording;
use playing_reel::PlayingReel;

/// How long a round waits until its films are looked up. In this time a film of some hundred megabytes is read and
/// hashed. A larger film that is new is hashed while it is on air.
const LOOKUP_TIMEOUT: Duration = Duration::from_millis(400);

/// For how long films are opened to know their lengths, before a station that comes on air begins with the first one.
const LENGTHS_TIMEOUT: Duration = Duration::from_secs(3);

/// A station that was off air for less than this begins its next film, if that has no reel, from the beginning.
const SHORT_OUTAGE: Duration = Duration::from_secs(5);

/// The films of a station.
pub(crate) struct Films {
    spec: Arc<StationSpec>,
    clock: AirClock,
    catalogue: Arc<Catalogue>,
    /// The films of this round that are still to play.
    playlist: VecDeque<PlaylistItem>,
    /// The number of films of this round.
    round: usize,
    /// The place in the round of the film that is playing, from 0.
    place: usize,
    now_playing: NowPlaying,
    /// Events that are already known, in order.
    events: VecDeque<ContentEvent>,
    /// The fault that follows these events.
    fault: Option<Fault>,
    /// Whether a film played to its end since that was asked last.
    played: bool,
    /// Whether the next round is joined where it is at this time of day, even if its films are not all recorded: the
    /// station has just begun, or could not read its films meanwhile.
    resumes: bool,
    /// Whether the station has played a film, or tried to.
    begun: bool,
    /// The size of all pictures, once a film has opened.
    size: Option<Size>,
    /// Decoder, encoder and time line. `None` while a blocking thread has them, or after they crashed or hung there.
    transcoder: Option<Box<Transcoder>>,
    /// Looks up, opens and decodes films.
    film_worker: BlockingWorker,
    /// Looks up the films of a round, which takes long if they are new and large.
    lookup_worker: BlockingWorker,
    /// Finds and reads reels. While it is stuck, films are played without reels.
    reel_worker: BlockingWorker,
    threads: Threads,
}

/// The film that is playing.
enum NowPlaying {
    /// None: the next film begins.
    Nothing,
    /// A film, from its reel.
    Reel(PlayingReel),
    /// A film, from its recording.
    Recording(PlayingRecording),
    /// A film, from its file.
    File(PlayingFile),
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
            resumes: !spec.from_start,
            spec,
            clock,
            catalogue,
            playlist: VecDeque::new(),
            round: 0,
            place: 0,
            now_playing: NowPlaying::Nothing,
            events: VecDeque::new(),
            fault: None,
            played: false,
            begun: false,
            size: None,
            transcoder: None,
            film_worker: BlockingWorker::new(threads.clone()),
            lookup_worker: BlockingWorker::new(threads.clone()),
            reel_worker: BlockingWorker::new(threads.clone()),
            threads,
        }
    }

    /// From the next film on, this configuration of the same station holds. Other films begin when the one on air is over.
    pub(crate) fn set_spec(&mut self, spec: Arc<StationSpec>) {
        if (&spec.media, spec.slide, spec.reel) != (&self.spec.media, self.spec.slide, self.spec.reel) {
            self.playlist.clear();
        }
        self.spec = spec;
    }

    /// The size of all pictures, once a film has opened.
    pub(crate) fn size(&self) -> Option<Size> {
        self.size
    }

    /// Whether a film played to its end since this was asked last.
    pub(crate) fn take_played(&mut self) -> bool {
        std::mem::take(&mut self.played)
    }

    /// The next event. There always is one, or a fault.
    ///
    /// # Errors
    /// A film cannot be played, or a folder cannot be read. The next call tries the next film.
    pub(crate) async fn next(&mut self, output: OutputState) -> Result<ContentEvent, Fault> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if let Some(fault) = self.fault.take() {
                self.now_playing = NowPlaying::Nothing;
                self.resumes |= fault.is_outage();
                return Err(fault);
            }
            let done = match &self.now_playing {
                NowPlaying::Nothing => self.begin_film(output).await,
                NowPlaying::Reel(_) => self.play_reel().await,
                NowPlaying::File(_) => self.play_file(output).await,
                NowPlaying::Recording(_) => self.play_recording(output).await,
            };
            self.fault = done.err();
        }
    }

    /// Begins the next film, or the next round.
    async fn begin_film(&mut self, output: OutputState) -> Result<(), Fault> {
        if self.film_worker.is_stuck() {
            return Err(Fault::Stuck);
        }
        let item = self.playlist.pop_front();
        // Those that a station leaves out when it joins a round are taken from the front, too.
        self.place = self.round.saturating_sub(self.playlist.len() + 1);
        match item {
            None => self.playlist = self.next_round(output).await?,
            Some(PlaylistItem { path, reel: Some(reel), begin, .. }) if !self.reel_worker.is_stuck() => {
                self.begin_reel(path, reel, begin, output);
            }
            // Not recorded while the reels' disk does not answer.
            Some(PlaylistItem { path, key, file_key, begin, .. })
                if key.or(file_key).is_some() && !self.reel_worker.is_stuck() =>
            {
                self.begin_recording(path, key, begin, output).await?;
            }
            Some(PlaylistItem { path, begin, .. }) => {
                let from = begin.map_or(Duration::ZERO, |begin| self.joins_at(output).since(begin));
                self.open_file(path, from, begin, output).await?;
            }
        }
        Ok(())
    }

    /// When the first picture of a film that is joined in its middle is due at the earliest.
    #[expect(clippy::disallowed_methods, reason = "a shell: it leaves out pictures that would be late")]
    fn joins_at(&self, output: OutputState) -> AirTime {
        let start = self.clock.now() + START_LEAD;
        if output.on_air { output.free_at } else { output.free_at.max(start) }
    }

    /// The films of the next round, as the media are now. Never empty. Tells which they are.
    ///
    /// A station that comes on air joins the round where it is at this time of day. A station that is on air goes on
    /// without a jump, and saves when its round began.
    async fn next_round(&mut self, output: OutputState) -> Result<VecDeque<PlaylistItem>, Fault> {
        // Before the first film opens the size is unknown, and a lookup must determine it.
        let known = self
            .size
            .filter(|_| self.spec.reel)
            .and_then(|size| self.catalogue.recent_lookup(&self.spec, Some(size)));
        if let Some(films) = known {
            let lengths = films.iter().map(|(_, reel)| reel.length()).collect();
            let mut items = films.into_iter().map(PlaylistItem::from).collect();
            self.tell_round(&items);
            let left = self.apply_schedule(&mut items, Some(lengths), output);
            items.truncate(left);
            return Ok(items);
        }
        let media = self.spec.media.clone();
        let films = self.film_worker.call(STUCK_AFTER, move || lineup::films(media.films())).await?;
        let films = films.map_err(Fault::Programme)?;
        if films.is_empty() {
            return Err(Fault::NoFilm);
        }
        let mut items: VecDeque<_> = films.iter().cloned().map(PlaylistItem::film).collect();
        if self.spec.reel && self.catalogue.keeps_reels() {
            let (catalogue, spec, size) = (self.catalogue.clone(), self.spec.clone(), self.size);
            let look_up = move || look_up(&catalogue, &spec, size, films);
            let looked = self.lookup_worker.call(LOOKUP_TIMEOUT, look_up).await;
            match looked {
                Ok(found) => (items, self.size) = found,
                // The films are on air, and recorded, while they are hashed.
                Err(Fault::Stuck) => {
                    let (catalogue, spec, size) = (self.catalogue.clone(), self.spec.clone(), self.size);
                    let films = items.into_iter().map(|item| item.path).collect();
                    let glance = move || glance(&catalogue, &spec, size, films);
                    (items, self.size) = self.film_worker.call(STUCK_AFTER, glance).await?;
                }
                Err(fault) => return Err(fault),
            }
        }
        let reels: Option<Vec<FilmReel>> =
            items.iter().map(|item| Some((item.path.clone(), item.reel.clone()?))).collect();
        let lengths = match &reels {
            Some(films) => {
                self.catalogue.cache_lookup(&self.spec, self.size, films);
                Some(films.iter().map(|(_, reel)| reel.length()).collect())
            }
            None if self.resumes && !output.on_air => self.lengths(&items).await?,
            None => None,
        };
        self.tell_round(&items);
        let left = self.apply_schedule(&mut items, lengths, output);
        self.wish_for_reels(&items);
        items.truncate(left);
        Ok(items)
    }

    /// Tells that a round of these films begins.
    fn tell_round(&mut self, items: &VecDeque<PlaylistItem>) {
        self.round = items.len();
        let film = |item: &PlaylistItem| RoundFilm {
            path: item.path.clone(),
            length: item.reel.as_ref().map(|reel| reel.length()),
        };
        self.events.push_back(ContentEvent::RoundBegins(items.iter().map(film).collect()));
    }

    /// How long each film plays, as far as its reel or its container tells; 0 if it cannot be opened. `None` if that takes
    /// too long: the films are then played from the first one on.
    #[expect(clippy::disallowed_methods, reason = "a shell: it opens films, and not for ever")]
    async fn lengths(&mut self, items: &VecDeque<PlaylistItem>) -> Result<Option<Vec<Duration>>, Fault> {
        let of = |item: &PlaylistItem| item.reel.as_ref().map(|reel| reel.length()).ok_or(item.path.clone());
        let films: Vec<Result<Duration, PathBuf>> = items.iter().map(of).collect();
        let (catalogue, slide, clock) = (self.catalogue.clone(), self.spec.slide, self.clock.clone());
        let until = clock.now() + LENGTHS_TIMEOUT;
        let length = move |film: Result<Duration, PathBuf>| match film {
            Ok(length) => Some(length),
            Err(_) if clock.now() >= until => None,
            Err(path) => {
                Some(catalogue.outline(&path, slide).ok().and_then(|film| film.round()).unwrap_or_default())
            }
        };
        self.film_worker.call(STUCK_AFTER, move || films.into_iter().map(length).collect()).await
    }

    /// Wishes for the reels that are missing, but for that of the first film, which is on air now.
    fn wish_for_reels(&self, items: &VecDeque<PlaylistItem>) {
        let wish = |(films_before, item): (usize, &PlaylistItem)| {
            let key = item.key.map(RecordingKey::Film).or(item.file_key.map(RecordingKey::File))?;
            let (path, slide, file_key) = (item.path.clone(), self.spec.slide, item.file_key);
            item.reel.is_none().then_some(Wish { key, file_key, path, slide, films_before })
        };
        let wishes = items.iter().enumerate().skip(1).filter_map(wish).collect();
        self.catalogue.recordings().wish(&self.catalogue, &self.threads, self.spec.id, wishes);
    }

    /// Determines with which film the round begins, and when that film begins or began: turns the round, so that it is the
    /// first. Returns how many films are left of the round then. The `lengths` of the films may be unknown.
    #[expect(clippy::disallowed_methods, reason = "a shell: it joins the programme at this time of day")]
    fn apply_schedule(
        &mut self,
        items: &mut VecDeque<PlaylistItem>,
        lengths: Option<Vec<Duration>>,
        output: OutputState,
    ) -> usize {
        let paths: Vec<PathBuf> = items.iter().map(|item| item.path.clone()).collect();
        let (catalogue, group) = (self.catalogue.clone(), self.spec.group);
        let saved = catalogue.phases().get(group, paths.iter().map(PathBuf::as_path));
        let known = saved.unwrap_or(AirTime::default() + default_phase(self.spec.id));
        let recorded = items.iter().all(|item| item.reel.is_some());
        let schedule = lengths.and_then(|lengths| {
            let phase = Schedule::new(lengths.iter().copied(), Duration::ZERO)?.phase_of(known);
            Schedule::new(lengths, phase)
        });
        let now = self.clock.now();
        let joins = self.joins_at(output);
        let going_on = output.on_air && output.free_at > now;
        let resumes = std::mem::take(&mut self.resumes);
        let begun = std::mem::replace(&mut self.begun, true);
        let mut left = items.len();
        let round = match &schedule {
            Some(schedule) if !going_on && (recorded || resumes) => {
                let (film, begin) = schedule.at(joins);
                items.rotate_left(film);
                left -= film;
                // A station that was on air until just now loses no pictures to its slate.
                let just_begun = begun && !recorded && joins.since(begin) < SHORT_OUTAGE;
                items[0].begin = Some(begin).filter(|_| !just_begun);
                schedule.round_at(joins)
            }
            _ => {
                items[0].begin = Some(output.free_at).filter(|_| going_on && items[0].reel.is_some());
                joins
            }
        };
        // While films have no reels, the lengths of their containers tell where a round began, but not where those since
        // 1970 did.
        let keeps =
            recorded && schedule.is_some_and(|schedule| schedule.phase_of(round) == schedule.phase_of(known));
        if !keeps && saved != Some(round) {
            // Not waited for: if it cannot be saved now, the next round saves it.
            let save = move || catalogue.phases().set(group, paths.iter().map(PathBuf::as_path), round);
            self.reel_worker.start(LOOKUP_TIMEOUT, save);
        }
        left
    }
}

/// The event of a recorded picture at a station of JPEG quality `quality`: with a lower one, the picture was squeezed.
fn picture_event(unit: Unit, quality: u8) -> ContentEvent {
    let squeezed = unit.jpeg().is_some_and(|jpeg| matches!(jpeg.tables, Tables::Standard(q) if q < quality));
    ContentEvent::Unit { unit, squeezed }
}
