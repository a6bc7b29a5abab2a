//! ON AIR: the bytes both sides agree on. Pure: no clock, no socket, nothing of ours but
//! [`units`](crate::media).
//!
//! A station is an RTP session (RFC 3550) that carries JPEG (RFC 2435), one access unit per picture:
//!
//! - [`rtp`]: the 12-byte header, and undoing the wrap of its counters;
//! - [`payload`]: what follows it, one module a codec;
//! - [`packetizer`]: from access units to packets;
//! - `rtcp`: reports of senders and receivers;
//! - [`sdp`]: what a player must know before the first packet; `sap`: how it is announced.

pub mod packetizer;
pub mod payload;
#[cfg(feature = "broadcaster")]
pub(crate) mod rtcp;
pub mod rtp;
#[cfg(feature = "broadcaster")]
pub(crate) mod sap;
pub mod sdp;
