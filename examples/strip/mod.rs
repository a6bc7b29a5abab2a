//! The picture-number strip: the numbers of picture and station along the bottom of the picture, which a program can read back
//! after resizing, JPEG and a network.
//!
//! ```text
//!   cell   0 1 2 3 4   5 .. 10   11 .. 26   27 .. 34   35 .. 39
//!          1 0 1 1 0   station   picture    CRC-8      0 1 0 0 1
//!          sync        6 bits    16 bits    8 bits     sync
//! ```
//!
//! A lit cell is white, the others are black, numbers go most significant bit first. Forty cells share
//! the full width equally, so that they are found by fraction of the width at any size; at 640 pixels a
//! cell is one 16-pixel macroblock, so no edge is inside a block. The two sync words are not mirror images of
//! each other: a flipped, inverted or shifted strip is refused.
//!
//! The demo clips carry it, and the tests that compare what was sent with what was shown read it.

// Each program that includes this file uses a part of it: the renderer writes strips, the tests read them.
#![allow(dead_code)]

use std::ops::Range;

/// Cells in a strip.
pub(crate) const CELLS: usize = 40;

const STATION_BITS: usize = 6;
const PICTURE_BITS: usize = 16;
const CRC_BITS: usize = 8;

/// The least difference of luma, of 255, between black and white. With less there is no strip.
const MIN_CONTRAST: u32 = 64;

const SYNC_LEFT: [bool; 5] = [true, false, true, true, false];
const SYNC_RIGHT: [bool; 5] = [false, true, false, false, true];

/// The cells of `picture` of `station`, from left to right.
///
/// # Panics
///
/// When `station` does not fit 6 bits.
pub(crate) fn cells(station: u8, picture: u16) -> [bool; CELLS] {
    assert!(station < 1 << STATION_BITS, "station {station} does not fit the strip's 6 bits");
    let payload = u32::from(station) << PICTURE_BITS | u32::from(picture);
    let word = payload << CRC_BITS | u32::from(crc8(payload));

    let mut cells = [false; CELLS];
    let (left, rest) = cells.split_at_mut(SYNC_LEFT.len());
    let (data, right) = rest.split_at_mut(STATION_BITS + PICTURE_BITS + CRC_BITS);
    left.copy_from_slice(&SYNC_LEFT);
    right.copy_from_slice(&SYNC_RIGHT);
    for (cell, shift) in data.iter_mut().zip((0..30).rev()) {
        *cell = word >> shift & 1 == 1;
    }
    cells
}

/// The rows that a strip takes in a picture of this height: the lowest 2/45, 16 rows of 360.
pub(crate) fn rows(height: usize) -> Range<usize> {
    height * 43 / 45..height
}

/// The columns that one cell takes in a picture of this width.
pub(crate) fn columns(cell: usize, width: usize) -> Range<usize> {
    width * cell / CELLS..width * (cell + 1) / CELLS
}

/// Reads the strip of a luma plane whose rows begin `stride` bytes apart: the station and the
/// number of the picture. `None` when there is no strip, or when it is damaged: sync words, contrast,
/// a cell that is neither black nor white, checksum.
pub(crate) fn read(luma: &[u8], width: usize, height: usize, stride: usize) -> Option<(u8, u16)> {
    // The middle half of a cell is averaged: below 160 x 90 that would be less than a pixel.
    if width < 4 * CELLS || height < 90 || stride < width || luma.len() < stride * (height - 1) + width {
        return None;
    }
    let means: [u32; CELLS] = std::array::from_fn(|cell| {
        let rows = height * 87 / 90..height * 89 / 90;
        let columns = width * (4 * cell + 1) / (4 * CELLS)..width * (4 * cell + 3) / (4 * CELLS);
        let count = (rows.len() * columns.len()) as u32;
        let sum: u32 = rows.flat_map(|y| &luma[y * stride..][columns.clone()]).map(|&v| u32::from(v)).sum();
        sum / count
    });

    // Black and white are taken from the sync cells, the worst of each.
    let (left, rest) = means.split_at(SYNC_LEFT.len());
    let (data, right) = rest.split_at(STATION_BITS + PICTURE_BITS + CRC_BITS);
    let sync = || left.iter().zip(&SYNC_LEFT).chain(right.iter().zip(&SYNC_RIGHT));
    let white = *sync().filter(|(_, lit)| **lit).map(|(mean, _)| mean).min()?;
    let black = *sync().filter(|(_, lit)| !**lit).map(|(mean, _)| mean).max()?;
    let contrast = white.checked_sub(black).filter(|c| *c >= MIN_CONTRAST)?;

    // The grey quarter between them is neither: a mixture of two pictures ends up there.
    let mut word = 0_u32;
    for &mean in data {
        let lit = mean > black + contrast * 5 / 8;
        if !lit && mean >= black + contrast * 3 / 8 {
            return None;
        }
        word = word << 1 | u32::from(lit);
    }
    let payload = word >> CRC_BITS;
    (crc8(payload) == word as u8).then_some(((payload >> PICTURE_BITS) as u8, payload as u16))
}

/// CRC-8 (polynomial x^8 + x^2 + x + 1, started at all ones) of the 22 bits of station and picture. Up to
/// three wrong cells are always noticed.
fn crc8(payload: u32) -> u8 {
    (0..STATION_BITS + PICTURE_BITS).rev().fold(0xff, |crc: u8, shift| {
        let top = crc >> 7 ^ (payload >> shift & 1) as u8;
        (crc << 1) ^ (top * 0x07)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mid-grey picture with these cells at its bottom.
    fn paint(cells: &[bool; CELLS], width: usize, height: usize) -> Vec<u8> {
        let mut luma = vec![128; width * height];
        for y in rows(height) {
            for (cell, &lit) in cells.iter().enumerate() {
                luma[y * width..][columns(cell, width)].fill(if lit { 235 } else { 16 });
            }
        }
        luma
    }

    /// Bilinear resizing with blurred edges, then noise: worse than a JPEG of quality 20.
    fn resize_and_spoil(luma: &[u8], from: (usize, usize), to: (usize, usize)) -> Vec<u8> {
        let mut seed = 0x2545_f491_u32;
        let at = |x: usize, y: usize| f32::from(luma[y.min(from.1 - 1) * from.0 + x.min(from.0 - 1)]);
        let mut out = Vec::with_capacity(to.0 * to.1);
        for y in 0..to.1 {
            for x in 0..to.0 {
                let fx = (x as f32 + 0.5) * from.0 as f32 / to.0 as f32 - 0.5;
                let fy = (y as f32 + 0.5) * from.1 as f32 / to.1 as f32 - 0.5;
                let (x0, y0) = (fx.max(0.0) as usize, fy.max(0.0) as usize);
                let (tx, ty) = (fx.max(0.0).fract(), fy.max(0.0).fract());
                let top = at(x0, y0) * (1.0 - tx) + at(x0 + 1, y0) * tx;
                let low = at(x0, y0 + 1) * (1.0 - tx) + at(x0 + 1, y0 + 1) * tx;
                seed ^= seed << 13;
                seed ^= seed >> 17;
                seed ^= seed << 5;
                let noise = (seed % 81) as f32 - 40.0;
                out.push((top * (1.0 - ty) + low * ty + noise).clamp(0.0, 255.0) as u8);
            }
        }
        out
    }

    #[test]
    fn a_strip_is_read_back() {
        for (station, picture) in [(0, 0), (1, 0), (2, 719), (3, 0x5555), (42, 0xaaaa), (63, u16::MAX)] {
            for (width, height) in [(160, 90), (320, 192), (640, 360), (640, 368), (1280, 720), (1000, 563)] {
                let luma = paint(&cells(station, picture), width, height);
                assert_eq!(read(&luma, width, height, width), Some((station, picture)), "{width}x{height}");
            }
        }
    }

    #[test]
    fn a_strip_survives_resizing_and_noise() {
        for (station, picture) in [(1, 0), (2, 719), (3, 12_345), (63, u16::MAX)] {
            let luma = paint(&cells(station, picture), 640, 360);
            for to in [(320, 176), (320, 192), (480, 272), (640, 368), (800, 448), (1280, 720)] {
                let spoilt = resize_and_spoil(&luma, (640, 360), to);
                assert_eq!(read(&spoilt, to.0, to.1, to.0), Some((station, picture)), "{to:?}");
            }
        }
    }

    #[test]
    fn every_single_wrong_cell_is_refused() {
        for (station, picture) in [(0, 0), (1, 1), (2, 719), (63, u16::MAX)] {
            for wrong in 0..CELLS {
                let mut cells = cells(station, picture);
                cells[wrong] = !cells[wrong];
                assert_eq!(read(&paint(&cells, 640, 360), 640, 360, 640), None, "cell {wrong}");
            }
        }
    }

    #[test]
    fn a_picture_without_a_strip_has_no_number() {
        for level in [0, 16, 128, 255] {
            assert_eq!(read(&vec![level; 640 * 360], 640, 360, 640), None, "all {level}");
        }
        let good = cells(2, 719);
        let mut mirrored = good;
        mirrored.reverse();
        let mut shifted = good;
        shifted.rotate_right(1);
        for cells in [mirrored, shifted, good.map(|lit| !lit)] {
            assert_eq!(read(&paint(&cells, 640, 360), 640, 360, 640), None);
        }
    }

    #[test]
    fn a_mixture_of_two_pictures_has_no_number() {
        let (one, two) = (paint(&cells(1, 99), 640, 360), paint(&cells(1, 100), 640, 360));
        let mixed: Vec<u8> = one.iter().zip(&two).map(|(a, b)| a.midpoint(*b)).collect();
        assert_eq!(read(&mixed, 640, 360, 640), None);
    }

    #[test]
    fn a_plane_smaller_than_it_claims_is_refused() {
        let luma = paint(&cells(1, 2), 640, 360);
        assert_eq!(read(&luma[1..], 640, 360, 640), None);
        assert_eq!(read(&luma, 640, 360, 639), None);
        assert_eq!(read(&luma, 0, 0, 0), None);
        assert_eq!(read(&luma, 159, 360, 640), None);
    }

    #[test]
    fn rows_may_be_padded() {
        let luma = paint(&cells(1, 2), 640, 360);
        let padded: Vec<u8> = luma.chunks(640).flat_map(|row| [row, &[77; 24]].concat()).collect();
        assert_eq!(read(&padded, 640, 360, 664), Some((1, 2)));
    }
}
