//! Station 1: a sail on the sea at sundown.

use crate::canvas::{Canvas, Point, Rgb, WIDTH, mix, rgb, scatter, smoothstep, wave};

const HORIZON: f32 = 196.0;
const SUN: Point = [430.0, 176.0];
const SUN_RADIUS: f32 = 40.0;

const CREST: Rgb = rgb(0xffe9c4);

/// Draws the scene at `turn`, the share of the film that has passed.
pub(crate) fn draw(canvas: &mut Canvas, turn: f32) {
    sky(canvas, turn);
    for row in 0..ROWS {
        if row == 4 {
            boat(canvas, turn, row);
        }
        sea(canvas, turn, row);
    }
    for bird in 0..5 {
        gull(canvas, turn, bird);
    }
}

fn sky(canvas: &mut Canvas, turn: f32) {
    const STOPS: [(f32, Rgb); 5] = [
        (0.0, rgb(0x27408b)),
        (0.40, rgb(0x7a5fa8)),
        (0.68, rgb(0xe27d86)),
        (0.88, rgb(0xffb066)),
        (1.0, rgb(0xffdf9a)),
    ];
    canvas.fill(|_, y| {
        let depth = (y / HORIZON).min(1.0);
        let upper = STOPS.iter().rposition(|(at, _)| *at <= depth).unwrap_or(0).min(STOPS.len() - 2);
        let ((from, a), (to, b)) = (STOPS[upper], STOPS[upper + 1]);
        mix(a, b, smoothstep(from, to, depth))
    });
    canvas.glow(SUN, 300.0, rgb(0xff9a4a), 0.45 + 0.03 * wave(2.0 * turn));
    canvas.disc(SUN, SUN_RADIUS, rgb(0xfff3cf), 1.0);

    // Streaks of cloud: flat ellipses with soft rims, drifting once around a band wider than the picture.
    for streak in 0..9_u32 {
        let random = |n: u32| scatter(streak * 7 + n);
        let band = WIDTH as f32 + 320.0;
        let half = [70.0 + 90.0 * random(0), 3.0 + 5.0 * random(1)];
        let x = (random(2) * band + turn * band).rem_euclid(band) - 160.0;
        let y = 62.0 + streak as f32 * 12.5;
        let colour = mix(rgb(0xf7a6a0), rgb(0xffe2b0), y / HORIZON);
        canvas.blend([x - half[0], y - half[1]], [x + half[0], y + half[1]], |px, py| {
            let d = ((px - x) / half[0]).hypot((py - y) / half[1]);
            (colour, 0.55 * smoothstep(1.0, 0.2, d))
        });
    }
}

const ROWS: u8 = 8;

/// How near a row of waves is, from 0 at the horizon to 1 at the viewer's feet.
fn nearness(row: u8) -> f32 {
    f32::from(row) / f32::from(ROWS - 1)
}

/// The y of a row of waves at `x`. Near rows have long, high and fast waves.
fn swell(turn: f32, row: u8, x: f32) -> f32 {
    let near = nearness(row);
    let rest = HORIZON + 4.0 + 128.0 * near.powf(1.35);
    let height = 0.8 + 9.0 * near;
    let length = 70.0 + 330.0 * near;
    let cycles = f32::from(3 + row / 2);
    let shift = f32::from(row) * 0.37;
    let long = wave(x / length - cycles * turn + shift);
    let cross = wave(x / (length * 0.41) + (cycles + 2.0) * turn + 2.0 * shift);
    rest - height * (0.7 * long + 0.3 * cross)
}

fn sea(canvas: &mut Canvas, turn: f32, row: u8) {
    let near = nearness(row);
    let water = mix(rgb(0xe09a78), rgb(0x0d6f8f), smoothstep(-0.15, 0.45, near));
    let water = mix(water, rgb(0x0b4a78), smoothstep(0.4, 1.0, near));
    let deep = mix(water, rgb(0x06244f), 0.30 + 0.35 * near);
    let reach = 14.0 + 60.0 * near;
    canvas.ground(
        |x| swell(turn, row, x),
        |x, _, depth| {
            let body = mix(water, deep, smoothstep(0.0, reach, depth));
            // The sun's road: glints on the crests, wider towards the viewer.
            let road = 26.0 + 70.0 * near;
            let across = (x - SUN[0]) / road;
            let sparkle = 0.5 + 0.5 * wave(x / (17.0 + 22.0 * near) + f32::from(4 + row) * turn);
            let glint = (-across * across).exp() * (0.35 + 0.65 * sparkle);
            // Between the crests it breaks into dashes that slide against each other.
            let slide = wave(x / (31.0 + 50.0 * near) - f32::from(5 + row) * turn);
            let dash = smoothstep(0.1, 0.9, wave(depth / (6.0 + 9.0 * near) + 0.45 * slide + 2.0 * turn));
            let body = mix(body, rgb(0xffa85c), (0.75 - 0.45 * near) * glint * (0.25 + 0.75 * dash));
            let crest = smoothstep(2.0 + 7.0 * near, 0.0, depth);
            mix(body, CREST, (crest * (0.16 + 0.75 * glint)).min(0.9))
        },
    );
}

/// A sailing boat that crosses the picture once in a film, on the row of waves before it.
fn boat(canvas: &mut Canvas, turn: f32, row: u8) {
    let x = (turn + 0.30).fract() * 800.0 - 80.0;
    let y = (swell(turn, row, x - 12.0) + swell(turn, row, x + 12.0)) / 2.0 + 2.0;
    let slope = (swell(turn, row, x + 20.0) - swell(turn, row, x - 20.0)) / 40.0;
    let lean = slope.atan() * 0.8 + 0.03 * wave(5.0 * turn);
    let place = |dx: f32, dy: f32| {
        let (sin, cos) = lean.sin_cos();
        [x + dx * cos - dy * sin, y + dx * sin + dy * cos]
    };
    canvas.stroke(place(0.0, -4.0), place(0.0, -74.0), [1.2, 0.8], rgb(0x4a2b24), 1.0);
    canvas.polygon(&[place(1.8, -72.0), place(34.0, -12.0), place(1.8, -10.0)], rgb(0xfff4e2), 1.0);
    canvas.polygon(&[place(-1.8, -66.0), place(-1.8, -12.0), place(-25.0, -12.0)], rgb(0xf3c9a8), 1.0);
    let hull = [place(-32.0, -7.0), place(38.0, -8.0), place(27.0, 6.0), place(-24.0, 6.0)];
    canvas.polygon(&hull, rgb(0x7b2434), 1.0);
    canvas.stroke(place(-31.0, -7.0), place(37.0, -8.0), [1.2, 1.2], rgb(0xffe9d2), 1.0);
}

/// A gull: two wings of two strokes each. It flies against the boat and glides now and then.
fn gull(canvas: &mut Canvas, turn: f32, bird: u32) {
    let random = |n: u32| scatter(100 + bird * 5 + n);
    let size = 8.0 + 7.0 * random(0);
    let band = WIDTH as f32 + 60.0;
    let x = (random(1) * band - turn * band).rem_euclid(band) - 30.0;
    let y = 70.0 + 90.0 * random(2) + 9.0 * wave(2.0 * turn + random(3));
    let effort = smoothstep(-0.6, 0.4, wave(3.0 * turn + random(4)));
    let flap = 0.25 + 0.75 * effort * wave(30.0 * turn + random(3));
    let colour = rgb(0x2b2440);
    for side in [-1.0, 1.0] {
        let elbow = [x + side * size * 0.55, y - size * (0.28 + 0.30 * flap)];
        let tip = [x + side * size * 1.25, y - size * (0.12 + 0.55 * flap)];
        canvas.stroke([x, y], elbow, [size * 0.12, size * 0.10], colour, 0.9);
        canvas.stroke(elbow, tip, [size * 0.10, 0.3], colour, 0.9);
    }
}
