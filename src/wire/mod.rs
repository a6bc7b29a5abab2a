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

use std::net::IpAddr;

/// The largest UDP payload over IPv4, in bytes: 65,535 less 20 of IP and 8 of UDP. Measured on Linux: 65,507 bytes are sent,
/// 65,508 give EMSGSIZE.
pub const MAX_DATAGRAM: usize = 65_507;

/// What UDP and IP put before a payload sent to `address`, in bytes.
pub const fn udp_headers(address: IpAddr) -> usize {
    if address.is_ipv4() { 20 + 8 } else { 40 + 8 }
}
