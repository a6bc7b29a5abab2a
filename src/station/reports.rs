//! The sender reports of a station on its group (RFC 3550 section 6.4.1), by which players tie pictures and sound together.
//!
//! Timestamps are the due time on the station's clock, and so is the NTP time of a report: the moment at which a report is sent does
//! not matter. Reports are sent when the station wakes up anyway, some 1.3 times a second.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::sealer::Sealer;
use crate::air::AirCounters;
use crate::media::{AirTime, Track};
use crate::net::SendSocket;
use crate::wire::rtcp::SenderInfo;
use crate::wire::rtp::HEADER_LEN;

/// Least time between two reports: RFC 3550 section 6.2 allows a sender more than one each 5 s if it is a small share of the
/// session's bandwidth, and players synchronise with the first one.
const INTERVAL: Duration = Duration::from_millis(700);

/// The reports of one stream of a station.
pub(super) struct Reports {
    socket: SendSocket,
    ssrc: u32,
    track: Track,
    cname: String,
    counters: Arc<AirCounters>,
    /// What was counted before this stream.
    before: (u64, u64),
    last: Option<AirTime>,
}

/// The port of the reports on the stream at `rtp`: the next one (RFC 3550 section 11). `None` behind the last port.
pub(super) fn rtcp_address(mut rtp: SocketAddr) -> Option<SocketAddr> {
    rtp.set_port(rtp.port().checked_add(1)?);
    Some(rtp)
}

impl Reports {
    pub(super) fn new(
        socket: SendSocket,
        ssrc: u32,
        track: Track,
        cname: String,
        counters: Arc<AirCounters>,
    ) -> Reports {
        let before = counted(&counters);
        Reports { socket, ssrc, track, cname, counters, before, last: None }
    }

    /// The track of the stream.
    pub(super) fn track(&self) -> Track {
        self.track
    }

    /// Sends a report, if one is due, encrypted by the `sealer` of the stream if there is one. A report that cannot be sent is not
    /// missed: the next one says the same.
    pub(super) fn send(&mut self, now: AirTime, sealer: Option<&mut Sealer>) {
        if self.last.is_some_and(|last| now.since(last) < INTERVAL) {
            return;
        }
        let (packets, octets) = counted(&self.counters);
        let info = SenderInfo {
            ssrc: sealer.as_ref().map_or(self.ssrc, |sealer| sealer.ssrc()),
            clock_rate: self.track.clock_rate(),
            packets: packets - self.before.0,
            octets: octets - self.before.1,
        };
        // RFC 3550 section 6.4: who has sent nothing yet sends no sender report.
        if info.packets > 0 {
            self.last = Some(now);
            let report = info.sender_report(now, &self.cname);
            let report = match sealer {
                Some(sealer) => sealer.seal_report(report),
                None => report,
            };
            let _ = self.socket.send(&[IoSlice::new(&report)]);
        }
    }
}

/// Packets, and bytes of payload, of the units that were sent whole.
fn counted(counters: &AirCounters) -> (u64, u64) {
    let (packets, bytes) = (counters.packets.load(Relaxed), counters.bytes.load(Relaxed));
    (packets, bytes.saturating_sub(packets * HEADER_LEN as u64))
}
