//! RTCP (RFC 3550 section 6): the sender reports of a session, and the reception reports of its receiver.

use rtcp_types::prelude::*;
use rtcp_types::{
    Bye, Compound, CompoundBuilder, Packet, ReportBlock, Sdes, SdesChunk, SdesItem, SenderReport,
};

use crate::media::AirTime;

/// Seconds from the epoch of NTP, 1900-01-01, to the epoch of Unix.
pub(crate) const NTP_EPOCH: u64 = 2_208_988_800;

/// The counters of a sender (RFC 3550 section 6.4.1, "sender info").
#[derive(Debug, Clone, Copy)]
pub(crate) struct SenderInfo {
    pub(crate) ssrc: u32,
    /// The clock of its timestamps, ticks a second.
    pub(crate) clock_rate: u32,
    /// Packets sent since the beginning.
    pub(crate) packets: u64,
    /// Bytes of payload sent since the beginning, without RTP headers.
    pub(crate) octets: u64,
}

impl SenderInfo {
    /// A compound packet of a sender report at `now` and the CNAME of the sender.
    pub(crate) fn sender_report(&self, now: AirTime, cname: &str) -> Vec<u8> {
        bytes(self.compound(now, cname))
    }

    /// The same with a BYE: the last packet of this source.
    pub(crate) fn bye(&self, now: AirTime, cname: &str) -> Vec<u8> {
        bytes(self.compound(now, cname).add_packet(Bye::builder().add_source(self.ssrc)))
    }

    fn compound<'a>(&self, now: AirTime, cname: &'a str) -> CompoundBuilder<'a> {
        // Both counts wrap at 2^32 (RFC 3550 section 6.4.1).
        let report = SenderReport::builder(self.ssrc)
            .ntp_timestamp(ntp(now))
            .rtp_timestamp(now.ticks(self.clock_rate) as u32)
            .packet_count(self.packets as u32)
            .octet_count(self.octets as u32);
        let name = SdesChunk::builder(self.ssrc).add_item(SdesItem::builder(SdesItem::CNAME, cname));
        Compound::builder().add_packet(report).add_packet(Sdes::builder().add_chunk(name))
    }
}

fn bytes(compound: CompoundBuilder<'_>) -> Vec<u8> {
    let mut bytes = vec![0; compound.calculate_size().unwrap_or(0)];
    let length = compound.write_into(&mut bytes).unwrap_or(0);
    bytes.truncate(length);
    bytes
}

/// An NTP timestamp: seconds since 1900, as a fixed-point number of 32.32 bits.
fn ntp(at: AirTime) -> u64 {
    let seconds = at.0 / 1_000_000_000 + NTP_EPOCH;
    let fraction = (u128::from(at.0 % 1_000_000_000) << 32) / 1_000_000_000;
    seconds << 32 | fraction as u64
}

/// A receiver's report on one source (RFC 3550 section 6.4.1, "reception report block").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReceptionReport {
    /// Share of packets lost since the previous report, in 256ths.
    pub(crate) fraction_lost: u8,
    /// Packets lost since the beginning. A receiver of duplicates may report a negative number: that is 0 here.
    pub(crate) lost: u32,
    /// Interarrival jitter, in ticks of the RTP clock.
    pub(crate) jitter: u32,
}

/// The reports on the source `ssrc` in a compound packet; `None` if it is not RTCP.
pub(crate) fn reception_reports(packet: &[u8], ssrc: u32) -> Option<Vec<ReceptionReport>> {
    let mut reports = Vec::new();
    for packet in Compound::parse(packet).ok()? {
        let mut add = |block: ReportBlock<'_>| {
            if block.ssrc() == ssrc {
                // A signed number of 24 bits.
                let lost = (block.cumulative_lost() << 8) as i32 >> 8;
                reports.push(ReceptionReport {
                    fraction_lost: block.fraction_lost(),
                    lost: lost.max(0) as u32,
                    jitter: block.interarrival_jitter(),
                });
            }
        };
        match packet.ok()? {
            Packet::Rr(report) => report.report_blocks().for_each(&mut add),
            Packet::Sr(report) => report.report_blocks().for_each(&mut add),
            _ => {}
        }
    }
    Some(reports)
}

/// For the fuzzer: reads what a client may have sent.
#[cfg(fuzzing)]
pub fn fuzz(bytes: &[u8]) {
    let _ = reception_reports(bytes, 1);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtcp_types::ReceiverReport;

    use super::*;

    const SENT: SenderInfo =
        SenderInfo { ssrc: 0xcafe_f00d, clock_rate: 90_000, packets: (1 << 32) + 7, octets: 90_000 };

    #[test]
    fn a_sender_report_ties_the_wall_clock_to_the_media_clock() {
        let now = AirTime(1_790_000_000_500_000_000);
        let packet = SENT.bye(now, "stationcast@192.0.2.7");
        let packets: Vec<_> = Compound::parse(&packet).unwrap().map(Result::unwrap).collect();
        let [Packet::Sr(report), Packet::Sdes(sdes), Packet::Bye(bye)] = &packets[..] else {
            panic!("{packets:?}")
        };
        assert_eq!(report.ntp_timestamp() >> 32, 1_790_000_000 + NTP_EPOCH);
        assert_eq!(report.ntp_timestamp() as u32, 1 << 31, "half a second");
        assert_eq!((report.rtp_timestamp(), report.ssrc()), (now.rtp_timestamp(), 0xcafe_f00d));
        assert_eq!((report.packet_count(), report.octet_count()), (7, 90_000));
        let chunk = sdes.chunks().next().unwrap();
        assert_eq!(chunk.items().next().unwrap().get_value_string().unwrap(), "stationcast@192.0.2.7");
        assert_eq!(bye.ssrcs().collect::<Vec<_>>(), [0xcafe_f00d]);
        assert_eq!(Compound::parse(&SENT.sender_report(now, "x")).unwrap().count(), 2);
    }

    #[test]
    fn reports_on_other_sources_are_ignored() {
        let block = |ssrc, lost| {
            ReportBlock::builder(ssrc).fraction_lost(12).cumulative_lost(lost).interarrival_jitter(345)
        };
        let report = ReceiverReport::builder(1)
            .add_report_block(block(2, 99))
            .add_report_block(block(0xcafe_f00d, 67))
            .add_report_block(block(0xcafe_f00d, 0xff_ffff));
        let reports = reception_reports(&bytes(Compound::builder().add_packet(report)), 0xcafe_f00d).unwrap();
        let first = ReceptionReport { fraction_lost: 12, lost: 67, jitter: 345 };
        assert_eq!(reports, [first, ReceptionReport { lost: 0, ..first }], "-1 counts as 0");
        assert_eq!(reception_reports(b"", 1), None);
        assert_eq!(reception_reports(b"\x80\xc9\x00\x01", 1), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..128), kind in 192u8..210) {
            let _ = reception_reports(&bytes, 1);
            if let [first, second, ..] = &mut bytes[..] {
                (*first, *second) = (*first & 0x3f | 0x80, kind);
            }
            if bytes.len() >= 4 {
                let words = (bytes.len() / 4 - 1) as u16;
                bytes[2..4].copy_from_slice(&words.to_be_bytes());
                bytes.truncate(4 * (usize::from(words) + 1));
            }
            let _ = reception_reports(&bytes, 1);
        }
    }
}
