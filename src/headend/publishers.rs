//! The publishers and their stations. Stations of `[publish]` are made here when their publishers come on air, and removed some
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

/// Most bytes a second of all publishers together: 1 Gbit/s.
const MOST_BYTES: usize = 125_000_000;

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
    /// The beginning of the current second, and the bytes that have come in it.
    second: Option<(Instant, usize)>,
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

/// The request of a publisher.
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
    /// Whether nobody has taken the publisher's place.
    fn is_current(&self, publisher: &Publisher) -> bool {
        self.current.get(&publisher.id).is_some_and(|current| current.number == publisher.number)
    }

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
        if let Some(kept) = state.numbers.get_mut(made_as) {
            kept.left = None;
        }
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

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "in virtual time")]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::lineup::{Lineup, World};

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    /// A head-end with a film as station 1, station 7, which is published to, and numbers 900 to 901.
    fn head_end(keys: &str) -> Arc<HeadEnd> {
        let world = World::for_tests();
        let text = format!(
            "[rtsp]\n[publish]\nids = \"900-901\"\ntoken = \"right-token\"\n\
             [[station]]\nid = 1\nname = \"Film\"\nmedia = \"a.mp4\"\ngroup = \"239.1.1.1:5004\"\n\
             [[station]]\nid = 7\nname = \"Camera 7\"\ngroup = \"239.1.1.7:5004\"\npublish = {{ {keys} }}\n"
        );
        let lineup = Lineup::parse(&text, Path::new("stations.toml"), &world).unwrap();
        let (mut head_end, _stop) = HeadEnd::for_tests(lineup.stations, None);
        Arc::get_mut(&mut head_end).unwrap().publishers = Publishers::new(lineup.publish);
        head_end
    }

    fn ask<'a>(name: &'a str, token: Option<&'a str>, peer: IpAddr) -> PublishRequest<'a> {
        PublishRequest { name, token, peer, now: Instant::now() }
    }

    fn with<'a>(name: &'a str) -> PublishRequest<'a> {
        ask(name, Some("right-token"), HERE)
    }

    fn refusal(head_end: &Arc<HeadEnd>, request: &PublishRequest<'_>) -> String {
        head_end.publisher(request).err().expect("a refusal").to_string()
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_has_one_publisher_unless_it_may_be_taken_over() {
        let head_end = head_end("token = \"right-token\"");
        let first = head_end.publisher(&with("camera-7")).unwrap();
        for same in ["camera-7", "Camera 7", "7", "CAMERA_7"] {
            let why = refusal(&head_end, &with(same));
            assert!(why.starts_with("192.0.2.7 publishes to /publish/"), "{same}: {why}");
        }
        drop(first);
        assert!(head_end.publisher(&with("7")).is_ok());

        let head_end = self::head_end("token = \"right-token\", takeover = true");
        let mut first = head_end.publisher(&with("7")).unwrap();
        first.go_on_air().expect("it is on air");
        let mut second = head_end.publisher(&with("7")).unwrap();
        tokio::time::timeout(Duration::from_secs(1), first.replaced()).await.expect("it is told");
        assert!(first.go_on_air().is_none(), "it does not come back");
        drop(first);
        assert!(second.go_on_air().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn names_that_nothing_is_published_to_are_refused_with_a_sentence() {
        let head_end = head_end("");
        for (name, why) in [
            ("Film", "station 1 has this name, and is not published to"),
            ("901", "the name of the station has no letters"),
            (&"x".repeat(64), "the name of the station has 64 characters"),
        ] {
            assert!(refusal(&head_end, &with(name)).contains(why), "{name}");
        }
        // Without a token of its own, station 7 is open to all.
        assert!(head_end.publisher(&ask("7", None, HERE)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_tokens_are_counted_by_address() {
        let head_end = head_end("");
        let wrong = |peer| head_end.publisher(&ask("anna", Some("wrong-token"), peer)).err().unwrap();
        for _ in 0..20 {
            // Each client asks without one first.
            assert_eq!(head_end.publisher(&ask("anna", None, HERE)).err(), Some(PublishRefusal::Token));
        }
        for _ in 0..MOST_WRONG {
            assert_eq!(wrong(HERE), PublishRefusal::Token);
        }
        assert!(wrong(HERE).to_string().starts_with("too many wrong tokens came from 192.0.2.7"));
        assert!(
            refusal(&head_end, &with("anna")).starts_with("too many wrong tokens"),
            "the right one neither"
        );
        assert!(head_end.publisher(&ask("anna", Some("right-token"), [192, 0, 2, 8].into())).is_ok());
        tokio::time::advance(WRONG_SPAN + Duration::from_secs(1)).await;
        assert!(head_end.publisher(&with("anna")).is_ok());
        // However many addresses there are, memory is bounded.
        for n in 0..2 * MOST_COUNTED as u32 {
            wrong(std::net::Ipv4Addr::from_bits(n).into());
        }
        assert!(head_end.publishers.lock().wrong.len() <= MOST_COUNTED);
    }

    #[tokio::test(start_paused = true)]
    async fn a_station_is_made_with_the_first_picture_and_keeps_its_number() {
        let head_end = head_end("");
        let mut anna = head_end.publisher(&with("Anna")).unwrap();
        assert!(head_end.station(StationId(900)).is_none(), "nothing has come yet");
        anna.go_on_air().unwrap();
        let station = head_end.station(StationId(900)).unwrap();
        assert_eq!(
            (station.spec().name.as_str(), station.spec().group.to_string()),
            ("Anna", "239.77.3.132:5004".into())
        );
        let mut bert = head_end.publisher(&with("Bert")).unwrap();
        bert.go_on_air().unwrap();
        assert!(refusal(&head_end, &with("Carla")).contains("all 2 numbers of [publish] are in use"));
        // One that comes back soon finds the same station.
        drop(anna);
        tokio::time::sleep(LINGER / 2).await;
        let mut anna = head_end.publisher(&with("anna")).unwrap();
        anna.go_on_air().unwrap();
        tokio::time::sleep(LINGER).await;
        assert!(Arc::ptr_eq(&station, &head_end.station(StationId(900)).unwrap()));
        // Later it has the same number.
        drop((anna, bert));
        tokio::time::sleep(LINGER * 2).await;
        assert!(head_end.station(StationId(900)).is_none() && head_end.station(StationId(901)).is_none());
        let mut bert = head_end.publisher(&with("Bert")).unwrap();
        bert.go_on_air().unwrap();
        assert!(head_end.station(StationId(901)).is_some());
        // A new name has the number of the one that has left.
        let mut carla = head_end.publisher(&with("Carla")).unwrap();
        carla.go_on_air().unwrap();
        assert_eq!(head_end.station(StationId(900)).unwrap().spec().name, "Carla");
    }

    #[tokio::test(start_paused = true)]
    async fn the_bytes_of_all_publishers_are_bounded() {
        let head_end = head_end("");
        let publishers = ["7", "Anna"].map(|name| head_end.publisher(&with(name)).unwrap());
        for publisher in &publishers {
            assert_eq!(publisher.count(MOST_BYTES / 2, Instant::now()), Ok(()));
        }
        let why = publishers[0].count(1, Instant::now()).unwrap_err();
        assert_eq!(why, "all publishers together send more than 125 MB a second");
        tokio::time::advance(Duration::from_millis(1001)).await;
        assert_eq!(publishers[0].count(1, Instant::now()), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn publishers_are_bounded_in_all_and_by_address() {
        let head_end = head_end("");
        let mut state = head_end.publishers.lock();
        for n in 0..MOST_PER_ADDRESS as u16 {
            let current = Current { number: 0, peer: HERE, replaced: watch::channel(false).0 };
            state.current.insert(StationId(n), current);
        }
        let full = state.check_room(HERE).unwrap_err().to_string();
        assert_eq!(full, "64 publishers come from 192.0.2.7 already; stop one first");
        assert_eq!(state.check_room([192, 0, 2, 8].into()), Ok(()));
        for n in 0..MOST_PUBLISHERS as u16 {
            let peer = std::net::Ipv4Addr::from_bits(n.into()).into();
            state
                .current
                .insert(StationId(n), Current { number: 0, peer, replaced: watch::channel(false).0 });
        }
        assert!(matches!(state.check_room(HERE), Err(PublishRefusal::Full(_))));
    }
}
