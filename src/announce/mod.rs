//! Announcements: stations by SAP, the directory by mDNS.

mod describe;

use std::sync::Arc;

use crate::lineup::Lineup;
use crate::station::daemon::Listeners;
use crate::station::headend::HeadEnd;

pub use describe::{describe, first_rate};

/// What is announced, and where.
pub struct Announced {}

impl Announced {
    /// What a line-up wants announced.
    pub fn new(_lineup: &Lineup, _listeners: &Listeners) -> Announced {
        Announced {}
    }
}

/// Announces until the head-end stops, then takes it back.
pub async fn announce(announced: Announced, head_end: Arc<HeadEnd>) {
    let _ = announced;
    head_end.stopping().await;
}
