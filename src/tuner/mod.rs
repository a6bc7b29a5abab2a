//! RECEIVE, air to picture: datagrams and time in, pictures and deadlines out.
//!
//! The viewer and the probe import this room, and any program that wants a station's pictures may
//! (`examples/receive.rs`). It imports `media`, `wire`, `net`, `interface`, `clock` and the directory's description of
//! a station; nothing of the broadcaster.
//!
//! [`Tuner`] is pure: it reads no clock and owns no socket. Its shell is the [`receiver`], a thread that drains a
//! socket into it: the group's, or without multicast that of an RTSP connection.
//!
//! ```text
//! ReceivedPicture <- Depacketizer <- JitterBuffer <- Tuner <- datagrams
//! ```

pub mod distribution;
pub mod jitter;
pub mod join;
pub mod meter;
pub mod receiver;
#[cfg(feature = "viewer")]
mod rtsp_client;
pub mod source;

use std::collections::VecDeque;
use std::time::Duration;

use crate::media::jpeg::Jpeg;
use crate::media::{AirTime, RTP_CLOCK};
use crate::wire::payload::jpeg::{self, Depacketizer};
use crate::wire::rtp::{self, Unwrap, air_time_near};
use jitter::{BufferedPacket, JitterBuffer, PacketVerdict, Step};

/// A sender that has been silent for this long may be replaced by another one on the same group: a restarted
/// broadcaster has a new SSRC. Longer than the 200 ms between a slate's pictures.
pub(crate) const SENDER_GONE: Duration = Duration::from_millis(500);

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

/// Counts of one [`Tuner`] since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TunerCounters {
    /// Datagrams received, of any kind.
    pub datagrams: u64,
    /// Bytes of these datagrams (UDP payload).
    pub bytes: u64,
    /// Datagrams that are neither RTP nor a kind of RTP/JPEG that we can read.
    pub malformed: u64,
    /// RTP packets of another payload type.
    pub other_payload: u64,
    /// RTP packets of another sender while the followed one was alive.
    pub other_sender: u64,
    /// Packets received again.
    pub duplicates: u64,
    /// Packets that arrived before one with a lower sequence number.
    pub reordered: u64,
    /// Packets that arrived after they had been given up.
    pub late: u64,
    /// Packets that never arrived, or arrived late.
    pub packets_lost: u64,
    /// Whole pictures.
    pub pictures: u64,
    /// Pictures sent and not received whole.
    pub pictures_lost: u64,
    /// Whole pictures dropped because the caller did not poll in time.
    pub overrun: u64,
    /// Times another sender took over, or the same one started over.
    pub restarts: u64,
}

/// Why a datagram is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// Not RTP.
    #[error(transparent)]
    Rtp(#[from] rtp::Error),
    /// RTP of another payload type.
    #[error("RTP payload type {0}, not {PT}", PT = rtp::PAYLOAD_TYPE_JPEG)]
    PayloadType(u8),
    /// RTP, but not RTP/JPEG.
    #[error(transparent)]
    Jpeg(#[from] jpeg::Error),
}

/// Follows one station on its group.
#[derive(Debug, Default)]
pub struct Tuner {
    sender: Option<FollowedSender>,
    ready: VecDeque<ReceivedPicture>,
    counters: TunerCounters,
}

/// State of the sender that is followed. Another sender begins with a new one.
#[derive(Debug)]
struct FollowedSender {
    ssrc: u32,
    last_heard: AirTime,
    jitter: JitterBuffer,
    depacketizer: Depacketizer,
    timestamps: Unwrap<32>,
    /// RTP timestamp of the picture being assembled, and the arrival of its first packet.
    begun: Option<(u32, AirTime)>,
    /// Unwrapped timestamp of the last whole picture.
    last_picture: Option<u64>,
    /// Ticks between the last two pictures that had no loss between them.
    interval: Option<u64>,
    /// The depacketizer's count of broken pictures at the last whole picture.
    broken_before: u64,
    /// Whether packets have been lost since the last whole picture.
    gap: bool,
}

impl FollowedSender {
    fn new(ssrc: u32, now: AirTime) -> FollowedSender {
        FollowedSender {
            ssrc,
            last_heard: now,
            jitter: JitterBuffer::default(),
            depacketizer: Depacketizer::default(),
            timestamps: Unwrap::default(),
            begun: None,
            last_picture: None,
            interval: None,
            broken_before: 0,
            gap: false,
        }
    }
}

impl Tuner {
    /// A tuner that follows the first sender it hears.
    pub fn new() -> Tuner {
        Tuner::default()
    }

    /// Handles a datagram that arrived at `now`.
    ///
    /// # Errors
    /// The datagram is not RTP/JPEG. It has been counted, and nothing else happens.
    pub fn handle_datagram(&mut self, now: AirTime, datagram: &[u8]) -> Result<(), DatagramError> {
        self.counters.datagrams += 1;
        self.counters.bytes += datagram.len() as u64;
        let result = self.take(now, datagram);
        match &result {
            Ok(()) => {}
            Err(DatagramError::PayloadType(_)) => self.counters.other_payload += 1,
            Err(DatagramError::Rtp(_) | DatagramError::Jpeg(_)) => self.counters.malformed += 1,
        }
        self.release(now);
        result
    }

    /// Gives up missing packets whose deadline has passed at `now`.
    pub fn handle_timeout(&mut self, now: AirTime) {
        self.release(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) should be called if no datagram arrives.
    pub fn poll_timeout(&self) -> Option<AirTime> {
        self.sender.as_ref().and_then(|sender| sender.jitter.deadline())
    }

    /// Forgets the sender because the socket or connection is a new one: the next packet may have any SSRC and
    /// sequence number, and nothing before it counts as lost. The counters go on.
    pub fn start_over(&mut self) {
        self.counters.restarts += u64::from(self.sender.take().is_some());
    }

    /// The next picture, oldest first.
    pub fn poll_picture(&mut self) -> Option<ReceivedPicture> {
        self.ready.pop_front()
    }

    /// The counts so far.
    pub fn counters(&self) -> TunerCounters {
        self.counters
    }

    fn take(&mut self, now: AirTime, datagram: &[u8]) -> Result<(), DatagramError> {
        let (header, payload) = rtp::Header::parse(datagram)?;
        if header.payload_type != rtp::PAYLOAD_TYPE_JPEG {
            return Err(DatagramError::PayloadType(header.payload_type));
        }
        match &self.sender {
            Some(sender) if sender.ssrc == header.ssrc => {}
            Some(sender) if now.since(sender.last_heard) < SENDER_GONE => {
                self.counters.other_sender += 1;
                return Ok(());
            }
            gone => {
                self.counters.restarts += u64::from(gone.is_some());
                self.sender = Some(FollowedSender::new(header.ssrc, now));
            }
        }
        let Some(sender) = &mut self.sender else { return Ok(()) };
        sender.last_heard = now;
        match sender.jitter.judge(header.sequence) {
            PacketVerdict::Next => self.deliver(now, header, payload)?,
            PacketVerdict::Early => {
                self.counters.reordered += 1;
                sender.jitter.hold(BufferedPacket { arrival: now, header, payload: payload.to_vec() });
            }
            PacketVerdict::Late => self.counters.late += 1,
            PacketVerdict::Duplicate => self.counters.duplicates += 1,
            PacketVerdict::Stray => self.counters.malformed += 1,
            PacketVerdict::Jump(lost) => {
                self.counters.packets_lost += lost;
                sender.gap = true;
                sender.depacketizer.gap();
                self.deliver(now, header, payload)?;
            }
            PacketVerdict::Restart => {
                self.counters.restarts += 1;
                let jitter = std::mem::take(&mut sender.jitter);
                *sender = FollowedSender { jitter, ..FollowedSender::new(header.ssrc, now) };
                self.deliver(now, header, payload)?;
            }
        }
        Ok(())
    }

    /// Delivers the packets that the jitter buffer releases at `now`.
    fn release(&mut self, now: AirTime) {
        while let Some(sender) = &mut self.sender
            && let Some(step) = sender.jitter.poll(now)
        {
            match step {
                Step::Gap(packets) => {
                    self.counters.packets_lost += packets;
                    sender.gap = true;
                    sender.depacketizer.gap();
                }
                Step::Packet(packet) => {
                    if self.deliver(packet.arrival, packet.header, &packet.payload).is_err() {
                        self.counters.malformed += 1;
                    }
                }
            }
        }
    }

    fn deliver(&mut self, arrival: AirTime, header: rtp::Header, payload: &[u8]) -> Result<(), jpeg::Error> {
        let Some(sender) = &mut self.sender else { return Ok(()) };
        let first_arrival = match sender.begun {
            Some((timestamp, at)) if timestamp == header.timestamp => at,
            _ => arrival,
        };
        sender.begun = Some((header.timestamp, first_arrival));
        let Some(jpeg) = sender.depacketizer.push(&header, payload)? else { return Ok(()) };
        let ticks = sender.timestamps.unwrap(header.timestamp);
        let broken = sender.depacketizer.broken() - sender.broken_before;
        self.counters.pictures_lost += sender.pictures_lost_before(ticks, broken);
        self.counters.pictures += 1;
        sender.broken_before += broken;
        sender.last_picture = Some(ticks);
        sender.gap = false;
        if self.ready.len() == MAX_READY {
            self.ready.pop_front();
            self.counters.overrun += 1;
        }
        let timestamp = header.timestamp;
        self.ready.push_back(ReceivedPicture { jpeg, ticks, timestamp, first_arrival });
        Ok(())
    }
}

impl FollowedSender {
    /// Number of pictures missing between the last whole one and the one at `ticks`. The sequence numbers say
    /// *whether* any is (a sender that skips one leaves no gap), the timestamps *how many*.
    fn pictures_lost_before(&mut self, ticks: u64, broken: u64) -> u64 {
        let Some(last) = self.last_picture else {
            // A picture that is incomplete without a missing packet was joined in its middle: no loss.
            return if self.gap { broken } else { 0 };
        };
        let Some(step) = Some(ticks.saturating_sub(last)).filter(|&step| step > 0) else {
            return broken;
        };
        if !self.gap && broken == 0 {
            // A step of seconds is a change of film or a broadcaster that stood still, not a frame interval.
            if step < 2 * u64::from(RTP_CLOCK) {
                self.interval = Some(step);
            }
            return 0;
        }
        let by_time =
            self.interval.map_or(1, |interval| ((step + interval / 2) / interval).saturating_sub(1));
        by_time.max(broken)
    }
}

#[cfg(test)]
pub(crate) mod tests;
