//! What a station shows: files to access units that are coded and placed in time. Imported by the station, the head-end, RTSP (which
//! plays reels on demand) and the daemon; imports media, wire, lineup, paint and the clock.
//!
//! A station asks its [`Content`] for what comes next, hands that to the air, and asks again. Films are looked up, opened and decoded
//! on [threads that may block](worker), and never wait for a disk that reels are on; the slate stands in for them.
//!
//! ```text
//! playlist -> films -> decode -> encode -> timeline -> Unit        the first pass of a film, recorded on the way
//!                \---> reel ----------------------> Unit        every pass after that
//! slate -> encode -> Unit                                         while there is no film to play
//! ```

pub mod catalogue;
pub mod decode;
pub mod encode;
pub mod film_list;
pub(crate) mod films;
pub(crate) mod playlist;
pub mod prepare;
pub(crate) mod recording;
pub mod reel;
pub mod schedule;
pub mod slate;
pub mod timeline;
pub(crate) mod transcode;
pub(crate) mod worker;

use std::io;
use std::time::Duration;

use decode::SourceError;
use films::Films;
use slate::Slate;
use worker::STUCK;

use crate::clock::AirClock;
use crate::lineup::StationSpec;
use crate::media::{AirTime, FrameRate, MAX_BEHIND, Size, StationId, Unit};

/// A film whose stamps leave a longer pause has its last picture repeated at [`REPEAT_RATE`](crate::media::REPEAT_RATE), so that a
/// receiver that tunes in or loses a packet meanwhile has something to show.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// The first picture of a station is due so long after its content began: decoding it takes some 10 ms.
pub(crate) const START_LEAD: Duration = Duration::from_millis(100);

/// What a station shows.
pub(crate) enum Content {
    /// Films, one after the other, for ever.
    Films(Box<Films>),
    /// The reason why there is nothing else, for a while.
    Slate(Box<Slate>),
}

impl Content {
    /// What comes next; `None` when the content is over. The station asks again once it has handed that to the air.
    ///
    /// # Errors
    /// It cannot go on. Asked again, it tries with what follows.
    pub(crate) async fn next(&mut self, at: Position) -> Result<Option<Event>, Fault> {
        match self {
            Content::Films(films) => films.next(at).await.map(Some),
            Content::Slate(slate) => slate.next(at).await,
        }
    }

    /// Whether some film played to its end since this was asked last.
    pub(crate) fn take_played(&mut self) -> bool {
        match self {
            Content::Films(films) => films.take_played(),
            Content::Slate(_) => false,
        }
    }

    /// The size of its pictures, once that is known.
    pub(crate) fn size(&self) -> Option<Size> {
        match self {
            Content::Films(films) => films.size(),
            Content::Slate(slate) => Some(slate.size()),
        }
    }
}

/// How far a station is when it asks its content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    /// When what has been handed to the air is over.
    pub(crate) free_at: AirTime,
    /// A film is on air.
    pub(crate) on_air: bool,
}

/// What comes next on a station.
#[derive(Debug)]
pub(crate) enum Event {
    /// An access unit for the air.
    Unit {
        /// The unit, due after all before it.
        unit: Unit,
        /// It did not fit at the station's quality, and has a lower one.
        squeezed: bool,
    },
    /// The units that follow show something else.
    Shows {
        /// What that is.
        showing: Showing,
        /// Its pictures' size.
        size: Size,
        /// Its nominal rate.
        rate: FrameRate,
    },
    /// The station has nothing of its own to say before this moment: the last picture lasts until then.
    Until(AirTime),
    /// So many pictures could not be on time, and are left out.
    Skipped(u64),
    /// The same of one picture that was behind by so much that the time line starts anew.
    StoodStill(Duration),
    /// A picture could not be read from its reel, for this reason, and is left out. Told once a pass.
    Damaged(Option<String>),
    /// A round of the playlist begins.
    Round,
}

/// What the units of a station show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Showing {
    /// A film.
    Film,
    /// The slate, with this reason.
    Slate(String),
}

/// Why a station shows a slate. The sentence is on it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Encode(#[from] encode::EncodeError),
    #[error("cannot read the programme: {0}")]
    Programme(io::Error),
    #[error("there is no film to play")]
    NoFilm,
    #[error("the film cannot be read: no picture for {} s", STUCK.as_secs())]
    Stuck,
    #[error("the decoder crashed")]
    Crashed,
}

/// When the next picture of a station can be on air: after those that are on their way, and not at once. A station that is a
/// little behind keeps its time line and leaves out what is late.
pub(crate) fn earliest(clock: &AirClock, spec: &StationSpec, at: Position) -> AirTime {
    let now = clock.now();
    if now.since(at.free_at) < MAX_BEHIND { at.free_at } else { now + START_LEAD + phase(spec.id) }
}

/// A station's own share of a moment, under 40 ms, so that stations do not all fire in the same one. The golden ratio spreads any
/// number of stations evenly over 40 ms, the usual interval, on a grid of 256: waking up costs the air thread three times what a send
/// does (13 us, 4 us), so the stations of a crowd share their moments. Measured with 999 stations: 21 % of a core instead of 45, and
/// p50 10 us later.
pub fn phase(id: StationId) -> Duration {
    let share = (f64::from(id.0) * 0.618_034 % 1.0 * 256.0).floor() / 256.0;
    Duration::from_millis(40).mul_f64(share)
}
