//! The sound of one station: from its packets to samples at the rate of the device, each at its time. Pure.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use super::Frame;
use super::buffer::{PacketVerdict, SoundBuffer, air_time};
use super::decode::Decode;
use super::pilot::{Pilot, Steer};
use super::resample::{BEHIND, Resampler};
use super::transit::Transit;
use crate::directory::SoundPacket;
use crate::media::{AirTime, SOUND_CLOCK, SoundCodec};
use crate::wire::rtp::Header;

/// A fade at a jump or a start, in seconds: too short to be heard as one, too long for a click.
const FADE: f64 = 0.005;

/// The fade of a station that is left, in seconds.
const LEAVE: f64 = 0.010;

/// Samples that are decoded before the first one that is heard: a decoder of Opus has converged then.
const PRE_ROLL: i64 = SOUND_CLOCK as i64 / 10;

/// Samples that are concealed in a row before the voice falls silent until packets come again. libopus has faded to silence by
/// then.
const MAX_CONCEALED: usize = SOUND_CLOCK as usize / 10;

/// Samples that are concealed at a time while no packet that follows is here.
const CONCEAL: usize = 480;

/// So many packets that come too late within this time show that the delay is too short for this network: it grows by a step,
/// at most to this much more.
const LATE: u32 = 3;
const LATE_WITHIN: Duration = Duration::from_secs(5);
/// Packets that are too late for so long after a step do not count: the sound is on its way to its new place.
const STEPPING: Duration = Duration::from_secs(2);
const DELAY_STEP: i64 = 15_000_000;
const MOST_DELAY: i64 = 60_000_000;

/// Where a voice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Packets are awaited, or the moment of the first one.
    Waiting,
    /// It is heard.
    Playing,
    /// It fades, and waits then.
    Fading,
}

/// A gain that moves in a straight line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ramp {
    gain: f32,
    target: f32,
    step: f32,
}

impl Ramp {
    pub(super) fn at(gain: f32) -> Ramp {
        Ramp { gain, target: gain, step: 0.0 }
    }

    /// Moves from here to `target` within so many samples.
    pub(super) fn to(&mut self, target: f32, samples: f64) {
        self.target = target;
        self.step = (target - self.gain) / samples.max(1.0) as f32;
    }

    pub(super) fn next(&mut self) -> f32 {
        let gain = self.gain;
        let after = gain + self.step;
        let passed = if self.step >= 0.0 { after >= self.target } else { after <= self.target };
        self.gain = if passed { self.target } else { after };
        gain
    }

    pub(super) fn is_silent(&self) -> bool {
        self.gain == 0.0 && self.target == 0.0
    }
}

/// Counts of a voice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct VoiceCounters {
    pub(super) packets: u64,
    pub(super) duplicates: u64,
    pub(super) foreign: u64,
    /// Packets whose samples were needed before they came.
    pub(super) late: u64,
    /// Samples that were concealed.
    pub(super) concealed: u64,
    /// Jumps to the right place.
    pub(super) resyncs: u64,
    /// Times that the packets ran out.
    pub(super) stalls: u64,
    /// Packets lost with the senders that are followed no more.
    lost_before: u64,
    pub(super) lost: u64,
}

/// One station's sound.
pub(super) struct Voice<D> {
    /// The address that its packets come from.
    pub(super) source: Option<IpAddr>,
    pub(super) transit: Transit,
    buffer: SoundBuffer,
    decoder: D,
    resampler: Resampler,
    rate: u32,
    pilot: Pilot,
    state: State,
    ramp: Ramp,
    /// Decoded samples, and the tick after the last one.
    samples: VecDeque<Frame>,
    decoded_to: i64,
    /// Samples concealed since the last packet.
    concealed: usize,
    /// When its first sample was heard.
    began: Option<AirTime>,
    /// Packets that came too late since the first of them, and when that was.
    late: (u32, AirTime),
    /// When the delay last grew.
    stepped: AirTime,
    /// Delay beside that of the mixer, in nanoseconds.
    more_delay: i64,
    counters: VoiceCounters,
}

impl<D: Decode> Voice<D> {
    pub(super) fn new(decoder: D, rate: u32, source: Option<IpAddr>, transit: Transit) -> Voice<D> {
        Voice {
            source,
            transit,
            buffer: SoundBuffer::default(),
            decoder,
            resampler: Resampler::new(SOUND_CLOCK, rate),
            rate,
            pilot: Pilot::default(),
            state: State::Waiting,
            ramp: Ramp::at(0.0),
            samples: VecDeque::new(),
            decoded_to: 0,
            concealed: 0,
            began: None,
            late: (0, AirTime(0)),
            stepped: AirTime(0),
            more_delay: 0,
            counters: VoiceCounters::default(),
        }
    }

    /// Takes a packet that arrived at `arrival`.
    pub(super) fn handle_packet(
        &mut self,
        arrival: AirTime,
        codec: SoundCodec,
        header: Header,
        packet: &[u8],
    ) {
        let lost = self.buffer.lost();
        let (verdict, due) = self.buffer.put(arrival, codec, header, packet);
        match verdict {
            PacketVerdict::Held => self.counters.packets += 1,
            PacketVerdict::Restart => {
                self.counters.packets += 1;
                self.counters.lost_before += lost;
                self.transit = Transit::default();
                if self.state == State::Playing {
                    self.fade();
                }
            }
            PacketVerdict::Duplicate => self.counters.duplicates += 1,
            PacketVerdict::Foreign => self.counters.foreign += 1,
        }
        if matches!(verdict, PacketVerdict::Held | PacketVerdict::Restart) {
            self.transit.note(due, arrival);
            if self.state == State::Playing && (due.ticks(SOUND_CLOCK) as i64) + 2 < self.decoded_to {
                self.counters.late += 1;
                self.wait_longer(arrival);
            }
        }
    }

    /// A packet came too late at `now`.
    fn wait_longer(&mut self, now: AirTime) {
        if now.since(self.stepped) < STEPPING {
            return;
        }
        if self.late.0 == 0 || now.since(self.late.1) > LATE_WITHIN {
            self.late = (0, now);
        }
        self.late.0 += 1;
        if self.late.0 >= LATE && self.more_delay < MOST_DELAY {
            self.more_delay += DELAY_STEP;
            (self.late.0, self.stepped) = (0, now);
            // There are gaps already: the way to the new place is a jump and not half a minute.
            self.pilot.disturb();
        }
    }

    /// Delay beside that of the mixer, in nanoseconds.
    pub(super) fn more_delay(&self) -> i64 {
        self.more_delay
    }

    /// Takes the packets that the directory has told of.
    pub(super) fn handle_told(&mut self, packets: &[SoundPacket]) {
        for told in packets {
            self.buffer.put_told(told.due, &told.packet);
        }
    }

    pub(super) fn counters(&self) -> VoiceCounters {
        let lost = self.counters.lost_before + self.buffer.lost();
        VoiceCounters { lost, ..self.counters }
    }

    /// When its first sample was heard.
    pub(super) fn began(&self) -> Option<AirTime> {
        self.began
    }

    /// Whether it is heard.
    pub(super) fn is_playing(&self) -> bool {
        self.state == State::Playing
    }

    /// By how much the sound is early against its place, in seconds.
    pub(super) fn error(&self) -> f64 {
        self.pilot.error()
    }

    /// Sound that is here and not heard yet, in seconds.
    pub(super) fn buffered(&self) -> f64 {
        let held = self.buffer.held_after(self.decoded_to) + self.samples.len() as i64;
        held as f64 / f64::from(SOUND_CLOCK)
    }

    /// The device has played something else, or nothing, for a moment.
    pub(super) fn disturb(&mut self) {
        self.pilot.disturb();
    }

    /// From now on it fades to silence.
    pub(super) fn leave(&mut self) {
        self.ramp.to(0.0, LEAVE * f64::from(self.rate));
    }

    /// Whether it has faded after [`leave`](Self::leave).
    pub(super) fn has_left(&self) -> bool {
        self.state == State::Waiting || self.ramp.is_silent()
    }

    fn fade(&mut self) {
        self.state = State::Fading;
        self.ramp.to(0.0, FADE * f64::from(self.rate));
    }

    /// Adds its samples to `out`, of which the first is heard at `heard_at`. What is due at t is heard at t plus the transit plus
    /// `delay` nanoseconds.
    pub(super) fn render(&mut self, heard_at: AirTime, delay: i64, out: &mut [Frame]) {
        let Some(transit) = self.transit.least() else { return };
        let delay = delay + self.more_delay;
        let target_nanos = (heard_at.0 as i64).wrapping_sub(transit).wrapping_sub(delay).max(0);
        let target = AirTime(target_nanos as u64).ticks(SOUND_CLOCK) as i64;
        let mut begin = 0;
        if self.state == State::Waiting {
            let ratio = f64::from(SOUND_CLOCK) / f64::from(self.rate);
            let Some(first) = self.buffer.first_after(target) else { return };
            begin = ((first - target).max(0) as f64 / ratio) as usize;
            if begin >= out.len() {
                return;
            }
            self.start(first.max(target));
            let wait = begin as u64 * 1_000_000_000 / u64::from(self.rate);
            self.began.get_or_insert(heard_at + Duration::from_nanos(wait));
        } else {
            let (tick, fraction) = self.resampler.place(self.decoded_to - self.samples.len() as i64);
            let due = air_time(tick).0 as i64 - target_nanos;
            let error = due as f64 * 1e-9 + fraction / f64::from(SOUND_CLOCK);
            if self.state == State::Playing
                && self.pilot.steer(error, out.len() as f64 / f64::from(self.rate)) == Steer::Jump
            {
                self.counters.resyncs += 1;
                self.fade();
            }
        }
        let speed = self.pilot.speed();
        for frame in &mut out[begin..] {
            if self.state == State::Fading && self.ramp.is_silent() {
                self.state = State::Waiting;
                return;
            }
            // At a speed near 1 and a rate of at least 8 kHz, one output needs at most 8 samples.
            if self.samples.len() < 8 {
                self.decode_more();
            }
            let gain = self.ramp.next();
            let samples = &mut self.samples;
            let heard = self.resampler.next(speed, || samples.pop_front().unwrap_or_default());
            frame[0] += heard[0] * gain;
            frame[1] += heard[1] * gain;
            if self.state == State::Playing && self.concealed >= MAX_CONCEALED {
                self.counters.stalls += 1;
                self.fade();
            }
        }
    }

    /// Begins at the sample `place`. The decoder is given what is there before it, so that it has converged.
    fn start(&mut self, place: i64) {
        let origin = place - BEHIND as i64;
        let last = self.buffer.first_after(origin).unwrap_or(place);
        self.decoder.reset();
        self.samples.clear();
        self.concealed = 0;
        self.decoded_to = self.buffer.run_before(last, last - PRE_ROLL);
        if self.decoded_to > origin {
            // Nothing is there from before: silence, up to the first packet.
            self.samples.extend(std::iter::repeat_n([0.0; 2], (self.decoded_to - origin) as usize));
        }
        let needed = origin + 64;
        while self.decoded_to < needed {
            self.decode_more();
            let before = origin - (self.decoded_to - self.samples.len() as i64);
            self.samples.drain(..(before.max(0) as usize).min(self.samples.len()));
        }
        let Voice { resampler, samples, .. } = self;
        resampler.start(|| samples.pop_front().unwrap_or_default());
        self.pilot.arrived();
        self.state = State::Playing;
        self.ramp = Ramp::at(0.0);
        self.ramp.to(1.0, FADE * f64::from(self.rate));
    }

    /// Decodes the packet that continues what is decoded, or conceals it.
    fn decode_more(&mut self) {
        if let Some((at, held)) = self.buffer.take(self.decoded_to, 2)
            && let Some(samples) = self.decoder.decode(held.codec, &held.packet)
        {
            // Rounded timestamps overlap by a sample at most; more, if a part was concealed before the packet came.
            let overlap = self.decoded_to - at;
            let skip = if overlap > 2 { (overlap as usize).min(samples.len()) } else { 0 };
            self.samples.extend(&samples[skip..]);
            self.decoded_to = at + samples.len() as i64;
            self.concealed = 0;
            return;
        }
        let gap = self.buffer.gap_from(self.decoded_to).map_or(CONCEAL as i64, |gap| gap.min(CONCEAL as i64));
        let step = self.decoder.conceal_step();
        let samples = (gap as usize).next_multiple_of(step).max(step);
        self.samples.extend(self.decoder.conceal(samples));
        self.decoded_to += samples as i64;
        self.concealed += samples;
        self.counters.concealed += samples as u64;
    }
}
