//! The zapper: from "show me station 3" to its pictures, as fast as can be.
//!
//! A change of station starts two things at once: the group is joined, and the directory is asked for the
//! picture now on air. Whichever brings a picture first, that one is shown. Until then the old
//! station stays: its group is left only when the new one's first picture has been painted.

#![expect(clippy::disallowed_methods, reason = "a shell: it times changes of station")]

mod queue;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use self::queue::PictureQueue;
use crate::directory::{ErrorCode, Event, Session, StationInfo};
use crate::media::StationId;
use crate::tuner::ReceivedPicture;
use crate::tuner::join;
use crate::tuner::receiver::{ReceiveFrom, Receiver, ReceiverStatus};

/// A station that has sent nothing for so long is lost: ten pictures of a slate.
const LOST_AFTER: Duration = Duration::from_secs(2);

/// What becomes of pictures that come faster than they are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueuePolicy {
    /// Only the newest one: for eyes.
    Newest,
    /// As many as this, the oldest dropped and [counted](Zapper::dropped): for recording and counting.
    Last(usize),
}

/// By which way stations come.
#[derive(Debug, Clone)]
pub enum ReceiveVia {
    /// By multicast, on the interface of that name or address. Without one it is [found](join::interface_for_station).
    Multicast {
        /// The interface's name or address.
        interface: Option<String>,
    },
    /// From the RTSP server there, in the connection itself: every picture, in order.
    Tcp(SocketAddr),
}

/// Where a picture came from.
#[derive(Debug, Clone)]
pub enum CodedPicture {
    /// The directory's: the picture now on air, a complete JPEG file.
    Directory(Vec<u8>),
    /// The station's own.
    Air(ReceivedPicture),
}

impl CodedPicture {
    /// The picture as a JPEG file.
    pub fn into_jfif(self) -> Vec<u8> {
        match self {
            CodedPicture::Directory(file) => file,
            CodedPicture::Air(received) => received.jpeg.to_jfif(),
        }
    }
}

/// What the zapper has to tell.
#[derive(Debug)]
pub enum ZapperEvent {
    /// A picture to show. Call [`Zapper::shown`] once it is.
    Picture {
        /// Whose.
        station: StationId,
        /// The picture.
        picture: CodedPicture,
    },
    /// The line-up is there, or has changed: [`Zapper::line_up`].
    LineUp,
    /// The line-up has no such station. If it is the one that was wanted from the start, it still is.
    NoSuchStation(StationId),
    /// The directory cannot be reached; pictures go on.
    DirectoryLost {
        /// Why.
        reason: String,
        /// When it is tried again.
        retry_in: Duration,
    },
}

/// How the station that was chosen fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalState {
    /// No picture yet.
    Waiting,
    /// Pictures come.
    Live,
    /// None has come for so long.
    Lost(Duration),
}

enum ZapperInput {
    Directory(Event),
    /// There is a directory at this address.
    Found(SocketAddr),
    /// The receiver with this serial number has put pictures into its queue.
    Pictures(u64),
}

/// A station being received.
struct Tuned {
    serial: u64,
    entry: StationInfo,
    /// From where it is received. Another one needs another receiver.
    origin: ReceiveFrom,
    /// When its change was decided, while no picture of it has been shown.
    decided: Option<Instant>,
    receiver: Receiver,
    queue: Arc<PictureQueue>,
    last_picture: Instant,
    heard: bool,
}

/// What the viewer is to show, known or not.
struct WantedStation {
    station: StationId,
    decided: Instant,
    /// The directory had no such station when it was asked: we are in no audience.
    refused: bool,
}

/// Receives one station at a time and changes between them.
pub struct Zapper {
    session: Session,
    inbox: mpsc::Receiver<ZapperInput>,
    outbox: mpsc::Sender<ZapperInput>,
    via: ReceiveVia,
    keep: QueuePolicy,
    measured: usize,
    directory: SocketAddr,
    /// Our end of the connection to the directory; before there is one, the directory's own, as if that were here.
    local: IpAddr,
    connected: bool,
    line_up: Vec<StationInfo>,
    wanted: Option<WantedStation>,
    shown: Option<Tuned>,
    coming: Option<Tuned>,
    pending: VecDeque<ZapperEvent>,
    serial: u64,
    last_zap: Option<Duration>,
}

impl Zapper {
    /// Starts by asking the directory. `measured` pictures are kept by the meter.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(directory: SocketAddr, via: ReceiveVia, keep: QueuePolicy, measured: usize) -> Zapper {
        let (outbox, inbox) = mpsc::channel();
        Zapper {
            session: session(directory, &outbox),
            inbox,
            outbox,
            via,
            keep,
            measured,
            directory,
            local: directory.ip(),
            connected: false,
            line_up: Vec::new(),
            wanted: None,
            shown: None,
            coming: None,
            pending: VecDeque::new(),
            serial: 0,
            last_zap: None,
        }
    }

    /// Asks the directory that `look` finds instead of the one it was started with, unless that has answered by then.
    /// `look` takes its time on a thread of its own; [`next`](Self::next) must then be called within the tokio runtime.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn look_for(&self, look: impl FnOnce() -> SocketAddr + Send + 'static) -> io::Result<()> {
        let found = self.outbox.clone();
        let search = move || drop(found.send(ZapperInput::Found(look())));
        thread::Builder::new().name("search".into()).spawn(search)?;
        Ok(())
    }

    /// All stations, ascending by number, as the directory last told.
    pub fn line_up(&self) -> &[StationInfo] {
        &self.line_up
    }

    /// The station that was chosen: its pictures are shown, or awaited while those of the one before still are.
    pub fn station(&self) -> Option<&StationInfo> {
        self.coming.as_ref().or(self.shown.as_ref()).map(|tuned| &tuned.entry)
    }

    /// The station that is to be shown; the line-up may lack it for now.
    pub fn wanted(&self) -> Option<StationId> {
        self.wanted.as_ref().map(|wish| wish.station)
    }

    /// From the last change of station to its first picture on the screen.
    pub fn last_zap(&self) -> Option<Duration> {
        self.last_zap
    }

    /// Whether the directory is connected.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// The station whose pictures are on the screen and how its reception fares; before the first picture, the one that
    /// is awaited.
    pub fn on_screen(&self) -> Option<(&StationInfo, ReceiverStatus)> {
        let tuned = self.shown.as_ref().or(self.coming.as_ref())?;
        Some((&tuned.entry, tuned.receiver.status()))
    }

    /// Pictures of the station on the screen that came whole and gave way to newer ones before they were fetched. With
    /// [`QueuePolicy::Newest`] that is the rule; with [`QueuePolicy::Last`] whoever fetches is too slow.
    pub fn dropped(&self) -> u64 {
        self.shown.as_ref().or(self.coming.as_ref()).map_or(0, |tuned| tuned.queue.dropped())
    }

    /// Why nothing comes of the [station](Self::station) that was chosen, while that is known.
    pub fn problem(&self) -> Option<String> {
        self.coming.as_ref().or(self.shown.as_ref())?.receiver.status().problem
    }

    /// Whether pictures come of the [station](Self::station) that was chosen.
    pub fn signal(&self) -> SignalState {
        match self.coming.as_ref().or(self.shown.as_ref()) {
            None => SignalState::Waiting,
            Some(tuned) => match tuned.last_picture.elapsed() {
                silent if silent > LOST_AFTER => SignalState::Lost(silent),
                _ if !tuned.heard => SignalState::Waiting,
                _ => SignalState::Live,
            },
        }
    }

    /// Changes to `station`, now; before there is a line-up, as soon as that has it. What a line-up lacks is a wrong
    /// number and no wish: everything stays as it is.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn tune(&mut self, station: StationId) -> io::Result<()> {
        let listed = !self.line_up.is_empty() || self.station().is_some();
        if listed && !self.line_up.iter().any(|entry| entry.id == station) {
            self.pending.push_back(ZapperEvent::NoSuchStation(station));
            return Ok(());
        }
        self.wanted = Some(WantedStation { station, decided: Instant::now(), refused: false });
        self.ask(station);
        self.follow()
    }

    /// What has happened; `None` when nothing has by the end of `patience`.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn next(&mut self, patience: Duration) -> io::Result<Option<ZapperEvent>> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(output) = self.pending.pop_front() {
                return Ok(Some(output));
            }
            match self.inbox.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(ZapperInput::Pictures(serial)) => self.fetch(serial),
                Ok(ZapperInput::Directory(event)) => self.hear(event)?,
                Ok(ZapperInput::Found(directory)) => self.move_to(directory),
                // Disconnected cannot be: `outbox` is ours.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }

    /// The picture of `station` given out last is on the screen: if it was the first, the change is
    /// complete, and the time it took is returned.
    pub fn shown(&mut self, station: StationId) -> Option<Duration> {
        let first = self.coming.take_if(|coming| coming.entry.id == station);
        if first.is_some() {
            // Here the old station's group is left.
            self.shown = first;
        }
        let decided = self.shown.as_mut().filter(|tuned| tuned.entry.id == station)?.decided.take()?;
        self.last_zap = Some(decided.elapsed());
        self.last_zap
    }

    /// Asks the directory for the picture now on air and for a place in the audience. Of who plays by RTSP that session
    /// is in the audience, and its first picture comes at once.
    fn ask(&self, station: StationId) {
        if let ReceiveVia::Multicast { .. } = self.via {
            self.session.tune(station);
        }
    }

    /// Brings reception in line with what is wanted and what the line-up says of it.
    fn follow(&mut self) -> io::Result<()> {
        let Some(wish) = &mut self.wanted else { return Ok(()) };
        let (id, decided) = (wish.station, wish.decided);
        let Some(entry) = self.line_up.iter().find(|entry| entry.id == id).cloned() else {
            // A broadcaster that starts enters its stations one by one: it stays wanted, and what comes is kept.
            if !self.line_up.is_empty() && self.station().is_none() {
                self.pending.push_back(ZapperEvent::NoSuchStation(id));
            }
            return Ok(());
        };
        if std::mem::take(&mut wish.refused) {
            self.ask(id);
        }
        let origin = self.origin(&entry);
        let is_it = |tuned: &&mut Tuned| tuned.entry.id == id && tuned.origin == origin;
        if let Some(tuned) = self.coming.as_mut().or(self.shown.as_mut()).filter(is_it) {
            tuned.entry = entry;
            return Ok(());
        }
        // Back to what is still on the screen: nothing to wait for.
        if let Some(tuned) = self.shown.as_mut().filter(is_it) {
            tuned.entry = entry;
            self.coming = None;
            return Ok(());
        }
        self.coming = Some(self.receive(entry, origin, decided)?);
        Ok(())
    }

    fn origin(&self, entry: &StationInfo) -> ReceiveFrom {
        match &self.via {
            ReceiveVia::Multicast { interface } => {
                let wanted = interface.as_deref();
                let interface = join::interface_for_station(entry, wanted, self.directory.ip(), self.local);
                ReceiveFrom::Group(entry.group, interface)
            }
            ReceiveVia::Tcp(server) => ReceiveFrom::Rtsp(*server, entry.id),
        }
    }

    fn receive(&mut self, entry: StationInfo, origin: ReceiveFrom, decided: Instant) -> io::Result<Tuned> {
        self.serial += 1;
        let (serial, notice) = (self.serial, self.outbox.clone());
        let queue = Arc::new(PictureQueue::new(match self.keep {
            QueuePolicy::Newest => 1,
            QueuePolicy::Last(pictures) => pictures,
        }));
        let put = queue.clone();
        let sink = move |picture| {
            if put.put(picture) {
                let _ = notice.send(ZapperInput::Pictures(serial));
            }
        };
        let receiver = Receiver::start(origin.clone(), self.measured, sink)?;
        let now = Instant::now();
        Ok(Tuned {
            serial,
            entry,
            origin,
            decided: Some(decided),
            receiver,
            queue,
            last_picture: now,
            heard: false,
        })
    }

    fn fetch(&mut self, serial: u64) {
        let tuned = [&mut self.coming, &mut self.shown].into_iter().flatten().find(|t| t.serial == serial);
        let Some(tuned) = tuned else { return };
        tuned.heard = true;
        tuned.last_picture = Instant::now();
        let station = tuned.entry.id;
        // While a new station is awaited the old one stays on the screen, live.
        let pictures = tuned.queue.fetch().into_iter();
        self.pending.extend(
            pictures.map(|received| ZapperEvent::Picture { station, picture: CodedPicture::Air(received) }),
        );
    }

    fn move_to(&mut self, directory: SocketAddr) {
        if self.connected || directory == self.directory {
            return;
        }
        (self.directory, self.local) = (directory, directory.ip());
        self.session = session(directory, &self.outbox);
        if let Some(wish) = &self.wanted {
            self.ask(wish.station);
        }
    }

    fn hear(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Connected { local } => {
                self.local = local.ip();
                self.connected = true;
            }
            Event::LineUp(line_up) => {
                self.line_up = line_up;
                self.pending.push_back(ZapperEvent::LineUp);
                self.follow()?;
            }
            Event::Tuned { entry, now } => {
                // Only what is awaited: a picture of the air that is there already is newer.
                let awaited =
                    self.coming.as_ref().is_some_and(|coming| coming.entry.id == entry.id && !coming.heard);
                if let (true, Some(now)) = (awaited, now) {
                    let picture = CodedPicture::Directory(now.jpeg);
                    self.pending.push_back(ZapperEvent::Picture { station: entry.id, picture });
                }
            }
            Event::Refused { code: ErrorCode::NoSuchStation, .. } => {
                if let Some(wish) = &mut self.wanted {
                    wish.refused = true;
                }
            }
            Event::Refused { sentence, .. } => {
                self.pending
                    .push_back(ZapperEvent::DirectoryLost { reason: sentence, retry_in: Duration::ZERO });
            }
            Event::Lost { reason, retry_in } => {
                self.connected = false;
                self.pending.push_back(ZapperEvent::DirectoryLost { reason, retry_in });
            }
        }
        Ok(())
    }
}

fn session(directory: SocketAddr, outbox: &mpsc::Sender<ZapperInput>) -> Session {
    let events = outbox.clone();
    // The receiving end is gone only when the zapper is.
    Session::start(directory, move |event| drop(events.send(ZapperInput::Directory(event))))
}

#[cfg(test)]
mod tests;
