//! The sound of a film as samples, on the time line of its pictures.
//!
//! libavcodec decodes, since OpenCV does not know sound, and libswresample brings every sound track to 48 kHz and two channels.
//! Sample 0 is heard with the first picture: OpenCV and libav give pictures times from the start of the picture track, so the
//! samples are counted from there, too.

use std::collections::VecDeque;
use std::path::Path;

use ac_ffmpeg::codec::Decoder;
use ac_ffmpeg::codec::audio::{AudioDecoder, AudioFrame};
use film_facts::{Film as FilmFacts, FilmTrack, TrackKind};

use super::resampler::Resampler;
use super::{CHANNELS, RATE};
use crate::content::decode::{FilmDemuxer, SourceError, demux};
use crate::lineup::SoundChoice;

/// Stamps that differ by less than this from the count of samples are rounded, not a gap: containers that count milliseconds, and
/// MP3 and AAC frames of up to 43 ms in them. Lip sync allows more (EBU R 37: +40 ms, -60 ms).
const TOLERANCE: i64 = RATE as i64 / 50;

/// After so many failures to read, what is left of the film is given up.
const MOST_UNREADABLE: u64 = 1000;

/// Longest gap that is filled, in samples: ten minutes. A greater one is a broken stamp.
const LONGEST_GAP: i64 = 600 * RATE as i64;

/// The sound of a film: interleaved stereo samples at 48 kHz, without gaps.
pub(crate) struct SoundSource {
    film: FilmDemuxer,
    track: usize,
    decoder: AudioDecoder,
    resampler: Resampler,
    /// The start of the picture track, in microseconds of the container's clock.
    origin: i64,
    /// Where the next decoded sample belongs: samples of a channel, from the first picture.
    place: i64,
    ready: VecDeque<Chunk>,
    flushed: bool,
    /// How often reading failed.
    unreadable: u64,
    /// How many packets did not decode, or could not be read.
    broken: u64,
}

/// A piece of the sound.
enum Chunk {
    /// Interleaved samples.
    Samples(Vec<f32>),
    /// So many samples of silence in each channel.
    Silence(usize),
}

/// The number of the sound track of a film that `choice` selects; `None` if it has none. A language that the film does not have is
/// no reason for silence: the default track is heard.
pub(crate) fn sound_track(film: &FilmFacts, choice: &SoundChoice) -> Option<usize> {
    let tracks = || {
        let tracks = film.tracks.iter().enumerate();
        tracks.filter(|(_, track)| track.kind == TrackKind::Sound && track.decodable)
    };
    let default = || tracks().find(|(_, track)| track.is_default).or_else(|| tracks().next());
    let chosen = match choice {
        SoundChoice::Off => return None,
        SoundChoice::Auto | SoundChoice::On => None,
        SoundChoice::Language(language) => {
            tracks().find(|(_, track)| track.language.eq_ignore_ascii_case(language))
        }
        SoundChoice::Track(number) => tracks().nth(usize::from(*number).saturating_sub(1)),
    };
    chosen.or_else(default).map(|(number, _)| number)
}

/// The usual layout of channels, where the film says no more than how many there are: containers of PCM, ADPCM, Windows Media. Without
/// one, nothing can be resampled.
fn usual_layout(track: &FilmTrack) -> Option<&'static str> {
    let names = ["mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1"];
    names.get(track.unnamed_channels?.checked_sub(1)? as usize).copied()
}

impl SoundSource {
    /// Opens the sound of the film at `path`; `None` if it has none. Blocks for some milliseconds.
    ///
    /// # Errors
    /// The film cannot be read, or its sound cannot be decoded here.
    pub(crate) fn open(path: &Path, choice: &SoundChoice) -> Result<Option<SoundSource>, SourceError> {
        let failed = |reason: String| SourceError::Decoder { path: path.display().to_string(), reason };
        let facts = film_facts::read(path).map_err(|error| failed(error.to_string()))?;
        let Some(track) = sound_track(&facts, choice) else { return Ok(None) };
        let pictures =
            facts.tracks.iter().find(|track| track.kind == TrackKind::Pictures && !track.attached_picture);
        let film = demux(path, None).map_err(|error| failed(error.to_string()))?;
        let decoder =
            film.streams().get(track).ok_or_else(|| failed("its sound track is gone".into())).and_then(
                |stream| {
                    let layout = usual_layout(&facts.tracks[track]);
                    AudioDecoder::from_stream(stream)
                        .and_then(|builder| match layout {
                            Some(layout) => builder.set_option("ch_layout", layout).build(),
                            None => builder.build(),
                        })
                        .map_err(|error| failed(error.to_string()))
                },
            )?;
        Ok(Some(SoundSource {
            film,
            track,
            decoder,
            resampler: Resampler::default(),
            origin: pictures.and_then(|pictures| pictures.start_micros).unwrap_or(0),
            place: 0,
            ready: VecDeque::new(),
            flushed: false,
            unreadable: 0,
            broken: 0,
        }))
    }

    /// How many packets did not decode so far. They are silence.
    pub(crate) fn broken(&self) -> u64 {
        self.broken
    }

    /// The next samples, interleaved, up to a second of them; `None` at the end of the sound. Blocks while decoding.
    pub(crate) fn next(&mut self) -> Option<Vec<f32>> {
        loop {
            match self.ready.pop_front() {
                Some(Chunk::Samples(samples)) => return Some(samples),
                Some(Chunk::Silence(mut left)) => {
                    let now = left.min(RATE as usize);
                    left -= now;
                    if left > 0 {
                        self.ready.push_front(Chunk::Silence(left));
                    }
                    return Some(vec![0.0; now * CHANNELS]);
                }
                None => {}
            }
            match self.decoder.take() {
                Ok(Some(frame)) => {
                    if self.resample(frame).is_err() {
                        self.resampler = Resampler::default();
                        self.broken += 1;
                    }
                }
                Ok(None) if !self.flushed => self.read(),
                Ok(None) if self.resampler.is_idle() => return None,
                Ok(None) => self.end_resampler(),
                Err(_) if self.flushed => return None,
                Err(_) => {
                    self.broken += 1;
                    self.read();
                }
            }
        }
    }

    fn read(&mut self) {
        match self.film.as_mut().take() {
            Ok(Some(packet)) if packet.stream_index() == self.track => {
                self.broken += u64::from(self.decoder.try_push(packet).is_err());
            }
            Ok(Some(_)) => {}
            // Behind damage libavformat often finds the next packet.
            Err(_) if self.unreadable < MOST_UNREADABLE => {
                self.unreadable += 1;
                self.broken += 1;
            }
            Ok(None) | Err(_) => {
                self.flushed = true;
                let _ = self.decoder.try_flush();
            }
        }
    }

    /// Adds a frame to `ready`, at the place that its stamp has.
    fn resample(&mut self, frame: AudioFrame) -> Result<(), ac_ffmpeg::Error> {
        let gap = match frame.pts().as_micros() {
            Some(micros) => {
                let stamp = i128::from(micros.saturating_sub(self.origin)) * i128::from(RATE) / 1_000_000;
                i64::try_from(stamp).unwrap_or(i64::MAX).saturating_sub(self.place)
            }
            None => 0,
        };
        let tolerance = if self.place == 0 { 0 } else { TOLERANCE };
        let mut skip = 0;
        if (tolerance + 1..LONGEST_GAP).contains(&gap) {
            let before = self.place;
            self.end_resampler();
            // What the resampler held back has taken some of the gap.
            let silence = (gap - (self.place - before)).max(0);
            self.ready.push_back(Chunk::Silence(silence as usize));
            self.place += silence;
        } else if gap < -tolerance {
            skip = gap.unsigned_abs() as usize;
        }
        let mut samples = Vec::new();
        let fits = self.resampler.fit(&frame, &mut samples);
        self.add(std::mem::take(&mut samples), 0);
        fits?;
        self.resampler.push(frame, &mut samples)?;
        self.add(samples, skip);
        Ok(())
    }

    /// Adds samples to `ready`, but for `skip` of a channel: these come before the first picture, or were heard already.
    fn add(&mut self, mut samples: Vec<f32>, skip: usize) {
        samples.drain(..samples.len().min(skip.saturating_mul(CHANNELS)));
        if !samples.is_empty() {
            self.place += (samples.len() / CHANNELS) as i64;
            self.ready.push_back(Chunk::Samples(samples));
        }
    }

    /// Takes what the resampler holds back, and ends it.
    fn end_resampler(&mut self) {
        let mut samples = Vec::new();
        self.resampler.end(&mut samples);
        self.add(samples, 0);
    }
}
