//! ON AIR: the thread that sends. It owns a heap of due times (the `pacer`), sleeps to the earliest by an absolute
//! `clock_nanosleep`, sends that access unit, and does nothing else: it takes no lock, allocates nothing per
//! picture, and never waits for a station.
//!
//! A station gets a [`Flow`]: a wait-free ring into which it puts access units ahead of their time. While
//! every station has one in the heap no earlier one can appear (a station's own come in order), so
//! the thread may sleep right up to the first. Only while some station has nothing ready does it look
//! in every millisecond.

pub mod lateness;
mod pacer;
pub mod sender;

use std::io;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rtrb::{Producer, RingBuffer};
use thread_priority::{RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};
use tracing::{info, warn};

use crate::clock::AirClock;
use crate::media::{AirTime, Unit};
use lateness::Lateness;
use pacer::{Class, FlowQueue, Pacer};
use sender::RtpSender;

use pacer::Transmit;
pub(crate) use pacer::UNICAST_NAP;

/// How far ahead of its time a picture is prepared at most. A film's fault is on the slate so much later; it is 24 pictures at 25
/// a second, which are shared by the stations that air the same reel, and else 0.6 MB a station.
pub const LEAD: Duration = Duration::from_millis(980);

/// Places in a station's ring: of 60 pictures a second, more than the station is ahead ([`LEAD`]).
const RING: usize = 64;

/// SCHED_FIFO priority, of 1..=99: above ordinary work, below the kernel's own threads (50).
const PRIORITY: u8 = 40;

/// What the air thread has done for a station. It counts for each picture, and nobody else does: without locked instructions,
/// which would wait for one line of memory after the other, and in two lines as a rule.
#[derive(Debug, Default)]
#[repr(C, align(64))]
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
    /// Their packets, which took no sequence numbers.
    pub skipped_packets: AtomicU64,
    /// Access units that the system would not send, or not whole.
    pub send_errors: AtomicU64,
    /// The system's last reason: its error number.
    pub last_errno: AtomicU64,
    /// How late access units began to leave.
    pub lateness: Lateness,
}

impl AirCounters {
    fn count_aired(&self, packets: usize, bytes: usize, at: AirTime) {
        add(&self.packets, packets as u64);
        add(&self.bytes, bytes as u64);
        add(&self.aired, 1);
        self.last.store(at.0, Relaxed);
    }

    fn count_skipped(&self, packets: usize) {
        add(&self.skipped, 1);
        add(&self.skipped_packets, packets as u64);
    }

    fn count_error(&self, error: &io::Error) {
        add(&self.send_errors, 1);
        self.last_errno.store(error.raw_os_error().unwrap_or(0) as u64, Relaxed);
    }
}

/// Counts, where nobody else does.
pub(super) fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
}

/// A way to the air: units that leave one after the other, to one address.
pub struct Flow {
    id: FlowId,
    ring: Producer<Unit>,
    commander: Commander,
}

impl Flow {
    /// Hands over an access unit, later than all before it.
    ///
    /// # Errors
    /// The ring is full: the unit, to be offered again.
    pub fn offer(&mut self, unit: Unit) -> Result<(), Unit> {
        self.ring.push(unit).map_err(|rtrb::PushError::Full(unit)| unit)
    }

    /// Has the air thread `change` where and how the flow's units leave, before the next burst. A unit that is leaving then
    /// begins anew.
    pub fn change(&self, change: impl FnOnce(&mut RtpSender) + Send + 'static) {
        self.commander.tell(Command::Change(self.id, Box::new(change)));
    }
}

/// Which flow: no two in a process are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FlowId(u64);

impl FlowId {
    fn next() -> FlowId {
        static LAST: AtomicU64 = AtomicU64::new(0);
        FlowId(LAST.fetch_add(1, Relaxed))
    }
}

/// What the thread has to look at before each step: one line of memory, in which somebody seldom writes.
#[derive(Default)]
#[repr(align(64))]
struct Signals {
    stop: AtomicBool,
    /// There are new commands.
    commands: AtomicBool,
}

/// What the thread is told about flows.
enum Command {
    /// There is another one.
    Add(Box<FlowQueue<RtpSender>>),
    /// The sender of one is to be changed.
    Change(FlowId, Box<dyn FnOnce(&mut RtpSender) + Send>),
}

/// A way to give the thread commands.
#[derive(Clone)]
struct Commander {
    commands: mpsc::Sender<Command>,
    signals: Arc<Signals>,
}

impl Commander {
    fn tell(&self, command: Command) {
        // The thread lives as long as `Air`; if it ever died, `offer` would report a full ring.
        let _ = self.commands.send(command);
        // No plain store: of two commands that are given at once the thread has to see both.
        self.signals.commands.swap(true, Release);
    }
}

/// What the air thread runs.
struct AirLoop {
    pacer: Pacer<RtpSender>,
    commands: mpsc::Receiver<Command>,
    signals: Arc<Signals>,
}

impl AirLoop {
    /// Does what is to be done at `now`. Returns when to step next, at once if that is not later than `now`; `None` when the
    /// thread is to end.
    fn step(&mut self, now: AirTime) -> Option<AirTime> {
        if self.signals.stop.load(Relaxed) {
            return None;
        }
        if self.signals.commands.load(Relaxed) {
            self.signals.commands.swap(false, Acquire);
            for command in self.commands.try_iter() {
                match command {
                    Command::Add(flow) => self.pacer.add(*flow),
                    Command::Change(id, change) => self.pacer.change(id, change),
                }
            }
        }
        Some(self.pacer.step(now))
    }
}

/// The air thread of a broadcaster.
pub struct Air {
    commander: Commander,
    thread: Option<thread::JoinHandle<()>>,
}

impl Air {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(clock: AirClock) -> io::Result<Air> {
        let (mut air, mut air_loop) = Air::new();
        air.thread = Some(thread::Builder::new().name("air".into()).spawn(move || {
            take_priority();
            let mut now = clock.now();
            while let Some(next) = air_loop.step(now) {
                if next > now {
                    clock.sleep_until(next);
                }
                now = clock.now();
            }
        })?);
        Ok(air)
    }

    fn new() -> (Air, AirLoop) {
        let (sender, commands) = mpsc::channel();
        let signals = Arc::<Signals>::default();
        let commander = Commander { commands: sender, signals: signals.clone() };
        (Air { commander, thread: None }, AirLoop { pacer: Pacer::new(), commands, signals })
    }

    /// Runs as a task on the present runtime, by its clock, which a test may have paused.
    #[cfg(test)]
    #[expect(clippy::disallowed_methods, reason = "in virtual time")]
    pub(crate) fn simulated(clock: AirClock) -> Air {
        let (air, mut air_loop) = Air::new();
        tokio::spawn(async move {
            let mut now = clock.now();
            while let Some(next) = air_loop.step(now) {
                if next > now {
                    tokio::time::sleep(next.since(now)).await;
                }
                now = clock.now();
            }
        });
        air
    }

    /// A station's flow; `counters` tell what becomes of its units. It ends when it is dropped and all it was given has left.
    pub fn flow(&self, sender: RtpSender, counters: Arc<AirCounters>) -> Flow {
        self.flow_of(Class::Station, sender, counters)
    }

    /// A flow to one client, behind all stations. It may stay without units for as long as it likes; what it has is lost
    /// when it is dropped.
    pub fn unicast_flow(&self, sender: RtpSender, counters: Arc<AirCounters>) -> Flow {
        self.flow_of(Class::Unicast, sender, counters)
    }

    fn flow_of(&self, class: Class, sender: RtpSender, counters: Arc<AirCounters>) -> Flow {
        let (ring, units) = RingBuffer::new(RING);
        let id = FlowId::next();
        self.commander.tell(Command::Add(Box::new(FlowQueue::new(id, class, sender, units, counters))));
        Flow { id, ring, commander: self.commander.clone() }
    }
}

impl Drop for Air {
    fn drop(&mut self) {
        self.commander.signals.stop.store(true, Relaxed);
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
