//! Announces each station to players, by SAP: every five seconds while it is on air. Deletes the announcements at the end.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::access::Grant;
use crate::directory::State;
use crate::headend::{Handles, HeadEnd, StationHandle};
use crate::lineup::StationSpec;
use crate::media::StationId;
use crate::net;
use crate::wire::sap::{self, MessageType};

/// Time between two announcements of a station. RFC 2974 asks for five minutes or more, for the Internet of 2000. In a hall,
/// players should have the list soon after they are switched on, and VLC forgets a session after ten of its periods.
/// MuMuDVB also uses five seconds.
const PERIOD: Duration = Duration::from_secs(5);

/// Shortest time between two packets, of any station: at most 100 packets a second, some 40 kB/s. With more than 500
/// stations the period is therefore longer than [`PERIOD`]: 10 s for 999 stations.
const MIN_GAP: Duration = Duration::from_millis(10);

/// Announces all stations until `end` is ready, then deletes every announcement and returns what `end` gave. Follows the stations
/// there are.
#[expect(clippy::disallowed_methods, reason = "a shell: it announces every few seconds")]
pub(super) async fn announce(head_end: Arc<HeadEnd>, end: impl Future<Output = bool>) -> bool {
    let mut sessions = Sessions::default();
    let mut failures = SendFailures::default();
    let mut current = head_end.station_changes();
    let mut end = std::pin::pin!(end);
    let mut ended = None;
    while ended.is_none() {
        let stations = current.borrow_and_update().clone();
        for session in sessions.follow(&stations) {
            session.delete(&mut failures);
        }
        // The stations take turns, evenly spread over the period.
        let mut turns = tokio::time::interval(gap(stations.len()));
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = turns.tick() => {}
                Ok(()) = current.changed() => break,
                stopping = &mut end => {
                    ended = Some(stopping);
                    break;
                }
            }
            let Some(session) = sessions.next() else { continue };
            let Some(entry) = head_end.entry(session.handle.spec().id) else { continue };
            for (message, sdp) in session.turn(&entry.state) {
                failures.log(&session.handle.spec(), send(&session.handle, message, &sdp));
            }
        }
    }
    for session in sessions.follow(&Handles::new()) {
        session.delete(&mut failures);
    }
    ended.unwrap_or(true)
}

/// The sessions of all stations, which take turns.
#[derive(Default)]
struct Sessions {
    by_id: BTreeMap<StationId, SapSession>,
    /// The station whose turn it was last; `None` before the first turn.
    last: Option<StationId>,
}

impl Sessions {
    /// Begins a session for each station that is new. Returns the sessions of those that are gone.
    fn follow(&mut self, stations: &Handles) -> Vec<SapSession> {
        let current = |id: &StationId, session: &SapSession| {
            stations.get(id).is_some_and(|handle| Arc::ptr_eq(handle, &session.handle))
        };
        let all = std::mem::take(&mut self.by_id).into_iter();
        let over: BTreeMap<_, _>;
        (self.by_id, over) = all.partition(|(id, session)| current(id, session));
        // A station that only some can see is not announced to all.
        let open = |handle: &Arc<StationHandle>| handle.spec().is_open_to(&Grant::default());
        for (&id, handle) in stations.iter().filter(|(_, handle)| open(handle)) {
            self.by_id.entry(id).or_insert_with(|| SapSession::new(handle.clone()));
        }
        over.into_values().collect()
    }

    /// The session whose turn it is; `None` if there is none.
    fn next(&mut self) -> Option<&mut SapSession> {
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.by_id.range((after, Bound::Unbounded)).next();
        let (&id, _) = next.or_else(|| self.by_id.first_key_value())?;
        self.last = Some(id);
        self.by_id.get_mut(&id)
    }
}

/// Time between the turns of two stations.
fn gap(stations: usize) -> Duration {
    (PERIOD / stations.max(1) as u32).max(MIN_GAP)
}

/// A station as a session of SAP.
struct SapSession {
    handle: Arc<StationHandle>,
    /// The description announced last, as SDP.
    announced: Option<String>,
}

impl SapSession {
    fn new(handle: Arc<StationHandle>) -> SapSession {
        SapSession { handle, announced: None }
    }

    /// The messages to send at this station's turn: its description, and before it, if the description has changed, the
    /// deletion of the old one.
    fn turn(&mut self, state: &State) -> Vec<(MessageType, String)> {
        if *state == State::Starting && self.announced.is_none() {
            return Vec::new();
        }
        let sdp = self.handle.sdp();
        let mut messages = Vec::new();
        let old = self.announced.replace(sdp.clone());
        messages.extend(old.filter(|old| *old != sdp).map(|old| (MessageType::Deletion, old)));
        messages.push((MessageType::Announcement, sdp));
        messages
    }

    /// Deletes the announcement, if there is one.
    fn delete(&self, failures: &mut SendFailures) {
        if let Some(sdp) = &self.announced {
            failures.log(&self.handle.spec(), send(&self.handle, MessageType::Deletion, sdp));
        }
    }
}

/// Sends a packet to the SAP group of the station's scope, on the station's interface. Each packet has a new socket: that
/// costs five system calls, and needs no repair when an interface has gone and come back.
fn send(station: &StationHandle, message: MessageType, sdp: &str) -> io::Result<()> {
    let spec = station.spec();
    let interface = station.interface().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let source = interface.source(spec.group.ip()).ok_or(io::ErrorKind::AddrNotAvailable)?;
    let group = sap::group(spec.group.ip());
    let socket = net::sender(group, &interface, spec.ttl)?;
    socket.send_to(&sap::packet(message, source, sdp), &group.into())?;
    Ok(())
}

/// The last error of each interface and IP version; `None` if the last packet was sent. Only changes are logged.
#[derive(Default)]
struct SendFailures(BTreeMap<(String, &'static str), Option<String>>);

impl SendFailures {
    fn log(&mut self, spec: &StationSpec, sent: io::Result<()>) {
        let (interface, family) = (&spec.interface.name, if spec.group.is_ipv4() { "IPv4" } else { "IPv6" });
        let error = sent.err().map(|error| error.to_string());
        let last = self.0.entry((interface.clone(), family)).or_default();
        if *last == error {
            return;
        }
        match &error {
            None => info!("stations on {interface} ({family}) are announced by SAP again"),
            Some(error) => {
                warn!("stations on {interface} ({family}) cannot be announced by SAP; retrying: {error}");
            }
        }
        *last = error;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::FrameRate;

    #[test]
    fn an_outdated_description_is_deleted_before_the_new_one_is_announced() {
        let handle = Arc::new(StationHandle::new(StationSpec::sample("239.77.0.2:5004")));
        let rate = |rate| FrameRate::new(rate, 1).unwrap();
        let slate = State::Slate { reason: "gone".into() };
        let announced = |sdp: &String| (MessageType::Announcement, sdp.clone());

        let bare = handle.sdp();
        assert!(!bare.contains("framerate"), "{bare}");
        assert_eq!(
            SapSession::new(handle.clone()).turn(&slate),
            [announced(&bare)],
            "a station on a slate is announced"
        );

        let mut session = SapSession::new(handle.clone());
        assert_eq!(session.turn(&State::Starting), [], "a station that has not started is not announced");
        handle.set_film_rate(rate(25));
        let pal = handle.sdp();
        assert_eq!(session.turn(&State::Film), [announced(&pal)]);
        assert_eq!(session.turn(&State::Film), [announced(&pal)]);
        handle.set_film_rate(rate(24));
        let film = handle.sdp();
        assert_eq!(session.turn(&State::Film), [(MessageType::Deletion, pal), announced(&film)]);
        assert_eq!(session.turn(&slate), [announced(&film)], "a slate does not change the description");
        assert_eq!(session.turn(&State::Starting), [announced(&film)]);
    }

    #[test]
    fn every_station_has_its_turn_when_others_come_and_go() {
        let handle = |id: u16| {
            let spec = StationSpec { id: StationId(id), ..StationSpec::sample("239.77.0.2:5004") };
            (StationId(id), Arc::new(StationHandle::new(spec)))
        };
        let mut stations = Handles::from([handle(2), handle(5), handle(7)]);
        let mut sessions = Sessions::default();
        assert!(sessions.next().is_none());
        assert!(sessions.follow(&stations).is_empty());
        let turns = |sessions: &mut Sessions, count| -> Vec<u16> {
            (0..count).map(|_| sessions.next().unwrap().handle.spec().id.0).collect()
        };
        assert_eq!(turns(&mut sessions, 4), [2, 5, 7, 2]);
        stations.remove(&StationId(5));
        stations.extend([handle(6), handle(7)]);
        let over = sessions.follow(&stations);
        let over: Vec<u16> = over.iter().map(|session| session.handle.spec().id.0).collect();
        assert_eq!(over, [5, 7], "station 7 was changed");
        assert_eq!(turns(&mut sessions, 4), [6, 7, 2, 6]);
    }

    #[test]
    fn the_rate_of_packets_is_bounded() {
        assert_eq!(gap(0), PERIOD);
        assert_eq!(gap(1), PERIOD);
        assert_eq!(gap(100), Duration::from_millis(50));
        assert_eq!(gap(500), MIN_GAP);
        assert_eq!(gap(999), MIN_GAP);
    }
}
