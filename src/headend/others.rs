//! The stations as a mosaic sees them.

use super::HeadEnd;
use crate::content::mosaic::OtherStations;
use crate::media::jpeg::Jpeg;
use crate::media::{AirTime, StationId};

impl OtherStations for HeadEnd {
    fn look(&self, id: StationId, at: AirTime) -> Option<(String, Option<(u64, Jpeg)>)> {
        let station = self.station(id)?;
        let on_air = station.feed.at(at);
        let picture = on_air.and_then(|(number, unit)| Some((number, unit.jpeg()?.clone())));
        Some((station.spec().name.clone(), picture))
    }
}
