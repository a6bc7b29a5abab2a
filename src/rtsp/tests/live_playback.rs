//! Stations as they are on air, by TCP and UDP.

#![expect(clippy::disallowed_methods, reason = "a test reads the clock of its scene")]

use super::*;
use crate::interface::Interface;

#[tokio::test(flavor = "multi_thread")]
async fn live_by_tcp_begins_with_the_picture_on_air() {
    let server = TestRtspServer::new().await;
    server.show(1, 5000, Duration::ZERO);
    let on_air = server.show(2, 60_000, Duration::ZERO);
    let mut client = server.connect().await;
    assert_eq!(client.status("SETUP rtsp://h/2/video", TCP).await, 200);
    assert_eq!(server.head_end.table.audience(ID), 0);
    let (sequence, timestamp) = client.play("PLAY rtsp://h/2", "Range: npt=0-").await;
    assert_eq!(client.early, 0, "no packet overtakes the response");
    assert_eq!(timestamp, Some(on_air.rtp_timestamp()));
    let Some(ReceivedMessage::Rtcp(report)) = client.receive().await else {
        panic!("no sender report at once")
    };
    assert_eq!(packet_types(&report), ["SR", "SDES"]);
    let next = server.show(3, 100, Duration::from_millis(30));
    assert_eq!(client.picture().await, (sequence.unwrap(), on_air.rtp_timestamp(), 2));
    assert_eq!(client.picture().await, (sequence.unwrap().wrapping_add(1), next.rtp_timestamp(), 3));
    assert!(server.head_end.clock.now() >= next, "no picture is sent before it is due");
    assert_eq!(server.head_end.table.audience(ID), 1);

    assert_eq!(client.status("PAUSE rtsp://h/2", "").await, 200);
    assert_eq!(server.head_end.table.audience(ID), 0);
    server.show(4, 100, Duration::ZERO);
    let back = server.show(5, 100, Duration::ZERO);
    let (resumed, _) = client.play("PLAY rtsp://h/2", "").await;
    assert_eq!(client.early, 0, "no packet came during the pause");
    assert_eq!(resumed, Some(sequence.unwrap().wrapping_add(2)), "sequence numbers go on");
    assert_eq!(
        client.picture().await,
        (resumed.unwrap(), back.rtp_timestamp(), 5),
        "playback goes on with the picture on air"
    );

    client.status("TEARDOWN rtsp://h/2", "").await;
    assert_eq!(client.status("PLAY rtsp://h/2", "").await, 454);
    server.wait_until(|head_end| head_end.clients.all().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_gets_each_picture_once_and_one_that_does_not_read_harms_no_other() {
    let server = TestRtspServer::new().await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = server.connect().await;
        client.status("SETUP rtsp://h/2/video", TCP).await;
        let first = client.play("PLAY rtsp://h/2", "").await.0.unwrap();
        clients.push((client, first));
    }
    let (mut asleep, from) = clients.pop().unwrap();
    // Eighteen megabytes: more than all buffers hold.
    for n in 0..300 {
        let due = server.show(n, 60_000, Duration::from_millis(5)).rtp_timestamp();
        for (client, first) in &mut clients {
            assert_eq!(client.picture().await, (first.wrapping_add(n as u16), due, n));
        }
    }
    let (mut received, mut last) = (0, None);
    while last != Some(299) {
        let (sequence, _, picture) = asleep.picture().await;
        assert_eq!(
            usize::from(sequence.wrapping_sub(from)),
            picture,
            "each picture takes a number, sent or not"
        );
        assert!(last.is_none_or(|last| picture > last));
        (received, last) = (received + 1, Some(picture));
    }
    assert!(received < 300);
    let counts = |head_end: &HeadEnd| {
        let client = head_end.clients.all().pop().unwrap();
        (client.pictures.load(Relaxed), client.dropped.load(Relaxed))
    };
    server.wait_until(|head_end| counts(head_end) == (received, 300 - received)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_picture_comes_during_a_pause_and_sequence_numbers_go_on_after_it() {
    let server = TestRtspServer::new().await;
    let (mut client, mut other) = (server.connect().await, server.connect().await);
    for client in [&mut client, &mut other] {
        client.status("SETUP rtsp://h/2/video", TCP).await;
        client.play("PLAY rtsp://h/2", "").await;
    }
    let mut next = None;
    for n in (0..60).step_by(3) {
        server.show(n, 60_000, Duration::from_millis(3));
        let (sequence, _, picture) = client.picture().await;
        assert_eq!((picture, sequence), (n, next.unwrap_or(sequence)));
        server.show(n + 1, 60_000, Duration::from_millis(1));
        client.status("PAUSE rtsp://h/2", "").await;
        // Picture n + 1 may have come before the response, or not at all.
        let now = sequence.wrapping_add(1 + client.early as u16);
        server.show(n + 2, 60_000, Duration::from_millis(1));
        for n in n..n + 3 {
            assert_eq!(other.picture().await.2, n);
        }
        let (resumed, _) = client.play("PLAY rtsp://h/2", "").await;
        assert_eq!((client.early, resumed), (0, Some(now)), "no packet came during the pause");
        assert_eq!(client.picture().await.2, n + 2, "playback goes on with the picture on air");
        next = Some(now.wrapping_add(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn live_by_udp_comes_from_the_ports_in_the_response() {
    let server = TestRtspServer::new().await;
    // The client's two ports need not be adjacent.
    let (rtp, rtcp) =
        (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let (a, b) = (rtp.local_addr().unwrap().port(), rtcp.local_addr().unwrap().port());
    let mut client = server.connect().await;
    let transport = format!("Transport: RTP/AVP;unicast;client_port={a}-{b}");
    let response = client.request("SETUP rtsp://h/2/video", &transport).await;
    let transports = response.typed_header::<headers::Transports>().unwrap().unwrap();
    let headers::Transport::Rtp(transport) = &transports[0] else { panic!("{transports:?}") };
    let (from, from_rtcp) = transport.params.server_port.unwrap();
    assert!(from % 2 == 0 && from_rtcp == Some(from + 1), "{from} {from_rtcp:?}");
    let ssrc = transport.params.ssrc[0];

    let (sequence, _) = client.play("PLAY rtsp://h/2", "").await;
    let due = server.show(7, 60_000, Duration::from_millis(20));
    let mut buffer = vec![0; 70_000];
    let (length, peer) = timeout(PATIENCE, rtp.recv_from(&mut buffer)).await.unwrap().unwrap();
    let (header, picture) = parse_packet(&buffer[..length]);
    assert_eq!((peer.port(), picture, header.ssrc), (from, 7, ssrc));
    assert_eq!((Some(header.sequence), header.timestamp), (sequence, due.rtp_timestamp()));
    let (length, peer) = timeout(PATIENCE, rtcp.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert_eq!((peer.port(), packet_types(&buffer[..length])), (from + 1, vec!["SR", "SDES"]));

    // Reports of the client are recorded; those of another address are not.
    let rtcp_address = SocketAddr::new(server.address.ip(), from + 1);
    let report = |lost| {
        let block = ReportBlock::builder(ssrc).fraction_lost(3).cumulative_lost(lost).interarrival_jitter(9);
        let builder = Compound::builder().add_packet(ReceiverReport::builder(1).add_report_block(block));
        let mut packet = vec![0; builder.calculate_size().unwrap()];
        builder.write_into(&mut packet).unwrap();
        packet
    };
    let stranger = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    stranger.send_to(&report(666), rtcp_address).await.unwrap();
    rtcp.send_to(b"no report", rtcp_address).await.unwrap();
    rtcp.send_to(&report(5), rtcp_address).await.unwrap();
    server.wait_until(|head_end| head_end.clients.all()[0].lost.load(Relaxed) != 0).await;
    let counters = server.head_end.clients.all().remove(0);
    assert_eq!((counters.lost.load(Relaxed), counters.jitter.load(Relaxed)), (5, 9));
    assert_eq!((counters.fraction_lost.load(Relaxed), counters.peer.port()), (3, a));

    // The session outlives the connection, and any connection from the owner's address may end it.
    let session = client.session.clone();
    drop(client);
    let mut foreign = TestRtspClient {
        session: session.clone(),
        ..TestRtspClient::from("127.0.0.2:0", server.address).await
    };
    assert_eq!(foreign.status("TEARDOWN rtsp://h/2", "").await, 454);
    let mut client = TestRtspClient { session, ..server.connect().await };
    assert_eq!(client.status("TEARDOWN rtsp://h/2", "").await, 200);
    let (length, _) = timeout(PATIENCE, rtcp.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(packet_types(&buffer[..length]), ["SR", "SDES", "BYE"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_that_are_too_late_leave_a_gap() {
    let server = TestRtspServer::new().await;
    let mut client = server.connect().await;
    client.status("SETUP rtsp://h/2/video", TCP).await;
    let first = client.play("PLAY rtsp://h/2", "").await.0.unwrap();
    let late = || Due {
        at: server.head_end.clock.now() - Duration::from_secs(2),
        interval: Duration::from_millis(40),
    };
    server.show_at(0, 100, late());
    server.show(1, 100, Duration::ZERO);
    let (sequence, _, picture) = client.picture().await;
    assert_eq!((sequence, picture), (first.wrapping_add(1), 1));
    server.wait_until(|_| server.counts() == (1, 1)).await;
    // By now the fan-out writes.
    server.show(2, 100, Duration::from_millis(5));
    server.show_at(3, 100, late());
    server.show(4, 100, Duration::from_millis(5));
    for n in [2, 4] {
        let (sequence, _, picture) = client.picture().await;
        assert_eq!((sequence, picture), (first.wrapping_add(n), usize::from(n)));
    }
    server.wait_until(|_| server.counts() == (3, 2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_description_has_the_rate_of_the_film_and_not_of_a_slate() {
    let server = TestRtspServer::new().await;
    let mut client = server.connect().await;
    // The directory has the rate of a slate, which is no film's.
    server.head_end.table.update(ID, |entry| entry.rate = FrameRate::new(5, 1)).unwrap();
    for (film, live) in [(None, None), (FrameRate::new(24, 1), Some("a=framerate:24"))] {
        film.into_iter().for_each(|rate| server.head_end.station(ID).unwrap().set_film_rate(rate));
        for (url, rate) in [("rtsp://h/2", live), ("rtsp://h/2/demand", Some("a=framerate:100"))] {
            let response = client.request(&format!("DESCRIBE {url}"), "").await;
            let sdp = String::from_utf8(response.into_body()).unwrap();
            assert_eq!(sdp.lines().find(|line| line.starts_with("a=framerate")), rate, "{url}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_of_a_group_is_the_address_that_the_station_sends_from() {
    let server = TestRtspServer::with(|spec| spec.group = "[ff15::2]:5004".parse().unwrap()).await;
    for address in ["2001:db8::7", "2001:db8::9"] {
        let v6 = vec!["fe80::1".parse().unwrap(), address.parse().unwrap()];
        let station = server.head_end.station(ID).unwrap();
        station.set_interface(Some(Interface { v6, ..Interface::sample() }));
        assert!(station.sdp().contains(&format!("IN IP6 {address}\r\n")), "{}", station.sdp());
        let response =
            server.connect().await.request("SETUP rtsp://h/2/video", "Transport: RTP/AVP;multicast").await;
        let transport = response.header(&headers::TRANSPORT).unwrap().as_str();
        assert!(transport.contains(&format!("source={address}")), "{transport}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_session_ends_with_a_bye_when_its_station_is_removed() {
    let server = TestRtspServer::new().await;
    let mut client = server.connect().await;
    server.show(0, 100, Duration::ZERO);
    client.status("SETUP rtsp://h/2/video", TCP).await;
    client.play("PLAY rtsp://h/2", "").await;
    // The fan-out has the client as soon as it has got a picture from it.
    for n in 1..4 {
        server.show(n, 100, Duration::from_millis(5));
        while client.picture().await.2 < n {}
    }
    let station = server.head_end.station(ID).unwrap();
    server.head_end.change_stations(|stations| drop(stations.remove(&ID)));
    station.feed.close();
    loop {
        match client.receive().await.expect("the connection stays") {
            ReceivedMessage::Rtcp(packet) if packet_types(&packet).contains(&"BYE") => break,
            ReceivedMessage::Response(response) => panic!("{response:?}"),
            ReceivedMessage::Picture(..) | ReceivedMessage::Sound(..) | ReceivedMessage::Rtcp(_) => {}
        }
    }
    assert_eq!(client.status("DESCRIBE rtsp://h/2", "").await, 404);
}
