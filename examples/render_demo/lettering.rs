//! Text in a small alphabet of strokes, smooth at any size. It has only the characters that the clips need.

use crate::canvas::{Canvas, Point, Rgb, coverage, rgb, smoothstep};

/// One stroke of a letter. A letter is 1 high, from y = 0 at the top. Angles are in turns, clockwise from the right.
enum Stroke {
    Line(Point, Point),
    Arc { centre: Point, radii: Point, from: f32, to: f32 },
}

const fn line(x0: f32, y0: f32, x1: f32, y1: f32) -> Stroke {
    Stroke::Line([x0, y0], [x1, y1])
}

const fn arc(cx: f32, cy: f32, rx: f32, ry: f32, from: f32, to: f32) -> Stroke {
    Stroke::Arc { centre: [cx, cy], radii: [rx, ry], from, to }
}

/// The width and the strokes of a character. Digits have one width, so that a running clock does not move. A character that the
/// alphabet lacks is a gap.
fn glyph(character: char) -> (f32, &'static [Stroke]) {
    const BOWL: Stroke = arc(0.32, 0.27, 0.28, 0.27, -0.25, 0.25);
    match character {
        'A' => (
            0.84,
            const { &[line(0.0, 1.0, 0.42, 0.0), line(0.42, 0.0, 0.84, 1.0), line(0.15, 0.66, 0.69, 0.66)] },
        ),
        'C' => (0.80, const { &[arc(0.46, 0.5, 0.46, 0.5, 0.12, 0.88)] }),
        'E' => (
            0.56,
            const {
                &[
                    line(0.0, 0.0, 0.0, 1.0),
                    line(0.0, 0.0, 0.56, 0.0),
                    line(0.0, 0.49, 0.48, 0.49),
                    line(0.0, 1.0, 0.56, 1.0),
                ]
            },
        ),
        'I' => (0.0, const { &[line(0.0, 0.0, 0.0, 1.0)] }),
        'N' => {
            (0.70, const { &[line(0.0, 1.0, 0.0, 0.0), line(0.0, 0.0, 0.7, 1.0), line(0.7, 1.0, 0.7, 0.0)] })
        }
        'O' => (0.94, const { &[arc(0.47, 0.5, 0.47, 0.5, 0.0, 1.0)] }),
        'P' => (
            0.60,
            const { &[line(0.0, 0.0, 0.0, 1.0), line(0.0, 0.0, 0.32, 0.0), line(0.0, 0.54, 0.32, 0.54), BOWL] },
        ),
        'R' => (
            0.62,
            const {
                &[
                    line(0.0, 0.0, 0.0, 1.0),
                    line(0.0, 0.0, 0.32, 0.0),
                    line(0.0, 0.54, 0.32, 0.54),
                    BOWL,
                    line(0.3, 0.54, 0.62, 1.0),
                ]
            },
        ),
        'S' => (
            0.58,
            const { &[arc(0.29, 0.255, 0.27, 0.255, -0.75, -0.09), arc(0.29, 0.755, 0.29, 0.245, -0.25, 0.41)] },
        ),
        'T' => (0.68, const { &[line(0.0, 0.0, 0.68, 0.0), line(0.34, 0.0, 0.34, 1.0)] }),
        'U' => (
            0.70,
            const {
                &[line(0.0, 0.0, 0.0, 0.65), line(0.7, 0.0, 0.7, 0.65), arc(0.35, 0.65, 0.35, 0.35, 0.0, 0.5)]
            },
        ),
        '0' => (0.60, const { &[arc(0.3, 0.5, 0.3, 0.5, 0.0, 1.0)] }),
        '1' => (0.60, const { &[line(0.1, 0.2, 0.36, 0.0), line(0.36, 0.0, 0.36, 1.0)] }),
        '2' => (
            0.60,
            const {
                &[
                    arc(0.3, 0.29, 0.28, 0.29, -0.47, 0.09),
                    line(0.537, 0.445, 0.02, 1.0),
                    line(0.02, 1.0, 0.6, 1.0),
                ]
            },
        ),
        '3' => (
            0.60,
            const { &[arc(0.28, 0.25, 0.26, 0.25, -0.44, 0.25), arc(0.28, 0.75, 0.31, 0.25, -0.25, 0.42)] },
        ),
        '4' => (
            0.60,
            const { &[line(0.44, 1.0, 0.44, 0.0), line(0.44, 0.0, 0.0, 0.68), line(0.0, 0.68, 0.6, 0.68)] },
        ),
        '5' => (
            0.60,
            const {
                &[
                    line(0.54, 0.0, 0.12, 0.0),
                    line(0.12, 0.0, 0.08, 0.435),
                    arc(0.28, 0.68, 0.31, 0.32, -0.36, 0.4),
                ]
            },
        ),
        '6' => {
            (0.60, const { &[arc(0.3, 0.68, 0.3, 0.32, 0.0, 1.0), arc(0.5, 0.68, 0.5, 0.68, -0.5, -0.26)] })
        }
        '7' => (0.60, const { &[line(0.0, 0.0, 0.58, 0.0), line(0.58, 0.0, 0.2, 1.0)] }),
        '8' => (0.60, const { &[arc(0.3, 0.24, 0.25, 0.24, 0.0, 1.0), arc(0.3, 0.74, 0.3, 0.26, 0.0, 1.0)] }),
        '9' => (0.60, const { &[arc(0.3, 0.32, 0.3, 0.32, 0.0, 1.0), arc(0.1, 0.32, 0.5, 0.68, 0.0, 0.24)] }),
        ':' => (0.10, const { &[line(0.05, 0.30, 0.05, 0.30), line(0.05, 0.80, 0.05, 0.80)] }),
        '.' => (0.10, const { &[line(0.05, 1.0, 0.05, 1.0)] }),
        _ => (0.35, &[]),
    }
}

/// The style of a line of text.
pub(crate) struct Pen {
    /// Height of a letter, in pixels.
    pub(crate) height: f32,
    /// Half of a stroke's width, in pixels.
    pub(crate) half_width: f32,
    /// Space between letters, in heights.
    pub(crate) spacing: f32,
    pub(crate) colour: Rgb,
}

impl Pen {
    /// Writes a line of text, its upper left corner at `at`, over a soft shadow that keeps it
    /// readable on any picture.
    pub(crate) fn write(&self, canvas: &mut Canvas, text: &str, at: Point) {
        let mut x = at[0];
        let mut letters = Vec::new();
        for character in text.chars() {
            let (width, strokes) = glyph(character);
            letters.push((x, width, self.outline(strokes, [x, at[1]])));
            x += (width + self.spacing) * self.height;
        }
        let half = self.half_width;
        let dark = rgb(0x04061a);
        for (x, width, outline) in &letters {
            self.cover(canvas, [*x, at[1]], *width, |px, py| {
                (dark, 0.42 * smoothstep(half + 4.0, half - 0.5, distance(outline, [px - 0.5, py - 1.0])))
            });
        }
        for (x, width, outline) in &letters {
            self.cover(canvas, [*x, at[1]], *width, |px, py| {
                (self.colour, coverage(distance(outline, [px, py]) - half))
            });
        }
    }

    /// The strokes of one letter as straight pieces on the picture.
    fn outline(&self, strokes: &[Stroke], at: Point) -> Vec<[Point; 2]> {
        // In the longest arc, a whole turn 50 pixels high, a piece of this length is off by a fifth of a pixel.
        const PIECES: u8 = 24;
        let place = |[x, y]: Point| [at[0] + x * self.height, at[1] + y * self.height];
        let mut pieces = Vec::new();
        for stroke in strokes {
            match stroke {
                Stroke::Line(a, b) => pieces.push([place(*a), place(*b)]),
                Stroke::Arc { centre, radii, from, to } => {
                    let on = |part: u8| {
                        let turns = from + (to - from) * f32::from(part) / f32::from(PIECES);
                        let (sin, cos) = (turns * std::f32::consts::TAU).sin_cos();
                        place([centre[0] + radii[0] * cos, centre[1] + radii[1] * sin])
                    };
                    pieces.extend((0..PIECES).map(|part| [on(part), on(part + 1)]));
                }
            }
        }
        pieces
    }

    /// Paints the box of one letter, with room for stroke and shadow.
    fn cover(&self, canvas: &mut Canvas, at: Point, width: f32, paint: impl Fn(f32, f32) -> (Rgb, f32)) {
        let room = self.half_width + 6.0;
        let to = [at[0] + width * self.height + room, at[1] + self.height + room];
        canvas.blend([at[0] - room, at[1] - room], to, paint);
    }
}

/// The distance from a point to the nearest of these straight pieces.
fn distance(pieces: &[[Point; 2]], p: Point) -> f32 {
    let square = pieces.iter().map(|[a, b]| {
        let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
        let (px, py) = (p[0] - a[0], p[1] - a[1]);
        let t = ((px * dx + py * dy) / (dx * dx + dy * dy).max(1e-9)).clamp(0.0, 1.0);
        (px - dx * t).powi(2) + (py - dy * t).powi(2)
    });
    square.fold(f32::MAX, f32::min).sqrt()
}
