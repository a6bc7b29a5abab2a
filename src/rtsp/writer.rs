//! The sending half of a connection. Responses and pictures share it, each as a whole: who writes has it until what it
//! writes is out, so a response waits for at most the picture that is being written.

use std::io::{self, IoSlice};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

/// How long a client may take nothing at all until its connection is closed.
pub(super) const STUCK: Duration = Duration::from_secs(10);

/// The connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

#[derive(Debug)]
pub(super) struct Writer {
    half: Mutex<OwnedWriteHalf>,
    gone: watch::Sender<bool>,
}

impl Writer {
    pub(super) fn new(half: OwnedWriteHalf) -> Writer {
        Writer { half: Mutex::new(half), gone: watch::Sender::new(false) }
    }

    /// Writes `head` and `body`, one behind the other, nothing between them.
    ///
    /// # Errors
    /// The connection is over: now, or already.
    pub(super) async fn write(&self, head: &[u8], body: &[u8]) -> Result<(), Gone> {
        // As a rule nobody else writes.
        let mut half = match self.half.try_lock() {
            Ok(half) => half,
            Err(_) => self.half.lock().await,
        };
        if *self.gone.borrow() {
            return Err(Gone);
        }
        // Whoever is cancelled here leaves a part behind: nobody may write after it.
        let mut unfinished = Unfinished { gone: &self.gone, armed: true };
        let mut slices = [IoSlice::new(head), IoSlice::new(body)];
        let mut slices = &mut slices[..];
        while slices.iter().any(|slice| !slice.is_empty()) {
            match timeout(STUCK, half.write_vectored(slices)).await {
                Ok(Ok(n @ 1..)) => IoSlice::advance_slices(&mut slices, n),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) => return Err(Gone),
                Err(_) => {
                    // What it has not fetched shall not stay in the kernel. If that fails, the close is an ordinary one.
                    let _ = half.as_ref().set_zero_linger();
                    return Err(Gone);
                }
            }
        }
        unfinished.armed = false;
        Ok(())
    }

    /// Ends our half of the connection: the client reads what was written, and then that there is no more.
    ///
    /// # Errors
    /// There is none any more.
    pub(super) async fn finish(&self) -> Result<(), Gone> {
        self.half.lock().await.shutdown().await.map_err(|_| Gone)
    }

    /// Ends the connection.
    pub(super) fn close(&self) {
        self.gone.send_replace(true);
    }

    /// Is ready when the connection is over.
    pub(super) async fn closed(&self) {
        // The sender is ours: it is there.
        let _ = self.gone.subscribe().wait_for(|&gone| gone).await;
    }
}

struct Unfinished<'a> {
    gone: &'a watch::Sender<bool>,
    armed: bool,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.gone.send_replace(true);
        }
    }
}
