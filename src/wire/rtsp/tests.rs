//! Messages as strict and as careless clients and servers write them.

use proptest::prelude::*;
use rtsp_types::headers;

use super::*;

fn taken(bytes: &[u8]) -> FramerResult<Vec<u8>> {
    MessageFramer::default().take(bytes)
}

fn request(bytes: &[u8]) -> Request<Vec<u8>> {
    match taken(bytes) {
        Ok(Some((Message::Request(request), length))) if length == bytes.len() => request,
        other => panic!("{}: {other:?}", bytes.escape_ascii()),
    }
}

#[test]
fn no_header_that_is_read_begins_with_the_name_of_another() {
    for (n, name) in READ.iter().enumerate() {
        for (m, other) in READ.iter().enumerate() {
            let begins = other.as_str().to_lowercase().starts_with(&name.as_str().to_lowercase());
            assert!(n == m || !begins, "{other} begins with {name}");
        }
    }
}

#[test]
fn only_the_header_of_the_very_name_is_found() {
    let careless = request(
        b"PLAY rtsp://h/2 RTSP/1.0\r\nC: 9\r\nR: 1\r\nAccept-Language: de\r\nSession-Hint: x\r\n\
          Transport-Info: x\r\nRangefinder: x\r\nRequired: x\r\nS: x\r\nCSeq: 1\r\nCSeq-Hint: 2\r\n\r\n",
    );
    let found: Vec<_> = careless.headers().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(found, [("CSeq", "1")]);
    let mixed =
        request(b"PLAY rtsp://h/2 RTSP/1.0\r\ncseq: 1\r\nSESSION: 12\r\nrange : npt=0-\r\nrange: x\r\n\r\n");
    let value = |name| mixed.header(&name).map(|value| value.as_str());
    assert_eq!(value(headers::CSEQ), Some("1"));
    assert_eq!(value(headers::SESSION), Some("12"));
    assert_eq!(value(headers::RANGE), Some("npt=0-, x"), "a repeated header is a list");
}

#[test]
fn lines_end_in_crlf_or_lf_or_cr() {
    let lines =
        ["SET_PARAMETER rtsp://h/2 RTSP/1.0", "CSeq: 7", "Range: npt=0-", "Content-Length: 3", "", "abc"];
    for ends in [
        ["\r\n"; 5],
        ["\n"; 5],
        ["\r"; 5],
        ["\r\n", "\n", "\r", "\n", "\r\n"],
        ["\r", "\r\n", "\n", "\r\n", "\n"],
    ] {
        let text: String =
            lines.iter().zip(ends.iter().chain(&[""])).flat_map(|(line, end)| [*line, *end]).collect();
        let parsed = request(text.as_bytes());
        assert_eq!(parsed.method(), &Method::SetParameter);
        assert_eq!(parsed.header(&headers::CSEQ).unwrap().as_str(), "7", "{text:?}");
        assert_eq!(parsed.header(&headers::RANGE).unwrap().as_str(), "npt=0-", "{text:?}");
        assert_eq!(parsed.body(), b"abc", "{text:?}");
    }
    let folded =
        request(b"PLAY rtsp://h/2 RTSP/1.0\nCSeq:\n 7\nTransport: RTP/AVP;unicast,\n\t RTP/AVP/TCP\n\n");
    assert_eq!(folded.header(&headers::CSEQ).unwrap().as_str(), "7");
    assert_eq!(folded.header(&headers::TRANSPORT).unwrap().as_str(), "RTP/AVP;unicast, RTP/AVP/TCP");
}

#[test]
fn a_body_after_bare_cr_or_crlf_is_whole_wherever_the_bytes_are_cut() {
    for text in [
        "X rtsp://h RTSP/1.0\r\nContent-Length: 3\r\n\r\nabc",
        "X rtsp://h RTSP/1.0\rContent-Length: 3\r\rabc",
    ] {
        let (mut framer, bytes) = (MessageFramer::default(), text.as_bytes());
        for end in 0..bytes.len() {
            assert_eq!(framer.take::<Vec<u8>>(&bytes[..end]), Ok(None), "{text:?} up to {end}");
        }
        match framer.take::<Vec<u8>>(bytes) {
            Ok(Some((Message::Request(request), length))) => {
                assert_eq!((request.body().as_slice(), length), (&b"abc"[..], bytes.len()));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_header_may_be_latin_1_or_utf_8() {
    for agent in [&b"M\xfcller"[..], "Müller".as_bytes(), b"\xff\xfe\x80"] {
        let bytes = [
            b"PLAY rtsp://h/2 RTSP/1.0\r\nUser-Agent: ",
            agent,
            b"\r\nRequire: ",
            agent,
            b"\r\nCSeq: 1\r\n\r\n",
        ]
        .concat();
        assert_eq!(request(&bytes).header(&headers::CSEQ).unwrap().as_str(), "1");
    }
    let latin = request(b"PLAY rtsp://h/2 RTSP/1.0\r\nRequire: M\xfcller\r\n\r\n");
    assert_eq!(latin.header(&headers::REQUIRE).unwrap().as_str(), "Müller");
    assert_eq!(request(b"PLAY rtsp://h/\xe9 RTSP/1.0\n\n").request_uri().unwrap().path(), "/%C3%A9");
}

#[test]
fn a_first_line_has_a_method_a_url_and_a_version_or_a_status() {
    for (line, expected) in [
        ("OPTIONS * RTSP/1.0", Ok(())),
        ("OPTIONS  rtsp://h/2 \t rtsp/1.0 ", Ok(())),
        ("OPTIONS rtsp://h/2 RTSP/2.0", Ok(())),
        ("RTSP/1.0 200", Ok(())),
        ("RTSP/1.0 454 Session Not Found", Ok(())),
        ("OPTIONS rtsp://h/2 RTSP/1.1", Err(FramingError::Version)),
        ("RTSP/3.0 200 OK", Err(FramingError::Version)),
        ("OPTIONS rtsp://h/2 RTSP/", Err(FramingError::Version)),
        ("OPTIONS rtsp://h/2", Err(FramingError::Malformed)),
        ("OPTIONS RTSP/1.0", Err(FramingError::Malformed)),
        ("OPTIONS /2 RTSP/1.0", Err(FramingError::Malformed)),
        ("HTTP/1.1 200 OK", Err(FramingError::Malformed)),
        ("OPT(ONS rtsp://h/2 RTSP/1.0", Err(FramingError::Malformed)),
        ("OPTIONS", Err(FramingError::Malformed)),
        ("RTSP/1.0 20", Err(FramingError::Malformed)),
        ("RTSP/1.0 +20 OK", Err(FramingError::Malformed)),
        ("RTSP/1.0 2é0 OK", Err(FramingError::Malformed)),
        ("(", Err(FramingError::Malformed)),
        ("é", Err(FramingError::Malformed)),
    ] {
        // The line alone is enough to see it.
        for end in ["\r\n\r\n", "\n"] {
            let text = format!("{line}{end}");
            assert_eq!(taken(text.as_bytes()).map(|_| ()), expected, "{text:?}");
        }
    }
}

#[test]
fn a_request_of_http_is_told_apart_when_its_head_is_complete() {
    let text = "GET /2 HTTP/1.0\r\nAccept: application/x-rtsp-tunnelled\r\nX-SessionCookie: a1\r\n\r\nQUJD";
    let head = text.len() - 4;
    assert_eq!(taken(&text.as_bytes()[..head - 2]), Ok(None));
    let http = HttpRequest { method: "GET".into(), cookie: Some("a1".into()), length: head };
    assert_eq!(taken(text.as_bytes()), Err(FramingError::Http(http)));
}

#[test]
fn the_length_of_a_body_is_one_number() {
    for (headers, expected) in [
        ("Content-Length: 2\n", Ok(true)),
        ("content-length:2\nContent-Length: 2\n", Ok(true)),
        ("Content-Lengths: 9\n", Ok(true)),
        ("Content-Length: 3\n", Ok(false)),
        ("Content-Length: 99999999999999999999999999\n", Ok(false)),
        ("Content-Length: 2\nContent-Length: 1\n", Err(FramingError::Malformed)),
        ("Content-Length: +2\n", Err(FramingError::Malformed)),
        ("Content-Length: -1\n", Err(FramingError::Malformed)),
        ("Content-Length:\n", Err(FramingError::Malformed)),
    ] {
        let text = format!("X * RTSP/1.0\n{headers}\nab");
        assert_eq!(taken(text.as_bytes()).map(|taken| taken.is_some()), expected, "{headers}");
    }
}

#[test]
fn a_message_that_arrives_byte_by_byte_is_not_searched_from_its_beginning() {
    let text =
        format!("X * RTSP/1.0\nContent-Length: 4000\n{}\n{}", "X:y\n".repeat(2000), "\r\n".repeat(2000));
    let mut framer = MessageFramer::default();
    let mut searched = 0;
    for end in 1..text.len() {
        assert_eq!(framer.take::<&[u8]>(&text.as_bytes()[..end]), Ok(None));
        assert!(framer.scan.at >= searched && (framer.need > 0 || framer.scan.at == end), "at {end}");
        searched = framer.scan.at;
    }
    assert!(framer.take::<&[u8]>(text.as_bytes()).unwrap().is_some());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(text in "(PLAY|RTSP/1.0|RTSP/|200|\\$|\r|\n|\r\n| |\t|:|Content-Length|[0-9]{1,21}|rtsp://h|\\*|[ -~é]){0,32}", cut in any::<proptest::sample::Index>()) {
        let mut framer = MessageFramer::default();
        let cut = cut.index(text.len() + 1);
        if let Ok(None) = framer.take::<Vec<u8>>(&text.as_bytes()[..cut]) {
            let _ = framer.take::<Vec<u8>>(text.as_bytes());
        }
    }

    #[test]
    fn no_transport_makes_it_panic(text in "(RTP|/|AVP|TCP|;|=|,|-|\"|\\\\|mode|client_port|interleaved|[0-9]{1,6}|[ -~é]){0,24}") {
        TransportSpec::list(&text).for_each(drop);
    }
}
