//! What a [`Probe`] has to say. The names of the fields are the keys of the JSON, and a contract; each unit of
//! measurement is the last part of its key: `_us` microseconds, `_ms` milliseconds, `_s` seconds.

use serde::Serialize;

use super::statistics::{drift, interval_ticks, least_transits};
use super::traffic::{self, PacketTime, Traffic};
use super::{Probe, sent};

pub use super::statistics::{Bin, Drift, Histogram};
pub use crate::tuner::distribution::Distribution;

/// Packets that come closer together than this belong to one burst, in nanoseconds: one after another on the wire. A
/// full Ethernet frame takes 12.3 us at 1 Gb/s; the rest is for the kernel's stamps, which jitter by some us.
pub const BURST_GAP: i64 = 20_000;

/// What the sequence numbers and headers told of all packets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Packets {
    /// RTP packets of the stream, those that came twice included.
    pub received: u64,
    /// Packets sent, as the sequence numbers tell.
    pub expected: u64,
    /// Sent and not come: expected less those that came, each counted once (RFC 3550 appendix A.3).
    pub lost: u64,
    /// `lost` as a share of `expected`, 0 to 1.
    pub loss: f64,
    /// Came after one with a higher number; no loss.
    pub reordered: u64,
    /// By how many numbers the most belated of them came late.
    pub reordered_by_max: u64,
    /// Came again.
    pub duplicates: u64,
    /// Came more than 1024 numbers late, or from before the first; counted as lost.
    pub too_old: u64,
    /// Had a number that made no sense where it came.
    pub strays: u64,
    /// UDP payload bytes.
    pub bytes: u64,
    /// UDP payload bytes a second.
    pub bytes_per_s: f64,
    /// Packets a second.
    pub per_s: f64,
    /// The largest UDP payload, in bytes.
    pub largest_bytes: usize,
}

/// What came on the group and does not belong to the stream, and breaks in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Oddities {
    /// Datagrams that are no RTP.
    pub malformed: u64,
    /// RTCP packets on the same port.
    pub rtcp: u64,
    /// RTP packets of another SSRC while the one measured was alive.
    pub other_sources: u64,
    /// How often another sender took over, or the numbers started over.
    pub restarts: u64,
    /// How often the timestamps jumped by more than two seconds against our clock.
    pub timestamp_jumps: u64,
}

/// The access units.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Units {
    /// How many came, whole or not.
    pub received: u64,
    /// How many of those kept are measured: the packet in front of their first came too.
    pub measured: usize,
    /// Units a second, between the arrivals of the first and the last one kept.
    pub per_s: f64,
    /// Between units by their timestamps, in milliseconds; `null` of fewer than two.
    pub nominal_interval_ms: Option<f64>,
    /// Packets in a unit, of whole units.
    pub packets: Option<Distribution>,
    /// UDP payload bytes of a unit, of whole units.
    pub bytes: Option<Distribution>,
    /// From a unit's first packet to its last one, of whole units.
    pub span_us: Option<Distribution>,
}

/// RFC 3550 section 6.4.1, computed packet by packet as in appendix A.8, without rounding to ticks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Jitter {
    /// At the end, in ticks of the stream's clock: what a receiver report would say.
    pub ticks: f64,
    /// The same in microseconds.
    pub us: f64,
    /// The highest it ever was, in microseconds.
    pub max_us: f64,
}

/// All that was measured. `null` where there was nothing to measure it by.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProbeReport {
    /// The sender, as eight hexadecimal digits.
    pub ssrc: String,
    /// What it carries, 0 to 127.
    pub payload_type: u8,
    /// Ticks a second of its timestamps, as it was told.
    pub clock_hz: u32,
    /// From the first packet to the last.
    pub span_s: f64,
    /// The packets.
    pub packets: Packets,
    /// The access units.
    pub units: Units,
    /// Arrival less due time, where the timestamps tell the wall clock; below zero when the clocks of the two machines
    /// disagree by more than the way takes. The timestamps' own rounding is in it: 5.6 us at 90 kHz.
    pub lateness_us: Option<Distribution>,
    /// How much longer than the fastest unit each took, by the sender's timestamps.
    pub pacing_us: Option<Distribution>,
    /// The same with the drift of the clocks taken out: what the sender and the network did.
    pub pacing_less_drift_us: Option<Distribution>,
    /// Between the first packets of units that followed each other.
    pub interval_us: Option<Distribution>,
    /// The same, as a histogram.
    pub interval_histogram: Histogram,
    /// Between packets that followed each other.
    pub packet_interval_us: Option<Distribution>,
    /// Packets in a burst: of those that came less than 20 us after the one before.
    pub burst_packets: Option<Distribution>,
    /// Interarrival jitter.
    pub jitter: Jitter,
    /// The sender's clock against ours; `null` of less than a second.
    pub drift: Option<Drift>,
    /// The models of SMPTE ST 2110-21.
    pub st2110_21: Option<Traffic>,
    /// What else came.
    pub oddities: Oddities,
}

const US: f64 = 1e3;

impl Probe {
    /// What has been measured so far; `None` before the first packet.
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
        // Of the last unit some packets may yet come.
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

    fn packet_steps(&self) -> Vec<i64> {
        let next = self.packets.iter().skip(1);
        self.packets.iter().zip(next).map(|(a, b)| b.arrival.signed_since(a.arrival)).collect()
    }

    /// Drift in the segment with the most units: across a jump of the timestamps it means nothing.
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

    fn pacing_less(&self, drift: Drift) -> Vec<i64> {
        let level = |unit: &super::ReceivedUnit| {
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
                let place = unit.whole.then(|| (time, packet.number.saturating_sub(unit.lowest)));
                Some(PacketTime { at: packet.arrival.signed_since(first), place })
            })
            .collect();
        // The kernel's stamps may go back when somebody sets the clock.
        arrivals.sort_by_key(|arrival| arrival.at);
        let packets = self.units.iter().map(|unit| unit.packets).max()?;
        traffic::judge(&arrivals, frame, packets, self.largest)
    }
}

/// The lengths of the runs of packets less than [`BURST_GAP`] apart, given the steps between all.
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
