//! The directory's messages and their rules. Pure. `docs/protocol.md` describes them.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::access::{LONGEST_SECRET, Secret};
use crate::media::{AirTime, FrameRate, Size, StationId};

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

/// Why bytes cannot be decoded as a message, or a message cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The length prefix, or the message to send, exceeds the limit of its kind.
    #[error("{}", too_long(.kind, *.length, *.limit))]
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
        /// What is wrong, a sentence for people.
        reason: String,
    },
    /// The body continues after the message.
    #[error("{extra} bytes too many after the {kind}")]
    Trailing {
        /// "request" or "reply".
        kind: &'static str,
        /// Bytes left over.
        extra: usize,
    },
    /// The message was decoded but breaks a rule of the protocol.
    #[error("the {kind} breaks a rule: {rule}")]
    Invalid {
        /// "request" or "reply".
        kind: &'static str,
        /// The rule.
        rule: &'static str,
    },
}

/// The sentence of [`MessageError::TooLong`]. If another server answers, its first letters are taken for the length: these name its
/// protocol.
fn too_long(kind: &str, length: usize, limit: usize) -> String {
    let letters = u32::try_from(length).unwrap_or_default().to_le_bytes();
    match &letters {
        b"HTTP" | b"RTSP" => format!("it speaks {}", String::from_utf8_lossy(&letters)),
        b"SSH-" => "it speaks SSH".to_owned(),
        _ => format!("a {kind} of {length} bytes is longer than the {limit} allowed"),
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Request {}
    impl Sealed for super::Reply {}
}

/// A [`Request`] or a [`Reply`].
pub trait Message: Serialize + DeserializeOwned + sealed::Sealed {
    /// Most bytes of its body.
    const MAX_BODY: usize;
    /// Its name in errors.
    const KIND: &'static str;
    /// Checks the rules that the types do not enforce. Every decoded message keeps them. `Err` is the broken rule.
    fn check(&self) -> Result<(), &'static str>;
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

impl Message for Request {
    const MAX_BODY: usize = 4 * 1024;
    const KIND: &'static str = "request";

    fn check(&self) -> Result<(), &'static str> {
        match self {
            Request::Hello { agent, .. } => check_text(agent, MAX_NAME),
            Request::List | Request::Tune { .. } | Request::Watch | Request::Ping => Ok(()),
            Request::Services | Request::Sources | Request::Sound | Request::Now => Ok(()),
            Request::Guide { from, until } if from < until => Ok(()),
            Request::Guide { .. } => Err("a span of the guide ends after it begins"),
            Request::Admit { token } => check_text(token.reveal(), LONGEST_SECRET),
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
            Reply::Admitted { name } => check_text(name, MAX_NAME),
            Reply::Tuned { entry, .. } => entry.check(),
            Reply::LineUp { stations, .. } => {
                if !stations.is_sorted_by(|a, b| a.id < b.id) {
                    return Err("stations ascend by number, each once");
                }
                stations.iter().try_for_each(StationInfo::check)
            }
            Reply::Sources(sources) => {
                if !sources.is_sorted_by(|a, b| a.id < b.id) {
                    return Err("stations ascend by number, each once");
                }
                let is_source = |address: IpAddr| !address.is_multicast() && !address.is_unspecified();
                if !sources.iter().all(|source| is_source(source.address)) {
                    return Err("a source is the address of one machine");
                }
                Ok(())
            }
            Reply::Sound(sounds) => {
                if !sounds.is_sorted_by(|a, b| a.id < b.id) {
                    return Err("stations ascend by number, each once");
                }
                if !sounds.iter().all(|sound| sound.port != 0 && (96..=127).contains(&sound.payload_type)) {
                    return Err("sound has a port, and a payload type of 96 to 127");
                }
                sounds.iter().try_for_each(|sound| check_text(&sound.codec, MAX_CODEC))
            }
            Reply::SoundNow { packets, .. } => {
                if packets.len() > MAX_SOUND_PACKETS
                    || packets.iter().any(|sound| sound.packet.len() > MAX_SOUND_PACKET)
                {
                    return Err("at most 64 packets of sound, each of at most 1,500 bytes");
                }
                Ok(())
            }
            Reply::Now { stations, .. } => {
                if !stations.is_sorted_by(|a, b| a.id < b.id) {
                    return Err("stations ascend by number, each once");
                }
                stations.iter().try_for_each(StationNow::check)
            }
            Reply::Guide { stations, .. } => {
                if !stations.is_sorted_by(|a, b| a.id < b.id) {
                    return Err("stations ascend by number, each once");
                }
                if stations.iter().map(|station| station.films.len()).sum::<usize>() > MAX_GUIDE_FILMS {
                    return Err("a guide has at most 2,000 films");
                }
                stations.iter().try_for_each(StationFilms::check)
            }
            Reply::Pong | Reply::Services(_) => Ok(()),
        }
    }
}

impl StationNow {
    /// Checks the rules for a station in a message. `Err` is the broken rule.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        check_number(self.id)?;
        self.now.iter().try_for_each(FilmOnAir::check)?;
        self.next.iter().try_for_each(|title| check_text(title, MAX_NAME))
    }
}

impl StationFilms {
    fn check(&self) -> Result<(), &'static str> {
        check_number(self.id)?;
        self.films.iter().try_for_each(FilmOnAir::check)?;
        let follows = |one: &FilmOnAir, next: &FilmOnAir| one.end.is_some_and(|end| end <= next.begin);
        if !self.films.is_sorted_by(follows) {
            return Err("films of a guide follow each other");
        }
        Ok(())
    }
}

impl FilmOnAir {
    fn check(&self) -> Result<(), &'static str> {
        if self.end.is_some_and(|end| end <= self.begin) {
            return Err("a film ends after it began");
        }
        check_text(&self.title, MAX_NAME)
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

    /// Checks the rules for a station in a message. `Err` is the broken rule.
    pub fn check(&self) -> Result<(), &'static str> {
        check_number(self.id)?;
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

fn check_number(id: StationId) -> Result<(), &'static str> {
    if (1..=MAX_STATIONS).contains(&usize::from(id.0)) {
        Ok(())
    } else {
        Err("a station's number is 1 to 999")
    }
}

/// Text is shown in terminals, logs and on screens, so it is bounded and has no control characters, which a terminal
/// would obey.
fn check_text(text: &str, limit: usize) -> Result<(), &'static str> {
    if text.len() > limit {
        return Err("a name has at most 252 bytes, an interface's 128, a codec's 64, a sentence 512");
    }
    if text.chars().any(char::is_control) {
        return Err("text has no control characters");
    }
    Ok(())
}

/// `text` with control characters replaced by spaces, cut to at most `limit` bytes at a character boundary.
pub fn plain_text(text: &str, limit: usize) -> String {
    let mut plain = text.replace(char::is_control, " ");
    let end = (0..=limit.min(plain.len())).rev().find(|&end| plain.is_char_boundary(end));
    plain.truncate(end.unwrap_or(0));
    plain
}

// serde's own String and Vec<u8> would allocate the length that the body claims, up to bincode's limit, before they check
// that so many bytes are there. A borrowed value is checked first, so a false length costs nothing.

fn text<'de, D: Deserializer<'de>>(decoder: D) -> Result<String, D::Error> {
    <&str>::deserialize(decoder).map(str::to_owned)
}

fn optional_text<'de, D: Deserializer<'de>>(decoder: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<&str>::deserialize(decoder)?.map(str::to_owned))
}

fn read_bytes<'de, D: Deserializer<'de>>(decoder: D) -> Result<Vec<u8>, D::Error> {
    <&[u8]>::deserialize(decoder).map(<[u8]>::to_vec)
}

fn write_bytes<S: Serializer>(bytes: &[u8], encoder: S) -> Result<S::Ok, S::Error> {
    encoder.serialize_bytes(bytes)
}

fn stations<'de, D: Deserializer<'de>, T: Deserialize<'de>>(decoder: D) -> Result<Vec<T>, D::Error> {
    struct StationsVisitor<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for StationsVisitor<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX_STATIONS} stations")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
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
    decoder.deserialize_seq(StationsVisitor(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn films_on_air_are_of_stations_1_to_999() {
        let now = |id| Reply::Now {
            at: AirTime::default(),
            stations: vec![StationNow { id: StationId(id), now: None, next: None }],
        };
        assert_eq!([0, 1, 999, 1000].map(|id| now(id).check().is_ok()), [false, true, true, false]);
    }

    #[test]
    fn plain_text_is_cut_at_a_character_and_has_no_control_characters() {
        assert_eq!(plain_text("a\nb\x1b[0m\u{9b}", 64), "a b [0m ");
        assert_eq!(plain_text("aéé", 4), "aé");
        assert_eq!(plain_text("é", 1), "");
        assert_eq!(plain_text("", 0), "");
    }
}
