//! The sender of a station: its socket, and how an access unit becomes datagrams in time.
//!
//! On loopback an access unit is one datagram. On Ethernet it is some dozens of packets; sent at once they
//! would be a burst at line rate, which shallow switches drop. So they leave in bursts of four, spread over a share of the
//! picture's interval, each burst in one system call (UDP generic segmentation offload, where the kernel has it).

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{SockAddr, Socket};

use super::Transmit;
use crate::lineup::{Spread, StationSpec};
use crate::media::Unit;
use crate::net;
use crate::wire::payload::jpeg::{Fragment, MAX_DATAGRAM, PACKET_OVERHEAD};
use crate::wire::rtp;

/// Packets that leave back to back when an access unit is spread: Cmax of a narrow sender at our rates
/// (SMPTE ST 2110-21 section 7.1). Each burst costs a wake-up of some 5 us.
const BURST: usize = 4;

/// Most packets in one system call: UDP_MAX_SEGMENTS of Linux up to 6.8 is 64.
const MAX_SEGMENTS: usize = 64;

/// The fill of the leaky bucket that a spread picture keeps to: a little under 16, the Cmax of a wide sender at our
/// rates (SMPTE ST 2110-21 section 7.1), since wake-ups are late by microseconds. And the factor by which the bucket
/// drains faster than the average.
const FILL: f64 = 15.5;
const BETA: f64 = 1.10;

/// Where and how a station's packets go.
pub struct RtpSender {
    /// It does not block.
    socket: Socket,
    /// Named with each call, not connected to: connecting fails while there is no route.
    to: SockAddr,
    /// Most bytes of UDP payload in a packet.
    datagram: usize,
    /// The share of a picture's interval that its packets take, 0..=0.95; 0: all at once.
    spread: f64,
    /// The kernel cuts what it is given into packets of `datagram` bytes.
    segments: bool,
    ssrc: u32,
    sequence: u16,
}

/// How an access unit leaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Plan {
    /// In so many bursts, at least 1,
    pub(super) bursts: usize,
    /// of so many packets, the last one perhaps fewer,
    pub(super) size: usize,
    /// these in all,
    pub(super) packets: usize,
    /// so far apart.
    pub(super) step: Duration,
}

impl RtpSender {
    /// The sender that a station's configuration describes.
    ///
    /// # Errors
    /// The interface has no address of the group's family, or the system refuses a socket option.
    pub fn open(spec: &StationSpec) -> io::Result<RtpSender> {
        let socket = net::sender(spec.group, &spec.interface, spec.ttl)?;
        let datagram = spec.datagram_limit();
        let whole = datagram + net::headers(spec.group.ip()) <= spec.interface.mtu as usize;
        Ok(RtpSender::new(socket, spec.group, datagram, whole, spec.spread))
    }

    /// An sender to one client, by `socket`, which does not block: packets of up to `datagram` bytes of UDP payload, which
    /// the way there carries in one piece.
    pub fn unicast(socket: Socket, client: SocketAddr, datagram: usize, spread: Spread) -> RtpSender {
        RtpSender::new(socket, client, datagram, true, spread)
    }

    fn new(socket: Socket, to: SocketAddr, datagram: usize, whole: bool, spread: Spread) -> RtpSender {
        // Old kernels do not know the option: then each packet is a call.
        let segments = whole
            && datagram < MAX_DATAGRAM / 2
            && setsockopt(&socket, sockopt::UdpGsoSegment, &(datagram as i32)).is_ok();
        RtpSender {
            socket,
            to: SockAddr::from(to),
            datagram,
            spread: spread.as_f64(),
            segments,
            ssrc: fastrand::u32(..),
            sequence: fastrand::u16(..),
        }
    }

    /// The SSRC of its packets.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The sequence number of the next packet.
    pub fn sequence(&self) -> u16 {
        self.sequence
    }

    /// Sends a burst of `N` packets at the most.
    fn send_up_to<const N: usize>(&mut self, unit: &Unit, plan: Plan, burst: usize) -> io::Result<usize> {
        let mut headers = [[0; PACKET_OVERHEAD]; N];
        let mut slices = [[IoSlice::new(&[]); 2]; N];
        let mut packets = 0;
        let timestamp = unit.due.at.rtp_timestamp();
        let fragments = || unit.jpeg.fragments(self.datagram).skip(burst * plan.size).take(plan.size);
        for (header, fragment) in headers.iter_mut().zip(fragments()) {
            *header = unit.jpeg.packet_header(
                self.rtp_header(timestamp, self.sequence.wrapping_add(packets), fragment),
                fragment,
            );
            packets += 1;
        }
        for ((slices, header), fragment) in slices.iter_mut().zip(&headers).zip(fragments()) {
            *slices = [IoSlice::new(header), IoSlice::new(&unit.jpeg.scan[fragment.start..fragment.end])];
        }
        self.sequence = self.sequence.wrapping_add(packets);
        let slices = &slices[..usize::from(packets)];
        if self.segments && packets > 1 {
            match self.socket.send_to_vectored(slices.as_flattened(), &self.to) {
                // A device that cannot checksum segments: once, then packet by packet.
                Err(error) if matches!(error.raw_os_error(), Some(nix::libc::EIO | nix::libc::EINVAL)) => {
                    self.segments = false;
                    setsockopt(&self.socket, sockopt::UdpGsoSegment, &0).map_err(io::Error::from)?;
                }
                sent => return sent,
            }
        }
        slices.iter().map(|packet| self.socket.send_to_vectored(packet, &self.to)).sum()
    }

    fn rtp_header(&self, timestamp: u32, sequence: u16, fragment: Fragment) -> rtp::Header {
        rtp::Header {
            marker: fragment.last,
            payload_type: rtp::PAYLOAD_TYPE_JPEG,
            sequence,
            timestamp,
            ssrc: self.ssrc,
        }
    }
}

impl Transmit for RtpSender {
    fn plan(&self, unit: &Unit, room: Duration) -> Plan {
        let packets = unit.jpeg.fragments(self.datagram).len();
        plan(packets, self.spread, room, MAX_SEGMENTS.min(MAX_DATAGRAM / self.datagram))
    }

    fn send(&mut self, unit: &Unit, plan: Plan, burst: usize) -> io::Result<usize> {
        // A picture in one packet needs no room for headers of 64: that would be three kilobytes to clear.
        match plan.size.min(plan.packets) {
            1 => self.send_up_to::<1>(unit, plan, burst),
            2..=BURST => self.send_up_to::<BURST>(unit, plan, burst),
            _ => self.send_up_to::<MAX_SEGMENTS>(unit, plan, burst),
        }
    }

    fn give_up(&mut self, unit: &Unit, plan: Plan, burst: usize) {
        let left = unit.jpeg.fragments(self.datagram).skip(burst * plan.size).count();
        self.sequence = self.sequence.wrapping_add(left as u16);
    }
}

/// Spreads `packets` over `spread` of `interval`, with at most `most` in a call. A large picture takes more of its
/// interval than configured if it would else overrun a wide receiver's buffer.
fn plan(packets: usize, spread: f64, interval: Duration, most: usize) -> Plan {
    if spread == 0.0 || packets <= BURST {
        return Plan { bursts: packets.div_ceil(most), size: most, packets, step: Duration::ZERO };
    }
    let size = BURST.min(most);
    let bursts = packets.div_ceil(size);
    // The bucket fills by each burst and drains by BETA x packets in an interval. It is fullest after the last burst or,
    // as that may be a short one, after the one before.
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

    /// The leaky bucket of SMPTE ST 2110-21 section 6.6.1, over one picture.
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
    fn a_spread_picture_is_never_worse_than_wide() {
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
    fn small_pictures_and_no_spread_leave_at_once() {
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
}
