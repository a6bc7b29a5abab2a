//! Decodes a film with OpenCV. No other file names OpenCV's video reader.
//!
//! OpenCV converts all colours as BT.601 in limited range, turns films the wrong way, plays the first track, counts pictures that an
//! edit list hides, and does not tell how long each picture lasts. [`choice`](super::choice) gives it only films that it shows right.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use opencv::core::Mat;
use opencv::prelude::*;
use opencv::videoio::{self, VideoCapture};

use super::facts::Facts;
use super::libav::LibavSource;
use super::{End, PictureSource, SourceError, SourcePicture, check_readable, display, open_file, unreadable};
use crate::content::encode::Pixels;
use crate::media::FrameRate;

/// A film that OpenCV decodes.
pub(super) struct OpenCvSource {
    path: PathBuf,
    capture: VideoCapture,
    facts: Facts,
    /// The stamp of the first picture, once it was read.
    first: Option<Duration>,
    /// The stamp of the picture that was read last, since the first one.
    last: Option<Duration>,
    /// A picture that was read to find a position.
    ahead: Option<SourcePicture>,
    /// Decodes instead, where OpenCV did not find a position.
    instead: Option<Box<LibavSource>>,
    end: End,
}

/// Has OpenCV prepare FFmpeg as for its first film.
pub(super) fn load_ffmpeg() {
    // There is no such film.
    let _ = VideoCapture::from_file("/dev/null/film", videoio::CAP_FFMPEG);
}

/// How far the stamps of pictures may be off the grid of the rate: containers that count milliseconds round by half of one.
const ROUNDING: Duration = Duration::from_millis(1);

impl OpenCvSource {
    pub(super) fn open(path: &Path, facts: Facts) -> Result<OpenCvSource, SourceError> {
        let thrown = |error| decoder_error(path, error);
        // FFmpeg opens what has the name, and one lock holds up all stations meanwhile: it would wait for ever for somebody to write
        // to a pipe that took the film's name. The name of an open file is its own, and is never taken for a URL.
        let file = open_file(path).map_err(|error| unreadable(path, &error))?;
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        let capture = VideoCapture::from_file(name, videoio::CAP_FFMPEG).map_err(thrown)?;
        if !capture.is_opened().map_err(thrown)? {
            return Err(SourceError::NotAFilm { path: display(path) });
        }
        Ok(OpenCvSource {
            path: path.to_owned(),
            capture,
            facts,
            first: None,
            last: None,
            ahead: None,
            instead: None,
            end: End::default(),
        })
    }

    fn read(&mut self) -> Result<Option<SourcePicture>, SourceError> {
        let mut pixels = Mat::default();
        let more = self.capture.read(&mut pixels).map_err(|error| decoder_error(&self.path, error))?;
        if !more || pixels.empty() {
            return Ok(None);
        }
        // The stamp of the picture just read, B-frames or not; 0 if there is none, as for pictures that the decoder held back at the
        // end of the film.
        let millis = self.capture.get(videoio::CAP_PROP_POS_MSEC).unwrap_or(0.0);
        let stamp = Duration::from_nanos((millis.clamp(0.0, 1e12) * 1e6).round() as u64);
        let first = *self.first.get_or_insert(stamp);
        let follows = self.last.map(|last| last + self.facts.rate.interval()).unwrap_or_default();
        let stamp = if stamp.is_zero() { follows } else { stamp.saturating_sub(first) };
        self.last = Some(stamp);
        let pixels = Pixels::Bgr { pixels, pixel_aspect: self.pixel_aspect() };
        Ok(Some(SourcePicture { pixels, stamp, lasts: None }))
    }

    /// Whether OpenCV finds the picture that is on at `position`. It counts pictures, which is right if none is missing: the stamp
    /// tells.
    pub(super) fn finds(&mut self, position: Duration) -> Result<bool, SourceError> {
        if self.first.is_none() {
            self.ahead = self.read()?;
        }
        self.end.pass(Duration::ZERO);
        let mut number = self.facts.rate.nearest(position);
        if self.facts.rate.nth(number) > position + ROUNDING {
            number = number.saturating_sub(1);
        }
        if number >= self.facts.announced {
            return Ok(false);
        }
        (self.ahead, self.last) = (None, None);
        let set = self.capture.set(videoio::CAP_PROP_POS_FRAMES, number as f64);
        if !set.map_err(|error| decoder_error(&self.path, error))? {
            return Ok(false);
        }
        let Some(picture) = self.read()? else { return Ok(false) };
        let end = picture.stamp + self.facts.rate.interval();
        let is_on = picture.stamp <= position + ROUNDING && position < end + ROUNDING;
        self.ahead = Some(picture).filter(|_| is_on);
        Ok(is_on)
    }
}

impl PictureSource for OpenCvSource {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> (u32, u32) {
        self.facts.size
    }

    fn pixel_aspect(&self) -> f64 {
        self.facts.pixel_aspect
    }

    fn rate(&self) -> FrameRate {
        self.facts.rate
    }

    fn announced(&self) -> u64 {
        self.facts.announced
    }

    fn facts(&self) -> Option<&Facts> {
        Some(&self.facts)
    }

    fn next_picture(&mut self) -> Result<Option<SourcePicture>, SourceError> {
        if let Some(instead) = &mut self.instead {
            return instead.next_picture();
        }
        let picture = match self.ahead.take() {
            Some(picture) => Some(picture),
            None => self.read()?,
        };
        let Some(picture) = picture else { return self.end.check(&self.path, &self.facts).map(|()| None) };
        // Checked once a second of film. An open film would play on after it is removed, which its operator does not want, and
        // the loss of a network share would be noticed only when its buffers are empty.
        if self.end.note(picture.stamp).is_multiple_of(self.facts.rate.as_f64().ceil() as u64) {
            check_readable(&self.path)?;
        }
        Ok(Some(picture))
    }

    fn seek(&mut self, position: Duration) -> Result<(), SourceError> {
        if self.instead.is_none() && self.finds(position)? {
            return Ok(());
        }
        let instead = match &mut self.instead {
            Some(instead) => instead,
            None => {
                let instead = LibavSource::open(&self.path, self.facts.clone())?;
                let _ = self.capture.release();
                self.instead.insert(Box::new(instead))
            }
        };
        instead.seek(position)
    }
}

fn decoder_error(path: &Path, error: opencv::Error) -> SourceError {
    SourceError::Decoder {
        path: display(path),
        reason: error.message.lines().next().unwrap_or_default().into(),
    }
}
