//! The clients that are served by unicast: by RTSP, as an MJPEG stream, as a tile of the wall.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::media::StationId;

/// All unicast clients, for the metrics.
#[derive(Debug, Default)]
pub struct Clients(Mutex<ClientList>);

#[derive(Debug, Default)]
struct ClientList {
    /// Number of clients so far.
    count: u64,
    /// The clients, and some that are gone.
    list: Vec<Weak<Client>>,
    /// Length of the list at which clients that are gone are removed. Twice the length after the last removal, so that the
    /// amortized cost of a new client is constant.
    sweep_at: usize,
}

/// Least length of the list at which clients that are gone are removed.
const MIN_SWEEP: usize = 64;

/// A client that is served by unicast, and its counters.
#[derive(Debug)]
pub struct Client {
    /// Numbers clients in the order in which they came, from 1. One connection may be several clients.
    pub number: u64,
    /// The station that the client is sent.
    pub station: StationId,
    /// The client's address.
    pub peer: SocketAddr,
    /// How the client is served.
    pub kind: ClientKind,
    /// Pictures sent whole.
    pub pictures: AtomicU64,
    /// Pictures dropped because the client was slow.
    pub dropped: AtomicU64,
    /// Packets lost in the whole session, by the client's last receiver report (RFC 3550 section 6.4.1).
    pub lost: AtomicU64,
    /// Share of packets lost since the report before, in 256ths, by the client's last receiver report.
    pub fraction_lost: AtomicU32,
    /// Interarrival jitter, in units of 1/90000 s, by the client's last receiver report.
    pub jitter: AtomicU32,
}

/// How a client is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientKind {
    /// RTP over UDP, set up by RTSP.
    RtspUdp,
    /// RTP interleaved in the RTSP connection.
    RtspTcp,
    /// MJPEG over HTTP, as `multipart/x-mixed-replace`.
    Mjpeg,
    /// Pictures and sound over HTTP, as live Matroska.
    Matroska,
    /// A tile of the wall, by its WebSocket.
    Wall,
}

impl Clients {
    /// Adds a client. It is gone when the last clone of the returned `Arc` is dropped.
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
            clients.sweep_at = (2 * clients.list.len()).max(MIN_SWEEP);
        }
        clients.list.push(Arc::downgrade(&client));
        client
    }

    /// The clients there are now, in the order in which they came.
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
        assert!(length() <= 2 * 10_000 + MIN_SWEEP);
        drop(staying);
        for _ in 0..2 * length() {
            drop(enter());
        }
        assert!(length() <= MIN_SWEEP);
    }
}
