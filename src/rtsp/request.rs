//! Requests, parsed and checked: RFC 2326 without a socket, a clock or a station. Pure.
//!
//! ```text
//! bytes -> MessageReader -> Request -> RtspRequest::parse -> RtspRequest -> connection: executes it, responds
//!                                                       \--> Rejection ---> responds
//! ```

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rtsp_types::headers::{self, NptRange, NptTime, Range, Scale};
use rtsp_types::{Method, Request, StatusCode, Url, Version};

use super::response::{Echo, Rejection};
use super::session::SessionId;
use super::transport::{SessionTransport, TransportOffer};
use crate::access::{Credentials, Secret};
use crate::media::tracks::PerTrack;
use crate::media::{StationId, Track};
use crate::wire::sdp::SOUND_CONTROL;

/// The methods that the server implements.
pub(super) const METHODS: [Method; 10] = [
    Method::Options,
    Method::Describe,
    Method::Setup,
    Method::Play,
    Method::Pause,
    Method::Teardown,
    Method::GetParameter,
    Method::SetParameter,
    Method::Announce,
    Method::Record,
];

/// The last part of the URL of the pictures: their `a=control`. It is relative, since some clients put it behind the URL
/// that they were given, whatever it is (yellowstone of npm).
pub(super) const CONTROL: &str = "video";

/// The last part of the URL of a track.
const fn control(track: Track) -> &'static str {
    match track {
        Track::Picture => CONTROL,
        Track::Sound => SOUND_CONTROL,
    }
}

/// The part of a URL on demand.
const DEMAND: &str = "demand";

/// The schemes of RTSP: RFC 2326 section 3.2, and TLS, which a proxy in front of us may have ended.
const SCHEMES: [&str; 3] = ["rtsp", "rtspu", "rtsps"];

/// Least and greatest `Scale` of a programme. Above 1, pictures are left out.
const SCALES: (f64, f64) = (0.5, 4.0);

/// A station, live or on demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resource {
    pub(super) station: StationId,
    pub(super) kind: Kind,
}

/// How a client watches a station.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The pictures that are on air.
    Live,
    /// The station's programme, for this client alone.
    OnDemand,
}

/// The session that a request names, as far as parsing needs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionInfo {
    /// The address that set it up.
    pub(super) owner: IpAddr,
    pub(super) resource: Resource,
    /// Of the tracks that are set up.
    pub(super) transports: PerTrack<SessionTransport>,
    pub(super) playing: bool,
    /// Playing time of the programme; `None` if live.
    pub(super) length: Option<Duration>,
}

/// A request that is valid as far as can be told without looking at a station.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum RtspRequest {
    Options,
    Describe(Resource),
    Setup {
        resource: Resource,
        track: Track,
        offer: TransportOffer,
    },
    /// A SETUP that adds a track to a session.
    SetupMore {
        session: SessionId,
        track: Track,
        offer: TransportOffer,
    },
    /// A SETUP that offers the transport that the track has already.
    SetupAgain(SessionId, Track),
    Play(SessionId, PlayRange),
    Pause(SessionId),
    Teardown(SessionId),
    KeepAlive,
}

/// The part of a programme that a PLAY asks for. Live playback ignores it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct PlayRange {
    /// Where to begin, in normal play time (RFC 2326 section 3.6). `None`: where playback stopped.
    pub(super) from: Option<Duration>,
    /// Where to end, in normal play time. `None`: at the end of the programme.
    pub(super) to: Option<Duration>,
    /// Speed: 1 is the films' own. `None` without a `Scale` header.
    pub(super) scale: Option<f64>,
}

/// The name and the secret that a request shows (RFC 7617).
pub(super) fn credentials(request: &Request<Vec<u8>>) -> Option<Credentials> {
    let (scheme, value) = request.header(&headers::AUTHORIZATION)?.as_str().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    let (name, secret) = decoded.split_once(':')?;
    Some(Credentials { name: name.to_owned(), secret: Secret::new(secret.to_owned()) })
}

/// The session that a request names. It may not exist.
pub(super) fn session_id(request: &Request<Vec<u8>>) -> Option<SessionId> {
    // Many clients repeat the `;timeout=60` of the response.
    request.header(&headers::SESSION)?.as_str().split(';').next()?.trim().parse().ok()
}

impl RtspRequest {
    /// Parses a request from `peer`. `session` is the session that it names, if that exists.
    ///
    /// # Errors
    /// Everything that can be wrong without looking at a station.
    pub(super) fn parse(
        request: &Request<Vec<u8>>,
        peer: IpAddr,
        session: Option<SessionInfo>,
    ) -> Result<RtspRequest, Rejection> {
        check(request)?;
        // ANNOUNCE and RECORD are those of a publisher, and do not come here.
        let is_publishers = matches!(request.method(), Method::Announce | Method::Record);
        if is_publishers || !METHODS.contains(request.method()) {
            return Err(Rejection::with(StatusCode::NotImplemented, headers::PUBLIC, list(&METHODS)));
        }
        // The session of another address does not exist for `peer`, which so cannot find out whether an id is in use.
        let named = session_id(request).zip(session.filter(|session| session.owner == peer));
        if request.header(&headers::SESSION).is_some() && named.is_none() {
            return Err(StatusCode::SessionNotFound.into());
        }
        let Some(uri) = request.request_uri() else {
            return match request.method() {
                Method::Options => Ok(RtspRequest::Options),
                Method::GetParameter | Method::SetParameter => parameters(request),
                _ => Err(StatusCode::BadRequest.into()),
            };
        };
        let target = RequestTarget::parse(uri);
        match request.method() {
            Method::Options => Ok(RtspRequest::Options),
            Method::GetParameter | Method::SetParameter => parameters(request),
            Method::Describe => describe(request, target.ok_or(StatusCode::NotFound)?),
            Method::Setup => setup(request, peer, target.ok_or(StatusCode::NotFound)?, named),
            method => {
                let (id, session) = named.ok_or(StatusCode::SessionNotFound)?;
                let target = target.ok_or(StatusCode::NotFound)?;
                if target.resource != session.resource {
                    return Err(StatusCode::SessionNotFound.into());
                }
                if target.medium.is_some_and(|track| session.transports.get(track).is_none()) {
                    return Err(StatusCode::NotFound.into());
                }
                // The URL of a medium means the session. But a client that takes down one of two media would lose the other.
                let has_both = session.transports.picture.is_some() && session.transports.sound.is_some();
                match method {
                    Method::Teardown if target.medium.is_some() && has_both => {
                        Err(StatusCode::OnlyAggregateOperationAllowed.into())
                    }
                    Method::Teardown => Ok(RtspRequest::Teardown(id)),
                    Method::Pause => Ok(RtspRequest::Pause(id)),
                    _ => Ok(RtspRequest::Play(id, PlayRange::parse(request, session.length)?)),
                }
            }
        }
    }
}

/// Checks what all requests have in common.
///
/// # Errors
/// Another version, no number, another scheme, or an option that is required.
pub(super) fn check(request: &Request<Vec<u8>>) -> Result<(), Rejection> {
    if request.version() != Version::V1_0 {
        return Err(StatusCode::RTSPVersionNotSupported.into());
    }
    if Echo::of(request).cseq.is_none() {
        return Err(StatusCode::BadRequest.into());
    }
    if request.request_uri().is_some_and(|uri| !SCHEMES.contains(&uri.scheme())) {
        return Err(StatusCode::BadRequest.into());
    }
    for header in [headers::REQUIRE, headers::PROXY_REQUIRE] {
        if let Some(options) = request.header(&header) {
            let (status, options) = (StatusCode::OptionNotSupported, options.as_str());
            return Err(Rejection::with(status, headers::UNSUPPORTED, options));
        }
    }
    Ok(())
}

fn describe(request: &Request<Vec<u8>>, target: RequestTarget) -> Result<RtspRequest, Rejection> {
    if target.medium.is_some() {
        return Err(StatusCode::NotFound.into());
    }
    if request.header(&headers::ACCEPT).is_some_and(|accept| !takes_sdp(accept.as_str())) {
        return Err(StatusCode::NotAcceptable.into());
    }
    Ok(RtspRequest::Describe(target.resource))
}

/// Whether an Accept header has SDP in it. An empty one says nothing.
fn takes_sdp(accept: &str) -> bool {
    accept.trim_ascii().is_empty()
        || accept.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim_ascii);
            let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
            let never = |part: &str| {
                let value =
                    part.split_once('=').filter(|(name, _)| name.trim_ascii().eq_ignore_ascii_case("q"));
                value.is_some_and(|(_, value)| value.trim_ascii().parse() == Ok(0.0))
            };
            ["application/sdp", "application/*", "*/*", "*"].contains(&media_type.as_str())
                && !parts.any(never)
        })
}

fn setup(
    request: &Request<Vec<u8>>,
    peer: IpAddr,
    target: RequestTarget,
    named: Option<(SessionId, SessionInfo)>,
) -> Result<RtspRequest, Rejection> {
    let resource = target.resource;
    if let Some((_, session)) = named {
        if session.resource != resource {
            return Err(StatusCode::AggregateOperationNotAllowed.into());
        }
        if session.playing {
            let allowed =
                [Method::Options, Method::Play, Method::Pause, Method::Teardown, Method::GetParameter];
            return Err(Rejection::with(
                StatusCode::MethodNotValidInThisState,
                headers::ALLOW,
                list(&allowed),
            ));
        }
    }
    let offer = TransportOffer::first(request.as_ref(), peer, resource.kind == Kind::OnDemand)?;
    // The URL of a station means its pictures, as before there was sound.
    let track = target.medium.unwrap_or(Track::Picture);
    let Some((id, session)) = named else { return Ok(RtspRequest::Setup { resource, track, offer }) };
    let is_alike = |transport: &SessionTransport| transport.is_alike(&offer);
    match session.transports.get(track) {
        Some(transport) if transport.matches(&offer) => Ok(RtspRequest::SetupAgain(id, track)),
        None if session.transports.iter().all(|(_, transport)| is_alike(transport)) => {
            Ok(RtspRequest::SetupMore { session: id, track, offer })
        }
        _ => Err(StatusCode::UnsupportedTransport.into()),
    }
}

/// GET_PARAMETER or SET_PARAMETER. There are no parameters, so a body is not understood. Without one, the request keeps the
/// session alive.
fn parameters(request: &Request<Vec<u8>>) -> Result<RtspRequest, Rejection> {
    if request.body().is_empty() {
        Ok(RtspRequest::KeepAlive)
    } else {
        Err(StatusCode::ParameterNotUnderstood.into())
    }
}

fn list(methods: &[Method]) -> String {
    methods.iter().map(<&str>::from).collect::<Vec<_>>().join(", ")
}

/// The URL of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RequestTarget {
    resource: Resource,
    /// A medium of the resource; `None` for the presentation.
    medium: Option<Track>,
}

impl RequestTarget {
    /// `/2`, `/2/video`, `/2/audio`, `/2/demand`, `/2/demand/video`, `/2/demand/audio`. There may be more slashes: some clients put
    /// one between the base and the control, which has one at its end already.
    fn parse(uri: &Url) -> Option<RequestTarget> {
        let mut parts = uri.path().split('/').filter(|part| !part.is_empty()).peekable();
        let digits = parts.next().filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))?;
        let station = StationId(digits.parse().ok()?);
        let on_demand = parts.next_if_eq(&DEMAND).is_some();
        let medium = [Track::Picture, Track::Sound]
            .into_iter()
            .find(|&track| parts.next_if_eq(&control(track)).is_some());
        let kind = if on_demand { Kind::OnDemand } else { Kind::Live };
        parts.next().is_none().then_some(RequestTarget { resource: Resource { station, kind }, medium })
    }
}

/// The base URL of a resource, with the host that the client used. It ends in a slash.
pub(super) fn content_base(uri: &Url, resource: Resource) -> Url {
    let mut base = uri.clone();
    base.set_query(None);
    base.set_fragment(None);
    // An error means that URLs of this scheme have no user name.
    let _ = base.set_username("");
    let _ = base.set_password(None);
    base.set_path(&match resource.kind {
        Kind::Live => format!("/{}/", resource.station),
        Kind::OnDemand => format!("/{}/{DEMAND}/", resource.station),
    });
    base
}

/// The URL of a track of a resource.
pub(super) fn control_url(uri: &Url, resource: Resource, track: Track) -> Url {
    let mut url = content_base(uri, resource);
    url.set_path(&format!("{}{}", url.path(), control(track)));
    url
}

impl PlayRange {
    /// The range of a PLAY. `length` is the playing time of the programme; `None` if live.
    fn parse(request: &Request<Vec<u8>>, length: Option<Duration>) -> Result<PlayRange, Rejection> {
        let scale = request.typed_header::<Scale>().map_err(|_| StatusCode::BadRequest)?.map(f64::from);
        let (from, to) = parse_range(request)?;
        let Some(length) = length else {
            // A live station plays from now on, whatever the range: players ask for `npt=0-` of everything.
            return Ok(PlayRange { scale: scale.map(|_| 1.0), ..PlayRange::default() });
        };
        let scale = scale.map(|scale| if scale.is_nan() { 1.0 } else { scale.clamp(SCALES.0, SCALES.1) });
        let begin = from.unwrap_or_default();
        if begin >= length || to.is_some_and(|to| to <= begin) {
            return Err(StatusCode::InvalidRange.into());
        }
        Ok(PlayRange { from, to: to.filter(|&to| to < length), scale })
    }
}

/// Both ends of the Range header, in normal play time.
fn parse_range(request: &Request<Vec<u8>>) -> Result<(Option<Duration>, Option<Duration>), StatusCode> {
    let Some(text) = request.header(&headers::RANGE) else { return Ok((None, None)) };
    // A `;time=` may follow, at which playback shall begin (RFC 2326 section 12.29). We begin at once.
    let npt = text.as_str().split(';').next().unwrap_or_default().trim();
    // Ranges in `smpte` and `clock` are not supported, so they are not parsed.
    if !npt.starts_with("npt") {
        return Err(StatusCode::InvalidRange);
    }
    match npt.parse().map_err(|_| StatusCode::InvalidRange)? {
        Range::Npt(NptRange::Empty) => Ok((None, None)),
        Range::Npt(NptRange::From(from)) => Ok((parse_npt(from)?, None)),
        Range::Npt(NptRange::FromTo(from, to)) => Ok((parse_npt(from)?, parse_npt(to)?)),
        Range::Npt(NptRange::To(to)) => Ok((None, parse_npt(to)?)),
        _ => Err(StatusCode::InvalidRange),
    }
}

/// A normal play time; `None` for `now`, which is where playback stopped.
fn parse_npt(time: NptTime) -> Result<Option<Duration>, StatusCode> {
    match time {
        NptTime::Now => Ok(None),
        NptTime::Seconds(seconds, nanos) => Ok(Some(Duration::new(seconds, nanos.unwrap_or(0)))),
        NptTime::Hms(hours, minutes, seconds, nanos) => {
            let whole = hours.checked_mul(3600).and_then(|s| s.checked_add(60 * u64::from(minutes)));
            let whole = whole.and_then(|s| s.checked_add(seconds.into())).ok_or(StatusCode::InvalidRange)?;
            Ok(Some(Duration::new(whole, nanos.unwrap_or(0))))
        }
    }
}

/// The Range header of a response to PLAY. `span` is `None` if live.
pub(super) fn range_header(span: Option<(Duration, Duration)>) -> Range {
    let time = |at: Duration| NptTime::Seconds(at.as_secs(), Some(at.subsec_nanos()));
    Range::Npt(match span {
        None => NptRange::From(NptTime::Now),
        Some((from, to)) => NptRange::FromTo(time(from), time(to)),
    })
}

#[cfg(test)]
mod tests;
