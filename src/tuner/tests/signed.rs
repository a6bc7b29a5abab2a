//! Signed pictures: whatever others send, true pictures are shown, nearly all of them, and nothing else.

use super::*;
use crate::directory::StationSigner;
use crate::media::StationId;
use crate::tuner::signed::{PictureVerifier, Refused, SignedCounters};
use crate::wire::packetizer::Packetizer;
use crate::wire::signature::tests::key;
use crate::wire::signature::tickets::Tickets;
use crate::wire::signature::{CardError, SigningKey};

const STATION: StationId = StationId(2);
const EPOCH: u64 = 7;
/// Pictures of a run: 3 s.
const PICTURES: u64 = 90;
/// Forged packets a second.
const FLOOD: u32 = 50_000;

/// Makes a forged packet of its number and the station's last one.
type Forge = fn(u32, &[u8]) -> Vec<u8>;

/// The ports to which a datagram is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Pictures,
    Cards,
}

/// A broadcaster that signs.
struct Signing {
    station: Transmitter,
    cards: Packetizer,
    key: SigningKey,
    tickets: Tickets,
    id: StationId,
    epoch: u64,
}

impl Signing {
    fn new(datagram: usize) -> Signing {
        let station = Transmitter::new(datagram, 22_000);
        Signing {
            station,
            cards: Packetizer::new(0xca4d, 65_500, 65_507),
            key: key(),
            tickets: Tickets::new(),
            id: STATION,
            epoch: EPOCH,
        }
    }

    /// The signer as the directory tells it.
    fn signer(&self) -> StationSigner {
        StationSigner { id: self.id, epoch: self.epoch, key: self.key.public() }
    }

    /// The card of picture `n`, and its packets.
    fn send(&mut self, n: u64) -> (Vec<u8>, Vec<Vec<u8>>) {
        let due = Due { at: self.station.due(n), interval: self.station.rate.interval() };
        let mut unit = Unit::picture(due, jpeg(self.station.scan(n)));
        unit.card =
            self.key.card(self.id, self.epoch, &mut self.tickets, &unit, self.station.packetizer.datagram());
        let card = self.cards.card(&unit).unwrap().to_vec();
        (card, self.station.send(n))
    }
}

/// All that travels to both ports: when, in which order, to which port, what.
#[derive(Default, Clone)]
struct Traffic(BTreeMap<(AirTime, usize), (Port, Vec<u8>)>);

impl Traffic {
    fn add(&mut self, at: AirTime, port: Port, datagram: Vec<u8>) {
        self.0.insert((at, self.0.len()), (port, datagram));
    }

    /// The pictures of a station. The packets of each take half of its interval; the card comes this much after the first one.
    fn of(mut station: Signing, card_after: i64) -> Traffic {
        let mut traffic = Traffic::default();
        for n in 0..PICTURES {
            let (card, packets) = station.send(n);
            let (due, count) = (station.station.due(n), packets.len() as u32);
            let card_at = AirTime((due.0 as i64 + card_after) as u64);
            traffic.add(card_at, Port::Cards, card);
            let apart = station.station.rate.interval() / 2 / count;
            for (at, packet) in (0..).zip(packets) {
                traffic.add(due + apart * at, Port::Pictures, packet);
            }
        }
        traffic
    }

    /// As if somebody sent `forge` of the last datagram of the station so often to the port.
    fn flooded(&self, port: Port, mut forge: impl FnMut(u32, &[u8]) -> Vec<u8>) -> Traffic {
        let mut flooded = self.clone();
        let mut last: BTreeMap<AirTime, &[u8]> = BTreeMap::new();
        for ((at, _), (to, datagram)) in &self.0 {
            if *to == port {
                last.insert(*at, datagram);
            }
        }
        for n in 0..3 * FLOOD {
            let at = START + Duration::from_secs(1) / FLOOD * n;
            if let Some((_, datagram)) = last.range(..=at).next_back() {
                // No network carries so many of the largest datagrams.
                let datagram = &datagram[..datagram.len().min(1472)];
                flooded.add(at, port, forge(n, datagram));
            }
        }
        flooded
    }

    /// The numbers of the pictures that are shown, and the counts.
    fn shown(&self, verifier: &mut PictureVerifier) -> (Vec<u64>, SignedCounters, TunerCounters) {
        let mut tuner = Tuner::new();
        let mut shown = Vec::new();
        for ((at, _), (port, datagram)) in &self.0 {
            match port {
                Port::Cards => drop(verifier.handle_card(*at, datagram)),
                Port::Pictures => drop(verifier.handle_datagram(*at, datagram)),
            }
            while let Some((arrival, packet)) = verifier.poll_packet() {
                tuner.handle_datagram(arrival, &packet).unwrap();
            }
            tuner.handle_timeout(*at);
            shown.extend(std::iter::from_fn(|| tuner.poll_picture()).map(|received| true_number(&received)));
        }
        let end = START + Duration::from_secs(60);
        verifier.handle_timeout(end);
        (shown, verifier.counters(), tuner.counters())
    }

    /// The numbers of the pictures that a receiver shows which requires no signature.
    fn shown_unverified(&self) -> Vec<u64> {
        let mut tuner = Tuner::new();
        let mut shown = Vec::new();
        for ((at, _), (port, datagram)) in &self.0 {
            if *port == Port::Pictures {
                let _ = tuner.handle_datagram(*at, datagram);
            }
            shown.extend(std::iter::from_fn(|| tuner.poll_picture()).map(|received| true_number(&received)));
        }
        shown
    }
}

/// The number of a picture, if it is as the station has sent it.
fn true_number(received: &ReceivedPicture) -> u64 {
    let n = number(received);
    let is_true = n < PICTURES && received.jpeg.scan == Transmitter::new(1472, 22_000).scan(n);
    if is_true { n } else { u64::MAX }
}

fn verifier() -> PictureVerifier {
    PictureVerifier::new(Signing::new(1472).signer(), START)
}

#[track_caller]
fn nothing_is_shown(traffic: &Traffic, verifier: &mut PictureVerifier, case: &str) -> SignedCounters {
    let (shown, counters, _) = traffic.shown(verifier);
    assert_eq!((shown.len(), counters.pictures), (0, 0), "{case}");
    counters
}

/// All pictures that are shown are the station's, and at least 99 % of these are.
#[track_caller]
fn the_station_is_seen(traffic: &Traffic, case: &str) -> SignedCounters {
    let (shown, counters, _) = traffic.shown(&mut verifier());
    assert!(shown.iter().all(|&n| n < PICTURES) && shown.is_sorted_by(|a, b| a < b), "{case}: {shown:?}");
    assert!(shown.len() as u64 * 100 >= PICTURES * 99, "{case}: {} are shown", shown.len());
    counters
}

#[test]
fn signed_pictures_are_shown_wherever_the_card_comes() {
    for datagram in [576, 1472, 65_507] {
        // Before the picture, after its first packet, after its last.
        for card_after in [-200_000, 100_000, 25_000_000] {
            let traffic = Traffic::of(Signing::new(datagram), card_after);
            let (shown, signed, counters) = traffic.shown(&mut verifier());
            let case = format!("{datagram}, card after {card_after} ns");
            assert_eq!(shown, (0..PICTURES).collect::<Vec<_>>(), "{case}");
            let expected = SignedCounters { pictures: PICTURES, ..SignedCounters::default() };
            assert_eq!(signed, expected, "{case}");
            assert_eq!(
                (counters.pictures_lost, counters.packets_lost, counters.restarts),
                (0, 0, 0),
                "{case}"
            );
        }
    }
}

#[test]
fn pictures_without_cards_and_of_another_station_epoch_or_key_are_refused() {
    let mut unsigned = Traffic::of(Signing::new(1472), 0);
    unsigned.0.retain(|_, (port, _)| *port == Port::Pictures);
    let packets = unsigned.0.len() as u64;
    let counters = nothing_is_shown(&unsigned, &mut verifier(), "unsigned");
    assert_eq!((counters.refused, counters.refused_cards), (packets, 0));
    for (case, station) in [
        ("swapped", Signing { id: StationId(3), ..Signing::new(1472) }),
        ("epoch", Signing { epoch: EPOCH + 1, ..Signing::new(1472) }),
        ("key", Signing { key: SigningKey::new(), ..Signing::new(1472) }),
    ] {
        let counters = nothing_is_shown(&Traffic::of(station, 0), &mut verifier(), case);
        assert_eq!((counters.refused, counters.refused_cards), (packets, PICTURES), "{case}");
    }
}

#[test]
fn a_picture_with_a_flipped_bit_is_refused_and_its_true_packet_is_taken() {
    let (card, packets) = Signing::new(1472).send(0);
    for bit in (rtp::HEADER_LEN * 8)..packets[1].len() * 8 {
        let mut verifier = verifier();
        verifier.handle_card(START, &card).unwrap();
        let mut flipped = packets.clone();
        flipped[1][bit / 8] ^= 1 << (bit % 8);
        for packet in &flipped {
            verifier.handle_datagram(START, packet).unwrap();
        }
        assert_eq!(verifier.counters(), SignedCounters { refused: 1, ..Default::default() }, "bit {bit}");
        assert_eq!(verifier.poll_packet(), None, "bit {bit}");
        verifier.handle_datagram(START, &packets[1]).unwrap();
        assert_eq!(verifier.counters().pictures, 1, "bit {bit}");
    }
}

#[test]
fn a_replay_is_refused() {
    let traffic = Traffic::of(Signing::new(1472), 0);
    // All of it comes again, at once and 13.3 hours later, when the timestamps are the same again.
    let mut twice = verifier();
    assert_eq!(traffic.shown(&mut twice).0.len() as u64, PICTURES);
    let wrap = Duration::from_nanos((1 << 32) * 100_000 / 9);
    for later in [Duration::from_secs(3), wrap] {
        let replayed = traffic.0.iter().map(|((at, n), sent)| ((*at + later, *n), sent.clone()));
        let (shown, counters, _) = Traffic(replayed.collect()).shown(&mut twice);
        assert_eq!((shown.len(), counters.pictures), (0, PICTURES), "{later:?} later");
    }
    // To a receiver that begins later, in the same run of the station, and in another one.
    let told = START + Duration::from_secs(3600);
    let signer = Signing::new(1472).signer();
    nothing_is_shown(&traffic, &mut PictureVerifier::new(signer, told), "an hour old");
    nothing_is_shown(
        &traffic,
        &mut PictureVerifier::new(StationSigner { epoch: 8, ..signer }, START),
        "another run",
    );
    // Each picture once more just after it was shown.
    let mut echo = traffic.clone();
    for ((at, _), (port, datagram)) in traffic.0 {
        echo.add(at + Duration::from_millis(1), port, datagram);
    }
    assert_eq!(echo.shown(&mut verifier()).0, (0..PICTURES).collect::<Vec<_>>());
}

#[test]
fn a_station_that_starts_again_is_trusted_by_its_new_epoch() {
    let mut verifier = verifier();
    let first = Traffic::of(Signing::new(1472), 0);
    assert_eq!(first.shown(&mut verifier).0.len() as u64, PICTURES);
    let again = || Signing { epoch: EPOCH + 1, ..Signing::new(1472) };
    // The clock of another machine may be behind.
    verifier.trust(again().signer(), START);
    let (shown, counters, _) = Traffic::of(again(), 0).shown(&mut verifier);
    assert_eq!((shown.len() as u64, counters.pictures), (PICTURES, 2 * PICTURES));
    // A key that is told again changes nothing.
    verifier.trust(again().signer(), START);
    assert_eq!(first.shown(&mut verifier).0.len(), 0);
}

#[test]
fn a_flood_of_forged_packets_displaces_nothing() {
    let forged: [(&str, Forge); 4] = [
        // The true headers, the next sequence numbers, the place in the picture; another scan.
        ("next numbers", |n, last| {
            let mut packet = last.to_vec();
            let number = u16::from_be_bytes([packet[2], packet[3]]).wrapping_add(n as u16 % 40);
            packet[2..4].copy_from_slice(&number.to_be_bytes());
            let end = packet.len() - 1;
            packet[end] ^= 1 + (n as u8 & 0x7f);
            packet
        }),
        // A whole picture in one packet, with a later timestamp.
        ("later pictures", |n, last| {
            let mut packet = last[..120.min(last.len())].to_vec();
            let timestamp = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
            packet[1] |= 0x80;
            packet[4..8].copy_from_slice(&timestamp.wrapping_add(n % 9000).to_be_bytes());
            packet[13..16].fill(0);
            packet
        }),
        // True packets with other sequence numbers and SSRCs.
        ("true payloads", |n, last| {
            let mut packet = last.to_vec();
            packet[2..4].copy_from_slice(&(n as u16).to_be_bytes());
            packet[8..12].copy_from_slice(&n.to_be_bytes());
            packet
        }),
        ("noise", |n, _| n.to_be_bytes().repeat(5)),
    ];
    for datagram in [1472, 65_507] {
        let traffic = Traffic::of(Signing::new(datagram), -200_000);
        for (case, forge) in forged {
            if datagram > 1472 && case == "true payloads" {
                continue;
            }
            let flooded = traffic.flooded(Port::Pictures, forge);
            let counters = the_station_is_seen(&flooded, &format!("{datagram}, {case}"));
            if case != "true payloads" {
                assert!(counters.refused >= u64::from(FLOOD), "{datagram}, {case}: {counters:?}");
            }
        }
        // Without signatures the same flood is all that is seen.
        let unverified = traffic.flooded(Port::Pictures, forged[0].1).shown_unverified();
        let seen = unverified.iter().filter(|&&n| n < PICTURES).count() as u64;
        assert!(seen * 2 < PICTURES, "{datagram}: {seen} of {PICTURES} are the station's");
    }
}

/// As the last card, but of a later picture, in any SSRC, and with a ticket that `change` makes of its.
fn forged_card(change: impl Fn(&mut [u8], u32)) -> impl Fn(u32, &[u8]) -> Vec<u8> {
    move |n, last| {
        let mut card = last.to_vec();
        // Due a little later: the timestamp is that of the due time.
        let due = AirTime(u64::from_be_bytes(card[12..20].try_into().unwrap()) + u64::from(n) * 100_000);
        let number = u16::from_be_bytes([card[2], card[3]]).wrapping_add(1);
        card[2..4].copy_from_slice(&number.to_be_bytes());
        card[4..8].copy_from_slice(&due.rtp_timestamp().to_be_bytes());
        card[12..20].copy_from_slice(&due.0.to_be_bytes());
        let ticket = card.len() - 64 - 33;
        change(&mut card[ticket..ticket + 33], n);
        card
    }
}

#[test]
fn a_flood_of_forged_cards_displaces_nothing_and_few_are_verified() {
    let traffic = Traffic::of(Signing::new(1472), -200_000);
    let copied = forged_card(|_, _| ());
    let places = forged_card(|ticket, n| ticket[0] = n as u8);
    let numbers = forged_card(|ticket, n| {
        ticket[0] = ticket[0].wrapping_add(1);
        ticket[1..5].copy_from_slice(&n.to_be_bytes());
    });
    for (case, flooded) in [
        ("a ticket that was shown", traffic.flooded(Port::Cards, copied)),
        ("any place", traffic.flooded(Port::Cards, places)),
        ("any number", traffic.flooded(Port::Cards, numbers)),
    ] {
        let counters = the_station_is_seen(&flooded, case);
        assert!(counters.refused_cards > u64::from(FLOOD), "{case}: {counters:?}");
        let mut verifier = verifier();
        let mut verified = 0;
        for ((at, _), (_, card)) in flooded.0.iter().filter(|(_, (port, _))| *port == Port::Cards) {
            let handled = verifier.handle_card(*at, card);
            verified += u64::from(!matches!(handled, Err(Refused::Ticket | Refused::Old)));
        }
        assert_eq!(verified, PICTURES, "{case}");
    }
}

#[test]
fn of_a_lost_card_few_copies_are_verified() {
    let mut station = Signing::new(1472);
    let mut verifier = verifier();
    let cards: Vec<_> = (0..5).map(|n| station.send(n).0).collect();
    verifier.handle_card(START, &cards[0]).unwrap();
    let forge = forged_card(|_, _| ());
    for lost in [1, 2] {
        let refused: Vec<_> =
            (0..100).map(|n| verifier.handle_card(START, &forge(n + 1, &cards[lost])).unwrap_err()).collect();
        let verified =
            refused.iter().filter(|refused| **refused == Refused::Card(CardError::Signature)).count();
        assert_eq!(verified, 4, "card {lost} is lost");
    }
    assert_eq!(verifier.handle_card(START, &forge(1, &cards[1])), Err(Refused::Ticket));
    verifier.handle_card(START, &cards[3]).unwrap();
    verifier.handle_card(START, &cards[4]).unwrap();
}

#[test]
fn cards_are_recognized_after_a_silence_of_any_length() {
    for silence in [2u64, 5, 10, 20, 50, 51, 80, 1000, 10_000] {
        let mut station = Signing::new(1472);
        let mut verifier = verifier();
        let at = |n| START + Duration::from_millis(17) * n;
        let cards: Vec<_> = (0..=silence).map(|n| station.send(n).0).collect();
        verifier.handle_card(at(0), &cards[0]).unwrap();
        verifier.handle_card(at(silence as u32), &cards[silence as usize]).unwrap();
    }
}

#[test]
fn what_is_lost_is_counted_and_what_is_whole_is_shown() {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut traffic = Traffic::of(Signing::new(1472), -200_000);
    // The first and the last pictures are spared, so that every loss between them is noticed.
    let from = START + Duration::from_millis(50);
    let until = START + Duration::from_millis(2800);
    let mut lost = 0;
    traffic.0.retain(|(at, _), (port, _)| {
        let drops = *port == Port::Pictures && *at > from && *at < until && rng.u32(..100) < 3;
        lost += u64::from(drops);
        !drops
    });
    let unverified = traffic.shown_unverified();
    let (shown, signed, counters) = traffic.shown(&mut verifier());
    assert_eq!(shown, unverified, "all that are whole are verified");
    assert!(shown.len() < 70 && lost > 30, "{} are whole, {lost} packets are lost", shown.len());
    assert_eq!(signed.pictures, shown.len() as u64);
    assert_eq!((counters.packets_lost, counters.pictures_lost), (lost, PICTURES - signed.pictures));
}

#[test]
fn packets_that_wait_for_their_cards_are_few() {
    let mut verifier = verifier();
    for n in 0..5000u32 {
        let mut packet = vec![0x80, 26, 0, 0];
        packet.extend(n.to_be_bytes());
        packet.extend([0; 1400]);
        verifier.handle_datagram(START, &packet).unwrap();
    }
    assert_eq!(verifier.counters().refused, 5000 - 256);
    let mut large = vec![0x80, 26, 0, 0];
    large.extend([0; 60_000]);
    (0..100).for_each(|_| verifier.handle_datagram(START, &large).unwrap());
    assert_eq!(verifier.counters().refused, 5100 - 17);
    verifier.handle_timeout(START + Duration::from_millis(100));
    assert_eq!(verifier.counters().refused, 5100);
}
