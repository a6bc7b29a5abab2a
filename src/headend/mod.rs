//! The head-end: all stations of a broadcaster, as its servers and announcements see them.
//!
//! - [`handle`]: one station: its configuration, its feed, its counters.
//! - [`feed`]: a station's units for subscribers.
//! - [`counters`]: the counters of a station's task, and the reports in the log.
//! - [`clients`]: the clients that are served by unicast.
//! - [`describe`](mod@describe): a station as SDP.
//!
//! Imported by `station`, which fills it, by `rtsp`, `web` and `announce`, which read it, and by `daemon`. It imports `air`,
//! `content`, `directory` (the table of stations), `lineup`, `media`, `wire`, `interface`, `net` and `clock`.

pub mod clients;
pub mod counters;
pub mod describe;
pub mod feed;
pub mod handle;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::air::Air;
use crate::clock::AirClock;
use crate::content::catalogue::Catalogue;
use crate::content::programme::{NotPlayable, Programme};
use crate::content::worker::Threads;
use crate::directory::{StationInfo, StationTable};
#[cfg(test)]
use crate::interface::interfaces;
#[cfg(test)]
use crate::lineup::StationSpec;
use crate::media::{AirTime, StationId};
use crate::net::Network;
pub use clients::{Client, ClientKind, Clients};
pub use handle::StationHandle;

/// All stations of a broadcaster, and what they share.
pub struct HeadEnd {
    /// The broadcast clock.
    pub clock: AirClock,
    /// The air thread.
    pub air: Air,
    /// The stations as the directory lists them, their audiences included.
    pub table: Arc<StationTable>,
    /// The clients that are served by unicast.
    pub clients: Clients,
    /// When the broadcaster started.
    pub since: AirTime,
    /// The films and their reels.
    pub(crate) catalogue: Arc<Catalogue>,
    /// Turns true once, when the broadcaster stops.
    pub(crate) stop: watch::Receiver<bool>,
    /// This machine's network.
    pub(crate) network: Network,
    /// The threads on which stations do blocking work.
    pub(crate) threads: Threads,
    pub(crate) handles: BTreeMap<StationId, Arc<StationHandle>>,
}

impl HeadEnd {
    /// All stations, ascending by number.
    pub fn stations(&self) -> impl Iterator<Item = &Arc<StationHandle>> {
        self.handles.values()
    }

    /// A station; `None` if the line-up has none of that number.
    pub fn station(&self, id: StationId) -> Option<&Arc<StationHandle>> {
        self.handles.get(&id)
    }

    /// A station as the directory lists it now, its audience included.
    pub fn entry(&self, id: StationId) -> Option<StationInfo> {
        self.table.entry(id)
    }

    /// The films of a station for a client on demand. Blocks.
    ///
    /// # Errors
    /// No film can be played.
    pub(crate) fn programme(&self, station: &StationHandle) -> Result<Programme, NotPlayable> {
        // The size on air, since the first film, which determines the size, may not open any more.
        let size = self.entry(station.spec.id).and_then(|entry| entry.size);
        Programme::look_up(&self.catalogue, &station.spec, size)
    }

    /// Waits until the broadcaster stops.
    pub async fn stopping(&self) {
        let mut stop = self.stop.clone();
        let _ = stop.wait_for(|&stop| stop).await;
    }
}

#[cfg(test)]
impl HeadEnd {
    /// A head-end whose stations show only what a test [shows](Self::show), with the reels of `store`. It stops when `true` is
    /// sent.
    pub(crate) fn for_tests(
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

    /// Pushes a unit into a station's feed.
    pub(crate) fn show(&self, id: StationId, unit: crate::media::Unit) {
        self.handles[&id].feed.push(unit, self.clock.now());
    }
}
