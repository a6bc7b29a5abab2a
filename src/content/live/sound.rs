//! The sound of a live source: decoded, brought to the station's clock, and coded as Opus, in packets that wait until they are on air.

use std::collections::VecDeque;
use std::sync::Mutex;

use bytes::Bytes;
use opus::{Application, Bitrate, Channels, Encoder};

use super::decoder::SoundDecoder;
use crate::content::lock;
use crate::content::sound::{CHANNELS, FRAME, RATE, opus_samples, sample};
use crate::media::AirTime;
use crate::wire::sdp::offers::Coding;

/// Most packets that wait: 2.5 s, the longest buffer and half a second. The oldest make room.
const MOST_WAITING: usize = 125;

/// Sound that is farther from its place than this is put there at once: 20 ms, half of what EBU R 37 allows. Sound that is nearer is
/// stretched.
const JUMP: i64 = RATE as i64 / 50;

/// Longest gap that is filled with silence: a second.
const LONGEST_GAP: i64 = RATE as i64;

/// A packet that is passed on is heard at its place if that is no farther from the end of the one before: 10 ms.
const BESIDE: u64 = RATE as u64 / 100;

/// Greatest change of the pitch: 2000 in a million, a thirtieth of a semitone, which nobody hears. It is more than the pictures'
/// delay changes by, so that sound catches up: with 500, sound stayed 29 ms behind pictures whose delay shrank.
const MOST_STRETCH: f64 = 2000e-6;

/// Sound that is so near to its place is left as it is: a millisecond.
const NEAR: i64 = RATE as i64 / 1000;

/// Packets of the sound of a live source, with the places that they have on the station's clock.
#[derive(Debug, Default)]
pub(crate) struct LiveSound {
    packets: Mutex<VecDeque<(u64, Bytes)>>,
}

/// The sound of a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LivePacket {
    /// This packet begins then.
    Here(Bytes),
    /// A packet begins so many samples later.
    Later(u64),
    /// Nothing has come yet.
    NotYet,
}

impl LiveSound {
    /// Adds a packet that begins at a sample since the Unix epoch.
    pub(crate) fn push(&self, begin: u64, packet: Bytes) {
        let mut packets = lock(&self.packets);
        if packets.back().is_some_and(|(last, _)| *last >= begin) {
            // The source began anew.
            packets.clear();
        }
        if packets.len() == MOST_WAITING {
            packets.pop_front();
        }
        packets.push_back((begin, packet));
    }

    /// The oldest packet, and its first sample since the Unix epoch.
    pub(crate) fn pop(&self) -> Option<(u64, Bytes)> {
        lock(&self.packets).pop_front()
    }

    /// The sound at `cursor`, give or take `tolerance` samples. Packets before it are dropped.
    pub(crate) fn take(&self, cursor: u64, tolerance: u64) -> LivePacket {
        let mut packets = lock(&self.packets);
        while packets.front().is_some_and(|(begin, _)| begin + tolerance < cursor) {
            packets.pop_front();
        }
        match packets.front() {
            None => LivePacket::NotYet,
            Some((begin, _)) if *begin > cursor + tolerance => LivePacket::Later(begin - cursor),
            Some(_) => packets.pop_front().map_or(LivePacket::NotYet, |(_, packet)| LivePacket::Here(packet)),
        }
    }
}

/// Packets of a publisher that are passed on as they are.
#[derive(Debug, Default)]
pub(crate) struct PassedSound {
    /// Where the last one ended.
    end: Option<u64>,
}

impl PassedSound {
    /// Passes a packet on that belongs to `place`. Packets follow each other as long as they are near their places, so that a
    /// clock that drifts, or stamps that are rounded, make no gap each time. False if it is no packet of Opus.
    pub(crate) fn take(&mut self, packet: Bytes, place: AirTime, to: &LiveSound) -> bool {
        let Some(samples) = opus_samples(&packet) else { return false };
        let place = sample(place);
        let begin = match self.end {
            Some(end) if end.abs_diff(place) < BESIDE => end,
            // The place of a packet that would be too late is taken.
            Some(end) if place < end && end - place < LONGEST_GAP as u64 => return false,
            Some(_) | None => place,
        };
        self.end = Some(begin + u64::from(samples));
        to.push(begin, packet);
        true
    }
}

/// Makes packets of a source's sound. Takes up to a millisecond for each, on a thread that may block.
pub(crate) struct SoundMaker {
    decoder: SoundDecoder,
    encoder: Encoder,
    /// How many samples later a decoder gives each sample than the encoder got it.
    ahead: u64,
    stretch: Stretch,
    /// Samples that are not coded yet, interleaved.
    block: Vec<f32>,
    /// The place of the end of `block`.
    end: Option<u64>,
}

impl SoundMaker {
    /// For sound that is coded like this; `None` if that is no sound.
    ///
    /// # Errors
    /// The sentence that says why there is none.
    pub(crate) fn new(coding: &Coding, clock_rate: u32, bitrate: u32) -> Result<Option<SoundMaker>, String> {
        let Some(decoder) = SoundDecoder::new(coding, clock_rate)? else { return Ok(None) };
        let encoder = || {
            let mut encoder = Encoder::new(RATE, Channels::Stereo, Application::LowDelay)?;
            encoder.set_bitrate(Bitrate::Bits(bitrate as i32))?;
            encoder.set_vbr(false)?;
            let ahead = encoder.get_lookahead()?.max(0) as u64;
            Ok::<_, opus::Error>((encoder, ahead))
        };
        let (encoder, ahead) = encoder().map_err(|error| format!("no encoder of Opus: {error}"))?;
        let stretch = Stretch::default();
        Ok(Some(SoundMaker { decoder, encoder, ahead, stretch, block: Vec::new(), end: None }))
    }

    /// Takes a packet of the source whose first sample belongs to `place`. Adds the packets that it completes to `to`.
    ///
    /// # Errors
    /// The sentence that says why it cannot be decoded or coded. The next one may be.
    pub(crate) fn take(&mut self, packet: &[u8], place: AirTime, to: &LiveSound) -> Result<(), String> {
        let samples = self.decoder.decode(packet)?;
        let place = sample(place);
        let off = self.end.map_or(i64::MAX, |end| place.wrapping_sub(end).cast_signed());
        let end = match self.end {
            Some(end) if (JUMP..=LONGEST_GAP).contains(&off) => {
                self.block.resize(self.block.len() + off as usize * CHANNELS, 0.0);
                end + off as u64
            }
            Some(end) if off.abs() < JUMP => end,
            _ => {
                self.block.clear();
                self.stretch = Stretch::default();
                place
            }
        };
        // As much of it as is off in ten seconds.
        let wanted =
            if off.abs() < JUMP && off.abs() > NEAR { off as f64 / f64::from(10 * RATE) } else { 0.0 };
        let before = self.block.len();
        self.stretch.push(&samples, wanted.clamp(-MOST_STRETCH, MOST_STRETCH), &mut self.block);
        let end = end + ((self.block.len() - before) / CHANNELS) as u64;
        self.end = Some(end);
        let mut begin = end - (self.block.len() / CHANNELS) as u64;
        let length = FRAME as usize * CHANNELS;
        let whole = self.block.len() / length * length;
        for frame in self.block[..whole].chunks_exact(length) {
            // The bytes that a constant rate of 510 kbit/s takes in 20 ms.
            let packet = self.encoder.encode_vec_float(frame, 1275);
            let packet = packet.map_err(|error| format!("sound cannot be coded: {error}"))?;
            to.push(begin.saturating_sub(self.ahead), packet.into());
            begin += u64::from(FRAME);
        }
        self.block.drain(..whole);
        Ok(())
    }
}

/// Makes sound a little longer or shorter: reads it at a pace near 1, between its samples by cubic interpolation.
#[derive(Debug, Default)]
struct Stretch {
    /// The last three samples, interleaved.
    before: [f32; 3 * CHANNELS],
    /// The next place to read: samples behind the first of `before`, and one.
    position: f64,
}

impl Stretch {
    /// Adds `samples` to `out`, longer by this share of their length.
    fn push(&mut self, samples: &[f32], longer: f64, out: &mut Vec<f32>) {
        let joined = [&self.before[..], samples].concat();
        let count = joined.len() / CHANNELS;
        let at = |n: usize, channel: usize| joined[n * CHANNELS + channel];
        let step = 1.0 / (1.0 + longer);
        while self.position + 3.0 < count as f64 {
            let (n, t) = (self.position as usize, self.position.fract() as f32);
            for channel in 0..CHANNELS {
                let [a, b, c, d] = [0, 1, 2, 3].map(|more| at(n + more, channel));
                // Catmull-Rom: at t = 0 it is the sample itself.
                let curve = (3.0 * (b - c) + d - a) * t + 2.0 * a - 5.0 * b + 4.0 * c - d;
                out.push(b + 0.5 * t * (c - a + t * curve));
            }
            self.position += step;
        }
        self.position -= (count - 3) as f64;
        self.before.copy_from_slice(&joined[joined.len() - 3 * CHANNELS..]);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const START: AirTime = AirTime(1_790_000_000_000_000_000);

    /// Packets of 20 ms of a sound of 1 kHz, as L16.
    fn packets(count: usize) -> Vec<Vec<u8>> {
        let tone = |n: usize| (f32::sin(n as f32 / 48.0 * std::f32::consts::TAU) * 12_000.0) as i16;
        let packet =
            |p: usize| (960 * p..960 * (p + 1)).flat_map(|n| [tone(n).to_be_bytes(); 2].concat()).collect();
        (0..count).map(packet).collect()
    }

    fn maker() -> SoundMaker {
        SoundMaker::new(&Coding::L16(2), RATE, 128_000).unwrap().unwrap()
    }

    /// The packets of sound that comes at these moments.
    fn made(places: impl IntoIterator<Item = AirTime>) -> Vec<(u64, Bytes)> {
        let (mut maker, live, mut made) = (maker(), LiveSound::default(), Vec::new());
        for (packet, place) in packets(1000).iter().zip(places) {
            maker.take(packet, place, &live).unwrap();
            made.extend(lock(&live.packets).drain(..));
        }
        made
    }

    #[test]
    fn sound_follows_its_places_without_a_gap() {
        let millis = |n: u64| START + Duration::from_millis(n);
        let made = made((0..100).map(|n| millis(20 * n)));
        assert!(made.windows(2).all(|two| two[1].0 == two[0].0 + 960));
        assert_eq!(made.len(), 100);
        assert_eq!(made[0].0, sample(START) - maker().ahead);
        // The decoded sound is the tone, in its place.
        let mut decoder = opus::Decoder::new(RATE, Channels::Stereo).unwrap();
        let mut heard = vec![0.0; 1920];
        for (_, packet) in &made {
            decoder.decode_float(packet, &mut heard, false).unwrap();
        }
        let loudest = heard.iter().fold(0.0f32, |most, sample| most.max(sample.abs()));
        assert!((0.33..0.40).contains(&loudest), "{loudest}");
    }

    #[test]
    fn a_drift_is_followed_and_a_jump_is_jumped() {
        // The source's clock is 300 ppm slow: its packets are 20.006 ms apart.
        let drifting = |n: u32| START + Duration::from_nanos(20_006_000) * n;
        let made_of = made((0..1000).map(drifting));
        let last = made_of.last().unwrap().0;
        let place = sample(drifting(made_of.len() as u32));
        assert!(place.abs_diff(last) < 3 * 960, "{last} {place}");
        assert!(made_of.windows(2).all(|two| two[1].0 == two[0].0 + 960));
        // 200 ms are missing: silence is there instead. Then an hour is.
        let jumping = (0..30).map(|n| START + Duration::from_millis(20 * n + if n < 10 { 0 } else { 200 }));
        let made_of = made(jumping);
        assert!(made_of.windows(2).all(|two| two[1].0 == two[0].0 + 960));
        assert!(made_of.len() >= 39);
        let hour = (0..30).map(|n| {
            START + Duration::from_secs(if n < 10 { 0 } else { 3600 }) + Duration::from_millis(20 * n)
        });
        let made_of = made(hour);
        assert_eq!(made_of.windows(2).filter(|two| two[1].0 != two[0].0 + 960).count(), 1);
    }

    #[test]
    fn packets_wait_for_their_moment_and_the_oldest_make_room() {
        let live = LiveSound::default();
        assert_eq!(live.take(0, 60), LivePacket::NotYet);
        let packet = |n: u8| Bytes::copy_from_slice(&[n]);
        live.push(1000, packet(1));
        live.push(1960, packet(2));
        assert_eq!(live.take(500, 60), LivePacket::Later(500));
        assert_eq!(live.take(950, 60), LivePacket::Here(packet(1)));
        // This one is over.
        assert_eq!(live.take(2200, 60), LivePacket::NotYet);
        for n in 0..1000 {
            live.push(5000 + 960 * n, packet(3));
        }
        assert_eq!(lock(&live.packets).len(), MOST_WAITING);
        live.push(100, packet(4));
        assert_eq!(live.take(100, 60), LivePacket::Here(packet(4)));
    }

    #[test]
    fn sound_catches_up_with_a_delay_that_changes() {
        // 15 ms too late at first, while the places come nearer by 500 in a million.
        let place = |n: u32| {
            let early = if n == 0 { Duration::ZERO } else { Duration::from_millis(15) };
            START + Duration::from_secs(1) + Duration::from_nanos(19_990_000) * n - early
        };
        let made_of = made((0..1000).map(place));
        let last = made_of.last().unwrap().0 + maker().ahead + u64::from(FRAME);
        let end = sample(place(1000));
        assert!(
            end.abs_diff(last) < u64::from(FRAME) + u64::from(RATE) / 500,
            "{} samples",
            end.abs_diff(last)
        );
    }

    #[test]
    fn garbage_is_refused_with_a_sentence() {
        let live = LiveSound::default();
        let mut opus = SoundMaker::new(&Coding::Opus, RATE, 128_000).unwrap().unwrap();
        let fault = opus.take(&[0xff; 7], START, &live).unwrap_err();
        assert!(fault.starts_with("a packet of sound cannot be decoded: "), "{fault}");
        assert!(SoundMaker::new(&Coding::Jpeg, 90_000, 128_000).unwrap().is_none());
    }
}
