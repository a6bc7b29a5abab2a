//! The Session Announcement Protocol (RFC 2974): one packet, and the group that it is sent to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The UDP port of all announcements.
const PORT: u16 = 9875;

/// Whether a packet announces a session or deletes it (RFC 2974 section 3, field T).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageType {
    /// The session exists.
    Announcement,
    /// The session has ended.
    Deletion,
}

/// A packet without authentication, encryption and compression.
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
/// A deletion carries the whole description, too: some receivers compare its origin, others the hash.
pub(crate) fn packet(message_type: MessageType, source: IpAddr, sdp: &str) -> Vec<u8> {
    const VERSION: u8 = 1 << 5;
    const IPV6: u8 = 1 << 4;
    const DELETION: u8 = 1 << 2;
    let mut flags = VERSION;
    if source.is_ipv6() {
        flags |= IPV6;
    }
    if message_type == MessageType::Deletion {
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

/// Identifies a description among those of one source; two may collide. Never 0, which means "no hash".
fn hash(sdp: &str) -> u16 {
    let [high, low, ..] = *blake3::hash(sdp.as_bytes()).as_bytes();
    u16::from_be_bytes([high, low]).max(1)
}

/// The address at which sessions on `group` are announced. It has the same scope as the group: exactly the receivers that
/// can watch a session hear of it (RFC 2974 section 3, RFC 2365 section 6).
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
        let v4 = packet(MessageType::Announcement, [192, 0, 2, 7].into(), sdp);
        assert_eq!(
            v4,
            [&[0x20, 0, hash[0], hash[1], 192, 0, 2, 7], &b"application/sdp\0v=0\r\n"[..]].concat()
        );

        let source = "2001:db8::7".parse().unwrap();
        let v6 = packet(MessageType::Deletion, source, sdp);
        assert_eq!(v6[..4], [0x34, 0, hash[0], hash[1]]);
        assert_eq!(v6[4..20], [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(&v6[20..], b"application/sdp\0v=0\r\n");
    }

    #[test]
    fn the_hash_depends_on_the_text_and_is_never_zero() {
        assert_ne!(hash("a=framerate:25"), hash("a=framerate:30"));
        assert!(
            (0..200_000).all(|n: u32| hash(&n.to_string()) != 0),
            "without the exception, three of them would be"
        );
    }

    #[test]
    fn each_scope_has_its_announcement_address() {
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
