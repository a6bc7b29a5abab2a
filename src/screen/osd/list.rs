//! The line-up, at the right of the window: number, name, and what is on.

use super::{Measures, Osd, PANEL_ALPHA};
use crate::paint::style::{ACCENT, GLASS, QUIET, TEXT};
use crate::paint::{Rectangle, Type, area};
use crate::screen::{List, Row};

/// The text of the row under the cursor.
const WHITE: u32 = 0xff_ffff;

/// Where the parts of the list are, in a window of some size.
pub(in crate::screen) struct ListLayout {
    /// The panel.
    panel: Rectangle,
    /// Height of a row.
    line: i32,
    /// Top of the first visible row.
    top: i32,
    /// Index of the first visible row, and their number.
    first: usize,
    shown: usize,
}

impl ListLayout {
    /// The layout of `list` in a window.
    pub(in crate::screen) fn new(list: &List<'_>, width: usize, height: usize) -> ListLayout {
        ListLayout::of(list, &Measures::new(width, height))
    }

    fn of(list: &List<'_>, m: &Measures) -> ListLayout {
        let line = m.unit * 27 / 20;
        // With the head, in which the name to be found is shown.
        let fitting = ((m.height - 2 * m.margin - m.pad) / line - 1).max(1) as usize;
        let shown = list.rows.len().min(fitting);
        let last = list.rows.len() - shown;
        let first = list.cursor.unwrap_or(0).saturating_sub(shown / 2).min(last);
        // At most 45 % of the window. If it scrolls, the width does not depend on the texts, so that it keeps it.
        let most = (m.width * 9 / 20).min(m.unit * 26);
        let width =
            if last > 0 { most } else { needed(list, m).clamp(m.unit * 9, most.max(m.unit * 9)).min(most) };
        let height = line * (shown.max(1) as i32 + 1) + m.pad;
        let panel = area(m.width - m.margin - width, ((m.height - height) / 2).max(0), width, height);
        ListLayout { panel, line, top: panel.y + m.pad / 2 + line, first, shown }
    }

    /// The index of the row at a place.
    pub(in crate::screen) fn row_at(&self, x: i32, y: i32) -> Option<usize> {
        let rows = area(self.panel.x, self.top, self.panel.width, self.line * self.shown as i32);
        rows.contains(x, y).then(|| self.first + ((y - self.top) / self.line) as usize)
    }

    /// Whether a place lies on the panel.
    pub(in crate::screen) fn contains(&self, x: i32, y: i32) -> bool {
        self.panel.contains(x, y)
    }
}

/// The width at which no text is cut.
fn needed(list: &List<'_>, m: &Measures) -> i32 {
    let (strong, small) = (m.strong(), small(m));
    let row = |row: &Row<'_>| {
        strong.width(row.name) + if row.state.is_empty() { 0 } else { m.unit + small.width(&row.state) }
    };
    let texts = list.rows.iter().map(row).max().unwrap_or(0);
    texts + number_width(list, m) + m.unit * 3 / 4 + 2 * side(m)
}

/// The width that a name may take of a row's `room`: all that a state of the width `state` leaves, `gap` pixels before it,
/// and at least three fifths. So a name is cut only if a long state is beside it, which is then cut too, or if it is
/// longer than the row.
fn name_room(room: i32, state: i32, gap: i32) -> i32 {
    if state == 0 { room } else { (room - gap - state).max(room * 3 / 5) }
}

/// Distance of the texts from the panel's edges.
fn side(m: &Measures) -> i32 {
    m.pad + m.unit / 3
}

/// The type of what is on.
fn small(m: &Measures) -> Type {
    Type::regular(m.unit * 17 / 20)
}

/// Width of the column of numbers.
fn number_width(list: &List<'_>, m: &Measures) -> i32 {
    let digits = list.rows.iter().map(|row| row.id.to_string().len()).max().unwrap_or(1);
    m.strong().width(&"0".repeat(digits))
}

impl Osd<'_> {
    /// Paints the line-up. It scrolls so that the cursor is visible.
    pub(super) fn list(&mut self, list: &List<'_>) {
        let m = self.m;
        let layout = ListLayout::of(list, &m);
        let Rectangle { x, width, .. } = layout.panel;
        let (line, pad) = (layout.line, m.pad);
        self.canvas.panel(layout.panel, m.unit / 2, GLASS, PANEL_ALPHA);
        let (text, strong, small) = (m.text(), m.strong(), small(&m));
        let middle = |top: i32, kind: &Type| top + (line - kind.height()) / 2;

        let (left, right) = (x + side(&m), x + width - side(&m));
        let head = layout.top - line;
        let count = list.rows.len().to_string();
        small.paint(self.canvas, right - small.width(&count), middle(head, &small), QUIET, &count);
        let head_room = right - left - small.width(&count) - m.unit;
        match list.search {
            "" => {
                small.paint(self.canvas, left, middle(head, &small), QUIET, &small.cut("Line-up", head_room))
            }
            search => {
                let search = strong.cut(&format!("{search}_"), head_room);
                strong.paint(self.canvas, left, middle(head, &strong), ACCENT, &search);
            }
        }
        if list.rows.is_empty() {
            let said = if list.search.is_empty() { "No stations" } else { "No such name" };
            let said = text.cut(said, right - left);
            return text.paint(self.canvas, left, middle(layout.top, &text), QUIET, &said);
        }

        let number = number_width(list, &m);
        let after = left + number + m.unit * 3 / 4;
        let rows = list.rows.iter().enumerate().skip(layout.first).take(layout.shown);
        for (n, row) in rows {
            let top = layout.top + line * (n - layout.first) as i32;
            let is_current = Some(row.id) == list.current;
            let under_cursor = Some(n) == list.cursor;
            if under_cursor {
                let place = area(x + pad / 2, top, width - pad, line);
                self.canvas.panel(place, m.unit / 3, ACCENT, 80);
            }
            if is_current {
                let bar = (m.unit / 6).max(2);
                let place = area(x + pad / 2, top + line / 5, bar, line * 3 / 5);
                self.canvas.panel(place, bar / 2, ACCENT, 255);
            }
            let colour = |usual| if under_cursor { WHITE } else { usual };
            let kind = if is_current { &strong } else { &text };
            let id = row.id.to_string();
            let id_left = left + number - strong.width(&id);
            strong.paint(self.canvas, id_left, middle(top, &strong), colour(ACCENT), &id);
            let most = name_room(right - after, small.width(&row.state), m.unit);
            let name = kind.cut(row.name, most);
            kind.paint(self.canvas, after, middle(top, kind), colour(TEXT), &name);
            let state_left = after + kind.width(&name) + m.unit;
            let state = small.cut(&row.state, right - state_left);
            let state_colour = colour(if row.off_air { ACCENT } else { QUIET });
            small.paint(self.canvas, right - small.width(&state), middle(top, &small), state_colour, &state);
        }
        if layout.shown < list.rows.len() {
            let (track, count) = (line * layout.shown as i32, list.rows.len() as i32);
            let thumb = (track * layout.shown as i32 / count).max(m.unit / 2);
            let down = (track - thumb) * layout.first as i32 / (count - layout.shown as i32);
            let bar = (m.unit / 6).max(2);
            let place = area(x + width - bar - pad / 4, layout.top + down, bar, thumb);
            self.canvas.panel(place, bar / 2, QUIET, 200);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::StationId;

    #[test]
    fn a_name_has_the_room_that_the_state_leaves() {
        for (room, state, most) in [
            (500, 0, 500),   // Without a state, the whole row.
            (500, 60, 420),  // A short state needs less than its share.
            (500, 180, 300), // Exactly two fifths with the gap.
            (500, 900, 300), // A long state is cut.
            (500, 480, 300),
            (0, 60, 0),
        ] {
            assert_eq!(name_room(room, state, 20), most, "{state} of {room}");
        }
    }

    /// The width of a row's texts in a window of 1280 x 736, and what a name of it may take.
    fn room_of(list: &List<'_>, row: &Row<'_>) -> (i32, i32) {
        let m = Measures::new(1280, 736);
        let layout = ListLayout::of(list, &m);
        let room = layout.panel.width - 2 * side(&m) - number_width(list, &m) - m.unit * 3 / 4;
        (room, name_room(room, small(&m).width(&row.state), m.unit))
    }

    #[test]
    fn a_name_that_fits_beside_its_state_is_whole() {
        let row = |n, name, state: &'static str| Row {
            id: StationId(n),
            name,
            state: state.into(),
            off_air: false,
        };
        let long = "Ελληνικός κινηματογράφος";
        for count in [1, 3, 60] {
            let rows = (1..=count).map(|n| row(n, if n == 1 { long } else { "Ocean" }, "Nature")).collect();
            let list = List { rows, current: Some(StationId(1)), cursor: Some(0), search: "" };
            let (_, most) = room_of(&list, &list.rows[0]);
            let strong = Measures::new(1280, 736).strong();
            assert!(strong.width(long) <= most, "{count} stations: {} of {most}", strong.width(long));
        }
        let lost = "a sentence that says at length why this station is not on air at the moment";
        let list = List { rows: vec![row(1, long, lost)], current: None, cursor: None, search: "" };
        let (room, most) = room_of(&list, &list.rows[0]);
        assert_eq!(most, room * 3 / 5, "of two long texts, the name has three fifths");
    }
}
