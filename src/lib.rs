//! A television head-end for a local network.
#![forbid(unsafe_op_in_unsafe_fn)]

#[cfg(any(feature = "broadcaster", feature = "viewer"))]
pub mod paint;
#[cfg(feature = "viewer")]
pub mod screen;
#[cfg(feature = "broadcaster")]
pub mod station;
pub mod units;
