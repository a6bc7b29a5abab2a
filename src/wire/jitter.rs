//! The jitter buffer: packets leave it in the order of their sequence numbers, or are declared lost.
//!
//! A packet in order is not held at all: on a quiet network this buffer adds no delay and copies nothing. An early
//! packet waits for those it overtook, but no longer than [`HOLD`]; then they are lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::media::AirTime;
use crate::wire::rtp;

/// How long an early packet waits for those it overtook. Reordering on a LAN takes microseconds (parallel links,
/// several receive queues). A quarter of the 40 ms between pictures also covers Wi-Fi retries, and 10 ms of delay are
/// invisible.
pub const HOLD: Duration = Duration::from_millis(10);

/// Most packets held at a time: several full pictures over Ethernet, of 45 packets each.
const MAX_HELD: usize = 256;

/// Most bytes of payload held at a time. In the 10 ms of [`HOLD`] a gigabit link carries 1.2 MB.
const MAX_HELD_BYTES: usize = 2 << 20;

/// A sequence number further than this ahead of the newest one does not continue the run
/// (RFC 3550 appendix A.1 has the same rule, with MAX_DROPOUT = 3000). Small, since one forged or corrupted number
/// makes us give up as many packets: 64 are one and a half of the largest pictures over Ethernet.
const BELIEVED: u64 = 64;

/// A longer step ahead is not a loss but a sender that starts over.
const MAX_DROPOUT: u64 = 20_000;

/// This many consecutive late packets are the stream itself: the packet that ran ahead of them was wrong.
const LATE_RUN: u32 = 3;

/// Number of given-up sequence numbers that are remembered, to tell a late packet from a duplicate.
const MAX_REMEMBERED: usize = 1024;

/// An RTP packet that the buffer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BufferedPacket {
    /// When it arrived.
    pub arrival: AirTime,
    /// RTP header.
    pub header: rtp::Header,
    /// RTP payload.
    pub payload: Vec<u8>,
}

/// How the caller must handle a packet that has just arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketVerdict {
    /// In order: use it, then [`poll`](JitterBuffer::poll) for those that waited for it.
    Next,
    /// Packets before it are missing: [`hold`](JitterBuffer::hold) it.
    Early,
    /// It had been given up: drop it.
    Late,
    /// Its number has been seen already, or precedes the first one: drop it.
    Duplicate,
    /// The sequence numbers start over: forget the unfinished picture, then use it.
    Restart,
    /// Its number is far from the others, so it does not continue this run of packets. The buffer is unchanged.
    Stray,
}

/// One release of the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The next packet in order.
    Packet(BufferedPacket),
    /// This many packets are lost in front of the next one.
    Gap(u64),
}

/// Orders packets by their unwrapped sequence numbers. Holds at most 256 of them and 2 MiB; when full, it gives up the
/// oldest gap.
#[derive(Debug, Default)]
pub struct JitterBuffer {
    sequence: rtp::Unwrap<16>,
    /// The next number in order; `None` before the first packet.
    next: Option<u64>,
    held: BTreeMap<u64, BufferedPacket>,
    given_up: BTreeSet<u64>,
    recent: VecDeque<u64>,
    held_bytes: usize,
    /// Number of the last late packet, and length of the consecutive run that ends with it.
    late: (u64, u32),
}

impl JitterBuffer {
    /// Judges a packet by its sequence number.
    pub fn judge(&mut self, sequence: u16) -> PacketVerdict {
        let before = self.sequence.clone();
        let number = self.sequence.unwrap(u32::from(sequence));
        let Some(next) = self.next else {
            self.next = Some(number + 1);
            return PacketVerdict::Next;
        };
        let newest = self.held.last_key_value().map_or(next, |(&newest, _)| newest);
        if number > newest + BELIEVED || number + (MAX_REMEMBERED as u64) < next {
            self.sequence = before;
            return PacketVerdict::Stray;
        }
        if number == next {
            self.next = Some(number + 1);
            PacketVerdict::Next
        } else if number > next {
            if self.held.contains_key(&number) { PacketVerdict::Duplicate } else { PacketVerdict::Early }
        } else if self.given_up.remove(&number) {
            let (last, run) = self.late;
            self.late = (number, if number == last + 1 { run + 1 } else { 1 });
            if self.late.1 == LATE_RUN { self.start_over(sequence) } else { PacketVerdict::Late }
        } else {
            PacketVerdict::Duplicate
        }
    }

    fn start_over(&mut self, sequence: u16) -> PacketVerdict {
        *self = JitterBuffer::default();
        self.next = Some(self.sequence.unwrap(u32::from(sequence)) + 1);
        PacketVerdict::Restart
    }

    /// How many packets were sent between the last one in order and the packet numbered `sequence`, which a run of packets
    /// that follows this one begins with; `None` if that is more than an outage explains.
    pub fn lost_before(&self, sequence: u16) -> Option<u64> {
        let lost = sequence.wrapping_sub(self.next? as u16);
        Some(lost.into()).filter(|&lost| lost <= MAX_DROPOUT)
    }

    /// Keeps a packet that [`judge`](Self::judge) called early.
    pub fn hold(&mut self, packet: BufferedPacket) {
        let number = self.sequence.clone().unwrap(u32::from(packet.header.sequence));
        self.held_bytes += packet.payload.len();
        self.held.insert(number, packet);
    }

    /// The next release at `now`. Call until `None`, after each packet and at each timeout.
    pub fn poll(&mut self, now: AirTime) -> Option<Step> {
        let next = self.next?;
        let (&first, packet) = self.held.first_key_value()?;
        if first == next {
            self.next = Some(next + 1);
            let (_, packet) = self.held.pop_first()?;
            self.held_bytes -= packet.payload.len();
            return Some(Step::Packet(packet));
        }
        let expired = packet.arrival + HOLD <= now;
        if !expired && self.held.len() < MAX_HELD && self.held_bytes < MAX_HELD_BYTES {
            return None;
        }
        self.next = Some(first);
        for number in next..first {
            self.given_up.insert(number);
            self.recent.push_back(number);
            if self.recent.len() > MAX_REMEMBERED
                && let Some(oldest) = self.recent.pop_front()
            {
                self.given_up.remove(&oldest);
            }
        }
        Some(Step::Gap(first - next))
    }

    /// When [`poll`](Self::poll) releases something even if no packet arrives.
    pub fn deadline(&self) -> Option<AirTime> {
        self.held.first_key_value().map(|(_, packet)| packet.arrival + HOLD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: AirTime = AirTime(1_000_000_000);

    fn packet(sequence: u16, arrival: AirTime) -> BufferedPacket {
        let header = rtp::Header { marker: true, payload_type: 26, sequence, timestamp: 0, ssrc: 1 };
        BufferedPacket { arrival, header, payload: vec![] }
    }

    fn offer(buffer: &mut JitterBuffer, sequence: u16, now: AirTime) -> PacketVerdict {
        let verdict = buffer.judge(sequence);
        if verdict == PacketVerdict::Early {
            buffer.hold(packet(sequence, now));
        }
        verdict
    }

    #[test]
    fn an_early_packet_waits_for_the_one_it_overtook() {
        let mut buffer = JitterBuffer::default();
        assert_eq!(offer(&mut buffer, 65_534, T0), PacketVerdict::Next);
        assert_eq!(offer(&mut buffer, 0, T0), PacketVerdict::Early);
        assert_eq!(offer(&mut buffer, 1, T0), PacketVerdict::Early);
        assert_eq!(offer(&mut buffer, 1, T0), PacketVerdict::Duplicate);
        assert_eq!(buffer.poll(T0 + HOLD / 2), None);
        assert_eq!(offer(&mut buffer, 65_535, T0), PacketVerdict::Next);
        assert_eq!(buffer.poll(T0), Some(Step::Packet(packet(0, T0))));
        assert_eq!(buffer.poll(T0), Some(Step::Packet(packet(1, T0))));
        assert_eq!(buffer.poll(T0), None);
        assert_eq!(offer(&mut buffer, 65_535, T0), PacketVerdict::Duplicate);
    }

    #[test]
    fn a_packet_that_misses_its_deadline_is_lost_and_is_late_when_it_arrives() {
        let mut buffer = JitterBuffer::default();
        offer(&mut buffer, 10, T0);
        offer(&mut buffer, 13, T0);
        assert_eq!(buffer.deadline(), Some(T0 + HOLD));
        assert_eq!(buffer.poll(T0 + HOLD), Some(Step::Gap(2)));
        assert_eq!(buffer.poll(T0 + HOLD), Some(Step::Packet(packet(13, T0))));
        assert_eq!(buffer.deadline(), None);
        assert_eq!(offer(&mut buffer, 11, T0), PacketVerdict::Late);
        assert_eq!(offer(&mut buffer, 11, T0), PacketVerdict::Duplicate);
    }

    #[test]
    fn a_full_buffer_gives_up_its_oldest_gap() {
        let mut buffer = JitterBuffer::default();
        offer(&mut buffer, 0, T0);
        for sequence in 2..2 + MAX_HELD as u16 {
            assert_eq!(buffer.poll(T0), None, "before {sequence}");
            offer(&mut buffer, sequence, T0);
        }
        assert_eq!(buffer.poll(T0), Some(Step::Gap(1)));
    }

    #[test]
    fn packets_far_away_are_strays_however_many_they_are() {
        let mut buffer = JitterBuffer::default();
        offer(&mut buffer, 100, T0);
        for sequence in [30_000, 30_001, 30_002, 5000, 5001, 60_000] {
            assert_eq!(offer(&mut buffer, sequence, T0), PacketVerdict::Stray);
        }
        assert_eq!(offer(&mut buffer, 101, T0), PacketVerdict::Next);
    }

    #[test]
    fn a_run_after_an_outage_tells_what_was_lost() {
        let mut buffer = JitterBuffer::default();
        assert_eq!(buffer.lost_before(5), None, "nothing has come yet");
        offer(&mut buffer, 65_000, T0);
        assert_eq!(buffer.lost_before(65_001), Some(0));
        assert_eq!(buffer.lost_before(4365), Some(4900));
        assert_eq!(buffer.lost_before(30_000), None);
    }

    #[test]
    fn a_buffer_full_of_bytes_gives_up_its_oldest_gap() {
        let mut buffer = JitterBuffer::default();
        offer(&mut buffer, 0, T0);
        for sequence in 2..=34 {
            assert_eq!(buffer.poll(T0), None, "before {sequence}");
            assert_eq!(buffer.judge(sequence), PacketVerdict::Early);
            buffer.hold(BufferedPacket { payload: vec![0; 65_000], ..packet(sequence, T0) });
        }
        assert_eq!(buffer.poll(T0), Some(Step::Gap(1)));
        while buffer.poll(T0).is_some() {}
        assert_eq!(buffer.held_bytes, 0);
    }

    #[test]
    fn one_wrong_number_does_not_stop_the_stream() {
        let mut buffer = JitterBuffer::default();
        offer(&mut buffer, 100, T0);
        assert_eq!(offer(&mut buffer, 140, T0), PacketVerdict::Early);
        assert_eq!(buffer.poll(T0 + HOLD), Some(Step::Gap(39)));
        while buffer.poll(T0 + HOLD).is_some() {}
        let verdicts: Vec<_> = (101..106).map(|n| offer(&mut buffer, n, T0 + HOLD)).collect();
        use PacketVerdict::{Late, Next, Restart};
        assert_eq!(verdicts, [Late, Late, Restart, Next, Next]);
    }
}
