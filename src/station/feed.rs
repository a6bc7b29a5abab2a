//! A station's pictures for whoever does not take them from its group: the directory, RTSP, the web. The very access units
//! that are on air; nothing is encoded for them again.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use super::onair::AccessUnit;
use crate::units::AirTime;

/// Access units that a subscriber may be behind before it loses the oldest: those that a station is ahead of its time
/// ([`LEAD`](super::LEAD), 24 at 60 pictures a second), and a second's worth beyond. They are shared, so a slow
/// subscriber costs a place in this queue and no memory of its own.
const QUEUE: usize = 64;

/// What a station shows.
#[derive(Debug)]
pub struct Feed {
    /// The unit that is on air, and those whose time is still to come.
    around_now: Mutex<VecDeque<AccessUnit>>,
    subscribers: broadcast::Sender<AccessUnit>,
}

impl Default for Feed {
    fn default() -> Feed {
        Feed { around_now: Mutex::default(), subscribers: broadcast::Sender::new(QUEUE) }
    }
}

impl Feed {
    /// Adds the next unit, whose time is still to come.
    pub(super) fn push(&self, unit: AccessUnit, now: AirTime) {
        let mut units = self.lock();
        while units.get(1).is_some_and(|second| second.due.at <= now) {
            units.pop_front();
        }
        units.push_back(unit.clone());
        drop(units);
        // Refused when nobody has subscribed.
        let _ = self.subscribers.send(unit);
    }

    /// The unit that is on air at `now`; `None` before the first.
    pub fn at(&self, now: AirTime) -> Option<AccessUnit> {
        self.lock().iter().take_while(|unit| unit.due.at <= now).last().cloned()
    }

    /// What [`at`](Self::at) has, the units that are to come after it and are here already, and all that follow: whoever
    /// joins sees a picture at once, and misses none after it.
    pub fn join(&self, now: AirTime) -> (VecDeque<AccessUnit>, broadcast::Receiver<AccessUnit>) {
        let units = self.lock();
        // Subscribed with the lock held: a unit that is pushed meanwhile may come twice, but never not at all.
        let receiver = self.subscribe();
        let past = units.iter().take_while(|unit| unit.due.at <= now).count();
        (units.iter().skip(past.saturating_sub(1)).cloned().collect(), receiver)
    }

    /// All units from now on, up to [`LEAD`](super::LEAD) *before* they are due: the subscriber keeps their time. One that is
    /// slow is told how many it has lost, and goes on with the oldest that is left.
    pub fn subscribe(&self) -> broadcast::Receiver<AccessUnit> {
        self.subscribers.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<AccessUnit>> {
        self.around_now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::station::playout::Due;
    use crate::units::Size;
    use crate::wire::jpeg::{Chroma, Jpeg, Tables};

    fn unit(n: u64) -> AccessUnit {
        let jpeg = Jpeg {
            size: Size { width: 16, height: 16 },
            chroma: Chroma::Yuv420,
            tables: Tables::Standard(80),
            restart_interval: None,
            scan: Bytes::copy_from_slice(&n.to_le_bytes()),
        };
        AccessUnit { due: Due { at: AirTime(n), interval: Duration::from_nanos(1) }, jpeg }
    }

    #[test]
    fn what_is_on_air_is_the_last_whose_time_has_come() {
        let feed = Feed::default();
        assert!(feed.at(AirTime(100)).is_none());
        for n in [10, 20, 30, 40] {
            feed.push(unit(n), AirTime(25));
        }
        let at = |now| feed.at(AirTime(now)).map(|unit| unit.due.at.0);
        assert_eq!([at(15), at(29), at(30), at(99)], [None, Some(20), Some(30), Some(40)]);
    }

    #[tokio::test]
    async fn who_joins_has_what_is_on_air_and_misses_nothing_after_it() {
        let feed = Feed::default();
        for n in [10, 20, 30, 40] {
            feed.push(unit(n), AirTime(5));
        }
        assert!(feed.join(AirTime(5)).0.front().is_some_and(|unit| unit.due.at == AirTime(10)));
        let (here, mut to_come) = feed.join(AirTime(25));
        feed.push(unit(50), AirTime(25));
        assert_eq!(here.iter().map(|unit| unit.due.at.0).collect::<Vec<_>>(), [20, 30, 40]);
        assert_eq!(to_come.recv().await.unwrap().due.at, AirTime(50));
    }

    #[tokio::test]
    async fn a_subscriber_gets_every_unit_and_a_slow_one_is_told_what_it_lost() {
        let feed = Feed::default();
        feed.push(unit(0), AirTime(0));
        let mut slow = feed.subscribe();
        for n in 1..=QUEUE as u64 {
            feed.push(unit(n), AirTime(n));
        }
        let mut quick = feed.subscribe();
        for n in 65..=70 {
            feed.push(unit(n), AirTime(n));
            assert_eq!(quick.recv().await.unwrap().due.at, AirTime(n));
        }
        assert_eq!(slow.recv().await.unwrap_err(), broadcast::error::RecvError::Lagged(6));
        assert_eq!(slow.recv().await.unwrap().due.at, AirTime(7));
    }
}
