//! A station as it is on air, for one client.

use std::collections::VecDeque;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::station::feed::Feed;
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
pub(super) struct Live {
    here: VecDeque<AccessUnit>,
    to_come: broadcast::Receiver<AccessUnit>,
    last: AirTime,
}

impl Live {
    pub(super) fn join(feed: &Feed, now: AirTime) -> Live {
        let (here, to_come) = feed.join(now);
        Live { here, to_come, last: AirTime::default() }
    }

    /// The first unit, if there is one yet.
    pub(super) fn first(&self) -> Option<&AccessUnit> {
        self.here.front()
    }

    /// May be cancelled: nothing is lost.
    pub(super) async fn next(&mut self) -> Next {
        loop {
            let unit = match self.here.pop_front() {
                Some(unit) => unit,
                None => match self.to_come.recv().await {
                    Ok(unit) => unit,
                    Err(RecvError::Lagged(missed)) => return Next::Missed(missed),
                    Err(RecvError::Closed) => return Next::End(AirTime::default()),
                },
            };
            // What was pushed while we joined has come twice.
            if unit.due.at > self.last {
                self.last = unit.due.at;
                return Next::Unit(unit);
            }
        }
    }
}
