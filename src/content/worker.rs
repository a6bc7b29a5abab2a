//! Work that may block for ever: a disk that is gone reports no error, it just never answers.

use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::Fault;

/// Work that takes longer than this is stuck, for example on a dead network share. Decoding a picture takes
/// milliseconds.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(5);

/// Does one piece of blocking work at a time. The caller stops waiting for work that does not return in time, but the
/// worker starts no other until it has returned. So however often a station retries, one thread waits for the disk,
/// not one for each retry.
#[derive(Default)]
pub(crate) struct BlockingWorker {
    threads: Threads,
    started: Option<StartedWork>,
}

/// Where blocking work runs.
#[derive(Clone, Default)]
pub(crate) enum Threads {
    /// On the runtime's pool of blocking threads.
    #[default]
    Pool,
    /// In a task of a simulation. The function tells for how much virtual time each piece of work hangs before it runs.
    #[cfg(test)]
    Simulated(std::sync::Arc<dyn Fn() -> Duration + Send + Sync>),
}

impl Threads {
    /// Takes turns on a thread of its own, which has this priority, until a turn returns false. May be called on any
    /// thread but for the first time, since a thread has at most the priority of the one that starts it.
    #[cfg_attr(test, expect(clippy::disallowed_methods, reason = "in virtual time"))]
    pub(crate) fn take_turns(&self, priority: Priority, mut turn: impl FnMut() -> bool + Send + 'static) {
        match self {
            Threads::Pool => {
                let work = move || {
                    if priority == Priority::Idle {
                        run_when_idle();
                    }
                    while turn() {}
                };
                let _ = STARTER.get_or_init(start_starter).send(Box::new(work));
            }
            #[cfg(test)]
            Threads::Simulated(hang) => {
                let hang = hang.clone();
                tokio::spawn(async move {
                    loop {
                        tokio::time::sleep(hang()).await;
                        if !turn() {
                            break;
                        }
                    }
                });
            }
        }
    }

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

/// The priority of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    /// That of every program.
    Normal,
    /// As low as can be: the thread runs while a core has little else to do.
    Idle,
}

/// The work of a thread.
type ThreadWork = Box<dyn FnOnce() + Send>;

/// To the thread that starts all threads that take turns.
static STARTER: OnceLock<mpsc::Sender<ThreadWork>> = OnceLock::new();

/// Starts the thread that starts threads. A thread of idle priority could start none of normal priority.
fn start_starter() -> mpsc::Sender<ThreadWork> {
    let (to_starter, works) = mpsc::channel::<ThreadWork>();
    let start = |work| std::thread::Builder::new().name("reels".into()).spawn(work);
    let starter = move || {
        while let Ok(work) = works.recv() {
            if let Err(error) = start(work) {
                warn!("no thread to make reels: {error}");
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("reel starter".into()).spawn(starter) {
        warn!("no thread to make reels: {error}");
    }
    to_starter
}

/// Gives the calling thread the lowest nice value there is, 1.5 % of a core beside one busy program. It cannot be raised again
/// without a privilege. It is not SCHED_IDLE: beside busy programs that class may get no time for long, and a station that
/// wants the film meanwhile waits for the turn.
pub(super) fn run_when_idle() {
    // On Linux this is the thread's value, not the process's.
    let _ = rustix::process::setpriority_process(None, 19);
}

/// The work that was started last.
struct StartedWork {
    work: JoinHandle<()>,
    /// From this moment on it counts as stuck.
    deadline: Instant,
}

impl BlockingWorker {
    /// A worker that is not busy.
    pub(crate) fn new(threads: Threads) -> BlockingWorker {
        BlockingWorker { threads, started: None }
    }

    /// Does `work` on a thread that may block, and waits for the result. First waits for work that was
    /// [started](Self::start) before, until that is stuck.
    ///
    /// # Errors
    /// [`Fault::Stuck`] if `work` takes longer than `timeout`; it then goes on, and its result is dropped. Also if
    /// earlier work is stuck; `work` is then not started. [`Fault::Crashed`] if `work` panics.
    #[expect(clippy::disallowed_methods, reason = "a shell: it waits for threads, and not for ever")]
    pub(crate) async fn call<T: Send + 'static>(
        &mut self,
        timeout: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        if let Some(before) = &self.started {
            self.wait(before.deadline).await?;
        }
        let (tell, mut done) = oneshot::channel();
        self.start(timeout, move || drop(tell.send(work())));
        self.wait(Instant::now() + timeout).await?;
        done.try_recv().map_err(|_| Fault::Crashed)
    }

    /// Starts `work` on a thread that may block, unless the worker is busy, and does not wait for it. If it takes
    /// longer than `timeout`, it is [stuck](Self::is_stuck).
    #[expect(clippy::disallowed_methods, reason = "a shell: it waits for threads, and not for ever")]
    pub(crate) fn start(&mut self, timeout: Duration, work: impl FnOnce() + Send + 'static) {
        if !self.is_busy() {
            let work = self.threads.spawn(work);
            self.started = Some(StartedWork { work, deadline: Instant::now() + timeout });
        }
    }

    /// Waits for the work that was started, until `deadline`.
    ///
    /// # Errors
    /// [`Fault::Stuck`] if it has not returned by then.
    pub(crate) async fn wait(&mut self, deadline: Instant) -> Result<(), Fault> {
        if let Some(started) = self.started.as_mut().filter(|started| !started.work.is_finished())
            && timeout_at(deadline, &mut started.work).await.is_err()
        {
            // This has no effect on work that runs. Work that still waits for a thread must not run later.
            started.work.abort();
            return Err(Fault::Stuck);
        }
        self.started = None;
        Ok(())
    }

    /// Whether work that was started has not returned.
    pub(crate) fn is_busy(&self) -> bool {
        self.started.as_ref().is_some_and(|started| !started.work.is_finished())
    }

    /// Whether work that was started has not returned by its deadline.
    #[expect(clippy::disallowed_methods, reason = "a shell: it waits for threads, and not for ever")]
    pub(crate) fn is_stuck(&self) -> bool {
        self.is_busy() && self.started.as_ref().is_some_and(|started| started.deadline <= Instant::now())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "in virtual time")]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn no_work_is_started_while_other_work_hangs() {
        let mut worker = BlockingWorker::default();
        let started = Arc::new(AtomicUsize::new(0));
        let (release, hang) = mpsc::channel::<()>();
        let count = started.clone();
        let hung = worker.call(Duration::from_millis(20), move || {
            count.fetch_add(1, Relaxed);
            let _ = hang.recv();
        });
        assert!(matches!(hung.await, Err(Fault::Stuck)));
        for _ in 0..100 {
            let count = started.clone();
            let again = worker.call(LONG, move || count.fetch_add(1, Relaxed));
            assert!(matches!(again.await, Err(Fault::Stuck)));
        }
        assert_eq!(started.load(Relaxed), 1, "one thread waits, not one for each retry");

        drop(release);
        while worker.is_busy() {
            tokio::task::yield_now().await;
        }
        assert_eq!(worker.call(LONG, || 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn work_that_panics_has_crashed_and_does_not_hang() {
        let mut worker = BlockingWorker::default();
        let crashed: Result<(), Fault> = worker.call(LONG, || panic!("as the test wants")).await;
        assert!(matches!(crashed, Err(Fault::Crashed)));
        assert_eq!(worker.call(LONG, || 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_call_waits_for_earlier_work_until_that_is_stuck() {
        let mut worker = BlockingWorker::default();
        let (release, hang) = mpsc::channel::<()>();
        worker.start(LONG, move || _ = hang.recv());
        assert!(worker.is_busy() && !worker.is_stuck());
        worker.start(LONG, || panic!("one at a time"));
        let (next, ()) = tokio::join!(worker.call(LONG, || 7), async { drop(release) });
        assert_eq!(next.unwrap(), 7);

        let (release, hang) = mpsc::channel::<()>();
        worker.start(Duration::ZERO, move || _ = hang.recv());
        assert!(worker.is_stuck());
        assert!(
            matches!(worker.call(LONG, || 7).await, Err(Fault::Stuck)),
            "a call does not wait for stuck work"
        );
        drop(release);
        worker.wait(Instant::now() + LONG).await.unwrap();
    }
}
