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

use super::meter::{Meter, MeterReading};
#[cfg(feature = "viewer")]
use super::rtsp_client::RtspSource;
use super::source::{DatagramSource, ReceivedDatagram, wait};
use super::{ReceivedPicture, Tuner, TunerCounters};
use crate::clock::wall_clock;
use crate::interface::{Interface, named};
#[cfg(feature = "viewer")]
use crate::media::StationId;

/// How long between tries to join a group that cannot be joined: no route, interface down or not there.
const REJOIN: Duration = Duration::from_millis(500);

/// A station that plays in a connection sends something within this, a slate too; else the connection is dead.
#[cfg(feature = "viewer")]
const SILENCE: Duration = Duration::from_secs(5);

/// Where a station's packets come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiveFrom {
    /// From its group, which is joined on the interface of that name or address. It is looked for at each try: an
    /// address may have moved, a card may be put in.
    Group(SocketAddr, String),
    /// From an RTSP server, in the connection itself.
    #[cfg(feature = "viewer")]
    Rtsp(SocketAddr, StationId),
}

/// How a receiver fares.
#[derive(Debug, Clone, Default)]
pub struct ReceiverStatus {
    /// What the tuner counted.
    pub counters: TunerCounters,
    /// What the meter measured.
    pub reading: MeterReading,
    /// Datagrams that the kernel dropped because this host read too slowly.
    pub kernel_drops: u64,
    /// The receive buffer that the kernel granted, in bytes; it counts its own overhead in.
    pub buffer: usize,
    /// Why nothing comes, while that is known: the group cannot be joined, or the server refuses.
    pub problem: Option<String>,
}

/// Receives one station until it is dropped.
pub struct Receiver {
    shared: Arc<Mutex<SharedStatus>>,
    stop: OwnedFd,
}

struct SharedStatus {
    report: ReceiverStatus,
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
        origin: ReceiveFrom,
        keep: usize,
        sink: impl FnMut(ReceivedPicture) + Send + 'static,
    ) -> io::Result<Receiver> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared =
            SharedStatus { report: ReceiverStatus::default(), meter: Meter::new(keep), stopped: false };
        let shared = Arc::new(Mutex::new(shared));
        let (worker_shared, worker_stop) = (shared.clone(), stop.try_clone()?);
        let mut worker =
            ReceiverThread { origin, tuner: Tuner::new(), shared: worker_shared, stop: worker_stop, sink };
        thread::Builder::new().name("receiver".into()).spawn(move || worker.run())?;
        Ok(Receiver { shared, stop })
    }

    /// How it fares so far.
    pub fn report(&self) -> ReceiverStatus {
        // Read from a copy: to sort all that was measured in eleven hours takes longer than the socket can wait.
        let (meter, report) = {
            let shared = lock(&self.shared);
            (shared.meter.clone(), shared.report.clone())
        };
        ReceiverStatus { reading: meter.read(), ..report }
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
fn lock(shared: &Mutex<SharedStatus>) -> MutexGuard<'_, SharedStatus> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

struct ReceiverThread<S> {
    origin: ReceiveFrom,
    /// One for all connections: what was counted and lost before the last one stays counted.
    tuner: Tuner,
    shared: Arc<Mutex<SharedStatus>>,
    stop: OwnedFd,
    sink: S,
}

impl<S: FnMut(ReceivedPicture)> ReceiverThread<S> {
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
            ReceiveFrom::Group(group, interface) => self.receive(group, &named(&interface)?),
            #[cfg(feature = "viewer")]
            ReceiveFrom::Rtsp(server, station) => self.play(server, station),
        }
    }

    fn receive(&mut self, group: SocketAddr, interface: &Interface) -> io::Result<()> {
        let mut source = DatagramSource::join(group, interface)?;
        self.begin(source.buffer());
        let drops_before = lock(&self.shared).report.kernel_drops;
        loop {
            let patience = self.tuner.poll_timeout().map(|deadline| deadline.since(wall_clock()));
            let ready = wait(Some(source.as_fd()), Some(self.stop.as_fd()), patience)?;
            if ready.stop {
                return Ok(());
            }
            while ready.readable
                && let Some(ReceivedDatagram { bytes, arrival, from }) = source.read()?
            {
                if let Err(fault) = self.tuner.handle_datagram(arrival, bytes) {
                    let length = bytes.len();
                    let from = from.map_or_else(|| "an unknown address".into(), |from| from.to_string());
                    debug!("{group}: a datagram of {length} bytes from {from} is of no use: {fault}");
                }
                lock(&self.shared).report.kernel_drops = drops_before + source.kernel_drops();
                self.hand_on();
            }
            self.tuner.handle_timeout(wall_clock());
            self.hand_on();
        }
    }

    #[cfg(feature = "viewer")]
    fn play(&mut self, server: SocketAddr, station: StationId) -> io::Result<()> {
        let at_server = |error: io::Error| io::Error::new(error.kind(), format!("{server}: {error}"));
        let mut source = RtspSource::open(server, station).map_err(at_server)?;
        self.begin(0);
        let mut heard = wall_clock();
        loop {
            // Before the wait: packets may have come with the answer to PLAY. They cannot be told from each other by when
            // they came: all of a read came at once.
            let packet = |packet: &[u8]| {
                if let Err(fault) = self.tuner.handle_datagram(heard, packet) {
                    debug!("{server}: a packet of {} bytes is of no use: {fault}", packet.len());
                }
                self.hand_on();
            };
            source.read(packet).map_err(at_server)?;
            source.keep_alive().map_err(at_server)?;
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
        }
    }

    /// Says that nothing is in the way any more.
    fn begin(&mut self, buffer: usize) {
        self.tuner.start_over();
        let mut shared = lock(&self.shared);
        shared.report.buffer = buffer;
        shared.report.problem = None;
    }

    fn hand_on(&mut self) {
        let mut shared = lock(&self.shared);
        let counters = self.tuner.counters();
        shared.report.counters = counters;
        while let Some(picture) = self.tuner.poll_picture() {
            if shared.stopped {
                return;
            }
            shared.meter.record(&picture, counters.restarts);
            (self.sink)(picture);
        }
    }
}

#[cfg(all(test, feature = "viewer"))]
mod tests {
    use super::*;
    use crate::tuner::rtsp_client::tests::{framed, opening, serve};

    /// How often to look, and how often at most: a guard against hanging, never a measurement.
    const LOOK: Duration = Duration::from_millis(10);
    const LOOKS: usize = 3000;

    #[test]
    fn a_connection_that_breaks_takes_no_count_with_it() {
        // Each packet comes in one piece with the answer to PLAY. The first connection is closed then, the second says
        // nothing more.
        let mut answers = opening("RTP/AVP/TCP;unicast;interleaved=0-1");
        answers[2].extend(framed(0, b"no RTP"));
        let address = serve(vec![answers.clone(), answers]).0;
        let receiver = Receiver::start(ReceiveFrom::Rtsp(address, StationId(2)), 10, |_| {}).unwrap();
        let came = (0..LOOKS).any(|_| {
            let _ = wait(None, None, Some(LOOK));
            receiver.report().counters.datagrams == 2
        });
        assert!(came, "{:?}", receiver.report());
    }
}
