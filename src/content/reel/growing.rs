//! A reel while it is recorded: stations play it behind the recorder.

use std::fs::File;
use std::io;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use super::ReelError;
use super::format::{ENTRY_LEN, IndexEntry};
use super::key::ReelKey;
use super::picture_file::PictureFile;
use crate::media::Size;
use crate::media::jpeg::Jpeg;

/// The pictures that a [`Recorder`](super::Recorder) has written so far. All of them are in its file: a growing reel
/// takes 25 bytes of memory a picture, however far the recorder is ahead of the stations.
///
/// It outlives its recorder. If that fails, the pictures that were written can still be read.
#[derive(Debug)]
pub struct GrowingReel {
    pictures: PictureFile,
    /// The index entries of the pictures that are in the file. Locked for as long as it takes to read an entry, or to
    /// append those of one write.
    index: RwLock<Vec<u8>>,
}

impl GrowingReel {
    /// The growing reel of `key` in `file`, which may be read. It has no pictures yet.
    pub(super) fn new(key: &ReelKey, file: &File) -> io::Result<GrowingReel> {
        let pictures = PictureFile::new(format!("{key}.reel"), file.try_clone()?, key.encoding().size);
        Ok(GrowingReel { pictures, index: RwLock::default() })
    }

    /// Appends the entries of pictures that are in the file now.
    pub(super) fn append(&self, entries: &[u8]) {
        self.index.write().unwrap_or_else(PoisonError::into_inner).extend_from_slice(entries);
    }

    /// The index so far, as it is in the file of a reel.
    pub(super) fn index(&self) -> Vec<u8> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The size of all pictures.
    pub fn size(&self) -> Size {
        self.pictures.size()
    }

    /// The number of pictures that can be read. It only grows.
    pub fn len(&self) -> usize {
        self.index.read().unwrap_or_else(PoisonError::into_inner).len() / ENTRY_LEN
    }

    /// Whether no picture can be read yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The time from the first picture to picture `n`. Never less than that of the picture before.
    ///
    /// # Panics
    /// If `n` is not below [`len`](Self::len).
    pub fn stamp(&self, n: usize) -> Duration {
        self.entry(n).stamp
    }

    /// The number of the last picture so far whose stamp is not later than `offset`.
    pub fn at(&self, offset: Duration) -> usize {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let (entries, _) = index.as_chunks();
        entries.partition_point(|entry| IndexEntry::parse(entry).stamp <= offset).saturating_sub(1)
    }

    /// As [`Reel::picture`](super::Reel::picture).
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// If `n` is not below [`len`](Self::len).
    pub fn picture(&self, n: usize) -> Result<Jpeg, ReelError> {
        self.pictures.picture(n, self.entry(n))
    }

    /// As [`Reel::try_picture`](super::Reel::try_picture).
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// If `n` is not below [`len`](Self::len).
    pub fn try_picture(&self, n: usize) -> Result<Option<Jpeg>, ReelError> {
        self.pictures.try_picture(n, self.entry(n))
    }

    fn entry(&self, n: usize) -> IndexEntry {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let (entries, _) = index.as_chunks();
        IndexEntry::parse(&entries[n])
    }
}
