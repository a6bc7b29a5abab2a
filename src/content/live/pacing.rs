//! When each picture of a live source is on air. Pure.
//!
//! Pictures with time stamps keep the distances that these tell: a picture is due at its stamp, plus the lowest delay that
//! pictures of the last seconds had on their way, plus the buffer. Pictures without are due when the buffer is over. Sound that has
//! the pictures' clock is placed likewise, with the same delay, so that both stay in step.

use std::collections::VecDeque;
use std::time::Duration;

use crate::media::AirTime;

/// The span of which the lowest delay is taken.
const WINDOW: Duration = Duration::from_secs(5);

/// Greatest change of the delay in a million parts of time: the drift of clocks, and no more than eyes notice.
const SLEW_PPM: i64 = 500;

/// In its first second the delay is what is measured.
const SETTLING: Duration = Duration::from_secs(1);

/// If a stamp is farther off than this, the clock of the source was set.
const JUMP: Duration = Duration::from_secs(2);

/// After so long with no picture on time, the way has become slower for good.
const SLOWER: Duration = Duration::from_secs(1);

/// Least distance of two pictures: that of 250 a second.
const LEAST_STEP: Duration = Duration::from_millis(4);

/// The place of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is due at this moment.
    Due(AirTime),
    /// It came later than its place, or too soon after another, and is left out.
    Missed,
}

/// Least time between the arrival of sound and its place: it is decoded and coded meanwhile, in blocks of 20 ms. With a shorter
/// buffer, sound is later than its picture by less than EBU R 37 allows (60 ms).
pub(super) const SOUND_BUFFER: Duration = Duration::from_millis(60);

/// The delay of a source's stamps: how much later than its stamp something comes, at least.
#[derive(Debug, Default)]
struct Delay {
    /// Arrival and delay of what had the lowest delay since, ascending in both.
    lowest: VecDeque<(AirTime, i64)>,
    /// The delay in nanoseconds that counts: it follows the lowest.
    current: i64,
    /// When the first came.
    began: Option<AirTime>,
    /// Arrival and stamp of the last.
    last: Option<(AirTime, AirTime)>,
}

impl Delay {
    /// Whether the source's clock was set since the last one that came.
    fn is_set(&self, arrival: AirTime, stamp: AirTime) -> bool {
        let way = arrival.signed_since(stamp);
        self.last.is_some_and(|(_, last)| {
            stamp <= last || (way - self.current).unsigned_abs() > JUMP.as_nanos() as u64
        })
    }

    /// Notes one that came, and returns the lowest delay.
    fn note(&mut self, arrival: AirTime, stamp: AirTime) -> i64 {
        let way = arrival.signed_since(stamp);
        self.began.get_or_insert(arrival);
        while self.lowest.back().is_some_and(|&(_, other)| other >= way) {
            self.lowest.pop_back();
        }
        self.lowest.push_back((arrival, way));
        while self.lowest.front().is_some_and(|&(at, _)| arrival.since(at) > WINDOW) {
            self.lowest.pop_front();
        }
        self.lowest().unwrap_or(way)
    }

    /// The lowest delay of the last seconds.
    fn lowest(&self) -> Option<i64> {
        self.lowest.front().map(|&(_, lowest)| lowest)
    }

    /// Follows `wanted`, as far as the time since the last one allows.
    fn follow(&mut self, arrival: AirTime, stamp: AirTime, wanted: i64) {
        let elapsed = self.last.map_or(Duration::ZERO, |(last, _)| arrival.since(last));
        self.last = Some((arrival, stamp));
        if self.began.is_none_or(|began| arrival.since(began) < SETTLING) {
            self.current = wanted;
        } else {
            let most = elapsed.as_nanos() as i64 / 1_000_000 * SLEW_PPM;
            self.current += (wanted - self.current).clamp(-most, most);
        }
    }
}

/// The places of a source's pictures and sound.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    pictures: Delay,
    sound: Delay,
    /// Whether the sound has the clock of the pictures. Then both have the delay of the one that is later.
    in_step: bool,
    /// The last place that was given to a picture.
    last_due: Option<AirTime>,
    /// Since when no picture was on time.
    late_since: Option<AirTime>,
}

impl Pacing {
    /// The place of a picture that arrived at `arrival` and has this stamp. Pictures are some `interval` apart.
    pub(super) fn place(
        &mut self,
        arrival: AirTime,
        stamp: Option<AirTime>,
        interval: Duration,
        buffer: Duration,
    ) -> Place {
        let stamped = stamp.is_some();
        let stamp = stamp.unwrap_or(arrival);
        if stamped && self.pictures.is_set(arrival, stamp) {
            self.begin_anew();
        }
        let lowest = self.pictures.note(arrival, stamp);
        let of_sound = self.sound.lowest().filter(|_| self.in_step);
        self.pictures.follow(arrival, stamp, of_sound.map_or(lowest, |of_sound| lowest.max(of_sound)));
        let placed = AirTime(stamp.0.saturating_add_signed(self.pictures.current)) + buffer;
        if placed < arrival {
            // A picture that is later than the buffer allows. If all are, they begin anew.
            let since = *self.late_since.get_or_insert(arrival);
            if arrival.since(since) > SLOWER {
                self.begin_anew();
                return self.place(arrival, Some(stamp).filter(|_| stamped), interval, buffer);
            }
            return Place::Missed;
        }
        self.late_since = None;
        // Pictures that were held up together are not shown together.
        let step = (interval / 2).max(LEAST_STEP);
        let due = self.last_due.map_or(placed, |last| placed.max(last + step));
        if due.since(placed) > buffer + interval {
            return Place::Missed;
        }
        self.last_due = Some(due);
        Place::Due(due)
    }

    /// The place of the beginning of a packet of sound that arrived at `arrival` and has this stamp. It may be past. `in_step` tells
    /// whether the stamp is on the clock of the pictures.
    pub(super) fn sound_place(
        &mut self,
        arrival: AirTime,
        stamp: AirTime,
        in_step: bool,
        buffer: Duration,
    ) -> AirTime {
        if self.in_step != in_step || self.sound.is_set(arrival, stamp) {
            self.sound = Delay::default();
            self.in_step = in_step;
            // Pictures may have to wait for the sound from now on.
            self.pictures.began = Some(arrival);
        }
        let lowest = self.sound.note(arrival, stamp);
        self.sound.follow(arrival, stamp, lowest);
        let delay =
            if in_step && self.pictures.last.is_some() { self.pictures.current } else { self.sound.current };
        AirTime(stamp.0.saturating_add_signed(delay)) + buffer.max(SOUND_BUFFER)
    }

    fn begin_anew(&mut self) {
        *self = Pacing { last_due: self.last_due, ..Pacing::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: AirTime = AirTime(1_790_000_000_000_000_000);
    const INTERVAL: Duration = Duration::from_millis(40);
    const BUFFER: Duration = Duration::from_millis(80);

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn due(place: Place) -> AirTime {
        match place {
            Place::Due(due) => due,
            Place::Missed => panic!("missed"),
        }
    }

    #[test]
    fn stamped_pictures_keep_their_distances_however_they_come() {
        let mut pacing = Pacing::default();
        let mut random = fastrand::Rng::with_seed(7);
        // The source's clock is an hour behind, and the way takes 3 to 60 ms.
        let dues: Vec<AirTime> = (0..10_000u32)
            .map(|n| {
                let taken = START + INTERVAL * n;
                let way = if n % 50 == 0 { 3 } else { random.u64(3..60) };
                let stamp = taken - Duration::from_secs(3600);
                due(pacing.place(taken + millis(way), Some(stamp), INTERVAL, BUFFER))
            })
            .collect();
        for pair in dues[50..].windows(2) {
            let step = pair[1].since(pair[0]);
            assert!(step.abs_diff(INTERVAL) <= Duration::from_micros(20), "{step:?}");
        }
        assert_eq!(dues[9999], START + INTERVAL * 9999 + millis(3) + BUFFER);
    }

    #[test]
    fn a_picture_later_than_its_place_is_left_out_alone() {
        let mut pacing = Pacing::default();
        for n in 0..500u32 {
            let taken = START + INTERVAL * n;
            let way = if n == 300 { 90 } else { 5 };
            let place = pacing.place(taken + millis(way), Some(taken), INTERVAL, BUFFER);
            let expected = if n == 300 { Place::Missed } else { Place::Due(taken + millis(85)) };
            assert_eq!(place, expected, "picture {n}");
        }
    }

    #[test]
    fn drift_is_followed_at_500_ppm_at_most() {
        for (ppm, follows) in [(300i64, true), (-300, true), (3000, false)] {
            let mut pacing = Pacing::default();
            let mut last: Option<AirTime> = None;
            let mut missed = 0;
            for n in 0..25 * 600u32 {
                let arrival = START + INTERVAL * n;
                let elapsed = (INTERVAL * n).as_nanos() as i64;
                let stamp = AirTime(START.0.saturating_add_signed(elapsed + elapsed * ppm / 1_000_000));
                match pacing.place(arrival, Some(stamp), INTERVAL, BUFFER) {
                    Place::Missed => missed += 1,
                    Place::Due(at) => {
                        assert!(last.is_none_or(|last| last < at));
                        // The lowest delay is up to a window old.
                        let held = at.signed_since(arrival) as f64 / 1e6;
                        assert!(!follows || (held - 80.0).abs() < 2.0, "held for {held} ms");
                        last = Some(at);
                    }
                }
            }
            assert!(!follows || missed == 0, "{missed} missed at {ppm} ppm");
            assert!(
                last.unwrap().since(START + Duration::from_secs(595)) > Duration::ZERO,
                "on air to the end"
            );
        }
    }

    #[test]
    fn a_way_that_becomes_slower_for_good_costs_a_second() {
        let mut pacing = Pacing::default();
        let mut missed = 0;
        for n in 0..500u32 {
            let taken = START + INTERVAL * n;
            let way = if n < 250 { 5 } else { 400 };
            missed +=
                u32::from(pacing.place(taken + millis(way), Some(taken), INTERVAL, BUFFER) == Place::Missed);
        }
        assert!((20..35).contains(&missed), "{missed} missed");
    }

    #[test]
    fn the_clock_of_the_source_may_be_set() {
        let mut pacing = Pacing::default();
        let mut last = AirTime(0);
        for n in 0..200u32 {
            let at = START + INTERVAL * n;
            let set = [0, 3600, 0][n as usize / 70];
            let place = due(pacing.place(at, Some(at + Duration::from_secs(set)), INTERVAL, BUFFER));
            assert_eq!(place, at + BUFFER);
            assert!(place > last);
            last = place;
        }
    }

    #[test]
    fn pictures_without_stamps_wait_for_the_buffer_and_are_spaced() {
        let mut pacing = Pacing::default();
        assert_eq!(due(pacing.place(START, None, INTERVAL, BUFFER)), START + millis(80));
        // Four that were held up for 160 ms come at once.
        let dues: Vec<Place> =
            (0..8).map(|_| pacing.place(START + millis(200), None, INTERVAL, BUFFER)).collect();
        let expected = [0, 20, 40, 60, 80, 100, 120].map(|more| Place::Due(START + millis(280 + more)));
        assert_eq!(dues[..7], expected);
        assert_eq!(dues[7], Place::Missed, "not more than the buffer and an interval behind");
        assert_eq!(due(pacing.place(START + millis(600), None, INTERVAL, BUFFER)), START + millis(680));
    }

    #[test]
    fn sound_in_step_has_the_delay_of_pictures_and_pictures_wait_for_it() {
        let mut pacing = Pacing::default();
        let mut random = fastrand::Rng::with_seed(9);
        let mut apart = Vec::new();
        for n in 0..2000u32 {
            let stamp = START + INTERVAL * n;
            // A packet of sound, of 64 ms, comes when it is over; a picture 3 ms after it was taken.
            let sound = pacing.sound_place(stamp + millis(64 + random.u64(..5)), stamp, true, BUFFER);
            let picture =
                due(pacing.place(stamp + millis(70 + random.u64(..3)), Some(stamp), INTERVAL, BUFFER));
            apart.push(sound.signed_since(picture).unsigned_abs());
        }
        assert!(apart[50..].iter().all(|apart| *apart < 1_000_000), "{apart:?}");
    }

    #[test]
    fn sound_on_a_clock_of_its_own_comes_out_when_it_came_in() {
        let mut pacing = Pacing::default();
        let hour = Duration::from_secs(3600);
        for n in 0..100u32 {
            let stamp = START + INTERVAL * n;
            let (arrival, own) = (stamp + millis(5), stamp + hour);
            assert_eq!(pacing.sound_place(arrival, own, false, BUFFER), arrival + BUFFER);
            assert_eq!(
                pacing.sound_place(arrival + millis(1), own + millis(1), false, millis(0)),
                arrival + millis(61)
            );
        }
    }
}
