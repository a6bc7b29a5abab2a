//! Chooses the decoder of a film.

use std::path::Path;

use super::facts::Facts;
use super::parameters::change;

/// Containers whose films have one set of parameters from beginning to end, as OpenCV requires.
const OPENCV_CONTAINERS: [&str; 3] = ["mov", "matroska", "avi"];

/// Codecs whose pictures may change their size within a film. OpenCV keeps the size of the first picture.
const RESIZING_CODECS: [&str; 4] = ["vp8", "vp9", "av1", "mpeg2video"];

/// The library that decodes a film.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilmDecoder {
    /// OpenCV's video reader.
    OpenCv,
    /// libavcodec, whose pictures libavfilter turns, deinterlaces and converts.
    Libav,
}

impl FilmDecoder {
    /// The library's name.
    pub fn name(self) -> &'static str {
        match self {
            FilmDecoder::OpenCv => "OpenCV",
            FilmDecoder::Libav => "libav",
        }
    }
}

/// The reasons why OpenCV would show a film wrong; empty if it shows the film right.
pub(super) fn against_opencv(facts: &Facts, path: &Path) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut add = |applies: bool, reason: &dyn Fn() -> String| {
        if applies {
            reasons.push(reason());
        }
    };
    add(facts.turn.filter.is_some(), &|| format!("turned ({})", facts.turn.words()));
    add(!facts.colours.are_plain(), &|| format!("its colours are {}", facts.colours.words()));
    add(facts.interlaced, &|| "interlaced".into());
    add(facts.stays.is_some(), &|| "it has one picture, which stays".into());
    add(facts.picture_tracks > 1, &|| format!("{} picture tracks", facts.picture_tracks));
    add(facts.hides, &|| "an edit list hides a part of it".into());
    add(facts.miscounts, &|| "it has more pictures than its container counts".into());
    add(facts.varies, &|| "its rate varies".into());
    add(facts.rate.as_f64() < 1.0, &|| "slides".into());
    let container = facts.container.as_str();
    add(!OPENCV_CONTAINERS.contains(&container), &|| format!("its container is {container}"));
    add(RESIZING_CODECS.contains(&facts.codec.as_str()), &|| "its size may change".into());
    // Checked last, since only this reads the file again.
    if reasons.is_empty() && change(path, facts) {
        reasons.push("its size may change".into());
    }
    reasons
}
