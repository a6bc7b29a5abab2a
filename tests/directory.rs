//! The directory over real sockets: a server on a port of its own for each test, our client, and clients that break the
//! protocol. Limits of full length are tested in virtual time, beside the server; here they are short, and nothing is measured
//! against the clock.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use stationcast::directory::framing::FrameReader;
use stationcast::directory::message::{Reply, Request};
use stationcast::directory::serialization::encode;
use stationcast::directory::{
    DirectoryClient, ErrorCode, Event, Limits, OnAir, QueryError, State, StationInfo, StationTable, VERSION,
    list, serve,
};
use stationcast::media::{AirTime, StationId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// No test waits longer: a guard against hanging, not a measurement.
const PATIENCE: Duration = Duration::from_secs(20);

const NATURE: StationId = StationId(2);
const SPACE: StationId = StationId(5);

fn entry(id: StationId, name: &str) -> StationInfo {
    StationInfo::starting(id, name, ([239, 77, 0, id.0 as u8], 5004).into(), "lo", 80)
}

fn table() -> Arc<StationTable> {
    let table = StationTable::new();
    table.enter(entry(SPACE, "Space"), || None).unwrap();
    let picture = || Some(OnAir { due: AirTime(77), jpeg: vec![0xff, 0xd8, 0xff, 0xd9] });
    table.enter(entry(NATURE, "Nature"), picture).unwrap();
    table
}

struct Server {
    addr: SocketAddr,
    table: Arc<StationTable>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(limits: Limits) -> Server {
        Server::start_at("127.0.0.1:0".parse().unwrap(), limits).await
    }

    async fn start_at(addr: SocketAddr, limits: Limits) -> Server {
        let listener = TcpListener::bind(addr).await.unwrap(); // with SO_REUSEADDR, as tokio does
        let (addr, table) = (listener.local_addr().unwrap(), table());
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { drop(stopped.await) };
        let task = tokio::spawn(serve(listener, Arc::clone(&table), limits, shutdown));
        Server { addr, table, stop, task }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }

    /// Waits until a station's audience is `wanted`, as a client sees it: each look is a round trip.
    async fn audience_becomes(&self, station: StationId, wanted: u32) {
        let look = async {
            loop {
                let stations = list(self.addr, PATIENCE).await.unwrap();
                if stations.iter().any(|entry| entry.id == station && entry.audience == wanted) {
                    return;
                }
            }
        };
        let reached = timeout(PATIENCE, look).await;
        assert!(reached.is_ok(), "{} in the audience, not {wanted}", self.table.audience(station));
    }
}

/// A client that can also break the protocol.
struct Raw {
    stream: TcpStream,
    reader: FrameReader<Reply>,
}

impl Raw {
    async fn connect(server: &Server) -> Raw {
        Raw { stream: TcpStream::connect(server.addr).await.unwrap(), reader: FrameReader::default() }
    }

    async fn greeted(server: &Server) -> Raw {
        let mut raw = Raw::connect(server).await;
        raw.send(&Request::Hello { version: VERSION, agent: "raw".into() }).await;
        assert!(matches!(raw.receive().await, Some(Reply::Hello { version: VERSION, .. })));
        raw
    }

    async fn send(&mut self, request: &Request) {
        self.stream.write_all(&encode(request).unwrap()).await.unwrap();
    }

    /// The next reply; `None` if the server has closed the connection, in order or by a reset.
    async fn receive(&mut self) -> Option<Reply> {
        loop {
            if let Some(reply) = self.reader.take().expect("the server sends valid messages") {
                return Some(reply);
            }
            let read = timeout(PATIENCE, self.stream.read_buf(self.reader.room()))
                .await
                .expect("the server replies in time");
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// Asserts that the server replies with this error and closes in order. A reset would discard the reply on some systems.
    async fn is_refused(&mut self, code: ErrorCode, reason: &str) {
        match self.receive().await {
            Some(Reply::Error { code: given, sentence }) => {
                assert_eq!(given, code, "{sentence}");
                assert!(sentence.contains(reason), "{sentence:?} should contain {reason:?}");
            }
            other => panic!("not refused: {other:?}"),
        }
        let end = timeout(PATIENCE, self.stream.read(&mut [0])).await.expect("an end");
        assert_eq!(end.expect("no reset"), 0);
    }
}

fn start_client(addr: SocketAddr) -> (DirectoryClient, UnboundedReceiver<Event>) {
    let (said, events) = unbounded_channel();
    (DirectoryClient::start(addr, move |event| drop(said.send(event))), events)
}

/// The first event for which `wanted` returns something.
async fn event<T>(events: &mut UnboundedReceiver<Event>, wanted: impl Fn(Event) -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = wanted(events.recv().await.expect("the client runs")) {
                return found;
            }
        }
    };
    timeout(PATIENCE, search).await.expect("the event comes")
}

fn tuned(event: Event) -> Option<(StationInfo, Option<OnAir>)> {
    match event {
        Event::Tuned { entry, now } => Some((entry, now)),
        _ => None,
    }
}

#[tokio::test]
async fn list_names_all_stations() {
    let server = Server::start(Limits::default()).await;
    let stations = list(server.addr, PATIENCE).await.unwrap();
    assert_eq!(stations, [entry(NATURE, "Nature"), entry(SPACE, "Space")]);
}

#[tokio::test]
async fn list_reports_why_it_failed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let silent = list(addr, Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(silent.to_string(), format!("the directory at {addr} did not answer in 0.05 s"));
    drop(listener);
    let nobody = list(addr, PATIENCE).await.unwrap_err();
    assert!(nobody.to_string().contains("Is the broadcaster running?"), "{nobody}");

    let full = Server::start(Limits { connections: 0, ..Limits::default() }).await;
    let refused = list(full.addr, PATIENCE).await.unwrap_err();
    assert!(matches!(refused, QueryError::Refused { code: ErrorCode::Busy, .. }), "{refused}");
}

#[tokio::test]
async fn tune_hands_over_the_picture_and_counts_the_audience() {
    let server = Server::start(Limits::default()).await;
    let (client, mut events) = start_client(server.addr);
    client.tune(NATURE);
    let (entry, now) = event(&mut events, tuned).await;
    assert_eq!((entry.id, entry.audience), (NATURE, 1));
    assert_eq!(now, Some(OnAir { due: AirTime(77), jpeg: vec![0xff, 0xd8, 0xff, 0xd9] }));

    client.tune(SPACE);
    let (entry, now) = event(&mut events, tuned).await;
    assert_eq!((entry.id, entry.audience, now), (SPACE, 1, None));
    assert_eq!(server.table.audience(NATURE), 0);

    client.tune(StationId(9));
    let code = event(&mut events, |event| match event {
        Event::Refused { code, .. } => Some(code),
        _ => None,
    });
    assert_eq!(code.await, ErrorCode::NoSuchStation);
    server.audience_becomes(SPACE, 1).await; // a refused Tune leaves things as they were

    drop(client);
    server.audience_becomes(SPACE, 0).await;
}

#[tokio::test]
async fn a_watcher_is_told_of_a_change() {
    let server = Server::start(Limits::default()).await;
    let (_client, mut events) = start_client(server.addr);
    let local = event(&mut events, |event| match event {
        Event::Connected { local } => Some(local),
        _ => None,
    });
    assert_eq!(local.await.ip(), server.addr.ip());
    let line_up = |event| match event {
        Event::LineUp(stations) => Some(stations),
        _ => None,
    };
    assert_eq!(event(&mut events, line_up).await, server.table.line_up().1);

    server.table.update(SPACE, |entry| entry.state = State::Film).unwrap();
    assert_eq!(event(&mut events, line_up).await[1].state, State::Film);
    server.table.enter(entry(StationId(9), "Nine"), || None).unwrap();
    assert_eq!(event(&mut events, line_up).await.len(), 3);
}

#[tokio::test]
async fn hello_comes_first_once_and_in_our_version() {
    let server = Server::start(Limits::default()).await;
    let mut raw = Raw::connect(&server).await;
    raw.send(&Request::List).await;
    raw.is_refused(ErrorCode::BadRequest, "must be Hello").await;

    let mut raw = Raw::greeted(&server).await;
    raw.send(&Request::Hello { version: VERSION, agent: "again".into() }).await;
    raw.is_refused(ErrorCode::BadRequest, "second Hello").await;

    let mut raw = Raw::connect(&server).await;
    raw.send(&Request::Hello { version: 7, agent: "future".into() }).await;
    raw.is_refused(ErrorCode::UnsupportedVersion, "version 7 is not spoken here").await;
}

#[tokio::test]
async fn an_unknown_station_is_an_error_and_the_connection_goes_on() {
    let server = Server::start(Limits::default()).await;
    let mut raw = Raw::greeted(&server).await;
    raw.send(&Request::Tune { station: StationId(999) }).await;
    let sentence = "there is no station 999 in the line-up".into();
    assert_eq!(raw.receive().await, Some(Reply::Error { code: ErrorCode::NoSuchStation, sentence }));
    raw.send(&Request::Ping).await;
    assert_eq!(raw.receive().await, Some(Reply::Pong));
}

#[tokio::test]
async fn garbage_is_refused_even_while_more_of_it_arrives() {
    let server = Server::start(Limits::default()).await;
    for (bytes, reason) in [
        (&b"GET / HTTP/1.1\r\nHost: tv\r\n\r\n"[..], "longer than the 4096 allowed"),
        (&[0xff, 0xff, 0xff, 0xff], "longer than the 4096 allowed"),
        (&[1, 0, 0, 0, 77], "cannot be read"),
        (&[0, 0, 0, 0], "cannot be read"),
        (&[2, 0, 0, 0, 1, 0], "1 bytes too many"),
        (&[5, 0, 0, 0, 0, 1, 2, 7, 7], "control characters"),
    ] {
        for more in [0, 20_000] {
            let mut raw = Raw::connect(&server).await;
            raw.stream.write_all(&[bytes, &vec![0x55; more]].concat()).await.unwrap();
            raw.is_refused(ErrorCode::BadRequest, reason).await;
        }
    }
    assert_eq!(list(server.addr, PATIENCE).await.unwrap().len(), 2, "others are served");
}

#[tokio::test]
async fn a_client_that_is_silent_or_stops_within_a_request_is_closed() {
    let short = Duration::from_millis(100);
    let server = Server::start(Limits { hello: short, request: short, ..Limits::default() }).await;
    Raw::connect(&server).await.is_refused(ErrorCode::TimedOut, "Hello").await;
    let mut raw = Raw::greeted(&server).await;
    raw.stream.write_all(&[4, 0, 0, 0, 2]).await.unwrap();
    raw.is_refused(ErrorCode::TimedOut, "not finished").await;

    let server = Server::start(Limits { idle: short, ..Limits::default() }).await;
    Raw::greeted(&server).await.is_refused(ErrorCode::TimedOut, "Ping").await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_reset_and_others_are_served() {
    let server = Server::start(Limits { write: Duration::from_millis(200), ..Limits::default() }).await;
    let large = || Some(OnAir { due: AirTime(1), jpeg: vec![0; 1_000_000] });
    server.table.enter(entry(NATURE, "Nature"), large).unwrap();

    let mut slow = Raw::greeted(&server).await;
    slow.send(&Request::Tune { station: NATURE }).await;
    assert!(matches!(slow.receive().await, Some(Reply::Tuned { now: Some(_), .. })));
    server.audience_becomes(NATURE, 1).await;
    // Replies of 30 MB, more than any socket buffers. The requests are sent in one piece, so that the server reads all of them:
    // closing a socket with unread data is always a reset.
    let requests = encode(&Request::Tune { station: NATURE }).unwrap().repeat(30);
    slow.stream.write_all(&requests).await.unwrap();
    server.audience_becomes(NATURE, 0).await; // other clients ask for it, and are answered

    // The kernel discards what it still held: a reset, not 64 pictures and a close.
    let mut sink = vec![0; 1 << 20];
    let error = loop {
        match slow.stream.read(&mut sink).await {
            Ok(0) => panic!("an orderly close: the kernel keeps the unread replies"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn connections_are_limited_and_places_become_free() {
    for (connections, per_address, reason) in
        [(2, 99, "all 2 connections"), (99, 2, "2 connections from 127.0.0.1")]
    {
        let server = Server::start(Limits { connections, per_address, ..Limits::default() }).await;
        let first = Raw::greeted(&server).await;
        let second = Raw::greeted(&server).await;
        let mut third = Raw::connect(&server).await;
        third.send(&Request::Hello { version: VERSION, agent: "third".into() }).await;
        third.is_refused(ErrorCode::Busy, reason).await;
        drop(first);
        let admitted = async {
            while let Err(error) = list(server.addr, PATIENCE).await {
                assert!(matches!(error, QueryError::Refused { code: ErrorCode::Busy, .. }), "{error}");
            }
        };
        timeout(PATIENCE, admitted).await.expect("the place becomes free");
        drop(second);
    }
}

#[tokio::test]
async fn a_client_outlives_the_server() {
    let server = Server::start(Limits::default()).await;
    let addr = server.addr;
    let (client, mut events) = start_client(addr);
    client.tune(NATURE);
    assert_eq!(event(&mut events, tuned).await.0.id, NATURE);

    server.stop().await;
    let lost = |event| match event {
        Event::Lost { reason, retry_in, .. } => Some((reason, retry_in)),
        _ => None,
    };
    let (reason, first) = event(&mut events, lost).await;
    assert_eq!(reason, "the directory closed the connection");
    let (reason, second) = event(&mut events, lost).await;
    assert!(reason.contains("cannot reach"), "{reason}");
    assert!(Duration::from_millis(250) <= first && first < second, "{first:?}, {second:?}");

    // A new server at the same address: the session connects again by itself, to the same audience.
    let server = Server::start_at(addr, Limits::default()).await;
    let connected = |event| matches!(event, Event::Connected { .. }).then_some(());
    event(&mut events, connected).await;
    let (entry, now) = event(&mut events, tuned).await;
    assert_eq!((entry.id, entry.audience, now.is_some()), (NATURE, 1, true));
    server.audience_becomes(NATURE, 1).await;
}
