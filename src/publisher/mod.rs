//! Our own publisher, behind `broadcaster publish`: sends a film, or a camera of this machine, to the RTSP server of a broadcaster, by
//! ANNOUNCE and RECORD. Whatever fails on the way, it connects again.
//!
//! Only the binary imports it. It imports `content` (films and cameras), `clock`, `lineup` (the choice of sound, and of a camera), `media` and `wire`.
//!
//! - [`target`]: the URL that is published to.
//! - `connection`: the requests, and the packets in the connection.
//! - `film_player`: the film's pictures and sound, each when it is due. `camera_player`: a camera's, as they come.
//! - `preview`: a viewer that shows what is on air.

mod camera_player;
mod connection;
mod film_player;
mod preview;
pub mod target;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use camera_player::CameraPlayer;
use connection::{PublishConnection, PublishFailure};
use film_player::FilmPlayer;
use preview::Preview;
use target::PublishUrl;

use crate::lineup::CameraDevice;
use crate::media::Unit;

pub use film_player::Appearance;

/// The source of what is published.
#[derive(Debug, Clone)]
pub enum Published {
    /// The film at this path, over and over.
    Film(PathBuf),
    /// A camera of this machine.
    Camera {
        /// The camera, and the microphone beside it.
        device: CameraDevice,
        /// Whether the microphone is heard.
        has_sound: bool,
    },
}

/// How it is published.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Size and quality of the pictures that are encoded.
    pub appearance: Appearance,
    /// Whether a viewer shows on this machine what is on air.
    pub preview: bool,
}

/// The result of asking a player for its next unit.
enum NextUnit {
    /// This is due now.
    Unit(Unit),
    /// Nothing is due: a picture was too late and is left out, or none has come for a moment.
    Nothing,
    /// The source is lost, for this reason, and is tried again.
    Lost(String),
}

/// A source of units, each of which it gives when it is due.
trait Player {
    /// Whether there is sound.
    fn has_sound(&self) -> bool;

    /// Goes on from now.
    fn begin(&mut self);

    /// The next piece, when it is due. Returns several times a second.
    ///
    /// # Errors
    /// The sentence that says why there are no more.
    fn next(&mut self) -> Result<NextUnit, String>;
}

/// Shortest and longest pause before the publisher connects again. It doubles with each failure in a row.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// How often a pause looks whether it is to end.
const GLANCE: Duration = Duration::from_millis(50);

/// Publishes until `stop` is true. `tell` gets a line a second, and one for each failure.
///
/// # Errors
/// The sentence that says why it cannot be published, now or later: the film cannot be played, or the server refuses for good.
#[expect(clippy::disallowed_methods, reason = "a shell: it publishes in real time")]
pub fn publish(
    what: Published,
    url: &PublishUrl,
    options: Options,
    stop: &AtomicBool,
    mut tell: impl FnMut(&str),
) -> Result<(), String> {
    let mut player: Box<dyn Player> = match what {
        Published::Film(path) => {
            Box::new(FilmPlayer::open(&path, options.appearance).map_err(|error| error.to_string())?)
        }
        Published::Camera { device, has_sound } => {
            Box::new(CameraPlayer::new(device, has_sound, options.appearance)?)
        }
    };
    let mut preview = options.preview.then(Preview::default);
    let mut pause = RETRY.0;
    while !stop.load(Relaxed) {
        let began = Instant::now();
        let failed = match PublishConnection::open(url, player.has_sound()) {
            Ok(mut connection) => {
                tell(&format!("published to {url}"));
                match run(&mut *player, &mut connection, &mut preview, stop, &mut tell)? {
                    Some(why) => PublishFailure::Now(why),
                    None => return Ok(()),
                }
            }
            Err(failed) => failed,
        };
        let why = match failed {
            PublishFailure::ForGood(why) => return Err(why),
            PublishFailure::Now(why) => why,
        };
        if began.elapsed() > RETRY.1 {
            pause = RETRY.0;
        }
        tell(&format!("not published: {why}; trying again in {} s", pause.as_secs()));
        let until = Instant::now() + pause;
        while Instant::now() < until && !stop.load(Relaxed) {
            sleep(GLANCE);
        }
        pause = (pause * 2).min(RETRY.1);
    }
    Ok(())
}

/// Sends what is played until it is to stop, or until the connection breaks. Returns why it did.
#[expect(clippy::disallowed_methods, reason = "a shell: it publishes in real time")]
fn run(
    player: &mut dyn Player,
    connection: &mut PublishConnection,
    preview: &mut Option<Preview>,
    stop: &AtomicBool,
    tell: &mut impl FnMut(&str),
) -> Result<Option<String>, String> {
    player.begin();
    let began = Instant::now();
    let (mut second, mut pictures, mut bytes) = (Instant::now(), 0u32, 0usize);
    while !stop.load(Relaxed) {
        let sent = match player.next()? {
            NextUnit::Unit(unit) => {
                pictures += u32::from(unit.jpeg().is_some());
                connection.send(&unit)
            }
            NextUnit::Nothing => Ok(0),
            NextUnit::Lost(why) => {
                tell(&format!("nothing to send: {why}; trying again"));
                Ok(0)
            }
        };
        match sent {
            Ok(sent) => bytes += sent,
            Err(error) => return Ok(Some(format!("the connection broke: {error}"))),
        }
        let span = second.elapsed();
        if span >= Duration::from_secs(1) {
            if let Err(error) = connection.report() {
                return Ok(Some(format!("the connection broke: {error}")));
            }
            let each = span.as_secs_f64();
            tell(&format!(
                "on air for {} s: {:.1} pictures/s, {:.1} Mbit/s",
                began.elapsed().as_secs(),
                f64::from(pictures) / each,
                bytes as f64 * 8e-6 / each
            ));
            if let Some(preview) = preview.as_mut().filter(|_| pictures > 0) {
                preview.show(connection.watched_at(), tell);
            }
            (second, pictures, bytes) = (Instant::now(), 0, 0);
        }
    }
    connection.close();
    Ok(None)
}
