//! ON AIR: the thread that sends. It owns a heap of due times, sleeps to the earliest by an absolute
//! `clock_nanosleep`, sends that access unit, and does nothing else: it takes no lock, allocates nothing per
//! picture, and never waits for a station.
//!
//! A station gets a [`Seat`]: a wait-free ring into which it puts access units ahead of their time. While
//! every station has one in the heap no earlier one can appear (a station's own come in order), so
//! the thread may sleep right up to the first. Only while some station has nothing ready does it look
//! in every [`NAP`].

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rtrb::{Consumer, Producer, RingBuffer};
use socket2::{SockAddr, Socket};
use thread_priority::{RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};
use tracing::{info, warn};

use super::playout::{Due, Playout, Policy};
use crate::clock::AirClock;
use crate::units::AirTime;
use crate::wire::jpeg::Jpeg;
use crate::wire::rtp;

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
    /// Bytes of UDP payload.
    pub bytes: AtomicU64,
    /// Access units that were more than one interval late, and left out.
    pub skipped: AtomicU64,
    /// Access units that the system would not send, or not whole.
    pub send_errors: AtomicU64,
    /// The system's last reason: its error number.
    pub last_errno: AtomicU64,
    /// The worst lateness since it was last asked for, in nanoseconds.
    pub max_lateness: AtomicU64,
}

/// Where and how a station's packets go.
pub struct Outlet {
    /// Opened by [`net::sender`](crate::net::sender): it does not block.
    pub socket: Socket,
    /// The station's group. Named with each packet, not connected to: that would fail while there is no route.
    pub group: SockAddr,
    /// Most bytes of UDP payload in a packet.
    pub datagram: usize,
}

/// A station's way to the air.
pub struct Seat {
    ring: Producer<AccessUnit>,
    counters: Arc<AirCounters>,
}

impl Seat {
    /// Hands over an access unit, later than all before it. It comes back when the ring is full.
    ///
    /// # Errors
    /// The ring is full: the unit, to be offered again.
    pub fn offer(&mut self, unit: AccessUnit) -> Result<(), AccessUnit> {
        self.ring.push(unit).map_err(|rtrb::PushError::Full(unit)| unit)
    }

    /// What became of the units.
    pub fn counters(&self) -> &Arc<AirCounters> {
        &self.counters
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

    /// A place on air for a station. It is free again when the seat is dropped.
    pub fn seat(&self, outlet: Outlet) -> Seat {
        let (ring, units) = RingBuffer::new(RING);
        let counters = Arc::new(AirCounters::default());
        let slot = Slot {
            outlet,
            units,
            counters: counters.clone(),
            ssrc: fastrand::u32(..),
            sequence: fastrand::u16(..),
        };
        // The thread lives as long as `self`; if it ever died, `offer` would report a full ring.
        let _ = self.seats.send(slot);
        Seat { ring, counters }
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
    ssrc: u32,
    sequence: u16,
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
        if let Some(slot) = &mut self.slots[index]
            && let Ok(unit) = slot.units.pop()
        {
            slot.air(&unit, now);
        }
        if !self.line_up(index) {
            self.idle.push(index);
        }
    }
}

impl Slot {
    fn air(&mut self, unit: &AccessUnit, now: AirTime) {
        if Playout::policy(unit.due, now) != Policy::Air {
            self.counters.skipped.fetch_add(1, Relaxed);
            return;
        }
        let sent = self.send(unit);
        let counters = &self.counters;
        counters.max_lateness.fetch_max(now.since(unit.due.at).as_nanos() as u64, Relaxed);
        match sent {
            Ok(bytes) => {
                counters.bytes.fetch_add(bytes as u64, Relaxed);
                counters.aired.fetch_add(1, Relaxed);
            }
            Err(error) => {
                // None ends a station: a cable is pulled, a route is missing, a queue is full. All come back.
                counters.send_errors.fetch_add(1, Relaxed);
                counters.last_errno.store(error.raw_os_error().unwrap_or(0) as u64, Relaxed);
            }
        }
    }

    /// Sends all packets of the unit; gives up at the first that the system refuses, since
    /// a picture with a hole is of no use to anybody.
    fn send(&mut self, unit: &AccessUnit) -> io::Result<usize> {
        let timestamp = unit.due.at.rtp_timestamp();
        let mut bytes = 0;
        for fragment in unit.jpeg.fragments(self.outlet.datagram) {
            let header = rtp::Header {
                marker: fragment.last,
                payload_type: rtp::PAYLOAD_TYPE_JPEG,
                sequence: self.sequence,
                timestamp,
                ssrc: self.ssrc,
            };
            let header = unit.jpeg.packet_header(header, fragment);
            let scan = &unit.jpeg.scan[fragment.start..fragment.end];
            // A packet that is not sent has its number all the same: receivers shall see the gap.
            self.sequence = self.sequence.wrapping_add(1);
            bytes += self
                .outlet
                .socket
                .send_to_vectored(&[IoSlice::new(&header), IoSlice::new(scan)], &self.outlet.group)?;
        }
        Ok(bytes)
    }
}
