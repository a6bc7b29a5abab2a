//! The whole way from packets to samples, in virtual time, with a decoder whose samples tell their place: a sine that runs
//! through all packets.

use std::f64::consts::PI;
use std::time::Duration;

use super::buffer::tests::{T0, header};
use super::decode::Decode;
use super::*;
use crate::directory::SoundPacket;
use crate::media::{AirTime, SoundCodec};

const MS: i64 = 1_000_000;

/// Largest step from sample to sample: that of the sine is 0.026 at 200 Hz, and a fade of 5 ms adds 0.004.
const NO_CLICK: f32 = 0.032;

/// The value of the sine at a sample of packet `n`, counted from its first.
fn sine(n: u64, sample: usize) -> f32 {
    (2.0 * PI * 200.0 * (n as f64 * 0.020 + sample as f64 / 48_000.0)).sin() as f32
}

/// Decodes the number in a packet to its part of the sine, and conceals by going on.
struct Fake {
    next: u64,
    within: usize,
    out: Vec<Frame>,
}

fn fake() -> Option<Fake> {
    Some(Fake { next: 0, within: 0, out: Vec::new() })
}

impl Decode for Fake {
    fn decode(&mut self, _: SoundCodec, packet: &[u8]) -> Option<&[Frame]> {
        let n = u32::from_le_bytes(packet.get(1..5)?.try_into().ok()?).into();
        (self.next, self.within) = (n + 1, 0);
        self.out = (0..960).map(|sample| [sine(n, sample); 2]).collect();
        Some(&self.out)
    }

    fn conceal(&mut self, samples: usize) -> &[Frame] {
        self.out = (0..samples).map(|sample| [sine(self.next, self.within + sample); 2]).collect();
        self.within += samples;
        &self.out
    }

    fn conceal_step(&self) -> usize {
        120
    }

    fn reset(&mut self) {}
}

/// A packet of 20 ms, in which libopus reads nothing but the first byte.
fn packet(n: u64) -> Vec<u8> {
    [&[0xfc][..], &(n as u32).to_le_bytes()].concat()
}

/// A broadcaster, a network and a device around a mixer.
struct Simulation {
    mixer: Mixer<Fake>,
    /// The next packet, and the one after the last.
    next: u64,
    end: u64,
    /// Serial number of the receiver, and SSRC.
    stream: (u64, u32),
    /// Network delay of packet n in nanoseconds; `None`: it is lost.
    network: fn(u64) -> Option<u64>,
    late: std::collections::BTreeMap<u64, u64>,
    /// Samples that the device has played, its error in ppm, and what its reports are off by, in nanoseconds.
    played: u64,
    ppm: f64,
    skew: i64,
    heard: Vec<(AirTime, f32)>,
}

impl Simulation {
    fn new(network: fn(u64) -> Option<u64>) -> Simulation {
        let mut mixer = Mixer::new(48_000, fake);
        mixer.set_delay(45 * MS);
        mixer.tune(1, None);
        mixer.hear(Some(1));
        Simulation {
            mixer,
            next: 0,
            end: u64::MAX,
            stream: (1, 5),
            network,
            late: Default::default(),
            played: 0,
            ppm: 0.0,
            skew: 0,
            heard: Vec::new(),
        }
    }

    /// The device plays for so long. What is rendered is heard 30 ms later.
    fn run(&mut self, span: Duration) {
        let blocks = span.as_nanos() / 5_000_000;
        for _ in 0..blocks {
            let now = (self.played as f64 * 1e9 / 48_000.0 / (1.0 + self.ppm * 1e-6)) as u64;
            let now = T0 + Duration::from_nanos(now);
            while self.next < self.end && T0 + Duration::from_millis(20 * self.next) <= now {
                if let Some(delay) = (self.network)(self.next) {
                    self.late.insert(20_000_000 * self.next + delay, self.next);
                }
                self.next += 1;
            }
            while let Some((&at, &n)) = self.late.first_key_value()
                && T0 + Duration::from_nanos(at) <= now
            {
                self.late.remove(&at);
                let (serial, ssrc) = self.stream;
                let arrival = T0 + Duration::from_nanos(at);
                self.mixer.handle_packet(serial, arrival, SoundCodec::Opus, header(n, ssrc), &packet(n));
            }
            let heard_at = AirTime((now.0 as i64 + 30 * MS + self.skew) as u64);
            let mut block = [[0.0; 2]; 240];
            self.mixer.render(heard_at, &mut block);
            for (sample, frame) in block.iter().enumerate() {
                let at = now + Duration::from_nanos(30 * MS as u64 + sample as u64 * 1_000_000_000 / 48_000);
                self.heard.push((at, frame[0]));
            }
            self.played += 240;
        }
    }

    fn largest_step(&self) -> f32 {
        self.heard.windows(2).map(|pair| (pair[1].1 - pair[0].1).abs()).fold(0.0, f32::max)
    }

    /// By how much the last sound is heard later than `delay_ms` after it was due, in milliseconds, from the zeros of the sine.
    fn lateness(&self, delay_ms: f64) -> f64 {
        let rising =
            self.heard.windows(2).rev().find(|pair| pair[0].1 < 0.0 && pair[1].1 >= 0.0).expect("a sine");
        let part = f64::from(-rising[0].1 / (rising[1].1 - rising[0].1)) / 48.0;
        let at = rising[0].0.since(T0).as_secs_f64() * 1e3 + part - delay_ms;
        // A zero is due every 5 ms.
        (at + 2.5).rem_euclid(5.0) - 2.5
    }

    fn counters(&self) -> SoundCounters {
        self.mixer.status().counters
    }
}

fn fast(_: u64) -> Option<u64> {
    Some(1_000_000)
}

#[test]
fn a_sample_is_heard_at_its_time() {
    let mut simulation = Simulation::new(fast);
    simulation.run(Duration::from_secs(2));
    // Transit 1 ms, delay 45 ms.
    assert!(simulation.lateness(46.0).abs() < 0.05, "{}", simulation.lateness(46.0));
    assert!(simulation.largest_step() < NO_CLICK, "{}", simulation.largest_step());
    let begun = simulation.heard.iter().find(|(_, sample)| sample.abs() > 0.01).unwrap().0;
    assert!(begun.since(T0) < Duration::from_millis(70), "the first sound after {:?}", begun.since(T0));
    let expected = SoundCounters { packets: simulation.counters().packets, ..SoundCounters::default() };
    assert_eq!(simulation.counters(), expected);
}

#[test]
fn a_device_that_is_off_by_100_ppm_is_followed() {
    for ppm in [-100.0, 100.0] {
        let mut simulation = Simulation::new(|n| Some(1_000_000 + n * 7_919_353 % 4_000_000));
        simulation.ppm = ppm;
        simulation.run(Duration::from_secs(24));
        // Without the pilot it would be 2.4 ms by now. With it, 1.3 ms, and no more ever.
        let lateness = simulation.lateness(46.0);
        assert!(lateness.abs() < 1.6, "{ppm} ppm: {lateness} ms");
        assert!(simulation.largest_step() < NO_CLICK);
        let counters = simulation.counters();
        assert_eq!((counters.resyncs, counters.stalls, counters.concealed_ms), (0, 0, 0), "{ppm} ppm");
    }
}

#[test]
fn packets_that_are_lost_reordered_or_doubled_are_no_gap_and_no_click() {
    // Every fortieth is lost, and every ninth is overtaken by the next one.
    let network = |n: u64| (n % 40 != 17).then_some(if n.is_multiple_of(9) { 23_000_000 } else { 1_000_000 });
    let mut simulation = Simulation::new(network);
    // 23 ms of jitter need more than the 15 ms that are usual.
    simulation.mixer.set_delay(60 * MS);
    simulation.run(Duration::from_secs(8));
    let counters = simulation.counters();
    assert_eq!((counters.lost, counters.concealed_ms), (10, 200));
    assert_eq!((counters.late, counters.stalls, counters.resyncs), (0, 0, 0));
    assert!(simulation.largest_step() < NO_CLICK);
    assert!(simulation.lateness(61.0).abs() < 0.05);
}

#[test]
fn on_a_network_with_more_jitter_the_sound_waits_longer() {
    let jitter = |n: u64| Some(if n > 100 && n.is_multiple_of(3) { 38_000_000 } else { 1_000_000 });
    let mut simulation = Simulation::new(jitter);
    simulation.run(Duration::from_secs(8));
    let late = simulation.counters().late;
    assert!((3..60).contains(&late), "{late}");
    simulation.run(Duration::from_secs(8));
    assert_eq!(simulation.counters().late, late);
    let waits = simulation.mixer.status().heard.unwrap().delay / MS - 45;
    assert!([15, 30, 45].contains(&waits), "{waits} ms more");
    assert!(simulation.lateness(46.0 + waits as f64).abs() < 0.5);
    assert!(simulation.largest_step() < NO_CLICK);
}

#[test]
fn an_outage_is_silent_and_then_the_sound_is_back_in_step() {
    let mut simulation = Simulation::new(|n| (!(50..100).contains(&n)).then_some(1_000_000));
    simulation.run(Duration::from_secs(4));
    let counters = simulation.counters();
    assert_eq!((counters.lost, counters.stalls, counters.resyncs), (50, 1, 0));
    let middle = simulation.heard.iter().filter(|(at, _)| {
        let at = at.since(T0);
        at > Duration::from_millis(1250) && at < Duration::from_millis(1950)
    });
    assert!(middle.into_iter().all(|(_, sample)| *sample == 0.0));
    assert!(simulation.lateness(46.0).abs() < 0.05);
    assert!(simulation.largest_step() < NO_CLICK);
}

#[test]
fn a_device_that_jumps_by_100_ms_needs_one_jump_of_the_sound_without_a_click() {
    let mut simulation = Simulation::new(fast);
    simulation.run(Duration::from_secs(1));
    for skew in [-100 * MS, 0] {
        simulation.skew = skew;
        simulation.run(Duration::from_secs(3));
    }
    assert_eq!(simulation.counters().resyncs, 2);
    assert!(simulation.lateness(46.0).abs() < 0.05);
    assert!(simulation.largest_step() < NO_CLICK, "{}", simulation.largest_step());
}

#[test]
fn a_broadcaster_that_restarts_is_heard_again() {
    let mut simulation = Simulation::new(|n| (!(50..75).contains(&n)).then_some(1_000_000));
    simulation.run(Duration::from_millis(1400));
    simulation.stream = (1, 77);
    simulation.run(Duration::from_secs(2));
    assert!(simulation.lateness(46.0).abs() < 0.05);
    assert_eq!(simulation.counters().stalls, 1);
    assert!(simulation.largest_step() < NO_CLICK);
}

#[test]
fn at_a_change_of_station_the_old_sound_fades_and_the_new_one_comes_at_once() {
    let mut simulation = Simulation::new(fast);
    let source = Some([192, 0, 2, 7].into());
    simulation.mixer.tune(2, source);
    simulation.mixer.hear(Some(2));
    simulation.stream = (2, 5);
    simulation.run(Duration::from_secs(1));
    // The next station: the directory tells its last packets, and its first picture is shown.
    simulation.mixer.tune(3, source);
    let told = (simulation.next - 5..simulation.next)
        .map(|n| SoundPacket { due: T0 + Duration::from_millis(20 * n), packet: packet(n) });
    simulation.mixer.handle_told(3, &told.collect::<Vec<_>>());
    simulation.stream = (3, 9);
    simulation.mixer.hear(Some(3));
    let from = simulation.heard.len();
    simulation.run(Duration::from_secs(1));
    let first: f32 = simulation.heard[from..from + 960].iter().map(|(_, sample)| sample.abs()).sum();
    assert!(first / 960.0 > 0.3, "the first 20 ms are heard: {}", first / 960.0);
    // Two sines that are faded, 10 and 5 ms.
    assert!(simulation.largest_step() < 2.0 * NO_CLICK, "{}", simulation.largest_step());
    assert_eq!(simulation.counters().concealed_ms, 0);
    assert!(simulation.lateness(46.0).abs() < 0.05);
    // Nothing is heard when the station is gone.
    simulation.mixer.forget(3);
    simulation.run(Duration::from_secs(1));
    assert!(simulation.heard[simulation.heard.len() - 40_000..].iter().all(|(_, sample)| *sample == 0.0));
    assert!(simulation.largest_step() < 2.0 * NO_CLICK);
}

#[test]
fn the_volume_changes_without_a_click() {
    let mut simulation = Simulation::new(fast);
    simulation.run(Duration::from_millis(500));
    for gain in [0.0, 1.0, 0.25] {
        simulation.mixer.set_gain(gain);
        simulation.run(Duration::from_millis(200));
    }
    assert!(simulation.largest_step() < NO_CLICK);
    let peak =
        |samples: &[(AirTime, f32)]| samples.iter().map(|(_, sample)| sample.abs()).fold(0.0, f32::max);
    let end = simulation.heard.len();
    assert!((peak(&simulation.heard[end - 4000..]) - 0.25).abs() < 0.01);
}
