//! Where the packets of a session go: to two UDP ports of the client, by the air thread, or into the RTSP connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use nix::sys::socket::{getsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::transport::SessionTransport;
use super::writer::{Gone, TryWrite, Writer};
use crate::air::sender::RtpSender;
use crate::air::{Air, AirCounters, Flow, UNICAST_POLL};
use crate::headend::Client;
use crate::lineup::Spread;
use crate::media::tracks::PerTrack;
use crate::media::{AirTime, Payload, Track, Unit};
use crate::wire::MAX_DATAGRAM;
use crate::wire::packetizer::Packetizer;
use crate::wire::payload::jpeg::PACKET_OVERHEAD;
use crate::wire::rtcp::SenderInfo;
use crate::wire::rtp;
use crate::wire::udp_headers;

/// Send buffer of a UDP socket, in bytes: a few of the largest pictures.
const SEND_BUFFER: usize = 512 * 1024;

/// How long before it is due the air thread gets a unit. Long enough to survive a busy moment of this machine; short enough
/// for PAUSE to take effect soon, since the air thread sends all units that it has.
const AHEAD: Duration = Duration::from_millis(100);

/// How often to try for two free ports, an even one and the one above it.
const PORT_TRIES: usize = 64;

/// UDP payload of a packet on Ethernet, in bytes, for a path whose MTU is unknown: 1,500 less the headers of IP and UDP.
const fn usual_datagram(address: IpAddr) -> usize {
    1500 - udp_headers(address)
}

/// Where the packets of one track of a session go.
pub(super) enum Sink {
    /// Nowhere: the client receives the station's group.
    Multicast,
    Udp(UdpSink),
    Tcp(Arc<TcpSink>),
}

pub(super) struct UdpSink {
    track: Track,
    /// `None` after [`Sink::close`].
    flow: Option<Flow>,
    counters: Arc<AirCounters>,
    /// Most bytes of UDP payload in a packet.
    datagram: usize,
    ssrc: u32,
    /// The sequence number behind all packets that the air thread got, as if it had skipped no picture.
    sequence: u16,
    /// When the last unit is due that the air thread got.
    last: AirTime,
    /// Units that the air thread did not get: they were too late, or the flow was full.
    missed: u64,
    rtcp: UdpSocket,
    /// The client's address for RTCP.
    client: SocketAddr,
}

/// The units of a track into an RTSP connection, one packet each. Either the session task writes them or its
/// [`Fanout`](super::fanout), never both at a time.
pub(super) struct TcpSink {
    track: Track,
    writer: Arc<Writer>,
    /// For RTP and RTCP.
    channels: (u8, u8),
    ssrc: u32,
    state: Mutex<SendState>,
}

#[derive(Clone, Copy)]
struct SendState {
    /// Packets sent.
    packets: u64,
    /// Bytes of payload sent.
    octets: u64,
    /// The sequence number of the next packet.
    sequence: u16,
    /// Units left out.
    missed: u64,
}

impl UdpSink {
    /// Opens two sockets on the address of `local`, and a flow for the two ports of `client` on the address of `peer`.
    ///
    /// # Errors
    /// There are no two free ports, or no more file descriptors.
    pub(super) fn open(
        air: &Air,
        track: Track,
        local: SocketAddr,
        peer: SocketAddr,
        client: (u16, u16),
        spread: Spread,
    ) -> io::Result<(UdpSink, SessionTransport)> {
        let at = |mut address: SocketAddr, port| {
            address.set_port(port);
            address
        };
        let (rtp, rtcp, server) = open_ports(local)?;
        if rtp.send_buffer_size()? < SEND_BUFFER {
            rtp.set_send_buffer_size(SEND_BUFFER)?;
        }
        // Nothing is read from it: a client sends packets here only to open its firewall.
        rtp.set_recv_buffer_size(0)?;
        let datagram = path_datagram(at(local, 0), at(peer, client.0));
        let sender = RtpSender::unicast(rtp, at(peer, client.0), datagram, spread);
        let (ssrc, sequence) = (sender.ssrc(), sender.sequence());
        let counters = Arc::<AirCounters>::default();
        let udp = UdpSink {
            track,
            flow: Some(air.unicast_flow(sender, counters.clone())),
            counters,
            datagram,
            ssrc,
            sequence,
            last: AirTime::default(),
            missed: 0,
            rtcp: UdpSocket::from_std(rtcp.into())?,
            client: at(peer, client.1),
        };
        Ok((udp, SessionTransport::Udp { client, server, ssrc }))
    }

    fn send(&mut self, unit: Unit) {
        let Some(flow) = &mut self.flow else { return };
        // The air thread has it already, if PAUSE and PLAY came within `AHEAD` of each other.
        if unit.due.at <= self.last {
            return;
        }
        self.last = unit.due.at;
        let packets = Packetizer::new(self.ssrc, self.sequence, self.datagram).count(&unit);
        match flow.offer(unit) {
            Ok(()) => self.sequence = self.sequence.wrapping_add(packets as u16),
            Err(_) => self.missed += 1,
        }
    }

    /// The sequence number of the next packet. The sender cannot tell: it does not know the units that still wait in the
    /// flow.
    fn next_sequence(&self) -> u16 {
        let skipped = self.counters.skipped_packets.load(Relaxed);
        self.sequence.wrapping_sub(skipped as u16)
    }
}

impl TcpSink {
    pub(super) fn new(track: Track, writer: Arc<Writer>, channels: (u8, u8)) -> (TcpSink, SessionTransport) {
        let ssrc = fastrand::u32(..);
        let state = Mutex::new(SendState { packets: 0, octets: 0, sequence: fastrand::u16(..), missed: 0 });
        (TcpSink { track, writer, channels, ssrc, state }, SessionTransport::Interleaved { channels, ssrc })
    }

    /// Sends a unit in one packet: the 65,535 bytes of interleaved data hold any picture (RFC 2326 section 10.12).
    ///
    /// # Errors
    /// The connection is over.
    async fn send(&self, unit: &Unit) -> Result<(), Gone> {
        let Some(packet) = self.packet(unit) else { return Ok(()) };
        self.writer.write(packet.headers(), packet.payload).await?;
        self.state().count(packet.octets());
        Ok(())
    }

    /// Sends as much of a unit as the connection takes at once. The rest of it goes out before the next message.
    ///
    /// # Errors
    /// The connection is over.
    pub(super) fn try_send(&self, unit: &Unit) -> Result<TryWrite, Gone> {
        let Some(packet) = self.packet(unit) else { return Ok(TryWrite::Complete) };
        let written = self.writer.try_write(packet.headers(), packet.payload)?;
        if written != TryWrite::WouldBlock {
            self.state().count(packet.octets());
        }
        Ok(written)
    }

    /// Waits until the rest of a unit is out.
    ///
    /// # Errors
    /// The connection is over.
    async fn flush(&self) -> Result<(), Gone> {
        self.writer.write(&[], &[]).await
    }

    /// Counts units that were left out. Each takes a sequence number, so that the client sees the gap.
    pub(super) fn miss(&self, units: u64) {
        let mut state = self.state();
        state.sequence = state.sequence.wrapping_add(units as u16);
        state.missed += units;
    }

    /// The interleaved packet of a unit. `None` if the unit does not fit one packet.
    fn packet<'u>(&self, unit: &'u Unit) -> Option<InterleavedPacket<'u>> {
        let mut packetizer = Packetizer::in_connection(self.ssrc, self.state().sequence, MAX_DATAGRAM);
        if packetizer.count(unit) != 1 {
            return None;
        }
        let packet = packetizer.packets(unit, 0, 1).next()?;
        let length = 4 + packet.header().len();
        let mut headers = [0; 4 + PACKET_OVERHEAD];
        let total = packet.header().len() + packet.payload.len();
        headers[..4].copy_from_slice(&interleaved_header(self.channels.0, total));
        headers[4..length].copy_from_slice(packet.header());
        // The whole of the unit, since it fits one packet.
        let payload = match &unit.payload {
            Payload::Jpeg(jpeg) => &jpeg.scan,
            Payload::Opus(sound) | Payload::L16(sound) => sound,
        };
        Some(InterleavedPacket { headers, length, payload })
    }

    fn state(&self) -> MutexGuard<'_, SendState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An RTP packet in an RTSP connection, in two pieces, so that the scan is never copied.
struct InterleavedPacket<'u> {
    headers: [u8; 4 + PACKET_OVERHEAD],
    /// How many bytes of `headers` the packet has.
    length: usize,
    payload: &'u Bytes,
}

impl InterleavedPacket<'_> {
    /// The header of interleaved data, the RTP header and that of the payload format.
    fn headers(&self) -> &[u8] {
        &self.headers[..self.length]
    }

    /// The length of the RTP payload.
    fn octets(&self) -> usize {
        self.length - 4 - rtp::HEADER_LEN + self.payload.len()
    }
}

impl SendState {
    /// Counts a packet.
    fn count(&mut self, octets: usize) {
        self.packets += 1;
        self.octets += octets as u64;
        self.sequence = self.sequence.wrapping_add(1);
    }
}

/// The header of interleaved data: `$`, the channel, the length.
fn interleaved_header(channel: u8, length: usize) -> [u8; 4] {
    let [high, low] = (length as u16).to_be_bytes();
    [b'$', channel, high, low]
}

impl Sink {
    /// How long before it is due [`send`](Self::send) wants a unit.
    pub(super) fn ahead(&self) -> Duration {
        if let Sink::Udp(_) = self { AHEAD } else { Duration::ZERO }
    }

    /// Longest time until the first unit leaves. Playback begins with the unit that is on air then: it is not too late.
    pub(super) fn delay(&self) -> Duration {
        // Until the air thread looks into the flow, and as long for the unit to get there.
        if let Sink::Udp(_) = self { UNICAST_POLL * 2 } else { Duration::ZERO }
    }

    /// Stops sending. The units that the air thread has are not sent either.
    pub(super) fn close(&mut self) {
        if let Sink::Udp(udp) = self {
            udp.flow = None;
        }
    }

    /// Sends a unit, [`ahead`](Self::ahead) of its due time, and counts pictures for the client.
    ///
    /// # Errors
    /// The connection is over.
    pub(super) async fn send(&mut self, unit: Unit, client: &Client) -> Result<(), Gone> {
        let is_picture = unit.track() == Track::Picture;
        match self {
            Sink::Multicast => {}
            Sink::Udp(udp) => {
                udp.send(unit);
                if is_picture {
                    client.pictures.store(udp.counters.aired.load(Relaxed), Relaxed);
                }
            }
            Sink::Tcp(tcp) => {
                tcp.send(&unit).await?;
                client.pictures.fetch_add(is_picture.into(), Relaxed);
            }
        }
        Ok(())
    }

    /// Counts units that were left out.
    pub(super) fn miss(&mut self, units: u64) {
        match self {
            Sink::Multicast => {}
            Sink::Udp(udp) => udp.missed += units,
            Sink::Tcp(tcp) => tcp.miss(units),
        }
    }

    /// Waits until the rest of a unit is out that the fan-out has begun.
    ///
    /// # Errors
    /// The connection is over.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        match self {
            Sink::Tcp(tcp) => tcp.flush().await,
            Sink::Udp(_) | Sink::Multicast => Ok(()),
        }
    }

    /// Units that were not sent.
    pub(super) fn dropped(&self) -> u64 {
        match self {
            Sink::Udp(udp) => {
                let air = &udp.counters;
                udp.missed + air.skipped.load(Relaxed) + air.send_errors.load(Relaxed)
            }
            Sink::Tcp(tcp) => tcp.state().missed,
            Sink::Multicast => 0,
        }
    }

    /// The sequence number of the next packet, for RTP-Info; `None` by multicast.
    pub(super) fn next_sequence(&self) -> Option<u16> {
        match self {
            Sink::Multicast => None,
            Sink::Udp(udp) => Some(udp.next_sequence()),
            Sink::Tcp(tcp) => Some(tcp.state().sequence),
        }
    }

    /// The counters for sender reports; `None` by multicast.
    pub(super) fn sender_info(&self) -> Option<SenderInfo> {
        match self {
            Sink::Multicast => None,
            Sink::Udp(udp) => {
                let (packets, bytes) = (udp.counters.packets.load(Relaxed), udp.counters.bytes.load(Relaxed));
                let octets = bytes.saturating_sub(packets * rtp::HEADER_LEN as u64);
                Some(SenderInfo { ssrc: udp.ssrc, clock_rate: udp.track.clock_rate(), packets, octets })
            }
            Sink::Tcp(tcp) => {
                let SendState { packets, octets, .. } = *tcp.state();
                Some(SenderInfo { ssrc: tcp.ssrc, clock_rate: tcp.track.clock_rate(), packets, octets })
            }
        }
    }

    /// Sends an RTCP packet.
    ///
    /// # Errors
    /// The connection is over. By UDP there are none.
    pub(super) async fn send_rtcp(&mut self, packet: &[u8]) -> Result<(), Gone> {
        match self {
            Sink::Multicast => Ok(()),
            Sink::Udp(udp) => {
                // A lost report is followed by another.
                let _ = udp.rtcp.send_to(packet, udp.client).await;
                Ok(())
            }
            Sink::Tcp(tcp) => {
                tcp.writer.write(&interleaved_header(tcp.channels.1, packet.len()), packet).await
            }
        }
    }

    /// The length of the client's next RTCP packet by UDP, if one is there.
    fn try_receive_rtcp(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let Sink::Udp(udp) = self else { return None };
        match udp.rtcp.try_recv_from(buffer) {
            Ok((length, from)) if from.ip() == udp.client.ip() => Some(length),
            // A packet of another sender, or the error of a packet that we sent before.
            Ok(_) | Err(_) => None,
        }
    }
}

/// Receives the client's next RTCP packet by UDP. Returns the track that it is about, and its length in the buffer. Never returns for
/// other sinks. Cancel-safe.
pub(super) async fn receive_rtcp(sinks: &mut PerTrack<Sink>, buffer: &mut [u8]) -> (Track, usize) {
    loop {
        let PerTrack { picture, sound } = sinks;
        let track = tokio::select! {
            () = readable(picture) => Track::Picture,
            () = readable(sound) => Track::Sound,
        };
        match sinks.get_mut(track).and_then(|sink| sink.try_receive_rtcp(buffer)) {
            Some(length) => return (track, length),
            // The next call waits.
            None => tokio::task::yield_now().await,
        }
    }
}

/// Waits until the client's RTCP packets can be received by UDP. Never returns for other sinks. Cancel-safe.
// `&mut`, since a flow of the air cannot be shared between threads.
async fn readable(sink: &mut Option<Sink>) {
    match sink {
        Some(Sink::Udp(udp)) if udp.rtcp.readable().await.is_ok() => {}
        _ => std::future::pending().await,
    }
}

/// Opens two sockets on the address of `local`, the first on an even port and the second on the port above it.
fn open_ports(local: SocketAddr) -> io::Result<(Socket, Socket, (u16, u16))> {
    let bind = |port| {
        let mut address = local;
        address.set_port(port);
        let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind(&address.into())?;
        socket.set_nonblocking(true)?;
        io::Result::Ok(socket)
    };
    for _ in 0..PORT_TRIES {
        let any = bind(0)?;
        let port = any.local_addr()?.as_socket().map_or(0, |address| address.port());
        let (rtp, rtcp, even) =
            if port % 2 == 0 { (Ok(any), bind(port + 1), port) } else { (bind(port - 1), Ok(any), port - 1) };
        if let (Ok(rtp), Ok(rtcp)) = (rtp, rtcp) {
            return Ok((rtp, rtcp, (even, even + 1)));
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// Most bytes of UDP payload that travel from `local` to `client` unfragmented, as far as the system knows the path's MTU.
fn path_datagram(local: SocketAddr, client: SocketAddr) -> usize {
    let mtu = || {
        let socket = std::net::UdpSocket::bind(local).ok()?;
        // This sends nothing.
        socket.connect(client).ok()?;
        // nix has no such option for IPv6.
        getsockopt(&socket, sockopt::IpMtu).ok().filter(|_| client.is_ipv4())
    };
    let payload = mtu().and_then(|mtu| usize::try_from(mtu).ok()?.checked_sub(udp_headers(client.ip())));
    payload.filter(|&payload| payload >= 576).unwrap_or(usual_datagram(client.ip())).min(MAX_DATAGRAM)
}
