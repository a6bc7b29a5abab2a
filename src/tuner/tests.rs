//! The tuner against a network that loses, duplicates, reorders and corrupts packets. Seeded, so that a failure can be
//! reproduced.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::media::jpeg::tests::jpeg;
use crate::media::{Due, FrameRate, Unit};
use crate::wire::packetizer::Packetizer;

/// A received picture, for tests of other rooms.
pub(crate) fn picture(ticks: u64, arrival: AirTime) -> ReceivedPicture {
    let jpeg = jpeg(vec![0]);
    ReceivedPicture { jpeg, ticks, timestamp: ticks as u32, first_arrival: arrival }
}

const START: AirTime = AirTime(1_790_000_000_000_000_000);

mod attacks;
mod losses;
mod signed;

/// A broadcaster without sockets. Picture `n` carries its number in the first eight bytes of its scan.
struct Transmitter {
    rate: FrameRate,
    bytes: usize,
    packetizer: Packetizer,
}

impl Transmitter {
    fn new(datagram: usize, bytes: usize) -> Transmitter {
        let rate = FrameRate::new(30_000, 1001).unwrap();
        Transmitter { rate, bytes, packetizer: Packetizer::new(0xfeed, 65_000, datagram) }
    }

    fn due(&self, n: u64) -> AirTime {
        START + self.rate.nth(n)
    }

    fn scan(&self, n: u64) -> Vec<u8> {
        let mut scan: Vec<u8> =
            (0..self.bytes as u64).map(|at| (at * 31).wrapping_add(n.wrapping_mul(7)) as u8).collect();
        scan[..8].copy_from_slice(&n.to_be_bytes());
        scan
    }

    fn send(&mut self, n: u64) -> Vec<Vec<u8>> {
        self.send_at(n, self.due(n))
    }

    fn send_at(&mut self, n: u64, at: AirTime) -> Vec<Vec<u8>> {
        let unit = Unit::picture(Due { at, interval: self.rate.interval() }, jpeg(self.scan(n)));
        self.packetizer.packets(&unit, 0, usize::MAX).map(|packet| packet.to_vec()).collect()
    }
}

fn number(received: &ReceivedPicture) -> u64 {
    u64::from_be_bytes(received.jpeg.scan[..8].try_into().unwrap())
}

/// Impairments of the network, each the probability for a packet in thousandths.
#[derive(Debug, Clone, Copy, Default)]
struct Impairments {
    lost: u32,
    duplicated: u32,
    /// Delayed by up to 5 ms.
    delayed: u32,
    /// One bit is flipped, unnoticed by the UDP checksum.
    flipped: u32,
}

struct Simulated {
    received: Vec<ReceivedPicture>,
    counters: TunerCounters,
    /// Numbers of the pictures of which a packet was lost or corrupted.
    damaged: BTreeSet<u64>,
    packets_lost: u64,
}

/// Sends `pictures` through the network in virtual time, from event to event.
fn simulate(seed: u64, impairments: Impairments, mut transmitter: Transmitter, pictures: u64) -> Simulated {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut air: BTreeMap<(AirTime, u64), Vec<u8>> = BTreeMap::new();
    let mut order = 0;
    let mut damaged = BTreeSet::new();
    let mut packets_lost = 0;
    for n in 0..pictures {
        for packet in transmitter.send(n) {
            let due = transmitter.due(n) + Duration::from_micros(100);
            // The first and the last two pictures are spared, so that every loss between them is noticed.
            let spared = n + 2 >= pictures || n == 0;
            let mut chance = |thousandths: u32| !spared && rng.u32(..1000) < thousandths;
            if chance(impairments.lost) {
                damaged.insert(n);
                packets_lost += 1;
                continue;
            }
            let copies = 1 + u64::from(chance(impairments.duplicated));
            let delay = if chance(impairments.delayed) { 5000 } else { 0 };
            let flip = chance(impairments.flipped);
            for _ in 0..copies {
                let mut packet = packet.clone();
                if flip {
                    let bit = rng.usize(..packet.len() * 8);
                    packet[bit / 8] ^= 1 << (bit % 8);
                    damaged.insert(n);
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
    Simulated { received, counters: tuner.counters(), damaged, packets_lost }
}

#[test]
fn a_quiet_network_delivers_every_picture_untouched() {
    for datagram in [576, 1472, 65_507] {
        let transmitter = Transmitter::new(datagram, 22_000);
        let outcome = simulate(1, Impairments::default(), Transmitter::new(datagram, 22_000), 400);
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
            let impairments = Impairments { lost: 20, ..Impairments::default() };
            let outcome = simulate(seed, impairments, Transmitter::new(datagram, 22_000), 500);
            let c = outcome.counters;
            let whole: Vec<u64> = (0..500).filter(|n| !outcome.damaged.contains(n)).collect();
            let got: Vec<u64> = outcome.received.iter().map(number).collect();
            assert_eq!(got, whole, "seed {seed}, {datagram}");
            assert_eq!(c.packets_lost, outcome.packets_lost, "seed {seed}, {datagram}");
            assert_eq!(c.pictures_lost, outcome.damaged.len() as u64, "seed {seed}, {datagram}");
        }
    }
}

#[test]
fn reordering_and_duplication_lose_no_picture() {
    for datagram in [1472, 65_507] {
        for seed in 0..20 {
            let impairments = Impairments { duplicated: 100, delayed: 200, ..Impairments::default() };
            let outcome = simulate(seed, impairments, Transmitter::new(datagram, 22_000), 300);
            let got: Vec<u64> = outcome.received.iter().map(number).collect();
            assert_eq!(got, (0..300).collect::<Vec<_>>(), "seed {seed}, {datagram}");
            let c = outcome.counters;
            assert_eq!((c.packets_lost, c.pictures_lost, c.late), (0, 0, 0), "seed {seed}, {datagram}");
            assert!(c.duplicates > 0 && (datagram > 2000 || c.reordered > 0));
        }
    }
}

#[test]
fn corruption_damages_only_the_pictures_it_hits() {
    for seed in 0..50 {
        let impairments = Impairments { lost: 5, duplicated: 10, delayed: 50, flipped: 20 };
        let transmitter = Transmitter::new(1472, 9000);
        let outcome = simulate(seed, impairments, Transmitter::new(1472, 9000), 300);
        // A flipped bit in a scan cannot be noticed, but no undamaged picture may be missing or changed.
        let mut got = BTreeMap::new();
        for received in &outcome.received {
            got.insert(received.timestamp, received.jpeg.clone());
        }
        for n in (0..300).filter(|n| !outcome.damaged.contains(n)) {
            let found = got.get(&transmitter.due(n).rtp_timestamp());
            // A flipped bit in a sequence number or timestamp may replace a neighbour.
            let near_damage = outcome.damaged.range(n.saturating_sub(3)..=n + 3).next().is_some();
            assert!(near_damage || found == Some(&jpeg(transmitter.scan(n))), "seed {seed}, picture {n}");
        }
        assert!(outcome.received.len() >= 300 - 3 * outcome.damaged.len(), "seed {seed}");
    }
}

#[test]
fn joining_in_the_middle_of_a_picture_is_not_a_loss() {
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
fn another_sender_takes_over_only_after_the_first_is_silent() {
    let mut first = Transmitter::new(65_507, 500);
    let mut second =
        Transmitter { packetizer: Packetizer::new(0xbeef, 7, 65_507), ..Transmitter::new(65_507, 500) };
    let mut tuner = Tuner::new();
    for n in 0..10 {
        for packet in first.send(n).into_iter().chain(second.send(n)) {
            tuner.handle_datagram(first.due(n), &packet).unwrap();
        }
    }
    assert_eq!((tuner.counters().pictures, tuner.counters().other_sender), (10, 10));
    // The first sender falls silent. A restart is not a loss.
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
fn the_counters_survive_a_new_connection() {
    let mut tuner = Tuner::new();
    tuner.start_over();
    assert_eq!(tuner.counters().restarts, 0, "no sender has been heard yet");
    let mut first = Transmitter::new(65_507, 500);
    for n in [0, 1, 2, 4] {
        // Picture 3 is sent and lost: one packet.
        first.packetizer.skip((n == 4).into());
        for packet in first.send(n) {
            tuner.handle_datagram(first.due(n), &packet).unwrap();
            tuner.handle_timeout(first.due(n) + Duration::from_millis(30));
        }
    }
    tuner.start_over();
    // Another SSRC and other sequence numbers are accepted at once.
    let mut second =
        Transmitter { packetizer: Packetizer::new(0xbeef, 7, 65_507), ..Transmitter::new(65_507, 500) };
    for n in 5..8 {
        for packet in second.send(n) {
            tuner.handle_datagram(second.due(n), &packet).unwrap();
        }
    }
    let c = tuner.counters();
    assert_eq!((c.pictures, c.pictures_lost, c.packets_lost, c.restarts, c.other_sender), (7, 1, 1, 1, 0));
}

#[test]
fn datagrams_that_are_not_rtp_jpeg_are_counted_and_give_no_picture() {
    let mut transmitter = Transmitter::new(65_507, 500);
    let mut tuner = Tuner::new();
    let packet = transmitter.send(0).remove(0);
    let mut other_type = packet.clone();
    other_type[1] = 0x80 | 33;
    assert_eq!(tuner.handle_datagram(START, &other_type), Err(DatagramError::PayloadType(33)));
    assert_eq!(tuner.handle_datagram(START, b"hello"), Err(DatagramError::Rtp(RtpError::Truncated)));
    assert!(tuner.handle_datagram(START, &[0; 100]).is_err());
    assert_eq!(tuner.poll_picture(), None);
    let c = tuner.counters();
    assert_eq!((c.datagrams, c.malformed, c.other_payload), (3, 2, 1));
    tuner.handle_datagram(START, &packet).unwrap();
    assert!(tuner.poll_picture().is_some());
}

#[test]
fn a_dynamic_payload_type_that_makes_pictures_is_played() {
    let mut transmitter = Transmitter::new(1472, 5000);
    let mut tuner = Tuner::new();
    for n in 0..10 {
        for mut packet in transmitter.send(n) {
            packet[1] = packet[1] & 0x80 | 96;
            tuner.handle_datagram(transmitter.due(n), &packet).unwrap();
            // Another medium with the same SSRC, and a type that is not JPEG.
            packet[1] = 97;
            let _ = tuner.handle_datagram(transmitter.due(n), &packet[..14]);
        }
    }
    assert_eq!((tuner.counters().pictures, tuner.counters().pictures_lost), (10, 0));
}

#[test]
fn a_caller_that_does_not_poll_keeps_the_newest_pictures() {
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
    fn no_datagram_panics(
        datagrams in proptest::collection::vec(
            (0u64..50_000_000, proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80)), 0..40)
    ) {
        let mut tuner = Tuner::new();
        let mut now = START;
        for (step, mut bytes) in datagrams {
            now = now + Duration::from_nanos(step);
            if let Some(first) = bytes.first_mut() {
                *first = 0x80; // RTP version 2
            }
            if let Some(second) = bytes.get_mut(1) {
                *second = rtp::PAYLOAD_TYPE_JPEG;
            }
            let _ = tuner.handle_datagram(now, &bytes);
        }
    }
}
