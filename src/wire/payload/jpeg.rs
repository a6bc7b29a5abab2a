//! RTP/JPEG (RFC 2435): a coded picture as packets. Here are the headers and the cutting; [`Depacketizer`] reassembles.
//!
//! Every packet of a picture starts with the main header, in which only the fragment offset differs:
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
//! We send type 1 with Q 1..=99 only. Other senders may use, and we receive: type 0, restart markers (types
//! 64 and 65), in-band tables (Q 128..=255), and scans of one component, for which RFC 2435 has no type.

mod depacketizer;

use crate::media::Size;
use crate::media::jpeg::{Chroma, Jpeg, Tables};
use crate::media::scan::Sampling;
use crate::wire::{MAX_DATAGRAM, rtp};
pub use depacketizer::Depacketizer;

/// Length of the main header in bytes.
pub const HEADER_LEN: usize = 8;

/// Bytes in front of the scan in each packet that we send.
pub const PACKET_OVERHEAD: usize = rtp::HEADER_LEN + HEADER_LEN;

/// The longest scan, in bytes, that fits one datagram. Every picture of a station does.
pub const MAX_SCAN: usize = MAX_DATAGRAM - PACKET_OVERHEAD;

/// The longest scan that is accepted from a sender, in bytes: 2040x2040 at the highest qualities stays below.
const MAX_RECEIVED_SCAN: usize = 4 << 20;

/// The part of a scan that one packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Offset of its first byte in the scan.
    pub start: usize,
    /// Offset behind its last byte.
    pub end: usize,
    /// Whether it is the picture's last: then its packet has the marker bit.
    pub last: bool,
}

impl Jpeg {
    /// Cuts the scan so that no packet, headers included, is longer than `datagram` bytes. Allocates nothing: the air
    /// thread calls it.
    ///
    /// # Panics
    /// If `datagram` leaves no room behind the headers; the line-up allows nothing under 576.
    pub fn fragments(&self, datagram: usize) -> impl ExactSizeIterator<Item = Fragment> + use<> {
        let room = datagram.min(MAX_DATAGRAM) - PACKET_OVERHEAD;
        assert!(room > 0, "a datagram of {datagram} bytes has no room behind the headers");
        let len = self.scan.len();
        (0..len.max(1)).step_by(room).map(move |start| {
            let end = len.min(start + room);
            Fragment { start, end, last: end == len }
        })
    }

    /// The 20 bytes in front of `fragment`: the RTP header and the main header.
    ///
    /// # Panics
    /// If the picture has in-band tables or restart markers, which need further headers, or no colours. The encoder makes
    /// none of these.
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
            Chroma::Grey => panic!("a scan of one component is received, never sent"),
        };
        jpeg_part[5] = q;
        jpeg_part[6] = (self.size.width / 8) as u8;
        jpeg_part[7] = (self.size.height / 8) as u8;
        packet
    }
}

/// Why a packet's payload is not RTP/JPEG, or does not continue its picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum JpegPayloadError {
    /// The payload ends inside the RTP/JPEG headers.
    #[error("the packet ends inside the RTP/JPEG headers")]
    Truncated,
    /// The type is 2..=63 or 66..=255.
    #[error("RTP/JPEG type {0} is not supported")]
    Type(u8),
    /// The type-specific field is not 0, which means progressive scan. For types 0 and 1, other values are fields of
    /// interlaced video (RFC 2435 section 4.1).
    #[error("RTP/JPEG type-specific {0} (interlaced fields) is not supported")]
    Interlaced(u8),
    /// Q is 0 or 100..=127, which are reserved (RFC 2435 section 4.2).
    #[error("RTP/JPEG Q = {0} is reserved")]
    Q(u8),
    /// Width or height is zero.
    #[error("RTP/JPEG picture with a side of zero pixels")]
    Size,
    /// The quantization tables are missing, or there are not one, two or three of 64 bytes.
    #[error("RTP/JPEG quantization tables of {0} bytes, not of 64, 128 or 192")]
    Tables(u16),
    /// The quantization tables have 16 bits an entry.
    #[error("RTP/JPEG quantization tables of 16 bits are not supported")]
    Precision,
    /// The restart interval is zero.
    #[error("RTP/JPEG restart interval of zero")]
    Restart,
    /// The scan has restart markers, and the type is below 64, so that no header tells their interval.
    #[error("RTP/JPEG type {0} has no restart marker header, but the scan has restart markers")]
    RestartHeader(u8),
    /// The scan has a sampling for which RTP/JPEG has no type.
    #[error("RTP/JPEG type {0} means {said}, but the scan is {is}", said = said(*.0), is = .1.name())]
    Sampling(u8, Sampling),
    /// The fragment does not start where the previous one ended, or its headers differ.
    #[error("RTP/JPEG fragment does not fit its picture")]
    Fragment,
    /// The scan exceeds the limit.
    #[error("RTP/JPEG picture of more than {MAX_RECEIVED_SCAN} bytes")]
    TooLong,
}

/// The colours that a type means (RFC 2435 section 4.1).
fn said(kind: u8) -> &'static str {
    if kind & 1 == 0 { "4:2:2" } else { "4:2:0" }
}

impl JpegPayloadError {
    /// Whether the sender's pictures are of a kind that we cannot show, so that all its pictures will be refused. Other errors
    /// are those of one packet.
    pub fn is_of_the_sender(&self) -> bool {
        match self {
            Self::Type(_) | Self::Interlaced(_) | Self::Q(_) | Self::Tables(_) | Self::Precision => true,
            Self::Restart | Self::RestartHeader(_) | Self::Sampling(..) => true,
            Self::Size | Self::TooLong => true,
            Self::Truncated | Self::Fragment => false,
        }
    }
}

/// Whether a payload is the first of its picture.
pub fn is_first(payload: &[u8]) -> bool {
    payload.get(1..4) == Some(&[0; 3])
}

/// Whether a payload has headers of a picture that we can receive, and a part of its scan.
pub fn has_header(payload: &[u8]) -> bool {
    parse(payload).is_ok_and(|(_, scan)| !scan.is_empty())
}

/// The fields of one packet's headers. Only `offset` and `tables` differ between packets of a picture.
#[derive(Debug, PartialEq, Eq)]
struct Headers<'a> {
    /// The RTP/JPEG type.
    kind: u8,
    q: u8,
    size: Size,
    restart_interval: Option<u16>,
    /// In-band tables: 64, 128 or 192 bytes, only in a first packet.
    tables: Option<&'a [u8]>,
    /// Of the fragment in the scan, in bytes.
    offset: usize,
}

/// Splits a payload into its headers and its part of the scan.
fn parse(payload: &[u8]) -> Result<(Headers<'_>, &[u8]), JpegPayloadError> {
    let (main, mut rest) = payload.split_first_chunk::<HEADER_LEN>().ok_or(JpegPayloadError::Truncated)?;
    let [specific, o2, o1, o0, kind, q, width, height] = *main;
    if !matches!(kind, 0 | 1 | 64 | 65) {
        return Err(JpegPayloadError::Type(kind));
    }
    if specific != 0 {
        return Err(JpegPayloadError::Interlaced(specific));
    }
    if matches!(q, 0 | 100..=127) {
        return Err(JpegPayloadError::Q(q));
    }
    if width == 0 || height == 0 {
        return Err(JpegPayloadError::Size);
    }
    let offset = u32::from_be_bytes([0, o2, o1, o0]) as usize;
    let mut restart_interval = None;
    if kind >= 64 {
        let (restart, behind) = rest.split_first_chunk::<4>().ok_or(JpegPayloadError::Truncated)?;
        let interval = u16::from_be_bytes([restart[0], restart[1]]);
        restart_interval = Some(interval).filter(|&n| n > 0);
        if restart_interval.is_none() {
            return Err(JpegPayloadError::Restart);
        }
        rest = behind;
    }
    let mut tables = None;
    if q >= 128 && offset == 0 {
        let (head, behind) = rest.split_first_chunk::<4>().ok_or(JpegPayloadError::Truncated)?;
        let length = u16::from_be_bytes([head[2], head[3]]);
        if head[1] != 0 {
            return Err(JpegPayloadError::Precision);
        }
        if !matches!(length, 0 | 64 | 128 | 192) {
            return Err(JpegPayloadError::Tables(length));
        }
        let (found, behind) =
            behind.split_at_checked(usize::from(length)).ok_or(JpegPayloadError::Truncated)?;
        tables = Some(found).filter(|t| !t.is_empty());
        rest = behind;
    }
    let size = Size { width: u16::from(width) * 8, height: u16::from(height) * 8 };
    Ok((Headers { kind, q, size, restart_interval, tables, offset }, rest))
}

#[cfg(test)]
mod tests;
