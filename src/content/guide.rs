//! The guide of a station: which of its films is on at a moment, since when, and which follow. Pure.
//!
//! A station tells its guide when a round begins and when each film of it does, up to [`LEAD`](crate::air::LEAD) ahead. From
//! that, everything else is computed: what is on now, what comes next, and when.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::media::AirTime;

/// A film of a round, before its title is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoundFilm {
    pub(crate) path: PathBuf,
    /// The length of its reel; `None` if it has none yet.
    pub(crate) length: Option<Duration>,
}

/// A film of a round, as people know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GuideFilm {
    pub(crate) title: Arc<str>,
    /// How long it plays: exact if it has a reel, else as its container claims. `None` if nobody knows.
    pub(crate) length: Option<Duration>,
}

/// A film that is on, was on, or will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuideEntry {
    /// Its title.
    pub title: Arc<str>,
    /// When it begins.
    pub begin: AirTime,
    /// When it ends, and the next one begins; `None` if nobody knows.
    pub end: Option<AirTime>,
}

impl GuideEntry {
    fn is_over(&self, now: AirTime) -> bool {
        self.end.is_some_and(|end| end <= now)
    }
}

/// The guide of one station.
#[derive(Debug, Default)]
pub(crate) struct StationGuide {
    /// Numbers the rounds, so that titles that are found late come to their own round.
    round: u64,
    films: Arc<[GuideFilm]>,
    /// The film that is on, and the one that was handed to the air and is not due yet.
    cues: Vec<Cue>,
    /// The interlude that is on instead of the programme, by an order, or was last.
    interlude: Option<GuideEntry>,
}

/// A film of a round, and when it begins.
#[derive(Debug)]
struct Cue {
    round: u64,
    films: Arc<[GuideFilm]>,
    place: usize,
    begin: AirTime,
    /// Its length, if that is known better than from the round.
    length: Option<Duration>,
}

impl StationGuide {
    /// A round of these films begins. Returns its number.
    pub(crate) fn begin_round(&mut self, films: Vec<GuideFilm>) -> u64 {
        self.round += 1;
        self.films = films.into();
        self.round
    }

    /// Titles and lengths of a round were found.
    pub(crate) fn set_films(&mut self, round: u64, films: Vec<GuideFilm>) {
        let films: Arc<[GuideFilm]> = films.into();
        if round == self.round {
            self.films = films.clone();
        }
        for cue in self.cues.iter_mut().filter(|cue| cue.round == round && cue.place < films.len()) {
            cue.films = films.clone();
        }
    }

    /// The film at `place` of the round begins at `begin`, or did.
    pub(crate) fn begin_film(&mut self, place: usize, begin: AirTime, length: Option<Duration>) {
        if place >= self.films.len() {
            return;
        }
        // A film that was joined in the middle, or stood still, is told again with another beginning.
        self.cues.retain(|cue| cue.begin < begin);
        let keep_from = self.cues.len().saturating_sub(1);
        self.cues.drain(..keep_from);
        self.cues.push(Cue { round: self.round, films: self.films.clone(), place, begin, length });
    }

    /// No film is on: the station shows a slate.
    pub(crate) fn clear(&mut self) {
        self.cues.clear();
        self.interlude = None;
    }

    /// Another programme begins.
    pub(crate) fn clear_programme(&mut self) {
        self.cues.clear();
    }

    /// This is on instead of the programme, which goes on underneath. Without an end, until the interlude is
    /// [ended](Self::end_interlude).
    pub(crate) fn begin_interlude(&mut self, entry: GuideEntry) {
        self.interlude = Some(entry);
    }

    /// The programme goes on at `at`.
    pub(crate) fn end_interlude(&mut self, at: AirTime) {
        // One that has not begun was never seen.
        let begun = self.interlude.take().filter(|interlude| interlude.begin < at);
        let end = |interlude: &GuideEntry| Some(interlude.end.map_or(at, |end| end.min(at)));
        self.interlude = begun.map(|interlude| GuideEntry { end: end(&interlude), ..interlude });
    }

    /// The title of the film of the programme that was handed to the air last.
    pub(crate) fn latest_title(&self) -> Option<Arc<str>> {
        let cue = self.cues.last()?;
        Some(cue.films.get(cue.place)?.title.clone())
    }

    /// The film that is on at `now`, and all that follow, without end, unless the length of one is not known. Empty if nothing is on.
    pub(crate) fn entries(&self, now: AirTime) -> impl Iterator<Item = GuideEntry> + use<> {
        let interlude = self.interlude.clone().filter(|interlude| !interlude.is_over(now));
        let begin = interlude.as_ref().map_or(AirTime(u64::MAX), |interlude| interlude.begin);
        let before = self.programme(now).take_while(move |entry| now < begin && entry.begin < begin);
        let before = before.map(move |entry| GuideEntry {
            end: entry.end.map(|end| end.min(begin)).or((begin.0 < u64::MAX).then_some(begin)),
            ..entry
        });
        let goes_on = interlude.as_ref().and_then(|interlude| interlude.end);
        let after = goes_on.map(|at| {
            let entries = self.programme(at);
            entries.map(move |entry| GuideEntry { begin: entry.begin.max(at), ..entry })
        });
        before.chain(interlude).chain(after.into_iter().flatten())
    }

    /// The films of the programme that are on at `now`, and all that follow.
    fn programme(&self, now: AirTime) -> impl Iterator<Item = GuideEntry> + use<> {
        let on = self.cues.iter().rposition(|cue| cue.begin <= now);
        let cue = on.and_then(|on| self.cues.get(on));
        let coming = on.and_then(|on| self.cues.get(on + 1));
        let until = coming.map_or(AirTime(u64::MAX), |coming| coming.begin);
        let before = cue.map(Cue::entries).into_iter().flatten().take_while(move |entry| entry.begin < until);
        let before = before.map(move |entry| GuideEntry {
            end: entry.end.map(|end| end.min(until)).or((until.0 < u64::MAX).then_some(until)),
            ..entry
        });
        let entries = before.chain(coming.map(Cue::entries).into_iter().flatten());
        // A station tells when each film begins. Where it has not, it is late by more than a round, and nothing is known.
        let most_over = cue.map_or(0, |cue| cue.films.len() + 1);
        let mut over = 0;
        let entries = entries.take_while(move |entry| {
            over += usize::from(entry.is_over(now));
            over <= most_over
        });
        entries.skip_while(move |entry| entry.is_over(now))
    }
}

impl Cue {
    /// The film, and all that follow it.
    fn entries(&self) -> impl Iterator<Item = GuideEntry> + use<> {
        let films = self.films.clone();
        let (mut place, mut own_length) = (self.place, self.length);
        let mut begin = Some(self.begin);
        std::iter::from_fn(move || {
            let film = &films[place];
            let entry_begin = begin?;
            let end = own_length.take().or(film.length).map(|length| entry_begin + length);
            place = (place + 1) % films.len();
            begin = end;
            Some(GuideEntry { title: film.title.clone(), begin: entry_begin, end })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: AirTime = AirTime(1_790_000_000_000_000_000);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn films(films: &[(&str, Option<u64>)]) -> Vec<GuideFilm> {
        let film = |(title, length): &(&str, Option<u64>)| GuideFilm {
            title: (*title).into(),
            length: length.map(seconds),
        };
        films.iter().map(film).collect()
    }

    /// Titles, and the seconds from `BEGIN` at which they begin and end.
    fn shown(guide: &StationGuide, after: u64, count: usize) -> Vec<(String, u64, Option<u64>)> {
        let since = |at: AirTime| at.since(BEGIN).as_secs();
        let entries = guide.entries(BEGIN + seconds(after)).take(count);
        entries.map(|entry| (entry.title.to_string(), since(entry.begin), entry.end.map(since))).collect()
    }

    fn entry(title: &str, begin: u64, end: impl Into<Option<u64>>) -> (String, u64, Option<u64>) {
        (title.to_owned(), begin, end.into())
    }

    #[test]
    fn films_follow_each_other_round_after_round() {
        let mut guide = StationGuide::default();
        assert_eq!(shown(&guide, 0, 9), []);
        guide.begin_round(films(&[("a", Some(10)), ("b", Some(20)), ("c", Some(30))]));
        assert_eq!(shown(&guide, 0, 9), [], "no film has begun");
        guide.begin_film(1, BEGIN, None);
        let expected = [entry("b", 0, 20), entry("c", 20, 50), entry("a", 50, 60), entry("b", 60, 80)];
        assert_eq!(shown(&guide, 0, 4), expected);
        assert_eq!(shown(&guide, 19, 1), expected[..1]);
        assert_eq!(shown(&guide, 20, 1), expected[1..2], "it follows though the station has not said so yet");
        assert_eq!(shown(&guide, 1_000_000, 1), [], "nothing is known of so late a station");
    }

    #[test]
    fn the_film_before_is_on_until_the_next_one_is_due() {
        let mut guide = StationGuide::default();
        guide.begin_round(films(&[("a", Some(10)), ("b", Some(20))]));
        guide.begin_film(0, BEGIN, None);
        guide.begin_film(1, BEGIN + seconds(10), None);
        guide.begin_round(films(&[("x", Some(5))]));
        guide.begin_film(0, BEGIN + seconds(30), None);
        assert_eq!(shown(&guide, 12, 3), [entry("b", 10, 30), entry("x", 30, 35), entry("x", 35, 40)]);
        assert_eq!(shown(&guide, 30, 2), [entry("x", 30, 35), entry("x", 35, 40)]);
        guide.clear();
        assert_eq!(shown(&guide, 30, 2), []);
    }

    #[test]
    fn a_film_that_began_anew_counts_from_there() {
        let mut guide = StationGuide::default();
        guide.begin_round(films(&[("a", Some(10))]));
        guide.begin_film(0, BEGIN + seconds(3), Some(seconds(11)));
        guide.begin_film(0, BEGIN + seconds(1), Some(seconds(11)));
        assert_eq!(shown(&guide, 4, 1), [entry("a", 1, 12)]);
        guide.begin_film(0, BEGIN + seconds(5), Some(seconds(11)));
        assert_eq!(
            shown(&guide, 6, 2),
            [entry("a", 5, 16), entry("a", 16, 26)],
            "the length of this pass, once"
        );
    }

    #[test]
    fn nothing_follows_a_film_of_unknown_length() {
        let mut guide = StationGuide::default();
        let round = guide.begin_round(films(&[("a.mp4", None), ("b", Some(20))]));
        guide.begin_film(0, BEGIN, None);
        assert_eq!(shown(&guide, 90, 9), [entry("a.mp4", 0, None)]);
        guide.set_films(round, films(&[("A", Some(100)), ("B", Some(20))]));
        assert_eq!(shown(&guide, 90, 2), [entry("A", 0, 100), entry("B", 100, 120)]);
        guide.set_films(round - 1, films(&[("late", None)]));
        assert_eq!(shown(&guide, 90, 1), [entry("A", 0, 100)]);
    }

    #[test]
    fn an_interlude_stands_in_for_the_programme_which_goes_on_underneath() {
        let mut guide = StationGuide::default();
        guide.begin_round(films(&[("a", Some(10)), ("b", Some(20))]));
        guide.begin_film(0, BEGIN, None);
        let interlude = |title: &str, begin, end: Option<u64>| GuideEntry {
            title: title.into(),
            begin: BEGIN + seconds(begin),
            end: end.map(|end| BEGIN + seconds(end)),
        };
        guide.begin_interlude(interlude("x", 4, Some(15)));
        let x = entry("x", 4, 15);
        assert_eq!(
            shown(&guide, 1, 4),
            [entry("a", 0, 4), x.clone(), entry("b", 15, 30), entry("a", 30, 40)]
        );
        assert_eq!(shown(&guide, 4, 2), [x, entry("b", 15, 30)]);
        assert_eq!(shown(&guide, 16, 1), [entry("b", 10, 30)]);

        guide.begin_interlude(interlude("hold", 5, None));
        assert_eq!(shown(&guide, 90, 9), [entry("hold", 5, None)]);
        guide.end_interlude(BEGIN + seconds(32));
        guide.begin_film(0, BEGIN + seconds(30), None);
        assert_eq!(shown(&guide, 31, 2), [entry("hold", 5, 32), entry("a", 32, 40)]);
        assert_eq!(shown(&guide, 33, 1), [entry("a", 30, 40)]);
        guide.begin_interlude(interlude("hold", 34, None));
        guide.end_interlude(BEGIN + seconds(34));
        assert_eq!(shown(&guide, 33, 1), [entry("a", 30, 40)], "it was never seen");
        guide.begin_interlude(interlude("hold", 5, None));
        guide.clear();
        assert_eq!(shown(&guide, 33, 1), []);
    }

    #[test]
    fn films_without_length_end_at_once_and_for_ever() {
        let mut guide = StationGuide::default();
        guide.begin_round(films(&[("a", Some(0)), ("b", Some(0))]));
        guide.begin_film(0, BEGIN, None);
        assert_eq!(shown(&guide, 1, 1), []);
        guide.begin_film(9, BEGIN, None);
    }
}
