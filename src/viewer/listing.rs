//! The line-up as a table in plain text, for `viewer --list`.

use crate::directory::{State, StationInfo};
use crate::text_table::aligned;

const HEAD: [&str; 7] = ["id", "name", "group", "size", "rate", "watching", "on"];
/// Which columns are numbers, and aligned to the right.
const RIGHT: [bool; 7] = [true, false, false, true, true, true, false];

/// The column names, then a line for each station, with the title of its film if that is known. Ends without a line break.
pub fn table<'a>(stations: impl IntoIterator<Item = (&'a StationInfo, Option<&'a str>)>) -> String {
    let rows = stations.into_iter().map(|(station, film)| row(station, film));
    let rows: Vec<_> = [HEAD.map(str::to_owned)].into_iter().chain(rows).collect();
    aligned(&rows, RIGHT).trim_end().to_owned()
}

fn row(station: &StationInfo, film: Option<&str>) -> [String; 7] {
    let state = match &station.state {
        State::Starting => "starting".into(),
        State::Film => film.unwrap_or("on air").to_owned(),
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
id  name      group                size     rate  watching  on
 2  日本放送  239.77.0.2:5004   640x368  29.97/s        12  Ocean
 3  Nature    239.77.0.3:5004         -        -         0  starting
40  Space     239.77.0.40:5004        -        -         0  off air: cannot read a.mp4";
        let films = [Some("Ocean"), None, None];
        assert_eq!(table(stations.iter().zip(films)), expected);
    }
}
