//! The network of a simulation, and a receiver of the station on it that notices whatever is not right.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::film::{FILMS, RATE, Studio};
use crate::clock::AirClock;
use crate::content::worker::STUCK_AFTER;
use crate::interface::watch::Interfaces;
use crate::media::AirTime;
use crate::net::{Network, SendSocket};
use crate::wire::payload::jpeg::Depacketizer;
use crate::wire::rtp::{self, air_time_near};
use crate::wire::udp_headers;

/// Film pictures in a row, each the one after the one before, until all is as if nothing had been: more than a round.
const CALM: u64 = FILMS[0] + FILMS[1] + 5;

/// What came last is kept for messages.
const LOG: usize = 60;

/// All that the station's packets go through.
pub(super) struct Ether {
    clock: AirClock,
    interfaces: Interfaces,
    studio: Arc<Studio>,
    depacketizer: Depacketizer,
    /// SSRC and sequence number of the last packet.
    last: Option<(u32, u16)>,
    /// Something could not be sent since.
    refused: bool,
    /// The due time of the last picture, and when it came.
    shown: Option<(AirTime, AirTime)>,
    /// Film and number of the last picture.
    film: Option<(usize, u64)>,
    in_a_row: u64,
    /// When the first of these came.
    row_began: AirTime,
    /// When the first slate came since the last film.
    slate_began: Option<AirTime>,
    /// Bytes of the largest datagram since the simulation set this to 0.
    pub(super) largest: usize,
    /// Since when the interface has been as it is, if something can be sent by it.
    usable_since: Option<AirTime>,
    pub(super) pictures: u64,
    pub(super) film_pictures: u64,
    /// What was not right.
    pub(super) faults: Vec<String>,
    log: VecDeque<String>,
}

impl Ether {
    pub(super) fn new(clock: AirClock, interfaces: Interfaces, studio: Arc<Studio>) -> Ether {
        Ether {
            clock,
            interfaces,
            studio,
            depacketizer: Depacketizer::default(),
            last: None,
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
            faults: Vec::new(),
            log: VecDeque::new(),
        }
    }

    pub(super) fn note(&mut self, what: String) {
        if self.log.len() >= LOG {
            self.log.pop_front();
        }
        let seconds = self.clock.now().0 as f64 / 1e9 % 1e6;
        self.log.push_back(format!("{seconds:.3}: {what}"));
    }

    fn fault(&mut self, what: String) {
        self.note(format!("FAULT {what}"));
        if self.faults.len() < 20 {
            self.faults.push(self.log.back().cloned().unwrap_or_default());
        }
    }

    /// Since when the films have been on air, one picture after the other, if that has been so for a whole round.
    pub(super) fn calm_since(&self) -> Option<AirTime> {
        (self.in_a_row >= CALM).then_some(self.row_began)
    }

    /// For how long there has been a slate; `None` while a film is on.
    pub(super) fn on_slate(&self) -> Option<Duration> {
        self.slate_began.map(|began| self.clock.now().since(began))
    }

    /// Forgets what has been on air, so that calm can only come of what follows.
    pub(super) fn expect_calm(&mut self) {
        (self.in_a_row, self.largest) = (0, 0);
    }

    /// The interface is another one now.
    pub(super) fn interface_changed(&mut self) {
        let usable = self.interfaces.borrow().iter().any(|one| one.up && !one.v4.is_empty());
        self.usable_since = usable.then(|| self.clock.now());
    }

    /// A datagram from a socket that was opened when the interface had this `index` and the address `source`.
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
        let (header, payload) = rtp::Header::parse(datagram).expect("what is sent is RTP");
        let expected = self.last.map(|(ssrc, sequence)| (ssrc, sequence.wrapping_add(1)));
        let refused = std::mem::take(&mut self.refused);
        if expected != Some((header.ssrc, header.sequence)) {
            let same = expected.is_some_and(|(ssrc, _)| ssrc == header.ssrc);
            if same && !refused {
                self.fault(format!("sequence number {} after {expected:?}", header.sequence));
            }
            self.depacketizer = Depacketizer::default();
        }
        self.last = Some((header.ssrc, header.sequence));
        match self.depacketizer.push(&header, payload) {
            Ok(None) => {}
            Ok(Some(jpeg)) => self.show(air_time_near(header.timestamp, now), now, &jpeg.scan),
            Err(error) => self.fault(error.to_string()),
        }
    }

    fn show(&mut self, due: AirTime, now: AirTime, scan: &[u8]) {
        self.pictures += 1;
        let late = now.signed_since(due) / 1_000_000;
        // A picture that is late by more than its interval is left out.
        if !(-1..=450).contains(&late) {
            self.fault(format!("late by {late} ms"));
        }
        let film = self.studio.known.get(scan).copied();
        if let Some((last_due, last_at)) = self.shown.replace((due, now)) {
            if due <= last_due {
                self.fault(format!("due {} ms before the last one", last_due.since(due).as_millis()));
            }
            // After what hangs has been found out, a slate; an hour may have been jumped over.
            let silent = now.since(last_at.max(self.usable_since.unwrap_or(now)));
            let jumped = due.since(last_due) > Duration::from_secs(100);
            if silent > STUCK_AFTER + Duration::from_secs(2) && !jumped {
                self.fault(format!("silent for {silent:?}"));
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

/// For the message of a test that fails.
impl fmt::Display for Ether {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = self.in_a_row;
        writeln!(f, "{} pictures, {row} in a row, last {:?}", self.pictures, self.film)?;
        self.log.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// A network whose sockets send to `ether`.
pub(super) fn simulated(ether: Arc<Mutex<Ether>>, interfaces: Interfaces) -> Network {
    Network::new(interfaces, move |group, interface, _| {
        let source = interface.source(group.ip()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let (ether, index) = (ether.clone(), interface.index);
        Ok(SendSocket::simulated(move |datagram| ether.lock().unwrap().send(index, source, datagram)))
    })
}
