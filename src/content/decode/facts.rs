//! What is known of a film before a picture is decoded. libavformat reads it, since OpenCV hides most of it.

use std::path::Path;
use std::time::Duration;

use film_facts::{ColourRange, Film, FilmTrack, Scan, TrackKind};

use super::choice::{FilmDecoder, against_opencv};
use super::ends_early::ends_early;
use super::libav::maps_tones;
use super::turn::Turn;
use super::{SourceError, display, open_file, stamps};
use crate::content::sound::source::sound_track;
use crate::lineup::SoundChoice;
use crate::media::FrameRate;

/// The rate of a film whose container has none: the usual rate in Europe.
const DEFAULT_RATE: FrameRate = match FrameRate::new(25, 1) {
    Some(rate) => rate,
    None => unreachable!(),
};

/// A rate above this, in pictures a second, is that of a clock: containers that count milliseconds claim 1,000.
const HIGHEST_RATE: f64 = 240.0;

/// An untagged film with at least this many lines is taken for BT.709, as players do.
const HD_LINES: u32 = 720;

/// Codecs whose pictures may be interlaced in a part of a film only, as in recordings of broadcasts.
const INTERLACING: [&str; 5] = ["mpeg2video", "h264", "vc1", "mpeg4", "dvvideo"];

/// Codecs of still pictures. Beside another picture track, a track of such a codec is cover art.
const STILLS: [&str; 8] = ["mjpeg", "png", "gif", "bmp", "webp", "tiff", "jpegls", "jpeg2000"];

/// Codecs of text that FFmpeg draws as pictures (ANSI art). It takes any file for such a text if its name ends in txt, nfo, bin or
/// the like, whatever is in it.
const TEXT_ART: [&str; 4] = ["ansi", "bintext", "xbin", "idf"];

/// What is known of a film before a picture is decoded.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The container, by FFmpeg's name: `mov`, `matroska`.
    pub container: String,
    /// The codec of the pictures: `h264`.
    pub codec: String,
    /// Index of the picture track that is played, among all tracks.
    pub track: usize,
    /// Number of picture tracks, cover art included.
    pub picture_tracks: usize,
    /// Width and height in pixels, turned upright.
    pub size: (u32, u32),
    /// Width of a pixel divided by its height, turned upright.
    pub pixel_aspect: f64,
    /// Width of a pixel by its height as coded, not turned; a fraction.
    pub coded_aspect: (u32, u32),
    /// How the pictures are turned.
    pub turn: Turn,
    /// How pixel values map to colours.
    pub colours: Colours,
    /// Whether the pictures are interlaced.
    pub interlaced: bool,
    /// Nominal frame rate; the average if the rate varies.
    pub rate: FrameRate,
    /// Whether the rate varies.
    pub varies: bool,
    /// Length of the picture track, if the container claims one.
    pub length: Option<Duration>,
    /// The length that the container claims: that of its longest track, which sound may be.
    pub longest: Option<Duration>,
    /// Number of pictures in `length`: approximate, or 0 if unknown.
    pub announced: u64,
    /// Whether `length` is that of the picture track itself, not of the whole container.
    pub counted: bool,
    /// Whether an edit list hides pictures that the container counts.
    pub hides: bool,
    /// Whether there are more pictures than the container counts: a film in fragments, or a wrong header.
    pub miscounts: bool,
    /// Whether it has a sound track that can be decoded here.
    pub has_sound: bool,
    /// All tracks, in words.
    pub tracks: Vec<String>,
    /// The library that decodes the film.
    pub decoder: FilmDecoder,
    /// How long the only picture of a film with sound stays.
    pub stays: Option<Duration>,
    /// Whether some of the pictures may be interlaced though the container does not say so.
    pub may_interlace: bool,
    /// The reasons against OpenCV; empty if it decodes the film.
    pub reasons: Vec<String>,
    /// Sentences on the film for the operator.
    pub remarks: Vec<String>,
}

/// How the pixel values of a film map to colours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Colours {
    /// The matrix, by FFmpeg's name: `bt709`.
    pub space: String,
    /// Whether the film is tagged with this matrix.
    pub tagged: bool,
    /// Whether luma and chroma use all 256 values.
    pub full_range: bool,
    /// The kind of high dynamic range, if any.
    pub high_range: Option<HighRange>,
}

/// A kind of high dynamic range (ITU-R BT.2100).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HighRange {
    /// Perceptual quantization.
    Pq,
    /// Hybrid log-gamma.
    Hlg,
}

impl HighRange {
    /// Its usual name.
    pub fn name(self) -> &'static str {
        match self {
            HighRange::Pq => "PQ",
            HighRange::Hlg => "HLG",
        }
    }
}

impl Colours {
    fn of(track: &FilmTrack) -> Colours {
        let tagged = !track.space.is_empty();
        let usual = if track.size.1 >= HD_LINES { "bt709" } else { "smpte170m" };
        Colours {
            space: if tagged { track.space.clone() } else { usual.to_owned() },
            tagged,
            // JPEG's pixel formats have full range whatever the tag.
            full_range: track.range == ColourRange::Full || track.pixels.starts_with("yuvj"),
            high_range: match track.transfer.as_str() {
                "smpte2084" => Some(HighRange::Pq),
                "arib-std-b67" => Some(HighRange::Hlg),
                _ => None,
            },
        }
    }

    /// Whether the colours are BT.601 in limited range, the only ones that OpenCV converts right.
    pub(super) fn are_plain(&self) -> bool {
        !self.full_range && matches!(self.space.as_str(), "smpte170m" | "bt470bg")
    }

    /// In words: `BT.709, full range`.
    pub fn words(&self) -> String {
        let space = match self.space.as_str() {
            "smpte170m" | "bt470bg" => "BT.601",
            "bt709" => "BT.709",
            "bt2020nc" | "bt2020c" => "BT.2020",
            "gbr" => "RGB",
            other => other,
        };
        let range = if self.full_range { ", full range" } else { "" };
        let high = self.high_range.map(|kind| format!(", HDR ({})", kind.name())).unwrap_or_default();
        let untagged = if self.tagged { "" } else { " (untagged)" };
        format!("{space}{untagged}{range}{high}")
    }
}

/// Reads the facts of the film at `path`.
///
/// # Errors
/// The file has no pictures, has only cover art, or is not a film.
pub(super) fn read(path: &Path) -> Result<Facts, SourceError> {
    let Ok(film) = film_facts::read(path) else { return Err(SourceError::NotAFilm { path: display(path) }) };
    let Some((number, track)) = picture_track(&film) else { return Err(no_pictures(path, &film)) };
    let sound = film.tracks.iter().any(|track| track.kind == TrackKind::Sound);
    let still = is_still(track);
    let claimed_rate = rate_of(track);
    // If the container has no count of pictures, libavformat has guessed their rate from the first few of them.
    let guessed = claimed_rate.is_none() || track.pictures.is_none();
    let seen = if guessed { stamps::first(path, number, &film.format) } else { Vec::new() };
    // One still picture beside sound is cover art even if it is not marked as such.
    if still && sound && (track.pictures == Some(1) || seen.len() == 1) {
        return Err(SourceError::Music { path: display(path) });
    }
    let seen_rate =
        stamps::rate(&seen).filter(|&seen| claimed_rate.is_none_or(|claimed| !are_near(seen, claimed, 0.05)));
    let rate = seen_rate.or(claimed_rate).unwrap_or(DEFAULT_RATE);
    let turn = Turn::of(track.matrix);
    let ratio = |(num, den): (u32, u32)| f64::from(num) / f64::from(den);
    let coded_aspect =
        track.pixel_aspect.filter(|&aspect| (0.1..=10.0).contains(&ratio(aspect))).unwrap_or((1, 1));
    let aspect = ratio(coded_aspect);
    let (size, pixel_aspect) =
        if turn.swaps { ((track.size.1, track.size.0), 1.0 / aspect) } else { (track.size, aspect) };
    let begins = film.tracks.iter().filter_map(|track| track.start_micros).min();
    // The length of the container is that of its longest track, which may be the sound.
    let length = track.length.or(film.length.filter(|_| !sound));
    let length = length.and_then(|length| without_start(length, &film, track.start_micros));
    let whole = film.length.and_then(|length| without_start(length, &film, begins));
    // One picture beside sound stays for as long as that.
    let stays = whole.filter(|_| sound && track.pictures == Some(1));
    let length = stays.or(length);
    let by_length = length.map_or(0, |length| rate.nearest(length));
    let claimed = track.pictures.filter(|_| track.length.is_some());
    let mut facts = Facts {
        container: film.format.split(',').next().unwrap_or_default().to_owned(),
        codec: track.codec.clone(),
        track: number,
        picture_tracks: film.tracks.iter().filter(|track| track.kind == TrackKind::Pictures).count(),
        size,
        pixel_aspect,
        coded_aspect,
        turn,
        colours: Colours::of(track),
        interlaced: is_interlaced(track),
        rate,
        varies: seen_rate.is_some() || varies(track),
        length,
        longest: whole.map(|longest| {
            // In MP4, the length of the whole has what an edit list puts before the tracks; that of a track has not.
            let tracks = film.tracks.iter().map(|track| track.length).collect::<Option<Vec<_>>>();
            tracks.and_then(|lengths| lengths.into_iter().max()).map_or(longest, |most| longest.min(most))
        }),
        announced: if stays.is_some() { 1 } else { by_length },
        stays,
        counted: track.length.is_some(),
        // Where some pictures are missing, the length has place for more than there are.
        miscounts: track.pictures.is_some_and(|counted| counted < track.indexed.max(by_length * 9 / 10)),
        hides: claimed.is_some_and(|pictures| pictures > by_length + 2),
        has_sound: sound_track(&film, &SoundChoice::Auto).is_some(),
        tracks: film.tracks.iter().map(words).collect(),
        decoder: FilmDecoder::OpenCv,
        may_interlace: INTERLACING.contains(&track.codec.as_str()),
        reasons: Vec::new(),
        remarks: Vec::new(),
    };
    facts.reasons = against_opencv(&facts, path);
    if !facts.reasons.is_empty() {
        facts.decoder = FilmDecoder::Libav;
    }
    remark(path, &mut facts);
    Ok(facts)
}

/// The track to play, and its index. It can be decoded and is not cover art. Of several, moving pictures come before stills, then the
/// default track, the largest and the first.
fn picture_track(film: &Film) -> Option<(usize, &FilmTrack)> {
    let film = film.tracks.iter().enumerate();
    let pictures = film.filter(|(_, track)| {
        track.kind == TrackKind::Pictures
            && !track.attached_picture
            && track.decodable
            && !TEXT_ART.contains(&track.codec.as_str())
            && track.size.0 * track.size.1 > 0
    });
    pictures.min_by_key(|(number, track)| {
        let still = is_still(track);
        let pixels = u64::from(track.size.0) * u64::from(track.size.1);
        (still, !track.is_default, std::cmp::Reverse(pixels), *number)
    })
}

/// Whether a track is likely to be a picture that stays: of a codec of stills, and not known to have several.
fn is_still(track: &FilmTrack) -> bool {
    STILLS.contains(&track.codec.as_str()) && track.pictures.is_none_or(|pictures| pictures == 1)
}

/// The length of a film or a track that begins at `start`, in microseconds. In Matroska and Windows Media, lengths count from 0, where
/// a recording of a stream does not begin. In MP4, the length of a track may have an empty edit before the first picture: it is no
/// longer than what is left of the film then.
fn without_start(length: Duration, film: &Film, start: Option<i64>) -> Option<Duration> {
    let start = Duration::from_micros(start.and_then(|start| u64::try_from(start).ok()).unwrap_or(0));
    let length = match film.format.split(',').next() {
        Some("matroska" | "asf") => length.checked_sub(start)?,
        // Fragments have no edits.
        Some("mov") if film.tracks.iter().any(|track| track.pictures.is_some()) => {
            length.min(film.length.unwrap_or(length).saturating_sub(start))
        }
        _ => length,
    };
    Some(length).filter(|length| !length.is_zero())
}

fn no_pictures(path: &Path, film: &Film) -> SourceError {
    let has = |kind| film.tracks.iter().any(|track| track.kind == kind);
    let path = display(path);
    if film.tracks.iter().any(|track| track.attached_picture)
        || (has(TrackKind::Sound) && !has(TrackKind::Pictures))
    {
        SourceError::Music { path }
    } else {
        SourceError::NotAFilm { path }
    }
}

/// Whether the pictures of a track are interlaced. Containers do not say it of DV, which always is.
fn is_interlaced(track: &FilmTrack) -> bool {
    track.scan == Scan::Interlaced || (track.scan == Scan::Unspecified && track.codec == "dvvideo")
}

/// The rate that the container claims for a track, if it is plausible for a film.
fn rate_of(track: &FilmTrack) -> Option<FrameRate> {
    let is_possible = |&(num, den): &(u32, u32)| f64::from(num) / f64::from(den) <= HIGHEST_RATE;
    // A show of slides has a rate far below 1, which is taken as it is. Others are rounded to a usual rate.
    let rate = |(num, den): (u32, u32)| match f64::from(num) / f64::from(den) {
        rate if rate < 1.0 => FrameRate::new(num, den),
        rate => FrameRate::from_f64(rate),
    };
    let base = track.base_rate.filter(is_possible).and_then(rate);
    let average = track.average_rate.filter(is_possible).and_then(rate);
    // A gap at the beginning moves the average a little away from the true rate. It cannot be above the rate of the grid: AVI counts
    // the fields of H.264.
    let is_true = |base: FrameRate| {
        average.is_some_and(|average| are_near(base, average, 0.03) || average.as_f64() > base.as_f64())
    };
    base.filter(|&base| is_true(base)).or(average).or(base)
}

/// Whether two rates differ by less than `share` of `b`.
fn are_near(a: FrameRate, b: FrameRate, share: f64) -> bool {
    (a.as_f64() / b.as_f64() - 1.0).abs() < share
}

/// Whether the rate of a track varies. Rounded stamps move its average by some thousandths.
fn varies(track: &FilmTrack) -> bool {
    let (Some((base, base_den)), Some((average, average_den))) = (track.base_rate, track.average_rate) else {
        return false;
    };
    let ratio = f64::from(base) * f64::from(average_den) / (f64::from(base_den) * f64::from(average));
    ratio - 1.0 > 0.01
}

/// A track in words: `h264 1920x1080 eng, default`.
fn words(track: &FilmTrack) -> String {
    let mut words = if track.codec.is_empty() { "unknown".to_owned() } else { track.codec.clone() };
    match track.kind {
        TrackKind::Pictures if track.attached_picture => words += " cover",
        TrackKind::Pictures => words += &format!(" {}x{}", track.size.0, track.size.1),
        TrackKind::Sound => words += " sound",
        TrackKind::Subtitles => words += " subtitles",
        TrackKind::Other => {}
    }
    if !track.language.is_empty() && track.language != "und" {
        words += &format!(" {}", track.language);
    }
    words
}

/// Adds the remarks on the film at `path` for the operator.
fn remark(path: &Path, facts: &mut Facts) {
    let name = display(path);
    if let Some(kind) = facts.colours.high_range {
        let shown = if maps_tones() {
            "its tones are mapped to those of an ordinary screen"
        } else {
            "which is shown as it is, since this FFmpeg cannot map tones: it looks pale and flat"
        };
        facts.remarks.push(format!("{name} has high dynamic range ({}); {shown}", kind.name()));
    }
    if open_file(path).is_ok_and(|file| ends_early(file, &facts.container)) {
        facts.remarks.push(format!(
            "{name} is cut off: its container says that it is longer than the file; it plays as far as it goes"
        ));
        facts.announced = 0;
    }
}
