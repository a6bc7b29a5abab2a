//! The RTP header (RFC 3550 section 5.1), and the one place where its 16- and 32-bit counters are
//! unwrapped into 64 bits.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |V=2|P|X|  CC   |M|     PT      |       sequence number         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                           timestamp                           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |           synchronization source (SSRC) identifier            |
//! +=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+=+
//! ```

use crate::media::{AirTime, RTP_CLOCK, SoundCodec};

/// Length of the headers that we send, in bytes: they have no CSRC list and no extension.
pub const HEADER_LEN: usize = 12;

/// The static payload type of JPEG video (RFC 3551 table 5).
pub const PAYLOAD_TYPE_JPEG: u8 = 26;

/// The dynamic payload type of sound that SDP says to be Opus (RFC 7587).
pub const PAYLOAD_TYPE_OPUS: u8 = 97;

/// The dynamic payload type of sound that SDP says to be L16 at 48 kHz. The static types of L16 are of 44.1 kHz (RFC 3551 table 4).
pub const PAYLOAD_TYPE_L16: u8 = 98;

/// The payload type of our sound, by codec.
pub const fn sound_payload_type(codec: SoundCodec) -> u8 {
    match codec {
        SoundCodec::Opus => PAYLOAD_TYPE_OPUS,
        SoundCodec::L16 => PAYLOAD_TYPE_L16,
    }
}

/// The fields of an RTP header that have a meaning beyond its layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Set in the last packet of an access unit of video (RFC 3551 section 5).
    pub marker: bool,
    /// The format of the payload, 0..=127.
    pub payload_type: u8,
    /// The number of the packet, modulo 2^16.
    pub sequence: u16,
    /// Time in ticks of the payload's clock, modulo 2^32. All packets of a picture have the same.
    pub timestamp: u32,
    /// Identifies the sender. Random, and new with each run of a sender.
    pub ssrc: u32,
}

/// Why a datagram is not an RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RtpError {
    /// The datagram ends inside the fixed header, the CSRC list or the extension.
    #[error("the datagram ends inside the RTP header")]
    Truncated,
    /// The first two bits are not 2.
    #[error("RTP version {0}, not 2")]
    Version(u8),
    /// The padding bit is set, and the last byte, the length of the padding, is 0 or exceeds the packet.
    #[error("RTP padding does not fit the packet")]
    Padding,
}

impl Header {
    /// Writes the header into the first [`HEADER_LEN`] bytes of a packet.
    pub fn emit(&self, out: &mut [u8; HEADER_LEN]) {
        out[0] = 2 << 6;
        out[1] = u8::from(self.marker) << 7 | self.payload_type & 0x7f;
        out[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        out[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        out[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
    }

    /// Reads a header, and returns it with the payload. CSRC list, header extension and padding are checked and skipped.
    ///
    /// # Errors
    /// The datagram is not a complete RTP version 2 packet.
    pub fn parse(datagram: &[u8]) -> Result<(Header, &[u8]), RtpError> {
        let (header, start) = Header::parse_with_payload_start(datagram)?;
        let mut payload = &datagram[start..];
        if datagram[0] & 0x20 != 0 {
            let padding = usize::from(*payload.last().ok_or(RtpError::Padding)?);
            let kept = payload.len().checked_sub(padding).filter(|_| padding > 0).ok_or(RtpError::Padding)?;
            payload = &payload[..kept];
        }
        Ok((header, payload))
    }

    /// Reads a header, and returns it with the place where the payload begins, in bytes. CSRC list and header extension are checked
    /// and skipped; the padding, which may be encrypted, is left alone.
    ///
    /// # Errors
    /// The datagram ends inside the header, or is not of RTP version 2.
    pub(crate) fn parse_with_payload_start(datagram: &[u8]) -> Result<(Header, usize), RtpError> {
        let (fixed, mut rest) = datagram.split_first_chunk::<HEADER_LEN>().ok_or(RtpError::Truncated)?;
        if fixed[0] >> 6 != 2 {
            return Err(RtpError::Version(fixed[0] >> 6));
        }
        let sources = 4 * usize::from(fixed[0] & 0x0f);
        rest = rest.get(sources..).ok_or(RtpError::Truncated)?;
        if fixed[0] & 0x10 != 0 {
            let (profile_and_words, body) = rest.split_first_chunk::<4>().ok_or(RtpError::Truncated)?;
            let words = u16::from_be_bytes([profile_and_words[2], profile_and_words[3]]);
            rest = body.get(4 * usize::from(words)..).ok_or(RtpError::Truncated)?;
        }
        let [b0, b1] = [fixed[2], fixed[3]];
        let header = Header {
            marker: fixed[1] & 0x80 != 0,
            payload_type: fixed[1] & 0x7f,
            sequence: u16::from_be_bytes([b0, b1]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
        };
        Ok((header, datagram.len() - rest.len()))
    }
}

/// Undoes the wrap of a counter of `BITS` bits: each value becomes the 64-bit number nearest to the previous
/// one. Order is kept through any number of wraps, and for packets that are reordered across one.
#[derive(Debug, Clone, Default)]
pub struct Unwrap<const BITS: u32> {
    last: Option<u64>,
}

impl<const BITS: u32> Unwrap<BITS> {
    const RANGE: u64 = 1 << BITS;

    /// The full value of `counter`. The first one is placed a whole range above zero, so that packets that it has
    /// overtaken still get values above zero.
    pub fn unwrap(&mut self, counter: u32) -> u64 {
        let counter = u64::from(counter) % Self::RANGE;
        let full = match self.last {
            None => Self::RANGE + counter,
            Some(last) => {
                let forward = counter.wrapping_sub(last) % Self::RANGE;
                if forward < Self::RANGE / 2 {
                    last + forward
                } else {
                    // It cannot saturate: going back below zero takes 2^BITS packets that were never sent.
                    (last + forward).saturating_sub(Self::RANGE)
                }
            }
        };
        self.last = Some(full);
        full
    }
}

/// The moment of a timestamp that a station has sent: the inverse of
/// [`AirTime::rtp_timestamp`](crate::media::AirTime::rtp_timestamp), to half a tick, 5.6 us. `near` is any moment within
/// 6.6 hours of it, half of the 13.3 hours in which 2^32 ticks wrap; the result does not depend on which.
pub fn air_time_near(timestamp: u32, near: AirTime) -> AirTime {
    const NANOS: i128 = 1_000_000_000;
    let clock = i128::from(RTP_CLOCK);
    let ticks_late = near.rtp_timestamp().wrapping_sub(timestamp) as i32;
    let ticks = (i128::from(near.0) * clock + NANOS / 2) / NANOS - i128::from(ticks_late);
    AirTime(((ticks * NANOS + clock / 2) / clock).clamp(0, u64::MAX.into()) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOLDEN: [u8; 12] = [0x80, 0x9a, 0x12, 0x34, 0xde, 0xad, 0xbe, 0xef, 0xca, 0xfe, 0xf0, 0x0d];

    fn golden() -> Header {
        Header { marker: true, payload_type: 26, sequence: 0x1234, timestamp: 0xdead_beef, ssrc: 0xcafe_f00d }
    }

    #[test]
    fn golden_bytes_both_ways() {
        let mut out = [0xa5; HEADER_LEN];
        golden().emit(&mut out);
        assert_eq!(out, GOLDEN);
        assert_eq!(Header::parse(&GOLDEN), Ok((golden(), &[][..])));
    }

    #[test]
    fn csrcs_extension_and_padding_are_skipped() {
        // Two CSRCs, an extension of one word, two bytes of payload, three of padding.
        let mut packet = GOLDEN.to_vec();
        packet[0] = 0x80 | 0x20 | 0x10 | 2;
        packet.extend([0x11; 8]);
        packet.extend([0xbe, 0xde, 0, 1, 9, 9, 9, 9]);
        packet.extend([0x77, 0x78, 0, 0, 3]);
        assert_eq!(Header::parse(&packet).unwrap().1, [0x77, 0x78]);
        packet[32] = 6;
        assert_eq!(Header::parse(&packet), Err(RtpError::Padding));
        packet[32] = 0;
        assert_eq!(Header::parse(&packet), Err(RtpError::Padding));
        for cut in 0..28 {
            assert_eq!(Header::parse(&packet[..cut]), Err(RtpError::Truncated), "{cut} bytes");
        }
        assert_eq!(Header::parse(&[0x40; 20]), Err(RtpError::Version(1)));
    }

    #[test]
    fn unwrapped_counters_rise_through_wraps() {
        let mut sequence = Unwrap::<16>::default();
        let mut timestamp = Unwrap::<32>::default();
        let (first_seq, first_ts) = (sequence.unwrap(65_000), timestamp.unwrap(u32::MAX - 10_000));
        for n in 1..400_000u64 {
            assert_eq!(sequence.unwrap(((65_000 + n) % 65_536) as u32), first_seq + n);
            let ts = (u32::MAX - 10_000).wrapping_add((n as u32).wrapping_mul(3003));
            assert_eq!(timestamp.unwrap(ts), first_ts + n * 3003);
        }
    }

    #[test]
    fn a_packet_that_was_overtaken_across_the_wrap_keeps_its_order() {
        let mut sequence = Unwrap::<16>::default();
        let zero = sequence.unwrap(0);
        assert_eq!(sequence.unwrap(65_535), zero - 1);
        assert_eq!(sequence.unwrap(1), zero + 1);
    }

    #[test]
    fn a_timestamp_yields_the_moment_it_was_made_from() {
        let due = AirTime(1_790_000_000_123_456_789);
        for late_ms in [0i64, 3, 40_000, -250, 20_000_000, -20_000_000] {
            let now = AirTime((due.0 as i64 + late_ms * 1_000_000) as u64);
            let found = air_time_near(due.rtp_timestamp(), now);
            assert!(found.signed_since(due).abs() < 5_557, "{late_ms} ms late: {found:?}");
            assert_eq!(found, air_time_near(due.rtp_timestamp(), due), "{late_ms} ms late");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Header::parse(&bytes);
        }

        #[test]
        fn round_trip(marker: bool, payload_type in 0u8..128, sequence: u16, timestamp: u32, ssrc: u32) {
            let header = Header { marker, payload_type, sequence, timestamp, ssrc };
            let mut out = [0xa5; HEADER_LEN];
            header.emit(&mut out);
            prop_assert_eq!(Header::parse(&out).unwrap().0, header);
        }
    }
}
