//! `broadcaster`: every station of a line-up on air until it is told to stop.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use stationcast::clock::AirClock;
use stationcast::directory::{Board, Limits, serve};
use stationcast::lineup::Lineup;
use stationcast::station::catalogue::Catalogue;
use stationcast::station::reel::Store;
use stationcast::station::{Studio, keep_on_air, onair::Air};
use stationcast::units::AirTime;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

/// Longest time for stations and connections to end once a signal has come.
const GRACE: Duration = Duration::from_millis(1500);

/// Keeps every station of a line-up on air, for ever.
///
/// Stations are multicast as RTP/JPEG; a directory on TCP tells viewers what is on and where.
/// RUST_LOG sets what is logged (default: info). Exit status: 0 after SIGINT or SIGTERM, 1 for a failure while
/// running, 2 for a wrong line-up or usage.
#[derive(Parser)]
#[command(name = "broadcaster", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    line_up: LineupFile,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Args)]
struct LineupFile {
    /// The line-up
    #[arg(long, value_name = "FILE", default_value = "stations.toml")]
    config: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Validate a line-up and print it as a table
    Check(LineupFile),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    stationcast::log::to_stderr(filter);
    let file = match &cli.command {
        Some(Command::Check(line_up)) => &line_up.config,
        None => &cli.line_up.config,
    };
    let lineup = match Lineup::load(file) {
        Ok(lineup) => lineup,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    for note in lineup.notes() {
        warn!("{note}");
    }
    if cli.command.is_some() {
        println!("{}", lineup.table());
        return ExitCode::SUCCESS;
    }
    match broadcast(lineup) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("broadcaster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn broadcast(lineup: Lineup) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    let result = runtime.block_on(on_air(lineup));
    // A decoder that hangs must not keep the daemon from ending.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

async fn on_air(lineup: Lineup) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(lineup.directory).await.with_context(|| {
        format!(
            "cannot listen on {}, the directory's address; [directory] listen chooses another",
            lineup.directory
        )
    })?;
    info!("directory on {}", lineup.directory);

    let clock = AirClock::start();
    let air = Air::start(clock.clone()).context("cannot start the air thread")?;
    let catalogue = Arc::new(Catalogue::new(clock.clone(), store(&lineup, clock.now())));
    let (stop, stopped) = watch::channel(false);
    let studio = Arc::new(Studio { clock, air, catalogue, board: Board::new(), stop: stopped.clone() });
    let stations: Vec<_> = lineup
        .stations
        .into_iter()
        .map(|station| tokio::spawn(keep_on_air(Arc::new(station), studio.clone())))
        .collect();
    let directory = tokio::spawn(serve(listener, studio.board.clone(), Limits::default(), async move {
        let mut stopped = stopped;
        let _ = stopped.wait_for(|&stop| stop).await;
    }));

    tokio::select! {
        _ = interrupt.recv() => info!("interrupted: going off air"),
        _ = terminate.recv() => info!("terminated: going off air"),
    }
    stop.send_replace(true);
    let end = async {
        for task in stations {
            let _ = task.await;
        }
        let _ = directory.await;
    };
    if tokio::time::timeout(GRACE, end).await.is_err() {
        warn!("a station did not end in time and is left behind");
    }
    Ok(())
}

/// Where the reels are. Without a place for them every pass of a film is encoded anew: no reason to stay off air.
fn store(lineup: &Lineup, now: AirTime) -> Option<(Store, &Path)> {
    let dir = lineup.reel.dir.as_ref().filter(|_| lineup.stations.iter().any(|station| station.reel))?;
    Store::open(dir, lineup.reel.bytes, now)
        .map(|store| (store, dir.as_path()))
        .inspect_err(|error| warn!("no reels are kept: cannot use the folder {}: {error}", dir.display()))
        .ok()
}
