//! The commands of keys and mouse, carried out.

#![expect(clippy::disallowed_methods, reason = "a shell: banners fade")]

use std::time::Instant;

use super::listing::Listing;
use super::{App, BANNER, OpenPanel, POINTER, remembered};
use crate::clock::wall_clock;
use crate::directory::StationInfo;
use crate::log::without_numbers;
use crate::media::StationId;
use crate::screen::pointer::{Button, PointerEvent};
use crate::screen::snapshot::save_png;
use crate::screen::{ListPlace, Screen, ViewerCommand};
use crate::speaker::volume::Volume;

impl App {
    pub(super) fn obey(&mut self, command: ViewerCommand, screen: &mut Screen) -> anyhow::Result<()> {
        self.dirty = true;
        match command {
            ViewerCommand::Station(id) => self.tune(id)?,
            ViewerCommand::Next => self.step(1)?,
            ViewerCommand::Previous => self.step(-1)?,
            ViewerCommand::Last => match self.previous {
                Some(previous) => self.tune(previous)?,
                None => self.say("No station was watched before".into()),
            },
            ViewerCommand::PauseToggle => {
                self.paused = !self.paused;
                self.set_gain();
            }
            ViewerCommand::MuteToggle => {
                self.set_volume(Volume { muted: !self.volume.muted, ..self.volume });
            }
            ViewerCommand::Volume(steps) => self.set_volume(self.volume.step(steps)),
            ViewerCommand::Info => {
                self.panel =
                    if matches!(self.panel, OpenPanel::Info) { OpenPanel::None } else { OpenPanel::Info };
            }
            ViewerCommand::Keys => {
                self.panel =
                    if matches!(self.panel, OpenPanel::Keys) { OpenPanel::None } else { OpenPanel::Keys };
            }
            ViewerCommand::Save => self.save(),
            ViewerCommand::FullScreen => {
                let full = !screen.window().is_full_screen();
                self.set_full_screen(full, screen);
            }
            ViewerCommand::Leave => {
                if !matches!(self.panel, OpenPanel::None) {
                    self.panel = OpenPanel::None;
                } else if screen.window().is_full_screen() {
                    self.set_full_screen(false, screen);
                }
            }
            ViewerCommand::List => {
                self.panel = match self.panel {
                    OpenPanel::List(_) => OpenPanel::None,
                    _ => OpenPanel::List(Listing::at(self.zapper.station().map(|station| station.id))),
                }
            }
            ViewerCommand::Cursor(rows) => self.in_list(|listing, line_up| listing.step(rows, line_up)),
            ViewerCommand::Find(c) => self.in_list(|listing, line_up| listing.find(c, line_up)),
            ViewerCommand::Unfind => self.in_list(Listing::unfind),
            ViewerCommand::Choose => {
                if let OpenPanel::List(listing) = &self.panel
                    && let Some(id) = listing.chosen(self.zapper.line_up())
                {
                    self.panel = OpenPanel::None;
                    self.tune(id)?;
                }
            }
            ViewerCommand::Quit => {}
        }
        Ok(())
    }

    /// Changes the open line-up.
    fn in_list(&mut self, change: impl FnOnce(&mut Listing, &[StationInfo])) {
        if let OpenPanel::List(listing) = &mut self.panel {
            change(listing, self.zapper.line_up());
        }
    }

    fn set_full_screen(&mut self, full: bool, screen: &mut Screen) {
        if let Err(error) = screen.window().set_full_screen(full) {
            self.say(error.to_string());
        }
    }

    /// Obeys the mouse.
    pub(super) fn point(&mut self, event: PointerEvent, screen: &mut Screen) -> anyhow::Result<()> {
        self.pointer_until = Some(Instant::now() + POINTER);
        let listing = matches!(self.panel, OpenPanel::List(_));
        let command = match event {
            PointerEvent::Moved => return Ok(()),
            PointerEvent::Wheel { away, control: true } if away => ViewerCommand::Next,
            PointerEvent::Wheel { control: true, .. } => ViewerCommand::Previous,
            PointerEvent::Wheel { away, .. } if listing => ViewerCommand::Cursor(if away { -1 } else { 1 }),
            PointerEvent::Wheel { away, .. } => ViewerCommand::Volume(if away { 1 } else { -1 }),
            PointerEvent::Press { button: Button::Right, .. } => ViewerCommand::List,
            PointerEvent::Press { button: Button::Left, at, .. } if listing => {
                self.clicks.forget();
                let size = screen.window().size();
                match self.list_view().map(|list| (list.at(at, size), list)) {
                    Some((ListPlace::Row(row), list)) => match list.rows.get(row).map(|row| row.id) {
                        Some(id) => {
                            self.panel = OpenPanel::None;
                            ViewerCommand::Station(id)
                        }
                        None => return Ok(()),
                    },
                    Some((ListPlace::Outside, _)) => ViewerCommand::List,
                    _ => return Ok(()),
                }
            }
            PointerEvent::Press { button: Button::Left, at, time } => {
                if !self.clicks.press(time, at) {
                    return Ok(());
                }
                ViewerCommand::FullScreen
            }
        };
        self.obey(command, screen)
    }

    pub(super) fn tune(&mut self, id: StationId) -> anyhow::Result<()> {
        let current = self.zapper.station().map(|station| station.id);
        if current == Some(id) {
            self.introduce();
            return Ok(());
        }
        if self.zapper.line_up().iter().any(|station| station.id == id) {
            self.previous = current.or(self.previous);
            self.paused = false;
            self.set_gain();
        }
        self.tuned_at = Instant::now();
        self.zapper.tune(id)?;
        self.introduce();
        Ok(())
    }

    /// Changes to the station `by` places further in the line-up, which wraps at its ends.
    pub(super) fn step(&mut self, by: isize) -> anyhow::Result<()> {
        let ids = self.ids();
        let current = self.zapper.station().map(|station| station.id);
        let at = ids.iter().position(|&id| Some(id) == current).unwrap_or(0) as isize;
        match ids.get((at + by).rem_euclid(ids.len().max(1) as isize) as usize) {
            Some(&id) => self.tune(id),
            None => Ok(()),
        }
    }

    fn save(&mut self) {
        let (Some(picture), Some((station, _))) = (self.visible_picture(), self.zapper.on_screen()) else {
            return self.say("No picture to save".into());
        };
        let message = match save_png(&self.save_to, station.id, &station.name, wall_clock(), picture) {
            Ok(path) => format!("Saved as {}", remembered::for_people(&path, std::env::home_dir())),
            Err(error) => {
                // The rest of the sentence names a temporary file.
                let reason = without_numbers(&error.to_string());
                let reason = reason.split(" at path ").next().unwrap_or_default().to_owned();
                format!("Cannot save the picture in {}: {reason}", self.save_to.display())
            }
        };
        self.say(message);
    }

    /// Sets the volume, shows and remembers it.
    fn set_volume(&mut self, volume: Volume) {
        let Some(speaker) = self.zapper.speaker() else {
            return self.say("This viewer plays no sound".into());
        };
        if let Some(problem) = speaker.problem() {
            return self.say(format!("No sound: {problem}"));
        }
        self.volume = volume;
        self.volume_until = Some(Instant::now() + BANNER);
        self.set_gain();
        if let Some(file) = &self.volume_file
            && let Err(error) = volume.remember(file)
        {
            tracing::debug!("cannot remember the volume in {}: {error}", file.display());
        }
    }
}
