//! The receiver: a thread of its own that drains a socket into a [`Tuner`] and delivers every picture at once.
//!
//! A socket that is read slowly keeps the *oldest* datagrams and drops new ones. So decoding, painting and saving must
//! happen on other threads; the sink given here only queues the picture for one.

mod thread;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[cfg(feature = "viewer")]
use rtsp_types::Url;
use rustix::event::{EventfdFlags, eventfd};

use super::keyring::Opener;
use super::meter::{Meter, MeterReading};
#[cfg(feature = "viewer")]
use super::rtsp_client::RtspServer;
use super::signed::{Requirement, SignedCounters};
use super::{Expected, ReceivedPicture, Tuner, TunerCounters, join};
use crate::directory::StationInfo;
use crate::log::LoggedOnce;
#[cfg(feature = "viewer")]
use crate::media::{AirTime, SoundCodec, StationId};
#[cfg(feature = "viewer")]
use crate::wire::rtp::Header;
use thread::{ReceiverThread, Signed};

/// Most kinds of refused pictures that are logged.
const MAX_REFUSALS: usize = 8;

/// Source of a station's packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiveFrom {
    /// The group and port, joined on the interface of this name or address. The interface is looked up at each attempt:
    /// it may get another address, or appear later. The address, if there is one, is the only source whose packets are
    /// taken.
    Group(SocketAddr, String, Option<IpAddr>),
    /// A URL of an RTSP server, which interleaves the packets in the connection itself (RFC 2326 section 10.12).
    #[cfg(feature = "viewer")]
    Rtsp(Box<RtspServer>, Url),
}

/// Takes the packets of sound that come in the same connection as the pictures: when each arrived, its codec, its header
/// and its payload. Must return at once.
#[cfg(feature = "viewer")]
pub type SoundSink = Box<dyn FnMut(AirTime, SoundCodec, Header, &[u8]) + Send>;

impl ReceiveFrom {
    /// The group of `station`, on the interface on which it arrives, given that `directory` listed it: see
    /// [`join::interface_for_station`].
    ///
    /// # Errors
    /// This machine has no route to the directory.
    pub fn group_of(station: &StationInfo, directory: SocketAddr) -> io::Result<ReceiveFrom> {
        let local = join::local_address(directory)?;
        let interface = join::interface_for_station(station, None, directory.ip(), local);
        Ok(ReceiveFrom::Group(station.group, interface, None))
    }

    /// The station `id` of the broadcaster of this RTSP server.
    #[cfg(feature = "viewer")]
    pub fn rtsp_station(server: &RtspServer, id: StationId) -> ReceiveFrom {
        let mut host = server.address;
        if let SocketAddr::V6(host) = &mut host {
            host.set_scope_id(0); // a URL cannot carry a zone
        }
        let scheme = if server.tls.is_some() { "rtsps" } else { "rtsp" };
        let url = Url::parse(&format!("{scheme}://{host}/{id}")).expect("an address and a number make a URL");
        ReceiveFrom::Rtsp(server.clone().into(), url)
    }
}

/// The state of a receiver, for display.
#[derive(Debug, Clone, Default)]
pub struct ReceiverStatus {
    /// Counts of the tuner.
    pub counters: TunerCounters,
    /// Measurements of the last pictures.
    pub reading: MeterReading,
    /// Datagrams that the kernel dropped because its receive buffer was full.
    pub kernel_drops: u64,
    /// Receive buffer that the kernel granted, in bytes, its own overhead included. 0 over RTSP.
    pub buffer: usize,
    /// Why no picture arrives, if that is known: the group cannot be joined, the server refuses, or the pictures are of a
    /// kind that cannot be shown.
    pub problem: Option<String>,
    /// The other senders whose pictures come to the group now: their addresses and ports.
    pub other_senders: Vec<SocketAddr>,
    /// The other senders so far, those that have ended included; the first few.
    pub all_other_senders: Vec<SocketAddr>,
    /// The counts of pictures that must be signed; `None` if they need not be.
    pub signed: Option<SignedCounters>,
}

/// Receives one station until it is dropped.
pub struct Receiver {
    shared: Arc<Mutex<SharedStatus>>,
    /// An eventfd that ends the thread.
    stop: OwnedFd,
}

/// State shared by the receiver's thread and its owner.
struct SharedStatus {
    /// All but the reading, which is computed when it is asked for.
    status: ReceiverStatus,
    meter: Meter,
    stopped: bool,
    /// What the owner expects.
    expected: Expected,
    /// The requirement that pictures must meet; `None`: there is none.
    required: Option<Requirement>,
}

impl Receiver {
    /// Starts a thread that joins the group, or connects, and calls `sink` with every whole picture, in order. `sink`
    /// must return at once: see the module's documentation. A failure to join or connect is reported as the status's
    /// `problem` and retried every 500 ms. The last `measured` pictures make up the status's `reading`.
    ///
    /// # Errors
    /// The system refuses a thread or an eventfd.
    pub fn start(
        from: ReceiveFrom,
        measured: usize,
        sink: impl FnMut(ReceivedPicture) + Send + 'static,
    ) -> io::Result<Receiver> {
        Receiver::begin(
            from,
            measured,
            sink,
            None,
            None,
            #[cfg(feature = "viewer")]
            None,
        )
    }

    /// As [`start`](Self::start), of a station that may be encrypted: `opener` knows. Delivers only pictures that keep the `requirement`,
    /// if there is one.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    #[cfg(feature = "viewer")]
    pub fn start_protected(
        from: ReceiveFrom,
        measured: usize,
        sink: impl FnMut(ReceivedPicture) + Send + 'static,
        opener: Opener,
        requirement: Option<Requirement>,
    ) -> io::Result<Receiver> {
        Receiver::begin(from, measured, sink, Some(opener), requirement, None)
    }

    /// As [`start`](Self::start). If the pictures come by RTSP, the server is asked for the sound too, and `sound` is called with
    /// each packet of it.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    #[cfg(feature = "viewer")]
    pub fn start_with_sound(
        from: ReceiveFrom,
        measured: usize,
        sink: impl FnMut(ReceivedPicture) + Send + 'static,
        sound: SoundSink,
    ) -> io::Result<Receiver> {
        Receiver::begin(from, measured, sink, None, None, Some(sound))
    }

    fn begin(
        from: ReceiveFrom,
        measured: usize,
        sink: impl FnMut(ReceivedPicture) + Send + 'static,
        opener: Option<Opener>,
        required: Option<Requirement>,
        #[cfg(feature = "viewer")] sound: Option<SoundSink>,
    ) -> io::Result<Receiver> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = SharedStatus {
            status: ReceiverStatus {
                signed: required.map(|_| SignedCounters::default()),
                ..ReceiverStatus::default()
            },
            meter: Meter::new(measured),
            stopped: false,
            expected: Expected::default(),
            required,
        };
        let shared = Arc::new(Mutex::new(shared));
        let (worker_shared, worker_stop) = (shared.clone(), stop.try_clone()?);
        let mut worker = ReceiverThread {
            from,
            tuner: Tuner::new(),
            shared: worker_shared,
            stop: worker_stop,
            sink,
            opener,
            #[cfg(feature = "viewer")]
            sound,
            refusals: LoggedOnce::new(MAX_REFUSALS),
            signed: Signed::default(),
        };
        std::thread::Builder::new().name("receiver".into()).spawn(move || worker.run())?;
        Ok(Receiver { shared, stop })
    }

    /// Tells what the station should be sending, so that its silence counts as lost pictures. Has no effect over RTSP.
    pub fn expect(&self, expected: Expected) {
        lock(&self.shared).expected = expected;
    }

    /// Follows what the directory tells of the station's signatures, if the receiver was [started](Self::start_protected) with a
    /// requirement.
    pub fn require(&self, requirement: Requirement) {
        let mut shared = lock(&self.shared);
        shared.required = shared.required.map(|_| requirement);
    }

    /// The other senders whose pictures come to the group now. Cheaper than the whole status.
    pub fn other_senders(&self) -> Vec<SocketAddr> {
        lock(&self.shared).status.other_senders.clone()
    }

    /// The status now.
    pub fn status(&self) -> ReceiverStatus {
        // Outside the lock: sorting a million measurements takes longer than the socket can wait.
        let (meter, status) = {
            let shared = lock(&self.shared);
            (shared.meter.clone(), shared.status.clone())
        };
        ReceiverStatus { reading: meter.read(), ..status }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // After this the sink is not called again, even if the thread is handling a datagram.
        lock(&self.shared).stopped = true;
        // A write fails only if the eventfd is already signalled.
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
    }
}

// A poisoned lock is usable: its holders only assign fields and call the sink, so the state is consistent.
fn lock(shared: &Mutex<SharedStatus>) -> MutexGuard<'_, SharedStatus> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, feature = "viewer"))]
mod tests;
