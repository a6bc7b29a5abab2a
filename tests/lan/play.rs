//! `broadcaster play`: a film on air by one command, and the lines that it prints, each run as it is printed.

use crate::common::film::numbered;
use crate::common::harness::text;
use crate::common::lan::{Host, Lan};
use crate::common::process::Process;

/// Starts it, and waits until it has printed how to watch.
fn play(host: Host<'_>, args: &[&str]) -> Process {
    let mut playing = host.run(env!("CARGO_BIN_EXE_broadcaster"), &[&["play"], args].concat());
    playing.await_output("Ctrl-C ends it.\n");
    playing
}

/// The words of the line that has `text`.
fn words(playing: &Process, text: &str) -> Vec<String> {
    let said = playing.stdout();
    let line = said.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("no {text} in {said}"));
    line.split_whitespace().map(str::to_owned).collect()
}

/// Where the film is, in seconds.
fn position(host: Host<'_>, playing: &Process) -> f64 {
    let page = &words(playing, "xdg-open")[1];
    let stations = host.run("curl", &["-sSf", &format!("{page}api/stations")]).json();
    stations[0]["now"]["position_s"].as_f64().unwrap_or(0.0)
}

/// The film is on the screen of a second machine by each of the three lines, and a second film beside it.
pub(crate) fn a_film_is_on_air_by_one_command() {
    let lan = Lan::new(&["tx", "rx"]);
    let (tx, rx) = (lan.host("tx"), lan.host("rx"));
    // Of five minutes, so that it does not begin anew meanwhile.
    let film = numbered(3, (320, 240), (5, 1), 1500);
    let film = text(&film.path);
    let playing = play(tx, &[film, "--interface", "eth0", "--name", "Foyer"]);
    let said = playing.stdout();
    assert!(said.starts_with("On air: \"Foyer\", on 239.255."), "{said}");

    let viewer = words(&playing, "--directory");
    let arguments: Vec<&str> = viewer[1..].iter().map(String::as_str).collect();
    let seen =
        rx.run(&viewer[0], &[&arguments[..], &["--headless", "--frames", "5", "--json"]].concat()).json();
    assert_eq!((seen["name"].as_str(), seen["frames"].as_u64()), (Some("Foyer"), Some(5)), "{seen}");

    let ffplay = words(&playing, "ffplay");
    assert_eq!(ffplay[0], "ffplay");
    // The same demuxer, without a window.
    let arguments: Vec<&str> = ffplay[1..ffplay.len() - 1].iter().map(String::as_str).collect();
    let url = ffplay[ffplay.len() - 1].as_str();
    let end = ["-i", url, "-frames:v", "3", "-f", "null", "-"];
    rx.tool("ffmpeg", &[&["-v", "error"], &arguments[..], &end].concat());

    let browser = words(&playing, "xdg-open");
    let page = rx.tool("curl", &["-sSf", &browser[1]]);
    assert!(page.contains("<!doctype html>") || page.contains("<!DOCTYPE html>"), "{page}");

    // Nobody has named ports or a group, so a second one takes others. It begins with its first film, wherever the other one is.
    while position(rx, &playing) < 5.0 {}
    let second = play(tx, &[film, "--interface", "eth0"]);
    for line in ["--directory", "ffplay", "xdg-open", "On air"] {
        assert_ne!(words(&playing, line), words(&second, line));
    }
    let (first, later) = (position(rx, &playing), position(rx, &second));
    assert!(later < first - 3.0, "the first one is at {first} s, the second one at {later} s");
    for ending in [playing, second] {
        ending.signal("INT");
        assert_eq!(ending.succeed().stderr, "");
    }
}
