//! Publishing by ANNOUNCE and RECORD (RFC 2326 sections 10.3 and 10.11): what FFmpeg, GStreamer's rtspclientsink and OBS speak. The
//! methods of a connection that publishes; it has one recording, and no sessions that play.
//!
//! - `target`: the station that a request names, and the token in its URL.
//! - `session`: the recording of a connection, from its description to its packets.
//! - `packet_numbers`: the sequence numbers and timestamps of a track, without wraps. Pure.

mod packet_numbers;
mod session;
mod target;

use rtsp_types::headers::{self, Public, WWW_AUTHENTICATE};
use rtsp_types::{Method, Request, Response, StatusCode, Url};
use sdp_types::Session;
use tokio::time::Instant;
use tracing::{debug, info};

pub(super) use session::PublishSession;
use target::PublishTarget;

use super::connection::RtspConnection;
use super::request::{self, METHODS, session_id};
use super::response::{Echo, Rejection, response};
use super::session::SESSION_TIMEOUT;
use super::transport::TransportOffer;
use crate::access::Denied;
use crate::headend::publishers::{PublishRefusal, PublishRequest};

/// Asks for the token.
const CHALLENGE: &str = "Basic realm=\"stationcast\"";

impl From<PublishRefusal> for Rejection {
    fn from(refusal: PublishRefusal) -> Rejection {
        let rejection = match &refusal {
            PublishRefusal::NoPlace(_) => Rejection::from(StatusCode::NotFound),
            PublishRefusal::Token | PublishRefusal::Name { .. } => {
                Rejection::with(StatusCode::Unauthorized, WWW_AUTHENTICATE, CHALLENGE)
            }
            PublishRefusal::Forbidden(_) => Rejection::from(StatusCode::Forbidden),
            PublishRefusal::Full(_) => return Rejection::unavailable(&refusal),
        };
        rejection.because(&refusal)
    }
}

/// A URL without its password and token, for the log.
fn without_token(mut url: Url) -> String {
    url.set_query(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

/// For the fuzzer: reads what a publisher may ask and describe.
#[cfg(fuzzing)]
pub(super) fn fuzz(request: &Request<Vec<u8>>) {
    if let Some(target) = request.request_uri().and_then(PublishTarget::parse) {
        let _ = target.token(request);
    }
    if let Ok(session) = Session::parse(request.body()) {
        let _ = crate::wire::sdp::offers::offered_tracks(&session);
        let _ = crate::wire::sdp::offers::offered_codecs(&session);
    }
}

impl RtspConnection {
    /// Executes a request of a publisher; `None` of any other.
    pub(super) async fn publish(
        &mut self,
        request: &Request<Vec<u8>>,
        echo: &Echo,
    ) -> Option<Result<Response<Vec<u8>>, Rejection>> {
        let method = request.method();
        if self.recording.is_none() && !matches!(method, Method::Announce | Method::Record) {
            return None;
        }
        Some(match request::check(request) {
            Ok(()) => self.execute_publishing(request, echo).await,
            Err(rejection) => Err(rejection),
        })
    }

    async fn execute_publishing(
        &mut self,
        request: &Request<Vec<u8>>,
        echo: &Echo,
    ) -> Result<Response<Vec<u8>>, Rejection> {
        let not_now = |why: &str| Rejection::from(StatusCode::MethodNotValidInThisState).because(&why);
        if *request.method() == Method::Announce {
            if self.recording.is_some() {
                return Err(not_now("this connection publishes already; open another one"));
            }
            self.announce(request).await?;
            return Ok(response(StatusCode::Ok, echo).build(Vec::new()));
        }
        let Some(recording) = &mut self.recording else {
            return Err(not_now("nothing has been announced; send ANNOUNCE and SETUP first"));
        };
        let (id, station) = (recording.id, recording.station());
        if request.header(&headers::SESSION).is_some() && session_id(request) != Some(id) {
            return Err(StatusCode::SessionNotFound.into());
        }
        let session = headers::Session::with_timeout(id.to_string(), SESSION_TIMEOUT.as_secs());
        let in_session = response(StatusCode::Ok, echo).typed_header(&session);
        match request.method() {
            Method::Options => Ok(in_session.typed_header(&Public::from(&METHODS[..])).build(Vec::new())),
            Method::GetParameter | Method::SetParameter => Ok(in_session.build(Vec::new())),
            Method::Setup => {
                let uri = request.request_uri().ok_or(StatusCode::BadRequest)?;
                let target = PublishTarget::parse(uri).ok_or(StatusCode::NotFound)?;
                let offer = TransportOffer::first_to_record(request.as_ref(), self.peer.ip())?;
                let transport = recording.set_up(&target.control, offer, self.local, self.peer)?;
                Ok(in_session.typed_header(&transport).build(Vec::new()))
            }
            Method::Record => {
                if !recording.record() {
                    return Err(not_now("the track of the pictures is not set up; send SETUP for it first"));
                }
                self.reader.expect_packets();
                // Where the stream is watched (RFC 2326 section 12.16): the publisher's URL tells no number.
                let watched_at = request.request_uri().and_then(|url| url.join(&format!("/{station}")).ok());
                let in_session = match watched_at {
                    Some(url) => in_session.header(headers::CONTENT_LOCATION, without_token(url)),
                    None => in_session,
                };
                Ok(in_session.build(Vec::new()))
            }
            Method::Teardown => {
                self.recording = None;
                Ok(response(StatusCode::Ok, echo).build(Vec::new()))
            }
            _ => Err(not_now("this connection publishes; open another one to watch")),
        }
    }

    /// Logs a refusal, unless another one was logged less than a second before.
    fn log_refusal(&self, now: Instant, sentence: impl FnOnce() -> String) {
        let peer = self.peer.ip();
        match self.server.head_end.publishers.note_refusal(now) {
            None => {}
            Some(1) => info!("publish: {peer} {}", sentence()),
            Some(count) => info!("publish: {peer} {}; {} more were refused before", sentence(), count - 1),
        }
    }

    /// Gives the publisher its station, and reads its description.
    #[expect(clippy::disallowed_methods, reason = "a shell: a publisher comes now")]
    async fn announce(&mut self, request: &Request<Vec<u8>>) -> Result<(), Rejection> {
        let target = request.request_uri().and_then(PublishTarget::parse).ok_or_else(|| {
            let why = "a station is published to rtsp://HOST:PORT/publish/NAME";
            Rejection::from(StatusCode::Forbidden).because(&why)
        })?;
        let token = target.token(request);
        let asked = |connection: &RtspConnection| {
            connection.server.head_end.publisher(&PublishRequest {
                name: &target.name,
                token: token.as_deref(),
                grant: &connection.grant,
                peer: connection.peer.ip(),
                tls: connection.tls,
                now: Instant::now(),
            })
        };
        let mut given = asked(self);
        if let Err(PublishRefusal::Name { or_token }) = given {
            if request::credentials(request).is_some() {
                self.identify(request).await?;
                given = asked(self);
            } else if !or_token && !self.is_safe() {
                return Err(Rejection::from(StatusCode::Forbidden).because(&Denied::Plain));
            }
        }
        let publisher = given.inspect_err(|refusal| match refusal {
            // A client asks without the token first.
            PublishRefusal::Token | PublishRefusal::Name { .. } if token.is_none() => {}
            refusal => {
                self.log_refusal(Instant::now(), || {
                    format!("may not publish to {:?}: {refusal}", target.name)
                });
            }
        })?;
        let is_sdp = |kind: &str| {
            kind.split(';').next().unwrap_or_default().trim_ascii().eq_ignore_ascii_case("application/sdp")
        };
        let kind = request.header(&headers::CONTENT_TYPE).map(|kind| kind.as_str());
        if kind.is_some_and(|kind| !is_sdp(kind)) {
            return Err(StatusCode::UnsupportedMediaType.into());
        }
        let described =
            Session::parse(request.body()).map_err(|_| "it is no session description (SDP)".to_owned());
        let recording = described.and_then(|session| {
            let (clock, id) = (self.server.head_end.clock.clone(), self.server.sessions.new_id());
            PublishSession::new(publisher, id, &session, &clock)
        });
        match recording {
            Ok(recording) => {
                debug!(peer = %self.peer, "rtsp: {} is announced", target.name);
                self.recording = Some(Box::new(recording));
                Ok(())
            }
            Err(why) => {
                self.log_refusal(Instant::now(), || {
                    format!("announces what cannot be shown for {:?}: {why}", target.name)
                });
                Err(Rejection::from(StatusCode::UnsupportedMediaType).because(&why))
            }
        }
    }
}
