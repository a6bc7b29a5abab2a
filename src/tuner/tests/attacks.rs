//! Strangers that send to the group. Nearly all pictures must be the station's all the same.

use super::*;
use crate::conflict::{ConflictChange, OVER};

const STATION: &str = "192.0.2.7:40000";
const STRANGER: &str = "192.0.2.66:40000";
/// On the station's own machine, or with its address forged.
const BESIDE: &str = "192.0.2.7:50000";

/// Pictures of a run: 30 s.
const PICTURES: u64 = 900;

/// All that travels to the group: when, in which order, from where, what.
#[derive(Default)]
struct GroupTraffic(BTreeMap<(AirTime, usize), (SocketAddr, Vec<u8>)>);

impl GroupTraffic {
    fn add(&mut self, at: AirTime, from: &str, packet: Vec<u8>) {
        self.0.insert((at, self.0.len()), (from.parse().unwrap(), packet));
    }

    /// The pictures of a station, but for those due in `pause`. The packets of each take half of its interval.
    fn station(&mut self, datagram: usize, pause: std::ops::Range<u64>) {
        let mut station = Transmitter::new(datagram, 22_000);
        for n in (0..PICTURES).filter(|n| !pause.contains(n)) {
            let packets = station.send(n);
            let apart = station.rate.interval() / 2 / packets.len() as u32;
            for (at, packet) in (0..).zip(packets) {
                self.add(station.due(n) + apart * at, STATION, packet);
            }
        }
    }

    /// Small pictures that are whole, 25 a second from `begin` on.
    fn small_pictures(&mut self, from: &str, begin: AirTime) {
        let mut stranger =
            Transmitter { packetizer: Packetizer::new(0xbad, 7, 1472), ..Transmitter::new(1472, 300) };
        for n in 0.. {
            let at = begin + Duration::from_millis(40) * n as u32;
            if at >= START + Duration::from_secs(30) {
                break;
            }
            for packet in stranger.send_at(u64::MAX - n, at) {
                self.add(at, from, packet);
            }
        }
    }

    /// Counts the station's pictures and all pictures that a tuner shows.
    fn shown(self, source: Option<&str>) -> (u64, u64) {
        let mut tuner = Tuner::new();
        tuner.accept_only(source.map(|source| source.parse::<SocketAddr>().unwrap().ip()));
        let (mut own, mut all) = (0, 0);
        for ((at, _), (from, packet)) in self.0 {
            while let Some(deadline) = tuner.poll_timeout().filter(|&deadline| deadline < at) {
                tuner.handle_timeout(deadline);
            }
            let _ = tuner.handle_datagram_from(at, Some(from), &packet);
            for received in std::iter::from_fn(|| tuner.poll_picture()) {
                all += 1;
                own += u64::from(number(&received) < PICTURES);
            }
        }
        (own, all)
    }
}

/// Of all pictures that are shown, and of all that the station has sent, at least 99 % are shown and the station's.
#[track_caller]
fn the_station_is_seen(traffic: GroupTraffic, source: Option<&str>, sent: u64, case: &str) {
    let (own, all) = traffic.shown(source);
    assert!(own * 100 >= sent * 99, "{case}: {own} of {sent} pictures are shown");
    assert!(own * 100 >= all * 99, "{case}: of {all} pictures {own} are the station's");
}

/// An RTP header and no picture.
fn header_alone(ssrc: u32, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let header = rtp::Header { marker: false, payload_type: 26, sequence, timestamp: 1, ssrc };
    let mut packet = [0; rtp::HEADER_LEN];
    header.emit(&mut packet);
    [&packet[..], payload].concat()
}

#[test]
fn rtp_without_a_picture_adopts_nobody() {
    let broken = [0, 0, 0, 0, 1, 80, 80, 46, 1, 2, 3];
    for datagram in [1472, 65_507] {
        for payload in [&[][..], &broken] {
            for (from, many) in [(STRANGER, false), (STRANGER, true), (BESIDE, false), (BESIDE, true)] {
                let mut traffic = GroupTraffic::default();
                for n in 0..31_000 {
                    // A thousand a second, from a second before the first picture on.
                    let at = START - Duration::from_secs(1) + Duration::from_millis(1) * n;
                    let ssrc = if many { n } else { 0xbad };
                    traffic.add(at, from, header_alone(ssrc, n as u16, payload));
                }
                traffic.station(datagram, 0..0);
                the_station_is_seen(
                    traffic,
                    None,
                    PICTURES,
                    &format!("{datagram}, from {from}, many: {many}"),
                );
            }
        }
    }
}

#[test]
fn small_valid_pictures_of_a_stranger_are_not_shown() {
    for datagram in [1472, 65_507] {
        // Before the first picture of the station, only the directory can tell who is who.
        for (source, begins) in [(Some(STATION), START - Duration::from_secs(1)), (None, START + SENDER_GONE)]
        {
            let mut traffic = GroupTraffic::default();
            traffic.small_pictures(STRANGER, begins);
            traffic.station(datagram, 0..0);
            the_station_is_seen(traffic, source, PICTURES, &format!("{datagram}, source {source:?}"));
        }
        let mut traffic = GroupTraffic::default();
        traffic.small_pictures(BESIDE, START + SENDER_GONE);
        traffic.station(datagram, 0..0);
        the_station_is_seen(traffic, Some(STATION), PICTURES, &format!("{datagram}, beside"));
    }
}

/// What a tuner tells of other senders, each with the seconds since the beginning, until 20 s after the last packet.
fn told(air: GroupTraffic, source: Option<&str>) -> Vec<(u64, ConflictChange, Vec<SocketAddr>)> {
    let mut tuner = Tuner::new();
    tuner.accept_only(source.map(|source| source.parse::<SocketAddr>().unwrap().ip()));
    let mut told = Vec::new();
    let last = air.0.keys().next_back().unwrap().0;
    let mut note = |tuner: &mut Tuner, at: AirTime| {
        if let Some(change) = tuner.poll_conflict() {
            told.push((at.since(START).as_secs(), change, tuner.other_senders()));
        }
    };
    for ((at, _), (from, packet)) in air.0 {
        let _ = tuner.handle_datagram_from(at, Some(from), &packet);
        note(&mut tuner, at);
    }
    for n in 1..=20 {
        let at = last + Duration::from_secs(1) * n;
        tuner.handle_timeout(at);
        note(&mut tuner, at);
    }
    told
}

#[test]
fn a_second_sender_of_pictures_is_told_of_once_and_with_its_address() {
    for (from, source) in
        [(STRANGER, Some(STATION)), (STRANGER, None), (BESIDE, Some(STATION)), (BESIDE, None)]
    {
        let mut air = GroupTraffic::default();
        air.small_pictures(from, START + Duration::from_secs(5));
        air.station(1472, 0..0);
        let told = told(air, source);
        let over = START + Duration::from_secs(30) + OVER;
        let expected = [
            (7, ConflictChange::Begins, vec![from.parse().unwrap()]),
            (over.since(START).as_secs(), ConflictChange::Over, vec![]),
        ];
        assert_eq!(told, expected, "from {from}, source {source:?}");
    }
}

#[test]
fn a_station_alone_or_one_that_is_restarted_is_no_conflict() {
    let mut alone = GroupTraffic::default();
    alone.station(1472, 0..0);
    assert_eq!(told(alone, Some(STATION)), []);
    // The broadcaster ends after 10 s, and another run of it begins at once, with another port and SSRC.
    let mut restarted = GroupTraffic::default();
    restarted.station(1472, 300..PICTURES);
    restarted.small_pictures(BESIDE, START + Duration::from_secs(10));
    assert_eq!(told(restarted, Some(STATION)), []);
    let mut garbage = GroupTraffic::default();
    garbage.station(1472, 0..0);
    for n in 0..30_000 {
        garbage.add(START + Duration::from_millis(1) * n, STRANGER, header_alone(7, n as u16, &[]));
    }
    assert_eq!(told(garbage, Some(STATION)), []);
}

#[test]
fn a_stranger_does_not_take_the_place_of_a_station_that_pauses() {
    for datagram in [1472, 65_507] {
        for source in [Some(STATION), None] {
            let mut traffic = GroupTraffic::default();
            traffic.small_pictures(STRANGER, START + SENDER_GONE);
            traffic.station(datagram, 300..330); // 1 s
            the_station_is_seen(traffic, source, PICTURES - 30, &format!("{datagram}, source {source:?}"));
        }
    }
}

#[test]
fn a_station_that_comes_back_gets_its_place_back() {
    for from in [STRANGER, BESIDE] {
        let mut traffic = GroupTraffic::default();
        traffic.small_pictures(from, START + SENDER_GONE);
        traffic.station(1472, 300..420); // 4 s: there the stranger is shown, for want of another
        let (own, all) = traffic.shown(None);
        assert!(own >= PICTURES - 120 - 2, "{own} pictures of the station after a stranger {from}");
        assert!(all <= own + 100, "{} pictures of the stranger {from}", all - own);
    }
}

#[test]
fn forged_packets_with_consecutive_numbers_restart_nothing_while_pictures_come() {
    for datagram in [1472, 65_507] {
        for from in [STATION, BESIDE, STRANGER] {
            for source in [Some(STATION), None] {
                let mut rng = fastrand::Rng::with_seed(4588);
                let mut traffic = GroupTraffic::default();
                for n in 0..300 {
                    let first = rng.u16(..);
                    let mut forger = Transmitter {
                        packetizer: Packetizer::new(0xfeed, first, 1472),
                        ..Transmitter::new(1472, 300)
                    };
                    let at =
                        START + Duration::from_millis(100) * n + Duration::from_micros(rng.u64(..90_000));
                    for copy in 0..2 {
                        for packet in
                            forger.send_at(u64::MAX - u64::from(n), at + Duration::from_millis(copy))
                        {
                            traffic.add(at, from, packet);
                        }
                    }
                }
                traffic.station(datagram, 0..0);
                the_station_is_seen(
                    traffic,
                    source,
                    PICTURES,
                    &format!("{datagram}, from {from}, {source:?}"),
                );
            }
        }
    }
}

#[test]
fn packets_of_other_sources_are_counted() {
    let mut traffic = GroupTraffic::default();
    traffic.small_pictures(STRANGER, START);
    let mut tuner = Tuner::new();
    tuner.accept_only(Some("::ffff:192.0.2.7".parse().unwrap()));
    for ((at, _), (from, packet)) in traffic.0 {
        tuner.handle_datagram_from(at, Some(from), &packet).unwrap();
    }
    let c = tuner.counters();
    assert_eq!((c.datagrams, c.other_source, c.pictures), (750, 750, 0));
}

#[test]
fn a_broadcaster_that_restarts_at_the_same_address_is_followed_after_half_a_second() {
    let mut tuner = Tuner::new();
    let feed = |tuner: &mut Tuner, sender: &mut Transmitter, from: &str, pictures: std::ops::Range<u64>| {
        for n in pictures {
            for packet in sender.send(n) {
                tuner.handle_datagram_from(sender.due(n), from.parse().ok(), &packet).unwrap();
            }
        }
        tuner.counters()
    };
    let second =
        |ssrc| Transmitter { packetizer: Packetizer::new(ssrc, 7, 1472), ..Transmitter::new(1472, 300) };
    feed(&mut tuner, &mut Transmitter::new(1472, 300), STATION, 0..30);
    let c = feed(&mut tuner, &mut second(1), BESIDE, 46..50);
    assert_eq!((c.pictures, c.restarts, c.pictures_lost), (34, 1, 0));
    // At another address, after two seconds.
    let c = feed(&mut tuner, &mut second(2), STRANGER, 52..200);
    assert_eq!((c.restarts, c.pictures_lost), (2, 0));
    assert_eq!(c.pictures, 34 + 200 - 109, "the first one is shown two seconds after picture 49");
}

#[test]
fn after_an_outage_the_same_sender_goes_on_at_once_and_the_loss_is_counted() {
    for (datagram, outage) in [(1472, 10), (1472, 100), (576, 4), (65_507, 100)] {
        let mut sender = Transmitter::new(datagram, 22_000);
        let mut tuner = Tuner::new();
        let mut lost = 0;
        for n in 0..200 {
            let packets = sender.send(n);
            if (50..50 + outage).contains(&n) {
                lost += packets.len() as u64;
                continue;
            }
            for packet in packets {
                tuner.handle_datagram_from(sender.due(n), STATION.parse().ok(), &packet).unwrap();
            }
        }
        let c = tuner.counters();
        let expected = (200 - outage, outage, lost, 0);
        assert_eq!(
            (c.pictures, c.pictures_lost, c.packets_lost, c.restarts),
            expected,
            "{datagram}, {outage}"
        );
    }
}
