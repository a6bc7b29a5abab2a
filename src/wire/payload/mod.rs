//! RTP payload formats: the bytes behind the RTP header, one module a codec.

pub mod jpeg;
