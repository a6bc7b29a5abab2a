//! What a receiver reads from SDP (RFC 8866): the streams that it can play. Pure.

use std::net::{IpAddr, SocketAddr};

use sdp_types::{Connection, Media, Session};

use crate::media::SoundCodec;
use crate::wire::rtp;

/// Most bytes of a description. Those of stations have 600.
pub const MAX_DESCRIPTION: usize = 64 * 1024;

/// What some editors put at the beginning of a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The streams of a description that can be received from their groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedStreams {
    /// The session's name; empty if it has none.
    pub name: String,
    /// The group and port of the pictures, which are RTP/JPEG.
    pub pictures: SocketAddr,
    /// The sound; `None` if there is none, or none in a codec of [`SoundCodec`].
    pub sound: Option<DescribedSound>,
    /// The only source of their packets, if the description names one (RFC 4570).
    pub source: Option<IpAddr>,
}

/// A stream of sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescribedSound {
    /// Its group and port.
    pub group: SocketAddr,
    /// Its payload type.
    pub payload_type: u8,
    /// Its codec.
    pub codec: SoundCodec,
}

/// Why a description describes nothing that can be received.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescriptionError {
    /// Not SDP.
    #[error("not a session description (SDP)")]
    NotSdp,
    /// There is no RTP/JPEG.
    #[error("has no video in RTP/JPEG, but {0}")]
    NoJpeg(String),
    /// The pictures are encrypted.
    #[error("has encrypted video (SRTP), which cannot be decoded here")]
    Encrypted,
    /// The pictures are sent to no group and port.
    #[error("names no address to receive its video from")]
    NoAddress,
    /// The pictures are sent to one machine.
    #[error("sends its video to {0}, which is not a multicast group; only groups can be received by SDP")]
    NotMulticast(IpAddr),
}

impl DescribedStreams {
    /// Reads a description. Whatever stands before its first line, as in what FFmpeg prints, is passed over.
    ///
    /// # Errors
    /// It has no video in RTP/JPEG that is sent to a group.
    pub fn parse(text: &[u8]) -> Result<DescribedStreams, DescriptionError> {
        let begins = (0..text.len())
            // Some editors put a byte order mark first.
            .find(|&at| {
                text[at..].starts_with(b"v=") && matches!(&text[..at], [] | [.., b'\n'] | BYTE_ORDER_MARK)
            })
            .ok_or(DescriptionError::NotSdp)?;
        let session = Session::parse(&text[begins..]).map_err(|_| DescriptionError::NotSdp)?;
        let video = session.medias.iter().find(|media| media.media == "video" && is_jpeg(media));
        if video.is_some_and(|video| video.proto.contains("SAVP")) {
            return Err(DescriptionError::Encrypted);
        }
        let Some(video) = video else { return Err(DescriptionError::NoJpeg(summary(&session))) };
        let pictures = address(&session, video).ok_or(DescriptionError::NoAddress)?;
        if !pictures.ip().is_multicast() {
            return Err(DescriptionError::NotMulticast(pictures.ip()));
        }
        let sound = sound(&session).and_then(|(media, payload_type, codec)| {
            let group = address(&session, media).filter(|group| group.ip().is_multicast())?;
            Some(DescribedSound { group, payload_type, codec })
        });
        let name = session.session_name.trim();
        // RFC 8866 section 5.3: a session without a name has a space or "-".
        let name = if name == "-" { "" } else { name };
        Ok(DescribedStreams {
            name: name.chars().filter(|c| !c.is_control()).collect(),
            pictures,
            sound,
            source: source(&session, video, pictures.ip()),
        })
    }
}

/// The media of a description, for people: `H264 video, MPA audio`.
pub(super) fn summary(session: &Session) -> String {
    let named = |media: &Media| {
        let maps = media.get_attribute_values("rtpmap").flatten();
        let encodings: Vec<&str> =
            maps.filter_map(|map| map.split_once(' ')?.1.trim().split('/').next()).collect();
        let formats = if encodings.is_empty() { media.fmt.clone() } else { encodings.join("/") };
        format!("{formats} {}", media.media)
    };
    match &session.medias[..] {
        [] => "no media at all".into(),
        medias => medias.iter().take(4).map(named).collect::<Vec<_>>().join(", "),
    }
}

/// Whether a medium is sent as RTP/JPEG: with its static payload type, or one that an rtpmap gives it (RFC 8866 section 6.6).
pub(crate) fn is_jpeg(media: &Media) -> bool {
    let is_static = media.fmt.split_whitespace().any(|format| format == rtp::PAYLOAD_TYPE_JPEG.to_string());
    let is_jpeg = |encoding: &str| {
        encoding.split('/').next().filter(|name| name.eq_ignore_ascii_case("JPEG")).map(drop)
    };
    is_static || mapped(media, is_jpeg).is_some()
}

/// The first medium of sound in a codec of [`SoundCodec`], its payload type and codec.
pub(crate) fn sound(session: &Session) -> Option<(&Media, u8, SoundCodec)> {
    let audio = session.medias.iter().filter(|media| media.media == "audio");
    audio
        .filter_map(|media| {
            let (payload_type, codec) = mapped(media, SoundCodec::of_encoding)?;
            Some((media, payload_type, codec))
        })
        .next()
}

/// The first payload type of a medium to which an rtpmap gives an encoding that `known` knows, and what it makes of that.
fn mapped<T>(media: &Media, known: impl Fn(&str) -> Option<T>) -> Option<(u8, T)> {
    media.fmt.split_whitespace().find_map(|format| {
        let payload_type = format.parse().ok().filter(|payload_type| *payload_type < 128)?;
        let mut maps = media.get_attribute_values("rtpmap").flatten();
        let encoding = maps.find_map(|map| {
            let (of, encoding) = map.split_once(' ')?;
            (of == format).then(|| known(encoding.trim())).flatten()
        })?;
        Some((payload_type, encoding))
    })
}

/// The address and port of a medium: its own, or the session's.
fn address(session: &Session, media: &Media) -> Option<SocketAddr> {
    let connection: &Connection = media.connections.first().or(session.connection.as_ref())?;
    // Behind the address, TTL and number of groups (RFC 8866 section 5.7).
    let ip = connection.connection_address.split('/').next()?.trim().parse().ok()?;
    (media.port != 0).then(|| SocketAddr::new(ip, media.port))
}

/// The only source that a filter lets in for `group` (RFC 4570 section 3): `incl IN IP4 GROUP SOURCE`.
fn source(session: &Session, media: &Media, group: IpAddr) -> Option<IpAddr> {
    let of_media = media.get_attribute_values("source-filter");
    let of_session = session.get_attribute_values("source-filter");
    of_media.chain(of_session).flatten().find_map(|filter| {
        let words: Vec<&str> = filter.split_whitespace().collect();
        let ["incl", "IN", _, destination, source] = words[..] else { return None };
        let is_of_group = destination == "*" || destination.parse() == Ok(group);
        source.parse().ok().filter(|source: &IpAddr| is_of_group && source.is_ipv4() == group.is_ipv4())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::FrameRate;
    use crate::wire::sdp::{Description, Transport};

    const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=Two\r\n";

    #[test]
    fn our_own_descriptions_are_read() {
        let read = |group: &str, origin: IpAddr, sound| {
            let group = group.parse().unwrap();
            let transport = Transport::Multicast { group, ttl: 4 };
            let rate = FrameRate::new(25, 1);
            let description = Description {
                name: "Café 2",
                origin,
                session: 7,
                rate,
                by_ntp: true,
                sound,
                crypto: None,
                transport,
            };
            DescribedStreams::parse(description.to_sdp().as_bytes()).unwrap()
        };
        let described = |group: &str, payload_type, codec| {
            Some(DescribedSound { group: group.parse().unwrap(), payload_type, codec })
        };
        let origin: IpAddr = [192, 0, 2, 7].into();
        let streams = read("239.77.0.2:5004", origin, Some(SoundCodec::Opus));
        assert_eq!(streams.name, "Café 2");
        assert_eq!(streams.pictures, "239.77.0.2:5004".parse().unwrap());
        assert_eq!(
            (streams.sound, streams.source),
            (described("239.77.0.2:5006", 97, SoundCodec::Opus), None)
        );
        let filtered = read("232.77.0.2:5004", origin, None);
        assert_eq!((filtered.sound, filtered.source), (None, Some(origin)));
        let v6 = read("[ff15::77:2]:5004", "2001:db8::7".parse().unwrap(), Some(SoundCodec::L16));
        assert_eq!(
            (v6.pictures.to_string(), v6.sound),
            ("[ff15::77:2]:5004".into(), described("[ff15::77:2]:5006", 98, SoundCodec::L16))
        );
    }

    #[test]
    fn other_programs_descriptions_are_read() {
        // FFmpeg prints a title, and gives each medium an address of its own.
        let text = "SDP:\nv=0\no=- 0 0 IN IP4 127.0.0.1\ns=No Name\nt=0 0\na=tool:libavformat\n\
                    m=video 5004 RTP/AVP 26\nc=IN IP4 239.1.1.1/1\nb=AS:200\n\
                    m=audio 5010 RTP/AVP 98\nc=IN IP4 239.1.1.2/1\na=rtpmap:98 OPUS/48000/2\n";
        let streams = DescribedStreams::parse(text.as_bytes()).unwrap();
        assert_eq!(
            (streams.name.as_str(), streams.pictures.to_string()),
            ("No Name", "239.1.1.1:5004".into())
        );
        let sound = streams.sound.unwrap();
        assert_eq!((sound.group.to_string(), sound.payload_type), ("239.1.1.2:5010".into(), 98));
        let dynamic = format!(
            "{HEAD}c=IN IP4 239.1.1.1/3/2\r\nt=0 0\r\nm=video 5004 RTP/AVP 96\r\na=rtpmap:96 jpeg/90000\r\n"
        );
        assert_eq!(
            DescribedStreams::parse(dynamic.as_bytes()).unwrap().pictures.to_string(),
            "239.1.1.1:5004"
        );
    }

    #[test]
    fn what_cannot_be_received_is_said() {
        let wrong = |rest: &str| DescribedStreams::parse(format!("{HEAD}{rest}").as_bytes()).unwrap_err();
        let video = "t=0 0\r\nm=video 5004 RTP/AVP 26\r\n";
        assert_eq!(wrong("t=0 0\r\n").to_string(), "has no video in RTP/JPEG, but no media at all");
        let h264 = "t=0 0\r\nm=video 5004 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\nm=audio 5006 RTP/AVP 0\r\n";
        assert_eq!(wrong(h264).to_string(), "has no video in RTP/JPEG, but H264 video, 0 audio");
        assert_eq!(wrong(video), DescriptionError::NoAddress);
        assert_eq!(
            wrong("c=IN IP4 239.1.1.1/1\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\n"),
            DescriptionError::NoAddress
        );
        assert_eq!(wrong(&format!("c=IN IP4 host.example/1\r\n{video}")), DescriptionError::NoAddress);
        let encrypted = "c=IN IP4 239.1.1.1/1\r\nt=0 0\r\nm=video 5004 RTP/SAVP 26\r\n";
        assert_eq!(wrong(encrypted), DescriptionError::Encrypted);
        let unicast = DescriptionError::NotMulticast([192, 0, 2, 9].into());
        assert_eq!(wrong(&format!("c=IN IP4 192.0.2.9\r\n{video}")), unicast);
        let marked = format!("\u{feff}{HEAD}c=IN IP4 239.1.1.1/1\r\n{video}");
        assert!(DescribedStreams::parse(marked.as_bytes()).is_ok());
        for text in [&b""[..], b"<html>", b"v=x\r\n"] {
            assert_eq!(DescribedStreams::parse(text), Err(DescriptionError::NotSdp));
        }
    }

    #[test]
    fn jpeg_is_known_by_its_static_type_or_by_its_map() {
        let is = |media: &str| {
            let text = format!("{HEAD}t=0 0\r\n{media}\r\n");
            is_jpeg(&Session::parse(text.as_bytes()).unwrap().medias[0])
        };
        for media in [
            "m=video 0 RTP/AVP 26",
            "m=video 0 RTP/AVP 33 26",
            "m=video 0 RTP/AVP 96\r\na=rtpmap:96 JPEG/90000",
            "m=video 0 RTP/AVP 97 98\r\na=rtpmap:97 H264/90000\r\na=rtpmap:98 jpeg/90000",
        ] {
            assert!(is(media), "{media}");
        }
        for media in ["m=video 0 RTP/AVP 96", "m=video 0 RTP/AVP 96\r\na=rtpmap:97 JPEG/90000"] {
            assert!(!is(media), "{media}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), lines in "([a-z]=[ -~]{0,40}\r\n){0,12}") {
            let _ = DescribedStreams::parse(&bytes);
            let _ = DescribedStreams::parse(format!("{HEAD}{lines}").as_bytes());
        }
    }
}
