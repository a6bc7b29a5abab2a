//! The probe against synthetic streams in virtual time, for which each figure is known beforehand.

use std::time::Duration;

use super::traffic::Verdict;
use super::*;
use crate::wire::rtp::{HEADER_LEN, Header};
use proptest::prelude::*;

const START: AirTime = AirTime(1_790_000_000_000_000_000);
const PICTURE: Duration = Duration::from_millis(40);
const CLOCK: NonZeroU32 = NonZeroU32::new(RTP_CLOCK).unwrap();

fn bytes(header: Header, length: usize) -> Vec<u8> {
    let mut head = [0; HEADER_LEN];
    header.emit(&mut head);
    let mut packet = head.to_vec();
    packet.resize(length.max(HEADER_LEN), 0xa5);
    packet
}

/// A sender without sockets.
struct TestSender {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    packets: usize,
    length: usize,
}

impl TestSender {
    /// Its timestamps and sequence numbers wrap after some 100 pictures.
    fn new(packets: usize) -> TestSender {
        let timestamp = u32::MAX - 100 * 3600 + 1234;
        TestSender { ssrc: 0xfeed, sequence: 65_400, timestamp, packets, length: 1452 }
    }

    /// The packets of the next picture.
    fn picture(&mut self) -> Vec<Vec<u8>> {
        let timestamp = self.timestamp;
        self.timestamp = timestamp.wrapping_add(3600);
        let packet = |n| {
            let (sequence, marker) = (self.sequence.wrapping_add(n as u16), n + 1 == self.packets);
            bytes(Header { marker, payload_type: 96, sequence, timestamp, ssrc: self.ssrc }, self.length)
        };
        let packets = (0..self.packets).map(packet).collect();
        self.sequence = self.sequence.wrapping_add(self.packets as u16);
        packets
    }
}

/// Sends `pictures` of `packets` each, packet j of picture n `late(n, j)` after the picture's time.
fn measure(pictures: u64, packets: usize, late: impl Fn(u64, u64) -> Duration) -> Probe {
    let mut probe = Probe::new(CLOCK, Timestamps::Unknown);
    let mut stream = TestSender::new(packets);
    for n in 0..pictures {
        for (j, packet) in (0..).zip(stream.picture()) {
            probe.packet(START + PICTURE * n as u32 + late(n, j), &packet).unwrap();
        }
    }
    probe
}

fn us(n: u64) -> Duration {
    Duration::from_micros(n)
}

#[test]
fn a_perfect_stream_measures_zero_across_the_wraps_of_both_counters() {
    let report = measure(1000, 3, |_, _| us(0)).report().unwrap();
    assert_eq!((report.packets.received, report.packets.lost, report.packets.duplicates), (3000, 0, 0));
    assert_eq!((report.units.received, report.units.measured), (1000, 999));
    assert_eq!(report.units.packets.unwrap().min, 3.0);
    assert_eq!(report.units.nominal_interval_ms, Some(40.0));
    assert_eq!(report.units.per_s, 25.0);
    assert_eq!(report.pacing_us.unwrap().max, 0.0);
    let interval = report.interval_us.unwrap();
    assert_eq!((interval.count, interval.min, interval.max), (998, 40_000.0, 40_000.0));
    assert_eq!((report.jitter.ticks, report.jitter.max_us), (0.0, 0.0));
    assert_eq!(report.drift, Some(report::Drift { ppm: 0.0, stderr_ppm: 0.0 }));
    assert_eq!(report.lateness_us, None, "these timestamps are not the wall clock");
    let none = report::Oddities { malformed: 0, rtcp: 0, other_sources: 0, restarts: 0, timestamp_jumps: 0 };
    assert_eq!(report.oddities, none);
    assert_eq!((report.ssrc.as_str(), report.payload_type), ("0000feed", 96));
    assert_eq!(report.burst_packets.unwrap().max, 3.0);
}

#[test]
fn a_known_pattern_of_lateness_has_the_expected_percentiles() {
    // Of each 1000 pictures 500 are on time, 400 are 10 us late, 90 are 100 us late, 9 are 1 ms late, one is 5 ms late.
    let late = |n: u64, _| match (n * 7 + 500) % 1000 {
        0 => us(5000),
        1..=9 => us(1000),
        10..=99 => us(100),
        100..=499 => us(10),
        _ => us(0),
    };
    let mut probe = measure(10_001, 1, late);
    let pacing = probe.report().unwrap().pacing_us.unwrap();
    assert_eq!(pacing.count, 10_000);
    let got = [pacing.min, pacing.p50, pacing.p90, pacing.p99, pacing.p999, pacing.max];
    assert_eq!(got, [0.0, 0.0, 10.0, 100.0, 1000.0, 5000.0]);
    // The samples give the same figures one by one.
    probe = measure(3, 1, |n, _| us(n * 100));
    let samples = probe.samples();
    assert_eq!((samples.len(), samples[1].pacing, samples[1].interval), (2, 100_000, Some(40_100_000)));
    assert_eq!(samples[0].interval, None, "the beginning of the first unit is not known");
}

/// Every second picture is 160 us late: |D| is 160 us from packet to packet, and J converges to it.
#[test]
fn jitter_is_that_of_rfc_3550() {
    let jitter = measure(1000, 1, |n, _| us(160 * (n % 2))).report().unwrap().jitter;
    assert!((jitter.us - 160.0).abs() < 1e-9, "{jitter:?}");
    assert!((jitter.ticks - 14.4).abs() < 1e-9, "{jitter:?}");
    let first = measure(2, 1, |n, _| us(160 * n)).report().unwrap().jitter;
    assert_eq!(first.us, 10.0);
}

#[test]
fn losses_reordering_and_duplicates_are_told_apart() {
    let mut stream = TestSender::new(4);
    let mut probe = Probe::new(CLOCK, Timestamps::Unknown);
    for n in 0..400u32 {
        let mut packets = stream.picture();
        match n {
            // One picture loses its last packet, another its first.
            50 => drop(packets.pop()),
            100 => drop(packets.remove(0)),
            // Two packets are swapped; a packet is sent twice; a whole picture is lost.
            150 => packets.swap(0, 1),
            200 => packets.push(packets[2].clone()),
            250 => packets = vec![],
            _ => {}
        }
        for (j, packet) in (0..).zip(packets) {
            probe.packet(START + PICTURE * n + us(100 * j), &packet).unwrap();
        }
    }
    let report = probe.report().unwrap();
    let p = report.packets;
    assert_eq!((p.lost, p.reordered, p.reordered_by_max, p.duplicates), (6, 1, 1, 1));
    assert_eq!((p.received, p.loss), (1595, 6.0 / 1600.0));
    // The beginnings of four units are unknown: the first one, the one that lost its first packet, and those after the
    // two other losses.
    assert_eq!((report.units.received, report.units.measured), (399, 399 - 4));
    assert_eq!(report.pacing_us.unwrap().max, 0.0);
    assert_eq!(report.interval_us.unwrap().max, 40_000.0);
    assert_eq!(report.units.packets.unwrap().min, 3.0);
}

#[test]
fn a_packet_overtaken_by_the_next_picture_is_added_to_its_own() {
    let mut stream = TestSender::new(2);
    let mut probe = Probe::new(CLOCK, Timestamps::Unknown);
    let (one, two, three) = (stream.picture(), stream.picture(), stream.picture());
    for (at, packet) in [&one[0], &one[1], &two[0], &three[0], &two[1], &three[1]].into_iter().enumerate() {
        probe.packet(START + us(10 * at as u64), packet).unwrap();
    }
    let report = probe.report().unwrap();
    assert_eq!((report.units.received, report.units.measured, report.packets.reordered), (3, 2, 1));
    assert_eq!(report.units.packets.unwrap().max, 2.0);
}

/// Senders that are fast or slow by up to 100 ppm, with a random delay of up to 300 us that is 0 for a quarter of them.
#[test]
fn drift_is_found_within_a_ppm() {
    for ppm in [100i64, -100, 0, 3] {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut probe = Probe::new(CLOCK, Timestamps::Unknown);
        let mut stream = TestSender::new(1);
        for n in 0..750i64 {
            let at = n * 40_000_000 * 1_000_000 / (1_000_000 + ppm);
            let delay = us(rng.u64(0..300) * u64::from(rng.u8(0..4) > 0));
            probe.packet(START + Duration::from_nanos(at as u64) + delay, &stream.picture()[0]).unwrap();
        }
        let report = probe.report().unwrap();
        let drift = report.drift.unwrap();
        assert!((drift.ppm - ppm as f64).abs() < 1.0 && drift.stderr_ppm < 0.5, "{ppm}: {drift:?}");
        let less = report.pacing_less_drift_us.unwrap();
        assert!(less.max < 320.0, "{ppm}: {less:?}");
        assert!(ppm.abs() < 100 || report.pacing_us.unwrap().max > 2500.0);
    }
}

#[test]
fn lateness_is_measured_only_if_timestamps_are_the_wall_clock() {
    let send = |timestamps, offset: u32, late: Duration| {
        let mut probe = Probe::new(CLOCK, timestamps);
        let mut stream = TestSender::new(1);
        stream.timestamp = START.rtp_timestamp().wrapping_add(offset);
        for n in 0..100u32 {
            probe.packet(START + PICTURE * n + late, &stream.picture()[0]).unwrap();
        }
        probe.report().unwrap().lateness_us
    };
    let told = send(Timestamps::Unknown, 0, us(250)).unwrap();
    assert_eq!((told.count, told.min, told.max), (99, 250.0, 250.0));
    assert_eq!(send(Timestamps::Unknown, 123_456_789, us(250)), None);
    // Clocks that disagree by 3 s: reported for a station, no lateness for an unknown sender.
    assert_eq!(send(Timestamps::WallClock, 270_000, us(0)).unwrap().p50, -3e6);
    assert_eq!(send(Timestamps::Unknown, 270_000, us(0)), None);
}

#[test]
fn bursts_and_the_st_2110_21_models() {
    let report = measure(100, 20, |_, j| us(5 * j)).report().unwrap();
    assert_eq!(report.burst_packets.unwrap().p50, 20.0);
    assert_eq!(report.units.span_us.unwrap().p50, 95.0);
    let traffic = report.st2110_21.unwrap();
    assert_eq!((traffic.packets_per_frame, traffic.frame_ms), (20, 40.0));
    assert_eq!((traffic.cinst_max, traffic.vrx_linear.max, traffic.verdict), (19, 20, Verdict::NotCompliant));

    let report = measure(100, 20, |_, j| us(2000 * j)).report().unwrap();
    assert_eq!(report.burst_packets.unwrap().max, 1.0);
    let traffic = report.st2110_21.unwrap();
    assert_eq!((traffic.cinst_max, traffic.vrx_linear.max, traffic.verdict), (0, 1, Verdict::NarrowLinear));
    assert_eq!(report.packet_interval_us.unwrap().max, 2000.0);
}

#[test]
fn other_senders_restarts_and_jumps_are_counted_and_do_not_affect_pacing() {
    let mut probe = Probe::new(CLOCK, Timestamps::Unknown);
    let mut stream = TestSender::new(1);
    let mut other = TestSender { ssrc: 0xbeef, ..TestSender::new(1) };
    let mut now = START;
    let mut send = |probe: &mut Probe, packet: &[u8]| {
        let _ = probe.packet(now, packet);
        now = now + PICTURE;
    };
    assert!(probe.report().is_none());
    assert_eq!(probe.packet(START, b"hello"), Err(RtpError::Truncated));
    probe.packet(START, &[0x80, 200, 0, 6, 0, 0, 0, 1]).unwrap();
    assert!(probe.report().is_none());
    for n in 0..100 {
        let packet = stream.picture().remove(0);
        send(&mut probe, &packet);
        if n == 60 {
            // A film whose timestamps start over at its loop point.
            stream.timestamp = stream.timestamp.wrapping_sub(5 * 90_000);
        }
    }
    let last = START + PICTURE * 99;
    probe.packet(last, &other.picture()[0]).unwrap();
    for n in 0..50u32 {
        let at = last + SENDER_GONE + PICTURE * n;
        probe.packet(at, &other.picture()[0]).unwrap();
    }
    let report = probe.report().unwrap();
    let seen = report::Oddities { malformed: 1, rtcp: 1, other_sources: 1, restarts: 1, timestamp_jumps: 1 };
    assert_eq!(report.oddities, seen);
    assert_eq!((report.packets.lost, report.packets.received), (0, 150));
    assert_eq!(report.pacing_us.unwrap().max, 0.0);
    assert_eq!(report.ssrc, "0000beef");
}

#[test]
fn the_last_packets_and_units_are_kept_and_all_are_counted() {
    let mut probe = Probe::new(CLOCK, Timestamps::Unknown).keeping(50, 20);
    let mut stream = TestSender::new(3);
    for n in 0..1000u32 {
        let late = if n == 10 { us(9000) } else { us(0) };
        for packet in stream.picture() {
            probe.packet(START + PICTURE * n + late, &packet).unwrap();
        }
    }
    assert_eq!((probe.packets.len(), probe.units.len()), (50, 20));
    let report = probe.report().unwrap();
    assert_eq!((report.units.received, report.units.measured, report.packets.received), (1000, 20, 3000));
    assert_eq!(report.pacing_us.unwrap().max, 0.0, "picture 10 is no longer kept");
    assert_eq!(report.st2110_21.unwrap().vrx_linear.min, 0);
}

#[test]
fn the_json_has_the_keys_that_scripts_read() {
    let report = measure(100, 2, |_, _| us(0)).report().unwrap();
    let json = serde_json::to_value(&report).unwrap();
    for key in [
        "/packets/lost",
        "/packets/bytes_per_s",
        "/units/per_s",
        "/units/packets/max",
        "/pacing_us/p999",
        "/pacing_less_drift_us/p99",
        "/interval_us/p50",
        "/interval_histogram/bins/0/from_us",
        "/packet_interval_us/p90",
        "/burst_packets/max",
        "/jitter/ticks",
        "/drift/ppm",
        "/st2110_21/cinst_max",
        "/st2110_21/vrx_linear/max",
        "/st2110_21/wide/vrx_full",
        "/oddities/malformed",
    ] {
        assert!(json.pointer(key).is_some_and(|value| value.is_number()), "{key}: {json}");
    }
    assert_eq!(json.pointer("/st2110_21/verdict").unwrap(), "narrow");
    assert!(json["lateness_us"].is_null());
}

proptest! {
    #[test]
    fn any_packets_are_measured_in_bounded_memory(
        packets in proptest::collection::vec(
            (any::<u64>(), any::<(bool, u8, u16, u32)>(), 0u32..3, proptest::collection::vec(any::<u8>(), 0..40)), 0..200),
        clock in 1u32..,
    ) {
        let mut probe = Probe::new(NonZeroU32::new(clock).unwrap(), Timestamps::Unknown).keeping(64, 16);
        for (arrival, (marker, kind, sequence, timestamp), ssrc, noise) in packets {
            let payload_type = kind & 0x7f;
            // Arrivals and numbers far apart and near, and noise.
            let arrival = if kind > 128 { AirTime(arrival) } else { START + Duration::from_nanos(arrival >> 34) };
            let (sequence, timestamp) = if kind % 2 == 0 { (sequence % 64, timestamp % 9000) } else { (sequence, timestamp) };
            let header = Header { marker, payload_type, sequence, timestamp, ssrc };
            let _ = probe.packet(arrival, &bytes(header, noise.len()));
            let _ = probe.packet(arrival, &noise);
        }
        prop_assert!(probe.packets.len() <= 64 && probe.units.len() <= 16);
        let report = probe.report();
        let _ = serde_json::to_string(&report).unwrap();
    }
}
