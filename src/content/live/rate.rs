//! How many pictures a second a live source sends, as they come. Pure.

use std::time::Duration;

use crate::media::{AirTime, FrameRate};

/// The first measurement is over after this number of intervals, or after [`FIRST_SPAN`].
const FIRST: u32 = 8;

/// The first measurement is over after this time, if it has an interval.
const FIRST_SPAN: Duration = Duration::from_secs(1);

/// Length of each later measurement.
const SPAN: Duration = Duration::from_secs(5);

/// A measured rate is another one if it differs by more than this share. Smaller differences are those of a busy network.
const DIFFERENCE: f64 = 0.25;

/// The rate before any is known.
const UNKNOWN: FrameRate = FrameRate::new(25, 1).unwrap();

/// The rate of a source.
#[derive(Debug, Default)]
pub(super) struct RateMeter {
    rate: Option<FrameRate>,
    /// The first picture of this measurement.
    from: Option<AirTime>,
    /// Pictures after it.
    pictures: u32,
}

impl RateMeter {
    /// A picture was taken at `arrival`, or has arrived then.
    pub(super) fn count(&mut self, arrival: AirTime) {
        let Some(from) = self.from.filter(|from| *from <= arrival) else {
            (self.from, self.pictures) = (Some(arrival), 0);
            return;
        };
        self.pictures += 1;
        let span = arrival.since(from);
        let is_over = match self.rate {
            None => self.pictures >= FIRST || span >= FIRST_SPAN,
            Some(_) => span >= SPAN,
        };
        if !is_over {
            return;
        }
        let measured = f64::from(self.pictures) / span.as_secs_f64().max(1e-3);
        // A whole number: what is measured is not exact.
        let whole = if measured >= 1.5 { measured.round() } else { measured };
        let is_other = |rate: FrameRate| (rate.as_f64() / measured - 1.0).abs() > DIFFERENCE;
        if self.rate.is_none_or(is_other) {
            self.rate = FrameRate::from_f64(whole.clamp(0.1, 250.0));
        }
        (self.from, self.pictures) = (Some(arrival), 0);
    }

    /// Whether the rate is known.
    pub(super) fn is_known(&self) -> bool {
        self.rate.is_some()
    }

    /// The rate, or a usual one if it is not known yet.
    pub(super) fn rate(&self) -> FrameRate {
        self.rate.unwrap_or(UNKNOWN)
    }

    /// The time between two pictures.
    pub(super) fn interval(&self) -> Duration {
        self.rate().interval()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rates after pictures at these distances, in milliseconds.
    fn rates(steps: impl IntoIterator<Item = u64>) -> Vec<String> {
        let mut meter = RateMeter::default();
        let mut at = AirTime(1_790_000_000_000_000_000);
        let mut rates = Vec::new();
        meter.count(at);
        for step in steps {
            at = at + Duration::from_millis(step);
            meter.count(at);
            let rate = meter.is_known().then(|| meter.rate().to_string());
            if rates.last() != rate.as_ref() {
                rates.extend(rate);
            }
        }
        rates
    }

    #[test]
    fn the_first_pictures_tell_the_rate_and_small_differences_are_none() {
        assert_eq!(rates([40; 7]), [""; 0]);
        assert_eq!(rates([40; 1000]), ["25"]);
        assert_eq!(rates([30, 50].repeat(500)), ["25"]);
        assert_eq!(rates([200; 100]), ["5"]);
        assert_eq!(rates([3000; 10]), ["0.333"]);
        assert_eq!(rates([0; 100]), ["250"]);
        // In between, one measurement has pictures of both.
        let changed = rates([[40; 200], [100; 200]].concat());
        assert_eq!((&changed[0][..], &changed[changed.len() - 1][..]), ("25", "10"), "{changed:?}");
        assert!(changed.len() <= 3, "{changed:?}");
    }
}
