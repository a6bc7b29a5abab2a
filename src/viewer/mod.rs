//! The television set: the [zapper](zapper::Zapper) receives, and either a [window](app) shows it or a
//! [headless] run counts it; or a [player] of somebody else's does both. Before all of them, a directory is
//! [found](discover). Beside them, the [probe](measure) measures any RTP stream, and [plots](plot) it.

pub mod app;
pub mod discover;
pub mod headless;
pub mod measure;
pub mod player;
pub mod plot;
pub mod zapper;
