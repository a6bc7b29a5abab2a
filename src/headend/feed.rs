//! A station's pictures for whoever does not take them from its group: the directory, RTSP, the web. The very access units
//! that are on air; nothing is encoded for them again.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast::{self, error::RecvError};

use crate::media::{AirTime, Unit};

/// Access units that a subscriber may be behind before it loses the oldest: those that a station is ahead of its time
/// ([`LEAD`](crate::air::LEAD), 59 at 60 pictures a second), and a second's worth beyond: 119, to the next power of two, as the
/// channel takes it. They are shared, so a slow subscriber costs a place in this queue and no memory of its own.
const QUEUE: usize = 128;

/// What a station shows. Its units are numbered, from 0.
#[derive(Debug)]
pub struct Feed {
    /// The unit that is on air, and those whose time is still to come.
    around_now: Mutex<VecDeque<Numbered>>,
    subscribers: broadcast::Sender<Numbered>,
}

type Numbered = (u64, Unit);

impl Default for Feed {
    fn default() -> Feed {
        Feed { around_now: Mutex::default(), subscribers: broadcast::Sender::new(QUEUE) }
    }
}

impl Feed {
    /// Adds the next unit, whose time is still to come.
    pub(crate) fn push(&self, unit: Unit, now: AirTime) {
        let mut units = self.lock();
        let number = units.back().map_or(0, |(last, _)| last + 1);
        while units.get(1).is_some_and(|(_, second)| second.due.at <= now) {
            units.pop_front();
        }
        units.push_back((number, unit.clone()));
        // With the lock held, so that who subscribes meanwhile gets it once. Refused when nobody has subscribed.
        let _ = self.subscribers.send((number, unit));
    }

    /// The unit that is on air at `now`, and its number; `None` before the first.
    pub fn at(&self, now: AirTime) -> Option<(u64, Unit)> {
        self.lock().iter().take_while(|(_, unit)| unit.due.at <= now).last().cloned()
    }

    /// The unit that is on air at `now`, and all after it: as they are known, up to [`LEAD`](crate::air::LEAD) *before* they are
    /// due. The subscriber keeps their time.
    pub fn subscribe(&self, now: AirTime) -> Subscription {
        let units = self.lock();
        let on_air = units.iter().rposition(|(_, unit)| unit.due.at <= now).unwrap_or(0);
        self.from(&units, units.get(on_air).map_or(0, |&(number, _)| number))
    }

    /// Unit `next` and all after it. Those of them whose time is over already are lost to the subscriber.
    pub fn resume(&self, next: u64) -> Subscription {
        self.from(&self.lock(), next)
    }

    fn from(&self, units: &VecDeque<Numbered>, next: u64) -> Subscription {
        let known = units.iter().filter(|(number, _)| *number >= next).cloned().collect();
        Subscription { next, known, coming: self.subscribers.subscribe() }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Numbered>> {
        self.around_now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A station's units for one subscriber.
#[derive(Debug)]
pub struct Subscription {
    /// The number of the next one.
    next: u64,
    /// Those that were there when it began.
    known: VecDeque<Numbered>,
    coming: broadcast::Receiver<Numbered>,
}

impl Subscription {
    /// The unit that was on air when it began, or the first to come, if there was one yet.
    pub fn first(&self) -> Option<&Unit> {
        self.known.front().map(|(_, unit)| unit)
    }

    /// The number of the unit that comes next: one more than that of the one that came last.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The next unit. May be cancelled.
    ///
    /// # Errors
    /// So many units are lost, because the subscriber was slow; it goes on with the oldest that is left. Or the station is gone.
    pub async fn recv(&mut self) -> Result<Unit, RecvError> {
        loop {
            if let Some((number, unit)) = self.known.pop_front() {
                let missed = number - std::mem::replace(&mut self.next, number);
                if missed > 0 {
                    self.known.push_front((number, unit));
                    return Err(RecvError::Lagged(missed));
                }
                self.next += 1;
                return Ok(unit);
            }
            match self.coming.recv().await {
                Ok(unit) => self.known.push_back(unit),
                // The number of the next one tells how many.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Err(RecvError::Closed),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::air::LEAD;
    use crate::media::FrameRate;

    fn unit(n: u64) -> Unit {
        Unit::blank(AirTime(n), Duration::from_nanos(1), n.to_le_bytes().to_vec())
    }

    #[test]
    fn what_is_on_air_is_the_last_whose_time_has_come() {
        let feed = Feed::default();
        assert!(feed.at(AirTime(100)).is_none());
        for n in [10, 20, 30, 40] {
            feed.push(unit(n), AirTime(25));
        }
        let at = |now| feed.at(AirTime(now)).map(|(number, unit)| (number, unit.due.at.0));
        assert_eq!([at(15), at(29), at(30), at(99)], [None, Some((1, 20)), Some((2, 30)), Some((3, 40))]);
    }

    #[tokio::test]
    async fn a_subscriber_begins_with_what_is_on_air_and_gets_every_unit_once() {
        let feed = Feed::default();
        for n in [10, 20, 30, 40] {
            feed.push(unit(n), AirTime(5));
        }
        let mut early = feed.subscribe(AirTime(5));
        let mut now = feed.subscribe(AirTime(25));
        feed.push(unit(50), AirTime(25));
        for n in [10, 20, 30, 40, 50] {
            assert_eq!(early.recv().await.unwrap().due.at, AirTime(n));
        }
        for n in [20, 30, 40, 50] {
            assert_eq!(now.recv().await.unwrap().due.at, AirTime(n));
        }
    }

    #[tokio::test]
    async fn who_resumes_gets_each_unit_once_or_is_told_what_it_lost() {
        let feed = Feed::default();
        for n in [10, 20, 30, 40] {
            feed.push(unit(n), AirTime(25));
        }
        let mut first = feed.subscribe(AirTime(25));
        assert_eq!((first.next(), first.recv().await.unwrap().due.at), (1, AirTime(20)));
        let mut second = feed.resume(first.next());
        feed.push(unit(50), AirTime(45));
        for n in [30, 40, 50] {
            assert_eq!(second.recv().await.unwrap().due.at, AirTime(n));
        }
        assert_eq!(second.next(), 5);
        // 40 is on air: those before it are nobody's any more.
        let mut third = feed.resume(0);
        assert_eq!(third.recv().await.unwrap_err(), RecvError::Lagged(3));
        assert_eq!(third.recv().await.unwrap().due.at, AirTime(40));
        // And of what is to come, nothing before its number.
        let mut fourth = feed.resume(5);
        feed.push(unit(60), AirTime(45));
        assert_eq!(fourth.recv().await.unwrap().due.at, AirTime(60));
    }

    #[tokio::test]
    async fn who_is_a_second_behind_loses_nothing() {
        let feed = Feed::default();
        let rate = FrameRate::new(60, 1).unwrap();
        let mut slow = feed.subscribe(AirTime(0));
        let ahead = rate.nearest(LEAD);
        for n in 0..ahead + 60 {
            let at = AirTime(1) + rate.nth(n);
            let unit = Unit::blank(at, rate.interval(), n.to_le_bytes().to_vec());
            feed.push(unit, AirTime(1) + rate.nth(n.saturating_sub(ahead)));
        }
        for n in 0..ahead + 60 {
            assert_eq!(slow.recv().await.unwrap().due.at, AirTime(1) + rate.nth(n));
        }
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_told_what_it_lost() {
        let feed = Feed::default();
        let mut slow = feed.subscribe(AirTime(0));
        for n in 1..=QUEUE as u64 {
            feed.push(unit(n), AirTime(n - 1));
        }
        for n in (1..=6).map(|n| QUEUE as u64 + n) {
            feed.push(unit(n), AirTime(n));
        }
        assert_eq!(slow.recv().await.unwrap_err(), RecvError::Lagged(6));
        assert_eq!(slow.recv().await.unwrap().due.at, AirTime(7));
    }
}
