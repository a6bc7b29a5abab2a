//! A station's sound as samples, shared by all pages that listen. Decoded once, and only while a page listens.
//!
//! Browsers decode Opus, and run code for sound, on https and localhost only: a wall at http://192.168.1.10 gets plain samples.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::sleep;
use tracing::warn;

use crate::clock::AirClock;
use crate::content::sound::linear::LinearDecoder;
use crate::headend::StationHandle;
use crate::media::{AirTime, Due, SOUND_CHANNELS as CHANNELS, SOUND_CLOCK, StationId, Unit};

/// Version of the wall's binary messages, and the kind of those with sound.
const VERSION: u8 = 1;
const KIND: u8 = 1;

/// Bytes before the samples in a message.
const HEADER: usize = 16;

/// Bytes of a sample of both channels.
const SAMPLE: usize = CHANNELS * 2;

/// Least samples of a chunk: 20 ms. With the packet that completes it, it has less than 40 ms.
const LEAST: usize = SOUND_CLOCK as usize / 50;

/// Sound leaves so long before it is due: a page needs it in time to hand it to the sound card. A station is ahead by
/// 200 ms and more.
const AHEAD: Duration = Duration::from_millis(150);

/// Chunks that wait for the slowest page, 320 ms and more. A page that is further behind loses the oldest. They are shared: a slow
/// page takes no memory of its own.
const QUEUE: usize = 16;

/// A chunk of sound, ready to be sent.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    /// When its first sample is due.
    due: AirTime,
    message: Bytes,
}

impl Chunk {
    /// ```text
    ///  0       1       2               4               8                       16
    /// +-------+-------+---------------+---------------+-----------------------+-----------
    /// |version| 1     | station       | number        | due                   | samples
    /// +-------+-------+---------------+---------------+-----------------------+-----------
    /// ```
    /// The numbers of the header are in network byte order. The samples are 16 bits, left and right in turn, least significant
    /// byte first, as browsers have them in memory.
    fn new(station: StationId, number: u32, due: AirTime, samples: &[i16]) -> Chunk {
        let mut message = BytesMut::with_capacity(HEADER + samples.len() * 2);
        message.put_u8(VERSION);
        message.put_u8(KIND);
        message.put_u16(station.0);
        message.put_u32(number);
        message.put_u64(due.0);
        samples.iter().for_each(|sample| message.put_i16_le(*sample));
        Chunk { due, message: message.freeze() }
    }

    /// The message that carries it to a page.
    pub(super) fn message(self) -> Bytes {
        self.message
    }

    /// Whether all of it was due before `now`, so that no page can play it in step with the picture any more.
    pub(super) fn is_over(&self, now: AirTime) -> bool {
        let samples = (self.message.len() - HEADER) / SAMPLE;
        self.due + span(samples) < now
    }
}

fn span(samples: usize) -> Duration {
    Duration::from_nanos(samples as u64 * 1_000_000_000 / u64::from(SOUND_CLOCK))
}

/// The sound of a station as [`Chunk`]s.
pub(super) struct PcmCache {
    station: Arc<StationHandle>,
    clock: AirClock,
    chunks: broadcast::Sender<Chunk>,
    running: Mutex<bool>,
}

impl PcmCache {
    pub(super) fn new(station: Arc<StationHandle>, clock: AirClock) -> PcmCache {
        PcmCache { station, clock, chunks: broadcast::Sender::new(QUEUE), running: Mutex::default() }
    }

    /// Whether it has the sound of this station, and not of one before it of the same number.
    pub(super) fn is_of(&self, station: &Arc<StationHandle>) -> bool {
        Arc::ptr_eq(&self.station, station)
    }

    /// Receives the chunks from now on, each [`AHEAD`] of its due time.
    pub(super) fn subscribe(self: &Arc<Self>) -> broadcast::Receiver<Chunk> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let chunks = self.chunks.subscribe();
        if !*running {
            *running = true;
            tokio::spawn(self.clone().run());
        }
        chunks
    }

    #[expect(clippy::disallowed_methods, reason = "a shell: it waits for sound that is nearly due")]
    async fn run(self: Arc<Self>) {
        let id = self.station.spec().id;
        let mut samples = match Samples::new() {
            Ok(samples) => samples,
            Err(error) => {
                // The next page that listens tries again.
                *self.running.lock().unwrap_or_else(PoisonError::into_inner) = false;
                return warn!("station {id}: no sound for the web: {error}");
            }
        };
        let mut packets = self.station.sound_feed.subscribe(self.clock.now());
        let mut number: u32 = 0;
        loop {
            let unit = tokio::select! {
                unit = packets.recv() => match unit {
                    Ok(unit) => unit,
                    Err(RecvError::Lagged(_)) => continue,
                    // The last reference to this is dropped, and so the subscribers' streams end.
                    Err(RecvError::Closed) => return,
                },
                // A station that is stuck has no packets.
                () = sleep(Duration::from_secs(1)) => {
                    if self.stop() { return }
                    continue
                }
            };
            sleep(self.clock.until(unit.due.at - AHEAD)).await;
            if self.stop() {
                return;
            }
            samples.add(&unit, |due, chunk| {
                number = number.wrapping_add(1);
                // Fails if the last page has just gone.
                let _ = self.chunks.send(Chunk::new(id, number, due, chunk));
            });
        }
    }

    /// Stops, unless a page listens.
    fn stop(&self) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        *running = self.chunks.receiver_count() > 0;
        !*running
    }
}

/// Decodes packets, and gathers their samples to chunks.
struct Samples {
    decoder: LinearDecoder,
    /// When the first of the gathered samples is due.
    due: AirTime,
    gathered: Vec<i16>,
    /// When the next packet is due, if none is lost.
    next: AirTime,
}

impl Samples {
    fn new() -> Result<Samples, opus::Error> {
        Ok(Samples {
            decoder: LinearDecoder::new()?,
            due: AirTime(0),
            gathered: Vec::new(),
            next: AirTime(0),
        })
    }

    /// Adds a packet. Calls `chunk` with what makes a chunk now, and when that is due: usually once, and twice if a packet was
    /// lost before this one.
    fn add(&mut self, unit: &Unit, mut chunk: impl FnMut(AirTime, &[i16])) {
        let Due { at, interval } = unit.due;
        if !self.gathered.is_empty() && at != self.next {
            chunk(self.due, &self.gathered);
            self.gathered.clear();
        }
        if self.gathered.is_empty() {
            self.due = at;
        }
        self.next = at + interval;
        self.gathered.extend(self.decoder.decode(unit));
        if self.gathered.len() >= LEAST * CHANNELS {
            chunk(self.due, &self.gathered);
            self.gathered.clear();
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "in virtual time")]
mod tests {
    use opus::{Application, Channels, Encoder};

    use super::*;
    use crate::headend::HeadEnd;
    use crate::lineup::StationSpec;

    const BEGIN: AirTime = AirTime(1_790_000_000_000_000_000);

    /// Packets of a tone, each of so many samples, one after the other.
    fn packets(begin: AirTime, lengths: &[usize]) -> Vec<Unit> {
        let mut encoder = Encoder::new(SOUND_CLOCK, Channels::Stereo, Application::LowDelay).unwrap();
        let mut at = 0;
        let mut packet = |length: usize| {
            let tone = (at..at + length).flat_map(|n| {
                let sample = (n as f32 * 0.1).sin() * 0.5;
                [sample, -sample]
            });
            let code = encoder.encode_vec_float(&tone.collect::<Vec<_>>(), 400).unwrap();
            let due =
                Due { at: begin + span(at), interval: (begin + span(at + length)).since(begin + span(at)) };
            at += length;
            Unit::sound(due, code.into())
        };
        lengths.iter().map(|length| packet(*length)).collect()
    }

    fn chunks(units: &[Unit]) -> Vec<(AirTime, usize)> {
        let mut samples = Samples::new().unwrap();
        let mut found = Vec::new();
        for unit in units {
            samples.add(unit, |due, chunk| found.push((due, chunk.len() / CHANNELS)));
        }
        found
    }

    #[test]
    fn short_packets_are_gathered_to_chunks_of_20_ms_and_more_without_a_gap() {
        let units = packets(BEGIN, &[960, 120, 120, 960, 960]);
        let expected = [(0, 960), (960, 1200), (2160, 960)];
        assert_eq!(chunks(&units), expected.map(|(at, length)| (BEGIN + span(at), length)));
    }

    #[test]
    fn after_a_lost_packet_a_chunk_begins_when_its_first_packet_is_due() {
        let mut units = packets(BEGIN, &[120, 960, 120, 960]);
        units.remove(1);
        assert_eq!(chunks(&units), [(BEGIN, 120), (BEGIN + span(1080), 1080)]);
    }

    #[test]
    fn what_is_no_opus_is_silence_of_the_same_length() {
        let due = Due { at: BEGIN, interval: Duration::from_millis(20) };
        let mut samples = Samples::new().unwrap();
        let mut found = Vec::new();
        samples.add(&Unit::sound(due, Bytes::from_static(&[0xff; 7])), |_, chunk| found = chunk.to_vec());
        assert_eq!(found, vec![0; 960 * CHANNELS]);
    }

    #[test]
    fn a_message_is_a_header_and_the_samples() {
        let chunk = Chunk::new(StationId(0x0102), 0x0304_0506, AirTime(0x0708_090a), &[1, -2]);
        assert!(!chunk.is_over(AirTime(0x0708_090a)) && chunk.is_over(AirTime(0x0708_090a + 21_000)));
        let message = [1, 1, 1, 2, 3, 4, 5, 6, 0, 0, 0, 0, 7, 8, 9, 10, 1, 0, 0xfe, 0xff];
        assert_eq!(chunk.message()[..], message);
    }

    #[tokio::test]
    async fn a_page_that_is_slow_loses_sound_and_the_decoder_ends_with_the_last_page() {
        let spec = StationSpec::sample("239.77.0.2:5004");
        let id = spec.id;
        let (head_end, _stop) = HeadEnd::for_tests(vec![spec], None);
        let station = head_end.station(id).unwrap();
        let cache = Arc::new(PcmCache::new(station.clone(), head_end.clock.clone()));
        let mut slow = cache.subscribe();
        let mut quick = cache.subscribe();
        let begin = head_end.clock.now();
        for unit in packets(begin, &[960; QUEUE + 6]) {
            station.sound_feed.push(unit, begin);
        }
        for n in 1..=QUEUE as u32 + 6 {
            let message = quick.recv().await.unwrap().message();
            assert_eq!(message[4..8], n.to_be_bytes());
        }
        assert_eq!(slow.recv().await.unwrap_err(), RecvError::Lagged(6));
        assert_eq!(slow.recv().await.unwrap().message()[4..8], 7u32.to_be_bytes());
        drop((slow, quick));
        let ended = async {
            while *cache.running.lock().unwrap() {
                station.sound_feed.push(packets(head_end.clock.now(), &[960]).remove(0), begin);
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the decoder ends");
    }
}
