//! Units to datagrams, each on time: the air thread.
//!
//! The thread owns the `Pacer`, which keeps all due times in a heap. It sleeps to the earliest by an absolute
//! `clock_nanosleep`, sends that burst, and does nothing else: it takes no lock, allocates nothing per picture, and never waits
//! for a station.
//!
//! A station puts its units into a [`Flow`], a wait-free ring, ahead of their due times. While every station has a unit in the
//! heap, no earlier one can appear, since each station's units come in order; so the thread sleeps right up to the first. Only
//! while a station has nothing ready does the thread poll its ring, every millisecond.
//!
//! Imported by `station`, `headend`, `rtsp` (for clients by UDP), `web` (the histogram of lateness) and `daemon`. It imports
//! `media`, `wire`, `lineup`, `net` and `clock`.

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
pub(crate) use pacer::UNICAST_POLL;
use pacer::{Class, FlowQueue, Pacer, Transmit};
use sender::RtpSender;

/// How far ahead of its due time a picture is prepared at most. A film's fault appears on the slate this much later. At 25
/// pictures a second these are 24 pictures: stations that air the same reel share them, otherwise they take 0.6 MB a station.
pub const LEAD: Duration = Duration::from_millis(980);

/// Units in a flow's ring, the most that wait for the air thread. At 60 pictures a second more than a station is ahead
/// ([`LEAD`]); so it is for sound, which is 0.2 s further ahead: 59 packets of 20 ms, and at the end of a round up to 16 shorter
/// ones. A full ring drops nothing: [`Flow::offer`] returns the unit.
const RING: usize = 80;

/// SCHED_FIFO priority, of 1..=99: above ordinary work, below the kernel's own threads (50).
const PRIORITY: u8 = 40;

/// The counters of the air thread for a flow. Single writer, so plain loads and stores instead of atomic read-modify-write,
/// each of which would wait for its cache line. A picture on time touches two cache lines.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct AirCounters {
    /// Access units sent whole.
    pub aired: AtomicU64,
    /// When the last access unit was sent whole, in nanoseconds of air time; 0 before the first.
    pub last: AtomicU64,
    /// Packets of the access units sent whole.
    pub packets: AtomicU64,
    /// UDP payload of the access units sent whole, in bytes.
    pub bytes: AtomicU64,
    /// Access units skipped because they were more than one interval late.
    pub skipped: AtomicU64,
    /// Packets of the skipped access units. They took no sequence numbers.
    pub skipped_packets: AtomicU64,
    /// Access units of which the system refused to send at least one packet.
    pub send_errors: AtomicU64,
    /// Error number of the last refusal.
    pub last_errno: AtomicU64,
    /// Lateness of the first burst of each access unit.
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

/// Adds to a counter that has no other writer.
pub(super) fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
}

/// The producer's end of a flow: units that are sent one after the other, to one address.
pub struct Flow {
    id: FlowId,
    ring: Producer<Unit>,
    commands: CommandSender,
}

impl Flow {
    /// Hands over an access unit, due after all before it.
    ///
    /// # Errors
    /// The ring is full. Returns the unit, to be offered again.
    #[expect(clippy::result_large_err, reason = "a box for each unit would cost more than moving it")]
    pub fn offer(&mut self, unit: Unit) -> Result<(), Unit> {
        self.ring.push(unit).map_err(|rtrb::PushError::Full(unit)| unit)
    }

    /// Has the air thread apply `change` to the flow's sender before the next burst. A unit that is partly sent by then is
    /// sent again from its first packet.
    pub fn change(&self, change: impl FnOnce(&mut RtpSender) + Send + 'static) {
        self.commands.send(AirCommand::Change(self.id, Box::new(change)));
    }
}

/// Identifies a flow, uniquely in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FlowId(u64);

impl FlowId {
    fn next() -> FlowId {
        static LAST: AtomicU64 = AtomicU64::new(0);
        FlowId(LAST.fetch_add(1, Relaxed))
    }
}

/// The flags that the thread checks before each step: one cache line, seldom written.
#[derive(Default)]
#[repr(align(64))]
struct Signals {
    stop: AtomicBool,
    /// Commands are queued.
    commands: AtomicBool,
    /// The number that the thread was asked for last, once it has answered.
    answered: AtomicU64,
}

/// A command to the air thread.
enum AirCommand {
    /// Adds a flow.
    Add(Box<FlowQueue<RtpSender>>),
    /// Changes the sender of a flow.
    Change(FlowId, Box<dyn FnOnce(&mut RtpSender) + Send>),
    /// Answers with a number, to show that the thread is alive.
    Answer(u64),
}

/// Sends commands to the air thread. The queue is unbounded: a flow sends one when it begins, and one for each change of its
/// interface; a watchdog asks once it was answered.
#[derive(Clone)]
struct CommandSender {
    queue: mpsc::Sender<AirCommand>,
    signals: Arc<Signals>,
}

impl CommandSender {
    fn send(&self, command: AirCommand) {
        // The thread lives as long as `Air`; if it ever died, `offer` would report a full ring.
        let _ = self.queue.send(command);
        // A read-modify-write, not a store: of two commands sent at once the thread has to see both.
        self.signals.commands.swap(true, Release);
    }
}

/// The loop of the air thread, without its clock.
struct AirLoop {
    pacer: Pacer<RtpSender>,
    commands: mpsc::Receiver<AirCommand>,
    signals: Arc<Signals>,
}

impl AirLoop {
    /// Executes queued commands and sends the burst that is due at `now`, if any. Returns when to step next: at once if that is
    /// not later than `now`. `None` if the thread is to end.
    fn step(&mut self, now: AirTime) -> Option<AirTime> {
        if self.signals.stop.load(Relaxed) {
            return None;
        }
        if self.signals.commands.load(Relaxed) {
            self.signals.commands.swap(false, Acquire);
            for command in self.commands.try_iter() {
                match command {
                    AirCommand::Add(flow) => self.pacer.add(*flow),
                    AirCommand::Change(id, change) => self.pacer.change(id, change),
                    AirCommand::Answer(number) => self.signals.answered.store(number, Relaxed),
                }
            }
        }
        Some(self.pacer.step(now))
    }
}

/// The air thread of a broadcaster.
pub struct Air {
    commands: CommandSender,
    thread: Option<thread::JoinHandle<()>>,
}

impl Air {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system refuses a thread.
    #[expect(clippy::disallowed_methods, reason = "the air is a shell: it waits until units are due")]
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
        let (queue, commands) = mpsc::channel();
        let signals = Arc::<Signals>::default();
        let sender = CommandSender { queue, signals: signals.clone() };
        (Air { commands: sender, thread: None }, AirLoop { pacer: Pacer::new(), commands, signals })
    }

    /// An air "thread" that is a task of the current tokio runtime, and sleeps by its clock, which a test may have paused.
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

    /// Asks the thread for this number, which it answers when it wakes up next.
    pub(crate) fn ask(&self, number: u64) {
        self.commands.send(AirCommand::Answer(number));
    }

    /// The number that the thread answered last; 0 before the first.
    pub(crate) fn last_answered(&self) -> u64 {
        self.commands.signals.answered.load(Relaxed)
    }

    /// The flow of a station's pictures, which counts in `counters`. When the flow is dropped, the units that it was given are
    /// still sent.
    pub fn picture_flow(&self, sender: RtpSender, counters: Arc<AirCounters>) -> Flow {
        self.flow_of(Class::Picture, sender, counters)
    }

    /// The flow of a station's sound. All pictures go first, and a packet may leave a millisecond after it is due, with a picture.
    pub fn sound_flow(&self, sender: RtpSender, counters: Arc<AirCounters>) -> Flow {
        self.flow_of(Class::Sound, sender, counters)
    }

    /// A flow to one client: all stations go first. It may be empty for any time. When the flow is dropped, the units that it
    /// still holds are discarded.
    pub fn unicast_flow(&self, sender: RtpSender, counters: Arc<AirCounters>) -> Flow {
        self.flow_of(Class::Unicast, sender, counters)
    }

    fn flow_of(&self, class: Class, sender: RtpSender, counters: Arc<AirCounters>) -> Flow {
        let (ring, units) = RingBuffer::new(RING);
        let id = FlowId::next();
        self.commands.send(AirCommand::Add(Box::new(FlowQueue::new(id, class, sender, units, counters))));
        Flow { id, ring, commands: self.commands.clone() }
    }
}

impl Drop for Air {
    fn drop(&mut self) {
        self.commands.signals.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Takes real-time priority if the system grants it, and the least timer slack in any case.
fn take_priority() {
    // The default slack of 50 us would be added to every sleep.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_answers_for_as_long_as_it_goes_on() {
        let (air, mut air_loop) = Air::new();
        air.ask(1);
        assert_eq!(air.last_answered(), 0, "it has not woken up");
        air_loop.step(AirTime::default()).unwrap();
        assert_eq!(air.last_answered(), 1);
        air_loop.step(AirTime::default()).unwrap();
        air.ask(2);
        assert_eq!(air.last_answered(), 1);
    }
}
