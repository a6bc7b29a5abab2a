//! A station as SDP describes it: one text, whoever asks, so that a player that has it from two places sees one
//! session.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::content::decode;
use crate::lineup::{self, StationSpec};
use crate::media::FrameRate;
use crate::wire::sdp::{Description, Transport};

/// The SDP of a station on its group. `source` is the address that it is sent from; `None` while its interface has none.
/// `rate` is that of the film that is on, or was on last; `None` before the first.
///
/// A session is never modified here: whatever differs in the text, the rate of another film included, is another
/// session with another id. So the text needs no clock and no number that is kept: a head-end announces and serves the
/// same, before a restart and after it. `broadcaster sdp` has no head-end, and describes the first film.
pub fn describe(spec: &StationSpec, source: Option<IpAddr>, rate: Option<FrameRate>) -> String {
    let mut description = Description {
        name: &spec.name,
        origin: source.unwrap_or(match spec.group.ip() {
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

/// The rate of a station's first film; `None` when that does not open. Blocks for some milliseconds.
pub fn first_rate(spec: &StationSpec) -> Option<FrameRate> {
    let films = lineup::films(&spec.media).ok()?;
    let mut film = decode::open(films.first()?).ok()?;
    film.show_for(spec.slide);
    Some(film.rate())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const SOURCE: &str = "192.0.2.7";

    fn spec() -> StationSpec {
        StationSpec::sample("239.77.0.2:5004")
    }

    fn origin(text: &str) -> &str {
        text.lines().find(|line| line.starts_with("o=")).expect("every SDP has an origin")
    }

    #[test]
    fn any_difference_is_another_session_and_the_same_is_the_same() {
        let source = SOURCE.parse().ok();
        let pal = FrameRate::new(25, 1);
        let here = spec();
        let text = describe(&here, source, pal);
        assert_eq!(text, describe(&here, source, pal), "no clock and no chance in it");
        assert_eq!(origin(&text), "o=- 137505467650804 137505467650804 IN IP4 192.0.2.7");
        let others = [
            describe(&here, source, None),
            describe(&here, source, FrameRate::new(30_000, 1001)),
            describe(&here, "192.0.2.9".parse().ok(), pal),
            describe(&StationSpec { name: "Space".into(), ..here.clone() }, source, pal),
            describe(&StationSpec { ttl: 2, ..here.clone() }, source, pal),
            describe(&StationSpec::sample("239.77.0.3:5004"), source, pal),
        ];
        for other in others {
            assert_ne!(origin(&other), origin(&text), "{other}");
        }
    }

    #[test]
    fn the_origin_is_of_the_groups_family_and_may_be_unknown() {
        let v6 = StationSpec::sample("[ff15::77:2]:5004");
        let text = describe(&v6, "2001:db8::7".parse().ok(), None);
        assert!(origin(&text).ends_with(" IN IP6 2001:db8::7"), "{text}");
        assert!(origin(&describe(&v6, None, None)).ends_with(" IN IP6 ::"));
        assert!(origin(&describe(&spec(), None, None)).ends_with(" IN IP4 0.0.0.0"));
    }

    #[test]
    fn a_film_that_does_not_open_has_no_rate() {
        let mut station = spec();
        assert_eq!(first_rate(&station), None);
        station.media = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("media/nature.mp4")];
        assert_eq!(first_rate(&station), FrameRate::new(30_000, 1001));
    }
}
