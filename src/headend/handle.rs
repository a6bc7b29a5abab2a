//! One station, as all rooms but its own task see it.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::counters::TaskCounters;
use super::describe::describe;
use super::feed::Feed;
use super::sounds::KEPT;
use crate::air::AirCounters;
use crate::content::guide::{GuideEntry, StationGuide};
use crate::interface::Interface;
use crate::lineup::StationSpec;
use crate::media::{AirTime, FrameRate};

/// How a station sends to its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyncSource {
    /// The interface.
    pub(crate) interface: Interface,
    /// The SSRC of the packets.
    pub(crate) ssrc: u32,
}

/// A station's configuration, feed and counters. It outlives the station's task, which may crash and be restarted.
#[derive(Debug)]
pub struct StationHandle {
    /// The configuration.
    pub spec: Arc<StationSpec>,
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
    /// `None` while it cannot send.
    sync_source: watch::Sender<Option<SyncSource>>,
    other_senders: Mutex<Vec<SocketAddr>>,
    /// Turns true once, when the station is to end.
    stop: watch::Sender<bool>,
}

impl StationHandle {
    pub(crate) fn new(spec: StationSpec) -> StationHandle {
        let spec = Arc::new(spec);
        StationHandle {
            spec,
            feed: Feed::default(),
            sound_feed: Feed::keeping(KEPT),
            air: Arc::default(),
            sound_air: Arc::default(),
            task: Arc::default(),
            has_sound: AtomicBool::new(false),
            loudness: Mutex::default(),
            film_rate: Mutex::default(),
            guide: Mutex::default(),
            sync_source: watch::Sender::new(None),
            other_senders: Mutex::default(),
            stop: watch::Sender::new(false),
        }
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

    /// Whether the station has sound; false until it has looked at its films, before it is on air.
    pub fn has_sound(&self) -> bool {
        self.has_sound.load(Relaxed)
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
        self.set_sync_source(interface.map(|interface| SyncSource { interface, ssrc: 0 }));
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

    /// The interface that the station sends by now; `None` while the configured one has no address to send from.
    pub fn interface(&self) -> Option<Interface> {
        self.sync_source.borrow().as_ref().map(|source| source.interface.clone())
    }

    /// The address that the station sends from now; `None` while there is none.
    pub fn source(&self) -> Option<IpAddr> {
        self.interface()?.source(self.spec.group.ip())
    }

    /// The station on its group as SDP.
    pub fn sdp(&self) -> String {
        describe(&self.spec, self.source(), self.film_rate(), self.has_sound())
    }
}
