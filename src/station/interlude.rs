//! An operator's content, which a station shows instead of its programme: takes orders, and goes on with the programme.

use tracing::{error, info, warn};

use super::output::Interrupted;
use super::patience::RETRY;
use super::{ContentEnd, Shown, Station};
use crate::content::Content;
use crate::content::films::Films;
use crate::content::guide::GuideEntry;
use crate::content::sound::FilmCue;
use crate::headend::{HeadEnd, Interlude, StationOrder};

impl Station {
    /// Goes on with the hold of a station that starts again. A film that was shown once is over.
    #[expect(clippy::disallowed_methods, reason = "a shell: a station knows when it came on air")]
    pub(super) fn take_up_interlude(&mut self) {
        self.handle.guide().clear();
        match self.handle.interlude() {
            Some(Interlude::Hold(text)) => {
                let begin = self.head_end.clock.now();
                self.handle.guide().begin_interlude(GuideEntry { title: text.into(), begin, end: None });
            }
            Some(Interlude::Film(_)) => self.handle.orders.set_interlude(None),
            None => {}
        }
    }

    /// Begins what is ordered.
    pub(super) fn take_order(&mut self) {
        let Some((number, order)) = self.output.take_order() else { return };
        self.obeying = Some(number);
        let from = self.output.free_at();
        let before = self.handle.interlude();
        match order {
            StationOrder::Skip if before.is_none() => return self.content.skip(from),
            // The film that was shown once has just ended.
            StationOrder::Resume if before.is_none() => {
                self.obeying = None;
                return self.handle.orders.obeyed(number, None);
            }
            _ => {}
        }
        self.inserted = None;
        let interlude = match order {
            StationOrder::Skip | StationOrder::Resume => None,
            StationOrder::Hold(text) => Some(Interlude::Hold(text)),
            StationOrder::Play(film) => {
                let title = self.head_end.catalogue.likely_title(&film);
                let HeadEnd { clock, catalogue, threads, .. } = &*self.head_end;
                let (size, spec) = (self.content.size(), self.handle.spec());
                let films = Films::once(film, size, &spec, clock.clone(), catalogue.clone(), threads.clone());
                self.inserted = Some(Content::Films(Box::new(films)));
                Some(Interlude::Film(title))
            }
        };
        let spec = self.handle.spec();
        match &interlude {
            Some(Interlude::Hold(text)) => {
                info!("station {} \"{}\" is on hold: {text}", spec.id, spec.name);
                let entry = GuideEntry { title: text.as_str().into(), begin: from, end: None };
                self.handle.guide().begin_interlude(entry);
            }
            Some(Interlude::Film(title)) => {
                info!("station {} \"{}\" shows \"{title}\" once", spec.id, spec.name);
            }
            None => return self.resume(),
        }
        if before.is_none() {
            // The programme goes on underneath, and is joined where it is then.
            self.content.rejoin();
            self.on_air = false;
        }
        self.handle.orders.set_interlude(interlude);
    }

    /// The programme goes on.
    fn resume(&mut self) {
        let spec = self.handle.spec();
        info!("station {} \"{}\" goes on with its programme", spec.id, spec.name);
        self.inserted = None;
        self.on_air = false;
        self.handle.guide().end_interlude(self.output.free_at());
        self.handle.orders.set_interlude(None);
    }

    /// The interlude is over, or cannot go on.
    pub(super) async fn end_interlude(&mut self, end: ContentEnd) -> Result<(), Interrupted> {
        let fault = match end {
            ContentEnd::Failed(fault) => fault,
            ContentEnd::Over | ContentEnd::Revived | ContentEnd::Interrupted(_) => {
                // A hold lasts for longer than a slate.
                if self.inserted.is_some() {
                    self.resume();
                }
                return Ok(());
            }
        };
        let spec = self.handle.spec();
        if self.inserted.is_none() {
            error!("station {} \"{}\" cannot show the slate of its hold: {fault}", spec.id, spec.name);
            return self.output.idle(RETRY.0).await;
        };
        warn!("station {} \"{}\" cannot show the film that was ordered: {fault}", spec.id, spec.name);
        if let Some(number) = self.obeying.take() {
            self.handle.orders.obeyed(number, Some(format!("cannot show the film: {fault}")));
        }
        self.resume();
        Ok(())
    }

    /// Tells the guide of a film that begins, or began.
    pub(super) fn guide_film(&self, shown: Shown, film: &FilmCue) {
        let mut guide = self.handle.guide();
        if shown == Shown::Inserted {
            let title = self.head_end.catalogue.likely_title(&film.path);
            let end = film.length.map(|length| film.begin + length);
            guide.begin_interlude(GuideEntry { title, begin: film.begin, end });
        } else {
            guide.begin_film(film.place, film.begin, film.length);
        }
    }
}
