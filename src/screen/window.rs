//! The window. minifb shows the pixels and reports the keys; no other file uses it.

use std::collections::HashSet;
use std::sync::mpsc::{self, Receiver, Sender};

use minifb::{InputCallback, ScaleMode, WindowOptions};

use super::display::{DisplayConnection, DisplayError};
use super::keys::{Key, KeyPress};
use super::pointer::PointerEvent;
use crate::media::Size;
use crate::paint::fit::fit;
use crate::paint::{Canvas, Rectangle, area};

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

/// A place on the desktop, and whether the window fills the screen: all that the next window can be opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowPlace {
    /// The corner of the window's frame, and the size inside it, when it does not fill the screen.
    pub place: Rectangle,
    /// Whether it fills the screen.
    pub full_screen: bool,
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
    /// Whether the display tells us what the pointer does.
    has_pointer: bool,
    /// Whether the pointer is shown.
    shows_pointer: bool,
}

impl Window {
    /// Opens a window at `remembered`, as far as it is on a monitor. Without that, or if it is not, the window has 60 % of the
    /// primary monitor's width or height, in the shape of pictures of `size`, where the desktop puts it.
    ///
    /// # Errors
    /// There is no display, or it refuses the window.
    pub fn open(title: &str, size: Size, remembered: Option<WindowPlace>) -> Result<Window, WindowError> {
        // On Linux minifb is built for X11 only. On other systems minifb reports its own errors.
        let name = std::env::var("DISPLAY").unwrap_or_default();
        if cfg!(all(unix, not(target_os = "macos"))) && name.is_empty() {
            return Err(WindowError::NoDisplay);
        }
        let failed = |reason: String| WindowError::Open { display: name, reason };
        let display = DisplayConnection::connect();
        let monitors = display.as_ref().map(DisplayConnection::monitors).unwrap_or_default();
        let place = remembered.and_then(|remembered| on_a_monitor(remembered.place, &monitors));
        let (width, height) = match place {
            Some(place) => (place.width as usize, place.height as usize),
            None => initial(size, monitors.first()),
        };
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
        if let Some(place) = place {
            window.set_position(place.x as isize, place.y as isize);
        }
        let keyboard = Keyboard::default();
        let mut this = Window {
            window,
            events,
            keyboard,
            closed: false,
            display,
            has_pointer: false,
            shows_pointer: true,
        };
        // The display serves connections in any order: to ours there is no window until minifb's has been served. Asking for the
        // position waits for an answer on that one.
        this.window.get_position();
        let id = this.id();
        match &mut this.display {
            Ok(display) => {
                if let Err(error) = display.describe(id, SMALLEST) {
                    tracing::warn!(%error, "the desktop is not told about the window");
                }
                if let Err(error) = display.share_memory(id) {
                    tracing::debug!(%error, "pixels are sent to the display");
                }
                let watched = display.watch_pointer(id);
                this.has_pointer = watched.inspect_err(|error| tracing::warn!("no mouse: {error}")).is_ok();
            }
            Err(error) => tracing::warn!("no mouse and no full screen: {error}"),
        }
        if remembered.is_some_and(|remembered| remembered.full_screen)
            && let Err(error) = this.set_full_screen(true)
        {
            tracing::debug!(%error, "the window does not fill the screen again");
        }
        Ok(this)
    }

    /// The window's X11 ID.
    fn id(&self) -> u32 {
        self.window.get_window_handle() as usize as u32
    }

    /// The keys pressed since the last call, in order, however short the press. A key held down counts once, except the
    /// arrow and page keys, Backspace, those of the volume, and characters, which repeat. Closing the window gives
    /// [`Key::Close`] once.
    pub fn poll(&mut self) -> Vec<KeyPress> {
        self.window.update();
        self.keyboard.focus(self.window.is_active());
        let events: Vec<InputEvent> = self.events.try_iter().collect();
        let mut keys = self.keyboard.presses(&events);
        if !self.closed && !self.window.is_open() {
            self.closed = true;
            keys.push(Key::Close.into());
        }
        keys
    }

    /// What the pointer has done over the window since the last call, in order.
    pub fn poll_pointer(&mut self) -> Vec<PointerEvent> {
        match &mut self.display {
            Ok(display) if self.has_pointer => display.pointer_events(),
            _ => Vec::new(),
        }
    }

    /// Shows the pointer over the window, or hides it.
    pub fn show_pointer(&mut self, shown: bool) {
        if std::mem::replace(&mut self.shows_pointer, shown) != shown {
            self.window.set_cursor_visibility(shown);
        }
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
        if self.display.as_mut().is_ok_and(|display| display.show(canvas)) {
            return Ok(());
        }
        self.window
            .update_with_buffer(&canvas.pixels, canvas.width, canvas.height)
            .map_err(|error| WindowError::Show(error.to_string()))
    }

    /// Changes the title.
    pub fn set_title(&mut self, title: &str) {
        self.window.set_title(&title.replace('\0', " "));
    }

    /// Whether the window fills the screen.
    pub fn is_full_screen(&self) -> bool {
        self.display.as_ref().is_ok_and(|display| display.is_full(self.id()))
    }

    /// Requests full screen or the normal size.
    ///
    /// # Errors
    /// The display refuses; the message tells the user what else to do.
    pub fn set_full_screen(&mut self, full: bool) -> Result<(), WindowError> {
        let id = self.id();
        match &mut self.display {
            Ok(display) => display.set_full(id, full).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
        .map_err(WindowError::FullScreen)
    }

    /// Where the window is now; `None` if the display does not tell.
    pub fn place(&self) -> Option<Rectangle> {
        self.display.as_ref().ok()?.place(self.id()).ok()
    }
}

/// A new window's size: the largest in the picture's shape within 60 % of the monitor, at least [`SMALLEST`]. Without a monitor
/// it is the picture's size.
fn initial(picture: Size, monitor: Option<&Rectangle>) -> (usize, usize) {
    let side = |side: u16, least: u16| usize::from(side.max(least));
    let (width, height) = (side(picture.width, SMALLEST.0), side(picture.height, SMALLEST.1));
    let Some(monitor) = monitor else { return (width, height) };
    let most = |side: i32, least: u16| (side.max(0) as usize * 3 / 5).max(least.into());
    let (most_width, most_height) = (most(monitor.width, SMALLEST.0), most(monitor.height, SMALLEST.1));
    let within = fit(picture, most_width, most_height);
    (side(within.width as u16, SMALLEST.0), side(within.height as u16, SMALLEST.1))
}

/// A remembered place, made to fit on the monitor where most of it is; `None` if its corner is on none, as after a monitor was
/// unplugged.
fn on_a_monitor(place: Rectangle, monitors: &[Rectangle]) -> Option<Rectangle> {
    let corner = (place.x.saturating_add(place.width / 2), place.y.saturating_add(32));
    let monitor = monitors.iter().find(|monitor| monitor.contains(corner.0, corner.1))?;
    let width = place.width.clamp(SMALLEST.0.into(), monitor.width.max(SMALLEST.0.into()));
    let height = place.height.clamp(SMALLEST.1.into(), monitor.height.max(SMALLEST.1.into()));
    Some(area(place.x, place.y.max(monitor.y), width, height))
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

    /// The presses among events. minifb reports the character of a press right after its key, and the character alone if it
    /// does not know the key, as with the digits of a French keyboard, which are on the shifted level.
    fn presses(&mut self, events: &[InputEvent]) -> Vec<KeyPress> {
        let mut presses = Vec::new();
        let mut events = events.iter().copied().peekable();
        while let Some(event) = events.next() {
            let press = match event {
                InputEvent::Key(key, false) => {
                    self.down.remove(&key);
                    continue;
                }
                InputEvent::Key(key, true) => {
                    let repeated = !self.down.insert(key);
                    let text = match events.peek() {
                        Some(&InputEvent::Character(c)) => {
                            events.next();
                            Some(c)
                        }
                        _ => None,
                    };
                    self.press(Some((key, repeated)), text)
                }
                InputEvent::Character(c) => self.press(None, Some(c)),
            };
            presses.extend(press);
        }
        presses
    }

    /// The press of a key, which may be a repetition, with its character.
    fn press(&self, key: Option<(minifb::Key, bool)>, text: Option<char>) -> Option<KeyPress> {
        if self.shortcut() {
            let quit = self.control() && matches!(key, Some((minifb::Key::Q, false)));
            return quit.then_some(Key::Close.into());
        }
        let text = text.filter(|c| !c.is_control());
        // A sign may be with Shift or without, and on any key, which differs from country to country.
        let by_text = text.and_then(meaning_of);
        let by_key =
            key.and_then(|(key, repeated)| meaning(key).filter(|meaning| !repeated || repeats(*meaning)));
        let repeated = key.is_some_and(|(_, repeated)| repeated);
        let by_text = by_text.filter(|meaning| !repeated || repeats(*meaning));
        let press = KeyPress { key: by_text.or(by_key), text };
        (press.key.is_some() || press.text.is_some()).then_some(press)
    }

    fn control(&self) -> bool {
        [minifb::Key::LeftCtrl, minifb::Key::RightCtrl].iter().any(|key| self.down.contains(key))
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
    use Key::{Backspace, Down, Left, Minus, PageDown, PageUp, Plus, Right, Up};
    matches!(key, Up | Down | Left | Right | PageUp | PageDown | Backspace | Plus | Minus)
}

/// The meaning of a character, on whatever key it is.
fn meaning_of(c: char) -> Option<Key> {
    match c {
        '+' | '=' => Some(Key::Plus),
        '-' | '\u{2212}' => Some(Key::Minus),
        '?' => Some(Key::Help),
        c => c.to_digit(10).map(|digit| Key::Digit(digit as u8)),
    }
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
        K::Home => Key::Home,
        K::End => Key::End,
        K::H | K::F1 => Key::Help,
        K::NumPadPlus => Key::Plus,
        K::NumPadMinus => Key::Minus,
        K::Backspace => Key::Backspace,
        K::Space => Key::Space,
        K::Enter | K::NumPadEnter => Key::Enter,
        K::Escape => Key::Escape,
        K::I => Key::I,
        K::S => Key::S,
        K::T => Key::T,
        K::G => Key::G,
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
        keyboard.presses(events).iter().filter_map(|press| press.key).collect()
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
        // A digit of which only the character is reported.
        assert_eq!(press(&mut keyboard, &[Character('7'), Character('x')]), [Key::Digit(7)]);
        // The question mark is on a different key in each country.
        let question = [K(minifb::Key::Slash, true), Character('?'), K(minifb::Key::Slash, false)];
        assert_eq!(press(&mut keyboard, &question), [Key::Help]);
    }

    #[test]
    fn a_press_has_its_character() {
        use InputEvent::{Character, Key as K};
        let mut keyboard = Keyboard::default();
        let presses = keyboard.presses(&[K(minifb::Key::L, true), Character('l'), Character('é')]);
        let of = |key, text| KeyPress { key, text: Some(text) };
        assert_eq!(presses, [of(Some(Key::L), 'l'), of(None, 'é')]);
        // While it is held down, the letter repeats, and the command does not.
        assert_eq!(keyboard.presses(&[K(minifb::Key::L, true), Character('l')]), [of(None, 'l')]);
        let escape = keyboard.presses(&[K(minifb::Key::Escape, true), Character('\u{1b}')]);
        assert_eq!(escape, [Key::Escape.into()]);
    }

    #[test]
    fn shortcuts_of_the_desktop_are_ignored_but_for_control_q() {
        use InputEvent::{Character, Key as K};
        let (control, alt, q) = (minifb::Key::LeftCtrl, minifb::Key::LeftAlt, minifb::Key::Q);
        let mut keyboard = Keyboard::default();
        keyboard.focus(true);
        assert_eq!(press(&mut keyboard, &[K(alt, true), K(q, true), Character('3')]), []);
        // The release went to another window.
        keyboard.focus(false);
        keyboard.focus(true);
        assert_eq!(press(&mut keyboard, &[K(q, true), K(q, false)]), [Key::Q]);
        let quit = [K(control, true), K(minifb::Key::S, true), K(q, true), Character('\u{11}')];
        assert_eq!(press(&mut keyboard, &quit), [Key::Close]);
    }

    #[test]
    fn a_new_window_has_60_percent_of_its_monitor_in_the_shape_of_the_picture() {
        let size = |width, height| Size { width, height };
        let monitor = |width, height| area(0, 0, width, height);
        let on = |picture, monitor: Rectangle| initial(picture, Some(&monitor));
        assert_eq!(on(size(640, 360), monitor(1920, 1080)), (1152, 648));
        assert_eq!(on(size(1920, 1080), monitor(3840, 2160)), (2304, 1296));
        assert_eq!(on(size(1088, 1920), monitor(1280, 800)), (272, 480));
        assert_eq!(on(size(16, 2040), monitor(1280, 800)), (160, 480));
        assert_eq!(initial(size(16, 16), None), (160, 96));
    }

    #[test]
    fn a_remembered_place_is_used_as_long_as_its_monitor_is_there() {
        let (left, right) = (area(0, 0, 1280, 800), area(1280, 0, 1920, 1080));
        let place = area(1400, 100, 1600, 900);
        assert_eq!(on_a_monitor(place, &[left, right]), Some(place));
        assert_eq!(on_a_monitor(place, &[left]), None);
        assert_eq!(on_a_monitor(area(10, -20, 5000, 9), &[left, right]), Some(area(10, 0, 1920, 96)));
        assert_eq!(on_a_monitor(area(10, -20, 1300, 9), &[left, right]), Some(area(10, 0, 1280, 96)));
        assert_eq!(on_a_monitor(area(i32::MAX, i32::MIN, i32::MAX, 9), &[left, right]), None);
        assert_eq!(on_a_monitor(place, &[]), None);
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
