//! What a request asks for, and whether it may: RFC 2326 without a socket, a clock or a station. Pure.
//!
//! ```text
//! bytes -> MessageReader -> Request -> RtspRequest::of -> RtspRequest -> connection: does it, answers
//!                                       \-> Rejection ---------------> answers
//! ```

use std::net::IpAddr;
use std::time::Duration;

use rtsp_types::headers::{self, CSeq, NptRange, NptTime, Range, Scale};
use rtsp_types::{HeaderName, Method, Request, Response, ResponseBuilder, StatusCode, Url, Version};

use super::session::SessionId;
use super::transport::{SessionTransport, TransportOffer};
use crate::media::StationId;

/// What is served.
pub(super) const METHODS: [Method; 8] = [
    Method::Options,
    Method::Describe,
    Method::Setup,
    Method::Play,
    Method::Pause,
    Method::Teardown,
    Method::GetParameter,
    Method::SetParameter,
];

/// The last part of a medium's URL.
const VIDEO: &str = "video";
const DEMAND: &str = "demand";

/// How fast a programme may be played. Faster than it was made for, pictures are left out.
const SCALES: (f64, f64) = (0.5, 4.0);

/// What can be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resource {
    pub(super) station: StationId,
    pub(super) kind: Kind,
}

/// How it is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// As it is on air.
    Live,
    /// Its programme, for one client alone.
    OnDemand,
}

/// What is known of a session that a request names.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionInfo {
    pub(super) owner: IpAddr,
    pub(super) resource: Resource,
    pub(super) transport: SessionTransport,
    pub(super) playing: bool,
    /// How long its programme is; a live station has no end.
    pub(super) length: Option<Duration>,
}

/// What a request asks for, after everything that can be said against it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum RtspRequest {
    Options,
    Describe(Resource),
    Setup {
        resource: Resource,
        offer: TransportOffer,
    },
    /// A SETUP of what is set up just so.
    SetupAgain(SessionId),
    Play(SessionId, PlayRange),
    Pause(SessionId),
    Teardown(SessionId),
    KeepAlive,
}

/// From where, to where and how fast. Of a live station nothing of it matters.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct PlayRange {
    /// `None`: where it stopped.
    pub(super) from: Option<Duration>,
    /// `None`: to the end.
    pub(super) to: Option<Duration>,
    /// `None`: nothing was said.
    pub(super) scale: Option<f64>,
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) status: StatusCode,
    /// The header that says more.
    pub(super) header: Option<(HeaderName, String)>,
}

impl From<StatusCode> for Rejection {
    fn from(status: StatusCode) -> Rejection {
        Rejection { status, header: None }
    }
}

impl Rejection {
    pub(super) fn with(status: StatusCode, name: HeaderName, value: impl Into<String>) -> Rejection {
        Rejection { status, header: Some((name, value.into())) }
    }

    pub(super) fn response(self, cseq: Option<u32>) -> Response<Vec<u8>> {
        let mut response = answer(self.status, cseq);
        if let Some((name, value)) = self.header {
            response = response.header(name, value);
        }
        response.build(Vec::new())
    }
}

/// The beginning of every response.
pub(super) fn answer(status: StatusCode, cseq: Option<u32>) -> ResponseBuilder {
    // Some clients look for "OK"; rtsp-types says "Ok".
    let reason = if status == StatusCode::Ok { "OK".to_owned() } else { status.to_string() };
    let response = Response::builder(Version::V1_0, status)
        .reason_phrase(reason)
        .header(headers::SERVER, concat!("stationcast/", env!("CARGO_PKG_VERSION")));
    match cseq {
        Some(cseq) => response.typed_header(&CSeq::from(cseq)),
        None => response,
    }
}

/// The number of a request, if it has one.
pub(super) fn cseq(request: &Request<Vec<u8>>) -> Option<u32> {
    request.typed_header::<CSeq>().ok().flatten().map(u32::from)
}

/// The session that a request names, whether there is one or not.
pub(super) fn session(request: &Request<Vec<u8>>) -> Option<SessionId> {
    let header = request.typed_header::<headers::Session>().ok().flatten()?;
    header.0.trim().parse().ok()
}

impl RtspRequest {
    /// What `request` asks for. It comes from `peer`; `view` knows the session that it names, if there is one.
    ///
    /// # Errors
    /// All that needs no look at a station.
    pub(super) fn of(
        request: &Request<Vec<u8>>,
        peer: IpAddr,
        view: Option<SessionInfo>,
    ) -> Result<RtspRequest, Rejection> {
        if request.version() != Version::V1_0 {
            return Err(StatusCode::RTSPVersionNotSupported.into());
        }
        if cseq(request).is_none() {
            return Err(StatusCode::BadRequest.into());
        }
        for header in [headers::REQUIRE, headers::PROXY_REQUIRE] {
            if let Some(options) = request.header(&header) {
                let (status, options) = (StatusCode::OptionNotSupported, options.as_str());
                return Err(Rejection::with(status, headers::UNSUPPORTED, options));
            }
        }
        if !METHODS.contains(request.method()) {
            return Err(Rejection::with(StatusCode::NotImplemented, headers::PUBLIC, list(&METHODS)));
        }
        // A session of somebody else's is as good as none: nothing tells whether there is one.
        let named = session(request).zip(view.filter(|view| view.owner == peer));
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
        let target = RequestTarget::of(uri);
        match request.method() {
            Method::Options => Ok(RtspRequest::Options),
            Method::GetParameter | Method::SetParameter => parameters(request),
            Method::Describe => describe(request, target.ok_or(StatusCode::NotFound)?),
            Method::Setup => setup(request, peer, target.ok_or(StatusCode::NotFound)?, named),
            method => {
                let (id, view) = named.ok_or(StatusCode::SessionNotFound)?;
                let target = target.ok_or(StatusCode::NotFound)?;
                if target.resource != view.resource {
                    return Err(StatusCode::SessionNotFound.into());
                }
                match method {
                    Method::Teardown => Ok(RtspRequest::Teardown(id)),
                    // There is one medium, but what is played is the presentation.
                    _ if target.medium => Err(StatusCode::OnlyAggregateOperationAllowed.into()),
                    Method::Pause => Ok(RtspRequest::Pause(id)),
                    _ => Ok(RtspRequest::Play(id, PlayRange::of(request, view.length)?)),
                }
            }
        }
    }
}

fn describe(request: &Request<Vec<u8>>, target: RequestTarget) -> Result<RtspRequest, Rejection> {
    if target.medium {
        return Err(StatusCode::NotFound.into());
    }
    let takes = |accept: &str| ["application/sdp", "application/*", "*/*"].iter().any(|t| accept.contains(t));
    if request.header(&headers::ACCEPT).is_some_and(|accept| !takes(accept.as_str())) {
        return Err(StatusCode::NotAcceptable.into());
    }
    Ok(RtspRequest::Describe(target.resource))
}

fn setup(
    request: &Request<Vec<u8>>,
    peer: IpAddr,
    target: RequestTarget,
    named: Option<(SessionId, SessionInfo)>,
) -> Result<RtspRequest, Rejection> {
    let resource = target.resource;
    if !target.medium {
        return Err(StatusCode::AggregateOperationNotAllowed.into());
    }
    if let Some((_, view)) = named {
        if view.resource != resource {
            return Err(StatusCode::AggregateOperationNotAllowed.into());
        }
        if view.playing {
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
    match named {
        None => Ok(RtspRequest::Setup { resource, offer }),
        Some((id, view)) if view.transport.is(&offer) => Ok(RtspRequest::SetupAgain(id)),
        Some(_) => Err(StatusCode::UnsupportedTransport.into()),
    }
}

/// There are none. A body that asks for or sets one is not understood; without a body it keeps a session alive.
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

/// What a URL names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RequestTarget {
    resource: Resource,
    /// Its only medium, not the presentation.
    medium: bool,
}

impl RequestTarget {
    /// `/2`, `/2/video`, `/2/demand`, `/2/demand/video`; a slash may follow.
    fn of(uri: &Url) -> Option<RequestTarget> {
        let mut parts = uri.path().trim_matches('/').split('/').peekable();
        let digits = parts.next().filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))?;
        let station = StationId(digits.parse().ok()?);
        let demand = parts.next_if_eq(&DEMAND).is_some();
        let medium = parts.next_if_eq(&VIDEO).is_some();
        let kind = if demand { Kind::OnDemand } else { Kind::Live };
        parts.next().is_none().then_some(RequestTarget { resource: Resource { station, kind }, medium })
    }
}

/// The URL of what is watched, as the client calls this server; it ends in a slash, as a base of others.
pub(super) fn base(uri: &Url, resource: Resource) -> Url {
    let mut base = uri.clone();
    base.set_query(None);
    base.set_fragment(None);
    // Refused where the scheme has no place for them: then there are none.
    let _ = base.set_username("");
    let _ = base.set_password(None);
    base.set_path(&match resource.kind {
        Kind::Live => format!("/{}/", resource.station),
        Kind::OnDemand => format!("/{}/{DEMAND}/", resource.station),
    });
    base
}

/// The URL of its medium.
pub(super) fn control(uri: &Url, resource: Resource) -> Url {
    let mut control = base(uri, resource);
    control.set_path(&format!("{}{VIDEO}", control.path()));
    control
}

impl PlayRange {
    fn of(request: &Request<Vec<u8>>, length: Option<Duration>) -> Result<PlayRange, Rejection> {
        let scale = request.typed_header::<Scale>().map_err(|_| StatusCode::BadRequest)?.map(f64::from);
        let Some(length) = length else {
            // Live is now, whatever the range: players ask for `npt=0-` of everything.
            range(request)?;
            return Ok(PlayRange { scale: scale.map(|_| 1.0), ..PlayRange::default() });
        };
        let scale = scale.map(|scale| if scale.is_nan() { 1.0 } else { scale.clamp(SCALES.0, SCALES.1) });
        let (from, to) = range(request)?;
        let begin = from.unwrap_or_default();
        if begin >= length || to.is_some_and(|to| to <= begin) {
            return Err(StatusCode::InvalidRange.into());
        }
        Ok(PlayRange { from, to: to.filter(|&to| to < length), scale })
    }
}

/// The ends of a Range header in normal play time.
fn range(request: &Request<Vec<u8>>) -> Result<(Option<Duration>, Option<Duration>), StatusCode> {
    let Some(text) = request.header(&headers::RANGE) else { return Ok((None, None)) };
    // RFC 2326 section 12.29 knows a `;time=` at which to begin; we begin at once.
    let npt = text.as_str().split(';').next().unwrap_or_default().trim();
    // Times of other clocks are none of ours, and are not even parsed.
    if !npt.starts_with("npt") {
        return Err(StatusCode::InvalidRange);
    }
    match npt.parse().map_err(|_| StatusCode::InvalidRange)? {
        Range::Npt(NptRange::Empty) => Ok((None, None)),
        Range::Npt(NptRange::From(from)) => Ok((seconds(from)?, None)),
        Range::Npt(NptRange::FromTo(from, to)) => Ok((seconds(from)?, seconds(to)?)),
        Range::Npt(NptRange::To(to)) => Ok((None, seconds(to)?)),
        _ => Err(StatusCode::InvalidRange),
    }
}

/// A time; `None` for `now`: where it stopped.
fn seconds(time: NptTime) -> Result<Option<Duration>, StatusCode> {
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

/// The Range header of what is played; `None` for what is live.
pub(super) fn npt(span: Option<(Duration, Duration)>) -> Range {
    let time = |at: Duration| NptTime::Seconds(at.as_secs(), Some(at.subsec_nanos()));
    Range::Npt(match span {
        None => NptRange::From(NptTime::Now),
        Some((from, to)) => NptRange::FromTo(time(from), time(to)),
    })
}

#[cfg(test)]
mod tests;
