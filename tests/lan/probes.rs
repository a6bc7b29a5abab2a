//! `viewer --probe` on a station, on a stream that is not ours, and on a silent group.

use std::fs;

use serde_json::Value;

use crate::common::film::pal;
use crate::common::harness::text;
use crate::common::lan::{Lan, head, station};
use crate::common::watch::watch;

const DIRECTORY: &str = "10.77.0.1:9688";

fn number(report: &Value, path: &str) -> f64 {
    report.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {path} in {report}"))
}

/// A station chosen by its number: the report as JSON and as a plot.
pub(crate) fn a_station_is_measured() {
    let lan = Lan::new(&["sender", "one"]);
    let lineup = head("0.0.0.0:9688", "eth0") + &station(2, &[&pal(2).path], "239.77.0.2:5004", "");
    let _broadcaster = lan.host("sender").on_air(&lineup);
    let plot = lan.folder().join("plot.svg");
    let probe = ["--directory", DIRECTORY, "--station", "2", "--probe", "--seconds", "2"];
    let output = ["--json", "--plot", text(&plot)];
    let report = lan.host("one").viewer(&[&probe[..], &output].concat()).json();
    assert_eq!((&report["station"], &report["name"]), (&2.into(), &"Station 2".into()));
    assert_eq!((&report["group"], &report["interface"]), (&"239.77.0.2:5004".into(), &"eth0".into()));
    assert_eq!(number(&report, "/packets/lost"), 0.0, "{report}");
    // Two seconds of 25 a second, in several packets each; a busy machine may skip one.
    let units = number(&report, "/units/received");
    assert!((40.0..=52.0).contains(&units) && number(&report, "/packets/received") > 2.0 * units, "{report}");
    assert_eq!(number(&report, "/units/nominal_interval_ms"), 40.0);
    // Our timestamps are due times, so the lateness is known: small, and never negative.
    let late = number(&report, "/lateness_us/p50");
    assert!((0.0..1e6).contains(&late), "{late} us late");
    let svg = fs::read_to_string(&plot).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && svg.contains("Station 2"));
}

/// FFmpeg's stream, given by group and clock rate. Its timestamps are not times, so its lateness is unknown.
pub(crate) fn a_stream_that_is_not_ours_is_measured() {
    let lan = Lan::new(&["sender", "one"]);
    let source = "-v warning -nostdin -re -f lavfi -i testsrc2=s=320x240:r=25 -c:v mjpeg -huffman default \
                  -force_duplicated_matrix 1 -pix_fmt yuvj420p -f rtp rtp://239.77.0.7:5004?ttl=1&pkt_size=1400";
    let _sender = lan.host("sender").run("ffmpeg", &source.split_whitespace().collect::<Vec<_>>());
    let probe = ["--probe", "--rtp", "239.77.0.7:5004", "--clock", "90000", "--seconds", "3", "--json"];
    let report = lan.host("one").viewer(&[&probe[..], &["--interface", "eth0"]].concat()).json();
    assert_eq!((&report["station"], &report["name"]), (&Value::Null, &Value::Null));
    assert_eq!((&report["lateness_us"], &report["payload_type"]), (&Value::Null, &26.into()));
    assert_eq!(number(&report, "/packets/lost"), 0.0, "{report}");
    assert_eq!(number(&report, "/units/nominal_interval_ms"), 40.0);
    assert!(number(&report, "/units/received") > 10.0, "{report}");
}

/// The probe ends with a sentence, and leaves no file.
pub(crate) fn silence_is_reported() {
    let lan = Lan::new(&["one"]);
    let plot = lan.folder().join("plot.svg");
    let probe = ["--probe", "--rtp", "239.77.0.9:5004", "--interface", "eth0", "--seconds", "0.2"];
    let ended = lan.host("one").viewer(&[&probe[..], &["--plot", text(&plot)]].concat()).finish();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(ended.stderr.contains("no packets from 239.77.0.9:5004 on eth0"), "{}", ended.stderr);
    assert!(!plot.exists(), "an empty plot is left behind");
}

/// A capture of a station gives the figures that the probe has measured meanwhile, in pcap and in pcapng.
pub(crate) fn a_capture_is_measured() {
    let lan = Lan::new(&["sender", "one"]);
    let lineup = head("0.0.0.0:9688", "eth0")
        + &station(2, &[&pal(2).path], "239.77.0.2:5004", "")
        + &station(3, &[&pal(3).path], "239.77.0.3:5004", "");
    let _broadcaster = lan.host("sender").on_air(&lineup);
    let one = lan.host("one");
    let mut members = [2, 3].map(|id| watch(&lan, "one", DIRECTORY, id, 1_000_000));
    for format in ["pcap", "pcapng"] {
        let file = lan.folder().join(format);
        let args = ["-q", "-i", "eth0", "-F", format, "-w", text(&file), "-f", "udp and dst net 239.0.0.0/8"];
        let mut capture = one.run("tshark", &args);
        capture.await_log("Capture started", 1);
        members.iter_mut().for_each(|member| member.await_more(25));
        capture.signal("INT");
        capture.succeed();
        let probe = ["--probe", "--json", "--pcap", text(&file)];
        let ambiguous = one.viewer(&probe).finish();
        assert_eq!(ambiguous.code, Some(1));
        assert!(ambiguous.stderr.contains("choose one with --rtp"), "{}", ambiguous.stderr);
        let report = one.viewer(&[&probe[..], &["--rtp", "239.77.0.2:5004"]].concat()).json();
        assert_eq!(
            (&report["group"], &report["interface"]),
            (&"239.77.0.2:5004".into(), &text(&file).into())
        );
        assert_eq!(number(&report, "/packets/lost"), 0.0, "{report}");
        assert_eq!(number(&report, "/units/nominal_interval_ms"), 40.0, "{report}");
        let units = number(&report, "/units/received");
        assert!(units > 10.0 && number(&report, "/packets/received") > 2.0 * units, "{report}");
        // The stamps of the capture are the wall clock, and so are the station's timestamps.
        assert!((-1000.0..1e6).contains(&number(&report, "/lateness_us/p50")), "{report}");
    }
}
