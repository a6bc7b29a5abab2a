//! Work that may block for ever: a disk that is gone does not say so, it just never answers.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::Fault;

/// Preparing one picture takes milliseconds; after this long the decoder hangs (a dead network share).
pub(crate) const STUCK: Duration = Duration::from_secs(5);

/// One piece of blocking work at a time. What does not come back is waited for no longer, but nothing else is started
/// until it has: however often a station tries again, it keeps one thread waiting for a disk, not one for each try.
#[derive(Default)]
pub(crate) struct BlockingWorker {
    threads: Threads,
    begun: Option<Begun>,
}

/// Where blocking work is done.
#[derive(Clone, Default)]
pub(crate) enum Threads {
    /// On the runtime's threads for that.
    #[default]
    Pool,
    /// In a task of a simulation, once so much virtual time has passed as is told for each piece: zero, or how long it hangs.
    #[cfg(test)]
    Simulated(std::sync::Arc<dyn Fn() -> Duration + Send + Sync>),
}

impl Threads {
    #[cfg_attr(test, expect(clippy::disallowed_methods, reason = "in virtual time"))]
    fn spawn(&self, work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
        match self {
            Threads::Pool => tokio::task::spawn_blocking(work),
            #[cfg(test)]
            Threads::Simulated(hang) => {
                let hang = hang();
                tokio::spawn(async move {
                    tokio::time::sleep(hang).await;
                    work();
                })
            }
        }
    }
}

/// What was begun last.
struct Begun {
    work: JoinHandle<()>,
    /// So long it may take.
    until: Instant,
}

impl BlockingWorker {
    /// A worker that has done nothing yet.
    pub(crate) fn new(threads: Threads) -> BlockingWorker {
        BlockingWorker { threads, begun: None }
    }

    /// Does `work` on a thread that may block. What was [started](Self::start) before is waited for first, for as long as it
    /// may take.
    ///
    /// # Errors
    /// [`Fault::Stuck`]: it took longer than `patience`, and goes on without us; or what was begun before still does, and
    /// this was not begun. [`Fault::Crashed`]: it panicked.
    pub(crate) async fn call<T: Send + 'static>(
        &mut self,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        if let Some(before) = &self.begun {
            self.wait(before.until).await?;
        }
        let (tell, mut done) = oneshot::channel();
        self.start(patience, move || drop(tell.send(work())));
        self.wait(Instant::now() + patience).await?;
        done.try_recv().map_err(|_| Fault::Crashed)
    }

    /// Begins `work` on a thread that may block, and does not wait for it. Not while anything else is under way. Once it has
    /// taken longer than `patience`, it is [stuck](Self::is_stuck).
    pub(crate) fn start(&mut self, patience: Duration, work: impl FnOnce() + Send + 'static) {
        if !self.is_busy() {
            let work = self.threads.spawn(work);
            self.begun = Some(Begun { work, until: Instant::now() + patience });
        }
    }

    /// Waits until nothing is under way.
    ///
    /// # Errors
    /// [`Fault::Stuck`]: something still is.
    pub(crate) async fn wait(&mut self, until: Instant) -> Result<(), Fault> {
        if let Some(begun) = self.begun.as_mut().filter(|begun| !begun.work.is_finished())
            && timeout_at(until, &mut begun.work).await.is_err()
        {
            // Work that has begun cannot be ended; what still waits for a thread must not begin later.
            begun.work.abort();
            return Err(Fault::Stuck);
        }
        self.begun = None;
        Ok(())
    }

    /// Whether something that was begun has not come back.
    pub(crate) fn is_busy(&self) -> bool {
        self.begun.as_ref().is_some_and(|begun| !begun.work.is_finished())
    }

    /// Whether that has taken longer than it may.
    pub(crate) fn is_stuck(&self) -> bool {
        self.is_busy() && self.begun.as_ref().is_some_and(|begun| begun.until <= Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn what_hangs_is_left_alone_and_nothing_is_begun_until_it_is_back() {
        let mut lane = BlockingWorker::default();
        let begun = Arc::new(AtomicUsize::new(0));
        let (release, hang) = mpsc::channel::<()>();
        let count = begun.clone();
        let hung = lane.call(Duration::from_millis(20), move || {
            count.fetch_add(1, Relaxed);
            let _ = hang.recv();
        });
        assert!(matches!(hung.await, Err(Fault::Stuck)));
        for _ in 0..100 {
            let count = begun.clone();
            let again = lane.call(LONG, move || count.fetch_add(1, Relaxed));
            assert!(matches!(again.await, Err(Fault::Stuck)));
        }
        assert_eq!(begun.load(Relaxed), 1, "one thread waits, not one for each try");

        drop(release);
        while lane.is_busy() {
            tokio::task::yield_now().await;
        }
        assert_eq!(lane.call(LONG, || 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_crash_is_no_hang() {
        let mut lane = BlockingWorker::default();
        let crashed: Result<(), Fault> = lane.call(LONG, || panic!("as the test wants")).await;
        assert!(matches!(crashed, Err(Fault::Crashed)));
        assert_eq!(lane.call(LONG, || 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn what_was_started_is_waited_for_as_long_as_it_may_take() {
        let mut lane = BlockingWorker::default();
        let (release, hang) = mpsc::channel::<()>();
        lane.start(LONG, move || _ = hang.recv());
        assert!(lane.is_busy() && !lane.is_stuck());
        lane.start(LONG, || panic!("one at a time"));
        let (next, ()) = tokio::join!(lane.call(LONG, || 7), async { drop(release) });
        assert_eq!(next.unwrap(), 7);

        let (release, hang) = mpsc::channel::<()>();
        lane.start(Duration::ZERO, move || _ = hang.recv());
        assert!(lane.is_stuck());
        assert!(matches!(lane.call(LONG, || 7).await, Err(Fault::Stuck)), "for that nobody waits");
        drop(release);
        lane.wait(Instant::now() + LONG).await.unwrap();
    }
}
