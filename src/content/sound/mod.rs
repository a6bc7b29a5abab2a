//! The sound of films: decoded once, brought to one loudness, coded as Opus, and kept on disk beside the reels.
//!
//! The rest of `content` imports this room, and `station`, which hands its packets to the air. It imports `lineup` (which sound a
//! station has), `media`, and the film files of `content::decode`.
//!
//! ```text
//! film -> SoundSource -> loudness -> Opus -> SoundReel        once for each film and choice, by the thread of the SoundStore
//! SoundReel -> SoundLine -> Unit                              whenever the film is on air
//! ```
//!
//! - [`source`]: a film's sound as samples, on the time line of its pictures; [`resampler`]: all of one rate and two channels.
//! - [`make`]: loudness, and the film's round as a circle of Opus packets.
//! - [`reel`]: those packets in a file.
//! - [`store`]: finds the sound of a film, or has it made.
//! - [`line`]: which packet is due when, film after film, or of a live source. Pure.
//! - [`linear`]: the packets as linear samples, for stations and clients that want those.

pub(crate) mod line;
pub(crate) mod linear;
pub(crate) mod make;
#[cfg(not(fuzzing))]
pub(crate) mod reel;
#[cfg(fuzzing)]
pub mod reel;
pub(crate) mod resampler;
pub(crate) mod source;
pub(crate) mod store;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use crate::lineup::StationSpec;
use crate::media::AirTime;
pub(crate) use line::{SoundCue, SoundLine, sample, time as moment};
use make::SoundOrder;
pub(crate) use store::{Found, SoundStore};

/// Samples a second of each channel: what Opus codes, and the clock of its RTP timestamps (RFC 7587 section 4.1).
pub(crate) const RATE: u32 = crate::media::SOUND_CLOCK;

/// Channels, interleaved.
pub(crate) const CHANNELS: usize = crate::media::SOUND_CHANNELS;

/// Samples of a usual packet: 20 ms, the default of RFC 7587 section 4.2.
pub(crate) const FRAME: u32 = RATE / 50;

/// Samples of the shortest packet: 2.5 ms. Packets as short as that fill what is left of a film's round.
pub(crate) const SHORT: u32 = RATE / 400;

/// The length of a packet of Opus, in samples (RFC 6716 section 3.1). `None` if it is none.
pub(crate) fn opus_samples(packet: &[u8]) -> Option<u32> {
    let samples = opus::packet::get_nb_samples(packet, RATE).ok()?;
    u32::try_from(samples).ok().filter(|samples| *samples > 0)
}

/// A film that is on air from a moment on.
#[derive(Debug, Clone)]
pub(crate) struct FilmCue {
    pub(crate) path: PathBuf,
    /// When its beginning is due, or was.
    pub(crate) begin: AirTime,
    /// The length of its round; `None` if it is not known, and then no sound of it either.
    pub(crate) length: Option<Duration>,
    /// Its place in the round, from 0.
    pub(crate) place: usize,
}

/// The sound that a station of this `spec` wants of a film whose round takes `length`.
pub(crate) fn order(spec: &StationSpec, length: Duration) -> SoundOrder {
    SoundOrder {
        choice: spec.sound.clone(),
        length: SoundOrder::samples(length),
        bitrate: spec.sound_bitrate,
        loudness: spec.loudness,
    }
}
