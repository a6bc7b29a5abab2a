//! The status of stations as rows of text, and as a table with totals.

use crate::conflict::addresses;
use crate::text_table::aligned;
use crate::web::api::{FilmStatus, Sending, SoundStatus, StationStatus};

/// Most characters of a cell: the limit of a slate's reason. The answer may come from something that is not a broadcaster.
const MAX_CELL: usize = 512;

/// Most characters of a film's title.
const MAX_TITLE: usize = 30;

const COLUMNS: [&str; 15] = [
    "id", "name", "state", "now", "rate", "audience", "aired", "skipped", "squeezed", "errors", "p50", "p99",
    "sound", "group", "reason",
];

/// Which columns are numbers, and aligned to the right.
pub(super) const NUMBERS: [bool; 15] =
    [true, false, false, false, true, true, true, true, true, true, true, true, true, false, false];

/// Aligned columns, a line for each station, and a last line with the totals. Ends without a line break.
pub fn table(stations: &[StationStatus]) -> String {
    aligned(&rows(stations), NUMBERS) + &summary(stations)
}

/// The totals of all stations.
pub(super) fn summary(stations: &[StationStatus]) -> String {
    let sum = |value: fn(&StationStatus) -> u64| stations.iter().map(value).sum::<u64>();
    let off = stations.iter().filter(|station| station.state != Sending::Film).count();
    let count = stations.len();
    format!(
        "{count} station{}, {off} off air, {} watching; {} pictures aired, {} skipped, {} squeezed, {} not sent",
        if count == 1 { "" } else { "s" },
        sum(|station| station.audience.into()),
        sum(|station| station.aired),
        sum(|station| station.skipped),
        sum(|station| station.squeezed),
        sum(|station| station.send_errors),
    )
}

/// The column names, then a row for each station.
pub(super) fn rows(stations: &[StationStatus]) -> Vec<[String; 15]> {
    [COLUMNS.map(str::to_owned)].into_iter().chain(stations.iter().map(row)).collect()
}

fn row(station: &StationStatus) -> [String; 15] {
    let lateness = |micros: Option<u64>| micros.map_or("-".into(), |micros| format!("{micros} us"));
    let state = match station.state {
        Sending::Film => "film",
        Sending::Slate => "slate",
        Sending::Starting => "starting",
    };
    [
        station.id.to_string(),
        station.name.clone(),
        state.into(),
        station.now.as_ref().map_or("-".into(), film),
        station.rate.map_or("-".into(), |rate| rate.to_string()),
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

/// Why it shows a slate, and which others send to its group.
fn trouble(station: &StationStatus) -> String {
    let senders = &station.other_senders;
    let others = (!senders.is_empty()).then(|| format!("others send to its group: {}", addresses(senders)));
    station.reason.clone().into_iter().chain(others).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::media::{FrameRate, StationId};
    use crate::web::api::Quantiles;

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
            audience: 3,
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
id  name    state  now                        rate  audience  aired  skipped  squeezed  errors    p50  p99       sound  group            reason
 2  Nature  film   Forest 1:11/1:23:45  30000/1001         3   1234        1         2       4  20 us    -  -23.0 LUFS  239.77.0.2:5004
40  Nature  slate  -                    30000/1001         3   1234        1         2       4  20 us    -      silent  239.77.0.2:5004  the film is missing [2J
2 stations, 1 off air, 6 watching; 2468 pictures aired, 2 skipped, 4 squeezed, 8 not sent";
        assert_eq!(table(&stations), expected);
    }

    #[test]
    fn another_sender_on_the_group_is_shown_with_the_reason() {
        let mut station = station(2, Sending::Slate, Some("the film is missing"));
        station.other_senders = vec![([10, 0, 0, 7], 40_000).into(), ([10, 0, 0, 9], 40_001).into()];
        let others = "others send to its group: 10.0.0.7:40000, 10.0.0.9:40001";
        assert_eq!(row(&station)[14], format!("the film is missing; {others}"));
        station.reason = None;
        assert_eq!(row(&station)[14], others);
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
