//! The public keys of signed stations, for the directory.

use std::sync::Weak;

use super::HeadEnd;
use crate::directory::{Signers, StationSigner};
use crate::media::{AirTime, StationId};

/// The signatures of the stations of a head-end.
pub(super) struct HeadEndSigners(pub(super) Weak<HeadEnd>);

impl Signers for HeadEndSigners {
    fn signer(&self, id: StationId) -> Option<StationSigner> {
        let head_end = self.0.upgrade()?;
        let station = head_end.station(id).filter(|station| station.spec().sign)?;
        Some(StationSigner { id, epoch: station.epoch(), key: head_end.signing_key.public() })
    }

    #[expect(clippy::disallowed_methods, reason = "a shell: the answer is of this moment")]
    fn now(&self) -> AirTime {
        self.0.upgrade().map(|head_end| head_end.clock.now()).unwrap_or_default()
    }
}
