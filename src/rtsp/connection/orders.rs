//! Doing what is asked for: the part of a connection that looks at stations and sessions.

use std::net::SocketAddr;
use std::sync::Arc;

use rtsp_types::headers::rtp_info::v1::RtpInfo;
use rtsp_types::headers::{self, Public, RtpInfos, Scale};
use rtsp_types::{Request, Response, ResponseBuilder, StatusCode, Url};
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use super::Connection;
use crate::headend::{ClientKind, NotRecorded, StationHandle, describe};
use crate::rtsp::conversation::{self, Kind, METHODS, Order, Refusal, Resource, Wish, answer};
use crate::rtsp::delivery::Delivery;
use crate::rtsp::demand::Programme;
use crate::rtsp::session::{Audit, Command, Life, Session, SessionId, TIMEOUT};
use crate::rtsp::sink::{Sink, Tcp, Udp};
use crate::rtsp::transport::{Offer, Way};
use crate::rtsp::{RETRY_AFTER, SESSIONS_PER_CONNECTION};
use crate::wire::rtcp::NTP_EPOCH;
use crate::wire::sdp::{Description, Transport};

impl Connection {
    /// Does what a request asks for. What is put into `go` begins when it is dropped: after the response.
    pub(super) async fn carry_out(
        &mut self,
        order: Order,
        request: &Request<Vec<u8>>,
        cseq: Option<u32>,
        go: &mut Option<oneshot::Sender<()>>,
    ) -> Result<Response<Vec<u8>>, Refusal> {
        let ok = answer(StatusCode::Ok, cseq);
        let in_session = |id: SessionId| {
            answer(StatusCode::Ok, cseq)
                .typed_header(&headers::Session::with_timeout(id.to_string(), TIMEOUT.as_secs()))
        };
        let uri = || request.request_uri().ok_or(Refusal::from(StatusCode::BadRequest));
        match order {
            Order::Options => Ok(ok.typed_header(&Public::from(&METHODS[..])).build(Vec::new())),
            Order::KeepAlive => Ok(match conversation::session(request) {
                Some(id) => in_session(id).build(Vec::new()),
                None => ok.build(Vec::new()),
            }),
            Order::Describe(resource) => {
                let sdp = self.describe(uri()?, resource).await?;
                let base = conversation::base(uri()?, resource);
                Ok(ok
                    .header(headers::CONTENT_BASE, base.as_str())
                    .header(headers::CONTENT_TYPE, "application/sdp")
                    .build(sdp.into_bytes()))
            }
            Order::Setup { resource, offer } => {
                let (id, way) = self.set_up(resource, offer).await?;
                Ok(in_session(id).typed_header(&way.header()).build(Vec::new()))
            }
            Order::SetupAgain(id) => {
                let way = self.session(id)?.way;
                Ok(in_session(id).typed_header(&way.header()).build(Vec::new()))
            }
            Order::Play(id, wish) => self.play(id, wish, uri()?, in_session(id), go).await,
            Order::Pause(id) => {
                self.tell(id, Command::Pause).await?;
                Ok(in_session(id).build(Vec::new()))
            }
            Order::Teardown(id) => {
                // No picture comes behind the response.
                self.tell(id, Command::End).await?;
                self.shared.sessions.remove(id);
                self.sessions.retain(|&own| own != id);
                Ok(ok.build(Vec::new()))
            }
        }
    }

    fn session(&self, id: SessionId) -> Result<Arc<Session>, Refusal> {
        self.shared.sessions.get(id).ok_or_else(|| StatusCode::SessionNotFound.into())
    }

    async fn play(
        &self,
        id: SessionId,
        wish: Wish,
        uri: &Url,
        response: ResponseBuilder,
        go: &mut Option<oneshot::Sender<()>>,
    ) -> Result<Response<Vec<u8>>, Refusal> {
        let session = self.session(id)?;
        let (started, answer) = oneshot::channel();
        let over = || Refusal::from(StatusCode::SessionNotFound);
        session.commands.send(Command::Play(wish, started)).await.map_err(|_| over())?;
        let mut started = answer.await.map_err(|_| over())??;
        *go = started.go.take();
        let info = RtpInfo {
            uri: conversation::control(uri, session.resource),
            seq: started.sequence,
            rtptime: started.timestamp,
        };
        let range = conversation::npt(started.span);
        let mut response = response.typed_header(&range).typed_header(&RtpInfos::V1(vec![info]));
        if wish.scale.is_some() {
            response = response.typed_header(&Scale::from(started.scale));
        }
        Ok(response.build(Vec::new()))
    }

    async fn tell(
        &self,
        id: SessionId,
        command: impl FnOnce(oneshot::Sender<()>) -> Command,
    ) -> Result<(), Refusal> {
        let session = self.session(id)?;
        let (done, answer) = oneshot::channel();
        let over = || Refusal::from(StatusCode::SessionNotFound);
        session.commands.send(command(done)).await.map_err(|_| over())?;
        answer.await.map_err(|_| over())
    }

    fn monitor(&self, resource: Resource) -> Result<Arc<StationHandle>, Refusal> {
        self.shared.head_end.station(resource.station).cloned().ok_or_else(|| StatusCode::NotFound.into())
    }

    async fn describe(&self, uri: &Url, resource: Resource) -> Result<String, Refusal> {
        let monitor = self.monitor(resource)?;
        let programme = self.programme(&monitor, resource.kind).await?;
        let control = conversation::control(uri, resource);
        let head_end = &self.shared.head_end;
        let description = Description {
            name: &monitor.spec.name,
            origin: self.local.ip(),
            // By NTP time (RFC 8866 section 5.2).
            session: head_end.since.0 / 1_000_000_000 + NTP_EPOCH,
            rate: match &programme {
                Some(programme) => programme.rate(),
                None => monitor.film_rate(),
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
        monitor: &Arc<StationHandle>,
        kind: Kind,
    ) -> Result<Option<Arc<Programme>>, Refusal> {
        let Kind::Demand = kind else { return Ok(None) };
        let later = || {
            let seconds = RETRY_AFTER.as_secs().to_string();
            Refusal::with(StatusCode::ServiceUnavailable, headers::RETRY_AFTER, seconds)
        };
        match self.shared.reels(monitor).await {
            Some(Ok(reels)) => {
                let programme = Programme::new(reels, self.shared.reads.clone());
                programme.map(|programme| Some(Arc::new(programme))).ok_or_else(later)
            }
            Some(Err(NotRecorded::Never)) => Err(StatusCode::NotFound.into()),
            Some(Err(NotRecorded::NotYet)) | None => Err(later()),
        }
    }

    async fn set_up(&mut self, resource: Resource, offer: Offer) -> Result<(SessionId, Way), Refusal> {
        let full = || Refusal::from(StatusCode::ServiceUnavailable);
        let monitor = self.monitor(resource)?;
        self.has_sessions();
        if self.sessions.len() >= SESSIONS_PER_CONNECTION {
            return Err(full());
        }
        let programme = self.programme(&monitor, resource.kind).await?;
        let place = self.shared.sessions.place(self.peer.ip()).ok_or_else(full)?;
        let head_end = &self.shared.head_end;
        let (sink, way) = match offer {
            Offer::Multicast => {
                let spec = &monitor.spec;
                let source = describe::source(spec).unwrap_or(self.local.ip());
                (Sink::Nowhere, Way::Multicast { group: spec.group, ttl: spec.ttl, source })
            }
            Offer::Udp { rtp, rtcp } => {
                let spread = monitor.spec.spread;
                let opened = Udp::open(&head_end.air, self.local, self.peer, (rtp, rtcp), spread);
                let (udp, way) = opened.map_err(|error| {
                    debug!(peer = %self.peer, %error, "rtsp: no sockets for a session");
                    full()
                })?;
                (Sink::Udp(udp), way)
            }
            Offer::Interleaved(pair) => {
                let channels = self.channels(pair).ok_or(StatusCode::UnsupportedTransport)?;
                let (tcp, way) = Tcp::new(self.writer.clone(), channels);
                (Sink::Tcp(Arc::new(tcp)), way)
            }
        };
        let life = Arc::new(Life::new());
        let served = match way {
            Way::Multicast { .. } => None,
            Way::Udp { client, ssrc, .. } => {
                let client = SocketAddr::new(self.peer.ip(), client.0);
                Some((client, ClientKind::RtspUdp, ssrc))
            }
            Way::Interleaved { ssrc, .. } => Some((self.peer, ClientKind::RtspTcp, ssrc)),
        };
        let audit = served.map(|(peer, kind, ssrc)| {
            let client = head_end.clients.enter(resource.station, peer, kind);
            Audit { ssrc, client, life: life.clone() }
        });
        let (commands, orders) = mpsc::channel(1);
        let length = programme.as_ref().map(|programme| programme.length());
        let delivery = Delivery {
            clock: head_end.clock.clone(),
            table: head_end.table.clone(),
            monitor,
            programme,
            sink,
            fanouts: self.shared.fanouts.clone(),
            life: life.clone(),
            audit: audit.clone(),
            cname: format!("stationcast@{}", self.local.ip()),
        };
        let owner = self.peer.ip();
        let session = Session { owner, resource, way, length, life, audit, commands, _place: place };
        let id = self.shared.sessions.enter(session, delivery.run(orders));
        self.sessions.push(id);
        Ok((id, way))
    }

    /// Two channels that no session of this connection has: those that are wanted, or any.
    fn channels(&self, wanted: Option<(u8, u8)>) -> Option<(u8, u8)> {
        let taken: Vec<u8> = self
            .sessions
            .iter()
            .filter_map(|&id| match self.shared.sessions.get(id)?.way {
                Way::Interleaved { channels, .. } => Some([channels.0, channels.1]),
                Way::Multicast { .. } | Way::Udp { .. } => None,
            })
            .flatten()
            .collect();
        let free = |&(rtp, rtcp): &(u8, u8)| !taken.contains(&rtp) && !taken.contains(&rtcp);
        let any = (0..SESSIONS_PER_CONNECTION as u8).map(|n| (2 * n, 2 * n + 1));
        wanted.into_iter().chain(any).find(free)
    }
}
