//! A film's reel in the making, beside its first pass. Its pictures are handed to a [thread that writes them](write) and
//! never wait for it: where the disk that reels are on hangs, the reel is given up and the film plays on.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tracing::info;

use super::catalogue::Catalogue;
use super::decode::Source;
use super::reel::{RecordError, ReelKey};
use super::timeline::Timeline;
use crate::clock::AirClock;
use crate::media::FrameRate;
use crate::media::jpeg::Jpeg;

/// Pictures that wait to be written: two and a half seconds at 25 a second, 4 MB at the most. A disk that pauses for longer
/// costs the reel.
const WAITING: usize = 64;

/// A film that is recorded, as whoever plays it has it. Dropped before the [end](Self::end), it leaves nothing behind.
pub(crate) struct Recording {
    notes: SyncSender<Note>,
    /// The film's own, from the beginning of time: however late it is on air, its reel is as if it never was.
    line: Timeline,
}

/// What is written, or when.
pub(crate) enum Note {
    Announced(u64),
    Picture(Duration, Jpeg),
    End(FrameRate, Duration),
}

/// A way from a [`Recording`] to [`write`].
pub(crate) fn notes() -> (SyncSender<Note>, Receiver<Note>) {
    sync_channel(WAITING)
}

impl Recording {
    /// A recording of `film`, which opens now.
    pub(crate) fn new(film: &Source, notes: SyncSender<Note>) -> Recording {
        let mut line = Timeline::new(Default::default(), film.rate());
        line.begin_film(film.rate(), Default::default());
        let recording = Recording { notes, line };
        // Whatever is wrong is found with the first picture.
        let _ = recording.note(Note::Announced(film.announced()));
        recording
    }

    /// Adds the film's next picture, also one that is too late for the air.
    ///
    /// # Errors
    /// There will be no reel. [`RecordError::GivenUp`] where that is known already, or somebody else records it.
    pub(crate) fn add(&mut self, stamp: Duration, jpeg: &Jpeg) -> Result<(), RecordError> {
        self.line.next(stamp);
        self.note(Note::Picture(self.line.film_offset(), jpeg.clone()))
    }

    /// The film is over: a reel is made of it.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub(crate) fn end(self) -> Result<(), RecordError> {
        self.note(Note::End(self.line.rate(), self.line.film_length()))
    }

    fn note(&self, note: Note) -> Result<(), RecordError> {
        self.notes.try_send(note).map_err(|error| match error {
            TrySendError::Full(_) => RecordError::SlowDisk,
            TrySendError::Disconnected(_) => RecordError::GivenUp,
        })
    }
}

/// Writes what is noted of the film at `path`, unless somebody else does, until all of it is on the disk. Blocks.
pub(crate) fn write(
    catalogue: &Catalogue,
    key: &ReelKey,
    path: &Path,
    clock: &AirClock,
    notes: Receiver<Note>,
) {
    let Some(mut recorder) = catalogue.recorder(key, path) else { return };
    for note in notes {
        let done = match note {
            Note::Announced(pictures) => {
                recorder.expect(pictures);
                Ok(())
            }
            Note::Picture(stamp, jpeg) => recorder.add(stamp, &jpeg),
            Note::End(rate, length) => {
                match recorder.finish(rate, length, clock.now()) {
                    Ok(reel) => info!("a reel of {}: {} pictures", path.display(), reel.len()),
                    Err(error) => catalogue.no_reel(path, &error),
                }
                return;
            }
        };
        if let Err(error) = done {
            catalogue.no_reel(path, &error);
            return;
        }
    }
}
