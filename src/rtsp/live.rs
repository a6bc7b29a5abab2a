//! A station as it is on air, for one client.

use tokio::sync::broadcast::error::RecvError;

use crate::station::feed::{Feed, Subscription};
use crate::station::onair::AccessUnit;
use crate::units::AirTime;

/// What comes next.
pub(super) enum Next {
    /// A unit, perhaps before it is due.
    Unit(AccessUnit),
    /// So many units were missed.
    Missed(u64),
    /// Nothing any more, from this moment on.
    End(AirTime),
}

/// A station, from the unit that was on air when it was joined.
pub(super) struct Live(Subscription);

impl Live {
    pub(super) fn join(feed: &Feed, now: AirTime) -> Live {
        Live(feed.subscribe(now))
    }

    /// The first unit, if there is one yet.
    pub(super) fn first(&self) -> Option<&AccessUnit> {
        self.0.first()
    }

    /// May be cancelled: nothing is lost.
    pub(super) async fn next(&mut self) -> Next {
        match self.0.recv().await {
            Ok(unit) => Next::Unit(unit),
            Err(RecvError::Lagged(missed)) => Next::Missed(missed),
            Err(RecvError::Closed) => Next::End(AirTime::default()),
        }
    }
}
