//! How long a station waits after a fault before it plays the next film.

use std::collections::HashSet;
use std::time::Duration;

/// Shortest and longest wait after a fault. The wait doubles each time that the same fault recurs.
pub(super) const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Most reasons of faults that are remembered. A film that grows fails for another reason each time.
const MOST_REASONS: usize = 100;

/// The waits of a station. A film that fails among others that play costs a second of slate each time, and so do several films
/// that fail for different reasons. If nothing plays, the waits grow.
#[derive(Debug)]
pub(super) struct Patience {
    wait: Duration,
    /// Reasons of the faults since a film last played, or since the wait was doubled.
    reasons: HashSet<String>,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { wait: RETRY.0, reasons: HashSet::new() }
    }
}

impl Patience {
    /// Makes the next wait the shortest again, after a film that played to its end or for long.
    pub(super) fn renew(&mut self) {
        *self = Patience::default();
    }

    /// How long to wait after a fault with this reason.
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
    fn waits_also_grow_if_each_fault_has_a_new_reason() {
        let mut patience = Patience::default();
        let last = (0..1000).map(|n| patience.wait_after(&format!("breaks off after {n} pictures"))).last();
        assert_eq!(last, Some(RETRY.1));
    }
}
