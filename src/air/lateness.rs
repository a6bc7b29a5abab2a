//! A histogram of how late pictures are sent. The air thread writes it, and any thread may read it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::add;

/// Upper bounds of the buckets, in microseconds. One more bucket counts what is above the last. Two or three bounds a decade,
/// from the wake-up latency of an idle machine (10 us) to the interval of a picture.
pub const BOUNDS: [u64; 14] = [5, 10, 20, 35, 50, 75, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000];

/// A histogram of lateness. Single writer, no lock. Recording a lateness of up to 75 us writes to the first 64 bytes only.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Lateness {
    /// Sum over all pictures, in nanoseconds. Overflows after 584 years of lateness.
    sum: AtomicU64,
    /// Worst lateness since it was last taken, in nanoseconds.
    worst: AtomicU64,
    buckets: [AtomicU64; BOUNDS.len() + 1],
}

impl Lateness {
    /// Counts a picture that was late by `late`.
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

    /// An upper bound of the lateness that `share` of the pictures, 0..=1, did not exceed: the bound of its bucket. `None` if
    /// there are no pictures, or if it is above the last bound.
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

    /// Number of pictures in each bucket: those of [`BOUNDS`], then the one above.
    pub fn counts(&self) -> [u64; BOUNDS.len() + 1] {
        self.buckets.each_ref().map(|bucket| bucket.load(Relaxed))
    }

    /// Sum of the lateness of all pictures.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum.load(Relaxed))
    }

    /// The worst lateness since the last call.
    pub(crate) fn take_worst(&self) -> Duration {
        Duration::from_nanos(self.worst.swap(0, Relaxed))
    }

    /// Adds the buckets of `other`.
    pub(crate) fn add_buckets_of(&self, other: &Lateness) {
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
    fn a_lateness_equal_to_a_bound_counts_below_it() {
        let lateness = Lateness::default();
        lateness.record(Duration::from_micros(10));
        assert_eq!(lateness.quantile(1.0), Some(Duration::from_micros(10)));
        lateness.record(Duration::from_nanos(10_001));
        assert_eq!(lateness.quantile(1.0), Some(Duration::from_micros(20)));
    }
}
