//! Programmes on demand.

#![expect(clippy::disallowed_methods, reason = "a test reads the clock of its scene")]

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_programme_plays_from_its_beginning_to_its_end_and_again() {
    let server = TestRtspServer::new().await;
    let mut client = server.connect().await;
    let described = client.request("DESCRIBE rtsp://h:1/2/demand", "").await;
    assert_eq!(described.header(&headers::CONTENT_BASE).unwrap().as_str(), "rtsp://h:1/2/demand/");
    let sdp = String::from_utf8(described.into_body()).unwrap();
    for line in ["a=range:npt=0-0.500", "a=control:video"] {
        assert!(sdp.lines().any(|l| l == line), "{line} in {sdp}");
    }
    client.status("SETUP rtsp://h/2/demand/video", TCP).await;
    let (sequence, timestamp) = client.play("PLAY rtsp://h/2/demand", "").await;
    for n in 0..50 {
        let ticks = RATE.nth(n as u64).as_micros() as u32 * 9 / 100;
        let expected = (sequence.unwrap().wrapping_add(n as u16), timestamp.unwrap().wrapping_add(ticks), n);
        let (sequence, timestamp, picture) = client.picture().await;
        assert_eq!((sequence, picture), (expected.0, n));
        assert!(timestamp.wrapping_sub(expected.1).wrapping_add(1) <= 2, "{timestamp} {}", expected.1);
    }
    let Some(ReceivedMessage::Rtcp(bye)) = client.receive().await else { panic!("no BYE at the end") };
    assert_eq!(packet_types(&bye), ["SR", "SDES", "BYE"]);
    // It has ended, so it starts again.
    client.play("PLAY rtsp://h/2/demand", "").await;
    assert_eq!(client.picture().await.2, 0);
    assert_eq!(server.head_end.table.audience(ID), 0, "on demand is not audience");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_programme_goes_on_where_it_was_and_a_range_says_where_to_begin() {
    let server = TestRtspServer::new().await;
    let mut client = server.connect().await;
    client.status("SETUP rtsp://h/2/demand/video", TCP).await;
    client.play("PLAY rtsp://h/2/demand", "").await;
    let mut last = 0;
    while last < 9 {
        last = client.picture().await.2;
    }
    assert_eq!(client.status("PAUSE rtsp://h/2/demand", "").await, 200);
    last += client.early;
    let (sequence, _) = client.play("PLAY rtsp://h/2/demand", "").await;
    let (resumed, _, picture) = client.picture().await;
    assert_eq!((Some(resumed), picture), (sequence, last + 1), "no picture is lost or repeated");
    // Playback is behind the end of that range already, and goes on.
    assert_eq!(client.status("PLAY rtsp://h/2/demand", "Range: npt=now-0.05").await, 457);
    assert_eq!(client.picture().await.2, last + 2 + client.early);

    // A range in the second film.
    client.play("PLAY rtsp://h/2/demand", "Range: npt=0.25-0.3").await;
    let mut pictures = Vec::new();
    loop {
        match client.receive().await.unwrap() {
            ReceivedMessage::Picture(_, _, picture) => pictures.push(picture),
            ReceivedMessage::Rtcp(packet) if packet_types(&packet).contains(&"BYE") => break,
            ReceivedMessage::Rtcp(_) | ReceivedMessage::Sound(..) => {}
            ReceivedMessage::Response(response) => panic!("{response:?}"),
        }
    }
    assert_eq!(pictures, [25, 26, 27, 28, 29]);
    client.play("PLAY rtsp://h/2/demand", "Scale: 4").await;
    let pictures = [client.picture().await.2, client.picture().await.2, client.picture().await.2];
    assert_eq!(pictures, [30, 34, 38], "goes on where the range ended, one picture in four");
    assert_eq!(client.status("PLAY rtsp://h/2/demand", "Range: npt=0.5-").await, 457);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_programme_that_cannot_be_played_says_why() {
    let server = TestRtspServer::new().await;
    let mut client = server.connect().await;
    let media = |name| server.folder.path().join(name);
    for name in ["a.mp4", "b.mp4"] {
        std::fs::write(media(name), "no film").unwrap();
    }
    for request in ["DESCRIBE rtsp://h/2/demand", "SETUP rtsp://h/2/demand/video"] {
        let response = client.request(request, TCP).await;
        assert_eq!(u16::from(response.status()), 503);
        assert_eq!(response.header(&headers::RETRY_AFTER).unwrap().as_str(), "30");
        let why = "a.mp4 is not a film: there is no video in it that this system can decode";
        assert_eq!(response.reason_phrase(), format!("Service Unavailable: {why}"));
        assert_eq!(String::from_utf8_lossy(response.body()), format!("{why}\n"));
    }
    std::fs::remove_file(media("a.mp4")).unwrap();
    let response = client.request("DESCRIBE rtsp://h/2/demand", "").await;
    let why = "Service Unavailable: cannot read a.mp4: no such file or directory";
    assert_eq!(response.reason_phrase(), why);
    let station = server.head_end.station(ID).unwrap();
    let refused = || station.demand_refused();
    assert_eq!(refused().as_deref(), Some("cannot read a.mp4: no such file or directory"), "the API has it");
    assert!(!station.set_demand_refused(refused()), "the same again is not logged");
    let response = client.request("DESCRIBE rtsp://h/3/demand", "").await;
    assert_eq!(u16::from(response.status()), 404);
    assert_eq!(response.reason_phrase(), "Not Found: there is no station 3");
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_that_are_read_too_late_leave_a_gap() {
    let server = TestRtspServer::new().await;
    let head_end = server.head_end.clone();
    let programme = tokio::task::spawn_blocking(move || head_end.programme(&head_end.station(ID).unwrap()));
    let programme = programme.await.unwrap().unwrap();
    let mut client = server.connect().await;
    client.status("SETUP rtsp://h/2/demand/video", TCP).await;
    let hung = programme.reel(0).unwrap().hang(3);
    let (first, _) = client.play("PLAY rtsp://h/2/demand", "").await;
    let played = server.head_end.clock.now();
    for n in 0..3 {
        assert_eq!(client.picture().await.2, n);
    }
    // Playback begins 0.12 s after PLAY: picture 3 is more than 1 s late then.
    server.wait_until(|head_end| head_end.clock.now().since(played) > Duration::from_millis(1300)).await;
    drop(hung);
    let mut next = None;
    loop {
        match client.receive().await.unwrap() {
            ReceivedMessage::Picture(sequence, _, picture) => {
                assert_eq!(sequence, first.unwrap().wrapping_add(picture as u16));
                assert_eq!(picture, *next.get_or_insert(picture));
                next = Some(picture + 1);
            }
            ReceivedMessage::Rtcp(packet) if packet_types(&packet).contains(&"BYE") => break,
            ReceivedMessage::Rtcp(_) | ReceivedMessage::Sound(..) => {}
            ReceivedMessage::Response(response) => panic!("{response:?}"),
        }
    }
    let (sent, dropped) = server.counts();
    assert_eq!(sent + dropped, 50);
    assert!(dropped >= 15, "{dropped}");
}
