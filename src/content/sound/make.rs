//! Makes the sound of a film: measures its loudness, and codes its round as a circle of Opus packets.
//!
//! A station plays a film's round again and again. So that nothing is heard where the round begins anew, the packets are coded as
//! if the film had been played before: the encoder first gets the last 100 ms of the round, whose packets are thrown away, and the
//! first packet that is kept does not predict from those before it. To reset the encoder there would click.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use ebur128::{EbuR128, Mode};
use opus::{Application, Bitrate, Channels, Encoder};

use super::reel::{BLOCK, HEADER_LEN, SoundHeader};
use super::source::SoundSource;
use super::{CHANNELS, FRAME, RATE, SHORT};
use crate::content::decode::SourceError;
use crate::lineup::SoundChoice;

/// The loudness on air (EBU R 128).
const LOUDNESS: f64 = -23.0;

/// The highest true peak before coding, in dBTP: EBU R 128 allows -1 on air, and Opus at 128 kbit/s overshoots by some tenths.
const PEAK: f64 = -1.5;

/// Quieter than this is silence, which no gain makes loud, in LUFS: the absolute gate of ITU-R BS.1770.
const SILENCE: f64 = -70.0;

/// Packets of 20 ms that the encoder makes before the first packet that is kept. A decoder converges in 80 ms.
const PRE_ROLL_FRAMES: usize = 4;

/// Their samples, and those of the short packets at the end of a round.
const PRE_ROLL: usize = (PRE_ROLL_FRAMES + 1) * FRAME as usize;

/// The fade of a sound that is longer than its film.
const FADE: usize = RATE as usize / 200;

/// A sound that is longer by no more than this ends with the film: the last frame of a codec is padded.
const PADDING: u64 = FRAME as u64;

/// Shortest round that is heard.
const SHORTEST: u64 = 2 * PRE_ROLL as u64;

/// What a station wants to hear of a film.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SoundOrder {
    /// Which track.
    pub(crate) choice: SoundChoice,
    /// The length of the film's round, in samples.
    pub(crate) length: u64,
    /// Bits a second.
    pub(crate) bitrate: u32,
    /// Whether the film is brought to the common loudness.
    pub(crate) loudness: bool,
}

impl SoundOrder {
    /// Samples in `span`, rounded.
    pub(crate) fn samples(span: Duration) -> u64 {
        ((span.as_nanos() * u128::from(RATE) + 500_000_000) / 1_000_000_000) as u64
    }
}

/// Why there is no sound of a film that should have some.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("cannot code it: {0}")]
    Opus(#[from] opus::Error),
    #[error("cannot measure its loudness: {0}")]
    Loudness(#[from] ebur128::Error),
}

/// What the first pass over a film's sound has found.
struct Measured {
    /// The end of the round, which comes before its beginning: the last [`PRE_ROLL`] samples, interleaved.
    tail: Vec<f32>,
    /// The beginning of the round, which follows its end.
    head: Vec<f32>,
    /// Whether the sound goes on after the film.
    is_longer: bool,
    loudness: f64,
    peak: f64,
    broken: u64,
}

/// What was made of a film's sound.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Made {
    /// How many packets of the film did not decode.
    pub(crate) broken: u64,
}

/// Writes the sound of the film at `path` to `file`; `None` if the film has none. Blocks for some hundredths of its length.
///
/// # Errors
/// The film's sound cannot be decoded or coded, or the file cannot be written.
pub(crate) fn make(path: &Path, order: &SoundOrder, file: &File) -> Result<Option<Made>, MakeError> {
    if order.length < SHORTEST {
        return Ok(None);
    }
    let Some(source) = SoundSource::open(path, &order.choice)? else { return Ok(None) };
    let measured = measure(source, order.length)?;
    let wanted = (LOUDNESS - measured.loudness).min(PEAK - measured.peak);
    let gain = if order.loudness && measured.loudness > SILENCE { wanted } else { 0.0 };
    let Some(source) = SoundSource::open(path, &order.choice)? else { return Ok(None) };
    code(source, order, &measured, gain, file)?;
    Ok(Some(Made { broken: measured.broken }))
}

fn measure(mut source: SoundSource, length: u64) -> Result<Measured, MakeError> {
    let mut meter = EbuR128::new(CHANNELS as u32, RATE, Mode::I | Mode::TRUE_PEAK)?;
    let head_length = (length as usize).min(PRE_ROLL) * CHANNELS;
    let (mut head, mut tail, mut at) = (Vec::new(), vec![0.0; PRE_ROLL * CHANNELS], 0u64);
    let tail_from = length - PRE_ROLL as u64;
    while let Some(samples) = source.next() {
        let count = (samples.len() / CHANNELS) as u64;
        let used = count.min(length.saturating_sub(at)) as usize * CHANNELS;
        meter.add_frames_f32(&samples[..used])?;
        head.extend_from_slice(&samples[..used.min(head_length - head.len())]);
        for (n, sample) in samples[..used].chunks_exact(CHANNELS).enumerate() {
            if let Some(place) = (at + n as u64).checked_sub(tail_from) {
                let place = place as usize * CHANNELS;
                tail[place..place + CHANNELS].copy_from_slice(sample);
            }
        }
        at += count;
        if at > length + PADDING {
            break;
        }
    }
    head.resize(head_length, 0.0);
    let peak = (0..CHANNELS as u32)
        .map(|channel| meter.true_peak(channel))
        .try_fold(0.0, |most: f64, peak| peak.map(|peak| most.max(peak)))?;
    Ok(Measured {
        tail,
        head,
        is_longer: at > length + PADDING,
        // Of digital silence it is minus infinity.
        loudness: meter.loudness_global()?.max(2.0 * SILENCE),
        peak: 20.0 * peak.max(1e-6).log10(),
        broken: source.broken(),
    })
}

/// Codes the round, and writes the file.
fn code(
    mut source: SoundSource,
    order: &SoundOrder,
    measured: &Measured,
    gain: f64,
    file: &File,
) -> Result<(), MakeError> {
    let mut encoder = Encoder::new(RATE, Channels::Stereo, Application::LowDelay)?;
    encoder.set_bitrate(Bitrate::Bits(order.bitrate as i32))?;
    // Packets of constant size need no index, and a constant share of the network.
    encoder.set_vbr(false)?;
    // The decoder gives each sample so much later than the encoder got it. No receiver of RTP knows by how much, so the encoder gets
    // the samples that much earlier.
    let ahead = encoder.get_lookahead()?.max(0) as usize;
    let frames = (order.length / u64::from(FRAME)) as u32;
    let rest = order.length % u64::from(FRAME);
    // One more than fits: a round whose end is no multiple of 2.5 ms sometimes takes it.
    let shorts = (rest / u64::from(SHORT)) as u32 + 1;
    let header = SoundHeader {
        length: order.length,
        frames,
        shorts,
        frame_bytes: (order.bitrate / 400) as u16,
        gain: gain as f32,
        loudness: measured.loudness as f32,
        peak: measured.peak as f32,
    };
    let mut out = Writer::new(file)?;
    let factor = 10f64.powf(gain / 20.0) as f32;
    let mut circle =
        Circle { source: &mut source, measured, length: order.length, at: 0, buffer: Vec::new() };
    // The pre-roll has the packets of the round's end, since what is heard at a seam depends on their lengths, too.
    let before = PRE_ROLL - (PRE_ROLL_FRAMES * FRAME as usize + rest as usize) + ahead;
    circle.buffer.extend_from_slice(&measured.tail[before * CHANNELS..]);
    let mut packet = vec![0; usize::from(header.frame_bytes)];
    let short_packets = std::iter::repeat_n(SHORT as usize, shorts as usize - 1);
    for samples in std::iter::repeat_n(FRAME as usize, PRE_ROLL_FRAMES).chain(short_packets) {
        encoder.encode_float(&circle.take(samples, factor), &mut packet)?;
    }
    circle.take((rest % u64::from(SHORT)) as usize, factor);
    for n in 0..frames {
        let samples = circle.take(FRAME as usize, factor);
        // The first packet that is kept must not need those before it.
        encoder.set_prediction_disabled(n == 0)?;
        let length = encoder.encode_float(&samples, &mut packet)?;
        out.packet(&mut packet, length)?;
        if (n + 1) % BLOCK == 0 || n + 1 == frames {
            out.end_block();
        }
    }
    packet.truncate(header.short_bytes());
    for _ in 0..shorts {
        let samples = circle.take(SHORT as usize, factor);
        let length = encoder.encode_float(&samples, &mut packet)?;
        out.packet(&mut packet, length)?;
    }
    out.end_block();
    out.finish(header)?;
    Ok(())
}

/// The samples of a round, and after its end those of its beginning.
struct Circle<'a> {
    source: &'a mut SoundSource,
    measured: &'a Measured,
    length: u64,
    /// Where the end of the buffer is in the round.
    at: u64,
    buffer: Vec<f32>,
}

impl Circle<'_> {
    /// The next `count` samples of each channel, times `factor`.
    fn take(&mut self, count: usize, factor: f32) -> Vec<f32> {
        while self.buffer.len() < count * CHANNELS {
            self.fill();
        }
        let mut samples: Vec<f32> = self.buffer.drain(..count * CHANNELS).collect();
        samples.iter_mut().for_each(|sample| *sample *= factor);
        samples
    }

    fn fill(&mut self) {
        let left = self.length.saturating_sub(self.at);
        if left == 0 {
            // Behind its end, the round is at its beginning.
            self.buffer.extend_from_slice(&self.measured.head);
            return;
        }
        let mut samples = self.source.next().unwrap_or_else(|| vec![0.0; FRAME as usize * CHANNELS]);
        samples.truncate(left.min((samples.len() / CHANNELS) as u64) as usize * CHANNELS);
        if self.measured.is_longer {
            for (n, sample) in samples.chunks_exact_mut(CHANNELS).enumerate() {
                let to_end = left - n as u64;
                if to_end < FADE as u64 {
                    sample.iter_mut().for_each(|sample| *sample *= to_end as f32 / FADE as f32);
                }
            }
        }
        self.at += (samples.len() / CHANNELS) as u64;
        self.buffer.extend_from_slice(&samples);
    }
}

/// Writes packets, and the checksums of their blocks.
struct Writer<'a> {
    out: BufWriter<&'a File>,
    crc: crc32fast::Hasher,
    checksums: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(file: &'a File) -> io::Result<Writer<'a>> {
        let mut out = BufWriter::with_capacity(1 << 16, file);
        out.write_all(&[0; HEADER_LEN])?;
        Ok(Writer { out, crc: crc32fast::Hasher::new(), checksums: Vec::new() })
    }

    /// Writes a packet of the whole length of `packet`, of which the encoder has filled `length` bytes.
    fn packet(&mut self, packet: &mut [u8], length: usize) -> Result<(), MakeError> {
        if length < packet.len() {
            opus::packet::pad(packet, length)?;
        }
        self.crc.update(packet);
        self.out.write_all(packet)?;
        Ok(())
    }

    fn end_block(&mut self) {
        let crc = std::mem::take(&mut self.crc).finalize();
        self.checksums.extend_from_slice(&crc.to_le_bytes());
    }

    fn finish(mut self, header: SoundHeader) -> io::Result<()> {
        self.out.write_all(&self.checksums)?;
        self.out.write_all(&crc32fast::hash(&self.checksums).to_le_bytes())?;
        // The header is written last: a file without it is not whole.
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&header.to_bytes())?;
        self.out.flush()
    }
}
