//! Verifies pictures by their cards, and passes the packets of verified pictures to a [`Tuner`](super::Tuner). Pure.
//!
//! A [card](crate::wire::signature) comes before its picture and lists the digests of its packets. A packet is taken only if a card
//! lists it, so packets of other senders change neither the picture, whatever SSRC and sequence numbers they forge, nor the sender
//! that the tuner follows. The tuner gets the packets in order, with sequence numbers of our own.

use std::collections::VecDeque;
use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use crate::directory::StationSigner;
use crate::media::AirTime;
use crate::wire::rtp::{self, RtpError};
use crate::wire::signature::tickets::Ticket;
use crate::wire::signature::{Card, CardError, PAYLOAD_TYPE_CARD, PacketDigest, packet_digest};

/// Most pictures of which a card has come and not all packets. Cards come just before their pictures, so two are on their way at a
/// time.
const MAX_OPEN: usize = 8;

/// How long a packet waits for its card, which may be overtaken in the network, or be read after it.
const EARLY: Duration = Duration::from_millis(100);

/// Most packets that wait for their cards, and most bytes of them. When there are more, the oldest is dropped: a flood of forged
/// packets then shortens the wait.
const MAX_EARLY: usize = 256;
/// See [`MAX_EARLY`].
const MAX_EARLY_BYTES: usize = 1 << 20;

/// How long before the directory's answer the first picture may have been due. Somebody who sends recorded pictures again to a receiver
/// that has just begun can show it pictures of this age at most.
const BEFORE: Duration = Duration::from_secs(2);

/// The tickets of a sender are forgotten when none of its cards has been verified for this long.
const CARDS_GONE: Duration = Duration::from_secs(2);

/// A sender makes no more than one card in this time on the average: a station has at most 60 pictures a second. The time since the last
/// valid card then says how many cards ahead a ticket may be, and checking a forged one takes as many hashes.
const CARD_INTERVAL: Duration = Duration::from_millis(10);

/// A ticket may be this many cards ahead at any time: cards that a network holds back come together.
const AHEAD: usize = 8;

/// Most cards with the same valid ticket that are verified. A true card comes before those that copy its ticket, unless it is lost.
const TRIES: u32 = 4;

/// The requirement that a receiver has for the pictures that it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// A valid signature.
    Signed {
        /// By which it is verified.
        signer: StationSigner,
        /// The moment at which the directory told that, by the broadcaster's clock.
        told: AirTime,
    },
    /// A signature, which nothing verifies: none is shown.
    Unverifiable(Unverifiable),
}

/// Why no picture can be verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unverifiable {
    /// The directory names no key for the station.
    NotSigned,
    /// The directory has not told any keys.
    NotTold,
    /// The directory's keys may be anybody's.
    PlainDirectory,
}

impl fmt::Display for Unverifiable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unverifiable::NotSigned => {
                "its pictures are not signed, and --require-signed shows signed ones only: set `sign = true` in its line-up"
            }
            Unverifiable::NotTold => "the directory has not told the keys of signed stations",
            Unverifiable::PlainDirectory => {
                "the directory is reached by a plain connection, and its keys may be anybody's: try --tls"
            }
        })
    }
}

/// Counts of signed reception.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SignedCounters {
    /// Pictures that were received whole and whose signature is valid.
    pub pictures: u64,
    /// Packets that belong to no picture with a valid signature.
    pub refused: u64,
    /// Cards that are not valid: forged, sent again, or of another station or run.
    pub refused_cards: u64,
}

impl AddAssign for SignedCounters {
    fn add_assign(&mut self, more: SignedCounters) {
        let SignedCounters { pictures, refused, refused_cards } = more;
        self.pictures += pictures;
        self.refused += refused;
        self.refused_cards += refused_cards;
    }
}

/// Why a datagram is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The datagram is not RTP.
    #[error(transparent)]
    Rtp(#[from] RtpError),
    /// The datagram is RTP of another payload type than cards have.
    #[error("RTP payload type {0}, which is not that of cards")]
    PayloadType(u8),
    /// The card is not valid.
    #[error(transparent)]
    Card(#[from] CardError),
    /// The card is of a picture that was shown, or of an earlier one.
    #[error("a card that was sent before")]
    Old,
    /// The ticket is not one of the sender whose cards were verified before, or too many cards have it.
    #[error("a card without a valid ticket")]
    Ticket,
}

/// A picture whose card is valid, and its packets so far.
#[derive(Debug)]
struct OpenPicture {
    due: AirTime,
    timestamp: u32,
    digests: Vec<PacketDigest>,
    /// The arrival and the payload of each packet that has come.
    packets: Vec<Option<(AirTime, Vec<u8>)>>,
}

impl OpenPicture {
    /// Takes a packet of the picture; false if it is none. One that has come before changes nothing.
    fn take(&mut self, arrival: AirTime, payload: &[u8]) -> bool {
        let digest = packet_digest(&[payload]);
        let Some(at) = self.digests.iter().position(|listed| *listed == digest) else { return false };
        self.packets[at].get_or_insert_with(|| (arrival, payload.to_vec()));
        true
    }

    fn is_whole(&self) -> bool {
        self.packets.iter().all(Option::is_some)
    }
}

/// A packet whose card has not come.
#[derive(Debug)]
struct EarlyPacket {
    arrival: AirTime,
    timestamp: u32,
    payload: Vec<u8>,
}

/// The last valid card.
#[derive(Debug, Clone, Copy)]
struct LastCard {
    ticket: Ticket,
    arrival: AirTime,
    /// The ticket with which other cards were verified last: its number of cards after this one, and the number of these other cards.
    tried: (usize, u32),
}

impl LastCard {
    /// Whether a card with this ticket is worth verifying at `now`.
    fn admits(&mut self, now: AirTime, ticket: &Ticket) -> bool {
        let most = AHEAD + now.since(self.arrival).div_duration_f64(CARD_INTERVAL) as usize;
        let Some(cards) = ticket.cards_after(&self.ticket, most) else { return false };
        if cards > self.tried.0 {
            self.tried = (cards, 0);
        }
        self.tried.1 += 1;
        cards == self.tried.0 && self.tried.1 <= TRIES
    }
}

/// Verifies the pictures of one station.
#[derive(Debug)]
pub struct PictureVerifier {
    signer: StationSigner,
    /// Pictures that are due at this moment or before are not shown: a picture was shown that was due then.
    shown: AirTime,
    /// Ascending by due time.
    open: VecDeque<OpenPicture>,
    early: VecDeque<EarlyPacket>,
    early_bytes: usize,
    last_card: Option<LastCard>,
    /// The number of the next packet that is passed on.
    sequence: u16,
    ready: VecDeque<(AirTime, Vec<u8>)>,
    counters: SignedCounters,
}

impl PictureVerifier {
    /// A verifier of the pictures of `signer`, which the directory `told` at that moment of the broadcaster's clock.
    pub fn new(signer: StationSigner, told: AirTime) -> PictureVerifier {
        PictureVerifier {
            signer,
            shown: told - BEFORE,
            open: VecDeque::new(),
            early: VecDeque::new(),
            early_bytes: 0,
            last_card: None,
            sequence: 0,
            ready: VecDeque::new(),
            counters: SignedCounters::default(),
        }
    }

    /// From now on the pictures are those of `signer`. Has no effect if they were so before.
    pub fn trust(&mut self, signer: StationSigner, told: AirTime) {
        if signer != self.signer {
            let (sequence, counters) = (self.sequence, self.counters);
            *self = PictureVerifier { sequence, counters, ..PictureVerifier::new(signer, told) };
        }
    }

    /// Handles a datagram from the port of the cards, which arrived at `now`.
    ///
    /// # Errors
    /// The datagram is no card of a picture that is still to come. It has been counted, and nothing else happens.
    pub fn handle_card(&mut self, now: AirTime, datagram: &[u8]) -> Result<(), Refused> {
        let taken = self.take_card(now, datagram);
        self.counters.refused_cards += u64::from(taken.is_err());
        taken
    }

    fn take_card(&mut self, now: AirTime, datagram: &[u8]) -> Result<(), Refused> {
        let (header, payload) = rtp::Header::parse(datagram)?;
        if header.payload_type != PAYLOAD_TYPE_CARD {
            return Err(Refused::PayloadType(header.payload_type));
        }
        let card = Card::parse(header.timestamp, payload)?;
        if card.due <= self.shown || self.open.iter().any(|open| open.due == card.due) {
            return Err(Refused::Old);
        }
        if let Some(last) = self.last_card.as_mut().filter(|last| now.since(last.arrival) < CARDS_GONE)
            && !last.admits(now, &card.ticket)
        {
            return Err(Refused::Ticket);
        }
        let digests = card.verify(self.signer.id, self.signer.epoch, &self.signer.key)?;
        self.last_card = Some(LastCard { ticket: card.ticket, arrival: now, tried: (0, 0) });
        if self.open.len() == MAX_OPEN {
            self.give_up_oldest();
        }
        let packets = digests.iter().map(|_| None).collect();
        let mut picture = OpenPicture { due: card.due, timestamp: header.timestamp, digests, packets };
        self.early.retain(|early| {
            let is_of_it =
                early.timestamp == picture.timestamp && picture.take(early.arrival, &early.payload);
            self.early_bytes -= if is_of_it { early.payload.len() } else { 0 };
            !is_of_it
        });
        let at = self.open.partition_point(|open| open.due < picture.due);
        self.open.insert(at, picture);
        self.pass_on(at);
        Ok(())
    }

    /// Handles a datagram from the port of the pictures, which arrived at `now`.
    ///
    /// # Errors
    /// The datagram is not RTP.
    pub fn handle_datagram(&mut self, now: AirTime, datagram: &[u8]) -> Result<(), RtpError> {
        self.handle_timeout(now);
        let (header, payload) = rtp::Header::parse(datagram).inspect_err(|_| self.counters.refused += 1)?;
        let is_its = |open: &OpenPicture| open.timestamp == header.timestamp;
        if let Some(at) = self.open.iter().position(is_its) {
            if self.open[at].take(now, payload) {
                self.pass_on(at);
            } else {
                self.counters.refused += 1;
            }
            return Ok(());
        }
        self.early_bytes += payload.len();
        let (arrival, timestamp) = (now, header.timestamp);
        self.early.push_back(EarlyPacket { arrival, timestamp, payload: payload.to_vec() });
        while self.early.len() > MAX_EARLY || self.early_bytes > MAX_EARLY_BYTES {
            self.drop_early();
        }
        Ok(())
    }

    /// Drops the packets that have waited too long for their cards at `now`.
    pub fn handle_timeout(&mut self, now: AirTime) {
        while self.early.front().is_some_and(|early| early.arrival + EARLY <= now) {
            self.drop_early();
        }
    }

    fn drop_early(&mut self) {
        if let Some(early) = self.early.pop_front() {
            self.early_bytes -= early.payload.len();
            self.counters.refused += 1;
        }
    }

    /// The next packet of a verified picture, and when it arrived. The packets of a picture follow each other.
    pub fn poll_packet(&mut self) -> Option<(AirTime, Vec<u8>)> {
        self.ready.pop_front()
    }

    /// The counts so far.
    pub fn counters(&self) -> SignedCounters {
        self.counters
    }

    /// Passes on the picture `at` this place if it is whole. Those before it are given up: a picture is complete before the next one
    /// begins.
    fn pass_on(&mut self, at: usize) {
        if !self.open[at].is_whole() {
            return;
        }
        for _ in 0..at {
            self.give_up_oldest();
        }
        if let Some(picture) = self.open.pop_front() {
            self.counters.pictures += 1;
            self.release(picture);
        }
    }

    /// Passes on the packets of an incomplete picture, so that the tuner counts those that are lost.
    fn give_up_oldest(&mut self) {
        if let Some(picture) = self.open.pop_front() {
            self.release(picture);
        }
    }

    fn release(&mut self, picture: OpenPicture) {
        self.shown = self.shown.max(picture.due);
        let last = picture.packets.len() - 1;
        for (at, packet) in picture.packets.into_iter().enumerate() {
            let header = rtp::Header {
                marker: at == last,
                payload_type: rtp::PAYLOAD_TYPE_JPEG,
                sequence: self.sequence,
                timestamp: picture.timestamp,
                ssrc: 0,
            };
            self.sequence = self.sequence.wrapping_add(1);
            let Some((arrival, payload)) = packet else { continue };
            let mut whole = vec![0; rtp::HEADER_LEN];
            if let Some(rtp_part) = whole.first_chunk_mut() {
                header.emit(rtp_part);
            }
            whole.extend(payload);
            self.ready.push_back((arrival, whole));
        }
    }
}
