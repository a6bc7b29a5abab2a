//! The window's application: shows pictures as they arrive and obeys keys and mouse. `commands` carries out keys and mouse, `view`
//! computes the screen, `listing` is the open line-up, `guide` the open guide, `remembered` is kept from one run to the next.

#![expect(clippy::disallowed_methods, reason = "a shell: banners fade")]

mod commands;
mod guide;
mod listing;
mod remembered;
mod view;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tracing::warn;

use self::guide::OpenGuide;
use self::listing::Listing;
use self::remembered::Remembered;
use super::comings::Comings;
use super::mosaic::Mosaic;
use super::showing::show_at;
use super::zapper::{CodedPicture, Zapper, ZapperEvent};
use crate::clock::wall_clock;
use crate::conflict::addresses;
use crate::log::RateLimit;
use crate::media::{AirTime, Size, StationId};
use crate::screen::pointer::DoubleClick;
use crate::screen::{DecodeError, DecodedPicture, Decoder, Mode, Remote, Screen, ViewerCommand, WindowPlace};
use crate::speaker::volume::{self, Volume};

/// How often keys are polled while no picture arrives. Each time costs an exchange with the window system: 40 µs.
const POLL: Duration = Duration::from_millis(16);

/// How often keys and tiles are polled while there is a mosaic: its pictures do not end the wait. With [`POLL`],
/// some tiles changed 14 times a second instead of 22.
const MOSAIC_POLL: Duration = Duration::from_millis(10);

/// How often the screen is painted when nothing on it has changed: for figures, for banners that expire, and for window
/// systems that forget what a window showed.
const REPAINT: Duration = Duration::from_millis(250);

/// How long the first picture is awaited before the window opens, so that it opens in the picture's size.
const OPENING: Duration = Duration::from_millis(500);

/// How long a banner or a message is shown.
const BANNER: Duration = Duration::from_secs(3);

/// Delay after a change of station before the screen says that the station is awaited, and no longer shows the one before it.
const PATIENCE: Duration = Duration::from_millis(700);

/// How long the directory is away before that is said though the picture goes on: a broadcaster that starts anew is back by then.
const DIRECTORY_PATIENCE: Duration = Duration::from_secs(4);

/// How long the pointer is shown after it was used.
const POINTER: Duration = Duration::from_secs(2);

/// How often an open guide is asked for again: films that are late change it.
const GUIDE: Duration = Duration::from_secs(10);

/// How often the window's place and the station are remembered, if they have changed.
const REMEMBER: Duration = Duration::from_secs(2);

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
    /// The last picture.
    picture: Option<DecodedPicture>,
    /// Its station.
    pictured: Option<StationId>,
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
    /// When the banner expires. It is also shown as long as something is wrong.
    banner_until: Option<Instant>,
    /// Text, and when the message expires.
    message: Option<(String, Instant)>,
    /// When the last change of station was requested.
    tuned_at: Instant,
    panel: OpenPanel,
    /// When the guide is asked for again.
    guide_at: Instant,
    /// All stations, in the place of the picture.
    mosaic: Option<Mosaic>,
    /// The stations that the user has named for it; empty: all.
    named: Vec<StationId>,
    /// Why there is no connection to the directory.
    directory_lost: Option<DirectoryLost>,
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
    clicks: DoubleClick,
    /// When the pointer is hidden; `None` if it is.
    pointer_until: Option<Instant>,
    /// Which stations come and leave.
    comings: Comings,
    /// What is kept for the next run, and the file that keeps it.
    remembered: Remembered,
    remembered_file: Option<PathBuf>,
    save_to: PathBuf,
    /// The window's title.
    title: String,
    /// Whether the screen must be painted again.
    dirty: bool,
    /// The other senders on the group of the chosen station.
    others: Vec<SocketAddr>,
}

/// The panel that is open.
#[derive(Debug, Default)]
enum OpenPanel {
    #[default]
    None,
    Info,
    Keys,
    List(Listing),
    Guide(OpenGuide),
}

/// A lost connection to the directory.
struct DirectoryLost {
    reason: String,
    /// Whether something answers at the directory's address.
    reached: bool,
    /// When the next attempt is made.
    retry_at: Instant,
    /// When it was lost.
    since: Instant,
    /// Whether the user was told though the picture goes on.
    told: bool,
}

/// Shows `station`, or the one watched last, or the first of the line-up, until the user quits; with a `mosaic` of some numbers, these
/// stations at once, or of none, all. Pictures are saved in `save_to`.
///
/// # Errors
/// There is no display, or the system refuses a thread.
pub fn watch(
    mut zapper: Zapper,
    station: Option<StationId>,
    mosaic: Option<Vec<StationId>>,
    save_to: PathBuf,
) -> anyhow::Result<()> {
    if let Some(station) = station {
        zapper.tune(station)?;
    }
    let mut app = App::new(zapper, save_to)?;
    if let Some(named) = mosaic {
        app.named = named;
        app.open_mosaic()?;
    }
    let state_file = |name| volume::state_file(name, |variable| std::env::var_os(variable));
    app.remember_volume(state_file(volume::FILE));
    app.remembered_file = state_file(remembered::FILE);
    app.remembered = Remembered::load(app.remembered_file.as_deref());
    while app.picture.is_none() && app.mosaic.is_none() && app.began.elapsed() < OPENING {
        app.receive(POLL)?;
    }
    let size = app.picture.as_ref().map_or(UNKNOWN, |picture| picture.size);
    let mut screen = Screen::open("stationcast", size, app.remembered.window())?;
    let (mut painted, mut noted) = (Instant::now() - REPAINT, Instant::now());
    loop {
        app.receive(if app.mosaic.is_some() { MOSAIC_POLL } else { POLL })?;
        for press in screen.window().poll() {
            let ids = app.ids();
            let command = app.remote.press(app.began.elapsed(), press, app.mode(), &ids);
            app.dirty = true;
            if command == Some(ViewerCommand::Quit) {
                app.remember(&mut screen);
                return Ok(());
            }
            if let Some(command) = command {
                app.obey(command, &mut screen)?;
            }
        }
        for event in screen.window().poll_pointer() {
            app.point(event, &mut screen)?;
        }
        if let Some(command) = app.remote.poll(app.began.elapsed()) {
            app.obey(command, &mut screen)?;
        }
        if let Some(mosaic) = app.mosaic.as_mut().filter(|_| !app.paused) {
            app.dirty |= mosaic.refresh(screen.window().size());
        }
        app.ask_guide();
        app.pointer_until.take_if(|until| Instant::now() >= *until);
        screen.window().show_pointer(app.pointer_until.is_some());
        if app.dirty || painted.elapsed() >= REPAINT {
            app.paint(&mut screen)?;
            painted = Instant::now();
        }
        if noted.elapsed() >= REMEMBER {
            app.remember(&mut screen);
            noted = Instant::now();
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
            pictured: None,
            spare: DecodedPicture::empty(),
            damaged: RateLimit::default(),
            remote: Remote::new(),
            began: now,
            unpainted: None,
            previous: None,
            banner_until: None,
            message: None,
            tuned_at: now,
            panel: OpenPanel::None,
            guide_at: now,
            mosaic: None,
            named: Vec::new(),
            directory_lost: None,
            paused: false,
            held: VecDeque::new(),
            due: None,
            offset: None,
            volume: Volume::default(),
            volume_file: None,
            volume_until: None,
            clicks: DoubleClick::default(),
            pointer_until: Some(now + POINTER),
            comings: Comings::default(),
            remembered: Remembered::default(),
            remembered_file: None,
            save_to,
            title: String::new(),
            dirty: true,
            others: Vec::new(),
        })
    }

    /// The numbers of the line-up.
    fn ids(&self) -> Vec<StationId> {
        self.zapper.line_up().iter().map(|station| station.id).collect()
    }

    /// The target of the keys.
    fn mode(&self) -> Mode {
        match &self.panel {
            OpenPanel::List(listing) => Mode::Listing { searching: !listing.search.is_empty() },
            OpenPanel::Guide(_) => Mode::Guide,
            _ if self.mosaic.is_some() => Mode::Tiles,
            _ => Mode::Watching,
        }
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
                // The tiles have pictures of their own. The zapper is for the sound, which follows the picture.
                ZapperEvent::Picture { station, .. } if self.mosaic.is_some() => {
                    self.zapper.shown(station);
                    continue;
                }
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
                    self.directory_lost = None;
                    if let Some(told) = self.comings.tell(self.began.elapsed(), self.zapper.line_up()) {
                        self.say(told);
                    }
                    let line_up = self.zapper.line_up();
                    let mosaic = self.mosaic.as_ref();
                    let known = |id: &StationId| match mosaic {
                        Some(mosaic) => mosaic.would_show(*id, &self.zapper),
                        None => line_up.iter().any(|station| station.id == *id),
                    };
                    let last = self.remembered.station().filter(known);
                    let first = last.or(line_up.iter().map(|station| station.id).find(known));
                    if let (None, Some(first)) = (self.zapper.wanted(), first) {
                        self.tuned_at = Instant::now();
                        self.zapper.tune(first)?;
                    }
                    if let Some(mosaic) = &mut self.mosaic {
                        mosaic.follow(&self.zapper)?;
                    }
                    if self.banner_until.is_none() && self.title.is_empty() {
                        self.introduce();
                    }
                }
                ZapperEvent::Guide(films) => {
                    if let OpenPanel::Guide(guide) = &mut self.panel {
                        guide.set(films);
                        // Now that the usual length of the films is known, the time line is another one.
                        self.guide_at = Instant::now() + GUIDE;
                    }
                }
                ZapperEvent::NoSuchStation(id) => self.say(format!("No station {id}")),
                ZapperEvent::DirectoryLost { reason, reached, retry_in } => {
                    self.comings.forget();
                    let retry_at = Instant::now() + retry_in;
                    match &mut self.directory_lost {
                        // The attempts that follow are told on the screen alone.
                        Some(lost) => {
                            (lost.reason, lost.reached, lost.retry_at) = (reason, reached, retry_at)
                        }
                        None => {
                            warn!("directory lost: {reason}");
                            let since = Instant::now();
                            let lost = DirectoryLost { reason, reached, retry_at, since, told: false };
                            self.directory_lost = Some(lost);
                        }
                    }
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
                self.pictured = Some(station);
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

    /// Keeps the window's place and the station for the next run.
    fn remember(&mut self, screen: &mut Screen) {
        let window = screen.window();
        let full_screen = window.is_full_screen();
        if let Some(place) = window.place() {
            self.remembered.set_window(WindowPlace { place, full_screen });
        }
        if let Some(station) = self.zapper.wanted() {
            self.remembered.set_station(station);
        }
        if let Some(file) = &self.remembered_file
            && let Err(error) = self.remembered.save(file)
        {
            tracing::debug!("cannot remember the window in {}: {error}", file.display());
        }
    }

    /// Shows the banner of the chosen station, at once, before there is a picture.
    fn introduce(&mut self) {
        self.banner_until = Some(Instant::now() + BANNER);
    }

    fn say(&mut self, message: String) {
        self.message = Some((message, Instant::now() + BANNER));
    }

    /// Tells, when that begins, that others send to the group of the station.
    fn tell_conflict(&mut self) {
        let others = self.zapper.other_senders();
        if self.others.is_empty() && !others.is_empty() {
            self.say(format!("Others send to this group: {}", addresses(&others)));
        }
        self.others = others;
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::viewer::zapper::{QueuePolicy, ReceiveVia};

    #[test]
    fn a_damaged_picture_does_not_replace_the_one_before_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _within = runtime.enter();
        let via = ReceiveVia::Multicast { interface: None, require_signed: false };
        let zapper =
            Zapper::start("127.0.0.1:1".parse::<SocketAddr>().unwrap(), via, QueuePolicy::Newest, 10);
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
