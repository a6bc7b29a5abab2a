//! The colours that window, slate and web page share (`src/web/page/wall.css`, dark): night blue, amber for what needs
//! attention, and red for a station that does not come. The only other colours are the pictures'.

use super::Colour;

/// The background of panels.
pub const GLASS: Colour = 0x0d_131c;
/// Text.
pub const TEXT: Colour = 0xf1_f4f7;
/// Text of less weight: labels, states, notes.
pub const QUIET: Colour = 0xb7_c2ce;
/// Numbers of stations, the volume, and what needs attention.
pub const ACCENT: Colour = 0xf0_b45a;
/// The background of the label of a station without signal.
pub const ALARM: Colour = 0xb4_2828;
