//! The table, the ratios and the JSON.

use std::fmt::Write as _;

use serde_json::json;

use crate::machine::Machine;
use crate::rows::{Row, Sender};

/// All rows as a Markdown table.
pub(crate) fn table(rows: &[Row]) -> String {
    let head = [
        "sender",
        "priority",
        "stations",
        "beside it",
        "p50 us",
        "p99 us",
        "max us",
        "% of a core",
        "% a station",
        "MB",
        "lost",
        "skipped",
        "pictures",
    ];
    let mut lines = vec![head.map(String::from).to_vec()];
    for row in rows {
        let mut line = vec![
            row.sender.name().to_owned(),
            if row.fifo { "FIFO" } else { "plain" }.to_owned(),
            row.stations.to_string(),
            row.beside().to_owned(),
        ];
        match (row.absent, row.pacing(), row.core(), row.resident()) {
            (None, Some(pacing), Some(core), Some(resident)) => line.extend([
                micros(pacing.p50),
                micros(pacing.p99),
                micros(pacing.max),
                format!("{:.2}", core * 100.0),
                format!("{:.3}", core * 100.0 / f64::from(row.stations)),
                format!("{:.0}", resident as f64 / 1e6),
                row.lost().to_string(),
                row.gaps().max(row.logged()).to_string(),
                row.units().to_string(),
            ]),
            (absent, ..) => line.push(absent.unwrap_or("no figures").to_owned()),
        }
        line.resize(head.len(), String::new());
        lines.push(line);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for (n, line) in lines.iter().enumerate() {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let left = column < 2 || column == 3;
            let _ = if left { write!(text, "| {cell:<width$} ") } else { write!(text, "| {cell:>width$} ") };
        }
        text.push_str("|\n");
        if n == 0 {
            for (column, width) in widths.iter().enumerate() {
                let left = column < 2 || column == 3;
                let _ = write!(text, "|{}{}", "-".repeat(width + 1), if left { "-" } else { ":" });
            }
            text.push_str("|\n");
        }
    }
    text.push_str(
        "\nMicroseconds: how much longer than its fastest picture each took, by kernel stamps of arrival and the sender's \
         own timestamps.\n999 stations are all that a line-up holds. Of many stations, 10 are listened to.\n",
    );
    for row in rows.iter().filter(|row| row.kernel_drops() > 0) {
        let _ = writeln!(text, "{}: the listener lost {} pictures itself.", row.title(), row.kernel_drops());
    }
    text
}

fn micros(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// A figure of a row that is compared.
type Figure = fn(&Row) -> Option<f64>;

/// The ratios that have goals, each with its two figures.
pub(crate) fn ratios(rows: &[Row]) -> String {
    let find = |sender, stations, busy, fifo| {
        let is =
            |row: &&Row| (row.sender, row.stations, row.busy, row.fifo) == (sender, stations, busy, fifo);
        rows.iter().find(is).filter(|row| !row.runs.is_empty())
    };
    let p99: Figure = |row| row.pacing().map(|pacing| pacing.p99);
    let core: Figure = |row| row.core().map(|core| core * 100.0 / f64::from(row.stations));
    let mut text = String::new();
    let mut ratio =
        |what: &str, above: Option<&Row>, below: Option<&Row>, figure: Figure, goal: f64, most: bool| {
            let (Some(above), Some(below)) = (above.and_then(figure), below.and_then(figure)) else { return };
            let ratio = above / below;
            let reached = if most { ratio <= goal } else { ratio >= goal };
            let sign = if most { "at most" } else { "at least" };
            let (line, verdict) =
                (format!("{what}: {above:.3} / {below:.3}"), if reached { "reached" } else { "MISSED" });
            let _ = writeln!(text, "{line:<84} {ratio:>8.2}, {sign} {goal:<4} {verdict}");
        };
    use Sender::{Bare, Ffmpeg, GStreamer, Live, Ours};
    for (fifo, priority) in [(false, "plain"), (true, "FIFO")] {
        let (ours, bare) = (find(Ours, 1, false, fifo), find(Bare, 1, false, fifo));
        ratio(&format!("p99 idle, {priority}: ours / bare"), ours, bare, p99, 1.2, true);
    }
    let fifo = find(Ours, 1, true, true).is_some();
    if fifo {
        let (ours, bare) = (find(Ours, 1, true, true), find(Bare, 1, true, true));
        ratio("p99 beside 4 busy, FIFO: ours / bare", ours, bare, p99, 1.5, true);
        for other in [GStreamer, Ffmpeg] {
            let what = format!("p99 beside 4 busy: {} / ours (FIFO)", other.name());
            ratio(&what, find(other, 1, true, false), ours, p99, 50.0, false);
        }
    }
    let mut counts: Vec<u16> = rows.iter().map(|row| row.stations).collect();
    counts.sort_unstable();
    counts.dedup();
    for (&n, busy) in counts.iter().flat_map(|n| [(n, false), (n, true)]) {
        let (ours, bare) = (find(Ours, n, busy, fifo), find(Bare, n, busy, fifo));
        let beside = if busy { " beside 4 busy" } else { "" };
        ratio(
            &format!("% of a core a station, {n} on air{beside}: ours / bare"),
            ours,
            bare,
            core,
            1.25,
            true,
        );
    }
    let (live, other) = (find(Live, 1, false, false), find(Ffmpeg, 1, false, false));
    ratio("% of a core a station that encodes: ours / FFmpeg", live, other, core, 1.0, true);
    for (&n, other) in counts.iter().flat_map(|n| [(n, GStreamer), (n, Ffmpeg)]) {
        let what = format!("% of a core a station: {} / ours ({n} on air)", other.name());
        ratio(&what, find(other, 1, false, false), find(Ours, n, false, fifo), core, 50.0, false);
    }
    if let Some(many) = find(Ours, 999, false, fifo) {
        let mut figure = |what: &str, value: Option<f64>, most: f64| {
            let Some(value) = value else { return };
            let verdict = if value <= most { "reached" } else { "MISSED" };
            let what = format!("999 stations: {what}");
            let _ = writeln!(text, "{what:<84} {value:>8.2}, at most {most:<4} {verdict}");
        };
        figure("pictures skipped", Some(many.gaps().max(many.logged()) as f64), 0.0);
        figure("p99, ms", p99(many).map(|p99| p99 / 1e3), 1.0);
        figure("% of one core", many.core().map(|core| core * 100.0), 60.0);
        figure("resident, MB", many.resident().map(|bytes| bytes as f64 / 1e6), 300.0);
        figure("start to all on air, s", many.start(), 3.0);
    }
    text
}

/// Per cent of a core that each thread of the broadcaster took.
pub(crate) fn threads(rows: &[Row]) -> String {
    let mut text = String::from("Per cent of a core, by thread:\n");
    for row in rows.iter().filter(|row| row.sender.is_ours() && row.measurable()) {
        let parts: Vec<String> =
            row.threads().iter().map(|(name, share)| format!("{name} {:.2}", share * 100.0)).collect();
        let _ = writeln!(text, "{}: {}", row.title(), parts.join(", "));
    }
    text
}

/// All results.
pub(crate) fn json(rows: &[Row], seconds: f64, machine: &Machine) -> anyhow::Result<String> {
    let row = |row: &Row| {
        json!({
            "sender": row.sender.name(),
            "fifo": row.fifo,
            "stations": row.stations,
            "busy_processes": if row.busy { 4 } else { 0 },
            "absent": row.absent,
            "turns": row.runs.len(),
            "pacing_us": row.pacing(),
            "lateness_us": row.lateness(),
            "core": row.core(),
            "threads": row.threads(),
            "resident_bytes": row.resident(),
            "pictures": row.units(),
            "picture_bytes": row.picture(),
            "packets_lost": row.lost(),
            "dropped_by_the_listener": row.kernel_drops(),
            "skipped_of_the_sample": row.gaps(),
            "skipped_logged": row.logged(),
            "start_s": row.start(),
        })
    };
    let all = json!({
        "machine": machine,
        "seconds": seconds,
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
    });
    Ok(serde_json::to_string_pretty(&all)?)
}
