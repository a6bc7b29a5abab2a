//! The whole server over pipes in memory, in virtual time, so that its timeouts are tested at full length.

#![expect(clippy::disallowed_methods, reason = "in virtual time")]

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::*;
use crate::access::{Gatekeeper, Grant};
use crate::directory::message::{
    FilmOnAir, KeyFrom, OnAir, Services, State, StationInfo, StationKeys, StationNow, StationSigner,
    StreamKeys, VERSION,
};
use crate::directory::{Gate, KeysOf, Signers};
use crate::limits::ACCEPT_BACKOFF;
use crate::media::{AirTime, StationId};
use crate::wire::srtp::{MasterKey, Profile};

type Arrival = io::Result<(DuplexStream, SocketAddr)>;

struct Pipes(mpsc::UnboundedReceiver<Arrival>);

impl Accept for Pipes {
    type Stream = DuplexStream;

    async fn accept(&mut self) -> Arrival {
        match self.0.recv().await {
            Some(arrival) => arrival,
            None => std::future::pending().await,
        }
    }
}

struct TestServer {
    arrivals: mpsc::UnboundedSender<Arrival>,
    table: Arc<StationTable>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

const NATURE: StationId = StationId(2);
const OCEAN: StationId = StationId(1);

fn start(limits: Limits) -> TestServer {
    let table = StationTable::new();
    let picture = || Some(OnAir { due: AirTime(1), jpeg: vec![0xff; 100] });
    table.enter(nature(), picture).unwrap();
    let (arrivals, pipes) = mpsc::unbounded_channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move { drop(stopped.await) };
    let task = tokio::spawn(run(Pipes(pipes), Arc::clone(&table), limits, shutdown));
    TestServer { arrivals, table, stop, task }
}

fn nature() -> StationInfo {
    StationInfo::starting(NATURE, "Nature", "239.77.0.2:5004".parse().unwrap(), "lo", 80)
}

impl TestServer {
    /// A connection whose pipe holds `room` bytes in each direction.
    fn connect(&self, room: usize) -> TestClient {
        let (ours, theirs) = duplex(room);
        self.arrivals.send(Ok((theirs, "10.0.0.9:1234".parse().unwrap()))).unwrap();
        TestClient(Framed::new(ours))
    }

    async fn greeted(&self) -> TestClient {
        let mut client = self.connect(4096);
        client.send(&Request::Hello { version: VERSION, agent: "test".into() }).await;
        assert!(matches!(client.receive().await, Some(Reply::Hello { .. })));
        client
    }

    fn slate(&self, reason: impl ToString) {
        let state = State::Slate { reason: reason.to_string() };
        assert_eq!(self.table.update(NATURE, |entry| entry.state = state), Ok(true));
    }
}

struct TestClient(Framed<DuplexStream, Reply>);

impl TestClient {
    async fn send(&mut self, request: &Request) {
        self.0.send(&encode(request).unwrap()).await.unwrap();
    }

    /// The next reply; `None` when the server has closed.
    async fn receive(&mut self) -> Option<Reply> {
        loop {
            if let Some(reply) = self.0.take().expect("the server keeps to the protocol") {
                return Some(reply);
            }
            if !self.0.fill().await.unwrap_or(false) {
                return None;
            }
        }
    }

    async fn receive_slate(&mut self) -> String {
        match self.receive().await {
            Some(Reply::LineUp { stations, .. }) => match &stations[0].state {
                State::Slate { reason } => reason.clone(),
                state => format!("{state:?}"),
            },
            other => panic!("not a line-up: {other:?}"),
        }
    }

    /// Asserts that the next reply is this refusal, and that the server then closes.
    async fn is_refused(&mut self, code: ErrorCode, words: &str) {
        match self.receive().await {
            Some(Reply::Error { code: said, sentence }) => {
                assert_eq!(said, code);
                assert!(sentence.contains(words), "{sentence:?} should contain {words:?}");
            }
            other => panic!("not refused: {other:?}"),
        }
        assert_eq!(self.receive().await, None);
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_hello_has_five_seconds_even_if_its_bytes_trickle_in() {
    let server = start(Limits::default());
    let start = Instant::now();
    server.connect(4096).is_refused(ErrorCode::TimedOut, "Hello").await;
    assert_eq!(start.elapsed(), seconds(5));

    let start = Instant::now();
    let mut slow = server.connect(4096);
    for byte in &encode(&Request::Hello { version: VERSION, agent: "slow".into() }).unwrap()[..4] {
        slow.0.send(&[*byte]).await.unwrap();
        sleep(seconds(1)).await;
    }
    slow.is_refused(ErrorCode::TimedOut, "Hello").await;
    assert_eq!(start.elapsed(), seconds(5));
}

#[tokio::test(start_paused = true)]
async fn a_request_has_five_seconds_from_its_first_byte() {
    let server = start(Limits::default());
    let mut client = server.greeted().await;
    sleep(seconds(60)).await;
    let start = Instant::now();
    for byte in &encode(&Request::Tune { station: NATURE }).unwrap()[..4] {
        client.0.send(&[*byte]).await.unwrap();
        sleep(seconds(1)).await;
    }
    client.is_refused(ErrorCode::TimedOut, "finished").await;
    assert_eq!(start.elapsed(), seconds(5));
}

#[tokio::test(start_paused = true)]
async fn a_client_is_closed_after_ninety_seconds_without_a_ping() {
    let server = start(Limits::default());
    let mut client = server.greeted().await;
    client.send(&Request::Watch).await;
    assert!(client.receive().await.is_some());
    for _ in 0..100 {
        sleep(seconds(80)).await;
        client.send(&Request::Ping).await;
        assert_eq!(client.receive().await, Some(Reply::Pong));
    }
    let start = Instant::now();
    server.slate("a push does not count as a request");
    client.receive_slate().await;
    client.is_refused(ErrorCode::TimedOut, "Ping").await;
    assert_eq!(start.elapsed(), seconds(90));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_closed_and_leaves_the_audience() {
    let server = start(Limits::default());
    let mut slow = server.connect(64); // smaller than the picture
    slow.send(&Request::Hello { version: VERSION, agent: "slow".into() }).await;
    slow.send(&Request::Tune { station: NATURE }).await;
    let start = Instant::now();
    let mut other = server.greeted().await;
    let audience = async |client: &mut TestClient| {
        client.send(&Request::List).await;
        match client.receive().await {
            Some(Reply::LineUp { stations, .. }) => stations[0].audience,
            other => panic!("not a line-up: {other:?}"),
        }
    };
    assert_eq!(audience(&mut other).await, 1);
    sleep(seconds(4)).await;
    assert_eq!(audience(&mut other).await, 1);
    assert_eq!(start.elapsed(), seconds(4), "other clients do not wait for the slow one");
    sleep(seconds(2)).await;
    assert_eq!(audience(&mut other).await, 0);
}

#[tokio::test(start_paused = true)]
async fn changes_are_pushed_together_as_the_newest_state() {
    let server = start(Limits::default());
    let mut client = server.greeted().await;
    client.send(&Request::Watch).await;
    assert_eq!(client.receive_slate().await, "Starting");
    sleep(seconds(1)).await;

    // The first change after a quiet time is pushed at once; those within 100 ms after it are one push.
    let start = Instant::now();
    server.slate("first");
    assert_eq!((client.receive_slate().await.as_str(), start.elapsed()), ("first", Duration::ZERO));
    for n in 0..50 {
        server.slate(n);
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(client.receive_slate().await, "49");
    assert_eq!(start.elapsed(), Duration::from_millis(100));

    // A change of the audience is not pushed.
    let mut other = server.greeted().await;
    other.send(&Request::Tune { station: NATURE }).await;
    assert!(matches!(other.receive().await, Some(Reply::Tuned { .. })));
    sleep(seconds(10)).await;
    server.slate("later");
    assert_eq!(client.receive_slate().await, "later");
}

#[tokio::test(start_paused = true)]
async fn accepting_continues_after_errors_without_a_busy_loop() {
    let server = start(Limits::default());
    let start = Instant::now();
    for _ in 0..50 {
        server.arrivals.send(Err(io::Error::from_raw_os_error(24))).unwrap(); // EMFILE
    }
    server.greeted().await;
    assert_eq!(start.elapsed(), ACCEPT_BACKOFF * 50);

    let start = Instant::now();
    for _ in 0..50 {
        server.arrivals.send(Err(ErrorKind::ConnectionAborted.into())).unwrap();
    }
    server.greeted().await;
    assert_eq!(start.elapsed(), Duration::ZERO, "a client that aborts does not delay others");
}

#[tokio::test(start_paused = true)]
async fn a_full_server_refuses_and_refused_clients_cannot_block_it() {
    let server = start(Limits { connections: 1, ..Limits::default() });
    let admitted = server.greeted().await;
    server.connect(4096).is_refused(ErrorCode::Busy, "all 1 connections").await;

    // Refused clients that neither read nor close: their number is bounded, and the next one gets no message...
    let start = Instant::now();
    let unread: Vec<_> = (0..REFUSALS).map(|_| server.connect(8)).collect();
    assert_eq!(server.connect(4096).receive().await, None);
    assert_eq!(start.elapsed(), Duration::ZERO);
    // ... and so is their time.
    sleep(CLOSING * 3).await;
    server.connect(4096).is_refused(ErrorCode::Busy, "all 1 connections").await;
    drop((admitted, unread));

    // The permit is free as soon as the server has seen the close.
    sleep(Duration::from_millis(1)).await;
    server.greeted().await;
}

#[tokio::test(start_paused = true)]
async fn the_last_message_has_a_deadline() {
    let server = start(Limits { connections: 1, ..Limits::default() });
    let mut client = server.greeted().await;
    client.0.send(&[0xff; 4]).await.unwrap();
    assert!(matches!(client.receive().await, Some(Reply::Error { code: ErrorCode::BadRequest, .. })));
    // The client stays connected and goes on sending; its permit is free all the same.
    let start = Instant::now();
    while client.0.send(&[0xff; 64]).await.is_ok() {
        sleep(Duration::from_millis(50)).await;
    }
    assert!((CLOSING..=CLOSING * 2).contains(&start.elapsed()), "{:?}", start.elapsed());
    server.greeted().await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_closes_every_connection() {
    let server = start(Limits::default());
    let mut client = server.greeted().await;
    client.send(&Request::Tune { station: NATURE }).await;
    assert!(matches!(client.receive().await, Some(Reply::Tuned { .. })));
    assert_eq!(server.table.audience(NATURE), 1);
    server.stop.send(()).unwrap();
    server.task.await.unwrap();
    assert_eq!(client.receive().await, None);
    assert_eq!(server.table.audience(NATURE), 0);
}

#[tokio::test(start_paused = true)]
async fn a_picture_that_is_too_large_for_a_reply_is_left_out() {
    let server = start(Limits::default());
    let huge = || Some(OnAir { due: AirTime(1), jpeg: vec![0; 1 << 20] });
    server.table.enter(nature(), huge).unwrap();
    let mut client = server.greeted().await;
    client.send(&Request::Tune { station: NATURE }).await;
    assert!(matches!(client.receive().await, Some(Reply::Tuned { now: None, .. })));
}

#[tokio::test(start_paused = true)]
async fn what_is_on_is_told_when_it_changes_and_only_the_stations_on_which_it_does() {
    let server = start(Limits::default());
    let on = |id, title: &str| {
        let film = FilmOnAir { title: title.into(), begin: AirTime(5), end: Some(AirTime(9)) };
        StationNow { id: StationId(id), now: Some(film), next: Some("next".into()) }
    };
    let off = |id| StationNow { id: StationId(id), now: None, next: None };
    let set = |at, stations: &[StationNow]| server.table.set_now(AirTime(at), stations.to_vec());
    let mut plain = server.greeted().await;
    let mut client = server.greeted().await;
    client.send(&Request::Now).await;
    assert_eq!(client.receive().await, Some(Reply::Now { at: AirTime(0), stations: vec![] }));
    for (at, now, told) in [
        (1, vec![on(1, "a"), on(2, "b"), on(3, "c")], vec![on(1, "a"), on(2, "b"), on(3, "c")]),
        (2, vec![on(1, "a"), on(2, "B"), on(3, "c")], vec![on(2, "B")]),
        (3, vec![on(2, "B"), on(4, "d")], vec![off(1), off(3), on(4, "d")]),
    ] {
        set(at, &now).unwrap();
        assert_eq!(client.receive().await, Some(Reply::Now { at: AirTime(at), stations: told }));
    }
    // The same again is not told. Asked again, all is.
    set(4, &[on(2, "B"), on(4, "d")]).unwrap();
    client.send(&Request::Now).await;
    let all = vec![on(2, "B"), on(4, "d")];
    assert_eq!(client.receive().await, Some(Reply::Now { at: AirTime(4), stations: all }));
    // An entry that clients would refuse is left out.
    let mut wrong = on(2, "x");
    wrong.now.as_mut().unwrap().end = Some(AirTime(5));
    let refused = set(5, &[wrong, on(4, &"ä\u{7}".repeat(200))]).unwrap_err().to_string();
    assert_eq!(refused, "station 2 cannot be announced: a film ends after it began");
    match client.receive().await {
        Some(Reply::Now { stations, .. }) => {
            let title = &stations[1].now.as_ref().unwrap().title;
            assert_eq!((stations[0].clone(), &**title), (off(2), &*"ä ".repeat(84)));
        }
        other => panic!("not what is on: {other:?}"),
    }
    plain.send(&Request::Ping).await;
    assert_eq!(plain.receive().await, Some(Reply::Pong), "a client that has not asked is told nothing");
}

/// Two encrypted stations, and a number that differs whenever the keys of station 2 do.
struct TwoKeys(Arc<AtomicU64>);

impl KeysOf for TwoKeys {
    fn keys(&self, id: StationId) -> Option<(u64, StationKeys)> {
        let version = self.0.load(Relaxed);
        let master = MasterKey { key: [id.0 as u8; 16], salt: [0; 14] };
        let keys = vec![KeyFrom { from: version, master }];
        let stream = StreamKeys { profile: Profile::Gcm, ssrc: id.0.into(), index: version, keys };
        match id {
            NATURE => Some((version, StationKeys { id, streams: vec![stream] })),
            OCEAN => Some((0, StationKeys { id, streams: vec![stream] })),
            _ => None,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn keys_are_told_when_they_change_and_before_a_station_is_tuned_to() {
    let server = start(Limits::default());
    let version = Arc::new(AtomicU64::new(5));
    server.table.set_keys(TwoKeys(version.clone()));
    let ocean = StationInfo::starting(OCEAN, "Ocean", "239.77.0.1:5004".parse().unwrap(), "lo", 80);
    server.table.enter(ocean, || None).unwrap();
    let mut plain = server.greeted().await;
    let mut client = server.greeted().await;
    let told = |reply: Option<Reply>| match reply {
        Some(Reply::Keys(keys)) => {
            keys.iter().map(|station| (station.id, station.streams[0].index)).collect()
        }
        other => panic!("no keys: {other:?}"),
    };
    let told: &dyn Fn(Option<Reply>) -> Vec<(StationId, u64)> = &told;
    client.send(&Request::Keys).await;
    assert_eq!(told(client.receive().await), [(OCEAN, 5), (NATURE, 5)]);
    version.store(6, Relaxed);
    server.table.tell_keys();
    assert_eq!(told(client.receive().await), [(NATURE, 6)], "those of station 1 are the same");
    client.send(&Request::Tune { station: NATURE }).await;
    assert_eq!(told(client.receive().await), [(NATURE, 6)], "with the index of this moment");
    assert!(matches!(client.receive().await, Some(Reply::Tuned { .. })));
    // Nothing has changed, or nothing was asked.
    server.table.tell_keys();
    plain.send(&Request::Tune { station: NATURE }).await;
    assert!(matches!(plain.receive().await, Some(Reply::Tuned { .. })));
    client.send(&Request::Ping).await;
    assert_eq!(client.receive().await, Some(Reply::Pong));
}

/// Stations that are all signed, of which a client may see those below 7.
#[derive(Default)]
struct SignedBelow7(Gatekeeper);

impl Signers for SignedBelow7 {
    fn signer(&self, id: StationId) -> Option<StationSigner> {
        Some(StationSigner { id, epoch: 5, key: [id.0 as u8; 32] })
    }

    fn now(&self) -> AirTime {
        AirTime(9)
    }
}

impl Gate for SignedBelow7 {
    fn allows(&self, id: StationId, _: &Grant) -> bool {
        id.0 < 7
    }

    fn gatekeeper(&self) -> &Gatekeeper {
        &self.0
    }
}

#[tokio::test(start_paused = true)]
async fn the_keys_of_signed_stations_are_told_before_each_line_up_to_those_who_may_see_them() {
    let server = start(Limits::default());
    let mut client = server.greeted().await;
    client.send(&Request::Signers).await;
    assert_eq!(client.receive().await, Some(Reply::Signers { at: AirTime(0), stations: vec![] }));
    server.table.set_signers(SignedBelow7::default());
    server.table.set_gate(SignedBelow7::default());
    let hidden = StationInfo { id: StationId(7), ..nature() };
    server.table.enter(hidden, || None).unwrap();
    let told = || {
        let signer = StationSigner { id: NATURE, epoch: 5, key: [2; 32] };
        Some(Reply::Signers { at: AirTime(9), stations: vec![signer] })
    };
    client.send(&Request::Watch).await;
    assert_eq!(client.receive().await, told());
    assert_eq!(client.receive_slate().await, "Starting");
    server.slate("no film");
    assert_eq!(client.receive().await, told());
    assert_eq!(client.receive_slate().await, "no film");
}

#[tokio::test(start_paused = true)]
async fn many_requests_in_one_write_are_answered_in_order() {
    let server = start(Limits::default());
    let (ours, theirs) = duplex(4096);
    server.arrivals.send(Ok((theirs, "10.0.0.9:1".parse().unwrap()))).unwrap();
    let (mut client, mut bytes) = (TestClient(Framed::new(ours)), Vec::new());
    let requests = [
        Request::Hello { version: VERSION, agent: "all at once".into() },
        Request::Tune { station: StationId(9) },
        Request::Tune { station: NATURE },
        Request::Services,
        Request::Ping,
    ];
    let services = Services { rtsp: "0.0.0.0:8554".parse().ok(), http: None };
    server.table.set_services(services);
    requests.iter().for_each(|request| bytes.extend(encode(request).unwrap()));
    client.0.send(&bytes).await.unwrap();
    assert!(matches!(client.receive().await, Some(Reply::Hello { .. })));
    assert!(matches!(client.receive().await, Some(Reply::Error { code: ErrorCode::NoSuchStation, .. })));
    match client.receive().await {
        Some(Reply::Tuned { entry, now: Some(now) }) => {
            assert_eq!((entry.audience, now.jpeg.len()), (1, 100));
        }
        other => panic!("not tuned: {other:?}"),
    }
    assert_eq!(client.receive().await, Some(Reply::Services(services)));
    assert_eq!(client.receive().await, Some(Reply::Pong));
}

#[tokio::test(start_paused = true)]
async fn a_close_in_the_middle_of_a_request_is_only_a_close() {
    let server = start(Limits::default());
    let (mut ours, theirs) = duplex(4096);
    server.arrivals.send(Ok((theirs, "10.0.0.9:1".parse().unwrap()))).unwrap();
    ours.write_all(&[9, 0]).await.unwrap();
    ours.shutdown().await.unwrap();
    assert_eq!(TestClient(Framed::new(ours)).receive().await, None);
}
