//! Where a station finds what is published to it.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::arrivals::{ArrivalSender, Arrivals, arrivals};
use crate::clock::AirClock;

/// What one publisher sends.
pub(crate) struct Publication {
    /// Who publishes, for people.
    pub(crate) who: String,
    pub(crate) arrivals: Arrivals,
}

/// Where a station finds what is published to it. It outlives the station's task and every publisher.
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

    /// What a publisher sends that has begun since this was asked last.
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
