//! The station runtime: a tokio runtime of one thread, on which the tasks of all stations run and nothing else, so that no
//! viewer or browser makes a station late. Work that may block runs on the runtime's blocking threads
//! ([`BlockingWorker`](crate::content::worker::BlockingWorker)): on this thread it would silence all stations.
//!
//! One thread is enough: 999 stations with reels take 2 % of a core. One thread is also cheaper than a pool, whose workers wake
//! each other to look for work.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Length of a slot of tokio's timer wheel, for timers further ahead than this. The runtime wakes up when a slot begins, and
/// again when a timer in it expires, unless that is at the same moment. Measured with one station that expires between: 6.8
/// wake-ups a second instead of 3, each of 0.1 ms on a core that was idle.
const SLOT: Duration = Duration::from_millis(64);

/// How long blocking work, such as writing a reel, has to end at shutdown. A decoder that hangs is left behind.
const ENDING: Duration = Duration::from_millis(200);

/// The runtime's thread. It ends when this is dropped.
pub(crate) struct StationRuntime {
    handle: Handle,
    wake_slots: WakeSlots,
    end: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl StationRuntime {
    /// Starts the thread. The runtime has at most `blocking_threads` threads for blocking work.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(crate) fn start(blocking_threads: usize) -> io::Result<StationRuntime> {
        let wake_slots = WakeSlots::from_now();
        let runtime =
            Builder::new_current_thread().enable_time().max_blocking_threads(blocking_threads).build()?;
        let handle = runtime.handle().clone();
        let (end, ending) = oneshot::channel();
        let (done, ended) = oneshot::channel();
        thread::Builder::new().name("stations".into()).spawn(move || {
            let _: Result<(), _> = runtime.block_on(ending);
            runtime.shutdown_timeout(ENDING);
            let _ = done.send(());
        })?;
        Ok(StationRuntime { handle, wake_slots, end, ended })
    }

    /// Ends the thread, and waits until it has ended.
    pub(crate) async fn end(self) {
        drop(self.end);
        let _ = self.ended.await;
    }

    /// For spawning tasks.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The slots of the runtime's timer.
    pub(crate) fn wake_slots(&self) -> WakeSlots {
        self.wake_slots
    }
}

/// The moments at which slots of the runtime's timer begin. A task that has a choice wakes up at one of them, together with all
/// other such tasks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WakeSlots(Instant);

impl WakeSlots {
    /// The slots of a runtime that is built right after this call. Its timer counts milliseconds from then, rounded up.
    #[expect(clippy::disallowed_methods, reason = "a shell: it spreads wake-ups over time")]
    pub(crate) fn from_now() -> WakeSlots {
        WakeSlots(Instant::now())
    }

    /// The beginning of the slot that `moment` lies in.
    pub(crate) fn before(self, moment: Instant) -> Instant {
        let moment = moment.max(self.0);
        let into_slot = (moment - self.0).as_nanos() % SLOT.as_nanos();
        moment - Duration::from_nanos(into_slot as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_begins_less_than_a_slot_before_the_moment() {
        let wake_slots = WakeSlots::from_now();
        for millis in [0, 1, 63, 64, 65, 1000, 86_400_000, 100 * 365 * 86_400_000] {
            let moment = wake_slots.0 + Duration::from_millis(millis);
            let begin = wake_slots.before(moment);
            assert!(begin <= moment && moment - begin < SLOT, "{millis} ms");
            assert_eq!((begin - wake_slots.0).as_nanos() % SLOT.as_nanos(), 0, "{millis} ms");
        }
        assert_eq!(wake_slots.before(wake_slots.0 - SLOT), wake_slots.0);
    }

    #[tokio::test]
    async fn a_spawned_task_runs_on_the_thread_and_ends_with_it() {
        let runtime = StationRuntime::start(1).unwrap();
        let (tell, told) = oneshot::channel();
        let task = runtime.handle().spawn(async move {
            let blocked = tokio::task::spawn_blocking(|| thread::current().id()).await.unwrap();
            let this = thread::current();
            let _ = tell.send((this.name().map(str::to_owned), this.id() != blocked));
            std::future::pending::<()>().await;
        });
        assert_eq!(told.await.unwrap(), (Some("stations".to_owned()), true));
        runtime.end().await;
        assert!(task.await.unwrap_err().is_cancelled());
    }
}
