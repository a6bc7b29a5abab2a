//! The zapper with a directory that says what the test wants. The groups are joined on loopback; nothing is sent to them.

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

fn entry(id: u16, group: &str) -> StationInfo {
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

/// A zapper whose directory nobody runs: the tests tell it what one would.
fn zapper() -> Zapper {
    let via = ReceiveVia::Multicast { interface: None };
    let mut zapper = Zapper::start("127.0.0.1:1".parse().unwrap(), via, QueuePolicy::Newest, 10);
    zapper.hear(Event::Connected { local: LOCAL }).unwrap();
    zapper
}

fn two_stations() -> Vec<StationInfo> {
    vec![entry(1, "239.255.77.1:5004"), entry(2, "239.255.77.2:5004")]
}

/// A directory that runs, with station 1.
fn directory(runtime: &Runtime) -> (Arc<StationTable>, SocketAddr) {
    let (table, listener) =
        (StationTable::new(), runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap());
    let address = listener.local_addr().unwrap();
    table.enter(entry(1, "239.255.77.1:5004"), || None).unwrap();
    runtime.spawn(serve(listener, table.clone(), Limits::default(), std::future::pending()));
    (table, address)
}

impl Zapper {
    fn told(&mut self, line_up: Vec<StationInfo>) {
        self.hear(Event::LineUp(line_up)).unwrap();
    }

    fn unknown(&mut self) -> Vec<StationId> {
        let unknown = |output| match output {
            ZapperEvent::NoSuchStation(id) => Some(id),
            _ => None,
        };
        self.pending.drain(..).filter_map(unknown).collect()
    }
}

#[test]
fn a_wrong_number_changes_nothing() {
    let runtime = runtime();
    let _within = runtime.enter();
    let mut zapper = zapper();
    zapper.told(two_stations());
    zapper.tune(StationId(2)).unwrap();
    zapper.tune(StationId(7)).unwrap();
    assert_eq!(zapper.unknown(), [StationId(7)]);
    assert_eq!(zapper.wanted(), Some(StationId(2)));
    // The station moves: it is followed.
    let moved = entry(2, "239.255.77.3:5004");
    zapper.told(vec![entry(1, "239.255.77.1:5004"), moved.clone()]);
    assert_eq!(zapper.station(), Some(&moved));
}

#[test]
fn a_station_that_is_missing_for_now_stays_wanted() {
    let runtime = runtime();
    let _within = runtime.enter();
    let mut zapper = zapper();
    zapper.tune(StationId(2)).unwrap();
    zapper.told(vec![entry(1, "239.255.77.1:5004")]);
    assert_eq!(zapper.unknown(), [StationId(2)]);
    zapper.told(two_stations());
    assert_eq!(zapper.station().map(|entry| entry.id), Some(StationId(2)));
    // It goes and comes back on another group: what is received is kept, and then followed.
    zapper.told(vec![entry(1, "239.255.77.1:5004")]);
    assert_eq!(zapper.station().map(|entry| entry.id), Some(StationId(2)));
    assert_eq!(zapper.unknown(), []);
    let moved = entry(2, "239.255.77.3:5004");
    zapper.told(vec![moved.clone()]);
    assert_eq!(zapper.station(), Some(&moved));
}

#[test]
fn who_waited_for_a_station_joins_its_audience() {
    let runtime = runtime();
    let _within = runtime.enter();
    let (table, directory) = directory(&runtime);
    let mut zapper =
        Zapper::start(directory, ReceiveVia::Multicast { interface: None }, QueuePolicy::Newest, 10);
    zapper.tune(StationId(2)).unwrap();
    let deadline = Instant::now() + GUARD;
    while !zapper.wanted.as_ref().is_some_and(|wish| wish.refused) {
        assert!(Instant::now() < deadline, "the directory refuses what it does not have");
        zapper.next(Duration::from_millis(10)).unwrap();
    }
    table.enter(entry(2, "239.255.77.2:5004"), || None).unwrap();
    while table.audience(StationId(2)) == 0 {
        assert!(Instant::now() < deadline, "it is on, and nobody was asked for it again");
        zapper.next(Duration::from_millis(10)).unwrap();
    }
}

#[test]
fn while_a_station_is_awaited_the_screen_is_still_of_the_one_before() {
    let runtime = runtime();
    let _within = runtime.enter();
    let mut zapper = zapper();
    zapper.told(two_stations());
    zapper.tune(StationId(1)).unwrap();
    zapper.shown(StationId(1));
    zapper.tune(StationId(2)).unwrap();
    assert_eq!(zapper.station().map(|entry| entry.id), Some(StationId(2)));
    assert_eq!(zapper.on_screen().map(|(entry, _)| entry.id), Some(StationId(1)));
    zapper.shown(StationId(2));
    assert_eq!(zapper.on_screen().map(|(entry, _)| entry.id), Some(StationId(2)));
}

#[test]
fn an_interface_that_is_not_there_is_told_and_waited_for() {
    let runtime = runtime();
    let _within = runtime.enter();
    let mut zapper = zapper();
    zapper.told(two_stations());
    let elsewhere = StationInfo { interface: "nosuch0".into(), ..entry(2, "239.255.77.2:5004") };
    zapper.told(vec![elsewhere]);
    zapper.tune(StationId(2)).unwrap();
    let deadline = Instant::now() + GUARD;
    let problem = loop {
        assert!(Instant::now() < deadline, "it says why nothing comes");
        zapper.next(Duration::from_millis(10)).unwrap();
        if let Some(problem) = zapper.problem() {
            break problem;
        }
    };
    assert_eq!(problem, "there is no interface nosuch0 on this machine");
    // Sent on another interface, or the directory reached by another: the group is joined there.
    zapper.told(two_stations());
    let on = |zapper: &Zapper| zapper.coming.as_ref().map(|coming| coming.origin.clone());
    let group = "239.255.77.2:5004".parse().unwrap();
    assert_eq!(on(&zapper), Some(ReceiveFrom::Group(group, "lo".into())));
    zapper.directory = "203.0.113.7:9688".parse().unwrap();
    zapper.hear(Event::Connected { local: "198.51.100.9:5".parse().unwrap() }).unwrap();
    zapper.told(two_stations());
    assert_eq!(on(&zapper), Some(ReceiveFrom::Group(group, "198.51.100.9".into())));
}

#[test]
fn a_directory_that_is_found_later_is_asked() {
    let runtime = runtime();
    let _within = runtime.enter();
    let (table, directory) = directory(&runtime);
    let via = ReceiveVia::Multicast { interface: None };
    let mut zapper = Zapper::start("127.0.0.1:1".parse().unwrap(), via, QueuePolicy::Newest, 10);
    zapper.tune(StationId(1)).unwrap();
    zapper.look_for(move || directory).unwrap();
    let deadline = Instant::now() + GUARD;
    while zapper.station().is_none() || table.audience(StationId(1)) == 0 {
        assert!(Instant::now() < deadline, "it is where it was started");
        zapper.next(Duration::from_millis(10)).unwrap();
    }
}
