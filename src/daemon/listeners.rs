//! The sockets on which clients reach the broadcaster, and how a reload changes them.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;

use crate::limits::ReplaceableListener;
use crate::lineup::{ListenerChange, collide};

/// Connections that wait to be accepted; the kernel caps it at `net.core.somaxconn`. If there is no room the kernel drops
/// the client's SYN, which is sent again after 1 s. With tokio's 1,024 and 1,500 hostile clients at one time, the slowest of
/// 58 answers of the directory took 1,009 ms; with this, the slowest of 56 took 511 ms. One run each, in a debug build.
const BACKLOG: u32 = 4096;

/// The sockets on which a broadcaster listens.
pub struct Listeners {
    /// For the directory.
    pub directory: TcpListener,
    /// For RTSP; `None` if it is not served.
    pub rtsp: Option<TcpListener>,
    /// For the web; `None` if it is not served.
    pub http: Option<TcpListener>,
}

/// Why nothing listens on an address.
#[derive(Debug)]
pub struct ListenError {
    address: SocketAddr,
    /// The section of the line-up that has the address.
    section: &'static str,
    error: io::Error,
}

impl ListenError {
    /// Whether another program has the address.
    pub fn is_taken(&self) -> bool {
        self.error.kind() == io::ErrorKind::AddrInUse
    }
}

impl std::error::Error for ListenError {}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ListenError { address, section, error } = self;
        match error.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "cannot listen on {address}, because another program does, perhaps a broadcaster; stop it, or choose another \
                 port for [{section}] listen in the line-up"
            ),
            io::ErrorKind::AddrNotAvailable => write!(
                f,
                "cannot listen on {address}: this machine does not have that address; choose another for [{section}] listen \
                 in the line-up"
            ),
            _ => write!(
                f,
                "cannot listen on {address}: {error}; [{section}] listen in the line-up chooses another address"
            ),
        }
    }
}

/// Listens on `address`, which is configured in `[section]` of the line-up.
///
/// # Errors
/// The system's: another program has the address, or this machine does not.
pub fn listen(address: SocketAddr, section: &'static str) -> Result<TcpListener, ListenError> {
    bind(address, false).map_err(|error| ListenError { address, section, error })
}

/// Listens on `address`. With `shares`, one of our own listeners may have it, too, or all addresses that it is one of.
fn bind(address: SocketAddr, shares: bool) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // After a restart, connections of the one before may still be closing.
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(shares)?;
    socket.bind(address)?;
    // The listener that replaces this one in a reload may share its address until this one is closed. Any other is refused that
    // does not ask to share, as this one would have been.
    socket.set_reuseport(true)?;
    socket.listen(BACKLOG)
}

/// Replaces the listeners of a broadcaster that runs.
pub(super) struct ListenerSwitch {
    directory: Replacements,
    rtsp: Replacements,
    http: Replacements,
}

type Replacements = mpsc::Sender<Option<TcpListener>>;

/// The listeners of a broadcaster, each of which may be replaced.
pub(super) struct Served {
    pub(super) directory: ReplaceableListener,
    pub(super) rtsp: ReplaceableListener,
    pub(super) http: ReplaceableListener,
}

/// Listeners that are bound, and replace others when they are [switched](ListenerSwitch::switch).
pub(super) struct Bound(Vec<(&'static str, Option<TcpListener>)>);

impl ListenerSwitch {
    pub(super) fn new(listeners: Listeners) -> (Served, ListenerSwitch) {
        let (directory, directory_next) = ReplaceableListener::new(Some(listeners.directory));
        let (rtsp, rtsp_next) = ReplaceableListener::new(listeners.rtsp);
        let (http, http_next) = ReplaceableListener::new(listeners.http);
        let switch = ListenerSwitch { directory: directory_next, rtsp: rtsp_next, http: http_next };
        (Served { directory, rtsp, http }, switch)
    }

    /// Binds the new listeners of `changes`.
    ///
    /// # Errors
    /// One cannot be bound. Then none is.
    pub(super) fn bind(changes: &[ListenerChange]) -> Result<Bound, ListenError> {
        let ours = |address: SocketAddr| changes.iter().any(|change| collide(change.old, Some(address)));
        let bound = changes.iter().map(|&ListenerChange { section, new, .. }| {
            let listener = new.map(|address| {
                let bound = bind(address, ours(address));
                bound.map_err(|error| ListenError { address, section, error })
            });
            Ok((section, listener.transpose()?))
        });
        bound.collect::<Result<_, _>>().map(Bound)
    }

    /// Has clients come to the new listeners from now on.
    pub(super) async fn switch(&self, bound: Bound) {
        for (section, listener) in bound.0 {
            let replacements = match section {
                "rtsp" => &self.rtsp,
                "http" => &self.http,
                _ => &self.directory,
            };
            // Nobody serves it any more while the broadcaster ends.
            let _ = replacements.send(listener).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_taken_but_for_the_listener_that_replaces_its_own() {
        let first = listen("127.0.0.1:0".parse().unwrap(), "http").unwrap();
        let old = first.local_addr().unwrap();
        let all = SocketAddr::new([0, 0, 0, 0].into(), old.port());
        for address in [old, all] {
            let refused = listen(address, "http").unwrap_err();
            assert!(refused.is_taken());
            let sentence = format!(
                "cannot listen on {address}, because another program does, perhaps a broadcaster; stop it, or choose another port for [http] listen in the line-up"
            );
            assert_eq!(refused.to_string(), sentence);
        }
        let change = |old, new| ListenerChange { section: "http", old, new };
        assert!(ListenerSwitch::bind(&[change(None, Some(all))]).is_err(), "it is another program's");
        let bound = ListenerSwitch::bind(&[change(Some(old), Some(all))]).unwrap();
        drop(first);
        assert_eq!(bound.0[0].1.as_ref().unwrap().local_addr().unwrap(), all);
        let gone: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let refused = listen(gone, "rtsp").unwrap_err().to_string();
        assert!(
            refused.contains("this machine does not have that address; choose another for [rtsp]"),
            "{refused}"
        );
    }
}
