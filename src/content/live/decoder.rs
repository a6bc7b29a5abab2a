//! Decodes live tracks: access units of H.264 and H.265 to pictures, packets of sound to samples. It does not know how they came:
//! cameras and publishers use it alike. Decoding takes milliseconds, on a thread that may block.

use std::time::Duration;

use ac_ffmpeg::codec::audio::AudioDecoder;
use ac_ffmpeg::codec::audio::frame::{ChannelLayout, get_channel_layout};
use ac_ffmpeg::codec::video::filter::VideoFilter;
use ac_ffmpeg::codec::video::{VideoDecoder, VideoFrame};
use ac_ffmpeg::codec::{AudioCodecParameters, Decoder, Filter};
use ac_ffmpeg::packet::PacketMut;
use ac_ffmpeg::time::{TimeBase, Timestamp};
use opencv::core::Mat;

use super::picture::MOST_PIXELS;
use crate::content::decode::{Shape, mat, shape_of};
use crate::content::sound::resampler::Resampler;
use crate::content::sound::{CHANNELS, RATE};
use crate::wire::payload::h26x::{NalCodec, is_key};
use crate::wire::sdp::offers::Coding;

/// Most bytes of a sound packet's samples: a second of eight channels.
const MOST_SAMPLES: usize = RATE as usize * 8;

/// A picture, decoded.
pub(crate) struct DecodedPicture {
    /// Its pixels, blue, green and red, which are square.
    pub(crate) pixels: Mat,
    /// The stamp of its access unit.
    pub(crate) stamp: Duration,
}

/// A decoder of one track of pictures.
pub(crate) struct PictureDecoder {
    codec: NalCodec,
    decoder: VideoDecoder,
    /// The shape of the current pictures and the station's width, and the filter for them.
    filter: Option<((Shape, u16), VideoFilter)>,
    /// No picture can be decoded before the first key picture.
    awaits_key: bool,
}

impl PictureDecoder {
    /// A decoder that knows these parameter sets, with start codes; perhaps none. Others come with the pictures.
    ///
    /// # Errors
    /// The sentence that says why there is none.
    pub(crate) fn new(codec: NalCodec, parameter_sets: &[u8]) -> Result<PictureDecoder, String> {
        let name = match codec {
            NalCodec::H264 => "h264",
            NalCodec::H265 => "hevc",
        };
        let failed = |error: ac_ffmpeg::Error| format!("no decoder of {name}: {error}");
        let decoder = VideoDecoder::builder(name)
            .map_err(failed)?
            // Threads that decode pictures side by side give each of them later.
            .set_option("threads", 1)
            .set_option("max_pixels", MOST_PIXELS)
            .extradata(Some(parameter_sets).filter(|sets| !sets.is_empty()))
            .build()
            .map_err(failed)?;
        Ok(PictureDecoder { codec, decoder, filter: None, awaits_key: true })
    }

    /// Decodes an access unit that has this stamp, for a station of this width. Returns the pictures that are ready in the order
    /// in which they are shown: usually one; none or several if the pictures were coded in another order.
    ///
    /// # Errors
    /// The sentence that says why it cannot be decoded. The next one may be.
    pub(crate) fn decode(
        &mut self,
        unit: &[u8],
        stamp: Duration,
        width: u16,
    ) -> Result<Vec<DecodedPicture>, String> {
        // H.264's decoder knows by itself when its pictures are good; there, streams without key pictures refresh little by little.
        if self.awaits_key && self.codec == NalCodec::H265 && !is_key(self.codec, unit) {
            return Ok(Vec::new());
        }
        self.awaits_key = false;
        let failed = |error: &dyn std::fmt::Display| format!("a picture cannot be decoded: {error}");
        let mut packet = PacketMut::new(unit.len());
        packet.data_mut().copy_from_slice(unit);
        let stamp = Timestamp::from_micros(i64::try_from(stamp.as_micros()).unwrap_or(i64::MAX));
        let pushed = self.decoder.try_push(packet.with_pts(stamp).freeze());
        let mut pictures = Vec::new();
        while let Some(frame) = self.decoder.take().map_err(|error| failed(&error))? {
            pictures.extend(self.show(frame, width).map_err(|error| failed(&error))?);
        }
        pushed.map_err(|error| failed(&error))?;
        Ok(pictures)
    }

    /// Makes of a decoded picture what is shown.
    fn show(&mut self, frame: VideoFrame, width: u16) -> Result<Option<DecodedPicture>, String> {
        let stamp = frame.best_effort_timestamp();
        let made_for = (shape_of(&frame), width);
        let filter = match &mut self.filter {
            Some((shape, filter)) if *shape == made_for => filter,
            _ => {
                let ((coded_width, coded_height, format), _) = made_for;
                let filter = VideoFilter::builder(coded_width, coded_height, format)
                    .output_time_base(TimeBase::MICROSECONDS)
                    .build(&to_pixels(width))
                    .map_err(|error| error.to_string())?;
                &mut self.filter.insert((made_for, filter)).1
            }
        };
        let frame = frame.with_time_base(TimeBase::MICROSECONDS).with_pts(stamp);
        filter.try_push(frame).map_err(|error| error.to_string())?;
        let Some(frame) = filter.take().map_err(|error| error.to_string())? else { return Ok(None) };
        let pixels = mat(&frame).map_err(|error| error.message)?;
        let micros = stamp.as_micros().and_then(|micros| u64::try_from(micros).ok());
        Ok(micros.map(|micros| DecodedPicture { pixels, stamp: Duration::from_micros(micros) }))
    }
}

/// The filters for a station of this width: square pixels, and no more of them than twice as wide as the station, since converting
/// the colours of a picture of 3840x2160 takes as long as decoding it.
fn to_pixels(width: u16) -> String {
    // A sender may say of its pixels what it likes.
    let aspect = "clip(sar,0.25,4)";
    let most = 2 * u32::from(width);
    format!(
        "scale=w='min(iw*{aspect},{most})':h='max(16,ih*min(1,{most}/(iw*{aspect})))':flags=area,\
         format=bgr24,settb=AVTB"
    )
}

/// A decoder of one track of sound.
pub(crate) struct SoundDecoder {
    decoder: SoundCodec,
    resampler: Resampler,
}

enum SoundCodec {
    Opus(Box<opus::Decoder>),
    Libav(Box<AudioDecoder>),
}

impl SoundDecoder {
    /// A decoder of sound that is coded like this; `None` if that is no sound.
    ///
    /// # Errors
    /// The sentence that says why there is none.
    pub(crate) fn new(coding: &Coding, clock_rate: u32) -> Result<Option<SoundDecoder>, String> {
        let libav = |name: &str, channels: Option<u8>, parameters: Option<&[u8]>| {
            let failed = |error: ac_ffmpeg::Error| format!("no decoder of {}: {error}", coding.name());
            let mut codec = AudioCodecParameters::builder(name)
                .map_err(failed)?
                .sample_rate(clock_rate)
                .extradata(parameters);
            if let Some(layout) = channels.and_then(layout) {
                codec = codec.channel_layout(&layout);
            }
            let decoder = AudioDecoder::from_codec_parameters(&codec.build()).and_then(|d| d.build());
            Ok::<_, String>(SoundCodec::Libav(Box::new(decoder.map_err(failed)?)))
        };
        let decoder = match coding {
            Coding::Jpeg | Coding::Nal(..) => return Ok(None),
            Coding::Opus => {
                let decoder = opus::Decoder::new(RATE, opus::Channels::Stereo);
                SoundCodec::Opus(Box::new(decoder.map_err(|error| format!("no decoder of Opus: {error}"))?))
            }
            Coding::Aac(_, config) => libav("aac", None, Some(config))?,
            Coding::Pcmu(channels) => libav("pcm_mulaw", Some(*channels), None)?,
            Coding::Pcma(channels) => libav("pcm_alaw", Some(*channels), None)?,
            Coding::L16(channels) => libav("pcm_s16be", Some(*channels), None)?,
        };
        Ok(Some(SoundDecoder { decoder, resampler: Resampler::default() }))
    }

    /// The samples of a packet, interleaved, at [`RATE`] and with [`CHANNELS`].
    ///
    /// # Errors
    /// The sentence that says why it cannot be decoded. The next one may be.
    pub(crate) fn decode(&mut self, packet: &[u8]) -> Result<Vec<f32>, String> {
        let failed = |error: &dyn std::fmt::Display| format!("a packet of sound cannot be decoded: {error}");
        let mut samples = Vec::new();
        match &mut self.decoder {
            SoundCodec::Opus(decoder) => {
                // The longest packet has 120 ms (RFC 6716 section 2.1.4).
                samples.resize(RATE as usize / 1000 * 120 * CHANNELS, 0.0);
                let found =
                    decoder.decode_float(packet, &mut samples, false).map_err(|error| failed(&error))?;
                samples.truncate(found * CHANNELS);
            }
            SoundCodec::Libav(decoder) => {
                if packet.is_empty() || packet.len() > MOST_SAMPLES {
                    return Err(failed(&format_args!("it has {} bytes", packet.len())));
                }
                let mut unit = PacketMut::new(packet.len());
                unit.data_mut().copy_from_slice(packet);
                decoder.try_push(unit.freeze()).map_err(|error| failed(&error))?;
                while let Some(frame) = decoder.take().map_err(|error| failed(&error))? {
                    self.resampler.fit(&frame, &mut samples).map_err(|error| failed(&error))?;
                    self.resampler.push(frame, &mut samples).map_err(|error| failed(&error))?;
                }
            }
        }
        Ok(samples)
    }
}

/// The usual layout of so many channels.
fn layout(channels: u8) -> Option<ChannelLayout> {
    let names = ["mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1"];
    names.get(usize::from(channels).checked_sub(1)?).map(|name| get_channel_layout(name))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ac_ffmpeg::codec::bsf::BitstreamFilter;
    use opencv::prelude::*;

    use super::*;
    use crate::content::decode::demux;
    use crate::wire::payload::aac::AacFormat;

    /// The access units of a demo clip, which is H.264 with B-frames, as a camera would send them: with start codes.
    fn access_units() -> Vec<(Duration, Vec<u8>)> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("media/nature.mp4");
        let mut film = demux(&path, None).unwrap();
        let is_video = |parameters: &ac_ffmpeg::codec::CodecParameters| parameters.is_video_codec();
        let track = film.streams().iter().position(|stream| is_video(&stream.codec_parameters())).unwrap();
        let mut filter = BitstreamFilter::builder("h264_mp4toannexb")
            .unwrap()
            .input_codec_parameters(&film.streams()[track].codec_parameters())
            .build()
            .unwrap();
        let mut units = Vec::new();
        while let Some(packet) = film.as_mut().take().unwrap() {
            if packet.stream_index() == track {
                let stamp = packet.pts().as_micros().unwrap();
                filter.push(packet).unwrap();
                let bytes = filter.take().unwrap().unwrap().data().to_vec();
                units.push((Duration::from_micros(u64::try_from(stamp).unwrap()), bytes));
            }
        }
        units
    }

    #[test]
    fn pictures_come_in_their_order_with_the_stamps_of_their_units() {
        let units = access_units();
        let mut decoder = PictureDecoder::new(NalCodec::H264, &[]).unwrap();
        let mut shown = Vec::new();
        for (stamp, unit) in &units {
            for picture in decoder.decode(unit, *stamp, 64).unwrap() {
                assert_eq!(picture.pixels.cols(), 128, "twice the station's width is enough");
                shown.push(picture.stamp);
            }
        }
        let mut stamps: Vec<Duration> = units.iter().map(|(stamp, _)| *stamp).collect();
        stamps.sort_unstable();
        // The last ones wait for what follows.
        assert!(shown.len() + 4 >= stamps.len(), "{} of {}", shown.len(), stamps.len());
        assert_eq!(shown, stamps[..shown.len()]);
    }

    #[test]
    fn a_decoder_that_begins_in_the_middle_shows_whole_pictures_only() {
        let units = access_units();
        let mut decoder = PictureDecoder::new(NalCodec::H264, &[]).unwrap();
        // Of the first second: later there is a picture of which the encoder says that one can begin there.
        for (stamp, unit) in &units[1..25] {
            // It may say that it cannot decode this, and shows nothing.
            let shown = decoder.decode(unit, *stamp, 640).map_or(0, |pictures| pictures.len());
            assert_eq!(shown, 0, "{stamp:?}");
        }
    }

    #[test]
    fn garbage_is_no_picture_and_does_no_harm() {
        let units = access_units();
        let mut random = fastrand::Rng::with_seed(5);
        for codec in [NalCodec::H264, NalCodec::H265] {
            let mut decoder = PictureDecoder::new(codec, &[0, 0, 0, 1, 0x67, 1]).unwrap();
            for (stamp, unit) in units.iter().take(60) {
                let mut unit = unit.clone();
                for _ in 0..20 {
                    let at = random.usize(..unit.len());
                    unit[at] = random.u8(..);
                }
                let _ = decoder.decode(&unit, *stamp, 640);
            }
        }
    }

    #[test]
    fn sound_of_each_coding_has_our_rate_and_channels() {
        // 20 ms of silence, but for what the resampler holds back.
        for (coding, clock_rate, packet) in [
            (Coding::Pcma(1), 8000, vec![0xd5; 160]),
            (Coding::Pcmu(1), 8000, vec![0xff; 160]),
            (Coding::L16(2), 44_100, vec![0; 4 * 882]),
            (Coding::L16(1), 48_000, vec![0; 2 * 960]),
        ] {
            let mut decoder = SoundDecoder::new(&coding, clock_rate).unwrap().unwrap();
            let samples: Vec<f32> = (0..10).flat_map(|_| decoder.decode(&packet).unwrap()).collect();
            let whole = 10 * 960 * CHANNELS;
            assert!((whole - 400..=whole).contains(&samples.len()), "{coding:?}: {}", samples.len());
            assert!(samples.iter().all(|sample| sample.abs() < 0.001), "{coding:?}");
        }
        let wrong = Coding::Aac(AacFormat::HIGH_RATE, vec![0xff; 2]);
        let decoded = SoundDecoder::new(&wrong, 48_000).map(|decoder| decoder.unwrap().decode(&[1, 2, 3]));
        assert!(!matches!(decoded, Ok(Ok(samples)) if !samples.is_empty()));
    }
}
