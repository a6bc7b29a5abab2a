//! A station: the always-on task that asks its content for access units and hands them to its output.
//!
//! ```text
//! Content -> Unit -> Output -> Flow -> air thread -> RtpSender -> multicast
//!                       \----> Feed -> RTSP, web, directory
//! ```
//!
//! A station never ends and never goes silent. After any failure it logs one warning, shows a
//! [slate](crate::content::slate) that gives the reason, and retries. No station can disturb another.
//!
//! Only `daemon` imports it. It imports `content`, `air`, `headend`, `directory` (the table of stations), `media`, `interface`,
//! `net` and `clock`.

mod guide;
mod interlude;
pub(crate) mod listen;
mod output;
mod patience;
mod receivers;
mod reports;
pub(crate) mod runtime;
mod sealer;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "in virtual time")]
mod simulation;
mod sound;
mod supervisor;
mod time_of_day;

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use crate::content::films::Films;
use crate::content::live::Live;
use crate::content::mosaic::Mosaic;
use crate::content::slate::Slate;
use crate::content::worker::{BlockingWorker, STUCK_AFTER};
use crate::content::{Content, ContentEvent, ContentKind, Fault, OutputState};
use crate::directory::{OnAir, State, StationInfo};
use crate::headend::counters::start_reporter;
use crate::headend::{HeadEnd, Interlude, StationHandle};
use crate::lineup::{Media, StationSpec};
use crate::media::{FrameRate, Size};
use guide::GuideKeeper;
use output::{Interrupted, Output};
use patience::{Patience, RETRY};
use runtime::WakeSlots;
use sound::Heard;
pub(crate) use supervisor::supervise;

/// Most faults that are remembered as logged.
const MOST_REPORTED: usize = 100;

/// A hold lasts for longer than that.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// After this long on air, a fault is a new one, and the pauses before a retry start from the first again.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// Keeps one station on air until it is told to stop. Connections to a live source are on the runtime `sockets`. If the station's task panics, a new one is started.
#[expect(clippy::disallowed_methods, reason = "a shell: it waits before a restart")]
async fn keep_on_air(
    handle: Arc<StationHandle>,
    head_end: Arc<HeadEnd>,
    wake_slots: WakeSlots,
    sockets: Handle,
) {
    let mut stop = handle.stopping();
    let spec = handle.spec();
    loop {
        let (handle, head_end, sockets) = (handle.clone(), head_end.clone(), sockets.clone());
        let run = async move { Station::new(handle, head_end, wake_slots, sockets).run().await };
        match tokio::spawn(run).await {
            Ok(()) => return,
            Err(crash) => {
                error!("station {} \"{}\" crashed, restarting it: {crash}", spec.id, spec.name);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY.0) => {}
            _ = stop.wait_for(|&stop| stop) => return,
        }
    }
}

/// The state of a station's task.
struct Station {
    handle: Arc<StationHandle>,
    head_end: Arc<HeadEnd>,
    /// The runtime of connections to live sources.
    sockets: Handle,
    /// Its configuration, which may change.
    specs: watch::Receiver<Arc<StationSpec>>,
    output: Output,
    guide: GuideKeeper,
    content: Content,
    /// The media of the content, if these are not the station's own.
    instead: Option<Media>,
    /// Shown while `content` cannot be, and on hold.
    slate: Content,
    /// A film that is shown once, by an order.
    inserted: Option<Content>,
    /// The number of the order that is obeyed with the next unit.
    obeying: Option<u64>,
    /// Whether a film is on air.
    on_air: bool,
    /// Log "on air" with the next film: "off air", or nothing, was logged last.
    log_on_air: bool,
    patience: Patience,
    reported: Reported,
}

/// The kinds of content that a station shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Programme,
    Inserted,
    Slate,
}

/// Why a station has stopped showing its content or its slate.
enum ContentEnd {
    /// The content is over.
    Over,
    /// The content cannot go on.
    Failed(Fault),
    /// The content can go on, and the slate is not needed any more.
    Revived,
    /// The station is told to stop, or to show something else.
    Interrupted(Interrupted),
}

impl Station {
    #[expect(clippy::disallowed_methods, reason = "a shell: a station knows when it came on air")]
    fn new(
        handle: Arc<StationHandle>,
        head_end: Arc<HeadEnd>,
        wake_slots: WakeSlots,
        sockets: Handle,
    ) -> Station {
        let spec = handle.spec();
        let info = StationInfo::starting(spec.id, &spec.name, spec.group, &spec.interface.name, spec.quality);
        let (clock, shown) = (head_end.clock.clone(), handle.clone());
        let picture = move || {
            let (_, unit) = shown.feed.at(clock.now())?;
            Some(OnAir { due: unit.due.at, jpeg: unit.jpeg()?.to_jfif() })
        };
        if let Err(error) = head_end.table.enter(info, picture) {
            // Our bug, since the line-up was checked; no reason to stay off air.
            error!("station {} \"{}\" is missing from the directory: {error}", spec.id, spec.name);
        }
        let (clock, threads) = (head_end.clock.clone(), head_end.threads.clone());
        let catalogue = head_end.catalogue.clone();
        let guide = GuideKeeper::new(handle.clone(), catalogue.clone(), threads.clone());
        let slate = Content::Slate(Box::new(Slate::new(spec.clone(), clock.clone(), threads.clone())));
        let content = Content::Films(Box::new(Films::new(spec, clock, catalogue, threads)));
        let output = Output::open(handle.clone(), &head_end, wake_slots);
        let specs = handle.spec_changes();
        let mut station = Station {
            handle,
            head_end,
            sockets,
            specs,
            output,
            guide,
            content,
            instead: None,
            slate,
            inserted: None,
            obeying: None,
            on_air: false,
            log_on_air: true,
            patience: Patience::default(),
            reported: Reported::default(),
        };
        station.content = station.new_content();
        station
    }

    /// Shows the media of the time of day until the station is told to stop.
    #[expect(clippy::disallowed_methods, reason = "a shell: a station knows the time of day")]
    async fn run(mut self) {
        let _reporter = start_reporter(self.handle.clone());
        let spec = self.handle.spec();
        self.resolve_sound().await;
        self.take_up_interlude();
        let clock = self.head_end.clock.clone();
        loop {
            let place = time_of_day::place(&spec, clock.now());
            if let Some(timed) = place.and_then(|place| spec.at.get(place)) {
                self.show_instead(Some(timed.media.clone()));
            }
            tokio::select! {
                biased;
                () = self.show_content() => break,
                () = time_of_day::other_media(&spec, &clock, place) => {}
            }
            self.show_instead(None);
        }
        if !*self.head_end.stop.borrow() {
            // Only this station ends, and another may take its group at once.
            self.output.fall_silent();
        }
        let air = &self.handle.air;
        let (aired, skipped) = (air.aired.load(Relaxed), air.skipped.load(Relaxed));
        debug!(
            "station {} \"{}\" off air: {aired} pictures aired, {skipped} skipped late, {}",
            spec.id, spec.name, air.lateness
        );
    }

    /// From now on this is the content instead of the station's own media, or again that.
    fn show_instead(&mut self, media: Option<Media>) {
        self.handle.guide().clear_programme();
        self.instead = media;
        self.content = self.new_content();
        (self.on_air, self.log_on_air) = (false, true);
    }

    /// The configuration of the content.
    fn content_spec(&self) -> Arc<StationSpec> {
        let spec = self.handle.spec();
        match &self.instead {
            Some(media) => Arc::new(spec.with_media(media.clone())),
            None => spec,
        }
    }

    fn new_content(&self) -> Content {
        let (spec, head_end) = (self.content_spec(), &self.head_end);
        let (clock, threads) = (head_end.clock.clone(), head_end.threads.clone());
        let sockets = self.sockets.clone();
        match spec.media.clone() {
            Media::Films(_) => {
                Content::Films(Box::new(Films::new(spec, clock, head_end.catalogue.clone(), threads)))
            }
            Media::Live(source) => Content::Live(Box::new(Live::new(spec, source, clock, threads, sockets))),
            Media::Published(_) => {
                let slot = self.handle.publish_slot().clone();
                Content::Live(Box::new(Live::of_publishers(spec, slot, clock, threads, sockets)))
            }
            Media::Mosaic(ids) => {
                Content::Mosaic(Box::new(Mosaic::new(spec, ids, head_end.clone(), clock, threads)))
            }
        }
    }

    /// Shows the content until the station is told to stop, and the slate or the fallback while the content cannot be shown. Obeys
    /// orders.
    fn show_content(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            loop {
                match self.show_content_once().await {
                    Ok(()) => {}
                    Err(Interrupted::Ordered) => self.take_order(),
                    Err(Interrupted::Stopping) => return,
                }
            }
        })
    }

    /// Shows the content, or what was ordered instead, until it fails or is over, and after a failure the slate or the fallback.
    #[expect(clippy::disallowed_methods, reason = "a shell: a station knows when it came on air")]
    async fn show_content_once(&mut self) -> Result<(), Interrupted> {
        let began = self.head_end.clock.now();
        let interlude = self.handle.interlude();
        let end = match &interlude {
            None => self.run_once(Shown::Programme).await,
            Some(Interlude::Film(_)) => self.run_once(Shown::Inserted).await,
            Some(Interlude::Hold(text)) => {
                self.set_slate(text.clone(), DAY, true);
                self.run_once(Shown::Slate).await
            }
        };
        let fault = match end {
            ContentEnd::Interrupted(interrupted) => return Err(interrupted),
            end if interlude.is_some() => return self.end_interlude(end).await,
            ContentEnd::Failed(fault) => fault,
            ContentEnd::Over | ContentEnd::Revived => return Ok(()),
        };
        let played = self.content.take_played();
        if played || self.head_end.clock.now().since(began) > STABLE_AFTER {
            self.patience.renew();
        }
        let (spec, reason) = (self.handle.spec(), fault.to_string());
        debug!("station {} \"{}\" failed: {reason}", spec.id, spec.name);
        let has_fallback = !spec.fallback.is_empty() && matches!(self.content, Content::Live(_));
        if self.reported.is_news(&reason, self.handle.task.rounds.load(Relaxed)) {
            self.log_on_air = true;
            let shows = if has_fallback { "its fallback" } else { "a slate" };
            warn!("station {} \"{}\" is off air and shows {shows}: {reason}", spec.id, spec.name);
        }
        self.on_air = false;
        let wait = self.patience.wait_after(&reason);
        if has_fallback {
            return self.show_fallback().await;
        }
        self.show_slate(reason, wait).await
    }

    /// Shows the films of the fallback until the live source is back.
    async fn show_fallback(&mut self) -> Result<(), Interrupted> {
        self.handle.guide().clear_programme();
        let before = self.instead.replace(Media::Films(self.handle.spec().fallback.clone()));
        let films = self.new_content();
        let mut content = std::mem::replace(&mut self.content, films);
        let mut patience = Patience::default();
        let is_back = match &mut content {
            Content::Live(live) => tokio::select! {
                biased;
                () = live.seek(|reason| patience.wait_after(reason)) => true,
                () = self.show_content() => false,
            },
            Content::Films(_) | Content::Mosaic(_) | Content::Slate(_) => true,
        };
        self.handle.guide().clear_programme();
        self.instead = before;
        self.content = content;
        self.content.set_spec(self.content_spec());
        (self.on_air, self.log_on_air) = (false, true);
        if is_back { Ok(()) } else { Err(Interrupted::Stopping) }
    }

    /// Finds out whether the station has sound, before it is on air: what is described of it must not change with each film.
    async fn resolve_sound(&mut self) {
        let spec = self.handle.spec();
        let mut worker = BlockingWorker::new(self.head_end.threads.clone());
        let catalogue = self.head_end.catalogue.clone();
        let look = move || {
            spec.media.has_sound(&spec.sound, |film| {
                catalogue.outline(film, spec.slide).is_ok_and(|outline| outline.has_sound)
            })
        };
        // Films that cannot be looked at in time have none.
        if worker.call(STUCK_AFTER, look).await.unwrap_or(false) {
            self.output.open_sound(&self.head_end);
        }
    }

    /// Adapts to the configuration as it is now.
    fn follow_spec(&mut self) {
        if self.specs.has_changed().is_ok_and(|changed| changed) {
            let spec = self.specs.borrow_and_update().clone();
            self.output.set_spread(spec.spread);
            self.slate.set_spec(spec);
            self.content.set_spec(self.content_spec());
        }
    }

    /// Has the slate show `reason` for `span`, in the station's size.
    fn set_slate(&mut self, reason: String, span: Duration, on_hold: bool) {
        let size = self.content.size();
        if let Content::Slate(slate) = &mut self.slate {
            slate.set_reason(reason, span, size, on_hold);
        }
    }

    /// Shows the slate with `reason`, for `span`.
    async fn show_slate(&mut self, reason: String, span: Duration) -> Result<(), Interrupted> {
        self.set_slate(reason, span, false);
        self.handle.guide().clear();
        match self.run_once(Shown::Slate).await {
            ContentEnd::Interrupted(interrupted) => Err(interrupted),
            ContentEnd::Revived => Ok(()),
            // All pictures may still be ahead of their due times, and the retry is to come after them.
            ContentEnd::Over => self.output.drain().await,
            ContentEnd::Failed(fault) => {
                let spec = self.handle.spec();
                error!("station {} \"{}\" cannot show a slate either: {fault}", spec.id, spec.name);
                self.output.idle(RETRY.0).await
            }
        }
    }

    /// Hands the content, or the slate, to the output until it is over or cannot go on.
    async fn run_once(&mut self, shown: Shown) -> ContentEnd {
        // Announced once its first unit has been handed over.
        let mut begins = None;
        // A slate is silent, and so is a film until it tells when it began.
        self.output.set_heard(None);
        loop {
            self.follow_spec();
            let output = OutputState { free_at: self.output.free_at(), on_air: self.on_air };
            // A station that is on hold does not go on by itself.
            let is_held = self.handle.interlude().is_some();
            let event = {
                let (content, waiting) = match (shown, &mut self.inserted) {
                    (Shown::Slate, _) => (&mut self.slate, Some(&mut self.content).filter(|_| !is_held)),
                    (Shown::Inserted, Some(film)) => (film, None),
                    _ => (&mut self.content, None),
                };
                let mut next = std::pin::pin!(content.next(output));
                let mut revived = std::pin::pin!(async {
                    match waiting {
                        Some(content) => content.revived().await,
                        None => std::future::pending().await,
                    }
                });
                loop {
                    tokio::select! {
                        biased;
                        event = &mut next => break event,
                        () = &mut revived => return ContentEnd::Revived,
                        // Content that is late is no reason for silence: the last picture stays on air.
                        dry = self.output.run_dry() => {
                            let repeated = match dry {
                                Ok(()) => self.output.repeat().await,
                                Err(interrupted) => Err(interrupted),
                            };
                            if let Err(interrupted) = repeated {
                                return ContentEnd::Interrupted(interrupted);
                            }
                        }
                    }
                }
            };
            let event = match event {
                Ok(Some(event)) => event,
                Ok(None) => return ContentEnd::Over,
                Err(fault) => return ContentEnd::Failed(fault),
            };
            let counters = &self.handle.task;
            match event {
                ContentEvent::Unit { unit, .. } if self.output.is_taken(unit.due.at) => {
                    counters.skipped.fetch_add(1, Relaxed);
                }
                ContentEvent::Unit { unit, squeezed } => {
                    counters.squeezed.fetch_add(squeezed.into(), Relaxed);
                    let handed_over = self.output.hand_over(unit).await;
                    if let Some((kind, size, rate)) = begins.take() {
                        self.announce(kind, size, rate);
                    }
                    if let Err(interrupted) = handed_over {
                        return ContentEnd::Interrupted(interrupted);
                    }
                }
                ContentEvent::Begin { kind, size, rate } => begins = Some((kind, size, rate)),
                ContentEvent::Film(film) => {
                    self.guide_film(shown, &film);
                    self.output.set_heard(Some(Heard::Film(film)));
                }
                ContentEvent::LiveSound(sound) => self.output.set_heard(Some(Heard::Live(sound))),
                ContentEvent::SoundHasCome => self.output.live_sound_has_come(),
                ContentEvent::HoldUntil(moment) => self.output.hold_until(moment),
                ContentEvent::Skipped(pictures) => drop(counters.skipped.fetch_add(pictures, Relaxed)),
                ContentEvent::Reanchored(behind) => {
                    counters.skipped.fetch_add(1, Relaxed);
                    let (spec, seconds) = (&self.handle.spec(), behind.as_secs_f64());
                    let (id, name) = (spec.id, &spec.name);
                    warn!("station {id} \"{name}\" stood still for {seconds:.1} s and goes on from there");
                }
                ContentEvent::Damaged(reason) => {
                    counters.skipped.fetch_add(1, Relaxed);
                    if let Some(reason) = reason {
                        let spec = self.handle.spec();
                        warn!("station {} \"{}\": {reason}; it will be made again", spec.id, spec.name);
                    }
                }
                // It is no round of the programme.
                ContentEvent::RoundBegins(_) if shown == Shown::Inserted => {}
                ContentEvent::RoundBegins(films) => {
                    counters.rounds.fetch_add(1, Relaxed);
                    self.guide.begin_round(films);
                }
            }
        }
    }

    /// Tells the directory, and logs, that content has begun. Its first unit has just been handed over.
    fn announce(&mut self, kind: ContentKind, size: Size, rate: FrameRate) {
        let spec = self.handle.spec();
        let on_film = kind == ContentKind::Film;
        if let Some(number) = self.obeying.take() {
            let fault = match &kind {
                ContentKind::Slate(reason) if self.handle.interlude().is_none() => {
                    Some(format!("shows a slate: {reason}"))
                }
                _ => None,
            };
            self.handle.orders.obeyed(number, fault);
        }
        if on_film {
            self.handle.set_film_rate(rate);
        }
        // The table cannot refuse the entry: the line-up was checked, and sizes come from the encoder.
        let _ = self.head_end.table.update(spec.id, |info| {
            info.size = Some(size);
            info.rate = Some(rate);
            info.state = match kind {
                ContentKind::Film => State::Film,
                ContentKind::Slate(reason) => State::Slate { reason },
            };
        });
        if on_film && !self.on_air {
            // Whatever kept it off air may have been the reason.
            self.handle.set_demand_refused(None);
        }
        self.on_air |= on_film;
        if on_film && std::mem::take(&mut self.log_on_air) {
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

/// The faults that have been logged: each is logged once, not at each retry, until a whole round was without a fault.
#[derive(Debug, Default)]
struct Reported {
    reasons: HashSet<String>,
    /// Rounds begun at the time of the last fault.
    round: u64,
}

impl Reported {
    /// Whether a fault for this reason is to be logged. `rounds` have begun so far.
    fn is_news(&mut self, reason: &str, rounds: u64) -> bool {
        // A retry begins another round only if the one before is over.
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
    fn a_fault_is_logged_once_until_a_round_was_without_faults() {
        let mut reported = Reported::default();
        // Two faulty films, perhaps with a good one between them.
        for round in 1..100 {
            for film in ["a", "b"] {
                assert_eq!(reported.is_news(film, round), round == 1, "{film} in round {round}");
            }
        }
        assert!(reported.is_news("c", 100));
        assert!(!reported.is_news("a", 101));
        assert!(reported.is_news("a", 103), "round 102 was without faults");
        for n in 0..10_000 {
            reported.is_news(&format!("breaks off after {n} pictures"), 103);
        }
        assert!(reported.reasons.len() <= MOST_REPORTED);
    }
}
