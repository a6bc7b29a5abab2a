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

/// Plays packets that come as `bytes` say: none makes it panic, and all that is heard is a sample. Six bytes come before each packet: its
/// codec and marker, by how much its number and its time stamp differ from those before, how long after that one it arrives, and
/// its length.
#[cfg(fuzzing)]
pub fn fuzz(bytes: &[u8]) {
    use std::time::Duration;

    use crate::media::{AirTime, SoundCodec};
    use crate::wire::rtp::Header;

    let mut mixer = Mixer::new(crate::media::SOUND_CLOCK, decode::SoundDecoder::new);
    mixer.tune(1, None);
    mixer.hear(Some(1));
    let (mut now, mut sequence, mut timestamp) = (AirTime(1_790_000_000_000_000_000), 0u16, 0u32);
    let mut rest = bytes;
    while let Some((&[kind, number, high, low, wait, length], tail)) = rest.split_first_chunk() {
        let (packet, after) = tail.split_at(tail.len().min(length.into()));
        rest = after;
        let codec = if kind & 1 == 0 { SoundCodec::Opus } else { SoundCodec::L16 };
        sequence = sequence.wrapping_add(i16::from(number as i8) as u16);
        timestamp = timestamp.wrapping_add(i32::from(i16::from_be_bytes([high, low])) as u32);
        let payload_type = kind >> 1;
        let header =
            Header { marker: kind & 2 != 0, payload_type, sequence, timestamp, ssrc: u32::from(kind >> 7) };
        mixer.handle_packet(1, now, codec, header, packet);
        for _ in 0..wait % 16 {
            let mut block = [[0.0; 2]; sink::BLOCK];
            mixer.render(now, &mut block);
            assert!(block.as_flattened().iter().all(|sample| (-1.0..=1.0).contains(sample)));
            now = now + Duration::from_millis(5);
        }
    }
}
