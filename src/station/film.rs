//! The desk of a station: the film that is playing, decoded, placed in time and encoded. All of it
//! blocks; the station's task sends it to a thread that may.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Fault;
use super::catalogue::Catalogue;
use super::encoder::{Encoded, Encoder, station_size};
use super::onair::AccessUnit;
use super::playout::{Playout, Policy};
use super::reel::{RecordError, Recorder, Reel};
use super::slate::slate;
use super::source::Source;
use crate::clock::AirClock;
use crate::lineup::StationSpec;
use crate::units::{AirTime, FrameRate, Size};

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
    End(Option<Recorded>),
}

/// A film that has been on air from beginning to end, and recorded on the way.
pub(super) struct Recorded {
    recorder: Recorder,
    rate: FrameRate,
    length: Duration,
}

impl Recorded {
    /// Makes a reel of it. Blocks until that is on the disk.
    pub(super) fn finish(self, now: AirTime) -> Result<Arc<Reel>, RecordError> {
        self.recorder.finish(self.rate, self.length, now)
    }
}

pub(super) struct Desk {
    clock: AirClock,
    catalogue: Arc<Catalogue>,
    width: u16,
    quality: u8,
    playout: Playout,
    film: Option<Source>,
    recorder: Option<Recorder>,
    /// For the size that the station has now.
    encoder: Option<Encoder>,
}

impl Desk {
    pub(super) fn new(
        spec: &StationSpec,
        clock: AirClock,
        catalogue: Arc<Catalogue>,
        start: AirTime,
        rate: FrameRate,
    ) -> Desk {
        let playout = Playout::new(start, rate);
        let (width, quality) = (spec.width, spec.quality);
        Desk { clock, catalogue, width, quality, playout, film: None, recorder: None, encoder: None }
    }

    /// Opens the film that plays next, at `earliest`, in pictures of `size` if the station has one already.
    pub(super) fn open(
        &mut self,
        path: &Path,
        earliest: AirTime,
        size: Option<Size>,
        mut recorder: Option<Recorder>,
    ) -> Result<(), Fault> {
        (self.film, self.recorder) = (None, None);
        let film = Source::open(path)?;
        if let Some(recorder) = &mut recorder {
            recorder.expect(film.announced());
        }
        let size = size.unwrap_or_else(|| station_size(film.size(), film.pixel_aspect(), self.width));
        if self.encoder.as_ref().is_none_or(|encoder| encoder.size() != size) {
            self.encoder = Some(Encoder::new(size, self.quality)?);
        }
        self.playout.begin_film(film.rate(), earliest);
        (self.film, self.recorder) = (Some(film), recorder);
        Ok(())
    }

    /// The nominal rate of the film.
    pub(super) fn rate(&self) -> FrameRate {
        self.playout.rate()
    }

    /// Prepares the film's next picture. After an error the film is closed.
    pub(super) fn prepare(&mut self) -> Result<Prepared, Fault> {
        let prepared = self.prepare_next();
        if prepared.is_err() {
            // Here, since closing one may block too.
            (self.film, self.recorder) = (None, None);
        }
        prepared
    }

    fn prepare_next(&mut self) -> Result<Prepared, Fault> {
        let (Some(film), Some(encoder)) = (&mut self.film, &mut self.encoder) else {
            return Ok(Prepared::End(None));
        };
        let Some(picture) = film.next_picture()? else {
            self.film = None;
            let (rate, length) = (self.playout.rate(), self.playout.film_length());
            let recorder = self.recorder.take();
            return Ok(Prepared::End(recorder.map(|recorder| Recorded { recorder, rate, length })));
        };
        let now = self.clock.now();
        let due = self.playout.next(picture.stamp);
        let policy = Playout::policy(due, now);
        if policy != Policy::Air {
            // A reel without this picture would be another film. The next round records again.
            self.recorder = None;
        }
        match policy {
            Policy::Air => {}
            Policy::Skip => return Ok(Prepared::Skipped),
            Policy::Reanchor => {
                self.playout.reanchor(now);
                return Ok(Prepared::Behind(now.since(due.at)));
            }
        }
        let Encoded { jpeg, squeezed } = encoder.encode(&picture.pixels, film.pixel_aspect())?;
        if let Some(recorder) = &mut self.recorder
            && let Err(error) = recorder.add(self.playout.film_offset(), &jpeg)
        {
            self.catalogue.no_reel(film.path(), &error);
            self.recorder = None;
        }
        Ok(Prepared::Unit { unit: AccessUnit { due, jpeg }, squeezed })
    }

    /// Draws picture `n` of a slate.
    pub(super) fn slate(
        &mut self,
        earliest: AirTime,
        n: u64,
        rate: FrameRate,
        size: Option<Size>,
        name: &str,
        reason: &str,
    ) -> Result<AccessUnit, Fault> {
        if n == 0 {
            self.film = None;
            self.playout.begin_film(rate, earliest);
        }
        let now = self.clock.now();
        let mut due = self.playout.next(rate.nth(n));
        if Playout::policy(due, now) != Policy::Air {
            self.playout.reanchor(now);
            due = self.playout.next(rate.nth(n));
        }
        // Without a film yet, the shape that most have.
        let size = size.unwrap_or_else(|| station_size((1920, 1080), 1.0, self.width));
        let encoder = match &mut self.encoder {
            Some(encoder) if encoder.size() == size => encoder,
            other => other.insert(Encoder::new(size, self.quality)?),
        };
        let canvas = slate(size, name, reason, &clock_text(due.at));
        let encoded = encoder.encode_rgb32(&canvas.pixels)?;
        Ok(AccessUnit { due, jpeg: encoded.jpeg })
    }
}

/// The time of day, as everybody on the network has it.
fn clock_text(at: AirTime) -> String {
    let seconds = at.0 / 1_000_000_000;
    format!("{:02}:{:02}:{:02} UTC", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}
