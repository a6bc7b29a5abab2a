//! The socket of a station's cards, and the verifier that it feeds. A shell, for the [receiver](super::receiver).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use tracing::debug;

use super::signed::{PictureVerifier, Requirement, SignedCounters};
use super::source::{DatagramSource, ReceivedDatagram};
use super::{DatagramError, Tuner};
use crate::directory::StationSigner;
use crate::interface::Interface;
use crate::media::AirTime;
use crate::wire::signature::card_port;

/// Most cards that are read before pictures are read again. Verifying them takes 3 ms, if no ticket is known yet.
const MOST_CARDS: usize = 64;

/// Packets that are read before cards are read again. A packet whose card has not been read waits for it.
const MOST_PACKETS: usize = 64;

/// The cards of a station that are received, and its pictures that are verified by them.
pub(super) struct SignedSource {
    cards: DatagramSource,
    verifier: PictureVerifier,
    /// The only address whose packets are taken.
    source: Option<IpAddr>,
    /// Packets that are read before cards are read again.
    left: usize,
}

impl SignedSource {
    /// Joins the group of the cards of a station whose pictures are on `group`.
    ///
    /// # Errors
    /// As [`DatagramSource::join`].
    pub(super) fn join(
        group: SocketAddr,
        interface: &Interface,
        source: Option<IpAddr>,
        (signer, told): (StationSigner, AirTime),
    ) -> io::Result<SignedSource> {
        let group = SocketAddr::new(group.ip(), card_port(group.port()));
        let cards = DatagramSource::join(group, interface, source)?;
        Ok(SignedSource { cards, verifier: PictureVerifier::new(signer, told), source, left: 0 })
    }

    /// Takes the keys that the directory told last.
    ///
    /// # Errors
    /// The pictures cannot be verified any more: the sentence says why.
    pub(super) fn follow(&mut self, requirement: Option<Requirement>) -> io::Result<()> {
        match requirement {
            Some(Requirement::Signed { signer, told }) => self.verifier.trust(signer, told),
            Some(Requirement::Unverifiable(why)) => return Err(io::Error::other(why.to_string())),
            None => {}
        }
        Ok(())
    }

    /// Reads the cards that have come.
    ///
    /// # Errors
    /// As [`DatagramSource::read`].
    pub(super) fn read_cards(&mut self) -> io::Result<()> {
        self.left = MOST_PACKETS;
        for _ in 0..MOST_CARDS {
            let Some(ReceivedDatagram { bytes, arrival, from }) = self.cards.read()? else { break };
            if is_other(self.source, from) {
                continue;
            }
            if let Err(error) = self.verifier.handle_card(arrival, bytes) {
                debug!("refused: {error}");
            }
        }
        Ok(())
    }

    /// Handles a datagram that came to the group of the pictures, and passes verified pictures to `tuner`.
    ///
    /// # Errors
    /// The datagram is refused, or the socket of the cards cannot be read.
    pub(super) fn handle(
        &mut self,
        tuner: &mut Tuner,
        arrival: AirTime,
        from: Option<SocketAddr>,
        datagram: &[u8],
    ) -> io::Result<Result<(), DatagramError>> {
        if is_other(self.source, from) {
            return Ok(tuner.handle_datagram_from(arrival, from, datagram));
        }
        if self.left == 0 {
            self.read_cards()?;
        }
        self.left -= 1;
        let handled = self.verifier.handle_datagram(arrival, datagram).map_err(DatagramError::Rtp);
        Ok(self.pass_on(tuner).and(handled))
    }

    /// Passes the packets of verified pictures to `tuner`.
    ///
    /// # Errors
    /// A picture of the broadcaster cannot be shown.
    pub(super) fn pass_on(&mut self, tuner: &mut Tuner) -> Result<(), DatagramError> {
        let mut passed = Ok(());
        while let Some((arrival, packet)) = self.verifier.poll_packet() {
            passed = passed.and(tuner.handle_datagram(arrival, &packet));
        }
        passed
    }

    /// Drops the packets that have waited too long for their cards at `now`.
    pub(super) fn handle_timeout(&mut self, now: AirTime) {
        self.verifier.handle_timeout(now);
    }

    /// The counts of this group.
    pub(super) fn counters(&self) -> SignedCounters {
        self.verifier.counters()
    }
}

/// Whether a datagram is from another address than `source`.
fn is_other(source: Option<IpAddr>, from: Option<SocketAddr>) -> bool {
    source.zip(from).is_some_and(|(source, from)| from.ip().to_canonical() != source.to_canonical())
}

impl AsFd for SignedSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.cards.as_fd()
    }
}
