//! The television set: the [zapper](zapper::Zapper) receives, and either a [window](live) shows it or a
//! [headless] run counts it; or a [player] of somebody else's does both. Before all of them, a directory is
//! [found](discover). Beside them, the [probe] measures any RTP stream, and [plots](plot) it.

pub mod discover;
pub mod headless;
pub mod live;
pub mod player;
pub mod plot;
pub mod probe;
pub mod reception;
pub mod zapper;
