//! A film that plays from its file, and is recorded meanwhile.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::{Films, NowPlaying};
use crate::content::catalogue::Catalogue;
use crate::content::encode::Encoded;
use crate::content::recording::Recording;
use crate::content::reel::{RecordError, ReelKey};
use crate::content::transcode::{Batch, BatchEnd, OpenedFilm, TranscodedPicture, Transcoder};
use crate::content::worker::STUCK_AFTER;
use crate::content::{ContentEvent, ContentKind, Fault, OutputState, earliest_due};
use crate::media::{Policy, Unit};

/// How long before it is due the next film must be begun, so that no place on the grid stays empty:
/// [`START_LEAD`](crate::content::START_LEAD), a station's phase within an interval, and some milliseconds to look it
/// up.
const OPEN_LEAD: Duration = Duration::from_millis(160);

/// Pictures that are decoded and encoded at a time: about 10 ms of work. Each batch moves the decoder's state to
/// another thread and back.
const BATCH: usize = 4;

/// A film that plays from its file.
pub(super) struct PlayingFile {
    path: PathBuf,
    /// `None` if the film is not recorded.
    recording: Option<Recording>,
    /// Whether a picture of it was given to the air.
    shown: bool,
}

impl Films {
    /// Opens the film that plays next. It is recorded if it has a `key`.
    pub(super) async fn open_file(
        &mut self,
        path: PathBuf,
        key: Option<ReelKey>,
        output: OutputState,
    ) -> Result<(), Fault> {
        // Not recorded while the reels' disk does not answer.
        let key = key.filter(|_| !self.reel_worker.is_busy());
        let (film, size, records) = (path.clone(), self.size, key.is_some());
        let open = move |transcoder: &mut Transcoder| transcoder.open(&film, size, records);
        let opened = self.with_transcoder(output, open).await??;
        let recording = key.map(|key| {
            let (catalogue, clock) = (self.catalogue.clone(), self.clock.clone());
            Recording::new(catalogue, clock, path.clone(), key, opened.rate, opened.announced)
        });
        self.now_playing = NowPlaying::File(PlayingFile { path, recording, shown: false });
        // Opening may have taken long. After this event the station gives the state of its output anew.
        let OpenedFilm { rate, size, .. } = opened;
        self.size = Some(size);
        self.events.push_back(ContentEvent::Begin { kind: ContentKind::Film, size, rate });
        Ok(())
    }

    /// Plays the next pictures of the file.
    pub(super) async fn play_file(&mut self, output: OutputState) -> Result<(), Fault> {
        let NowPlaying::File(playing) = &self.now_playing else { return Ok(()) };
        let records = playing.recording.is_some();
        let begin = earliest_due(&self.clock, &self.spec, output);
        let transcode = move |transcoder: &mut Transcoder| transcoder.transcode(BATCH, records, begin);
        let Batch { pictures, end } = self.with_transcoder(output, transcode).await?;
        let NowPlaying::File(playing) = &mut self.now_playing else { return Ok(()) };
        for TranscodedPicture { stamp, lasts, due, policy, behind, encoded } in pictures {
            if let (Some(recording), Some(encoded)) = (&mut playing.recording, &encoded)
                && let Err(error) = recording.add((stamp, lasts), &encoded.jpeg, &mut self.reel_worker)
            {
                playing.recording = None;
                log_no_reel(&self.catalogue, &playing.path, &error);
            }
            match (policy, encoded) {
                (Policy::Air, Some(Encoded { jpeg, squeezed })) => {
                    playing.shown = true;
                    self.events.push_back(ContentEvent::Unit { unit: Unit::picture(due, jpeg), squeezed });
                }
                (Policy::Reanchor, _) => self.events.push_back(ContentEvent::Reanchored(behind)),
                (Policy::Air | Policy::Skip, _) => self.events.push_back(ContentEvent::Skipped(1)),
            }
        }
        match end {
            BatchEnd::More => {}
            BatchEnd::StoppedRecording => {
                if playing.recording.take().is_some() {
                    log_no_reel(&self.catalogue, &playing.path, &RecordError::SlowMachine);
                }
            }
            BatchEnd::Failed(fault) => return Err(fault),
            BatchEnd::FilmEnded(held_until) => {
                self.events.extend(held_until.map(ContentEvent::HoldUntil));
                self.played |= playing.shown;
                if let NowPlaying::File(playing) =
                    std::mem::replace(&mut self.now_playing, NowPlaying::Nothing)
                {
                    self.now_playing = NowPlaying::Ended(playing);
                }
            }
        }
        Ok(())
    }

    /// Ends the recording of a film whose last pictures were handed to the air.
    #[expect(clippy::disallowed_methods, reason = "a shell: it waits for the disk as long as pictures last")]
    pub(super) async fn end_recording(&mut self, output: OutputState) -> Result<(), Fault> {
        if let NowPlaying::Ended(PlayingFile { path, recording: Some(recording), .. }) =
            std::mem::replace(&mut self.now_playing, NowPlaying::Nothing)
        {
            // If the disk takes longer than those pictures last, the next pass is encoded once more.
            let timeout = self.clock.until(output.free_at).saturating_sub(OPEN_LEAD);
            if let Err(error) = recording.end(&mut self.reel_worker, Instant::now() + timeout).await {
                log_no_reel(&self.catalogue, &path, &error);
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

/// Logs why there will be no reel of a film, unless the worker that writes it has done so.
fn log_no_reel(catalogue: &Catalogue, film: &Path, error: &RecordError) {
    if !matches!(error, RecordError::GivenUp) {
        catalogue.log_no_reel(film, error);
    }
}
