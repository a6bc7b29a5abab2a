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
use crate::content::playlist;
use crate::content::reel::Reel;
use crate::content::worker::Threads;
use crate::directory::{StationInfo, StationTable};
#[cfg(test)]
use crate::interface::interfaces;
use crate::lineup;
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

/// Why a station's programme cannot be played on demand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRecorded {
    /// The station keeps no reels.
    #[error("this station keeps no reels (`reel = false`, or there is no folder for them)")]
    Never,
    /// Some film has not been on air to its end yet, so it has no reel.
    #[error("not all films of this station are recorded yet")]
    NotYet,
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

    /// The reels of all films of a station, in the order of its programme, at least one. Blocks: a film that is new is read and
    /// hashed, since a reel is found by the film's content.
    ///
    /// # Errors
    /// Some film has no reel.
    pub fn reels(&self, station: &StationHandle) -> Result<Vec<Arc<Reel>>, NotRecorded> {
        if !station.spec.reel || !self.catalogue.keeps_reels() {
            return Err(NotRecorded::Never);
        }
        let films = lineup::films(&station.spec.media).map_err(|_| NotRecorded::NotYet)?;
        // The size on air, since the first film, which determines the size, may not open any more.
        let size = self.entry(station.spec.id).and_then(|entry| entry.size);
        let (items, _) = playlist::look_up(&self.catalogue, &station.spec, size, films);
        let reels: Option<Vec<_>> = items.into_iter().map(|item| item.reel).collect();
        reels.filter(|reels| !reels.is_empty()).ok_or(NotRecorded::NotYet)
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
    #[expect(clippy::disallowed_methods, reason = "a shell: status is of this moment")]
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
    #[expect(clippy::disallowed_methods, reason = "a shell: status is of this moment")]
    pub(crate) fn show(&self, id: StationId, unit: crate::media::Unit) {
        self.handles[&id].feed.push(unit, self.clock.now());
    }
}
