//! Which decoder a film needs.

use std::path::Path;

use super::facts::Facts;
use super::parameters::change;

/// Containers in which OpenCV reads everything that a film is: one set of parameters from the beginning to the end.
const OPENCV_CONTAINERS: [&str; 3] = ["mov", "matroska", "avi"];

/// Codecs whose pictures may change their size from one to the next. OpenCV keeps the first one's.
const RESIZING_CODECS: [&str; 4] = ["vp8", "vp9", "av1", "mpeg2video"];

/// What decodes a film.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoder {
    /// OpenCV's video reader.
    OpenCv,
    /// libavcodec, with what OpenCV hides.
    Libav,
}

impl Decoder {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Decoder::OpenCv => "OpenCV",
            Decoder::Libav => "libav",
        }
    }
}

/// Why OpenCV cannot decode a film right: one reason each. None: it can.
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
    add(facts.picture_tracks > 1, &|| format!("{} picture tracks", facts.picture_tracks));
    add(facts.hides, &|| "an edit list hides a part of it".into());
    add(facts.varies, &|| "its rate varies".into());
    add(facts.rate.as_f64() < 1.0, &|| "slides".into());
    let container = facts.container.as_str();
    add(!OPENCV_CONTAINERS.contains(&container), &|| format!("its container is {container}"));
    add(RESIZING_CODECS.contains(&facts.codec.as_str()), &|| "its size may change".into());
    add(path.to_str().is_none(), &|| "its name is not UTF-8".into());
    // Last, since it reads the file.
    if reasons.is_empty() && change(path, facts) {
        reasons.push("its size may change".into());
    }
    reasons
}
