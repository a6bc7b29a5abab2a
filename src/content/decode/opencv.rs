//! Decodes a film with OpenCV. No other file names OpenCV's video reader.
//!
//! OpenCV converts all colours as BT.601 in limited range, turns films the wrong way, plays the first track, counts pictures that an
//! edit list hides, and does not tell how long each picture lasts. [`choice`](super::choice) gives it only films that it shows right.

use std::path::{Path, PathBuf, absolute};
use std::time::Duration;

use opencv::core::Mat;
use opencv::prelude::*;
use opencv::videoio::{self, VideoCapture};

use super::facts::Facts;
use super::{End, PictureSource, SourceError, SourcePicture, check_readable, display};
use crate::media::FrameRate;

/// A film that OpenCV decodes.
pub(super) struct OpenCvSource {
    path: PathBuf,
    capture: VideoCapture,
    facts: Facts,
    end: End,
}

impl OpenCvSource {
    pub(super) fn open(path: &Path, facts: Facts) -> Result<OpenCvSource, SourceError> {
        let thrown = |error| decoder_error(path, error);
        // FFmpeg takes the text before a colon for a protocol, unless a slash comes first.
        let whole = absolute(path).unwrap_or_else(|_| path.to_owned());
        let capture = VideoCapture::from_file(whole, videoio::CAP_FFMPEG).map_err(thrown)?;
        if !capture.is_opened().map_err(thrown)? {
            return Err(SourceError::NotAFilm { path: display(path) });
        }
        Ok(OpenCvSource { path: path.to_owned(), capture, facts, end: End::default() })
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
        let mut pixels = Mat::default();
        let more = self.capture.read(&mut pixels).map_err(|error| decoder_error(&self.path, error))?;
        if !more || pixels.empty() {
            return self.end.check(&self.path, &self.facts).map(|()| None);
        }
        // The stamp of the picture just read, also with B-frames. Without stamps, CAP_PROP_POS_MSEC counts pictures.
        let millis = self.capture.get(videoio::CAP_PROP_POS_MSEC).unwrap_or(0.0);
        let stamp = Duration::from_nanos((millis.clamp(0.0, 1e12) * 1e6).round() as u64);
        // Checked once a second of film. An open film would play on after it is removed, which its operator does not want, and
        // the loss of a network share would be noticed only when its buffers are empty.
        if self.end.note(stamp).is_multiple_of(self.facts.rate.as_f64().ceil() as u64) {
            check_readable(&self.path)?;
        }
        Ok(Some(SourcePicture { pixels, stamp, lasts: None }))
    }
}

fn decoder_error(path: &Path, error: opencv::Error) -> SourceError {
    SourceError::Decoder {
        path: display(path),
        reason: error.message.lines().next().unwrap_or_default().into(),
    }
}
