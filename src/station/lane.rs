//! Work that may block for ever: a disk that is gone does not say so, it just never answers.

use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::Fault;

/// One piece of blocking work at a time. What does not come back is waited for no longer, but nothing else is started
/// until it has: however often a station tries again, it keeps one thread waiting for a disk, not one for each try.
#[derive(Default)]
pub(super) struct Lane(Option<AbortHandle>);

impl Lane {
    /// Does `work` on a thread that may block.
    ///
    /// # Errors
    /// [`Fault::Stuck`]: it took longer than `patience`, and goes on without us; or what was begun before still does, and
    /// this was not begun. [`Fault::Crashed`]: it panicked.
    pub(super) async fn call<T: Send + 'static>(
        &mut self,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        if self.is_busy() {
            return Err(Fault::Stuck);
        }
        let call = tokio::task::spawn_blocking(work);
        // Noted before it is waited for, in case that the waiting is dropped.
        let handle = self.0.insert(call.abort_handle());
        match timeout(patience, call).await {
            Ok(done) => done.map_err(|_| Fault::Crashed),
            Err(_) => {
                // Work that has begun cannot be ended; what still waits for a thread must not begin later.
                handle.abort();
                Err(Fault::Stuck)
            }
        }
    }

    /// Whether something that was begun has not come back.
    pub(super) fn is_busy(&self) -> bool {
        self.0.as_ref().is_some_and(|call| !call.is_finished())
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
        let mut lane = Lane::default();
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
        let mut lane = Lane::default();
        let crashed: Result<(), Fault> = lane.call(LONG, || panic!("as the test wants")).await;
        assert!(matches!(crashed, Err(Fault::Crashed)));
        assert_eq!(lane.call(LONG, || 7).await.unwrap(), 7);
    }
}
