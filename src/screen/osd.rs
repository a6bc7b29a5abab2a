//! The on-screen display: everything laid over the picture, in the look of the web page. It is painted at the window's
//! resolution, not the picture's, so that it is sharp at any size.
//!
//! Each part has its place: the guide over all, the panels of information and keys top left, the line-up right, the number being typed top right or,
//! beside the line-up, top left; the banner along the bottom, volume and pause sign bottom right, a message at the bottom in
//! the middle, above the banner.

pub(super) mod guide;
pub(super) mod list;
mod sheet;

use super::{Banner, Panel, ScreenView, VolumeBar};
use crate::paint::style::{ACCENT, GLASS, QUIET, TEXT};
use crate::paint::{Canvas, Type, area};

/// Opacity of panels, 92 %: text on them is read over any picture.
const PANEL_ALPHA: u8 = 235;

/// How dark the picture gets behind the banner.
const BANNER_ALPHA: u8 = 222;

/// Smallest window with an on-screen display, in pixels.
const SMALLEST: (usize, usize) = (64, 48);

/// Most lines of a message or of a sentence without a banner.
const LINES: usize = 3;

/// Paints the parts of the display that `view` has.
pub(super) fn paint(view: &ScreenView<'_>, canvas: &mut Canvas) {
    if canvas.width < SMALLEST.0 || canvas.height < SMALLEST.1 {
        return;
    }
    let measures = Measures::new(canvas.width, canvas.height);
    let mut osd = Osd { canvas, m: measures };
    let mut foot = osd.m.height - osd.m.margin;
    match (&view.banner, view.note) {
        (Some(banner), note) => foot = osd.banner(banner, note),
        (None, Some(note)) => {
            foot = osd.note(note, view.picture.is_none() && view.mosaic.is_none_or(<[_]>::is_empty))
        }
        (None, None) => {}
    }
    match &view.panel {
        Panel::None => {}
        Panel::Info(rows) => osd.sheet(rows),
        Panel::List(list) => osd.list(list),
        Panel::Keys => osd.keys(),
        Panel::Guide(guide) => osd.guide(guide),
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
        osd.typed(typed, matches!(view.panel, Panel::List(_)));
    }
}

/// Measures of the display for the size of a window, in pixels.
#[derive(Debug, Clone, Copy)]
struct Measures {
    width: i32,
    height: i32,
    /// Height of a line of text, from which the other measures are derived.
    unit: i32,
    /// Distance from the window's edge to a panel.
    margin: i32,
    /// Distance from a panel's edge to its content.
    pad: i32,
}

impl Measures {
    fn new(width: usize, height: usize) -> Measures {
        let (width, height) = (width.min(1 << 20) as i32, height.min(1 << 20) as i32);
        let unit = (height / 27).min(width / 44).max(11);
        Measures { width, height, unit, margin: unit.min(width / 20), pad: unit * 3 / 5 }
    }

    /// Greatest width of a panel's text.
    fn room(&self) -> i32 {
        self.width - 2 * self.margin - 2 * self.pad
    }

    fn text(&self) -> Type {
        Type::regular(self.unit)
    }

    fn strong(&self) -> Type {
        Type::bold(self.unit)
    }

    /// The type of the station's number.
    fn number(&self) -> Type {
        Type::bold(self.unit * 13 / 5)
    }
}

/// A canvas, and the measures for its size.
struct Osd<'c> {
    canvas: &'c mut Canvas,
    m: Measures,
}

impl Osd<'_> {
    fn panel(&mut self, x: i32, y: i32, width: i32, height: i32) {
        self.canvas.panel(area(x, y, width, height), self.m.unit / 2, GLASS, PANEL_ALPHA);
    }

    /// Paints number and name, and the lines below the name. Returns the upper edge of the text.
    fn banner(&mut self, banner: &Banner<'_>, note: Option<&str>) -> i32 {
        let m = self.m;
        let (large, name_type, text) = (m.number(), Type::bold(m.unit * 3 / 2), m.text());
        let number = banner.number.to_string();
        let after = m.margin + large.width(&number) + m.unit;
        let room = m.width - m.margin - after;
        let mut lines = Vec::new();
        // Of what is wrong, all is said; the rest is for a look in passing.
        if let Some(note) = note {
            lines.extend(text.wrap(note, room, 2).into_iter().map(|line| (ACCENT, line)));
        }
        let programme = banner.programme.iter().filter(|line| !line.is_empty());
        lines.extend(programme.map(|line| (QUIET, text.cut(line, room).to_string())));
        let inner = large.height().max(name_type.height() + text.height() * lines.len() as i32);
        let foot = m.height - m.margin * 6 / 5;
        let top = foot - inner;
        let above = m.unit * 4;
        let shade = area(0, top - above, m.width, m.height - top + above);
        self.canvas.darken(shade, above + inner / 2, BANNER_ALPHA);
        let centred = |part: i32| top + (inner - part) / 2;
        large.paint(self.canvas, m.margin, centred(large.height()), ACCENT, &number);
        let mut y = centred(name_type.height() + text.height() * lines.len() as i32);
        name_type.paint(self.canvas, after, y, TEXT, &name_type.cut(banner.name, room));
        y += name_type.height();
        for (colour, line) in lines {
            text.paint(self.canvas, after, y, colour, &line);
            y += text.height();
        }
        top
    }

    /// Paints a sentence without a banner: in the banner's place, or in the middle if there is no picture (`alone`).
    /// Returns the edge above which a message is painted.
    fn note(&mut self, note: &str, alone: bool) -> i32 {
        let m = self.m;
        let foot = m.height - m.margin;
        if alone {
            self.lines(note, m.text(), |height| (m.height - height) / 2);
            return foot;
        }
        self.lines(note, m.text(), |height| foot - height)
    }

    fn message(&mut self, message: &str, foot: i32) {
        let m = self.m;
        self.lines(message, m.text(), |height| (foot - m.unit / 2 - height).max(0));
    }

    /// Paints a text on a panel in the middle of the window's width, in a few lines. `top` gives the panel's upper edge for its
    /// height. Returns that edge.
    fn lines(&mut self, text: &str, kind: Type, top: impl Fn(i32) -> i32) -> i32 {
        let m = self.m;
        let lines = kind.wrap(text, m.room().min(m.unit * 34), LINES);
        let widest = lines.iter().map(|line| kind.width(line)).max().unwrap_or(0);
        let (width, height) = (widest + 2 * m.pad, kind.height() * lines.len() as i32 + m.pad);
        let (x, y) = ((m.width - width) / 2, top(height));
        self.panel(x, y, width, height);
        for (n, line) in (0..).zip(&lines) {
            let left = (m.width - kind.width(line)) / 2;
            kind.paint(self.canvas, left, y + m.pad / 2 + kind.height() * n, TEXT, line);
        }
        y
    }

    fn typed(&mut self, typed: &str, left: bool) {
        let (m, large) = (self.m, self.m.number());
        let (width, height) = (large.width(typed) + 2 * m.pad, large.height() + m.pad);
        let (x, y) = (if left { m.margin } else { m.width - m.margin - width }, m.margin);
        self.panel(x, y, width, height);
        large.paint(self.canvas, x + m.pad, y + m.pad / 2, ACCENT, typed);
    }

    /// Paints the volume: its number, or "mute", and a bar. The pause sign is below it.
    fn volume(&mut self, volume: VolumeBar, paused: bool) {
        let (m, kind) = (self.m, self.m.text());
        let text = if volume.muted { "mute".into() } else { format!("{} %", volume.percent) };
        // The panel keeps its width while the number changes.
        let label = kind.width("100 %").max(kind.width("mute"));
        let track = (m.unit * 8).min(m.room() - label - m.pad).max(m.unit);
        let (width, height) = (label + track + 3 * m.pad, kind.height() + m.pad);
        let below = if paused { m.unit * 3 } else { 0 };
        let (x, y) = (m.width - m.margin - width, m.height - m.margin - below - height);
        self.panel(x, y, width, height);
        let left = x + m.pad + label - kind.width(&text);
        kind.paint(self.canvas, left, y + m.pad / 2, TEXT, &text);
        let bar = (m.unit / 3).max(2);
        let (left, top) = (x + 2 * m.pad + label, y + (height - bar) / 2);
        self.canvas.panel(area(left, top, track, bar), bar / 2, QUIET, 90);
        let filled = track * i32::from(volume.percent.min(100)) / 100;
        if filled > 0 {
            let colour = if volume.muted { QUIET } else { ACCENT };
            self.canvas.panel(area(left, top, filled, bar), (bar / 2).min(filled / 2), colour, 255);
        }
    }

    /// Paints the pause sign, two upright bars.
    fn paused(&mut self) {
        let m = self.m;
        let side = m.unit * 5 / 2;
        let (x, y) = (m.width - m.margin - side, m.height - m.margin - side);
        self.panel(x, y, side, side);
        let (bar, tall) = (side / 6, side / 2);
        for left in [x + side / 2 - bar * 3 / 2, x + side / 2 + bar / 2] {
            self.canvas.panel(area(left, y + (side - tall) / 2, bar, tall), bar / 4, TEXT, 255);
        }
    }
}
