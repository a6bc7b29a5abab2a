//! What a film says of itself before a picture is decoded. Read with libavformat, since OpenCV hides most of it.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use film_facts::{Film, Kind, Range, Scan, Track};

use super::choice::{Decoder, against_opencv};
use super::ends_early::ends_early;
use super::turn::Turn;
use super::{SourceError, display, stamps};
use crate::media::FrameRate;

/// The rate of a film that does not say: the one Europe's films have.
const UNSAID_RATE: FrameRate = match FrameRate::new(25, 1) {
    Some(rate) => rate,
    None => unreachable!(),
};

/// A rate above this is a clock's, not a film's: containers that count milliseconds say 1,000 pictures a second.
const HIGHEST_RATE: f64 = 240.0;

/// A film without a word on its colours has those of BT.709 from so many lines on, as players take it.
const HD_LINES: u32 = 720;

/// Codecs of still pictures. Beside another picture track, one of these is a cover.
const STILLS: [&str; 8] = ["mjpeg", "png", "gif", "bmp", "webp", "tiff", "jpegls", "jpeg2000"];

/// What a film says of itself.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Its container: `mov`, `matroska`.
    pub container: String,
    /// The codec of its pictures: `h264`.
    pub codec: String,
    /// The number of its picture track, among all tracks.
    pub track: usize,
    /// The number of its picture tracks, covers included.
    pub picture_tracks: usize,
    /// Its size in pixels, turned upright.
    pub size: (u32, u32),
    /// Width of a pixel by its height, turned upright.
    pub pixel_aspect: f64,
    /// The same as coded, not turned, as a fraction.
    pub coded_aspect: (u32, u32),
    /// Its way up.
    pub turn: Turn,
    /// Its colours.
    pub colours: Colours,
    /// Its lines were taken in two halves.
    pub interlaced: bool,
    /// Its nominal rate: the average, if it varies.
    pub rate: FrameRate,
    /// Its pictures do not all last as long.
    pub varies: bool,
    /// The length of its pictures, as far as the container claims it.
    pub length: Option<Duration>,
    /// The length that the container claims: that of its longest track, which sound may be.
    pub longest: Option<Duration>,
    /// How many pictures that makes: about as many as there are, or 0.
    pub announced: u64,
    /// The container has counted its pictures, or says how long they last without the sound.
    pub counted: bool,
    /// The container counts pictures that it does not show: an edit list hides them.
    pub hides: bool,
    /// All of its tracks, in words.
    pub tracks: Vec<String>,
    /// What decodes it.
    pub decoder: Decoder,
    /// Why that is not OpenCV: one reason each.
    pub reasons: Vec<String>,
    /// What an operator should know of it: one sentence each.
    pub remarks: Vec<String>,
}

/// How a film's numbers mean colours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Colours {
    /// The matrix, as FFmpeg calls it: `bt709`.
    pub space: String,
    /// The film says so.
    pub said: bool,
    /// All 256 values are used.
    pub full_range: bool,
    /// The kind of high dynamic range, if it has one.
    pub high_range: Option<&'static str>,
}

impl Colours {
    fn of(track: &Track) -> Colours {
        let said = !track.space.is_empty();
        let unsaid = if track.size.1 >= HD_LINES { "bt709" } else { "smpte170m" };
        Colours {
            space: if said { track.space.clone() } else { unsaid.to_owned() },
            said,
            // The formats of JPEG are full range whatever is said.
            full_range: track.range == Range::Full || track.pixels.starts_with("yuvj"),
            high_range: match track.transfer.as_str() {
                "smpte2084" => Some("PQ"),
                "arib-std-b67" => Some("HLG"),
                _ => None,
            },
        }
    }

    /// They are those of BT.601 in limited range, the only ones that OpenCV knows.
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
        let high = self.high_range.map(|kind| format!(", HDR ({kind})")).unwrap_or_default();
        let said = if self.said { "" } else { " (unsaid)" };
        format!("{space}{said}{range}{high}")
    }
}

/// Asks the file at `path`.
///
/// # Errors
/// It has no pictures, only a cover, or is no film at all.
pub(super) fn ask(path: &Path) -> Result<Facts, SourceError> {
    let Ok(film) = film_facts::read(path) else { return Err(SourceError::NotAFilm { path: display(path) }) };
    let Some((number, track)) = picture_track(&film) else { return Err(no_pictures(path, &film)) };
    // Covers that are not marked as such: one still picture beside sound.
    let sound = film.tracks.iter().any(|track| track.kind == Kind::Sound);
    let still = STILLS.contains(&track.codec.as_str());
    let claimed_rate = rate_of(track);
    // A container that has not counted its pictures has guessed their rate, from the first few of them.
    let guessed = claimed_rate.is_none() || track.pictures.is_none();
    let seen = if guessed { stamps::first(path, number, &film.format) } else { Vec::new() };
    if still && sound && seen.len() == 1 {
        return Err(SourceError::Music { path: display(path) });
    }
    let seen_rate =
        stamps::rate(&seen).filter(|&seen| claimed_rate.is_none_or(|claimed| !are_near(seen, claimed, 0.05)));
    let rate = seen_rate.or(claimed_rate).unwrap_or(UNSAID_RATE);
    let turn = Turn::of(track.matrix);
    let ratio = |(num, den): (u32, u32)| f64::from(num) / f64::from(den);
    let coded_aspect =
        track.pixel_aspect.filter(|&aspect| (0.1..=10.0).contains(&ratio(aspect))).unwrap_or((1, 1));
    let aspect = ratio(coded_aspect);
    let (size, pixel_aspect) =
        if turn.swaps { ((track.size.1, track.size.0), 1.0 / aspect) } else { (track.size, aspect) };
    // The length of the container is that of its longest track, which sound may well be.
    let length = track.length.or(film.length.filter(|_| !sound));
    let by_length = length.map_or(0, |length| rate.nearest(length));
    let claimed = track.pictures.filter(|_| track.length.is_some());
    let mut facts = Facts {
        container: film.format.split(',').next().unwrap_or_default().to_owned(),
        codec: track.codec.clone(),
        track: number,
        picture_tracks: film.tracks.iter().filter(|track| track.kind == Kind::Pictures).count(),
        size,
        pixel_aspect,
        coded_aspect,
        turn,
        colours: Colours::of(track),
        interlaced: track.scan == Scan::Interlaced,
        rate,
        varies: seen_rate.is_some() || varies(track),
        length,
        longest: film.length,
        announced: by_length,
        counted: track.length.is_some(),
        hides: claimed.is_some_and(|pictures| pictures > by_length + 2),
        tracks: film.tracks.iter().map(words).collect(),
        decoder: Decoder::OpenCv,
        reasons: Vec::new(),
        remarks: Vec::new(),
    };
    facts.reasons = against_opencv(&facts, path);
    if !facts.reasons.is_empty() {
        facts.decoder = Decoder::Libav;
    }
    remark(path, &mut facts);
    Ok(facts)
}

/// The track that is the film: no cover, one that can be decoded, the default one, the largest, the first.
fn picture_track(film: &Film) -> Option<(usize, &Track)> {
    let film = film.tracks.iter().enumerate();
    let pictures = film.filter(|(_, track)| {
        track.kind == Kind::Pictures
            && !track.attached_picture
            && track.decodable
            && track.size.0 * track.size.1 > 0
    });
    pictures.min_by_key(|(number, track)| {
        let still = STILLS.contains(&track.codec.as_str());
        let pixels = u64::from(track.size.0) * u64::from(track.size.1);
        (still, !track.is_default, std::cmp::Reverse(pixels), *number)
    })
}

fn no_pictures(path: &Path, film: &Film) -> SourceError {
    let has = |kind| film.tracks.iter().any(|track| track.kind == kind);
    let path = display(path);
    if film.tracks.iter().any(|track| track.attached_picture) || (has(Kind::Sound) && !has(Kind::Pictures)) {
        SourceError::Music { path }
    } else {
        SourceError::NotAFilm { path }
    }
}

/// The rate that the container has for a track, if that can be a film's.
fn rate_of(track: &Track) -> Option<FrameRate> {
    let is_possible = |&(num, den): &(u32, u32)| f64::from(num) / f64::from(den) <= HIGHEST_RATE;
    // Slides have rates as low as one in many seconds: exactly what the container says.
    let rate = |(num, den): (u32, u32)| match f64::from(num) / f64::from(den) {
        rate if rate < 1.0 => FrameRate::new(num, den),
        rate => FrameRate::from_f64(rate),
    };
    let base = track.base_rate.filter(is_possible).and_then(rate);
    let average = track.average_rate.filter(is_possible).and_then(rate);
    // A gap at the beginning does not make another rate.
    base.filter(|&base| average.is_some_and(|average| are_near(base, average, 0.03))).or(average).or(base)
}

/// Whether two rates differ by less than such a share.
fn are_near(a: FrameRate, b: FrameRate, share: f64) -> bool {
    (a.as_f64() / b.as_f64() - 1.0).abs() < share
}

/// Whether the pictures of a track do not all last as long. Rounded stamps have an average that is off by some thousandths.
fn varies(track: &Track) -> bool {
    let (Some((base, base_den)), Some((average, average_den))) = (track.base_rate, track.average_rate) else {
        return false;
    };
    let ratio = f64::from(base) * f64::from(average_den) / (f64::from(base_den) * f64::from(average));
    (ratio - 1.0).abs() > 0.01
}

/// A track in words: `h264 1920x1080 eng, default`.
fn words(track: &Track) -> String {
    let mut words = if track.codec.is_empty() { "unknown".to_owned() } else { track.codec.clone() };
    match track.kind {
        Kind::Pictures if track.attached_picture => words += " cover",
        Kind::Pictures => words += &format!(" {}x{}", track.size.0, track.size.1),
        Kind::Sound => words += " sound",
        Kind::Subtitles => words += " subtitles",
        Kind::Other => {}
    }
    if !track.language.is_empty() && track.language != "und" {
        words += &format!(" {}", track.language);
    }
    words
}

/// Notes what an operator should know of the film at `path`.
fn remark(path: &Path, facts: &mut Facts) {
    let name = display(path);
    if let Some(kind) = facts.colours.high_range {
        facts.remarks.push(format!(
            "{name} has high dynamic range ({kind}), which is shown as it is, without tone mapping: it looks pale and flat"
        ));
    }
    if File::open(path).is_ok_and(|file| ends_early(file, &facts.container)) {
        facts.remarks.push(format!(
            "{name} is cut off: its container says that it is longer than the file; it plays as far as it goes"
        ));
        // Nothing more is expected of it. An MP4 without a part of its pictures has an index that tells exactly how many are missing.
        if facts.container == "matroska" {
            facts.announced = 0;
        }
    }
}
