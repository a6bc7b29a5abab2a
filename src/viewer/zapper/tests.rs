//! The zapper with a directory played by the test. The groups are joined on loopback, and nothing is sent to them.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::*;
use crate::directory::table::StationTable;
use crate::directory::{Limits, State, serve};

/// No test waits longer for any one thing: a guard against hanging, never a measurement.
const GUARD: Duration = Duration::from_secs(30);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn station(id: u16, group: &str) -> StationInfo {
    StationInfo {
        id: StationId(id),
        name: format!("Station {id}"),
        group: group.parse().unwrap(),
        interface: "lo".into(),
        size: None,
        rate: None,
        quality: 80,
        state: State::Film,
        audience: 0,
    }
}

const LOCAL: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 5));

/// A zapper without a directory: the tests make its events.
fn zapper() -> Zapper {
    let via = ReceiveVia::Multicast { interface: None, require_signed: false };
    let mut zapper =
        Zapper::start("127.0.0.1:1".parse::<SocketAddr>().unwrap(), via, QueuePolicy::Newest, 10);
    zapper.handle_event(Event::Connected { local: LOCAL }).unwrap();
    zapper
}

fn two_stations() -> Vec<StationInfo> {
    vec![station(1, "239.255.77.1:5004"), station(2, "239.255.77.2:5004")]
}

/// A running directory that lists station 1.
fn directory(runtime: &Runtime) -> (Arc<StationTable>, SocketAddr) {
    let (table, listener) =
        (StationTable::new(), runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap());
    let address = listener.local_addr().unwrap();
    table.enter(station(1, "239.255.77.1:5004"), || None).unwrap();
    runtime.spawn(serve(listener, table.clone(), Limits::default(), std::future::pending()));
    (table, address)
}

impl Zapper {
    fn line_up_is(&mut self, line_up: Vec<StationInfo>) {
        self.handle_event(Event::LineUp(line_up)).unwrap();
    }

    /// The numbers that it has reported as unknown since the last call.
    fn unknown(&mut self) -> Vec<StationId> {
        let unknown = |event| match event {
            ZapperEvent::NoSuchStation(id) => Some(id),
            _ => None,
        };
        self.pending.drain(..).filter_map(unknown).collect()
    }
}

#[test]
fn a_number_that_the_line_up_lacks_changes_nothing() {
    let runtime = runtime();
    let _within = runtime.enter();
    let mut zapper = zapper();
    zapper.line_up_is(two_stations());
    zapper.tune(StationId(2)).unwrap();
    zapper.tune(StationId(7)).unwrap();
    assert_eq!(zapper.unknown(), [StationId(7)]);
    assert_eq!(zapper.wanted(), Some(StationId(2)));
    // The station moves to another group, and the zapper follows.
    let moved = station(2, "239.255.77.3:5004");
    zapper.line_up_is(vec![station(1, "239.255.77.1:5004"), moved.clone()]);
    assert_eq!(zapper.station(), Some(&moved));
}

#[test]
fn a_station_missing_from_the_line_up_stays_wanted() {
    let runtime = runtime();
    let _within = runtime.enter();
    let mut zapper = zapper();
    zapper.tune(StationId(2)).unwrap();
    zapper.line_up_is(vec![station(1, "239.255.77.1:5004")]);
    assert_eq!(zapper.unknown(), [StationId(2)]);
    zapper.line_up_is(two_stations());
    assert_eq!(zapper.station().map(|station| station.id), Some(StationId(2)));
    // It is unlisted and then listed on another group: its receiver is kept first, then replaced.
    zapper.line_up_is(vec![station(1, "239.255.77.1:5004")]);
    assert_eq!(zapper.station().map(|station| station.id), Some(StationId(2)));
    assert_eq!(zapper.unknown(), []);
    let moved = station(2, "239.255.77.3:5004");
    zapper.line_up_is(vec![moved.clone()]);
    assert_eq!(zapper.station(), Some(&moved));
}

#[test]
fn a_viewer_joins_the_audience_of_a_station_that_is_listed_later() {
    let runtime = runtime();
    let _within = runtime.enter();
    let (table, directory) = directory(&runtime);
    let mut zapper = Zapper::start(
        directory,
        ReceiveVia::Multicast { interface: None, require_signed: false },
        QueuePolicy::Newest,
        10,
    );
    zapper.tune(StationId(2)).unwrap();
    let deadline = Instant::now() + GUARD;
    while !zapper.wanted.as_ref().is_some_and(|wanted| wanted.refused) {
        assert!(Instant::now() < deadline, "the directory has not refused a station that it does not list");
        zapper.next(Duration::from_millis(10)).unwrap();
    }
    table.enter(station(2, "239.255.77.2:5004"), || None).unwrap();
    while table.audience(StationId(2)) == 0 {
        assert!(Instant::now() < deadline, "the directory was not asked again when the station was listed");
        zapper.next(Duration::from_millis(10)).unwrap();
    }
}

#[test]
fn while_a_station_is_awaited_the_one_before_it_is_on_the_screen() {
    let runtime = runtime();
    let _within = runtime.enter();
    let mut zapper = zapper();
    zapper.line_up_is(two_stations());
    zapper.tune(StationId(1)).unwrap();
    zapper.shown(StationId(1));
    zapper.tune(StationId(2)).unwrap();
    assert_eq!(zapper.station().map(|station| station.id), Some(StationId(2)));
    assert_eq!(zapper.on_screen().map(|(station, _)| station.id), Some(StationId(1)));
    zapper.shown(StationId(2));
    assert_eq!(zapper.on_screen().map(|(station, _)| station.id), Some(StationId(2)));
}

#[test]
fn a_station_that_moves_to_another_group_is_no_change_of_station() {
    let runtime = runtime();
    let _within = runtime.enter();
    let mut zapper = zapper();
    zapper.line_up_is(two_stations());
    zapper.tune(StationId(2)).unwrap();
    // Before its first picture it is still the change that the user has asked for.
    zapper.line_up_is(vec![station(2, "239.255.77.3:5004")]);
    let took = zapper.shown(StationId(2));
    assert!(took.is_some());
    zapper.tune(StationId(2)).unwrap();
    zapper.line_up_is(vec![station(2, "239.255.77.4:5004")]);
    assert_eq!((zapper.shown(StationId(2)), zapper.last_zap()), (None, took));
}

#[test]
fn a_missing_interface_is_reported_and_awaited() {
    let runtime = runtime();
    let _within = runtime.enter();
    let mut zapper = zapper();
    zapper.line_up_is(two_stations());
    let elsewhere = StationInfo { interface: "nosuch0".into(), ..station(2, "239.255.77.2:5004") };
    zapper.line_up_is(vec![elsewhere]);
    zapper.tune(StationId(2)).unwrap();
    let deadline = Instant::now() + GUARD;
    let problem = loop {
        assert!(Instant::now() < deadline, "the zapper does not say why nothing arrives");
        zapper.next(Duration::from_millis(10)).unwrap();
        if let Some(problem) = zapper.problem() {
            break problem;
        }
    };
    assert_eq!(problem, "there is no interface nosuch0 on this machine");
    // If the station is sent on another interface, or the directory reached from another, the group is joined there.
    zapper.line_up_is(two_stations());
    let from = |zapper: &Zapper| zapper.coming.as_ref().map(|coming| coming.from.clone());
    let group = "239.255.77.2:5004".parse().unwrap();
    assert_eq!(from(&zapper), Some(ReceiveFrom::Group(group, "lo".into(), None)));
    zapper.directory.endpoint.address = "203.0.113.7:9688".parse().unwrap();
    zapper.handle_event(Event::Connected { local: "198.51.100.9:5".parse().unwrap() }).unwrap();
    zapper.line_up_is(two_stations());
    assert_eq!(from(&zapper), Some(ReceiveFrom::Group(group, "198.51.100.9".into(), None)));
}

#[test]
fn packets_are_taken_from_the_source_that_the_directory_names() {
    let runtime = runtime();
    let _within = runtime.enter();
    let mut zapper = zapper();
    let sources = |address: &str| Event::Sources([(StationId(2), address.parse().unwrap())].into());
    let source = |zapper: &Zapper| match zapper.coming.as_ref().map(|coming| coming.from.clone()) {
        Some(ReceiveFrom::Group(_, _, source)) => source.map(|source| source.to_string()),
        other => panic!("{other:?}"),
    };
    zapper.handle_event(sources("192.0.2.7")).unwrap();
    zapper.line_up_is(two_stations());
    zapper.tune(StationId(2)).unwrap();
    assert_eq!(source(&zapper).as_deref(), Some("192.0.2.7"));
    // The broadcaster has got another address.
    zapper.handle_event(sources("192.0.2.8")).unwrap();
    zapper.line_up_is(two_stations());
    assert_eq!(source(&zapper).as_deref(), Some("192.0.2.8"));
    // One of the other family is nobody's, and an older directory names none.
    zapper.handle_event(sources("2001:db8::7")).unwrap();
    zapper.line_up_is(two_stations());
    assert_eq!(source(&zapper), None);
    zapper.handle_event(Event::Connected { local: LOCAL }).unwrap();
    zapper.line_up_is(two_stations());
    assert_eq!(source(&zapper), None);
}

#[test]
fn a_directory_that_is_found_later_is_used() {
    let runtime = runtime();
    let _within = runtime.enter();
    let (table, directory) = directory(&runtime);
    let via = ReceiveVia::Multicast { interface: None, require_signed: false };
    let mut zapper =
        Zapper::start("127.0.0.1:1".parse::<SocketAddr>().unwrap(), via, QueuePolicy::Newest, 10);
    zapper.tune(StationId(1)).unwrap();
    zapper.search(move || directory).unwrap();
    let deadline = Instant::now() + GUARD;
    while zapper.station().is_none() || table.audience(StationId(1)) == 0 {
        assert!(Instant::now() < deadline, "the directory that was found is not used");
        zapper.next(Duration::from_millis(10)).unwrap();
    }
}
