//! What the tests in network namespaces share: networks, processes in them, films whose pictures carry their number, and
//! readers for the pictures and packets that arrive.

// Each test program uses only a part of it.
#![allow(dead_code)]

pub(crate) mod capture;
pub(crate) mod display;
pub(crate) mod film;
pub(crate) mod harness;
pub(crate) mod helper;
pub(crate) mod lan;
pub(crate) mod picture;
pub(crate) mod process;
pub(crate) mod tshark;
pub(crate) mod watch;
pub(crate) mod wire;

#[path = "../../examples/strip/mod.rs"]
pub(crate) mod strip;

use std::thread;
use std::time::{Duration, Instant};

/// No test waits longer for any one thing: a guard against hanging, never a measurement.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `look` finds something.
///
/// # Panics
/// When it has not within [`PATIENCE`]; the message says `what` was awaited.
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, look).unwrap_or_else(|| panic!("waited {} s in vain for {what}", PATIENCE.as_secs()))
}

/// Waits until `look` finds something, for `patience` at most.
#[expect(clippy::disallowed_methods, reason = "the one place where these tests wait")]
pub(crate) fn within<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        thread::sleep(Duration::from_millis(20));
    }
}
