//! Many stations at once, on one thread: for a mosaic, which shows the newest picture of each.
//!
//! Each station has its socket and its [`Tuner`], as in a [receiver](super::receiver). A mosaic needs no picture within a
//! millisecond, so the thread pauses before it reads: of sixteen stations it then wakes up 150 times a second instead of 400.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tracing::debug;

use super::keyring::{Keyring, Opener};
use super::source::{DatagramSource, wait};
use super::{Expected, ReceivedPicture, Tuner, TunerCounters};
use crate::clock::wall_clock;
use crate::interface::named;
use crate::media::{AirTime, SoundCodec, StationId};
use crate::wire::rtp::Header;

/// Pause from the first datagram that has come until all are read. A station's buffer holds 100 ms at least.
const PAUSE: Duration = Duration::from_millis(5);

/// Longest time until the thread looks at deadlines and at silent stations.
const NOTICE: Duration = Duration::from_millis(500);

/// Pause before another attempt to join a group.
const REJOIN: Duration = Duration::from_millis(500);

/// Most datagrams of one socket that are read before those of the others.
const MOST_AT_ONCE: usize = 4096;

/// Longest packet of sound that is passed on.
const MAX_SOUND: usize = 1500;

/// A station that is received, and where from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOfMany {
    /// Its number.
    pub id: StationId,
    /// The group and port of its pictures.
    pub group: SocketAddr,
    /// Name or address of the interface.
    pub interface: String,
    /// The only source whose packets are taken; `None`: any.
    pub source: Option<IpAddr>,
    /// The port of its sound on the same group, the RTP payload type and the codec; `None` if there is none, or if it is not wanted.
    pub sound: Option<(u16, u8, SoundCodec)>,
    /// The stream that the station should be sending, so that its silence counts as lost pictures.
    pub expected: Expected,
}

impl OneOfMany {
    /// Whether the same sockets serve.
    fn is_received_as(&self, other: &OneOfMany) -> bool {
        OneOfMany { expected: other.expected, ..self.clone() } == *other
    }
}

/// An arrival.
#[derive(Debug)]
pub enum Arrival<'a> {
    /// A whole picture.
    Picture(ReceivedPicture),
    /// A packet of sound, without its RTP header. Packets come as they arrive, not in order.
    Sound(SoundCodec, &'a [u8]),
}

/// The state of one of the stations.
#[derive(Debug, Clone, Default)]
pub struct OneStatus {
    /// Counts of its tuner.
    pub counters: TunerCounters,
    /// When its last whole picture arrived.
    pub last_picture: Option<AirTime>,
    /// Why no picture arrives, if that is known.
    pub problem: Option<String>,
}

/// Receives many stations until it is dropped.
pub struct ManyReceiver {
    shared: Arc<Mutex<Shared>>,
    /// An eventfd that wakes the thread.
    wake: OwnedFd,
}

#[derive(Default)]
struct Shared {
    /// The stations to receive, if the thread does not know them yet.
    wanted: Option<Vec<OneOfMany>>,
    stopped: bool,
    status: BTreeMap<StationId, OneStatus>,
}

impl ManyReceiver {
    /// Starts the thread, which receives nothing before it is [told](Self::receive) what, and opens encrypted stations with the keys of
    /// `keyring`. It calls `sink` with all that arrives;
    /// `sink` must return at once.
    ///
    /// # Errors
    /// The system refuses a thread or an eventfd.
    pub fn start(
        keyring: Arc<Keyring>,
        sink: impl FnMut(StationId, Arrival<'_>) + Send + 'static,
    ) -> io::Result<ManyReceiver> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::<Mutex<Shared>>::default();
        let mut work = ManyThread {
            members: Vec::new(),
            shared: shared.clone(),
            wake: wake.try_clone()?,
            keyring,
            sink,
        };
        thread::Builder::new().name("receiver".into()).spawn(move || work.run())?;
        Ok(ManyReceiver { shared, wake })
    }

    /// Receives these stations from now on, and no others. Stations that were received before go on as they are.
    pub fn receive(&self, stations: Vec<OneOfMany>) {
        lock(&self.shared).wanted = Some(stations);
        self.wake();
    }

    /// The state of a station; of one that is not received, all zero.
    pub fn status(&self, id: StationId) -> OneStatus {
        lock(&self.shared).status.get(&id).cloned().unwrap_or_default()
    }

    fn wake(&self) {
        // A write fails only if the eventfd is already signalled.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

impl Drop for ManyReceiver {
    fn drop(&mut self) {
        lock(&self.shared).stopped = true;
        self.wake();
    }
}

// A poisoned lock is usable: its holders only assign fields.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A station that is received.
struct Member {
    station: OneOfMany,
    /// `None` while the group cannot be joined.
    sockets: Option<Sockets>,
    /// When it is joined the next time, without sockets.
    join_at: AirTime,
    tuner: Tuner,
    /// Open the datagrams of pictures and of sound, if the station is encrypted.
    openers: (Opener, Opener),
    status: OneStatus,
}

struct Sockets {
    pictures: DatagramSource,
    sound: Option<DatagramSource>,
}

impl Sockets {
    fn join(station: &OneOfMany) -> io::Result<Sockets> {
        let OneOfMany { group, interface, source, sound, .. } = station;
        let interface = named(interface)?;
        let pictures = DatagramSource::join(*group, &interface, *source)?;
        let sound = sound
            .map(|(port, ..)| DatagramSource::join(SocketAddr::new(group.ip(), port), &interface, *source));
        // Pictures without a level are better than none.
        Ok(Sockets { pictures, sound: sound.and_then(Result::ok) })
    }

    fn each(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [Some(&self.pictures), self.sound.as_ref()].into_iter().flatten().map(AsFd::as_fd)
    }
}

struct ManyThread<S> {
    members: Vec<Member>,
    shared: Arc<Mutex<Shared>>,
    wake: OwnedFd,
    keyring: Arc<Keyring>,
    sink: S,
}

impl<S: FnMut(StationId, Arrival<'_>)> ManyThread<S> {
    #[expect(clippy::disallowed_methods, reason = "a shell: it waits for packets")]
    fn run(&mut self) {
        loop {
            {
                let mut shared = lock(&self.shared);
                if shared.stopped {
                    return;
                }
                if let Some(wanted) = shared.wanted.take() {
                    let known = wanted.iter().map(|station| station.id);
                    let known: BTreeMap<_, _> =
                        known.map(|id| (id, shared.status.remove(&id).unwrap_or_default())).collect();
                    shared.status = known;
                    drop(shared);
                    self.change(wanted);
                }
            }
            let now = wall_clock();
            self.join(now);
            let deadlines = self.members.iter().filter_map(|member| member.tuner.poll_timeout());
            let timeout = deadlines.min().map_or(NOTICE, |deadline| deadline.since(now).min(NOTICE));
            if self.wait(timeout) {
                // Whatever else comes meanwhile is read with it.
                let _ = wait(None, Some(self.wake.as_fd()), Some(PAUSE));
            }
            self.read();
        }
    }

    /// Receives other stations.
    fn change(&mut self, wanted: Vec<OneOfMany>) {
        let mut before = std::mem::take(&mut self.members);
        for station in wanted {
            let known = before.iter().position(|member| member.station.is_received_as(&station));
            self.members.push(match known {
                Some(at) => Member { station, ..before.swap_remove(at) },
                None => {
                    let mut tuner = Tuner::new();
                    tuner.accept_only(station.source);
                    let (join_at, status) = (AirTime::default(), OneStatus::default());
                    let opener = || Opener::new(self.keyring.clone(), station.id);
                    let openers = (opener(), opener());
                    Member { station, sockets: None, join_at, tuner, openers, status }
                }
            });
        }
    }

    /// Joins the groups that are to be joined.
    fn join(&mut self, now: AirTime) {
        for member in
            self.members.iter_mut().filter(|member| member.sockets.is_none() && member.join_at <= now)
        {
            match Sockets::join(&member.station) {
                Ok(sockets) => {
                    member.tuner.start_over();
                    (member.sockets, member.status.problem) = (Some(sockets), None);
                }
                Err(error) => {
                    member.join_at = now + REJOIN;
                    member.status.problem = Some(error.to_string());
                }
            }
        }
    }

    /// Waits for a datagram. Returns whether there is one.
    fn wait(&self, timeout: Duration) -> bool {
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
        let mut fds = vec![PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN)];
        let sockets = self.members.iter().filter_map(|member| member.sockets.as_ref());
        fds.extend(sockets.flat_map(Sockets::each).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        // An error here is one of memory or of limits: what has come is read all the same, after a while.
        let ready = poll(&mut fds, Some(&timeout)).unwrap_or(0);
        if !fds[0].revents().is_empty() {
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
            return ready > 1;
        }
        ready > 0
    }

    /// Reads all that has come.
    #[expect(clippy::disallowed_methods, reason = "a shell: packets are stamped when they are read")]
    fn read(&mut self) {
        for member in &mut self.members {
            let now = wall_clock();
            member.tuner.expect(now, member.station.expected);
            if let Err(error) = member.read(&mut self.sink) {
                member.sockets = None;
                member.join_at = now + REJOIN;
                member.status.problem = Some(error.to_string());
            }
            member.tuner.handle_timeout(wall_clock());
            member.deliver(&mut self.sink);
            member.status.counters = member.tuner.counters();
        }
        let mut shared = lock(&self.shared);
        for member in &self.members {
            if let Some(status) = shared.status.get_mut(&member.station.id) {
                status.clone_from(&member.status);
            }
        }
    }
}

impl Member {
    fn read(&mut self, sink: &mut impl FnMut(StationId, Arrival<'_>)) -> io::Result<()> {
        let Some(mut sockets) = self.sockets.take() else { return Ok(()) };
        for _ in 0..MOST_AT_ONCE {
            let Some(datagram) = sockets.pictures.read()? else { break };
            let opener = Some(&mut self.openers.0);
            let (arrival, from) = (datagram.arrival, datagram.from);
            let opened = self.tuner.open(opener, arrival, from, datagram.bytes);
            let taken = opened.and_then(|packet| self.tuner.handle_datagram_from(arrival, from, packet));
            if let Err(error) = taken {
                debug!("{}: unusable datagram: {error}", self.station.group);
            }
            // The tuner keeps a few pictures only.
            self.deliver(sink);
        }
        let (Some(socket), Some((_, payload_type, codec))) = (&mut sockets.sound, self.station.sound) else {
            self.sockets = Some(sockets);
            return Ok(());
        };
        let source = self.station.source.map(|source| source.to_canonical());
        for _ in 0..MOST_AT_ONCE {
            let Some(datagram) = socket.read()? else { break };
            let from = datagram.from.map(|from| from.ip().to_canonical());
            if (source.is_none() || from == source)
                && let Ok(packet) = self.openers.1.open(datagram.bytes)
                && let Ok((header, packet)) = Header::parse(packet)
                && header.payload_type == payload_type
                && packet.len() <= MAX_SOUND
            {
                sink(self.station.id, Arrival::Sound(codec, packet));
            }
        }
        self.sockets = Some(sockets);
        Ok(())
    }

    /// Passes the tuner's pictures on.
    fn deliver(&mut self, sink: &mut impl FnMut(StationId, Arrival<'_>)) {
        while let Some(picture) = self.tuner.poll_picture() {
            self.status.last_picture = Some(picture.first_arrival);
            sink(self.station.id, Arrival::Picture(picture));
        }
    }
}
