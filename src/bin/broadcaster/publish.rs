//! `broadcaster publish`: a film, or a camera of this machine, live, to a broadcaster.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::anyhow;
use stationcast::content::decode;
use stationcast::lineup::{CameraDevice, DEFAULT_MICROPHONE, camera_size, is_microphone};
use stationcast::log::without_numbers;
use stationcast::publisher::target::PublishUrl;
use stationcast::publisher::{self, Appearance, Options, Published};

use super::{outcome, print, stop_flag};

/// The widest picture that RTP/JPEG carries, in pixels.
const MOST_WIDTH: u16 = 2040;

/// The arguments.
#[derive(clap::Args)]
pub(super) struct Publish {
    /// Where to: rtsp://HOST:8554/publish/NAME, with the token as in rtsp://anna:TOKEN@HOST:8554/publish/NAME
    #[arg(value_name = "URL", value_parser = PublishUrl::parse)]
    url: PublishUrl,
    /// A film, which is published over and over, or a camera of this machine, as in /dev/video0
    #[arg(value_name = "FILM|CAMERA")]
    what: PathBuf,
    /// Most pixels in a row, 16 to 2040; default: 640 of a film, and a camera's own
    #[arg(long, value_name = "PIXELS", value_parser = width)]
    width: Option<u16>,
    /// JPEG quality, 1 to 99, of pictures that are encoded; a camera's own JPEG is passed on
    #[arg(long, value_name = "QUALITY", default_value_t = 80, value_parser = quality)]
    quality: u8,
    /// The size that a camera is asked for; default: its own choice
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = size)]
    size: Option<(u16, u16)>,
    /// The pictures a second that a camera is asked for, 1 to 240; default: its own choice
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<u16>,
    /// Send the sound of a microphone with a camera: a capture device of ALSA, or the system's own choice
    #[arg(
        long,
        value_name = "DEVICE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = DEFAULT_MICROPHONE,
        value_parser = microphone
    )]
    microphone: Option<String>,
    /// Show on this machine what is on air: starts the program `viewer`, which is beside this one or on the PATH
    #[arg(long)]
    preview: bool,
}

fn size(text: &str) -> Result<(u16, u16), &'static str> {
    camera_size(text).ok_or("write width and height, as in 1280x720")
}

fn rate(text: &str) -> Result<u16, &'static str> {
    let rate = text.parse().ok().filter(|rate| (1..=240).contains(rate));
    rate.ok_or("choose a whole number from 1 to 240 (pictures a second)")
}

fn microphone(text: &str) -> Result<String, &'static str> {
    let named = is_microphone(text).then(|| text.to_owned());
    named.ok_or("name a capture device of ALSA, as in default or plughw:1")
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
        let what = match self.published() {
            Ok(what) => what,
            Err(why) => {
                eprintln!("broadcaster: {}", without_numbers(&why));
                return ExitCode::from(2);
            }
        };
        let (runtime, stop) = match stop_flag() {
            Ok(both) => both,
            Err(error) => return outcome(Err(error.into())),
        };
        let usual = if matches!(what, Published::Film(_)) { 640 } else { MOST_WIDTH };
        let appearance = Appearance { width: self.width.unwrap_or(usual), quality: self.quality };
        let options = Options { appearance, preview: self.preview };
        // A reader that stops reading is no reason to stop.
        let tell = |line: &str| drop(print(&format!("{}\n", without_numbers(line))));
        let published = publisher::publish(what, &self.url, options, &stop, tell);
        debug_assert!(published.is_err() || stop.load(Relaxed));
        runtime.shutdown_timeout(Duration::from_millis(100));
        outcome(published.map_err(|why| anyhow!(why)))
    }

    /// The publisher that the arguments describe.
    ///
    /// # Errors
    /// The sentence that says why it cannot be published.
    fn published(&self) -> Result<Published, String> {
        let Some(device) = self.what.to_str().and_then(CameraDevice::of_argument) else {
            if self.size.is_some() || self.rate.is_some() || self.microphone.is_some() {
                return Err(
                    "--size, --rate and --microphone are for a camera of this machine, as in /dev/video0"
                        .into(),
                );
            }
            decode::open(&self.what).map_err(|error| error.to_string())?;
            return Ok(Published::Film(self.what.clone()));
        };
        fs::metadata(&device.path).map_err(|error| format!("{device} is not there: {error}"))?;
        let has_sound = self.microphone.is_some();
        let microphone = self.microphone.clone().unwrap_or(device.microphone);
        let device = CameraDevice { size: self.size, rate: self.rate, microphone, ..device };
        Ok(Published::Camera { device, has_sound })
    }
}
