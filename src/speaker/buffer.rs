//! Packets of sound in the order of their due times. Pure.
//!
//! A packet waits until its samples are needed, and one that has not come by then is concealed: so there is no other deadline
//! for a packet than the sound itself, and no packet is held back for one that is missing.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::decode;
use crate::media::{AirTime, SOUND_CLOCK, SoundCodec};
use crate::wire::rtp::{Header, Unwrap};

/// Most packets held: 1.3 s of packets of 5 ms. Above, the oldest is dropped.
const MAX_HELD: usize = 256;

/// Longest packet that is held: 20 ms of linear samples in a connection, and some. The longest frame of Opus has 1,275 bytes (RFC
/// 6716 section 3.2.1).
pub(super) const MAX_PACKET: usize = 4096;

/// A sender without a packet for this long may be replaced by another one: a restarted broadcaster has a new SSRC.
const SENDER_GONE: Duration = Duration::from_millis(200);

/// A packet whose due time is this far from that of the packets before it is not of this stream, or the sender's clock was
/// set: then the stream starts anew after as many of them.
const FAR: u64 = SOUND_CLOCK as u64 * 2;
const FAR_RUN: u32 = 5;

/// Sequence numbers remembered, to tell a duplicate from a packet that is late.
const REMEMBERED: usize = 64;

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PacketVerdict {
    /// It is held.
    Held,
    /// It is held, and all before it is void: another sender, or the sender's clock was set.
    Restart,
    /// It has come before.
    Duplicate,
    /// It is not of the sender that is followed, or not of its codec.
    Foreign,
}

/// The packets that wait for their time.
#[derive(Debug, Default)]
pub(super) struct SoundBuffer {
    /// By the due time of the first sample, in ticks since the epoch.
    held: BTreeMap<i64, HeldPacket>,
    /// The SSRC that is followed, and the arrival of its last packet.
    sender: Option<(u32, AirTime)>,
    newest: i64,
    far: u32,
    sequence: Unwrap<16>,
    /// The lowest and the highest sequence number, and the packets that came.
    range: Option<(u64, u64)>,
    received: u64,
    recent: VecDeque<u64>,
}

/// A packet, and the samples that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeldPacket {
    pub(super) samples: usize,
    pub(super) codec: SoundCodec,
    pub(super) packet: Vec<u8>,
}

impl HeldPacket {
    /// `None` if the packet is too long, or not of this codec.
    fn new(codec: SoundCodec, packet: &[u8]) -> Option<HeldPacket> {
        let samples = decode::samples(codec, packet).filter(|_| packet.len() <= MAX_PACKET)?;
        Some(HeldPacket { samples, codec, packet: packet.to_vec() })
    }
}

/// The moment, in ticks since the epoch, of an RTP timestamp of a clock of sound that is near `near`.
fn ticks_near(timestamp: u32, near: AirTime) -> i64 {
    let near = near.ticks(SOUND_CLOCK) as i64;
    near - i64::from((near as u32).wrapping_sub(timestamp) as i32)
}

/// The moment of ticks since the epoch.
pub(super) fn air_time(ticks: i64) -> AirTime {
    let nanos = i128::from(ticks) * 1_000_000_000 / i128::from(SOUND_CLOCK);
    AirTime(nanos.clamp(0, u64::MAX.into()) as u64)
}

impl SoundBuffer {
    /// Takes a packet that arrived at `arrival`. Returns what became of it, and its due time.
    pub(super) fn put(
        &mut self,
        arrival: AirTime,
        codec: SoundCodec,
        header: Header,
        packet: &[u8],
    ) -> (PacketVerdict, AirTime) {
        let ticks = ticks_near(header.timestamp, arrival);
        let verdict = match HeldPacket::new(codec, packet) {
            Some(packet) => self.judge(arrival, header, ticks, packet),
            None => PacketVerdict::Foreign,
        };
        (verdict, air_time(ticks))
    }

    fn judge(&mut self, arrival: AirTime, header: Header, ticks: i64, packet: HeldPacket) -> PacketVerdict {
        let mut verdict = PacketVerdict::Held;
        match self.sender {
            None => self.newest = ticks,
            Some((ssrc, last)) if ssrc != header.ssrc => {
                if arrival.since(last) < SENDER_GONE {
                    return PacketVerdict::Foreign;
                }
                verdict = PacketVerdict::Restart;
            }
            Some(_) if self.newest.abs_diff(ticks) > FAR => {
                self.far += 1;
                if self.far < FAR_RUN {
                    return PacketVerdict::Foreign;
                }
                verdict = PacketVerdict::Restart;
            }
            Some(_) => {}
        }
        if verdict == PacketVerdict::Restart {
            self.held.clear();
            self.recent.clear();
            (self.newest, self.sequence, self.range) = (ticks, Unwrap::default(), None);
            self.received = 0;
        }
        self.far = 0;
        self.sender = Some((header.ssrc, arrival));
        let number = self.sequence.unwrap(header.sequence.into());
        if self.recent.contains(&number) {
            return PacketVerdict::Duplicate;
        }
        self.recent.push_back(number);
        if self.recent.len() > REMEMBERED {
            self.recent.pop_front();
        }
        self.received += 1;
        let (low, high) = self.range.unwrap_or((number, number));
        self.range = Some((low.min(number), high.max(number)));
        self.newest = self.newest.max(ticks);
        self.hold(ticks, packet);
        verdict
    }

    /// Takes a packet of Opus that the directory has told of.
    pub(super) fn put_told(&mut self, due: AirTime, packet: &[u8]) {
        if let Some(packet) = HeldPacket::new(SoundCodec::Opus, packet) {
            self.hold(due.ticks(SOUND_CLOCK) as i64, packet);
        }
    }

    fn hold(&mut self, ticks: i64, packet: HeldPacket) {
        self.held.entry(ticks).or_insert(packet);
        while self.held.len() > MAX_HELD {
            self.held.pop_first();
        }
    }

    /// Packets that were sent between the first and the last one that came, and did not come.
    pub(super) fn lost(&self) -> u64 {
        self.range.map_or(0, |(low, high)| (high - low + 1).saturating_sub(self.received))
    }

    /// The due time of the first packet that has samples after `ticks`.
    pub(super) fn first_after(&self, ticks: i64) -> Option<i64> {
        self.held.iter().find(|(at, held)| **at + held.samples as i64 > ticks).map(|(at, _)| *at)
    }

    /// The due time of the first of the packets that follow each other without a gap up to the one at `last`, as far back as
    /// `earliest`.
    pub(super) fn run_before(&self, last: i64, earliest: i64) -> i64 {
        let mut first = last;
        for (&at, held) in self.held.range(earliest..last).rev() {
            // Two timestamps differ by up to a tick from the samples between them.
            if (at + held.samples as i64).abs_diff(first) > 1 {
                break;
            }
            first = at;
        }
        first
    }

    /// Removes the packet that the sample at `ticks` is in, or that follows within `step` samples, and all before it.
    pub(super) fn take(&mut self, ticks: i64, step: i64) -> Option<(i64, HeldPacket)> {
        loop {
            let first = self.held.first_entry()?;
            let at = *first.key();
            if at >= ticks + step {
                return None;
            }
            let held = first.remove();
            if at + held.samples as i64 > ticks + 1 {
                return Some((at, held));
            }
        }
    }

    /// Samples from `ticks` to the next packet; `None` if there is none.
    pub(super) fn gap_from(&self, ticks: i64) -> Option<i64> {
        self.held.range(ticks..).next().map(|(at, _)| at - ticks)
    }

    /// Samples that are held after `ticks`.
    pub(super) fn held_after(&self, ticks: i64) -> i64 {
        self.held.last_key_value().map_or(0, |(at, held)| (at + held.samples as i64 - ticks).max(0))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::speaker) const T0: AirTime = AirTime(1_790_000_000_000_000_000);

    /// A packet of 20 ms of silence, in stereo (RFC 6716 section 3.1: CELT, fullband, 20 ms).
    pub(in crate::speaker) const SILENCE: [u8; 3] = [0xfc, 0xff, 0xfe];

    pub(in crate::speaker) fn header(n: u64, ssrc: u32) -> Header {
        let due = T0 + Duration::from_millis(20 * n);
        let timestamp = due.ticks(SOUND_CLOCK) as u32;
        Header { marker: false, payload_type: 97, sequence: (65_530 + n) as u16, timestamp, ssrc }
    }

    fn put(buffer: &mut SoundBuffer, n: u64, late_ms: u64, ssrc: u32) -> PacketVerdict {
        let arrival = T0 + Duration::from_millis(20 * n + late_ms);
        let (verdict, due) = buffer.put(arrival, SoundCodec::Opus, header(n, ssrc), &SILENCE);
        assert!(due.0.abs_diff((T0 + Duration::from_millis(20 * n)).0) < 21_000);
        verdict
    }

    fn at(n: u64) -> i64 {
        (T0 + Duration::from_millis(20 * n)).ticks(SOUND_CLOCK) as i64
    }

    #[test]
    fn packets_are_taken_in_the_order_of_their_due_times_and_duplicates_once() {
        use PacketVerdict::{Duplicate, Held};
        let mut buffer = SoundBuffer::default();
        let verdicts = [0, 2, 1, 1, 8, 7].map(|n| put(&mut buffer, n, 3, 5));
        assert_eq!(verdicts, [Held, Held, Held, Duplicate, Held, Held]);
        assert_eq!(buffer.lost(), 4, "3 to 6");
        assert_eq!((buffer.first_after(at(1)), buffer.gap_from(at(3))), (Some(at(1)), Some(4 * 960)));
        assert_eq!((buffer.run_before(at(2), at(0)), buffer.run_before(at(8), at(0))), (at(0), at(7)));
        assert_eq!(buffer.take(at(1) + 3, 1).map(|(at, _)| at), Some(at(1)));
        assert_eq!(buffer.take(at(2), 1).map(|(at, _)| at), Some(at(2)));
        assert_eq!(buffer.take(at(3), 1), None);
        assert_eq!(put(&mut buffer, 3, 90, 5), Held, "late, but what is not heard yet may still be used");
        assert_eq!(buffer.lost(), 3);
        assert_eq!(buffer.take(at(7), 1).map(|(at, _)| at), Some(at(7)));
    }

    #[test]
    fn another_sender_takes_over_when_the_first_is_silent() {
        use PacketVerdict::{Foreign, Held, Restart};
        let mut buffer = SoundBuffer::default();
        assert_eq!([put(&mut buffer, 0, 0, 5), put(&mut buffer, 1, 0, 6)], [Held, Foreign]);
        assert_eq!(put(&mut buffer, 20, 0, 6), Restart);
        assert_eq!(put(&mut buffer, 21, 0, 6), Held);
        assert_eq!((buffer.first_after(0), buffer.lost()), (Some(at(20)), 0));
    }

    #[test]
    fn a_clock_that_is_set_restarts_the_stream_and_one_stray_packet_does_not() {
        use PacketVerdict::{Foreign, Held, Restart};
        let mut buffer = SoundBuffer::default();
        let mut at_second = |n: u64, seconds: u64| {
            let mut header = header(n, 5);
            header.timestamp = header.timestamp.wrapping_add((seconds * 48_000) as u32);
            buffer.put(T0 + Duration::from_millis(20 * n), SoundCodec::Opus, header, &SILENCE).0
        };
        assert_eq!([at_second(0, 0), at_second(1, 3600), at_second(2, 0)], [Held, Foreign, Held]);
        let verdicts: Vec<_> = (3..9).map(|n| at_second(n, 100)).collect();
        assert_eq!(verdicts, [Foreign, Foreign, Foreign, Foreign, Restart, Held]);
    }

    #[test]
    fn it_is_bounded_and_takes_nothing_but_opus() {
        let mut buffer = SoundBuffer::default();
        for n in 0..1000 {
            put(&mut buffer, n, 0, 5);
        }
        assert_eq!(buffer.held.len(), MAX_HELD);
        for packet in [&[][..], &[0xff], &[0; MAX_PACKET + 1], &[0xff, 0xff, 1, 2, 3]] {
            assert_eq!(
                buffer.put(T0, SoundCodec::Opus, header(1001, 5), packet).0,
                PacketVerdict::Foreign,
                "{packet:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_packet_makes_it_panic(packets in prop::collection::vec((any::<u32>(), any::<u16>(), prop::collection::vec(any::<u8>(), 0..20)), 0..40), take: i64) {
            let mut buffer = SoundBuffer::default();
            for (timestamp, sequence, packet) in packets {
                let header = Header { marker: false, payload_type: 97, sequence, timestamp, ssrc: 5 };
                buffer.put(T0, SoundCodec::Opus, header, &packet);
                buffer.first_after(at(0));
                buffer.take(at(take as u64 % 100), 1);
            }
        }
    }
}
