//! The thread of a [receiver](super): from the socket or the connection through the [`Tuner`] to the sink, again and again until its owner
//! drops it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[cfg(feature = "viewer")]
use rtsp_types::Url;
use tracing::{debug, warn};

use super::{ReceiveFrom, ReceiverStatus, SharedStatus, lock};
#[cfg(feature = "viewer")]
use super::{RtspServer, SoundSink};
use crate::clock::wall_clock;
use crate::conflict::{ConflictChange, MAX_SENDERS, addresses};
use crate::interface::{Interface, named};
use crate::log::LoggedOnce;
#[cfg(feature = "viewer")]
use crate::media::{AirTime, Track};
use crate::tuner::keyring::Opener;
#[cfg(feature = "viewer")]
use crate::tuner::rtsp_client::RtspSource;
use crate::tuner::signed::{Requirement, SignedCounters};
use crate::tuner::signed_source::SignedSource;
use crate::tuner::source::{DatagramSource, MOST_AT_ONCE, ReceivedDatagram, wait, wait_for_any};
use crate::tuner::{DatagramError, ReceivedPicture, Tuner};
#[cfg(feature = "viewer")]
use crate::wire::rtp::Header;

/// Longest time until the thread notices that its owner [expects](Receiver::expect) something else.
const NOTICE: Duration = Duration::from_millis(500);

/// If more packets than this have been refused since the last signed picture, the status says that this is why none is shown.
const REFUSED: u64 = 10;

/// Pause before another attempt to join a group or to connect.
const REJOIN: Duration = Duration::from_millis(500);

/// An RTSP connection without a packet for this long is dead: even a slate sends five pictures a second.
#[cfg(feature = "viewer")]
const SILENCE: Duration = Duration::from_secs(5);

pub(super) struct ReceiverThread<S> {
    pub(super) from: ReceiveFrom,
    /// One tuner for all attempts, so that its counters go on.
    pub(super) tuner: Tuner,
    pub(super) shared: Arc<Mutex<SharedStatus>>,
    pub(super) stop: OwnedFd,
    pub(super) sink: S,
    /// Opens the datagrams of a station that may be encrypted.
    pub(super) opener: Option<Opener>,
    /// Takes the packets of sound of an RTSP connection; `None`: they are not wanted.
    #[cfg(feature = "viewer")]
    pub(super) sound: Option<SoundSink>,
    /// The kinds of refused pictures that have been logged.
    pub(super) refusals: LoggedOnce<DatagramError>,
    pub(super) signed: Signed,
}

/// The counts of signed reception.
#[derive(Debug, Default)]
pub(super) struct Signed {
    /// Those of the groups before this one.
    before: SignedCounters,
    /// Packets that had been refused when the last picture came.
    refused: u64,
}

impl<S: FnMut(ReceivedPicture)> ReceiverThread<S> {
    pub(super) fn run(&mut self) {
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
