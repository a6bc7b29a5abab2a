//! What goes out when: all flows of the air thread and their due times, stepped by a caller who has the clock.
//!
//! Earliest deadline first. A step sends at most one burst and says when the next step is to be; that is all the air
//! thread does, so all it does can be tested without sockets, threads and clocks.
//!
//! Stations go first: a client's burst leaves only when no station's is due, so that a station waits for one of them at most,
//! however many watch it alone. All that one station's clients get is due when the station's own picture is.
//!
//! After a stall, however long:
//! - a picture is begun if it is at most one interval late, and skipped and counted otherwise: [`Due::policy`](crate::media::Due::policy);
//! - no two pictures of a station leave at once: one that follows a late one keeps a distance from it ([`APART`]), and is late
//!   by that at the most;
//! - the packets of a spread picture keep their distance: where its next burst is late by more than half a step, what is
//!   left of it is moved back by so much, so that at least half a step lies between two bursts. Catching up would be the very
//!   burst at line rate that spreading is there to avoid. What is moved back ends at most that much later; by pictures that
//!   take `spread` of their interval, a station makes up for 1 - `spread` of it with each.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rtrb::Consumer;

use super::sender::Plan;
use super::{AirCounters, FlowId};
use crate::media::{AirTime, Policy, REPEAT_RATE, Unit};

/// How often to look in on a station that has nothing ready. A picture that is handed over at the last moment may
/// be late by this much; each look costs some 5 us of CPU.
pub(super) const NAP: Duration = Duration::from_millis(1);

/// How often to look in on a client that has nothing ready: it may be paused for as long as it likes, and a look a
/// millisecond would be a percent of a core for that. What it plays comes 100 ms ahead; only its first picture may be
/// late by this much.
pub(crate) const UNICAST_NAP: Duration = Duration::from_millis(10);

/// Longest time between steps: bounds how long stopping takes.
pub(super) const LONGEST_SLEEP: Duration = Duration::from_millis(250);

/// A picture that leaves at once keeps the next one of its station away for this part of its interval.
const APART: u32 = 8;

/// Where a flow's packets go: an [`RtpSender`](crate::air::sender::RtpSender), or a test.
pub(super) trait Transmit {
    /// How `unit` leaves, if it has `room` for it.
    fn plan(&self, unit: &Unit, room: Duration) -> Plan;

    /// Sends burst number `burst` of `unit`. Returns its bytes of UDP payload.
    ///
    /// # Errors
    /// The system's. A packet that is not sent has its sequence number all the same: receivers shall see the gap.
    fn send(&mut self, unit: &Unit, plan: Plan, burst: usize) -> io::Result<usize>;

    /// Counts the packets of the bursts from `burst` on as sent, though they are not.
    fn give_up(&mut self, unit: &Unit, plan: Plan, burst: usize);
}

/// Who is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// A station: a group.
    Station,
    /// One client.
    Unicast,
}

/// A flow, seen from the thread.
pub(super) struct FlowQueue<T> {
    id: FlowId,
    class: Class,
    sender: T,
    units: Consumer<Unit>,
    counters: Arc<AirCounters>,
    /// What leaves next, or is leaving. It is out of the ring as soon as the one before has left: the station's task has written
    /// there, on another core perhaps, and looking at it twice would be waiting for it twice.
    unit: Option<Unit>,
    airing: Option<Airing>,
    /// The next picture does not begin before.
    free_at: AirTime,
}

/// How far an access unit that leaves burst by burst is.
#[derive(Debug, Clone, Copy)]
struct Airing {
    plan: Plan,
    next: usize,
    bytes: usize,
    /// When its first burst left, or would have to have left for the others to be on time.
    begun: AirTime,
}

/// All flows.
pub(super) struct Pacer<T> {
    flows: Vec<Option<FlowQueue<T>>>,
    stations: Queue,
    unicast: Queue,
}

/// What is to be done for the flows of one class.
struct Queue {
    /// The next burst of each that has one, earliest first.
    heap: BinaryHeap<Reverse<(AirTime, usize)>>,
    /// Those that have none.
    idle: Vec<usize>,
    /// How often to look in on them, and when next. Not at each step: with many stations on air there are 10,000 in a second.
    nap: Duration,
    look_at: AirTime,
}

impl<T: Transmit> Pacer<T> {
    pub(super) fn new() -> Pacer<T> {
        Pacer { flows: Vec::new(), stations: Queue::new(NAP), unicast: Queue::new(UNICAST_NAP) }
    }

    /// A new flow. The places of those who left are taken again: unicast clients come and go for as long as we run.
    pub(super) fn add(&mut self, flow: FlowQueue<T>) {
        let class = flow.class;
        let place = self.flows.iter().position(Option::is_none).unwrap_or(self.flows.len());
        if place == self.flows.len() {
            self.flows.push(None);
        }
        self.flows[place] = Some(flow);
        self.of(class).0.idle.push(place);
    }

    /// Changes the sender of a flow, if there is still one of that `id`. A unit that is leaving begins anew: how the rest of
    /// it would have been cut is over.
    pub(super) fn change(&mut self, id: FlowId, change: impl FnOnce(&mut T)) {
        if let Some(flow) = self.flows.iter_mut().flatten().find(|flow| flow.id == id) {
            flow.airing = None;
            change(&mut flow.sender);
        }
    }

    fn of(&mut self, class: Class) -> (&mut Queue, &mut [Option<FlowQueue<T>>]) {
        let queue = match class {
            Class::Station => &mut self.stations,
            Class::Unicast => &mut self.unicast,
        };
        (queue, &mut self.flows)
    }

    /// Sends the burst that is due first, if one is at `now`; a station's before any guest's. Returns when to step next; not
    /// later than `now` if at once.
    pub(super) fn step(&mut self, now: AirTime) -> AirTime {
        let mut next = now + LONGEST_SLEEP;
        for class in [Class::Station, Class::Unicast] {
            let (queue, flows) = self.of(class);
            queue.look_in(flows, now);
            if let Some(place) = queue.take(now) {
                self.air(class, place, now);
                return now;
            }
            next = next.min(queue.next());
        }
        if self.stations.heap.is_empty() && self.unicast.heap.is_empty() {
            next.min(now + NAP * 5)
        } else {
            next
        }
    }

    fn air(&mut self, class: Class, place: usize, now: AirTime) {
        let (queue, flows) = self.of(class);
        let Some(flow) = &mut flows[place] else { return };
        // Who ends a session wants nothing more, and may use its ports for another already.
        if class == Class::Unicast && flow.units.is_abandoned() {
            flows[place] = None;
        } else if let Some(next_burst) = flow.air(now) {
            queue.heap.push(Reverse((next_burst, place)));
        } else if !queue.line_up(flows, place) {
            queue.idle.push(place);
        }
    }
}

impl Queue {
    fn new(nap: Duration) -> Queue {
        Queue { heap: BinaryHeap::new(), idle: Vec::new(), nap, look_at: AirTime::default() }
    }

    /// The place of the burst that is due first, if one is.
    fn take(&mut self, now: AirTime) -> Option<usize> {
        let &Reverse((due, place)) = self.heap.peek()?;
        (due <= now).then(|| {
            self.heap.pop();
            place
        })
    }

    /// When something is to be done again.
    fn next(&self) -> AirTime {
        let due = self.heap.peek().map(|&Reverse((due, _))| due);
        let look = (!self.idle.is_empty()).then_some(self.look_at);
        due.into_iter().chain(look).min().unwrap_or(AirTime(u64::MAX))
    }

    /// Takes in first units of those that had none, when it is time for that.
    fn look_in<T>(&mut self, flows: &mut [Option<FlowQueue<T>>], now: AirTime) {
        if now < self.look_at || self.idle.is_empty() {
            return;
        }
        self.look_at = now + self.nap;
        let mut n = 0;
        while let Some(&place) = self.idle.get(n) {
            if self.line_up(flows, place) {
                self.idle.swap_remove(n);
            } else {
                n += 1;
            }
        }
    }

    /// Puts a flow's first unit into the heap. False when it has none yet.
    fn line_up<T>(&mut self, flows: &mut [Option<FlowQueue<T>>], place: usize) -> bool {
        let Some(flow) = &mut flows[place] else { return true };
        if let Some(begin) = flow.take_next() {
            self.heap.push(Reverse((begin, place)));
            return true;
        }
        // In this order: what was handed over before the flow was dropped still leaves.
        if !flow.units.is_abandoned() {
            return false;
        }
        match flow.take_next() {
            Some(begin) => self.heap.push(Reverse((begin, place))),
            None => flows[place] = None,
        }
        true
    }
}

impl<T> FlowQueue<T> {
    pub(super) fn new(
        id: FlowId,
        class: Class,
        sender: T,
        units: Consumer<Unit>,
        counters: Arc<AirCounters>,
    ) -> FlowQueue<T> {
        let (unit, airing, free_at) = (None, None, AirTime::default());
        FlowQueue { id, class, sender, units, counters, unit, airing, free_at }
    }

    /// Takes the next unit from the ring. Returns when it may begin; `None` when there is none.
    fn take_next(&mut self) -> Option<AirTime> {
        self.unit = self.units.pop().ok();
        Some(self.unit.as_ref()?.due.at.max(self.free_at))
    }
}

impl<T: Transmit> FlowQueue<T> {
    /// Sends the burst that is due. Returns when the next one of the same access unit is.
    fn air(&mut self, now: AirTime) -> Option<AirTime> {
        let next_burst = self.send(now);
        if next_burst.is_none() {
            self.unit = None;
        }
        next_burst
    }

    fn send(&mut self, now: AirTime) -> Option<AirTime> {
        let unit = self.unit.as_ref()?;
        let mut airing = match self.airing.take() {
            Some(airing) => airing,
            None => {
                let plan = self.sender.plan(unit, room(unit));
                if unit.due.policy(now) != Policy::Air {
                    self.counters.count_skipped(plan.packets);
                    return None;
                }
                Airing { plan, next: 0, bytes: 0, begun: unit.due.at }
            }
        };
        let plan = airing.plan;
        let sent = self.sender.send(unit, plan, airing.next);
        // Counted afterwards: it waits for memory, and the picture would wait with it.
        if airing.next == 0 {
            self.counters.lateness.record(now.since(unit.due.at));
        }
        match sent {
            Ok(bytes) => {
                airing.bytes += bytes;
                let late = now.since(airing.begun + plan.step * airing.next as u32);
                if late > plan.step / 2 {
                    airing.begun = airing.begun + late;
                }
                airing.next += 1;
                let next = airing.begun + plan.step * airing.next as u32;
                if airing.next < plan.bursts {
                    self.airing = Some(airing);
                    return Some(next);
                }
                self.free_at = if plan.step.is_zero() { now + room(unit) / APART } else { next };
                self.counters.count_aired(plan.packets, airing.bytes, now);
            }
            Err(error) => {
                // None ends a station: a cable is pulled, a route is missing, a queue is full. All come back. But a
                // picture with a hole is of no use to anybody: the rest of it is not sent.
                self.sender.give_up(unit, plan, airing.next + 1);
                self.counters.count_error(&error);
            }
        }
        None
    }
}

/// The time in which `unit` has the air for itself. A longer interval is a pause of the film, in which its station repeats the
/// picture as often as it would a slate's.
fn room(unit: &Unit) -> Duration {
    unit.due.interval.min(REPEAT_RATE.interval())
}

#[cfg(test)]
mod tests;
