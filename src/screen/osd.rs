//! The on-screen display: everything laid over the picture. It is painted at the window's resolution, not the
//! picture's, so that it is sharp at any size.
//!
//! Each part has its place: information top left, the number being typed top right, the line-up right, the banner
//! bottom left, the volume and the pause sign bottom right, a message at the bottom in the middle, above the banner.

use super::{Banner, List, ScreenView, VolumeBar};
use crate::paint::{Canvas, Colour, Type, area};

const PANEL: Colour = 0x0d_1219;
const PANEL_ALPHA: u8 = 200;
const TEXT: Colour = 0xf4_f6f8;
const DIM: Colour = 0xa9_b5c1;
/// The only colour: the current station, the cursor, the number being typed.
const ACCENT: Colour = 0x4c_b4ff;

/// Smallest window with an on-screen display, in pixels.
const SMALLEST: (usize, usize) = (64, 48);

/// Paints the parts of the display that `view` has.
pub(super) fn paint(view: &ScreenView<'_>, canvas: &mut Canvas) {
    if canvas.width < SMALLEST.0 || canvas.height < SMALLEST.1 {
        return;
    }
    let mut osd = Osd::new(canvas);
    if !view.info.is_empty() {
        osd.info(view.info);
    }
    if let Some(list) = &view.list {
        osd.list(list);
    }
    let mut foot = osd.height - osd.margin;
    match (&view.banner, view.note) {
        (Some(banner), note) => foot = osd.banner(banner, note),
        (None, Some(note)) => foot = osd.note(note, view.picture.is_none()),
        (None, None) => {}
    }
    if view.paused {
        osd.paused();
    }
    if let Some(message) = view.message {
        osd.message(message, foot);
    }
    if let Some(volume) = view.volume {
        osd.volume(volume, view.paused);
    }
    if let Some(typed) = view.typed {
        osd.typed(typed);
    }
}

/// A canvas, and measures for its size, in pixels.
struct Osd<'c> {
    canvas: &'c mut Canvas,
    width: i32,
    height: i32,
    /// Approximate height of a line of text, from which the other measures are derived.
    unit: i32,
    /// Distance from the window's edge to a panel.
    margin: i32,
    /// Distance from a panel's edge to its content.
    pad: i32,
    text: Type,
    strong: Type,
    small: Type,
}

impl Osd<'_> {
    fn new(canvas: &mut Canvas) -> Osd<'_> {
        let (width, height) = (canvas.width as i32, canvas.height as i32);
        let unit = (height / 20).min(width / 34).max(8);
        Osd {
            canvas,
            width,
            height,
            unit,
            margin: (unit * 4 / 5).min(width / 20),
            pad: unit * 3 / 5,
            text: Type::regular(unit),
            strong: Type::bold(unit * 6 / 5),
            small: Type::regular(unit * 9 / 10),
        }
    }

    fn panel(&mut self, x: i32, y: i32, width: i32, height: i32) {
        self.canvas.panel(area(x, y, width, height), self.unit / 2, PANEL, PANEL_ALPHA);
    }

    /// Greatest width of a panel's text.
    fn room(&self) -> i32 {
        self.width - 2 * self.margin - 2 * self.pad
    }

    fn number_type(&self) -> Type {
        Type::bold(self.unit * 5 / 2)
    }

    /// Paints number and name, and the note below. Returns the upper edge of the panel.
    fn banner(&mut self, banner: &Banner<'_>, note: Option<&str>) -> i32 {
        let (large, name_type) = (self.number_type(), Type::bold(self.unit * 8 / 5));
        let number = banner.number.to_string();
        let bar = (self.unit / 5).max(2);
        let left = bar + self.pad;
        let after = left + large.width(&number) + self.pad * 3 / 2;
        let room = self.width - 2 * self.margin - after - self.pad;
        let name = name_type.cut(banner.name, room);
        let note = note.map(|note| self.small.cut(note, room));
        let note_width = note.as_deref().map_or(0, |note| self.small.width(note));
        let note_height = if note.is_some() { self.small.height() + self.unit / 4 } else { 0 };
        let inner = large.height().max(name_type.height() + note_height);
        let width = after + name_type.width(&name).max(note_width) + self.pad;
        let height = inner + 2 * self.pad;
        let (x, y) = (self.margin, self.height - self.margin - height);
        self.panel(x, y, width, height);
        self.canvas.panel(area(x, y, bar * 2, height), self.unit / 2, ACCENT, 255);
        // The bar is the panel's left edge: its outer corners are round, its inner side is straight.
        self.canvas.fill(area(x + bar, y, bar, height), 0);
        self.canvas.blend(area(x + bar, y, bar, height), PANEL, PANEL_ALPHA);
        let centred = |part: i32| y + self.pad + (inner - part) / 2;
        large.paint(self.canvas, x + left, centred(large.height()), TEXT, &number);
        let mut line = centred(name_type.height() + note_height);
        name_type.paint(self.canvas, x + after, line, TEXT, &name);
        line += name_type.height() + self.unit / 4;
        if let Some(note) = note {
            self.small.paint(self.canvas, x + after, line, DIM, &note);
        }
        y
    }

    /// Paints a note without a banner: in the banner's place, or in the middle if there is no picture (`alone`).
    /// Returns the edge above which a message is painted.
    fn note(&mut self, note: &str, alone: bool) -> i32 {
        let note = self.text.cut(note, self.room());
        let (width, height) = (self.text.width(&note) + 2 * self.pad, self.text.height() + self.pad);
        let foot = self.height - self.margin;
        let (x, y) = if alone {
            ((self.width - width) / 2, (self.height - height) / 2)
        } else {
            (self.margin, foot - height)
        };
        self.panel(x, y, width, height);
        self.text.paint(self.canvas, x + self.pad, y + self.pad / 2, DIM, &note);
        if alone { foot } else { y }
    }

    fn typed(&mut self, typed: &str) {
        let large = self.number_type();
        let (width, height) = (large.width(typed) + 2 * self.pad, large.height() + self.pad);
        let (x, y) = (self.width - self.margin - width, self.margin);
        self.panel(x, y, width, height);
        large.paint(self.canvas, x + self.pad, y + self.pad / 2, ACCENT, typed);
    }

    fn message(&mut self, message: &str, foot: i32) {
        let message = self.text.cut(message, self.room());
        let (width, height) = (self.text.width(&message) + 2 * self.pad, self.text.height() + self.pad);
        let (x, y) = ((self.width - width) / 2, foot - self.unit / 2 - height);
        self.panel(x, y, width, height);
        self.text.paint(self.canvas, x + self.pad, y + self.pad / 2, TEXT, &message);
    }

    /// Paints the volume: its number, or "mute", and a bar. The pause sign is below it.
    fn volume(&mut self, volume: VolumeBar, paused: bool) {
        let text = if volume.muted { "mute".into() } else { format!("{} %", volume.percent) };
        // The panel keeps its width while the number changes.
        let label = self.text.width("100 %").max(self.text.width("mute"));
        let track = (self.unit * 8).min(self.room() - label - self.pad).max(self.unit);
        let (width, height) = (label + track + 3 * self.pad, self.text.height() + self.pad);
        let below = if paused { self.unit * 3 } else { 0 };
        let (x, y) = (self.width - self.margin - width, self.height - self.margin - below - height);
        self.panel(x, y, width, height);
        let left = x + self.pad + label - self.text.width(&text);
        self.text.paint(self.canvas, left, y + self.pad / 2, TEXT, &text);
        let bar = (self.unit / 3).max(2);
        let (left, top) = (x + 2 * self.pad + label, y + (height - bar) / 2);
        self.canvas.panel(area(left, top, track, bar), bar / 2, DIM, 90);
        let filled = track * i32::from(volume.percent.min(100)) / 100;
        if filled > 0 {
            let colour = if volume.muted { DIM } else { ACCENT };
            self.canvas.panel(area(left, top, filled, bar), (bar / 2).min(filled / 2), colour, 255);
        }
    }

    /// Paints the pause sign, two upright bars.
    fn paused(&mut self) {
        let side = self.unit * 5 / 2;
        let (x, y) = (self.width - self.margin - side, self.height - self.margin - side);
        self.panel(x, y, side, side);
        let (bar, tall) = (side / 6, side / 2);
        for left in [x + side / 2 - bar * 3 / 2, x + side / 2 + bar / 2] {
            self.canvas.panel(area(left, y + (side - tall) / 2, bar, tall), bar / 4, TEXT, 255);
        }
    }

    /// Paints rows of label and value.
    fn info(&mut self, rows: &[(&str, String)]) {
        let line = self.text.height() * 5 / 4;
        let most = ((self.height - 2 * self.margin - 2 * self.pad) / line).max(0) as usize;
        let rows = &rows[..rows.len().min(most)];
        let widest = |widths: &mut dyn Iterator<Item = i32>| widths.max().unwrap_or(0);
        let labels = widest(&mut rows.iter().map(|(label, _)| self.text.width(label))).min(self.room() / 2);
        let gap = self.text.width("00");
        let room = self.room() - labels - gap;
        let values = widest(&mut rows.iter().map(|(_, value)| self.text.width(value))).min(room);
        let (x, y) = (self.margin, self.margin);
        let height = line * rows.len() as i32 - (line - self.text.height());
        self.panel(x, y, labels + gap + values + 2 * self.pad, height + 2 * self.pad);
        for (n, (label, value)) in rows.iter().enumerate() {
            let (x, y) = (x + self.pad, y + self.pad + line * n as i32);
            self.text.paint(self.canvas, x, y, DIM, &self.text.cut(label, labels));
            self.text.paint(self.canvas, x + labels + gap, y, TEXT, &self.text.cut(value, room));
        }
    }

    /// Paints the line-up: number, name, state. It scrolls so that the cursor, or the current station, is visible.
    fn list(&mut self, list: &List<'_>) {
        let current = list.rows.iter().position(|row| Some(row.id) == list.current);
        let line = self.strong.height() * 3 / 2;
        let most = ((self.height - 2 * self.margin - 2 * self.pad) / line).max(1) as usize;
        let shown = list.rows.len().min(most);
        let first =
            (list.cursor.or(current).unwrap_or(0).saturating_sub(shown / 2)).min(list.rows.len() - shown);
        let rows = &list.rows[first..first + shown];

        let gap = self.text.width("0");
        let widest = |widths: &mut dyn Iterator<Item = i32>| widths.max().unwrap_or(0);
        // All rows are measured, not only the visible ones, so that the panel keeps its width while it scrolls.
        let number = widest(&mut list.rows.iter().map(|row| self.strong.width(&row.id.to_string())));
        let states = widest(&mut list.rows.iter().map(|row| self.small.width(row.state)));
        let names = widest(&mut list.rows.iter().map(|row| self.strong.width(row.name)));
        let room = self.room() - number - 5 * gap;
        let states = states.min(room * 2 / 5);
        let names = names.clamp(self.unit * 4, (room - states).max(self.unit * 4));
        let width = number + names + states + 5 * gap + 2 * self.pad;
        let height = line * shown.max(1) as i32 + self.pad;
        let (x, y) = (self.width - self.margin - width, (self.height - height) / 2);
        self.panel(x, y, width, height);
        if list.rows.is_empty() {
            let text = self.text.cut("no stations", width - 2 * self.pad);
            self.text.paint(self.canvas, x + self.pad, y + self.pad, DIM, &text);
            return;
        }
        for (n, row) in rows.iter().enumerate() {
            let top = y + self.pad / 2 + line * n as i32;
            let is_current = Some(first + n) == current;
            if Some(first + n) == list.cursor {
                let row = area(x + self.pad / 3, top, width - self.pad * 2 / 3, line);
                self.canvas.panel(row, self.unit / 3, ACCENT, 90);
            }
            if is_current {
                let bar = (self.unit / 5).max(2);
                self.canvas.panel(
                    area(x + self.pad / 3, top + line / 6, bar, line * 2 / 3),
                    bar / 2,
                    ACCENT,
                    255,
                );
            }
            let colour = if is_current { ACCENT } else { TEXT };
            let middle = |kind: &Type| top + (line - kind.height()) / 2;
            let text = row.id.to_string();
            let left = x + self.pad + gap + number - self.strong.width(&text);
            self.strong.paint(self.canvas, left, middle(&self.strong), colour, &text);
            let left = x + self.pad + number + 3 * gap;
            let name = self.strong.cut(row.name, names);
            self.strong.paint(self.canvas, left, middle(&self.strong), colour, &name);
            let state = self.small.cut(row.state, states);
            let left = x + width - self.pad - self.small.width(&state);
            self.small.paint(self.canvas, left, middle(&self.small), DIM, &state);
        }
        if shown < list.rows.len() {
            let (track, count) = (line * shown as i32, list.rows.len() as i32);
            let thumb = (track * shown as i32 / count).max(self.unit / 2);
            let down = (track - thumb) * first as i32 / (count - shown as i32);
            let bar = (self.unit / 6).max(2);
            let left = x + width - bar - self.pad / 6;
            self.canvas.panel(area(left, y + self.pad / 2 + down, bar, thumb), bar / 2, DIM, 200);
        }
    }
}
