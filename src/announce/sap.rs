//! Announces each station to players, by SAP: every five seconds while it is on air. Deletes the announcements at the end.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::directory::State;
use crate::headend::{HeadEnd, StationHandle};
use crate::lineup::StationSpec;
use crate::net;
use crate::wire::sap::{self, MessageType};

/// Time between two announcements of a station. RFC 2974 asks for five minutes or more, for the Internet of 2000. In a hall,
/// players should have the list soon after they are switched on, and VLC forgets a session after ten of its periods.
/// MuMuDVB also uses five seconds.
const PERIOD: Duration = Duration::from_secs(5);

/// Shortest time between two packets, of any station: at most 100 packets a second, some 40 kB/s. With more than 500
/// stations the period is therefore longer than [`PERIOD`]: 10 s for 999 stations.
const MIN_GAP: Duration = Duration::from_millis(10);

/// Announces all stations until the head-end stops, then deletes every announcement.
#[expect(clippy::disallowed_methods, reason = "a shell: it announces every few seconds")]
pub(super) async fn announce(head_end: Arc<HeadEnd>) {
    let mut sessions: Vec<SapSession> = head_end.stations().cloned().map(SapSession::new).collect();
    let mut failures = SendFailures::default();
    // The stations take turns, evenly spread over the period.
    let mut turns = tokio::time::interval(gap(sessions.len()));
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stopping = std::pin::pin!(head_end.stopping());
    for n in (0..sessions.len()).cycle() {
        tokio::select! {
            _ = turns.tick() => {}
            () = &mut stopping => break,
        }
        let session = &mut sessions[n];
        let Some(entry) = head_end.entry(session.handle.spec.id) else { continue };
        for (message, sdp) in session.turn(&entry.state) {
            failures.log(&session.handle.spec, send(&session.handle, message, &sdp));
        }
    }
    for session in &sessions {
        if let Some(sdp) = &session.announced {
            failures.log(&session.handle.spec, send(&session.handle, MessageType::Deletion, sdp));
        }
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
}

/// Sends a packet to the SAP group of the station's scope, on the station's interface. Each packet has a new socket: that
/// costs five system calls, and needs no repair when an interface has gone and come back.
fn send(station: &StationHandle, message: MessageType, sdp: &str) -> io::Result<()> {
    let spec = &station.spec;
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
    fn the_rate_of_packets_is_bounded() {
        assert_eq!(gap(0), PERIOD);
        assert_eq!(gap(1), PERIOD);
        assert_eq!(gap(100), Duration::from_millis(50));
        assert_eq!(gap(500), MIN_GAP);
        assert_eq!(gap(999), MIN_GAP);
    }
}
