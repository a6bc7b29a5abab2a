//! Puts the RTP packets of a track together, whatever its codec. Pure.

use bytes::Bytes;
use tracing::debug;

use super::arrivals::PictureBody;
use crate::wire::payload::aac::{AAC_FRAME, AacFrames};
use crate::wire::payload::h26x::AccessUnits;
use crate::wire::payload::jpeg::Depacketizer;
use crate::wire::rtp;
use crate::wire::sdp::offers::{Coding, OfferedTrack};

/// A packet of a track.
pub(crate) struct TrackPacket<'a> {
    pub(crate) header: rtp::Header,
    pub(crate) payload: &'a [u8],
    /// Whether packets before it are missing.
    pub(crate) lost: bool,
    /// Its timestamp in ticks since the beginning of the track.
    pub(crate) ticks: i64,
}

/// A picture or a packet of sound that is complete, and its time in nanoseconds since the beginning of the track.
pub(crate) enum TrackUnit {
    Picture(PictureBody, i64),
    Sound(Bytes, i64),
}

/// Puts the packets of a track together.
pub(crate) struct TrackReader {
    clock_rate: u32,
    /// Bytes of a sample in all channels, of sound whose packets are samples.
    sample: usize,
    depacketizer: TrackDepacketizer,
    /// Why the last packet that was dropped was wrong.
    fault: Option<String>,
}

enum TrackDepacketizer {
    Jpeg(Box<Depacketizer>),
    Nal(AccessUnits),
    Aac(AacFrames),
    /// Each packet is what the decoder takes.
    Plain,
}

impl TrackReader {
    pub(crate) fn new(track: &OfferedTrack) -> TrackReader {
        let (depacketizer, sample) = match &track.coding {
            Coding::Jpeg => (TrackDepacketizer::Jpeg(Box::default()), 0),
            Coding::Nal(codec, _) => (TrackDepacketizer::Nal(AccessUnits::new(*codec)), 0),
            Coding::Aac(format, _) => (TrackDepacketizer::Aac(AacFrames::new(*format)), 0),
            Coding::Pcmu(channels) | Coding::Pcma(channels) => {
                (TrackDepacketizer::Plain, usize::from(*channels))
            }
            Coding::L16(channels) => (TrackDepacketizer::Plain, 2 * usize::from(*channels)),
            Coding::Opus => (TrackDepacketizer::Plain, 0),
        };
        TrackReader { clock_rate: track.clock_rate, sample, depacketizer, fault: None }
    }

    /// Why the last packet that was dropped was wrong, if one was since this was asked last.
    pub(crate) fn take_fault(&mut self) -> Option<String> {
        self.fault.take()
    }

    /// Takes a packet. Returns what it completes. A packet that is wrong is dropped.
    pub(crate) fn take(&mut self, packet: &TrackPacket<'_>) -> Vec<TrackUnit> {
        let (raw, payload) = (packet.header.timestamp, packet.payload);
        let clock_rate = self.clock_rate;
        // The time of a timestamp near this packet's.
        let elapsed = |of: u32| {
            let ticks = packet.ticks.saturating_add(i64::from(of.wrapping_sub(raw).cast_signed()));
            nanoseconds(ticks, clock_rate)
        };
        let fault = &mut self.fault;
        let mut drop_packet = |error: &dyn std::fmt::Display| {
            debug!("{error}");
            *fault = Some(error.to_string());
        };
        match &mut self.depacketizer {
            TrackDepacketizer::Jpeg(depacketizer) => {
                if packet.lost {
                    depacketizer.gap();
                }
                let jpeg = depacketizer.push(&packet.header, payload).unwrap_or_else(|error| {
                    drop_packet(&error);
                    None
                });
                jpeg.map(|jpeg| TrackUnit::Picture(PictureBody::Jpeg(jpeg), elapsed(raw)))
                    .into_iter()
                    .collect()
            }
            TrackDepacketizer::Nal(units) => {
                let units = units.push(payload, raw, packet.header.marker, packet.lost);
                let unit = |unit: crate::wire::payload::h26x::AccessUnit| {
                    TrackUnit::Picture(PictureBody::Unit(unit.bytes), elapsed(unit.timestamp))
                };
                units
                    .inspect_err(|error| drop_packet(error))
                    .unwrap_or_default()
                    .into_iter()
                    .map(unit)
                    .collect()
            }
            TrackDepacketizer::Aac(frames) => {
                let frames =
                    frames.push(payload, raw).inspect_err(|error| drop_packet(error)).unwrap_or_default();
                // The clock of AAC counts samples.
                let at = |n: u32| elapsed(raw.wrapping_add(n.wrapping_mul(AAC_FRAME)));
                (0..).zip(frames).map(|(n, frame)| TrackUnit::Sound(frame, at(n))).collect()
            }
            TrackDepacketizer::Plain => {
                let whole = payload.len() - payload.len().checked_rem(self.sample).unwrap_or(0);
                let packet =
                    Some(Bytes::copy_from_slice(&payload[..whole])).filter(|packet| !packet.is_empty());
                packet.map(|packet| TrackUnit::Sound(packet, elapsed(raw))).into_iter().collect()
            }
        }
    }
}

/// Ticks of a clock in nanoseconds.
pub(crate) fn nanoseconds(ticks: i64, clock_rate: u32) -> i64 {
    let nanos = i128::from(ticks) * 1_000_000_000 / i128::from(clock_rate.max(1));
    i64::try_from(nanos).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_nanoseconds() {
        assert_eq!(nanoseconds(90_000, 90_000), 1_000_000_000);
        assert_eq!(nanoseconds(-1, 8000), -125_000);
        assert_eq!(nanoseconds(i64::MAX, 1), i64::MAX);
    }
}
