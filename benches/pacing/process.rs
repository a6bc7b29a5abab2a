//! Child processes of a bench. All of them end with the bench, even if it is killed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::unistd::Pid;

/// How long a sender may take to end after SIGTERM.
const ENDING: Duration = Duration::from_secs(5);

/// A child process. It is killed when this is dropped.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Running> {
        let child = command.stdin(Stdio::null()).spawn();
        child.map(Running).with_context(|| format!("cannot start {command:?}"))
    }

    /// Its standard output, which must be piped. Can be taken once.
    pub(crate) fn output(&mut self) -> anyhow::Result<BufReader<ChildStdout>> {
        Ok(BufReader::new(self.0.stdout.take().context("its output")?))
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().cast_signed())
    }

    /// # Errors
    /// The process has ended; the error has the last lines of `log`.
    pub(crate) fn must_run(&mut self, log: &Path) -> anyhow::Result<()> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the sender ended too early ({status}): {}", last_lines(log)),
        }
    }

    /// Waits until `log` has `text` at least `times` times.
    pub(crate) fn await_log(
        &mut self,
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
            self.must_run(log)?;
            anyhow::ensure!(
                from.elapsed() < patience,
                "after {} s the broadcaster had said {text:?} {found} times, not {times}: {}",
                patience.as_secs(),
                last_lines(log)
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn end(&mut self) -> anyhow::Result<()> {
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

    /// Processor time of all its threads since it began.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        // Finer than the ticks of /proc/PID/stat, and includes threads that have ended.
        let clock = nix::time::clock_getcpuclockid(self.pid()).context("the sender ended too early")?;
        Ok(nix::time::clock_gettime(clock)?.into())
    }

    /// The name of each living thread, and its processor time in nanoseconds, by thread number.
    pub(crate) fn threads(&self) -> BTreeMap<String, (String, u64)> {
        let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", self.pid())) else { return BTreeMap::new() };
        let task = |folder: PathBuf| {
            let name = fs::read_to_string(folder.join("comm")).ok()?.trim().to_owned();
            let ran = fs::read_to_string(folder.join("schedstat")).ok()?.split(' ').next()?.parse().ok()?;
            Some((folder.file_name()?.to_string_lossy().into_owned(), (name, ran)))
        };
        tasks.flatten().filter_map(|entry| task(entry.path())).collect()
    }

    /// Bytes of resident memory.
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kibibytes * 1024)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command whose process is killed when this program ends. Without `fifo` it cannot take real-time priority, even if
/// this program can.
pub(crate) fn child_command(program: impl AsRef<OsStr>, fifo: bool) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if !fifo {
        command.args(["--bounding-set=-sys_nice", "--inh-caps=-sys_nice"]);
    }
    command.arg(program);
    command
}

/// Whether `program` is in the search path.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// The last three lines of a log, in one.
pub(crate) fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(3)..].join(" / ")
}
