//! The sound of a programme on demand: packets for the pictures that are played, from the sound files of the films.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::content::catalogue::Catalogue;
use crate::content::programme::Programme;
use crate::content::sound::make::SoundOrder;
use crate::content::sound::reel::SoundReel;
use crate::content::sound::{Found, SoundCue, SoundLine, order};
use crate::lineup::StationSpec;
use crate::media::{AirTime, Due, Unit};

/// How far the next packet may begin before a picture whose predecessor was played: a packet of 20 ms has not fitted before it.
/// Beyond that, pictures were skipped, or playback begins.
const STRADDLE: Duration = Duration::from_millis(21);

/// The sound of one playback.
pub(super) struct VodSound {
    spec: Arc<StationSpec>,
    line: SoundLine,
    /// The film that is played.
    film: Option<usize>,
    /// The order of its sound; `None` if it has none.
    order: Option<SoundOrder>,
    /// Its sound, once that is there.
    reel: Option<Arc<SoundReel>>,
    /// Packets that were not taken yet: those of one picture, and the next ones of a moment.
    ready: VecDeque<Unit>,
    /// Whether films are played at their own speed. Otherwise there is silence.
    is_heard: bool,
}

impl VodSound {
    /// The sound of a playback at `scale`.
    pub(super) fn new(spec: Arc<StationSpec>, scale: f64) -> VodSound {
        VodSound {
            spec,
            line: SoundLine::default(),
            film: None,
            order: None,
            reel: None,
            ready: VecDeque::new(),
            is_heard: scale == 1.0,
        }
    }

    /// Gets the packets ready for a picture of film `film`, at `offset` from the film's beginning. If the sound file is not there yet,
    /// or must be read from the disk, they are silence.
    pub(super) fn extend(
        &mut self,
        picture: Due,
        (film, offset): (usize, Duration),
        programme: &Programme,
        catalogue: &Catalogue,
    ) {
        let path = programme.path(film);
        if self.line.due() + STRADDLE < picture.at {
            self.line.skip_to(picture.at);
        }
        if self.film != Some(film) {
            self.film = Some(film);
            self.line.set(None);
            self.reel = None;
            let sequence = programme.sequence();
            let order = order(&self.spec, sequence.end(film) - sequence.begin(film));
            if self.is_heard {
                catalogue.sounds().want(path, &order);
                self.order = Some(order);
            }
        }
        if let (Some(order), None) = (&self.order, &self.reel) {
            match catalogue.sounds().find(path, order) {
                Found::NotYet => {}
                Found::Nothing => self.order = None,
                Found::Here(reel) => {
                    self.line.set(Some(SoundCue::Film { begin: picture.at - offset, reel: reel.clone() }));
                    self.reel = Some(reel);
                }
            }
        }
        while let Some(unit) = self.line.next(picture.at + picture.interval, picture.at) {
            match unit {
                Ok(unit) => self.ready.push_back(unit),
                // A sound file that cannot be read is made again. Until then this client hears silence.
                Err(_) => {
                    if let (Some(order), Some(reel)) = (&self.order, self.reel.take()) {
                        catalogue.sounds().discard(path, order, &reel);
                    }
                }
            }
        }
    }

    /// The next packet.
    pub(super) fn first(&self) -> Option<&Unit> {
        self.ready.front()
    }

    /// Goes on to the next packet.
    pub(super) fn advance(&mut self) {
        self.ready.pop_front();
    }

    /// Skips the packets that were due before `moment`. Returns how many.
    pub(super) fn skip(&mut self, moment: AirTime) -> u64 {
        let before = self.ready.len();
        self.ready.retain(|unit| unit.due.at >= moment);
        (before - self.ready.len()) as u64
    }
}
