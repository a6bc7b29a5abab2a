//! The log: one line an event, on stderr, in colour only on a terminal and unless `NO_COLOR` forbids it.
//!
//! A thread of its own writes the lines. A reader may stop reading, as a terminal does after Ctrl-S or a pager that is not
//! scrolled; no station waits for it. If the queue is full, lines are dropped and counted in the log.
//!
//! Any room may import this. It imports nothing of ours.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write, stderr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;
use tracing_subscriber::EnvFilter;

/// Lines in the queue to the thread: 999 stations may log four lines each at once. Any more are dropped.
const QUEUE: usize = 4096;

/// How long [`flush`] waits for the reader of stderr.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

static LINES: OnceLock<Lines> = OnceLock::new();

/// Starts logging to stderr the events that pass `filter`. A binary calls it once, and [`flush`] at its end.
pub fn to_stderr(filter: EnvFilter) {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(stderr().is_terminal() && wants_colour(std::env::var_os("NO_COLOR")));
    match Lines::to(stderr(), QUEUE) {
        Ok(lines) => {
            let lines = LINES.get_or_init(|| lines);
            subscriber.with_writer(|| lines.clone()).init();
        }
        // The system has no thread for it: then each caller writes.
        Err(_) => subscriber.with_writer(stderr).init(),
    }
}

/// Waits until all queued lines are written, at most half a second. Call it before writing anything else to stderr, and
/// before the program ends.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(FLUSH_TIMEOUT);
    }
}

/// Whether the value of `NO_COLOR` allows colours: <https://no-color.org>. The formatter reads the variable only if it is
/// not told.
fn wants_colour(no_color: Option<OsString>) -> bool {
    no_color.is_none_or(|set| set.is_empty())
}

/// An entry of the queue to the thread.
enum QueueItem {
    Line(Vec<u8>),
    /// Acknowledge when all entries before this one are written.
    Flush(SyncSender<()>),
}

/// The sending end of the queue to the thread.
#[derive(Clone)]
struct Lines {
    queue: SyncSender<QueueItem>,
    dropped: Arc<AtomicU64>,
}

impl Lines {
    /// Starts a thread that writes to `sink`. Its queue holds at most `capacity` lines.
    fn to(sink: impl Write + Send + 'static, capacity: usize) -> io::Result<Lines> {
        let (queue, entries) = sync_channel(capacity);
        let dropped = Arc::<AtomicU64>::default();
        let lines = Lines { queue, dropped: dropped.clone() };
        thread::Builder::new().name("log".into()).spawn(move || write_all(&entries, sink, &dropped))?;
        Ok(lines)
    }

    fn flush(&self, timeout: Duration) {
        let (acknowledge, written) = sync_channel(1);
        let mut entry = QueueItem::Flush(acknowledge);
        // The queue is full for as long as nobody reads the log, so this retries until the timeout.
        for _ in 0..10 {
            match self.queue.try_send(entry) {
                Ok(()) => {
                    let _ = written.recv_timeout(timeout);
                    return;
                }
                Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => entry = back,
            }
            let _: Result<(), RecvTimeoutError> = written.recv_timeout(timeout / 10);
        }
    }
}

impl Write for Lines {
    /// Queues a line. The formatter writes each line in one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(QueueItem::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_all(entries: &Receiver<QueueItem>, mut sink: impl Write, dropped: &AtomicU64) {
    for entry in entries {
        match entry {
            // The program must not stop because its log cannot be written.
            QueueItem::Line(line) => _ = sink.write_all(&line),
            QueueItem::Flush(acknowledge) => _ = acknowledge.try_send(()),
        }
        let dropped = dropped.swap(0, Relaxed);
        if dropped > 0 {
            let _ = writeln!(sink, "{dropped} lines of this log were dropped: nobody was reading it");
        }
    }
}

/// Limits the log lines about an event that repeats: one line a second, with the number of events since the last line.
#[derive(Debug, Default)]
pub(crate) struct RateLimit {
    logged_at: Option<Instant>,
    events: u64,
}

impl RateLimit {
    /// Counts an event at `now`. If the event is to be logged, returns the number of events since the last one that was,
    /// including this one.
    pub(crate) fn note(&mut self, now: Instant) -> Option<u64> {
        self.events += 1;
        if self.logged_at.is_some_and(|at| now.duration_since(at) < Duration::from_secs(1)) {
            return None;
        }
        self.logged_at = Some(now);
        Some(std::mem::take(&mut self.events))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "in virtual time")]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    #[test]
    fn no_color_is_obeyed_unless_it_is_empty() {
        assert!(wants_colour(None) && wants_colour(Some("".into())));
        assert!(!wants_colour(Some("1".into())) && !wants_colour(Some("0".into())));
    }

    /// A terminal that shows nothing until it is released, as after Ctrl-S.
    struct Stopped {
        released: Receiver<()>,
        shown: Sender<String>,
    }

    impl Write for Stopped {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.released.recv();
            let _ = self.shown.send(String::from_utf8_lossy(line).into_owned());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_for_a_stopped_terminal_and_dropped_lines_are_counted() {
        let (release, released) = channel();
        let (shown, seen) = channel();
        let mut lines = Lines::to(Stopped { released, shown }, 4).unwrap();
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
        // Four in the queue, and perhaps one that the thread has already taken.
        assert!((4..=5).contains(&whole), "{text}");
        assert!(text.contains(&format!("{} lines of this log were dropped", 100 - whole)), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn repeated_events_are_logged_once_a_second_with_their_count() {
        let mut limit = RateLimit::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let logged: Vec<_> =
            [0, 1, 500, 999, 1000, 1001, 5000].into_iter().map(|ms| limit.note(at(ms))).collect();
        assert_eq!(logged, [Some(1), None, None, None, Some(4), None, Some(2)]);
    }
}
