//! Sockets that send to a group and sockets that receive from one, and the network as stations use it.
//!
//! Any room may import it. It imports `interface`.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, UdpSocket};
#[cfg(feature = "broadcaster")]
use std::sync::Arc;

use nix::sys::socket::{setsockopt, sockopt};
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
