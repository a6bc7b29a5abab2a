//! X11 functions that minifb lacks: full screen, a smallest size, the monitors, the window's description for the desktop, every
//! press of a mouse button, and pixels that need not be sent to the server. They use a connection of our own, which X11 allows
//! for any window whose ID is known (EWMH 1.5, "_NET_WM_STATE": "a client … must send a ClientMessage event to the root window").
//! x11rb speaks the protocol in safe Rust, without another C library.

use std::collections::VecDeque;
use std::io;

use x11rb::connection::Connection;
use x11rb::errors::{ConnectError, ReplyError, ReplyOrIdError};
use x11rb::properties::WmSizeHints;
use x11rb::protocol::Event;
use x11rb::protocol::randr::ConnectionExt as _;
use x11rb::protocol::shm;
use x11rb::protocol::xproto::{
    AtomEnum, ButtonPressEvent, ClientMessageEvent, ConfigureWindowAux, ConnectionExt, CreateWindowAux,
    EventMask, KeyButMask, PropMode, StackMode, WindowClass,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

use super::icon;
use super::pointer::{Button, PointerEvent};
use super::shared::SharedCanvas;
use crate::paint::{Canvas, Rectangle, area};

x11rb::atom_manager! {
    Atoms: AtomsCookie {
        _NET_SUPPORTED,
        _NET_SUPPORTING_WM_CHECK,
        _NET_FRAME_EXTENTS,
        _NET_WM_ICON,
        _NET_WM_PID,
        _NET_WM_STATE,
        _NET_WM_STATE_FULLSCREEN,
    }
}

/// Why a request to the display failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DisplayError {
    /// The second connection failed.
    #[error("no connection to the display: {0}")]
    Connect(#[from] ConnectError),
    /// The display returned an error.
    #[error("the display refused: {0}")]
    Refused(#[from] ReplyError),
    /// It has no IDs left.
    #[error("the display refused: {0}")]
    Id(#[from] ReplyOrIdError),
    /// There is no memory for the pixels.
    #[error("no memory for the pixels: {0}")]
    Memory(io::Error),
}

impl From<x11rb::errors::ConnectionError> for DisplayError {
    fn from(error: x11rb::errors::ConnectionError) -> DisplayError {
        DisplayError::Refused(error.into())
    }
}

/// Our own connection to the display.
pub(super) struct DisplayConnection {
    x: RustConnection,
    root: u32,
    screen: (u16, u16),
    atoms: Atoms,
    /// The window's place before it filled the screen, if there is no window manager.
    before: Option<Rectangle>,
    /// Events of the pointer that nobody was told of yet.
    pointer: VecDeque<PointerEvent>,
    /// Where the pixels are shown from, if the display can read our memory.
    shared: Option<SharedCanvas>,
}

impl DisplayConnection {
    /// Connects to the display in `DISPLAY`.
    pub(super) fn connect() -> Result<DisplayConnection, DisplayError> {
        let (x, screen) = x11rb::connect(None)?;
        let screen = &x.setup().roots[screen];
        let (root, size) = (screen.root, (screen.width_in_pixels, screen.height_in_pixels));
        let atoms = Atoms::new(&x)?.reply()?;
        Ok(DisplayConnection {
            x,
            root,
            screen: size,
            atoms,
            before: None,
            pointer: VecDeque::new(),
            shared: None,
        })
    }

    /// The monitors, the primary one first; if the display does not tell them, the whole screen.
    pub(super) fn monitors(&self) -> Vec<Rectangle> {
        let asked = self.x.randr_get_monitors(self.root, true).ok().and_then(|asked| asked.reply().ok());
        let mut monitors = asked.map(|reply| reply.monitors).unwrap_or_default();
        monitors.sort_by_key(|monitor| !monitor.primary);
        let place =
            |x: i16, y: i16, width: u16, height: u16| area(x.into(), y.into(), width.into(), height.into());
        let mut places: Vec<Rectangle> = monitors
            .iter()
            .filter(|monitor| monitor.width > 0 && monitor.height > 0)
            .map(|monitor| place(monitor.x, monitor.y, monitor.width, monitor.height))
            .collect();
        if places.is_empty() {
            places.push(place(0, 0, self.screen.0, self.screen.1));
        }
        places
    }

    /// Tells window managers and desktops about the window: its class, by which a desktop finds its entry, its smallest size,
    /// its process and machine, and its icon.
    pub(super) fn describe(&self, window: u32, smallest: (u16, u16)) -> Result<(), DisplayError> {
        let smallest = (i32::from(smallest.0), i32::from(smallest.1));
        let hints = WmSizeHints { min_size: Some(smallest), ..WmSizeHints::default() };
        hints.set_normal_hints(&self.x, window)?.check()?;
        let text = |property: AtomEnum, text: &[u8]| -> Result<(), DisplayError> {
            Ok(self
                .x
                .change_property8(PropMode::REPLACE, window, property, AtomEnum::STRING, text)?
                .check()?)
        };
        text(AtomEnum::WM_CLASS, b"stationcast\0stationcast\0")?;
        text(AtomEnum::WM_CLIENT_MACHINE, rustix::system::uname().nodename().to_bytes())?;
        for (property, values) in [
            (self.atoms._NET_WM_PID, vec![std::process::id()]),
            (self.atoms._NET_WM_ICON, icon::for_desktops()),
        ] {
            let kind = AtomEnum::CARDINAL;
            self.x.change_property32(PropMode::REPLACE, window, property, kind, &values)?.check()?;
        }
        Ok(())
    }

    /// From now on [`pointer_events`](Self::pointer_events) tells what the pointer does over the window.
    ///
    /// minifb reports only which buttons are down when it is asked, and so misses a short press. X11 lets one client receive the
    /// presses over a window, which is minifb; so we put an invisible window of our own over it, without output. It is
    /// larger than any screen: the part outside the window receives nothing. Keys pass it by.
    pub(super) fn watch_pointer(&self, window: u32) -> Result<(), DisplayError> {
        let over = self.x.generate_id()?;
        let mask = EventMask::BUTTON_PRESS | EventMask::POINTER_MOTION;
        let values = CreateWindowAux::new().event_mask(mask);
        let (side, class) = (i16::MAX as u16, WindowClass::INPUT_ONLY);
        self.x.create_window(0, over, window, 0, 0, side, side, 0, class, 0, &values)?.check()?;
        self.x.map_window(over)?.check()?;
        Ok(())
    }

    /// What the pointer has done since the last call, in order.
    pub(super) fn pointer_events(&mut self) -> Vec<PointerEvent> {
        // A lost connection is reported by minifb, whose connection is lost too.
        while let Ok(Some(event)) = self.x.poll_for_event() {
            self.take(event);
        }
        self.pointer.drain(..).collect()
    }

    fn take(&mut self, event: Event) {
        match (&event, &mut self.shared) {
            (Event::ShmCompletion(read), Some(shared)) => shared.has_read(read.shmseg),
            // The server will neither read those pixels nor report that it has.
            (Event::Error(error), _) if error.extension_name.as_deref() == Some(shm::X11_EXTENSION_NAME) => {
                self.give_up_sharing(error);
            }
            _ => self.pointer.extend(pointer_event(event)),
        }
    }

    /// From now on the window can be [shown](Self::show), if the display can read our memory.
    pub(super) fn share_memory(&mut self, window: u32) -> Result<(), DisplayError> {
        self.shared = SharedCanvas::new(&self.x, window)?;
        Ok(())
    }

    /// From now on minifb shows the window.
    fn give_up_sharing(&mut self, why: &dyn std::fmt::Debug) {
        tracing::debug!(?why, "pixels are sent to the display");
        if let Some(shared) = self.shared.take() {
            shared.free(&self.x);
        }
    }

    /// Shows a canvas in the window, and waits if the display is slow. Returns false if it was not shown; then minifb has to show it.
    pub(super) fn show(&mut self, canvas: &Canvas) -> bool {
        while self.shared.as_ref().is_some_and(SharedCanvas::is_busy) {
            match self.x.wait_for_event() {
                Ok(event) => self.take(event),
                Err(error) => self.give_up_sharing(&error),
            }
        }
        let shown = self.shared.as_mut().map(|shared| shared.show(&self.x, canvas));
        if let Some(Err(error)) = &shown {
            self.give_up_sharing(error);
        }
        matches!(shown, Some(Ok(())))
    }

    /// Where the window is: the corner of its frame, and the size inside it.
    pub(super) fn place(&self, window: u32) -> Result<Rectangle, DisplayError> {
        let size = self.x.get_geometry(window)?.reply()?;
        let corner = self.x.translate_coordinates(window, self.root, 0, 0)?.reply()?;
        // A window manager that is asked to move a window moves its frame there.
        let kind = AtomEnum::CARDINAL.into();
        let frame = self.property(window, self.atoms._NET_FRAME_EXTENTS, kind).unwrap_or_default();
        let edge = |n: usize| frame.get(n).map_or(0, |edge| (*edge).min(1000) as i32);
        let (x, y) = (i32::from(corner.dst_x) - edge(0), i32::from(corner.dst_y) - edge(2));
        Ok(area(x, y, size.width.into(), size.height.into()))
    }

    /// Whether the window fills the screen.
    pub(super) fn is_full(&self, window: u32) -> bool {
        let state =
            self.property(window, self.atoms._NET_WM_STATE, AtomEnum::ATOM.into()).unwrap_or_default();
        self.before.is_some() || state.contains(&self.atoms._NET_WM_STATE_FULLSCREEN)
    }

    /// Requests full screen or the normal size.
    pub(super) fn set_full(&mut self, window: u32, full: bool) -> Result<(), DisplayError> {
        if self.managed()? { self.ask_manager(window, full) } else { self.fill_screen(window, full) }
    }

    /// Whether a window manager runs that supports full screen.
    fn managed(&self) -> Result<bool, DisplayError> {
        let atoms = &self.atoms;
        // A manager's check window has the property too, naming itself; a dead manager leaves only the root's.
        let check = |window| self.property(window, atoms._NET_SUPPORTING_WM_CHECK, AtomEnum::WINDOW.into());
        let Some(&manager) = check(self.root)?.first() else { return Ok(false) };
        let alive = check(manager).is_ok_and(|check| check.first() == Some(&manager));
        let supported = self.property(self.root, atoms._NET_SUPPORTED, AtomEnum::ATOM.into())?;
        Ok(alive && supported.contains(&atoms._NET_WM_STATE_FULLSCREEN))
    }

    fn property(&self, window: u32, name: u32, kind: u32) -> Result<Vec<u32>, DisplayError> {
        let reply = self.x.get_property(false, window, name, kind, 0, 1024)?.reply()?;
        Ok(reply.value32().map(Iterator::collect).unwrap_or_default())
    }

    fn ask_manager(&self, window: u32, full: bool) -> Result<(), DisplayError> {
        let atoms = &self.atoms;
        // 1 adds the state, 0 removes it; the last 1 means that an application requests it.
        let data = [u32::from(full), atoms._NET_WM_STATE_FULLSCREEN, 0, 1, 0];
        let event = ClientMessageEvent::new(32, window, atoms._NET_WM_STATE, data);
        let to = EventMask::SUBSTRUCTURE_REDIRECT | EventMask::SUBSTRUCTURE_NOTIFY;
        self.x.send_event(false, self.root, to, event)?.check()?;
        Ok(())
    }

    /// Without a window manager (a bare X server behind a wall screen) the window can resize itself.
    fn fill_screen(&mut self, window: u32, full: bool) -> Result<(), DisplayError> {
        let place = match (full, self.before) {
            (true, None) => {
                let now = self.x.get_geometry(window)?.reply()?;
                self.before = Some(area(now.x.into(), now.y.into(), now.width.into(), now.height.into()));
                self.monitors()[0]
            }
            (false, Some(before)) => {
                self.before = None;
                before
            }
            _ => return Ok(()),
        };
        let changes = ConfigureWindowAux::new().x(place.x).y(place.y);
        let changes = changes.width(place.width as u32).height(place.height as u32);
        self.x.configure_window(window, &changes.stack_mode(StackMode::ABOVE))?.check()?;
        Ok(())
    }
}

fn pointer_event(event: Event) -> Option<PointerEvent> {
    match event {
        Event::MotionNotify(_) => Some(PointerEvent::Moved),
        Event::ButtonPress(ButtonPressEvent { detail, time, event_x, event_y, state, .. }) => {
            let (at, control) = ((event_x.into(), event_y.into()), state.contains(KeyButMask::CONTROL));
            match detail {
                1 => Some(PointerEvent::Press { button: Button::Left, at, time }),
                3 => Some(PointerEvent::Press { button: Button::Right, at, time }),
                4 => Some(PointerEvent::Wheel { away: true, control }),
                5 => Some(PointerEvent::Wheel { away: false, control }),
                _ => None,
            }
        }
        _ => None,
    }
}
