//! Packets to samples. Beside this file, only `meter` uses libopus.

use opus::{Channels, Decoder};

use super::Frame;
use crate::media::SOUND_CLOCK;

/// Longest packet of Opus: 120 ms (RFC 6716 section 2.1.4).
pub(super) const MAX_SAMPLES: usize = 5760;

/// Shortest span that can be concealed; all are multiples of it.
pub(super) const CONCEAL_STEP: usize = 120;

/// A decoder of sound.
pub trait Decode {
    /// The samples of a packet, which continues what was decoded or concealed before. `None` if it is damaged.
    fn decode(&mut self, packet: &[u8]) -> Option<&[Frame]>;
    /// Samples in the place of a packet that is lost: at most 960, a multiple of 120.
    fn conceal(&mut self, samples: usize) -> &[Frame];
    /// Forgets all packets.
    fn reset(&mut self);
}

/// Samples of both channels that a packet has; `None` if it is not Opus. Cheap: the packet's first bytes tell.
pub(super) fn samples(packet: &[u8]) -> Option<usize> {
    let samples = opus::packet::get_nb_samples(packet, SOUND_CLOCK).ok()?;
    (samples > 0 && samples <= MAX_SAMPLES && samples.is_multiple_of(CONCEAL_STEP)).then_some(samples)
}

/// libopus.
pub(super) struct OpusDecoder {
    decoder: Decoder,
    samples: Vec<Frame>,
}

impl OpusDecoder {
    /// A decoder; `None` if there is no memory.
    pub(super) fn new() -> Option<OpusDecoder> {
        let decoder = Decoder::new(SOUND_CLOCK, Channels::Stereo).ok()?;
        Some(OpusDecoder { decoder, samples: vec![[0.0; 2]; MAX_SAMPLES] })
    }
}

impl Decode for OpusDecoder {
    fn decode(&mut self, packet: &[u8]) -> Option<&[Frame]> {
        // An empty packet would mean concealment.
        if packet.is_empty() {
            return None;
        }
        let decoded = self.decoder.decode_float(packet, self.samples.as_flattened_mut(), false).ok()?;
        Some(&self.samples[..decoded])
    }

    fn conceal(&mut self, samples: usize) -> &[Frame] {
        let out = &mut self.samples[..samples.min(MAX_SAMPLES)];
        if self.decoder.decode_float(&[], out.as_flattened_mut(), false).is_err() {
            out.fill([0.0; 2]);
        }
        out
    }

    fn reset(&mut self) {
        // It has no other error than a decoder that is not one.
        let _ = self.decoder.reset_state();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..12)) {
            let mut decoder = OpusDecoder::new().unwrap();
            for packet in &packets {
                let told = samples(packet);
                let decoded = decoder.decode(packet).map(<[Frame]>::len);
                if let (Some(told), Some(decoded)) = (told, decoded) {
                    prop_assert_eq!(told, decoded);
                }
                prop_assert_eq!(decoder.conceal(480).len(), 480);
            }
        }
    }
}
