//! The schedule: which film of a round is on at a time of day. Pure.
//!
//! Rounds follow each other without a gap since the Unix epoch, so that a broadcaster that is restarted, or another
//! one with the same films, airs what would have been on. For that the length of every film must be known: to the
//! nanosecond from its [reel](super::reel), or within some pictures from its container. A station that is on air goes on
//! without a jump. Its programme is later than the epoch demands by its *phase*, which follows from a moment at which a
//! round began; the broadcaster saves that.

use std::time::Duration;

use super::sequence::FilmSequence;
use crate::media::AirTime;

/// One round of films.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    round: FilmSequence,
    /// How much later than multiples of its length since the epoch a round begins.
    phase: Duration,
}

impl Schedule {
    /// A round of films of these lengths, which begins `phase` later than a multiple of its length since the epoch.
    /// `None` if there is no film, or if all lengths are 0.
    pub fn new(lengths: impl IntoIterator<Item = Duration>, phase: Duration) -> Option<Schedule> {
        FilmSequence::new(lengths).map(|round| Schedule { round, phase })
    }

    /// The phase of a schedule of these films whose round begins at `begin`.
    pub fn phase_of(&self, begin: AirTime) -> Duration {
        Duration::from_nanos(begin.0 % self.round.length().as_nanos() as u64)
    }

    /// The film that is on at `now`: its index in the round, and when it began.
    pub fn at(&self, now: AirTime) -> (usize, AirTime) {
        let now = now - self.phase;
        let length = self.round.length().as_nanos() as u64;
        let (film, offset) = self.round.at(Duration::from_nanos(now.0 % length));
        (film, now - offset + self.phase)
    }

    /// When the round that is on at `now` began.
    pub fn round_at(&self, now: AirTime) -> AirTime {
        let since = (now - self.phase).0 % self.round.length().as_nanos() as u64;
        now - Duration::from_nanos(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: AirTime = AirTime(1_790_000_000_123_456_789);

    fn schedule() -> Schedule {
        let lengths = [24_024_000_001, 10_000_000_000, 7_000_000_000].map(Duration::from_nanos);
        Schedule::new(lengths, Duration::from_millis(7)).unwrap()
    }

    #[test]
    fn every_moment_lies_in_the_film_that_is_on() {
        let lengths = [24_024_000_001u64, 10_000_000_000, 7_000_000_000];
        let schedule = schedule();
        let mut now = NOW;
        for _ in 0..100_000 {
            let (film, begin) = schedule.at(now);
            assert!(begin <= now && now.0 < begin.0 + lengths[film], "{now:?}: film {film} from {begin:?}");
            now = now + Duration::from_nanos(86_399_999_999);
        }
    }

    #[test]
    fn films_and_rounds_follow_without_a_gap_for_years() {
        let lengths = [24_024_000_001u64, 10_000_000_000, 7_000_000_000].map(Duration::from_nanos);
        let schedule = schedule();
        let (mut film, mut begin) = schedule.at(NOW);
        for _ in 0..1_000_000 {
            let end = begin + lengths[film];
            assert_eq!(schedule.at(AirTime(end.0 - 1)), (film, begin));
            (film, begin) = ((film + 1) % 3, end);
            assert_eq!(schedule.at(end), (film, begin));
        }
    }

    #[test]
    fn a_restart_finds_the_film_that_would_have_been_on() {
        let (film, begin) = schedule().at(NOW);
        let later = NOW + Duration::from_secs(3);
        assert_eq!(schedule().at(later), (film, begin), "the same film, from the same beginning");
        let other = Schedule::new([Duration::from_secs(60)], Duration::from_millis(9)).unwrap();
        assert_eq!(other.at(NOW).1.0 % 60_000_000_000, 9_000_000, "another phase");
    }

    #[test]
    fn the_phase_of_a_round_makes_it_begin_where_it_began() {
        let lengths = [24_024_000_001u64, 7_000_000_000].map(Duration::from_nanos);
        let plain = Schedule::new(lengths, Duration::ZERO).unwrap();
        let shifted = Schedule::new(lengths, plain.phase_of(NOW)).unwrap();
        assert_eq!(shifted.at(NOW), (0, NOW));
        assert_eq!(shifted.at(AirTime(NOW.0 - 1)).0, 1);
    }

    #[test]
    fn a_schedule_needs_a_film_with_a_length() {
        assert_eq!(Schedule::new([], Duration::ZERO), None);
        assert_eq!(Schedule::new([Duration::ZERO], Duration::ZERO), None);
    }
}
