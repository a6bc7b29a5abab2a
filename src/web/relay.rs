//! A station's pictures at their time, as files, for all browsers at once. It works only while somebody looks, and makes
//! the files of those pictures only that somebody is sent.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::clock::AirClock;
use crate::headend::StationHandle;
use crate::media::Unit;
use crate::media::jpeg::Jpeg;
use crate::media::{AirTime, StationId};

/// The version of the wall's picture messages.
const VERSION: u8 = 1;

/// Bytes before the file in a picture message.
const HEADER: usize = 16;

/// Longest time until it looks for the next picture: one that comes sooner than its station's last had said.
const LOOK: Duration = Duration::from_millis(40);

/// Shortest: tokio's timer counts in these.
const TICK: Duration = Duration::from_millis(1);

/// While the next is overdue. A station hands its pictures over long before their time, so it has none, and may for seconds:
/// it hangs, or has more to do than this.
const OVERDUE: Duration = Duration::from_millis(5);

/// A picture on air. Its file is made when somebody is first sent it, once for all: who waits for it need not get it.
#[derive(Debug, Clone)]
pub(super) struct Shot {
    /// Counts the station's pictures modulo 2^32, from 1.
    pub(super) number: u32,
    pub(super) due: AirTime,
    station: StationId,
    jpeg: Jpeg,
    message: Arc<OnceLock<Bytes>>,
}

impl Shot {
    fn new(station: StationId, number: u32, unit: Unit) -> Shot {
        Shot { number, due: unit.due.at, station, jpeg: unit.jpeg().clone(), message: Arc::default() }
    }

    /// The wall's message that carries it.
    pub(super) fn message(&self) -> Bytes {
        self.message.get_or_init(|| self.write()).clone()
    }

    /// The JPEG file.
    pub(super) fn file(&self) -> Bytes {
        self.message().slice(HEADER..)
    }

    /// ```text
    ///  0       1       2               4               8                       16
    /// +-------+-------+---------------+---------------+-----------------------+-----------
    /// |version| zero  | station       | number        | due                   | JPEG file
    /// +-------+-------+---------------+---------------+-----------------------+-----------
    /// ```
    /// All in network byte order; due in nanoseconds since the Unix epoch.
    fn write(&self) -> Bytes {
        let file = self.jpeg.to_jfif();
        let mut message = BytesMut::with_capacity(HEADER + file.len());
        message.put_u8(VERSION);
        message.put_u8(0);
        message.put_u16(self.station.0);
        message.put_u32(self.number);
        message.put_u64(self.due.0);
        message.extend_from_slice(&file);
        message.freeze()
    }
}

/// Makes [`Shot`]s of a station's access units.
pub(super) struct Relay {
    station: Arc<StationHandle>,
    clock: AirClock,
    /// The newest; `None` while nobody looks.
    newest: watch::Sender<Option<Shot>>,
    running: Mutex<bool>,
}

impl Relay {
    pub(super) fn new(station: Arc<StationHandle>, clock: AirClock) -> Relay {
        Relay { station, clock, newest: watch::Sender::new(None), running: Mutex::default() }
    }

    /// The newest picture, always; it counts as changed at once if there is one. Those in between are never queued.
    pub(super) fn look(self: &Arc<Self>) -> watch::Receiver<Option<Shot>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut newest = self.newest.subscribe();
        if !*running {
            *running = true;
            tokio::spawn(self.clone().run());
        }
        newest.mark_changed();
        newest
    }

    async fn run(self: Arc<Self>) {
        let mut last = None;
        loop {
            let unit = self.station.feed.at(self.clock.now());
            if let Some((number, unit)) =
                unit.filter(|&(number, _)| last.is_none_or(|(last, _)| last < number))
            {
                last = Some((number, unit.due.at + unit.due.interval));
                let shot = Shot::new(self.station.spec.id, (number + 1) as u32, unit);
                self.newest.send_replace(Some(shot));
            }
            let next = pause(last.map(|(_, over)| self.clock.until(over)));
            let gone = timeout(next, self.newest.closed()).await.is_ok();
            if gone && self.rest() {
                return;
            }
        }
    }

    /// Ends the work, unless somebody has come to look meanwhile.
    fn rest(&self) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if self.newest.receiver_count() > 0 {
            return false;
        }
        *running = false;
        // Who looks next shall not see what was on then.
        self.newest.send_replace(None);
        true
    }
}

/// How long to wait before looking for the next picture, which is to come in `due`.
fn pause(due: Option<Duration>) -> Duration {
    match due {
        Some(Duration::ZERO) => OVERDUE,
        due => due.unwrap_or(LOOK).clamp(TICK, LOOK),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headend::HeadEnd;
    use crate::lineup::Lineup;

    fn unit(at: AirTime) -> Unit {
        Unit::blank(at, Duration::from_millis(20), &b"scan"[..])
    }

    /// The station of the demo line-up with that number, whose pictures the test gives.
    fn bench() -> (Arc<HeadEnd>, StationId, Arc<Relay>) {
        let lineup = Lineup::load(std::path::Path::new("stations.toml")).unwrap();
        let id = lineup.stations[0].id;
        let (head_end, _) = HeadEnd::on_the_bench(lineup.stations, None);
        let relay = Relay::new(head_end.station(id).unwrap().clone(), head_end.clock.clone());
        (head_end, id, Arc::new(relay))
    }

    #[tokio::test]
    async fn a_pause_of_the_station_leaves_no_number_out() {
        let (head_end, id, relay) = bench();
        let mut newest = relay.look();
        newest.mark_unchanged();
        let start = head_end.clock.now() - Duration::from_secs(240);
        let mut seen = async || {
            newest.changed().await.unwrap();
            newest.borrow_and_update().as_ref().map(|shot| shot.number)
        };
        // By their interval 20 ms apart, by their times a minute: a film that hung, or one that plays by its stamps.
        for n in 0..3 {
            head_end.show(id, unit(start + Duration::from_secs(60) * n));
            assert_eq!(seen().await, Some(n + 1));
        }
        // Of two at once only one is ever seen.
        head_end.show(id, unit(start + Duration::from_secs(180)));
        head_end.show(id, unit(start + Duration::from_secs(181)));
        assert_eq!(seen().await, Some(5));
    }

    #[tokio::test]
    async fn a_file_is_made_when_it_is_sent_and_once_for_all() {
        let (head_end, id, relay) = bench();
        let mut looking = relay.look();
        looking.mark_unchanged();
        head_end.show(id, unit(head_end.clock.now() - Duration::from_secs(1)));
        looking.changed().await.unwrap();
        let shot = looking.borrow_and_update().clone().unwrap();
        assert!(shot.message.get().is_none(), "nobody is sent it");
        let other = relay.look().borrow().clone().unwrap();
        assert_eq!(shot.message().as_ptr(), other.message().as_ptr());
    }

    #[test]
    fn a_picture_is_looked_for_when_it_is_due_and_seldom_after_that() {
        let millis = Duration::from_millis;
        for (due, wait) in [(None, 40), (Some(200), 40), (Some(33), 33), (Some(1), 1), (Some(0), 5)] {
            assert_eq!(pause(due.map(millis)), millis(wait), "{due:?}");
        }
        assert_eq!(pause(Some(Duration::from_micros(3))), TICK);
    }

    #[test]
    fn a_shot_is_a_header_and_a_file() {
        let shot = Shot::new(StationId(0x0102), 0x0304_0506, unit(AirTime(0x0708_090a)));
        let header = [1, 0, 1, 2, 3, 4, 5, 6, 0, 0, 0, 0, 7, 8, 9, 10];
        assert_eq!(shot.message()[..HEADER], header);
        assert_eq!(shot.message()[HEADER..], shot.file());
        assert_eq!(shot.file(), unit(AirTime(0)).jpeg().to_jfif());
    }
}
