//! Brings decoded sound of any shape to ours: stereo at 48 kHz. libswresample mixes five channels down by the coefficients of
//! ITU-R BS.775.

use ac_ffmpeg::codec::audio::frame::{ChannelLayout, SampleFormat, get_channel_layout, get_sample_format};
use ac_ffmpeg::codec::audio::{AudioFrame, AudioResampler};
use ac_ffmpeg::time::{TimeBase, Timestamp};

use super::{CHANNELS, RATE};

/// What may differ from one frame to the next: rate, channels, format.
type Shape = (u32, ChannelLayout, SampleFormat);

/// A resampler, which is made for the shape of the frames.
#[derive(Default)]
pub(crate) struct Resampler {
    current: Option<(Shape, AudioResampler)>,
    /// Samples of a channel that it was given, at the source's rate.
    given: i64,
}

impl Resampler {
    /// Whether it holds nothing back.
    pub(crate) fn is_idle(&self) -> bool {
        self.current.is_none()
    }

    /// Adapts to the shape of a frame. Adds what it held back of another shape to `samples`.
    ///
    /// # Errors
    /// Frames of this shape cannot be resampled.
    pub(crate) fn fit(&mut self, frame: &AudioFrame, samples: &mut Vec<f32>) -> Result<(), ac_ffmpeg::Error> {
        let shape = (frame.sample_rate(), frame.channel_layout().to_owned(), frame.sample_format());
        if self.current.as_ref().is_some_and(|(made_for, _)| *made_for == shape) {
            return Ok(());
        }
        self.end(samples);
        let resampler = AudioResampler::builder()
            .source_sample_rate(shape.0)
            .source_channel_layout(shape.1.clone())
            .source_sample_format(shape.2)
            .target_sample_rate(RATE)
            .target_channel_layout(get_channel_layout("stereo"))
            .target_sample_format(get_sample_format("flt"))
            .build()?;
        self.current = Some((shape, resampler));
        self.given = 0;
        Ok(())
    }

    /// Adds the samples of a frame, which it [fits](Self::fit), to `samples`, interleaved.
    ///
    /// # Errors
    /// The frame cannot be resampled.
    pub(crate) fn push(&mut self, frame: AudioFrame, samples: &mut Vec<f32>) -> Result<(), ac_ffmpeg::Error> {
        if let Some((_, resampler)) = &mut self.current {
            // With stamps that count without a gap: ac-ffmpeg has samples stretched, or left out, to match those of the container,
            // which are rounded to milliseconds in Matroska. That is heard.
            let clock = TimeBase::new(1, i32::try_from(frame.sample_rate()).unwrap_or(i32::MAX));
            let count = frame.samples() as i64;
            resampler.push(frame.with_time_base(clock).with_pts(Timestamp::new(self.given, clock)))?;
            self.given += count;
        }
        self.take(samples);
        Ok(())
    }

    /// Adds what it holds back to `samples`, and ends.
    pub(crate) fn end(&mut self, samples: &mut Vec<f32>) {
        if let Some((_, resampler)) = &mut self.current {
            let _ = resampler.try_flush();
        }
        self.take(samples);
        self.current = None;
    }

    fn take(&mut self, samples: &mut Vec<f32>) {
        let Some((_, resampler)) = &mut self.current else { return };
        while let Ok(Some(frame)) = resampler.take() {
            let planes = frame.planes();
            let bytes = &planes[0].data()[..frame.samples() * CHANNELS * 4];
            samples.extend(bytes.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]])));
        }
    }
}
