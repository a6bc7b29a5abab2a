//! Stations with sound: a second track in the same session.

#![expect(clippy::disallowed_methods, reason = "a test reads the clock of its scene")]

use bytes::Bytes;

use super::*;
use crate::media::SOUND_CLOCK;

const SOUND: &str = "Transport: RTP/AVP/TCP;unicast;interleaved=2-3";
const PACKET: Duration = Duration::from_millis(20);

impl TestRtspServer {
    async fn with_sound() -> TestRtspServer {
        let server = TestRtspServer::new().await;
        server.head_end.station(ID).unwrap().set_sound(true);
        server
    }

    /// Puts packet `n` of sound on air.
    fn sound(&self, n: u8, at: AirTime) {
        let due = Due { at, interval: PACKET };
        self.head_end.show(ID, Unit::sound(due, Bytes::from(vec![n; 100])));
    }
}

fn sound_ticks(at: AirTime) -> u32 {
    at.ticks(SOUND_CLOCK) as u32
}

/// URL, sequence number and timestamp of each track, by the response to a PLAY.
async fn infos(client: &mut TestRtspClient, line: &str) -> Vec<(String, Option<u16>, Option<u32>)> {
    let response = client.request(line, "").await;
    let Some(headers::RtpInfos::V1(infos)) = response.typed_header::<headers::RtpInfos>().unwrap() else {
        panic!("{response:?}")
    };
    infos.into_iter().map(|info| (info.uri.to_string(), info.seq, info.rtptime)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_station_with_sound_has_two_media_and_one_without_has_one() {
    let server = TestRtspServer::with_sound().await;
    let mut client = server.connect().await;
    for url in ["rtsp://h/2", "rtsp://h/2/demand"] {
        let response = client.request(&format!("DESCRIBE {url}"), "").await;
        let sdp = String::from_utf8(response.into_body()).unwrap();
        let media: Vec<&str> =
            sdp.lines().filter(|l| l.starts_with("m=") || l.starts_with("a=control")).collect();
        let expected = [
            "a=control:*",
            "m=video 0 RTP/AVP 26",
            "a=control:video",
            "m=audio 0 RTP/AVP 97",
            "a=control:audio",
        ];
        assert_eq!(media, expected, "{url}");
    }
    let server = TestRtspServer::new().await;
    let mut client = server.connect().await;
    let sdp = client.request("DESCRIBE rtsp://h/2", "").await.into_body();
    assert_eq!(String::from_utf8(sdp).unwrap().matches("m=").count(), 1);
    assert_eq!(client.status("SETUP rtsp://h/2/audio", SOUND).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_tracks_come_in_the_connection_when_they_are_due() {
    let server = TestRtspServer::with_sound().await;
    let begin = server.show(0, 1000, Duration::ZERO);
    server.sound(0, begin - PACKET / 2);
    let mut client = server.connect().await;
    assert_eq!(client.status("SETUP rtsp://h:1/2/video", TCP).await, 200);
    let response = client.request("SETUP rtsp://h:1/2/audio", SOUND).await;
    assert!(response.header(&headers::TRANSPORT).unwrap().as_str().contains("interleaved=2-3"));
    let infos = infos(&mut client, "PLAY rtsp://h:1/2/").await;
    let [(picture_url, picture_first, picture_at), (sound_url, sound_first, sound_at)] = &infos[..] else {
        panic!("{infos:?}")
    };
    assert_eq!((picture_url.as_str(), sound_url.as_str()), ("rtsp://h:1/2/video", "rtsp://h:1/2/audio"));
    let instant = begin - PACKET / 2;
    assert_eq!((*picture_at, *sound_at), (Some(instant.rtp_timestamp()), Some(sound_ticks(instant))));

    // By now both came once, in the order of their due times; the rest is the fan-out's.
    for n in 1..30 {
        let at = server.head_end.clock.now() + Duration::from_millis(8);
        server.sound(n, at);
        server.show_at(n.into(), 1000, Due { at: at + Duration::from_millis(2), interval: PACKET });
        if n % 10 == 0 {
            // The fan-out gets no unit twice and misses none when the client leaves it and comes back.
            assert_eq!(client.status("PLAY rtsp://h:1/2/audio", "").await, 200);
        }
        sleep_until(Instant::now() + Duration::from_millis(4)).await;
    }
    let (mut pictures, mut sounds) = (Vec::new(), Vec::new());
    let last = |units: &[usize]| units.last() == Some(&29);
    while !last(&pictures) || !last(&sounds) {
        match client.receive().await.expect("the connection is open") {
            ReceivedMessage::Picture(sequence, _, n) => {
                assert_eq!(sequence, picture_first.unwrap().wrapping_add(n as u16), "picture {n}");
                pictures.push(n);
            }
            ReceivedMessage::Sound(sequence, _, packet) => {
                assert_eq!(sequence, sound_first.unwrap().wrapping_add(packet[0].into()));
                sounds.push(packet[0].into());
            }
            ReceivedMessage::Rtcp(_) => {}
            ReceivedMessage::Response(response) => panic!("{response:?}"),
        }
    }
    // The others came before a response.
    for units in [pictures, sounds] {
        assert!(units.len() > 5 && units.is_sorted_by(|a, b| a < b), "{units:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_take_the_sound_alone() {
    let server = TestRtspServer::with_sound().await;
    let mut client = server.connect().await;
    assert_eq!(client.status("SETUP rtsp://h/2/audio", SOUND).await, 200);
    let begin = server.show(0, 1000, Duration::ZERO);
    server.sound(7, begin);
    let infos = infos(&mut client, "PLAY rtsp://h/2").await;
    assert_eq!(infos.len(), 1);
    for n in 8..12 {
        server.sound(n, server.head_end.clock.now() + Duration::from_millis(3));
        server.show(1, 1000, Duration::from_millis(3));
    }
    let mut sequence = infos[0].1.unwrap();
    for expected in 7..12 {
        loop {
            match client.receive().await.expect("the connection is open") {
                ReceivedMessage::Sound(number, _, packet) => {
                    assert_eq!((number, packet[0]), (sequence, expected));
                    break;
                }
                ReceivedMessage::Rtcp(_) => {}
                other => panic!("{other:?}"),
            }
        }
        sequence = sequence.wrapping_add(1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_track_by_udp_has_ports_and_reports_of_its_own_and_one_name() {
    let server = TestRtspServer::with_sound().await;
    let mut client = server.connect().await;
    let mut sockets = Vec::new();
    for track in ["video", "audio"] {
        let [rtp, rtcp] =
            [UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap()];
        let port = |socket: &UdpSocket| socket.local_addr().unwrap().port();
        let transport = format!("Transport: RTP/AVP;unicast;client_port={}-{}", port(&rtp), port(&rtcp));
        assert_eq!(client.status(&format!("SETUP rtsp://h/2/{track}"), &transport).await, 200);
        sockets.push((rtp, rtcp));
    }
    let infos = infos(&mut client, "PLAY rtsp://h/2").await;
    let at = server.show(3, 1000, Duration::from_millis(20));
    server.sound(4, at);
    let mut buffer = [0; 2000];
    for (n, (rtp, rtcp)) in sockets.iter().enumerate() {
        let length = timeout(PATIENCE, rtp.recv(&mut buffer)).await.unwrap().unwrap();
        let (header, payload) = rtp::Header::parse(&buffer[..length]).unwrap();
        let (payload_type, timestamp) = [(26, at.rtp_timestamp()), (97, sound_ticks(at))][n];
        assert_eq!((header.payload_type, header.timestamp), (payload_type, timestamp));
        assert_eq!(Some(header.sequence), infos[n].1);
        assert!(n == 0 || payload == [4; 100]);
        let length = timeout(PATIENCE, rtcp.recv(&mut buffer)).await.unwrap().unwrap();
        let packets: Vec<_> = Compound::parse(&buffer[..length]).unwrap().map(Result::unwrap).collect();
        let [Packet::Sr(report), Packet::Sdes(sdes)] = &packets[..] else { panic!("{packets:?}") };
        assert_eq!(report.ssrc(), header.ssrc);
        let name = sdes.chunks().next().unwrap().items().next().unwrap().get_value_string().unwrap();
        assert_eq!(name, "stationcast@127.0.0.1");
    }
    assert_eq!(client.status("TEARDOWN rtsp://h/2", "").await, 200);
    for (_, rtcp) in &sockets {
        let length = timeout(PATIENCE, rtcp.recv(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(packet_types(&buffer[..length]), ["SR", "SDES", "BYE"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn by_multicast_the_sound_has_the_ports_behind_those_of_the_pictures() {
    let server = TestRtspServer::with_sound().await;
    let mut client = server.connect().await;
    for (track, ports) in [("video", "port=5004-5005"), ("audio", "port=5006-5007")] {
        let setup = format!("SETUP rtsp://h/2/{track}");
        let response = client.request(&setup, "Transport: RTP/AVP;multicast").await;
        let transport = response.header(&headers::TRANSPORT).unwrap().as_str();
        assert!(transport.contains(ports), "{transport}");
    }
    assert_eq!(infos(&mut client, "PLAY rtsp://h/2").await.len(), 2);
}

/// The beep of each second of a film is heard at its flash: on demand, from any position.
#[tokio::test(flavor = "multi_thread")]
async fn on_demand_the_sound_begins_where_the_pictures_do() {
    let server = TestRtspServer::with_sound().await;
    let film = server.folder.path().join("a.mp4");
    let made = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i", "color=s=32x16:r=25:d=4", "-f", "lavfi", "-i"])
        .arg("aevalsrc='0.5*sin(2*PI*1000*t)*lt(mod(t,1),0.1)':s=48000:d=4")
        .args(["-c:v", "libx264", "-c:a", "aac"])
        .arg(&film)
        .status();
    assert!(made.expect("ffmpeg runs").success());
    std::fs::remove_file(server.folder.path().join("b.mp4")).unwrap();

    // Until the sound is made, there is silence; it may come in the middle.
    let mut heard = Vec::new();
    for _ in 0..50 {
        heard = beeps_on_demand(&server, "1.5-3.5", 1.0).await;
        if heard.len() == 2 {
            break;
        }
    }
    let expected = [0.5, 1.5];
    assert!(heard.len() == 2 && heard.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.004), "{heard:?}");
    assert!(beeps_on_demand(&server, "0-2", 2.0).await.is_empty(), "faster, it is silent");
}

/// When the beeps of a part of the programme are due, in seconds after the first picture.
async fn beeps_on_demand(server: &TestRtspServer, range: &str, scale: f64) -> Vec<f64> {
    let mut client = server.connect().await;
    client.status("SETUP rtsp://h/2/demand/video", TCP).await;
    client.status("SETUP rtsp://h/2/demand/audio", SOUND).await;
    let line = "PLAY rtsp://h/2/demand";
    let response = client.request(line, &format!("Range: npt={range}\r\nScale: {scale}")).await;
    let Some(headers::RtpInfos::V1(infos)) = response.typed_header::<headers::RtpInfos>().unwrap() else {
        panic!("{response:?}")
    };
    let first = infos[1].rtptime.unwrap();
    let mut decoder = opus::Decoder::new(SOUND_CLOCK, opus::Channels::Stereo).unwrap();
    let (mut beeps, mut quiet, mut next) = (Vec::new(), 4800, None);
    loop {
        match client.receive().await.expect("the connection is open") {
            ReceivedMessage::Sound(_, timestamp, packet) => {
                assert!(next.is_none_or(|next| next == timestamp), "no gap");
                let mut samples = vec![0.0; 2 * 5760];
                let count = decoder.decode_float(&packet, &mut samples, false).unwrap();
                next = Some(timestamp.wrapping_add(count as u32));
                for (n, pair) in samples[..2 * count].chunks_exact(2).enumerate() {
                    if pair[0].abs() > 0.02 {
                        if quiet >= 4800 {
                            let ticks = timestamp.wrapping_sub(first).wrapping_add(n as u32) as i32;
                            beeps.push(f64::from(ticks) / f64::from(SOUND_CLOCK));
                        }
                        quiet = 0;
                    } else {
                        quiet += 1;
                    }
                }
            }
            ReceivedMessage::Rtcp(packet) if packet_types(&packet).contains(&"BYE") => return beeps,
            ReceivedMessage::Picture(..) | ReceivedMessage::Rtcp(_) => {}
            ReceivedMessage::Response(response) => panic!("{response:?}"),
        }
    }
}
