//! From a picture to JPEG: resizes it to the station's size, and encodes it so that it fits one datagram.

use std::sync::Once;

use opencv::core::{Mat, Rect, Scalar, Size as CvSize};
use opencv::imgproc;
use opencv::prelude::*;
use turbojpeg::{Compressor, Image, PixelFormat, Subsamp, YuvImage};

use crate::media::Size;
use crate::media::jfif;
use crate::media::jpeg::{Jpeg, MAX_SIDE};
use crate::wire::payload::jpeg::MAX_SCAN;

/// Set once: OpenCV has one number of threads for the whole program.
static ONE_THREAD: Once = Once::new();

/// The share of the budget at which a squeezed picture aims. Below 1, since the next picture may be a little larger.
const SQUEEZE_TARGET: f64 = 0.95;

/// If a picture takes less than this share of the budget, the next one is encoded one step of quality higher.
const RELAX_BELOW: f64 = 0.85;

/// A picture that leaves no more than this free of a side is stretched, in pixels.
pub(super) const STRETCHED: f64 = 16.0;

/// Why a picture cannot go on air. The message is painted on the slate.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The picture has too much detail for its size.
    #[error("a picture of {0} does not fit one datagram even at quality 1; choose a smaller width")]
    DoesNotFit(Size),
    /// OpenCV cannot resize the picture.
    #[error("cannot resize a picture: {0}")]
    Resize(#[from] opencv::Error),
    /// turbojpeg cannot encode the picture.
    #[error("cannot encode a picture: {0}")]
    Jpeg(#[from] turbojpeg::Error),
    /// RTP/JPEG cannot carry the JPEG that turbojpeg made: our bug, but no reason for a panic.
    #[error("cannot send a picture: {0}")]
    Wire(#[from] jfif::JfifError),
}

/// The pixels of a picture that is to be encoded.
pub enum Pixels {
    /// 8-bit BGR of any size.
    Bgr {
        /// The pixels, in 3 channels.
        pixels: Mat,
        /// Width of a pixel divided by its height.
        pixel_aspect: f64,
    },
    /// Samples that JPEG codes as they are, at the encoder's size.
    Planes(Planes),
}

impl From<Mat> for Pixels {
    /// A BGR picture of square pixels.
    fn from(pixels: Mat) -> Pixels {
        Pixels::Bgr { pixels, pixel_aspect: 1.0 }
    }
}

/// The samples of a picture as JFIF defines them: luma and chroma of BT.601, each with all 256 values, and with half as many rows
/// and columns of chroma as of luma.
pub struct Planes {
    /// The picture's size: multiples of 16.
    pub size: Size,
    /// Y, Cb and Cr, each row by row without padding.
    pub samples: Vec<u8>,
}

/// An encoded picture.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The picture as it is sent.
    pub jpeg: Jpeg,
    /// Whether the picture did not fit at the station's quality, and has a lower one.
    pub squeezed: bool,
}

/// The size of a station by its first film: no wider than `width`, never enlarged, with the height that keeps the
/// film's shape. Both sides are rounded to the nearest multiple of 16, from 16 to 2,032.
pub fn station_size(film: (u32, u32), pixel_aspect: f64, width: u16) -> Size {
    let (film_width, film_height) = (f64::from(film.0) * pixel_aspect, f64::from(film.1));
    // The height bounds a tall film: RTP/JPEG carries no side above MAX_SIDE.
    let limit = f64::from(MAX_SIDE / 16 * 16);
    let scale = (f64::from(width).min(film_width) / film_width).min(limit / film_height);
    let side = |length: f64| ((length * scale / 16.0).round() * 16.0).clamp(16.0, limit) as u16;
    Size { width: side(film_width), height: side(film_height) }
}

/// Resizes and encodes the pictures of one station.
pub struct Encoder {
    compressor: Compressor,
    size: Size,
    quality: u8,
    /// The quality at which the last picture fitted. The next one usually fits at the first try.
    predicted: u8,
    /// The picture at the size that keeps its shape, if it needs black bars.
    resized: Mat,
    /// The picture at the station's size.
    fitted: Mat,
}

impl Encoder {
    /// An encoder to pictures of `size` (multiples of 16) at `quality`, 1..=99, or a lower quality for a picture that
    /// would not fit.
    ///
    /// # Errors
    /// turbojpeg cannot be initialised.
    pub fn new(size: Size, quality: u8) -> Result<Encoder, EncodeError> {
        // Films are decoded and encoded side by side. OpenCV's own threads would have the priority of the thread that needed
        // them first, for ever.
        ONE_THREAD.call_once(|| drop(opencv::core::set_num_threads(1)));
        let mut compressor = Compressor::new()?;
        // RFC 2435 type 1. Baseline, standard Huffman tables and no restart markers are turbojpeg's defaults, and
        // `Jpeg::from_jfif` refuses anything else.
        compressor.set_subsamp(Subsamp::Sub2x2)?;
        Ok(Encoder {
            compressor,
            size,
            quality,
            predicted: quality,
            resized: Mat::default(),
            fitted: Mat::default(),
        })
    }

    /// The size of all encoded pictures.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Encodes a film's picture.
    ///
    /// # Errors
    /// The picture does not fit a datagram at any quality, or a library fails.
    pub fn encode(&mut self, pixels: &Pixels) -> Result<Encoded, EncodeError> {
        match pixels {
            Pixels::Bgr { pixels, pixel_aspect } => self.encode_bgr(pixels, *pixel_aspect),
            Pixels::Planes(planes) => self.encode_planes(planes),
        }
    }

    /// Encodes a BGR picture. One of another shape than the station's gets black bars.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_bgr(&mut self, pixels: &Mat, pixel_aspect: f64) -> Result<Encoded, EncodeError> {
        self.fit(pixels, pixel_aspect)?;
        let pixels = std::mem::take(&mut self.fitted);
        let encoded =
            self.encode_packed(pixels.data_bytes()?, 3 * usize::from(self.size.width), PixelFormat::BGR);
        self.fitted = pixels;
        encoded
    }

    fn encode_planes(&mut self, planes: &Planes) -> Result<Encoded, EncodeError> {
        debug_assert_eq!(planes.size, self.size, "made for another station");
        let image = || YuvImage {
            pixels: &planes.samples[..],
            width: usize::from(planes.size.width),
            align: 1,
            height: usize::from(planes.size.height),
            subsamp: Subsamp::Sub2x2,
        };
        self.squeeze(|compressor| compressor.compress_yuv_to_vec(image()))
    }

    /// Encodes pixels that have the station's size already: `0x00RRGGBB`, row by row, as in a
    /// [`Canvas`](crate::paint::Canvas).
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_rgb32(&mut self, pixels: &[u32]) -> Result<Encoded, EncodeError> {
        let format = if cfg!(target_endian = "big") { PixelFormat::XRGB } else { PixelFormat::BGRX };
        self.encode_packed(bytemuck::cast_slice(pixels), 4 * usize::from(self.size.width), format)
    }

    /// Brings a picture to the station's size, in `self.fitted`.
    fn fit(&mut self, pixels: &Mat, pixel_aspect: f64) -> Result<(), EncodeError> {
        let (width, height) = (i32::from(self.size.width), i32::from(self.size.height));
        let inner = inner_size(pixels.cols(), pixels.rows(), pixel_aspect, self.size);
        let resize = |from: &Mat, to: &mut Mat, (w, h): (i32, i32)| {
            // INTER_AREA averages the pixels that it drops, so that fine detail in a reduced film does not shimmer.
            let shrinks = w < from.cols() || h < from.rows();
            let interpolation = if shrinks { imgproc::INTER_AREA } else { imgproc::INTER_LINEAR };
            imgproc::resize(from, to, CvSize::new(w, h), 0.0, 0.0, interpolation)
        };
        if inner == (width, height) {
            return Ok(resize(pixels, &mut self.fitted, inner)?);
        }
        resize(pixels, &mut self.resized, inner)?;
        self.fitted = Mat::new_rows_cols_with_default(height, width, pixels.typ(), Scalar::all(0.0))?;
        let (left, top) = bars(inner, self.size);
        let place = Rect::new(left, top, inner.0, inner.1);
        let mut window = Mat::roi_mut(&mut self.fitted, place)?;
        Ok(self.resized.copy_to(&mut window)?)
    }

    fn encode_packed(
        &mut self,
        pixels: &[u8],
        pitch: usize,
        format: PixelFormat,
    ) -> Result<Encoded, EncodeError> {
        let image = Image {
            pixels,
            width: usize::from(self.size.width),
            pitch,
            height: usize::from(self.size.height),
            format,
        };
        self.squeeze(|compressor| compressor.compress_to_vec(image))
    }

    /// Compresses a picture at the best quality up to the station's at which it fits a datagram.
    fn squeeze(
        &mut self,
        compress: impl Fn(&mut Compressor) -> turbojpeg::Result<Vec<u8>>,
    ) -> Result<Encoded, EncodeError> {
        let mut q = self.predicted;
        loop {
            self.compressor.set_quality(i32::from(q))?;
            let file = compress(&mut self.compressor)?;
            let jpeg = Jpeg::from_jfif(file.into(), q)?;
            let fill = jpeg.scan.len() as f64 / MAX_SCAN as f64;
            if fill <= 1.0 {
                self.predicted = if fill < RELAX_BELOW { (q + 1).min(self.quality) } else { q };
                return Ok(Encoded { jpeg, squeezed: q < self.quality });
            }
            if q == 1 {
                return Err(EncodeError::DoesNotFit(self.size));
            }
            q = lower_quality(q, fill);
        }
    }
}

/// The quality to try after quality `q` took `fill` (more than 1) times the budget. At medium qualities the size is
/// about proportional to the inverse square root of the tables' scale, so that one further try usually suffices.
fn lower_quality(q: u8, fill: f64) -> u8 {
    let scale = |q: f64| if q < 50.0 { 5000.0 / q } else { 200.0 - 2.0 * q };
    let wanted = scale(f64::from(q)).max(2.0) * (fill / SQUEEZE_TARGET).powf(1.5);
    let lower = if wanted > 100.0 { 5000.0 / wanted } else { (200.0 - wanted) / 2.0 };
    (lower as u8).clamp(1, q - 1)
}

/// The size within the station's at which a picture keeps its shape: even, as chroma has it. A picture whose shape differs only by
/// the rounding to multiples of 16 is stretched to the station's size: bars of a few lines would look like a fault.
pub(super) fn inner_size(cols: i32, rows: i32, pixel_aspect: f64, station: Size) -> (i32, i32) {
    let (width, height) = (f64::from(station.width), f64::from(station.height));
    let shape = f64::from(cols) * pixel_aspect / f64::from(rows);
    let (w, h) = if shape >= width / height { (width, width / shape) } else { (height * shape, height) };
    let side = |inner: f64, whole: f64| {
        if whole - inner <= STRETCHED { whole as i32 } else { 2 * ((inner / 2.0).round() as i32).max(1) }
    };
    (side(w, width), side(h, height))
}

/// The width of the left bar and the height of the upper one beside a picture of this size, both even.
pub(super) fn bars(inner: (i32, i32), station: Size) -> (i32, i32) {
    let bar = |inner: i32, whole: u16| (i32::from(whole) - inner) / 4 * 2;
    (bar(inner.0, station.width), bar(inner.1, station.height))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::jpeg::{Chroma, Tables};

    /// A picture of BGR pixels, from a function of their coordinates.
    fn mat(width: i32, height: i32, pixel: impl Fn(i32, i32) -> [u8; 3]) -> Mat {
        let bytes: Vec<u8> = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .flat_map(|(x, y)| pixel(x, y))
            .collect();
        Mat::from_slice(&bytes).unwrap().reshape(3, height).unwrap().try_clone().unwrap()
    }

    /// An RGB pixel of the decoded picture.
    fn pixel(jpeg: &Jpeg, x: usize, y: usize) -> [u8; 3] {
        let image = turbojpeg::decompress(&jpeg.to_jfif(), PixelFormat::RGB).unwrap();
        let at = y * image.pitch + 3 * x;
        image.pixels[at..at + 3].try_into().unwrap()
    }

    fn near(a: [u8; 3], b: [u8; 3]) -> bool {
        a.iter().zip(b).all(|(&a, b)| a.abs_diff(b) < 12)
    }

    #[test]
    fn the_size_follows_the_film_and_is_never_enlarged() {
        for (film, aspect, width, expected) in [
            ((1280, 720), 1.0, 640, "640x368"),
            ((640, 272), 1.0, 640, "640x272"),
            ((176, 144), 1.0, 640, "176x144"),
            ((400, 225), 1.0, 640, "400x224"),
            ((853, 480), 1.0, 640, "640x368"),
            ((853, 480), 1.0, 2040, "848x480"),
            ((240, 426), 1.0, 640, "240x432"),
            ((1080, 1920), 1.0, 640, "640x1136"),
            ((1080, 1920), 1.0, 2040, "1088x1920"),
            ((720, 576), 64.0 / 45.0, 2040, "1024x576"),
            ((4096, 4096), 1.0, 2040, "2032x2032"),
            ((500, 4000), 1.0, 2040, "256x2032"),
            ((5, 5), 1.0, 640, "16x16"),
            ((4000, 10), 1.0, 16, "16x16"),
        ] {
            assert_eq!(station_size(film, aspect, width).to_string(), expected, "{film:?} at {width}");
        }
    }

    #[test]
    fn pictures_of_every_quality_can_be_sent() {
        let size = Size { width: 64, height: 48 };
        let picture = mat(64, 48, |x, y| [x as u8 * 4, y as u8 * 5, (x * y) as u8]);
        for q in 1..=99 {
            let encoded = Encoder::new(size, q).unwrap().encode_bgr(&picture, 1.0).unwrap();
            // Baseline, standard Huffman tables and 8-bit samples are checked by `from_jfif`.
            let jpeg = encoded.jpeg;
            assert_eq!(jpeg.tables, Tables::Standard(q), "libjpeg's scaling is RFC 2435's");
            assert_eq!((jpeg.chroma, jpeg.restart_interval, jpeg.size), (Chroma::Yuv420, None, size));
            assert!(!encoded.squeezed);
        }
    }

    #[test]
    fn a_picture_that_does_not_fit_is_squeezed_and_the_next_one_fits_at_the_first_try() {
        let mut rng = fastrand::Rng::with_seed(5);
        let noise: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(640 * 368 * 3).collect();
        let noise = mat(640, 368, |x, y| std::array::from_fn(|c| noise[((y * 640 + x) * 3) as usize + c]));
        let mut encoder = Encoder::new(Size { width: 640, height: 368 }, 80).unwrap();
        let first = encoder.encode_bgr(&noise, 1.0).unwrap();
        assert!(first.squeezed && first.jpeg.scan.len() <= MAX_SCAN);
        assert!(first.jpeg.scan.len() > MAX_SCAN / 2, "squeezed too much: {}", first.jpeg.scan.len());
        let Tables::Standard(q) = first.jpeg.tables else { panic!("tables") };
        assert!((1..80).contains(&q));
        assert!(encoder.predicted.abs_diff(q) <= 1);
        // Soon after the noise has ended, pictures have full quality again.
        let calm = mat(640, 368, |x, _| [x as u8 / 3; 3]);
        let mut squeezed = std::iter::repeat_with(|| encoder.encode_bgr(&calm, 1.0).unwrap().squeezed);
        assert_eq!(squeezed.nth(79), Some(false));
    }

    #[test]
    fn a_picture_that_fits_at_no_quality_says_what_to_do() {
        let mut rng = fastrand::Rng::with_seed(5);
        let coarse: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(256 * 256).collect();
        let noise = mat(2032, 2032, |x, y| [coarse[(y / 8 * 256 + x / 8) as usize]; 3]);
        let mut encoder = Encoder::new(Size { width: 2032, height: 2032 }, 80).unwrap();
        let error = encoder.encode_bgr(&noise, 1.0).unwrap_err().to_string();
        assert_eq!(
            error,
            "a picture of 2032x2032 does not fit one datagram even at quality 1; choose a smaller width"
        );
    }

    #[test]
    fn another_shape_is_letterboxed_and_one_that_differs_by_rounding_is_not() {
        let red = mat(400, 400, |_, _| [0, 0, 255]);
        let mut encoder = Encoder::new(Size { width: 640, height: 368 }, 90).unwrap();
        let square = encoder.encode_bgr(&red, 1.0).unwrap().jpeg;
        assert!(near(pixel(&square, 320, 184), [255, 0, 0]));
        assert!(near(pixel(&square, 140, 184), [255, 0, 0]));
        assert!(near(pixel(&square, 130, 184), [0, 0, 0]), "a black bar on the left");
        assert!(near(pixel(&square, 510, 184), [0, 0, 0]), "and on the right");
        let wide = mat(1280, 720, |_, _| [0, 0, 255]);
        let wide = encoder.encode_bgr(&wide, 1.0).unwrap().jpeg;
        for y in [0, 184, 367] {
            assert!(near(pixel(&wide, 320, y), [255, 0, 0]), "row {y} is not black");
        }
        // Anamorphic: 4:3 pixels in a 16:9 picture.
        let pal = mat(720, 576, |_, _| [0, 0, 255]);
        let pal = encoder.encode_bgr(&pal, 64.0 / 45.0).unwrap().jpeg;
        assert!(near(pixel(&pal, 2, 184), [255, 0, 0]));
    }
}
