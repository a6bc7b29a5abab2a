//! The programs' command lines, exit codes and reactions to signals.

use crate::common::film::{ntsc, pal};
use crate::common::harness::{example, text};
use crate::common::lan::{Lan, head, station};
use crate::common::watch::watch;

const DIRECTORY: &str = "10.77.0.1:9688";

fn two_stations(listen: &str, interface: &str) -> String {
    head(listen, interface)
        + &station(1, &[&pal(1).path], "239.77.0.1:5004", "")
        + &station(2, &[&ntsc(2).path], "239.77.0.2:5004", "")
}

/// Two viewers change stations at the same time.
pub(crate) fn changing_stations() {
    let lan = Lan::new(&["sender", "one", "two"]);
    let lineup = two_stations("0.0.0.0:9688", "eth0") + &station(3, &[&pal(3).path], "239.77.0.3:5004", "");
    let _broadcaster = lan.host("sender").on_air(&lineup);
    let zap =
        |host| lan.host(host).viewer(&["--directory", DIRECTORY, "--headless", "--zap", "20", "--json"]);
    for zapping in ["one", "two"].map(zap) {
        let summary = zapping.json();
        let took = |part: &str| summary["zap_ms"][part].as_f64().expect("a time");
        assert_eq!(summary["zaps"], 20);
        assert!(0.0 < took("p50") && took("p50") <= took("p99") && took("p99") <= took("max"), "{summary}");
        // A viewer that showed nothing for 5 s has failed.
        assert!(took("max") < 5000.0, "{summary}");
    }
    // Every station that was tuned to has been left.
    for id in [1, 2, 3] {
        lan.host("sender").await_station(DIRECTORY, id, "watched by nobody", |entry| entry["audience"] == 0);
    }
    let alone =
        lan.host("one").viewer(&["--directory", DIRECTORY, "--station", "9", "--headless", "--frames", "1"]);
    let ended = alone.finish();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("there is no station 9"), "{}", ended.stderr);
}

/// `examples/receive.rs`, from a directory on another machine.
pub(crate) fn the_example_receives_a_station() {
    let lan = Lan::new(&["tower", "one"]);
    let _broadcaster = lan.host("tower").on_air(&two_stations("0.0.0.0:9688", "eth0"));
    let said = lan.host("one").tool(text(&example("receive")), &["1", DIRECTORY]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines.len(), lines[0]), (102, "station 1 \"Station 1\" on 239.77.0.1:5004"), "{said}");
    let mut before = None;
    for line in &lines[1..101] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, size, bytes, "bytes", "RTP", "timestamp", ticks, late, "ms", "late"] = words[..] else {
            panic!("{line}");
        };
        assert_eq!(size, "640x368", "{line}");
        assert!(bytes.parse::<usize>().unwrap() > 1000, "{line}");
        // 25 pictures a second; a picture that was skipped leaves its place empty.
        let ticks: u32 = ticks.parse().unwrap();
        let step = before.replace(ticks).map_or(3600, |before| ticks.wrapping_sub(before));
        assert!(step > 0 && step % 3600 == 0, "{step} ticks before {line}");
        // Both hosts have this machine's clock; a timestamp is rounded to 5.6 us.
        assert!((-0.006..5000.0).contains(&late.parse::<f64>().unwrap()), "{line}");
    }
    assert_eq!(lines[101], "0 pictures and 0 packets lost");
}

pub(crate) fn the_audience_is_counted() {
    let lan = Lan::new(&["sender", "one", "two"]);
    let _broadcaster = lan.host("sender").on_air(&two_stations("0.0.0.0:9688", "eth0"));
    let audience = |id: u16, count: u32| {
        let what = format!("watched by {count}");
        lan.host("two").await_station(DIRECTORY, id, &what, |entry| entry["audience"] == count);
    };
    let first = watch(&lan, "one", DIRECTORY, 1, 1_000_000);
    let second = watch(&lan, "two", DIRECTORY, 1, 1_000_000);
    let third = watch(&lan, "two", DIRECTORY, 2, 1_000_000);
    audience(1, 2);
    audience(2, 1);
    drop(first);
    audience(1, 1);
    drop(second);
    drop(third);
    audience(1, 0);
    audience(2, 0);
}

pub(crate) fn signals_end_the_broadcaster() {
    let lan = Lan::alone();
    for (signal, word) in [("TERM", "terminated"), ("INT", "interrupted")] {
        let broadcaster = lan.machine().on_air(&two_stations("127.0.0.1:9688", "127.0.0.1"));
        // With a viewer, whose connections are open.
        let mut viewer = watch(&lan, "alone", "127.0.0.1:9688", 1, 1_000_000);
        viewer.await_pictures(3);
        broadcaster.signal(signal);
        let ended = broadcaster.finish();
        assert_eq!(ended.code, Some(0), "after SIG{signal}: {}", ended.stderr);
        assert!(ended.stderr.contains(word), "{}", ended.stderr);
        assert!(ended.stderr.contains(" pictures aired by 2 stations, "), "{}", ended.stderr);
        assert!(
            !ended.stderr.contains("left behind") && !ended.stderr.contains("panicked"),
            "{}",
            ended.stderr
        );
        assert!(viewer.viewer.runs(), "a viewer waits for the broadcaster to come back");
    }
}

/// A viewer or a probe without a window prints what it had received by then.
pub(crate) fn signals_end_the_viewer() {
    let lan = Lan::alone();
    let _broadcaster = lan.machine().on_air(&two_stations("127.0.0.1:9688", "127.0.0.1"));
    for signal in ["TERM", "INT"] {
        let mut probe = lan.machine().viewer(&["--station", "1", "--probe", "--seconds", "3600"]);
        probe.await_log("listening to 239.77.0.1:5004", 1);
        let mut viewer = watch(&lan, "alone", "127.0.0.1:9688", 1, 1_000_000);
        viewer.await_pictures(10);
        probe.signal(signal);
        assert!(probe.succeed().stdout.contains("station 1 \"Station 1\" on 239.77.0.1:5004"));
        viewer.viewer.signal(signal);
        assert!(viewer.done().count("frames") >= 10);
    }
    // A result that cannot be written ends in a sentence, not in a panic.
    let viewer = env!("CARGO_BIN_EXE_viewer");
    let ended = lan.machine().run("sh", &["-c", "exec \"$0\" --list >/dev/full", viewer]).finish();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("cannot write the result: No space left"), "{}", ended.stderr);
}

pub(crate) fn a_directory_port_that_is_taken() {
    let lan = Lan::alone();
    let mut taken = lan.machine().helper("directory", &["127.0.0.1:9688", "239.77.0.1:5004", "lo"]);
    taken.await_output("serving");
    let ended = lan.machine().broadcaster(&two_stations("127.0.0.1:9688", "127.0.0.1")).finish();
    assert_eq!(ended.code, Some(1));
    let last = ended.stderr.lines().last().unwrap_or_default();
    for part in ["127.0.0.1:9688", "[directory] listen", "another program does"] {
        assert!(last.contains(part), "{part:?} is not in {last:?}");
    }
}

pub(crate) fn wrong_usage_and_wrong_lineups() {
    let lan = Lan::alone();
    let machine = lan.machine();
    let good = two_stations("127.0.0.1:9688", "127.0.0.1");
    // What is changed in a good line-up, and what the message must name.
    for (from, to, named) in [
        ("239.77.0.2:5004", "10.0.0.1:5004", "10.0.0.1:5004"),
        ("239.77.0.2:5004", "239.77.0.1:5004", "239.77.0.1:5004"),
        ("id = 2", "id = 1", "id"),
        ("id = 2", "id = 2\ncolour = 3", "colour"),
        ("interface = \"127.0.0.1\"", "interface = \"eth7\"", "eth7"),
        ("[[station]]", "[[station]", "stations-"),
    ] {
        let wrong = good.replacen(from, to, 1);
        assert_ne!(wrong, good);
        let ended = machine.broadcaster(&wrong).finish();
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{to}");
        assert!(ended.stderr.contains(named) && ended.stderr.contains(".toml:"), "{to}: {}", ended.stderr);
        let file = machine.lineup(&wrong);
        let checked =
            machine.run(env!("CARGO_BIN_EXE_broadcaster"), &["check", "--config", text(&file)]).finish();
        assert_eq!(checked.code, Some(2), "{to}");
    }
    let file = machine.lineup(&good);
    let table = machine.tool(env!("CARGO_BIN_EXE_broadcaster"), &["check", "--config", text(&file)]);
    assert!(table.contains("Station 1") && table.contains("239.77.0.2:5004"), "{table}");
    let nowhere = machine.run(env!("CARGO_BIN_EXE_broadcaster"), &["--config", "/nowhere.toml"]).finish();
    assert_eq!(nowhere.code, Some(2));
    assert!(nowhere.stderr.contains("/nowhere.toml does not exist"), "{}", nowhere.stderr);

    for args in
        [&["--station", "0"][..], &["--zap", "3"], &["--directory", "nothing"], &["--list", "--headless"]]
    {
        assert_eq!(machine.viewer(args).finish().code, Some(2), "{args:?}");
    }
    for args in [&["--list"][..], &["--headless", "--frames", "1"]] {
        let ended = machine.viewer(args).finish();
        assert_eq!(ended.code, Some(1), "{args:?}");
        assert!(ended.stderr.contains("127.0.0.1:9688"), "{args:?}: {}", ended.stderr);
        assert_eq!(ended.stderr.matches("refused").count(), 1, "one reason, told once: {}", ended.stderr);
    }
}
