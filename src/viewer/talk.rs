//! What a run without a window says on stderr meanwhile. On a terminal one line is rewritten every second. A pipe or a file gets a line
//! when something changes, and one a minute: a log of a day is read by people.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use crate::log;
use crate::text_table::shortened;

/// Longest silence in a pipe.
const MINUTE: Duration = Duration::from_secs(60);

/// Least time between two lines about losses: on a bad network, losses come every second.
const LOSSES: Duration = Duration::from_secs(10);

/// Columns of a terminal that does not tell how many it has.
const COLUMNS: u16 = 80;

/// What there is to say of a run at a moment.
pub(super) struct Said {
    /// What holds until something happens: a change of it is said at once.
    condition: String,
    /// Figures that change all the time.
    figures: String,
    /// Pictures lost and dropped so far.
    losses: u64,
}

impl Said {
    /// In the line, `figures` follow `condition`.
    pub(super) fn new(condition: String, figures: String, losses: u64) -> Said {
        Said { condition, figures, losses }
    }

    fn line(&self) -> String {
        format!("{}{}", self.condition, self.figures)
    }
}

/// Says it where and when it is to be said.
pub(super) struct Talk {
    is_terminal: bool,
    /// The last line in a pipe, and when it was written.
    last: Option<(Said, Instant)>,
}

impl Talk {
    pub(super) fn to_stderr() -> Talk {
        Talk { is_terminal: stderr().is_terminal(), last: None }
    }

    /// Called every second.
    pub(super) fn say(&mut self, now: Instant, said: Said) {
        if self.is_terminal {
            let columns = terminal_size::terminal_size_of(stderr()).map_or(COLUMNS, |(width, _)| width.0);
            // A line as wide as the terminal would make some of them begin the next one.
            log::status(&shortened(&said.line(), usize::from(columns).saturating_sub(1)));
        } else if let Some(line) = self.due(now, said) {
            log::flush();
            eprintln!("{line}");
        }
    }

    /// The line to write into a pipe at `now`, if it is time for one.
    fn due(&mut self, now: Instant, said: Said) -> Option<String> {
        if let Some((last, at)) = &self.last {
            let since = now.saturating_duration_since(*at);
            let is_news = said.condition != last.condition;
            let is_loss = said.losses != last.losses && since >= LOSSES;
            if !is_news && !is_loss && since < MINUTE {
                return None;
            }
        }
        let line = said.line();
        self.last = Some((said, now));
        Some(line)
    }

    /// Ends the line that was rewritten, so that what follows has one of its own.
    pub(super) fn end(&self) {
        if self.is_terminal {
            log::status("");
            log::flush();
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any moment to count from")]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_told_of_changes_at_once_of_losses_sometimes_and_of_the_rest_each_minute() {
        let mut talk = Talk { is_terminal: false, last: None };
        let began = Instant::now();
        let mut said = Vec::new();
        for second in 1..=200 {
            let condition = if (71..=73).contains(&second) { "silent" } else { "on air" };
            // Each second from 100 to 119 loses a picture.
            let losses = second.clamp(99, 119) - 99;
            let now = Said::new(condition.into(), format!(", {second}"), losses);
            said.extend(talk.due(began + Duration::from_secs(second), now));
        }
        assert_eq!(
            said,
            [
                "on air, 1",
                "on air, 61",
                "silent, 71",
                "on air, 74",
                "on air, 100",
                "on air, 110",
                "on air, 120",
                "on air, 180"
            ]
        );
    }
}
