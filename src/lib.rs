//! A television head-end for a local network.
#![forbid(unsafe_op_in_unsafe_fn)]

pub mod directory;
pub mod units;
