//! `viewer`: shows, counts or measures stations, with a window or without. The library does the work; this file parses
//! the command line.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{ErrorKind, Write, stdout};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Context;
use clap::{ArgGroup, CommandFactory, Parser};
use serde::Serialize;
use stationcast::directory::{self, State, StationInfo, StationNow};
use stationcast::generate::Generate;
use stationcast::interface::named;
use stationcast::media::{AirTime, StationId};
use stationcast::speaker::{Output, Speaker};
use stationcast::viewer::app;
use stationcast::viewer::discover::{self, Search};
use stationcast::viewer::headless::{self, HeadlessPlan};
use stationcast::viewer::measure::{self, ProbeTarget};
use stationcast::viewer::player::{self, Template};
use stationcast::viewer::zapper::{QueuePolicy, ReceiveVia, Zapper};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Shows a station and changes stations live.
///
/// Keys: digits choose a station by its number, up and down the next and the previous one, backspace the last one
/// watched; + and - (or the wheel) change the volume, m mutes; space pauses, i shows information, l shows the line-up, where
/// letters find a name, s saves the picture, f (or a double click) toggles full screen, ? shows the keys, q quits. Exit status:
/// 0 success, 1 failed while running, 2 wrong usage.
#[derive(Parser)]
#[command(name = "viewer", version, group = ArgGroup::new("windowless").args(["headless", "probe"]).multiple(true))]
struct Cli {
    /// The station to show; default: the one watched last in the window, or the first of the line-up
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=999))]
    station: Option<u16>,
    /// The directory's address; default: 127.0.0.1:9688 if one listens there, else the one announced on the network
    /// (mDNS)
    #[arg(long, value_name = "HOST:PORT")]
    directory: Option<String>,
    /// Receive on this interface, by name or address; default: the one towards the directory
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Receive over TCP, by RTSP: every picture, in order, on networks without multicast
    #[arg(long, conflicts_with_all = ["interface", "list", "probe"])]
    tcp: bool,
    /// Print the line-up and exit
    #[arg(long, conflicts_with_all = ["station", "headless", "zap"])]
    list: bool,
    /// Start this player on the station instead of a window, and exit with it: "mpv {sdp}". In braces: sdp (a file),
    /// group, port, local (this machine's address), rtsp, http (URLs), name, station; see docs/players.md
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["windowless", "list", "zap", "tcp"], value_parser = Template::parse)]
    player: Option<Template>,
    /// Receive and count without a window
    #[arg(long)]
    headless: bool,
    /// Measure how packets and pictures arrive, for 10 seconds or --seconds, without a window or decoding
    #[arg(long, conflicts_with_all = ["zap", "list", "frames", "save_frames"])]
    probe: bool,
    /// Measure any RTP stream on this group, whatever its payload
    #[arg(long, value_name = "GROUP:PORT", requires = "probe", conflicts_with_all = ["station", "directory"], value_parser = group)]
    rtp: Option<SocketAddr>,
    /// Clock of that stream's timestamps, in Hz
    #[arg(long, value_name = "HZ", requires = "rtp", default_value = "90000")]
    clock: NonZeroU32,
    /// Draw the measurement into this SVG file
    #[arg(long, value_name = "FILE", requires = "probe")]
    plot: Option<PathBuf>,
    /// Stop after this many seconds
    #[arg(long, value_name = "S", requires = "windowless", value_parser = seconds)]
    seconds: Option<Duration>,
    /// Stop after this many pictures
    #[arg(long, value_name = "N", requires = "headless", value_parser = clap::value_parser!(u64).range(1..))]
    frames: Option<u64>,
    /// Save the JPEG files as received in this folder
    #[arg(long, value_name = "DIR", requires = "headless")]
    save_frames: Option<PathBuf>,
    /// Save the sound as heard in this WAV file; with --save-frames, times.csv says when each picture was shown, in seconds
    /// of that file
    #[arg(long, value_name = "FILE", requires = "headless", conflicts_with_all = ["tcp", "zap"])]
    save_sound: Option<PathBuf>,
    /// Change stations this many times and time each change
    #[arg(long, value_name = "N", requires = "headless", conflicts_with_all = ["seconds", "frames", "save_frames"], value_parser = clap::value_parser!(u32).range(1..))]
    zap: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Folder in which the s key saves pictures
    #[arg(long, value_name = "DIR", default_value = ".")]
    save_to: PathBuf,
    /// Print the manual page, or completions for a shell, and exit
    #[arg(long, value_name = "WHAT", hide = true, exclusive = true)]
    generate: Option<Generate>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    if seconds.is_nan() || seconds <= 0.0 {
        return Err("must be above zero".into());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| "too long".into())
}

fn group(text: &str) -> Result<SocketAddr, String> {
    let group: SocketAddr = text.parse().map_err(|_| "not an address and a port, as in 239.1.1.1:5004")?;
    let ip = group.ip();
    if ip.is_multicast() { Ok(group) } else { Err(format!("{ip} is not a multicast address")) }
}

fn main() -> ExitCode {
    let code = command();
    stationcast::log::flush();
    code
}

fn command() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    stationcast::log::to_stderr(filter);
    if let Some(generate) = cli.generate {
        let done = generate.write(Cli::command(), &mut std::io::stdout());
        return if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let directory = match directory(&cli) {
        Ok(found) => found,
        Err(sentence) => {
            eprintln!("viewer: {sentence}");
            return ExitCode::from(2);
        }
    };
    match run(&cli, directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            stationcast::log::flush();
            eprintln!("viewer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The directory to use: the one that the user names, the one on this machine, or the only one on the network. `None`
/// if there is none yet.
fn directory(cli: &Cli) -> Result<Option<SocketAddr>, String> {
    if let Some(named) = &cli.directory {
        let usage = "a host and a port are needed, as in 127.0.0.1:9688";
        let address = discover::resolve(named);
        return address.map(Some).map_err(|error| format!("--directory {named}: {error}; {usage}"));
    }
    if cli.rtp.is_some() {
        return Ok(None);
    }
    match discover::search(cli.interface.as_deref()) {
        Ok(Search::Here) => Ok(Some(discover::HERE)),
        Ok(Search::Network(found)) => match found.as_slice() {
            [] => {
                eprintln!(
                    "viewer: no directory on this machine, and none is announced on the network (mDNS)"
                );
                Ok(None)
            }
            [one] => {
                eprintln!("viewer: {one}");
                Ok(Some(one.address))
            }
            several => {
                let list: Vec<String> = several.iter().map(|one| format!("\n  {one}")).collect();
                Err(format!("several directories; choose one with --directory ADDRESS:{}", list.concat()))
            }
        },
        Err(error) => {
            eprintln!("viewer: no directory on this machine, and cannot search the network: {error}");
            Ok(None)
        }
    }
}

fn run(cli: &Cli, found: Option<SocketAddr>) -> anyhow::Result<()> {
    let directory = found.unwrap_or(discover::HERE);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    if cli.list {
        let stations = runtime.block_on(directory::list(directory, Duration::from_secs(5)))?;
        // An older directory refuses the question.
        let now = runtime.block_on(directory::now(directory, Duration::from_secs(5))).unwrap_or_default();
        return list(stations, now, cli.json);
    }
    if let Some(interface) = &cli.interface {
        // A typing error is reported now. An interface that vanishes later is awaited.
        named(interface)?;
    }
    if let Some(template) = &cli.player {
        return runtime.block_on(play(template, cli, directory));
    }
    let _within = runtime.enter();
    let station = cli.station.map(StationId);
    let interface = cli.interface.clone();
    if cli.probe {
        let target = match cli.rtp {
            Some(group) => ProbeTarget::Stream { group, clock: cli.clock },
            None => ProbeTarget::Station { directory, station },
        };
        let (seconds, plot) = (cli.seconds, cli.plot.clone());
        let plan = measure::ProbePlan {
            target,
            interface,
            seconds,
            plot,
            talk: !cli.json,
            stop: stop_flag(&runtime)?,
        };
        return print(&measure::run(plan)?, cli.json);
    }
    let via = if cli.tcp {
        let services = runtime.block_on(directory::services(directory, Duration::from_secs(5)))?;
        let none = "this broadcaster serves no RTSP that can be reached from here: see [rtsp] in its line-up";
        ReceiveVia::Tcp(services.rtsp.context(none)?)
    } else {
        ReceiveVia::Multicast { interface }
    };
    if !cli.headless {
        #[cfg_attr(not(feature = "sound"), expect(unused_mut, reason = "only sound changes it"))]
        let mut zapper = Zapper::start(directory, via, QueuePolicy::Newest, app::MEASURED);
        if found.is_none() {
            let interface = cli.interface.clone();
            zapper.search(move || discover::wait(interface.as_deref()))?;
        }
        #[cfg(feature = "sound")]
        zapper.play_sound(Speaker::start(Output::Device).context("cannot play sound")?.0);
        return app::watch(zapper, station, cli.save_to.clone());
    }
    let mut zapper = Zapper::start(directory, via, QueuePolicy::Last(headless::QUEUE), headless::MEASURED);
    let (speaker, thread) =
        Speaker::start(Output::Clock(cli.save_sound.clone())).context("cannot save the sound")?;
    zapper.play_sound(speaker);
    if let Some(hops) = cli.zap {
        let summary = headless::zap(&mut zapper, station, hops as usize)?;
        return print(&summary, cli.json);
    }
    let plan = HeadlessPlan {
        station,
        duration: cli.seconds,
        pictures: cli.frames,
        save: cli.save_frames.clone(),
        times: cli.save_sound.is_some(),
        talk: !cli.json,
        stop: stop_flag(&runtime)?,
    };
    let summary = headless::receive(&mut zapper, &plan);
    // The file is whole when all handles of the speaker are dropped and its thread has ended.
    drop(zapper);
    let _ = thread.join();
    print(&summary?, cli.json)
}

/// A flag that SIGINT (Ctrl-C) or SIGTERM sets, so that a run still prints its summary.
fn stop_flag(runtime: &Runtime) -> anyhow::Result<Arc<AtomicBool>> {
    let _within = runtime.enter();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    runtime.spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        flag.store(true, Relaxed);
    });
    Ok(stop)
}

/// Starts a player on a station, or on the first of the line-up.
async fn play(template: &Template, cli: &Cli, directory: SocketAddr) -> anyhow::Result<()> {
    let id = cli.station.map(StationId);
    let stations = directory::list(directory, Duration::from_secs(5)).await?;
    let station = match id {
        Some(id) => stations.iter().find(|station| station.id == id),
        None => stations.first(),
    };
    let station = station.with_context(|| match id {
        Some(id) => format!("the line-up has no station {id}"),
        None => "the line-up has no station".into(),
    })?;
    player::play(template, station, directory, cli.interface.as_deref()).await
}

fn print<T: Serialize + Display>(summary: &T, json: bool) -> anyhow::Result<()> {
    if json {
        write_line(&serde_json::to_string(summary).context("cannot write JSON")?)
    } else {
        write_line(summary)
    }
}

/// Writes a line to stdout. A reader that closes it early, as `head` does, is not a failure.
fn write_line(text: &dyn Display) -> anyhow::Result<()> {
    match writeln!(stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write the result"),
        _ => Ok(()),
    }
}

/// Seconds, to the millisecond.
fn in_seconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e3).round() / 1e3
}

/// A station of the line-up, with what is on.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    station: StationInfo,
    /// The film that is on; `null` if that is not known.
    now: Option<ListedFilm>,
    /// The title of the film that follows; `null` if that is not known.
    next: Option<String>,
}

/// A film that is on.
#[derive(Serialize)]
struct ListedFilm {
    title: String,
    /// Seconds since it began.
    position_s: f64,
    /// Seconds that it plays; `null` if that is not known.
    length_s: Option<f64>,
}

/// Prints the line-up, and what was on at a moment.
fn list(stations: Vec<StationInfo>, (at, now): (AirTime, Vec<StationNow>), json: bool) -> anyhow::Result<()> {
    let mut now: BTreeMap<_, _> = now.into_iter().map(|station| (station.id, station)).collect();
    let listed = |station: StationInfo| {
        let (film, next) = now.remove(&station.id).map(|now| (now.now, now.next)).unwrap_or_default();
        let now = film.map(|film| ListedFilm {
            position_s: in_seconds(film.position(at)),
            length_s: film.length().map(in_seconds),
            title: film.title,
        });
        Listed { station, now, next }
    };
    let stations: Vec<_> = stations.into_iter().map(listed).collect();
    if json {
        return write_line(&serde_json::to_string(&stations).context("cannot write JSON")?);
    }
    for Listed { station, now, .. } in &stations {
        let size = station.size.map_or_else(|| "-".into(), |size| size.to_string());
        let rate = station.rate.map_or_else(|| "-".into(), |rate| format!("{rate}/s"));
        let state = match &station.state {
            State::Starting => "starting".into(),
            State::Film => now.as_ref().map_or("on air".into(), |film| film.title.clone()),
            State::Slate { reason } => format!("off air: {reason}"),
        };
        write_line(&format_args!(
            "{:>3}  {:<20} {:<24} {size:<10} {rate:<12} {:>3} watching  {state}",
            station.id, station.name, station.group, station.audience
        ))?;
    }
    Ok(())
}
