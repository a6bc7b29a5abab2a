//! Many stations at once: tiles in as many columns as the square root of their number, each with its picture, its number and name,
//! and what is wrong. Nothing of a picture is hidden: its caption is below it.

use super::decode::DecodedPicture;
use super::fit::{Fitter, fit};
use super::style::{ACCENT, ALARM, GLASS, QUIET, TEXT};
use super::{Canvas, Rectangle, Type, area};
use crate::media::{Size, StationId};

/// Most tiles of a mosaic. Of a hundred on a usual screen each is as large as a stamp.
pub const MOST_TILES: usize = 100;

/// Pixels between two tiles.
const GAP: i32 = 2;

/// Brightness of the grey picture of a tile without signal, of 255.
const LOST_LEVEL: u32 = 120;

/// Steps of the level meter. A change of less is not painted.
const LEVELS: f32 = 32.0;

/// Where the tiles are on a canvas of some size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TileLayout {
    count: usize,
    columns: usize,
    rows: usize,
    width: usize,
    height: usize,
}

impl TileLayout {
    /// The layout of `count` tiles on a canvas of `width` by `height` pixels.
    pub fn new(count: usize, width: usize, height: usize) -> TileLayout {
        let columns = (1..).find(|columns| columns * columns >= count).unwrap_or(1);
        let rows = count.div_ceil(columns).max(1);
        TileLayout { count, columns, rows, width, height }
    }

    /// The number of columns, at least 1.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The place of the tile with this index, from 0 on.
    pub fn tile(&self, index: usize) -> Rectangle {
        let (column, row) = (index % self.columns, index / self.columns);
        let left = |column: usize| (self.width * column / self.columns) as i32;
        let top = |row: usize| (self.height * row / self.rows) as i32;
        // The gap is inside, so that the tiles at the edges end there.
        let gap = |at: usize, of: usize| if at + 1 < of { GAP } else { 0 };
        let (x, y) = (left(column), top(row));
        let (right, foot) =
            (left(column + 1) - gap(column, self.columns), top(row + 1) - gap(row, self.rows));
        area(x, y, right - x, foot - y)
    }

    /// The index of the tile at a place, if there is one.
    pub fn at(&self, (x, y): (i32, i32)) -> Option<usize> {
        (0..self.count).find(|&index| self.tile(index).contains(x, y))
    }

    /// The place of a picture of `size` in the tile with this index.
    pub fn picture(&self, index: usize, size: Size) -> Rectangle {
        let tile = self.tile(index);
        let above = (tile.height - Caption::of(tile).height).max(0);
        let at = fit(size, tile.width as usize, above as usize);
        area(tile.x + at.x, tile.y + at.y, at.width, at.height)
    }

    /// The size at which a picture of `size` is seen, in pixels.
    pub fn seen(&self, size: Size) -> (u32, u32) {
        let place = self.picture(0, size);
        (place.width as u32, place.height as u32)
    }
}

/// The measures of a caption, in pixels.
struct Caption {
    /// Height of a line of text.
    unit: i32,
    /// Height of the level meter.
    meter: i32,
    /// Height in all.
    height: i32,
}

impl Caption {
    fn of(tile: Rectangle) -> Caption {
        let unit = (tile.height / 9).min(tile.width / 9).clamp(9, 26);
        let meter = (unit / 5).max(2);
        Caption { unit, meter, height: unit + 3 * meter }
    }
}

/// A station among others.
#[derive(Debug, Clone, Copy)]
pub struct Tile<'a> {
    /// Its number.
    pub id: StationId,
    /// Its name.
    pub name: &'a str,
    /// Its picture, and a number that changes with it.
    pub picture: Option<(&'a DecodedPicture, u64)>,
    /// The losses, in a word or two; empty if there are none.
    pub loss: &'a str,
    /// The level of its sound, 0.0..=1.0; `None` if it has none.
    pub level: Option<f32>,
    /// The red label, "No signal"; then the picture is an old one.
    pub alarm: Option<&'a str>,
    /// Whether it is the chosen one.
    pub selected: bool,
}

/// All of a tile that is seen.
#[derive(Debug, PartialEq)]
struct Look {
    id: StationId,
    name: String,
    picture: Option<u64>,
    loss: String,
    level: Option<u32>,
    alarm: Option<String>,
    selected: bool,
}

impl Look {
    fn of(tile: &Tile<'_>) -> Look {
        Look {
            id: tile.id,
            name: tile.name.to_owned(),
            picture: tile.picture.map(|(_, number)| number),
            loss: tile.loss.to_owned(),
            level: tile.level.map(|level| (level.clamp(0.0, 1.0) * LEVELS) as u32),
            alarm: tile.alarm.map(str::to_owned),
            selected: tile.selected,
        }
    }
}

/// Paints tiles. It keeps what was painted, and paints the tiles anew that have changed.
#[derive(Debug, Default)]
pub struct TilePainter {
    fitter: Fitter,
    layout: TileLayout,
    painted: Vec<Look>,
    base: Canvas,
}

impl TilePainter {
    /// Paints the whole canvas, at its own size.
    pub fn paint(&mut self, tiles: &[Tile<'_>], canvas: &mut Canvas) {
        let layout = TileLayout::new(tiles.len(), canvas.width, canvas.height);
        if layout != self.layout {
            self.layout = layout;
            self.painted.clear();
            self.base.resize(canvas.width, canvas.height);
            self.base.pixels.fill(0);
        }
        for (index, tile) in tiles.iter().enumerate() {
            let look = Look::of(tile);
            if self.painted.get(index) == Some(&look) {
                continue;
            }
            self.tile(tile, look.level, index);
            match self.painted.get_mut(index) {
                Some(painted) => *painted = look,
                None => self.painted.push(look),
            }
        }
        canvas.pixels.copy_from_slice(&self.base.pixels);
    }

    fn tile(&mut self, tile: &Tile<'_>, level: Option<u32>, index: usize) {
        let (canvas, place) = (&mut self.base, self.layout.tile(index));
        if place.is_empty() {
            return;
        }
        let picture = tile.picture.map(|(picture, _)| self.layout.picture(index, picture.size));
        let at = picture.unwrap_or(area(place.x, place.y, 0, 0));
        // Around the picture.
        canvas.fill(area(place.x, place.y, place.width, at.y - place.y), 0);
        let Rectangle { x, width, .. } = at;
        canvas.fill(area(place.x, at.y, x - place.x, at.height), 0);
        canvas.fill(area(x + width, at.y, place.x + place.width - x - width, at.height), 0);
        let foot = at.y + at.height;
        canvas.fill(area(place.x, foot, place.width, place.y + place.height - foot), 0);
        if let Some((picture, _)) = tile.picture {
            if !at.is_empty() {
                self.fitter.place(picture, at, canvas);
            }
            if tile.alarm.is_some() {
                canvas.grey(at, LOST_LEVEL);
            }
        }
        let Caption { unit, meter, height } = Caption::of(place);
        let below =
            area(place.x, place.y + (place.height - height).max(0), place.width, height.min(place.height));
        caption(canvas, tile, level, below, (unit, meter));
        if let Some(alarm) = tile.alarm {
            let kind = Type::bold(unit);
            let pad = unit / 3;
            let alarm = kind.cut(alarm, place.width - 4 * pad);
            let width = kind.width(&alarm) + 2 * pad;
            let x = place.x + place.width - width - pad;
            canvas.panel(area(x, place.y + pad, width, kind.height()), pad / 2, ALARM, 255);
            kind.paint(canvas, x + pad, place.y + pad, TEXT, &alarm);
        }
        if tile.selected {
            let line = meter;
            let Rectangle { x, y, width, height } = place;
            for side in [
                area(x, y, width, line),
                area(x, y + height - line, width, line),
                area(x, y, line, height),
                area(x + width - line, y, line, height),
            ] {
                canvas.fill(side, ACCENT);
            }
        }
    }
}

/// Paints number, name and losses, and below them the level of the sound. The frame of the chosen tile hides neither.
fn caption(
    canvas: &mut Canvas,
    tile: &Tile<'_>,
    level: Option<u32>,
    place: Rectangle,
    (unit, meter): (i32, i32),
) {
    let (strong, text) = (Type::bold(unit), Type::regular(unit));
    let (pad, top) = (unit / 2, place.y);
    canvas.fill(place, GLASS);
    let number = tile.id.to_string();
    let (left, right) = (place.x + pad, place.x + place.width - pad);
    strong.paint(canvas, left, top, ACCENT, &number);
    let after = left + strong.width(&number) + pad;
    let loss = text.cut(tile.loss, (right - after) / 2);
    let losses = if loss.is_empty() { 0 } else { text.width(&loss) + pad };
    text.paint(canvas, right - text.width(&loss), top, QUIET, &loss);
    text.paint(canvas, after, top, TEXT, &text.cut(tile.name, right - losses - after));
    if let Some(level) = level {
        let track = area(left, top + unit + meter / 2, right - left, meter);
        canvas.blend(track, QUIET, 70);
        canvas.fill(area(track.x, track.y, track.width * level as i32 / LEVELS as i32, meter), ACCENT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn white(width: u16, height: u16) -> DecodedPicture {
        let pixels = vec![0xff_ffff; usize::from(width) * usize::from(height)];
        DecodedPicture { size: Size { width, height }, pixels }
    }

    fn tile(id: u16, picture: Option<(&DecodedPicture, u64)>) -> Tile<'_> {
        Tile { id: StationId(id), name: "Anna", picture, loss: "", level: None, alarm: None, selected: false }
    }

    #[test]
    fn there_are_as_many_columns_as_the_square_root() {
        for (count, columns, rows) in [
            (0, 1, 1),
            (1, 1, 1),
            (2, 2, 1),
            (3, 2, 2),
            (4, 2, 2),
            (5, 3, 2),
            (16, 4, 4),
            (17, 5, 4),
            (49, 7, 7),
        ] {
            let layout = TileLayout::new(count, 1280, 720);
            assert_eq!((layout.columns(), layout.rows), (columns, rows), "{count} tiles");
            for index in 0..count {
                let place = layout.tile(index);
                assert_eq!(layout.at((place.x, place.y)), Some(index));
                assert_eq!(layout.at((place.x + place.width - 1, place.y + place.height - 1)), Some(index));
            }
        }
        let layout = TileLayout::new(3, 640, 368);
        assert_eq!(layout.at((500, 300)), None, "the fourth place is empty");
        assert_eq!(layout.at((-1, 0)), None);
        let place = layout.picture(2, Size { width: 640, height: 368 });
        assert!(place.x > 0 && place.y == 184 && place.y + place.height <= 368 - 23, "{place:?}");
        let place = layout.picture(0, Size { width: 640, height: 368 });
        assert_eq!(layout.seen(Size { width: 640, height: 368 }), (place.width as u32, place.height as u32));
    }

    #[test]
    fn each_picture_is_in_its_tile_and_a_change_is_painted() {
        let (picture, dark) = (white(320, 184), white(320, 184));
        let dark = DecodedPicture { pixels: vec![0x20_2020; dark.pixels.len()], ..dark };
        let mut painter = TilePainter::default();
        let mut canvas = Canvas::new(640, 368);
        canvas.pixels.fill(0x12_3456);
        painter
            .paint(&[tile(1, Some((&picture, 1))), tile(2, None), tile(3, Some((&picture, 1)))], &mut canvas);
        let at = |canvas: &Canvas, x: usize, y: usize| canvas.pixels[y * 640 + x];
        assert_eq!([at(&canvas, 100, 50), at(&canvas, 100, 250)], [0xff_ffff; 2]);
        assert_eq!([at(&canvas, 400, 50), at(&canvas, 400, 250)], [0; 2], "no picture, and no station");
        // The same number is the same picture, which is not painted again.
        painter.paint(&[tile(1, Some((&dark, 1))), tile(2, None), tile(3, Some((&dark, 2)))], &mut canvas);
        assert_eq!([at(&canvas, 100, 50), at(&canvas, 100, 250)], [0xff_ffff, 0x20_2020]);
        // A tile that has lost its picture leaves the one below it as it is.
        painter.paint(&[tile(1, None), tile(2, None), tile(3, Some((&dark, 2)))], &mut canvas);
        assert_eq!([at(&canvas, 100, 50), at(&canvas, 100, 250)], [0, 0x20_2020]);
        // A station leaves: all are laid anew.
        painter.paint(&[tile(3, Some((&dark, 2)))], &mut canvas);
        assert_eq!([at(&canvas, 100, 50), at(&canvas, 400, 250)], [0x20_2020; 2]);
        painter.paint(&[], &mut canvas);
        assert_eq!(at(&canvas, 400, 250), 0);
    }

    #[test]
    fn a_tile_shows_what_is_wrong_which_is_chosen_and_how_loud_it_is() {
        let picture = white(320, 184);
        let mut painter = TilePainter::default();
        let mut seen = |tile: Tile<'_>| {
            let mut canvas = Canvas::new(320, 184);
            painter.paint(&[tile], &mut canvas);
            canvas
        };
        let count =
            |canvas: &Canvas, colour: u32| canvas.pixels.iter().filter(|&&pixel| pixel == colour).count();
        let plain = tile(1, Some((&picture, 1)));
        let shown = seen(plain);
        assert_eq!(count(&shown, ALARM), 0);
        let lost = seen(Tile { alarm: Some("No signal"), ..plain });
        assert!(count(&lost, ALARM) > 500);
        assert_eq!(count(&lost, 0xff_ffff), 0, "the old picture is grey");
        let chosen = seen(Tile { selected: true, ..plain });
        assert!(count(&chosen, ACCENT) > count(&shown, ACCENT) + 900, "a frame");
        let levels = [0.0, 0.5, 1.0].map(|level| count(&seen(Tile { level: Some(level), ..plain }), ACCENT));
        assert!(levels[0] < levels[1] && levels[1] < levels[2], "{levels:?}");
        assert_ne!(seen(Tile { loss: "3 lost", ..plain }).pixels, shown.pixels);
    }

    #[test]
    fn tiles_of_any_size_are_painted() {
        let picture = white(64, 48);
        let mut painter = TilePainter::default();
        for (width, height, count) in [(0, 0, 3), (1, 1, 9), (5, 300, 100), (160, 96, 49), (300, 3, 7)] {
            let tiles: Vec<_> = (0..count)
                .map(|n| Tile {
                    alarm: Some("No signal"),
                    selected: true,
                    level: Some(2.0),
                    ..tile(n, Some((&picture, 1)))
                })
                .collect();
            painter.paint(&tiles, &mut Canvas::new(width, height));
        }
    }
}
