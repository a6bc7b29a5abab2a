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
use super::vod_sound::VodSound;
use crate::clock::AirClock;
use crate::content::Fault;
use crate::content::catalogue::Catalogue;
use crate::content::pass::{EncodingPlace, FilmPass, PassState, ROUNDING};
use crate::content::programme::Programme;
use crate::content::reel::{Reel, ReelError};
use crate::lineup::StationSpec;
use crate::media::jpeg::Jpeg;
use crate::media::tracks::PerTrack;
use crate::media::{AirTime, Due, Track, Unit};

/// Time from PLAY to the first picture. It is longer than the air thread may hold pictures of an earlier PLAY.
const START_DELAY: Duration = Duration::from_millis(120);

/// How long a disk may take to read a picture, as for a station: beyond it, the disk hangs.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a programme ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum VodError {
    #[error(transparent)]
    Reel(#[from] ReelError),
    /// A film without a reel cannot go on.
    #[error(transparent)]
    Film(#[from] Fault),
    #[error("the disk has not answered for {} s", READ_TIMEOUT.as_secs())]
    Stuck,
    /// The reading thread has panicked, or the broadcaster stops.
    #[error("reading was interrupted")]
    Interrupted,
}

/// A station's programme for one client.
pub(super) struct VodProgramme {
    pub(super) programme: Arc<Programme>,
    /// Opens the films that have no reels.
    pub(super) catalogue: Arc<Catalogue>,
    /// The place among the clients for which films are encoded; `None` if all films have reels.
    pub(super) place: Option<Arc<EncodingPlace>>,
    /// A permit for each thread that waits for a reel's disk, for all sessions: stations use threads of the same pool.
    pub(super) reads: Arc<Semaphore>,
}

impl VodProgramme {
    /// Playing time.
    pub(super) fn length(&self) -> Duration {
        self.programme.sequence().length()
    }
}

/// A programme that is played.
pub(super) struct VodPlayback {
    vod: Arc<VodProgramme>,
    /// The NPT of the next picture.
    npt: Duration,
    /// The NPT of the picture after it, once that is known.
    following: Option<Duration>,
    /// The NPT at which playback ends.
    end: Duration,
    scale: f64,
    /// The NPT at `began`.
    origin: Duration,
    began: AirTime,
    /// The picture that is being read from a reel on disk: its film and number.
    reading: Option<((usize, usize), Reading)>,
    /// The film that is being decoded and encoded.
    pass: Option<(usize, FilmPass)>,
    /// `None` if the client takes no sound.
    sound: Option<VodSound>,
    /// The next picture, if there is sound, whose packets come before it: it is read once.
    picture: Option<Unit>,
}

type Reading = Pin<Box<dyn Future<Output = Result<Jpeg, VodError>> + Send>>;

impl VodPlayback {
    /// Plays the span from `from` to `to`, in NPT, of the station of `sound` if the client takes its sound, too. `now` is the time of
    /// the PLAY.
    pub(super) fn new(
        vod: Arc<VodProgramme>,
        (from, to): (Duration, Duration),
        scale: f64,
        now: AirTime,
        sound: Option<Arc<StationSpec>>,
    ) -> VodPlayback {
        VodPlayback {
            vod,
            npt: from,
            following: None,
            end: to,
            scale,
            origin: from,
            began: now + START_DELAY,
            reading: None,
            pass: None,
            sound: sound.map(|spec| VodSound::new(spec, scale)),
            picture: None,
        }
    }

    /// Gets the first picture, if a film must be decoded for it, and begins as if PLAY were now. To open a film and to go to a position
    /// in it may take a second.
    ///
    /// # Errors
    /// The film cannot be played.
    #[expect(clippy::disallowed_methods, reason = "a shell: playback begins now")]
    pub(super) async fn prepare(&mut self, clock: &AirClock) -> Result<(), VodError> {
        if self.vod.programme.lacks_reels() {
            self.next_picture().await?;
            self.began = clock.now() + START_DELAY;
            self.origin = self.npt;
        }
        Ok(())
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

    /// The NPT after which the picture after the next one is looked for. At a scale above 1 pictures are left out, so that no more are
    /// sent in a second than the film has.
    fn stride(&self, film: usize) -> Duration {
        if self.scale <= 1.0 {
            return Duration::ZERO;
        }
        self.vod.programme.rate_of(film).interval().mul_f64(self.scale)
    }

    /// The next unit; the same one again until [`advance`](Self::advance). Cancel-safe: a read from disk goes on.
    ///
    /// # Errors
    /// The film cannot go on.
    pub(super) async fn next(&mut self) -> Result<PlaybackEvent, VodError> {
        if self.sound.is_none() {
            return self.next_picture().await;
        }
        let (picture, at) = match self.picture.clone() {
            Some(unit) => (PlaybackEvent::Unit(unit.clone()), unit.due.at),
            None => match self.next_picture().await? {
                PlaybackEvent::Unit(unit) => {
                    let position = self.vod.programme.sequence().at(self.npt);
                    if let Some(sound) = &mut self.sound {
                        sound.extend(unit.due, position, &self.vod.programme, &self.vod.catalogue);
                    }
                    self.picture = Some(unit.clone());
                    (PlaybackEvent::Unit(unit.clone()), unit.due.at)
                }
                other => (other, self.due_at(self.end)),
            },
        };
        let packet = self.sound.as_ref().and_then(VodSound::first).filter(|packet| packet.due.at <= at);
        Ok(packet.map_or(picture, |packet| PlaybackEvent::Unit(packet.clone())))
    }

    /// The next picture; the same one again until [`advance`](Self::advance). Cancel-safe.
    async fn next_picture(&mut self) -> Result<PlaybackEvent, VodError> {
        while self.npt < self.end {
            let programme = self.vod.programme.clone();
            let (film, offset) = programme.sequence().at(self.npt);
            let picture = match programme.reel(film) {
                Some(reel) => self.read_reel(film, reel, offset).await?,
                None => match self.pass(film, offset)?.at(offset).await? {
                    PassState::Picture(picture) => Some((picture.jpeg.clone(), picture.end)),
                    PassState::Ended => None,
                    PassState::Reel => continue,
                },
            };
            let Some((jpeg, end)) = picture else {
                // The film is shorter than it claims. The next one follows without a gap.
                self.began = self.due();
                (self.npt, self.following) = (programme.sequence().end(film), None);
                self.origin = self.npt;
                continue;
            };
            let end = (programme.sequence().begin(film) + end).min(programme.sequence().end(film));
            let following = end.max(self.npt + self.stride(film));
            self.following = Some(following);
            let at = self.due();
            let interval = self.due_at(following.min(self.end)).since(at);
            return Ok(PlaybackEvent::Unit(Unit::picture(Due { at, interval }, jpeg)));
        }
        Ok(PlaybackEvent::End(self.due_at(self.end)))
    }

    /// The pass through a film that has no reel.
    fn pass(&mut self, film: usize, offset: Duration) -> Result<&mut FilmPass, VodError> {
        let pass = match self.pass.take_if(|(of, _)| *of == film) {
            Some(pass) => pass,
            None => {
                let place = self.vod.place.clone().ok_or(VodError::Interrupted)?;
                let (catalogue, programme) = (self.vod.catalogue.clone(), self.vod.programme.clone());
                // The film before it is closed first, since a client has one thread.
                self.pass = None;
                (film, FilmPass::new(catalogue, programme, film, (offset, self.stride(film)), place))
            }
        };
        Ok(&mut self.pass.insert(pass).1)
    }

    /// The picture of a reel that is on at `offset`, and when it ends; `None` after the last one.
    async fn read_reel(
        &mut self,
        film: usize,
        reel: &Arc<Reel>,
        offset: Duration,
    ) -> Result<Option<(Jpeg, Duration)>, VodError> {
        let offset = offset + ROUNDING;
        let end = end_in(reel, offset);
        if end <= offset {
            return Ok(None);
        }
        self.read((film, reel.at(offset)), reel).await.map(|jpeg| Some((jpeg, end)))
    }

    /// Reads a picture from memory, where most are, or from disk, on a thread that may block. There is one read at a time:
    /// after a cancellation, the next call waits for the same read.
    async fn read(&mut self, position: (usize, usize), reel: &Arc<Reel>) -> Result<Jpeg, VodError> {
        let (_, reading) = match self.reading.take_if(|(of, _)| *of == position) {
            Some(reading) => self.reading.insert(reading),
            None => {
                if let Some(jpeg) = reel.try_picture(position.1)? {
                    return Ok(jpeg);
                }
                let reading = read_from_disk(reel.clone(), position.1, self.vod.reads.clone());
                self.reading.insert((position, Box::pin(reading)))
            }
        };
        let read = reading.await;
        self.reading = None;
        read
    }

    /// Goes on to the next unit of a track.
    pub(super) fn advance(&mut self, track: Track) {
        match (track, &mut self.sound) {
            (Track::Picture, _) => self.advance_picture(),
            (Track::Sound, Some(sound)) => sound.advance(),
            (Track::Sound, None) => {}
        }
    }

    fn advance_picture(&mut self) {
        self.picture = None;
        let following = self.following.take().unwrap_or_else(|| {
            let sequence = self.vod.programme.sequence();
            let (film, offset) = sequence.at(self.npt);
            let end = match self.vod.programme.reel(film) {
                Some(reel) => end_in(reel, offset + ROUNDING),
                None => offset + self.vod.programme.rate_of(film).interval(),
            };
            let end = (sequence.begin(film) + end).min(sequence.end(film));
            // A reel that is shorter than its film claimed to be has no more pictures.
            let end = if end > self.npt { end } else { sequence.end(film) };
            end.max(self.npt + self.stride(film))
        });
        self.npt = following.min(self.end);
    }

    /// Skips the units that were due before `moment`. Returns how many pictures, of a film without a reel by its rate, and how many
    /// packets of sound.
    pub(super) fn skip(&mut self, moment: AirTime) -> PerTrack<u64> {
        let mut skipped = 0;
        while self.npt < self.end && self.due() < moment {
            self.advance_picture();
            skipped += 1;
        }
        let sound = self.sound.as_mut().map(|sound| sound.skip(moment));
        PerTrack { picture: Some(skipped), sound }
    }
}

/// When the picture of a reel that is on at `offset` ends.
fn end_in(reel: &Reel, offset: Duration) -> Duration {
    let next = reel.at(offset) + 1;
    if next < reel.len() { reel.stamp(next) } else { reel.length() }
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
    fn reels() -> (Arc<VodProgramme>, TempDir) {
        let folder = TempDir::new().unwrap();
        let reel = |name, count| record(&folder.path().join("reels"), &folder.path().join(name), 0, count);
        let reels = vec![reel("a.mp4", 20), reel("b.mp4", 30)];
        let vod = VodProgramme {
            programme: Arc::new(Programme::of_reels(reels)),
            catalogue: Arc::new(Catalogue::new(AirClock::start(), None)),
            place: None,
            reads: Arc::new(Semaphore::new(READS)),
        };
        (Arc::new(vod), folder)
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
            vod.advance(Track::Picture);
        }
    }

    #[tokio::test]
    async fn pictures_are_due_by_npt_and_scale() {
        let (reels, _folder) = reels();
        let length = reels.length();
        assert_eq!(length, Duration::from_millis(500));
        let at = |from: u64, to: u64, scale: f64| {
            let span = (Duration::from_millis(from), Duration::from_millis(to));
            dues(VodPlayback::new(reels.clone(), span, scale, NOW, None))
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
        let reel = reels.programme.reel(0).unwrap().clone();
        let hung = reel.hang(0);
        let mut vod = VodPlayback::new(reels.clone(), whole, 1.0, NOW, None);
        for _ in 0..100 {
            assert!(poll(&mut vod).await.is_none());
            assert_eq!(reels.reads.available_permits(), READS - 1, "one thread waits for the disk");
        }
        // Other sessions take a thread each, until none is left.
        let mut others: Vec<_> =
            (0..9).map(|_| VodPlayback::new(reels.clone(), whole, 1.0, NOW, None)).collect();
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
        let reel = reels.programme.reel(0).unwrap().clone();
        let _hung = reel.hang(0);
        let mut vod = VodPlayback::new(reels.clone(), (Duration::ZERO, reels.length()), 1.0, NOW, None);
        assert!(poll(&mut vod).await.is_none());
        advance(READ_TIMEOUT - Duration::from_millis(1)).await;
        assert!(poll(&mut vod).await.is_none());
        advance(Duration::from_millis(2)).await;
        assert!(matches!(poll(&mut vod).await, Some(Err(VodError::Stuck))));
    }

    #[test]
    fn skipping_goes_on_with_the_picture_that_is_due() {
        let (reels, _folder) = reels();
        let mut vod = VodPlayback::new(reels.clone(), (Duration::ZERO, reels.length()), 1.0, NOW, None);
        assert_eq!(vod.skip(NOW + START_DELAY + RATE.nth(7)).picture, Some(7));
        assert_eq!(vod.due(), NOW + START_DELAY + RATE.nth(7));
        assert_eq!(vod.skip(NOW + Duration::from_secs(3600)).picture, Some(43), "no further than the end");
        assert_eq!(vod.npt(), reels.length());
    }
}
