//! Exact percentiles of measured values: those of the meter, the probe and a series of zaps. Pure.

use serde::Serialize;

/// A distribution, in the unit that the field or JSON key holding it names. Percentiles are exact, by the
/// nearest-rank method: `p99` is the smallest value that at least 99 % of the values do not exceed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Distribution {
    /// Number of values.
    pub count: usize,
    /// Smallest value.
    pub min: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile; of fewer than 1000 values, the largest.
    pub p999: f64,
    /// Largest value.
    pub max: f64,
}

impl Distribution {
    /// The distribution of `values`, each divided by `unit` (nanoseconds by 1e3 are microseconds); `None` if there
    /// are none.
    pub fn of(mut values: Vec<i64>, unit: f64) -> Option<Distribution> {
        values.sort_unstable();
        let (first, last) = (*values.first()?, *values.last()?);
        let total: i128 = values.iter().map(|&value| i128::from(value)).sum();
        // Per mille, in integers: 0.999 x 1000 is not 999 in floating point.
        let at = |mille: usize| values[(values.len() * mille).div_ceil(1000).max(1) - 1] as f64 / unit;
        Some(Distribution {
            count: values.len(),
            min: first as f64 / unit,
            mean: total as f64 / values.len() as f64 / unit,
            p50: at(500),
            p90: at(900),
            p99: at(990),
            p999: at(999),
            max: last as f64 / unit,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let d = Distribution::of((1..=1000).rev().collect(), 1.0).unwrap();
        assert_eq!((d.count, d.min, d.mean), (1000, 1.0, 500.5));
        assert_eq!((d.p50, d.p90, d.p99, d.p999, d.max), (500.0, 900.0, 990.0, 999.0, 1000.0));
        let one = Distribution::of(vec![7000], 1000.0).unwrap();
        assert_eq!((one.min, one.mean, one.p50, one.p999, one.max), (7.0, 7.0, 7.0, 7.0, 7.0));
        assert_eq!(Distribution::of(vec![], 1.0), None);
    }
}
