//! Station 2: a day over rolling hills, seen from a slow train.

use crate::canvas::{Canvas, Point, Rgb, WIDTH, lit, mix, rgb, scatter, smoothstep, wave};

/// Draws the scene at `turn`, the share of the film that has passed: sunrise at 0, noon at a half.
pub(crate) fn draw(canvas: &mut Canvas, turn: f32) {
    let day = Daylight::at(turn);
    sky(canvas, turn, &day);
    for cloud in 0..6 {
        draw_cloud(canvas, turn, &day, cloud);
    }
    for hill in &HILLS {
        hill.draw(canvas, turn, &day);
        for tree in 0..hill.trees {
            hill.draw_tree(canvas, turn, &day, tree);
        }
        if hill.mill {
            hill.draw_mill(canvas, turn, &day);
        }
    }
    meadow(canvas, turn, &day);
}

/// The light at a time of day.
struct Daylight {
    /// 0 at sunrise and sunset, 1 at noon.
    noon: f32,
    /// The colour of the light on things.
    light: Rgb,
    /// The colour into which distant things fade.
    haze: Rgb,
}

impl Daylight {
    fn at(turn: f32) -> Daylight {
        let noon = smoothstep(0.0, 0.8, wave(turn / 2.0));
        Daylight {
            noon,
            light: mix(rgb(0xd99a86), rgb(0xffffff), noon),
            haze: mix(rgb(0xf2b8a0), rgb(0xcfe8f5), noon),
        }
    }
}

fn sky(canvas: &mut Canvas, turn: f32, day: &Daylight) {
    let zenith = mix(rgb(0x4a5a9a), rgb(0x3f8fdc), day.noon);
    let low = mix(rgb(0xffc08a), rgb(0xd8f0fb), day.noon);
    canvas.fill(|_, y| mix(zenith, low, smoothstep(0.0, 215.0, y)));
    let sun = [60.0 + 520.0 * turn, 225.0 - 175.0 * wave(turn / 2.0)];
    let colour = mix(rgb(0xffb35c), rgb(0xfff6d0), day.noon);
    // No glow at the loop point, where the sun changes sides below the hills.
    let risen = smoothstep(0.0, 0.35, wave(turn / 2.0));
    canvas.glow(sun, 150.0, colour, 0.40 * risen);
    canvas.disc(sun, 23.0, colour, 1.0);
}

/// A heap of soft discs on a flat bottom. In a film it moves once across a band wider than the picture.
fn draw_cloud(canvas: &mut Canvas, turn: f32, day: &Daylight, cloud: u32) {
    let random = |n: u32| scatter(500 + cloud * 31 + n);
    let band = WIDTH as f32 + 260.0;
    let x = ((cloud as f32 + 0.7 * random(0)) / 6.0 * band - band * turn).rem_euclid(band) - 130.0;
    let y = 66.0 + 88.0 * random(1);
    let size = 0.65 + 0.55 * random(2);
    let puffs: Vec<(Point, f32)> = (0..7_u32)
        .map(|puff| {
            let across = puff as f32 / 3.0 - 1.0;
            let radius = size * (10.0 + 20.0 * (1.0 - across * across) + 8.0 * random(3 + puff));
            ([x + across * 62.0 * size, y - 0.45 * radius], radius)
        })
        .collect();
    let (shade, bright) =
        (mix(rgb(0xc98f94), rgb(0xc3d6e6), day.noon), mix(rgb(0xffdcc0), rgb(0xffffff), day.noon));
    canvas.blend([x - 110.0, y - 70.0], [x + 110.0, y + 20.0], |px, py| {
        let inside =
            puffs.iter().map(|([cx, cy], r)| 1.0 - (px - cx).hypot(py - cy) / r).fold(-1.0, f32::max);
        let floor = smoothstep(y + 7.0, y - 3.0, py);
        let height = ((y - py) / (46.0 * size)).clamp(0.0, 1.0);
        (mix(shade, bright, smoothstep(0.0, 0.7, height)), 0.95 * floor * smoothstep(0.0, 0.22, inside))
    });
}

/// One range of hills. The nearer, the faster it passes.
struct Hills {
    /// The range repeats after so many pixels, and moves as far in a film.
    period: f32,
    base: f32,
    height: f32,
    shift: f32,
    colour: Rgb,
    /// The share of haze in its colours.
    far: f32,
    trees: u32,
    tree_height: f32,
    mill: bool,
}

const HILLS: [Hills; 4] = [
    Hills {
        period: 320.0,
        base: 186.0,
        height: 34.0,
        shift: 0.1,
        colour: rgb(0x6f93b0),
        far: 0.55,
        trees: 0,
        tree_height: 0.0,
        mill: false,
    },
    Hills {
        period: 480.0,
        base: 214.0,
        height: 24.0,
        shift: 0.55,
        colour: rgb(0x5b9c6c),
        far: 0.34,
        trees: 9,
        tree_height: 20.0,
        mill: false,
    },
    Hills {
        period: 800.0,
        base: 246.0,
        height: 24.0,
        shift: 0.2,
        colour: rgb(0x4f9a3d),
        far: 0.14,
        trees: 9,
        tree_height: 44.0,
        mill: true,
    },
    Hills {
        period: 1280.0,
        base: 286.0,
        height: 16.0,
        shift: 0.8,
        colour: rgb(0x3f8a2c),
        far: 0.0,
        trees: 6,
        tree_height: 92.0,
        mill: false,
    },
];

impl Hills {
    /// The y of the ground at a place that moves with the range.
    fn ground(&self, place: f32) -> f32 {
        let along = place / self.period + self.shift;
        let shape = 0.58 * wave(along) + 0.30 * wave(2.0 * along + 0.31) + 0.16 * wave(3.0 * along + 0.77);
        self.base - self.height * shape
    }

    fn colour(&self, day: &Daylight, own: Rgb) -> Rgb {
        mix(lit(own, day.light), day.haze, self.far)
    }

    fn draw(&self, canvas: &mut Canvas, turn: f32, day: &Daylight) {
        let passed = turn * self.period;
        let top = self.colour(day, mix(self.colour, rgb(0xd6e07a), 0.28 * (1.0 - self.far)));
        let low = self.colour(day, mix(self.colour, rgb(0x123a1c), 0.30));
        canvas.ground(|x| self.ground(x + passed), |_, _, depth| mix(top, low, smoothstep(0.0, 62.0, depth)));
    }

    /// Where a thing at `home` on the range is in the picture. There is one of it in each repetition of the range that is in
    /// sight.
    fn places(&self, home: f32, turn: f32) -> impl Iterator<Item = Point> {
        let (ground, period) = (self.ground(home), self.period);
        let first = (home - turn * period).rem_euclid(period) - period;
        (0..4_u8)
            .map(move |copy| first + f32::from(copy) * period)
            .filter(|x| (-120.0..WIDTH as f32 + 120.0).contains(x))
            .map(move |x| [x, ground])
    }

    fn draw_tree(&self, canvas: &mut Canvas, turn: f32, day: &Daylight, tree: u32) {
        let random = |n: u32| scatter(self.period as u32 * 13 + tree * 9 + n);
        let home = (tree as f32 + 0.75 * random(0)) / self.trees as f32 * self.period;
        let tall = self.tree_height * (0.75 + 0.5 * random(1));
        let bark = self.colour(day, rgb(0x5a3b26));
        for [x, y] in self.places(home, turn) {
            let wind = 0.05 * wave(6.0 * turn + home / 400.0) + 0.025 * wave(17.0 * turn + random(2)) + 0.03;
            let bend = |up: f32| [x + tall * wind * up * up, y - tall * up];
            let trunk = [tall * 0.045, tall * 0.02];
            canvas.stroke([x, y + 2.0], bend(0.55), trunk, bark, 1.0);
            if random(3) < 0.45 {
                // A fir: three skirts, each overlapping the one below.
                let needles = self.colour(day, mix(rgb(0x1f5d3a), rgb(0x2f7a3f), random(4)));
                for (skirt, from) in [(0.29, 0.16), (0.23, 0.40), (0.16, 0.64)] {
                    let ([lx, ly], tip) = (bend(from), bend((from + 0.42_f32).min(1.0)));
                    let (left, right) = ([lx - tall * skirt, ly], [lx + tall * skirt, ly]);
                    canvas.polygon(&[tip, right, left], needles, 1.0);
                    let [mx, my] = [lx + tall * skirt * 0.1, ly];
                    canvas.polygon(&[tip, right, [mx, my]], self.colour(day, rgb(0x123f2b)), 0.35);
                }
            } else {
                // A broad-leaved tree: a heap of discs, dark behind, bright above.
                let leaf = mix(rgb(0x3e8f35), rgb(0x86b53c), random(4));
                for (dx, up, radius, shade) in [
                    (0.0, 0.62, 0.30, 0.45),
                    (-0.20, 0.55, 0.21, 0.40),
                    (0.21, 0.56, 0.21, 0.50),
                    (0.06, 0.80, 0.21, 0.22),
                    (-0.10, 0.70, 0.22, 0.12),
                    (0.10, 0.64, 0.17, 0.18),
                    (-0.07, 0.80, 0.13, 0.0),
                ] {
                    let [cx, cy] = bend(up);
                    let flutter = tall * 0.012 * wave(13.0 * turn + dx * 3.0 + random(5));
                    let green = self.colour(day, mix(leaf, rgb(0x12391f), shade * 1.1));
                    canvas.disc([cx + dx * tall + flutter, cy], radius * tall, green, 1.0);
                }
            }
        }
    }

    fn draw_mill(&self, canvas: &mut Canvas, turn: f32, day: &Daylight) {
        let home = 0.62 * self.period;
        let paint = |hex: u32| self.colour(day, rgb(hex));
        for [x, y] in self.places(home, turn) {
            let body = [[x - 9.0, y - 54.0], [x + 9.0, y - 54.0], [x + 15.0, y + 4.0], [x - 15.0, y + 4.0]];
            canvas.polygon(&body, paint(0xf4ead6), 1.0);
            let dark = [[x + 1.0, y - 54.0], [x + 9.0, y - 54.0], [x + 15.0, y + 4.0], [x + 2.0, y + 4.0]];
            canvas.polygon(&dark, paint(0xb9a58e), 0.6);
            canvas.polygon(
                &[[x, y - 70.0], [x + 12.0, y - 53.0], [x - 12.0, y - 53.0]],
                paint(0xa8452f),
                1.0,
            );
            canvas.stroke([x - 1.0, y - 2.0], [x - 1.0, y - 10.0], [3.0, 3.0], paint(0x5a3b26), 1.0);
            let hub = [x, y - 56.0];
            for sail in 0..4_u8 {
                let angle = (f32::from(sail) / 4.0 + 5.0 * turn) * std::f32::consts::TAU;
                let (sin, cos) = angle.sin_cos();
                let at = |along: f32, side: f32| {
                    [hub[0] + along * cos - side * sin, hub[1] + along * sin + side * cos]
                };
                canvas.polygon(
                    &[at(10.0, 0.0), at(44.0, 0.0), at(44.0, 9.0), at(10.0, 7.0)],
                    paint(0xfffaf0),
                    0.92,
                );
                canvas.stroke(hub, at(45.0, 0.0), [1.2, 1.0], paint(0x5a3b26), 1.0);
            }
            canvas.disc(hub, 2.6, paint(0x3b2a20), 1.0);
        }
    }
}

/// The grass at the track: blades that bend in gusts of wind, and some poppies.
fn meadow(canvas: &mut Canvas, turn: f32, day: &Daylight) {
    const PERIOD: f32 = 800.0;
    let passed = 2.0 * PERIOD * turn;
    let level = |place: f32| 336.0 - 5.0 * wave(2.0 * place / PERIOD) - 3.0 * wave(5.0 * place / PERIOD);
    let (top, low) = (lit(rgb(0x2f7a26), day.light), lit(rgb(0x16451c), day.light));
    canvas.ground(|x| level(x + passed), |_, _, depth| mix(top, low, smoothstep(0.0, 16.0, depth)));
    for blade in 0..170_u32 {
        let random = |n: u32| scatter(9000 + blade * 8 + n);
        let home = random(0) * PERIOD;
        let x = (home - passed).rem_euclid(PERIOD) - 60.0;
        let y = level(home - 60.0) + 4.0;
        let tall = 12.0 + 18.0 * random(1);
        let gust = 0.25 + 0.30 * wave(10.0 * turn - x / 260.0) + 0.10 * wave(23.0 * turn + random(2));
        let (middle, tip) = ([x + 0.28 * gust * tall, y - 0.55 * tall], [x + gust * tall, y - tall]);
        let green = lit(mix(rgb(0x2c6f22), rgb(0x8cbf3f), random(3)), day.light);
        canvas.stroke([x, y], middle, [1.5, 1.1], green, 1.0);
        canvas.stroke(middle, tip, [1.1, 0.4], green, 1.0);
        if blade % 13 == 0 {
            let petal = lit(mix(rgb(0xe23b2e), rgb(0xffd94a), f32::from(random(4) > 0.6)), day.light);
            canvas.disc(tip, 3.4, petal, 1.0);
            canvas.disc([tip[0], tip[1] + 0.5], 1.1, lit(rgb(0x3a2418), day.light), 1.0);
        }
    }
}
