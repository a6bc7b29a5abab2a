//! Lateness and cost of senders, side by side: `cargo bench --bench pacing [-- --seconds N --stations 1,10,100,1000
//! --smoke]`; how many pictures a second they manage: `-- --capacity`; what ten stations are to a link: `-- --link`.
//!
//! ```text
//! bench -- unshare --> bench in a network of its own
//!                        |-- one sender at a time: bare, broadcaster, GStreamer, FFmpeg
//!                        |-- four busy processes, or none
//!                        \-- a listener: the library's probe on a sample of the groups
//! ```
//!
//! All rows are measured in turns of a few seconds, round after round, and pooled: what disturbs the machine
//! meanwhile disturbs all of them. Nothing leaves the namespace's loopback, every helper ends by itself,
//! and all end when the bench does.

#![expect(clippy::disallowed_methods, reason = "a bench is a shell: it reads clocks and sleeps")]

mod bare;
mod capacity;
mod film;
mod link;
mod listener;
mod network;
mod plot;
mod report;
mod rows;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use rows::Row;

/// The largest line-up: station numbers are 1 to 999.
pub(crate) const MOST: u16 = 999;

/// A turn is no longer than this, so that a film of 24 s lasts for it.
const TURN: f64 = 5.0;

/// Lateness and cost of senders, side by side, in a network of its own.
#[derive(Parser)]
#[command(name = "pacing")]
struct Options {
    /// For how long each row is measured, in turns of up to 5 s
    #[arg(long, default_value_t = 30.0, value_name = "N")]
    seconds: f64,
    /// Numbers of stations; a line-up has at most 999, so that 1000 means 999
    #[arg(long, value_delimiter = ',', default_value = "1,10,100,1000", value_name = "N,N")]
    stations: Vec<u16>,
    /// A few seconds in all: one station, bare and ours, no load
    #[arg(long)]
    smoke: bool,
    /// As many pictures a second as the machine holds: 999 stations at higher and higher rates, turns of up to 5 s
    #[arg(long)]
    capacity: bool,
    /// One station and ten on a link of MTU 1500, by the models of ST 2110-21
    #[arg(long, conflicts_with = "capacity")]
    link: bool,
    /// Show the broadcaster's threads and what each costs
    #[arg(long)]
    threads: bool,
    /// What cargo passes
    #[arg(long, hide = true)]
    bench: bool,
    /// In the namespace already
    #[arg(long, hide = true)]
    inside: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["spin", seconds] => run::spin(seconds),
        ["send", film, stations, priority, seconds] => bare::send(film, stations, priority, seconds),
        ["listen", seconds, stations] => listener::listen(seconds, stations),
        ["hear", seconds, stations] => link::hear(seconds, stations),
        _ => {
            let options = Options::parse();
            if options.inside { bench(&options) } else { network::enter(&arguments) }
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pacing: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(options: &Options) -> anyhow::Result<()> {
    anyhow::ensure!(options.seconds >= 1.0, "--seconds {}: at least 1", options.seconds);
    anyhow::ensure!(options.stations.iter().all(|&n| n > 0), "--stations: each at least 1");
    let seconds = if options.smoke { 2.0 } else { options.seconds };
    // A smoke run, perhaps by a test, shall not replace what was measured.
    let folder = if options.smoke { folder().join("smoke") } else { folder() };
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;

    let fifo = bare::takes_priority();
    if options.capacity {
        return capacity::measure(&folder, seconds.min(TURN), fifo, options.smoke);
    }
    if options.link {
        return link::measure(&folder, seconds, fifo);
    }
    let mut rows = if options.smoke {
        rows::smoke(fifo)
    } else {
        let mut stations: Vec<u16> = options.stations.iter().map(|&n| n.min(MOST)).collect();
        stations.sort_unstable();
        stations.dedup();
        rows::all(&stations, fifo)
    };
    eprintln!(
        "{} rows, {seconds} s each, about {:.0} s in all{}",
        rows.len(),
        rows.iter().filter(|row| row.measurable()).count() as f64 * (seconds + 2.0 * (seconds / TURN).ceil()),
        if fifo { "" } else { "; real-time priority is not granted here (run as root)" }
    );
    let studio = run::Studio::prepare(&folder)?;
    let rounds = (seconds / TURN).ceil();
    let (load, ticks) = (run::load(), run::Ticks::now());
    for round in 1..=rounds as usize {
        for row in rows.iter_mut().filter(|row| row.measurable()) {
            eprint!("\rround {round} of {rounds}: {:<60}", row.title());
            row.add(studio.turn(row, seconds / rounds).with_context(|| row.title())?);
        }
    }
    eprintln!();
    if options.smoke {
        anyhow::ensure!(rows.iter().all(Row::heard), "a sender was not heard for all the time");
    }
    let stolen = run::Ticks::now().zip(ticks).map(|(after, before)| after.stolen_since(before));
    let machine = report::Machine::new(load, stolen);
    println!("{}", report::table(&rows));
    println!("{machine}\n");
    if options.smoke {
        println!("A smoke run: too short for its figures to mean anything.");
    } else {
        println!("{}", report::ratios(&rows));
    }
    if options.threads {
        println!("{}", report::threads(&rows));
    }
    let write = |name: &str, text: String| {
        let file = folder.join(name);
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    };
    write("results.json", report::json(&rows, seconds, &machine)?)?;
    write("lateness.svg", plot::svg(&rows)?)?;
    println!("written: results.json and lateness.svg in {}", folder.display());
    Ok(())
}

/// `target/pacing`.
fn folder() -> PathBuf {
    // Where cargo put the broadcaster: target/release/broadcaster.
    let target = PathBuf::from(env!("CARGO_BIN_EXE_broadcaster"));
    target.ancestors().nth(2).unwrap_or(&target).join("pacing")
}
