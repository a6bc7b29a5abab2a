//! The fixture of every run, and one run of a row: a sender, load if the row wants it, and the listener. All of them are ended
//! with the run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use stationcast::media::FrameRate;
use tempfile::TempDir;

use crate::film::{self, HEIGHT, Pictures, QUALITY, WIDTH};
use crate::listener::BEGIN;
use crate::network::group;
use crate::process::{Running, child_command, last_lines};
use crate::rows::{Row, Run, Sender};

/// Busy processes beside a sender.
const BUSY: usize = 4;

/// Seconds after which a helper ends by itself, counted from the planned end of the run.
const SPARE: f64 = 20.0;

/// The most stations that the listener joins.
const SAMPLE: u16 = 10;

/// How long the broadcaster may take until all its stations are on air.
const ON_AIR: Duration = Duration::from_secs(30);

const BROADCASTER: &str = env!("CARGO_BIN_EXE_broadcaster");

/// The files that all runs share.
pub(crate) struct Fixture {
    folder: TempDir,
    /// The film that all stations play.
    film: PathBuf,
}

impl Fixture {
    /// Encodes the film for the bare sender, and has the broadcaster make its reel.
    pub(crate) fn prepare(folder: &Path) -> anyhow::Result<Fixture> {
        anyhow::ensure!(
            Path::new(BROADCASTER).exists(),
            "there is no {BROADCASTER}: build it with `cargo build --release`"
        );
        let fixture = Fixture { folder: TempDir::new_in(folder)?, film: film::path() };
        Pictures::encode().context("the demo film")?.write(&fixture.pictures())?;
        fixture.record()?;
        Ok(fixture)
    }

    /// As [`prepare`](Self::prepare), with the film's pictures at another rate.
    pub(crate) fn at_rate(folder: &Path, rate: FrameRate) -> anyhow::Result<Fixture> {
        let folder = TempDir::new_in(folder)?;
        let fixture = Fixture { film: folder.path().join("film.mp4"), folder };
        film::retime(rate, &fixture.film)?;
        Pictures { rate, ..Pictures::encode()? }.write(&fixture.pictures())?;
        fixture.record()?;
        Ok(fixture)
    }

    /// Makes the film's reel.
    fn record(&self) -> anyhow::Result<()> {
        let lineup = self.lineup(1, "127.0.0.1", true)?;
        let output = Command::new(BROADCASTER).args(["prepare", "--config"]).arg(&lineup).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "broadcaster prepare: {}", said.trim());
        Ok(())
    }

    /// The film's coded pictures, for the bare sender.
    fn pictures(&self) -> PathBuf {
        self.folder.path().join("pictures")
    }

    /// Starts the broadcaster and waits until all its stations are on air. `namespace` is the network namespace that it
    /// runs in, if not this one. Returns its log and the time it took, too.
    pub(crate) fn broadcaster(
        &self,
        lineup: &Path,
        namespace: Option<&str>,
        fifo: bool,
        stations: u16,
    ) -> anyhow::Result<(Running, PathBuf, Duration)> {
        let log = self.log();
        let mut command = child_command(if namespace.is_some() { "ip" } else { BROADCASTER }, fifo);
        if let Some(namespace) = namespace {
            command.args(["netns", "exec", namespace, BROADCASTER]);
        }
        command.arg("--config").arg(lineup).env("RUST_LOG", "info").env("NO_COLOR", "1");
        command.stdout(Stdio::null()).stderr(File::create(&log)?);
        let began = Instant::now();
        let mut sender = Running::start(&mut command)?;
        sender.await_log(&log, " on air: ", stations.into(), ON_AIR)?;
        Ok((sender, log, began.elapsed()))
    }

    /// The log of the sender of this moment.
    fn log(&self) -> PathBuf {
        self.folder.path().join("sender.log")
    }

    /// Writes a line-up of so many stations, all of which play the same film. Without sound: the other senders send pictures
    /// alone.
    pub(crate) fn lineup(&self, stations: u16, interface: &str, reel: bool) -> anyhow::Result<PathBuf> {
        let reels = self.folder.path().join("reels");
        let mut text = format!(
            "[directory]\nlisten = \"127.0.0.1:9688\"\n[reel]\ndir = {reels:?}\n[defaults]\ninterface = {interface:?}\n\
             width = {WIDTH}\nquality = {QUALITY}\nreel = {reel}\nsound = false\n"
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

    /// Starts the sender of `row`. Also returns the time until all stations were on air, where the log tells it.
    fn sender(&self, row: &Row, seconds: f64) -> anyhow::Result<(Running, PathBuf, Option<Duration>)> {
        if row.sender.is_ours() {
            let lineup = self.lineup(row.stations, "127.0.0.1", row.sender != Sender::Live)?;
            let (sender, log, start) = self.broadcaster(&lineup, None, row.fifo, row.stations)?;
            let granted = fs::read_to_string(&log)?.contains("has real-time priority");
            anyhow::ensure!(granted == row.fifo, "real-time priority: {granted}, not {}", row.fifo);
            return Ok((sender, log, Some(start)));
        }
        let mut command = match row.sender {
            Sender::GStreamer => gstreamer(),
            Sender::Ffmpeg => ffmpeg(),
            _ => {
                let mut command = child_command(std::env::current_exe()?, row.fifo);
                command.arg("send").arg(self.pictures()).arg(row.stations.to_string());
                command.args([if row.fifo { "fifo" } else { "plain" }, &format!("{}", seconds + SPARE)]);
                command
            }
        };
        let log = self.log();
        command.stdout(Stdio::null()).stderr(File::create(&log)?);
        Ok((Running::start(&mut command)?, log, None))
    }

    /// Has the sender of `row` send for `seconds`, and measures it.
    pub(crate) fn run(&self, row: &Row, seconds: f64) -> anyhow::Result<Run> {
        let (mut sender, log, start) = self.sender(row, seconds)?;
        let this = std::env::current_exe()?;
        let _load = (0..if row.busy { BUSY } else { 0 })
            .map(|_| {
                let mut command = child_command(&this, false);
                Running::start(command.args(["spin", &format!("{}", seconds + SPARE)]))
            })
            .collect::<anyhow::Result<Vec<Running>>>()?;
        let mut command = child_command(&this, false);
        command.args(["listen", &seconds.to_string(), &sample(row.stations)]).stdout(Stdio::piped());
        let mut listener = Running::start(&mut command)?;
        let mut output = listener.output()?;
        let mut line = String::new();
        output.read_line(&mut line)?;
        if line.trim() != BEGIN {
            sender.must_run(&log)?;
            bail!("the listener heard nothing; the sender says: {}", last_lines(&log));
        }
        let (from, before, threads_before) = (Instant::now(), sender.cpu()?, sender.threads());
        line.clear();
        output.read_to_string(&mut line)?;
        let (wall, after, threads_after) = (from.elapsed(), sender.cpu()?, sender.threads());
        sender.must_run(&log)?;
        let resident = sender.resident()?;
        let mut skipped = 0;
        if row.sender.is_ours() {
            sender.end()?;
            skipped = skipped_by(&fs::read_to_string(&log)?)?;
        }
        let mut threads = BTreeMap::new();
        for (thread, (name, after)) in threads_after {
            let before = threads_before.get(&thread).map_or(0, |(_, before)| *before);
            *threads.entry(name).or_default() += after.saturating_sub(before) as f64 / 1e9;
        }
        Ok(Run {
            arrivals: serde_json::from_str(&line).context("the listener ended without a word")?,
            cpu: after.saturating_sub(before),
            wall,
            threads,
            resident,
            skipped,
            start,
        })
    }
}

fn gstreamer() -> Command {
    let mut command = child_command("gst-launch-1.0", false);
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
    let mut command = child_command("ffmpeg", false);
    command.args(["-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i"]).arg(film::path());
    command.args(["-an", "-vf", &format!("scale={WIDTH}:{HEIGHT}"), "-pix_fmt", "yuvj420p", "-c:v", "mjpeg"]);
    // About as many bytes as at quality 80, with the tables that RTP/JPEG wants.
    command.args(["-q:v", "4", "-huffman", "default", "-force_duplicated_matrix", "1", "-f", "rtp"]);
    command.arg(format!("rtp://{}?pkt_size=65000&ttl=1", group(1)));
    command
}

/// The numbers of up to [`SAMPLE`] stations, evenly spread, with commas between them.
fn sample(stations: u16) -> String {
    let most = SAMPLE.min(stations);
    let nth = |n: u16| 1 + (u32::from(n) * u32::from(stations) / u32::from(most)) as u16;
    (0..most).map(|n| nth(n).to_string()).collect::<Vec<_>>().join(",")
}

/// Pictures not sent, by the broadcaster's last line: `off air: 250 pictures aired by 1 stations, 3 skipped late, 0 squeezed,
/// 2 not sent; lateness ...`.
fn skipped_by(log: &str) -> anyhow::Result<u64> {
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
