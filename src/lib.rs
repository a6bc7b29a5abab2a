//! Television on a local network: stations that are always on air, a directory that lists them, and a viewer that changes
//! between them in milliseconds.
//!
//! The path of a unit, which is one coded picture and its due time:
//!
//! ```text
//! film -> decode -> encode -> Unit -> Output -> Flow -> air thread -> RtpSender -> multicast    content, station, air
//!                                         \---> Feed -> RTSP, web, directory                   headend, rtsp, web
//!
//! multicast -> Receiver -> JitterBuffer -> Depacketizer -> Zapper -> decode -> window           tuner, viewer, screen
//! ```
//!
//! The rooms, in an order in which each imports only rooms above it:
//!
//! - [`media`]: access units, coded pictures and times, which both sides of the wire share;
//! - [`wire`]: the bytes that sender and receiver agree on;
//! - [`clock`]: air time, which follows the wall clock without a jump;
//! - [`conflict`]: notices that another sender uses a station's group;
//! - [`interface`], [`net`]: this machine's network interfaces, and sockets on them;
//! - [`log`], `limits`, `memory`, `private_file`, `text_table`, [`paint`], [`generate`]: helpers, for logging, accept loops, locked
//!   memory, files with secrets, tables, text and tiles in pictures, manual pages;
//! - [`tls`], [`access`]: connections of clients, plain or TLS; tokens and passwords, and the clients that have shown one;
//! - [`directory`]: the table of stations, its server and its client, over TCP;
//! - [`lineup`]: `stations.toml`, checked in one step;
//! - [`content`]: files to access units: films, their reels, and the slate;
//! - [`air`]: units to datagrams, each on time;
//! - [`headend`]: all stations of a broadcaster, as its servers and announcements see them;
//! - [`station`]: the always-on task that hands content to its output;
//! - [`control`]: commands to a running broadcaster, and the local socket by which they reach it;
//! - [`rtsp`], [`web`], [`announce`]: stations for one client at a time, and their announcements by SAP and mDNS;
//! - [`publisher`]: publishes a film, or a camera of this machine, to a broadcaster;
//! - [`daemon`]: composes a whole broadcaster; [`status`]: the client behind `broadcaster status`;
//! - [`tuner`]: datagrams to coded pictures;
//! - [`probe`]: measures any RTP stream;
//! - [`speaker`]: packets of sound to a sound device, in step with the pictures;
//! - [`screen`], [`viewer`]: the window, and the program around it.
//!
//! Three rules keep the rooms apart:
//!
//! 1. *A room imports only rooms above it*; `tests/imports.rs` checks this. Its front page, the first lines of its `mod.rs`, names
//!    what it imports and who may import it.
//! 2. *The two sides meet only on the wire.* Nothing that sends imports what receives, or the reverse. The features `broadcaster`
//!    and `viewer` build each side alone, so that a viewer needs no OpenCV and a broadcaster no window system.
//! 3. *Time is an argument.* Code that decides takes `now`. Only shells read clocks or sleep; `clippy.toml` forbids it elsewhere.
//!
//! `docs/architecture.md` has the threads, the queues, and where to add what.
#![forbid(unsafe_code)]

pub mod media;
pub mod wire;

pub mod clock;
pub mod conflict;

pub mod interface;
pub mod net;

#[cfg(any(feature = "broadcaster", feature = "viewer"))]
pub mod generate;
mod limits;
pub mod log;
#[cfg(feature = "broadcaster")]
mod memory;
#[cfg(any(feature = "broadcaster", feature = "viewer"))]
pub mod paint;
mod private_file;
#[cfg(any(feature = "broadcaster", feature = "viewer"))]
mod text_table;

pub mod access;
pub mod tls;

pub mod directory;

#[cfg(feature = "broadcaster")]
pub mod lineup;

#[cfg(feature = "broadcaster")]
pub mod content;

#[cfg(feature = "broadcaster")]
pub mod air;

#[cfg(feature = "broadcaster")]
pub mod headend;
#[cfg(feature = "broadcaster")]
pub mod station;

#[cfg(feature = "broadcaster")]
pub mod control;

#[cfg(feature = "broadcaster")]
pub mod announce;
#[cfg(feature = "broadcaster")]
pub mod rtsp;
#[cfg(feature = "broadcaster")]
pub mod web;

#[cfg(feature = "broadcaster")]
pub mod publisher;

#[cfg(feature = "broadcaster")]
pub mod daemon;
#[cfg(feature = "broadcaster")]
pub mod status;

pub mod tuner;

pub mod probe;

#[cfg(feature = "viewer")]
pub mod screen;
#[cfg(feature = "viewer")]
pub mod speaker;
#[cfg(feature = "viewer")]
pub mod viewer;
