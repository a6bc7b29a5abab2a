//! The bytes that sender and receiver agree on. Pure: no clock, no socket; of ours it imports only
//! [`media`](crate::media). Every room may import it.
//!
//! A station is an RTP session (RFC 3550) that carries JPEG (RFC 2435), one access unit a picture:
//!
//! - [`rtp`]: the 12-byte header, and the 64-bit values of its counters, which wrap;
//! - [`payload`]: the payload formats, one module a codec;
//! - [`packetizer`]: from access units to packets; [`jitter`]: packets in their order again;
//! - `rtcp`: sender reports and reception reports;
//! - [`srtp`]: packets of RTP and RTCP, encrypted;
//! - `rtsp`: the messages of an RTSP connection;
//! - [`sdp`]: the description that a player needs before the first packet; `sap`: its announcement.
//! - [`signature`]: the cards of signed pictures.

pub mod jitter;
pub mod packetizer;
pub mod payload;
#[cfg(all(feature = "broadcaster", not(fuzzing)))]
pub(crate) mod rtcp;
#[cfg(all(feature = "broadcaster", fuzzing))]
pub mod rtcp;
pub mod rtp;
#[cfg(any(feature = "broadcaster", feature = "viewer"))]
pub(crate) mod rtsp;
#[cfg(feature = "broadcaster")]
pub(crate) mod sap;
pub mod sdp;
pub mod signature;
pub mod srtp;

use std::net::IpAddr;

/// The largest UDP payload over IPv4, in bytes: 65,535 less 20 of IP and 8 of UDP. Measured on Linux: 65,507 bytes are sent,
/// 65,508 give EMSGSIZE.
pub const MAX_DATAGRAM: usize = 65_507;

/// What UDP and IP put before a payload sent to `address`, in bytes.
pub const fn udp_headers(address: IpAddr) -> usize {
    if address.is_ipv4() { 20 + 8 } else { 40 + 8 }
}
