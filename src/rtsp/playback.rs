//! Playback as a sequence of events: of a station as it is on air, or of its programme on demand (`vod`).

use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};

use super::fanout::FanoutMembership;
use super::vod::{VodError, VodPlayback};
use crate::clock::AirClock;
use crate::directory::table::AudienceMember;
use crate::headend::live_units::{LiveUnits, NoUnit};
use crate::media::{AirTime, Track, Unit};

pub(super) enum PlaybackEvent {
    /// A unit, perhaps before it is due.
    Unit(Unit),
    /// Number of units of a track that are lost to the session.
    Missed(Track, u64),
    /// The fan-out has handed the client back, since its connection did not keep up. The session must finish the message
    /// that the fan-out has begun.
    Behind,
    /// Playback ends at this moment; at once, if it is the default.
    End(AirTime),
    /// A reel cannot be read: playback ends at once.
    Failed(VodError),
}

pub(super) struct Playback {
    pub(super) kind: PlaybackKind,
    /// The next event, if it was fetched already. It stays here if the wait for its time is cancelled.
    next: Option<PlaybackEvent>,
}

pub(super) enum PlaybackKind {
    Live { live: LivePlayback, _audience: Option<AudienceMember> },
    Vod(VodPlayback),
}

impl Playback {
    pub(super) fn new(kind: PlaybackKind) -> Playback {
        Playback { kind, next: None }
    }

    /// The normal play time of the next picture; `None` if live.
    pub(super) fn npt(&self) -> Option<Duration> {
        match &self.kind {
            PlaybackKind::Live { .. } => None,
            PlaybackKind::Vod(vod) => Some(vod.npt()),
        }
    }

    /// Returns the next event, a unit `ahead` of its due time. While a live client keeps up, the fan-out writes its
    /// units, and nothing returns. Cancel-safe.
    #[expect(clippy::disallowed_methods, reason = "a shell: it waits until units are due")]
    pub(super) async fn next(&mut self, clock: &AirClock, ahead: Duration) -> PlaybackEvent {
        let vod = match &mut self.kind {
            PlaybackKind::Live { live, .. } => return live.next(clock, ahead).await,
            PlaybackKind::Vod(vod) => vod,
        };
        if self.next.is_none() {
            self.next = Some(vod.next().await.unwrap_or_else(PlaybackEvent::Failed));
        }
        let due = match &self.next {
            Some(PlaybackEvent::Unit(unit)) => unit.due.at - ahead,
            Some(PlaybackEvent::End(at)) => *at,
            _ => AirTime::default(),
        };
        sleep_until(Instant::now() + clock.until(due)).await;
        self.next.take().unwrap_or(PlaybackEvent::End(AirTime::default()))
    }

    /// Stops the fan-out from writing for this client. From now on, only the session task writes.
    pub(super) async fn leave_fanout(&mut self) {
        if let PlaybackKind::Live { live, .. } = &mut self.kind {
            live.leave_fanout().await;
        }
    }
}

/// A station as it is on air.
pub(super) struct LivePlayback {
    units: LiveUnits,
    /// `None` if the session cannot use a fan-out: by UDP.
    membership: Option<FanoutMembership>,
}

impl LivePlayback {
    pub(super) fn new(units: LiveUnits, membership: Option<FanoutMembership>) -> LivePlayback {
        LivePlayback { units, membership }
    }

    /// The next event for the session task. Cancel-safe.
    #[expect(clippy::disallowed_methods, reason = "a shell: it waits until units are due")]
    async fn next(&mut self, clock: &AirClock, ahead: Duration) -> PlaybackEvent {
        loop {
            if let Some(membership) = self.membership.as_mut().filter(|membership| membership.is_active()) {
                return match membership.handed_back().await {
                    Some(units) => {
                        self.units = units;
                        PlaybackEvent::Behind
                    }
                    // The connection is over.
                    None => PlaybackEvent::End(AirTime::default()),
                };
            }
            let ready = match self.units.come().await {
                Ok(due) if due > clock.now() && self.join_fanout().await => continue,
                Ok(_) => self.units.ready(clock, ahead).await,
                Err(no_unit) => Err(no_unit),
            };
            match ready {
                Ok(track) => {
                    if let Some((_, unit)) = self.units.take(track) {
                        return PlaybackEvent::Unit(unit);
                    }
                }
                Err(NoUnit(track, RecvError::Lagged(missed))) => return PlaybackEvent::Missed(track, missed),
                Err(NoUnit(_, RecvError::Closed)) => return PlaybackEvent::End(AirTime::default()),
            }
        }
    }

    /// Has the fan-out write the units that have come, and those after them. False if there is no fan-out, or it has written
    /// one of those units to its clients already. Cancel-safe: cancelled, it has not joined.
    async fn join_fanout(&mut self) -> bool {
        match &mut self.membership {
            Some(membership) => membership.join(self.units.next()).await,
            None => false,
        }
    }

    async fn leave_fanout(&mut self) {
        if let Some(membership) = &mut self.membership
            && let Some(units) = membership.leave().await
        {
            self.units = units;
        }
    }
}
