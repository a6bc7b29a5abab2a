//! A film's reel in the making, beside its first pass. Its pictures are written by a [worker](BlockingWorker), some at a time, and
//! the film never waits for that: if the disk that holds the reels hangs, the reel is given up and the film plays on.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::catalogue::Catalogue;
use super::reel::{RecordError, Recorder, ReelKey};
use super::timeline::Timeline;
use super::worker::BlockingWorker;
use crate::clock::AirClock;
use crate::media::FrameRate;
use crate::media::jpeg::Jpeg;

/// Most pictures that wait to be written: two and a half seconds at 25 a second, 4 MB at most. If the disk pauses for longer, the
/// reel is given up.
const WAITING: usize = 64;

/// Pictures that are written at a time: two thirds of a second at 25 a second.
const BATCH: usize = 16;

/// A film that is recorded, as the station that plays it has it. Dropped before the [end](Self::end), it leaves nothing behind.
pub(crate) struct Recording {
    job: Arc<Job>,
    /// The film's own time line, from the beginning of time: however late the film is on air, its reel is as if it never was.
    line: Timeline,
    waiting: VecDeque<Note>,
    /// Some of it was handed to the worker.
    begun: bool,
}

/// What the worker needs.
struct Job {
    catalogue: Arc<Catalogue>,
    clock: AirClock,
    path: PathBuf,
    key: ReelKey,
    announced: u64,
    writing: Mutex<Writing>,
}

enum Writing {
    /// Nothing is on the disk yet.
    NotBegun,
    /// A part of the film is on the disk.
    Begun(Recorder),
    /// The reel is there, or will never be.
    Over,
}

/// What is to be written.
enum Note {
    Picture(Duration, Jpeg),
    End(FrameRate, Duration),
}

impl Recording {
    /// A recording of the film at `path`, which opens now, has this nominal `rate`, and whose container announces so many
    /// pictures.
    pub(crate) fn new(
        catalogue: Arc<Catalogue>,
        clock: AirClock,
        path: PathBuf,
        key: ReelKey,
        rate: FrameRate,
        announced: u64,
    ) -> Recording {
        let mut line = Timeline::new(Default::default(), rate);
        line.begin_film(rate, Default::default());
        let writing = Mutex::new(Writing::NotBegun);
        let job = Arc::new(Job { catalogue, clock, path, key, announced, writing });
        Recording { job, line, waiting: VecDeque::new(), begun: false }
    }

    /// Adds the film's next picture, by its stamp and how long it lasts, also one that is too late for the air.
    ///
    /// # Errors
    /// There will be no reel. [`RecordError::GivenUp`] where that is known already, or somebody else records it.
    pub(crate) fn add(
        &mut self,
        (stamp, lasts): (Duration, Option<Duration>),
        jpeg: &Jpeg,
        worker: &mut BlockingWorker,
    ) -> Result<(), RecordError> {
        self.line.next(stamp);
        self.line.lasts(lasts);
        self.waiting.push_back(Note::Picture(self.line.film_offset(), jpeg.clone()));
        if self.job.is_over() {
            return Err(RecordError::GivenUp);
        }
        // The first at once, so that it is known soon if another station records the film.
        let enough = if self.begun { BATCH } else { 1 };
        if self.waiting.len() >= enough && !worker.is_busy() {
            self.write(worker);
        }
        if self.waiting.len() > WAITING { Err(RecordError::SlowDisk) } else { Ok(()) }
    }

    /// The film is over: a reel is made of it, if the disk takes what is left until `deadline`.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub(crate) async fn end(
        mut self,
        worker: &mut BlockingWorker,
        deadline: Instant,
    ) -> Result<(), RecordError> {
        worker.wait(deadline).await.map_err(|_| RecordError::SlowDisk)?;
        if self.job.is_over() {
            return Err(RecordError::GivenUp);
        }
        self.waiting.push_back(Note::End(self.line.rate(), self.line.film_length()));
        self.write(worker);
        // If it takes longer, the next pass is encoded once more.
        let _ = worker.wait(deadline).await;
        Ok(())
    }

    fn write(&mut self, worker: &mut BlockingWorker) {
        self.begun = true;
        let (job, notes) = (self.job.clone(), std::mem::take(&mut self.waiting));
        // Without patience: nobody waits for it but at the end of the film.
        worker.start(Duration::ZERO, move || job.write(notes));
    }
}

impl Job {
    fn is_over(&self) -> bool {
        // Locked while the disk is written to: then it is not over.
        self.writing.try_lock().is_ok_and(|writing| matches!(*writing, Writing::Over))
    }

    /// Writes what is noted of the film, unless somebody else does. Blocks.
    fn write(&self, notes: VecDeque<Note>) {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*writing, Writing::NotBegun) {
            *writing = match self.catalogue.recorder(&self.key, &self.path) {
                Some(mut recorder) => {
                    recorder.expect(self.announced);
                    Writing::Begun(recorder)
                }
                None => Writing::Over,
            };
        }
        let Writing::Begun(mut recorder) = std::mem::replace(&mut *writing, Writing::Over) else { return };
        for note in notes {
            let done = match note {
                Note::Picture(stamp, jpeg) => recorder.add(stamp, &jpeg),
                Note::End(rate, length) => match recorder.finish(rate, length, self.clock.now()) {
                    Ok(reel) => {
                        info!("a reel of {}: {} pictures", self.path.display(), reel.len());
                        return;
                    }
                    Err(error) => return self.catalogue.no_reel(&self.path, &error),
                },
            };
            if let Err(error) = done {
                return self.catalogue.no_reel(&self.path, &error);
            }
        }
        *writing = Writing::Begun(recorder);
    }
}
