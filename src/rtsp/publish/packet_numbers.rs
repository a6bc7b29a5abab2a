//! The sequence numbers and timestamps of a published track, without wraps. Pure.

use crate::wire::rtp::Unwrap;

/// The packets of a track, counted without wraps.
#[derive(Default)]
pub(super) struct PacketNumbers {
    ssrc: Option<u32>,
    sequence: Unwrap<16>,
    next: Option<u64>,
    timestamps: Unwrap<32>,
    /// The first timestamp, of a packet or of a report.
    first: Option<u64>,
}

impl PacketNumbers {
    /// Whether a packet of this SSRC belongs to the track, which is the case for the first SSRC that was seen.
    pub(super) fn is_of(&mut self, ssrc: u32) -> bool {
        *self.ssrc.get_or_insert(ssrc) == ssrc
    }

    /// Whether packets are missing before the one of this number; `None` if it came before.
    pub(super) fn lost_before(&mut self, sequence: u16) -> Option<bool> {
        let number = self.sequence.unwrap(sequence.into());
        let lost = match self.next {
            Some(next) if number < next => return None,
            Some(next) => number > next,
            None => false,
        };
        self.next = Some(number + 1);
        Some(lost)
    }

    /// Ticks since the first timestamp.
    pub(super) fn elapsed(&mut self, timestamp: u32) -> i64 {
        let timestamp = self.timestamps.unwrap(timestamp);
        let first = *self.first.get_or_insert(timestamp);
        timestamp.cast_signed().saturating_sub(first.cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_numbered_without_wraps() {
        let mut numbers = PacketNumbers::default();
        let lost: Vec<_> = [65_534, 65_535, 0, 2, 1, 2, 3]
            .into_iter()
            .map(|sequence| numbers.lost_before(sequence))
            .collect();
        assert_eq!(lost, [Some(false), Some(false), Some(false), Some(true), None, None, Some(false)]);
        let elapsed: Vec<_> =
            [u32::MAX, 0, 89_999, u32::MAX - 1].map(|timestamp| numbers.elapsed(timestamp)).into();
        assert_eq!(elapsed, [0, 1, 90_000, -1]);
        assert!(numbers.is_of(7) && !numbers.is_of(8) && numbers.is_of(7));
    }
}
