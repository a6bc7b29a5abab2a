//! What a station shows: films, from a file to pictures that are coded and placed in time; and the slate that stands in for them.

pub mod catalogue;
pub mod decode;
pub mod encode;
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
use worker::STUCK;

/// A film whose stamps leave a longer pause has its last picture repeated at [`REPEAT_RATE`](crate::media::REPEAT_RATE): who tunes in
/// or loses a packet meanwhile shall not look at nothing.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_millis(400);

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
    /// Not a fault: the daemon ends.
    #[error("the broadcaster is stopping")]
    Stopping,
}
