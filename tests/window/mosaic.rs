//! All stations in one window, and the guide.

use std::fs;

use stationcast::media::Size;
use stationcast::paint::Rectangle;
use stationcast::paint::tiles::TileLayout;

use crate::common::film::pal;
use crate::common::harness::text;
use crate::common::lan::{Lan, head, station};
use crate::common::{strip, until};
use crate::{DIRECTORY, Screenshot, ViewerWindow, three_stations};

/// The size of the stations' pictures.
const PICTURE: Size = Size { width: 640, height: 368 };

/// Luma of the frame of the chosen tile, and of the bars beside a picture.
const FRAME: std::ops::RangeInclusive<u8> = 170..=200;

impl Screenshot {
    fn layout(&self, tiles: usize) -> TileLayout {
        TileLayout::new(tiles, self.width, self.height)
    }

    /// The strip of a tile, of so many in all.
    fn tile_strip(&self, index: usize, tiles: usize) -> Option<(u8, u16)> {
        let Rectangle { x, y, width, height } = self.layout(tiles).picture(index, PICTURE);
        let from = y as usize * self.width + x as usize;
        strip::read(&self.luma[from..], width as usize, height as usize, self.width)
    }

    /// The stations in the tiles, as their strips say.
    fn tile_stations(&self, tiles: usize) -> Vec<Option<u8>> {
        (0..tiles).map(|index| self.tile_strip(index, tiles).map(|strip| strip.0)).collect()
    }

    /// The index of the tile that has a frame.
    fn framed(&self, tiles: usize) -> Option<usize> {
        (0..tiles).find(|&index| {
            let tile = self.layout(tiles).tile(index);
            let (x, y) = (tile.x as usize, (tile.y + tile.height / 2) as usize);
            FRAME.contains(&self.luma[y * self.width + x])
        })
    }

    /// Whether the picture of a tile is dim, as one without signal is.
    fn is_tile_dim(&self, index: usize, tiles: usize) -> bool {
        let Rectangle { x, y, width, height } = self.layout(tiles).picture(index, PICTURE);
        let rows = (y + height / 4..y + height / 2).map(|y| &self.luma[y as usize * self.width..]);
        let pixels: Vec<u8> = rows.flat_map(|row| &row[x as usize..][..width as usize]).copied().collect();
        pixels.iter().all(|&luma| luma <= 125) && pixels.iter().any(|&luma| luma > 20)
    }
}

impl ViewerWindow<'_> {
    /// Waits until the tiles show these stations, in this order.
    fn await_tiles(&self, stations: &[u8]) -> Screenshot {
        let wanted: Vec<_> = stations.iter().map(|&id| Some(id)).collect();
        until(&format!("tiles of {stations:?}"), || {
            let screenshot = self.screenshot();
            (screenshot.tile_stations(stations.len()) == wanted).then_some(screenshot)
        })
    }

    /// Waits until this tile, of so many, has the frame, and its station alone is watched.
    fn await_chosen(&self, index: usize, tiles: usize, station: u16) {
        until(&format!("a frame around tile {index}"), || {
            (self.screenshot().framed(tiles) == Some(index)).then_some(())
        });
        let machine = self.lan.machine();
        machine.await_station(DIRECTORY, station, "watched", |entry| entry["audience"] == 1);
    }

    /// Clicks the middle of a tile so many times.
    fn click_tile(&self, index: usize, tiles: usize, times: &str) {
        let Rectangle { x, y, width, height } = self.screenshot().layout(tiles).tile(index);
        let (x, y) = ((x + width / 2).to_string(), (y + height / 2).to_string());
        let to = ["mousemove", "--sync", "--window", &self.id, &x, &y];
        self.display
            .tool("xdotool", &[&to[..], &["click", "--repeat", times, "--delay", "20", "1"]].concat());
    }
}

pub(crate) fn all_stations_are_shown_and_one_alone_at_a_key() {
    let lan = Lan::alone();
    let broadcaster = three_stations(&lan);
    let saved = lan.folder().join("saved");
    fs::create_dir(&saved).unwrap();
    let mut window = ViewerWindow::new(&lan, &["--mosaic", "--station", "2", "--save-to", text(&saved)]);
    let first = window.await_tiles(&[1, 2, 3]);
    window.await_chosen(1, 3, 2);
    // Each tile is live.
    until("other pictures in all tiles", || {
        let now = window.screenshot();
        let moved =
            |index| now.tile_strip(index, 3).is_some_and(|strip| Some(strip) != first.tile_strip(index, 3));
        (0..3).all(moved).then_some(())
    });
    window.press("Left");
    window.await_chosen(0, 3, 1);
    window.press("Down");
    window.await_chosen(2, 3, 3);
    window.press("2");
    window.await_chosen(1, 3, 2);
    window.click_tile(0, 3, "1");
    window.await_chosen(0, 3, 1);
    window.press("s");
    let (name, file) = crate::await_saved(&saved);
    assert!(name.starts_with("stationcast-01-Station_1-"), "{name}");
    assert!(crate::png_strip(&file).is_some_and(|strip| strip.0 == 1), "the whole picture is saved");

    window.press("Return");
    window.await_station(1);
    window.await_motion();
    window.press("t");
    window.await_tiles(&[1, 2, 3]);
    window.await_chosen(0, 3, 1);
    window.click_tile(2, 3, "2");
    window.await_station(3);
    window.press("t");
    window.await_tiles(&[1, 2, 3]);

    // Without signal, a tile keeps its last picture, dim.
    broadcaster.signal("KILL");
    broadcaster.finish();
    until("dim tiles", || {
        let now = window.screenshot();
        (0..3).all(|index| now.is_tile_dim(index, 3)).then_some(())
    });
    assert!(window.viewer.runs());
    let _broadcaster = three_stations(&lan);
    until("live tiles", || {
        let now = window.screenshot();
        (0..3).all(|index| !now.is_tile_dim(index, 3)).then_some(())
    });
    window.press("q");
    assert_eq!(window.viewer.finish().code, Some(0));
}

pub(crate) fn tiles_follow_stations_that_come_and_leave() {
    let lan = Lan::alone();
    let host = lan.machine();
    let film = |id: u8| station(id.into(), &[&pal(id).path], &format!("239.77.0.{id}:5004"), "");
    let lineup =
        |ids: &[u8]| head(DIRECTORY, "127.0.0.1") + &ids.iter().map(|&id| film(id)).collect::<String>();
    let file = host.lineup(&lineup(&[1, 2]));
    let mut broadcaster = host.run(env!("CARGO_BIN_EXE_broadcaster"), &["--config", text(&file)]);
    broadcaster.await_log(" on air: ", 2);
    let window = ViewerWindow::new(&lan, &["--mosaic", "3,1,2"]);
    // Of the stations that were asked for, those that there are, in their order.
    window.await_tiles(&[1, 2]);
    let reload = |ids: &[u8]| {
        fs::write(&file, lineup(ids)).unwrap();
        broadcaster.signal("HUP");
    };
    reload(&[1, 2, 3, 4]);
    window.await_tiles(&[3, 1, 2]);
    reload(&[2, 3, 4]);
    window.await_tiles(&[3, 2]);
    // One that is not among them is not shown; alone, it is.
    window.press("4");
    window.await_tiles(&[3, 2]);
    window.press("3");
    window.press("Return");
    window.await_station(3);
    window.press("4");
    window.await_station(4);
    window.press("q");
    assert_eq!(window.viewer.finish().code, Some(0));
}

pub(crate) fn the_guide_leads_to_a_station() {
    let lan = Lan::alone();
    let _broadcaster = three_stations(&lan);
    let window = ViewerWindow::new(&lan, &["--station", "2"]);
    window.await_station(2);
    let middle = |screenshot: &Screenshot| {
        let (x, y) = (screenshot.width / 2, screenshot.height / 2);
        (0..8).map(|n| u32::from(screenshot.luma[y * screenshot.width + x + n])).sum::<u32>() / 8
    };
    window.press("g");
    // Films of 2 s fill the rows, so that the panel has cells.
    until("the guide over the picture", || (middle(&window.screenshot()) < 100).then_some(()));
    window.display.tool("xdotool", &["key", "--delay", "0", "Right", "Left", "Down", "Return"]);
    window.await_station(3);
    window.display.tool("xdotool", &["key", "--delay", "0", "g", "Up", "Up", "Escape"]);
    window.await_motion();
    window.await_station(3);
    // In a mosaic it chooses a tile.
    window.display.tool("xdotool", &["key", "--delay", "0", "t", "g", "Up", "Up", "Return"]);
    window.await_tiles(&[1, 2, 3]);
    window.await_chosen(0, 3, 1);
}
