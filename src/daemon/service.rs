//! Tells the service manager, systemd, how the broadcaster is (sd_notify(3)): that all stations are on air, how many are, that it
//! reads its line-up again, and that its threads are alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use sd_notify::{NotifyState, notify, watchdog_enabled};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::warn;

use crate::directory::State;
use crate::headend::{HeadEnd, Interlude};

/// Longest time until the service manager is told that the broadcaster is ready, though some stations have shown nothing yet: no
/// station may keep the others from being started.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Shortest time between two sentences on the stations.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// The service manager that started this program, if one did.
#[derive(Clone)]
pub(super) struct ServiceManager {
    /// Whether one did.
    is_there: bool,
    /// Whether it was told that the broadcaster is ready.
    ready: Arc<AtomicBool>,
}

impl ServiceManager {
    pub(super) fn of_this_process() -> ServiceManager {
        ServiceManager { is_there: std::env::var_os("NOTIFY_SOCKET").is_some(), ready: Arc::default() }
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        if self.is_there
            && let Err(error) = notify(states)
        {
            warn!("the service manager cannot be told: {error}");
        }
    }

    /// The line-up is read again.
    pub(super) fn reloading(&self) {
        if self.ready.load(Relaxed) {
            let now = NotifyState::monotonic_usec_now().ok();
            let states: Vec<_> = [NotifyState::Reloading].into_iter().chain(now).collect();
            self.tell(&states);
        }
    }

    /// The line-up was read again.
    pub(super) fn reloaded(&self) {
        if self.ready.load(Relaxed) {
            self.tell(&[NotifyState::Ready]);
        }
    }

    /// The broadcaster ends.
    pub(super) fn stopping(&self) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status("going off air")]);
    }

    /// Tells when all stations have something to show, and from then on how many are on air, until the head-end stops.
    #[expect(clippy::disallowed_methods, reason = "a shell: it does not wait for ever, nor tell too often")]
    pub(super) async fn keep_told(self, head_end: Arc<HeadEnd>) {
        if !self.is_there {
            return;
        }
        let mut changes = head_end.table.changes();
        let all_shown = async {
            loop {
                let Stations { starting, all, .. } = Stations::of(&head_end);
                // Until a station has entered the table, it is missing there.
                if starting == 0 && all >= head_end.stations().len() {
                    return;
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = head_end.stopping() => return,
            _ = timeout(READY_WITHIN, all_shown) => {}
        }
        let mut told = Stations::of(&head_end).sentence();
        self.tell(&[NotifyState::Ready, NotifyState::Status(&told)]);
        self.ready.store(true, Relaxed);
        loop {
            tokio::select! {
                () = head_end.stopping() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
            sleep(STATUS_EVERY).await;
            let sentence = Stations::of(&head_end).sentence();
            if sentence != told {
                self.tell(&[NotifyState::Status(&sentence)]);
                told = sentence;
            }
        }
    }

    /// Tells that the broadcaster is alive, as long as the air thread answers and the runtime on which this runs goes on, until the
    /// head-end stops. For the runtime of the stations.
    #[expect(clippy::disallowed_methods, reason = "a shell: it asks every few seconds")]
    pub(super) async fn keep_watchdog(self, head_end: Arc<HeadEnd>) {
        let Some(limit) = watchdog_enabled().filter(|_| self.is_there) else { return };
        let mut ticks = interval((limit / 4).max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked = 0;
        loop {
            tokio::select! {
                () = head_end.stopping() => return,
                _ = ticks.tick() => {}
            }
            if head_end.air.last_answered() == asked {
                self.tell(&[NotifyState::Watchdog]);
                asked += 1;
                head_end.air.ask(asked);
            }
        }
    }
}

/// What the stations send, counted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stations {
    all: usize,
    starting: usize,
    on_hold: usize,
    /// The names of those that show a slate because of a fault.
    off_air: Vec<String>,
}

impl Stations {
    fn of(head_end: &HeadEnd) -> Stations {
        let mut stations = Stations::default();
        for entry in head_end.table.line_up().1 {
            stations.all += 1;
            let interlude = head_end.station(entry.id).and_then(|station| station.interlude());
            match (entry.state, interlude) {
                (State::Starting, _) => stations.starting += 1,
                (State::Slate { .. }, Some(Interlude::Hold(_))) => stations.on_hold += 1,
                (State::Slate { .. }, _) => stations.off_air.push(format!("{} \"{}\"", entry.id, entry.name)),
                (State::Film, _) => {}
            }
        }
        stations
    }

    fn sentence(&self) -> String {
        let Stations { all, starting, on_hold, off_air } = self;
        let on_air = all - starting - on_hold - off_air.len();
        let mut sentence = format!("{on_air} of {all} stations on air");
        if *on_hold > 0 {
            sentence += &format!(", {on_hold} on hold");
        }
        if !off_air.is_empty() {
            const MOST: usize = 5;
            let more = off_air.len().saturating_sub(MOST);
            let names = off_air[..off_air.len() - more].join(", ");
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            sentence += &format!("; off air: {names}{more}");
        }
        sentence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_names_a_few_stations_that_are_off_air() {
        let mut stations = Stations { all: 9, ..Stations::default() };
        assert_eq!(stations.sentence(), "9 of 9 stations on air");
        stations.on_hold = 1;
        stations.off_air = vec!["2 \"Nature\"".into()];
        assert_eq!(stations.sentence(), "7 of 9 stations on air, 1 on hold; off air: 2 \"Nature\"");
        stations.off_air = (1..=7).map(|n| n.to_string()).collect();
        assert_eq!(
            stations.sentence(),
            "1 of 9 stations on air, 1 on hold; off air: 1, 2, 3, 4, 5 and 2 more"
        );
    }
}
