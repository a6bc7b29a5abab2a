//! `/metrics`, read by a strict parser of the part of OpenMetrics that we use, and by Prometheus's parser of its text format.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::walls::Page;
use super::{SOON, TestBroadcaster};

struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

fn parse(line: &str) -> Sample {
    let end = line.find(['{', ' ']).expect("a sample has a value");
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").expect("a label is quoted");
            assert!(label.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{label}");
            let mut value = String::new();
            let mut chars = after.chars();
            loop {
                match chars.next().expect("the quote ends") {
                    '"' => break,
                    '\\' => match chars.next() {
                        Some('n') => value.push('\n'),
                        Some(c @ ('\\' | '"')) => value.push(c),
                        other => panic!("\\{other:?} is not an escape: {line}"),
                    },
                    c => value.push(c),
                }
            }
            assert!(labels.insert(label.to_owned(), value).is_none(), "twice {label}");
            rest = chars.as_str();
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').expect("one space").parse().expect("a number");
    Sample { name: name.to_owned(), labels, value }
}

/// An RTSP connection with two sessions on station 40.
async fn two_sessions(broadcaster: &TestBroadcaster) -> TcpStream {
    let mut stream = TcpStream::connect(broadcaster.rtsp.unwrap()).await.unwrap();
    let ask = "SETUP rtsp://h/40/video RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP/TCP;unicast\r\n\r\n";
    stream.write_all(ask.repeat(2).as_bytes()).await.unwrap();
    let mut all = Vec::new();
    let both = async {
        while String::from_utf8_lossy(&all).matches("RTSP/1.0 200 ").count() < 2 {
            assert_ne!(stream.read_buf(&mut all).await.unwrap(), 0);
        }
    };
    tokio::time::timeout(SOON, both).await.expect("two sessions");
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_are_openmetrics() {
    let broadcaster = TestBroadcaster::start(true).await;
    let mut page = Page::open(&broadcaster).await;
    page.send(r#"{"want": {"stations": [1, 40]}}"#).await;
    page.picture().await;
    let _sessions = two_sessions(&broadcaster).await;
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let answer = broadcaster.accept("/metrics", accept).await;
    assert!(answer.has("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let text = answer.text().strip_suffix("# EOF\n").expect("ends with EOF");
    let mut families: BTreeMap<String, &str> = BTreeMap::new();
    let mut seen = HashSet::new();
    let mut samples = Vec::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(meta) = line.strip_prefix("# ") {
            let (what, rest) = meta.split_once(' ').unwrap();
            let (name, value) = rest.split_once(' ').unwrap();
            match what {
                "HELP" => {
                    assert!(!families.contains_key(name), "{name} comes twice");
                    family = name.to_owned();
                    families.insert(family.clone(), "unknown");
                }
                "TYPE" => assert_eq!(families.insert(name.to_owned(), value), Some("unknown"), "{name}"),
                "UNIT" => assert!(name.ends_with(&format!("_{value}")), "{name}: {value}"),
                other => panic!("{other}"),
            }
            assert_eq!(name, family);
            continue;
        }
        let sample = parse(line);
        let suffix = sample.name.strip_prefix(&family).unwrap_or_else(|| panic!("{line} is not in {family}"));
        match families[&family] {
            "counter" => assert_eq!(suffix, "_total", "{line}"),
            "gauge" => assert_eq!(suffix, "", "{line}"),
            "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}"),
            other => panic!("{family} is {other}"),
        }
        assert!(sample.value >= 0.0 && sample.value.is_finite(), "{line}");
        assert!(seen.insert((sample.name.clone(), sample.labels.clone())), "twice: {line}");
        samples.push(sample);
    }
    let value = |name: &str, labels: &[(&str, &str)]| {
        let has = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|&(label, value)| sample.labels.get(label).is_some_and(|v| v == value))
        };
        samples.iter().find(has).unwrap_or_else(|| panic!("no {name} {labels:?}")).value
    };
    let quoted = [("station", "40"), ("name", "With \"quotes\" \\ and more")];
    let aired = value("stationcast_pictures_aired_total", &quoted);
    assert!(aired >= 1.0);
    // Station 40 sends silence behind its slate; station 1 has no sound.
    let sound = value("stationcast_sound_packets_total", &quoted);
    assert!(sound >= value("stationcast_sound_silent_packets_total", &quoted) && sound >= 1.0);
    assert_eq!(value("stationcast_sound_missed_total", &quoted), 0.0);
    assert_eq!(samples.iter().filter(|sample| sample.name == "stationcast_sound_packets_total").count(), 1);
    assert_eq!(value("stationcast_state", &[("station", "40"), ("state", "slate")]), 1.0);
    assert_eq!(value("stationcast_state", &[("station", "40"), ("state", "film")]), 0.0);

    let clients = |name: &str| samples.iter().filter(|sample| sample.name == name).count();
    assert_eq!(clients("stationcast_client_pictures_total"), 4);
    assert_eq!(clients("stationcast_client_packets_lost_total"), 2, "of RTSP clients only");

    // Buckets are cumulative, and the last one counts all.
    let bounds = samples
        .iter()
        .filter(|s| s.name == "stationcast_lateness_seconds_bucket" && s.labels["station"] == "40");
    let buckets: Vec<_> = bounds.map(|s| (s.labels["le"].as_str(), s.value)).collect();
    assert_eq!(buckets.len(), 15);
    assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{buckets:?}");
    assert!(buckets[0].0.parse::<f64>().unwrap() == 5e-6, "{buckets:?}");
    assert_eq!(buckets[14], ("+Inf", value("stationcast_lateness_seconds_count", &[("station", "40")])));
    assert!(value("stationcast_lateness_seconds_sum", &[("station", "40")]) > 0.0);

    let names: BTreeSet<_> = families.keys().map(String::as_str).collect();
    for name in [
        "process_cpu_seconds",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(names.contains(name), "{name} of {names:?}");
    }
}

/// Each family's name, type and help and its number of samples, one family a line.
const READER: &str = "
import sys
from prometheus_client.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.read()):
    print(family.name, family.type, len(family.samples), family.documentation, sep='|')
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_wish_the_metrics_are_in_the_text_format_of_prometheus() {
    let broadcaster = TestBroadcaster::start(false).await;
    for accept in ["text/plain", "*/*", "text/html"] {
        let answer = broadcaster.accept("/metrics", accept).await;
        assert!(answer.has("content-type: text/plain; version=0.0.4; charset=utf-8"), "{}", answer.head);
        assert!(answer.has("vary: accept"), "{}", answer.head);
    }
    let answer = broadcaster.get("/metrics").await;
    assert!(answer.has("content-type: text/plain; version=0.0.4; charset=utf-8"), "{}", answer.head);
    let text = answer.text();
    assert!(!text.contains("# UNIT") && !text.contains("# EOF"), "{text}");
    // Each family has help, then its type, then samples of that name.
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let (name, help) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')).expect(line);
        assert!(!help.is_empty(), "{line}");
        let kind = lines.next().and_then(|line| line.strip_prefix(&format!("# TYPE {name} "))).expect(line);
        assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        while let Some(sample) = lines.next_if(|line| !line.starts_with('#')) {
            assert!(sample.starts_with(name), "{sample}");
        }
    }
    // Python of the system, which has the package; another one in the path may not have it.
    let python = Path::new("/usr/bin/python3");
    let told = Command::new(python).args(["-c", "import prometheus_client"]).stderr(Stdio::null()).status();
    if !told.is_ok_and(|status| status.success()) {
        assert!(
            std::env::var_os("STATIONCAST_TESTS_MUST_RUN").is_none(),
            "python3-prometheus-client is missing"
        );
        return;
    }
    let mut reader = Command::new(python)
        .args(["-c", READER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    reader.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = reader.wait_with_output().unwrap();
    assert!(output.status.success());
    let families = String::from_utf8(output.stdout).unwrap();
    for family in [
        "stationcast_pictures_aired|counter|2|Pictures sent completely",
        "stationcast_state|gauge|8|What a station is sending: 1 for its state, 0 for the others",
        "stationcast_lateness_seconds|histogram|34|Lateness of the first packet of each picture",
        "process_cpu_seconds|counter|1|CPU time, user and system",
    ] {
        assert!(families.lines().any(|line| line == family), "no {family} in\n{families}");
    }
    assert!(families.lines().all(|line| !line.ends_with('|')), "a family without help:\n{families}");
}
