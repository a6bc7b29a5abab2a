//! The receiver: a thread of its own that drains a socket into a [`Tuner`] and delivers every picture at once.
//!
//! A socket that is read slowly keeps the *oldest* datagrams and drops new ones. So decoding, painting and saving must
//! happen on other threads; the sink given here only queues the picture for one.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

#[cfg(feature = "viewer")]
use rtsp_types::Url;
use rustix::event::{EventfdFlags, eventfd};
use tracing::{debug, warn};

use super::keyring::Opener;
use super::meter::{Meter, MeterReading};
#[cfg(feature = "viewer")]
use super::rtsp_client::{RtspServer, RtspSource};
use super::signed::{Requirement, SignedCounters};
use super::signed_source::SignedSource;
use super::source::{DatagramSource, MOST_AT_ONCE, ReceivedDatagram, wait, wait_for_any};
use super::{DatagramError, Expected, ReceivedPicture, Tuner, TunerCounters, join};
use crate::clock::wall_clock;
use crate::conflict::{ConflictChange, MAX_SENDERS, addresses};
use crate::directory::StationInfo;
use crate::interface::{Interface, named};
use crate::log::LoggedOnce;
#[cfg(feature = "viewer")]
use crate::media::{AirTime, SoundCodec, StationId, Track};
#[cfg(feature = "viewer")]
use crate::wire::rtp::Header;

/// Longest time until the thread notices that its owner [expects](Receiver::expect) something else.
const NOTICE: Duration = Duration::from_millis(500);

/// If more packets than this have been refused since the last signed picture, the status says that this is why none is shown.
const REFUSED: u64 = 10;

/// Most kinds of refused pictures that are logged.
const MAX_REFUSALS: usize = 8;

/// Pause before another attempt to join a group or to connect.
const REJOIN: Duration = Duration::from_millis(500);

/// An RTSP connection without a packet for this long is dead: even a slate sends five pictures a second.
#[cfg(feature = "viewer")]
const SILENCE: Duration = Duration::from_secs(5);

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
    /// What the owner requires of pictures; `None`: nothing.
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
        thread::Builder::new().name("receiver".into()).spawn(move || worker.run())?;
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

struct ReceiverThread<S> {
    from: ReceiveFrom,
    /// One tuner for all attempts, so that its counters go on.
    tuner: Tuner,
    shared: Arc<Mutex<SharedStatus>>,
    stop: OwnedFd,
    sink: S,
    /// Opens the datagrams of a station that may be encrypted.
    opener: Option<Opener>,
    /// Takes the packets of sound of an RTSP connection; `None`: they are not wanted.
    #[cfg(feature = "viewer")]
    sound: Option<SoundSink>,
    /// The kinds of refused pictures that have been logged.
    refusals: LoggedOnce<DatagramError>,
    signed: Signed,
}

/// The counts of signed reception.
#[derive(Debug, Default)]
struct Signed {
    /// Those of the groups before this one.
    before: SignedCounters,
    /// Packets that had been refused when the last picture came.
    refused: u64,
}

impl<S: FnMut(ReceivedPicture)> ReceiverThread<S> {
    fn run(&mut self) {
        loop {
            if let Err(error) = self.run_once() {
                lock(&self.shared).status.problem = Some(error.to_string());
            }
            if lock(&self.shared).stopped
                || wait(None, Some(self.stop.as_fd()), Some(REJOIN)).is_ok_and(|ready| ready.stop)
            {
                return;
            }
        }
    }

    /// Receives until the receiver is dropped, or the socket fails.
    fn run_once(&mut self) -> io::Result<()> {
        match self.from.clone() {
            ReceiveFrom::Group(group, interface, source) => self.receive(group, &named(&interface)?, source),
            #[cfg(feature = "viewer")]
            ReceiveFrom::Rtsp(server, url) => self.play(&server, &url),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a shell: packets are stamped when they are read")]
    fn receive(
        &mut self,
        group: SocketAddr,
        interface: &Interface,
        sender: Option<IpAddr>,
    ) -> io::Result<()> {
        let mut source = DatagramSource::join(group, interface, sender)?;
        let mut signed = self.join_cards(group, interface, sender)?;
        self.begin(source.buffer());
        self.tuner.accept_only(sender);
        let drops_before = lock(&self.shared).status.kernel_drops;
        loop {
            let now = wall_clock();
            let (expected, required) = {
                let shared = lock(&self.shared);
                (shared.expected, shared.required)
            };
            self.tuner.expect(now, expected);
            let timeout =
                self.tuner.poll_timeout().map_or(NOTICE, |deadline| deadline.since(now).min(NOTICE));
            let sockets = [Some(source.as_fd()), signed.as_ref().map(SignedSource::as_fd)];
            let ready = wait_for_any(sockets.into_iter().flatten(), Some(self.stop.as_fd()), Some(timeout))?;
            if ready.stop {
                return Ok(());
            }
            if let Some(signed) = &mut signed {
                signed.follow(required)?;
                // The last packet of a picture may have overtaken its card.
                signed.read_cards()?;
                if let Err(error) = signed.pass_on(&mut self.tuner) {
                    refused(&self.shared, &mut self.refusals, error, &group.to_string());
                }
            }
            let mut left = MOST_AT_ONCE;
            while ready.readable
                && let Some(ReceivedDatagram { bytes, arrival, from }) = source.read()?
            {
                // Datagrams may come faster than they are read, for ever.
                left -= 1;
                if left == 0 {
                    if wait(None, Some(self.stop.as_fd()), Some(Duration::ZERO))?.stop {
                        return Ok(());
                    }
                    left = MOST_AT_ONCE;
                }
                let length = bytes.len();
                let handled = match self.tuner.open(self.opener.as_mut(), arrival, from, bytes) {
                    Ok(packet) => match &mut signed {
                        Some(signed) => signed.handle(&mut self.tuner, arrival, from, packet)?,
                        None => self.tuner.handle_datagram_from(arrival, from, packet),
                    },
                    Err(error) => Err(error),
                };
                if let Err(error) = handled {
                    let from = from.map_or_else(|| "an unknown address".into(), |from| from.to_string());
                    debug!("{group}: unusable datagram of {length} bytes from {from}: {error}");
                    refused(&self.shared, &mut self.refusals, error, &format!("{from} to {group}"));
                }
                lock(&self.shared).status.kernel_drops = drops_before + source.kernel_drops();
                self.deliver();
            }
            let now = wall_clock();
            self.tuner.handle_timeout(now);
            if let Some(signed) = &mut signed {
                signed.handle_timeout(now);
                self.signed.tell(signed.counters(), &mut lock(&self.shared).status);
            }
            self.deliver();
            self.tell_conflict(group);
        }
    }

    #[cfg(feature = "viewer")]
    #[expect(clippy::disallowed_methods, reason = "a shell: packets are stamped when they are read")]
    fn play(&mut self, at: &RtspServer, url: &Url) -> io::Result<()> {
        if lock(&self.shared).required.is_some() {
            return Err(io::Error::other("no signatures come by RTSP, and unsigned pictures are not shown"));
        }
        let server = at.address;
        let at_server = |error: io::Error| io::Error::new(error.kind(), format!("{server}: {error}"));
        let mut source = RtspSource::open(at, url, self.sound.is_some()).map_err(at_server)?;
        let sound_type = source.sound();
        self.begin(0);
        let mut heard = wall_clock();
        loop {
            // Before the wait, since packets may have arrived with the response to PLAY. All packets of one read have
            // the same arrival.
            let packet = |track: Track, arrival: AirTime, packet: &[u8]| {
                if track == Track::Sound {
                    if let (Some(sound), Some(kind), Ok((header, payload))) =
                        (&mut self.sound, sound_type, Header::parse(packet))
                        && header.payload_type == kind.payload_type
                    {
                        sound(arrival, kind.codec, header, payload);
                    }
                    return;
                }
                if let Err(error) = self.tuner.handle_datagram(arrival, packet) {
                    debug!("{server}: unusable packet of {} bytes: {error}", packet.len());
                    refused(&self.shared, &mut self.refusals, error, &server.to_string());
                }
                self.deliver();
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
                return Err(at_server(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no packet for {} s", SILENCE.as_secs()),
                )));
            }
        }
    }

    /// Joins the group of the cards, if pictures must be signed.
    fn join_cards(
        &mut self,
        group: SocketAddr,
        interface: &Interface,
        source: Option<IpAddr>,
    ) -> io::Result<Option<SignedSource>> {
        let required = lock(&self.shared).required;
        if let Some(counters) = lock(&self.shared).status.signed {
            self.signed.before = counters;
        }
        match required {
            None => Ok(None),
            Some(Requirement::Unverifiable(why)) => Err(io::Error::other(why.to_string())),
            Some(Requirement::Signed { signer, told }) => {
                SignedSource::join(group, interface, source, (signer, told)).map(Some)
            }
        }
    }

    /// Notes that the socket is joined or the connection plays.
    fn begin(&mut self, buffer: usize) {
        self.tuner.start_over();
        let mut shared = lock(&self.shared);
        shared.status.buffer = buffer;
        shared.status.problem = None;
    }

    /// Tells of other senders on the group: in the log when that begins and when it is over, and in the status.
    fn tell_conflict(&mut self, group: SocketAddr) {
        let senders = self.tuner.other_senders();
        match self.tuner.poll_conflict() {
            Some(ConflictChange::Begins) => {
                warn!("another sender's pictures come to {group}: {}", addresses(&senders));
            }
            // The viewer's log begins at warnings.
            Some(ConflictChange::Over) => warn!("no other sender's pictures come to {group} any more"),
            None => {}
        }
        let status = &mut lock(&self.shared).status;
        if status.other_senders != senders {
            for sender in &senders {
                let all = &mut status.all_other_senders;
                if all.len() < MAX_SENDERS && !all.contains(sender) {
                    all.push(*sender);
                }
            }
            status.other_senders = senders;
        }
    }

    /// Passes the tuner's pictures to the meter and the sink.
    fn deliver(&mut self) {
        let mut shared = lock(&self.shared);
        let counters = self.tuner.counters();
        shared.status.counters = counters;
        while let Some(picture) = self.tuner.poll_picture() {
            if shared.stopped {
                return;
            }
            shared.status.problem = None;
            shared.meter.record(&picture, counters.restarts);
            (self.sink)(picture);
        }
    }
}

impl Signed {
    /// Tells the counts of this group in the status, and that all that comes is refused.
    fn tell(&mut self, now: SignedCounters, status: &mut ReceiverStatus) {
        let mut all = self.before;
        all += now;
        let before = status.signed.replace(all).unwrap_or_default();
        if before.pictures != all.pictures {
            self.refused = all.refused;
        } else if all.refused - self.refused >= REFUSED {
            let refused = all.refused - self.refused;
            status.problem =
                Some(format!("{refused} packets have come, and no picture with a valid signature"));
        }
    }
}

/// Logs once that a sender's pictures are of a kind that cannot be shown. Until there is a picture, this is also the receiver's
/// problem.
fn refused(
    shared: &Mutex<SharedStatus>,
    logged: &mut LoggedOnce<DatagramError>,
    error: DatagramError,
    sender: &str,
) {
    if !matches!(error, DatagramError::Jpeg(reason) if reason.is_of_the_sender()) {
        return;
    }
    let sentence = format!("the pictures from {sender} cannot be shown: {error}");
    let mut shared = lock(shared);
    if shared.status.counters.pictures == 0 {
        shared.status.problem = Some(sentence.clone());
    }
    drop(shared);
    if logged.is_first(error) {
        warn!("{sentence}");
    }
}

#[cfg(all(test, feature = "viewer"))]
mod tests {
    use std::net::UdpSocket;
    use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

    use super::*;
    use crate::net;
    use crate::tuner::rtsp_client::tests::{framed, opening, serve};
    use crate::wire::rtp::HEADER_LEN;

    /// Poll interval and most polls: a guard against hanging, never a measurement.
    const POLL: Duration = Duration::from_millis(10);
    const POLLS: usize = 3000;

    #[test]
    fn a_receiver_of_a_group_that_never_falls_silent_ends_when_it_is_dropped() {
        let (group, lo) = ("239.255.77.9:5204".parse().unwrap(), named("lo").unwrap());
        let out: UdpSocket = net::sender(group, &lo, 0).unwrap().into();
        // RTP/JPEG: 4:2:0, Q 80, 16 by 16 pixels.
        let payload = [0, 0, 0, 0, 1, 80, 2, 2, 0x28, 0xa2, 0x8a, 0x00];
        let send = move |sequence: u16| {
            let timestamp = u32::from(sequence) * 3600;
            let header = Header { marker: true, payload_type: 26, sequence, timestamp, ssrc: 7 };
            let mut packet = [0; HEADER_LEN];
            header.emit(&mut packet);
            out.send_to(&[&packet[..], &payload].concat(), group).unwrap();
        };
        // Each picture that is received makes the next one come, before the receiver reads again.
        let sequence = AtomicU16::new(0);
        let next = Arc::new(move || send(sequence.fetch_add(1, Relaxed)));
        let by_receiver = next.clone();
        let sink = move |_| by_receiver();
        let receiver = Receiver::start(ReceiveFrom::Group(group, "lo".into(), None), 10, sink).unwrap();
        let poll = |ready: &dyn Fn() -> bool| {
            (0..POLLS).any(|_| {
                let _ = wait(None, None, Some(POLL));
                ready()
            })
        };
        assert!(poll(&|| receiver.status().buffer > 0), "it has joined");
        (0..4).for_each(|_| next());
        let flood = 3 * MOST_AT_ONCE as u64;
        assert!(poll(&|| receiver.status().counters.pictures > flood), "{:?}", receiver.status());
        drop(receiver);
        assert!(poll(&|| Arc::strong_count(&next) == 1), "its thread goes on");
    }

    #[test]
    fn the_counters_survive_a_broken_connection() {
        // The packet arrives in one read with the response to PLAY. Then the first connection is closed; the second
        // stays open and silent.
        let mut responses = opening("RTP/AVP/TCP;unicast;interleaved=0-1");
        responses[2].extend(framed(0, b"not RTP"));
        let address = serve(vec![responses.clone(), responses]).0;
        let receiver =
            Receiver::start(ReceiveFrom::rtsp_station(&address.into(), StationId(2)), 10, |_| {}).unwrap();
        let received = (0..POLLS).any(|_| {
            let _ = wait(None, None, Some(POLL));
            receiver.status().counters.datagrams == 2
        });
        assert!(received, "{:?}", receiver.status());
    }
}
