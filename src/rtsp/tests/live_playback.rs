//! A station as it is on air, by TCP and UDP.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn live_in_the_connection_begins_with_what_is_on_air() {
    let bench = TestServer::new().await;
    bench.show(1, 5000, Duration::ZERO);
    let on_air = bench.show(2, 60_000, Duration::ZERO);
    let mut guest = bench.connect().await;
    assert_eq!(guest.status("SETUP rtsp://h/2/video", TCP).await, 200);
    assert_eq!(bench.head_end.table.audience(ID), 0);
    let (sequence, timestamp) = guest.play("PLAY rtsp://h/2", "Range: npt=0-").await;
    assert_eq!(guest.early, 0, "nothing overtakes the response");
    assert_eq!(timestamp, Some(on_air.rtp_timestamp()));
    let Some(Received::Control(report)) = guest.hear().await else { panic!("a report comes at once") };
    assert_eq!(kinds(&report), ["SR", "SDES"]);
    let next = bench.show(3, 100, Duration::from_millis(30));
    assert_eq!(guest.picture().await, (sequence.unwrap(), on_air.rtp_timestamp(), 2));
    assert_eq!(guest.picture().await, (sequence.unwrap().wrapping_add(1), next.rtp_timestamp(), 3));
    assert!(bench.head_end.clock.now() >= next, "not before it is due");
    assert_eq!(bench.head_end.table.audience(ID), 1);

    assert_eq!(guest.status("PAUSE rtsp://h/2", "").await, 200);
    assert_eq!(bench.head_end.table.audience(ID), 0);
    bench.show(4, 100, Duration::ZERO);
    let back = bench.show(5, 100, Duration::ZERO);
    let (resumed, _) = guest.play("PLAY rtsp://h/2", "").await;
    assert_eq!(guest.early, 0, "nothing came while it was paused");
    assert_eq!(resumed, Some(sequence.unwrap().wrapping_add(2)), "the numbers go on");
    assert_eq!(guest.picture().await, (resumed.unwrap(), back.rtp_timestamp(), 5), "live is now");

    guest.status("TEARDOWN rtsp://h/2", "").await;
    assert_eq!(guest.status("PLAY rtsp://h/2", "").await, 454);
    bench.until(|head_end| head_end.clients.all().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_gets_each_picture_once_and_who_does_not_read_harms_nobody() {
    let bench = TestServer::new().await;
    let mut guests = Vec::new();
    for _ in 0..4 {
        let mut guest = bench.connect().await;
        guest.status("SETUP rtsp://h/2/video", TCP).await;
        let first = guest.play("PLAY rtsp://h/2", "").await.0.unwrap();
        guests.push((guest, first));
    }
    let (mut asleep, from) = guests.pop().unwrap();
    // Eighteen megabytes: more than anybody holds for it.
    for n in 0..300 {
        let due = bench.show(n, 60_000, Duration::from_millis(5)).rtp_timestamp();
        for (guest, first) in &mut guests {
            assert_eq!(guest.picture().await, (first.wrapping_add(n as u16), due, n));
        }
    }
    let (mut seen, mut last) = (0, None);
    while last != Some(299) {
        let (sequence, _, picture) = asleep.picture().await;
        assert_eq!(
            usize::from(sequence.wrapping_sub(from)),
            picture,
            "a number for each picture, sent or not"
        );
        assert!(last.is_none_or(|last| picture > last));
        (seen, last) = (seen + 1, Some(picture));
    }
    assert!(seen < 300);
    let counts = |head_end: &HeadEnd| {
        let client = head_end.clients.all().pop().unwrap();
        (client.pictures.load(Relaxed), client.dropped.load(Relaxed))
    };
    bench.until(|head_end| counts(head_end) == (seen, 300 - seen)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_ends_what_is_written_for_a_client_and_play_goes_on_with_its_numbers() {
    let bench = TestServer::new().await;
    let (mut guest, mut other) = (bench.connect().await, bench.connect().await);
    for guest in [&mut guest, &mut other] {
        guest.status("SETUP rtsp://h/2/video", TCP).await;
        guest.play("PLAY rtsp://h/2", "").await;
    }
    let mut next = None;
    for n in (0..60).step_by(3) {
        bench.show(n, 60_000, Duration::from_millis(3));
        let (sequence, _, picture) = guest.picture().await;
        assert_eq!((picture, sequence), (n, next.unwrap_or(sequence)));
        bench.show(n + 1, 60_000, Duration::from_millis(1));
        guest.status("PAUSE rtsp://h/2", "").await;
        // It may have come before the response, or not at all.
        let now = sequence.wrapping_add(1 + guest.early as u16);
        bench.show(n + 2, 60_000, Duration::from_millis(1));
        for n in n..n + 3 {
            assert_eq!(other.picture().await.2, n);
        }
        let (resumed, _) = guest.play("PLAY rtsp://h/2", "").await;
        assert_eq!((guest.early, resumed), (0, Some(now)), "nothing came while it was paused");
        assert_eq!(guest.picture().await.2, n + 2, "live is now");
        next = Some(now.wrapping_add(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn live_by_udp_comes_from_the_ports_that_were_told() {
    let bench = TestServer::new().await;
    // The two ports of a client need not be neighbours.
    let (rtp, rtcp) =
        (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let (a, b) = (rtp.local_addr().unwrap().port(), rtcp.local_addr().unwrap().port());
    let mut guest = bench.connect().await;
    let transport = format!("Transport: RTP/AVP;unicast;client_port={a}-{b}");
    let response = guest.ask("SETUP rtsp://h/2/video", &transport).await;
    let transports = response.typed_header::<headers::Transports>().unwrap().unwrap();
    let headers::Transport::Rtp(transport) = &transports[0] else { panic!("{transports:?}") };
    let (from, from_rtcp) = transport.params.server_port.unwrap();
    assert!(from % 2 == 0 && from_rtcp == Some(from + 1), "{from} {from_rtcp:?}");
    let ssrc = transport.params.ssrc[0];

    let (sequence, _) = guest.play("PLAY rtsp://h/2", "").await;
    let due = bench.show(7, 60_000, Duration::from_millis(20));
    let mut buffer = vec![0; 70_000];
    let (length, peer) = timeout(PATIENCE, rtp.recv_from(&mut buffer)).await.unwrap().unwrap();
    let (header, picture) = seen(&buffer[..length]);
    assert_eq!((peer.port(), picture, header.ssrc), (from, 7, ssrc));
    assert_eq!((Some(header.sequence), header.timestamp), (sequence, due.rtp_timestamp()));
    let (length, peer) = timeout(PATIENCE, rtcp.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert_eq!((peer.port(), kinds(&buffer[..length])), (from + 1, vec!["SR", "SDES"]));

    // What the client says is taken down; what others say to the port is not.
    let server = SocketAddr::new(bench.address.ip(), from + 1);
    let report = |lost| {
        let block = ReportBlock::builder(ssrc).fraction_lost(3).cumulative_lost(lost).interarrival_jitter(9);
        let builder = Compound::builder().add_packet(ReceiverReport::builder(1).add_report_block(block));
        let mut packet = vec![0; builder.calculate_size().unwrap()];
        builder.write_into(&mut packet).unwrap();
        packet
    };
    let stranger = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    stranger.send_to(&report(666), server).await.unwrap();
    rtcp.send_to(b"no report", server).await.unwrap();
    rtcp.send_to(&report(5), server).await.unwrap();
    bench.until(|head_end| head_end.clients.all()[0].lost.load(Relaxed) != 0).await;
    let client = bench.head_end.clients.all().remove(0);
    assert_eq!((client.lost.load(Relaxed), client.jitter.load(Relaxed)), (5, 9));
    assert_eq!((client.fraction_lost.load(Relaxed), client.peer.port()), (3, a));

    // The session outlives the connection, and any connection of its owner may end it.
    let session = guest.session.clone();
    drop(guest);
    let mut foreign =
        TestClient { session: session.clone(), ..TestClient::from("127.0.0.2:0", bench.address).await };
    assert_eq!(foreign.status("TEARDOWN rtsp://h/2", "").await, 454);
    let mut guest = TestClient { session, ..bench.connect().await };
    assert_eq!(guest.status("TEARDOWN rtsp://h/2", "").await, 200);
    let (length, _) = timeout(PATIENCE, rtcp.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(kinds(&buffer[..length]), ["SR", "SDES", "BYE"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_late_is_left_out_and_leaves_a_gap() {
    let bench = TestServer::new().await;
    let mut guest = bench.connect().await;
    guest.status("SETUP rtsp://h/2/video", TCP).await;
    let first = guest.play("PLAY rtsp://h/2", "").await.0.unwrap();
    let late = || Due {
        at: bench.head_end.clock.now() - Duration::from_secs(2),
        interval: Duration::from_millis(40),
    };
    bench.show_at(0, 100, late());
    bench.show(1, 100, Duration::ZERO);
    let (sequence, _, picture) = guest.picture().await;
    assert_eq!((sequence, picture), (first.wrapping_add(1), 1));
    bench.until(|_| bench.counts() == (1, 1)).await;
    // By now it is written to together with others.
    bench.show(2, 100, Duration::from_millis(5));
    bench.show_at(3, 100, late());
    bench.show(4, 100, Duration::from_millis(5));
    for n in [2, 4] {
        let (sequence, _, picture) = guest.picture().await;
        assert_eq!((sequence, picture), (first.wrapping_add(n), usize::from(n)));
    }
    bench.until(|_| bench.counts() == (3, 2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_description_tells_the_rate_of_the_film_and_not_that_of_a_slate() {
    let bench = TestServer::new().await;
    let mut guest = bench.connect().await;
    // A slate's: that of no film, whatever the directory says.
    bench.head_end.table.update(ID, |entry| entry.rate = FrameRate::new(5, 1)).unwrap();
    for (film, live) in [(None, None), (FrameRate::new(24, 1), Some("a=framerate:24"))] {
        film.into_iter().for_each(|rate| bench.head_end.station(ID).unwrap().shows_film(rate));
        for (url, rate) in [("rtsp://h/2", live), ("rtsp://h/2/demand", Some("a=framerate:100"))] {
            let response = guest.ask(&format!("DESCRIBE {url}"), "").await;
            let sdp = String::from_utf8(response.into_body()).unwrap();
            assert_eq!(sdp.lines().find(|line| line.starts_with("a=framerate")), rate, "{url}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_sent_from_the_address_that_its_description_names() {
    let bench = TestServer::with(|spec| {
        spec.group = "[ff15::2]:5004".parse().unwrap();
        spec.interface.v6 = vec!["fe80::1".parse().unwrap(), "2001:db8::7".parse().unwrap()];
    });
    let bench = bench.await;
    let response = bench.connect().await.ask("SETUP rtsp://h/2/video", "Transport: RTP/AVP;multicast").await;
    let transport = response.header(&headers::TRANSPORT).unwrap().as_str();
    assert!(transport.contains("source=2001:db8::7"), "{transport}");
}
