//! TRANSMIT, file to air. One always-on task a station; pictures are prepared ahead of their time in
//! the task, and sent on time by the [air thread](onair).
//!
//! ```text
//! film -> Source -> Picture -> Encoder -> Jpeg -> Timeline -> Flow -> air thread -> RtpSender -> multicast
//!                                          |                  ^  \
//!                                          +----> Reel -------+   +-> Feed -> RTSP, web, directory
//!                                               every pass but the first
//! ```
//!
//! A station never ends and never goes silent: whatever fails is one warning, a [slate](slate::slate) on
//! air that says why, and another try. No station can disturb another.

#![expect(clippy::disallowed_methods, reason = "the shell of a station: it waits for due times")]

pub(crate) mod runtime;

mod round;

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::air::sender::RtpSender;
use crate::air::{Flow, LEAD};
use crate::clock::AirClock;
use crate::content::catalogue::Catalogue;
use crate::content::playlist::PlaylistItem;
use crate::content::transcode::Transcoder;
use crate::content::worker::{BlockingWorker, STUCK};
use crate::content::{Fault, LONGEST_PAUSE};
use crate::directory::{OnAir, State, StationInfo, StationTable};
use crate::headend::{HeadEnd, StationHandle, report};
use crate::interface::interfaces;
use crate::lineup::StationSpec;
use crate::media::{AirTime, Due, FrameRate, MAX_BEHIND, REPEAT_RATE, Size, StationId, Unit};
use runtime::WakeSlots;

/// And at least: enough to sleep through another program's burst on the machine. In between a station sleeps, until one of the
/// [wake_slots](stage::WakeSlots). Waking up is most of what it costs beside the air thread, which takes as much as the bare sender: with
/// five wake-ups a second one station costs 1.48 times that, with two 1.30, with these 1.3 a second 1.2.
const LEAST_LEAD: Duration = Duration::from_millis(200);

/// A station whose ring is full waits until half of it is empty or [`LEAST_LEAD`] is left, but not less than this.
const FULL: Duration = Duration::from_millis(5);

/// The first picture of a station is due so long after the task began: decoding it takes some 10 ms.
const START_LEAD: Duration = Duration::from_millis(100);

/// Waits between tries after a fault: doubled each time, from the first to the last.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Most reasons for slates that are remembered as told.
const MOST_REPORTED: usize = 100;

/// A film that was on air for so long had not failed at once: the waits start from the first again.
const SOUND: Duration = Duration::from_secs(30);

/// When the system has sent nothing for so long, the interface is looked up again.
const UNSENT: Duration = Duration::from_secs(2);

/// Keeps one station on air until the studio stops, whatever happens to it.
pub(crate) async fn keep_on_air(handle: Arc<StationHandle>, head_end: Arc<HeadEnd>, wake_slots: WakeSlots) {
    let mut stop = head_end.stop.clone();
    let spec = &handle.spec;
    loop {
        let station = Station::new(handle.clone(), head_end.clone(), wake_slots);
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

/// One station, as its task owns it.
struct Station {
    spec: Arc<StationSpec>,
    clock: AirClock,
    table: Arc<StationTable>,
    stop: watch::Receiver<bool>,
    head_end: Arc<HeadEnd>,
    wake_slots: WakeSlots,
    flow: Flow,
    /// Pictures that were sent, and when that last rose.
    sent: (u64, AirTime),
    handle: Arc<StationHandle>,
    catalogue: Arc<Catalogue>,
    /// The films of this round that are still to come.
    round: VecDeque<PlaylistItem>,
    /// The size of all its pictures, once a film has opened.
    size: Option<Size>,
    /// When what has been handed to the air is over.
    free_at: AirTime,
    /// Its own share of a moment: stations do not all fire in the same one.
    phase: Duration,
    /// Decoder, encoder and time line. `None` while a blocking thread has it, or after it crashed or hung there.
    transcoder: Option<Box<Transcoder>>,
    workers: Workers,
    last: Option<Unit>,
    /// A film is on air.
    on_air: bool,
    /// When one is, the log shall say so: it has said that none is, or nothing yet.
    to_tell: bool,
}

/// What a station does on threads that may block: in all, it never has more of them than these.
#[derive(Default)]
struct Workers {
    /// Films: where they are looked for, opened and decoded.
    films: BlockingWorker,
    /// Reels: where they are found, read and recorded. A reel is only a cache: the film plays on without.
    reels: BlockingWorker,
    /// Slates, which go on while a film hangs.
    slates: BlockingWorker,
    /// Interfaces, where nothing can be sent: a driver that is being reset answers nobody.
    interfaces: BlockingWorker,
}

impl Station {
    fn new(handle: Arc<StationHandle>, head_end: Arc<HeadEnd>, wake_slots: WakeSlots) -> io::Result<Station> {
        let spec = handle.spec.clone();
        let flow = head_end.air.flow(RtpSender::open(&spec)?, handle.air.clone());
        let entry =
            StationInfo::starting(spec.id, &spec.name, spec.group, &spec.interface.name, spec.quality);
        let (clock, shown) = (head_end.clock.clone(), handle.clone());
        let picture = move || {
            let (_, unit) = shown.feed.at(clock.now())?;
            Some(OnAir { due: unit.due.at, jpeg: unit.jpeg().to_jfif() })
        };
        head_end.table.enter(entry, picture).map_err(io::Error::other)?;
        Ok(Station {
            clock: head_end.clock.clone(),
            table: head_end.table.clone(),
            stop: head_end.stop.clone(),
            wake_slots,
            flow,
            sent: (0, AirTime::default()),
            handle,
            catalogue: head_end.catalogue.clone(),
            round: VecDeque::new(),
            size: None,
            free_at: AirTime::default(),
            phase: phase(spec.id),
            transcoder: None,
            workers: Workers::default(),
            last: None,
            on_air: false,
            to_tell: true,
            spec,
            head_end,
        })
    }

    /// On air until the studio stops: programme, and a slate while there is none.
    async fn run(mut self) {
        let _reporter = report::watch(self.handle.clone());
        let mut retry = RETRY.0;
        let mut reported = Reported::default();
        loop {
            let began = self.clock.now();
            let Err(fault) = self.run_once().await;
            if matches!(fault, Fault::Stopping) {
                break;
            }
            if self.clock.now().since(began) > SOUND {
                retry = RETRY.0;
            }
            let reason = fault.to_string();
            debug!("station {} \"{}\" failed: {reason}", self.spec.id, self.spec.name);
            if reported.is_news(&reason, self.handle.task.rounds.load(Relaxed)) {
                self.to_tell = true;
                warn!(
                    "station {} \"{}\" is off air and shows a slate: {reason}",
                    self.spec.id, self.spec.name
                );
            }
            self.on_air = false;
            if self.slate(&reason, retry).await.is_err() {
                break;
            }
            retry = (retry * 2).min(RETRY.1);
        }
        let (id, name, air) = (self.spec.id, &self.spec.name, &self.handle.air);
        let (aired, skipped) = (air.aired.load(Relaxed), air.skipped.load(Relaxed));
        debug!(
            "station {id} \"{name}\" off air: {aired} pictures aired, {skipped} skipped late, {}",
            air.lateness
        );
    }

    /// Hands a unit to the air thread. Waits when the station is [`LEAD`] ahead.
    async fn hand_over(&mut self, unit: Unit) -> Result<(), Fault> {
        if let Some(last) = self.last.take() {
            let mut at = last.due.at.max(self.clock.now());
            while unit.due.at.since(at) > LONGEST_PAUSE {
                at = at + REPEAT_RATE.interval();
                let due = Due { at, interval: REPEAT_RATE.interval() };
                self.offer(Unit::picture(due, last.jpeg().clone())).await?;
            }
        }
        self.last = Some(unit.clone());
        self.free_at = unit.due.at + unit.due.interval;
        self.follow_interface().await;
        self.offer(unit).await
    }

    /// Where nothing can be sent, the interface may have another address by now, or may have been made anew: a socket keeps
    /// to what they were when it was opened.
    async fn follow_interface(&mut self) {
        let (air, now) = (&self.handle.air, self.clock.now());
        let sent = air.aired.load(Relaxed);
        if sent != self.sent.0 || self.sent.1 == AirTime::default() {
            self.sent = (sent, now);
        }
        if now.since(self.sent.1) < UNSENT {
            return;
        }
        // Somebody looks already: next time.
        let head_end = self.head_end.clone();
        let Ok(mut looked) = head_end.interfaces.try_lock() else { return };
        if now.since(looked.0) >= UNSENT {
            let found = self.workers.interfaces.call(STUCK, || interfaces().unwrap_or_default()).await;
            let Ok(found) = found else { return };
            *looked = (self.clock.now(), found);
        }
        self.sent.1 = self.clock.now();
        let (known, group) = (&self.spec.interface, self.spec.group);
        let there = looked.1.iter().find(|there| there.name == known.name);
        let Some(interface) = there.filter(|there| !there.sends_as(known, group)).cloned() else { return };
        let spec = StationSpec { interface, ..(*self.spec).clone() };
        // Not yet: it has no address, say.
        let Ok(outlet) = RtpSender::open(&spec) else { return };
        self.flow = self.head_end.air.flow(outlet, self.handle.air.clone());
        info!("station {} \"{}\" sends by {} now", spec.id, spec.name, spec.interface);
        self.spec = Arc::new(spec);
    }

    async fn offer(&mut self, mut unit: Unit) -> Result<(), Fault> {
        let due = unit.due.at;
        self.handle.feed.push(unit.clone(), self.clock.now());
        while let Err(full) = self.flow.offer(unit) {
            unit = full;
            let ahead = self.clock.until(due);
            self.wait(ahead.saturating_sub(LEAST_LEAD).min(ahead / 2).max(FULL)).await?;
        }
        if self.clock.until(due) < LEAD {
            return Ok(());
        }
        // So that a station does not wake up for each picture.
        let wake = Instant::now() + self.clock.until(due - LEAST_LEAD);
        self.wait_until(self.wake_slots.before(wake)).await
    }

    async fn wait(&mut self, span: Duration) -> Result<(), Fault> {
        self.wait_until(Instant::now() + span).await
    }

    async fn wait_until(&mut self, moment: Instant) -> Result<(), Fault> {
        if *self.stop.borrow() {
            return Err(Fault::Stopping);
        }
        if moment <= Instant::now() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep_until(moment) => Ok(()),
            _ = self.stop.wait_for(|&stop| stop) => Err(Fault::Stopping),
        }
    }

    /// When the next picture can be on air: after those that are on their way, and not at once. A station that is a
    /// little behind keeps its time line and leaves out what is late.
    fn earliest(&self) -> AirTime {
        let now = self.clock.now();
        let behind = now.since(self.free_at);
        if behind < MAX_BEHIND { self.free_at } else { now + START_LEAD + self.phase }
    }

    /// Works at the transcoder on a thread of `lane`.
    async fn transcode<T: Send + 'static>(
        &mut self,
        lane: impl FnOnce(&mut Workers) -> &mut BlockingWorker,
        work: impl FnOnce(&mut Transcoder) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let mut transcoder = self.transcoder.take().unwrap_or_else(|| {
            let (clock, catalogue) = (self.clock.clone(), self.catalogue.clone());
            Box::new(Transcoder::new(&self.spec, clock, catalogue, self.earliest(), REPEAT_RATE))
        });
        let work = move || {
            let result = work(&mut transcoder);
            (transcoder, result)
        };
        let (transcoder, result) = lane(&mut self.workers).call(STUCK, work).await?;
        self.transcoder = Some(transcoder);
        Ok(result)
    }

    /// Tells the directory, and the log, what has just gone on air.
    fn announce(&mut self, state: State, size: Size, rate: FrameRate) {
        let spec = &self.spec;
        let on_film = state == State::Film;
        if on_film {
            self.handle.shows_film(rate);
        }
        // Refused would be an entry without sense: the line-up was checked, and sizes come from the encoder.
        let _ = self.table.update(spec.id, |entry| {
            entry.size = Some(size);
            entry.rate = Some(rate);
            entry.state = state;
        });
        self.on_air |= on_film;
        if on_film && std::mem::take(&mut self.to_tell) {
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
    }
}

/// A station's own share of a moment, under 40 ms. The golden ratio spreads any number of stations evenly over that, the
/// usual interval, on a grid of 256: waking up costs the air thread three times what a send does (13 us, 4 us), so the
/// stations of a crowd share their moments. Measured with 999 stations: 21 % of a core instead of 45, and p50 10 us later.
pub fn phase(id: StationId) -> Duration {
    let share = (f64::from(id.0) * 0.618_034 % 1.0 * 256.0).floor() / 256.0;
    Duration::from_millis(40).mul_f64(share)
}

/// The faults that the log has told of: each once, not once for each try, until a whole round has been without any.
#[derive(Debug, Default)]
struct Reported {
    reasons: HashSet<String>,
    /// The round of the last fault.
    round: u64,
}

impl Reported {
    /// Whether a fault for this reason is to be told of, after so many rounds were begun.
    fn is_news(&mut self, reason: &str, rounds: u64) -> bool {
        // Each try that finds its round over begins another one.
        if rounds > self.round + 1 || self.reasons.len() >= MOST_REPORTED {
            self.reasons.clear();
        }
        self.round = rounds;
        self.reasons.insert(reason.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_once_until_a_round_went_well() {
        let mut reported = Reported::default();
        // Two films at fault, and perhaps one between them that is not.
        for round in 1..100 {
            for film in ["a", "b"] {
                assert_eq!(reported.is_news(film, round), round == 1, "{film} in round {round}");
            }
        }
        assert!(reported.is_news("c", 100));
        assert!(!reported.is_news("a", 101));
        assert!(reported.is_news("a", 103), "it was well in round 102");
        for n in 0..10_000 {
            reported.is_news(&format!("breaks off after {n} pictures"), 103);
        }
        assert!(reported.reasons.len() <= MOST_REPORTED);
    }
}
