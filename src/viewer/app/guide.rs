//! The open guide: the films of all stations on a time line, and a cursor among them. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::directory::{FilmOnAir, StationInfo};
use crate::media::{AirTime, StationId};
use crate::screen::{Guide, GuideCell, GuideRow};

/// The spans that a time line may have, and the time between two of its marks.
const SPANS: [(Duration, Duration); 7] = [
    (Duration::from_secs(120), Duration::from_secs(30)),
    (Duration::from_secs(300), Duration::from_secs(60)),
    (Duration::from_secs(600), Duration::from_secs(120)),
    (Duration::from_secs(1800), Duration::from_secs(300)),
    (Duration::from_secs(3600), Duration::from_secs(900)),
    (Duration::from_secs(10_800), Duration::from_secs(1800)),
    (Duration::from_secs(21_600), Duration::from_secs(3600)),
];

/// A time line is long enough for so many films of usual length.
const FILMS: u32 = 4;

/// The share of the time line before the present moment.
const BEFORE: u32 = 12;

/// The films as far as they are known.
#[derive(Debug, Default, PartialEq)]
enum Known {
    /// The directory was asked.
    #[default]
    Awaited,
    Films(BTreeMap<StationId, Vec<FilmOnAir>>),
    /// The directory does not tell.
    Not,
}

/// The state of the open guide.
#[derive(Debug)]
pub(super) struct OpenGuide {
    known: Known,
    /// The station under the cursor.
    station: Option<StationId>,
    /// The moment under the cursor; `None`: the present one.
    at: Option<AirTime>,
    /// The left edge of the time line; `None`: a little before the present moment.
    left: Option<AirTime>,
    /// The span of the time line, an index into [`SPANS`]; `None` before films are known.
    span: Option<usize>,
}

/// A step of the cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GuideStep {
    /// So many films further, or back.
    Films(i32),
    /// So many stations down, or up.
    Stations(i32),
    /// To what is on.
    Now,
}

impl OpenGuide {
    /// A guide with the cursor on what is on this station.
    pub(super) fn at(station: Option<StationId>) -> OpenGuide {
        OpenGuide { known: Known::default(), station, at: None, left: None, span: None }
    }

    /// Takes the films, or that there are none to be told.
    pub(super) fn set(&mut self, films: Option<BTreeMap<StationId, Vec<FilmOnAir>>>) {
        self.known = match films {
            None => Known::Not,
            Some(films) => {
                if self.span.is_none() {
                    self.span = span_for(&films);
                }
                Known::Films(films)
            }
        };
    }

    /// The span of the time line, and the time between its marks.
    fn scale(&self) -> (Duration, Duration) {
        SPANS[self.span.unwrap_or(4)]
    }

    fn left(&self, now: AirTime) -> AirTime {
        self.left.unwrap_or(now - self.scale().0 / BEFORE)
    }

    /// The span to be asked for: the one that is seen, and as much behind it, so that a step shows something at once.
    pub(super) fn wanted(&self, now: AirTime) -> (AirTime, AirTime) {
        let left = self.left(now);
        // Before films are known, the guide of the longest span tells which one fits.
        let span = self.span.map_or(SPANS[SPANS.len() - 1].0, |_| self.scale().0);
        (left, left + span * 2)
    }

    fn films(&self, station: StationId) -> &[FilmOnAir] {
        match &self.known {
            Known::Films(films) => films.get(&station).map_or(&[], Vec::as_slice),
            Known::Awaited | Known::Not => &[],
        }
    }

    /// The row of the cursor: that of its station, or else the first.
    fn row(&self, line_up: &[StationInfo]) -> usize {
        line_up.iter().position(|station| Some(station.id) == self.station).unwrap_or(0)
    }

    /// The station under the cursor.
    pub(super) fn chosen(&self, line_up: &[StationInfo]) -> Option<StationId> {
        line_up.get(self.row(line_up)).map(|station| station.id)
    }

    /// The film under the cursor.
    fn film(&self, station: StationId, now: AirTime) -> Option<usize> {
        let at = self.at.unwrap_or(now);
        self.films(station).iter().position(|film| is_on(film, at))
    }

    /// Moves the cursor. It stops at both ends.
    pub(super) fn step(&mut self, step: GuideStep, line_up: &[StationInfo], now: AirTime) {
        match step {
            GuideStep::Now => (self.at, self.left) = (None, None),
            GuideStep::Stations(rows) => {
                let last = line_up.len().saturating_sub(1);
                let row = self.row(line_up).saturating_add_signed(rows as isize).min(last);
                self.station = line_up.get(row).map(|station| station.id);
            }
            GuideStep::Films(by) => {
                let Some(station) = self.chosen(line_up) else { return };
                let Some(film) = self.film(station, now) else {
                    // Where no film is known, the cursor moves by a mark.
                    let (_, mark) = self.scale();
                    let at = self.at.unwrap_or(now);
                    let to = if by < 0 { at - mark } else { at + mark };
                    return self.go(to, now);
                };
                let films = self.films(station);
                let to = film.saturating_add_signed(by as isize).min(films.len() - 1);
                self.go(films[to].begin, now);
            }
        }
    }

    /// Puts the cursor on a station and a moment.
    pub(super) fn point(&mut self, row: usize, share: f32, line_up: &[StationInfo], now: AirTime) {
        let at = self.left(now) + self.scale().0.mul_f32(share.clamp(0.0, 1.0));
        self.station = line_up.get(row).map(|station| station.id).or(self.station);
        self.at = Some(at.max(now));
    }

    /// Puts the cursor on a moment, the present one at the earliest, and the time line where it shows it.
    fn go(&mut self, at: AirTime, now: AirTime) {
        if at <= now {
            (self.at, self.left) = (None, None);
            return;
        }
        let (span, mark) = self.scale();
        self.at = Some(at);
        let left = self.left(now);
        // The film that begins there is to be seen, too.
        if at + span / FILMS > left + span {
            self.left = Some(at + span / 2 - span);
        } else if at < left {
            let left = at - mark / 2;
            self.left = Some(left).filter(|left| *left > now);
        }
    }

    /// The guide as it is shown. `time` writes a moment, with seconds or without.
    pub(super) fn view<'a>(
        &'a self,
        line_up: &'a [StationInfo],
        now: AirTime,
        current: Option<StationId>,
        time: impl Fn(AirTime, bool) -> String,
    ) -> Guide<'a> {
        let (left, (span, mark)) = (self.left(now), self.scale());
        let share = |at: AirTime| at.signed_since(left) as f32 / span.as_nanos() as f32;
        let row = |station: &'a StationInfo| {
            let films = self.films(station.id).iter();
            let seen = films.filter(|film| film.begin < left + span && film.end.is_none_or(|end| end > left));
            let cell = |film: &'a FilmOnAir| GuideCell {
                title: &film.title,
                begin: share(film.begin),
                end: film.end.map(share),
                is_on: is_on(film, now),
            };
            GuideRow { id: station.id, name: &station.name, cells: seen.map(cell).collect() }
        };
        let (seconds, step) = (mark.as_secs() < 60, mark.as_nanos() as u64);
        let first = AirTime(left.0.div_ceil(step) * step);
        let marks = (0..).map(|n| first + mark * n).take_while(|at| *at < left + span);
        let chosen = self.chosen(line_up);
        let film = chosen.and_then(|id| Some(&self.films(id)[self.film(id, now)?]));
        let detail = match (&self.known, film) {
            (Known::Awaited, _) => "Waiting for the guide".to_owned(),
            (Known::Not, _) => "This broadcaster tells no guide".to_owned(),
            (Known::Films(_), None) => "Nothing is known of this time".to_owned(),
            (Known::Films(_), Some(film)) => {
                let end = film.end.map(|end| format!(" – {}", time(end, seconds)));
                format!("{}{}  {}", time(film.begin, seconds), end.unwrap_or_default(), film.title)
            }
        };
        Guide {
            rows: line_up.iter().map(row).collect(),
            current,
            cursor: self.row(line_up),
            at: share(self.at.unwrap_or(now)),
            now: share(now),
            marks: marks.map(|at| (share(at), time(at, seconds))).collect(),
            detail,
        }
    }
}

fn is_on(film: &FilmOnAir, at: AirTime) -> bool {
    film.begin <= at && film.end.is_none_or(|end| at < end)
}

/// The shortest span that has room for some films of usual length; `None` if no length is known.
fn span_for(films: &BTreeMap<StationId, Vec<FilmOnAir>>) -> Option<usize> {
    let mut lengths: Vec<Duration> = films.values().flatten().filter_map(FilmOnAir::length).collect();
    lengths.sort_unstable();
    let usual = *lengths.get(lengths.len() / 2)?;
    Some(SPANS.iter().position(|(span, _)| *span >= usual * FILMS).unwrap_or(SPANS.len() - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: AirTime = AirTime(1_790_000_000_000_000_000);

    fn at(minutes: u64) -> AirTime {
        NOW + Duration::from_secs(60 * minutes)
    }

    fn line_up(count: u16) -> Vec<StationInfo> {
        let station =
            |id: u16| StationInfo::starting(StationId(id), "S", ([239, 1, 1, 1], 5000 + id).into(), "lo", 80);
        (1..=count).map(station).collect()
    }

    /// Films of so many minutes, without a gap, from the present moment on.
    fn films(lengths: &[u64]) -> Vec<FilmOnAir> {
        let mut begin = 0;
        let film = |(n, &length): (usize, &u64)| {
            let film =
                FilmOnAir { title: format!("film {n}"), begin: at(begin), end: Some(at(begin + length)) };
            begin += length;
            film
        };
        lengths.iter().enumerate().map(film).collect()
    }

    fn guide(rows: &[&[u64]]) -> OpenGuide {
        let mut guide = OpenGuide::at(Some(StationId(1)));
        let rows = (1..).map(StationId).zip(rows.iter().map(|lengths| films(lengths)));
        guide.set(Some(rows.collect()));
        guide
    }

    fn detail(guide: &OpenGuide, stations: &[StationInfo]) -> String {
        let time = |at: AirTime, _| (at.since(NOW).as_secs() / 60).to_string();
        guide.view(stations, NOW, None, time).detail
    }

    #[test]
    fn the_cursor_goes_from_film_to_film_and_from_station_to_station() {
        let stations = line_up(2);
        let mut guide = guide(&[&[30, 40, 50], &[60, 70]]);
        assert_eq!(detail(&guide, &stations), "0 – 30  film 0");
        let mut step = |step| {
            guide.step(step, &stations, NOW);
            detail(&guide, &stations)
        };
        assert_eq!(step(GuideStep::Films(1)), "30 – 70  film 1");
        assert_eq!(step(GuideStep::Stations(1)), "0 – 60  film 0", "at the same moment");
        assert_eq!(step(GuideStep::Films(1)), "60 – 130  film 1");
        assert_eq!(step(GuideStep::Films(9)), "60 – 130  film 1", "the last one");
        assert_eq!(step(GuideStep::Stations(-9)), "30 – 70  film 1");
        assert_eq!(step(GuideStep::Films(-9)), "0 – 30  film 0");
        step(GuideStep::Films(2));
        assert_eq!(step(GuideStep::Now), "0 – 30  film 0");
        assert_eq!(guide.chosen(&stations), Some(StationId(1)));
        assert_eq!(guide.chosen(&stations[1..]), Some(StationId(2)), "its station has left");
        assert_eq!(guide.chosen(&[]), None);
    }

    #[test]
    fn the_time_line_follows_the_cursor_and_has_room_for_some_films() {
        let stations = line_up(1);
        let mut guide = guide(&[&[25; 40]]);
        let seen = |guide: &OpenGuide| {
            let view = guide.view(&stations, NOW, None, |at, seconds| {
                assert!(!seconds);
                (at.0 / 60_000_000_000 % 60).to_string()
            });
            assert!((0.0..1.0).contains(&view.at), "the cursor is seen: {view:?}");
            (view.rows[0].cells.len(), view.now, view.marks.len())
        };
        let (cells, now, marks) = seen(&guide);
        assert_eq!((cells, marks), (7, 6), "three hours");
        assert!((now - 1.0 / 12.0).abs() < 1e-3);
        for n in 0..39 {
            guide.step(GuideStep::Films(1), &stations, NOW);
            seen(&guide);
            assert!(detail(&guide, &stations).ends_with(&format!("film {}", n + 1)));
        }
        let (from, until) = guide.wanted(NOW);
        assert!(from > NOW && until > at(39 * 25));
        for _ in 0..60 {
            guide.step(GuideStep::Films(-1), &stations, NOW);
            seen(&guide);
        }
        assert!((seen(&guide).1 - 1.0 / 12.0).abs() < 1e-3, "back at the present moment");
    }

    #[test]
    fn a_guide_of_nothing_says_why() {
        let stations = line_up(1);
        let mut guide = OpenGuide::at(None);
        assert_eq!(detail(&guide, &stations), "Waiting for the guide");
        guide.set(None);
        assert_eq!(detail(&guide, &stations), "This broadcaster tells no guide");
        guide.set(Some(BTreeMap::new()));
        assert_eq!(detail(&guide, &stations), "Nothing is known of this time");
        for step in [GuideStep::Films(1), GuideStep::Films(-9), GuideStep::Stations(5), GuideStep::Now] {
            guide.step(step, &stations, NOW);
            guide.step(step, &[], NOW);
        }
        guide.point(7, 0.5, &stations, NOW);
        assert_eq!(guide.view(&[], NOW, None, |_, _| String::new()).rows.len(), 0);
    }
}
