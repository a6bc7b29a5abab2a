//! The directory: which stations are on, where they are, and what each shows this moment. TCP 9688.
//!
//! A viewer could find a station's group in a file and wait for the next picture. The directory is
//! what makes it a television set: the line-up is pushed when it changes, and the answer to "tune
//! me to 2" carries the picture now on air, so that there is something to paint before the first
//! datagram arrives.
//!
//! ```text
//!  stations -> StationTable <- server <-> TCP <-> client -> viewer
//!                         \--- message ---/
//! ```
//!
//! - [`message`]: the requests and replies and their bytes. Pure; a stranger's bytes are judged
//!   here and nowhere else. `docs/protocol.md` describes them byte by byte.
//! - [`table`]: what is on, written by the stations, read by the connections; counts the audience.
//! - [`server`]: connections, and everything that keeps one of them from harming the others.
//! - [`client`]: one question ([`list`]), or a connection kept for as long as a viewer runs
//!   ([`Session`]).
//!
//! Both ends treat the other as hostile: every length is bounded before memory is taken for it,
//! every wait has an end.

pub mod client;
mod link;
pub mod message;
pub mod server;
pub mod table;

pub use client::{ClientError, Event, Session, list, services};
pub use message::{ErrorCode, OnAir, PORT, Services, State, StationInfo, VERSION};
pub use server::{Limits, serve};
pub use table::StationTable;

/// The directory's service type in multicast DNS (RFC 6763 section 7).
pub const SERVICE: &str = "_stationcast._tcp.local.";
