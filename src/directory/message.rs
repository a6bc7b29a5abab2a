//! The directory's messages, their rules, and their decoding in bounded memory. Pure.

mod bounded;
mod rules;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::access::Secret;
use crate::media::{AirTime, FrameRate, Size, StationId};
use crate::wire::signature::PUBLIC_KEY_LEN;
use crate::wire::srtp::{MasterKey, Profile};
use bounded::{optional_text, read_bytes, stations, text, write_bytes};
pub use rules::{Message, MessageError, plain_text};

/// The directory's TCP port.
pub const PORT: u16 = 9688;

/// The version of the protocol. A [`Request::Hello`] with any other version is refused.
pub const VERSION: u16 = 1;

/// Longest name of a station, client, server or film, in bytes of UTF-8: the 63 characters that a line-up allows for a station, at
/// four bytes each.
pub const MAX_NAME: usize = 252;

/// Longest name of an interface, in bytes of UTF-8. Linux allows 15; other systems allow more.
pub const MAX_INTERFACE: usize = 128;

/// Longest sentence (of an error, or the reason for a slate), in bytes of UTF-8.
pub const MAX_SENTENCE: usize = 512;

/// Longest name of a codec, in bytes of UTF-8.
pub const MAX_CODEC: usize = 64;

/// Most packets of sound in a [`Reply::SoundNow`], and most bytes of one, which is the longest packet of Opus (RFC 6716
/// section 3.4: 1,275 bytes a frame; ours have one).
pub const MAX_SOUND_PACKETS: usize = 64;
/// See [`MAX_SOUND_PACKETS`].
pub const MAX_SOUND_PACKET: usize = 1500;

/// Most streams in [`StationKeys`], and most keys of one.
pub const MAX_STREAMS: usize = 4;
/// See [`MAX_STREAMS`].
pub const MAX_KEYS: usize = 2;

/// Most films in a [`Reply::Guide`]: with the longest titles they take half of a reply.
pub const MAX_GUIDE_FILMS: usize = 2000;

/// Most stations in a line-up: numbers 1..=999, each once. With the limits above, a full line-up always fits a reply.
pub const MAX_STATIONS: usize = 999;

/// A message from a client to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The first request of a connection, sent once.
    Hello {
        /// The version of the protocol that the client speaks: [`VERSION`].
        version: u16,
        /// The client's name and version, for logs; at most [`MAX_NAME`] bytes.
        #[serde(deserialize_with = "text")]
        agent: String,
    },
    /// Answered by one [`Reply::LineUp`].
    List,
    /// Answered by [`Reply::Tuned`]. From now on this connection counts in that station's audience.
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
    /// Answered by [`Reply::Sources`]. From now on another one precedes every pushed [`Reply::LineUp`]. An older server
    /// does not know this request: it answers [`ErrorCode::BadRequest`] and closes.
    Sources,
    /// Answered by [`Reply::Sound`]. From now on another one precedes every pushed [`Reply::LineUp`], and a
    /// [`Reply::SoundNow`] follows every [`Reply::Tuned`] of a station with sound. An older server does not know this
    /// request: it answers [`ErrorCode::BadRequest`] and closes.
    Sound,
    /// Answered by [`Reply::Now`]. From now on another one comes, once a second at most, with the stations of which it has
    /// changed. An older server does not know this request: it answers [`ErrorCode::BadRequest`] and closes.
    Now,
    /// Answered by one [`Reply::Guide`]. An older server does not know this request: it answers [`ErrorCode::BadRequest`] and
    /// closes.
    Guide {
        /// The films that end after this moment are wanted,
        from: AirTime,
        /// and begin before this one.
        until: AirTime,
    },
    /// Shows a token. Answered by [`Reply::Admitted`]: from now on the connection has the stations of that token too. Or by
    /// [`ErrorCode::Denied`], and everything stays as it is. Sent over TLS only, or to this machine. An older server does not
    /// know this request: it answers [`ErrorCode::BadRequest`] and closes.
    Admit {
        /// The token.
        token: Secret,
    },
    /// Answered by [`Reply::Keys`]. From now on another one comes whenever keys change, after [`Reply::Admitted`], and before every
    /// [`Reply::Tuned`] of an encrypted station. An older server does not know this request: it answers
    /// [`ErrorCode::BadRequest`] and closes.
    Keys,
    /// Answered by [`Reply::Signers`]. From now on another one precedes every pushed [`Reply::LineUp`]. An older server does not
    /// know this request: it answers [`ErrorCode::BadRequest`] and closes.
    Signers,
}

/// A message from the server to a client: an answer or a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Answers the client's Hello.
    Hello {
        /// The version of the protocol that the server speaks on this connection.
        version: u16,
        /// The server's name and version; at most [`MAX_NAME`] bytes.
        #[serde(deserialize_with = "text")]
        server: String,
    },
    /// All stations, ascending by id.
    LineUp {
        /// Rises with every change of the line-up. Comparable within one run of the server only.
        revision: u64,
        /// At most [`MAX_STATIONS`].
        #[serde(deserialize_with = "stations")]
        stations: Vec<StationInfo>,
    },
    /// Answers Tune.
    Tuned {
        /// The station, as it is now.
        entry: StationInfo,
        /// The picture on air now; `None` before the station's first picture.
        now: Option<OnAir>,
    },
    /// A request was refused. After [`ErrorCode::NoSuchStation`] and [`ErrorCode::Denied`] the connection stays open; after any
    /// other code the server closes it.
    Error {
        /// For programs.
        code: ErrorCode,
        /// For people: one sentence, at most [`MAX_SENTENCE`] bytes.
        #[serde(deserialize_with = "text")]
        sentence: String,
    },
    /// Answers Ping.
    Pong,
    /// Answers Services.
    Services(Services),
    /// Answers Sources: the addresses that stations are sent from, ascending by id. A station without an address to send
    /// from is missing.
    Sources(#[serde(deserialize_with = "stations")] Vec<StationSource>),
    /// Answers Sound: the stations that have sound, ascending by id.
    Sound(#[serde(deserialize_with = "stations")] Vec<StationSound>),
    /// The last packets of sound of the station that is tuned to, at most [`MAX_SOUND_PACKETS`], ascending by due time, so
    /// that a decoder has converged when the first packet comes from the group.
    SoundNow {
        /// The station's number.
        station: StationId,
        /// The packets that are on air or were just before.
        #[serde(deserialize_with = "stations")]
        packets: Vec<SoundPacket>,
    },
    /// Answers Now: what is on and what comes next, ascending by id. The first has all stations, those after it the ones that
    /// have changed since.
    Now {
        /// The moment at which this is so, on the clock of the times in it.
        at: AirTime,
        /// At most [`MAX_STATIONS`].
        #[serde(deserialize_with = "stations")]
        stations: Vec<StationNow>,
    },
    /// Answers Guide: the films of a span, ascending by id. A station of which nothing is known is missing. Of many stations or short
    /// films the later ones are missing: there are at most [`MAX_GUIDE_FILMS`] in all.
    Guide {
        /// The moment of the answer, on the clock of the times in it.
        at: AirTime,
        /// At most [`MAX_STATIONS`].
        #[serde(deserialize_with = "stations")]
        stations: Vec<StationFilms>,
    },
    /// Answers Admit.
    Admitted {
        /// The name that the token belongs to; at most [`MAX_NAME`] bytes.
        #[serde(deserialize_with = "text")]
        name: String,
    },
    /// Answers Keys: those of the encrypted stations that the client may see and that have changed since it was told, ascending by
    /// id. Over TLS, or to the broadcaster's own machine: elsewhere a client sees no such station.
    Keys(#[serde(deserialize_with = "stations")] Vec<StationKeys>),
    /// Answers Signers: the stations whose pictures are signed. To be believed over TLS or from this machine only.
    Signers {
        /// The moment of the answer, on the clock of the due times that are signed.
        at: AirTime,
        /// Ascending by id. A station that is not signed is missing.
        #[serde(deserialize_with = "stations")]
        stations: Vec<StationSigner>,
    },
}

/// The keys of an encrypted station.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StationKeys {
    /// The station's number.
    pub id: StationId,
    /// Its streams, 1..=[`MAX_STREAMS`]: for pictures and for sound, the stream that is sent, and perhaps the one before or after it.
    #[serde(deserialize_with = "stations")]
    pub streams: Vec<StreamKeys>,
}

/// The keys of one stream of SRTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamKeys {
    /// How it is encrypted.
    pub profile: Profile,
    /// The SSRC of its packets.
    pub ssrc: u32,
    /// The index (RFC 3711 section 3.3.1) of a packet that is sent about now: less than 2^48. A receiver reckons from it the
    /// roll-over counter, which packets do not carry.
    pub index: u64,
    /// Its keys, 1..=[`MAX_KEYS`], ascending by index.
    #[serde(deserialize_with = "stations")]
    pub keys: Vec<KeyFrom>,
}

/// A key of a stream, and since when it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyFrom {
    /// The index of the first packet with this key.
    pub from: u64,
    /// The key.
    pub master: MasterKey,
}

/// The key that verifies the pictures of a signed station.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StationSigner {
    /// The station's number.
    pub id: StationId,
    /// Identifies the run of the station: another number when it starts again.
    pub epoch: u64,
    /// The public key, Ed25519 (RFC 8032 section 5.1.5).
    pub key: [u8; PUBLIC_KEY_LEN],
}

/// The films of a station in a span.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StationFilms {
    /// The station's number.
    pub id: StationId,
    /// The films, one after the other; at most 999.
    #[serde(deserialize_with = "stations")]
    pub films: Vec<FilmOnAir>,
}

/// The film on a station, and the one that comes next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StationNow {
    /// The station's number.
    pub id: StationId,
    /// The film that is on; `None` before the first and while there is a slate.
    pub now: Option<FilmOnAir>,
    /// The title of the film that begins when this one ends; `None` if that is not known. At most [`MAX_NAME`] bytes.
    #[serde(deserialize_with = "optional_text")]
    pub next: Option<String>,
}

/// A film that is on, or will be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilmOnAir {
    /// Its title, at most [`MAX_NAME`] bytes.
    #[serde(deserialize_with = "text")]
    pub title: String,
    /// When it begins, or began.
    pub begin: AirTime,
    /// When it ends, after its beginning; `None` if that is not known.
    pub end: Option<AirTime>,
}

impl FilmOnAir {
    /// The time from its beginning to `at`, a due time or the `at` of [`Reply::Now`]; not more than its length.
    pub fn position(&self, at: AirTime) -> Duration {
        let position = at.since(self.begin);
        self.length().map_or(position, |length| position.min(length))
    }

    /// How long it plays; `None` if that is not known.
    pub fn length(&self) -> Option<Duration> {
        Some(self.end?.since(self.begin))
    }
}

/// How a station's sound is sent. Its group is that of the pictures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StationSound {
    /// The station's number.
    pub id: StationId,
    /// The port of its packets, on the group of the pictures.
    pub port: u16,
    /// The RTP payload type, 96..=127.
    pub payload_type: u8,
    /// The codec, its clock and its channels as in SDP: `opus/48000/2`; at most [`MAX_CODEC`] bytes. A receiver that does
    /// not know it plays no sound.
    #[serde(deserialize_with = "text")]
    pub codec: String,
}

/// A packet of a station's sound.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoundPacket {
    /// When its first sample is due.
    pub due: AirTime,
    /// The packet of the codec, without an RTP header; at most [`MAX_SOUND_PACKET`] bytes.
    #[serde(serialize_with = "write_bytes", deserialize_with = "read_bytes")]
    pub packet: Vec<u8>,
}

impl fmt::Debug for SoundPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SoundPacket {{ due: {}, packet: {} bytes }}", self.due.0, self.packet.len())
    }
}

/// The address that a station's packets come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StationSource {
    /// The station's number.
    pub id: StationId,
    /// The source address, of the group's family. A receiver takes packets from no other.
    pub address: IpAddr,
}

/// Where the broadcaster serves its stations besides multicast. An unspecified address means every address of the
/// broadcaster (0.0.0.0: of IPv4 only), so a client can use the address at which it reached the directory. A loopback
/// address is of use on the broadcaster's machine only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// Where RTSP listens; `None` if it is not served.
    pub rtsp: Option<SocketAddr>,
    /// Where the web listens; `None` if it is not served.
    pub http: Option<SocketAddr>,
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorCode {
    /// The bytes are not a request, or the request is out of order.
    BadRequest,
    /// The server does not speak the version that the Hello asks for.
    UnsupportedVersion,
    /// The line-up has no station of that number.
    NoSuchStation,
    /// Too many connections, in all or from that address.
    Busy,
    /// The Hello or the rest of a request came too late, or the client was silent for too long.
    TimedOut,
    /// The token of the client is not let in, or is let in no more.
    Denied,
}

/// One station of the line-up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StationInfo {
    /// Its number, 1..=999.
    pub id: StationId,
    /// Its name, at most [`MAX_NAME`] bytes.
    #[serde(deserialize_with = "text")]
    pub name: String,
    /// The multicast group and port it sends to. The scope ID of an IPv6 address is not transmitted.
    pub group: SocketAddr,
    /// The name of the broadcaster's interface that it is sent on, at most [`MAX_INTERFACE`] bytes. Of use on the
    /// broadcaster's machine only.
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
    /// Connections tuned to it at the moment of the reply.
    pub audience: u32,
}

/// What a station is sending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Nothing yet.
    Starting,
    /// The films of its programme.
    Film,
    /// A still that says what is wrong.
    Slate {
        /// What is wrong: one sentence, at most [`MAX_SENTENCE`] bytes.
        #[serde(deserialize_with = "text")]
        reason: String,
    },
}

/// The picture on air at the moment of the reply.
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

impl Request {
    /// The Hello of this program.
    pub(super) fn hello() -> Request {
        Request::Hello {
            version: VERSION,
            agent: concat!("stationcast ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl StationInfo {
    /// A station that has sent nothing yet: its pictures are unknown and its audience is 0.
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
}
