//! A value for each track: of pictures, of sound, or of both. Pure.

use super::Track;

/// A value for each track that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PerTrack<T> {
    pub(crate) picture: Option<T>,
    pub(crate) sound: Option<T>,
}

impl<T> Default for PerTrack<T> {
    fn default() -> PerTrack<T> {
        PerTrack { picture: None, sound: None }
    }
}

impl<T> PerTrack<T> {
    /// The value of one track alone.
    pub(crate) fn of(track: Track, value: T) -> PerTrack<T> {
        let mut all = PerTrack::default();
        all.set(track, value);
        all
    }

    pub(crate) fn get(&self, track: Track) -> Option<&T> {
        match track {
            Track::Picture => self.picture.as_ref(),
            Track::Sound => self.sound.as_ref(),
        }
    }

    pub(crate) fn get_mut(&mut self, track: Track) -> Option<&mut T> {
        match track {
            Track::Picture => self.picture.as_mut(),
            Track::Sound => self.sound.as_mut(),
        }
    }

    pub(crate) fn set(&mut self, track: Track, value: T) {
        match track {
            Track::Picture => self.picture = Some(value),
            Track::Sound => self.sound = Some(value),
        }
    }

    /// The tracks with their values, pictures first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Track, &T)> {
        let picture = self.picture.as_ref().map(|value| (Track::Picture, value));
        picture.into_iter().chain(self.sound.as_ref().map(|value| (Track::Sound, value)))
    }

    /// As [`iter`](Self::iter).
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.picture.iter_mut().chain(self.sound.iter_mut())
    }

    /// The same tracks with other values.
    pub(crate) fn map<U>(&self, mut change: impl FnMut(Track, &T) -> U) -> PerTrack<U> {
        PerTrack {
            picture: self.picture.as_ref().map(|value| change(Track::Picture, value)),
            sound: self.sound.as_ref().map(|value| change(Track::Sound, value)),
        }
    }

    /// The tracks alone.
    pub(crate) fn tracks(&self) -> PerTrack<()> {
        self.map(|_, _| ())
    }
}
