//! The directory: tells clients over TCP (port 9688) which stations there are, where each is sent, and what it shows now.
//!
//! Any room may import it. It imports `media`, `limits`, `log`, `tls` and `access`.
//!
//! A viewer could read a station's group from a file and wait for the next picture. The directory does better: it
//! pushes the line-up at every change, and its answer to "tune me to 2" carries the picture now on air, so that the
//! viewer has something to paint before the first datagram arrives.
//!
//! ```text
//!  stations -> StationTable <- server <-> TCP <-> client, query -> viewer
//!                     \-- message, serialization, framing --/
//! ```
//!
//! - [`message`]: requests and replies, and their rules. Pure.
//! - [`serialization`]: the bytes of a message. Pure. `docs/protocol.md` describes them byte by byte.
//! - [`framing`]: cuts a stream of bytes into messages.
//! - [`table`]: the state of all stations, written by the stations and read by the connections; counts the audience.
//! - [`answers`]: what the table asks of the broadcaster: sound, films, keys, and which stations a client may see.
//! - [`server`]: connections, and the limits that keep one client from harming the others.
//! - [`endpoint`]: how a client reaches a directory, by TLS or not.
//! - [`query`]: one question on a connection of its own ([`list`], [`services`], [`sources`], [`now`], [`keys`]).
//! - [`client`]: a connection that lasts as long as the viewer runs ([`DirectoryClient`]).
//!
//! Both ends treat the other as hostile: every length is checked before memory is allocated for it, and every wait has
//! a deadline.

pub mod answers;
pub mod client;
pub mod endpoint;
pub mod framing;
pub mod message;
pub mod query;
pub mod serialization;
pub mod server;
pub mod table;

pub use answers::{Gate, Guides, KeysOf, Signers, Sounds};
pub use client::{DirectoryClient, Event};
pub use endpoint::{Endpoint, Reach};
pub use message::{
    ErrorCode, FilmOnAir, KeyFrom, MAX_GUIDE_FILMS, MAX_SOUND_PACKETS, OnAir, PORT, Services, SoundPacket,
    State, StationFilms, StationInfo, StationKeys, StationNow, StationSigner, StationSound, StationSource,
    StreamKeys, VERSION,
};
pub use query::{QueryError, keys, list, now, services, sounds, sources};
pub use server::{Limits, serve};
pub use table::StationTable;

/// The directory's service type in multicast DNS (RFC 6763 section 7).
pub const SERVICE: &str = "_stationcast._tcp.local.";
