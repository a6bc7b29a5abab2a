//! Announcements, so that nothing on the network has to be configured: each station to players, by SAP (RFC 2974), and the
//! directory to viewers, by multicast DNS (RFC 6762).
//!
//! Only `daemon` imports it. It imports `headend`, `directory`, `lineup`, `interface`, `net` and `wire`.

mod mdns;
mod sap;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::headend::HeadEnd;
use crate::lineup::Lineup;
use mdns::Service;

/// The host name under which a directory on `port` is announced.
pub(crate) fn host_name(port: u16) -> String {
    mdns::host_name(port)
}

/// The parts of the broadcaster that are announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcements {
    stations: bool,
    directory: Option<Service>,
}

impl Announcements {
    /// For `lineup`, whose directory listens on `directory`.
    pub fn new(lineup: &Lineup, directory: Option<SocketAddr>) -> Announcements {
        let directory = directory.filter(|_| lineup.announce.mdns);
        let directory = directory.and_then(|at| Service::new(at, lineup));
        Announcements { stations: lineup.announce.sap, directory }
    }
}

/// Announces what is `wanted`, whatever that is, until the head-end stops, then withdraws the announcements.
pub(crate) async fn announce(wanted: watch::Receiver<Announcements>, head_end: Arc<HeadEnd>) {
    tokio::join!(announce_stations(wanted.clone(), &head_end), announce_directory(wanted, &head_end));
}

async fn announce_stations(mut wanted: watch::Receiver<Announcements>, head_end: &Arc<HeadEnd>) {
    loop {
        let is_on = wanted.borrow_and_update().stations;
        let end = end_of(&mut wanted, head_end, |wanted| wanted.stations == is_on);
        if if is_on { sap::announce(head_end.clone(), end).await } else { end.await } {
            return;
        }
    }
}

async fn announce_directory(mut wanted: watch::Receiver<Announcements>, head_end: &Arc<HeadEnd>) {
    loop {
        let service = wanted.borrow_and_update().directory.clone();
        let end = end_of(&mut wanted, head_end, |wanted| wanted.directory == service);
        let stopping = match &service {
            Some(service) => mdns::announce(service, head_end.clone(), end).await,
            None => end.await,
        };
        if stopping {
            return;
        }
    }
}

/// Waits until something else is wanted than is the `same`. Returns true at the end of the head-end.
async fn end_of(
    wanted: &mut watch::Receiver<Announcements>,
    head_end: &HeadEnd,
    same: impl Fn(&Announcements) -> bool,
) -> bool {
    tokio::select! {
        () = head_end.stopping() => true,
        Ok(_) = wanted.wait_for(|wanted| !same(wanted)) => false,
        // Nothing changes any more.
        else => true,
    }
}
