//! H.264 (RFC 6184) and H.265 (RFC 7798) in RTP: reassembles access units from packets. We receive these from cameras and
//! publishers, and never send them. Pure; its memory is bounded whatever comes.
//!
//! A packet has one NAL unit, several of them (aggregation), or a piece of one (fragmentation). The type is in the first byte of
//! H.264's header, and in the first two of H.265's:
//!
//! ```text
//! H.264  0 1 2 3 4 5 6 7           H.265  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5
//!       |F|NRI|  type   |                |F|   type    |  layer    | TID |
//! FU    |S|E|R|  type   |          FU    |S|E|   type    |
//! ```

use bytes::Bytes;

/// Most bytes of an access unit: a key picture of 4096x4096 at a high rate has about as many.
const MOST_UNIT: usize = 8 << 20;

/// Before each NAL unit (ITU-T H.264 and H.265, annex B).
const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// A codec whose pictures are NAL units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NalCodec {
    /// ITU-T H.264, AVC.
    H264,
    /// ITU-T H.265, HEVC.
    H265,
}

/// The coded form of one picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessUnit {
    /// The RTP timestamp of its packets.
    pub timestamp: u32,
    /// Its NAL units, with start codes (annex B).
    pub bytes: Bytes,
    /// Whether all its packets came, as far as is known.
    pub whole: bool,
}

/// Why a packet is not of this codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NalPayloadError {
    /// The packet ends within a header or a NAL unit.
    #[error("a packet of H.264 or H.265 breaks off")]
    Truncated,
    /// Interleaved packets (RFC 6184 sections 5.6 and 5.7.2), or a reserved type.
    #[error("packets of NAL type {0} are not supported")]
    Type(u8),
    /// The access unit is too large.
    #[error("a picture has more than {} MB", MOST_UNIT >> 20)]
    TooLong,
}

/// Reassembles access units from packets that come in order.
#[derive(Debug)]
pub struct AccessUnits {
    codec: NalCodec,
    timestamp: Option<u32>,
    unit: Vec<u8>,
    whole: bool,
    /// Whether the last packet had a piece of a NAL unit, and not its last one.
    in_fragment: bool,
}

impl AccessUnits {
    /// Of a stream of this codec.
    pub fn new(codec: NalCodec) -> AccessUnits {
        AccessUnits { codec, timestamp: None, unit: Vec::new(), whole: true, in_fragment: false }
    }

    /// Takes the payload of a packet: `last` tells whether it has the marker bit, `lost` whether packets before it are missing.
    /// Returns the access units that it completes, none to two: one without a marker ends with the next one's first packet.
    ///
    /// # Errors
    /// The packet is wrong. It is dropped, and its access unit is not whole.
    pub fn push(
        &mut self,
        payload: &[u8],
        timestamp: u32,
        last: bool,
        lost: bool,
    ) -> Result<Vec<AccessUnit>, NalPayloadError> {
        let mut done = Vec::new();
        if self.timestamp.is_some_and(|before| before != timestamp) {
            done.extend(self.take());
        }
        self.timestamp = Some(timestamp);
        if lost {
            self.whole = false;
            self.end_fragment();
        }
        let taken = self.take_payload(payload);
        if taken.is_err() {
            self.whole = false;
        }
        if last {
            done.extend(self.take());
        }
        taken.map(|()| done)
    }

    /// The access unit so far; `None` if it has no NAL unit.
    fn take(&mut self) -> Option<AccessUnit> {
        self.end_fragment();
        let bytes = std::mem::take(&mut self.unit);
        let whole = std::mem::replace(&mut self.whole, true);
        let timestamp = self.timestamp.take()?;
        (!bytes.is_empty()).then(|| AccessUnit { timestamp, bytes: bytes.into(), whole })
    }

    fn end_fragment(&mut self) {
        if std::mem::take(&mut self.in_fragment) {
            self.whole = false;
        }
    }

    fn take_payload(&mut self, payload: &[u8]) -> Result<(), NalPayloadError> {
        let (&first, rest) = payload.split_first().ok_or(NalPayloadError::Truncated)?;
        match self.codec {
            NalCodec::H264 => match first & 0x1f {
                1..=23 => self.add(&[], payload),
                24 => self.add_all(rest),
                28 => {
                    let (&head, piece) = rest.split_first().ok_or(NalPayloadError::Truncated)?;
                    self.add_piece(head, &[first & 0xe0 | head & 0x1f], piece)
                }
                other => Err(NalPayloadError::Type(other)),
            },
            NalCodec::H265 => {
                let (&second, rest) = rest.split_first().ok_or(NalPayloadError::Truncated)?;
                match first >> 1 & 0x3f {
                    0..=47 => self.add(&[], payload),
                    48 => self.add_all(rest),
                    49 => {
                        let (&head, piece) = rest.split_first().ok_or(NalPayloadError::Truncated)?;
                        self.add_piece(head, &[first & 0x81 | (head & 0x3f) << 1, second], piece)
                    }
                    other => Err(NalPayloadError::Type(other)),
                }
            }
        }
    }

    /// Several NAL units, each behind its length.
    fn add_all(&mut self, mut rest: &[u8]) -> Result<(), NalPayloadError> {
        while let Some((&length, behind)) = rest.split_first_chunk() {
            let length = usize::from(u16::from_be_bytes(length));
            let (unit, behind) = behind.split_at_checked(length).ok_or(NalPayloadError::Truncated)?;
            self.add(&[], unit)?;
            rest = behind;
        }
        Ok(())
    }

    /// A piece of a NAL unit that has this header: the first piece if bit 7 of `head` is set, the last if bit 6 is.
    fn add_piece(&mut self, head: u8, header: &[u8], piece: &[u8]) -> Result<(), NalPayloadError> {
        if head & 0x80 != 0 {
            self.end_fragment();
            self.add(header, piece)?;
            self.in_fragment = true;
        } else if self.in_fragment {
            self.append(piece)?;
        } else {
            // Its beginning is missing.
            self.whole = false;
        }
        if head & 0x40 != 0 {
            self.in_fragment = false;
        }
        Ok(())
    }

    /// A NAL unit, or its beginning.
    fn add(&mut self, header: &[u8], unit: &[u8]) -> Result<(), NalPayloadError> {
        if unit.is_empty() && header.is_empty() {
            return Ok(());
        }
        self.append(&START_CODE)?;
        self.append(header)?;
        self.append(unit)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), NalPayloadError> {
        if self.unit.len() + bytes.len() > MOST_UNIT {
            return Err(NalPayloadError::TooLong);
        }
        self.unit.extend_from_slice(bytes);
        Ok(())
    }
}

/// NAL units with start codes, as decoders take parameter sets.
pub fn annex_b<'a>(units: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    units.into_iter().flat_map(|unit| [&START_CODE, unit].concat()).collect()
}

/// Whether an access unit can be decoded without those before it: whether it has a NAL unit that says so.
pub fn is_key(codec: NalCodec, unit: &[u8]) -> bool {
    let starts = unit.windows(START_CODE.len() + 1).filter(|bytes| bytes.starts_with(&START_CODE));
    let mut headers = starts.map(|bytes| bytes[START_CODE.len()]);
    headers.any(|header| match codec {
        NalCodec::H264 => header & 0x1f == 5,
        NalCodec::H265 => (16..=23).contains(&(header >> 1 & 0x3f)),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The access units of packets, each with its timestamp and marker.
    fn units(codec: NalCodec, packets: &[(&[u8], u32, bool)]) -> Vec<(u32, Vec<u8>, bool)> {
        let mut units = AccessUnits::new(codec);
        let push = |(payload, timestamp, last): &(&[u8], u32, bool)| {
            units.push(payload, *timestamp, *last, false).unwrap()
        };
        let done = packets.iter().flat_map(push);
        done.map(|unit| (unit.timestamp, unit.bytes.to_vec(), unit.whole)).collect()
    }

    #[test]
    fn single_aggregated_and_fragmented_units_are_put_together() {
        // SPS and PPS in one packet (STAP-A), then an IDR slice in three pieces (FU-A), then a slice in one packet.
        let packets: [(&[u8], u32, bool); 5] = [
            (&[0x78, 0, 2, 0x67, 1, 0, 3, 0x68, 2, 3], 7, false),
            (&[0x7c, 0x85, 10, 11], 7, false),
            (&[0x7c, 0x05, 12], 7, false),
            (&[0x7c, 0x45, 13], 7, true),
            (&[0x41, 20], 8, true),
        ];
        let first =
            [&[0, 0, 0, 1, 0x67, 1][..], &[0, 0, 0, 1, 0x68, 2, 3], &[0, 0, 0, 1, 0x65, 10, 11, 12, 13]];
        let expected = [(7, first.concat(), true), (8, vec![0, 0, 0, 1, 0x41, 20], true)];
        assert_eq!(units(NalCodec::H264, &packets), expected);
        assert!(is_key(NalCodec::H264, &expected[0].1) && !is_key(NalCodec::H264, &expected[1].1));

        // VPS and SPS in one packet (AP), then an IDR slice (type 19) in two pieces (FU).
        let packets: [(&[u8], u32, bool); 3] = [
            (&[0x60, 1, 0, 3, 0x40, 1, 9, 0, 3, 0x42, 1, 8], 7, false),
            (&[0x62, 1, 0x80 | 19, 10], 7, false),
            (&[0x62, 1, 0x40 | 19, 11], 7, true),
        ];
        let expected =
            [&[0, 0, 0, 1, 0x40, 1, 9][..], &[0, 0, 0, 1, 0x42, 1, 8], &[0, 0, 0, 1, 0x26, 1, 10, 11]];
        assert_eq!(units(NalCodec::H265, &packets), [(7, expected.concat(), true)]);
        assert!(is_key(NalCodec::H265, &expected.concat()));
    }

    #[test]
    fn a_unit_without_a_marker_ends_with_the_next_one() {
        let packets: [(&[u8], u32, bool); 3] =
            [(&[0x41, 1], 7, false), (&[0x41, 2], 8, false), (&[0x41, 3], 9, true)];
        let stamps: Vec<u32> = units(NalCodec::H264, &packets).iter().map(|unit| unit.0).collect();
        assert_eq!(stamps, [7, 8, 9]);
    }

    #[test]
    fn a_unit_that_lacks_a_packet_is_not_whole() {
        let mut units = AccessUnits::new(NalCodec::H264);
        assert_eq!(units.push(&[0x7c, 0x85, 1], 7, false, false), Ok(vec![]));
        let unit = units.push(&[0x7c, 0x45, 3], 7, true, true).unwrap().remove(0);
        assert!(!unit.whole);
        let next = units.push(&[0x41, 4], 8, true, false).unwrap().remove(0);
        assert!(next.whole);
        // The end of a fragment is missing.
        assert_eq!(units.push(&[0x7c, 0x85, 1], 9, false, false), Ok(vec![]));
        assert!(!units.push(&[0x41, 1], 10, false, false).unwrap()[0].whole);
    }

    #[test]
    fn wrong_packets_are_refused_and_no_memory_is_lost_to_them() {
        let mut units = AccessUnits::new(NalCodec::H264);
        let mut refused = |payload: &[u8]| units.push(payload, 7, false, false).unwrap_err();
        assert_eq!(refused(&[]), NalPayloadError::Truncated);
        assert_eq!(refused(&[0x7c]), NalPayloadError::Truncated);
        assert_eq!(refused(&[0x78, 0, 9, 1]), NalPayloadError::Truncated);
        assert_eq!(refused(&[0x79, 1]), NalPayloadError::Type(25));
        assert_eq!(refused(&[0x00, 1]), NalPayloadError::Type(0));
        let large = [[0x41].as_slice(), &[1; 60_000]].concat();
        let fault = (0..1000).find_map(|_| units.push(&large, 7, false, false).err());
        assert_eq!(fault, Some(NalPayloadError::TooLong));
        assert!(units.unit.len() <= MOST_UNIT);
    }

    proptest! {
        #[test]
        fn no_packets_make_it_panic(
            h265: bool,
            packets in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..40), 0u32..3, any::<bool>(), any::<bool>()), 0..30),
        ) {
            let mut units = AccessUnits::new(if h265 { NalCodec::H265 } else { NalCodec::H264 });
            for (payload, timestamp, last, lost) in packets {
                for unit in units.push(&payload, timestamp, last, lost).unwrap_or_default() {
                    prop_assert!(unit.bytes.starts_with(&START_CODE));
                }
            }
        }
    }
}
