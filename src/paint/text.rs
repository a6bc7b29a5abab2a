//! Text from bitmap fonts of at most 10x20 pixels, each drawn by hand for its size. Larger text is scaled from them,
//! with smooth edges. The fonts take 180 kB in the program, so no font file has to be found.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use embedded_graphics::geometry::Point;
use embedded_graphics::mono_font::{self, MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::text::Baseline;
use embedded_graphics::text::renderer::TextRenderer;

use super::cover::Cover;
use super::{Canvas, Colour};

/// One face in several alphabets, all of one cell size.
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

/// Smallest height of a face that is enlarged; smaller ones look coarse.
const ENLARGED_FROM: u32 = 18;

/// Colour of the shadow under text, which keeps it readable over a bright picture.
const SHADOW: Colour = 0x00_0000;
const SHADOW_ALPHA: u32 = 110;

/// A typeface at a size, with which text is measured and painted.
#[derive(Debug, Clone, Copy)]
pub struct Type {
    face: &'static Face,
    /// Scale in halves: 2 is the bitmap's own size, 3 is 1.5 times that.
    halves: u32,
}

impl Type {
    /// The regular face with the highest lines of at most `height` pixels. The smallest face is 8 pixels high.
    pub fn regular(height: i32) -> Type {
        Type::nearest(&REGULAR, height)
    }

    /// The bold face, chosen as by [`regular`](Self::regular).
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

    /// Height of a line, in pixels.
    pub fn height(&self) -> i32 {
        (self.face[0].character_size.height * self.halves / 2) as i32
    }

    /// Width of a text, in pixels. All characters are equally wide.
    pub fn width(&self, text: &str) -> i32 {
        let cells = text.chars().count().min(i32::MAX as usize / 400) as i32;
        cells * (self.face[0].character_size.width * self.halves).div_ceil(2) as i32
    }

    /// Number of characters that fit in `width` pixels.
    fn fit(&self, width: i32) -> usize {
        (width.max(0) / self.width("0")) as usize
    }

    /// The text, or if it is wider than `width` pixels, its beginning with an ellipsis. Empty if no character fits.
    pub fn cut(&self, text: &str, width: i32) -> String {
        let fit = self.fit(width);
        if text.chars().count() <= fit {
            return text.to_owned();
        }
        let Some(kept) = fit.checked_sub(1) else { return String::new() };
        let kept: String = text.chars().take(kept).collect();
        kept.trim_end_matches([' ', '.']).to_owned() + "…"
    }

    /// The text in at most `lines` lines of at most `width` pixels, broken between words if possible. The last line
    /// ends in an ellipsis if the text is longer.
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
            // Lines are filled greedily, so the last one with the next does not fit and is cut.
            wrapped[lines - 1] = self.cut(&format!("{} {}", wrapped[lines - 1], wrapped[lines]), width);
            wrapped.truncate(lines);
        }
        wrapped
    }

    /// Paints one line with a shadow around it, its top left corner at `x`, `y`. Characters that no font has are shown
    /// as `?`.
    pub fn paint(&self, canvas: &mut Canvas, x: i32, y: i32, colour: Colour, text: &str) {
        if x >= canvas.width as i32 || y >= canvas.height as i32 || y + self.height() <= 0 {
            return;
        }
        let seen = self.fit((canvas.width as i32).saturating_sub(x)) + 1;
        let glyphs: Vec<Rc<Glyph>> = text.chars().take(seen).map(|c| self.glyph(c)).collect();
        let step = self.width("0");
        let reach = self.reach() as i32;
        // All shadows first, so that none covers a letter.
        for (n, glyph) in (0..).zip(&glyphs) {
            glyph.shadow.lay(canvas, x + n * step - reach, y - reach, SHADOW);
        }
        for (n, glyph) in (0..).zip(&glyphs) {
            glyph.cover.lay(canvas, x + n * step, y, colour);
        }
    }

    /// Width of the shadow around a letter, in pixels.
    fn reach(&self) -> usize {
        (self.halves as usize / 4).max(1)
    }

    /// A character at this size, from the cache if it was painted before.
    fn glyph(&self, c: char) -> Rc<Glyph> {
        DRAWN.with_borrow_mut(|drawn| {
            if drawn.len() >= MOST_DRAWN {
                drawn.clear();
            }
            let key = (std::ptr::from_ref(self.face).addr(), self.halves, c);
            Rc::clone(drawn.entry(key).or_insert_with(|| {
                let cover = self.shape(c);
                let mut shadow = cover.spread(self.reach());
                shadow
                    .cells
                    .iter_mut()
                    .for_each(|cell| *cell = (u32::from(*cell) * SHADOW_ALPHA / 255) as u8);
                Rc::new(Glyph { cover, shadow })
            }))
        })
    }

    /// A character's coverage at this size.
    fn shape(&self, c: char) -> Cover {
        let cell = self.face[0].character_size;
        let mut drawn = Cover::new(cell.width as usize, cell.height as usize);
        self.draw(c, &mut drawn);
        match self.halves {
            2 => drawn,
            // Enlarged fourfold, or eightfold for the largest sizes, then scaled down.
            3..=8 => drawn.twice().twice().down(4, self.halves as usize),
            _ => drawn.twice().twice().twice().down(8, self.halves as usize),
        }
    }

    /// Draws one character at the font's own size.
    fn draw(&self, c: char, drawn: &mut Cover) {
        let cell = self.face[0].character_size;
        let foot = self.face[0].baseline as i32;
        let c = match c {
            '…' => {
                for dot in 0..3 {
                    let x = 1 + dot * (cell.width as i32 - 1) / 3;
                    drawn.block(x, foot - 1, (cell.width as i32 / 5).max(1), 2);
                }
                return;
            }
            '—' | '–' => {
                let stroke = (cell.height as i32 / 10).max(1);
                return drawn.block(0, foot * 2 / 3, cell.width as i32, stroke);
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
        let Ok(_) = style.draw_string(c.encode_utf8(&mut [0; 4]), Point::zero(), Baseline::Top, drawn);
    }
}

/// A character with its shadow, at one size.
struct Glyph {
    cover: Cover,
    shadow: Cover,
}

/// Most glyphs in the cache, of 1 to 20 kB each: enough for several full screens in every alphabet.
const MOST_DRAWN: usize = 600;

thread_local! {
    /// Cache of glyphs, by face, scale and character. Drawing a glyph takes ten times as long as blending it, and the
    /// on-screen display is painted with every picture.
    static DRAWN: RefCell<HashMap<(usize, u32, char), Rc<Glyph>>> = RefCell::default();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number of bright pixels of a text.
    fn lit(kind: Type, text: &str) -> usize {
        let mut canvas = Canvas::new(kind.width(text) as usize, kind.height() as usize);
        kind.paint(&mut canvas, 0, 0, 0xff_ffff, text);
        canvas.pixels.iter().filter(|&&pixel| pixel > 0x7f_7f7f).count()
    }

    #[test]
    fn a_size_is_close_to_the_wanted_height_and_never_above_it() {
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
    fn every_size_paints_about_the_same_share_of_the_area() {
        let share =
            |kind: Type| lit(kind, "Nature 2") as f64 / f64::from(kind.width("Nature 2") * kind.height());
        let small = share(Type::regular(20));
        for height in [30, 40, 50, 60, 80, 100, 120] {
            assert!((share(Type::regular(height)) / small - 1.0).abs() < 0.25, "{height}");
        }
    }

    #[test]
    fn european_alphabets_are_painted_and_other_characters_are_question_marks() {
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
