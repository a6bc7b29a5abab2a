//! From the planes of a decoded picture to those of JPEG, without RGB in between.

use ac_ffmpeg::codec::video::{PixelFormat, VideoFrame};

use crate::content::decode::facts::Colours;
use crate::content::encode::{Planes, bars};
use crate::media::Size;

/// Red's and blue's shares of the luma that JFIF defines: those of BT.601.
const JPEG: (f64, f64) = (0.299, 0.114);

/// Bits behind the binary point of sums before they are rounded. Sums are computed in 16 bits, so that one instruction takes eight
/// samples.
const FRACTION_BITS: u32 = 7;

/// Half of one, with [`FRACTION_BITS`].
const HALF: u16 = 1 << (FRACTION_BITS - 1);

/// Whether pictures of this format have planes of luma and chroma, and no transparency.
pub(super) fn has_planes(format: PixelFormat) -> bool {
    format.name().starts_with("yuv") && !format.name().starts_with("yuva")
}

/// Converts pictures of one film. Chroma of JPEG depends on chroma alone, since both kinds of luma are the same for grey.
#[derive(Debug, Clone, Copy)]
pub(super) struct ToJpeg {
    /// The luma of black.
    black: u8,
    /// The factor of luma above that, with [`FRACTION_BITS`].
    luma: u16,
    luma_by: Chroma,
    cb_by: Chroma,
    cr_by: Chroma,
}

/// The factors by which a film's Cb and Cr enter one of JPEG's samples.
#[derive(Debug, Clone, Copy)]
struct Chroma {
    cb: Factor,
    cr: Factor,
}

/// A factor of a difference of chroma: at least -2 and less than 2.
#[derive(Debug, Clone, Copy)]
struct Factor {
    /// With [`FRACTION_BITS`].
    coarse: i16,
    /// The rest, as a 256th of that.
    fine: i16,
}

impl Factor {
    fn new(factor: f64) -> Factor {
        let bits = (factor * f64::from(256 << FRACTION_BITS)).round() as i32;
        Factor { coarse: (bits >> 8) as i16, fine: (bits & 255) as i16 }
    }

    fn times(self, chroma: i16) -> i16 {
        chroma.wrapping_mul(self.coarse).wrapping_add(chroma.wrapping_mul(self.fine) >> 8)
    }
}

impl Chroma {
    /// This chroma's part in a sample, with [`FRACTION_BITS`].
    fn of(self, cb: u8, cr: u8) -> i16 {
        let difference = |sample: u8| i16::from(sample) - 128;
        self.cb.times(difference(cb)).wrapping_add(self.cr.times(difference(cr)))
    }
}

impl ToJpeg {
    /// The conversion of a film's colours; `None` if no matrix of red's and blue's shares describes them.
    pub(super) fn of(colours: &Colours) -> Option<ToJpeg> {
        // Red's and blue's shares of luma: ITU-T H.273, table 4.
        let (red, blue) = match colours.space.as_str() {
            "smpte170m" | "bt470bg" => JPEG,
            "bt709" => (0.2126, 0.0722),
            "bt2020nc" => (0.2627, 0.0593),
            _ => return None,
        };
        // Of 256 values, limited range uses 16 to 235 for luma, and 16 to 240 for chroma.
        let (black, luma, chroma) = match colours.full_range {
            true => (0, 1.0, 1.0),
            false => (16, 255.0 / 219.0, 255.0 / 224.0),
        };
        // With luma Y: R = Y + 2 (1 - red) Cr, B = Y + 2 (1 - blue) Cb, and G as red R + green G + blue B = Y has it.
        let (jpeg_red, jpeg_blue) = JPEG;
        let green = (1.0 - jpeg_red - jpeg_blue) / (1.0 - red - blue);
        let luma_by_cb = 2.0 * (1.0 - blue) * (jpeg_blue - green * blue);
        let luma_by_cr = 2.0 * (1.0 - red) * (jpeg_red - green * red);
        let chroma = |cb: f64, cr: f64| Chroma { cb: Factor::new(cb * chroma), cr: Factor::new(cr * chroma) };
        let (of_blue, of_red) = (2.0 * (1.0 - jpeg_blue), 2.0 * (1.0 - jpeg_red));
        Some(ToJpeg {
            black,
            luma: (luma * f64::from(1 << FRACTION_BITS)).round() as u16,
            luma_by: chroma(luma_by_cb, luma_by_cr),
            cb_by: chroma((2.0 * (1.0 - blue) - luma_by_cb) / of_blue, -luma_by_cr / of_blue),
            cr_by: chroma(-luma_by_cb / of_red, (2.0 * (1.0 - red) - luma_by_cr) / of_red),
        })
    }

    /// The samples of a picture in 4:2:0 for a station, with black bars if the picture is smaller.
    pub(super) fn convert(&self, frame: &VideoFrame, station: Size) -> Planes {
        let (whole_width, whole_height) = (usize::from(station.width), usize::from(station.height));
        let width = frame.width().min(whole_width) & !1;
        let height = frame.height().min(whole_height) & !1;
        let (left, top) = bars((width as i32, height as i32), station);
        let (left, top) = (left as usize, top as usize);
        let pixels = whole_width * whole_height;
        let mut samples = vec![0; pixels * 3 / 2];
        let (luma, chroma) = samples.split_at_mut(pixels);
        if (width, height) != (whole_width, whole_height) {
            chroma.fill(128);
        }
        let (cb, cr) = chroma.split_at_mut(pixels / 4);
        let planes = frame.planes();
        // The part of chroma in each luma of two rows.
        let mut added = vec![0; width];
        let from = planes[1].lines().zip(planes[2].lines()).take(height / 2);
        let to = cb.chunks_exact_mut(whole_width / 2).zip(cr.chunks_exact_mut(whole_width / 2));
        let to = to.zip(luma.chunks_exact_mut(2 * whole_width)).skip(top / 2);
        for (row, ((from_cb, from_cr), ((to_cb, to_cr), pair))) in from.zip(to).enumerate() {
            // The compiler vectorizes a loop with one output, but not one with three.
            let from = || from_cb[..width / 2].iter().zip(&from_cr[..width / 2]);
            for (to, (&cb, &cr)) in to_cb[left / 2..].iter_mut().zip(from()) {
                *to = sample(128 + rounded(self.cb_by.of(cb, cr)));
            }
            for (to, (&cb, &cr)) in to_cr[left / 2..].iter_mut().zip(from()) {
                *to = sample(128 + rounded(self.cr_by.of(cb, cr)));
            }
            for (to, (&cb, &cr)) in added.chunks_exact_mut(2).zip(from()) {
                to.fill(rounded(self.luma_by.of(cb, cr)));
            }
            for (n, to) in pair.chunks_exact_mut(whole_width).enumerate() {
                let Some(from) = planes[0].line(2 * row + n) else { continue };
                for ((to, &from), &added) in to[left..].iter_mut().zip(&from[..width]).zip(&added) {
                    let luma = u16::from(from.saturating_sub(self.black)) * self.luma;
                    *to = sample(((luma + HALF) >> FRACTION_BITS) as i16 + added);
                }
            }
        }
        Planes { size: station, samples }
    }
}

/// The whole number that is nearest to a value with [`FRACTION_BITS`].
fn rounded(value: i16) -> i16 {
    value.wrapping_add(HALF as i16) >> FRACTION_BITS
}

/// The sample that is nearest to a value.
fn sample(value: i16) -> u8 {
    value.clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use ac_ffmpeg::codec::video::VideoFrameMut;
    use ac_ffmpeg::codec::video::frame::get_pixel_format;

    use super::*;

    /// Colours as shares of red, green and blue.
    const COLOURS: [[f64; 3]; 9] = [
        [0.0, 0.0, 0.0],
        [1.0, 1.0, 1.0],
        [0.5, 0.5, 0.5],
        [1.0, 0.0, 0.0],
        [0.0, 1.0, 0.0],
        [0.0, 0.0, 1.0],
        [1.0, 1.0, 0.0],
        [0.05, 0.87, 0.01],
        [0.9, 0.3, 0.6],
    ];

    /// Luma, Cb and Cr of a colour by the definition of H.273, from 0 to 1 and -0.5 to 0.5.
    fn coded([r, g, b]: [f64; 3], (red, blue): (f64, f64)) -> [f64; 3] {
        let luma = red * r + (1.0 - red - blue) * g + blue * b;
        [luma, (b - luma) / (2.0 * (1.0 - blue)), (r - luma) / (2.0 * (1.0 - red))]
    }

    fn colours(space: &str, full_range: bool) -> Colours {
        Colours { space: space.into(), tagged: true, full_range, high_range: None }
    }

    /// A picture of one colour in 4:2:0.
    fn frame(width: usize, height: usize, samples: [u8; 3]) -> VideoFrame {
        let mut frame = VideoFrameMut::black(get_pixel_format("yuv420p"), width, height);
        for (plane, sample) in frame.planes_mut().iter_mut().zip(samples) {
            plane.data_mut().fill(sample);
        }
        frame.freeze()
    }

    #[test]
    fn each_colour_of_each_matrix_is_the_same_colour_in_jpeg() {
        for (space, shares) in [
            ("bt470bg", (0.299, 0.114)),
            ("smpte170m", (0.299, 0.114)),
            ("bt709", (0.2126, 0.0722)),
            ("bt2020nc", (0.2627, 0.0593)),
        ] {
            for (full_range, black, luma, chroma) in [(true, 0.0, 255.0, 255.0), (false, 16.0, 219.0, 224.0)]
            {
                let to_jpeg = ToJpeg::of(&colours(space, full_range)).unwrap();
                for colour in COLOURS {
                    let [y, cb, cr] = coded(colour, shares);
                    let samples = [black + y * luma, 128.0 + cb * chroma, 128.0 + cr * chroma];
                    let made = to_jpeg.convert(
                        &frame(32, 16, samples.map(|sample| sample.round() as u8)),
                        Size { width: 32, height: 16 },
                    );
                    let [y, cb, cr] = coded(colour, JPEG);
                    let right = [y * 255.0, 128.0 + cb * 255.0, 128.0 + cr * 255.0];
                    for (n, &sample) in made.samples.iter().enumerate() {
                        let right = right[if n < 512 { 0 } else { 1 + (n - 512) / 128 }];
                        // Rounding the samples adds up to 1, and rounding the result a half.
                        let off = (f64::from(sample) - right.min(255.0)).abs();
                        assert!(
                            off <= 1.6,
                            "{space}, {full_range}, {colour:?}: {sample} for {right:.1} at {n}"
                        );
                    }
                }
            }
        }
        assert!(ToJpeg::of(&colours("ycgco", false)).is_none());
        assert!(ToJpeg::of(&colours("gbr", true)).is_none());
    }

    #[test]
    fn a_smaller_picture_has_black_bars_of_even_width() {
        let to_jpeg = ToJpeg::of(&colours("bt709", false)).unwrap();
        let station = Size { width: 64, height: 32 };
        let made = to_jpeg.convert(&frame(54, 32, [235, 90, 200]), station);
        let whites = |row: &[u8]| (0..row.len()).filter(|&n| row[n] > 128).collect::<Vec<_>>();
        for row in made.samples[..64 * 32].chunks(64) {
            assert_eq!(whites(row), (4..58).collect::<Vec<_>>());
            assert_eq!((row[0], row[63]), (0, 0));
        }
        for row in made.samples[64 * 32 + 32 * 16..].chunks(32) {
            assert_eq!(whites(row), (2..29).collect::<Vec<_>>(), "Cr is where luma is");
            assert_eq!((row[0], row[31]), (128, 128));
        }
        let made = to_jpeg.convert(&frame(64, 22, [235, 128, 128]), station);
        let rows = made.samples[..64 * 32].chunks(64).map(|row| row[31]).collect::<Vec<_>>();
        assert_eq!(whites(&rows), (4..26).collect::<Vec<_>>());
    }
}
