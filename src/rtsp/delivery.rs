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

use super::conversation::Wish;
use super::demand::{Programme, Showing};
use super::fanout::{Fanouts, Tap};
use super::live::{Carrier, Live, Next};
use super::session::{Audit, Command, Life, Started};
use super::sink::Sink;
use super::writer::Gone;
use crate::clock::AirClock;
use crate::directory::StationTable;
use crate::directory::table::AudienceMember;
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

pub(super) struct Delivery {
    pub(super) clock: AirClock,
    pub(super) table: Arc<StationTable>,
    pub(super) monitor: Arc<StationHandle>,
    /// What is shown, if it is not what is on air.
    pub(super) programme: Option<Arc<Programme>>,
    pub(super) sink: Sink,
    pub(super) fanouts: Arc<Fanouts>,
    pub(super) life: Arc<Life>,
    /// `None` where nothing is delivered.
    pub(super) audit: Option<Audit>,
    pub(super) cname: String,
}

/// What is being shown, and the next of it.
struct Show {
    what: What,
    next: Option<Next>,
}

enum What {
    Live { live: Live, _audience: Option<AudienceMember> },
    Demand(Showing),
}

/// What happened first.
enum Event {
    Told(Option<Command>),
    /// Of this moment, unless a sign of life has come.
    Expired(Instant),
    Heard(usize),
    Report,
    Next(Next),
}

impl Delivery {
    /// Runs until the session is over.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut show: Option<Show> = None;
        // Where a programme stopped.
        let mut place = Duration::ZERO;
        // Timers that stay: made anew for each picture, these two took 8 % of the processor time of 500 viewers by TCP.
        let mut expiry = pin!(sleep_until(self.life.ends()));
        let mut report = pin!(sleep_until(Instant::now()));
        let mut buffer = [0; CONTROL];
        loop {
            let (ends, ahead) = (self.life.ends(), self.sink.ahead());
            if expiry.deadline() != ends {
                expiry.as_mut().reset(ends);
            }
            let event = tokio::select! {
                biased;
                told = commands.recv() => Event::Told(told),
                () = &mut expiry => Event::Expired(ends),
                packet = self.sink.hear(&mut buffer) => Event::Heard(packet.len()),
                () = &mut report, if show.is_some() => Event::Report,
                event = next(&mut show, &self.clock, ahead) => event,
            };
            let done = match event {
                Event::Told(None) => break,
                Event::Told(Some(Command::End(done))) => {
                    take_back(&mut show).await;
                    self.sink.close();
                    let _ = done.send(());
                    break;
                }
                Event::Told(Some(Command::Pause(done))) => {
                    take_back(&mut show).await;
                    place = show.take().and_then(|show| show.place()).unwrap_or(place);
                    self.life.play(false);
                    // Whoever asked may have gone.
                    let _ = done.send(());
                    Ok(())
                }
                Event::Told(Some(Command::Play(wish, started))) => {
                    take_back(&mut show).await;
                    place = show.as_ref().and_then(Show::place).unwrap_or(place);
                    match self.span(&wish, place) {
                        Ok(span) => {
                            self.life.play(true);
                            show = self.begin(&wish, span, show.take(), started).await;
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
                Event::Expired(ends) if self.life.ends() > ends => Ok(()),
                Event::Expired(_) => break,
                Event::Heard(length) => {
                    if let Some(audit) = &self.audit {
                        audit.hear(&buffer[..length]);
                    }
                    Ok(())
                }
                Event::Report => {
                    report.as_mut().reset(Instant::now() + REPORT);
                    self.report().await
                }
                Event::Next(Next::Unit(unit)) => self.deliver(unit, &mut show).await,
                Event::Next(Next::Missed(missed)) => {
                    self.miss(missed);
                    Ok(())
                }
                Event::Next(Next::Behind) => self.sink.flush().await,
                Event::Next(Next::End(_)) => {
                    place = show.take().and_then(|show| show.place()).unwrap_or(place);
                    self.life.play(false);
                    self.bye().await
                }
            };
            if done.is_err() {
                return;
            }
        }
        take_back(&mut show).await;
        self.sink.close();
        // The last word: whether it arrives or not, this is over.
        let _ = self.bye().await;
    }

    /// From where to where a programme is to be shown that is at `place`; of what is live nothing is said.
    fn span(&self, wish: &Wish, place: Duration) -> Result<Option<(Duration, Duration)>, StatusCode> {
        let Some(programme) = &self.programme else { return Ok(None) };
        // Played to its end, it begins again.
        let stopped = if place < programme.length() { place } else { Duration::ZERO };
        let (from, to) = (wish.from.unwrap_or(stopped), wish.to.unwrap_or(programme.length()));
        if from < to { Ok(Some((from, to))) } else { Err(StatusCode::InvalidRange) }
    }

    /// Begins to show what is wished, once the client has been told. What is live already goes on.
    async fn begin(
        &mut self,
        wish: &Wish,
        span: Option<(Duration, Duration)>,
        before: Option<Show>,
        started: oneshot::Sender<Result<Started, StatusCode>>,
    ) -> Option<Show> {
        let now = self.clock.now();
        let mut answer =
            Started { sequence: self.sink.sequence(), timestamp: None, span, scale: 1.0, go: None };
        let show = match (self.programme.clone().zip(span), before) {
            (None, Some(live)) => {
                answer.timestamp = Some(now.rtp_timestamp());
                live
            }
            (None, None) => {
                let live = Live::join(&self.monitor.feed, now + self.sink.delay(), self.carrier());
                answer.timestamp = live.first().map(|unit| unit.due.at.rtp_timestamp());
                let _audience = self.table.join_audience(self.monitor.spec.id);
                Show { what: What::Live { live, _audience }, next: None }
            }
            (Some((programme, span)), _) => {
                let showing = Showing::new(programme, span, wish.scale.unwrap_or(1.0), now);
                answer.timestamp = Some(showing.due().rtp_timestamp());
                answer.scale = showing.scale();
                Show { what: What::Demand(showing), next: None }
            }
        };
        let (go, gone) = oneshot::channel();
        answer.go = Some(go);
        let _ = started.send(Ok(answer));
        // Dropped is as good as sent.
        let _ = gone.await;
        // What nobody gets from here has no audience here: nobody knows how long they watch.
        self.audit.is_some().then_some(show)
    }

    /// Who writes into a connection as long as that keeps up.
    fn carrier(&self) -> Option<Carrier> {
        let (Sink::Tcp(tcp), Some(audit)) = (&self.sink, &self.audit) else { return None };
        let tap = Tap { tcp: tcp.clone(), client: audit.client.clone() };
        Some(Carrier::new(self.fanouts.place(&self.monitor, &self.clock), tap))
    }

    async fn deliver(&mut self, unit: Unit, show: &mut Option<Show>) -> Result<(), Gone> {
        let Some(client) = self.audit.as_ref().map(|audit| audit.client.clone()) else { return Ok(()) };
        let oldest = self.clock.now() - BEHIND;
        let late = unit.due.at < oldest;
        match show.as_mut().map(|show| &mut show.what) {
            Some(What::Demand(showing)) if late => {
                let skipped = showing.skip(oldest);
                self.miss(skipped);
                return Ok(());
            }
            Some(What::Demand(showing)) => showing.advance(),
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
        if let Some(Audit { client, .. }) = &self.audit {
            client.dropped.store(self.sink.lost(), Relaxed);
        }
    }

    async fn report(&mut self) -> Result<(), Gone> {
        self.count();
        let Some(sent) = self.sink.sent() else { return Ok(()) };
        self.sink.control(&sent.report(self.clock.now(), &self.cname)).await
    }

    async fn bye(&mut self) -> Result<(), Gone> {
        let Some(sent) = self.sink.sent() else { return Ok(()) };
        self.sink.control(&sent.bye(self.clock.now(), &self.cname)).await
    }
}

impl Show {
    /// Where a programme is.
    fn place(&self) -> Option<Duration> {
        match &self.what {
            What::Live { .. } => None,
            What::Demand(showing) => Some(showing.place()),
        }
    }

    async fn fetch(&mut self) -> Next {
        match &mut self.what {
            What::Live { live, .. } => live.next().await,
            What::Demand(showing) => showing.next().await.unwrap_or_else(|error| {
                warn!("rtsp: a programme ends early: {error}");
                Next::End(AirTime::default())
            }),
        }
    }
}

/// Nobody but the session's task writes any more.
async fn take_back(show: &mut Option<Show>) {
    if let Some(Show { what: What::Live { live, .. }, .. }) = show {
        live.take_back().await;
    }
}

/// Waits for what comes next, until so long before it is due. May be cancelled: what was waited for is kept.
async fn next(show: &mut Option<Show>, clock: &AirClock, ahead: Duration) -> Event {
    let Some(show) = show else { return std::future::pending().await };
    let due = loop {
        if show.next.is_none() {
            show.next = Some(show.fetch().await);
        }
        match (&show.next, &mut show.what) {
            (Some(Next::Unit(unit)), What::Live { live, .. }) if unit.due.at > clock.now() => {
                let due = unit.due.at - ahead;
                if !live.hand_on().await {
                    break due;
                }
                show.next = None;
            }
            (Some(Next::Unit(unit)), _) => break unit.due.at - ahead,
            (Some(Next::End(at)), _) => break *at,
            _ => break AirTime::default(),
        }
    };
    sleep_until(Instant::now() + clock.until(due)).await;
    Event::Next(show.next.take().unwrap_or(Next::Missed(0)))
}
