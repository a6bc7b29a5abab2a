//! Painting on pixels in memory: a [`Canvas`], translucent rounded panels, [`Type`], text in one outline face, and pictures of
//! stations, [decoded](decode) and [scaled](fit), one or [many at once](tiles).
//!
//! Slate and mosaic (`content`) and the window (`screen`) import this room. It imports `media`. It has no window and no clock.
//!
//! Everything clips: any coordinate is allowed, and nothing outside the canvas is painted.

pub mod decode;
mod face;
pub mod fit;
pub mod style;
mod text;
pub mod tiles;

use std::ops::Range;

use crate::media::Size;
pub use text::Type;

/// A colour, 0x00RRGGBB.
pub type Colour = u32;

/// A rectangle, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rectangle {
    /// Column of its left edge.
    pub x: i32,
    /// Row of its upper edge.
    pub y: i32,
    /// Number of columns, 0 or more.
    pub width: i32,
    /// Number of rows, 0 or more.
    pub height: i32,
}

impl Rectangle {
    /// Whether it has no pixel.
    pub fn is_empty(&self) -> bool {
        self.width == 0 || self.height == 0
    }

    /// Whether a pixel lies in it.
    pub fn contains(&self, x: i32, y: i32) -> bool {
        let inside = |at: i32, from: i32, length: i32| {
            (0..i64::from(length)).contains(&(i64::from(at) - i64::from(from)))
        };
        inside(x, self.x, self.width) && inside(y, self.y, self.height)
    }
}

/// A rectangle by its top left corner and its extent; a negative extent counts as zero.
pub fn area(x: i32, y: i32, width: i32, height: i32) -> Rectangle {
    Rectangle { x, y, width: width.max(0), height: height.max(0) }
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

    /// Blends black over a rectangle, from not at all at its upper edge to `alpha` at `full` rows below it and further down.
    pub fn darken(&mut self, area: Rectangle, full: i32, alpha: u8) {
        for row in 0..area.height {
            let share = (row + 1).min(full.max(1)) as f32 / full.max(1) as f32;
            // Smooth at both ends, so that no edge is seen.
            let share = share * share * (3.0 - 2.0 * share);
            let line = self::area(area.x, area.y + row, area.width, 1);
            self.blend(line, 0, (f32::from(alpha) * share) as u8);
        }
    }

    /// Makes the pixels of a rectangle grey, at `level` of 255 of their brightness.
    pub fn grey(&mut self, area: Rectangle, level: u32) {
        let (columns, rows) = self.clip(area);
        let rows = rows.flat_map(|y| columns.clone().map(move |x| (x, y)));
        for (x, y) in rows {
            let pixel = &mut self.pixels[y * self.width + x];
            let [_, r, g, b] = pixel.to_be_bytes().map(u32::from);
            // The luma of ITU-R BT.601, in 256ths.
            let luma = (77 * r + 150 * g + 29 * b) * level.min(255) / (256 * 255);
            *pixel = luma << 16 | luma << 8 | luma;
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
        let Rectangle { x, y, width, height } = area;
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
        let span = |from: i32, length: i32, end: usize| {
            let place = |at: i64| at.clamp(0, end as i64) as usize;
            place(from.into())..place(i64::from(from) + i64::from(length))
        };
        (span(area.x, area.width, self.width), span(area.y, area.height, self.height))
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
    fn a_rectangle_contains_its_pixels_alone() {
        let place = area(-2, 3, 4, 2);
        for (x, y, inside) in [(-2, 3, true), (1, 4, true), (2, 4, false), (-3, 3, false), (0, 5, false)] {
            assert_eq!(place.contains(x, y), inside, "{x},{y}");
        }
        assert!(!area(i32::MIN, 0, i32::MAX, 1).contains(i32::MAX, 0));
        assert!(area(0, 0, -3, 9).is_empty());
    }

    #[test]
    fn darkening_grows_from_nothing_and_grey_keeps_the_luma() {
        let mut canvas = Canvas::new(1, 60);
        canvas.pixels.fill(0xff_ffff);
        canvas.darken(area(0, 10, 1, 50), 20, 200);
        assert!(canvas.pixels.is_sorted_by(|above, below| above >= below));
        assert_eq!((canvas.pixels[9], canvas.pixels[10]), (0xff_ffff, 0xfe_fefe));
        assert_eq!(canvas.pixels[40], mix(0xff_ffff, 0, 200));
        canvas.pixels = vec![0xff_ffff, 0xff_0000, 0x00_ff00, 0x00_00ff];
        canvas.grey(area(0, 0, 1, 4), 255);
        assert_eq!(canvas.pixels, [0xff_ffff, 0x4c_4c4c, 0x95_9595, 0x1c_1c1c]);
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
