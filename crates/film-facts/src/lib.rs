//! Reads the properties that libavformat finds in a film file before a picture is decoded. ac-ffmpeg, which decodes films, hides
//! most of it: which track is cover art, the pixel aspect, the colours, the rates, the interlacing.
//!
//! [`give_back_memory`] is here too, since only this crate calls C.
//!
//! The C side copies numbers and short texts into our structures. The unsafe calls are in [`read`] and [`title`].

mod memory;

use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

pub use memory::give_back_memory;

/// Most tracks that are read.
const MOST_TRACKS: usize = 64;

/// A film file.
#[derive(Debug, Clone)]
pub struct Film {
    /// The container, by libavformat's name: `mov,mp4,m4a,3gp,3g2,mj2`.
    pub format: String,
    /// The length that the container claims, which is that of its longest track.
    pub length: Option<Duration>,
    /// The first 64 tracks, in their order.
    pub tracks: Vec<FilmTrack>,
}

/// The content of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackKind {
    /// Moving pictures, or cover art.
    Pictures,
    /// Sound.
    Sound,
    /// Subtitles.
    Subtitles,
    /// Something else.
    Other,
}

/// How the lines of a picture are scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// All lines at one time.
    Progressive,
    /// Every second line, and the others later.
    Interlaced,
    /// The film does not specify it.
    Unspecified,
}

/// The values that luma and chroma may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColourRange {
    /// 16 to 235 and 16 to 240.
    Limited,
    /// 0 to 255.
    Full,
    /// The film does not specify it.
    Unspecified,
}

/// A track of a film. A text is empty if the film does not specify it.
#[derive(Debug, Clone)]
pub struct FilmTrack {
    /// The content.
    pub kind: TrackKind,
    /// Whether it is a picture that is attached to the file, such as cover art.
    pub attached_picture: bool,
    /// Whether players choose it by default.
    pub is_default: bool,
    /// Whether this system has a decoder for it.
    pub decodable: bool,
    /// Width and height in pixels as coded, not turned.
    pub size: (u32, u32),
    /// Width of a pixel divided by its height, as a fraction.
    pub pixel_aspect: Option<(u32, u32)>,
    /// Pictures a second over the whole film, as a fraction.
    pub average_rate: Option<(u32, u32)>,
    /// The lowest rate whose grid has all stamps, as a fraction.
    pub base_rate: Option<(u32, u32)>,
    /// The values of luma and chroma.
    pub range: ColourRange,
    /// How the lines are scanned.
    pub scan: Scan,
    /// The display matrix: ISO/IEC 14496-12, row by row, 16.16 and 2.30 fixed point.
    pub matrix: Option<[i32; 9]>,
    /// Start time in microseconds, on the container's clock.
    pub start_micros: Option<i64>,
    /// The length that the container or a tag of Matroska claims.
    pub length: Option<Duration>,
    /// Number of pictures, if the container counts them.
    pub pictures: Option<u64>,
    /// Number of pictures in the index that libavformat has of the track so far: all, or those of the first fragment.
    pub indexed: u64,
    /// Number of channels of sound, if nothing says which they are.
    pub unnamed_channels: Option<u32>,
    /// The codec: `h264`.
    pub codec: String,
    /// The pixel format: `yuv420p`.
    pub pixels: String,
    /// The matrix of the colours: `bt709`.
    pub space: String,
    /// The transfer characteristic: `smpte2084`.
    pub transfer: String,
    /// The language: `eng`.
    pub language: String,
}

/// Why libavformat cannot read a file, in FFmpeg's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilmError(String);

impl fmt::Display for FilmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FilmError {}

/// Mirrors `struct track` of facts.c, field by field.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawTrack {
    kind: i32,
    attached_picture: i32,
    is_default: i32,
    decodable: i32,
    width: i32,
    height: i32,
    aspect: [i32; 2],
    average: [i32; 2],
    base: [i32; 2],
    range: i32,
    scan: i32,
    turned: i32,
    matrix: [i32; 9],
    start_micros: i64,
    length_micros: i64,
    pictures: i64,
    indexed: i64,
    unnamed_channels: i32,
    codec: [u8; 32],
    pixels: [u8; 32],
    space: [u8; 32],
    transfer: [u8; 32],
    language: [u8; 32],
    length_tag: [u8; 32],
}

/// Mirrors `struct film` of facts.c.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawFilm {
    tracks: i32,
    length_micros: i64,
    format: [u8; 64],
}

unsafe extern "C" {
    fn film_facts_read(
        path: *const c_char,
        film: *mut RawFilm,
        tracks: *mut RawTrack,
        most: i32,
        reason: *mut c_char,
        size: usize,
    ) -> c_int;
    fn film_facts_title(path: *const c_char, title: *mut c_char, size: usize) -> c_int;
    safe fn film_facts_log_level(level: c_int);
}

/// Reads what libavformat finds in the file at `path`. Blocks: libavformat reads the beginning of the file, and decodes some pictures
/// if the container says too little. Only a regular file is opened, whatever takes its name meanwhile.
///
/// # Errors
/// The file is not a film that this system knows, or cannot be read.
pub fn read(path: &Path) -> Result<Film, FilmError> {
    let path = c_path(path)?;
    let mut film = RawFilm { tracks: 0, length_micros: i64::MIN, format: [0; 64] };
    let mut tracks = vec![RawTrack::default(); MOST_TRACKS];
    let mut reason = [0u8; 128];
    // SAFETY: `path` is a C string. `film`, `tracks` and `reason` are ours, have the lengths that are passed, and are laid out as in
    // facts.c. The callee keeps none of the pointers.
    let result = unsafe {
        film_facts_read(
            path.as_ptr(),
            &mut film,
            tracks.as_mut_ptr(),
            MOST_TRACKS as i32,
            reason.as_mut_ptr().cast(),
            reason.len(),
        )
    };
    if result != 0 {
        return Err(FilmError(text(&reason)));
    }
    tracks.truncate(film.tracks.max(0) as usize);
    Ok(Film {
        format: text(&film.format),
        length: length(film.length_micros),
        tracks: tracks.iter().map(track).collect(),
    })
}

/// Reads the title that the film at `path` has for itself; empty if it has none. Blocks: libavformat reads the header of the file. Of a
/// title longer than 511 bytes the beginning.
///
/// # Errors
/// As [`read`], but without FFmpeg's words.
pub fn title(path: &Path) -> Result<String, FilmError> {
    let path = c_path(path)?;
    let mut title = [0u8; 512];
    // SAFETY: `path` is a C string. `title` is ours, and has the length that is passed. The callee keeps neither pointer.
    let result = unsafe { film_facts_title(path.as_ptr(), title.as_mut_ptr().cast(), title.len()) };
    if result != 0 {
        return Err(FilmError("it is not a film that can be opened".into()));
    }
    // The last character may have been cut.
    Ok(text(&title).trim_end_matches(char::REPLACEMENT_CHARACTER).to_owned())
}

fn c_path(path: &Path) -> Result<CString, FilmError> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| FilmError("its name has a byte of 0".into()))
}

/// Sets what FFmpeg prints to standard error, for the whole process: 16 is errors, -8 nothing (`AV_LOG_ERROR`, `AV_LOG_QUIET`).
pub fn set_log_level(level: i32) {
    film_facts_log_level(level);
}

fn track(raw: &RawTrack) -> FilmTrack {
    let side = |side: i32| u32::try_from(side).unwrap_or(0);
    FilmTrack {
        kind: match raw.kind {
            1 => TrackKind::Pictures,
            2 => TrackKind::Sound,
            3 => TrackKind::Subtitles,
            _ => TrackKind::Other,
        },
        attached_picture: raw.attached_picture != 0,
        is_default: raw.is_default != 0,
        decodable: raw.decodable != 0,
        size: (side(raw.width), side(raw.height)),
        pixel_aspect: fraction(raw.aspect),
        average_rate: fraction(raw.average),
        base_rate: fraction(raw.base),
        range: match raw.range {
            1 => ColourRange::Limited,
            2 => ColourRange::Full,
            _ => ColourRange::Unspecified,
        },
        scan: match raw.scan {
            1 => Scan::Progressive,
            2 => Scan::Interlaced,
            _ => Scan::Unspecified,
        },
        matrix: (raw.turned != 0).then_some(raw.matrix),
        start_micros: (raw.start_micros != i64::MIN).then_some(raw.start_micros),
        length: length(raw.length_micros).or_else(|| clock_time(&text(&raw.length_tag))),
        pictures: u64::try_from(raw.pictures).ok().filter(|&pictures| pictures > 0),
        indexed: u64::try_from(raw.indexed).unwrap_or(0),
        unnamed_channels: u32::try_from(raw.unnamed_channels).ok().filter(|&channels| channels > 0),
        codec: text(&raw.codec),
        pixels: text(&raw.pixels),
        space: text(&raw.space),
        transfer: text(&raw.transfer),
        language: text(&raw.language),
    }
}

fn fraction([num, den]: [i32; 2]) -> Option<(u32, u32)> {
    let term = |term| u32::try_from(term).ok().filter(|&term| term > 0);
    Some((term(num)?, term(den)?))
}

fn length(micros: i64) -> Option<Duration> {
    u64::try_from(micros).ok().filter(|&micros| micros > 0).map(Duration::from_micros)
}

/// A time as `00:01:30.500000000`.
fn clock_time(text: &str) -> Option<Duration> {
    let mut seconds = 0.0;
    for part in text.split(':') {
        seconds = seconds * 60.0 + part.parse::<f64>().ok().filter(|part| (0.0..1e6).contains(part))?;
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|length| !length.is_zero())
}

fn text(bytes: &[u8]) -> String {
    CStr::from_bytes_until_nul(bytes).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_read_from_a_tag_or_is_unknown() {
        assert_eq!(clock_time("00:01:30.500000000"), Some(Duration::from_millis(90_500)));
        for none in ["", "::", "00:00:00", "-1:00", "nan", "inf:0", "a while", "9e99:0"] {
            assert_eq!(clock_time(none), None, "{none}");
        }
    }
}
