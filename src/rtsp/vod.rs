//! A station's programme for one client alone: from its beginning, from any place of it, faster or slower.
//!
//! A *place* is normal play time (RFC 2326 section 3.6): from the beginning of the first film, through all of them. Each
//! picture is due when its place is, at `began + (place - origin) / scale`: computed anew each time, so nothing adds up.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::playback::PlaybackEvent;
use crate::content::reel::{Reel, ReelError};
use crate::media::Due;
use crate::media::Unit;
use crate::media::jpeg::Jpeg;
use crate::media::{AirTime, FrameRate};

/// From PLAY to the first picture: after the last one that the air thread may have of what was played before.
const START: Duration = Duration::from_millis(120);

/// How long a disk may take for a picture. As for a station: what takes longer hangs.
const STUCK: Duration = Duration::from_secs(5);

/// Why a programme cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum VodError {
    #[error(transparent)]
    Reel(#[from] ReelError),
    #[error("the disk does not answer for {} s", STUCK.as_secs())]
    Stuck,
    /// We crashed while reading, or are stopping.
    #[error("reading was broken off")]
    BrokenOff,
}

/// The films of a station, one behind the other.
#[derive(Debug)]
pub(super) struct ReelSequence {
    /// With the place where each begins; at least one.
    films: Vec<(Duration, Arc<Reel>)>,
    length: Duration,
    /// One permit for each thread that may wait for a disk, whatever sessions come and go meanwhile: they are those that
    /// stations read with, too.
    reads: Arc<Semaphore>,
}

/// A picture of a programme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    film: usize,
    number: usize,
}

impl ReelSequence {
    /// `None` of nothing: no films, or films without length.
    pub(super) fn new(reels: Vec<Arc<Reel>>, reads: Arc<Semaphore>) -> Option<ReelSequence> {
        let mut length = Duration::ZERO;
        let begin = |reel: Arc<Reel>| {
            let begin = length;
            length += reel.length();
            (begin, reel)
        };
        let films: Vec<_> = reels.into_iter().map(begin).collect();
        (!length.is_zero()).then_some(ReelSequence { films, length, reads })
    }

    /// The rate of its films, if it is the same of all.
    pub(super) fn rate(&self) -> Option<FrameRate> {
        let mut rates = self.films.iter().map(|(_, reel)| reel.rate());
        let first = rates.next()?;
        rates.all(|rate| rate == first).then_some(first)
    }

    pub(super) fn length(&self) -> Duration {
        self.length
    }

    /// The picture that is shown at `place`.
    fn at(&self, place: Duration) -> Position {
        let film = self.films.partition_point(|(begin, _)| *begin <= place).saturating_sub(1);
        let (begin, reel) = &self.films[film];
        Position { film, number: reel.at(place.saturating_sub(*begin)) }
    }

    /// Where the picture after `picture` begins; the end of all, after the last.
    fn after(&self, picture: Position) -> Duration {
        let (begin, reel) = &self.films[picture.film];
        let next = picture.number + 1;
        *begin + if next < reel.len() { reel.stamp(next) } else { reel.length() }
    }

    fn reel(&self, picture: Position) -> &Arc<Reel> {
        &self.films[picture.film].1
    }
}

/// A programme that is being shown.
pub(super) struct VodPlayback {
    programme: Arc<ReelSequence>,
    /// The place of the next picture.
    place: Duration,
    end: Duration,
    scale: f64,
    /// What was on at `began`.
    origin: Duration,
    began: AirTime,
    /// The picture that is being read from the disk.
    reading: Option<(Position, Reading)>,
}

type Reading = Pin<Box<dyn Future<Output = Result<Jpeg, VodError>> + Send>>;

impl VodPlayback {
    /// From `from` to `to`; at `now` the client has asked for it.
    pub(super) fn new(
        programme: Arc<ReelSequence>,
        (from, to): (Duration, Duration),
        scale: f64,
        now: AirTime,
    ) -> VodPlayback {
        let began = now + START;
        VodPlayback { programme, place: from, end: to, scale, origin: from, began, reading: None }
    }

    /// Where it is: the place of the picture that is to be shown next.
    pub(super) fn place(&self) -> Duration {
        self.place
    }

    pub(super) fn scale(&self) -> f64 {
        self.scale
    }

    /// When the next picture is due.
    pub(super) fn due(&self) -> AirTime {
        self.when(self.place)
    }

    fn when(&self, place: Duration) -> AirTime {
        self.began + place.saturating_sub(self.origin).div_f64(self.scale)
    }

    /// The place of the picture after the next. At more than its own rate, pictures are left out: no more of them
    /// leave in a second than the film has.
    fn following(&self, picture: Position) -> Duration {
        let after = self.programme.after(picture);
        if self.scale <= 1.0 {
            return after;
        }
        let stride = self.programme.reel(picture).rate().interval().mul_f64(self.scale);
        after.max(self.place + stride)
    }

    /// The next picture, until [`advance`](Self::advance). May be cancelled: a read that is under way goes on.
    ///
    /// # Errors
    /// The reel cannot be read.
    pub(super) async fn next(&mut self) -> Result<PlaybackEvent, VodError> {
        if self.place >= self.end {
            return Ok(PlaybackEvent::End(self.when(self.end)));
        }
        let picture = self.programme.at(self.place);
        let at = self.due();
        let interval = self.when(self.following(picture).min(self.end)).since(at);
        let jpeg = self.read(picture).await?;
        Ok(PlaybackEvent::Unit(Unit { due: Due { at, interval }, jpeg }))
    }

    /// A picture from memory, where it mostly is; else from the disk, on a thread that may wait for it. One read at a time:
    /// what a disk takes its time for is waited for, however often this is cancelled, and not asked for again.
    async fn read(&mut self, picture: Position) -> Result<Jpeg, VodError> {
        let (_, reading) = match self.reading.take_if(|(of, _)| *of == picture) {
            Some(reading) => self.reading.insert(reading),
            None => {
                let reel = self.programme.reel(picture).clone();
                if let Some(jpeg) = reel.cached(picture.number)? {
                    return Ok(jpeg);
                }
                let reading = from_disk(reel, picture.number, self.programme.reads.clone());
                self.reading.insert((picture, Box::pin(reading)))
            }
        };
        let read = reading.await;
        self.reading = None;
        read
    }

    /// Goes on to the next picture.
    pub(super) fn advance(&mut self) {
        self.place = self.following(self.programme.at(self.place)).min(self.end);
    }

    /// Leaves out the pictures that were due before `moment`. Returns how many.
    pub(super) fn skip(&mut self, moment: AirTime) -> u64 {
        let mut skipped = 0;
        while self.place < self.end && self.due() < moment {
            self.advance();
            skipped += 1;
        }
        skipped
    }
}

async fn from_disk(reel: Arc<Reel>, number: usize, reads: Arc<Semaphore>) -> Result<Jpeg, VodError> {
    let read = async {
        let permit = reads.acquire_owned().await.map_err(|_| VodError::BrokenOff)?;
        let read = spawn_blocking(move || {
            // Given back by the thread: who waits may be gone long before.
            let _permit = permit;
            reel.picture(number)
        });
        Ok(read.await.map_err(|_| VodError::BrokenOff)??)
    };
    timeout(STUCK, read).await.unwrap_or(Err(VodError::Stuck))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use tokio::task::yield_now;
    use tokio::time::advance;

    use super::super::tests::{RATE, record};
    use super::*;

    const READS: usize = 3;

    const NOW: AirTime = AirTime(1_790_000_000_000_000_000);

    /// Two films, of 20 and 30 pictures: half a second.
    fn programme() -> (Arc<ReelSequence>, TempDir) {
        let folder = TempDir::new().unwrap();
        let reel = |name, count| record(&folder.path().join("reels"), &folder.path().join(name), 0, count);
        let films = vec![reel("a.mp4", 20), reel("b.mp4", 30)];
        (Arc::new(ReelSequence::new(films, Arc::new(Semaphore::new(READS))).unwrap()), folder)
    }

    /// When pictures are due, in milliseconds from the first; and for how long.
    async fn dues(mut vod: VodPlayback) -> Vec<(u64, u64)> {
        let mut dues = Vec::new();
        loop {
            match vod.next().await.unwrap() {
                PlaybackEvent::Unit(Unit { due, .. }) => {
                    let at = due.at.since(NOW + START);
                    dues.push((at.as_millis() as u64, due.interval.as_millis() as u64));
                }
                PlaybackEvent::End(at) => {
                    dues.push((at.since(NOW + START).as_millis() as u64, 0));
                    return dues;
                }
                PlaybackEvent::Missed(_) | PlaybackEvent::Behind => panic!("nothing is missed"),
            }
            vod.advance();
        }
    }

    #[tokio::test]
    async fn pictures_are_due_by_their_place_and_the_scale() {
        let (programme, _folder) = programme();
        let length = programme.length();
        assert_eq!(length, Duration::from_millis(500));
        let at = |from: u64, to: u64, scale: f64| {
            let span = (Duration::from_millis(from), Duration::from_millis(to));
            dues(VodPlayback::new(programme.clone(), span, scale, NOW))
        };
        let whole: Vec<_> = (0..50).map(|n| (10 * n, 10)).chain([(500, 0)]).collect();
        assert_eq!(at(0, 500, 1.0).await, whole);
        let slow: Vec<_> = (0..50).map(|n| (20 * n, 20)).chain([(1000, 0)]).collect();
        assert_eq!(at(0, 500, 0.5).await, slow);
        let fast: Vec<_> = (0..25).map(|n| (10 * n, 10)).chain([(250, 0)]).collect();
        assert_eq!(at(0, 500, 2.0).await, fast, "as many a second as ever, across the end of a film too");
        // From within a picture, which is shown for what is left of it, to within another.
        assert_eq!(at(195, 215, 1.0).await, [(0, 5), (5, 10), (15, 5), (20, 0)]);
    }

    #[test]
    fn a_place_is_found_in_its_film() {
        let (programme, _folder) = programme();
        let at = |ms| {
            let picture = programme.at(Duration::from_millis(ms));
            (picture.film, picture.number, programme.after(picture).as_millis())
        };
        assert_eq!([at(0), at(9), at(199)], [(0, 0, 10), (0, 0, 10), (0, 19, 200)]);
        assert_eq!([at(200), at(499), at(9999)], [(1, 0, 210), (1, 29, 500), (1, 29, 500)]);
        assert!(ReelSequence::new(Vec::new(), programme.reads.clone()).is_none());
    }

    /// What is shown now, if that takes no more than a moment.
    async fn glance(vod: &mut VodPlayback) -> Option<Result<PlaybackEvent, VodError>> {
        tokio::select! {
            biased;
            next = vod.next() => Some(next),
            () = yield_now() => None,
        }
    }

    #[tokio::test]
    async fn a_read_that_is_under_way_is_waited_for_and_not_begun_again() {
        let (programme, _folder) = programme();
        let whole = (Duration::ZERO, programme.length());
        let reel = programme.films[0].1.clone();
        let hung = reel.hang(0);
        let mut vod = VodPlayback::new(programme.clone(), whole, 1.0, NOW);
        for _ in 0..100 {
            assert!(glance(&mut vod).await.is_none());
            assert_eq!(programme.reads.available_permits(), READS - 1, "one thread waits for the disk");
        }
        // Others take a thread each while there are some.
        let mut others: Vec<_> =
            (0..9).map(|_| VodPlayback::new(programme.clone(), whole, 1.0, NOW)).collect();
        for other in &mut others {
            assert!(glance(other).await.is_none());
        }
        assert_eq!(programme.reads.available_permits(), 0);
        drop(others);
        assert_eq!(programme.reads.available_permits(), 0, "they still wait, whoever has gone");
        drop(hung);
        assert!(matches!(vod.next().await, Ok(PlaybackEvent::Unit(_))));
        let _all = programme.reads.acquire_many(READS as u32).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_ends_the_programme() {
        let (programme, _folder) = programme();
        let reel = programme.films[0].1.clone();
        let _hung = reel.hang(0);
        let mut vod = VodPlayback::new(programme.clone(), (Duration::ZERO, programme.length()), 1.0, NOW);
        assert!(glance(&mut vod).await.is_none());
        advance(STUCK - Duration::from_millis(1)).await;
        assert!(glance(&mut vod).await.is_none());
        advance(Duration::from_millis(2)).await;
        assert!(matches!(glance(&mut vod).await, Some(Err(VodError::Stuck))));
    }

    #[test]
    fn who_is_late_goes_on_with_what_is_due() {
        let (programme, _folder) = programme();
        let mut vod = VodPlayback::new(programme.clone(), (Duration::ZERO, programme.length()), 1.0, NOW);
        assert_eq!(vod.skip(NOW + START + RATE.nth(7)), 7);
        assert_eq!(vod.due(), NOW + START + RATE.nth(7));
        assert_eq!(vod.skip(NOW + Duration::from_secs(3600)), 43, "and no further than the end");
        assert_eq!(vod.place(), programme.length());
    }
}
