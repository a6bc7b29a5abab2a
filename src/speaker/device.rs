//! The default sound device. No other file uses cpal.
//!
//! The device's callback takes samples from a ring, and says in another ring when they are heard. It takes no lock, and
//! allocates nothing.

#![expect(clippy::disallowed_methods, reason = "a shell: samples are heard at a time of the wall clock")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{
    BufferSize, FromSample, OutputCallbackInfo, SampleFormat, SizedSample, Stream, StreamConfig,
    SupportedBufferSize, SupportedStreamConfig,
};
use rtrb::{Consumer, Producer, RingBuffer};
use tracing::debug;

use super::Frame;
use super::sink::{BLOCK, Sink};
use crate::clock::wall_clock;
use crate::media::{AirTime, SOUND_CLOCK};

/// Period that is asked for: 10 ms at 48 kHz. PulseAudio grants it; hardware may round it. With 20 ms, ALSA and PulseAudio would take 0.2 %
/// of a core less, but tell only to a period what is heard: in five runs of 10 s, beeps were 0 to 20 ms before their flashes, and with
/// 10 ms from 5 before to 4 after them (medians).
const PERIOD: u32 = 480;

/// Samples that the ring has room for: 340 ms at 48 kHz.
const RING: usize = 16_384;

/// Kept in the ring beside a period: the thread that fills it wakes every 8 ms, and may be late.
const SPARE: Duration = Duration::from_millis(12);

/// Latency that is assumed before the device has told its own.
const FIRST_LATENCY: Duration = Duration::from_millis(30);

/// The latency is told in steps of this, so that the jitter of the device's reports does not change it.
const LATENCY_STEP: u64 = 5_000_000;

/// Errors of a device that are logged.
const LOGGED: u32 = 8;

/// Most reports that wait; the oldest are of no use.
const REPORTS: usize = 64;

/// What a callback tells.
#[derive(Debug, Clone, Copy)]
struct Report {
    /// Samples taken from the ring before this callback.
    taken: u64,
    /// When the next of them is heard.
    at: AirTime,
    /// Samples that the callback wanted.
    period: usize,
}

/// A stream to the default device.
pub(super) struct DeviceSink {
    /// Playing until it is dropped.
    _stream: Stream,
    rate: u32,
    ring: Producer<Frame>,
    reports: Consumer<Report>,
    last: Option<Report>,
    /// Samples put into the ring.
    put: u64,
    period: usize,
    latency: Duration,
    flags: Arc<Flags>,
}

/// What the device's threads tell.
#[derive(Debug, Default)]
struct Flags {
    /// The device is gone.
    failed: AtomicBool,
    /// The device had no samples for a moment.
    disturbed: AtomicBool,
}

impl DeviceSink {
    /// Opens the default device, at 48 kHz if it can.
    pub(super) fn open() -> Result<DeviceSink, String> {
        // alsa-lib writes pages to stderr if there is no device.
        let said = alsa::Output::local_error_handler();
        let opened = DeviceSink::open_default();
        if let (Err(_), Ok(said)) = (&opened, said) {
            debug!("ALSA: {}", said.borrow());
        }
        opened
    }

    fn open_default() -> Result<DeviceSink, String> {
        let device = cpal::default_host().default_output_device().ok_or("there is no sound device")?;
        let supported = choose(&device)?;
        let mut config = supported.config();
        if let SupportedBufferSize::Range { min, max } = *supported.buffer_size()
            && (min..=max).contains(&PERIOD)
        {
            config.buffer_size = BufferSize::Fixed(PERIOD);
        }
        let format = supported.sample_format();
        let open = |config| match format {
            SampleFormat::F32 => stream::<f32>(&device, config),
            SampleFormat::I16 => stream::<i16>(&device, config),
            SampleFormat::I32 => stream::<i32>(&device, config),
            SampleFormat::U8 => stream::<u8>(&device, config),
            other => Err(format!("it wants samples of the type {other}")),
        };
        let parts = open(config).or_else(|error| {
            debug!("sound device with {config:?}: {error}");
            open(StreamConfig { buffer_size: BufferSize::Default, ..config })
        })?;
        let (stream, ring, reports, flags) = parts;
        stream.play().map_err(|error| error.to_string())?;
        debug!("sound device: {config:?}, {format}");
        Ok(DeviceSink {
            _stream: stream,
            rate: config.sample_rate,
            ring,
            reports,
            last: None,
            put: 0,
            period: PERIOD as usize,
            latency: FIRST_LATENCY,
            flags,
        })
    }

    fn frames(&self, frames: u64) -> Duration {
        Duration::from_nanos(frames * 1_000_000_000 / u64::from(self.rate))
    }
}

/// Two channels at 48 kHz if the device has them, else what it prefers.
fn choose(device: &cpal::Device) -> Result<SupportedStreamConfig, String> {
    let usable = |format| matches!(format, SampleFormat::F32 | SampleFormat::I16 | SampleFormat::I32);
    let ranges = device.supported_output_configs().map_err(|error| error.to_string())?;
    let best = ranges
        .filter(|range| range.channels() == 2 && usable(range.sample_format()))
        .filter_map(|range| range.try_with_sample_rate(SOUND_CLOCK))
        .min_by_key(|config| config.sample_format() != SampleFormat::F32);
    match best {
        Some(config) => Ok(config),
        None => device.default_output_config().map_err(|error| error.to_string()),
    }
}

type Parts = (Stream, Producer<Frame>, Consumer<Report>, Arc<Flags>);

fn stream<T: SizedSample + FromSample<f32> + Send + 'static>(
    device: &cpal::Device,
    config: StreamConfig,
) -> Result<Parts, String> {
    let (ring, mut samples) = RingBuffer::<Frame>::new(RING);
    let (mut report, reports) = RingBuffer::<Report>::new(REPORTS);
    let flags = Arc::<Flags>::default();
    let (callback_flags, error_flags) = (flags.clone(), flags.clone());
    let channels = usize::from(config.channels.max(1));
    let mut taken = 0u64;
    let callback = move |out: &mut [T], info: &OutputCallbackInfo| {
        let times = info.timestamp();
        let at = wall_clock() + times.playback.duration_since(times.callback);
        // If the ring is full, nobody has read the reports for a while.
        let _ = report.push(Report { taken, at, period: out.len() / channels });
        for out in out.chunks_mut(channels) {
            let frame = samples.pop();
            taken += u64::from(frame.is_ok());
            if frame.is_err() && taken > 0 {
                callback_flags.disturbed.store(true, Relaxed);
            }
            let frame = frame.unwrap_or_default();
            match out {
                [mono] => *mono = T::from_sample((frame[0] + frame[1]) / 2.0),
                [left, right, rest @ ..] => {
                    (*left, *right) = (T::from_sample(frame[0]), T::from_sample(frame[1]));
                    rest.fill(T::EQUILIBRIUM);
                }
                [] => {}
            }
        }
    };
    // While PulseAudio connects, cpal reports hundreds.
    let mut logged = 0;
    let error = move |error: cpal::Error| {
        logged += 1;
        if logged <= LOGGED {
            debug!("sound device: {error}");
        }
        use cpal::ErrorKind;
        if matches!(error.kind(), ErrorKind::DeviceNotAvailable | ErrorKind::StreamInvalidated) {
            error_flags.failed.store(true, Relaxed);
        }
        if error.kind() == ErrorKind::Xrun {
            error_flags.disturbed.store(true, Relaxed);
        }
    };
    let stream =
        device.build_output_stream(config, callback, error, None).map_err(|error| error.to_string())?;
    Ok((stream, ring, reports, flags))
}

impl Sink for DeviceSink {
    fn rate(&self) -> u32 {
        self.rate
    }

    fn pump(&mut self, now: AirTime, render: &mut dyn FnMut(AirTime, &mut [Frame])) -> io::Result<()> {
        if self.flags.failed.load(Relaxed) {
            return Err(io::Error::other("the sound device is gone"));
        }
        while let Ok(report) = self.reports.pop() {
            self.period = report.period;
            self.last = Some(report);
        }
        // Before the first callback nobody knows when anything is heard.
        let Some(last) = self.last else { return Ok(()) };
        let spare = (SPARE.as_nanos() as u64 * u64::from(self.rate) / 1_000_000_000) as usize;
        let wanted = (self.period + spare).min(RING - BLOCK);
        let mut block = [[0.0; 2]; BLOCK];
        while RING - self.ring.slots() < wanted {
            let at = last.at + self.frames(self.put.saturating_sub(last.taken));
            let latency = at.since(now).as_nanos() as u64;
            if latency > self.latency.as_nanos() as u64 {
                self.latency = Duration::from_nanos(latency.next_multiple_of(LATENCY_STEP));
            }
            render(at, &mut block);
            for frame in block {
                // There is room, as `wanted` leaves a block.
                let _ = self.ring.push(frame);
            }
            self.put += BLOCK as u64;
        }
        Ok(())
    }

    fn was_disturbed(&mut self) -> bool {
        self.flags.disturbed.swap(false, Relaxed)
    }

    fn latency(&self) -> Duration {
        self.latency
    }
}
