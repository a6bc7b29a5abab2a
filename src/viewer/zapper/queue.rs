//! The queue between a receiver's thread and the thread that shows or saves.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::tuner::ReceivedPicture;

/// Policy for pictures that arrive faster than the caller fetches them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueuePolicy {
    /// Only the newest one is kept: for display.
    Newest,
    /// This many are kept, and the oldest is dropped and [counted](super::Zapper::dropped): for recording and counting.
    Last(usize),
}

/// A bounded queue of received pictures. When full, it drops the oldest and counts it.
pub(super) struct PictureQueue {
    bound: usize,
    state: Mutex<QueueContents>,
}

#[derive(Default)]
struct QueueContents {
    pictures: VecDeque<ReceivedPicture>,
    dropped: u64,
}

impl PictureQueue {
    /// A queue that keeps as many pictures as `policy` says, and at least one.
    pub(super) fn new(policy: QueuePolicy) -> PictureQueue {
        let bound = match policy {
            QueuePolicy::Newest => 1,
            QueuePolicy::Last(pictures) => pictures.max(1),
        };
        PictureQueue { bound, state: Mutex::default() }
    }

    /// Appends a picture. True if the queue was empty, so that its reader must be woken.
    pub(super) fn put(&self, picture: ReceivedPicture) -> bool {
        let mut state = self.lock();
        let was_empty = state.pictures.is_empty();
        if state.pictures.len() == self.bound {
            state.pictures.pop_front();
            state.dropped += 1;
        }
        state.pictures.push_back(picture);
        was_empty
    }

    /// Removes all pictures, the oldest first.
    pub(super) fn fetch(&self) -> VecDeque<ReceivedPicture> {
        std::mem::take(&mut self.lock().pictures)
    }

    /// Number of pictures dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    // A poisoned lock is usable: a push that panics leaves the queue consistent.
    fn lock(&self) -> MutexGuard<'_, QueueContents> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::AirTime;
    use crate::tuner::tests::picture;

    #[test]
    fn the_newest_stay_and_the_dropped_ones_are_counted() {
        let queue = PictureQueue::new(QueuePolicy::Last(3));
        let woken: Vec<bool> = (0..8).map(|n| queue.put(picture(n, AirTime(n)))).collect();
        assert_eq!(woken, [true, false, false, false, false, false, false, false]);
        let ticks =
            |pictures: VecDeque<ReceivedPicture>| pictures.iter().map(|p| p.ticks).collect::<Vec<_>>();
        assert_eq!((ticks(queue.fetch()), queue.dropped()), (vec![5, 6, 7], 5));
        assert!(queue.put(picture(8, AirTime(8))), "woken again");
        assert_eq!((ticks(queue.fetch()), queue.dropped()), (vec![8], 5));
        for policy in [QueuePolicy::Newest, QueuePolicy::Last(0)] {
            let newest = PictureQueue::new(policy);
            assert!(newest.put(picture(1, AirTime(1))));
            assert!(!newest.put(picture(2, AirTime(2))), "woken already, and not fetched yet");
            assert_eq!(ticks(newest.fetch()), [2]);
        }
    }
}
