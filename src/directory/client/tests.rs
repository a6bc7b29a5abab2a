//! A client against a server at the other end of a pipe in memory, in virtual time.

use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;
use crate::directory::message::{FilmOnAir, State, StationFilms, StationSource};

/// The directory's side of a client's connection.
struct Directory {
    framed: Framed<DuplexStream, Request>,
    wanted: watch::Sender<Option<StationId>>,
    guide: watch::Sender<Option<(AirTime, AirTime)>>,
    keys: Arc<Notify>,
    events: mpsc::UnboundedReceiver<Event>,
    client: JoinHandle<Result<(), String>>,
}

fn local() -> SocketAddr {
    "127.0.0.1:5".parse().unwrap()
}

fn start(wanted: Option<u16>) -> Directory {
    let (ours, theirs) = duplex(64 * 1024);
    let (wanted, watched) = watch::channel(wanted.map(StationId));
    let (event, events) = mpsc::unbounded_channel();
    let events_out = Box::new(move |told| drop(event.send(told)));
    let (guide, guide_wanted) = watch::channel(None);
    let keys = Arc::new(Notify::new());
    let mut task = ClientTask {
        wanted: watched,
        guide: guide_wanted,
        keys: keys.clone(),
        events: events_out,
        extras: Extras::default(),
        now: BTreeMap::new(),
        all_keys_asked: false,
    };
    let client =
        tokio::spawn(async move { task.run_once(Framed::new(theirs), local(), &local().into()).await });
    Directory { framed: Framed::new(ours), wanted, guide, keys, events, client }
}

fn entry(id: u16) -> StationInfo {
    let group = "239.77.0.2:5004".parse().unwrap();
    StationInfo { state: State::Film, ..StationInfo::starting(StationId(id), "x", group, "lo", 80) }
}

impl Directory {
    async fn receive(&mut self) -> Request {
        loop {
            if let Some(request) = self.framed.take().unwrap() {
                return request;
            }
            assert!(self.framed.fill().await.unwrap(), "the client closed");
        }
    }

    async fn send(&mut self, reply: Reply) {
        self.framed.send(&encode(&reply).unwrap()).await.unwrap();
    }

    async fn greet(&mut self) {
        assert!(matches!(self.receive().await, Request::Hello { version: VERSION, .. }));
        assert_eq!(self.receive().await, Request::Sources);
        assert_eq!(self.receive().await, Request::Sound);
        assert_eq!(self.receive().await, Request::Now);
        assert_eq!(self.receive().await, Request::Keys);
        assert_eq!(self.receive().await, Request::Watch);
        self.send(Reply::Hello { version: VERSION, server: "test".into() }).await;
        assert_eq!(self.events.recv().await, Some(Event::Connected { local: local() }));
    }

    async fn reason(self) -> String {
        self.client.await.unwrap().unwrap_err()
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn the_wanted_station_is_asked_for_and_the_last_call_wins() {
    let mut directory = start(Some(7));
    directory.greet().await;
    assert_eq!(directory.receive().await, Request::Tune { station: StationId(7) });

    let start = Instant::now();
    for id in [8, 9, 4] {
        directory.wanted.send_replace(Some(StationId(id)));
    }
    assert_eq!(directory.receive().await, Request::Tune { station: StationId(4) });
    assert_eq!(start.elapsed(), Duration::ZERO);
    directory.wanted.send_replace(Some(StationId(4)));
    assert_eq!(
        directory.receive().await,
        Request::Tune { station: StationId(4) },
        "a second call for the same station asks again"
    );

    // The answer for a station that is no longer wanted is dropped; a line-up is passed on.
    directory.send(Reply::Tuned { entry: entry(7), now: None }).await;
    directory.send(Reply::LineUp { revision: 1, stations: vec![entry(4)] }).await;
    directory.send(Reply::Tuned { entry: entry(4), now: None }).await;
    assert_eq!(directory.events.recv().await, Some(Event::LineUp(vec![entry(4)])));
    assert_eq!(directory.events.recv().await, Some(Event::Tuned { entry: entry(4), now: None }));

    let (code, sentence) = (ErrorCode::NoSuchStation, "no".to_owned());
    directory.send(Reply::Error { code, sentence: sentence.clone() }).await;
    assert_eq!(directory.events.recv().await, Some(Event::Refused { code, sentence }));
    drop(directory.wanted);
    assert_eq!(directory.client.await.unwrap(), Ok(()), "the client was dropped");
}

#[tokio::test(start_paused = true)]
async fn the_guide_is_asked_for_when_it_is_wanted() {
    let mut directory = start(None);
    let (from, until) = (AirTime(5), AirTime(9));
    directory.guide.send_replace(Some((from, until)));
    directory.greet().await;
    assert_eq!(directory.receive().await, Request::Guide { from, until });
    let film = FilmOnAir { title: "Sintel".into(), begin: AirTime(3), end: None };
    let stations = vec![StationFilms { id: StationId(4), films: vec![film.clone()] }];
    directory.send(Reply::Guide { at: AirTime(6), stations }).await;
    let told = Event::Guide { at: AirTime(6), stations: [(StationId(4), vec![film])].into() };
    assert_eq!(directory.events.recv().await, Some(told));
    directory.guide.send_replace(Some((from, until)));
    assert_eq!(directory.receive().await, Request::Guide { from, until }, "again");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_lost_after_ten_seconds() {
    let directory = start(None);
    let start = Instant::now();
    assert_eq!(directory.reason().await, "the directory has not answered for 10 s");
    assert_eq!(start.elapsed(), seconds(10));
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_pinged_and_lost_if_no_pong_comes() {
    let mut directory = start(None);
    directory.greet().await;
    for _ in 0..100 {
        let start = Instant::now();
        assert_eq!(directory.receive().await, Request::Ping);
        assert_eq!(start.elapsed(), seconds(20));
        directory.send(Reply::Pong).await;
    }
    let start = Instant::now();
    assert_eq!(directory.receive().await, Request::Ping);
    assert_eq!(directory.reason().await, "the directory has not answered for 10 s");
    assert_eq!(start.elapsed(), seconds(30));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_keeps_pushing_is_pinged_all_the_same() {
    // The server counts only our requests: without a Ping it would close the connection after 90 s.
    let mut directory = start(None);
    directory.greet().await;
    let mut pings = 0;
    for revision in 0..20 {
        sleep(seconds(10)).await;
        directory.send(Reply::LineUp { revision, stations: vec![] }).await;
        assert_eq!(directory.events.recv().await, Some(Event::LineUp(vec![])));
        while let Some(request) = directory.framed.take().unwrap() {
            assert_eq!(request, Request::Ping);
            pings += 1;
        }
        // Reads what has arrived, without waiting for more.
        let _ = timeout(Duration::from_millis(1), directory.framed.fill()).await;
    }
    assert!((9..=10).contains(&pings), "{pings} pings in 200 s");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_breaks_the_protocol_is_lost() {
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
        let mut directory = start(None);
        directory.framed.send(&bytes).await.unwrap();
        let reason = directory.reason().await;
        assert!(reason.contains(words), "{reason:?} should contain {words:?}");
    }

    let mut directory = start(None);
    directory.greet().await;
    drop(directory.framed);
    assert_eq!(directory.client.await.unwrap().unwrap_err(), "the directory closed the connection");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_read_is_lost() {
    let (_ours, theirs) = duplex(4); // not even a Hello fits
    let (_wanted, watched) = watch::channel(None);
    let mut task = ClientTask {
        wanted: watched,
        events: Box::new(drop),
        guide: watch::channel(None).1,
        keys: Arc::default(),
        extras: Extras::default(),
        now: BTreeMap::new(),
        all_keys_asked: false,
    };
    let reason = task.run_once(Framed::new(theirs), local(), &local().into()).await.unwrap_err();
    assert_eq!(reason, "the directory has stopped reading what we send");
}

#[test]
fn the_backoff_doubles_to_eight_seconds_at_most() {
    for (jitter, last) in [(0.0, 6400), (0.999_999, 8000)] {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..100).map(|_| backoff.next(jitter)).collect();
        assert!(pauses[0] >= Duration::from_millis(250));
        assert!(pauses.is_sorted());
        assert!(pauses[1] >= Duration::from_millis(500));
        assert_eq!(pauses[99].as_millis().next_multiple_of(100), last);
    }
}

#[tokio::test(start_paused = true)]
async fn the_sources_are_told_before_the_line_up() {
    let mut directory = start(None);
    directory.greet().await;
    let (id, address) = (StationId(4), [192, 0, 2, 7].into());
    directory.send(Reply::Sources(vec![StationSource { id, address }])).await;
    directory.send(Reply::LineUp { revision: 1, stations: vec![entry(4)] }).await;
    assert_eq!(directory.events.recv().await, Some(Event::Sources([(id, address)].into())));
    assert_eq!(directory.events.recv().await, Some(Event::LineUp(vec![entry(4)])));
}

/// Plays a server that knows Hello, Watch and the extra requests `known`, and closes at any other. The client gets its
/// line-up after at most one refusal for each request that the server does not know.
async fn an_older_server(known: &[Request], connections: &[&[Request]]) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (event, mut events) = mpsc::unbounded_channel();
    let event = move |told| drop(event.send(told));
    // The youngest request is asked only if its answer is wanted.
    let _client = match connections[0].contains(&Request::Signers) {
        true => DirectoryClient::start_with_signers(address, event),
        false => DirectoryClient::start(address, event),
    };
    for &asked in connections {
        let stream = listener.accept().await.unwrap().0;
        let mut framed = Framed::<_, Request>::new(stream);
        let mut requests = Vec::new();
        while requests.len() < asked.len() + 2 {
            match framed.take().unwrap() {
                Some(request) => requests.push(request),
                None => assert!(framed.fill().await.unwrap()),
            }
        }
        assert_eq!(requests[1..=asked.len()], *asked);
        let hello = Reply::Hello { version: VERSION, server: "old".into() };
        framed.send(&encode(&hello).unwrap()).await.unwrap();
        assert!(matches!(events.recv().await, Some(Event::Connected { .. })));
        for request in asked {
            let (code, sentence) = (ErrorCode::BadRequest, "the request cannot be read".to_owned());
            let reply = match request {
                _ if !known.contains(request) => Reply::Error { code, sentence },
                Request::Sound => Reply::Sound(Vec::new()),
                Request::Now => Reply::Now { at: AirTime(7), stations: Vec::new() },
                Request::Keys => Reply::Keys(Vec::new()),
                Request::Signers => Reply::Signers { at: AirTime(7), stations: Vec::new() },
                _ => Reply::Sources(Vec::new()),
            };
            framed.send(&encode(&reply).unwrap()).await.unwrap();
            if !known.contains(request) {
                break;
            }
            let told = match request {
                Request::Sound => Event::Sound(BTreeMap::new()),
                Request::Now => Event::Now { at: AirTime(7), stations: BTreeMap::new() },
                Request::Keys => Event::Keys { keys: Vec::new(), all: true },
                Request::Signers => Event::Signers { at: AirTime(7), stations: BTreeMap::new() },
                _ => Event::Sources(BTreeMap::new()),
            };
            assert_eq!(events.recv().await, Some(told));
        }
        if asked.iter().all(|request| known.contains(request)) {
            framed
                .send(&encode(&Reply::LineUp { revision: 1, stations: vec![entry(4)] }).unwrap())
                .await
                .unwrap();
            assert_eq!(events.recv().await, Some(Event::LineUp(vec![entry(4)])), "and nothing was lost");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_tells_no_sources_is_asked_once_and_served_at_once() {
    an_older_server(&[], &[&[Request::Sources, Request::Sound, Request::Now, Request::Keys], &[]]).await;
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_tells_no_sound_still_tells_its_sources() {
    let all = [Request::Sources, Request::Sound, Request::Now, Request::Keys];
    an_older_server(&[Request::Sources], &[&all, &[Request::Sources]]).await;
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_does_not_tell_what_is_on_still_tells_the_sound() {
    let all = [Request::Sources, Request::Sound, Request::Now, Request::Keys];
    an_older_server(&all[..2], &[&all, &all[..2]]).await;
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_tells_no_keys_still_tells_what_is_on() {
    let all = [Request::Sources, Request::Sound, Request::Now, Request::Keys, Request::Signers];
    an_older_server(&all[..3], &[&all, &all[..3]]).await;
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_tells_no_signatures_still_tells_the_keys() {
    let all = [Request::Sources, Request::Sound, Request::Now, Request::Keys, Request::Signers];
    an_older_server(&all[..4], &[&all, &all[..4]]).await;
    an_older_server(&all, &[&all]).await;
}

#[tokio::test(start_paused = true)]
async fn all_keys_are_asked_for_again_once_a_second_at_most() {
    let mut directory = start(None);
    directory.greet().await;
    let none = |all| Some(Event::Keys { keys: Vec::new(), all });
    // A directory that has told no keys is not asked.
    directory.keys.notify_one();
    sleep(KEYS * 2).await;
    directory.send(Reply::Keys(Vec::new())).await;
    assert_eq!(directory.events.recv().await, none(true));
    assert_eq!(directory.receive().await, Request::Keys);
    let asked = Instant::now();
    directory.send(Reply::Keys(Vec::new())).await;
    assert_eq!(directory.events.recv().await, none(true));
    for _ in 0..5 {
        directory.keys.notify_one();
    }
    assert_eq!(directory.receive().await, Request::Keys);
    assert_eq!(asked.elapsed(), KEYS);
    directory.send(Reply::Keys(Vec::new())).await;
    assert_eq!(directory.events.recv().await, none(true));
    // The next ones were not asked for.
    directory.send(Reply::Keys(Vec::new())).await;
    assert_eq!(directory.events.recv().await, none(false));
}

#[tokio::test(start_paused = true)]
async fn what_is_on_is_kept_up_to_date() {
    let mut directory = start(None);
    directory.greet().await;
    let film = FilmOnAir { title: "Nature".into(), begin: AirTime(5), end: None };
    let on = |id, title: &str| StationNow {
        id: StationId(id),
        now: Some(FilmOnAir { title: title.into(), ..film.clone() }),
        next: None,
    };
    let off = |id| StationNow { id: StationId(id), now: None, next: None };
    for (told, known) in [
        (vec![on(1, "a"), on(2, "b")], vec![on(1, "a"), on(2, "b")]),
        (vec![on(2, "c"), on(3, "d")], vec![on(1, "a"), on(2, "c"), on(3, "d")]),
        (vec![off(1), off(9)], vec![on(2, "c"), on(3, "d")]),
    ] {
        directory.send(Reply::Now { at: AirTime(7), stations: told }).await;
        let stations = known.into_iter().map(|station| (station.id, station)).collect();
        assert_eq!(directory.events.recv().await, Some(Event::Now { at: AirTime(7), stations }));
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_packets_of_sound_are_those_of_the_wanted_station() {
    let mut directory = start(Some(4));
    directory.greet().await;
    let sound = StationSound { id: StationId(4), port: 5006, payload_type: 97, codec: "opus/48000/2".into() };
    directory.send(Reply::Sound(vec![sound.clone()])).await;
    let packets = vec![SoundPacket { due: crate::media::AirTime(7), packet: vec![1, 2] }];
    for station in [3, 4].map(StationId) {
        directory.send(Reply::SoundNow { station, packets: packets.clone() }).await;
    }
    assert_eq!(directory.events.recv().await, Some(Event::Sound([(StationId(4), sound)].into())));
    assert_eq!(directory.events.recv().await, Some(Event::SoundNow { station: StationId(4), packets }));
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_pushes_without_pause_is_read_forty_times_a_second() {
    let mut directory = start(None);
    directory.greet().await;
    let push = encode(&Reply::LineUp { revision: 1, stations: vec![entry(4)] }).unwrap();
    let began = Instant::now();
    let mut pushes = tokio::spawn(async move {
        // Ends when the client stops reading: then the pipe is full.
        while timeout(seconds(100), directory.framed.send(&push)).await.is_ok_and(|sent| sent.is_ok()) {}
        directory.framed
    });
    let mut heard = 0u32;
    while began.elapsed() < seconds(20) {
        tokio::select! {
            event = directory.events.recv() => {
                assert!(matches!(event, Some(Event::LineUp(_))));
                heard += 1;
                // In virtual time a client that reads on and on would never see the 20 s end.
                assert!(heard <= 900, "{heard} line-ups in {:?}", began.elapsed());
            }
            _ = &mut pushes => panic!("the client reads no more"),
        }
    }
    assert!((700..=900).contains(&heard), "{heard} line-ups in 20 s");
    pushes.abort();
}

#[tokio::test]
async fn a_server_without_a_guide_is_asked_once() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (event, mut events) = mpsc::unbounded_channel();
    let client = DirectoryClient::start(address, move |told| drop(event.send(told)));
    for connection in 0..2 {
        let mut framed = Framed::<_, Request>::new(listener.accept().await.unwrap().0);
        let hello = Reply::Hello { version: VERSION, server: "old".into() };
        let (sources, sound) = (Reply::Sources(Vec::new()), Reply::Sound(Vec::new()));
        let now = Reply::Now { at: AirTime(1), stations: Vec::new() };
        for reply in [hello, sources, sound, now, Reply::LineUp { revision: 1, stations: Vec::new() }] {
            framed.send(&encode(&reply).unwrap()).await.unwrap();
        }
        while events.recv().await != Some(Event::LineUp(Vec::new())) {}
        client.ask_guide(AirTime(1), AirTime(2));
        if connection == 1 {
            break;
        }
        loop {
            match framed.take().unwrap() {
                Some(Request::Guide { .. }) => break,
                Some(_) => {}
                None => assert!(framed.fill().await.unwrap()),
            }
        }
        let (code, sentence) = (ErrorCode::BadRequest, "the request cannot be read".to_owned());
        framed.send(&encode(&Reply::Error { code, sentence }).unwrap()).await.unwrap();
        assert_eq!(events.recv().await, Some(Event::NoGuide));
    }
    assert_eq!(events.recv().await, Some(Event::NoGuide), "without asking again");
}
