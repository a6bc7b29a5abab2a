//! The commands of keys and mouse, carried out.

#![expect(clippy::disallowed_methods, reason = "a shell: banners fade")]

use std::time::Instant;

use super::guide::{GuideStep, OpenGuide};
use super::listing::Listing;
use super::{App, BANNER, GUIDE, OpenPanel, POINTER, remembered};
use crate::clock::wall_clock;
use crate::directory::StationInfo;
use crate::log::without_numbers;
use crate::media::{AirTime, StationId};
use crate::screen::pointer::{Button, PointerEvent};
use crate::screen::snapshot::save_png;
use crate::screen::{ListPlace, Screen, ViewerCommand};
use crate::speaker::volume::Volume;
use crate::viewer::mosaic::Mosaic;

impl App {
    pub(super) fn obey(&mut self, command: ViewerCommand, screen: &mut Screen) -> anyhow::Result<()> {
        self.dirty = true;
        match command {
            ViewerCommand::Station(id) => self.tune(id)?,
            ViewerCommand::Next => self.step(1)?,
            ViewerCommand::Previous => self.step(-1)?,
            ViewerCommand::Mosaic if self.mosaic.is_some() => self.show_alone(),
            ViewerCommand::Mosaic => self.open_mosaic()?,
            ViewerCommand::Tile { across, down } => {
                let wanted = self.zapper.wanted();
                if let Some(id) = self.mosaic.as_ref().and_then(|mosaic| mosaic.beside(wanted, across, down))
                {
                    self.tune(id)?;
                }
            }
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
            ViewerCommand::Guide => {
                self.panel = match self.panel {
                    OpenPanel::Guide(_) => OpenPanel::None,
                    _ => OpenPanel::Guide(OpenGuide::at(self.zapper.wanted())),
                };
                self.guide_at = Instant::now();
            }
            ViewerCommand::Films(by) => self.in_guide(GuideStep::Films(by)),
            ViewerCommand::Now => self.in_guide(GuideStep::Now),
            ViewerCommand::Cursor(rows) if matches!(self.panel, OpenPanel::Guide(_)) => {
                self.in_guide(GuideStep::Stations(rows));
            }
            ViewerCommand::Cursor(rows) => self.in_list(|listing, line_up| listing.step(rows, line_up)),
            ViewerCommand::Find(c) => self.in_list(|listing, line_up| listing.find(c, line_up)),
            ViewerCommand::Unfind => self.in_list(Listing::unfind),
            ViewerCommand::Choose => {
                let chosen = match &self.panel {
                    OpenPanel::List(listing) => listing.chosen(self.zapper.line_up()),
                    OpenPanel::Guide(guide) => guide.chosen(self.zapper.line_up()),
                    OpenPanel::None | OpenPanel::Info | OpenPanel::Keys => {
                        self.show_alone();
                        None
                    }
                };
                if let Some(id) = chosen {
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

    /// Moves the cursor of the open guide. What is then seen is asked for at once.
    fn in_guide(&mut self, step: GuideStep) {
        let now = self.broadcast_time();
        if let OpenPanel::Guide(guide) = &mut self.panel {
            guide.step(step, self.zapper.line_up(), now);
            self.guide_at = Instant::now();
        }
    }

    /// Asks for what the open guide shows, if it is time.
    pub(super) fn ask_guide(&mut self) {
        let now = self.broadcast_time();
        if let OpenPanel::Guide(guide) = &self.panel
            && Instant::now() >= self.guide_at
        {
            let (from, until) = guide.wanted(now);
            self.zapper.ask_guide(from, until);
            self.guide_at = Instant::now() + GUIDE;
        }
    }

    /// The time by the broadcaster's clock; by ours, before the broadcaster has told it.
    pub(super) fn broadcast_time(&self) -> AirTime {
        self.zapper.air_time(Instant::now()).unwrap_or_else(wall_clock)
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
        let guide = matches!(self.panel, OpenPanel::Guide(_));
        let command = match event {
            PointerEvent::Moved => return Ok(()),
            PointerEvent::Wheel { away, control: true } if away => ViewerCommand::Next,
            PointerEvent::Wheel { control: true, .. } => ViewerCommand::Previous,
            PointerEvent::Wheel { away, .. } if listing || guide => {
                ViewerCommand::Cursor(if away { -1 } else { 1 })
            }
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
            PointerEvent::Press { button: Button::Left, at, time } if guide => {
                let (now, size) = (self.broadcast_time(), screen.window().size());
                let place = self.guide_view(now).and_then(|guide| guide.place(at, size));
                let double = self.clicks.press(time, at);
                match (place, &mut self.panel) {
                    (Some(_), _) if double => ViewerCommand::Choose,
                    (Some((row, share)), OpenPanel::Guide(guide)) => {
                        guide.point(row, share, self.zapper.line_up(), now);
                        self.dirty = true;
                        return Ok(());
                    }
                    _ => return Ok(()),
                }
            }
            PointerEvent::Press { button: Button::Left, at, time } => {
                let tile = self.mosaic.as_ref().map(|mosaic| mosaic.at(at, screen.window().size()));
                let double = self.clicks.press(time, at);
                match (tile, double) {
                    (Some(Some(id)), false) => return self.obey(ViewerCommand::Station(id), screen),
                    (Some(Some(_)), true) => return self.obey(ViewerCommand::Choose, screen),
                    (Some(None), _) | (None, false) => return Ok(()),
                    (None, true) => {}
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
        let listed = self.zapper.line_up().iter().any(|station| station.id == id);
        if listed && self.mosaic.as_ref().is_some_and(|mosaic| !mosaic.has(id)) {
            self.say(format!("Station {id} is not among these. T shows one station alone."));
            return Ok(());
        }
        if listed {
            self.previous = current.or(self.previous);
            self.paused = false;
            self.set_gain();
        }
        self.tuned_at = Instant::now();
        self.zapper.tune(id)?;
        if let Some(mosaic) = &mut self.mosaic {
            mosaic.follow(&self.zapper)?;
        }
        self.introduce();
        Ok(())
    }

    /// Shows all stations, or those that the user has named.
    pub(super) fn open_mosaic(&mut self) -> anyhow::Result<()> {
        if self.zapper.requires_signed() {
            self.say("No tiles with --require-signed: their signatures would not be checked".into());
            return Ok(());
        }
        let mosaic = Mosaic::open(&self.zapper, self.named.clone())?;
        self.held.clear();
        let wanted = self.zapper.wanted();
        let first = mosaic.beside(None, 0, 0).filter(|_| wanted.is_some_and(|wanted| !mosaic.has(wanted)));
        self.mosaic = Some(mosaic);
        match first {
            Some(first) => self.tune(first),
            None => Ok(()),
        }
    }

    /// Shows the chosen station of a mosaic alone, at first with the picture of its tile.
    fn show_alone(&mut self) {
        let Some(mut mosaic) = self.mosaic.take() else { return };
        if let Some(id) = self.zapper.wanted() {
            self.picture = mosaic.whole_picture(id).and_then(Result::ok);
            self.pictured = self.picture.as_ref().map(|_| id);
        }
        self.introduce();
    }

    /// Changes to the station `by` places further in the line-up, which wraps at its ends.
    pub(super) fn step(&mut self, by: isize) -> anyhow::Result<()> {
        let ids = match &self.mosaic {
            Some(mosaic) => mosaic.ids().to_vec(),
            None => self.ids(),
        };
        let current = self.zapper.station().map(|station| station.id);
        let at = ids.iter().position(|&id| Some(id) == current).unwrap_or(0) as isize;
        match ids.get((at + by).rem_euclid(ids.len().max(1) as isize) as usize) {
            Some(&id) => self.tune(id),
            None => Ok(()),
        }
    }

    fn save(&mut self) {
        let of_tile = match (&mut self.mosaic, self.zapper.wanted()) {
            (Some(mosaic), Some(id)) => mosaic.whole_picture(id).and_then(Result::ok),
            _ => None,
        };
        let picture = if self.mosaic.is_some() { of_tile.as_ref() } else { self.visible_picture() };
        let (Some(picture), Some(station)) = (picture, self.saved_station()) else {
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

    /// The station whose picture is saved: of a mosaic the chosen one, else that on the screen.
    fn saved_station(&self) -> Option<&StationInfo> {
        match &self.mosaic {
            Some(_) => self.zapper.station(),
            None => self.zapper.on_screen().map(|(station, _)| station),
        }
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
