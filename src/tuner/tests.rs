//! The tuner against a network that loses, repeats, reorders and corrupts: seeded, so that a
//! failure can be looked at again.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::media::FrameRate;
use crate::media::jpeg::tests::jpeg;

pub(crate) fn picture(ticks: u64, arrival: AirTime) -> ReceivedPicture {
    let jpeg = jpeg(vec![0]);
    ReceivedPicture { jpeg, ticks, timestamp: ticks as u32, first_arrival: arrival }
}

const START: AirTime = AirTime(1_790_000_000_000_000_000);

/// A broadcaster without sockets: picture `n` at its due time, its number in the scan.
struct Transmitter {
    rate: FrameRate,
    datagram: usize,
    bytes: usize,
    ssrc: u32,
    sequence: u16,
}

impl Transmitter {
    fn new(datagram: usize, bytes: usize) -> Transmitter {
        let rate = FrameRate::new(30_000, 1001).unwrap();
        Transmitter { rate, datagram, bytes, ssrc: 0xfeed, sequence: 65_000 }
    }

    fn due(&self, n: u64) -> AirTime {
        START + self.rate.nth(n)
    }

    fn scan(&self, n: u64) -> Vec<u8> {
        let mut scan: Vec<u8> = (0..self.bytes as u64).map(|at| (at * 31 + n * 7) as u8).collect();
        scan[..8].copy_from_slice(&n.to_be_bytes());
        scan
    }

    fn send(&mut self, n: u64) -> Vec<Vec<u8>> {
        let jpeg = jpeg(self.scan(n));
        let timestamp = self.due(n).rtp_timestamp();
        let mut packets = Vec::new();
        for fragment in jpeg.fragments(self.datagram) {
            let header = rtp::Header {
                marker: fragment.last,
                payload_type: 26,
                sequence: self.sequence,
                timestamp,
                ssrc: self.ssrc,
            };
            self.sequence = self.sequence.wrapping_add(1);
            let mut packet = jpeg.packet_header(header, fragment).to_vec();
            packet.extend_from_slice(&jpeg.scan[fragment.start..fragment.end]);
            packets.push(packet);
        }
        packets
    }
}

fn number(received: &ReceivedPicture) -> u64 {
    u64::from_be_bytes(received.jpeg.scan[..8].try_into().unwrap())
}

/// What the network does to a packet, in thousandths.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    lost: u32,
    repeated: u32,
    /// Held back by up to 5 ms.
    delayed: u32,
    /// One bit turned, past the UDP checksum.
    flipped: u32,
}

struct Outcome {
    received: Vec<ReceivedPicture>,
    counters: TunerCounters,
    /// Pictures with a packet that never got through.
    hurt: BTreeSet<u64>,
    packets_lost: u64,
}

/// Runs `pictures` through the weather, stepping to the earliest event each time.
fn fly(seed: u64, weather: Weather, mut transmitter: Transmitter, pictures: u64) -> Outcome {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut air: BTreeMap<(AirTime, u64), Vec<u8>> = BTreeMap::new();
    let mut order = 0;
    let mut hurt = BTreeSet::new();
    let mut packets_lost = 0;
    for n in 0..pictures {
        for packet in transmitter.send(n) {
            let due = transmitter.due(n) + Duration::from_micros(100);
            // The last pictures get through, so that every loss before them is seen.
            let calm = n + 2 >= pictures || n == 0;
            let mut chance = |thousandths: u32| !calm && rng.u32(..1000) < thousandths;
            if chance(weather.lost) {
                hurt.insert(n);
                packets_lost += 1;
                continue;
            }
            let copies = 1 + u64::from(chance(weather.repeated));
            let delay = if chance(weather.delayed) { 5000 } else { 0 };
            let flip = chance(weather.flipped);
            for _ in 0..copies {
                let mut packet = packet.clone();
                if flip {
                    let bit = rng.usize(..packet.len() * 8);
                    packet[bit / 8] ^= 1 << (bit % 8);
                    hurt.insert(n);
                }
                order += 1;
                air.insert((due + Duration::from_micros(rng.u64(..=delay)), order), packet);
            }
        }
    }
    let mut tuner = Tuner::new();
    let mut received = Vec::new();
    while let Some(((at, _), packet)) = air.pop_first() {
        while let Some(deadline) = tuner.poll_timeout().filter(|&deadline| deadline < at) {
            tuner.handle_timeout(deadline);
        }
        let _ = tuner.handle_datagram(at, &packet);
        received.extend(std::iter::from_fn(|| tuner.poll_picture()));
    }
    while let Some(deadline) = tuner.poll_timeout() {
        tuner.handle_timeout(deadline);
    }
    received.extend(std::iter::from_fn(|| tuner.poll_picture()));
    Outcome { received, counters: tuner.counters(), hurt, packets_lost }
}

#[test]
fn a_quiet_network_delivers_every_picture_untouched() {
    for datagram in [576, 1472, 65_507] {
        let transmitter = Transmitter::new(datagram, 22_000);
        let outcome = fly(1, Weather::default(), Transmitter::new(datagram, 22_000), 400);
        assert_eq!(outcome.received.len(), 400);
        for (n, received) in outcome.received.iter().enumerate() {
            assert_eq!(received.jpeg, jpeg(transmitter.scan(n as u64)), "picture {n} at {datagram}");
            assert_eq!(received.timestamp, transmitter.due(n as u64).rtp_timestamp());
        }
        let c = outcome.counters;
        assert_eq!((c.pictures, c.pictures_lost, c.packets_lost, c.malformed), (400, 0, 0, 0));
    }
}

#[test]
fn losses_are_counted_one_by_one() {
    for datagram in [1472, 65_507] {
        for seed in 0..20 {
            let weather = Weather { lost: 20, ..Weather::default() };
            let outcome = fly(seed, weather, Transmitter::new(datagram, 22_000), 500);
            let c = outcome.counters;
            let whole: Vec<u64> = (0..500).filter(|n| !outcome.hurt.contains(n)).collect();
            let got: Vec<u64> = outcome.received.iter().map(number).collect();
            assert_eq!(got, whole, "seed {seed}, {datagram}");
            assert_eq!(c.packets_lost, outcome.packets_lost, "seed {seed}, {datagram}");
            assert_eq!(c.pictures_lost, outcome.hurt.len() as u64, "seed {seed}, {datagram}");
        }
    }
}

#[test]
fn reordering_and_repetition_cost_nothing() {
    for datagram in [1472, 65_507] {
        for seed in 0..20 {
            let weather = Weather { repeated: 100, delayed: 200, ..Weather::default() };
            let outcome = fly(seed, weather, Transmitter::new(datagram, 22_000), 300);
            let got: Vec<u64> = outcome.received.iter().map(number).collect();
            assert_eq!(got, (0..300).collect::<Vec<_>>(), "seed {seed}, {datagram}");
            let c = outcome.counters;
            assert_eq!((c.packets_lost, c.pictures_lost, c.late), (0, 0, 0), "seed {seed}, {datagram}");
            assert!(c.duplicates > 0 && (datagram > 2000 || c.reordered > 0));
        }
    }
}

#[test]
fn corruption_harms_only_the_pictures_it_hits() {
    for seed in 0..50 {
        let weather = Weather { lost: 5, repeated: 10, delayed: 50, flipped: 20 };
        let transmitter = Transmitter::new(1472, 9000);
        let outcome = fly(seed, weather, Transmitter::new(1472, 9000), 300);
        // A bit turned in a scan cannot be noticed; but nothing that was sound may be missing or changed.
        let mut got = BTreeMap::new();
        for received in &outcome.received {
            got.insert(received.timestamp, received.jpeg.clone());
        }
        for n in (0..300).filter(|n| !outcome.hurt.contains(n)) {
            let found = got.get(&transmitter.due(n).rtp_timestamp());
            // A turned bit in a sequence number or timestamp may take a neighbour's place.
            let near_hurt = outcome.hurt.range(n.saturating_sub(3)..=n + 3).next().is_some();
            assert!(near_hurt || found == Some(&jpeg(transmitter.scan(n))), "seed {seed}, picture {n}");
        }
        assert!(outcome.received.len() >= 300 - 3 * outcome.hurt.len(), "seed {seed}");
    }
}

#[test]
fn who_joins_in_the_middle_of_a_picture_has_lost_none() {
    for joined in 1..16 {
        let mut transmitter = Transmitter::new(1472, 22_000);
        let mut tuner = Tuner::new();
        for n in 0..5 {
            let skip = if n == 0 { joined } else { 0 };
            for packet in transmitter.send(n).iter().skip(skip) {
                tuner.handle_datagram(transmitter.due(n), packet).unwrap();
            }
        }
        let c = tuner.counters();
        assert_eq!((c.pictures, c.pictures_lost, c.packets_lost), (4, 0, 0), "joined at packet {joined}");
    }
}

#[test]
fn a_picture_that_the_sender_skipped_is_not_lost() {
    let mut transmitter = Transmitter::new(65_507, 500);
    let mut tuner = Tuner::new();
    for n in [0, 1, 2, 3, 7, 8, 9] {
        for packet in transmitter.send(n) {
            tuner.handle_datagram(transmitter.due(n), &packet).unwrap();
        }
    }
    assert_eq!(tuner.counters().pictures, 7);
    assert_eq!(tuner.counters().pictures_lost, 0);
}

#[test]
fn another_sender_takes_over_only_when_the_first_is_gone() {
    let mut first = Transmitter::new(65_507, 500);
    let mut second = Transmitter { ssrc: 0xbeef, sequence: 7, ..Transmitter::new(65_507, 500) };
    let mut tuner = Tuner::new();
    for n in 0..10 {
        for packet in first.send(n).into_iter().chain(second.send(n)) {
            tuner.handle_datagram(first.due(n), &packet).unwrap();
        }
    }
    assert_eq!((tuner.counters().pictures, tuner.counters().other_sender), (10, 10));
    // The first falls silent. A restart is not a loss.
    for n in 10..40 {
        for packet in second.send(n) {
            tuner.handle_datagram(second.due(n), &packet).unwrap();
        }
    }
    let c = tuner.counters();
    assert_eq!((c.restarts, c.pictures_lost, c.packets_lost), (1, 0, 0));
    let gone_for = (10..40).filter(|&n| second.due(n).since(first.due(9)) < SENDER_GONE).count() as u64;
    assert_eq!(c.pictures, 10 + 30 - gone_for);
}

#[test]
fn what_was_counted_survives_a_new_connection() {
    let mut tuner = Tuner::new();
    tuner.start_over();
    assert_eq!(tuner.counters().restarts, 0, "nobody has been heard before");
    let mut first = Transmitter::new(65_507, 500);
    for n in [0, 1, 2, 4] {
        // The fourth picture is sent and lost.
        first.sequence += u16::from(n == 4);
        for packet in first.send(n) {
            tuner.handle_datagram(first.due(n), &packet).unwrap();
            tuner.handle_timeout(first.due(n) + Duration::from_millis(30));
        }
    }
    tuner.start_over();
    // At once, by another SSRC and other numbers.
    let mut second = Transmitter { ssrc: 0xbeef, sequence: 7, ..Transmitter::new(65_507, 500) };
    for n in 5..8 {
        for packet in second.send(n) {
            tuner.handle_datagram(second.due(n), &packet).unwrap();
        }
    }
    let c = tuner.counters();
    assert_eq!((c.pictures, c.pictures_lost, c.packets_lost, c.restarts, c.other_sender), (7, 1, 1, 1, 0));
}

#[test]
fn strangers_on_the_group_are_counted_and_never_drawn() {
    let mut transmitter = Transmitter::new(65_507, 500);
    let mut tuner = Tuner::new();
    let packet = transmitter.send(0).remove(0);
    let mut other_type = packet.clone();
    other_type[1] = 0x80 | 33;
    assert_eq!(tuner.handle_datagram(START, &other_type), Err(DatagramError::PayloadType(33)));
    assert_eq!(tuner.handle_datagram(START, b"hello"), Err(DatagramError::Rtp(rtp::Error::Truncated)));
    assert!(tuner.handle_datagram(START, &[0; 100]).is_err());
    assert_eq!(tuner.poll_picture(), None);
    let c = tuner.counters();
    assert_eq!((c.datagrams, c.malformed, c.other_payload), (3, 2, 1));
    tuner.handle_datagram(START, &packet).unwrap();
    assert!(tuner.poll_picture().is_some());
}

#[test]
fn who_does_not_fetch_keeps_the_newest() {
    let mut transmitter = Transmitter::new(65_507, 500);
    let mut tuner = Tuner::new();
    for n in 0..20 {
        for packet in transmitter.send(n) {
            tuner.handle_datagram(transmitter.due(n), &packet).unwrap();
        }
    }
    let kept: Vec<u64> =
        std::iter::from_fn(|| tuner.poll_picture()).map(|received| number(&received)).collect();
    assert_eq!(kept, (12..20).collect::<Vec<_>>());
    assert_eq!(tuner.counters().overrun, 12);
}

proptest::proptest! {
    #[test]
    fn any_datagrams_are_answered(
        datagrams in proptest::collection::vec(
            (0u64..50_000_000, proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80)), 0..40)
    ) {
        let mut tuner = Tuner::new();
        let mut now = START;
        for (step, mut bytes) in datagrams {
            now = now + Duration::from_nanos(step);
            if let Some(first) = bytes.first_mut() {
                *first = 0x80; // let them through the first check
            }
            if let Some(second) = bytes.get_mut(1) {
                *second = 26;
            }
            let _ = tuner.handle_datagram(now, &bytes);
        }
    }
}
