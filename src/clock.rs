//! The broadcast clock: the wall clock at start, carried on by the monotonic one.
//!
//! Due times are wall-clock times (they are the RTP timestamps), but a wall clock can be set. This one
//! is read from the system once; from then on it advances with CLOCK_MONOTONIC, which NTP may steer by
//! some ppm but never sets. A step of the wall clock therefore moves nothing that is on air.

#![expect(clippy::disallowed_methods, reason = "this is the clock")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::units::AirTime;

/// Tells air time, and when a moment of it will be on the monotonic clock. Copies tell the same time.
#[derive(Debug, Clone, Copy)]
pub struct AirClock {
    /// Air time less monotonic time, in nanoseconds.
    offset: u64,
}

impl AirClock {
    /// Sets the clock by the system's wall clock, once.
    pub fn start() -> AirClock {
        let wall = wall_clock();
        AirClock { offset: wall.0.wrapping_sub(monotonic_nanos()) }
    }

    /// What time it is on air.
    pub fn now(&self) -> AirTime {
        AirTime(monotonic_nanos().wrapping_add(self.offset))
    }

    /// Blocks the calling thread until `moment`: an absolute sleep, so that being interrupted or
    /// preempted on the way costs nothing. Returns at once when the moment is past.
    pub fn sleep_until(&self, moment: AirTime) {
        let nanos = moment.0.wrapping_sub(self.offset);
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
