//! A station as it is on air, for one client.

use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;

use super::fanout::{Fanout, FanoutClient};
use crate::headend::feed::{Feed, Subscription};
use crate::media::AirTime;
use crate::media::Unit;

/// What comes next.
pub(super) enum PlaybackEvent {
    /// A unit, perhaps before it is due.
    Unit(Unit),
    /// So many units were missed.
    Missed(u64),
    /// A connection did not keep up: what was begun is to be written.
    Behind,
    /// Nothing any more, from this moment on.
    End(AirTime),
}

/// A station, from the unit on that was on air at the moment for which it was joined.
pub(super) struct LivePlayback {
    units: Subscription,
    carrier: Option<FanoutMembership>,
}

/// Who writes a client's pictures for it while it keeps up.
pub(super) struct FanoutMembership {
    fanout: Arc<Fanout>,
    tap: FanoutClient,
    /// While it does: what will be left to us.
    carried: Option<oneshot::Receiver<Subscription>>,
}

impl FanoutMembership {
    pub(super) fn new(fanout: Arc<Fanout>, tap: FanoutClient) -> FanoutMembership {
        FanoutMembership { fanout, tap, carried: None }
    }
}

impl LivePlayback {
    pub(super) fn join(feed: &Feed, now: AirTime, carrier: Option<FanoutMembership>) -> LivePlayback {
        LivePlayback { units: feed.subscribe(now), carrier }
    }

    /// The first unit, if there is one yet.
    pub(super) fn first(&self) -> Option<&Unit> {
        self.units.first()
    }

    /// What comes next for the client's own task. May be cancelled: nothing is lost.
    pub(super) async fn next(&mut self) -> PlaybackEvent {
        if let Some(FanoutMembership { carried: Some(left), .. }) = &mut self.carrier {
            // None: the connection is over.
            return match left.await {
                Ok(units) => {
                    self.go_on(units);
                    PlaybackEvent::Behind
                }
                Err(_) => PlaybackEvent::End(AirTime::default()),
            };
        }
        match self.units.recv().await {
            Ok(unit) => PlaybackEvent::Unit(unit),
            Err(RecvError::Lagged(missed)) => PlaybackEvent::Missed(missed),
            Err(RecvError::Closed) => PlaybackEvent::End(AirTime::default()),
        }
    }

    /// Has another task write the unit that came last, and those after it, for as long as the client keeps up. False if
    /// nobody does. May be cancelled: then nobody does.
    pub(super) async fn hand_on(&mut self) -> bool {
        let Some(carrier) = &mut self.carrier else { return false };
        carrier.carried = carrier.fanout.take(&carrier.tap, self.units.next() - 1).await;
        carrier.carried.is_some()
    }

    /// Takes the client back from that task: it is not writing any more.
    pub(super) async fn take_back(&mut self) {
        let Some(carrier) = &mut self.carrier else { return };
        let Some(left) = &mut carrier.carried else { return };
        carrier.fanout.give_back(&carrier.tap).await;
        if let Ok(units) = left.try_recv() {
            self.go_on(units);
        }
    }

    fn go_on(&mut self, units: Subscription) {
        self.units = units;
        if let Some(carrier) = &mut self.carrier {
            carrier.carried = None;
        }
    }
}
