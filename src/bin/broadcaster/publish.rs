//! `broadcaster publish`: a film, live, to a broadcaster.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::anyhow;
use stationcast::content::decode;
use stationcast::log::without_numbers;
use stationcast::publisher::target::PublishUrl;
use stationcast::publisher::{self, Appearance};

use super::{outcome, print, stop_flag};

/// The arguments.
#[derive(clap::Args)]
pub(super) struct Publish {
    /// Where to: rtsp://HOST:8554/publish/NAME, with the token as in rtsp://anna:TOKEN@HOST:8554/publish/NAME
    #[arg(value_name = "URL", value_parser = PublishUrl::parse)]
    url: PublishUrl,
    /// The film, which is published over and over
    #[arg(value_name = "FILM")]
    film: PathBuf,
    /// Most pixels in a row, 16 to 2040
    #[arg(long, value_name = "PIXELS", default_value_t = 640, value_parser = width)]
    width: u16,
    /// JPEG quality, 1 to 99
    #[arg(long, value_name = "QUALITY", default_value_t = 80, value_parser = quality)]
    quality: u8,
}

fn width(text: &str) -> Result<u16, &'static str> {
    let width = text.parse().ok().filter(|width| (16..=2040).contains(width));
    width.ok_or("choose a whole number from 16 to 2040 (pixels)")
}

fn quality(text: &str) -> Result<u8, &'static str> {
    let quality = text.parse().ok().filter(|quality| (1..=99).contains(quality));
    quality.ok_or("choose a whole number from 1 to 99 (JPEG quality)")
}

impl Publish {
    /// Publishes until a signal stops it.
    pub(super) fn run(&self) -> ExitCode {
        if let Err(error) = decode::open(&self.film) {
            eprintln!("broadcaster: {}", without_numbers(&error.to_string()));
            return ExitCode::from(2);
        }
        let (runtime, stop) = match stop_flag() {
            Ok(both) => both,
            Err(error) => return outcome(Err(error.into())),
        };
        let appearance = Appearance { width: self.width, quality: self.quality };
        // A reader that stops reading is no reason to stop.
        let tell = |line: &str| drop(print(&format!("{}\n", without_numbers(line))));
        let published = publisher::publish(&self.film, &self.url, appearance, &stop, tell);
        debug_assert!(published.is_err() || stop.load(Relaxed));
        runtime.shutdown_timeout(Duration::from_millis(100));
        outcome(published.map_err(|why| anyhow!(why)))
    }
}
