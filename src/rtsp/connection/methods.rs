//! The RTSP methods: the part of a connection that looks at stations and sessions.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use rtsp_types::headers::rtp_info::v1::RtpInfo;
use rtsp_types::headers::{self, Public, RtpInfos, Scale};
use rtsp_types::{Request, Response, ResponseBuilder, StatusCode, Url};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use super::RtspConnection;
use crate::content::pass::EncodingPlace;
use crate::content::programme::Programme;
use crate::headend::{ClientKind, StationHandle};
use crate::media::tracks::PerTrack;
use crate::media::{SoundCodec, Track};
use crate::rtsp::SESSIONS_PER_CONNECTION;
use crate::rtsp::request::{self, CONTROL, Kind, METHODS, PlayRange, Resource, RtspRequest, control_url};
use crate::rtsp::response::{Echo, Rejection, response};
use crate::rtsp::session::{
    KeepAlive, ReceiverReports, RtspSession, SESSION_TIMEOUT, SessionCommand, SessionId, SessionTracks,
};
use crate::rtsp::session_task::SessionTask;
use crate::rtsp::sink::{Sink, TcpSink, UdpSink};
use crate::rtsp::transport::{SessionTransport, TransportOffer};
use crate::rtsp::vod::VodProgramme;
use crate::wire::rtcp::NTP_EPOCH;
use crate::wire::sdp::{Description, Transport, sound_port};

impl RtspConnection {
    /// Executes a request, which `parsed` comes from. Playback begins when the caller drops `hold`, after the response.
    pub(super) async fn execute(
        &mut self,
        parsed: RtspRequest,
        request: &Request<Vec<u8>>,
        echo: &Echo,
        hold: &mut Option<oneshot::Sender<()>>,
    ) -> Result<Response<Vec<u8>>, Rejection> {
        let ok = response(StatusCode::Ok, echo);
        let in_session = |id: SessionId| {
            response(StatusCode::Ok, echo)
                .typed_header(&headers::Session::with_timeout(id.to_string(), SESSION_TIMEOUT.as_secs()))
        };
        let uri = || request.request_uri().ok_or(Rejection::from(StatusCode::BadRequest));
        match parsed {
            RtspRequest::Options => Ok(ok.typed_header(&Public::from(&METHODS[..])).build(Vec::new())),
            RtspRequest::KeepAlive => Ok(match request::session_id(request) {
                Some(id) => in_session(id).build(Vec::new()),
                None => ok.build(Vec::new()),
            }),
            RtspRequest::Describe(resource) => {
                let sdp = self.describe(resource).await?;
                let base = request::content_base(uri()?, resource);
                Ok(ok
                    .header(headers::CONTENT_BASE, base.as_str())
                    .header(headers::CONTENT_TYPE, "application/sdp")
                    .build(sdp.into_bytes()))
            }
            RtspRequest::Setup { resource, track, offer } => {
                let (id, transport) = self.set_up(resource, track, offer).await?;
                Ok(in_session(id).typed_header(&transport.header()).build(Vec::new()))
            }
            RtspRequest::SetupMore { session: id, track, offer } => {
                let transport = self.set_up_more(id, track, offer).await?;
                Ok(in_session(id).typed_header(&transport.header()).build(Vec::new()))
            }
            RtspRequest::SetupAgain(id, track) => {
                let transports = self.session(id)?.transports();
                let transport = transports.get(track).ok_or(StatusCode::SessionNotFound)?;
                Ok(in_session(id).typed_header(&transport.header()).build(Vec::new()))
            }
            RtspRequest::Play(id, range) => self.play(id, range, uri()?, in_session(id), hold).await,
            RtspRequest::Pause(id) => {
                self.command(id, SessionCommand::Pause).await?;
                Ok(in_session(id).build(Vec::new()))
            }
            RtspRequest::Teardown(id) => {
                // The task is done before the response is sent: no picture follows it.
                self.command(id, SessionCommand::End).await?;
                self.server.sessions.remove(id);
                self.sessions.retain(|&own| own != id);
                Ok(ok.build(Vec::new()))
            }
        }
    }

    fn session(&self, id: SessionId) -> Result<Arc<RtspSession>, Rejection> {
        self.server.sessions.get(id).ok_or_else(|| StatusCode::SessionNotFound.into())
    }

    async fn play(
        &self,
        id: SessionId,
        range: PlayRange,
        uri: &Url,
        response: ResponseBuilder,
        hold: &mut Option<oneshot::Sender<()>>,
    ) -> Result<Response<Vec<u8>>, Rejection> {
        let session = self.session(id)?;
        let (reply, started) = oneshot::channel();
        let ended = || Rejection::from(StatusCode::SessionNotFound);
        session.commands.send(SessionCommand::Play(range, reply)).await.map_err(|_| ended())?;
        let mut started = started.await.map_err(|_| ended())??;
        *hold = started.hold.take();
        // The timestamps of all tracks are of one instant, so that a client needs no report to play them in step.
        let info = |(track, &sequence): (Track, &Option<u16>)| RtpInfo {
            uri: control_url(uri, session.resource, track),
            seq: sequence,
            rtptime: started.at.map(|at| at.ticks(track.clock_rate()) as u32), // modulo 2^32, as on the wire
        };
        let infos = started.sequences.iter().map(info).collect();
        let mut response =
            response.typed_header(&request::range_header(started.span)).typed_header(&RtpInfos::V1(infos));
        if range.scale.is_some() {
            response = response.typed_header(&Scale::from(started.scale));
        }
        Ok(response.build(Vec::new()))
    }

    /// Sends a command to a session, and waits until it is done.
    async fn command(
        &self,
        id: SessionId,
        command: impl FnOnce(oneshot::Sender<()>) -> SessionCommand,
    ) -> Result<(), Rejection> {
        let session = self.session(id)?;
        let (reply, done) = oneshot::channel();
        let ended = || Rejection::from(StatusCode::SessionNotFound);
        session.commands.send(command(reply)).await.map_err(|_| ended())?;
        done.await.map_err(|_| ended())
    }

    fn station(&self, resource: Resource) -> Result<Arc<StationHandle>, Rejection> {
        let id = resource.station;
        let head_end = &self.server.head_end;
        let station = head_end.station(id).filter(|station| station.spec().is_open_to(&self.grant));
        station.ok_or_else(|| {
            // A client that has shown nothing is not told whether there is such a station.
            if head_end.gatekeeper.file().is_some() && self.grant.name().is_none() && self.is_safe() {
                return self.unauthorized();
            }
            Rejection::from(StatusCode::NotFound).because(&format!("there is no station {id}"))
        })
    }

    async fn describe(&self, resource: Resource) -> Result<String, Rejection> {
        let station = self.station(resource)?;
        let programme = self.programme(&station, resource.kind).await?;
        let head_end = &self.server.head_end;
        let description = Description {
            name: &station.spec().name,
            origin: self.local.ip(),
            // In NTP time, as RFC 8866 section 5.2 suggests.
            session: head_end.since.0 / 1_000_000_000 + NTP_EPOCH,
            rate: match &programme {
                Some(programme) => programme.rate(),
                None => station.film_rate(),
            },
            by_ntp: true,
            sound: match &programme {
                Some(_) => station.has_sound().then_some(SoundCodec::Opus),
                None => station.sound_codec(),
            },
            // TLS protects the packets in the connection, so they are sent in the clear inside it.
            crypto: None,
            transport: Transport::Rtsp {
                control: CONTROL,
                length: programme.map(|programme| programme.sequence().length()),
            },
        };
        Ok(description.to_sdp())
    }

    /// A station's programme on demand; `None` if live.
    async fn programme(
        &self,
        station: &Arc<StationHandle>,
        kind: Kind,
    ) -> Result<Option<Arc<Programme>>, Rejection> {
        let Kind::OnDemand = kind else { return Ok(None) };
        let looked_up = match self.server.programme(station).await {
            Some(looked_up) => looked_up.map_err(|not_playable| not_playable.to_string()),
            None => Err("the films are still being looked up".to_owned()),
        };
        let refused = looked_up.as_ref().err().cloned();
        if let (true, Some(why)) = (station.set_demand_refused(refused.clone()), &refused) {
            let (spec, peer) = (station.spec(), self.peer.ip());
            let (id, name) = (spec.id, &spec.name);
            warn!("station {id} \"{name}\" cannot be played on demand, as {peer} asked: {why}");
        }
        match looked_up {
            Ok(programme) => Ok(Some(Arc::new(programme))),
            Err(why) => Err(Rejection::unavailable(&why)),
        }
    }

    /// What a session on demand plays.
    fn vod(&self, programme: Arc<Programme>) -> Result<Arc<VodProgramme>, Rejection> {
        let place = if programme.lacks_reels() {
            let full = || {
                let why = format!(
                    "films without reels are being encoded for {} clients, which is as many as this machine takes",
                    self.server.encoding_places
                );
                Rejection::unavailable(&why)
            };
            Some(EncodingPlace::take(&self.server.encodings).ok_or_else(full)?)
        } else {
            None
        };
        let (catalogue, reads) = (self.server.head_end.catalogue.clone(), self.server.reads.clone());
        Ok(Arc::new(VodProgramme { programme, catalogue, place, reads }))
    }

    async fn set_up(
        &mut self,
        resource: Resource,
        track: Track,
        offer: TransportOffer,
    ) -> Result<(SessionId, SessionTransport), Rejection> {
        let full = || Rejection::from(StatusCode::ServiceUnavailable);
        let station = self.station(resource)?;
        has_track(&station, track)?;
        self.has_sessions();
        if self.sessions.len() >= SESSIONS_PER_CONNECTION {
            return Err(full());
        }
        let programme = self.programme(&station, resource.kind).await?;
        let permit = self.server.sessions.permit(self.peer.ip()).ok_or_else(full)?;
        let vod = programme.map(|programme| self.vod(programme)).transpose()?;
        let head_end = &self.server.head_end;
        let (sink, transport) = self.sink(&station, track, offer)?;
        let keep_alive = Arc::new(KeepAlive::new());
        let unicast = match transport {
            SessionTransport::Multicast { .. } => None,
            SessionTransport::Udp { client, .. } => {
                Some((SocketAddr::new(self.peer.ip(), client.0), ClientKind::RtspUdp))
            }
            SessionTransport::Interleaved { .. } => Some((self.peer, ClientKind::RtspTcp)),
        };
        let receiver_reports = unicast.map(|(peer, way)| {
            let client = head_end.clients.enter(resource.station, peer, way);
            ReceiverReports { client, keep_alive: keep_alive.clone() }
        });
        let (commands, received) = mpsc::channel(1);
        let length = vod.as_ref().map(|vod| vod.length());
        let playing = Arc::new(AtomicBool::new(false));
        let task = SessionTask {
            clock: head_end.clock.clone(),
            table: head_end.table.clone(),
            station,
            vod,
            sinks: PerTrack::of(track, sink),
            fanouts: self.server.fanouts.clone(),
            playing: playing.clone(),
            keep_alive: keep_alive.clone(),
            receiver_reports: receiver_reports.clone(),
            cname: format!("stationcast@{}", self.local.ip()),
        };
        let owner = self.peer.ip();
        let transports = PerTrack::of(track, transport);
        let session = RtspSession {
            owner,
            resource,
            tracks: Mutex::new(SessionTracks { transports, permits: vec![permit] }),
            length,
            playing,
            keep_alive,
            receiver_reports,
            commands,
        };
        let id = self.server.sessions.insert(session, task.run(received));
        self.sessions.push(id);
        Ok((id, transport))
    }

    /// Adds a track to a session.
    async fn set_up_more(
        &mut self,
        id: SessionId,
        track: Track,
        offer: TransportOffer,
    ) -> Result<SessionTransport, Rejection> {
        let session = self.session(id)?;
        let station = self.station(session.resource)?;
        has_track(&station, track)?;
        // Its packets are in the connection that set it up.
        if session.is_interleaved() && !self.sessions.contains(&id) {
            return Err(StatusCode::UnsupportedTransport.into());
        }
        // A session has a permit for two sockets.
        let permit = match offer {
            TransportOffer::Udp { .. } => {
                let permit = self.server.sessions.permit(self.peer.ip());
                Some(permit.ok_or(StatusCode::ServiceUnavailable)?)
            }
            TransportOffer::Multicast | TransportOffer::Interleaved(_) => None,
        };
        let (sink, transport) = self.sink(&station, track, offer)?;
        {
            let mut tracks = session.tracks();
            // Another connection was faster.
            if tracks.transports.get(track).is_some() {
                return Err(StatusCode::UnsupportedTransport.into());
            }
            tracks.transports.set(track, transport);
            tracks.permits.extend(permit);
        }
        self.command(id, |reply| SessionCommand::Add(track, sink, reply)).await?;
        Ok(transport)
    }

    /// Where the packets of a track go.
    fn sink(
        &self,
        station: &StationHandle,
        track: Track,
        offer: TransportOffer,
    ) -> Result<(Sink, SessionTransport), Rejection> {
        let spec = station.spec();
        // Anybody on the way could read datagrams; and RTSP tells no keys.
        let is_open = spec.access.is_empty() && spec.encrypt.is_none();
        if matches!(offer, TransportOffer::Udp { .. }) && !is_open
            || matches!(offer, TransportOffer::Multicast) && spec.encrypt.is_some()
        {
            return Err(StatusCode::UnsupportedTransport.into());
        }
        Ok(match offer {
            TransportOffer::Multicast => {
                let source = station.source().unwrap_or(self.local.ip());
                let mut group = spec.group;
                if track == Track::Sound {
                    group.set_port(sound_port(group.port()));
                }
                (Sink::Multicast, SessionTransport::Multicast { group, ttl: spec.ttl, source })
            }
            TransportOffer::Udp { rtp, rtcp } => {
                let air = &self.server.head_end.air;
                let opened = UdpSink::open(air, track, self.local, self.peer, (rtp, rtcp), spec.spread);
                let (udp, transport) = opened.map_err(|error| {
                    debug!(peer = %self.peer, %error, "rtsp: cannot open sockets for a session");
                    StatusCode::ServiceUnavailable
                })?;
                (Sink::Udp(udp), transport)
            }
            TransportOffer::Interleaved(pair) => {
                let channels = self.channels(pair).ok_or(StatusCode::UnsupportedTransport)?;
                let (tcp, transport) = TcpSink::new(track, self.writer.clone(), channels);
                (Sink::Tcp(Arc::new(tcp)), transport)
            }
        })
    }

    /// Two channels that no track of this connection uses: those that the client wants, if they are free.
    fn channels(&self, wanted: Option<(u8, u8)>) -> Option<(u8, u8)> {
        let mut taken = Vec::new();
        for session in self.sessions.iter().filter_map(|&id| self.server.sessions.get(id)) {
            for (_, transport) in session.transports().iter() {
                if let SessionTransport::Interleaved { channels, .. } = transport {
                    taken.extend([channels.0, channels.1]);
                }
            }
        }
        let free = |&(rtp, rtcp): &(u8, u8)| !taken.contains(&rtp) && !taken.contains(&rtcp);
        let any = (0..2 * SESSIONS_PER_CONNECTION as u8).map(|n| (2 * n, 2 * n + 1));
        wanted.into_iter().chain(any).find(free)
    }
}

/// A station without sound has no such track.
fn has_track(station: &StationHandle, track: Track) -> Result<(), StatusCode> {
    if track == Track::Picture || station.has_sound() { Ok(()) } else { Err(StatusCode::NotFound) }
}
