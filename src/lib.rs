//! A television head-end for a local network.
#![forbid(unsafe_op_in_unsafe_fn)]

pub mod clock;
pub mod directory;
pub mod interface;
pub mod lineup;
pub mod log;
pub mod net;
#[cfg(any(feature = "broadcaster", feature = "viewer"))]
pub mod paint;
#[cfg(feature = "viewer")]
pub mod screen;
#[cfg(feature = "broadcaster")]
pub mod station;
pub mod tuner;
pub mod units;
#[cfg(feature = "viewer")]
pub mod viewer;
pub mod wire;
