//! The keys of an encrypted station, as its task has told them: for the directory, and for the station's description.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

use super::HeadEnd;
use crate::directory::{KeysOf, StationKeys, StreamKeys};
use crate::media::{StationId, Track};

/// Counts the changes of all books: the version of a book is that of no other one, also not of the station's before it was changed by
/// a reload.
static CHANGES: AtomicU64 = AtomicU64::new(1);

/// The keys of one station. Empty while it is not encrypted, or cannot send.
#[derive(Debug, Default)]
pub(crate) struct KeyBook {
    streams: Mutex<Streams>,
    /// Rises each time that other keys are asked for.
    wished: AtomicU64,
}

/// The streams of each track, the one that is sent last in its list.
#[derive(Debug, Default)]
struct Streams {
    pictures: Vec<StreamKeys>,
    sound: Vec<StreamKeys>,
    /// Another number after each change but those of an index.
    version: u64,
}

impl Streams {
    fn of(&mut self, track: Track) -> &mut Vec<StreamKeys> {
        match track {
            Track::Picture => &mut self.pictures,
            Track::Sound => &mut self.sound,
        }
    }
}

impl KeyBook {
    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the streams of a track: the one before, if receivers may still need its keys, and the one that is sent.
    pub(crate) fn set(&self, track: Track, keys: Vec<StreamKeys>) {
        let mut streams = self.lock();
        *streams.of(track) = keys;
        streams.version = CHANGES.fetch_add(1, Relaxed);
    }

    /// The next packet of the stream `ssrc` has this index.
    pub(crate) fn set_index(&self, track: Track, ssrc: u32, index: u64) {
        let mut streams = self.lock();
        if let Some(stream) = streams.of(track).iter_mut().find(|stream| stream.ssrc == ssrc) {
            stream.index = index;
        }
    }

    /// The keys as they are now, and their version; `None` if the station is not encrypted.
    pub(crate) fn read(&self, id: StationId) -> Option<(u64, StationKeys)> {
        let streams = self.lock();
        let all: Vec<_> = streams.pictures.iter().chain(&streams.sound).cloned().collect();
        (!all.is_empty()).then(|| (streams.version, StationKeys { id, streams: all }))
    }

    /// The stream of a track that is sent.
    pub(crate) fn stream(&self, track: Track) -> Option<StreamKeys> {
        self.lock().of(track).last().cloned()
    }

    /// Asks the station for other keys, because a client that has the present ones is no longer let in.
    pub(crate) fn wish_for_others(&self) {
        self.wished.fetch_add(1, Relaxed);
    }

    /// How often other keys were asked for.
    pub(crate) fn wishes(&self) -> u64 {
        self.wished.load(Relaxed)
    }
}

/// The stations' keys, for the directory.
pub(super) struct HeadEndKeys(pub(super) Weak<HeadEnd>);

impl KeysOf for HeadEndKeys {
    fn keys(&self, id: StationId) -> Option<(u64, StationKeys)> {
        self.0.upgrade()?.station(id)?.keys.read(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::srtp::Profile;

    #[test]
    fn keys_of_a_station_that_starts_again_are_new_ones() {
        let id = StationId(2);
        let stream = |ssrc| StreamKeys { profile: Profile::Gcm, ssrc, index: 0, keys: Vec::new() };
        let version = |book: &KeyBook| book.read(id).unwrap().0;
        let (before, after) = (KeyBook::default(), KeyBook::default());
        before.set(Track::Picture, vec![stream(1)]);
        after.set(Track::Picture, vec![stream(2)]);
        assert_ne!(version(&before), version(&after));
        let known = version(&after);
        after.set_index(Track::Picture, 2, 900);
        assert_eq!(version(&after), known, "an index is told when a client tunes");
    }
}
