//! The socket of a group: datagrams with the kernel's stamp of their arrival, for the [receiver](super::receiver) and
//! the probe.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock::wall_clock;
use crate::interface::Interface;
use crate::media::AirTime;
use crate::net;

/// Datagrams that are read before the reader looks whether it is to stop: a sender that never lets the socket run empty does not keep
/// it.
pub const MOST_AT_ONCE: usize = 1000;

/// A socket that has joined a group.
#[derive(Debug)]
pub struct DatagramSource {
    socket: UdpSocket,
    bytes: Vec<u8>,
    control: Vec<u8>,
    kernel_drops: u64,
    buffer: usize,
}

/// One datagram.
#[derive(Debug)]
pub struct ReceivedDatagram<'a> {
    /// UDP payload, which may be decrypted in place.
    pub bytes: &'a mut [u8],
    /// When the kernel received it (SO_TIMESTAMPNS), before it was queued for the socket.
    pub arrival: AirTime,
    /// Source address.
    pub from: Option<SocketAddr>,
}

/// Result of a [`wait`]; both are false if it timed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// The stop event was signalled.
    pub stop: bool,
    /// The socket can be read.
    pub readable: bool,
}

impl DatagramSource {
    /// Joins `group` on `interface`. If `sender` is known and the group is source-specific, the kernel and the routers are
    /// asked for the packets of that sender alone (RFC 4607).
    ///
    /// # Errors
    /// Another program holds the port and does not share it, or the interface cannot join (no route, or down).
    pub fn join(
        group: SocketAddr,
        interface: &Interface,
        sender: Option<IpAddr>,
    ) -> io::Result<DatagramSource> {
        let socket = net::receiver_from(group, interface, sender)?;
        socket.set_nonblocking(true)?;
        // The kernel stamps each datagram on arrival, and counts those that it dropped since the buffer was full.
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        setsockopt(&socket, sockopt::RxqOvfl, &1)?;
        let buffer = socket2::SockRef::from(&socket).recv_buffer_size()?;
        let control = nix::cmsg_space!(nix::sys::time::TimeSpec, u32);
        Ok(DatagramSource { socket, bytes: vec![0; 65_536], control, kernel_drops: 0, buffer })
    }

    /// The receive buffer that the kernel granted, in bytes, its own overhead included.
    pub fn buffer(&self) -> usize {
        self.buffer
    }

    /// Datagrams that the kernel had dropped, the buffer being full, when the last one read arrived.
    pub fn kernel_drops(&self) -> u64 {
        self.kernel_drops
    }

    /// The next datagram; `None` if none is queued.
    ///
    /// # Errors
    /// The socket is of no more use. A link that goes down is not an error: the socket stays joined, and receives
    /// again when the link is up.
    #[expect(clippy::disallowed_methods, reason = "a shell: packets are stamped when they are read")]
    pub fn read(&mut self) -> io::Result<Option<ReceivedDatagram<'_>>> {
        let mut slices = [IoSliceMut::new(&mut self.bytes)];
        let message = match recvmsg::<SockaddrStorage>(
            self.socket.as_raw_fd(),
            &mut slices,
            Some(&mut self.control),
            MsgFlags::MSG_DONTWAIT,
        ) {
            Ok(message) => message,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(Errno::ENETDOWN | Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::ECONNREFUSED) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let mut arrival = None;
        for part in message.cmsgs()? {
            match part {
                ControlMessageOwned::ScmTimestampns(at) => {
                    arrival = Some(AirTime(at.tv_sec() as u64 * 1_000_000_000 + at.tv_nsec() as u64));
                }
                ControlMessageOwned::RxqOvfl(count) => self.kernel_drops = count.into(),
                _ => {}
            }
        }
        let (length, from) = (message.bytes, message.address.as_ref().and_then(address));
        let arrival = arrival.unwrap_or_else(wall_clock);
        Ok(Some(ReceivedDatagram { bytes: &mut self.bytes[..length], arrival, from }))
    }
}

fn address(from: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = from.as_sockaddr_in().map(|from| SocketAddrV4::from(*from).into());
    v4.or_else(|| from.as_sockaddr_in6().map(|from| SocketAddrV6::from(*from).into()))
}

impl AsFd for DatagramSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits until `socket` can be read or `stop` is signalled, or for `timeout`; without one, for ever.
///
/// # Errors
/// The system refuses to poll these descriptors.
pub fn wait(
    socket: Option<BorrowedFd<'_>>,
    stop: Option<BorrowedFd<'_>>,
    timeout: Option<Duration>,
) -> io::Result<Ready> {
    wait_for_any(socket, stop, timeout)
}

/// As [`wait`], until any of `sockets` can be read.
///
/// # Errors
/// As [`wait`].
pub(super) fn wait_for_any<'s>(
    sockets: impl IntoIterator<Item = BorrowedFd<'s>>,
    stop: Option<BorrowedFd<'_>>,
    timeout: Option<Duration>,
) -> io::Result<Ready> {
    let timeout =
        timeout.map(|span| Timespec { tv_sec: span.as_secs() as i64, tv_nsec: span.subsec_nanos().into() });
    let mut fds = Vec::with_capacity(3);
    fds.extend(stop.map(|stop| PollFd::from_borrowed_fd(stop, PollFlags::IN)));
    fds.extend(sockets.into_iter().map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN)));
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
    let stop = stop.is_some() && ready.next().unwrap_or(false);
    Ok(Ready { stop, readable: ready.any(|ready| ready) })
}
