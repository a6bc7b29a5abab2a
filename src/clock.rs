//! The broadcast clock: the wall clock at start, advanced by the monotonic clock.
//!
//! Due times are wall-clock times, since they are the RTP timestamps, but the wall clock may be set. Air time starts as the wall
//! clock, and then advances with CLOCK_MONOTONIC, which NTP may steer by some ppm but never sets. If the wall clock is set, air
//! time runs 500 ppm faster or slower until it has caught up, so that no interval between pictures on air changes by more than
//! that. If the wall clock is ahead by more than a second, as after a night of suspend, that would take months: then air time
//! jumps, and stations go on as after a stall.
//!
//! Any room may import it. It imports `media`.

#![expect(clippy::disallowed_methods, reason = "this is the clock")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime};
use tracing::{info, warn};

use crate::media::AirTime;

/// While air time is slewed, it gains or loses 1 ns in this many. So no interval changes by more than 500 ppm, the rate at which
/// Linux's adjtime slews, and which a receiver's jitter buffer tolerates as it does a cheap crystal.
const SLEW: u64 = 2001;

/// Most nanoseconds by which air time is slewed forward, which takes half an hour. If the wall clock is ahead by more, air time
/// jumps. It never jumps back: units that are ready would have to wait until their due times come again.
const MAX_SLEW: i64 = 1_000_000_000;

/// Difference in nanoseconds up to which the wall clock counts as not set, since the two clocks are read one after the other.
const TOLERANCE: u64 = 1_000_000;

/// Slewing ends at this difference in nanoseconds, well within [`TOLERANCE`], so that it does not begin again at once.
const CONVERGED: u64 = TOLERANCE / 10;

/// Longest time in nanoseconds between readings of the two clocks that count as simultaneous. If the kernel preempted us between
/// them, they are read again.
const SIMULTANEOUS: u64 = 100_000;

/// Most attempts to read the two clocks simultaneously.
const READINGS: usize = 10;

/// Tells air time, and when a moment of air time comes on the monotonic clock. Clones tell the same time.
#[derive(Debug, Clone)]
pub struct AirClock {
    /// Air time minus monotonic time at the start, in nanoseconds.
    base: u64,
    /// The [`Slew`] since the start, packed into one word, so that reading it takes no lock.
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

/// The total slew as a linear function of monotonic time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slew {
    /// Its value at monotonic time 0, in nanoseconds. 62 bits are 73 years both ways.
    at_zero: i64,
    pace: Pace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// As fast as the monotonic clock.
    Even,
    /// Faster, since the wall clock is ahead.
    Faster,
    /// Slower, since the wall clock is behind.
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

    /// The slew at a monotonic time, in nanoseconds.
    fn at(self, monotonic: u64) -> i64 {
        let gained = (monotonic / SLEW).cast_signed();
        match self.pace {
            Pace::Even => self.at_zero,
            Pace::Faster => self.at_zero + gained,
            Pace::Slower => self.at_zero - gained,
        }
    }

    /// The first monotonic time that makes `sum` together with its slew, to two nanoseconds.
    fn solve(self, sum: u64) -> u64 {
        let even = sum.wrapping_add_signed(-self.at_zero);
        let scaled = |by: u64| (u128::from(even) * u128::from(SLEW) / u128::from(by)) as u64 + 1;
        match self.pace {
            Pace::Even => even,
            Pace::Faster => scaled(SLEW + 1),
            Pace::Slower => scaled(SLEW - 1),
        }
    }

    /// The function from `monotonic` on, if the wall clock is `ahead` nanoseconds ahead of air time. It is continuous, unless
    /// that is more than [`MAX_SLEW`].
    fn follow(self, monotonic: u64, ahead: i64) -> Slew {
        if ahead > MAX_SLEW {
            return Slew { at_zero: self.at(monotonic).saturating_add(ahead), pace: Pace::Even };
        }
        let tolerated = if self.pace == Pace::Even { TOLERANCE } else { CONVERGED };
        let pace = match ahead {
            _ if ahead.unsigned_abs() <= tolerated => Pace::Even,
            0.. => Pace::Faster,
            _ => Pace::Slower,
        };
        let through_zero = Slew { at_zero: 0, pace };
        Slew { at_zero: self.at(monotonic) - through_zero.at(monotonic), pace }
    }
}

/// What was done to air time after a comparison with the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Adjustment {
    /// Nothing: the clocks agree to [`TOLERANCE`], or after slewing to [`CONVERGED`].
    None,
    /// Air time is slewed: the wall clock is ahead by this many nanoseconds, or behind if negative.
    Slewing(i64),
    /// Air time has jumped: the wall clock was ahead by this many nanoseconds.
    Jumped(i64),
}

impl AirClock {
    /// A clock that starts as the system's wall clock.
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

    /// Compares air time with the wall clock, and adjusts air time if the wall clock was set.
    fn follow(&self) -> Adjustment {
        let (wall, monotonic) = read_both(|| self.system.wall(), || self.system.monotonic());
        self.follow_to(wall, monotonic)
    }

    /// As [`follow`](Self::follow), with given readings of the two clocks. Only one task may call it.
    fn follow_to(&self, wall: AirTime, monotonic: u64) -> Adjustment {
        let ahead = wall.signed_since(self.at(monotonic));
        let slew = self.slew().follow(monotonic, ahead);
        self.slew.store(slew.pack(), Relaxed);
        match slew.pace {
            Pace::Even if ahead > MAX_SLEW => Adjustment::Jumped(ahead),
            Pace::Even => Adjustment::None,
            Pace::Faster | Pace::Slower => Adjustment::Slewing(ahead),
        }
    }

    fn slew(&self) -> Slew {
        Slew::unpack(self.slew.load(Relaxed))
    }

    /// The air time at a time of the monotonic clock.
    fn at(&self, monotonic: u64) -> AirTime {
        AirTime(monotonic.wrapping_add(self.base).wrapping_add_signed(self.slew().at(monotonic)))
    }

    /// The monotonic time of a moment of air time, if air time goes on at its present pace.
    fn monotonic(&self, moment: AirTime) -> u64 {
        self.slew().solve(moment.0.wrapping_sub(self.base))
    }

    /// Follows the wall clock until the future is dropped, and logs when the wall clock was set. Only one task may run it.
    pub async fn keep_following(self) {
        let mut slewing = false;
        loop {
            // While slewing, often enough to end it within CONVERGED.
            let span = if slewing { Duration::from_millis(100) } else { Duration::from_secs(4) };
            tokio::time::sleep(span).await;
            let adjustment = self.follow();
            match adjustment {
                Adjustment::Slewing(ahead) if !slewing => {
                    let hours = ahead.unsigned_abs() as f64 * SLEW as f64 / 3.6e12;
                    warn!(
                        "the wall clock was set by {:+.3} s: air time follows it at 500 ppm, without a jump, in \
                         {hours:.1} hours; restart the broadcaster to jump at once",
                        ahead as f64 / 1e9
                    );
                }
                Adjustment::Jumped(ahead) => warn!(
                    "the wall clock was set by {:+.3} s, or this machine slept: air time goes with it",
                    ahead as f64 / 1e9
                ),
                Adjustment::None if slewing => info!("air time is the wall clock's again"),
                Adjustment::Slewing(_) | Adjustment::None => {}
            }
            slewing = matches!(adjustment, Adjustment::Slewing(_));
        }
    }

    /// The air time now.
    pub fn now(&self) -> AirTime {
        self.at(self.system.monotonic())
    }

    /// The wall clock's time now. It may jump.
    pub fn wall(&self) -> AirTime {
        self.system.wall()
    }

    /// Blocks the calling thread until `moment`; not at all if that is past. The sleep is absolute, so a preemption before it
    /// delays nothing.
    pub fn sleep_until(&self, moment: AirTime) {
        let nanos = self.monotonic(moment);
        let until =
            Timespec { tv_sec: (nanos / 1_000_000_000) as i64, tv_nsec: (nanos % 1_000_000_000) as i64 };
        // An interrupted sleep returns early. The caller reads the clock again in any case.
        let _ = rustix::thread::clock_nanosleep_absolute(ClockId::Monotonic, &until);
    }

    /// Time from now until `moment`; zero if that is past.
    pub fn until(&self, moment: AirTime) -> Duration {
        moment.since(self.now())
    }
}

/// The system's wall clock, by which the kernel also stamps datagrams.
pub fn wall_clock() -> AirTime {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    AirTime(since_epoch.as_nanos() as u64)
}

fn monotonic_nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Readings of both clocks, as close together as possible.
fn read_both(wall: impl Fn() -> AirTime, monotonic: impl Fn() -> u64) -> (AirTime, u64) {
    let read = || {
        let before = monotonic();
        let wall = wall();
        (monotonic() - before, wall, before)
    };
    let mut best = read();
    for _ in 1..READINGS {
        if best.0 <= SIMULTANEOUS {
            break;
        }
        best = best.min(read());
    }
    let (between, wall, before) = best;
    (wall, before + between / 2)
}

/// Clocks of a simulation: the monotonic clock is tokio's, which a test pauses; the wall clock can be set.
#[cfg(test)]
pub(crate) mod simulated {
    use std::sync::atomic::AtomicI64;

    use tokio::time::Instant;

    use super::*;

    /// Wall-clock time at which simulations begin: in 2033, with odd nanoseconds. Later than the modification times of the files
    /// that a test writes.
    const BEGIN: AirTime = AirTime(2_000_000_000_000_000_123);

    /// Both clocks of a simulation. Clones tell the same time.
    #[derive(Debug, Clone)]
    pub(crate) struct Clocks {
        origin: Instant,
        /// Nanoseconds by which the wall clock was set since the beginning.
        set_by: Arc<AtomicI64>,
    }

    impl Clocks {
        /// Clocks that begin now. Must be called in a tokio runtime.
        pub(crate) fn begin() -> Clocks {
            Clocks { origin: Instant::now(), set_by: Arc::default() }
        }

        /// Sets the wall clock forward by `by` nanoseconds, or back if negative.
        pub(crate) fn set_wall(&self, by: i64) {
            self.set_by.fetch_add(by, Relaxed);
        }

        /// An air clock that reads these clocks.
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

    /// Airs pictures at 25 a second for `seconds`, while the wall clock is set by `step` nanoseconds after one second. Calls
    /// `each` with the monotonic time at which each picture is sent. Returns how far air time is behind the wall clock at the
    /// end, in nanoseconds.
    fn air(step: i64, seconds: u64, mut each: impl FnMut(u64)) -> i64 {
        let clock = AirClock::set(WALL, MONOTONIC);
        let wall = |monotonic: u64| {
            let since = monotonic - MONOTONIC;
            AirTime((WALL.0 + since).wrapping_add_signed(if since > 1_000_000_000 { step } else { 0 }))
        };
        let mut look = MONOTONIC;
        for n in 0..seconds * 25 {
            let due = AirTime(WALL.0 + n * INTERVAL);
            // The task that follows the wall clock looks every 100 ms or every four seconds. The air thread sleeps again if it
            // woke up early.
            while clock.monotonic(due) > look {
                let slewing = clock.follow_to(wall(look), look) != Adjustment::None;
                look += if slewing { 100_000_000 } else { 4_000_000_000 };
            }
            let at = clock.monotonic(due);
            assert!((0..=2).contains(&clock.at(at).signed_since(due)), "picture {n} is sent when it is due");
            each(at);
        }
        wall(look).signed_since(clock.at(look))
    }

    #[test]
    fn no_interval_changes_by_more_than_500_ppm_when_the_wall_clock_is_set() {
        for step in [MAX_SLEW, -HOUR, 2_000_000, -2_000_000, 0] {
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
    fn slewing_reaches_the_wall_clock_and_ends() {
        for step in [50_000_000, -50_000_000, 1_100_000, -1_100_000] {
            let ahead = air(step, 120, |_| {});
            assert!(ahead.unsigned_abs() <= CONVERGED, "{ahead} ns ahead after {step}");
        }
        assert_eq!(air(900_000, 120, |_| {}), 900_000, "too small a step to follow");
    }

    #[test]
    fn a_change_of_pace_is_no_jump_and_fits_into_a_word() {
        let mut slew = Slew { at_zero: 0, pace: Pace::Even };
        let mut monotonic = MONOTONIC;
        for ahead in [MAX_SLEW, -HOUR, MAX_SLEW, 50_000, -2_000_000, 0, MAX_SLEW, i64::MIN] {
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
        assert!(
            matches!(clock.follow(), Adjustment::Slewing(..-4_000_000_000)),
            "the wall clock is behind by 5 s"
        );
        assert_eq!(twin.slew().pace, Pace::Slower);
    }

    #[test]
    fn air_time_jumps_to_a_wall_clock_that_is_far_ahead() {
        let clock = AirClock::set(WALL, MONOTONIC);
        let mut wall = WALL;
        // Twice: a machine may be suspended each night.
        for night in 1..=2 {
            let monotonic = MONOTONIC + night * 1_000_000_000;
            wall = wall + Duration::from_secs(8 * 3600);
            let Adjustment::Jumped(ahead) = clock.follow_to(wall, monotonic) else {
                panic!("air time jumps")
            };
            assert!(ahead > 7 * HOUR);
            assert_eq!(clock.at(monotonic), wall);
            assert_eq!(clock.follow_to(wall, monotonic), Adjustment::None);
        }
    }

    #[test]
    fn a_preemption_between_the_readings_is_not_taken_for_a_step() {
        let calls = Cell::new(0);
        // At the first two attempts, 4 ms pass after the first reading.
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
