//! `/metrics`, read by a strict parser of the part of OpenMetrics that we use.

use std::collections::{BTreeMap, BTreeSet, HashSet};

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
    let answer = broadcaster.get("/metrics").await;
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
