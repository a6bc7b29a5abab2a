//! Payload formats: what follows the RTP header, one module a codec.

pub mod jpeg;
