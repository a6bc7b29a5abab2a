//! When the first pictures of a film are shown, for a container whose word on that is not to be taken.

use std::path::Path;

use super::libav::{demux, track_of};
use crate::media::FrameRate;

/// Pictures that are looked at: ten seconds at 25 a second.
const PICTURES: usize = 250;

/// Packets of all tracks that are looked at for them.
const PACKETS: usize = 4000;

/// The stamps of the first pictures of track `number` of the film at `path`, in microseconds and in the order in which they are shown.
pub(super) fn first(path: &Path, number: usize) -> Vec<i64> {
    let mut stamps = Vec::new();
    let Ok(mut film) = demux(path, None) else { return stamps };
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
    FrameRate::from_f64((stamps.len() - 1) as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_one_of_the_stamps() {
        assert_eq!(rate(&[0, 40_000, 80_000, 120_000]), FrameRate::new(25, 1));
        assert_eq!(rate(&[5, 33_372, 66_738]).unwrap().to_string(), "30000/1001");
        for none in [&[][..], &[7], &[7, 7], &[i64::MIN, i64::MAX]] {
            assert_eq!(rate(none), None, "{none:?}");
        }
    }
}
