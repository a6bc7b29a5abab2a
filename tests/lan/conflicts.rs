//! Two broadcasters on one group: both are told, and so is a viewer.

use serde_json::Value;

use crate::common::film::pal;
use crate::common::lan::{Host, Lan, head, station};
use crate::common::process::Process;
use crate::common::watch::{Watch, watch, watch_with};

const GROUP: &str = "239.77.0.1:5004";
const ALONE: &str = "is alone on";
const NOT_ALONE: &str = "is not alone on";
const COME: &str = "another sender's pictures come to";
const COME_NO_MORE: &str = "no other sender's pictures come to";

/// A line-up of two stations, on [`GROUP`] and a `second` group.
fn lineup(interface: &str, second: &str, directory: u16, http: u16) -> String {
    head(&format!("0.0.0.0:{directory}"), interface)
        + &format!("[http]\nlisten = \"127.0.0.1:{http}\"\n")
        + &station(1, &[&pal(1).path], GROUP, "")
        + &station(2, &[&pal(2).path], second, "")
}

/// The other senders of a broadcaster's stations, in the API and in the metrics.
fn others(host: Host, http: u16) -> [Vec<String>; 2] {
    let at = format!("127.0.0.1:{http}");
    let status = host.run(env!("CARGO_BIN_EXE_broadcaster"), &["status", "--json", "--http", &at]).json();
    let senders = |station: &Value| -> Vec<String> {
        let senders = station["other_senders"].as_array().expect("a list");
        senders.iter().map(|sender| sender.as_str().unwrap().to_owned()).collect()
    };
    let senders = [0, 1].map(|n| senders(&status[n]));
    let metrics = host.tool("curl", &["-s", &format!("http://{at}/metrics")]);
    for (id, senders) in (1..).zip(&senders) {
        let line = format!(
            "stationcast_other_senders{{station=\"{id}\",name=\"Station {id}\"}} {}\n",
            senders.len()
        );
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    senders
}

/// The lines of a log that tell of other senders.
fn told(process: &Process) -> Vec<String> {
    let words = [ALONE, NOT_ALONE, COME, COME_NO_MORE];
    let log = process.stderr();
    let lines = log.lines().filter(|line| words.iter().any(|word| line.contains(word)));
    lines.map(str::to_owned).collect()
}

/// The first broadcaster and a viewer of it are there, when the second one comes and goes.
fn come_and_go(
    mut first: Process,
    start_second: impl FnOnce() -> Process,
    mut seen: Watch,
    hosts: [Host; 2],
    addresses: [&str; 2],
) {
    // Three seconds by the station's own clock: its own packets are no other sender's.
    seen.await_pictures(75);
    assert_eq!((told(&first), told(&seen.viewer)), (vec![], vec![]));
    assert_eq!(others(hosts[0], 8088), [vec![], vec![]] as [Vec<String>; 2]);

    let mut second = start_second();
    first.await_log(NOT_ALONE, 2);
    second.await_log(NOT_ALONE, 2);
    seen.viewer.await_log(COME, 1);
    for (host, http, other) in [(hosts[0], 8088, addresses[1]), (hosts[1], 8089, addresses[0])] {
        let [one, two] = others(host, http);
        assert!(one.len() == 1 && one[0].starts_with(&format!("{other}:")), "{one:?}");
        assert_eq!(two.len(), 1, "{two:?}");
    }
    seen.await_more(100);
    second.signal("TERM");
    assert_eq!(second.finish().code, Some(0));
    first.await_log(ALONE, 2);
    seen.viewer.await_log(COME_NO_MORE, 1);
    assert_eq!(others(hosts[0], 8088), [vec![], vec![]] as [Vec<String>; 2]);
    // Once each, and not again and again.
    assert_eq!(told(&first).len(), 4, "{:?}", told(&first));
    assert_eq!(told(&seen.viewer).len(), 2, "{:?}", told(&seen.viewer));

    seen.viewer.signal("INT");
    let seen = seen.done();
    let senders = seen.summary["other_senders"].as_array().expect("a list");
    assert_eq!(senders.len(), 1, "{senders:?}");
    assert!(senders[0].as_str().unwrap().starts_with(addresses[1]), "{senders:?}");
    seen.check_whole(&pal(1));
}

/// On two machines of a network.
pub(crate) fn two_broadcasters_on_one_group() {
    let lan = Lan::new(&["first", "second", "one"]);
    let [first, second] = ["first", "second"].map(|name| lan.host(name));
    let broadcaster = first.on_air(&lineup("eth0", "[ff15::77:2]:5004", 9688, 8088));
    let seen = watch(&lan, "one", "10.77.0.1:9688", 1, 1_000_000);
    come_and_go(
        broadcaster,
        || second.on_air(&lineup("eth0", "[ff15::77:2]:5004", 9688, 8089)),
        seen,
        [first, second],
        ["10.77.0.1", "10.77.0.2"],
    );
}

/// On one machine of a network: the packets of both come from the same address, in a
/// source-specific group too.
pub(crate) fn two_broadcasters_on_one_machine() {
    let lan = Lan::new(&["first", "one"]);
    let first = lan.host("first");
    let broadcaster = first.on_air(&lineup("eth0", "232.77.0.2:5004", 9688, 8088));
    let seen = watch(&lan, "one", "10.77.0.1:9688", 1, 1_000_000);
    come_and_go(
        broadcaster,
        || first.on_air(&lineup("eth0", "232.77.0.2:5004", 9689, 8089)),
        seen,
        [first, first],
        ["10.77.0.1"; 2],
    );
}

/// On loopback, as the line-up is shipped.
pub(crate) fn two_broadcasters_on_loopback() {
    let lan = Lan::alone();
    let machine = lan.machine();
    let broadcaster = machine.on_air(&lineup("lo", "239.77.0.2:5004", 9688, 8088));
    let seen = watch_with(&lan, machine, "127.0.0.1:9688", 1, 1_000_000, &[]);
    come_and_go(
        broadcaster,
        || machine.on_air(&lineup("lo", "239.77.0.2:5004", 9689, 8089)),
        seen,
        [machine, machine],
        ["127.0.0.1"; 2],
    );
}
