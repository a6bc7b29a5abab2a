//! ON AIR: the thread that sends. It owns a heap of due times, sleeps to the earliest by an absolute
//! `clock_nanosleep`, sends that access unit, and does nothing else: it takes no lock, allocates nothing per
//! picture, and never waits for a station.
//!
//! A station gets a [`Seat`]: a wait-free ring into which it puts access units ahead of their time. While
//! every station has one in the heap no earlier one can appear (a station's own come in order), so
//! the thread may sleep right up to the first. Only while some station has nothing ready does it look
//! in every millisecond.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rtrb::{Consumer, Producer, RingBuffer};
use thread_priority::{RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};
use tracing::{info, warn};

use super::lateness::Lateness;
use super::outlet::{Outlet, Plan};
use super::playout::{Due, Playout, Policy};
use crate::clock::AirClock;
use crate::units::AirTime;
use crate::wire::jpeg::Jpeg;

/// How often the thread looks in on a station that has nothing ready. A picture that is handed over at the
/// last moment may be late by this much; each look costs some 5 us of CPU.
const NAP: Duration = Duration::from_millis(1);

/// Longest sleep: bounds how long stopping takes.
const LONGEST_SLEEP: Duration = Duration::from_millis(250);

/// Places in a station's ring. At 60 pictures a second this is half a second; the station itself keeps
/// less ([`LEAD`](super::LEAD)).
const RING: usize = 32;

/// SCHED_FIFO priority, of 1..=99: above ordinary work, below the kernel's own threads (50).
const PRIORITY: u8 = 40;

/// A coded picture and when it is due.
#[derive(Debug, Clone)]
pub struct AccessUnit {
    /// When, and for how long.
    pub due: Due,
    /// What.
    pub jpeg: Jpeg,
}

/// What the air thread has done for a station.
#[derive(Debug, Default)]
pub struct AirCounters {
    /// Access units sent whole.
    pub aired: AtomicU64,
    /// When the last of them left, in nanoseconds of air time; 0 before the first.
    pub last: AtomicU64,
    /// Their packets.
    pub packets: AtomicU64,
    /// Their bytes of UDP payload.
    pub bytes: AtomicU64,
    /// Access units that were more than one interval late, and left out.
    pub skipped: AtomicU64,
    /// Access units that the system would not send, or not whole.
    pub send_errors: AtomicU64,
    /// The system's last reason: its error number.
    pub last_errno: AtomicU64,
    /// How late access units began to leave.
    pub lateness: Lateness,
}

/// A station's way to the air.
pub struct Seat {
    ring: Producer<AccessUnit>,
}

impl Seat {
    /// Hands over an access unit, later than all before it. It comes back when the ring is full.
    ///
    /// # Errors
    /// The ring is full: the unit, to be offered again.
    pub fn offer(&mut self, unit: AccessUnit) -> Result<(), AccessUnit> {
        self.ring.push(unit).map_err(|rtrb::PushError::Full(unit)| unit)
    }
}

/// The air thread of a broadcaster.
pub struct Air {
    seats: mpsc::Sender<Slot>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Air {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(clock: AirClock) -> io::Result<Air> {
        let (seats, new_slots) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().name("air".into()).spawn({
            let stop = stop.clone();
            move || {
                take_priority();
                AirThread { clock, new_slots, slots: Vec::new(), heap: BinaryHeap::new(), idle: Vec::new() }
                    .run(&stop);
            }
        })?;
        Ok(Air { seats, stop, thread: Some(thread) })
    }

    /// A place on air, for a station or for one client, whose units `counters` tell of. It is free again when the seat is dropped.
    pub fn seat(&self, outlet: Outlet, counters: Arc<AirCounters>) -> Seat {
        let (ring, units) = RingBuffer::new(RING);
        let slot = Slot { outlet, units, counters, airing: None };
        // The thread lives as long as `self`; if it ever died, `offer` would report a full ring.
        let _ = self.seats.send(slot);
        Seat { ring }
    }
}

impl Drop for Air {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Real-time priority where the system grants it, and no slack on timers in any case.
fn take_priority() {
    // The default of 50 us would be added to every sleep.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let priority = PRIORITY.try_into().map(ThreadPriority::Crossplatform);
    let granted = priority.map(|priority| {
        thread_priority::set_thread_priority_and_policy(
            thread_priority::thread_native_id(),
            priority,
            ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo),
        )
    });
    match granted {
        Ok(Ok(())) => info!("the air thread has real-time priority (SCHED_FIFO {PRIORITY})"),
        _ => warn!(
            "no real-time priority: on a busy machine pictures may leave late. Grant CAP_SYS_NICE or an rtprio limit"
        ),
    }
}

/// A seat, seen from the thread.
struct Slot {
    outlet: Outlet,
    units: Consumer<AccessUnit>,
    counters: Arc<AirCounters>,
    airing: Option<Airing>,
}

/// An access unit that is leaving, burst by burst.
struct Airing {
    unit: AccessUnit,
    plan: Plan,
    next: usize,
    bytes: usize,
}

struct AirThread {
    clock: AirClock,
    new_slots: mpsc::Receiver<Slot>,
    slots: Vec<Option<Slot>>,
    /// The first unit of each station that has one, earliest first.
    heap: BinaryHeap<Reverse<(AirTime, usize)>>,
    /// The stations that have none.
    idle: Vec<usize>,
}

impl AirThread {
    fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Relaxed) {
            self.look_in();
            let now = self.clock.now();
            let longest = if self.idle.is_empty() { LONGEST_SLEEP } else { NAP };
            match self.heap.peek() {
                Some(&Reverse((due, slot))) if due <= now => {
                    self.heap.pop();
                    self.air(slot, now);
                }
                Some(&Reverse((due, _))) => self.clock.sleep_until(due.min(now + longest)),
                None => self.clock.sleep_until(now + longest.min(NAP * 5)),
            }
        }
    }

    /// Takes in new stations, and first units of those that had none.
    fn look_in(&mut self) {
        while let Ok(slot) = self.new_slots.try_recv() {
            self.idle.push(self.slots.len());
            self.slots.push(Some(slot));
        }
        let mut n = 0;
        while let Some(&index) = self.idle.get(n) {
            if self.line_up(index) {
                self.idle.swap_remove(n);
            } else {
                n += 1;
            }
        }
    }

    /// Puts a station's first unit into the heap. False when it has none yet.
    fn line_up(&mut self, index: usize) -> bool {
        let Some(slot) = &mut self.slots[index] else { return true };
        let abandoned = slot.units.is_abandoned();
        match slot.units.peek() {
            Ok(unit) => {
                self.heap.push(Reverse((unit.due.at, index)));
                true
            }
            Err(_) if abandoned => {
                self.slots[index] = None;
                true
            }
            Err(_) => false,
        }
    }

    fn air(&mut self, index: usize, now: AirTime) {
        let more = self.slots[index].as_mut().and_then(|slot| slot.air(now));
        if let Some(next_burst) = more {
            self.heap.push(Reverse((next_burst, index)));
        } else if !self.line_up(index) {
            self.idle.push(index);
        }
    }
}

impl Slot {
    /// Sends the burst that is due. Returns when the next one of the same access unit is.
    fn air(&mut self, now: AirTime) -> Option<AirTime> {
        let mut airing = match self.airing.take() {
            Some(airing) => airing,
            None => self.begin(now)?,
        };
        match self.outlet.send(&airing.unit, airing.plan, airing.next) {
            Ok(bytes) => {
                airing.bytes += bytes;
                airing.next += 1;
                if airing.next < airing.plan.bursts {
                    let at = airing.unit.due.at + airing.plan.step * airing.next as u32;
                    self.airing = Some(airing);
                    return Some(at);
                }
                self.counters.packets.fetch_add(airing.plan.packets as u64, Relaxed);
                self.counters.bytes.fetch_add(airing.bytes as u64, Relaxed);
                self.counters.aired.fetch_add(1, Relaxed);
                self.counters.last.store(now.0, Relaxed);
            }
            Err(error) => {
                // None ends a station: a cable is pulled, a route is missing, a queue is full. All come back. But a
                // picture with a hole is of no use to anybody: the rest of it is not sent.
                self.outlet.give_up(&airing.unit, airing.plan, airing.next + 1);
                self.counters.send_errors.fetch_add(1, Relaxed);
                self.counters.last_errno.store(error.raw_os_error().unwrap_or(0) as u64, Relaxed);
            }
        }
        None
    }

    /// Takes the unit that is due, unless it is too late for it.
    fn begin(&mut self, now: AirTime) -> Option<Airing> {
        let unit = self.units.pop().ok()?;
        if Playout::policy(unit.due, now) != Policy::Air {
            self.counters.skipped.fetch_add(1, Relaxed);
            return None;
        }
        self.counters.lateness.record(now.since(unit.due.at));
        let plan = self.outlet.plan(&unit);
        Some(Airing { unit, plan, next: 0, bytes: 0 })
    }
}
