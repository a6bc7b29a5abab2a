//! Timestamps of a film's first pictures, for containers whose rate cannot be trusted.

use std::path::Path;
use std::time::Duration;

use super::facts::Facts;
use super::libav::{demux, track_of};
use crate::media::FrameRate;

/// Pictures that are read: four seconds at 25 a second. More of them would only delay the opening of a film.
const PICTURES: usize = 100;

/// Most packets, of all tracks, that are read for these pictures.
const PACKETS: usize = 4000;

/// The stamps of the first pictures of track `number` of the film at `path`, in microseconds and in presentation order.
pub(super) fn first(path: &Path, number: usize, container: &str) -> Vec<i64> {
    let mut stamps = Vec::new();
    let Ok(mut film) = demux(path, Some(container)) else { return stamps };
    for _ in 0..PACKETS {
        let Ok(Some(packet)) = film.as_mut().take() else { break };
        if track_of(&packet) == number {
            stamps.extend(packet.pts().as_micros());
        }
        if stamps.len() >= PICTURES {
            break;
        }
    }
    stamps.sort_unstable();
    stamps
}

/// From the first picture of a film to the end of the last one, by its packets.
pub(super) fn length(path: &Path, facts: &Facts) -> Option<Duration> {
    let mut film = demux(path, Some(&facts.container)).ok()?;
    let interval = facts.rate.interval();
    let mut pictures = 0u64;
    let mut span: Option<(i64, i64)> = None;
    while let Ok(Some(packet)) = film.as_mut().take() {
        if track_of(&packet) != facts.track {
            continue;
        }
        pictures += 1;
        if let Some(stamp) = packet.pts().as_micros() {
            let lasts = packet.duration().filter(|lasts| !lasts.is_zero()).unwrap_or(interval);
            let end = stamp.saturating_add(lasts.as_micros() as i64);
            let (first, last) = span.unwrap_or((stamp, end));
            span = Some((first.min(stamp), last.max(end)));
        }
    }
    let by_stamps = span.and_then(|(first, last)| u64::try_from(last.saturating_sub(first)).ok());
    let length = by_stamps.map_or_else(|| facts.rate.nth(pictures), Duration::from_micros);
    Some(length).filter(|length| !length.is_zero())
}

/// The average rate of pictures with these stamps.
pub(super) fn rate(stamps: &[i64]) -> Option<FrameRate> {
    let (first, last) = (stamps.first()?, stamps.last()?);
    let seconds = last.saturating_sub(*first) as f64 / 1e6;
    let rate = (stamps.len() - 1) as f64 / seconds;
    // The rate of a show of slides is too low to be rounded to a usual rate.
    if rate > 0.0 && rate < 1.0 {
        return FrameRate::new(
            (stamps.len() - 1) as u32 * 1000,
            (seconds * 1000.0).min(f64::from(u32::MAX)) as u32,
        );
    }
    FrameRate::from_f64(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_average_of_the_stamps() {
        assert_eq!(rate(&[0, 40_000, 80_000, 120_000]), FrameRate::new(25, 1));
        assert_eq!(rate(&[5, 33_372, 66_738]).unwrap().to_string(), "30000/1001");
        assert_eq!(rate(&[0, 12_000_000, 52_000_000]), FrameRate::new(2000, 52_000));
        for none in [&[][..], &[7], &[7, 7], &[9, 7]] {
            assert_eq!(rate(none), None, "{none:?}");
        }
    }
}
