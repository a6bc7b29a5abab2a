//! The icon of the window, the same as the web page's (`src/web/page/icon.svg`): colour bars on night blue.

use crate::paint::{Canvas, Colour, area};

/// Sides of the icon in pixels, for lists of windows, panels and switchers.
const SIDES: [usize; 4] = [16, 32, 64, 128];

const GROUND: Colour = 0x14_1d29;

/// The bars, from left to right.
const BARS: [Colour; 7] = [0xb8_bcc0, 0xb0_a850, 0x58_a0a8, 0x56_9c5c, 0xa0_5c9c, 0xa4_5450, 0x4c_5ca4];

/// The icon in all sizes, as `_NET_WM_ICON` has it (EWMH 1.5): width, height, then the pixels as 0xAARRGGBB.
pub(super) fn for_desktops() -> Vec<u32> {
    let icon = |side: usize| {
        let size = [side as u32, side as u32];
        size.into_iter().chain(paint(side))
    };
    SIDES.into_iter().flat_map(icon).collect()
}

fn paint(side: usize) -> Vec<u32> {
    let at = |parts: usize| (side * parts / 320) as i32;
    let whole = area(0, 0, side as i32, side as i32);
    // White on black, the rounded square is its own opacity.
    let mut shape = Canvas::new(side, side);
    shape.panel(whole, at(70), 0xff_ffff, 255);
    let mut canvas = Canvas::new(side, side);
    canvas.fill(whole, GROUND);
    for (n, colour) in BARS.into_iter().enumerate() {
        let (left, right) = (at(50 + 220 * n / 7), at(50 + 220 * (n + 1) / 7));
        canvas.fill(area(left, at(80), right - left, at(160)), colour);
    }
    let opaque = shape.pixels.iter().map(|pixel| pixel << 24);
    opaque.zip(&canvas.pixels).map(|(alpha, pixel)| alpha | pixel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_icon_has_its_sizes_round_corners_and_bars() {
        let icon = for_desktops();
        assert_eq!(icon.len(), SIDES.iter().map(|side| 2 + side * side).sum::<usize>());
        assert_eq!(icon[..2], [16, 16]);
        let large = paint(128);
        assert_eq!((large[0] >> 24, large[64 * 128] >> 24), (0, 255), "round corners, straight edges");
        assert_eq!((large[64 * 128 + 24], large[64 * 128 + 2]), (0xffb8_bcc0, 0xff14_1d29));
    }
}
