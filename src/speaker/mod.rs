//! The speaker: packets of sound and time in, samples for a sound device out, in step with the pictures.
//!
//! Only the viewer imports this room. It imports `media`, `wire`, `clock`, `directory` (the packets that a Tune is answered
//! with), `interface`, `log`, and of `tuner` the socket, and the connection in which sound may come.
//!
//! ```text
//! group, port + 2 -> SoundReceiver -> SoundBuffer -> Decode -> Resampler (Pilot) -> Mixer -> Sink -> device, or WAV
//! ```
//!
//! [`Mixer`] and all behind it are pure: they read no clock, and own no socket and no device. The shell is the
//! [`service`], one thread that is handed packets and hands samples to a [`Sink`].
//!
//! A sample that is due at t leaves the broadcaster at t, and is heard at t + transit + delay. The transit is the least
//! difference of arrival and due time of late, so that it holds also if the two clocks disagree; the delay is what packets
//! need for their jitter and the device for its buffer. Pictures are shown at their arrival as long as no sound is heard, and
//! then at the same t + transit + delay, so that the two are in step.

mod buffer;
mod decode;
#[cfg(feature = "sound")]
mod device;
mod meter;
mod mixer;
mod pilot;
mod receiver;
mod resample;
pub mod service;
mod sink;
#[cfg(test)]
mod tests;
mod transit;
mod voice;
pub mod volume;
mod wav;

pub use decode::Decode;
pub(crate) use meter::LevelMeter;
pub use mixer::{HeardAt, Mixer, SoundCounters, SoundStatus};
pub(crate) use receiver::{SoundFrom, SoundReceiver};
pub(crate) use service::SpeakerInput;
pub use service::{Output, Speaker};
pub use sink::Sink;

/// A sample of both channels, left and right, -1.0..=1.0.
pub type Frame = [f32; 2];
