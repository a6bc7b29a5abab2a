//! The films on all stations, told to the directory once a second.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::error;

use super::{HeadEnd, StationHandle};
use crate::content::guide::GuideEntry;
use crate::directory::{FilmOnAir, StationNow};
use crate::media::AirTime;

/// Time between two looks at what is on. One of 999 stations takes 0.2 ms.
const INTERVAL: Duration = Duration::from_secs(1);

impl HeadEnd {
    /// Tells the directory what is on, until the broadcaster stops.
    #[expect(clippy::disallowed_methods, reason = "a shell: it looks once a second")]
    pub(crate) async fn keep_telling_now(self: Arc<HeadEnd>) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stopping() => return,
                _ = ticks.tick() => self.tell_now(self.clock.now()),
            }
        }
    }

    /// Tells the directory what is on at `now`.
    fn tell_now(&self, now: AirTime) {
        let stations = self.stations();
        let stations = stations.values().filter_map(|station| station_now(station, now)).collect();
        if let Err(refused) = self.table.set_now(now, stations) {
            // Our bug: a station keeps its guide in order.
            error!("{refused}");
        }
    }
}

/// The film on a station at `now`; `None` if there is none.
fn station_now(station: &StationHandle, now: AirTime) -> Option<StationNow> {
    let (entry, next) = station.now_and_next(now);
    let GuideEntry { title, begin, end } = entry?;
    let film = FilmOnAir { title: title.to_string(), begin, end };
    Some(StationNow { id: station.spec().id, now: Some(film), next: next.map(|next| next.title.to_string()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::guide::GuideFilm;
    use crate::lineup::StationSpec;

    #[tokio::test]
    async fn the_directory_is_told_what_is_on() {
        let spec = StationSpec::sample("239.79.5.1:5004");
        let id = spec.id;
        let (head_end, _stop) = HeadEnd::for_tests(vec![spec], None);
        let begin = AirTime(1_790_000_000_000_000_000);
        let length = Duration::from_secs(10);
        head_end.tell_now(begin);
        assert!(head_end.table.now().borrow().stations.is_empty(), "nothing is on yet");
        let station = head_end.station(id).unwrap();
        let film = |title: &str| GuideFilm { title: title.into(), length: Some(length) };
        station.guide().begin_round(vec![film("Ocean\u{7}"), film("Nature")]);
        station.guide().begin_film(0, begin, None);
        let mut told = head_end.table.now();
        for (seconds, now, next) in
            [(0, "Ocean ", "Nature"), (9, "Ocean ", "Nature"), (10, "Nature", "Ocean ")]
        {
            let at = begin + Duration::from_secs(seconds);
            head_end.tell_now(at);
            assert_eq!(told.has_changed().unwrap(), seconds != 9, "{seconds} s");
            let all = told.borrow_and_update().clone();
            let [StationNow { now: Some(film), next: Some(following), .. }] = &all.stations[..] else {
                panic!("{all:?}")
            };
            assert_eq!((all.at, &*film.title, &**following), (at, now, next));
            assert_eq!((film.position(at), film.length()), (Duration::from_secs(seconds % 10), Some(length)));
        }
    }
}
