//! A film, picture by picture, with the stamps it was made with. The one file that names OpenCV's
//! video reader.

use std::path::{Path, PathBuf};
use std::time::Duration;

use opencv::core::Mat;
use opencv::prelude::*;
use opencv::videoio::{self, VideoCapture};

use crate::units::FrameRate;

/// The rate of a film that does not say: the one Europe's films have.
const UNSAID_RATE: FrameRate = match FrameRate::new(25, 1) {
    Some(rate) => rate,
    None => unreachable!(),
};

/// A film that ends with fewer pictures than this share of what its container announced has broken, not ended.
/// Containers are off by a few pictures at the edges (edit lists, open groups of pictures).
const WHOLE: f64 = 0.95;

/// A decoded picture: 8-bit BGR, 3 channels, at the film's own size.
pub struct Picture {
    /// The pixels.
    pub pixels: Mat,
    /// Its presentation time in the film.
    pub stamp: Duration,
}

/// Why a film does not play. The sentence is shown on the slate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Not there, or not ours to read.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// The film.
        path: String,
        /// The system's reason.
        reason: String,
    },
    /// There, but no film.
    #[error("cannot open {path}: no video in it, or of a kind this system cannot decode")]
    NotAFilm {
        /// The film.
        path: String,
    },
    /// Opened, but without a single picture.
    #[error("{path} has no pictures")]
    NoPictures {
        /// The film.
        path: String,
    },
    /// Pictures ended before the film did.
    #[error("{path} breaks off after {read} of {announced} pictures")]
    BreaksOff {
        /// The film.
        path: String,
        /// Pictures that came.
        read: u64,
        /// Pictures that the container announced.
        announced: u64,
    },
    /// OpenCV threw.
    #[error("cannot decode {path}: {reason}")]
    Decoder {
        /// The film.
        path: String,
        /// OpenCV's reason.
        reason: String,
    },
}

/// An open film.
pub struct Source {
    path: PathBuf,
    capture: VideoCapture,
    rate: FrameRate,
    size: (u32, u32),
    /// Width of a pixel by its height: 1 for most films.
    pixel_aspect: f64,
    announced: u64,
    read: u64,
}

impl Source {
    /// Opens a film. Blocks for some milliseconds.
    ///
    /// # Errors
    /// It cannot be read, or there is no video in it that OpenCV can decode.
    pub fn open(path: &Path) -> Result<Source, SourceError> {
        // OpenCV would only say "no".
        readable(path)?;
        let thrown = |error| decoder_error(path, error);
        let capture = VideoCapture::from_file(path, videoio::CAP_FFMPEG).map_err(thrown)?;
        if !capture.is_opened().map_err(thrown)? {
            return Err(SourceError::NotAFilm { path: display(path) });
        }
        let property = |id| capture.get(id).unwrap_or(0.0);
        let rate = FrameRate::from_f64(property(videoio::CAP_PROP_FPS)).unwrap_or(UNSAID_RATE);
        let aspect = property(videoio::CAP_PROP_SAR_NUM) / property(videoio::CAP_PROP_SAR_DEN);
        let pixel_aspect = if (0.1..=10.0).contains(&aspect) { aspect } else { 1.0 };
        let announced = property(videoio::CAP_PROP_FRAME_COUNT).clamp(0.0, 1e15) as u64;
        let side = |id| property(id).clamp(1.0, 65_535.0) as u32;
        let size = (side(videoio::CAP_PROP_FRAME_WIDTH), side(videoio::CAP_PROP_FRAME_HEIGHT));
        Ok(Source { path: path.to_owned(), capture, rate, size, pixel_aspect, announced, read: 0 })
    }

    /// How many pictures its container announces: about as many as there are, or 0.
    pub fn announced(&self) -> u64 {
        self.announced
    }

    /// The film's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size in pixels, turned upright.
    pub fn size(&self) -> (u32, u32) {
        self.size
    }

    /// Its nominal rate: the average, if it varies.
    pub fn rate(&self) -> FrameRate {
        self.rate
    }

    /// Width of a pixel by its height (the sample aspect ratio): above 1 for anamorphic films.
    pub fn pixel_aspect(&self) -> f64 {
        self.pixel_aspect
    }

    /// The next picture; `None` at the end of the film. Blocks while decoding.
    ///
    /// # Errors
    /// The film breaks off, has no pictures at all, or the decoder fails.
    pub fn next_picture(&mut self) -> Result<Option<Picture>, SourceError> {
        let mut pixels = Mat::default();
        let more = self.capture.read(&mut pixels).map_err(|error| decoder_error(&self.path, error))?;
        if !more || pixels.empty() {
            return self.end();
        }
        // The stamp of the picture just read, B-frames or not (CAP_PROP_POS_MSEC counts pictures where there is none).
        let millis = self.capture.get(videoio::CAP_PROP_POS_MSEC).unwrap_or(0.0);
        self.read += 1;
        // An open file plays on when it is removed; but who removes it wants it off the air, and a lost share
        // would only be noticed when its buffers are empty. Once a second of film.
        if self.read.is_multiple_of(self.rate.as_f64().ceil() as u64) {
            readable(&self.path)?;
        }
        Ok(Some(Picture {
            pixels,
            stamp: Duration::from_nanos((millis.clamp(0.0, 1e12) * 1e6).round() as u64),
        }))
    }

    fn end(&self) -> Result<Option<Picture>, SourceError> {
        // A film that was replaced or removed under us ends like any other.
        readable(&self.path)?;
        let path = display(&self.path);
        if self.read == 0 {
            return Err(SourceError::NoPictures { path });
        }
        if (self.read as f64) < self.announced as f64 * WHOLE {
            return Err(SourceError::BreaksOff { path, read: self.read, announced: self.announced });
        }
        Ok(None)
    }
}

/// Whether a film is there and may be read.
///
/// # Errors
/// [`SourceError::Unreadable`], with the system's reason.
pub fn readable(path: &Path) -> Result<(), SourceError> {
    std::fs::File::open(path)
        .map(drop)
        .map_err(|error| SourceError::Unreadable { path: display(path), reason: plain(&error) })
}

/// An I/O error in words, without the number that Rust adds to them.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

fn decoder_error(path: &Path, error: opencv::Error) -> SourceError {
    SourceError::Decoder {
        path: display(path),
        reason: error.message.lines().next().unwrap_or_default().into(),
    }
}

/// The film as people call it: by its file name.
fn display(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
