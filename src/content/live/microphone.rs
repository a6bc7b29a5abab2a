//! The microphone beside a camera of this machine. A thread of its own reads it, because reading blocks. If the microphone fails, the
//! station is silent, its pictures go on, the log has one sentence, and the thread opens the device again.
//!
//! The time stamp of a sample follows from its number, so that the sound follows the device's clock, as that of a network camera does.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::arrivals::ArrivalSender;
use super::camera::Claim;
#[cfg(feature = "microphone")]
use super::capture::AlsaCapture;
use crate::content::sound::{CHANNELS, FRAME, RATE};
use crate::media::AirTime;
use crate::wire::sdp::offers::Coding;

/// Longest wait of a read. The thread ends within this time after the station stops listening.
pub(super) const GLANCE: Duration = Duration::from_millis(100);

/// A microphone that gives no samples for this long has failed.
const STALL: Duration = Duration::from_secs(3);

/// The least lateness of samples is measured in windows of this length, and compared from one to the next: clocks drift by less than a
/// millisecond in a window.
const WINDOW: Duration = Duration::from_secs(2);

/// In nanoseconds. If samples come earlier than those of the window before by more than this, the device is no real one: ALSA's `null`
/// and `file` give as many samples as are asked for, at once.
const MOST_AHEAD: i64 = 1_000_000_000;

/// In nanoseconds. If samples come later than those of the window before by more than this, samples before them were lost: a sound
/// server that was held up reports no overrun.
const MOST_LOST: i64 = 100_000_000;

/// The log says that a microphone is heard when it has given samples for this long.
const STEADY: Duration = Duration::from_secs(1);

/// Shortest and longest pause before a microphone is tried again. It doubles with each failure in a row.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// If a microphone was heard for longer than this, its next failure counts as the first one in a row.
const LASTING: Duration = Duration::from_secs(10);

/// Values of a block: 20 ms in both channels.
const BLOCK: usize = FRAME as usize * CHANNELS;

/// A microphone, and the station or publisher that has its sound.
#[derive(Debug, Clone)]
pub(crate) struct Microphone {
    /// ALSA's name of it.
    pub(crate) device: String,
    /// The beginning of each sentence about it, as in `station 7 "Foyer"`.
    pub(crate) heard_by: String,
}

/// The result of a read of a microphone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(any(feature = "microphone", test)),
    expect(dead_code, reason = "without ALSA nothing is heard")
)]
pub(super) enum Heard {
    /// Samples were added.
    Samples,
    /// No sample came within [`GLANCE`].
    Nothing,
    /// Samples were lost. The next ones are of the present moment.
    Gap,
}

/// A source of samples: an ALSA device, or a test's.
pub(super) trait Capture {
    /// Adds the samples that have come to `samples`: left and right in turn, at [`RATE`]. Waits up to [`GLANCE`] for some.
    ///
    /// # Errors
    /// The reason why the device gives no more samples: the rest of a sentence that begins with the microphone's name.
    fn read(&mut self, samples: &mut Vec<i16>) -> Result<Heard, String>;
}

impl Microphone {
    /// The coding and the clock rate of what a microphone sends.
    pub(crate) const CODING: (Coding, u32) = (Coding::L16(CHANNELS as u8), RATE);

    /// Tells the station of `pictures` that there is sound, and starts the thread, which ends when nobody takes the pictures any more.
    pub(super) fn begin(self, pictures: &ArrivalSender) {
        pictures.tracks_at_once(Coding::Jpeg, Some(Microphone::CODING));
        let sender = pictures.beside();
        // If the thread cannot be started, the station is silent.
        let _ = std::thread::Builder::new().name("microphone".into()).spawn(move || self.hear(&sender, open));
    }

    /// Reads the microphone, and opens it again whenever it fails.
    #[expect(clippy::disallowed_methods, reason = "a shell: it tries again after a pause")]
    fn hear<C: Capture>(&self, sender: &ArrivalSender, open: impl Fn(&str) -> Result<C, String>) {
        let Microphone { device, heard_by } = self;
        // One thread for each station and device: if the driver still blocks the thread before this one, this one waits for it.
        let own = Path::new(heard_by).join(device);
        let _claim = loop {
            match Claim::of(&own) {
                Some(claim) => break claim,
                None if sender.is_closed() => return,
                None => sleep(GLANCE),
            }
        };
        let (mut told, mut pause) = (None, RETRY.0);
        while !sender.is_closed() {
            let mut since = None;
            let begin = || {
                info!("{heard_by}: the microphone \"{device}\" is heard");
                since = Some(Instant::now());
            };
            let Err(reason) = open(device).and_then(|mut capture| listen(&mut capture, sender, begin)) else {
                return;
            };
            if since.is_some_and(|since| since.elapsed() > LASTING) {
                pause = RETRY.0;
            }
            if since.is_some() || told.as_ref() != Some(&reason) {
                warn!("{heard_by} is silent: the microphone \"{device}\" {reason}; it is tried again");
                told = Some(reason);
            }
            let until = Instant::now() + pause;
            while Instant::now() < until && !sender.is_closed() {
                sleep(GLANCE);
            }
            pause = (pause * 2).min(RETRY.1);
        }
    }
}

#[cfg(feature = "microphone")]
fn open(device: &str) -> Result<AlsaCapture, String> {
    AlsaCapture::open(device)
}

#[cfg(not(feature = "microphone"))]
fn open(_: &str) -> Result<Never, String> {
    Err("cannot be opened by this program, which was built without the feature `microphone`".into())
}

/// No microphone at all.
#[cfg(not(feature = "microphone"))]
enum Never {}

#[cfg(not(feature = "microphone"))]
impl Capture for Never {
    fn read(&mut self, _: &mut Vec<i16>) -> Result<Heard, String> {
        match *self {}
    }
}

/// Passes a microphone's samples on, until nobody takes them any more. Calls `begin` when samples have come for [`STEADY`].
#[expect(clippy::disallowed_methods, reason = "a shell: sound comes, or does not, now")]
fn listen(capture: &mut impl Capture, sender: &ArrivalSender, begin: impl FnOnce()) -> Result<(), String> {
    let (mut samples, mut stamps, mut begin) = (Vec::new(), Stamps::default(), Some(begin));
    let (mut first, mut last) = (None, Instant::now());
    while !sender.is_closed() {
        match capture.read(&mut samples)? {
            Heard::Samples => {
                last = Instant::now();
                if last - *first.get_or_insert(last) > STEADY
                    && let Some(begin) = begin.take()
                {
                    begin();
                }
            }
            Heard::Nothing if last.elapsed() > STALL => {
                return Err(format!("gives no sound for {} s", STALL.as_secs()));
            }
            Heard::Nothing => {}
            Heard::Gap => {
                samples.clear();
                stamps = Stamps::default();
            }
        }
        let (now, whole) = (sender.now(), samples.len() / BLOCK * BLOCK);
        for (n, block) in samples[..whole].chunks_exact(BLOCK).enumerate() {
            let waiting = (samples.len() - n * BLOCK) / CHANNELS;
            let stamp = stamps.next(now, waiting)?;
            // Linear samples are big-endian on the wire (RFC 3551 section 4.5.11), and the decoder takes them so.
            let bytes: Vec<u8> = block.iter().flat_map(|value| value.to_be_bytes()).collect();
            sender.sound(bytes.into(), stamp, false);
        }
        samples.drain(..whole);
    }
    Ok(())
}

/// The times of blocks, by the number of samples before them. Pure.
#[derive(Debug, Default)]
struct Stamps {
    /// When the first sample was heard, and the samples since.
    begin: Option<(AirTime, u64)>,
    /// When the current window began, and the least lateness of its samples by the samples' clock, in nanoseconds.
    window: Option<(AirTime, i64)>,
    /// The same of the window before.
    before: i64,
}

impl Stamps {
    /// The time of the first sample of a block. `waiting` samples have come until `now`, this one and those behind it.
    ///
    /// # Errors
    /// The blocks are ahead of the time.
    fn next(&mut self, now: AirTime, waiting: usize) -> Result<AirTime, String> {
        let heard = now - length(waiting as u64);
        let (begin, count) = *self.begin.get_or_insert((heard, 0));
        let mut stamp = begin + length(count);
        let late = heard.signed_since(stamp);
        if late < self.before - MOST_AHEAD {
            return Err("gives more sound than time passes, and so is no device that hears".into());
        }
        let (since, least) = *self.window.get_or_insert((now, late));
        self.window = Some((since, least.min(late)));
        if now.since(since) > WINDOW {
            if least.min(late) - self.before > MOST_LOST {
                // The device has lost samples, and did not say so.
                *self = Stamps { begin: Some((heard, 0)), ..Stamps::default() };
                stamp = heard;
            } else {
                (self.before, self.window) = (least.min(late), None);
            }
        }
        if let Some((_, count)) = &mut self.begin {
            *count += u64::from(FRAME);
        }
        Ok(stamp)
    }
}

/// How long so many samples are.
fn length(samples: u64) -> Duration {
    // A day of samples by 10^9 fits 64 bits; 12 years of them do not, so seconds come first.
    let (seconds, rest) = (samples / u64::from(RATE), samples % u64::from(RATE));
    Duration::new(seconds, (rest * 1_000_000_000 / u64::from(RATE)) as u32)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a microphone takes its time")]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::super::arrivals::{Arrival, Arrivals, Stamped, arrivals};
    use super::*;
    use crate::clock::AirClock;

    const START: AirTime = AirTime(1_790_000_000_000_000_000);

    /// Gives a list of reads, and then fails.
    struct Script(std::vec::IntoIter<(Heard, usize)>);

    impl Capture for Script {
        fn read(&mut self, samples: &mut Vec<i16>) -> Result<Heard, String> {
            let (heard, count) = self.0.next().ok_or("was pulled out")?;
            samples.resize(samples.len() + count * CHANNELS, 0x0102);
            Ok(heard)
        }
    }

    fn microphone(name: &str) -> Microphone {
        Microphone { device: "default".into(), heard_by: format!("station {name}") }
    }

    async fn next_sound(arrivals: &mut Arrivals) -> Stamped<bytes::Bytes> {
        match arrivals.next().await {
            Ok(Arrival::Sound(sound)) => sound,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn stamps_follow_the_samples_and_not_the_moments_at_which_they_come() {
        let mut stamps = Stamps::default();
        let millis = Duration::from_millis;
        // 45 ms come at once; the next block 30 ms later, half as late again as it should.
        assert_eq!(stamps.next(START, 2160), Ok(START - millis(45)));
        assert_eq!(stamps.next(START, 1200), Ok(START - millis(25)));
        assert_eq!(stamps.next(START + millis(30), 960), Ok(START - millis(5)));
        // After twelve years of samples.
        let samples: u64 = 1 << 44;
        assert_eq!(length(samples), Duration::new(366_503_875, 925_333_333));
    }

    /// The stamps of blocks that come at these moments, and what is left of the moments: how late each block is.
    fn lateness(moments: impl Iterator<Item = AirTime>) -> Vec<i64> {
        let mut stamps = Stamps::default();
        moments.map(|at| at.signed_since(stamps.next(at, 960).unwrap()) / 1_000_000).collect()
    }

    #[test]
    fn a_clock_that_drifts_is_followed_for_a_day_and_samples_that_were_lost_are_found() {
        // 200 ppm slow: a day is 17 s longer. The stamps stay those of the samples.
        let day = lateness((0..24 * 3600 * 50).map(|n| START + Duration::from_nanos(20_004_000) * n));
        assert_eq!((day[0], day[day.len() - 1]), (20, 20 + 17_279));
        // 200 ppm fast, it is as far ahead.
        let day = lateness((0..24 * 3600 * 50).map(|n| START + Duration::from_nanos(19_996_000) * n));
        assert_eq!(day[day.len() - 1], 20 - 17_279);
        // 300 ms are lost after 10 s. Within 4 s the stamps are right again.
        let lost = |n: u32| if n < 500 { 0 } else { 300 };
        let lost = lateness((0..1000).map(|n| START + Duration::from_millis(u64::from(20 * n + lost(n)))));
        assert_eq!((lost[499], lost[500], lost[700], lost[999]), (20, 320, 20, 20));
        // Blocks that are late now and then are not.
        let held_up = |n: u32| 20 * 15u32.saturating_sub((n + 45) % 90);
        let late = lateness((0..1000).map(|n| START + Duration::from_millis(u64::from(20 * n + held_up(n)))));
        assert_eq!((late[945], late[980]), (320, 20));
    }

    #[tokio::test]
    async fn a_microphone_that_fails_is_opened_again_and_samples_that_were_lost_are_a_gap() {
        let (sender, mut arrivals) = arrivals(AirClock::start());
        let opened = AtomicU32::new(0);
        let open = |name: &str| {
            assert_eq!(name, "default");
            match opened.fetch_add(1, Relaxed) {
                0 => Err("cannot be opened: No such device".into()),
                1 => Ok(Script(
                    vec![(Heard::Samples, 500), (Heard::Nothing, 0), (Heard::Samples, 500)].into_iter(),
                )),
                // Samples from before the gap are no part of the block behind it.
                _ => Ok(Script(
                    vec![(Heard::Samples, 500), (Heard::Gap, 0), (Heard::Samples, 960)].into_iter(),
                )),
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| microphone("a").hear(&sender, open));
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            scope.spawn(move || {
                runtime.block_on(async {
                    let first = next_sound(&mut arrivals).await;
                    assert_eq!(
                        (first.body.len(), &first.body[..2], first.in_step),
                        (3840, &[1, 2][..], false)
                    );
                    let second = next_sound(&mut arrivals).await;
                    assert!(second.stamp > first.stamp.map(|stamp| stamp + Duration::from_secs(1)));
                    assert_eq!(second.stamp, Some(second.stamp.unwrap().min(second.at)));
                });
            });
        });
        assert!(opened.into_inner() >= 3);
    }

    #[test]
    fn what_hears_nothing_or_more_than_there_is_has_failed() {
        let (sender, _arrivals) = arrivals(AirClock::start());
        // As ALSA's `null` does.
        let mut fast = Script(vec![(Heard::Samples, 960); 1000].into_iter());
        let reason = listen(&mut fast, &sender, || {}).unwrap_err();
        assert_eq!(reason, "gives more sound than time passes, and so is no device that hears");
        struct Deaf;
        impl Capture for Deaf {
            fn read(&mut self, _: &mut Vec<i16>) -> Result<Heard, String> {
                sleep(GLANCE);
                Ok(Heard::Nothing)
            }
        }
        assert_eq!(listen(&mut Deaf, &sender, || panic!("sound")).unwrap_err(), "gives no sound for 3 s");
    }
}
