//! The UDP datagrams of a capture file, pcap or pcapng, as tcpdump and Wireshark write them. IP fragments are put together.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, bail};
use etherparse::defrag::IpDefragPool;
use etherparse::{
    EtherType, LaxNetSlice, LaxSlicedPacket, NetSlice, SlicedPacket, TransportSlice, UdpSlice, ip_number,
};
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};

use crate::media::AirTime;
use crate::wire::rtp::Header;

/// Bytes of the buffer: longer than any packet, with the block around it.
const BUFFER: usize = 1 << 20;

/// Interfaces of a pcapng section that are told apart.
const MAX_INTERFACES: usize = 256;

/// A datagram of which some fragments are missing is given up after this many frames with other fragments. Each holds up to 64 KiB.
const MAX_FRAGMENTED: u64 = 256;

/// Destinations whose RTP is counted, to find the stream.
const MAX_FLOWS: usize = 1024;

/// A destination with fewer RTP packets is none: other protocols look like RTP now and then.
const LEAST_RTP: u64 = 10;

/// How the frames of an interface begin, and what their stamps mean.
#[derive(Debug, Clone, Copy)]
struct Link {
    kind: Linktype,
    /// Units of a stamp in a second.
    per_second: u128,
    /// Seconds to be added.
    offset: i64,
}

/// Calls `take` with the arrival, the destination and the payload of each UDP datagram of a file; it returns whether to go on. A
/// payload that was cut off when it was captured is filled up with zeros.
///
/// # Errors
/// The file cannot be read, is not a capture, is damaged, or its link layer is not known.
pub fn read(path: &Path, mut take: impl FnMut(AirTime, SocketAddr, &[u8]) -> bool) -> anyhow::Result<()> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
    let mut reader = match create_reader(BUFFER, file) {
        Ok(reader) => reader,
        Err(PcapError::ReadError) => bail!("cannot read {name}"),
        Err(_) => bail!("{name} is not a capture (pcap or pcapng)"),
    };
    let mut links: Vec<Link> = Vec::new();
    let mut frames = Frames::default();
    loop {
        let is_exhausted = reader.reader_exhausted();
        let used = match reader.next() {
            Ok((used, block)) => {
                let frame = match &block {
                    PcapBlockOwned::LegacyHeader(header) => {
                        let nanos = header.is_nanosecond_precision();
                        let per_second = if nanos { 1_000_000_000 } else { 1_000_000 };
                        links = vec![Link { kind: header.network, per_second, offset: 0 }];
                        None
                    }
                    PcapBlockOwned::Legacy(block) => links.first().map(|link| {
                        let stamp = u128::from(block.ts_sec) * link.per_second + u128::from(block.ts_usec);
                        let length = (block.caplen as usize).min(block.data.len());
                        (*link, stamp, &block.data[..length])
                    }),
                    PcapBlockOwned::NG(Block::SectionHeader(_)) => {
                        links.clear();
                        None
                    }
                    PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                        if links.len() == MAX_INTERFACES {
                            bail!("{name} has more than {MAX_INTERFACES} interfaces");
                        }
                        let power = u32::from(interface.if_tsresol & 0x7f);
                        let base: u128 = if interface.if_tsresol & 0x80 == 0 { 10 } else { 2 };
                        let per_second =
                            base.checked_pow(power).with_context(|| format!("{name} is damaged"))?;
                        links.push(Link {
                            kind: interface.linktype,
                            per_second,
                            offset: interface.if_tsoffset,
                        });
                        None
                    }
                    PcapBlockOwned::NG(Block::EnhancedPacket(block)) => {
                        links.get(block.if_id as usize).map(|link| {
                            let stamp = u128::from(block.ts_high) << 32 | u128::from(block.ts_low);
                            let length = (block.caplen as usize).min(block.data.len());
                            (*link, stamp, &block.data[..length])
                        })
                    }
                    PcapBlockOwned::NG(_) => None,
                };
                if let Some((link, stamp, frame)) = frame
                    && let Some((to, payload)) = frames.datagram(link.kind, frame)?
                    && !take(link.time(stamp), to, &payload)
                {
                    return Ok(());
                }
                used
            }
            Err(PcapError::Eof) => return Ok(()),
            Err(PcapError::Incomplete(_)) if is_exhausted => {
                // A capture that was interrupted ends within a packet.
                return Ok(());
            }
            Err(PcapError::Incomplete(_)) => {
                reader.refill().map_err(|_| anyhow::anyhow!("cannot read {name}"))?;
                continue;
            }
            Err(PcapError::UnexpectedEof) => return Ok(()),
            Err(_) => bail!("{name} is damaged"),
        };
        reader.consume(used);
    }
}

impl Link {
    fn time(&self, stamp: u128) -> AirTime {
        let nanos = stamp.saturating_mul(1_000_000_000) / self.per_second.max(1);
        let nanos = i128::try_from(nanos)
            .unwrap_or(i128::MAX)
            .saturating_add(i128::from(self.offset) * 1_000_000_000);
        AirTime(nanos.clamp(0, u64::MAX.into()) as u64)
    }
}

/// Frames become datagrams.
#[derive(Default)]
struct Frames {
    fragments: IpDefragPool<u64, ()>,
    /// Frames with fragments so far.
    fragmented: u64,
}

/// Where the IP packet of a frame begins.
enum Inside<'a> {
    Ethernet(&'a [u8]),
    EtherType(EtherType, &'a [u8]),
    Ip(&'a [u8]),
}

impl Inside<'_> {
    fn of(kind: Linktype, frame: &[u8]) -> anyhow::Result<Option<Inside<'_>>> {
        let ether_type = |at: usize, begins: usize| {
            let bytes = frame.get(at..at + 2)?.try_into().ok()?;
            Some(Inside::EtherType(EtherType(u16::from_be_bytes(bytes)), frame.get(begins..)?))
        };
        Ok(match kind {
            Linktype::ETHERNET => Some(Inside::Ethernet(frame)),
            Linktype::LINUX_SLL => ether_type(14, 16),
            Linktype::LINUX_SLL2 => ether_type(0, 20),
            Linktype::RAW | Linktype::IPV4 | Linktype::IPV6 | Linktype(12) => Some(Inside::Ip(frame)),
            Linktype::NULL | Linktype::LOOP => frame.get(4..).map(Inside::Ip),
            Linktype(other) => bail!("the link layer of the capture, number {other}, is not known"),
        })
    }
}

impl Frames {
    /// The datagram that a frame completes.
    fn datagram(&mut self, kind: Linktype, frame: &[u8]) -> anyhow::Result<Option<(SocketAddr, Vec<u8>)>> {
        let Some(inside) = Inside::of(kind, frame)? else { return Ok(None) };
        let packet = match inside {
            Inside::Ethernet(bytes) => LaxSlicedPacket::from_ethernet(bytes).ok(),
            Inside::EtherType(kind, bytes) => Some(LaxSlicedPacket::from_ether_type(kind, bytes)),
            Inside::Ip(bytes) => LaxSlicedPacket::from_ip(bytes).ok(),
        };
        let Some(packet) = packet else { return Ok(None) };
        let (to, is_fragment): (IpAddr, bool) = match &packet.net {
            Some(LaxNetSlice::Ipv4(ip)) => {
                (ip.header().destination_addr().into(), ip.is_payload_fragmented())
            }
            Some(LaxNetSlice::Ipv6(ip)) => {
                (ip.header().destination_addr().into(), ip.is_payload_fragmented())
            }
            _ => return Ok(None),
        };
        if is_fragment {
            return Ok(self.defragment(&inside));
        }
        let Some(TransportSlice::Udp(udp)) = &packet.transport else { return Ok(None) };
        let mut payload = udp.payload().to_vec();
        payload.resize(usize::from(udp.length()).saturating_sub(8).max(payload.len()), 0);
        Ok(Some((SocketAddr::new(to, udp.destination_port()), payload)))
    }

    /// The datagram that a fragment completes. One that was cut off is left out.
    fn defragment(&mut self, inside: &Inside<'_>) -> Option<(SocketAddr, Vec<u8>)> {
        let packet = match *inside {
            Inside::Ethernet(bytes) => SlicedPacket::from_ethernet(bytes).ok()?,
            Inside::EtherType(kind, bytes) => SlicedPacket::from_ether_type(kind, bytes).ok()?,
            Inside::Ip(bytes) => SlicedPacket::from_ip(bytes).ok()?,
        };
        self.fragmented += 1;
        let now = self.fragmented;
        if now.is_multiple_of(MAX_FRAGMENTED) {
            self.fragments.retain(|begun| now - begun < MAX_FRAGMENTED);
        }
        let whole = self.fragments.process_sliced_packet(&packet, now, ()).ok()??;
        let to: IpAddr = match &packet.net {
            Some(NetSlice::Ipv4(ip)) => ip.header().destination_addr().into(),
            Some(NetSlice::Ipv6(ip)) => ip.header().destination_addr().into(),
            _ => return None,
        };
        let udp =
            (whole.ip_number == ip_number::UDP).then(|| UdpSlice::from_slice(&whole.payload).ok())??;
        Some((SocketAddr::new(to, udp.destination_port()), udp.payload().to_vec()))
    }
}

/// The only destination to which a file has an RTP stream.
///
/// # Errors
/// There is none, or there are several; the sentence names them. Or as [`read`].
pub fn only_stream(path: &Path) -> anyhow::Result<SocketAddr> {
    let mut flows: BTreeMap<SocketAddr, u64> = BTreeMap::new();
    read(path, |_, to, payload| {
        // RTCP looks like RTP of the types 72 to 76 (RFC 5761 section 4).
        let is_rtp =
            Header::parse(payload).is_ok_and(|(header, _)| !(72..=76).contains(&header.payload_type));
        if is_rtp && (flows.len() < MAX_FLOWS || flows.contains_key(&to)) {
            *flows.entry(to).or_default() += 1;
        }
        true
    })?;
    flows.retain(|_, packets| *packets >= LEAST_RTP);
    let mut streams: Vec<(SocketAddr, u64)> = flows.into_iter().collect();
    streams.sort_by_key(|(_, packets)| std::cmp::Reverse(*packets));
    match &streams[..] {
        [] => bail!("{} has no RTP stream", path.display()),
        [(only, _)] => Ok(*only),
        several => {
            let list: Vec<String> =
                several.iter().take(8).map(|(to, packets)| format!("\n  {to}  {packets} packets")).collect();
            bail!("{} has several RTP streams; choose one with --rtp:{}", path.display(), list.concat())
        }
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{IpFragOffset, Ipv4Header, PacketBuilder};
    use proptest::prelude::*;

    use super::*;

    const GROUP: &str = "239.77.0.2:5004";

    /// A pcap file of these frames, a millisecond apart, in microseconds or nanoseconds.
    fn pcap(link: u32, nanos: bool, frames: &[Vec<u8>]) -> Vec<u8> {
        let magic: u32 = if nanos { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
        let mut file = Vec::new();
        for word in [magic, 4 << 16 | 2, 0, 0, 65_535, link] {
            file.extend(word.to_le_bytes());
        }
        for (n, frame) in frames.iter().enumerate() {
            let fraction = n as u32 * if nanos { 1_000_000 } else { 1000 };
            for word in [1_790_000_000, fraction, frame.len() as u32, frame.len() as u32] {
                file.extend(word.to_le_bytes());
            }
            file.extend(frame);
        }
        file
    }

    fn rtp(sequence: u16, length: usize) -> Vec<u8> {
        let mut packet = [0; crate::wire::rtp::HEADER_LEN];
        Header { marker: true, payload_type: 26, sequence, timestamp: 1, ssrc: 1 }.emit(&mut packet);
        let mut packet = packet.to_vec();
        packet.resize(length, 7);
        packet
    }

    fn ethernet(payload: &[u8], port: u16) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2; 6], [1, 0, 0x5e, 77, 0, 2]);
        let builder = builder.ipv4([192, 0, 2, 7], [239, 77, 0, 2], 1).udp(40_000, port);
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).unwrap();
        frame
    }

    fn all(file: &[u8]) -> anyhow::Result<Vec<(AirTime, SocketAddr, Vec<u8>)>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.pcap");
        std::fs::write(&path, file).unwrap();
        let mut found = Vec::new();
        read(&path, |at, to, payload| {
            found.push((at, to, payload.to_vec()));
            true
        })?;
        Ok(found)
    }

    #[test]
    fn datagrams_have_their_time_destination_and_length() {
        let frames = [ethernet(&rtp(1, 100), 5004), ethernet(&rtp(2, 100), 5004)];
        for nanos in [false, true] {
            let found = all(&pcap(1, nanos, &frames)).unwrap();
            assert_eq!(found.len(), 2);
            assert_eq!(found[1].0, AirTime(1_790_000_000_001_000_000));
            assert_eq!((found[1].1.to_string(), &found[1].2), (GROUP.into(), &rtp(2, 100)));
        }
        // Without Ethernet, and as `tcpdump -i any` writes it.
        let ip = frames[0][14..].to_vec();
        assert_eq!(all(&pcap(101, false, std::slice::from_ref(&ip))).unwrap()[0].2, rtp(1, 100));
        let cooked = [&[0u8, 4, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0, 8, 0][..], &ip].concat();
        assert_eq!(all(&pcap(113, false, &[cooked])).unwrap()[0].2, rtp(1, 100));
        let cooked = [&[8u8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 4, 6, 2, 2, 2, 2, 2, 2, 0, 0][..], &ip].concat();
        assert_eq!(all(&pcap(276, false, &[cooked])).unwrap()[0].2, rtp(1, 100));
        // The rest of it was not captured.
        let cut = frames[0][..60].to_vec();
        let found = all(&pcap(1, false, &[cut])).unwrap();
        assert_eq!((found[0].2.len(), &found[0].2[..12]), (100, &rtp(1, 12)[..]));
    }

    #[test]
    fn fragments_are_put_together_and_the_memory_for_them_is_bounded() {
        let whole = ethernet(&rtp(1, 3000), 5004)[34..].to_vec();
        let fragment = |id: u16, at: usize, length: usize, more| {
            let payload = &whole[at..at + length];
            let mut header =
                Ipv4Header::new(length as u16, 1, ip_number::UDP, [192, 0, 2, 7], [239, 77, 0, 2]).unwrap();
            header.identification = id;
            (header.dont_fragment, header.more_fragments) = (false, more);
            header.fragment_offset = IpFragOffset::try_new(at as u16 / 8).unwrap();
            let mut frame = Vec::new();
            header.write(&mut frame).unwrap();
            [frame, payload.to_vec()].concat()
        };
        let rest = whole.len() - 2960;
        let mut frames =
            vec![fragment(1, 1480, 1480, true), fragment(1, 0, 1480, true), fragment(1, 2960, rest, false)];
        let found = all(&pcap(101, false, &frames)).unwrap();
        assert_eq!((found.len(), found[0].1.to_string(), &found[0].2), (1, GROUP.into(), &rtp(1, 3000)));
        // Fragments whose other ones never come.
        frames = (0..10_000).map(|id| fragment(id, 1480, 1480, true)).collect();
        frames.push(fragment(0, 0, 1480, true));
        frames.push(fragment(0, 2960, rest, false));
        assert_eq!(all(&pcap(101, false, &frames)).unwrap(), vec![], "the first one was given up");
    }

    #[test]
    fn the_only_stream_is_found_and_several_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.pcap");
        let stream = |port: u16, packets: u16| (0..packets).map(move |n| ethernet(&rtp(n, 50), port));
        let write = |frames: Vec<Vec<u8>>| std::fs::write(&path, pcap(1, false, &frames)).unwrap();
        write(stream(5004, 20).chain(stream(9000, 3)).collect());
        assert_eq!(only_stream(&path).unwrap().to_string(), GROUP);
        write(stream(5004, 20).chain(stream(5006, 30)).collect());
        let list = "choose one with --rtp:\n  239.77.0.2:5006  30 packets\n  239.77.0.2:5004  20 packets";
        let said = only_stream(&path).unwrap_err().to_string();
        assert!(said.ends_with(list), "{said}");
        write(stream(5004, 2).collect());
        assert!(only_stream(&path).unwrap_err().to_string().ends_with("has no RTP stream"));
    }

    #[test]
    fn a_file_that_is_no_capture_is_refused() {
        let said = |file: &[u8]| all(file).unwrap_err().to_string();
        for file in [&b""[..], b"v=0\r\n", &[0; 100]] {
            assert!(said(file).ends_with("is not a capture (pcap or pcapng)"), "{}", said(file));
        }
        let unknown = pcap(105, false, &[vec![0; 60]]);
        assert_eq!(said(&unknown), "the link layer of the capture, number 105, is not known");
        // A capture that was interrupted.
        let file = pcap(1, false, &[ethernet(&rtp(1, 100), 5004), ethernet(&rtp(2, 100), 5004)]);
        assert_eq!(all(&file[..file.len() - 5]).unwrap().len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_bytes_make_it_panic(link in prop::sample::select(vec![0u32, 1, 12, 101, 108, 113, 228, 276]), frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..8), rubbish in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = all(&pcap(link, false, &frames));
            let _ = all(&rubbish);
            // A section and an interface of pcapng, and rubbish.
            let mut file = b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a\x01\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\x1c\0\0\0".to_vec();
            file.extend(b"\x01\0\0\0\x14\0\0\0\x01\0\0\0\0\0\0\0\x14\0\0\0");
            file.extend(&rubbish);
            let _ = all(&file);
        }
    }
}
