//! The open line-up: its cursor, and the name that is searched for. Pure.

use crate::directory::StationInfo;
use crate::media::StationId;
use crate::screen::{List, Row};

/// Most characters of a name that is searched for: as many as a name may have.
const LONGEST: usize = 63;

/// The state of the open line-up.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The station under the cursor. A station's row may change while the line-up is open.
    cursor: Option<StationId>,
    /// The part of a name that is searched for; empty if none is.
    pub(super) search: String,
}

impl Listing {
    /// A line-up with the cursor on this station.
    pub(super) fn at(cursor: Option<StationId>) -> Listing {
        Listing { cursor, search: String::new() }
    }

    /// The stations that the search leaves.
    fn found<'a>(&self, line_up: &'a [StationInfo]) -> Vec<&'a StationInfo> {
        let search = self.search.to_lowercase();
        let has = |station: &&StationInfo| search.is_empty() || station.name.to_lowercase().contains(&search);
        line_up.iter().filter(has).collect()
    }

    /// The row of the cursor: that of its station, or else the first.
    fn row(&self, found: &[&StationInfo]) -> usize {
        found.iter().position(|station| Some(station.id) == self.cursor).unwrap_or(0)
    }

    /// Moves the cursor by so many rows; it stops at both ends.
    pub(super) fn step(&mut self, rows: i32, line_up: &[StationInfo]) {
        let found = self.found(line_up);
        let row = self.row(&found).saturating_add_signed(rows as isize).min(found.len().saturating_sub(1));
        self.cursor = found.get(row).map(|station| station.id);
    }

    /// Adds a character to the search. The cursor goes to the first name that begins with it, or else has a word that does.
    pub(super) fn find(&mut self, c: char, line_up: &[StationInfo]) {
        if self.search.chars().count() < LONGEST {
            self.search.push(c);
        }
        let found = self.found(line_up);
        let search = self.search.to_lowercase();
        let begins = |station: &&&StationInfo| station.name.to_lowercase().starts_with(&search);
        let word = |station: &&&StationInfo| station.name.to_lowercase().contains(&format!(" {search}"));
        let best = found.iter().find(begins).or_else(|| found.iter().find(word)).or(found.first());
        self.cursor = best.map(|station| station.id);
    }

    /// Removes the last character of the search. The cursor stays on its station.
    pub(super) fn unfind(&mut self, line_up: &[StationInfo]) {
        self.search.pop();
        let found = self.found(line_up);
        self.cursor = found.get(self.row(&found)).map(|station| station.id);
    }

    /// The station under the cursor.
    pub(super) fn chosen(&self, line_up: &[StationInfo]) -> Option<StationId> {
        let found = self.found(line_up);
        found.get(self.row(&found)).map(|station| station.id)
    }

    /// The list as it is shown.
    pub(super) fn view<'a>(
        &'a self,
        line_up: &'a [StationInfo],
        current: Option<StationId>,
        row: impl Fn(&'a StationInfo) -> Row<'a>,
    ) -> List<'a> {
        let found = self.found(line_up);
        let cursor = Some(self.row(&found)).filter(|_| !found.is_empty());
        List { rows: found.into_iter().map(row).collect(), current, cursor, search: &self.search }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::State;

    fn line_up(names: &[&str]) -> Vec<StationInfo> {
        let station = |(name, id): (&&str, u16)| StationInfo {
            id: StationId(id),
            name: (*name).to_owned(),
            group: format!("239.1.1.{id}:5004").parse().unwrap(),
            interface: "lo".into(),
            size: None,
            rate: None,
            quality: 80,
            state: State::Film,
            audience: 0,
        };
        names.iter().zip(1..).map(station).collect()
    }

    fn shown(listing: &Listing, line_up: &[StationInfo]) -> (Vec<u16>, Option<usize>) {
        let row =
            |station| Row { id: StationInfo::clone(station).id, name: "", state: "".into(), off_air: false };
        let list = listing.view(line_up, None, row);
        (list.rows.iter().map(|row| row.id.0).collect(), list.cursor)
    }

    #[test]
    fn letters_leave_the_names_that_have_them_with_the_cursor_on_the_best() {
        let stations = line_up(&["Ocean", "The Nature", "Signature", "Natural Élan", "電影"]);
        let mut listing = Listing::at(Some(StationId(1)));
        "nat".chars().for_each(|c| listing.find(c, &stations));
        assert_eq!(shown(&listing, &stations), (vec![2, 3, 4], Some(2)), "a beginning is best");
        assert_eq!(listing.chosen(&stations), Some(StationId(4)));
        "x".chars().for_each(|c| listing.find(c, &stations));
        assert_eq!((shown(&listing, &stations), listing.chosen(&stations)), ((vec![], None), None));
        (0..4).for_each(|_| listing.unfind(&stations));
        assert_eq!(shown(&listing, &stations).0.len(), 5);
        for (typed, id) in [("é", 4), ("電", 5), ("NATURE", 2)] {
            let mut listing = Listing::default();
            typed.chars().for_each(|c| listing.find(c, &stations));
            assert_eq!(listing.chosen(&stations), Some(StationId(id)), "{typed}");
        }
    }

    #[test]
    fn the_cursor_stops_at_both_ends_and_stays_on_its_station() {
        let stations = line_up(&["A", "B", "C", "D"]);
        let mut listing = Listing::at(Some(StationId(2)));
        listing.step(i32::MAX, &stations);
        assert_eq!(shown(&listing, &stations).1, Some(3));
        listing.step(i32::MIN, &stations);
        assert_eq!(shown(&listing, &stations).1, Some(0));
        listing.step(2, &stations);
        // The first station leaves the line-up.
        assert_eq!(shown(&listing, &stations[1..]), (vec![2, 3, 4], Some(1)));
        listing.step(1, &[]);
        assert_eq!((listing.chosen(&[]), listing.chosen(&stations)), (None, Some(StationId(1))));
    }
}
