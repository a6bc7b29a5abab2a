//! Decodes a film, picture by picture, with the presentation times of its container. Only this file names OpenCV's
//! video reader.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use opencv::core::Mat;
use opencv::prelude::*;
use opencv::videoio::{self, VideoCapture};

use crate::media::FrameRate;

/// The rate of a film whose container has none: that of European television.
const DEFAULT_RATE: FrameRate = match FrameRate::new(25, 1) {
    Some(rate) => rate,
    None => unreachable!(),
};

/// The share of the pictures that its container announces that a complete film has at least. Containers are wrong by a
/// few pictures at the edges (edit lists, open groups of pictures).
const COMPLETE: f64 = 0.95;

/// The same for a container without a count (Matroska, WebM, MPEG-TS). OpenCV then computes one from the length of the
/// longest track, and sound may last much longer than the pictures.
const COMPLETE_BY_LENGTH: f64 = 0.5;

/// A decoded picture.
pub struct SourcePicture {
    /// The pixels: 8-bit BGR, at the film's own size.
    pub pixels: Mat,
    /// The presentation time in the film.
    pub stamp: Duration,
}

/// Why a film cannot be played. The message is painted on the slate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The file does not exist, or may not be read.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// The film.
        path: String,
        /// The system's reason.
        reason: String,
    },
    /// The file has no video that can be decoded.
    #[error("cannot open {path}: no video in it, or of a kind this system cannot decode")]
    NotAFilm {
        /// The film.
        path: String,
    },
    /// The film ended before its first picture.
    #[error("{path} has no pictures")]
    NoPictures {
        /// The film.
        path: String,
    },
    /// The film ended early.
    #[error("{path} breaks off after {read} of {announced} pictures")]
    BreaksOff {
        /// The film.
        path: String,
        /// Pictures that were decoded.
        read: u64,
        /// Pictures that the container announces.
        announced: u64,
    },
    /// OpenCV failed.
    #[error("cannot decode {path}: {reason}")]
    Decoder {
        /// The film.
        path: String,
        /// OpenCV's reason.
        reason: String,
    },
}

/// An open film.
pub trait PictureSource: Send {
    /// The film's path.
    fn path(&self) -> &Path;

    /// Width and height in pixels, after the film's rotation is applied.
    fn size(&self) -> (u32, u32);

    /// The width of a pixel divided by its height (the sample aspect ratio): not 1 for anamorphic films.
    fn pixel_aspect(&self) -> f64;

    /// The nominal rate; the average rate if the rate varies.
    fn rate(&self) -> FrameRate;

    /// The number of pictures that the container announces, which may be a little wrong, or 0.
    fn announced(&self) -> u64;

    /// The next picture; `None` at the end of the film. Blocks while it decodes.
    ///
    /// # Errors
    /// The film ends early or has no pictures, its file can no longer be read, or the decoder fails.
    fn next_picture(&mut self) -> Result<Option<SourcePicture>, SourceError>;
}

/// Opens a film. Blocks for some milliseconds.
///
/// # Errors
/// The file cannot be read, or it has no video that can be decoded here.
pub fn open(path: &Path) -> Result<Box<dyn PictureSource>, SourceError> {
    Ok(Box::new(OpenCvSource::open(path)?))
}

/// A film that OpenCV decodes.
struct OpenCvSource {
    path: PathBuf,
    capture: VideoCapture,
    rate: FrameRate,
    size: (u32, u32),
    pixel_aspect: f64,
    announced: u64,
    /// Whether `announced` is the container's count.
    counted: bool,
    /// The number of pictures that were decoded.
    read: u64,
    /// The stamps of the first picture and the last.
    stamps: Option<(Duration, Duration)>,
}

impl PictureSource for OpenCvSource {
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

    fn next_picture(&mut self) -> Result<Option<SourcePicture>, SourceError> {
        let mut pixels = Mat::default();
        let more = self.capture.read(&mut pixels).map_err(|error| decoder_error(&self.path, error))?;
        if !more || pixels.empty() {
            return self.end();
        }
        // The stamp of the picture that was just read, also with B-frames. Without stamps, CAP_PROP_POS_MSEC counts
        // pictures.
        let millis = self.capture.get(videoio::CAP_PROP_POS_MSEC).unwrap_or(0.0);
        self.read += 1;
        // Once a second of film: removing a film takes it off the air, although the open file would play on, and a
        // lost network share is noticed before its buffers are empty.
        if self.read.is_multiple_of(self.rate.as_f64().ceil() as u64) {
            check_readable(&self.path)?;
        }
        let stamp = Duration::from_nanos((millis.clamp(0.0, 1e12) * 1e6).round() as u64);
        self.stamps = Some((self.stamps.map_or(stamp, |(first, _)| first), stamp));
        Ok(Some(SourcePicture { pixels, stamp }))
    }
}

impl OpenCvSource {
    fn open(path: &Path) -> Result<OpenCvSource, SourceError> {
        // Opened here first, since OpenCV gives no reason if it cannot open a file.
        let counted = File::open(path)
            .and_then(|file| counts_pictures(&file))
            .map_err(|error| unreadable(path, &error))?;
        let thrown = |error| decoder_error(path, error);
        let capture = VideoCapture::from_file(path, videoio::CAP_FFMPEG).map_err(thrown)?;
        if !capture.is_opened().map_err(thrown)? {
            return Err(SourceError::NotAFilm { path: display(path) });
        }
        let property = |id| capture.get(id).unwrap_or(0.0);
        let rate = FrameRate::from_f64(property(videoio::CAP_PROP_FPS)).unwrap_or(DEFAULT_RATE);
        let aspect = property(videoio::CAP_PROP_SAR_NUM) / property(videoio::CAP_PROP_SAR_DEN);
        let pixel_aspect = if (0.1..=10.0).contains(&aspect) { aspect } else { 1.0 };
        let announced = property(videoio::CAP_PROP_FRAME_COUNT).clamp(0.0, 1e15) as u64;
        let side = |id| property(id).clamp(1.0, 65_535.0) as u32;
        let size = (side(videoio::CAP_PROP_FRAME_WIDTH), side(videoio::CAP_PROP_FRAME_HEIGHT));
        let path = path.to_owned();
        let (read, stamps) = (0, None);
        Ok(OpenCvSource { path, capture, rate, size, pixel_aspect, announced, counted, read, stamps })
    }

    fn end(&self) -> Result<Option<SourcePicture>, SourceError> {
        // OpenCV reports the end of a film that was removed or replaced meanwhile as any other end.
        check_readable(&self.path)?;
        let path = display(&self.path);
        if self.read == 0 {
            return Err(SourceError::NoPictures { path });
        }
        let span = self.stamps.map_or(Duration::ZERO, |(first, last)| last.saturating_sub(first));
        if breaks_off(self.read, span + self.rate.interval(), self.announced, self.rate, self.counted) {
            return Err(SourceError::BreaksOff { path, read: self.read, announced: self.announced });
        }
        Ok(None)
    }
}

/// Whether a film that ended after `read` pictures, which lasted `span`, is shorter than its container announces.
fn breaks_off(read: u64, span: Duration, announced: u64, rate: FrameRate, counted: bool) -> bool {
    let complete = announced as f64 * if counted { COMPLETE } else { COMPLETE_BY_LENGTH };
    // If the rate varies, a count that was computed from the length is far off, but the length is not.
    (read as f64) < complete && span.as_secs_f64() * rate.as_f64() < complete
}

/// Whether a file's first bytes are those of a container that counts its pictures: MP4, QuickTime or AVI.
fn counts_pictures(file: &File) -> io::Result<bool> {
    let mut head = Vec::new();
    file.take(8).read_to_end(&mut head)?;
    let atoms: [&[u8]; 5] = [b"ftyp", b"moov", b"mdat", b"wide", b"free"];
    Ok(head.starts_with(b"RIFF") || atoms.iter().any(|atom| head.ends_with(atom)))
}

/// Checks that a film exists and may be read. Blocks.
///
/// # Errors
/// [`SourceError::Unreadable`], with the system's reason.
pub fn check_readable(path: &Path) -> Result<(), SourceError> {
    File::open(path).map(drop).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> SourceError {
    SourceError::Unreadable { path: display(path), reason: without_number(error) }
}

/// The message of an I/O error without the error number that Rust adds.
fn without_number(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

fn decoder_error(path: &Path, error: opencv::Error) -> SourceError {
    SourceError::Decoder {
        path: display(path),
        reason: error.message.lines().next().unwrap_or_default().into(),
    }
}

/// The film's name in messages: its file name.
fn display(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_film_breaks_off_if_it_is_much_shorter_than_its_container_announces() {
        let pal = FrameRate::new(25, 1).unwrap();
        let seconds = Duration::from_secs;
        for (read, span, announced, counted, broken, why) in [
            (250, seconds(10), 250, true, false, "complete"),
            (246, seconds(10), 250, true, false, "a few are missing at the edges"),
            (230, seconds(9), 250, true, true, "cut off"),
            (250, Duration::ZERO, 250, true, false, "no stamps"),
            (100, seconds(10), 250, false, false, "the rate varies"),
            (250, seconds(10), 275, false, false, "the sound is a second longer"),
            (100, seconds(4), 250, false, true, "cut off, without a count"),
            (250, seconds(10), 0, false, false, "the container announces nothing"),
        ] {
            assert_eq!(breaks_off(read, span, announced, pal, counted), broken, "{why}");
        }
    }
}
