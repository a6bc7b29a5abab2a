//! The recording of a film: it is decoded and encoded once, into [growing reels](GrowingReel), for all stations that
//! play it meanwhile.
//!
//! ```text
//! film -> decode -> encode -> Recorder -> GrowingReel -> station 1, at its own place
//!                                                   \--> station 2, at its own place
//! ```
//!
//! A station that joins a film in its middle does not wait until all before is recorded: a film is recorded in
//! *sections*, each with a decoder of its own that begins at a place of the film, and ends where the next section
//! begins. When the last one has ended, what is before the first is recorded, and all of them are the film's reel.
//!
//! The [queue](super::recording_queue) decides when a section has a turn on a thread. It runs ahead of the stations as
//! far as the machine allows. Where it is slower than they play, they wait for it, and it still goes on to its end.

#![expect(clippy::disallowed_methods, reason = "a shell: it knows for how long its pictures last")]

mod reader;
mod section;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tracing::info;

use super::catalogue::Catalogue;
use super::encode::Encoder;
use super::pass::ROUNDING;
use super::reel::{Encoding, GrowingReel, RecordError, Recorder, Reel, ReelKey};
use super::timeline::Timeline;
use super::worker::Priority;
use super::{Fault, FileState, file_state, lock};
use crate::clock::AirClock;
use crate::media::{AirTime, FrameRate};
pub(crate) use reader::RecordingReader;
pub(super) use section::Section;
use section::{OpenSection, Stage};

/// A section whose pictures last for less than this, until the first of its stations runs out of them, has short turns,
/// so that the turns of others come soon.
const URGENT: Duration = Duration::from_secs(2);

/// Pictures of a turn while the stations wait for each of them, and of any other turn: some 10 ms and 40 ms of work.
const SHORT_TURN: usize = 4;
const LONG_TURN: usize = 16;

/// A station whose place is at most this far behind the last recorded picture waits for the section that is there: it
/// is recorded faster than the station would play it. Farther on, a section of its own is there sooner.
const REACH: Duration = Duration::from_secs(2);

/// How long before the place of its first station a section begins. Stations of the same films are at the same place but
/// for their [phases](super::default_phase) of up to 40 ms.
const BEFORE_PLACE: Duration = Duration::from_millis(100);

/// Most sections of a film.
const MOST_SECTIONS: usize = 16;

/// How far the recording of a section is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// The pictures that were recorded, and the film's nominal rate; `None` before the film is open.
    pub(crate) reel: Option<(Arc<GrowingReel>, FrameRate)>,
    /// The number of those pictures.
    pub(crate) len: usize,
    /// Why no more pictures come; `None` while some will.
    pub(crate) end: Option<RecordingEnd>,
}

/// Why a recording has ended.
#[derive(Debug, Clone)]
pub(crate) enum RecordingEnd {
    /// All pictures up to the film's end are there, and this is its length.
    Complete(Duration),
    /// Another section has the pictures from this offset in the film on.
    Continued(Duration),
    /// The film cannot be recorded, or no further. It may still be played from its file.
    NoReel,
    /// The film cannot go on.
    Failed(Arc<Fault>),
}

/// Which film is recorded, in which encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum RecordingKey {
    /// The film that the reel's key is of.
    Film(ReelKey),
    /// A film that is not hashed yet: the [glance](super::reel::Store::glance) at its file. A large film is on air, and
    /// recorded, while it is hashed.
    File(ReelKey),
}

impl RecordingKey {
    /// The encoding.
    fn encoding(self) -> Encoding {
        let (RecordingKey::Film(key) | RecordingKey::File(key)) = self;
        key.encoding()
    }
}

/// The recording of a film, which its stations and the queue share.
pub(crate) struct Recording {
    key: RecordingKey,
    path: PathBuf,
    /// How long the film is on, if it is a picture.
    slide: Duration,
    catalogue: Arc<Catalogue>,
    clock: AirClock,
    /// In the order of the film.
    sections: Mutex<Vec<SectionSpan>>,
    film: Mutex<RecordedFilm>,
    /// The file that the first section has opened: another one may have its name by the time of the next.
    file: OnceLock<FileState>,
    /// Whether there will be no reel: a section has failed.
    broken: AtomicBool,
    /// The reel, once it is complete, so that it is not evicted while stations play it from the recording.
    finished: OnceLock<Arc<Reel>>,
}

/// A section, and its pictures.
struct SectionSpan {
    section: Arc<Section>,
    /// The offset of its first picture; before that is known, an offset at which the picture is on.
    first: Duration,
    /// The offset of its last picture so far.
    last: Option<Duration>,
}

/// The state that all sections of a film share. Locked while the reel's file is made.
#[derive(Default)]
struct RecordedFilm {
    /// Without pictures of its own: each section has a recorder.
    recorder: Option<Recorder>,
    /// The film's nominal rate and its length, once its end is recorded.
    end: Option<(FrameRate, Duration)>,
}

/// The fate of a picture.
enum Claim {
    /// This section records it.
    Record,
    /// The section before has it.
    Before,
    /// The next section has it.
    Next,
}

/// Why a turn ends the recording.
enum TurnEnd {
    Failed(Fault),
    NoReel(RecordError),
}

impl<F: Into<Fault>> From<F> for TurnEnd {
    fn from(fault: F) -> TurnEnd {
        TurnEnd::Failed(fault.into())
    }
}

impl Recording {
    pub(super) fn new(
        catalogue: Arc<Catalogue>,
        clock: AirClock,
        key: RecordingKey,
        path: PathBuf,
        slide: Duration,
    ) -> Recording {
        Recording {
            key,
            path,
            slide,
            catalogue,
            clock,
            sections: Mutex::default(),
            film: Mutex::default(),
            file: OnceLock::new(),
            broken: AtomicBool::new(false),
            finished: OnceLock::new(),
        }
    }

    /// The same, from the film's beginning, without a station.
    pub(super) fn beforehand(self) -> Recording {
        lock(&self.sections).push(SectionSpan::new(Duration::ZERO));
        self
    }

    pub(super) fn key(&self) -> RecordingKey {
        self.key
    }

    /// Whether this is the recording of `key` or of `path` as the file is now: of one film, one station may know the
    /// hash already, and another not yet.
    pub(super) fn is_of(&self, key: RecordingKey, file_key: Option<ReelKey>) -> bool {
        self.key == key || file_key.is_some_and(|file_key| self.key == RecordingKey::File(file_key))
    }

    pub(super) fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    /// A place at the offset `place` in the film, whose first picture is due, or was, at `begin`. `None` if that is in no
    /// section, and there is no `room` for a new one.
    pub(super) fn join(
        self: &Arc<Self>,
        place: Duration,
        begin: Option<AirTime>,
        room: bool,
    ) -> Option<RecordingReader> {
        let mut sections = lock(&self.sections);
        let after = sections.partition_point(|span| span.first <= place);
        let covers = |span: &SectionSpan| place <= span.last.unwrap_or(span.first) + REACH;
        let known = after.checked_sub(1).map(|before| &sections[before]).filter(|span| covers(span));
        let section = match known {
            Some(span) => span.section.clone(),
            None if place.is_zero() || (room && sections.len() < MOST_SECTIONS) => {
                let span = SectionSpan::new(place.saturating_sub(BEFORE_PLACE));
                let section = span.section.clone();
                sections.insert(after, span);
                section
            }
            None => return None,
        };
        Some(RecordingReader::new(self.clone(), section, begin.unwrap_or_else(|| self.clock.now())))
    }

    /// How far the section is recorded that has the picture at the offset `place`; `None` if none has it yet.
    pub(super) fn recorded(&self, place: Duration) -> Option<Progress> {
        let sections = lock(&self.sections);
        let before = sections.partition_point(|span| span.first <= place + ROUNDING).checked_sub(1)?;
        let progress = sections[before].section.progress.borrow().clone();
        (progress.len > 0).then_some(progress)
    }

    /// Its sections, in the order of the film.
    pub(super) fn sections(&self) -> Vec<Arc<Section>> {
        lock(&self.sections).iter().map(|span| span.section.clone()).collect()
    }

    /// The section after `section`.
    fn following(&self, section: &Arc<Section>) -> Option<Arc<Section>> {
        let sections = lock(&self.sections);
        let this = sections.iter().position(|span| Arc::ptr_eq(&span.section, section))?;
        sections.get(this + 1).map(|span| span.section.clone())
    }

    /// When the first of its stations runs out of pictures; `None` if no station plays it.
    pub(super) fn deadline(&self) -> Option<AirTime> {
        self.sections().iter().filter_map(|section| section.deadline()).min()
    }

    /// Whether all turns were taken.
    pub(super) fn has_ended(&self) -> bool {
        self.sections().iter().all(|section| section.has_ended() && !section.has_turn())
    }

    /// Whether a turn waits for a disk of the reels that does not answer.
    pub(super) fn waits_for_disk(&self) -> bool {
        self.sections().iter().any(|section| section.waits_for_disk())
    }

    /// Decodes, encodes and records the next pictures of a section. Blocks.
    pub(super) fn take_turn(&self, section: &Arc<Section>) {
        let result =
            catch_unwind(AssertUnwindSafe(|| self.record(section))).unwrap_or(Err(Fault::Crashed.into()));
        let end = match result {
            Ok(()) => None,
            Err(TurnEnd::Failed(fault)) => Some(RecordingEnd::Failed(Arc::new(fault))),
            Err(TurnEnd::NoReel(error)) => {
                // The catalogue has said why there is no recorder.
                if !matches!(error, RecordError::GivenUp) {
                    self.catalogue.log_no_reel(&self.path, &error);
                }
                Some(RecordingEnd::NoReel)
            }
        };
        if let Some(end) = end {
            self.broken.store(true, Relaxed);
            lock(&self.film).recorder = None;
            section.ends(end);
        }
        section.end_turn();
    }

    fn record(&self, section: &Arc<Section>) -> Result<(), TurnEnd> {
        let mut open = match std::mem::replace(&mut *lock(&section.stage), Stage::Taken) {
            Stage::New => self.open(section)?,
            Stage::Open(open) => open,
            Stage::Taken => return Ok(()),
        };
        let idle = section.priority() == Priority::Idle;
        let most = match section.deadline() {
            // It was opened, and has its next turn at idle priority.
            None if !idle => 0,
            Some(deadline) if self.clock.until(deadline) < URGENT => SHORT_TURN,
            _ => LONG_TURN,
        };
        for _ in 0..most {
            section.note(false);
            let picture = match open.film.next_picture() {
                Ok(Some(picture)) => picture,
                Ok(None) => return self.complete(section, *open),
                Err(error) => {
                    self.publish(section, &mut open)?;
                    return Err(error.into());
                }
            };
            if std::mem::take(&mut open.is_new) && !picture.stamp.is_zero() {
                // For the time line, the film's first picture has lasted until this one.
                open.timeline.next(Duration::ZERO);
                open.timeline.lasts(Some(picture.stamp));
            }
            open.timeline.next(picture.stamp);
            open.timeline.lasts(picture.lasts);
            let offset = open.timeline.film_offset();
            match self.claim(section, offset) {
                Claim::Record => {}
                Claim::Before => continue,
                Claim::Next => return self.end_at(section, *open, offset),
            }
            let encoded = open.encoder.encode(&picture.pixels);
            if encoded.is_err() {
                self.publish(section, &mut open)?;
            }
            section.note(true);
            open.recorder.add(offset, &encoded?.jpeg).map_err(TurnEnd::NoReel)?;
            // A station that begins to play it meanwhile does not wait for a thread of idle priority.
            if idle && section.deadline().is_some() {
                break;
            }
        }
        self.publish(section, &mut open)?;
        *lock(&section.stage) = Stage::Open(open);
        Ok(())
    }

    fn open(&self, section: &Section) -> Result<Box<OpenSection>, TurnEnd> {
        section.note(true);
        let mut recorder = self.recorder().map_err(TurnEnd::NoReel)?;
        section.note(false);
        let mut film = self.catalogue.open(&self.path)?;
        let file = file_state(&self.path);
        if *self.file.get_or_init(|| file) != file {
            return Err(TurnEnd::NoReel(RecordError::FilmChanged));
        }
        let encoding = self.key.encoding();
        film.show_for(self.slide);
        film.make_for(encoding.size);
        let rate = film.rate();
        let mut timeline = Timeline::new(AirTime::default(), rate);
        timeline.begin_film(rate, AirTime::default());
        if !section.from.is_zero() {
            film.seek(section.from)?;
        }
        let encoder = Encoder::new(encoding.size, encoding.quality)?;
        recorder.expect(film.announced());
        let growing = recorder.growing().map(|growing| (growing, rate));
        section.progress.send_modify(|progress| progress.reel = growing);
        Ok(Box::new(OpenSection { film, encoder, recorder, timeline, is_new: true }))
    }

    /// A recorder of a section, into the file that all sections share.
    fn recorder(&self) -> Result<Recorder, RecordError> {
        let film = &mut *lock(&self.film);
        if film.recorder.is_none() && !self.broken.load(Relaxed) {
            film.recorder = self.catalogue.recorder(self.key, &self.path, self.slide);
        }
        film.recorder.as_ref().ok_or(RecordError::GivenUp)?.section()
    }

    /// Which section records the picture at `offset`, that `section` has decoded.
    fn claim(&self, section: &Arc<Section>, offset: Duration) -> Claim {
        let mut sections = lock(&self.sections);
        let this = sections.iter().position(|span| Arc::ptr_eq(&span.section, section));
        let Some(this) = this else { return Claim::Next };
        let is_first = sections[this].last.is_none();
        if is_first && sections[..this].iter().any(|span| span.last.is_some_and(|last| offset <= last)) {
            return Claim::Before;
        }
        if is_first {
            sections[this].first = offset;
        }
        if sections.get(this + 1).is_some_and(|next| next.first <= offset) {
            return Claim::Next;
        }
        sections[this].last = Some(offset);
        Claim::Record
    }

    /// Gives the stations all pictures that were encoded.
    fn publish(&self, section: &Section, open: &mut OpenSection) -> Result<(), TurnEnd> {
        section.note(true);
        open.recorder.flush().map_err(TurnEnd::NoReel)?;
        let recorded = open.timeline.film_offset().max(section.from);
        section.recorded.store(recorded.as_nanos() as u64, Relaxed);
        let written = open.recorder.growing().map_or(0, |growing| growing.len());
        section.progress.send_modify(|progress| progress.len = written);
        Ok(())
    }

    /// Ends a section where the next one begins.
    fn end_at(&self, section: &Section, mut open: OpenSection, offset: Duration) -> Result<(), TurnEnd> {
        self.publish(section, &mut open)?;
        drop(open);
        section.ends(RecordingEnd::Continued(offset));
        self.go_on()
    }

    /// Ends a section after the film's last picture.
    fn complete(&self, section: &Arc<Section>, mut open: OpenSection) -> Result<(), TurnEnd> {
        self.publish(section, &mut open)?;
        let OpenSection { film, recorder, timeline, encoder, .. } = open;
        drop((film, encoder, recorder));
        let length = timeline.film_length().max(section.from);
        let mut sections = lock(&self.sections);
        let is_this = |span: &SectionSpan| Arc::ptr_eq(&span.section, section);
        // Beyond the end of the film there are no pictures.
        sections.retain(|span| !is_this(span) || span.last.is_some() || span.section.from.is_zero());
        let has_end = sections.iter().any(is_this);
        drop(sections);
        if has_end {
            lock(&self.film).end = Some((timeline.rate(), length));
        }
        // The stations need nothing more, whatever becomes of the reel.
        section.ends(RecordingEnd::Complete(length));
        self.go_on()
    }

    /// After the end of a section: records what is before all sections, or makes a reel of them if they are the film.
    fn go_on(&self) -> Result<(), TurnEnd> {
        let growing = {
            let mut sections = lock(&self.sections);
            if self.broken.load(Relaxed) || sections.iter().any(|span| !span.section.has_ended()) {
                return Ok(());
            }
            let Some(span) = sections.first() else { return Ok(()) };
            if !span.first.is_zero() {
                sections.insert(0, SectionSpan::new(Duration::ZERO));
                return Ok(());
            }
            sections.iter().filter_map(SectionSpan::growing).collect::<Vec<_>>()
        };
        let mut film = lock(&self.film);
        let (Some(recorder), Some((rate, length))) = (film.recorder.take(), film.end) else { return Ok(()) };
        drop(film);
        let finished = recorder.finish_sections(&growing, rate, length, self.clock.now());
        let reel = finished.map_err(TurnEnd::NoReel)?;
        info!("recorded a reel of {}: {} pictures", self.path.display(), reel.len());
        let _ = self.finished.set(reel);
        Ok(())
    }
}

impl SectionSpan {
    fn new(from: Duration) -> SectionSpan {
        SectionSpan { section: Arc::new(Section::new(from)), first: from, last: None }
    }

    fn growing(&self) -> Option<Arc<GrowingReel>> {
        self.section.progress.borrow().reel.as_ref().map(|(growing, _)| growing.clone())
    }
}
