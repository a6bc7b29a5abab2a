//! The task of a session: takes pictures from a station or from its programme, hands them on when they are due, and says by
//! RTCP what it has sent. It holds one picture at a time, whatever its client does.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rtsp_types::StatusCode;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::fanout::{FanoutClient, Fanouts};
use super::playback::{FanoutMembership, LivePlayback, PlaybackEvent};
use super::request::PlayRange;
use super::session::{KeepAlive, ReceiverReports, SessionCommand, Started};
use super::sink::Sink;
use super::vod::{ReelSequence, VodPlayback};
use super::writer::Gone;
use crate::clock::AirClock;
use crate::directory::StationTable;
use crate::directory::table::Seat;
use crate::headend::StationHandle;
use crate::media::AirTime;
use crate::media::Unit;

/// How often a session is reported on. (RFC 3550 section 6.2 has 5 s as the least, for two who talk.)
const REPORT: Duration = Duration::from_secs(5);

/// A picture that is later than this is left out. A client may be so far behind, and what is in the kernel's queue besides,
/// before it loses pictures; it is never further behind.
pub(super) const BEHIND: Duration = Duration::from_secs(1);

/// Most bytes of an RTCP packet that are looked at.
const CONTROL: usize = 1500;

pub(super) struct SessionTask {
    pub(super) clock: AirClock,
    pub(super) table: Arc<StationTable>,
    pub(super) station: Arc<StationHandle>,
    /// What is shown, if it is not what is on air.
    pub(super) programme: Option<Arc<ReelSequence>>,
    pub(super) sink: Sink,
    pub(super) fanouts: Arc<Fanouts>,
    pub(super) keep_alive: Arc<KeepAlive>,
    /// `None` where nothing is delivered.
    pub(super) receiver_reports: Option<ReceiverReports>,
    pub(super) cname: String,
}

/// What is being shown, and the next of it.
struct Playback {
    kind: PlaybackKind,
    next: Option<PlaybackEvent>,
}

enum PlaybackKind {
    Live { live: LivePlayback, _audience: Option<Seat> },
    Vod(VodPlayback),
}

/// What happened first.
enum SessionEvent {
    Told(Option<SessionCommand>),
    /// Of this moment, unless a sign of life has come.
    Expired(Instant),
    Heard(usize),
    Report,
    PlaybackEvent(PlaybackEvent),
}

impl SessionTask {
    /// Runs until the session is over.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<SessionCommand>) {
        let mut playback: Option<Playback> = None;
        // Where a programme stopped.
        let mut place = Duration::ZERO;
        // Timers that stay: made anew for each picture, these two took 8 % of the processor time of 500 viewers by TCP.
        let mut expiry = pin!(sleep_until(self.keep_alive.ends()));
        let mut report = pin!(sleep_until(Instant::now()));
        let mut buffer = [0; CONTROL];
        loop {
            let (ends, ahead) = (self.keep_alive.ends(), self.sink.ahead());
            if expiry.deadline() != ends {
                expiry.as_mut().reset(ends);
            }
            let event = tokio::select! {
                biased;
                told = commands.recv() => SessionEvent::Told(told),
                () = &mut expiry => SessionEvent::Expired(ends),
                packet = self.sink.hear(&mut buffer) => SessionEvent::Heard(packet.len()),
                () = &mut report, if playback.is_some() => SessionEvent::Report,
                event = next(&mut playback, &self.clock, ahead) => event,
            };
            let done = match event {
                SessionEvent::Told(None) => break,
                SessionEvent::Told(Some(SessionCommand::End(done))) => {
                    take_back(&mut playback).await;
                    self.sink.close();
                    let _ = done.send(());
                    break;
                }
                SessionEvent::Told(Some(SessionCommand::Pause(done))) => {
                    take_back(&mut playback).await;
                    place = playback.take().and_then(|playback| playback.place()).unwrap_or(place);
                    self.keep_alive.play(false);
                    // Whoever asked may have gone.
                    let _ = done.send(());
                    Ok(())
                }
                SessionEvent::Told(Some(SessionCommand::Play(wish, started))) => {
                    take_back(&mut playback).await;
                    place = playback.as_ref().and_then(Playback::place).unwrap_or(place);
                    match self.span(&wish, place) {
                        Ok(span) => {
                            self.keep_alive.play(true);
                            playback = self.begin(&wish, span, playback.take(), started).await;
                            report.as_mut().reset(Instant::now() + REPORT);
                            self.report().await
                        }
                        Err(status) => {
                            let _ = started.send(Err(status));
                            Ok(())
                        }
                    }
                }
                // A sign of life came meanwhile.
                SessionEvent::Expired(ends) if self.keep_alive.ends() > ends => Ok(()),
                SessionEvent::Expired(_) => break,
                SessionEvent::Heard(length) => {
                    if let Some(receiver_reports) = &self.receiver_reports {
                        receiver_reports.hear(&buffer[..length]);
                    }
                    Ok(())
                }
                SessionEvent::Report => {
                    report.as_mut().reset(Instant::now() + REPORT);
                    self.report().await
                }
                SessionEvent::PlaybackEvent(PlaybackEvent::Unit(unit)) => {
                    self.deliver(unit, &mut playback).await
                }
                SessionEvent::PlaybackEvent(PlaybackEvent::Missed(missed)) => {
                    self.miss(missed);
                    Ok(())
                }
                SessionEvent::PlaybackEvent(PlaybackEvent::Behind) => self.sink.flush().await,
                SessionEvent::PlaybackEvent(PlaybackEvent::End(_)) => {
                    place = playback.take().and_then(|playback| playback.place()).unwrap_or(place);
                    self.keep_alive.play(false);
                    self.bye().await
                }
            };
            if done.is_err() {
                return;
            }
        }
        take_back(&mut playback).await;
        self.sink.close();
        // The last word: whether it arrives or not, this is over.
        let _ = self.bye().await;
    }

    /// From where to where a programme is to be shown that is at `place`; of what is live nothing is said.
    fn span(&self, wish: &PlayRange, place: Duration) -> Result<Option<(Duration, Duration)>, StatusCode> {
        let Some(programme) = &self.programme else { return Ok(None) };
        // Played to its end, it begins again.
        let stopped = if place < programme.length() { place } else { Duration::ZERO };
        let (from, to) = (wish.from.unwrap_or(stopped), wish.to.unwrap_or(programme.length()));
        if from < to { Ok(Some((from, to))) } else { Err(StatusCode::InvalidRange) }
    }

    /// Begins to show what is wished, once the client has been told. What is live already goes on.
    async fn begin(
        &mut self,
        wish: &PlayRange,
        span: Option<(Duration, Duration)>,
        before: Option<Playback>,
        started: oneshot::Sender<Result<Started, StatusCode>>,
    ) -> Option<Playback> {
        let now = self.clock.now();
        let mut answer =
            Started { sequence: self.sink.sequence(), timestamp: None, span, scale: 1.0, go: None };
        let playback = match (self.programme.clone().zip(span), before) {
            (None, Some(live)) => {
                answer.timestamp = Some(now.rtp_timestamp());
                live
            }
            (None, None) => {
                let live = LivePlayback::join(&self.station.feed, now + self.sink.delay(), self.carrier());
                answer.timestamp = live.first().map(|unit| unit.due.at.rtp_timestamp());
                let _audience = self.table.sit(self.station.spec.id);
                Playback { kind: PlaybackKind::Live { live, _audience }, next: None }
            }
            (Some((programme, span)), _) => {
                let vod = VodPlayback::new(programme, span, wish.scale.unwrap_or(1.0), now);
                answer.timestamp = Some(vod.due().rtp_timestamp());
                answer.scale = vod.scale();
                Playback { kind: PlaybackKind::Vod(vod), next: None }
            }
        };
        let (go, gone) = oneshot::channel();
        answer.go = Some(go);
        let _ = started.send(Ok(answer));
        // Dropped is as good as sent.
        let _ = gone.await;
        // What nobody gets from here has no audience here: nobody knows how long they watch.
        self.receiver_reports.is_some().then_some(playback)
    }

    /// Who writes into a connection as long as that keeps up.
    fn carrier(&self) -> Option<FanoutMembership> {
        let (Sink::Tcp(tcp), Some(receiver_reports)) = (&self.sink, &self.receiver_reports) else {
            return None;
        };
        let tap = FanoutClient { tcp: tcp.clone(), client: receiver_reports.client.clone() };
        Some(FanoutMembership::new(self.fanouts.place(&self.station, &self.clock), tap))
    }

    async fn deliver(&mut self, unit: Unit, playback: &mut Option<Playback>) -> Result<(), Gone> {
        let Some(client) =
            self.receiver_reports.as_ref().map(|receiver_reports| receiver_reports.client.clone())
        else {
            return Ok(());
        };
        let oldest = self.clock.now() - BEHIND;
        let late = unit.due.at < oldest;
        match playback.as_mut().map(|playback| &mut playback.kind) {
            Some(PlaybackKind::Vod(vod)) if late => {
                let skipped = vod.skip(oldest);
                self.miss(skipped);
                return Ok(());
            }
            Some(PlaybackKind::Vod(vod)) => vod.advance(),
            _ if late => {
                self.miss(1);
                return Ok(());
            }
            _ => {}
        }
        self.sink.send(unit, &client).await
    }

    /// Counts pictures that were left out.
    fn miss(&mut self, pictures: u64) {
        self.sink.miss(pictures);
        self.count();
    }

    fn count(&self) {
        if let Some(ReceiverReports { client, .. }) = &self.receiver_reports {
            client.dropped.store(self.sink.lost(), Relaxed);
        }
    }

    async fn report(&mut self) -> Result<(), Gone> {
        self.count();
        let Some(sent) = self.sink.sent() else { return Ok(()) };
        self.sink.control(&sent.sender_report(self.clock.now(), &self.cname)).await
    }

    async fn bye(&mut self) -> Result<(), Gone> {
        let Some(sent) = self.sink.sent() else { return Ok(()) };
        self.sink.control(&sent.bye(self.clock.now(), &self.cname)).await
    }
}

impl Playback {
    /// Where a programme is.
    fn place(&self) -> Option<Duration> {
        match &self.kind {
            PlaybackKind::Live { .. } => None,
            PlaybackKind::Vod(vod) => Some(vod.place()),
        }
    }

    async fn fetch(&mut self) -> PlaybackEvent {
        match &mut self.kind {
            PlaybackKind::Live { live, .. } => live.next().await,
            PlaybackKind::Vod(vod) => vod.next().await.unwrap_or_else(|error| {
                warn!("rtsp: a programme ends early: {error}");
                PlaybackEvent::End(AirTime::default())
            }),
        }
    }
}

/// Nobody but the session's task writes any more.
async fn take_back(playback: &mut Option<Playback>) {
    if let Some(Playback { kind: PlaybackKind::Live { live, .. }, .. }) = playback {
        live.take_back().await;
    }
}

/// Waits for what comes next, until so long before it is due. May be cancelled: what was waited for is kept.
async fn next(playback: &mut Option<Playback>, clock: &AirClock, ahead: Duration) -> SessionEvent {
    let Some(playback) = playback else { return std::future::pending().await };
    let due = loop {
        if playback.next.is_none() {
            playback.next = Some(playback.fetch().await);
        }
        match (&playback.next, &mut playback.kind) {
            (Some(PlaybackEvent::Unit(unit)), PlaybackKind::Live { live, .. })
                if unit.due.at > clock.now() =>
            {
                let due = unit.due.at - ahead;
                if !live.hand_on().await {
                    break due;
                }
                playback.next = None;
            }
            (Some(PlaybackEvent::Unit(unit)), _) => break unit.due.at - ahead,
            (Some(PlaybackEvent::End(at)), _) => break *at,
            _ => break AirTime::default(),
        }
    };
    sleep_until(Instant::now() + clock.until(due)).await;
    SessionEvent::PlaybackEvent(playback.next.take().unwrap_or(PlaybackEvent::Missed(0)))
}
