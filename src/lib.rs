//! Television on a local network: stations that are always on air, a directory that knows them, and a viewer
//! that changes between them in milliseconds.
//!
//! The path of a frame, and the modules in its order:
//!
//! ```text
//! film -> Source -> Encoder -> Jpeg -> Playout -> air thread -> multicast     station, wire, net
//! window <- Decoder <- Jpeg <- Depacketizer <- JitterBuffer <- receiver <-    screen, wire, tuner, net
//! ```
//!
//! - [`lineup`]: `stations.toml`, as types that cannot be wrong;
//! - [`station`]: TRANSMIT, film to air;
//! - [`wire`]: ON AIR, the bytes that both sides agree on;
//! - [`net`], [`interface`]: multicast sockets, and what they go out by;
//! - [`directory`]: what is on and where, over TCP;
//! - `rtsp`, `web`: the same pictures for one client at a time: any player, any browser;
//! - `announce`: SAP and mDNS, so that nobody needs to be told where;
//! - [`tuner`]: RECEIVE, air to picture;
//! - [`viewer`], [`screen`]: the television set, and its glass;
//! - [`units`], [`clock`], [`paint`], [`log`], [`generate`]: what several of them need.
//!
//! Two rules keep it apart. *Time is an argument*: pure code (`wire`, `tuner`, `playout`, `lineup`,
//! `message`) is given `now`; only shells read clocks, which clippy enforces. And *the two sides meet only on
//! the wire*: `station` and `tuner` never import each other, so that a viewer builds without OpenCV and a
//! broadcaster without a window system (features `broadcaster` and `viewer`).
#![forbid(unsafe_code)]

pub mod lineup;
pub mod media;
pub mod wire;

pub mod interface;
pub mod net;

#[cfg(feature = "broadcaster")]
pub mod content;

#[cfg(feature = "broadcaster")]
pub mod air;
#[cfg(feature = "broadcaster")]
pub mod headend;
#[cfg(feature = "broadcaster")]
pub mod station;

pub mod directory;

#[cfg(feature = "broadcaster")]
pub mod announce;
#[cfg(feature = "broadcaster")]
pub mod rtsp;
#[cfg(feature = "broadcaster")]
pub mod web;

#[cfg(feature = "broadcaster")]
pub mod daemon;
#[cfg(feature = "broadcaster")]
pub mod status;

pub mod tuner;

pub mod probe;

#[cfg(feature = "viewer")]
pub mod screen;
#[cfg(feature = "viewer")]
pub mod viewer;

pub mod clock;
#[cfg(any(feature = "broadcaster", feature = "viewer"))]
pub mod generate;
mod limits;
pub mod log;
#[cfg(any(feature = "broadcaster", feature = "viewer"))]
pub mod paint;
mod text_table;
