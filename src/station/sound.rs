//! The sound of a station: a second flow, handed to the air together with the pictures, so that it costs no wake-up of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tracing::warn;

use crate::air::Flow;
use crate::content::catalogue::Catalogue;
use crate::content::sound::linear::LinearDecoder;
use crate::content::sound::make::SoundOrder;
use crate::content::sound::reel::SoundReel;
use crate::content::sound::{FilmCue, Found, SoundCue, SoundLine, order};
use crate::headend::StationHandle;
use crate::media::{AirTime, SoundCodec};

/// After a stall, sound goes on so long from now.
const RESTART: Duration = Duration::from_millis(40);

/// The sound of one station.
pub(super) struct SoundOutput {
    handle: Arc<StationHandle>,
    catalogue: Arc<Catalogue>,
    pub(super) flow: Flow,
    line: SoundLine,
    /// Makes linear samples of the line's packets; `None` if the station sends these.
    linear: Option<LinearDecoder>,
    /// What is on air from the next unit on: a film, or none. Until then the film before is heard, however long its last picture stays.
    next: Option<Option<FilmCue>>,
    /// The film that is on air, and what is wanted of its sound; `None` if it has none.
    film: Option<(FilmCue, SoundOrder)>,
    /// Its sound, once that is there.
    reel: Option<Arc<SoundReel>>,
}

impl SoundOutput {
    pub(super) fn new(handle: Arc<StationHandle>, catalogue: Arc<Catalogue>, flow: Flow) -> SoundOutput {
        let linear = match handle.spec().sound_codec {
            SoundCodec::Opus => None,
            // Without memory for a decoder the process does not last.
            SoundCodec::L16 => LinearDecoder::new().ok(),
        };
        SoundOutput {
            handle,
            catalogue,
            flow,
            line: SoundLine::default(),
            linear,
            next: None,
            film: None,
            reel: None,
        }
    }

    /// From the next unit on this film is on air, or none.
    pub(super) fn set_film(&mut self, film: Option<FilmCue>) {
        self.next = Some(film);
    }

    /// A unit of the content is due at `due`, after all repetitions of the one before.
    pub(super) fn reach(&mut self, due: AirTime, now: AirTime) {
        let Some(film) = self.next.take() else { return };
        if self.line.due() >= now {
            self.advance(due, due, now);
        }
        self.line.set(None);
        self.reel = None;
        self.handle.set_loudness(None);
        // Sound is made for a round of known length.
        self.film = film.and_then(|film| {
            let order = order(&self.handle.spec(), film.length?);
            self.catalogue.sounds().want(&film.path, &order);
            Some((film, order))
        });
    }

    /// Hands over the sound up to `end`, which the pictures have reached.
    pub(super) fn advance(&mut self, begin: AirTime, end: AirTime, now: AirTime) {
        if self.line.due() < now {
            self.line.skip_to(begin.max(now + RESTART));
        }
        if let (Some((film, order)), None) = (&self.film, &self.reel) {
            match self.catalogue.sounds().find(&film.path, order) {
                Found::NotYet => {}
                Found::Nothing => self.film = None,
                Found::Here(reel) => {
                    // A film without any sound in its sound track has none that can be measured.
                    let loudness = reel.header().loudness + reel.header().gain;
                    self.handle.set_loudness(loudness.is_finite().then_some(loudness));
                    self.line.set(Some(SoundCue { begin: film.begin, reel: reel.clone() }));
                    self.reel = Some(reel);
                }
            }
        }
        while let Some(unit) = self.line.next(end) {
            match unit {
                Ok(unit) => {
                    let unit = match &mut self.linear {
                        Some(decoder) => decoder.linear_unit(&unit),
                        None => unit,
                    };
                    let silent = !self.line.is_heard();
                    self.handle.task.sound_packets.fetch_add(1, Relaxed);
                    self.handle.task.silent_packets.fetch_add(silent.into(), Relaxed);
                    self.handle.sound_feed.push(unit.clone(), now);
                    if self.flow.offer(unit).is_err() {
                        // The air thread is so far behind that pictures are late, too.
                        self.handle.task.sound_missed.fetch_add(1, Relaxed);
                    }
                }
                Err(error) => {
                    self.handle.set_loudness(None);
                    if let (Some((film, order)), Some(reel)) = (&self.film, self.reel.take()) {
                        self.catalogue.sounds().discard(&film.path, order, &reel);
                    }
                    let spec = self.handle.spec();
                    warn!("station {} \"{}\": {error}; it will be made again", spec.id, spec.name);
                }
            }
        }
    }
}
