//! The clocks of a sender of pictures and sound: sender reports (RFC 3550 section 6.4.1) tell which timestamps of both belong to
//! one moment. Pure.

use crate::media::AirTime;

/// Clocks that differ by more than this are not those of one moment: some cameras report what they like.
const FARTHEST: i64 = 10_000_000_000;

/// A clock of a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// That of the timestamps of pictures.
    Pictures,
    /// That of the timestamps of sound.
    Sound,
}

/// The clocks of one sender. Each counts nanoseconds from the beginning of its track.
#[derive(Debug)]
pub(crate) struct SenderClocks {
    /// The moment that stamps are counted from.
    begin: AirTime,
    /// Of the last report of each: its wall clock (32.32 bits), and the track's clock.
    reports: [Option<(u64, i64)>; 2],
}

impl SenderClocks {
    /// Of a sender that begins about now.
    pub(crate) fn new(begin: AirTime) -> SenderClocks {
        SenderClocks { begin, reports: [None; 2] }
    }

    /// Notes a sender report: its NTP timestamp, and the time of that moment by the clock of its track.
    pub(crate) fn note(&mut self, clock: Clock, ntp: u64, elapsed: i64) {
        self.reports[clock as usize] = Some((ntp, elapsed));
    }

    /// The stamp of a picture.
    pub(crate) fn pictures(&self, elapsed: i64) -> AirTime {
        self.at(elapsed)
    }

    /// The stamp of a packet of sound, and whether it is on the clock of the pictures' stamps: then a picture with the same stamp
    /// belongs to it.
    pub(crate) fn sound(&self, elapsed: i64) -> (AirTime, bool) {
        match self.shift() {
            Some(shift) => (self.at(elapsed.saturating_add(shift)), true),
            None => (self.at(elapsed), false),
        }
    }

    /// How much later a moment is on the clock of the pictures than on that of the sound, if it is known.
    fn shift(&self) -> Option<i64> {
        let [Some((pictures_ntp, pictures)), Some((sound_ntp, sound))] = self.reports else { return None };
        let apart = sound_ntp.wrapping_sub(pictures_ntp).cast_signed();
        let apart = i64::try_from((i128::from(apart) * 1_000_000_000) >> 32).ok()?;
        // At its report's moment the sound's clock was at `sound`, and the pictures' at `pictures + apart`.
        let shift = pictures.checked_add(apart)?.checked_sub(sound)?;
        (shift.abs() <= FARTHEST).then_some(shift)
    }

    fn at(&self, elapsed: i64) -> AirTime {
        AirTime(self.begin.0.saturating_add_signed(elapsed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: AirTime = AirTime(1_790_000_000_000_000_000);
    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn reports_bring_sound_into_step() {
        let mut clocks = SenderClocks::new(BEGIN);
        assert_eq!(clocks.pictures(SECOND), AirTime(BEGIN.0 + 1_000_000_000));
        assert_eq!(clocks.sound(SECOND), (AirTime(BEGIN.0 + 1_000_000_000), false));
        // The sound began 0.25 s after the pictures, so its clock is behind by that; its report came half a second later.
        clocks.note(Clock::Pictures, 7 << 32, 2 * SECOND);
        assert!(!clocks.sound(SECOND).1);
        clocks.note(Clock::Sound, (7 << 32) + (1 << 31), 2 * SECOND + SECOND / 4);
        assert_eq!(clocks.sound(SECOND), (AirTime(BEGIN.0 + 1_250_000_000), true));
        // Across the end of the NTP era.
        clocks.note(Clock::Pictures, u64::MAX - (1 << 31) + 1, 2 * SECOND);
        clocks.note(Clock::Sound, 0, 2 * SECOND);
        assert_eq!(clocks.sound(0), (AirTime(BEGIN.0 + 500_000_000), true));
    }

    #[test]
    fn reports_of_another_time_are_not_believed() {
        let mut clocks = SenderClocks::new(BEGIN);
        clocks.note(Clock::Pictures, 0, 0);
        for ntp in [20 << 32, u64::MAX / 2, u64::MAX - (20 << 32)] {
            clocks.note(Clock::Sound, ntp, 0);
            assert_eq!(clocks.sound(SECOND), (AirTime(BEGIN.0 + 1_000_000_000), false), "{ntp}");
        }
        clocks.note(Clock::Sound, 1, i64::MIN);
        assert!(!clocks.sound(i64::MAX).1);
    }
}
