//! A virtual display (Xvfb), and windows on it.

use super::lan::Host;
use super::process::Process;
use super::until;

/// A display on a host.
pub(crate) struct Display<'a> {
    host: Host<'a>,
    /// The environment variable by which programs find it, as `NAME=value`.
    setting: String,
    _server: Process,
}

impl<'a> Display<'a> {
    /// Starts a display of this size, such as `1280x800`.
    pub(crate) fn new(host: Host<'a>, size: &str) -> Display<'a> {
        Display::with(host, size, &["-nolisten", "tcp"])
    }

    /// Starts a display with these options more. If one is `-listen`, programs find it by TCP.
    pub(crate) fn with(host: Host<'a>, size: &str, options: &[&str]) -> Display<'a> {
        // -noreset: otherwise the server resets whenever its last client leaves, such as an xdotool that looks for a window,
        // and refuses those that connect meanwhile.
        let screen = format!("{size}x24");
        let args = ["-displayfd", "1", "-screen", "0", &screen, "-noreset"];
        let mut server = host.run("Xvfb", &[&args[..], options].concat());
        server.await_output("\n");
        let machine = if options.contains(&"-listen") { "127.0.0.1" } else { "" };
        Display { host, setting: format!("DISPLAY={machine}:{}", server.stdout().trim()), _server: server }
    }

    /// Starts a program there. `settings` are environment variables of it, each as `NAME=value`.
    pub(crate) fn run(&self, settings: &[&str], program: &str, args: &[&str]) -> Process {
        self.host.run("env", &[&[self.setting.as_str()], settings, &[program], args].concat())
    }

    /// Runs a tool there to its end. It must exit with 0.
    pub(crate) fn tool(&self, program: &str, args: &[&str]) {
        self.run(&[], program, args).succeed();
    }

    /// Waits for a window of `program` with this in its title. Returns the window's number.
    pub(crate) fn window(&self, program: &mut Process, title: &str) -> String {
        until(&format!("a window {title:?}"), || {
            assert!(program.runs(), "the program ended before it had a window: {}", program.stderr());
            let found = self.run(&[], "xdotool", &["search", "--name", title]).finish();
            found.stdout.lines().next().map(str::to_owned)
        })
    }
}
