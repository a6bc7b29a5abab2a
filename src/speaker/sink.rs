//! Where samples go. A sink is given the time, and asks for the samples that it wants by then.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::Frame;
use super::wav::WavFile;
use crate::media::{AirTime, SOUND_CLOCK};

/// Samples that are rendered at a time: 5 ms at 48 kHz.
pub(super) const BLOCK: usize = 240;

/// Jitter of packets, and delays of the threads that pass them on. Packets leave the broadcaster when they are due, to about a
/// millisecond; the rest is for Wi-Fi and for a busy machine.
pub(super) const JITTER: Duration = Duration::from_millis(15);

/// A consumer of samples.
pub trait Sink {
    /// Samples a second.
    fn rate(&self) -> u32;
    /// Has `render` fill as many blocks as are wanted at `now`: it is told when the first sample of a block is heard.
    ///
    /// # Errors
    /// The sink is of no more use.
    fn pump(&mut self, now: AirTime, render: &mut dyn FnMut(AirTime, &mut [Frame])) -> io::Result<()>;
    /// Whether the device has played something else, or nothing, for a moment since the last call.
    fn was_disturbed(&mut self) -> bool {
        false
    }
    /// From the rendering of a sample until it is heard, at most.
    fn latency(&self) -> Duration;
}

/// A sink without a device: it hears every sample at its time, to within a block, and saves it if there is a file.
pub(super) struct ClockSink {
    file: Option<WavFile>,
    /// When the first sample was heard, and the number of samples since.
    began: Option<AirTime>,
    frames: u64,
}

impl ClockSink {
    /// A sink that saves into `file`.
    pub(super) fn new(file: Option<&Path>) -> io::Result<ClockSink> {
        let file = file.map(|path| WavFile::create(path, SOUND_CLOCK)).transpose()?;
        Ok(ClockSink { file, began: None, frames: 0 })
    }

    /// When the first sample was heard.
    pub(super) fn began(&self) -> Option<AirTime> {
        self.began
    }
}

impl Sink for ClockSink {
    fn rate(&self) -> u32 {
        SOUND_CLOCK
    }

    fn pump(&mut self, now: AirTime, render: &mut dyn FnMut(AirTime, &mut [Frame])) -> io::Result<()> {
        let began = *self.began.get_or_insert(now);
        let mut block = [[0.0; 2]; BLOCK];
        loop {
            let (seconds, rest) =
                (self.frames / u64::from(SOUND_CLOCK), self.frames % u64::from(SOUND_CLOCK));
            let rest = Duration::from_nanos(rest * 1_000_000_000 / u64::from(SOUND_CLOCK));
            let at = began + Duration::from_secs(seconds) + rest;
            if at > now {
                return Ok(());
            }
            render(at, &mut block);
            if let Some(file) = &mut self.file {
                file.write(&block)?;
            }
            self.frames += BLOCK as u64;
        }
    }

    fn latency(&self) -> Duration {
        // A block is rendered when its first sample is due.
        Duration::from_millis(5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_week_a_block_is_still_heard_at_its_time() {
        let began = AirTime(1_790_000_000_000_000_000);
        let week = Duration::from_secs(7 * 86_400);
        let frames = week.as_secs() * u64::from(SOUND_CLOCK);
        let mut sink = ClockSink { file: None, began: Some(began), frames };
        let mut heard = Vec::new();
        // No more than two, should the sink want them for ever.
        let mut render = |at: AirTime, _: &mut [Frame]| {
            heard.push(at);
            assert!(heard.len() < 3, "{heard:?}");
        };
        sink.pump(began + week + Duration::from_millis(5), &mut render).unwrap();
        assert_eq!(heard, [began + week, began + week + Duration::from_millis(5)]);
    }
}
