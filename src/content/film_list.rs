//! The films of a line-up in plain text, for `broadcaster check`: as a table, or each at length; and which cannot be played.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use film_facts::Film;

use super::decode::{self, SourceError, facts::Facts};
use super::sound;
use super::sound::source::sound_track;
use super::sound::store::made_before;
use crate::lineup::{self, Lineup, StationSpec};
use crate::text_table::aligned;

const HEAD: [&str; 8] = ["id", "film", "size", "rate", "length", "sound", "turn", "decoder"];
/// Which columns are numbers, and aligned to the right.
const RIGHT: [bool; 8] = [false, false, true, true, true, false, false, false];

/// The films of a line-up.
pub struct FilmList<'a> {
    lineup: &'a Lineup,
    /// In the order of the line-up, each once.
    films: Vec<ListedFilm<'a>>,
    /// The stations whose list of films cannot be read, and why.
    unread: Vec<(&'a StationSpec, String)>,
}

struct ListedFilm<'a> {
    path: PathBuf,
    /// The stations that play it, at least one.
    stations: Vec<&'a StationSpec>,
    opened: Result<OpenedFilm, SourceError>,
}

/// The facts of a film whose first picture was decoded.
struct OpenedFilm {
    size: (u32, u32),
    pixel_aspect: f64,
    rate: String,
    /// `None` for a picture file.
    film: Option<(Facts, Option<Film>)>,
    /// Sentences for the operator.
    remarks: Vec<String>,
}

impl<'a> FilmList<'a> {
    /// Opens each film of each station, on all cores, and decodes its first picture: some milliseconds each.
    pub fn probe(lineup: &'a Lineup) -> FilmList<'a> {
        let mut unread = Vec::new();
        let mut films: Vec<(PathBuf, Vec<&StationSpec>)> = Vec::new();
        let mut known = BTreeMap::new();
        // Live sources are reached when they are on air, and mosaics show other stations.
        let lists = |station: &'a StationSpec| station.film_lists().map(move |list| (station, list));
        for (station, list) in lineup.stations.iter().flat_map(lists) {
            match lineup::films(list) {
                Ok(found) if found.is_empty() => unread.push((station, "there is no film to play".into())),
                Ok(found) => found.into_iter().for_each(|film| {
                    let at = *known.entry(film.clone()).or_insert(films.len());
                    if at == films.len() {
                        films.push((film, Vec::new()));
                    }
                    if !films[at].1.iter().any(|other| other.id == station.id) {
                        films[at].1.push(station);
                    }
                }),
                Err(error) => unread.push((station, error.to_string())),
            }
        }
        let opened: Vec<_> = films.iter().map(|_| OnceLock::new()).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            let at = || next.fetch_add(1, Relaxed);
            while let Some(((film, _), opened)) = Some(at()).and_then(|n| films.get(n).zip(opened.get(n))) {
                opened.get_or_init(|| open(film));
            }
        };
        let cores = thread::available_parallelism().map_or(1, usize::from).min(films.len());
        thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
        let films = films.into_iter().zip(opened).map(|((path, stations), opened)| {
            let opened = opened.into_inner().expect("the threads opened every film");
            ListedFilm { path, stations, opened }
        });
        FilmList { lineup, films: films.collect(), unread }
    }

    /// The number of films, without those that are in a folder that cannot be read.
    pub fn len(&self) -> usize {
        self.films.len()
    }

    /// Whether there is no film.
    pub fn is_empty(&self) -> bool {
        self.films.is_empty()
    }

    /// For each film that cannot be played, and for each station without films: a station that it concerns, the film if it is one,
    /// and the sentence that says why.
    pub fn faults(&self) -> Vec<(&StationSpec, Option<&Path>, String)> {
        let unread = self.unread.iter().map(|(station, why)| (*station, None, why.clone()));
        let films = self.films.iter().filter_map(|film| {
            let error = film.opened.as_ref().err()?;
            Some((film.stations[0], Some(film.path.as_path()), error.to_string()))
        });
        unread.chain(films).collect()
    }

    /// A sentence for each remarkable thing about the films that can be played.
    pub fn remarks(&self) -> Vec<String> {
        let opened = self.films.iter().filter_map(|film| film.opened.as_ref().ok());
        opened.filter_map(|film| film.film.as_ref()).flat_map(|(facts, _)| facts.remarks.clone()).collect()
    }

    /// A line for each film that can be played, below the column names; empty if there is none. A film that several stations play
    /// in the same way has one line.
    pub fn table(&self) -> String {
        let mut rows = vec![HEAD.map(str::to_owned)];
        for film in &self.films {
            let Ok(opened) = &film.opened else { continue };
            let first = rows.len();
            for station in &film.stations {
                let row = row(&film.path, opened, station);
                match rows[first..].iter_mut().find(|other| other[1..] == row[1..]) {
                    Some(other) => other[0] = format!("{}, {}", other[0], row[0]),
                    None => rows.push(row),
                }
            }
        }
        if rows.len() > 1 { aligned(&rows, RIGHT) } else { String::new() }
    }

    /// Each film at length.
    pub fn details(&self) -> String {
        let mut text = String::new();
        for source in self.lineup.stations.iter().filter_map(|station| station.media.live()) {
            let _ = writeln!(text, "{source}\n  live     motion JPEG by HTTP");
        }
        let dir = self.lineup.reel.dir.as_ref().map(|dir| dir.join("sound"));
        for ListedFilm { path, stations, opened } in &self.films {
            let _ = writeln!(text, "{}", printable(path));
            match opened {
                Ok(film) => {
                    text += &described(film, stations[0]);
                    text.extend(sound_described(path, film, stations[0], dir.as_deref()));
                }
                Err(error) => _ = writeln!(text, "  fault    {error}"),
            }
        }
        text
    }
}

fn open(path: &Path) -> Result<OpenedFilm, SourceError> {
    let mut source = decode::open(path)?;
    let (size, pixel_aspect) = (source.size(), source.pixel_aspect());
    let film = source.facts().cloned().map(|facts| (facts, film_facts::read(path).ok()));
    let rate = source.rate().decimal();
    let remarks = source.remarks().to_vec();
    // A container that can be read may have nothing in it that can be decoded.
    let first = source.next_picture()?;
    first.ok_or_else(|| SourceError::NoPictures { path: decode::display(path) })?;
    Ok(OpenedFilm { size, pixel_aspect, rate, film, remarks })
}

fn row(path: &Path, film: &OpenedFilm, station: &StationSpec) -> [String; 8] {
    let (id, path) = (station.id.to_string(), printable(path));
    let size = format!("{}x{}", film.size.0, film.size.1);
    let none = || "-".to_owned();
    let Some((facts, _)) = &film.film else {
        return [id, path, size, none(), clock(station.slide), none(), none(), "OpenCV, as a picture".into()];
    };
    let average = if facts.varies { "avg " } else { "" };
    let turn = facts.turn.words();
    [
        id,
        path,
        size,
        format!("{average}{}/s", film.rate),
        facts.length.or(facts.longest).map_or_else(none, clock),
        heard(film, station).map_or_else(none, |track| track.replace(" sound", "")),
        if turn == "none" { none() } else { turn.to_owned() },
        facts.decoder.name().to_owned(),
    ]
}

/// A length as people say it: `8.2 s`, `0:24`, `1:52:07`.
fn clock(length: Duration) -> String {
    let seconds = length.as_secs_f64().round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        _ if length < Duration::from_secs(10) => format!("{:.1} s", length.as_secs_f64()),
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// A path without control characters, which would move the cursor.
fn printable(path: &Path) -> String {
    path.display().to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn described(film: &OpenedFilm, station: &StationSpec) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text += &format!("  {name:<8} {value}\n");
    let (width, height) = film.size;
    let Some((facts, _)) = &film.film else {
        line("decoder", "OpenCV, as a picture");
        line("pictures", &format!("{width}x{height}, on for {} s", station.slide.as_secs()));
        film.remarks.iter().for_each(|remark| line("note", remark));
        return text;
    };
    let why =
        if facts.reasons.is_empty() { String::new() } else { format!(": {}", facts.reasons.join("; ")) };
    line("decoder", &format!("{}{why}", facts.decoder.name()));
    let aspect = film.pixel_aspect;
    let shape =
        if (aspect - 1.0).abs() < 1e-3 { String::new() } else { format!(", pixels {aspect:.3} wide") };
    let scan = if facts.interlaced { ", interlaced" } else { "" };
    let varies = if facts.varies { " on average" } else { "" };
    let length =
        facts.length.map_or("length unknown".into(), |length| format!("{:.3} s", length.as_secs_f64()));
    line(
        "pictures",
        &format!("{} {width}x{height}{shape}{scan}, {} pictures/s{varies}, {length}", facts.codec, film.rate),
    );
    line("colours", &facts.colours.words());
    line("turn", facts.turn.words());
    line("tracks", &facts.tracks.join(", "));
    film.remarks.iter().for_each(|remark| line("note", remark));
    text
}

/// The track that is heard on a station, in words; `None` if none is.
fn heard<'f>(film: &'f OpenedFilm, station: &StationSpec) -> Option<&'f String> {
    let (facts, tracks) = film.film.as_ref()?;
    facts.tracks.get(sound_track(tracks.as_ref()?, &station.sound)?)
}

/// Which sound track is heard on a station, and how loud it is if it was made before; `None` of a picture.
fn sound_described(
    path: &Path,
    film: &OpenedFilm,
    station: &StationSpec,
    dir: Option<&Path>,
) -> Option<String> {
    let (facts, _) = film.film.as_ref()?;
    let Some(heard) = heard(film, station) else {
        return Some("  sound    none\n".into());
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_told_as_people_tell_it() {
        for (millis, text) in [
            (500, "0.5 s"),
            (9_999, "10.0 s"),
            (10_000, "0:10"),
            (24_024, "0:24"),
            (59_700, "1:00"),
            (3_599_600, "1:00:00"),
            (6_727_000, "1:52:07"),
        ] {
            assert_eq!(clock(Duration::from_millis(millis)), text);
        }
    }
}
