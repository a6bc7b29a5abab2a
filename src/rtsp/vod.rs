//! A station's programme on demand: for one client, from any position, faster or slower.
//!
//! Positions are given in normal play time (NPT, RFC 2326 section 3.6): 0 is the beginning of the first film, and it runs
//! through all films. A picture is due at `began + (npt - origin) / scale`. That is computed anew for each picture, so that
//! no error adds up.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::playback::PlaybackEvent;
use crate::content::reel::{Reel, ReelError};
use crate::media::jpeg::Jpeg;
use crate::media::{AirTime, Due, FrameRate, Unit};

/// Time from PLAY to the first picture. It is longer than the air thread may hold pictures of an earlier PLAY.
const START_DELAY: Duration = Duration::from_millis(120);

/// How long a disk may take to read a picture, as for a station: beyond it, the disk hangs.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a programme ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum VodError {
    #[error(transparent)]
    Reel(#[from] ReelError),
    #[error("the disk has not answered for {} s", READ_TIMEOUT.as_secs())]
    Stuck,
    /// The reading thread has panicked, or the broadcaster stops.
    #[error("reading was interrupted")]
    Interrupted,
}

/// The reels of a station's films, one after the other.
#[derive(Debug)]
pub(super) struct ReelSequence {
    /// At least one; each with the NPT of its beginning.
    reels: Vec<(Duration, Arc<Reel>)>,
    length: Duration,
    /// A permit for each thread that waits for a disk, for all sessions: stations use threads of the same pool.
    reads: Arc<Semaphore>,
}

/// A picture in a [`ReelSequence`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    reel: usize,
    picture: usize,
}

impl ReelSequence {
    /// `None` if there are no reels, or they have no length.
    pub(super) fn new(reels: Vec<Arc<Reel>>, reads: Arc<Semaphore>) -> Option<ReelSequence> {
        let mut length = Duration::ZERO;
        let begin = |reel: Arc<Reel>| {
            let begin = length;
            length += reel.length();
            (begin, reel)
        };
        let reels: Vec<_> = reels.into_iter().map(begin).collect();
        (!length.is_zero()).then_some(ReelSequence { reels, length, reads })
    }

    /// The rate of the films, if all have the same.
    pub(super) fn rate(&self) -> Option<FrameRate> {
        let mut rates = self.reels.iter().map(|(_, reel)| reel.rate());
        let first = rates.next()?;
        rates.all(|rate| rate == first).then_some(first)
    }

    /// Playing time.
    pub(super) fn length(&self) -> Duration {
        self.length
    }

    /// The picture that is shown at `npt`.
    fn at(&self, npt: Duration) -> Position {
        let reel = self.reels.partition_point(|(begin, _)| *begin <= npt).saturating_sub(1);
        let (begin, pictures) = &self.reels[reel];
        Position { reel, picture: pictures.at(npt.saturating_sub(*begin)) }
    }

    /// The NPT at which a picture ends.
    fn end_of(&self, position: Position) -> Duration {
        let (begin, reel) = &self.reels[position.reel];
        let next = position.picture + 1;
        *begin + if next < reel.len() { reel.stamp(next) } else { reel.length() }
    }

    fn reel(&self, position: Position) -> &Arc<Reel> {
        &self.reels[position.reel].1
    }
}

/// A programme that is played.
pub(super) struct VodPlayback {
    reels: Arc<ReelSequence>,
    /// The NPT of the next picture.
    npt: Duration,
    /// The NPT at which playback ends.
    end: Duration,
    scale: f64,
    /// The NPT at `began`.
    origin: Duration,
    began: AirTime,
    /// The picture that is being read from disk.
    reading: Option<(Position, Reading)>,
}

type Reading = Pin<Box<dyn Future<Output = Result<Jpeg, VodError>> + Send>>;

impl VodPlayback {
    /// Plays the span from `from` to `to`, in NPT. `now` is the time of the PLAY.
    pub(super) fn new(
        reels: Arc<ReelSequence>,
        (from, to): (Duration, Duration),
        scale: f64,
        now: AirTime,
    ) -> VodPlayback {
        let began = now + START_DELAY;
        VodPlayback { reels, npt: from, end: to, scale, origin: from, began, reading: None }
    }

    /// The NPT of the next picture.
    pub(super) fn npt(&self) -> Duration {
        self.npt
    }

    pub(super) fn scale(&self) -> f64 {
        self.scale
    }

    /// When the next picture is due.
    pub(super) fn due(&self) -> AirTime {
        self.due_at(self.npt)
    }

    fn due_at(&self, npt: Duration) -> AirTime {
        self.began + npt.saturating_sub(self.origin).div_f64(self.scale)
    }

    /// The NPT of the picture after the next, which is at `position`. At a scale above 1 it leaves pictures out, so that no
    /// more are sent in a second than the film has.
    fn following(&self, position: Position) -> Duration {
        let end = self.reels.end_of(position);
        if self.scale <= 1.0 {
            return end;
        }
        let stride = self.reels.reel(position).rate().interval().mul_f64(self.scale);
        end.max(self.npt + stride)
    }

    /// The next picture; the same one again until [`advance`](Self::advance). Cancel-safe: a read from disk goes on.
    ///
    /// # Errors
    /// The reel cannot be read.
    pub(super) async fn next(&mut self) -> Result<PlaybackEvent, VodError> {
        if self.npt >= self.end {
            return Ok(PlaybackEvent::End(self.due_at(self.end)));
        }
        let position = self.reels.at(self.npt);
        let at = self.due();
        let interval = self.due_at(self.following(position).min(self.end)).since(at);
        let jpeg = self.read(position).await?;
        Ok(PlaybackEvent::Unit(Unit::picture(Due { at, interval }, jpeg)))
    }

    /// Reads a picture from memory, where most are, or from disk, on a thread that may block. There is one read at a time:
    /// after a cancellation, the next call waits for the same read.
    async fn read(&mut self, position: Position) -> Result<Jpeg, VodError> {
        let (_, reading) = match self.reading.take_if(|(of, _)| *of == position) {
            Some(reading) => self.reading.insert(reading),
            None => {
                let reel = self.reels.reel(position).clone();
                if let Some(jpeg) = reel.try_picture(position.picture)? {
                    return Ok(jpeg);
                }
                let reading = read_from_disk(reel, position.picture, self.reels.reads.clone());
                self.reading.insert((position, Box::pin(reading)))
            }
        };
        let read = reading.await;
        self.reading = None;
        read
    }

    /// Goes on to the next picture.
    pub(super) fn advance(&mut self) {
        self.npt = self.following(self.reels.at(self.npt)).min(self.end);
    }

    /// Skips the pictures that were due before `moment`. Returns how many.
    pub(super) fn skip(&mut self, moment: AirTime) -> u64 {
        let mut skipped = 0;
        while self.npt < self.end && self.due() < moment {
            self.advance();
            skipped += 1;
        }
        skipped
    }
}

async fn read_from_disk(reel: Arc<Reel>, picture: usize, reads: Arc<Semaphore>) -> Result<Jpeg, VodError> {
    let read = async {
        let permit = reads.acquire_owned().await.map_err(|_| VodError::Interrupted)?;
        let read = spawn_blocking(move || {
            // Held by the thread: the session may have ended long before.
            let _permit = permit;
            reel.picture(picture)
        });
        Ok(read.await.map_err(|_| VodError::Interrupted)??)
    };
    timeout(READ_TIMEOUT, read).await.unwrap_or(Err(VodError::Stuck))
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

    /// Two films of 20 and 30 pictures, half a second together.
    fn reels() -> (Arc<ReelSequence>, TempDir) {
        let folder = TempDir::new().unwrap();
        let reel = |name, count| record(&folder.path().join("reels"), &folder.path().join(name), 0, count);
        let reels = vec![reel("a.mp4", 20), reel("b.mp4", 30)];
        (Arc::new(ReelSequence::new(reels, Arc::new(Semaphore::new(READS))).unwrap()), folder)
    }

    /// When each picture is due, and its interval, in milliseconds from the first.
    async fn dues(mut vod: VodPlayback) -> Vec<(u64, u64)> {
        let mut dues = Vec::new();
        loop {
            match vod.next().await.unwrap() {
                PlaybackEvent::Unit(Unit { due, .. }) => {
                    let at = due.at.since(NOW + START_DELAY);
                    dues.push((at.as_millis() as u64, due.interval.as_millis() as u64));
                }
                PlaybackEvent::End(at) => {
                    dues.push((at.since(NOW + START_DELAY).as_millis() as u64, 0));
                    return dues;
                }
                _ => panic!("not on demand"),
            }
            vod.advance();
        }
    }

    #[tokio::test]
    async fn pictures_are_due_by_npt_and_scale() {
        let (reels, _folder) = reels();
        let length = reels.length();
        assert_eq!(length, Duration::from_millis(500));
        let at = |from: u64, to: u64, scale: f64| {
            let span = (Duration::from_millis(from), Duration::from_millis(to));
            dues(VodPlayback::new(reels.clone(), span, scale, NOW))
        };
        let whole: Vec<_> = (0..50).map(|n| (10 * n, 10)).chain([(500, 0)]).collect();
        assert_eq!(at(0, 500, 1.0).await, whole);
        let slow: Vec<_> = (0..50).map(|n| (20 * n, 20)).chain([(1000, 0)]).collect();
        assert_eq!(at(0, 500, 0.5).await, slow);
        let fast: Vec<_> = (0..25).map(|n| (10 * n, 10)).chain([(250, 0)]).collect();
        assert_eq!(
            at(0, 500, 2.0).await,
            fast,
            "as many a second as at scale 1, across the end of a film, too"
        );
        // From the middle of a picture, which is shown for the rest of its interval, to the middle of another.
        assert_eq!(at(195, 215, 1.0).await, [(0, 5), (5, 10), (15, 5), (20, 0)]);
    }

    #[test]
    fn a_position_is_found_by_its_npt() {
        let (reels, _folder) = reels();
        let at = |ms| {
            let position = reels.at(Duration::from_millis(ms));
            (position.reel, position.picture, reels.end_of(position).as_millis())
        };
        assert_eq!([at(0), at(9), at(199)], [(0, 0, 10), (0, 0, 10), (0, 19, 200)]);
        assert_eq!([at(200), at(499), at(9999)], [(1, 0, 210), (1, 29, 500), (1, 29, 500)]);
        assert!(ReelSequence::new(Vec::new(), reels.reads.clone()).is_none());
    }

    /// The next event, if it is ready.
    async fn poll(vod: &mut VodPlayback) -> Option<Result<PlaybackEvent, VodError>> {
        tokio::select! {
            biased;
            next = vod.next() => Some(next),
            () = yield_now() => None,
        }
    }

    #[tokio::test]
    async fn a_cancelled_read_is_not_started_again() {
        let (reels, _folder) = reels();
        let whole = (Duration::ZERO, reels.length());
        let reel = reels.reels[0].1.clone();
        let hung = reel.hang(0);
        let mut vod = VodPlayback::new(reels.clone(), whole, 1.0, NOW);
        for _ in 0..100 {
            assert!(poll(&mut vod).await.is_none());
            assert_eq!(reels.reads.available_permits(), READS - 1, "one thread waits for the disk");
        }
        // Other sessions take a thread each, until none is left.
        let mut others: Vec<_> = (0..9).map(|_| VodPlayback::new(reels.clone(), whole, 1.0, NOW)).collect();
        for other in &mut others {
            assert!(poll(other).await.is_none());
        }
        assert_eq!(reels.reads.available_permits(), 0);
        drop(others);
        assert_eq!(
            reels.reads.available_permits(),
            0,
            "the threads still wait, although the sessions have ended"
        );
        drop(hung);
        assert!(matches!(vod.next().await, Ok(PlaybackEvent::Unit(_))));
        let _all = reels.reads.acquire_many(READS as u32).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_ends_the_programme() {
        let (reels, _folder) = reels();
        let reel = reels.reels[0].1.clone();
        let _hung = reel.hang(0);
        let mut vod = VodPlayback::new(reels.clone(), (Duration::ZERO, reels.length()), 1.0, NOW);
        assert!(poll(&mut vod).await.is_none());
        advance(READ_TIMEOUT - Duration::from_millis(1)).await;
        assert!(poll(&mut vod).await.is_none());
        advance(Duration::from_millis(2)).await;
        assert!(matches!(poll(&mut vod).await, Some(Err(VodError::Stuck))));
    }

    #[test]
    fn skipping_goes_on_with_the_picture_that_is_due() {
        let (reels, _folder) = reels();
        let mut vod = VodPlayback::new(reels.clone(), (Duration::ZERO, reels.length()), 1.0, NOW);
        assert_eq!(vod.skip(NOW + START_DELAY + RATE.nth(7)), 7);
        assert_eq!(vod.due(), NOW + START_DELAY + RATE.nth(7));
        assert_eq!(vod.skip(NOW + Duration::from_secs(3600)), 43, "no further than the end");
        assert_eq!(vod.npt(), reels.length());
    }
}
