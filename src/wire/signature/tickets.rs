//! Tickets, by which a receiver refuses forged cards without verifying their signatures.
//!
//! Verifying a signature takes 37 µs, so that 27,000 forged cards a second take a core. A ticket is checked in a microsecond. It is a
//! number that nobody but the sender knows before its card is sent; the first half of its SHA-256 is the ticket of the card before
//! (one-time passwords: L. Lamport, "Password authentication with insecure communication", Communications of the ACM 24(11), 1981).
//! A receiver that knows the ticket of one card recognizes those of the next ones. The signature covers the ticket, too.
//!
//! Such a chain has an end, 256 cards after its beginning. So each card names the beginning of the next chain.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// Bytes of a ticket's number. Finding the next one takes 2^120 attempts: 2^128 of SHA-256, less the 256 tickets of a chain.
const NUMBER_LEN: usize = 16;

/// Bytes of a ticket in a card: its place, its number, and that of the next chain.
pub(super) const TICKET_LEN: usize = 1 + 2 * NUMBER_LEN;

/// Tickets of a chain: ten seconds at 25 pictures a second. Both chains of a station take 8 KiB.
const CHAIN: usize = 256;

/// The hashed bytes begin with this.
const DOMAIN: &[u8] = b"stationcast ticket\0";

type Number = [u8; NUMBER_LEN];

/// The number of the card before the one that has this number.
fn before(number: Number) -> Number {
    let mut hashed = [0; DOMAIN.len() + NUMBER_LEN];
    hashed[..DOMAIN.len()].copy_from_slice(DOMAIN);
    hashed[DOMAIN.len()..].copy_from_slice(&number);
    *digest(&SHA256, &hashed).as_ref().first_chunk().expect("SHA-256 has 32 bytes")
}

/// The number that was shown so many cards before.
fn long_before(number: Number, cards: usize) -> Number {
    (0..cards).fold(number, |number, _| before(number))
}

/// The numbers of a chain, in the order in which cards show them.
struct Chain(Box<[Number; CHAIN]>);

impl Chain {
    /// A new chain.
    ///
    /// # Panics
    /// If the system has no random numbers.
    fn random() -> Chain {
        let mut last = [0; NUMBER_LEN];
        SystemRandom::new().fill(&mut last).expect("the system has random numbers");
        Chain::ending_with(last)
    }

    fn ending_with(last: Number) -> Chain {
        let mut numbers = Box::new([last; CHAIN]);
        for place in (1..CHAIN).rev() {
            numbers[place - 1] = before(numbers[place]);
        }
        Chain(numbers)
    }

    fn beginning(&self) -> Number {
        before(self.0[0])
    }
}

/// The tickets of a station's cards.
pub struct Tickets {
    chain: Chain,
    next: Chain,
    /// The place of the next card's ticket in its chain.
    place: usize,
}

impl Tickets {
    /// New tickets, which nobody knows.
    ///
    /// # Panics
    /// If the system has no random numbers.
    pub fn new() -> Tickets {
        Tickets { chain: Chain::random(), next: Chain::random(), place: 0 }
    }

    /// Tickets whose first two chains end with these numbers.
    #[cfg(test)]
    pub(crate) fn ending_with(first: Number, second: Number) -> Tickets {
        Tickets { chain: Chain::ending_with(first), next: Chain::ending_with(second), place: 0 }
    }

    /// The ticket of the next card.
    pub(super) fn show(&mut self) -> Ticket {
        if self.place == CHAIN {
            self.chain = std::mem::replace(&mut self.next, Chain::random());
            self.place = 0;
        }
        let place = self.place as u8; // below CHAIN
        self.place += 1;
        Ticket { place, number: self.chain.0[usize::from(place)], next: self.next.beginning() }
    }
}

impl Default for Tickets {
    fn default() -> Tickets {
        Tickets::new()
    }
}

/// The ticket of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Its place in the chain.
    place: u8,
    number: Number,
    /// The number before the first one of the next chain.
    next: Number,
}

impl Ticket {
    pub(super) fn emit(&self) -> [u8; TICKET_LEN] {
        let mut bytes = [self.place; TICKET_LEN];
        bytes[1..].copy_from_slice([self.number, self.next].as_flattened());
        bytes
    }

    pub(super) fn parse(bytes: &[u8; TICKET_LEN]) -> Ticket {
        let [place, rest @ ..] = bytes;
        let (numbers, _) = rest.as_chunks::<NUMBER_LEN>();
        Ticket { place: *place, number: numbers[0], next: numbers[1] }
    }

    /// The number of cards from the one with the ticket `last` to the one with this ticket: at least 1. `None` if another sender made
    /// this one, if it is not after the other, or if there are more than `most`. It takes `most` hashes at the most.
    pub fn cards_after(&self, last: &Ticket, most: usize) -> Option<usize> {
        let (place, last_place) = (usize::from(self.place), usize::from(last.place));
        let (cards, hashes, number) = if place > last_place {
            (place - last_place, place - last_place, last.number)
        } else {
            (place + CHAIN - last_place, place + 1, last.next)
        };
        (cards <= most && long_before(self.number, hashes) == number).then_some(cards)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tickets_of_later_cards_are_recognized_over_the_ends_of_chains() {
        let mut tickets = Tickets::new();
        let shown: Vec<_> = (0..3 * CHAIN).map(|_| tickets.show()).collect();
        for first in [0, 1, CHAIN - 2, CHAIN - 1, CHAIN, 2 * CHAIN - 1] {
            for cards in [1, 2, 7, 200] {
                let later = &shown[first + cards];
                assert_eq!(later.cards_after(&shown[first], 200), Some(cards), "{cards} after {first}");
                assert_eq!(
                    later.cards_after(&shown[first], cards - 1),
                    None,
                    "{cards} after {first}, too many"
                );
                assert_eq!(shown[first].cards_after(later, 200), None, "{first} is before");
            }
            assert_eq!(shown[first].cards_after(&shown[first], CHAIN - 1), None);
        }
    }

    #[test]
    fn a_ticket_of_anybody_else_is_none() {
        let mut tickets = Tickets::new();
        let [last, next] = [(); 2].map(|()| tickets.show());
        for bit in 0..(1 + NUMBER_LEN) * 8 {
            let mut bytes = next.emit();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Ticket::parse(&bytes).cards_after(&last, CHAIN), None, "bit {bit}");
        }
        // Anybody can compute the tickets before one that was shown.
        let known = Ticket { number: before(last.number), ..next };
        assert_eq!(known.cards_after(&last, CHAIN), None);
        assert_eq!(Tickets::new().show().cards_after(&last, CHAIN), None);
    }

    #[test]
    fn round_trip() {
        let ticket = Tickets::new().show();
        assert_eq!(Ticket::parse(&ticket.emit()), ticket);
    }
}
