//! The sound line of a station: which packet is due when, film after film, without a gap. Pure.
//!
//! Packets follow each other on the clock of 48 kHz for ever: each begins where the one before ends. What a packet has is computed
//! from where the film is at that moment, never from a count of packets, so no error adds up. Where a film ends, packets of 2.5 ms
//! bridge to the next one, so sound is never more than 1.25 ms beside its picture. While there is no film, or none with sound, the
//! packets are silence.

use std::io;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use opus::{Application, Channels, Encoder};

use super::reel::SoundReel;
use super::{CHANNELS, FRAME, RATE, SHORT};
use crate::media::{AirTime, Due, Unit};

/// A cue: from now on, this film is heard.
#[derive(Debug, Clone)]
pub(crate) struct SoundCue {
    /// When the film's beginning is due. It may be past: then the film is joined where it is.
    pub(crate) begin: AirTime,
    /// Its sound.
    pub(crate) reel: Arc<SoundReel>,
}

/// Half of the shortest packet: 1.25 ms.
const HALF: u64 = SHORT as u64 / 2;

/// The sound line of a station.
#[derive(Debug, Default)]
pub(crate) struct SoundLine {
    /// Where the next packet begins, in samples since the Unix epoch. 0 before the first.
    cursor: u64,
    cue: Option<Playing>,
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
    /// From now on this film is heard, or none.
    pub(crate) fn set(&mut self, cue: Option<SoundCue>) {
        self.cue = cue.map(|SoundCue { begin, reel }| Playing { begin: sample(begin), reel, block: None });
    }

    /// Whether a film is heard.
    pub(crate) fn is_heard(&self) -> bool {
        self.cue.is_some()
    }

    /// Goes on at `moment`, if that is later than where the next packet begins.
    pub(crate) fn skip_to(&mut self, moment: AirTime) {
        self.cursor = self.cursor.max(sample(moment));
    }

    /// When the next packet is due.
    pub(crate) fn due(&self) -> AirTime {
        time(self.cursor)
    }

    /// The next packet, if it is over by `end`, give or take 1.25 ms.
    ///
    /// # Errors
    /// The sound file cannot be read. The film is not heard any more.
    pub(crate) fn next(&mut self, end: AirTime) -> Option<io::Result<Unit>> {
        let left = sample(end).saturating_add(HALF).saturating_sub(self.cursor);
        let mut film = None;
        if let Some(playing) = &mut self.cue
            && let Some(n) = playing.packet_at(self.cursor)
        {
            if u64::from(playing.samples(n)) > left {
                return None;
            }
            match playing.read(n) {
                Ok(packet) => film = packet.map(|packet| (playing.samples(n), packet)),
                Err(error) => {
                    self.cue = None;
                    return Some(Err(error));
                }
            }
        }
        let (samples, packet) = film.unwrap_or_else(|| {
            let most = self.cue.as_ref().map_or(u64::MAX, |playing| playing.until_packet(self.cursor));
            SILENCE.iter().find(|(samples, _)| u64::from(*samples) <= most).unwrap_or(&SILENCE[3]).clone()
        });
        if u64::from(samples) > left {
            return None;
        }
        let at = time(self.cursor);
        self.cursor += u64::from(samples);
        Some(Ok(Unit::sound(Due { at, interval: time(self.cursor).since(at) }, packet)))
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
fn sample(moment: AirTime) -> u64 {
    ((u128::from(moment.0) * u128::from(RATE) + 500_000_000) / 1_000_000_000) as u64
}

/// The moment of a sample: the first nanosecond at which the clock has counted it.
fn time(sample: u64) -> AirTime {
    AirTime((u128::from(sample) * 1_000_000_000).div_ceil(u128::from(RATE)) as u64)
}
