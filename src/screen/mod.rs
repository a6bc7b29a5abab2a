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

pub mod decode;
mod fullscreen;
pub mod keys;
pub mod layout;
mod osd;
pub mod snapshot;
pub mod window;

use crate::media::{Size, StationId};
use crate::paint::Canvas;

pub use decode::{DecodeError, DecodedPicture, Decoder};
pub use keys::{Key, Mode, Remote, ViewerCommand};
pub use window::{Window, WindowError};

/// All that is visible at one moment.
#[derive(Debug, Clone, Default)]
pub struct ScreenView<'a> {
    /// The picture; if there is none, the screen is black.
    pub picture: Option<&'a DecodedPicture>,
    /// Number and name of the station, for a few seconds after a change.
    pub banner: Option<Banner<'a>>,
    /// A dim line about the reception, "no signal — waiting": in the banner, or in its place.
    pub note: Option<&'a str>,
    /// The number being typed, "1_".
    pub typed: Option<&'a str>,
    /// Rows of label and value; if empty, no information is shown.
    pub info: &'a [(&'a str, String)],
    /// The line-up.
    pub list: Option<List<'a>>,
    /// One sentence for a few seconds: "picture saved as …".
    pub message: Option<&'a str>,
    /// Whether the pause sign is shown.
    pub paused: bool,
    /// The volume, for a few seconds after a change.
    pub volume: Option<VolumeBar>,
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
    /// Its name, of any length. Characters outside the European alphabets are shown as `?`.
    pub name: &'a str,
}

/// The line-up, as a list to choose from.
#[derive(Debug, Clone, Default)]
pub struct List<'a> {
    /// The stations, in order.
    pub rows: Vec<Row<'a>>,
    /// The station on the screen.
    pub current: Option<StationId>,
    /// Index in `rows` of the row under the cursor.
    pub cursor: Option<usize>,
}

/// A station in the list.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Its number.
    pub id: StationId,
    /// Its name.
    pub name: &'a str,
    /// Its state in a word or two, "off air".
    pub state: &'a str,
}

/// Turns views into pixels. Keeps its buffers from one view to the next.
#[derive(Debug, Default)]
pub struct Composer {
    fitter: layout::Fitter,
}

impl Composer {
    /// A composer.
    pub fn new() -> Composer {
        Composer::default()
    }

    /// Paints the whole canvas, at its own size.
    pub fn compose(&mut self, view: &ScreenView<'_>, canvas: &mut Canvas) {
        self.fitter.paint(view.picture, canvas);
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
    /// Opens a window for pictures of this size.
    ///
    /// # Errors
    /// There is no display.
    pub fn open(title: &str, size: Size) -> Result<Screen, WindowError> {
        let window = Window::open(title, size)?;
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
