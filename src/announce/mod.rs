//! Announcements: each station to players, by SAP; the directory to viewers, by multicast DNS. Who is on the network
//! needs to be told nothing.
//!
//! - `stations`: when the packets of SAP are sent;
//! - `directory`: the service that viewers look for.

mod directory;
mod stations;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::headend::HeadEnd;
use crate::lineup::Lineup;
use directory::Service;

/// What is announced, and where.
#[derive(Debug)]
pub struct Announced {
    stations: bool,
    directory: Option<Service>,
}

impl Announced {
    /// What a line-up wants announced, where the directory listens on `directory`.
    pub fn new(lineup: &Lineup, directory: Option<SocketAddr>) -> Announced {
        let directory = directory.filter(|_| lineup.announce.mdns);
        let directory = directory.and_then(|at| Service::new(at, lineup));
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
