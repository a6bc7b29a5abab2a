//! The ports that a station takes on its group address, and whether another one takes them, too.

use super::World;
use super::station::UniqueValues;

/// The most ports that a station takes: pictures, their RTCP, sound, its RTCP, signatures (`docs/protocol.md`).
const MOST: u16 = 5;

/// Ports of a station with sound whose pictures are not signed.
const WITH_SOUND: u16 = 4;

/// Ports of a station without sound whose pictures are not signed.
const LEAST: u16 = 2;

/// The uses of the ports of a station.
fn what(station: &UniqueValues) -> &'static str {
    if station.sign {
        "pictures, sound, the RTCP of each, and signatures"
    } else {
        "pictures, sound, and the RTCP of each"
    }
}

/// Why the ports of a station do not go together with those of the earlier ones, or with its sound; to stand behind `group = "..."`.
/// Films are asked for sound only if it depends on that.
pub(super) fn fault(own: &UniqueValues, earlier: &[UniqueValues], world: &World) -> Option<String> {
    let group = own.group?;
    let port = group.port();
    for taken in earlier {
        let Some(theirs) = taken.group.filter(|theirs| theirs.ip() == group.ip()) else { continue };
        let theirs = theirs.port();
        // The same port is the same group, which is a fault of its own.
        if theirs == port || theirs.abs_diff(port) >= MOST {
            continue;
        }
        let (lower, upper) = if theirs < port { (taken, port) } else { (own, theirs) };
        let first = theirs.min(port);
        let last = first.saturating_add(ports(lower, world) - 1);
        if upper > last {
            continue;
        }
        let (line, place, what) = (taken.line, &taken.place, what(lower));
        return Some(if theirs < port {
            format!(
                "is one of the ports {first} to {last} of {place} on line {line} ({what}); give each station an \
                 address of its own"
            )
        } else {
            format!(
                "takes the ports {first} to {last} ({what}), and {place} on line {line} is on {theirs}; give each \
                 station an address of its own"
            )
        });
    }
    if port <= u16::MAX - (MOST - 1) {
        return None;
    }
    let ports = ports(own, world);
    (ports > LEAST && port > u16::MAX - (ports - 1)).then(|| if own.sign {
        "has no room for signatures on the port + 4; choose a port up to 65531, or write sign = false".into()
    } else {
        "has no room for sound and its RTCP on the ports + 2 and + 3; choose a port up to 65532, or write sound = false"
            .into()
    })
}

/// How many ports a station takes.
fn ports(station: &UniqueValues, world: &World) -> u16 {
    if station.sign {
        return MOST;
    }
    let has_sound = station.sound.as_ref().is_some_and(|sound| match station.media.is_films() {
        true => (world.sound)(sound, station.media.films()),
        false => station.media.has_sound(sound, |_| false),
    });
    if has_sound { WITH_SOUND } else { LEAST }
}
