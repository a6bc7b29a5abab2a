//! Signed pictures: the card that travels beside a picture, and what is signed.
//!
//! Anybody can send to a group. A card lists a digest of each packet of one picture and carries a signature over the list, the
//! station, the run of its sender and the picture's due time. So a receiver tells a true packet from a forged one by itself, when it
//! arrives and whatever its sequence number is: forged packets cannot take the place of true ones.
//!
//! The payload of a card, behind an RTP header with the timestamp of the picture and [`PAYLOAD_TYPE_CARD`]:
//!
//! ```text
//!  0               8   9             9 + 16 n            42 + 16 n         106 + 16 n
//! +---------------+---+-----------...-+-----------------...-+---------------...-+
//! | due time (ns) | n | n digests     | ticket              | signature         |
//! +---------------+---+-----------...-+-----------------...-+---------------...-+
//! ```
//!
//! By the [ticket](tickets) a flood of forged cards is refused without verifying them.
//!
//! Cards have a port of their own ([`card_port`]), since players do not ignore them in the stream of the pictures: FFmpeg takes each
//! number of another payload type or SSRC for a lost packet, and waits for it. Nor could the kernel cut a picture and its card into
//! packets in one call: all but the last have one length there (UDP_SEGMENT).
//!
//! The digest is the first half of SHA-256, and the signature is Ed25519 (RFC 8032), both of aws-lc-rs, which TLS needs anyway. A
//! signature takes it 9 µs; ed25519-dalek takes 18 µs, and *ring* 24 µs.

mod known_digests;
pub mod tickets;

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use super::rtp;
use crate::media::jpeg::Jpeg;
use crate::media::{AirTime, StationId, Unit};
use known_digests::KnownDigests;
use tickets::{TICKET_LEN, Ticket, Tickets};

/// The dynamic payload type of cards.
pub const PAYLOAD_TYPE_CARD: u8 = 99;

/// Length of a public key in bytes (RFC 8032 section 5.1.5).
pub const PUBLIC_KEY_LEN: usize = 32;

/// Length of a signature in bytes (RFC 8032 section 5.1.6).
const SIGNATURE_LEN: usize = 64;

/// Bytes in front of the digests.
const HEAD_LEN: usize = 9;

/// Bytes of a digest. Finding another packet with the digest of a given one takes 2^128 attempts.
const DIGEST_LEN: usize = 16;

/// The signed bytes begin with this, so that no signature for another purpose, or by another version of this format, passes for one of
/// a picture.
const DOMAIN: &[u8] = b"stationcast signed picture 2\0";

/// The port of a station's cards, on the group of its pictures, which are on the port `pictures`.
pub const fn card_port(pictures: u16) -> u16 {
    pictures.wrapping_add(4)
}

/// Identifies a packet of a picture by its content: the payload behind the RTP header.
pub type PacketDigest = [u8; DIGEST_LEN];

/// The digest of an RTP payload, which is given in pieces.
pub fn packet_digest(pieces: &[&[u8]]) -> PacketDigest {
    let mut context = Context::new(&SHA256);
    pieces.iter().for_each(|piece| context.update(piece));
    *context.finish().as_ref().first_chunk().expect("SHA-256 has 32 bytes")
}

/// The bytes that are signed.
///
/// ```text
/// domain | station (2) | epoch (8) | due time (8) | n (1) | n digests | ticket (33)
/// ```
fn message(station: StationId, epoch: u64, body: &[u8]) -> Vec<u8> {
    [DOMAIN, &station.0.to_be_bytes(), &epoch.to_be_bytes(), body].concat()
}

/// The key by which a broadcaster signs pictures. It is made at each start and kept nowhere: viewers learn the public key from the
/// directory, whose certificate they know, and pictures of an earlier run verify no more.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    known: Mutex<KnownDigests>,
}

impl SigningKey {
    /// A new key.
    ///
    /// # Panics
    /// If the system has no random numbers.
    pub fn new() -> SigningKey {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        let pair = document.and_then(|document| {
            Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|_| aws_lc_rs::error::Unspecified)
        });
        SigningKey::of(pair.expect("the system has random numbers"))
    }

    fn of(pair: Ed25519KeyPair) -> SigningKey {
        SigningKey { pair, known: Mutex::new(KnownDigests::new()) }
    }

    /// The key of this seed (RFC 8032 section 5.1.5).
    #[cfg(test)]
    pub(crate) fn of_seed(seed: [u8; 32]) -> SigningKey {
        SigningKey::of(Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are a seed"))
    }

    /// The public key that belongs to it.
    pub fn public(&self) -> [u8; PUBLIC_KEY_LEN] {
        *self.pair.public_key().as_ref().first_chunk().expect("a public key has 32 bytes")
    }

    /// The card of a picture that is cut into datagrams of at most `datagram` bytes: the payload of its packet. `epoch` is that of
    /// the station's run, and `tickets` are the run's. `None` for sound, and for a picture of more than 255 packets.
    pub fn card(
        &self,
        station: StationId,
        epoch: u64,
        tickets: &mut Tickets,
        unit: &Unit,
        datagram: usize,
    ) -> Option<Arc<[u8]>> {
        let jpeg = unit.jpeg()?;
        let digests = match unit.stored {
            Some(picture) => self
                .known
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .of(picture, datagram, || digests(jpeg, datagram))
                .to_vec(),
            None => digests(jpeg, datagram),
        };
        let mut card = Vec::with_capacity(HEAD_LEN + digests.len() * DIGEST_LEN + TICKET_LEN + SIGNATURE_LEN);
        card.extend(unit.due.at.0.to_be_bytes());
        card.push(u8::try_from(digests.len()).ok()?);
        card.extend(digests.as_flattened());
        card.extend(tickets.show().emit());
        let signature = self.pair.sign(&message(station, epoch, &card));
        card.extend(signature.as_ref());
        Some(card.into())
    }
}

impl Default for SigningKey {
    fn default() -> SigningKey {
        SigningKey::new()
    }
}

/// The digests of a picture's packets of at most `datagram` bytes.
fn digests(jpeg: &Jpeg, datagram: usize) -> Vec<PacketDigest> {
    let rtp = rtp::Header { marker: false, payload_type: 0, sequence: 0, timestamp: 0, ssrc: 0 };
    let digest = |fragment| {
        let headers = jpeg.packet_header(rtp, fragment);
        let scan = &jpeg.scan[fragment.start..fragment.end];
        packet_digest(&[&headers[rtp::HEADER_LEN..], jpeg.tables_of(fragment), scan])
    };
    jpeg.fragments(datagram).map(digest).collect()
}

/// Why a card is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CardError {
    /// The payload has not the length of a card.
    #[error("a card of {0} bytes, which does not fit its number of packets")]
    Length(usize),
    /// The RTP timestamp is not that of the due time.
    #[error("a card whose timestamp is not that of its due time")]
    Timestamp,
    /// The signature is not one of the key over this card: the card is forged, or of another station or run.
    #[error("a card without a valid signature")]
    Signature,
}

/// A card as it arrived. Nothing in it is true before it was [verified](Self::verify).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Card<'a> {
    /// When the picture is due.
    pub due: AirTime,
    /// By which cards that cannot be true are told.
    pub ticket: Ticket,
    /// The digests of its packets, in order.
    digests: &'a [u8],
    /// All that is signed, and the signature.
    body: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Card<'a> {
    /// Reads the payload of a packet with this RTP `timestamp`.
    ///
    /// # Errors
    /// The payload is no card.
    pub fn parse(timestamp: u32, payload: &'a [u8]) -> Result<Card<'a>, CardError> {
        let wrong = CardError::Length(payload.len());
        let (head, _) = payload.split_first_chunk::<HEAD_LEN>().ok_or(wrong)?;
        let [due @ .., count] = *head;
        let digests_end = HEAD_LEN + usize::from(count) * DIGEST_LEN;
        let end = digests_end + TICKET_LEN;
        if count == 0 || payload.len() != end + SIGNATURE_LEN {
            return Err(wrong);
        }
        let (body, signature) = payload.split_at(end);
        let ticket = Ticket::parse(body.last_chunk().ok_or(wrong)?);
        let due = AirTime(u64::from_be_bytes(due));
        if due.rtp_timestamp() != timestamp {
            return Err(CardError::Timestamp);
        }
        Ok(Card { due, ticket, digests: &body[HEAD_LEN..digests_end], body, signature })
    }

    /// Checks the signature, which takes as long as decoding a small picture does. Returns the digests of the picture's packets, in
    /// order: at least one.
    ///
    /// # Errors
    /// It is not a signature by `key` over this card, for this station and this run of its sender.
    pub fn verify(
        &self,
        station: StationId,
        epoch: u64,
        key: &[u8; PUBLIC_KEY_LEN],
    ) -> Result<Vec<PacketDigest>, CardError> {
        let message = message(station, epoch, self.body);
        let verified = UnparsedPublicKey::new(&ED25519, key).verify(&message, self.signature);
        verified.map_err(|_| CardError::Signature)?;
        Ok(self.digests.as_chunks().0.to_vec())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::media::{Due, StoredPicture};
    use crate::wire::packetizer::Packetizer;

    const STATION: StationId = StationId(2);
    const EPOCH: u64 = 0x1122_3344_5566_7788;
    const DATAGRAM: usize = 576;

    fn unit() -> Unit {
        let scan: Vec<u8> = (0..1500).map(|at| (at * 31) as u8).collect();
        let due = Due { at: AirTime(1_790_000_000_000_000_000), interval: Duration::from_millis(40) };
        Unit::picture(due, crate::media::jpeg::tests::jpeg(scan))
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// The first seed of RFC 8032 section 7.1.
    pub(crate) fn key() -> SigningKey {
        let seed = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        SigningKey::of_seed(seed.try_into().unwrap())
    }

    fn tickets() -> Tickets {
        Tickets::ending_with([1; 16], [2; 16])
    }

    /// The first card of a run.
    fn card(unit: &Unit, datagram: usize) -> Option<Arc<[u8]>> {
        key().card(STATION, EPOCH, &mut tickets(), unit, datagram)
    }

    fn verified(card: &[u8], station: StationId, epoch: u64) -> Result<Vec<PacketDigest>, CardError> {
        let timestamp = unit().rtp_timestamp();
        Card::parse(timestamp, card)?.verify(station, epoch, &key().public())
    }

    #[test]
    fn a_key_is_the_one_of_rfc_8032() {
        let public = hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        assert_eq!(key().public().to_vec(), public);
        let signature = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b\
                         d25bf5f0595bbe24655141438e7a100b";
        assert_eq!(key().pair.sign(b"").as_ref(), hex(signature));
    }

    #[test]
    fn golden_card() {
        // The card of docs/protocol.md. Python's hashlib has made its digest and its ticket, OpenSSL its signature.
        let golden = "0000000002625a00 01 191ad4ad7b5cf04e5144049701732aea \
                      00 d9122600a99e030b93fc44f99f344c28 94b4d46aeecdbfa636c5c73281ea0e02 \
                      c78178ff14a389ed8caf1236fb94316fe7d95f7b67a91c49be94d5cddbdfaa11 \
                      2e405f4dc3ae0a9a785eacc67e15944957f76e5aaa8eaac66f6f3775c9bd9b01";
        let due = Due { at: AirTime(40_000_000), interval: Duration::from_millis(40) };
        let unit = Unit::picture(due, crate::media::jpeg::tests::jpeg(vec![0xaa, 0xbb, 0xcc]));
        let card = card(&unit, 1472).unwrap();
        assert_eq!(*card, hex(&golden.replace(' ', ""))[..]);
        let digests = Card::parse(3600, &card).unwrap().verify(STATION, EPOCH, &key().public()).unwrap();
        assert_eq!(digests, [packet_digest(&[&[0, 0, 0, 0, 1, 0x50, 0x50, 0x2e], &[0xaa, 0xbb, 0xcc]])]);
    }

    #[test]
    fn a_card_lists_the_packets_as_the_packetizer_sends_them() {
        for datagram in [576, 1000, 1472, 65_507] {
            let unit = unit();
            let card = card(&unit, datagram).unwrap();
            let digests = verified(&card, STATION, EPOCH).unwrap();
            let mut packetizer = Packetizer::new(7, 65_534, datagram);
            let sent: Vec<_> = packetizer
                .packets(&unit, 0, usize::MAX)
                .map(|packet| packet_digest(&[&packet.to_vec()[rtp::HEADER_LEN..]]))
                .collect();
            assert_eq!(digests, sent, "{datagram}");
        }
    }

    #[test]
    fn a_picture_of_a_reel_has_the_card_of_its_content_in_each_round() {
        let key = key();
        let again = Due { at: AirTime(unit().due.at.0 + 10_000_000_000), ..unit().due };
        for due in [unit().due, again] {
            for datagram in [DATAGRAM, 1472] {
                let fresh = Unit { due, ..unit() };
                let stored = Unit { stored: Some(StoredPicture { reel: 1, number: 2 }), ..fresh.clone() };
                let cards = [fresh, stored]
                    .map(|unit| key.card(STATION, EPOCH, &mut tickets(), &unit, datagram).unwrap());
                assert_eq!(cards[0], cards[1]);
            }
        }
    }

    #[test]
    fn the_largest_picture_in_the_smallest_packets_has_a_card() {
        let scan = vec![0; crate::wire::payload::jpeg::MAX_SCAN];
        let due = Due { at: AirTime(1), interval: Duration::from_millis(40) };
        let unit = Unit::picture(due, crate::media::jpeg::tests::jpeg(scan));
        assert!(card(&unit, 576).is_some());
    }

    #[test]
    fn another_station_epoch_or_key_and_each_flipped_bit_is_refused() {
        let card = card(&unit(), DATAGRAM).unwrap();
        assert_eq!(verified(&card, STATION, EPOCH).unwrap().len(), 3);
        assert_eq!(verified(&card, StationId(3), EPOCH), Err(CardError::Signature));
        assert_eq!(verified(&card, STATION, EPOCH + 1), Err(CardError::Signature));
        let other = SigningKey::new().public();
        let timestamp = unit().rtp_timestamp();
        let parsed = Card::parse(timestamp, &card).unwrap();
        assert_eq!(parsed.verify(STATION, EPOCH, &other), Err(CardError::Signature));
        for bit in 0..card.len() * 8 {
            let mut flipped = card.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(verified(&flipped, STATION, EPOCH).is_err(), "bit {bit}");
        }
        // A due time of the same timestamp, 13.3 hours later.
        let mut later = card.to_vec();
        let wrap = AirTime(unit().due.at.0 + (1u64 << 32) * 100_000 / 9);
        assert_eq!(wrap.rtp_timestamp(), timestamp);
        later[..8].copy_from_slice(&wrap.0.to_be_bytes());
        assert_eq!(verified(&later, STATION, EPOCH), Err(CardError::Signature));
        assert_eq!(Card::parse(timestamp + 1, &card), Err(CardError::Timestamp));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), timestamp: u32) {
            let _ = Card::parse(timestamp, &bytes).map(|card| card.verify(STATION, EPOCH, &[7; 32]));
        }
    }
}
