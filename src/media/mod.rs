//! What both sides of the wire speak of: pictures, their times, and who shows them. Pure; imports nothing of ours.

pub mod jfif;
pub mod jpeg;
pub mod scan;
pub mod time;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use jpeg::Jpeg;
pub use time::{AirTime, FrameRate, RTP_CLOCK};

/// Further behind than this, the station does not catch up by skipping: it starts its grid anew. A machine
/// that slept for an hour would have to decode an hour of film to no use.
pub const MAX_BEHIND: Duration = Duration::from_secs(2);

/// How often a picture that stands still is sent again: a slate's pictures a second, and those of a pause in a film. A receiver that
/// tunes in or loses a packet sees nothing for no longer than that.
pub const REPEAT_RATE: FrameRate = match FrameRate::new(5, 1) {
    Some(rate) => rate,
    None => unreachable!(),
};

/// The number a viewer types to see a station, 1..=999.
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

/// When a picture is on air.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The moment its first packet leaves.
    pub at: AirTime,
    /// The time it has, until the next one as far as that is known: the bound of its lateness.
    pub interval: Duration,
}

/// What to do with a picture, now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// It can be on time: prepare it.
    Air,
    /// It is more than one interval late: leave it out, and count it. Never a burst.
    Skip,
    /// The station is so far behind that the grid starts anew: see [`Timeline::reanchor`](crate::content::timeline::Timeline::reanchor).
    Reanchor,
}

impl Due {
    /// What to do at `now` with a picture that is due then.
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
    /// Its pictures.
    Picture,
}

impl Track {
    /// The clock of the track's RTP timestamps, ticks a second.
    pub const fn clock_rate(self) -> u32 {
        match self {
            Track::Picture => RTP_CLOCK,
        }
    }
}

/// What an access unit carries, by its codec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// One coded picture.
    Jpeg(Jpeg),
}

/// An access unit: what a track presents at one moment, and when. Cheap to clone; what it carries is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// When it is presented, and for how long.
    pub due: Due,
    /// What is presented.
    pub payload: Payload,
}

impl Unit {
    /// A coded picture.
    pub fn picture(due: Due, jpeg: Jpeg) -> Unit {
        Unit { due, payload: Payload::Jpeg(jpeg) }
    }

    /// The track that it belongs to.
    pub const fn track(&self) -> Track {
        match self.payload {
            Payload::Jpeg(_) => Track::Picture,
        }
    }

    /// Its picture.
    pub fn jpeg(&self) -> &Jpeg {
        let Payload::Jpeg(jpeg) = &self.payload;
        jpeg
    }

    /// Its due time in ticks of its track's clock: the timestamp of all its packets.
    pub fn rtp_timestamp(&self) -> u32 {
        self.due.at.ticks(self.track().clock_rate()) as u32 // modulo 2^32 is what the wire wants
    }
}

#[cfg(test)]
impl Unit {
    /// A unit that is due at `at`, of no picture: for the tests of whoever only hands it on.
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
