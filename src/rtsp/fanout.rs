//! A station's pictures to all connections that keep up. One task writes a picture to each of them when it is due, one after
//! the other. Waking a task for each viewer and picture was a third of what 500 viewers cost (docs/bench.md).
//!
//! The task waits for no connection. It hands a client back whose connection does not take a picture at once: the session
//! task waits for the connection, and joins again when the client has caught up.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::time::{Instant, sleep_until};

use super::session_task::MAX_LATENESS;
use super::sink::TcpSink;
use super::writer::{Gone, TryWrite};
use crate::clock::AirClock;
use crate::headend::feed::Subscription;
use crate::headend::{Client, StationHandle};
use crate::media::{StationId, Unit};

/// Most clients of one fan-out. Writing 22 kB takes some 10 us: the last client has its picture 1 to 2 ms after the first. A
/// larger audience has more fan-outs, which run on all cores.
const CLIENTS: usize = 128;

/// The fan-outs of all stations. Sessions keep them alive.
#[derive(Default)]
pub(super) struct Fanouts(Mutex<HashMap<StationId, Vec<Weak<Fanout>>>>);

impl Fanouts {
    /// A fan-out of a station with room for another client.
    pub(super) fn with_room(&self, station: &Arc<StationHandle>, clock: &AirClock) -> Arc<Fanout> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fanouts = all.entry(station.spec.id).or_default();
        fanouts.retain(|fanout| fanout.strong_count() > 0);
        // One reference is that of its task.
        let has_room = |fanout: &Arc<Fanout>| Arc::strong_count(fanout) <= CLIENTS + 1;
        fanouts.iter().filter_map(Weak::upgrade).find(has_room).unwrap_or_else(|| {
            let (station, clock) = (station.clone(), clock.clone());
            let fanout = Arc::new(Fanout { station, clock, state: AsyncMutex::default() });
            fanouts.push(Arc::downgrade(&fanout));
            fanout
        })
    }
}

/// The connections that one task writes to.
pub(super) struct Fanout {
    station: Arc<StationHandle>,
    clock: AirClock,
    /// Locked by the task while it writes.
    state: AsyncMutex<FanoutState>,
}

#[derive(Default)]
struct FanoutState {
    members: Vec<Member>,
    /// The number of the next unit.
    next: u64,
    /// Whether there is a task.
    running: bool,
}

/// A client that can be a member.
#[derive(Clone)]
pub(super) struct FanoutClient {
    pub(super) sink: Arc<TcpSink>,
    pub(super) counters: Arc<Client>,
}

struct Member {
    client: FanoutClient,
    /// The number of the next unit that the client gets.
    next: u64,
    /// To the session task.
    hand_back: oneshot::Sender<Subscription>,
}

/// A client's membership of a fan-out, which its session task can join and leave.
pub(super) struct FanoutMembership {
    fanout: Arc<Fanout>,
    client: FanoutClient,
    /// `Some` while the fan-out writes. It receives the units that the client has not got, when the fan-out hands it back.
    handed_back: Option<oneshot::Receiver<Subscription>>,
}

impl FanoutMembership {
    pub(super) fn new(fanout: Arc<Fanout>, client: FanoutClient) -> FanoutMembership {
        FanoutMembership { fanout, client, handed_back: None }
    }

    /// Whether the fan-out writes for the client.
    pub(super) fn is_active(&self) -> bool {
        self.handed_back.is_some()
    }

    /// Joins from unit `next` on. False if the fan-out has written that unit already. Cancel-safe: cancelled, it has not
    /// joined.
    pub(super) async fn join(&mut self, next: u64) -> bool {
        self.handed_back = self.fanout.add(&self.client, next).await;
        self.is_active()
    }

    /// Waits until the fan-out hands the client back. Returns the units that the client has not got; `None` if its
    /// connection is over. Cancel-safe. Never returns if the client is not a member.
    pub(super) async fn handed_back(&mut self) -> Option<Subscription> {
        let Some(handed_back) = &mut self.handed_back else { return std::future::pending().await };
        let units = handed_back.await.ok();
        self.handed_back = None;
        units
    }

    /// Leaves. Returns the units that the client has not got; `None` if it was not a member, or its connection is over.
    pub(super) async fn leave(&mut self) -> Option<Subscription> {
        self.handed_back.as_ref()?;
        self.fanout.remove(&self.client).await;
        self.handed_back.take()?.try_recv().ok()
    }
}

impl Fanout {
    /// Adds a client from unit `next` on. `None` if that unit has been written already.
    async fn add(
        self: &Arc<Self>,
        client: &FanoutClient,
        next: u64,
    ) -> Option<oneshot::Receiver<Subscription>> {
        let mut state = self.state.lock().await;
        if state.running && next < state.next {
            return None;
        }
        let (hand_back, handed_back) = oneshot::channel();
        state.members.push(Member { client: client.clone(), next, hand_back });
        if !state.running {
            state.running = true;
            state.next = next;
            tokio::spawn(self.clone().run(self.station.feed.resume(next)));
        }
        Some(handed_back)
    }

    /// Hands a client back.
    async fn remove(&self, client: &FanoutClient) {
        let mut state = self.state.lock().await;
        let index = state.members.iter().position(|member| Arc::ptr_eq(&member.client.sink, &client.sink));
        if let Some(index) = index {
            state.members.swap_remove(index).hand_back(&self.station);
        }
    }

    /// The task. Runs while there are members.
    #[expect(clippy::disallowed_methods, reason = "a shell: it waits until units are due")]
    async fn run(self: Arc<Self>, mut units: Subscription) {
        loop {
            let unit = units.recv().await;
            if let Ok(unit) = &unit {
                sleep_until(Instant::now() + self.clock.until(unit.due.at)).await;
            }
            let mut state = self.state.lock().await;
            // A session that ends drops its receiver and does not leave.
            state.members.retain(|member| !member.hand_back.is_closed());
            state.next = units.next();
            match unit {
                // Left out: each client counts the gap when it gets its next unit.
                Ok(unit) if self.clock.now().since(unit.due.at) > MAX_LATENESS => {}
                Err(RecvError::Lagged(_)) => {}
                Ok(unit) => state.write(&unit, &self.station),
                Err(RecvError::Closed) => state.members.clear(),
            }
            if state.members.is_empty() {
                state.running = false;
                return;
            }
        }
    }
}

impl FanoutState {
    /// Writes a unit, whose number is one below `next`, to all members that have not got it.
    fn write(&mut self, unit: &Unit, station: &StationHandle) {
        let number = self.next - 1;
        let mut index = 0;
        while let Some(member) = self.members.get_mut(index) {
            match member.write(unit, number) {
                Ok(true) => index += 1,
                Ok(false) => self.members.swap_remove(index).hand_back(station),
                // Its session task sees that the sender is dropped.
                Err(Gone) => drop(self.members.swap_remove(index)),
            }
        }
    }
}

impl Member {
    /// Writes unit `number`. False if the connection did not take all of it.
    fn write(&mut self, unit: &Unit, number: u64) -> Result<bool, Gone> {
        let Some(missed) = number.checked_sub(self.next) else { return Ok(true) };
        let FanoutClient { sink, counters } = &self.client;
        if missed > 0 {
            sink.miss(missed);
            counters.dropped.fetch_add(missed, Relaxed);
            self.next = number;
        }
        let written = sink.try_send(unit)?;
        if written != TryWrite::WouldBlock {
            self.next += 1;
            counters.pictures.fetch_add(1, Relaxed);
        }
        Ok(written == TryWrite::Complete)
    }

    fn hand_back(self, station: &StationHandle) {
        // An error means that the session has ended.
        let _ = self.hand_back.send(station.feed.resume(self.next));
    }
}
