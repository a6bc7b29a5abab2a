//! Who publishes, and to which station. Stations of `[publish]` are made here when their publishers come on air, and removed some
//! time after these have left.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::{HeadEnd, StationHandle};
use crate::content::live::arrivals::ArrivalSender;
use crate::limits::network;
use crate::lineup::{PublishRule, PublishSpec, name_fault, publish_name};
use crate::media::StationId;

/// Most publishers at one time, in all and from one address.
const MOST_PUBLISHERS: usize = 256;
const MOST_PER_ADDRESS: usize = 64;

/// After so many wrong tokens within [`WRONG_SPAN`], an address is refused until that is over.
const MOST_WRONG: u32 = 10;
const WRONG_SPAN: Duration = Duration::from_secs(60);

/// Most addresses whose wrong tokens are counted.
const MOST_COUNTED: usize = 4096;

/// A station that was made by publishing stays so long after its publisher has left: players that receive it go on when the
/// publisher comes back.
const LINGER: Duration = Duration::from_secs(10);

/// The number of a station that was made by publishing is kept so long for its name.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// All publishers of a broadcaster.
#[derive(Debug, Default)]
pub(crate) struct Publishers {
    /// The stations that are made by publishing; `None`: none are.
    spec: Option<PublishSpec>,
    state: Mutex<PublishersState>,
}

#[derive(Debug, Default)]
struct PublishersState {
    /// The publisher of each station that has one.
    current: HashMap<StationId, Current>,
    /// Number of publishers so far.
    count: u64,
    /// The numbers of the stations that were made by publishing, by the names in their URLs.
    numbers: HashMap<String, KeptNumber>,
    wrong: HashMap<IpAddr, Wrong>,
}

/// A publisher that has a station.
#[derive(Debug)]
struct Current {
    number: u64,
    peer: IpAddr,
    /// Turns true once, when another takes its place.
    replaced: watch::Sender<bool>,
}

#[derive(Debug)]
struct KeptNumber {
    id: StationId,
    /// When its last publisher left; `None` while there is one.
    left: Option<Instant>,
}

/// The wrong tokens of an address.
#[derive(Debug)]
struct Wrong {
    count: u32,
    since: Instant,
}

/// Why somebody may not publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PublishRefusal {
    /// Nothing can be published under this name.
    NoPlace(String),
    /// The token is missing or wrong.
    Token,
    /// For a reason that the client can do something about.
    Forbidden(String),
    /// There are too many publishers.
    Full(String),
}

impl fmt::Display for PublishRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PublishRefusal::Token => f.write_str("the token is missing or wrong"),
            PublishRefusal::NoPlace(why) | PublishRefusal::Forbidden(why) | PublishRefusal::Full(why) => {
                f.write_str(why)
            }
        }
    }
}

/// What a publisher asks for.
pub(crate) struct PublishRequest<'a> {
    /// The name in the URL, decoded.
    pub(crate) name: &'a str,
    pub(crate) token: Option<&'a str>,
    pub(crate) peer: IpAddr,
    pub(crate) now: Instant,
}

/// The station that a name in a URL means.
struct Place {
    id: StationId,
    /// `None`: it is made by publishing.
    handle: Option<Arc<StationHandle>>,
}

impl Publishers {
    /// Those of a line-up that makes stations of `spec`.
    pub(crate) fn new(spec: Option<PublishSpec>) -> Publishers {
        Publishers { spec, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, PublishersState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeadEnd {
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
        let mut state = self.publishers.lock();
        state.refuse_after_wrong(request)?;
        let Some(rule) = rule else {
            return Err(PublishRefusal::NoPlace(format!(
                "nothing is published to /publish/{own_name} here; give a station of the line-up the key `publish`, or add a section [publish]"
            )));
        };
        state.check_token(&rule, request)?;
        let place = match place {
            Some(handle) => Place { id: handle.spec().id, handle: Some(handle) },
            None => {
                let spec = self.publishers.spec.as_ref().ok_or(PublishRefusal::Token)?;
                if let Some(fault) = name_fault(request.name) {
                    return Err(PublishRefusal::Forbidden(format!("the name of the station {fault}")));
                }
                if own_name.is_empty() {
                    let why = "the name of the station has neither letters nor digits; choose another";
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
        } else {
            state.check_room(request.peer)?;
        }
        state.count += 1;
        let (replaced, to_be_replaced) = watch::channel(false);
        let current = Current { number: state.count, peer: request.peer, replaced };
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

    /// Removes a station that was made by publishing if nobody has come back to it since `left`.
    fn remove_left(&self, name: &str, left: Instant) {
        let state = self.publishers.lock();
        let Some(kept) = state.numbers.get(name).filter(|kept| kept.left == Some(left)) else { return };
        if state.current.contains_key(&kept.id) {
            return;
        }
        let id = kept.id;
        self.change_stations(|handles| drop(handles.remove(&id)));
    }
}

impl PublishersState {
    fn refuse_after_wrong(&mut self, request: &PublishRequest<'_>) -> Result<(), PublishRefusal> {
        let from = network(request.peer);
        let is_over = |wrong: &Wrong| request.now - wrong.since > WRONG_SPAN;
        if self.wrong.get(&from).is_some_and(is_over) {
            self.wrong.remove(&from);
        }
        match self.wrong.get(&from) {
            Some(wrong) if wrong.count >= MOST_WRONG => Err(PublishRefusal::Forbidden(format!(
                "too many wrong tokens came from {from}; try again in {} s",
                WRONG_SPAN.as_secs()
            ))),
            _ => Ok(()),
        }
    }

    fn check_token(
        &mut self,
        rule: &PublishRule,
        request: &PublishRequest<'_>,
    ) -> Result<(), PublishRefusal> {
        let Some(token) = &rule.token else { return Ok(()) };
        // Clients ask without one first.
        let Some(offered) = request.token else { return Err(PublishRefusal::Token) };
        if token.admits(offered) {
            return Ok(());
        }
        if self.wrong.len() >= MOST_COUNTED {
            self.wrong.retain(|_, wrong| request.now - wrong.since <= WRONG_SPAN);
        }
        let from = network(request.peer);
        if self.wrong.len() >= MOST_COUNTED && !self.wrong.contains_key(&from) {
            // An attack from many addresses: the oldest is forgotten.
            let oldest = self.wrong.iter().min_by_key(|(_, wrong)| wrong.since).map(|(from, _)| *from);
            oldest.and_then(|from| self.wrong.remove(&from));
        }
        let wrong = self.wrong.entry(from).or_insert(Wrong { count: 0, since: request.now });
        wrong.count += 1;
        if wrong.count == MOST_WRONG {
            warn!("publish: {from} has sent {MOST_WRONG} wrong tokens, and is refused for a minute");
        }
        Err(PublishRefusal::Token)
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

    /// The number of a station that is made by publishing: the one that its name had, or else the lowest that no name has, or
    /// else the one whose publisher has left the longest ago.
    fn number(&mut self, name: &str, spec: &PublishSpec, now: Instant) -> Result<StationId, PublishRefusal> {
        self.numbers.retain(|_, kept| kept.left.is_none_or(|left| now - left < KEPT));
        if let Some(kept) = self.numbers.get_mut(name) {
            return Ok(kept.id);
        }
        let is_free = |id: &StationId| !self.numbers.values().any(|kept| kept.id == *id);
        let free = spec.ids.clone().map(StationId).find(is_free);
        let id = match free {
            Some(id) => id,
            None => {
                let left = |(name, kept): (&String, &KeptNumber)| Some((kept.left?, name.clone(), kept.id));
                let unused = self.numbers.iter().filter(|(_, kept)| !self.current.contains_key(&kept.id));
                let Some((_, oldest, id)) = unused.filter_map(left).min() else {
                    let why = format!("all {} numbers of [publish] are in use", spec.most());
                    return Err(PublishRefusal::Full(why));
                };
                self.numbers.remove(&oldest);
                id
            }
        };
        self.numbers.insert(name.to_owned(), KeptNumber { id, left: Some(now) });
        Ok(id)
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
    /// Waits until another takes its place. Cancel-safe.
    pub(crate) async fn replaced(&mut self) {
        // The sender is dropped when another has taken the place.
        let _ = self.replaced.wait_for(|&replaced| replaced).await;
    }

    /// To its station, once it is on air.
    pub(crate) fn sender(&mut self) -> Option<&mut ArrivalSender> {
        self.on_air.as_mut()
    }

    /// Puts it on air, with its first picture. `None` if its station is gone.
    pub(crate) fn go_on_air(&mut self) -> Option<&mut ArrivalSender> {
        let handle = match &self.made_as {
            Some(made_as) => self.make_station(&made_as.clone())?,
            None => self.head_end.station(self.id)?,
        };
        let who = match &self.made_as {
            Some(_) => self.name.clone(),
            None => self.peer.to_string(),
        };
        let sender = handle.publish_slot().begin(who, self.head_end.clock.clone());
        match self.made_as {
            Some(_) => info!("{} ({}) is on air as {}", self.name, self.peer, self.id),
            None => info!("{} is on air as {} \"{}\"", self.peer, self.id, handle.spec().name),
        }
        Some(self.on_air.insert(sender))
    }

    /// The station, which may still be there from the last time.
    fn make_station(&self, made_as: &str) -> Option<Arc<StationHandle>> {
        let mut state = self.head_end.publishers.lock();
        if state.current.get(&self.id).is_none_or(|current| current.number != self.number) {
            return None;
        }
        if let Some(kept) = state.numbers.get_mut(made_as) {
            kept.left = None;
        }
        let spec = self.head_end.publishers.spec.as_ref()?.station(self.id, &self.name);
        if let Some(handle) = self.head_end.station(self.id)
            && publish_name(&handle.spec().name) == made_as
        {
            return Some(handle);
        }
        let handle = Arc::new(StationHandle::new(spec));
        self.head_end.change_stations(|handles| drop(handles.insert(self.id, handle.clone())));
        Some(handle)
    }
}

impl Drop for Publisher {
    #[expect(clippy::disallowed_methods, reason = "a shell: a publisher leaves now")]
    fn drop(&mut self) {
        let was_on_air = self.on_air.take().is_some();
        let mut state = self.head_end.publishers.lock();
        // Not if another has taken its place.
        if state.current.get(&self.id).is_none_or(|current| current.number != self.number) {
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
        if let Some(kept) = state.numbers.get_mut(&name) {
            kept.left = Some(left);
        }
        let head_end = self.head_end.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                sleep(LINGER).await;
                head_end.remove_left(&name, left);
            });
        }
    }
}
