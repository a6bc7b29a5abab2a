//! Text. The fonts are bitmaps of at most ten by twenty pixels, drawn by hand for exactly that size. A
//! larger text is such a bitmap enlarged by the rules of Scale2x (Mazzoleni 2001), which keep strokes
//! straight and corners sharp, then averaged down to the size wanted: smooth edges at any size,
//! from 130 kB of fonts and no font file to look for.

use std::convert::Infallible;

use embedded_graphics::Pixel;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size as Extent};
use embedded_graphics::mono_font::{self, MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::text::Baseline;
use embedded_graphics::text::renderer::TextRenderer;

use super::{Canvas, Colour};

/// The same face in several alphabets, all of one cell size.
type Face = [&'static MonoFont<'static>; 7];

/// Latin, Central European, Cyrillic, Greek, Turkish, Baltic, and the euro sign.
macro_rules! face {
    ($name:ident) => {
        [
            &mono_font::iso_8859_1::$name,
            &mono_font::iso_8859_2::$name,
            &mono_font::iso_8859_5::$name,
            &mono_font::iso_8859_7::$name,
            &mono_font::iso_8859_9::$name,
            &mono_font::iso_8859_13::$name,
            &mono_font::iso_8859_15::$name,
        ]
    };
}

static REGULAR: [Face; 6] = [
    face!(FONT_5X8),
    face!(FONT_6X10),
    face!(FONT_7X13),
    face!(FONT_9X15),
    face!(FONT_9X18),
    face!(FONT_10X20),
];
static BOLD: [Face; 5] =
    [face!(FONT_5X8), face!(FONT_6X10), face!(FONT_7X13_BOLD), face!(FONT_9X15_BOLD), face!(FONT_9X18_BOLD)];

/// Faces below this height look coarse when enlarged.
const ENLARGED_FROM: u32 = 18;

/// The shadow under every text, which keeps it readable over a bright picture.
const SHADOW: Colour = 0x00_0000;
const SHADOW_ALPHA: u32 = 150;

/// A typeface at a size: what text is measured and painted with.
#[derive(Debug, Clone, Copy)]
pub struct Type {
    face: &'static Face,
    /// Enlargement in halves: 2 is the bitmap as drawn, 3 one and a half times that.
    halves: u32,
}

impl Type {
    /// The regular face whose lines are nearly `height` pixels high: never higher, but for the smallest
    /// of all, which is 8.
    pub fn regular(height: i32) -> Type {
        Type::nearest(&REGULAR, height)
    }

    /// The bold face, sized like [`regular`](Self::regular).
    pub fn bold(height: i32) -> Type {
        Type::nearest(&BOLD, height)
    }

    fn nearest(faces: &'static [Face], height: i32) -> Type {
        let mut best = Type { face: &faces[0], halves: 2 };
        for face in faces {
            let native = face[0].character_size.height;
            let most = (height.max(0) as u32 * 2 / native).min(40);
            let halves = if native < ENLARGED_FROM { most.min(2) } else { most };
            let this = Type { face, halves };
            if halves >= 2 && this.height() >= best.height() {
                best = this;
            }
        }
        best
    }

    /// Height of a line in pixels.
    pub fn height(&self) -> i32 {
        (self.face[0].character_size.height * self.halves / 2) as i32
    }

    /// Width of a text in pixels; every character is as wide as the next.
    pub fn width(&self, text: &str) -> i32 {
        let cells = text.chars().count().min(i32::MAX as usize / 400) as i32;
        cells * (self.face[0].character_size.width * self.halves).div_ceil(2) as i32
    }

    /// How many characters fit in `width` pixels.
    fn fit(&self, width: i32) -> usize {
        (width.max(0) / self.width("0")) as usize
    }

    /// The text, or as much of it as `width` pixels hold, ending in an ellipsis. Empty when
    /// not one character fits.
    pub fn cut(&self, text: &str, width: i32) -> String {
        let fit = self.fit(width);
        if text.chars().count() <= fit {
            return text.to_owned();
        }
        let Some(kept) = fit.checked_sub(1) else { return String::new() };
        let kept: String = text.chars().take(kept).collect();
        kept.trim_end().to_owned() + "…"
    }

    /// The text in lines of at most `width` pixels, broken between words where possible; at most
    /// `lines` of them, the last ending in an ellipsis when there is more.
    pub fn wrap(&self, text: &str, width: i32, lines: usize) -> Vec<String> {
        let fit = self.fit(width);
        if fit == 0 || lines == 0 {
            return Vec::new();
        }
        let (mut wrapped, mut line, mut used) = (Vec::new(), String::new(), 0);
        for word in text.split_whitespace() {
            if used > 0 && used + 1 + word.chars().count() <= fit {
                line.push(' ');
                used += 1;
            } else if used > 0 {
                wrapped.push(std::mem::take(&mut line));
                used = 0;
            }
            for c in word.chars() {
                if used == fit {
                    wrapped.push(std::mem::take(&mut line));
                    used = 0;
                }
                line.push(c);
                used += 1;
            }
            if wrapped.len() > lines {
                break;
            }
        }
        wrapped.push(line);
        if wrapped.len() > lines {
            // Greedy lines: the last one and any of the next is more than fits, so this does cut.
            wrapped[lines - 1] = self.cut(&format!("{} {}", wrapped[lines - 1], wrapped[lines]), width);
            wrapped.truncate(lines);
        }
        wrapped
    }

    /// Paints one line with a soft shadow around it, its top left corner at `x`, `y`.
    /// Characters that no font has are shown as `?`.
    pub fn paint(&self, canvas: &mut Canvas, x: i32, y: i32, colour: Colour, text: &str) {
        if x >= canvas.width as i32 || y >= canvas.height as i32 || y + self.height() <= 0 {
            return;
        }
        let seen = self.fit((canvas.width as i32).saturating_sub(x)) + 1;
        let shape = self.shape(text.chars().take(seen));
        let reach = (self.halves / 4).max(1) as i32;
        let shadow = shape.spread(reach);
        for row in 0..shadow.height {
            let line = y.saturating_add(row as i32 - reach);
            for (column, &cover) in shadow.row(row).iter().enumerate() {
                if cover > 0 {
                    let alpha = (u32::from(cover) * SHADOW_ALPHA / 255) as u8;
                    canvas.blend_pixel(x + column as i32 - reach, line, SHADOW, alpha);
                }
            }
        }
        for row in 0..shape.height {
            for (column, &cover) in shape.row(row).iter().enumerate() {
                if cover > 0 {
                    canvas.blend_pixel(x + column as i32, y + row as i32, colour, cover);
                }
            }
        }
    }

    /// A line's coverage at the size wanted.
    fn shape(&self, text: impl Iterator<Item = char>) -> Cover {
        let cell = self.face[0].character_size;
        let text: Vec<char> = text.collect();
        let mut drawn = Cover::new(cell.width as usize * text.len(), cell.height as usize);
        for (n, &c) in text.iter().enumerate() {
            let left = (n as u32 * cell.width) as i32;
            self.draw(c, left, &mut drawn);
        }
        match self.halves {
            2 => drawn,
            // Enlarged fourfold, then down to the size: for the largest sizes eightfold.
            3..=8 => drawn.twice().twice().down(4, self.halves as usize),
            _ => drawn.twice().twice().twice().down(8, self.halves as usize),
        }
    }

    /// Draws one character as the font has it.
    fn draw(&self, c: char, left: i32, drawn: &mut Cover) {
        let cell = self.face[0].character_size;
        let foot = self.face[0].baseline as i32;
        let c = match c {
            '…' => {
                for dot in 0..3 {
                    let x = left + 1 + dot * (cell.width as i32 - 1) / 3;
                    drawn.block(x, foot - 1, (cell.width as i32 / 5).max(1), 2);
                }
                return;
            }
            '—' | '–' => {
                let stroke = (cell.height as i32 / 10).max(1);
                return drawn.block(left, foot * 2 / 3, cell.width as i32, stroke);
            }
            '‘' | '’' => '\'',
            '“' | '”' | '„' => '"',
            '\u{2010}' | '\u{2011}' => '-',
            c if c.is_whitespace() => return,
            c => c,
        };
        let unknown = |font: &MonoFont<'_>| font.glyph_mapping.index('?');
        let font = self.face.iter().find(|font| c == '?' || font.glyph_mapping.index(c) != unknown(font));
        let (font, c) = font.map_or((self.face[0], '?'), |font| (font, c));
        let style = MonoTextStyle::new(font, BinaryColor::On);
        let Ok(_) = style.draw_string(c.encode_utf8(&mut [0; 4]), Point::new(left, 0), Baseline::Top, drawn);
    }
}

/// How much of each pixel a text covers, 0..=255.
struct Cover {
    width: usize,
    height: usize,
    cells: Vec<u8>,
}

impl Cover {
    fn new(width: usize, height: usize) -> Cover {
        Cover { width, height, cells: vec![0; width * height] }
    }

    fn row(&self, y: usize) -> &[u8] {
        &self.cells[y * self.width..][..self.width]
    }

    fn block(&mut self, x: i32, y: i32, width: i32, height: i32) {
        for (dx, dy) in (0..height).flat_map(|dy| (0..width).map(move |dx| (dx, dy))) {
            self.set(Point::new(x + dx, y + dy));
        }
    }

    fn set(&mut self, at: Point) {
        if (0..self.width as i32).contains(&at.x) && (0..self.height as i32).contains(&at.y) {
            self.cells[at.y as usize * self.width + at.x as usize] = 255;
        }
    }

    /// Scale2x: each pixel becomes four; a corner takes the colour of its two neighbours where these
    /// agree and the opposite ones do not.
    fn twice(&self) -> Cover {
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

    /// Down from `times` times the font's size to `halves` halves of it, each pixel the average of
    /// the area it covers. On a common grid a source pixel is `halves` wide, a target one `2 * times`.
    fn down(&self, times: usize, halves: usize) -> Cover {
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

    /// The same grown by `reach` pixels on all sides.
    fn spread(&self, reach: i32) -> Cover {
        let reach = reach as usize;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn lit(kind: Type, text: &str) -> usize {
        let mut canvas = Canvas::new(kind.width(text) as usize, kind.height() as usize);
        kind.paint(&mut canvas, 0, 0, 0xff_ffff, text);
        canvas.pixels.iter().filter(|&&pixel| pixel > 0x7f_7f7f).count()
    }

    #[test]
    fn sizes_come_close_and_never_exceed() {
        for height in 8..200 {
            for kind in [Type::regular(height), Type::bold(height)] {
                assert!(kind.height() <= height, "{height}: {}", kind.height());
                assert!(kind.height() * 3 >= height * 2, "{height}: {}", kind.height());
            }
        }
        assert_eq!(Type::regular(-5).height(), 8);
        assert!(Type::bold(i32::MAX).height() > 200);
    }

    #[test]
    fn every_size_paints_about_its_share_of_the_area() {
        let share =
            |kind: Type| lit(kind, "Nature 2") as f64 / f64::from(kind.width("Nature 2") * kind.height());
        let small = share(Type::regular(20));
        for height in [30, 40, 50, 60, 80, 100, 120] {
            assert!((share(Type::regular(height)) / small - 1.0).abs() < 0.25, "{height}");
        }
    }

    #[test]
    fn european_alphabets_are_there_and_the_rest_is_a_question_mark() {
        let kind = Type::regular(20);
        let image = |c: char| {
            let mut canvas = Canvas::new(10, 20);
            kind.paint(&mut canvas, 0, 0, 0xff_ffff, &c.to_string());
            canvas.pixels
        };
        for c in "éßčżЖΩğ€…—".chars() {
            assert_ne!(image(c), image('?'), "{c}");
            assert_ne!(image(c), image(' '), "{c}");
        }
        for c in "電😀\u{7}".chars() {
            assert_eq!(image(c), image('?'), "{c:?}");
        }
    }

    #[test]
    fn long_text_ends_in_an_ellipsis() {
        let kind = Type::regular(10);
        assert_eq!(kind.cut("Nature", 36), "Nature");
        assert_eq!(kind.cut("Nature", 35), "Natu…");
        assert_eq!(kind.cut("Na ure", 24), "Na…");
        assert_eq!(kind.cut("Nature", 5), "");
        assert_eq!(kind.cut("", -5), "");
    }

    #[test]
    fn text_wraps_between_words_and_stops_at_the_last_line() {
        let kind = Type::regular(10);
        let wrap = |text, cells, lines| kind.wrap(text, cells * 6, lines);
        assert_eq!(wrap("the film cannot be read", 8, 9), ["the film", "cannot", "be read"]);
        assert_eq!(wrap("the film cannot be read", 8, 2), ["the film", "cannot…"]);
        assert_eq!(wrap("/a/very/long/path is gone", 6, 9), ["/a/ver", "y/long", "/path", "is", "gone"]);
        assert_eq!(wrap("/a/very/long/path is gone", 6, 2), ["/a/ver", "y/lon…"]);
        assert_eq!(wrap("  ", 6, 2), [""]);
        assert!(wrap("text", 0, 3).is_empty() && wrap("text", 5, 0).is_empty());
    }
}
