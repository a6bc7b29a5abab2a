//! `broadcaster status`: how a running broadcaster's stations are, by its API; once, or as a table that lives.

mod live;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::api::{Sending, Station};
use crate::text_table::aligned;

pub use live::watch;

/// For the whole request. A broadcaster answers in a millisecond; over the worst of networks in a second.
const PATIENCE: Duration = Duration::from_secs(3);

/// The longest answer: 999 stations of 1 kB, several times over.
const LONGEST: u64 = 8 * 1024 * 1024;

/// The longest text of a station that is shown: a reason's own limit. Whatever answers may be no broadcaster of ours.
const CELL: usize = 512;

/// What the columns are called.
const COLUMNS: [&str; 13] = [
    "id", "name", "state", "rate", "audience", "aired", "skipped", "squeezed", "errors", "p50", "p99",
    "group", "reason",
];

/// Those of them that are numbers, and stand right.
const NUMBERS: [bool; 13] =
    [true, false, false, true, true, true, true, true, true, true, true, false, false];

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// Nobody answers, or not in time.
    #[error(
        "no broadcaster answers at http://{address}/: {reason}; start it, or name its [http] listen with --http"
    )]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// What the system says.
        reason: String,
    },
    /// What answers is something else.
    #[error(
        "what answers at http://{address}/ is no broadcaster: {reason}; name its [http] listen with --http"
    )]
    Unknown {
        /// Where it was looked for.
        address: String,
        /// What was wrong.
        reason: String,
    },
}

/// Where to ask a broadcaster that listens on `listen`: an address that means all is this machine's own.
pub fn ask_at(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listen.port()).to_string()
}

/// The stations of the broadcaster at `address`, a host and a port, as JSON. Blocks.
///
/// # Errors
/// Nobody answers there, or no broadcaster.
pub fn fetch_json(address: &str) -> Result<String, StatusError> {
    Ok(ask(address)?.0)
}

/// The same, understood.
///
/// # Errors
/// As [`fetch_json`].
pub fn fetch(address: &str) -> Result<Vec<Station>, StatusError> {
    Ok(ask(address)?.1)
}

/// What is answered, as it came and understood.
fn ask(address: &str) -> Result<(String, Vec<Station>), StatusError> {
    let unknown = |reason: String| StatusError::Unknown { address: address.into(), reason };
    // Nothing between this program and the broadcaster: a proxy would look for it on another machine.
    let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).proxy(None).build();
    let answer = ureq::Agent::from(config).get(format!("http://{address}/api/stations")).call();
    let text = answer.and_then(|mut answer| answer.body_mut().with_config().limit(LONGEST).read_to_string());
    let text = text.map_err(|error| match error {
        ureq::Error::StatusCode(_) | ureq::Error::BodyExceedsLimit(_) | ureq::Error::Protocol(_) => {
            unknown(error.to_string())
        }
        ureq::Error::Io(error) => {
            StatusError::Unreachable { address: address.into(), reason: error.to_string() }
        }
        error => StatusError::Unreachable { address: address.into(), reason: error.to_string() },
    })?;
    let stations = serde_json::from_str(&text).map_err(|error| unknown(error.to_string()))?;
    Ok((text, stations))
}

/// Aligned columns, a line a station, and a last line that sums up. Ends without a line break.
pub fn table(stations: &[Station]) -> String {
    aligned(&rows(stations), NUMBERS) + &summary(stations)
}

/// The totals.
fn summary(stations: &[Station]) -> String {
    let sum = |value: fn(&Station) -> u64| stations.iter().map(value).sum::<u64>();
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

/// The columns' names, and a row a station.
fn rows(stations: &[Station]) -> Vec<[String; 13]> {
    [COLUMNS.map(str::to_owned)].into_iter().chain(stations.iter().map(row)).collect()
}

fn row(station: &Station) -> [String; 13] {
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
        station.rate.map_or("-".into(), |rate| rate.to_string()),
        station.audience.to_string(),
        station.aired.to_string(),
        station.skipped.to_string(),
        station.squeezed.to_string(),
        station.send_errors.to_string(),
        lateness(station.lateness_us.p50),
        lateness(station.lateness_us.p99),
        station.group.to_string(),
        station.reason.clone().unwrap_or_default(),
    ]
    // What a stranger's broadcaster sends shall not move the cursor, nor be all there is.
    .map(|cell| cell.chars().take(CELL).map(|c| if c.is_control() { ' ' } else { c }).collect())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::media::{FrameRate, StationId};
    use crate::web::api::Quantiles;

    pub(super) fn station(id: u16, state: Sending, reason: Option<&str>) -> Station {
        Station {
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
            lateness_us: Quantiles { p50: Some(20), p99: None },
        }
    }

    #[test]
    fn the_table_is_aligned_and_sums_up() {
        let stations = [
            station(2, Sending::Film, None),
            station(40, Sending::Slate, Some("the film is missing\u{1b}[2J")),
        ];
        let expected = "\
id  name    state        rate  audience  aired  skipped  squeezed  errors    p50  p99  group            reason
 2  Nature  film   30000/1001         3   1234        1         2       4  20 us    -  239.77.0.2:5004
40  Nature  slate  30000/1001         3   1234        1         2       4  20 us    -  239.77.0.2:5004  the film is missing [2J
2 stations, 1 off air, 6 watching; 2468 pictures aired, 2 skipped, 4 squeezed, 8 not sent";
        assert_eq!(table(&stations), expected);
    }

    #[test]
    fn wide_names_are_aligned_and_endless_ones_are_cut() {
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

    #[test]
    fn what_answers_and_is_no_broadcaster_is_not_printed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>");
            }
        });
        let expected = format!("what answers at http://{address}/ is no broadcaster: ");
        for error in [fetch_json(&address).unwrap_err(), fetch(&address).unwrap_err()] {
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn an_address_that_means_all_is_asked_on_this_machine() {
        for (listen, at) in
            [("0.0.0.0:8088", "127.0.0.1:8088"), ("[::]:80", "[::1]:80"), ("192.0.2.7:1", "192.0.2.7:1")]
        {
            assert_eq!(ask_at(listen.parse().unwrap()), at);
        }
    }

    #[test]
    fn nobody_there_is_one_sentence_with_the_fix() {
        // A port that was just given back: nobody listens.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = fetch(&port.to_string()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("no broadcaster answers at http://{port}/: ")), "{error}");
        assert!(error.ends_with("name its [http] listen with --http"), "{error}");
    }
}
