//! The connection to a live source. A task reads it, notes when each picture has come, and ends with the connection. No step waits
//! for ever, and pictures that nobody takes are dropped.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::arrivals::{Arrival, Arrivals, arrivals};
use super::microphone::Microphone;
use super::{camera, http, rtsp};
use crate::clock::AirClock;
use crate::lineup::{CameraDevice, NetworkSource, Scheme};

/// A source that sends nothing for so long is gone. The station, which takes its pictures, is less patient.
pub(super) const SILENCE: Duration = Duration::from_secs(15);

/// Most addresses of a source that are tried.
pub(super) const MOST_ADDRESSES: usize = 4;

/// The data that a connection to a source on the network needs.
pub(super) struct Target {
    pub(super) source: NetworkSource,
    /// The addresses that its name has.
    pub(super) addresses: Vec<SocketAddr>,
    /// The password, if the source has a user. It appears in no message.
    pub(super) password: Option<String>,
    /// Whether the station has sound.
    pub(super) wants_sound: bool,
}

/// A connection. It is closed when this is dropped.
pub(super) struct Connection {
    arrivals: Arrivals,
    _reader: JoinSet<()>,
}

impl Connection {
    /// Begins to connect to the source at the first of its addresses that answers, on `runtime`.
    pub(super) fn begin(target: Target, clock: AirClock, runtime: &Handle) -> Connection {
        let (mut sender, arrivals) = arrivals(clock);
        let mut reader = JoinSet::new();
        let read = async move {
            let reason = match target.source.scheme() {
                Scheme::Http => http::read(&target, &mut sender).await,
                Scheme::Rtsp => rtsp::read(&target, &mut sender).await,
            };
            sender.end(reason).await;
        };
        reader.spawn_on(read, runtime);
        Connection { arrivals, _reader: reader }
    }

    /// Begins to read a camera of this machine, and its microphone if the station has sound, each on a thread of its own.
    pub(super) fn to_camera(
        device: CameraDevice,
        microphone: Option<Microphone>,
        clock: AirClock,
    ) -> Connection {
        Connection { arrivals: camera::begin(device, microphone, clock), _reader: JoinSet::new() }
    }

    /// The stream of a publisher, by a connection that is not ours.
    pub(super) fn of(arrivals: Arrivals) -> Connection {
        Connection { arrivals, _reader: JoinSet::new() }
    }

    /// The next that comes.
    ///
    /// # Errors
    /// Why nothing more comes: the sentence that names the source.
    pub(super) async fn next(&mut self) -> Result<Arrival, String> {
        self.arrivals.next().await
    }

    /// How many pictures were dropped since this was asked last.
    pub(super) fn take_dropped(&self) -> u64 {
        self.arrivals.take_dropped()
    }
}

/// The result of `work`; `None` if it takes longer than `span`.
pub(super) async fn within<T>(span: Duration, work: impl Future<Output = T>) -> Option<T> {
    timeout(span, work).await.ok()
}
