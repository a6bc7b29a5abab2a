//! The live units of a station's pictures and of its sound as one sequence, in the order of their due times.

use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};

use super::StationHandle;
use super::feed::{Feed, Subscription};
use crate::clock::AirClock;
use crate::media::tracks::PerTrack;
use crate::media::{AirTime, Track, Unit};

/// The units of some tracks of a station.
pub(crate) struct LiveUnits(PerTrack<LiveTrack>);

struct LiveTrack {
    units: Subscription,
    /// The next unit, if it has come.
    head: Option<Unit>,
}

/// A track has no unit to give: it lost some, or its station is gone.
#[derive(Debug)]
pub(crate) struct NoUnit(pub(crate) Track, pub(crate) RecvError);

/// The feed of a track.
pub(crate) fn feed(station: &StationHandle, track: Track) -> &Feed {
    match track {
        Track::Picture => &station.feed,
        Track::Sound => &station.sound_feed,
    }
}

impl LiveUnits {
    /// Begins with the units that are on air at `at`.
    pub(crate) fn subscribe(station: &StationHandle, tracks: PerTrack<()>, at: AirTime) -> LiveUnits {
        LiveUnits(tracks.map(|track, ()| LiveTrack { units: feed(station, track).subscribe(at), head: None }))
    }

    /// Begins with the units of these numbers.
    pub(crate) fn resume(station: &StationHandle, next: &PerTrack<u64>) -> LiveUnits {
        let of = |track, next: &u64| LiveTrack { units: feed(station, track).resume(*next), head: None };
        LiveUnits(next.map(of))
    }

    /// When the first unit is due, if one was there when the subscription began.
    pub(crate) fn first_due(&self) -> Option<AirTime> {
        self.0.iter().filter_map(|(_, track)| Some(track.units.first()?.due.at)).min()
    }

    /// The number of the next unit of each track.
    pub(crate) fn next(&self) -> PerTrack<u64> {
        self.0.map(|_, track| track.units.next() - u64::from(track.head.is_some()))
    }

    /// When the earliest of the units is due that have come.
    fn due(&self) -> Option<AirTime> {
        self.0.iter().filter_map(|(_, track)| Some(track.head.as_ref()?.due.at)).min()
    }

    /// Waits until a unit has come. Returns when it is due. Cancel-safe.
    ///
    /// # Errors
    /// A track has no unit to give.
    pub(crate) async fn come(&mut self) -> Result<AirTime, NoUnit> {
        loop {
            let due = self.due();
            let PerTrack { picture, sound } = &mut self.0;
            tokio::select! {
                biased;
                result = receive(picture), if lacks(picture) => result.map_err(|e| NoUnit(Track::Picture, e))?,
                result = receive(sound), if lacks(sound) => result.map_err(|e| NoUnit(Track::Sound, e))?,
                at = async { match due {
                    Some(due) => due,
                    None => std::future::pending().await,
                }} => return Ok(at),
            }
        }
    }

    /// Waits until a unit is `ahead` of its due time. Returns the track of the earliest. Cancel-safe.
    ///
    /// # Errors
    /// A track has no unit to give.
    #[expect(clippy::disallowed_methods, reason = "a shell: it waits until units are due")]
    pub(crate) async fn ready(&mut self, clock: &AirClock, ahead: Duration) -> Result<Track, NoUnit> {
        loop {
            let due = self.come().await?;
            let PerTrack { picture, sound } = &mut self.0;
            tokio::select! {
                biased;
                () = sleep_until(Instant::now() + clock.until(due - ahead)) => {
                    let earliest = self.0.iter().find(|(_, track)| {
                        track.head.as_ref().is_some_and(|unit| unit.due.at == due)
                    });
                    return Ok(earliest.map_or(Track::Picture, |(track, _)| track));
                }
                // An earlier unit of the other track may come meanwhile.
                result = receive(picture), if lacks(picture) => result.map_err(|e| NoUnit(Track::Picture, e))?,
                result = receive(sound), if lacks(sound) => result.map_err(|e| NoUnit(Track::Sound, e))?,
            }
        }
    }

    /// Takes the next unit of a track, if it has come, and its number.
    pub(crate) fn take(&mut self, track: Track) -> Option<(u64, Unit)> {
        let track = self.0.get_mut(track)?;
        Some((track.units.next() - 1, track.head.take()?))
    }
}

fn lacks(track: &Option<LiveTrack>) -> bool {
    track.as_ref().is_some_and(|track| track.head.is_none())
}

/// Receives the next unit of a track. Cancel-safe.
async fn receive(track: &mut Option<LiveTrack>) -> Result<(), RecvError> {
    let Some(track) = track else { return std::future::pending().await };
    track.head = Some(track.units.recv().await?);
    Ok(())
}
