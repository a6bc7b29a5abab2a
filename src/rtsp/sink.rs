//! Where the packets of a session go: by the air thread to two UDP ports, or into the RTSP connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::transport::SessionTransport;
use super::writer::{Gone, TryWrite, Writer};
use crate::air::sender::RtpSender;
use crate::air::{Air, AirCounters, Flow, UNICAST_NAP};
use crate::headend::Client;
use crate::lineup::Spread;
use crate::media::AirTime;
use crate::media::Unit;
use crate::net::headers;
use crate::wire::payload::jpeg::{MAX_DATAGRAM, PACKET_OVERHEAD};
use crate::wire::rtcp::SenderInfo;
use crate::wire::rtp;

/// What a UDP socket asks for as its send buffer: a few of the largest pictures.
const SEND_BUFFER: usize = 512 * 1024;

/// How long before it is due a unit is given to the air thread. Enough to sleep through a busy moment; little enough that
/// PAUSE is felt at once, as what the thread has will leave.
const AHEAD: Duration = Duration::from_millis(100);

/// Tries to find two ports, an even one and the one above it, that are free.
const PORT_TRIES: usize = 64;

/// UDP payload of a packet on Ethernet, where the path is unknown: 1,500 less the headers of IPv4 or IPv6, and UDP.
const fn usual_datagram(address: IpAddr) -> usize {
    1500 - headers(address)
}

/// The way of a session's packets.
pub(super) enum Sink {
    /// They go to the group in any case.
    Nowhere,
    Udp(UdpSink),
    Tcp(Arc<TcpSink>),
}

pub(super) struct UdpSink {
    /// `None` when nothing more shall leave.
    flow: Option<Flow>,
    counters: Arc<AirCounters>,
    /// Most bytes of a scan in a packet.
    room: usize,
    ssrc: u32,
    /// The sequence number of the next packet, had the air thread left out no picture.
    sequence: u16,
    /// When the last unit is due that it has.
    last: AirTime,
    /// Pictures left out before it got them, and those that its ring had no room for.
    missed: u64,
    rtcp: UdpSocket,
    client: SocketAddr,
}

/// Pictures into a connection. The task of the session writes them, or the [`Fanout`](super::fanout) for it: never both.
pub(super) struct TcpSink {
    writer: Arc<Writer>,
    channels: (u8, u8),
    ssrc: u32,
    count: Mutex<SendState>,
}

/// What has been written.
#[derive(Clone, Copy)]
struct SendState {
    packets: u64,
    /// Of payload.
    octets: u64,
    /// The number of the next packet.
    sequence: u16,
    /// Pictures left out.
    missed: u64,
}

impl UdpSink {
    /// Sockets on `local`, a flow on air, and what the two are called.
    ///
    /// # Errors
    /// The system's: no two ports, or no open files.
    pub(super) fn open(
        air: &Air,
        local: SocketAddr,
        peer: SocketAddr,
        client: (u16, u16),
        spread: Spread,
    ) -> io::Result<(UdpSink, SessionTransport)> {
        let at = |mut address: SocketAddr, port| {
            address.set_port(port);
            address
        };
        let (rtp, rtcp, server) = ports(local)?;
        if rtp.send_buffer_size()? < SEND_BUFFER {
            rtp.set_send_buffer_size(SEND_BUFFER)?;
        }
        // Nothing is expected there but what opens a way through a client's firewall.
        rtp.set_recv_buffer_size(0)?;
        let datagram = datagram(at(local, 0), at(peer, client.0));
        let outlet = RtpSender::unicast(rtp, at(peer, client.0), datagram, spread);
        let (ssrc, sequence) = (outlet.ssrc(), outlet.sequence());
        let counters = Arc::<AirCounters>::default();
        let udp = UdpSink {
            flow: Some(air.unicast_flow(outlet, counters.clone())),
            counters,
            room: datagram - PACKET_OVERHEAD,
            ssrc,
            sequence,
            last: AirTime::default(),
            missed: 0,
            rtcp: UdpSocket::from_std(rtcp.into())?,
            client: at(peer, client.1),
        };
        Ok((udp, SessionTransport::Udp { client, server, ssrc }))
    }

    fn offer(&mut self, unit: Unit) {
        let Some(flow) = &mut self.flow else { return };
        // PAUSE and PLAY within [`AHEAD`] of each other: what is on air has left already, or is about to.
        if unit.due.at <= self.last {
            return;
        }
        self.last = unit.due.at;
        let packets = unit.jpeg.scan.len().div_ceil(self.room).max(1);
        match flow.offer(unit) {
            Ok(()) => self.sequence = self.sequence.wrapping_add(packets as u16),
            Err(_) => self.missed += 1,
        }
    }
}

impl TcpSink {
    pub(super) fn new(writer: Arc<Writer>, channels: (u8, u8)) -> (TcpSink, SessionTransport) {
        let ssrc = fastrand::u32(..);
        let count = SendState { packets: 0, octets: 0, sequence: fastrand::u16(..), missed: 0 };
        (
            TcpSink { writer, channels, ssrc, count: Mutex::new(count) },
            SessionTransport::Interleaved { channels, ssrc },
        )
    }

    /// Writes a picture, in one packet: 65,535 bytes hold any (RFC 2326 section 10.12).
    ///
    /// # Errors
    /// There is nobody any more.
    async fn send(&self, unit: &Unit) -> Result<(), Gone> {
        let Some((head, octets)) = self.head(unit) else { return Ok(()) };
        self.writer.write(&head, &unit.jpeg.scan).await?;
        self.count().sent(octets);
        Ok(())
    }

    /// Writes of a picture what the connection takes now: the rest goes out before the next.
    ///
    /// # Errors
    /// There is nobody any more.
    pub(super) fn begin(&self, unit: &Unit) -> Result<TryWrite, Gone> {
        let Some((head, octets)) = self.head(unit) else { return Ok(TryWrite::Complete) };
        let took = self.writer.begin(&head, &unit.jpeg.scan)?;
        if took != TryWrite::WouldBlock {
            self.count().sent(octets);
        }
        Ok(took)
    }

    /// Writes what was begun.
    ///
    /// # Errors
    /// There is nobody any more.
    async fn flush(&self) -> Result<(), Gone> {
        self.writer.write(&[], &[]).await
    }

    /// Leaves a gap where pictures were left out, so that the client sees it.
    pub(super) fn miss(&self, pictures: u64) {
        let mut count = self.count();
        count.sequence = count.sequence.wrapping_add(pictures as u16);
        count.missed += pictures;
    }

    /// What stands before the scan of a picture, and the payload's bytes.
    fn head(&self, unit: &Unit) -> Option<([u8; 4 + PACKET_OVERHEAD], usize)> {
        let fragment = unit.jpeg.fragments(MAX_DATAGRAM).next().filter(|fragment| fragment.last)?;
        let header = rtp::Header {
            marker: true,
            payload_type: rtp::PAYLOAD_TYPE_JPEG,
            sequence: self.count().sequence,
            timestamp: unit.due.at.rtp_timestamp(),
            ssrc: self.ssrc,
        };
        let mut head = [0; 4 + PACKET_OVERHEAD];
        head[..4].copy_from_slice(&frame(self.channels.0, PACKET_OVERHEAD + fragment.end));
        head[4..].copy_from_slice(&unit.jpeg.packet_header(header, fragment));
        Some((head, PACKET_OVERHEAD - rtp::HEADER_LEN + fragment.end))
    }

    fn count(&self) -> MutexGuard<'_, SendState> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SendState {
    /// One more picture, in one packet.
    fn sent(&mut self, octets: usize) {
        self.packets += 1;
        self.octets += octets as u64;
        self.sequence = self.sequence.wrapping_add(1);
    }
}

/// What stands before interleaved data: `$`, the channel, the length.
fn frame(channel: u8, length: usize) -> [u8; 4] {
    let [high, low] = (length as u16).to_be_bytes();
    [b'$', channel, high, low]
}

impl Sink {
    /// How long before it is due a unit is to be handed over.
    pub(super) fn ahead(&self) -> Duration {
        if let Sink::Udp(_) = self { AHEAD } else { Duration::ZERO }
    }

    /// How long it may be until a first unit leaves: of what is on air by then, it is not too late.
    pub(super) fn delay(&self) -> Duration {
        // The air thread looks in, and as long again for us to get there.
        if let Sink::Udp(_) = self { UNICAST_NAP * 2 } else { Duration::ZERO }
    }

    /// Nothing more leaves, nor what the air thread has.
    pub(super) fn close(&mut self) {
        if let Sink::Udp(udp) = self {
            udp.flow = None;
        }
    }

    /// Hands over a unit whose time has come.
    ///
    /// # Errors
    /// There is nobody any more.
    pub(super) async fn send(&mut self, unit: Unit, client: &Client) -> Result<(), Gone> {
        match self {
            Sink::Nowhere => {}
            Sink::Udp(udp) => {
                udp.offer(unit);
                client.pictures.store(udp.counters.aired.load(Relaxed), Relaxed);
            }
            Sink::Tcp(tcp) => {
                tcp.send(&unit).await?;
                client.pictures.fetch_add(1, Relaxed);
            }
        }
        Ok(())
    }

    /// Counts pictures that were left out, and lets the client see the gap if nobody else does.
    pub(super) fn miss(&mut self, pictures: u64) {
        match self {
            Sink::Nowhere => {}
            Sink::Udp(udp) => udp.missed += pictures,
            Sink::Tcp(tcp) => tcp.miss(pictures),
        }
    }

    /// Writes what was begun.
    ///
    /// # Errors
    /// There is nobody any more.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        match self {
            Sink::Tcp(tcp) => tcp.flush().await,
            Sink::Udp(_) | Sink::Nowhere => Ok(()),
        }
    }

    /// Pictures lost on our side of the wire.
    pub(super) fn lost(&self) -> u64 {
        match self {
            Sink::Udp(udp) => {
                let air = &udp.counters;
                udp.missed + air.skipped.load(Relaxed) + air.send_errors.load(Relaxed)
            }
            Sink::Tcp(tcp) => tcp.count().missed,
            Sink::Nowhere => 0,
        }
    }

    /// The sequence number of the next packet, if that is known.
    pub(super) fn sequence(&self) -> Option<u16> {
        match self {
            Sink::Nowhere => None,
            Sink::Udp(udp) => {
                let skipped = udp.counters.skipped_packets.load(Relaxed);
                Some(udp.sequence.wrapping_sub(skipped as u16))
            }
            Sink::Tcp(tcp) => Some(tcp.count().sequence),
        }
    }

    /// What has been sent.
    pub(super) fn sent(&self) -> Option<SenderInfo> {
        match self {
            Sink::Nowhere => None,
            Sink::Udp(udp) => {
                let (packets, bytes) = (udp.counters.packets.load(Relaxed), udp.counters.bytes.load(Relaxed));
                let octets = bytes.saturating_sub(packets * rtp::HEADER_LEN as u64);
                Some(SenderInfo { ssrc: udp.ssrc, packets, octets })
            }
            Sink::Tcp(tcp) => {
                let SendState { packets, octets, .. } = *tcp.count();
                Some(SenderInfo { ssrc: tcp.ssrc, packets, octets })
            }
        }
    }

    /// Sends RTCP.
    ///
    /// # Errors
    /// There is nobody any more. By UDP nobody can tell.
    pub(super) async fn control(&mut self, packet: &[u8]) -> Result<(), Gone> {
        match self {
            Sink::Nowhere => Ok(()),
            Sink::Udp(udp) => {
                // A report that is lost is followed by another.
                let _ = udp.rtcp.send_to(packet, udp.client).await;
                Ok(())
            }
            Sink::Tcp(tcp) => tcp.writer.write(&frame(tcp.channels.1, packet.len()), packet).await,
        }
    }

    /// The next RTCP packet from the client, if it comes to a socket of ours. May be cancelled.
    pub(super) async fn hear<'a>(&mut self, buffer: &'a mut [u8]) -> &'a [u8] {
        let Sink::Udp(udp) = self else { return std::future::pending().await };
        loop {
            match udp.rtcp.recv_from(buffer).await {
                Ok((length, from)) if from.ip() == udp.client.ip() => return &buffer[..length],
                // Of others; or an error, which is that of a packet of ours that did not arrive: the next call waits.
                Ok(_) | Err(_) => tokio::task::yield_now().await,
            }
        }
    }
}

/// Two sockets on the address of `local`, the first on an even port and the second on the one above.
fn ports(local: SocketAddr) -> io::Result<(Socket, Socket, (u16, u16))> {
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

/// The UDP payload that goes from `local` to `client` in one piece, as far as the system knows the path now.
fn datagram(local: SocketAddr, client: SocketAddr) -> usize {
    let mtu = || {
        let socket = std::net::UdpSocket::bind(local).ok()?;
        // Nothing is sent by that.
        socket.connect(client).ok()?;
        // There is no such option for IPv6 in nix.
        getsockopt(&socket, sockopt::IpMtu).ok().filter(|_| client.is_ipv4())
    };
    let payload = mtu().and_then(|mtu| usize::try_from(mtu).ok()?.checked_sub(headers(client.ip())));
    payload.filter(|&payload| payload >= 576).unwrap_or(usual_datagram(client.ip())).min(MAX_DATAGRAM)
}
