//! The counters of a station's task, and two reports in the log: every ten seconds, what went wrong on a station, if anything
//! did; and at the end, the totals of all stations.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::JoinSet;
use tracing::info;

use super::StationHandle;
use crate::air::lateness::Lateness;

/// Time between two reports of a station.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The counters of a station's task. The air thread has [its own](crate::air::AirCounters).
#[derive(Debug, Default)]
pub struct TaskCounters {
    /// Pictures skipped because they were late before they reached the air thread.
    pub skipped: AtomicU64,
    /// Pictures encoded at a lower quality so that they fit into a datagram.
    pub squeezed: AtomicU64,
    /// Rounds of the programme that have begun.
    pub rounds: AtomicU64,
    /// Packets of sound handed over, silence included.
    pub sound_packets: AtomicU64,
    /// Packets of silence among them, where no film is heard.
    pub silent_packets: AtomicU64,
    /// Packets of sound that found no room on their way to the air.
    pub sound_missed: AtomicU64,
}

/// The counts of a station, or of several, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct PictureCounts {
    skipped: u64,
    squeezed: u64,
    send_errors: u64,
    aired: u64,
}

impl PictureCounts {
    fn of(station: &StationHandle) -> PictureCounts {
        let StationHandle { task, air, .. } = station;
        PictureCounts {
            skipped: task.skipped.load(Relaxed) + air.skipped.load(Relaxed),
            squeezed: task.squeezed.load(Relaxed),
            send_errors: air.send_errors.load(Relaxed),
            aired: air.aired.load(Relaxed),
        }
    }
}

/// The totals of all stations.
#[derive(Default)]
pub(crate) struct Totals {
    /// Number of stations.
    stations: usize,
    counts: PictureCounts,
    lateness: Lateness,
}

impl Totals {
    pub(crate) fn of<'a>(stations: impl Iterator<Item = &'a StationHandle>) -> Totals {
        let mut totals = Totals::default();
        for station in stations {
            let (all, one) = (&mut totals.counts, PictureCounts::of(station));
            all.skipped += one.skipped;
            all.squeezed += one.squeezed;
            all.send_errors += one.send_errors;
            all.aired += one.aired;
            totals.stations += 1;
            totals.lateness.add_buckets_of(&station.air.lateness);
        }
        totals
    }
}

/// `1100 pictures aired by 2 stations, 33 skipped late, ...`: the bench parses it.
impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PictureCounts { skipped, squeezed, send_errors, aired } = self.counts;
        write!(
            f,
            "{aired} pictures aired by {} station{}, {skipped} skipped late, {squeezed} squeezed, {send_errors} not sent; \
             lateness {}",
            self.stations,
            if self.stations == 1 { "" } else { "s" },
            self.lateness
        )
    }
}

/// Starts to report on a station. The reporter ends when the returned `JoinSet` is dropped, also by a panic of its owner.
pub(crate) fn start_reporter(station: Arc<StationHandle>) -> JoinSet<()> {
    let mut reporter = JoinSet::new();
    reporter.spawn(report(station));
    reporter
}

#[expect(clippy::disallowed_methods, reason = "a shell: it samples every second")]
async fn report(station: Arc<StationHandle>) {
    let air = &station.air;
    // Earlier counts belong to a task that has crashed, and have been reported.
    let mut before = PictureCounts::of(&station);
    let mut ticks = tokio::time::interval(REPORT_INTERVAL);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let now = PictureCounts::of(&station);
        let worst = air.lateness.take_worst();
        if let Some(line) = problems(before, now, air.last_errno.load(Relaxed)) {
            let lateness = worst.as_secs_f64() * 1e3;
            let spec = station.spec();
            info!("station {} \"{}\": {line}; worst lateness {lateness:.1} ms", spec.id, spec.name);
        }
        before = now;
    }
}

/// The problems between two moments, for the log; `None` if there were none.
fn problems(before: PictureCounts, now: PictureCounts, errno: u64) -> Option<String> {
    let mut parts = Vec::new();
    let mut part = |count: u64, what: &str| {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    };
    part(now.skipped - before.skipped, "skipped (late)");
    part(now.squeezed - before.squeezed, "squeezed (too large at the station's quality)");
    part(now.send_errors - before.send_errors, "not sent");
    if parts.is_empty() {
        return None;
    }
    if now.send_errors > before.send_errors {
        let reason = io::Error::from_raw_os_error(errno as i32).to_string();
        parts.push(format!("last reason: {}", reason.split(" (os error").next().unwrap_or_default()));
    }
    let all = |s: PictureCounts| s.aired + s.skipped + s.send_errors;
    Some(format!(
        "of {} pictures in {} s: {}",
        all(now) - all(before),
        REPORT_INTERVAL.as_secs(),
        parts.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::lineup::Lineup;

    #[test]
    fn the_totals_are_those_of_all_stations() {
        let lineup = Lineup::load(Path::new("stations.toml")).unwrap();
        let stations: Vec<_> = lineup.stations.into_iter().take(2).map(StationHandle::new).collect();
        for (station, n) in stations.iter().zip([1, 10]) {
            let StationHandle { task, air, .. } = station;
            air.aired.store(100 * n, Relaxed);
            air.skipped.store(n, Relaxed);
            task.skipped.store(2 * n, Relaxed);
            task.squeezed.store(4 * n, Relaxed);
            air.send_errors.store(5 * n, Relaxed);
            (0..n).for_each(|_| air.lateness.record(Duration::from_micros(10 * n)));
        }
        assert_eq!(
            Totals::of(stations.iter()).to_string(),
            "1100 pictures aired by 2 stations, 33 skipped late, 44 squeezed, 55 not sent; \
             lateness p50 under 100 us, p99 under 100 us"
        );
        assert_eq!(
            Totals::of([].into_iter()).to_string(),
            "0 pictures aired by 0 stations, 0 skipped late, 0 squeezed, 0 not sent; \
             lateness p50 unknown, p99 unknown"
        );
    }

    #[tokio::test]
    async fn a_reporter_ends_with_the_station_task_that_crashed() {
        let mut lineup = Lineup::load(Path::new("stations.toml")).unwrap();
        let station = Arc::new(StationHandle::new(lineup.stations.remove(0)));
        let own = station.clone();
        let task = tokio::spawn(async move {
            let _reporter = start_reporter(own);
            tokio::task::yield_now().await;
            panic!("as a station may");
        });
        assert!(task.await.unwrap_err().is_panic());
        let ended = async {
            while Arc::strong_count(&station) > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the reporter ends");
    }

    #[test]
    fn only_problems_are_reported_with_their_counts() {
        let before = PictureCounts { aired: 100, skipped: 1, squeezed: 2, send_errors: 3 };
        assert_eq!(problems(before, PictureCounts { aired: 350, ..before }, 101), None);
        let now = PictureCounts { aired: 300, skipped: 4, squeezed: 12, send_errors: 50 };
        assert_eq!(
            problems(before, now, nix::libc::ENETUNREACH as u64).as_deref(),
            Some(
                "of 250 pictures in 10 s: 3 skipped (late), 10 squeezed (too large at the station's quality), \
                 47 not sent, last reason: Network is unreachable"
            )
        );
    }
}
