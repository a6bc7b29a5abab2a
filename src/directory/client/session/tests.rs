//! A session against a server made of a pipe, in virtual time.

use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;
use crate::directory::message::State;

/// The directory's side of a session's connection.
struct Directory {
    link: Link<DuplexStream, Request>,
    wanted: watch::Sender<Option<StationId>>,
    events: mpsc::UnboundedReceiver<Event>,
    session: JoinHandle<Result<(), String>>,
}

fn local() -> SocketAddr {
    "127.0.0.1:5".parse().unwrap()
}

fn session(wanted: Option<u16>) -> Directory {
    let (ours, theirs) = duplex(64 * 1024);
    let (wanted, watched) = watch::channel(wanted.map(StationId));
    let (event, events) = mpsc::unbounded_channel();
    let events_out = Box::new(move |said| drop(event.send(said)));
    let mut client = Client { wanted: watched, events: events_out };
    let session = tokio::spawn(async move { client.converse(theirs, local()).await });
    Directory { link: Link::new(ours), wanted, events, session }
}

fn entry(id: u16) -> StationInfo {
    let group = "239.77.0.2:5004".parse().unwrap();
    StationInfo { state: State::Film, ..StationInfo::starting(StationId(id), "x", group, "lo", 80) }
}

impl Directory {
    async fn hear(&mut self) -> Request {
        loop {
            if let Some(request) = self.link.take().unwrap() {
                return request;
            }
            assert!(self.link.fill().await.unwrap(), "the session closed");
        }
    }

    async fn say(&mut self, reply: Reply) {
        self.link.send(&encode(&reply).unwrap()).await.unwrap();
    }

    async fn greet(&mut self) {
        assert!(matches!(self.hear().await, Request::Hello { version: VERSION, .. }));
        assert_eq!(self.hear().await, Request::Watch);
        self.say(Reply::Hello { version: VERSION, server: "test".into() }).await;
        assert_eq!(self.events.recv().await, Some(Event::Connected { local: local() }));
    }

    async fn reason(self) -> String {
        self.session.await.unwrap().unwrap_err()
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn the_wanted_station_is_asked_for_and_the_newest_wins() {
    let mut directory = session(Some(7));
    directory.greet().await;
    assert_eq!(directory.hear().await, Request::Tune { station: StationId(7) });

    let start = Instant::now();
    for id in [8, 9, 4] {
        directory.wanted.send_replace(Some(StationId(id)));
    }
    assert_eq!(directory.hear().await, Request::Tune { station: StationId(4) });
    assert_eq!(start.elapsed(), Duration::ZERO);
    directory.wanted.send_replace(Some(StationId(4)));
    assert_eq!(directory.hear().await, Request::Tune { station: StationId(4) }, "asked again, told again");

    // The answer to a station left since is not passed on; a line-up is.
    directory.say(Reply::Tuned { entry: entry(7), now: None }).await;
    directory.say(Reply::LineUp { revision: 1, stations: vec![entry(4)] }).await;
    directory.say(Reply::Tuned { entry: entry(4), now: None }).await;
    assert_eq!(directory.events.recv().await, Some(Event::LineUp(vec![entry(4)])));
    assert_eq!(directory.events.recv().await, Some(Event::Tuned { entry: entry(4), now: None }));

    let (code, sentence) = (ErrorCode::NoSuchStation, "no".to_owned());
    directory.say(Reply::Error { code, sentence: sentence.clone() }).await;
    assert_eq!(directory.events.recv().await, Some(Event::Refused { code, sentence }));
    drop(directory.wanted);
    assert_eq!(directory.session.await.unwrap(), Ok(()), "nobody wants it any more");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_lost_after_ten_seconds() {
    let directory = session(None);
    let start = Instant::now();
    assert_eq!(directory.reason().await, "the directory has not answered for 10 s");
    assert_eq!(start.elapsed(), seconds(10));
}

#[tokio::test(start_paused = true)]
async fn silence_is_pinged_and_no_pong_is_a_loss() {
    let mut directory = session(None);
    directory.greet().await;
    for _ in 0..100 {
        let start = Instant::now();
        assert_eq!(directory.hear().await, Request::Ping);
        assert_eq!(start.elapsed(), seconds(20));
        directory.say(Reply::Pong).await;
    }
    let start = Instant::now();
    assert_eq!(directory.hear().await, Request::Ping);
    assert_eq!(directory.reason().await, "the directory has not answered for 10 s");
    assert_eq!(start.elapsed(), seconds(30));
}

#[tokio::test(start_paused = true)]
async fn a_talkative_server_is_pinged_all_the_same() {
    // Its pushes are no sign of life of ours: it would close us at 90 s.
    let mut directory = session(None);
    directory.greet().await;
    let mut pings = 0;
    for revision in 0..20 {
        sleep(seconds(10)).await;
        directory.say(Reply::LineUp { revision, stations: vec![] }).await;
        assert_eq!(directory.events.recv().await, Some(Event::LineUp(vec![])));
        while let Some(request) = directory.link.take().unwrap() {
            assert_eq!(request, Request::Ping);
            pings += 1;
        }
        // What has arrived is taken without waiting for more.
        let _ = timeout(Duration::from_millis(1), directory.link.fill()).await;
    }
    assert!((9..=10).contains(&pings), "{pings} pings in 200 s");
}

#[tokio::test(start_paused = true)]
async fn a_hostile_server_is_a_lost_one() {
    let hello = || Reply::Hello { version: VERSION, server: "test".into() };
    let cases: [(&str, Vec<u8>); 6] = [
        ("longer than the 1048576 allowed", vec![1, 0, 16, 0]),
        ("cannot be read", vec![1, 0, 0, 0, 99]),
        ("did not begin with Hello", encode(&Reply::LineUp { revision: 0, stations: vec![] }).unwrap()),
        ("did not begin with Hello", encode(&Reply::Pong).unwrap()),
        ("speaks version 2", encode(&Reply::Hello { version: 2, server: String::new() }).unwrap()),
        ("said Hello twice", [encode(&hello()).unwrap(), encode(&hello()).unwrap()].concat()),
    ];
    for (words, bytes) in cases {
        let mut directory = session(None);
        directory.link.send(&bytes).await.unwrap();
        let reason = directory.reason().await;
        assert!(reason.contains(words), "{reason:?} should say {words:?}");
    }

    let mut directory = session(None);
    directory.greet().await;
    drop(directory.link);
    assert_eq!(directory.session.await.unwrap().unwrap_err(), "the directory closed the connection");
}

#[tokio::test(start_paused = true)]
async fn one_who_does_not_read_is_lost() {
    let (_ours, theirs) = duplex(4); // not even a Hello fits
    let (_wanted, watched) = watch::channel(None);
    let mut client = Client { wanted: watched, events: Box::new(drop) };
    let reason = client.converse(theirs, local()).await.unwrap_err();
    assert_eq!(reason, "the directory does not read what we send");
}

#[test]
fn pauses_double_to_eight_seconds_at_most() {
    for (jitter, last) in [(0.0, 6400), (0.999_999, 8000)] {
        let mut pause = Pause::default();
        let pauses: Vec<_> = (0..100).map(|_| pause.next(jitter)).collect();
        assert!(pauses[0] >= Duration::from_millis(250));
        assert!(pauses.is_sorted());
        assert!(pauses[1] >= Duration::from_millis(500));
        assert_eq!(pauses[99].as_millis().next_multiple_of(100), last);
    }
}
