//! RTCP (RFC 3550 section 6): the sender reports of a session, and the reception reports of its receivers.

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

impl ReceptionReport {
    fn of(block: &ReportBlock<'_>) -> ReceptionReport {
        // A signed number of 24 bits.
        let lost = (block.cumulative_lost() << 8) as i32 >> 8;
        ReceptionReport {
            fraction_lost: block.fraction_lost(),
            lost: lost.max(0) as u32,
            jitter: block.interarrival_jitter(),
        }
    }
}

/// The reports on the source `ssrc` in a compound packet; `None` if it is not RTCP.
pub(crate) fn reception_reports(packet: &[u8], ssrc: u32) -> Option<Vec<ReceptionReport>> {
    let mut reports = Vec::new();
    for packet in Compound::parse(packet).ok()? {
        let mut add = |block: ReportBlock<'_>| {
            if block.ssrc() == ssrc {
                reports.push(ReceptionReport::of(&block));
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

/// What a sender report tells of time (RFC 3550 section 6.4.1): both are of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SenderTime {
    pub(crate) ssrc: u32,
    /// The sender's wall clock, 32.32 bits.
    pub(crate) ntp: u64,
    /// The clock of its timestamps.
    pub(crate) timestamp: u32,
}

/// The time in the first sender report of a compound packet; `None` if there is none.
pub(crate) fn sender_time(packet: &[u8]) -> Option<SenderTime> {
    let mut packets = Compound::parse(packet).ok()?;
    packets.find_map(|packet| match packet {
        Ok(Packet::Sr(report)) => Some(SenderTime {
            ssrc: report.ssrc(),
            ntp: report.ntp_timestamp(),
            timestamp: report.rtp_timestamp(),
        }),
        _ => None,
    })
}

/// Who sends a report: two streams of one receiver have one canonical name, if it tells one, and two SSRCs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reporter {
    /// By its canonical name (RFC 3550 section 6.5.1), of at most 255 bytes.
    Name(Vec<u8>),
    /// By its SSRC.
    Ssrc(u32),
}

/// What a receiver that sends nothing itself reports to everybody in the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupReport {
    pub(crate) reporter: Reporter,
    /// The SSRCs that it reports on, at most 31.
    pub(crate) on: Vec<(u32, ReceptionReport)>,
    /// Whether it says that it leaves.
    pub(crate) is_bye: bool,
}

impl GroupReport {
    /// Reads a compound packet; `None` if it does not begin with a receiver report.
    pub(crate) fn parse(packet: &[u8]) -> Option<GroupReport> {
        let mut packets = Compound::parse(packet).ok()?;
        let Packet::Rr(first) = packets.next()?.ok()? else { return None };
        let ssrc = first.ssrc();
        let on = first.report_blocks().map(|block| (block.ssrc(), ReceptionReport::of(&block))).collect();
        let mut report = GroupReport { reporter: Reporter::Ssrc(ssrc), on, is_bye: false };
        for packet in packets {
            match packet.ok()? {
                Packet::Sdes(sdes) => {
                    for chunk in sdes.chunks().filter(|chunk| chunk.ssrc() == ssrc) {
                        let name = chunk.items().find(|item| item.type_() == SdesItem::CNAME);
                        if let Some(name) = name.filter(|name| !name.value().is_empty()) {
                            report.reporter = Reporter::Name(name.value().to_vec());
                        }
                    }
                }
                Packet::Bye(bye) => report.is_bye |= bye.ssrcs().any(|leaving| leaving == ssrc),
                _ => {}
            }
        }
        Some(report)
    }
}

/// For the fuzzer: reads what a client, or anybody in a group, may have sent.
#[cfg(fuzzing)]
pub fn fuzz(bytes: &[u8]) {
    let _ = (reception_reports(bytes, 1), GroupReport::parse(bytes));
}

#[cfg(test)]
pub(crate) mod tests {
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

    fn receiver<'a>(ssrc: u32, name: Option<&'a str>, on: &[(u32, u8)]) -> CompoundBuilder<'a> {
        let block = |(of, lost): &(u32, u8)| ReportBlock::builder(*of).fraction_lost(*lost);
        let report =
            on.iter().map(block).fold(ReceiverReport::builder(ssrc), |all, one| all.add_report_block(one));
        let compound = Compound::builder().add_packet(report);
        match name {
            Some(name) => {
                let item = SdesItem::builder(SdesItem::CNAME, name);
                compound.add_packet(Sdes::builder().add_chunk(SdesChunk::builder(ssrc).add_item(item)))
            }
            None => compound,
        }
    }

    /// What a receiver of these SSRCs reports, each with the share lost in 256ths.
    pub(crate) fn receiver_report(ssrc: u32, name: Option<&str>, on: &[(u32, u8)]) -> Vec<u8> {
        bytes(receiver(ssrc, name, on))
    }

    /// What a receiver reports that leaves.
    pub(crate) fn says_bye(ssrc: u32, name: &str) -> Vec<u8> {
        bytes(receiver(ssrc, Some(name), &[]).add_packet(Bye::builder().add_source(ssrc)))
    }

    #[test]
    fn a_receiver_in_a_group_is_known_by_its_name_or_else_by_its_ssrc() {
        let report = GroupReport::parse(&receiver_report(7, Some("me@host"), &[(1, 64), (2, 0)])).unwrap();
        assert_eq!((report.reporter, report.is_bye), (Reporter::Name(b"me@host".to_vec()), false));
        assert_eq!(
            report.on.iter().map(|(of, on)| (*of, on.fraction_lost)).collect::<Vec<_>>(),
            [(1, 64), (2, 0)]
        );
        let nameless = GroupReport::parse(&receiver_report(7, None, &[])).unwrap();
        assert_eq!(nameless, GroupReport { reporter: Reporter::Ssrc(7), on: vec![], is_bye: false });
        assert!(GroupReport::parse(&says_bye(7, "me@host")).unwrap().is_bye);
        assert_eq!(GroupReport::parse(&SENT.sender_report(AirTime(0), "x")), None, "that is a sender's");
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
            let _ = (reception_reports(&bytes, 1), GroupReport::parse(&bytes));
            if let [first, second, ..] = &mut bytes[..] {
                (*first, *second) = (*first & 0x3f | 0x80, kind);
            }
            if bytes.len() >= 4 {
                let words = (bytes.len() / 4 - 1) as u16;
                bytes[2..4].copy_from_slice(&words.to_be_bytes());
                bytes.truncate(4 * (usize::from(words) + 1));
            }
            let _ = (reception_reports(&bytes, 1), GroupReport::parse(&bytes));
        }
    }
}
