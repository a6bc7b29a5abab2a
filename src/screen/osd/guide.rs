//! The guide: the films of all stations on a time line, over the whole window.

use super::{Measures, Osd, PANEL_ALPHA};
use crate::paint::style::{ACCENT, GLASS, QUIET, TEXT};
use crate::paint::{Rectangle, Type, area};
use crate::screen::Guide;

/// The background of a film, of one that is on, and of the one under the cursor.
const CELL: (u32, u8) = (QUIET, 40);
const ON: (u32, u8) = (QUIET, 90);
const CHOSEN: (u32, u8) = (ACCENT, 140);

/// Where the parts of the guide are, in a window of some size.
pub(in crate::screen) struct GuideLayout {
    panel: Rectangle,
    /// The rows of films: the time line's left edge and width, and the first row's upper edge.
    line: Rectangle,
    /// Height of a row.
    row: i32,
    /// Index of the first visible row, and their number.
    first: usize,
    shown: usize,
}

impl GuideLayout {
    /// The layout of `guide` in a window.
    pub(in crate::screen) fn new(guide: &Guide<'_>, width: usize, height: usize) -> GuideLayout {
        GuideLayout::of(guide, &Measures::new(width, height))
    }

    fn of(guide: &Guide<'_>, m: &Measures) -> GuideLayout {
        let row = m.unit * 8 / 5;
        let most = m.height - 2 * m.margin;
        // The times of the marks above the rows, and the film under the cursor below them.
        let around = 2 * row + 2 * m.pad;
        let fitting = ((most - around) / row).max(1) as usize;
        let shown = guide.rows.len().min(fitting);
        let first = guide.cursor.saturating_sub(shown / 2).min(guide.rows.len() - shown);
        let height = around + row * shown as i32;
        let panel = area(m.margin, (m.height - height) / 2, m.width - 2 * m.margin, height);
        let names = panel.width * 2 / 9;
        let left = panel.x + m.pad + names;
        let line =
            area(left, panel.y + m.pad + row, panel.x + panel.width - m.pad - left, row * shown as i32);
        GuideLayout { panel, line, row, first, shown }
    }

    /// The row at a place, and the share of the time line left of it.
    pub(in crate::screen) fn at(&self, x: i32, y: i32) -> Option<(usize, f32)> {
        let rows = area(self.panel.x, self.line.y, self.panel.width, self.line.height);
        let row = rows.contains(x, y).then(|| self.first + ((y - self.line.y) / self.row) as usize)?;
        Some((row, (x - self.line.x) as f32 / self.line.width.max(1) as f32))
    }

    /// The column of a share of the time line.
    fn column(&self, share: f32) -> i32 {
        self.line.x + (share.clamp(0.0, 1.0) * self.line.width as f32) as i32
    }
}

impl Osd<'_> {
    /// Paints the guide. It scrolls so that the row of the cursor is visible.
    pub(super) fn guide(&mut self, guide: &Guide<'_>) {
        let m = self.m;
        let layout = GuideLayout::of(guide, &m);
        let Rectangle { x, y, width, height } = layout.panel;
        self.canvas.panel(layout.panel, m.unit / 2, GLASS, PANEL_ALPHA);
        let (text, strong, small) = (m.text(), m.strong(), Type::regular(m.unit * 17 / 20));
        let middle = |top: i32, kind: &Type| top + (layout.row - kind.height()) / 2;
        let (top, line) = (layout.line.y, layout.line);

        let head = y + m.pad;
        let title = strong.cut("Guide", line.x - x - 2 * m.pad);
        strong.paint(self.canvas, x + m.pad, middle(head, &strong), TEXT, &title);
        let mut free = line.x;
        for (share, time) in &guide.marks {
            let at = layout.column(*share);
            self.canvas.blend(area(at, top, 1, line.height), QUIET, 60);
            let wide = small.width(time);
            if at >= free && at + wide <= line.x + line.width {
                small.paint(self.canvas, at, middle(head, &small), QUIET, time);
                free = at + wide + m.unit / 2;
            }
        }
        let ids = guide.rows.iter().map(|row| row.id.to_string().len()).max().unwrap_or(1);
        let number = strong.width(&"0".repeat(ids));
        for (n, row) in guide.rows.iter().enumerate().skip(layout.first).take(layout.shown) {
            let top = top + layout.row * (n - layout.first) as i32;
            let under_cursor = n == guide.cursor;
            if under_cursor {
                let names = area(x + m.pad / 2, top, line.x - x - m.pad, layout.row);
                self.canvas.panel(names, m.unit / 3, ACCENT, 60);
            }
            let id = row.id.to_string();
            let id_left = x + m.pad + number - strong.width(&id);
            strong.paint(self.canvas, id_left, middle(top, &strong), ACCENT, &id);
            let after = x + m.pad + number + m.unit / 2;
            let kind = if guide.current == Some(row.id) { &strong } else { &text };
            let name = kind.cut(row.name, line.x - after - m.unit / 2);
            kind.paint(self.canvas, after, middle(top, kind), TEXT, &name);
            for cell in &row.cells {
                let (left, right) = (layout.column(cell.begin), layout.column(cell.end.unwrap_or(1.0)));
                let is_chosen =
                    under_cursor && cell.begin <= guide.at && cell.end.is_none_or(|end| guide.at < end);
                let (colour, alpha) = if is_chosen {
                    CHOSEN
                } else if cell.is_on {
                    ON
                } else {
                    CELL
                };
                // A line apart, if there is room for one.
                let wide = (right - left - 1).max(1);
                let place = area(left, top + 1, wide, layout.row - 2);
                self.canvas.panel(place, (m.unit / 4).min(wide / 4), colour, alpha);
                let pad = m.unit / 4;
                let title = small.cut(cell.title, wide - 2 * pad);
                if title.chars().count() > 2 {
                    small.paint(self.canvas, left + pad, middle(top, &small), TEXT, &title);
                }
            }
        }
        if (0.0..1.0).contains(&guide.now) {
            let thick = (m.unit / 10).max(1);
            self.canvas.fill(area(layout.column(guide.now), top, thick, line.height), ACCENT);
        }
        let foot = y + height - m.pad - layout.row;
        let detail = text.cut(&guide.detail, width - 2 * m.pad);
        text.paint(self.canvas, x + m.pad, middle(foot, &text), TEXT, &detail);
    }
}
