//! A station's access units for the directory, RTSP and the web: the units that are on air, so nothing is encoded for them
//! again.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};

use crate::media::{AirTime, Unit};

/// Access units that wait for the slowest subscriber. A subscriber that is further behind loses the oldest, and is told how many.
/// At 60 pictures a second a station is 59 ahead ([`LEAD`](crate::air::LEAD)), and a second more makes 119; the channel rounds
/// up to a power of two. The units are shared: a slow subscriber takes no memory of its own.
const QUEUE: usize = 128;

/// A station's units, numbered from 0.
#[derive(Debug)]
pub struct Feed(Mutex<FeedState>);

#[derive(Debug)]
struct FeedState {
    /// The units that are kept, that on air, and those that are not due yet.
    around_now: VecDeque<Numbered>,
    /// `None` once the station is gone.
    subscribers: Option<broadcast::Sender<Numbered>>,
    /// How long units are kept after the unit that follows them is on air.
    keep: Duration,
}

type Numbered = (u64, Unit);

impl Default for Feed {
    fn default() -> Feed {
        let subscribers = Some(broadcast::Sender::new(QUEUE));
        Feed(Mutex::new(FeedState { around_now: VecDeque::new(), subscribers, keep: Duration::ZERO }))
    }
}

impl Feed {
    /// A feed that keeps units for so long after the next one is on air, for [`recent`](Self::recent).
    pub(crate) fn keeping(keep: Duration) -> Feed {
        let feed = Feed::default();
        feed.lock().keep = keep;
        feed
    }

    /// The units that are due until `end`, the oldest that are kept included.
    pub(crate) fn recent(&self, end: AirTime) -> Vec<Unit> {
        let state = self.lock();
        state.around_now.iter().map(|(_, unit)| unit).take_while(|unit| unit.due.at <= end).cloned().collect()
    }

    /// Adds the next unit, which is not due yet.
    pub(crate) fn push(&self, unit: Unit, now: AirTime) {
        let mut state = self.lock();
        let Some(subscribers) = state.subscribers.clone() else { return };
        let keep = state.keep;
        let units = &mut state.around_now;
        let number = units.back().map_or(0, |(last, _)| last + 1);
        while units.get(1).is_some_and(|(_, second)| second.due.at + keep <= now) {
            units.pop_front();
        }
        units.push_back((number, unit.clone()));
        // With the lock held, so that a new subscriber gets the unit exactly once. Fails if there are no subscribers.
        let _ = subscribers.send((number, unit));
    }

    /// The station is gone: all subscriptions end, and nothing is on air.
    pub(crate) fn close(&self) {
        *self.lock() = FeedState { around_now: VecDeque::new(), subscribers: None, keep: Duration::ZERO };
    }

    /// Whether the station is gone.
    pub fn is_closed(&self) -> bool {
        self.lock().subscribers.is_none()
    }

    /// The unit that is on air at `now`, and its number; `None` before the first unit.
    pub fn at(&self, now: AirTime) -> Option<(u64, Unit)> {
        self.lock().around_now.iter().take_while(|(_, unit)| unit.due.at <= now).last().cloned()
    }

    /// Subscribes to the unit that is on air at `now` and all after it. Units come up to [`LEAD`](crate::air::LEAD) *before* they
    /// are due: the subscriber waits for their due times.
    pub fn subscribe(&self, now: AirTime) -> Subscription {
        let state = self.lock();
        let units = &state.around_now;
        let on_air = units.iter().rposition(|(_, unit)| unit.due.at <= now).unwrap_or(0);
        state.subscription(units.get(on_air).map_or(0, |&(number, _)| number))
    }

    /// Subscribes to unit `next` and all after it. Units that are off air already are lost to the subscriber.
    pub fn resume(&self, next: u64) -> Subscription {
        self.lock().subscription(next)
    }

    fn lock(&self) -> MutexGuard<'_, FeedState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FeedState {
    fn subscription(&self, next: u64) -> Subscription {
        let known = self.around_now.iter().filter(|(number, _)| *number >= next).cloned().collect();
        // A receiver without a sender ends at once.
        let coming =
            self.subscribers.as_ref().map_or_else(|| broadcast::channel(1).1, broadcast::Sender::subscribe);
        Subscription { next, known, coming }
    }
}

/// A station's units for one subscriber.
#[derive(Debug)]
pub struct Subscription {
    /// The number of the next unit.
    next: u64,
    /// Units that are received already.
    known: VecDeque<Numbered>,
    coming: broadcast::Receiver<Numbered>,
}

impl Subscription {
    /// The next unit, if there was one already when the subscription began.
    pub fn first(&self) -> Option<&Unit> {
        self.known.front().map(|(_, unit)| unit)
    }

    /// The number of the next unit: one more than that of the last.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Receives the next unit. Cancel-safe.
    ///
    /// # Errors
    /// `Lagged(n)`: the subscriber was slow and lost n units; the next call returns the oldest that is left. `Closed`: the
    /// station is gone.
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
                // The number of the next unit tells how many are lost.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Err(RecvError::Closed),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::air::LEAD;
    use crate::media::FrameRate;

    fn unit(n: u64) -> Unit {
        Unit::blank(AirTime(n), Duration::from_nanos(1), n.to_le_bytes().to_vec())
    }

    #[test]
    fn the_last_unit_that_is_due_is_on_air() {
        let feed = Feed::default();
        assert!(feed.at(AirTime(100)).is_none());
        for n in [10, 20, 30, 40] {
            feed.push(unit(n), AirTime(25));
        }
        let at = |now| feed.at(AirTime(now)).map(|(number, unit)| (number, unit.due.at.0));
        assert_eq!([at(15), at(29), at(30), at(99)], [None, Some((1, 20)), Some((2, 30)), Some((3, 40))]);
    }

    #[test]
    fn the_units_of_the_last_moments_are_kept() {
        let feed = Feed::keeping(Duration::from_nanos(25));
        for n in (10..=100).step_by(10) {
            feed.push(unit(n), AirTime(60));
        }
        let due = |end| feed.recent(AirTime(end)).iter().map(|unit| unit.due.at.0).collect::<Vec<_>>();
        assert_eq!(due(65), [30, 40, 50, 60]);
        assert_eq!(due(29), [0u64; 0]);
    }

    #[tokio::test]
    async fn a_subscriber_gets_the_unit_on_air_and_every_unit_after_it_once() {
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
    async fn a_subscriber_that_resumes_gets_each_unit_once_or_is_told_how_many_it_lost() {
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
        // Unit 40 is on air: those before it are gone.
        let mut third = feed.resume(0);
        assert_eq!(third.recv().await.unwrap_err(), RecvError::Lagged(3));
        assert_eq!(third.recv().await.unwrap().due.at, AirTime(40));
        // A subscription to a future unit gets nothing before it.
        let mut fourth = feed.resume(5);
        feed.push(unit(60), AirTime(45));
        assert_eq!(fourth.recv().await.unwrap().due.at, AirTime(60));
    }

    #[tokio::test]
    async fn a_subscriber_that_is_a_second_behind_loses_nothing() {
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
    async fn a_slow_subscriber_is_told_how_many_units_it_lost() {
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
