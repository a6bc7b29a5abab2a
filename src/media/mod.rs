//! The types that both sides of the wire share: access units, their payloads and times. Pure.
//!
//! Any room may import it. It imports nothing of ours.

pub mod jfif;
pub mod jpeg;
pub mod scan;
pub mod time;
#[cfg(feature = "broadcaster")]
pub(crate) mod tracks;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use jpeg::Jpeg;
pub use time::{AirTime, FrameRate, RTP_CLOCK};

/// A station that is further behind than this does not skip pictures to catch up: it starts its grid anew. After an hour of
/// suspend it would have to decode an hour of film in vain.
pub const MAX_BEHIND: Duration = Duration::from_secs(2);

/// Rate at which a still picture is repeated: the slate, and the last picture before a pause in a film. It bounds how long a
/// receiver that tunes in or loses a packet sees nothing.
pub const REPEAT_RATE: FrameRate = match FrameRate::new(5, 1) {
    Some(rate) => rate,
    None => unreachable!(),
};

/// The clock of sound: samples a second, and ticks a second of its RTP timestamps (RFC 7587 section 4.1).
pub const SOUND_CLOCK: u32 = 48_000;

/// Channels of sound, interleaved.
pub const SOUND_CHANNELS: usize = 2;

/// Bytes of a sample of linear sound, of both channels.
pub const LINEAR_SAMPLE: usize = 2 * SOUND_CHANNELS;

/// How many times its own length a unit of sound may be late: 100 ms for one of 20 ms.
const SOUND_PATIENCE: u32 = 5;

/// A station's number, 1..=999: the number that the user types to watch it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StationId(pub u16);

impl fmt::Display for StationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A picture's size in pixels, width by height.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Size {
    /// Pixels in a row.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// When an access unit is on air.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The moment at which its first packet is to be sent.
    pub at: AirTime,
    /// The time until the next unit, as far as that is known. A unit that is later than this is skipped.
    pub interval: Duration,
}

/// What to do with a unit, depending on its lateness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Send it: it is on time, or at most one interval late.
    Air,
    /// Skip it and count it: it is more than one interval late. It is never sent in a burst with the next one.
    Skip,
    /// Start the grid anew: the station is more than [`MAX_BEHIND`] behind.
    Reanchor,
}

impl Due {
    /// What to do at `now` with a unit that is due at `self`.
    pub fn policy(self, now: AirTime) -> Policy {
        let behind = now.since(self.at);
        if behind > MAX_BEHIND.max(self.interval * 2) {
            Policy::Reanchor
        } else if behind > self.interval {
            Policy::Skip
        } else {
            Policy::Air
        }
    }
}

/// An elementary stream of a station: units of one codec, on one RTP clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Track {
    /// The pictures.
    Picture,
    /// The sound.
    Sound,
}

impl Track {
    /// The clock of the track's RTP timestamps, ticks a second.
    pub const fn clock_rate(self) -> u32 {
        match self {
            Track::Picture => RTP_CLOCK,
            Track::Sound => SOUND_CLOCK,
        }
    }
}

/// A codec of sound. Both have 48,000 samples a second and two channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SoundCodec {
    /// Opus (RFC 6716).
    Opus,
    /// Linear samples of 16 bits, left and right in turn, in network byte order: L16 (RFC 3551 section 4.5.11).
    L16,
}

impl SoundCodec {
    /// The codec in the line-up and in JSON.
    pub const fn key(self) -> &'static str {
        match self {
            SoundCodec::Opus => "opus",
            SoundCodec::L16 => "l16",
        }
    }

    /// The codec, its clock and its channels, as SDP has them (RFC 8866 section 6.6).
    pub const fn encoding(self) -> &'static str {
        match self {
            SoundCodec::Opus => "opus/48000/2",
            SoundCodec::L16 => "L16/48000/2",
        }
    }

    /// The codec of an [encoding](Self::encoding), in any case; `None` if it is another one. Any Opus can be decoded by these figures.
    pub fn of_encoding(encoding: &str) -> Option<SoundCodec> {
        if encoding.eq_ignore_ascii_case(SoundCodec::L16.encoding()) {
            return Some(SoundCodec::L16);
        }
        let name = encoding.split('/').next().unwrap_or_default();
        name.eq_ignore_ascii_case("opus").then_some(SoundCodec::Opus)
    }
}

/// The coded content of an access unit, by codec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// One coded picture.
    Jpeg(Jpeg),
    /// One packet of Opus.
    Opus(Bytes),
    /// Up to 20 ms of [`SoundCodec::L16`].
    L16(Bytes),
}

/// An access unit: the content of a track for one moment. Cheap to clone: the payload is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// When the unit is on air, and for how long.
    pub due: Due,
    /// The coded content.
    pub payload: Payload,
    /// Its packets, if they are encrypted for a group: each a datagram. Only the air thread looks at them.
    pub sealed: Option<Arc<Vec<Vec<u8>>>>,
    /// The payload of the [card](crate::wire::signature) that is sent with a signed picture.
    pub card: Option<Arc<[u8]>>,
    /// The reel's picture that this is. `None` if it was read from no complete reel.
    pub stored: Option<StoredPicture>,
}

/// A picture of a reel. While the program runs, all units with this picture have the same payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoredPicture {
    /// The reel's number among all that the program has opened.
    pub reel: u32,
    /// The picture's number in the reel.
    pub number: u32,
}

impl Unit {
    fn new(due: Due, payload: Payload) -> Unit {
        Unit { due, payload, sealed: None, card: None, stored: None }
    }

    /// An access unit with a coded picture.
    pub fn picture(due: Due, jpeg: Jpeg) -> Unit {
        Unit::new(due, Payload::Jpeg(jpeg))
    }

    /// An access unit with a packet of Opus.
    pub fn sound(due: Due, packet: Bytes) -> Unit {
        Unit::new(due, Payload::Opus(packet))
    }

    /// An access unit with up to 20 ms of [`SoundCodec::L16`].
    pub fn linear(due: Due, samples: Bytes) -> Unit {
        Unit::new(due, Payload::L16(samples))
    }

    /// What to do with the unit at `now`. Late sound is still of use, since receivers keep some in reserve, and each unit that is left
    /// out is heard: it has the time of five units.
    pub fn policy(&self, now: AirTime) -> Policy {
        let interval = match self.payload {
            Payload::Jpeg(_) => self.due.interval,
            Payload::Opus(_) | Payload::L16(_) => self.due.interval * SOUND_PATIENCE,
        };
        Due { interval, ..self.due }.policy(now)
    }

    /// The track that the unit belongs to.
    pub const fn track(&self) -> Track {
        match self.payload {
            Payload::Jpeg(_) => Track::Picture,
            Payload::Opus(_) | Payload::L16(_) => Track::Sound,
        }
    }

    /// The coded picture; `None` of a unit of sound.
    pub fn jpeg(&self) -> Option<&Jpeg> {
        match &self.payload {
            Payload::Jpeg(jpeg) => Some(jpeg),
            Payload::Opus(_) | Payload::L16(_) => None,
        }
    }

    /// The RTP timestamp of its first packet: the due time in ticks of the track's clock, modulo 2^32. The packets of a picture all
    /// have it.
    pub fn rtp_timestamp(&self) -> u32 {
        self.due.at.ticks(self.track().clock_rate()) as u32 // the cast is modulo 2^32, as on the wire
    }
}

#[cfg(test)]
impl Unit {
    /// A unit that is due at `at` and has no valid picture, for tests that only pass it on.
    pub(crate) fn blank(at: AirTime, interval: Duration, scan: impl Into<bytes::Bytes>) -> Unit {
        use jpeg::{Chroma, Tables};
        let jpeg = Jpeg {
            size: Size { width: 16, height: 16 },
            chroma: Chroma::Yuv420,
            tables: Tables::Standard(80),
            restart_interval: None,
            scan: scan.into(),
        };
        Unit::picture(Due { at, interval }, jpeg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: AirTime = AirTime(1_790_000_000_000_000_123);

    #[test]
    fn a_late_picture_is_skipped_and_after_a_long_stall_the_grid_starts_anew() {
        let interval = Duration::from_millis(40);
        let due = Due { at: START, interval };
        for (behind_ms, policy) in [
            (0, Policy::Air),
            (40, Policy::Air),
            (41, Policy::Skip),
            (2000, Policy::Skip),
            (2001, Policy::Reanchor),
            (3_600_000, Policy::Reanchor),
        ] {
            assert_eq!(due.policy(START + Duration::from_millis(behind_ms)), policy, "{behind_ms} ms");
        }
        assert_eq!(due.policy(START - Duration::from_secs(1)), Policy::Air);
    }
}
