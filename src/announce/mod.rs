//! Announcements: each station to players, by SAP; the directory to viewers, by multicast DNS. Who is on the network
//! needs to be told nothing.
//!
//! - [`describe()`]: a station as SDP: what SAP carries, `broadcaster sdp` prints and the web serves;
//! - `sap`: the packets (pure), `stations`: when they are sent;
//! - `directory`: the service that viewers look for.

mod describe;
mod directory;
mod sap;
mod stations;

use std::sync::Arc;

use crate::lineup::Lineup;
use crate::station::daemon::Listeners;
use crate::station::headend::HeadEnd;
use directory::Service;

pub(crate) use describe::source;
pub use describe::{describe, first_rate};

/// What is announced, and where.
#[derive(Debug)]
pub struct Announced {
    stations: bool,
    directory: Option<Service>,
}

impl Announced {
    /// What a line-up wants announced.
    pub fn new(lineup: &Lineup, listeners: &Listeners) -> Announced {
        let directory = listeners.directory.local_addr().ok().filter(|_| lineup.announce.mdns);
        let directory = directory.and_then(|at| Service::new(at, &lineup.stations, lineup.rtsp, lineup.http));
        Announced { stations: lineup.announce.sap, directory }
    }
}

/// Announces until the head-end stops, then takes it back.
pub async fn announce(announced: Announced, head_end: Arc<HeadEnd>) {
    let stations = async {
        if announced.stations {
            stations::announce(head_end.clone()).await;
        }
    };
    let directory = async {
        if let Some(service) = announced.directory {
            directory::announce(service, head_end.clone()).await;
        }
    };
    tokio::join!(stations, directory);
}
