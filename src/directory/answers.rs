//! The questions that the directory asks the broadcaster, to answer its clients. The head-end has the answers, and gives them to the
//! [`StationTable`](super::StationTable). Each method is called on a connection's task, and must not block.

use super::message::{SoundPacket, StationFilms, StationKeys, StationSigner, StationSound};
use crate::access::{Gatekeeper, Grant};
use crate::media::{AirTime, StationId};

/// A broadcaster's decision which stations a client may see.
pub trait Gate: Send + Sync {
    /// Whether the client may see the station.
    fn allows(&self, id: StationId, grant: &Grant) -> bool;
    /// Lets clients in.
    fn gatekeeper(&self) -> &Gatekeeper;
}

/// The sound of a broadcaster's stations.
pub trait Sounds: Send + Sync {
    /// How the station's sound is sent; `None` if it has none.
    fn sound(&self, id: StationId) -> Option<StationSound>;
    /// The station's last packets of sound, ascending by due time.
    fn now(&self, id: StationId) -> Vec<SoundPacket>;
}

/// The keys that verify the pictures of a broadcaster's signed stations.
pub trait Signers: Send + Sync {
    /// The key that verifies the station's pictures; `None` if they are not signed.
    fn signer(&self, id: StationId) -> Option<StationSigner>;
    /// The present moment, on the clock of due times.
    fn now(&self) -> AirTime;
}

/// The films of a broadcaster's stations.
pub trait Guides: Send + Sync {
    /// The present moment, and the films of all stations that end after `from` and begin before `until`, ascending by id: at most
    /// [`MAX_GUIDE_FILMS`](super::message::MAX_GUIDE_FILMS) in all.
    fn films(&self, from: AirTime, until: AirTime) -> (AirTime, Vec<StationFilms>);
}

/// The keys of a broadcaster's encrypted stations.
pub trait KeysOf: Send + Sync {
    /// The keys of a station as they are now, and a number that differs whenever keys do; `None` if it is not encrypted.
    fn keys(&self, id: StationId) -> Option<(u64, StationKeys)>;
}
