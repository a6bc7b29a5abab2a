//! The broadcast clock: the wall clock at start, carried on by the monotonic one.
//!
//! Due times are wall-clock times (they are the RTP timestamps), but a wall clock can be set. This one
//! begins where the system's is; from then on it advances with CLOCK_MONOTONIC, which NTP may steer by
//! some ppm but never sets. When the wall clock is set, this one follows by running 500 ppm faster or slower, so that no
//! interval between pictures on air changes by more than that. When it is ahead by more than a second, as after a night of
//! suspend, following would take months: then air time is set too, and stations go on as after standing still.

#![expect(clippy::disallowed_methods, reason = "this is the clock")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime};
use tracing::{info, warn};

use crate::media::AirTime;

/// The clock follows one that was set by 1 ns in so many: no interval changes by more than 500 ppm, the rate at which Linux's
/// adjtime slews. A receiver's jitter buffer follows that as it follows a cheap crystal.
const SLEW: u64 = 2001;

/// A wall clock that is ahead by more has us go with it at once: half an hour of slewing. Never back: what is ready for the air
/// would have to wait until its time comes again.
const FARTHEST: i64 = 1_000_000_000;

/// A wall clock within this of ours has not been set: the two are read one after the other.
const SAME: u64 = 1_000_000;

/// The two are read at one moment when no more lies between; they are read anew where the kernel preempted us, so often.
const ONE_MOMENT: u64 = 100_000;
const READINGS: usize = 10;

/// Following ends when the two are as near as this, so that it does not begin again at once.
const NEAR: u64 = SAME / 10;

/// Tells air time, and when a moment of it will be on the monotonic clock. Clones tell the same time.
#[derive(Debug, Clone)]
pub struct AirClock {
    /// Air time less monotonic time at the start, in nanoseconds.
    base: u64,
    /// A [`Slew`] since then, in one word, so that reading it takes no lock.
    slew: Arc<AtomicU64>,
    /// The clocks that are read.
    system: System,
}

/// The wall clock and the monotonic clock: the system's, or those of a simulation.
#[derive(Debug, Clone)]
enum System {
    Kernel,
    #[cfg(test)]
    Simulated(simulated::Clocks),
}

impl System {
    fn wall(&self) -> AirTime {
        match self {
            System::Kernel => wall_clock(),
            #[cfg(test)]
            System::Simulated(clocks) => clocks.wall(),
        }
    }

    /// Nanoseconds of the monotonic clock.
    fn monotonic(&self) -> u64 {
        match self {
            System::Kernel => monotonic_nanos(),
            #[cfg(test)]
            System::Simulated(clocks) => clocks.monotonic(),
        }
    }
}

/// By how much the clock has been slewed at a monotonic time: a straight line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slew {
    /// What the line is at the monotonic clock's zero, in nanoseconds; 62 bits are 73 years both ways.
    at_zero: i64,
    pace: Pace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// With the monotonic clock.
    Even,
    /// Faster, since the wall clock is ahead.
    Faster,
    /// Slower, since it is behind.
    Slower,
}

impl Slew {
    fn unpack(word: u64) -> Slew {
        let pace = match word & 3 {
            1 => Pace::Faster,
            2 => Pace::Slower,
            _ => Pace::Even,
        };
        Slew { at_zero: word.cast_signed() >> 2, pace }
    }

    fn pack(self) -> u64 {
        let pace = match self.pace {
            Pace::Even => 0,
            Pace::Faster => 1,
            Pace::Slower => 2,
        };
        (self.at_zero << 2).cast_unsigned() | pace
    }

    /// In nanoseconds.
    fn at(self, monotonic: u64) -> i64 {
        let gained = (monotonic / SLEW).cast_signed();
        match self.pace {
            Pace::Even => self.at_zero,
            Pace::Faster => self.at_zero + gained,
            Pace::Slower => self.at_zero - gained,
        }
    }

    /// The first monotonic time, give or take two nanoseconds, that with its slew makes `sum`.
    fn solve(self, sum: u64) -> u64 {
        let even = sum.wrapping_add_signed(-self.at_zero);
        let scaled = |by: u64| (u128::from(even) * u128::from(SLEW) / u128::from(by)) as u64 + 1;
        match self.pace {
            Pace::Even => even,
            Pace::Faster => scaled(SLEW + 1),
            Pace::Slower => scaled(SLEW - 1),
        }
    }

    /// The line from `monotonic` on, where air time is `ahead` nanoseconds behind the wall clock. It has no jump, unless that
    /// is [too far](FARTHEST).
    fn follow(self, monotonic: u64, ahead: i64) -> Slew {
        if ahead > FARTHEST {
            return Slew { at_zero: self.at(monotonic).saturating_add(ahead), pace: Pace::Even };
        }
        let tolerated = if self.pace == Pace::Even { SAME } else { NEAR };
        let pace = match ahead {
            _ if ahead.unsigned_abs() <= tolerated => Pace::Even,
            0.. => Pace::Faster,
            _ => Pace::Slower,
        };
        let through_zero = Slew { at_zero: 0, pace };
        Slew { at_zero: self.at(monotonic) - through_zero.at(monotonic), pace }
    }
}

/// What a look at the wall clock has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// The two agree to a millisecond, or nearer once it has been followed.
    Same,
    /// It is ahead by so many nanoseconds (negative: behind), and is followed.
    Set(i64),
    /// It was ahead by so many, and air time has jumped there.
    Jumped(i64),
}

impl AirClock {
    /// Sets the clock by the system's wall clock, once.
    pub fn start() -> AirClock {
        AirClock::start_by(System::Kernel)
    }

    fn start_by(system: System) -> AirClock {
        let (wall, monotonic) = read_both(|| system.wall(), || system.monotonic());
        AirClock { system, ..AirClock::set(wall, monotonic) }
    }

    fn set(wall: AirTime, monotonic: u64) -> AirClock {
        let base = wall.0.wrapping_sub(monotonic);
        AirClock { base, slew: Arc::new(AtomicU64::new(0)), system: System::Kernel }
    }

    /// Looks at the wall clock, and follows it from now on if it has been set.
    fn follow(&self) -> Found {
        let (wall, monotonic) = read_both(|| self.system.wall(), || self.system.monotonic());
        self.follow_to(wall, monotonic)
    }

    /// As [`follow`](Self::follow), by these readings of the clocks. Only one task may call it.
    fn follow_to(&self, wall: AirTime, monotonic: u64) -> Found {
        let ahead = wall.signed_since(self.at(monotonic));
        let slew = self.slew().follow(monotonic, ahead);
        self.slew.store(slew.pack(), Relaxed);
        match slew.pace {
            Pace::Even if ahead > FARTHEST => Found::Jumped(ahead),
            Pace::Even => Found::Same,
            Pace::Faster | Pace::Slower => Found::Set(ahead),
        }
    }

    fn slew(&self) -> Slew {
        Slew::unpack(self.slew.load(Relaxed))
    }

    /// What time it is on air at a time of the monotonic clock.
    fn at(&self, monotonic: u64) -> AirTime {
        AirTime(monotonic.wrapping_add(self.base).wrapping_add_signed(self.slew().at(monotonic)))
    }

    /// When a moment will be on the monotonic clock, if that goes on as it does.
    fn monotonic(&self, moment: AirTime) -> u64 {
        self.slew().solve(moment.0.wrapping_sub(self.base))
    }

    /// Follows the wall clock for as long as it is not dropped, and says in the log when that one has been set.
    pub async fn keep_following(self) {
        let mut told = false;
        loop {
            // While there is something to make up for, in time to end within NEAR.
            let span = if told { Duration::from_millis(100) } else { Duration::from_secs(4) };
            tokio::time::sleep(span).await;
            let found = self.follow();
            match found {
                Found::Set(ahead) if !told => {
                    let hours = ahead.unsigned_abs() as f64 * SLEW as f64 / 3.6e12;
                    warn!(
                        "the wall clock was set by {:+.3} s: air time follows it at 500 ppm, without a jump, in \
                         {hours:.1} hours; restart the broadcaster to jump at once",
                        ahead as f64 / 1e9
                    );
                }
                Found::Jumped(ahead) => warn!(
                    "the wall clock was set by {:+.3} s, or this machine slept: air time goes with it",
                    ahead as f64 / 1e9
                ),
                Found::Same if told => info!("air time is the wall clock's again"),
                Found::Set(_) | Found::Same => {}
            }
            told = matches!(found, Found::Set(_));
        }
    }

    /// What time it is on air.
    pub fn now(&self) -> AirTime {
        self.at(self.system.monotonic())
    }

    /// What time the wall clock tells, which may have been set.
    pub fn wall(&self) -> AirTime {
        self.system.wall()
    }

    /// Blocks the calling thread until `moment`: an absolute sleep, so that being interrupted or
    /// preempted on the way costs nothing. Returns at once when the moment is past.
    pub fn sleep_until(&self, moment: AirTime) {
        let nanos = self.monotonic(moment);
        let until =
            Timespec { tv_sec: (nanos / 1_000_000_000) as i64, tv_nsec: (nanos % 1_000_000_000) as i64 };
        // An interrupted sleep returns early; the caller looks at the clock again in any case.
        let _ = rustix::thread::clock_nanosleep_absolute(ClockId::Monotonic, &until);
    }

    /// How long from now until `moment`; zero when it is past.
    pub fn until(&self, moment: AirTime) -> Duration {
        moment.since(self.now())
    }
}

/// The system's wall clock, as the kernel stamps datagrams with it.
pub fn wall_clock() -> AirTime {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    AirTime(since_epoch.as_nanos() as u64)
}

fn monotonic_nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Both clocks, at one moment as nearly as can be had.
fn read_both(wall: impl Fn() -> AirTime, monotonic: impl Fn() -> u64) -> (AirTime, u64) {
    let read = || {
        let before = monotonic();
        let wall = wall();
        (monotonic() - before, wall, before)
    };
    let mut best = read();
    for _ in 1..READINGS {
        if best.0 <= ONE_MOMENT {
            break;
        }
        best = best.min(read());
    }
    let (between, wall, before) = best;
    (wall, before + between / 2)
}

/// Clocks of a simulation: the monotonic one is tokio's, which a test pauses and moves; the wall clock is as it was set.
#[cfg(test)]
pub(crate) mod simulated {
    use std::sync::atomic::AtomicI64;

    use tokio::time::Instant;

    use super::*;

    /// When simulations begin: in 2033, with some odd nanoseconds. Later than the files that a test writes say they were changed.
    const BEGIN: AirTime = AirTime(2_000_000_000_000_000_123);

    #[derive(Debug, Clone)]
    pub(crate) struct Clocks {
        origin: Instant,
        /// By how much the wall clock was set since the beginning, in nanoseconds.
        set_by: Arc<AtomicI64>,
    }

    impl Clocks {
        /// Clocks that begin now. Must be called in a tokio runtime.
        pub(crate) fn begin() -> Clocks {
            Clocks { origin: Instant::now(), set_by: Arc::default() }
        }

        /// Sets the wall clock forward by so many nanoseconds, or back.
        pub(crate) fn set_wall(&self, by: i64) {
            self.set_by.fetch_add(by, Relaxed);
        }

        /// Air time by these clocks.
        pub(crate) fn air(&self) -> AirClock {
            AirClock::start_by(System::Simulated(self.clone()))
        }

        pub(super) fn wall(&self) -> AirTime {
            let since = BEGIN + self.origin.elapsed();
            AirTime(since.0.wrapping_add_signed(self.set_by.load(Relaxed)))
        }

        pub(super) fn monotonic(&self) -> u64 {
            // A machine that has been up for an hour.
            3_600_000_000_000 + self.origin.elapsed().as_nanos() as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const WALL: AirTime = AirTime(1_790_000_000_000_000_123);
    const MONOTONIC: u64 = 345_678_901_234_567;
    const HOUR: i64 = 3_600_000_000_000;
    const INTERVAL: u64 = 40_000_000;

    /// Pictures at 25 a second for `seconds`, by a wall clock that is set by `step` after one second. `each` is given when
    /// each leaves on the monotonic clock. Returns how far air time is behind the wall clock in the end.
    fn air(step: i64, seconds: u64, mut each: impl FnMut(u64)) -> i64 {
        let clock = AirClock::set(WALL, MONOTONIC);
        let wall = |monotonic: u64| {
            let since = monotonic - MONOTONIC;
            AirTime((WALL.0 + since).wrapping_add_signed(if since > 1_000_000_000 { step } else { 0 }))
        };
        let mut look = MONOTONIC;
        for n in 0..seconds * 25 {
            let due = AirTime(WALL.0 + n * INTERVAL);
            // The task that follows looks in every 100 ms or every four seconds; the air thread sleeps again if it woke up early.
            while clock.monotonic(due) > look {
                let told = clock.follow_to(wall(look), look) != Found::Same;
                look += if told { 100_000_000 } else { 4_000_000_000 };
            }
            let at = clock.monotonic(due);
            assert!((0..=2).contains(&clock.at(at).signed_since(due)), "picture {n} leaves when it is due");
            each(at);
        }
        wall(look).signed_since(clock.at(look))
    }

    #[test]
    fn when_the_wall_clock_is_set_no_interval_changes_by_more_than_500_ppm() {
        for step in [FARTHEST, -HOUR, 2_000_000, -2_000_000, 0] {
            let (mut last, mut changed) = (None, 0u64);
            air(step, 120, |at| {
                if let Some(last) = last.replace(at) {
                    let by = (at - last).abs_diff(INTERVAL);
                    // Two nanoseconds of rounding at each end.
                    assert!(by <= INTERVAL / 2000 + 4, "{step}: an interval changes by {by} ns");
                    changed += u64::from(by > 4);
                }
            });
            let expected = match step.unsigned_abs() {
                0 => 0..1,
                2_000_000 => 80..120,
                _ => 2850..3000,
            };
            assert!(expected.contains(&changed), "{step}: {changed} intervals changed");
        }
    }

    #[test]
    fn a_clock_that_was_set_is_reached_and_then_left_alone() {
        for step in [50_000_000, -50_000_000, 1_100_000, -1_100_000] {
            let ahead = air(step, 120, |_| {});
            assert!(ahead.unsigned_abs() <= NEAR, "{ahead} ns ahead after {step}");
        }
        assert_eq!(air(900_000, 120, |_| {}), 900_000, "that is no step");
    }

    #[test]
    fn a_change_of_pace_is_no_jump_and_a_word_holds_it() {
        let mut slew = Slew { at_zero: 0, pace: Pace::Even };
        let mut monotonic = MONOTONIC;
        for ahead in [FARTHEST, -HOUR, FARTHEST, 50_000, -2_000_000, 0, FARTHEST, i64::MIN] {
            let before = slew.at(monotonic);
            slew = slew.follow(monotonic, ahead);
            assert_eq!(slew.at(monotonic), before);
            assert_eq!(Slew::unpack(slew.pack()), slew);
            monotonic += 3 * HOUR.unsigned_abs();
        }
    }

    #[test]
    fn clones_tell_the_same_time() {
        let clock = AirClock::start();
        let twin = clock.clone();
        clock.slew.store(Slew { at_zero: 5_000_000_000, pace: Pace::Even }.pack(), Relaxed);
        assert!(twin.now().signed_since(clock.now()).abs() < 1_000_000_000);
        assert!(matches!(clock.follow(), Found::Set(..-4_000_000_000)), "the wall clock is behind by 5 s");
        assert_eq!(twin.slew().pace, Pace::Slower);
    }

    #[test]
    fn a_clock_that_is_far_ahead_is_not_followed_for_months() {
        let clock = AirClock::set(WALL, MONOTONIC);
        let mut wall = WALL;
        // Twice, as a machine may sleep each night.
        for night in 1..=2 {
            let monotonic = MONOTONIC + night * 1_000_000_000;
            wall = wall + Duration::from_secs(8 * 3600);
            let Found::Jumped(ahead) = clock.follow_to(wall, monotonic) else { panic!("it jumps") };
            assert!(ahead > 7 * HOUR);
            assert_eq!(clock.at(monotonic), wall);
            assert_eq!(clock.follow_to(wall, monotonic), Found::Same);
        }
    }

    #[test]
    fn being_preempted_between_the_clocks_is_no_step() {
        let calls = Cell::new(0);
        // The first two times 4 ms pass after the first clock has been read.
        let monotonic = || {
            calls.set(calls.get() + 1);
            let preempted = calls.get().min(4) / 2;
            MONOTONIC + calls.get() * 30 + preempted * 4_000_000
        };
        let wall = || WALL + Duration::from_nanos(monotonic() - MONOTONIC);
        let (wall, monotonic) = read_both(wall, monotonic);
        assert!(wall.since(WALL).as_nanos().abs_diff(u128::from(monotonic - MONOTONIC)) < 100);
    }
}
