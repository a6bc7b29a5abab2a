//! RTCP (RFC 3550 section 6): what we say of a session's packets, and what the client says of them. Pure.

use rtcp_types::prelude::*;
use rtcp_types::{
    Bye, Compound, CompoundBuilder, Packet, ReportBlock, Sdes, SdesChunk, SdesItem, SenderReport,
};

use crate::media::AirTime;

/// From the epoch of NTP, 1900-01-01, to that of Unix, in seconds.
pub(crate) const NTP_EPOCH: u64 = 2_208_988_800;

/// What a sender says of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) ssrc: u32,
    pub(crate) packets: u64,
    /// Of payload: without the RTP headers.
    pub(crate) octets: u64,
}

impl Sent {
    /// A sender report at `now`, and who sends.
    pub(crate) fn report(&self, now: AirTime, cname: &str) -> Vec<u8> {
        bytes(self.compound(now, cname))
    }

    /// The same with a BYE: the last that is heard of this source.
    pub(crate) fn bye(&self, now: AirTime, cname: &str) -> Vec<u8> {
        bytes(self.compound(now, cname).add_packet(Bye::builder().add_source(self.ssrc)))
    }

    fn compound<'a>(&self, now: AirTime, cname: &'a str) -> CompoundBuilder<'a> {
        // Both counts go round at 2^32 (RFC 3550 section 6.4.1).
        let report = SenderReport::builder(self.ssrc)
            .ntp_timestamp(ntp(now))
            .rtp_timestamp(now.rtp_timestamp())
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

/// Seconds since 1900 in 32.32 bits.
fn ntp(at: AirTime) -> u64 {
    let seconds = at.0 / 1_000_000_000 + NTP_EPOCH;
    let fraction = (u128::from(at.0 % 1_000_000_000) << 32) / 1_000_000_000;
    seconds << 32 | fraction as u64
}

/// What a receiver says of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heard {
    /// In 256ths, since its last report.
    pub(crate) fraction_lost: u8,
    /// Packets, since the beginning. More can have come than were sent, if some came twice: then none is lost.
    pub(crate) lost: u32,
    /// In units of the timestamp.
    pub(crate) jitter: u32,
}

/// What `packet` says of the packets of `ssrc`; `None` if it is no RTCP.
pub(crate) fn reports(packet: &[u8], ssrc: u32) -> Option<Vec<Heard>> {
    let mut heard = Vec::new();
    for packet in Compound::parse(packet).ok()? {
        let mut note = |block: ReportBlock<'_>| {
            if block.ssrc() == ssrc {
                // 24 bits, signed.
                let lost = (block.cumulative_lost() << 8) as i32 >> 8;
                heard.push(Heard {
                    fraction_lost: block.fraction_lost(),
                    lost: lost.max(0) as u32,
                    jitter: block.interarrival_jitter(),
                });
            }
        };
        match packet.ok()? {
            Packet::Rr(report) => report.report_blocks().for_each(&mut note),
            Packet::Sr(report) => report.report_blocks().for_each(&mut note),
            _ => {}
        }
    }
    Some(heard)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtcp_types::ReceiverReport;

    use super::*;

    const SENT: Sent = Sent { ssrc: 0xcafe_f00d, packets: (1 << 32) + 7, octets: 90_000 };

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
        assert_eq!(Compound::parse(&SENT.report(now, "x")).unwrap().count(), 2);
    }

    #[test]
    fn a_receiver_tells_of_our_packets_and_others() {
        let block = |ssrc, lost| {
            ReportBlock::builder(ssrc).fraction_lost(12).cumulative_lost(lost).interarrival_jitter(345)
        };
        let report = ReceiverReport::builder(1)
            .add_report_block(block(2, 99))
            .add_report_block(block(0xcafe_f00d, 67))
            .add_report_block(block(0xcafe_f00d, 0xff_ffff));
        let heard = reports(&bytes(Compound::builder().add_packet(report)), 0xcafe_f00d).unwrap();
        let first = Heard { fraction_lost: 12, lost: 67, jitter: 345 };
        assert_eq!(heard, [first, Heard { lost: 0, ..first }], "-1 is none");
        assert_eq!(reports(b"", 1), None);
        assert_eq!(reports(b"\x80\xc9\x00\x01", 1), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(mut bytes in proptest::collection::vec(any::<u8>(), 0..128), kind in 192u8..210) {
            let _ = reports(&bytes, 1);
            if let [first, second, ..] = &mut bytes[..] {
                (*first, *second) = (*first & 0x3f | 0x80, kind);
            }
            if bytes.len() >= 4 {
                let words = (bytes.len() / 4 - 1) as u16;
                bytes[2..4].copy_from_slice(&words.to_be_bytes());
                bytes.truncate(4 * (usize::from(words) + 1));
            }
            let _ = reports(&bytes, 1);
        }
    }
}
