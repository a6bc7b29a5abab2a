//! A programme of one's own.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_programme_is_played_from_its_beginning_to_its_end() {
    let bench = TestServer::new().await;
    let mut guest = bench.connect().await;
    let described = guest.ask("DESCRIBE rtsp://h:1/2/demand", "").await;
    let sdp = String::from_utf8(described.into_body()).unwrap();
    for line in ["a=range:npt=0-0.500", "a=control:rtsp://h:1/2/demand/video"] {
        assert!(sdp.lines().any(|l| l == line), "{line} in {sdp}");
    }
    guest.status("SETUP rtsp://h/2/demand/video", TCP).await;
    let (sequence, timestamp) = guest.play("PLAY rtsp://h/2/demand", "").await;
    for n in 0..50 {
        let ticks = RATE.nth(n as u64).as_micros() as u32 * 9 / 100;
        let expected = (sequence.unwrap().wrapping_add(n as u16), timestamp.unwrap().wrapping_add(ticks), n);
        let (sequence, timestamp, picture) = guest.picture().await;
        assert_eq!((sequence, picture), (expected.0, n));
        assert!(timestamp.wrapping_sub(expected.1).wrapping_add(1) <= 2, "{timestamp} {}", expected.1);
    }
    let Some(Received::Control(bye)) = guest.hear().await else { panic!("it ends by a BYE") };
    assert_eq!(kinds(&bye), ["SR", "SDES", "BYE"]);
    // Again from the beginning, for it is over.
    guest.play("PLAY rtsp://h/2/demand", "").await;
    assert_eq!(guest.picture().await.2, 0);
    assert_eq!(bench.head_end.table.audience(ID), 0, "this is not on air");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_programme_waits_where_it_was_paused_and_begins_where_it_is_wanted() {
    let bench = TestServer::new().await;
    let mut guest = bench.connect().await;
    guest.status("SETUP rtsp://h/2/demand/video", TCP).await;
    guest.play("PLAY rtsp://h/2/demand", "").await;
    let mut last = 0;
    while last < 9 {
        last = guest.picture().await.2;
    }
    assert_eq!(guest.status("PAUSE rtsp://h/2/demand", "").await, 200);
    last += guest.early;
    let (sequence, _) = guest.play("PLAY rtsp://h/2/demand", "").await;
    let (resumed, _, picture) = guest.picture().await;
    assert_eq!((Some(resumed), picture), (sequence, last + 1), "nothing lost, nothing twice");
    // It is behind that already, and plays on.
    assert_eq!(guest.status("PLAY rtsp://h/2/demand", "Range: npt=now-0.05").await, 457);
    assert_eq!(guest.picture().await.2, last + 2 + guest.early);

    // In the second film, and no further than wanted.
    guest.play("PLAY rtsp://h/2/demand", "Range: npt=0.25-0.3").await;
    let mut shown = Vec::new();
    loop {
        match guest.hear().await.unwrap() {
            Received::Picture(_, _, picture) => shown.push(picture),
            Received::Control(packet) if kinds(&packet).contains(&"BYE") => break,
            Received::Control(_) => {}
            Received::Response(response) => panic!("{response:?}"),
        }
    }
    assert_eq!(shown, [25, 26, 27, 28, 29]);
    guest.play("PLAY rtsp://h/2/demand", "Scale: 4").await;
    let shown = [guest.picture().await.2, guest.picture().await.2, guest.picture().await.2];
    assert_eq!(shown, [30, 34, 38], "from where it ended, leaving out three of four");
    assert_eq!(guest.status("PLAY rtsp://h/2/demand", "Range: npt=0.5-").await, 457);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_programme_without_all_its_reels_is_not_there_yet() {
    let bench = TestServer::new().await;
    std::fs::write(bench.folder.path().join("b.mp4"), "another film").unwrap();
    let mut guest = bench.connect().await;
    let response = guest.ask("DESCRIBE rtsp://h/2/demand", "").await;
    assert_eq!(u16::from(response.status()), 503);
    assert_eq!(response.header(&headers::RETRY_AFTER).unwrap().as_str(), "30");
    assert_eq!(guest.status("SETUP rtsp://h/2/demand/video", TCP).await, 503);
    assert_eq!(guest.status("DESCRIBE rtsp://h/3", "").await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_too_late_is_left_out_and_leaves_a_gap() {
    let bench = TestServer::new().await;
    let head_end = bench.head_end.clone();
    let reels = tokio::task::spawn_blocking(move || head_end.reels(head_end.station(ID).unwrap()));
    let reels = reels.await.unwrap().unwrap();
    let mut guest = bench.connect().await;
    guest.status("SETUP rtsp://h/2/demand/video", TCP).await;
    let hung = reels[0].hang(3);
    let (first, _) = guest.play("PLAY rtsp://h/2/demand", "").await;
    let begun = bench.head_end.clock.now();
    for n in 0..3 {
        assert_eq!(guest.picture().await.2, n);
    }
    // A programme begins 0.12 s after PLAY: picture 3 is late by more than 1 s then.
    bench.until(|head_end| head_end.clock.now().since(begun) > Duration::from_millis(1300)).await;
    drop(hung);
    let mut next = None;
    loop {
        match guest.hear().await.unwrap() {
            Received::Picture(sequence, _, picture) => {
                assert_eq!(sequence, first.unwrap().wrapping_add(picture as u16));
                assert_eq!(picture, *next.get_or_insert(picture));
                next = Some(picture + 1);
            }
            Received::Control(packet) if kinds(&packet).contains(&"BYE") => break,
            Received::Control(_) => {}
            Received::Response(response) => panic!("{response:?}"),
        }
    }
    let (sent, dropped) = bench.counts();
    assert_eq!(sent + dropped, 50);
    assert!(dropped >= 15, "{dropped}");
}
