//! SMPTE ST 2110-21: whether a network and a receiver that are built for evenly sent video can carry this stream. Two
//! leaky buckets, each filled by every packet on arrival:
//!
//! - the *network compatibility model*: drained every T_DRAIN = T_FRAME / N_PACKETS / 1.1 from the first packet on. Its
//!   level is C_INST, which switches must be able to queue;
//! - the *virtual receiver buffer* (VRX): packet j of a frame is read at T_VD + j x T_RS, where T_VD is TR_OFFSET after
//!   the frame's time and T_RS is T_FRAME x R_ACTIVE / N_PACKETS. It must neither underflow nor overflow. The *linear*
//!   read schedule takes the whole of T_FRAME (R_ACTIVE = 1); the *gapped* one pauses for the blanking of analogue
//!   video (R_ACTIVE = 1080/1125).
//!
//! The formulas are those of ST 2110-21:2017 clauses 6 and 7 as EBU LIST (`ebu/pi-list`, `d21/settings.cpp` and
//! `d21/c_calculator.cpp`) and Intel's Media Transport Library (`st_rx_timing_parser.c`) compute them; the text of the
//! standard is not free. The standard is about uncompressed video, which leaves us these choices:
//!
//! - N_PACKETS is the largest number of packets in a unit (constant in ST 2110-20, not in JPEG);
//! - a frame's time is its RTP timestamp plus the least transit, as the sender's clock, so that no PTP is needed;
//! - TR_OFFSET is the default for progressive pictures with fewer than 1080 lines, T_FRAME x 28/750;
//! - MAXUDP is the largest UDP datagram received, at least the Standard UDP Size Limit of 1460 bytes;
//! - the receive buffer continues from frame to frame (both programs named above empty it at each).

use serde::Serialize;

/// The sender type that a stream complies with, the strictest first. A narrow stream also keeps the limits of the types
/// after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Type N: packets are sent evenly, with a pause between frames.
    Narrow,
    /// Type NL: packets are sent evenly all the time.
    NarrowLinear,
    /// Type W: packets are sent in bursts that large buffers even out.
    Wide,
    /// Bursts are larger, or packets arrive after their read time.
    NotCompliant,
    /// The standard does not cover such a stream; `reason` says why.
    NotApplicable,
}

/// The limits of a sender type, in packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SenderLimits {
    /// Highest C_INST allowed.
    pub c_max: i64,
    /// Highest level of the virtual receiver buffer allowed.
    pub vrx_full: i64,
}

/// The range of the virtual receiver buffer's level, in packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Occupancy {
    /// Lowest level; if negative, a read found this many packets missing.
    pub min: i64,
    /// Highest level.
    pub max: i64,
}

/// The results of both models for the packets kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Traffic {
    /// The strictest type whose limits are kept.
    pub verdict: Verdict,
    /// Why the type is not a stricter one; empty if narrow.
    pub reason: String,
    /// N_PACKETS: most packets in a unit.
    pub packets_per_frame: i64,
    /// T_FRAME: interval of the units by their timestamps, in milliseconds.
    pub frame_ms: f64,
    /// MAXUDP: largest datagram with its UDP header, in bytes, at least 1460.
    pub max_udp_bytes: i64,
    /// T_DRAIN, in microseconds.
    pub drain_us: f64,
    /// Highest C_INST, in packets.
    pub cinst_max: i64,
    /// The virtual receiver buffer under the gapped read schedule.
    pub vrx_gapped: Occupancy,
    /// The virtual receiver buffer under the linear read schedule.
    pub vrx_linear: Occupancy,
    /// Limits of type N.
    pub narrow: SenderLimits,
    /// Limits of type NL.
    pub narrow_linear: SenderLimits,
    /// Limits of type W.
    pub wide: SenderLimits,
}

/// A packet as the models take it.
#[derive(Debug, Clone, Copy)]
pub(super) struct PacketTime {
    /// Arrival, in nanoseconds of our clock.
    pub(super) at: i64,
    /// The time of its frame in nanoseconds of our clock, and its index in it; `None` if the frame's beginning is
    /// unknown.
    pub(super) place: Option<(i64, u64)>,
}

/// R_ACTIVE of progressive video under the gapped schedule.
const R_ACTIVE: (i64, i64) = (1080, 1125);
const LINEAR: (i64, i64) = (1, 1);

/// The drain factor beta.
const BETA: (i128, i128) = (11, 10);

/// Extended UDP Size Limit, in bytes (ST 2110-10 clause 6.4).
const EXTENDED_UDP: i64 = 8960;

/// Standard UDP Size Limit, in bytes (ST 2110-10 clause 6.3).
const STANDARD_UDP: i64 = 1460;

/// Bytes of a UDP header.
const UDP_HEADER: i64 = 8;

/// Runs both models. `arrivals` ascend, `frame` is T_FRAME in nanoseconds, `packets` is N_PACKETS, `largest` is the
/// largest UDP payload in bytes. `None` without packets or with an implausible frame time.
pub(super) fn judge(arrivals: &[PacketTime], frame: f64, packets: u32, largest: usize) -> Option<Traffic> {
    // A microsecond or an hour between pictures is not video.
    if arrivals.is_empty() || packets == 0 || !(1e3..=3.6e12).contains(&frame) {
        return None;
    }
    let packets = i64::from(packets);
    let max_udp_bytes = (largest as i64 + UDP_HEADER).max(STANDARD_UDP);
    let per_second = packets as f64 / (frame / 1e9);
    let limit = |least: i64, rate: f64| least.max((per_second / rate) as i64);
    let full = |bytes: i64, rate: f64| limit(bytes / max_udp_bytes, rate);
    let active = R_ACTIVE.0 as f64 / R_ACTIVE.1 as f64;
    let vrx_full = full(1500 * 8, 27_000.0);
    let mut traffic = Traffic {
        verdict: Verdict::NotCompliant,
        reason: String::new(),
        packets_per_frame: packets,
        frame_ms: frame / 1e6,
        max_udp_bytes,
        drain_us: frame / packets as f64 * BETA.1 as f64 / BETA.0 as f64 / 1e3,
        cinst_max: cinst_max(arrivals, frame, packets),
        vrx_gapped: occupancy(arrivals, frame, packets, R_ACTIVE),
        vrx_linear: occupancy(arrivals, frame, packets, LINEAR),
        narrow: SenderLimits { c_max: limit(4, 43_200.0 * active), vrx_full },
        narrow_linear: SenderLimits { c_max: limit(4, 43_200.0), vrx_full },
        wide: SenderLimits { c_max: limit(16, 21_600.0), vrx_full: full(1500 * 720, 300.0) },
    };
    if max_udp_bytes > EXTENDED_UDP {
        let reason = format!(
            "UDP datagrams of {max_udp_bytes} bytes: ST 2110-10 allows {EXTENDED_UDP}, and IP fragments those above the MTU"
        );
        return Some(Traffic { verdict: Verdict::NotApplicable, reason, ..traffic });
    }
    let types = [
        (Verdict::Narrow, traffic.vrx_gapped, traffic.narrow),
        (Verdict::NarrowLinear, traffic.vrx_linear, traffic.narrow_linear),
        (Verdict::Wide, traffic.vrx_linear, traffic.wide),
    ];
    for (verdict, vrx, limits) in types {
        match violation(traffic.cinst_max, vrx, limits) {
            None => {
                traffic.verdict = verdict;
                break;
            }
            Some(reason) => traffic.reason = reason,
        }
    }
    Some(traffic)
}

/// The first limit that is not kept, as a sentence.
fn violation(cinst: i64, vrx: Occupancy, limits: SenderLimits) -> Option<String> {
    if vrx.min < 0 {
        Some(format!("packets arrived after their read time: VRX down to {}", vrx.min))
    } else if cinst > limits.c_max {
        Some(format!("bursts: C_INST {cinst} is above C_MAX {}", limits.c_max))
    } else if vrx.max > limits.vrx_full {
        Some(format!("bursts: VRX {} is above VRX_FULL {}", vrx.max, limits.vrx_full))
    } else {
        None
    }
}

/// The highest C_INST, as EBU LIST computes it: the drain ticks from the first packet on, and the tick at that moment
/// removes this packet at once.
fn cinst_max(arrivals: &[PacketTime], frame: f64, packets: i64) -> i64 {
    let (from, frame) = (i128::from(arrivals[0].at), frame.round() as i128);
    let mut drained = 0;
    let (mut level, mut most) = (0, 0);
    for arrival in &arrivals[1..] {
        let ticks = (i128::from(arrival.at) - from) * i128::from(packets) * BETA.0 / (frame * BETA.1);
        level = (level + 1 - (ticks - drained)).max(0);
        drained = ticks;
        most = most.max(level);
    }
    most.clamp(0, i64::MAX.into()) as i64
}

/// The range of the virtual receiver buffer's level. Of an arrival and a read in the same nanosecond, the arrival is
/// first.
fn occupancy(arrivals: &[PacketTime], frame: f64, packets: i64, active: (i64, i64)) -> Occupancy {
    let frame = frame.round() as i128;
    let offset = frame * 28 / 750;
    let mut events = Vec::with_capacity(2 * arrivals.len());
    for arrival in arrivals {
        let Some((time, position)) = arrival.place else { continue };
        let wait = frame * i128::from(active.0) * i128::from(position) / i128::from(packets * active.1);
        events.push((i128::from(arrival.at), 0u8));
        events.push((i128::from(time) + offset + wait, 1));
    }
    events.sort_unstable();
    let (mut level, mut seen) = (0, Occupancy::default());
    for (_, read) in events {
        level += if read == 0 { 1 } else { -1 };
        seen = Occupancy { min: seen.min.min(level), max: seen.max.max(level) };
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: i64 = 40_000_000;

    /// `frames` of `packets` each, packet j sent j x `spacing` nanoseconds after the frame's time.
    fn stream(frames: i64, packets: i64, spacing: i64) -> Vec<PacketTime> {
        let packet =
            |n: i64, j: i64| PacketTime { at: n * FRAME + j * spacing, place: Some((n * FRAME, j as u64)) };
        (0..frames).flat_map(|n| (0..packets).map(move |j| packet(n, j))).collect()
    }

    fn verdict(frames: i64, packets: i64, spacing: i64) -> Traffic {
        judge(&stream(frames, packets, spacing), FRAME as f64, packets as u32, 1452).unwrap()
    }

    /// 4,320 packets in a frame of 1/60 s, about as 1080p59.94 in ST 2110-20. By hand: 4320 x 60 = 259,200 packets a
    /// second; / 43,200 / 0.96 = 6.25; / 43,200 = 6; / 27,000 = 9.6; / 21,600 = 12, so 16; / 300 = 864.
    #[test]
    fn the_limits_agree_with_a_calculation_by_hand() {
        let frame = 1e9 / 60.0;
        let t = judge(&stream(1, 1, 0), frame, 4320, 1452).unwrap();
        assert_eq!(t.narrow, SenderLimits { c_max: 6, vrx_full: 9 });
        assert_eq!(t.narrow_linear, SenderLimits { c_max: 6, vrx_full: 9 });
        assert_eq!(t.wide, SenderLimits { c_max: 16, vrx_full: 864 });
        // With few packets the minima apply: 1500 x 8 / 1460 and 1500 x 720 / 1460.
        let t = verdict(1, 1, 0);
        assert_eq!((t.narrow.c_max, t.narrow.vrx_full, t.wide.c_max, t.wide.vrx_full), (4, 8, 16, 739));
    }

    /// 20 packets in 40 ms: T_DRAIN is 1.818 ms; TR_OFFSET 1.493 ms.
    #[test]
    fn a_burst_fills_both_buckets_and_a_spread_frame_neither() {
        let burst = verdict(50, 20, 0);
        assert_eq!((burst.cinst_max, burst.vrx_linear), (19, Occupancy { min: 0, max: 20 }));
        assert_eq!(burst.verdict, Verdict::NotCompliant);
        assert_eq!(burst.reason, "bursts: C_INST 19 is above C_MAX 16");
        assert!((burst.drain_us - 1818.18).abs() < 0.01);

        let small = verdict(50, 15, 0);
        assert_eq!((small.cinst_max, small.vrx_linear.max, small.verdict), (14, 15, Verdict::Wide));

        let even = verdict(50, 20, 2_000_000);
        assert_eq!((even.cinst_max, even.vrx_linear), (0, Occupancy { min: 0, max: 1 }));
        // Under the gapped schedule packet 19 is read at 1.493 + 19 x 1.92 = 37.97 ms and arrives at 38 ms.
        assert_eq!((even.vrx_gapped.min, even.verdict), (-1, Verdict::NarrowLinear));

        let gapped = verdict(50, 20, 1_920_000);
        assert_eq!((gapped.cinst_max, gapped.vrx_gapped), (0, Occupancy { min: 0, max: 1 }));
        assert_eq!((gapped.verdict, gapped.reason.as_str()), (Verdict::Narrow, ""));
    }

    #[test]
    fn a_late_frame_makes_the_receiver_buffer_underflow() {
        let mut arrivals = stream(10, 10, 1_000_000);
        for arrival in &mut arrivals[50..60] {
            arrival.at += 8_000_000;
        }
        let t = judge(&arrivals, FRAME as f64, 10, 1452).unwrap();
        // Before the first packet at 8 ms, two reads (at 1.49 and 5.49 ms) found nothing.
        assert_eq!((t.vrx_linear.min, t.verdict), (-2, Verdict::NotCompliant));
        assert_eq!(t.reason, "packets arrived after their read time: VRX down to -2");
    }

    #[test]
    fn the_models_do_not_apply_to_whole_pictures_in_single_datagrams() {
        let t = judge(&stream(10, 1, 0), FRAME as f64, 1, 47_000).unwrap();
        assert_eq!(t.verdict, Verdict::NotApplicable);
        assert!(t.reason.starts_with("UDP datagrams of 47008 bytes"), "{}", t.reason);
    }
}
