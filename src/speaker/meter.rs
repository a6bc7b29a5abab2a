//! The level of a station's sound that is not heard.

use opus::{Channels, Decoder};

/// Samples a second that are decoded: enough for a level, in a third of the time. 20 ms of music at 96 kb/s take 25 µs.
const RATE: u32 = 8000;

/// Most samples of a packet at that rate: 120 ms (RFC 6716 section 2.1.4).
const MOST: usize = RATE as usize * 120 / 1000;

/// The level that is shown as none, in dB below full scale.
const RANGE: f32 = 60.0;

/// By how much the level falls from packet to packet: in a second from full scale to nothing.
const FALL: f32 = 0.02;

/// Measures a station's packets, of which each is decoded as it comes.
pub(crate) struct LevelMeter {
    decoder: Decoder,
    samples: Vec<f32>,
    level: f32,
}

impl LevelMeter {
    /// A meter; `None` if there is no memory.
    pub(crate) fn new() -> Option<LevelMeter> {
        let decoder = Decoder::new(RATE, Channels::Mono).ok()?;
        Some(LevelMeter { decoder, samples: vec![0.0; MOST], level: 0.0 })
    }

    /// The level with this packet: 0.0 at -60 dB and below, 1.0 at full scale. It rises at once and falls slowly. Bytes that are no
    /// packet change nothing.
    pub(crate) fn hear(&mut self, packet: &[u8]) -> f32 {
        if !packet.is_empty()
            && let Ok(decoded) = self.decoder.decode_float(packet, &mut self.samples, false)
        {
            let peak = self.samples[..decoded].iter().fold(0.0, |peak: f32, sample| peak.max(sample.abs()));
            let level = (1.0 + 20.0 * peak.max(1e-9).log10() / RANGE).clamp(0.0, 1.0);
            self.level = level.max(self.level - FALL);
        }
        self.level
    }
}

#[cfg(test)]
mod tests {
    use opus::{Application, Encoder};

    use super::*;

    #[test]
    fn a_level_rises_at_once_and_falls_slowly() {
        let mut encoder = Encoder::new(48_000, Channels::Stereo, Application::Audio).unwrap();
        let mut packet = |amplitude: f32, n: usize| {
            let wave = |at: usize| amplitude * ((n * 960 + at) as f32 * 440.0 * 6.283_185_5 / 48_000.0).sin();
            let samples: Vec<f32> = (0..960).flat_map(|at| [wave(at); 2]).collect();
            encoder.encode_vec_float(&samples, 1500).unwrap()
        };
        let mut meter = LevelMeter::new().unwrap();
        let loud: Vec<f32> = (0..10).map(|n| meter.hear(&packet(0.1, n))).collect();
        // A tenth of full scale is -20 dB.
        assert!((loud[9] - 2.0 / 3.0).abs() < 0.05, "{loud:?}");
        let quiet: Vec<f32> = (10..70).map(|n| meter.hear(&packet(0.0, n))).collect();
        assert!(quiet.is_sorted_by(|a, b| a >= b) && quiet[1] > 0.5 && quiet[59] < 0.1, "{quiet:?}");
        let before = meter.hear(&[]);
        assert_eq!(meter.hear(&[0xff; 3]), before, "no packet");
    }
}
