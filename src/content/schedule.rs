//! What is on when: a round of films as a function of the time of day alone. Pure.
//!
//! Rounds follow each other without a gap since the Unix epoch, so a broadcaster that is started again, or
//! another one with the same films, airs what would have been on. That needs every film's length to the nanosecond, which
//! only a [reel](super::reel) knows. A station whose reels were made while it was on air goes on as it is, out of step
//! with the epoch by its *phase*, which is remembered.

use std::time::Duration;

use crate::media::AirTime;

/// One round of films.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// When each film begins, from the round's beginning.
    starts: Vec<Duration>,
    /// The round's length.
    length: Duration,
    /// How much later than the time of day says all of it is.
    phase: Duration,
}

impl Schedule {
    /// A round of films of these lengths, every due time `phase` later than the time of day says. `None` of no
    /// film, or only of films without length.
    pub fn new(lengths: impl IntoIterator<Item = Duration>, phase: Duration) -> Option<Schedule> {
        let mut length = Duration::ZERO;
        let mut starts = Vec::new();
        for film in lengths {
            starts.push(length);
            length += film;
        }
        (!length.is_zero()).then_some(Schedule { starts, length, phase })
    }

    /// The phase of a programme like this whose round begins at `begin`.
    pub fn phase_of(&self, begin: AirTime) -> Duration {
        Duration::from_nanos(begin.0 % self.length.as_nanos() as u64)
    }

    /// The film that is on at `now`, by its place in the round, and when it began.
    pub fn at(&self, now: AirTime) -> (usize, AirTime) {
        let now = now - self.phase;
        let length = self.length.as_nanos() as u64;
        let offset = Duration::from_nanos(now.0 % length);
        let film = self.starts.partition_point(|&start| start <= offset) - 1;
        (film, now - offset + self.starts[film] + self.phase)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: AirTime = AirTime(1_790_000_000_123_456_789);

    fn programme() -> Schedule {
        let lengths = [24_024_000_001, 10_000_000_000, 7_000_000_000].map(Duration::from_nanos);
        Schedule::new(lengths, Duration::from_millis(7)).unwrap()
    }

    #[test]
    fn every_moment_lies_in_the_film_that_is_on() {
        let lengths = [24_024_000_001u64, 10_000_000_000, 7_000_000_000];
        let programme = programme();
        let mut now = NOW;
        for _ in 0..100_000 {
            let (film, begin) = programme.at(now);
            assert!(begin <= now && now.0 < begin.0 + lengths[film], "{now:?}: film {film} from {begin:?}");
            now = now + Duration::from_nanos(86_399_999_999);
        }
    }

    #[test]
    fn films_and_rounds_follow_without_a_gap_for_years() {
        let lengths = [24_024_000_001u64, 10_000_000_000, 7_000_000_000].map(Duration::from_nanos);
        let programme = programme();
        let (mut film, mut begin) = programme.at(NOW);
        for _ in 0..1_000_000 {
            let end = begin + lengths[film];
            assert_eq!(programme.at(AirTime(end.0 - 1)), (film, begin));
            (film, begin) = ((film + 1) % 3, end);
            assert_eq!(programme.at(end), (film, begin));
        }
    }

    #[test]
    fn who_comes_back_finds_what_would_have_been_on() {
        let (film, begin) = programme().at(NOW);
        let later = NOW + Duration::from_secs(3);
        assert_eq!(programme().at(later), (film, begin), "the same film, from the same beginning");
        let other = Schedule::new([Duration::from_secs(60)], Duration::from_millis(9)).unwrap();
        assert_eq!(other.at(NOW).1.0 % 60_000_000_000, 9_000_000, "its phase is its own");
    }

    #[test]
    fn a_phase_is_found_again() {
        let lengths = [24_024_000_001u64, 7_000_000_000].map(Duration::from_nanos);
        let plain = Schedule::new(lengths, Duration::ZERO).unwrap();
        let shifted = Schedule::new(lengths, plain.phase_of(NOW)).unwrap();
        assert_eq!(shifted.at(NOW), (0, NOW));
        assert_eq!(shifted.at(AirTime(NOW.0 - 1)).0, 1);
    }

    #[test]
    fn nothing_is_no_programme() {
        assert_eq!(Schedule::new([], Duration::ZERO), None);
        assert_eq!(Schedule::new([Duration::ZERO], Duration::ZERO), None);
    }
}
