//! What one client can take, and what ends.

use tokio::sync::mpsc;
use tokio::task::yield_now;

use super::*;
use crate::rtsp::request::{Kind, Resource};
use crate::rtsp::session::{KeepAlive, RtspSession, TIMEOUT};
use crate::rtsp::session_task::SessionTask;
use crate::rtsp::sink::Sink;
use crate::rtsp::transport::SessionTransport;

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_loses_whole_pictures_and_sees_how_many() {
    let bench = TestServer::new().await;
    let mut guest = bench.connect().await;
    guest.status("SETUP rtsp://h/2/video", TCP).await;
    let (first, _) = guest.play("PLAY rtsp://h/2", "").await;
    // Sixty megabytes are on air while it reads nothing: more than anybody holds for it.
    for n in 0..1000 {
        bench.show(n, 60_000, Duration::ZERO);
    }
    let (mut seen, mut last) = (0, None::<usize>);
    loop {
        let (sequence, _, picture) = guest.picture().await;
        let behind = usize::from(sequence.wrapping_sub(first.unwrap()));
        assert_eq!(behind, picture, "a number for each picture, sent or not");
        assert!(last.is_none_or(|last| picture > last));
        (seen, last) = (seen + 1, Some(picture));
        if picture == 999 {
            break;
        }
    }
    let client = bench.head_end.clients.all().remove(0);
    assert!(seen < 1000);
    assert_eq!((client.pictures.load(Relaxed), client.dropped.load(Relaxed)), (seen, 1000 - seen));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interleaved_session_ends_with_its_connection() {
    let bench = TestServer::new().await;
    let mut guest = bench.connect().await;
    guest.status("SETUP rtsp://h/2/video", TCP).await;
    bench.show(1, 100, Duration::ZERO);
    guest.play("PLAY rtsp://h/2", "").await;
    // Another is set up only: no write to it will find out.
    let mut ready = bench.connect().await;
    ready.status("SETUP rtsp://h/2/video", TCP).await;
    let session = guest.session.clone();
    drop((guest, ready));
    bench.until(|head_end| head_end.clients.all().is_empty() && head_end.table.audience(ID) == 0).await;
    let mut guest = TestClient { session, ..bench.connect().await };
    assert_eq!(guest.status("PLAY rtsp://h/2", "").await, 454);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_has_so_many_sessions_and_channels() {
    let bench = TestServer::new().await;
    let mut guest = bench.connect().await;
    for n in 0..SESSIONS_PER_CONNECTION {
        guest.session = None;
        let response = guest.ask("SETUP rtsp://h/2/video", TCP).await;
        let transport = response.header(&headers::TRANSPORT).unwrap().as_str();
        assert!(transport.contains(&format!("interleaved={}-{}", 2 * n, 2 * n + 1)), "{transport}");
    }
    let last = guest.session.take();
    assert_eq!(guest.status("SETUP rtsp://h/2/video", TCP).await, 503);
    guest.session = last;
    assert_eq!(guest.status("TEARDOWN rtsp://h/2", "").await, 200);
    guest.session = None;
    assert_eq!(guest.status("SETUP rtsp://h/2/video", TCP).await, 200);
    assert_eq!(guest.status("SETUP rtsp://h/2/video", TCP).await, 200, "twice is once");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_says_bye_to_everybody() {
    let bench = TestServer::new().await;
    let mut guest = bench.connect().await;
    guest.status("SETUP rtsp://h/2/video", TCP).await;
    guest.play("PLAY rtsp://h/2", "").await;
    bench.stop.send_replace(true);
    timeout(PATIENCE, bench.server).await.unwrap().unwrap();
    let mut heard = Vec::new();
    while let Some(message) = guest.hear().await {
        match message {
            Received::Control(packet) => heard.extend(kinds(&packet)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(heard, ["SR", "SDES", "SR", "SDES", "BYE"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_answered_once_and_closed() {
    let bench = TestServer::new().await;
    for (bytes, status) in [
        (&b"\x16\x03\x01 nonsense\r\n\r\n"[..], 400),
        (b"OPTIONS * RTSP/9.9\r\nCSeq: 1\r\n\r\n", 505),
        (&[b'x'; reader::MAX_REQUEST], 413),
    ] {
        let mut guest = bench.connect().await;
        guest.stream.write_all(bytes).await.unwrap();
        let Some(Received::Response(response)) = guest.hear().await else { panic!("it is answered") };
        assert_eq!(u16::from(response.status()), status);
        assert!(guest.hear().await.is_none(), "and closed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_a_minute_after_the_last_sign_of_life() {
    let bench = TestServer::new().await;
    let (head_end, sessions) = (&bench.head_end, SessionTable::new());
    let (keep_alive, owner) = (Arc::new(KeepAlive::new()), bench.address.ip());
    let (commands, orders) = mpsc::channel(1);
    let delivery = SessionTask {
        clock: head_end.clock.clone(),
        table: head_end.table.clone(),
        station: head_end.station(ID).unwrap().clone(),
        programme: None,
        sink: Sink::Nowhere,
        fanouts: Arc::default(),
        keep_alive: keep_alive.clone(),
        receiver_reports: None,
        cname: String::new(),
    };
    let session = RtspSession {
        owner,
        resource: Resource { station: ID, kind: Kind::Live },
        transport: SessionTransport::Multicast { group: bench.address, ttl: 1, source: owner },
        length: None,
        keep_alive: keep_alive.clone(),
        receiver_reports: None,
        commands,
        _place: sessions.place(owner).unwrap(),
    };
    let start = Instant::now();
    let id = sessions.enter(session, delivery.run(orders));
    sleep_until(start + TIMEOUT - Duration::from_secs(1)).await;
    keep_alive.touch();
    sleep_until(start + 2 * TIMEOUT - Duration::from_secs(2)).await;
    assert!(sessions.get(id).is_some(), "it was heard of");
    sleep_until(start + 2 * TIMEOUT).await;
    yield_now().await;
    assert!(sessions.get(id).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_refused_is_a_sign_of_life() {
    let bench = TestServer::new().await;
    let shared = Arc::new(RtspServer::new(bench.head_end.clone()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connect = async |own| {
        let guest = TestClient::from(own, listener.local_addr().unwrap()).await;
        let (stream, peer) = listener.accept().await.unwrap();
        tokio::spawn(Connection::new(stream, peer, bench.address, shared.clone()).serve());
        guest
    };
    let mut guest = connect("127.0.0.1:0").await;
    guest.status("SETUP rtsp://h/2/video", "Transport: RTP/AVP;multicast").await;
    let session = guest.session.clone();
    let keep_alive =
        shared.sessions.get(session.as_ref().unwrap().parse().unwrap()).unwrap().keep_alive.clone();
    let ping = "Content-Length: 4\r\n\r\nping";
    let set_up = keep_alive.ends();
    assert_eq!(guest.status("SET_PARAMETER rtsp://h/2", ping).await, 451);
    let heard = keep_alive.ends();
    assert!(heard > set_up);
    let mut foreign = TestClient { session, ..connect("127.0.0.2:0").await };
    assert_eq!(foreign.status("SET_PARAMETER rtsp://h/2", ping).await, 454);
    assert_eq!(keep_alive.ends(), heard, "but not of somebody else");
}
