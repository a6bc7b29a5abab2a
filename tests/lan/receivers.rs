//! Players that receive a station from its group report by RTCP, and count in its audience.

use serde_json::Value;

use crate::common::film::pal;
use crate::common::lan::{Lan, head, station};
use crate::common::until;

const STATIONS: &str = "http://10.77.0.1:8088/api/stations";

pub(crate) fn players_that_report_are_the_audience() {
    let lan = Lan::new(&["sender", "one", "two"]);
    let sender = lan.host("sender");
    let web = "[http]\nlisten = \"0.0.0.0:8088\"\n[rtsp]\nlisten = \"0.0.0.0:8554\"\n";
    let lineup = head("0.0.0.0:9688", "eth0") + web + &station(1, &[&pal(1).path], "239.77.0.1:5004", "");
    let _broadcaster = sender.on_air(&lineup);
    let status = || -> Value {
        let all: Value = serde_json::from_str(&sender.tool("curl", &["-s", STATIONS])).unwrap();
        all[0].clone()
    };
    // One of the two loses every tenth packet.
    let rule = "add table netdev t; add chain netdev t c { type filter hook ingress device eth0 priority 0; }; \
                add rule netdev t c udp dport 5004 numgen inc mod 10 0 drop";
    lan.host("two").tool("nft", &[rule]);
    // By RTSP it joins the group. FFmpeg does not report on what it receives by SDP.
    let play = "-v error -nostdin -rtsp_transport udp_multicast -i rtsp://10.77.0.1:8554/1 -f null -";
    let play = |host: &str| lan.host(host).run("ffmpeg", &play.split_whitespace().collect::<Vec<_>>());
    assert_eq!((&status()["audience"], &status()["reporting"]), (&0.into(), &0.into()));
    let players = ["one", "two"].map(play);
    let both = until("two players that report, and one of them losses", || {
        let status = status();
        let loss = status["reported_loss"].as_f64().unwrap_or(0.0);
        (status["reporting"] == 2 && loss > 0.01).then_some(status)
    });
    assert_eq!(both["audience"], 2, "{both}");
    let loss = both["reported_loss"].as_f64().unwrap();
    assert!(loss < 0.5, "{both}");
    // A player that ends without a word is forgotten.
    drop(players);
    until("no player", || (status()["audience"] == 0).then_some(()));
    assert_eq!((&status()["reporting"], &status()["reported_loss"]), (&0.into(), &Value::Null));
}
