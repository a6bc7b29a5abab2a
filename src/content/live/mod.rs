//! A live source: its pictures as they come, passed on unchanged where RTP/JPEG can carry them.
//!
//! A source that is lost is sought again at once, while its last picture stays for 2 s. Then the station shows its slate, and
//! tries again as with films.

pub(crate) mod arrivals;
mod connection;
mod multipart;
mod pacing;
mod picture;
pub(crate) mod publication;
pub(crate) mod published;
mod rate;
pub(crate) mod sender_clocks;
pub(crate) mod track_reader;

use std::collections::VecDeque;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info};

use super::encode::{Encoded, Encoder};
use super::slate::clock_text;
use super::worker::{BlockingWorker, STUCK_AFTER, Threads};
use super::{ContentEvent, ContentKind, Fault};
use crate::clock::AirClock;
use crate::lineup::{LiveSource, StationSpec};
use crate::media::jpeg::Jpeg;
use crate::media::{AirTime, Due, FrameRate, Policy, REPEAT_RATE, Size, Unit};
use connection::{Arrival, Connection};
use pacing::{Pacing, Place};
use rate::RateMeter;

/// How long the last picture of a lost source stays. A source that sends no picture for so long is lost, unless its pictures
/// are farther apart.
const HOLD: Duration = Duration::from_secs(2);

/// A source of few pictures is lost after so many of its intervals,
const LOST_INTERVALS: u32 = 3;

/// but after this time at the latest. A source that was just found has as long for its first picture.
const LONGEST_HOLD: Duration = Duration::from_secs(10);

/// Between two attempts while the last picture stays.
const RECONNECT: Duration = Duration::from_millis(250);

/// After so many pictures in a row that cannot be shown the source is given up.
const MOST_DAMAGED: u32 = 25;

/// The pictures of a live source.
pub(crate) struct Live {
    spec: Arc<StationSpec>,
    source: LiveSource,
    clock: AirClock,
    /// The runtime of its connections.
    sockets: Handle,
    connection: Option<Connection>,
    pacing: Pacing,
    rate: RateMeter,
    /// Events that are already known, in order.
    events: VecDeque<ContentEvent>,
    /// The size and the rate that were told; `None` before the first picture, and after a slate.
    told: Option<(Size, FrameRate)>,
    /// The size of the last picture.
    size: Option<Size>,
    /// When the last good picture came, or when a connection was begun without one.
    last_good: Option<Instant>,
    /// Since when the source is lost: after it was on air.
    lost_since: Option<AirTime>,
    /// Whether a picture was given since this was asked last.
    played: bool,
    /// Pictures in a row that could not be shown.
    damaged: u32,
    /// How its pictures come on air, as last logged.
    logged: Option<String>,
    /// Looks up the source's name.
    lookup_worker: BlockingWorker,
    /// Decodes and encodes.
    encode_worker: BlockingWorker,
    /// `None` before the first picture that is encoded, while a blocking thread has it, or after it crashed or hung there.
    encoder: Option<Box<Encoder>>,
}

impl Live {
    /// The pictures of `source`, for the station of `spec`. `sockets` is a runtime that serves sockets.
    pub(crate) fn new(
        spec: Arc<StationSpec>,
        source: LiveSource,
        clock: AirClock,
        threads: Threads,
        sockets: Handle,
    ) -> Live {
        Live {
            spec,
            source,
            clock,
            sockets,
            connection: None,
            pacing: Pacing::default(),
            rate: RateMeter::default(),
            events: VecDeque::new(),
            told: None,
            size: None,
            last_good: None,
            lost_since: None,
            played: false,
            damaged: 0,
            logged: None,
            lookup_worker: BlockingWorker::new(threads.clone()),
            encode_worker: BlockingWorker::new(threads),
            encoder: None,
        }
    }

    /// From the next picture on, this configuration of the same station holds.
    pub(crate) fn set_spec(&mut self, spec: Arc<StationSpec>) {
        self.spec = spec;
    }

    /// The size of the last picture.
    pub(crate) fn size(&self) -> Option<Size> {
        self.size
    }

    /// Whether a picture was on air since this was asked last.
    pub(crate) fn take_played(&mut self) -> bool {
        std::mem::take(&mut self.played)
    }

    /// The next event. There always is one, or a fault.
    ///
    /// # Errors
    /// The source is lost, and was so for a while. The next call seeks it again.
    pub(crate) async fn next(&mut self) -> Result<ContentEvent, Fault> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            match self.arrival().await {
                Ok(arrival) => self.take(arrival).await?,
                Err(reason) => self.lose(reason).await?,
            }
        }
    }

    /// The next picture that arrives.
    ///
    /// # Errors
    /// Why there is none.
    #[expect(clippy::disallowed_methods, reason = "a shell: it does not wait for ever")]
    async fn arrival(&mut self) -> Result<Arrival, String> {
        let patience = match &self.told {
            Some((_, rate)) => (rate.interval() * LOST_INTERVALS).clamp(HOLD, LONGEST_HOLD),
            None => LONGEST_HOLD,
        };
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let addresses = self.addresses().await?;
                let connection =
                    Connection::begin(self.source.clone(), addresses, self.clock.clone(), &self.sockets);
                self.connection.insert(connection)
            }
        };
        let since = *self.last_good.get_or_insert_with(Instant::now);
        let arrival = match timeout_at(since + patience, connection.next()).await {
            Ok(arrival) => arrival,
            Err(_) => {
                Err(format!("{} sends no picture for {} s", self.source.authority(), patience.as_secs()))
            }
        };
        match connection.take_dropped() {
            0 => {}
            dropped => self.events.push_back(ContentEvent::Skipped(dropped)),
        }
        arrival
    }

    /// The addresses of the source.
    async fn addresses(&mut self) -> Result<Vec<SocketAddr>, String> {
        let (host, port) = (self.source.host().to_owned(), self.source.port());
        let look_up = move || (host.as_str(), port).to_socket_addrs().map(Vec::from_iter);
        match self.lookup_worker.call(STUCK_AFTER, look_up).await {
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(error)) => Err(format!("the name {} is not found: {error}", self.source.host())),
            Err(_) => Err(format!("the name {} is not found in time", self.source.host())),
        }
    }

    /// The source is lost, for this reason. While its last picture stays, it is sought again.
    ///
    /// # Errors
    /// The picture has stayed for long enough.
    #[expect(clippy::disallowed_methods, reason = "a shell: a source is lost now")]
    async fn lose(&mut self, reason: String) -> Result<(), Fault> {
        self.connection = None;
        let held = self.last_good.is_some_and(|last| last.elapsed() < HOLD);
        if self.told.is_some() {
            self.lost_since.get_or_insert_with(|| self.clock.now());
            debug!("station {}: {reason}", self.spec.id);
            if held {
                sleep(RECONNECT).await;
                return Ok(());
            }
        }
        (self.told, self.last_good, self.damaged) = (None, None, 0);
        (self.pacing, self.rate) = (Pacing::default(), RateMeter::default());
        Err(match self.lost_since {
            Some(since) => Fault::Lost { since: clock_text(since), reason },
            None => Fault::NoPicture(reason),
        })
    }

    /// Puts a picture on air, unless it is late or no picture.
    #[expect(clippy::disallowed_methods, reason = "a shell: it asks whether a picture is late")]
    async fn take(&mut self, arrival: Arrival) -> Result<(), Fault> {
        self.rate.count(arrival.at);
        let interval = self.rate.interval();
        let place = self.pacing.place(arrival.at, arrival.stamp, interval, self.spec.buffer);
        // Its first pictures tell the rate of a source, and how long they are on their way.
        if self.told.is_none() && !self.rate.is_known() {
            return Ok(());
        }
        let due = match place {
            Place::Due(at) => Due { at, interval: interval.min(REPEAT_RATE.interval()) },
            Place::Missed => return self.skip(),
        };
        if due.policy(self.clock.now()) != Policy::Air {
            return self.skip();
        }
        let (jpeg, squeezed) = match self.coded(arrival.body).await {
            Ok(coded) => coded,
            Err(reason) => {
                debug!("station {}: a picture cannot be shown: {reason}", self.spec.id);
                self.damaged += 1;
                if self.damaged >= MOST_DAMAGED {
                    let reason = format!("{} sends no pictures: {reason}", self.source.authority());
                    return self.lose(reason).await;
                }
                return self.skip();
            }
        };
        (self.damaged, self.last_good, self.lost_since, self.played) = (0, Some(Instant::now()), None, true);
        let rate = self.rate.rate();
        if self.told != Some((jpeg.size, rate)) {
            self.told = Some((jpeg.size, rate));
            self.size = Some(jpeg.size);
            self.events.push_back(ContentEvent::Begin { kind: ContentKind::Film, size: jpeg.size, rate });
        }
        self.events.push_back(ContentEvent::Unit { unit: Unit::picture(due, jpeg), squeezed });
        Ok(())
    }

    fn skip(&mut self) -> Result<(), Fault> {
        self.events.push_back(ContentEvent::Skipped(1));
        Ok(())
    }

    /// The coded picture in a part, and whether it has a lower quality than the station's.
    ///
    /// # Errors
    /// Why there is none.
    async fn coded(&mut self, body: bytes::Bytes) -> Result<(Jpeg, bool), String> {
        let file = picture::whole_file(&body)?;
        let (width, quality) = (self.spec.width, self.spec.quality);
        let reason = match picture::pass_on(&file, width) {
            Ok(jpeg) => {
                self.log("passed on as they are".into());
                return Ok((jpeg, false));
            }
            Err(reason) => reason,
        };
        let encoder = self.encoder.take();
        let encode = move || picture::encode_anew(&file, encoder, width, quality);
        let encoded =
            self.encode_worker.call(STUCK_AFTER, encode).await.map_err(|fault| fault.to_string())?;
        let (encoder, Encoded { jpeg, squeezed }) = encoded?;
        self.encoder = Some(encoder);
        self.log(format!("encoded anew: {reason}"));
        Ok((jpeg, squeezed))
    }

    /// Logs how pictures come on air, unless that is known.
    fn log(&mut self, how: String) {
        if self.logged.as_ref() != Some(&how) {
            let StationSpec { id, name, .. } = &*self.spec;
            info!("station {id} \"{name}\": the pictures of {} are {how}", self.source);
            self.logged = Some(how);
        }
    }
}

/// Takes a stream of this content type in pieces: nothing panics, memory is bounded, and what is passed on can be sent.
#[cfg(fuzzing)]
pub fn fuzz(content_type: &str, bytes: &[u8], piece: usize) {
    let Ok(mut multipart) = multipart::Multipart::new(content_type) else { return };
    for piece in bytes.chunks(piece.max(1)) {
        multipart.push(piece);
        loop {
            match multipart.next() {
                Ok(Some(part)) => {
                    let Ok(file) = picture::whole_file(&part.body) else { continue };
                    let Ok(jpeg) = picture::pass_on(&file, 2040) else { continue };
                    assert_eq!(picture::pass_on(&jpeg.to_jfif().into(), 2040).as_ref(), Ok(&jpeg));
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(multipart.held() <= multipart::MOST_PICTURE + piece.len());
    }
}
