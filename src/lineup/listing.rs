//! The line-up as a table in plain text, for `broadcaster check`.

use super::{Lineup, StationSpec};
use crate::text_table::aligned;

const HEAD: [&str; 9] = ["id", "name", "group", "interface", "ttl", "width", "quality", "datagram", "media"];
/// Which columns are numbers, and aligned to the right.
const RIGHT: [bool; 9] = [true, false, false, false, true, true, true, true, false];

pub(super) fn table(lineup: &Lineup) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(lineup.stations.iter().map(row));
    let mut text = aligned(&rows, RIGHT);
    let count = lineup.stations.len();
    let noun = if count == 1 { "station" } else { "stations" };
    text.push_str(&format!("{count} {noun}; directory on {}", lineup.directory));
    for (name, listen) in [("rtsp", lineup.rtsp), ("http", lineup.http)] {
        text.extend(listen.map(|listen| format!(", {name} on {listen}")));
    }
    text
}

fn row(station: &StationSpec) -> [String; 9] {
    let address = if station.group.is_ipv4() {
        station.interface.v4.first().map(ToString::to_string)
    } else {
        station.interface.v6.first().map(ToString::to_string)
    };
    let media: Vec<String> = station.media.iter().map(|path| path.display().to_string()).collect();
    [
        station.id.to_string(),
        station.name.clone(),
        station.group.to_string(),
        format!("{} {}", station.interface.name, address.as_deref().unwrap_or("-")),
        station.ttl.to_string(),
        station.width.to_string(),
        station.quality.to_string(),
        station.datagram_limit().to_string(),
        media.join(", "),
    ]
}
