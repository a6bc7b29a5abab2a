//! The sound of the clips, made of numbers as their pictures are: 48 kHz, stereo, one round that joins itself.
//!
//! Noise is filtered around the round twice and only the second time is kept, tones have whole cycles in a round, and an event
//! that reaches over the end goes on at the beginning. So the loop point cannot be heard.

use std::f32::consts::TAU;

use crate::canvas::{scatter, smoothstep, wave};

/// Samples a second.
pub(crate) const RATE: u32 = 48_000;

/// One round of a film's sound.
pub(crate) struct Round {
    left: Vec<f32>,
    right: Vec<f32>,
}

impl Round {
    /// Silence of `samples` for each ear.
    pub(crate) fn new(samples: usize) -> Round {
        Round { left: vec![0.0; samples], right: vec![0.0; samples] }
    }

    fn samples(&self) -> usize {
        self.left.len()
    }

    /// The share of the round that has passed at a sample.
    fn turn(&self, sample: usize) -> f32 {
        (sample as f64 / self.samples() as f64) as f32
    }

    /// Adds `voice` at `pan`: 0 is left, 1 is right, equal power between them.
    fn add(&mut self, voice: &[f32], pan: f32) {
        self.add_at(0, voice, pan);
    }

    /// Adds `voice` from sample `start` on, around the end of the round if need be.
    fn add_at(&mut self, start: usize, voice: &[f32], pan: f32) {
        let (sin, cos) = (pan * TAU / 4.0).sin_cos();
        let samples = self.samples();
        for (offset, value) in voice.iter().enumerate() {
            let at = (start + offset) % samples;
            self.left[at] += value * cos;
            self.right[at] += value * sin;
        }
    }

    /// The round as interleaved 16-bit samples, least significant byte first.
    pub(crate) fn to_s16le(&self) -> Vec<u8> {
        let both = self.left.iter().zip(&self.right).flat_map(|(l, r)| [l, r]);
        both.flat_map(|value| ((value.clamp(-1.0, 1.0) * 32_767.0) as i16).to_le_bytes()).collect()
    }

    /// White noise, the same at each run.
    fn noise(&self, seed: u32) -> Vec<f32> {
        let mut state = 0x9e37_79b9 ^ seed.wrapping_mul(0x85eb_ca6b);
        let next = || {
            // Marsaglia's xorshift32.
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / u32::MAX as f32 * 2.0 - 1.0
        };
        std::iter::repeat_with(next).take(self.samples()).collect()
    }

    /// Takes from `voice` what lies above `cutoff` (in Hz, at a share of the round), 12 dB an octave.
    fn low_pass(&self, voice: &mut [f32], cutoff: impl Fn(f32) -> f32) {
        let (mut first, mut second) = (0.0, 0.0);
        for lap in 0..2 {
            for (sample, value) in voice.iter_mut().enumerate() {
                let share = 1.0 - (-TAU * cutoff(self.turn(sample)) / RATE as f32).exp();
                first += share * (*value - first);
                second += share * (first - second);
                if lap == 1 {
                    *value = second;
                }
            }
        }
    }

    /// Takes from `voice` what lies below `cutoff`, in Hz, 6 dB an octave.
    fn high_pass(&self, voice: &mut [f32], cutoff: f32) {
        let share = 1.0 - (-TAU * cutoff / RATE as f32).exp();
        let mut low = 0.0;
        for lap in 0..2 {
            for value in voice.iter_mut() {
                low += share * (*value - low);
                if lap == 1 {
                    *value -= low;
                }
            }
        }
    }

    /// Makes `voice` as loud as `level` says at each share of the round.
    fn shape(&self, voice: &mut [f32], level: impl Fn(f32) -> f32) {
        for (sample, value) in voice.iter_mut().enumerate() {
            *value *= level(self.turn(sample));
        }
    }

    /// A tone of the whole number of cycles a round that is nearest to `hertz`.
    fn tone(&self, hertz: f32) -> Vec<f32> {
        let samples = self.samples() as f64;
        let cycles = (f64::from(hertz) * samples / f64::from(RATE)).round();
        (0..self.samples()).map(|sample| wave((cycles * sample as f64 / samples).fract() as f32)).collect()
    }

    /// A soft tick at each of the times, which are the samples at which the film's clock reaches a full second.
    pub(crate) fn tick(&mut self, times: impl Iterator<Item = usize>, tick: &Tick) {
        let voice = tick.voice();
        for time in times {
            self.add_at(time, &voice, 0.5);
        }
    }
}

/// A struck tone that dies away.
pub(crate) struct Tick {
    pub(crate) hertz: f32,
    /// The time in which it falls by 8.7 dB, in seconds.
    pub(crate) decay: f32,
    pub(crate) level: f32,
}

impl Tick {
    fn voice(&self) -> Vec<f32> {
        let samples = (8.0 * self.decay * RATE as f32) as usize;
        (0..samples)
            .map(|sample| {
                let time = sample as f32 / RATE as f32;
                let attack = smoothstep(0.0, 0.002, time);
                let tone =
                    wave(self.hertz * time) + 0.3 * wave(2.76 * self.hertz * time) * (-time / 0.01).exp();
                self.level * attack * (-time / self.decay).exp() * tone
            })
            .collect()
    }
}

/// Surf: three swells that rise and break each in its own time, over the rumble of the sea.
pub(crate) fn ocean(round: &mut Round) {
    for (swell, (cycles, shift, pan)) in
        [(4.0, 0.0, 0.25), (3.0, 0.4, 0.75), (5.0, 0.7, 0.5)].into_iter().enumerate()
    {
        // A wave rises slowly and falls faster.
        let height = move |turn: f32| {
            let phase = (cycles * turn + shift).fract();
            smoothstep(0.0, 0.62, phase) * smoothstep(1.0, 0.62, phase)
        };
        let mut surf = round.noise(1 + swell as u32);
        round.low_pass(&mut surf, |turn| 260.0 + 2_400.0 * height(turn).powi(2));
        round.high_pass(&mut surf, 90.0);
        round.shape(&mut surf, |turn| 0.06 + 0.34 * height(turn).powi(2));
        round.add(&surf, pan);
    }
    for (ear, pan) in [(11, 0.0), (12, 1.0)] {
        let mut deep = round.noise(ear);
        round.low_pass(&mut deep, |_| 150.0);
        round.shape(&mut deep, |turn| 0.5 + 0.12 * wave(3.0 * turn + pan));
        round.add(&deep, pan);
    }
}

/// Wind in gusts, as the grass at the track bends, and now and then a bird.
pub(crate) fn nature(round: &mut Round) {
    for (ear, pan) in [(21, 0.15), (22, 0.85)] {
        let mut wind = round.noise(ear);
        let gust = move |turn: f32| 0.5 + 0.3 * wave(2.0 * turn + pan) + 0.2 * wave(5.0 * turn - pan);
        round.low_pass(&mut wind, |turn| 240.0 + 420.0 * gust(turn));
        round.high_pass(&mut wind, 120.0);
        round.shape(&mut wind, |turn| 0.42 + 0.78 * gust(turn));
        round.add(&wind, pan);
    }
    for bird in 0..9_u32 {
        let random = |n: u32| scatter(700 + bird * 23 + n);
        // A song: a few notes of one shape, evenly spaced. A bird sings from one place.
        let notes = 2 + (random(0) * 4.0) as u32;
        let (pan, low, spread) =
            (0.1 + 0.8 * random(1), 2_300.0 + 1_300.0 * random(2), 500.0 + 1_200.0 * random(3));
        let (length, pause) = (0.05 + 0.05 * random(4), 0.12 + 0.08 * random(5));
        let falls = random(6) < 0.5;
        let start = (bird as f32 + 0.8 * random(7)) / 9.0;
        for note in 0..notes {
            let samples = (length * RATE as f32) as usize;
            let mut phase = 0.0;
            let voice: Vec<f32> = (0..samples)
                .map(|sample| {
                    let share = sample as f32 / samples as f32;
                    let slide = if falls { 1.0 - share } else { share };
                    phase = (phase + (low + spread * slide * slide) / RATE as f32).fract();
                    0.09 * wave(share / 2.0).powi(2) * wave(phase)
                })
                .collect();
            let at = start * round.samples() as f32 + note as f32 * pause * RATE as f32;
            round.add_at(at as usize, &voice, pan);
            // The echo from the hills.
            let echo: Vec<f32> = voice.iter().map(|value| 0.25 * value).collect();
            round.add_at(at as usize + RATE as usize * 19 / 100, &echo, 1.0 - pan);
        }
    }
}

/// A slow pad of a wide chord, whose partials come and go as the moons do, and the shooting star's hiss.
pub(crate) fn space(round: &mut Round) {
    const CHORD: [f32; 8] = [55.0, 110.0, 164.81, 220.0, 246.94, 329.63, 440.0, 554.37];
    for (partial, hertz) in CHORD.into_iter().enumerate() {
        let random = |n: u32| scatter(300 + partial as u32 * 11 + n);
        let level = 0.088 / (1.0 + 0.35 * partial as f32);
        // Two of each, a little apart, so that they beat.
        for (apart, pan) in [(-0.17, 0.2 + 0.3 * random(0)), (0.17, 0.8 - 0.3 * random(1))] {
            let mut tone = round.tone(hertz + apart * (1.0 + random(2)));
            let (cycles, shift) = (1.0 + (partial % 3) as f32, random(3));
            round.shape(&mut tone, |turn| level * (0.55 + 0.45 * wave(cycles * turn + shift)));
            round.add(&tone, pan);
        }
    }
    // The picture's shooting star flies from 0.42 on for 0.05 of the film, to the left.
    let flight = |turn: f32| ((turn - 0.42) / 0.05).clamp(0.0, 1.0);
    let mut hiss = round.noise(31);
    round.low_pass(&mut hiss, |turn| 5_500.0 - 3_500.0 * flight(turn));
    round.high_pass(&mut hiss, 1_200.0);
    round.shape(&mut hiss, |turn| 0.12 * wave(flight(turn) / 2.0).max(0.0));
    round.add(&hiss, 0.35);
}
