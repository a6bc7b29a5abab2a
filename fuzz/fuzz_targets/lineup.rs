//! Arbitrary text as a line-up: no panic, and every fault on a line of the file.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use stationcast::interface::Interface;
use stationcast::lineup::{Lineup, MediaKind, World};

fuzz_target!(|text: &str| {
    let loopback = Interface {
        name: "lo".into(),
        index: 1,
        mtu: 65_536,
        up: true,
        loopback: true,
        v4: vec![[127, 0, 0, 1].into()],
        v6: Vec::new(),
    };
    let world = World {
        interfaces: vec![loopback],
        home: Some("/home/op".into()),
        cache: Some("/home/op/.cache".into()),
        state: None,
        media: Box::new(|_| MediaKind::File),
        sound: Box::new(|_, _| true),
    };
    match Lineup::parse(text, Path::new("stations.toml"), &world) {
        Ok(lineup) => {
            assert!(lineup.publish.is_some() || !lineup.stations.is_empty());
            assert!(!lineup.table().is_empty());
        }
        Err(faults) => assert!(faults.sentences().iter().all(|sentence| sentence.starts_with("stations.toml"))),
    }
});
