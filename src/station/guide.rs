//! Keeps a station's guide: tells it which films a round has, and looks up their titles.

use std::sync::Arc;

use crate::content::catalogue::Catalogue;
use crate::content::guide::{GuideFilm, RoundFilm};
use crate::content::worker::{BlockingWorker, STUCK_AFTER, Threads};
use crate::headend::StationHandle;

/// Keeps the guide of one station.
pub(super) struct GuideKeeper {
    handle: Arc<StationHandle>,
    catalogue: Arc<Catalogue>,
    /// Looks up titles. While it is stuck, films have the titles that are known, or the names of their files.
    worker: BlockingWorker,
}

impl GuideKeeper {
    pub(super) fn new(
        handle: Arc<StationHandle>,
        catalogue: Arc<Catalogue>,
        threads: Threads,
    ) -> GuideKeeper {
        GuideKeeper { handle, catalogue, worker: BlockingWorker::new(threads) }
    }

    /// A round of these films begins. Does not wait for their titles. A thread is needed only if some are not known, or are old.
    pub(super) fn begin_round(&mut self, films: Vec<RoundFilm>) {
        let likely = |film: &RoundFilm| GuideFilm {
            title: self.catalogue.likely_title(&film.path),
            length: film.length,
        };
        let round = self.handle.guide().begin_round(films.iter().map(likely).collect());
        let is_known =
            |film: &RoundFilm| film.length.is_some() && self.catalogue.recent_title(&film.path).is_some();
        if films.iter().all(is_known) {
            return;
        }
        let (handle, catalogue) = (self.handle.clone(), self.catalogue.clone());
        self.worker.start(STUCK_AFTER, move || {
            let found = |film: RoundFilm| GuideFilm {
                title: catalogue.title(&film.path),
                length: film.length.or_else(|| catalogue.claimed_length(&film.path, handle.spec.slide)),
            };
            let films = films.into_iter().map(found).collect();
            handle.guide().set_films(round, films);
        });
    }
}
