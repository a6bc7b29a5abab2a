//! The films of a station, round after round. A film is played from its reel if it has one, or else from its recording,
//! which all stations share that play it meanwhile. Without a place for reels, each station plays it from its file.

mod playing_file;
mod playing_recording;
mod playing_reel;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::catalogue::{Catalogue, FilmReel};
use super::playlist::{PlaylistItem, glance, look_up};
use super::recording::RecordingKey;
use super::recording_queue::Wish;
use super::reel::{Reel, ReelKey};
use super::schedule::Schedule;
use super::transcode::Transcoder;
use super::worker::{BlockingWorker, STUCK_AFTER, Threads};
use super::{ContentEvent, Fault, OutputState, START_LEAD, default_phase};
use crate::clock::AirClock;
use crate::lineup::{self, StationSpec};
use crate::media::jpeg::Tables;
use crate::media::{Size, Unit};
use playing_file::PlayingFile;
use playing_recording::PlayingRecording;
use playing_reel::PlayingReel;

/// How long a round waits until its films are looked up. In this time a film of some hundred megabytes is read and
/// hashed. A larger film that is new is hashed while it is on air.
const LOOKUP_TIMEOUT: Duration = Duration::from_millis(400);

/// The films of a station.
pub(crate) struct Films {
    spec: Arc<StationSpec>,
    clock: AirClock,
    catalogue: Arc<Catalogue>,
    /// The films of this round that are still to play.
    playlist: VecDeque<PlaylistItem>,
    now_playing: NowPlaying,
    /// Events that are already known, in order.
    events: VecDeque<ContentEvent>,
    /// The fault that follows these events.
    fault: Option<Fault>,
    /// Whether a film played to its end since that was asked last.
    played: bool,
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
            spec,
            clock,
            catalogue,
            playlist: VecDeque::new(),
            now_playing: NowPlaying::Nothing,
            events: VecDeque::new(),
            fault: None,
            played: false,
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
        match self.playlist.pop_front() {
            None => {
                self.playlist = self.next_round(output).await?;
                self.events.push_back(ContentEvent::RoundBegins);
            }
            Some(PlaylistItem { path, reel: Some(reel), begin, .. }) if !self.reel_worker.is_stuck() => {
                self.begin_reel(path, reel, begin, output);
            }
            // Not recorded while the reels' disk does not answer.
            Some(PlaylistItem { path, key, file_key, .. })
                if key.or(file_key).is_some() && !self.reel_worker.is_busy() =>
            {
                self.begin_recording(path, key, output).await?;
            }
            Some(PlaylistItem { path, .. }) => self.open_file(path, Duration::ZERO, output).await?,
        }
        Ok(())
    }

    /// The films of the next round, as the media are now. Never empty.
    ///
    /// If all of them have reels, a station that comes on air joins the round where it is at this time of day. A
    /// station that is on air goes on without a jump, and saves its phase.
    async fn next_round(&mut self, output: OutputState) -> Result<VecDeque<PlaylistItem>, Fault> {
        // Before the first film opens the size is unknown, and a lookup must determine it.
        let known = self
            .size
            .filter(|_| self.spec.reel)
            .and_then(|size| self.catalogue.recent_lookup(&self.spec, Some(size)));
        if let Some(films) = known {
            let reels: Vec<_> = films.iter().map(|(_, reel)| reel.clone()).collect();
            let mut items = films.into_iter().map(PlaylistItem::from).collect();
            self.apply_schedule(&mut items, &reels, output);
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
        self.wish_for_reels(&items);
        let reels: Option<Vec<_>> = items.iter().map(|item| item.reel.clone()).collect();
        if let Some(reels) = reels {
            let films: Vec<FilmReel> =
                items.iter().map(|item| item.path.clone()).zip(reels.iter().cloned()).collect();
            self.catalogue.cache_lookup(&self.spec, self.size, &films);
            self.apply_schedule(&mut items, &reels, output);
        }
        Ok(items)
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

    /// Sets when the first film of a round begins. A station that comes on air drops the films that are over by then.
    #[expect(clippy::disallowed_methods, reason = "a shell: it joins the programme at this time of day")]
    fn apply_schedule(
        &mut self,
        items: &mut VecDeque<PlaylistItem>,
        reels: &[Arc<Reel>],
        output: OutputState,
    ) {
        let keys: Vec<ReelKey> = reels.iter().map(|reel| *reel.key()).collect();
        let (catalogue, group) = (self.catalogue.clone(), self.spec.group);
        let phase = catalogue.phases().get(group, keys.iter()).unwrap_or_else(|| default_phase(self.spec.id));
        let Some(schedule) = Schedule::new(reels.iter().map(|reel| reel.length()), phase) else { return };
        if output.on_air && output.free_at > self.clock.now() {
            items[0].begin = Some(output.free_at);
            let own = schedule.phase_of(output.free_at);
            if own != phase {
                // Not waited for: if it cannot be saved now, the next round saves it.
                let save = move || catalogue.phases().set(group, keys.iter(), own);
                self.reel_worker.start(STUCK_AFTER, save);
            }
        } else {
            let (film, begin) = schedule.at(output.free_at.max(self.clock.now() + START_LEAD));
            items.drain(..film);
            items[0].begin = Some(begin);
        }
    }
}

/// The event of a recorded picture at a station of JPEG quality `quality`: with a lower one, the picture was squeezed.
fn picture_event(unit: Unit, quality: u8) -> ContentEvent {
    let squeezed = unit.jpeg().is_some_and(|jpeg| matches!(jpeg.tables, Tables::Standard(q) if q < quality));
    ContentEvent::Unit { unit, squeezed }
}
