//! The desk of a station: the film that is playing, decoded, placed in time and encoded. All of it
//! blocks; the station's task sends it to a thread that may.

use std::path::Path;
use std::time::Duration;

use opencv::prelude::*;

use super::Fault;
use super::encoder::{Encoder, station_size};
use super::onair::AccessUnit;
use super::playout::{Playout, Policy};
use super::slate::slate;
use super::source::Source;
use crate::clock::AirClock;
use crate::lineup::StationSpec;
use crate::units::{AirTime, FrameRate};

/// What came of preparing a picture.
pub(super) enum Prepared {
    /// It is ready for the air.
    Unit {
        /// The picture and its time.
        unit: AccessUnit,
        /// It did not fit at the station's quality.
        squeezed: bool,
    },
    /// It was late already, and left out.
    Skipped,
    /// The station was so far behind that its time line starts anew.
    Behind(Duration),
    /// The film is over.
    End,
}

pub(super) struct Desk {
    clock: AirClock,
    width: u16,
    quality: u8,
    playout: Playout,
    film: Option<Source>,
    /// Made for the size of the first film; the station keeps that size.
    encoder: Option<Encoder>,
}

impl Desk {
    pub(super) fn new(spec: &StationSpec, clock: AirClock, start: AirTime, rate: FrameRate) -> Desk {
        let playout = Playout::new(start, rate);
        Desk { clock, width: spec.width, quality: spec.quality, playout, film: None, encoder: None }
    }

    /// Opens the film that plays next.
    pub(super) fn open(&mut self, path: &Path) -> Result<(), Fault> {
        self.film = None;
        let film = Source::open(path)?;
        self.playout.begin_film(film.rate());
        self.film = Some(film);
        Ok(())
    }

    /// The nominal rate of the film.
    pub(super) fn rate(&self) -> FrameRate {
        self.playout.rate()
    }

    /// Prepares the film's next picture.
    pub(super) fn prepare(&mut self) -> Result<Prepared, Fault> {
        let Some(film) = &mut self.film else { return Ok(Prepared::End) };
        let Some(picture) = film.next_picture()? else {
            self.film = None;
            return Ok(Prepared::End);
        };
        let now = self.clock.now();
        let due = self.playout.next(picture.stamp);
        match Playout::policy(due, now) {
            Policy::Air => {}
            Policy::Skip => return Ok(Prepared::Skipped),
            Policy::Reanchor => {
                self.playout.reanchor(now);
                return Ok(Prepared::Behind(now.since(due.at)));
            }
        }
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => {
                let (cols, rows) = (picture.pixels.cols() as u32, picture.pixels.rows() as u32);
                let size = station_size((cols, rows), film.pixel_aspect(), self.width);
                none.insert(Encoder::new(size, self.quality)?)
            }
        };
        let encoded = encoder.encode(&picture.pixels, film.pixel_aspect())?;
        Ok(Prepared::Unit { unit: AccessUnit { due, jpeg: encoded.jpeg }, squeezed: encoded.squeezed })
    }

    /// Draws picture `n` of a slate.
    pub(super) fn slate(
        &mut self,
        n: u64,
        rate: FrameRate,
        name: &str,
        reason: &str,
    ) -> Result<AccessUnit, Fault> {
        if n == 0 {
            self.film = None;
            self.playout.begin_film(rate);
        }
        let now = self.clock.now();
        let mut due = self.playout.next(rate.nth(n));
        if Playout::policy(due, now) != Policy::Air {
            self.playout.reanchor(now);
            due = self.playout.next(rate.nth(n));
        }
        // Without a film yet, the shape that most have.
        let size =
            self.encoder.as_ref().map_or_else(|| station_size((1920, 1080), 1.0, self.width), Encoder::size);
        let canvas = slate(size, name, reason, &clock_text(due.at));
        let encoded = match &mut self.encoder {
            Some(encoder) => encoder.encode_rgb32(&canvas.pixels)?,
            None => Encoder::new(size, self.quality)?.encode_rgb32(&canvas.pixels)?,
        };
        Ok(AccessUnit { due, jpeg: encoded.jpeg })
    }
}

/// The time of day, as everybody on the network has it.
fn clock_text(at: AirTime) -> String {
    let seconds = at.0 / 1_000_000_000;
    format!("{:02}:{:02}:{:02} UTC", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}
