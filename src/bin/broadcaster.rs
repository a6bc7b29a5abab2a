//! `broadcaster`: keeps every station of a line-up on air until a signal stops it.

#[path = "broadcaster/commands.rs"]
mod commands;
#[path = "broadcaster/play.rs"]
mod play;
#[path = "broadcaster/publish.rs"]
mod publish;
#[path = "broadcaster/token.rs"]
mod token;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use clap::{CommandFactory, Parser, Subcommand};
use stationcast::access::Secret;
use stationcast::clock::wall_clock;
use stationcast::content::decode::be_quiet;
use stationcast::content::film_list::FilmList;
use stationcast::content::prepare::prepare as make_reels;
use stationcast::content::reel::Store;
use stationcast::control::{self, ControlCommand};
use stationcast::daemon::{self, LineupSource, Listeners, listeners, protection, scarcity};
use stationcast::generate::{Generate, manual};
use stationcast::headend::describe::{describe, first_rate};
use stationcast::lineup::{Lineup, has_sound};
use stationcast::log::{failure, without_numbers};
use stationcast::media::StationId;
use stationcast::status::{self, StatusTarget};
use stationcast::tls::pin::Fingerprint;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

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
    /// Print the manual page, or completions for a shell, and end
    #[arg(long, value_name = "WHAT", exclusive = true)]
    generate: Option<Generate>,
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
    /// Put films on air at once, without a line-up, and print how to watch them
    Play(play::Play),
    /// Publish a film or a camera, live, to the RTSP server of a broadcaster
    ///
    /// A line a second tells what is sent. Whatever breaks, it connects again, until a signal ends it. The pictures of a camera of
    /// this machine are sent as they are if they are JPEG.
    Publish(publish::Publish),
    /// Validate a line-up, probe its films, and print both as tables
    Check(Check),
    /// Encode every film in advance, on all cores
    Prepare(LineupFile),
    /// Print a station as SDP, for players
    ///
    /// With FFmpeg: ffplay -protocol_whitelist file,udp,rtp -localaddr ADDRESS -i FILE, where ADDRESS is the receiving
    /// machine's own on the network that the station comes by; 127.0.0.1 on loopback.
    Sdp {
        /// The station
        #[arg(value_name = "NUMBER", value_parser = station)]
        station: u16,
        #[command(flatten)]
        line_up: LineupFile,
    },
    /// Show the status of a running broadcaster's stations
    Status(Status),
    /// Have a running broadcaster adapt to its line-up, which was edited
    ///
    /// Stations that did not change stay on air and lose no packet. A line-up with a fault changes nothing. Exit status: 0 if
    /// it was done, 1 if no broadcaster runs the line-up, 2 if the line-up is wrong.
    Reload(Reload),
    /// Have a station of a running broadcaster show something else
    ///
    /// Pictures that were sent ahead are shown first, so the change is seen within a second. Exit status: 0 if it was done, 1 if it cannot be
    /// done now or if no broadcaster runs the line-up, 2 if there is no such station or film.
    Control(commands::Control),
    /// Add, list and remove the tokens and passwords that stations let in
    Token(token::Token),
}

#[derive(clap::Args)]
struct Reload {
    #[command(flatten)]
    line_up: LineupFile,
    /// Only tell what would change
    #[arg(long)]
    dry_run: bool,
}

#[derive(clap::Args)]
struct Check {
    #[command(flatten)]
    line_up: LineupFile,
    /// Describe each film at length: its colours, its tracks, and why which library decodes it
    #[arg(long)]
    films: bool,
    /// Do not open the films
    #[arg(long, conflicts_with = "films")]
    fast: bool,
}

#[derive(clap::Args)]
struct Status {
    #[command(flatten)]
    line_up: LineupFile,
    /// Where the broadcaster serves HTTP; default: the `http.listen` of the line-up
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    /// Ask by TLS; default: if the line-up says so
    #[arg(long)]
    tls: bool,
    /// Ask by TLS, and only if the certificate has this SHA-256; default: that of the line-up's certificate
    #[arg(long, value_name = "SHA-256")]
    fingerprint: Option<Fingerprint>,
    /// Show the token in this file, so that stations with `access` are told too; or else the one in the environment,
    /// STATIONCAST_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Keep the table up to date until q is pressed
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// Print the JSON that the API answers
    #[arg(long)]
    json: bool,
}

/// A station's number.
fn station(text: &str) -> Result<u16, &'static str> {
    let number = text.parse().ok().filter(|number| (1..=999).contains(number));
    number.ok_or("a station has a number from 1 to 999")
}

fn main() -> ExitCode {
    if let Err(error) = scarcity::exit_if_aborted() {
        failure(&format!("broadcaster: cannot catch signals: {error}"));
        return ExitCode::FAILURE;
    }
    // A panic has said why.
    let code = catch_unwind(command).unwrap_or(ExitCode::FAILURE);
    stationcast::log::flush();
    code
}

fn command() -> ExitCode {
    let cli = Cli::parse();
    if let Some(generate) = cli.generate {
        let done = generate.write(Cli::command(), &manual::broadcaster(), &mut io::stdout());
        return if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let decodes = match &cli.command {
        None | Some(Command::Play(_) | Command::Publish(_) | Command::Prepare(_)) => true,
        Some(Command::Check(check)) => !check.fast,
        Some(_) => false,
    };
    if decodes && let Err(sentence) = scarcity::check_address_space() {
        failure(&format!("broadcaster: {sentence}"));
        return ExitCode::FAILURE;
    }
    // Somebody who plays a film wants to read how to watch it, and needs no real-time priority to try.
    let is_play = matches!(cli.command, Some(Command::Play(_)));
    let usual = if is_play { "warn,stationcast::air=error" } else { "info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    stationcast::log::to_stderr(filter);
    if let Some(Command::Play(_) | Command::Check(_) | Command::Publish(_)) = &cli.command {
        be_quiet();
    }
    if let Some(Command::Publish(options)) = &cli.command {
        return options.run();
    }
    if let Some(Command::Play(options)) = &cli.command {
        return options.run();
    }
    let file = match &cli.command {
        Some(Command::Prepare(line_up) | Command::Sdp { line_up, .. }) => &line_up.config,
        Some(Command::Check(check)) => &check.line_up.config,
        Some(Command::Reload(options)) => {
            let command = ControlCommand::Reload { dry_run: options.dry_run };
            return commands::ask(&options.line_up.config, &command);
        }
        Some(Command::Control(control)) => return control.run(),
        Some(Command::Token(options)) => return options.run(),
        Some(Command::Status(status)) => match &status.http {
            Some(address) => return outcome(show_status(status, address, false, None)),
            None => &status.line_up.config,
        },
        None | Some(Command::Play(_) | Command::Publish(_)) => &cli.line_up.config,
    };
    let lineup = match Lineup::load(file) {
        Ok(lineup) => lineup,
        Err(error) => {
            failure(&without_numbers(&error.to_string()));
            return ExitCode::from(2);
        }
    };
    for note in lineup.notes() {
        warn!("{note}");
    }
    let fingerprint = match protection::check(&lineup) {
        Ok(fingerprint) => fingerprint,
        Err(sentence) => {
            failure(&format!("{}: {sentence}", file.display()));
            return ExitCode::from(2);
        }
    };
    let result = match &cli.command {
        None => broadcast(lineup, Some(file)),
        Some(
            Command::Play(_)
            | Command::Publish(_)
            | Command::Reload(_)
            | Command::Control(_)
            | Command::Token(_),
        ) => Ok(()),
        Some(Command::Prepare(_)) => prepare(&lineup),
        Some(Command::Check(check)) => return show_line_up(&lineup, fingerprint, check),
        Some(Command::Status(status)) => match lineup.http {
            Some(listen) => {
                let tls = lineup.security.http.has_tls();
                show_status(status, &status::address_of(listen), tls, fingerprint.filter(|_| tls))
            }
            None => Err(anyhow!(
                "the line-up has no [http] section, so its broadcaster serves no status; add one, or give the address \
                 of a running broadcaster with --http"
            )),
        },
        Some(Command::Sdp { station, .. }) => match lineup.station(StationId(*station)) {
            Ok(spec) if spec.encrypt.is_some() => Err(anyhow!(
                "station {} is encrypted, and only the running broadcaster knows its key: get /stations/{}.sdp from its web, by \
                 https or on this machine",
                spec.id,
                spec.id
            )),
            Ok(spec) => print(&describe(
                spec,
                lineup.source(spec),
                first_rate(spec),
                has_sound(&spec.sound, &spec.media).then_some(spec.sound_codec),
                None,
            )),
            Err(sentence) => {
                eprintln!("{}: {sentence}", file.display());
                return ExitCode::from(2);
            }
        },
    };
    outcome(result)
}

fn outcome(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            failure(&format!("broadcaster: {}", without_numbers(&format!("{error:#}"))));
            ExitCode::FAILURE
        }
    }
}

/// Broadcasts the line-up of `file`; `None`: one that nobody has written. Then other ports are taken if the usual ones are
/// not free, and it is told how to watch.
fn broadcast(mut lineup: Lineup, file: Option<&Path>) -> anyhow::Result<()> {
    let runtime = scarcity::build(Builder::new_multi_thread().enable_all()).context("cannot start")?;
    let result = runtime.block_on(async {
        let shutdown_signal = shutdown_signal(file.is_none())?;
        let source = file.map(source);
        let listeners = Listeners {
            directory: listen(&mut lineup.directory, "directory", file.is_some())?,
            rtsp: lineup.rtsp.as_mut().map(|address| listen(address, "rtsp", file.is_some())).transpose()?,
            http: lineup.http.as_mut().map(|address| listen(address, "http", file.is_some())).transpose()?,
        };
        if file.is_none() {
            tokio::spawn(play::invite(lineup.clone()));
        }
        // Awaited outside the macro, which evaluates nothing when RUST_LOG disables its level.
        let shutdown = async {
            let cause = shutdown_signal.await;
            info!("{cause}");
        };
        daemon::broadcast(lineup, listeners, source, shutdown).await.context("cannot start its threads")
    });
    // A disk that hangs must not keep the program from ending.
    runtime.shutdown_timeout(Duration::from_millis(200));
    if result.is_ok() {
        // Threads that still decode are left behind. The exit handlers of their libraries would take memory from under them: now and
        // then the program ended with a segmentation fault.
        stationcast::log::flush();
        let _ = io::stdout().flush();
        signal_hook::low_level::exit(0);
    }
    result
}

/// Catches SIGINT and SIGTERM from now on, and SIGHUP if the program is to end with its terminal. The future is ready at the
/// first of them, and names it for the log.
fn shutdown_signal(with_terminal: bool) -> io::Result<impl Future<Output = &'static str>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = with_terminal.then(|| signal(SignalKind::hangup())).transpose()?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "interrupted",
            _ = terminate.recv() => "terminated",
            Some(_) = async { hang_up.as_mut()?.recv().await } => "the terminal is gone",
        }
    })
}

/// The file of the line-up, and the socket of commands on it.
fn source(file: &Path) -> LineupSource {
    let control = control::paths(file).and_then(|paths| control::listen(&paths[0]));
    let control =
        control.inspect_err(|error| warn!("no command reaches this broadcaster, only SIGHUP does: {error}"));
    LineupSource { file: file.to_owned(), control: control.ok() }
}

/// A flag that turns true at SIGINT or SIGTERM, for as long as the runtime is kept.
fn stop_flag() -> io::Result<(Runtime, Arc<AtomicBool>)> {
    let runtime = scarcity::build(Builder::new_multi_thread().worker_threads(1).enable_all())?;
    let stop = Arc::new(AtomicBool::new(false));
    let shutdown_signal = runtime.block_on(async { shutdown_signal(true) })?;
    let turned = stop.clone();
    runtime.spawn(async move {
        shutdown_signal.await;
        turned.store(true, Relaxed);
    });
    Ok((runtime, stop))
}

/// Prints the line-up and its films. Success means that all of these can be played.
fn show_line_up(lineup: &Lineup, fingerprint: Option<Fingerprint>, options: &Check) -> ExitCode {
    let mut text = format!("{}\n", lineup.table());
    if let Some(fingerprint) = fingerprint {
        text += &format!("the certificate has the fingerprint {fingerprint}\n");
    }
    if options.fast {
        return outcome(print(&text));
    }
    let films = FilmList::probe(lineup);
    let list = if options.films { films.details() } else { films.table() };
    if !list.is_empty() {
        text += &format!("\n{list}");
    }
    if let Err(error) = print(&text) {
        return outcome(Err(error));
    }
    if !options.films {
        films.remarks().iter().for_each(|remark| warn!("{remark}"));
    }
    stationcast::log::flush();
    let faults = films.faults();
    let file = options.line_up.config.display();
    for (station, _, sentence) in &faults {
        eprintln!("{file}:{}: station \"{}\": {sentence}", station.line, station.name);
    }
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

/// Prints the result. A reader that stops reading is not a failure.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot print"),
        _ => Ok(()),
    }
}

/// Listens on `address`, which is configured in `[section]` of the line-up. If its port is taken, and `is_fixed` is false,
/// another port is chosen, and `address` has it then.
fn listen(address: &mut SocketAddr, section: &'static str, is_fixed: bool) -> anyhow::Result<TcpListener> {
    let listener = match listeners::listen(*address, section) {
        Err(error) if error.is_taken() && !is_fixed => {
            listeners::listen(SocketAddr::new(address.ip(), 0), section)
        }
        listener => listener,
    }?;
    *address = listener.local_addr()?;
    info!("{section} on {address}");
    Ok(listener)
}

/// Prints the status of the stations of the broadcaster at `address`, or shows it until a key or a signal ends it.
/// Its line-up says whether it serves TLS, and `known` is the fingerprint of its certificate, if that is there.
fn show_status(options: &Status, address: &str, tls: bool, known: Option<Fingerprint>) -> anyhow::Result<()> {
    let fingerprint = options.fingerprint.or(known);
    let token =
        Secret::from_file_or_environment(options.token_file.as_deref()).map_err(anyhow::Error::msg)?;
    let tls = tls || options.tls || fingerprint.is_some();
    let target = StatusTarget { address: address.to_owned(), tls, fingerprint, token };
    if options.json {
        return print(&format!("{}\n", status::fetch_json(&target)?));
    }
    if !options.watch {
        return print(&format!("{}\n", status::table(&status::fetch(&target)?)));
    }
    let (_runtime, stop) = stop_flag()?;
    status::watch(&target, &stop).context("--watch needs a terminal; leave it out")
}

/// Makes the reels. `Ok` means that there is one of every film.
#[expect(clippy::disallowed_methods, reason = "a program is a shell")]
fn prepare(lineup: &Lineup) -> anyhow::Result<()> {
    let dir = lineup
        .reel
        .dir
        .as_ref()
        .context("there is no folder for reels; set `dir` under [reel] in the line-up")?;
    let store = Store::open(dir, lineup.reel.bytes, wall_clock())
        .with_context(|| format!("cannot use the folder {}", dir.display()))?;
    let (_runtime, stop) = stop_flag()?;
    let outcome = make_reels(lineup, &store, &stop);
    let usage = store.usage();
    let megabytes = usage.bytes as f64 / 1e6;
    print(&format!(
        "{} encoded, {} encoded before; {} in {}, {megabytes:.1} MB\n",
        count(outcome.made, "film"),
        outcome.found,
        count(usage.reels, "reel"),
        dir.display()
    ))?;
    stationcast::log::flush();
    for failure in &outcome.failed {
        eprintln!("{failure}");
    }
    ensure!(!outcome.stopped, "stopped before the end; run it again to continue");
    let (failed, films) = (outcome.failed.len(), outcome.made + outcome.found + outcome.failed.len());
    ensure!(failed == 0, "{failed} of {} could not be encoded", count(films, "film"));
    Ok(())
}

/// `1 film`, `2 films`.
fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
