//! A station's pictures into all connections that keep up. One task writes a picture to each of them when it is due, one after
//! the other, as a bare writer would: to wake a task for each viewer and picture was a third of what 500 viewers cost
//! (docs/bench.md).
//!
//! It waits for nobody. A connection that does not take a picture at once is left to the session's own task, which does wait,
//! and hands it on again when it has caught up.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::time::{Instant, sleep_until};

use super::session_task::BEHIND;
use super::sink::TcpSink;
use super::writer::{Gone, TryWrite};
use crate::clock::AirClock;
use crate::headend::feed::Subscription;
use crate::headend::{Client, StationHandle};
use crate::media::StationId;
use crate::media::Unit;

/// Clients of one task. Writing 22 kB takes some 10 us: the last of them has its picture 1 to 2 ms after the first; and
/// a larger audience has more tasks, for all cores.
const CLIENTS: usize = 128;

/// The tasks of all stations, while anybody needs them.
#[derive(Default)]
pub(super) struct Fanouts(Mutex<HashMap<StationId, Vec<Weak<Fanout>>>>);

impl Fanouts {
    /// One with a place for another client of a station.
    pub(super) fn place(&self, station: &Arc<StationHandle>, clock: &AirClock) -> Arc<Fanout> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fanouts = all.entry(station.spec.id).or_default();
        fanouts.retain(|fanout| fanout.strong_count() > 0);
        // Its own task counts as one.
        let free = |fanout: &Arc<Fanout>| Arc::strong_count(fanout) <= CLIENTS + 1;
        fanouts.iter().filter_map(Weak::upgrade).find(free).unwrap_or_else(|| {
            let fanout =
                Fanout { station: station.clone(), clock: clock.clone(), crowd: AsyncMutex::default() };
            let fanout = Arc::new(fanout);
            fanouts.push(Arc::downgrade(&fanout));
            fanout
        })
    }
}

/// The connections that one task writes to.
pub(super) struct Fanout {
    station: Arc<StationHandle>,
    clock: AirClock,
    /// Held while it writes: who has it knows that nobody does.
    crowd: AsyncMutex<FanoutState>,
}

#[derive(Default)]
struct FanoutState {
    carried: Vec<Member>,
    /// The number of the next unit.
    next: u64,
    running: bool,
}

/// A client's connection.
#[derive(Clone)]
pub(super) struct FanoutClient {
    pub(super) tcp: Arc<TcpSink>,
    pub(super) client: Arc<Client>,
}

struct Member {
    tap: FanoutClient,
    /// The number of the next unit that it shall have.
    next: u64,
    back: oneshot::Sender<Subscription>,
}

impl Fanout {
    /// Takes a client over, from unit `next` on. The answer comes when it is left to itself: the units that it has not got; or
    /// nothing when its connection is over. `None`: that unit has been written to the others already.
    ///
    /// May be cancelled.
    pub(super) async fn take(
        self: &Arc<Self>,
        tap: &FanoutClient,
        next: u64,
    ) -> Option<oneshot::Receiver<Subscription>> {
        let mut crowd = self.crowd.lock().await;
        if crowd.running && next < crowd.next {
            return None;
        }
        let (back, left) = oneshot::channel();
        crowd.carried.push(Member { tap: tap.clone(), next, back });
        if !crowd.running {
            crowd.running = true;
            crowd.next = next;
            tokio::spawn(self.clone().run(self.station.feed.resume(next)));
        }
        Some(left)
    }

    /// Leaves a client to itself.
    pub(super) async fn give_back(&self, tap: &FanoutClient) {
        let mut crowd = self.crowd.lock().await;
        let place = crowd.carried.iter().position(|carried| Arc::ptr_eq(&carried.tap.tcp, &tap.tcp));
        if let Some(place) = place {
            crowd.carried.swap_remove(place).give_back(&self.station);
        }
    }

    /// Runs until it has no client any more.
    async fn run(self: Arc<Self>, mut units: Subscription) {
        loop {
            let unit = units.recv().await;
            if let Ok(unit) = &unit {
                sleep_until(Instant::now() + self.clock.until(unit.due.at)).await;
            }
            let mut crowd = self.crowd.lock().await;
            // SessionTable end without a word.
            crowd.carried.retain(|carried| !carried.back.is_closed());
            crowd.next = units.next();
            match unit {
                // Left out: each client counts it when it gets its next one.
                Ok(unit) if self.clock.now().since(unit.due.at) > BEHIND => {}
                Err(RecvError::Lagged(_)) => {}
                Ok(unit) => crowd.write(&unit, &self.station),
                Err(RecvError::Closed) => crowd.carried.clear(),
            }
            if crowd.carried.is_empty() {
                crowd.running = false;
                return;
            }
        }
    }
}

impl FanoutState {
    /// Writes the unit before `next` to all who are waiting for it.
    fn write(&mut self, unit: &Unit, station: &StationHandle) {
        let number = self.next - 1;
        let mut place = 0;
        while let Some(carried) = self.carried.get_mut(place) {
            match carried.write(unit, number) {
                Ok(true) => place += 1,
                Ok(false) => self.carried.swap_remove(place).give_back(station),
                // Its session sees that it is dropped.
                Err(Gone) => drop(self.carried.swap_remove(place)),
            }
        }
    }
}

impl Member {
    /// Writes unit `number`. False if it did not take it as a whole.
    fn write(&mut self, unit: &Unit, number: u64) -> Result<bool, Gone> {
        let Some(missed) = number.checked_sub(self.next) else { return Ok(true) };
        let FanoutClient { tcp, client } = &self.tap;
        if missed > 0 {
            tcp.miss(missed);
            client.dropped.fetch_add(missed, Relaxed);
            self.next = number;
        }
        let took = tcp.begin(unit)?;
        if took != TryWrite::WouldBlock {
            self.next += 1;
            client.pictures.fetch_add(1, Relaxed);
        }
        Ok(took == TryWrite::Complete)
    }

    fn give_back(self, station: &StationHandle) {
        // Dropped with its session: nobody is left.
        let _ = self.back.send(station.feed.resume(self.next));
    }
}
