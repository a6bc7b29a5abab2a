//! The sound of a station: a second flow, handed to the air together with the pictures, so that it costs no wake-up of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tracing::warn;

use super::sealer::Sealer;
use crate::air::Flow;
use crate::content::catalogue::Catalogue;
use crate::content::live::sound::LiveSound;
use crate::content::sound::linear::LinearDecoder;
use crate::content::sound::make::SoundOrder;
use crate::content::sound::reel::SoundReel;
use crate::content::sound::{FilmCue, Found, SoundCue, SoundLine, order};
use crate::headend::StationHandle;
use crate::media::{AirTime, SoundCodec};

/// After a stall, sound goes on so long from now.
const RESTART: Duration = Duration::from_millis(40);

/// How far ahead the sound of a live source is handed over: further than the longest buffer.
const LIVE_LEAD: Duration = Duration::from_secs(3);

/// The sound that is heard with the pictures.
#[derive(Debug, Clone)]
pub(super) enum Heard {
    Film(FilmCue),
    Live(Arc<LiveSound>),
}

/// The sound of one station.
pub(super) struct SoundOutput {
    handle: Arc<StationHandle>,
    catalogue: Arc<Catalogue>,
    pub(super) flow: Flow,
    /// Encrypts the packets for the group; `None` if they are not encrypted, or while nothing can be sent.
    pub(super) sealer: Option<Sealer>,
    line: SoundLine,
    /// Makes linear samples of the line's packets; `None` if the station sends these.
    linear: Option<LinearDecoder>,
    /// The sound from the next unit on, or none. Until then the film before is heard, however long its last picture stays.
    next: Option<Option<Heard>>,
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
            sealer: None,
            line: SoundLine::default(),
            linear,
            next: None,
            film: None,
            reel: None,
        }
    }

    /// From the next unit on this is heard, or nothing.
    pub(super) fn set_heard(&mut self, heard: Option<Heard>) {
        self.next = Some(heard);
    }

    /// A unit of the content is due at `due`, after all repetitions of the one before.
    pub(super) fn reach(&mut self, due: AirTime, now: AirTime) {
        let Some(heard) = self.next.take() else { return };
        if self.line.due() >= now {
            self.advance(due, due, now);
        }
        self.reel = None;
        self.film = None;
        self.handle.set_loudness(None);
        let cue = match heard {
            Some(Heard::Live(sound)) => Some(SoundCue::Live(sound)),
            Some(Heard::Film(film)) => {
                // Sound is made for a round of known length.
                self.film = film.length.map(|length| {
                    let order = order(&self.handle.spec(), length);
                    self.catalogue.sounds().want(&film.path, &order);
                    (film, order)
                });
                None
            }
            None => None,
        };
        self.line.set(cue);
    }

    /// Sound of a live source has come. It is handed over at once, since the next picture may come too late.
    pub(super) fn live_sound_has_come(&mut self, now: AirTime) {
        if self.line.is_live() {
            self.advance(now, now + LIVE_LEAD, now);
        }
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
                    self.line.set(Some(SoundCue::Film { begin: film.begin, reel: reel.clone() }));
                    self.reel = Some(reel);
                }
            }
        }
        while let Some(unit) = self.line.next(end, now) {
            match unit {
                Ok(unit) => {
                    let mut unit = match &mut self.linear {
                        Some(decoder) => decoder.linear_unit(&unit),
                        None => unit,
                    };
                    let silent = !self.line.is_heard();
                    self.handle.task.sound_packets.fetch_add(1, Relaxed);
                    self.handle.task.silent_packets.fetch_add(silent.into(), Relaxed);
                    self.handle.sound_feed.push(unit.clone(), now);
                    if let Some(sealer) = &mut self.sealer {
                        sealer.seal(&mut unit);
                    }
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
