//! Panels of two columns, top left: the information, and the keys.

use super::Osd;
use crate::paint::Type;
use crate::paint::style::{QUIET, TEXT};

/// What the keys and the mouse do, in the order in which a new user needs it.
const KEYS: [(&str, &str); 16] = [
    ("0 – 9", "a station by its number"),
    ("↑ ↓  Ctrl + wheel", "the next station, the previous one"),
    ("Backspace", "the station before this one"),
    ("L  right click", "the line-up; letters find a name"),
    ("Enter  click", "the station of that row"),
    ("T", "all stations; arrows or click choose, Enter shows"),
    ("G", "the guide: what is on all stations, and what follows"),
    ("+ −  wheel", "louder, softer"),
    ("M", "sound off and on"),
    ("Space", "pause, and back to live"),
    ("F  double click", "full screen"),
    ("S", "save the picture"),
    ("I", "information"),
    ("? H F1", "these keys"),
    ("Esc", "close a panel, leave full screen"),
    ("Q  Ctrl + Q", "quit"),
];

impl Osd<'_> {
    /// Paints what the keys do.
    pub(super) fn keys(&mut self) {
        let rows: Vec<(&str, String)> = KEYS.iter().map(|(key, does)| (*key, (*does).to_owned())).collect();
        self.sheet(&rows);
    }

    /// Paints rows of label and value. In a low window the text is smaller, and rows that do not fit are left out.
    pub(super) fn sheet(&mut self, rows: &[(&str, String)]) {
        let m = self.m;
        let inside = m.height - 2 * m.margin - 2 * m.pad;
        let line = (inside / (rows.len() as i32).max(1)).clamp(10, m.unit * 13 / 10);
        let text = Type::regular((line * 10 / 13).max(9));
        let rows = &rows[..rows.len().min((inside / line).max(0) as usize)];
        let widest = |widths: &mut dyn Iterator<Item = i32>| widths.max().unwrap_or(0);
        let labels = widest(&mut rows.iter().map(|(label, _)| text.width(label))).min(m.room() / 2);
        let gap = text.height();
        let room = m.room() - labels - gap;
        let values = widest(&mut rows.iter().map(|(_, value)| text.width(value))).min(room);
        let (x, y) = (m.margin, m.margin);
        self.panel(x, y, labels + gap + values + 2 * m.pad, line * rows.len() as i32 + 2 * m.pad);
        for (n, (label, value)) in (0..).zip(rows) {
            let (x, y) = (x + m.pad, y + m.pad + line * n + (line - text.height()) / 2);
            text.paint(self.canvas, x, y, QUIET, &text.cut(label, labels));
            text.paint(self.canvas, x + labels + gap, y, TEXT, &text.cut(value, room));
        }
    }
}
