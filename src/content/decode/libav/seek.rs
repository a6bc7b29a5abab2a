//! Going to a position in a film that libavcodec decodes.
//!
//! libavformat goes to a key picture by the film's index, and where it goes is checked by the stamp of the first picture that comes:
//! indexes count decoding times, MPEG-TS has none, and that of another track may have been used. If the picture is too late, the
//! search begins earlier. If there is no index, the packets are read from the beginning, without decoding them.

use ac_ffmpeg::codec::Decoder;
use ac_ffmpeg::codec::video::VideoFrame;
use ac_ffmpeg::format::demuxer::SeekTarget;
use ac_ffmpeg::time::Timestamp;

use super::{FilmDemuxer, LibavSource, Phase, decoder_error, demux, new_decoder, track_of};
use crate::content::decode::SourceError;

/// A picture whose stamp is this much later than a position is on at the position, in microseconds: containers that count
/// milliseconds round by half of one.
const ROUNDING: i64 = 1000;

/// How much earlier the search begins in each further attempt, in microseconds. Pictures are reordered by less than the first, and
/// key pictures of broadcasts are a second or two apart, those of x264 up to 10 s.
const BACK: [i64; 4] = [0, 1_000_000, 5_000_000, 30_000_000];

/// How much later than a picture that is decoded later, its stamp may be, in microseconds.
const REORDERED: i64 = 10_000_000;

impl LibavSource {
    /// Goes to the picture that is on at the stamp `target`, after that of the first picture, `first`. All stamps are in microseconds.
    pub(super) fn go_to(&mut self, first: i64, target: i64) -> Result<(), SourceError> {
        let attempts = BACK.iter().map(|back| target - back).filter(|&from| from > first);
        for from in attempts.collect::<Vec<_>>() {
            let at = Timestamp::from_micros(from);
            if self.film.as_mut().seek_to_timestamp(at, SeekTarget::UpTo).is_err() {
                break;
            }
            self.begin_anew(true)?;
            if self.decode_to(first, target, false)? {
                return Ok(());
            }
        }
        let film = || demux(&self.path, Some(&self.facts.container));
        let packets = film().ok().and_then(|film| self.packets_before(film, target));
        self.film = film().map_err(|error| decoder_error(&self.path, &error))?;
        if let Some(packets) = packets {
            for _ in 0..packets {
                let _ = self.film.as_mut().take();
            }
            self.begin_anew(true)?;
            if self.decode_to(first, target, false)? {
                return Ok(());
            }
            self.film = demux(&self.path, Some(&self.facts.container))
                .map_err(|error| decoder_error(&self.path, &error))?;
        }
        self.begin_anew(false)?;
        self.decode_to(first, target, true).map(drop)
    }

    /// The film is read on from elsewhere; what was decoded is dropped.
    fn begin_anew(&mut self, awaits_key: bool) -> Result<(), SourceError> {
        let track = self.film.streams().get(self.facts.track);
        let decoder =
            track.map(new_decoder).transpose().map_err(|error| decoder_error(&self.path, &error))?;
        if let Some(decoder) = decoder {
            self.decoder = decoder;
        }
        self.filter = None;
        self.ready.clear();
        self.lengths.clear();
        self.last = None;
        self.awaits_key = awaits_key;
        self.phase = Phase::Reading;
        Ok(())
    }

    /// Decodes up to the picture that is on at `target`, which is then the next. Whether that was possible from where the film is
    /// read: always, if that is its beginning.
    fn decode_to(&mut self, first: i64, target: i64, from_beginning: bool) -> Result<bool, SourceError> {
        let mut on: Option<(VideoFrame, i64)> = None;
        loop {
            match self.decoder.take() {
                Ok(Some(frame)) => {
                    let has_stamp = frame.best_effort_timestamp().as_micros().is_some();
                    if !has_stamp && self.last.is_none() && !from_beginning {
                        return Ok(false);
                    }
                    let stamp = self.stamp_of(&frame);
                    if stamp <= target.saturating_add(ROUNDING) {
                        self.end.pass(super::since(stamp, first));
                        on = Some((frame, stamp));
                        continue;
                    }
                    match on {
                        Some((frame, stamp)) => self.show(frame, stamp)?,
                        None if from_beginning => {}
                        None => return Ok(false),
                    }
                    self.show(frame, stamp)?;
                    return Ok(true);
                }
                Ok(None) | Err(_) if self.phase == Phase::Reading => self.read(),
                Ok(None) | Err(_) => {
                    let Some((frame, stamp)) = on else { return Ok(from_beginning) };
                    let interval = self.facts.rate.interval().as_micros() as i64;
                    let length = self.lengths.get(&stamp).copied().unwrap_or(interval);
                    if stamp.saturating_add(length) > target {
                        self.show(frame, stamp)?;
                    }
                    return Ok(true);
                }
            }
        }
    }

    /// How many packets there are in `film`, read from its beginning, before the last key picture up to `target`.
    fn packets_before(&self, mut film: FilmDemuxer, target: i64) -> Option<u64> {
        let mut before = None;
        let mut read = 0;
        while let Ok(Some(packet)) = film.as_mut().take() {
            if track_of(&packet) == self.facts.track {
                let shown = packet.pts().as_micros().or(packet.dts().as_micros());
                if packet.is_key() && shown.is_some_and(|shown| shown <= target) {
                    before = Some(read);
                }
                let decoded = packet.dts().as_micros().or(shown.map(|shown| shown - REORDERED));
                if decoded.is_some_and(|decoded| decoded > target) {
                    break;
                }
            }
            read += 1;
        }
        before
    }
}
