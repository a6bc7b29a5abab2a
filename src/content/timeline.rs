//! The time line: when each picture of a station is due. Pure.
//!
//! A film of constant rate plays on an exact grid: picture `n` is due at `anchor + n x period`, computed from `n` each
//! time, so that rounding errors do not add up. The grid continues through the loop point, and through films of the
//! same rate. A film of variable rate plays by its own stamps.

use std::time::Duration;

use crate::media::{AirTime, Due, FrameRate};

/// Greatest distance of a stamp from the grid in a film of constant rate. Containers that count milliseconds
/// (Matroska) round by 0.5 ms. If the rate varies, the distance is far greater within a few pictures.
const ON_GRID: Duration = Duration::from_millis(2);

/// Longest step between two stamps, unless the film says that its picture lasts longer, or has a rate as low as that. A
/// longer one is a fault of the file, not a still picture, and counts as one interval.
const MAX_STEP: Duration = Duration::from_secs(30);

/// Most rounding error of a computed time, in nanoseconds.
const ROUNDING: i64 = 1000;

/// The time line of one station. It only moves forward, film after film.
#[derive(Debug, Clone)]
pub struct Timeline {
    /// When picture 0 of the grid was due.
    anchor: AirTime,
    rate: FrameRate,
    /// The place of the film's picture 0 on the grid.
    film_base: u64,
    film: FilmState,
}

/// The film that is playing, so far.
#[derive(Debug, Clone, Copy, Default)]
struct FilmState {
    /// The stamp of the film's beginning.
    first_stamp: Option<Duration>,
    /// When the first picture was due.
    begun: Option<AirTime>,
    last: Option<LastPicture>,
    /// Whether a stamp was off the grid, so that the film plays by its stamps.
    variable: bool,
}

/// The last picture that was given a due time.
#[derive(Debug, Clone, Copy)]
struct LastPicture {
    stamp: Duration,
    /// The place on the grid, from the film's beginning.
    index: u64,
    due: Due,
    /// How long the film says it lasts, if that is not one interval.
    lasts: Option<Duration>,
}

impl Timeline {
    /// A time line that starts at `anchor`. The caller then begins the first film with
    /// [`begin_film`](Self::begin_film).
    pub fn new(anchor: AirTime, rate: FrameRate) -> Timeline {
        Timeline { anchor, rate, film_base: 0, film: FilmState::default() }
    }

    /// The nominal rate of the film that is playing.
    pub fn rate(&self) -> FrameRate {
        self.rate
    }

    /// Begins a film of nominal rate `rate`, one interval after the last picture of the film before it, but not before
    /// `earliest`, since something else may have been on air meanwhile.
    pub fn begin_film(&mut self, rate: FrameRate, earliest: AirTime) {
        self.continue_at(rate);
        // `earliest` was computed from rounded times, which is no reason to leave the exact grid.
        if earliest.signed_since(self.grid(0)) > ROUNDING {
            self.reanchor(earliest);
        }
    }

    /// The time from the beginning of the film to the last due time.
    pub fn film_offset(&self) -> Duration {
        match (self.film.last, self.film.begun) {
            (Some(last), Some(begun)) if self.film.variable => last.due.at.since(begun),
            (Some(last), _) => self.rate.nth(last.index),
            (None, _) => Duration::ZERO,
        }
    }

    /// The time from the beginning of the film to the end of the last picture.
    pub fn film_length(&self) -> Duration {
        match self.film.last {
            Some(LastPicture { lasts: Some(lasts), .. }) => self.film_offset() + lasts,
            Some(last) if self.film.variable => self.film_offset() + last.due.interval,
            Some(last) => self.rate.nth(last.index + 1),
            None => Duration::ZERO,
        }
    }

    /// The picture given last lasts so long, if the film says so of it. A film ends when its last picture has had its time.
    pub fn lasts(&mut self, lasts: Option<Duration>) {
        let (interval, variable) = (self.rate.interval(), self.film.variable);
        if let Some(last) = &mut self.film.last {
            // A length of one interval, but for rounding, stays on the grid. A film of variable rate has no grid.
            let is_own = |lasts: &Duration| variable || lasts.abs_diff(interval) > ON_GRID.max(interval / 8);
            last.lasts = lasts.filter(is_own);
        }
    }

    /// When the picture given last has had its time, if it lasts for longer than one interval.
    pub fn held_until(&self) -> Option<AirTime> {
        let last = self.film.last?;
        let lasts = last.lasts.filter(|&lasts| lasts > last.due.interval)?;
        Some(last.due.at + lasts)
    }

    fn continue_at(&mut self, rate: FrameRate) {
        if let Some(last) = self.film.last {
            if let Some(lasts) = last.lasts {
                self.anchor = last.due.at + lasts;
                self.film_base = 0;
            } else if self.film.variable {
                self.anchor = last.due.at + last.due.interval;
                self.film_base = 0;
            } else {
                self.film_base += last.index + 1;
            }
        }
        if rate != self.rate {
            self.anchor = self.anchor + self.rate.nth(self.film_base);
            self.film_base = 0;
            self.rate = rate;
        }
        self.film = FilmState::default();
    }

    /// The due time of the film's next picture, which has this stamp. If stamps do not advance, the film has none, and
    /// its pictures follow each other at the nominal rate.
    pub fn next(&mut self, stamp: Duration) -> Due {
        let first = *self.film.first_stamp.get_or_insert(stamp);
        let offset = stamp.saturating_sub(first);
        let Some(last) = self.film.last else {
            return self.place(stamp, 0, self.grid(0), self.rate.interval());
        };
        let step = stamp.saturating_sub(last.stamp);
        let longest = MAX_STEP.max(self.rate.interval() * 4).max(last.lasts.unwrap_or_default() + ON_GRID);
        if step.is_zero() || step > longest {
            // Shifts the film's origin, so that the stamps after this fault continue the time line.
            self.film.first_stamp = Some(stamp.saturating_sub(self.rate.nth(last.index + 1)));
            return self.place_next(stamp, last);
        }
        if !self.film.variable {
            let index = self.rate.nearest(offset);
            let on_grid = offset.abs_diff(self.rate.nth(index)) <= ON_GRID.min(self.rate.interval() / 8);
            if on_grid && index > last.index {
                return self.place(stamp, index, self.grid(index), self.rate.interval());
            }
            self.film.variable = true;
        }
        let at = (last.due.at + step).max(last.due.at);
        // The time to the next picture is not known yet. After a pause it is not as long as the pause, else the next
        // film would wait for it.
        self.place(stamp, last.index + 1, at, step.min(self.rate.interval()))
    }

    /// Starts the grid anew, so that the film's next picture is due at `now`.
    pub fn reanchor(&mut self, now: AirTime) {
        self.anchor = now;
        self.film_base = 0;
        self.film = FilmState::default();
    }

    fn grid(&self, index: u64) -> AirTime {
        self.anchor + self.rate.nth(self.film_base + index)
    }

    fn place_next(&mut self, stamp: Duration, last: LastPicture) -> Due {
        let index = last.index + 1;
        let at = if self.film.variable { last.due.at + self.rate.interval() } else { self.grid(index) };
        self.place(stamp, index, at, self.rate.interval())
    }

    fn place(&mut self, stamp: Duration, index: u64, at: AirTime, interval: Duration) -> Due {
        let due = Due { at, interval };
        self.film.begun.get_or_insert(at);
        self.film.last = Some(LastPicture { stamp, index, due, lasts: None });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: AirTime = AirTime(1_790_000_000_000_000_123);

    fn rate(num: u32, den: u32) -> FrameRate {
        FrameRate::new(num, den).unwrap()
    }

    /// The stamp of picture `n` in a container with `timescale` ticks a second.
    fn stamp(rate: FrameRate, n: u64, timescale: u64) -> Duration {
        let ticks = (rate.nth(n).as_nanos() as u64 * timescale + 500_000_000) / 1_000_000_000;
        Duration::from_nanos(ticks * 1_000_000_000 / timescale)
    }

    #[test]
    fn a_day_of_loops_has_no_drift_at_any_rate() {
        for (num, den) in [(24_000, 1001), (24, 1), (25, 1), (30_000, 1001), (50, 1), (60_000, 1001), (5, 1)]
        {
            for timescale in [1_000, 12_800, 90_000] {
                let rate = rate(num, den);
                let mut timeline = Timeline::new(START, rate);
                let film = 311; // pictures: a prime, so that loop points fall everywhere
                let mut n = 0;
                let mut last = AirTime(0);
                while rate.nth(n) < Duration::from_secs(86_400) {
                    timeline.begin_film(rate, START);
                    for picture in 0..film {
                        last = timeline.next(stamp(rate, picture, timescale)).at;
                        n += 1;
                    }
                    assert_eq!(last, START + rate.nth(n - 1), "picture {n} at {rate}, timescale {timescale}");
                }
                // In the RTP clock, over more than one wrap of its 32 bits.
                let ticks = last.rtp_timestamp().wrapping_sub(START.rtp_timestamp());
                let exact = u128::from(n - 1) * u128::from(den) * 90_000 / u128::from(num);
                assert!(ticks.abs_diff(exact as u32) <= 1);
            }
        }
    }

    #[test]
    fn offset_and_length_count_from_the_beginning_of_the_film() {
        let ntsc = rate(30_000, 1001);
        let mut timeline = Timeline::new(START, ntsc);
        for _ in 0..3 {
            timeline.begin_film(ntsc, START);
            for n in 0..100 {
                timeline.next(stamp(ntsc, n, 90_000));
                assert_eq!(timeline.film_offset(), ntsc.nth(n));
            }
            assert_eq!(timeline.film_length(), ntsc.nth(100));
        }
        timeline.begin_film(rate(25, 1), START);
        for ms in [0, 40, 113, 200] {
            timeline.next(Duration::from_millis(ms));
            assert_eq!(timeline.film_offset(), Duration::from_millis(ms));
        }
        assert_eq!(timeline.film_length(), Duration::from_millis(240));
    }

    #[test]
    fn a_film_does_not_begin_before_the_earliest_time() {
        let mut timeline = Timeline::new(START, rate(25, 1));
        timeline.begin_film(rate(25, 1), START);
        timeline.next(Duration::ZERO);
        let free = START + Duration::from_secs(10);
        timeline.begin_film(rate(25, 1), free);
        assert_eq!(timeline.next(Duration::ZERO).at, free);
        timeline.begin_film(rate(25, 1), free);
        assert_eq!(timeline.next(Duration::ZERO).at, free + Duration::from_millis(40), "the grid continues");
    }

    #[test]
    fn a_film_of_another_rate_begins_where_the_last_film_ends() {
        let mut timeline = Timeline::new(START, rate(25, 1));
        timeline.begin_film(rate(25, 1), START);
        for n in 0..50 {
            timeline.next(stamp(rate(25, 1), n, 1000));
        }
        timeline.begin_film(rate(30_000, 1001), START);
        assert_eq!(timeline.next(Duration::ZERO).at, START + Duration::from_secs(2));
        assert_eq!(
            timeline.next(stamp(rate(30_000, 1001), 1, 90_000)).at.since(START).as_nanos(),
            2_033_366_666
        );
    }

    #[test]
    fn a_variable_film_plays_by_its_stamps() {
        let mut timeline = Timeline::new(START, rate(25, 1));
        timeline.begin_film(rate(25, 1), START);
        let stamps = [500, 540, 613, 700, 1700, 1733];
        let dues: Vec<_> = stamps.map(|ms| timeline.next(Duration::from_millis(ms)).at.since(START)).into();
        assert_eq!(dues, stamps.map(|ms| Duration::from_millis(ms - 500)));
        timeline.begin_film(rate(25, 1), START);
        assert_eq!(timeline.next(Duration::ZERO).at.since(START), Duration::from_millis(1266));
    }

    #[test]
    fn a_picture_after_a_pause_does_not_take_as_long_as_the_pause() {
        let mut timeline = Timeline::new(START, rate(25, 1));
        timeline.begin_film(rate(25, 1), START);
        let dues = [0, 40, 10_040, 10_053, 10_093].map(|ms| timeline.next(Duration::from_millis(ms)));
        assert_eq!(dues.map(|due| due.interval.as_millis()), [40, 40, 40, 13, 40]);
        assert_eq!(dues[2].at, START + Duration::from_millis(10_040));
        // Also at the end of a film.
        timeline.next(Duration::from_secs(20));
        assert_eq!(timeline.film_length(), Duration::from_millis(20_040));
    }

    #[test]
    fn a_film_without_stamps_plays_at_its_nominal_rate() {
        let mut timeline = Timeline::new(START, rate(25, 1));
        timeline.begin_film(rate(25, 1), START);
        for n in 0..100 {
            assert_eq!(timeline.next(Duration::ZERO).at, START + rate(25, 1).nth(n));
        }
    }

    #[test]
    fn a_missing_picture_leaves_its_place_empty() {
        let mut timeline = Timeline::new(START, rate(25, 1));
        timeline.begin_film(rate(25, 1), START);
        for n in [0, 1, 2, 5, 6] {
            assert_eq!(timeline.next(stamp(rate(25, 1), n, 90_000)).at, START + rate(25, 1).nth(n));
        }
        timeline.begin_film(rate(25, 1), START);
        assert_eq!(timeline.next(Duration::ZERO).at, START + rate(25, 1).nth(7));
    }

    #[test]
    fn stamps_that_jump_back_or_far_ahead_do_not_move_the_station() {
        let mut timeline = Timeline::new(START, rate(25, 1));
        timeline.begin_film(rate(25, 1), START);
        for (n, ms) in [0, 40, 80, 20, 60, 100, 3_600_000, 3_600_040].into_iter().enumerate() {
            let due = timeline.next(Duration::from_millis(ms));
            assert_eq!(due.at, START + rate(25, 1).nth(n as u64), "picture {n}, stamp {ms} ms");
        }
    }

    #[test]
    fn a_film_ends_when_its_last_picture_has_had_its_time() {
        let seconds = Duration::from_secs;
        let mut timeline = Timeline::new(START, rate(25, 1));
        for round in 0..3 {
            timeline.begin_film(rate(25, 1), START);
            for (stamp, lasts) in [(0, 12), (12, 40), (52, 45)] {
                let due = timeline.next(seconds(stamp));
                timeline.lasts(Some(seconds(lasts)));
                assert_eq!(due.at, START + seconds(97 * round + stamp), "round {round}");
                assert_eq!(timeline.film_offset(), seconds(stamp));
                assert_eq!(timeline.held_until(), Some(due.at + seconds(lasts)));
            }
            assert_eq!(timeline.film_length(), seconds(97));
        }
        // A picture that lasts one interval, but for what its container rounds, leaves the grid alone.
        timeline.begin_film(rate(25, 1), START);
        timeline.next(Duration::ZERO);
        timeline.lasts(Some(Duration::from_millis(41)));
        assert_eq!((timeline.film_length(), timeline.held_until()), (Duration::from_millis(40), None));
    }

    #[test]
    fn the_next_round_of_a_variable_film_follows_when_its_last_picture_has_had_its_time() {
        let millis = Duration::from_millis;
        // As telephones record in poor light: 25 pictures a second on average. The last one lasts about as long as that, or not.
        for lasts in [17, 38, 40, 43, 66, 900] {
            let mut timeline = Timeline::new(START, rate(25, 1));
            for round in 0..100 {
                timeline.begin_film(rate(25, 1), START);
                for (stamp, picture_lasts) in [(0, 33), (33, 67), (100, 20), (120, lasts)] {
                    let due = timeline.next(millis(stamp));
                    timeline.lasts(Some(millis(picture_lasts)));
                    let expected = START + millis(round * (120 + lasts) + stamp);
                    assert_eq!(
                        due.at, expected,
                        "the picture at {stamp} of round {round}, the last for {lasts}"
                    );
                }
                assert_eq!(timeline.film_length(), millis(120 + lasts));
            }
        }
    }

    #[test]
    fn a_grid_that_starts_anew_begins_at_the_given_time() {
        let mut timeline = Timeline::new(START, rate(25, 1));
        timeline.begin_film(rate(25, 1), START);
        timeline.next(Duration::ZERO);
        let later = START + Duration::from_secs(3600);
        timeline.reanchor(later);
        assert_eq!(timeline.next(Duration::from_millis(40)).at, later);
        assert_eq!(timeline.next(Duration::from_millis(80)).at, later + Duration::from_millis(40));
    }
}
