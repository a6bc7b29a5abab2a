//! The turns, and what came of them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::abuse::{self, HOLD};
use crate::film::{self, Pictures, QUALITY, WIDTH};
use crate::network::group;
use crate::readers::{BEGIN, Read};

/// Where RTSP, or the bare writer, listens: in a namespace of its own.
pub(crate) const ADDRESS: &str = "127.0.0.1:8554";

/// Where the web listens.
pub(crate) const HTTP: &str = "127.0.0.1:8088";

/// The station that is listened to. Its pictures are due half a millisecond after those of station 1, whose viewers are being
/// served then.
const PROBED: u16 = 35;

const TURN: f64 = 5.0;

/// Helpers end by themselves so long after the turn should be over.
const SPARE: f64 = 30.0;

/// What a row's turns add up to.
#[derive(Default)]
struct Row {
    cpu: Duration,
    wall: Duration,
    read: Read,
    /// Of each turn, in microseconds.
    air_p99: Vec<f64>,
    /// The most of all turns' ends.
    resident: u64,
}

impl Row {
    fn share(&self) -> f64 {
        self.cpu.as_secs_f64() / self.wall.as_secs_f64() * 100.0
    }

    /// The middle one of the turns' p99.
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
    let rounds = (seconds / TURN).ceil();
    for round in 1..=rounds as u32 {
        eprint!("\rround {round} of {rounds}");
        ours(&mut alone, &lineup, folder.path(), Load::None, seconds / rounds)?;
        ours(&mut served, &lineup, folder.path(), Load::Viewers(viewers), seconds / rounds)?;
        // One address may have no more of them.
        ours(&mut by_udp, &lineup, folder.path(), Load::Udp(viewers.min(1024)), seconds / rounds)?;
        ours(&mut abused, &lineup, folder.path(), Load::Abuse, seconds / rounds)?;
        bare_turn(&mut bare, &pictures, viewers, seconds / rounds)?;
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
        "[directory]\nlisten = \"127.0.0.1:9688\"\n[rtsp]\nlisten = \"{ADDRESS}\"\n\
         [http]\nlisten = \"{HTTP}\"\n[reel]\ndir = {reels:?}\n\
         [defaults]\ninterface = \"127.0.0.1\"\nwidth = {WIDTH}\nquality = {QUALITY}\n\
         [[station]]\nid = 1\nname = \"One\"\nmedia = {media:?}\ngroup = \"{group}\"\n\
         [[station]]\nid = {PROBED}\nname = \"Next\"\nmedia = {media:?}\ngroup = \"{next}\"\n"
    );
    let file = folder.join("stations.toml");
    fs::write(&file, text)?;
    Ok(file)
}

/// A process that ends with this.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> anyhow::Result<Running> {
        let child = command.stdin(Stdio::null()).spawn();
        child.map(Running).with_context(|| format!("cannot start {command:?}"))
    }

    fn output(&mut self) -> anyhow::Result<BufReader<ChildStdout>> {
        Ok(BufReader::new(self.0.stdout.take().context("its output")?))
    }

    fn resident(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    fn cpu(&self) -> anyhow::Result<Duration> {
        let clock = nix::time::clock_getcpuclockid(Pid::from_raw(self.0.id().cast_signed()))?;
        Ok(nix::time::clock_gettime(clock)?.into())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command that ends with this program.
fn leashed(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// Who wants something from the sender.
#[derive(Clone, Copy, PartialEq)]
enum Load {
    None,
    Viewers(u32),
    /// The same by UDP.
    Udp(u32),
    Abuse,
}

fn ours(row: &mut Row, lineup: &Path, folder: &Path, load: Load, seconds: f64) -> anyhow::Result<()> {
    let log = folder.join("broadcaster.log");
    let mut command = leashed(BROADCASTER);
    command.arg("--config").arg(lineup).env("NO_COLOR", "1").stderr(File::create(&log)?);
    let sender = Running::start(&mut command)?;
    let from = Instant::now();
    while !fs::read_to_string(&log)?.contains(" on air: ") {
        anyhow::ensure!(from.elapsed() < Duration::from_secs(10), "{}", fs::read_to_string(&log)?);
        std::thread::sleep(Duration::from_millis(10));
    }
    let probe = || {
        let mut command = leashed(VIEWER);
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

fn bare_turn(row: &mut Row, pictures: &Path, viewers: u32, seconds: f64) -> anyhow::Result<()> {
    let mut command = leashed(std::env::current_exe()?);
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
        let mut command = leashed(std::env::current_exe()?);
        _abusers = Some(Running::start(
            command.arg("abuse").arg((HOLD.as_secs_f64() + seconds + SPARE).to_string()),
        )?);
        // By then the first of those who do not read are being closed, and others have come.
        std::thread::sleep(HOLD);
    }
    if let Load::Viewers(viewers) | Load::Udp(viewers) = load {
        let way = if load == Load::Udp(viewers) { "udp" } else { "tcp" };
        let mut command = leashed(std::env::current_exe()?);
        command.args(["read", ADDRESS, &viewers.to_string(), &seconds.to_string(), way]);
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
        let read: Read = serde_json::from_str(&line).context("the readers ended without a word")?;
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
