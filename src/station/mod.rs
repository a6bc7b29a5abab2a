//! Transmit: file to air.

pub mod slate;
