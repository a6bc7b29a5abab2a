//! A picture of a live source, for the air: passed on as it is, or decoded and encoded anew. Which one, its headers tell.

use bytes::Bytes;
use opencv::core::{CV_8UC3, Mat, Scalar};
use opencv::prelude::*;
use turbojpeg::{Decompressor, Image, PixelFormat};

use crate::content::encode::{Encoded, Encoder, station_size};
use crate::media::Size;
use crate::media::jpeg::{Chroma, Jpeg, Tables};

/// Most pixels of a picture that is decoded: 4096x4096, which takes 50 MB meanwhile.
pub(super) const MOST_PIXELS: usize = 1 << 24;

/// Most scans of a picture that is decoded. A progressive picture has some ten; one with thousands, each of a few bytes, would take
/// hours.
const MOST_SCANS: u32 = 20;

/// A picture of a source.
pub(super) enum Shown {
    /// Bytes that should be a JPEG file.
    File(Bytes),
    /// A picture from RTP/JPEG.
    Jpeg(Jpeg),
    /// A picture that was decoded: blue, green and red.
    Pixels(Mat),
}

impl Shown {
    /// The picture, unchanged.
    ///
    /// # Errors
    /// Why it must be encoded anew, to stand behind "encoded anew: ".
    pub(super) fn pass_on(&self, width: u16) -> Result<Jpeg, String> {
        let mut jpeg = match self {
            // No file has the quality 0, so that its tables are given back.
            Shown::File(file) => Jpeg::from_jfif(whole_file(file)?, 0).map_err(|error| error.to_string())?,
            Shown::Jpeg(jpeg) => {
                // GStreamer sends the end of the file, too, which is no part of the scan.
                let end = jpeg.scan.strip_suffix(&[0xff, 0xd9]).map_or(jpeg.scan.len(), <[u8]>::len);
                Jpeg { scan: jpeg.scan.slice(..end), ..jpeg.clone() }
            }
            Shown::Pixels(_) => return Err("they are not JPEG".into()),
        };
        if jpeg.chroma == Chroma::Grey {
            return Err("it has no colours".into());
        }
        let pair = jpeg.tables.pair();
        let standard = |&q: &u8| Tables::Standard(q).pair() == pair;
        // Others are sent with each picture.
        if let Some(q) = (1..=99).rev().find(standard) {
            jpeg.tables = Tables::Standard(q);
        }
        if has_marker(&jpeg.scan, jpeg.restart_interval.is_some()) {
            return Err("there is a marker in its scan".into());
        }
        if jpeg.size.width > width {
            return Err(format!(
                "its pictures are {} wide, and the station's at most {width}",
                jpeg.size.width
            ));
        }
        if !jpeg.fits_datagram() {
            return Err(format!("a picture of {} bytes does not fit one datagram", jpeg.scan.len()));
        }
        Ok(jpeg)
    }

    /// Decodes the picture, if it is not, and encodes it for a station of this width and quality. Takes milliseconds. `encoder` is
    /// that of the picture before.
    ///
    /// # Errors
    /// The sentence that says why the picture cannot be shown.
    pub(super) fn encode_anew(
        self,
        encoder: Option<Box<Encoder>>,
        width: u16,
        quality: u8,
    ) -> Result<(Box<Encoder>, Encoded), String> {
        let pixels = match self {
            Shown::File(file) => decoded(&whole_file(&file)?)?,
            Shown::Jpeg(jpeg) => decoded(&jpeg.to_jfif())?,
            Shown::Pixels(pixels) => pixels,
        };
        let side = |side: i32| u32::try_from(side).unwrap_or(0);
        let size: Size = station_size((side(pixels.cols()), side(pixels.rows())), 1.0, width);
        let mut encoder = match encoder.filter(|encoder| encoder.size() == size) {
            Some(encoder) => encoder,
            None => Box::new(Encoder::new(size, quality).map_err(|error| error.to_string())?),
        };
        let encoded = encoder.encode_bgr(&pixels, 1.0).map_err(|error| error.to_string())?;
        Ok((encoder, encoded))
    }
}

/// Whether a byte 0xff in a scan is no byte of its data (ITU-T T.81 B.1.1.5), nor that of a restart marker, if it has some.
fn has_marker(scan: &[u8], restarts: bool) -> bool {
    let is_other = |at: usize| match scan.get(at + 1) {
        Some(0) => false,
        Some(0xd0..=0xd7) => !restarts,
        Some(_) | None => true,
    };
    memchr::memchr_iter(0xff, scan).any(is_other)
}

/// The JPEG file in a part: without what some cameras write behind its end.
fn whole_file(body: &Bytes) -> Result<Bytes, String> {
    if !body.starts_with(&[0xff, 0xd8]) {
        return Err("it is no JPEG file".into());
    }
    let padding = body.iter().rev().take_while(|byte| matches!(byte, 0 | b'\r' | b'\n')).count();
    let file = body.slice(..body.len() - padding);
    if !file.ends_with(&[0xff, 0xd9]) {
        return Err("it breaks off".into());
    }
    Ok(file)
}

/// The pixels of a JPEG file.
fn decoded(file: &[u8]) -> Result<Mat, String> {
    let damaged = |error: turbojpeg::Error| format!("it cannot be decoded: {error}");
    let mut decompressor = Decompressor::new().map_err(damaged)?;
    decompressor.set_scan_limit(MOST_SCANS).map_err(damaged)?;
    let header = decompressor.read_header(file).map_err(damaged)?;
    if header.width.saturating_mul(header.height) > MOST_PIXELS {
        return Err(format!("a picture of {}x{} is too large", header.width, header.height));
    }
    let (rows, columns) = (header.height as i32, header.width as i32); // both under 2^24
    let mut pixels = Mat::new_rows_cols_with_default(rows, columns, CV_8UC3, Scalar::default())
        .map_err(|error| error.to_string())?;
    let image = Image {
        pixels: pixels.data_bytes_mut().map_err(|error| error.to_string())?,
        width: header.width,
        pitch: header.width * 3,
        height: header.height,
        format: PixelFormat::BGR,
    };
    decompressor.decompress(file, image).map_err(damaged)?;
    Ok(pixels)
}

#[cfg(test)]
mod tests {
    use turbojpeg::{Compressor, Subsamp};

    use super::*;

    /// A JPEG file of a gradient, by libjpeg-turbo.
    fn file(width: usize, height: usize, quality: i32, subsamp: Subsamp) -> Vec<u8> {
        let pixels = (0..width * height).flat_map(|n| [n as u8, (n / width) as u8, 90]).collect::<Vec<u8>>();
        let mut compressor = Compressor::new().unwrap();
        compressor.set_quality(quality).unwrap();
        compressor.set_subsamp(subsamp).unwrap();
        let image = Image { pixels: &pixels[..], width, pitch: width * 3, height, format: PixelFormat::RGB };
        compressor.compress_to_vec(image).unwrap()
    }

    /// A smooth picture, encoded as `set` says.
    fn of(width: usize, height: usize, set: impl Fn(&mut Compressor) -> turbojpeg::Result<()>) -> Vec<u8> {
        let pixels = (0..width * height)
            .flat_map(|n| [(n % width * 3) as u8, (n / width * 4) as u8, 90])
            .collect::<Vec<u8>>();
        let mut compressor = Compressor::new().unwrap();
        set(&mut compressor).unwrap();
        let image = Image { pixels: &pixels[..], width, pitch: width * 3, height, format: PixelFormat::RGB };
        compressor.compress_to_vec(image).unwrap()
    }

    /// Red, green and blue, of which the last two are halved: only Adobe's segment says that they are not luma and two colours.
    fn red_green_blue() -> Vec<u8> {
        let file = without(&of(64, 48, |c| c.set_subsamp(Subsamp::Sub2x2)), 0xe0);
        let adobe = [&[0xff, 0xee, 0, 14][..], b"Adobe", &[0, 100, 0, 0, 0, 0, 0]].concat();
        [&file[..2], &adobe, &file[2..]].concat()
    }

    fn pass_on(file: &Bytes, width: u16) -> Result<Jpeg, String> {
        Shown::File(file.clone()).pass_on(width)
    }

    fn encode_anew(file: &[u8], width: u16) -> Result<(Box<Encoder>, Encoded), String> {
        Shown::File(Bytes::copy_from_slice(file)).encode_anew(None, width, 80)
    }

    /// Without the segments of a marker.
    fn without(file: &[u8], marker: u8) -> Vec<u8> {
        let (mut kept, mut at) = (file[..2].to_vec(), 2);
        while file[at + 1] != 0xda {
            let length = 2 + usize::from(u16::from_be_bytes([file[at + 2], file[at + 3]]));
            if file[at + 1] != marker {
                kept.extend(&file[at..at + length]);
            }
            at += length;
        }
        kept.extend(&file[at..]);
        kept
    }

    /// The entropy-coded bytes of a file, found without our parser.
    fn scan_of(file: &[u8]) -> &[u8] {
        let sos = memchr::memmem::find(file, &[0xff, 0xda, 0, 12]).unwrap();
        &file[sos + 14..file.len() - 2]
    }

    #[test]
    fn the_scan_of_a_suitable_picture_is_passed_on_unchanged() {
        for quality in [1, 40, 80, 99] {
            for (subsamp, size) in
                [(Subsamp::Sub2x2, (320, 184)), (Subsamp::Sub2x1, (64, 48)), (Subsamp::Sub2x2, (2040, 16))]
            {
                let file = file(size.0, size.1, quality, subsamp);
                let jpeg = pass_on(&file.clone().into(), 2040).unwrap();
                assert_eq!(jpeg.scan, scan_of(&file));
                assert_eq!(jpeg.tables.pair(), Tables::Standard(quality as u8).pair());
                let decoded = |file: &[u8]| turbojpeg::decompress(file, PixelFormat::RGB).unwrap().pixels;
                assert_eq!(decoded(&jpeg.to_jfif()), decoded(&file));
            }
        }
    }

    #[test]
    fn a_picture_with_very_many_scans_is_refused() {
        let pixels = vec![128; 64 * 48 * 3];
        let mut compressor = Compressor::new().unwrap();
        compressor.set_progressive(true).unwrap();
        let image =
            Image { pixels: &pixels[..], width: 64, pitch: 192, height: 48, format: PixelFormat::RGB };
        let mut file = compressor.compress_to_vec(image).unwrap();
        assert!(encode_anew(&file, 640).is_ok(), "a progressive picture as cameras send it");
        // The last scan again and again, before the end of the file.
        let last = memchr::memmem::rfind(&file, &[0xff, 0xda]).unwrap();
        let (scan, end) = (file[last..file.len() - 2].to_vec(), file.split_off(file.len() - 2));
        file.extend(scan.repeat(100));
        file.extend(end);
        let refused = encode_anew(&file, 640).err().unwrap();
        assert!(refused.contains("scans"), "{refused}");
    }

    #[test]
    fn what_cameras_leave_out_or_add_is_no_reason_to_encode() {
        let whole = file(64, 48, 80, Subsamp::Sub2x2);
        let bare = without(&without(&whole, 0xc4), 0xe0);
        assert!(bare.len() < whole.len() - 400, "the Huffman tables are left out");
        assert_eq!(pass_on(&bare.clone().into(), 640).unwrap().scan, scan_of(&whole));
        let mut exif = whole[..2].to_vec();
        exif.extend([0xff, 0xe1, 0, 8, 0xff, 0xd9, 1, 2, 3, 4]);
        exif.extend(&whole[2..]);
        assert_eq!(pass_on(&exif.into(), 640).unwrap().scan, scan_of(&whole));
        let padded = [&whole[..], &[0; 7], b"\r\n"].concat();
        assert_eq!(whole_file(&padded.into()).unwrap(), whole);
        // libjpeg-turbo puts the Huffman tables back as well.
        assert_eq!(encode_anew(&bare, 32).unwrap().1.jpeg.size, Size { width: 32, height: 32 });
    }

    #[test]
    fn tables_and_restart_intervals_of_its_own_go_with_a_picture() {
        let with_restarts = |file: &[u8]| {
            let sos = memchr::memmem::find(file, &[0xff, 0xda]).unwrap();
            [&file[..sos], &[0xff, 0xdd, 0, 4, 0, 200], &file[sos..]].concat()
        };
        let own = file(64, 48, 100, Subsamp::Sub2x2);
        let jpeg = pass_on(&own.clone().into(), 640).unwrap();
        assert_eq!((jpeg.scan.as_ref(), jpeg.tables), (scan_of(&own), Tables::in_band([1; 64], [1; 64])));
        let whole = file(64, 48, 80, Subsamp::Sub2x2);
        let scan = Bytes::copy_from_slice(&[scan_of(&whole), &[0xff, 0xd9]].concat());
        let with_end = Shown::Jpeg(Jpeg { scan, ..pass_on(&whole.clone().into(), 640).unwrap() });
        assert_eq!(with_end.pass_on(640).unwrap().scan, scan_of(&whole));
        let jpeg = pass_on(&with_restarts(&whole).into(), 640).unwrap();
        assert_eq!((jpeg.restart_interval, jpeg.tables), (Some(200), Tables::Standard(80)));
        let mut marked = with_restarts(&whole);
        let at = marked.len() - 12;
        marked.splice(at..at, [0xff, 0xd3]);
        assert!(pass_on(&marked.clone().into(), 640).is_ok());
        marked[at + 1] = 0xd8;
        assert_eq!(pass_on(&marked.into(), 640).unwrap_err(), "there is a marker in its scan");
    }

    #[test]
    fn every_other_picture_is_encoded_anew() {
        for (file, why) in [
            (file(60, 48, 80, Subsamp::Sub2x2), "its sides are not multiples of 8"),
            (file(2048, 16, 80, Subsamp::Sub2x2), "its sides are not multiples of 8"),
            (of(64, 48, |c| c.set_subsamp(Subsamp::None)), "neither 4:2:0 nor 4:2:2"),
            (of(64, 48, |c| c.set_subsamp(Subsamp::Sub1x2)), "neither 4:2:0 nor 4:2:2"),
            (of(64, 48, |c| c.set_subsamp(Subsamp::Sub4x1)), "neither 4:2:0 nor 4:2:2"),
            (of(64, 48, |c| c.set_subsamp(Subsamp::Sub1x4)), "neither 4:2:0 nor 4:2:2"),
            (of(64, 48, |c| c.set_subsamp(Subsamp::Gray)), "not three components"),
            (of(64, 48, |c| c.set_subsamp(Subsamp::Sub2x2).and(c.set_optimize(true))), "Huffman tables"),
            (of(64, 48, |c| c.set_subsamp(Subsamp::Sub2x1).and(c.set_optimize(true))), "Huffman tables"),
            (of(64, 48, |c| c.set_subsamp(Subsamp::Sub2x2).and(c.set_arithmetic(true))), "not baseline"),
            (red_green_blue(), "red, green and blue"),
            (file(800, 48, 80, Subsamp::Sub2x2), "its pictures are 800 wide, and the station's at most 640"),
        ] {
            let reason = pass_on(&file.clone().into(), 640).unwrap_err();
            assert!(reason.contains(why), "{reason}, not {why}");
            let (encoder, encoded) = encode_anew(&file, 640).unwrap();
            assert_eq!(encoder.size(), encoded.jpeg.size);
            let shown = encoded.jpeg.to_jfif();
            assert!(pass_on(&shown.clone().into(), 640).is_ok());
            // The right picture, apart from what the second encoding loses; those of the other sides have steps that it blurs.
            if encoded.jpeg.size == (Size { width: 64, height: 48 }) && !why.contains("sides") {
                let pixels = |file: &[u8]| turbojpeg::decompress(file, PixelFormat::RGB).unwrap().pixels;
                let (before, after) = (pixels(&file), pixels(&shown));
                let off: u64 = before.iter().zip(&after).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
                let mean = off as f64 / before.len() as f64;
                assert!(mean < 6.0, "{why}: {mean} of 255");
            }
        }
    }

    #[test]
    fn half_pictures_and_garbage_are_no_pictures() {
        let whole = file(64, 48, 80, Subsamp::Sub2x2);
        let part = |bytes: &[u8]| whole_file(&Bytes::copy_from_slice(bytes));
        assert_eq!(part(&whole[..whole.len() / 2]).unwrap_err(), "it breaks off");
        for garbage in [&b""[..], b"\xff", b"<html>", &[0; 100]] {
            assert_eq!(part(garbage).unwrap_err(), "it is no JPEG file");
        }
        // Two that were pasted together at half their length have a marker within.
        let pasted = [&whole[..whole.len() - 60], &whole[..]].concat();
        assert_eq!(pass_on(&pasted.into(), 640).unwrap_err(), "there is a marker in its scan");
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..2000 {
            let mut broken = whole.clone();
            for _ in 0..random.usize(1..8) {
                let at = random.usize(2..broken.len());
                broken[at] = random.u8(..);
            }
            if pass_on(&broken.clone().into(), 640).is_err() {
                let _ = encode_anew(&broken, 64);
            }
        }
    }
}
