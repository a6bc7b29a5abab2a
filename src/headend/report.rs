//! What went wrong on a station, in one line every ten seconds, and no line when nothing did. And what became of all
//! pictures, in one line at the end.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::JoinSet;
use tracing::info;

use super::StationHandle;
use crate::air::lateness::Lateness;

/// How often a station reports, if it has something to report.
const EVERY: Duration = Duration::from_secs(10);

/// What the station's task counts; the air thread has its own.
#[derive(Debug, Default)]
pub struct Counters {
    /// Pictures that were late before they reached the air thread, and left out.
    pub skipped: AtomicU64,
    /// Pictures encoded at a lower quality so that they fit.
    pub squeezed: AtomicU64,
    /// Rounds of the programme begun.
    pub rounds: AtomicU64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Snapshot {
    skipped: u64,
    squeezed: u64,
    send_errors: u64,
    aired: u64,
}

impl Snapshot {
    fn of(station: &StationHandle) -> Snapshot {
        let StationHandle { task, air, .. } = station;
        Snapshot {
            skipped: task.skipped.load(Relaxed) + air.skipped.load(Relaxed),
            squeezed: task.squeezed.load(Relaxed),
            send_errors: air.send_errors.load(Relaxed),
            aired: air.aired.load(Relaxed),
        }
    }
}

/// What all stations have aired, and what not.
#[derive(Default)]
pub(crate) struct Totals {
    stations: usize,
    counts: Snapshot,
    lateness: Lateness,
}

impl Totals {
    pub(crate) fn of<'a>(stations: impl Iterator<Item = &'a StationHandle>) -> Totals {
        let mut totals = Totals::default();
        for station in stations {
            let (all, one) = (&mut totals.counts, Snapshot::of(station));
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

/// The bench reads it.
impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Snapshot { skipped, squeezed, send_errors, aired } = self.counts;
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

/// Reports for as long as what it returns is kept: a station's task that crashes takes it along, too.
pub(crate) fn watch(station: Arc<StationHandle>) -> JoinSet<()> {
    let mut reporter = JoinSet::new();
    reporter.spawn(tell(station));
    reporter
}

async fn tell(station: Arc<StationHandle>) {
    let StationHandle { spec, air, .. } = &*station;
    // What was counted before belongs to a task that has crashed, and was told.
    let mut before = Snapshot::of(&station);
    let mut ticks = tokio::time::interval(EVERY);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let now = Snapshot::of(&station);
        let worst = air.lateness.take_worst();
        if let Some(line) = report(before, now, air.last_errno.load(Relaxed)) {
            let lateness = worst.as_secs_f64() * 1e3;
            info!("station {} \"{}\": {line}; worst lateness {lateness:.1} ms", spec.id, spec.name);
        }
        before = now;
    }
}

/// What is wrong between two snapshots; `None` when nothing is.
fn report(before: Snapshot, now: Snapshot, errno: u64) -> Option<String> {
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
    let all = |s: Snapshot| s.aired + s.skipped + s.send_errors;
    Some(format!("of {} pictures in {} s: {}", all(now) - all(before), EVERY.as_secs(), parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::lineup::Lineup;

    #[test]
    fn the_last_line_has_all_of_all_stations() {
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
    async fn a_stations_reporter_ends_with_its_task() {
        let mut lineup = Lineup::load(Path::new("stations.toml")).unwrap();
        let station = Arc::new(StationHandle::new(lineup.stations.remove(0)));
        let own = station.clone();
        let task = tokio::spawn(async move {
            let _reporter = watch(own);
            tokio::task::yield_now().await;
            panic!("as a station may");
        });
        assert!(task.await.unwrap_err().is_panic());
        let ended = async {
            while Arc::strong_count(&station) > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("it ends");
    }

    #[test]
    fn silence_while_all_is_well_and_counts_when_it_is_not() {
        let before = Snapshot { aired: 100, skipped: 1, squeezed: 2, send_errors: 3 };
        assert_eq!(report(before, Snapshot { aired: 350, ..before }, 101), None);
        let now = Snapshot { aired: 300, skipped: 4, squeezed: 12, send_errors: 50 };
        assert_eq!(
            report(before, now, nix::libc::ENETUNREACH as u64).as_deref(),
            Some(
                "of 250 pictures in 10 s: 3 skipped (late), 10 squeezed (too large at the station's quality), \
                 47 not sent, last reason: Network is unreachable"
            )
        );
    }
}
