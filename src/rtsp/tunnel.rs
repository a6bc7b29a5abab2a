//! RTSP through HTTP, as QuickTime has introduced it and FFmpeg and GStreamer speak it, for networks that let nothing else
//! through. A client opens two connections: the response to a GET never ends, and carries all that the server sends; the body
//! of a POST carries the requests, in base64. Both name the same `x-sessioncookie`.
//!
//! The task of the POST decodes, and sends to that of the GET, which is an RTSP connection like others but for its [`Input`].

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use crate::tls::ReadHalf;

/// The response to a GET. It has no length: it ends with the connection.
pub(super) const OPENED: &[u8] =
    b"HTTP/1.0 200 OK\r\nConnection: close\r\nCache-Control: no-store\r\nPragma: no-cache\r\n\
    Content-Type: application/x-rtsp-tunnelled\r\n\r\n";

pub(super) const NO_SUCH_TUNNEL: &[u8] =
    b"HTTP/1.0 404 Not Found\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 49\r\n\r\n\
    There is no GET with this x-sessioncookie before.";

pub(super) const NOT_A_TUNNEL: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 69\r\n\r\n\
    This port speaks RTSP; HTTP is a GET or POST with an x-sessioncookie.";

const NOT_BASE64: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 23\r\n\r\n\
    The body is not base64.";

/// Most pieces of requests that wait for the connection of the GET, each of at most [`PIECE`] bytes of base64.
const PIECES: usize = 4;
const PIECE: usize = 2048;

/// Longest `x-sessioncookie`, in bytes. Clients send some 32.
pub(super) const MAX_COOKIE: usize = 256;

/// Takes groups of four characters with padding or without: each message is encoded alone, and ends in its own padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The address of a client and its `x-sessioncookie`: nobody else can send requests into a tunnel.
type TunnelKey = (IpAddr, String);

/// The tunnels that are open: at most one a connection.
#[derive(Debug, Default)]
pub(super) struct Tunnels(Mutex<HashMap<TunnelKey, mpsc::Sender<Vec<u8>>>>);

impl Tunnels {
    /// Opens a tunnel. It replaces one with the same key, which is over: a client that comes again is not to wait until the
    /// end of its first connection is noticed.
    pub(super) fn open(self: &Arc<Self>, key: TunnelKey) -> Requests {
        let (sender, received) = mpsc::channel(PIECES);
        self.lock().insert(key.clone(), sender);
        Requests { received, rest: Vec::new(), key, tunnels: self.clone() }
    }

    pub(super) fn find(&self, key: &TunnelKey) -> Option<mpsc::Sender<Vec<u8>>> {
        self.lock().get(key).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TunnelKey, mpsc::Sender<Vec<u8>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The requests of a tunnel, as its GET receives them. The tunnel ends when this is dropped.
#[derive(Debug)]
pub(super) struct Requests {
    received: mpsc::Receiver<Vec<u8>>,
    /// Bytes that were received and not read yet.
    rest: Vec<u8>,
    key: TunnelKey,
    tunnels: Arc<Tunnels>,
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.received.close();
        let mut tunnels = self.tunnels.lock();
        // Another tunnel with this key has a channel that is open.
        if tunnels.get(&self.key).is_some_and(mpsc::Sender::is_closed) {
            tunnels.remove(&self.key);
        }
    }
}

/// Where the requests of a connection come from: itself, or a tunnel.
pub(super) struct Input {
    socket: ReadHalf,
    tunnel: Option<Requests>,
}

impl Input {
    pub(super) fn new(socket: ReadHalf) -> Input {
        Input { socket, tunnel: None }
    }

    pub(super) fn receive_from(&mut self, requests: Requests) {
        self.tunnel = Some(requests);
    }

    pub(super) fn is_tunnel(&self) -> bool {
        self.tunnel.is_some()
    }

    /// The connection itself.
    pub(super) fn socket(&mut self) -> &mut ReadHalf {
        &mut self.socket
    }

    /// Reads as a socket does: 0 is the end. Cancel-safe.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tunnel) = &mut self.tunnel else { return self.socket.read(buffer).await };
        // What a client sends behind its GET is of no use, but the end of it is.
        let mut ignored = [0; 256];
        while tunnel.rest.is_empty() {
            tokio::select! {
                received = tunnel.received.recv() => match received {
                    Some(bytes) => tunnel.rest = bytes,
                    None => return Ok(0),
                },
                read = self.socket.read(&mut ignored) => {
                    if read? == 0 {
                        return Ok(0);
                    }
                }
            }
        }
        let length = tunnel.rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&tunnel.rest[..length]);
        tunnel.rest.drain(..length);
        Ok(length)
    }
}

/// Forwards the body of a POST, which begins with `first`, until it ends or the tunnel does. Its `Content-Length` means
/// nothing: clients say 32767 and send as long as they like.
///
/// # Errors
/// The body is not base64: the response that says so.
pub(super) async fn forward(
    first: Vec<u8>,
    socket: &mut ReadHalf,
    requests: mpsc::Sender<Vec<u8>>,
) -> Result<(), &'static [u8]> {
    let mut group = Group::default();
    let mut buffer = [0; PIECE];
    let mut arrived = first;
    loop {
        let mut decoded = Vec::new();
        group.decode(&arrived, &mut decoded).map_err(|_| NOT_BASE64)?;
        if !decoded.is_empty() && requests.send(decoded).await.is_err() {
            return Ok(());
        }
        tokio::select! {
            () = requests.closed() => return Ok(()),
            read = socket.read(&mut buffer) => match read {
                Ok(length @ 1..) => arrived = buffer[..length].to_vec(),
                Ok(0) | Err(_) => return Ok(()),
            },
        }
    }
}

/// Base64 characters that are not four yet.
#[derive(Debug, Default)]
struct Group {
    characters: [u8; 4],
    length: usize,
}

impl Group {
    /// Decodes whole groups, and keeps the rest for the next call.
    fn decode(&mut self, bytes: &[u8], decoded: &mut Vec<u8>) -> Result<(), base64::DecodeError> {
        for &byte in bytes.iter().filter(|byte| !byte.is_ascii_whitespace()) {
            self.characters[self.length] = byte;
            self.length += 1;
            if self.length == self.characters.len() {
                BASE64.decode_vec(self.characters, decoded)?;
                self.length = 0;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_message_may_be_encoded_alone_and_in_lines() {
        let (mut group, mut decoded) = (Group::default(), Vec::new());
        for piece in ["T1BUSU9OUw==UExB", "\r\nWQ", "==", "QQ==QkI=", "Q0ND"] {
            group.decode(piece.as_bytes(), &mut decoded).unwrap();
        }
        assert_eq!(decoded, b"OPTIONSPLAYABBCCC");
        assert!(Group::default().decode(b"OPT*", &mut decoded).is_err());
        assert!(Group::default().decode(b"=AAA", &mut decoded).is_err());
    }

    #[test]
    fn a_tunnel_replaces_one_with_its_key_and_leaves_nothing_behind() {
        let tunnels = Arc::<Tunnels>::default();
        let key = |last| (IpAddr::from([192, 0, 2, last]), "a1".to_owned());
        let (mut first, foreign) = (tunnels.open(key(1)), tunnels.open(key(2)));
        let second = tunnels.open(key(1));
        let open = |last| tunnels.find(&key(last)).is_some_and(|sender| !sender.is_closed());
        assert!(
            first.received.try_recv().is_err_and(|error| error == mpsc::error::TryRecvError::Disconnected)
        );
        drop(first);
        assert!(open(1) && open(2));
        drop(second);
        assert!(!open(1) && open(2));
        drop(foreign);
        assert!(tunnels.lock().is_empty());
    }

    #[test]
    fn a_refusal_says_its_length() {
        for refusal in [NO_SUCH_TUNNEL, NOT_A_TUNNEL, NOT_BASE64] {
            let (head, body) = std::str::from_utf8(refusal).unwrap().split_once("\r\n\r\n").unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
            assert_eq!(length.parse(), Ok(body.len()), "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Group::default().decode(&bytes, &mut Vec::new());
        }
    }
}
