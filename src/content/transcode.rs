//! The transcoder of a station: the film that is playing, decoded, placed in time and encoded. All of it
//! blocks; the station's task sends it to a thread that may.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use super::Fault;
use super::catalogue::Catalogue;
use super::decode::Source;
use super::encode::{Encoded, Encoder, station_size};
use super::recording::{Note, Recording};
use super::reel::RecordError;
use super::slate::slate;
use super::timeline::Timeline;
use crate::clock::AirClock;
use crate::lineup::StationSpec;
use crate::media::{AirTime, FrameRate, Policy, Size, Unit};

/// What came of preparing a picture.
pub(crate) enum Prepared {
    /// It is ready for the air.
    Unit {
        /// The picture and its time.
        unit: Unit,
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

pub(crate) struct Transcoder {
    clock: AirClock,
    catalogue: Arc<Catalogue>,
    width: u16,
    quality: u8,
    timeline: Timeline,
    film: Option<Source>,
    recording: Option<Recording>,
    /// The last picture was late.
    late: bool,
    /// For the size that the station has now.
    encoder: Option<Encoder>,
}

impl Transcoder {
    pub(crate) fn new(
        spec: &StationSpec,
        clock: AirClock,
        catalogue: Arc<Catalogue>,
        start: AirTime,
        rate: FrameRate,
    ) -> Transcoder {
        let timeline = Timeline::new(start, rate);
        let (width, quality) = (spec.width, spec.quality);
        let (film, recording, late, encoder) = (None, None, false, None);
        Transcoder { clock, catalogue, width, quality, timeline, film, recording, late, encoder }
    }

    /// Opens the film that plays next, at `earliest`, in pictures of `size` if the station has one already. What there is to
    /// record of it goes to `notes`.
    pub(crate) fn open(
        &mut self,
        path: &Path,
        earliest: AirTime,
        size: Option<Size>,
        notes: Option<SyncSender<Note>>,
    ) -> Result<(), Fault> {
        (self.film, self.recording) = (None, None);
        let film = Source::open(path)?;
        let size = size.unwrap_or_else(|| station_size(film.size(), film.pixel_aspect(), self.width));
        // A new one: how far the last film had to be squeezed says nothing of this one.
        self.encoder = Some(Encoder::new(size, self.quality)?);
        self.timeline.begin_film(film.rate(), earliest);
        self.recording = notes.map(|notes| Recording::new(&film, notes));
        (self.film, self.late) = (Some(film), false);
        Ok(())
    }

    /// The nominal rate of the film.
    pub(crate) fn rate(&self) -> FrameRate {
        self.timeline.rate()
    }

    /// Prepares the film's next picture. After an error the film is closed.
    pub(crate) fn prepare(&mut self) -> Result<Prepared, Fault> {
        let prepared = self.prepare_next();
        if prepared.is_err() {
            // Here, since closing one may block too.
            (self.film, self.recording) = (None, None);
        }
        prepared
    }

    fn prepare_next(&mut self) -> Result<Prepared, Fault> {
        let (Some(film), Some(encoder)) = (&mut self.film, &mut self.encoder) else {
            return Ok(Prepared::End);
        };
        let Some(picture) = film.next_picture()? else {
            let recorded = self.recording.take().map_or(Ok(()), Recording::end);
            no_reel(&self.catalogue, film, recorded);
            self.film = None;
            return Ok(Prepared::End);
        };
        let now = self.clock.now();
        let due = self.timeline.next(picture.stamp);
        let policy = due.policy(now);
        if policy == Policy::Reanchor {
            self.timeline.reanchor(now);
            // Not after a pause, but picture by picture: leaving out those that are late has to be enough to catch up.
            if self.late && self.recording.take().is_some() {
                no_reel(&self.catalogue, film, Err(RecordError::SlowMachine));
            }
        }
        self.late = policy != Policy::Air;
        let left_out = match policy {
            Policy::Air => None,
            Policy::Skip => Some(Prepared::Skipped),
            Policy::Reanchor => Some(Prepared::Behind(now.since(due.at))),
        };
        if self.recording.is_none()
            && let Some(left_out) = left_out
        {
            return Ok(left_out);
        }
        let Encoded { jpeg, squeezed } = encoder.encode(&picture.pixels, film.pixel_aspect())?;
        let recorded =
            self.recording.as_mut().map_or(Ok(()), |recording| recording.add(picture.stamp, &jpeg));
        if recorded.is_err() {
            self.recording = None;
            no_reel(&self.catalogue, film, recorded);
        }
        Ok(left_out.unwrap_or(Prepared::Unit { unit: Unit::picture(due, jpeg), squeezed }))
    }

    /// Draws picture `n` of a slate.
    pub(crate) fn slate(
        &mut self,
        earliest: AirTime,
        n: u64,
        rate: FrameRate,
        size: Option<Size>,
        name: &str,
        reason: &str,
    ) -> Result<Unit, Fault> {
        if n == 0 {
            self.film = None;
            self.timeline.begin_film(rate, earliest);
        }
        let now = self.clock.now();
        let mut due = self.timeline.next(rate.nth(n));
        if due.policy(now) != Policy::Air {
            self.timeline.reanchor(now);
            due = self.timeline.next(rate.nth(n));
        }
        // Without a film yet, the shape that most have.
        let size = size.unwrap_or_else(|| station_size((1920, 1080), 1.0, self.width));
        let encoder = match &mut self.encoder {
            Some(encoder) if encoder.size() == size => encoder,
            other => other.insert(Encoder::new(size, self.quality)?),
        };
        let canvas = slate(size, name, reason, &clock_text(due.at));
        let encoded = encoder.encode_rgb32(&canvas.pixels)?;
        Ok(Unit::picture(due, encoded.jpeg))
    }
}

/// Says why there will be no reel of a film, unless whoever writes it has said so.
fn no_reel(catalogue: &Catalogue, film: &Source, recorded: Result<(), RecordError>) {
    if let Err(error) = recorded
        && !matches!(error, RecordError::GivenUp)
    {
        catalogue.no_reel(film.path(), &error);
    }
}

/// The time of day, as everybody on the network has it.
fn clock_text(at: AirTime) -> String {
    let seconds = at.0 / 1_000_000_000;
    format!("{:02}:{:02}:{:02} UTC", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Receiver;

    use super::*;
    use crate::content::recording::notes;
    use crate::media::jpeg::Tables;

    /// Of 720 pictures.
    const FILM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/media/nature.mp4");

    /// A transcoder at which a film has opened that was to begin so long ago, and what is to be written of it.
    fn behind(span: Duration) -> (Transcoder, Receiver<Note>) {
        let clock = AirClock::start();
        let start = clock.now() - span;
        let rate = Source::open(Path::new(FILM)).unwrap().rate();
        let mut transcoder = Transcoder {
            catalogue: Arc::new(Catalogue::new(clock.clone(), None)),
            clock,
            width: 64,
            quality: 80,
            timeline: Timeline::new(start, rate),
            film: None,
            recording: None,
            late: false,
            encoder: None,
        };
        let (notes, noted) = notes();
        transcoder.open(Path::new(FILM), start, None, Some(notes)).unwrap();
        (transcoder, noted)
    }

    #[test]
    fn pictures_that_are_too_late_for_the_air_are_recorded_all_the_same() {
        for span in [Duration::from_millis(500), Duration::from_secs(3600)] {
            let (mut transcoder, noted) = behind(span);
            let (mut late, mut stamps, mut length) = (0, Vec::new(), None);
            loop {
                let prepared = transcoder.prepare().unwrap();
                for note in noted.try_iter() {
                    match note {
                        Note::Announced(pictures) => assert_eq!(pictures, 720),
                        Note::Picture(stamp, _) => stamps.push(stamp),
                        Note::End(_, span) => length = Some(span),
                    }
                }
                match prepared {
                    Prepared::Unit { .. } => {}
                    Prepared::Skipped | Prepared::Behind(_) => late += 1,
                    Prepared::End => break,
                }
            }
            assert!(late > 0, "{span:?} behind");
            let grid: Vec<_> = (0..720).map(|n| transcoder.rate().nth(n)).collect();
            assert_eq!(stamps, grid, "{span:?} behind, {late} late");
            assert_eq!(length, Some(transcoder.rate().nth(720)));
        }
    }

    #[test]
    fn who_does_not_catch_up_stops_recording() {
        let (mut transcoder, _noted) = behind(Duration::from_secs(3600));
        transcoder.late = true;
        assert!(matches!(transcoder.prepare().unwrap(), Prepared::Behind(_)));
        assert!(transcoder.recording.is_none());
    }

    #[test]
    fn a_reel_that_nobody_writes_costs_no_picture() {
        let (mut transcoder, noted) = behind(Duration::ZERO);
        for _ in 0..720 {
            assert!(matches!(transcoder.prepare().unwrap(), Prepared::Unit { .. } | Prepared::Skipped));
        }
        assert!(matches!(transcoder.prepare().unwrap(), Prepared::End));
        assert!(noted.iter().all(|note| !matches!(note, Note::End(..))), "it was given up");
    }

    #[test]
    fn a_film_is_not_squeezed_for_the_sake_of_the_one_before() {
        let (mut transcoder, _noted) = behind(Duration::ZERO);
        let size = Size { width: 640, height: 640 };
        transcoder.open(Path::new(FILM), AirTime::default(), Some(size), None).unwrap();
        let noise: Vec<u32> = std::iter::repeat_with(|| fastrand::u32(..)).take(640 * 640).collect();
        let encoder = transcoder.encoder.as_mut().unwrap();
        assert!(encoder.encode_rgb32(&noise).unwrap().squeezed);
        let earliest = transcoder.clock.now() + Duration::from_secs(3600); // late on no machine
        transcoder.open(Path::new(FILM), earliest, Some(size), None).unwrap();
        let Prepared::Unit { unit, squeezed: false } = transcoder.prepare().unwrap() else {
            panic!("squeezed")
        };
        assert_eq!(unit.jpeg().tables, Tables::Standard(80));
    }
}
