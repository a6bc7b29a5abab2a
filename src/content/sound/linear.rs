//! Sound as linear samples: what a unit of it sounds like.

use opus::{Channels, Decoder};

use super::{CHANNELS, RATE};
use crate::media::{Payload, Unit};

/// Most samples of a packet: 120 ms (RFC 6716 section 2.1.4).
const MOST: usize = RATE as usize * 120 / 1000;

/// Decodes units of sound that follow each other.
pub(crate) struct LinearDecoder {
    decoder: Decoder,
    samples: Vec<i16>,
}

impl LinearDecoder {
    /// # Errors
    /// There is no memory.
    pub(crate) fn new() -> Result<LinearDecoder, opus::Error> {
        Ok(LinearDecoder {
            decoder: Decoder::new(RATE, Channels::Stereo)?,
            samples: vec![0; MOST * CHANNELS],
        })
    }

    /// The samples of a unit, left and right in turn. A damaged packet is silence of the same length, and a picture has none.
    pub(crate) fn decode(&mut self, unit: &Unit) -> &[i16] {
        match &unit.payload {
            Payload::Jpeg(_) => &[],
            Payload::Opus(packet) => {
                let decoded = self.decoder.decode(packet, &mut self.samples, false);
                let samples = decoded.unwrap_or_else(|_| {
                    self.samples.fill(0);
                    let length = unit.due.interval.as_nanos() * u128::from(RATE);
                    length.div_ceil(1_000_000_000).min(MOST as u128) as usize
                });
                &self.samples[..samples * CHANNELS]
            }
            Payload::L16(bytes) => {
                let (pairs, _) = bytes.as_chunks();
                self.samples.clear();
                self.samples.extend(pairs.iter().map(|pair| i16::from_be_bytes(*pair)));
                let all = self.samples.len();
                self.samples.resize(all.max(MOST * CHANNELS), 0);
                &self.samples[..all]
            }
        }
    }

    /// The unit as linear samples, due at the same time.
    pub(crate) fn linear_unit(&mut self, unit: &Unit) -> Unit {
        let samples = self.decode(unit);
        Unit::linear(unit.due, samples.iter().flat_map(|sample| sample.to_be_bytes()).collect())
    }
}
