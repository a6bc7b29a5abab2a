//! Logs go to stderr: one line an event, coloured only where somebody looks who wants that.
//!
//! A thread of its own writes them. Whoever reads them may stop reading, as a terminal does after Ctrl-S or a pager that is
//! not scrolled: no station waits for that. Lines that find no place are lost, and counted in the log.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write, stderr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

/// Lines that wait to be written: all that 999 stations have to say at once, four times.
const WAITING: usize = 4096;

/// How long [`flush`] waits for whoever reads.
const PATIENCE: Duration = Duration::from_millis(500);

static LINES: OnceLock<Lines> = OnceLock::new();

/// Starts logging what `filter` lets through. Call once, from a binary, and [`flush`] at its end.
pub fn to_stderr(filter: EnvFilter) {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(stderr().is_terminal() && wants_colour(std::env::var_os("NO_COLOR")));
    match Lines::to(stderr(), WAITING) {
        Ok(lines) => {
            let lines = LINES.get_or_init(|| lines);
            subscriber.with_writer(|| lines.clone()).init();
        }
        // No thread to be had: then without.
        Err(_) => subscriber.with_writer(stderr).init(),
    }
}

/// Waits until what was logged is written, but not for ever. To be called before anything else is written to stderr, and
/// before the program ends.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(PATIENCE);
    }
}

/// Whether `NO_COLOR`, as the environment has it, lets colours be: <https://no-color.org>. The formatter would ask by
/// itself, if it were not told.
fn wants_colour(no_color: Option<OsString>) -> bool {
    no_color.is_none_or(|set| set.is_empty())
}

/// What waits for the thread that writes.
enum Job {
    Line(Vec<u8>),
    /// Tell when all before is written.
    Tell(SyncSender<()>),
}

/// The way to the thread that writes.
#[derive(Clone)]
struct Lines {
    jobs: SyncSender<Job>,
    lost: Arc<AtomicU64>,
}

impl Lines {
    /// Starts a thread that writes to `sink`; at most `waiting` lines wait for it.
    fn to(sink: impl Write + Send + 'static, waiting: usize) -> io::Result<Lines> {
        let (jobs, queue) = sync_channel(waiting);
        let lost = Arc::<AtomicU64>::default();
        let lines = Lines { jobs, lost: lost.clone() };
        thread::Builder::new().name("log".into()).spawn(move || write_all(&queue, sink, &lost))?;
        Ok(lines)
    }

    fn flush(&self, patience: Duration) {
        let (tell, told) = sync_channel(1);
        let mut job = Job::Tell(tell);
        // The queue may be full for as long as nobody reads.
        for _ in 0..10 {
            match self.jobs.try_send(job) {
                Ok(()) => {
                    let _ = told.recv_timeout(patience);
                    return;
                }
                Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => job = back,
            }
            let _: Result<(), RecvTimeoutError> = told.recv_timeout(patience / 10);
        }
    }
}

impl Write for Lines {
    /// Takes a line: the formatter hands over each in one piece.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.jobs.try_send(Job::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_all(queue: &Receiver<Job>, mut sink: impl Write, lost: &AtomicU64) {
    for job in queue {
        match job {
            // A log that cannot be written is nobody's reason to stop.
            Job::Line(line) => _ = sink.write_all(&line),
            Job::Tell(tell) => _ = tell.try_send(()),
        }
        let lost = lost.swap(0, Relaxed);
        if lost > 0 {
            let _ = writeln!(sink, "{lost} lines of this log are lost: nobody read it");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    #[test]
    fn no_color_is_obeyed_unless_it_is_empty() {
        assert!(wants_colour(None) && wants_colour(Some("".into())));
        assert!(!wants_colour(Some("1".into())) && !wants_colour(Some("0".into())));
    }

    /// A terminal that is held until it is let go.
    struct Held {
        let_go: Receiver<()>,
        shown: Sender<String>,
    }

    impl Write for Held {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.let_go.recv();
            let _ = self.shown.send(String::from_utf8_lossy(line).into_owned());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_for_a_terminal_that_is_held_and_lost_lines_are_counted() {
        let (release, let_go) = channel();
        let (shown, seen) = channel();
        let mut lines = Lines::to(Held { let_go, shown }, 4).unwrap();
        for n in 0..100 {
            lines.write_all(format!("line {n}\n").as_bytes()).unwrap();
        }
        lines.flush(Duration::from_millis(20));
        assert!(seen.try_recv().is_err(), "nothing was shown");

        drop(release);
        lines.flush(Duration::from_secs(60));
        let text: String = seen.try_iter().collect();
        let whole = text.lines().filter(|line| line.starts_with("line ")).count();
        assert!(text.starts_with("line 0\n"), "{text}");
        // Four that waited, and one in the hands of the thread if it was quick.
        assert!((4..=5).contains(&whole), "{text}");
        assert!(text.contains(&format!("{} lines of this log are lost", 100 - whole)), "{text}");
    }
}
