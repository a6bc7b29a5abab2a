//! A station's programme for one client alone: from its beginning, from any place of it, faster or slower.
//!
//! A *place* is normal play time (RFC 2326 section 3.6): from the beginning of the first film, through all of them. Each
//! picture is due when its place is, at `began + (place - origin) / scale`: computed anew each time, so nothing adds up.

use std::sync::Arc;
use std::time::Duration;

use super::live::Next;
use crate::station::onair::AccessUnit;
use crate::station::playout::Due;
use crate::station::reel::{Reel, ReelError};
use crate::units::AirTime;
use crate::wire::jpeg::Jpeg;

/// From PLAY to the first picture: after the last one that the air thread may have of what was played before.
const START: Duration = Duration::from_millis(120);

/// The films of a station, one behind the other.
#[derive(Debug)]
pub(super) struct Programme {
    /// With the place where each begins; at least one.
    films: Vec<(Duration, Arc<Reel>)>,
    length: Duration,
}

/// A picture of a programme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Picture {
    film: usize,
    number: usize,
}

impl Programme {
    /// `None` of nothing: no films, or films without length.
    pub(super) fn new(reels: Vec<Arc<Reel>>) -> Option<Programme> {
        let mut length = Duration::ZERO;
        let begin = |reel: Arc<Reel>| {
            let begin = length;
            length += reel.length();
            (begin, reel)
        };
        let films: Vec<_> = reels.into_iter().map(begin).collect();
        (!length.is_zero()).then_some(Programme { films, length })
    }

    pub(super) fn length(&self) -> Duration {
        self.length
    }

    /// The picture that is shown at `place`.
    fn at(&self, place: Duration) -> Picture {
        let film = self.films.partition_point(|(begin, _)| *begin <= place).saturating_sub(1);
        let (begin, reel) = &self.films[film];
        Picture { film, number: reel.at(place.saturating_sub(*begin)) }
    }

    /// Where the picture after `picture` begins; the end of all, after the last.
    fn after(&self, picture: Picture) -> Duration {
        let (begin, reel) = &self.films[picture.film];
        let next = picture.number + 1;
        *begin + if next < reel.len() { reel.stamp(next) } else { reel.length() }
    }

    fn reel(&self, picture: Picture) -> &Arc<Reel> {
        &self.films[picture.film].1
    }
}

/// A programme that is being shown.
#[derive(Debug)]
pub(super) struct Showing {
    programme: Arc<Programme>,
    /// The place of the next picture.
    place: Duration,
    end: Duration,
    scale: f64,
    /// What was on at `began`.
    origin: Duration,
    began: AirTime,
}

impl Showing {
    /// From `from` to `to`; at `now` the client has asked for it.
    pub(super) fn new(
        programme: Arc<Programme>,
        (from, to): (Duration, Duration),
        scale: f64,
        now: AirTime,
    ) -> Showing {
        Showing { programme, place: from, end: to, scale, origin: from, began: now + START }
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
    fn following(&self, picture: Picture) -> Duration {
        let after = self.programme.after(picture);
        if self.scale <= 1.0 {
            return after;
        }
        let stride = self.programme.reel(picture).rate().interval().mul_f64(self.scale);
        after.max(self.place + stride)
    }

    /// The next picture, until [`advance`](Self::advance). May be cancelled.
    ///
    /// # Errors
    /// The reel cannot be read.
    pub(super) async fn next(&self) -> Result<Next, ReelError> {
        if self.place >= self.end {
            return Ok(Next::End(self.when(self.end)));
        }
        let picture = self.programme.at(self.place);
        let at = self.due();
        let interval = self.when(self.following(picture).min(self.end)).since(at);
        let jpeg = read(self.programme.reel(picture), picture.number).await?;
        Ok(Next::Unit(AccessUnit { due: Due { at, interval }, jpeg }))
    }

    /// Goes on to the next picture.
    pub(super) fn advance(&mut self) {
        self.place = self.following(self.programme.at(self.place));
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

/// A picture from memory, where it mostly is; else from the disk, on a thread that may wait for it.
async fn read(reel: &Arc<Reel>, number: usize) -> Result<Jpeg, ReelError> {
    if let Some(jpeg) = reel.cached(number)? {
        return Ok(jpeg);
    }
    let reel = reel.clone();
    match tokio::task::spawn_blocking(move || reel.picture(number)).await {
        Ok(picture) => picture,
        Err(crash) => std::panic::resume_unwind(crash.into_panic()),
    }
}
