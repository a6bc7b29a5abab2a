//! The keys of encrypted stations: told by the directory, used by the receivers.
//!
//! [`Keyring`] is shared. Each receiver has an [`Opener`], which turns datagrams into packets of RTP; what follows it sees no
//! difference. A datagram that does not open changes nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::directory::{StationKeys, StreamKeys};
use crate::media::StationId;
use crate::wire::rtp::Header;
use crate::wire::srtp::{SessionKeys, SrtpError, index_near};

/// Number of datagrams in a row that fail to open before the directory is asked for the keys again. A station with one packet a picture
/// sends eight in a third of a second.
const STALE: u32 = 8;

/// Number of packets by which the told place of a stream may be ahead of the last packet that opened. If it is further ahead, the stream
/// was not received in between, and goes on from the told place. The limit is half the distance at which the roll-over counter can no
/// longer be found out (RFC 3711 section 3.3.1).
const JUMP: u64 = 1 << 14;

/// Size of the replay window, in packets: older packets are refused (RFC 3711 section 3.3.2 asks for 64 at least).
const WINDOW: u64 = 128;

/// The keys of all stations, as far as the directory has told them.
#[derive(Default)]
pub struct Keyring {
    stations: Mutex<BTreeMap<StationId, Arc<StationKeys>>>,
    /// Rises with each change.
    revision: AtomicU64,
    ask: Option<Box<dyn Fn() + Send + Sync>>,
    /// Whether it was called since the last change. A flood of forged datagrams asks once, not for each eight of them.
    asked: AtomicBool,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("stations", &self.stations).finish_non_exhaustive()
    }
}

impl Keyring {
    /// A ring without keys. It calls `ask` if the directory should be asked for all keys again, because datagrams do not open: the place of
    /// a station that nobody has received for minutes is too old, or it is no longer encrypted. It calls it once until keys come.
    pub fn new(ask: impl Fn() + Send + Sync + 'static) -> Keyring {
        Keyring { ask: Some(Box::new(ask)), ..Keyring::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<StationId, Arc<StationKeys>>> {
        self.stations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These stations have these keys from now on; the others stay as they are.
    pub fn learn(&self, keys: Vec<StationKeys>) {
        self.change(|stations| {
            stations.extend(keys.into_iter().map(|station| (station.id, Arc::new(station))))
        });
    }

    /// These are all stations that are encrypted.
    pub fn replace(&self, keys: Vec<StationKeys>) {
        let all = keys.into_iter().map(|station| (station.id, Arc::new(station))).collect();
        self.change(|stations| *stations = all);
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<StationId, Arc<StationKeys>>)) {
        change(&mut self.lock());
        self.revision.fetch_add(1, Release);
        self.asked.store(false, Release);
    }

    fn ask_again(&self) {
        if let Some(ask) = &self.ask
            && !self.asked.swap(true, AcqRel)
        {
            ask();
        }
    }
}

/// Turns the datagrams of one station into packets of RTP.
#[derive(Debug)]
pub struct Opener {
    ring: Arc<Keyring>,
    station: StationId,
    /// The revision of the ring that `streams` is of.
    revision: u64,
    /// `None`: the station is not encrypted.
    streams: Option<Vec<Stream>>,
    /// Datagrams since the last one that opened.
    unopened: u32,
}

/// Opens a datagram of one of these streams in place. Returns its length then.
fn open_with(streams: &mut [Stream], datagram: &mut [u8]) -> Result<usize, SrtpError> {
    let (header, _) = Header::parse_with_payload_start(datagram)?;
    let stream = streams.iter_mut().find(|stream| stream.told.ssrc == header.ssrc);
    stream.ok_or(SrtpError::Forged)?.open(header.sequence, datagram)
}

/// A stream, and how far it has come.
#[derive(Debug)]
struct Stream {
    told: StreamKeys,
    /// The session keys, and the index from which on each is used, ascending.
    keys: Vec<(u64, SessionKeys)>,
    /// The highest index of a packet that was opened; before the first, the one that the directory told.
    newest: u64,
    /// The packets that were opened of the last [`WINDOW`]: bit n is that of `newest` - n. Empty before the first.
    opened: u128,
}

impl Opener {
    /// Opens the datagrams of a station with the keys of `ring`.
    pub fn new(ring: Arc<Keyring>, station: StationId) -> Opener {
        Opener { ring, station, revision: u64::MAX, streams: None, unopened: 0 }
    }

    /// Whether packets that open can only be the station's, because it is encrypted and strangers do not have the key.
    pub fn is_encrypted(&mut self) -> bool {
        self.refresh();
        self.streams.is_some()
    }

    /// The packet of RTP in a datagram. If the station is not encrypted, that is the datagram.
    ///
    /// # Errors
    /// The datagram is a stranger's, a replay, or sealed with a key that the directory has not told yet.
    pub fn open<'d>(&mut self, datagram: &'d mut [u8]) -> Result<&'d [u8], SrtpError> {
        self.refresh();
        let Some(streams) = &mut self.streams else { return Ok(datagram) };
        match open_with(streams, datagram) {
            Ok(length) => {
                self.unopened = 0;
                Ok(&datagram[..length])
            }
            Err(error) => {
                self.unopened += 1;
                if self.unopened == STALE {
                    self.unopened = 0;
                    self.ring.ask_again();
                }
                Err(error)
            }
        }
    }

    /// Takes the keys as they are now. A stream that goes on keeps its place.
    fn refresh(&mut self) {
        let revision = self.ring.revision.load(Acquire);
        if revision == self.revision {
            return;
        }
        self.revision = revision;
        let Some(told) = self.ring.lock().get(&self.station).cloned() else {
            self.streams = None;
            return;
        };
        let mut before = self.streams.take().unwrap_or_default();
        let mut stream = |told: &StreamKeys| match before.iter().position(|one| one.told.ssrc == told.ssrc) {
            Some(at) => before.swap_remove(at).with(told),
            None => Stream::new(told),
        };
        self.streams = Some(told.streams.iter().map(&mut stream).collect());
    }
}

impl Stream {
    fn new(told: &StreamKeys) -> Stream {
        let keys = told.keys.iter().map(|key| (key.from, SessionKeys::new(told.profile, &key.master)));
        Stream { keys: keys.collect(), newest: told.index, opened: 0, told: told.clone() }
    }

    /// The same stream with the keys that were told later.
    fn with(self, told: &StreamKeys) -> Stream {
        if self.opened == 0 || told.index > self.newest + JUMP {
            return Stream::new(told);
        }
        if self.told.keys != told.keys || self.told.profile != told.profile {
            return Stream { newest: self.newest, opened: self.opened, ..Stream::new(told) };
        }
        self
    }

    /// Opens a packet in place. Returns its length then.
    fn open(&mut self, sequence: u16, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let index = index_near(self.newest, sequence);
        let behind = self.newest.saturating_sub(index);
        let is_known = self.opened != 0 && index <= self.newest;
        if is_known && (behind >= WINDOW || self.opened >> behind & 1 == 1) {
            return Err(SrtpError::Forged);
        }
        let key = self.keys.iter().rev().find(|(from, _)| *from <= index).or(self.keys.first());
        let length = key.ok_or(SrtpError::Forged)?.1.open(packet, index)?;
        if self.opened == 0 {
            (self.newest, self.opened) = (index, 1);
        } else if is_known {
            self.opened |= 1 << behind;
        } else {
            let ahead = index - self.newest;
            self.opened = if ahead < WINDOW { self.opened << ahead | 1 } else { 1 };
            self.newest = index;
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::KeyFrom;
    use crate::wire::srtp::{MasterKey, Profile};

    fn master(first: u8) -> MasterKey {
        MasterKey { key: [first; 16], salt: [7; 14] }
    }

    fn told(index: u64, keys: &[(u64, u8)]) -> StationKeys {
        let keys = keys.iter().map(|&(from, key)| KeyFrom { from, master: master(key) }).collect();
        let stream = StreamKeys { profile: Profile::Gcm, ssrc: 0xfeed, index, keys };
        StationKeys { id: StationId(2), streams: vec![stream] }
    }

    /// A packet of the station, sealed with `key`.
    fn sealed(index: u64, key: u8) -> Vec<u8> {
        let header =
            Header { marker: false, payload_type: 26, sequence: index as u16, timestamp: 7, ssrc: 0xfeed };
        let mut packet = vec![0; 12];
        header.emit(packet.first_chunk_mut().unwrap());
        packet.extend(index.to_be_bytes());
        SessionKeys::new(Profile::Gcm, &master(key)).seal(&mut packet, index).unwrap();
        packet
    }

    /// Opens a packet, and returns the index that is written in it.
    fn open(opener: &mut Opener, mut datagram: Vec<u8>) -> Result<u64, SrtpError> {
        let packet = opener.open(&mut datagram)?;
        Ok(u64::from_be_bytes(packet[12..].try_into().unwrap()))
    }

    #[test]
    fn a_late_joiner_learns_the_roll_over_counter_and_follows_it() {
        for begin in [5_u64, 65_530, (3 << 16) + 65_500, (65_536 << 16) + 17] {
            let ring = Arc::new(Keyring::default());
            // The directory tells the index of packets that are sealed ahead.
            ring.learn(vec![told(begin + 900, &[(0, 1)])]);
            let mut opener = Opener::new(ring, StationId(2));
            for index in begin..begin + 70_000 {
                assert_eq!(open(&mut opener, sealed(index, 1)), Ok(index));
            }
        }
    }

    #[test]
    fn replays_and_forged_packets_open_nothing_and_change_nothing() {
        let ring = Arc::new(Keyring::default());
        ring.learn(vec![told(1000, &[(0, 1)])]);
        let mut opener = Opener::new(ring, StationId(2));
        for index in [1000, 1002, 1001, 1003] {
            assert_eq!(open(&mut opener, sealed(index, 1)), Ok(index));
            assert_eq!(open(&mut opener, sealed(index, 1)), Err(SrtpError::Forged), "{index} again");
        }
        for far in [30_000, 65_000, 500] {
            assert_eq!(open(&mut opener, sealed(far, 9)), Err(SrtpError::Forged), "{far} of another key");
        }
        assert_eq!(open(&mut opener, sealed(1003 - WINDOW, 1)), Err(SrtpError::Forged), "too old");
        assert_eq!(open(&mut opener, sealed(1004, 1)), Ok(1004));
    }

    #[test]
    fn keys_follow_each_other_at_their_index_whenever_they_are_told() {
        let ring = Arc::new(Keyring::default());
        ring.learn(vec![told(1000, &[(0, 1)])]);
        let mut opener = Opener::new(ring.clone(), StationId(2));
        assert_eq!(open(&mut opener, sealed(1000, 1)), Ok(1000));
        ring.learn(vec![told(1001, &[(0, 1), (1010, 2)])]);
        for index in 1001..1020 {
            let key = if index < 1010 { 1 } else { 2 };
            assert_eq!(open(&mut opener, sealed(index, 3 - key)), Err(SrtpError::Forged), "the wrong key");
            assert_eq!(open(&mut opener, sealed(index, key)), Ok(index));
        }
        // One of the last key, late.
        ring.learn(vec![told(1020, &[(1010, 2), (1030, 3)])]);
        assert_eq!(open(&mut opener, sealed(1030, 3)), Ok(1030));
        assert_eq!(open(&mut opener, sealed(1029, 2)), Ok(1029));
    }

    /// A ring, and how often it has asked.
    fn asking_ring() -> (Arc<Keyring>, Arc<AtomicU64>) {
        let asked = Arc::new(AtomicU64::new(0));
        let count = asked.clone();
        (Arc::new(Keyring::new(move || _ = count.fetch_add(1, Release))), asked)
    }

    #[test]
    fn a_place_that_is_too_old_is_asked_for_and_gone_on_from() {
        let (ring, asked) = asking_ring();
        ring.learn(vec![told(1000, &[(0, 1)])]);
        let mut heard = Opener::new(ring.clone(), StationId(2));
        assert_eq!(open(&mut heard, sealed(1000, 1)), Ok(1000));
        // Minutes later: for one that was cut off, and for one that begins only now.
        let now = 1000 + (3 << 16);
        for mut opener in [heard, Opener::new(ring.clone(), StationId(2))] {
            let before = asked.load(Acquire);
            for ahead in 0..u64::from(STALE) {
                assert_eq!(asked.load(Acquire), before);
                assert_eq!(open(&mut opener, sealed(now + ahead, 1)), Err(SrtpError::Forged));
            }
            assert_eq!(asked.load(Acquire), before + 1);
            ring.learn(vec![told(now + 900, &[(0, 1)])]);
            assert_eq!(open(&mut opener, sealed(now + 8, 1)), Ok(now + 8));
            assert_eq!(open(&mut opener, sealed(now + 8, 1)), Err(SrtpError::Forged), "again");
            assert_eq!(open(&mut opener, sealed(now + 9, 1)), Ok(now + 9));
            // Another place that was told long ago changes nothing.
            ring.learn(vec![told(1000, &[(0, 1)])]);
            assert_eq!(open(&mut opener, sealed(now + 10, 1)), Ok(now + 10));
        }
    }

    #[test]
    fn a_station_that_is_no_longer_encrypted_is_asked_for() {
        let (ring, asked) = asking_ring();
        ring.learn(vec![told(1000, &[(0, 1)])]);
        let mut opener = Opener::new(ring.clone(), StationId(2));
        let mut plain = sealed(1, 1)[..20].to_vec();
        for _ in 0..10 * STALE {
            assert!(opener.open(&mut plain).is_err());
        }
        assert_eq!(asked.load(Acquire), 1, "once until keys come");
        ring.replace(Vec::new());
        assert!(opener.open(&mut plain).is_ok());
    }

    #[test]
    fn the_packets_of_a_station_that_is_not_encrypted_are_as_they_are() {
        let ring = Arc::new(Keyring::default());
        let mut opener = Opener::new(ring.clone(), StationId(2));
        assert_eq!(opener.open(&mut [1, 2, 3]), Ok(&[1, 2, 3][..]));
        assert!(!opener.is_encrypted());
        ring.learn(vec![told(1000, &[(0, 1)])]);
        assert!(opener.open(&mut [1, 2, 3]).is_err(), "it is from now on");
        assert!(opener.is_encrypted());
    }
}
