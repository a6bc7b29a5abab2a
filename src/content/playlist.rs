//! The playlist: the films of one round of a station's programme, with their reels.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use super::catalogue::{Catalogue, FilmReel};
use super::reel::{Encoding, Reel, ReelKey};
use crate::lineup::StationSpec;
use crate::media::{AirTime, Size};

/// A film of the playlist.
#[derive(Debug, Clone)]
pub(crate) struct PlaylistItem {
    pub(crate) path: PathBuf,
    /// The key of the film's reel; `None` if the station keeps no reels, or if the film could not be read in time.
    pub(crate) key: Option<ReelKey>,
    /// A key that stands for it until the film is hashed.
    pub(crate) file_key: Option<ReelKey>,
    pub(crate) reel: Option<Arc<Reel>>,
    /// When the film begins, if the time of day determines that.
    pub(crate) begin: Option<AirTime>,
}

impl PlaylistItem {
    /// A film that has not been looked up.
    pub(crate) fn film(path: PathBuf) -> PlaylistItem {
        PlaylistItem { path, key: None, file_key: None, reel: None, begin: None }
    }
}

impl From<FilmReel> for PlaylistItem {
    fn from((path, reel): FilmReel) -> PlaylistItem {
        PlaylistItem { path, key: Some(*reel.key()), file_key: None, reel: Some(reel), begin: None }
    }
}

/// Looks up the reels of `films`. Blocks. Returns the playlist, and the size of the station: `size` or, without it,
/// the size by the first film that opens.
pub(crate) fn look_up(
    catalogue: &Catalogue,
    spec: &StationSpec,
    size: Option<Size>,
    films: Vec<PathBuf>,
) -> (VecDeque<PlaylistItem>, Option<Size>) {
    let size = size.or_else(|| first_size(catalogue, spec, &films));
    let items = films.into_iter().map(|path| {
        let key =
            size.and_then(|size| catalogue.key(&path, Encoding { size, quality: spec.quality }, spec.slide));
        let reel = key.as_ref().and_then(|key| catalogue.reel(key));
        let glance = |size| catalogue.glance(&path, Encoding { size, quality: spec.quality }, spec.slide);
        let (file_key, _) = size.filter(|_| reel.is_none()).map(glance).unwrap_or_default();
        PlaylistItem { path, key, file_key, reel, begin: None }
    });
    (items.collect(), size)
}

/// The size of the station by the first film that opens. Blocks.
fn first_size(catalogue: &Catalogue, spec: &StationSpec, films: &[PathBuf]) -> Option<Size> {
    films.iter().find_map(|film| catalogue.station_size(film, spec.width).ok())
}

/// As [`look_up`], in a moment: without the hashes of films that are not known yet, and without reels.
pub(crate) fn glance(
    catalogue: &Catalogue,
    spec: &StationSpec,
    size: Option<Size>,
    films: Vec<PathBuf>,
) -> (VecDeque<PlaylistItem>, Option<Size>) {
    let size = size.or_else(|| first_size(catalogue, spec, &films));
    let items = films.into_iter().map(|path| {
        let glance = |size| catalogue.glance(&path, Encoding { size, quality: spec.quality }, spec.slide);
        let (file_key, key) = size.map(glance).unwrap_or_default();
        PlaylistItem { path, key, file_key, reel: None, begin: None }
    });
    (items.collect(), size)
}
