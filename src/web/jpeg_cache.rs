//! A station's pictures as JPEG files, at their due times, shared by all clients of the web. Works only while a client is
//! subscribed, and makes a picture's file only if some client is sent it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::clock::AirClock;
use crate::headend::StationHandle;
use crate::media::jpeg::Jpeg;
use crate::media::{AirTime, StationId, Unit};

/// Version of the wall's picture messages.
const VERSION: u8 = 1;

/// Bytes before the file in a picture message.
const HEADER: usize = 16;

/// Longest time between two polls of the feed: a picture may be due sooner than the one before announced.
const POLL_MAX: Duration = Duration::from_millis(40);

/// Shortest time between two polls: the resolution of tokio's timer.
const POLL_MIN: Duration = Duration::from_millis(1);

/// Time between two polls while the next picture is overdue. Stations deliver pictures long before they are due, so this
/// station hangs or is overloaded, perhaps for seconds.
const POLL_OVERDUE: Duration = Duration::from_millis(5);

/// A picture on air. Its JPEG file is made when the first client is sent it, and then shared: a client that waits for the
/// picture may get a newer one instead.
#[derive(Debug, Clone)]
pub(super) struct Still {
    /// Counts the station's pictures modulo 2^32, from 1.
    pub(super) number: u32,
    pub(super) due: AirTime,
    station: StationId,
    jpeg: Jpeg,
    message: Arc<OnceLock<Bytes>>,
}

impl Still {
    /// The picture of `unit`; `None` if it is no picture.
    fn new(station: StationId, number: u32, unit: &Unit) -> Option<Still> {
        let jpeg = unit.jpeg()?.clone();
        Some(Still { number, due: unit.due.at, station, jpeg, message: Arc::default() })
    }

    /// The message that carries the picture to a wall.
    pub(super) fn message(&self) -> Bytes {
        self.message.get_or_init(|| self.encode()).clone()
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
    /// All numbers are in network byte order. `due` is in nanoseconds since the Unix epoch.
    fn encode(&self) -> Bytes {
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

/// The newest [`Still`] of a station.
pub(super) struct JpegCache {
    station: Arc<StationHandle>,
    clock: AirClock,
    /// `None` while no client is subscribed.
    newest: watch::Sender<Option<Still>>,
    running: Mutex<bool>,
}

impl JpegCache {
    pub(super) fn new(station: Arc<StationHandle>, clock: AirClock) -> JpegCache {
        JpegCache { station, clock, newest: watch::Sender::new(None), running: Mutex::default() }
    }

    /// Whether it shows this station, and not one before it of the same number.
    pub(super) fn is_of(&self, station: &Arc<StationHandle>) -> bool {
        Arc::ptr_eq(&self.station, station)
    }

    /// Receives the newest picture, the current one included. Nothing is queued: pictures that come faster than the
    /// receiver reads are dropped.
    pub(super) fn subscribe(self: &Arc<Self>) -> watch::Receiver<Option<Still>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut newest = self.newest.subscribe();
        if !*running {
            *running = true;
            tokio::spawn(self.clone().run());
        }
        newest.mark_changed();
        newest
    }

    #[expect(clippy::disallowed_methods, reason = "a shell: it waits for pictures that are due")]
    async fn run(self: Arc<Self>) {
        let mut last = None;
        loop {
            let unit = self.station.feed.at(self.clock.now());
            if let Some((number, unit)) =
                unit.filter(|&(number, _)| last.is_none_or(|(last, _)| last < number))
            {
                last = Some((number, unit.due.at + unit.due.interval));
                if let Some(still) = Still::new(self.station.spec().id, (number + 1) as u32, &unit) {
                    self.newest.send_replace(Some(still));
                }
            }
            let next = poll_after(last.map(|(_, over)| self.clock.until(over)));
            let unsubscribed = timeout(next, self.newest.closed()).await.is_ok();
            // When the station is gone, the last reference to this is dropped, and so the subscribers' streams end.
            if self.station.feed.is_closed() || unsubscribed && self.stop() {
                return;
            }
        }
    }

    /// Stops, unless a client has subscribed meanwhile.
    fn stop(&self) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if self.newest.receiver_count() > 0 {
            return false;
        }
        *running = false;
        // The next subscriber must not be sent this picture, which will be old by then.
        self.newest.send_replace(None);
        true
    }
}

/// Time until the next poll, if the next picture is due in `due`.
fn poll_after(due: Option<Duration>) -> Duration {
    match due {
        Some(Duration::ZERO) => POLL_OVERDUE,
        due => due.unwrap_or(POLL_MAX).clamp(POLL_MIN, POLL_MAX),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "in virtual time")]
mod tests {
    use super::*;
    use crate::headend::HeadEnd;
    use crate::lineup::Lineup;

    fn unit(at: AirTime) -> Unit {
        Unit::blank(at, Duration::from_millis(20), &b"scan"[..])
    }

    /// The first station of the shipped line-up. The test puts its pictures on air.
    fn bench() -> (Arc<HeadEnd>, StationId, Arc<JpegCache>) {
        let lineup = Lineup::load(std::path::Path::new("stations.toml")).unwrap();
        let id = lineup.stations[0].id;
        let (head_end, _) = HeadEnd::for_tests(lineup.stations, None);
        let cache = JpegCache::new(head_end.station(id).unwrap(), head_end.clock.clone());
        (head_end, id, Arc::new(cache))
    }

    #[tokio::test]
    async fn a_station_that_pauses_leaves_no_number_out() {
        let (head_end, id, cache) = bench();
        let mut newest = cache.subscribe();
        newest.mark_unchanged();
        let start = head_end.clock.now() - Duration::from_secs(240);
        let mut seen = async || {
            newest.changed().await.unwrap();
            newest.borrow_and_update().as_ref().map(|still| still.number)
        };
        // Their interval is 20 ms but their due times are a minute apart: the film hung, or it plays by its time stamps.
        for n in 0..3 {
            head_end.show(id, unit(start + Duration::from_secs(60) * n));
            assert_eq!(seen().await, Some(n + 1));
        }
        // Of two that are due at once, only the newer is seen.
        head_end.show(id, unit(start + Duration::from_secs(180)));
        head_end.show(id, unit(start + Duration::from_secs(181)));
        assert_eq!(seen().await, Some(5));
    }

    #[tokio::test]
    async fn a_file_is_made_when_it_is_first_sent_and_then_shared() {
        let (head_end, id, cache) = bench();
        let mut newest = cache.subscribe();
        newest.mark_unchanged();
        head_end.show(id, unit(head_end.clock.now() - Duration::from_secs(1)));
        newest.changed().await.unwrap();
        let still = newest.borrow_and_update().clone().unwrap();
        assert!(still.message.get().is_none(), "no client is sent it");
        let other = cache.subscribe().borrow().clone().unwrap();
        assert_eq!(still.message().as_ptr(), other.message().as_ptr());
    }

    #[test]
    fn the_feed_is_polled_when_a_picture_is_due_and_seldom_after_that() {
        let millis = Duration::from_millis;
        for (due, wait) in [(None, 40), (Some(200), 40), (Some(33), 33), (Some(1), 1), (Some(0), 5)] {
            assert_eq!(poll_after(due.map(millis)), millis(wait), "{due:?}");
        }
        assert_eq!(poll_after(Some(Duration::from_micros(3))), POLL_MIN);
    }

    #[test]
    fn a_message_is_a_header_and_a_file() {
        let still = Still::new(StationId(0x0102), 0x0304_0506, &unit(AirTime(0x0708_090a))).unwrap();
        let header = [1, 0, 1, 2, 3, 4, 5, 6, 0, 0, 0, 0, 7, 8, 9, 10];
        assert_eq!(still.message()[..HEADER], header);
        assert_eq!(still.message()[HEADER..], still.file());
        assert_eq!(still.file(), unit(AirTime(0)).jpeg().unwrap().to_jfif());
    }
}
