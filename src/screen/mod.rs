//! The screen: turns JPEGs into a window's pixels, and keys into commands.
//!
//! Only the viewer (and the benches, which time it) imports this room. It imports `media` and `paint`.
//!
//! ```text
//! JPEG -> Decoder -> DecodedPicture -> ScreenView -> Composer (layout, then osd) -> Canvas -> Window
//! ViewerCommand <- Remote <- Key <--------------------------------------------------------------/
//! ```
//!
//! [`ScreenView`] is plain data: all that is visible at one moment. [`Composer`] turns it into pixels and needs no
//! window, so the tests of what is visible run without a display. [`Window`] alone uses the window system; [`Remote`]
//! takes the time as an argument.

mod display;
mod icon;
pub mod keys;
mod osd;
pub mod pointer;
mod shared;
pub mod snapshot;
pub mod window;

use std::borrow::Cow;

use crate::media::{Size, StationId};
use crate::paint::fit::Fitter;
use crate::paint::tiles::{Tile, TilePainter};
use crate::paint::{Canvas, area};

pub use crate::paint::decode::{DecodeError, DecodedPicture, Decoder};
pub use keys::{Key, KeyPress, Mode, Remote, ViewerCommand};
pub use window::{Window, WindowError, WindowPlace};

/// All that is visible at one moment.
#[derive(Debug, Clone, Default)]
pub struct ScreenView<'a> {
    /// The picture; if there is none, the screen is black.
    pub picture: Option<&'a DecodedPicture>,
    /// The tiles of a mosaic, in place of the picture.
    pub mosaic: Option<&'a [Tile<'a>]>,
    /// Whether the picture is an old one, because no other arrives: then it is grey and dim.
    pub lost: bool,
    /// The station: for a few seconds after a change, and as long as it is lost.
    pub banner: Option<Banner<'a>>,
    /// A sentence about the reception, "No signal since 14:03:20": in the banner, or in its place.
    pub note: Option<&'a str>,
    /// The number being typed, "1_".
    pub typed: Option<&'a str>,
    /// The panel.
    pub panel: Panel<'a>,
    /// One sentence for a few seconds: "picture saved as …".
    pub message: Option<&'a str>,
    /// Whether the pause sign is shown.
    pub paused: bool,
    /// The volume, for a few seconds after a change.
    pub volume: Option<VolumeBar>,
}

/// The panel over the picture. There is one at a time.
#[derive(Debug, Clone, Default)]
pub enum Panel<'a> {
    /// None.
    #[default]
    None,
    /// Figures of the reception, as rows of label and value.
    Info(Vec<(&'static str, String)>),
    /// The line-up.
    List(List<'a>),
    /// What the keys do.
    Keys,
    /// The guide.
    Guide(Guide<'a>),
}

/// The volume, as a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeBar {
    /// In percent, 0..=100.
    pub percent: u8,
    /// Whether nothing is heard all the same.
    pub muted: bool,
}

/// The station on the screen.
#[derive(Debug, Clone, Copy)]
pub struct Banner<'a> {
    /// Its number.
    pub number: StationId,
    /// Its name, of any length, in any script.
    pub name: &'a str,
    /// What is on, and what is next, a line each; empty if that is not known.
    pub programme: [&'a str; 2],
}

/// The line-up, as a list to choose from.
#[derive(Debug, Clone, Default)]
pub struct List<'a> {
    /// The stations, in order; if a name is searched for, those that have it.
    pub rows: Vec<Row<'a>>,
    /// The station on the screen.
    pub current: Option<StationId>,
    /// Index in `rows` of the row under the cursor.
    pub cursor: Option<usize>,
    /// The part of a name that is searched for; empty if none is.
    pub search: &'a str,
}

impl List<'_> {
    /// What lies at this place of a window of this size.
    pub fn at(&self, (x, y): (i32, i32), (width, height): (usize, usize)) -> ListPlace {
        let layout = osd::list::ListLayout::new(self, width, height);
        match layout.row_at(x, y) {
            Some(row) => ListPlace::Row(row),
            None if layout.contains(x, y) => ListPlace::Panel,
            None => ListPlace::Outside,
        }
    }
}

/// The films of all stations on a time line. Places on it are shares of its length, 0.0 at its left edge and 1.0 at its right one.
#[derive(Debug, Clone, Default)]
pub struct Guide<'a> {
    /// The stations, in order.
    pub rows: Vec<GuideRow<'a>>,
    /// The station on the screen.
    pub current: Option<StationId>,
    /// Index in `rows` of the row under the cursor.
    pub cursor: usize,
    /// The place under the cursor.
    pub at: f32,
    /// The place of the present moment.
    pub now: f32,
    /// Places with a time of day, ascending.
    pub marks: Vec<(f32, String)>,
    /// The film under the cursor, with its times; or why there is none.
    pub detail: String,
}

/// A station in the guide.
#[derive(Debug, Clone)]
pub struct GuideRow<'a> {
    /// Its number.
    pub id: StationId,
    /// Its name.
    pub name: &'a str,
    /// Its films that are seen, in order.
    pub cells: Vec<GuideCell<'a>>,
}

/// A film in the guide.
#[derive(Debug, Clone, Copy)]
pub struct GuideCell<'a> {
    /// Its title.
    pub title: &'a str,
    /// The place of its beginning; below 0.0 if that is not seen.
    pub begin: f32,
    /// The place of its end, above 1.0 if that is not seen; `None` if it is not known.
    pub end: Option<f32>,
    /// Whether it is on.
    pub is_on: bool,
}

impl Guide<'_> {
    /// The index of the row at this place of a window of this size, and the place on the time line; `None` on no row.
    pub fn place(&self, (x, y): (i32, i32), (width, height): (usize, usize)) -> Option<(usize, f32)> {
        osd::guide::GuideLayout::new(self, width, height).at(x, y)
    }
}

/// A place in a window that shows a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListPlace {
    /// On the row with this index.
    Row(usize),
    /// On the panel, and on no row.
    Panel,
    /// Beside the panel.
    Outside,
}

/// A station in the list.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    /// Its number.
    pub id: StationId,
    /// Its name.
    pub name: &'a str,
    /// What is on, or the state in a word or two, "off air".
    pub state: Cow<'a, str>,
    /// Whether the state needs attention.
    pub off_air: bool,
}

/// Brightness of the grey picture of a lost station, of 255.
const LOST_LEVEL: u32 = 120;

/// Turns views into pixels. Keeps its buffers from one view to the next.
#[derive(Debug, Default)]
pub struct Composer {
    fitter: Fitter,
    tiles: TilePainter,
}

impl Composer {
    /// A composer.
    pub fn new() -> Composer {
        Composer::default()
    }

    /// Paints the whole canvas, at its own size.
    pub fn compose(&mut self, view: &ScreenView<'_>, canvas: &mut Canvas) {
        match view.mosaic {
            Some(tiles) => self.tiles.paint(tiles, canvas),
            None => drop(self.fitter.paint(view.picture, canvas)),
        }
        if view.lost {
            canvas.grey(area(0, 0, canvas.width as i32, canvas.height as i32), LOST_LEVEL);
        }
        osd::paint(view, canvas);
    }
}

/// A window with all that is needed to show views in it.
pub struct Screen {
    window: Window,
    composer: Composer,
    canvas: Canvas,
}

impl Screen {
    /// Opens a window for pictures of this size, where the last one was if that is `remembered`.
    ///
    /// # Errors
    /// There is no display.
    pub fn open(title: &str, size: Size, remembered: Option<WindowPlace>) -> Result<Screen, WindowError> {
        let window = Window::open(title, size, remembered)?;
        Ok(Screen { window, composer: Composer::new(), canvas: Canvas::default() })
    }

    /// The window, for its keys, its title and full screen.
    pub fn window(&mut self) -> &mut Window {
        &mut self.window
    }

    /// Shows a view at once.
    ///
    /// A window system may forget what a window showed (behind another window, after a change of size), so the caller
    /// shows the view again a few times a second even if nothing has changed.
    ///
    /// # Errors
    /// The window system refuses the picture.
    pub fn show(&mut self, view: &ScreenView<'_>) -> Result<(), WindowError> {
        let (width, height) = self.window.size();
        self.canvas.resize(width, height);
        self.composer.compose(view, &mut self.canvas);
        self.window.show(&self.canvas)
    }
}

#[cfg(test)]
mod tests;
