//! Arithmetic of the report: the histogram, the least transit, the interval of the units, drift.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::Serialize;

use super::arrivals::ReceivedUnit;

/// One bin of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// Lower bound, in microseconds; the upper bound is the next bin's lower one.
    pub from_us: f64,
    /// Number of values.
    pub count: u64,
}

/// A histogram with bins of equal width. The outermost 0.5 % at either end are left out, so that outliers do not
/// squeeze the rest.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Histogram {
    /// Width of a bin, in microseconds: 1, 2 or 5 times a power of ten.
    pub width_us: f64,
    /// Number of values below the first bin.
    pub below: u64,
    /// The bins in ascending order, empty ones included; at most 101.
    pub bins: Vec<Bin>,
    /// Number of values above the last bin.
    pub above: u64,
}

/// Approximate number of bins.
const BINS: f64 = 50.0;

impl Histogram {
    /// The histogram of values in nanoseconds.
    pub fn of_nanos(mut values: Vec<i64>) -> Histogram {
        values.sort_unstable();
        let at = |share: f64| values.get((share * values.len() as f64) as usize).copied();
        let (Some(low), Some(high)) = (at(0.005), at(0.995).or(values.last().copied())) else {
            return Histogram::default();
        };
        let width = nice((high as f64 - low as f64) / 1e3 / BINS).max(0.1);
        let start = (low as f64 / 1e3 / width).floor();
        let slot = |nanos: i64| (nanos as f64 / 1e3 / width).floor() - start;
        let last = slot(high).clamp(0.0, 100.0);
        let mut histogram = Histogram { width_us: width, ..Histogram::default() };
        histogram.bins =
            (0..=last as u32).map(|n| Bin { from_us: (start + f64::from(n)) * width, count: 0 }).collect();
        for nanos in values {
            match slot(nanos) {
                below if below < 0.0 => histogram.below += 1,
                above if above > last => histogram.above += 1,
                slot => histogram.bins[slot as usize].count += 1,
            }
        }
        histogram
    }
}

/// The smallest of 1, 2, 5 times a power of ten that is at least `value`.
fn nice(value: f64) -> f64 {
    if value <= 0.0 {
        return 0.0;
    }
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|step| step * power).find(|&step| step >= value).unwrap_or(10.0 * power)
}

/// The least transit of each segment, which stands for the offset of the clocks and the network's delay.
pub(super) fn least_transits<'a>(
    units: impl Iterator<Item = &'a ReceivedUnit>,
    clock: NonZeroU32,
) -> BTreeMap<u32, i64> {
    let mut least = BTreeMap::new();
    for unit in units {
        let transit = unit.transit(clock);
        least
            .entry(unit.origin.segment)
            .and_modify(|best: &mut i64| *best = transit.min(*best))
            .or_insert(transit);
    }
    least
}

/// The interval between units in ticks of the sender's clock: the mean of the steps within one per cent (or a tick) of
/// their median, so that 3753, 3754, 3754 and 3754 in turn make 3753.75. Timestamps are sorted first, since pictures
/// may be sent in another order than they are shown (B-frames).
pub(super) fn interval_ticks<'a>(units: impl Iterator<Item = &'a ReceivedUnit>) -> Option<f64> {
    let mut stamps: Vec<(u32, u64)> = units.map(|unit| (unit.origin.segment, unit.ticks)).collect();
    stamps.sort_unstable();
    let mut steps: Vec<u64> = stamps
        .windows(2)
        .filter(|pair| pair[0].0 == pair[1].0)
        .map(|pair| pair[1].1 - pair[0].1)
        .filter(|&step| step > 0)
        .collect();
    steps.sort_unstable();
    let median = *steps.get(steps.len() / 2)?;
    let near: Vec<u64> =
        steps.into_iter().filter(|step| step.abs_diff(median) <= (median / 100).max(1)).collect();
    Some(near.iter().map(|&step| step as f64).sum::<f64>() / near.len() as f64)
}

/// Rate of the sender's clock relative to ours.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Drift {
    /// How much faster the sender's clock runs, in parts per million; negative if it is slower. Covers both oscillators
    /// and whatever steers them.
    pub ppm: f64,
    /// Standard error of `ppm`, in parts per million.
    pub stderr_ppm: f64,
}

/// Number of spans of equal length into which the measurement is divided.
const SPANS: usize = 64;

/// Fewest spans with a unit from which drift is computed.
const FEWEST_SPANS: usize = 8;

/// Shortest measurement from which drift is computed, in seconds.
const SHORTEST: f64 = 1.0;

/// Drift from pairs of arrival and transit, in nanoseconds: least squares through the least transit of each span. Delay
/// only ever adds, so the lowest points show the clocks and the rest shows the network (Moon, Skelly and Towsley,
/// "Estimation and removal of clock skew from network delay measurements", INFOCOM 1999).
pub(super) fn drift(points: &[(i64, i64)]) -> Option<Drift> {
    let from = points.iter().map(|&(arrival, _)| arrival).min()?;
    let to = points.iter().map(|&(arrival, _)| arrival).max()?;
    let length = to as f64 - from as f64;
    if length < SHORTEST * 1e9 {
        return None;
    }
    let mut lowest = [None::<(i64, i64)>; SPANS];
    for &(arrival, transit) in points {
        let span = ((arrival as f64 - from as f64) / length * SPANS as f64) as usize;
        let held = &mut lowest[span.min(SPANS - 1)];
        if held.is_none_or(|(_, least)| transit < least) {
            *held = Some((arrival, transit));
        }
    }
    let lowest: Vec<(f64, f64)> = lowest
        .iter()
        .flatten()
        .map(|&(arrival, transit)| ((arrival as f64 - from as f64) / 1e9, transit as f64))
        .collect();
    if lowest.len() < FEWEST_SPANS {
        return None;
    }
    let n = lowest.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| lowest.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let sxx: f64 = lowest.iter().map(|point| (point.0 - x).powi(2)).sum();
    let sxy: f64 = lowest.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let slope = sxy / sxx;
    let rest: f64 = lowest.iter().map(|point| (point.1 - y - slope * (point.0 - x)).powi(2)).sum();
    // One nanosecond a second is 0.001 ppm. Transits from a fast sender shrink.
    Some(Drift { ppm: -slope / 1e3, stderr_ppm: (rest / (n - 2.0) / sxx).sqrt() / 1e3 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_every_value_once() {
        let mut values: Vec<i64> = (0..10_000).map(|n| 40_000_000 + (n % 100) * 1000).collect();
        values.extend([0, 900_000_000]);
        let h = Histogram::of_nanos(values);
        assert_eq!((h.width_us, h.below, h.above, h.bins.len()), (2.0, 1, 1, 50));
        assert!(h.bins.iter().all(|bin| bin.count == 200), "{:?}", h.bins);
        assert_eq!(h.bins[0].from_us, 40_000.0);
        let same = Histogram::of_nanos(vec![40_000_000; 5]);
        assert_eq!((same.bins.len(), same.bins[0].count, same.width_us), (1, 5, 0.1));
        assert_eq!(Histogram::of_nanos(vec![]), Histogram::default());
        Histogram::of_nanos(vec![i64::MIN, i64::MAX, 0]);
    }
}
