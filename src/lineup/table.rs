//! The line-up as a table for people, in plain text.

use super::{Lineup, StationSpec};

const HEAD: [&str; 9] = ["id", "name", "group", "interface", "ttl", "width", "quality", "datagram", "media"];
/// Numbers align to the right.
const RIGHT: [bool; 9] = [true, false, false, false, true, true, true, true, false];

pub(super) fn table(lineup: &Lineup) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(lineup.stations.iter().map(row));
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| rows.iter().map(|row| columns(&row[column])).max().unwrap_or_default())
        .collect();

    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (n, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[n] - columns(cell));
            let gap = if n == 0 { "" } else { "  " };
            let (left, right) = if RIGHT[n] { (pad.as_str(), "") } else { ("", pad.as_str()) };
            line.extend([gap, left, cell, right]);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
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

/// The terminal columns that `text` takes, near enough to align names: East Asian wide characters
/// and emoji take two, combining marks none (Unicode Annex 11, its large blocks only).
fn columns(text: &str) -> usize {
    text.chars()
        .map(|character| match u32::from(character) {
            0x0300..=0x036f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
            0x1100..=0x115f
            | 0x2e80..=0xa4cf
            | 0xac00..=0xd7a3
            | 0xf900..=0xfaff
            | 0xfe30..=0xfe6f
            | 0xff00..=0xff60
            | 0xffe0..=0xffe6
            | 0x1f300..=0x1faff
            | 0x20000..=0x3fffd => 2,
            _ => 1,
        })
        .sum()
}
