//! Decodes films picture by picture, with their own timestamps. OpenCV decodes each film that it shows right, and libav all others.
//!
//! ```text
//! path -> check_readable -> is_picture? -> slide
//!                  \-> facts -> choice -> opencv
//!                                    \--> libav
//! ```

mod choice;
mod ends_early;
pub mod facts;
mod libav;
mod opencv;
mod parameters;
mod slide;
mod stamps;
mod turn;

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use rustix::fs::OFlags;

use self::opencv::OpenCvSource;
pub use choice::FilmDecoder;
use facts::Facts;
use libav::LibavSource;
pub(crate) use libav::{FilmDemuxer, Shape, demux, mat, shape_of};
use slide::{SlideSource, is_picture};

use super::encode::Pixels;
use crate::media::{FrameRate, Size};

/// A film that ends after less than this share of the pictures that its container announced is broken. Counts are off by a few
/// pictures at the edges (edit lists, open groups of pictures).
const COMPLETE: f64 = 0.95;

/// At most so much may be missing of a film all the same, of which that share is a fraction of a second: a clip.
const EDGE: Duration = Duration::from_millis(480);

/// The same if the container has no length of the picture track. Recordings begin in the middle of a group of pictures, of which
/// nothing is shown.
const EDGE_BY_LENGTH: Duration = Duration::from_secs(1);

/// The same share if the container has no length of the picture track (some MPEG-TS, WebM). The count is then computed from the
/// length of the longest track, which may be longer than the pictures.
const COMPLETE_BY_LENGTH: f64 = 0.5;

/// A decoded picture: BGR at the film's own size, or what suits the station that it is [made for](PictureSource::make_for).
pub struct SourcePicture {
    /// The pixels.
    pub pixels: Pixels,
    /// Presentation time, since the first picture.
    pub stamp: Duration,
    /// How long the picture is shown, if the film has a duration for each picture.
    pub lasts: Option<Duration>,
}

/// Why a film does not play. The sentence is shown on the slate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The file is missing or may not be read.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// The film.
        path: String,
        /// The system's reason.
        reason: String,
    },
    /// The file has no video that this system can decode.
    #[error("{path} is not a film: there is no video in it that this system can decode")]
    NotAFilm {
        /// The film.
        path: String,
    },
    /// The file has sound and at most cover art.
    #[error("{path} is music: it has no video, at most cover art")]
    Music {
        /// The film.
        path: String,
    },
    /// The file opened, but has no picture.
    #[error("{path} has no pictures")]
    NoPictures {
        /// The film.
        path: String,
    },
    /// The pictures ended before the film did.
    #[error("{path} breaks off after {read} of {announced} pictures")]
    BreaksOff {
        /// The film.
        path: String,
        /// Number of pictures decoded.
        read: u64,
        /// Number of pictures that the container announced.
        announced: u64,
    },
    /// The decoder failed.
    #[error("cannot decode {path}: {reason}")]
    Decoder {
        /// The film.
        path: String,
        /// The decoder's reason.
        reason: String,
    },
}

/// An open film, picture by picture.
pub trait PictureSource: Send {
    /// The film's path.
    fn path(&self) -> &Path;

    /// Width and height of the pictures in pixels, turned upright.
    fn size(&self) -> (u32, u32);

    /// Width of a pixel divided by its height (the sample aspect ratio); mostly above 1 for anamorphic films.
    fn pixel_aspect(&self) -> f64;

    /// Nominal frame rate; the average if the rate varies.
    fn rate(&self) -> FrameRate;

    /// Number of pictures that the container announces: approximate, or 0 if unknown.
    fn announced(&self) -> u64;

    /// How long it plays, as far as its container knows that.
    fn length(&self) -> Option<Duration> {
        self.facts().and_then(|facts| facts.length.or(facts.longest)).filter(|length| !length.is_zero())
    }

    /// The facts of a film; `None` for a slide.
    fn facts(&self) -> Option<&Facts> {
        None
    }

    /// Sentences about the film for the operator, for the log.
    fn remarks(&self) -> &[String] {
        self.facts().map_or(&[], |facts| &facts.remarks)
    }

    /// Has the pictures made for a station of this size; to be called before the first one is read. A source that converts the colours
    /// of each picture scales it first, and may convert it to the planes that JPEG codes. Other sources ignore the call.
    fn make_for(&mut self, _station: Size) {}

    /// Sets how long a slide is shown. Films ignore it.
    fn show_for(&mut self, _slide: Duration) {}

    /// The next picture; `None` at the end of the film. Blocks while decoding.
    ///
    /// # Errors
    /// The film breaks off, has no pictures at all, or the decoder fails.
    fn next_picture(&mut self) -> Result<Option<SourcePicture>, SourceError>;

    /// Goes to the picture that is on at `position` after the first picture: it is the next one, with its own stamp, which is not
    /// after the position but for what containers round. At or beyond the end of the film there is no next picture. Blocks while it
    /// decodes from the key picture before the position, and in a film without an index, while it reads the film up to there.
    ///
    /// # Errors
    /// As for [`next_picture`](Self::next_picture).
    fn seek(&mut self, position: Duration) -> Result<(), SourceError>;
}

/// FFmpeg has one log level for the whole process, which is set before the first film is opened.
static LOG_LEVEL: Once = Once::new();

/// Sets FFmpeg's log level, unless the environment variable of OpenCV chooses another.
fn set_log_level(usual: i32) {
    let chosen = std::env::var("OPENCV_FFMPEG_LOGLEVEL").ok().and_then(|level| level.parse().ok());
    film_facts::set_log_level(chosen.unwrap_or(usual));
}

/// FFmpeg's level of errors, which OpenCV sets when it opens its first film.
const ERRORS: i32 = 16;

/// FFmpeg's level of nothing at all.
const QUIET: i32 = -8;

/// Has FFmpeg say nothing of the films that are opened from now on, unless one was opened before: what is wrong with them is told in
/// a sentence of ours.
pub fn be_quiet() {
    LOG_LEVEL.call_once(|| {
        // OpenCV sets its own level once, at the first film.
        opencv::load_ffmpeg();
        set_log_level(QUIET);
    });
}

/// Opens a film. Blocks for some milliseconds.
///
/// # Errors
/// The file cannot be read, or has no video that this system can decode.
pub fn open(path: &Path) -> Result<Box<dyn PictureSource>, SourceError> {
    if starts_as_picture(path)? {
        return Ok(Box::new(SlideSource::open(path)?));
    }
    LOG_LEVEL.call_once(|| set_log_level(ERRORS));
    let facts = facts::read(path)?;
    match facts.decoder {
        FilmDecoder::OpenCv => Ok(Box::new(OpenCvSource::open(path, facts)?)),
        FilmDecoder::Libav => Ok(Box::new(LibavSource::open(path, facts)?)),
    }
}

/// The title that a film has for itself; `None` for a picture, if it has none, or if it cannot be read. Blocks: reads the beginning
/// of the file.
pub(super) fn title(path: &Path) -> Option<String> {
    // A file of another kind could block for ever.
    if starts_as_picture(path).unwrap_or(true) {
        return None;
    }
    LOG_LEVEL.call_once(|| set_log_level(ERRORS));
    film_facts::title(path).ok()
}

/// The length of a film whose container does not say it. Reads the whole film, without decoding it.
pub(crate) fn measure(path: &Path, facts: &Facts) -> Option<Duration> {
    stamps::length(path, facts)
}

/// Whether the file at `path` is a picture, which is shown for as long as its station is configured to.
pub fn is_slide(path: &Path) -> bool {
    starts_as_picture(path).unwrap_or(false)
}

fn starts_as_picture(path: &Path) -> Result<bool, SourceError> {
    let mut head = Vec::new();
    open_file(path)
        .and_then(|file| file.take(16).read_to_end(&mut head))
        .map_err(|error| unreadable(path, &error))?;
    // A film of JPEG pictures alone begins as its first picture does.
    let is_film = path.extension().is_some_and(|ending| ending == "mjpeg" || ending == "mjpg");
    Ok(is_picture(&head) && !is_film)
}

/// What has been decoded of a film so far. It tells the film's end from a break.
#[derive(Debug, Default)]
struct End {
    read: u64,
    /// Stamps of the first and the last picture.
    stamps: Option<(Duration, Duration)>,
}

impl End {
    /// Counts a picture, and returns the count.
    fn note(&mut self, stamp: Duration) -> u64 {
        self.read += 1;
        self.pass(stamp);
        self.read
    }

    /// Notes a picture that was passed over.
    fn pass(&mut self, stamp: Duration) {
        self.stamps = Some((self.stamps.map_or(stamp, |(first, _)| first), stamp));
    }

    /// Called after the last picture: fails if the film has none, or broke off.
    fn check(&self, path: &Path, facts: &Facts) -> Result<(), SourceError> {
        // A decoder reports a film that was removed as one that has ended.
        check_readable(path)?;
        let path = display(path);
        if self.stamps.is_none() {
            return Err(SourceError::NoPictures { path });
        }
        let span = self.stamps.map_or(Duration::ZERO, |(first, last)| last.saturating_sub(first));
        if breaks_off(self.read, span + facts.rate.interval(), facts.announced, facts.rate, facts.counted) {
            return Err(SourceError::BreaksOff { path, read: self.read, announced: facts.announced });
        }
        Ok(())
    }
}

/// Whether a film that ended after `read` pictures, which lasted for `span`, is shorter than announced.
fn breaks_off(read: u64, span: Duration, announced: u64, rate: FrameRate, counted: bool) -> bool {
    let (share, edge) = if counted { (COMPLETE, EDGE) } else { (COMPLETE_BY_LENGTH, EDGE_BY_LENGTH) };
    let complete = (announced as f64 * share).min(announced as f64 - edge.as_secs_f64() * rate.as_f64());
    // If the rate varies, a count that is computed from the length is far off, but the length is not.
    (read as f64) < complete && span.as_secs_f64() * rate.as_f64() < complete
}

/// Checks that a film exists and may be read.
///
/// # Errors
/// [`SourceError::Unreadable`], with the system's reason.
pub fn check_readable(path: &Path) -> Result<(), SourceError> {
    open_file(path).map(drop).map_err(|error| unreadable(path, &error))
}

/// Opens a regular file. A pipe, a socket or a device is refused by its kind: to open or read it could block for ever.
///
/// # Errors
/// The system's, or the kind of what is no file.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    refuse_others(&std::fs::metadata(path)?)?;
    // Another one may have taken the name meanwhile. O_NONBLOCK means nothing to a regular file; a pipe is opened at once with it.
    let file = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
    refuse_others(&file.metadata()?)?;
    Ok(file)
}

fn refuse_others(metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    let kind = match () {
        () if kind.is_fifo() => "it is a named pipe, not a file",
        () if kind.is_socket() => "it is a socket, not a file",
        () if kind.is_char_device() || kind.is_block_device() => "it is a device, not a file",
        () if kind.is_dir() => "it is a folder, not a file",
        () => return Ok(()),
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, kind))
}

fn unreadable(path: &Path, error: &io::Error) -> SourceError {
    SourceError::Unreadable { path: display(path), reason: without_number(error) }
}

/// An I/O error in words, without the number that Rust adds to them.
fn without_number(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// The film's file name, for messages.
pub(super) fn display(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
