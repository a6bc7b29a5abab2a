//! Stations on air: viewers see the right pictures, in datagrams of the right size.

use std::net::Ipv6Addr;

use crate::common::film::{ntsc, numbered, pal};
use crate::common::harness::text;
use crate::common::lan::{Lan, head, station};
use crate::common::until;
use crate::common::watch::{watch, watch_with};
use crate::common::wire::{Unit, check_grid, steps, units};

/// The largest of all datagrams, in bytes of UDP payload.
fn largest(units: &[Unit]) -> usize {
    units.iter().flat_map(|unit| &unit.packets).map(|(_, length)| *length).max().unwrap_or(0)
}

/// Two stations on one port, one interface given by its name and one by its address. There is a viewer of each on a host of its
/// own, where another program has joined the other station's group, and two are on the broadcaster's host.
pub(crate) fn every_viewer_sees_its_station() {
    let lan = Lan::new(&["sender", "one", "two"]);
    let (first, second) = (pal(1), ntsc(2));
    let lineup = head("0.0.0.0:9688", "eth0")
        + &station(1, &[&first.path], "239.77.0.1:5004", "")
        + &station(2, &[&second.path], "239.77.0.2:5004", "interface = \"10.77.0.1\"");
    let sender = lan.host("sender");
    let _broadcaster = sender.on_air(&lineup);

    let file = |name: &str| lan.folder().join(name);
    let capture = |host: &str, group: &str, pictures: &str, name: &str| {
        let mut capture = lan.host(host).helper("capture", &[group, "eth0", pictures, text(&file(name))]);
        capture.await_output("listening");
        capture
    };
    let captures = [
        capture("one", "239.77.0.2:5004", "132", "second"),
        capture("two", "239.77.0.1:5004", "112", "first"),
    ];
    let watches = [
        watch(&lan, "one", "10.77.0.1:9688", 1, 110),
        watch(&lan, "two", "10.77.0.1:9688", 2, 130),
        watch(&lan, "sender", "127.0.0.1:9688", 2, 70),
        watch_with(&lan, sender, "10.77.0.1:9688", 1, 60, &["--interface", "10.77.0.1"]),
    ];
    for (watch, film) in watches.into_iter().zip([&first, &second, &second, &first]) {
        let seen = watch.done();
        seen.check_whole(film);
        seen.check_size((640, 368));
        assert_eq!(seen.summary["station"], u64::from(film.station));
        assert_eq!(seen.summary["group"], format!("239.77.0.{}:5004", film.station));
    }
    captures.into_iter().for_each(|capture| drop(capture.succeed()));
    for (name, film) in [("first", &first), ("second", &second)] {
        let units = units(&file(name));
        // Twice through the loop point.
        assert!(units.len() > 2 * usize::from(film.pictures));
        check_grid(&units, film);
        assert!(units.iter().all(|unit| unit.packets.len() > 1), "one packet a picture over Ethernet");
        assert!(largest(&units) <= 1472, "{}", largest(&units));
    }
    assert_eq!(sender.ip_counter("FragCreates"), 0);
    assert_eq!(lan.host("one").ip_counter("ReasmReqds"), 0);
}

/// `datagram = 65507` over a link of MTU 1500: IP fragments the datagrams.
pub(crate) fn one_datagram_a_picture() {
    let lan = Lan::new(&["sender", "one"]);
    let film = pal(1);
    let group = "239.77.0.1:5004";
    let lineup = head("0.0.0.0:9688", "eth0") + &station(1, &[&film.path], group, "datagram = 65507");
    let _broadcaster = lan.host("sender").on_air(&lineup);
    let file = lan.folder().join("capture");
    let capture = lan.host("one").helper("capture", &[group, "eth0", "40", text(&file)]);
    let seen = watch(&lan, "one", "10.77.0.1:9688", 1, 40).done();
    seen.check_whole(&film);
    capture.succeed();
    let units = units(&file);
    check_grid(&units, &film);
    assert!(units.iter().all(|unit| unit.packets.len() == 1));
    assert!(largest(&units) > 1472);
    assert!(lan.host("sender").ip_counter("FragCreates") > 40);
    assert!(lan.host("one").ip_counter("ReasmOKs") >= 39);
}

/// `datagram = "auto"` on jumbo frames: fewer, larger datagrams, and no IP fragments.
pub(crate) fn datagrams_follow_the_mtu() {
    let lan = Lan::new(&["sender", "one"]);
    for host in ["sender", "one"] {
        lan.host(host).set_mtu(9000);
    }
    let film = pal(1);
    let group = "239.77.0.1:5004";
    let lineup = head("0.0.0.0:9688", "eth0") + &station(1, &[&film.path], group, "");
    let _broadcaster = lan.host("sender").on_air(&lineup);
    let file = lan.folder().join("capture");
    lan.host("one").helper("capture", &[group, "eth0", "20", text(&file)]).succeed();
    let units = units(&file);
    check_grid(&units, &film);
    assert!((1473..=8972).contains(&largest(&units)), "{}", largest(&units));
    assert_eq!(lan.host("sender").ip_counter("FragCreates"), 0);
}

/// A group of site scope, one of link scope, which names no network without an interface, and a source-specific one.
pub(crate) fn ipv6() {
    let lan = Lan::new(&["sender", "one"]);
    let (film, near) = (pal(1), pal(2));
    let group = "[ff15::77:1]:5004";
    let lineup = head("[::]:9688", "eth0")
        + &station(1, &[&film.path], group, "")
        + &station(2, &[&near.path], "[ff12::77:2]:5004", "")
        + &station(3, &[&film.path], "[ff35::8000:77]:5004", "");
    let _broadcaster = lan.host("sender").on_air(&lineup);
    let file = lan.folder().join("capture");
    let capture = lan.host("one").helper("capture", &[group, "eth0", "55", text(&file)]);
    let nearby = ["one", "sender"].map(|host| watch(&lan, host, "[fd77::1]:9688", 2, 30));
    let seen = watch(&lan, "one", "[fd77::1]:9688", 1, 55).done();
    seen.check_whole(&film);
    nearby.into_iter().for_each(|watch| watch.done().check_whole(&near));
    assert_eq!(seen.summary["group"], group);
    capture.succeed();
    let units = units(&file);
    check_grid(&units, &film);
    assert!((1000..=1452).contains(&largest(&units)), "{}", largest(&units));

    let specific = watch(&lan, "one", "[fd77::1]:9688", 3, 55);
    // The join names the sender, so that switches pass no other's datagrams.
    let joined = |row: &str| {
        let row: Vec<_> = row.split_whitespace().collect();
        row.get(2..5) == Some(&[&hex("ff35::8000:77")[..], &hex("fd77::1")[..], "1"])
    };
    until("a join that names the sender", || {
        lan.host("one").tool("cat", &["/proc/net/mcfilter6"]).lines().any(joined).then_some(())
    });
    specific.done().check_whole(&film);
}

/// An address as the kernel writes it in /proc.
fn hex(address: &str) -> String {
    address.parse::<Ipv6Addr>().unwrap().octets().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A playlist of two films: the station keeps its size, so the second film stands between bars; each film keeps its rate; and
/// the time line has no gap where they meet.
pub(crate) fn two_films_of_different_shape_and_rate() {
    let lan = Lan::alone();
    let wide = numbered(1, (640, 360), (25, 1), 30);
    let narrow = numbered(2, (480, 360), (30, 1), 36);
    let group = "239.77.0.1:5004";
    let lineup = head("127.0.0.1:9688", "127.0.0.1") + &station(1, &[&wide.path, &narrow.path], group, "");
    let _broadcaster = lan.machine().on_air(&lineup);
    let file = lan.folder().join("capture");
    let mut capture = lan.machine().helper("capture", &[group, "lo", "180", text(&file)]);
    capture.await_output("listening");
    let seen = watch(&lan, "alone", "127.0.0.1:9688", 1, 66);
    for rate in [25, 30] {
        let shown = |entry: &serde_json::Value| entry["rate"]["num"] == rate && entry["rate"]["den"] == 1;
        lan.machine().await_station("127.0.0.1:9688", 1, "at the film's rate", shown);
    }
    seen.done().check_size((640, 368));
    capture.succeed();

    // 480x360 in 640x368: 491 columns wide.
    let units = units(&file);
    let steps = steps(&units);
    let (left, right) = ((640 - 491) / 2, (640 - 491) / 2 + 491);
    let strips: Vec<_> = units
        .iter()
        .map(|unit| {
            unit.picture.strip().or_else(|| unit.picture.strip_between(left, right)).expect("a strip")
        })
        .collect();
    let of = |station| if station == 1 { (&wide, 3600) } else { (&narrow, 3000) };
    let mut changes = 0;
    for ((pair, unit), step) in strips.windows(2).zip(&units).zip(steps) {
        let ((station, number), (next_station, next_number)) = (pair[0], pair[1]);
        let (film, interval) = of(station);
        // Pictures that a busy machine skipped leave their places empty.
        let places = if next_station == station {
            u32::from(next_number - number) * interval
        } else {
            changes += 1;
            u32::from(film.pictures - number) * interval + u32::from(next_number) * of(next_station).1
        };
        assert_eq!(step, places, "{step} ticks after {:?}", pair);
        let bar = unit.picture.colour_at(40, 500)[0];
        assert_eq!(station == 2, bar < 4, "a bar at the left: luma {bar} in film {station}");
    }
    assert!(changes >= 4, "{changes} changes of film");
}
