//! Packets to samples. Beside this file, only `meter` uses libopus.

use opus::{Channels, Decoder};

use super::Frame;
use crate::media::{LINEAR_SAMPLE, SOUND_CLOCK, SoundCodec};

/// Longest packet of Opus: 120 ms (RFC 6716 section 2.1.4).
const MAX_SAMPLES: usize = 5760;

/// Shortest span of Opus that can be concealed; all are multiples of it.
const OPUS_STEP: usize = 120;

/// Linear samples are concealed by the last ones before the gap, as many as this.
const TAIL: usize = 480;

/// They fade to silence within so many samples.
const FADE: usize = 960;

/// The sound after the gap is faded in within so many samples.
const FADE_IN: usize = 120;

/// A decoder of sound.
pub trait Decode {
    /// The samples of a packet, which continues what was decoded or concealed before. `None` if it is damaged.
    fn decode(&mut self, codec: SoundCodec, packet: &[u8]) -> Option<&[Frame]>;
    /// Samples in the place of a packet that is lost: at most 960, a multiple of [`conceal_step`](Self::conceal_step).
    fn conceal(&mut self, samples: usize) -> &[Frame];
    /// Shortest span that can be concealed after the last packet, in samples.
    fn conceal_step(&self) -> usize;
    /// Forgets all packets.
    fn reset(&mut self);
}

/// Samples of both channels that a packet has; `None` if it is not of this codec. Cheap: the packet's first bytes tell.
pub(super) fn samples(codec: SoundCodec, packet: &[u8]) -> Option<usize> {
    match codec {
        SoundCodec::Opus => {
            let samples = opus::packet::get_nb_samples(packet, SOUND_CLOCK).ok()?;
            (samples > 0 && samples <= MAX_SAMPLES && samples.is_multiple_of(OPUS_STEP)).then_some(samples)
        }
        SoundCodec::L16 => {
            let samples = packet.len() / LINEAR_SAMPLE;
            (samples > 0 && packet.len().is_multiple_of(LINEAR_SAMPLE)).then_some(samples)
        }
    }
}

/// A decoder of both codecs: libopus, and the little that linear samples need.
pub(super) struct SoundDecoder {
    opus: Decoder,
    linear: Linear,
    /// The codec of the last packet.
    codec: SoundCodec,
    samples: Vec<Frame>,
}

impl SoundDecoder {
    /// A decoder; `None` if there is no memory.
    pub(super) fn new() -> Option<SoundDecoder> {
        let opus = Decoder::new(SOUND_CLOCK, Channels::Stereo).ok()?;
        let samples = vec![[0.0; 2]; MAX_SAMPLES];
        Some(SoundDecoder { opus, linear: Linear::default(), codec: SoundCodec::Opus, samples })
    }
}

impl Decode for SoundDecoder {
    fn decode(&mut self, codec: SoundCodec, packet: &[u8]) -> Option<&[Frame]> {
        self.codec = codec;
        if codec == SoundCodec::L16 {
            return Some(self.linear.decode(packet));
        }
        // An empty packet would mean concealment.
        if packet.is_empty() {
            return None;
        }
        let decoded = self.opus.decode_float(packet, self.samples.as_flattened_mut(), false).ok()?;
        Some(&self.samples[..decoded])
    }

    fn conceal(&mut self, samples: usize) -> &[Frame] {
        let out = &mut self.samples[..samples.min(MAX_SAMPLES)];
        match self.codec {
            SoundCodec::L16 => out.fill_with(|| self.linear.conceal()),
            SoundCodec::Opus => {
                if self.opus.decode_float(&[], out.as_flattened_mut(), false).is_err() {
                    out.fill([0.0; 2]);
                }
            }
        }
        out
    }

    fn conceal_step(&self) -> usize {
        match self.codec {
            SoundCodec::Opus => OPUS_STEP,
            SoundCodec::L16 => 1,
        }
    }

    fn reset(&mut self) {
        // It has no other error than a decoder that is not one.
        let _ = self.opus.reset_state();
        self.linear = Linear::default();
    }
}

/// Linear samples. A gap is filled with the samples before it, backwards and forwards in turn, so that there is no jump at its
/// beginning; and what follows is faded in.
#[derive(Default)]
struct Linear {
    /// The last samples, [`TAIL`] at most.
    tail: Vec<Frame>,
    /// Samples concealed since.
    concealed: usize,
    samples: Vec<Frame>,
}

impl Linear {
    fn decode(&mut self, packet: &[u8]) -> &[Frame] {
        let (frames, _) = packet.as_chunks::<LINEAR_SAMPLE>();
        let sample = |high, low| f32::from(i16::from_be_bytes([high, low])) / 32_768.0;
        self.samples.clear();
        self.samples.extend(frames.iter().map(|&[a, b, c, d]| [sample(a, b), sample(c, d)]));
        if self.concealed > 0 {
            let fade = FADE_IN.min(self.samples.len());
            for n in 0..fade {
                let (gain, before) = ((n + 1) as f32 / fade as f32, self.conceal());
                for (sample, before) in self.samples[n].iter_mut().zip(before) {
                    *sample = *sample * gain + before * (1.0 - gain);
                }
            }
        }
        self.concealed = 0;
        self.tail.extend(&self.samples);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
        &self.samples
    }

    /// The next sample of a gap.
    fn conceal(&mut self) -> Frame {
        self.concealed += 1;
        let Some(last) = self.tail.len().checked_sub(1) else { return [0.0; 2] };
        let place = if last == 0 { 0 } else { self.concealed % (2 * last) };
        let gain = FADE.saturating_sub(self.concealed) as f32 / FADE as f32;
        self.tail[last.abs_diff(place)].map(|sample| sample * gain)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_lost_packet_of_linear_samples_leaves_no_click() {
        // 200 Hz at 0.9: from sample to sample it moves by 0.024 at most.
        let value = |n: usize| ((n as f32) * 200.0 * std::f32::consts::TAU / 48_000.0).sin() * 0.9;
        let packet = |first: usize, length: usize| -> Vec<u8> {
            let sample = |n: usize| ((value(n) * 32_768.0) as i16).to_be_bytes();
            (first..first + length).flat_map(|n| [sample(n), sample(n)]).flatten().collect()
        };
        for length in [240usize, 363, 48, 960] {
            let mut decoder = SoundDecoder::new().unwrap();
            let mut heard: Vec<Frame> = Vec::new();
            for n in 0..200 {
                // One packet, and later three in a row.
                if matches!(n, 50 | 100..=102) {
                    assert!(length.is_multiple_of(decoder.conceal_step()));
                    heard.extend(decoder.conceal(length));
                } else {
                    let packet = packet(n * length, length);
                    assert_eq!(samples(SoundCodec::L16, &packet), Some(length));
                    heard.extend(decoder.decode(SoundCodec::L16, &packet).unwrap());
                }
            }
            let step = heard.windows(2).map(|pair| (pair[1][0] - pair[0][0]).abs()).fold(0.0, f32::max);
            assert!(step < 0.05, "a step of {step} in packets of {length}");
            let at = 150 * length;
            assert!((heard[at][1] - value(at)).abs() < 1e-3, "packets are as they were sent");
        }
        assert_eq!(samples(SoundCodec::L16, &[0; 6]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..12)) {
            let mut decoder = SoundDecoder::new().unwrap();
            for (n, packet) in packets.iter().enumerate() {
                let codec = if n % 3 == 2 { SoundCodec::L16 } else { SoundCodec::Opus };
                let told = samples(codec, packet);
                let decoded = decoder.decode(codec, packet).map(<[Frame]>::len);
                if let (Some(told), Some(decoded)) = (told, decoded) {
                    prop_assert_eq!(told, decoded);
                }
                prop_assert_eq!(decoder.conceal(480).len(), 480);
            }
        }
    }
}
