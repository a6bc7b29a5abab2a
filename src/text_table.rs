//! Tables in plain text for a terminal, aligned by the terminal columns that each character takes (Unicode Annex 11).

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// Columns between two cells.
#[cfg(feature = "broadcaster")]
pub(crate) const GAP: usize = 2;

/// A line for each row, with two spaces between cells. Each column is as wide as its widest cell; `right` tells which
/// columns are aligned to the right.
pub(crate) fn aligned<const N: usize>(rows: &[[String; N]], right: [bool; N]) -> String {
    let widths = widths(rows);
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (n, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[n] - columns(cell));
            let gap = if n == 0 { "" } else { "  " };
            let (left, right) = if right[n] { (pad.as_str(), "") } else { ("", pad.as_str()) };
            line.extend([gap, left, cell, right]);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The width of each column, in terminal columns.
pub(crate) fn widths<const N: usize>(rows: &[[String; N]]) -> [usize; N] {
    std::array::from_fn(|n| rows.iter().map(|row| columns(&row[n])).max().unwrap_or_default())
}

/// The terminal columns that `text` takes.
pub(crate) fn columns(text: &str) -> usize {
    text.width()
}

/// `text`, or as much of its beginning as fits `most` terminal columns together with a "…" at its end.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    if columns(text) <= most {
        return text.to_owned();
    }
    let mut short = String::new();
    // A cluster is what a reader sees as one character: a letter with its accents, a family of emoji.
    for cluster in text.graphemes(true) {
        if columns(&short) + columns(cluster) + 1 > most {
            break;
        }
        short.push_str(cluster);
    }
    if most > 0 {
        short.push('…');
    }
    short
}

/// `pieces`, with a space between two, in lines of at most `most` terminal columns. A longer piece has a line of its own, shortened.
#[cfg(feature = "broadcaster")]
pub(crate) fn wrapped<'a>(pieces: impl Iterator<Item = &'a str>, most: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for piece in pieces {
        let piece = shortened(piece, most);
        let line = lines.last_mut().expect("there is a first line");
        if line.is_empty() {
            *line = piece;
        } else if columns(line) + 1 + columns(&piece) <= most {
            line.push(' ');
            line.push_str(&piece);
        } else {
            lines.push(piece);
        }
    }
    lines
}

/// A number with three digits, and as many zeros as it takes: `4.07`, `40.7`, `407`, `4070`.
#[cfg(feature = "broadcaster")]
pub(crate) fn three_digits(number: f64) -> String {
    if !number.is_finite() || number <= 0.0 {
        return "0".into();
    }
    let magnitude = number.log10().floor() as i32;
    let unit = 10f64.powi(magnitude - 2);
    let rounded = (number / unit).round() * unit;
    format!("{rounded:.*}", usize::try_from(2 - magnitude).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_as_a_reader_sees_them() {
        for (text, most, short) in [
            ("Nature", 6, "Nature"),
            ("Nature", 5, "Natu…"),
            ("Nature", 1, "…"),
            ("Nature", 0, ""),
            // Two columns each: five do not fit four and the mark.
            ("日本放送", 6, "日本…"),
            ("日本放送", 8, "日本放送"),
            // A letter with a combining accent, and a family of four joined emoji, are never torn.
            ("cafe\u{301} noir", 5, "cafe\u{301}…"),
            ("👨‍👩‍👧‍👦 home", 3, "👨‍👩‍👧‍👦…"),
            ("👨‍👩‍👧‍👦 home", 2, "…"),
        ] {
            assert_eq!(shortened(text, most), short, "{text} in {most}");
            assert!(columns(&shortened(text, most)) <= most);
        }
    }

    #[cfg(feature = "broadcaster")]
    #[test]
    fn a_sentence_is_broken_at_spaces() {
        let words = |text: &'static str, most| wrapped(text.split_whitespace(), most);
        assert_eq!(words("12 pictures aired, 8 not sent", 12), ["12 pictures", "aired, 8 not", "sent"]);
        assert_eq!(words("a tremendously long word", 8), ["a", "tremend…", "long", "word"]);
        assert_eq!(words("", 8), [""]);
    }

    #[cfg(feature = "broadcaster")]
    #[test]
    fn a_rate_has_three_digits() {
        for (rate, text) in [
            (0.0, "0"),
            (f64::NAN, "0"),
            (f64::INFINITY, "0"),
            (0.012345, "0.0123"),
            (1.0, "1.00"),
            (9.999, "10.00"),
            (29.97003, "30.0"),
            (123.4567, "123"),
            (8161.2345, "8160"),
        ] {
            assert_eq!(three_digits(rate), text, "{rate}");
        }
    }
}
