//! The network of a simulation, and a receiver that checks every packet and picture of the station.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::film_source::{FILMS, RATE, SimulatedFilms};
use crate::clock::AirClock;
use crate::headend::StationHandle;
use crate::interface::netlink::Interfaces;
use crate::media::AirTime;
use crate::net::{Network, SendSocket};
use crate::tuner::keyring::{Keyring, Opener};
use crate::wire::payload::jpeg::Depacketizer;
use crate::wire::rtp::{self, air_time_near};
use crate::wire::udp_headers;

/// The group is never silent for longer while the interface can send, whatever hangs.
const LONGEST_SILENCE: Duration = Duration::from_millis(500);

/// Film pictures in a row, none missing, after which the station counts as recovered: more than a round.
const RECOVERED: u64 = FILMS[0] + FILMS[1] + 5;

/// Number of log lines that are kept for the message of a failing test.
const LOG: usize = 60;

/// The group of the station that is checked.
pub(super) const GROUP: &str = "239.77.0.2:5004";

/// The network, with a receiver of the group of the station that is checked.
pub(super) struct SimulatedNetwork {
    clock: AirClock,
    interfaces: Interfaces,
    films: Arc<SimulatedFilms>,
    depacketizer: Depacketizer,
    /// Opens the packets of an encrypted station.
    pub(super) receiver: Option<EncryptedReceiver>,
    /// Number of SSRCs and keys that were told to it.
    pub(super) told: usize,
    /// SSRC and sequence number of the last packet.
    pub(super) last: Option<(u32, u16)>,
    /// How many more sockets the system refuses.
    pub(super) no_sockets: u32,
    /// Whether a packet was refused since the last one that was sent.
    refused: bool,
    /// Due time and arrival of the last picture.
    pub(super) shown: Option<(AirTime, Instant)>,
    /// Film and number of the last picture; `None` if it was a slate.
    pub(super) film: Option<(usize, u64)>,
    /// Number of film pictures in a row, none missing.
    in_a_row: u64,
    /// Arrival of the first picture of this row.
    row_began: AirTime,
    /// Arrival of the first slate picture since the last film picture.
    slate_began: Option<AirTime>,
    /// Bytes of the largest datagram since [`start_over`](Self::start_over).
    pub(super) largest: usize,
    /// When the interface changed last; `None` if it cannot send.
    usable_since: Option<Instant>,
    /// Number of pictures received.
    pub(super) pictures: u64,
    /// Number of film pictures received.
    pub(super) film_pictures: u64,
    /// Violations of what a receiver may expect, at most 20.
    pub(super) violations: Vec<String>,
    /// Number of packets to each other group.
    pub(super) elsewhere: BTreeMap<SocketAddr, u64>,
    log: VecDeque<String>,
}

impl SimulatedNetwork {
    pub(super) fn new(
        clock: AirClock,
        interfaces: Interfaces,
        films: Arc<SimulatedFilms>,
    ) -> SimulatedNetwork {
        SimulatedNetwork {
            clock,
            interfaces,
            films,
            depacketizer: Depacketizer::default(),
            receiver: None,
            told: 0,
            last: None,
            no_sockets: 0,
            refused: false,
            shown: None,
            film: None,
            in_a_row: 0,
            row_began: AirTime::default(),
            slate_began: None,
            largest: 0,
            usable_since: None,
            pictures: 0,
            film_pictures: 0,
            violations: Vec::new(),
            elsewhere: BTreeMap::new(),
            log: VecDeque::new(),
        }
    }

    /// Adds a line to the log.
    pub(super) fn note(&mut self, what: String) {
        if self.log.len() >= LOG {
            self.log.pop_front();
        }
        let seconds = self.clock.now().0 as f64 / 1e9 % 1e6;
        self.log.push_back(format!("{seconds:.3}: {what}"));
    }

    fn violation(&mut self, what: String) {
        self.note(format!("VIOLATION {what}"));
        if self.violations.len() < 20 {
            self.violations.push(self.log.back().cloned().unwrap_or_default());
        }
    }

    /// When the station began to show its films without a missing picture, if it has done so for a whole round.
    pub(super) fn recovered_at(&self) -> Option<AirTime> {
        (self.in_a_row >= RECOVERED).then_some(self.row_began)
    }

    /// How long the slate has been on air; `None` while a film is.
    pub(super) fn on_slate(&self) -> Option<Duration> {
        self.slate_began.map(|began| self.clock.now().since(began))
    }

    /// Starts to count the row, and the largest datagram, from the next picture on.
    pub(super) fn start_over(&mut self) {
        (self.in_a_row, self.largest) = (0, 0);
    }

    /// Must be called after each change of the interface.
    pub(super) fn interface_changed(&mut self) {
        let usable = self.interfaces.borrow().iter().any(|one| one.up && !one.v4.is_empty());
        self.usable_since = usable.then(Instant::now);
    }

    /// Sends a datagram by a socket that was opened when the interface had this `index` and the address `source`. Fails as the
    /// kernel would if the interface has changed since.
    fn send(&mut self, index: u32, source: IpAddr, datagram: &[u8]) -> io::Result<usize> {
        let interface = self.interfaces.borrow().iter().find(|one| one.index == index).cloned();
        let refusal = match interface {
            None => Some(nix::Error::ENODEV),
            Some(interface) if !interface.has(source) => Some(nix::Error::EINVAL),
            Some(interface) if !interface.up => Some(nix::Error::ENETUNREACH),
            Some(interface) if datagram.len() + udp_headers(source) > interface.mtu as usize => {
                Some(nix::Error::EMSGSIZE)
            }
            Some(_) => None,
        };
        if let Some(refusal) = refusal {
            self.note(format!("{} bytes refused: {refusal}", datagram.len()));
            self.refused = true;
            return Err(refusal.into());
        }
        self.largest = self.largest.max(datagram.len());
        self.receive(datagram);
        Ok(datagram.len())
    }

    fn receive(&mut self, datagram: &[u8]) {
        let now = self.clock.now();
        let mut packet = datagram.to_vec();
        let packet = match &mut self.receiver {
            None => &packet[..],
            Some(receiver) => {
                self.told += usize::from(receiver.learn());
                match receiver.opener.open(&mut packet) {
                    Ok(packet) => packet,
                    Err(error) => return self.violation(format!("{} bytes: {error}", datagram.len())),
                }
            }
        };
        let (header, payload) = rtp::Header::parse(packet).expect("what is sent is RTP");
        let expected = self.last.map(|(ssrc, sequence)| (ssrc, sequence.wrapping_add(1)));
        let refused = std::mem::take(&mut self.refused);
        if expected != Some((header.ssrc, header.sequence)) {
            let same = expected.is_some_and(|(ssrc, _)| ssrc == header.ssrc);
            if same && !refused {
                self.violation(format!("sequence number {} after {expected:?}", header.sequence));
            }
            self.depacketizer = Depacketizer::default();
        }
        self.last = Some((header.ssrc, header.sequence));
        match self.depacketizer.push(&header, payload) {
            Ok(None) => {}
            Ok(Some(jpeg)) => self.show(air_time_near(header.timestamp, now), now, &jpeg.scan),
            Err(error) => self.violation(error.to_string()),
        }
    }

    fn show(&mut self, due: AirTime, now: AirTime, scan: &[u8]) {
        self.pictures += 1;
        let late = now.signed_since(due) / 1_000_000;
        // The station skips a picture that is late by more than its interval.
        if !(-1..=450).contains(&late) {
            self.violation(format!("late by {late} ms"));
        }
        let film = self.films.known.get(scan).copied();
        let arrival = Instant::now();
        if let Some((last_due, last_at)) = self.shown.replace((due, arrival)) {
            if due <= last_due {
                self.violation(format!("due {} ms before the last one", last_due.since(due).as_millis()));
            }
            // Not by air time, which jumps when the wall clock is set.
            let silent = arrival - last_at.max(self.usable_since.unwrap_or(arrival));
            // When air time jumps, what was handed over is late at once, and the station may be asleep until its next slot.
            let jumped = due.since(last_due) > silent + Duration::from_secs(1);
            if silent > LONGEST_SILENCE * if jumped { 2 } else { 1 } {
                self.violation(format!("silent for {silent:?}"));
            }
            let next =
                self.film.map(|(film, n)| if n + 1 < FILMS[film] { (film, n + 1) } else { (1 - film, 0) });
            let on_grid = due.since(last_due).abs_diff(RATE.interval()) <= Duration::from_millis(1);
            self.in_a_row = if film.is_some() && film == next && on_grid { self.in_a_row + 1 } else { 0 };
            if self.in_a_row == 1 {
                self.row_began = now;
            }
            if self.in_a_row == 0 {
                self.note(format!("{film:?} after {:?}, {:?} later", self.film, due.since(last_due)));
            }
        }
        self.film_pictures += u64::from(film.is_some());
        self.slate_began = if film.is_some() { None } else { Some(self.slate_began.unwrap_or(now)) };
        self.film = film;
    }
}

/// A viewer that has the keys of a station.
pub(super) struct EncryptedReceiver {
    station: Arc<StationHandle>,
    ring: Arc<Keyring>,
    /// The version of the keys that it knows.
    version: u64,
    opener: Opener,
}

impl EncryptedReceiver {
    pub(super) fn new(station: Arc<StationHandle>) -> EncryptedReceiver {
        let ring = Arc::new(Keyring::default());
        EncryptedReceiver { opener: Opener::new(ring.clone(), station.spec().id), ring, station, version: 0 }
    }

    /// Learns the keys as the directory would tell them. Returns whether they are new.
    fn learn(&mut self) -> bool {
        let Some((version, keys)) = self.station.keys.read(self.station.spec().id) else { return false };
        if version == self.version {
            return false;
        }
        self.version = version;
        self.ring.replace(vec![keys]);
        true
    }
}

/// For the message of a failing test.
impl fmt::Display for SimulatedNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = self.in_a_row;
        writeln!(f, "{} pictures, {row} in a row, last {:?}", self.pictures, self.film)?;
        self.log.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// A network whose sockets send to `network`.
pub(super) fn simulated(network: Arc<Mutex<SimulatedNetwork>>, interfaces: Interfaces) -> Network {
    Network::new(interfaces, move |group, interface, _| {
        let source = interface.source(group.ip()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mut state = network.lock().unwrap();
        if let Some(left) = state.no_sockets.checked_sub(1) {
            state.no_sockets = left;
            return Err(nix::Error::EMFILE.into());
        }
        drop(state);
        let (network, index) = (network.clone(), interface.index);
        let checked = group == GROUP.parse().unwrap();
        Ok(SendSocket::simulated(move |datagram| {
            let mut network = network.lock().unwrap();
            if checked {
                return network.send(index, source, datagram);
            }
            *network.elsewhere.entry(group).or_default() += 1;
            Ok(datagram.len())
        }))
    })
}
