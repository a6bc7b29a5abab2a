//! The stage: the thread on which the tasks of all stations run, and nobody else's. What viewers and browsers cost makes no
//! station late. Whatever may block has a thread of its own ([`BlockingWorker`](crate::content::worker::BlockingWorker)): here it would silence all stations.
//!
//! One thread is enough: of 999 stations with reels it takes 2 % of a core. And it is less than several: with those, each that wakes
//! up for a station wakes up another one to look for more work.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// tokio keeps timers that are further ahead than this in slots of this length. It wakes up when the slot begins, and again at
/// the time itself, unless that is when the slot begins: measured with one station, 6.8 wake-ups a second instead of 3, each
/// of 0.1 ms on a core that was idle.
const SLOT: Duration = Duration::from_millis(64);

/// What blocks has this long to end, as a reel that is being written. A decoder that hangs is left behind.
const ENDING: Duration = Duration::from_millis(200);

/// The thread. It ends when this is dropped.
pub(crate) struct StationRuntime {
    handle: Handle,
    wake_slots: WakeSlots,
    end: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl StationRuntime {
    /// Starts it; its tasks may have `most_blocked` threads that block.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(crate) fn start(most_blocked: usize) -> io::Result<StationRuntime> {
        let wake_slots = WakeSlots::from_now();
        let runtime =
            Builder::new_current_thread().enable_time().max_blocking_threads(most_blocked).build()?;
        let handle = runtime.handle().clone();
        let (end, told) = oneshot::channel();
        let (tell, ended) = oneshot::channel();
        thread::Builder::new().name("stations".into()).spawn(move || {
            let _: Result<(), _> = runtime.block_on(told);
            runtime.shutdown_timeout(ENDING);
            let _ = tell.send(());
        })?;
        Ok(StationRuntime { handle, wake_slots, end, ended })
    }

    /// Ends it, and waits until it has ended.
    pub(crate) async fn end(self) {
        drop(self.end);
        let _ = self.ended.await;
    }

    /// Where tasks are spawned.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// When its timers' slots begin.
    pub(crate) fn wake_slots(&self) -> WakeSlots {
        self.wake_slots
    }
}

/// The moments at which slots of timers begin. Who has some choice wakes up at one of them, and with everybody else who has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WakeSlots(Instant);

impl WakeSlots {
    /// Those of a runtime that is built next: its milliseconds count from then, and are rounded up.
    pub(crate) fn from_now() -> WakeSlots {
        WakeSlots(Instant::now())
    }

    /// The last one up to `moment`.
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
    fn who_wakes_up_at_a_beat_has_waited_for_no_longer_than_it_would() {
        let wake_slots = WakeSlots::from_now();
        for millis in [0, 1, 63, 64, 65, 1000, 86_400_000, 100 * 365 * 86_400_000] {
            let moment = wake_slots.0 + Duration::from_millis(millis);
            let beat = wake_slots.before(moment);
            assert!(beat <= moment && moment - beat < SLOT, "{millis} ms");
            assert_eq!((beat - wake_slots.0).as_nanos() % SLOT.as_nanos(), 0, "{millis} ms");
        }
        assert_eq!(wake_slots.before(wake_slots.0 - SLOT), wake_slots.0);
    }

    #[tokio::test]
    async fn what_is_spawned_runs_on_its_thread_and_ends_with_it() {
        let stage = StationRuntime::start(1).unwrap();
        let (tell, told) = oneshot::channel();
        let task = stage.handle().spawn(async move {
            let blocked = tokio::task::spawn_blocking(|| thread::current().id()).await.unwrap();
            let this = thread::current();
            let _ = tell.send((this.name().map(str::to_owned), this.id() != blocked));
            std::future::pending::<()>().await;
        });
        assert_eq!(told.await.unwrap(), (Some("stations".to_owned()), true));
        stage.end().await;
        assert!(task.await.unwrap_err().is_cancelled());
    }
}
