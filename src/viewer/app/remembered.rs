//! What the window keeps from one run to the next: its place, and the station.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::media::StationId;
use crate::paint::area;
use crate::screen::WindowPlace;

/// The file's name.
pub(super) const FILE: &str = "window";

/// The file's content. A file that cannot be read is as good as none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Content {
    station: Option<u16>,
    x: i32,
    y: i32,
    width: i32,
    height: i32,
    full_screen: bool,
}

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    now: Content,
    /// What the file has.
    saved: Option<Content>,
}

impl Remembered {
    /// Reads the file, if there is one.
    pub(super) fn load(file: Option<&Path>) -> Remembered {
        let text = file.and_then(|file| fs::read_to_string(file).ok());
        let saved: Option<Content> = text.and_then(|text| toml::from_str(&text).ok());
        Remembered { now: saved.unwrap_or_default(), saved }
    }

    /// Where the window was.
    pub(super) fn window(&self) -> Option<WindowPlace> {
        let Content { x, y, width, height, full_screen, .. } = self.now;
        (width > 0 && height > 0).then(|| WindowPlace { place: area(x, y, width, height), full_screen })
    }

    /// Notes where the window is. If it fills the screen, its place before that stays noted.
    pub(super) fn set_window(&mut self, window: WindowPlace) {
        self.now.full_screen = window.full_screen;
        if !window.full_screen {
            let place = window.place;
            (self.now.x, self.now.y, self.now.width, self.now.height) =
                (place.x, place.y, place.width, place.height);
        }
    }

    /// The station watched last.
    pub(super) fn station(&self) -> Option<StationId> {
        self.now.station.map(StationId)
    }

    /// Notes the station.
    pub(super) fn set_station(&mut self, station: StationId) {
        self.now.station = Some(station.0);
    }

    /// Writes the file if something has changed. A viewer that is interrupted leaves the old file or the new one.
    pub(super) fn save(&mut self, file: &Path) -> io::Result<()> {
        if self.saved == Some(self.now) {
            return Ok(());
        }
        // What cannot be written now is not tried again until it changes.
        self.saved = Some(self.now);
        let folder = file.parent().ok_or(io::ErrorKind::NotFound)?;
        fs::create_dir_all(folder)?;
        let mut new = tempfile::NamedTempFile::new_in(folder)?;
        new.write_all(toml::to_string(&self.now).map_err(io::Error::other)?.as_bytes())?;
        new.persist(file)?;
        Ok(())
    }
}

/// A path as people write it: absolute, with `~` for their home.
pub(super) fn for_people(path: &Path, home: Option<PathBuf>) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match home.as_deref().filter(|home| home.is_absolute()).and_then(|home| path.strip_prefix(home).ok()) {
        Some(inside) => format!("~/{}", inside.display()),
        None => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_and_station_come_back_and_full_screen_keeps_the_place_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state/stationcast/window");
        let mut remembered = Remembered::load(Some(&file));
        assert_eq!((remembered.window(), remembered.station()), (None, None));
        let place = area(-5, 30, 800, 450);
        remembered.set_window(WindowPlace { place, full_screen: false });
        remembered.set_window(WindowPlace { place: area(0, 0, 1920, 1080), full_screen: true });
        remembered.set_station(StationId(7));
        remembered.save(&file).unwrap();
        let again = Remembered::load(Some(&file));
        assert_eq!(again.window(), Some(WindowPlace { place, full_screen: true }));
        assert_eq!(again.station(), Some(StationId(7)));
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_damaged_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("window");
        for damaged in ["", "width = 'x'", "\u{0}", "width = -3\nheight = 9", "station = 99999999999"] {
            fs::write(&file, damaged).unwrap();
            let remembered = Remembered::load(Some(&file));
            assert_eq!((remembered.window(), remembered.station()), (None, None), "{damaged:?}");
        }
        // Keys of a later version are ignored.
        fs::write(&file, "station = 3\nnew = true\n").unwrap();
        assert_eq!(Remembered::load(Some(&file)).station(), Some(StationId(3)));
        let mut remembered = Remembered::load(Some(&file));
        remembered.set_station(StationId(4));
        assert!(remembered.save(&folder.path().join("window/below")).is_err());
    }

    #[test]
    fn a_path_is_told_in_full_or_from_home() {
        let home = || Some(PathBuf::from("/home/ada"));
        assert_eq!(for_people(Path::new("/home/ada/a.png"), home()), "~/a.png");
        assert_eq!(for_people(Path::new("/tmp/a.png"), home()), "/tmp/a.png");
        assert!(for_people(Path::new("./a.png"), None).ends_with("/a.png"));
        assert!(for_people(Path::new("./a.png"), None).starts_with('/'));
    }
}
