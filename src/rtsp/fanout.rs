//! A station's units to all connections that keep up. One task writes a unit to each of them when it is due, one after
//! the other. Clients that take the same tracks have it together, so sound wakes no task of a client without. Waking a task for each viewer and picture was a third of what 500 viewers cost (docs/bench.md).
//!
//! The task waits for no connection. It hands a client back whose connection does not take a picture at once: the session
//! task waits for the connection, and joins again when the client has caught up.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex as AsyncMutex, oneshot};

use super::session_task::MAX_LATENESS;
use super::sink::TcpSink;
use super::writer::{Gone, TryWrite};
use crate::clock::AirClock;
use crate::headend::live_units::{LiveUnits, NoUnit};
use crate::headend::{Client, StationHandle};
use crate::media::tracks::PerTrack;
use crate::media::{StationId, Track, Unit};

/// Most clients of one fan-out. Writing 22 kB takes some 10 us: the last client has its picture 1 to 2 ms after the first. A
/// larger audience has more fan-outs, which run on all cores.
const CLIENTS: usize = 128;

/// The fan-outs of all stations. Sessions keep them alive.
#[derive(Default)]
pub(super) struct Fanouts(Mutex<FanoutsByTracks>);

type FanoutsByTracks = HashMap<(StationId, PerTrack<()>), Vec<Weak<Fanout>>>;

impl Fanouts {
    /// A fan-out of these tracks of a station with room for another client.
    pub(super) fn with_room(
        &self,
        station: &Arc<StationHandle>,
        tracks: PerTrack<()>,
        clock: &AirClock,
    ) -> Arc<Fanout> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Also removes the fan-outs of stations that are gone.
        all.retain(|_, fanouts| {
            fanouts.retain(|fanout| fanout.strong_count() > 0);
            !fanouts.is_empty()
        });
        let fanouts = all.entry((station.spec().id, tracks)).or_default();
        // One reference is that of its task.
        let has_room = |fanout: &Arc<Fanout>| {
            Arc::ptr_eq(&fanout.station, station) && Arc::strong_count(fanout) <= CLIENTS + 1
        };
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
    /// The number of the next unit of each track.
    next: PerTrack<u64>,
    /// Whether there is a task.
    running: bool,
}

/// A client that can be a member.
#[derive(Clone)]
pub(super) struct FanoutClient {
    /// Of the tracks of the fan-out.
    pub(super) sinks: PerTrack<Arc<TcpSink>>,
    pub(super) counters: Arc<Client>,
}

struct Member {
    client: FanoutClient,
    /// The number of the next unit of each track that the client gets.
    next: PerTrack<u64>,
    /// To the session task.
    hand_back: oneshot::Sender<LiveUnits>,
}

/// A client's membership of a fan-out, which its session task can join and leave.
pub(super) struct FanoutMembership {
    fanout: Arc<Fanout>,
    client: FanoutClient,
    /// `Some` while the fan-out writes. It receives the units that the client has not got, when the fan-out hands it back.
    handed_back: Option<oneshot::Receiver<LiveUnits>>,
}

impl FanoutMembership {
    pub(super) fn new(fanout: Arc<Fanout>, client: FanoutClient) -> FanoutMembership {
        FanoutMembership { fanout, client, handed_back: None }
    }

    /// Whether the fan-out writes for the client.
    pub(super) fn is_active(&self) -> bool {
        self.handed_back.is_some()
    }

    /// Joins from the units of these numbers on. False if the fan-out has written one of them already. Cancel-safe: cancelled,
    /// it has not joined.
    pub(super) async fn join(&mut self, next: PerTrack<u64>) -> bool {
        self.handed_back = self.fanout.add(&self.client, next).await;
        self.is_active()
    }

    /// Waits until the fan-out hands the client back. Returns the units that the client has not got; `None` if its
    /// connection is over. Cancel-safe. Never returns if the client is not a member.
    pub(super) async fn handed_back(&mut self) -> Option<LiveUnits> {
        let Some(handed_back) = &mut self.handed_back else { return std::future::pending().await };
        let units = handed_back.await.ok();
        self.handed_back = None;
        units
    }

    /// Leaves. Returns the units that the client has not got; `None` if it was not a member, or its connection is over.
    pub(super) async fn leave(&mut self) -> Option<LiveUnits> {
        self.handed_back.as_ref()?;
        self.fanout.remove(&self.client).await;
        self.handed_back.take()?.try_recv().ok()
    }
}

impl Fanout {
    /// Adds a client from the units `next` on. `None` if one of them has been written already.
    async fn add(
        self: &Arc<Self>,
        client: &FanoutClient,
        next: PerTrack<u64>,
    ) -> Option<oneshot::Receiver<LiveUnits>> {
        let mut state = self.state.lock().await;
        let is_written = |(track, next): (Track, &u64)| state.next.get(track).is_some_and(|now| next < now);
        if state.running && next.iter().any(is_written) {
            return None;
        }
        let (hand_back, handed_back) = oneshot::channel();
        state.members.push(Member { client: client.clone(), next, hand_back });
        if !state.running {
            state.running = true;
            state.next = next;
            tokio::spawn(self.clone().run(LiveUnits::resume(&self.station, &next)));
        }
        Some(handed_back)
    }

    /// Hands a client back.
    async fn remove(&self, client: &FanoutClient) {
        let mut state = self.state.lock().await;
        // Each session has counters of its own.
        let is_it = |member: &Member| Arc::ptr_eq(&member.client.counters, &client.counters);
        let index = state.members.iter().position(is_it);
        if let Some(index) = index {
            state.members.swap_remove(index).hand_back(&self.station);
        }
    }

    /// The task. Runs while there are members.
    #[expect(clippy::disallowed_methods, reason = "a shell: it waits until units are due")]
    async fn run(self: Arc<Self>, mut units: LiveUnits) {
        loop {
            let ready = units.ready(&self.clock, Duration::ZERO).await;
            let mut state = self.state.lock().await;
            // A session that ends drops its receiver and does not leave.
            state.members.retain(|member| !member.hand_back.is_closed());
            match ready {
                Ok(track) => {
                    let taken = units.take(track);
                    state.next = units.next();
                    // One that is too late is left out: each client counts the gap when it gets its next unit.
                    let is_late = |unit: &Unit| self.clock.now().since(unit.due.at) > MAX_LATENESS;
                    if let Some((number, unit)) = taken.filter(|(_, unit)| !is_late(unit)) {
                        state.write(&unit, number, &self.station);
                    }
                }
                Err(NoUnit(_, RecvError::Lagged(_))) => state.next = units.next(),
                Err(NoUnit(_, RecvError::Closed)) => {
                    state.members.drain(..).for_each(|member| member.hand_back(&self.station))
                }
            }
            if state.members.is_empty() {
                state.running = false;
                return;
            }
        }
    }
}

impl FanoutState {
    /// Writes a unit to all members that have not got it.
    fn write(&mut self, unit: &Unit, number: u64, station: &StationHandle) {
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
    /// Writes unit `number` of its track. False if the connection did not take all of it.
    fn write(&mut self, unit: &Unit, number: u64) -> Result<bool, Gone> {
        let track = unit.track();
        let FanoutClient { sinks, counters } = &self.client;
        let (Some(sink), Some(next)) = (sinks.get(track), self.next.get_mut(track)) else { return Ok(true) };
        let Some(missed) = number.checked_sub(*next) else { return Ok(true) };
        let is_picture = track == Track::Picture;
        if missed > 0 {
            sink.miss(missed);
            if is_picture {
                counters.dropped.fetch_add(missed, Relaxed);
            }
            *next = number;
        }
        let written = sink.try_send(unit)?;
        if written != TryWrite::WouldBlock {
            *next += 1;
            counters.pictures.fetch_add(is_picture.into(), Relaxed);
        }
        Ok(written == TryWrite::Complete)
    }

    fn hand_back(self, station: &StationHandle) {
        // An error means that the session has ended.
        let _ = self.hand_back.send(LiveUnits::resume(station, &self.next));
    }
}
