//! The place of a station in a recording, which goes on from section to section.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::watch;

use super::{Progress, Recording, Section};
use crate::media::AirTime;

/// The place of a station in a recording.
pub(crate) struct RecordingReader {
    recording: Arc<Recording>,
    section: Arc<Section>,
    progress: watch::Receiver<Progress>,
    begin: Arc<AtomicU64>,
}

impl RecordingReader {
    pub(super) fn new(recording: Arc<Recording>, section: Arc<Section>, begin: AirTime) -> RecordingReader {
        let (progress, begin) = (section.progress.subscribe(), section.enter(begin));
        RecordingReader { recording, section, progress, begin }
    }

    /// How far the section is recorded.
    pub(crate) fn progress(&mut self) -> Progress {
        self.progress.borrow_and_update().clone()
    }

    /// Waits until the recording is further than when [`progress`](Self::progress) was asked last.
    pub(crate) async fn changed(&mut self) {
        // The sender is in `section`, so it is not gone.
        let _ = self.progress.changed().await;
    }

    /// The film.
    pub(crate) fn path(&self) -> &Path {
        &self.recording.path
    }

    /// Tells the recording when the film's first picture is due on this station.
    pub(crate) fn begins(&self, begin: AirTime) {
        self.begin.store(begin.0, Relaxed);
    }

    /// Goes on to the section after a [continued](RecordingEnd::Continued) one. Returns false if there is none.
    pub(crate) fn go_on(&mut self) -> bool {
        let Some(section) = self.recording.following(&self.section) else { return false };
        *self = RecordingReader::new(self.recording.clone(), section, AirTime(self.begin.load(Relaxed)));
        true
    }

    /// Whether the film's decoder hangs.
    pub(crate) fn is_stuck(&self) -> bool {
        self.section.hangs() && !self.section.waits_for_disk()
    }
}
