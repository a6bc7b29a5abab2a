//! A station by UDP, through the air thread.

use super::*;

/// Sets a session up with two ports of its own.
async fn set_up(guest: &mut TestClient) -> (UdpSocket, UdpSocket) {
    let ports =
        (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let port = |socket: &UdpSocket| socket.local_addr().unwrap().port();
    let transport = format!("Transport: RTP/AVP;unicast;client_port={}-{}", port(&ports.0), port(&ports.1));
    assert_eq!(guest.status("SETUP rtsp://h/2/video", &transport).await, 200);
    ports
}

/// Sequence number, timestamp and picture of the next packet.
async fn packet(socket: &UdpSocket) -> (u16, u32, usize) {
    let mut buffer = [0; 2000];
    let (length, _) = timeout(PATIENCE, socket.recv_from(&mut buffer)).await.unwrap().unwrap();
    let (header, picture) = seen(&buffer[..length]);
    (header.sequence, header.timestamp, picture)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_begins_with_what_is_on_air_when_the_air_thread_has_it() {
    let bench = TestServer::new().await;
    let mut guest = bench.connect().await;
    let (rtp, _rtcp) = set_up(&mut guest).await;
    bench.show(1, 100, Duration::ZERO);
    let due =
        Due { at: bench.head_end.clock.now() + Duration::from_millis(15), interval: Duration::from_secs(10) };
    bench.show_at(2, 100, due);
    let (sequence, timestamp) = guest.play("PLAY rtsp://h/2", "").await;
    assert_eq!(timestamp, Some(due.at.rtp_timestamp()));
    assert_eq!(packet(&rtp).await, (sequence.unwrap(), due.at.rtp_timestamp(), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_number_is_known_whatever_was_left_out() {
    let bench = TestServer::new().await;
    let mut guest = bench.connect().await;
    let (rtp, _rtcp) = set_up(&mut guest).await;
    let (first, _) = guest.play("PLAY rtsp://h/2", "").await;
    // Too late for its interval, and not for us.
    let late = bench.head_end.clock.now() - Duration::from_millis(100);
    bench.show_at(1, 50_000, Due { at: late, interval: Duration::from_millis(1) });
    // What was left out is counted with each PLAY.
    let skipped = async {
        while bench.counts().1 == 0 {
            guest.play("PLAY rtsp://h/2", "").await;
        }
    };
    timeout(PATIENCE, skipped).await.expect("it is left out");
    assert_eq!(bench.counts(), (0, 1));
    assert_eq!(guest.play("PLAY rtsp://h/2", "").await.0, first);
    let next = bench.show(2, 100, Duration::from_millis(30));
    assert_eq!(packet(&rtp).await, (first.unwrap(), next.rtp_timestamp(), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_teardown_nothing_comes() {
    let bench = TestServer::new().await;
    let (mut guest, mut other) = (bench.connect().await, bench.connect().await);
    let (rtp, rtcp) = set_up(&mut guest).await;
    let (other_rtp, _rtcp) = set_up(&mut other).await;
    for guest in [&mut guest, &mut other] {
        guest.play("PLAY rtsp://h/2", "").await;
    }
    // Near enough that the air thread has the second, too, when the first has come.
    bench.show(1, 100, Duration::from_millis(5));
    bench.show(2, 100, Duration::from_millis(90));
    for rtp in [&rtp, &other_rtp] {
        assert_eq!(packet(rtp).await.2, 1);
    }
    assert_eq!(guest.status("TEARDOWN rtsp://h/2", "").await, 200);
    assert_eq!(packet(&other_rtp).await.2, 2);
    // Of what is due at one time, that of the older session would have left first.
    assert!(rtp.into_std().unwrap().recv(&mut [0; 2000]).is_err());
    let mut buffer = [0; 2000];
    let heard = async {
        loop {
            let length = rtcp.recv(&mut buffer).await.unwrap();
            if kinds(&buffer[..length]).contains(&"BYE") {
                break;
            }
        }
    };
    timeout(PATIENCE, heard).await.expect("it ends by a BYE");
}
