//! Lateness and cost of senders, side by side: `cargo bench --bench pacing [-- --seconds N --stations 1,10,100,1000
//! --smoke]`; the most pictures a second that they can send: `-- --capacity`; ten stations on one link: `-- --link`.
//!
//! ```text
//! bench -- unshare --> bench in a network of its own
//!                        |-- one sender at a time: bare, broadcaster, GStreamer, FFmpeg
//!                        |-- four busy processes, or none
//!                        \-- a listener: the library's probe on a sample of the groups
//! ```
//!
//! All rows are measured in runs of a few seconds, round after round, and pooled: what disturbs the machine meanwhile
//! disturbs all of them. Nothing leaves the namespace's loopback, every helper ends by itself, and all end when the bench
//! does.
//!
//! A module imports only those before it: `network`, `process`, `machine`, `film`; `bare` and `listener`, which run as
//! helpers; `rows`; `fixture`; `capacity` and `link`; `report` and `plot`.

#![expect(clippy::disallowed_methods, reason = "a bench is a shell: it reads clocks and sleeps")]

mod bare;
mod capacity;
mod film;
mod fixture;
mod link;
mod listener;
mod machine;
mod network;
mod plot;
mod process;
mod report;
mod rows;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use fixture::Fixture;
use machine::{Machine, Ticks};
use rows::{MAX_STATIONS, Row};

/// The most seconds of a run: the film of 24 s must last for it.
const LONGEST_RUN: f64 = 5.0;

/// Lateness and cost of senders, side by side, in a network of its own.
#[derive(Parser)]
#[command(name = "pacing")]
struct Options {
    /// For how long each row is measured, in runs of up to 5 s
    #[arg(long, default_value_t = 30.0, value_name = "N")]
    seconds: f64,
    /// Numbers of stations; a line-up has at most 999, so that 1000 means 999
    #[arg(long, value_delimiter = ',', default_value = "1,10,100,1000", value_name = "N,N")]
    stations: Vec<u16>,
    /// A few seconds in all: one station, bare and ours, no load
    #[arg(long)]
    smoke: bool,
    /// The most pictures a second that the machine can send: 999 stations at higher and higher rates, runs of up to 5 s
    #[arg(long)]
    capacity: bool,
    /// One station and ten on a link of MTU 1500, by the models of ST 2110-21
    #[arg(long, conflicts_with = "capacity")]
    link: bool,
    /// Show the broadcaster's threads and what each costs
    #[arg(long)]
    threads: bool,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
    /// Whether this is in the namespace already
    #[arg(long, hide = true)]
    inside: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["spin", seconds] => machine::spin(seconds),
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
    // A smoke run, perhaps by a test, must not overwrite measured results.
    let folder = if options.smoke { folder().join("smoke") } else { folder() };
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;

    let fifo = bare::takes_priority();
    if options.capacity {
        return capacity::measure(&folder, seconds.min(LONGEST_RUN), fifo, options.smoke);
    }
    if options.link {
        return link::measure(&folder, seconds, fifo);
    }
    let mut rows = if options.smoke {
        rows::smoke(fifo)
    } else {
        let mut stations: Vec<u16> = options.stations.iter().map(|&n| n.min(MAX_STATIONS)).collect();
        stations.sort_unstable();
        stations.dedup();
        rows::all(&stations, fifo)
    };
    eprintln!(
        "{} rows, {seconds} s each, about {:.0} s in all{}",
        rows.len(),
        rows.iter().filter(|row| row.measurable()).count() as f64
            * (seconds + 2.0 * (seconds / LONGEST_RUN).ceil()),
        if fifo { "" } else { "; real-time priority is not granted here (run as root)" }
    );
    let fixture = Fixture::prepare(&folder)?;
    let rounds = (seconds / LONGEST_RUN).ceil();
    let (load, ticks) = (machine::load(), Ticks::now());
    for round in 1..=rounds as usize {
        for row in rows.iter_mut().filter(|row| row.measurable()) {
            eprint!("\rround {round} of {rounds}: {:<60}", row.title());
            row.add(fixture.run(row, seconds / rounds).with_context(|| row.title())?);
        }
    }
    eprintln!();
    if options.smoke {
        anyhow::ensure!(rows.iter().all(Row::has_arrived), "a sender was not heard for all the time");
    }
    let stolen = Ticks::now().zip(ticks).map(|(after, before)| after.stolen_since(before));
    let machine = Machine::new(load, stolen);
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
    // Cargo put the broadcaster into target/release/.
    let target = PathBuf::from(env!("CARGO_BIN_EXE_broadcaster"));
    target.ancestors().nth(2).unwrap_or(&target).join("pacing")
}
