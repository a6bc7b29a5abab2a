//! The volume, and where it is remembered.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What a key or a notch of the wheel changes, in percent.
pub const STEP: u8 = 5;

/// The volume that the user has chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Volume {
    /// In percent.
    pub percent: u8,
    /// Whether nothing is heard all the same.
    pub muted: bool,
}

impl Default for Volume {
    fn default() -> Volume {
        Volume { percent: 80, muted: false }
    }
}

impl Volume {
    /// The volume by so many steps louder, or softer if negative. That ends a mute.
    pub fn step(self, steps: i32) -> Volume {
        let percent = i32::from(self.percent) + i32::from(STEP) * steps;
        Volume { percent: percent.clamp(0, 100) as u8, muted: false }
    }

    /// The gain, 0.0..=1.0: the square, since loudness is heard by ratios.
    pub fn gain(self) -> f32 {
        let level = f32::from(self.percent) / 100.0;
        if self.muted { 0.0 } else { level * level }
    }

    /// Reads a remembered volume: `80`, or `80 muted`.
    fn parse(text: &str) -> Option<Volume> {
        let mut words = text.split_whitespace();
        let percent = words.next()?.parse().ok().filter(|percent| *percent <= 100)?;
        Some(Volume { percent, muted: words.next() == Some("muted") })
    }

    /// The volume remembered in `file`; the default one if there is none that can be read.
    pub fn remembered(file: Option<&Path>) -> Volume {
        let text = file.and_then(|file| fs::read_to_string(file).ok());
        text.and_then(|text| Volume::parse(&text)).unwrap_or_default()
    }

    /// Remembers the volume in `file`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn remember(self, file: &Path) -> io::Result<()> {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(file, format!("{}{}\n", self.percent, if self.muted { " muted" } else { "" }))
    }
}

/// The name of the file in which the user's volume is remembered.
pub const FILE: &str = "volume";

/// A file in which something is remembered for the user: `stationcast/NAME` in `$XDG_STATE_HOME`, or in `~/.local/state` (XDG
/// Base Directory Specification 0.8). `None` without a home.
pub fn state_file(name: &str, variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Option<PathBuf> {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("stationcast").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_volume_goes_in_steps_and_a_step_ends_a_mute() {
        let loud = Volume { percent: 98, muted: true };
        assert_eq!(loud.gain(), 0.0);
        assert_eq!(loud.step(1), Volume { percent: 100, muted: false });
        assert_eq!(loud.step(1).gain(), 1.0);
        assert_eq!(Volume { percent: 5, muted: false }.step(-3).gain(), 0.0);
    }

    #[test]
    fn the_volume_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state/stationcast/volume");
        assert_eq!(Volume::remembered(Some(&file)), Volume::default());
        for volume in [Volume { percent: 35, muted: false }, Volume { percent: 0, muted: true }] {
            volume.remember(&file).unwrap();
            assert_eq!(Volume::remembered(Some(&file)), volume);
        }
        for damaged in ["", "101", "-3", "loud", "\u{0}"] {
            fs::write(&file, damaged).unwrap();
            assert_eq!(Volume::remembered(Some(&file)), Volume::default(), "{damaged:?}");
        }
    }

    #[test]
    fn the_file_is_in_the_users_state() {
        let of = |state: Option<&str>, home: Option<&str>| {
            state_file(FILE, |name| if name == "HOME" { home } else { state }.map(Into::into))
        };
        assert_eq!(of(Some("/s"), Some("/h")), Some("/s/stationcast/volume".into()));
        assert_eq!(of(None, Some("/h")), Some("/h/.local/state/stationcast/volume".into()));
        assert_eq!(of(Some("relative"), Some("/h")), Some("/h/.local/state/stationcast/volume".into()));
        assert_eq!(of(None, None), None);
    }
}
