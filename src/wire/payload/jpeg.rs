//! RTP/JPEG (RFC 2435): one coded picture, cut into packets and put together again.
//!
//! Every packet of a picture starts with the main header; only the fragment offset differs:
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! | Type-specific |              Fragment Offset                  |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |      Type     |       Q       |     Width     |     Height    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! We send type 1 with Q 1..=99 and nothing else. We receive what other senders may add: type 0,
//! restart markers (types 64 and 65), tables in band (Q 128..=255).

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::media::Size;
use crate::media::jpeg::{Chroma, Jpeg, Tables};
use crate::wire::{MAX_DATAGRAM, rtp};

/// Bytes of the main header.
pub const HEADER_LEN: usize = 8;

/// Bytes in front of the scan in each packet we send.
pub const PACKET_OVERHEAD: usize = rtp::HEADER_LEN + HEADER_LEN;

/// The longest scan with which a whole picture still is one datagram. Every picture of a station fits.
pub const MAX_SCAN: usize = MAX_DATAGRAM - PACKET_OVERHEAD;

/// The longest scan accepted from a sender: 2040x2040 at the highest qualities stays below.
const MAX_RECEIVED_SCAN: usize = 4 << 20;

/// The part of a scan that one packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Where in the scan it starts.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// It is the last: its packet has the marker bit.
    pub last: bool,
}

impl Jpeg {
    /// Cuts the scan so that no packet, headers included, is longer than `datagram` bytes of UDP payload.
    /// Allocates nothing: it is called on the air thread.
    ///
    /// # Panics
    /// If `datagram` leaves no room behind the headers; the line-up allows nothing under 576.
    pub fn fragments(&self, datagram: usize) -> impl Iterator<Item = Fragment> + use<> {
        let room = datagram.min(MAX_DATAGRAM) - PACKET_OVERHEAD;
        assert!(room > 0, "a datagram of {datagram} bytes has no room behind the headers");
        let len = self.scan.len();
        (0..len.max(1)).step_by(room).map(move |start| {
            let end = len.min(start + room);
            Fragment { start, end, last: end == len }
        })
    }

    /// The 20 bytes in front of `fragment`.
    ///
    /// # Panics
    /// If the tables are not standard or there are restart markers: the encoder makes neither, and
    /// they would need more than the main header.
    pub fn packet_header(&self, rtp: rtp::Header, fragment: Fragment) -> [u8; PACKET_OVERHEAD] {
        let Tables::Standard(q) = self.tables else { panic!("in-band tables are received, never sent") };
        assert_eq!(self.restart_interval, None, "restart markers are received, never sent");
        let mut packet = [0; PACKET_OVERHEAD];
        let (rtp_part, jpeg_part) = packet.split_at_mut(rtp::HEADER_LEN);
        rtp.emit(rtp_part.try_into().expect("split at its length"));
        let [_, offset @ ..] = (fragment.start as u32).to_be_bytes(); // 24 bits: a scan is under 65,536
        jpeg_part[1..4].copy_from_slice(&offset);
        jpeg_part[4] = match self.chroma {
            Chroma::Yuv422 => 0,
            Chroma::Yuv420 => 1,
        };
        jpeg_part[5] = q;
        jpeg_part[6] = (self.size.width / 8) as u8;
        jpeg_part[7] = (self.size.height / 8) as u8;
        packet
    }
}

/// Why a packet's payload is not a piece of RTP/JPEG that fits what came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The payload ends inside its headers.
    #[error("the packet ends inside the RTP/JPEG headers")]
    Truncated,
    /// Types 2..=63 and 66..=255.
    #[error("RTP/JPEG type {0} is not supported")]
    Type(u8),
    /// Any type-specific value but 0 (progressive scan): of types 0 and 1, the fields of interlaced video (RFC 2435
    /// section 4.1).
    #[error("RTP/JPEG type-specific {0} (interlaced fields) is not supported")]
    Interlaced(u8),
    /// Q = 0 and 100..=127 are reserved (RFC 2435 section 4.2).
    #[error("RTP/JPEG Q = {0} is reserved")]
    Q(u8),
    /// A side of zero.
    #[error("RTP/JPEG with a side of zero pixels")]
    Size,
    /// Tables that are missing, or not 128 bytes.
    #[error("RTP/JPEG quantization tables of {0} bytes")]
    Tables(u16),
    /// Tables of 16 bits.
    #[error("RTP/JPEG quantization tables of 16 bits are not supported")]
    Precision,
    /// A restart interval of zero.
    #[error("RTP/JPEG restart interval of zero")]
    Restart,
    /// The fragment does not start where the one before ended, or says another picture.
    #[error("RTP/JPEG fragment that does not fit its picture")]
    Fragment,
    /// The scan is longer than any picture's.
    #[error("RTP/JPEG picture of more than {MAX_RECEIVED_SCAN} bytes")]
    TooLong,
}

/// What the headers of one packet say; equal for all packets of a picture but for the offset.
#[derive(Debug, PartialEq, Eq)]
struct Headers<'a> {
    kind: u8,
    q: u8,
    size: Size,
    restart_interval: Option<u16>,
    tables: Option<&'a [u8]>,
    offset: usize,
}

fn parse(payload: &[u8]) -> Result<(Headers<'_>, &[u8]), Error> {
    let (main, mut rest) = payload.split_first_chunk::<HEADER_LEN>().ok_or(Error::Truncated)?;
    let [specific, o2, o1, o0, kind, q, width, height] = *main;
    if !matches!(kind, 0 | 1 | 64 | 65) {
        return Err(Error::Type(kind));
    }
    if specific != 0 {
        return Err(Error::Interlaced(specific));
    }
    if matches!(q, 0 | 100..=127) {
        return Err(Error::Q(q));
    }
    if width == 0 || height == 0 {
        return Err(Error::Size);
    }
    let offset = u32::from_be_bytes([0, o2, o1, o0]) as usize;
    let mut restart_interval = None;
    if kind >= 64 {
        let (restart, behind) = rest.split_first_chunk::<4>().ok_or(Error::Truncated)?;
        let interval = u16::from_be_bytes([restart[0], restart[1]]);
        restart_interval = Some(interval).filter(|&n| n > 0);
        if restart_interval.is_none() {
            return Err(Error::Restart);
        }
        rest = behind;
    }
    let mut tables = None;
    if q >= 128 && offset == 0 {
        let (head, behind) = rest.split_first_chunk::<4>().ok_or(Error::Truncated)?;
        let length = u16::from_be_bytes([head[2], head[3]]);
        if head[1] != 0 {
            return Err(Error::Precision);
        }
        if !matches!(length, 0 | 128) {
            return Err(Error::Tables(length));
        }
        let (found, behind) = behind.split_at_checked(usize::from(length)).ok_or(Error::Truncated)?;
        tables = Some(found).filter(|t| !t.is_empty());
        rest = behind;
    }
    let size = Size { width: u16::from(width) * 8, height: u16::from(height) * 8 };
    Ok((Headers { kind, q, size, restart_interval, tables, offset }, rest))
}

/// Puts pictures together from packets that come in order. Whoever feeds it says where packets are
/// missing ([`gap`](Depacketizer::gap)); a picture with a hole in it is never handed out.
#[derive(Debug, Default)]
pub struct Depacketizer {
    assembling: Option<Assembling>,
    /// The timestamp whose remaining packets are of no use any more.
    abandoned: Option<u32>,
    /// Tables that stay valid for their Q (128..=254, so at most 127) until others come: RFC 2435 section 4.2.
    kept: BTreeMap<u8, Tables>,
    broken: u64,
}

#[derive(Debug)]
struct Assembling {
    timestamp: u32,
    kind: u8,
    q: u8,
    jpeg: Jpeg,
    scan: Vec<u8>,
}

impl Depacketizer {
    /// Takes the next packet. Returns the picture that it completes.
    ///
    /// # Errors
    /// A payload that is no RTP/JPEG or does not continue the picture. The picture it
    /// belongs to is given up, and counted; the next one starts afresh.
    pub fn push(&mut self, header: &rtp::Header, payload: &[u8]) -> Result<Option<Jpeg>, Error> {
        if self.assembling.as_ref().is_some_and(|a| a.timestamp != header.timestamp) {
            // Its last packet had no marker.
            self.give_up();
        }
        match self.add(header, payload) {
            Ok(jpeg) => Ok(jpeg),
            Err(error) => {
                self.abandon(header.timestamp);
                Err(error)
            }
        }
    }

    /// Says that packets are missing before the next one: what has begun cannot be finished.
    pub fn gap(&mut self) {
        self.give_up();
    }

    /// How many pictures had begun and were given up.
    pub fn broken(&self) -> u64 {
        self.broken
    }

    fn give_up(&mut self) {
        if let Some(assembling) = self.assembling.take() {
            self.broken += 1;
            self.abandoned = Some(assembling.timestamp);
        }
    }

    fn abandon(&mut self, timestamp: u32) {
        self.assembling = None;
        if self.abandoned != Some(timestamp) {
            self.abandoned = Some(timestamp);
            self.broken += 1;
        }
    }

    fn add(&mut self, header: &rtp::Header, payload: &[u8]) -> Result<Option<Jpeg>, Error> {
        let (says, data) = parse(payload)?;
        if says.offset == 0 {
            // A second beginning under one timestamp replaces the first.
            self.give_up();
            self.abandoned = None;
            self.assembling = Some(Assembling {
                timestamp: header.timestamp,
                kind: says.kind,
                q: says.q,
                jpeg: Jpeg {
                    size: says.size,
                    chroma: if says.kind & 1 == 0 { Chroma::Yuv422 } else { Chroma::Yuv420 },
                    tables: self.tables(&says)?,
                    restart_interval: says.restart_interval,
                    scan: Bytes::new(),
                },
                scan: Vec::with_capacity(data.len()),
            });
        }
        let Some(assembling) = &mut self.assembling else {
            // The rest of a picture whose beginning is lost: counted once.
            self.abandon(header.timestamp);
            return Ok(None);
        };
        let fits = says.offset == assembling.scan.len()
            && says.kind == assembling.kind
            && says.q == assembling.q
            && says.size == assembling.jpeg.size
            && says.restart_interval == assembling.jpeg.restart_interval;
        if !fits {
            return Err(Error::Fragment);
        }
        if assembling.scan.len() + data.len() > MAX_RECEIVED_SCAN {
            return Err(Error::TooLong);
        }
        assembling.scan.extend_from_slice(data);
        if !header.marker {
            return Ok(None);
        }
        Ok(self.assembling.take().map(|done| Jpeg { scan: done.scan.into(), ..done.jpeg }))
    }

    fn tables(&mut self, says: &Headers<'_>) -> Result<Tables, Error> {
        if let Some(standard) = Tables::standard(says.q) {
            return Ok(standard);
        }
        let Some((luma, chroma)) = says.tables.and_then(|bytes| bytes.split_first_chunk::<64>()) else {
            return self.kept.get(&says.q).cloned().ok_or(Error::Tables(0));
        };
        let tables = Tables::in_band(*luma, chroma.try_into().map_err(|_| Error::Truncated)?);
        if says.q != 255 {
            self.kept.insert(says.q, tables.clone());
        }
        Ok(tables)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::jpeg::tests::jpeg;

    fn header(timestamp: u32, marker: bool) -> rtp::Header {
        rtp::Header { marker, payload_type: 26, sequence: 7, timestamp, ssrc: 0x0102_0304 }
    }

    fn packets(jpeg: &Jpeg, datagram: usize, timestamp: u32) -> Vec<(rtp::Header, Vec<u8>)> {
        jpeg.fragments(datagram)
            .map(|fragment| {
                let rtp = header(timestamp, fragment.last);
                let mut packet = jpeg.packet_header(rtp, fragment).to_vec();
                packet.extend_from_slice(&jpeg.scan[fragment.start..fragment.end]);
                assert!(packet.len() <= datagram);
                let (rtp, payload) = rtp::Header::parse(&packet).unwrap();
                (rtp, payload.to_vec())
            })
            .collect()
    }

    #[test]
    fn golden_packet_both_ways() {
        #[rustfmt::skip]
        let golden = [
            0x80, 0x9a, 0x00, 0x07, 0x00, 0x00, 0x0e, 0x10, 0x01, 0x02, 0x03, 0x04, // RTP
            0x00, 0x00, 0x00, 0x00, 0x01, 0x50, 0x50, 0x2e, // offset 0, type 1, Q 80, 80 x 46 eights
            0xaa, 0xbb, 0xcc,
        ];
        let jpeg = jpeg(vec![0xaa, 0xbb, 0xcc]);
        let fragments: Vec<_> = jpeg.fragments(576).collect();
        assert_eq!(fragments, [Fragment { start: 0, end: 3, last: true }]);
        let mut packet = jpeg.packet_header(header(3600, true), fragments[0]).to_vec();
        packet.extend_from_slice(&jpeg.scan);
        assert_eq!(packet, golden);
        let (rtp, payload) = rtp::Header::parse(&golden).unwrap();
        assert_eq!(Depacketizer::default().push(&rtp, payload), Ok(Some(jpeg)));
    }

    #[test]
    fn the_offset_is_24_bits_big_endian() {
        let jpeg = jpeg(vec![1; 2000]);
        let second = jpeg.fragments(1472).nth(1).unwrap();
        assert_eq!(second, Fragment { start: 1452, end: 2000, last: true });
        assert_eq!(jpeg.packet_header(header(0, true), second)[13..16], [0x00, 0x05, 0xac]);
    }

    #[test]
    fn a_picture_with_a_hole_is_never_handed_out() {
        let jpeg = jpeg((0..=255).cycle().take(5000).collect());
        for lost in 0..4 {
            let mut depacketizer = Depacketizer::default();
            for (n, (rtp, payload)) in packets(&jpeg, 1472, 1).iter().enumerate() {
                if n == lost {
                    depacketizer.gap();
                } else {
                    assert_eq!(depacketizer.push(rtp, payload), Ok(None), "without packet {lost}, at {n}");
                }
            }
            let (rtp, payload) = &packets(&jpeg, 65_507, 2)[0];
            assert_eq!(depacketizer.push(rtp, payload), Ok(Some(jpeg.clone())), "the next one is whole");
            assert_eq!(depacketizer.broken(), 1);
        }
    }

    #[test]
    fn fragments_that_lie_are_refused() {
        let jpeg = jpeg(vec![9; 3000]);
        let all = packets(&jpeg, 1472, 1);
        // Byte of the payload to change, its new value.
        for (at, value) in [(3, 0x11), (4, 0), (5, 81), (6, 79), (7, 47)] {
            let mut depacketizer = Depacketizer::default();
            assert_eq!(depacketizer.push(&all[0].0, &all[0].1), Ok(None));
            let mut wrong = all[1].1.clone();
            wrong[at] = value;
            assert_eq!(depacketizer.push(&all[1].0, &wrong), Err(Error::Fragment), "byte {at}");
            assert_eq!(depacketizer.push(&all[2].0, &all[2].1), Ok(None), "the rest is of no use");
            assert_eq!(depacketizer.broken(), 1);
        }
        for (at, value, error) in [
            (0, 1, Error::Interlaced(1)),
            (4, 2, Error::Type(2)),
            (5, 0, Error::Q(0)),
            (5, 100, Error::Q(100)),
            (6, 0, Error::Size),
            (7, 0, Error::Size),
        ] {
            let mut wrong = all[0].1.clone();
            wrong[at] = value;
            assert_eq!(Depacketizer::default().push(&all[0].0, &wrong), Err(error), "byte {at} = {value}");
        }
    }

    #[test]
    fn in_band_tables_and_restart_markers_of_other_senders() {
        let mut first = vec![0, 0, 0, 0, 65, 200, 2, 2, 0, 4, 0xff, 0xff, 0, 0, 0, 128];
        first.extend([5; 64]);
        first.extend([6; 64]);
        first.extend([0xda, 0xda]);
        let mut depacketizer = Depacketizer::default();
        let jpeg = depacketizer.push(&header(1, true), &first).unwrap().unwrap();
        assert_eq!(jpeg.tables, Tables::in_band([5; 64], [6; 64]));
        assert_eq!(jpeg.restart_interval, Some(4));
        assert_eq!(jpeg.scan[..], [0xda, 0xda]);
        for cut in 0..first.len() - 2 {
            assert_eq!(
                Depacketizer::default().push(&header(1, true), &first[..cut]),
                Err(Error::Truncated),
                "{cut} bytes"
            );
        }
        for (at, value, error) in [(13, 1, Error::Precision), (15, 64, Error::Tables(64))] {
            let mut wrong = first.clone();
            wrong[at] = value;
            assert_eq!(Depacketizer::default().push(&header(1, true), &wrong), Err(error), "byte {at}");
        }
        // The same Q without tables means the same tables, whatever other Q came in between; a Q of which none came
        // has none, nor has 255, ever.
        let bare = |q| [0, 0, 0, 0, 65, q, 2, 2, 0, 4, 0xff, 0xff, 0, 0, 0, 0, 1];
        let mut tables =
            |payload: &[u8]| depacketizer.push(&header(2, true), payload).map(|jpeg| jpeg.unwrap().tables);
        assert_eq!(tables(&bare(200)), Ok(jpeg.tables.clone()));
        assert_eq!(tables(&bare(201)), Err(Error::Tables(0)));
        for (q, value) in [(201, 7), (255, 8)] {
            let mut other = first.clone();
            other[5] = q;
            other[16..144].fill(value);
            assert_eq!(tables(&other), Ok(Tables::in_band([value; 64], [value; 64])));
        }
        assert_eq!(tables(&bare(200)), Ok(jpeg.tables));
        assert_eq!(tables(&bare(201)), Ok(Tables::in_band([7; 64], [7; 64])));
        assert_eq!(tables(&bare(255)), Err(Error::Tables(0)));
    }

    #[test]
    fn a_scan_without_end_is_cut_off() {
        let mut depacketizer = Depacketizer::default();
        let mut sent = 0usize;
        let refused = loop {
            let mut payload = vec![0; HEADER_LEN + 60_000];
            payload[1..4].copy_from_slice(&(sent as u32).to_be_bytes()[1..]);
            payload[4..8].copy_from_slice(&[1, 80, 80, 46]);
            sent += 60_000;
            if let Err(error) = depacketizer.push(&header(1, false), &payload) {
                break error;
            }
            assert!(sent < 2 * MAX_RECEIVED_SCAN);
        };
        assert_eq!(refused, Error::TooLong);
    }

    proptest! {
        #[test]
        fn round_trip_for_any_picture_and_datagram(
            scan in proptest::collection::vec(any::<u8>(), 0..=20_000),
            datagram in 576usize..=65_507,
            q in 1u8..=99,
            (w, h) in (1u16..=255, 1u16..=255),
        ) {
            let jpeg = Jpeg {
                size: Size { width: w * 8, height: h * 8 },
                tables: Tables::Standard(q),
                ..jpeg(scan)
            };
            let mut depacketizer = Depacketizer::default();
            let mut got = None;
            for (rtp, payload) in packets(&jpeg, datagram, 42) {
                prop_assert!(got.is_none());
                got = depacketizer.push(&rtp, &payload).unwrap();
            }
            prop_assert_eq!(got, Some(jpeg));
        }

        #[test]
        fn any_bytes_are_answered(
            payloads in proptest::collection::vec((any::<bool>(), 0u32..3, proptest::collection::vec(any::<u8>(), 0..200)), 0..8)
        ) {
            let mut depacketizer = Depacketizer::default();
            for (marker, timestamp, payload) in payloads {
                if let Ok(Some(jpeg)) = depacketizer.push(&header(timestamp, marker), &payload) {
                    prop_assert!(jpeg.to_jfif().len() < 2000);
                }
            }
        }
    }
}
