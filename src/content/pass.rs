//! One film without a reel, for one client, from any position. As far as the film is recorded meanwhile for stations,
//! the client has the pictures of that recording. Beyond, it is decoded and encoded for the client as it goes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, timeout_at};

use super::Fault;
use super::catalogue::Catalogue;
use super::decode::{PictureSource, SourcePicture};
use super::encode::Encoder;
use super::programme::Programme;
use super::recording::{Progress, RecordingEnd};
use super::timeline::Timeline;
use super::worker::STUCK_AFTER;
use crate::media::AirTime;
use crate::media::jpeg::Jpeg;

/// Pictures that are decoded and encoded at a time: about 10 ms of work. One batch is ready or being taken, and another one is being
/// made.
const BATCH: usize = 4;

/// A picture that is on for no longer than this after a position has ended: sums of intervals are rounded.
pub(crate) const ROUNDING: Duration = Duration::from_micros(1);

/// How long the first picture of a pass may take: to open the film, and to decode from the key picture before. Key pictures of x264
/// are up to 10 s apart, which 1080p takes 2 s to decode, and more on a busy machine.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);

/// A place among the clients for which films are encoded. It is free again when the client has gone and no thread works for it.
#[derive(Debug)]
pub(crate) struct EncodingPlace {
    _permit: OwnedSemaphorePermit,
    /// A permit for the one thread that works for the client.
    thread: Arc<Semaphore>,
}

impl EncodingPlace {
    /// One of `places`; `None` if all are taken.
    pub(crate) fn take(places: &Arc<Semaphore>) -> Option<Arc<EncodingPlace>> {
        let permit = places.clone().try_acquire_owned().ok()?;
        Some(Arc::new(EncodingPlace { _permit: permit, thread: Arc::new(Semaphore::new(1)) }))
    }
}

/// A picture of a film.
#[derive(Debug, Clone)]
pub(crate) struct PassPicture {
    /// When it ends, since the beginning of the film.
    pub(crate) end: Duration,
    pub(crate) jpeg: Jpeg,
}

/// What a film has at an offset.
#[derive(Debug)]
pub(crate) enum PassState<'a> {
    /// The picture that is on.
    Picture(&'a PassPicture),
    /// Nothing: it has ended.
    Ended,
    /// A reel of it, which has appeared.
    Reel,
}

/// A pass through a film.
pub(crate) struct FilmPass {
    place: Arc<EncodingPlace>,
    /// `None` while a thread has it, or after it crashed or hung there.
    work: Option<Box<PassWork>>,
    /// At most one batch. Aborted when the pass is dropped, but a thread that works ends its batch.
    running: JoinSet<Option<(Box<PassWork>, Batch)>>,
    /// When the batch that is being made is stuck.
    deadline: Instant,
    ready: VecDeque<PassPicture>,
    /// What follows these pictures; `None` while there are more.
    end: Option<PassEnd>,
}

struct Batch {
    pictures: Vec<PassPicture>,
    end: Option<PassEnd>,
}

enum PassEnd {
    Ended,
    Reel,
    Failed(Option<Fault>),
}

impl FilmPass {
    /// A pass through a film of `programme` from the offset `from`, which leaves out pictures that begin less than `stride` after the
    /// one before. Begins when it is asked for a picture.
    #[expect(clippy::disallowed_methods, reason = "a shell: it waits for a film, and not for ever")]
    pub(crate) fn new(
        catalogue: Arc<Catalogue>,
        programme: Arc<Programme>,
        film: usize,
        (from, stride): (Duration, Duration),
        place: Arc<EncodingPlace>,
    ) -> FilmPass {
        let work = PassWork { catalogue, programme, film, stride, wanted: from, open: None };
        FilmPass {
            place,
            work: Some(Box::new(work)),
            running: JoinSet::new(),
            deadline: Instant::now(),
            ready: VecDeque::new(),
            end: None,
        }
    }

    /// The picture that is on at `offset`, which never goes back. Cancel-safe: work that was begun goes on.
    ///
    /// # Errors
    /// The film cannot go on.
    pub(crate) async fn at(&mut self, offset: Duration) -> Result<PassState<'_>, Fault> {
        loop {
            while self.ready.front().is_some_and(|picture| picture.end <= offset + ROUNDING) {
                self.ready.pop_front();
            }
            if self.end.is_none() && self.ready.len() < BATCH {
                self.start_batch(offset);
            }
            if !self.ready.is_empty() {
                break;
            }
            match &mut self.end {
                None => self.take_batch().await?,
                Some(PassEnd::Ended) => return Ok(PassState::Ended),
                Some(PassEnd::Reel) => return Ok(PassState::Reel),
                Some(PassEnd::Failed(fault)) => return Err(fault.take().unwrap_or(Fault::Crashed)),
            }
        }
        Ok(self.ready.front().map_or(PassState::Ended, PassState::Picture))
    }

    /// Starts the next batch, unless one is being made.
    #[expect(clippy::disallowed_methods, reason = "a shell: it waits for a film, and not for ever")]
    fn start_batch(&mut self, wanted: Duration) {
        let Some(mut work) = self.work.take() else { return };
        // The first picture alone, so that it comes soon.
        let (timeout, most) = if work.open.is_some() { (STUCK_AFTER, BATCH) } else { (OPEN_TIMEOUT, 1) };
        self.deadline = Instant::now() + timeout;
        let place = self.place.clone();
        self.running.spawn(async move {
            // An earlier pass of this client may hang.
            let thread = place.thread.clone().acquire_owned().await.ok()?;
            let working = spawn_blocking(move || {
                // Held by the thread: the client may have gone long before.
                let _held = (place, thread);
                let batch = work.batch(most, wanted);
                (work, batch)
            });
            working.await.ok()
        });
    }

    async fn take_batch(&mut self) -> Result<(), Fault> {
        let done = timeout_at(self.deadline, self.running.join_next()).await.map_err(|_| Fault::Stuck)?;
        let Some(Ok(Some((work, batch)))) = done else { return Err(Fault::Crashed) };
        self.work = Some(work);
        self.ready.extend(batch.pictures);
        self.end = batch.end;
        Ok(())
    }
}

impl Drop for FilmPass {
    /// Closes the film on a thread that may block, which keeps the place until then.
    fn drop(&mut self) {
        if let (Some(work), Ok(_)) =
            (self.work.take().filter(|work| work.open.is_some()), Handle::try_current())
        {
            let place = self.place.clone();
            spawn_blocking(move || drop((work, place)));
        }
    }
}

/// The part of a pass that blocks.
struct PassWork {
    catalogue: Arc<Catalogue>,
    programme: Arc<Programme>,
    film: usize,
    stride: Duration,
    /// The next picture is the one that is on at this offset.
    wanted: Duration,
    open: Option<OpenFilm>,
}

struct OpenFilm {
    source: Box<dyn PictureSource>,
    encoder: Encoder,
    /// It gives each picture the offset that a reel would have.
    timeline: Timeline,
    /// A picture is held until the one after it says when it ends.
    held: Option<HeldPicture>,
    /// Follows the picture that is held.
    fault: Option<Fault>,
}

struct HeldPicture {
    picture: SourcePicture,
    begin: Duration,
    /// When it ends, if it is the last.
    end: Duration,
}

impl PassWork {
    fn batch(&mut self, most: usize, wanted: Duration) -> Batch {
        self.wanted = self.wanted.max(wanted);
        let mut pictures = Vec::with_capacity(most);
        if self.open.is_none() {
            if self.programme.find_reel(self.film, &self.catalogue) {
                return Batch { pictures, end: Some(PassEnd::Reel) };
            }
            if let Some(batch) = self.recorded() {
                return batch;
            }
            match self.open() {
                Ok(open) => self.open = Some(open),
                Err(fault) => return Batch { pictures, end: Some(PassEnd::Failed(Some(fault))) },
            }
        }
        while pictures.len() < most {
            match self.next() {
                Ok(Some(picture)) => pictures.push(picture),
                Ok(None) => return Batch { pictures, end: Some(PassEnd::Ended) },
                Err(fault) => return Batch { pictures, end: Some(PassEnd::Failed(Some(fault))) },
            }
        }
        Batch { pictures, end: None }
    }

    /// The next pictures that are wanted, if the film's recording has them.
    fn recorded(&mut self) -> Option<Batch> {
        let keys = self.programme.recording_keys(self.film, &self.catalogue)?;
        let Progress { reel, len, end } = self.catalogue.recordings().recorded(keys, self.wanted)?;
        let (growing, _) = reel?;
        let section_end = match end {
            Some(RecordingEnd::Complete(end) | RecordingEnd::Continued(end)) => Some(end),
            Some(RecordingEnd::NoReel | RecordingEnd::Failed(_)) | None => None,
        };
        let mut pictures = Vec::with_capacity(BATCH);
        let mut n = growing.at(self.wanted + ROUNDING);
        while n < len && pictures.len() < BATCH {
            let Some(end) = (if n + 1 < len { Some(growing.stamp(n + 1)) } else { section_end }) else {
                break;
            };
            if end > self.wanted + ROUNDING {
                // A damaged picture ends the use of the recording.
                let Ok(jpeg) = growing.picture(n) else { break };
                self.wanted = end.max(growing.stamp(n).max(self.wanted) + self.stride);
                pictures.push(PassPicture { end, jpeg });
            }
            n += 1;
        }
        let over = matches!(end, Some(RecordingEnd::Complete(end)) if self.wanted + ROUNDING >= end);
        (over || !pictures.is_empty()).then_some(Batch { pictures, end: over.then_some(PassEnd::Ended) })
    }

    /// Opens the film, and goes to the picture that is on at the offset that is wanted.
    fn open(&self) -> Result<OpenFilm, Fault> {
        let encoding = self.programme.encoding();
        let mut source = self.catalogue.open(self.programme.path(self.film))?;
        source.show_for(self.programme.slide());
        source.make_for(encoding.size);
        if !self.wanted.is_zero() {
            source.seek(self.wanted)?;
        }
        let mut timeline = Timeline::new(AirTime::default(), source.rate());
        timeline.begin_film(source.rate(), AirTime::default());
        let encoder = Encoder::new(encoding.size, encoding.quality)?;
        let mut open = OpenFilm { source, encoder, timeline, held: None, fault: None };
        let first = open.source.next_picture()?;
        if let Some(stamp) = first.as_ref().map(|picture| picture.stamp).filter(|stamp| !stamp.is_zero()) {
            // For the time line, the film's first picture has lasted until this one.
            open.timeline.next(Duration::ZERO);
            open.timeline.lasts(Some(stamp));
        }
        open.held = first.map(|picture| open.place(picture));
        Ok(open)
    }

    /// The next picture that is wanted; `None` at the end of the film.
    fn next(&mut self) -> Result<Option<PassPicture>, Fault> {
        let Some(open) = &mut self.open else { return Ok(None) };
        loop {
            let Some(held) = open.held.take() else { return open.fault.take().map_or(Ok(None), Err) };
            match open.source.next_picture() {
                Ok(following) => open.held = following.map(|picture| open.place(picture)),
                Err(error) => open.fault = Some(error.into()),
            }
            let end = open.held.as_ref().map_or(held.end, |following| following.begin);
            if end <= self.wanted + ROUNDING {
                continue;
            }
            self.wanted = end.max(held.begin.max(self.wanted) + self.stride);
            let encoded = open.encoder.encode(&held.picture.pixels)?;
            return Ok(Some(PassPicture { end, jpeg: encoded.jpeg }));
        }
    }
}

impl OpenFilm {
    fn place(&mut self, picture: SourcePicture) -> HeldPicture {
        self.timeline.next(picture.stamp);
        self.timeline.lasts(picture.lasts);
        HeldPicture { begin: self.timeline.film_offset(), end: self.timeline.film_length(), picture }
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::sync::{Mutex, mpsc};

    use super::*;
    use crate::clock::AirClock;
    use crate::content::decode::{self, SourceError};
    use crate::content::recording::RecordingKey;
    use crate::content::reel::{Encoding, Store};
    use crate::content::worker::Threads;
    use crate::media::{FrameRate, Size};

    /// A film that waits for a word before each picture.
    struct Gated(Box<dyn PictureSource>, mpsc::Receiver<()>);

    impl PictureSource for Gated {
        fn path(&self) -> &Path {
            self.0.path()
        }

        fn size(&self) -> (u32, u32) {
            self.0.size()
        }

        fn pixel_aspect(&self) -> f64 {
            self.0.pixel_aspect()
        }

        fn rate(&self) -> FrameRate {
            self.0.rate()
        }

        fn announced(&self) -> u64 {
            self.0.announced()
        }

        fn next_picture(&mut self) -> Result<Option<SourcePicture>, SourceError> {
            let _ = self.1.recv();
            self.0.next_picture()
        }

        fn seek(&mut self, position: Duration) -> Result<(), SourceError> {
            self.0.seek(position)
        }
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a test reads the clock of its scene")]
    async fn a_film_that_is_being_recorded_is_not_encoded_anew() {
        let film = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/media/nature.mp4"));
        let rate = FrameRate::new(30_000, 1001).unwrap();
        let encoding = Encoding { size: Size { width: 64, height: 48 }, quality: 50 };
        let (folder, clock) = (tempfile::tempdir().unwrap(), AirClock::start());
        let store = Store::open(folder.path(), u64::MAX, clock.now()).unwrap();
        let opened = Arc::new(AtomicUsize::new(0));
        let (go_on, gate) = mpsc::channel();
        let (count, gate) = (opened.clone(), Mutex::new(Some(gate)));
        let opener = move |path: &Path| -> Result<Box<dyn PictureSource>, SourceError> {
            count.fetch_add(1, Relaxed);
            let film = decode::open(path)?;
            Ok(match gate.lock().unwrap().take() {
                Some(gate) => Box::new(Gated(film, gate)),
                None => film,
            })
        };
        let catalogue =
            Catalogue::new(clock.clone(), Some((store, folder.path()))).with_opener(Arc::new(opener));
        let catalogue = Arc::new(catalogue);
        let slide = Duration::from_secs(10);
        let key = RecordingKey::Film(catalogue.key(&film, encoding, slide).unwrap());
        let (queue, threads) = (catalogue.recordings().clone(), Threads::default());
        let joined = queue.join(&catalogue, &threads, (key, None), (&film, slide), None);
        let (mut reader, _) = joined.unwrap();
        (0..60).for_each(|_| go_on.send(()).unwrap());
        while reader.progress().len < 50 {
            reader.changed().await;
        }
        let programme = Programme::of(vec![(film, rate, rate.nth(720), None)], encoding);
        let mut work = PassWork {
            catalogue,
            programme: Arc::new(programme),
            film: 0,
            stride: Duration::ZERO,
            wanted: rate.nth(10),
            open: None,
        };
        let batch = work.batch(1, Duration::ZERO);
        let (growing, _) = reader.progress().reel.unwrap();
        assert_eq!(batch.pictures.len(), BATCH);
        for (n, picture) in (10..).zip(&batch.pictures) {
            assert_eq!((picture.end, &picture.jpeg), (rate.nth(n as u64 + 1), &growing.picture(n).unwrap()));
        }
        assert_eq!(opened.load(Relaxed), 1, "only for the recording");
        // Where the recording has not come yet, the client does not wait for it.
        let batch = work.batch(1, rate.nth(300));
        assert_eq!((rate.nearest(batch.pictures[0].end), opened.load(Relaxed)), (301, 2));
        drop(go_on);
    }

    #[test]
    fn pictures_between_those_that_are_wanted_are_not_encoded() {
        let film = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/media/nature.mp4"));
        let rate = FrameRate::new(30_000, 1001).unwrap();
        let encoding = Encoding { size: Size { width: 64, height: 48 }, quality: 50 };
        let programme = Programme::of(vec![(film, rate, rate.nth(720), None)], encoding);
        let mut work = PassWork {
            catalogue: Arc::new(Catalogue::new(AirClock::start(), None)),
            programme: Arc::new(programme),
            film: 0,
            stride: rate.nth(4),
            wanted: rate.nth(300),
            open: None,
        };
        let mut ends = |most, wanted| {
            let batch = work.batch(most, rate.nth(wanted));
            batch.pictures.iter().map(|picture| rate.nearest(picture.end)).collect::<Vec<_>>()
        };
        assert_eq!(ends(3, 0), [301, 305, 309], "it begins at the position, and one in four is encoded");
        assert_eq!(ends(2, 400), [401, 405], "a client that is late goes on where it is");
        assert_eq!(ends(9, 712), [713, 717], "until the end");
    }
}
