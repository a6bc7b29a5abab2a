//! RECEIVE, air to picture: datagrams and time in, pictures and deadlines out.
//!
//! The viewer and the probe import this room, and any program that wants a station's pictures may
//! (`examples/receive.rs`). It imports `media`, `wire`, `net`, `interface`, `clock`, `log`, `conflict` and the directory's
//! description of a station; nothing of the broadcaster.
//!
//! [`Tuner`] is pure: it reads no clock and owns no socket. Its shell is the [`receiver`], a thread that drains a
//! socket into it: the group's, or without multicast that of an RTSP connection. [`many`] is another one, for many stations. If
//! pictures must be signed, [`signed`] is before it, which passes on the packets of verified pictures alone.
//!
//! ```text
//! ReceivedPicture <- Depacketizer <- JitterBuffer <- Tuner <- datagrams
//! ```
//!
//! Anybody can send to a group. The tuner takes packets of the source that the directory names ([`Tuner::accept_only`]),
//! adopts a sender on its first whole picture, and keeps it while its pictures come.

mod counters;
pub mod distribution;
pub mod join;
pub mod keyring;
mod losses;
pub mod many;
pub mod meter;
pub mod receiver;
#[cfg(feature = "viewer")]
pub mod rtsp_client;
mod sender;
pub mod signed;
mod signed_source;
pub mod source;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::conflict::{Conflict, ConflictChange};
use crate::media::jpeg::Jpeg;
use crate::media::{AirTime, FrameRate, RTP_CLOCK};
use crate::wire::payload::jpeg::JpegPayloadError;
use crate::wire::rtp::{self, RtpError, air_time_near};
use crate::wire::srtp::SrtpError;
pub use counters::TunerCounters;
use keyring::Opener;
use losses::Silence;
use sender::{Sender, SenderId};

/// A sender without a whole picture for this long may be replaced by another one at the same address: a restarted
/// broadcaster has a new SSRC. Longer than the 200 ms between a slate's pictures.
pub(crate) const SENDER_GONE: Duration = Duration::from_millis(500);

/// A sender without a whole picture for this long may be replaced by one at another address: a broadcaster that has moved,
/// or a stranger. Longer than the pauses of a broadcaster on a busy machine.
const HOST_GONE: Duration = Duration::from_secs(2);

/// Most senders of which a first whole picture is awaited at a time. Each holds at most 4 MiB of a picture and 2 MiB in its
/// jitter buffer.
const MAX_CANDIDATES: usize = 4;

/// Least time between two looks at a silent station's clock.
const LOOK: Duration = Duration::from_millis(100);

/// Most pictures queued for a caller that does not poll. The oldest are dropped and counted.
const MAX_READY: usize = 8;

/// One coded picture, received whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedPicture {
    /// The picture.
    pub jpeg: Jpeg,
    /// RTP timestamp, unwrapped: 90 kHz ticks from an arbitrary origin.
    pub ticks: u64,
    /// RTP timestamp as on the wire.
    pub timestamp: u32,
    /// When the kernel received the first of its packets that arrived.
    pub first_arrival: AirTime,
}

impl ReceivedPicture {
    /// When the picture was due to leave its sender, to 5.6 us. Only for senders whose RTP timestamps are the wall
    /// clock, as those of our stations are ([`AirTime::rtp_timestamp`]); other senders add a random offset (RFC 3550
    /// section 5.1).
    pub fn due(&self) -> AirTime {
        air_time_near(self.timestamp, self.first_arrival)
    }

    /// How long after its due time the picture arrived, in nanoseconds. Negative if this machine's clock is behind the
    /// sender's by more than the transit takes. Valid for the same senders as [`due`](Self::due).
    pub fn lateness(&self) -> i64 {
        self.first_arrival.signed_since(self.due())
    }
}

/// What a station should be sending, as the directory says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Expected {
    /// Nobody says: a silent station may have nothing to send.
    #[default]
    Unknown,
    /// Pictures, at this rate if it is known and constant.
    Pictures(Option<FrameRate>),
}

impl Expected {
    /// Ticks from picture to picture. A rate that no film has is not believed.
    fn interval(self) -> Option<u64> {
        let Expected::Pictures(Some(rate)) = self else { return None };
        let fps = rate.as_f64();
        (0.1..=1000.0).contains(&fps).then(|| (f64::from(RTP_CLOCK) / fps).round() as u64)
    }
}

/// Why a datagram is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DatagramError {
    /// Not RTP.
    #[error(transparent)]
    Rtp(#[from] RtpError),
    /// RTP of another payload type.
    #[error("RTP payload type {0}, which is not JPEG: that is {PT}, or one of 96 to 127", PT = rtp::PAYLOAD_TYPE_JPEG)]
    PayloadType(u8),
    /// RTP, but not RTP/JPEG.
    #[error(transparent)]
    Jpeg(#[from] JpegPayloadError),
    /// Encrypted, and not by the station.
    #[error(transparent)]
    Srtp(#[from] SrtpError),
}

/// Follows one station on its group.
#[derive(Debug, Default)]
pub struct Tuner {
    /// The only address whose packets are taken; `None`: any.
    source: Option<IpAddr>,
    /// Whether only the station can have sent the packets that are handled: if so, another SSRC is followed on its first whole picture.
    is_authentic: bool,
    expected: Expected,
    /// Since when pictures are expected.
    expected_since: Option<AirTime>,
    followed: Option<Sender>,
    /// The sender that was followed before another one took over. It gets its place back when it sends again.
    previous: Option<SenderId>,
    /// Senders of which no whole picture has arrived that could be adopted.
    candidates: Vec<Sender>,
    ready: VecDeque<ReceivedPicture>,
    /// All but those of the followed sender.
    counters: TunerCounters,
    /// Pictures that were due in the present silence.
    silent: u64,
    /// When that number is to be computed again.
    look_at: Option<AirTime>,
    /// The senders that are heard beside the followed one.
    conflict: Conflict,
    conflict_change: Option<ConflictChange>,
}

impl Tuner {
    /// A tuner that adopts the first sender of a whole picture.
    pub fn new() -> Tuner {
        Tuner::default()
    }

    /// Takes only packets from the address `source`, the one that the directory names, from now on; with `None`, from any.
    pub fn accept_only(&mut self, source: Option<IpAddr>) {
        self.source = source.map(|source| source.to_canonical());
    }

    /// What the station should be sending from `now` on. If it is pictures, a silence counts as lost pictures.
    pub fn expect(&mut self, now: AirTime, expected: Expected) {
        if self.expected_since.is_none() || self.expected == Expected::Unknown {
            self.expected_since = Some(now);
        }
        self.expected = expected;
        self.watch_silence(now);
    }

    /// Handles a datagram that arrived at `now` by a connection, so that nobody else can have sent it.
    ///
    /// # Errors
    /// As [`handle_datagram_from`](Self::handle_datagram_from).
    pub fn handle_datagram(&mut self, now: AirTime, datagram: &[u8]) -> Result<(), DatagramError> {
        self.handle_datagram_from(now, None, datagram)
    }

    /// Handles a datagram that arrived at `now` from the address and port `from`.
    ///
    /// # Errors
    /// The datagram is not RTP/JPEG. It has been counted, and nothing else happens.
    pub fn handle_datagram_from(
        &mut self,
        now: AirTime,
        from: Option<SocketAddr>,
        datagram: &[u8],
    ) -> Result<(), DatagramError> {
        self.counters.datagrams += 1;
        self.counters.bytes += datagram.len() as u64;
        let result = self.take(now, from, datagram);
        match &result {
            Ok(()) => {}
            Err(DatagramError::PayloadType(_)) => self.counters.other_payload += 1,
            Err(DatagramError::Rtp(_) | DatagramError::Jpeg(_) | DatagramError::Srtp(_)) => {
                self.counters.malformed += 1;
            }
        }
        self.handle_timeout(now);
        result
    }

    /// Opens a datagram that arrived at `now` from `from`, of a station that may be encrypted: `opener` knows. Returns the packet, to be
    /// [handled](Self::handle_datagram_from).
    ///
    /// # Errors
    /// The datagram does not open. It has been counted, and nothing else happens.
    pub fn open<'d>(
        &mut self,
        opener: Option<&mut Opener>,
        now: AirTime,
        from: Option<SocketAddr>,
        datagram: &'d mut [u8],
    ) -> Result<&'d [u8], DatagramError> {
        let Some(opener) = opener else { return Ok(datagram) };
        // Strangers' datagrams need not be decrypted.
        let is_strange = |source: IpAddr| from.is_some_and(|from| from.ip().to_canonical() != source);
        if self.source.is_some_and(is_strange) {
            return Ok(datagram);
        }
        let length = datagram.len();
        self.is_authentic = opener.is_encrypted();
        opener.open(datagram).map_err(|error| {
            self.counters.datagrams += 1;
            self.counters.bytes += length as u64;
            self.counters.unopened += 1;
            self.handle_timeout(now);
            error.into()
        })
    }

    /// Gives up missing packets whose deadline has passed at `now`.
    pub fn handle_timeout(&mut self, now: AirTime) {
        let hint = self.expected.interval();
        if let Some(sender) = &mut self.followed {
            sender.release(now, hint);
        }
        for at in (0..self.candidates.len()).rev() {
            self.candidates[at].release(now, hint);
            self.consider(now, at);
        }
        self.fetch();
        self.watch_silence(now);
        self.conflict_change = self.conflict.look(now).or(self.conflict_change);
    }

    /// When [`handle_timeout`](Self::handle_timeout) should be called if no datagram arrives.
    pub fn poll_timeout(&self) -> Option<AirTime> {
        let senders = self.followed.iter().chain(&self.candidates);
        senders.filter_map(|sender| sender.jitter.deadline()).chain(self.look_at).min()
    }

    /// Forgets the sender because the socket or connection is a new one: the next picture may have any SSRC and
    /// sequence numbers, and nothing before it counts as lost. The counters go on.
    pub fn start_over(&mut self) {
        if let Some(sender) = self.followed.take() {
            self.retire(&sender);
        }
        self.previous = None;
        self.candidates.clear();
        (self.silent, self.look_at, self.expected_since) = (0, None, None);
    }

    /// The next picture, oldest first.
    pub fn poll_picture(&mut self) -> Option<ReceivedPicture> {
        self.ready.pop_front()
    }

    /// Whether another sender's pictures have begun to come to the group beside those of the followed one, or are over.
    pub fn poll_conflict(&mut self) -> Option<ConflictChange> {
        self.conflict_change.take()
    }

    /// The other senders whose pictures come to the group now, a few at most.
    pub fn other_senders(&self) -> Vec<SocketAddr> {
        self.conflict.senders()
    }

    /// The counts so far.
    pub fn counters(&self) -> TunerCounters {
        let mut counters = self.counters;
        if let Some(sender) = &self.followed {
            counters += sender.counters;
            counters.pictures_lost += sender.losses.lost();
        }
        counters.pictures_lost += self.silent;
        counters
    }

    fn take(&mut self, now: AirTime, from: Option<SocketAddr>, datagram: &[u8]) -> Result<(), DatagramError> {
        let (header, payload) = rtp::Header::parse(datagram)?;
        // A dynamic type may be anything (RFC 3551 section 3). It is JPEG if it makes a whole picture.
        if !matches!(header.payload_type, rtp::PAYLOAD_TYPE_JPEG | 96..=127) {
            return Err(DatagramError::PayloadType(header.payload_type));
        }
        if let (Some(source), Some(from)) = (self.source, from)
            && from.ip().to_canonical() != source
        {
            self.counters.other_source += 1;
            self.conflict.hear(now, from, datagram);
            return Ok(());
        }
        let id = SenderId { from, ssrc: header.ssrc, payload_type: header.payload_type };
        let hint = self.expected.interval();
        if let Some(sender) = self.followed.as_mut().filter(|sender| sender.id == id) {
            if sender.take(now, header, payload, hint)? {
                return Ok(());
            }
            // Two packets with consecutive numbers far away restart nothing (RFC 3550 appendix A.1 would): they are a
            // candidate like any other.
            self.counters.other_sender += 1;
        } else if !self.may_compete(id, now) {
            self.counters.other_sender += 1;
            if let Some(from) = from {
                self.conflict.hear(now, from, datagram);
            }
            return Ok(());
        }
        self.candidates.retain(|candidate| now.since(candidate.last_heard) < SENDER_GONE);
        for at in 0..self.candidates.len() {
            if self.candidates[at].id == id && self.candidates[at].take(now, header, payload, hint)? {
                self.consider(now, at);
                return Ok(());
            }
        }
        if self.candidates.len() == MAX_CANDIDATES {
            // A flood of SSRCs must not drive out the sender that is halfway through its picture.
            let weakest = self.candidates.iter().enumerate().min_by_key(|(_, c)| (c.progress, c.last_heard));
            if let Some((at, _)) = weakest {
                self.candidates.swap_remove(at);
            }
        }
        let mut candidate = match &self.followed {
            Some(sender) if sender.id == id => sender.another_run(now),
            _ => Sender::new(id, now),
        };
        let taken = candidate.take(now, header, payload, hint);
        self.candidates.push(candidate);
        self.consider(now, self.candidates.len() - 1);
        taken.map(drop).map_err(DatagramError::Jpeg)
    }

    /// Whether a sender that is not followed may be, if a whole picture of it arrives at `now`.
    fn may_compete(&self, id: SenderId, now: AirTime) -> bool {
        let Some(followed) = &self.followed else { return true };
        if self.is_authentic && followed.id.ssrc != id.ssrc && self.previous != Some(id) {
            return true;
        }
        if self.previous == Some(id) {
            return !self.is_authentic;
        }
        let silent = followed.last_picture.map_or(Duration::MAX, |last| now.since(last));
        let gone = if followed.id == id {
            // Pictures come, so that these packets are forged; or they do not, so that there was an outage.
            let period = followed.losses.period(self.expected.interval());
            period.map_or(SENDER_GONE, |period| SENDER_GONE.min(2 * period))
        } else if followed.id.from.map(|from| from.ip()) == id.from.map(|from| from.ip()) {
            SENDER_GONE
        } else {
            HOST_GONE
        };
        silent >= gone
    }

    /// Adopts the candidate with this index if it has sent a whole picture, and if it may be.
    fn consider(&mut self, now: AirTime, at: usize) {
        if self.candidates[at].done.is_empty() {
            return;
        }
        if !self.may_compete(self.candidates[at].id, now) {
            self.candidates[at].done.clear();
            return;
        }
        let mut sender = self.candidates.swap_remove(at);
        if let Some(before) = self.followed.take() {
            let same = before.id == sender.id;
            if !(same && sender.continue_from(&before, self.expected.interval())) {
                self.retire(&before);
                if !same {
                    // A sender that has its place back is not followed by the one that had taken it.
                    let is_back = self.previous == Some(sender.id);
                    self.previous = Some(before.id).filter(|_| !is_back);
                }
            }
        }
        if let Some(from) = sender.id.from {
            self.conflict.forget(from);
        }
        self.followed = Some(sender);
        self.fetch();
    }

    /// Keeps the counts of a sender that is followed no more.
    fn retire(&mut self, sender: &Sender) {
        self.counters += sender.counters;
        self.counters.pictures_lost += sender.losses.lost();
        self.counters.restarts += 1;
    }

    /// Moves the followed sender's pictures to the caller's queue.
    fn fetch(&mut self) {
        let Some(sender) = &mut self.followed else { return };
        self.ready.extend(sender.done.drain(..));
        while self.ready.len() > MAX_READY {
            self.ready.pop_front();
            self.counters.overrun += 1;
        }
    }

    /// Counts the pictures that should have come since the last packet, if the station should send.
    fn watch_silence(&mut self, now: AirTime) {
        (self.silent, self.look_at) = (0, None);
        let (Expected::Pictures(_), Some(expected_since)) = (self.expected, self.expected_since) else {
            return;
        };
        let hint = self.expected.interval();
        let (last, period) = match &self.followed {
            Some(sender) => (sender.losses.last_began(), sender.losses.period(hint)),
            None => (None, hint.map(losses::ticks_as_time)),
        };
        let Some(period) = period else { return };
        let since = last.unwrap_or(expected_since);
        let silence = Silence { since, period };
        let missing = silence.missing(now);
        if missing > 0
            && let Some(sender) = &self.followed
        {
            self.silent = sender.losses.lost_in_all() - sender.losses.lost();
        }
        self.silent += missing;
        self.look_at = Some(silence.next(missing).max(now + LOOK));
    }
}

#[cfg(test)]
pub(crate) mod tests;
