//! Lines for systemd's journal, which notes the time itself and takes the priority from the beginning of each line (sd-daemon(3)).

use std::fmt;
use std::io::stderr;
use std::os::fd::AsFd;

use rustix::fs::fstat;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Whether stderr goes to the journal, which is told by the variable JOURNAL_STREAM with its device and inode (systemd.exec(5)). A
/// program that sends its stderr elsewhere leaves the variable to its children.
pub(super) fn reads_stderr() -> bool {
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| is_stream(stderr(), &stream))
}

fn is_stream(file: impl AsFd, stream: &str) -> bool {
    fstat(file).is_ok_and(|file| stream == format!("{}:{}", file.st_dev, file.st_ino))
}

/// The beginning of a line that is an error.
pub(super) const ERROR: &str = "<3>";

/// An event as `<6>directory on 127.0.0.1:9688`.
pub(super) struct JournalFormat;

impl<S: Subscriber + for<'a> LookupSpan<'a>, N: for<'w> FormatFields<'w> + 'static> FormatEvent<S, N>
    for JournalFormat
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(line, "<{}>", priority(*event.metadata().level()))?;
        context.format_fields(line.by_ref(), event)?;
        writeln!(line)
    }
}

/// The priority of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_line_begins_with_its_priority_and_has_no_time() {
        let mut file = tempfile::tempfile().unwrap();
        let writer = Mutex::new(file.try_clone().unwrap());
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::DEBUG)
            .with_ansi(false)
            .with_writer(writer)
            .event_format(JournalFormat)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!("four");
            tracing::warn!("station {} is off air", 2);
            tracing::info!("three");
            tracing::debug!(peer = 7, "connected");
        });
        let mut text = String::new();
        std::io::Seek::rewind(&mut file).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "<3>four\n<4>station 2 is off air\n<6>three\n<7>connected peer=7\n");
    }

    #[test]
    fn only_the_stream_itself_is_the_journal() {
        let (journal, other) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let name = |file: &File| {
            let metadata = file.metadata().unwrap();
            format!("{}:{}", metadata.dev(), metadata.ino())
        };
        assert!(is_stream(&journal, &name(&journal)));
        assert!(!is_stream(&other, &name(&journal)) && !is_stream(&journal, ""));
    }
}
