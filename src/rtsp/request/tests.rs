//! Requests and their parsed form or rejection.

use proptest::prelude::*;

use super::*;
use crate::wire::rtsp::MessageFramer;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9));
const ID: &str = "00000000000000ff";
const TCP: &str = "RTP/AVP/TCP;unicast;interleaved=0-1";

/// A session with station 2, whose programme is 60 s long.
fn session_info(kind: Kind, playing: bool) -> SessionInfo {
    let resource = Resource { station: StationId(2), kind };
    let transport = SessionTransport::Interleaved { channels: (0, 1), ssrc: 1 };
    let length = matches!(kind, Kind::OnDemand).then_some(Duration::from_secs(60));
    SessionInfo {
        owner: PEER,
        resource,
        transports: PerTrack::of(Track::Picture, transport),
        playing,
        length,
    }
}

fn parse(text: &str) -> Request<Vec<u8>> {
    let text = text.replace('\n', "\r\n");
    match MessageFramer::default().take(text.as_bytes()) {
        Ok(Some((rtsp_types::Message::Request(request), _))) => request,
        other => panic!("{text}: {other:?}"),
    }
}

/// Parses the request `line` with `headers`, which are separated by ` | `. It names the session, if there is one.
fn ask(line: &str, headers: &str, session: Option<SessionInfo>) -> Result<RtspRequest, Rejection> {
    let named = if session.is_some() { format!("Session: {ID}\n") } else { String::new() };
    let headers: String = headers.split(" | ").filter(|h| !h.is_empty()).map(|h| format!("{h}\n")).collect();
    RtspRequest::parse(&parse(&format!("{line} RTSP/1.0\nCSeq: 7\n{named}{headers}\n")), PEER, session)
}

fn status(line: &str, headers: &str, session: Option<SessionInfo>) -> u16 {
    ask(line, headers, session).map_or_else(|rejection| rejection.status.into(), |_| 200)
}

#[test]
fn a_url_names_a_station_or_its_programme_or_the_medium_of_either() {
    let of = |path: &str| {
        let target = RequestTarget::parse(&Url::parse(&format!("rtsp://host:8554{path}")).unwrap())?;
        Some((target.resource.station.0, target.resource.kind, target.medium))
    };
    for (path, target) in [
        ("/2", Some((2, Kind::Live, None))),
        ("/2/", Some((2, Kind::Live, None))),
        ("/2?x=y", Some((2, Kind::Live, None))),
        ("/2/video", Some((2, Kind::Live, Some(Track::Picture)))),
        ("/2/demand", Some((2, Kind::OnDemand, None))),
        ("/2/demand/video/", Some((2, Kind::OnDemand, Some(Track::Picture)))),
        ("/2/audio", Some((2, Kind::Live, Some(Track::Sound)))),
        ("/2/demand/audio", Some((2, Kind::OnDemand, Some(Track::Sound)))),
        ("", None),
        ("/", None),
        ("/two", None),
        ("/+2", None),
        ("/99999", None),
        ("/2/text", None),
        ("/2/video/audio", None),
        ("/2/video/demand", None),
        ("/2/demand/video/x", None),
    ] {
        assert_eq!(of(path), target, "{path}");
    }
    let uri = Url::parse("rtsp://me:secret@host:8554/2/demand?x=y#z").unwrap();
    let resource = session_info(Kind::OnDemand, false).resource;
    assert_eq!(content_base(&uri, resource).as_str(), "rtsp://host:8554/2/demand/");
    assert_eq!(control_url(&uri, resource, Track::Picture).as_str(), "rtsp://host:8554/2/demand/video");
    assert_eq!(control_url(&uri, resource, Track::Sound).as_str(), "rtsp://host:8554/2/demand/audio");
}

#[test]
fn each_fault_of_a_request_has_its_status() {
    let (ready, playing) = (Some(session_info(Kind::Live, false)), Some(session_info(Kind::Live, true)));
    let transport = format!("Transport: {TCP}");
    for (line, headers, session, expected) in [
        ("OPTIONS *", "", None, 200),
        ("OPTIONS rtsp://h/anything", "", None, 200),
        ("DESCRIBE rtsp://h/2", "", None, 200),
        ("DESCRIBE rtsp://h/2", "Accept: text/html", None, 406),
        ("DESCRIBE rtsp://h/2", "Accept: application/sdp, text/html", None, 200),
        ("DESCRIBE rtsp://h/2", "Accept: application/SDP", None, 200),
        ("DESCRIBE rtsp://h/2", "Accept: text/html, Application/* ; q=0.5", None, 200),
        ("DESCRIBE rtsp://h/2", "Accept: */*;q=0.1", None, 200),
        ("DESCRIBE rtsp://h/2", "Accept:", None, 200),
        ("DESCRIBE rtsp://h/2", "Accept: application/sdp;q=0", None, 406),
        ("DESCRIBE rtsp://h/2", "Accept: application/sdpx", None, 406),
        ("DESCRIBE rtsp://h/2", "Accept: x-application/sdp", None, 406),
        ("DESCRIBE rtsp://h/2", "Accept-Language: de", None, 200),
        ("DESCRIBE rtsp://h/2", "R: 1 | P: 1 | Requires: 1", None, 200),
        ("DESCRIBE http://h/2", "", None, 400),
        ("OPTIONS gopher://h/2", "", None, 400),
        ("OPTIONS rtspx://h/2", "", None, 400),
        ("OPTIONS RTSP://h/2", "", None, 200),
        ("OPTIONS rtspu://h/2", "", None, 200),
        ("OPTIONS rtsps://h/2", "", None, 200),
        ("OPTIONS rtsp://h/2", "Session-Hint: x", None, 200),
        ("OPTIONS rtsp://h/2", "S: x", None, 200),
        ("DESCRIBE rtsp://h/2", "Require: funky", None, 551),
        ("DESCRIBE rtsp://h/2", "Proxy-Require: funky", None, 551),
        ("DESCRIBE rtsp://h/two", "", None, 404),
        ("DESCRIBE *", "", None, 400),
        ("FROBNICATE rtsp://h/2", "", None, 501),
        ("ANNOUNCE rtsp://h/2", "", None, 501),
        ("RECORD rtsp://h/2", "", None, 501),
        ("GET_PARAMETER *", "", None, 200),
        ("GET_PARAMETER rtsp://h/2", "", ready, 200),
        ("SETUP rtsp://h/2/video", &transport, None, 200),
        ("SETUP rtsp://h/2/video", &transport, ready, 200),
        ("SETUP rtsp://h/2/video", &transport, playing, 455),
        ("SETUP rtsp://h/2/video", "Transport: RTP/AVP;multicast", ready, 461),
        ("SETUP rtsp://h/2/video", "", None, 400),
        ("SETUP rtsp://h/2", &transport, None, 200),
        ("SETUP rtsp://h/2/", &transport, ready, 200),
        ("SETUP rtsp://h/2/video", "Transport-X: y", None, 400),
        ("SETUP rtsp://h/3/video", &transport, ready, 459),
        ("SETUP rtsp://h/2/demand/video", "Transport: RTP/AVP;multicast", None, 461),
        ("PLAY rtsp://h/2", "", None, 454),
        ("PLAY rtsp://h/2", "", ready, 200),
        ("PLAY rtsp://h/2", "", playing, 200),
        ("PLAY rtsp://h/2/video", "", ready, 200),
        ("PLAY rtsp://h/2/video/", "", playing, 200),
        ("PAUSE rtsp://h/2/video", "", playing, 200),
        ("PLAY rtsp://h/2/audio", "", ready, 404),
        ("PLAY rtsp://h/3/video", "", ready, 454),
        ("PLAY rtsp://h/3", "", ready, 454),
        ("PLAY rtsp://h/2/demand", "", ready, 454),
        ("PAUSE rtsp://h/2", "", ready, 200),
        ("PAUSE rtsp://h/2", "", None, 454),
        ("TEARDOWN rtsp://h/2", "", playing, 200),
        ("TEARDOWN rtsp://h/2/video", "", playing, 200),
        ("TEARDOWN rtsp://h/2", "", None, 454),
        ("PLAY rtsp://h/2", "Session: 1", None, 454),
        ("GET_PARAMETER rtsp://h/2", "Session: ../../etc", None, 454),
    ] {
        assert_eq!(status(line, headers, session), expected, "{line} {headers} {session:?}");
    }
    let with_body = parse("SET_PARAMETER rtsp://h/2 RTSP/1.0\nCSeq: 1\nContent-Length: 3\n\na:b");
    assert_eq!(
        RtspRequest::parse(&with_body, PEER, None).unwrap_err().status,
        StatusCode::ParameterNotUnderstood
    );
    for (text, expected) in [
        ("OPTIONS * RTSP/1.0\n\n", StatusCode::BadRequest),
        ("OPTIONS * RTSP/1.0\nCSeq: x\n\n", StatusCode::BadRequest),
        ("OPTIONS * RTSP/1.0\nCSeq: -1\n\n", StatusCode::BadRequest),
        ("OPTIONS * RTSP/1.0\nCSeq:\n\n", StatusCode::BadRequest),
        ("OPTIONS * RTSP/1.0\nC: 1\n\n", StatusCode::BadRequest),
        ("OPTIONS * RTSP/1.0\nCSeq-Number: 1\n\n", StatusCode::BadRequest),
        ("OPTIONS * RTSP/2.0\nCSeq: 1\n\n", StatusCode::RTSPVersionNotSupported),
    ] {
        assert_eq!(RtspRequest::parse(&parse(text), PEER, None).unwrap_err().status, expected, "{text}");
    }
}

#[test]
fn a_rejection_says_what_is_allowed() {
    let header = |line, headers, session| {
        let echo = Echo { cseq: Some("7".into()), ..Echo::default() };
        let response = ask(line, headers, session).unwrap_err().response(&echo);
        assert_eq!(response.header(&headers::CSEQ).unwrap().as_str(), "7");
        move |name| response.header(&name).map(|value| value.as_str().to_owned())
    };
    let playing = Some(session_info(Kind::Live, true));
    let allow = header("SETUP rtsp://h/2/video", "", playing)(headers::ALLOW);
    assert_eq!(allow.as_deref(), Some("OPTIONS, PLAY, PAUSE, TEARDOWN, GET_PARAMETER"));
    let unsupported = header("PLAY rtsp://h/2", "Require: a, b", playing)(headers::UNSUPPORTED);
    assert_eq!(unsupported.as_deref(), Some("a, b"));
    assert!(
        header("RECORD rtsp://h/2", "", playing)(headers::PUBLIC).unwrap().starts_with("OPTIONS, DESCRIBE")
    );
}

#[test]
fn a_session_exists_for_its_owner_only() {
    let theirs = SessionInfo { owner: [192, 0, 2, 10].into(), ..session_info(Kind::Live, true) };
    for method in ["PLAY", "PAUSE", "TEARDOWN", "GET_PARAMETER", "OPTIONS"] {
        assert_eq!(status(&format!("{method} rtsp://h/2"), "", Some(theirs)), 454, "{method}");
    }
}

#[test]
fn a_play_has_a_range_and_a_scale() {
    let ms = |ms| Some(Duration::from_millis(ms));
    let range = |from, to, scale| Ok(PlayRange { from, to, scale });
    for (headers, expected) in [
        ("", range(None, None, None)),
        ("Range: npt=0-", range(ms(0), None, None)),
        ("Range: npt=now-", range(None, None, None)),
        ("Range: npt=1.5-2.25", range(ms(1500), ms(2250), None)),
        ("Range: npt=0:00:07.5-99999", range(ms(7500), None, None)),
        ("Range: npt=-5", range(None, ms(5000), None)),
        ("Range: npt=3-;time=19970123T143720Z", range(ms(3000), None, None)),
        ("Scale: 2", range(None, None, Some(2.0))),
        ("Scale: 100", range(None, None, Some(4.0))),
        ("Scale: -1", range(None, None, Some(0.5))),
        ("Scale: NaN", range(None, None, Some(1.0))),
        ("Scale: fast", Err(400)),
        ("Range: npt=60-", Err(457)),
        ("Range: npt=5-5", Err(457)),
        ("Range: npt=5-4", Err(457)),
        ("Range: npt=18446744073709551615:00:00-", Err(457)),
        ("Range: npt=18446744073709551615.999999999-", Err(457)),
        ("Range: npt=-", Err(457)),
        ("Range: npt=one-", Err(457)),
        ("Range: clock=19961108T143720.25Z-", Err(457)),
        ("Range: smpte=10:12:33:20-", Err(457)),
        ("Range: é", Err(457)),
    ] {
        let request = ask("PLAY rtsp://h/2/demand", headers, Some(session_info(Kind::OnDemand, false)));
        let asked = request.map_err(|rejection| u16::from(rejection.status)).map(|request| match request {
            RtspRequest::Play(_, range) => range,
            other => panic!("{other:?}"),
        });
        assert_eq!(asked, expected, "{headers}");
    }
    let live = |headers| ask("PLAY rtsp://h/2", headers, Some(session_info(Kind::Live, false)));
    let range = PlayRange { scale: Some(1.0), ..PlayRange::default() };
    assert_eq!(live("Range: npt=99- | Scale: 2"), Ok(RtspRequest::Play(ID.parse().unwrap(), range)));
    assert_eq!(live("Range: bytes=0-").unwrap_err().status, StatusCode::InvalidRange);
    let span = Some((Duration::from_millis(1500), Duration::from_secs(60)));
    assert_eq!(range_header(span).to_string(), "npt=1.500000000-60.000000000");
    assert_eq!(range_header(None).to_string(), "npt=now-");
}

proptest! {
    #[test]
    fn no_headers_make_it_panic(
        range in "(npt|=|-|:|\\.|now|clock|[0-9]{1,20}|[ -~é]){0,12}",
        scale in "[ -~]{0,12}",
        session in "[ -~é]{0,20}",
    ) {
        let text = format!("PLAY rtsp://h/2/demand RTSP/1.0\nCSeq: 1\nRange: {range}\nScale: {scale}\nSession: {session}\n\n");
        let _ = RtspRequest::parse(&parse(&text), PEER, Some(session_info(Kind::OnDemand, false)));
    }
}

#[test]
fn a_session_may_have_two_tracks_of_one_transport() {
    let live = session_info(Kind::Live, false);
    let with = |track| {
        RtspRequest::parse(
            &parse(&format!(
                "SETUP rtsp://h/2/{track} RTSP/1.0\nCSeq: 7\nSession: {ID}\nTransport: {TCP}\n\n"
            )),
            PEER,
            Some(live),
        )
        .map_err(|rejection| u16::from(rejection.status))
    };
    assert!(matches!(with("audio"), Ok(RtspRequest::SetupMore { track: Track::Sound, .. })));
    assert!(matches!(with("video"), Ok(RtspRequest::SetupAgain(_, Track::Picture))));
    let udp = "Transport: RTP/AVP;unicast;client_port=5000-5001";
    assert_eq!(status("SETUP rtsp://h/2/audio", udp, Some(live)), 461);
    let first = ask("SETUP rtsp://h/2/demand/audio/", udp, None);
    assert!(matches!(first, Ok(RtspRequest::Setup { track: Track::Sound, .. })), "sound may come first");

    let sound = SessionTransport::Interleaved { channels: (2, 3), ssrc: 2 };
    let both = SessionInfo { transports: PerTrack { sound: Some(sound), ..live.transports }, ..live };
    for (line, expected) in [
        ("PLAY rtsp://h/2", 200),
        ("PLAY rtsp://h/2/video", 200),
        ("PAUSE rtsp://h/2/audio", 200),
        ("TEARDOWN rtsp://h/2/", 200),
        ("TEARDOWN rtsp://h/2/audio", 460),
        ("TEARDOWN rtsp://h/2/text", 404),
    ] {
        assert_eq!(status(line, "", Some(both)), expected, "{line}");
    }
}
