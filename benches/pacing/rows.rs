//! What is measured: who sends how many stations beside what, and what came of it.

use std::collections::BTreeMap;

use stationcast::probe::report::Distribution;

use crate::run::{Turn, installed};

/// Who sends.
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
    /// Beside four busy processes.
    pub(crate) busy: bool,
    /// Why there are no figures.
    pub(crate) absent: Option<&'static str>,
    pub(crate) turns: Vec<Turn>,
}

pub(crate) fn all(stations: &[u16], fifo: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for &stations in stations {
        for busy in [false, true] {
            for priority in [false, true] {
                // Of many stations, the one kind of sender that a broadcaster on duty is.
                if stations > 1 && priority != fifo {
                    continue;
                }
                for sender in [Sender::Bare, Sender::Ours] {
                    let absent = (priority && !fifo).then_some("not granted");
                    rows.push(Row { sender, fifo: priority, stations, busy, absent, turns: Vec::new() });
                }
            }
            if stations == 1 && !busy {
                let (sender, fifo) = (Sender::Live, false);
                rows.push(Row { sender, fifo, stations, busy, absent: None, turns: Vec::new() });
            }
            if stations == 1 {
                for (sender, program) in [(Sender::GStreamer, "gst-launch-1.0"), (Sender::Ffmpeg, "ffmpeg")] {
                    let absent = (!installed(program)).then_some("not installed");
                    rows.push(Row { sender, fifo: false, stations, busy, absent, turns: Vec::new() });
                }
            }
        }
    }
    rows
}

pub(crate) fn smoke(fifo: bool) -> Vec<Row> {
    let row = |sender| Row { sender, fifo, stations: 1, busy: false, absent: None, turns: Vec::new() };
    vec![row(Sender::Bare), row(Sender::Ours)]
}

impl Row {
    pub(crate) fn measurable(&self) -> bool {
        self.absent.is_none()
    }

    pub(crate) fn add(&mut self, turn: Turn) {
        self.turns.push(turn);
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

    /// Deviation from the ideal line, in microseconds.
    pub(crate) fn pacing(&self) -> Option<Distribution> {
        Distribution::of(self.deviations(), 1e3)
    }

    /// The same of each picture, in nanoseconds.
    pub(crate) fn deviations(&self) -> Vec<i64> {
        self.turns.iter().flat_map(|turn| turn.heard.pacing.iter().copied()).collect()
    }

    /// Arrival less due time, in microseconds.
    pub(crate) fn lateness(&self) -> Option<Distribution> {
        let all = self.turns.iter().flat_map(|turn| turn.heard.lateness.iter().copied());
        Distribution::of(all.collect(), 1e3)
    }

    /// Share of one core that the sender's process took.
    pub(crate) fn core(&self) -> Option<f64> {
        self.over_time(|turn| turn.cpu.as_secs_f64())
    }

    /// `of` each turn, a second.
    fn over_time(&self, of: impl Fn(&Turn) -> f64) -> Option<f64> {
        let wall: f64 = self.turns.iter().map(|turn| turn.wall.as_secs_f64()).sum();
        (wall > 0.0).then(|| self.turns.iter().map(of).sum::<f64>() / wall)
    }

    /// Bytes of resident memory, the most of all turns.
    pub(crate) fn resident(&self) -> Option<u64> {
        self.turns.iter().map(|turn| turn.resident).max()
    }

    fn total(&self, of: impl Fn(&Turn) -> u64) -> u64 {
        self.turns.iter().map(of).sum()
    }

    pub(crate) fn units(&self) -> u64 {
        self.total(|turn| turn.heard.units)
    }

    pub(crate) fn lost(&self) -> u64 {
        self.total(|turn| turn.heard.lost)
    }

    pub(crate) fn kernel_drops(&self) -> u64 {
        self.total(|turn| turn.heard.kernel_drops)
    }

    /// Pictures that were not sent: of the stations listened to, as the timestamps tell.
    pub(crate) fn gaps(&self) -> u64 {
        self.total(|turn| turn.heard.gaps)
    }

    /// Pictures that were not sent, of all stations, from their start to their end.
    pub(crate) fn logged(&self) -> u64 {
        self.total(|turn| turn.skipped)
    }

    /// Bytes of a picture on the wire, on average.
    pub(crate) fn picture(&self) -> Option<f64> {
        (self.units() > 0).then(|| self.total(|turn| turn.heard.bytes) as f64 / self.units() as f64)
    }

    /// Seconds from the start of the program until all stations were on air; the longest.
    pub(crate) fn start(&self) -> Option<f64> {
        self.turns.iter().filter_map(|turn| turn.start).map(|span| span.as_secs_f64()).reduce(f64::max)
    }

    /// Share of a core by the threads' names.
    pub(crate) fn threads(&self) -> BTreeMap<&str, f64> {
        let names = self.turns.iter().flat_map(|turn| turn.threads.keys());
        let share = |name: &str| self.over_time(|turn| turn.threads.get(name).copied().unwrap_or(0.0));
        names.map(|name| (name.as_str(), share(name).unwrap_or(0.0))).collect()
    }

    /// Whether pictures came about as often as they should.
    pub(crate) fn heard(&self) -> bool {
        let wall: f64 = self.turns.iter().map(|turn| turn.wall.as_secs_f64()).sum();
        wall > 0.0 && self.units() as f64 > wall * 20.0
    }
}
