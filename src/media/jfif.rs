//! JPEG files to coded pictures and back. RFC 2435 sends the entropy-coded scan and, in eight bytes, type, size and Q; from these
//! a receiver writes the headers of the file again (RFC 2435 appendices A and B).

use bytes::Bytes;

use super::jpeg::{Chroma, Jpeg, MAX_SIDE, Tables};
use crate::media::Size;

/// Why a JPEG file cannot be sent as RTP/JPEG.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JfifError {
    /// Not a JPEG file, or a truncated one.
    #[error("not a whole JPEG file: {0}")]
    Broken(&'static str),
    /// A JPEG file that RFC 2435 types 0 and 1 cannot express.
    #[error("not a JPEG that RFC 2435 can carry: {0}")]
    Unsuitable(&'static str),
}

// Markers: ITU-T T.81 table B.1.
const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOF0: u8 = 0xc0;
const DHT: u8 = 0xc4;
const SOS: u8 = 0xda;
const DQT: u8 = 0xdb;
const DRI: u8 = 0xdd;
const APP0: u8 = 0xe0;
const APP14: u8 = 0xee;

impl Jpeg {
    /// Parses a JPEG file, without copying its scan.
    ///
    /// `q` is the quality that it was encoded with, 1..=99. If its tables are the standard ones for `q`, they are not sent; other
    /// tables are sent in band, as Q = 255.
    ///
    /// # Errors
    /// The file is broken, or RFC 2435 types 0 and 1 cannot express it: not baseline, not YCbCr 4:2:0 or 4:2:2, Huffman tables of
    /// its own, several scans, a side over 2,040 or not a multiple of 8.
    pub fn from_jfif(file: Bytes, q: u8) -> Result<Jpeg, JfifError> {
        let mut segments = Segments { file: &file, at: 2 };
        if file.get(..2) != Some(&[0xff, SOI]) {
            return Err(JfifError::Broken("it does not start with SOI"));
        }
        // Some cameras send three, one for each component.
        let mut quant: [Option<[u8; 64]>; 4] = [None; 4];
        let mut frame = None;
        let mut restart_interval = None;
        let mut huffman_tables = 0;
        let mut colours = Colours::default();
        loop {
            let (marker, body) = segments.next()?;
            match marker {
                DQT => {
                    for table in body.chunks(65) {
                        let (&precision_and_id, values) =
                            table.split_first().ok_or(JfifError::Broken("DQT"))?;
                        let values: [u8; 64] = values.try_into().map_err(|_| JfifError::Broken("DQT"))?;
                        match precision_and_id {
                            id @ 0..=3 => quant[usize::from(id)] = Some(values),
                            _ => return Err(JfifError::Unsuitable("16-bit quantization tables")),
                        }
                    }
                }
                SOF0 => {
                    frame = Some(parse_frame(body)?);
                    colours.ids = [body[6], body[9], body[12]];
                }
                APP0 if body.starts_with(b"JFIF\0") => colours.jfif = true,
                APP14 if body.starts_with(b"Adobe") => colours.transform = body.get(11).copied(),
                0xc1..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcf => {
                    return Err(JfifError::Unsuitable("it is not baseline"));
                }
                DHT => huffman_tables += standard_tables_in(body)?,
                DRI => {
                    let interval: [u8; 2] = body.try_into().map_err(|_| JfifError::Broken("DRI"))?;
                    restart_interval = Some(u16::from_be_bytes(interval)).filter(|&n| n > 0);
                }
                SOS => {
                    if body.len() != 10 || body[0] != 3 || body[7..] != [0, 63, 0] {
                        return Err(JfifError::Unsuitable("its scan does not hold all three components"));
                    }
                    if [body[2], body[4], body[6]] != [0x00, 0x11, 0x11] {
                        return Err(JfifError::Unsuitable("its components share Huffman tables"));
                    }
                    break;
                }
                _ => {}
            }
        }
        let (size, chroma, ids) = frame.ok_or(JfifError::Broken("no frame header before the scan"))?;
        if colours.are_rgb() {
            return Err(JfifError::Unsuitable("its components are red, green and blue"));
        }
        let [Some(luma), Some(chroma_table), Some(other)] =
            ids.map(|id| quant.get(usize::from(id)).copied().flatten())
        else {
            return Err(JfifError::Broken("a quantization table is missing"));
        };
        if chroma_table != other {
            return Err(JfifError::Unsuitable("its two colours have different quantization tables"));
        }
        // Cameras leave all of them out: then the standard ones are meant.
        if !matches!(huffman_tables, 0 | 4) {
            return Err(JfifError::Broken("a Huffman table is missing"));
        }
        let tables = match Tables::standard(q) {
            Some(standard) if standard.pair() == [luma, chroma_table] => standard,
            _ => Tables::in_band(luma, chroma_table),
        };
        let start = segments.at;
        let mut scan = &file[start..];
        if !scan.ends_with(&[0xff, EOI]) {
            return Err(JfifError::Broken("it does not end with EOI"));
        }
        // There may be several. None belongs to the scan.
        while let [rest @ .., 0xff, EOI] = scan {
            scan = rest;
        }
        Ok(Jpeg { size, chroma, tables, restart_interval, scan: file.slice_ref(scan) })
    }

    /// The picture as a JFIF file, which any decoder reads.
    pub fn to_jfif(&self) -> Vec<u8> {
        let (mut file, end) = self.around_scan(self.scan.len());
        file.extend_from_slice(&self.scan);
        file.extend_from_slice(end);
        file
    }

    /// The bytes before the scan and after it in a JFIF file. The first has room for `more` bytes.
    pub(crate) fn around_scan(&self, more: usize) -> (Vec<u8>, &'static [u8]) {
        let [luma, chroma] = self.tables.pair();
        let mut file = Vec::with_capacity(640 + more);
        file.extend([0xff, SOI]);
        segment(&mut file, APP0, &[b"JFIF\0", &[1, 1, 0, 0, 1, 0, 1, 0, 0]]);
        let grey = self.chroma == Chroma::Grey;
        match grey {
            true => segment(&mut file, DQT, &[&[0], &luma]),
            false => segment(&mut file, DQT, &[&[0], &luma, &[1], &chroma]),
        }
        let ([w1, w0], [h1, h0]) = (self.size.width.to_be_bytes(), self.size.height.to_be_bytes());
        let sampling = match self.chroma {
            Chroma::Yuv422 => 0x21,
            Chroma::Yuv420 => 0x22,
            Chroma::Grey => 0x11,
        };
        match grey {
            true => segment(&mut file, SOF0, &[&[8, h1, h0, w1, w0, 1, 1, sampling, 0]]),
            false => {
                segment(&mut file, SOF0, &[&[8, h1, h0, w1, w0, 3, 1, sampling, 0, 2, 0x11, 1, 3, 0x11, 1]]);
            }
        }
        for (id, counts, symbols) in STANDARD_HUFFMAN {
            segment(&mut file, DHT, &[&[id], counts, symbols]);
        }
        if let Some(interval) = self.restart_interval {
            segment(&mut file, DRI, &[&interval.to_be_bytes()]);
        }
        match grey {
            true => segment(&mut file, SOS, &[&[1, 1, 0x00, 0, 63, 0]]),
            false => segment(&mut file, SOS, &[&[3, 1, 0x00, 2, 0x11, 3, 0x11, 0, 63, 0]]),
        }
        // RFC 2435 section 3.1.9: a sender may leave EOI out. Some send it.
        let end: &[u8] = if self.scan.ends_with(&[0xff, EOI]) { &[] } else { &[0xff, EOI] };
        (file, end)
    }
}

fn segment(file: &mut Vec<u8>, marker: u8, parts: &[&[u8]]) {
    let length = 2 + parts.iter().map(|part| part.len()).sum::<usize>();
    file.extend([0xff, marker]);
    file.extend((length as u16).to_be_bytes()); // no segment here is longer than 200 bytes
    parts.iter().for_each(|part| file.extend_from_slice(part));
}

/// Walks the marker segments from SOI to SOS.
struct Segments<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Segments<'a> {
    fn next(&mut self) -> Result<(u8, &'a [u8]), JfifError> {
        // T.81 B.1.1.2: any marker may be preceded by fill bytes of 0xff.
        let mut rest = self.file.get(self.at..).unwrap_or_default();
        while let [0xff, 0xff, ..] = rest {
            rest = &rest[1..];
        }
        let [0xff, marker, high, low, body @ ..] = rest else {
            return Err(JfifError::Broken("it ends before its scan"));
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let body =
            length.checked_sub(2).and_then(|n| body.get(..n)).ok_or(JfifError::Broken("segment length"))?;
        self.at = self.file.len() - rest.len() + 2 + length;
        Ok((*marker, body))
    }
}

/// The signs by which a file tells whether its three components are luma and two colours, or red, green and blue.
#[derive(Default)]
struct Colours {
    /// Whether it has the header of JFIF, which knows luma and two colours alone.
    jfif: bool,
    /// The colour transform that Adobe's segment tells: 0 is none.
    transform: Option<u8>,
    ids: [u8; 3],
}

impl Colours {
    /// As libjpeg decides it (`default_decompress_parms`), and so every viewer.
    fn are_rgb(&self) -> bool {
        let named = self.transform.map_or(self.ids == *b"RGB", |transform| transform == 0);
        !self.jfif && named
    }
}

/// Size and colours, and the numbers of the components' quantization tables.
fn parse_frame(body: &[u8]) -> Result<(Size, Chroma, [u8; 3]), JfifError> {
    let &[precision, h1, h0, w1, w0, 3, _, sampling, q0, _, 0x11, q1, _, 0x11, q2] = body else {
        return Err(JfifError::Unsuitable("it is not three components with halved chroma"));
    };
    if precision != 8 {
        return Err(JfifError::Unsuitable("it is not 8 bit"));
    }
    let size = Size { width: u16::from_be_bytes([w1, w0]), height: u16::from_be_bytes([h1, h0]) };
    for side in [size.width, size.height] {
        if side == 0 || side > MAX_SIDE || side % 8 != 0 {
            return Err(JfifError::Unsuitable("its sides are not multiples of 8 up to 2040"));
        }
    }
    match sampling {
        0x21 => Ok((size, Chroma::Yuv422, [q0, q1, q2])),
        0x22 => Ok((size, Chroma::Yuv420, [q0, q1, q2])),
        _ => Err(JfifError::Unsuitable("it is neither 4:2:0 nor 4:2:2")),
    }
}

/// The number of tables in a DHT segment. All must be the standard ones.
fn standard_tables_in(mut body: &[u8]) -> Result<usize, JfifError> {
    let mut found = 0;
    while let Some(&id) = body.first() {
        let (_, counts, symbols) = STANDARD_HUFFMAN
            .iter()
            .find(|table| table.0 == id)
            .ok_or(JfifError::Unsuitable("Huffman table id"))?;
        body = body[1..]
            .strip_prefix(&counts[..])
            .and_then(|rest| rest.strip_prefix(&symbols[..]))
            .ok_or(JfifError::Unsuitable("its Huffman tables are not the standard ones"))?;
        found += 1;
    }
    Ok(found)
}

/// The four standard Huffman tables (ITU-T T.81 annex K.3; RFC 2435 appendix B): class and id, codes per
/// length, symbols.
pub(super) const STANDARD_HUFFMAN: [(u8, &[u8; 16], &[u8]); 4] = [
    (0x00, &[0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
    (0x10, &[0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7d], &LUMA_AC),
    (0x01, &[0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
    (0x11, &[0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77], &CHROMA_AC),
];

#[rustfmt::skip]
const LUMA_AC: [u8; 162] = [
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71,
    0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0, 0x24, 0x33, 0x62, 0x72,
    0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x34, 0x35, 0x36, 0x37,
    0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59,
    0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83,
    0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3,
    0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3,
    0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2,
    0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];

#[rustfmt::skip]
const CHROMA_AC: [u8; 162] = [
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22,
    0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0, 0x15, 0x62, 0x72, 0xd1,
    0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x35, 0x36,
    0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58,
    0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a,
    0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a,
    0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba,
    0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda,
    0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// 16x16 pixels: 4:2:0 with the standard tables for quality 80, and a scan of three bytes.
    fn picture() -> Jpeg {
        Jpeg {
            size: Size { width: 16, height: 16 },
            chroma: Chroma::Yuv420,
            tables: Tables::Standard(80),
            restart_interval: None,
            scan: Bytes::from_static(&[0xaa, 0xbb, 0xcc]),
        }
    }

    fn read(file: &[u8]) -> Result<Jpeg, JfifError> {
        Jpeg::from_jfif(Bytes::copy_from_slice(file), 80)
    }

    /// Offset of the segment with this marker.
    fn at(file: &[u8], marker: u8) -> usize {
        file.windows(2).position(|bytes| bytes == [0xff, marker]).expect("the marker")
    }

    #[test]
    fn every_kind_of_picture_survives_writing_and_parsing() {
        let mut own = Tables::Standard(80).pair();
        own[1][63] += 1;
        let in_band = Tables::in_band(own[0], own[1]);
        for jpeg in [
            picture(),
            Jpeg { chroma: Chroma::Yuv422, ..picture() },
            Jpeg { restart_interval: Some(0x0102), ..picture() },
            Jpeg { tables: in_band, ..picture() },
            Jpeg { size: Size { width: MAX_SIDE, height: 8 }, ..picture() },
            Jpeg { scan: Bytes::new(), ..picture() },
        ] {
            assert_eq!(read(&jpeg.to_jfif()), Ok(jpeg));
        }
        // The standard tables for 80 are not those for 79, so they are sent.
        let file = Bytes::from(picture().to_jfif());
        let [luma, chroma] = Tables::Standard(80).pair();
        assert_eq!(Jpeg::from_jfif(file, 79).unwrap().tables, Tables::in_band(luma, chroma));
    }

    #[test]
    fn comments_and_fill_bytes_between_segments_are_skipped() {
        let mut file = picture().to_jfif();
        let dqt = at(&file, DQT);
        file.splice(dqt..dqt, [0xff, 0xfe, 0, 4, b'h', b'i', 0xff, 0xff]); // a comment, and fill bytes
        assert_eq!(read(&file), Ok(picture()));
        // A DRI of 0 means that there are no restart markers.
        let sos = at(&file, SOS);
        file.splice(sos..sos, [0xff, DRI, 0, 4, 0, 0]);
        assert_eq!(read(&file), Ok(picture()));
    }

    #[test]
    fn a_file_has_one_eoi_whether_the_scan_came_with_one_or_not() {
        let with = Jpeg { scan: Bytes::from_static(&[0xaa, 0xbb, 0xcc, 0xff, EOI]), ..picture() };
        assert_eq!(with.to_jfif(), picture().to_jfif());
        let mut twice = picture().to_jfif();
        twice.extend([0xff, EOI]);
        assert_eq!(read(&twice), Ok(picture()));
    }

    #[test]
    fn one_table_for_all_and_one_for_each_component_are_two() {
        let good = picture().to_jfif();
        let sof = at(&good, SOF0);
        let [luma, chroma] = Tables::Standard(80).pair();
        // As FFmpeg writes it: all components have table 0.
        let mut one = good.clone();
        (one[sof + 15], one[sof + 18]) = (0, 0);
        assert_eq!(read(&one), Ok(Jpeg { tables: Tables::in_band(luma, luma), ..picture() }));
        // As some cameras do: the second colour has a table of its own, with the same values.
        let mut three = good.clone();
        three[sof + 18] = 2;
        let mut third = Vec::new();
        segment(&mut third, DQT, &[&[2], &chroma]);
        three.splice(sof..sof, third);
        assert_eq!(read(&three), Ok(picture()));
    }

    #[test]
    fn a_file_that_rfc_2435_cannot_express_is_refused() {
        use JfifError::{Broken, Unsuitable};
        let good = picture().to_jfif();
        let sampling = "it is neither 4:2:0 nor 4:2:2";
        let components = "it is not three components with halved chroma";
        let sides = "its sides are not multiples of 8 up to 2040";
        let scan = "its scan does not hold all three components";
        let huffman = "its Huffman tables are not the standard ones";
        // The segment, an offset after its marker, and the bytes to put there.
        let cases: &[(u8, usize, &[u8], JfifError)] = &[
            (SOI, 0, &[0xd9], Broken("it does not start with SOI")),
            (SOF0, 0, &[0xc2], Unsuitable("it is not baseline")), // progressive
            (SOF0, 3, &[12], Unsuitable("it is not 8 bit")),
            (SOF0, 4, &[0, 0], Unsuitable(sides)),
            (SOF0, 4, &[0, 20], Unsuitable(sides)),
            (SOF0, 6, &[0x07, 0xf9], Unsuitable(sides)), // 2,041
            (SOF0, 6, &[0x08, 0x00], Unsuitable(sides)),
            (SOF0, 8, &[4], Unsuitable(components)),
            (SOF0, 10, &[0x11], Unsuitable(sampling)), // 4:4:4
            (SOF0, 11, &[2], Broken("a quantization table is missing")),
            (SOF0, 11, &[9], Broken("a quantization table is missing")),
            (SOF0, 13, &[0x22], Unsuitable(components)),
            (SOF0, 14, &[0], Unsuitable("its two colours have different quantization tables")),
            (DQT, 3, &[0x10], Unsuitable("16-bit quantization tables")),
            (DQT, 3, &[2], Broken("a quantization table is missing")),
            (DQT, 3, &[1], Broken("a quantization table is missing")),
            (DHT, 3, &[0x02], Unsuitable("Huffman table id")),
            (DHT, 4, &[1, 0], Unsuitable(huffman)),
            (DHT, 20, &[1], Unsuitable(huffman)),
            (DHT, 0, &[0xfe], Broken("a Huffman table is missing")), // a comment
            (SOF0, 0, &[0xfe], Broken("no frame header before the scan")),
            (SOS, 3, &[1], Unsuitable(scan)),
            (SOS, 10, &[1], Unsuitable(scan)), // spectral selection
            (SOS, 1, &[0, 1], Broken("segment length")),
            (DQT, 1, &[0xff, 0xff], Broken("segment length")),
        ];
        for (marker, offset, bytes, error) in cases {
            let mut wrong = good.clone();
            let place = at(&good, *marker) + 1 + offset;
            wrong[place..place + bytes.len()].copy_from_slice(bytes);
            assert_eq!(
                read(&wrong).as_ref(),
                Err(error),
                "byte {offset} of segment {marker:#x} is {bytes:x?}"
            );
        }
    }

    #[test]
    fn a_file_truncated_anywhere_is_refused() {
        let good = Jpeg { restart_interval: Some(4), ..picture() }.to_jfif();
        for end in 0..good.len() {
            assert!(matches!(read(&good[..end]), Err(JfifError::Broken(_))), "{end} of {} bytes", good.len());
        }
    }

    #[test]
    fn the_seeds_of_the_fuzz_target_are_valid_files() {
        let tables = Tables::in_band([5; 64], [6; 64]);
        for (name, seed, jpeg) in [
            ("jfif", &include_bytes!("../../fuzz/seeds/rtp_jpeg/jfif")[..], picture()),
            (
                "jfif-restart",
                include_bytes!("../../fuzz/seeds/rtp_jpeg/jfif-restart"),
                Jpeg { restart_interval: Some(4), ..picture() },
            ),
            (
                "jfif-tables",
                include_bytes!("../../fuzz/seeds/rtp_jpeg/jfif-tables"),
                Jpeg { tables, chroma: Chroma::Yuv422, ..picture() },
            ),
        ] {
            assert_eq!(read(seed), Ok(jpeg), "{name}");
        }
    }
}
