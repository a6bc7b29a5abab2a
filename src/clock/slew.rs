//! How air time catches up with a wall clock that was set: the slew, as a function of monotonic time. Pure.

/// While air time is slewed, it gains or loses 1 ns in this many. So no interval changes by more than 500 ppm, the rate at which
/// Linux's adjtime slews, and which a receiver's jitter buffer tolerates as it does a cheap crystal.
pub(super) const SLEW: u64 = 2001;

/// Most nanoseconds by which air time is slewed forward, which takes half an hour. If the wall clock is ahead by more, air time
/// jumps. It never jumps back: units that are ready would have to wait until their due times come again.
pub(super) const MAX_SLEW: i64 = 1_000_000_000;

/// Difference in nanoseconds up to which the wall clock counts as not set, since the two clocks are read one after the other.
const TOLERANCE: u64 = 1_000_000;

/// Slewing ends at this difference in nanoseconds, well within [`TOLERANCE`], so that it does not begin again at once.
pub(super) const CONVERGED: u64 = TOLERANCE / 10;

/// The total slew as a linear function of monotonic time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slew {
    /// Its value at monotonic time 0, in nanoseconds. 62 bits are 73 years both ways.
    pub(super) at_zero: i64,
    pub(super) pace: Pace,
}

/// How fast air time advances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// As fast as the monotonic clock.
    Even,
    /// Faster, since the wall clock is ahead.
    Faster,
    /// Slower, since the wall clock is behind.
    Slower,
}

impl Slew {
    pub(super) fn unpack(word: u64) -> Slew {
        let pace = match word & 3 {
            1 => Pace::Faster,
            2 => Pace::Slower,
            _ => Pace::Even,
        };
        Slew { at_zero: word.cast_signed() >> 2, pace }
    }

    pub(super) fn pack(self) -> u64 {
        let pace = match self.pace {
            Pace::Even => 0,
            Pace::Faster => 1,
            Pace::Slower => 2,
        };
        (self.at_zero << 2).cast_unsigned() | pace
    }

    /// The slew at a monotonic time, in nanoseconds.
    pub(super) fn at(self, monotonic: u64) -> i64 {
        let gained = (monotonic / SLEW).cast_signed();
        match self.pace {
            Pace::Even => self.at_zero,
            Pace::Faster => self.at_zero + gained,
            Pace::Slower => self.at_zero - gained,
        }
    }

    /// The first monotonic time that makes `sum` together with its slew, to two nanoseconds.
    pub(super) fn solve(self, sum: u64) -> u64 {
        let even = sum.wrapping_add_signed(-self.at_zero);
        let scaled = |by: u64| (u128::from(even) * u128::from(SLEW) / u128::from(by)) as u64 + 1;
        match self.pace {
            Pace::Even => even,
            Pace::Faster => scaled(SLEW + 1),
            Pace::Slower => scaled(SLEW - 1),
        }
    }

    /// The function from `monotonic` on, if the wall clock is `ahead` nanoseconds ahead of air time. It is continuous, unless
    /// that is more than [`MAX_SLEW`].
    pub(super) fn follow(self, monotonic: u64, ahead: i64) -> Slew {
        if ahead > MAX_SLEW {
            return Slew { at_zero: self.at(monotonic).saturating_add(ahead), pace: Pace::Even };
        }
        let tolerated = if self.pace == Pace::Even { TOLERANCE } else { CONVERGED };
        let pace = match ahead {
            _ if ahead.unsigned_abs() <= tolerated => Pace::Even,
            0.. => Pace::Faster,
            _ => Pace::Slower,
        };
        let through_zero = Slew { at_zero: 0, pace };
        Slew { at_zero: self.at(monotonic) - through_zero.at(monotonic), pace }
    }
}
