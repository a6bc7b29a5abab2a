//! The sessions there are: their ids, their states, and when they end for want of a sign of life.

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

use rtsp_types::StatusCode;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::conversation::{Resource, View, Wish};
use super::transport::Way;
use crate::headend::Client;
use crate::limits::{ConnectionLimits, Permit};
use crate::wire::rtcp;

/// How long a session lives after the last sign of its client: a request that names it, or a receiver report.
pub(super) const TIMEOUT: Duration = Duration::from_secs(60);

/// Sessions at one time, and of one address. One costs a task, and by UDP two ports. The next is told 503.
pub(super) const SESSIONS: (usize, usize) = (2048, 1024);

/// How long all sessions together may take to say BYE when the broadcaster stops.
const PARTING: Duration = Duration::from_millis(500);

/// What a client calls its session: 64 bits that nobody can guess, as 16 hexadecimal digits.
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

/// What a session is told to do. The answer comes when it is done.
#[derive(Debug)]
pub(super) enum Command {
    /// Or why not.
    Play(Wish, oneshot::Sender<Result<Started, StatusCode>>),
    Pause(oneshot::Sender<()>),
    End(oneshot::Sender<()>),
}

/// A delivery that is about to begin.
#[derive(Debug)]
pub(super) struct Started {
    /// The sequence number and the timestamp of the first packet, as far as they are known.
    pub(super) sequence: Option<u16>,
    pub(super) timestamp: Option<u32>,
    /// From where to where, of what has a beginning and an end.
    pub(super) span: Option<(Duration, Duration)>,
    pub(super) scale: f64,
    /// Dropped, it begins: pictures shall not overtake the response.
    pub(super) go: Option<oneshot::Sender<()>>,
}

/// Whether a session is playing, and when its client was last heard of.
#[derive(Debug)]
pub(super) struct Life {
    playing: AtomicBool,
    seen: Mutex<Instant>,
}

impl Life {
    pub(super) fn new() -> Life {
        Life { playing: AtomicBool::new(false), seen: Mutex::new(Instant::now()) }
    }

    pub(super) fn touch(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// When it ends, if nothing is heard until then.
    pub(super) fn ends(&self) -> Instant {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) + TIMEOUT
    }

    pub(super) fn play(&self, playing: bool) {
        self.playing.store(playing, Relaxed);
    }
}

/// A session, as connections see it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) owner: IpAddr,
    pub(super) resource: Resource,
    pub(super) way: Way,
    pub(super) length: Option<Duration>,
    pub(super) life: Arc<Life>,
    pub(super) audit: Option<Audit>,
    pub(super) commands: mpsc::Sender<Command>,
    /// Its place among all sessions, and its address's.
    pub(super) _place: Permit,
}

impl Session {
    pub(super) fn view(&self) -> View {
        View {
            owner: self.owner,
            resource: self.resource,
            way: self.way,
            playing: self.life.playing.load(Relaxed),
            length: self.length,
        }
    }
}

/// Takes down what a client reports.
#[derive(Debug, Clone)]
pub(super) struct Audit {
    pub(super) ssrc: u32,
    pub(super) client: Arc<Client>,
    pub(super) life: Arc<Life>,
}

impl Audit {
    /// Takes an RTCP packet from the client. What is none is left alone.
    pub(super) fn hear(&self, packet: &[u8]) {
        let Some(reports) = rtcp::reports(packet, self.ssrc) else { return };
        self.life.touch();
        for report in reports {
            self.client.lost.store(report.lost.into(), Relaxed);
            self.client.fraction_lost.store(report.fraction_lost.into(), Relaxed);
            self.client.jitter.store(report.jitter, Relaxed);
        }
    }
}

/// All sessions of a server. They outlive connections.
#[derive(Debug)]
pub(super) struct Sessions {
    table: Mutex<HashMap<SessionId, Arc<Session>>>,
    tasks: Mutex<JoinSet<()>>,
    limits: Arc<ConnectionLimits>,
    /// Ids are a count under SipHash with 128 bits of key from the system: who sees some of them cannot tell the next.
    /// (fastrand's can be computed from a few of them.)
    key: RandomState,
    count: AtomicU64,
}

impl Sessions {
    pub(super) fn new() -> Arc<Sessions> {
        Arc::new(Sessions {
            table: Mutex::default(),
            tasks: Mutex::default(),
            limits: ConnectionLimits::new(SESSIONS.0, SESSIONS.1),
            key: RandomState::new(),
            count: AtomicU64::new(0),
        })
    }

    /// A place for a session of `address`; `None` when all are taken.
    pub(super) fn place(&self, address: IpAddr) -> Option<Permit> {
        self.limits.try_acquire(address).ok()
    }

    pub(super) fn get(&self, id: SessionId) -> Option<Arc<Session>> {
        self.table().get(&id).cloned()
    }

    /// Enters a session, whose `task` runs until all senders of its commands are gone or it ends by itself: then the
    /// session is over.
    pub(super) fn enter(
        self: &Arc<Self>,
        session: Session,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> SessionId {
        let mut table = self.table();
        let id = loop {
            let id = SessionId(self.key.hash_one(self.count.fetch_add(1, Relaxed)));
            if !table.contains_key(&id) {
                break id;
            }
        };
        table.insert(id, Arc::new(session));
        drop(table);
        let sessions = Arc::downgrade(self);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            task.await;
            if let Some(sessions) = sessions.upgrade() {
                sessions.remove(id);
            }
        });
        id
    }

    /// Ends a session.
    pub(super) fn remove(&self, id: SessionId) {
        let session = self.table().remove(&id);
        // Dropped without the lock: its place has one of its own.
        drop(session);
    }

    /// Ends all sessions, and waits a little for them to say so.
    pub(super) async fn end(&self) {
        let all = std::mem::take(&mut *self.table());
        drop(all);
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let _ = timeout(PARTING, async { while tasks.join_next().await.is_some() {} }).await;
        tasks.shutdown().await;
    }

    fn table(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Session>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
