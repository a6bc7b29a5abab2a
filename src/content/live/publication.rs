//! The slot in which a station finds its publisher's stream.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::arrivals::{ArrivalSender, Arrivals, arrivals};
use crate::clock::AirClock;

/// The stream of one publisher.
pub(crate) struct Publication {
    /// The publisher's name, for people.
    pub(crate) who: String,
    pub(crate) arrivals: Arrivals,
}

/// The slot in which a station finds its publisher's stream. It outlives the station's task and every publisher.
#[derive(Default)]
pub(crate) struct PublishSlot {
    next: Mutex<Option<Publication>>,
    changed: Notify,
}

impl PublishSlot {
    /// A publisher begins. It takes the place of one before. When the sender is dropped, it has left.
    pub(crate) fn begin(&self, who: String, clock: AirClock) -> ArrivalSender {
        let (sender, arrivals) = arrivals(clock);
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(Publication { who, arrivals });
        self.changed.notify_one();
        sender
    }

    /// The stream of a publisher that has begun since this was asked last.
    pub(crate) fn take(&self) -> Option<Publication> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits until a publisher begins; returns at once if one has since the last call. Cancel-safe. For one task.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl std::fmt::Debug for PublishSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PublishSlot")
    }
}
