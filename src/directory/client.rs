//! A connection to the directory that is made again whenever it is lost, for as long as the viewer runs.

#![expect(clippy::disallowed_methods, reason = "a shell: it waits between attempts")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::debug;

use super::endpoint::{ConnectError, Endpoint};
use super::framing::{ByteStream, Framed};
use super::message::{
    ErrorCode, FilmOnAir, OnAir, Reply, Request, SoundPacket, StationInfo, StationKeys, StationNow,
    StationSigner, StationSound, VERSION,
};
use super::serialization::encode;
use crate::media::{AirTime, StationId};

/// Timeout of an attempt to connect.
const CONNECT: Duration = Duration::from_secs(3);

/// Longest time from our last request to the next one, a Ping if there is no other. The server closes after 90 s without
/// a request, however much it sends itself.
const PING: Duration = Duration::from_secs(20);

/// Longest time from a request to some reply. After it the server counts as lost.
const ANSWER: Duration = Duration::from_secs(10);

/// Shortest time between two requests for all keys: forged packets must not make the directory busy.
const KEYS: Duration = Duration::from_secs(1);

/// Time that a reply costs that was not asked for, and the most that may be spent ahead: 40 replies a second, and 64 at once.
/// A server pushes at most ten line-ups a second, each behind its sources and its sound, and once what is on. A full line-up of 1 MiB takes some milliseconds;
/// a server that pushed without pause cost 97 % of a core.
const COST: Duration = Duration::from_millis(25);
const CREDIT: Duration = Duration::from_millis(1600);

/// A connection that lasted this long resets the backoff.
const GOOD: Duration = Duration::from_secs(8);

/// What the directory sends, or what became of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The directory has answered our Hello.
    Connected {
        /// Our end of the connection. Its address is that of the interface by which the server is reached.
        local: SocketAddr,
    },
    /// All stations, ascending by id: after every Connected, and after every change.
    LineUp(Vec<StationInfo>),
    /// The addresses that stations are sent from: before the LineUp after every Connected, and before that of every change.
    /// Never, if the directory does not tell them.
    Sources(BTreeMap<StationId, IpAddr>),
    /// How the stations' sound is sent, by number: before the LineUp after every Connected, and before that of every change.
    /// Never, if the directory does not tell it.
    Sound(BTreeMap<StationId, StationSound>),
    /// The keys that verify the pictures of signed stations, by number. They come before the LineUp after every Connected, and before that
    /// of every change; never, if the directory does not tell them.
    Signers {
        /// The moment of the answer, by the broadcaster's clock.
        at: AirTime,
        /// The signed stations.
        stations: BTreeMap<StationId, StationSigner>,
    },
    /// The last packets of sound of the station last wanted; after its Tuned.
    SoundNow {
        /// The station's number.
        station: StationId,
        /// The packets, ascending by due time.
        packets: Vec<SoundPacket>,
    },
    /// The films on the stations, by number, and those that come next: before the LineUp after every Connected, and whenever it changes.
    /// Never, if the directory does not tell it.
    Now {
        /// The moment at which this is so, by the broadcaster's clock.
        at: AirTime,
        /// All stations.
        stations: BTreeMap<StationId, StationNow>,
    },
    /// The films of the span that was asked for with [`DirectoryClient::ask_guide`], by the stations' numbers.
    Guide {
        /// The moment of the answer, by the broadcaster's clock.
        at: AirTime,
        /// The stations of which something is known.
        stations: BTreeMap<StationId, Vec<FilmOnAir>>,
    },
    /// The keys of encrypted stations. Those of all stations come before the LineUp after every Connected, and after
    /// [`DirectoryClient::ask_keys`]; those of some, whenever they change, and before the Tuned of such a station. They never come, if the
    /// directory does not tell them.
    Keys {
        /// The keys.
        keys: Vec<StationKeys>,
        /// Whether no other station is encrypted.
        all: bool,
    },
    /// The directory tells no films but those that are on: it is an older one.
    NoGuide,
    /// We are in the audience of the station last wanted.
    Tuned {
        /// The station.
        entry: StationInfo,
        /// The picture on air now; `None` before the station's first picture.
        now: Option<OnAir>,
    },
    /// The directory refused a request. Unless the code is [`ErrorCode::NoSuchStation`] or [`ErrorCode::Denied`], a Lost follows.
    Refused {
        /// For programs.
        code: ErrorCode,
        /// The server's sentence.
        sentence: String,
    },
    /// There is no connection.
    Lost {
        /// Why, for people.
        reason: String,
        /// Whether a connection was made, so that something answers at the address.
        reached: bool,
        /// Time until the next attempt: 250 ms to 8 s.
        retry_in: Duration,
    },
}

/// A client that stays connected to a directory, with retries, until it is dropped.
#[derive(Debug)]
pub struct DirectoryClient {
    wanted: watch::Sender<Option<StationId>>,
    guide: watch::Sender<Option<(AirTime, AirTime)>>,
    keys: Arc<Notify>,
    task: AbortHandle,
}

impl DirectoryClient {
    /// Starts a task that connects, says Hello, watches the line-up, and tunes when [`tune`](Self::tune) is called.
    /// Between failed attempts it waits 250 ms at first and 8 s at most. It calls `events`, which must not block.
    ///
    /// # Panics
    /// Outside a tokio runtime with time and I/O enabled.
    pub fn start(directory: impl Into<Endpoint>, events: impl Fn(Event) + Send + 'static) -> DirectoryClient {
        DirectoryClient::begin(directory.into(), Extras::default(), events)
    }

    /// As [`start`](Self::start), and asks what verifies the pictures of the stations: [`Event::Signers`].
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_with_signers(
        directory: impl Into<Endpoint>,
        events: impl Fn(Event) + Send + 'static,
    ) -> DirectoryClient {
        let extras = Extras { wants_signers: true, ..Extras::default() };
        DirectoryClient::begin(directory.into(), extras, events)
    }

    fn begin(
        directory: Endpoint,
        extras: Extras,
        events: impl Fn(Event) + Send + 'static,
    ) -> DirectoryClient {
        let (wanted, watched) = watch::channel(None);
        let (guide, guide_wanted) = watch::channel(None);
        let keys = Arc::new(Notify::new());
        let task = ClientTask {
            wanted: watched,
            guide: guide_wanted,
            keys: keys.clone(),
            events: Box::new(events),
            extras,
            now: BTreeMap::new(),
            all_keys_asked: false,
        };
        let task = tokio::spawn(task.run(directory)).abort_handle();
        DirectoryClient { wanted, guide, keys, task }
    }

    /// Asks for a station: at once if connected, and again after every reconnect. Never blocks. Of several quick calls
    /// the last one wins. Answered by [`Event::Tuned`] or [`Event::Refused`]; a Tuned for any station but the last one
    /// asked for is dropped.
    pub fn tune(&self, station: StationId) {
        self.wanted.send_replace(Some(station));
    }

    /// Asks for the films that end after `from` and begin before `until`, if connected. Never blocks. Answered by
    /// [`Event::Guide`] or [`Event::NoGuide`].
    pub fn ask_guide(&self, from: AirTime, until: AirTime) {
        self.guide.send_replace(Some((from, until)));
    }

    /// Asks for all keys again, once a second at most. Never blocks. Answered by [`Event::Keys`], if the directory tells any.
    pub fn ask_keys(&self) {
        self.keys.notify_one();
    }
}

impl Drop for DirectoryClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct ClientTask {
    wanted: watch::Receiver<Option<StationId>>,
    /// The span of the guide that was asked for last.
    guide: watch::Receiver<Option<(AirTime, AirTime)>>,
    /// Somebody has asked for all keys again.
    keys: Arc<Notify>,
    events: Box<dyn Fn(Event) + Send>,
    extras: Extras,
    /// The films that are on, as far as the directory has told on this connection.
    now: BTreeMap<StationId, StationNow>,
    /// Whether all keys were asked for again on this connection, and not told yet.
    all_keys_asked: bool,
}

/// Whether the directory tells what the first version did not. An older server takes the question for a broken request and
/// closes, so that the next connection must not ask.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Extra {
    #[default]
    Unasked,
    Asked,
    Told,
    NotTold,
}

/// The requests that were added to the first version, in the order in which they were: a server that does not know one does
/// not know those after it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Extras {
    sources: Extra,
    sound: Extra,
    now: Extra,
    signers: Extra,
    /// Whether somebody wants to know what verifies the pictures.
    wants_signers: bool,
    /// Asked when somebody wants to know, and not on each connection.
    guide: Extra,
    keys: Extra,
}

impl Extras {
    fn each(&mut self) -> impl Iterator<Item = (&mut Extra, Request)> {
        let wants_signers = self.wants_signers;
        let all = [
            (&mut self.sources, Request::Sources),
            (&mut self.sound, Request::Sound),
            (&mut self.now, Request::Now),
            (&mut self.keys, Request::Keys),
            (&mut self.signers, Request::Signers),
        ];
        all.into_iter().filter(move |(_, request)| wants_signers || *request != Request::Signers)
    }

    /// The requests to ask on a new connection.
    fn questions(&mut self) -> Vec<Request> {
        let unasked = self.each().filter(|(extra, _)| **extra == Extra::Unasked);
        unasked.map(|(_, request)| request).collect()
    }

    /// The server has answered Hello, so that it reads the questions.
    fn asked(&mut self) {
        for (extra, _) in self.each() {
            if *extra == Extra::Unasked {
                *extra = Extra::Asked;
            }
        }
    }

    fn is_awaited(&mut self) -> bool {
        self.guide == Extra::Asked || self.each().any(|(extra, _)| *extra == Extra::Asked)
    }

    /// The connection has ended. If that was at one of our questions, true: it and those after it are not asked on the next
    /// connection, which is made at once. Otherwise another server may be there the next time.
    fn refused(&mut self) -> bool {
        let refused = self.is_awaited();
        let after = |extra: Extra| match extra {
            Extra::Asked | Extra::NotTold if refused => Extra::NotTold,
            _ => Extra::Unasked,
        };
        self.guide = after(self.guide);
        for (extra, _) in self.each() {
            *extra = after(*extra);
        }
        refused
    }
}

impl ClientTask {
    async fn run(mut self, directory: Endpoint) {
        let address = directory.address;
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            let mut reached = false;
            let reason = match timeout(CONNECT, directory.connect()).await {
                Ok(Ok((framed, local))) => {
                    reached = true;
                    self.run_once(framed, local, &directory).await
                }
                Ok(Err(ConnectError::Insecure(error))) => {
                    reached = true;
                    Err(error.to_string())
                }
                Ok(Err(ConnectError::Io(error))) => {
                    Err(format!("cannot reach the directory at {address}: {error}"))
                }
                Err(_) => Err(format!("the directory at {address} does not answer")),
            };
            let Err(reason) = reason else { return };
            if self.extras.refused() {
                debug!("directory: it does not tell all that we ask: {reason}");
                if self.extras.guide == Extra::NotTold {
                    (self.events)(Event::NoGuide);
                }
                continue;
            }
            if began.elapsed() >= GOOD {
                backoff = Backoff::default();
            }
            let retry_in = backoff.next(fastrand::f64());
            (self.events)(Event::Lost { reason, reached, retry_in });
            sleep(retry_in).await;
        }
    }

    /// Serves one connection until it is lost (`Err`: why) or the client is dropped (`Ok`).
    async fn run_once(
        &mut self,
        mut framed: Framed<impl ByteStream, Reply>,
        local: SocketAddr,
        directory: &Endpoint,
    ) -> Result<(), String> {
        let mut opening = vec![Request::hello()];
        let questions = self.extras.questions().into_iter();
        let (after, before): (Vec<_>, Vec<_>) =
            questions.partition(|request| matches!(request, Request::Keys | Request::Signers));
        opening.extend(before);
        opening.extend(directory.token().cloned().map(|token| Request::Admit { token }));
        // The first answer has the keys of all stations that the client may see.
        opening.extend(after);
        opening.push(Request::Watch);
        let wanted = *self.wanted.borrow_and_update();
        opening.extend(wanted.map(|station| Request::Tune { station }));
        send(&mut framed, &opening).await?;

        let mut greeted = false;
        let mut sent_at = Instant::now();
        let mut budget = Budget { spent_until: sent_at };
        let mut unanswered_since = Some(sent_at);
        let mut keys_at = sent_at;
        let keys_wanted = self.keys.clone();
        loop {
            while budget.pause(Instant::now()).is_none()
                && let Some(reply) = framed.take().map_err(|error| error.to_string())?
            {
                unanswered_since = None;
                budget.spend(Instant::now());
                self.handle(reply, &mut greeted, local)?;
            }
            let pause = budget.pause(Instant::now());
            let lost_at = unanswered_since.map(|since| since + ANSWER);
            let request = tokio::select! {
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    match *self.wanted.borrow_and_update() {
                        Some(station) => Request::Tune { station },
                        None => continue,
                    }
                }
                changed = self.guide.changed(), if greeted => {
                    let Some((from, until)) = *self.guide.borrow_and_update() else { continue };
                    if changed.is_err() || self.extras.guide == Extra::NotTold {
                        (self.events)(Event::NoGuide);
                        continue;
                    }
                    if self.extras.guide == Extra::Unasked {
                        self.extras.guide = Extra::Asked;
                    }
                    Request::Guide { from, until }
                }
                () = async {
                    sleep_until(keys_at).await;
                    keys_wanted.notified().await;
                }, if self.extras.keys == Extra::Told => {
                    keys_at = Instant::now() + KEYS;
                    self.all_keys_asked = true;
                    Request::Keys
                }
                () = sleep_until(pause.unwrap_or(sent_at)), if pause.is_some() => continue,
                read = framed.fill(), if pause.is_none() => match read {
                    Ok(true) => continue,
                    Ok(false) => return Err("the directory closed the connection".to_owned()),
                    Err(error) => return Err(error.to_string()),
                },
                () = sleep_until(sent_at + PING) => Request::Ping,
                () = sleep_until(lost_at.unwrap_or(sent_at)), if lost_at.is_some() => {
                    return Err(format!("the directory has not answered for {} s", ANSWER.as_secs()));
                }
            };
            send(&mut framed, &[request]).await?;
            budget.asked(1);
            sent_at = Instant::now();
            unanswered_since.get_or_insert(sent_at);
        }
    }

    fn handle(&mut self, reply: Reply, greeted: &mut bool, local: SocketAddr) -> Result<(), String> {
        match reply {
            Reply::Hello { version, server } if !*greeted => {
                if version != VERSION {
                    return Err(format!(
                        "the directory speaks version {version} of its protocol, and this program version {VERSION}"
                    ));
                }
                debug!(%local, %server, "directory: connected");
                *greeted = true;
                self.extras.asked();
                self.now.clear();
                self.all_keys_asked = false;
                (self.events)(Event::Connected { local });
            }
            Reply::Error { code: ErrorCode::BadRequest, sentence } if self.extras.is_awaited() => {
                return Err(sentence);
            }
            Reply::Error { code, sentence } => (self.events)(Event::Refused { code, sentence }),
            _ if !*greeted => {
                return Err("it is not a stationcast directory: it did not begin with Hello".to_owned());
            }
            Reply::Hello { .. } => return Err("the directory said Hello twice".to_owned()),
            Reply::LineUp { stations, .. } => (self.events)(Event::LineUp(stations)),
            Reply::Tuned { entry, now } => {
                // The answer to a Tune before the last one would show the wrong picture for a moment.
                if *self.wanted.borrow() == Some(entry.id) {
                    (self.events)(Event::Tuned { entry, now });
                }
            }
            Reply::Sources(sources) => {
                self.extras.sources = Extra::Told;
                let sources = sources.into_iter().map(|source| (source.id, source.address));
                (self.events)(Event::Sources(sources.collect()));
            }
            Reply::Sound(sounds) => {
                self.extras.sound = Extra::Told;
                (self.events)(Event::Sound(sounds.into_iter().map(|sound| (sound.id, sound)).collect()));
            }
            Reply::Signers { at, stations } => {
                self.extras.signers = Extra::Told;
                let stations = stations.into_iter().map(|signer| (signer.id, signer));
                (self.events)(Event::Signers { at, stations: stations.collect() });
            }
            Reply::Now { at, stations } => {
                self.extras.now = Extra::Told;
                self.now.extend(stations.into_iter().map(|station| (station.id, station)));
                self.now.retain(|_, station| station.now.is_some() || station.next.is_some());
                (self.events)(Event::Now { at, stations: self.now.clone() });
            }
            Reply::Guide { at, stations } => {
                self.extras.guide = Extra::Told;
                let stations = stations.into_iter().map(|station| (station.id, station.films));
                (self.events)(Event::Guide { at, stations: stations.collect() });
            }
            Reply::SoundNow { station, packets } => {
                if *self.wanted.borrow() == Some(station) {
                    (self.events)(Event::SoundNow { station, packets });
                }
            }
            Reply::Keys(keys) => {
                let is_first = std::mem::replace(&mut self.extras.keys, Extra::Told) == Extra::Asked;
                // If keys have changed just now, this is not the answer, which comes next and makes up for the missing ones.
                let all = std::mem::take(&mut self.all_keys_asked) || is_first;
                (self.events)(Event::Keys { keys, all });
            }
            Reply::Pong | Reply::Services(_) | Reply::Admitted { .. } => {}
        }
        Ok(())
    }
}

/// Sends requests in one write.
async fn send(framed: &mut Framed<impl ByteStream, Reply>, requests: &[Request]) -> Result<(), String> {
    let mut bytes = Vec::new();
    for request in requests {
        bytes.extend(encode(request).map_err(|error| error.to_string())?);
    }
    match timeout(ANSWER, framed.send(&bytes)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the directory has stopped reading what we send".to_owned()),
    }
}

/// How much of a server's talk is listened to. When it is used up, the connection is not read for a while, and TCP holds
/// the server back.
#[derive(Debug)]
struct Budget {
    spent_until: Instant,
}

impl Budget {
    /// So many requests were sent: their replies are free.
    fn asked(&mut self, requests: u32) {
        self.spent_until = self.spent_until.checked_sub(COST * requests).unwrap_or(self.spent_until);
    }

    fn spend(&mut self, now: Instant) {
        self.spent_until = self.spent_until.max(now) + COST;
    }

    /// Until when nothing may be read; `None` if something may be now.
    fn pause(&self, now: Instant) -> Option<Instant> {
        Some(self.spent_until).filter(|&until| until > now + CREDIT)?.checked_sub(CREDIT)
    }
}

/// Time between attempts: doubles from 250 ms to 6.4 s, plus up to a quarter at random, so that a thousand viewers do
/// not all reconnect to a restarted server in the same instant.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Time until the next attempt. `jitter` is 0.0..1.0.
    fn next(&mut self, jitter: f64) -> Duration {
        let steady = Duration::from_millis(250 << self.failures.min(5)).min(Duration::from_millis(6400));
        self.failures = self.failures.saturating_add(1);
        steady.mul_f64(1.0 + jitter / 4.0)
    }
}

#[cfg(test)]
mod tests;
