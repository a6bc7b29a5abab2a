//! The status of stations as rows of text, and as a table with totals.

use crate::conflict::addresses;
use crate::text_table::{aligned, three_digits};
use crate::web::api::{FilmStatus, Sending, SoundStatus, StationStatus};

/// Most characters of a cell: the limit of a slate's reason. The answer may come from something that is not a broadcaster.
const MAX_CELL: usize = 512;

/// Most characters of a film's title.
const MAX_TITLE: usize = 30;

/// Number of columns.
pub(super) const N: usize = 15;

const COLUMNS: [&str; N] = [
    "id", "name", "state", "now", "rate", "audience", "aired", "skipped", "squeezed", "errors", "p50", "p99",
    "sound", "group", "reason",
];

/// Which columns are numbers, and aligned to the right.
pub(super) const NUMBERS: [bool; N] =
    [true, false, false, false, true, true, true, true, true, true, true, true, true, false, false];

/// Columns that a narrow terminal can do without, the least important first. Number and name always stay.
pub(super) const EXPENDABLE: [&str; 13] = [
    "group", "now", "squeezed", "p50", "sound", "rate", "aired", "audience", "p99", "errors", "skipped",
    "reason", "state",
];

/// The least width of the columns whose text may be shortened; every other column is shown whole or not at all.
pub(super) const SHORTENED: [(&str, usize); 2] = [("reason", 20), ("name", 8)];

/// The number of the column with this name.
pub(super) fn column(name: &str) -> Option<usize> {
    COLUMNS.iter().position(|known| *known == name)
}

/// Aligned columns, a line for each station, and a last line with the totals. Ends without a line break.
pub fn table(stations: &[StationStatus]) -> String {
    aligned(&rows(stations), NUMBERS) + &summary(stations)
}

/// The totals of all stations.
pub(super) fn summary(stations: &[StationStatus]) -> String {
    let sum = |value: fn(&StationStatus) -> u64| stations.iter().map(value).sum::<u64>();
    let on_hold = stations.iter().filter(|station| station.is_on_hold()).count();
    let off = stations.iter().filter(|station| station.state != Sending::Film).count() - on_hold;
    let on_hold = if on_hold == 0 { String::new() } else { format!(", {on_hold} on hold") };
    let count = stations.len();
    format!(
        "{count} station{}, {off} off air{on_hold}, {} watching; {} pictures aired, {} skipped, {} squeezed, {} not sent",
        if count == 1 { "" } else { "s" },
        sum(|station| station.audience.into()),
        sum(|station| station.aired),
        sum(|station| station.skipped),
        sum(|station| station.squeezed),
        sum(|station| station.send_errors),
    )
}

/// The column names, then a row for each station.
pub(super) fn rows(stations: &[StationStatus]) -> Vec<[String; N]> {
    [COLUMNS.map(str::to_owned)].into_iter().chain(stations.iter().map(row)).collect()
}

fn row(station: &StationStatus) -> [String; N] {
    let lateness = |micros: Option<u64>| match micros {
        None => "-".into(),
        Some(micros) if micros < 1000 => format!("{micros} us"),
        Some(micros) => format!("{} ms", three_digits(micros as f64 / 1e3)),
    };
    let state = match station.state {
        Sending::Film => "film",
        Sending::Slate if station.is_on_hold() => "hold",
        Sending::Slate => "slate",
        Sending::Starting => "starting",
    };
    [
        station.id.to_string(),
        station.name.clone(),
        state.into(),
        station.now.as_ref().map_or("-".into(), film),
        station.rate.map_or("-".into(), |rate| format!("{}/s", rate.decimal())),
        station.audience.to_string(),
        station.aired.to_string(),
        station.skipped.to_string(),
        station.squeezed.to_string(),
        station.send_errors.to_string(),
        lateness(station.lateness_us.p50),
        lateness(station.lateness_us.p99),
        sound(station.sound.as_ref()),
        station.group.to_string(),
        trouble(station),
    ]
    // The text of a stranger's broadcaster must not move the cursor, nor fill the screen.
    .map(|cell| cell.chars().take(MAX_CELL).map(|c| if c.is_control() { ' ' } else { c }).collect())
}

/// The title of its film, and how far it is: `Nature 0:12/0:24`.
fn film(film: &FilmStatus) -> String {
    let length = film.length_s.map(|length| format!("/{}", clock_time(length))).unwrap_or_default();
    let title: String = film.title.chars().take(MAX_TITLE).collect();
    let more = if title.len() < film.title.len() { "…" } else { "" };
    format!("{title}{more} {}{length}", clock_time(film.position_s))
}

/// Minutes and seconds, or hours too.
fn clock_time(seconds: f64) -> String {
    let seconds = seconds as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// How loud its film is, or that silence is sent.
fn sound(sound: Option<&SoundStatus>) -> String {
    match sound {
        None => "-".into(),
        Some(SoundStatus { loudness: None, .. }) => "silent".into(),
        Some(SoundStatus { loudness: Some(loudness), .. }) => format!("{loudness:.1} LUFS"),
    }
}

/// Players that report less loss than this share are well.
const NOTABLE_LOSS: f64 = 0.01;

/// Why it shows a slate, why it cannot be played on demand, which others send to its group, and what players lose.
fn trouble(station: &StationStatus) -> String {
    let senders = &station.other_senders;
    let others = (!senders.is_empty()).then(|| format!("others send to its group: {}", addresses(senders)));
    let refused = station.demand.as_ref().and_then(|demand| demand.reason.as_ref());
    let refused = refused.filter(|refused| station.reason.as_ref() != Some(refused));
    let on_demand = refused.map(|reason| format!("on demand: {reason}"));
    let loss = station.reported_loss.filter(|loss| *loss >= NOTABLE_LOSS);
    let loss = loss.map(|loss| format!("its players report {:.1} % lost", loss * 100.0));
    let all = station.reason.clone().into_iter().chain(on_demand).chain(others).chain(loss);
    all.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::media::{FrameRate, StationId};
    use crate::web::api::{Demand, DemandStatus, InterludeKind, Quantiles};

    pub(in crate::status) fn station(id: u16, state: Sending, reason: Option<&str>) -> StationStatus {
        StationStatus {
            id: StationId(id),
            name: "Nature".into(),
            group: ([239, 77, 0, 2], 5004).into(),
            interface: "lo".into(),
            width: Some(640),
            height: Some(368),
            rate: FrameRate::new(30_000, 1001),
            fps: Some(29.97),
            quality: 80,
            state,
            reason: reason.map(str::to_owned),
            interlude: None,
            audience: 3,
            reporting: 0,
            reported_loss: None,
            aired: 1234,
            packets: 1234,
            bytes: 31_000_000,
            skipped: 1,
            squeezed: 2,
            send_errors: 4,
            rounds: 5,
            other_senders: vec![],
            lateness_us: Quantiles { p50: Some(20), p99: None },
            sound: None,
            now: None,
            next: None,
            demand: None,
        }
    }

    #[test]
    fn the_table_is_aligned_and_ends_with_the_totals() {
        let mut stations = [
            station(2, Sending::Film, None),
            station(40, Sending::Slate, Some("the film is missing\u{1b}[2J")),
        ];
        let sound = |loudness| SoundStatus {
            codec: "opus".into(),
            port: 5006,
            packets: 50,
            silent: 5,
            missed: 0,
            loudness,
        };
        stations[0].sound = Some(sound(Some(-23.04)));
        stations[1].sound = Some(sound(None));
        stations[0].now =
            Some(FilmStatus { title: "Forest".into(), position_s: 71.9, length_s: Some(5_025.04) });
        let expected = "\
id  name    state  now                     rate  audience  aired  skipped  squeezed  errors    p50  p99       sound  group            reason
 2  Nature  film   Forest 1:11/1:23:45  29.97/s         3   1234        1         2       4  20 us    -  -23.0 LUFS  239.77.0.2:5004
40  Nature  slate  -                    29.97/s         3   1234        1         2       4  20 us    -      silent  239.77.0.2:5004  the film is missing [2J
2 stations, 1 off air, 6 watching; 2468 pictures aired, 2 skipped, 4 squeezed, 8 not sent";
        assert_eq!(table(&stations), expected);
    }

    #[test]
    fn a_lateness_has_three_digits() {
        let mut station = station(2, Sending::Film, None);
        for (micros, text) in [(0, "0 us"), (999, "999 us"), (1000, "1.00 ms"), (50_000, "50.0 ms")] {
            station.lateness_us = Quantiles { p50: None, p99: Some(micros) };
            assert_eq!(row(&station)[11], text);
        }
    }

    #[test]
    fn another_sender_on_the_group_is_shown_with_the_reason() {
        let mut station = station(2, Sending::Slate, Some("the film is missing"));
        station.other_senders = vec![([10, 0, 0, 7], 40_000).into(), ([10, 0, 0, 9], 40_001).into()];
        let others = "others send to its group: 10.0.0.7:40000, 10.0.0.9:40001";
        assert_eq!(row(&station)[14], format!("the film is missing; {others}"));
        let reason = station.reason.clone();
        station.demand = Some(DemandStatus { state: Demand::Refused, reason });
        assert_eq!(row(&station)[14], format!("the film is missing; {others}"), "the same is not said twice");
        (station.reason, station.demand) = (None, None);
        assert_eq!(row(&station)[14], others);
        let reason = Some("there is no film to play".into());
        station.demand = Some(DemandStatus { state: Demand::Refused, reason });
        assert_eq!(row(&station)[14], format!("on demand: there is no film to play; {others}"));
        (station.other_senders, station.demand) = (Vec::new(), None);
        station.reported_loss = Some(0.004);
        assert_eq!(row(&station)[14], "");
        station.reported_loss = Some(0.063);
        assert_eq!(row(&station)[14], "its players report 6.3 % lost");
    }

    #[test]
    fn a_station_on_hold_is_not_off_air() {
        let mut stations =
            [station(2, Sending::Slate, Some("back at 14:00")), station(3, Sending::Slate, None)];
        stations[0].interlude = Some(InterludeKind::Hold);
        assert_eq!(rows(&stations)[1][2], "hold");
        assert!(summary(&stations).starts_with("2 stations, 1 off air, 1 on hold, 6 watching;"));
    }

    #[test]
    fn wide_names_are_aligned_and_overlong_names_are_cut() {
        let mut stations = [station(2, Sending::Film, None), station(3, Sending::Film, None)];
        stations[0].name = "日本放送".into();
        let text = table(&stations);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("id  name      state "), "{text}");
        assert!(lines[1].starts_with(" 2  日本放送  film "), "{text}");
        assert!(lines[2].starts_with(" 3  Nature    film "), "{text}");
        stations[1].name = "x".repeat(70_000);
        assert!(table(&stations).lines().all(|line| line.len() < 1000));
    }
}
