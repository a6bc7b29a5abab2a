//! The Session Announcement Protocol (RFC 2974): one packet, and the group it goes to. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The port of all announcements.
const PORT: u16 = 9875;

/// What a packet does to the session it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// It is there.
    Announcement,
    /// It is there no more.
    Deletion,
}

/// A packet: no authentication, no encryption, no compression.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// | V=1 |A|R|T|E|C|   auth len    |         msg id hash           |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |            originating source (32 or 128 bits)                |
/// +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// |  payload type, "application/sdp", and a zero byte; the SDP    |
/// ```
///
/// A deletion carries the whole description too: some receivers look for its origin, some for the hash.
pub(crate) fn packet(message: Message, source: IpAddr, sdp: &str) -> Vec<u8> {
    const VERSION: u8 = 1 << 5;
    const IPV6: u8 = 1 << 4;
    const DELETION: u8 = 1 << 2;
    let mut flags = VERSION;
    if source.is_ipv6() {
        flags |= IPV6;
    }
    if message == Message::Deletion {
        flags |= DELETION;
    }
    let mut packet = vec![flags, 0];
    packet.extend(hash(sdp).to_be_bytes());
    match source {
        IpAddr::V4(source) => packet.extend(source.octets()),
        IpAddr::V6(source) => packet.extend(source.octets()),
    }
    packet.extend(b"application/sdp\0");
    packet.extend(sdp.as_bytes());
    packet
}

/// Tells one description from every other of the same source, with luck: another text, another hash. Never 0, which
/// says "no hash".
fn hash(sdp: &str) -> u16 {
    let [high, low, ..] = *blake3::hash(sdp.as_bytes()).as_bytes();
    u16::from_be_bytes([high, low]).max(1)
}

/// Where sessions on `group` are announced: in the same scope, so that whoever hears of one can watch it, and nobody
/// else hears of it (RFC 2974 section 3, RFC 2365 section 6).
pub(crate) fn group(group: IpAddr) -> SocketAddr {
    let announced = match group {
        IpAddr::V4(group) => IpAddr::V4(match group.octets() {
            [239, 192..=195, ..] => Ipv4Addr::new(239, 195, 255, 255),
            [239, ..] => Ipv4Addr::new(239, 255, 255, 255),
            [224, 0, 0, _] => Ipv4Addr::new(224, 0, 0, 255),
            _ => Ipv4Addr::new(224, 2, 127, 254),
        }),
        IpAddr::V6(group) => {
            let scope = group.segments()[0] & 0xf;
            IpAddr::V6(Ipv6Addr::new(0xff00 | scope, 0, 0, 0, 0, 0, 2, 0x7ffe))
        }
    };
    SocketAddr::new(announced, PORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_header_source_type_and_text() {
        let sdp = "v=0\r\n";
        let hash = hash(sdp).to_be_bytes();
        let v4 = packet(Message::Announcement, [192, 0, 2, 7].into(), sdp);
        assert_eq!(
            v4,
            [&[0x20, 0, hash[0], hash[1], 192, 0, 2, 7], &b"application/sdp\0v=0\r\n"[..]].concat()
        );

        let source = "2001:db8::7".parse().unwrap();
        let v6 = packet(Message::Deletion, source, sdp);
        assert_eq!(v6[..4], [0x34, 0, hash[0], hash[1]]);
        assert_eq!(v6[4..20], [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(&v6[20..], b"application/sdp\0v=0\r\n");
    }

    #[test]
    fn another_text_has_another_hash_and_none_is_zero() {
        assert_ne!(hash("a=framerate:25"), hash("a=framerate:30"));
        assert!((0..200_000).all(|n: u32| hash(&n.to_string()) != 0), "three of them would be");
    }

    #[test]
    fn each_scope_has_its_group() {
        for (station, announced) in [
            ("239.255.1.2", "239.255.255.255:9875"),
            ("239.77.0.2", "239.255.255.255:9875"),
            ("239.191.255.255", "239.255.255.255:9875"),
            ("239.192.0.0", "239.195.255.255:9875"),
            ("239.195.9.9", "239.195.255.255:9875"),
            ("239.196.0.0", "239.255.255.255:9875"),
            ("224.0.0.9", "224.0.0.255:9875"),
            ("224.0.1.9", "224.2.127.254:9875"),
            ("224.2.128.1", "224.2.127.254:9875"),
            ("232.1.2.3", "224.2.127.254:9875"),
            ("ff15::77:2", "[ff05::2:7ffe]:9875"),
            ("ff08::1", "[ff08::2:7ffe]:9875"),
            ("ff3e::1:2", "[ff0e::2:7ffe]:9875"),
        ] {
            assert_eq!(group(station.parse().unwrap()), announced.parse().unwrap(), "{station}");
        }
    }
}
