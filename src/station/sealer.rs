//! Encrypts a station's units for its group, ahead of their due times, so that the air thread only sends.
//!
//! Each stream has a random key of its own, which is never used again. With AES-GCM, a stream changes its key at an index that is told
//! ahead: every hour, and whenever a client that has the key is no longer let in. AES in counter mode is for players that cannot be told the roll-over counter
//! (FFmpeg 5.1 begins with 0), so there a stream ends before its sequence numbers wrap, and another one follows, with another SSRC.
//!
//! Keys are told [`AHEAD`] before they are used. A picture that the air thread skips takes its numbers with it, since they are part of
//! the encrypted packets: receivers count it as lost.

use std::sync::Arc;
use std::time::Duration;

use tracing::error;

use crate::directory::{KeyFrom, StationTable, StreamKeys};
use crate::headend::StationHandle;
use crate::media::{AirTime, REPEAT_RATE, Track, Unit};
use crate::wire::packetizer::{Packet, Packetizer};
use crate::wire::srtp::{MasterKey, Profile, SessionKeys};

/// How long a key is used.
const LIFE: Duration = Duration::from_secs(3600);

/// How long before it is used a key is told. Units are sealed up to a second before they are sent, and a viewer that asks is answered in
/// milliseconds.
const AHEAD: Duration = Duration::from_secs(2);

/// Least time between two changes of the key, so that the one before is not on air any more: receivers are told of two at a time.
const APART: Duration = Duration::from_secs(AHEAD.as_secs() + 3);

/// The index at which another stream is told, in counter mode: the last eighth of the sequence numbers is time enough.
const TOLD_AT: u64 = 0xe000;

/// The index at which that begins. No picture has as many packets as are left then.
const ENDS_AT: u64 = 0xf000;

/// The first sequence number is less than this. RFC 3711 section 3.3.1: in the first half, so that a receiver that loses the first
/// packets does not take the wrap for the beginning.
const FIRST: u16 = 0x1000;

/// Encrypts the units of one stream after the other.
pub(super) struct Sealer {
    handle: Arc<StationHandle>,
    /// The directory's, which tells the keys.
    table: Arc<StationTable>,
    track: Track,
    profile: Profile,
    packetizer: Packetizer,
    /// The index of the next packet; its lower half is the packetizer's sequence number.
    index: u64,
    keys: SessionKeys,
    /// When the key was made, in due times; `None` before the first unit.
    since: Option<AirTime>,
    /// The key that is told and not used yet.
    next: Option<Next>,
    /// The requests for other keys that this sealer has met: a count of the key book's.
    wishes: u64,
    /// The index of the next report.
    report: u32,
}

/// The key that follows at an index.
struct Next {
    from: u64,
    keys: SessionKeys,
    /// The SSRC and first sequence number, if another stream begins.
    stream: Option<(u32, u16)>,
}

impl Sealer {
    /// Encrypts a track of a station by `profile`, in packets of up to `datagram` bytes of UDP payload. Tells the directory its keys.
    ///
    /// # Errors
    /// A sentence: the system gives no random numbers.
    pub(super) fn new(
        handle: Arc<StationHandle>,
        table: Arc<StationTable>,
        track: Track,
        profile: Profile,
        datagram: usize,
    ) -> Result<Sealer, String> {
        let master = master()?;
        let (ssrc, first) = (fastrand::u32(..), fastrand::u16(..FIRST));
        let sealer = Sealer {
            wishes: handle.keys.wishes(),
            table,
            track,
            profile,
            packetizer: Packetizer::new(ssrc, first, datagram - profile.overhead()),
            index: first.into(),
            keys: SessionKeys::new(profile, &master),
            since: None,
            next: None,
            report: 0,
            handle,
        };
        let keys = vec![KeyFrom { from: first.into(), master }];
        // Units of the stream before may still be on their way.
        let before = sealer.handle.keys.stream(track).into_iter();
        let stream = StreamKeys { profile, ssrc, index: first.into(), keys };
        sealer.handle.keys.set(track, before.chain([stream]).collect());
        sealer.table.tell_keys();
        Ok(sealer)
    }

    /// The SSRC of the packets.
    pub(super) fn ssrc(&self) -> u32 {
        self.packetizer.ssrc()
    }

    /// From the next unit on, packets have up to `datagram` bytes of UDP payload.
    pub(super) fn set_datagram(&mut self, datagram: usize) {
        self.packetizer.set_datagram(datagram - self.profile.overhead());
    }

    /// Seals a unit.
    pub(super) fn seal(&mut self, unit: &mut Unit) {
        let due = unit.due.at;
        let since = *self.since.get_or_insert(due);
        let wishes = self.handle.keys.wishes();
        let ends = self.profile == Profile::CounterMode && self.index >= TOLD_AT;
        let is_wished = wishes != self.wishes && due.since(since) >= APART;
        if self.next.is_none() && (ends || is_wished || due.since(since) >= LIFE) {
            self.wishes = wishes;
            if let Err(reason) = self.prepare(unit) {
                let spec = self.handle.spec();
                error!("station {} \"{}\" goes on with its old key: {reason}", spec.id, spec.name);
            }
            // Also after a fault, which would be logged with each unit otherwise.
            self.since = Some(due);
        }
        if self.next.as_ref().is_some_and(|next| next.stream.is_some() && self.index >= next.from) {
            self.follow();
        }
        let overhead = self.profile.overhead();
        let with_room = |packet: Packet<'_>| packet.to_vec_with_room(overhead);
        let mut packets: Vec<_> = self.packetizer.packets(unit, 0, usize::MAX).map(with_room).collect();
        for packet in &mut packets {
            if self.next.as_ref().is_some_and(|next| next.stream.is_none() && self.index == next.from) {
                self.follow();
            }
            self.keys.seal(packet, self.index).expect("our packets are RTP");
            self.index += 1;
        }
        self.handle.keys.set_index(self.track, self.ssrc(), self.index);
        unit.sealed = Some(Arc::new(packets));
    }

    /// Seals a report on the stream.
    pub(super) fn seal_report(&mut self, mut report: Vec<u8>) -> Vec<u8> {
        self.keys.seal_rtcp(&mut report, self.report);
        self.report = self.report.wrapping_add(1);
        report
    }

    /// Makes the next key, and tells it.
    fn prepare(&mut self, unit: &Unit) -> Result<(), String> {
        let master = master()?;
        let keys = SessionKeys::new(self.profile, &master);
        let Some(mut current) = self.handle.keys.stream(self.track) else { return Ok(()) };
        current.index = self.index;
        // Only the key that is used now is needed besides.
        current.keys.drain(..current.keys.len().saturating_sub(1));
        let interval = unit.due.interval.min(REPEAT_RATE.interval()).max(Duration::from_millis(1));
        let packets = AHEAD.div_duration_f64(interval) * self.packetizer.count(unit) as f64;
        let from = self.index + packets.ceil() as u64;
        let (told, next) = match self.profile {
            Profile::Gcm => {
                current.keys.push(KeyFrom { from, master });
                (vec![current], Next { from, keys, stream: None })
            }
            Profile::CounterMode => {
                let (ssrc, first) = (fastrand::u32(..), fastrand::u16(..FIRST));
                let stream = StreamKeys {
                    profile: self.profile,
                    ssrc,
                    index: first.into(),
                    keys: vec![KeyFrom { from: first.into(), master }],
                };
                (vec![current, stream], Next { from: from.min(ENDS_AT), keys, stream: Some((ssrc, first)) })
            }
        };
        self.next = Some(next);
        self.handle.keys.set(self.track, told);
        self.table.tell_keys();
        Ok(())
    }

    /// Uses the next key.
    fn follow(&mut self) {
        let Some(next) = self.next.take() else { return };
        self.keys = next.keys;
        // Of another SSRC or of another key: both begin with report 0, which is then the first of its key.
        self.report = 0;
        if let Some((ssrc, first)) = next.stream {
            self.packetizer = Packetizer::new(ssrc, first, self.packetizer.datagram());
            self.index = first.into();
        }
    }
}

fn master() -> Result<MasterKey, String> {
    MasterKey::random().map_err(|_| "the system gives no random numbers".to_owned())
}
