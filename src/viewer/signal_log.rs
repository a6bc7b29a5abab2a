//! What a run without a window has seen of its station: its pictures, its slate, and silence. Pure: moments are times since the
//! run began.

use std::time::Duration;

use serde::Serialize;

use crate::directory::State;

/// A station without a picture for this long is lost. A slate has sent ten by then.
pub(super) const LOST_AFTER: Duration = Duration::from_secs(2);

/// What comes from a station.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Signal {
    /// Pictures, as far as is known of its programme.
    Live,
    /// Pictures of its slate.
    Slate,
    /// Nothing, for two seconds at least.
    Lost,
}

/// A station as it is at a moment, and its times of silence and of slate until then.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SignalSummary {
    /// What comes from it.
    pub(super) state: Signal,
    /// All pauses of more than two seconds, the one at the end included, in seconds.
    pub(super) silent_s: f64,
    /// The pause at the end, in seconds; 0 unless it is lost.
    pub(super) lost_s: f64,
    /// How long pictures of its slate came, in seconds.
    pub(super) slate_s: f64,
    /// The reason that its last slate gave.
    pub(super) slate: Option<String>,
}

/// Follows a station through a run.
#[derive(Debug, Default)]
pub(super) struct SignalLog {
    /// When its last picture came; at first, when the run began.
    last_picture: Duration,
    /// Pauses that are over.
    silent: Duration,
    /// Since when it shows a slate.
    slate_since: Option<Duration>,
    /// Slates that are over.
    slates: Duration,
    reason: Option<String>,
}

impl SignalLog {
    /// Notes a picture.
    pub(super) fn picture(&mut self, now: Duration) {
        let pause = now.saturating_sub(self.last_picture);
        if pause > LOST_AFTER {
            self.silent += pause;
            // Nothing is known of a slate that nobody could see.
            self.slates +=
                self.slate_since.map_or(Duration::ZERO, |since| self.last_picture.saturating_sub(since));
            self.slate_since = self.slate_since.map(|_| now);
        }
        self.last_picture = now;
    }

    /// Notes what the directory says of it.
    pub(super) fn station(&mut self, now: Duration, state: &State) {
        match state {
            State::Slate { reason } => {
                self.slate_since.get_or_insert(now);
                if self.reason.as_ref() != Some(reason) {
                    self.reason = Some(reason.clone());
                }
            }
            State::Starting | State::Film => {
                if let Some(since) = self.slate_since.take() {
                    self.slates += self.seen_until(now).saturating_sub(since);
                }
            }
        }
    }

    /// The end of what was seen until `now`: `now` itself unless the station is lost.
    fn seen_until(&self, now: Duration) -> Duration {
        if now.saturating_sub(self.last_picture) > LOST_AFTER { self.last_picture } else { now }
    }

    /// The station at `now`.
    pub(super) fn summary(&self, now: Duration) -> SignalSummary {
        let pause = now.saturating_sub(self.last_picture);
        let lost = if pause > LOST_AFTER { pause } else { Duration::ZERO };
        let slate =
            self.slate_since.map_or(Duration::ZERO, |since| self.seen_until(now).saturating_sub(since));
        SignalSummary {
            state: match (lost.is_zero(), self.slate_since) {
                (false, _) => Signal::Lost,
                (true, Some(_)) => Signal::Slate,
                (true, None) => Signal::Live,
            },
            silent_s: (self.silent + lost).as_secs_f64(),
            lost_s: lost.as_secs_f64(),
            slate_s: (self.slates + slate).as_secs_f64(),
            slate: self.reason.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn pictures(log: &mut SignalLog, from_ms: u64, to_ms: u64) {
        (from_ms..=to_ms).step_by(40).for_each(|at| log.picture(ms(at)));
    }

    #[test]
    fn silence_is_the_pauses_within_the_run_and_at_its_end() {
        let mut log = SignalLog::default();
        pictures(&mut log, 100, 1100);
        assert_eq!(
            log.summary(ms(3100)),
            SignalSummary { state: Signal::Live, silent_s: 0.0, lost_s: 0.0, slate_s: 0.0, slate: None }
        );
        let lost = log.summary(ms(3101));
        assert_eq!((lost.state, lost.silent_s, lost.lost_s), (Signal::Lost, 2.001, 2.001));
        pictures(&mut log, 6600, 7000);
        let back = log.summary(ms(7100));
        assert_eq!((back.state, back.silent_s, back.lost_s), (Signal::Live, 5.5, 0.0));
        let lost = log.summary(ms(10_000));
        assert_eq!((lost.state, lost.silent_s, lost.lost_s), (Signal::Lost, 8.5, 3.0));
    }

    #[test]
    fn a_slate_counts_while_its_pictures_come() {
        let slate = State::Slate { reason: "the film is missing".into() };
        let mut log = SignalLog::default();
        pictures(&mut log, 0, 1000);
        log.station(ms(1000), &slate);
        pictures(&mut log, 1040, 3000);
        log.station(ms(2000), &slate);
        let now = log.summary(ms(3000));
        assert_eq!(
            (now.state, now.slate_s, now.slate.as_deref()),
            (Signal::Slate, 2.0, Some("the film is missing"))
        );
        log.station(ms(3000), &State::Film);
        pictures(&mut log, 3040, 4000);
        assert_eq!((log.summary(ms(4000)).state, log.summary(ms(4000)).slate_s), (Signal::Live, 2.0));
        // A slate during which the station is lost counts as far as it was seen.
        log.station(ms(4000), &slate);
        pictures(&mut log, 4040, 5000);
        assert_eq!((log.summary(ms(9000)).state, log.summary(ms(9000)).slate_s), (Signal::Lost, 3.0));
        pictures(&mut log, 10_000, 10_400);
        assert_eq!((log.summary(ms(10_400)).state, log.summary(ms(10_400)).slate_s), (Signal::Slate, 3.4));
    }
}
