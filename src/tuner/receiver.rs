//! The socket's own thread: it drains the socket into a [`Tuner`] and hands on every picture at once.
//!
//! A socket that is read slowly keeps the *oldest* datagrams and drops the new ones, so whatever takes
//! time (decoding, painting, saving) must happen elsewhere; the sink given here only puts a picture
//! where another thread finds it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use tracing::debug;

use super::meter::{Meter, Reading};
use super::source::{Datagram, DatagramSource, wait};
#[cfg(feature = "viewer")]
use super::stream::StreamSource;
use super::{Counters, Received, Tuner};
use crate::clock::wall_clock;
use crate::interface::{Interface, named};
#[cfg(feature = "viewer")]
use crate::units::StationId;

/// How long between tries to join a group that cannot be joined: no route, interface down or not there.
const REJOIN: Duration = Duration::from_millis(500);

/// A station that plays in a connection sends something within this, a slate too; else the connection is dead.
#[cfg(feature = "viewer")]
const SILENCE: Duration = Duration::from_secs(5);

/// Where a station's packets come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// From its group, which is joined on the interface of that name or address. It is looked for at each try: an
    /// address may have moved, a card may be put in.
    Group(SocketAddr, String),
    /// From an RTSP server, in the connection itself.
    #[cfg(feature = "viewer")]
    Rtsp(SocketAddr, StationId),
}

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
    /// Why nothing comes, while that is known: the group cannot be joined, or the server refuses.
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
    /// Joins the group, or connects, and hands every picture to `sink`, on the receiver's thread. What hinders it
    /// is reported, and tried again for as long as it takes. `keep` pictures are measured.
    ///
    /// # Errors
    /// The system has no thread or event to give.
    pub fn start(
        origin: Origin,
        keep: usize,
        sink: impl FnMut(Received) + Send + 'static,
    ) -> io::Result<Receiver> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Shared { report: Report::default(), meter: Meter::new(keep), stopped: false };
        let shared = Arc::new(Mutex::new(shared));
        let mut worker = Worker { origin, shared: shared.clone(), stop: stop.try_clone()?, sink };
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
    origin: Origin,
    shared: Arc<Mutex<Shared>>,
    stop: OwnedFd,
    sink: S,
}

impl<S: FnMut(Received)> Worker<S> {
    fn run(&mut self) {
        loop {
            if let Err(error) = self.run_once() {
                lock(&self.shared).report.problem = Some(error.to_string());
            }
            if lock(&self.shared).stopped
                || wait(None, Some(self.stop.as_fd()), Some(REJOIN)).is_ok_and(|ready| ready.stop)
            {
                return;
            }
        }
    }

    /// Receives until the socket is of no more use, or nobody wants more.
    fn run_once(&mut self) -> io::Result<()> {
        match self.origin.clone() {
            Origin::Group(group, interface) => self.receive(group, &named(&interface)?),
            #[cfg(feature = "viewer")]
            Origin::Rtsp(server, station) => self.play(server, station),
        }
    }

    fn receive(&mut self, group: SocketAddr, interface: &Interface) -> io::Result<()> {
        let mut source = DatagramSource::join(group, interface)?;
        self.begin(source.buffer());
        let mut tuner = Tuner::new();
        loop {
            let patience = tuner.poll_timeout().map(|deadline| deadline.since(wall_clock()));
            let ready = wait(Some(source.as_fd()), Some(self.stop.as_fd()), patience)?;
            if ready.stop {
                return Ok(());
            }
            while ready.readable
                && let Some(Datagram { bytes, arrival, from }) = source.read()?
            {
                if let Err(fault) = tuner.handle_datagram(arrival, bytes) {
                    let length = bytes.len();
                    let from = from.map_or_else(|| "an unknown address".into(), |from| from.to_string());
                    debug!("{group}: a datagram of {length} bytes from {from} is of no use: {fault}");
                }
                lock(&self.shared).report.kernel_drops = source.kernel_drops();
                self.hand_on(&mut tuner);
            }
            tuner.handle_timeout(wall_clock());
            self.hand_on(&mut tuner);
        }
    }

    #[cfg(feature = "viewer")]
    fn play(&mut self, server: SocketAddr, station: StationId) -> io::Result<()> {
        let at_server = |error: io::Error| io::Error::new(error.kind(), format!("{server}: {error}"));
        let mut source = StreamSource::open(server, station).map_err(at_server)?;
        self.begin(0);
        let mut tuner = Tuner::new();
        let mut heard = wall_clock();
        loop {
            let ready = wait(
                Some(source.as_fd()),
                Some(self.stop.as_fd()),
                Some(source.keep_alive_in().min(SILENCE)),
            )?;
            if ready.stop {
                return Ok(());
            }
            if ready.readable {
                heard = wall_clock();
            } else if wall_clock().since(heard) >= SILENCE {
                return Err(at_server(io::Error::new(io::ErrorKind::TimedOut, "nothing comes any more")));
            }
            // A packet cannot be told from the next by when it came: all of a read came now.
            let packet = |packet: &[u8]| {
                if let Err(fault) = tuner.handle_datagram(heard, packet) {
                    debug!("{server}: a packet of {} bytes is of no use: {fault}", packet.len());
                }
                self.hand_on(&mut tuner);
            };
            source.read(packet).map_err(at_server)?;
            source.keep_alive().map_err(at_server)?;
        }
    }

    /// Says that nothing is in the way any more.
    fn begin(&self, buffer: usize) {
        let mut shared = lock(&self.shared);
        shared.report.buffer = buffer;
        shared.report.problem = None;
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
}
