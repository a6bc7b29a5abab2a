//! The broadcast clock: the wall clock at start, carried on by the monotonic one.
//!
//! Due times are wall-clock times (they are the RTP timestamps), but a wall clock can be set. This one
//! is read from the system once; from then on it advances with CLOCK_MONOTONIC, which NTP may steer by
//! some ppm but never sets. When the wall clock is set, this one follows at 500 ppm, so that no picture on
//! air moves by more than a few microseconds against the one before.

#![expect(clippy::disallowed_methods, reason = "this is the clock")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime};
use tracing::{info, warn};

use crate::units::AirTime;

/// How fast the clock follows a wall clock that was set: 500 ppm, the rate at which Linux's adjtime slews. A
/// receiver's jitter buffer follows that as it follows a cheap crystal.
const SLEW: u64 = 500; // nanoseconds a millisecond

/// A wall clock within this of ours has not been set: the two are read one after the other, and the kernel may
/// preempt us in between.
const SAME: u64 = 1_000_000;

/// Tells air time, and when a moment of it will be on the monotonic clock. Clones tell the same time.
#[derive(Debug, Clone)]
pub struct AirClock {
    /// Air time less monotonic time, in nanoseconds.
    offset: Arc<AtomicU64>,
}

impl AirClock {
    /// Sets the clock by the system's wall clock, once.
    pub fn start() -> AirClock {
        let wall = wall_clock();
        AirClock { offset: Arc::new(AtomicU64::new(wall.0.wrapping_sub(monotonic_nanos()))) }
    }

    /// Follows the wall clock by what 500 ppm allow for the `span` since the last call. Returns how
    /// far the wall clock is ahead (negative: behind) in nanoseconds; zero while the two agree to a millisecond.
    /// Only one task may call it.
    pub fn follow(&self, span: Duration) -> i64 {
        let ahead = wall_clock().signed_since(self.now());
        let step = slew(ahead, span);
        self.offset.fetch_add(step as u64, Relaxed); // two's complement: a negative step takes away
        if step == 0 { 0 } else { ahead }
    }

    /// Follows the wall clock for as long as it is not dropped, and says in the log when that one has been set.
    pub async fn keep_following(self) {
        let mut told = false;
        loop {
            // While there is something to make up for, by steps that no receiver notices.
            let span = if told { Duration::from_millis(100) } else { Duration::from_secs(1) };
            tokio::time::sleep(span).await;
            let ahead = self.follow(span) as f64 / 1e9;
            if ahead != 0.0 && !told {
                warn!(
                    "the wall clock was set by {ahead:+.3} s: air time follows it at 500 ppm, without a jump"
                );
            } else if ahead == 0.0 && told {
                info!("air time is the wall clock's again");
            }
            told = ahead != 0.0;
        }
    }

    /// What time it is on air.
    pub fn now(&self) -> AirTime {
        AirTime(monotonic_nanos().wrapping_add(self.offset.load(Relaxed)))
    }

    /// Blocks the calling thread until `moment`: an absolute sleep, so that being interrupted or
    /// preempted on the way costs nothing. Returns at once when the moment is past.
    pub fn sleep_until(&self, moment: AirTime) {
        let nanos = moment.0.wrapping_sub(self.offset.load(Relaxed));
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

/// By how much to move a clock that is `ahead` nanoseconds behind the wall clock's.
fn slew(ahead: i64, span: Duration) -> i64 {
    if ahead.unsigned_abs() <= SAME {
        return 0;
    }
    let most = span.as_millis() as u64 * SLEW;
    let step = ahead.unsigned_abs().min(most) as i64;
    step * ahead.signum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_followed_slowly_both_ways() {
        let second = Duration::from_secs(1);
        for (ahead, step) in [
            (0, 0),
            (1_000_000, 0),
            (-1_000_000, 0),
            (3_600_000_000_000, 500_000),
            (-3_600_000_000_000, -500_000),
            (i64::MIN, -500_000),
        ] {
            assert_eq!(slew(ahead, second), step, "{ahead} ns ahead");
        }
        let mut ahead = 20_000_000;
        let mut steps = 0;
        while slew(ahead, second) != 0 {
            ahead -= slew(ahead, second);
            steps += 1;
        }
        assert_eq!((ahead, steps), (1_000_000, 38), "within a millisecond after 38 s");
    }

    #[test]
    fn clones_tell_the_same_time() {
        let clock = AirClock::start();
        let twin = clock.clone();
        clock.offset.fetch_add(5_000_000_000, Relaxed);
        assert!(twin.now().signed_since(clock.now()).abs() < 1_000_000_000);
        assert!(clock.follow(Duration::from_secs(1)) < -4_000_000_000, "the wall clock is behind by 5 s");
    }
}
