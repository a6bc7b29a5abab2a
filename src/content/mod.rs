//! The content of a station: films, from their files to coded access units with due times, and the slate that stands
//! in for them.
//!
//! `station`, `headend` and `daemon` import this room, `rtsp` to play films on demand, and the binary `broadcaster` to make
//! them beforehand. It imports `directory` (limits of text), `lineup`, `media`, `memory`, `paint`, `clock`, `log`, and from
//! `wire` the payload formats, and what SDP offers.
//!
//! ```text
//! playlist -> films -> decode -> encode -> timeline -> Unit        the first pass of a film, which is recorded
//!                \---> reel ----------------------> Unit           every later pass
//! live ------------------------------------> Unit                   a camera's pictures and sound, coded anew only if they must be
//! other stations' units -> decode -> encode -> Unit                a mosaic
//! slate -> encode -> Unit                                          while there is no film to play
//! ```
//!
//! A station asks its `Content` for the next event, hands that to the air, and asks again.
//!
//! - `films`: a station's films, round after round; [`slate`]: the still that stands in for them.
//! - `live`: a source that is live, by HTTP or RTSP or of this machine, and what is published to a station.
//! - `mosaic`: the pictures of other stations, as one.
//! - `playlist`: the films of one round; [`schedule`], `phases`: which of them is on at a time of day.
//! - [`guide`]: what is on and what follows, for people; `title`: their titles.
//! - `programme`: the films of a station for one client; `pass`: one of them without a reel; `sequence`: which is on.
//! - [`catalogue`]: what all stations know of their films.
//! - [`decode`], `transcode`, [`encode`]: from a film file to JPEG. Only `decode` names the decoder.
//! - [`timeline`]: when each picture is due.
//! - [`reel`]: coded films on disk; `recording`: makes a reel during a film's first pass; [`prepare`]: beforehand.
//! - `worker`: threads that may block. Films are looked up, opened and decoded there. If the disk of the reels hangs,
//!   films are played from their files.

pub mod catalogue;
pub mod decode;
pub mod encode;
pub mod film_list;
pub(crate) mod films;
pub mod guide;
#[cfg(not(fuzzing))]
pub(crate) mod live;
#[cfg(fuzzing)]
pub mod live;
pub(crate) mod mosaic;
pub(crate) mod pass;
pub(crate) mod phases;
pub(crate) mod playlist;
pub mod prepare;
pub(crate) mod programme;
pub(crate) mod recording;
pub(crate) mod recording_queue;
pub mod reel;
pub mod schedule;
pub(crate) mod sequence;
pub mod slate;
#[cfg(not(fuzzing))]
pub(crate) mod sound;
#[cfg(fuzzing)]
pub mod sound;
pub mod timeline;
mod title;
pub(crate) mod transcode;
pub(crate) mod worker;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use decode::SourceError;
use films::Films;
use guide::RoundFilm;
use live::Live;
use live::sound::LiveSound;
use mosaic::Mosaic;
use slate::Slate;
use sound::FilmCue;
use worker::STUCK_AFTER;

use crate::clock::AirClock;
use crate::lineup::StationSpec;
use crate::media::{AirTime, FrameRate, MAX_BEHIND, Size, StationId, Unit};

/// In a longer pause between two pictures of a film, the first is repeated at
/// [`REPEAT_RATE`](crate::media::REPEAT_RATE), so that a receiver that tunes in or loses a packet has something to
/// show.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// How long after its content began a station's first picture is due. Decoding the picture takes some 10 ms.
pub(crate) const START_LEAD: Duration = Duration::from_millis(100);

/// The kinds of content that a station shows.
pub(crate) enum Content {
    /// Films, one after the other, for ever.
    Films(Box<Films>),
    /// A live source, or what is published to the station.
    Live(Box<Live>),
    /// Other stations.
    Mosaic(Box<Mosaic>),
    /// For a while, the reason why there is nothing else.
    Slate(Box<Slate>),
}

impl Content {
    /// The next event; `None` at the end of the content. The station asks again when it has handed the event to the
    /// air.
    ///
    /// # Errors
    /// The content cannot go on. If the station asks again, the content tries what follows.
    pub(crate) async fn next(&mut self, output: OutputState) -> Result<Option<ContentEvent>, Fault> {
        match self {
            Content::Films(films) => films.next(output).await,
            Content::Live(live) => live.next().await.map(Some),
            Content::Mosaic(mosaic) => mosaic.next(output).await.map(Some),
            Content::Slate(slate) => slate.next(output).await,
        }
    }

    /// Leaves the film that is on. The next event is of the next film, at `at`.
    pub(crate) fn skip(&mut self, at: AirTime) {
        match self {
            Content::Films(films) => films.skip(at),
            Content::Live(live) => live.rejoin(),
            Content::Mosaic(mosaic) => mosaic.rejoin(),
            Content::Slate(_) => {}
        }
    }

    /// Leaves what is on. The next event is of what is on then at that time of day.
    pub(crate) fn rejoin(&mut self) {
        match self {
            Content::Films(films) => films.rejoin(),
            Content::Live(live) => live.rejoin(),
            Content::Mosaic(mosaic) => mosaic.rejoin(),
            Content::Slate(_) => {}
        }
    }

    /// Waits until the content, which has failed, can go on. Cancel-safe. Never returns if that is only found out by trying.
    pub(crate) async fn revived(&mut self) {
        match self {
            Content::Live(live) => live.revived().await,
            Content::Films(_) | Content::Mosaic(_) | Content::Slate(_) => std::future::pending().await,
        }
    }

    /// From the next film on, or from the next slate on, this configuration of the same station holds.
    pub(crate) fn set_spec(&mut self, spec: Arc<StationSpec>) {
        match self {
            Content::Films(films) => films.set_spec(spec),
            Content::Live(live) => live.set_spec(spec),
            Content::Mosaic(mosaic) => mosaic.set_spec(spec),
            Content::Slate(slate) => slate.set_spec(spec),
        }
    }

    /// Whether a film played to its end, or a live source was on air, since this was asked last.
    pub(crate) fn take_played(&mut self) -> bool {
        match self {
            Content::Films(films) => films.take_played(),
            Content::Live(live) => live.take_played(),
            Content::Mosaic(mosaic) => mosaic.take_played(),
            Content::Slate(_) => false,
        }
    }

    /// The size of all pictures, once known; of a live source, that of the last one.
    pub(crate) fn size(&self) -> Option<Size> {
        match self {
            Content::Films(films) => films.size(),
            Content::Live(live) => live.size(),
            Content::Mosaic(mosaic) => Some(mosaic.size()),
            Content::Slate(slate) => Some(slate.size()),
        }
    }
}

/// The state of a station's output when the station asks its content for the next event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutputState {
    /// The end of the last unit that was handed to the air.
    pub(crate) free_at: AirTime,
    /// Whether a film is on air.
    pub(crate) on_air: bool,
}

/// What comes next on a station.
#[derive(Debug)]
pub(crate) enum ContentEvent {
    /// An access unit for the air.
    Unit {
        /// The unit, due after all units before it.
        unit: Unit,
        /// Whether the picture did not fit at the station's quality, and has a lower one.
        squeezed: bool,
    },
    /// The units that follow are of another kind of content, size or rate.
    Begin {
        /// What the units show.
        kind: ContentKind,
        /// The size of their pictures.
        size: Size,
        /// Their nominal rate.
        rate: FrameRate,
    },
    /// No unit is due before this moment: the last picture stays until then.
    HoldUntil(AirTime),
    /// This many pictures were too late and are left out.
    Skipped(u64),
    /// One picture was late by this much and is left out, and the time line starts anew.
    Reanchored(Duration),
    /// A picture could not be read from its reel and is left out. The first one in a pass of the film has the reason.
    Damaged(Option<String>),
    /// A round of the playlist begins, of these films in this order. Some may be over by now.
    RoundBegins(Vec<RoundFilm>),
    /// The units that follow are of this film, which began, or begins, at a moment: its sound is heard with them.
    Film(FilmCue),
    /// The units that follow are of a live source: this is heard with them.
    LiveSound(Arc<LiveSound>),
    /// Some of the sound of a live source has come.
    SoundHasCome,
}

/// The kind of content that a unit shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ContentKind {
    /// A film, a live source, or what is published.
    Film,
    /// The slate, with this reason.
    Slate(String),
}

/// Why a station shows a slate. The message is painted on it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Encode(#[from] encode::EncodeError),
    #[error("cannot read the list of films: {0}")]
    Programme(io::Error),
    #[error("there is no film to play")]
    NoFilm,
    #[error("the film cannot be read: no picture for {} s", STUCK_AFTER.as_secs())]
    Stuck,
    /// A live source is gone since this time of day.
    #[error("camera lost since {since}: {reason}")]
    Lost { since: String, reason: String },
    /// A live source that has not been on air yet.
    #[error("no picture from the camera: {0}")]
    NoPicture(String),
    #[error("cannot compose the mosaic: {0}")]
    Mosaic(String),
    /// Why nothing is shown of what is published.
    #[error("{0}")]
    NotPublished(String),
    #[error("the decoder crashed")]
    Crashed,
    /// A fault of the recording that several stations play.
    #[error(transparent)]
    Shared(Arc<Fault>),
}

impl Fault {
    /// Whether the films may be all right, but could not be read.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Fault::Source(SourceError::Unreadable { .. })
            | Fault::Stuck
            | Fault::Programme(_)
            | Fault::NoFilm => true,
            Fault::Shared(fault) => fault.is_outage(),
            Fault::Source(_)
            | Fault::Encode(_)
            | Fault::Crashed
            | Fault::Mosaic(_)
            | Fault::Lost { .. }
            | Fault::NoPicture(_)
            | Fault::NotPublished(_) => false,
        }
    }
}

/// The earliest due time of a station's next picture: after all units that were handed to the air, or if the station
/// is too far behind, a short time from now. A station that is a little behind keeps its time line and leaves out late
/// pictures.
#[expect(clippy::disallowed_methods, reason = "a shell: it asks whether the station is behind")]
pub(crate) fn earliest_due(clock: &AirClock, spec: &StationSpec, output: OutputState) -> AirTime {
    let now = clock.now();
    if now.since(output.free_at) < MAX_BEHIND {
        output.free_at
    } else {
        now + START_LEAD + default_phase(spec.id)
    }
}

/// The phase of a station whose programme has none of its own: under 40 ms, so that not all stations send in the same
/// moment.
///
/// The golden ratio spreads any number of stations evenly over 40 ms, the usual interval between pictures, in 256
/// steps. Stations of a large line-up share steps, since waking up costs the air thread three times what a send does
/// (13 us, 4 us). Measured with 999 stations: 21 % of a core instead of 45 %, and the median lateness 10 us higher.
pub fn default_phase(id: StationId) -> Duration {
    let share = (f64::from(id.0) * 0.618_034 % 1.0 * 256.0).floor() / 256.0;
    Duration::from_millis(40).mul_f64(share)
}

/// The attributes of a film's file that tell whether it was changed: bytes, time of modification in seconds and nanoseconds, inode.
/// `None` if there is no file.
type FileState = Option<(u64, i64, i64, u64)>;

/// Those of the file at `path` now. Blocks.
fn file_state(path: &Path) -> FileState {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.mtime(), metadata.mtime_nsec(), metadata.ino()))
}

/// Locks a mutex, even if a thread panicked while it held the lock: no code of this room panics between two changes
/// that belong together.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
