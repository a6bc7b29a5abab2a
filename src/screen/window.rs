//! The window. minifb shows the pixels and reports the keys; no other file uses it.

use std::collections::HashSet;
use std::sync::mpsc::{self, Receiver, Sender};

use minifb::{InputCallback, ScaleMode, WindowOptions};

use super::fullscreen::{DisplayConnection, DisplayError};
use super::keys::Key;
use crate::media::Size;
use crate::paint::Canvas;

/// Smallest size of a window, in pixels. Window managers are asked to respect it.
const SMALLEST: (u16, u16) = (160, 96);

/// Why a window could not be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum WindowError {
    /// There is no display.
    #[error("cannot open a window: DISPLAY is not set; use --headless, or log in at a desktop (ssh -X)")]
    NoDisplay,
    /// The display refused the window.
    #[error("cannot open a window on display {display}: {reason}; use --headless to run without")]
    Open {
        /// The value of `DISPLAY`.
        display: String,
        /// The message of minifb, or of our own connection.
        reason: String,
    },
    /// The picture was refused.
    #[error("cannot show a picture: {0}")]
    Show(String),
    /// Full screen could not be toggled.
    #[error("full screen: use your window manager's key ({0})")]
    FullScreen(String),
}

/// A window on the desktop.
pub struct Window {
    window: minifb::Window,
    events: Receiver<InputEvent>,
    keyboard: Keyboard,
    /// Whether [`Key::Close`] has been reported.
    closed: bool,
    /// Our own connection to the display, for what minifb lacks.
    display: Result<DisplayConnection, DisplayError>,
}

impl Window {
    /// Opens a window for pictures of this size. On a smaller screen it is as large as fits at the same aspect ratio.
    ///
    /// # Errors
    /// There is no display, or it refuses the window.
    pub fn open(title: &str, size: Size) -> Result<Window, WindowError> {
        // On Linux minifb is built for X11 only. On other systems minifb reports its own errors.
        let name = std::env::var("DISPLAY").unwrap_or_default();
        if cfg!(all(unix, not(target_os = "macos"))) && name.is_empty() {
            return Err(WindowError::NoDisplay);
        }
        let failed = |reason: String| WindowError::Open { display: name, reason };
        let display = DisplayConnection::connect();
        let (width, height) = initial(size, display.as_ref().ok().map(DisplayConnection::screen));
        // UpperLeft copies the canvas as it is, since we have scaled the picture, with a better filter.
        let options =
            WindowOptions { resize: true, scale_mode: ScaleMode::UpperLeft, ..WindowOptions::default() };
        let title = title.replace('\0', " ");
        let mut window = minifb::Window::new(&title, width, height, options).map_err(|error| {
            // If our own connection failed too, its error says more than minifb's "XOpenDisplay failed".
            failed(display.as_ref().err().map_or_else(|| error.to_string(), DisplayError::to_string))
        })?;
        // By default minifb sleeps in every call to limit updates to 250 a second, which adds up to 4 ms of latency.
        window.set_target_fps(0);
        let (sender, events) = mpsc::channel();
        window.set_input_callback(Box::new(Reporter(sender)));
        let this = Window { window, events, keyboard: Keyboard::default(), closed: false, display };
        if let Ok(display) = &this.display
            && let Err(error) = display.describe(this.id(), SMALLEST)
        {
            tracing::debug!(%error, "the window has no smallest size");
        }
        Ok(this)
    }

    /// The window's X11 ID.
    fn id(&self) -> u32 {
        self.window.get_window_handle() as usize as u32
    }

    /// The keys pressed since the last call, in order, however short the press. A key held down counts once, except the
    /// arrow and page keys and those of the volume, which repeat. Closing the window gives [`Key::Close`] once.
    pub fn poll(&mut self) -> Vec<Key> {
        self.window.update();
        self.keyboard.focus(self.window.is_active());
        let mut keys: Vec<Key> =
            self.events.try_iter().filter_map(|event| self.keyboard.event(event)).collect();
        let wheel = self.window.get_scroll_wheel().map_or(0.0, |(_, turned)| turned);
        if wheel != 0.0 {
            keys.push(if wheel > 0.0 { Key::Plus } else { Key::Minus });
        }
        if !self.closed && !self.window.is_open() {
            self.closed = true;
            keys.push(Key::Close);
        }
        keys
    }

    /// Width and height in pixels, as of the last [`poll`](Self::poll) or [`show`](Self::show).
    pub fn size(&self) -> (usize, usize) {
        self.window.get_size()
    }

    /// Shows a canvas at once. It should have the window's size; otherwise their top left corners coincide.
    ///
    /// # Errors
    /// The window system refuses it.
    pub fn show(&mut self, canvas: &Canvas) -> Result<(), WindowError> {
        self.window
            .update_with_buffer(&canvas.pixels, canvas.width, canvas.height)
            .map_err(|error| WindowError::Show(error.to_string()))
    }

    /// Changes the title.
    pub fn set_title(&mut self, title: &str) {
        self.window.set_title(&title.replace('\0', " "));
    }

    /// Toggles full screen, where the pointer is hidden.
    ///
    /// # Errors
    /// The display refuses; the message tells the user what else to do.
    pub fn toggle_full_screen(&mut self) -> Result<(), WindowError> {
        let id = self.id();
        let full = match &mut self.display {
            Ok(display) => display.toggle_full(id).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
        .map_err(WindowError::FullScreen)?;
        self.window.set_cursor_visibility(!full);
        Ok(())
    }
}

/// A new window's size: the picture's, at least [`SMALLEST`]. If the picture does not fit into 9/10 of the screen,
/// which leave room for a title bar and a panel, it is scaled down to fit.
fn initial(picture: Size, screen: Option<(u16, u16)>) -> (usize, usize) {
    let side = |side: u16, least: u16| usize::from(side.max(least));
    let (width, height) = (side(picture.width, SMALLEST.0), side(picture.height, SMALLEST.1));
    let Some((most_width, most_height)) = screen else { return (width, height) };
    let (most_width, most_height) = (usize::from(most_width) * 9 / 10, usize::from(most_height) * 9 / 10);
    if width <= most_width && height <= most_height {
        return (width, height);
    }
    if most_width * height <= most_height * width {
        (most_width.max(1), (height * most_width / width).max(1))
    } else {
        ((width * most_height / height).max(1), most_height.max(1))
    }
}

/// An event of minifb's callback.
#[derive(Debug, Clone, Copy)]
enum InputEvent {
    /// A key, and whether it is down now.
    Key(minifb::Key, bool),
    Character(char),
}

/// Sends every event to the window. minifb's `get_keys_pressed` compares the states at two polls, and so misses a key
/// that went down and up in between, as those of remote controls and xdotool do.
struct Reporter(Sender<InputEvent>);

impl InputCallback for Reporter {
    fn add_char(&mut self, character: u32) {
        // Sending cannot fail, since the window with the receiver owns this reporter too.
        let _ = char::from_u32(character).map(|character| self.0.send(InputEvent::Character(character)));
    }

    fn set_key_state(&mut self, key: minifb::Key, down: bool) {
        let _ = self.0.send(InputEvent::Key(key, down));
    }
}

/// Turns events into key presses.
#[derive(Debug, Default)]
struct Keyboard {
    down: HashSet<minifb::Key>,
    active: bool,
    /// Whether the last press was a digit whose character has not been reported yet.
    digit: bool,
}

impl Keyboard {
    /// Notes whether the window has the keyboard. A key released in another window is not reported, so none counts as
    /// down.
    fn focus(&mut self, active: bool) {
        if self.active && !active {
            self.down.clear();
        }
        self.active = active;
    }

    fn event(&mut self, event: InputEvent) -> Option<Key> {
        match event {
            InputEvent::Key(key, false) => {
                self.down.remove(&key);
                None
            }
            InputEvent::Key(key, true) => {
                let repeated = !self.down.insert(key);
                let meaning = meaning(key);
                self.digit = matches!(meaning, Some(Key::Digit(_)));
                meaning.filter(|key| !self.shortcut() && (!repeated || repeats(*key)))
            }
            // A French keyboard has its digits on the shifted level, for which minifb reports only the character. If it
            // has reported the key, the character is the same press.
            InputEvent::Character(c) => {
                let reported = std::mem::take(&mut self.digit);
                // Where these are on a keyboard, and with Shift or without, differs from country to country.
                let volume = match c {
                    '+' | '=' => Some(Key::Plus),
                    '-' => Some(Key::Minus),
                    _ => None,
                };
                if volume.is_some() {
                    return volume.filter(|_| !self.shortcut());
                }
                let digit = c.to_digit(10).filter(|_| !reported && !self.shortcut());
                digit.map(|digit| Key::Digit(digit as u8))
            }
        }
    }

    /// Whether Control, Alt or the logo key is down, so that another key is a shortcut of the desktop.
    fn shortcut(&self) -> bool {
        use minifb::Key::{LeftAlt, LeftCtrl, LeftSuper, RightAlt, RightCtrl, RightSuper};
        [LeftAlt, LeftCtrl, LeftSuper, RightAlt, RightCtrl, RightSuper]
            .iter()
            .any(|key| self.down.contains(key))
    }
}

/// Whether a key repeats while it is held down.
fn repeats(key: Key) -> bool {
    matches!(key, Key::Up | Key::Down | Key::Left | Key::Right | Key::PageUp | Key::PageDown)
}

/// Our key for minifb's.
fn meaning(key: minifb::Key) -> Option<Key> {
    use minifb::Key as K;
    Some(match key {
        K::Key0 | K::NumPad0 => Key::Digit(0),
        K::Key1 | K::NumPad1 => Key::Digit(1),
        K::Key2 | K::NumPad2 => Key::Digit(2),
        K::Key3 | K::NumPad3 => Key::Digit(3),
        K::Key4 | K::NumPad4 => Key::Digit(4),
        K::Key5 | K::NumPad5 => Key::Digit(5),
        K::Key6 | K::NumPad6 => Key::Digit(6),
        K::Key7 | K::NumPad7 => Key::Digit(7),
        K::Key8 | K::NumPad8 => Key::Digit(8),
        K::Key9 | K::NumPad9 => Key::Digit(9),
        K::Up => Key::Up,
        K::Down => Key::Down,
        K::Left => Key::Left,
        K::Right => Key::Right,
        K::PageUp => Key::PageUp,
        K::PageDown => Key::PageDown,
        K::Backspace => Key::Backspace,
        K::Space => Key::Space,
        K::Enter | K::NumPadEnter => Key::Enter,
        K::Escape => Key::Escape,
        K::I => Key::I,
        K::S => Key::S,
        K::F => Key::F,
        K::L => Key::L,
        K::M => Key::M,
        K::Q => Key::Q,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(keyboard: &mut Keyboard, events: &[InputEvent]) -> Vec<Key> {
        events.iter().filter_map(|&event| keyboard.event(event)).collect()
    }

    #[test]
    fn every_press_counts_once_and_arrows_repeat() {
        use InputEvent::{Character, Key as K};
        let two = minifb::Key::Key2;
        let up = minifb::Key::Up;
        let mut keyboard = Keyboard::default();
        // All between two polls: the key is pressed, its character reported, held, released, pressed again.
        let events =
            [K(two, true), Character('2'), K(two, true), Character('2'), K(two, false), K(two, true)];
        assert_eq!(press(&mut keyboard, &events), [Key::Digit(2), Key::Digit(2)]);
        assert_eq!(press(&mut keyboard, &[K(up, true), K(up, true), K(up, false)]), [Key::Up, Key::Up]);
        // The keys of the volume repeat, on the keypad too.
        let plus = [K(minifb::Key::NumPadPlus, true), Character('+'), Character('+'), Character('-')];
        assert_eq!(press(&mut keyboard, &plus), [Key::Plus, Key::Plus, Key::Minus]);
        // A digit of which only the character is reported; other characters are ignored.
        assert_eq!(press(&mut keyboard, &[Character('7'), Character('x')]), [Key::Digit(7)]);
    }

    #[test]
    fn shortcuts_of_the_desktop_are_ignored() {
        use InputEvent::{Character, Key as K};
        let (control, q) = (minifb::Key::LeftCtrl, minifb::Key::Q);
        let mut keyboard = Keyboard::default();
        keyboard.focus(true);
        assert_eq!(press(&mut keyboard, &[K(control, true), K(q, true), Character('3')]), []);
        // The release went to another window.
        keyboard.focus(false);
        keyboard.focus(true);
        assert_eq!(press(&mut keyboard, &[K(q, true)]), [Key::Q]);
    }

    #[test]
    fn a_new_window_fits_on_its_screen() {
        let size = |width, height| Size { width, height };
        assert_eq!(initial(size(640, 368), Some((1280, 800))), (640, 368));
        assert_eq!(initial(size(1920, 1080), Some((1280, 800))), (1152, 648));
        assert_eq!(initial(size(16, 16), None), (160, 96));
        assert_eq!(initial(size(1088, 1920), Some((1280, 800))), (408, 720));
    }

    #[test]
    fn the_error_without_a_display_says_what_to_do() {
        assert!(
            WindowError::NoDisplay
                .to_string()
                .starts_with("cannot open a window: DISPLAY is not set; use --headless")
        );
    }
}
