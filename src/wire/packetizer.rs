//! Access units to the packets of one RTP stream. Pure: the sender on air and the simulated networks of the tests both use it.

use std::time::Duration;

use super::payload::jpeg::{Fragment, MAX_HEADERS, TABLES_LEN};
use super::rtp;
use super::signature::PAYLOAD_TYPE_CARD;
use crate::media::jpeg::Jpeg;
use crate::media::{LINEAR_SAMPLE, Payload, SOUND_CLOCK, Unit};

/// The time of the samples in a packet of L16. Ethernet carries it without fragments, and it takes a fifth of the packets that the 1 ms
/// of AES67 would take.
pub(super) const LINEAR_PTIME: Duration = Duration::from_millis(5);

/// Most bytes of samples in a packet of L16.
const LINEAR_PACKET: usize = SOUND_CLOCK as usize / 1000 * LINEAR_PTIME.as_millis() as usize * LINEAR_SAMPLE;

/// Cuts access units into the packets of one RTP stream, and numbers the packets.
#[derive(Debug, Clone)]
pub struct Packetizer {
    ssrc: u32,
    /// The sequence number of the next packet.
    sequence: u16,
    /// Most bytes of UDP payload in a packet.
    datagram: usize,
    /// Most bytes of samples in a packet of L16.
    linear: usize,
}

/// A packet in three pieces, so that neither tables nor scan are ever copied.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    headers: [u8; MAX_HEADERS],
    /// How many bytes of `headers` the packet has.
    length: usize,
    /// The quantization tables; empty in most packets.
    pub tables: &'a [u8],
    /// The piece of the access unit that follows the headers.
    pub payload: &'a [u8],
}

impl Default for Packet<'_> {
    fn default() -> Self {
        Packet { headers: [0; MAX_HEADERS], length: 0, tables: &[], payload: &[] }
    }
}

impl<'a> Packet<'a> {
    /// A packet without a header of its payload format.
    fn with_header(header: rtp::Header, payload: &'a [u8]) -> Packet<'a> {
        let mut headers = [0; MAX_HEADERS];
        if let Some(rtp_part) = headers.first_chunk_mut() {
            header.emit(rtp_part);
        }
        Packet { headers, length: rtp::HEADER_LEN, tables: &[], payload }
    }

    /// The RTP header and the header of the payload format.
    pub fn header(&self) -> &[u8] {
        &self.headers[..self.length]
    }

    /// The packet in one piece: the UDP payload.
    pub fn to_vec(&self) -> Vec<u8> {
        self.to_vec_with_room(0)
    }

    /// The packet in one piece, in a vector that has room for `more` bytes behind it.
    pub fn to_vec_with_room(&self, more: usize) -> Vec<u8> {
        let pieces = [self.header(), self.tables, self.payload];
        let mut bytes = Vec::with_capacity(pieces.iter().map(|piece| piece.len()).sum::<usize>() + more);
        pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
        bytes
    }
}

impl Packetizer {
    /// A stream of `ssrc` whose first packet is numbered `sequence`, in packets of at most `datagram` bytes of UDP payload.
    ///
    /// # Panics
    /// If `datagram` leaves no room for payload after the headers. The line-up allows no less than 576.
    pub fn new(ssrc: u32, sequence: u16, datagram: usize) -> Packetizer {
        assert!(
            datagram > MAX_HEADERS + TABLES_LEN,
            "a datagram of {datagram} bytes has no room behind the headers"
        );
        let linear = LINEAR_PACKET.min((datagram - rtp::HEADER_LEN) / LINEAR_SAMPLE * LINEAR_SAMPLE);
        Packetizer { ssrc, sequence, datagram, linear }
    }

    /// A stream in a connection, whose packets have up to `datagram` bytes: a unit of sound is never cut, since no network would
    /// fragment it.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn in_connection(ssrc: u32, sequence: u16, datagram: usize) -> Packetizer {
        let linear = (datagram - rtp::HEADER_LEN) / LINEAR_SAMPLE * LINEAR_SAMPLE;
        Packetizer { linear, ..Packetizer::new(ssrc, sequence, datagram) }
    }

    /// The SSRC of the stream.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The sequence number of the next packet.
    pub fn sequence(&self) -> u16 {
        self.sequence
    }

    /// Most bytes of UDP payload in a packet.
    pub fn datagram(&self) -> usize {
        self.datagram
    }

    /// Limits packets to `datagram` bytes of UDP payload, from the next access unit on.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn set_datagram(&mut self, datagram: usize) {
        *self = Packetizer::new(self.ssrc, self.sequence, datagram);
    }

    /// Number of packets of an access unit, at least one.
    pub fn count(&self, unit: &Unit) -> usize {
        match &unit.payload {
            Payload::Jpeg(jpeg) => jpeg.fragments(self.datagram).len(),
            // A packet of Opus is never cut (RFC 7587 section 4.2).
            Payload::Opus(_) => 1,
            Payload::L16(samples) => samples.len().div_ceil(self.linear).max(1),
        }
    }

    /// The time of the samples in a packet of L16, the last one of a unit perhaps excepted.
    pub fn linear_time(&self) -> Duration {
        let samples = (self.linear / LINEAR_SAMPLE) as u64;
        Duration::from_nanos(samples * 1_000_000_000 / u64::from(SOUND_CLOCK))
    }

    /// At most `most` packets of `unit`, from index `from` on. Each packet that the iterator yields takes the next sequence
    /// number, so calls for one access unit must come with rising `from`. Allocates nothing, since it runs on the air thread.
    pub fn packets<'u>(
        &mut self,
        unit: &'u Unit,
        from: usize,
        most: usize,
    ) -> impl Iterator<Item = Packet<'u>> + use<'u, '_> {
        let (jpeg, opus, samples) = match &unit.payload {
            Payload::Jpeg(jpeg) => (Some(jpeg), None, None),
            Payload::Opus(packet) => (None, Some(packet), None),
            Payload::L16(samples) => (None, None, Some(samples)),
        };
        let Packetizer { datagram, linear, .. } = *self;
        let fragments = jpeg.into_iter().flat_map(move |jpeg| {
            jpeg.fragments(datagram).map(move |fragment| Piece::Jpeg((jpeg, fragment)))
        });
        let samples =
            samples.into_iter().flat_map(move |samples| samples.chunks(linear).enumerate().map(Piece::L16));
        let pieces = fragments.chain(opus.map(|packet| Piece::Opus(packet))).chain(samples);
        let timestamp = unit.rtp_timestamp();
        pieces.skip(from).take(most).map(move |piece| {
            let header = rtp::Header {
                marker: matches!(piece, Piece::Jpeg((_, fragment)) if fragment.last),
                payload_type: match piece {
                    Piece::Jpeg(_) => rtp::PAYLOAD_TYPE_JPEG,
                    Piece::Opus(_) => rtp::PAYLOAD_TYPE_OPUS,
                    Piece::L16(_) => rtp::PAYLOAD_TYPE_L16,
                },
                sequence: self.sequence,
                timestamp: match piece {
                    Piece::Jpeg(_) | Piece::Opus(_) => timestamp,
                    Piece::L16((n, _)) => timestamp.wrapping_add((n * linear / LINEAR_SAMPLE) as u32),
                },
                ssrc: self.ssrc,
            };
            self.sequence = self.sequence.wrapping_add(1);
            match piece {
                Piece::Jpeg((jpeg, fragment)) => {
                    let (headers, length) = jpeg.packet_header(header, fragment).into_parts();
                    let (tables, payload) =
                        (jpeg.tables_of(fragment), &jpeg.scan[fragment.start..fragment.end]);
                    Packet { headers, length, tables, payload }
                }
                Piece::Opus(content) | Piece::L16((_, content)) => Packet::with_header(header, content),
            }
        })
    }

    /// The card of a signed picture, in a stream of cards: the next packet of it. `None` if `unit` has none. Allocates nothing.
    pub fn card<'u>(&mut self, unit: &'u Unit) -> Option<Packet<'u>> {
        let payload = unit.card.as_ref()?;
        let header = rtp::Header {
            marker: false,
            payload_type: PAYLOAD_TYPE_CARD,
            sequence: self.sequence,
            timestamp: unit.rtp_timestamp(),
            ssrc: self.ssrc,
        };
        self.skip(1);
        Some(Packet::with_header(header, payload))
    }

    /// Takes the sequence numbers of `packets` packets that are not sent, so that receivers see the gap.
    pub fn skip(&mut self, packets: usize) {
        self.sequence = self.sequence.wrapping_add(packets as u16);
    }
}

/// What a packet carries.
enum Piece<'a> {
    Jpeg((&'a Jpeg, Fragment)),
    Opus(&'a [u8]),
    /// The number of the packet in its unit, and its samples.
    L16((usize, &'a [u8])),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::media::{AirTime, Due};
    use crate::wire::payload::jpeg::Depacketizer;

    fn unit(bytes: usize) -> Unit {
        let scan: Vec<u8> = (0..bytes).map(|at| (at * 31) as u8).collect();
        let due = Due { at: AirTime(1_790_000_000_000_000_000), interval: Duration::from_millis(40) };
        Unit::picture(due, crate::media::jpeg::tests::jpeg(scan))
    }

    #[test]
    fn an_access_unit_cut_in_bursts_is_whole_and_numbered_across_the_wrap() {
        for bytes in [0, 1, 556, 557, 9999] {
            let unit = unit(bytes);
            let mut packetizer = Packetizer::new(0xfeed, 65_534, 576);
            let mut depacketizer = Depacketizer::default();
            let count = packetizer.count(&unit);
            let (mut whole, mut numbers) = (None, Vec::new());
            for burst in 0..count.div_ceil(4) {
                for packet in packetizer.packets(&unit, burst * 4, 4) {
                    let packet = packet.to_vec();
                    assert!(packet.len() <= 576);
                    let (header, payload) = rtp::Header::parse(&packet).unwrap();
                    assert_eq!((header.ssrc, header.timestamp), (0xfeed, unit.rtp_timestamp()));
                    assert!(whole.is_none(), "the marker is on the last packet alone");
                    whole = depacketizer.push(&header, payload).unwrap();
                    numbers.push(header.sequence);
                }
            }
            assert_eq!(whole.as_ref(), unit.jpeg());
            let expected: Vec<u16> = (0..count as u16).map(|n| 65_534u16.wrapping_add(n)).collect();
            assert_eq!(numbers, expected);
            assert_eq!(packetizer.sequence(), 65_534u16.wrapping_add(count as u16));
        }
    }

    #[test]
    fn linear_sound_is_cut_into_whole_samples_each_packet_with_its_own_timestamp() {
        let bytes: Vec<u8> = (0..3840u32).map(|at| (at / 4) as u8).collect();
        let due = Due { at: AirTime(1_790_000_000_000_000_000), interval: Duration::from_millis(20) };
        let unit = Unit::linear(due, bytes.clone().into());
        // On loopback, on Ethernet, and with the shortest datagrams: (576 - 12) / 4 samples. In a connection a unit is not cut.
        for (mut packetizer, samples) in [
            (Packetizer::new(7, 65_534, 65_507), 240),
            (Packetizer::new(7, 65_534, 1472), 240),
            (Packetizer::new(7, 65_534, 576), 141),
            (Packetizer::in_connection(7, 65_534, 65_507), 960),
        ] {
            let count = packetizer.count(&unit);
            assert_eq!(count, 960usize.div_ceil(samples));
            let packets: Vec<_> = (0..count)
                .flat_map(|n| {
                    packetizer.packets(&unit, n, 1).map(|packet| packet.to_vec()).collect::<Vec<_>>()
                })
                .collect();
            let mut whole: Vec<u8> = Vec::new();
            for (n, packet) in packets.iter().enumerate() {
                let (header, payload) = rtp::Header::parse(packet).unwrap();
                assert_eq!((header.payload_type, header.marker), (98, false));
                assert_eq!(header.sequence, 65_534u16.wrapping_add(n as u16));
                let timestamp = unit.rtp_timestamp().wrapping_add((n * samples) as u32);
                assert_eq!(header.timestamp, timestamp, "packet {n} of {samples} samples");
                whole.extend(payload);
            }
            assert_eq!(whole, bytes);
        }
        assert_eq!(Packetizer::new(7, 0, 1472).linear_time(), Duration::from_millis(5));
    }

    #[test]
    fn a_card_is_numbered_in_a_stream_of_its_own() {
        let mut unit = unit(5000);
        let mut packetizer = Packetizer::new(1, 65_535, 1000);
        assert!(packetizer.card(&unit).is_none());
        unit.card = Some(vec![1, 2, 3].into());
        for sequence in [65_535, 0] {
            let packet = packetizer.card(&unit).unwrap().to_vec();
            let (header, payload) = rtp::Header::parse(&packet).unwrap();
            assert_eq!((header.payload_type, header.marker, payload), (99, false, &[1, 2, 3][..]));
            assert_eq!((header.sequence, header.timestamp), (sequence, unit.rtp_timestamp()));
        }
    }

    #[test]
    fn packets_that_are_given_up_take_sequence_numbers() {
        let unit = unit(5000);
        let mut packetizer = Packetizer::new(1, 7, 1000);
        let count = packetizer.count(&unit);
        assert_eq!(packetizer.packets(&unit, 0, 2).count(), 2);
        packetizer.skip(count - 2);
        assert_eq!(packetizer.sequence(), 7 + count as u16);
    }
}
