//! The line-up as a table in plain text, for `viewer --list`.

use crate::directory::{State, StationInfo};
use crate::text_table::aligned;

const HEAD: [&str; 7] = ["id", "name", "group", "size", "rate", "watching", "state"];
/// Which columns are numbers, and aligned to the right.
const RIGHT: [bool; 7] = [true, false, false, true, true, true, false];

/// The column names, then a line for each station. Ends without a line break.
pub fn table(stations: &[StationInfo]) -> String {
    let rows: Vec<_> = [HEAD.map(str::to_owned)].into_iter().chain(stations.iter().map(row)).collect();
    aligned(&rows, RIGHT).trim_end().to_owned()
}

fn row(station: &StationInfo) -> [String; 7] {
    let state = match &station.state {
        State::Starting => "starting".into(),
        State::Film => "on air".into(),
        State::Slate { reason } => format!("off air: {reason}"),
    };
    [
        station.id.to_string(),
        station.name.clone(),
        station.group.to_string(),
        station.size.map_or_else(|| "-".into(), |size| size.to_string()),
        station.rate.map_or_else(|| "-".into(), |rate| format!("{}/s", rate.decimal())),
        station.audience.to_string(),
        state,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{FrameRate, Size, StationId};

    #[test]
    fn the_table_has_a_header_and_rates_for_people() {
        let station = |id, name: &str| {
            let group = ([239, 77, 0, id as u8], 5004).into();
            StationInfo::starting(StationId(id), name, group, "eth0", 80)
        };
        let size = Size { width: 640, height: 368 };
        let film = StationInfo {
            size: Some(size),
            rate: FrameRate::new(30_000, 1001),
            state: State::Film,
            audience: 12,
            ..station(2, "日本放送")
        };
        let slate = State::Slate { reason: "cannot read a.mp4".into() };
        let stations = [film, station(3, "Nature"), StationInfo { state: slate, ..station(40, "Space") }];
        let expected = "\
id  name      group                size     rate  watching  state
 2  日本放送  239.77.0.2:5004   640x368  29.97/s        12  on air
 3  Nature    239.77.0.3:5004         -        -         0  starting
40  Space     239.77.0.40:5004        -        -         0  off air: cannot read a.mp4";
        assert_eq!(table(&stations), expected);
    }
}
