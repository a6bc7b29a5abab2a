//! Station 3: a ringed planet, its moons, and the stars behind.

use crate::canvas::{Canvas, HEIGHT, Point, Rgb, WIDTH, mix, rgb, scatter, smoothstep, wave};

const CENTRE: Point = [404.0, 172.0];
const RADIUS: f32 = 84.0;
/// The sine of the rings' inclination towards the viewer.
const OPENING: f32 = 0.30;
/// The cosine and sine of the angle by which the axis leans in the picture.
const LEAN: [f32; 2] = [0.94, -0.342];
/// The direction of the sun: right, down, towards the viewer; a unit vector.
const SUN: [f32; 3] = [-0.682, -0.292, 0.671];

/// Draws the scene at `turn`, the share of the film that has passed.
pub(crate) fn draw(canvas: &mut Canvas, turn: f32) {
    sky(canvas);
    stars(canvas, turn);
    comet(canvas, turn);
    for moon in MOONS.iter().filter(|moon| moon.depth(turn) < 0.0) {
        moon.draw(canvas, turn);
    }
    rings(canvas, Half::Far);
    planet(canvas, turn);
    rings(canvas, Half::Near);
    for moon in MOONS.iter().filter(|moon| moon.depth(turn) >= 0.0) {
        moon.draw(canvas, turn);
    }
}

/// Night with two clouds of glowing gas. They stand still, which costs a codec almost nothing.
fn sky(canvas: &mut Canvas) {
    canvas.fill(|x, y| {
        let (u, v) = (x / WIDTH as f32, y / HEIGHT as f32);
        let warp =
            0.07 * wave(u * 1.3 + v * 0.9) + 0.04 * wave(v * 2.9 - u * 1.7) + 0.02 * wave(u * 5.1 + v * 3.3);
        let belt = v - 0.95 + 0.75 * u + warp;
        let gas = (-belt * belt * 22.0).exp();
        let wisps = 0.62 + 0.38 * wave(2.3 * u - 1.9 * v + 2.0 * warp) * wave(1.6 * v + 1.1 * u + 3.0 * warp);
        let hue = smoothstep(0.1, 0.9, u + 0.8 * warp);
        let night = mix(rgb(0x05060f), rgb(0x0b0a24), v);
        let cloud = mix(rgb(0x5a2a86), rgb(0x0f5f86), hue);
        mix(night, cloud, 0.72 * gas * wisps)
    });
}

/// Three depths of stars: the farthest stand and twinkle, the nearer ones drift by.
fn stars(canvas: &mut Canvas, turn: f32) {
    for star in 0..260_u32 {
        let random = |n: u32| scatter(1000 + star * 6 + n);
        let layer = star % 5;
        // A field of stars repeats after the distance that it drifts in a film.
        let (band, drift) = match layer {
            0 => (720.0, 720.0),
            1 | 2 => (720.0, 360.0),
            _ => (720.0, 0.0),
        };
        let copies = if drift == 360.0 { 2 } else { 1 };
        let tint = mix(rgb(0xffd9b0), rgb(0xbcd4ff), random(2));
        let size = if layer == 0 { 0.9 + 0.8 * random(3) } else { 0.45 + 0.5 * random(3) };
        let twinkle = 0.75 + 0.25 * wave(f32::from(2 + (star % 4) as u8) * turn + random(4));
        for copy in 0..copies {
            let start = random(0) * band / copies as f32 + copy as f32 * 360.0;
            let x = (start - drift * turn).rem_euclid(band) - 40.0;
            let y = random(1) * HEIGHT as f32;
            canvas.disc([x, y], size, tint, twinkle);
            if layer == 0 {
                canvas.glow([x, y], 5.0 * size, tint, 0.25 * twinkle);
            }
        }
    }
}

/// A shooting star, once a film.
fn comet(canvas: &mut Canvas, turn: f32) {
    let flight = (turn - 0.42) / 0.05;
    if !(0.0..1.0).contains(&flight) {
        return;
    }
    let head = [290.0 - 190.0 * flight, 120.0 + 105.0 * flight];
    let fade = wave(flight / 2.0);
    for part in 0..12_u8 {
        let back = f32::from(part) * 6.0;
        let (a, b) = ([head[0] + back * 0.875, head[1] - back * 0.484], back + 6.0);
        let to = [head[0] + b * 0.875, head[1] - b * 0.484];
        let strength = fade * (1.0 - f32::from(part) / 12.0);
        canvas.stroke(a, to, [1.4 * strength, 1.1 * strength], rgb(0xe8f2ff), strength);
    }
    canvas.glow(head, 12.0, rgb(0xbfd8ff), fade);
}

/// A point of the picture in the coordinates of the upright planet, in radii.
fn upright(x: f32, y: f32) -> Point {
    let (dx, dy) = ((x - CENTRE[0]) / RADIUS, (y - CENTRE[1]) / RADIUS);
    [dx * LEAN[0] + dy * LEAN[1], dy * LEAN[0] - dx * LEAN[1]]
}

fn dot(a: [f32; 3], b: [f32; 3]) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// The opacity of the rings at so many radii from the planet's centre: bands and a dark gap.
fn ring_density(r: f32) -> f32 {
    let edge = 0.012;
    let span =
        |from: f32, to: f32| smoothstep(from - edge, from + edge, r) * smoothstep(to + edge, to - edge, r);
    let ripple = 0.86 + 0.14 * wave(r * 9.0) * wave(r * 3.7);
    ripple * (0.35 * span(1.28, 1.48) + 0.92 * span(1.50, 1.88) + 0.62 * span(1.97, 2.24))
}

#[derive(PartialEq)]
enum Half {
    Far,
    Near,
}

fn rings(canvas: &mut Canvas, half: Half) {
    let reach = 2.3 * RADIUS;
    canvas.blend([CENTRE[0] - reach, CENTRE[1] - reach], [CENTRE[0] + reach, CENTRE[1] + reach], |x, y| {
        let [u, v] = upright(x, y);
        let w = v / OPENING;
        if (w > 0.0) != (half == Half::Near) {
            return ([0.0; 3], 0.0);
        }
        let r = u.hypot(w);
        let density = ring_density(r);
        // A point is in the planet's shadow if the line to the sun passes within one radius of the centre.
        let place = [u, v, w * (1.0 - OPENING * OPENING).sqrt()];
        let toward = dot(place, SUN);
        let aside = (dot(place, place) - toward * toward).max(0.0).sqrt();
        let shadow = if toward < 0.0 { smoothstep(1.03, 0.97, aside) } else { 0.0 };
        let colour = mix(rgb(0xe9d3a6), rgb(0xb58f6c), smoothstep(1.3, 2.2, r));
        (mix(colour, rgb(0x07070f), 0.9 * shadow), density)
    });
}

/// The colour of the planet's clouds at a longitude (in turns) and a latitude (-1 to 1).
fn clouds(longitude: f32, latitude: f32) -> Rgb {
    let swirl = 0.030 * wave(4.0 * longitude + 2.0 * latitude)
        + 0.016 * wave(9.0 * longitude - 3.0 * latitude)
        + 0.010 * wave(15.0 * longitude + 5.0 * latitude);
    let band = latitude + swirl * (1.0 - latitude * latitude);
    let stripes = 0.5 + 0.30 * wave(3.2 * band) + 0.20 * wave(7.3 * band + 0.2);
    let base = mix(rgb(0xc9773f), rgb(0xffe6b8), stripes.clamp(0.0, 1.0));
    let base = mix(base, rgb(0x7d8fb0), 0.65 * smoothstep(0.62, 1.0, latitude.abs()));
    // The storm that makes the turning visible.
    let east = (longitude - 0.30 + 0.5).rem_euclid(1.0) - 0.5;
    let storm = (east / 0.060).hypot((latitude + 0.22) / 0.12);
    let base = mix(base, rgb(0xfff0d8), 0.55 * smoothstep(1.35, 1.0, storm));
    mix(base, rgb(0xb8452c), 0.9 * smoothstep(1.05, 0.7, storm))
}

fn planet(canvas: &mut Canvas, turn: f32) {
    canvas.glow(CENTRE, 1.5 * RADIUS, rgb(0x3d5a9a), 0.35);
    let tall = (1.0 - OPENING * OPENING).sqrt();
    let reach = RADIUS + 1.0;
    canvas.blend([CENTRE[0] - reach, CENTRE[1] - reach], [CENTRE[0] + reach, CENTRE[1] + reach], |x, y| {
        let [u, v] = upright(x, y);
        let r = u.hypot(v);
        let edge = (0.5 - (r - 1.0) * RADIUS).clamp(0.0, 1.0);
        if edge == 0.0 {
            return ([0.0; 3], 0.0);
        }
        let z = (1.0 - r * r).max(0.0).sqrt();
        // The pole leans towards the viewer by the rings' inclination.
        let latitude = v * tall - z * OPENING;
        let longitude = u.atan2(z * tall + v * OPENING) / std::f32::consts::TAU;
        let surface = [u, v, z];
        let day = smoothstep(-0.12, 0.85, dot(surface, SUN));
        // The rings' shadow: where the line to the sun crosses their plane.
        let above = v * tall - z * OPENING;
        let climb = SUN[1] * tall - SUN[2] * OPENING;
        let way = -above / climb;
        let crossing: [f32; 3] = std::array::from_fn(|i| surface[i] + way * SUN[i]);
        let shade = if way > 0.0 { 0.6 * ring_density(dot(crossing, crossing).sqrt()) } else { 0.0 };
        let light = (0.03 + 0.97 * day) * (1.0 - shade);
        let body = mix(rgb(0x06060f), clouds(longitude - 2.0 * turn, latitude), light);
        let rim = (1.0 - z).powi(3) * day;
        (mix(body, rgb(0xbcd6ff), 0.55 * rim), edge)
    });
}

/// A moon on a circle around the planet.
struct Moon {
    /// Radius of the orbit, in the planet's radii.
    orbit: f32,
    /// Radius of the moon, in pixels.
    radius: f32,
    /// Orbits in a film.
    orbits: f32,
    start: f32,
    opening: f32,
    colour: Rgb,
}

const MOONS: [Moon; 3] = [
    Moon { orbit: 2.75, radius: 11.0, orbits: 2.0, start: 0.10, opening: 0.34, colour: rgb(0xd9d4cc) },
    Moon { orbit: 3.35, radius: 7.0, orbits: 1.0, start: 0.62, opening: 0.27, colour: rgb(0x9fc7d8) },
    Moon { orbit: 1.72, radius: 4.0, orbits: 3.0, start: 0.35, opening: 0.46, colour: rgb(0xf0b890) },
];

impl Moon {
    /// How far it is before the planet's centre, or behind it if negative.
    fn depth(&self, turn: f32) -> f32 {
        wave(self.orbits * turn + self.start)
    }

    fn draw(&self, canvas: &mut Canvas, turn: f32) {
        let (u, v) = (
            self.orbit * wave(self.orbits * turn + self.start + 0.25),
            self.orbit * self.opening * self.depth(turn),
        );
        let [cx, cy] = [
            CENTRE[0] + RADIUS * (u * LEAN[0] - v * LEAN[1]),
            CENTRE[1] + RADIUS * (u * LEAN[1] + v * LEAN[0]),
        ];
        let reach = self.radius + 1.0;
        canvas.blend([cx - reach, cy - reach], [cx + reach, cy + reach], |x, y| {
            let (dx, dy) = ((x - cx) / self.radius, (y - cy) / self.radius);
            let r = dx.hypot(dy);
            let normal = [dx, dy, (1.0 - r * r).max(0.0).sqrt()];
            let day = smoothstep(-0.1, 0.9, dot(normal, SUN));
            let edge = (0.5 - (r - 1.0) * self.radius).clamp(0.0, 1.0);
            (mix(rgb(0x08080f), self.colour, 0.06 + 0.94 * day), edge)
        });
    }
}
