//! AAC in RTP (RFC 3640, `mpeg4-generic`): the frames in a packet. We receive it from cameras and publishers, and never send it.
//! Pure; its memory is bounded whatever comes.
//!
//! ```text
//! +---------+-----------+-----------+---------+-----------+-----------+
//! | length  | AU header | AU header | padding | frame or  |  frame    |
//! | in bits |     0     |     1     |         | its piece |           |
//! +---------+-----------+-----------+---------+-----------+-----------+
//! ```

use bytes::{Bytes, BytesMut};

/// Samples of a frame, in each channel. Encoders of low delay, which have other frames, are not sent by cameras.
pub const AAC_FRAME: u32 = 1024;

/// Most bytes of a frame: 768 bytes for each of 48 channels (ISO/IEC 14496-3).
const MOST_FRAME: usize = 64 << 10;

/// How the headers of frames are written: their fields' lengths in bits (RFC 3640 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AacFormat {
    /// Of the size of a frame: 13 in the mode AAC-hbr, 6 in AAC-lbr.
    pub size_length: u32,
    /// Of the index of the first frame.
    pub index_length: u32,
    /// Of the index of the others.
    pub index_delta_length: u32,
}

impl AacFormat {
    /// The mode AAC-hbr (RFC 3640 section 3.3.6), which nearly all senders have.
    pub const HIGH_RATE: AacFormat = AacFormat { size_length: 13, index_length: 3, index_delta_length: 3 };
}

/// Why a packet is no AAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AacPayloadError {
    /// The packet ends within its headers or a frame.
    #[error("a packet of AAC breaks off")]
    Truncated,
    /// The frames are interleaved (RFC 3640 section 3.2.3.2).
    #[error("interleaved frames of AAC are not supported")]
    Interleaved,
    /// A frame is too large.
    #[error("a frame of AAC has more than {} kB", MOST_FRAME >> 10)]
    TooLong,
}

/// Reassembles frames from packets that come in order.
#[derive(Debug)]
pub struct AacFrames {
    format: AacFormat,
    /// The beginning of a frame that takes several packets, its timestamp, and its size.
    part: Option<(BytesMut, u32, usize)>,
}

impl AacFrames {
    /// Of a stream of this format.
    pub fn new(format: AacFormat) -> AacFrames {
        AacFrames { format, part: None }
    }

    /// Takes the payload of a packet. Returns the frames that it completes; each is [`AAC_FRAME`] samples after the one before.
    ///
    /// # Errors
    /// The packet is wrong, and dropped.
    pub fn push(&mut self, payload: &[u8], timestamp: u32) -> Result<Vec<Bytes>, AacPayloadError> {
        let (&bits, rest) = payload.split_first_chunk().ok_or(AacPayloadError::Truncated)?;
        let bits = usize::from(u16::from_be_bytes(bits));
        let (headers, mut data) =
            rest.split_at_checked(bits.div_ceil(8)).ok_or(AacPayloadError::Truncated)?;
        let mut reader = Bits { bytes: headers, at: 0, end: bits };
        let mut frames = Vec::new();
        let part = self.part.take().filter(|(_, began, _)| *began == timestamp);
        let mut index_length = self.format.index_length;
        while let Some(size) = reader.read(self.format.size_length) {
            let index = reader.read(index_length).ok_or(AacPayloadError::Truncated)?;
            index_length = self.format.index_delta_length;
            if index != 0 {
                return Err(AacPayloadError::Interleaved);
            }
            if size > MOST_FRAME {
                return Err(AacPayloadError::TooLong);
            }
            if let Some((frame, rest)) = data.split_at_checked(size).filter(|_| part.is_none()) {
                frames.push(Bytes::copy_from_slice(frame));
                data = rest;
                continue;
            }
            // A frame in several packets, each with the size of the whole. It is alone in them (RFC 3640 section 3.2.3.1).
            let (mut bytes, _, whole) = part.unwrap_or_else(|| (BytesMut::new(), timestamp, size));
            if whole != size || bytes.len() + data.len() > size {
                return Err(AacPayloadError::Truncated);
            }
            bytes.extend_from_slice(data);
            if bytes.len() == size {
                frames.push(bytes.freeze());
            } else {
                self.part = Some((bytes, timestamp, size));
            }
            break;
        }
        Ok(frames)
    }
}

/// The bits of the headers.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl Bits<'_> {
    /// The next bits as a number, `count` up to 32; `None` at the end, and if `count` is 0 and all bits are read.
    fn read(&mut self, count: u32) -> Option<usize> {
        let count = count as usize;
        if self.at + count > self.end || self.at >= self.end && count > 0 {
            return None;
        }
        let bit = |at: usize| usize::from(self.bytes[at / 8] >> (7 - at % 8) & 1);
        let value = (self.at..self.at + count).fold(0, |value, at| value << 1 | bit(at));
        self.at += count;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hbr(sizes: &[u16], data: &[u8]) -> Vec<u8> {
        let headers = sizes.iter().flat_map(|size| (size << 3).to_be_bytes());
        (16 * sizes.len() as u16)
            .to_be_bytes()
            .into_iter()
            .chain(headers)
            .chain(data.iter().copied())
            .collect()
    }

    #[test]
    fn frames_are_cut_and_put_together() {
        let mut frames = AacFrames::new(AacFormat::HIGH_RATE);
        assert_eq!(frames.push(&hbr(&[2, 3], &[1, 2, 3, 4, 5]), 0).unwrap(), [&[1, 2][..], &[3, 4, 5]]);
        // A frame in two packets; then one whose end is missing.
        assert!(frames.push(&hbr(&[4], &[1, 2, 3]), 7).unwrap().is_empty());
        assert_eq!(frames.push(&hbr(&[4], &[4]), 7).unwrap(), [&[1, 2, 3, 4][..]]);
        assert!(frames.push(&hbr(&[4], &[1, 2, 3]), 8).unwrap().is_empty());
        assert_eq!(frames.push(&hbr(&[1], &[9]), 9).unwrap(), [&[9][..]]);
        let low = AacFormat { size_length: 6, index_length: 2, index_delta_length: 2 };
        assert_eq!(AacFrames::new(low).push(&[0, 8, 2 << 2, 7, 8], 0).unwrap(), [&[7, 8][..]]);
    }

    #[test]
    fn wrong_packets_are_refused() {
        let mut frames = AacFrames::new(AacFormat::HIGH_RATE);
        assert_eq!(frames.push(&[], 0), Err(AacPayloadError::Truncated));
        assert_eq!(frames.push(&[0, 16, 1], 0), Err(AacPayloadError::Truncated));
        assert_eq!(frames.push(&[0, 16, 0, 1 << 3 | 1, 5], 0), Err(AacPayloadError::Interleaved));
    }

    proptest! {
        #[test]
        fn no_packets_make_it_panic(
            size_length in 1u32..=16, index_length in 0u32..=8, index_delta_length in 0u32..=8,
            packets in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..60), 0u32..2), 0..20),
        ) {
            let mut frames = AacFrames::new(AacFormat { size_length, index_length, index_delta_length });
            for (payload, timestamp) in packets {
                let _ = frames.push(&payload, timestamp);
                prop_assert!(frames.part.as_ref().is_none_or(|(bytes, ..)| bytes.len() <= MOST_FRAME));
            }
        }
    }
}
