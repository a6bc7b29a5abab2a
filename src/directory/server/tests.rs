//! The whole server over pipes in memory, in virtual time: its limits are tested at full length.

#![expect(clippy::disallowed_methods, reason = "in virtual time")]

use std::io::{self, ErrorKind};

use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::*;
use crate::directory::message::{OnAir, Services, State, StationInfo, VERSION};
use crate::limits::ACCEPT_REST;
use crate::media::{AirTime, StationId};

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

struct House {
    arrivals: mpsc::UnboundedSender<Arrival>,
    table: Arc<StationTable>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

const NATURE: StationId = StationId(2);

fn open(limits: Limits) -> House {
    let table = StationTable::new();
    let picture = || Some(OnAir { due: AirTime(1), jpeg: vec![0xff; 100] });
    table.enter(nature(), picture).unwrap();
    let (arrivals, pipes) = mpsc::unbounded_channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move { drop(stopped.await) };
    let server = tokio::spawn(run(Pipes(pipes), Arc::clone(&table), limits, shutdown));
    House { arrivals, table, stop, server }
}

fn nature() -> StationInfo {
    StationInfo::starting(NATURE, "Nature", "239.77.0.2:5004".parse().unwrap(), "lo", 80)
}

impl House {
    /// A connection whose pipe holds `room` bytes in each direction.
    fn visit(&self, room: usize) -> Guest {
        let (ours, theirs) = duplex(room);
        self.arrivals.send(Ok((theirs, "10.0.0.9:1234".parse().unwrap()))).unwrap();
        Guest(Link::new(ours))
    }

    async fn guest(&self) -> Guest {
        let mut guest = self.visit(4096);
        guest.say(&Request::Hello { version: VERSION, agent: "test".into() }).await;
        assert!(matches!(guest.hear().await, Some(Reply::Hello { .. })));
        guest
    }

    fn slate(&self, reason: impl ToString) {
        let state = State::Slate { reason: reason.to_string() };
        assert_eq!(self.table.update(NATURE, |entry| entry.state = state), Ok(true));
    }
}

struct Guest(Link<DuplexStream, Reply>);

impl Guest {
    async fn say(&mut self, request: &Request) {
        self.0.send(&encode(request).unwrap()).await.unwrap();
    }

    /// The next reply; `None` when the server has closed.
    async fn hear(&mut self) -> Option<Reply> {
        loop {
            if let Some(reply) = self.0.take().expect("the server speaks well") {
                return Some(reply);
            }
            if !self.0.fill().await.unwrap_or(false) {
                return None;
            }
        }
    }

    async fn hear_slate(&mut self) -> String {
        match self.hear().await {
            Some(Reply::LineUp { stations, .. }) => match &stations[0].state {
                State::Slate { reason } => reason.clone(),
                state => format!("{state:?}"),
            },
            other => panic!("not a line-up: {other:?}"),
        }
    }

    /// Asserts that the next is this refusal, and then the end.
    async fn is_refused(&mut self, code: ErrorCode, words: &str) {
        match self.hear().await {
            Some(Reply::Error { code: said, sentence }) => {
                assert_eq!(said, code);
                assert!(sentence.contains(words), "{sentence:?} should say {words:?}");
            }
            other => panic!("not refused: {other:?}"),
        }
        assert_eq!(self.hear().await, None);
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_hello_has_five_seconds_however_it_trickles() {
    let house = open(Limits::default());
    let start = Instant::now();
    house.visit(4096).is_refused(ErrorCode::TimedOut, "Hello").await;
    assert_eq!(start.elapsed(), seconds(5));

    let start = Instant::now();
    let mut slow = house.visit(4096);
    for byte in &encode(&Request::Hello { version: VERSION, agent: "slow".into() }).unwrap()[..4] {
        slow.0.send(&[*byte]).await.unwrap();
        sleep(seconds(1)).await;
    }
    slow.is_refused(ErrorCode::TimedOut, "Hello").await;
    assert_eq!(start.elapsed(), seconds(5));
}

#[tokio::test(start_paused = true)]
async fn a_request_begun_has_five_seconds() {
    let house = open(Limits::default());
    let mut guest = house.guest().await;
    sleep(seconds(60)).await;
    let start = Instant::now();
    for byte in &encode(&Request::Tune { station: NATURE }).unwrap()[..4] {
        guest.0.send(&[*byte]).await.unwrap();
        sleep(seconds(1)).await;
    }
    guest.is_refused(ErrorCode::TimedOut, "finished").await;
    assert_eq!(start.elapsed(), seconds(5));
}

#[tokio::test(start_paused = true)]
async fn silence_ends_after_ninety_seconds_and_a_ping_breaks_it() {
    let house = open(Limits::default());
    let mut guest = house.guest().await;
    guest.say(&Request::Watch).await;
    assert!(guest.hear().await.is_some());
    for _ in 0..100 {
        sleep(seconds(80)).await;
        guest.say(&Request::Ping).await;
        assert_eq!(guest.hear().await, Some(Reply::Pong));
    }
    let start = Instant::now();
    house.slate("what we push does not count as the client's voice");
    guest.hear_slate().await;
    guest.is_refused(ErrorCode::TimedOut, "Ping").await;
    assert_eq!(start.elapsed(), seconds(90));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_is_closed_and_leaves_the_audience() {
    let house = open(Limits::default());
    let mut slow = house.visit(64); // smaller than the picture
    slow.say(&Request::Hello { version: VERSION, agent: "slow".into() }).await;
    slow.say(&Request::Tune { station: NATURE }).await;
    let start = Instant::now();
    let mut other = house.guest().await;
    let audience = async |guest: &mut Guest| {
        guest.say(&Request::List).await;
        match guest.hear().await {
            Some(Reply::LineUp { stations, .. }) => stations[0].audience,
            other => panic!("not a line-up: {other:?}"),
        }
    };
    assert_eq!(audience(&mut other).await, 1);
    sleep(seconds(4)).await;
    assert_eq!(audience(&mut other).await, 1);
    assert_eq!(start.elapsed(), seconds(4), "the others do not wait for the slow one");
    sleep(seconds(2)).await;
    assert_eq!(audience(&mut other).await, 0);
}

#[tokio::test(start_paused = true)]
async fn changes_travel_together_and_the_newest_wins() {
    let house = open(Limits::default());
    let mut guest = house.guest().await;
    guest.say(&Request::Watch).await;
    assert_eq!(guest.hear_slate().await, "Starting");
    sleep(seconds(1)).await;

    // The first change after a quiet time goes out at once, those on its heels together, last state.
    let start = Instant::now();
    house.slate("first");
    assert_eq!((guest.hear_slate().await.as_str(), start.elapsed()), ("first", Duration::ZERO));
    for n in 0..50 {
        house.slate(n);
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(guest.hear_slate().await, "49");
    assert_eq!(start.elapsed(), Duration::from_millis(100));

    // An audience that changes is no news, and nothing else is pushed.
    let mut other = house.guest().await;
    other.say(&Request::Tune { station: NATURE }).await;
    assert!(matches!(other.hear().await, Some(Reply::Tuned { .. })));
    sleep(seconds(10)).await;
    house.slate("later");
    assert_eq!(guest.hear_slate().await, "later");
}

#[tokio::test(start_paused = true)]
async fn accept_goes_on_after_errors_without_a_busy_loop() {
    let house = open(Limits::default());
    let start = Instant::now();
    for _ in 0..50 {
        house.arrivals.send(Err(io::Error::from_raw_os_error(24))).unwrap(); // EMFILE
    }
    house.guest().await;
    assert_eq!(start.elapsed(), ACCEPT_REST * 50);

    let start = Instant::now();
    for _ in 0..50 {
        house.arrivals.send(Err(ErrorKind::ConnectionAborted.into())).unwrap();
    }
    house.guest().await;
    assert_eq!(start.elapsed(), Duration::ZERO, "one who aborts does not slow the others");
}

#[tokio::test(start_paused = true)]
async fn a_full_house_refuses_and_cannot_be_held_up_by_those_it_refuses() {
    let house = open(Limits { connections: 1, ..Limits::default() });
    let inside = house.guest().await;
    house.visit(4096).is_refused(ErrorCode::Busy, "all 1 places").await;

    // Refused ones who neither read nor close: their number is bounded, the next gets no word...
    let start = Instant::now();
    let lingering: Vec<_> = (0..REFUSALS).map(|_| house.visit(8)).collect();
    assert_eq!(house.visit(4096).hear().await, None);
    assert_eq!(start.elapsed(), Duration::ZERO);
    // ... and their time, too.
    sleep(PARTING * 3).await;
    house.visit(4096).is_refused(ErrorCode::Busy, "all 1 places").await;
    drop((inside, lingering));

    // The place comes free as soon as the server has seen the close.
    sleep(Duration::from_millis(1)).await;
    house.guest().await;
}

#[tokio::test(start_paused = true)]
async fn the_last_words_do_not_wait_for_ever() {
    let house = open(Limits { connections: 1, ..Limits::default() });
    let mut guest = house.guest().await;
    guest.0.send(&[0xff; 4]).await.unwrap();
    assert!(matches!(guest.hear().await, Some(Reply::Error { code: ErrorCode::BadRequest, .. })));
    // It stays connected, and goes on sending: the place comes free all the same.
    let start = Instant::now();
    while guest.0.send(&[0xff; 64]).await.is_ok() {
        sleep(Duration::from_millis(50)).await;
    }
    assert!((PARTING..=PARTING * 2).contains(&start.elapsed()), "{:?}", start.elapsed());
    house.guest().await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_closes_every_connection() {
    let house = open(Limits::default());
    let mut guest = house.guest().await;
    guest.say(&Request::Tune { station: NATURE }).await;
    assert!(matches!(guest.hear().await, Some(Reply::Tuned { .. })));
    assert_eq!(house.table.audience(NATURE), 1);
    house.stop.send(()).unwrap();
    house.server.await.unwrap();
    assert_eq!(guest.hear().await, None);
    assert_eq!(house.table.audience(NATURE), 0);
}

#[tokio::test(start_paused = true)]
async fn a_picture_too_large_to_hand_over_is_left_out() {
    let house = open(Limits::default());
    let huge = || Some(OnAir { due: AirTime(1), jpeg: vec![0; 1 << 20] });
    house.table.enter(nature(), huge).unwrap();
    let mut guest = house.guest().await;
    guest.say(&Request::Tune { station: NATURE }).await;
    assert!(matches!(guest.hear().await, Some(Reply::Tuned { now: None, .. })));
}

#[tokio::test(start_paused = true)]
async fn many_requests_in_one_write_are_answered_in_order() {
    let house = open(Limits::default());
    let (ours, theirs) = duplex(4096);
    house.arrivals.send(Ok((theirs, "10.0.0.9:1".parse().unwrap()))).unwrap();
    let (mut guest, mut bytes) = (Guest(Link::new(ours)), Vec::new());
    let requests = [
        Request::Hello { version: VERSION, agent: "all at once".into() },
        Request::Tune { station: StationId(9) },
        Request::Tune { station: NATURE },
        Request::Services,
        Request::Ping,
    ];
    let services = Services { rtsp: "0.0.0.0:8554".parse().ok(), http: None };
    house.table.serve_also(services);
    requests.iter().for_each(|request| bytes.extend(encode(request).unwrap()));
    guest.0.send(&bytes).await.unwrap();
    assert!(matches!(guest.hear().await, Some(Reply::Hello { .. })));
    assert!(matches!(guest.hear().await, Some(Reply::Error { code: ErrorCode::NoSuchStation, .. })));
    match guest.hear().await {
        Some(Reply::Tuned { entry, now: Some(now) }) => {
            assert_eq!((entry.audience, now.jpeg.len()), (1, 100));
        }
        other => panic!("not tuned: {other:?}"),
    }
    assert_eq!(guest.hear().await, Some(Reply::Services(services)));
    assert_eq!(guest.hear().await, Some(Reply::Pong));
}

#[tokio::test(start_paused = true)]
async fn a_close_in_the_middle_of_a_request_is_only_a_close() {
    let house = open(Limits::default());
    let (mut ours, theirs) = duplex(4096);
    house.arrivals.send(Ok((theirs, "10.0.0.9:1".parse().unwrap()))).unwrap();
    ours.write_all(&[9, 0]).await.unwrap();
    ours.shutdown().await.unwrap();
    assert_eq!(Guest(Link::new(ours)).hear().await, None);
}
