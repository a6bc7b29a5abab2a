//! Faults, and how broadcaster and viewer recover from them.

use std::fs;

use serde_json::Value;

use crate::common::film::pal;
use crate::common::harness::text;
use crate::common::lan::{Lan, head, station};
use crate::common::picture::count_saved;
use crate::common::process::Process;
use crate::common::watch::watch;

const DIRECTORY: &str = "10.77.0.1:9688";
const GROUP: &str = "239.77.0.1:5004";

fn is_on_air(entry: &Value) -> bool {
    entry["state"] == "Film"
}

fn on_slate(reason: &str) -> impl Fn(&Value) -> bool {
    move |entry| entry["state"]["Slate"]["reason"].as_str().is_some_and(|said| said.contains(reason))
}

fn one_station(lan: &Lan) -> Process {
    let lineup = head("0.0.0.0:9688", "eth0") + &station(1, &[&pal(1).path], GROUP, "");
    lan.host("sender").on_air(&lineup)
}

/// A viewer's cable is pulled, then the broadcaster's, then the broadcaster's interface goes down: one viewer watches through it
/// all, and counts what it has missed.
pub(crate) fn a_link_that_is_pulled() {
    let lan = Lan::new(&["sender", "one", "two"]);
    let film = pal(1);
    let mut broadcaster = one_station(&lan);
    let mut seen = watch(&lan, "one", DIRECTORY, 1, 160);
    seen.await_pictures(20);

    lan.link_down("one");
    // Three seconds, by the station's own clock.
    watch(&lan, "two", DIRECTORY, 1, 75).done().check_whole(&film);
    let before = count_saved(&seen.folder);
    lan.link_up("one");
    seen.await_pictures(before + 40);

    lan.link_down("sender");
    watch(&lan, "sender", "127.0.0.1:9688", 1, 25).done().check_whole(&film);
    let before = count_saved(&seen.folder);
    lan.link_up("sender");
    seen.await_pictures(before + 20);

    let sender = lan.host("sender");
    sender.tool("ip", &["link", "set", "eth0", "down"]);
    for _ in 0..5 {
        sender.list("127.0.0.1:9688");
    }
    sender.tool("ip", &["link", "set", "eth0", "up"]);
    sender.tool("ip", &["route", "replace", "224.0.0.0/4", "dev", "eth0"]);
    let before = count_saved(&seen.folder);
    seen.await_pictures(before + 10);

    let seen = seen.done();
    assert!(broadcaster.runs());
    assert_eq!(seen.count("frames"), 160);
    // The strips tell how many are missing, not counting whole rounds of 50.
    let (missing, lost) = (film.check_order(&seen.pictures), seen.count("frames_lost"));
    assert!(lost >= 98, "{lost} pictures lost in all outages");
    let difference = (lost + 50 - missing % 50) % 50;
    assert!(difference.min(50 - difference) <= 4, "{lost} counted as lost, {missing} missing modulo 50");
    assert!(seen.count("packets_lost") > lost, "several packets a picture");
}

/// DHCP gives the broadcaster's interface another address: its packets must then come from that address.
pub(crate) fn an_interface_that_gets_another_address() {
    let lan = Lan::new(&["sender", "one"]);
    let sender = lan.host("sender");
    let mut broadcaster = one_station(&lan);
    // Of another prefix length: otherwise it would be deleted together with the first one.
    sender.tool("ip", &["address", "add", "10.77.0.77/32", "dev", "eth0"]);
    sender.tool("ip", &["address", "del", "10.77.0.1/24", "dev", "eth0"]);
    broadcaster.await_log("sends by eth0 (10.77.0.77", 1);
    let file = lan.folder().join("capture");
    lan.host("one").helper("capture", &[GROUP, "eth0", "25", text(&file)]).succeed();
}

/// The kernel drops one packet in forty, at random, and counts them. The viewer counts the same.
pub(crate) fn lost_packets_are_counted() {
    let lan = Lan::new(&["sender", "one"]);
    let film = pal(1);
    let _broadcaster = one_station(&lan);
    let mut seen = watch(&lan, "one", DIRECTORY, 1, 120);
    seen.await_pictures(10);
    let one = lan.host("one");
    one.tool(
        "nft",
        &["add table netdev t; add counter netdev t dropped; \
           add chain netdev t c { type filter hook ingress device eth0 priority 0; }; \
           add rule netdev t c ip daddr 239.77.0.1 udp dport 5004 numgen random mod 40 < 1 counter name dropped drop"],
    );
    seen.await_more(60);
    one.tool("nft", &["flush chain netdev t c"]);
    let counters: Value = serde_json::from_str(&one.tool("nft", &["-j", "list", "counters"])).unwrap();
    let dropped = counters["nftables"][1]["counter"]["packets"].as_u64().expect("a count");
    assert!(seen.viewer.runs(), "the viewer must not end before the packets are counted");

    let seen = seen.done();
    assert!(dropped > 0);
    assert_eq!(seen.count("packets_lost"), dropped);
    let (missing, lost) = (film.check_order(&seen.pictures), seen.count("frames_lost"));
    assert!(lost > 0 && lost <= dropped, "{lost} pictures lost with {dropped} packets");
    assert!((lost..=lost + 6).contains(&missing), "{lost} counted as lost, {missing} missing");
}

/// A stranger on the network sends to the group before a viewer joins and while the viewer watches. The directory names the source
/// of the station, so that the viewer shows none of the stranger's pictures and misses none of the film's.
pub(crate) fn a_stranger_that_sends_to_the_group() {
    let lan = Lan::new(&["sender", "one", "stranger"]);
    let film = pal(1);
    let _broadcaster = one_station(&lan);
    // The attack ends by itself after a minute.
    let mut stranger = lan.host("stranger").helper("attack", &[GROUP, "eth0", "1500"]);
    stranger.await_output("attacking");
    let seen = watch(&lan, "one", DIRECTORY, 1, 150).done();
    assert!(stranger.runs(), "the attack lasted longer than the film was watched");
    assert_eq!(seen.count("frames"), 150);
    seen.check_whole(&film);
}

/// A film vanishes while it plays: its station shows a slate of the same size and plays on when
/// the film is back. The other station loses nothing.
pub(crate) fn a_film_that_is_removed_and_put_back() {
    let lan = Lan::new(&["sender", "one", "two"]);
    let (first, second) = (pal(1), pal(2));
    let (here, away) = (lan.folder().join("film.mp4"), lan.folder().join("away.mp4"));
    fs::copy(&first.path, &here).unwrap();
    let lineup = head("0.0.0.0:9688", "eth0")
        // Without a reel, by which it would be joined where it is at this time of day.
        + &station(1, &[&here], GROUP, "width = 320\nreel = false")
        + &station(2, &[&second.path], "239.77.0.2:5004", "");
    let sender = lan.host("sender");
    let _broadcaster = sender.on_air(&lineup);
    let mut through = watch(&lan, "one", DIRECTORY, 1, 1_000_000);
    let undisturbed = watch(&lan, "two", DIRECTORY, 2, 150);
    through.await_pictures(10);
    let before = sender.await_station(DIRECTORY, 1, "on air", is_on_air);

    fs::rename(&here, &away).unwrap();
    let slate =
        sender.await_station(DIRECTORY, 1, "on a slate", on_slate("cannot read film.mp4: no such file"));
    assert_eq!(slate["size"], before["size"]);
    assert_eq!(slate["size"]["width"], 320);
    fs::rename(&away, &here).unwrap();
    sender.await_station(DIRECTORY, 1, "on air again", is_on_air);
    through.await_more(30);

    let pictures = through.stop();
    assert!(pictures.iter().all(|picture| (picture.width, picture.height) == (320, 176)));
    let strips: Vec<_> = pictures.iter().map(|picture| picture.strip()).collect();
    let slate = |strip: &Option<(u8, u16)>| strip.is_none();
    let from = strips.iter().position(slate).expect("a slate");
    let to = strips.iter().rposition(slate).expect("a slate");
    assert!(strips[from..=to].iter().all(slate), "one slate, without a picture of the film in it");
    assert!(to - from >= 3, "five pictures a second for one second");
    first.check_numbers(strips[..from].iter().copied());
    first.check_numbers(strips[to + 1..].iter().copied());
    assert_eq!(strips[to + 1], Some((1, 0)), "the film begins with its first picture");

    undisturbed.done().check_whole(&second);
}

/// A film is replaced by a named pipe, whose opening would block for ever. Each retry of its station refuses the pipe by its kind, so
/// that no thread waits for it. Another station loses no picture. When the film is back, it is on air.
pub(crate) fn a_film_that_becomes_a_pipe() {
    let lan = Lan::new(&["sender", "two"]);
    let (first, second) = (pal(1), pal(2));
    let (here, pipe, away) =
        (lan.folder().join("film.mp4"), lan.folder().join("pipe"), lan.folder().join("away.mp4"));
    fs::copy(&first.path, &here).unwrap();
    let sender = lan.host("sender");
    sender.tool("mkfifo", &[text(&pipe)]);
    let lineup = head("0.0.0.0:9688", "eth0")
        + &station(1, &[&here], GROUP, "")
        + &station(2, &[&second.path], "239.77.0.2:5004", "");
    let config = sender.lineup(&lineup);
    let program = env!("CARGO_BIN_EXE_broadcaster");
    let mut broadcaster = sender.run("env", &["RUST_LOG=debug", program, "--config", text(&config)]);
    broadcaster.await_log(" on air: ", 2);
    fs::rename(&here, &away).unwrap();
    fs::hard_link(&pipe, &here).unwrap();
    let undisturbed = watch(&lan, "two", DIRECTORY, 2, 1_000_000);
    let failed = "failed: cannot read film.mp4: it is a named pipe, not a file";
    broadcaster.await_log(failed, 1);
    sender.await_station(DIRECTORY, 1, "on a slate", on_slate("cannot read film.mp4: it is a named pipe"));
    let threads = broadcaster.threads();
    broadcaster.await_log(failed, 3);
    let later = broadcaster.threads();
    assert!(later <= threads + 1, "{threads} threads, and {later} after two more retries");
    undisturbed.viewer.signal("INT"); // after all retries
    undisturbed.done().check_whole(&second);

    fs::rename(&away, &here).unwrap();
    sender.await_station(DIRECTORY, 1, "on air", is_on_air);
}

/// The viewer finds directory and station again by itself.
pub(crate) fn a_broadcaster_that_is_killed_and_started_again() {
    let lan = Lan::new(&["sender", "one"]);
    let film = pal(1);
    let broadcaster = one_station(&lan);
    let mut seen = watch(&lan, "one", DIRECTORY, 1, 1_000_000);
    seen.await_pictures(20);
    broadcaster.signal("KILL");
    assert_eq!(broadcaster.finish().code, None);
    let before = count_saved(&seen.folder);

    let _again = one_station(&lan);
    seen.await_pictures(before + 50);
    lan.host("sender").await_station(DIRECTORY, 1, "watched again", |entry| entry["audience"] == 1);
    let pictures = seen.stop();
    assert!(pictures.iter().all(|picture| picture.strip().is_some_and(|(station, _)| station == 1)));
    film.check_order(&pictures[before + 5..]);
}

/// Random bytes, RTP of another payload type, other senders and forged sequence numbers cost a viewer nothing.
pub(crate) fn rubbish_on_the_group_costs_no_picture() {
    let lan = Lan::new(&["sender", "one", "two"]);
    let film = pal(1);
    let _broadcaster = one_station(&lan);
    let mut seen = watch(&lan, "one", DIRECTORY, 1, 120);
    seen.await_pictures(10);
    let mut blast = lan.host("two").helper("blast", &[GROUP, "eth0", "75"]);
    blast.await_output("blasted");
    assert!(seen.viewer.runs(), "the viewer must not end before the rubbish");
    seen.done().check_whole(&film);
}
