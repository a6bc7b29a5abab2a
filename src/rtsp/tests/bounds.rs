//! The limits of a client, and the end of sessions and connections.

#![expect(clippy::disallowed_methods, reason = "a test reads the clock of its scene")]

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use tokio::sync::mpsc;
use tokio::task::yield_now;

use super::*;
use crate::media::Track;
use crate::media::tracks::PerTrack;
use crate::rtsp::request::{Kind, Resource};
use crate::rtsp::session::{
    ABANDONED_TIMEOUT, KeepAlive, RtspSession, SESSION_TIMEOUT, SessionId, SessionTracks,
};
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
        (&b"\x16\x03\x09 nonsense\r\n\r\n"[..], 400),
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

/// Adds a session by multicast, without a connection.
fn insert_session(server: &TestRtspServer, sessions: &Arc<SessionTable>) -> SessionId {
    let head_end = &server.head_end;
    let (keep_alive, owner) = (Arc::new(KeepAlive::new()), server.address.ip());
    let (commands, received) = mpsc::channel(1);
    let playing = Arc::new(AtomicBool::new(false));
    let transport = SessionTransport::Multicast { group: server.address, ttl: 1, source: owner };
    let transports = PerTrack::of(Track::Picture, transport);
    let task = SessionTask {
        clock: head_end.clock.clone(),
        table: head_end.table.clone(),
        station: head_end.station(ID).unwrap(),
        vod: None,
        sinks: PerTrack::of(Track::Picture, Sink::Multicast),
        fanouts: Arc::default(),
        playing: playing.clone(),
        keep_alive: keep_alive.clone(),
        receiver_reports: None,
        cname: String::new(),
    };
    let session = RtspSession {
        owner,
        resource: Resource { station: ID, kind: Kind::Live },
        tracks: Mutex::new(SessionTracks { transports, permits: vec![sessions.permit(owner).unwrap()] }),
        length: None,
        playing,
        keep_alive,
        receiver_reports: None,
        commands,
    };
    sessions.insert(session, task.run(received))
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_a_minute_after_the_last_sign_of_life() {
    let (server, sessions) = (TestRtspServer::new().await, SessionTable::new(2048));
    let start = Instant::now();
    let id = insert_session(&server, &sessions);
    sleep_until(start + SESSION_TIMEOUT - Duration::from_secs(1)).await;
    sessions.get(id).unwrap().keep_alive.touch();
    sleep_until(start + 2 * SESSION_TIMEOUT - Duration::from_secs(2)).await;
    assert!(sessions.get(id).is_some(), "it has given a sign of life");
    sleep_until(start + 2 * SESSION_TIMEOUT).await;
    yield_now().await;
    assert!(sessions.get(id).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_connection_is_gone_ends_soon_unless_its_client_lives() {
    let (server, sessions) = (TestRtspServer::new().await, SessionTable::new(2048));
    let second = Duration::from_secs(1);
    let start = Instant::now();
    let [silent, reporting, carried_on] = [(); 3].map(|()| insert_session(&server, &sessions));
    for id in [silent, reporting, carried_on] {
        sessions.get(id).unwrap().abandon();
    }
    sleep_until(start + ABANDONED_TIMEOUT - second).await;
    sessions.get(reporting).unwrap().keep_alive.touch();
    sessions.get(carried_on).unwrap().keep_alive.requested();
    let living = || [silent, reporting, carried_on].map(|id| sessions.get(id).is_some());
    assert_eq!(living(), [true, true, true]);
    sleep_until(start + ABANDONED_TIMEOUT + second).await;
    assert_eq!(living(), [false, true, true]);
    sleep_until(start + 2 * ABANDONED_TIMEOUT).await;
    assert_eq!(living(), [false, false, true], "a report prolongs it for as long again");
    sleep_until(start + ABANDONED_TIMEOUT + SESSION_TIMEOUT - 2 * second).await;
    assert_eq!(living(), [false, false, true], "a request makes it a session like others");
    sleep_until(start + ABANDONED_TIMEOUT + SESSION_TIMEOUT).await;
    assert_eq!(living(), [false, false, false]);
}

/// A server whose connections a test makes, so that it sees their sessions.
struct BareServer {
    server: TestRtspServer,
    rtsp: Arc<RtspServer>,
    listener: TcpListener,
}

impl BareServer {
    async fn new() -> BareServer {
        let server = TestRtspServer::new().await;
        let rtsp = Arc::new(RtspServer::new(server.head_end.clone(), 2048));
        BareServer { server, rtsp, listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    /// Connects from the address `own`.
    async fn connect(&self, own: &str) -> (TestRtspClient, tokio::task::JoinHandle<()>) {
        let client = TestRtspClient::from(own, self.listener.local_addr().unwrap()).await;
        let (stream, peer) = self.listener.accept().await.unwrap();
        let connection = RtspConnection::new(stream.into(), peer, self.server.address, self.rtsp.clone());
        (client, tokio::spawn(connection.serve()))
    }

    /// The deadline of a client's session; `None` if it has ended.
    fn deadline(&self, session: &Option<String>) -> Option<Instant> {
        let id = session.as_ref().unwrap().parse().unwrap();
        Some(self.rtsp.sessions.get(id)?.keep_alive.deadline())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_connection_ends_its_sessions_at_once_or_soon() {
    let bare = BareServer::new().await;
    for (transport, last_header, rest) in [
        (TCP, "", None),
        (TCP, "Connection: close", None),
        ("Transport: RTP/AVP;unicast;client_port=5000-5001", "", Some(ABANDONED_TIMEOUT)),
        ("Transport: RTP/AVP;multicast", "", Some(ABANDONED_TIMEOUT)),
        // It comes again with another connection.
        ("Transport: RTP/AVP;multicast", "Connection: close", Some(SESSION_TIMEOUT)),
    ] {
        let (mut client, served) = bare.connect("127.0.0.1:0").await;
        assert_eq!(client.status("SETUP rtsp://h/2/video", transport).await, 200);
        assert_eq!(client.status("PLAY rtsp://h/2", last_header).await, 200);
        let before = Instant::now();
        let session = client.session.clone();
        drop(client);
        timeout(PATIENCE, served).await.unwrap().unwrap();
        match (bare.deadline(&session), rest) {
            (None, None) => {}
            (Some(deadline), Some(rest)) => {
                // Noted at the last request, or at the end of the connection.
                let limits = (before - PATIENCE + rest, Instant::now() + rest);
                assert!(limits.0 < deadline && deadline <= limits.1, "{transport} {last_header}");
            }
            other => panic!("{transport} {last_header}: {other:?}"),
        }
        if rest.is_some() {
            let (mut client, _served) = bare.connect("127.0.0.1:0").await;
            client.session = session;
            assert_eq!(client.status("PLAY rtsp://h/2", "").await, 200, "another connection carries it on");
            assert_eq!(client.status("TEARDOWN rtsp://h/2", "").await, 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_request_is_a_sign_of_life() {
    let bare = BareServer::new().await;
    let (mut client, _served) = bare.connect("127.0.0.1:0").await;
    client.status("SETUP rtsp://h/2/video", "Transport: RTP/AVP;multicast").await;
    let session = client.session.clone();
    let ping = "Content-Length: 4\r\n\r\nping";
    let set_up = bare.deadline(&session);
    assert_eq!(client.status("SET_PARAMETER rtsp://h/2", ping).await, 451);
    let touched = bare.deadline(&session);
    assert!(touched > set_up);
    let (foreign, _served) = bare.connect("127.0.0.2:0").await;
    let mut foreign = TestRtspClient { session: session.clone(), ..foreign };
    assert_eq!(foreign.status("SET_PARAMETER rtsp://h/2", ping).await, 454);
    assert_eq!(bare.deadline(&session), touched, "requests of other addresses are not");
}
