//! What is asked for, what is refused, and what any text comes to.

use proptest::prelude::*;

use super::*;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9));
const ID: &str = "00000000000000ff";
const TCP: &str = "RTP/AVP/TCP;unicast;interleaved=0-1";

/// A session of station 2: its programme of 60 s, if that is its kind.
fn view(kind: Kind, playing: bool) -> SessionInfo {
    let resource = Resource { station: StationId(2), kind };
    let transport = SessionTransport::Interleaved { channels: (0, 1), ssrc: 1 };
    let length = matches!(kind, Kind::OnDemand).then_some(Duration::from_secs(60));
    SessionInfo { owner: PEER, resource, transport, playing, length }
}

fn parse(text: &str) -> Request<Vec<u8>> {
    let text = text.replace('\n', "\r\n");
    match rtsp_types::Message::parse(text.as_bytes()) {
        Ok((rtsp_types::Message::Request(request), _)) => request,
        other => panic!("{text}: {other:?}"),
    }
}

/// What the request `line` asks for, with `headers` between spaced bars and a session that is named where there is one.
fn ask(line: &str, headers: &str, view: Option<SessionInfo>) -> Result<RtspRequest, Rejection> {
    let named = if view.is_some() { format!("Session: {ID}\n") } else { String::new() };
    let headers: String = headers.split(" | ").filter(|h| !h.is_empty()).map(|h| format!("{h}\n")).collect();
    RtspRequest::of(&parse(&format!("{line} RTSP/1.0\nCSeq: 7\n{named}{headers}\n")), PEER, view)
}

fn status(line: &str, headers: &str, view: Option<SessionInfo>) -> u16 {
    ask(line, headers, view).map_or_else(|refusal| refusal.status.into(), |_| 200)
}

#[test]
fn urls_name_a_station_its_programme_and_the_medium_of_either() {
    let of = |path: &str| {
        let target = RequestTarget::of(&Url::parse(&format!("rtsp://host:8554{path}")).unwrap())?;
        Some((target.resource.station.0, target.resource.kind, target.medium))
    };
    for (path, target) in [
        ("/2", Some((2, Kind::Live, false))),
        ("/2/", Some((2, Kind::Live, false))),
        ("/2?x=y", Some((2, Kind::Live, false))),
        ("/2/video", Some((2, Kind::Live, true))),
        ("/2/demand", Some((2, Kind::OnDemand, false))),
        ("/2/demand/video/", Some((2, Kind::OnDemand, true))),
        ("", None),
        ("/", None),
        ("/two", None),
        ("/+2", None),
        ("/99999", None),
        ("/2/audio", None),
        ("/2/video/demand", None),
        ("/2/demand/video/x", None),
    ] {
        assert_eq!(of(path), target, "{path}");
    }
    let uri = Url::parse("rtsp://me:secret@host:8554/2/demand?x=y#z").unwrap();
    let resource = view(Kind::OnDemand, false).resource;
    assert_eq!(base(&uri, resource).as_str(), "rtsp://host:8554/2/demand/");
    assert_eq!(control(&uri, resource).as_str(), "rtsp://host:8554/2/demand/video");
}

#[test]
fn requests_are_refused_for_what_is_wrong_with_them() {
    let (ready, playing) = (Some(view(Kind::Live, false)), Some(view(Kind::Live, true)));
    let transport = format!("Transport: {TCP}");
    for (line, headers, view, expected) in [
        ("OPTIONS *", "", None, 200),
        ("OPTIONS rtsp://h/anything", "", None, 200),
        ("DESCRIBE rtsp://h/2", "", None, 200),
        ("DESCRIBE rtsp://h/2", "Accept: text/html", None, 406),
        ("DESCRIBE rtsp://h/2", "Accept: application/sdp, text/html", None, 200),
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
        ("SETUP rtsp://h/2", &transport, None, 459),
        ("SETUP rtsp://h/3/video", &transport, ready, 459),
        ("SETUP rtsp://h/2/demand/video", "Transport: RTP/AVP;multicast", None, 461),
        ("PLAY rtsp://h/2", "", None, 454),
        ("PLAY rtsp://h/2", "", ready, 200),
        ("PLAY rtsp://h/2", "", playing, 200),
        ("PLAY rtsp://h/2/video", "", ready, 460),
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
        assert_eq!(status(line, headers, view), expected, "{line} {headers} {view:?}");
    }
    let with_body = parse("SET_PARAMETER rtsp://h/2 RTSP/1.0\nCSeq: 1\nContent-Length: 3\n\na:b");
    assert_eq!(
        RtspRequest::of(&with_body, PEER, None).unwrap_err().status,
        StatusCode::ParameterNotUnderstood
    );
    for (text, expected) in [
        ("OPTIONS * RTSP/1.0\n\n", StatusCode::BadRequest),
        ("OPTIONS * RTSP/1.0\nCSeq: x\n\n", StatusCode::BadRequest),
        ("OPTIONS * RTSP/2.0\nCSeq: 1\n\n", StatusCode::RTSPVersionNotSupported),
    ] {
        assert_eq!(RtspRequest::of(&parse(text), PEER, None).unwrap_err().status, expected, "{text}");
    }
}

#[test]
fn a_refusal_says_what_would_do() {
    let said = |line, headers, view| {
        let refusal = ask(line, headers, view).unwrap_err();
        let response = refusal.response(Some(7));
        assert_eq!(response.header(&headers::CSEQ).unwrap().as_str(), "7");
        move |name| response.header(&name).map(|value| value.as_str().to_owned())
    };
    let playing = Some(view(Kind::Live, true));
    let allow = said("SETUP rtsp://h/2/video", "", playing)(headers::ALLOW);
    assert_eq!(allow.as_deref(), Some("OPTIONS, PLAY, PAUSE, TEARDOWN, GET_PARAMETER"));
    let unsupported = said("PLAY rtsp://h/2", "Require: a, b", playing)(headers::UNSUPPORTED);
    assert_eq!(unsupported.as_deref(), Some("a, b"));
    assert!(
        said("RECORD rtsp://h/2", "", playing)(headers::PUBLIC).unwrap().starts_with("OPTIONS, DESCRIBE")
    );
}

#[test]
fn a_session_is_its_owners_only() {
    let theirs = SessionInfo { owner: [192, 0, 2, 10].into(), ..view(Kind::Live, true) };
    for method in ["PLAY", "PAUSE", "TEARDOWN", "GET_PARAMETER", "OPTIONS"] {
        assert_eq!(status(&format!("{method} rtsp://h/2"), "", Some(theirs)), 454, "{method}");
    }
}

#[test]
fn a_range_is_where_to_play_and_a_scale_how_fast() {
    let ms = |ms| Some(Duration::from_millis(ms));
    let wish = |from, to, scale| Ok(PlayRange { from, to, scale });
    for (headers, expected) in [
        ("", wish(None, None, None)),
        ("Range: npt=0-", wish(ms(0), None, None)),
        ("Range: npt=now-", wish(None, None, None)),
        ("Range: npt=1.5-2.25", wish(ms(1500), ms(2250), None)),
        ("Range: npt=0:00:07.5-99999", wish(ms(7500), None, None)),
        ("Range: npt=-5", wish(None, ms(5000), None)),
        ("Range: npt=3-;time=19970123T143720Z", wish(ms(3000), None, None)),
        ("Scale: 2", wish(None, None, Some(2.0))),
        ("Scale: 100", wish(None, None, Some(4.0))),
        ("Scale: -1", wish(None, None, Some(0.5))),
        ("Scale: NaN", wish(None, None, Some(1.0))),
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
        let order = ask("PLAY rtsp://h/2/demand", headers, Some(view(Kind::OnDemand, false)));
        let asked = order.map_err(|refusal| u16::from(refusal.status)).map(|order| match order {
            RtspRequest::Play(_, wish) => wish,
            other => panic!("{other:?}"),
        });
        assert_eq!(asked, expected, "{headers}");
    }
    let live = |headers| ask("PLAY rtsp://h/2", headers, Some(view(Kind::Live, false)));
    let wish = PlayRange { scale: Some(1.0), ..PlayRange::default() };
    assert_eq!(live("Range: npt=99- | Scale: 2"), Ok(RtspRequest::Play(ID.parse().unwrap(), wish)));
    assert_eq!(live("Range: bytes=0-").unwrap_err().status, StatusCode::InvalidRange);
    let span = Some((Duration::from_millis(1500), Duration::from_secs(60)));
    assert_eq!(npt(span).to_string(), "npt=1.500000000-60.000000000");
    assert_eq!(npt(None).to_string(), "npt=now-");
}

proptest! {
    #[test]
    fn any_headers_are_answered(
        range in "(npt|=|-|:|\\.|now|clock|[0-9]{1,20}|[ -~é]){0,12}",
        scale in "[ -~]{0,12}",
        session in "[ -~é]{0,20}",
    ) {
        let text = format!("PLAY rtsp://h/2/demand RTSP/1.0\nCSeq: 1\nRange: {range}\nScale: {scale}\nSession: {session}\n\n");
        let _ = RtspRequest::of(&parse(&text), PEER, Some(view(Kind::OnDemand, false)));
    }
}
