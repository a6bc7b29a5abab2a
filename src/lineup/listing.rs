//! The line-up as a table in plain text, for `broadcaster check`.

use std::net::SocketAddr;

use super::{Lineup, SoundChoice, StationSpec, has_sound, publish_name};
use crate::interface::Interface;
use crate::media::SoundCodec;
use crate::text_table::aligned;

const HEAD: [&str; 10] =
    ["id", "name", "group", "interface", "ttl", "width", "quality", "sound", "datagram", "media"];
/// Which columns are numbers, and aligned to the right.
const RIGHT: [bool; 10] = [true, false, false, false, true, true, true, false, true, false];

pub(super) fn table(lineup: &Lineup) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(lineup.stations.iter().map(|station| row(station, lineup.interface_of(station))));
    let mut text = aligned(&rows, RIGHT);
    if let Some(publish) = &lineup.publish {
        let (first, last) = (publish.ids.start(), publish.ids.end());
        text.push_str(&format!("stations {first}-{last} are made by publishing to /publish/NAME\n"));
    }
    type Has = fn(&StationSpec) -> bool;
    let protections: [(&str, Has); 3] = [
        ("let in only some", |station| !station.access.is_empty()),
        ("are encrypted", |station| station.encrypt.is_some()),
        ("are signed", |station| station.sign),
    ];
    for (what, has) in protections {
        let ids: Vec<_> =
            lineup.stations.iter().filter(|one| has(one)).map(|one| one.id.to_string()).collect();
        if !ids.is_empty() {
            text.push_str(&format!("these {what}: {}\n", ids.join(", ")));
        }
    }
    let count = lineup.stations.len();
    let noun = if count == 1 { "station" } else { "stations" };
    text.push_str(&format!("{count} {noun}; directory on {}", lineup.directory));
    for (name, listen) in [("rtsp", lineup.rtsp), ("http", lineup.http)] {
        text.extend(listen.map(|listen| format!(", {name} on {listen}")));
    }
    text
}

fn row(station: &StationSpec, interface: Option<Interface>) -> [String; 10] {
    let address = interface.as_ref().and_then(|interface| match station.group {
        SocketAddr::V4(_) => interface.v4.first().map(ToString::to_string),
        SocketAddr::V6(_) => interface.v6.first().map(ToString::to_string),
    });
    let limit = interface.map(|interface| station.datagram_limit(interface.mtu).to_string());
    [
        station.id.to_string(),
        station.name.clone(),
        station.group.to_string(),
        format!("{} {}", station.interface.name, address.as_deref().unwrap_or("-")),
        station.ttl.to_string(),
        station.width.to_string(),
        station.quality.to_string(),
        sound(station),
        limit.unwrap_or_default(),
        match station.media.published() {
            Some(_) => format!("what is published to /publish/{}", publish_name(&station.name)),
            None => station.media.to_string(),
        },
    ]
}

/// Its rate, and which track is heard if that is not the default one; `-` if the station has no sound.
fn sound(station: &StationSpec) -> String {
    if !has_sound(&station.sound, &station.media) {
        return "-".into();
    }
    let track = match &station.sound {
        SoundChoice::Language(language) => format!(" {language}"),
        SoundChoice::Track(n) => format!(" track {n}"),
        SoundChoice::Auto | SoundChoice::On | SoundChoice::Off => String::new(),
    };
    match station.sound_codec {
        SoundCodec::Opus => format!("{} kbit/s{track}", f64::from(station.sound_bitrate) / 1000.0),
        SoundCodec::L16 => format!("l16{track}"),
    }
}
