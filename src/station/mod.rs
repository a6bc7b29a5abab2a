//! TRANSMIT, file to air. One always-on task a station; pictures are prepared ahead of their time in
//! the task, and sent on time by the [air thread](onair).
//!
//! ```text
//! film -> Source -> Picture -> Encoder -> Jpeg -> Playout -> Seat -> the air thread -> multicast
//! ```
//!
//! A station never ends and never goes silent: whatever fails is one warning, a [slate](slate::slate) on
//! air that says why, and another try. No station can disturb another.

#![expect(clippy::disallowed_methods, reason = "the shell of a station: it waits for due times")]

pub mod encoder;
pub mod onair;
pub mod outlet;
pub mod playout;
pub mod reel;
pub mod slate;
pub mod source;

mod film;
mod status;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::clock::AirClock;
use crate::directory::{Board, Entry, OnAir, State};
use crate::lineup::{self, StationSpec};
use crate::units::{AirTime, FrameRate, Size};
use film::{Desk, Prepared};
use onair::{AccessUnit, Air, Seat};
use outlet::Outlet;
use playout::Due;
use source::SourceError;
use status::Counters;

/// How far ahead of its time a picture is prepared: enough to sleep through another program's burst on the
/// machine, little enough that a film's fault is on the slate within half a second. Ten pictures at 25 a second,
/// half a megabyte.
pub const LEAD: Duration = Duration::from_millis(400);

/// The first picture of a station is due so long after the task began: decoding it takes some 10 ms.
const START_LEAD: Duration = Duration::from_millis(100);

/// A film whose stamps leave a longer pause has its last picture repeated at [`SLATE_RATE`]: who tunes in
/// or loses a packet meanwhile shall not look at nothing.
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// Pictures a second of a slate.
const SLATE_RATE: FrameRate = match FrameRate::new(5, 1) {
    Some(rate) => rate,
    None => unreachable!(),
};

/// Waits between tries after a fault: doubled each time, from the first to the last.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// A film that was on air for so long had not failed at once: the waits start from the first again.
const SOUND: Duration = Duration::from_secs(30);

/// Preparing one picture takes milliseconds; after this long the decoder hangs (a dead network share).
const STUCK: Duration = Duration::from_secs(5);

/// Why a station shows a slate. The sentence is on it.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Encode(#[from] encoder::EncodeError),
    #[error("cannot read the programme: {0}")]
    Programme(io::Error),
    #[error("there is no film to play")]
    NoFilm,
    #[error("the film cannot be read: no picture for {} s", STUCK.as_secs())]
    Stuck,
    #[error("the decoder crashed")]
    Crashed,
    /// Not a fault: the daemon ends.
    #[error("the broadcaster is stopping")]
    Stopping,
}

/// What all stations of a broadcaster share.
pub struct Studio {
    /// The broadcast clock.
    pub clock: AirClock,
    /// The thread that sends.
    pub air: Air,
    /// What the directory tells.
    pub board: Arc<Board>,
    /// Turns true once, when the broadcaster stops.
    pub stop: watch::Receiver<bool>,
}

/// Keeps one station on air until the studio stops, whatever happens to it.
pub async fn keep_on_air(spec: Arc<StationSpec>, studio: Arc<Studio>) {
    let mut stop = studio.stop.clone();
    loop {
        let station = Station::new(spec.clone(), &studio);
        let ended = match station {
            Ok(station) => tokio::spawn(station.run()).await.map_err(|crash| crash.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match ended {
            Ok(()) => return,
            Err(reason) => {
                error!("station {} \"{}\" is down, starting it again: {reason}", spec.id, spec.name)
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY.0) => {}
            _ = stop.wait_for(|&stop| stop) => return,
        }
    }
}

/// The pictures around now, for whoever tunes in.
#[derive(Debug, Default)]
struct NowOnAir(Mutex<VecDeque<AccessUnit>>);

impl NowOnAir {
    fn push(&self, unit: AccessUnit, now: AirTime) {
        let mut units = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while units.get(1).is_some_and(|second| second.due.at <= now) {
            units.pop_front();
        }
        units.push_back(unit);
    }

    fn at(&self, now: AirTime) -> Option<AccessUnit> {
        let units = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        units.iter().take_while(|unit| unit.due.at <= now).last().cloned()
    }
}

/// One station, as its task owns it.
struct Station {
    spec: Arc<StationSpec>,
    clock: AirClock,
    board: Arc<Board>,
    stop: watch::Receiver<bool>,
    seat: Seat,
    now_on_air: Arc<NowOnAir>,
    counters: Arc<Counters>,
    /// The films of this round that are still to come.
    programme: VecDeque<PathBuf>,
    /// Decoder, encoder and time line. `None` while a blocking thread has it, or after it crashed there.
    desk: Option<Box<Desk>>,
    last: Option<AccessUnit>,
    /// A film is on air; the log has said so.
    on_air: bool,
}

impl Station {
    fn new(spec: Arc<StationSpec>, studio: &Studio) -> io::Result<Station> {
        let seat = studio.air.seat(Outlet::open(&spec)?);
        let now_on_air = Arc::new(NowOnAir::default());
        let counters = Arc::new(Counters::default());
        let entry = Entry {
            id: spec.id,
            name: spec.name.clone(),
            group: spec.group,
            interface: spec.interface.name.clone(),
            size: None,
            rate: None,
            quality: spec.quality,
            state: State::Starting,
            audience: 0,
        };
        let (clock, shown) = (studio.clock.clone(), now_on_air.clone());
        let picture = move || {
            let unit = shown.at(clock.now())?;
            Some(OnAir { due: unit.due.at, jpeg: unit.jpeg.to_jfif() })
        };
        studio.board.enter(entry, picture).map_err(io::Error::other)?;
        Ok(Station {
            spec,
            clock: studio.clock.clone(),
            board: studio.board.clone(),
            stop: studio.stop.clone(),
            seat,
            now_on_air,
            counters,
            programme: VecDeque::new(),
            desk: None,
            last: None,
            on_air: false,
        })
    }

    /// On air until the studio stops: programme, and a slate while there is none.
    async fn run(mut self) {
        let status = status::watch(self.spec.clone(), self.counters.clone(), self.seat.counters().clone());
        let status = tokio::spawn(status);
        let mut retry = RETRY.0;
        let mut reported = String::new();
        loop {
            let began = self.clock.now();
            let Err(fault) = self.run_once().await;
            if matches!(fault, Fault::Stopping) {
                break;
            }
            if self.clock.now().since(began) > SOUND {
                retry = RETRY.0;
            }
            // Once for each fault, not once for each try.
            let reason = fault.to_string();
            if self.on_air || reason != reported {
                warn!(
                    "station {} \"{}\" is off air and shows a slate: {reason}",
                    self.spec.id, self.spec.name
                );
            }
            self.on_air = false;
            if self.slate(&reason, retry).await.is_err() {
                break;
            }
            reported = reason;
            retry = (retry * 2).min(RETRY.1);
        }
        status.abort();
    }

    /// Plays the programme, round after round, until something fails.
    async fn run_once(&mut self) -> Result<Infallible, Fault> {
        loop {
            let film = match self.programme.pop_front() {
                Some(film) => film,
                None => {
                    self.programme = self.round().await?;
                    continue;
                }
            };
            self.play(film).await?;
        }
    }

    /// The films of the next round, as the media are now. Never empty.
    async fn round(&mut self) -> Result<VecDeque<PathBuf>, Fault> {
        let media = self.spec.media.clone();
        let films = blocking(move || lineup::films(&media)).await?.map_err(Fault::Programme)?;
        if films.is_empty() { Err(Fault::NoFilm) } else { Ok(films.into()) }
    }

    /// Plays one film to its end.
    async fn play(&mut self, path: PathBuf) -> Result<(), Fault> {
        self.at_desk(move |desk| desk.open(&path)).await??;
        let mut shown = false;
        loop {
            match self.at_desk(Desk::prepare).await?? {
                Prepared::Unit { unit, squeezed } => {
                    self.counters.squeezed.fetch_add(squeezed.into(), Relaxed);
                    let size = unit.jpeg.size;
                    self.hand_over(unit).await?;
                    if !shown {
                        shown = true;
                        self.announce(State::Film, size).await?;
                    }
                }
                Prepared::Skipped => {
                    self.counters.skipped.fetch_add(1, Relaxed);
                }
                Prepared::Behind(behind) => {
                    let (id, name) = (self.spec.id, &self.spec.name);
                    warn!(
                        "station {id} \"{name}\" stood still for {:.1} s and goes on from here",
                        behind.as_secs_f64()
                    );
                    self.counters.skipped.fetch_add(1, Relaxed);
                }
                Prepared::End => return Ok(()),
            }
        }
    }

    /// Shows why there is no programme, for `span`.
    async fn slate(&mut self, reason: &str, span: Duration) -> Result<(), Fault> {
        let (name, text) = (self.spec.name.clone(), reason.to_owned());
        let count = SLATE_RATE.nearest(span);
        for n in 0..count {
            let (name, text) = (name.clone(), text.clone());
            let drawn = self.at_desk(move |desk| desk.slate(n, SLATE_RATE, &name, &text)).await;
            // A slate must not fail for what made the film fail: a crashed desk is replaced by a new one.
            let unit = match drawn {
                Ok(Ok(unit)) => unit,
                Err(Fault::Stopping) => return Err(Fault::Stopping),
                Ok(Err(fault)) | Err(fault) => {
                    let (id, name) = (self.spec.id, &self.spec.name);
                    error!("station {id} \"{name}\" cannot even show a slate: {fault}");
                    return self.wait(RETRY.0).await;
                }
            };
            let size = unit.jpeg.size;
            self.hand_over(unit).await?;
            if n == 0 {
                self.announce(State::Slate { reason: reason.to_owned() }, size).await?;
            }
        }
        Ok(())
    }

    /// Hands a unit to the air thread, then waits until the station is no more than [`LEAD`] ahead.
    async fn hand_over(&mut self, unit: AccessUnit) -> Result<(), Fault> {
        if let Some(last) = self.last.take() {
            let mut at = last.due.at;
            while unit.due.at.since(at) > LONGEST_PAUSE {
                at = at + SLATE_RATE.interval();
                let due = Due { at, interval: SLATE_RATE.interval() };
                self.offer(AccessUnit { due, jpeg: last.jpeg.clone() }).await?;
            }
        }
        self.last = Some(unit.clone());
        self.offer(unit).await
    }

    async fn offer(&mut self, mut unit: AccessUnit) -> Result<(), Fault> {
        let due = unit.due.at;
        self.now_on_air.push(unit.clone(), self.clock.now());
        while let Err(full) = self.seat.offer(unit) {
            unit = full;
            self.wait(unit.due.interval).await?;
        }
        self.wait(self.clock.until(due - LEAD)).await
    }

    async fn wait(&mut self, span: Duration) -> Result<(), Fault> {
        if *self.stop.borrow() {
            return Err(Fault::Stopping);
        }
        if span.is_zero() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(span) => Ok(()),
            _ = self.stop.wait_for(|&stop| stop) => Err(Fault::Stopping),
        }
    }

    /// Works at the desk on a thread that may block.
    async fn at_desk<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Desk) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let mut desk = self.desk.take().unwrap_or_else(|| {
            // Stations do not fire in the same instant: the golden ratio spreads any number of them evenly.
            let phase = SLATE_RATE.interval().mul_f64(f64::from(self.spec.id.0) * 0.618_034 % 1.0);
            let start = self.last.as_ref().map_or(AirTime(0), |last| last.due.at + last.due.interval);
            let start = start.max(self.clock.now() + START_LEAD + phase / 2);
            Box::new(Desk::new(&self.spec, self.clock.clone(), start, SLATE_RATE))
        });
        let work = blocking(move || {
            let result = work(&mut desk);
            (desk, result)
        });
        let (desk, result) = tokio::time::timeout(STUCK, work).await.map_err(|_| Fault::Stuck)??;
        self.desk = Some(desk);
        Ok(result)
    }

    /// Tells the directory, and the log, what has just gone on air.
    async fn announce(&mut self, state: State, size: Size) -> Result<(), Fault> {
        let rate = match state {
            State::Film => self.at_desk(|desk| desk.rate()).await?,
            _ => SLATE_RATE,
        };
        let spec = &self.spec;
        let on_film = state == State::Film;
        // Refused would be an entry without sense: the line-up was checked, and sizes come from the encoder.
        let _ = self.board.update(spec.id, |entry| {
            entry.size = Some(size);
            entry.rate = Some(rate);
            entry.state = state;
        });
        if on_film && !self.on_air {
            self.on_air = true;
            info!(
                "station {} \"{}\" on air: {} via {}, ttl {}, {size}, {rate} pictures/s, quality {}, \
                 RTP/JPEG payload type 26, clock 90000, datagrams up to {} bytes",
                spec.id,
                spec.name,
                spec.group,
                spec.interface,
                spec.ttl,
                spec.quality,
                spec.datagram_limit(),
            );
        }
        Ok(())
    }
}

/// Runs `work` on a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Fault::Crashed)
}
