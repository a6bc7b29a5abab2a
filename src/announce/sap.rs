//! Each station to players, by SAP: every five seconds while it is on air, and taken back at the end.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::directory::State;
use crate::headend::describe::source;
use crate::headend::{HeadEnd, StationHandle};
use crate::lineup::StationSpec;
use crate::net;
use crate::wire::sap::{self, Message};

/// How often a station is announced. RFC 2974 would have five minutes and more, for the Internet of 2000; players in a
/// hall want the list when they are switched on, and VLC forgets a session after ten of its periods. It is what
/// MuMuDVB does.
const EVERY: Duration = Duration::from_secs(5);

/// The least time between two announcements of whatever stations: no more than 100 packets, some 40 kB a second. So
/// from 500 stations on it takes longer than [`EVERY`]; 999 are round in 10 s.
const APART: Duration = Duration::from_millis(10);

/// Announces all stations until the head-end stops, then takes back what was announced.
pub(super) async fn announce(head_end: Arc<HeadEnd>) {
    let mut slots: Vec<Slot> = head_end.stations().cloned().map(Slot::new).collect();
    let mut troubles = Troubles::default();
    // One after the other, spread over the interval.
    let mut moments = tokio::time::interval(step(slots.len()));
    moments.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stopping = std::pin::pin!(head_end.stopping());
    for n in (0..slots.len()).cycle() {
        tokio::select! {
            _ = moments.tick() => {}
            () = &mut stopping => break,
        }
        let slot = &mut slots[n];
        let Some(entry) = head_end.entry(slot.handle.spec.id) else { continue };
        for (message, sdp) in slot.turn(&entry.state) {
            troubles.note(&slot.handle.spec, send(&slot.handle.spec, message, &sdp));
        }
    }
    for slot in &slots {
        if let Some(sdp) = &slot.announced {
            troubles.note(&slot.handle.spec, send(&slot.handle.spec, Message::Deletion, sdp));
        }
    }
}

/// How long after a station the next one is announced.
fn step(stations: usize) -> Duration {
    (EVERY / stations.max(1) as u32).max(APART)
}

/// A station, and what the network was told of it.
struct Slot {
    handle: Arc<StationHandle>,
    announced: Option<String>,
}

impl Slot {
    fn new(handle: Arc<StationHandle>) -> Slot {
        Slot { handle, announced: None }
    }

    /// What to send when its turn has come: the description, after the deletion of one that is no longer true.
    fn turn(&mut self, state: &State) -> Vec<(Message, String)> {
        if *state == State::Starting && self.announced.is_none() {
            return Vec::new();
        }
        let sdp = self.handle.sdp();
        let mut messages = Vec::new();
        let old = self.announced.replace(sdp.clone());
        messages.extend(old.filter(|old| *old != sdp).map(|old| (Message::Deletion, old)));
        messages.push((Message::Announcement, sdp));
        messages
    }
}

/// Sends a packet to the group of its station's scope, out of the station's own interface. The socket is a new one each
/// time: five system calls, and nothing to mend when an interface went and came.
fn send(spec: &StationSpec, message: Message, sdp: &str) -> io::Result<()> {
    let source = source(spec).ok_or(io::ErrorKind::AddrNotAvailable)?;
    let group = sap::group(spec.group.ip());
    let socket = net::sender(group, &spec.interface, spec.ttl)?;
    socket.send_to(&sap::packet(message, source, sdp), &group.into())?;
    Ok(())
}

/// What is wrong with which interface: told when it begins, not every five seconds for every station.
#[derive(Default)]
struct Troubles(BTreeMap<(String, bool), String>);

impl Troubles {
    fn note(&mut self, spec: &StationSpec, sent: io::Result<()>) {
        let (interface, family) = (&spec.interface.name, if spec.group.is_ipv4() { "IPv4" } else { "IPv6" });
        let key = (interface.clone(), spec.group.is_ipv4());
        match sent {
            Ok(()) => {
                if self.0.remove(&key).is_some() {
                    info!("stations on {interface} ({family}) are announced by SAP again");
                }
            }
            Err(error) => {
                let reason = error.to_string();
                if self.0.get(&key) != Some(&reason) {
                    warn!("stations on {interface} ({family}) cannot be announced by SAP for now: {reason}");
                    self.0.insert(key, reason);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headend::describe::tests::spec;
    use crate::media::FrameRate;

    #[test]
    fn what_is_no_longer_true_is_deleted_before_the_new_is_announced() {
        let handle = Arc::new(StationHandle::new(spec("239.77.0.2:5004")));
        let rate = |rate| FrameRate::new(rate, 1).unwrap();
        let slate = State::Slate { reason: "gone".into() };
        let announced = |sdp: &String| (Message::Announcement, sdp.clone());

        let bare = handle.sdp();
        assert!(!bare.contains("framerate"), "{bare}");
        assert_eq!(Slot::new(handle.clone()).turn(&slate), [announced(&bare)], "a slate is something to see");

        let mut slot = Slot::new(handle.clone());
        assert_eq!(slot.turn(&State::Starting), [], "nothing is known yet");
        handle.shows_film(rate(25));
        let pal = handle.sdp();
        assert_eq!(slot.turn(&State::Film), [announced(&pal)]);
        assert_eq!(slot.turn(&State::Film), [announced(&pal)]);
        handle.shows_film(rate(24));
        let film = handle.sdp();
        assert_eq!(slot.turn(&State::Film), [(Message::Deletion, pal), announced(&film)]);
        assert_eq!(slot.turn(&slate), [announced(&film)], "a slate is no other session");
        assert_eq!(slot.turn(&State::Starting), [announced(&film)]);
    }

    #[test]
    fn the_rate_of_packets_is_bounded() {
        assert_eq!(step(0), EVERY);
        assert_eq!(step(1), EVERY);
        assert_eq!(step(100), Duration::from_millis(50));
        assert_eq!(step(500), APART);
        assert_eq!(step(999), APART);
    }
}
