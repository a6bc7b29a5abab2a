//! A station: the always-on task that asks its content for access units and hands them to its output. Imported by the daemon alone.
//!
//! ```text
//! Content -> Unit -> Output -> Flow -> air thread -> RtpSender -> multicast
//!                       \----> Feed -> RTSP, web, directory
//! ```
//!
//! A station never ends and never goes silent: whatever fails is one warning, a [slate](crate::content::slate) on air that says why, and
//! another try. No station can disturb another.

#![expect(clippy::disallowed_methods, reason = "the shell of a station: it waits for due times")]

mod output;
mod patience;
pub(crate) mod runtime;
#[cfg(test)]
mod simulation;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tracing::{debug, error, info, warn};

use crate::content::films::Films;
use crate::content::slate::Slate;
use crate::content::{Content, Event, Fault, Position, Showing};
use crate::directory::{OnAir, State, StationInfo};
use crate::headend::{HeadEnd, StationHandle, report};
use crate::media::{FrameRate, Size};
use output::{Output, Stopping};
use patience::{Patience, RETRY};
use runtime::WakeSlots;

/// Most reasons for slates that are remembered as told.
const MOST_REPORTED: usize = 100;

/// A film that was on air for so long had not failed at once: the waits start from the first again.
const SOUND: Duration = Duration::from_secs(30);

/// Keeps one station on air until the broadcaster stops, whatever happens to it.
pub(crate) async fn keep_on_air(handle: Arc<StationHandle>, head_end: Arc<HeadEnd>, wake_slots: WakeSlots) {
    let mut stop = head_end.stop.clone();
    let spec = &handle.spec;
    loop {
        let station = Station::new(handle.clone(), head_end.clone(), wake_slots);
        match tokio::spawn(station.run()).await {
            Ok(()) => return,
            Err(crash) => {
                error!("station {} \"{}\" is down, starting it again: {crash}", spec.id, spec.name);
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
    handle: Arc<StationHandle>,
    head_end: Arc<HeadEnd>,
    output: Output,
    /// What it shows, as long as that can be shown.
    content: Content,
    /// What it shows else.
    slate: Content,
    /// A film is on air.
    on_air: bool,
    /// Log "on air" with the next film: "off air", or nothing, was logged last.
    to_tell: bool,
}

/// Why a station no longer shows some content.
enum Ended {
    /// The content is over.
    Over,
    /// It cannot go on.
    Failed(Fault),
    /// The broadcaster stops.
    Stopping,
}

impl From<Stopping> for Ended {
    fn from(Stopping: Stopping) -> Ended {
        Ended::Stopping
    }
}

impl Station {
    fn new(handle: Arc<StationHandle>, head_end: Arc<HeadEnd>, wake_slots: WakeSlots) -> Station {
        let spec = handle.spec.clone();
        let info = StationInfo::starting(spec.id, &spec.name, spec.group, &spec.interface.name, spec.quality);
        let (clock, shown) = (head_end.clock.clone(), handle.clone());
        let picture = move || {
            let (_, unit) = shown.feed.at(clock.now())?;
            Some(OnAir { due: unit.due.at, jpeg: unit.jpeg().to_jfif() })
        };
        if let Err(error) = head_end.table.enter(info, picture) {
            // The line-up was checked: our bug, and no reason to stay off air.
            error!("station {} \"{}\" is missing from the directory: {error}", spec.id, spec.name);
        }
        let (clock, threads) = (head_end.clock.clone(), head_end.threads.clone());
        let catalogue = head_end.catalogue.clone();
        let slate = Content::Slate(Box::new(Slate::new(spec.clone(), clock.clone(), threads.clone())));
        let content = Content::Films(Box::new(Films::new(spec, clock, catalogue, threads)));
        let output = Output::open(handle.clone(), &head_end, wake_slots);
        Station { handle, head_end, output, content, slate, on_air: false, to_tell: true }
    }

    /// On air until the broadcaster stops: its content, and a slate while that cannot be shown.
    async fn run(mut self) {
        let _reporter = report::watch(self.handle.clone());
        let spec = self.handle.spec.clone();
        let mut patience = Patience::default();
        let mut reported = Reported::default();
        loop {
            let began = self.head_end.clock.now();
            let fault = match self.run_once(Showing::Film).await {
                Ended::Stopping => break,
                Ended::Failed(fault) => fault,
                Ended::Over => continue,
            };
            let played = self.content.take_played();
            if played || self.head_end.clock.now().since(began) > SOUND {
                patience.renew();
            }
            let reason = fault.to_string();
            debug!("station {} \"{}\" failed: {reason}", spec.id, spec.name);
            if reported.is_news(&reason, self.handle.task.rounds.load(Relaxed)) {
                self.to_tell = true;
                warn!("station {} \"{}\" is off air and shows a slate: {reason}", spec.id, spec.name);
            }
            self.on_air = false;
            let wait = patience.wait_after(&reason);
            if self.show_slate(reason, wait).await.is_err() {
                break;
            }
        }
        let air = &self.handle.air;
        let (aired, skipped) = (air.aired.load(Relaxed), air.skipped.load(Relaxed));
        debug!(
            "station {} \"{}\" off air: {aired} pictures aired, {skipped} skipped late, {}",
            spec.id, spec.name, air.lateness
        );
    }

    /// Shows why there is nothing else, for `span`.
    async fn show_slate(&mut self, reason: String, span: Duration) -> Result<(), Stopping> {
        let size = self.content.size();
        if let Content::Slate(slate) = &mut self.slate {
            slate.say(reason.clone(), span, size);
        }
        match self.run_once(Showing::Slate(reason)).await {
            Ended::Stopping => Err(Stopping),
            // The pictures may all be ahead of their time still, and the next try is to come after them.
            Ended::Over => self.output.drain().await,
            Ended::Failed(fault) => {
                let spec = &self.handle.spec;
                error!("station {} \"{}\" cannot even show a slate: {fault}", spec.id, spec.name);
                self.output.wait(RETRY.0).await
            }
        }
    }

    /// Airs its content, or its slate, until that is over or cannot go on.
    async fn run_once(&mut self, what: Showing) -> Ended {
        // What the next unit is the first of.
        let mut begins = None;
        loop {
            let at = Position { free_at: self.output.free_at(), on_air: self.on_air };
            let content = if what == Showing::Film { &mut self.content } else { &mut self.slate };
            let event = match content.next(at).await {
                Ok(Some(event)) => event,
                Ok(None) => return Ended::Over,
                Err(fault) => return Ended::Failed(fault),
            };
            let counters = &self.handle.task;
            match event {
                Event::Unit { unit, squeezed } => {
                    counters.squeezed.fetch_add(squeezed.into(), Relaxed);
                    if let Err(stopping) = self.output.hand_over(unit).await {
                        return stopping.into();
                    }
                    if let Some((showing, size, rate)) = begins.take() {
                        self.announce(showing, size, rate);
                    }
                }
                Event::Shows { showing, size, rate } => begins = Some((showing, size, rate)),
                Event::Until(moment) => self.output.hold_until(moment),
                Event::Skipped(pictures) => drop(counters.skipped.fetch_add(pictures, Relaxed)),
                Event::StoodStill(behind) => {
                    counters.skipped.fetch_add(1, Relaxed);
                    let (spec, seconds) = (&self.handle.spec, behind.as_secs_f64());
                    let (id, name) = (spec.id, &spec.name);
                    warn!("station {id} \"{name}\" stood still for {seconds:.1} s and goes on from here");
                }
                Event::Damaged(reason) => {
                    counters.skipped.fetch_add(1, Relaxed);
                    if let Some(reason) = reason {
                        let spec = &self.handle.spec;
                        warn!("station {} \"{}\": {reason}; it is made again", spec.id, spec.name);
                    }
                }
                Event::Round => drop(counters.rounds.fetch_add(1, Relaxed)),
            }
        }
    }

    /// Tells the directory, and the log, what has just gone on air.
    fn announce(&mut self, showing: Showing, size: Size, rate: FrameRate) {
        let spec = &self.handle.spec;
        let on_film = showing == Showing::Film;
        if on_film {
            self.handle.shows_film(rate);
        }
        // Refused would be an entry without sense: the line-up was checked, and sizes come from the encoder.
        let _ = self.head_end.table.update(spec.id, |info| {
            info.size = Some(size);
            info.rate = Some(rate);
            info.state = match showing {
                Showing::Film => State::Film,
                Showing::Slate(reason) => State::Slate { reason },
            };
        });
        self.on_air |= on_film;
        if on_film && std::mem::take(&mut self.to_tell) {
            let interface = self.handle.interface();
            let via =
                interface.as_ref().map_or(format!("{} (no address)", spec.interface.name), |i| i.to_string());
            let datagram = interface.map_or(0, |interface| spec.datagram_limit(interface.mtu));
            info!(
                "station {} \"{}\" on air: {} via {via}, ttl {}, {size}, {rate} pictures/s, quality {}, \
                 RTP/JPEG payload type 26, clock 90000, datagrams up to {datagram} bytes",
                spec.id, spec.name, spec.group, spec.ttl, spec.quality,
            );
        }
    }
}

/// The faults that the log has told of: each once, not once for each try, until a whole round has been without any.
#[derive(Debug, Default)]
struct Reported {
    reasons: HashSet<String>,
    /// The round of the last fault.
    round: u64,
}

impl Reported {
    /// Whether a fault for this reason is to be logged, after so many rounds were begun.
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
