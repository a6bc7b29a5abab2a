//! The films of a line-up in plain text, for `broadcaster check --films`.

use std::collections::HashSet;
use std::fmt::Write;
use std::path::Path;

use super::decode::{self, PictureSource};
use super::sound;
use super::sound::source::sound_track;
use super::sound::store::made_before;
use crate::lineup::{self, Lineup, StationSpec};

/// Describes each film of each station. Returns the text and the number of films that cannot be played. Opens each film once; blocks.
pub fn film_list(lineup: &Lineup) -> (String, usize) {
    let (mut text, mut failed) = (String::new(), 0);
    let mut seen = HashSet::new();
    for station in &lineup.stations {
        if let Some(source) = station.media.live() {
            let _ = writeln!(text, "{source}\n  live     motion JPEG by HTTP");
            continue;
        }
        let films = match lineup::films(station.media.films()) {
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
                    let dir = lineup.reel.dir.as_ref().map(|dir| dir.join("sound"));
                    text.extend(sound_described(&film, &*source, station, dir.as_deref()));
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

/// Which sound track is heard on a station, and how loud it is if it was made before; `None` of a picture.
fn sound_described(
    path: &Path,
    source: &dyn PictureSource,
    station: &StationSpec,
    dir: Option<&Path>,
) -> Option<String> {
    let facts = source.facts()?;
    let film = film_facts::read(path).ok()?;
    let Some(track) = sound_track(&film, &station.sound) else {
        return Some("  sound    none\n".into());
    };
    let heard = facts.tracks.get(track)?;
    let made = dir.zip(facts.length).and_then(|(dir, length)| {
        let order = sound::order(station, length);
        made_before(dir, path, &order)
    });
    let level = made.map_or(String::new(), |made| {
        format!(
            "; {:.1} LUFS, true peak {:.1} dBTP, sent with {:+.1} dB",
            made.loudness, made.peak, made.gain
        )
    });
    Some(format!("  sound    {heard}{level}\n"))
}
