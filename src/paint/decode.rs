//! The JPEG decoder for received pictures (libjpeg-turbo).

use turbojpeg::{Decompressor, Image, PixelFormat, ScalingFactor};

use crate::media::Size;

/// Longest side of a picture, in pixels: RTP/JPEG carries it divided by eight in one byte (RFC 2435 section 3.1.5).
pub const LONGEST_SIDE: usize = 255 * 8;

/// The pixel format that makes a native `u32` 0x00RRGGBB.
const FORMAT: PixelFormat = if cfg!(target_endian = "big") { PixelFormat::XRGB } else { PixelFormat::BGRX };

/// Most scans in a picture. Broadcast pictures are baseline, with one scan; a progressive picture with thousands of
/// scans, which takes seconds to decode, is an attack (libjpeg-turbo, "Two issues with the JPEG standard").
const MOST_SCANS: u32 = 20;

/// A decoded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedPicture {
    /// Width and height.
    pub size: Size,
    /// The pixels, row after row from the top, each 0x00RRGGBB.
    pub pixels: Vec<u32>,
}

impl DecodedPicture {
    /// A picture without pixels, for [`Decoder::decode_into`] to fill.
    pub const fn empty() -> DecodedPicture {
        DecodedPicture { size: Size { width: 0, height: 0 }, pixels: Vec::new() }
    }
}

/// Into how many times fewer pixels, in each direction, a picture is decoded. The inverse DCT computes the smaller picture at once.
/// libjpeg-turbo has SIMD code for these sizes alone, and it is the accurate one at each: the fast one differs visibly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Shrink {
    /// As it is.
    #[default]
    Whole,
    /// A half.
    Half,
    /// A quarter.
    Quarter,
}

/// How much larger than a tile its picture need not be decoded, in percent: a picture that is scaled up by less looks sharp, and
/// decoding at a half takes two thirds of the time, at a quarter half of it.
const ENLARGED: u32 = 125;

impl Shrink {
    /// The smallest size at which a picture of `size` fills a place of `width` by `height` pixels, or nearly does.
    pub fn for_place(size: Size, (width, height): (u32, u32)) -> Shrink {
        let fills = |by: u32| {
            let side = |side: u16| u32::from(side).div_ceil(by) * ENLARGED / 100;
            side(size.width) >= width || side(size.height) >= height
        };
        if fills(4) {
            Shrink::Quarter
        } else if fills(2) {
            Shrink::Half
        } else {
            Shrink::Whole
        }
    }

    fn factor(self) -> ScalingFactor {
        match self {
            Shrink::Whole => ScalingFactor::ONE,
            Shrink::Half => ScalingFactor::ONE_HALF,
            Shrink::Quarter => ScalingFactor::ONE_QUARTER,
        }
    }
}

/// Why a JPEG could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It is too large; it was refused before memory was allocated for it.
    #[error("picture of {width}x{height}: a side may have at most {LONGEST_SIDE} pixels")]
    TooLarge {
        /// Width according to its header, in pixels.
        width: usize,
        /// Height according to its header, in pixels.
        height: usize,
    },
    /// It is damaged, or not a JPEG.
    #[error("JPEG of {bytes} bytes: {reason}")]
    Jpeg {
        /// Length of the JPEG, in bytes.
        bytes: usize,
        /// The message of libjpeg-turbo.
        reason: String,
    },
    /// The decoder could not be created.
    #[error("JPEG decoder: {0}")]
    Setup(String),
}

/// Decodes pictures.
///
/// A damaged picture is an error, so that the caller keeps the one before it, which disturbs less than a half-grey one.
/// For some damage libjpeg only warns (and fills in the rest); the turbojpeg crate returns an error for these too, and
/// so do we, with one exception: surplus bytes after a complete scan, which hardware encoders leave there, are
/// harmless.
#[derive(Debug)]
pub struct Decoder {
    turbo: Decompressor,
}

impl Decoder {
    /// A decoder.
    ///
    /// # Errors
    /// libjpeg-turbo cannot allocate memory.
    pub fn new() -> Result<Decoder, DecodeError> {
        let turbo = fresh().map_err(|error| DecodeError::Setup(error.to_string()))?;
        Ok(Decoder { turbo })
    }

    /// Decodes a picture into new memory.
    ///
    /// # Errors
    /// As [`decode_into`](Self::decode_into).
    pub fn decode(&mut self, jpeg: &[u8]) -> Result<DecodedPicture, DecodeError> {
        let mut picture = DecodedPicture::empty();
        self.decode_into(jpeg, &mut picture)?;
        Ok(picture)
    }

    /// Decodes a picture into the memory of an older one, which is overwritten.
    ///
    /// # Errors
    /// The JPEG is larger than a station may send, damaged, or not a JPEG. `picture` must then not be shown.
    pub fn decode_into(&mut self, jpeg: &[u8], picture: &mut DecodedPicture) -> Result<(), DecodeError> {
        self.decode_smaller_into(jpeg, Shrink::Whole, picture)
    }

    /// As [`decode_into`](Self::decode_into), in a smaller size.
    ///
    /// # Errors
    /// As [`decode_into`](Self::decode_into).
    pub fn decode_smaller_into(
        &mut self,
        jpeg: &[u8],
        shrink: Shrink,
        picture: &mut DecodedPicture,
    ) -> Result<(), DecodeError> {
        let done = self.try_decode(jpeg, shrink, picture);
        if done.is_err()
            && let Ok(turbo) = fresh()
        {
            // After an error in a header, tj3DecompressHeader (libjpeg-turbo 3.0) returns without jpeg_abort: every
            // later picture would be read as the rest of this one.
            self.turbo = turbo;
        }
        done
    }

    fn try_decode(
        &mut self,
        jpeg: &[u8],
        shrink: Shrink,
        picture: &mut DecodedPicture,
    ) -> Result<(), DecodeError> {
        let failed = |error: turbojpeg::Error| {
            let reason = match error {
                turbojpeg::Error::TurboJpegError(reason) => reason,
                other => other.to_string(),
            };
            DecodeError::Jpeg { bytes: jpeg.len(), reason }
        };
        let header = self.turbo.read_header(jpeg).map_err(failed)?;
        let (width, height) = (header.width, header.height);
        if width > LONGEST_SIDE || height > LONGEST_SIDE {
            return Err(DecodeError::TooLarge { width, height });
        }
        let factor = shrink.factor();
        self.turbo.set_scaling_factor(factor).map_err(failed)?;
        let (width, height) = (factor.scale(width), factor.scale(height));
        picture.size = Size { width: width as u16, height: height as u16 };
        picture.pixels.resize(width * height, 0);
        let pixels = bytemuck::cast_slice_mut(&mut picture.pixels);
        let image = Image { pixels, width, pitch: width * 4, height, format: FORMAT };
        match self.turbo.decompress(jpeg, image) {
            Err(turbojpeg::Error::TurboJpegError(reason)) if is_harmless(&reason) => {}
            done => done.map_err(failed)?,
        }
        // libjpeg-turbo leaves the fourth byte undefined.
        picture.pixels.iter_mut().for_each(|pixel| *pixel &= 0x00ff_ffff);
        Ok(())
    }
}

fn fresh() -> turbojpeg::Result<Decompressor> {
    let mut turbo = Decompressor::new()?;
    turbo.set_scan_limit(MOST_SCANS)?;
    Ok(turbo)
}

/// Whether this is libjpeg's warning JWRN_EXTRANEOUS_DATA before the end marker, 0xd9. libjpeg-turbo reports the first
/// warning of a picture, so this one cannot hide an earlier one.
fn is_harmless(reason: &str) -> bool {
    reason.ends_with("extraneous bytes before marker 0xd9")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use turbojpeg::{Compressor, Subsamp};

    use super::*;

    fn jpeg(width: usize, height: usize, colour: impl Fn(usize, usize) -> [u8; 3]) -> Vec<u8> {
        let mut compressor = Compressor::new().unwrap();
        compressor.set_subsamp(Subsamp::Sub2x2).unwrap();
        compressor.set_quality(90).unwrap();
        let pixels: Vec<u8> = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .flat_map(|(x, y)| colour(x, y))
            .collect();
        let image = Image { pixels: &pixels[..], width, pitch: width * 3, height, format: PixelFormat::RGB };
        compressor.compress_to_vec(image).unwrap()
    }

    fn noise(x: usize, y: usize) -> [u8; 3] {
        [x as u8 ^ y as u8, (x * 7) as u8, (x * y) as u8]
    }

    #[test]
    fn colours_are_in_their_places_and_the_fourth_byte_is_zero() {
        let orange = jpeg(48, 32, |_, _| [240, 120, 20]);
        let picture = Decoder::new().unwrap().decode(&orange).unwrap();
        assert_eq!((picture.size, picture.pixels.len()), (Size { width: 48, height: 32 }, 48 * 32));
        for pixel in picture.pixels {
            let [none, r, g, b] = pixel.to_be_bytes();
            assert!(
                none == 0 && r.abs_diff(240) < 4 && g.abs_diff(120) < 4 && b.abs_diff(20) < 4,
                "{pixel:08x}"
            );
        }
    }

    #[test]
    fn memory_is_reused_for_pictures_of_any_size() {
        let mut decoder = Decoder::new().unwrap();
        let mut picture = DecodedPicture::empty();
        for (width, height) in [(64, 48), (16, 16), (160, 96)] {
            decoder.decode_into(&jpeg(width, height, noise), &mut picture).unwrap();
            assert_eq!(picture, Decoder::new().unwrap().decode(&jpeg(width, height, noise)).unwrap());
        }
    }

    #[test]
    fn a_smaller_picture_has_the_same_colours_in_the_same_places() {
        let corners = |x: usize, y: usize| [[240, 20, 20], [20, 240, 20]][usize::from((x < 80) != (y < 48))];
        let file = jpeg(160, 96, corners);
        let mut decoder = Decoder::new().unwrap();
        let mut picture = DecodedPicture::empty();
        for (shrink, by) in [(Shrink::Quarter, 4), (Shrink::Whole, 1), (Shrink::Half, 2)] {
            decoder.decode_smaller_into(&file, shrink, &mut picture).unwrap();
            let (width, height) = (160 / by, 96 / by);
            assert_eq!(picture.size, Size { width: width as u16, height: height as u16 });
            for (x, y) in
                [(width / 4, height / 4), (width * 3 / 4, height / 4), (width * 3 / 4, height * 3 / 4)]
            {
                let [_, r, g, b] = picture.pixels[y * width + x].to_be_bytes();
                let [r0, g0, b0] = corners(x * by, y * by);
                let near = r.abs_diff(r0) < 9 && g.abs_diff(g0) < 9 && b.abs_diff(b0) < 9;
                assert!(near, "{shrink:?} at {x},{y}: {r},{g},{b}");
            }
        }
        let odd = jpeg(33, 17, noise);
        decoder.decode_smaller_into(&odd, Shrink::Quarter, &mut picture).unwrap();
        assert_eq!(picture.size, Size { width: 9, height: 5 });
    }

    #[test]
    fn a_picture_is_decoded_no_larger_than_its_place_needs() {
        let size = Size { width: 640, height: 368 };
        for (place, shrink) in [
            ((1280, 736), Shrink::Whole),
            ((640, 368), Shrink::Whole),
            ((401, 231), Shrink::Whole),
            ((400, 230), Shrink::Half),
            ((288, 165), Shrink::Half),
            ((200, 115), Shrink::Quarter),
            ((10, 10), Shrink::Quarter),
            ((3000, 100), Shrink::Quarter),
        ] {
            assert_eq!(Shrink::for_place(size, place), shrink, "{place:?}");
        }
    }

    #[test]
    fn a_huge_picture_is_refused_by_its_header() {
        let mut bytes = jpeg(16, 16, noise);
        let frame = bytes.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
        bytes[frame + 5..frame + 9].copy_from_slice(&[0xf0, 0x00, 0xff, 0x00]);
        let error = Decoder::new().unwrap().decode(&bytes).unwrap_err();
        assert_eq!(error, DecodeError::TooLarge { width: 65280, height: 61440 });
        assert_eq!(error.to_string(), "picture of 65280x61440: a side may have at most 2040 pixels");
    }

    #[test]
    fn half_a_picture_is_an_error_and_padding_is_not() {
        let mut decoder = Decoder::new().unwrap();
        let whole = jpeg(160, 96, noise);
        let error = decoder.decode(&whole[..whole.len() / 2]).unwrap_err();
        assert!(error.to_string().contains("Premature end of JPEG file"), "{error}");

        // Half the scan and then the end marker: libjpeg only warns.
        let error = decoder.decode(&[&whole[..whole.len() / 2], &[0xff, 0xd9]].concat()).unwrap_err();
        assert!(matches!(error, DecodeError::Jpeg { .. }), "{error}");

        let padded = [&whole[..whole.len() - 2], &[0; 7], &[0xff, 0xd9]].concat();
        assert_eq!(decoder.decode(&padded), decoder.decode(&whole));
    }

    #[test]
    fn a_bad_header_does_not_spoil_the_pictures_after_it() {
        let good = jpeg(64, 48, noise);
        let mut bad = good.clone();
        let frame = bad.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
        bad[frame + 1] = 0xe5; // an application marker, so that the scan has no frame header
        let mut decoder = Decoder::new().unwrap();
        assert!(decoder.decode(&bad).is_err());
        assert_eq!(decoder.decode(&good), Decoder::new().unwrap().decode(&good));
    }

    #[test]
    fn garbage_is_an_error() {
        let mut decoder = Decoder::new().unwrap();
        for garbage in [&b""[..], b"\xff\xd8", b"\xff\xd8\xff\xd9", b"GIF89a", &[0xff; 1000]] {
            assert!(matches!(decoder.decode(garbage), Err(DecodeError::Jpeg { .. })), "{garbage:?}");
        }
    }

    proptest! {
        #[test]
        fn a_damaged_picture_never_panics(at: prop::sample::Index, bytes in prop::collection::vec(any::<u8>(), 1..9)) {
            let mut damaged = jpeg(48, 48, noise);
            let at = at.index(damaged.len());
            let end = damaged.len().min(at + bytes.len());
            damaged[at..end].copy_from_slice(&bytes[..end - at]);
            // Whatever it returns, the decoder must still work afterwards.
            let mut decoder = Decoder::new().unwrap();
            let _ = decoder.decode(&damaged);
            prop_assert_eq!(decoder.decode(&jpeg(16, 16, noise)), Decoder::new().unwrap().decode(&jpeg(16, 16, noise)));
        }
    }
}
