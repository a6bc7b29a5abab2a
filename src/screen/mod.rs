//! The screen: from a JPEG to what is seen, and from keys to commands.
//!
//! ```text
//! JPEG -> Decoder -> DecodedPicture -\
//!                              ScreenView -> Composer (layout, then osd) -> Canvas -> Window
//! commands <- Remote <- keys <-----------------------------------------------/
//! ```
//!
//! [`ScreenView`] is plain data, all that is to be seen at one moment. [`Composer`] turns it into pixels
//! and needs no window, so every test of what is seen runs without a display. [`Window`] alone touches
//! the window system; [`Remote`] takes the time as an argument.

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

/// What is to be seen at one moment.
#[derive(Debug, Clone, Default)]
pub struct ScreenView<'a> {
    /// The picture; without one the screen is black.
    pub picture: Option<&'a DecodedPicture>,
    /// Which station this is: shown for a few seconds after a change.
    pub banner: Option<Banner<'a>>,
    /// A dim line on the state of things, "no signal — waiting": in the banner, or where it would be.
    pub note: Option<&'a str>,
    /// The number being typed, "1_".
    pub typed: Option<&'a str>,
    /// Rows of label and value; none, no information.
    pub info: &'a [(&'a str, String)],
    /// The line-up.
    pub list: Option<List<'a>>,
    /// One sentence for a few seconds: "picture saved as …".
    pub message: Option<&'a str>,
    /// Whether the picture is held.
    pub paused: bool,
}

/// Which station is on the screen.
#[derive(Debug, Clone, Copy)]
pub struct Banner<'a> {
    /// Its number.
    pub number: StationId,
    /// Its name, in any alphabet and of any length.
    pub name: &'a str,
}

/// The line-up, as a list to choose from.
#[derive(Debug, Clone, Default)]
pub struct List<'a> {
    /// The stations, in order.
    pub rows: Vec<Row<'a>>,
    /// The station on the screen.
    pub current: Option<StationId>,
    /// The row that would be chosen, by its place in `rows`.
    pub cursor: Option<usize>,
}

/// A station in the list.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Its number.
    pub id: StationId,
    /// Its name.
    pub name: &'a str,
    /// A word on its state: "off air".
    pub state: &'a str,
}

/// Makes pixels of a view. Keeps its memory from one to the next.
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

/// A window, and what it takes to show a view in it.
pub struct Screen {
    window: Window,
    composer: Composer,
    canvas: Canvas,
}

impl Screen {
    /// Opens a window for pictures of this size.
    ///
    /// # Errors
    /// When there is no display.
    pub fn open(title: &str, size: Size) -> Result<Screen, WindowError> {
        let window = Window::open(title, size)?;
        Ok(Screen { window, composer: Composer::new(), canvas: Canvas::default() })
    }

    /// The window: its keys, its title, full screen.
    pub fn window(&mut self) -> &mut Window {
        &mut self.window
    }

    /// Shows a view, at once.
    ///
    /// A window system may forget what a window showed (behind another window, after a change of size):
    /// show again a few times a second even when nothing changes.
    ///
    /// # Errors
    /// When the window system refuses the picture.
    pub fn show(&mut self, view: &ScreenView<'_>) -> Result<(), WindowError> {
        let (width, height) = self.window.size();
        self.canvas.resize(width, height);
        self.composer.compose(view, &mut self.canvas);
        self.window.show(&self.canvas)
    }
}

#[cfg(test)]
mod tests;
