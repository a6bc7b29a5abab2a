//! Transcodes a film that one station plays by itself, since it has no reel: decodes its pictures, determines when they
//! are due, and encodes those that are not late. All of it blocks, so a station's task lends the transcoder to a thread
//! that may.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Fault;
use super::catalogue::Catalogue;
use super::decode::PictureSource;
use super::encode::{Encoded, Encoder, station_size};
use super::timeline::Timeline;
use crate::clock::AirClock;
use crate::lineup::StationSpec;
use crate::media::{AirTime, Due, FrameRate, Policy, REPEAT_RATE, Size};

/// A transcoded picture of a film.
pub(crate) struct TranscodedPicture {
    /// Its presentation time, since the first picture of the film.
    pub(crate) stamp: Duration,
    /// The due time and interval on air.
    pub(crate) due: Due,
    /// Whether to air the picture, decided when it was decoded.
    pub(crate) policy: Policy,
    /// How long after its due time the picture was decoded.
    pub(crate) behind: Duration,
    /// The coded picture; `None` if the picture is not aired.
    pub(crate) encoded: Option<Encoded>,
}

/// Some transcoded pictures of a film.
pub(crate) struct Batch {
    /// The pictures, in order.
    pub(crate) pictures: Vec<TranscodedPicture>,
    /// Why the batch ends.
    pub(crate) end: BatchEnd,
}

/// Why a batch of pictures ends.
pub(crate) enum BatchEnd {
    /// The batch is full. The film goes on.
    More,
    /// The film has ended: at this moment, if its last picture lasts for longer than one interval.
    FilmEnded(Option<AirTime>),
    /// The film cannot go on, and was closed.
    Failed(Fault),
}

/// The properties of a film that was opened.
pub(crate) struct OpenedFilm {
    /// The nominal rate.
    pub(crate) rate: FrameRate,
    /// The size of all pictures on air.
    pub(crate) size: Size,
    /// The length of its round, as far as its container tells.
    pub(crate) length: Option<Duration>,
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
    film: Option<Box<dyn PictureSource>>,
    /// Whether the film was begun on the time line.
    begun: bool,
    /// When the film's first picture was due, if the film is joined in its middle.
    began: Option<AirTime>,
    /// The encoder of the film.
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
            begun: false,
            began: None,
            encoder: None,
        }
    }

    /// Opens the film that plays next, in pictures of `size` if the station has a size already. Its first picture is the
    /// one that is on at `from` after the beginning of the film. It is due as if the film had begun at `began`, or as soon
    /// as can be.
    pub(crate) fn open(
        &mut self,
        path: &Path,
        size: Option<Size>,
        from: Duration,
        began: Option<AirTime>,
    ) -> Result<OpenedFilm, Fault> {
        self.film = None;
        let mut film = self.catalogue.open(path)?;
        film.show_for(self.slide);
        let size = size.unwrap_or_else(|| station_size(film.size(), film.pixel_aspect(), self.width));
        film.make_for(size);
        if !from.is_zero() {
            film.seek(from)?;
        }
        // A new encoder, since the quality to which the last film was squeezed is not a good guess for this one.
        self.encoder = Some(Encoder::new(size, self.quality)?);
        let opened = OpenedFilm { rate: film.rate(), size, length: film.length() };
        (self.film, self.begun, self.began) = (Some(film), false, began);
        Ok(opened)
    }

    /// Transcodes up to `most` of the film's next pictures. The first of them is due at `earliest` or later.
    pub(crate) fn transcode(&mut self, most: usize, earliest: AirTime) -> Batch {
        let mut pictures = Vec::with_capacity(most);
        let end = loop {
            match self.transcode_next(earliest) {
                Ok(Some(picture)) => pictures.push(picture),
                Ok(None) => {
                    self.film = None;
                    break BatchEnd::FilmEnded(self.timeline.held_until());
                }
                Err(fault) => {
                    // Closed on this thread, since that may block too.
                    self.film = None;
                    break BatchEnd::Failed(fault);
                }
            }
            if pictures.len() >= most {
                break BatchEnd::More;
            }
        };
        Batch { pictures, end }
    }

    #[expect(clippy::disallowed_methods, reason = "a shell: it asks whether a picture is late")]
    fn transcode_next(&mut self, earliest: AirTime) -> Result<Option<TranscodedPicture>, Fault> {
        let (Some(film), Some(encoder)) = (&mut self.film, &mut self.encoder) else { return Ok(None) };
        let Some(picture) = film.next_picture()? else { return Ok(None) };
        let now = self.clock.now();
        if !std::mem::replace(&mut self.begun, true) {
            let due = self.began.map_or(earliest, |began| began + picture.stamp);
            self.timeline.begin_film(film.rate(), due);
        }
        let due = self.timeline.next(picture.stamp);
        self.timeline.lasts(picture.lasts);
        let policy = due.policy(now);
        if policy == Policy::Reanchor {
            self.timeline.reanchor(now);
        }
        let encoded = match policy {
            Policy::Air => Some(encoder.encode(&picture.pixels)?),
            Policy::Skip | Policy::Reanchor => None,
        };
        Ok(Some(TranscodedPicture { stamp: picture.stamp, due, policy, behind: now.since(due.at), encoded }))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "in virtual time")]
mod tests {
    use super::*;
    use crate::content::decode;
    use crate::wire::payload::jpeg::MAX_SCAN;

    /// A film of 720 pictures.
    const FILM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/media/nature.mp4");

    /// A transcoder that has opened a film, and is `span` behind.
    fn behind(span: Duration) -> Transcoder {
        let clock = AirClock::start();
        let start = clock.now() - span;
        let spec = StationSpec { width: 64, ..StationSpec::sample("239.77.0.2:5004") };
        let catalogue = Arc::new(Catalogue::new(clock.clone(), None));
        let mut transcoder = Transcoder::new(&spec, clock, catalogue, start);
        transcoder.open(Path::new(FILM), None, Duration::ZERO, None).unwrap();
        transcoder
    }

    #[test]
    fn pictures_that_are_too_late_for_the_air_are_not_encoded() {
        let mut transcoder = behind(Duration::from_secs(3600));
        let batch = transcoder.transcode(4, AirTime::default());
        assert_eq!(batch.pictures.len(), 4);
        let first = &batch.pictures[0];
        assert!(first.policy == Policy::Reanchor && first.encoded.is_none());
        assert!(
            batch.pictures.iter().all(|picture| picture.encoded.is_some() == (picture.policy == Policy::Air))
        );
    }

    #[test]
    fn a_film_is_opened_where_it_is_to_go_on() {
        let mut transcoder = behind(Duration::ZERO);
        let rate = decode::open(Path::new(FILM)).unwrap().rate();
        transcoder.open(Path::new(FILM), None, rate.nth(700), None).unwrap();
        let earliest = transcoder.clock.now() + Duration::from_secs(3600); // late on no machine
        let batch = transcoder.transcode(100, earliest);
        assert!(matches!(batch.end, BatchEnd::FilmEnded(_)));
        assert_eq!(batch.pictures.len(), 20);
        assert_eq!(batch.pictures[0].due.at, earliest);
        assert_eq!(batch.pictures[19].due.at, earliest + rate.nth(19));
    }

    #[test]
    fn a_film_is_not_squeezed_because_the_film_before_it_was() {
        let mut transcoder = behind(Duration::ZERO);
        let size = Size { width: 640, height: 640 };
        transcoder.open(Path::new(FILM), Some(size), Duration::ZERO, None).unwrap();
        let noise: Vec<u32> = std::iter::repeat_with(|| fastrand::u32(..)).take(640 * 640).collect();
        let encoder = transcoder.encoder.as_mut().unwrap();
        let noisy = encoder.encode_rgb32(&noise).unwrap();
        assert!(noisy.squeezed && noisy.jpeg.scan.len() <= MAX_SCAN);
        let earliest = transcoder.clock.now() + Duration::from_secs(3600); // late on no machine
        transcoder.open(Path::new(FILM), Some(size), Duration::ZERO, None).unwrap();
        let batch = transcoder.transcode(1, earliest);
        assert!(matches!(batch.end, BatchEnd::More));
        let encoded = batch.pictures[0].encoded.as_ref().unwrap();
        assert!(!encoded.squeezed);
    }
}
