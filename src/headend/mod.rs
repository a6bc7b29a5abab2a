//! The head-end: all stations of a broadcaster, as its other outputs see them: RTSP, the web, announcements, metrics.

pub mod describe;
pub mod feed;
pub mod report;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;

use crate::air::{Air, AirCounters};
use crate::clock::AirClock;
use crate::content::catalogue::Catalogue;
use crate::content::playlist;
use crate::content::reel::Reel;
use crate::content::worker::Threads;
use crate::directory::{StationInfo, StationTable};
use crate::interface::Interface;
#[cfg(test)]
use crate::interface::interfaces;
use crate::lineup::{self, StationSpec};
use crate::media::{AirTime, FrameRate, StationId};
use crate::net::Network;
use feed::Feed;
use report::Counters;

/// What all stations of a broadcaster share, and what they show and count.
pub struct HeadEnd {
    /// The broadcast clock.
    pub clock: AirClock,
    /// The thread that sends.
    pub air: Air,
    /// What the directory tells, the audience included.
    pub table: Arc<StationTable>,
    /// Who is served alone, by unicast.
    pub clients: Clients,
    /// When it came on air.
    pub since: AirTime,
    /// What is known of the films.
    pub(crate) catalogue: Arc<Catalogue>,
    /// Turns true once, when the broadcaster stops.
    pub(crate) stop: watch::Receiver<bool>,
    /// This machine's network.
    pub(crate) network: Network,
    /// Where stations do what may block.
    pub(crate) threads: Threads,
    pub(crate) handles: BTreeMap<StationId, Arc<StationHandle>>,
}

/// What one station shows and counts. It outlives the station's task.
#[derive(Debug)]
pub struct StationHandle {
    /// As it was configured.
    pub spec: Arc<StationSpec>,
    /// Its pictures.
    pub feed: Feed,
    /// What the air thread has counted.
    pub air: Arc<AirCounters>,
    /// What the station's task has counted.
    pub task: Arc<Counters>,
    /// Of the film that is on, or was on last.
    film_rate: Mutex<Option<FrameRate>>,
    /// The interface that it is sent by now.
    interface: Mutex<Option<Interface>>,
}

impl StationHandle {
    pub(crate) fn new(spec: StationSpec) -> StationHandle {
        let spec = Arc::new(spec);
        let (air, task) = (Arc::default(), Arc::default());
        StationHandle {
            spec,
            feed: Feed::default(),
            air,
            task,
            film_rate: Mutex::default(),
            interface: Mutex::default(),
        }
    }

    /// A film of that rate is on.
    pub(crate) fn shows_film(&self, rate: FrameRate) {
        *self.film_rate.lock().unwrap_or_else(PoisonError::into_inner) = Some(rate);
    }

    /// The rate of the film that is on, or was on last: a slate's is nobody's, players would see another session come
    /// and go. `None` before the first film.
    pub fn film_rate(&self) -> Option<FrameRate> {
        *self.film_rate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is sent by that interface from now on; by none when that is `None`.
    pub(crate) fn set_interface(&self, interface: Option<Interface>) {
        *self.interface.lock().unwrap_or_else(PoisonError::into_inner) = interface;
    }

    /// The interface that it is sent by now; `None` while the one that was configured has no address to send from.
    pub fn interface(&self) -> Option<Interface> {
        self.interface.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The address that it is sent from now; `None` while there is none.
    pub fn source(&self) -> Option<IpAddr> {
        self.interface()?.source(self.spec.group.ip())
    }

    /// The station on its group as SDP.
    pub fn sdp(&self) -> String {
        describe::describe(&self.spec, self.source(), self.film_rate())
    }
}

/// Why a station's programme cannot be had from its beginning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRecorded {
    /// It keeps no reels.
    #[error("this station keeps no reels (`reel = false`, or there is no folder for them)")]
    Never,
    /// Some film has not been on air to its end yet.
    #[error("not all films of this station are recorded yet")]
    NotYet,
}

impl HeadEnd {
    /// All stations, ascending by number.
    pub fn stations(&self) -> impl Iterator<Item = &Arc<StationHandle>> {
        self.handles.values()
    }

    /// A station; `None` where the line-up has none of that number.
    pub fn station(&self, id: StationId) -> Option<&Arc<StationHandle>> {
        self.handles.get(&id)
    }

    /// What the directory says of a station now, its audience included.
    pub fn entry(&self, id: StationId) -> Option<StationInfo> {
        self.table.entry(id)
    }

    /// The reels of all films of a station, in the order of the programme, at least one. Blocks: films that are new
    /// are read to know what they are.
    ///
    /// # Errors
    /// There is not a reel of each.
    pub fn reels(&self, station: &StationHandle) -> Result<Vec<Arc<Reel>>, NotRecorded> {
        if !station.spec.reel || !self.catalogue.keeps_reels() {
            return Err(NotRecorded::Never);
        }
        let films = lineup::films(&station.spec.media).map_err(|_| NotRecorded::NotYet)?;
        // The size that it has on air: its first film may not open any more.
        let size = self.entry(station.spec.id).and_then(|entry| entry.size);
        let (items, _) = playlist::look_up(&self.catalogue, &station.spec, size, films);
        let reels: Option<Vec<_>> = items.into_iter().map(|item| item.reel).collect();
        reels.filter(|reels| !reels.is_empty()).ok_or(NotRecorded::NotYet)
    }

    /// Is ready when the broadcaster stops.
    pub async fn stopping(&self) {
        let mut stop = self.stop.clone();
        let _ = stop.wait_for(|&stop| stop).await;
    }
}

#[cfg(test)]
impl HeadEnd {
    /// Stations that show what they are [shown](Self::show), and films that have reels in a store: for the tests of what
    /// is served. It stops when `true` is sent.
    pub(crate) fn on_the_bench(
        stations: Vec<StationSpec>,
        store: Option<(crate::content::reel::Store, &std::path::Path)>,
    ) -> (Arc<HeadEnd>, watch::Sender<bool>) {
        let clock = AirClock::start();
        let (stop, stopped) = watch::channel(false);
        let handles = stations.into_iter().map(|spec| (spec.id, Arc::new(StationHandle::new(spec))));
        let head_end = HeadEnd {
            air: Air::start(clock.clone()).unwrap(),
            table: StationTable::new(),
            clients: Clients::default(),
            since: clock.now(),
            catalogue: Arc::new(Catalogue::new(clock.clone(), store)),
            stop: stopped,
            network: Network::of_this_machine(watch::channel(interfaces().unwrap().into()).1),
            threads: Threads::default(),
            handles: handles.collect(),
            clock,
        };
        (Arc::new(head_end), stop)
    }

    /// Puts a unit on air, for its subscribers only.
    pub(crate) fn show(&self, id: StationId, unit: crate::media::Unit) {
        self.handles[&id].feed.push(unit, self.clock.now());
    }
}

/// Everybody who is served alone, for the metrics.
#[derive(Debug, Default)]
pub struct Clients(Mutex<Entered>);

#[derive(Debug, Default)]
struct Entered {
    /// How many there have ever been.
    count: u64,
    list: Vec<Weak<Client>>,
    /// At this length those who have gone are taken out. It is twice what was left the last time, so that entering costs
    /// the same however many there are.
    sweep_at: usize,
}

/// The list of clients is not swept while it is shorter.
const SWEEP: usize = 64;

/// Who is served alone, and how that goes.
#[derive(Debug)]
pub struct Client {
    /// Counts those who came, from 1: one connection may be several clients.
    pub number: u64,
    /// What they watch.
    pub station: StationId,
    /// Where they are.
    pub peer: SocketAddr,
    /// How they are served.
    pub kind: ClientKind,
    /// Whole pictures sent.
    pub pictures: AtomicU64,
    /// Pictures left out because the client was slow.
    pub dropped: AtomicU64,
    /// Packets lost on the way, by its receiver reports (RFC 3550 section 6.4.1), of the whole session.
    pub lost: AtomicU64,
    /// The share of packets lost lately, in 256ths, by its last receiver report.
    pub fraction_lost: AtomicU32,
    /// Interarrival jitter in units of 1/90000 s, by its last receiver report.
    pub jitter: AtomicU32,
}

/// How a client is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientKind {
    /// RTP over UDP, set up by RTSP.
    RtspUdp,
    /// RTP in the RTSP connection.
    RtspTcp,
    /// `multipart/x-mixed-replace`.
    Mjpeg,
    /// The wall's WebSocket.
    Wall,
}

impl Clients {
    /// Enters a client; it is gone when the last of what is returned is dropped.
    pub fn enter(&self, station: StationId, peer: SocketAddr, kind: ClientKind) -> Arc<Client> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        clients.count += 1;
        let client = Arc::new(Client {
            number: clients.count,
            station,
            peer,
            kind,
            pictures: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            fraction_lost: AtomicU32::new(0),
            jitter: AtomicU32::new(0),
        });
        if clients.list.len() >= clients.sweep_at {
            clients.list.retain(|client| client.strong_count() > 0);
            clients.sweep_at = (2 * clients.list.len()).max(SWEEP);
        }
        clients.list.push(Arc::downgrade(&client));
        client
    }

    /// All there are now, in the order in which they came.
    pub fn all(&self) -> Vec<Arc<Client>> {
        let clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        clients.list.iter().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_clients_is_bounded_and_seldom_walked() {
        let clients = Clients::default();
        let enter = || clients.enter(StationId(1), ([127, 0, 0, 1], 1).into(), ClientKind::Wall);
        let length = || clients.0.lock().unwrap().list.len();
        let (mut staying, mut walks) = (Vec::new(), 0);
        for _ in 0..10_000 {
            let before = length();
            staying.push(enter());
            walks += usize::from(length() <= before);
            drop(enter());
        }
        assert!(walks < 20, "{walks}");
        assert_eq!(clients.all().len(), 10_000);
        assert!(length() <= 2 * 10_000 + SWEEP);
        drop(staying);
        for _ in 0..2 * length() {
            drop(enter());
        }
        assert!(length() <= SWEEP);
    }
}
