//! The level of a station's sound that is not heard.

use opus::{Channels, Decoder};

use crate::media::{LINEAR_SAMPLE, SOUND_CLOCK, SoundCodec};

/// Samples a second that are decoded: enough for a level, in a third of the time. 20 ms of music at 96 kb/s take 25 µs.
const RATE: u32 = 8000;

/// Most samples of a packet at that rate: 120 ms (RFC 6716 section 2.1.4).
const MOST: usize = RATE as usize * 120 / 1000;

/// The level that is shown as none, in dB below full scale.
const RANGE: f32 = 60.0;

/// By how much the level falls in a second: from full scale to nothing.
const FALL: f32 = 1.0;

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
    pub(crate) fn hear(&mut self, codec: SoundCodec, packet: &[u8]) -> f32 {
        let heard = match codec {
            _ if packet.is_empty() => None,
            SoundCodec::Opus => {
                let decoded = self.decoder.decode_float(packet, &mut self.samples, false).ok();
                decoded.map(|decoded| {
                    let samples = self.samples[..decoded].iter();
                    (samples.fold(0.0, |peak: f32, s| peak.max(s.abs())), decoded as f32 / RATE as f32)
                })
            }
            SoundCodec::L16 => {
                let samples = packet.chunks_exact(2).map(|s| i16::from_be_bytes([s[0], s[1]]).unsigned_abs());
                let seconds = (packet.len() / LINEAR_SAMPLE) as f32 / SOUND_CLOCK as f32;
                Some((f32::from(samples.max().unwrap_or(0)) / 32_768.0, seconds))
            }
        };
        if let Some((peak, seconds)) = heard {
            let level = (1.0 + 20.0 * peak.max(1e-9).log10() / RANGE).clamp(0.0, 1.0);
            self.level = level.max(self.level - FALL * seconds);
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
        let loud: Vec<f32> = (0..10).map(|n| meter.hear(SoundCodec::Opus, &packet(0.1, n))).collect();
        // A tenth of full scale is -20 dB.
        assert!((loud[9] - 2.0 / 3.0).abs() < 0.05, "{loud:?}");
        let quiet: Vec<f32> = (10..70).map(|n| meter.hear(SoundCodec::Opus, &packet(0.0, n))).collect();
        assert!(quiet.is_sorted_by(|a, b| a >= b) && quiet[1] > 0.5 && quiet[59] < 0.1, "{quiet:?}");
        let before = meter.hear(SoundCodec::Opus, &[]);
        assert_eq!(meter.hear(SoundCodec::Opus, &[0xff; 3]), before, "no packet");
        // A tenth of full scale, as linear samples.
        let linear = 3277i16.to_be_bytes().repeat(480);
        assert!((meter.hear(SoundCodec::L16, &linear) - 2.0 / 3.0).abs() < 0.01);
    }
}
