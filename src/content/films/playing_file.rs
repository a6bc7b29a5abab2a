//! A film that one station plays from its file, for itself, since it has no reel and cannot have one.

use std::path::PathBuf;
use std::time::Duration;

use super::{Films, NowPlaying};
use crate::content::encode::Encoded;
use crate::content::sound::FilmCue;
use crate::content::transcode::{Batch, BatchEnd, OpenedFilm, TranscodedPicture, Transcoder};
use crate::content::worker::STUCK_AFTER;
use crate::content::{ContentEvent, ContentKind, Fault, OutputState, earliest_due};
use crate::media::{AirTime, Policy, Unit};

/// Pictures that are decoded and encoded at a time: about 10 ms of work. Each batch moves the decoder's state to
/// another thread and back.
const BATCH: usize = 4;

/// A film that plays from its file.
pub(super) struct PlayingFile {
    path: PathBuf,
    /// The length of its round, if its container tells.
    length: Option<Duration>,
    /// Whether a picture of it was given to the air.
    shown: bool,
    /// Whether the next picture begins the film's sound, at its place.
    cues: bool,
}

impl Films {
    /// Opens the film that plays next, or goes on where it is at `from` after its beginning: as if it had begun at `began`,
    /// or as soon as can be.
    pub(super) async fn open_file(
        &mut self,
        path: PathBuf,
        from: Duration,
        began: Option<AirTime>,
        output: OutputState,
    ) -> Result<(), Fault> {
        let (size, film) = (self.size, path.clone());
        let open = move |transcoder: &mut Transcoder| transcoder.open(&film, size, from, began);
        let OpenedFilm { rate, size, length } = self.with_transcoder(output, open).await??;
        let length = length.map(|length| rate.nth(rate.nearest(length)));
        self.now_playing = NowPlaying::File(PlayingFile { path, length, shown: false, cues: true });
        // Opening may have taken long. After this event the station gives the state of its output anew.
        self.size = Some(size);
        self.events.push_back(ContentEvent::Begin { kind: ContentKind::Film, size, rate });
        Ok(())
    }

    /// Plays the next pictures of the file.
    pub(super) async fn play_file(&mut self, output: OutputState) -> Result<(), Fault> {
        let begin = earliest_due(&self.clock, &self.spec, output);
        let transcode = move |transcoder: &mut Transcoder| transcoder.transcode(BATCH, begin);
        let Batch { pictures, end } = self.with_transcoder(output, transcode).await?;
        let place = self.place;
        let NowPlaying::File(playing) = &mut self.now_playing else { return Ok(()) };
        for TranscodedPicture { stamp, due, policy, behind, encoded } in pictures {
            match (policy, encoded) {
                (Policy::Air, Some(Encoded { jpeg, squeezed })) => {
                    if std::mem::take(&mut playing.cues) {
                        let (path, begin, length) = (playing.path.clone(), due.at - stamp, playing.length);
                        self.events.push_back(ContentEvent::Film(FilmCue { path, begin, length, place }));
                    }
                    playing.shown = true;
                    self.events.push_back(ContentEvent::Unit { unit: Unit::picture(due, jpeg), squeezed });
                }
                (Policy::Reanchor, _) => {
                    playing.cues = true;
                    self.events.push_back(ContentEvent::Reanchored(behind));
                }
                (Policy::Air | Policy::Skip, _) => self.events.push_back(ContentEvent::Skipped(1)),
            }
        }
        match end {
            BatchEnd::More => {}
            BatchEnd::Failed(fault) => return Err(fault),
            BatchEnd::FilmEnded(held_until) => {
                self.events.extend(held_until.map(ContentEvent::HoldUntil));
                self.played |= playing.shown;
                self.now_playing = NowPlaying::Nothing;
            }
        }
        Ok(())
    }

    /// Lends the transcoder to `work` on a thread that may block.
    async fn with_transcoder<T: Send + 'static>(
        &mut self,
        output: OutputState,
        work: impl FnOnce(&mut Transcoder) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let mut transcoder = self.transcoder.take().unwrap_or_else(|| {
            let start = earliest_due(&self.clock, &self.spec, output);
            Box::new(Transcoder::new(&self.spec, self.clock.clone(), self.catalogue.clone(), start))
        });
        let work = move || {
            let result = work(&mut transcoder);
            (transcoder, result)
        };
        let (transcoder, result) = self.film_worker.call(STUCK_AFTER, work).await?;
        self.transcoder = Some(transcoder);
        Ok(result)
    }
}
