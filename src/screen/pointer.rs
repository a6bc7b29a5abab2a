//! The mouse: events, and double clicks.

/// An event of the pointer over the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointerEvent {
    /// It moved.
    Moved,
    /// A button was pressed.
    Press {
        /// The button.
        button: Button,
        /// Where, in pixels from the window's upper left corner.
        at: (i32, i32),
        /// When, in milliseconds of the display's clock, which wraps.
        time: u32,
    },
    /// The wheel was turned by one step.
    Wheel {
        /// Whether away from the user.
        away: bool,
        /// Whether Control was held down.
        control: bool,
    },
}

/// A button with a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Button {
    /// The left one.
    Left,
    /// The right one.
    Right,
}

/// Longest time between the two presses of a double click, in milliseconds, as GTK and Qt have it.
const DOUBLE_MS: u32 = 400;

/// Most pixels between them, in each direction.
const DOUBLE_PIXELS: u32 = 6;

/// Tells double clicks from single ones.
#[derive(Debug, Default)]
pub struct DoubleClick {
    /// Time and place of a first press.
    first: Option<(u32, (i32, i32))>,
}

impl DoubleClick {
    /// Takes a press of the left button. Returns whether it is the second one of a double click.
    pub fn press(&mut self, time: u32, at: (i32, i32)) -> bool {
        let near = |one: i32, two: i32| one.abs_diff(two) <= DOUBLE_PIXELS;
        let double = self.first.take_if(|(then, place)| {
            time.wrapping_sub(*then) <= DOUBLE_MS && near(place.0, at.0) && near(place.1, at.1)
        });
        if double.is_none() {
            self.first = Some((time, at));
        }
        double.is_some()
    }

    /// The last press had a meaning of its own.
    pub fn forget(&mut self) {
        self.first = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_presses_that_are_close_in_time_and_place_are_a_double_click() {
        let mut clicks = DoubleClick::default();
        let mut press = |time: u32, x: i32| clicks.press(time, (x, 50));
        assert_eq!([press(1000, 10), press(1400, 16)], [false, true]);
        assert!(!press(1500, 16), "the third press begins anew");
        assert_eq!([press(2000, 10), press(2401, 10), press(2500, 17)], [false; 3]);
        // The clock wraps after 49 days.
        assert_eq!([press(u32::MAX - 9, 0), press(200, 0)], [false, true]);
        assert!(!press(5000, 0));
        clicks.forget();
        assert!(!clicks.press(5100, (0, 50)));
    }
}
