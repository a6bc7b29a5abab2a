//! Painting on pixels in memory: a [`Canvas`], translucent rounded panels, and [`Type`], smooth text from bitmap fonts.
//!
//! The slate (`content`) and the on-screen display (`screen`) import this room. It imports `media`. It has no window
//! and no clock.
//!
//! Everything clips: any coordinate is allowed, and nothing outside the canvas is painted.

mod cover;
mod text;

use std::ops::Range;

use embedded_graphics::geometry::{Point, Size as Extent};
pub use embedded_graphics::primitives::Rectangle;

use crate::media::Size;
pub use text::Type;

/// A colour, 0x00RRGGBB.
pub type Colour = u32;

/// A rectangle by its top left corner and its extent; a negative extent counts as zero.
pub fn area(x: i32, y: i32, width: i32, height: i32) -> Rectangle {
    Rectangle::new(Point::new(x, y), Extent::new(width.max(0) as u32, height.max(0) as u32))
}

/// An image to paint on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Canvas {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `width * height` pixels, row after row from the top, each 0x00RRGGBB.
    pub pixels: Vec<Colour>,
}

impl Canvas {
    /// A black canvas.
    pub fn new(width: usize, height: usize) -> Canvas {
        Canvas { width, height, pixels: vec![0; width * height] }
    }

    /// A black canvas of a picture's size.
    pub fn of(size: Size) -> Canvas {
        Canvas::new(size.width.into(), size.height.into())
    }

    /// Changes the size, reusing the memory. The content is undefined until the whole canvas is painted.
    pub fn resize(&mut self, width: usize, height: usize) {
        (self.width, self.height) = (width, height);
        self.pixels.resize(width * height, 0);
    }

    /// Fills a rectangle.
    pub fn fill(&mut self, area: Rectangle, colour: Colour) {
        let (columns, rows) = self.clip(area);
        for y in rows {
            self.pixels[y * self.width..][columns.clone()].fill(colour);
        }
    }

    /// Blends a colour over a rectangle; `alpha` goes from 0, transparent, to 255, opaque.
    pub fn blend(&mut self, area: Rectangle, colour: Colour, alpha: u8) {
        let (columns, rows) = self.clip(area);
        for y in rows {
            for pixel in &mut self.pixels[y * self.width..][columns.clone()] {
                *pixel = mix(*pixel, colour, alpha);
            }
        }
    }

    /// Blends a colour over one pixel.
    pub fn blend_pixel(&mut self, x: i32, y: i32, colour: Colour, alpha: u8) {
        if x >= 0 && y >= 0 && (x as usize) < self.width && (y as usize) < self.height {
            let pixel = &mut self.pixels[y as usize * self.width + x as usize];
            *pixel = mix(*pixel, colour, alpha);
        }
    }

    /// Blends a rectangle with round, antialiased corners.
    pub fn panel(&mut self, area: Rectangle, radius: i32, colour: Colour, alpha: u8) {
        let Point { x, y } = area.top_left;
        let (width, height) = (area.size.width as i32, area.size.height as i32);
        let radius = radius.clamp(0, width.min(height) / 2);
        self.blend(self::area(x + radius, y, width - 2 * radius, height), colour, alpha);
        for side in [x, x + width - radius] {
            self.blend(self::area(side, y + radius, radius, height - 2 * radius), colour, alpha);
        }
        for row in 0..radius {
            for column in 0..radius {
                // The share of this pixel inside the corner's circle, by the distance of its centre.
                let far = |n: i32| (radius - n) as f32 - 0.5;
                let inside = (radius as f32 + 0.5 - far(row).hypot(far(column))).clamp(0.0, 1.0);
                let alpha = (f32::from(alpha) * inside) as u8;
                for px in [x + column, x + width - 1 - column] {
                    for py in [y + row, y + height - 1 - row] {
                        self.blend_pixel(px, py, colour, alpha);
                    }
                }
            }
        }
    }

    /// The columns and rows of `area` that lie on the canvas.
    fn clip(&self, area: Rectangle) -> (Range<usize>, Range<usize>) {
        let span = |from: i32, length: u32, end: usize| {
            let place = |at: i64| at.clamp(0, end as i64) as usize;
            place(from.into())..place(i64::from(from) + i64::from(length))
        };
        (
            span(area.top_left.x, area.size.width, self.width),
            span(area.top_left.y, area.size.height, self.height),
        )
    }
}

/// `over` blended over `under`. Red and blue are computed together, since neither overflows into the other's bits.
#[inline]
pub fn mix(under: Colour, over: Colour, alpha: u8) -> Colour {
    let alpha = u32::from(alpha) + u32::from(alpha >> 7); // 0..=256, so that 255 is opaque
    let part = |mask: u32, shift: u32| {
        let (u, o) = ((under & mask) >> shift, (over & mask) >> shift);
        ((((u * (256 - alpha)) + (o * alpha)) >> 8) << shift) & mask
    };
    part(0x00ff_00ff, 0) | part(0x0000_ff00, 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixing_is_exact_at_both_ends() {
        for colour in [0, 0xff_ffff, 0x12_3456, 0xff_0001] {
            assert_eq!(mix(0x65_4321, colour, 255), colour);
            assert_eq!(mix(colour, 0x65_4321, 0), colour);
        }
        assert_eq!(mix(0, 0xff_ffff, 128), 0x80_8080);
    }

    #[test]
    fn rectangles_are_clipped_wherever_they_lie() {
        let mut canvas = Canvas::new(4, 3);
        canvas.fill(area(2, 1, 100, 100), 7);
        assert_eq!(canvas.pixels, [0, 0, 0, 0, 0, 0, 7, 7, 0, 0, 7, 7]);
        for (x, y) in [(i32::MIN, 0), (0, i32::MIN), (i32::MAX, 0), (-50, -50), (4, 3)] {
            canvas.fill(area(x, y, 40, 40), 9);
            canvas.blend(area(x, y, 40, 40), 9, 200);
        }
        assert!(!canvas.pixels.contains(&9));
        canvas.fill(area(-1, -1, 2, 2), 5);
        assert_eq!(canvas.pixels.iter().filter(|&&pixel| pixel == 5).count(), 1);
        Canvas::new(0, 0).panel(area(0, 0, 10, 10), 3, 0xff_ffff, 128);
    }

    #[test]
    fn a_panel_has_round_symmetrical_corners_and_covers_each_pixel_once() {
        let mut canvas = Canvas::new(40, 30);
        canvas.panel(area(0, 0, 40, 30), 8, 0xff_ffff, 128);
        let at = |x: usize, y: usize| canvas.pixels[y * 40 + x];
        assert_eq!([at(0, 0), at(39, 0), at(0, 29), at(39, 29)], [0; 4]);
        for (x, y) in [(20, 0), (0, 15), (39, 15), (20, 29), (20, 15), (7, 7), (8, 8), (32, 22)] {
            assert_eq!(at(x, y), 0x80_8080, "{x},{y}");
        }
        assert_eq!(at(2, 3), at(37, 26));
    }
}
