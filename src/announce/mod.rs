//! Announcements, so that nothing on the network has to be configured: each station to players, by SAP (RFC 2974), and the
//! directory to viewers, by multicast DNS (RFC 6762).
//!
//! Only `daemon` imports it. It imports `headend`, `directory`, `lineup`, `interface`, `net` and `wire`.

mod mdns;
mod sap;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::headend::HeadEnd;
use crate::lineup::Lineup;
use mdns::Service;

/// The host name under which a directory on `port` is announced.
pub(crate) fn host_name(port: u16) -> String {
    mdns::host_name(port)
}

/// Announces what a line-up wants announced.
#[derive(Debug)]
pub struct Announcer {
    stations: bool,
    directory: Option<Service>,
}

impl Announcer {
    /// For `lineup`, whose directory listens on `directory`.
    pub fn new(lineup: &Lineup, directory: Option<SocketAddr>) -> Announcer {
        let directory = directory.filter(|_| lineup.announce.mdns);
        let directory = directory.and_then(|at| Service::new(at, lineup));
        Announcer { stations: lineup.announce.sap, directory }
    }

    /// Announces until the head-end stops, then withdraws the announcements.
    pub async fn run(self, head_end: Arc<HeadEnd>) {
        let stations = async {
            if self.stations {
                sap::announce(head_end.clone()).await;
            }
        };
        let directory = async {
            if let Some(service) = self.directory {
                mdns::announce(service, head_end.clone()).await;
            }
        };
        tokio::join!(stations, directory);
    }
}
