//! What a broadcaster knows of its films: their shape, and the reels there are of them. All stations share it, so a film
//! that a thousand of them play is looked at once. All of it blocks.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::warn;

use super::encoder::station_size;
use super::reel::{Encoding, Recorder, Reel, ReelKey, Store};
use super::source::{Source, SourceError};
use crate::clock::AirClock;
use crate::units::Size;

/// A film's size in pixels, and the width of a pixel by its height.
type Shape = ((u32, u32), f64);

/// A file as it was when it was looked at: length, modification and change in nanoseconds, inode.
type Seen = (u64, i128, i128, u64);

/// The films of a broadcaster.
pub struct Catalogue {
    clock: AirClock,
    store: Option<Store>,
    shapes: Mutex<HashMap<PathBuf, (Seen, Shape)>>,
}

impl Catalogue {
    /// A catalogue that knows nothing yet. Without a store there are no reels.
    pub fn new(clock: AirClock, store: Option<Store>) -> Catalogue {
        Catalogue { clock, store, shapes: Mutex::default() }
    }

    /// Whether reels are kept at all.
    pub fn keeps_reels(&self) -> bool {
        self.store.is_some()
    }

    /// The size of a station of this `width` whose first film this is.
    ///
    /// # Errors
    /// It does not open.
    pub fn station_size(&self, film: &Path, width: u16) -> Result<Size, SourceError> {
        // Held while a film is opened: a thousand stations that start with it open it once.
        let mut shapes = self.shapes.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen(film);
        let known = shapes.get(film).filter(|known| Some(known.0) == seen).map(|known| known.1);
        let (size, pixel_aspect) = match known {
            Some(shape) => shape,
            None => {
                let source = Source::open(film)?;
                let shape = (source.size(), source.pixel_aspect());
                if let Some(seen) = seen {
                    shapes.insert(film.to_owned(), (seen, shape));
                }
                shape
            }
        };
        Ok(station_size(size, pixel_aspect, width))
    }

    /// The key of a film's reel. Reads the whole film if it is new or was changed.
    pub fn key(&self, film: &Path, encoding: Encoding) -> Option<ReelKey> {
        // A film that cannot be read will say so when it is played.
        self.store.as_ref()?.key(film, encoding, self.clock.now()).ok()
    }

    /// The reel of `key`, if it is made.
    pub fn reel(&self, key: &ReelKey) -> Option<Arc<Reel>> {
        self.store.as_ref()?.find(key, self.clock.now())
    }

    /// A recorder for `key`; `None` while another station records it, or when it cannot be.
    pub fn recorder(&self, key: &ReelKey, film: &Path) -> Option<Recorder> {
        match self.store.as_ref()?.record(key, film) {
            Ok(recorder) => recorder,
            Err(error) => {
                warn!("no reel of {}: {error}", film.display());
                None
            }
        }
    }

    /// Throws a reel away that is not what was recorded.
    pub fn discard(&self, reel: &Arc<Reel>) {
        if let Some(store) = &self.store {
            store.discard(reel);
        }
    }
}

fn seen(film: &Path) -> Option<Seen> {
    let m = fs::metadata(film).ok()?;
    let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    Some((m.len(), nanos(m.mtime(), m.mtime_nsec()), nanos(m.ctime(), m.ctime_nsec()), m.ino()))
}
