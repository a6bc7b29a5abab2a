//! The task of a session: takes units from a playback, gives them to a sink when they are due, and sends RTCP reports. It
//! holds one picture at a time, and a packet of sound, however slow its client is.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rtsp_types::StatusCode;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::fanout::{FanoutClient, FanoutMembership, Fanouts};
use super::playback::{LivePlayback, Playback, PlaybackEvent, PlaybackKind};
use super::request::PlayRange;
use super::response::Rejection;
use super::session::{KeepAlive, ReceiverReports, SessionCommand, Started};
use super::sink::{Sink, receive_rtcp};
use super::vod::{VodError, VodPlayback, VodProgramme};
use super::writer::Gone;
use crate::clock::AirClock;
use crate::directory::StationTable;
use crate::headend::live_units::LiveUnits;
use crate::headend::{Client, StationHandle};
use crate::media::tracks::PerTrack;
use crate::media::{Track, Unit};

/// Time between two sender reports. RFC 3550 section 6.2 has 5 s as the minimum.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// The same for a session with pictures and sound, which players tie together by them. GStreamer 1.22, which was sent the picture and
/// the packet on air late when it began, had them 20 ms apart until the second report.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// A picture that is later than this is left out. So a client can be behind by this, and by the content of the kernel's send
/// buffer, but never further.
pub(super) const MAX_LATENESS: Duration = Duration::from_secs(1);

/// Most bytes of an RTCP packet that are read.
const MAX_RTCP: usize = 1500;

pub(super) struct SessionTask {
    pub(super) clock: AirClock,
    pub(super) table: Arc<StationTable>,
    pub(super) station: Arc<StationHandle>,
    /// The programme on demand; `None` if live.
    pub(super) vod: Option<Arc<VodProgramme>>,
    /// Of the tracks that are set up.
    pub(super) sinks: PerTrack<Sink>,
    pub(super) fanouts: Arc<Fanouts>,
    pub(super) playing: Arc<AtomicBool>,
    pub(super) keep_alive: Arc<KeepAlive>,
    /// `None` by multicast.
    pub(super) receiver_reports: Option<ReceiverReports>,
    pub(super) cname: String,
}

enum SessionEvent {
    /// `None`: the session was removed.
    Command(Option<SessionCommand>),
    /// The session ends, unless its deadline is later than this by now.
    Expired(Instant),
    /// An RTCP packet of this length, on this track, is in the buffer.
    Rtcp(Track, usize),
    ReportDue,
    Playback(PlaybackEvent),
}

impl SessionTask {
    /// Runs until the session ends.
    #[expect(clippy::disallowed_methods, reason = "a shell: it plays and expires a session")]
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<SessionCommand>) {
        let mut playback: Option<Playback> = None;
        // The NPT at which playback on demand has stopped.
        let mut stopped_at = Duration::ZERO;
        // Reset, and not made anew for each picture: that took 8 % of the processor time of 500 viewers by TCP.
        let mut expiry = pin!(sleep_until(self.keep_alive.deadline()));
        let mut report = pin!(sleep_until(Instant::now()));
        let mut buffer = [0; MAX_RTCP];
        let end_reply = loop {
            let (deadline, ahead) = (self.keep_alive.deadline(), self.ahead());
            if expiry.deadline() != deadline {
                expiry.as_mut().reset(deadline);
            }
            let event = tokio::select! {
                biased;
                command = commands.recv() => SessionEvent::Command(command),
                () = &mut expiry => SessionEvent::Expired(deadline),
                (track, length) = receive_rtcp(&mut self.sinks, &mut buffer) => SessionEvent::Rtcp(track, length),
                () = &mut report, if playback.is_some() => SessionEvent::ReportDue,
                event = async {
                    match &mut playback {
                        Some(playback) => playback.next(&self.clock, ahead).await,
                        None => std::future::pending().await,
                    }
                } => SessionEvent::Playback(event),
            };
            let result = match event {
                SessionEvent::Command(None) => break None,
                SessionEvent::Command(Some(SessionCommand::End(reply))) => break Some(reply),
                // The loop begins with the deadline.
                SessionEvent::Command(Some(SessionCommand::Abandoned)) => Ok(()),
                SessionEvent::Command(Some(SessionCommand::Add(track, sink, reply))) => {
                    self.sinks.set(track, sink);
                    let _ = reply.send(());
                    Ok(())
                }
                SessionEvent::Command(Some(SessionCommand::Pause(reply))) => {
                    leave_fanout(&mut playback).await;
                    stopped_at = self.stop(&mut playback).unwrap_or(stopped_at);
                    // An error means that the connection is over.
                    let _ = reply.send(());
                    Ok(())
                }
                SessionEvent::Command(Some(SessionCommand::Play(range, reply))) => {
                    leave_fanout(&mut playback).await;
                    stopped_at = playback.as_ref().and_then(Playback::npt).unwrap_or(stopped_at);
                    match self.span(&range, stopped_at) {
                        Ok(span) => {
                            self.playing.store(true, Relaxed);
                            playback = self.start(&range, span, playback.take(), reply).await;
                            report.as_mut().reset(Instant::now() + self.report_interval());
                            self.send_report().await
                        }
                        Err(status) => {
                            let _ = reply.send(Err(status.into()));
                            Ok(())
                        }
                    }
                }
                SessionEvent::Expired(deadline) if self.keep_alive.deadline() > deadline => Ok(()),
                SessionEvent::Expired(_) => break None,
                SessionEvent::Rtcp(track, length) => {
                    let info = self.sinks.get(track).and_then(Sink::sender_info);
                    if let Some((receiver_reports, info)) = self.receiver_reports.as_ref().zip(info) {
                        receiver_reports.record(track, info.ssrc, &buffer[..length]);
                    }
                    Ok(())
                }
                SessionEvent::ReportDue => {
                    report.as_mut().reset(Instant::now() + self.report_interval());
                    self.send_report().await
                }
                SessionEvent::Playback(PlaybackEvent::Unit(unit)) => self.send(unit, &mut playback).await,
                SessionEvent::Playback(PlaybackEvent::Missed(track, missed)) => {
                    self.miss(track, missed);
                    Ok(())
                }
                SessionEvent::Playback(PlaybackEvent::Behind) => self.flush().await,
                SessionEvent::Playback(event @ (PlaybackEvent::End(_) | PlaybackEvent::Failed(_))) => {
                    if let PlaybackEvent::Failed(error) = event {
                        self.warn_of(&error);
                    }
                    stopped_at = self.stop(&mut playback).unwrap_or(stopped_at);
                    self.send_bye().await
                }
            };
            if let Err(Gone) = result {
                return;
            }
        };
        leave_fanout(&mut playback).await;
        self.sinks.values_mut().for_each(Sink::close);
        if let Some(reply) = end_reply {
            let _ = reply.send(());
        }
        // An error changes nothing: the session is over.
        let _ = self.send_bye().await;
    }

    /// Stops playback. Returns the NPT at which it stops; `None` if live.
    fn stop(&self, playback: &mut Option<Playback>) -> Option<Duration> {
        self.playing.store(false, Relaxed);
        playback.take()?.npt()
    }

    /// The span of a PLAY, in NPT, of a programme that has stopped at `stopped_at`; `None` if live.
    fn span(
        &self,
        range: &PlayRange,
        stopped_at: Duration,
    ) -> Result<Option<(Duration, Duration)>, StatusCode> {
        let Some(vod) = &self.vod else { return Ok(None) };
        // A programme that has ended starts again.
        let resume_at = if stopped_at < vod.length() { stopped_at } else { Duration::ZERO };
        let (from, to) = (range.from.unwrap_or(resume_at), range.to.unwrap_or(vod.length()));
        if from < to { Ok(Some((from, to))) } else { Err(StatusCode::InvalidRange) }
    }

    /// Starts playback when the response to PLAY is written. A live playback that is running goes on.
    #[expect(clippy::disallowed_methods, reason = "a shell: it plays and expires a session")]
    async fn start(
        &mut self,
        range: &PlayRange,
        span: Option<(Duration, Duration)>,
        running: Option<Playback>,
        reply: oneshot::Sender<Result<Started, Rejection>>,
    ) -> Option<Playback> {
        let now = self.clock.now();
        let (hold, released) = oneshot::channel();
        let sequences = self.sinks.map(|_, sink| sink.next_sequence());
        let mut started = Started { sequences, at: None, span, scale: 1.0, hold: Some(hold) };
        let playback = match (self.vod.clone().zip(span), running) {
            (None, Some(live)) => {
                started.at = Some(now);
                live
            }
            (None, None) => {
                let units = LiveUnits::subscribe(&self.station, self.sinks.tracks(), now + self.delay());
                started.at = units.first_due();
                let live = LivePlayback::new(units, self.fanout_membership());
                let _audience = self.table.join_audience(self.station.spec().id);
                Playback::new(PlaybackKind::Live { live, _audience })
            }
            (Some((vod, span)), running) => {
                // Its film is closed first.
                drop(running);
                let sound = self.sinks.sound.as_ref().map(|_| self.station.spec());
                let mut vod = VodPlayback::new(vod, span, range.scale.unwrap_or(1.0), now, sound);
                if let Err(error) = vod.prepare(&self.clock).await {
                    self.warn_of(&error);
                    self.playing.store(false, Relaxed);
                    let _ = reply.send(Err(Rejection::unavailable(&error)));
                    return None;
                }
                started.at = Some(vod.due());
                started.scale = vod.scale();
                Playback::new(PlaybackKind::Vod(vod))
            }
        };
        let _ = reply.send(Ok(started));
        // Nothing is ever sent: the connection drops `hold`.
        let _ = released.await;
        // By multicast nothing is sent to this client. Nor does it count as audience: we cannot know how long it watches.
        self.client().is_some().then_some(playback)
    }

    fn warn_of(&self, error: &VodError) {
        warn!(station = %self.station.spec().id, "rtsp: a programme on demand ends early: {error}");
    }

    /// How a client by TCP can join a fan-out.
    fn fanout_membership(&self) -> Option<FanoutMembership> {
        let mut sinks = PerTrack::default();
        for (track, sink) in self.sinks.iter() {
            let Sink::Tcp(sink) = sink else { return None };
            sinks.set(track, sink.clone());
        }
        let fanout = self.fanouts.with_room(&self.station, sinks.tracks(), &self.clock);
        Some(FanoutMembership::new(fanout, FanoutClient { sinks, counters: self.client()?.clone() }))
    }

    /// The counters of the client; `None` by multicast.
    fn client(&self) -> Option<&Arc<Client>> {
        self.receiver_reports.as_ref().map(|receiver_reports| &receiver_reports.client)
    }

    /// Sends a unit, or leaves it out if it is too late. On demand, it leaves out all that are too late at once.
    #[expect(clippy::disallowed_methods, reason = "a shell: it plays and expires a session")]
    async fn send(&mut self, unit: Unit, playback: &mut Option<Playback>) -> Result<(), Gone> {
        let Some(client) = self.client().cloned() else { return Ok(()) };
        let oldest = self.clock.now() - MAX_LATENESS;
        let (track, late) = (unit.track(), unit.due.at < oldest);
        match playback.as_mut().map(|playback| &mut playback.kind) {
            Some(PlaybackKind::Vod(vod)) if late => {
                let skipped = vod.skip(oldest);
                skipped.iter().for_each(|(track, &units)| self.miss(track, units));
                return Ok(());
            }
            Some(PlaybackKind::Vod(vod)) => vod.advance(track),
            _ if late => {
                self.miss(track, 1);
                return Ok(());
            }
            _ => {}
        }
        match self.sinks.get_mut(track) {
            Some(sink) => sink.send(unit, &client).await,
            None => Ok(()),
        }
    }

    /// How long before they are due the sinks want units. All are of one kind.
    fn ahead(&self) -> Duration {
        self.sinks.iter().map(|(_, sink)| sink.ahead()).max().unwrap_or_default()
    }

    /// Longest time until the first unit leaves.
    fn delay(&self) -> Duration {
        self.sinks.iter().map(|(_, sink)| sink.delay()).max().unwrap_or_default()
    }

    /// Waits until the rest of a unit is out that the fan-out has begun. It is the same connection for both tracks.
    async fn flush(&mut self) -> Result<(), Gone> {
        match self.sinks.values_mut().next() {
            Some(sink) => sink.flush().await,
            None => Ok(()),
        }
    }

    fn report_interval(&self) -> Duration {
        if self.sinks.iter().count() > 1 { SYNC_INTERVAL } else { REPORT_INTERVAL }
    }

    /// Counts units that were left out.
    fn miss(&mut self, track: Track, units: u64) {
        if let Some(sink) = self.sinks.get_mut(track) {
            sink.miss(units);
        }
        self.count_dropped();
    }

    /// Tells how many pictures were dropped.
    fn count_dropped(&self) {
        if let Some((client, sink)) = self.client().zip(self.sinks.picture.as_ref()) {
            client.dropped.store(sink.dropped(), Relaxed);
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a shell: it plays and expires a session")]
    async fn send_report(&mut self) -> Result<(), Gone> {
        self.count_dropped();
        // Both reports are of one instant.
        let now = self.clock.now();
        for sink in self.sinks.values_mut() {
            if let Some(info) = sink.sender_info() {
                sink.send_rtcp(&info.sender_report(now, &self.cname)).await?;
            }
        }
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "a shell: it plays and expires a session")]
    async fn send_bye(&mut self) -> Result<(), Gone> {
        let now = self.clock.now();
        for sink in self.sinks.values_mut() {
            if let Some(info) = sink.sender_info() {
                sink.send_rtcp(&info.bye(now, &self.cname)).await?;
            }
        }
        Ok(())
    }
}

/// Stops the fan-out from writing for this session.
async fn leave_fanout(playback: &mut Option<Playback>) {
    if let Some(playback) = playback {
        playback.leave_fanout().await;
    }
}
