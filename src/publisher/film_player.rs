//! A film, over and over: its pictures and its sound, each when it is due.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use opus::{Application, Bitrate, Channels};

use super::{NextUnit, Player};
use crate::clock::wall_clock;
use crate::content::decode::{self, PictureSource, SourceError};
use crate::content::encode::{Encoder, station_size};
use crate::content::sound::source::SoundSource;
use crate::content::sound::{CHANNELS, FRAME, RATE};
use crate::lineup::{DEFAULT_SLIDE, DEFAULT_SOUND_BITRATE, SoundChoice};
use crate::media::{AirTime, Due, Policy, Unit};

/// How long after its beginning the first picture is due. Decoding it takes some milliseconds.
const LEAD: Duration = Duration::from_millis(100);

/// How long before its picture sound is sent: a packet covers 20 ms.
const SOUND_AHEAD: Duration = Duration::from_millis(40);

/// The pictures that are encoded.
#[derive(Debug, Clone, Copy)]
pub struct Appearance {
    /// Most pixels in a row.
    pub width: u16,
    /// JPEG quality, 1..=99.
    pub quality: u8,
}

/// A film that plays.
pub(super) struct FilmPlayer {
    path: PathBuf,
    film: Box<dyn PictureSource>,
    encoder: Encoder,
    /// When the beginning of this round is due.
    begin: AirTime,
    /// When the last picture's time is over.
    end: AirTime,
    sound: Option<FilmSound>,
    /// Units in the order in which they are due.
    ready: VecDeque<Unit>,
}

/// The sound of a film.
struct FilmSound {
    /// `None` at its end.
    source: Option<SoundSource>,
    encoder: opus::Encoder,
    samples: Vec<f32>,
    /// When the next packet is due.
    due: AirTime,
}

impl FilmPlayer {
    /// Opens a film.
    ///
    /// # Errors
    /// It cannot be played.
    pub(super) fn open(path: &Path, appearance: Appearance) -> Result<FilmPlayer, SourceError> {
        let mut film = open(path)?;
        let failed = |reason: String| SourceError::Decoder { path: path.display().to_string(), reason };
        let size = station_size(film.size(), film.pixel_aspect(), appearance.width);
        film.make_for(size);
        let encoder = Encoder::new(size, appearance.quality).map_err(|error| failed(error.to_string()))?;
        // A film whose sound cannot be decoded is shown without.
        let sound = match SoundSource::open(path, &SoundChoice::Auto).ok().flatten() {
            Some(source) => {
                let mut encoder = opus::Encoder::new(RATE, Channels::Stereo, Application::LowDelay)
                    .map_err(|error| failed(error.to_string()))?;
                let bits = Bitrate::Bits(DEFAULT_SOUND_BITRATE as i32);
                encoder.set_bitrate(bits).map_err(|error| failed(error.to_string()))?;
                Some(FilmSound {
                    source: Some(source),
                    encoder,
                    samples: Vec::new(),
                    due: AirTime::default(),
                })
            }
            None => None,
        };
        Ok(FilmPlayer {
            path: path.to_owned(),
            film,
            encoder,
            begin: AirTime::default(),
            end: AirTime::default(),
            sound,
            ready: VecDeque::new(),
        })
    }

    /// Reads the next picture, and the sound that belongs to it.
    #[expect(clippy::disallowed_methods, reason = "a shell: pictures that are late are not encoded")]
    fn read(&mut self) -> Result<(), SourceError> {
        let interval = self.film.rate().interval();
        let Some(picture) = self.film.next_picture()? else {
            self.film = open(&self.path)?;
            if let Some(sound) = &mut self.sound {
                sound.source = SoundSource::open(&self.path, &SoundChoice::Auto).ok().flatten();
                sound.samples.clear();
                sound.due = sound.due.max(self.end);
            }
            self.begin = self.end;
            return Ok(());
        };
        let due = Due { at: self.begin + picture.stamp, interval };
        self.end = due.at + picture.lasts.unwrap_or(interval).max(interval);
        if let Some(sound) = &mut self.sound {
            while sound.due <= due.at + SOUND_AHEAD {
                self.ready.push_back(sound.next());
            }
        }
        if due.policy(wall_clock()) != Policy::Skip {
            let failed = |error: crate::content::encode::EncodeError| SourceError::Decoder {
                path: self.path.display().to_string(),
                reason: error.to_string(),
            };
            let encoded = self.encoder.encode(&picture.pixels).map_err(failed)?;
            self.ready.push_back(Unit::picture(due, encoded.jpeg));
        }
        self.ready.make_contiguous().sort_by_key(|unit| unit.due.at);
        Ok(())
    }
}

impl Player for FilmPlayer {
    fn has_sound(&self) -> bool {
        self.sound.is_some()
    }

    #[expect(clippy::disallowed_methods, reason = "a shell: the film goes on now")]
    fn begin(&mut self) {
        let now = wall_clock() + LEAD;
        self.ready.clear();
        // The film goes on where it was.
        let played = self.end.since(self.begin);
        (self.begin, self.end) = (now - played, now);
        if let Some(sound) = &mut self.sound {
            sound.due = now;
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a shell: it paces the film")]
    fn next(&mut self) -> Result<NextUnit, String> {
        if self.ready.is_empty() {
            self.read().map_err(|error| error.to_string())?;
        }
        let Some(unit) = self.ready.pop_front() else { return Ok(NextUnit::Nothing) };
        let now = wall_clock();
        match unit.policy(now) {
            Policy::Air => {}
            Policy::Skip => return Ok(NextUnit::Nothing),
            Policy::Reanchor => {
                // After a stall, as of a laptop that slept.
                let behind = now.since(unit.due.at);
                (self.begin, self.end) = (self.begin + behind, self.end + behind);
                if let Some(sound) = &mut self.sound {
                    sound.due = sound.due + behind;
                }
                self.ready.clear();
                return Ok(NextUnit::Nothing);
            }
        }
        sleep(unit.due.at.since(now));
        Ok(NextUnit::Unit(unit))
    }
}

impl FilmSound {
    /// The next packet. Silence behind the end of the sound.
    fn next(&mut self) -> Unit {
        let wanted = FRAME as usize * CHANNELS;
        while self.samples.len() < wanted {
            match self.source.as_mut().and_then(SoundSource::next) {
                Some(samples) => self.samples.extend(samples),
                None => {
                    self.source = None;
                    self.samples.resize(wanted, 0.0);
                }
            }
        }
        let samples: Vec<f32> = self.samples.drain(..wanted).collect();
        let packet = self.encoder.encode_vec_float(&samples, 1275).unwrap_or_default();
        let interval = Duration::from_millis(20);
        let due = Due { at: self.due, interval };
        self.due = self.due + interval;
        Unit::sound(due, packet.into())
    }
}

fn open(path: &Path) -> Result<Box<dyn PictureSource>, SourceError> {
    let mut film = decode::open(path)?;
    film.show_for(DEFAULT_SLIDE);
    Ok(film)
}
