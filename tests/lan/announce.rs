//! Announcements: stations by SAP, the directory by multicast DNS.

use crate::common::film::pal;
use crate::common::lan::{Lan, head, station};
use crate::common::tshark::{listen, rows};
use crate::common::until;

const GROUP: &str = "239.77.0.1:5004";

/// Stations of both address families are announced to the groups where players listen, with the SDP of `broadcaster sdp`, every
/// five seconds by the station's own clock, and deleted at the end.
pub(crate) fn stations_are_announced_by_sap() {
    let lan = Lan::new(&["sender", "one"]);
    let (sender, film) = (lan.host("sender"), pal(1));
    let lineup = head("0.0.0.0:9688", "eth0")
        + "[announce]\nmdns = false\n"
        + &station(1, &[&film.path], GROUP, "ttl = 3")
        + &station(2, &[&film.path], "[ff15::77:2]:5004", "");
    let fields = [
        "ip.dst",
        "ipv6.dst",
        "ip.ttl",
        "sap.flags.t",
        "sap.message_identifier_hash",
        "sap.originating_source",
        "sap.originating_source.ipv6",
        "sap.payload_type",
        "sdp.session_name",
        "sdp.owner",
        "sdp.connection_info",
        "sdp.media",
        "rtp.timestamp",
        "_ws.malformed",
    ];
    let filter = "udp port 9875 or (udp dst port 5004 and ip dst 239.77.0.1)";
    let tshark = listen(lan.host("one"), "eth0", filter, &fields);
    let broadcaster = sender.on_air(&lineup);
    let of = |row: &[String], field: &str| {
        row[fields.iter().position(|known| *known == field).expect("a field")].clone()
    };
    let announced = |rows: &[Vec<String>], station: &str| {
        rows.iter().filter(|row| of(row, "sdp.session_name") == station).count()
    };
    until("three announcements of each station", || {
        let rows = rows(&tshark);
        ["Station 1", "Station 2"].iter().all(|name| announced(&rows, name) >= 3).then_some(())
    });
    let file = sender.lineup(&lineup);
    let sdp = |id| {
        let args = ["sdp", id, "--config", file.to_str().unwrap()];
        sender.tool(env!("CARGO_BIN_EXE_broadcaster"), &args)
    };
    let (first, second) = (sdp("1"), sdp("2"));
    broadcaster.signal("TERM");
    assert_eq!(broadcaster.finish().code, Some(0));
    let is_true = |text: String| ["1", "True"].contains(&text.as_str());
    until("two deletions", || {
        let rows = rows(&tshark);
        (rows.iter().filter(|row| is_true(of(row, "sap.flags.t"))).count() == 2).then_some(())
    });

    let rows = rows(&tshark);
    for (name, text, to, source, origin) in [
        ("Station 1", first, ("239.255.255.255", "", "3"), ("10.77.0.1", ""), "IN IP4 10.77.0.1"),
        ("Station 2", second, ("", "ff05::2:7ffe", ""), ("", "fd77::1"), "IN IP6 fd77::1"),
    ] {
        let mine: Vec<_> = rows.iter().filter(|row| of(row, "sdp.session_name") == name).collect();
        let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start)).expect("a line");
        let hash = of(mine[0], "sap.message_identifier_hash");
        for row in &mine {
            let of = |field| of(row, field);
            assert_eq!((of("ip.dst"), of("ipv6.dst"), of("ip.ttl")), (to.0.into(), to.1.into(), to.2.into()));
            assert_eq!(of("sap.originating_source"), source.0, "{row:?}");
            assert_eq!(of("sap.originating_source.ipv6"), source.1, "{row:?}");
            assert_eq!(of("sap.payload_type"), "application/sdp");
            assert!(of("sdp.owner").ends_with(origin), "{row:?}");
            assert_eq!(
                [of("sdp.owner"), of("sdp.media")],
                [line("o="), line("m=")],
                "as the command prints it"
            );
            assert_eq!(of("sdp.connection_info"), line("c="));
            assert_eq!(of("_ws.malformed"), "");
            assert_eq!(of("sap.message_identifier_hash"), hash, "the same text");
        }
        let deletions: Vec<bool> = mine.iter().map(|row| is_true(of(row, "sap.flags.t"))).collect();
        let (last, before) = deletions.split_last().expect("announcements");
        assert!(*last && before.iter().all(|deleted| !deleted), "deleted once, at the end: {deletions:?}");
    }

    // Pictures of station 1 between its announcements: 125 in five seconds, some of them late on a busy machine.
    let mut counts = Vec::new();
    let mut timestamps = Vec::new();
    for row in &rows {
        if of(row, "sdp.session_name") == "Station 1" {
            counts.push(timestamps.len());
            timestamps.clear();
        } else if !of(row, "rtp.timestamp").is_empty() && timestamps.last() != Some(&of(row, "rtp.timestamp"))
        {
            timestamps.push(of(row, "rtp.timestamp"));
        }
    }
    for count in &counts[1..counts.len() - 1] {
        assert!((100..=150).contains(count), "{count} pictures between two announcements: {counts:?}");
    }
}

fn with_mdns(listen: &str, id: u16, group: &str) -> String {
    head(listen, "eth0") + "[announce]\nsap = false\n" + &station(id, &[&pal(1).path], group, "")
}

/// A viewer without `--directory` finds the directory. Its records are right, are sent on its interface and no other, and are
/// withdrawn at the end. A viewer with `--directory` sends no query.
pub(crate) fn the_directory_is_found_by_mdns() {
    let lan = Lan::new(&["sender", "one", "two"]);
    let sender = lan.host("sender");
    sender.tool("ip", &["link", "add", "other", "type", "veth", "peer", "name", "nobody"]);
    sender.tool("ip", &["addr", "add", "10.78.0.1/24", "dev", "other"]);
    for end in ["other", "nobody"] {
        sender.tool("ip", &["link", "set", end, "up"]);
    }
    let elsewhere =
        listen(sender, "other", "udp port 5353 or arp", &["dns.qry.name", "dns.resp.name", "arp.opcode"]);
    let fields = [
        "ip.src",
        "dns.flags.response",
        "dns.resp.name",
        "dns.resp.ttl",
        "dns.a",
        "dns.srv.port",
        "dns.txt",
        "_ws.malformed",
    ];
    let tshark = listen(lan.host("two"), "eth0", "ip and udp port 5353", &fields);
    let mut broadcaster = sender.on_air(&with_mdns("10.77.0.1:9688", 1, GROUP));
    broadcaster.await_log("announced by mDNS", 1);

    let told = lan.host("two").viewer(&["--directory", "10.77.0.1:9688", "--list", "--json"]).json();
    let found = lan.host("one").viewer(&["--list", "--json"]).succeed();
    assert!(found.stderr.contains("at 10.77.0.1:9688"), "{}", found.stderr);
    let list: serde_json::Value = serde_json::from_str(&found.stdout).expect("the line-up");
    assert_eq!(list[0]["name"], told[0]["name"]);
    let watched = lan.host("one").viewer(&["--station", "1", "--headless", "--frames", "5", "--json"]).json();
    assert_eq!(watched["frames"], 5);

    broadcaster.signal("TERM");
    assert_eq!(broadcaster.finish().code, Some(0));
    let of = |row: &[String], field: &str| {
        row[fields.iter().position(|known| *known == field).expect("a field")].clone()
    };
    let service = "_stationcast._tcp.local";
    until("a goodbye", || {
        let goodbye = |row: &Vec<String>| {
            let zero = of(row, "dns.resp.ttl").split('|').next() == Some("0");
            zero && of(row, "dns.resp.name").split('|').any(|name| name == service)
        };
        rows(&tshark).iter().any(goodbye).then_some(())
    });
    let heard = rows(&tshark);
    let from = |address: &str| heard.iter().filter(|row| of(row, "ip.src") == address).collect::<Vec<_>>();
    assert!(!from("10.77.0.2").is_empty(), "a viewer without --directory sends queries");
    assert!(from("10.77.0.3").is_empty(), "a viewer with --directory sends none");
    assert!(heard.iter().all(|row| of(row, "_ws.malformed").is_empty()));
    let answers = from("10.77.0.1");
    for (field, expected) in [("dns.srv.port", "9688"), ("dns.txt", "txtvers=1"), ("dns.txt", "stations=1")] {
        let said = |row: &&&Vec<String>| of(row, field).split('|').any(|value| value == expected);
        assert!(answers.iter().any(|row| said(&row)), "{expected} is in no {field}");
    }
    let addresses: Vec<String> =
        answers.iter().map(|row| of(row, "dns.a")).filter(|a| !a.is_empty()).collect();
    assert!(!addresses.is_empty() && addresses.iter().all(|a| a == "10.77.0.1"), "{addresses:?}");

    // A packet that is seen on the other interface: everything before it would have been, too.
    sender.run("bash", &["-c", "echo >/dev/udp/10.78.0.9/9"]).finish();
    until("a packet on the other interface", || {
        rows(&elsewhere).iter().any(|row| !row[2].is_empty()).then_some(())
    });
    assert!(rows(&elsewhere).iter().all(|row| row[0].is_empty() && row[1].is_empty()), "mDNS went out by it");
}

pub(crate) fn several_directories_are_listed() {
    let lan = Lan::new(&["sender", "second", "one"]);
    let mut first = lan.host("sender").on_air(&with_mdns("0.0.0.0:9688", 1, GROUP));
    let mut second = lan.host("second").on_air(&with_mdns("0.0.0.0:9688", 2, "239.77.0.2:5004"));
    first.await_log("announced by mDNS", 1);
    second.await_log("announced by mDNS", 1);
    let ended = lan.host("one").viewer(&["--station", "2", "--headless", "--frames", "1"]).finish();
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    for part in ["choose one with --directory ADDRESS", "at 10.77.0.1:9688", "at 10.77.0.2:9688"] {
        assert!(ended.stderr.contains(part), "{part:?} is not in {}", ended.stderr);
    }
}

/// An external player gets the station. When it ends, the viewer ends; when the viewer is ended, it ends the player, even one
/// that ignores SIGTERM.
pub(crate) fn an_external_player() {
    let lan = Lan::new(&["sender", "one"]);
    let _broadcaster =
        lan.host("sender").on_air(&(head("0.0.0.0:9688", "eth0") + &station(1, &[&pal(1).path], GROUP, "")));
    let play = |command: &str| {
        lan.host("one").viewer(&["--directory", "10.77.0.1:9688", "--station", "1", "--player", command])
    };
    play("ffmpeg -v error -protocol_whitelist file,udp,rtp -i {sdp} -frames:v 5 -f null -").succeed();
    let ended = play("ffmpeg {nothing}").finish();
    assert_eq!(
        (ended.code, ended.stderr.contains("there is no {nothing}; choose from {sdp}")),
        (Some(2), true)
    );
    let ended = play("no-such-player {sdp}").finish();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("the player no-such-player is not installed"), "{}", ended.stderr);

    let mut polite = play(
        "sh -c 'trap \"echo ended; exit\" TERM; echo {name} {group}:{port}; while :; do sleep 0.1; done'",
    );
    polite.await_output("Station 1 239.77.0.1:5004");
    polite.signal("TERM");
    assert!(polite.succeed().stdout.contains("ended"));
    let mut deaf = play("sh -c 'trap \"\" TERM; echo deaf; exec sleep 1000'");
    deaf.await_output("deaf");
    deaf.signal("INT");
    deaf.succeed();
}
