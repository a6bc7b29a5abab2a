//! The films of a station as one programme for one client, with reels or without.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::catalogue::Catalogue;
use super::decode::SourceError;
use super::encode::station_size;
use super::recording::RecordingKey;
use super::reel::{Encoding, Reel, ReelKey};
use super::sequence::FilmSequence;
use crate::lineup::{self, StationSpec};
use crate::media::{FrameRate, Size};

/// Why a station cannot be played on demand.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotPlayable {
    #[error("cannot read the list of films: {0}")]
    Unreadable(io::Error),
    #[error("there is no film to play")]
    NoFilm,
    /// No film can be played; this is what is wrong with the first.
    #[error(transparent)]
    Film(SourceError),
    #[error("no film of the station says how long it is")]
    NoLength,
    #[error("the station is live, and has no films to play on demand")]
    Live,
    #[error("the station shows others, and has no films to play on demand")]
    Mosaic,
}

/// The films of a station that can be played, in order.
#[derive(Debug)]
pub(crate) struct Programme {
    films: Vec<ProgrammeFilm>,
    sequence: FilmSequence,
    encoding: Encoding,
    /// How long a picture file is on.
    slide: Duration,
}

#[derive(Debug)]
struct ProgrammeFilm {
    path: PathBuf,
    rate: FrameRate,
    /// Empty while it has none.
    reel: OnceLock<Arc<Reel>>,
    /// Whether a reel of it may appear.
    has_reels: bool,
}

impl Programme {
    /// The programme of a station, whose pictures have `size` if it is known. A film that cannot be played is left out. Blocks: films
    /// that are new are opened, and small ones are read.
    ///
    /// # Errors
    /// No film can be played.
    pub(crate) fn look_up(
        catalogue: &Catalogue,
        spec: &StationSpec,
        size: Option<Size>,
    ) -> Result<Programme, NotPlayable> {
        if spec.media.live().is_some() {
            return Err(NotPlayable::Live);
        }
        if !spec.media.mosaic().is_empty() {
            return Err(NotPlayable::Mosaic);
        }
        let paths = lineup::films(spec.media.films()).map_err(NotPlayable::Unreadable)?;
        let outline = |path: &PathBuf| catalogue.outline(path, spec.slide);
        let first = || {
            let outline = paths.iter().find_map(|path| outline(path).ok())?;
            Some(station_size(outline.size, outline.pixel_aspect, spec.width))
        };
        let has_reels = spec.reel && catalogue.keeps_reels();
        let mut reason = NotPlayable::NoFilm;
        let Some(size) = size.or_else(first) else {
            return Err(match paths.first().map(outline) {
                Some(Err(error)) => NotPlayable::Film(error),
                Some(Ok(_)) | None => reason,
            });
        };
        let encoding = Encoding { size, quality: spec.quality };
        let (mut films, mut lengths) = (Vec::new(), Vec::new());
        for path in paths {
            let reel = has_reels.then(|| catalogue.reel_at_once(&path, encoding, spec.slide)).flatten();
            let known = match &reel {
                Some(reel) => Ok((reel.rate(), Some(reel.length()))),
                None => outline(&path).map(|outline| (outline.rate, outline.length)),
            };
            match known {
                Ok((rate, Some(length))) => {
                    let reel = reel.map(OnceLock::from).unwrap_or_default();
                    films.push(ProgrammeFilm { path, rate, reel, has_reels });
                    lengths.push(length);
                }
                Ok((_, None)) if matches!(reason, NotPlayable::NoFilm) => reason = NotPlayable::NoLength,
                Err(error) if matches!(reason, NotPlayable::NoFilm) => reason = NotPlayable::Film(error),
                Ok((_, None)) | Err(_) => {}
            }
        }
        let sequence = FilmSequence::new(lengths).ok_or(reason)?;
        Ok(Programme { films, sequence, encoding, slide: spec.slide })
    }

    /// When each film begins and ends. Exact for films with reels; of others it is what their containers claim.
    pub(crate) fn sequence(&self) -> &FilmSequence {
        &self.sequence
    }

    /// The rate of the films, if all have the same.
    pub(crate) fn rate(&self) -> Option<FrameRate> {
        let first = self.films.first()?.rate;
        self.films.iter().all(|film| film.rate == first).then_some(first)
    }

    /// The nominal rate of a film.
    pub(crate) fn rate_of(&self, film: usize) -> FrameRate {
        self.films[film].rate
    }

    /// Whether films must be encoded to be played.
    pub(crate) fn lacks_reels(&self) -> bool {
        self.films.iter().any(|film| film.reel.get().is_none())
    }

    /// The reel of a film, if it has one.
    pub(crate) fn reel(&self, film: usize) -> Option<&Arc<Reel>> {
        self.films[film].reel.get()
    }

    /// Looks whether a film has got a reel by now. Blocks.
    pub(super) fn find_reel(&self, film: usize, catalogue: &Catalogue) -> bool {
        let ProgrammeFilm { path, reel, has_reels, .. } = &self.films[film];
        if reel.get().is_none()
            && *has_reels
            && let Some(found) = catalogue.reel_at_once(path, self.encoding, self.slide)
        {
            // Another thread may have found it, too.
            let _ = reel.set(found);
        }
        reel.get().is_some()
    }

    pub(crate) fn path(&self, film: usize) -> &PathBuf {
        &self.films[film].path
    }

    /// The keys by which a film's recording is known, if it is recorded: for stations of this encoding. Blocks.
    pub(super) fn recording_keys(
        &self,
        film: usize,
        catalogue: &Catalogue,
    ) -> Option<(RecordingKey, Option<ReelKey>)> {
        let ProgrammeFilm { path, has_reels, .. } = &self.films[film];
        let (file_key, key) =
            if *has_reels { catalogue.glance(path, self.encoding, self.slide) } else { (None, None) };
        let any = key.map(RecordingKey::Film).or(file_key.map(RecordingKey::File))?;
        Some((any, file_key))
    }

    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    pub(super) fn slide(&self) -> Duration {
        self.slide
    }
}

#[cfg(test)]
impl Programme {
    /// A programme of films with these rates and lengths, or of these reels.
    pub(crate) fn of(
        films: Vec<(PathBuf, FrameRate, Duration, Option<Arc<Reel>>)>,
        encoding: Encoding,
    ) -> Programme {
        let sequence = FilmSequence::new(films.iter().map(|(_, _, length, _)| *length)).unwrap();
        let film = |(path, rate, _, reel): (_, _, _, Option<Arc<Reel>>)| {
            let reel = reel.map(OnceLock::from).unwrap_or_default();
            ProgrammeFilm { path, rate, reel, has_reels: true }
        };
        let films = films.into_iter().map(film).collect();
        Programme { films, sequence, encoding, slide: Duration::from_secs(10) }
    }

    /// A programme of reels of the same encoding.
    pub(crate) fn of_reels(reels: Vec<Arc<Reel>>) -> Programme {
        let encoding = reels[0].key().encoding();
        let film = |reel: Arc<Reel>| (PathBuf::new(), reel.rate(), reel.length(), Some(reel));
        Programme::of(reels.into_iter().map(film).collect(), encoding)
    }
}
