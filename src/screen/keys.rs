//! The remote control: keys become commands, digits become station numbers. Time is an argument, counted from any fixed
//! moment.

use std::time::Duration;

use crate::media::StationId;

/// How long a number waits for another digit. A longer wait feels broken, a shorter one outruns slow fingers:
/// television sets wait one to three seconds, and Enter ends the wait here.
pub const DIGIT_WAIT: Duration = Duration::from_millis(1200);

/// Most digits of a station number.
const MOST_DIGITS: usize = 3;

/// A key that the viewer knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    /// A digit, 0..=9, on the main keyboard or the keypad.
    Digit(u8),
    /// Arrow up.
    Up,
    /// Arrow down.
    Down,
    /// Arrow left.
    Left,
    /// Arrow right.
    Right,
    /// Page up.
    PageUp,
    /// Page down.
    PageDown,
    /// Home.
    Home,
    /// End.
    End,
    /// Backspace.
    Backspace,
    /// The space bar.
    Space,
    /// Enter, on the main keyboard or the keypad.
    Enter,
    /// Escape.
    Escape,
    /// `i`.
    I,
    /// `s`.
    S,
    /// `t`.
    T,
    /// `g`.
    G,
    /// `f`.
    F,
    /// `l`.
    L,
    /// `m`.
    M,
    /// `+`, and `=`, which is the same key without Shift on many keyboards.
    Plus,
    /// `-`.
    Minus,
    /// `?`, `h` or F1.
    Help,
    /// `q`, unless a name is typed.
    Q,
    /// The window was closed, or Ctrl-Q was pressed.
    Close,
}

/// A press of a key: its meaning for the viewer, if it has one, and the character that it types, if it types one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPress {
    /// The meaning.
    pub key: Option<Key>,
    /// The character.
    pub text: Option<char>,
}

impl From<Key> for KeyPress {
    fn from(key: Key) -> KeyPress {
        KeyPress { key: Some(key), text: None }
    }
}

/// A request of the user to the viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewerCommand {
    /// Show this station, which may not exist.
    Station(StationId),
    /// The next station of the line-up.
    Next,
    /// The station before it.
    Previous,
    /// The station watched before this one.
    Last,
    /// Pause, or continue with the live picture.
    PauseToggle,
    /// Show or hide the information.
    Info,
    /// Save the picture.
    Save,
    /// Toggle full screen.
    FullScreen,
    /// Show or hide the guide.
    Guide,
    /// Move the guide's cursor by so many films, back if negative; it stops at both ends.
    Films(i32),
    /// Move the guide's cursor to what is on.
    Now,
    /// Show all stations, or the chosen one alone.
    Mosaic,
    /// In a mosaic, choose the station so many tiles to the right and so many further down, to the left and up if negative; that at
    /// the edge, if there is none.
    Tile {
        /// Tiles to the right.
        across: i32,
        /// Tiles down.
        down: i32,
    },
    /// Show or hide the line-up.
    List,
    /// Show or hide what the keys do.
    Keys,
    /// Close the panel; if there is none, leave full screen; otherwise nothing.
    Leave,
    /// Move the cursor of the line-up or of the guide by this many rows, up if negative; it stops at both ends.
    Cursor(i32),
    /// Add a character to the name that is searched for in the line-up.
    Find(char),
    /// Remove the last character of that name.
    Unfind,
    /// Watch the station under the cursor of the line-up or of the guide, or of a mosaic the chosen one alone.
    Choose,
    /// Mute the sound, or end that.
    MuteToggle,
    /// The volume by this many steps, softer if negative.
    Volume(i32),
    /// Quit.
    Quit,
}

/// The target of the arrow keys, page keys, Enter and Escape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The picture.
    Watching,
    /// A mosaic.
    Tiles,
    /// The guide, which lies over the picture.
    Guide,
    /// The line-up, which lies over the picture.
    Listing {
        /// Whether a name is searched for.
        searching: bool,
    },
}

/// Rows that page up and page down move in the line-up.
const PAGE: i32 = 8;

/// Translates keys into commands. Holds the number being typed.
#[derive(Debug, Default)]
pub struct Remote {
    number: NumberEntry,
}

impl Remote {
    /// A remote control with no number typed.
    pub fn new() -> Remote {
        Remote::default()
    }

    /// The command that a key press completes, if any. `ids` are the numbers of the line-up.
    pub fn press(
        &mut self,
        now: Duration,
        press: KeyPress,
        mode: Mode,
        ids: &[StationId],
    ) -> Option<ViewerCommand> {
        if let Some(c) = press.text.filter(|c| belongs_to_name(*c, mode)) {
            self.number.clear();
            return Some(ViewerCommand::Find(c));
        }
        let typing = self.number.typing();
        let listing = matches!(mode, Mode::Listing { .. });
        let tiles = mode == Mode::Tiles;
        let guide = mode == Mode::Guide;
        let tile = |across, down| ViewerCommand::Tile { across, down };
        let command = match press.key? {
            Key::Digit(digit) => return self.number.digit(now, digit, ids).map(ViewerCommand::Station),
            Key::Enter if typing => return self.number.enter().map(ViewerCommand::Station),
            Key::Backspace if typing => {
                self.number.erase(now);
                return None;
            }
            Key::Escape if typing => {
                self.number.clear();
                return None;
            }
            Key::Left if guide => ViewerCommand::Films(-1),
            Key::Right if guide => ViewerCommand::Films(1),
            Key::Home if guide => ViewerCommand::Now,
            Key::Up if listing || guide => ViewerCommand::Cursor(-1),
            Key::Down if listing || guide => ViewerCommand::Cursor(1),
            Key::PageUp if listing || guide => ViewerCommand::Cursor(-PAGE),
            Key::PageDown if listing || guide => ViewerCommand::Cursor(PAGE),
            Key::Home if listing => ViewerCommand::Cursor(i32::MIN),
            Key::End if listing => ViewerCommand::Cursor(i32::MAX),
            Key::Enter if listing || tiles || guide => ViewerCommand::Choose,
            Key::Up if tiles => tile(0, -1),
            Key::Down if tiles => tile(0, 1),
            Key::Left if tiles => tile(-1, 0),
            Key::Right if tiles => tile(1, 0),
            Key::Home if tiles => tile(i32::MIN, 0),
            Key::End if tiles => tile(i32::MAX, 0),
            Key::Backspace if mode == (Mode::Listing { searching: true }) => ViewerCommand::Unfind,
            Key::Up | Key::Right | Key::PageUp => ViewerCommand::Next,
            Key::Down | Key::Left | Key::PageDown => ViewerCommand::Previous,
            Key::Backspace => ViewerCommand::Last,
            Key::Space => ViewerCommand::PauseToggle,
            Key::I => ViewerCommand::Info,
            Key::S => ViewerCommand::Save,
            Key::F => ViewerCommand::FullScreen,
            Key::T => ViewerCommand::Mosaic,
            Key::G => ViewerCommand::Guide,
            Key::L => ViewerCommand::List,
            Key::M => ViewerCommand::MuteToggle,
            Key::Plus => ViewerCommand::Volume(1),
            Key::Minus => ViewerCommand::Volume(-1),
            Key::Help => ViewerCommand::Keys,
            Key::Escape => ViewerCommand::Leave,
            Key::Enter | Key::Home | Key::End => return None,
            Key::Q | Key::Close => ViewerCommand::Quit,
        };
        // Any other command discards the number.
        self.number.clear();
        Some(command)
    }

    /// The command of a number that has waited long enough for another digit.
    pub fn poll(&mut self, now: Duration) -> Option<ViewerCommand> {
        self.number.poll(now).map(ViewerCommand::Station)
    }

    /// The number being typed, as it is shown: "1_".
    pub fn shown(&self) -> Option<String> {
        self.number.shown()
    }
}

/// Whether a character is typed as a part of a name: in the line-up, a letter, and after the first one any character.
fn belongs_to_name(c: char, mode: Mode) -> bool {
    match mode {
        Mode::Watching | Mode::Tiles | Mode::Guide => false,
        Mode::Listing { searching: false } => c.is_alphabetic(),
        Mode::Listing { searching: true } => !c.is_control(),
    }
}

/// A station number that is typed digit by digit.
#[derive(Debug, Default)]
pub struct NumberEntry {
    digits: String,
    due: Option<Duration>,
    /// Whether the number was returned already, and is kept for a digit that belongs to it all the same.
    returned: bool,
}

impl NumberEntry {
    /// Adds a digit, 0..=9. Returns the station if the number is complete: it has as many digits as the largest of `ids`, or
    /// no longer number of `ids` begins with it. In the second case, and if there is no such station, a second digit that follows
    /// within [`DIGIT_WAIT`] is added too: in a line-up of 12, a 9 is station 9, and 99 is station 99, which does not exist, and
    /// not station 9 twice.
    pub fn digit(&mut self, now: Duration, digit: u8, ids: &[StationId]) -> Option<StationId> {
        if self.returned && self.due.is_none_or(|due| now >= due) {
            self.clear();
        }
        self.returned = false;
        self.digits.push(char::from(b'0' + digit.min(9)));
        self.due = Some(now + DIGIT_WAIT);
        if self.goes_on(ids) {
            return None;
        }
        let id = StationId(self.value());
        let most = if ids.contains(&id) { longest(ids) } else { longest(ids).max(2) };
        self.returned = self.digits.len() < most;
        if !self.returned {
            self.clear();
        }
        Some(id)
    }

    /// Whether more digits could still lead to a number of `ids`. Some people type 02 for 2, so leading zeros count as
    /// digits, up to the length of the largest number.
    fn goes_on(&self, ids: &[StationId]) -> bool {
        let typed = self.value();
        (self.digits.len() + 1..=longest(ids)).any(|length| {
            let factor = 10u16.pow((length - self.digits.len()) as u32);
            ids.iter().any(|id| id.0 / factor == typed)
        })
    }

    fn value(&self) -> u16 {
        self.digits.bytes().fold(0, |value, digit| value * 10 + u16::from(digit - b'0'))
    }

    /// The number typed, if it has waited for another digit for [`DIGIT_WAIT`].
    pub fn poll(&mut self, now: Duration) -> Option<StationId> {
        if self.due.is_none_or(|due| now < due) {
            return None;
        }
        if self.typing() {
            return self.enter();
        }
        self.clear();
        None
    }

    /// The number typed, at once.
    pub fn enter(&mut self) -> Option<StationId> {
        let id = self.typing().then(|| StationId(self.value()));
        self.clear();
        id
    }

    /// Removes the last digit; the rest waits again.
    pub fn erase(&mut self, now: Duration) {
        self.digits.pop();
        self.due = self.typing().then_some(now + DIGIT_WAIT);
    }

    /// Discards the number.
    pub fn clear(&mut self) {
        self.digits.clear();
        self.due = None;
        self.returned = false;
    }

    /// Whether a number is being typed.
    pub fn typing(&self) -> bool {
        !self.digits.is_empty() && !self.returned
    }

    /// The number being typed, as it is shown: "1_".
    pub fn shown(&self) -> Option<String> {
        self.typing().then(|| format!("{}_", self.digits))
    }
}

/// Digits of the largest number, at most [`MOST_DIGITS`].
fn longest(ids: &[StationId]) -> usize {
    ids.iter().max().map_or(0, |id| id.to_string().len()).min(MOST_DIGITS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(ids: impl IntoIterator<Item = u16>) -> Vec<StationId> {
        ids.into_iter().map(StationId).collect()
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_number_is_complete_as_soon_as_no_longer_one_begins_with_it() {
        for (lineup, typed, when_final) in [
            (ids(1..=3), "2", 1),
            (ids(1..=3), "7", 1),
            (ids(1..=20), "3", 1),
            (ids(1..=20), "12", 2),
            (ids(1..=20), "27", 2),
            (ids(1..=20), "02", 2),
            (ids([1, 105]), "105", 3),
            (ids([1, 105]), "12", 2),
            (ids([1, 105]), "002", 3),
            (ids(1..=999), "999", 3),
            (ids([]), "5", 1),
        ] {
            let mut entry = NumberEntry::default();
            let answers: Vec<_> =
                typed.bytes().map(|digit| entry.digit(ms(0), digit - b'0', &lineup)).collect();
            let first = answers.iter().position(Option::is_some).map(|at| at + 1);
            assert_eq!(first, Some(when_final), "{typed} of {lineup:?}");
            if when_final == typed.len() {
                let id = typed.parse().ok().map(StationId);
                assert_eq!((answers[when_final - 1], entry.shown()), (id, None));
            }
        }
    }

    #[test]
    fn a_waiting_number_is_shown_and_completes_after_the_wait() {
        let lineup = ids(1..=20);
        let mut entry = NumberEntry::default();
        assert_eq!(entry.digit(ms(100), 1, &lineup), None);
        assert_eq!(entry.shown().as_deref(), Some("1_"));
        assert_eq!(entry.poll(ms(1299)), None);
        assert_eq!(entry.poll(ms(1300)), Some(StationId(1)));
        assert_eq!((entry.poll(ms(9999)), entry.shown()), (None, None));
    }

    #[test]
    fn enter_ends_the_wait_and_backspace_erases() {
        let lineup = ids(1..=20);
        let mut remote = Remote::new();
        let mut press = |at, key: Key| remote.press(ms(at), key.into(), Mode::Watching, &lineup);
        assert_eq!(press(0, Key::Digit(1)), None);
        assert_eq!(press(1, Key::Enter), Some(ViewerCommand::Station(StationId(1))));
        assert_eq!(press(2, Key::Enter), None);
        assert_eq!(press(3, Key::Digit(1)), None);
        assert_eq!(press(4, Key::Backspace), None);
        assert_eq!(press(5, Key::Backspace), Some(ViewerCommand::Last));
        assert_eq!(press(6, Key::Digit(1)), None);
        assert_eq!(press(7, Key::Escape), None);
        assert_eq!(press(8, Key::Escape), Some(ViewerCommand::Leave));
        assert_eq!(press(9, Key::Digit(1)), None);
        assert_eq!(press(10, Key::Up), Some(ViewerCommand::Next));
        assert_eq!(remote.poll(ms(9999)), None);
    }

    #[test]
    fn the_arrows_move_the_cursor_while_the_line_up_is_shown() {
        let press = |mode, key: Key| Remote::new().press(ms(0), key.into(), mode, &[]);
        let list = Mode::Listing { searching: false };
        for (key, watching, listing) in [
            (Key::Up, Some(ViewerCommand::Next), Some(ViewerCommand::Cursor(-1))),
            (Key::PageDown, Some(ViewerCommand::Previous), Some(ViewerCommand::Cursor(PAGE))),
            (Key::Enter, None, Some(ViewerCommand::Choose)),
            (Key::Escape, Some(ViewerCommand::Leave), Some(ViewerCommand::Leave)),
            (Key::Home, None, Some(ViewerCommand::Cursor(i32::MIN))),
            (Key::End, None, Some(ViewerCommand::Cursor(i32::MAX))),
            (Key::Help, Some(ViewerCommand::Keys), Some(ViewerCommand::Keys)),
            (Key::Q, Some(ViewerCommand::Quit), Some(ViewerCommand::Quit)),
            (Key::Close, Some(ViewerCommand::Quit), Some(ViewerCommand::Quit)),
            (Key::S, Some(ViewerCommand::Save), Some(ViewerCommand::Save)),
            (Key::M, Some(ViewerCommand::MuteToggle), Some(ViewerCommand::MuteToggle)),
            (Key::Minus, Some(ViewerCommand::Volume(-1)), Some(ViewerCommand::Volume(-1))),
        ] {
            assert_eq!(press(Mode::Watching, key), watching, "{key:?}");
            assert_eq!(press(list, key), listing, "{key:?}");
        }
    }

    #[test]
    fn the_arrows_choose_among_the_tiles_of_a_mosaic() {
        let press = |key: Key| Remote::new().press(ms(0), key.into(), Mode::Tiles, &ids(1..=9));
        let tile = |across, down| Some(ViewerCommand::Tile { across, down });
        for (key, command) in [
            (Key::Up, tile(0, -1)),
            (Key::Down, tile(0, 1)),
            (Key::Left, tile(-1, 0)),
            (Key::Right, tile(1, 0)),
            (Key::End, tile(i32::MAX, 0)),
            (Key::PageUp, Some(ViewerCommand::Next)),
            (Key::Digit(7), Some(ViewerCommand::Station(StationId(7)))),
            (Key::Enter, Some(ViewerCommand::Choose)),
            (Key::T, Some(ViewerCommand::Mosaic)),
            (Key::Backspace, Some(ViewerCommand::Last)),
            (Key::Escape, Some(ViewerCommand::Leave)),
        ] {
            assert_eq!(press(key), command, "{key:?}");
        }
    }

    #[test]
    fn the_arrows_move_the_cursor_of_the_guide() {
        let press = |key: Key| Remote::new().press(ms(0), key.into(), Mode::Guide, &ids(1..=9));
        for (key, command) in [
            (Key::Up, ViewerCommand::Cursor(-1)),
            (Key::PageDown, ViewerCommand::Cursor(PAGE)),
            (Key::Left, ViewerCommand::Films(-1)),
            (Key::Right, ViewerCommand::Films(1)),
            (Key::Home, ViewerCommand::Now),
            (Key::Enter, ViewerCommand::Choose),
            (Key::G, ViewerCommand::Guide),
            (Key::Escape, ViewerCommand::Leave),
            (Key::Digit(7), ViewerCommand::Station(StationId(7))),
        ] {
            assert_eq!(press(key), Some(command), "{key:?}");
        }
        assert_eq!(
            Remote::new().press(ms(0), Key::G.into(), Mode::Watching, &[]),
            Some(ViewerCommand::Guide)
        );
    }

    #[test]
    fn the_digits_of_a_number_that_is_longer_than_all_stations_belong_together() {
        let lineup = ids(1..=3);
        let mut entry = NumberEntry::default();
        let typed = [9, 9, 9].map(|digit| entry.digit(ms(0), digit, &lineup));
        assert_eq!(typed, [9, 99, 9].map(|id| Some(StationId(id))));
        entry.clear();
        // Of stations that are there, each digit is one.
        assert_eq!(
            [1, 2].map(|digit| entry.digit(ms(0), digit, &lineup)),
            [1, 2].map(|id| Some(StationId(id)))
        );
    }

    #[test]
    fn a_second_digit_belongs_to_the_number_and_not_to_another_station() {
        let lineup = ids(1..=12);
        let station = |id| Some(StationId(id));
        let mut entry = NumberEntry::default();
        assert_eq!(entry.digit(ms(0), 9, &lineup), station(9), "at once");
        assert_eq!(entry.shown(), None);
        assert_eq!(entry.digit(ms(1199), 9, &lineup), station(99));
        // The next number begins anew.
        assert_eq!(entry.digit(ms(1300), 3, &lineup), station(3));
        assert_eq!(entry.poll(ms(2500)), None);
        assert_eq!(entry.digit(ms(2501), 4, &lineup), station(4));
        // A late digit is a number of its own, even if nobody has polled.
        assert_eq!(entry.digit(ms(9000), 5, &lineup), station(5));
        // Where all numbers have one digit, each digit is a station.
        let mut entry = NumberEntry::default();
        assert_eq!([1, 2].map(|digit| entry.digit(ms(0), digit, &ids(1..=3))), [station(1), station(2)]);
    }

    #[test]
    fn letters_find_a_name_while_the_line_up_is_shown() {
        let mut remote = Remote::new();
        let l = KeyPress { key: Some(Key::L), text: Some('l') };
        let two = KeyPress { key: Some(Key::Digit(2)), text: Some('2') };
        let quit = KeyPress { key: Some(Key::Q), text: Some('q') };
        let mut press = |press, mode| remote.press(ms(0), press, mode, &ids(1..=3));
        let (list, search) = (Mode::Listing { searching: false }, Mode::Listing { searching: true });
        assert_eq!(press(l, Mode::Watching), Some(ViewerCommand::List));
        assert_eq!(press(l, list), Some(ViewerCommand::Find('l')));
        assert_eq!(press(quit, list), Some(ViewerCommand::Find('q')));
        assert_eq!(press(two, list), Some(ViewerCommand::Station(StationId(2))));
        assert_eq!(press(two, search), Some(ViewerCommand::Find('2')));
        assert_eq!(press(KeyPress { key: None, text: Some('é') }, list), Some(ViewerCommand::Find('é')));
        assert_eq!(press(KeyPress { key: None, text: Some('é') }, Mode::Watching), None);
        assert_eq!(press(Key::Backspace.into(), search), Some(ViewerCommand::Unfind));
        assert_eq!(press(Key::Backspace.into(), list), Some(ViewerCommand::Last));
    }

    proptest! {
        #[test]
        fn every_station_can_be_reached_by_typing_its_number(mut all in prop::collection::vec(1u16..=999, 1..60), pick: prop::sample::Index) {
            let want = all[pick.index(all.len())];
            all.sort_unstable();
            let lineup = ids(all);
            let mut entry = NumberEntry::default();
            let mut got = None;
            for digit in want.to_string().bytes() {
                prop_assert_eq!(got, None);
                got = entry.digit(ms(0), digit - b'0', &lineup);
            }
            prop_assert_eq!(got.or_else(|| entry.poll(DIGIT_WAIT)), Some(StationId(want)));
        }
    }
}
