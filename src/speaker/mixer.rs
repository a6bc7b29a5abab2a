//! The voices of the stations that are received, one of which is heard, and the volume. Pure.

use std::net::IpAddr;

use super::Frame;
use super::decode::Decode;
use super::transit::Transit;
use super::voice::{Ramp, Voice, VoiceCounters};
use crate::directory::SoundPacket;
use crate::media::{AirTime, SoundCodec};
use crate::wire::rtp::Header;

/// Most stations whose packets are gathered at a time: the one that is heard, the one that is awaited, and some that are being
/// left.
const MAX_VOICES: usize = 4;

/// A picture whose transit differs by more from that of the sound is not on the sound's clock: other senders' timestamps have a
/// random offset for each stream (RFC 3550 section 5.1). Longer than any network holds a picture up.
const SAME_CLOCK: i64 = 1_000_000_000;

/// How long the volume takes to change, in seconds.
const VOLUME: f64 = 0.020;

/// What is heard now, for display and for the pictures.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SoundStatus {
    /// Counts of the station that is heard, or was last.
    pub counters: SoundCounters,
    /// When it is heard; `None` while nothing is.
    pub heard: Option<HeardAt>,
    /// When the first sample of the station that is heard was.
    pub began: Option<AirTime>,
    /// Serial number of its receiver.
    pub(crate) serial: Option<u64>,
    /// Sound that has arrived and is not heard yet, in milliseconds.
    pub buffered_ms: f64,
    /// Latency of the device, in milliseconds.
    pub device_ms: f64,
}

/// When sound is heard: a sample that is due at t is heard at t + `transit` + `delay` - `early`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeardAt {
    /// Least time from due to arrival, in nanoseconds; negative if this machine's clock is behind.
    pub transit: i64,
    /// From arrival to the ear, in nanoseconds.
    pub delay: i64,
    /// By how much the sound is before that now, in nanoseconds.
    pub early: i64,
}

impl HeardAt {
    /// The due time on the sound's clock of a picture that by its own timestamps was due at `due`, and that arrived at `arrival`.
    /// Of our stations both clocks are the same. For other senders, what arrives at the same time is taken to be of the same
    /// time.
    pub fn due_of(&self, due: AirTime, arrival: AirTime) -> AirTime {
        if (arrival.signed_since(due) - self.transit).abs() <= SAME_CLOCK {
            return due;
        }
        AirTime((arrival.0 as i64).wrapping_sub(self.transit).max(0) as u64)
    }

    /// When a picture that is due at `due` is in step with the sound.
    pub fn picture_at(&self, due: AirTime) -> AirTime {
        AirTime((due.0 as i64).wrapping_add(self.transit).wrapping_add(self.delay).max(0) as u64)
    }

    /// By how much the sound is heard after the picture that was due at `due` and shown at `shown`, in milliseconds; negative if
    /// before.
    pub fn offset_ms(&self, due: AirTime, shown: AirTime) -> f64 {
        let sound = self.transit + self.delay - self.early;
        (sound - shown.signed_since(due)) as f64 * 1e-6
    }
}

/// Counts of a station's sound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SoundCounters {
    /// Packets received.
    pub packets: u64,
    /// Packets sent and not received.
    pub lost: u64,
    /// Packets that came after their sound was needed.
    pub late: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Milliseconds that were concealed.
    pub concealed_ms: u64,
    /// Times that the sound jumped to its place.
    pub resyncs: u64,
    /// Times that the packets ran out.
    pub stalls: u64,
}

impl From<VoiceCounters> for SoundCounters {
    fn from(of: VoiceCounters) -> SoundCounters {
        SoundCounters {
            packets: of.packets,
            lost: of.lost,
            late: of.late,
            duplicates: of.duplicates,
            concealed_ms: of.concealed / 48,
            resyncs: of.resyncs,
            stalls: of.stalls,
        }
    }
}

/// The voices, by the serial numbers of their stations' receivers.
pub struct Mixer<D> {
    new_decoder: Box<dyn FnMut() -> Option<D> + Send>,
    rate: u32,
    voices: Vec<(u64, Voice<D>)>,
    /// The one that is to be heard.
    heard: Option<u64>,
    leaving: Vec<Voice<D>>,
    /// From arrival to the ear, in nanoseconds.
    delay: i64,
    volume: Ramp,
    last: SoundCounters,
}

impl<D: Decode> Mixer<D> {
    /// A mixer for a device of `rate` samples a second, which is silent. `new_decoder` makes a decoder.
    pub fn new(rate: u32, new_decoder: impl FnMut() -> Option<D> + Send + 'static) -> Mixer<D> {
        Mixer {
            new_decoder: Box::new(new_decoder),
            rate,
            voices: Vec::new(),
            heard: None,
            leaving: Vec::new(),
            delay: 0,
            volume: Ramp::at(1.0),
            last: SoundCounters::default(),
        }
    }

    /// Samples a second of the device.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// What arrives is heard so many nanoseconds later.
    pub fn set_delay(&mut self, delay: i64) {
        self.delay = delay;
    }

    /// Sets the gain, 0.0..=1.0, without a click.
    pub fn set_gain(&mut self, gain: f32) {
        self.volume.to(gain, VOLUME * f64::from(self.rate));
    }

    /// The packets of this receiver will come. If its sender is that of another voice, how long packets take is known already.
    pub fn tune(&mut self, serial: u64, source: Option<IpAddr>) {
        let known = self.voices.iter().rev().find(|(_, voice)| source.is_some() && voice.source == source);
        let transit = known.map_or_else(Transit::default, |(_, voice)| voice.transit.clone());
        let Some(decoder) = (self.new_decoder)() else { return };
        if self.voices.len() == MAX_VOICES {
            self.voices.remove(0);
        }
        self.voices.push((serial, Voice::new(decoder, self.rate, source, transit)));
    }

    /// No more packets of this receiver will come. If it is heard, it fades.
    pub fn forget(&mut self, serial: u64) {
        if self.heard == Some(serial) {
            self.heard = None;
        }
        if let Some(at) = self.voices.iter().position(|(of, _)| *of == serial) {
            let (_, voice) = self.voices.remove(at);
            self.fade_out(voice);
        }
    }

    fn fade_out(&mut self, mut voice: Voice<D>) {
        voice.leave();
        if self.leaving.len() == MAX_VOICES {
            self.leaving.remove(0);
        }
        self.leaving.push(voice);
    }

    /// From now on this receiver's station is heard, and no other: its picture is on the screen. `None`: silence.
    pub fn hear(&mut self, serial: Option<u64>) {
        if self.heard == serial {
            return;
        }
        if let Some(before) = self.heard.take()
            && let Some(at) = self.voices.iter().position(|(of, _)| *of == before)
        {
            self.last = self.voices[at].1.counters().into();
            let (_, voice) = self.voices.remove(at);
            self.fade_out(voice);
        }
        self.heard = serial;
    }

    /// The device has played something else, or nothing, for a moment: what is heard may be far from its place.
    pub fn disturb(&mut self) {
        for (_, voice) in &mut self.voices {
            voice.disturb();
        }
    }

    /// Takes a packet that arrived at `arrival`.
    pub fn handle_packet(
        &mut self,
        serial: u64,
        arrival: AirTime,
        codec: SoundCodec,
        header: Header,
        packet: &[u8],
    ) {
        if let Some((_, voice)) = self.voices.iter_mut().find(|(of, _)| *of == serial) {
            voice.handle_packet(arrival, codec, header, packet);
        }
    }

    /// Takes the packets that the directory has told of.
    pub fn handle_told(&mut self, serial: u64, packets: &[SoundPacket]) {
        if let Some((_, voice)) = self.voices.iter_mut().find(|(of, _)| *of == serial) {
            voice.handle_told(packets);
        }
    }

    /// Fills `out`, of which the first sample is heard at `heard_at`.
    pub fn render(&mut self, heard_at: AirTime, out: &mut [Frame]) {
        out.fill([0.0; 2]);
        let heard = self.heard;
        for (_, voice) in self.voices.iter_mut().filter(|(serial, _)| Some(*serial) == heard) {
            voice.render(heard_at, self.delay, out);
        }
        for voice in &mut self.leaving {
            voice.render(heard_at, self.delay, out);
        }
        self.leaving.retain(|voice| !voice.has_left());
        for frame in out {
            let gain = self.volume.next();
            *frame = frame.map(|sample| (sample * gain).clamp(-1.0, 1.0));
        }
    }

    /// What is heard now.
    pub fn status(&self) -> SoundStatus {
        let voice =
            self.voices.iter().find(|(serial, _)| Some(*serial) == self.heard).map(|(_, voice)| voice);
        let Some(voice) = voice else {
            return SoundStatus { counters: self.last, serial: self.heard, ..SoundStatus::default() };
        };
        let heard = voice.transit.least().filter(|_| voice.is_playing()).map(|transit| HeardAt {
            transit,
            delay: self.delay + voice.more_delay(),
            early: (voice.error() * 1e9) as i64,
        });
        let counters = voice.counters().into();
        SoundStatus {
            counters,
            heard,
            began: voice.began(),
            serial: self.heard,
            buffered_ms: voice.buffered() * 1e3,
            device_ms: 0.0,
        }
    }
}
