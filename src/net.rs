//! Sockets that send to a group and sockets that receive from one, and the network as stations use it.
//!
//! Any room may import it. It imports `interface`.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, UdpSocket};
#[cfg(feature = "broadcaster")]
use std::os::fd::AsFd;
#[cfg(feature = "broadcaster")]
use std::sync::Arc;

use nix::sys::socket::{setsockopt, sockopt};
#[cfg(feature = "broadcaster")]
use socket2::SockFilter;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, Socket, Type};

use crate::interface::Interface;
#[cfg(feature = "broadcaster")]
use crate::interface::netlink::Interfaces;
use crate::wire::sdp::is_source_specific;

/// Send buffer that a station requests, in bytes: a few of the largest pictures, for moments when the interface's queue is full.
const SEND_BUFFER: usize = 512 * 1024;

/// Receive buffer that a viewer requests, in bytes: forty of the largest pictures. The kernel grants at most
/// `net.core.rmem_max`, which includes its overhead for each datagram.
pub const RECEIVE_BUFFER: usize = 4 << 20;

/// Receive buffer of a [`listener`], in bytes: some of the largest pictures, of which a few packets are read a second.
#[cfg(feature = "broadcaster")]
const LISTEN_BUFFER: usize = 64 * 1024;

/// A socket that sends to one address and never blocks.
pub struct SendSocket(Medium);

/// Takes a datagram in a simulation, and answers as a socket does.
#[cfg(test)]
type SimulatedSocket = dyn FnMut(&[u8]) -> io::Result<usize> + Send;

enum Medium {
    Udp {
        socket: Socket,
        /// The destination of each send. The socket is not connected, since connecting fails while there is no route.
        to: SockAddr,
    },
    #[cfg(test)]
    Simulated(Box<SimulatedSocket>),
}

impl SendSocket {
    /// Sends to `to` by `socket`, which must not block.
    pub fn new(socket: Socket, to: SocketAddr) -> SendSocket {
        SendSocket(Medium::Udp { socket, to: to.into() })
    }

    /// Passes each datagram to `network`.
    #[cfg(test)]
    pub(crate) fn simulated(network: impl FnMut(&[u8]) -> io::Result<usize> + Send + 'static) -> SendSocket {
        SendSocket(Medium::Simulated(Box::new(network)))
    }

    /// Sends one datagram, or several if the kernel [segments](Self::segment) it. Returns the number of bytes sent.
    ///
    /// # Errors
    /// The system's.
    pub fn send(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.0 {
            Medium::Udp { socket, to } => socket.send_to_vectored(pieces, to),
            #[cfg(test)]
            Medium::Simulated(network) => {
                network(&pieces.iter().map(|piece| &**piece).collect::<Vec<_>>().concat())
            }
        }
    }

    /// Has the kernel cut what it is given into datagrams of `bytes` bytes (UDP_SEGMENT); 0 ends that.
    ///
    /// # Errors
    /// The kernel does not support it, as Linux before 4.18.
    pub fn segment(&mut self, bytes: i32) -> io::Result<()> {
        match &self.0 {
            Medium::Udp { socket, .. } => Ok(setsockopt(socket, sockopt::UdpGsoSegment, &bytes)?),
            #[cfg(test)]
            Medium::Simulated(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// Opens a socket that sends to a group, by an interface, with a TTL: [`sender`], or a simulation.
#[cfg(feature = "broadcaster")]
type Open = dyn Fn(SocketAddr, &Interface, u8) -> io::Result<SendSocket> + Send + Sync;

/// The network as stations use it: the current interfaces, and sockets on them.
#[cfg(feature = "broadcaster")]
#[derive(Clone)]
pub struct Network {
    /// The interfaces, kept up to date.
    pub interfaces: Interfaces,
    open: Arc<Open>,
}

#[cfg(feature = "broadcaster")]
impl Network {
    /// This machine's network.
    pub fn of_this_machine(interfaces: Interfaces) -> Network {
        Network::new(interfaces, |group, interface, ttl| {
            Ok(SendSocket::new(sender(group, interface, ttl)?, group))
        })
    }

    /// A network whose sockets are opened by `open`.
    pub(crate) fn new(
        interfaces: Interfaces,
        open: impl Fn(SocketAddr, &Interface, u8) -> io::Result<SendSocket> + Send + Sync + 'static,
    ) -> Network {
        Network { interfaces, open: Arc::new(open) }
    }

    /// A socket that sends to `group` by `interface`.
    ///
    /// # Errors
    /// As [`sender`].
    pub fn open(&self, group: SocketAddr, interface: &Interface, ttl: u8) -> io::Result<SendSocket> {
        (self.open)(group, interface, ttl)
    }
}

/// A socket that sends multicast by `interface`, set up for the address family of `group`. It does not block.
///
/// # Errors
/// The interface has no address of the group's family, or the system refuses an option.
pub fn sender(group: SocketAddr, interface: &Interface, ttl: u8) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(group), Type::DGRAM, Some(Protocol::UDP))?;
    match group {
        SocketAddr::V4(_) => {
            socket.set_multicast_if_v4(&ipv4_of(interface)?)?;
            socket.set_multicast_ttl_v4(ttl.into())?;
            socket.set_multicast_loop_v4(true)?;
        }
        SocketAddr::V6(_) => {
            socket.set_multicast_if_v6(interface.index)?;
            // The directory names the source address, so it is not left to the kernel's choice among several. If it cannot
            // be bound, being new on the link, the kernel's choice is the best there is.
            if let Some(IpAddr::V6(source)) = interface.source(group.ip()) {
                let _ = socket.bind(&SocketAddrV6::new(source, 0, 0, interface.index).into());
            }
            socket.set_multicast_hops_v6(ttl.into())?;
            socket.set_multicast_loop_v6(true)?;
        }
    }
    // Only grow the buffer: the default may be larger.
    if socket.send_buffer_size()? < SEND_BUFFER {
        socket.set_send_buffer_size(SEND_BUFFER)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A socket that receives the datagrams of `group` on `interface`. It is bound to the group's address: bound to 0.0.0.0 it would
/// also receive every other group that any program on this host has joined on the same port.
///
/// # Errors
/// Another program holds the port and does not share it, or the interface cannot join (no route, or down).
pub fn receiver(group: SocketAddr, interface: &Interface) -> io::Result<UdpSocket> {
    receiver_from(group, interface, None)
}

/// As [`receiver`]. If the group is source-specific (RFC 4607 section 1) and `sender` is known, only its datagrams arrive:
/// the join names it (IGMPv3, MLDv2). In all other groups the [tuner](crate::tuner::Tuner::accept_only) drops the datagrams of
/// other senders.
///
/// # Errors
/// As [`receiver`].
pub fn receiver_from(
    group: SocketAddr,
    interface: &Interface,
    sender: Option<IpAddr>,
) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(group), Type::DGRAM, Some(Protocol::UDP))?;
    if socket.recv_buffer_size()? < RECEIVE_BUFFER {
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    }
    join(&socket, group, interface, sender)?;
    Ok(socket.into())
}

/// A socket that receives what others send to `group` on `interface`: RTP packets of another SSRC than `own`. The kernel drops
/// all others before they are queued, so that a station's own packets, which come back to it, wake nobody. In a source-specific
/// group, only packets from `source` arrive: at another address, another sender is no conflict (RFC 4607 section 1).
///
/// Measured: that its own packets come back costs a station 0.6 us a picture on loopback, where a send of 22 kB takes 3.7 us, and
/// 2.3 us a burst of four packets on a veth, where a send takes 3.1 us: so it is [deaf](set_deaf) most of the time. Without UDP_GRO, the kernel would cut each burst into
/// packets first, and that would be 4.3 us. A socket and its membership take 4 kB of kernel memory.
///
/// # Errors
/// As [`receiver`].
#[cfg(feature = "broadcaster")]
pub fn listener(
    group: SocketAddr,
    interface: &Interface,
    source: Option<IpAddr>,
    own: u32,
) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(group), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(LISTEN_BUFFER)?;
    // Kernels before 5.0 lack it, and cut bursts.
    let _ = setsockopt(&socket, sockopt::UdpGroSegment, &true);
    // Before the socket is bound, so that nothing else is ever queued.
    socket.attach_filter(&foreign_rtp(own))?;
    socket.set_nonblocking(true)?;
    join(&socket, group, interface, source)?;
    // The way to the group, which `set_deaf` asks for, needs no route then.
    match group {
        SocketAddr::V4(_) => socket.set_multicast_if_v4(&ipv4_of(interface)?)?,
        SocketAddr::V6(_) => socket.set_multicast_if_v6(interface.index)?,
    }
    Ok(socket.into())
}

/// Has a [`listener`] hear nothing more, or again. A socket that is connected takes packets from that address alone, and no packet
/// comes from a group's. The membership stays, so that the network is told nothing.
///
/// # Errors
/// The system's.
#[cfg(feature = "broadcaster")]
pub fn set_deaf(listener: impl AsFd, group: SocketAddr, deaf: bool) -> io::Result<()> {
    if deaf {
        rustix::net::connect(listener, &group)?;
    } else {
        rustix::net::connect_unspec(listener)?;
    }
    Ok(())
}

/// A socket that receives what the receivers of a group report by RTCP: `group` is the address and port of the reports. The kernel
/// drops all that does not begin with a receiver report, so that the station's own reports, which come back to it, wake nobody.
///
/// # Errors
/// As [`receiver`].
#[cfg(feature = "broadcaster")]
pub fn report_listener(group: SocketAddr, interface: &Interface) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(group), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(LISTEN_BUFFER)?;
    socket.attach_filter(&receiver_reports())?;
    socket.set_nonblocking(true)?;
    join(&socket, group, interface, None)?;
    Ok(socket.into())
}

/// A classic BPF program that accepts version 2 and packet type 201 (RFC 3550 section 6.4.2); offsets as in [`foreign_rtp`].
#[cfg(feature = "broadcaster")]
fn receiver_reports() -> [SockFilter; 5] {
    use nix::libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_H, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET};
    let op = |code: u32, jt, jf, k| SockFilter::new(code as u16, jt, jf, k);
    [
        op(BPF_LD | BPF_H | BPF_ABS, 0, 0, 8),
        op(BPF_ALU | BPF_AND | BPF_K, 0, 0, 0xc0ff),
        op(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0x8000 | 201),
        op(BPF_RET | BPF_K, 0, 0, u32::MAX),
        op(BPF_RET | BPF_K, 0, 0, 0),
    ]
}

/// A classic BPF program that accepts RTP version 2 of any SSRC but `own`. On a UDP socket, offsets count from the UDP header,
/// which has 8 bytes. A load beyond the end of the packet drops it.
#[cfg(feature = "broadcaster")]
fn foreign_rtp(own: u32) -> [SockFilter; 7] {
    use nix::libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
    let op = |code: u32, jt, jf, k| SockFilter::new(code as u16, jt, jf, k);
    [
        op(BPF_LD | BPF_W | BPF_ABS, 0, 0, 8 + 8),
        op(BPF_JMP | BPF_JEQ | BPF_K, 3, 0, own),
        op(BPF_LD | BPF_B | BPF_ABS, 0, 0, 8),
        op(BPF_ALU | BPF_AND | BPF_K, 0, 0, 0xc0),
        op(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 2 << 6),
        op(BPF_RET | BPF_K, 0, 0, 0),
        op(BPF_RET | BPF_K, 0, 0, u32::MAX),
    ]
}

/// Binds a socket to `group`, and joins the group on `interface`.
fn join(socket: &Socket, group: SocketAddr, interface: &Interface, sender: Option<IpAddr>) -> io::Result<()> {
    socket.set_reuse_address(true)?;
    let mut at = group;
    if let SocketAddr::V6(at) = &mut at {
        at.set_scope_id(interface.index); // a link-local group cannot be bound without
    }
    socket.bind(&at.into())?;
    match (group.ip(), sender) {
        (IpAddr::V4(group), Some(IpAddr::V4(sender))) if is_source_specific(group.into()) => {
            socket.join_ssm_v4(&sender, &group, &ipv4_of(interface)?)?;
        }
        (IpAddr::V4(group), _) => {
            socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(interface.index))?;
        }
        (IpAddr::V6(group), Some(IpAddr::V6(sender))) if is_source_specific(group.into()) => {
            source_join::join(socket, group, sender, interface.index)?;
        }
        (IpAddr::V6(group), _) => socket.join_multicast_v6(&group, interface.index)?,
    }
    Ok(())
}

fn ipv4_of(interface: &Interface) -> io::Result<Ipv4Addr> {
    interface.v4.first().copied().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::AddrNotAvailable,
            format!("interface {} has no IPv4 address to multicast from", interface.name),
        )
    })
}

#[cfg(all(test, feature = "broadcaster"))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::interface::named;
    use crate::wire::rtp::{HEADER_LEN, Header};

    #[test]
    fn a_listener_is_deaf_for_as_long_as_it_shall_be() {
        let group: SocketAddr = "239.77.99.31:5034".parse().unwrap();
        let loopback = named("127.0.0.1").unwrap();
        let listener = listener(group, &loopback, None, 7).unwrap();
        let other = sender(group, &loopback, 0).unwrap();
        let send = |sequence| {
            let header = Header { marker: true, payload_type: 26, sequence, timestamp: 0, ssrc: 8 };
            let mut packet = [0; HEADER_LEN];
            header.emit(&mut packet);
            other.send_to(&packet, &group.into()).unwrap();
        };
        // On loopback a packet is there when the call returns.
        let mut bytes = [0; 64];
        let mut heard = || {
            let mut numbers = Vec::new();
            while let Ok(length) = listener.recv(&mut bytes) {
                numbers.push(Header::parse(&bytes[..length]).unwrap().0.sequence);
            }
            numbers
        };
        send(1);
        assert_eq!(heard(), [1]);
        for round in 0..3 {
            set_deaf(&listener, group, true).unwrap();
            send(2);
            assert!(heard().is_empty(), "round {round}");
            set_deaf(&listener, group, false).unwrap();
            send(3);
            assert_eq!(heard(), [3], "round {round}");
        }
    }

    /// A group of either version on loopback, from which a source is told by an address that loopback has.
    fn receives_only_from(group: &str, source: &str, other: &str) {
        let group: SocketAddr = group.parse().unwrap();
        let loopback = named("127.0.0.1").unwrap();
        let (source, other): (IpAddr, IpAddr) = (source.parse().unwrap(), other.parse().unwrap());
        let from_other = receiver_from(group, &loopback, Some(other)).unwrap();
        let from_source = receiver_from(group, &loopback, Some(source)).unwrap();
        from_source.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        from_other.set_nonblocking(true).unwrap();
        let sender = Socket::new(Domain::for_address(group), Type::DGRAM, Some(Protocol::UDP)).unwrap();
        sender.bind(&SocketAddr::new(source, 0).into()).unwrap();
        match group {
            SocketAddr::V4(_) => sender.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap(),
            SocketAddr::V6(_) => sender.set_multicast_if_v6(loopback.index).unwrap(),
        }
        let sender: UdpSocket = sender.into();
        sender.send_to(b"a", group).unwrap();
        let mut bytes = [0; 10];
        assert_eq!(from_source.recv_from(&mut bytes).unwrap().1.ip(), source);
        // On loopback, a datagram is queued at all sockets before it is read at one.
        assert_eq!(from_other.recv_from(&mut bytes).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_join_of_a_source_specific_group_names_the_sender() {
        receives_only_from("232.79.8.2:5004", "127.0.0.1", "127.0.0.2");
    }

    #[test]
    fn the_kernel_passes_only_reports_of_receivers() {
        let group: SocketAddr = "239.79.8.2:5005".parse().unwrap();
        let loopback = named("127.0.0.1").unwrap();
        let listener = report_listener(group, &loopback).unwrap();
        listener.set_nonblocking(false).unwrap();
        listener.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let anybody: UdpSocket = sender(group, &loopback, 0).unwrap().into();
        // A sender report, RTP, another version, and less than a header.
        for bytes in [&b"\x80\xc8\0\0"[..], b"\x80\x1a\0\0", b"\x40\xc9\0\0", b"\x80", b""] {
            anybody.send_to(bytes, group).unwrap();
        }
        anybody.send_to(b"\x81\xc9\0\x07report", group).unwrap();
        let mut bytes = [0; 100];
        let (length, _) = listener.recv_from(&mut bytes).unwrap();
        assert_eq!(bytes[..length], *b"\x81\xc9\0\x07report");
    }

    #[test]
    fn the_kernel_passes_only_the_rtp_of_others_to_a_listener() {
        let group: SocketAddr = "239.79.8.1:5004".parse().unwrap();
        let loopback = named("127.0.0.1").unwrap();
        let listener = listener(group, &loopback, None, 0x0feed).unwrap();
        listener.set_nonblocking(false).unwrap();
        listener.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let own: UdpSocket = sender(group, &loopback, 0).unwrap().into();
        // On the same machine, as another broadcaster may be.
        let other: UdpSocket = sender(group, &loopback, 0).unwrap().into();
        let packet = |ssrc| {
            let mut bytes = [0; HEADER_LEN];
            Header { marker: true, payload_type: 26, sequence: 1, timestamp: 1, ssrc }.emit(&mut bytes);
            bytes
        };
        own.send_to(&packet(0x0feed), group).unwrap();
        other.send_to(b"RTP of version 1", group).unwrap();
        other.send_to(b"short", group).unwrap();
        other.send_to(b"", group).unwrap();
        other.send_to(&packet(7), group).unwrap();
        own.send_to(&packet(0x0feed), group).unwrap();
        other.send_to(&packet(8), group).unwrap();
        let mut bytes = [0; 100];
        for ssrc in [7, 8] {
            let (length, from) = listener.recv_from(&mut bytes).unwrap();
            assert_eq!(bytes[..length], packet(ssrc));
            assert_eq!(from.port(), other.local_addr().unwrap().port());
        }
    }
}
