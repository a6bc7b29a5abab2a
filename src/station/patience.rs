//! How long a station waits after a fault before it tries what follows.

use std::collections::HashSet;
use std::time::Duration;

/// Waits between tries after a fault: doubled each time that the same fault comes again, from the first to the last.
pub(super) const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Most reasons for faults that are told apart. A film that grows has another one each time.
const MOST_REASONS: usize = 100;

/// The patience of a station. A film that fails among others that play costs a second of slate each time, and so do several
/// films that fail, each for a reason of its own; but if nothing plays, the waits grow.
#[derive(Debug)]
pub(super) struct Patience {
    wait: Duration,
    /// The reasons of the faults since some film played to its end, or since the wait was doubled.
    reasons: HashSet<String>,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { wait: RETRY.0, reasons: HashSet::new() }
    }
}

impl Patience {
    /// A film played to its end, or for long.
    pub(super) fn renew(&mut self) {
        *self = Patience::default();
    }

    /// How long to wait after a fault for this reason.
    pub(super) fn wait_after(&mut self, reason: &str) -> Duration {
        if self.reasons.contains(reason) || self.reasons.len() >= MOST_REASONS {
            self.wait = (self.wait * 2).min(RETRY.1);
            self.reasons.clear();
        }
        self.reasons.insert(reason.to_owned());
        self.wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(reasons: &[&str]) -> Vec<u64> {
        let mut patience = Patience::default();
        let wait = |&reason: &&str| {
            if reason.is_empty() {
                patience.renew();
                return 0;
            }
            patience.wait_after(reason).as_secs()
        };
        reasons.iter().map(wait).collect()
    }

    #[test]
    fn waits_grow_only_while_nothing_plays() {
        assert_eq!(waits(&["a"; 6]), [1, 2, 4, 8, 10, 10]);
        assert_eq!(waits(&["a", "", "a", "", "a"]), [1, 0, 1, 0, 1], "a film played in between");
        assert_eq!(waits(&["a", "b", "a", "b", "a", "b"]), [1, 1, 2, 2, 4, 4], "two films, both at fault");
        assert_eq!(waits(&["a", "b", "", "a", "b"]), [1, 1, 0, 1, 1]);
    }

    #[test]
    fn reasons_that_are_always_new_make_waits_grow_too() {
        let mut patience = Patience::default();
        let last = (0..1000).map(|n| patience.wait_after(&format!("breaks off after {n} pictures"))).last();
        assert_eq!(last, Some(RETRY.1));
    }
}
