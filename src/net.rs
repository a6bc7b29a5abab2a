//! Multicast sockets: open, join, leave.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, UdpSocket};
#[cfg(feature = "broadcaster")]
use std::sync::Arc;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, Socket, Type};

use crate::interface::Interface;
#[cfg(feature = "broadcaster")]
use crate::interface::watch::Interfaces;
use crate::wire::sdp::is_source_specific;

/// What a station asks for as its send buffer, in bytes: a few of the largest pictures, for the moment in which
/// the interface's queue is full.
const SEND_BUFFER: usize = 512 * 1024;

/// What a viewer asks for as its receive buffer, in bytes: forty of the largest pictures. The kernel grants at
/// most `net.core.rmem_max`, and counts each datagram's overhead in.
pub const RECEIVE_BUFFER: usize = 4 << 20;

/// A socket that sends to one address and never blocks.
pub struct SendSocket(Medium);

/// What becomes of a datagram in a simulation.
#[cfg(test)]
type SimulatedSocket = dyn FnMut(&[u8]) -> io::Result<usize> + Send;

enum Medium {
    Udp {
        socket: Socket,
        /// Named with each call, not connected to: connecting fails while there is no route.
        to: SockAddr,
    },
    #[cfg(test)]
    Simulated(Box<SimulatedSocket>),
}

impl SendSocket {
    /// Sends by `socket`, which does not block, to `to`.
    pub fn new(socket: Socket, to: SocketAddr) -> SendSocket {
        SendSocket(Medium::Udp { socket, to: to.into() })
    }

    /// Sends datagrams to `network`, which answers as a socket does.
    #[cfg(test)]
    pub(crate) fn simulated(network: impl FnMut(&[u8]) -> io::Result<usize> + Send + 'static) -> SendSocket {
        SendSocket(Medium::Simulated(Box::new(network)))
    }

    /// Sends one datagram, or several if the kernel [cuts](Self::cut) it. Returns the bytes sent.
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

    /// Has the kernel cut what it is given into datagrams of `bytes` (UDP_SEGMENT), or not any more if that is 0.
    ///
    /// # Errors
    /// The kernel cannot: before Linux 4.18, say.
    pub fn cut(&mut self, bytes: i32) -> io::Result<()> {
        match &self.0 {
            Medium::Udp { socket, .. } => Ok(setsockopt(socket, sockopt::UdpGsoSegment, &bytes)?),
            #[cfg(test)]
            Medium::Simulated(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// What opens a socket that sends to a group, out of an interface, with this TTL: [`sender`], or a simulation.
#[cfg(feature = "broadcaster")]
type Open = dyn Fn(SocketAddr, &Interface, u8) -> io::Result<SendSocket> + Send + Sync;

/// The network as stations use it: this machine's interfaces as they are, and sockets on these.
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

    /// A network whose sockets `open` makes.
    pub(crate) fn new(
        interfaces: Interfaces,
        open: impl Fn(SocketAddr, &Interface, u8) -> io::Result<SendSocket> + Send + Sync + 'static,
    ) -> Network {
        Network { interfaces, open: Arc::new(open) }
    }

    /// A socket that sends to `group`, out of `interface`.
    ///
    /// # Errors
    /// As [`sender`].
    pub fn open(&self, group: SocketAddr, interface: &Interface, ttl: u8) -> io::Result<SendSocket> {
        (self.open)(group, interface, ttl)
    }
}

/// A socket that sends to `group`, out of `interface`, and to nothing else. It does not block.
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
    // The default may be more: only ever grow it.
    if socket.send_buffer_size()? < SEND_BUFFER {
        socket.set_send_buffer_size(SEND_BUFFER)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A socket on which the datagrams of `group` arrive that reach `interface`. It is bound to the group's own
/// address: bound to 0.0.0.0 it would also get every other group that any program on
/// this host has joined on that port.
///
/// # Errors
/// The port is taken by a program that does not share it, or the interface cannot join (no route, or down).
pub fn receiver(group: SocketAddr, interface: &Interface) -> io::Result<UdpSocket> {
    receiver_from(group, interface, None)
}

/// As [`receiver`]. If the group is source-specific (RFC 4607 section 1) and `sender` is known, only its datagrams arrive:
/// the join names it (IGMPv3). Over IPv6 the kernel joins for any sender, since socket2 has no call that names one; the
/// [tuner](crate::tuner::Tuner::accept_only) drops the others, as in all other groups.
///
/// # Errors
/// As [`receiver`].
pub fn receiver_from(
    group: SocketAddr,
    interface: &Interface,
    sender: Option<IpAddr>,
) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(group), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    if socket.recv_buffer_size()? < RECEIVE_BUFFER {
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    }
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
        (IpAddr::V6(group), _) => socket.join_multicast_v6(&group, interface.index)?,
    }
    Ok(socket.into())
}

fn ipv4_of(interface: &Interface) -> io::Result<Ipv4Addr> {
    interface.v4.first().copied().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::AddrNotAvailable,
            format!("interface {} has no IPv4 address to multicast from", interface.name),
        )
    })
}
