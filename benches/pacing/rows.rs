//! The rows of the table: a sender, its number of stations, the load beside it, and the runs that were measured.

use std::collections::BTreeMap;
use std::time::Duration;

use stationcast::probe::report::Distribution;

use crate::listener::Arrivals;
use crate::process::is_installed;

/// The largest line-up: station numbers are 1 to 999.
pub(crate) const MAX_STATIONS: u16 = 999;

/// A program that sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A loop of `clock_nanosleep` and `sendmsg`.
    Bare,
    /// The broadcaster, from reels.
    Ours,
    /// The broadcaster without reels: it decodes and encodes all the time, as the others do.
    Live,
    GStreamer,
    Ffmpeg,
}

impl Sender {
    /// Whether it is the broadcaster.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Sender::Ours | Sender::Live)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Sender::Bare => "bare sender",
            Sender::Ours => "stationcast",
            Sender::Live => "stationcast, no reel",
            Sender::GStreamer => "GStreamer",
            Sender::Ffmpeg => "FFmpeg",
        }
    }
}

/// A row of the table.
pub(crate) struct Row {
    pub(crate) sender: Sender,
    /// SCHED_FIFO for the thread that sends.
    pub(crate) fifo: bool,
    pub(crate) stations: u16,
    /// Whether four busy processes run beside it.
    pub(crate) busy: bool,
    /// Why there are no figures.
    pub(crate) absent: Option<&'static str>,
    pub(crate) runs: Vec<Run>,
}

/// One run of a row's sender.
pub(crate) struct Run {
    pub(crate) arrivals: Arrivals,
    /// Processor time of the sender during `wall`.
    pub(crate) cpu: Duration,
    /// How long the sender was measured.
    pub(crate) wall: Duration,
    /// Seconds of processor time during `wall`, by the names of the sender's threads.
    pub(crate) threads: BTreeMap<String, f64>,
    /// Bytes of resident memory at the end.
    pub(crate) resident: u64,
    /// Pictures that were not sent, by the broadcaster's last line.
    pub(crate) skipped: u64,
    /// From the broadcaster's start until all stations were on air.
    pub(crate) start: Option<Duration>,
}

pub(crate) fn all(stations: &[u16], fifo: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for &stations in stations {
        for busy in [false, true] {
            for priority in [false, true] {
                // Many stations only with the priority that a broadcaster gets on this machine.
                if stations > 1 && priority != fifo {
                    continue;
                }
                for sender in [Sender::Bare, Sender::Ours] {
                    let absent = (priority && !fifo).then_some("not granted");
                    rows.push(Row { sender, fifo: priority, stations, busy, absent, runs: Vec::new() });
                }
            }
            if stations == 1 && !busy {
                let (sender, fifo) = (Sender::Live, false);
                rows.push(Row { sender, fifo, stations, busy, absent: None, runs: Vec::new() });
            }
            if stations == 1 {
                for (sender, program) in [(Sender::GStreamer, "gst-launch-1.0"), (Sender::Ffmpeg, "ffmpeg")] {
                    let absent = (!is_installed(program)).then_some("not installed");
                    rows.push(Row { sender, fifo: false, stations, busy, absent, runs: Vec::new() });
                }
            }
        }
    }
    rows
}

pub(crate) fn smoke(fifo: bool) -> Vec<Row> {
    let row = |sender| Row { sender, fifo, stations: 1, busy: false, absent: None, runs: Vec::new() };
    vec![row(Sender::Bare), row(Sender::Ours)]
}

impl Row {
    pub(crate) fn measurable(&self) -> bool {
        self.absent.is_none()
    }

    pub(crate) fn add(&mut self, run: Run) {
        self.runs.push(run);
    }

    pub(crate) fn title(&self) -> String {
        let plural = if self.stations == 1 { "" } else { "s" };
        format!(
            "{}{}, {} station{plural}, {}",
            self.sender.name(),
            if self.fifo { " (SCHED_FIFO)" } else { "" },
            self.stations,
            self.beside(),
        )
    }

    pub(crate) fn beside(&self) -> &'static str {
        if self.busy { "4 busy" } else { "idle" }
    }

    /// Deviations from the ideal line, in microseconds.
    pub(crate) fn pacing(&self) -> Option<Distribution> {
        Distribution::of(self.deviations(), 1e3)
    }

    /// Each picture's deviation from the ideal line, in nanoseconds.
    pub(crate) fn deviations(&self) -> Vec<i64> {
        self.runs.iter().flat_map(|run| run.arrivals.pacing.iter().copied()).collect()
    }

    /// Arrival less due time, in microseconds.
    pub(crate) fn lateness(&self) -> Option<Distribution> {
        let all = self.runs.iter().flat_map(|run| run.arrivals.lateness.iter().copied());
        Distribution::of(all.collect(), 1e3)
    }

    /// Share of one core that the sender's process took, 0 to the number of cores.
    pub(crate) fn core(&self) -> Option<f64> {
        self.over_time(|run| run.cpu.as_secs_f64())
    }

    /// `of` of all runs, a second.
    fn over_time(&self, of: impl Fn(&Run) -> f64) -> Option<f64> {
        let wall: f64 = self.runs.iter().map(|run| run.wall.as_secs_f64()).sum();
        (wall > 0.0).then(|| self.runs.iter().map(of).sum::<f64>() / wall)
    }

    /// Bytes of resident memory, the most of all runs.
    pub(crate) fn resident(&self) -> Option<u64> {
        self.runs.iter().map(|run| run.resident).max()
    }

    fn total(&self, of: impl Fn(&Run) -> u64) -> u64 {
        self.runs.iter().map(of).sum()
    }

    pub(crate) fn units(&self) -> u64 {
        self.total(|run| run.arrivals.units)
    }

    pub(crate) fn lost(&self) -> u64 {
        self.total(|run| run.arrivals.lost)
    }

    pub(crate) fn kernel_drops(&self) -> u64 {
        self.total(|run| run.arrivals.kernel_drops)
    }

    /// Pictures that the stations listened to did not send, by their timestamps.
    pub(crate) fn gaps(&self) -> u64 {
        self.total(|run| run.arrivals.gaps)
    }

    /// Pictures that all stations did not send from start to end, by the broadcaster's log.
    pub(crate) fn logged(&self) -> u64 {
        self.total(|run| run.skipped)
    }

    /// Mean bytes of UDP payload of a picture.
    pub(crate) fn picture(&self) -> Option<f64> {
        (self.units() > 0).then(|| self.total(|run| run.arrivals.bytes) as f64 / self.units() as f64)
    }

    /// Seconds from the start of the program until all stations were on air, the most of all runs.
    pub(crate) fn start(&self) -> Option<f64> {
        self.runs.iter().filter_map(|run| run.start).map(|span| span.as_secs_f64()).reduce(f64::max)
    }

    /// Share of a core by the names of the threads.
    pub(crate) fn threads(&self) -> BTreeMap<&str, f64> {
        let names = self.runs.iter().flat_map(|run| run.threads.keys());
        let share = |name: &str| self.over_time(|run| run.threads.get(name).copied().unwrap_or(0.0));
        names.map(|name| (name.as_str(), share(name).unwrap_or(0.0))).collect()
    }

    /// Whether at least 20 pictures a second arrived.
    pub(crate) fn has_arrived(&self) -> bool {
        let wall: f64 = self.runs.iter().map(|run| run.wall.as_secs_f64()).sum();
        wall > 0.0 && self.units() as f64 > wall * 20.0
    }
}
