//! When the first pictures of a film are shown, for a container whose word on that is not to be taken.

use std::path::Path;

use super::libav::{demux, track_of};
use crate::media::FrameRate;

/// Pictures that are looked at: four seconds at 25 a second. More are read from the disk for nothing: a film opens late by them.
const PICTURES: usize = 100;

/// Packets of all tracks that are looked at for them.
const PACKETS: usize = 4000;

/// The stamps of the first pictures of track `number` of the film at `path`, in microseconds and in the order in which they are shown.
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

/// The average rate of such pictures.
pub(super) fn rate(stamps: &[i64]) -> Option<FrameRate> {
    let (first, last) = (stamps.first()?, stamps.last()?);
    let seconds = last.saturating_sub(*first) as f64 / 1e6;
    let rate = (stamps.len() - 1) as f64 / seconds;
    // Slides have rates too low for a guess at what was meant.
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
    fn the_rate_is_the_one_of_the_stamps() {
        assert_eq!(rate(&[0, 40_000, 80_000, 120_000]), FrameRate::new(25, 1));
        assert_eq!(rate(&[5, 33_372, 66_738]).unwrap().to_string(), "30000/1001");
        assert_eq!(rate(&[0, 12_000_000, 52_000_000]), FrameRate::new(2000, 52_000));
        for none in [&[][..], &[7], &[7, 7], &[9, 7]] {
            assert_eq!(rate(none), None, "{none:?}");
        }
    }
}
