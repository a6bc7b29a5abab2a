//! The viewer: a television set that finds a directory, changes stations and shows or counts their pictures.
//!
//! Only `src/bin/viewer.rs` imports this room. It imports everything on the receiving side: `directory` (its client),
//! `tuner`, `probe`, `speaker` and `screen`, with `media`, `wire`, `interface`, `clock`, `access`, `tls` and `text_table`.
//!
//! - [`discover`]: which directory to ask;
//! - [`zapper`]: receives one station at a time and changes between them;
//! - [`stream`]: what the zapper receives without a directory: a group, or what SDP describes;
//! - [`app`]: the window's application, which shows what the zapper receives;
//! - `comings`: which stations came and left;
//! - `mosaic`: all stations in that window;
//! - [`headless`]: a run without a window, which counts and saves it;
//! - `signal_log`: the silences and the slates of such a run; `talk`: what it says meanwhile;
//! - `showing`: when a picture is in step with the sound;
//! - [`rtsp`]: how the RTSP server of a broadcaster is reached;
//! - [`player`]: an external player instead of both;
//! - [`listing`]: the line-up as a table;
//! - [`measure`], [`plot`]: the shell of the [probe](crate::probe), and its figures drawn;
//! - [`capture`]: the packets of a capture file, for the probe.

pub mod app;
pub mod capture;
mod comings;
pub mod discover;
pub mod headless;
pub mod listing;
pub mod measure;
mod mosaic;
pub mod player;
pub mod plot;
pub mod rtsp;
mod showing;
mod signal_log;
pub mod stream;
mod talk;
pub mod zapper;
