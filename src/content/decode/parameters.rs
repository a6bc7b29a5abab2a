//! Whether the size or the pixel format of a film's pictures changes within the film. A few places are sampled, since certainty
//! would take a reading of the whole film.

use std::path::Path;
use std::time::Duration;

use ac_ffmpeg::codec::Decoder;
use ac_ffmpeg::codec::video::VideoDecoder;
use ac_ffmpeg::format::demuxer::SeekTarget;
use ac_ffmpeg::time::Timestamp;

use super::facts::Facts;
use super::libav::{FilmDemuxer, Shape, demux, shape_of, track_of};

/// Places that are sampled, the beginning and the end included. Each costs a seek and a decoded picture: 1.5 ms at 320x240.
const PLACES: u32 = 9;

/// Most packets, of all tracks, that are read at one place in search of a key picture.
const PACKETS: usize = 2000;

/// Whether pictures of different shapes are found in the film at `path`.
pub(super) fn change(path: &Path, facts: &Facts) -> bool {
    let Some(length) = facts.length else { return false };
    let Ok(mut film) = demux(path, Some(&facts.container)) else { return false };
    let start = film.streams().get(facts.track).and_then(|track| track.start_time().as_micros()).unwrap_or(0);
    let place = |n: u32| length * n / (PLACES - 1);
    let mut shapes = (0..PLACES).filter_map(|n| shape_at(&mut film, facts.track, start, place(n)));
    let first = shapes.next();
    shapes.any(|shape| Some(shape) != first)
}

/// The shape of the last key picture at or before `offset`.
fn shape_at(film: &mut FilmDemuxer, number: usize, start: i64, offset: Duration) -> Option<Shape> {
    let at = start.saturating_add(i64::try_from(offset.as_micros()).ok()?);
    film.as_mut().seek_to_timestamp(Timestamp::from_micros(at), SeekTarget::UpTo).ok()?;
    let mut decoder = VideoDecoder::from_stream(film.streams().get(number)?).ok()?.build().ok()?;
    for _ in 0..PACKETS {
        let packet = film.as_mut().take().ok()??;
        if track_of(&packet) != number || !packet.is_key() {
            continue;
        }
        decoder.try_push(packet).ok()?;
        decoder.try_flush().ok()?;
        return decoder.take().ok()?.as_ref().map(shape_of);
    }
    None
}
