//! The meter: how evenly pictures arrive. Pure.
//!
//! Each picture has two times: the sender's (its RTP timestamp) and ours (the kernel's stamp on its first packet).
//! Their difference is a constant (the offset of the clocks and the transit) plus whatever delayed this picture. The
//! smallest difference seen stands for the constant; the rest is the picture's *pacing*.

use std::collections::VecDeque;

use super::ReceivedPicture;
use super::distribution::Distribution;
use crate::media::{AirTime, RTP_CLOCK};

/// Nanoseconds in a microsecond.
const US: f64 = 1e3;

/// The measurements of a [`Meter`].
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MeterReading {
    /// Number of pictures that the other fields cover.
    pub pictures: usize,
    /// Pictures a second; 0 of fewer than two.
    pub rate: f64,
    /// How much later than the fastest picture each arrived, by the sender's timestamps, in microseconds.
    pub pacing: Distribution,
    /// Time from one picture's first packet to the next one's, in microseconds.
    pub interval: Distribution,
}

/// Measures a bounded number of pictures, the last ones.
#[derive(Debug, Clone)]
pub struct Meter {
    capacity: usize,
    samples: VecDeque<TransitSample>,
    /// The runs that the samples belong to, oldest first. A sender that starts over begins a new run: its timestamps
    /// are unrelated to the earlier ones.
    runs: VecDeque<SenderRun>,
}

#[derive(Debug, Clone, Copy)]
struct SenderRun {
    /// The tuner's count of restarts during this run.
    restarts: u64,
    /// Unwrapped timestamp and arrival of the first picture.
    origin: (u64, AirTime),
    /// Number of samples kept of this run.
    samples: usize,
}

#[derive(Debug, Clone, Copy)]
struct TransitSample {
    arrival: AirTime,
    /// Arrival less the sender's time, both counted from the first picture of the run, in nanoseconds.
    transit: i64,
}

impl Meter {
    /// A meter of the last `capacity` pictures, at least two, of 16 bytes each.
    pub fn new(capacity: usize) -> Meter {
        Meter { capacity: capacity.max(2), samples: VecDeque::new(), runs: VecDeque::new() }
    }

    /// Measures a picture. `restarts` is the tuner's [count](super::TunerCounters::restarts) when it arrived.
    pub fn record(&mut self, picture: &ReceivedPicture, restarts: u64) {
        let (ticks, arrival) = match self.runs.back_mut().filter(|run| run.restarts == restarts) {
            Some(run) => {
                run.samples += 1;
                run.origin
            }
            None => {
                let origin = (picture.ticks, picture.first_arrival);
                self.runs.push_back(SenderRun { restarts, origin, samples: 1 });
                origin
            }
        };
        let sent = (picture.ticks as i128 - ticks as i128) * 1_000_000_000 / i128::from(RTP_CLOCK);
        let came = i128::from(picture.first_arrival.signed_since(arrival));
        if self.samples.len() == self.capacity {
            self.samples.pop_front();
            if let Some(oldest) = self.runs.front_mut() {
                oldest.samples -= 1;
                if oldest.samples == 0 {
                    self.runs.pop_front();
                }
            }
        }
        self.samples
            .push_back(TransitSample { arrival: picture.first_arrival, transit: (came - sent) as i64 });
    }

    /// The measurements of the pictures kept. Sorts copies of them: of a million this takes tens of milliseconds.
    pub fn read(&self) -> MeterReading {
        let mut pacing = Vec::with_capacity(self.samples.len());
        let mut begins = 0;
        for run in &self.runs {
            let transits = self.samples.range(begins..begins + run.samples).map(|sample| sample.transit);
            let best = transits.clone().min().unwrap_or(0);
            pacing.extend(transits.map(|transit| transit - best));
            begins += run.samples;
        }
        let pairs = self.samples.iter().zip(self.samples.iter().skip(1));
        let intervals: Vec<i64> = pairs.map(|(a, b)| b.arrival.signed_since(a.arrival)).collect();
        let span: i64 = intervals.iter().sum();
        MeterReading {
            pictures: self.samples.len(),
            rate: if span > 0 { intervals.len() as f64 * 1e9 / span as f64 } else { 0.0 },
            pacing: Distribution::of(pacing, US).unwrap_or_default(),
            interval: Distribution::of(intervals, US).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuner::tests::picture;

    #[test]
    fn pacing_is_the_delay_beyond_the_fastest_picture() {
        let mut meter = Meter::new(100);
        for n in 0..10u64 {
            let late = if n == 4 { 3_000_000 } else { 10_000 * (n % 2) };
            meter.record(&picture(90_000 + n * 3600, AirTime(5_000_000_000 + n * 40_000_000 + late)), 0);
        }
        let reading = meter.read();
        assert_eq!(reading.pictures, 10);
        let Distribution { p50, p99, max, .. } = reading.pacing;
        assert_eq!((p50, p99, max), (10.0, 3000.0, 3000.0));
        assert_eq!(reading.interval.max, 42_990.0);
        assert!((reading.rate - 25.0).abs() < 0.01, "{}", reading.rate);
    }

    #[test]
    fn the_oldest_picture_is_forgotten() {
        let mut meter = Meter::new(4);
        for n in 0..1000u64 {
            let late = if n == 0 { 0 } else { 7_000_000 };
            meter.record(&picture(n * 3600, AirTime(1_000_000_000 + n * 40_000_000 + late)), 0);
        }
        assert_eq!(meter.read().pictures, 4);
        assert_eq!(meter.read().pacing.max, 0.0);
    }

    #[test]
    fn a_sender_that_starts_over_is_measured_by_its_new_timestamps() {
        let mut meter = Meter::new(60);
        for n in 0..100u64 {
            // The first run's timestamps have wrapped; the second run's are unwrapped anew, a whole range below.
            let (restarts, ticks) =
                if n < 70 { (0, (2 << 32) + n * 3600) } else { (1, (1 << 32) + n * 3600) };
            let late = if n == 80 { 3_000_000 } else { 10_000 * (n % 2) };
            meter.record(&picture(ticks, AirTime(5_000_000_000 + n * 40_000_000 + late)), restarts);
        }
        let reading = meter.read();
        assert_eq!(reading.pictures, 60);
        let Distribution { p50, p99, max, .. } = reading.pacing;
        assert_eq!((p50, p99, max), (10.0, 3000.0, 3000.0));
        // No picture of the first run is kept, so the run is forgotten too.
        for n in 100..170u64 {
            meter.record(&picture((1 << 32) + n * 3600, AirTime(5_000_000_000 + n * 40_000_000)), 1);
        }
        assert_eq!((meter.runs.len(), meter.read().pacing.max), (1, 0.0));
    }

    #[test]
    fn a_meter_without_pictures_does_not_divide_by_zero() {
        assert_eq!(Meter::new(0).read(), MeterReading::default());
    }
}
