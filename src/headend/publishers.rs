//! The publishers and their stations. Stations of `[publish]` are made here when their publishers come on air, and removed some
//! time after these have left.

mod kept_numbers;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::{HeadEnd, StationHandle};
use crate::access::{Grant, Visitor};
use crate::clock::wall_clock;
use crate::content::live::arrivals::ArrivalSender;
use crate::limits::network;
use crate::lineup::{PublishRule, PublishSpec, name_fault, publish_name};
use crate::log::RateLimit;
use crate::media::StationId;
use kept_numbers::KeptNumbers;

/// Most publishers at one time, in all and from one address.
const MOST_PUBLISHERS: usize = 256;
const MOST_PER_ADDRESS: usize = 64;

/// Most bytes a second of all publishers together: 1 Gbit/s.
const MOST_BYTES: usize = 125_000_000;

/// A station that was made by publishing stays so long after its publisher has left: players that receive it go on when the
/// publisher comes back.
const LINGER: Duration = Duration::from_secs(10);

/// Most publishers of one address that have announced a made station and sent no picture yet: three quarters of the numbers, 8 at
/// least, and 48 at most. So other addresses find a number that is free.
fn most_waiting(spec: &PublishSpec) -> usize {
    (spec.most() * 3 / 4).clamp(8, 48)
}

/// All publishers of a broadcaster.
#[derive(Debug, Default)]
pub(crate) struct Publishers {
    /// The stations that are made by publishing; `None`: none are.
    spec: Option<PublishSpec>,
    state: Mutex<PublishersState>,
    /// The numbers of made stations are to be written.
    changed: Notify,
}

#[derive(Debug, Default)]
struct PublishersState {
    /// The publisher of each station that has one.
    current: HashMap<StationId, Current>,
    /// Number of publishers so far.
    count: u64,
    /// The numbers of the stations that were made by publishing, by the names in their URLs.
    numbers: KeptNumbers,
    /// Of refusals, one line a second.
    refused: RateLimit,
    /// The beginning of the current second, and the bytes that have come in it.
    second: Option<(Instant, usize)>,
}

/// A publisher that has a station.
#[derive(Debug)]
struct Current {
    number: u64,
    peer: IpAddr,
    /// Whether its station is made, and it has sent no picture yet.
    is_waiting: bool,
    /// Turns true once, when another takes its place.
    replaced: watch::Sender<bool>,
}

/// Why somebody may not publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PublishRefusal {
    /// Nothing can be published under this name.
    NoPlace(String),
    /// The token is missing or wrong.
    Token,
    /// None of the names that may publish was shown; one may be, or else a token if `or_token`.
    Name { or_token: bool },
    /// For a reason that the client can do something about.
    Forbidden(String),
    /// There are too many publishers.
    Full(String),
}

impl fmt::Display for PublishRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PublishRefusal::Token => f.write_str("the token is missing or wrong"),
            PublishRefusal::Name { .. } => {
                f.write_str("no token or password was shown that may publish here")
            }
            PublishRefusal::NoPlace(why) | PublishRefusal::Forbidden(why) | PublishRefusal::Full(why) => {
                f.write_str(why)
            }
        }
    }
}

/// The request of a publisher.
pub(crate) struct PublishRequest<'a> {
    /// The name in the URL, decoded.
    pub(crate) name: &'a str,
    pub(crate) token: Option<&'a str>,
    /// The grant of a token or a password of the access file, if the client has shown one.
    pub(crate) grant: &'a Grant,
    pub(crate) peer: IpAddr,
    /// Whether it comes by TLS.
    pub(crate) tls: bool,
    pub(crate) now: Instant,
}

/// The station that a name in a URL means.
struct Place {
    id: StationId,
    /// `None`: it is made by publishing.
    handle: Option<Arc<StationHandle>>,
}

impl Publishers {
    /// Those of a line-up that makes stations of `spec`, with the numbers that its file has. Blocks for a moment.
    #[expect(
        clippy::disallowed_methods,
        reason = "a shell: the file tells how long ago publishers have left"
    )]
    pub(crate) fn new(spec: Option<PublishSpec>) -> Publishers {
        let mut state = PublishersState::default();
        if let Some(spec) = &spec
            && let Some(path) = &spec.numbers
        {
            match KeptNumbers::read(path, spec, Instant::now(), wall_clock()) {
                Ok(numbers) => state.numbers = numbers,
                Err(why) => warn!(
                    "publish: the numbers that names had are forgotten, since {} cannot be read: {why}",
                    path.display()
                ),
            }
        }
        Publishers { spec, state: Mutex::new(state), changed: Notify::new() }
    }

    /// Writes the numbers of made stations, if they have changed. Blocks.
    #[expect(clippy::disallowed_methods, reason = "a shell: the file tells when publishers have left")]
    pub(crate) fn save_numbers(&self) {
        let Some(path) = self.spec.as_ref().and_then(|spec| spec.numbers.as_ref()) else { return };
        let changed = self.lock().numbers.take_changed(Instant::now(), wall_clock());
        if let Some(bytes) = changed
            && let Err(why) = kept_numbers::write(path, &bytes)
        {
            warn!("publish: {why}");
        }
    }

    /// Counts a refusal. If it is to be logged, returns how many came since the last one that was, this one included.
    pub(crate) fn note_refusal(&self, now: Instant) -> Option<u64> {
        self.lock().refused.note(now)
    }

    fn lock(&self) -> MutexGuard<'_, PublishersState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeadEnd {
    /// Keeps the file of the numbers of made stations current, until the broadcaster stops. Each write is of what holds by then.
    pub(crate) async fn keep_publishers_numbers(self: Arc<HeadEnd>) {
        loop {
            tokio::select! {
                biased;
                () = self.stopping() => return,
                () = self.publishers.changed.notified() => {
                    let head_end = self.clone();
                    let _ = tokio::task::spawn_blocking(move || head_end.publishers.save_numbers()).await;
                }
            }
        }
    }

    /// Gives a publisher the station that it asks for.
    ///
    /// # Errors
    /// It may not publish there, or not now.
    pub(crate) fn publisher(
        self: &Arc<HeadEnd>,
        request: &PublishRequest<'_>,
    ) -> Result<Publisher, PublishRefusal> {
        let own_name = publish_name(request.name);
        let stations = self.stations();
        let listed = stations
            .values()
            .filter(|handle| !self.publishers.spec.as_ref().is_some_and(|spec| spec.has(handle.spec().id)));
        let number = request.name.parse().ok().map(StationId);
        let meant = |handle: &&Arc<StationHandle>| {
            let spec = handle.spec();
            spec.media.published().is_some()
                && (number == Some(spec.id) || publish_name(&spec.name) == own_name)
        };
        let place = listed.clone().find(meant).cloned();
        let rule = match (&place, &self.publishers.spec) {
            (Some(handle), _) => handle.spec().media.published().cloned(),
            (None, Some(spec)) => Some(spec.rule.clone()),
            (None, None) => None,
        };
        let Some(rule) = rule else {
            return Err(PublishRefusal::NoPlace(format!(
                "nothing is published to /publish/{own_name} here; give a station of the line-up the key `publish`, or add a section [publish]"
            )));
        };
        self.check_secret(&rule, request)?;
        let mut state = self.publishers.lock();
        let place = match place {
            Some(handle) => Place { id: handle.spec().id, handle: Some(handle) },
            None => {
                let spec = self.publishers.spec.as_ref().ok_or(PublishRefusal::Token)?;
                if let Some(fault) = name_fault(request.name) {
                    return Err(PublishRefusal::Forbidden(format!("the name of the station {fault}")));
                }
                if !own_name.contains(char::is_alphabetic) {
                    let why = "the name of the station has no letters; choose another";
                    return Err(PublishRefusal::Forbidden(why.into()));
                }
                if let Some(other) =
                    listed.clone().find(|handle| publish_name(&handle.spec().name) == own_name)
                {
                    return Err(PublishRefusal::Forbidden(format!(
                        "station {} has this name, and is not published to; choose another name",
                        other.spec().id
                    )));
                }
                state.check_waiting(request.peer, most_waiting(spec))?;
                Place { id: state.number(&own_name, spec, request.now)?, handle: None }
            }
        };
        if let Some(current) = state.current.get(&place.id) {
            if !rule.takeover {
                let why = format!(
                    "{} publishes to /publish/{own_name} already; stop that first, or choose another name",
                    current.peer
                );
                return Err(PublishRefusal::Forbidden(why));
            }
            current.replaced.send_replace(true);
        } else if let Err(full) = state.check_room(request.peer) {
            if place.handle.is_none() {
                state.numbers.forget(&own_name);
            }
            return Err(full);
        }
        state.count += 1;
        let (replaced, to_be_replaced) = watch::channel(false);
        let is_waiting = place.handle.is_none();
        let current = Current { number: state.count, peer: request.peer, is_waiting, replaced };
        state.current.insert(place.id, current);
        Ok(Publisher {
            head_end: self.clone(),
            id: place.id,
            number: state.count,
            name: request.name.to_owned(),
            made_as: place.handle.is_none().then_some(own_name),
            peer: request.peer,
            replaced: to_be_replaced,
            on_air: None,
        })
    }

    /// Whether somebody may publish by this rule: by its token, or by a name of the access file. A wrong token counts as one of the
    /// address's attempts at any secret, unless it may be the secret of a name, which is counted when that is looked for.
    fn check_secret(&self, rule: &PublishRule, request: &PublishRequest<'_>) -> Result<(), PublishRefusal> {
        let is_let_in = !rule.access.is_empty() && request.grant.allows(&rule.access);
        if is_let_in || rule.token.is_none() && rule.access.is_empty() {
            return Ok(());
        }
        let refusal = if rule.access.is_empty() {
            PublishRefusal::Token
        } else {
            PublishRefusal::Name { or_token: rule.token.is_some() }
        };
        // Clients ask without one first.
        let (Some(token), Some(offered)) = (&rule.token, request.token) else { return Err(refusal) };
        let visitor = Visitor { address: request.peer, tls: request.tls, service: "publish" };
        self.gatekeeper
            .begin_attempt(request.now, visitor)
            .map_err(|denied| PublishRefusal::Forbidden(denied.to_string()))?;
        let is_right = token.admits(offered);
        // Where a name's secret is not taken, nobody else counts it.
        if is_right || refusal != PublishRefusal::Token && visitor.is_private() {
            self.gatekeeper.was_right(visitor);
        }
        if is_right { Ok(()) } else { Err(refusal) }
    }

    /// Removes a station that was made by publishing if nobody has come back to it since `left`.
    fn remove_left(&self, name: &str, left: Instant) {
        let state = self.publishers.lock();
        let Some((id, _)) = state.numbers.of(name).filter(|(_, since)| *since == Some(left)) else { return };
        if state.current.contains_key(&id) {
            return;
        }
        self.change_stations(|handles| drop(handles.remove(&id)));
    }
}

impl PublishersState {
    /// Whether nobody has taken the publisher's place.
    fn is_current(&self, publisher: &Publisher) -> bool {
        self.current.get(&publisher.id).is_some_and(|current| current.number == publisher.number)
    }

    fn check_room(&self, peer: IpAddr) -> Result<(), PublishRefusal> {
        if self.current.len() >= MOST_PUBLISHERS {
            let why = format!("there are {MOST_PUBLISHERS} publishers already, and no room for more");
            return Err(PublishRefusal::Full(why));
        }
        let from = network(peer);
        let here = self.current.values().filter(|current| network(current.peer) == from).count();
        if here >= MOST_PER_ADDRESS {
            return Err(PublishRefusal::Full(format!(
                "{here} publishers come from {from} already; stop one first"
            )));
        }
        Ok(())
    }

    /// # Errors
    /// Too many publishers of this address have announced a made station, and are not on air.
    fn check_waiting(&self, peer: IpAddr, most: usize) -> Result<(), PublishRefusal> {
        let from = network(peer);
        let waiting = |current: &&Current| current.is_waiting && network(current.peer) == from;
        let here = self.current.values().filter(waiting).count();
        if here < most {
            return Ok(());
        }
        Err(PublishRefusal::Full(format!(
            "{here} publishers of {from} have announced a station and sent no picture yet; wait for them, 10 s at most"
        )))
    }

    /// The number of a station that is made by publishing.
    fn number(&mut self, name: &str, spec: &PublishSpec, now: Instant) -> Result<StationId, PublishRefusal> {
        let current = &self.current;
        self.numbers.number(name, spec, now, |id| current.contains_key(&id))
    }
}

/// A publisher, which has a station for as long as this lives.
pub(crate) struct Publisher {
    head_end: Arc<HeadEnd>,
    id: StationId,
    /// Numbers publishers.
    number: u64,
    /// The name in its URL, decoded.
    name: String,
    /// The name by which its station keeps its number, if that is made by publishing.
    made_as: Option<String>,
    peer: IpAddr,
    replaced: watch::Receiver<bool>,
    /// `None` before its first picture.
    on_air: Option<ArrivalSender>,
}

impl Publisher {
    /// The number of its station.
    pub(crate) fn station(&self) -> StationId {
        self.id
    }

    /// Waits until another takes its place. Cancel-safe.
    pub(crate) async fn replaced(&mut self) {
        // The sender is dropped when another has taken the place.
        let _ = self.replaced.wait_for(|&replaced| replaced).await;
    }

    /// Counts bytes that have come.
    ///
    /// # Errors
    /// All publishers together send too many.
    pub(crate) fn count(&self, bytes: usize, now: Instant) -> Result<(), String> {
        let mut state = self.head_end.publishers.lock();
        let current = state.second.filter(|(began, _)| now - *began <= Duration::from_secs(1));
        let (began, before) = current.unwrap_or((now, 0));
        state.second = Some((began, before + bytes));
        if before + bytes <= MOST_BYTES {
            return Ok(());
        }
        Err(format!("all publishers together send more than {} MB a second", MOST_BYTES / 1_000_000))
    }

    /// To its station, once it is on air.
    pub(crate) fn sender(&mut self) -> Option<&mut ArrivalSender> {
        self.on_air.as_mut()
    }

    /// Puts it on air, with its first picture. `None` if its station is gone, or another has taken its place.
    pub(crate) fn go_on_air(&mut self) -> Option<&mut ArrivalSender> {
        let clock = self.head_end.clock.clone();
        let sender = match self.made_as.clone() {
            None => {
                let state = self.head_end.publishers.lock();
                let handle = self.head_end.station(self.id).filter(|_| state.is_current(self))?;
                info!("{} is on air as {} \"{}\"", self.peer, self.id, handle.spec().name);
                handle.publish_slot().begin(self.peer.to_string(), clock)
            }
            Some(made_as) => {
                let (handle, is_new) = self.made_station(&made_as)?;
                // Before the station is there, so that it begins with the publisher and not with a slate.
                let sender = handle.publish_slot().begin(self.name.clone(), clock);
                info!("{} ({}) is on air as {}", self.name, self.peer, self.id);
                if is_new {
                    self.head_end.change_stations(|handles| drop(handles.insert(self.id, handle)));
                }
                sender
            }
        };
        Some(self.on_air.insert(sender))
    }

    /// The station that is made by publishing, and whether it is new: it may still be there from the last time.
    fn made_station(&self, made_as: &str) -> Option<(Arc<StationHandle>, bool)> {
        let mut state = self.head_end.publishers.lock();
        if !state.is_current(self) {
            return None;
        }
        state.numbers.on_air(made_as);
        if let Some(current) = state.current.get_mut(&self.id) {
            current.is_waiting = false;
        }
        self.head_end.publishers.changed.notify_one();
        let known = self.head_end.station(self.id);
        if let Some(handle) = known.filter(|handle| publish_name(&handle.spec().name) == made_as) {
            return Some((handle, false));
        }
        let spec = self.head_end.publishers.spec.as_ref()?.station(self.id, &self.name);
        Some((Arc::new(StationHandle::new(spec)), true))
    }
}

impl Drop for Publisher {
    #[expect(clippy::disallowed_methods, reason = "a shell: a publisher leaves now")]
    fn drop(&mut self) {
        let was_on_air = self.on_air.take().is_some();
        let mut state = self.head_end.publishers.lock();
        // Not if another has taken its place.
        if !state.is_current(self) {
            return;
        }
        state.current.remove(&self.id);
        if was_on_air {
            match self.made_as {
                Some(_) => info!("{} has left", self.name),
                None => info!("{} has left {}", self.peer, self.id),
            }
        }
        let Some(name) = self.made_as.clone() else { return };
        let left = Instant::now();
        state.numbers.left(&name, left);
        self.head_end.publishers.changed.notify_one();
        let head_end = self.head_end.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                sleep(LINGER).await;
                head_end.remove_left(&name, left);
            });
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "in virtual time")]
mod tests;
