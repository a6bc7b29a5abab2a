//! A station that is published to: nobody is sought, and what comes is shown as what comes of a source.
//!
//! While nobody publishes, the station shows its slate. It goes on as soon as somebody does.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use super::arrivals::Arrival;
use super::publication::PublishSlot;
use super::{Connection, Fault, HOLD, Live, Pacing, RateMeter};
use crate::content::slate::clock_text;
use crate::lineup::publish_name;
use crate::media::AirTime;

/// The content that is published to a station.
pub(super) struct PublishedSource {
    slot: Arc<PublishSlot>,
    /// The name of the publisher, or of the last one; empty before the first.
    who: String,
    /// When the last of them left, or sent nothing any more.
    gone: Option<AirTime>,
    /// The arrivals while the slate was shown.
    first: Option<Arrival>,
}

impl PublishedSource {
    pub(super) fn new(slot: Arc<PublishSlot>) -> PublishedSource {
        PublishedSource { slot, who: String::new(), gone: None, first: None }
    }
}

impl Live {
    /// Waits until a publisher sends something. Cancel-safe. Never returns if nothing is published here.
    #[expect(clippy::disallowed_methods, reason = "a shell: something has come now")]
    pub(crate) async fn revived(&mut self) {
        while self.publishers.as_ref().is_none_or(|publishers| publishers.first.is_none()) {
            let first = self.published().await;
            if let Some(publishers) = &mut self.publishers {
                publishers.first = first;
            }
        }
        self.last_good = Some(Instant::now());
    }

    /// The next that a publisher sends.
    ///
    /// # Errors
    /// Why nothing has come for [`HOLD`].
    #[expect(clippy::disallowed_methods, reason = "a shell: nothing has come until now")]
    pub(super) async fn published_arrival(&mut self) -> Result<Arrival, String> {
        loop {
            if let Some(first) = self.publishers.as_mut().and_then(|publishers| publishers.first.take()) {
                return Ok(first);
            }
            let Some(last_good) = self.last_good else {
                // One that has begun before the station was on air has a moment to send something.
                if self.begin_publication() {
                    self.last_good = Some(Instant::now());
                    continue;
                }
                return Err(self.why_not_published());
            };
            tokio::select! {
                biased;
                arrival = self.published() => {
                    if let Some(arrival) = arrival {
                        return Ok(arrival);
                    }
                }
                () = sleep_until(last_good + HOLD) => {
                    if let (Some(publishers), true) = (&mut self.publishers, self.connection.is_some()) {
                        publishers.gone = Some(self.clock.now() - HOLD);
                    }
                    return Err(self.why_not_published());
                }
            }
        }
    }

    /// The next that arrives; `None` if the publisher has left, or is another one. Cancel-safe.
    #[expect(clippy::disallowed_methods, reason = "a shell: a publisher leaves now")]
    async fn published(&mut self) -> Option<Arrival> {
        let Some(slot) = self.publishers.as_ref().map(|publishers| publishers.slot.clone()) else {
            return std::future::pending().await;
        };
        let connection = &mut self.connection;
        let arrival = async {
            match connection {
                Some(connection) => connection.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = slot.changed() => {
                self.begin_publication();
                None
            }
            arrival = arrival => match arrival {
                Ok(arrival) => Some(arrival),
                Err(_) => {
                    self.connection = None;
                    if let Some(publishers) = &mut self.publishers {
                        publishers.gone = Some(self.clock.now());
                    }
                    None
                }
            },
        }
    }

    /// Takes what another publisher sends from now on. False if there is none.
    fn begin_publication(&mut self) -> bool {
        let Some(publishers) = &mut self.publishers else { return false };
        let Some(publication) = publishers.slot.take() else { return false };
        publishers.who = publication.who;
        (self.connection, self.decoder, self.sound) =
            (Some(Connection::of(publication.arrivals)), None, None);
        // Its clock is another one.
        (self.pacing, self.rate, self.damaged) = (Pacing::default(), RateMeter::default(), 0);
        true
    }

    /// Why the slate is shown.
    fn why_not_published(&self) -> String {
        let Some(PublishedSource { who, gone, .. }) = &self.publishers else { return String::new() };
        match gone {
            Some(since) if self.connection.is_some() => {
                format!("nothing from {who} since {}", clock_text(*since))
            }
            Some(since) => format!("{who} has left at {}", clock_text(*since)),
            None => format!("nobody publishes to /publish/{} yet", publish_name(&self.spec.name)),
        }
    }

    /// The slate is shown from now on, for this reason. A publisher that goes on later is taken up again.
    pub(super) fn rest(&mut self, reason: String) -> Fault {
        (self.told, self.last_good, self.damaged) = (None, None, 0);
        (self.pacing, self.rate) = (Pacing::default(), RateMeter::default());
        if let Some(sound) = &mut self.sound {
            sound.told = false;
        }
        Fault::NotPublished(reason)
    }
}
