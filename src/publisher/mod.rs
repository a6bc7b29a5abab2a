//! Our own publisher, behind `broadcaster publish`: plays a film and sends it to the RTSP server of a broadcaster, by ANNOUNCE and
//! RECORD. Whatever fails on the way, it connects again.
//!
//! Only the binary imports it. It imports `content` (films), `clock`, `lineup` (the choice of sound), `media` and `wire`.
//!
//! - [`target`]: the URL that is published to.
//! - `connection`: the requests, and the packets in the connection.
//! - `film_player`: the film's pictures and sound, each when it is due.

mod connection;
mod film_player;
pub mod target;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use connection::{PublishConnection, PublishFailure};
use film_player::{FilmPlayer, NextUnit};
use target::PublishUrl;

pub use film_player::Appearance;

/// Shortest and longest pause before the publisher connects again. It doubles with each failure in a row.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// How often a pause looks whether it is to end.
const GLANCE: Duration = Duration::from_millis(50);

/// Publishes the film at `path` until `stop` is true. `tell` gets a line a second, and one for each failure.
///
/// # Errors
/// The sentence that says why it cannot be published, now or later: the film cannot be played, or the server refuses for good.
#[expect(clippy::disallowed_methods, reason = "a shell: it publishes in real time")]
pub fn publish(
    path: &Path,
    url: &PublishUrl,
    appearance: Appearance,
    stop: &AtomicBool,
    mut tell: impl FnMut(&str),
) -> Result<(), String> {
    let mut player = FilmPlayer::open(path, appearance).map_err(|error| error.to_string())?;
    let mut pause = RETRY.0;
    while !stop.load(Relaxed) {
        let began = Instant::now();
        let failed = match PublishConnection::open(url, player.has_sound()) {
            Ok(mut connection) => {
                tell(&format!("published to {url}"));
                match run(&mut player, &mut connection, stop, &mut tell)? {
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
    player: &mut FilmPlayer,
    connection: &mut PublishConnection,
    stop: &AtomicBool,
    tell: &mut impl FnMut(&str),
) -> Result<Option<String>, String> {
    player.begin();
    let began = Instant::now();
    let (mut second, mut pictures, mut bytes) = (Instant::now(), 0u32, 0usize);
    while !stop.load(Relaxed) {
        let sent = match player.next().map_err(|error| error.to_string())? {
            NextUnit::Unit(unit) => {
                pictures += u32::from(unit.jpeg().is_some());
                connection.send(&unit)
            }
            NextUnit::Late => continue,
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
            (second, pictures, bytes) = (Instant::now(), 0, 0);
        }
    }
    connection.close();
    Ok(None)
}
