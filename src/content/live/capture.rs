//! A microphone by ALSA, which also reaches PulseAudio's and PipeWire's by their plugins.
//!
//! alsa-lib is spoken to directly: cpal, which the viewer's speaker uses, would open the same device on a thread of its own, report
//! overruns by a callback, and say nothing of a device that is silent for ever.

use alsa::pcm::{Access, Format, HwParams, PCM};
use alsa::{Direction, Output, ValueOr};
use rustix::io::Errno;
use tracing::debug;

use super::microphone::{Capture, GLANCE, Heard};
use crate::content::sound::{CHANNELS, FRAME, RATE};

/// The longest time between two reads after which no sample is lost, in microseconds: the device's buffer.
const BUFFER: u32 = 500_000;

/// An ALSA capture device that is open.
pub(super) struct AlsaCapture {
    device: PCM,
    /// Channels of the device, 1 or 2.
    channels: usize,
    /// The samples of the last read.
    values: Vec<i16>,
}

impl AlsaCapture {
    /// Opens a device, and starts the capture.
    ///
    /// # Errors
    /// The reason why it cannot be opened: the rest of a sentence that begins with the microphone's name.
    pub(super) fn open(name: &str) -> Result<AlsaCapture, String> {
        // alsa-lib writes pages of text to stderr if there is no such device.
        let said = Output::local_error_handler();
        let opened = AlsaCapture::begin(name);
        if let (Err(_), Ok(said)) = (&opened, said) {
            debug!("ALSA: {}", said.borrow());
        }
        opened
    }

    fn begin(name: &str) -> Result<AlsaCapture, String> {
        // A device that another program has would else be waited for, without end.
        let device = PCM::new(name, Direction::Capture, true).map_err(|error| match errno(&error) {
            // The error for a card that is not there depends on whether the machine has others.
            Errno::NOENT | Errno::NODEV | Errno::NXIO | Errno::INVAL => {
                format!(
                    "is no device of this machine: {}; `arecord -L` lists those there are",
                    reason(&error)
                )
            }
            Errno::BUSY => "cannot be opened: another program has it".to_owned(),
            _ => format!("cannot be opened: {}", reason(&error)),
        })?;
        let unfit = |error: alsa::Error| {
            format!(
                "does not give samples of 16 bits at {RATE} Hz: {}; \"plughw:...\" instead of \"hw:...\" converts them",
                reason(&error)
            )
        };
        let channels = {
            let parameters = HwParams::any(&device).map_err(unfit)?;
            parameters.set_access(Access::RWInterleaved).map_err(unfit)?;
            parameters.set_format(Format::s16()).map_err(unfit)?;
            parameters.set_rate(RATE, ValueOr::Nearest).map_err(unfit)?;
            let channels = if parameters.set_channels(CHANNELS as u32).is_ok() { CHANNELS } else { 1 };
            parameters.set_channels(channels as u32).map_err(unfit)?;
            parameters.set_buffer_time_near(BUFFER, ValueOr::Nearest).map_err(unfit)?;
            parameters.set_period_size_near(FRAME.into(), ValueOr::Nearest).map_err(unfit)?;
            device.hw_params(&parameters).map_err(unfit)?;
            channels
        };
        device.start().map_err(|error| format!("does not begin: {}", reason(&error)))?;
        Ok(AlsaCapture { device, channels, values: vec![0; FRAME as usize * channels] })
    }

    /// Restarts the capture after an overrun or a suspend; any other error is returned.
    fn recover(&self, error: alsa::Error) -> Result<Heard, String> {
        match errno(&error) {
            Errno::AGAIN | Errno::INTR => Ok(Heard::Nothing),
            // An overrun, or the machine slept.
            Errno::PIPE | Errno::STRPIPE => {
                let failed = |error: alsa::Error| format!("is lost: {}", reason(&error));
                self.device.try_recover(error, true).map_err(failed)?;
                self.device.start().map_err(failed)?;
                Ok(Heard::Gap)
            }
            _ => Err(format!("is lost: {}", reason(&error))),
        }
    }
}

impl Capture for AlsaCapture {
    fn read(&mut self, samples: &mut Vec<i16>) -> Result<Heard, String> {
        match self.device.wait(Some(GLANCE.as_millis() as u32)) {
            Ok(true) => {}
            Ok(false) => return Ok(Heard::Nothing),
            Err(error) => return self.recover(error),
        }
        let read = match self.device.io_i16() {
            Ok(io) => io.readi(&mut self.values),
            Err(error) => Err(error),
        };
        match read {
            Ok(0) => Ok(Heard::Nothing),
            Ok(frames) => {
                for frame in self.values[..frames * self.channels].chunks_exact(self.channels) {
                    samples.extend([frame[0], frame[self.channels - 1]]);
                }
                Ok(Heard::Samples)
            }
            Err(error) => self.recover(error),
        }
    }
}

/// The error's number.
fn errno(error: &alsa::Error) -> Errno {
    Errno::from_raw_os_error(error.errno().abs())
}

/// The system's words for an error, as in "No such file or directory".
fn reason(error: &alsa::Error) -> String {
    let text = std::io::Error::from_raw_os_error(error.errno().abs()).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_microphone_is_told() {
        for name in ["no-such-device", "hw:99", "plughw:99,0"] {
            let reason = AlsaCapture::open(name).err().unwrap();
            assert!(reason.starts_with("is no device of this machine: "), "{name}: {reason}");
        }
    }

    #[test]
    fn a_device_of_any_channels_is_heard_in_two() {
        // ALSA's `null` gives silence at once, as much as is asked for.
        let mut capture = AlsaCapture::open("null").unwrap();
        let mut samples = vec![7];
        assert_eq!(capture.read(&mut samples), Ok(Heard::Samples));
        assert_eq!((samples.len() - 1) % CHANNELS, 0);
    }
}
