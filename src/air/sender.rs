//! The RTP sender of a flow: its socket, and when each packet of an access unit is sent.
//!
//! On loopback an access unit is one datagram. On Ethernet it is some dozens of packets. Sent at once they would be a burst at
//! line rate, which switches with small buffers drop. So they are sent in bursts of four, spread over a share of the picture's
//! interval, each burst in one system call if the kernel has UDP generic segmentation offload.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::time::Duration;

use socket2::Socket;

use super::Transmit;
use crate::lineup::{Spread, StationSpec};
use crate::media::{Track, Unit};
use crate::net::SendSocket;
use crate::wire::packetizer::{Packet, Packetizer};
use crate::wire::{MAX_DATAGRAM, udp_headers};

/// Packets in a burst of a spread access unit: Cmax of a narrow sender at our rates (SMPTE ST 2110-21 section 7.1). Each burst
/// costs a wake-up of some 5 us.
const BURST: usize = 4;

/// Most packets in one system call: UDP_MAX_SEGMENTS of Linux up to 6.8 is 64.
const MAX_SEGMENTS: usize = 64;

/// Highest level of the leaky bucket for a spread picture, in packets: a little under 16, the Cmax of a wide sender at our rates
/// (SMPTE ST 2110-21 section 7.1), since wake-ups are late by microseconds.
const FILL: f64 = 15.5;

/// Drain rate of the leaky bucket, relative to the average packet rate (SMPTE ST 2110-21 section 6.6.1).
const BETA: f64 = 1.10;

/// Sends the RTP packets of a flow.
pub struct RtpSender {
    /// `None` while its interface has no address to send from.
    socket: Option<SendSocket>,
    packetizer: Packetizer,
    /// The share of a picture's interval over which its packets are spread, 0..=0.95. 0 sends them at once.
    spread: f64,
    /// Whether the kernel cuts a burst into packets (UDP_SEGMENT).
    segments: bool,
    /// Whether only encrypted packets may be sent.
    only_sealed: bool,
    /// Sends the cards of signed pictures; `None` if the station signs none.
    cards: Option<CardSender>,
}

/// Sends the cards of signed pictures, in a stream of their own.
struct CardSender {
    socket: SendSocket,
    packetizer: Packetizer,
}

/// When the packets of an access unit are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Plan {
    /// Number of bursts, at least 1.
    pub(super) bursts: usize,
    /// Packets in a burst. The last burst may have fewer.
    pub(super) size: usize,
    /// Packets in all.
    pub(super) packets: usize,
    /// Time between bursts.
    pub(super) step: Duration,
}

impl RtpSender {
    /// A sender to a station's group by `socket`, whose interface has an MTU of `mtu` bytes.
    pub fn to_group(socket: SendSocket, spec: &StationSpec, mtu: u32) -> RtpSender {
        let mut sender = RtpSender::new(Some(socket), spec.spread);
        sender.set_mtu(spec, mtu);
        sender.only_sealed = spec.encrypt.is_some();
        sender
    }

    /// A station's sender while its interface has no address to send from: every send fails with EADDRNOTAVAIL.
    pub fn without_socket(spec: &StationSpec) -> RtpSender {
        RtpSender::new(None, spec.spread)
    }

    /// A sender to one client by `socket`, which must not block. Packets have up to `datagram` bytes of UDP payload, which the
    /// path must carry unfragmented.
    pub fn unicast(socket: Socket, client: SocketAddr, datagram: usize, spread: Spread) -> RtpSender {
        let mut sender = RtpSender::new(Some(SendSocket::new(socket, client)), spread);
        sender.set_datagram(datagram, true);
        sender
    }

    fn new(socket: Option<SendSocket>, spread: Spread) -> RtpSender {
        let packetizer = Packetizer::new(fastrand::u32(..), fastrand::u16(..), MAX_DATAGRAM);
        let spread = spread.as_f64();
        RtpSender { socket, packetizer, spread, segments: false, only_sealed: false, cards: None }
    }

    /// Sends the cards of signed pictures by `socket`, each just before its picture.
    pub fn set_cards(&mut self, socket: SendSocket) {
        let packetizer = Packetizer::new(fastrand::u32(..), fastrand::u16(..), MAX_DATAGRAM);
        self.cards = Some(CardSender { socket, packetizer });
    }

    /// Spreads the packets of a picture over this share of its interval.
    pub fn set_spread(&mut self, spread: Spread) {
        self.spread = spread.as_f64();
    }

    /// Adapts the packet size to an MTU of `mtu` bytes.
    pub fn set_mtu(&mut self, spec: &StationSpec, mtu: u32) {
        let datagram = spec.datagram_limit(mtu);
        self.set_datagram(datagram, datagram + udp_headers(spec.group.ip()) <= mtu as usize);
    }

    /// Sets the packet size to `datagram` bytes of UDP payload. `unfragmented`: the link carries such packets in one piece.
    fn set_datagram(&mut self, datagram: usize, unfragmented: bool) {
        self.packetizer.set_datagram(datagram);
        // If the kernel lacks the option, each packet is a system call of its own.
        let wanted = unfragmented && datagram < MAX_DATAGRAM / 2;
        let segment = if wanted { datagram as i32 } else { 0 };
        let set =
            self.socket.as_mut().filter(|_| wanted || self.segments).map(|socket| socket.segment(segment));
        self.segments = wanted && set.is_some_and(|set| set.is_ok());
    }

    /// The SSRC of the packets.
    pub fn ssrc(&self) -> u32 {
        self.packetizer.ssrc()
    }

    /// The sequence number of the next packet.
    pub fn sequence(&self) -> u16 {
        self.packetizer.sequence()
    }

    /// Number of packets of an access unit.
    fn count(&self, unit: &Unit) -> usize {
        unit.sealed.as_ref().map_or_else(|| self.packetizer.count(unit), |sealed| sealed.len())
    }

    /// Sends a burst of at most `N` packets. Those of a sealed unit have their numbers already.
    fn send_up_to<const N: usize>(&mut self, unit: &Unit, plan: Plan, burst: usize) -> io::Result<usize> {
        // A unit that was handed over before the station had a key is not encrypted, and must not be sent.
        if self.only_sealed && unit.sealed.is_none() {
            return Err(nix::Error::ENOKEY.into());
        }
        let (first, most) = (burst * plan.size, plan.size.min(N));
        let mut packets = [Packet::default(); N];
        let mut slices = [[IoSlice::new(&[]); 3]; N];
        let mut count = 0;
        if let Some(sealed) = &unit.sealed {
            for (slices, packet) in slices.iter_mut().zip(sealed.iter().skip(first).take(most)) {
                slices[0] = IoSlice::new(packet);
                count += 1;
            }
        } else {
            for (place, packet) in packets.iter_mut().zip(self.packetizer.packets(unit, first, most)) {
                *place = packet;
                count += 1;
            }
            for (slices, packet) in slices.iter_mut().zip(&packets[..count]) {
                *slices = [packet.header(), packet.tables, packet.payload].map(IoSlice::new);
            }
        }
        let slices = &slices[..count];
        let Some(socket) = &mut self.socket else { return Err(nix::Error::EADDRNOTAVAIL.into()) };
        if self.segments && count > 1 {
            match socket.send(slices.as_flattened()) {
                // The device cannot checksum segments: from now on, packet by packet.
                Err(error) if matches!(error.raw_os_error(), Some(nix::libc::EIO | nix::libc::EINVAL)) => {
                    self.segments = false;
                    socket.segment(0)?;
                }
                sent => return sent,
            }
        }
        slices.iter().map(|packet| socket.send(packet)).sum()
    }
}

impl Transmit for RtpSender {
    fn plan(&self, unit: &Unit, window: Duration) -> Plan {
        let packets = self.count(unit);
        if unit.track() == Track::Sound {
            // Each packet leaves at the time of its first sample.
            let step = self.packetizer.linear_time();
            return Plan { bursts: packets, size: 1, packets, step };
        }
        let most = MAX_SEGMENTS.min(MAX_DATAGRAM / self.packetizer.datagram());
        plan(packets, self.spread, window, most)
    }

    fn send(&mut self, unit: &Unit, plan: Plan, burst: usize) -> io::Result<usize> {
        if burst == 0
            && let Some(cards) = &mut self.cards
            && let Some(card) = cards.packetizer.card(unit)
        {
            // A picture whose card is lost is still one to receivers that require no signature.
            let _ = cards.socket.send(&[card.header(), card.payload].map(IoSlice::new));
        }
        // Arrays for 64 packets are three kilobytes to clear, so a picture in one packet takes smaller ones.
        match plan.size.min(plan.packets) {
            1 => self.send_up_to::<1>(unit, plan, burst),
            2..=BURST => self.send_up_to::<BURST>(unit, plan, burst),
            _ => self.send_up_to::<MAX_SEGMENTS>(unit, plan, burst),
        }
    }

    fn give_up(&mut self, unit: &Unit, plan: Plan, burst: usize) {
        self.packetizer.skip(self.count(unit).saturating_sub(burst * plan.size));
    }
}

/// Spreads `packets` over `spread` of `interval`, at most `most` packets in a system call. A large picture takes more of its
/// interval than `spread`, if it would overrun a wide receiver's buffer otherwise.
fn plan(packets: usize, spread: f64, interval: Duration, most: usize) -> Plan {
    if spread == 0.0 || packets <= BURST {
        return Plan { bursts: packets.div_ceil(most), size: most, packets, step: Duration::ZERO };
    }
    let size = BURST.min(most);
    let bursts = packets.div_ceil(size);
    // Each burst fills the bucket, which drains by BETA x packets an interval. It is fullest after the last burst or, since
    // that may be a short one, after the burst before it.
    let wide = |burst: usize| {
        let sent = packets.min(burst * size) as f64;
        (sent - FILL) * bursts as f64 / (BETA * packets as f64 * (burst - 1).max(1) as f64)
    };
    let spread = spread.max(wide(bursts)).max(wide(bursts - 1)).min(0.95);
    Plan { bursts, size, packets, step: interval.mul_f64(spread / bursts as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(40);

    /// Highest level of the leaky bucket of SMPTE ST 2110-21 section 6.6.1, over one picture.
    fn cmax(packets: usize, plan: Plan) -> f64 {
        let drain = BETA * packets as f64 / INTERVAL.as_secs_f64();
        let mut level: f64 = 0.0;
        let mut highest: f64 = 0.0;
        for burst in 0..plan.bursts {
            let sent = plan.size.min(packets - burst * plan.size);
            level += sent as f64;
            highest = highest.max(level);
            level = (level - drain * plan.step.as_secs_f64()).max(0.0);
        }
        highest
    }

    #[test]
    fn a_spread_picture_keeps_to_the_limits_of_a_wide_sender() {
        for packets in 1..=200 {
            let plan = plan(packets, 0.5, INTERVAL, 44);
            assert_eq!(plan.bursts, packets.div_ceil(plan.size));
            assert!(
                plan.step * plan.bursts as u32 <= INTERVAL.mul_f64(0.951),
                "{packets} packets end in time"
            );
            if packets <= 110 {
                assert!(cmax(packets, plan) <= 16.0, "{packets} packets: {}", cmax(packets, plan));
            }
        }
    }

    #[test]
    fn small_pictures_and_pictures_without_spread_are_sent_at_once() {
        assert_eq!(plan(1, 0.5, INTERVAL, 1), Plan { bursts: 1, size: 1, packets: 1, step: Duration::ZERO });
        assert_eq!(
            plan(4, 0.5, INTERVAL, 44),
            Plan { bursts: 1, size: 44, packets: 4, step: Duration::ZERO }
        );
        assert_eq!(
            plan(45, 0.0, INTERVAL, 44),
            Plan { bursts: 2, size: 44, packets: 45, step: Duration::ZERO }
        );
        assert_eq!(
            plan(16, 0.5, INTERVAL, 44),
            Plan { bursts: 4, size: 4, packets: 16, step: Duration::from_millis(5) }
        );
    }

    #[test]
    fn a_socket_carries_the_stream_across_the_wrap_of_its_sequence_numbers() {
        use std::net::{Ipv4Addr, UdpSocket};

        use crate::media::{AirTime, Due};
        use crate::tuner::Tuner;

        // One packet a picture, bursts of four, and bursts that the kernel cuts (UDP_SEGMENT).
        for (datagram, spread) in [(MAX_DATAGRAM, Spread::NONE), (1472, Spread::DEFAULT), (576, Spread::NONE)]
        {
            let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            receiver.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            let socket = Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
            let mut sender = RtpSender::unicast(socket, receiver.local_addr().unwrap(), datagram, spread);
            sender.packetizer = Packetizer::new(0xfeed, 65_526, datagram);
            let (mut tuner, mut bytes, mut next) = (Tuner::new(), vec![0; 65_536], 65_526u16);
            for n in 0..20u64 {
                let at = AirTime(1_790_000_000_000_000_000) + INTERVAL * n as u32;
                let scan: Vec<u8> = (0..20_000u64).map(|at| (at * 31 + n * 7) as u8).collect();
                let unit =
                    Unit::picture(Due { at, interval: INTERVAL }, crate::media::jpeg::tests::jpeg(scan));
                let plan = sender.plan(&unit, INTERVAL);
                for burst in 0..plan.bursts {
                    sender.send(&unit, plan, burst).unwrap();
                }
                for _ in 0..plan.packets {
                    let length = receiver.recv(&mut bytes).unwrap();
                    let (header, _) = crate::wire::rtp::Header::parse(&bytes[..length]).unwrap();
                    assert_eq!((header.sequence, header.ssrc), (next, 0xfeed), "{datagram}, picture {n}");
                    next = next.wrapping_add(1);
                    tuner.handle_datagram(at, &bytes[..length]).unwrap();
                }
                assert_eq!(tuner.poll_picture().map(|received| received.jpeg).as_ref(), unit.jpeg());
            }
            assert!(next < 65_526, "it has wrapped");
            let c = tuner.counters();
            assert_eq!(
                (c.pictures, c.pictures_lost, c.packets_lost, c.restarts),
                (20, 0, 0, 0),
                "{datagram}"
            );
        }
    }
}
