//! What lies between the receiver's thread and the one that shows or saves.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::tuner::ReceivedPicture;

/// Pictures that have come and were not fetched yet, a bounded number of them. The newest stay; those that give way to
/// them are counted.
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
    /// For at most `bound` pictures, and one at least.
    pub(super) fn new(bound: usize) -> PictureQueue {
        PictureQueue { bound: bound.max(1), state: Mutex::default() }
    }

    /// Puts in the newest. True when there was none: who fetches must be told.
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

    /// All there are, the oldest first.
    pub(super) fn fetch(&self) -> VecDeque<ReceivedPicture> {
        std::mem::take(&mut self.lock().pictures)
    }

    /// How many have given way.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    // A queue that was left in the middle of a push is a queue.
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
    fn the_newest_stay_and_the_others_are_counted() {
        let queue = PictureQueue::new(3);
        let told: Vec<bool> = (0..8).map(|n| queue.put(picture(n, AirTime(n)))).collect();
        assert_eq!(told, [true, false, false, false, false, false, false, false]);
        let ticks =
            |pictures: VecDeque<ReceivedPicture>| pictures.iter().map(|p| p.ticks).collect::<Vec<_>>();
        assert_eq!((ticks(queue.fetch()), queue.dropped()), (vec![5, 6, 7], 5));
        assert!(queue.put(picture(8, AirTime(8))), "told again");
        assert_eq!((ticks(queue.fetch()), queue.dropped()), (vec![8], 5));
        // For eyes: a queue of one.
        let newest = PictureQueue::new(0);
        assert!(newest.put(picture(1, AirTime(1))));
        assert!(!newest.put(picture(2, AirTime(2))), "told already, and not fetched yet");
        assert_eq!(ticks(newest.fetch()), [2]);
    }
}
