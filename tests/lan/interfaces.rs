//! A station whose interface changes: it gets a first address, another address, another MTU.

use std::time::Duration;

use crate::common::capture::Capture;
use crate::common::film::pal;
use crate::common::lan::{Host, Lan, head, station};
use crate::common::process::Process;
use crate::common::tshark::{listen, rows};
use crate::common::watch::watch;
use crate::common::wire::{Unit, check_grid, largest_datagram};
use crate::common::{until, within};

const GROUP: &str = "239.77.0.1:5004";

/// The directory, as the host of the broadcaster reaches it whatever its addresses are.
const LOCAL: &str = "127.0.0.1:9688";

/// How long a change may take to reach all outputs. SAP announces every 5 s; a busy machine may take longer.
const SOON: Duration = Duration::from_secs(30);

/// The most pictures that may be missing in a row when an interface changes: 0.2 s of them.
const FEW: u64 = 5;

/// A capture of so many pictures of station 1 on host "one". `None` if they do not arrive [`SOON`].
fn captured(lan: &Lan, pictures: usize) -> Option<Capture> {
    let mut capture = Capture::start(lan, "one", GROUP, "eth0", pictures);
    within(SOON, || (!capture.runs()).then_some(()))?;
    Some(capture)
}

/// So many pictures of station 1 on host "one", checked as [`units`](crate::common::wire::units) does.
fn receive(lan: &Lan, pictures: usize, when: &str) -> Vec<Unit> {
    let capture = captured(lan, pictures);
    let capture =
        capture.unwrap_or_else(|| panic!("{pictures} pictures do not arrive in {} s {when}", SOON.as_secs()));
    capture.end()
}

/// A server's response to a request from a host; empty if there is none.
fn ask(host: Host, server: &str, request: &str) -> String {
    host.helper("ask", &[server, request]).finish().stdout
}

/// The SDP of station 1 as the web serves it to a host; empty if it does not.
fn sdp(host: Host, broadcaster: &str) -> String {
    let request = format!("GET /stations/1.sdp HTTP/1.1\r\nHost: {broadcaster}\r\nConnection: close\r\n\r\n");
    ask(host, &format!("{broadcaster}:8088"), &request)
}

/// The rest of the first line that begins with `start`; empty if there is none.
fn line<'a>(text: &'a str, start: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_default()
}

/// Warnings and errors of a log that say that eth0 has no address.
fn no_address(log: &str) -> Vec<String> {
    let is_grave = |line: &&str| line.contains("WARN") || line.contains("ERROR");
    let says_it = |line: &&str| {
        line.contains("eth0") && (line.contains("no address") || line.contains("no IPv4 address"))
    };
    log.lines().filter(is_grave).filter(says_it).map(str::to_owned).collect()
}

/// The interface is down and has no address when the broadcaster starts. The directory lists its station, the log says once that
/// there is no address, and another station is undisturbed. When the interface gets an address, the station is on air there.
pub(crate) fn a_station_goes_on_air_when_its_interface_gets_an_address() {
    let lan = Lan::new(&["sender", "one"]);
    let (sender, film, other) = (lan.host("sender"), pal(1), pal(2));
    sender.tool("ip", &["address", "flush", "dev", "eth0"]);
    sender.tool("ip", &["link", "set", "eth0", "down"]);
    let addresses = sender.tool("ip", &["-o", "address", "show", "dev", "eth0"]);
    assert_eq!(addresses, "", "eth0 is to have no address at first");
    let lineup = head("0.0.0.0:9688", "eth0")
        + "[http]\nlisten = \"0.0.0.0:8088\"\n"
        + &station(1, &[&film.path], GROUP, "")
        + &station(2, &[&other.path], "239.77.0.2:5004", "interface = \"lo\"");
    let mut broadcaster = sender.broadcaster(&lineup);
    broadcaster.await_log("\"Station 2\" on air: ", 1);

    let lists = |id: u16| sender.list(LOCAL).iter().any(|entry| entry["id"] == id);
    assert!(lists(2), "the directory lists the station that has an interface");
    let listed = (0..20).any(|_| lists(1));
    assert!(listed, "the directory does not list the station whose interface has no address");
    // Four seconds, by the other station's clock.
    watch(&lan, "sender", LOCAL, 2, 100).done().check_whole(&other);
    let warnings = no_address(&broadcaster.stderr());
    assert_eq!(warnings.len(), 1, "one warning, not one for each try: {warnings:#?}");

    let mut first = Capture::start(&lan, "one", GROUP, "eth0", 1);
    sender.tool("ip", &["address", "add", "10.77.0.1/24", "dev", "eth0"]);
    sender.tool("ip", &["link", "set", "eth0", "up"]);
    sender.tool("ip", &["route", "add", "224.0.0.0/4", "dev", "eth0"]);
    let came = within(SOON, || (!first.runs()).then_some(()));
    assert!(came.is_some(), "no picture has come {} s after eth0 got an address", SOON.as_secs());
    sender.await_station(LOCAL, 1, "showing its film", |entry| entry["state"] == "Film");
    let units = receive(&lan, 40, "after eth0 got an address");
    check_grid(&units, &film);
    let said = sdp(lan.host("one"), "10.77.0.1");
    assert!(line(&said, "o=").ends_with("IN IP4 10.77.0.1"), "the SDP does not name the address: {said:?}");
    let warnings = no_address(&broadcaster.stderr());
    assert_eq!(warnings.len(), 1, "no further warning after it got an address: {warnings:#?}");
}

/// Fields of RTP, SAP and mDNS, in the order of [`Heard`]'s functions.
const FIELDS: [&str; 9] = [
    "ip.src",
    "rtp.timestamp",
    "sap.flags.t",
    "sap.originating_source",
    "sdp.owner",
    "dns.flags.response",
    "dns.a",
    "dns.resp.ttl",
    "_ws.malformed",
];

/// A packet as tshark read it, with [`FIELDS`].
struct Heard(Vec<String>);

impl Heard {
    fn all(tshark: &Process) -> Vec<Heard> {
        rows(tshark).into_iter().map(Heard).collect()
    }

    fn field(&self, name: &str) -> &str {
        &self.0[FIELDS.iter().position(|known| *known == name).expect("a field")]
    }

    /// A picture's source address.
    fn picture(&self) -> Option<String> {
        (!self.field("rtp.timestamp").is_empty()).then(|| self.field("ip.src").to_owned())
    }

    /// The addresses in a SAP announcement: its source, its originating source and the origin of its SDP.
    fn announcement(&self) -> Option<String> {
        let is_announcement = ["0", "False"].contains(&self.field("sap.flags.t"));
        let origin = self.field("sdp.owner").rsplit(' ').next().unwrap_or_default();
        is_announcement
            .then(|| [self.field("ip.src"), self.field("sap.originating_source"), origin].join(" "))
    }

    /// The addresses in an mDNS response of the broadcaster, unless it takes them back.
    fn records(&self) -> Option<String> {
        let is_response = ["1", "True"].contains(&self.field("dns.flags.response"));
        let goodbye = self.field("dns.resp.ttl").split('|').all(|seconds| seconds == "0");
        let addresses = self.field("dns.a");
        (is_response && !goodbye && !addresses.is_empty()).then(|| addresses.to_owned())
    }
}

/// The address that each output tells now, with the output's name; empty if it tells none.
fn told(one: Host, tshark: &Process, at: &str) -> Vec<(&'static str, String)> {
    // So that the directory's records are asked for.
    let found = one.viewer(&["--list", "--json"]).finish().stderr;
    let found = found.split("at ").filter_map(|rest| rest.split_once(":9688")).map(|(address, _)| address);
    let heard = Heard::all(tshark);
    let last = |tells: fn(&Heard) -> Option<String>| heard.iter().rev().find_map(tells).unwrap_or_default();
    let setup =
        format!("SETUP rtsp://{at}:8554/1/video RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP;multicast\r\n\r\n");
    let transport = ask(one, &format!("{at}:8554"), &setup);
    let source =
        line(&transport, "Transport:").split(';').find_map(|part| part.trim().strip_prefix("source="));
    vec![
        ("the pictures' source address", last(Heard::picture)),
        ("SAP (source, originating source, o=)", last(Heard::announcement)),
        ("SDP by HTTP (o=)", line(&sdp(one, at), "o=").rsplit(' ').next().unwrap_or_default().to_owned()),
        ("RTSP (source=)", source.unwrap_or_default().to_owned()),
        ("mDNS (A records)", last(Heard::records)),
        ("the directory that a viewer finds", found.last().unwrap_or_default().to_owned()),
    ]
}

/// Waits until all outputs tell `address` and no other.
fn await_told(one: Host, tshark: &Process, address: &str, when: &str) {
    let mut wrong = Vec::new();
    within(SOON, || {
        let tells_another =
            |said: &str| said.is_empty() || said.split([' ', '|']).any(|part| part != address);
        wrong = told(one, tshark, address);
        wrong.retain(|(_, said)| tells_another(said));
        wrong.is_empty().then_some(())
    });
    let wrong: Vec<String> = wrong.iter().map(|(output, said)| format!("{output}: {said:?}")).collect();
    assert!(wrong.is_empty(), "{} s {when}, not {address}:\n{}", SOON.as_secs(), wrong.join("\n"));
}

/// The interface's address is replaced by another. Pictures then come from there, and SAP, SDP, RTSP and mDNS say so.
pub(crate) fn all_outputs_tell_another_address() {
    const OLD: &str = "10.77.0.1";
    const NEW: &str = "10.77.0.77";
    let lan = Lan::new(&["sender", "one"]);
    let (sender, one, film) = (lan.host("sender"), lan.host("one"), pal(1));
    let outputs = "[rtsp]\nlisten = \"0.0.0.0:8554\"\n[http]\nlisten = \"0.0.0.0:8088\"\n[announce]\n";
    let lineup = head("0.0.0.0:9688", "eth0") + outputs + &station(1, &[&film.path], GROUP, "");
    // Of each picture only the last packet, which has the marker: bit 0x80 of the second byte of RTP.
    let filter = "ip and udp and (port 9875 or port 5353 or (dst port 5004 and udp[9] & 0x80 != 0))";
    let tshark = listen(one, "eth0", filter, &FIELDS);
    let _broadcaster = sender.on_air(&lineup);
    await_told(one, &tshark, OLD, "after the start");

    // Of another prefix length: otherwise it would be deleted together with the first one.
    sender.tool("ip", &["address", "add", &format!("{NEW}/25"), "dev", "eth0"]);
    sender.tool("ip", &["address", "delete", &format!("{OLD}/24"), "dev", "eth0"]);
    await_told(one, &tshark, NEW, "after the change of address");
    check_grid(&receive(&lan, 25, "after the change of address"), &film);

    // The old session is not announced any more: an announcement of it would come between two of the new one.
    let announcements = until("another SAP announcement", || {
        let said: Vec<String> = Heard::all(&tshark).iter().filter_map(Heard::announcement).collect();
        let first = said.iter().position(|said| said.contains(NEW))?;
        let since = said[first..].to_vec();
        (since.iter().filter(|said| said.contains(NEW)).count() >= 2).then_some(since)
    });
    assert!(!announcements.iter().any(|said| said.split(' ').any(|part| part == OLD)), "{announcements:?}");
    let malformed = Heard::all(&tshark).iter().filter(|row| !row.field("_ws.malformed").is_empty()).count();
    assert_eq!(malformed, 0, "malformed packets");
}

/// How many lines of a log say of station 1 that its MTU is `mtu`, or that its datagrams have up to `limit` bytes.
fn says_mtu(log: &str, mtu: u32, limit: u32) -> usize {
    let numbers = [mtu.to_string(), limit.to_string()];
    let says_it = |line: &&str| {
        let said = line.split_once("\"Station 1\"").map_or("", |(_, said)| said);
        said.split(|c: char| !c.is_ascii_digit()).any(|number| numbers.iter().any(|known| known == number))
    };
    log.lines().filter(says_it).count()
}

/// The MTU falls and rises while a station is on air: its datagrams become smaller and larger, IP fragments none of them, and a
/// viewer misses next to nothing.
pub(crate) fn a_station_follows_the_mtu_down_and_up() {
    let lan = Lan::new(&["sender", "one", "two"]);
    let (sender, film) = (lan.host("sender"), pal(1));
    let lineup = head("0.0.0.0:9688", "eth0") + &station(1, &[&film.path], GROUP, "");
    let broadcaster = sender.on_air(&lineup);
    let mut seen = watch(&lan, "two", "10.77.0.1:9688", 1, 1_000_000);
    seen.await_pictures(10);
    let largest = |pictures| captured(&lan, pictures).map(|capture| largest_datagram(capture.file()));
    let before = largest(10);
    assert!(
        before.is_some_and(|size| (973..=1472).contains(&size)),
        "datagrams of {before:?} bytes at first"
    );

    for (mtu, limit, fits) in [(1000, 972, 1..=972), (1500, 1472, 973..=1472)] {
        let said_before = says_mtu(&broadcaster.stderr(), mtu, limit);
        let said = || says_mtu(&broadcaster.stderr(), mtu, limit) - said_before;
        sender.set_mtu(mtu);
        let mut size = None;
        let followed = within(SOON, || {
            size = largest(5);
            size.filter(|size| fits.contains(size))
        });
        let what = format!("after the MTU became {mtu}");
        assert!(size.is_some(), "no pictures arrive {} s {what}", SOON.as_secs());
        assert!(followed.is_some(), "datagrams still have up to {size:?} bytes {} s {what}", SOON.as_secs());
        let fragments = sender.ip_counter("FragCreates");
        let units = receive(&lan, 30, &what);
        check_grid(&units, &film);
        let sizes = || units.iter().flat_map(|unit| &unit.packets).map(|(_, length)| *length);
        let most = sizes().max().expect("packets");
        assert!(fits.contains(&most), "a datagram of {most} bytes {what}");
        assert_eq!(sender.ip_counter("FragCreates"), fragments, "IP fragments {what}");
        assert!(within(SOON, || (said() > 0).then_some(())).is_some(), "the log does not say it {what}");
        assert_eq!(said(), 1, "one line in the log {what}");
    }

    seen.await_more(10);
    seen.viewer.signal("INT");
    let seen = seen.done();
    let lost = seen.count("frames_lost");
    assert!(lost <= 2 * FEW, "{lost} pictures were lost on the way in two changes");
    film.check_order(&seen.pictures);
    let numbers: Vec<u64> =
        seen.pictures.iter().map(|picture| picture.strip().expect("a strip").1.into()).collect();
    let round = u64::from(film.pictures);
    let holes = numbers.windows(2).map(|pair| (pair[1] + round - pair[0]) % round - 1);
    let worst = holes.max().expect("pictures");
    assert!(worst <= FEW, "a viewer missed {worst} pictures in a row");
}
