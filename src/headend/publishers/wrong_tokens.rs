//! Counts the wrong tokens of each address, and refuses an address that has sent too many.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::PublishRefusal;
use crate::limits::network;

/// After so many wrong tokens within [`SPAN`], an address is refused until that is over.
pub(super) const MOST_WRONG: u32 = 10;
pub(super) const SPAN: Duration = Duration::from_secs(60);

/// Most addresses whose wrong tokens are counted.
pub(super) const MOST_COUNTED: usize = 4096;

/// The wrong tokens that have come of late, by the network of their sender.
#[derive(Debug, Default)]
pub(super) struct WrongTokens(HashMap<IpAddr, Wrong>);

/// The wrong tokens of one network.
#[derive(Debug)]
struct Wrong {
    count: u32,
    since: Instant,
}

impl Wrong {
    fn is_over(&self, now: Instant) -> bool {
        now - self.since > SPAN
    }
}

impl WrongTokens {
    /// # Errors
    /// Too many wrong tokens have come from there.
    pub(super) fn check(&mut self, peer: IpAddr, now: Instant) -> Result<(), PublishRefusal> {
        let from = network(peer);
        if self.0.get(&from).is_some_and(|wrong| wrong.is_over(now)) {
            self.0.remove(&from);
        }
        match self.0.get(&from) {
            Some(wrong) if wrong.count >= MOST_WRONG => Err(PublishRefusal::Forbidden(format!(
                "too many wrong tokens came from {from}; try again in {} s",
                SPAN.as_secs()
            ))),
            _ => Ok(()),
        }
    }

    /// Counts a wrong token.
    pub(super) fn note(&mut self, peer: IpAddr, now: Instant) {
        if self.0.len() >= MOST_COUNTED {
            self.0.retain(|_, wrong| !wrong.is_over(now));
        }
        let from = network(peer);
        if self.0.len() >= MOST_COUNTED && !self.0.contains_key(&from) {
            // An attack from many addresses: the oldest is forgotten.
            let oldest = self.0.iter().min_by_key(|(_, wrong)| wrong.since).map(|(from, _)| *from);
            oldest.and_then(|from| self.0.remove(&from));
        }
        let wrong = self.0.entry(from).or_insert(Wrong { count: 0, since: now });
        wrong.count += 1;
        if wrong.count == MOST_WRONG {
            warn!("publish: {from} has sent {MOST_WRONG} wrong tokens, and is refused for a minute");
        }
    }

    #[cfg(test)]
    pub(super) fn addresses(&self) -> usize {
        self.0.len()
    }
}
