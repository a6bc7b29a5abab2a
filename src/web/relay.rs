//! A station's pictures at their time, as files, for all browsers at once. It works only while somebody looks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::clock::AirClock;
use crate::station::headend::Monitor;
use crate::station::onair::AccessUnit;
use crate::units::{AirTime, StationId};

/// The version of the wall's picture messages.
const VERSION: u8 = 1;

/// Bytes before the file in a picture message.
const HEADER: usize = 16;

/// Longest time until it looks for the next picture: a station that has none ready may have one at any moment.
const LOOK: Duration = Duration::from_millis(40);

/// Shortest: tokio's timer counts in these.
const TICK: Duration = Duration::from_millis(1);

/// A picture on air.
#[derive(Debug, Clone)]
pub(super) struct Shot {
    /// Counts the station's pictures modulo 2^32, from 1 when it was first looked at.
    pub(super) number: u32,
    pub(super) due: AirTime,
    message: Bytes,
}

impl Shot {
    /// ```text
    ///  0       1       2               4               8                       16
    /// +-------+-------+---------------+---------------+-----------------------+-----------
    /// |version| zero  | station       | number        | due                   | JPEG file
    /// +-------+-------+---------------+---------------+-----------------------+-----------
    /// ```
    /// All in network byte order; due in nanoseconds since the Unix epoch.
    fn new(station: StationId, number: u32, unit: &AccessUnit) -> Shot {
        let file = unit.jpeg.to_jfif();
        let mut message = BytesMut::with_capacity(HEADER + file.len());
        message.put_u8(VERSION);
        message.put_u8(0);
        message.put_u16(station.0);
        message.put_u32(number);
        message.put_u64(unit.due.at.0);
        message.extend_from_slice(&file);
        Shot { number, due: unit.due.at, message: message.freeze() }
    }

    /// The wall's message that carries it.
    pub(super) fn message(&self) -> Bytes {
        self.message.clone()
    }

    /// The JPEG file.
    pub(super) fn file(&self) -> Bytes {
        self.message.slice(HEADER..)
    }
}

/// Makes [`Shot`]s of a station's access units.
pub(super) struct Relay {
    station: Arc<Monitor>,
    clock: AirClock,
    /// The newest; `None` while nobody looks.
    newest: watch::Sender<Option<Shot>>,
    work: Mutex<Work>,
}

#[derive(Default)]
struct Work {
    running: bool,
    /// Of the last shot, so that numbers go on when somebody looks again.
    number: u32,
}

impl Relay {
    pub(super) fn new(station: Arc<Monitor>, clock: AirClock) -> Relay {
        Relay { station, clock, newest: watch::Sender::new(None), work: Mutex::default() }
    }

    /// The newest picture, always; it counts as changed at once if there is one. Those in between are never queued.
    pub(super) fn look(self: &Arc<Self>) -> watch::Receiver<Option<Shot>> {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let mut newest = self.newest.subscribe();
        if !work.running {
            work.running = true;
            tokio::spawn(self.clone().run(work.number));
        }
        newest.mark_changed();
        newest
    }

    async fn run(self: Arc<Self>, mut number: u32) {
        let mut last: Option<AccessUnit> = None;
        loop {
            let now = self.clock.now();
            let unit = self.station.feed.at(now);
            if let Some(unit) = unit.filter(|unit| last.as_ref().is_none_or(|last| last.due.at < unit.due.at))
            {
                number = number.wrapping_add(last.as_ref().map_or(1, |last| steps(last, &unit)));
                self.newest.send_replace(Some(Shot::new(self.station.spec.id, number, &unit)));
                last = Some(unit);
            }
            let next = last.as_ref().map_or(LOOK, |last| self.clock.until(last.due.at + last.due.interval));
            let gone = timeout(next.clamp(TICK, LOOK), self.newest.closed()).await.is_ok();
            if gone && self.rest(number) {
                return;
            }
        }
    }

    /// Ends the work, unless somebody has come to look meanwhile.
    fn rest(&self, number: u32) -> bool {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        if self.newest.receiver_count() > 0 {
            return false;
        }
        *work = Work { running: false, number };
        // Who looks next shall not see what was on then.
        self.newest.send_replace(None);
        true
    }
}

/// How many pictures there were from `last` to `unit`, by their times: a busy machine may have let some pass.
fn steps(last: &AccessUnit, unit: &AccessUnit) -> u32 {
    let interval = last.due.interval.as_nanos().max(1);
    let steps = (unit.due.at.since(last.due.at).as_nanos() + interval / 2) / interval;
    steps.clamp(1, u128::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::FrameRate;

    fn unit(at: Duration) -> AccessUnit {
        let interval = FrameRate::new(30_000, 1001).unwrap().interval();
        AccessUnit::blank(AirTime(0) + at, interval, &b"scan"[..])
    }

    #[test]
    fn pictures_that_passed_are_counted_by_their_times() {
        let rate = FrameRate::new(30_000, 1001).unwrap();
        let first = unit(rate.nth(10));
        for n in [1, 2, 3, 900] {
            assert_eq!(steps(&first, &unit(rate.nth(10 + n))), n as u32);
        }
        // A station that was restarted: another time line, and one picture more.
        assert_eq!(steps(&first, &unit(rate.nth(10) + Duration::from_nanos(1))), 1);
    }

    #[test]
    fn a_shot_is_a_header_and_a_file() {
        let shot = Shot::new(StationId(0x0102), 0x0304_0506, &unit(Duration::from_nanos(0x0708_090a)));
        let header = [1, 0, 1, 2, 3, 4, 5, 6, 0, 0, 0, 0, 7, 8, 9, 10];
        assert_eq!(shot.message()[..HEADER], header);
        assert_eq!(shot.message()[HEADER..], shot.file());
        assert_eq!(shot.file(), unit(Duration::ZERO).jpeg.to_jfif());
    }
}
