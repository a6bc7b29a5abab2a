//! The television set: the [zapper](zapper::Zapper) receives, and either a [window](live) shows it or a
//! [headless] run counts it. Beside it, the [probe] measures any RTP stream, and [plots](plot) it.

pub mod headless;
pub mod live;
pub mod plot;
pub mod probe;
pub mod reception;
pub mod zapper;
