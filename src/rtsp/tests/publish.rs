//! A client that publishes: ANNOUNCE, SETUP, RECORD, and its packets.

use super::*;
use crate::content::live::arrivals::{Arrival, Arrivals, PictureBody};
use crate::lineup::{Media, PublishRule};
use crate::media::scan::Sampling;
use crate::media::scan::tests::flat;
use crate::wire::packetizer::Packetizer;

const URL: &str = "rtsp://h/publish/2";
const RECORD_TCP: &str = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1;mode=record";
const SDP: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:streamid=0\r\n\
                   m=audio 0 RTP/AVP 97\r\na=rtpmap:97 opus/48000/2\r\na=control:streamid=1\r\n";

async fn server() -> TestRtspServer {
    let rule = PublishRule { token: None, access: Vec::new(), takeover: false };
    TestRtspServer::with(|spec| spec.media = Media::Published(rule)).await
}

fn with_body(headers: &str, body: &str) -> String {
    format!("{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

async fn announce(client: &mut TestRtspClient, url: &str, sdp: &str) -> u16 {
    client.status(&format!("ANNOUNCE {url}"), &with_body("Content-Type: application/sdp\r\n", sdp)).await
}

/// The packets of picture `n`, of at most 600 bytes.
fn packets(packetizer: &mut Packetizer, jpeg: Jpeg, n: u64) -> Vec<Vec<u8>> {
    let due = Due { at: AirTime(1_790_000_000_000_000_000) + RATE.nth(n), interval: RATE.interval() };
    packetizer.packets(&Unit::picture(due, jpeg), 0, usize::MAX).map(|packet| packet.to_vec()).collect()
}

async fn next_jpeg(arrivals: &mut Arrivals) -> Jpeg {
    loop {
        match timeout(PATIENCE, arrivals.next()).await.expect("something comes").expect("it goes on") {
            Arrival::Picture(picture) => match picture.body {
                PictureBody::Jpeg(jpeg) => return jpeg,
                other => panic!("{other:?}"),
            },
            Arrival::Tracks { .. } | Arrival::Sound(_) => {}
        }
    }
}

impl TestRtspServer {
    /// The publisher's stream as it reaches the station, once it is there.
    async fn published(&self) -> Arrivals {
        let slot = self.head_end.station(ID).unwrap().publish_slot().clone();
        timeout(PATIENCE, slot.changed()).await.expect("a publisher is on air");
        slot.take().expect("a publication").arrivals
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_in_the_connection_arrives_unchanged() {
    let server = server().await;
    let mut client = server.connect().await;
    assert_eq!(announce(&mut client, URL, SDP).await, 200);
    assert_eq!(client.status(&format!("SETUP {URL}/streamid=0"), RECORD_TCP).await, 200);
    let second = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1;mode=record";
    let transport = client.request(&format!("SETUP {URL}/streamid=1"), second).await;
    assert!(
        transport.header(&headers::TRANSPORT).unwrap().as_str().contains("interleaved=2-3"),
        "0-1 is taken"
    );
    assert_eq!(client.status(&format!("RECORD {URL}"), "Range: npt=0-").await, 200);
    // Tables of its own, and restart markers; the scan is longer than one packet.
    let own = Jpeg {
        tables: Tables::in_band([7; 64], [9; 64]),
        restart_interval: Some(1),
        scan: flat(SIZE, Sampling::Yuv420, Some(1)).into(),
        ..picture(0, 8)
    };
    let mut packetizer = Packetizer::new(5, 65_535, 600);
    let sent = [picture(3, 2000), own, picture(4, 60_000)];
    for (n, jpeg) in sent.iter().enumerate() {
        let mut bytes = Vec::new();
        for packet in packets(&mut packetizer, jpeg.clone(), n as u64) {
            bytes.extend([b'$', 0]);
            bytes.extend((packet.len() as u16).to_be_bytes());
            bytes.extend(packet);
        }
        client.stream.write_all(&bytes).await.unwrap();
    }
    let mut arrivals = server.published().await;
    for jpeg in sent {
        let arrived = next_jpeg(&mut arrivals).await;
        assert_eq!(
            (arrived.scan, arrived.tables, arrived.restart_interval),
            (jpeg.scan, jpeg.tables, jpeg.restart_interval)
        );
    }
    // It keeps its session alive, and ends it.
    assert_eq!(client.status(&format!("GET_PARAMETER {URL}"), "").await, 200);
    assert_eq!(client.status(&format!("TEARDOWN {URL}"), "").await, 200);
    assert!(timeout(PATIENCE, arrivals.next()).await.unwrap().is_err(), "it has left");
    assert_eq!(announce(&mut client, URL, SDP).await, 200, "the name is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn by_udp_only_the_publishers_own_packets_are_taken_in_their_order() {
    let server = server().await;
    let mut client = server.connect().await;
    assert_eq!(announce(&mut client, URL, SDP).await, 200);
    let [own, own_rtcp, foreign] = [(); 3].map(|()| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    let port = |socket: &std::net::UdpSocket| socket.local_addr().unwrap().port();
    let offer =
        format!("Transport: RTP/AVP;unicast;client_port={}-{};mode=record", port(&own), port(&own_rtcp));
    let response = client.request(&format!("SETUP {URL}/streamid=0"), &offer).await;
    let transport = response.header(&headers::TRANSPORT).unwrap().as_str().to_owned();
    let to = transport.split("server_port=").nth(1).unwrap().split(['-', ';']).next().unwrap();
    let to = format!("127.0.0.1:{to}");
    assert_eq!(client.status(&format!("RECORD {URL}"), "").await, 200);
    let mut packetizer = Packetizer::new(5, 100, 600);
    let first = packets(&mut packetizer, picture(1, 2000), 0);
    // The same numbers and SSRC, other pictures.
    for packet in packets(&mut Packetizer::new(5, 100, 600), picture(99, 2000), 0) {
        foreign.send_to(&packet, &to).unwrap();
        std::net::UdpSocket::bind("127.0.0.2:0").unwrap().send_to(&packet, &to).unwrap();
    }
    for packet in &first {
        own.send_to(packet, &to).unwrap();
    }
    let second = packets(&mut packetizer, picture(2, 2000), 1);
    for n in [0, 2, 1, 3] {
        own.send_to(&second[n], &to).unwrap();
    }
    let mut arrivals = server.published().await;
    assert_eq!(next_jpeg(&mut arrivals).await.scan, picture(1, 2000).scan);
    assert_eq!(next_jpeg(&mut arrivals).await.scan, picture(2, 2000).scan);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_out_of_order_and_descriptions_that_cannot_be_shown_are_refused() {
    let server = server().await;
    let mut client = server.connect().await;
    assert_eq!(client.status(&format!("RECORD {URL}"), "").await, 455);
    assert_eq!(announce(&mut client, "rtsp://h/2", SDP).await, 403);
    assert_eq!(announce(&mut client, "rtsp://h/publish/anna", SDP).await, 404);
    for sdp in ["", "<html>", "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\n"] {
        assert_eq!(announce(&mut client, URL, sdp).await, 415, "{sdp}");
    }
    let vp8 = SDP.replace("26", "96").replace("streamid=0", "streamid=0\r\na=rtpmap:96 VP8/90000");
    let refused = client.request(&format!("ANNOUNCE {URL}"), &with_body("", &vp8)).await;
    assert!(
        refused.reason_phrase().contains("it offers VP8 video, opus audio, and no pictures"),
        "{}",
        refused.reason_phrase()
    );
    assert_eq!(
        client.status(&format!("ANNOUNCE {URL}"), &with_body("Content-Type: text/plain\r\n", SDP)).await,
        415
    );
    assert_eq!(announce(&mut client, URL, SDP).await, 200);
    assert_eq!(announce(&mut client, URL, SDP).await, 455);
    assert_eq!(client.status(&format!("RECORD {URL}"), "").await, 455);
    for (url, transport, status) in [
        ("/streamid=7", RECORD_TCP, 404),
        ("/streamid=0", "Transport: RTP/AVP;multicast", 461),
        ("/streamid=0", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1;mode=play", 461),
        ("/streamid=0", "", 400),
        ("/streamid=1", RECORD_TCP, 200),
    ] {
        assert_eq!(client.status(&format!("SETUP {URL}{url}"), transport).await, status, "{url} {transport}");
    }
    assert_eq!(client.status(&format!("RECORD {URL}"), "").await, 455, "only the sound is set up");
    assert_eq!(client.status(&format!("PLAY {URL}"), "").await, 455);
    let held = client.session.replace("0000000000000000".into());
    assert_eq!(client.status(&format!("TEARDOWN {URL}"), "").await, 454);
    client.session = held;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_announcements_and_long_descriptions_hold_nothing() {
    let server = server().await;
    let mut client = server.connect().await;
    for n in 0..10_000 {
        let status =
            announce(&mut client, &format!("rtsp://h/publish/{}", if n % 2 == 0 { "2" } else { "x" }), "v=0")
                .await;
        assert_eq!(status, if n % 2 == 0 { 415 } else { 404 });
    }
    // Nothing is left of them.
    assert_eq!(announce(&mut client, URL, SDP).await, 200);
    let mut long = server.connect().await;
    let head = format!(
        "ANNOUNCE {URL} RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 1000000\r\n\r\n{}",
        "a=x\r\n".repeat(10_000)
    );
    let _ = long.stream.write_all(head.as_bytes()).await;
    let Some(ReceivedMessage::Response(response)) = long.receive().await else { panic!("no response") };
    assert_eq!(u16::from(response.status()), 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_announcements_of_one_address_leave_room_for_others() {
    let text = "[rtsp]\n[publish]\nids = \"900-949\"\n";
    let world = crate::lineup::World::for_tests();
    let lineup = crate::lineup::Lineup::parse(text, Path::new("stations.toml"), &world).unwrap();
    let server = TestRtspServer::publishing(lineup.publish).await;
    let sdp = SDP.split("m=audio").next().unwrap();
    let (mut clients, mut held) = (Vec::new(), 0);
    for n in 0..100 {
        let mut client = server.connect().await;
        for m in 0..100 {
            let name = format!("ANNOUNCE rtsp://h/publish/x{n}-{m}");
            let response = client.request(&name, &with_body("Content-Type: application/sdp\r\n", sdp)).await;
            match u16::from(response.status()) {
                200 => held += 1,
                // It holds a name already.
                455 => break,
                503 => assert!(
                    response.reason_phrase().contains("37 publishers of 127.0.0.1 have announced a station"),
                    "{}",
                    response.reason_phrase()
                ),
                status => panic!("{status}"),
            }
        }
        clients.push(client);
    }
    assert_eq!(held, 37);
    assert_eq!(server.head_end.stations().len(), 1, "the station of the line-up, and none that was made");
    // A publisher from elsewhere comes on air meanwhile.
    let mut anna = TestRtspClient::from("127.0.0.2:0", server.address).await;
    let url = "rtsp://h/publish/Anna";
    assert_eq!(announce(&mut anna, url, sdp).await, 200);
    assert_eq!(anna.status(&format!("SETUP {url}/streamid=0"), RECORD_TCP).await, 200);
    let recording = anna.request(&format!("RECORD {url}"), "Range: npt=0-").await;
    let watched_at = recording.header(&headers::CONTENT_LOCATION).expect("where it is watched").as_str();
    let number: u16 = watched_at.strip_prefix("rtsp://h/").unwrap().parse().unwrap();
    let mut packetizer = Packetizer::new(1, 1, 600);
    for packet in packets(&mut packetizer, picture(1, 2000), 0) {
        let head = [b'$', 0, (packet.len() >> 8) as u8, packet.len() as u8];
        anna.stream.write_all(&[&head[..], &packet].concat()).await.unwrap();
    }
    server.wait_until(|head_end| head_end.station(StationId(number)).is_some()).await;
    // And from the same address as soon as the others have gone.
    drop(clients);
    let mut berta = server.connect().await;
    let announced = async { while announce(&mut berta, "rtsp://h/publish/Berta", sdp).await != 200 {} };
    timeout(PATIENCE, announced).await.expect("Berta may publish");
}
