//! What a zapper tells its application: events with pictures, and whether pictures arrive.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::directory::FilmOnAir;
use crate::media::StationId;
use crate::tuner::ReceivedPicture;

/// A coded picture, from the directory or from the station.
#[derive(Debug, Clone)]
pub enum CodedPicture {
    /// The picture on air when the directory was asked, a complete JPEG file.
    Directory(Vec<u8>),
    /// A picture received from the station.
    Air(ReceivedPicture),
}

impl CodedPicture {
    /// The picture as a JPEG file.
    pub fn into_jfif(self) -> Vec<u8> {
        match self {
            CodedPicture::Directory(file) => file,
            CodedPicture::Air(received) => received.jpeg.to_jfif(),
        }
    }
}

/// An event for the application, returned by [`Zapper::next`](super::Zapper::next).
#[derive(Debug)]
pub enum ZapperEvent {
    /// A picture to show. Call [`Zapper::shown`](super::Zapper::shown) when it has been.
    Picture {
        /// Its station.
        station: StationId,
        /// The picture.
        picture: CodedPicture,
    },
    /// [`Zapper::line_up`](super::Zapper::line_up) has changed.
    LineUp,
    /// The films of the span that was asked for by [`Zapper::ask_guide`](super::Zapper::ask_guide), by the stations' numbers; `None` if
    /// the directory does not tell them.
    Guide(Option<BTreeMap<StationId, Vec<FilmOnAir>>>),
    /// The line-up has no such station. One that was chosen before there was a line-up stays wanted.
    NoSuchStation(StationId),
    /// The directory cannot be reached. Reception continues.
    DirectoryLost {
        /// Why, for people.
        reason: String,
        /// Whether something answers at its address.
        reached: bool,
        /// Pause before the next attempt.
        retry_in: Duration,
    },
}

/// Whether pictures of the chosen station arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalState {
    /// None has arrived yet.
    Waiting,
    /// Pictures arrive.
    Live,
    /// None has arrived for this long.
    Lost(Duration),
}
