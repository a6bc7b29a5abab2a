//! The report of a [`Probe`]. The names of the fields are the keys of the JSON, and a contract. A key ends in its unit:
//! `_us` microseconds, `_ms` milliseconds, `_s` seconds.

use serde::Serialize;

use super::Probe;
use super::arrivals::{ReceivedUnit, sent};
use super::statistics::{drift, interval_ticks, least_transits};
use super::traffic::{self, PacketTime, Traffic};

pub use super::statistics::{Bin, Drift, Histogram};
pub use crate::tuner::distribution::Distribution;

/// Packets less than this apart, in nanoseconds, belong to one burst: they were sent back to back. A full Ethernet
/// frame takes 12.3 us at 1 Gb/s; the rest allows for the kernel's stamps, which jitter by some us.
pub const BURST_GAP: i64 = 20_000;

/// All packets, by their sequence numbers and headers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Packets {
    /// RTP packets received, duplicates included.
    pub received: u64,
    /// Packets sent, by the sequence numbers.
    pub expected: u64,
    /// Packets sent and not received: `expected` less the received ones, each counted once (RFC 3550 appendix A.3).
    pub lost: u64,
    /// `lost` as a share of `expected`, 0 to 1.
    pub loss: f64,
    /// Packets received after one with a higher number; they are not lost.
    pub reordered: u64,
    /// By how many numbers the latest of these was late.
    pub reordered_by_max: u64,
    /// Packets received again.
    pub duplicates: u64,
    /// Packets more than 1024 numbers late, or from before the first one; they count as lost.
    pub too_old: u64,
    /// Packets with an implausible sequence number.
    pub strays: u64,
    /// UDP payload bytes.
    pub bytes: u64,
    /// UDP payload bytes a second.
    pub bytes_per_s: f64,
    /// Packets a second.
    pub per_s: f64,
    /// Largest UDP payload, in bytes.
    pub largest_bytes: usize,
}

/// Datagrams on the group that do not belong to the stream, and discontinuities of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Oddities {
    /// Datagrams that are not RTP.
    pub malformed: u64,
    /// RTCP packets on the same port.
    pub rtcp: u64,
    /// RTP packets of another SSRC while the measured sender was alive.
    pub other_sources: u64,
    /// Times another sender took over, or the sequence numbers started over.
    pub restarts: u64,
    /// Times the timestamps jumped by more than two seconds against our clock.
    pub timestamp_jumps: u64,
}

/// The access units.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Units {
    /// Units received, whole or not.
    pub received: u64,
    /// Units kept whose beginning is known: the packet before their first one was received too.
    pub measured: usize,
    /// Units a second, between the arrivals of the first and the last one kept.
    pub per_s: f64,
    /// Interval of the units by their timestamps, in milliseconds; `null` of fewer than two.
    pub nominal_interval_ms: Option<f64>,
    /// Packets in a unit, without units that may be incomplete at either end.
    pub packets: Option<Distribution>,
    /// UDP payload bytes of a unit, of the same units.
    pub bytes: Option<Distribution>,
    /// Time from a unit's first packet to its last one, of the same units.
    pub span_us: Option<Distribution>,
}

/// Interarrival jitter (RFC 3550 section 6.4.1), computed packet by packet as in appendix A.8, without rounding to
/// ticks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Jitter {
    /// Last value, in ticks of the stream's clock, as in an RTCP receiver report.
    pub ticks: f64,
    /// Last value, in microseconds.
    pub us: f64,
    /// Highest value, in microseconds.
    pub max_us: f64,
}

/// All measurements. A figure that cannot be computed is `null`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProbeReport {
    /// SSRC of the sender, as eight hexadecimal digits.
    pub ssrc: String,
    /// RTP payload type, 0 to 127.
    pub payload_type: u8,
    /// Clock of the timestamps that the probe was told, in ticks a second.
    pub clock_hz: u32,
    /// Time from the first packet to the last, in seconds.
    pub span_s: f64,
    /// The packets.
    pub packets: Packets,
    /// The access units.
    pub units: Units,
    /// Arrival less due time; `null` if timestamps are not the wall clock. Negative if the two machines' clocks
    /// disagree by more than the network's delay. Includes the rounding of the timestamps, 5.6 us at 90 kHz.
    pub lateness_us: Option<Distribution>,
    /// Transit of each unit less that of the fastest one.
    pub pacing_us: Option<Distribution>,
    /// Pacing with the clocks' drift subtracted, which leaves the sender and the network.
    pub pacing_less_drift_us: Option<Distribution>,
    /// Time between the first packets of successive units.
    pub interval_us: Option<Distribution>,
    /// `interval_us` as a histogram.
    pub interval_histogram: Histogram,
    /// Time between successive packets.
    pub packet_interval_us: Option<Distribution>,
    /// Packets in a burst, that is less than 20 us apart.
    pub burst_packets: Option<Distribution>,
    /// Interarrival jitter.
    pub jitter: Jitter,
    /// The sender's clock against ours; `null` of less than a second.
    pub drift: Option<Drift>,
    /// The models of SMPTE ST 2110-21.
    pub st2110_21: Option<Traffic>,
    /// Other datagrams, and discontinuities.
    pub oddities: Oddities,
}

/// Nanoseconds in a microsecond.
const US: f64 = 1e3;

impl Probe {
    /// The measurements so far; `None` before the first packet.
    pub fn report(&self) -> Option<ProbeReport> {
        let source = self.source?;
        let began = self.began?;
        let span_s = source.last_arrival.signed_since(began).max(0) as f64 / 1e9;
        let rate = |count: u64| if span_s > 0.0 { count as f64 / span_s } else { 0.0 };
        let counts = self.counts;
        let lost = self.sequence.lost();
        let unique = counts.packets - counts.duplicates - counts.too_old - counts.strays;
        let expected = lost + unique;
        let samples = self.samples();
        let of = |values: Vec<i64>| Distribution::of(values, US);
        let intervals: Vec<i64> = samples.iter().filter_map(|sample| sample.interval).collect();
        let steps = self.packet_steps();
        let drift = self.drift();
        Some(ProbeReport {
            ssrc: format!("{:08x}", source.ssrc),
            payload_type: source.payload_type,
            clock_hz: self.clock.get(),
            span_s,
            packets: Packets {
                received: counts.packets,
                expected,
                lost,
                loss: if expected == 0 { 0.0 } else { lost as f64 / expected as f64 },
                reordered: self.sequence.reordered(),
                reordered_by_max: self.sequence.furthest(),
                duplicates: counts.duplicates,
                too_old: counts.too_old,
                strays: counts.strays,
                bytes: counts.bytes,
                bytes_per_s: rate(counts.bytes),
                per_s: rate(counts.packets),
                largest_bytes: self.largest,
            },
            units: self.units_report(),
            lateness_us: of(samples.iter().filter_map(|sample| sample.lateness).collect()),
            pacing_us: of(samples.iter().map(|sample| sample.pacing).collect()),
            pacing_less_drift_us: drift.and_then(|drift| of(self.pacing_less(drift))),
            interval_us: of(intervals.clone()),
            interval_histogram: Histogram::of_nanos(intervals),
            burst_packets: Distribution::of(bursts(&steps), 1.0),
            packet_interval_us: of(steps),
            jitter: Jitter {
                ticks: self.jitter * f64::from(self.clock.get()) / 1e9,
                us: self.jitter / US,
                max_us: self.jitter_max / US,
            },
            drift,
            st2110_21: self.traffic(),
            oddities: Oddities {
                malformed: counts.malformed,
                rtcp: counts.rtcp,
                other_sources: counts.other_sources,
                restarts: counts.restarts,
                timestamp_jumps: counts.timestamp_jumps,
            },
        })
    }

    fn units_report(&self) -> Units {
        let (first, last) = (self.units.front(), self.units.back());
        let span = first.zip(last).map_or(0, |(first, last)| last.first.signed_since(first.first));
        // Without its marker, the last unit may still get packets.
        let last = self.units.len().saturating_sub(1);
        let whole =
            || self.measured().filter(|&(at, unit)| at < last || unit.marker.is_some()).map(|(_, unit)| unit);
        let ticks = interval_ticks(self.units.iter());
        Units {
            received: self.counts.units,
            measured: self.measured().count(),
            per_s: if span > 0 { (self.units.len() - 1) as f64 * 1e9 / span as f64 } else { 0.0 },
            nominal_interval_ms: ticks.map(|ticks| ticks * 1e3 / f64::from(self.clock.get())),
            packets: Distribution::of(whole().map(|unit| unit.packets.into()).collect(), 1.0),
            bytes: Distribution::of(whole().map(|unit| unit.bytes.into()).collect(), 1.0),
            span_us: Distribution::of(whole().map(|unit| unit.last.signed_since(unit.first)).collect(), US),
        }
    }

    /// Times between successive packets, in nanoseconds.
    fn packet_steps(&self) -> Vec<i64> {
        let next = self.packets.iter().skip(1);
        self.packets.iter().zip(next).map(|(a, b)| b.arrival.signed_since(a.arrival)).collect()
    }

    /// Drift in the segment with the most units, since it has no meaning across a jump of the timestamps.
    fn drift(&self) -> Option<Drift> {
        let mut sizes = std::collections::BTreeMap::<u32, usize>::new();
        for (_, unit) in self.measured() {
            *sizes.entry(unit.origin.segment).or_default() += 1;
        }
        let (&longest, _) = sizes.iter().max_by_key(|&(_, size)| size)?;
        let points: Vec<(i64, i64)> = self
            .measured()
            .filter(|(_, unit)| unit.origin.segment == longest)
            .map(|(_, unit)| (unit.first.signed_since(unit.origin.arrival), unit.transit(self.clock)))
            .collect();
        drift(&points)
    }

    /// Pacing of the measured units in nanoseconds, with `drift` subtracted.
    fn pacing_less(&self, drift: Drift) -> Vec<i64> {
        let level = |unit: &ReceivedUnit| {
            let age = unit.first.signed_since(unit.origin.arrival) as f64;
            unit.transit(self.clock).saturating_add((age * drift.ppm / 1e6) as i64)
        };
        let mut least = std::collections::BTreeMap::<u32, i64>::new();
        for (_, unit) in self.measured() {
            let least = least.entry(unit.origin.segment).or_insert(i64::MAX);
            *least = level(unit).min(*least);
        }
        self.measured().map(|(_, unit)| level(unit).saturating_sub(least[&unit.origin.segment])).collect()
    }

    fn traffic(&self) -> Option<Traffic> {
        let first = self.units.front()?.first;
        let frame = interval_ticks(self.units.iter())? * 1e9 / f64::from(self.clock.get());
        let least = least_transits(self.measured().map(|(_, unit)| unit), self.clock);
        let mut arrivals: Vec<PacketTime> = self
            .packets
            .iter()
            .filter_map(|packet| {
                let unit = self.units.get(packet.unit.checked_sub(self.forgotten)? as usize)?;
                let began = unit.origin.arrival.signed_since(first);
                let time = sent(unit.origin, unit.ticks, self.clock)
                    .saturating_add(began)
                    .saturating_add(*least.get(&unit.origin.segment).unwrap_or(&0));
                let place = unit.begins.then(|| (time, packet.number.saturating_sub(unit.lowest)));
                Some(PacketTime { at: packet.arrival.signed_since(first), place })
            })
            .collect();
        // The kernel's stamps go back if the wall clock is set back.
        arrivals.sort_by_key(|arrival| arrival.at);
        let packets = self.units.iter().map(|unit| unit.packets).max()?;
        traffic::judge(&arrivals, frame, packets, self.largest)
    }
}

/// Numbers of packets in the bursts, given the times between successive packets.
fn bursts(steps: &[i64]) -> Vec<i64> {
    let mut lengths = vec![1];
    for &step in steps {
        match lengths.last_mut() {
            Some(length) if step < BURST_GAP => *length += 1,
            _ => lengths.push(1),
        }
    }
    lengths
}
