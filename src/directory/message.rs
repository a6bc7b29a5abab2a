//! The directory's messages and their bytes: pure, and the only module that names bincode.
//!
//! ```text
//!  0               4
//! +---------------+------------------------------------+
//! | length (u32,  | body: one Request or one Reply,    |
//! | little endian)| `length` bytes, none left over     |
//! +---------------+------------------------------------+
//! ```
//!
//! A request's body has at most 4 KiB, a reply's 1 MiB. `docs/protocol.md` spells the bodies out;
//! its examples are this module's golden tests.

mod inbox;

use std::fmt;
use std::net::SocketAddr;

use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::media::{AirTime, FrameRate, Size, StationId};

pub use inbox::Inbox;

/// The directory's TCP port.
pub const PORT: u16 = 9688;

/// The protocol spoken here; a [`Request::Hello`] with any other is refused.
pub const VERSION: u16 = 1;

/// The longest name of a station, client or server, in bytes of UTF-8: the 63 characters that a line-up allows, of
/// four bytes each.
pub const MAX_NAME: usize = 252;

/// The longest name of an interface, in bytes of UTF-8. Linux has 15; others have room.
pub const MAX_INTERFACE: usize = 128;

/// The longest sentence (of an error, or why a slate is shown), in bytes of UTF-8.
pub const MAX_SENTENCE: usize = 512;

/// The most stations in a line-up: numbers 1..=999, each once. With the limits above, a full line-up
/// always fits a reply.
pub const MAX_STATIONS: usize = 999;

const PREFIX: usize = 4;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The first request of a connection, and only that.
    Hello {
        /// The protocol the client speaks: [`VERSION`].
        version: u16,
        /// The client's name and version, for logs; at most [`MAX_NAME`] bytes.
        #[serde(deserialize_with = "text")]
        agent: String,
    },
    /// Answered by one [`Reply::LineUp`].
    List,
    /// Answered by [`Reply::Tuned`]; counts this connection in that station's audience from now on.
    Tune {
        /// The station to watch.
        station: StationId,
    },
    /// Answered by a [`Reply::LineUp`] at once, and by another after every change.
    Watch,
    /// Answered by [`Reply::Pong`]; keeps a quiet connection open.
    Ping,
    /// Answered by [`Reply::Services`].
    Services,
}

/// What the server answers, or pushes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Answers the client's Hello.
    Hello {
        /// The protocol the server speaks on this connection.
        version: u16,
        /// The server's name and version; at most [`MAX_NAME`] bytes.
        #[serde(deserialize_with = "text")]
        server: String,
    },
    /// All stations, ascending by id.
    LineUp {
        /// Grows with every change of the line-up; comparable within one run of the server only.
        revision: u64,
        /// At most [`MAX_STATIONS`].
        #[serde(deserialize_with = "stations")]
        stations: Vec<StationInfo>,
    },
    /// Answers Tune.
    Tuned {
        /// The station, as it is now.
        entry: StationInfo,
        /// What it shows now; `None` when nothing has gone on air yet.
        now: Option<OnAir>,
    },
    /// A request was not served. After [`ErrorCode::NoSuchStation`] the connection goes on; after
    /// any other the server closes it.
    Error {
        /// For programs.
        code: ErrorCode,
        /// For people: one sentence, at most [`MAX_SENTENCE`] bytes.
        #[serde(deserialize_with = "text")]
        sentence: String,
    },
    /// Answers Ping.
    Pong,
    /// Where stations are served besides multicast.
    Services(Services),
}

/// Where the broadcaster serves its stations besides multicast. An address of all zeros is every address of the
/// broadcaster, 0.0.0.0 of IPv4 only: the one at which its directory was reached will do. One of loopback is of use
/// on its own machine only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// Where RTSP listens, if at all.
    pub rtsp: Option<SocketAddr>,
    /// Where the web listens, if at all.
    pub http: Option<SocketAddr>,
}

/// Why a request was not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorCode {
    /// Not a request, or one that has no place here.
    BadRequest,
    /// The Hello asks for a protocol that is not spoken here.
    UnsupportedVersion,
    /// The line-up has no station of that number.
    NoSuchStation,
    /// Too many connections, in all or from that address.
    Busy,
    /// No Hello, a request not finished, or nothing said for too long.
    TimedOut,
}

/// One station of the line-up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StationInfo {
    /// Its number, 1..=999.
    pub id: StationId,
    /// Its name, at most [`MAX_NAME`] bytes.
    #[serde(deserialize_with = "text")]
    pub name: String,
    /// The multicast group and port it sends to. Of an IPv6 address the scope does not travel.
    pub group: SocketAddr,
    /// The name of the interface it is sent on, at most [`MAX_INTERFACE`] bytes: the broadcaster's, so of use on
    /// the same machine only.
    #[serde(deserialize_with = "text")]
    pub interface: String,
    /// Its pictures' size, once known.
    pub size: Option<Size>,
    /// Its pictures' rate, once known and if constant.
    pub rate: Option<FrameRate>,
    /// The JPEG quality aimed at, 1..=99.
    pub quality: u8,
    /// What it is sending.
    pub state: State,
    /// How many connections are tuned to it, at the moment of the reply.
    pub audience: u32,
}

/// What a station is sending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Nothing yet.
    Starting,
    /// Its programme.
    Film,
    /// A still that says what is wrong.
    Slate {
        /// One sentence, at most [`MAX_SENTENCE`] bytes.
        #[serde(deserialize_with = "text")]
        reason: String,
    },
}

/// The picture on air at this moment.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnAir {
    /// When it was due.
    pub due: AirTime,
    /// A complete JPEG file.
    #[serde(serialize_with = "write_bytes", deserialize_with = "read_bytes")]
    pub jpeg: Vec<u8>,
}

impl fmt::Debug for OnAir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OnAir {{ due: {}, jpeg: {} bytes }}", self.due.0, self.jpeg.len())
    }
}

/// Why bytes are not a message, or a message cannot become bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The length prefix, or the message to send, is beyond the limit of its kind.
    #[error("a {kind} of {length} bytes is longer than the {limit} allowed")]
    TooLong {
        /// "request" or "reply".
        kind: &'static str,
        /// Bytes of the body.
        length: usize,
        /// Bytes a body may have.
        limit: usize,
    },
    /// The body is not one of the messages.
    #[error("the {kind} cannot be read: {reason}")]
    Malformed {
        /// "request" or "reply".
        kind: &'static str,
        /// The decoder's words.
        reason: String,
    },
    /// The body goes on after the message.
    #[error("{extra} bytes too many after the {kind}")]
    Trailing {
        /// "request" or "reply".
        kind: &'static str,
        /// Bytes left over.
        extra: usize,
    },
    /// Readable, but it breaks a rule of the protocol.
    #[error("the {kind} breaks a rule: {rule}")]
    Invalid {
        /// "request" or "reply".
        kind: &'static str,
        /// The rule.
        rule: &'static str,
    },
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Request {}
    impl Sealed for super::Reply {}
}

/// A [`Request`] or a [`Reply`].
pub trait Message: Serialize + DeserializeOwned + sealed::Sealed {
    /// The most bytes its body may have.
    const MAX_BODY: usize;
    /// Its name in errors.
    const KIND: &'static str;
    /// The rules that the types alone do not enforce; every decoded message keeps them. `Err` is the rule broken.
    fn check(&self) -> Result<(), &'static str>;
}

impl Message for Request {
    const MAX_BODY: usize = 4 * 1024;
    const KIND: &'static str = "request";

    fn check(&self) -> Result<(), &'static str> {
        match self {
            Request::Hello { agent, .. } => check_text(agent, MAX_NAME),
            Request::List | Request::Tune { .. } | Request::Watch | Request::Ping | Request::Services => {
                Ok(())
            }
        }
    }
}

impl Message for Reply {
    const MAX_BODY: usize = 1024 * 1024;
    const KIND: &'static str = "reply";

    fn check(&self) -> Result<(), &'static str> {
        match self {
            Reply::Hello { server, .. } => check_text(server, MAX_NAME),
            Reply::Error { sentence, .. } => check_text(sentence, MAX_SENTENCE),
            Reply::Tuned { entry, .. } => entry.check(),
            Reply::LineUp { stations, .. } => {
                if !stations.is_sorted_by(|a, b| a.id < b.id) {
                    return Err("stations ascend by number, each once");
                }
                stations.iter().try_for_each(StationInfo::check)
            }
            Reply::Pong | Reply::Services(_) => Ok(()),
        }
    }
}

impl StationInfo {
    /// A station that has not begun: nothing is known of its pictures, and nobody watches.
    pub fn starting(
        id: StationId,
        name: &str,
        group: SocketAddr,
        interface: &str,
        quality: u8,
    ) -> StationInfo {
        StationInfo {
            id,
            name: name.to_owned(),
            group,
            interface: interface.to_owned(),
            size: None,
            rate: None,
            quality,
            state: State::Starting,
            audience: 0,
        }
    }

    /// The rules every entry on the wire keeps; `Err` is the one broken.
    pub fn check(&self) -> Result<(), &'static str> {
        if !(1..=MAX_STATIONS).contains(&usize::from(self.id.0)) {
            return Err("a station's number is 1 to 999");
        }
        if !self.group.ip().is_multicast() || self.group.port() == 0 {
            return Err("a station's group is a multicast address with a port");
        }
        if self.size.is_some_and(|size| size.width == 0 || size.height == 0) {
            return Err("a picture's sides are not 0");
        }
        if !(1..=99).contains(&self.quality) {
            return Err("a quality is 1 to 99");
        }
        if let State::Slate { reason } = &self.state {
            check_text(reason, MAX_SENTENCE)?;
        }
        check_text(&self.interface, MAX_INTERFACE)?;
        check_text(&self.name, MAX_NAME)
    }
}

/// Text ends up in terminals, logs and on screens: bounded, and free of what a terminal would obey.
fn check_text(text: &str, limit: usize) -> Result<(), &'static str> {
    if text.len() > limit {
        return Err("a name has at most 252 bytes, an interface's 128, a sentence 512");
    }
    if text.chars().any(char::is_control) {
        return Err("text has no control characters");
    }
    Ok(())
}

/// `text` made to keep the rule for text: control characters become spaces, and what is beyond
/// `limit` bytes is cut off, at a character's border.
pub fn plain_text(text: &str, limit: usize) -> String {
    let mut plain = text.replace(char::is_control, " ");
    let end = (0..=limit.min(plain.len())).rev().find(|&end| plain.is_char_boundary(end));
    plain.truncate(end.unwrap_or(0));
    plain
}

// bincode's limit counts a number as wide as it is in memory (8 for a u64), not as the 1..=9 bytes
// it takes on the wire; at most 8 for 1. So that no message within MAX_BODY is refused, the limit is
// 8 times that; memory is bounded elsewhere: by the body's length, and because text, pictures and
// stations are taken by the functions below, never as long as a length inside the body claims.
const LIMIT: usize = 8 * 1024 * 1024;

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<LIMIT>()
}

/// `message` with its length prefix, ready to be sent.
///
/// # Errors
/// [`MessageError::TooLong`] when its body is beyond [`Message::MAX_BODY`].
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, MessageError> {
    let mut bytes = vec![0; PREFIX];
    bincode::serde::encode_into_std_write(message, &mut bytes, config())
        .map_err(|error| MessageError::Malformed { kind: M::KIND, reason: error.to_string() })?;
    let length = bytes.len() - PREFIX;
    if length > M::MAX_BODY {
        return Err(MessageError::TooLong { kind: M::KIND, length, limit: M::MAX_BODY });
    }
    bytes[..PREFIX].copy_from_slice(&(length as u32).to_le_bytes()); // at most 1 MiB: fits
    Ok(bytes)
}

/// The message whose body, without its prefix, is `body`: all of it.
///
/// # Errors
/// All of [`MessageError`]: whatever the bytes are, they are one valid message or an error.
pub fn decode<M: Message>(body: &[u8]) -> Result<M, MessageError> {
    if body.len() > M::MAX_BODY {
        return Err(MessageError::TooLong { kind: M::KIND, length: body.len(), limit: M::MAX_BODY });
    }
    let (message, used): (M, usize) = bincode::serde::decode_from_slice(body, config())
        .map_err(|error| MessageError::Malformed { kind: M::KIND, reason: error.to_string() })?;
    if used != body.len() {
        return Err(MessageError::Trailing { kind: M::KIND, extra: body.len() - used });
    }
    message.check().map_err(|rule| MessageError::Invalid { kind: M::KIND, rule })?;
    Ok(message)
}

// serde's own String and Vec<u8> would take memory for the length that the body claims, up to
// LIMIT, before they look whether so many bytes are there; borrowed first, a lie costs nothing.

fn text<'de, D: Deserializer<'de>>(decoder: D) -> Result<String, D::Error> {
    <&str>::deserialize(decoder).map(str::to_owned)
}

fn read_bytes<'de, D: Deserializer<'de>>(decoder: D) -> Result<Vec<u8>, D::Error> {
    <&[u8]>::deserialize(decoder).map(<[u8]>::to_vec)
}

fn write_bytes<S: Serializer>(bytes: &[u8], encoder: S) -> Result<S::Ok, S::Error> {
    encoder.serialize_bytes(bytes)
}

fn stations<'de, D: Deserializer<'de>>(decoder: D) -> Result<Vec<StationInfo>, D::Error> {
    struct Stations;
    impl<'de> Visitor<'de> for Stations {
        type Value = Vec<StationInfo>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX_STATIONS} stations")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<StationInfo>, A::Error> {
            let mut stations = Vec::new();
            while let Some(entry) = seq.next_element()? {
                if stations.len() == MAX_STATIONS {
                    return Err(A::Error::custom("more than 999 stations"));
                }
                stations.push(entry);
            }
            Ok(stations)
        }
    }
    decoder.deserialize_seq(Stations)
}

#[cfg(test)]
mod tests;
