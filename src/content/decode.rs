//! A film, picture by picture, with the stamps it was made with. The one file that names OpenCV's
//! video reader.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use opencv::core::Mat;
use opencv::prelude::*;
use opencv::videoio::{self, VideoCapture};

use crate::media::FrameRate;

/// The rate of a film that does not say: the one Europe's films have.
const UNSAID_RATE: FrameRate = match FrameRate::new(25, 1) {
    Some(rate) => rate,
    None => unreachable!(),
};

/// A film that ends with less than this share of what its container announced has broken, not ended. Containers are off
/// by a few pictures at the edges (edit lists, open groups of pictures).
const WHOLE: f64 = 0.95;

/// The same where the container has no count (Matroska, WebM, MPEG-TS). OpenCV then makes one of its length, which is that
/// of the longest track: sound may well go on for longer than the pictures.
const WHOLE_AT_A_GUESS: f64 = 0.5;

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

/// An open film, picture by picture.
pub trait Source: Send {
    /// The film's path.
    fn path(&self) -> &Path;

    /// Its size in pixels, turned upright.
    fn size(&self) -> (u32, u32);

    /// Width of a pixel by its height (the sample aspect ratio): above 1 for anamorphic films.
    fn pixel_aspect(&self) -> f64;

    /// Its nominal rate: the average, if it varies.
    fn rate(&self) -> FrameRate;

    /// How many pictures its container announces: about as many as there are, or 0.
    fn announced(&self) -> u64;

    /// The next picture; `None` at the end of the film. Blocks while decoding.
    ///
    /// # Errors
    /// The film breaks off, has no pictures at all, or the decoder fails.
    fn next_picture(&mut self) -> Result<Option<Picture>, SourceError>;
}

/// Opens a film. Blocks for some milliseconds.
///
/// # Errors
/// It cannot be read, or there is no video in it that can be decoded here.
pub fn open(path: &Path) -> Result<Box<dyn Source>, SourceError> {
    Ok(Box::new(OpenCvSource::open(path)?))
}

/// A film that OpenCV decodes.
struct OpenCvSource {
    path: PathBuf,
    capture: VideoCapture,
    rate: FrameRate,
    size: (u32, u32),
    /// Width of a pixel by its height: 1 for most films.
    pixel_aspect: f64,
    announced: u64,
    /// The container has counted them.
    counted: bool,
    read: u64,
    /// The stamps of the first picture and the last.
    stamps: Option<(Duration, Duration)>,
}

impl Source for OpenCvSource {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> (u32, u32) {
        self.size
    }

    fn pixel_aspect(&self) -> f64 {
        self.pixel_aspect
    }

    fn rate(&self) -> FrameRate {
        self.rate
    }

    fn announced(&self) -> u64 {
        self.announced
    }

    fn next_picture(&mut self) -> Result<Option<Picture>, SourceError> {
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
        let stamp = Duration::from_nanos((millis.clamp(0.0, 1e12) * 1e6).round() as u64);
        self.stamps = Some((self.stamps.map_or(stamp, |(first, _)| first), stamp));
        Ok(Some(Picture { pixels, stamp }))
    }
}

impl OpenCvSource {
    fn open(path: &Path) -> Result<OpenCvSource, SourceError> {
        // OpenCV would only say "no".
        let counted = File::open(path)
            .and_then(|file| counts_pictures(&file))
            .map_err(|error| unreadable(path, &error))?;
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
        let path = path.to_owned();
        let (read, stamps) = (0, None);
        Ok(OpenCvSource { path, capture, rate, size, pixel_aspect, announced, counted, read, stamps })
    }

    fn end(&self) -> Result<Option<Picture>, SourceError> {
        // A film that was replaced or removed under us ends like any other.
        readable(&self.path)?;
        let path = display(&self.path);
        if self.read == 0 {
            return Err(SourceError::NoPictures { path });
        }
        let span = self.stamps.map_or(Duration::ZERO, |(first, last)| last.saturating_sub(first));
        if is_broken(self.read, span + self.rate.interval(), self.announced, self.rate, self.counted) {
            return Err(SourceError::BreaksOff { path, read: self.read, announced: self.announced });
        }
        Ok(None)
    }
}

/// Whether a film that ended after `read` pictures, which took `span`, is less than what was announced.
fn is_broken(read: u64, span: Duration, announced: u64, rate: FrameRate, counted: bool) -> bool {
    let whole = announced as f64 * if counted { WHOLE } else { WHOLE_AT_A_GUESS };
    // In a film of variable rate a count that is made of its length is far off, but its length is not.
    (read as f64) < whole && span.as_secs_f64() * rate.as_f64() < whole
}

/// Whether its container counts its pictures, by how it begins: MP4 and QuickTime do, and AVI.
fn counts_pictures(file: &File) -> io::Result<bool> {
    let mut head = Vec::new();
    file.take(8).read_to_end(&mut head)?;
    let atoms: [&[u8]; 5] = [b"ftyp", b"moov", b"mdat", b"wide", b"free"];
    Ok(head.starts_with(b"RIFF") || atoms.iter().any(|atom| head.ends_with(atom)))
}

/// Whether a film is there and may be read.
///
/// # Errors
/// [`SourceError::Unreadable`], with the system's reason.
pub fn readable(path: &Path) -> Result<(), SourceError> {
    File::open(path).map(drop).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> SourceError {
    SourceError::Unreadable { path: display(path), reason: plain(error) }
}

/// An I/O error in words, without the number that Rust adds to them.
fn plain(error: &io::Error) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_film_is_broken_by_what_its_container_can_know() {
        let pal = FrameRate::new(25, 1).unwrap();
        let seconds = Duration::from_secs;
        for (read, span, announced, counted, broken, why) in [
            (250, seconds(10), 250, true, false, "whole"),
            (246, seconds(10), 250, true, false, "a few at the edges"),
            (230, seconds(9), 250, true, true, "cut off"),
            (250, Duration::ZERO, 250, true, false, "no stamps"),
            (100, seconds(10), 250, false, false, "12 of 30 a second, at a rate that varies"),
            (250, seconds(10), 275, false, false, "sound goes on for a second"),
            (100, seconds(4), 250, false, true, "cut off, without a count"),
            (250, seconds(10), 0, false, false, "nothing is announced"),
        ] {
            assert_eq!(is_broken(read, span, announced, pal, counted), broken, "{why}");
        }
    }
}
