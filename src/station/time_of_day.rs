//! Which of a station's media is on at a time of day, by this machine's time zone.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::clock::AirClock;
use crate::lineup::StationSpec;
use crate::media::AirTime;

/// Media change at full minutes.
const MINUTE: u64 = 60_000_000_000;

/// The place in `at` of the media that is on now; `None` if it is the station's own.
pub(super) fn place(spec: &StationSpec, now: AirTime) -> Option<usize> {
    if spec.at.is_empty() {
        return None;
    }
    place_in(spec, now, TimeZone::system())
}

fn place_in(spec: &StationSpec, now: AirTime, zone: TimeZone) -> Option<usize> {
    let local = Timestamp::from_nanosecond(now.0.into()).ok()?.to_zoned(zone);
    let weekday = usize::from(local.weekday().to_monday_zero_offset().unsigned_abs());
    let minute = u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
    spec.at.iter().position(|timed| timed.is_on(weekday, minute))
}

/// Waits until other media than those of `shown` are on.
#[expect(clippy::disallowed_methods, reason = "a shell: a station knows the time of day")]
pub(super) async fn other_media(spec: &StationSpec, clock: &AirClock, shown: Option<usize>) {
    if spec.at.is_empty() {
        return std::future::pending().await;
    }
    loop {
        // Each minute anew, since the time zone may change meanwhile.
        let next = AirTime((clock.now().0 / MINUTE + 1) * MINUTE);
        tokio::time::sleep(clock.until(next).max(Duration::from_millis(1))).await;
        if place(spec, clock.now()) != shown {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineup::TimedMedia;

    #[test]
    fn the_media_of_a_moment_follow_the_time_zone() {
        // 26 October 2025, 16:59:59 UTC, a Sunday: 17:59:59 in Berlin, where summer time ended that morning.
        let before = AirTime(1_761_497_999_000_000_000);
        let mut spec = StationSpec::sample("239.1.1.1:5004");
        let sunday = [false, false, false, false, false, false, true];
        let timed = |from, to, days| TimedMedia { from, to, days, media: Vec::new().into() };
        spec.at = vec![timed(18 * 60, 19 * 60, sunday), timed(17 * 60, 20 * 60, [true; 7])];
        let berlin =
            || TimeZone::get("Europe/Berlin").unwrap_or_else(|_| TimeZone::fixed(jiff::tz::offset(1)));
        let second = Duration::from_secs(1);
        assert_eq!(place_in(&spec, before, berlin()), Some(1));
        assert_eq!(place_in(&spec, before + second, berlin()), Some(0));
        assert_eq!(place_in(&spec, before + 3601 * second, berlin()), Some(1));
        assert_eq!(place_in(&spec, before, TimeZone::UTC), None);
        assert_eq!(place_in(&spec, before + second, TimeZone::UTC), Some(1));
    }
}
