//! X11 functions that minifb lacks: full screen, a smallest size, the size of the screen. They use a connection of our
//! own, which X11 allows for any window whose ID is known (EWMH 1.5, "_NET_WM_STATE": "a client … must send a
//! ClientMessage event to the root window"). x11rb speaks the protocol in safe Rust, without another C library.

use x11rb::connection::Connection;
use x11rb::errors::{ConnectError, ReplyError};
use x11rb::properties::WmSizeHints;
use x11rb::protocol::xproto::{
    AtomEnum, ClientMessageEvent, ConfigureWindowAux, ConnectionExt, EventMask, PropMode, StackMode,
};
use x11rb::rust_connection::RustConnection;
use x11rb::wrapper::ConnectionExt as _;

x11rb::atom_manager! {
    Atoms: AtomsCookie {
        _NET_SUPPORTED,
        _NET_SUPPORTING_WM_CHECK,
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
    /// The window's position and size before it filled the screen, if there is no window manager.
    before: Option<(i32, i32, u32, u32)>,
}

impl DisplayConnection {
    /// Connects to the display in `DISPLAY`.
    pub(super) fn connect() -> Result<DisplayConnection, DisplayError> {
        let (x, screen) = x11rb::connect(None)?;
        let screen = &x.setup().roots[screen];
        let (root, size) = (screen.root, (screen.width_in_pixels, screen.height_in_pixels));
        let atoms = Atoms::new(&x)?.reply()?;
        Ok(DisplayConnection { x, root, screen: size, atoms, before: None })
    }

    /// Width and height of the screen, in pixels.
    pub(super) fn screen(&self) -> (u16, u16) {
        self.screen
    }

    /// Sets the window's class and smallest size, for window managers.
    pub(super) fn describe(&self, window: u32, smallest: (u16, u16)) -> Result<(), DisplayError> {
        let smallest = (i32::from(smallest.0), i32::from(smallest.1));
        let hints = WmSizeHints { min_size: Some(smallest), ..WmSizeHints::default() };
        hints.set_normal_hints(&self.x, window)?.check()?;
        let class = b"stationcast\0stationcast\0";
        let (property, kind) = (AtomEnum::WM_CLASS, AtomEnum::STRING);
        self.x.change_property8(PropMode::REPLACE, window, property, kind, class)?.check()?;
        Ok(())
    }

    /// Requests full screen or the normal size. Returns whether full screen was requested.
    pub(super) fn toggle_full(&mut self, window: u32) -> Result<bool, DisplayError> {
        if self.managed()? { self.ask_manager(window) } else { self.fill_screen(window) }
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

    fn ask_manager(&self, window: u32) -> Result<bool, DisplayError> {
        let atoms = &self.atoms;
        let state = self.property(window, atoms._NET_WM_STATE, AtomEnum::ATOM.into())?;
        let full = !state.contains(&atoms._NET_WM_STATE_FULLSCREEN);
        // 1 adds the state, 0 removes it; the last 1 means that an application requests it.
        let data = [u32::from(full), atoms._NET_WM_STATE_FULLSCREEN, 0, 1, 0];
        let event = ClientMessageEvent::new(32, window, atoms._NET_WM_STATE, data);
        let to = EventMask::SUBSTRUCTURE_REDIRECT | EventMask::SUBSTRUCTURE_NOTIFY;
        self.x.send_event(false, self.root, to, event)?.check()?;
        Ok(full)
    }

    /// Without a window manager (a bare X server behind a wall screen) the window can resize itself.
    fn fill_screen(&mut self, window: u32) -> Result<bool, DisplayError> {
        let place = match self.before.take() {
            Some(place) => place,
            None => {
                let now = self.x.get_geometry(window)?.reply()?;
                self.before = Some((now.x.into(), now.y.into(), now.width.into(), now.height.into()));
                (0, 0, self.screen.0.into(), self.screen.1.into())
            }
        };
        let (x, y, width, height) = place;
        let changes = ConfigureWindowAux::new().x(x).y(y).width(width).height(height);
        self.x.configure_window(window, &changes.stack_mode(StackMode::ABOVE))?.check()?;
        Ok(self.before.is_some())
    }
}
