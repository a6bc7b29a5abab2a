//! SDP (RFC 8866): the description of a station, which a player needs before the first packet; [`streams`], what a receiver
//! reads from one; and [`offers`], what a camera or a publisher offers to a broadcaster.

#[cfg(feature = "broadcaster")]
pub mod offers;
pub mod streams;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use sdp_types::{Connection, Media, MediaType, Origin, Session, Time, TransportProto, builders};

use super::packetizer::LINEAR_PTIME;
use super::rtp;
use crate::media::{FrameRate, SoundCodec};

/// The RTP timestamp at the epoch of NTP, 1900-01-01 (RFC 7273 section 5.2). Timestamps are 0 at 1970-01-01, which is
/// 2,208,988,800 s later, so it is -2,208,988,800 x 90,000 modulo 2^32.
const MEDIA_CLOCK_OFFSET: u32 = 749_164_544;

/// The same of sound: -2,208,988,800 x 48,000 modulo 2^32.
const SOUND_CLOCK_OFFSET: u32 = (-2_208_988_800_i64 * 48_000).rem_euclid(1 << 32) as u32;

/// The control URL of the sound by RTSP, relative to that of the station.
pub const SOUND_CONTROL: &str = "audio";

/// The port of a station's sound: after the pictures at `port` and the pictures' RTCP. That of the RTCP of the sound is the next one.
pub const fn sound_port(port: u16) -> u16 {
    port.wrapping_add(2)
}

/// The content of a station's SDP.
#[derive(Debug, Clone, Copy)]
pub struct Description<'a> {
    /// The station's name, for people.
    pub name: &'a str,
    /// The source address of the station's packets or, for RTSP, of the server.
    pub origin: IpAddr,
    /// Identifies the session among those of the same origin. Constant during a session, and greater for a later one.
    pub session: u64,
    /// Pictures a second of the film that is on air: films of one station may differ. `None` if unknown.
    pub rate: Option<FrameRate>,
    /// Whether to state that RTP timestamps are the time of day by NTP. Only the sender can state it, and it is true only
    /// if NTP sets the sender's clock.
    pub by_ntp: bool,
    /// The codec of the second stream: sound; `None` if there is none. By multicast it is on the port after that of the pictures' RTCP,
    /// in the same group; by RTSP its control URL is `audio`.
    pub sound: Option<SoundCodec>,
    /// The keys of the streams, if they are encrypted. Such a description must not be told where anybody can read it.
    pub crypto: Option<Crypto<'a>>,
    /// How the packets travel.
    pub transport: Transport<'a>,
}

/// The keys of a session's streams, as values of `a=crypto` (RFC 4568 section 9.1).
#[derive(Debug, Clone, Copy)]
pub struct Crypto<'a> {
    /// That of the pictures.
    pub pictures: &'a str,
    /// That of the sound; `None` if there is none.
    pub sound: Option<&'a str>,
}

/// How the packets travel.
#[derive(Debug, Clone, Copy)]
pub enum Transport<'a> {
    /// To a multicast group, whether anybody watches or not.
    Multicast {
        /// The group's address and port.
        group: SocketAddr,
        /// How many networks a packet may cross, the first included.
        ttl: u8,
    },
    /// As RTSP negotiates in SETUP.
    Rtsp {
        /// The URL for SETUP, absolute or relative to the URL of the description.
        control: &'a str,
        /// Playing time; `None` for a live station.
        length: Option<Duration>,
    },
}

impl Description<'_> {
    /// The description as text. Its lines end in CR LF.
    pub fn to_sdp(&self) -> String {
        let origin = Origin::with_ip_addr(self.session, self.session, self.origin);
        let (port, connection) = match self.transport {
            Transport::Multicast { group, ttl } => {
                (group.port(), Connection::from_ip_addr_ttl(group.ip(), Some(ttl)))
            }
            Transport::Rtsp { .. } => (0, Connection::from_ip_addr(unspecified(self.origin))),
        };
        let mut session = Session::builder(origin, self.name)
            .connection(connection)
            .time(Time::new(0, 0))
            .attribute_with_value("tool", concat!("stationcast ", env!("CARGO_PKG_VERSION")));
        let payload_type = rtp::PAYLOAD_TYPE_JPEG;
        let mut media = Media::builder(MediaType::Video, port, self.profile(), payload_type)
            .attribute_with_value("rtpmap", format!("{payload_type} JPEG/90000"))
            .attribute_from_str("recvonly");
        if let Some(rate) = self.rate {
            media = media.attribute_with_value("framerate", decimal(rate));
        }
        match self.transport {
            Transport::Multicast { group, .. } => {
                session = session.attribute_with_value("type", "broadcast");
                if is_source_specific(group.ip()) {
                    session = session.attribute_with_value("source-filter", self.source_filter(group.ip()));
                }
            }
            Transport::Rtsp { control, length } => {
                let end = length.map(|length| format!("{:.3}", length.as_secs_f64())).unwrap_or_default();
                session = session.attribute_with_value("control", "*").attribute_with_value(
                    "range",
                    format!("npt={}-{end}", if end.is_empty() { "now" } else { "0" }),
                );
                media = media.attribute_with_value("control", control);
            }
        }
        if self.by_ntp {
            media = media
                .attribute_with_value("ts-refclk", "ntp=/traceable/")
                .attribute_with_value("mediaclk", format!("direct={MEDIA_CLOCK_OFFSET}"));
        }
        if let Some(crypto) = self.crypto {
            media = media.attribute_with_value("crypto", crypto.pictures);
        }
        let mut session = session.media(media.build());
        if let Some(codec) = self.sound {
            session = session.media(self.sound(codec, port).build());
        }
        let mut text = Vec::new();
        session.build().write(&mut text).expect("a vector takes all that is written");
        String::from_utf8(text).expect("it was made of text")
    }

    /// The sound: of any Opus, the rtpmap says 48 kHz and two channels (RFC 7587 section 7).
    fn sound(&self, codec: SoundCodec, picture_port: u16) -> builders::Media {
        let payload_type = rtp::sound_payload_type(codec);
        let port = match self.transport {
            Transport::Multicast { .. } => sound_port(picture_port),
            Transport::Rtsp { .. } => 0,
        };
        let mut media = Media::builder(MediaType::Audio, port, self.profile(), payload_type)
            .attribute_with_value("rtpmap", format!("{payload_type} {}", codec.encoding()))
            .attribute_from_str("recvonly");
        media = match codec {
            SoundCodec::Opus => media.attribute_with_value("fmtp", format!("{payload_type} sprop-stereo=1")),
            SoundCodec::L16 => media.attribute_with_value("ptime", LINEAR_PTIME.as_millis().to_string()),
        };
        if let Transport::Rtsp { .. } = self.transport {
            media = media.attribute_with_value("control", SOUND_CONTROL);
        }
        if self.by_ntp {
            media = media
                .attribute_with_value("ts-refclk", "ntp=/traceable/")
                .attribute_with_value("mediaclk", format!("direct={SOUND_CLOCK_OFFSET}"));
        }
        if let Some(crypto) = self.crypto.and_then(|crypto| crypto.sound) {
            media = media.attribute_with_value("crypto", crypto);
        }
        media
    }

    /// The profile of RTP (RFC 3711 section 12).
    fn profile(&self) -> TransportProto {
        if self.crypto.is_some() { TransportProto::RtpSavp } else { TransportProto::RtpAvp }
    }

    /// The value of `a=source-filter` (RFC 4570 section 3).
    fn source_filter(&self, group: IpAddr) -> String {
        let family = if group.is_ipv4() { "IP4" } else { "IP6" };
        format!(" incl IN {family} {group} {}", self.origin)
    }
}

/// A rate as the decimal number that SDP requires: `25`, `29.97003`.
fn decimal(rate: FrameRate) -> String {
    let digits = format!("{:.5}", rate.as_f64());
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Whether a group is source-specific, that is, whether receivers must name the sender when they join: 232.0.0.0/8 and
/// ff3x::/32 (RFC 4607 section 1).
pub fn is_source_specific(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(group) => group.octets()[0] == 232,
        IpAddr::V6(group) => group.segments()[0] & 0xfff0 == 0xff30 && group.segments()[1] == 0,
    }
}

/// The unspecified address of the same family.
fn unspecified(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_sound_has_a_payload_type_of_its_own_and_a_packet_time() {
        let group = "239.77.0.2:5004".parse().unwrap();
        let transport = Transport::Multicast { group, ttl: 4 };
        let text = Description { sound: Some(SoundCodec::L16), ..description(transport) }.to_sdp();
        let sound = &text[text.find("m=audio").unwrap()..];
        let expected = "m=audio 5006 RTP/AVP 98\r\na=rtpmap:98 L16/48000/2\r\n";
        assert!(sound.starts_with(expected) && sound.contains("\r\na=ptime:5\r\n"), "{sound}");
        assert!(!sound.contains("fmtp"), "{sound}");
    }

    fn description(transport: Transport<'_>) -> Description<'_> {
        Description {
            name: "Café 2",
            origin: [192, 0, 2, 7].into(),
            session: 3_999_999_999,
            rate: FrameRate::new(30_000, 1001),
            by_ntp: true,
            sound: None,
            crypto: None,
            transport,
        }
    }

    #[test]
    fn the_description_of_a_multicast_station() {
        let group = "239.77.0.2:5004".parse().unwrap();
        let text = description(Transport::Multicast { group, ttl: 4 }).to_sdp();
        let version = env!("CARGO_PKG_VERSION");
        let expected = [
            "v=0",
            "o=- 3999999999 3999999999 IN IP4 192.0.2.7",
            "s=Café 2",
            "c=IN IP4 239.77.0.2/4",
            "t=0 0",
            &format!("a=tool:stationcast {version}"),
            "a=type:broadcast",
            "m=video 5004 RTP/AVP 26",
            "a=rtpmap:26 JPEG/90000",
            "a=recvonly",
            "a=framerate:29.97003",
            "a=ts-refclk:ntp=/traceable/",
            "a=mediaclk:direct=749164544",
            "",
        ];
        assert_eq!(text, expected.join("\r\n"));
    }

    #[test]
    fn the_media_clock_is_zero_in_1970() {
        let at_ntp_epoch = (-2_208_988_800_i64 * 90_000).rem_euclid(1 << 32);
        assert_eq!(i64::from(MEDIA_CLOCK_OFFSET), at_ntp_epoch);
    }

    #[test]
    fn a_source_specific_group_has_a_source_filter() {
        let filter = |group: &str, origin: IpAddr| {
            let group = SocketAddr::new(group.parse().unwrap(), 5004);
            let transport = Transport::Multicast { group, ttl: 1 };
            let text = Description { origin, ..description(transport) }.to_sdp();
            text.lines().find(|line| line.starts_with("a=source-filter")).map(str::to_owned)
        };
        let v4 = [192, 0, 2, 7].into();
        let v6: IpAddr = "2001:db8::7".parse().unwrap();
        assert_eq!(
            filter("232.1.2.3", v4).as_deref(),
            Some("a=source-filter: incl IN IP4 232.1.2.3 192.0.2.7")
        );
        assert_eq!(
            filter("ff3e::1:2", v6).as_deref(),
            Some("a=source-filter: incl IN IP6 ff3e::1:2 2001:db8::7")
        );
        assert_eq!(filter("239.1.2.3", v4), None);
        assert_eq!(filter("ff15::1", v6), None);
    }

    #[test]
    fn a_description_by_rtsp_has_no_addresses_and_a_range() {
        let length = Some(Duration::from_millis(12_345));
        let text = description(Transport::Rtsp { control: "video", length }).to_sdp();
        for line in ["c=IN IP4 0.0.0.0", "m=video 0 RTP/AVP 26", "a=control:video", "a=range:npt=0-12.345"] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
        let text = description(Transport::Rtsp { control: "video", length: None }).to_sdp();
        assert!(text.contains("a=range:npt=now-\r\n"));
    }

    #[test]
    fn another_parser_reads_the_description() {
        let name = "two\r\nlines \0 and a=x";
        let group = "[ff15::77:2]:5004".parse().unwrap();
        let transport = Transport::Multicast { group, ttl: 1 };
        let text = Description { name, rate: None, ..description(transport) }.to_sdp();
        let session = Session::parse(text.as_bytes()).unwrap();
        assert_eq!(session.session_name, "twolines  and a=x");
        assert_eq!(session.connection.unwrap().connection_address, "ff15::77:2");
        assert_eq!(session.medias.len(), 1);
    }
}
