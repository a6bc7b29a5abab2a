//! One station, as all rooms but its own task see it.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::counters::TaskCounters;
use super::describe::describe;
use super::feed::Feed;
use super::key_book::KeyBook;
use super::orders::Orders;
use super::sounds::KEPT;
use crate::air::AirCounters;
use crate::content::guide::{GuideEntry, StationGuide};
use crate::content::live::publication::PublishSlot;
use crate::interface::Interface;
use crate::lineup::StationSpec;
use crate::media::{AirTime, FrameRate, SoundCodec, Track};

/// How a station sends to its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyncSource {
    /// The interface.
    pub(crate) interface: Interface,
    /// The SSRC of the packets of pictures.
    pub(crate) ssrc: u32,
    /// That of the packets of sound; `None` if there is none.
    pub(crate) sound_ssrc: Option<u32>,
}

/// The players that receive a station from its group and report so by RTCP.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Reporting {
    /// Their number. They are in the station's audience.
    pub receivers: u32,
    /// Share of the packets of pictures that they lost lately, the mean, 0.0..=1.0; `None` if none has told.
    pub loss: Option<f64>,
}

/// A station's configuration, feed and counters. It outlives the station's task, which may crash and be restarted.
#[derive(Debug)]
pub struct StationHandle {
    spec: watch::Sender<Arc<StationSpec>>,
    /// The units for subscribers.
    pub feed: Feed,
    /// The packets of sound for subscribers.
    pub sound_feed: Feed,
    /// The counters of the air thread, for pictures.
    pub air: Arc<AirCounters>,
    /// The counters of the air thread, for sound.
    pub sound_air: Arc<AirCounters>,
    /// The counters of the station's task.
    pub task: Arc<TaskCounters>,
    has_sound: AtomicBool,
    /// In LUFS.
    loudness: Mutex<Option<f32>>,
    film_rate: Mutex<Option<FrameRate>>,
    guide: Mutex<StationGuide>,
    demand_refused: Mutex<Option<String>>,
    /// `None` while it cannot send.
    sync_source: watch::Sender<Option<SyncSource>>,
    other_senders: Mutex<Vec<SocketAddr>>,
    reporting: Mutex<Reporting>,
    /// The orders of operators.
    pub(crate) orders: Orders,
    /// The keys, if it is encrypted.
    pub(crate) keys: KeyBook,
    /// The slot in which the station finds its publisher's stream.
    publish_slot: Arc<PublishSlot>,
    /// Turns true once, when the station is to end.
    stop: watch::Sender<bool>,
    epoch: u64,
}

impl StationHandle {
    pub(crate) fn new(spec: StationSpec) -> StationHandle {
        StationHandle {
            spec: watch::Sender::new(Arc::new(spec)),
            feed: Feed::default(),
            sound_feed: Feed::keeping(KEPT),
            air: Arc::default(),
            sound_air: Arc::default(),
            task: Arc::default(),
            has_sound: AtomicBool::new(false),
            loudness: Mutex::default(),
            film_rate: Mutex::default(),
            guide: Mutex::default(),
            demand_refused: Mutex::default(),
            sync_source: watch::Sender::new(None),
            other_senders: Mutex::default(),
            reporting: Mutex::default(),
            orders: Orders::default(),
            keys: KeyBook::default(),
            publish_slot: Arc::default(),
            stop: watch::Sender::new(false),
            epoch: fastrand::u64(..),
        }
    }

    /// The configuration as it is now.
    pub fn spec(&self) -> Arc<StationSpec> {
        self.spec.borrow().clone()
    }

    /// Receives the configuration whenever it changes.
    pub(crate) fn spec_changes(&self) -> watch::Receiver<Arc<StationSpec>> {
        self.spec.subscribe()
    }

    /// Changes the configuration while the station is on air. The number, the group, the interface and all that its pictures
    /// are encoded by stay as they are.
    pub(crate) fn set_spec(&self, spec: StationSpec) {
        self.spec.send_replace(Arc::new(spec));
    }

    /// The slot in which the station finds its publisher's stream.
    pub(crate) fn publish_slot(&self) -> &Arc<PublishSlot> {
        &self.publish_slot
    }

    /// Tells the station's task to end.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Turns true once, when the station is to end.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// The station's guide, which its task keeps. Locked for as long as the result lives.
    pub(crate) fn guide(&self) -> MutexGuard<'_, StationGuide> {
        self.guide.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The film that is on at `now`, and the one that follows. Neither while there is a slate; no second one while nobody knows
    /// how long the first is.
    pub fn now_and_next(&self, now: AirTime) -> (Option<GuideEntry>, Option<GuideEntry>) {
        let mut entries = self.guide().entries(now);
        (entries.next(), entries.next())
    }

    /// Records why the last client that asked for the station on demand was refused; `None` if it was not. Returns whether that is
    /// new.
    pub(crate) fn set_demand_refused(&self, why: Option<String>) -> bool {
        let mut refused = self.demand_refused.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = *refused != why;
        *refused = why;
        is_new
    }

    /// Why the station could not be played on demand when a client asked last; `None` if it could, or if none has asked since it is
    /// on air.
    pub fn demand_refused(&self) -> Option<String> {
        self.demand_refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records that a film of this rate is on air.
    pub(crate) fn set_film_rate(&self, rate: FrameRate) {
        *self.film_rate.lock().unwrap_or_else(PoisonError::into_inner) = Some(rate);
    }

    /// The rate of the film that is on air, or was last; `None` before the first film. Never the slate's rate: SDP would change
    /// with it, and players would see another session come and go.
    pub fn film_rate(&self) -> Option<FrameRate> {
        *self.film_rate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the station has sound. It has or has not for as long as it is on air: its SDP would change otherwise.
    pub(crate) fn set_sound(&self, has_sound: bool) {
        self.has_sound.store(has_sound, Relaxed);
    }

    /// Identifies this run of the station in its signatures: another one when it starts again with another configuration, so that
    /// pictures of an earlier run are no pictures of this one.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the station has sound; false until it has looked at its films, before it is on air.
    pub fn has_sound(&self) -> bool {
        self.has_sound.load(Relaxed)
    }

    /// The codec of its sound; `None` if it has none.
    pub fn sound_codec(&self) -> Option<SoundCodec> {
        self.has_sound().then(|| self.spec().sound_codec)
    }

    /// Records the loudness of the film that is heard from now on, in LUFS as it is sent; `None` if none is heard.
    pub(crate) fn set_loudness(&self, loudness: Option<f32>) {
        *self.loudness.lock().unwrap_or_else(PoisonError::into_inner) = loudness;
    }

    /// The loudness of the film that is heard, in LUFS as it is sent; `None` while silence is sent.
    pub fn loudness(&self) -> Option<f32> {
        *self.loudness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records how the station sends; `None` if it cannot.
    pub(crate) fn set_sync_source(&self, source: Option<SyncSource>) {
        self.sync_source.send_if_modified(|before| {
            let changed = *before != source;
            *before = source;
            changed
        });
    }

    /// Records the interface of a station that a test has no sender for.
    #[cfg(test)]
    pub(crate) fn set_interface(&self, interface: Option<Interface>) {
        self.set_sync_source(interface.map(|interface| SyncSource { interface, ssrc: 0, sound_ssrc: None }));
    }

    /// Receives how the station sends, whenever that changes.
    pub(crate) fn sync_source(&self) -> watch::Receiver<Option<SyncSource>> {
        self.sync_source.subscribe()
    }

    /// Records the other senders on the group.
    pub(crate) fn set_other_senders(&self, senders: Vec<SocketAddr>) {
        *self.other_senders.lock().unwrap_or_else(PoisonError::into_inner) = senders;
    }

    /// The other senders whose pictures come to the station's group, a few at most.
    pub fn other_senders(&self) -> Vec<SocketAddr> {
        self.other_senders.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records the players that report.
    pub(crate) fn set_reporting(&self, reporting: Reporting) {
        *self.reporting.lock().unwrap_or_else(PoisonError::into_inner) = reporting;
    }

    /// The players that receive the station from its group and report so.
    pub fn reporting(&self) -> Reporting {
        *self.reporting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The interface that the station sends by now; `None` while the configured one has no address to send from.
    pub fn interface(&self) -> Option<Interface> {
        self.sync_source.borrow().as_ref().map(|source| source.interface.clone())
    }

    /// The address that the station sends from now; `None` while there is none.
    pub fn source(&self) -> Option<IpAddr> {
        self.interface()?.source(self.spec().group.ip())
    }

    /// The station on its group as SDP. That of an encrypted station has its keys.
    pub fn sdp(&self) -> String {
        let (pictures, sound) = (self.keys.stream(Track::Picture), self.keys.stream(Track::Sound));
        let keys = pictures.as_ref().map(|pictures| (pictures, sound.as_ref()));
        describe(&self.spec(), self.source(), self.film_rate(), self.sound_codec(), keys)
    }
}
