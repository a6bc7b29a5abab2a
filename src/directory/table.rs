//! The state of all stations, shared: stations write it, connections read it, and audiences are counted here.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::watch;

use super::answers::{Gate, Guides, KeysOf, Signers, Sounds};
use super::message::{
    MAX_INTERFACE, MAX_NAME, MAX_SENTENCE, OnAir, Services, SoundPacket, State, StationFilms, StationInfo,
    StationKeys, StationNow, StationSigner, StationSound, StationSource, plain_text,
};
use crate::media::{AirTime, StationId};

/// The state of all stations.
///
/// Every change of an entry raises the *revision* and wakes the connections that watch. A change of the audience does
/// neither: otherwise every zap would send the whole line-up to every viewer.
pub struct StationTable {
    stations: Mutex<BTreeMap<StationId, StationRow>>,
    revision: watch::Sender<u64>,
    services: Mutex<Services>,
    sounds: OnceLock<Box<dyn Sounds>>,
    gate: OnceLock<Box<dyn Gate>>,
    guides: OnceLock<Box<dyn Guides>>,
    keys: OnceLock<Box<dyn KeysOf>>,
    /// Rises with every change of a key.
    keys_revision: watch::Sender<u64>,
    signers: OnceLock<Box<dyn Signers>>,
    now: watch::Sender<Arc<AllNow>>,
}

/// The films on all stations at a moment.
#[derive(Debug, Default)]
pub struct AllNow {
    /// The moment.
    pub at: AirTime,
    /// Ascending by id.
    pub stations: Vec<StationNow>,
}

struct StationRow {
    /// Its `audience` is 0; `StationRow::audience` counts.
    entry: StationInfo,
    picture: Arc<dyn Fn() -> Option<OnAir> + Send + Sync>,
    audience: Arc<AtomicU32>,
    /// The address that it is sent from; `None` while there is none, or while it is not known.
    source: Option<IpAddr>,
}

impl StationRow {
    fn entry(&self) -> StationInfo {
        StationInfo { audience: self.audience.load(Ordering::Relaxed), ..self.entry.clone() }
    }
}

/// The table refuses an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("station {id} cannot be announced: {rule}")]
pub struct InvalidEntry {
    /// The station's number.
    pub id: StationId,
    /// The rule that the entry breaks.
    pub rule: &'static str,
}

impl StationTable {
    /// An empty table, revision 0.
    pub fn new() -> Arc<StationTable> {
        Arc::new(StationTable {
            stations: Mutex::default(),
            revision: watch::Sender::new(0),
            services: Mutex::default(),
            sounds: OnceLock::new(),
            gate: OnceLock::new(),
            guides: OnceLock::new(),
            keys: OnceLock::new(),
            keys_revision: watch::Sender::new(0),
            signers: OnceLock::new(),
            now: watch::Sender::default(),
        })
    }

    /// Sets where stations are served besides multicast.
    pub fn set_services(&self, services: Services) {
        *self.services.lock().unwrap_or_else(PoisonError::into_inner) = services;
    }

    /// Where stations are served besides multicast.
    pub fn services(&self) -> Services {
        *self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets who knows the stations' sound. Only the first call counts. Without one, no station has sound.
    pub fn set_sounds(&self, sounds: impl Sounds + 'static) {
        self.sounds.get_or_init(|| Box::new(sounds));
    }

    /// Sets who decides what a client may see. Only the first call counts. Without one, every station is open to all.
    pub fn set_gate(&self, gate: impl Gate + 'static) {
        self.gate.get_or_init(|| Box::new(gate));
    }

    /// The decision which stations a client may see, if not every station is open to all.
    pub(super) fn gate(&self) -> Option<&dyn Gate> {
        self.gate.get().map(|gate| &**gate)
    }

    /// Sets the source of the keys of encrypted stations. Only the first call counts. Before it, no station is encrypted.
    pub fn set_keys(&self, keys: impl KeysOf + 'static) {
        self.keys.get_or_init(|| Box::new(keys));
    }

    /// Has the connections tell the keys that have changed.
    pub fn tell_keys(&self) {
        self.keys_revision.send_modify(|revision| *revision += 1);
    }

    /// Receives whenever keys have changed.
    pub(super) fn keys_changes(&self) -> watch::Receiver<u64> {
        self.keys_revision.subscribe()
    }

    /// The keys of a station, and their version.
    pub(super) fn keys(&self, id: StationId) -> Option<(u64, StationKeys)> {
        self.keys.get()?.keys(id)
    }

    /// The numbers of all stations, ascending.
    pub(super) fn ids(&self) -> Vec<StationId> {
        self.lock().keys().copied().collect()
    }

    /// Sets who knows the stations' films. Only the first call counts. Without one, no film is known.
    pub fn set_guides(&self, guides: impl Guides + 'static) {
        self.guides.get_or_init(|| Box::new(guides));
    }

    /// Sets the source of the keys of signed stations. Only the first call counts. Before it, no station is signed.
    pub fn set_signers(&self, signers: impl Signers + 'static) {
        self.signers.get_or_init(|| Box::new(signers));
    }

    /// The present moment, and the keys that verify the pictures of the signed stations, ascending by id.
    pub(super) fn signers(&self) -> (AirTime, Vec<StationSigner>) {
        let Some(signers) = self.signers.get() else { return Default::default() };
        let ids: Vec<StationId> = self.lock().keys().copied().collect();
        (signers.now(), ids.into_iter().filter_map(|id| signers.signer(id)).collect())
    }

    /// The present moment, and the films of a span. Titles are cut to the limits.
    pub(super) fn films(&self, from: AirTime, until: AirTime) -> (AirTime, Vec<StationFilms>) {
        let Some(guides) = self.guides.get() else { return Default::default() };
        let (at, mut stations) = guides.films(from, until);
        let films = stations.iter_mut().flat_map(|station| &mut station.films);
        films.for_each(|film| film.title = plain_text(&film.title, MAX_NAME));
        (at, stations)
    }

    /// Says what is on the stations at a moment, once a second at most: clients are told of each change.
    ///
    /// # Errors
    /// The first [`InvalidEntry`] that clients would refuse. Nobody is told of it.
    pub fn set_now(&self, at: AirTime, mut stations: Vec<StationNow>) -> Result<(), InvalidEntry> {
        let mut refused = Ok(());
        stations.retain_mut(|station| {
            let titles = station.now.iter_mut().map(|film| &mut film.title).chain(&mut station.next);
            titles.for_each(|title| *title = plain_text(title, MAX_NAME));
            let checked = station.check().map_err(|rule| InvalidEntry { id: station.id, rule });
            let is_right = checked.is_ok();
            refused = refused.clone().and(checked);
            is_right
        });
        self.now.send_if_modified(|before| {
            let changed = before.stations != stations;
            // The moment is new each time, and nobody need know.
            *before = Arc::new(AllNow { at, stations });
            changed
        });
        refused
    }

    /// Receives what is on the stations, whenever that changes.
    pub(crate) fn now(&self) -> watch::Receiver<Arc<AllNow>> {
        self.now.subscribe()
    }

    /// How the stations' sound is sent, ascending by id; a station without sound is missing.
    pub fn sounds(&self) -> Vec<StationSound> {
        let Some(sounds) = self.sounds.get() else { return Vec::new() };
        self.ids().into_iter().filter_map(|id| sounds.sound(id)).collect()
    }

    /// The station's last packets of sound, ascending by due time; none if it has no sound.
    pub(super) fn sound_now(&self, id: StationId) -> Vec<SoundPacket> {
        self.sounds.get().map_or_else(Vec::new, |sounds| sounds.now(id))
    }

    /// Adds a station, or replaces it and keeps its audience. The table calls `picture` for each Tune, on a connection's
    /// task and without holding a lock; it must not block.
    ///
    /// Control characters in text become spaces. A name is cut to 252 bytes, an interface's name to 128, a slate's
    /// reason to 512. `entry.audience` is ignored.
    ///
    /// # Errors
    /// [`InvalidEntry`] if clients would refuse the entry: its number is outside 1..=999, its group is not a multicast
    /// address or has port 0, a side of its size is 0, or its quality is outside 1..=99. The table is then unchanged.
    pub fn enter(
        &self,
        entry: StationInfo,
        picture: impl Fn() -> Option<OnAir> + Send + Sync + 'static,
    ) -> Result<(), InvalidEntry> {
        let entry = normalized(entry)?;
        let mut stations = self.lock();
        let old = stations.get(&entry.id);
        let audience = old.map(|old| Arc::clone(&old.audience)).unwrap_or_default();
        let source = old.and_then(|old| old.source);
        stations.insert(entry.id, StationRow { entry, picture: Arc::new(picture), audience, source });
        self.bump();
        Ok(())
    }

    /// Removes a station, if there is one of that number. Clients that are tuned to it are told that there is none.
    pub fn remove(&self, id: StationId) {
        let mut stations = self.lock();
        if stations.remove(&id).is_some() {
            self.bump();
        }
    }

    /// Changes a station's entry; its id and audience stay. `change` runs with the table locked, so it must not use the
    /// table. Returns whether the entry has changed. If it has not, or if there is no such station, nobody is woken.
    ///
    /// # Errors
    /// [`InvalidEntry`] as in [`enter`](Self::enter). The entry is then unchanged.
    pub fn update(&self, id: StationId, change: impl FnOnce(&mut StationInfo)) -> Result<bool, InvalidEntry> {
        let mut stations = self.lock();
        let Some(station) = stations.get_mut(&id) else { return Ok(false) };
        let mut entry = station.entry.clone();
        change(&mut entry);
        let entry = normalized(StationInfo { id, ..entry })?;
        if entry == station.entry {
            return Ok(false);
        }
        station.entry = entry;
        self.bump();
        Ok(true)
    }

    /// Says from which address a station is sent, `None` if from none. A change wakes those who watch, as a change of the
    /// entry does. An address that no packet can come from is not told.
    pub fn set_source(&self, id: StationId, source: Option<IpAddr>) {
        let source = source.filter(|source| !source.is_multicast() && !source.is_unspecified());
        let mut stations = self.lock();
        let Some(station) = stations.get_mut(&id) else { return };
        if std::mem::replace(&mut station.source, source) != source {
            self.bump();
        }
    }

    /// The addresses that the stations are sent from, ascending by id.
    pub fn sources(&self) -> Vec<StationSource> {
        let stations = self.lock();
        let sources = stations.iter().filter_map(|(&id, station)| Some((id, station.source?)));
        sources.map(|(id, address)| StationSource { id, address }).collect()
    }

    /// Connections tuned to a station now; 0 if the table has no such station.
    pub fn audience(&self, id: StationId) -> u32 {
        self.lock().get(&id).map_or(0, |station| station.audience.load(Ordering::Relaxed))
    }

    /// The revision, and all stations as they are now, ascending by id.
    pub fn line_up(&self) -> (u64, Vec<StationInfo>) {
        let stations = self.lock();
        let entries = stations.values().map(StationRow::entry).collect();
        (*self.revision.borrow(), entries)
    }

    /// A station as it is now; `None` if the table has no such station.
    pub fn entry(&self, id: StationId) -> Option<StationInfo> {
        self.lock().get(&id).map(StationRow::entry)
    }

    /// Receives the revision whenever it rises.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Counts one more viewer in a station's audience until the result is dropped; `None` if the table has no such
    /// station.
    pub fn join_audience(&self, id: StationId) -> Option<AudienceMember> {
        let audience = Arc::clone(&self.lock().get(&id)?.audience);
        audience.fetch_add(1, Ordering::Relaxed);
        Some(AudienceMember { station: id, audience })
    }

    /// A station as it is now, and its picture on air; `None` if the table has no such station.
    pub(super) fn on_air(&self, id: StationId) -> Option<(StationInfo, Option<OnAir>)> {
        let (entry, picture) = {
            let stations = self.lock();
            let station = stations.get(&id)?;
            (station.entry(), Arc::clone(&station.picture))
        };
        Some((entry, picture()))
    }

    // The caller holds the lock, so that a line-up and its revision belong together.
    fn bump(&self) {
        self.revision.send_modify(|revision| *revision += 1);
    }

    // A `change` that panics has modified its own copy only, so a poisoned table is consistent.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<StationId, StationRow>> {
        self.stations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for StationTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (revision, stations) = self.line_up();
        f.debug_struct("StationTable").field("revision", &revision).field("stations", &stations).finish()
    }
}

/// One viewer in a station's audience. Dropping it leaves the audience.
#[derive(Debug)]
pub struct AudienceMember {
    pub(super) station: StationId,
    audience: Arc<AtomicU32>,
}

impl Drop for AudienceMember {
    fn drop(&mut self) {
        self.audience.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `entry` with its text cut to the limits and an audience of 0, if it then keeps the rules of the protocol.
fn normalized(mut entry: StationInfo) -> Result<StationInfo, InvalidEntry> {
    entry.audience = 0;
    entry.name = plain_text(&entry.name, MAX_NAME);
    entry.interface = plain_text(&entry.interface, MAX_INTERFACE);
    if let State::Slate { reason } = &mut entry.state {
        *reason = plain_text(reason, MAX_SENTENCE);
    }
    entry.check().map_err(|rule| InvalidEntry { id: entry.id, rule })?;
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::message::{MAX_STATIONS, Reply};
    use crate::directory::serialization::encode;
    use crate::media::{FrameRate, Size};

    fn entry(id: u16) -> StationInfo {
        StationInfo::starting(
            StationId(id),
            &format!("Station {id}"),
            ([239, 77, 0, 1], 5000 + id).into(),
            "lo",
            80,
        )
    }

    fn ids(table: &StationTable) -> Vec<u16> {
        table.line_up().1.iter().map(|entry| entry.id.0).collect()
    }

    #[test]
    fn a_change_raises_the_revision_and_an_update_without_a_change_does_not() {
        let table = StationTable::new();
        let mut changes = table.changes();
        for id in [7, 2, 5] {
            table.enter(entry(id), || None).unwrap();
        }
        assert_eq!((table.line_up().0, ids(&table)), (3, vec![2, 5, 7]));
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();

        assert_eq!(table.update(StationId(5), |entry| entry.state = State::Film), Ok(true));
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        assert_eq!(table.update(StationId(5), |entry| entry.state = State::Film), Ok(false));
        assert_eq!(table.update(StationId(6), |entry| entry.state = State::Film), Ok(false));
        assert_eq!(table.update(StationId(5), |entry| entry.audience = 9), Ok(false));
        assert!(!changes.has_changed().unwrap());
        assert_eq!(table.line_up().0, 4);
    }

    #[test]
    fn an_entry_that_clients_would_refuse_never_gets_into_the_table() {
        let table = StationTable::new();
        table.enter(entry(1), || None).unwrap();
        let refused = |change: fn(&mut StationInfo)| {
            let mut wrong = entry(1);
            change(&mut wrong);
            assert!(table.enter(wrong, || None).is_err());
        };
        refused(|entry| entry.id = StationId(0));
        refused(|entry| entry.id = StationId(1000));
        refused(|entry| entry.group = "10.0.0.1:5004".parse().unwrap());
        refused(|entry| entry.group.set_port(0));
        refused(|entry| entry.size = Some(Size { width: 640, height: 0 }));
        let error = table.update(StationId(1), |entry| entry.group.set_port(0)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "station 1 cannot be announced: a station's group is a multicast address with a port"
        );
        assert_eq!(table.line_up(), (1, vec![entry(1)]));

        // The id stays, and text is cut to the limits.
        let changed = table.update(StationId(1), |entry| {
            entry.id = StationId(2);
            entry.name = "ä".repeat(200) + "\n";
            entry.state = State::Slate { reason: "no film\n\x1b[2J".into() };
        });
        assert_eq!(changed, Ok(true));
        let now = &table.line_up().1[0];
        assert_eq!((now.id, now.name.clone()), (StationId(1), "ä".repeat(126)));
        assert_eq!(now.state, State::Slate { reason: "no film  [2J".into() });
    }

    #[test]
    fn the_longest_name_that_a_line_up_allows_is_not_cut() {
        let table = StationTable::new();
        let name = "\u{20bb7}".repeat(63); // four bytes each
        table.enter(StationInfo { name: name.clone(), ..entry(1) }, || None).unwrap();
        assert_eq!(table.line_up().1[0].name, name);
    }

    #[test]
    fn an_audience_member_counts_until_it_is_dropped() {
        let table = StationTable::new();
        table.enter(entry(3), || None).unwrap();
        let revision = table.line_up().0;
        let first = table.join_audience(StationId(3)).unwrap();
        let second = table.join_audience(StationId(3)).unwrap();
        assert_eq!(table.audience(StationId(3)), 2);
        drop(first);
        table.enter(entry(3), || None).unwrap(); // the audience stays
        assert_eq!(table.line_up().1[0].audience, 1);
        drop(second);
        assert_eq!(table.audience(StationId(3)), 0);
        assert!(table.join_audience(StationId(4)).is_none());
        assert_eq!(table.line_up().0, revision + 1, "only the second enter is a change");
    }

    #[test]
    fn the_picture_is_fetched_without_holding_the_lock() {
        let table = StationTable::new();
        let again = Arc::downgrade(&table);
        let picture = move || {
            let table = again.upgrade()?;
            table.update(StationId(1), |entry| entry.state = State::Film).ok()?; // would deadlock
            None
        };
        table.enter(entry(1), picture).unwrap();
        assert!(table.on_air(StationId(1)).is_some());
        assert_eq!(table.line_up().1[0].state, State::Film);
    }

    #[test]
    fn the_longest_line_up_fits_a_reply() {
        let table = StationTable::new();
        for id in 1..=MAX_STATIONS as u16 {
            let mut longest = entry(id);
            longest.name = "n".repeat(10_000);
            longest.interface = "i".repeat(10_000);
            longest.group = "[ff3e::1]:65535".parse().unwrap();
            longest.size = Some(Size { width: u16::MAX, height: u16::MAX });
            longest.rate = FrameRate::new(u32::MAX, u32::MAX);
            longest.state = State::Slate { reason: "r".repeat(10_000) };
            table.enter(longest, || None).unwrap();
        }
        let (revision, mut stations) = table.line_up();
        stations.iter_mut().for_each(|entry| entry.audience = u32::MAX);
        encode(&Reply::LineUp { revision, stations }).expect("it fits");
    }
}
