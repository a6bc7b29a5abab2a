//! A film that plays from its reel.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::reading::{Read, ReadingPlace, read};
use super::{Films, NowPlaying, REEL_LEAD, picture_event};
use crate::content::reel::{Reel, ReelError};
use crate::content::sound::FilmCue;
use crate::content::worker::STUCK_AFTER;
use crate::content::{ContentEvent, ContentKind, Fault, LONGEST_PAUSE, OutputState, earliest_due};
use crate::media::jpeg::Jpeg;
use crate::media::{AirTime, Due, StoredPicture};

/// A film that plays from its reel.
pub(super) struct PlayingReel {
    path: PathBuf,
    reel: Arc<Reel>,
    /// When picture 0 is due.
    begin: AirTime,
    /// When the first picture that is shown is due at the earliest.
    joined: AirTime,
    place: ReadingPlace,
    /// Whether [`ContentEvent::Begin`] was given.
    shown: bool,
}

impl Films {
    /// Begins a film that plays from its reel, at `begin` if that is given.
    pub(super) fn begin_reel(
        &mut self,
        path: PathBuf,
        reel: Arc<Reel>,
        begin: Option<AirTime>,
        output: OutputState,
    ) {
        let begin = begin.unwrap_or_else(|| earliest_due(&self.clock, &self.spec, output));
        // A film that has begun is joined where it is. If it has ended, no pictures of it are left.
        let joined = self.joins_at(output, REEL_LEAD);
        let next = first_from(reel.at(joined.since(begin)), joined.since(begin), |n| stamp(&reel, n));
        self.now_playing = NowPlaying::Reel(PlayingReel {
            path,
            reel,
            begin,
            joined,
            place: ReadingPlace::at(next),
            shown: false,
        });
    }

    /// Checks that the film on air is still there. Removing a film takes it off the air, even if it has a reel. But no
    /// picture waits for a folder that is slow to answer.
    pub(super) fn check_film_on_air(&mut self) -> Result<(), Fault> {
        let path = match &self.now_playing {
            NowPlaying::Reel(playing) => &playing.path,
            NowPlaying::Recording(playing) => playing.path(),
            NowPlaying::File(_) | NowPlaying::Nothing => return Ok(()),
        };
        match self.catalogue.recent_check(path) {
            Some(result) => result?,
            None if self.film_worker.is_stuck() => return Err(Fault::Stuck),
            None => {
                let (catalogue, path) = (self.catalogue.clone(), path.to_owned());
                self.film_worker.start(STUCK_AFTER, move || drop(catalogue.check(&path)));
            }
        }
        Ok(())
    }

    /// Plays the next pictures of the reel.
    #[expect(clippy::disallowed_methods, reason = "a shell: it leaves out pictures that would be late")]
    pub(super) async fn play_reel(&mut self) -> Result<(), Fault> {
        let NowPlaying::Reel(playing) = &mut self.now_playing else { return Ok(()) };
        if playing.place.next < playing.reel.len() {
            // After a stall the programme is where it is at this time of day, and pictures that would be late are left
            // out.
            let (reel, offset) = (&playing.reel, self.clock.now().since(playing.begin));
            let on_time = first_from(reel.at(offset), offset, |n| stamp(reel, n)).max(playing.place.next);
            let late = on_time - std::mem::replace(&mut playing.place.next, on_time);
            self.events.extend((late > 0).then_some(ContentEvent::Skipped(late as u64)));
        }
        if playing.place.next >= playing.reel.len() {
            self.events.push_back(ContentEvent::HoldUntil(playing.begin + playing.reel.length()));
            self.played |= playing.shown;
            self.now_playing = NowPlaying::Nothing;
            return Ok(());
        }
        self.check_film_on_air()?;
        let NowPlaying::Reel(playing) = &mut self.now_playing else { return Ok(()) };
        let (begin, joined, next) = (playing.begin, playing.joined, playing.place.next);
        // The pictures are usually in memory, and reading them on another thread would cost more: measured with 999
        // stations, 15 % of a core instead of 5 %.
        let (units, error) = match units(&playing.reel, begin, joined, next, Reel::try_picture) {
            (units, None) if units.is_empty() => {
                let reel = playing.reel.clone();
                self.reel_worker
                    .call(STUCK_AFTER, move || units_from_disk(&reel, begin, joined, next))
                    .await?
            }
            units => units,
        };
        playing.place.pass(units.len());
        if !units.is_empty() && !std::mem::replace(&mut playing.shown, true) {
            let (size, rate) = (playing.reel.size(), playing.reel.rate());
            let (path, length) = (playing.path.clone(), Some(playing.reel.length()));
            let (begin, place) = (playing.begin, self.place);
            self.events.push_back(ContentEvent::Film(FilmCue { path, begin, length, place }));
            self.size = Some(size);
            self.events.push_back(ContentEvent::Begin { kind: ContentKind::Film, size, rate });
        }
        let quality = self.spec.quality;
        self.events.extend(units.into_iter().map(|unit| picture_event(unit, quality)));
        // A damaged picture is never aired. The other pictures keep their times, so that the programme stays where it
        // is, and the next round finds no reel and records it again. If too much is missing, the film is played from
        // its file.
        if let Some(error) = error {
            let (event, first) = playing.place.pass_damaged(&error);
            self.events.push_back(event);
            let gone = too_much_missing(&playing.reel, playing.place.missing());
            if first {
                let (catalogue, reel) = (self.catalogue.clone(), playing.reel.clone());
                self.reel_worker.call(STUCK_AFTER, move || catalogue.discard(&reel)).await?;
            }
            if gone {
                self.playlist.clear();
                self.now_playing = NowPlaying::Nothing;
            }
        }
        Ok(())
    }
}

/// The number of the first picture to show `offset` after the beginning of a film, of pictures with these stamps, where the
/// picture `at` is on: the first that is due then or later, or before it the one that is on, if that stays for longer than
/// [`LONGEST_PAUSE`], as a slide does. The number of pictures if there is none.
pub(super) fn first_from(at: usize, offset: Duration, stamp: impl Fn(usize) -> Duration) -> usize {
    let stays = stamp(at + 1).saturating_sub(offset) > LONGEST_PAUSE;
    if stamp(at) < offset && !stays { at + 1 } else { at }
}

/// Whether leaving out these pictures makes a longer pause than [`LONGEST_PAUSE`].
fn too_much_missing(reel: &Reel, numbers: Range<usize>) -> bool {
    stamp(reel, numbers.end).saturating_sub(stamp(reel, numbers.start)) > LONGEST_PAUSE
}

/// The time from the first picture to picture `n`; the reel's length if `n` is after the last one.
fn stamp(reel: &Reel, n: usize) -> Duration {
    if n < reel.len() { reel.stamp(n) } else { reel.length() }
}

/// The units of the next pictures of a reel.
fn units(
    reel: &Reel,
    begin: AirTime,
    joined: AirTime,
    next: usize,
    picture: impl Fn(&Reel, usize) -> Result<Option<Jpeg>, ReelError>,
) -> Read {
    let due = |n: usize| {
        let at = (begin + stamp(reel, n)).max(joined);
        Due { at, interval: (begin + stamp(reel, n + 1)).since(at) }
    };
    let (mut units, error) = read(next..reel.len(), due, |n| picture(reel, n));
    for (number, unit) in (next..).zip(&mut units) {
        unit.stored = Some(StoredPicture { reel: reel.id(), number: number as u32 }); // a reel counts them in 32 bits
    }
    (units, error)
}

/// As [`units`], but waits for the disk.
fn units_from_disk(reel: &Reel, begin: AirTime, joined: AirTime, next: usize) -> Read {
    units(reel, begin, joined, next, |reel, n| reel.picture(n).map(Some))
}
