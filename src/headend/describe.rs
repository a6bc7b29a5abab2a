//! A station as SDP describes it: one text, whoever asks, so that a player that has it from two places sees one
//! session.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::content::decode::Source;
use crate::lineup::{self, StationSpec};
use crate::media::FrameRate;
use crate::wire::sdp::{Description, Transport};

/// The SDP of a station on its group. `rate` is that of the film that is on, or was on last; `None` before the first.
///
/// A session is never modified here: whatever differs in the text, the rate of another film included, is another
/// session with another id. So the text needs no clock and no number that is kept: a head-end announces and serves the
/// same, before a restart and after it. `broadcaster sdp` has no head-end, and describes the first film.
pub fn describe(spec: &StationSpec, rate: Option<FrameRate>) -> String {
    let mut description = Description {
        name: &spec.name,
        origin: source(spec).unwrap_or(match spec.group.ip() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        }),
        session: 0,
        rate,
        by_ntp: true,
        transport: Transport::Multicast { group: spec.group, ttl: spec.ttl },
    };
    let digest = blake3::hash(description.to_sdp().as_bytes());
    // 48 bits: more digits than 2^53 are rounded by parsers in JavaScript.
    let session = digest.as_bytes()[..6].iter().fold(0, |id, byte| id << 8 | u64::from(*byte));
    description.session = session;
    description.to_sdp()
}

/// The address that a station is sent from; `None` while its interface has none of the group's family. Of IPv6, the
/// system prefers an address that is known beyond the link (RFC 6724, rule 2).
pub(crate) fn source(spec: &StationSpec) -> Option<IpAddr> {
    match spec.group.ip() {
        IpAddr::V4(_) => spec.interface.v4.first().copied().map(IpAddr::from),
        IpAddr::V6(_) => {
            let own = &spec.interface.v6;
            own.iter().find(|own| !own.is_unicast_link_local()).or(own.first()).copied().map(IpAddr::from)
        }
    }
}

/// The rate of a station's first film; `None` when that does not open. Blocks for some milliseconds.
pub fn first_rate(spec: &StationSpec) -> Option<FrameRate> {
    let films = lineup::films(&spec.media).ok()?;
    Source::open(films.first()?).ok().map(|film| film.rate())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::interface::Interface;
    use crate::lineup::{Datagram, Spread};
    use crate::media::StationId;

    /// Station 2 on this group, out of an interface with an address of each family.
    pub(crate) fn spec(group: &str) -> StationSpec {
        StationSpec {
            id: StationId(2),
            name: "Nature".into(),
            media: vec![PathBuf::from("none.mp4")],
            group: group.parse().unwrap(),
            interface: Interface {
                name: "eth0".into(),
                index: 2,
                mtu: 1500,
                up: true,
                loopback: false,
                v4: vec!["192.0.2.7".parse().unwrap(), "192.0.2.8".parse().unwrap()],
                v6: vec!["2001:db8::7".parse().unwrap()],
            },
            ttl: 1,
            width: 640,
            quality: 80,
            datagram: Datagram::Auto,
            reel: true,
            spread: Spread::DEFAULT,
            line: 1,
        }
    }

    fn origin(text: &str) -> &str {
        text.lines().find(|line| line.starts_with("o=")).expect("every SDP has an origin")
    }

    #[test]
    fn whatever_differs_is_another_session_and_the_same_is_the_same() {
        let pal = FrameRate::new(25, 1);
        let here = spec("239.77.0.2:5004");
        let text = describe(&here, pal);
        assert_eq!(text, describe(&here, pal), "no clock and no chance in it");
        assert_eq!(origin(&text), "o=- 137505467650804 137505467650804 IN IP4 192.0.2.7");
        let mut others = vec![describe(&here, None), describe(&here, FrameRate::new(30_000, 1001))];
        others.push(describe(&StationSpec { name: "Space".into(), ..here.clone() }, pal));
        others.push(describe(&StationSpec { ttl: 2, ..here.clone() }, pal));
        others.push(describe(&spec("239.77.0.3:5004"), pal));
        for other in others {
            assert_ne!(origin(&other), origin(&text), "{other}");
        }
    }

    #[test]
    fn the_origin_is_of_the_groups_family_and_may_be_unknown() {
        assert!(origin(&describe(&spec("[ff15::77:2]:5004"), None)).ends_with(" IN IP6 2001:db8::7"));
        let mut both = spec("[ff15::77:2]:5004");
        both.interface.v6.insert(0, "fe80::7".parse().unwrap());
        assert_eq!(source(&both), Some("2001:db8::7".parse().unwrap()));
        let mut down = spec("239.77.0.2:5004");
        down.interface.v4.clear();
        assert_eq!(source(&down), None);
        assert!(origin(&describe(&down, None)).ends_with(" IN IP4 0.0.0.0"));
    }

    #[test]
    fn a_film_that_does_not_open_has_no_rate() {
        let mut station = spec("239.77.0.2:5004");
        assert_eq!(first_rate(&station), None);
        station.media = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("media/nature.mp4")];
        assert_eq!(first_rate(&station), FrameRate::new(30_000, 1001));
    }
}
