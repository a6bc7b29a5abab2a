//! One turn of a row: a sender, load if wanted, and the listener; then all are ended.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::unistd::Pid;
use stationcast::media::FrameRate;
use tempfile::TempDir;

use crate::film::{self, HEIGHT, Pictures, QUALITY, WIDTH};
use crate::link;
use crate::listener::{BEGIN, Heard};
use crate::network::group;
use crate::rows::{Row, Sender};

/// Busy processes beside a sender.
const BUSY: usize = 4;

/// Helpers end by themselves so long after the turn should be over.
const SPARE: f64 = 20.0;

/// Stations listened to, of many.
const SAMPLE: u16 = 10;

/// All stations are on air after this, or never.
const ON_AIR: Duration = Duration::from_secs(30);

/// A sender that is told to ends in this time.
const ENDING: Duration = Duration::from_secs(5);

const BROADCASTER: &str = env!("CARGO_BIN_EXE_broadcaster");

/// One turn, measured.
pub(crate) struct Turn {
    pub(crate) heard: Heard,
    /// Processor time of the sender,
    pub(crate) cpu: Duration,
    /// in this time.
    pub(crate) wall: Duration,
    /// Seconds of processor time by the names of its threads.
    pub(crate) threads: BTreeMap<String, f64>,
    /// Bytes.
    pub(crate) resident: u64,
    /// Pictures that were not sent, by the broadcaster's last line.
    pub(crate) skipped: u64,
    /// From its start until all stations were on air.
    pub(crate) start: Option<Duration>,
}

/// A process that ends with this.
struct Running(Child);

impl Running {
    /// It ends with this program too, even if that is killed.
    fn start(mut command: Command) -> anyhow::Result<Running> {
        let child = command.stdin(Stdio::null()).spawn();
        child.map(Running).with_context(|| format!("cannot start {command:?}"))
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().cast_signed())
    }

    fn must_run(&mut self, log: &Path) -> anyhow::Result<()> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the sender ended too early ({status}): {}", last_lines(log)),
        }
    }
}

impl Running {
    /// Tells it to end, and waits until it has.
    fn end(&mut self) -> anyhow::Result<()> {
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.0),
            rustix::process::Signal::TERM,
        )?;
        let from = Instant::now();
        while self.0.try_wait()?.is_none() {
            anyhow::ensure!(from.elapsed() < ENDING, "it did not end in {} s", ENDING.as_secs());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What all turns need.
pub(crate) struct Studio {
    folder: TempDir,
    /// What all stations play.
    film: PathBuf,
}

impl Studio {
    /// Encodes the film for the bare sender, and has the broadcaster make its reel.
    pub(crate) fn prepare(folder: &Path) -> anyhow::Result<Studio> {
        anyhow::ensure!(
            Path::new(BROADCASTER).exists(),
            "there is no {BROADCASTER}: build it with `cargo build --release`"
        );
        let studio = Studio { folder: TempDir::new_in(folder)?, film: film::path() };
        Pictures::encode().context("the demo film")?.write(&studio.pictures())?;
        studio.record()?;
        Ok(studio)
    }

    /// The same, of the film with its pictures at another rate.
    pub(crate) fn at_rate(folder: &Path, rate: FrameRate) -> anyhow::Result<Studio> {
        let folder = TempDir::new_in(folder)?;
        let studio = Studio { film: folder.path().join("film.mp4"), folder };
        film::retime(rate, &studio.film)?;
        Pictures { rate, ..Pictures::encode()? }.write(&studio.pictures())?;
        studio.record()?;
        Ok(studio)
    }

    /// Makes the film's reel.
    fn record(&self) -> anyhow::Result<()> {
        let lineup = self.lineup(1, "127.0.0.1", true)?;
        let output = Command::new(BROADCASTER).args(["prepare", "--config"]).arg(&lineup).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "broadcaster prepare: {}", said.trim());
        Ok(())
    }

    /// Has so many stations send over the [link], and a listener at its other end say what it hears for `seconds`.
    pub(crate) fn on_link(&self, stations: u16, seconds: f64, fifo: bool) -> anyhow::Result<()> {
        let log = self.folder.path().join("link.log");
        let lineup = self.lineup(stations, link::INTERFACE, true)?;
        let mut sender = Running::start(self.broadcaster(&lineup, Some(link::TOWER), fifo, &log)?)?;
        await_log(&mut sender, &log, " on air: ", stations.into(), ON_AIR)?;
        let mut listener = leashed("ip", false);
        listener.args(["netns", "exec", link::AWAY]).arg(std::env::current_exe()?);
        listener.args(["hear", &seconds.to_string(), &stations.to_string()]);
        let heard = Running::start(listener)?.0.wait()?;
        sender.must_run(&log)?;
        sender.end()?;
        anyhow::ensure!(heard.success(), "the listener failed");
        Ok(())
    }

    fn pictures(&self) -> PathBuf {
        self.folder.path().join("pictures")
    }

    /// Has `row` send for `seconds`, and measures it.
    pub(crate) fn turn(&self, row: &Row, seconds: f64) -> anyhow::Result<Turn> {
        let log = self.folder.path().join("sender.log");
        let lineup = self.lineup(row.stations, "127.0.0.1", row.sender != Sender::Live)?;
        let command = match row.sender {
            Sender::Ours | Sender::Live => self.broadcaster(&lineup, None, row.fifo, &log)?,
            Sender::Bare => {
                let mut command = leashed(std::env::current_exe()?, row.fifo);
                command.arg("send").arg(self.pictures()).arg(row.stations.to_string());
                command.args([if row.fifo { "fifo" } else { "plain" }, &format!("{}", seconds + SPARE)]);
                command
            }
            Sender::GStreamer => gstreamer(),
            Sender::Ffmpeg => ffmpeg(),
        };
        let mut command = command;
        if !row.sender.is_ours() {
            command.stdout(Stdio::null()).stderr(File::create(&log)?);
        }
        let began = Instant::now();
        let mut sender = Running::start(command)?;
        let start = match row.sender {
            Sender::Ours | Sender::Live => {
                await_log(&mut sender, &log, " on air: ", row.stations.into(), ON_AIR)?;
                let start = began.elapsed();
                let granted = fs::read_to_string(&log)?.contains("has real-time priority");
                anyhow::ensure!(granted == row.fifo, "real-time priority: {granted}, not {}", row.fifo);
                Some(start)
            }
            _ => None,
        };

        let this = std::env::current_exe()?;
        let _load = (0..if row.busy { BUSY } else { 0 })
            .map(|_| {
                let mut command = leashed(&this, false);
                command.args(["spin", &format!("{}", seconds + SPARE)]);
                Running::start(command)
            })
            .collect::<anyhow::Result<Vec<Running>>>()?;
        let mut command = leashed(&this, false);
        command.args(["listen", &seconds.to_string(), &sample(row.stations)]).stdout(Stdio::piped());
        let mut listener = Running::start(command)?;
        let mut heard = BufReader::new(listener.0.stdout.take().context("the listener's output")?);
        let mut line = String::new();
        heard.read_line(&mut line)?;
        if line.trim() != BEGIN {
            sender.must_run(&log)?;
            bail!("the listener heard nothing; the sender says: {}", last_lines(&log));
        }
        let (from, before, threads_before) = (Instant::now(), cpu(sender.pid())?, threads(sender.pid()));
        line.clear();
        heard.read_to_string(&mut line)?;
        let (wall, after, threads_after) = (from.elapsed(), cpu(sender.pid())?, threads(sender.pid()));
        sender.must_run(&log)?;
        let resident = resident(sender.pid())?;
        if row.sender.is_ours() {
            sender.end()?;
        }
        let mut by_name = BTreeMap::new();
        for (thread, (name, after)) in threads_after {
            let before = threads_before.get(&thread).map_or(0, |(_, before)| *before);
            *by_name.entry(name).or_default() += after.saturating_sub(before) as f64 / 1e9;
        }
        Ok(Turn {
            heard: serde_json::from_str(&line).context("the listener ended without a word")?,
            cpu: after.saturating_sub(before),
            wall,
            threads: by_name,
            resident,
            skipped: match row.sender {
                Sender::Ours | Sender::Live => skipped(&fs::read_to_string(&log)?)?,
                _ => 0,
            },
            start,
        })
    }

    /// `host`: the network namespace it runs in, if not this one.
    fn broadcaster(
        &self,
        lineup: &Path,
        host: Option<&str>,
        fifo: bool,
        log: &Path,
    ) -> anyhow::Result<Command> {
        let mut command = leashed(if host.is_some() { "ip" } else { BROADCASTER }, fifo);
        if let Some(host) = host {
            command.args(["netns", "exec", host, BROADCASTER]);
        }
        command.arg("--config").arg(lineup).env("RUST_LOG", "info").env("NO_COLOR", "1");
        command.stdout(Stdio::null()).stderr(File::create(log)?);
        Ok(command)
    }

    /// A line-up of so many stations, all of which play the same film.
    fn lineup(&self, stations: u16, interface: &str, reel: bool) -> anyhow::Result<PathBuf> {
        let reels = self.folder.path().join("reels");
        let mut text = format!(
            "[directory]\nlisten = \"127.0.0.1:9688\"\n[reel]\ndir = {reels:?}\n[defaults]\ninterface = {interface:?}\n\
             width = {WIDTH}\nquality = {QUALITY}\nreel = {reel}\n"
        );
        for station in 1..=stations {
            let (group, media) = (group(station), &self.film);
            writeln!(
                text,
                "[[station]]\nid = {station}\nname = \"Station {station}\"\nmedia = {media:?}\ngroup = \"{group}\""
            )?;
        }
        let file = self.folder.path().join(format!("stations-{stations}-{reel}.toml"));
        fs::write(&file, text)?;
        Ok(file)
    }
}

/// A command that ends with this program, and gets real-time priority only if it shall.
fn leashed(program: impl AsRef<std::ffi::OsStr>, fifo: bool) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if !fifo {
        command.args(["--bounding-set=-sys_nice", "--inh-caps=-sys_nice"]);
    }
    command.arg(program);
    command
}

fn gstreamer() -> Command {
    let mut command = leashed("gst-launch-1.0", false);
    let (host, port) = (group(1).ip(), group(1).port());
    let pipeline = format!(
        "decodebin ! videoscale ! video/x-raw,width={WIDTH},height={HEIGHT} ! jpegenc quality={QUALITY} ! \
         rtpjpegpay mtu=65000 ! udpsink host={host} port={port} multicast-iface=lo ttl-mc=1 auto-multicast=false sync=true"
    );
    command.args(["-q", "filesrc"]).arg(format!("location={}", film::path().display())).arg("!");
    command.args(pipeline.split(' '));
    command
}

fn ffmpeg() -> Command {
    let mut command = leashed("ffmpeg", false);
    command.args(["-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i"]).arg(film::path());
    command.args(["-an", "-vf", &format!("scale={WIDTH}:{HEIGHT}"), "-pix_fmt", "yuvj420p", "-c:v", "mjpeg"]);
    // About as many bytes as at quality 80, with the tables that RTP/JPEG wants.
    command.args(["-q:v", "4", "-huffman", "default", "-force_duplicated_matrix", "1", "-f", "rtp"]);
    command.arg(format!("rtp://{}?pkt_size=65000&ttl=1", group(1)));
    command
}

/// Whether a program is there to be started.
pub(crate) fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Some of the stations, evenly spread.
fn sample(stations: u16) -> String {
    let most = SAMPLE.min(stations);
    let nth = |n: u16| 1 + (u32::from(n) * u32::from(stations) / u32::from(most)) as u16;
    (0..most).map(|n| nth(n).to_string()).collect::<Vec<_>>().join(",")
}

fn await_log(
    sender: &mut Running,
    log: &Path,
    text: &str,
    times: usize,
    patience: Duration,
) -> anyhow::Result<()> {
    let from = Instant::now();
    loop {
        let found = fs::read_to_string(log)?.matches(text).count();
        if found >= times {
            return Ok(());
        }
        sender.must_run(log)?;
        anyhow::ensure!(
            from.elapsed() < patience,
            "after {} s the broadcaster had said {text:?} {found} times, not {times}: {}",
            patience.as_secs(),
            last_lines(log)
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(3)..].join(" / ")
}

/// Pictures not sent, by the broadcaster's last line: `off air: 250 pictures aired by 1 stations, 3 skipped late, 0 squeezed,
/// 2 not sent; lateness ...`.
fn skipped(log: &str) -> anyhow::Result<u64> {
    let line = log.lines().find_map(|line| line.split_once("off air: ")).context("no totals in the log")?.1;
    let count = |what: &str| {
        let part = line
            .split([',', ';'])
            .find_map(|part| part.trim().strip_suffix(what))
            .context(what.to_owned())?;
        part.trim().parse::<u64>().with_context(|| format!("{what}: {part}"))
    };
    Ok(count("skipped late")? + count("not sent")?)
}

/// All processor time that a process ever took.
fn cpu(process: Pid) -> anyhow::Result<Duration> {
    // Finer than the ticks of /proc/PID/stat, and with the threads that have ended.
    let clock = nix::time::clock_getcpuclockid(process).context("the sender ended too early")?;
    Ok(nix::time::clock_gettime(clock)?.into())
}

/// The processor time of each living thread in nanoseconds, with its name.
fn threads(process: Pid) -> BTreeMap<String, (String, u64)> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else { return BTreeMap::new() };
    let task = |folder: PathBuf| {
        let name = fs::read_to_string(folder.join("comm")).ok()?.trim().to_owned();
        let ran = fs::read_to_string(folder.join("schedstat")).ok()?.split(' ').next()?.parse().ok()?;
        Some((folder.file_name()?.to_string_lossy().into_owned(), (name, ran)))
    };
    tasks.flatten().filter_map(|entry| task(entry.path())).collect()
}

fn resident(process: Pid) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024)
}

/// Ticks of a hundredth of a second that the machine's processors spent, as /proc/stat counts them.
#[derive(Clone, Copy)]
pub(crate) struct Ticks {
    /// Taken by the host of this virtual machine.
    stolen: u64,
    all: u64,
}

impl Ticks {
    pub(crate) fn now() -> Option<Ticks> {
        let text = fs::read_to_string("/proc/stat").ok()?;
        let ticks: Vec<u64> =
            text.lines().next()?.split_whitespace().skip(1).flat_map(str::parse).take(8).collect();
        Some(Ticks { stolen: *ticks.get(7)?, all: ticks.iter().sum() })
    }

    /// The share of all processors' time that the host took since `before`.
    pub(crate) fn stolen_since(self, before: Ticks) -> f64 {
        self.stolen.saturating_sub(before.stolen) as f64 / self.all.saturating_sub(before.all).max(1) as f64
    }
}

/// How many processes ran or waited for a processor over the last minute, on average.
pub(crate) fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// Keeps a processor busy.
pub(crate) fn spin(seconds: &str) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs_f64(seconds.parse()?);
    let mut n = 0u64;
    while Instant::now() < until {
        for _ in 0..10_000 {
            n = std::hint::black_box(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
    Ok(())
}
