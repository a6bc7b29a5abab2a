//! The shape of an entropy-coded scan (ITU-T T.81 annex F.2): which components its blocks are of. RTP/JPEG sends scans
//! without their headers, so a receiver has only the sender's word for it. Pure.

use super::Size;
use super::jfif::STANDARD_HUFFMAN;
use super::jpeg::Chroma;

/// The components of a scan, and how they are interleaved. A unit of 4:4:0 has the blocks of one of 4:2:2, and a unit of 4:1:1 those of
/// 4:2:0. Only their number tells them apart, and only in a picture whose sides are no multiples of both units: 640x360 and 1920x1080,
/// but not 640x480.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sampling {
    /// Luma, and two colour planes that are halved in width.
    Yuv422,
    /// Luma, and two colour planes that are halved in width and height.
    Yuv420,
    /// Three planes of full size, 4:4:4.
    Full,
    /// The same, coded in pairs of blocks above each other, as FFmpeg does it.
    FullPairs,
    /// Luma, and two colour planes that are halved in height.
    Yuv440,
    /// Luma, and two colour planes that have a quarter of the width.
    Yuv411,
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

    /// Its usual name.
    pub fn name(self) -> &'static str {
        match self {
            Sampling::Yuv422 => "4:2:2",
            Sampling::Yuv420 => "4:2:0",
            Sampling::Full | Sampling::FullPairs => "4:4:4",
            Sampling::Yuv440 => "4:4:0",
            Sampling::Yuv411 => "4:1:1",
            Sampling::Grey => "grey",
        }
    }

    /// Width and height of a minimum coded unit in pixels, and its blocks of luma and of colour.
    fn unit(self) -> (u16, u16, usize, usize) {
        match self {
            Sampling::Yuv422 => (16, 8, 2, 2),
            Sampling::Yuv420 => (16, 16, 4, 2),
            Sampling::Full => (8, 8, 1, 2),
            Sampling::FullPairs => (8, 16, 2, 4),
            Sampling::Yuv440 => (8, 16, 2, 2),
            Sampling::Yuv411 => (32, 8, 4, 2),
            Sampling::Grey => (8, 8, 1, 0),
        }
    }

    /// Walks over one minimum coded unit.
    fn unit_of(self, bits: &mut Bits<'_>, codes: &[Codes; 4]) -> Option<()> {
        let [luma_dc, luma_ac, colour_dc, colour_ac] = codes;
        let (_, _, luma, colour) = self.unit();
        (0..luma).try_for_each(|_| block(bits, luma_dc, luma_ac))?;
        (0..colour).try_for_each(|_| block(bits, colour_dc, colour_ac))
    }
}

/// The interval of the restart markers of a scan that holds exactly the blocks of a picture of that size and sampling; `None`
/// without such markers. Of two bytes that look like one in a damaged scan this is not so.
pub fn restart_interval(scan: &[u8], size: Size, sampling: Sampling) -> Option<u16> {
    let marker = scan.windows(2).position(is_restart)?;
    let codes = STANDARD_HUFFMAN.map(|(_, counts, symbols)| Codes::new(counts, symbols));
    let mut bits = Bits { scan: &scan[..marker], at: 0, held: 0, count: 0 };
    let mut interval = 0;
    while bits.at < marker {
        sampling.unit_of(&mut bits, &codes)?;
        interval += 1;
    }
    let interval = u16::try_from(interval).ok().filter(|&interval| interval > 0)?;
    fits(scan, size, Some(interval), sampling).then_some(interval)
}

fn is_restart(bytes: &[u8]) -> bool {
    matches!(bytes, [0xff, 0xd0..=0xd7])
}

/// Whether a scan, with the standard Huffman tables, holds exactly the blocks of a picture of that size and sampling. By
/// chance this is never so for a real picture of another sampling: the number of blocks and every code must fit.
pub fn fits(scan: &[u8], size: Size, restart_interval: Option<u16>, sampling: Sampling) -> bool {
    walk(scan, size, restart_interval, sampling).is_some()
}

fn walk(scan: &[u8], size: Size, restart_interval: Option<u16>, sampling: Sampling) -> Option<()> {
    let codes = STANDARD_HUFFMAN.map(|(_, counts, symbols)| Codes::new(counts, symbols));
    let (width, height, ..) = sampling.unit();
    let units = u32::from(size.width.div_ceil(width)) * u32::from(size.height.div_ceil(height));
    let mut bits = Bits { scan, at: 0, held: 0, count: 0 };
    for unit in 0..units {
        if let Some(interval) = restart_interval
            && unit > 0
            && unit % u32::from(interval) == 0
        {
            bits.restart()?;
        }
        sampling.unit_of(&mut bits, &codes)?;
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
        is_restart(marker).then_some(())
    }

    /// Whether nothing follows but the end of the image.
    fn ends(&self) -> bool {
        matches!(self.scan.get(self.at..), Some([] | [0xff, 0xd9]))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The scan of a flat picture: each block has a difference of 0 and an end. Restart markers after each `interval` units.
    pub(crate) fn flat(size: Size, sampling: Sampling, interval: Option<u16>) -> Vec<u8> {
        let (width, height, luma, colour) = sampling.unit();
        let units = size.width.div_ceil(width) * size.height.div_ceil(height);
        let unit = "001010".repeat(luma) + &"0000".repeat(colour);
        let (mut scan, mut text, mut markers) = (Vec::new(), String::new(), 0);
        let flush = |text: &mut String| {
            text.push_str(&"1".repeat((8 - text.len() % 8) % 8));
            let bytes = text.as_bytes().chunks(8);
            let bytes: Vec<u8> = bytes
                .map(|bits| u8::from_str_radix(std::str::from_utf8(bits).unwrap(), 2).unwrap())
                .collect();
            text.clear();
            bytes
        };
        for n in 0..units {
            if n > 0 && interval.is_some_and(|interval| n % interval == 0) {
                scan.extend(flush(&mut text));
                scan.extend([0xff, 0xd0 + markers % 8]);
                markers += 1;
            }
            text.push_str(&unit);
        }
        scan.extend(flush(&mut text));
        scan
    }

    const SIZE: Size = Size { width: 64, height: 48 };
    const ALL: [Sampling; 4] = [Sampling::Yuv422, Sampling::Yuv420, Sampling::Full, Sampling::Grey];

    #[test]
    fn a_scan_fits_its_own_sampling_alone() {
        for of in ALL {
            for interval in [None, Some(3)] {
                let mut scan = flat(SIZE, of, interval);
                let fitting: Vec<Sampling> =
                    ALL.into_iter().filter(|&sampling| fits(&scan, SIZE, interval, sampling)).collect();
                assert_eq!(fitting, [of], "{interval:?}");
                assert_eq!(restart_interval(&scan, SIZE, of), interval, "{of:?}");
                scan.extend([0xff, 0xd9]);
                assert!(fits(&scan, SIZE, interval, of), "with an end of image");
                let half = scan.len() / 2;
                assert!(!fits(&scan[..half], SIZE, interval, of), "a half");
            }
        }
    }

    #[test]
    fn halved_height_and_quartered_width_are_told_apart_where_the_number_of_units_differs() {
        use Sampling::{Yuv411, Yuv420, Yuv422, Yuv440};
        for (width, height, known) in
            [(640, 360, true), (1920, 1080, true), (720, 480, true), (640, 480, false)]
        {
            let size = Size { width, height };
            for (of, other) in [(Yuv440, Yuv422), (Yuv411, Yuv420), (Yuv422, Yuv440), (Yuv420, Yuv411)] {
                // The units of 4:4:0 are as many as those of 4:2:2 in a picture whose sides are multiples of 16.
                let known = known && (height % 16 != 0 || matches!((of, other), (Yuv411, _) | (_, Yuv411)));
                let scan = flat(size, of, None);
                assert!(fits(&scan, size, None, of));
                assert_eq!(fits(&scan, size, None, other), !known, "{of:?} as {other:?}, {width}x{height}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            scan in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
            width in 1u16..=2040,
            interval in proptest::option::of(1u16..),
        ) {
            for sampling in ALL {
                fits(&scan, Size { width, height: 8 }, interval, sampling);
                restart_interval(&scan, Size { width, height: 8 }, sampling);
            }
        }
    }
}
