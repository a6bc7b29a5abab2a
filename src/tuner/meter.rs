//! The meter: how evenly pictures come. Pure.
//!
//! Each picture has two times: the sender's (its RTP timestamp) and ours (the kernel's stamp on its first
//! packet). Their difference is a constant, the clocks' distance and the way, plus whatever held that picture
//! up. The smallest difference seen stands for the constant; the rest is the picture's *pacing*.

use std::collections::VecDeque;

use super::ReceivedPicture;
use super::distribution::Distribution;
use crate::media::{AirTime, RTP_CLOCK};

/// Nanoseconds in a microsecond.
const US: f64 = 1e3;

/// What the meter has to say.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MeterReading {
    /// Pictures measured, of those still kept.
    pub pictures: usize,
    /// Pictures a second that came, 0 of fewer than two.
    pub rate: f64,
    /// How long after the best picture each came, by the sender's time line.
    pub pacing: Distribution,
    /// From one picture's first packet to the next one's.
    pub interval: Distribution,
}

/// Measures the last pictures, as many as it was made for.
#[derive(Debug, Clone)]
pub struct Meter {
    capacity: usize,
    samples: VecDeque<TransitSample>,
    /// The time lines that the samples are of, oldest first. A sender that starts over begins another: its timestamps
    /// have nothing to do with those before.
    lines: VecDeque<SenderRun>,
}

#[derive(Debug, Clone, Copy)]
struct SenderRun {
    restarts: u64,
    /// Its first picture's time and arrival.
    origin: (u64, AirTime),
    /// How many of the samples are of it.
    samples: usize,
}

#[derive(Debug, Clone, Copy)]
struct TransitSample {
    arrival: AirTime,
    /// Arrival less the sender's time, from that of its line's first picture, in nanoseconds.
    transit: i64,
}

impl Meter {
    /// A meter that keeps `capacity` pictures, 16 bytes each; older ones are forgotten.
    pub fn new(capacity: usize) -> Meter {
        Meter { capacity: capacity.max(2), samples: VecDeque::new(), lines: VecDeque::new() }
    }

    /// Measures a picture that came after so many [restarts](super::TunerCounters::restarts) of its sender.
    pub fn record(&mut self, picture: &ReceivedPicture, restarts: u64) {
        let (ticks, arrival) = match self.lines.back_mut().filter(|line| line.restarts == restarts) {
            Some(line) => {
                line.samples += 1;
                line.origin
            }
            None => {
                let origin = (picture.ticks, picture.first_arrival);
                self.lines.push_back(SenderRun { restarts, origin, samples: 1 });
                origin
            }
        };
        let sent = (picture.ticks as i128 - ticks as i128) * 1_000_000_000 / i128::from(RTP_CLOCK);
        let came = i128::from(picture.first_arrival.signed_since(arrival));
        if self.samples.len() == self.capacity {
            self.samples.pop_front();
            if let Some(oldest) = self.lines.front_mut() {
                oldest.samples -= 1;
                if oldest.samples == 0 {
                    self.lines.pop_front();
                }
            }
        }
        self.samples
            .push_back(TransitSample { arrival: picture.first_arrival, transit: (came - sent) as i64 });
    }

    /// What the pictures so far amount to.
    pub fn read(&self) -> MeterReading {
        let mut pacing = Vec::with_capacity(self.samples.len());
        let mut begins = 0;
        for line in &self.lines {
            let of_line = self.samples.range(begins..begins + line.samples).map(|sample| sample.transit);
            let best = of_line.clone().min().unwrap_or(0);
            pacing.extend(of_line.map(|transit| transit - best));
            begins += line.samples;
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
    fn pacing_is_what_comes_on_top_of_the_best() {
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
    fn it_forgets_the_oldest() {
        let mut meter = Meter::new(4);
        for n in 0..1000u64 {
            let late = if n == 0 { 0 } else { 7_000_000 };
            meter.record(&picture(n * 3600, AirTime(1_000_000_000 + n * 40_000_000 + late)), 0);
        }
        assert_eq!(meter.read().pictures, 4);
        assert_eq!(meter.read().pacing.max, 0.0);
    }

    #[test]
    fn a_sender_that_starts_over_is_measured_by_its_own_time() {
        let mut meter = Meter::new(60);
        for n in 0..100u64 {
            // After the first one's timestamps have wrapped, the second's are placed anew, a whole range below.
            let (restarts, ticks) =
                if n < 70 { (0, (2 << 32) + n * 3600) } else { (1, (1 << 32) + n * 3600) };
            let late = if n == 80 { 3_000_000 } else { 10_000 * (n % 2) };
            meter.record(&picture(ticks, AirTime(5_000_000_000 + n * 40_000_000 + late)), restarts);
        }
        let reading = meter.read();
        assert_eq!(reading.pictures, 60);
        let Distribution { p50, p99, max, .. } = reading.pacing;
        assert_eq!((p50, p99, max), (10.0, 3000.0, 3000.0));
        // The first one is forgotten, and its time line with it.
        for n in 100..170u64 {
            meter.record(&picture((1 << 32) + n * 3600, AirTime(5_000_000_000 + n * 40_000_000)), 1);
        }
        assert_eq!((meter.lines.len(), meter.read().pacing.max), (1, 0.0));
    }

    #[test]
    fn nothing_is_no_division_by_zero() {
        assert_eq!(Meter::new(0).read(), MeterReading::default());
    }
}
