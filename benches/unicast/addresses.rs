//! Where the servers listen, in the network namespace of the bench.

/// The broadcaster's RTSP, or the bare writer.
pub(crate) const RTSP: &str = "127.0.0.1:8554";

/// The broadcaster's web.
pub(crate) const HTTP: &str = "127.0.0.1:8088";
