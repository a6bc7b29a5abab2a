//! Live by UDP, by the air thread.

#![expect(clippy::disallowed_methods, reason = "a test reads the clock of its scene")]

use super::*;

/// Sets up a session by UDP. Returns the sockets for RTP and RTCP.
async fn set_up(client: &mut TestRtspClient) -> (UdpSocket, UdpSocket) {
    let ports =
        (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let port = |socket: &UdpSocket| socket.local_addr().unwrap().port();
    let transport = format!("Transport: RTP/AVP;unicast;client_port={}-{}", port(&ports.0), port(&ports.1));
    assert_eq!(client.status("SETUP rtsp://h/2/video", &transport).await, 200);
    ports
}

/// Sequence number, timestamp and picture of the next packet.
async fn packet(socket: &UdpSocket) -> (u16, u32, usize) {
    let mut buffer = [0; 2000];
    let (length, _) = timeout(PATIENCE, socket.recv_from(&mut buffer)).await.unwrap().unwrap();
    let (header, picture) = parse_packet(&buffer[..length]);
    (header.sequence, header.timestamp, picture)
}

#[tokio::test(flavor = "multi_thread")]
async fn playback_begins_with_the_picture_on_air_when_the_air_thread_gets_it() {
    let server = TestRtspServer::new().await;
    let mut client = server.connect().await;
    let (rtp, _rtcp) = set_up(&mut client).await;
    server.show(1, 100, Duration::ZERO);
    let due = Due {
        at: server.head_end.clock.now() + Duration::from_millis(15),
        interval: Duration::from_secs(10),
    };
    server.show_at(2, 100, due);
    let (sequence, timestamp) = client.play("PLAY rtsp://h/2", "").await;
    assert_eq!(timestamp, Some(due.at.rtp_timestamp()));
    assert_eq!(packet(&rtp).await, (sequence.unwrap(), due.at.rtp_timestamp(), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn rtp_info_has_the_next_sequence_number_after_skipped_pictures() {
    let server = TestRtspServer::new().await;
    let mut client = server.connect().await;
    let (rtp, _rtcp) = set_up(&mut client).await;
    let (first, _) = client.play("PLAY rtsp://h/2", "").await;
    // Too late for the air thread, whose limit is the interval, and not for the session.
    let late = server.head_end.clock.now() - Duration::from_millis(100);
    server.show_at(1, 50_000, Due { at: late, interval: Duration::from_millis(1) });
    // Each PLAY updates the counters.
    let skipped = async {
        while server.counts().1 == 0 {
            client.play("PLAY rtsp://h/2", "").await;
        }
    };
    timeout(PATIENCE, skipped).await.expect("the picture is skipped");
    assert_eq!(server.counts(), (0, 1));
    assert_eq!(client.play("PLAY rtsp://h/2", "").await.0, first);
    let next = server.show(2, 100, Duration::from_millis(30));
    assert_eq!(packet(&rtp).await, (first.unwrap(), next.rtp_timestamp(), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_packet_comes_after_teardown() {
    let server = TestRtspServer::new().await;
    let (mut client, mut other) = (server.connect().await, server.connect().await);
    let (rtp, rtcp) = set_up(&mut client).await;
    let (other_rtp, _rtcp) = set_up(&mut other).await;
    for client in [&mut client, &mut other] {
        client.play("PLAY rtsp://h/2", "").await;
    }
    // The second is so near that the air thread has it when the first has come.
    server.show(1, 100, Duration::from_millis(5));
    server.show(2, 100, Duration::from_millis(90));
    for rtp in [&rtp, &other_rtp] {
        assert_eq!(packet(rtp).await.2, 1);
    }
    assert_eq!(client.status("TEARDOWN rtsp://h/2", "").await, 200);
    assert_eq!(packet(&other_rtp).await.2, 2);
    // Both clients' pictures were due at the same time, and the older session's would have left first.
    assert!(rtp.into_std().unwrap().recv(&mut [0; 2000]).is_err());
    let mut buffer = [0; 2000];
    let bye = async {
        loop {
            let length = rtcp.recv(&mut buffer).await.unwrap();
            if packet_types(&buffer[..length]).contains(&"BYE") {
                break;
            }
        }
    };
    timeout(PATIENCE, bye).await.expect("a BYE comes");
}
