//! The head-end: all stations of a broadcaster, as its servers and announcements see them.
//!
//! - [`handle`]: one station: its configuration, its feed, its counters.
//! - [`feed`]: a station's units for subscribers.
//! - [`counters`]: the counters of a station's task, and the reports in the log.
//! - `orders`: what operators have a station do during an event;
//! - `on_now`: what is on, told to the directory;
//! - `guides`: the films of a span, told to the directory;
//! - `publishers`: who publishes, and the stations that are made by publishing.
//! - `sounds`: the sound of the stations, for the directory;
//! - `key_book`: the keys of an encrypted station, for the directory and for SDP;
//! - `signers`: the public keys of signed stations, for the directory;
//! - `others`: the stations as a mosaic sees them;
//! - [`clients`]: the clients that are served by unicast.
//! - [`describe`](mod@describe): a station as SDP.
//!
//! Imported by `station`, which fills it, by `rtsp`, `web` and `announce`, which read it, and by `daemon`. It imports `air`,
//! `content`, `directory` (the table of stations), `lineup`, `media`, `wire`, `interface`, `net` and `clock`.

pub mod clients;
pub mod counters;
pub mod describe;
pub mod feed;
mod guides;
pub mod handle;
mod key_book;
pub(crate) mod live_units;
mod on_now;
mod orders;
mod others;
pub(crate) mod publishers;
mod signers;
mod sounds;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use tokio::sync::watch;

use crate::access::{Gatekeeper, Grant};
use crate::air::Air;
use crate::clock::AirClock;
use crate::content::catalogue::Catalogue;
use crate::content::programme::{NotPlayable, Programme};
use crate::content::worker::Threads;
use crate::directory::Gate;
use crate::directory::{StationInfo, StationTable};
#[cfg(test)]
use crate::interface::interfaces;
use crate::lineup::StationSpec;
use crate::media::{AirTime, StationId};
use crate::net::Network;
use crate::tls::Security;
use crate::wire::signature::SigningKey;
pub use clients::{Client, ClientKind, Clients};
pub(crate) use handle::SyncSource;
pub use handle::{Reporting, StationHandle};
pub(crate) use orders::NumberedOrder;
pub use orders::{Interlude, OrderRefused, StationOrder};
pub(crate) use publishers::Publishers;

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
    /// Lets clients in.
    pub gatekeeper: Arc<Gatekeeper>,
    /// The key by which stations sign their pictures.
    pub signing_key: Arc<SigningKey>,
    /// What RTSP takes, which its addresses tell.
    pub rtsp_security: Security,
    /// The films and their reels.
    pub(crate) catalogue: Arc<Catalogue>,
    /// Turns true once, when the broadcaster stops.
    pub(crate) stop: watch::Receiver<bool>,
    /// This machine's network.
    pub(crate) network: Network,
    /// The threads on which stations do blocking work.
    pub(crate) threads: Threads,
    /// The publishers.
    pub(crate) publishers: Publishers,
    pub(crate) handles: watch::Sender<Arc<Handles>>,
}

/// The stations by their numbers.
pub type Handles = BTreeMap<StationId, Arc<StationHandle>>;

/// A table of handles for `stations`.
pub(crate) fn handles(stations: impl IntoIterator<Item = StationSpec>) -> watch::Sender<Arc<Handles>> {
    let handles = stations.into_iter().map(|spec| (spec.id, Arc::new(StationHandle::new(spec))));
    watch::Sender::new(Arc::new(handles.collect()))
}

impl HeadEnd {
    /// Tells the directory of the stations' sound, films and signatures, and which stations a client may see.
    pub(crate) fn tell_directory(self: &Arc<HeadEnd>) {
        self.table
            .set_gate(HeadEndGate { head_end: Arc::downgrade(self), gatekeeper: self.gatekeeper.clone() });
        self.table.set_sounds(sounds::HeadEndSounds(Arc::downgrade(self)));
        self.table.set_keys(key_book::HeadEndKeys(Arc::downgrade(self)));
        self.table.set_signers(signers::HeadEndSigners(Arc::downgrade(self)));
        self.table.set_guides(guides::HeadEndGuides(Arc::downgrade(self)));
    }

    /// The stations that a client with this grant may see, ascending by number.
    pub fn stations_for(&self, grant: &Grant) -> Vec<Arc<StationHandle>> {
        let seen = |station: &&Arc<StationHandle>| station.spec().is_open_to(grant);
        self.handles.borrow().values().filter(seen).cloned().collect()
    }

    /// All stations there are now, ascending by number.
    pub fn stations(&self) -> Arc<Handles> {
        self.handles.borrow().clone()
    }

    /// A station; `None` if there is none of that number now.
    pub fn station(&self, id: StationId) -> Option<Arc<StationHandle>> {
        self.handles.borrow().get(&id).cloned()
    }

    /// Receives all stations whenever one is added, removed or changed.
    pub fn station_changes(&self) -> watch::Receiver<Arc<Handles>> {
        self.handles.subscribe()
    }

    /// Adds and removes stations, in one step. A station is changed by a new handle of its number. All other stations stay on
    /// air as they are.
    pub fn change_stations(&self, change: impl FnOnce(&mut Handles)) {
        self.handles.send_modify(|handles| change(Arc::make_mut(handles)));
    }

    /// The films and folders of films of all stations there are now.
    fn media(&self) -> HashSet<PathBuf> {
        let mut media = HashSet::new();
        for station in self.stations().values() {
            let spec = station.spec();
            let timed = spec.at.iter().flat_map(|timed| timed.media.films());
            media.extend(spec.media.films().iter().chain(timed).chain(&spec.fallback).cloned());
        }
        media
    }

    /// Drops all that is kept of stations and films that have left the line-up, as after a reload. Takes some milliseconds if
    /// there are thousands of films.
    pub(crate) fn forget_gone(&self) {
        self.catalogue.recordings().forget_gone(|id| self.station(id).is_some());
        self.catalogue.forget_gone(&self.media());
        let groups = self.stations().values().map(|station| station.spec().group).collect();
        self.catalogue.phases().forget_gone(&groups);
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
        let size = self.entry(station.spec().id).and_then(|entry| entry.size);
        Programme::look_up(&self.catalogue, &station.spec(), size)
    }

    /// Waits until the broadcaster stops.
    pub async fn stopping(&self) {
        let mut stop = self.stop.clone();
        let _ = stop.wait_for(|&stop| stop).await;
    }
}

/// The directory's decision which stations a client may see.
struct HeadEndGate {
    head_end: Weak<HeadEnd>,
    gatekeeper: Arc<Gatekeeper>,
}

impl Gate for HeadEndGate {
    fn allows(&self, id: StationId, grant: &Grant) -> bool {
        let station = self.head_end.upgrade().and_then(|head_end| head_end.station(id));
        station.is_some_and(|station| station.spec().is_open_to(grant))
    }

    fn gatekeeper(&self) -> &Gatekeeper {
        &self.gatekeeper
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
        let head_end = HeadEnd {
            air: Air::start(clock.clone()).unwrap(),
            table: StationTable::new(),
            clients: Clients::default(),
            since: clock.now(),
            gatekeeper: Arc::default(),
            signing_key: Arc::default(),
            rtsp_security: Security::Plain,
            catalogue: Arc::new(Catalogue::new(clock.clone(), store)),
            stop: stopped,
            network: Network::of_this_machine(watch::channel(interfaces().unwrap().into()).1),
            threads: Threads::default(),
            publishers: Publishers::default(),
            handles: handles(stations),
            clock,
        };
        (Arc::new(head_end), stop)
    }

    /// Pushes a unit into a station's feed.
    #[expect(clippy::disallowed_methods, reason = "a shell: status is of this moment")]
    pub(crate) fn show(&self, id: StationId, unit: crate::media::Unit) {
        let station = &self.handles.borrow()[&id];
        let feed = match unit.track() {
            crate::media::Track::Picture => &station.feed,
            crate::media::Track::Sound => &station.sound_feed,
        };
        feed.push(unit, self.clock.now());
    }
}
