//! The window's application: shows pictures as they arrive and obeys keys.

#![expect(clippy::disallowed_methods, reason = "a shell: banners fade")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tracing::warn;

use super::showing::show_at;
use super::zapper::{CodedPicture, SignalState, Zapper, ZapperEvent};
use crate::clock::wall_clock;
use crate::conflict::addresses;
use crate::directory::{State, StationInfo};
use crate::log::RateLimit;
use crate::media::{AirTime, Size, StationId};
use crate::screen::snapshot::save_png;
use crate::screen::{
    Banner, DecodeError, DecodedPicture, Decoder, List, Mode, Remote, Row, Screen, ScreenView, ViewerCommand,
    VolumeBar,
};
use crate::speaker::volume::{self, Volume};

/// How often keys are polled while no picture arrives.
const POLL: Duration = Duration::from_millis(10);

/// How often the screen is painted when nothing on it has changed: for figures, for banners that expire, and for window
/// systems that forget what a window showed.
const REPAINT: Duration = Duration::from_millis(250);

/// How long the first picture is awaited before the window opens, so that it opens in the picture's size.
const OPENING: Duration = Duration::from_millis(500);

/// How long a banner or a message is shown.
const BANNER: Duration = Duration::from_secs(3);

/// Delay after a change of station before the screen says that the station is awaited.
const PATIENCE: Duration = Duration::from_millis(700);

/// Most pictures that wait for their sound: half a second at 60 a second. Above, the oldest is shown at once.
const MAX_HELD: usize = 32;

/// Number of pictures measured for the information on the screen: half a minute.
pub const MEASURED: usize = 750;

/// Size of the window if no picture has arrived when it opens.
const UNKNOWN: Size = Size { width: 640, height: 368 };

/// The state of the application: all that is on the screen, and what fills it.
struct App {
    zapper: Zapper,
    decoder: Decoder,
    /// The picture on the screen.
    picture: Option<DecodedPicture>,
    /// Target of the next decoding, so that a damaged picture does not overwrite the one shown.
    spare: DecodedPicture,
    /// Limits the log lines about damaged pictures.
    damaged: RateLimit,
    remote: Remote,
    /// Zero of the times given to `remote`.
    began: Instant,
    /// The station of `picture`, until it has been painted.
    unpainted: Option<StationId>,
    /// The station watched before this one.
    previous: Option<StationId>,
    /// Number, name, and when the banner expires.
    banner: Option<(StationId, String, Instant)>,
    /// Text, and when the message expires.
    message: Option<(String, Instant)>,
    /// When the last change of station was requested.
    tuned_at: Instant,
    /// Whether the information is shown.
    info: bool,
    /// The cursor's row if the line-up is shown.
    list: Option<usize>,
    paused: bool,
    /// Pictures of the station on the screen that wait for their sound: when to show each, and its due time.
    held: VecDeque<(AirTime, AirTime, CodedPicture)>,
    /// Due time of `picture`; `None` if the directory has sent it.
    due: Option<AirTime>,
    /// By how much the sound is heard after the picture, in milliseconds, averaged.
    offset: Option<f64>,
    volume: Volume,
    /// The file that remembers it.
    volume_file: Option<PathBuf>,
    /// When the volume's bar expires.
    volume_until: Option<Instant>,
    save_to: PathBuf,
    /// Whether the screen must be painted again.
    dirty: bool,
    /// The other senders on the group of the chosen station.
    others: Vec<SocketAddr>,
}

/// Shows `station`, or the first of the line-up, until the user quits. Pictures are saved in `save_to`.
///
/// # Errors
/// There is no display, or the system refuses a thread.
pub fn watch(mut zapper: Zapper, station: Option<StationId>, save_to: PathBuf) -> anyhow::Result<()> {
    if let Some(station) = station {
        zapper.tune(station)?;
    }
    let mut app = App::new(zapper, save_to)?;
    app.remember_volume(volume::file(|name| std::env::var_os(name)));
    while app.picture.is_none() && app.began.elapsed() < OPENING {
        app.receive(POLL)?;
    }
    let size = app.picture.as_ref().map_or(UNKNOWN, |picture| picture.size);
    let mut screen = Screen::open("stationcast", size)?;
    let mut painted = Instant::now() - REPAINT;
    loop {
        app.receive(POLL)?;
        for key in screen.window().poll() {
            let mode = if app.list.is_some() { Mode::Listing } else { Mode::Watching };
            let ids = app.ids();
            let command = app.remote.press(app.began.elapsed(), key, mode, &ids);
            app.dirty = true;
            if command == Some(ViewerCommand::Quit) {
                return Ok(());
            }
            if let Some(command) = command {
                app.obey(command, &mut screen)?;
            }
        }
        if let Some(command) = app.remote.poll(app.began.elapsed()) {
            app.obey(command, &mut screen)?;
        }
        if app.dirty || painted.elapsed() >= REPAINT {
            app.paint(&mut screen)?;
            painted = Instant::now();
        }
    }
}

impl App {
    fn new(zapper: Zapper, save_to: PathBuf) -> Result<App, DecodeError> {
        let now = Instant::now();
        Ok(App {
            zapper,
            decoder: Decoder::new()?,
            picture: None,
            spare: DecodedPicture::empty(),
            damaged: RateLimit::default(),
            remote: Remote::new(),
            began: now,
            unpainted: None,
            previous: None,
            banner: None,
            message: None,
            tuned_at: now,
            info: false,
            list: None,
            paused: false,
            held: VecDeque::new(),
            due: None,
            offset: None,
            volume: Volume::default(),
            volume_file: None,
            volume_until: None,
            save_to,
            dirty: true,
            others: Vec::new(),
        })
    }

    /// The numbers of the line-up.
    fn ids(&self) -> Vec<StationId> {
        self.zapper.line_up().iter().map(|station| station.id).collect()
    }

    /// Handles the zapper's events up to the next picture that is to be shown; waits up to `timeout` for the first one.
    fn receive(&mut self, mut timeout: Duration) -> anyhow::Result<()> {
        loop {
            let now = wall_clock();
            if self.show_held(now) {
                return Ok(());
            }
            if let Some((at, ..)) = self.held.front() {
                timeout = timeout.min(at.since(now));
            }
            let Some(event) = self.zapper.next(timeout)? else {
                self.show_held(wall_clock());
                return Ok(());
            };
            timeout = Duration::ZERO;
            match event {
                ZapperEvent::Picture { .. } if self.paused => continue,
                ZapperEvent::Picture { station, picture } => {
                    let Some(due) = self.hold(station, &picture) else { continue };
                    self.held.clear();
                    self.due = due;
                    self.decode(station, &picture.into_jfif());
                    // Each picture is painted before the next one is fetched.
                    return Ok(());
                }
                ZapperEvent::LineUp => {
                    let first = self.zapper.line_up().first().map(|station| station.id);
                    if let (None, Some(first)) = (self.zapper.wanted(), first) {
                        self.zapper.tune(first)?;
                    }
                    if self.banner.is_none() {
                        self.introduce();
                    }
                }
                ZapperEvent::NoSuchStation(id) => self.say(format!("no station {id}")),
                ZapperEvent::DirectoryLost { reason, retry_in } => {
                    warn!("directory lost: {reason}");
                    self.say(format!("directory lost, retrying in {:.1} s", retry_in.as_secs_f64()));
                }
            }
            self.dirty = true;
        }
    }

    /// Keeps a picture that is before its sound. `None` if it is kept; else its due time, if it has one, and it is to be shown
    /// now. The first picture of a station is never kept.
    fn hold(&mut self, station: StationId, picture: &CodedPicture) -> Option<Option<AirTime>> {
        let CodedPicture::Air(received) = picture else { return Some(None) };
        let due = received.due();
        let on_screen = self.zapper.shown_station() == Some(station);
        let heard = self.zapper.speaker().filter(|_| on_screen).and_then(|speaker| speaker.status().heard);
        let due = heard.map_or(due, |heard| heard.due_of(due, received.first_arrival));
        let now = wall_clock();
        let at = show_at(heard, due, now);
        if at <= now {
            return Some(Some(due));
        }
        self.held.push_back((at, due, picture.clone()));
        None
    }

    /// Decodes the newest picture whose time has come. Returns whether there was one.
    fn show_held(&mut self, now: AirTime) -> bool {
        if self.paused {
            self.held.clear();
        }
        let mut newest = None;
        while self.held.front().is_some_and(|(at, ..)| *at <= now) || self.held.len() > MAX_HELD {
            newest = self.held.pop_front();
        }
        let (Some((_, due, picture)), Some(station)) = (newest, self.zapper.shown_station()) else {
            return false;
        };
        self.due = Some(due);
        self.decode(station, &picture.into_jfif());
        true
    }

    /// Takes the volume that is remembered in `file`, and remembers changes there.
    fn remember_volume(&mut self, file: Option<PathBuf>) {
        self.volume = Volume::remembered(file.as_deref());
        self.volume_file = file;
        self.set_gain();
    }

    /// Sets the volume, shows and remembers it.
    fn set_volume(&mut self, volume: Volume) {
        let Some(speaker) = self.zapper.speaker() else {
            return self.say("this viewer plays no sound".into());
        };
        if let Some(problem) = speaker.problem() {
            return self.say(format!("no sound: {problem}"));
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

    fn set_gain(&self) {
        if let Some(speaker) = self.zapper.speaker() {
            speaker.set_gain(if self.paused { 0.0 } else { self.volume.gain() });
        }
    }

    /// Decodes a picture. If it is damaged, the one before it stays.
    fn decode(&mut self, station: StationId, jpeg: &[u8]) {
        match self.decoder.decode_into(jpeg, &mut self.spare) {
            Ok(()) => {
                std::mem::swap(self.picture.get_or_insert_with(DecodedPicture::empty), &mut self.spare);
                let chosen = self.zapper.station().is_some_and(|chosen| chosen.id == station);
                self.unpainted = chosen.then_some(station);
                self.dirty = true;
            }
            Err(error) => {
                if let Some(count) = self.damaged.note(Instant::now().into()) {
                    warn!("station {station}: {count} damaged pictures not shown, the last one: {error}");
                }
            }
        }
    }

    fn obey(&mut self, command: ViewerCommand, screen: &mut Screen) -> anyhow::Result<()> {
        self.dirty = true;
        match command {
            ViewerCommand::Station(id) => self.tune(id)?,
            ViewerCommand::Next => self.step(1)?,
            ViewerCommand::Previous => self.step(-1)?,
            ViewerCommand::Last => match self.previous {
                Some(previous) => self.tune(previous)?,
                None => self.say("no previous station".into()),
            },
            ViewerCommand::PauseToggle => {
                self.paused = !self.paused;
                self.set_gain();
            }
            ViewerCommand::MuteToggle => {
                self.set_volume(Volume { muted: !self.volume.muted, ..self.volume });
            }
            ViewerCommand::Volume(steps) => self.set_volume(self.volume.step(steps)),
            ViewerCommand::Info => self.info = !self.info,
            ViewerCommand::Save => self.save(),
            ViewerCommand::FullScreen => {
                if let Err(error) = screen.window().toggle_full_screen() {
                    self.say(error.to_string());
                }
            }
            ViewerCommand::List => {
                let current = self.zapper.station().map(|station| station.id);
                let row = self.zapper.line_up().iter().position(|station| Some(station.id) == current);
                self.list = if self.list.is_some() { None } else { Some(row.unwrap_or(0)) };
            }
            ViewerCommand::Cursor(rows) => {
                let last = self.zapper.line_up().len().saturating_sub(1);
                self.list = self.list.map(|row| row.saturating_add_signed(rows as isize).min(last));
            }
            ViewerCommand::Choose => {
                let chosen =
                    self.list.take().and_then(|row| self.zapper.line_up().get(row)).map(|station| station.id);
                if let Some(id) = chosen {
                    self.tune(id)?;
                }
            }
            ViewerCommand::Quit => {}
        }
        Ok(())
    }

    fn tune(&mut self, id: StationId) -> anyhow::Result<()> {
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
    fn step(&mut self, by: isize) -> anyhow::Result<()> {
        let ids = self.ids();
        let current = self.zapper.station().map(|station| station.id);
        let at = ids.iter().position(|&id| Some(id) == current).unwrap_or(0) as isize;
        match ids.get((at + by).rem_euclid(ids.len().max(1) as isize) as usize) {
            Some(&id) => self.tune(id),
            None => Ok(()),
        }
    }

    /// Shows the banner of the chosen station, at once, before there is a picture.
    fn introduce(&mut self) {
        self.banner =
            self.zapper.station().map(|station| (station.id, station.name.clone(), Instant::now() + BANNER));
    }

    fn say(&mut self, message: String) {
        self.message = Some((message, Instant::now() + BANNER));
    }

    fn save(&mut self) {
        let (Some(picture), Some((station, _))) = (&self.picture, self.zapper.on_screen()) else {
            return self.say("no picture to save".into());
        };
        let message = match save_png(&self.save_to, station.id, &station.name, wall_clock(), picture) {
            Ok(path) => format!("picture saved as {}", path.strip_prefix(".").unwrap_or(&path).display()),
            Err(error) => format!("cannot save the picture: {error}"),
        };
        self.say(message);
    }

    /// Tells, when that begins, that others send to the group of the station.
    fn tell_conflict(&mut self) {
        let others = self.zapper.other_senders();
        if self.others.is_empty() && !others.is_empty() {
            self.say(format!("others send to this group: {}", addresses(&others)));
        }
        self.others = others;
    }

    fn paint(&mut self, screen: &mut Screen) -> anyhow::Result<()> {
        let now = Instant::now();
        self.tell_conflict();
        self.banner.take_if(|(.., until)| now >= *until);
        self.message.take_if(|(_, until)| now >= *until);
        self.volume_until.take_if(|until| now >= *until);
        let note = self.note();
        let typed = self.remote.shown();
        let info = if self.info { self.information() } else { Vec::new() };
        let current = self.zapper.station().map(|station| station.id);
        let list = self.list.map(|cursor| List {
            rows: self.zapper.line_up().iter().map(row).collect(),
            current,
            cursor: Some(cursor),
        });
        let view = ScreenView {
            picture: self.picture.as_ref(),
            banner: self.banner.as_ref().map(|(number, name, _)| Banner { number: *number, name }),
            note: note.as_deref(),
            typed: typed.as_deref(),
            info: &info,
            list,
            message: self.message.as_ref().map(|(message, _)| message.as_str()),
            paused: self.paused,
            volume: self
                .volume_until
                .is_some()
                .then_some(VolumeBar { percent: self.volume.percent, muted: self.volume.muted }),
        };
        screen.show(&view)?;
        self.measure_offset();
        self.dirty = false;
        if let Some(station) = self.unpainted.take()
            && self.zapper.shown(station).is_some()
            && let Some(station) = self.zapper.station()
        {
            screen.window().set_title(&format!("{} {} - stationcast", station.id, station.name));
        }
        Ok(())
    }

    /// Notes by how much the sound is heard after the picture that has just been painted.
    fn measure_offset(&mut self) {
        let heard = self.zapper.speaker().and_then(|speaker| speaker.status().heard);
        let Some(heard) = heard else {
            self.offset = None;
            return;
        };
        if let Some(due) = self.due.take() {
            let offset = heard.offset_ms(due, wall_clock());
            // About a second.
            self.offset = Some(self.offset.map_or(offset, |average| average + (offset - average) / 25.0));
        }
    }

    /// The row of the sound in the information; `None` if nothing plays sound.
    fn sound_row(&self) -> Option<String> {
        let speaker = self.zapper.speaker()?;
        if let Some(problem) = speaker.problem() {
            return Some(format!("none: {problem}"));
        }
        let status = speaker.status();
        let Some(offset) = self.offset.filter(|_| status.heard.is_some()) else { return Some("-".into()) };
        Some(format!(
            "{offset:+.0} ms, buffer {:.0} ms, device {:.0} ms, {} lost",
            status.buffered_ms, status.device_ms, status.counters.lost
        ))
    }

    /// Why there is no live picture of the chosen station.
    fn note(&self) -> Option<String> {
        match self.zapper.signal() {
            SignalState::Lost(silent) => Some(match self.zapper.problem() {
                Some(problem) => format!("no signal: {problem}"),
                None => format!("no signal for {} s", silent.as_secs()),
            }),
            SignalState::Waiting if self.tuned_at.elapsed() < PATIENCE => None,
            SignalState::Waiting if self.zapper.station().is_some() => Some("waiting for the station".into()),
            SignalState::Waiting if !self.zapper.is_connected() => Some("waiting for the directory".into()),
            SignalState::Waiting => Some("choose a station: l shows the line-up".into()),
            SignalState::Live => None,
        }
    }

    /// Labels and values of the information.
    fn information(&self) -> Vec<(&'static str, String)> {
        let Some((station, status)) = self.zapper.on_screen() else { return Vec::new() };
        let (counters, reading) = (status.counters, status.reading);
        let size = self.picture.as_ref().map_or_else(|| "-".into(), |picture| picture.size.to_string());
        let rate = station.rate.map_or_else(String::new, |rate| format!(" of {:.3}", rate.as_f64()));
        let zap = self
            .zapper
            .last_zap()
            .map_or_else(|| "-".into(), |took| format!("{:.1} ms", took.as_secs_f64() * 1e3));
        // Of a stream that no directory lists, it is not known.
        let quality = match station.quality {
            0 => String::new(),
            quality => format!(", quality {quality}"),
        };
        let mut rows = vec![
            ("station", format!("{} {}", station.id, station.name)),
            ("group", station.group.to_string()),
            ("size", format!("{size}{quality}")),
            ("pictures/s", format!("{:.3}{rate}", reading.rate)),
            ("lost", format!("{} pictures, {} packets", counters.pictures_lost, counters.packets_lost)),
            ("lateness", format!("p50 {:.0} us, p99 {:.0} us", reading.pacing.p50, reading.pacing.p99)),
            ("change", zap),
            ("buffer", format!("{} kB, {} dropped", status.buffer / 1000, status.kernel_drops)),
        ];
        rows.extend(self.sound_row().map(|row| ("sound", row)));
        if !self.others.is_empty() {
            rows.push(("others here", addresses(&self.others)));
        }
        rows
    }
}

/// A station's row in the list.
fn row(station: &StationInfo) -> Row<'_> {
    let state = match &station.state {
        State::Starting => "starting",
        State::Film => "",
        State::Slate { .. } => "off air",
    };
    Row { id: station.id, name: &station.name, state }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::viewer::zapper::{QueuePolicy, ReceiveVia};

    #[test]
    fn a_damaged_picture_does_not_replace_the_one_before_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _within = runtime.enter();
        let via = ReceiveVia::Multicast { interface: None };
        let zapper = Zapper::start("127.0.0.1:1".parse().unwrap(), via, QueuePolicy::Newest, 10);
        let mut app = App::new(zapper, PathBuf::new()).unwrap();
        let grey = vec![90; 32 * 16 * 3];
        let image = turbojpeg::Image {
            pixels: &grey[..],
            width: 32,
            pitch: 96,
            height: 16,
            format: turbojpeg::PixelFormat::RGB,
        };
        let jpeg = turbojpeg::compress(image, 80, turbojpeg::Subsamp::Sub2x2).unwrap();
        app.decode(StationId(1), &jpeg);
        let before = app.picture.clone().expect("a picture");
        assert_eq!(before.size, Size { width: 32, height: 16 });
        // Twice, since the spare picture is used again.
        for _ in 0..2 {
            app.decode(StationId(1), &jpeg[..jpeg.len() - 12]);
            app.decode(StationId(1), b"nothing of the kind");
            assert_eq!(app.picture.as_ref(), Some(&before));
        }
        app.decode(StationId(1), &jpeg);
        assert_eq!(app.picture, Some(before));
    }
}
