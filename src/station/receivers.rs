//! The players that receive a station from its group, as far as they report by RTCP: they count in its audience.
//!
//! A receiver of RTP sends reports to the port above the stream's, to the group (RFC 3550 sections 6.4.2 and 11). So everybody hears
//! of everybody, and anybody can claim anything. Hence a report counts only if it is about our streams, by their random SSRCs; few
//! receivers are remembered, and fewer of one address; few reports are read a second; and nothing is logged.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::listen::{READ_INTERVAL, READ_MAX};
use super::reports::rtcp_address;
use crate::directory::table::AudienceMember;
use crate::headend::{HeadEnd, Reporting, StationHandle, SyncSource};
use crate::media::AirTime;
use crate::net::report_listener;
use crate::wire::rtcp::{GroupReport, Reporter};
use crate::wire::sdp::{is_source_specific, sound_port};

/// Most receivers of a station that are remembered. Of 100 bytes each, so that 999 stations whose groups are flooded take 25 MB.
const MOST: usize = 256;

/// Most of them at one address: a machine with several players, or several machines behind NAT.
const MOST_OF_ONE: usize = 16;

/// A receiver that has not reported for this long is gone. RFC 3550 section 6.3.5: five intervals, which are 5 s at least. FFmpeg
/// reports on our sound every 17 s, and on pictures oftener.
const GONE: Duration = Duration::from_secs(40);

/// A receiver that has said that it leaves does not count again for this long: GStreamer may send one more report on its other
/// stream.
const LEAVING: Duration = Duration::from_secs(3);

/// Time between two looks for receivers that are gone.
const LOOK: Duration = Duration::from_secs(5);

/// Pause before another attempt to open a socket.
const RETRY: Duration = Duration::from_secs(5);

/// Longest report that is read: one on two streams has 100 bytes.
const LONGEST: usize = 1500;

/// The receivers of one station.
#[derive(Debug, Default)]
struct Receivers(BTreeMap<(IpAddr, Reporter), Receiver>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Receiver {
    last: AirTime,
    /// Share of pictures' packets lost, in 256ths, by its last report on pictures.
    lost: Option<u8>,
    /// Its last packet said that it leaves.
    left: bool,
}

impl Receivers {
    /// Takes what has come from `from`. `pictures` is the SSRC of the pictures, `sound` that of the sound, if there is any.
    fn hear(&mut self, now: AirTime, from: IpAddr, packet: &[u8], pictures: u32, sound: Option<u32>) {
        let Some(report) = GroupReport::parse(packet) else { return };
        let from = from.to_canonical();
        let key = (from, report.reporter);
        if report.is_bye {
            if let Some(receiver) = self.0.get_mut(&key) {
                (receiver.last, receiver.left) = (now, true);
            }
            return;
        }
        let of_pictures =
            report.on.iter().find(|(ssrc, _)| *ssrc == pictures).map(|(_, of)| of.fraction_lost);
        if of_pictures.is_none() && !report.on.iter().any(|(ssrc, _)| Some(*ssrc) == sound) {
            return;
        }
        if !self.0.contains_key(&key)
            && (self.0.len() >= MOST || self.0.keys().filter(|(at, _)| *at == from).count() >= MOST_OF_ONE)
        {
            return;
        }
        let receiver = self.0.entry(key).or_insert(Receiver { last: now, lost: None, left: false });
        if receiver.left && now.since(receiver.last) <= LEAVING {
            return;
        }
        (receiver.last, receiver.left) = (now, false);
        receiver.lost = of_pictures.or(receiver.lost);
    }

    /// Forgets those that are gone.
    fn look(&mut self, now: AirTime) {
        let patience = |receiver: &Receiver| if receiver.left { LEAVING } else { GONE };
        self.0.retain(|_, receiver| now.since(receiver.last) <= patience(receiver));
    }

    fn summary(&self) -> Reporting {
        let here = || self.0.values().filter(|receiver| !receiver.left);
        let shares: Vec<f64> =
            here().filter_map(|receiver| receiver.lost).map(|lost| f64::from(lost) / 256.0).collect();
        let loss = (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64);
        Reporting { receivers: here().count() as u32, loss }
    }
}

/// Counts the receivers of one station for as long as it is polled.
#[expect(clippy::disallowed_methods, reason = "a shell: it waits before it tries again")]
pub(super) async fn count(station: Arc<StationHandle>, head_end: Arc<HeadEnd>) {
    let mut source = station.sync_source();
    let mut audience =
        Audience { station: station.clone(), head_end, known: Receivers::default(), members: Vec::new() };
    loop {
        let own = source.borrow_and_update().clone();
        // To a source-specific group nobody but the station can send; and a report in the clear is not of a player that has the key.
        let spec = station.spec();
        let own = own.filter(|_| !is_source_specific(spec.group.ip()) && spec.encrypt.is_none());
        let counting = async {
            match &own {
                Some(own) => {
                    audience.listen(own).await;
                    sleep(RETRY).await;
                }
                None => audience.forget_all().await,
            }
        };
        tokio::select! {
            () = counting => {}
            changed = source.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// The receivers of a station, and their places in its audience.
struct Audience {
    station: Arc<StationHandle>,
    head_end: Arc<HeadEnd>,
    known: Receivers,
    members: Vec<AudienceMember>,
}

impl Audience {
    /// Reads reports until a socket fails.
    #[expect(clippy::disallowed_methods, reason = "a shell: it waits between two reads")]
    async fn listen(&mut self, own: &SyncSource) {
        let group = self.station.spec().group;
        let of_sound = own.sound_ssrc.map(|_| SocketAddr::new(group.ip(), sound_port(group.port())));
        let open = |rtp: SocketAddr| {
            let address = rtcp_address(rtp)?;
            let socket = report_listener(address, &own.interface).and_then(UdpSocket::from_std);
            socket.inspect_err(|error| debug!("cannot hear of receivers on {address}: {error}")).ok()
        };
        let sockets = [open(group), of_sound.and_then(open)];
        if sockets.iter().all(Option::is_none) {
            return;
        }
        let mut bytes = [0; LONGEST];
        loop {
            let [pictures, sound] = &sockets;
            let readable = async {
                tokio::select! {
                    result = readable(pictures) => result,
                    result = readable(sound) => result,
                }
            };
            // Nobody is gone while nobody is known.
            let ready = match self.known.0.is_empty() {
                true => Ok(readable.await),
                false => timeout(LOOK, readable).await,
            };
            if let Ok(Err(_)) = ready {
                return;
            }
            let now = self.head_end.clock.now();
            for socket in sockets.iter().flatten() {
                for _ in 0..READ_MAX {
                    match socket.try_recv_from(&mut bytes) {
                        Ok((length, from)) => {
                            self.known.hear(now, from.ip(), &bytes[..length], own.ssrc, own.sound_ssrc);
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(_) => {}
                    }
                }
            }
            self.known.look(now);
            self.tell();
            // A flood is read no oftener than this.
            sleep(READ_INTERVAL).await;
        }
    }

    /// Without sockets: forgets the receivers one after the other. Never returns.
    #[expect(clippy::disallowed_methods, reason = "a shell: it waits until they are gone")]
    async fn forget_all(&mut self) {
        while !self.known.0.is_empty() {
            sleep(LOOK).await;
            self.known.look(self.head_end.clock.now());
            self.tell();
        }
        std::future::pending().await
    }

    /// Tells how many there are, and gives each a place in the audience.
    fn tell(&mut self) {
        let summary = self.known.summary();
        let wanted = summary.receivers as usize;
        self.members.truncate(wanted);
        while self.members.len() < wanted
            && let Some(member) = self.head_end.table.join_audience(self.station.spec().id)
        {
            self.members.push(member);
        }
        self.station.set_reporting(summary);
    }
}

/// Waits until a socket can be read; for ever if there is none.
async fn readable(socket: &Option<UdpSocket>) -> std::io::Result<()> {
    match socket {
        Some(socket) => socket.readable().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::rtcp::tests::{receiver_report, says_bye};

    const BEGIN: AirTime = AirTime(1_790_000_000_000_000_000);
    const PICTURES: u32 = 0xcafe_f00d;
    const SOUND: u32 = 0xbeef;

    fn at(host: u8) -> IpAddr {
        [10, 77, 0, host].into()
    }

    fn hear(receivers: &mut Receivers, second: u64, host: u8, packet: &[u8]) -> u32 {
        let now = BEGIN + Duration::from_secs(second);
        receivers.look(now);
        receivers.hear(now, at(host), packet, PICTURES, Some(SOUND));
        receivers.summary().receivers
    }

    #[test]
    fn a_receiver_counts_once_for_both_streams_until_it_leaves_or_falls_silent() {
        let mut receivers = Receivers::default();
        let pictures = |lost| receiver_report(1, Some("a@h"), &[(PICTURES, lost)]);
        let sound = receiver_report(2, Some("a@h"), &[(SOUND, 255)]);
        assert_eq!(hear(&mut receivers, 0, 1, &pictures(64)), 1);
        assert_eq!(hear(&mut receivers, 1, 1, &sound), 1, "its other stream, by its CNAME");
        assert_eq!(hear(&mut receivers, 2, 2, &pictures(0)), 2, "another machine");
        assert_eq!(receivers.summary().loss, Some(0.125), "the mean, of pictures");
        assert_eq!(hear(&mut receivers, 3, 1, &says_bye(1, "a@h")), 1);
        assert_eq!(hear(&mut receivers, 4, 1, &sound), 1, "its other stream, once more");
        assert_eq!(receivers.summary().loss, Some(0.0));
        assert_eq!(hear(&mut receivers, 42, 9, b""), 1);
        assert_eq!(hear(&mut receivers, 43, 9, b""), 0);
        assert_eq!(receivers.summary(), Reporting::default());
        assert_eq!(hear(&mut receivers, 50, 1, &sound), 1);
        assert_eq!(receivers.summary().loss, None, "of pictures nothing is known");
    }

    #[test]
    fn reports_on_other_streams_and_rubbish_do_not_count() {
        let mut receivers = Receivers::default();
        assert_eq!(hear(&mut receivers, 0, 1, &receiver_report(1, None, &[(7, 0)])), 0);
        assert_eq!(hear(&mut receivers, 0, 1, &receiver_report(1, None, &[])), 0);
        assert_eq!(hear(&mut receivers, 0, 1, b"\x80\xc9\x00\x01rubbish"), 0);
        assert_eq!(hear(&mut receivers, 0, 1, &receiver_report(1, None, &[(PICTURES, 0)])), 1, "by its SSRC");
    }

    #[test]
    fn few_are_remembered_and_fewer_of_one_address() {
        let mut receivers = Receivers::default();
        for ssrc in 0..1000 {
            hear(&mut receivers, 0, 1, &receiver_report(ssrc, None, &[(PICTURES, 0)]));
        }
        assert_eq!(receivers.0.len(), MOST_OF_ONE);
        for host in 2..=255 {
            for ssrc in 0..4 {
                hear(&mut receivers, 0, host, &receiver_report(ssrc, None, &[(PICTURES, 0)]));
            }
        }
        assert_eq!(receivers.0.len(), MOST);
        assert_eq!(
            hear(&mut receivers, 1, 1, &receiver_report(3, None, &[(PICTURES, 9)])),
            MOST as u32,
            "known"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..20)) {
            let mut receivers = Receivers::default();
            for mut packet in packets {
                hear(&mut receivers, 0, 1, &packet);
                if packet.len() >= 4 {
                    let words = (packet.len() / 4 - 1) as u16;
                    packet.splice(..4, [0x81, 0xc9, 0, words as u8]);
                    packet.truncate(4 * (usize::from(words) + 1));
                    hear(&mut receivers, 0, 1, &packet);
                }
            }
        }
    }
}
