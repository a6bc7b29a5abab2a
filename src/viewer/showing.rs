//! When pictures are shown, so that they are in step with the sound. Pure.
//!
//! As long as no sound is heard, a picture is shown when it arrives: a change of station is not slowed down by the sound. Once
//! sound is heard, which takes its time through jitter and the device's buffer, a picture waits for its own.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::headless::{MEASURED, SoundSummary};
use crate::media::AirTime;
use crate::speaker::{HeardAt, SoundStatus, Speaker};

/// Longest time that a picture waits. A device with a longer latency than this is out of step, and a wrong report of a device
/// does not stop the pictures.
const MOST: Duration = Duration::from_millis(500);

/// What decoding and painting take: a picture is let go by this much before its time.
const PAINTING: Duration = Duration::from_millis(4);

/// When a picture that is due at `due` and is here at `now` should be let go.
pub(super) fn show_at(heard: Option<HeardAt>, due: AirTime, now: AirTime) -> AirTime {
    match heard {
        Some(heard) => (heard.picture_at(due) - PAINTING).clamp(now, now + MOST),
        None => now,
    }
}

/// The pictures of a run without a screen, each "shown" at its time.
#[derive(Debug, Default)]
pub(super) struct Showing {
    /// Number, due time, and when it is to be shown.
    waiting: VecDeque<(u64, AirTime, AirTime)>,
    /// Number, and when it was shown; `None` if nobody wants to know.
    shown: Option<Vec<(u64, AirTime)>>,
    /// By how much the sound was late, in milliseconds, of the last pictures.
    offsets: VecDeque<f64>,
}

impl Showing {
    /// Of a run that is to [save](Self::save) the times, if `keeps_times`. Otherwise its memory is bounded.
    pub(super) fn new(keeps_times: bool) -> Showing {
        Showing { shown: keeps_times.then(Vec::new), ..Showing::default() }
    }

    /// Takes a picture that was due at `due` and arrived at `arrival`.
    pub(super) fn take(&mut self, speaker: Option<&Speaker>, number: u64, due: AirTime, arrival: AirTime) {
        let Some(speaker) = speaker else { return };
        let heard = speaker.status().heard;
        let due = heard.map_or(due, |heard| heard.due_of(due, arrival));
        // Without a screen nothing is painted.
        let at = heard.map_or(AirTime(0), |heard| heard.picture_at(due));
        self.waiting.push_back((number, due, at));
    }

    /// Time until a picture is to be shown.
    pub(super) fn next_in(&self, now: AirTime) -> Option<Duration> {
        self.waiting.front().map(|(.., at)| at.since(now))
    }

    /// Shows the pictures whose time has come.
    pub(super) fn show(&mut self, speaker: Option<&Speaker>, now: AirTime) {
        while let Some(&(number, due, at)) = self.waiting.front()
            && (at <= now || at.since(now) > MOST)
        {
            self.waiting.pop_front();
            let heard = speaker.and_then(|speaker| speaker.status().heard);
            if let Some(shown) = &mut self.shown {
                shown.push((number, now));
            }
            if let Some(heard) = heard {
                self.note(heard.offset_ms(due, now));
            }
        }
    }

    fn note(&mut self, offset: f64) {
        if self.offsets.len() == MEASURED {
            self.offsets.pop_front();
        }
        self.offsets.push_back(offset);
    }

    /// Saves when each picture was shown, in seconds from the first sample of the sound.
    pub(super) fn save(&self, path: &Path, began: AirTime) -> anyhow::Result<()> {
        let mut text = String::from("number,seconds\n");
        for (number, shown) in self.shown.iter().flatten() {
            text.push_str(&format!("{number},{:.6}\n", shown.signed_since(began) as f64 * 1e-9));
        }
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The summary of a run; `None` if no packet of sound came.
    pub(super) fn summary(&self, status: SoundStatus) -> Option<SoundSummary> {
        let counters = status.counters;
        // The first pictures were shown before any sound was heard.
        let mut steady: Vec<f64> = self.offsets.iter().skip(5).copied().collect();
        steady.sort_by(f64::total_cmp);
        let largest = steady.iter().map(|offset| offset.abs()).max_by(f64::total_cmp);
        (counters.packets > 0).then(|| SoundSummary {
            packets: counters.packets,
            lost: counters.lost,
            late: counters.late,
            concealed_ms: counters.concealed_ms,
            resyncs: counters.resyncs,
            stalls: counters.stalls,
            av_offset_ms: steady.get(steady.len() / 2).copied(),
            av_offset_max_ms: largest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUE: AirTime = AirTime(1_790_000_000_000_000_000);
    const MS: i64 = 1_000_000;

    #[test]
    fn a_picture_waits_for_its_sound_and_never_for_long() {
        let heard = |delay_ms| Some(HeardAt { transit: -5 * MS, delay: delay_ms * MS, early: 0 });
        let now = DUE - Duration::from_millis(3);
        assert_eq!(show_at(None, DUE, now), now);
        assert_eq!(show_at(heard(45), DUE, now), DUE + Duration::from_millis(36));
        assert_eq!(show_at(heard(1), DUE, now), now, "it is late already");
        assert_eq!(show_at(heard(9000), DUE, now), now + MOST);
    }

    #[test]
    fn a_run_of_weeks_keeps_no_more_than_a_run_of_hours() {
        let mut showing = Showing::new(false);
        for n in 0..MEASURED as u64 + 10 {
            showing.waiting.push_back((n, DUE, DUE));
            showing.show(None, DUE);
            showing.note(n as f64);
        }
        assert_eq!((showing.waiting.len(), showing.shown), (0, None));
        assert_eq!((showing.offsets.len(), showing.offsets[0]), (MEASURED, 10.0));
    }

    #[test]
    fn the_offset_is_positive_if_the_sound_is_late() {
        let heard = HeardAt { transit: -5 * MS, delay: 45 * MS, early: 2 * MS };
        assert_eq!(heard.offset_ms(DUE, DUE + Duration::from_millis(30)), 8.0);
        assert_eq!(heard.offset_ms(DUE, DUE + Duration::from_millis(40)), -2.0);
    }

    #[test]
    fn a_picture_of_another_clock_is_in_step_with_what_arrives_when_it_does() {
        let heard = HeardAt { transit: -5 * MS, delay: 45 * MS, early: 0 };
        let arrival = DUE + Duration::from_millis(700);
        assert_eq!(heard.due_of(DUE, arrival), DUE, "it is late");
        for due in [DUE - Duration::from_secs(20_000), DUE + Duration::from_secs(20_000)] {
            let due = heard.due_of(due, arrival);
            assert_eq!(heard.picture_at(due), arrival + Duration::from_millis(45));
        }
    }
}
