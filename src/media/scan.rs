//! The shape of an entropy-coded scan (ITU-T T.81 annex F.2): which components its blocks are of. RTP/JPEG sends scans
//! without their headers, so a receiver has only the sender's word for it. Pure.

use super::Size;
use super::jfif::STANDARD_HUFFMAN;
use super::jpeg::Chroma;

/// The components of a scan, and how they are interleaved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampling {
    /// Luma, and two colour planes that are halved in width.
    Yuv422,
    /// Luma, and two colour planes that are halved in width and height.
    Yuv420,
    /// Three planes of full size, 4:4:4.
    Full,
    /// Luma alone.
    Grey,
}

impl Sampling {
    /// That of a picture with these colours.
    pub fn of(chroma: Chroma) -> Sampling {
        match chroma {
            Chroma::Yuv422 => Sampling::Yuv422,
            Chroma::Yuv420 => Sampling::Yuv420,
            Chroma::Grey => Sampling::Grey,
        }
    }

    /// Width and height of a minimum coded unit in pixels, and its blocks of luma and of colour.
    fn unit(self) -> (u16, u16, usize, usize) {
        match self {
            Sampling::Yuv422 => (16, 8, 2, 2),
            Sampling::Yuv420 => (16, 16, 4, 2),
            Sampling::Full => (8, 8, 1, 2),
            Sampling::Grey => (8, 8, 1, 0),
        }
    }
}

/// Whether a scan has restart markers.
pub fn has_restart_markers(scan: &[u8]) -> bool {
    scan.windows(2).any(|bytes| bytes[0] == 0xff && matches!(bytes[1], 0xd0..=0xd7))
}

/// Whether a scan, with the standard Huffman tables, holds exactly the blocks of a picture of that size and sampling. By
/// chance this is never so for a real picture of another sampling: the number of blocks and every code must fit.
pub fn fits(scan: &[u8], size: Size, restart_interval: Option<u16>, sampling: Sampling) -> bool {
    walk(scan, size, restart_interval, sampling).is_some()
}

fn walk(scan: &[u8], size: Size, restart_interval: Option<u16>, sampling: Sampling) -> Option<()> {
    let [luma_dc, luma_ac, colour_dc, colour_ac] =
        STANDARD_HUFFMAN.map(|(_, counts, symbols)| Codes::new(counts, symbols));
    let (width, height, luma, colour) = sampling.unit();
    let units = u32::from(size.width.div_ceil(width)) * u32::from(size.height.div_ceil(height));
    let mut bits = Bits { scan, at: 0, held: 0, count: 0 };
    for unit in 0..units {
        if let Some(interval) = restart_interval
            && unit > 0
            && unit % u32::from(interval) == 0
        {
            bits.restart()?;
        }
        for _ in 0..luma {
            block(&mut bits, &luma_dc, &luma_ac)?;
        }
        for _ in 0..colour {
            block(&mut bits, &colour_dc, &colour_ac)?;
        }
    }
    bits.ends().then_some(())
}

/// Walks over one block.
fn block(bits: &mut Bits<'_>, dc: &Codes, ac: &Codes) -> Option<()> {
    let size = dc.next(bits)?;
    bits.skip(size.into())?;
    let mut at = 1;
    while at < 64 {
        let (run, size) = match ac.next(bits)? {
            0x00 => break, // end of block
            0xf0 => (16, 0),
            symbol => (usize::from(symbol >> 4) + 1, symbol & 0x0f),
        };
        at += run;
        bits.skip(size.into())?;
    }
    (at <= 64).then_some(())
}

/// The codes of a Huffman table, by length (T.81 annex F.2.2.3).
struct Codes {
    /// For each length: the first code, and the first symbol and the number of symbols of that length.
    lengths: [(u32, usize, u32); 16],
    symbols: &'static [u8],
}

impl Codes {
    fn new(counts: &[u8; 16], symbols: &'static [u8]) -> Codes {
        let (mut code, mut at) = (0, 0);
        let lengths = counts.map(|count| {
            let length = (code, at, u32::from(count));
            code = (code + u32::from(count)) << 1;
            at += usize::from(count);
            length
        });
        Codes { lengths, symbols }
    }

    fn next(&self, bits: &mut Bits<'_>) -> Option<u8> {
        let mut code = 0;
        for (first, at, count) in self.lengths {
            code = code << 1 | bits.next()?;
            if let Some(offset) = code.checked_sub(first)
                && offset < count
            {
                return self.symbols.get(at + offset as usize).copied();
            }
        }
        None
    }
}

/// The bits of a scan, without stuffed bytes. They end at a marker.
struct Bits<'a> {
    scan: &'a [u8],
    at: usize,
    /// The byte being read, and how many of its bits are left.
    held: u8,
    count: u32,
}

impl Bits<'_> {
    fn next(&mut self) -> Option<u32> {
        if self.count == 0 {
            self.held = *self.scan.get(self.at)?;
            self.at += 1;
            if self.held == 0xff {
                // A 0 is stuffed behind it; anything else is a marker.
                (*self.scan.get(self.at)? == 0).then_some(())?;
                self.at += 1;
            }
            self.count = 8;
        }
        self.count -= 1;
        Some(u32::from(self.held >> self.count & 1))
    }

    fn skip(&mut self, bits: u32) -> Option<()> {
        (0..bits).try_for_each(|_| self.next().map(drop))
    }

    /// Passes over a restart marker, which begins at a byte.
    fn restart(&mut self) -> Option<()> {
        self.count = 0;
        let marker = self.scan.get(self.at..self.at + 2)?;
        self.at += 2;
        (marker[0] == 0xff && matches!(marker[1], 0xd0..=0xd7)).then_some(())
    }

    /// Whether nothing follows but the end of the image.
    fn ends(&self) -> bool {
        matches!(self.scan.get(self.at..), Some([] | [0xff, 0xd9]))
    }
}
