//! The speaker's thread: packets and commands in, samples to a [`Sink`].

#![expect(clippy::disallowed_methods, reason = "a shell: a device wants samples at their time")]

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tracing::warn;

use super::decode::SoundDecoder;
use super::mixer::{Mixer, SoundStatus};
use super::receiver::ReceiverThread;
use super::sink::{ClockSink, JITTER, Sink};
use crate::clock::wall_clock;
use crate::directory::SoundPacket;
use crate::media::{AirTime, SoundCodec};
use crate::wire::rtp::Header;

/// How often the sink is asked what it wants.
const TICK: Duration = Duration::from_millis(8);

/// Inputs that may wait. A speaker that is this far behind loses packets, which it conceals.
const QUEUE: usize = 512;

/// Pause before a device is opened again that has failed.
#[cfg(feature = "sound")]
const REOPEN: Duration = Duration::from_secs(2);

/// What the samples are for.
#[derive(Debug, Clone)]
pub enum Output {
    /// The default sound device.
    #[cfg(feature = "sound")]
    Device,
    /// Nobody listens; the samples are saved in this WAV file, if there is one.
    Clock(Option<PathBuf>),
}

/// Input of the thread.
pub(crate) enum SpeakerInput {
    /// Packets of this serial number will come. The thread that receives them is to be started, if they do not come with the
    /// pictures.
    Tune {
        serial: u64,
        source: Option<IpAddr>,
        work: Option<Box<ReceiverThread>>,
    },
    Forget {
        serial: u64,
    },
    Hear {
        serial: Option<u64>,
    },
    Packet {
        serial: u64,
        arrival: AirTime,
        codec: SoundCodec,
        header: Header,
        packet: Vec<u8>,
    },
    Told {
        serial: u64,
        packets: Vec<SoundPacket>,
    },
    Gain(f32),
}

#[derive(Default)]
struct Shared {
    status: SoundStatus,
    /// When the first sample of a [`Output::Clock`] was heard.
    began: Option<AirTime>,
    /// Why nothing can be heard.
    problem: Option<String>,
}

/// A handle of the speaker's thread, which ends when the last one is dropped.
#[derive(Clone)]
pub struct Speaker {
    inputs: SyncSender<SpeakerInput>,
    shared: Arc<Mutex<Shared>>,
}

impl Speaker {
    /// Starts the thread. A device that cannot be opened is reported as the [problem](Self::problem), once in the log, and tried
    /// again if it has worked before. The thread has ended, and a file is whole, when the result's [`JoinHandle`] is joined.
    ///
    /// # Errors
    /// The system refuses a thread, or the file cannot be written.
    pub fn start(output: Output) -> io::Result<(Speaker, JoinHandle<()>)> {
        let (inputs, received) = mpsc::sync_channel(QUEUE);
        let shared = Arc::<Mutex<Shared>>::default();
        let worker_shared = shared.clone();
        let run: Box<dyn FnOnce() + Send> = match output {
            Output::Clock(file) => {
                let mut sink = ClockSink::new(file.as_deref())?;
                Box::new(move || {
                    let mut thread = SpeakerThread::new(received, worker_shared, sink.rate());
                    thread.run_clock(&mut sink);
                })
            }
            #[cfg(feature = "sound")]
            Output::Device => Box::new(move || run_device(received, worker_shared)),
        };
        let thread = thread::Builder::new().name("speaker".into()).spawn(run)?;
        Ok((Speaker { inputs, shared }, thread))
    }

    /// Sets the gain, 0.0..=1.0.
    pub fn set_gain(&self, gain: f32) {
        self.send(SpeakerInput::Gain(gain));
    }

    /// What is heard now.
    pub fn status(&self) -> SoundStatus {
        lock(&self.shared).status
    }

    /// Why nothing can be heard; `None` if there is a device.
    pub fn problem(&self) -> Option<String> {
        lock(&self.shared).problem.clone()
    }

    /// When the first sample of a WAV file was heard.
    pub fn began(&self) -> Option<AirTime> {
        lock(&self.shared).began
    }

    pub(crate) fn send(&self, input: SpeakerInput) {
        match self.inputs.try_send(input) {
            Err(TrySendError::Full(SpeakerInput::Packet { .. })) => {}
            // A command is not lost. The thread always comes back to its queue.
            Err(TrySendError::Full(command)) => drop(self.inputs.send(command)),
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
        }
    }
}

// A poisoned lock is usable: its holders only assign fields.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

struct SpeakerThread {
    inputs: Receiver<SpeakerInput>,
    shared: Arc<Mutex<Shared>>,
    mixer: Mixer<SoundDecoder>,
}

/// All handles are dropped.
struct Over;

impl SpeakerThread {
    fn new(inputs: Receiver<SpeakerInput>, shared: Arc<Mutex<Shared>>, rate: u32) -> SpeakerThread {
        SpeakerThread { inputs, shared, mixer: Mixer::new(rate, SoundDecoder::new) }
    }

    fn run_clock(&mut self, sink: &mut ClockSink) {
        loop {
            if self.take_inputs(TICK).is_err() {
                return;
            }
            if let Err(error) = self.pump(sink) {
                warn!("the sound is not saved any more: {error}");
                lock(&self.shared).problem = Some(error.to_string());
                return;
            }
            lock(&self.shared).began = sink.began();
        }
    }

    /// Handles the inputs that come within `wait`.
    fn take_inputs(&mut self, wait: Duration) -> Result<(), Over> {
        match self.inputs.recv_timeout(wait) {
            Ok(input) => self.handle(input),
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            Err(RecvTimeoutError::Disconnected) => return Err(Over),
        }
        for _ in 0..QUEUE {
            match self.inputs.try_recv() {
                Ok(input) => self.handle(input),
                Err(_) => break,
            }
        }
        Ok(())
    }

    fn handle(&mut self, input: SpeakerInput) {
        match input {
            SpeakerInput::Tune { serial, source, work } => {
                self.mixer.tune(serial, source);
                if let Some(work) = work
                    && let Err(error) = work.start()
                {
                    warn!("no sound: {error}");
                }
            }
            SpeakerInput::Forget { serial } => self.mixer.forget(serial),
            SpeakerInput::Hear { serial } => self.mixer.hear(serial),
            SpeakerInput::Packet { serial, arrival, codec, header, packet } => {
                self.mixer.handle_packet(serial, arrival, codec, header, &packet);
            }
            SpeakerInput::Told { serial, packets } => self.mixer.handle_told(serial, &packets),
            SpeakerInput::Gain(gain) => self.mixer.set_gain(gain),
        }
    }

    fn pump(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        self.mixer.set_delay((sink.latency() + JITTER).as_nanos() as i64);
        let mixer = &mut self.mixer;
        sink.pump(wall_clock(), &mut |heard_at, out| mixer.render(heard_at, out))?;
        if sink.was_disturbed() {
            self.mixer.disturb();
        }
        let device_ms = sink.latency().as_secs_f64() * 1e3;
        lock(&self.shared).status = SoundStatus { device_ms, ..self.mixer.status() };
        Ok(())
    }
}

/// Plays on the default device, and opens it again when it is gone, until all handles are dropped.
#[cfg(feature = "sound")]
fn run_device(inputs: Receiver<SpeakerInput>, shared: Arc<Mutex<Shared>>) {
    use std::time::Instant;

    use super::device::DeviceSink;

    let mut sink = match DeviceSink::open() {
        Ok(sink) => sink,
        Err(error) => {
            warn!("no sound: {error}");
            lock(&shared).problem = Some(error);
            return;
        }
    };
    let mut thread = SpeakerThread::new(inputs, shared, sink.rate());
    loop {
        if thread.take_inputs(TICK).is_err() {
            return;
        }
        let Err(error) = thread.pump(&mut sink) else { continue };
        warn!("no sound: {error}; the device is tried again every {} s", REOPEN.as_secs());
        lock(&thread.shared).problem = Some(error.to_string());
        lock(&thread.shared).status = SoundStatus::default();
        drop(sink);
        let rate = thread.mixer.rate();
        sink = loop {
            let failed = Instant::now();
            while failed.elapsed() < REOPEN {
                if thread.take_inputs(TICK).is_err() {
                    return;
                }
            }
            match DeviceSink::open() {
                Ok(sink) if sink.rate() == rate => break sink,
                // The voices resample to the rate of the device before.
                Ok(_) | Err(_) => {}
            }
        };
        lock(&thread.shared).problem = None;
    }
}
