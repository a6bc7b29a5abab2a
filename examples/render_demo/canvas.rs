//! A picture that is drawn: anti-aliased shapes over floating-point pixels.
//!
//! Shapes are signed distances: negative inside, positive outside, in pixels. Coverage is then the
//! distance itself, clamped over one pixel, and every edge is smooth without supersampling.

/// Pixels in a row of every demo clip.
pub(crate) const WIDTH: usize = 640;
/// Rows of every demo clip.
pub(crate) const HEIGHT: usize = 360;

/// Red, green and blue, 0 to 1, gamma-encoded as in the file.
pub(crate) type Rgb = [f32; 3];

/// A point or a direction in pixels; y grows downwards.
pub(crate) type Point = [f32; 2];

/// The colour of a web-style hexadecimal number: `rgb(0xff8000)`.
pub(crate) const fn rgb(hex: u32) -> Rgb {
    [(hex >> 16 & 255) as f32 / 255.0, (hex >> 8 & 255) as f32 / 255.0, (hex & 255) as f32 / 255.0]
}

/// From `a` (at `t` = 0) to `b` (at `t` = 1).
pub(crate) fn mix(a: Rgb, b: Rgb, t: f32) -> Rgb {
    std::array::from_fn(|i| a[i] + (b[i] - a[i]) * t)
}

/// A colour under a coloured light.
pub(crate) fn lit(a: Rgb, light: Rgb) -> Rgb {
    std::array::from_fn(|i| a[i] * light[i])
}

/// 0 below `low`, 1 above `high`, smooth between.
pub(crate) fn smoothstep(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// The sine of an angle in whole turns.
pub(crate) fn wave(turns: f32) -> f32 {
    (turns * std::f32::consts::TAU).sin()
}

/// A number in 0..1 that looks random and is the same in every run.
pub(crate) fn scatter(seed: u32) -> f32 {
    let mut h = seed.wrapping_mul(0x9e37_79b9) ^ 0x85eb_ca6b;
    h = (h ^ h >> 16).wrapping_mul(0x7feb_352d);
    h = (h ^ h >> 15).wrapping_mul(0x846c_a68b);
    (h ^ h >> 16) as f32 / u32::MAX as f32
}

/// A picture of [`WIDTH`] by [`HEIGHT`] pixels.
pub(crate) struct Canvas {
    pixels: Vec<Rgb>,
}

impl Canvas {
    /// A black picture.
    pub(crate) fn new() -> Canvas {
        Canvas { pixels: vec![[0.0; 3]; WIDTH * HEIGHT] }
    }

    /// The picture as the bytes of `rgb24`, row by row.
    pub(crate) fn to_rgb24(&self, out: &mut Vec<u8>) {
        out.clear();
        out.extend(self.pixels.iter().flatten().map(|v| (v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8));
    }

    /// Sets every pixel to the colour at its centre.
    pub(crate) fn fill(&mut self, colour: impl Fn(f32, f32) -> Rgb) {
        for (row, y) in self.pixels.chunks_exact_mut(WIDTH).zip(0_u16..) {
            for (pixel, x) in row.iter_mut().zip(0_u16..) {
                *pixel = colour(f32::from(x) + 0.5, f32::from(y) + 0.5);
            }
        }
    }

    /// Lays a colour over the pixels of a box: `paint` answers colour and opacity at a pixel's centre.
    pub(crate) fn blend(&mut self, from: Point, to: Point, paint: impl Fn(f32, f32) -> (Rgb, f32)) {
        self.visit(from, to, |pixel, x, y| {
            let (colour, alpha) = paint(x, y);
            if alpha > 0.0 {
                *pixel = mix(*pixel, colour, alpha.min(1.0));
            }
        });
    }

    /// Adds light: brightest at the centre, none at `radius`.
    pub(crate) fn glow(&mut self, centre: Point, radius: f32, colour: Rgb, strength: f32) {
        let [cx, cy] = centre;
        self.visit([cx - radius, cy - radius], [cx + radius, cy + radius], |pixel, x, y| {
            let fall = (1.0 - (x - cx).hypot(y - cy) / radius).max(0.0);
            for (channel, light) in pixel.iter_mut().zip(colour) {
                *channel += light * strength * fall * fall;
            }
        });
    }

    /// A disc.
    pub(crate) fn disc(&mut self, centre: Point, radius: f32, colour: Rgb, alpha: f32) {
        let [cx, cy] = centre;
        let reach = radius + 1.0;
        self.blend([cx - reach, cy - reach], [cx + reach, cy + reach], |x, y| {
            (colour, alpha * coverage((x - cx).hypot(y - cy) - radius))
        });
    }

    /// A stroke with round ends that may thin from one half-width to another.
    pub(crate) fn stroke(&mut self, a: Point, b: Point, half_widths: [f32; 2], colour: Rgb, alpha: f32) {
        let reach = half_widths[0].max(half_widths[1]) + 1.0;
        let along = [b[0] - a[0], b[1] - a[1]];
        let square = (along[0] * along[0] + along[1] * along[1]).max(1e-6);
        self.blend(
            [a[0].min(b[0]) - reach, a[1].min(b[1]) - reach],
            [a[0].max(b[0]) + reach, a[1].max(b[1]) + reach],
            |x, y| {
                let t = (((x - a[0]) * along[0] + (y - a[1]) * along[1]) / square).clamp(0.0, 1.0);
                let distance = (x - a[0] - along[0] * t).hypot(y - a[1] - along[1] * t);
                let half = half_widths[0] + (half_widths[1] - half_widths[0]) * t;
                (colour, alpha * coverage(distance - half))
            },
        );
    }

    /// A convex polygon, corners in clockwise order as seen on the screen.
    pub(crate) fn polygon(&mut self, corners: &[Point], colour: Rgb, alpha: f32) {
        let low = corners.iter().fold([f32::MAX; 2], |m, p| [m[0].min(p[0]), m[1].min(p[1])]);
        let high = corners.iter().fold([f32::MIN; 2], |m, p| [m[0].max(p[0]), m[1].max(p[1])]);
        let edges = || corners.iter().zip(corners.iter().cycle().skip(1));
        self.blend([low[0] - 1.0, low[1] - 1.0], [high[0] + 1.0, high[1] + 1.0], |x, y| {
            let outside = edges().map(|(a, b)| {
                let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
                ((x - a[0]) * dy - (y - a[1]) * dx) / dx.hypot(dy)
            });
            (colour, alpha * coverage(outside.fold(f32::MIN, f32::max)))
        });
    }

    /// Everything below a line across the picture. The colour depends on x, y and the depth below the line.
    pub(crate) fn ground(&mut self, line: impl Fn(f32) -> f32, colour: impl Fn(f32, f32, f32) -> Rgb) {
        for column in 0..WIDTH {
            let x = column as f32 + 0.5;
            let top = line(x);
            for row in (top - 1.0).max(0.0) as usize..HEIGHT {
                let y = row as f32 + 0.5;
                let pixel = &mut self.pixels[row * WIDTH + column];
                *pixel = mix(*pixel, colour(x, y, (y - top).max(0.0)), coverage(top - y));
            }
        }
    }

    /// Hands each pixel of a box to `change`, with its centre. The part outside the picture is left out.
    fn visit(&mut self, from: Point, to: Point, mut change: impl FnMut(&mut Rgb, f32, f32)) {
        let clip = |v: f32, max: usize| (v.max(0.0) as usize).min(max);
        let columns = clip(from[0].floor(), WIDTH)..clip(to[0].ceil(), WIDTH);
        for row in clip(from[1].floor(), HEIGHT)..clip(to[1].ceil(), HEIGHT) {
            for column in columns.clone() {
                change(&mut self.pixels[row * WIDTH + column], column as f32 + 0.5, row as f32 + 0.5);
            }
        }
    }
}

/// How much of a pixel is inside an edge at this signed distance.
pub(crate) fn coverage(distance: f32) -> f32 {
    (0.5 - distance).clamp(0.0, 1.0)
}
