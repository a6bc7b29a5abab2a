//! Reading pictures ahead, and leaving out damaged ones: for films that play from a reel, and for those that play from a recording.

use std::ops::Range;

use crate::content::ContentEvent;
use crate::content::reel::ReelError;
use crate::media::jpeg::Jpeg;
use crate::media::{Due, Unit};

/// Pictures that are read at a time: a third of a second at 25 a second.
const BATCH: usize = 8;

/// The units of some pictures, and why the one after them could not be read.
pub(super) type Read = (Vec<Unit>, Option<ReelError>);

/// The units of the first of the pictures `numbers`. They end before the first one that `picture` does not have, or cannot read; then
/// the error is returned too.
pub(super) fn read(
    numbers: Range<usize>,
    due: impl Fn(usize) -> Due,
    picture: impl Fn(usize) -> Result<Option<Jpeg>, ReelError>,
) -> Read {
    let mut units = Vec::with_capacity(BATCH);
    for n in numbers.take(BATCH) {
        match picture(n) {
            Ok(Some(jpeg)) => units.push(Unit::picture(due(n), jpeg)),
            Ok(None) => break,
            Err(error) => return (units, Some(error)),
        }
    }
    (units, None)
}

/// How far the pictures of a film were read.
pub(super) struct ReadingPlace {
    /// The number of the next picture.
    pub(super) next: usize,
    /// The number of the picture after the last one that could be read.
    readable_to: usize,
    /// Whether a picture could not be read.
    damaged: bool,
}

impl ReadingPlace {
    /// Before picture `next`.
    pub(super) fn at(next: usize) -> ReadingPlace {
        ReadingPlace { next, readable_to: next, damaged: false }
    }

    /// Goes to picture `next`.
    pub(super) fn go_to(&mut self, next: usize) {
        (self.next, self.readable_to) = (next, next);
    }

    /// Goes past so many pictures, which were read.
    pub(super) fn pass(&mut self, pictures: usize) {
        if pictures > 0 {
            self.go_to(self.next + pictures);
        }
    }

    /// Goes past a picture that could not be read. Returns the event, and whether it is the first such picture.
    pub(super) fn pass_damaged(&mut self, error: &ReelError) -> (ContentEvent, bool) {
        let first = !std::mem::replace(&mut self.damaged, true);
        self.next += 1;
        (ContentEvent::Damaged(first.then(|| error.to_string())), first)
    }

    /// The numbers of the pictures before the next one that could not be read.
    pub(super) fn missing(&self) -> Range<usize> {
        self.readable_to..self.next
    }
}
