//! Joins a multicast group over IPv6 for the datagrams of one source alone (RFC 3678 section 5.1, MLDv2). socket2, nix and rustix
//! have that call for IPv4 only.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use libc::{AF_INET6, IPPROTO_IPV6, in6_addr, sa_family_t, sockaddr_in6, sockaddr_storage};

/// Number of the socket option in Linux's `in.h`.
const MCAST_JOIN_SOURCE_GROUP: libc::c_int = 46;

/// `struct group_source_req` of Linux's `in.h`.
#[repr(C)]
struct Request {
    interface: u32,
    group: sockaddr_storage,
    source: sockaddr_storage,
}

/// Lets a UDP socket over IPv6 receive the datagrams that `source` sends to `group` on the interface of this index, and no others
/// to that group.
///
/// # Errors
/// The interface is gone, down, or has no route, or the socket is not of IPv6.
pub fn join(socket: impl AsFd, group: Ipv6Addr, source: Ipv6Addr, interface: u32) -> io::Result<()> {
    let request = Request { interface, group: address(group), source: address(source) };
    // SAFETY: the descriptor is open for as long as `socket` is borrowed. The kernel reads no more than `size_of::<Request>()` bytes
    // from `request`, all of which are initialised, and keeps no pointer to it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            IPPROTO_IPV6,
            MCAST_JOIN_SOURCE_GROUP,
            (&raw const request).cast(),
            size_of::<Request>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// An address as a socket address without a port.
fn address(ip: Ipv6Addr) -> sockaddr_storage {
    // SAFETY: all fields of both structures are numbers, for which zero is a value.
    let (mut storage, mut at): (sockaddr_storage, sockaddr_in6) = unsafe { (zeroed(), zeroed()) };
    at.sin6_family = AF_INET6 as sa_family_t;
    at.sin6_addr = in6_addr { s6_addr: ip.octets() };
    // SAFETY: a `sockaddr_storage` is made to hold any socket address: it is at least as large as a `sockaddr_in6`, and aligned for
    // it.
    unsafe { ptr::write((&raw mut storage).cast(), at) };
    storage
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_socket_of_ipv4_cannot_join_and_says_so() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(join(&socket, "ff31::8000:1".parse().unwrap(), Ipv6Addr::LOCALHOST, 1).is_err());
    }

    #[test]
    fn the_address_is_where_the_kernel_looks_for_it() {
        let ip: Ipv6Addr = "ff31::8000:1".parse().unwrap();
        let storage = address(ip);
        // SAFETY: `address` wrote such a structure.
        let at: sockaddr_in6 = unsafe { ptr::read((&raw const storage).cast()) };
        assert_eq!((at.sin6_addr.s6_addr, i32::from(at.sin6_family)), (ip.octets(), AF_INET6));
    }
}
