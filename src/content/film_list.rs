//! The films of a line-up in plain text, for `broadcaster check --films`.

use std::collections::HashSet;
use std::fmt::Write;

use super::decode::{self, PictureSource};
use crate::lineup::{self, Lineup};

/// Describes each film of each station. Returns the text and the number of films that cannot be played. Opens each film once; blocks.
pub fn film_list(lineup: &Lineup) -> (String, usize) {
    let (mut text, mut failed) = (String::new(), 0);
    let mut seen = HashSet::new();
    for station in &lineup.stations {
        let films = match lineup::films(&station.media) {
            Ok(films) => films,
            Err(error) => {
                failed += 1;
                let _ = writeln!(text, "station {}: {error}", station.id);
                continue;
            }
        };
        for film in films.into_iter().filter(|film| seen.insert(film.clone())) {
            let _ = writeln!(text, "{}", film.display());
            match decode::open(&film) {
                Ok(mut source) => {
                    source.show_for(station.slide);
                    text += &described(&*source);
                }
                Err(error) => {
                    failed += 1;
                    let _ = writeln!(text, "  fault    {error}");
                }
            }
        }
    }
    (text, failed)
}

fn described(source: &dyn PictureSource) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text += &format!("  {name:<8} {value}\n");
    let (width, height) = source.size();
    let Some(facts) = source.facts() else {
        let seconds = source.rate().interval().as_secs_f64();
        line("decoder", "OpenCV, as a picture");
        line("pictures", &format!("{width}x{height}, on for {seconds:.3} s"));
        return text;
    };
    let why =
        if facts.reasons.is_empty() { String::new() } else { format!(": {}", facts.reasons.join("; ")) };
    line("decoder", &format!("{}{why}", facts.decoder.name()));
    let aspect = source.pixel_aspect();
    let shape =
        if (aspect - 1.0).abs() < 1e-3 { String::new() } else { format!(", pixels {aspect:.3} wide") };
    let scan = if facts.interlaced { ", interlaced" } else { "" };
    let varies = if facts.varies { " on average" } else { "" };
    let length =
        facts.length.map_or("length unknown".into(), |length| format!("{:.3} s", length.as_secs_f64()));
    let rate = source.rate();
    line(
        "pictures",
        &format!("{} {width}x{height}{shape}{scan}, {rate} pictures/s{varies}, {length}", facts.codec),
    );
    line("colours", &facts.colours.words());
    line("turn", facts.turn.words());
    line("tracks", &facts.tracks.join(", "));
    for remark in &facts.remarks {
        line("note", remark);
    }
    text
}
