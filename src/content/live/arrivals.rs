//! Arrivals from a live source that wait for the station: pictures and packets of sound, each with the moment at which it
//! came. A source that is read by whatever protocol passes them on here, and ends with a reason.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use opencv::core::Mat;
use opencv::prelude::*;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::clock::AirClock;
use crate::media::AirTime;
use crate::media::jpeg::Jpeg;
use crate::wire::sdp::offers::Coding;

/// Most pictures and packets that wait: those of a buffer of 2 s, at 60 pictures and 50 packets of sound a second.
const MOST_WAITING: usize = 256;

/// Most bytes of those that wait.
const MOST_BYTES: usize = 32 << 20;

/// Most bytes a second: a source that sends more would take the time of other stations.
const MOST_A_SECOND: usize = 32 << 20;

/// Something that has come from a source.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// The coding of what follows. A source that does not say so sends JPEG files.
    Tracks {
        /// Of the pictures.
        pictures: Coding,
        /// Of the sound, and the ticks a second of its clock, if there is any that the station wants.
        sound: Option<(Coding, u32)>,
    },
    /// A picture.
    Picture(Stamped<PictureBody>),
    /// A packet of sound.
    Sound(Stamped<Bytes>),
}

/// A picture or a packet of sound, with its times.
#[derive(Debug)]
pub(crate) struct Stamped<T> {
    /// When its last byte had come.
    pub(crate) at: AirTime,
    /// When it was taken, by the clock of the source, if that tells.
    pub(crate) stamp: Option<AirTime>,
    /// Whether stamps of sound are on the clock of the pictures' stamps.
    pub(crate) in_step: bool,
    pub(crate) body: T,
}

/// A picture as it came.
#[derive(Debug)]
pub(crate) enum PictureBody {
    /// Bytes that should be a JPEG file.
    File(Bytes),
    /// A picture from RTP/JPEG.
    Jpeg(Jpeg),
    /// An access unit of H.264 or H.265, with start codes.
    Unit(Bytes),
    /// Pixels: blue, green and red.
    Pixels(Mat),
}

impl Arrival {
    /// Bytes that it holds.
    fn bytes(&self) -> usize {
        match self {
            Arrival::Tracks { .. } => 0,
            Arrival::Sound(sound) => sound.body.len(),
            Arrival::Picture(picture) => match &picture.body {
                PictureBody::File(bytes) | PictureBody::Unit(bytes) => bytes.len(),
                PictureBody::Jpeg(jpeg) => jpeg.scan.len(),
                PictureBody::Pixels(pixels) => pixels.total() * pixels.elem_size().unwrap_or(0),
            },
        }
    }
}

/// The station's end: it takes what has come.
pub(crate) struct Arrivals {
    arrivals: mpsc::Receiver<Result<Arrival, String>>,
    waiting: Arc<Waiting>,
}

/// The source's end: it passes on what comes.
pub(crate) struct ArrivalSender {
    clock: AirClock,
    sender: mpsc::Sender<Result<Arrival, String>>,
    waiting: Arc<Waiting>,
    second: Second,
}

/// The pictures that wait to be taken.
#[derive(Default)]
struct Waiting {
    bytes: AtomicUsize,
    /// Pictures that found no place.
    dropped: AtomicU64,
}

/// Both ends of a way from a source to its station.
pub(crate) fn arrivals(clock: AirClock) -> (ArrivalSender, Arrivals) {
    let (sender, arrivals) = mpsc::channel(MOST_WAITING);
    let waiting = Arc::new(Waiting::default());
    let sender = ArrivalSender { clock, sender, waiting: waiting.clone(), second: Second::default() };
    (sender, Arrivals { arrivals, waiting })
}

impl Arrivals {
    /// The next that comes.
    ///
    /// # Errors
    /// Why nothing more comes: the sentence that names the source.
    pub(crate) async fn next(&mut self) -> Result<Arrival, String> {
        let arrival = self.arrivals.recv().await.unwrap_or_else(|| Err("the connection broke".into()))?;
        self.waiting.bytes.fetch_sub(arrival.bytes(), Relaxed);
        Ok(arrival)
    }

    /// The next arrival, without waiting; `None` if all were taken.
    pub(crate) fn waiting(&mut self) -> Option<Result<Arrival, String>> {
        let arrival = self.arrivals.try_recv().ok()?;
        if let Ok(arrival) = &arrival {
            self.waiting.bytes.fetch_sub(arrival.bytes(), Relaxed);
        }
        Some(arrival)
    }

    /// How many pictures were dropped since this was asked last.
    pub(crate) fn take_dropped(&self) -> u64 {
        self.waiting.dropped.swap(0, Relaxed)
    }
}

impl ArrivalSender {
    /// A second sender to the same station, for the thread that reads the sound.
    pub(crate) fn beside(&self) -> ArrivalSender {
        let (clock, sender, waiting) = (self.clock.clone(), self.sender.clone(), self.waiting.clone());
        ArrivalSender { clock, sender, waiting, second: Second::default() }
    }

    /// The time of what comes now.
    #[expect(clippy::disallowed_methods, reason = "a shell: it has come now")]
    pub(crate) fn now(&self) -> AirTime {
        self.clock.now()
    }

    /// Counts bytes that have come.
    ///
    /// # Errors
    /// They are too many. The sentence stands behind the name of the source.
    pub(crate) fn count(&mut self, bytes: usize) -> Result<(), String> {
        let takes = self.second.takes(bytes);
        takes.then_some(()).ok_or_else(|| format!("sends more than {} MB a second", MOST_A_SECOND >> 20))
    }

    /// Passes on how it is coded. Waits for a place.
    pub(crate) async fn tracks(&self, pictures: Coding, sound: Option<(Coding, u32)>) {
        let _ = self.sender.send(Ok(Arrival::Tracks { pictures, sound })).await;
    }

    /// The same, if there is a place, as there is before anything else was passed on.
    pub(crate) fn tracks_at_once(&self, pictures: Coding, sound: Option<(Coding, u32)>) {
        let _ = self.sender.try_send(Ok(Arrival::Tracks { pictures, sound }));
    }

    /// Passes a picture on that has come now, or drops it if too many wait.
    pub(crate) fn picture(&self, body: PictureBody, stamp: Option<AirTime>) {
        self.pass(Arrival::Picture(Stamped { at: self.now(), stamp, in_step: true, body }));
    }

    /// Passes a packet of sound on that has come now, or drops it if too many wait.
    pub(crate) fn sound(&self, body: Bytes, stamp: AirTime, in_step: bool) {
        self.pass(Arrival::Sound(Stamped { at: self.now(), stamp: Some(stamp), in_step, body }));
    }

    /// Ends with this reason.
    pub(crate) async fn end(self, reason: String) {
        let _ = self.sender.send(Err(reason)).await;
    }

    /// Ends with this reason, on a thread that may block.
    pub(crate) fn end_blocking(self, reason: String) {
        let _ = self.sender.blocking_send(Err(reason));
    }

    /// Whether nobody takes what comes any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    fn pass(&self, arrival: Arrival) {
        let (length, is_picture) = (arrival.bytes(), matches!(arrival, Arrival::Picture(_)));
        let before = self.waiting.bytes.fetch_add(length, Relaxed);
        if before + length > MOST_BYTES || self.sender.try_send(Ok(arrival)).is_err() {
            self.waiting.bytes.fetch_sub(length, Relaxed);
            self.waiting.dropped.fetch_add(is_picture.into(), Relaxed);
        }
    }
}

/// The bytes of the current second.
#[derive(Default)]
struct Second {
    began: Option<Instant>,
    bytes: usize,
}

impl Second {
    /// Counts bytes. Returns whether they are not too many.
    #[expect(clippy::disallowed_methods, reason = "a shell: bytes come now")]
    fn takes(&mut self, bytes: usize) -> bool {
        let now = Instant::now();
        if self.began.is_none_or(|began| now - began > Duration::from_secs(1)) {
            (self.began, self.bytes) = (Some(now), 0);
        }
        self.bytes += bytes;
        self.bytes <= MOST_A_SECOND
    }
}
