//! Doing what is asked for: the part of a connection that looks at stations and sessions.

use std::net::SocketAddr;
use std::sync::Arc;

use rtsp_types::headers::rtp_info::v1::RtpInfo;
use rtsp_types::headers::{self, Public, RtpInfos, Scale};
use rtsp_types::{Request, Response, ResponseBuilder, StatusCode, Url};
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use super::Connection;
use crate::headend::{self, NotRecorded, StationHandle, describe};
use crate::rtsp::request::{self, Kind, METHODS, PlayRange, Rejection, Resource, RtspRequest, answer};
use crate::rtsp::session::{KeepAlive, ReceiverReports, RtspSession, SessionCommand, SessionId, TIMEOUT};
use crate::rtsp::session_task::SessionTask;
use crate::rtsp::sink::{Sink, TcpSink, UdpSink};
use crate::rtsp::transport::{SessionTransport, TransportOffer};
use crate::rtsp::vod::ReelSequence;
use crate::rtsp::{RETRY_AFTER, SESSIONS_PER_CONNECTION};
use crate::wire::rtcp::NTP_EPOCH;
use crate::wire::sdp::{Description, Transport};

impl Connection {
    /// Does what a request asks for. What is put into `go` begins when it is dropped: after the response.
    pub(super) async fn carry_out(
        &mut self,
        order: RtspRequest,
        request: &Request<Vec<u8>>,
        cseq: Option<u32>,
        go: &mut Option<oneshot::Sender<()>>,
    ) -> Result<Response<Vec<u8>>, Rejection> {
        let ok = answer(StatusCode::Ok, cseq);
        let in_session = |id: SessionId| {
            answer(StatusCode::Ok, cseq)
                .typed_header(&headers::Session::with_timeout(id.to_string(), TIMEOUT.as_secs()))
        };
        let uri = || request.request_uri().ok_or(Rejection::from(StatusCode::BadRequest));
        match order {
            RtspRequest::Options => Ok(ok.typed_header(&Public::from(&METHODS[..])).build(Vec::new())),
            RtspRequest::KeepAlive => Ok(match request::session(request) {
                Some(id) => in_session(id).build(Vec::new()),
                None => ok.build(Vec::new()),
            }),
            RtspRequest::Describe(resource) => {
                let sdp = self.describe(uri()?, resource).await?;
                let base = request::base(uri()?, resource);
                Ok(ok
                    .header(headers::CONTENT_BASE, base.as_str())
                    .header(headers::CONTENT_TYPE, "application/sdp")
                    .build(sdp.into_bytes()))
            }
            RtspRequest::Setup { resource, offer } => {
                let (id, transport) = self.set_up(resource, offer).await?;
                Ok(in_session(id).typed_header(&transport.header()).build(Vec::new()))
            }
            RtspRequest::SetupAgain(id) => {
                let transport = self.session(id)?.transport;
                Ok(in_session(id).typed_header(&transport.header()).build(Vec::new()))
            }
            RtspRequest::Play(id, wish) => self.play(id, wish, uri()?, in_session(id), go).await,
            RtspRequest::Pause(id) => {
                self.tell(id, SessionCommand::Pause).await?;
                Ok(in_session(id).build(Vec::new()))
            }
            RtspRequest::Teardown(id) => {
                // No picture comes behind the response.
                self.tell(id, SessionCommand::End).await?;
                self.shared.sessions.remove(id);
                self.sessions.retain(|&own| own != id);
                Ok(ok.build(Vec::new()))
            }
        }
    }

    fn session(&self, id: SessionId) -> Result<Arc<RtspSession>, Rejection> {
        self.shared.sessions.get(id).ok_or_else(|| StatusCode::SessionNotFound.into())
    }

    async fn play(
        &self,
        id: SessionId,
        wish: PlayRange,
        uri: &Url,
        response: ResponseBuilder,
        go: &mut Option<oneshot::Sender<()>>,
    ) -> Result<Response<Vec<u8>>, Rejection> {
        let session = self.session(id)?;
        let (started, answer) = oneshot::channel();
        let over = || Rejection::from(StatusCode::SessionNotFound);
        session.commands.send(SessionCommand::Play(wish, started)).await.map_err(|_| over())?;
        let mut started = answer.await.map_err(|_| over())??;
        *go = started.go.take();
        let info = RtpInfo {
            uri: request::control(uri, session.resource),
            seq: started.sequence,
            rtptime: started.timestamp,
        };
        let range = request::npt(started.span);
        let mut response = response.typed_header(&range).typed_header(&RtpInfos::V1(vec![info]));
        if wish.scale.is_some() {
            response = response.typed_header(&Scale::from(started.scale));
        }
        Ok(response.build(Vec::new()))
    }

    async fn tell(
        &self,
        id: SessionId,
        command: impl FnOnce(oneshot::Sender<()>) -> SessionCommand,
    ) -> Result<(), Rejection> {
        let session = self.session(id)?;
        let (done, answer) = oneshot::channel();
        let over = || Rejection::from(StatusCode::SessionNotFound);
        session.commands.send(command(done)).await.map_err(|_| over())?;
        answer.await.map_err(|_| over())
    }

    fn station(&self, resource: Resource) -> Result<Arc<StationHandle>, Rejection> {
        self.shared.head_end.station(resource.station).cloned().ok_or_else(|| StatusCode::NotFound.into())
    }

    async fn describe(&self, uri: &Url, resource: Resource) -> Result<String, Rejection> {
        let station = self.station(resource)?;
        let programme = self.programme(&station, resource.kind).await?;
        let control = request::control(uri, resource);
        let head_end = &self.shared.head_end;
        let description = Description {
            name: &station.spec.name,
            origin: self.local.ip(),
            // By NTP time (RFC 8866 section 5.2).
            session: head_end.since.0 / 1_000_000_000 + NTP_EPOCH,
            rate: match &programme {
                Some(programme) => programme.rate(),
                None => station.film_rate(),
            },
            by_ntp: true,
            transport: Transport::Rtsp {
                control: control.as_str(),
                length: programme.map(|programme| programme.length()),
            },
        };
        Ok(description.to_sdp())
    }

    /// The programme of what is watched on demand.
    async fn programme(
        &self,
        station: &Arc<StationHandle>,
        kind: Kind,
    ) -> Result<Option<Arc<ReelSequence>>, Rejection> {
        let Kind::OnDemand = kind else { return Ok(None) };
        let later = || {
            let seconds = RETRY_AFTER.as_secs().to_string();
            Rejection::with(StatusCode::ServiceUnavailable, headers::RETRY_AFTER, seconds)
        };
        match self.shared.reels(station).await {
            Some(Ok(reels)) => {
                let programme = ReelSequence::new(reels, self.shared.reads.clone());
                programme.map(|programme| Some(Arc::new(programme))).ok_or_else(later)
            }
            Some(Err(NotRecorded::Never)) => Err(StatusCode::NotFound.into()),
            Some(Err(NotRecorded::NotYet)) | None => Err(later()),
        }
    }

    async fn set_up(
        &mut self,
        resource: Resource,
        offer: TransportOffer,
    ) -> Result<(SessionId, SessionTransport), Rejection> {
        let full = || Rejection::from(StatusCode::ServiceUnavailable);
        let station = self.station(resource)?;
        self.has_sessions();
        if self.sessions.len() >= SESSIONS_PER_CONNECTION {
            return Err(full());
        }
        let programme = self.programme(&station, resource.kind).await?;
        let place = self.shared.sessions.place(self.peer.ip()).ok_or_else(full)?;
        let head_end = &self.shared.head_end;
        let (sink, transport) = match offer {
            TransportOffer::Multicast => {
                let spec = &station.spec;
                let source = describe::source(spec).unwrap_or(self.local.ip());
                (Sink::Nowhere, SessionTransport::Multicast { group: spec.group, ttl: spec.ttl, source })
            }
            TransportOffer::Udp { rtp, rtcp } => {
                let spread = station.spec.spread;
                let opened = UdpSink::open(&head_end.air, self.local, self.peer, (rtp, rtcp), spread);
                let (udp, transport) = opened.map_err(|error| {
                    debug!(peer = %self.peer, %error, "rtsp: no sockets for a session");
                    full()
                })?;
                (Sink::Udp(udp), transport)
            }
            TransportOffer::Interleaved(pair) => {
                let channels = self.channels(pair).ok_or(StatusCode::UnsupportedTransport)?;
                let (tcp, transport) = TcpSink::new(self.writer.clone(), channels);
                (Sink::Tcp(Arc::new(tcp)), transport)
            }
        };
        let keep_alive = Arc::new(KeepAlive::new());
        let served = match transport {
            SessionTransport::Multicast { .. } => None,
            SessionTransport::Udp { client, ssrc, .. } => {
                let client = SocketAddr::new(self.peer.ip(), client.0);
                Some((client, headend::Way::RtspUdp, ssrc))
            }
            SessionTransport::Interleaved { ssrc, .. } => Some((self.peer, headend::Way::RtspTcp, ssrc)),
        };
        let receiver_reports = served.map(|(peer, transport, ssrc)| {
            let client = head_end.clients.enter(resource.station, peer, transport);
            ReceiverReports { ssrc, client, keep_alive: keep_alive.clone() }
        });
        let (commands, orders) = mpsc::channel(1);
        let length = programme.as_ref().map(|programme| programme.length());
        let delivery = SessionTask {
            clock: head_end.clock.clone(),
            table: head_end.table.clone(),
            station,
            programme,
            sink,
            fanouts: self.shared.fanouts.clone(),
            keep_alive: keep_alive.clone(),
            receiver_reports: receiver_reports.clone(),
            cname: format!("stationcast@{}", self.local.ip()),
        };
        let owner = self.peer.ip();
        let session = RtspSession {
            owner,
            resource,
            transport,
            length,
            keep_alive,
            receiver_reports,
            commands,
            _place: place,
        };
        let id = self.shared.sessions.enter(session, delivery.run(orders));
        self.sessions.push(id);
        Ok((id, transport))
    }

    /// Two channels that no session of this connection has: those that are wanted, or any.
    fn channels(&self, wanted: Option<(u8, u8)>) -> Option<(u8, u8)> {
        let taken: Vec<u8> = self
            .sessions
            .iter()
            .filter_map(|&id| match self.shared.sessions.get(id)?.transport {
                SessionTransport::Interleaved { channels, .. } => Some([channels.0, channels.1]),
                SessionTransport::Multicast { .. } | SessionTransport::Udp { .. } => None,
            })
            .flatten()
            .collect();
        let free = |&(rtp, rtcp): &(u8, u8)| !taken.contains(&rtp) && !taken.contains(&rtcp);
        let any = (0..SESSIONS_PER_CONNECTION as u8).map(|n| (2 * n, 2 * n + 1));
        wanted.into_iter().chain(any).find(free)
    }
}
