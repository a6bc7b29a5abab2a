//! A capture of what a station sends, on a host of the network.

use std::fs;
use std::path::{Path, PathBuf};

use super::harness::text;
use super::helper::ENOUGH;
use super::lan::Lan;
use super::process::Process;
use super::wire::{Unit, units};

/// The helper `capture`, listening to one group.
pub(crate) struct Capture {
    process: Process,
    file: PathBuf,
}

impl Capture {
    /// Starts a capture of so many pictures on `host`.
    pub(crate) fn start(lan: &Lan, host: &str, group: &str, interface: &str, pictures: usize) -> Capture {
        let file = tempfile::TempDir::new_in(lan.folder()).unwrap().keep().join("capture");
        let args = [group, interface, &pictures.to_string(), text(&file)];
        let mut process = lan.host(host).helper("capture", &args);
        process.await_output("listening");
        Capture { process, file }
    }

    /// Where it puts the datagrams.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Whether pictures are still to come.
    pub(crate) fn runs(&mut self) -> bool {
        self.process.runs()
    }

    /// Ends it. Returns the pictures so far; the station must be on air.
    pub(crate) fn stop(self) -> Vec<Unit> {
        fs::write(format!("{}{ENOUGH}", text(&self.file)), "").unwrap();
        self.end()
    }

    /// Waits until it has all its pictures. Returns them, as [`units`] does.
    pub(crate) fn end(self) -> Vec<Unit> {
        self.process.succeed();
        units(&self.file)
    }
}
