//! Multicast sockets: open, join, leave.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

use crate::interface::Interface;

/// What a station asks for as its send buffer, in bytes: a few of the largest pictures, for the moment in which
/// the interface's queue is full.
const SEND_BUFFER: usize = 512 * 1024;

/// What a viewer asks for as its receive buffer, in bytes: forty of the largest pictures. The kernel grants at
/// most `net.core.rmem_max`, and counts each datagram's overhead in.
pub const RECEIVE_BUFFER: usize = 4 << 20;

/// What UDP and IP put before a payload sent to `address`, in bytes.
#[cfg(feature = "broadcaster")]
pub(crate) const fn headers(address: IpAddr) -> usize {
    if address.is_ipv4() { 28 } else { 48 }
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
    match group.ip() {
        IpAddr::V4(group) => {
            socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(interface.index))?;
        }
        IpAddr::V6(group) => socket.join_multicast_v6(&group, interface.index)?,
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
