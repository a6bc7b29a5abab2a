//! RTP payload formats: the bytes behind the RTP header, one module a codec.

#[cfg(feature = "broadcaster")]
pub mod aac;
#[cfg(feature = "broadcaster")]
pub mod h26x;
pub mod jpeg;
