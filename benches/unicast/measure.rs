//! The rows, their runs, and the results.

use std::fs::{self, File};
use std::io::{BufRead, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;
use tempfile::TempDir;

use crate::abuse::{self, HOLD};
use crate::addresses::{HTTP, RTSP};
use crate::film::{self, Pictures, QUALITY, WIDTH};
use crate::network::group;
use crate::process::{Running, child_command};
use crate::readers::{BEGIN, ReadCounts};

/// The station that is probed. Its pictures are due half a millisecond after those of station 1, while that station's viewers
/// are being served.
const PROBED: u16 = 35;

/// The most seconds of a run.
const LONGEST_RUN: f64 = 5.0;

/// Seconds after which a helper ends by itself, counted from the planned end of the run.
const SPARE: f64 = 30.0;

/// The sum of a row's runs.
#[derive(Default)]
struct Row {
    /// Processor time of the sender.
    cpu: Duration,
    /// How long the sender was measured.
    wall: Duration,
    read: ReadCounts,
    /// The probe's p99 of each run, in microseconds.
    air_p99: Vec<f64>,
    /// Bytes of resident memory at the end of a run, the most of all runs.
    resident: u64,
}

impl Row {
    fn share(&self) -> f64 {
        self.cpu.as_secs_f64() / self.wall.as_secs_f64() * 100.0
    }

    /// The median of the runs' p99.
    fn air(&self) -> f64 {
        let mut all = self.air_p99.clone();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

pub(crate) fn bench(viewers: u32, seconds: f64) -> anyhow::Result<()> {
    let (current, most) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    anyhow::ensure!(
        most > u64::from(viewers.max(abuse::all())) + 64,
        "at most {most} open files: {viewers} viewers, or {} abusers, do not fit",
        abuse::all()
    );
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, most.max(current), most)?;
    let folder = TempDir::new()?;
    let pictures = folder.path().join("pictures");
    Pictures::encode()?.write(&pictures)?;
    let lineup = lineup(folder.path())?;
    let prepared = Command::new(BROADCASTER).args(["prepare", "--config"]).arg(&lineup).output()?;
    anyhow::ensure!(prepared.status.success(), "{}", String::from_utf8_lossy(&prepared.stderr));

    let [mut alone, mut served, mut by_udp, mut bare, mut abused] = [(); 5].map(|()| Row::default());
    let rounds = (seconds / LONGEST_RUN).ceil();
    for round in 1..=rounds as u32 {
        eprint!("\rround {round} of {rounds}");
        run_ours(&mut alone, &lineup, folder.path(), Load::None, seconds / rounds)?;
        run_ours(&mut served, &lineup, folder.path(), Load::Viewers(viewers), seconds / rounds)?;
        // The server's limit for one address.
        run_ours(&mut by_udp, &lineup, folder.path(), Load::Udp(viewers.min(1024)), seconds / rounds)?;
        run_ours(&mut abused, &lineup, folder.path(), Load::Abuse, seconds / rounds)?;
        run_bare(&mut bare, &pictures, viewers, seconds / rounds)?;
    }
    eprintln!();
    println!(
        "| sender | serves | % of a core | MB | pictures a viewer and second (fewest, most) | lost | Gb/s | air p99 us |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|");
    let served_to = format!("{viewers} viewers");
    line("stationcast", "nobody", &alone);
    line("stationcast", &served_to, &served);
    line("stationcast", &format!("{} viewers by UDP", viewers.min(1024)), &by_udp);
    line("stationcast", &format!("{} abusers", abuse::all()), &abused);
    line("bare writer", &served_to, &bare);
    println!();
    println!("CPU: ours / bare: {:.2}, at most 1.3", (served.share() - alone.share()) / bare.share());
    println!("p99 on air: with viewers / without: {:.2}, at most 1.5", served.air() / alone.air());
    println!("p99 on air: with viewers by UDP / without: {:.2}", by_udp.air() / alone.air());
    println!("p99 on air: with abusers / without: {:.2}", abused.air() / alone.air());
    Ok(())
}

fn line(name: &str, serves: &str, row: &Row) {
    let wall = row.wall.as_secs_f64();
    let of = |pictures: u64| pictures as f64 / wall;
    println!(
        "| {name} | {serves} | {:.1} | {:.0} | {:.2}, {:.2} | {} | {:.2} | {:.1} |",
        row.share(),
        row.resident as f64 / 1e6,
        of(row.read.fewest),
        of(row.read.most),
        row.read.lost,
        row.read.bytes as f64 * 8.0 / wall / 1e9,
        row.air()
    );
}

const BROADCASTER: &str = env!("CARGO_BIN_EXE_broadcaster");
const VIEWER: &str = env!("CARGO_BIN_EXE_viewer");

fn lineup(folder: &Path) -> anyhow::Result<PathBuf> {
    let (reels, media, group, next) = (folder.join("reels"), film::path(), group(1), group(PROBED));
    let text = format!(
        "[directory]\nlisten = \"127.0.0.1:9688\"\n[rtsp]\nlisten = \"{RTSP}\"\n\
         [http]\nlisten = \"{HTTP}\"\n[reel]\ndir = {reels:?}\n\
         [defaults]\ninterface = \"127.0.0.1\"\nwidth = {WIDTH}\nquality = {QUALITY}\nsound = false\n\
         [[station]]\nid = 1\nname = \"One\"\nmedia = {media:?}\ngroup = \"{group}\"\n\
         [[station]]\nid = {PROBED}\nname = \"Next\"\nmedia = {media:?}\ngroup = \"{next}\"\n"
    );
    let file = folder.join("stations.toml");
    fs::write(&file, text)?;
    Ok(file)
}

/// The load on the sender.
#[derive(Clone, Copy, PartialEq)]
enum Load {
    None,
    /// So many viewers by RTSP over TCP.
    Viewers(u32),
    /// So many viewers by RTSP over UDP.
    Udp(u32),
    /// All abusive clients.
    Abuse,
}

fn run_ours(row: &mut Row, lineup: &Path, folder: &Path, load: Load, seconds: f64) -> anyhow::Result<()> {
    let log = folder.join("broadcaster.log");
    let mut command = child_command(BROADCASTER, true);
    command.arg("--config").arg(lineup).env("NO_COLOR", "1").stderr(File::create(&log)?);
    let sender = Running::start(&mut command)?;
    let from = Instant::now();
    while !fs::read_to_string(&log)?.contains(" on air: ") {
        anyhow::ensure!(from.elapsed() < Duration::from_secs(10), "{}", fs::read_to_string(&log)?);
        std::thread::sleep(Duration::from_millis(10));
    }
    let probe = || {
        let mut command = child_command(VIEWER, true);
        command.args([
            "--station",
            &PROBED.to_string(),
            "--probe",
            "--json",
            "--seconds",
            &seconds.to_string(),
        ]);
        Running::start(command.stdout(Stdio::piped()))
    };
    measure(row, &sender, load, seconds, Some(&probe))
}

fn run_bare(row: &mut Row, pictures: &Path, viewers: u32, seconds: f64) -> anyhow::Result<()> {
    let mut command = child_command(std::env::current_exe()?, true);
    command.arg("write").arg(pictures).arg(viewers.to_string()).arg((seconds + SPARE).to_string());
    let mut sender = Running::start(command.stdout(Stdio::piped()))?;
    let mut line = String::new();
    let mut output = sender.output()?;
    output.read_line(&mut line)?;
    measure(row, &sender, Load::Viewers(viewers), seconds, None)
}

fn measure(
    row: &mut Row,
    sender: &Running,
    load: Load,
    seconds: f64,
    probe: Option<&dyn Fn() -> anyhow::Result<Running>>,
) -> anyhow::Result<()> {
    let mut readers = None;
    let mut _abusers = None;
    if load == Load::Abuse {
        let mut command = child_command(std::env::current_exe()?, true);
        _abusers = Some(Running::start(
            command.arg("abuse").arg((HOLD.as_secs_f64() + seconds + SPARE).to_string()),
        )?);
        // After that the server is closing the first clients that do not read, and others have come.
        std::thread::sleep(HOLD);
    }
    if let Load::Viewers(viewers) | Load::Udp(viewers) = load {
        let transport = if load == Load::Udp(viewers) { "udp" } else { "tcp" };
        let mut command = child_command(std::env::current_exe()?, true);
        command.args(["read", RTSP, &viewers.to_string(), &seconds.to_string(), transport]);
        let mut running = Running::start(command.stdout(Stdio::piped()))?;
        let mut output = running.output()?;
        let mut line = String::new();
        output.read_line(&mut line)?;
        anyhow::ensure!(line.trim() == BEGIN, "the readers did not begin");
        readers = Some((running, output));
    }
    let (from, before) = (Instant::now(), sender.cpu()?);
    let mut probe = probe.map(|start| start()).transpose()?;
    if let Some((_, output)) = &mut readers {
        let mut line = String::new();
        output.read_line(&mut line)?;
        let read: ReadCounts = serde_json::from_str(&line).context("the readers ended without a word")?;
        row.read.pictures += read.pictures;
        row.read.fewest += read.fewest;
        row.read.most += read.most;
        row.read.lost += read.lost;
        row.read.bytes += read.bytes;
    } else {
        std::thread::sleep(Duration::from_secs_f64(seconds));
    }
    row.cpu += sender.cpu()?.saturating_sub(before);
    row.wall += from.elapsed();
    row.resident = row.resident.max(sender.resident()?);
    if let Some(probe) = &mut probe {
        let mut text = String::new();
        probe.output()?.read_to_string(&mut text)?;
        let measured: Value = serde_json::from_str(&text).context("the probe ended without a word")?;
        let p99 = &measured["pacing_us"]["p99"];
        row.air_p99.push(p99.as_f64().with_context(|| format!("no p99 in {text}"))?);
    }
    Ok(())
}
