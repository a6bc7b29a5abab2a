//! How long packets take from their due time to their arrival, as the two clocks see it. Pure.

use std::time::Duration;

use crate::media::AirTime;

/// The minimum is that of this long to twice as long. At 100 ppm two clocks drift 0.4 ms in the meantime.
const WINDOW: Duration = Duration::from_secs(2);

/// The least transit of late, in nanoseconds: negative if this machine's clock is behind the sender's.
#[derive(Debug, Clone, Default)]
pub(super) struct Transit {
    /// The minimum of the window before this one, and of this one.
    least: [Option<i64>; 2],
    /// When this window began.
    began: AirTime,
}

impl Transit {
    /// Notes a packet that was due at `due` and arrived at `arrival`.
    pub(super) fn note(&mut self, due: AirTime, arrival: AirTime) {
        if self.least[1].is_none() {
            self.began = arrival;
        } else if arrival.since(self.began) >= WINDOW {
            self.least = [self.least[1], None];
            self.began = arrival;
        }
        let transit = arrival.signed_since(due);
        self.least[1] = Some(self.least[1].map_or(transit, |least| least.min(transit)));
    }

    /// The least transit; `None` before the first packet.
    pub(super) fn least(&self) -> Option<i64> {
        self.least.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_fastest_packet_of_the_last_seconds() {
        let mut transit = Transit::default();
        assert_eq!(transit.least(), None);
        let mut note = |second: u64, nanos: i64| {
            let due = AirTime(1_000_000_000_000 + second * 1_000_000_000);
            transit.note(due, AirTime((due.0 as i64 + nanos) as u64));
            transit.least().unwrap()
        };
        assert_eq!([note(0, -700), note(1, 900), note(2, 500), note(3, 600)], [-700, -700, -700, -700]);
        assert_eq!([note(5, 800), note(6, 850)], [500, 500], "the first two seconds are forgotten");
    }
}
