//! Tables in plain text for a terminal, aligned by the terminal columns that each character takes.

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

/// The terminal columns that `text` takes, exact enough to align names: East Asian wide characters and emoji take two,
/// combining marks none (only the large blocks of Unicode Annex 11).
fn columns(text: &str) -> usize {
    text.chars()
        .map(|character| match u32::from(character) {
            0x0300..=0x036f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
            0x1100..=0x115f
            | 0x2e80..=0xa4cf
            | 0xac00..=0xd7a3
            | 0xf900..=0xfaff
            | 0xfe30..=0xfe6f
            | 0xff00..=0xff60
            | 0xffe0..=0xffe6
            | 0x1f300..=0x1faff
            | 0x20000..=0x3fffd => 2,
            _ => 1,
        })
        .sum()
}
