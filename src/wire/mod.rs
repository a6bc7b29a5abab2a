//! The bytes that sender and receiver agree on. Pure: no clock, no socket; of ours it imports only
//! [`media`](crate::media). Every room may import it.
//!
//! A station is an RTP session (RFC 3550) that carries JPEG (RFC 2435), one access unit a picture:
//!
//! - [`rtp`]: the 12-byte header, and the 64-bit values of its counters, which wrap;
//! - [`payload`]: the payload formats, one module a codec;
//! - `rtcp`: sender reports and reception reports;
//! - [`sdp`]: the description that a player needs before the first packet; `sap`: its announcement.

pub mod payload;
#[cfg(feature = "broadcaster")]
pub(crate) mod rtcp;
pub mod rtp;
#[cfg(feature = "broadcaster")]
pub(crate) mod sap;
pub mod sdp;
