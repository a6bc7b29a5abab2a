//! The rules that the types of messages do not enforce. Pure.

use std::net::IpAddr;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{
    FilmOnAir, MAX_CODEC, MAX_GUIDE_FILMS, MAX_INTERFACE, MAX_KEYS, MAX_NAME, MAX_SENTENCE, MAX_SOUND_PACKET,
    MAX_SOUND_PACKETS, MAX_STATIONS, MAX_STREAMS, Reply, Request, State, StationFilms, StationInfo,
    StationKeys, StationNow,
};
use crate::access::LONGEST_SECRET;
use crate::media::StationId;

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
        /// A sentence for people that says what is wrong.
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

impl Message for Request {
    const MAX_BODY: usize = 4 * 1024;
    const KIND: &'static str = "request";

    fn check(&self) -> Result<(), &'static str> {
        match self {
            Request::Hello { agent, .. } => check_text(agent, MAX_NAME),
            Request::List | Request::Tune { .. } | Request::Watch | Request::Ping => Ok(()),
            Request::Services | Request::Sources | Request::Sound | Request::Now => Ok(()),
            Request::Keys | Request::Signers => Ok(()),
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
                check_ascending(stations.iter().map(|station| station.id))?;
                stations.iter().try_for_each(StationInfo::check)
            }
            Reply::Sources(sources) => {
                check_ascending(sources.iter().map(|station| station.id))?;
                let is_source = |address: IpAddr| !address.is_multicast() && !address.is_unspecified();
                if !sources.iter().all(|source| is_source(source.address)) {
                    return Err("a source is the address of one machine");
                }
                Ok(())
            }
            Reply::Sound(sounds) => {
                check_ascending(sounds.iter().map(|station| station.id))?;
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
                check_ascending(stations.iter().map(|station| station.id))?;
                stations.iter().try_for_each(StationNow::check)
            }
            Reply::Guide { stations, .. } => {
                check_ascending(stations.iter().map(|station| station.id))?;
                if stations.iter().map(|station| station.films.len()).sum::<usize>() > MAX_GUIDE_FILMS {
                    return Err("a guide has at most 2,000 films");
                }
                stations.iter().try_for_each(StationFilms::check)
            }
            Reply::Keys(keys) => {
                check_ascending(keys.iter().map(|station| station.id))?;
                keys.iter().try_for_each(StationKeys::check)
            }
            Reply::Signers { stations, .. } => {
                check_ascending(stations.iter().map(|station| station.id))?;
                stations.iter().try_for_each(|signer| check_number(signer.id))
            }
            Reply::Pong | Reply::Services(_) => Ok(()),
        }
    }
}

impl StationNow {
    /// Checks the rules for a station in a message. `Err` is the broken rule.
    pub(in crate::directory) fn check(&self) -> Result<(), &'static str> {
        check_number(self.id)?;
        self.now.iter().try_for_each(FilmOnAir::check)?;
        self.next.iter().try_for_each(|title| check_text(title, MAX_NAME))
    }
}

impl StationKeys {
    fn check(&self) -> Result<(), &'static str> {
        check_number(self.id)?;
        if !(1..=MAX_STREAMS).contains(&self.streams.len()) {
            return Err("an encrypted station has 1 to 4 streams");
        }
        for stream in &self.streams {
            let ascend = stream.keys.is_sorted_by(|a, b| a.from < b.from);
            if !(1..=MAX_KEYS).contains(&stream.keys.len()) || !ascend {
                return Err("a stream has one key, or two that ascend by index");
            }
            let indices = stream.keys.iter().map(|key| key.from).chain([stream.index]);
            if indices.max().is_some_and(|index| index >= 1 << 48) {
                return Err("an index has 48 bits");
            }
        }
        Ok(())
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

fn check_ascending(ids: impl Iterator<Item = StationId>) -> Result<(), &'static str> {
    if ids.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err("stations ascend by number, each once") }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::AirTime;

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
