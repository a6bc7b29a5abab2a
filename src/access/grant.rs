//! The stations that a client may see, and until when.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::sleep;

use super::ADMIN;
use super::keys::{Entry, Keys};

/// Longest sleep until the wall clock is asked again, which may have been set.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// The stations that a client may see: those that are open to all, and those that let in the name of its token or password. It sees
/// encrypted stations only if nobody on the way can read its connection.
#[derive(Debug, Clone, Default)]
pub struct Grant {
    held: Option<Held>,
    is_private: bool,
}

/// A token or a password that was shown.
#[derive(Debug, Clone)]
struct Held {
    entry: Arc<Entry>,
    keys: watch::Receiver<Arc<Keys>>,
}

impl Grant {
    /// The grant of a client that has shown no secret. `is_private`: nobody on the way can read what the broadcaster sends to it.
    pub fn of_a_stranger(is_private: bool) -> Grant {
        Grant { held: None, is_private }
    }

    /// The grant of a client that has shown the secret of `entry`. It is private, since secrets are taken only where nobody can read them.
    pub(super) fn of(entry: Arc<Entry>, keys: watch::Receiver<Arc<Keys>>) -> Grant {
        Grant { held: Some(Held { entry, keys }), is_private: true }
    }

    /// Whether nobody on the way can read what the broadcaster sends to the client.
    pub fn is_private(&self) -> bool {
        self.is_private
    }

    /// The name; `None` of a client that has shown nothing.
    pub fn name(&self) -> Option<&str> {
        self.held.as_ref().map(|held| &held.entry.name[..])
    }

    pub(super) fn entry(&self) -> Option<&Arc<Entry>> {
        self.held.as_ref().map(|held| &held.entry)
    }

    /// Whether a client may see a station with this `access`; an empty one lets in everybody.
    pub fn allows(&self, access: &[String]) -> bool {
        access.is_empty()
            || self.is_admin()
            || self.name().is_some_and(|name| access.iter().any(|one| one == name))
    }

    /// Whether a client may change what is on air. Then it sees every station, too.
    pub fn is_admin(&self) -> bool {
        self.entry().is_some_and(|entry| entry.admin || entry.name == ADMIN)
    }

    /// Whether the token or password was removed, or is over.
    #[expect(clippy::disallowed_methods, reason = "a shell: tokens end by the wall clock")]
    pub fn is_over(&self) -> bool {
        let Some(held) = &self.held else { return false };
        held.keys.borrow().find(&held.entry.id) != Some(&*held.entry) || held.entry.is_over(SystemTime::now())
    }

    /// Waits until the token or password is removed or over; for ever if the client has shown nothing. Cancel-safe.
    #[expect(clippy::disallowed_methods, reason = "a shell: tokens end by the wall clock")]
    pub async fn over(&self) {
        let Some(held) = &self.held else { return std::future::pending().await };
        let mut keys = held.keys.clone();
        while !self.is_over() {
            let left = held.entry.expires.and_then(|end| end.duration_since(SystemTime::now()).ok());
            let changed = tokio::select! {
                changed = keys.changed() => changed,
                () = sleep(left.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP)) => Ok(()),
            };
            if changed.is_err() {
                return std::future::pending().await; // the broadcaster ends
            }
        }
    }
}
