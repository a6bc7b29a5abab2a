//! Logs go to stderr: one line an event, coloured only where somebody looks who wants that.

use std::ffi::OsString;
use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

/// Starts logging what `filter` lets through. Call once, from a binary.
pub fn to_stderr(filter: EnvFilter) {
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(stderr().is_terminal() && wants_colour(std::env::var_os("NO_COLOR")))
        .with_writer(stderr)
        .init();
}

/// Whether `NO_COLOR`, as the environment has it, lets colours be: <https://no-color.org>. The formatter would ask by
/// itself, if it were not told.
fn wants_colour(no_color: Option<OsString>) -> bool {
    no_color.is_none_or(|set| set.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_color_is_obeyed_unless_it_is_empty() {
        assert!(wants_colour(None) && wants_colour(Some("".into())));
        assert!(!wants_colour(Some("1".into())) && !wants_colour(Some("0".into())));
    }
}
