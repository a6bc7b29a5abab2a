//! The zapper: from "show me station 3" to its pictures, as fast as possible.
//!
//! A change of station does two things at once: it joins the group, and asks the directory for the picture now on air.
//! The picture that arrives first is shown. Until then the old station stays on the screen: its group is left only when
//! the new one's first picture has been painted.

#![expect(clippy::disallowed_methods, reason = "a shell: it times changes of station")]

mod directory;
mod event;
mod queue;
mod reception;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use self::directory::DirectoryView;
pub use self::event::{CodedPicture, SignalState, ZapperEvent};
pub use self::queue::QueuePolicy;
pub use self::reception::ReceiveVia;
use self::reception::Tuned;
use super::signal_log::LOST_AFTER;
use super::stream::Stream;
use crate::directory::{Endpoint, ErrorCode, Event, StationInfo, StationNow};
use crate::media::{AirTime, StationId};
use crate::speaker::{SoundReceiver, Speaker, SpeakerInput};
use crate::tuner::keyring::{Keyring, Opener};
use crate::tuner::receiver::{ReceiveFrom, ReceiverStatus};
use crate::tuner::signed::Requirement;

/// Input from another thread.
enum ZapperInput {
    /// An event of the session with the directory.
    Directory(Event),
    /// The search has found a directory at this address.
    Found(SocketAddr),
    /// The queue of the receiver with this serial number is no longer empty.
    Pictures(u64),
    /// Datagrams of an encrypted station do not open.
    KeysStale,
}

/// The station that the user has chosen. The line-up may lack it for now.
struct WantedStation {
    id: StationId,
    /// When it was chosen; `None` once a picture of it has been shown.
    requested: Option<Instant>,
    /// Whether the directory had no such station when it was asked, so that we are not in its audience.
    refused: bool,
}

/// Receives one station at a time and changes between them.
pub struct Zapper {
    directory: DirectoryView,
    inputs: mpsc::Receiver<ZapperInput>,
    /// Cloned for the threads that send inputs.
    sender: mpsc::Sender<ZapperInput>,
    via: ReceiveVia,
    queue_policy: QueuePolicy,
    /// Number of pictures that each receiver measures.
    measured: usize,
    /// Plays the sound of the station on the screen.
    speaker: Option<Speaker>,
    /// The keys of encrypted stations.
    keyring: Arc<Keyring>,
    wanted: Option<WantedStation>,
    /// The station on the screen.
    shown: Option<Tuned>,
    /// The station to be shown next, until its first picture has been.
    coming: Option<Tuned>,
    /// Events to be returned by [`next`](Self::next).
    pending: VecDeque<ZapperEvent>,
    /// Serial number of the last receiver.
    serial: u64,
    last_zap: Option<Duration>,
}

impl Zapper {
    /// Connects to the directory. The meter measures the last `measured` pictures.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        directory: impl Into<Endpoint>,
        via: ReceiveVia,
        queue_policy: QueuePolicy,
        measured: usize,
    ) -> Zapper {
        let directory = directory.into();
        let wants_signers = matches!(via, ReceiveVia::Multicast { require_signed: true, .. });
        Zapper::begin(via, queue_policy, measured, |sender| {
            DirectoryView::connect(directory, wants_signers, sender)
        })
    }

    /// Receives a stream that no directory lists, as the only station of the line-up, once it is [tuned](Self::tune) to.
    pub fn receive_stream(stream: Stream, queue_policy: QueuePolicy, measured: usize) -> Zapper {
        let station = stream.station();
        let via = ReceiveVia::Stream(Box::new(stream));
        let mut zapper = Zapper::begin(via, queue_policy, measured, |_| DirectoryView::of_stream(station));
        zapper.pending.push_back(ZapperEvent::LineUp);
        zapper
    }

    fn begin(
        via: ReceiveVia,
        queue_policy: QueuePolicy,
        measured: usize,
        directory: impl FnOnce(&mpsc::Sender<ZapperInput>) -> DirectoryView,
    ) -> Zapper {
        let (sender, inputs) = mpsc::channel();
        let stale = sender.clone();
        // Sending fails only when the zapper has been dropped.
        let keyring = Arc::new(Keyring::new(move || drop(stale.send(ZapperInput::KeysStale))));
        Zapper {
            directory: directory(&sender),
            inputs,
            sender,
            via,
            queue_policy,
            measured,
            speaker: None,
            keyring,
            wanted: None,
            shown: None,
            coming: None,
            pending: VecDeque::new(),
            serial: 0,
            last_zap: None,
        }
    }

    /// Whether what is received is a stream that no directory lists.
    pub fn is_stream(&self) -> bool {
        matches!(self.via, ReceiveVia::Stream(_))
    }

    /// Runs `search` on a thread of its own, and uses the directory that it returns instead of the first one, unless
    /// that has answered by then. From now on [`next`](Self::next) must be called within the tokio runtime.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn search(&self, search: impl FnOnce() -> SocketAddr + Send + 'static) -> io::Result<()> {
        let sender = self.sender.clone();
        let search = move || drop(sender.send(ZapperInput::Found(search())));
        thread::Builder::new().name("search".into()).spawn(search)?;
        Ok(())
    }

    /// From now on `speaker` plays the sound of the station on the screen.
    pub fn play_sound(&mut self, speaker: Speaker) {
        self.speaker = Some(speaker);
    }

    /// Plays the sound of the station on the screen.
    pub fn speaker(&self) -> Option<&Speaker> {
        self.speaker.as_ref()
    }

    /// The keys of encrypted stations, as the directory tells them.
    pub(super) fn keyring(&self) -> &Arc<Keyring> {
        &self.keyring
    }

    /// All stations, ascending by number, as the directory last listed them.
    pub fn line_up(&self) -> &[StationInfo] {
        self.directory.line_up()
    }

    /// What is on a station, and what comes next, as the directory last told; `None` if it does not tell, and while nothing is on.
    pub fn now_of(&self, station: StationId) -> Option<&StationNow> {
        self.directory.now_of(station)
    }

    /// The time by the broadcaster's clock at `moment`, for [`FilmOnAir::position`](crate::directory::FilmOnAir::position);
    /// `None` before the directory has told what is on.
    pub fn air_time(&self, moment: Instant) -> Option<AirTime> {
        self.directory.air_time(moment)
    }

    /// Asks for the films of all stations that end after `from` and begin before `until`, by the broadcaster's clock. They come as
    /// [`ZapperEvent::Guide`].
    pub fn ask_guide(&self, from: AirTime, until: AirTime) {
        self.directory.ask_guide(from, until);
    }

    /// The chosen station. While its first picture is awaited, the one before it is still on the screen.
    pub fn station(&self) -> Option<&StationInfo> {
        self.chosen().map(|tuned| &tuned.station)
    }

    /// The chosen station's number, even if the line-up lacks it for now.
    pub fn wanted(&self) -> Option<StationId> {
        self.wanted.as_ref().map(|wanted| wanted.id)
    }

    /// Time from the last change of station to its first picture on the screen.
    pub fn last_zap(&self) -> Option<Duration> {
        self.last_zap
    }

    /// The directory's address.
    pub fn directory(&self) -> SocketAddr {
        self.directory.endpoint.address
    }

    /// Whether the directory is connected.
    pub fn is_connected(&self) -> bool {
        self.directory.is_connected()
    }

    /// The number of the station on the screen; `None` before the first picture.
    pub fn shown_station(&self) -> Option<StationId> {
        self.shown.as_ref().map(|shown| shown.station.id)
    }

    /// When the first sound of the station on the screen was heard; `None` before that.
    pub fn sound_began(&self) -> Option<AirTime> {
        let (shown, status) = (self.shown.as_ref()?, self.speaker.as_ref()?.status());
        status.began.filter(|_| status.serial == Some(shown.serial))
    }

    /// Whether the station on the screen has sound that is received.
    pub fn has_sound(&self) -> bool {
        self.shown.as_ref().is_some_and(|shown| match shown.from {
            ReceiveFrom::Group(..) => shown.sound.is_some(),
            // Whether sound comes with the pictures, the directory knows.
            ReceiveFrom::Rtsp(..) => {
                shown.sound.is_some() && self.directory.sound_of(shown.station.id).is_some()
            }
        })
    }

    /// The station on the screen and its reception; before the first picture, the awaited station.
    pub fn on_screen(&self) -> Option<(&StationInfo, ReceiverStatus)> {
        let tuned = self.shown.as_ref().or(self.coming.as_ref())?;
        Some((&tuned.station, tuned.receiver.status()))
    }

    /// Whole pictures of the station on the screen that were dropped for newer ones before the caller fetched them.
    /// With [`QueuePolicy::Newest`] this is normal; with [`QueuePolicy::Last`] the caller is too slow.
    pub fn dropped(&self) -> u64 {
        self.shown.as_ref().or(self.coming.as_ref()).map_or(0, |tuned| tuned.queue.dropped())
    }

    /// Why no packets of the chosen [station](Self::station) arrive, if that is known.
    pub fn problem(&self) -> Option<String> {
        self.chosen()?.receiver.status().problem
    }

    /// The other senders whose pictures come to the group of the chosen [station](Self::station) now.
    pub fn other_senders(&self) -> Vec<SocketAddr> {
        self.chosen().map(|tuned| tuned.receiver.other_senders()).unwrap_or_default()
    }

    /// Whether pictures of the chosen [station](Self::station) arrive.
    pub fn signal(&self) -> SignalState {
        match self.chosen() {
            None => SignalState::Waiting,
            Some(tuned) => match tuned.last_picture.elapsed() {
                silent if silent > LOST_AFTER => SignalState::Lost(silent),
                _ if !tuned.heard => SignalState::Waiting,
                _ => SignalState::Live,
            },
        }
    }

    /// The station that is being received for the user.
    fn chosen(&self) -> Option<&Tuned> {
        self.coming.as_ref().or(self.shown.as_ref())
    }

    /// Changes to the station `id` at once; before there is a line-up, as soon as it lists the station. A number that a
    /// line-up lacks changes nothing.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn tune(&mut self, id: StationId) -> io::Result<()> {
        let listed = !self.line_up().is_empty() || self.station().is_some();
        if listed && self.directory.station(id).is_none() {
            self.pending.push_back(ZapperEvent::NoSuchStation(id));
            return Ok(());
        }
        self.wanted = Some(WantedStation { id, requested: Some(Instant::now()), refused: false });
        self.ask(id);
        self.follow()
    }

    /// The next event; `None` if there is none within `timeout`.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn next(&mut self, timeout: Duration) -> io::Result<Option<ZapperEvent>> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(Some(event));
            }
            match self.inputs.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(ZapperInput::Pictures(serial)) => self.fetch(serial),
                Ok(ZapperInput::Directory(event)) => self.handle_event(event)?,
                Ok(ZapperInput::Found(directory)) => self.move_to(directory),
                Ok(ZapperInput::KeysStale) => self.directory.ask_keys(),
                // Never disconnected, since we hold a sender.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }

    /// The last picture of station `id` that [`next`](Self::next) returned is on the screen. If it was the first one,
    /// the change is complete: returns the time it took.
    pub fn shown(&mut self, id: StationId) -> Option<Duration> {
        let first = self.coming.take_if(|coming| coming.station.id == id);
        if first.is_some() {
            // Here the old station's receiver is dropped, which leaves its group.
            self.shown = first;
            let serial = self.shown.as_ref().map(|shown| shown.serial);
            if let Some(speaker) = &self.speaker {
                speaker.send(SpeakerInput::Hear { serial });
            }
        }
        let requested = self.shown.as_mut().filter(|tuned| tuned.station.id == id)?.requested.take()?;
        // A receiver that replaces this one, since the station has moved to another group, is no change of station.
        if let Some(wanted) = self.wanted.as_mut().filter(|wanted| wanted.id == id) {
            wanted.requested = None;
        }
        self.last_zap = Some(requested.elapsed());
        self.last_zap
    }

    /// Asks the directory for the picture now on air and for a place in the audience. Over RTSP neither is needed: the
    /// RTSP session counts as audience, and its first picture is sent at once.
    fn ask(&self, id: StationId) {
        if let ReceiveVia::Multicast { .. } = self.via {
            self.directory.tune(id);
        }
    }

    /// Starts or replaces the receiver if the wanted station, or what the line-up says of it, has changed.
    fn follow(&mut self) -> io::Result<()> {
        let Some(wanted) = &mut self.wanted else { return Ok(()) };
        let (id, requested) = (wanted.id, wanted.requested);
        let Some(station) = self.directory.station(id).cloned() else {
            // A broadcaster that starts lists its stations one by one: the station stays wanted, and the one being
            // received is kept.
            if !self.line_up().is_empty() && self.station().is_none() {
                self.pending.push_back(ZapperEvent::NoSuchStation(id));
            }
            return Ok(());
        };
        if std::mem::take(&mut wanted.refused) {
            self.ask(id);
        }
        let from = self.receive_from(&station);
        let sound = self.sound_from(&from, id);
        let is_it = |tuned: &&mut Tuned| tuned.station.id == id && tuned.from == from;
        if let Some(tuned) = self.coming.as_mut().or(self.shown.as_mut()).filter(is_it) {
            tuned.station = station;
            if let Some(wanted) = &mut self.wanted {
                wanted.requested = tuned.requested;
            }
            // The sound of a station may be known later than its pictures.
            if let (None, Some((sound, speaker))) = (&tuned.sound, sound) {
                let opener = Opener::new(self.keyring.clone(), id);
                tuned.sound = Some(SoundReceiver::start(sound, opener, tuned.serial, speaker)?);
            }
            return Ok(());
        }
        // The user has returned to the station that is still on the screen.
        if let Some(tuned) = self.shown.as_mut().filter(is_it) {
            tuned.station = station;
            if let Some(wanted) = &mut self.wanted {
                wanted.requested = tuned.requested;
            }
            self.coming = None;
            return Ok(());
        }
        let mut coming = self.receive(station, from, requested)?;
        // After the pictures, which are shown first.
        if let Some((sound, speaker)) = sound {
            let opener = Opener::new(self.keyring.clone(), id);
            coming.sound = Some(SoundReceiver::start(sound, opener, coming.serial, speaker)?);
        }
        self.coming = Some(coming);
        self.expect();
        Ok(())
    }

    /// Tells the receivers what their stations should be sending, so that silence counts as loss, and by what it is signed.
    fn expect(&self) {
        for tuned in [&self.coming, &self.shown].into_iter().flatten() {
            tuned.receiver.expect(self.directory.expected_of(tuned.station.id));
            if let Some(requirement) = self.requirement_of(tuned.station.id) {
                tuned.receiver.require(requirement);
            }
        }
    }

    fn fetch(&mut self, serial: u64) {
        let tuned = [&mut self.coming, &mut self.shown].into_iter().flatten().find(|t| t.serial == serial);
        let Some(tuned) = tuned else { return };
        tuned.heard = true;
        tuned.last_picture = Instant::now();
        let station = tuned.station.id;
        // While the new station's first picture is awaited, the old one's pictures are shown.
        let pictures = tuned.queue.fetch().into_iter();
        self.pending.extend(
            pictures.map(|received| ZapperEvent::Picture { station, picture: CodedPicture::Air(received) }),
        );
    }

    /// Uses another directory, unless the present one has answered.
    fn move_to(&mut self, directory: SocketAddr) {
        if self.directory.is_connected() || directory == self.directory.endpoint.address {
            return;
        }
        self.directory.move_to(directory, &self.sender);
        if let Some(wanted) = &self.wanted {
            self.ask(wanted.id);
        }
    }

    fn handle_event(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Connected { local } => self.directory.set_connected(local.ip()),
            Event::Sources(sources) => self.directory.set_sources(sources),
            Event::Signers { at, stations } => self.directory.set_signers(at, stations),
            Event::Sound(sounds) => self.directory.set_sounds(sounds),
            Event::Keys { keys, all: true } => self.keyring.replace(keys),
            Event::Keys { keys, all: false } => self.keyring.learn(keys),
            Event::Now { at, stations } => self.directory.set_now(at, Instant::now(), stations),
            Event::Guide { stations, .. } => self.pending.push_back(ZapperEvent::Guide(Some(stations))),
            Event::NoGuide => self.pending.push_back(ZapperEvent::Guide(None)),
            Event::SoundNow { station, packets } => {
                let tuned = [&self.coming, &self.shown].into_iter().flatten();
                let tuned =
                    tuned.into_iter().find(|tuned| tuned.station.id == station && tuned.sound.is_some());
                if let (Some(speaker), Some(tuned)) = (&self.speaker, tuned) {
                    speaker.send(SpeakerInput::Told { serial: tuned.serial, packets });
                }
            }
            Event::LineUp(line_up) => {
                self.directory.set_line_up(line_up);
                self.pending.push_back(ZapperEvent::LineUp);
                self.follow()?;
                self.expect();
            }
            Event::Tuned { entry, now } => {
                // Useful only until a picture has been received from the station itself, which is newer.
                let awaited =
                    self.coming.as_ref().is_some_and(|coming| coming.station.id == entry.id && !coming.heard);
                // A directory that tells keys to be believed is believed in its pictures, too.
                let is_believed =
                    !matches!(self.requirement_of(entry.id), Some(Requirement::Unverifiable(_)));
                if let (true, Some(now)) = (awaited && is_believed, now) {
                    let picture = CodedPicture::Directory(now.jpeg);
                    self.pending.push_back(ZapperEvent::Picture { station: entry.id, picture });
                }
            }
            Event::Refused { code: ErrorCode::NoSuchStation, .. } => {
                if let Some(wanted) = &mut self.wanted {
                    wanted.refused = true;
                }
            }
            Event::Refused { sentence, .. } => {
                self.pending.push_back(ZapperEvent::DirectoryLost {
                    reason: sentence,
                    reached: true,
                    retry_in: Duration::ZERO,
                });
            }
            Event::Lost { reason, reached, retry_in } => {
                self.directory.set_lost();
                self.expect();
                self.pending.push_back(ZapperEvent::DirectoryLost { reason, reached, retry_in });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
