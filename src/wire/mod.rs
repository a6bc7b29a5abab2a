//! ON AIR: the bytes both sides agree on. Pure: no clock, no socket, nothing of ours but
//! [`units`](crate::units).
//!
//! A station is an RTP session (RFC 3550) that carries JPEG (RFC 2435), one access unit per picture:
//!
//! - [`rtp`]: the 12-byte header, and undoing the wrap of its counters;
//! - [`jpeg`]: one coded picture, cut into packets and put together again;
//! - [`jfif`]: from a JPEG file to what travels, and back;
//! - [`sdp`]: what a player must know before the first packet.

pub mod jfif;
pub mod jpeg;
pub mod rtp;
pub mod sdp;
