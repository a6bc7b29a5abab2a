//! Text at a size: measuring, cutting, wrapping and painting.

use std::sync::Arc;

use super::face::{Style, face};
use super::{Canvas, Colour};

/// Smallest and largest height of a line, in pixels: below, letters cannot be told apart; above, no screen shows one.
const HEIGHTS: std::ops::RangeInclusive<i32> = 8..=400;

/// The typeface at a size, with which text is measured and painted. Digits have one width, the other characters their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Type {
    style: Style,
}

impl Type {
    /// The regular weight, with lines of `height` pixels, 8..=400.
    pub fn regular(height: i32) -> Type {
        Type { style: Style { bold: false, height: height.clamp(*HEIGHTS.start(), *HEIGHTS.end()) } }
    }

    /// The semibold weight, with lines of `height` pixels, 8..=400.
    pub fn bold(height: i32) -> Type {
        Type { style: Style { bold: true, ..Type::regular(height).style } }
    }

    /// Height of a line, in pixels. Its letters are 0.8 of that in size.
    pub fn height(&self) -> i32 {
        self.style.height
    }

    /// Width of a text, in pixels.
    pub fn width(&self, text: &str) -> i32 {
        if text.is_empty() { 0 } else { face().line(self.style, text).width }
    }

    /// The text, or if it is wider than `width` pixels, its beginning with an ellipsis. Empty if no character fits.
    pub fn cut(&self, text: &str, width: i32) -> Arc<str> {
        if text.is_empty() || width <= 0 {
            return "".into();
        }
        face().cut(self.style, text, width)
    }

    /// The text in at most `lines` lines of at most `width` pixels, broken between words if possible. The last line
    /// ends in an ellipsis if the text is longer.
    pub fn wrap(&self, text: &str, width: i32, lines: usize) -> Vec<String> {
        if width <= 0 || lines == 0 {
            return Vec::new();
        }
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut wrapped = face().wrap(self.style, &words, width);
        // A single character may be wider than the line.
        if wrapped.iter().any(|line| self.width(line) > width) {
            wrapped.retain(|line| self.width(line) <= width);
        }
        if wrapped.len() > lines {
            // Lines are filled greedily, so the last one with the next does not fit and is cut.
            wrapped[lines - 1] =
                self.cut(&format!("{} {}", wrapped[lines - 1], wrapped[lines]), width).to_string();
            wrapped.truncate(lines);
        }
        wrapped
    }

    /// Paints one line, its top left corner at `x`, `y`. Characters that neither our font nor one of the system has are
    /// shown as the replacement character.
    pub fn paint(&self, canvas: &mut Canvas, x: i32, y: i32, colour: Colour, text: &str) {
        if text.is_empty() || x >= canvas.width as i32 || y >= canvas.height as i32 {
            return;
        }
        // The lock is not held while the line is painted.
        let line = face().line(self.style, text);
        line.paint(canvas, x, y, colour);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn image(kind: Type, text: &str) -> Vec<u32> {
        let mut canvas = Canvas::new(200, 60);
        kind.paint(&mut canvas, 4, 4, 0xff_ffff, text);
        canvas.pixels
    }

    #[test]
    fn a_line_has_the_height_that_was_asked_for_within_bounds() {
        for height in 8..200 {
            assert_eq!((Type::regular(height).height(), Type::bold(height).height()), (height, height));
        }
        assert_eq!((Type::regular(-5).height(), Type::bold(i32::MAX).height()), (8, 400));
    }

    #[test]
    fn letters_are_as_wide_as_they_are_and_digits_equally_wide() {
        let kind = Type::regular(40);
        assert!(kind.width("iii") * 2 < kind.width("mmm"));
        assert_eq!(kind.width("11111"), kind.width("88888"));
        assert!(Type::bold(40).width("Nature") > kind.width("Nature"));
        assert_eq!(kind.width(""), 0);
        // Twice the size is twice as wide, but for rounding.
        assert!((Type::regular(80).width("Nature") - 2 * kind.width("Nature")).abs() <= 2);
    }

    #[test]
    fn letters_lie_in_the_middle_of_their_line() {
        let mut canvas = Canvas::new(60, 40);
        Type::bold(40).paint(&mut canvas, 0, 0, 0xff_ffff, "H");
        let rows: Vec<usize> =
            (0..40).filter(|y| canvas.pixels[y * 60..][..60].iter().any(|&p| p != 0)).collect();
        let (first, last) = (rows[0] as i32, rows[rows.len() - 1] as i32);
        assert!((first - (39 - last)).abs() <= 3 && (22..26).contains(&rows.len()), "{rows:?}");
    }

    #[test]
    fn european_alphabets_and_signs_are_in_the_program() {
        let kind = Type::regular(40);
        for c in "éßčżЖΩğ€…—→✓".chars() {
            for other in ["\u{fffd}", " ", "?"] {
                assert_ne!(image(kind, &c.to_string()), image(kind, other), "{c}");
            }
        }
        // A private character is the replacement character, and no font of the system is searched for it.
        assert_eq!(image(kind, "\u{e123}"), image(kind, "\u{fffd}"));
        assert_eq!(image(kind, "a\u{7}b"), image(kind, "a b"));
        // So is a character that no font has: a Kaktovik numeral.
        assert_eq!(image(kind, "\u{1d2c0}"), image(kind, "\u{fffd}"));
        let private = "\u{f0000}".repeat(9);
        assert!(kind.cut(&private, kind.width(&private) / 2).chars().count() > 2, "what is shown is cut");
    }

    #[test]
    fn other_scripts_and_emoji_are_taken_from_the_fonts_of_the_system() {
        let kind = Type::bold(40);
        for (one, other) in [("電", "影"), ("あ", "い"), ("ق", "ن"), ("🎬", "🎨")] {
            assert_ne!(image(kind, one), image(kind, other), "scripts/packages.sh test installs the fonts");
        }
        let colourful = |pixel: &u32| pixel.to_be_bytes()[1].abs_diff(pixel.to_be_bytes()[3]) > 60;
        assert!(image(kind, "🎨").iter().any(colourful), "emoji have colours");
        // Arabic letters are joined.
        assert!(kind.width("قناة") < kind.width("ق") + kind.width("ن") + kind.width("ا") + kind.width("ة"));
    }

    #[test]
    fn long_text_ends_in_an_ellipsis() {
        let kind = Type::regular(20);
        let width = kind.width("Nature");
        assert_eq!(&*kind.cut("Nature", width), "Nature");
        for less in 1..width {
            let cut = kind.cut("Nature", width - less);
            assert!(cut.is_empty() || cut.ends_with('…'), "{cut}");
            assert!(kind.width(&cut) <= width - less, "{cut}");
        }
        assert_eq!(&*kind.cut("Na ure", kind.width("Na…") + 1), "Na…");
        assert_eq!((&*kind.cut("Nature", 2), &*kind.cut("", -5)), ("", ""));
    }

    #[test]
    fn text_wraps_between_words_and_stops_at_the_last_line() {
        let kind = Type::regular(20);
        let wrap = |text, like, lines| kind.wrap(text, kind.width(like) + 1, lines);
        assert_eq!(wrap("the film cannot be read", "the film c", 9), ["the film", "cannot", "be read"]);
        assert_eq!(wrap("the film cannot be read", "the film c", 2), ["the film", "cannot…"]);
        assert_eq!(wrap("the  film\ncannot", "the film cannot", 9), ["the film cannot"]);
        for line in wrap("/a/very/long/path is gone", "/a/very", 9) {
            assert!(kind.width(&line) <= kind.width("/a/very") + 1, "{line}");
        }
        assert_eq!(wrap("  ", "mmm", 2), [""; 0]);
        assert!(kind.wrap("text", 0, 3).is_empty() && kind.wrap("text", 50, 0).is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn any_text_is_measured_cut_wrapped_and_painted(
            text in "\\PC{0,80}", more in ".{0,40}", height in 0i32..60, width in -5i32..400, x in -300i32..300, y in -80i32..80,
        ) {
            let kind = Type::bold(height);
            for text in [&text, &more] {
                let cut = kind.cut(text, width);
                prop_assert!(cut.is_empty() || kind.width(&cut) <= width);
                for line in kind.wrap(text, width, 3) {
                    prop_assert!(kind.width(&line) <= width, "{:?}", line);
                }
                let mut canvas = Canvas::new(90, 50);
                kind.paint(&mut canvas, x, y, 0xff_ffff, text);
            }
        }
    }
}
