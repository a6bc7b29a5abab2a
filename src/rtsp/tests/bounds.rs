//! The limits of a client, and the end of sessions and connections.

use std::sync::atomic::AtomicBool;

use tokio::sync::mpsc;
use tokio::task::yield_now;

use super::*;
use crate::rtsp::request::{Kind, Resource};
use crate::rtsp::session::{KeepAlive, RtspSession, SESSION_TIMEOUT};
use crate::rtsp::session_task::SessionTask;
use crate::rtsp::sink::Sink;
use crate::rtsp::transport::SessionTransport;

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_loses_whole_pictures_and_sees_a_gap_for_each() {
    let server = TestRtspServer::new().await;
    let mut client = server.connect().await;
    client.status("SETUP rtsp://h/2/video", TCP).await;
    let (first, _) = client.play("PLAY rtsp://h/2", "").await;
    // Sixty megabytes are on air while it reads nothing: more than all buffers hold.
    for n in 0..1000 {
        server.show(n, 60_000, Duration::ZERO);
    }
    let (mut received, mut last) = (0, None::<usize>);
    loop {
        let (sequence, _, picture) = client.picture().await;
        let behind = usize::from(sequence.wrapping_sub(first.unwrap()));
        assert_eq!(behind, picture, "each picture takes a number, sent or not");
        assert!(last.is_none_or(|last| picture > last));
        (received, last) = (received + 1, Some(picture));
        if picture == 999 {
            break;
        }
    }
    let counters = server.head_end.clients.all().remove(0);
    assert!(received < 1000);
    assert_eq!(
        (counters.pictures.load(Relaxed), counters.dropped.load(Relaxed)),
        (received, 1000 - received)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interleaved_session_ends_with_its_connection() {
    let server = TestRtspServer::new().await;
    let mut client = server.connect().await;
    client.status("SETUP rtsp://h/2/video", TCP).await;
    server.show(1, 100, Duration::ZERO);
    client.play("PLAY rtsp://h/2", "").await;
    // Another session does not play: no failing write ends it.
    let mut ready = server.connect().await;
    ready.status("SETUP rtsp://h/2/video", TCP).await;
    let session = client.session.clone();
    drop((client, ready));
    server.wait_until(|head_end| head_end.clients.all().is_empty() && head_end.table.audience(ID) == 0).await;
    let mut client = TestRtspClient { session, ..server.connect().await };
    assert_eq!(client.status("PLAY rtsp://h/2", "").await, 454);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sessions_of_a_connection_are_limited_and_have_channels_of_their_own() {
    let server = TestRtspServer::new().await;
    let mut client = server.connect().await;
    for n in 0..SESSIONS_PER_CONNECTION {
        client.session = None;
        let response = client.request("SETUP rtsp://h/2/video", TCP).await;
        let transport = response.header(&headers::TRANSPORT).unwrap().as_str();
        assert!(transport.contains(&format!("interleaved={}-{}", 2 * n, 2 * n + 1)), "{transport}");
    }
    let last = client.session.take();
    assert_eq!(client.status("SETUP rtsp://h/2/video", TCP).await, 503);
    client.session = last;
    assert_eq!(client.status("TEARDOWN rtsp://h/2", "").await, 200);
    client.session = None;
    assert_eq!(client.status("SETUP rtsp://h/2/video", TCP).await, 200);
    assert_eq!(client.status("SETUP rtsp://h/2/video", TCP).await, 200, "a second SETUP of the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_session_gets_a_bye_when_the_server_stops() {
    let server = TestRtspServer::new().await;
    let mut client = server.connect().await;
    client.status("SETUP rtsp://h/2/video", TCP).await;
    client.play("PLAY rtsp://h/2", "").await;
    server.stop.send_replace(true);
    timeout(PATIENCE, server.task).await.unwrap().unwrap();
    let mut received = Vec::new();
    while let Some(message) = client.receive().await {
        match message {
            ReceivedMessage::Rtcp(packet) => received.extend(packet_types(&packet)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(received, ["SR", "SDES", "SR", "SDES", "BYE"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_gets_one_response_and_the_connection_is_closed() {
    let server = TestRtspServer::new().await;
    for (bytes, status) in [
        (&b"\x16\x03\x01 nonsense\r\n\r\n"[..], 400),
        (b"OPTIONS * RTSP/9.9\r\nCSeq: 1\r\n\r\n", 505),
        (&[b'x'; reader::MAX_REQUEST], 413),
    ] {
        let mut client = server.connect().await;
        client.stream.write_all(bytes).await.unwrap();
        let Some(ReceivedMessage::Response(response)) = client.receive().await else { panic!("no response") };
        assert_eq!(u16::from(response.status()), status);
        assert!(client.receive().await.is_none(), "the connection is closed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_a_minute_after_the_last_sign_of_life() {
    let server = TestRtspServer::new().await;
    let (head_end, sessions) = (&server.head_end, SessionTable::new(2048));
    let (keep_alive, owner) = (Arc::new(KeepAlive::new()), server.address.ip());
    let (commands, received) = mpsc::channel(1);
    let playing = Arc::new(AtomicBool::new(false));
    let task = SessionTask {
        clock: head_end.clock.clone(),
        table: head_end.table.clone(),
        station: head_end.station(ID).unwrap().clone(),
        reels: None,
        sink: Sink::Multicast,
        fanouts: Arc::default(),
        playing: playing.clone(),
        keep_alive: keep_alive.clone(),
        receiver_reports: None,
        cname: String::new(),
    };
    let session = RtspSession {
        owner,
        resource: Resource { station: ID, kind: Kind::Live },
        transport: SessionTransport::Multicast { group: server.address, ttl: 1, source: owner },
        length: None,
        playing,
        keep_alive: keep_alive.clone(),
        receiver_reports: None,
        commands,
        _permit: sessions.permit(owner).unwrap(),
    };
    let start = Instant::now();
    let id = sessions.insert(session, task.run(received));
    sleep_until(start + SESSION_TIMEOUT - Duration::from_secs(1)).await;
    keep_alive.touch();
    sleep_until(start + 2 * SESSION_TIMEOUT - Duration::from_secs(2)).await;
    assert!(sessions.get(id).is_some(), "it has given a sign of life");
    sleep_until(start + 2 * SESSION_TIMEOUT).await;
    yield_now().await;
    assert!(sessions.get(id).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_request_is_a_sign_of_life() {
    let server = TestRtspServer::new().await;
    let rtsp_server = Arc::new(RtspServer::new(server.head_end.clone(), 2048));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connect = async |own| {
        let client = TestRtspClient::from(own, listener.local_addr().unwrap()).await;
        let (stream, peer) = listener.accept().await.unwrap();
        tokio::spawn(RtspConnection::new(stream, peer, server.address, rtsp_server.clone()).serve());
        client
    };
    let mut client = connect("127.0.0.1:0").await;
    client.status("SETUP rtsp://h/2/video", "Transport: RTP/AVP;multicast").await;
    let session = client.session.clone();
    let keep_alive =
        rtsp_server.sessions.get(session.as_ref().unwrap().parse().unwrap()).unwrap().keep_alive.clone();
    let ping = "Content-Length: 4\r\n\r\nping";
    let set_up = keep_alive.deadline();
    assert_eq!(client.status("SET_PARAMETER rtsp://h/2", ping).await, 451);
    let touched = keep_alive.deadline();
    assert!(touched > set_up);
    let mut foreign = TestRtspClient { session, ..connect("127.0.0.2:0").await };
    assert_eq!(foreign.status("SET_PARAMETER rtsp://h/2", ping).await, 454);
    assert_eq!(keep_alive.deadline(), touched, "requests of other addresses are not");
}
