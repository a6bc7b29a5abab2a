//! One client's connection: answers requests in order, pushes the line-up in between, and puts a deadline on every wait.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

use crate::access::{Credentials, Denied, Grant, Secret, Visitor};
use crate::directory::framing::{ByteStream, Framed};
use crate::directory::message::{ErrorCode, Reply, Request, StationKeys, StationNow, VERSION};
use crate::directory::serialization::encode;
use crate::directory::table::{AllNow, AudienceMember, StationTable};
use crate::media::StationId;

/// Limits for one client and for all of them. `docs/protocol.md` documents the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at one time. Any more are told [`ErrorCode::Busy`].
    pub connections: usize,
    /// Connections at one time from one address.
    pub per_address: usize,
    /// Time from accepting a connection to its complete Hello.
    pub hello: Duration,
    /// Time from a request's first byte to its last.
    pub request: Duration,
    /// Time from one request to the next.
    pub idle: Duration,
    /// Time for the client to take one reply.
    pub write: Duration,
    /// Shortest time between two pushes to a client. Changes in between travel together, as the newest state.
    pub push: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 1024,
            per_address: 256,
            hello: Duration::from_secs(5),
            request: Duration::from_secs(5),
            idle: Duration::from_secs(90),
            write: Duration::from_secs(5),
            push: Duration::from_millis(100),
        }
    }
}

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum Disconnect {
    /// The client closed it.
    Closed,
    /// The connection broke.
    Lost(io::Error),
    /// The client did not take a reply in time.
    Stuck,
    /// The server refused a request. It still has to send this error, and to close.
    Refused { code: ErrorCode, sentence: String },
}

fn refused(code: ErrorCode, sentence: impl Into<String>) -> Disconnect {
    Disconnect::Refused { code, sentence: sentence.into() }
}

pub(super) struct Connection<'a, S> {
    framed: Framed<S, Request>,
    peer: SocketAddr,
    table: &'a StationTable,
    limits: &'a Limits,
    /// The stations that the client may see.
    grant: Grant,
    greeted: bool,
    tuned: Option<AudienceMember>,
    watching: Option<Watching>,
    /// Whether the client has asked for the stations' sources, so that these precede every line-up that is pushed.
    wants_sources: bool,
    /// Whether the client has asked for the stations' sound, as above.
    wants_sound: bool,
    /// Whether the client has asked for the stations' signatures, as above.
    wants_signers: bool,
    /// The films that are on, once the client has asked for them.
    now: Option<Now>,
    /// The keys of encrypted stations, once the client has asked for them.
    keys: Option<Keys>,
}

impl<'a, S: ByteStream> Connection<'a, S> {
    pub(super) fn new(
        framed: Framed<S, Request>,
        peer: SocketAddr,
        table: &'a StationTable,
        limits: &'a Limits,
    ) -> Self {
        let visitor = visitor(&framed, peer);
        Connection {
            framed,
            peer,
            table,
            limits,
            grant: Grant::of_a_stranger(visitor.is_private()),
            greeted: false,
            tuned: None,
            watching: None,
            wants_sources: false,
            wants_sound: false,
            wants_signers: false,
            now: None,
            keys: None,
        }
    }

    /// Leaves the audience, and returns the stream for a last message.
    pub(super) fn into_framed(self) -> Framed<S, Request> {
        self.framed
    }

    /// Serves the client until the connection has to end.
    #[expect(clippy::disallowed_methods, reason = "a shell: it times requests and writes")]
    pub(super) async fn run(&mut self) -> Disconnect {
        let accepted_at = Instant::now();
        let mut last_request_at = accepted_at;
        let mut request_began_at = None;
        loop {
            loop {
                match self.framed.take() {
                    Ok(Some(request)) => {
                        if let Err(disconnect) = self.answer(request).await {
                            return disconnect;
                        }
                        last_request_at = Instant::now();
                        request_began_at = None;
                    }
                    Ok(None) => break,
                    Err(error) => return refused(ErrorCode::BadRequest, error.to_string()),
                }
            }
            let (deadline, sentence) = if !self.greeted {
                (accepted_at + self.limits.hello, "no Hello came in time")
            } else if self.framed.is_midway() {
                (
                    *request_began_at.get_or_insert_with(Instant::now) + self.limits.request,
                    "a request was not finished in time",
                )
            } else {
                (last_request_at + self.limits.idle, "no request came for too long: send a Ping now and then")
            };
            tokio::select! {
                read = self.framed.fill() => match read {
                    Ok(true) => {}
                    Ok(false) => return Disconnect::Closed,
                    Err(error) => return Disconnect::Lost(error),
                },
                () = Watching::due(&mut self.watching, self.limits) => {
                    if let Err(disconnect) = self.push().await {
                        return disconnect;
                    }
                }
                () = self.grant.over() => return refused(ErrorCode::Denied, "the token is let in no more"),
                () = Now::changed(&mut self.now) => {
                    if let Err(disconnect) = self.tell_now().await {
                        return disconnect;
                    }
                }
                () = Keys::changed(&mut self.keys) => {
                    if let Err(disconnect) = self.tell_keys().await {
                        return disconnect;
                    }
                }
                () = sleep_until(deadline) => return refused(ErrorCode::TimedOut, sentence),
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a shell: it times requests and writes")]
    async fn answer(&mut self, request: Request) -> Result<(), Disconnect> {
        match request {
            Request::Hello { .. } if self.greeted => {
                Err(refused(ErrorCode::BadRequest, "a second Hello: one is enough"))
            }
            Request::Hello { version, agent } => {
                if version != VERSION {
                    let sentence = format!(
                        "version {version} is not spoken here: this directory speaks version {VERSION}"
                    );
                    return Err(refused(ErrorCode::UnsupportedVersion, sentence));
                }
                debug!(peer = %self.peer, ?agent, "directory: hello");
                self.greeted = true;
                let server = concat!("stationcast ", env!("CARGO_PKG_VERSION")).to_owned();
                self.send(&Reply::Hello { version, server }).await
            }
            _ if !self.greeted => Err(refused(ErrorCode::BadRequest, "the first request must be Hello")),
            Request::List => self.send(&self.line_up()).await,
            Request::Tune { station } => self.tune(station).await,
            Request::Watch => {
                self.watching.get_or_insert_with(|| Watching {
                    changes: self.table.changes(),
                    pushed: Instant::now(),
                    due: None,
                });
                self.push().await
            }
            Request::Ping => self.send(&Reply::Pong).await,
            Request::Sources => {
                self.wants_sources = true;
                self.send(&self.sources()).await
            }
            Request::Sound => {
                self.wants_sound = true;
                self.send(&self.sounds()).await
            }
            Request::Signers => {
                self.wants_signers = true;
                self.send(&self.signers()).await
            }
            Request::Now => {
                // Asked again, the answer has all stations again.
                self.now = Some(Now { changes: self.table.now(), told: Arc::default() });
                self.tell_now().await
            }
            Request::Admit { token } => self.admit(token).await,
            Request::Keys => {
                // Asked again, the answer has all keys again.
                self.keys = Some(Keys { changes: self.table.keys_changes(), told: BTreeMap::new() });
                let keys = self.new_keys(None);
                self.send(&Reply::Keys(keys)).await
            }
            Request::Guide { from, until } => {
                let (at, mut stations) = self.table.films(from, until);
                stations.retain(|station| self.sees(station.id));
                self.send(&Reply::Guide { at, stations }).await
            }
            Request::Services => self.send(&Reply::Services(self.table.services())).await,
        }
    }

    /// Whether the client may see a station.
    fn sees(&self, id: StationId) -> bool {
        self.table.gate().is_none_or(|gate| gate.allows(id, &self.grant))
    }

    /// Lets the client in, if its token is let in.
    async fn admit(&mut self, token: Secret) -> Result<(), Disconnect> {
        let visitor = visitor(&self.framed, self.peer);
        let credentials = Credentials { name: String::new(), secret: token };
        let admitted = match self.table.gate() {
            Some(gate) => gate.gatekeeper().admit(visitor, credentials).await,
            None => Err(Denied::Wrong),
        };
        match admitted {
            Ok(grant) => {
                let name = grant.name().unwrap_or_default().to_owned();
                self.grant = grant;
                self.send(&Reply::Admitted { name }).await?;
                self.tell_keys().await?;
                // The line-up that was told before lacks stations that the client may see now.
                if self.watching.is_some() { self.push().await } else { Ok(()) }
            }
            Err(denied) => {
                self.send(&Reply::Error { code: ErrorCode::Denied, sentence: denied.to_string() }).await
            }
        }
    }

    async fn tune(&mut self, station: StationId) -> Result<(), Disconnect> {
        let seen = self.sees(station);
        if seen
            && self.tuned.as_ref().is_none_or(|member| member.station != station)
            && let Some(member) = self.table.join_audience(station)
        {
            self.tuned = Some(member); // leaves the audience of the station before
        }
        let Some((entry, now)) = self.table.on_air(station).filter(|_| seen) else {
            let sentence = format!("there is no station {station} in the line-up");
            return self.send(&Reply::Error { code: ErrorCode::NoSuchStation, sentence }).await;
        };
        let keys = self.new_keys(Some(station));
        if !keys.is_empty() {
            self.send(&Reply::Keys(keys)).await?;
        }
        match encode(&Reply::Tuned { entry: entry.clone(), now }) {
            Ok(bytes) => self.write(&bytes).await?,
            Err(error) => {
                warn!(station = %station, %error, "directory: cannot send the picture on air");
                self.send(&Reply::Tuned { entry, now: None }).await?;
            }
        }
        if self.wants_sound {
            let packets = self.table.sound_now(station);
            if !packets.is_empty() {
                self.send(&Reply::SoundNow { station, packets }).await?;
            }
        }
        Ok(())
    }

    /// Tells what is on the stations of which that has changed since it was told last.
    async fn tell_now(&mut self) -> Result<(), Disconnect> {
        let Some(now) = &mut self.now else { return Ok(()) };
        let all = now.changes.borrow_and_update().clone();
        let mut stations = changed(&now.told.stations, &all.stations);
        let at = all.at;
        now.told = all;
        stations.retain(|station| self.sees(station.id));
        self.send(&Reply::Now { at, stations }).await
    }

    /// Tells the keys that have changed since they were told last, if there are any.
    async fn tell_keys(&mut self) -> Result<(), Disconnect> {
        let keys = self.new_keys(None);
        if keys.is_empty() { Ok(()) } else { self.send(&Reply::Keys(keys)).await }
    }

    /// The keys that have changed since they were told last; or those of `tuned`, whose index has risen in any case. None for a client
    /// that has not asked.
    fn new_keys(&mut self, tuned: Option<StationId>) -> Vec<StationKeys> {
        let Some(mut known) = self.keys.take() else { return Vec::new() };
        if tuned.is_none() {
            known.changes.mark_unchanged();
        }
        let mut new = Vec::new();
        for id in tuned.map_or_else(|| self.table.ids(), |id| vec![id]) {
            if self.sees(id)
                && let Some((version, station)) = self.table.keys(id)
                && (known.told.insert(id, version) != Some(version) || tuned.is_some())
            {
                new.push(station);
            }
        }
        self.keys = Some(known);
        new
    }

    fn line_up(&self) -> Reply {
        let (revision, mut stations) = self.table.line_up();
        stations.retain(|station| self.sees(station.id));
        Reply::LineUp { revision, stations }
    }

    fn sources(&self) -> Reply {
        let mut sources = self.table.sources();
        sources.retain(|source| self.sees(source.id));
        Reply::Sources(sources)
    }

    fn sounds(&self) -> Reply {
        let mut sounds = self.table.sounds();
        sounds.retain(|sound| self.sees(sound.id));
        Reply::Sound(sounds)
    }

    fn signers(&self) -> Reply {
        let (at, mut stations) = self.table.signers();
        stations.retain(|signer| self.sees(signer.id));
        Reply::Signers { at, stations }
    }

    /// Sends the line-up.
    #[expect(clippy::disallowed_methods, reason = "a shell: it times requests and writes")]
    async fn push(&mut self) -> Result<(), Disconnect> {
        if let Some(watching) = &mut self.watching {
            // Before the line-up is read: a change in between is then sent twice, and not missed.
            watching.changes.mark_unchanged();
            watching.pushed = Instant::now();
            watching.due = None;
        }
        if self.wants_sources {
            self.send(&self.sources()).await?;
        }
        if self.wants_sound {
            self.send(&self.sounds()).await?;
        }
        if self.wants_signers {
            self.send(&self.signers()).await?;
        }
        self.send(&self.line_up()).await
    }

    async fn send(&mut self, reply: &Reply) -> Result<(), Disconnect> {
        match encode(reply) {
            Ok(bytes) => self.write(&bytes).await,
            Err(error) => {
                // The table accepts only entries that fit, so this is our bug.
                tracing::error!(peer = %self.peer, %error, "directory: cannot answer");
                Err(Disconnect::Closed)
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Disconnect> {
        match timeout(self.limits.write, self.framed.send(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Disconnect::Lost(error)),
            Err(_) => Err(Disconnect::Stuck),
        }
    }
}

/// The client, as the gatekeeper sees it.
fn visitor(framed: &Framed<impl ByteStream, Request>, peer: SocketAddr) -> Visitor {
    Visitor { address: peer.ip(), tls: framed.is_tls(), service: "the directory" }
}

/// The films that are on, for a client that has asked.
struct Now {
    changes: watch::Receiver<Arc<AllNow>>,
    /// The state as the client knows it.
    told: Arc<AllNow>,
}

impl Now {
    /// Waits for a change. Never ready without `now`. Cancel-safe.
    async fn changed(now: &mut Option<Now>) {
        let Some(now) = now else { return std::future::pending().await };
        if now.changes.changed().await.is_err() {
            std::future::pending().await // the table is gone: there are no more changes
        }
    }
}

/// The keys of encrypted stations, for a client that has asked.
struct Keys {
    changes: watch::Receiver<u64>,
    /// The version of each station's keys that the client knows.
    told: BTreeMap<StationId, u64>,
}

impl Keys {
    /// Waits for a change. Never ready without `keys`. Cancel-safe.
    async fn changed(keys: &mut Option<Keys>) {
        let Some(keys) = keys else { return std::future::pending().await };
        if keys.changes.changed().await.is_err() {
            std::future::pending().await // the table is gone: there are no more changes
        }
    }
}

/// The stations of `now` that are not in `before`, or are otherwise there; and those that are gone, with nothing on. Both lists
/// ascend by number, and so does the result.
fn changed(before: &[StationNow], now: &[StationNow]) -> Vec<StationNow> {
    let known: BTreeMap<_, _> = before.iter().map(|station| (station.id, station)).collect();
    let gone = |station: &&StationNow| now.binary_search_by_key(&station.id, |now| now.id).is_err();
    let gone = before.iter().filter(gone).map(|station| StationNow { id: station.id, now: None, next: None });
    let changed = now.iter().filter(|station| known.get(&station.id) != Some(station)).cloned();
    let mut changed: Vec<_> = changed.chain(gone).collect();
    changed.sort_by_key(|station| station.id);
    changed
}

/// The state of a client that has asked to be told of changes.
struct Watching {
    changes: watch::Receiver<u64>,
    /// Time of the last push.
    pushed: Instant,
    /// Time of the next push; `None` before a change.
    due: Option<Instant>,
}

impl Watching {
    /// Waits until a push is due: after a change, and [`Limits::push`] after the last push. Never ready without
    /// `watching`. Cancel-safe.
    #[expect(clippy::disallowed_methods, reason = "a shell: it times requests and writes")]
    async fn due(watching: &mut Option<Watching>, limits: &Limits) {
        let Some(watching) = watching else { return std::future::pending().await };
        let due = match watching.due {
            Some(due) => due,
            None => {
                if watching.changes.changed().await.is_err() {
                    return std::future::pending().await; // the table is gone: there are no more changes
                }
                *watching.due.insert(watching.pushed + limits.push)
            }
        };
        sleep_until(due).await;
    }
}
