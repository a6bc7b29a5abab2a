//! A display without a screen, and windows on it.

use super::lan::Host;
use super::process::Process;
use super::until;

/// A display on a host.
pub(crate) struct Display<'a> {
    host: Host<'a>,
    /// The setting by which programs find it.
    setting: String,
    _server: Process,
}

impl<'a> Display<'a> {
    /// Starts one of this size, such as `1280x800`.
    pub(crate) fn new(host: Host<'a>, size: &str) -> Display<'a> {
        // -noreset: else it starts anew whenever its last client leaves, and who connects meanwhile is turned away.
        // xdotool looking for a window that is not there yet is such a client.
        let screen = format!("{size}x24");
        let args = ["-displayfd", "1", "-screen", "0", &screen, "-nolisten", "tcp", "-noreset"];
        let mut server = host.run("Xvfb", &args);
        server.await_output("\n");
        Display { host, setting: format!("DISPLAY=:{}", server.stdout().trim()), _server: server }
    }

    /// Starts a program there; `settings` are of its environment, as `NAME=value`.
    pub(crate) fn run(&self, settings: &[&str], program: &str, args: &[&str]) -> Process {
        self.host.run("env", &[&[self.setting.as_str()], settings, &[program], args].concat())
    }

    /// Runs a tool there to its end, which must be a good one.
    pub(crate) fn tool(&self, program: &str, args: &[&str]) {
        self.run(&[], program, args).succeed();
    }

    /// Waits for a window of `program` with this in its title; its number.
    pub(crate) fn window(&self, program: &mut Process, title: &str) -> String {
        until(&format!("a window {title:?}"), || {
            assert!(program.runs(), "it ended before it had a window: {}", program.stderr());
            let found = self.run(&[], "xdotool", &["search", "--name", title]).finish();
            found.stdout.lines().next().map(str::to_owned)
        })
    }
}
