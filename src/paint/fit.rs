//! Scales the picture into a window of any shape: as large as possible, at its own aspect ratio, between black bars.

use picture_scale::{Place, Scaler};

use super::decode::DecodedPicture;
use super::{Canvas, Rectangle, area};
use crate::media::Size;

/// The largest rectangle of a picture's aspect ratio, centred in a window; empty if either is empty.
pub fn fit(picture: Size, width: usize, height: usize) -> Rectangle {
    let (pw, ph) = (usize::from(picture.width), usize::from(picture.height));
    if pw == 0 || ph == 0 || width == 0 || height == 0 {
        return Rectangle::default();
    }
    let scaled = |side: usize, by: usize, from: usize| ((side * by + from / 2) / from).max(1);
    let (w, h) = if width * ph <= height * pw {
        (width, scaled(ph, width, pw).min(height))
    } else {
        (scaled(pw, height, ph).min(width), height)
    };
    area(((width - w) / 2) as i32, ((height - h) / 2) as i32, w as i32, h as i32)
}

/// Paints scaled pictures. Keeps the scaler's buffers from one picture to the next.
#[derive(Debug, Default)]
pub struct Fitter {
    scaler: Scaler,
}

impl Fitter {
    /// Paints the whole canvas: the picture scaled to fit, and black bars around it. Returns the picture's rectangle.
    /// The canvas is black without a picture, or if the number of pixels does not match the picture's size.
    pub fn paint(&mut self, picture: Option<&DecodedPicture>, canvas: &mut Canvas) -> Rectangle {
        let place = picture
            .filter(|picture| picture.pixels.len() == pixels(picture.size))
            .map(|picture| (picture, fit(picture.size, canvas.width, canvas.height)))
            .filter(|(_, at)| !at.is_empty())
            .filter(|(picture, at)| self.place(picture, *at, canvas));
        let at = place.map_or(Rectangle::default(), |(_, at)| at);
        let Rectangle { x, y, .. } = at;
        let (right, foot) = (x + at.width, y + at.height);
        let (width, height) = (canvas.width as i32, canvas.height as i32);
        canvas.fill(area(0, 0, width, y), 0);
        canvas.fill(area(0, foot, width, height - foot), 0);
        canvas.fill(area(0, y, x, foot - y), 0);
        canvas.fill(area(right, y, width - right, foot - y), 0);
        at
    }

    /// Paints the picture at `at`, in any shape. Returns whether that succeeded: `at` lies inside the canvas.
    pub fn place(&mut self, picture: &DecodedPicture, at: Rectangle, canvas: &mut Canvas) -> bool {
        let (width, height) = (u32::from(picture.size.width), u32::from(picture.size.height));
        let (left, top) = (at.x as u32, at.y as u32);
        let (at_width, at_height) = (at.width as u32, at.height as u32);
        if (at_width, at_height) == (width, height) {
            let rows = canvas.pixels.chunks_exact_mut(canvas.width).skip(top as usize);
            for (to, from) in rows.zip(picture.pixels.chunks_exact(width as usize)) {
                to[left as usize..][..width as usize].copy_from_slice(from);
            }
            return true;
        }
        let whole = (canvas.width as u32, canvas.height as u32);
        let place = Place { x: left, y: top, width: at_width, height: at_height };
        let from = bytemuck::cast_slice(&picture.pixels);
        self.scaler.scale(from, (width, height), bytemuck::cast_slice_mut(&mut canvas.pixels), whole, place)
    }
}

fn pixels(size: Size) -> usize {
    usize::from(size.width) * usize::from(size.height)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn white(width: u16, height: u16) -> DecodedPicture {
        DecodedPicture {
            size: Size { width, height },
            pixels: vec![0xff_ffff; pixels(Size { width, height })],
        }
    }

    #[test]
    fn a_picture_keeps_its_aspect_ratio() {
        for ((pw, ph), (w, h), place) in [
            ((640, 360), (640, 360), area(0, 0, 640, 360)),
            ((640, 360), (1280, 720), area(0, 0, 1280, 720)),
            ((640, 360), (1280, 800), area(0, 40, 1280, 720)),
            ((640, 360), (1000, 360), area(180, 0, 640, 360)),
            ((360, 640), (640, 360), area(218, 0, 203, 360)),
            ((2040, 16), (300, 200), area(0, 99, 300, 2)),
            ((16, 2040), (300, 200), area(149, 0, 2, 200)),
            ((2040, 16), (1, 1), area(0, 0, 1, 1)),
            ((0, 16), (10, 10), area(0, 0, 0, 0)),
        ] {
            assert_eq!(fit(Size { width: pw, height: ph }, w, h), place, "{pw}x{ph} in {w}x{h}");
        }
    }

    #[test]
    fn the_bars_are_black_and_the_picture_is_in_place() {
        let mut fitter = Fitter::default();
        for (w, h) in [(64, 36), (100, 36), (64, 50), (128, 90), (30, 30), (1, 1), (7, 200)] {
            let mut canvas = Canvas::new(w, h);
            canvas.pixels.fill(0x12_3456);
            let picture = white(64, 36);
            let at = fitter.paint(Some(&picture), &mut canvas);
            for (n, &pixel) in canvas.pixels.iter().enumerate() {
                let inside = at.contains((n % w) as i32, (n / w) as i32);
                assert_eq!(pixel, if inside { 0xff_ffff } else { 0 }, "{},{} of {w}x{h}", n % w, n / w);
            }
        }
    }

    #[test]
    fn at_its_own_size_a_picture_is_copied_exactly() {
        let mut picture = white(33, 17);
        picture
            .pixels
            .iter_mut()
            .enumerate()
            .for_each(|(n, pixel)| *pixel = (n as u32 * 0x0001_0305) & 0xff_ffff);
        let mut canvas = Canvas::new(33, 17);
        Fitter::default().paint(Some(&picture), &mut canvas);
        assert_eq!(canvas.pixels, picture.pixels);
    }

    #[test]
    fn no_picture_is_black() {
        let mut canvas = Canvas::new(9, 5);
        let mut liar = white(4, 4);
        liar.pixels.pop();
        for none in [None, Some(&liar), Some(&DecodedPicture::empty())] {
            canvas.pixels.fill(0x12_3456);
            Fitter::default().paint(none, &mut canvas);
            assert_eq!(canvas.pixels, vec![0; 45]);
        }
    }

    proptest! {
        #[test]
        fn a_picture_always_lies_inside(pw in 1u16..2041, ph in 1u16..2041, w in 1usize..5000, h in 1usize..5000) {
            let at = fit(Size { width: pw, height: ph }, w, h);
            prop_assert!(at.x >= 0 && at.y >= 0);
            let (right, foot) = ((at.x + at.width) as usize, (at.y + at.height) as usize);
            prop_assert!(at.width > 0 && at.height > 0 && right <= w && foot <= h);
            prop_assert!(at.width as usize == w || at.height as usize == h);
        }
    }
}
