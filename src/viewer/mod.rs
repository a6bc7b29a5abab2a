//! The television set: the [zapper](zapper::Zapper) receives, and either a [window](live) shows it or a
//! [headless](headless) run counts it.

pub mod headless;
pub mod live;
pub mod zapper;
