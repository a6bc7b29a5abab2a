//! The sound line of a station: which packet is due when, film after film, without a gap. Pure.
//!
//! Packets follow each other on the clock of 48 kHz for ever: each begins where the one before ends. What a packet has is computed
//! from where the film is at that moment, never from a count of packets, so no error adds up. Where a film ends, packets of 2.5 ms
//! bridge to the next one, so sound is never more than 1.25 ms beside its picture. While there is no film, or none with sound, the
//! packets are silence.

use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use opus::{Application, Channels, Encoder};

use super::reel::SoundReel;
use super::{CHANNELS, FRAME, RATE, SHORT, opus_samples};
use crate::content::live::sound::{LivePacket, LiveSound};
use crate::media::{AirTime, Due, Unit};

/// A cue: from now on, this is heard.
#[derive(Debug, Clone)]
pub(crate) enum SoundCue {
    /// A film.
    Film {
        /// When the film's beginning is due. It may be past: then the film is joined where it is.
        begin: AirTime,
        /// Its sound.
        reel: Arc<SoundReel>,
    },
    /// A live source.
    Live(Arc<LiveSound>),
}

/// Half of the shortest packet: 1.25 ms.
const HALF: u64 = SHORT as u64 / 2;

/// A packet of live sound that has not come so long before its moment does not come in time.
const PATIENCE: Duration = Duration::from_millis(15);

/// Within this time behind a packet of live sound, silence is in short packets, so that the next one finds its place.
const PAUSE: u64 = RATE as u64 / 5;

/// The sound line of a station.
#[derive(Debug, Default)]
pub(crate) struct SoundLine {
    /// Where the next packet begins, in samples since the Unix epoch. 0 before the first.
    cursor: u64,
    heard: Option<Heard>,
}

/// The sound that is heard.
#[derive(Debug)]
enum Heard {
    Film(Playing),
    /// A live source, and where its last packet ended.
    Live(Arc<LiveSound>, u64),
}

/// A film that is heard.
#[derive(Debug)]
struct Playing {
    /// Where its beginning is, in samples since the Unix epoch.
    begin: u64,
    reel: Arc<SoundReel>,
    /// The block that was read last.
    block: Option<(u32, Bytes)>,
}

/// Silence of 20, 10, 5 and 2.5 ms.
static SILENCE: LazyLock<[(u32, Bytes); 4]> =
    LazyLock::new(|| [FRAME, FRAME / 2, FRAME / 4, SHORT].map(|samples| (samples, silence(samples))));

/// A packet of silence. If Opus does not code it, an empty packet of the same length, which decoders conceal.
fn silence(samples: u32) -> Bytes {
    let code = || {
        let mut encoder = Encoder::new(RATE, Channels::Stereo, Application::LowDelay)?;
        let zeros = vec![0.0; samples as usize * CHANNELS];
        let mut packet = Vec::new();
        // The second one: the first has what the filters make of a beginning.
        for _ in 0..2 {
            packet = encoder.encode_vec_float(&zeros, 64)?;
        }
        Ok::<_, opus::Error>(packet)
    };
    // The configurations of CELT at full band (RFC 6716 table 2), stereo, one frame.
    let empty = match samples {
        FRAME => 31 << 3 | 4,
        480 => 30 << 3 | 4,
        240 => 29 << 3 | 4,
        _ => 28 << 3 | 4,
    };
    code().unwrap_or_else(|_| vec![empty]).into()
}

impl SoundLine {
    /// From now on this is heard, or nothing.
    pub(crate) fn set(&mut self, cue: Option<SoundCue>) {
        self.heard = cue.map(|cue| match cue {
            SoundCue::Film { begin, reel } => {
                Heard::Film(Playing { begin: sample(begin), reel, block: None })
            }
            SoundCue::Live(sound) => Heard::Live(sound, 0),
        });
    }

    /// Whether a film or a live source is heard.
    pub(crate) fn is_heard(&self) -> bool {
        self.heard.is_some()
    }

    /// Whether a live source is heard.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.heard, Some(Heard::Live(..)))
    }

    /// Goes on at `moment`, if that is later than where the next packet begins.
    pub(crate) fn skip_to(&mut self, moment: AirTime) {
        self.cursor = self.cursor.max(sample(moment));
    }

    /// When the next packet is due.
    pub(crate) fn due(&self) -> AirTime {
        time(self.cursor)
    }

    /// The next packet, if it is over by `end`, give or take 1.25 ms. Of a live source, packets that are not there by `now` are
    /// waited for while there is time.
    ///
    /// # Errors
    /// The sound file cannot be read. The film is not heard any more.
    pub(crate) fn next(&mut self, end: AirTime, now: AirTime) -> Option<io::Result<Unit>> {
        let left = sample(end).saturating_add(HALF).saturating_sub(self.cursor);
        let (cursor, mut found) = (self.cursor, None);
        // The longest silence that leaves the next packet its place.
        let mut silence = u64::MAX;
        match &mut self.heard {
            None => {}
            Some(Heard::Film(film)) => match film.packet_at(cursor) {
                None => silence = film.until_packet(cursor),
                Some(n) => {
                    let samples = film.samples(n);
                    if u64::from(samples) > left {
                        return None;
                    }
                    match film.read(n) {
                        Ok(Some(packet)) => found = Some((samples, packet)),
                        Ok(None) => silence = film.until_packet(cursor),
                        Err(error) => {
                            self.heard = None;
                            return Some(Err(error));
                        }
                    }
                }
            },
            Some(Heard::Live(sound, until)) => {
                if u64::from(FRAME) > left {
                    return None;
                }
                match sound.take(cursor, HALF) {
                    LivePacket::Here(packet) => {
                        // A publisher's may be longer than ours, and is here already.
                        let samples = opus_samples(&packet).unwrap_or(FRAME);
                        *until = cursor + u64::from(samples);
                        return Some(Ok(self.unit(samples, packet)));
                    }
                    LivePacket::Later(samples) => silence = samples + HALF,
                    LivePacket::NotYet if time(cursor) > now + PATIENCE => return None,
                    LivePacket::NotYet if cursor < *until + PAUSE => silence = SHORT.into(),
                    LivePacket::NotYet => {}
                }
            }
        }
        let (samples, packet) = found.unwrap_or_else(|| {
            SILENCE.iter().find(|(samples, _)| u64::from(*samples) <= silence).unwrap_or(&SILENCE[3]).clone()
        });
        if u64::from(samples) > left {
            return None;
        }
        Some(Ok(self.unit(samples, packet)))
    }

    /// The next packet, of so many samples.
    fn unit(&mut self, samples: u32, packet: Bytes) -> Unit {
        let at = time(self.cursor);
        self.cursor += u64::from(samples);
        Unit::sound(Due { at, interval: time(self.cursor).since(at) }, packet)
    }
}

impl Playing {
    /// The packet that belongs to `cursor`: it begins within 1.25 ms of it. The last short packets of a round are left out if the
    /// next round begins instead.
    fn packet_at(&self, cursor: u64) -> Option<u32> {
        let before = (cursor + HALF).checked_sub(self.begin)?;
        let n = self.reel.from(before.saturating_sub(2 * HALF));
        let is_here =
            n < self.reel.len() && self.reel.start(n) <= before && before < self.reel.header().length;
        is_here.then_some(n)
    }

    /// Samples from `cursor` until the next packet begins, and 1.25 ms; far more if there is none.
    fn until_packet(&self, cursor: u64) -> u64 {
        let before = (cursor + HALF).saturating_sub(self.begin);
        let n = self.reel.from(before.saturating_sub(2 * HALF));
        if n >= self.reel.len() || before >= self.reel.header().length {
            return u64::MAX;
        }
        (self.begin + self.reel.start(n) + HALF).saturating_sub(cursor)
    }

    /// Samples of packet `n`.
    fn samples(&self, n: u32) -> u32 {
        (self.reel.start(n + 1) - self.reel.start(n)) as u32
    }

    /// Packet `n`; `None` if it is not in memory: a disk is not waited for.
    fn read(&mut self, n: u32) -> io::Result<Option<Bytes>> {
        let place = self.reel.place(n);
        let known =
            self.block.as_ref().filter(|(block, _)| *block == place.block).map(|(_, bytes)| bytes.clone());
        let bytes = match known {
            Some(bytes) => bytes,
            None => {
                let Some(bytes) = self.reel.try_block(place.block)? else {
                    self.reel.read_ahead(place.block);
                    return Ok(None);
                };
                self.reel.read_ahead(place.block + 1);
                self.block.insert((place.block, bytes)).1.clone()
            }
        };
        Ok(Some(bytes.slice(place.from..place.to)))
    }
}

/// A moment in samples since the Unix epoch, rounded.
pub(crate) fn sample(moment: AirTime) -> u64 {
    ((u128::from(moment.0) * u128::from(RATE) + 500_000_000) / 1_000_000_000) as u64
}

/// The moment of a sample: the first nanosecond at which the clock has counted it.
pub(crate) fn time(sample: u64) -> AirTime {
    AirTime((u128::from(sample) * 1_000_000_000).div_ceil(u128::from(RATE)) as u64)
}
