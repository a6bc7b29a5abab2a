//! How late pictures leave: a histogram that the air thread fills and anybody may read.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::add;

/// The upper bounds of the buckets, in microseconds; one more bucket takes what is above. Two or three to a decade,
/// from a quiet machine's wake-up (10 us) to the interval of a picture.
pub const BOUNDS: [u64; 14] = [5, 10, 20, 35, 50, 75, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000];

/// A histogram of lateness. One thread counts, and takes no lock. What that writes for a picture that is late by no more than
/// 75 us is in the first 64 bytes.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Lateness {
    /// Of all pictures, in nanoseconds. Overflows after 584 years of lateness.
    sum: AtomicU64,
    /// In nanoseconds, since it was last taken.
    worst: AtomicU64,
    buckets: [AtomicU64; BOUNDS.len() + 1],
}

impl Lateness {
    /// Counts a picture that was `late` by so much.
    pub(crate) fn record(&self, late: Duration) {
        let nanos = late.as_nanos() as u64;
        let micros = nanos.div_ceil(1000);
        let bucket = BOUNDS.partition_point(|&bound| bound < micros);
        add(&self.buckets[bucket], 1);
        add(&self.sum, nanos);
        if nanos > self.worst.load(Relaxed) {
            self.worst.fetch_max(nanos, Relaxed);
        }
    }

    /// The lateness that `share` of the pictures did not exceed, by the bound of its bucket; `None` of no picture, or
    /// if it is above the last bound.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let counts = self.counts();
        let wanted = (counts.iter().sum::<u64>() as f64 * share).ceil() as u64;
        let mut below = 0;
        let reached = counts.iter().position(|count| {
            below += count;
            wanted > 0 && below >= wanted
        });
        reached.and_then(|bucket| BOUNDS.get(bucket)).map(|&micros| Duration::from_micros(micros))
    }

    /// How many pictures fell into each bucket: those of [`BOUNDS`], and the one above.
    pub fn counts(&self) -> [u64; BOUNDS.len() + 1] {
        self.buckets.each_ref().map(|bucket| bucket.load(Relaxed))
    }

    /// The lateness of all pictures together.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum.load(Relaxed))
    }

    /// The worst since this was last asked.
    pub(crate) fn take_worst(&self) -> Duration {
        Duration::from_nanos(self.worst.swap(0, Relaxed))
    }
}

impl Lateness {
    /// Counts all that `other` has counted, in buckets.
    pub(crate) fn count_in(&self, other: &Lateness) {
        for (bucket, more) in self.buckets.iter().zip(&other.buckets) {
            add(bucket, more.load(Relaxed));
        }
    }
}

/// `p50 under 20 us, p99 under 75 us`.
impl fmt::Display for Lateness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = |share| match self.quantile(share) {
            Some(bound) => format!("under {} us", bound.as_micros()),
            None => "unknown".into(),
        };
        write!(f, "p50 {}, p99 {}", bound(0.5), bound(0.99))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_the_bounds_of_their_buckets() {
        let lateness = Lateness::default();
        assert_eq!(lateness.quantile(0.5), None);
        for micros in 1..=100 {
            lateness.record(Duration::from_micros(micros));
        }
        let quantile = |share| lateness.quantile(share).map(|bound| bound.as_micros());
        assert_eq!(
            [quantile(0.05), quantile(0.06), quantile(0.5), quantile(1.0)],
            [Some(5), Some(10), Some(50), Some(100)]
        );
        assert_eq!(lateness.to_string(), "p50 under 50 us, p99 under 100 us");
        lateness.record(Duration::from_secs(3600));
        assert_eq!(quantile(1.0), None);
        assert_eq!(lateness.take_worst(), Duration::from_secs(3600));
        assert_eq!(lateness.take_worst(), Duration::ZERO);
    }

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let lateness = Lateness::default();
        lateness.record(Duration::from_micros(10));
        assert_eq!(lateness.quantile(1.0), Some(Duration::from_micros(10)));
        lateness.record(Duration::from_nanos(10_001));
        assert_eq!(lateness.quantile(1.0), Some(Duration::from_micros(20)));
    }
}
