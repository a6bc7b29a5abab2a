//! The client and servers of others, on loopback TCP.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::thread::{self, JoinHandle};

use super::*;

const DESCRIPTION: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=Two\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\n\
                           m=video 0 RTP/AVP 26\r\na=control:video\r\n";

/// A server for one connection: it sends the next response for each request, then closes. Returns the first line of
/// each request.
fn server(responses: Vec<Vec<u8>>) -> (SocketAddr, JoinHandle<Vec<String>>) {
    serve(vec![responses, Vec::new()])
}

/// As [`server`], for several connections in turn. The last one is kept open until the client closes it, or refused
/// if it has no responses.
pub(in crate::tuner) fn serve(connections: Vec<Vec<Vec<u8>>>) -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let requests = thread::spawn(move || {
        let mut requests = Vec::new();
        let last = connections.len() - 1;
        let connections = connections.into_iter().enumerate();
        for (n, responses) in connections.filter(|(_, responses)| !responses.is_empty()) {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            for response in responses {
                let request: Vec<String> =
                    lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                requests.extend(request.first().cloned());
                stream.write_all(&response).unwrap();
            }
            if n == last {
                lines.map_while(Result::ok).for_each(drop);
            }
        }
        requests
    });
    (address, requests)
}

/// A packet as the connection carries it.
pub(in crate::tuner) fn framed(channel: u8, packet: &[u8]) -> Vec<u8> {
    [&[b'$', channel][..], &(packet.len() as u16).to_be_bytes(), packet].concat()
}

fn ok(cseq: u32, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n{headers}Content-Length: {length}\r\n\r\n{body}").into()
}

/// Responses to DESCRIBE, SETUP and PLAY.
pub(in crate::tuner) fn opening(set_up: &str) -> Vec<Vec<u8>> {
    let base = "Content-Base: rtsp://127.0.0.1/elsewhere/2/\r\nContent-Type: application/sdp\r\n";
    let set_up = format!("Session: 12ab;timeout=60\r\nTransport: {set_up}\r\n");
    vec![ok(1, base, DESCRIPTION), ok(2, &set_up, ""), ok(3, "Session: 12ab\r\n", "")]
}

/// Station 2 of a server.
fn open(server: SocketAddr, with_sound: bool) -> io::Result<RtspSource> {
    RtspSource::open(&server.into(), &Url::parse(&format!("rtsp://{server}/2")).unwrap(), with_sound)
}

/// All packets until the server closes, and the error that reports it.
fn read_both(source: &mut RtspSource) -> (Vec<(Track, Vec<u8>)>, io::Error) {
    let mut packets = Vec::new();
    loop {
        super::super::source::wait(Some(source.as_fd()), None, None).unwrap();
        if let Err(error) = source.read(|track, _, packet| packets.push((track, packet.to_vec()))) {
            return (packets, error);
        }
    }
}

/// As [`read_both`], of pictures alone.
fn read_all(source: &mut RtspSource) -> (Vec<Vec<u8>>, io::Error) {
    let (packets, error) = read_both(source);
    assert!(packets.iter().all(|(track, _)| *track == Track::Picture));
    (packets.into_iter().map(|(_, packet)| packet).collect(), error)
}

#[test]
fn packets_are_received_as_they_were_sent() {
    let mut responses = opening("RTP/AVP/TCP;unicast;interleaved=4-5");
    let longest = vec![7; 65_535];
    // Packets behind the response to PLAY; RTCP and a response between them.
    let tail = [
        framed(4, b"one"),
        framed(5, b"rtcp"),
        framed(4, &longest),
        ok(4, "", ""),
        framed(4, &longest),
        framed(4, b""),
        framed(4, b"last"),
    ];
    responses[2].extend(tail.concat());
    let (address, requests) = server(responses);
    let mut source = open(address, true).unwrap();
    let (packets, error) = read_all(&mut source);
    assert!(packets == [b"one".to_vec(), longest.clone(), longest, vec![], b"last".to_vec()]);
    assert_eq!(error.to_string(), "the RTSP server closed the connection");
    assert_eq!(
        requests.join().unwrap(),
        [
            format!("DESCRIBE rtsp://{address}/2 RTSP/1.0"),
            "SETUP rtsp://127.0.0.1/elsewhere/2/video RTSP/1.0".into(),
            format!("PLAY rtsp://{address}/2 RTSP/1.0"),
        ]
    );
}

#[test]
fn a_careless_server_is_understood() {
    // Bare line ends, Latin-1, headers whose names begin with those that count, and a Transport as some cameras send it.
    let described = format!(
        "RTSP/1.0 200 OK\nC: 9\nCSeq: 1\nServer: K\u{fc}che\nContent-Base-Hint: rtsp://h/no\n\
         Content-Length: {}\n\n{DESCRIPTION}",
        DESCRIPTION.len()
    );
    let described = described.chars().map(|c| c as u8).collect();
    let set_up = "RTSP/1.0 200 OK\rCSeq: 2\rSession-Hint: no\rSession: 12ab ; timeout=60\rSession-Timeout: 3\r\
                  Transport: rtp/avp/tcp;Unicast;interleaved=6-7;\r\r";
    let mut played = ok(3, "C: 9\r\n", "");
    played.extend(framed(6, b"one"));
    let (address, requests) = server(vec![described, set_up.into(), played]);
    let mut source = open(address, true).unwrap();
    assert_eq!(source.session.as_deref(), Some("12ab"));
    assert_eq!(read_all(&mut source).0, [b"one"]);
    // The control goes behind the URL of the request, although that does not end in a slash.
    assert_eq!(requests.join().unwrap()[1], format!("SETUP rtsp://{address}/2/video RTSP/1.0"));
}

#[test]
fn a_control_goes_behind_the_base_or_replaces_it() {
    let url = |headers: &[(headers::HeaderName, &str)], line: &str| {
        let sdp = format!("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\n{line}");
        let response = Response::builder(Version::V1_0, StatusCode::Ok);
        let response = headers.iter().fold(response, |r, (name, value)| r.header(name.clone(), *value));
        let asked = Url::parse("rtsp://h/2").unwrap();
        Controls::of(&response.build(sdp.into_bytes()), &asked).unwrap().pictures.to_string()
    };
    let base = |url| (headers::CONTENT_BASE, url);
    let location = |url| (headers::CONTENT_LOCATION, url);
    for (headers, line, expected) in [
        (&[][..], "a=control:video\r\n", "rtsp://h/2/video"),
        (&[base("rtsp://b/x")], "a=control:video\r\n", "rtsp://b/x/video"),
        (&[base("rtsp://b/x/")], "a=control:video\r\n", "rtsp://b/x/video"),
        (&[location("rtsp://l/x/"), base("rtsp://b/x/")], "a=control:video\r\n", "rtsp://b/x/video"),
        (&[location("rtsp://l/x/")], "a=control:video\r\n", "rtsp://l/x/video"),
        (&[base("nonsense")], "a=control:video\r\n", "rtsp://h/2/video"),
        (&[base("rtsp://b/x/")], "a=control:rtsp://c/y\r\n", "rtsp://c/y"),
    ] {
        assert_eq!(url(headers, line), expected, "{headers:?} {line}");
    }
}

#[test]
fn a_server_that_refuses_or_sends_nonsense_is_an_error() {
    let refused = |responses: Vec<Vec<u8>>| {
        let (address, _requests) = server(responses);
        open(address, true).err().expect("refused").to_string()
    };
    assert_eq!(
        refused(vec![b"RTSP/1.0 404 Not Found\r\nCSeq: 1\r\n\r\n".to_vec()]),
        "RTSP DESCRIBE was refused: 404 Not Found"
    );
    assert_eq!(
        refused(vec![b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()]),
        "the RTSP server answered with bytes that are not RTSP"
    );
    assert_eq!(
        refused(vec![ok(1, "", "rubbish")]),
        "the RTSP server answered with a description that is not SDP"
    );
    let audio = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\n";
    assert_eq!(
        refused(vec![ok(1, "", audio)]),
        "the RTSP server answered with a description without RTP/JPEG video"
    );
    let mut responses = opening("RTP/AVP;unicast;client_port=6000-6001");
    responses.truncate(2);
    assert_eq!(refused(responses), "the RTSP server answered with no channel for RTP");
    assert_eq!(refused(vec![Vec::new()]), "the RTSP server closed the connection");
    // A header that never ends fills the buffer, and no more.
    let endless = [b"RTSP/1.0 200 OK\r\nX: ".to_vec(), vec![b'x'; 2 * BUFFER]].concat();
    assert_eq!(refused(vec![endless]), "the RTSP server answered with bytes that are not RTSP");
}

/// The description of a station with sound.
fn with_sound() -> String {
    DESCRIPTION.replace("RTP/AVP 0\r\n", "RTP/AVP 97\r\na=rtpmap:97 opus/48000/2\r\na=control:audio\r\n")
}

#[test]
fn the_sound_comes_in_the_same_connection() {
    let set_up = |n: u32, channels: &str| {
        ok(n, &format!("Session: 12ab\r\nTransport: RTP/AVP/TCP;unicast;interleaved={channels}\r\n"), "")
    };
    let mut played = ok(4, "Session: 12ab\r\n", "");
    let packets = [framed(8, b"sound"), framed(9, b"rtcp"), framed(0, b"picture"), framed(8, b"more")];
    played.extend(packets.concat());
    let (address, requests) =
        server(vec![ok(1, "", &with_sound()), set_up(2, "0-1"), set_up(3, "8-9"), played]);
    let mut source = open(address, true).unwrap();
    assert_eq!(source.sound(), Some(SoundType { payload_type: 97, codec: SoundCodec::Opus }));
    let expected = [(Track::Sound, "sound"), (Track::Picture, "picture"), (Track::Sound, "more")];
    assert_eq!(read_both(&mut source).0, expected.map(|(track, packet)| (track, packet.as_bytes().to_vec())));
    let requests = requests.join().unwrap();
    assert_eq!(requests[2], format!("SETUP rtsp://{address}/2/audio RTSP/1.0"));
}

#[test]
fn without_its_sound_a_station_plays() {
    // Nobody listens: the sound is not set up.
    let set_up = "Session: 12ab\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
    let played = |n: u32| [ok(n, "Session: 12ab\r\n", ""), framed(0, b"picture")].concat();
    let (address, requests) = server(vec![ok(1, "", &with_sound()), ok(2, set_up, ""), played(3)]);
    let mut source = open(address, false).unwrap();
    assert_eq!((source.sound(), read_all(&mut source).0), (None, vec![b"picture".to_vec()]));
    assert_eq!(requests.join().unwrap().len(), 3);
    // The server refuses it.
    let refused = b"RTSP/1.0 461 Unsupported Transport\r\nCSeq: 3\r\n\r\n".to_vec();
    let (address, _requests) = server(vec![ok(1, "", &with_sound()), ok(2, set_up, ""), refused, played(4)]);
    let mut source = open(address, true).unwrap();
    assert_eq!((source.sound(), read_all(&mut source).0), (None, vec![b"picture".to_vec()]));
}

/// A stamp before the arrival would shorten the least transit, by which the sound is timed.
#[test]
#[expect(clippy::disallowed_methods, reason = "stamps are compared with the clock")]
fn no_packet_is_stamped_before_it_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (go, gone) = std::sync::mpsc::channel();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        for response in opening("RTP/AVP/TCP;unicast;interleaved=0-1") {
            lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
            stream.write_all(&response).unwrap();
        }
        let mut sent = Vec::new();
        for () in gone {
            sent.push(wall_clock());
            stream.write_all(&framed(0, b"packet")).unwrap();
        }
        sent
    });
    let mut source = open(address, false).unwrap();
    let mut stamps = Vec::new();
    for n in 1..=3 {
        go.send(()).unwrap();
        while stamps.len() < n {
            super::super::source::wait(Some(source.as_fd()), None, None).unwrap();
            source.read(|_, at, _| stamps.push(at)).unwrap();
        }
    }
    drop(go);
    let sent = server.join().unwrap();
    assert!(stamps.iter().zip(&sent).all(|(stamp, sent)| stamp >= sent), "{stamps:?}, {sent:?}");
}
