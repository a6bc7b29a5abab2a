//! A picture file, which is shown for some seconds like a slide. OpenCV decodes it and turns it by its EXIF orientation.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use opencv::core::{CV_8UC3, Mat, Rect, Scalar};
use opencv::imgcodecs::{self, IMREAD_COLOR};
use opencv::prelude::*;

use super::{PictureSource, SourceError, SourcePicture, display, open_file, unreadable};
use crate::content::encode::Pixels;
use crate::lineup::DEFAULT_SLIDE;
use crate::media::FrameRate;

/// Size of the largest file that is read, in bytes.
const MOST_BYTES: u64 = 256 << 20;

/// Size of the largest picture that is decoded, in pixels: 384 MB of memory. Telephones take pictures of 108 million pixels.
const MOST_PIXELS: u64 = 128 << 20;

/// Whether a file that begins with `head` is a JPEG, PNG or WebP picture.
pub(super) fn is_picture(head: &[u8]) -> bool {
    head.starts_with(&[0xff, 0xd8, 0xff])
        || head.starts_with(b"\x89PNG\r\n\x1a\n")
        || head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP")
}

/// A picture that is shown for some seconds.
pub(super) struct SlideSource {
    path: PathBuf,
    pixels: Mat,
    /// How long the picture is shown.
    slide: Duration,
    shown: bool,
    remarks: Vec<String>,
}

impl SlideSource {
    pub(super) fn open(path: &Path) -> Result<SlideSource, SourceError> {
        let failed = |reason: &str| SourceError::Decoder { path: display(path), reason: reason.to_owned() };
        let mut bytes = Vec::new();
        let read = |file: File| file.take(MOST_BYTES + 1).read_to_end(&mut bytes);
        open_file(path).and_then(read).map_err(|error| unreadable(path, &error))?;
        if bytes.len() as u64 > MOST_BYTES || pixels(&bytes).is_some_and(|pixels| pixels > MOST_PIXELS) {
            return Err(failed("the picture is too large"));
        }
        // OpenCV 4.6 and FFmpeg 5.1 do not decode animated WebP.
        let animation = Animation::of(&bytes);
        let still = animation.as_ref().map_or(&bytes, |animation| &animation.first);
        if pixels(still).is_some_and(|pixels| pixels > MOST_PIXELS) {
            return Err(failed("the picture is too large"));
        }
        let reason = |error: opencv::Error| failed(error.message.lines().next().unwrap_or_default());
        let mut pixels = imgcodecs::imdecode(&still.as_slice(), IMREAD_COLOR).map_err(reason)?;
        if pixels.empty() {
            return Err(failed("the picture is damaged"));
        }
        let mut remarks = Vec::new();
        if let Some(animation) = animation {
            pixels = animation.on_canvas(pixels).map_err(reason)?;
            remarks.push(format!("{} is an animated WebP; only its first picture is shown", display(path)));
        }
        Ok(SlideSource { path: path.to_owned(), pixels, slide: DEFAULT_SLIDE, shown: false, remarks })
    }
}

/// The first picture of an animated WebP (RFC 9649 section 2.7).
struct Animation {
    /// It as a file of its own, without its transparency, which is not shown of other pictures either.
    first: Vec<u8>,
    /// Width and height of the animation in pixels. Its pictures may be smaller.
    canvas: (i32, i32),
    /// Where the picture's left upper corner is.
    at: (i32, i32),
}

impl Animation {
    /// `None` of any other file.
    fn of(file: &[u8]) -> Option<Animation> {
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | i32::from(byte));
        let is_webp = file.starts_with(b"RIFF") && file.get(8..12) == Some(b"WEBP");
        let mut chunks = chunks(file.get(12..).filter(|_| is_webp)?);
        let (_, header) = chunks.next().filter(|(name, _)| name == b"VP8X")?;
        let canvas = header.get(4..10)?;
        let (_, frame) = chunks.find(|(name, _)| name == b"ANMF")?;
        let (place, frame) = frame.split_at_checked(16)?;
        let (name, coded) = self::chunks(frame).find(|(name, _)| matches!(name, b"VP8 " | b"VP8L"))?;
        let padding = coded.len() % 2;
        let length = |length: usize| u32::try_from(length).ok().map(u32::to_le_bytes);
        let first = [
            &b"RIFF"[..],
            &length(12 + coded.len() + padding)?,
            b"WEBP",
            &name,
            &length(coded.len())?,
            coded,
            &[0][..padding],
        ];
        Some(Animation {
            first: first.concat(),
            canvas: (number(&canvas[..3]) + 1, number(&canvas[3..]) + 1),
            at: (2 * number(&place[..3]), 2 * number(&place[3..6])),
        })
    }

    /// The whole animation as it begins: black around the first picture.
    fn on_canvas(&self, first: Mat) -> opencv::Result<Mat> {
        let (canvas, at, size) = (self.canvas, self.at, (first.cols(), first.rows()));
        if size == canvas {
            return Ok(first);
        }
        let mut whole = Mat::new_rows_cols_with_default(canvas.1, canvas.0, CV_8UC3, Scalar::default())?;
        first.copy_to(&mut Mat::roi_mut(&mut whole, Rect::new(at.0, at.1, size.0, size.1))?)?;
        Ok(whole)
    }
}

/// The chunks of a RIFF file, as far as they are whole: name and content.
fn chunks(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let (name, rest) = bytes.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let content = rest.get(..length)?;
        bytes = rest.get(length + length % 2..).unwrap_or_default();
        Some((*name, content))
    })
}

/// The number of pixels by a picture's header.
fn pixels(bytes: &[u8]) -> Option<u64> {
    let number = |at: usize, length: usize, big: bool| {
        let bytes = bytes.get(at..at + length)?;
        let add = |sum: u64, &byte: &u8| sum << 8 | u64::from(byte);
        Some(if big { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) })
    };
    match bytes.get(12..16)? {
        b"IHDR" => Some(number(16, 4, true)? * number(20, 4, true)?),
        b"VP8X" => Some((number(24, 3, false)? + 1) * (number(27, 3, false)? + 1)),
        // The other kinds of WebP have 14 bits a side: 268 million pixels at most.
        b"VP8L" => {
            let sides = number(21, 4, false)?;
            Some(((sides & 0x3fff) + 1) * ((sides >> 14 & 0x3fff) + 1))
        }
        b"VP8 " => Some((number(26, 2, false)? & 0x3fff) * (number(28, 2, false)? & 0x3fff)),
        _ => turbojpeg::read_header(bytes).ok().map(|header| header.width as u64 * header.height as u64),
    }
}

impl PictureSource for SlideSource {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> (u32, u32) {
        (self.pixels.cols().unsigned_abs(), self.pixels.rows().unsigned_abs())
    }

    fn pixel_aspect(&self) -> f64 {
        1.0
    }

    fn rate(&self) -> FrameRate {
        let millis = u32::try_from(self.slide.as_millis()).unwrap_or(u32::MAX);
        FrameRate::new(1000, millis).unwrap_or(crate::media::REPEAT_RATE)
    }

    fn announced(&self) -> u64 {
        1
    }

    fn length(&self) -> Option<Duration> {
        Some(self.slide)
    }

    fn remarks(&self) -> &[String] {
        &self.remarks
    }

    fn show_for(&mut self, slide: Duration) {
        self.slide = slide;
    }

    fn next_picture(&mut self) -> Result<Option<SourcePicture>, SourceError> {
        if std::mem::replace(&mut self.shown, true) {
            return Ok(None);
        }
        let pixels = Pixels::from(std::mem::take(&mut self.pixels));
        Ok(Some(SourcePicture { pixels, stamp: Duration::ZERO, lasts: Some(self.slide) }))
    }

    fn seek(&mut self, position: Duration) -> Result<(), SourceError> {
        let is_on = position < self.slide;
        if is_on && self.pixels.empty() {
            *self = SlideSource { slide: self.slide, ..SlideSource::open(&self.path)? };
        }
        self.shown = !is_on;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bytes_behind_the_header_of_an_animation_make_it_panic() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut file = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\x3f\0\0\x2f\0\0ANMF\x20\0\0\0".to_vec();
            file.extend([0; 16]);
            file.extend(b"VP8 \x08\0\0\0\0\0\0\0\0\0\0\0");
            let whole = Animation::of(&file).unwrap();
            assert_eq!((whole.canvas, whole.at, whole.first.len()), ((64, 48), (0, 0), 28));
            for _ in 0..random.usize(1..6) {
                let at = random.usize(12..file.len());
                file[at] = random.u8(..);
            }
            Animation::of(&file[..random.usize(..=file.len())]);
        }
    }

    #[test]
    fn the_size_of_a_picture_is_known_before_it_is_decoded() {
        let png = |side: u32| {
            let side = side.to_be_bytes();
            [&b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"[..], &side, &side].concat()
        };
        assert_eq!(pixels(&png(100_000)), Some(10_000_000_000));
        let webp = |kind: &[u8], rest: &[u8]| [b"RIFF\0\0\0\0WEBP", kind, &[0; 4], rest].concat();
        assert_eq!(pixels(&webp(b"VP8X", &[0, 0, 0, 0, 0xff, 0xff, 0xff, 1, 0, 0])), Some(1 << 25));
        assert_eq!(pixels(&webp(b"VP8L", &[0x2f, 0xff, 0xff, 0xff, 0x0f])), Some(1 << 28));
        assert_eq!(pixels(&webp(b"VP8 ", &[0, 0, 0, 0x9d, 1, 0x2a, 64, 1, 240, 0])), Some(320 * 240));
        for short in [&b""[..], b"RIFF\0\0\0\0WEBPVP8X", b"\xff\xd8\xff\xe0 a torn JPEG"] {
            assert_eq!(pixels(short), None);
        }
    }
}
