//! A character's shape at any size, from its bitmap: enlarged by Scale2x (Mazzoleni 2001), which keeps strokes straight
//! and corners sharp, then averaged down to the size wanted.

use std::convert::Infallible;

use embedded_graphics::Pixel;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size as Extent};
use embedded_graphics::pixelcolor::BinaryColor;

use super::{Canvas, Colour};

/// How much of each pixel a character covers, 0..=255.
pub(super) struct Cover {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) cells: Vec<u8>,
}

impl Cover {
    pub(super) fn new(width: usize, height: usize) -> Cover {
        Cover { width, height, cells: vec![0; width * height] }
    }

    pub(super) fn row(&self, y: usize) -> &[u8] {
        &self.cells[y * self.width..][..self.width]
    }

    /// Blends a colour over the canvas, by the coverage of each pixel.
    pub(super) fn lay(&self, canvas: &mut Canvas, x: i32, y: i32, colour: Colour) {
        for row in 0..self.height {
            for (column, &cover) in self.row(row).iter().enumerate().filter(|(_, cover)| **cover > 0) {
                canvas.blend_pixel(x + column as i32, y + row as i32, colour, cover);
            }
        }
    }

    pub(super) fn block(&mut self, x: i32, y: i32, width: i32, height: i32) {
        for (dx, dy) in (0..height).flat_map(|dy| (0..width).map(move |dx| (dx, dy))) {
            self.set(Point::new(x + dx, y + dy));
        }
    }

    fn set(&mut self, at: Point) {
        if (0..self.width as i32).contains(&at.x) && (0..self.height as i32).contains(&at.y) {
            self.cells[at.y as usize * self.width + at.x as usize] = 255;
        }
    }

    /// Scale2x: each pixel becomes four, and each of these takes the value of its two neighbours if they agree and the
    /// opposite ones do not.
    pub(super) fn twice(&self) -> Cover {
        let mut out = Cover::new(self.width * 2, self.height * 2);
        let blank = vec![0; self.width];
        for y in 0..self.height {
            let above = if y > 0 { self.row(y - 1) } else { &blank };
            let below = if y + 1 < self.height { self.row(y + 1) } else { &blank };
            let row = self.row(y);
            for x in 0..self.width {
                let (p, a, d) = (row[x], above[x], below[x]);
                let c = if x > 0 { row[x - 1] } else { 0 };
                let b = if x + 1 < self.width { row[x + 1] } else { 0 };
                let top = y * 2 * out.width + x * 2;
                let low = top + out.width;
                out.cells[top] = if c == a && c != d && a != b { a } else { p };
                out.cells[top + 1] = if a == b && a != c && b != d { b } else { p };
                out.cells[low] = if d == c && d != b && c != a { c } else { p };
                out.cells[low + 1] = if b == d && b != a && d != c { d } else { p };
            }
        }
        out
    }

    /// Scales from `times` times the font's size down to `halves` halves of it. Each pixel is the average of the area
    /// it covers: on a common grid a source pixel is `halves` wide, and a target pixel `2 * times`.
    pub(super) fn down(&self, times: usize, halves: usize) -> Cover {
        let step = 2 * times;
        let size = |source: usize| (source * halves).div_ceil(step);
        let mut out = Cover::new(size(self.width), size(self.height));
        let parts = |target: usize, end: usize| {
            let (from, to) = (target * step, (target + 1) * step);
            (from / halves..to.div_ceil(halves).min(end))
                .map(move |s| (s, to.min((s + 1) * halves) - from.max(s * halves)))
        };
        for y in 0..out.height {
            for x in 0..out.width {
                let mut sum = 0;
                for (sy, high) in parts(y, self.height) {
                    let row = self.row(sy);
                    for (sx, wide) in parts(x, self.width) {
                        sum += usize::from(row[sx]) * wide * high;
                    }
                }
                out.cells[y * out.width + x] = (sum / (step * step)) as u8;
            }
        }
        out
    }

    /// The shape, grown by `reach` pixels on all sides.
    pub(super) fn spread(&self, reach: usize) -> Cover {
        let mut wide = Cover::new(self.width + 2 * reach, self.height);
        for y in 0..self.height {
            for (x, &cover) in self.row(y).iter().enumerate().filter(|(_, cover)| **cover > 0) {
                for cell in &mut wide.cells[y * wide.width + x..][..=2 * reach] {
                    *cell = cover.max(*cell);
                }
            }
        }
        let mut out = Cover::new(wide.width, wide.height + 2 * reach);
        for y in 0..wide.height {
            for grown in y..=y + 2 * reach {
                let cells = &mut out.cells[grown * wide.width..][..wide.width];
                for (cell, &cover) in cells.iter_mut().zip(wide.row(y)) {
                    *cell = cover.max(*cell);
                }
            }
        }
        out
    }
}

impl OriginDimensions for Cover {
    fn size(&self) -> Extent {
        Extent::new(self.width as u32, self.height as u32)
    }
}

impl DrawTarget for Cover {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        pixels.into_iter().filter(|pixel| pixel.1.is_on()).for_each(|pixel| self.set(pixel.0));
        Ok(())
    }
}
