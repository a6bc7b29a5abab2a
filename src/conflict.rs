//! Two on one group: notices that another sender's pictures come to a station's group. Pure.
//!
//! Any room may import it. It imports `media` and `wire`.
//!
//! Anybody can send anything to a group. So a sender counts only if what looks like video comes from it, again and again, for
//! [`CONFIRMED`]; and no more than [`MAX_SENDERS`] are remembered.

use std::net::SocketAddr;
use std::time::Duration;

use crate::media::AirTime;
use crate::wire::payload::jpeg;
use crate::wire::rtp::{Header, PAYLOAD_TYPE_JPEG};

/// Most other senders that are remembered.
pub const MAX_SENDERS: usize = 4;

/// How long another sender is heard before it counts. Longer than what a station may still send with its old SSRC when it gets a
/// new one: its units are handed over up to 0.98 s ahead.
pub const CONFIRMED: Duration = Duration::from_secs(2);

/// A sender that is silent for longer begins anew. Even a slate has five pictures a second.
const PAUSE: Duration = Duration::from_secs(1);

/// The conflict is over when no other sender was heard for this long. It bounds the lines in the log: two in
/// [`CONFIRMED`] and this.
pub const OVER: Duration = Duration::from_secs(10);

/// The other senders on a group.
#[derive(Debug, Default)]
pub struct Conflict {
    senders: Vec<OtherSender>,
    /// The last change was the beginning.
    begun: bool,
}

/// Another sender.
#[derive(Debug)]
struct OtherSender {
    from: SocketAddr,
    /// Since when it has been heard without a [`PAUSE`].
    since: AirTime,
    last: AirTime,
    confirmed: bool,
}

/// A change to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConflictChange {
    /// The first other sender counts now.
    Begins,
    /// None does any more.
    Over,
}

impl Conflict {
    /// Notes a datagram that another sender has sent, at the address and port `from`. Anything but video is ignored. The
    /// beginning of the datagram is enough.
    pub fn hear(&mut self, now: AirTime, from: SocketAddr, datagram: &[u8]) {
        if !looks_like_video(datagram) {
            return;
        }
        let Some(sender) = self.senders.iter_mut().find(|sender| sender.from == from) else {
            self.forget_silent(now);
            if self.senders.len() < MAX_SENDERS {
                self.senders.push(OtherSender { from, since: now, last: now, confirmed: false });
            }
            return;
        };
        // The clock may have been set back.
        if now < sender.last || now.since(sender.last) > PAUSE {
            sender.since = now;
        }
        sender.last = now;
        sender.confirmed |= now.since(sender.since) >= CONFIRMED;
    }

    /// The sender at this address and port is not another one: it is followed from now on.
    pub fn forget(&mut self, from: SocketAddr) {
        self.senders.retain(|sender| sender.from != from);
    }

    /// What has changed until `now`. To be called once a second, unless it [`is_idle`](Self::is_idle).
    pub fn look(&mut self, now: AirTime) -> Option<ConflictChange> {
        self.forget_silent(now);
        let begun = self.senders.iter().any(|sender| sender.confirmed);
        match (std::mem::replace(&mut self.begun, begun), begun) {
            (false, true) => Some(ConflictChange::Begins),
            (true, false) => Some(ConflictChange::Over),
            _ => None,
        }
    }

    /// The senders that count, at most [`MAX_SENDERS`], by their addresses and ports.
    pub fn senders(&self) -> Vec<SocketAddr> {
        self.senders.iter().filter(|sender| sender.confirmed).map(|sender| sender.from).collect()
    }

    /// Whether nothing can change until another datagram is heard.
    pub fn is_idle(&self) -> bool {
        self.senders.is_empty() && !self.begun
    }

    fn forget_silent(&mut self, now: AirTime) {
        self.senders.retain_mut(|sender| {
            sender.last = sender.last.min(now);
            now.since(sender.last) <= if sender.confirmed { OVER } else { PAUSE }
        });
    }
}

/// `10.0.0.7:40000, 10.0.0.9:40000`.
pub(crate) fn addresses(senders: &[SocketAddr]) -> String {
    let senders: Vec<String> = senders.iter().map(SocketAddr::to_string).collect();
    senders.join(", ")
}

/// Whether `datagram` begins like RTP with a picture in it: RTP/JPEG with sensible headers, or another type that may be video
/// (RFC 3551 section 6: 28, 31 to 34, and the dynamic ones) with some payload.
fn looks_like_video(datagram: &[u8]) -> bool {
    let Ok((header, payload)) = Header::parse(datagram) else { return false };
    match header.payload_type {
        PAYLOAD_TYPE_JPEG => jpeg::has_header(payload),
        28 | 31..=34 | 96..=127 => payload.len() > jpeg::HEADER_LEN,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::rtp::HEADER_LEN;

    const BEGIN: AirTime = AirTime(1_790_000_000_000_000_000);

    fn address(host: u8) -> SocketAddr {
        ([10, 77, 0, host], 40_000).into()
    }

    fn datagram(payload_type: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = [0; HEADER_LEN];
        Header { marker: false, payload_type, sequence: 1, timestamp: 1, ssrc: 7 }.emit(&mut bytes);
        [&bytes, payload].concat()
    }

    fn picture() -> Vec<u8> {
        datagram(26, &[0, 0, 0, 0, 1, 80, 80, 46, 0x28, 0xa2])
    }

    /// The changes while the senders at `hosts` send, once in 40 ms, from `from` to `to` milliseconds.
    fn run(
        conflict: &mut Conflict,
        span: std::ops::Range<u64>,
        hosts: impl Fn(u64) -> Vec<u8>,
    ) -> Vec<(u64, ConflictChange)> {
        let mut changes = Vec::new();
        for millis in span.step_by(40) {
            let now = BEGIN + Duration::from_millis(millis);
            for host in hosts(millis) {
                conflict.hear(now, address(host), &picture());
            }
            changes.extend(conflict.look(now).map(|change| (millis, change)));
        }
        changes
    }

    #[test]
    fn a_second_sender_is_told_once_when_it_begins_and_once_when_it_is_over() {
        let mut conflict = Conflict::default();
        assert!(conflict.is_idle());
        assert_eq!(run(&mut conflict, 0..60_000, |_| vec![2]), [(2000, ConflictChange::Begins)]);
        assert_eq!(conflict.senders(), [address(2)]);
        assert_eq!(run(&mut conflict, 60_000..68_000, |_| vec![]), [], "a pause of 8 s");
        assert_eq!(run(&mut conflict, 68_000..70_000, |_| vec![2, 3]), []);
        assert_eq!(run(&mut conflict, 70_000..75_000, |_| vec![3]), [], "another one is no other conflict");
        assert_eq!(conflict.senders(), [address(2), address(3)]);
        assert_eq!(run(&mut conflict, 75_000..100_000, |_| vec![]), [(85_000, ConflictChange::Over)]);
        assert!(conflict.is_idle());
    }

    #[test]
    fn what_is_sent_once_or_for_a_moment_is_no_second_sender() {
        let mut conflict = Conflict::default();
        // A station that has got another SSRC has sent for 980 ms with the old one.
        assert_eq!(run(&mut conflict, 0..980, |_| vec![2]), []);
        assert_eq!(run(&mut conflict, 980..10_000, |at| if at % 2000 < 1000 { vec![3] } else { vec![] }), []);
        assert_eq!(run(&mut conflict, 10_000..12_000, |_| vec![]), []);
        assert!(conflict.is_idle());
    }

    #[test]
    fn garbage_is_no_second_sender() {
        for bytes in [
            vec![],
            b"not RTP at all, however long it may be".to_vec(),
            datagram(26, &[]),
            datagram(26, &[0, 0, 0, 0, 1, 80, 80, 46]),
            datagram(26, &[0, 0, 0, 0, 9, 80, 80, 46, 1, 2]),
            datagram(26, &[0, 0, 0, 0, 1, 0, 80, 46, 1, 2]),
            datagram(26, &[0, 0, 0, 0, 1, 80, 0, 46, 1, 2]),
            datagram(0, &[0; 160]),
            datagram(96, &[]),
        ] {
            let mut conflict = Conflict::default();
            conflict.hear(BEGIN, address(2), &bytes);
            assert!(conflict.is_idle(), "{bytes:?}");
        }
        for bytes in [picture(), datagram(33, &[0x47; 188]), datagram(96, &[0x65; 40])] {
            let mut conflict = Conflict::default();
            conflict.hear(BEGIN, address(2), &bytes);
            assert!(!conflict.is_idle(), "{bytes:?}");
        }
    }

    #[test]
    fn any_number_of_senders_takes_bounded_memory_and_few_lines() {
        let mut conflict = Conflict::default();
        let mut changes = 0;
        for n in 0..1_000_000u64 {
            let now = BEGIN + Duration::from_micros(n * 100);
            conflict.hear(now, ([10, 77, (n >> 16) as u8, 1], n as u16).into(), &picture());
            conflict.hear(now, address(2), &picture());
            changes += u64::from(conflict.look(now).is_some());
            assert!(conflict.senders.len() <= MAX_SENDERS);
        }
        assert_eq!((changes, conflict.senders()), (1, vec![address(2)]), "a true one is found among them");
    }

    #[test]
    fn a_clock_that_is_set_neither_begins_nor_prolongs_a_conflict() {
        let mut conflict = Conflict::default();
        conflict.hear(BEGIN, address(2), &picture());
        let hour = Duration::from_secs(3600);
        conflict.hear(BEGIN + hour, address(2), &picture());
        assert_eq!(conflict.look(BEGIN + hour), None);
        assert_eq!(run(&mut conflict, 0..3000, |_| vec![2]), [(2000, ConflictChange::Begins)]);
        let before = AirTime(BEGIN.0 - 3_600_000_000_000);
        assert_eq!(conflict.look(before), None);
        assert_eq!(conflict.look(before + OVER + PAUSE), Some(ConflictChange::Over));
    }
}
