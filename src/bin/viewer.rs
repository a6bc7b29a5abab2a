//! `viewer`: shows, counts or measures stations, with a window or without. The library does the work; this file parses
//! the command line.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{ErrorKind, Write, stdout};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::error::ErrorKind as UsageError;
use clap::{ArgGroup, CommandFactory, Parser};
use serde::Serialize;
use stationcast::access::Secret;
use stationcast::directory::{self, Endpoint, Reach, StationInfo, StationNow};
use stationcast::generate::{Generate, manual};
use stationcast::interface::named;
use stationcast::log::without_numbers;
use stationcast::media::{AirTime, StationId};
use stationcast::speaker::{Output, Speaker};
use stationcast::tls::pin::{Fingerprint, KnownServers};
use stationcast::viewer::app;
use stationcast::viewer::discover::{self, Search};
use stationcast::viewer::headless::{self, HeadlessPlan};
use stationcast::viewer::listing;
use stationcast::viewer::measure::{self, ProbeTarget};
use stationcast::viewer::player::{self, Template};
use stationcast::viewer::rtsp;
use stationcast::viewer::stream::{Stream, StreamError};
use stationcast::viewer::zapper::{QueuePolicy, ReceiveVia, Zapper};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Shows a station and changes stations live.
///
/// Keys: digits choose a station by its number, up and down the next and the previous one, backspace the last one
/// watched; + and - (or the wheel) change the volume, m mutes; space pauses, i shows information, l shows the line-up, where
/// letters find a name, t shows all stations, s saves the picture, f (or a double click) toggles full screen, ? shows the keys, q quits. Exit status:
/// 0 success, 1 failed while running, 2 wrong usage.
#[derive(Parser)]
#[command(name = "viewer", version, group = ArgGroup::new("windowless").args(["headless", "probe"]).multiple(true))]
struct Cli {
    /// The station to show; default: the one watched last in the window, or the first of the line-up
    #[arg(long, value_name = "NUMBER", value_parser = station)]
    station: Option<u16>,
    /// The directory's address; default: 127.0.0.1:9688 if one listens there, else the one announced on the network
    /// (mDNS)
    #[arg(long, value_name = "HOST:PORT")]
    directory: Option<String>,
    /// Reach the directory by TLS. Its certificate is remembered, and one that was remembered is reached by TLS without this
    #[arg(long, conflicts_with_all = ["rtp", "sdp", "pcap"])]
    tls: bool,
    /// Reach the directory, or the server of --sdp rtsps://, by TLS, and only if its certificate has this SHA-256, which the broadcaster
    /// prints when it starts
    #[arg(long, value_name = "SHA-256", conflicts_with_all = ["rtp", "pcap"])]
    fingerprint: Option<Fingerprint>,
    /// Show the directory, and RTSP servers, the token in this file, by TLS; or else the one in the environment, STATIONCAST_TOKEN
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rtp", "pcap"])]
    token_file: Option<PathBuf>,
    /// Receive on this interface, by name or address; default: the one towards the directory
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Show all stations at once in the window, or those of these numbers; the key t goes to one of them and back
    #[arg(long, value_name = "NUMBERS", num_args = 0..=1, value_delimiter = ',', conflicts_with_all = ["windowless", "list", "player", "rtp", "sdp"], value_parser = station)]
    mosaic: Option<Vec<u16>>,
    /// Receive over TCP, by RTSP: every picture, in order, on networks without multicast; by TLS if the directory is reached by TLS and
    /// RTSP speaks it
    #[arg(long, conflicts_with_all = ["interface", "list", "probe"])]
    tcp: bool,
    /// Show only pictures that are signed by the broadcaster of the directory, which is reached by TLS or on this machine
    #[arg(long, conflicts_with_all = ["list", "probe", "player"])]
    require_signed: bool,
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
    /// Receive the RTP/JPEG pictures on this group, whoever sends them, without a directory; with --probe, measure any RTP
    /// stream on it
    #[arg(long, value_name = "GROUP:PORT", conflicts_with_all = ["station", "directory", "tcp", "list", "player", "zap"], value_parser = group)]
    rtp: Option<SocketAddr>,
    /// Receive what this session description says, sound included: a file, - for standard input, or a URL of http, rtsp or
    /// rtsps
    #[arg(long, value_name = "FILE|URL", conflicts_with_all = ["station", "directory", "tcp", "list", "player", "zap", "probe", "rtp"])]
    sdp: Option<String>,
    /// Measure an RTP stream of this capture (pcap, pcapng): the only one, or the one to --rtp
    #[arg(long, value_name = "FILE", requires = "probe", conflicts_with_all = ["station", "directory", "interface"])]
    pcap: Option<PathBuf>,
    /// Clock of that stream's timestamps, in Hz
    #[arg(long, value_name = "HZ", requires = "probe", default_value = "90000", value_parser = hertz)]
    clock: NonZeroU32,
    /// Draw the measurement into this SVG file
    #[arg(long, value_name = "FILE", requires = "probe")]
    plot: Option<PathBuf>,
    /// Stop after this many seconds
    #[arg(long, value_name = "S", requires = "windowless", value_parser = seconds)]
    seconds: Option<Duration>,
    /// Stop after this many pictures
    #[arg(long, value_name = "N", requires = "headless", value_parser = count::<u64>)]
    frames: Option<u64>,
    /// Save the JPEG files as received in this folder
    #[arg(long, value_name = "DIR", requires = "headless")]
    save_frames: Option<PathBuf>,
    /// Save the sound as heard in this WAV file; with --save-frames, times.csv says when each picture was shown, in seconds
    /// of that file
    #[arg(long, value_name = "FILE", requires = "headless", conflicts_with = "zap")]
    save_sound: Option<PathBuf>,
    /// Change stations this many times and time each change
    #[arg(long, value_name = "N", requires = "headless", conflicts_with_all = ["seconds", "frames", "save_frames"], value_parser = count::<u32>)]
    zap: Option<u32>,
    /// Print the result of --list, --headless or --probe as JSON
    #[arg(long)]
    json: bool,
    /// Folder in which the s key saves pictures
    #[arg(long, value_name = "DIR", default_value = ".")]
    save_to: PathBuf,
    /// Print the manual page, or completions for a shell, and exit
    #[arg(long, value_name = "WHAT", exclusive = true)]
    generate: Option<Generate>,
}

/// A station's number.
fn station(text: &str) -> Result<u16, &'static str> {
    let number = text.parse().ok().filter(|number| (1..=999).contains(number));
    number.ok_or("a station has a number from 1 to 999")
}

/// A whole number from 1 that fits `N`.
fn count<N: FromStr + PartialOrd + Default>(text: &str) -> Result<N, &'static str> {
    text.parse().ok().filter(|number| *number > N::default()).ok_or("write a whole number, 1 or more")
}

fn hertz(text: &str) -> Result<NonZeroU32, &'static str> {
    text.parse().map_err(|_| "write a whole number of Hz, 1 or more")
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "this is not a number of seconds")?;
    if seconds.is_nan() || seconds <= 0.0 {
        return Err("write a number above 0".into());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| "this is too long".into())
}

fn group(text: &str) -> Result<SocketAddr, String> {
    let group: Option<SocketAddr> = text.parse().ok().filter(|group: &SocketAddr| group.port() != 0);
    group.ok_or_else(|| "write an address and a port, as in 239.1.1.1:5004".into())
}

fn main() -> ExitCode {
    let code = command();
    stationcast::log::flush();
    code
}

fn command() -> ExitCode {
    let cli = Cli::parse();
    if cli.json && !(cli.list || cli.headless || cli.probe) {
        let sentence = "--json needs --list, --headless or --probe: a window has no result to print";
        Cli::command().error(UsageError::MissingRequiredArgument, sentence).exit();
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    stationcast::log::to_stderr(filter);
    if let Some(generate) = cli.generate {
        let done = generate.write(Cli::command(), &manual::viewer(), &mut std::io::stdout());
        return if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let usage = |sentence: &dyn Display| {
        eprintln!("viewer: {}", without_numbers(&sentence.to_string()));
        ExitCode::from(2)
    };
    if let (Some(station), Some(mosaic)) = (cli.station, &cli.mosaic)
        && !mosaic.is_empty()
        && !mosaic.contains(&station)
    {
        return usage(&format!(
            "--station {station} is not among the stations of --mosaic; add it, or leave it out"
        ));
    }
    if let Some(sentence) = unsigned(&cli).filter(|_| cli.require_signed) {
        return usage(&sentence);
    }
    let reach = match reach(&cli) {
        Ok(reach) => reach,
        Err(sentence) => return usage(&sentence),
    };
    let stream = match stream(&cli, &reach) {
        Ok(stream) => stream,
        Err(error @ StreamError::Usage(_)) => return usage(&error),
        Err(error @ StreamError::Failed(_)) => {
            eprintln!("viewer: {}", without_numbers(&error.to_string()));
            return ExitCode::FAILURE;
        }
    };
    let directory = match directory(&cli) {
        Ok(found) => found,
        Err(sentence) => return usage(&sentence),
    };
    match run(&cli, directory, reach, stream) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            stationcast::log::flush();
            eprintln!("viewer: {}", without_numbers(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

/// Why pictures cannot be verified that are received in this way; `None` if they can.
fn unsigned(cli: &Cli) -> Option<&'static str> {
    if cli.rtp.is_some() || cli.sdp.is_some() {
        return Some(
            "--require-signed needs a directory, which tells the keys of its stations; leave out --rtp or --sdp",
        );
    }
    if cli.tcp {
        return Some("--require-signed needs multicast: no signatures come by RTSP; leave out --tcp");
    }
    cli.mosaic.as_ref().map(|_| {
        "--require-signed shows one station: the pictures of a mosaic are not verified; leave out --mosaic"
    })
}

/// The stream that the user names instead of a station; `None` for a station, or to be measured.
fn stream(cli: &Cli, reach: &Reach) -> Result<Option<Stream>, StreamError> {
    let interface = cli.interface.as_deref();
    // Captures have streams of any destination.
    if let Some(group) = cli.rtp.filter(|group| !group.ip().is_multicast() && cli.pcap.is_none()) {
        let ip = group.ip();
        return Err(StreamError::Usage(format!("--rtp {group}: {ip} is not a multicast address")));
    }
    match (&cli.sdp, cli.rtp.filter(|_| !cli.probe)) {
        (Some(place), _) => Stream::described(place, interface, reach).map(Some),
        (None, Some(group)) => Stream::of_group(group, interface).map(Some),
        (None, None) => Ok(None),
    }
}

/// The directory to use: the one that the user names, the one on this machine, or the only one on the network. `None`
/// if there is none yet.
fn directory(cli: &Cli) -> Result<Option<SocketAddr>, String> {
    if let Some(named) = &cli.directory {
        return discover::resolve(named).map(Some).map_err(|error| match error.kind() {
            ErrorKind::InvalidInput => {
                format!("--directory {named} is not a host and a port, as in 127.0.0.1:9688")
            }
            _ => format!("cannot find the host of --directory {named}: {error}"),
        });
    }
    if cli.rtp.is_some() || cli.sdp.is_some() || cli.pcap.is_some() {
        return Ok(None);
    }
    match discover::search(cli.interface.as_deref()) {
        Ok(Search::Here) => Ok(Some(discover::HERE)),
        Ok(Search::Network(found)) => match found.as_slice() {
            [] => {
                eprintln!(
                    "viewer: no broadcaster was found, neither on this machine nor on the network by mDNS. Is one running? \
                     --directory HOST:PORT names one"
                );
                Ok(None)
            }
            [one] => {
                eprintln!("viewer: {one}");
                Ok(Some(one.address))
            }
            several => {
                let list: Vec<String> = several.iter().map(|one| format!("\n  {one}")).collect();
                Err(format!("several broadcasters; choose one with --directory ADDRESS:{}", list.concat()))
            }
        },
        Err(error) => {
            eprintln!(
                "viewer: no broadcaster runs on this machine, and the network cannot be searched: {error}"
            );
            Ok(None)
        }
    }
}

/// How directories are reached.
fn reach(cli: &Cli) -> Result<Reach, String> {
    let token = Secret::from_file_or_environment(cli.token_file.as_deref())?;
    let known = KnownServers::of_this_user();
    Ok(Reach { tls: cli.tls, fingerprint: cli.fingerprint, known, token })
}

fn run(cli: &Cli, found: Option<SocketAddr>, reach: Reach, stream: Option<Stream>) -> anyhow::Result<()> {
    let directory = Endpoint { address: found.unwrap_or(discover::HERE), reach };
    if let Some(sentence) = directory.token_is_unsafe() {
        bail!("{sentence}");
    }
    if cli.require_signed && found.is_some() && !directory.is_safe() {
        bail!(
            "the directory at {} is reached by a plain connection, and its keys may be anybody's: try --tls",
            directory.address
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    if cli.list {
        let stations = runtime.block_on(directory::list(directory.clone(), Duration::from_secs(5)))?;
        // An older directory refuses the question.
        let now =
            runtime.block_on(directory::now(directory.clone(), Duration::from_secs(5))).unwrap_or_default();
        return list(stations, now, cli.json);
    }
    if let Some(interface) = &cli.interface {
        // A typing error is reported now. An interface that vanishes later is awaited.
        named(interface)?;
    }
    if let Some(template) = &cli.player {
        return runtime.block_on(play(template, cli, &directory));
    }
    let _within = runtime.enter();
    let station = cli.station.map(StationId);
    let interface = cli.interface.clone();
    if cli.probe {
        let target = match (&cli.pcap, cli.rtp) {
            (Some(file), to) => ProbeTarget::Capture { file: file.clone(), to, clock: cli.clock },
            (None, Some(group)) => ProbeTarget::Stream { group, clock: cli.clock },
            (None, None) => ProbeTarget::Station { directory, station },
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
        let services = runtime.block_on(directory::services(directory.clone(), Duration::from_secs(5)))?;
        let none = "this broadcaster does not serve RTSP to this machine; see [rtsp] in its line-up";
        let (server, is_less_safe) = rtsp::reach(&directory, services.rtsp.context(none)?)?;
        if is_less_safe {
            eprintln!(
                "viewer: RTSP at {} speaks no TLS: anybody on the way can see what is watched",
                server.address
            );
        }
        ReceiveVia::Tcp(server.into())
    } else {
        ReceiveVia::Multicast { interface, require_signed: cli.require_signed }
    };
    let is_stream = stream.is_some();
    let zapper = |policy, measured| match stream {
        Some(stream) => Zapper::receive_stream(stream, policy, measured),
        None => Zapper::start(directory, via, policy, measured),
    };
    if !cli.headless {
        #[cfg_attr(not(feature = "sound"), expect(unused_mut, reason = "only sound changes it"))]
        let mut zapper = zapper(QueuePolicy::Newest, app::MEASURED);
        let mosaic = cli.mosaic.as_ref().map(|ids| ids.iter().copied().map(StationId).collect());
        if found.is_none() && !is_stream {
            let interface = cli.interface.clone();
            zapper.search(move || discover::wait(interface.as_deref()))?;
        }
        #[cfg(feature = "sound")]
        zapper.play_sound(Speaker::start(Output::Device).context("cannot play sound")?.0);
        return app::watch(zapper, station, mosaic, cli.save_to.clone());
    }
    let mut zapper = zapper(QueuePolicy::Last(headless::QUEUE), headless::MEASURED);
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
    let summary = summary?;
    print(&summary, cli.json)?;
    summary.verdict()
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
async fn play(template: &Template, cli: &Cli, directory: &Endpoint) -> anyhow::Result<()> {
    let id = cli.station.map(StationId);
    let stations = directory::list(directory.clone(), Duration::from_secs(5)).await?;
    let station = match id {
        Some(id) => stations.iter().find(|station| station.id == id),
        None => stations.first(),
    };
    let station = station.with_context(|| match id {
        Some(id) => format!("there is no station {id}; viewer --list shows them"),
        None => "the line-up is empty".into(),
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
    let rows = stations
        .iter()
        .map(|Listed { station, now, .. }| (station, now.as_ref().map(|film| &film.title[..])));
    write_line(&listing::table(rows))
}
