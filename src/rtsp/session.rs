//! The table of sessions, and the state of a session that its connection and its task share.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::PER_ADDRESS;
use super::request::{PlayRange, Resource, SessionInfo};
use super::response::Rejection;
use super::sink::Sink;
use super::transport::SessionTransport;
use crate::headend::Client;
use crate::limits::{ConnectionLimits, Permit};
use crate::media::tracks::PerTrack;
use crate::media::{AirTime, Track};
use crate::wire::rtcp;

/// How long a session lives after the last sign of life: a request that names it, or a receiver report.
pub(super) const SESSION_TIMEOUT: Duration = Duration::from_secs(60);

/// The same for a session whose connection is gone. A client that still plays sends a receiver report every 5 s or so (RFC 3550
/// section 6.2): two of them may be lost. Clients that vanish would hold all places for a minute otherwise.
pub(super) const ABANDONED_TIMEOUT: Duration = Duration::from_secs(15);

/// How long all sessions together may take to send their BYEs when the broadcaster stops.
const BYE_TIMEOUT: Duration = Duration::from_millis(500);

/// The id of a session: 64 bits that nobody can guess, as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SessionId(u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for SessionId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<SessionId, ParseIntError> {
        u64::from_str_radix(text, 16).map(SessionId)
    }
}

/// A command from a connection to the task of a session. The task replies when it is done, if there is a reply.
pub(super) enum SessionCommand {
    /// The reply is an error if the session cannot play that range.
    Play(PlayRange, oneshot::Sender<Result<Started, Rejection>>),
    Pause(oneshot::Sender<()>),
    /// Adds a track. The session does not play.
    Add(Track, Sink, oneshot::Sender<()>),
    End(oneshot::Sender<()>),
    /// The deadline is nearer than it was.
    Abandoned,
}

/// Playback that is about to begin, as the response to PLAY describes it.
#[derive(Debug)]
pub(super) struct Started {
    /// For each track, the sequence number of the first packet; `None` by multicast.
    pub(super) sequences: PerTrack<Option<u16>>,
    /// When the first unit is due, if that is known. It is the instant of the RTP timestamps in RTP-Info.
    pub(super) at: Option<AirTime>,
    /// Beginning and end in normal play time; `None` if live.
    pub(super) span: Option<(Duration, Duration)>,
    /// Speed: 1 is the films' own.
    pub(super) scale: f64,
    /// Playback begins when this is dropped. The connection holds it until the response is written, so that no picture
    /// overtakes it.
    pub(super) hold: Option<oneshot::Sender<()>>,
}

/// When the client of a session last gave a sign of life.
#[derive(Debug)]
pub(super) struct KeepAlive(Mutex<LastSign>);

#[derive(Debug)]
struct LastSign {
    at: Instant,
    /// How long the session lives after it.
    timeout: Duration,
}

impl KeepAlive {
    #[expect(clippy::disallowed_methods, reason = "a shell: sessions expire")]
    pub(super) fn new() -> KeepAlive {
        KeepAlive(Mutex::new(LastSign { at: Instant::now(), timeout: SESSION_TIMEOUT }))
    }

    /// Notes a sign of life.
    #[expect(clippy::disallowed_methods, reason = "a shell: sessions expire")]
    pub(super) fn touch(&self) {
        self.lock().at = Instant::now();
    }

    /// Notes a request, which a session whose connection is gone may have from another.
    #[expect(clippy::disallowed_methods, reason = "a shell: sessions expire")]
    pub(super) fn requested(&self) {
        *self.lock() = LastSign { at: Instant::now(), timeout: SESSION_TIMEOUT };
    }

    /// When the session ends without a further sign of life.
    pub(super) fn deadline(&self) -> Instant {
        let last = self.lock();
        last.at + last.timeout
    }

    fn lock(&self) -> MutexGuard<'_, LastSign> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session, as connections see it.
#[derive(Debug)]
pub(super) struct RtspSession {
    /// The address that set it up: only requests from there may name it.
    pub(super) owner: IpAddr,
    pub(super) resource: Resource,
    pub(super) tracks: Mutex<SessionTracks>,
    /// Playing time of its programme; `None` if live.
    pub(super) length: Option<Duration>,
    /// Written by its task.
    pub(super) playing: Arc<AtomicBool>,
    pub(super) keep_alive: Arc<KeepAlive>,
    /// `None` by multicast.
    pub(super) receiver_reports: Option<ReceiverReports>,
    pub(super) commands: mpsc::Sender<SessionCommand>,
}

/// The tracks of a session that are set up.
#[derive(Debug)]
pub(super) struct SessionTracks {
    pub(super) transports: PerTrack<SessionTransport>,
    /// Each covers the two sockets of a track by UDP.
    pub(super) permits: Vec<Permit>,
}

impl RtspSession {
    /// The transports of the tracks that are set up.
    pub(super) fn transports(&self) -> PerTrack<SessionTransport> {
        self.tracks().transports
    }

    /// Whether its packets travel in the connection that set it up.
    pub(super) fn is_interleaved(&self) -> bool {
        let interleaved =
            |transport: &SessionTransport| matches!(transport, SessionTransport::Interleaved { .. });
        self.transports().iter().any(|(_, transport)| interleaved(transport))
    }

    pub(super) fn tracks(&self) -> MutexGuard<'_, SessionTracks> {
        self.tracks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn info(&self) -> SessionInfo {
        SessionInfo {
            owner: self.owner,
            resource: self.resource,
            transports: self.transports(),
            playing: self.playing.load(Relaxed),
            length: self.length,
        }
    }

    /// Notes that the connection is gone that set it up. It ends soon, unless its client gives signs of life.
    #[expect(clippy::disallowed_methods, reason = "a shell: sessions expire")]
    pub(super) fn abandon(&self) {
        *self.keep_alive.lock() = LastSign { at: Instant::now(), timeout: ABANDONED_TIMEOUT };
        // If the queue is full, the task looks at the deadline behind the command that is in it.
        let _ = self.commands.try_send(SessionCommand::Abandoned);
    }
}

/// Records the receiver reports of a session's client.
#[derive(Debug, Clone)]
pub(super) struct ReceiverReports {
    pub(super) client: Arc<Client>,
    pub(super) keep_alive: Arc<KeepAlive>,
}

impl ReceiverReports {
    /// Records an RTCP packet of the client on a track whose packets have this SSRC. The client's loss is that of its pictures. Ignores
    /// packets that are not RTCP.
    pub(super) fn record(&self, track: Track, ssrc: u32, packet: &[u8]) {
        let Some(reports) = rtcp::reception_reports(packet, ssrc) else { return };
        self.keep_alive.touch();
        for report in reports.into_iter().filter(|_| track == Track::Picture) {
            self.client.lost.store(report.lost.into(), Relaxed);
            self.client.fraction_lost.store(report.fraction_lost.into(), Relaxed);
            self.client.jitter.store(report.jitter, Relaxed);
        }
    }
}

/// All sessions of a server. They may outlive connections.
#[derive(Debug)]
pub(super) struct SessionTable {
    sessions: Mutex<HashMap<SessionId, Arc<RtspSession>>>,
    tasks: Mutex<JoinSet<()>>,
    limits: Arc<ConnectionLimits>,
    /// An id is a count under SipHash with a key of 128 bits from the system, so nobody can tell the next one from those
    /// before. The numbers of fastrand could be computed from a few of them.
    key: RandomState,
    count: AtomicU64,
}

impl SessionTable {
    /// An empty table for at most `most` sessions. Each costs a task, and by UDP two ports.
    pub(super) fn new(most: usize) -> Arc<SessionTable> {
        Arc::new(SessionTable {
            sessions: Mutex::default(),
            tasks: Mutex::default(),
            limits: ConnectionLimits::new(most, PER_ADDRESS),
            key: RandomState::new(),
            count: AtomicU64::new(0),
        })
    }

    /// A permit for a session of `address`; `None` if there are too many sessions.
    pub(super) fn permit(&self, address: IpAddr) -> Option<Permit> {
        self.limits.try_acquire(address).ok()
    }

    pub(super) fn get(&self, id: SessionId) -> Option<Arc<RtspSession>> {
        self.lock().get(&id).cloned()
    }

    /// Adds a session and starts its `task`, which returns when all senders of the session's commands are dropped, or
    /// earlier. Then the session is removed.
    pub(super) fn insert(
        self: &Arc<Self>,
        session: RtspSession,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> SessionId {
        let mut sessions = self.lock();
        let id = loop {
            let id = self.new_id();
            if !sessions.contains_key(&id) {
                break id;
            }
        };
        sessions.insert(id, Arc::new(session));
        drop(sessions);
        let table = Arc::downgrade(self);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            task.await;
            if let Some(table) = table.upgrade() {
                table.remove(id);
            }
        });
        id
    }

    /// An id that nobody can guess, for a session that is kept elsewhere too.
    pub(super) fn new_id(&self) -> SessionId {
        SessionId(self.key.hash_one(self.count.fetch_add(1, Relaxed)))
    }

    /// Removes a session, which ends its task.
    pub(super) fn remove(&self, id: SessionId) {
        let session = self.lock().remove(&id);
        // Dropped when the table is unlocked: dropping the permit takes a lock, too.
        drop(session);
    }

    /// Ends all sessions, and waits up to half a second until their BYEs are sent.
    pub(super) async fn end(&self) {
        let all = std::mem::take(&mut *self.lock());
        drop(all);
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let _ = timeout(BYE_TIMEOUT, async { while tasks.join_next().await.is_some() {} }).await;
        tasks.shutdown().await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<RtspSession>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
