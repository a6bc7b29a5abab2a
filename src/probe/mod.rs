//! The probe: an instrument that measures how the packets and access units of any RTP stream arrive. Pure; it decodes
//! nothing.
//!
//! The viewer and the benches import this room. It imports `media`, `wire`, and the tuner's rule for when a sender is
//! gone.
//!
//! Each access unit (one coded picture; the packets that share a timestamp) has two times: the sender's, its RTP
//! timestamp, and ours, the stamp on the first of its packets that arrived. Their difference, the *transit*, is a
//! constant (the offset of the two clocks and the network's delay) plus whatever delayed this unit. Several figures are
//! derived from it:
//!
//! - *pacing*: transit less the least transit. Needs no common clock.
//! - *lateness*: arrival less due time, if timestamps are the wall clock (SMPTE ST 2110-10), as those of our stations
//!   are. As accurate as the two machines' clocks agree.
//! - *drift*: how fast the least transit itself changes: the sender's clock against ours.
//! - *jitter*: RFC 3550 section 6.4.1, packet by packet.
//!
//! ```text
//! packets -> Sequence -> units -> Probe::report -> ProbeReport
//!                          \----> traffic (SMPTE ST 2110-21)
//! ```
//!
//! Memory is bounded by 46 MB: the last 2^20 packets (24 bytes each) and the last 2^18 units (80 bytes each) are kept.
//! Distributions cover these, counts cover everything. At 25 pictures a second that is three hours of units.

mod arrivals;
pub mod report;
mod sequence;
mod statistics;
pub mod traffic;

use std::collections::VecDeque;
use std::num::NonZeroU32;

use arrivals::{PacketArrival, ReceivedUnit, TimeOrigin, transit};
pub use report::ProbeReport;
use sequence::{Sequence, SequenceVerdict};

use crate::media::{AirTime, RTP_CLOCK};
use crate::tuner::SENDER_GONE;
use crate::wire::rtp::{self, RtpError, Unwrap, air_time_near};

/// Most packets kept.
const MAX_PACKETS: usize = 1 << 20;

/// Most units kept.
const MAX_UNITS: usize = 1 << 18;

/// Number of last units among which a reordered packet is looked up.
const OPEN_UNITS: usize = 8;

/// A transit that changes by more nanoseconds than this between two packets is a jump of the timestamps, not lateness.
const TIMESTAMP_JUMP: i64 = 2_000_000_000;

/// Timestamps of an unknown sender are taken for the wall clock if the first units are within this many nanoseconds of
/// it. One in 24,000 senders with a random offset (RFC 3550 section 5.1) is taken for it by mistake.
const PLAUSIBLE: i64 = 1_000_000_000;

/// Number of units that decide whether timestamps are the wall clock.
const FIRST_UNITS: usize = 10;

/// Knowledge about a stream's timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timestamps {
    /// They are the wall clock, as those of our stations.
    WallClock,
    /// Nothing. They are taken for the wall clock if the first ones are within a second of it.
    Unknown,
}

/// Counts of everything received: see [`report::Packets`] and [`report::Oddities`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct ProbeCounters {
    packets: u64,
    bytes: u64,
    units: u64,
    duplicates: u64,
    too_old: u64,
    strays: u64,
    malformed: u64,
    rtcp: u64,
    other_sources: u64,
    restarts: u64,
    timestamp_jumps: u64,
}

/// One measured access unit, for plots.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UnitSample {
    /// Arrival of its first packet.
    pub arrival: AirTime,
    /// Transit less the least transit, in nanoseconds.
    pub pacing: i64,
    /// Arrival less due time, in nanoseconds; `None` if timestamps are not the wall clock.
    pub lateness: Option<i64>,
    /// Time since the arrival of the unit before it, in nanoseconds; `None` if that unit's is unknown.
    pub interval: Option<i64>,
}

/// Measures one RTP stream.
#[derive(Debug)]
pub struct Probe {
    clock: NonZeroU32,
    timestamps: Timestamps,
    max_packets: usize,
    max_units: usize,
    counts: ProbeCounters,
    sequence: Sequence,
    ticks: Unwrap<32>,
    source: Option<MeasuredSource>,
    packets: VecDeque<PacketArrival>,
    units: VecDeque<ReceivedUnit>,
    /// Number of units no longer kept, which is the number of the first one kept.
    forgotten: u64,
    /// Arrival of the first packet.
    began: Option<AirTime>,
    /// Largest datagram, in bytes.
    largest: usize,
    /// Interarrival jitter, in nanoseconds.
    jitter: f64,
    /// Highest jitter so far, in nanoseconds.
    jitter_max: f64,
}

/// The sender that is measured.
#[derive(Debug, Clone, Copy)]
struct MeasuredSource {
    ssrc: u32,
    payload_type: u8,
    origin: TimeOrigin,
    last_arrival: AirTime,
    last_transit: i64,
}

impl Probe {
    /// A probe for a stream whose timestamps count `clock` ticks a second.
    pub fn new(clock: NonZeroU32, timestamps: Timestamps) -> Probe {
        Probe {
            clock,
            timestamps,
            max_packets: MAX_PACKETS,
            max_units: MAX_UNITS,
            counts: ProbeCounters::default(),
            sequence: Sequence::default(),
            ticks: Unwrap::default(),
            source: None,
            packets: VecDeque::new(),
            units: VecDeque::new(),
            forgotten: 0,
            began: None,
            largest: 0,
            jitter: 0.0,
            jitter_max: 0.0,
        }
    }

    /// The same probe, keeping this many packets and units, at least one of each.
    #[must_use]
    pub fn keeping(self, packets: usize, units: usize) -> Probe {
        Probe { max_packets: packets.max(1), max_units: units.max(1), ..self }
    }

    /// Measures a datagram that arrived at `arrival`.
    ///
    /// # Errors
    /// The datagram is not RTP. It has been counted.
    pub fn packet(&mut self, arrival: AirTime, datagram: &[u8]) -> Result<(), RtpError> {
        // RTCP on the same port as RTP: RFC 5761 section 4.
        if matches!(datagram, [first, 192..=223, ..] if first >> 6 == 2) {
            self.counts.rtcp += 1;
            return Ok(());
        }
        let header = match rtp::Header::parse(datagram) {
            Ok((header, _)) => header,
            Err(error) => {
                self.counts.malformed += 1;
                return Err(error);
            }
        };
        let mut restart = false;
        match self.source {
            None => {}
            Some(source) if source.ssrc == header.ssrc => {}
            Some(source) if arrival.since(source.last_arrival) < SENDER_GONE => {
                self.counts.other_sources += 1;
                return Ok(());
            }
            Some(_) => restart = true,
        }
        self.counts.packets += 1;
        self.counts.bytes += datagram.len() as u64;
        let verdict = if restart {
            SequenceVerdict::Restart(self.sequence.start_over(header.sequence))
        } else {
            self.sequence.judge(header.sequence)
        };
        let number = match verdict {
            SequenceVerdict::New(number) | SequenceVerdict::Reordered(number) => number,
            SequenceVerdict::Restart(number) => {
                self.counts.restarts += 1;
                restart = true;
                number
            }
            SequenceVerdict::Duplicate => {
                self.counts.duplicates += 1;
                return Ok(());
            }
            SequenceVerdict::TooOld => {
                self.counts.too_old += 1;
                return Ok(());
            }
            SequenceVerdict::Stray => {
                self.counts.strays += 1;
                return Ok(());
            }
        };
        self.largest = self.largest.max(datagram.len());
        self.began.get_or_insert(arrival);
        let ticks = self.place(arrival, &header, restart);
        let late = matches!(verdict, SequenceVerdict::Reordered(_));
        self.file(arrival, &header, number, ticks, late, datagram.len());
        Ok(())
    }

    /// The unwrapped timestamp of a packet. After a restart or a jump, begins a new origin.
    fn place(&mut self, arrival: AirTime, header: &rtp::Header, restart: bool) -> u64 {
        let mut ticks = self.ticks.unwrap(header.timestamp);
        if let Some(source) = self.source.as_mut().filter(|_| !restart) {
            let now = transit(source.origin, ticks, arrival, self.clock);
            let change = now.saturating_sub(source.last_transit).saturating_abs();
            if change <= TIMESTAMP_JUMP {
                // RFC 3550 appendix A.8, without the rounding to ticks.
                self.jitter += (change as f64 - self.jitter) / 16.0;
                self.jitter_max = self.jitter_max.max(self.jitter);
                (source.last_transit, source.last_arrival) = (now, arrival);
                source.payload_type = header.payload_type;
                return ticks;
            }
            self.counts.timestamp_jumps += 1;
        }
        self.ticks = Unwrap::default();
        ticks = self.ticks.unwrap(header.timestamp);
        let segment = self.source.map_or(0, |source| source.origin.segment.wrapping_add(1));
        self.source = Some(MeasuredSource {
            ssrc: header.ssrc,
            payload_type: header.payload_type,
            origin: TimeOrigin { segment, ticks, arrival },
            last_arrival: arrival,
            last_transit: 0,
        });
        ticks
    }

    /// Adds a packet to its unit, or begins one.
    fn file(
        &mut self,
        arrival: AirTime,
        header: &rtp::Header,
        number: u64,
        ticks: u64,
        late: bool,
        length: usize,
    ) {
        let Some(origin) = self.source.map(|source| source.origin) else { return };
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let recent = self.units.len().saturating_sub(OPEN_UNITS);
        let mine = |unit: &ReceivedUnit| {
            let ended = unit.marker.is_some_and(|marker| number > marker);
            unit.origin.segment == origin.segment && unit.ticks == ticks && !ended
        };
        let found = (recent..self.units.len()).rev().find(|&at| mine(&self.units[at]));
        let at = match found {
            Some(at) => {
                let unit = &mut self.units[at];
                unit.packets = unit.packets.saturating_add(1);
                unit.bytes = unit.bytes.saturating_add(length);
                if arrival.signed_since(unit.last) > 0 {
                    unit.last = arrival;
                }
                if number < unit.lowest {
                    unit.lowest = number;
                    unit.begins = self.sequence.has(number.wrapping_sub(1));
                }
                at
            }
            None => {
                if self.units.len() == self.max_units {
                    self.units.pop_front();
                    self.forgotten += 1;
                }
                self.counts.units += 1;
                self.units.push_back(ReceivedUnit {
                    ticks,
                    first: arrival,
                    last: arrival,
                    origin,
                    packets: 1,
                    lowest: number,
                    marker: None,
                    bytes: length,
                    begins: self.sequence.has(number.wrapping_sub(1)),
                });
                self.units.len() - 1
            }
        };
        if header.marker {
            self.units[at].marker = Some(number);
        }
        if late {
            // It may be the packet that was missing before a unit.
            for unit in self.units.range_mut(recent.min(self.units.len())..) {
                unit.begins |= unit.origin.segment == origin.segment && unit.lowest == number + 1;
            }
        }
        if self.packets.len() == self.max_packets {
            self.packets.pop_front();
        }
        self.packets.push_back(PacketArrival { arrival, number, unit: self.forgotten + at as u64 });
    }

    /// The units whose beginning is known, in order of arrival, each with its index among those kept.
    fn measured(&self) -> impl Iterator<Item = (usize, &ReceivedUnit)> {
        self.units.iter().enumerate().filter(|(_, unit)| unit.begins)
    }

    /// Lateness of a unit in nanoseconds, if its timestamp is the wall clock.
    fn lateness(unit: &ReceivedUnit) -> i64 {
        unit.first.signed_since(air_time_near(unit.ticks as u32, unit.first))
    }

    /// Whether the timestamps are the wall clock.
    fn is_wall_clock(&self) -> bool {
        let plausible = || {
            let mut first = self.measured().take(FIRST_UNITS).peekable();
            first.peek().is_some()
                && first.all(|(_, unit)| Probe::lateness(unit).saturating_abs() < PLAUSIBLE)
        };
        self.clock.get() == RTP_CLOCK && (self.timestamps == Timestamps::WallClock || plausible())
    }

    /// All measured units that are kept, oldest first.
    pub fn samples(&self) -> Vec<UnitSample> {
        let is_wall_clock = self.is_wall_clock();
        let least = statistics::least_transits(self.measured().map(|(_, unit)| unit), self.clock);
        let mut before: Option<(usize, &ReceivedUnit)> = None;
        let mut samples = Vec::with_capacity(self.units.len());
        for (at, unit) in self.measured() {
            let neighbour = before.filter(|&(n, before)| n + 1 == at && before.origin == unit.origin);
            let best = least.get(&unit.origin.segment).copied().unwrap_or_default();
            samples.push(UnitSample {
                arrival: unit.first,
                pacing: unit.transit(self.clock).saturating_sub(best),
                lateness: is_wall_clock.then(|| Probe::lateness(unit)),
                interval: neighbour.map(|(_, before)| unit.first.signed_since(before.first)),
            });
            before = Some((at, unit));
        }
        samples
    }
}

#[cfg(test)]
mod tests;
