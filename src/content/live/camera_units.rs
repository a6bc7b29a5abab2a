//! A camera of this machine, and its microphone, as units that are sent on as soon as they come: for a publisher, which has no air to
//! wait for.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::arrivals::{Arrival, Arrivals, PictureBody, Stamped};
use super::camera;
use super::microphone::Microphone;
use super::pacing::{Pacing, SOUND_BUFFER};
use super::picture::Shown;
use super::rate::RateMeter;
use super::sound::{LiveSound, SoundMaker};
use crate::clock::AirClock;
use crate::content::encode::{Encoded, Encoder};
use crate::content::sound::{FRAME, RATE, moment};
use crate::lineup::{CameraDevice, DEFAULT_SOUND_BITRATE};
use crate::media::{Due, Unit};
use crate::wire::sdp::offers::Coding;

/// A camera that gives units.
pub(crate) struct CameraUnits {
    device: CameraDevice,
    /// Whether its microphone is heard.
    has_sound: bool,
    width: u16,
    quality: u8,
    clock: AirClock,
    /// The runtime on which the caller waits for arrivals.
    runtime: Runtime,
    /// `None` before the camera is opened, and after it was lost.
    arrivals: Option<Arrivals>,
    rate: RateMeter,
    pacing: Pacing,
    encoder: Option<Box<Encoder>>,
    /// `None` before the camera says that there is sound.
    maker: Option<SoundMaker>,
    packets: LiveSound,
    ready: VecDeque<Unit>,
}

impl CameraUnits {
    /// A camera whose pictures are passed on if they are JPEG and at most `width` wide; others are encoded at this quality.
    ///
    /// # Errors
    /// The system has no room for it.
    pub(crate) fn new(
        device: CameraDevice,
        has_sound: bool,
        width: u16,
        quality: u8,
    ) -> std::io::Result<CameraUnits> {
        Ok(CameraUnits {
            device,
            has_sound,
            width,
            quality,
            clock: AirClock::start(),
            runtime: Builder::new_current_thread().enable_time().build()?,
            arrivals: None,
            rate: RateMeter::default(),
            pacing: Pacing::default(),
            encoder: None,
            maker: None,
            packets: LiveSound::default(),
            ready: VecDeque::new(),
        })
    }

    /// Whether its microphone is heard.
    pub(crate) fn has_sound(&self) -> bool {
        self.has_sound
    }

    /// Drops the arrivals that were not taken.
    pub(crate) fn skip(&mut self) {
        self.ready.clear();
        let Some(arrivals) = &mut self.arrivals else { return };
        let mut begun = None;
        while let Some(arrival) = arrivals.waiting() {
            if let Ok(Arrival::Tracks { sound, .. }) = arrival {
                begun = Some(sound);
            }
        }
        if let Some(sound) = begun {
            self.begin_sound(sound);
        }
    }

    /// The next unit; `None` if there is none within `patience`. It is due when it came.
    ///
    /// # Errors
    /// The sentence that says why the camera is lost. The next call opens it again.
    pub(crate) fn next(&mut self, patience: Duration) -> Result<Option<Unit>, String> {
        if let Some(unit) = self.ready.pop_front() {
            return Ok(Some(unit));
        }
        let arrivals = self.arrivals.get_or_insert_with(|| {
            let microphone = self.has_sound.then(|| Microphone {
                device: self.device.microphone.clone(),
                heard_by: "what is published".into(),
            });
            camera::begin(self.device.clone(), microphone, self.clock.clone())
        });
        let arrival = self.runtime.block_on(async { timeout(patience, arrivals.next()).await });
        match arrival {
            Err(_) => {}
            Ok(Ok(Arrival::Tracks { sound, .. })) => self.begin_sound(sound),
            Ok(Ok(Arrival::Picture(picture))) => self.take(picture),
            Ok(Ok(Arrival::Sound(sound))) => self.take_sound(&sound),
            Ok(Err(reason)) => {
                (self.arrivals, self.maker) = (None, None);
                (self.rate, self.pacing) = (RateMeter::default(), Pacing::default());
                return Err(reason);
            }
        }
        Ok(self.ready.pop_front())
    }

    fn begin_sound(&mut self, sound: Option<(Coding, u32)>) {
        let maker = |(coding, clock_rate)| SoundMaker::new(&coding, clock_rate, DEFAULT_SOUND_BITRATE);
        // Without an encoder there is silence.
        self.maker = sound.and_then(|sound| maker(sound).ok().flatten());
    }

    /// Keeps a picture as a unit: as it came, or encoded. A picture that cannot be shown is left out.
    fn take(&mut self, picture: Stamped<PictureBody>) {
        let Stamped { at, body, .. } = picture;
        self.rate.count(at);
        let shown = match body {
            PictureBody::File(file) => Shown::File(file),
            PictureBody::Pixels(pixels) => Shown::Pixels(pixels),
            PictureBody::Jpeg(_) | PictureBody::Unit(_) => return,
        };
        let jpeg = match shown.pass_on(self.width) {
            Ok(jpeg) => jpeg,
            Err(_) => match shown.encode_anew(self.encoder.take(), self.width, self.quality) {
                Ok((encoder, Encoded { jpeg, .. })) => {
                    self.encoder = Some(encoder);
                    jpeg
                }
                Err(_) => return,
            },
        };
        let due = Due { at, interval: self.rate.interval() };
        self.ready.push_back(Unit::picture(due, jpeg));
    }

    fn take_sound(&mut self, sound: &Stamped<bytes::Bytes>) {
        let (Some(maker), Some(stamp)) = (&mut self.maker, sound.stamp) else { return };
        // The place that a station without a buffer would give it, less what a station waits.
        let place = self.pacing.sound_place(sound.at, stamp, false, Duration::ZERO) - SOUND_BUFFER;
        // A packet that cannot be coded is a gap.
        let _ = maker.take(&sound.body, place, &self.packets);
        while let Some((begin, packet)) = self.packets.pop() {
            let interval = Duration::from_secs(1) * FRAME / RATE;
            self.ready.push_back(Unit::sound(Due { at: moment(begin), interval }, packet));
        }
    }
}
