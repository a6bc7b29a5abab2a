//! The log: one line an event, on stderr, in colour only on a terminal and unless `NO_COLOR` forbids it.
//!
//! A thread of its own writes the lines. A reader may stop reading, as a terminal does after Ctrl-S or a pager that is not
//! scrolled; no station waits for it. If the queue is full, lines are dropped and counted in the log.
//!
//! Any room may import this. It imports nothing of ours.

mod journal;

use std::collections::HashSet;
use std::ffi::OsString;
use std::hash::Hash;
use std::io::{self, IsTerminal, Write, stderr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// Lines in the queue to the thread: 999 stations may log four lines each at once. Any more are dropped.
const QUEUE: usize = 4096;

/// How long [`flush`] waits for the reader of stderr.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

static LINES: OnceLock<Lines> = OnceLock::new();

/// Starts logging to stderr the events that pass `filter`. A binary calls it once, and [`flush`] at its end.
pub fn to_stderr(filter: EnvFilter) {
    let writer = match Lines::to(stderr(), QUEUE) {
        Ok(lines) => {
            let lines = LINES.get_or_init(|| lines);
            BoxMakeWriter::new(|| lines.clone())
        }
        // The system has no thread for it: then each caller writes.
        Err(_) => BoxMakeWriter::new(stderr),
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(writer);
    if journal::reads_stderr() {
        return subscriber.with_ansi(false).event_format(journal::JournalFormat).init();
    }
    subscriber.with_ansi(stderr().is_terminal() && wants_colour(std::env::var_os("NO_COLOR"))).init();
}

/// Shows `text` on the terminal's last line, instead of the text that was shown there before; log lines appear above it. An empty
/// text ends that line. For a stderr that is a terminal.
pub fn status(text: &str) {
    if let Some(lines) = LINES.get() {
        // A text that finds no room is followed by the next one.
        let _ = lines.queue.try_send(QueueItem::Status(text.to_owned()));
    }
}

/// Waits until all queued lines are written, at most half a second. Call it before writing anything else to stderr, and
/// before the program ends.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(FLUSH_TIMEOUT);
    }
}

/// Tells on stderr why the program ends, after all queued lines. Each line is an error to the journal.
pub fn failure(why: &str) {
    flush();
    let start = if journal::reads_stderr() { journal::ERROR } else { "" };
    let lines: String = why.lines().map(|line| format!("{start}{line}\n")).collect();
    // Without a reader there is nobody to tell.
    let _ = stderr().write_all(lines.as_bytes());
}

/// A sentence for people: an error of the system in it is without the number that Rust adds, ` (os error 111)`.
pub fn without_numbers(sentence: &str) -> String {
    let mut parts = sentence.split(" (os error ");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => text.push_str(rest),
            _ => text.extend([" (os error ", part]),
        }
    }
    text
}

/// Whether the value of `NO_COLOR` allows colours: <https://no-color.org>. The formatter reads the variable only if it is
/// not told.
fn wants_colour(no_color: Option<OsString>) -> bool {
    no_color.is_none_or(|set| set.is_empty())
}

/// An entry of the queue to the thread.
enum QueueItem {
    Line(Vec<u8>),
    /// Rewrite the last line; an empty text ends it.
    Status(String),
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

/// Returns to the beginning of the terminal's line and clears it (ECMA-48: CR, EL).
const CLEAR: &str = "\r\x1b[K";

fn write_all(entries: &Receiver<QueueItem>, mut sink: impl Write, dropped: &AtomicU64) {
    let mut status = String::new();
    for entry in entries {
        // The program must not stop because its log cannot be written.
        match entry {
            QueueItem::Line(line) if status.is_empty() => _ = sink.write_all(&line),
            QueueItem::Line(line) => {
                _ = sink.write_all(&[CLEAR.as_bytes(), &line, status.as_bytes()].concat());
            }
            QueueItem::Status(text) => {
                let end = if text.is_empty() && !status.is_empty() { "\n" } else { "" };
                let written = if text.is_empty() { end.to_owned() } else { format!("{CLEAR}{text}") };
                _ = sink.write_all(written.as_bytes()).and_then(|()| sink.flush());
                status = text;
            }
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

/// Limits the log lines about things that recur: each distinct thing is logged once.
#[derive(Debug)]
pub(crate) struct LoggedOnce<T> {
    logged: HashSet<T>,
    most: usize,
}

impl<T: Eq + Hash> LoggedOnce<T> {
    /// At most `most` things are remembered. After these, no other thing is logged, so that neither memory nor the log grows.
    pub(crate) fn new(most: usize) -> LoggedOnce<T> {
        LoggedOnce { logged: HashSet::new(), most }
    }

    /// Whether `thing` is to be logged now. It then counts as logged.
    pub(crate) fn is_first(&mut self, thing: T) -> bool {
        self.logged.len() < self.most && self.logged.insert(thing)
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

    /// The bytes that are written, for the test to read.
    #[derive(Clone, Default)]
    struct Memory(Arc<std::sync::Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn log_lines_appear_above_the_line_that_is_rewritten() {
        let memory = Memory::default();
        let mut lines = Lines::to(memory.clone(), 16).unwrap();
        let status = |text: &str| lines.queue.send(QueueItem::Status(text.into())).unwrap();
        status("1 picture");
        status("2 pictures");
        lines.clone().write_all(b"lost\n").unwrap();
        status("");
        status("");
        lines.write_all(b"over\n").unwrap();
        lines.flush(Duration::from_secs(60));
        let written = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        assert_eq!(written, "\r\x1b[K1 picture\r\x1b[K2 pictures\r\x1b[Klost\n2 pictures\nover\n");
    }

    #[test]
    fn a_sentence_loses_the_numbers_of_system_errors_and_nothing_else() {
        for (sentence, plain) in [
            ("a: Connection refused (os error 111). Is it on?", "a: Connection refused. Is it on?"),
            ("No such file (os error 2); b (os error 13)", "No such file; b"),
            ("film (os error x).mp4 (1)", "film (os error x).mp4 (1)"),
            ("", ""),
        ] {
            assert_eq!(without_numbers(sentence), plain);
        }
    }

    #[test]
    fn each_thing_is_logged_once_and_only_so_many_are() {
        let mut logged = LoggedOnce::new(2);
        assert_eq!(
            ["a", "a", "b", "c", "a", "c"].map(|thing| logged.is_first(thing)),
            [true, false, true, false, false, false]
        );
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
