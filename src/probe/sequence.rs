//! What the sequence numbers tell: losses, repetitions, reordering. In bounded memory.

use crate::wire::rtp::Unwrap;

/// A number further ahead than this is not believed until the next one follows on it: RFC 3550 appendix A.1,
/// MAX_DROPOUT.
const MAX_DROPOUT: u64 = 3000;

/// So many numbers behind the highest are remembered one by one. What comes from further back cannot
/// be told from a repetition any more (compare the replay window of RFC 3711 section 3.3.2).
const WINDOW: u64 = 1024;

/// What a packet's sequence number makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SequenceVerdict {
    /// New; its number, unwrapped. Packets in front of it may be missing.
    New(u64),
    /// New, though a packet with a higher number came before it.
    Reordered(u64),
    /// It has been here already.
    Duplicate,
    /// From before the window, or from before the first packet.
    TooOld,
    /// Far from the others; not believed yet.
    Stray,
    /// The numbers start over here.
    Restart(u64),
}

/// Follows one sender's numbers. 128 bytes of memory for the window, whatever comes.
#[derive(Debug, Clone)]
pub(super) struct Sequence {
    unwrap: Unwrap<16>,
    /// The first and the highest number of the run; `None` before the first packet.
    span: Option<(u64, u64)>,
    /// Which of the last `WINDOW` numbers came: number n at bit n modulo `WINDOW`.
    came: [u64; (WINDOW / 64) as usize],
    unique: u64,
    stray: Option<u16>,
    /// Losses of the runs before this one.
    lost_before: u64,
    reordered: u64,
    furthest: u64,
}

impl Default for Sequence {
    fn default() -> Sequence {
        Sequence {
            unwrap: Unwrap::default(),
            span: None,
            came: [0; (WINDOW / 64) as usize],
            unique: 0,
            stray: None,
            lost_before: 0,
            reordered: 0,
            furthest: 0,
        }
    }
}

impl Sequence {
    /// Judges the next number.
    pub(super) fn hear(&mut self, sequence: u16) -> SequenceVerdict {
        let before = self.unwrap.clone();
        let number = self.unwrap.unwrap(sequence.into());
        let Some((first, highest)) = self.span else { return SequenceVerdict::New(self.begin(number)) };
        if number > highest + MAX_DROPOUT || number + MAX_DROPOUT < first {
            let follows = self.stray.take() == Some(sequence.wrapping_sub(1));
            if follows && number > highest {
                // An outage: the same numbers, further on.
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
        // The unwrapping goes on from the highest: going back by half a range in small steps is no way.
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

    /// Whether packet `number` came, as far as the window knows.
    pub(super) fn has(&self, number: u64) -> bool {
        self.span.is_some_and(|(first, highest)| {
            number >= first && number <= highest && highest - number < WINDOW && self.bit(number)
        })
    }

    /// Packets that should have come and did not: those expected, less those that came (RFC 3550 appendix A.3).
    pub(super) fn lost(&self) -> u64 {
        self.lost_before + self.span.map_or(0, |(first, highest)| highest - first + 1 - self.unique)
    }

    /// Packets that came after one with a higher number.
    pub(super) fn reordered(&self) -> u64 {
        self.reordered
    }

    /// How many numbers the most belated of them was behind.
    pub(super) fn furthest(&self) -> u64 {
        self.furthest
    }

    /// Forgets the numbers, keeps the counts: another sender begins.
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
            self.came[word] &= !bit;
        }
        self.span = Some((first, number));
        self.mark(number);
        self.unique += 1;
    }

    fn mark(&mut self, number: u64) {
        let (word, bit) = place(number);
        self.came[word] |= bit;
    }

    fn bit(&self, number: u64) -> bool {
        let (word, bit) = place(number);
        self.came[word] & bit != 0
    }
}

fn place(number: u64) -> (usize, u64) {
    ((number % WINDOW / 64) as usize, 1 << (number % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(numbers: impl IntoIterator<Item = u16>) -> (Sequence, Vec<SequenceVerdict>) {
        let mut sequence = Sequence::default();
        let heard = numbers.into_iter().map(|number| sequence.hear(number)).collect();
        (sequence, heard)
    }

    #[test]
    fn losses_across_the_wrap_are_counted_and_a_belated_packet_is_no_loss() {
        let (sequence, heard) = run([65_533, 65_534, 1, 2, 65_535, 2, 4]);
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
        assert_eq!(heard, expected);
        assert_eq!((sequence.lost(), sequence.reordered(), sequence.furthest()), (2, 1, 3));
        assert!(!sequence.has(zero) && sequence.has(zero - 1) && !sequence.has(zero + 3));
    }

    #[test]
    fn one_wild_number_changes_nothing_and_two_in_a_row_are_an_outage_or_a_restart() {
        let (sequence, heard) = run([10, 11, 30_000, 12]);
        assert_eq!(heard[2..], [SequenceVerdict::Stray, SequenceVerdict::New(65_536 + 12)]);
        assert_eq!(sequence.lost(), 0);
        let (sequence, heard) = run([10, 11, 5011, 5012]);
        assert_eq!(heard[2..], [SequenceVerdict::Stray, SequenceVerdict::New(65_536 + 5012)]);
        assert_eq!(sequence.lost(), 5000);
        let (sequence, heard) = run([30_000, 30_001, 30_003, 7, 8, 9]);
        assert_eq!(
            heard[3..],
            [SequenceVerdict::Stray, SequenceVerdict::Restart(65_536 + 8), SequenceVerdict::New(65_536 + 9)]
        );
        assert_eq!(sequence.lost(), 1);
        let (sequence, heard) = run((0..2000).chain([900, 901, 902]));
        assert_eq!(
            heard[2000..],
            [
                SequenceVerdict::TooOld,
                SequenceVerdict::Restart(65_536 + 901),
                SequenceVerdict::New(65_536 + 902)
            ]
        );
        assert_eq!(sequence.lost(), 0);
    }

    #[test]
    fn the_window_forgets_what_a_long_gap_left_out() {
        let (sequence, heard) = run((0..1500).chain([4000, 3999, 2900]));
        assert_eq!(
            heard[1500..],
            [SequenceVerdict::New(69_536), SequenceVerdict::Reordered(69_535), SequenceVerdict::TooOld]
        );
        assert_eq!(sequence.lost(), 4001 - 1502);
    }

    proptest! {
        #[test]
        fn any_numbers_are_counted_without_overflow(numbers in proptest::collection::vec(any::<u16>(), 0..300)) {
            let (sequence, heard) = run(numbers);
            let new = heard.iter().filter(|h| matches!(h, SequenceVerdict::New(_) | SequenceVerdict::Reordered(_) | SequenceVerdict::Restart(_)));
            prop_assert!(sequence.lost() <= 65_536 * new.count() as u64);
        }
    }
}
