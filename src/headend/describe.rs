//! A station as SDP: the same text in every place that gives it out, so that a player that finds it in two places sees one session.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::content::decode;
use crate::directory::StreamKeys;
use crate::lineup::{self, StationSpec};
use crate::media::{FrameRate, SoundCodec};
use crate::wire::sdp::{Crypto, Description, Transport};

/// The SDP of a station on its group. `source` is the address that the station sends from; `None` while its interface has none.
/// `rate` is the rate of the film that is on air, or was last; `None` before the first film. `sound` is the codec of the second
/// stream, if there is one. `keys` are those of the pictures and of the sound, if they are encrypted.
///
/// A session is never modified: any difference in the text, another film's rate included, makes another session with another
/// id. So the text needs no clock and no stored number, and is the same before and after a restart. `broadcaster sdp` has no
/// head-end, and describes the first film.
pub fn describe(
    spec: &StationSpec,
    source: Option<IpAddr>,
    rate: Option<FrameRate>,
    sound: Option<SoundCodec>,
    keys: Option<(&StreamKeys, Option<&StreamKeys>)>,
) -> String {
    let pictures_and_sound = keys.map(|(pictures, sound)| (crypto(pictures), sound.map(crypto)));
    let mut description = Description {
        name: &spec.name,
        origin: source.unwrap_or(match spec.group.ip() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        }),
        session: 0,
        rate,
        by_ntp: true,
        sound,
        crypto: pictures_and_sound
            .as_ref()
            .map(|(pictures, sound)| Crypto { pictures, sound: sound.as_deref() }),
        transport: Transport::Multicast { group: spec.group, ttl: spec.ttl },
    };
    let digest = blake3::hash(description.to_sdp().as_bytes());
    // 48 bits, since parsers in JavaScript round numbers above 2^53.
    let session = digest.as_bytes()[..6].iter().fold(0, |id, byte| id << 8 | u64::from(*byte));
    description.session = session;
    description.to_sdp()
}

/// The value of `a=crypto` of the key that is used now (RFC 4568 section 9.1, RFC 7714 section 14.1).
fn crypto(stream: &StreamKeys) -> String {
    let used = stream.keys.iter().rev().find(|key| key.from <= stream.index).or(stream.keys.first());
    let (name, salt_len) = (stream.profile.name(), stream.profile.salt_len());
    let inline =
        used.map(|key| [&key.master.key[..], &key.master.salt[..salt_len]].concat()).unwrap_or_default();
    format!("1 {name} inline:{}", BASE64_STANDARD.encode(inline))
}

/// The rate of a station's first film; `None` if the film does not open. Blocks for some milliseconds.
pub fn first_rate(spec: &StationSpec) -> Option<FrameRate> {
    let films = lineup::films(spec.media.films()).ok()?;
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
    fn any_difference_makes_another_session() {
        let source = SOURCE.parse().ok();
        let pal = FrameRate::new(25, 1);
        let here = spec();
        let text = describe(&here, source, pal, None, None);
        assert_eq!(text, describe(&here, source, pal, None, None), "the text is deterministic");
        assert_eq!(origin(&text), "o=- 137505467650804 137505467650804 IN IP4 192.0.2.7");
        let others = [
            describe(&here, source, None, None, None),
            describe(&here, source, FrameRate::new(30_000, 1001), None, None),
            describe(&here, "192.0.2.9".parse().ok(), pal, None, None),
            describe(&StationSpec { name: "Space".into(), ..here.clone() }, source, pal, None, None),
            describe(&StationSpec { ttl: 2, ..here.clone() }, source, pal, None, None),
            describe(&StationSpec::sample("239.77.0.3:5004"), source, pal, None, None),
            describe(&here, source, pal, Some(SoundCodec::Opus), None),
        ];
        for other in others {
            assert_ne!(origin(&other), origin(&text), "{other}");
        }
    }

    #[test]
    fn the_origin_has_the_address_family_of_the_group_even_if_the_source_is_unknown() {
        let v6 = StationSpec::sample("[ff15::77:2]:5004");
        let text = describe(&v6, "2001:db8::7".parse().ok(), None, None, None);
        assert!(origin(&text).ends_with(" IN IP6 2001:db8::7"), "{text}");
        assert!(origin(&describe(&v6, None, None, None, None)).ends_with(" IN IP6 ::"));
        assert!(origin(&describe(&spec(), None, None, None, None)).ends_with(" IN IP4 0.0.0.0"));
    }

    #[test]
    fn a_film_that_does_not_open_has_no_rate() {
        let mut station = spec();
        assert_eq!(first_rate(&station), None);
        station.media = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("media/nature.mp4")].into();
        assert_eq!(first_rate(&station), FrameRate::new(30_000, 1001));
    }
}
