//! The socket's own thread: it drains the socket into a [`Tuner`] and hands on every picture at once.
//!
//! A socket that is read slowly keeps the *oldest* datagrams and drops the new ones, so whatever takes
//! time (decoding, painting, saving) must happen elsewhere; the sink given here only puts a picture
//! where another thread finds it.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tracing::debug;

use super::meter::{Meter, Reading};
use super::{Counters, Received, Tuner};
use crate::clock::wall_clock;
use crate::interface::Interface;
use crate::net;
use crate::units::AirTime;

/// How long between tries to join a group that cannot be joined: no route, interface down.
const REJOIN: Duration = Duration::from_millis(500);

/// How a receiver fares.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What the tuner counted.
    pub counters: Counters,
    /// What the meter measured.
    pub reading: Reading,
    /// Datagrams that the kernel dropped because this host read too slowly.
    pub kernel_drops: u64,
    /// The receive buffer that the kernel granted, in bytes; it counts its own overhead in.
    pub buffer: usize,
    /// Why the group cannot be joined, while it cannot.
    pub problem: Option<String>,
}

/// Receives one station until it is dropped.
pub struct Receiver {
    shared: Arc<Mutex<Shared>>,
    stop: OwnedFd,
}

struct Shared {
    report: Report,
    meter: Meter,
    stopped: bool,
}

impl Receiver {
    /// Joins `group` on `interface` and hands every picture to `sink`, on the receiver's thread. What
    /// hinders joining is reported, and tried again for as long as it takes. `keep` pictures are measured.
    ///
    /// # Errors
    /// The system has no thread or event to give.
    pub fn start(
        group: SocketAddr,
        interface: Interface,
        keep: usize,
        sink: impl FnMut(Received) + Send + 'static,
    ) -> io::Result<Receiver> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Shared { report: Report::default(), meter: Meter::new(keep), stopped: false };
        let shared = Arc::new(Mutex::new(shared));
        let mut worker = Worker { group, interface, shared: shared.clone(), stop: stop.try_clone()?, sink };
        thread::Builder::new().name("receiver".into()).spawn(move || worker.run())?;
        Ok(Receiver { shared, stop })
    }

    /// How it fares so far.
    pub fn report(&self) -> Report {
        let shared = lock(&self.shared);
        Report { reading: shared.meter.read(), ..shared.report.clone() }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // After this no picture is handed on, even if the thread is in the middle of one.
        lock(&self.shared).stopped = true;
        // An eventfd that is already signalled has no room left; that is as good.
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
    }
}

// Nothing that panics runs with the lock held but our own arithmetic: the state is sound.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Worker<S> {
    group: SocketAddr,
    interface: Interface,
    shared: Arc<Mutex<Shared>>,
    stop: OwnedFd,
    sink: S,
}

impl<S: FnMut(Received)> Worker<S> {
    fn run(&mut self) {
        loop {
            match self.join() {
                Ok(socket) => {
                    if let Err(error) = self.receive(&socket) {
                        lock(&self.shared).report.problem = Some(error.to_string());
                    }
                }
                Err(error) => lock(&self.shared).report.problem = Some(error.to_string()),
            }
            if lock(&self.shared).stopped || self.wait(None, Some(REJOIN)).is_ok_and(|ready| ready.stop) {
                return;
            }
        }
    }

    fn join(&self) -> io::Result<UdpSocket> {
        let socket = net::receiver(self.group, &self.interface)?;
        socket.set_nonblocking(true)?;
        // The kernel stamps each datagram as it comes, and says how many found the buffer full.
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        setsockopt(&socket, sockopt::RxqOvfl, &1)?;
        let mut shared = lock(&self.shared);
        shared.report.buffer = socket2::SockRef::from(&socket).recv_buffer_size()?;
        shared.report.problem = None;
        Ok(socket)
    }

    fn receive(&mut self, socket: &UdpSocket) -> io::Result<()> {
        let mut tuner = Tuner::new();
        let mut buffer = vec![0; 65_536];
        let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec, u32);
        loop {
            let patience = tuner.poll_timeout().map(|deadline| deadline.since(wall_clock()));
            let ready = self.wait(Some(socket), patience)?;
            if ready.stop {
                return Ok(());
            }
            if ready.datagram {
                while let Some(datagram) = read(socket, &mut buffer, &mut control)? {
                    if let Some(drops) = datagram.drops {
                        lock(&self.shared).report.kernel_drops = drops.into();
                    }
                    let bytes = &buffer[..datagram.length];
                    if let Err(fault) = tuner.handle_datagram(datagram.arrival, bytes) {
                        let (group, from) = (self.group, datagram.from);
                        debug!(
                            "{group}: a datagram of {} bytes from {from} is of no use: {fault}",
                            bytes.len()
                        );
                    }
                    self.hand_on(&mut tuner);
                }
            }
            tuner.handle_timeout(wall_clock());
            self.hand_on(&mut tuner);
        }
    }

    fn hand_on(&mut self, tuner: &mut Tuner) {
        let mut shared = lock(&self.shared);
        shared.report.counters = tuner.counters();
        while let Some(picture) = tuner.poll_picture() {
            if shared.stopped {
                return;
            }
            shared.meter.record(&picture);
            (self.sink)(picture);
        }
    }

    /// Waits for a datagram, for the end, or until `patience` is over.
    fn wait(&self, socket: Option<&UdpSocket>, patience: Option<Duration>) -> io::Result<Ready> {
        let timeout = patience
            .map(|span| Timespec { tv_sec: span.as_secs() as i64, tv_nsec: span.subsec_nanos().into() });
        let stop = PollFd::new(&self.stop, PollFlags::IN);
        let mut fds = vec![stop];
        fds.extend(socket.map(|socket| PollFd::new(socket, PollFlags::IN)));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = |n: usize| fds.get(n).is_some_and(|fd| !fd.revents().is_empty());
        Ok(Ready { stop: ready(0), datagram: ready(1) })
    }
}

struct Ready {
    stop: bool,
    datagram: bool,
}

struct Datagram {
    length: usize,
    arrival: AirTime,
    from: String,
    drops: Option<u32>,
}

/// The next datagram; `None` when there is none for now.
fn read(socket: &UdpSocket, buffer: &mut [u8], control: &mut [u8]) -> io::Result<Option<Datagram>> {
    use nix::errno::Errno;
    let mut slices = [IoSliceMut::new(buffer)];
    let message = match recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut slices,
        Some(control),
        MsgFlags::MSG_DONTWAIT,
    ) {
        Ok(message) => message,
        Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
        // The link went down: the socket stays joined, and datagrams come again when the link does.
        Err(Errno::ENETDOWN | Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::ECONNREFUSED) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let mut arrival = None;
    let mut drops = None;
    for part in message.cmsgs()? {
        match part {
            ControlMessageOwned::ScmTimestampns(at) => {
                arrival = Some(AirTime(at.tv_sec() as u64 * 1_000_000_000 + at.tv_nsec() as u64));
            }
            ControlMessageOwned::RxqOvfl(count) => drops = Some(count),
            _ => {}
        }
    }
    let from = message.address.map_or_else(|| "an unknown address".into(), |address| address.to_string());
    Ok(Some(Datagram { length: message.bytes, arrival: arrival.unwrap_or_else(wall_clock), from, drops }))
}
