//! Loss, duplication and reordering by RTP sequence numbers, in bounded memory.

use crate::wire::rtp::Unwrap;

/// A number further ahead than this is not believed until the next packet continues it: RFC 3550 appendix A.1,
/// MAX_DROPOUT.
const MAX_DROPOUT: u64 = 3000;

/// Number of sequence numbers behind the highest that are remembered one by one. A packet from further back cannot be
/// told from a duplicate (compare the replay window of RFC 3711 section 3.3.2).
const WINDOW: u64 = 1024;

/// Class of a packet by its sequence number. The numbers in it are unwrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SequenceVerdict {
    /// Higher than all before it. Packets before it may be missing.
    New(u64),
    /// Received for the first time, after a packet with a higher number.
    Reordered(u64),
    /// Received before.
    Duplicate,
    /// Older than the window or than the first packet.
    TooOld,
    /// Far from the other numbers; not believed yet.
    Stray,
    /// The numbers start over here.
    Restart(u64),
}

/// Tracks one sender's sequence numbers. The window takes 128 bytes.
#[derive(Debug, Clone)]
pub(super) struct Sequence {
    unwrap: Unwrap<16>,
    /// The first and the highest number of the run; `None` before the first packet.
    span: Option<(u64, u64)>,
    /// Which of the last `WINDOW` numbers were received: number n at bit n modulo `WINDOW`.
    received: [u64; (WINDOW / 64) as usize],
    /// Packets of this run, duplicates left out.
    unique: u64,
    stray: Option<u16>,
    /// Packets lost in earlier runs.
    lost_before: u64,
    reordered: u64,
    /// By how many numbers the latest reordered packet was late.
    furthest: u64,
}

impl Default for Sequence {
    fn default() -> Sequence {
        Sequence {
            unwrap: Unwrap::default(),
            span: None,
            received: [0; (WINDOW / 64) as usize],
            unique: 0,
            stray: None,
            lost_before: 0,
            reordered: 0,
            furthest: 0,
        }
    }
}

impl Sequence {
    /// Judges the sequence number of a packet that has just arrived.
    pub(super) fn judge(&mut self, sequence: u16) -> SequenceVerdict {
        let before = self.unwrap.clone();
        let number = self.unwrap.unwrap(sequence.into());
        let Some((first, highest)) = self.span else { return SequenceVerdict::New(self.begin(number)) };
        if number > highest + MAX_DROPOUT || number + MAX_DROPOUT < first {
            let follows = self.stray.take() == Some(sequence.wrapping_sub(1));
            if follows && number > highest {
                // An outage: the same sequence, further on.
                self.stray = None;
                self.advance(first, highest, number);
                return SequenceVerdict::New(number);
            }
            if follows {
                return SequenceVerdict::Restart(self.start_over(sequence));
            }
            self.unwrap = before;
            self.stray = Some(sequence);
            return SequenceVerdict::Stray;
        }
        if number > highest {
            self.stray = None;
            self.advance(first, highest, number);
            return SequenceVerdict::New(number);
        }
        // Unwrapping continues from the highest number; else small steps back could add up to half the range.
        self.unwrap = before;
        if number < first || highest - number >= WINDOW {
            let follows = self.stray.take() == Some(sequence.wrapping_sub(1));
            if follows && highest - number >= WINDOW {
                return SequenceVerdict::Restart(self.start_over(sequence));
            }
            self.stray = Some(sequence);
            return SequenceVerdict::TooOld;
        }
        if self.has(number) {
            return SequenceVerdict::Duplicate;
        }
        self.mark(number);
        self.unique += 1;
        self.reordered += 1;
        self.furthest = self.furthest.max(highest - number);
        SequenceVerdict::Reordered(number)
    }

    /// Whether packet `number` was received, as far as the window reaches.
    pub(super) fn has(&self, number: u64) -> bool {
        self.span.is_some_and(|(first, highest)| {
            number >= first && number <= highest && highest - number < WINDOW && self.bit(number)
        })
    }

    /// Packets lost: expected less received (RFC 3550 appendix A.3).
    pub(super) fn lost(&self) -> u64 {
        self.lost_before + self.span.map_or(0, |(first, highest)| highest - first + 1 - self.unique)
    }

    /// Packets that arrived after one with a higher number.
    pub(super) fn reordered(&self) -> u64 {
        self.reordered
    }

    /// By how many numbers the latest of these was behind.
    pub(super) fn furthest(&self) -> u64 {
        self.furthest
    }

    /// Begins a new run, of another sender; the counts go on.
    pub(super) fn start_over(&mut self, sequence: u16) -> u64 {
        *self = Sequence {
            lost_before: self.lost(),
            reordered: self.reordered,
            furthest: self.furthest,
            ..Sequence::default()
        };
        let number = self.unwrap.unwrap(sequence.into());
        self.begin(number)
    }

    fn begin(&mut self, number: u64) -> u64 {
        self.span = Some((number, number));
        self.unique = 1;
        self.mark(number);
        number
    }

    fn advance(&mut self, first: u64, highest: u64, number: u64) {
        for skipped in number.saturating_sub(WINDOW).max(highest + 1)..number {
            let (word, bit) = place(skipped);
            self.received[word] &= !bit;
        }
        self.span = Some((first, number));
        self.mark(number);
        self.unique += 1;
    }

    fn mark(&mut self, number: u64) {
        let (word, bit) = place(number);
        self.received[word] |= bit;
    }

    fn bit(&self, number: u64) -> bool {
        let (word, bit) = place(number);
        self.received[word] & bit != 0
    }
}

fn place(number: u64) -> (usize, u64) {
    ((number % WINDOW / 64) as usize, 1 << (number % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn judged(numbers: impl IntoIterator<Item = u16>) -> (Sequence, Vec<SequenceVerdict>) {
        let mut sequence = Sequence::default();
        let verdicts = numbers.into_iter().map(|number| sequence.judge(number)).collect();
        (sequence, verdicts)
    }

    #[test]
    fn losses_across_the_wrap_are_counted_and_a_reordered_packet_is_not_a_loss() {
        let (sequence, verdicts) = judged([65_533, 65_534, 1, 2, 65_535, 2, 4]);
        let zero = 2 * 65_536;
        let expected = [
            SequenceVerdict::New(zero - 3),
            SequenceVerdict::New(zero - 2),
            SequenceVerdict::New(zero + 1),
            SequenceVerdict::New(zero + 2),
            SequenceVerdict::Reordered(zero - 1),
            SequenceVerdict::Duplicate,
            SequenceVerdict::New(zero + 4),
        ];
        assert_eq!(verdicts, expected);
        assert_eq!((sequence.lost(), sequence.reordered(), sequence.furthest()), (2, 1, 3));
        assert!(!sequence.has(zero) && sequence.has(zero - 1) && !sequence.has(zero + 3));
    }

    #[test]
    fn one_stray_number_changes_nothing_and_two_consecutive_ones_are_an_outage_or_a_restart() {
        let (sequence, verdicts) = judged([10, 11, 30_000, 12]);
        assert_eq!(verdicts[2..], [SequenceVerdict::Stray, SequenceVerdict::New(65_536 + 12)]);
        assert_eq!(sequence.lost(), 0);
        let (sequence, verdicts) = judged([10, 11, 5011, 5012]);
        assert_eq!(verdicts[2..], [SequenceVerdict::Stray, SequenceVerdict::New(65_536 + 5012)]);
        assert_eq!(sequence.lost(), 5000);
        let (sequence, verdicts) = judged([30_000, 30_001, 30_003, 7, 8, 9]);
        assert_eq!(
            verdicts[3..],
            [SequenceVerdict::Stray, SequenceVerdict::Restart(65_536 + 8), SequenceVerdict::New(65_536 + 9)]
        );
        assert_eq!(sequence.lost(), 1);
        let (sequence, verdicts) = judged((0..2000).chain([900, 901, 902]));
        assert_eq!(
            verdicts[2000..],
            [
                SequenceVerdict::TooOld,
                SequenceVerdict::Restart(65_536 + 901),
                SequenceVerdict::New(65_536 + 902)
            ]
        );
        assert_eq!(sequence.lost(), 0);
    }

    #[test]
    fn numbers_that_a_long_gap_pushed_out_of_the_window_are_too_old() {
        let (sequence, verdicts) = judged((0..1500).chain([4000, 3999, 2900]));
        assert_eq!(
            verdicts[1500..],
            [SequenceVerdict::New(69_536), SequenceVerdict::Reordered(69_535), SequenceVerdict::TooOld]
        );
        assert_eq!(sequence.lost(), 4001 - 1502);
    }

    proptest! {
        #[test]
        fn any_numbers_are_counted_without_overflow(numbers in proptest::collection::vec(any::<u16>(), 0..300)) {
            let (sequence, verdicts) = judged(numbers);
            let new = verdicts.iter().filter(|h| matches!(h, SequenceVerdict::New(_) | SequenceVerdict::Reordered(_) | SequenceVerdict::Restart(_)));
            prop_assert!(sequence.lost() <= 65_536 * new.count() as u64);
        }
    }
}
