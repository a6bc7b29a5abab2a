//! The pacer: all flows and their due times, stepped by a caller that has the clock. Pure.
//!
//! Earliest deadline first. A step sends at most one burst and returns when the next step is due. The air thread does nothing
//! else, so everything it does is tested without sockets, threads and clocks.
//!
//! Pictures go before sound, and stations before clients: a burst is sent only when none of a class before it is due. So a
//! picture waits for one packet of sound or one burst to a client at most, however many there are. A station's pictures are due
//! for all its clients at the same moment as for its group. A packet of sound waits a little ([`SOUND_SLACK`]) for a wake-up
//! that a picture needs anyway.
//!
//! After a stall of any length:
//! - A picture is sent if it is at most one interval late, otherwise it is skipped and counted:
//!   [`Due::policy`](crate::media::Due::policy).
//! - Two pictures of a flow are never sent at once: a picture that follows a late one keeps its distance ([`SEPARATION`]), and is
//!   late by that at most.
//! - A unit of sound that is several packets long catches up at once.
//! - The bursts of a spread picture keep their distance. If a burst is late by more than half a step, the rest of the picture is
//!   postponed by that lateness, so that bursts are at least half a step apart. Catching up would be the burst at line rate that
//!   spreading exists to avoid. The picture ends that much later at most, and the station catches up by 1 - `spread` of an
//!   interval with each picture.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rtrb::Consumer;

use super::sender::Plan;
use super::{AirCounters, FlowId};
use crate::media::{AirTime, Policy, REPEAT_RATE, Track, Unit};

/// Time between two polls of a station's ring that was empty. A picture that is handed over at the last moment may be late by
/// this much. Each poll costs some 5 us of CPU time.
pub(super) const STATION_POLL: Duration = Duration::from_millis(1);

/// Time between two polls of a client's ring that was empty. A client may pause for any time, and a poll each millisecond would
/// take a percent of a core. Its units come 100 ms ahead, so only the first picture may be late by this much.
pub(crate) const UNICAST_POLL: Duration = Duration::from_millis(10);

/// How long after it is due a packet of sound may be sent, so that it leaves with a picture instead of having a wake-up of its
/// own: of 200 stations on loopback, sound then costs 0.5 of what their pictures cost, and 1.0 without. Far below what players
/// buffer. (Two packets in one system call, the second 20 ms early, cost 0.27. But players that measure the network's delay by
/// their fastest packet, as our viewer does, then take every other packet to be late.)
pub(super) const SOUND_SLACK: Duration = Duration::from_millis(1);

/// Longest time between two steps. It bounds the time that stopping takes.
pub(super) const LONGEST_SLEEP: Duration = Duration::from_millis(250);

/// After a picture that is sent in bursts without pause, the flow's next picture is sent no sooner than 1 / `SEPARATION` of the
/// picture's interval later.
const SEPARATION: u32 = 8;

/// Sends a flow's packets: an [`RtpSender`](crate::air::sender::RtpSender), or a test.
pub(super) trait Transmit {
    /// The bursts of `unit`, which may take up to `window`.
    fn plan(&self, unit: &Unit, window: Duration) -> Plan;

    /// Sends burst number `burst` of `unit`. Returns its UDP payload in bytes.
    ///
    /// # Errors
    /// The system's. A packet that is not sent takes its sequence number all the same, so that receivers see the gap.
    fn send(&mut self, unit: &Unit, plan: Plan, burst: usize) -> io::Result<usize>;

    /// Gives up the bursts from `burst` on: their packets take sequence numbers, and are not sent.
    fn give_up(&mut self, unit: &Unit, plan: Plan, burst: usize);
}

/// The priority class of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// A station's pictures, to its group. Go first.
    Picture,
    /// A station's sound, to its group.
    Sound,
    /// A client served by unicast.
    Unicast,
}

impl Class {
    const ALL: [Class; 3] = [Class::Picture, Class::Sound, Class::Unicast];
}

/// The air thread's end of a flow.
pub(super) struct FlowQueue<T> {
    id: FlowId,
    class: Class,
    sender: T,
    units: Consumer<Unit>,
    counters: Arc<AirCounters>,
    /// The unit that is sent next, or partly sent. It is popped as soon as the one before is sent: another core may have written
    /// it, and peeking now and popping later would miss the cache twice.
    unit: Option<Unit>,
    /// `Some` if `unit` is partly sent.
    airing: Option<Airing>,
    /// The next unit does not begin before this moment.
    free_at: AirTime,
}

/// The progress of an access unit that is sent burst by burst.
#[derive(Debug, Clone, Copy)]
struct Airing {
    plan: Plan,
    /// Number of the next burst.
    next: usize,
    /// UDP payload sent so far, in bytes.
    bytes: usize,
    /// Due time of burst 0. Burst n is due n steps later. Moved back if a burst is late.
    base: AirTime,
}

/// All flows.
pub(super) struct Pacer<T> {
    /// The queues name a flow by its index here. Indices of flows that ended are used again.
    flows: Vec<Option<FlowQueue<T>>>,
    /// By class, in the order of [`Class::ALL`].
    queues: [ClassQueue; 3],
}

/// The flows of one class, by index, in order of their next bursts.
struct ClassQueue {
    /// The next burst of each flow that has one, earliest first.
    heap: BinaryHeap<Reverse<(AirTime, usize)>>,
    /// The flows that have no unit.
    idle: Vec<usize>,
    /// Time between two polls of the idle flows. They are not polled at each step: with many stations on air there are 10,000
    /// steps a second.
    poll_interval: Duration,
    /// When the idle flows are polled next.
    poll_at: AirTime,
    /// How long after it is due a burst waits for another one's wake-up.
    slack: Duration,
}

impl<T: Transmit> Pacer<T> {
    pub(super) fn new() -> Pacer<T> {
        let queues = [
            ClassQueue::new(STATION_POLL, Duration::ZERO),
            ClassQueue::new(STATION_POLL, SOUND_SLACK),
            ClassQueue::new(UNICAST_POLL, Duration::ZERO),
        ];
        Pacer { flows: Vec::new(), queues }
    }

    /// Adds a flow.
    pub(super) fn add(&mut self, flow: FlowQueue<T>) {
        let class = flow.class;
        let index = self.flows.iter().position(Option::is_none).unwrap_or(self.flows.len());
        if index == self.flows.len() {
            self.flows.push(None);
        }
        self.flows[index] = Some(flow);
        self.of(class).0.idle.push(index);
    }

    /// Changes the sender of flow `id`, if it still exists. A unit that is partly sent starts over, since the new sender may cut
    /// it into other packets.
    pub(super) fn change(&mut self, id: FlowId, change: impl FnOnce(&mut T)) {
        if let Some(flow) = self.flows.iter_mut().flatten().find(|flow| flow.id == id) {
            flow.airing = None;
            change(&mut flow.sender);
        }
    }

    fn of(&mut self, class: Class) -> (&mut ClassQueue, &mut [Option<FlowQueue<T>>]) {
        (&mut self.queues[class as usize], &mut self.flows)
    }

    /// Sends the earliest burst that is due at `now`, if any, of the first class that has one. Returns when to step next: at once
    /// if that is not later than `now`.
    pub(super) fn step(&mut self, now: AirTime) -> AirTime {
        let mut next = now + LONGEST_SLEEP;
        for class in Class::ALL {
            let (queue, flows) = self.of(class);
            queue.poll_idle(flows, now);
            if let Some(index) = queue.take_due(now) {
                self.send_burst(class, index, now);
                return now;
            }
            next = next.min(queue.next());
        }
        if self.queues.iter().all(|queue| queue.heap.is_empty()) {
            next.min(now + STATION_POLL * 5)
        } else {
            next
        }
    }

    fn send_burst(&mut self, class: Class, index: usize, now: AirTime) {
        let (queue, flows) = self.of(class);
        let Some(flow) = &mut flows[index] else { return };
        // A client that has ended its session may use its ports for another one already.
        if class == Class::Unicast && flow.units.is_abandoned() {
            flows[index] = None;
        } else if let Some(next_burst) = flow.send_burst(now) {
            queue.heap.push(Reverse((next_burst, index)));
        } else if !queue.enqueue(flows, index) {
            queue.idle.push(index);
        }
    }
}

impl ClassQueue {
    fn new(poll_interval: Duration, slack: Duration) -> ClassQueue {
        ClassQueue {
            heap: BinaryHeap::new(),
            idle: Vec::new(),
            poll_interval,
            poll_at: AirTime::default(),
            slack,
        }
    }

    /// Takes the earliest burst that is due at `now`. Returns the flow's index.
    fn take_due(&mut self, now: AirTime) -> Option<usize> {
        let &Reverse((due, index)) = self.heap.peek()?;
        (due <= now).then(|| {
            self.heap.pop();
            index
        })
    }

    /// When the thread has to wake up for the next burst or poll.
    fn next(&self) -> AirTime {
        let due = self.heap.peek().map(|&Reverse((due, _))| due + self.slack);
        let poll = (!self.idle.is_empty()).then_some(self.poll_at);
        due.into_iter().chain(poll).min().unwrap_or(AirTime(u64::MAX))
    }

    /// Polls the idle flows, if it is time to, and enqueues those that have a unit.
    fn poll_idle<T>(&mut self, flows: &mut [Option<FlowQueue<T>>], now: AirTime) {
        if now < self.poll_at || self.idle.is_empty() {
            return;
        }
        self.poll_at = now + self.poll_interval;
        let mut n = 0;
        while let Some(&index) = self.idle.get(n) {
            if self.enqueue(flows, index) {
                self.idle.swap_remove(n);
            } else {
                n += 1;
            }
        }
    }

    /// Puts the first burst of a flow's next unit into the heap, or removes a flow that has ended. False if the flow is idle.
    fn enqueue<T>(&mut self, flows: &mut [Option<FlowQueue<T>>], index: usize) -> bool {
        let Some(flow) = &mut flows[index] else { return true };
        if let Some(begin) = flow.take_next() {
            self.heap.push(Reverse((begin, index)));
            return true;
        }
        // In this order, since a unit that was handed over before the flow was dropped is still sent.
        if !flow.units.is_abandoned() {
            return false;
        }
        match flow.take_next() {
            Some(begin) => self.heap.push(Reverse((begin, index))),
            None => flows[index] = None,
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

    /// Takes the next unit from the ring. Returns when its first burst is due; `None` if the ring is empty.
    fn take_next(&mut self) -> Option<AirTime> {
        self.unit = self.units.pop().ok();
        Some(self.unit.as_ref()?.due.at.max(self.free_at))
    }
}

impl<T: Transmit> FlowQueue<T> {
    /// Sends the burst that is due, or skips the unit. Returns when the unit's next burst is due; `None` if the unit is done.
    fn send_burst(&mut self, now: AirTime) -> Option<AirTime> {
        let next_burst = self.try_send_burst(now);
        if next_burst.is_none() {
            self.unit = None;
        }
        next_burst
    }

    fn try_send_burst(&mut self, now: AirTime) -> Option<AirTime> {
        let unit = self.unit.as_ref()?;
        let mut airing = match self.airing.take() {
            Some(airing) => airing,
            None => {
                let plan = self.sender.plan(unit, window(unit));
                if unit.policy(now) != Policy::Air {
                    self.counters.count_skipped(plan.packets);
                    return None;
                }
                Airing { plan, next: 0, bytes: 0, base: unit.due.at }
            }
        };
        let plan = airing.plan;
        let sent = self.sender.send(unit, plan, airing.next);
        // After the send, which would otherwise wait for this cache miss.
        if airing.next == 0 {
            self.counters.lateness.record(now.since(unit.due.at));
        }
        match sent {
            Ok(bytes) => {
                airing.bytes += bytes;
                let late = now.since(airing.base + plan.step * airing.next as u32);
                // The packets of sound fill their unit's time, so that it could never catch up, and they are no burst worth the name.
                if unit.track() == Track::Picture && late > plan.step / 2 {
                    airing.base = airing.base + late;
                }
                airing.next += 1;
                let next = airing.base + plan.step * airing.next as u32;
                if airing.next < plan.bursts {
                    self.airing = Some(airing);
                    return Some(next);
                }
                self.free_at = if plan.step.is_zero() { now + window(unit) / SEPARATION } else { next };
                self.counters.count_aired(plan.packets, airing.bytes, now);
            }
            Err(error) => {
                // No error ends a flow: a pulled cable, a missing route and a full queue are all temporary. The rest of the unit
                // is not sent, since receivers cannot use a picture with a hole.
                self.sender.give_up(unit, plan, airing.next + 1);
                self.counters.count_error(&error);
            }
        }
        None
    }
}

/// The time in which `unit` may be sent. An interval longer than [`REPEAT_RATE`]'s is a pause of the film, in which the station
/// repeats the picture at that rate.
fn window(unit: &Unit) -> Duration {
    unit.due.interval.min(REPEAT_RATE.interval())
}

#[cfg(test)]
mod tests;
