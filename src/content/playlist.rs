//! The films of a round, and what is known of each.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use super::catalogue::Catalogue;
use super::reel::{Encoding, Reel, ReelKey};
use crate::lineup::StationSpec;
use crate::media::{AirTime, Size};

/// A film of the round.
#[derive(Debug, Clone)]
pub(crate) struct PlaylistItem {
    pub(crate) path: PathBuf,
    /// What its reel is called; `None` where there shall be none, or the film could not be read in time.
    pub(crate) key: Option<ReelKey>,
    pub(crate) reel: Option<Arc<Reel>>,
    /// When it begins, if that is settled by the time of day.
    pub(crate) begin: Option<AirTime>,
}

/// What is known of the films of a round, and the station's size by the first of them that opens.
pub(crate) fn look_up(
    catalogue: &Catalogue,
    spec: &StationSpec,
    size: Option<Size>,
    films: Vec<PathBuf>,
) -> (VecDeque<PlaylistItem>, Option<Size>) {
    let first = || films.iter().find_map(|film| catalogue.station_size(film, spec.width).ok());
    let size = size.or_else(first);
    let items = films.into_iter().map(|path| {
        let key =
            size.and_then(|size| catalogue.key(&path, Encoding { size, quality: spec.quality }, spec.slide));
        let reel = key.as_ref().and_then(|key| catalogue.reel(key));
        PlaylistItem { path, key, reel, begin: None }
    });
    (items.collect(), size)
}
