//! A picture file, which is shown for some seconds like a slide. OpenCV decodes it and turns it by its EXIF orientation.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use opencv::core::Mat;
use opencv::imgcodecs::{self, IMREAD_COLOR};
use opencv::prelude::*;

use super::{PictureSource, SourceError, SourcePicture, display, open_file, unreadable};
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
        let pixels = imgcodecs::imdecode(&bytes.as_slice(), IMREAD_COLOR)
            .map_err(|error| failed(error.message.lines().next().unwrap_or_default()))?;
        if pixels.empty() {
            return Err(failed("the picture is damaged"));
        }
        Ok(SlideSource { path: path.to_owned(), pixels, slide: DEFAULT_SLIDE, shown: false })
    }
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

    fn show_for(&mut self, slide: Duration) {
        self.slide = slide;
    }

    fn next_picture(&mut self) -> Result<Option<SourcePicture>, SourceError> {
        if std::mem::replace(&mut self.shown, true) {
            return Ok(None);
        }
        let pixels = std::mem::take(&mut self.pixels);
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
