//! A television head-end for a local network.
#![forbid(unsafe_op_in_unsafe_fn)]

pub mod clock;
pub mod interface;
pub mod lineup;
pub mod net;
pub mod tuner;
pub mod units;
pub mod wire;
