//! Resampling by a ratio that changes all the time and is near that of the two rates. Pure.
//!
//! A table of a windowed sinc is all that this takes. `rubato` has it too, with blocks of its own, a delay of its own and 20
//! more crates; here samples are pulled one by one, so that the position is known to a fraction of a sample.

use std::f64::consts::PI;

use super::Frame;

/// Length of the filter, in source samples: flat to 18 kHz at 48 kHz.
const TAPS: usize = 32;

/// Fractions of a sample that the table has; between two of them it is interpolated, to -90 dB.
const PHASES: usize = 256;

/// Source samples from the one that is heard to the newest one that is needed for it.
const AHEAD: usize = TAPS / 2;

/// Source samples that are needed before the one that is heard.
pub(super) const BEHIND: usize = TAPS - AHEAD - 1;

/// A resampler. Between two of its outputs any number of source samples is pulled.
#[derive(Debug, Clone)]
pub(super) struct Resampler {
    /// `PHASES` + 1 filters.
    table: Vec<[f32; TAPS]>,
    /// The last source samples, as a ring that is doubled, so that any run of `TAPS` is contiguous.
    history: [Frame; 2 * TAPS],
    at: usize,
    /// Where the next output is, from the source sample that is heard to the one after it.
    fraction: f64,
    /// Source samples for one output at the nominal speed.
    ratio: f64,
}

impl Resampler {
    /// A resampler to `rate` samples a second, from `source`.
    pub(super) fn new(source: u32, rate: u32) -> Resampler {
        let ratio = f64::from(source) / f64::from(rate.max(1));
        let cutoff = 0.96 / ratio.max(1.0);
        let tap = |phase: usize, tap: usize| {
            let x = tap as f64 - BEHIND as f64 - phase as f64 / PHASES as f64;
            let sinc = if x.abs() < 1e-9 { 1.0 } else { (PI * x * cutoff).sin() / (PI * x * cutoff) };
            // Blackman.
            let w = ((x + AHEAD as f64) / TAPS as f64).clamp(0.0, 1.0) * 2.0 * PI;
            cutoff * sinc * (0.42 - 0.5 * w.cos() + 0.08 * (2.0 * w).cos())
        };
        let filter = |phase: usize| {
            let filter: [f64; TAPS] = std::array::from_fn(|at| tap(phase, at));
            let sum: f64 = filter.iter().sum();
            filter.map(|tap| (tap / sum) as f32)
        };
        let table = (0..=PHASES).map(filter).collect();
        Resampler { table, history: [[0.0; 2]; 2 * TAPS], at: 0, fraction: 0.0, ratio }
    }

    /// Starts anew: the next output is exactly the source sample [`BEHIND`] after the first one that is pulled.
    pub(super) fn start(&mut self, mut pull: impl FnMut() -> Frame) {
        for _ in 0..TAPS {
            self.push(pull());
        }
        self.fraction = 0.0;
    }

    /// The place of the next output in the source, given that `next` is the place of the sample that is pulled next: whole
    /// samples and a fraction.
    pub(super) fn place(&self, next: i64) -> (i64, f64) {
        (next - (AHEAD as i64 + 1), self.fraction)
    }

    /// The next output, at `speed` times the nominal speed.
    pub(super) fn next(&mut self, speed: f64, mut pull: impl FnMut() -> Frame) -> Frame {
        let phase = self.fraction * PHASES as f64;
        let (low, between) = (phase as usize, phase.fract() as f32);
        let (a, b) = (&self.table[low], &self.table[low + 1]);
        let window = &self.history[self.at..self.at + TAPS];
        let mut out = [0.0f32; 2];
        for ((frame, a), b) in window.iter().zip(a).zip(b) {
            let tap = a + (b - a) * between;
            out[0] += frame[0] * tap;
            out[1] += frame[1] * tap;
        }
        self.fraction += self.ratio * speed;
        while self.fraction >= 1.0 {
            self.fraction -= 1.0;
            self.push(pull());
        }
        out
    }

    fn push(&mut self, frame: Frame) {
        self.history[self.at] = frame;
        self.history[self.at + TAPS] = frame;
        self.at = (self.at + 1) % TAPS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sine of `hertz` at 48 kHz.
    fn sine(hertz: f64) -> impl FnMut() -> Frame {
        let mut n = -(BEHIND as f64);
        move || {
            let value = (2.0 * PI * hertz * n / 48_000.0).sin() as f32;
            n += 1.0;
            [value, -value]
        }
    }

    #[test]
    fn a_sine_stays_a_sine_at_any_speed_and_rate() {
        for (rate, speed) in
            [(48_000, 1.0), (48_000, 1.000_5), (48_000, 0.999_5), (44_100, 1.000_1), (96_000, 1.0)]
        {
            for hertz in [50.0, 1000.0, 12_000.0] {
                let mut pull = sine(hertz);
                let mut resampler = Resampler::new(48_000, rate);
                resampler.start(&mut pull);
                for n in 0..5000 {
                    let place = f64::from(n) * 48_000.0 / f64::from(rate) * speed;
                    let wanted = (2.0 * PI * hertz * place / 48_000.0).sin();
                    let [left, right] = resampler.next(speed, &mut pull);
                    let off = (f64::from(left) - wanted).abs();
                    assert!(off < 2e-3, "{hertz} Hz at {rate}, {speed}: sample {n} is off by {off}");
                    assert_eq!(left, -right);
                }
            }
        }
    }
}
