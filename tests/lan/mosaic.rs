//! A station that shows others.

use stationcast::media::Size;
use stationcast::paint::Rectangle;
use stationcast::paint::tiles::TileLayout;

use crate::common::film::pal;
use crate::common::lan::{Lan, head, station};
use crate::common::picture::Picture;
use crate::common::strip;
use crate::common::watch::watch;

const DIRECTORY: &str = "127.0.0.1:9688";

/// The strip of a tile of three.
fn tile_strip(picture: &Picture, index: usize) -> Option<(u8, u16)> {
    let layout = TileLayout::new(3, picture.width, picture.height);
    let Rectangle { x, y, width, height } = layout.picture(index, Size { width: 640, height: 368 });
    let luma = &picture.planes[0].samples[y as usize * picture.width + x as usize..];
    strip::read(luma, width as usize, height as usize, picture.width)
}

pub(crate) fn a_station_that_shows_others() {
    let lan = Lan::alone();
    let host = lan.machine();
    let (one, two) = (pal(1), pal(2));
    let mosaic = |id: u16, ids: &str, more: &str| {
        let group = format!("239.77.0.{id}:5004");
        station(id, &[], &group, more).replace("media = []", &format!("media = \"mosaic:{ids}\""))
    };
    let lineup = head(DIRECTORY, "lo")
        + &station(1, &[&one.path], "239.77.0.1:5004", "")
        + &station(2, &[&two.path], "239.77.0.2:5004", "")
        + &mosaic(3, "2,1,4", "width = 1280\n")
        + &mosaic(4, "1", "");
    let _broadcaster = host.on_air(&lineup);
    let seen = watch(&lan, "alone", DIRECTORY, 3, 100).done();
    assert!(seen.pictures.iter().all(|picture| (picture.width, picture.height) == (1280, 720)));
    // The mosaic may be on air before the others are.
    let strips = |picture: &Picture| [tile_strip(picture, 0), tile_strip(picture, 1)];
    let seen: Vec<_> = seen.pictures.iter().map(strips).skip_while(|strips| strips.contains(&None)).collect();
    for (index, film) in [(0, &two), (1, &one)] {
        // A picture may be on for two of the mosaic's, and a busy machine leaves some out.
        let mut strips: Vec<_> = seen.iter().map(|strips| strips[index]).collect();
        strips.dedup();
        film.check_numbers(strips.iter().copied());
        assert!(strips.len() > 9, "tile {index}: {strips:?}");
    }
}
