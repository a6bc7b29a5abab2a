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

mod slew;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime};
use tracing::{info, warn};

use crate::media::AirTime;
use slew::{MAX_SLEW, Pace, SLEW, Slew};

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

/// What was done to air time after a comparison with the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Adjustment {
    /// Nothing: the clocks agree to `slew::TOLERANCE`, or after slewing to `slew::CONVERGED`.
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
mod tests;
