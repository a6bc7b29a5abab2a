//! The directory's answers about the stations' films: those of a span.

use std::sync::Weak;

use super::HeadEnd;
use crate::content::guide::GuideEntry;
use crate::directory::{FilmOnAir, Guides, MAX_GUIDE_FILMS, StationFilms};
use crate::media::AirTime;

/// Most films of one station in an answer.
const MOST_OF_STATION: usize = 100;

/// Most films of all stations that are looked through for one answer, which takes 3 ms: a line-up of short films has a guide that
/// reaches less far.
const MOST_STEPS: usize = 40_000;

/// The films of the stations of a head-end.
pub(super) struct HeadEndGuides(pub(super) Weak<HeadEnd>);

impl Guides for HeadEndGuides {
    #[expect(clippy::disallowed_methods, reason = "a shell: the answer is of this moment")]
    fn films(&self, from: AirTime, until: AirTime) -> (AirTime, Vec<StationFilms>) {
        let Some(head_end) = self.0.upgrade() else { return Default::default() };
        let now = head_end.clock.now();
        let stations = head_end.stations();
        let count = stations.len();
        let films = stations.values().map(|station| {
            let films = within(station.guide().entries(now), from, until, count);
            StationFilms { id: station.spec().id, films }
        });
        (now, films.filter(|station| !station.films.is_empty()).collect())
    }
}

/// The films of one of `stations` stations that end after `from` and begin before `until`.
fn within(
    films: impl Iterator<Item = GuideEntry>,
    from: AirTime,
    until: AirTime,
    stations: usize,
) -> Vec<FilmOnAir> {
    let share = |all: usize| all / stations.max(1);
    let film =
        |GuideEntry { title, begin, end }: GuideEntry| FilmOnAir { title: title.to_string(), begin, end };
    films
        .take(share(MOST_STEPS).max(2))
        .take_while(|film| film.begin < until)
        // Clients refuse a film without length, and nothing is seen of it.
        .filter(|film| film.end.is_none_or(|end| end > from && end > film.begin))
        .take(share(MAX_GUIDE_FILMS).clamp(1, MOST_OF_STATION))
        .map(film)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::content::guide::GuideFilm;
    use crate::lineup::StationSpec;
    use crate::media::StationId;

    const BEGIN: AirTime = AirTime(1_790_000_000_000_000_000);

    fn at(seconds: u64) -> AirTime {
        BEGIN + Duration::from_secs(seconds)
    }

    fn film(title: &str, begin: u64, end: Option<u64>) -> GuideEntry {
        GuideEntry { title: title.into(), begin: at(begin), end: end.map(at) }
    }

    #[test]
    fn the_films_of_a_span_touch_it_and_are_bounded() {
        let films = || (0..).map(|n| film(&format!("f{n}"), 10 * n, Some(10 * n + 10)));
        let titles = |films: Vec<FilmOnAir>| films.into_iter().map(|film| film.title).collect::<Vec<_>>();
        assert_eq!(titles(within(films(), at(20), at(41), 1)), ["f2", "f3", "f4"]);
        assert_eq!(titles(within(films(), at(19), at(20), 1)), ["f1"]);
        assert_eq!(within(films(), at(0), at(1_000_000), 1).len(), 100);
        assert_eq!(within(films(), at(0), at(1_000_000), 999).len(), 2);
        assert_eq!(within(films(), at(1_000_000), at(1_000_001), 999).len(), 0, "too far away");
        let last = [film("short", 0, Some(0)), film("open", 0, None)];
        assert_eq!(titles(within(last.into_iter(), at(500), at(501), 1)), ["open"]);
    }

    #[tokio::test]
    async fn the_directory_tells_the_films_of_all_stations() {
        let (on, off) = (StationSpec::sample("239.79.5.3:5004"), StationSpec::sample("239.79.5.4:5004"));
        let off = StationSpec { id: StationId(900), ..off };
        let id = on.id;
        let (head_end, _stop) = HeadEnd::for_tests(vec![on, off], None);
        let guides = HeadEndGuides(std::sync::Arc::downgrade(&head_end));
        let begin = head_end.since;
        let station = head_end.station(id).unwrap();
        let film = |title: &str| GuideFilm { title: title.into(), length: Some(Duration::from_secs(3600)) };
        station.guide().begin_round(vec![film("Ocean"), film("Nature")]);
        station.guide().begin_film(0, begin, None);
        let (_, told) = guides.films(begin, begin + Duration::from_secs(7200));
        let [StationFilms { id: told_id, films }] = &told[..] else { panic!("{told:?}") };
        assert_eq!(*told_id, id);
        assert_eq!(films.iter().map(|film| &*film.title).collect::<Vec<_>>(), ["Ocean", "Nature"]);
        assert_eq!(films[1].begin, begin + Duration::from_secs(3600));
    }
}
