//! Records a film's reel during its first pass. A [worker](BlockingWorker) writes the pictures in batches, and the
//! film never waits for it: if the disk that holds the reels hangs, the reel is given up and the film plays on.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::catalogue::Catalogue;
use super::lock;
use super::reel::{RecordError, Recorder, ReelKey};
use super::timeline::Timeline;
use super::worker::BlockingWorker;
use crate::clock::AirClock;
use crate::media::FrameRate;
use crate::media::jpeg::Jpeg;

/// Most pictures in the queue to the worker: two and a half seconds at 25 a second, 4 MB at most. If the disk pauses
/// for longer, the reel is given up.
const QUEUE: usize = 64;

/// Pictures that are written at a time: two thirds of a second at 25 a second.
const BATCH: usize = 16;

/// The recording of a film, at the station that plays it. If it is dropped before its [end](Self::end), it leaves
/// nothing on the disk.
pub(crate) struct Recording {
    job: Arc<RecordingJob>,
    /// A time line for the reel alone, which starts at the Unix epoch: the reel does not depend on how late the film
    /// is on air.
    timeline: Timeline,
    queue: VecDeque<RecordingInput>,
    /// Whether the worker was started.
    started: bool,
}

/// The worker's part of a recording.
struct RecordingJob {
    catalogue: Arc<Catalogue>,
    clock: AirClock,
    path: PathBuf,
    key: ReelKey,
    /// The number of pictures that the film's container announces.
    announced: u64,
    state: Mutex<RecordingState>,
}

enum RecordingState {
    /// Nothing is on the disk yet.
    NotStarted,
    /// A part of the film is on the disk.
    Started(Recorder),
    /// There is a reel, or there will be none.
    Ended,
}

/// An entry of the queue to the worker.
enum RecordingInput {
    /// The time since the film's first picture, and the picture.
    Picture(Duration, Jpeg),
    /// The film's nominal rate and its length.
    End(FrameRate, Duration),
}

impl Recording {
    /// A recording of the film at `path`, which begins now. The film has the nominal rate `rate`, and its container
    /// announces `announced` pictures.
    pub(crate) fn new(
        catalogue: Arc<Catalogue>,
        clock: AirClock,
        path: PathBuf,
        key: ReelKey,
        rate: FrameRate,
        announced: u64,
    ) -> Recording {
        let mut timeline = Timeline::new(Default::default(), rate);
        timeline.begin_film(rate, Default::default());
        let state = Mutex::new(RecordingState::NotStarted);
        let job = Arc::new(RecordingJob { catalogue, clock, path, key, announced, state });
        Recording { job, timeline, queue: VecDeque::new(), started: false }
    }

    /// Adds the film's next picture, by its stamp and how long it lasts, even if it is too late for the air. Does not
    /// block.
    ///
    /// # Errors
    /// There will be no reel. [`RecordError::GivenUp`] if the worker has logged why, or if another station records the
    /// reel.
    pub(crate) fn add(
        &mut self,
        (stamp, lasts): (Duration, Option<Duration>),
        jpeg: &Jpeg,
        worker: &mut BlockingWorker,
    ) -> Result<(), RecordError> {
        self.timeline.next(stamp);
        self.timeline.lasts(lasts);
        self.queue.push_back(RecordingInput::Picture(self.timeline.film_offset(), jpeg.clone()));
        if self.job.has_ended() {
            return Err(RecordError::GivenUp);
        }
        // The first picture is written at once, so that the station soon knows if another one records the film.
        let enough = if self.started { BATCH } else { 1 };
        if self.queue.len() >= enough && !worker.is_busy() {
            self.write(worker);
        }
        if self.queue.len() > QUEUE { Err(RecordError::SlowDisk) } else { Ok(()) }
    }

    /// Makes a reel after the film's last picture. Waits for the disk until `deadline`.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub(crate) async fn end(
        mut self,
        worker: &mut BlockingWorker,
        deadline: Instant,
    ) -> Result<(), RecordError> {
        worker.wait(deadline).await.map_err(|_| RecordError::SlowDisk)?;
        if self.job.has_ended() {
            return Err(RecordError::GivenUp);
        }
        self.queue.push_back(RecordingInput::End(self.timeline.rate(), self.timeline.film_length()));
        self.write(worker);
        // If the disk takes longer, the next pass is encoded once more.
        let _ = worker.wait(deadline).await;
        Ok(())
    }

    fn write(&mut self, worker: &mut BlockingWorker) {
        self.started = true;
        let (job, inputs) = (self.job.clone(), std::mem::take(&mut self.queue));
        // With no timeout: except at the end of the film, the station does not wait for this work.
        worker.start(Duration::ZERO, move || job.write(inputs));
    }
}

impl RecordingJob {
    fn has_ended(&self) -> bool {
        // The worker holds the lock while it writes. Then the recording has not ended.
        self.state.try_lock().is_ok_and(|state| matches!(*state, RecordingState::Ended))
    }

    /// Writes pictures to the disk, unless another station records the film. Blocks.
    #[expect(clippy::disallowed_methods, reason = "a shell: it notes when the reel was made")]
    fn write(&self, inputs: VecDeque<RecordingInput>) {
        let mut state = lock(&self.state);
        if matches!(*state, RecordingState::NotStarted) {
            *state = match self.catalogue.recorder(&self.key, &self.path) {
                Some(mut recorder) => {
                    recorder.expect(self.announced);
                    RecordingState::Started(recorder)
                }
                None => RecordingState::Ended,
            };
        }
        let RecordingState::Started(mut recorder) = std::mem::replace(&mut *state, RecordingState::Ended)
        else {
            return;
        };
        for input in inputs {
            let done = match input {
                RecordingInput::Picture(stamp, jpeg) => recorder.add(stamp, &jpeg),
                RecordingInput::End(rate, length) => match recorder.finish(rate, length, self.clock.now()) {
                    Ok(reel) => {
                        info!("recorded a reel of {}: {} pictures", self.path.display(), reel.len());
                        return;
                    }
                    Err(error) => return self.catalogue.log_no_reel(&self.path, &error),
                },
            };
            if let Err(error) = done {
                return self.catalogue.log_no_reel(&self.path, &error);
            }
        }
        *state = RecordingState::Started(recorder);
    }
}
