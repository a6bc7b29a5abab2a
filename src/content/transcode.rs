//! The film that is playing: decoded, placed in time and encoded. All of it blocks; a station's task sends it to a thread that may.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Fault;
use super::catalogue::Catalogue;
use super::decode::Source;
use super::encode::{Encoded, Encoder, station_size};
use super::timeline::Timeline;
use crate::clock::AirClock;
use crate::lineup::StationSpec;
use crate::media::{AirTime, Due, FrameRate, Policy, REPEAT_RATE, Size};

/// A picture of a film, prepared.
pub(crate) struct Prepared {
    /// Its time in the film.
    pub(crate) stamp: Duration,
    /// How long it lasts, if the film says so.
    pub(crate) lasts: Option<Duration>,
    /// Its time on air.
    pub(crate) due: Due,
    /// What to do with it, decided when it was decoded.
    pub(crate) policy: Policy,
    /// How late it was then.
    pub(crate) behind: Duration,
    /// The picture as it is sent; `None` of one that is left out and not recorded.
    pub(crate) coded: Option<Encoded>,
}

/// What came of preparing some pictures of a film.
pub(crate) struct Batch {
    /// The pictures, in their order.
    pub(crate) pictures: Vec<Prepared>,
    /// What follows them.
    pub(crate) then: Then,
}

/// What follows a batch of pictures.
pub(crate) enum Then {
    /// More of the film.
    More,
    /// The same, but nothing of the film is recorded any more: this machine does not keep up.
    StoppedRecording,
    /// The film is over, at this moment if its last picture lasts for longer than one interval.
    End(Option<AirTime>),
    /// The film cannot go on. It is closed.
    Failed(Fault),
}

/// A film as it was opened.
pub(crate) struct Opened {
    /// Its nominal rate.
    pub(crate) rate: FrameRate,
    /// How many pictures its container announces.
    pub(crate) announced: u64,
}

/// Decodes films and encodes their pictures, for one station.
pub(crate) struct Transcoder {
    clock: AirClock,
    catalogue: Arc<Catalogue>,
    width: u16,
    quality: u8,
    /// How long a picture file is on.
    slide: Duration,
    timeline: Timeline,
    film: Option<Box<dyn Source>>,
    /// What is late is encoded too.
    recording: bool,
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
    ) -> Transcoder {
        Transcoder {
            clock,
            catalogue,
            width: spec.width,
            quality: spec.quality,
            slide: spec.slide,
            timeline: Timeline::new(start, REPEAT_RATE),
            film: None,
            recording: false,
            late: false,
            encoder: None,
        }
    }

    /// Opens the film that plays next, at `earliest`, in pictures of `size` if the station has one already. If it is for a
    /// `recording`, pictures that are late are encoded all the same.
    pub(crate) fn open(
        &mut self,
        path: &Path,
        earliest: AirTime,
        size: Option<Size>,
        recording: bool,
    ) -> Result<Opened, Fault> {
        self.film = None;
        let mut film = self.catalogue.open(path)?;
        film.show_for(self.slide);
        let size = size.unwrap_or_else(|| station_size(film.size(), film.pixel_aspect(), self.width));
        // A new one: how far the last film had to be squeezed says nothing of this one.
        self.encoder = Some(Encoder::new(size, self.quality)?);
        self.timeline.begin_film(film.rate(), earliest);
        let opened = Opened { rate: film.rate(), announced: film.announced() };
        (self.film, self.recording, self.late) = (Some(film), recording, false);
        Ok(opened)
    }

    /// Prepares up to `most` of the film's next pictures, those that are late included as long as they are for a `recording`.
    pub(crate) fn prepare(&mut self, most: usize, recording: bool) -> Batch {
        let mut pictures = Vec::with_capacity(most);
        self.recording &= recording;
        let recording = self.recording;
        let then = loop {
            match self.prepare_next() {
                Ok(Some(picture)) => pictures.push(picture),
                Ok(None) => {
                    self.film = None;
                    break Then::End(self.timeline.held_until());
                }
                Err(fault) => {
                    // Here, since closing it may block too.
                    self.film = None;
                    break Then::Failed(fault);
                }
            }
            if recording && !self.recording {
                break Then::StoppedRecording;
            }
            if pictures.len() >= most {
                break Then::More;
            }
        };
        Batch { pictures, then }
    }

    fn prepare_next(&mut self) -> Result<Option<Prepared>, Fault> {
        let (Some(film), Some(encoder)) = (&mut self.film, &mut self.encoder) else { return Ok(None) };
        let Some(picture) = film.next_picture()? else { return Ok(None) };
        let now = self.clock.now();
        let due = self.timeline.next(picture.stamp);
        self.timeline.lasts(picture.lasts);
        let policy = due.policy(now);
        if policy == Policy::Reanchor {
            self.timeline.reanchor(now);
            // Not after a pause, but picture by picture: leaving out those that are late has to be enough to catch up.
            self.recording &= !self.late;
        }
        self.late = policy != Policy::Air;
        let coded = if self.late && !self.recording {
            None
        } else {
            Some(encoder.encode(&picture.pixels, film.pixel_aspect())?)
        };
        let behind = now.since(due.at);
        Ok(Some(Prepared { stamp: picture.stamp, lasts: picture.lasts, due, policy, behind, coded }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::decode;
    use crate::wire::payload::jpeg::MAX_SCAN;

    /// Of 720 pictures.
    const FILM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/media/nature.mp4");

    /// A transcoder that has opened a film for a recording, which was to begin so long ago.
    fn behind(span: Duration) -> Transcoder {
        let clock = AirClock::start();
        let start = clock.now() - span;
        let spec = StationSpec { width: 64, ..StationSpec::sample("239.77.0.2:5004") };
        let catalogue = Arc::new(Catalogue::new(clock.clone(), None));
        let mut transcoder = Transcoder::new(&spec, clock, catalogue, start);
        transcoder.open(Path::new(FILM), start, None, true).unwrap();
        transcoder
    }

    #[test]
    fn pictures_that_are_too_late_for_the_air_are_encoded_for_the_recording() {
        let rate = decode::open(Path::new(FILM)).unwrap().rate();
        for span in [Duration::from_millis(500), Duration::from_secs(3600)] {
            let mut transcoder = behind(span);
            let (mut late, mut stamps) = (0, Vec::new());
            loop {
                let batch = transcoder.prepare(4, true);
                for picture in batch.pictures {
                    late += u64::from(picture.policy != Policy::Air);
                    assert!(picture.coded.is_some_and(|coded| !coded.jpeg.scan.is_empty()));
                    stamps.push(picture.stamp);
                }
                match batch.then {
                    Then::More => {}
                    Then::End(_) => break,
                    Then::StoppedRecording | Then::Failed(_) => panic!("it ends"),
                }
            }
            assert!(late > 0, "{span:?} behind");
            // As a recording places them.
            let mut line = Timeline::new(AirTime::default(), rate);
            let place = |stamp| {
                line.next(stamp);
                line.film_offset()
            };
            let placed: Vec<_> = stamps.into_iter().map(place).collect();
            let grid: Vec<_> = (0..720).map(|n| rate.nth(n)).collect();
            assert_eq!(placed, grid, "{span:?} behind, {late} late");
        }
    }

    #[test]
    fn a_station_that_does_not_catch_up_stops_recording() {
        let mut transcoder = behind(Duration::from_secs(3600));
        transcoder.late = true;
        let batch = transcoder.prepare(4, true);
        assert!(matches!(batch.then, Then::StoppedRecording));
        assert_eq!(batch.pictures.len(), 1);
        assert!(batch.pictures[0].policy == Policy::Reanchor && batch.pictures[0].coded.is_none());
    }

    #[test]
    fn a_film_is_not_squeezed_for_the_sake_of_the_one_before() {
        let mut transcoder = behind(Duration::ZERO);
        let size = Size { width: 640, height: 640 };
        transcoder.open(Path::new(FILM), AirTime::default(), Some(size), false).unwrap();
        let noise: Vec<u32> = std::iter::repeat_with(|| fastrand::u32(..)).take(640 * 640).collect();
        let encoder = transcoder.encoder.as_mut().unwrap();
        let noisy = encoder.encode_rgb32(&noise).unwrap();
        assert!(noisy.squeezed && noisy.jpeg.scan.len() <= MAX_SCAN);
        let earliest = transcoder.clock.now() + Duration::from_secs(3600); // late on no machine
        transcoder.open(Path::new(FILM), earliest, Some(size), false).unwrap();
        let batch = transcoder.prepare(1, false);
        assert!(matches!(batch.then, Then::More));
        let coded = batch.pictures[0].coded.as_ref().unwrap();
        assert!(!coded.squeezed);
    }
}
