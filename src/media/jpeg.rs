//! A coded picture: the parts of a JPEG file that RTP/JPEG (RFC 2435) sends.

use bytes::Bytes;

use super::Size;

/// Longest side in pixels: RFC 2435 sends sides as eight bits, in units of eight pixels.
pub const MAX_SIDE: u16 = 2040;

/// The chroma subsampling: the low bit of the RFC 2435 type (section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chroma {
    /// Type 0: 4:2:2, halved in width.
    Yuv422,
    /// Type 1: 4:2:0, halved in width and height.
    Yuv420,
    /// No colour planes. RFC 2435 has no type for it: received from others, never sent.
    Grey,
}

/// The quantization tables of a picture, in zigzag order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tables {
    /// The standard tables, scaled for this quality, 1..=99. Not sent.
    Standard(u8),
    /// Other tables, luma then chroma. Sent with the picture.
    InBand(Box<[[u8; 64]; 2]>),
}

impl Tables {
    /// The standard tables for quality `q`; `None` outside 1..=99.
    pub fn standard(q: u8) -> Option<Tables> {
        (1..=99).contains(&q).then_some(Tables::Standard(q))
    }

    /// Tables that are sent with the picture.
    pub fn in_band(luma: [u8; 64], chroma: [u8; 64]) -> Tables {
        Tables::InBand(Box::new([luma, chroma]))
    }

    /// Both tables, luma then chroma. The standard ones are scaled as in RFC 2435 appendix A and in libjpeg.
    pub fn pair(&self) -> [[u8; 64]; 2] {
        match self {
            Tables::InBand(pair) => **pair,
            Tables::Standard(q) => {
                let q = u32::from(*q);
                let percent = if q < 50 { 5000 / q } else { 200 - 2 * q };
                STANDARD_TABLES.map(|table| {
                    table.map(|value| ((u32::from(value) * percent + 50) / 100).clamp(1, 255) as u8)
                })
            }
        }
    }
}

/// A coded picture: the parts of a JPEG file that RTP/JPEG sends, from which the file can be written again
/// ([`to_jfif`](Jpeg::to_jfif)). Cheap to clone: the scan is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jpeg {
    /// Both sides are multiples of 8, 8..=2040.
    pub size: Size,
    /// The chroma subsampling.
    pub chroma: Chroma,
    /// The quantization tables.
    pub tables: Tables,
    /// Blocks (MCUs) between restart markers, never zero; `None` if there are no markers.
    pub restart_interval: Option<u16>,
    /// The entropy-coded data, restart markers included, without EOI.
    pub scan: Bytes,
}

/// The luma and chroma tables of ITU-T T.81 annex K.1, in zigzag order, as they are sent.
#[rustfmt::skip]
const STANDARD_TABLES: [[u8; 64]; 2] = [[
    16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40,
    26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51, 61, 60, 57, 51,
    56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87,
    95, 98, 103, 104, 103, 62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99,
], [
    17, 18, 18, 24, 21, 24, 47, 26, 26, 47, 99, 66, 56, 66, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
]];

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn jpeg(scan: Vec<u8>) -> Jpeg {
        Jpeg {
            size: Size { width: 640, height: 368 },
            chroma: Chroma::Yuv420,
            tables: Tables::Standard(80),
            restart_interval: None,
            scan: scan.into(),
        }
    }
}
