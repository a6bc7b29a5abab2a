//! A viewer that saves its pictures.

use std::path::PathBuf;

use serde_json::Value;

use super::film::Film;
use super::harness::text;
use super::lan::{Host, Lan};
use super::picture::{Picture, count_saved, saved, saved_whole};
use super::process::Process;
use super::until;

/// A headless viewer that is running.
pub(crate) struct Watch {
    pub(crate) viewer: Process,
    pub(crate) folder: PathBuf,
}

/// The results of a viewer that has ended.
pub(crate) struct Seen {
    /// Its JSON summary.
    pub(crate) summary: Value,
    pub(crate) pictures: Vec<Picture>,
}

/// Starts watching a station until `pictures` have arrived.
pub(crate) fn watch(lan: &Lan, host: &str, directory: &str, station: u16, pictures: u64) -> Watch {
    watch_with(lan, lan.host(host), directory, station, pictures, &[])
}

/// As [`watch`], with further arguments.
pub(crate) fn watch_with(
    lan: &Lan,
    host: Host,
    directory: &str,
    station: u16,
    pictures: u64,
    more: &[&str],
) -> Watch {
    let folder = tempfile::TempDir::new_in(lan.folder()).unwrap().keep();
    let (station, pictures) = (station.to_string(), pictures.to_string());
    let args =
        ["--directory", directory, "--station", &station, "--headless", "--json", "--frames", &pictures];
    let viewer = host.viewer(&[&args[..], &["--save-frames", text(&folder)], more].concat());
    Watch { viewer, folder }
}

impl Watch {
    /// Waits until at least `pictures` have arrived.
    pub(crate) fn await_pictures(&mut self, pictures: usize) {
        until(&format!("{pictures} pictures"), || {
            let enough = count_saved(&self.folder) >= pictures;
            assert!(enough || self.viewer.runs(), "the viewer ended before {pictures} pictures");
            enough.then_some(())
        });
    }

    /// Waits until so many more have arrived.
    pub(crate) fn await_more(&mut self, pictures: usize) {
        self.await_pictures(count_saved(&self.folder) + pictures);
    }

    /// Waits for its end.
    pub(crate) fn done(self) -> Seen {
        let summary = self.viewer.json();
        Seen { summary, pictures: saved(&self.folder) }
    }

    /// Kills it. Returns the pictures that it has saved, without the last one, which may be incomplete.
    pub(crate) fn stop(self) -> Vec<Picture> {
        drop(self.viewer);
        saved_whole(&self.folder)
    }
}

impl Seen {
    pub(crate) fn count(&self, field: &str) -> u64 {
        self.summary[field].as_u64().unwrap_or_else(|| panic!("no {field} in {}", self.summary))
    }

    /// Checks that the pictures are those of `film`, in order: none was lost on the way, and hardly any was skipped by the
    /// sender, as a busy machine does with late ones.
    pub(crate) fn check_whole(&self, film: &Film) {
        assert_eq!(self.count("frames"), self.pictures.len() as u64);
        assert_eq!((self.count("frames_lost"), self.count("packets_lost")), (0, 0), "{}", self.summary);
        film.check_most(&self.pictures);
    }

    /// Checks the size of all pictures, and that the summary says the same.
    pub(crate) fn check_size(&self, size: (usize, usize)) {
        assert_eq!((self.count("width"), self.count("height")), (size.0 as u64, size.1 as u64));
        for picture in &self.pictures {
            assert_eq!((picture.width, picture.height), size);
        }
    }
}
