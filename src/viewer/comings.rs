//! Which stations came on air and which left, told from the difference of two line-ups. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::directory::{State, StationInfo};
use crate::media::StationId;

/// A broadcaster that starts lists its stations one after the other. What comes or leaves so soon after the first line-up of a
/// connection is not told.
const SETTLING: Duration = Duration::from_secs(2);

/// Most stations that one sentence names.
const NAMED: usize = 3;

/// The stations that are known to be on air.
#[derive(Debug, Default)]
pub(super) struct Comings {
    known: BTreeMap<StationId, String>,
    /// When the line-up is complete; `None` before the first one.
    settled_at: Option<Duration>,
}

impl Comings {
    /// The connection to the directory is lost: what comes after that is not told as news.
    pub(super) fn forget(&mut self) {
        *self = Comings::default();
    }

    /// The sentence about what this line-up has changed; `None` if nothing has. `now` counts from any fixed moment.
    pub(super) fn tell(&mut self, now: Duration, line_up: &[StationInfo]) -> Option<String> {
        let settled = now >= *self.settled_at.get_or_insert(now + SETTLING);
        let is_there = |id: StationId, name: &str| {
            line_up.iter().any(|station| station.id == id && station.name == name)
        };
        let mut left = Vec::new();
        self.known.retain(|id, name| {
            let stays = is_there(*id, name);
            if !stays {
                left.push(name.clone());
            }
            stays
        });
        let mut came = Vec::new();
        for station in line_up {
            // Until its first picture, a station is nothing to watch.
            if station.state != State::Starting && !self.known.contains_key(&station.id) {
                self.known.insert(station.id, station.name.clone());
                came.push(format!("{} is on air as {}", station.name, station.id));
            }
        }
        if !settled {
            return None;
        }
        let came = match came.len() {
            0 => None,
            1..=NAMED => Some(came.join("; ")),
            many => Some(format!("{many} stations have come on air")),
        };
        let left = match left.len() {
            0 => None,
            1 => Some(format!("{} has left", left[0])),
            2..=NAMED => Some(format!("{} have left", left.join(", "))),
            many => Some(format!("{many} stations have left")),
        };
        match (came, left) {
            (Some(came), Some(left)) => Some(format!("{left}; {came}")),
            (came, left) => came.or(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn station(id: u16, name: &str, state: State) -> StationInfo {
        let group = ([239, 1, 1, 1], 5000 + id).into();
        StationInfo { state, ..StationInfo::starting(StationId(id), name, group, "lo", 80) }
    }

    fn film(id: u16, name: &str) -> StationInfo {
        station(id, name, State::Film)
    }

    const SECOND: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn who_comes_and_leaves_is_told_once() {
        let mut comings = Comings::default();
        let mut tell = |at, line_up: &[StationInfo]| comings.tell(SECOND(at), line_up);
        let one = film(1, "Nature");
        assert_eq!(tell(0, std::slice::from_ref(&one)), None);
        assert_eq!(
            tell(10, &[one.clone(), station(901, "Anna", State::Starting)]),
            None,
            "nothing to watch yet"
        );
        let anna = film(901, "Anna");
        let on_air = Some("Anna is on air as 901".to_owned());
        assert_eq!(tell(11, &[one.clone(), anna.clone()]), on_air);
        let slate = State::Slate { reason: "lost".into() };
        assert_eq!(tell(12, &[one.clone(), station(901, "Anna", slate)]), None, "it is still there");
        assert_eq!(tell(13, std::slice::from_ref(&one)), Some("Anna has left".to_owned()));
        assert_eq!(tell(14, &[one.clone(), anna]), on_air, "it is back");
        let ben = film(901, "Ben");
        assert_eq!(tell(15, &[one, ben]), Some("Anna has left; Ben is on air as 901".to_owned()));
    }

    #[test]
    fn many_are_told_by_their_number() {
        let mut comings = Comings::default();
        assert_eq!(comings.tell(SECOND(0), &[]), None);
        let all: Vec<_> = (1..=4).map(|id| film(id, &format!("S{id}"))).collect();
        let told = |comings: &mut Comings, line_up: &[StationInfo]| comings.tell(SECOND(9), line_up).unwrap();
        assert_eq!(told(&mut comings, &all[..2]), "S1 is on air as 1; S2 is on air as 2");
        assert_eq!(told(&mut comings, &[]), "S1, S2 have left");
        assert_eq!(told(&mut comings, &all), "4 stations have come on air");
        assert_eq!(told(&mut comings, &[]), "4 stations have left");
    }

    #[test]
    fn a_broadcaster_that_starts_is_no_news() {
        let mut comings = Comings::default();
        for (at, stations) in [(0, 0), (0, 1), (1, 2)] {
            let line_up: Vec<_> = (0..stations).map(|n| film(n + 1, "S")).collect();
            assert_eq!(comings.tell(SECOND(at), &line_up), None);
        }
        comings.forget();
        assert_eq!(comings.tell(SECOND(60), &[film(1, "S"), film(2, "S"), film(3, "T")]), None);
    }
}
