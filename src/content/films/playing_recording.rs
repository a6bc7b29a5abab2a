//! A film that has no reel yet, played from its recording, which all stations share that play it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::playing_reel::first_from;
use super::reading::{Read, ReadingPlace, read};
use super::{Films, LOOKUP_TIMEOUT, NowPlaying, picture_event};
use crate::content::recording::{Progress, RecordingEnd, RecordingKey, RecordingReader};
use crate::content::reel::{Encoding, GrowingReel, ReelError, ReelKey};
use crate::content::sound::FilmCue;
use crate::content::worker::STUCK_AFTER;
use crate::content::{
    ContentEvent, ContentKind, Fault, LONGEST_PAUSE, OutputState, START_LEAD, earliest_due,
};
use crate::media::jpeg::Jpeg;
use crate::media::{AirTime, Due, FrameRate, Policy};

/// How often a station that waits for a picture checks whether the recording still gets on.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// How far behind its place a station that joins a film may be, before the film goes on from where it stands.
const JOIN_PATIENCE: Duration = Duration::from_secs(10);

/// How long before its next picture is due a station stops waiting for a disk that hangs: enough to open the film.
const DISK_LEAD: Duration = Duration::from_millis(300);

/// A film that plays from its recording.
pub(super) struct PlayingRecording {
    reader: RecordingReader,
    /// The length of its round, if its container tells.
    length: Option<Duration>,
    /// When the film's first picture was due, if the film is joined in its middle.
    began: Option<AirTime>,
    /// When the first picture that is shown is due at the earliest.
    joined: AirTime,
    /// When the film's first picture is due, or was; `None` until there are pictures.
    begin: Option<AirTime>,
    /// The offset in the film at which it was joined, or the section begins that it plays.
    from: Duration,
    /// The place in the section.
    place: ReadingPlace,
    /// Whether [`ContentEvent::Begin`] was given.
    shown: bool,
    /// Whether a picture of it was given to the air.
    aired: bool,
    /// Whether it stood still.
    stood_still: bool,
}

impl PlayingRecording {
    pub(super) fn path(&self) -> &Path {
        self.reader.path()
    }

    /// The film's first picture is due, or was, at `begin`. Returns the cue of the film at `place`.
    fn begin_at(&mut self, begin: AirTime, place: usize) -> ContentEvent {
        self.begin = Some(begin);
        self.reader.begins(begin);
        let path = self.reader.path().to_owned();
        ContentEvent::Film(FilmCue { path, begin, length: self.length, place })
    }
}

/// The pictures of a recording that are there now.
struct Recorded {
    reel: Arc<GrowingReel>,
    rate: FrameRate,
    /// The number of pictures that can be given to the air. Before the end, the last picture that was recorded is not
    /// among them, since it is not known for how long it is on.
    len: usize,
    /// When the last picture ends, if it is the last of the section.
    length: Option<Duration>,
    /// No picture is due earlier.
    joined: AirTime,
}

impl Recorded {
    fn of(progress: &Progress, joined: AirTime) -> Option<Recorded> {
        let (reel, rate) = progress.reel.clone()?;
        let last = progress.len.checked_sub(1)?;
        let (len, length) = match progress.end {
            None => (last, None),
            Some(RecordingEnd::Complete(end) | RecordingEnd::Continued(end)) => (progress.len, Some(end)),
            Some(RecordingEnd::NoReel | RecordingEnd::Failed(_)) => {
                (progress.len, Some(reel.stamp(last) + rate.interval()))
            }
        };
        Some(Recorded { reel, rate, len, length, joined })
    }

    /// When picture `n` is due, and for how long it is on.
    fn due(&self, begin: AirTime, n: usize) -> Due {
        let at = (begin + self.reel.stamp(n)).max(self.joined);
        Due { at, interval: (begin + self.stamp(n + 1)).since(at) }
    }

    /// The offset of picture `n`; after the last one of the section, its end.
    fn stamp(&self, n: usize) -> Duration {
        match self.length {
            Some(length) if n >= self.len => length,
            _ => self.reel.stamp(n.min(self.len)),
        }
    }

    /// The units of the next pictures.
    fn units(
        &self,
        begin: AirTime,
        next: usize,
        picture: impl Fn(&GrowingReel, usize) -> Result<Option<Jpeg>, ReelError>,
    ) -> Read {
        read(next..self.len, |n| self.due(begin, n), |n| picture(&self.reel, n))
    }
}

impl Films {
    /// Begins a film that had no reel when it was looked up, or joins it where it is if it has `began`: by now it may have
    /// one. If it has none, the station plays its recording, which begins now if no other station plays it.
    pub(super) async fn begin_recording(
        &mut self,
        path: PathBuf,
        key: Option<ReelKey>,
        began: Option<AirTime>,
        output: OutputState,
    ) -> Result<(), Fault> {
        let (catalogue, slide, film) = (self.catalogue.clone(), self.spec.slide, path.clone());
        let encoding = self.size.map(|size| Encoding { size, quality: self.spec.quality });
        let found = move || {
            let (file_key, known) =
                encoding.map(|encoding| catalogue.glance(&film, encoding, slide)).unwrap_or_default();
            let key = key.or(known);
            let reel = key.and_then(|key| catalogue.reel(&key));
            // Known from when the station asked for its size.
            let length = catalogue.outline(&film, slide).ok().and_then(|outline| outline.round());
            (key.map(RecordingKey::Film).or(file_key.map(RecordingKey::File)), file_key, reel, length)
        };
        match self.reel_worker.call(LOOKUP_TIMEOUT, found).await {
            Ok((_, _, Some(reel), _)) => self.begin_reel(path, reel, began, output),
            Ok((Some(key), file_key, None, length)) => {
                let recordings = self.catalogue.recordings().clone();
                let joined = self.joins_at(output);
                let at = began.map(|began| (joined.since(began), began));
                let keys = (key, file_key);
                let joins = recordings.join(&self.catalogue, &self.threads, keys, (&path, slide), at);
                let Some((reader, is_there)) = joins else {
                    return self.open_file(path, Duration::ZERO, None, output).await;
                };
                let (from, began) = at.filter(|_| is_there).unzip();
                self.now_playing = NowPlaying::Recording(PlayingRecording {
                    reader,
                    length,
                    began,
                    joined: began.map_or(AirTime::default(), |_| joined),
                    begin: None,
                    from: from.unwrap_or_default(),
                    place: ReadingPlace::at(0),
                    shown: false,
                    aired: false,
                    stood_still: false,
                });
            }
            Ok((None, _, None, _)) | Err(_) => {
                let from = began.map_or(Duration::ZERO, |began| self.joins_at(output).since(began));
                self.open_file(path, from, began, output).await?;
            }
        }
        Ok(())
    }

    /// Plays the next pictures of the recording, or waits for them.
    pub(super) async fn play_recording(&mut self, output: OutputState) -> Result<(), Fault> {
        let NowPlaying::Recording(playing) = &mut self.now_playing else { return Ok(()) };
        let progress = playing.reader.progress();
        let recorded =
            Recorded::of(&progress, playing.joined).filter(|recorded| playing.place.next < recorded.len);
        let Some(recorded) = recorded else {
            return match progress.end {
                None => self.await_recording(output).await,
                Some(RecordingEnd::Complete(length)) => {
                    let begin = playing.begin.filter(|_| playing.aired);
                    self.events.extend(begin.map(|begin| ContentEvent::HoldUntil(begin + length)));
                    self.played |= playing.shown;
                    self.now_playing = NowPlaying::Nothing;
                    Ok(())
                }
                Some(RecordingEnd::Continued(end)) => {
                    playing.place.go_to(0);
                    playing.from = end;
                    if !playing.reader.go_on() {
                        self.now_playing = NowPlaying::Nothing;
                    }
                    Ok(())
                }
                Some(RecordingEnd::NoReel) => self.go_on_from_file(output).await,
                Some(RecordingEnd::Failed(fault)) => Err(Fault::Shared(fault)),
            };
        };
        let Some(begin) = playing.begin else {
            // The first pictures may have taken long. After this event the station gives the state of its output anew.
            if !std::mem::replace(&mut playing.shown, true) {
                let (size, rate) = (recorded.reel.size(), recorded.rate);
                self.size = Some(size);
                self.events.push_back(ContentEvent::Begin { kind: ContentKind::Film, size, rate });
                return Ok(());
            }
            let earliest = earliest_due(&self.clock, &self.spec, output);
            let begin = playing.began.unwrap_or(earliest);
            if playing.began.is_some() {
                let offset = playing.joined.since(begin);
                playing.place.go_to(first_from(recorded.reel.at(offset), offset, |n| recorded.stamp(n)));
            }
            let cue = playing.begin_at(begin, self.place);
            self.events.push_back(cue);
            return Ok(());
        };
        if self.leave_out_late(&recorded, begin) {
            return self.await_recording(output).await;
        }
        self.check_film_on_air()?;
        self.play_recorded(recorded).await?;
        let NowPlaying::Recording(playing) = &self.now_playing else { return Ok(()) };
        if progress_gap(&progress, playing) > LONGEST_PAUSE {
            return self.go_on_from_file(output).await;
        }
        Ok(())
    }

    /// Leaves out pictures that are too late for the air. Returns whether all that are there are too late, and some of
    /// those that come may not be.
    #[expect(clippy::disallowed_methods, reason = "a shell: it asks whether pictures are late")]
    fn leave_out_late(&mut self, recorded: &Recorded, begin: AirTime) -> bool {
        let NowPlaying::Recording(playing) = &mut self.now_playing else { return false };
        let now = self.clock.now();
        let next = recorded.due(begin, playing.place.next);
        let policy = next.policy(now);
        if policy == Policy::Air {
            return false;
        }
        // The programme is where it is by its own time, if the recording has got there.
        let on_time =
            (playing.place.next..recorded.len).find(|&n| recorded.due(begin, n).policy(now) == Policy::Air);
        if let Some(on_time) = on_time {
            let late = on_time - std::mem::replace(&mut playing.place.next, on_time);
            self.events.push_back(ContentEvent::Skipped(late as u64));
        } else if recorded.length.is_some() && policy == Policy::Skip {
            let late = recorded.len - std::mem::replace(&mut playing.place.next, recorded.len);
            self.events.push_back(ContentEvent::Skipped(late as u64));
        } else if policy == Policy::Reanchor && !playing.aired && now.since(next.at) < JOIN_PATIENCE {
            // It took long to open the film and to go to the place. The recording catches up.
            playing.place.next = recorded.len;
            return true;
        } else if policy == Policy::Reanchor {
            // The recording is slower than the station would play it. The film goes on where it stood still.
            let behind = now.since(next.at);
            let begin = begin + behind + START_LEAD;
            let cue = playing.begin_at(begin, self.place);
            self.events.push_back(if std::mem::replace(&mut playing.stood_still, true) {
                ContentEvent::Skipped(1)
            } else {
                ContentEvent::Reanchored(behind)
            });
            self.events.push_back(cue);
        } else {
            return true;
        }
        false
    }

    /// Gives the next pictures to the air.
    async fn play_recorded(&mut self, recorded: Recorded) -> Result<(), Fault> {
        let NowPlaying::Recording(playing) = &mut self.now_playing else { return Ok(()) };
        let (Some(begin), next) = (playing.begin, playing.place.next) else { return Ok(()) };
        let (units, error) = match recorded.units(begin, next, GrowingReel::try_picture) {
            (units, None) if units.is_empty() => {
                let from_disk = move || recorded.units(begin, next, |reel, n| reel.picture(n).map(Some));
                self.reel_worker.call(STUCK_AFTER, from_disk).await?
            }
            units => units,
        };
        playing.place.pass(units.len());
        playing.aired |= !units.is_empty();
        let quality = self.spec.quality;
        self.events.extend(units.into_iter().map(|unit| picture_event(unit, quality)));
        // A damaged picture is never aired. The reel that is made of the recording will be found damaged.
        if let Some(error) = error {
            self.events.push_back(playing.place.pass_damaged(&error).0);
        }
        Ok(())
    }

    /// Waits until the recording is further.
    ///
    /// # Errors
    /// The film's decoder hangs.
    #[expect(clippy::disallowed_methods, reason = "a shell: it asks how long the station can wait")]
    async fn await_recording(&mut self, output: OutputState) -> Result<(), Fault> {
        let NowPlaying::Recording(playing) = &mut self.now_playing else { return Ok(()) };
        let _ = timeout(CHECK_EVERY, playing.reader.changed()).await;
        if playing.reader.is_stuck() {
            return Err(Fault::Stuck);
        }
        let near = self.clock.until(output.free_at) < DISK_LEAD;
        if near && self.catalogue.recordings().disk_hangs() {
            return self.go_on_from_file(output).await;
        }
        Ok(())
    }

    /// Plays the rest of the film from its file, for this station alone: there will be no reel, or no more of it now.
    async fn go_on_from_file(&mut self, output: OutputState) -> Result<(), Fault> {
        let NowPlaying::Recording(playing) = &mut self.now_playing else { return Ok(()) };
        let progress = playing.reader.progress();
        let path = playing.reader.path().to_owned();
        let from = match (&progress.reel, playing.place.next.checked_sub(1)) {
            (Some((reel, rate)), Some(last)) if last < progress.len => reel.stamp(last) + rate.interval(),
            _ => playing.from,
        };
        self.open_file(path, from, None, output).await
    }
}

/// For how long the pictures would be on that could not be read.
fn progress_gap(progress: &Progress, playing: &PlayingRecording) -> Duration {
    let Some((reel, _)) = &progress.reel else { return Duration::ZERO };
    let stamp = |n: usize| reel.stamp(n.min(progress.len.saturating_sub(1)));
    let missing = playing.place.missing();
    stamp(missing.end).saturating_sub(stamp(missing.start))
}
