//! The test harness, by libtest-mimic: a test that cannot run on this machine is *ignored*, with the reason. With
//! `STATIONCAST_TESTS_MUST_RUN=1`, as in CI, it fails instead.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, OnceLock};

use libtest_mimic::{Arguments, Completion, Trial};
use tempfile::TempDir;

use super::helper;

/// Programs that every test needs.
const TOOLS: [&str; 7] = ["unshare", "nsenter", "ip", "mount", "sh", "kill", "ffmpeg"];

/// The prefix of a tool that is an element of GStreamer: elements are spread over many packages.
const ELEMENT: &str = "gst:";

/// The prefix of a tool that is a library which the system's Python uses by introspection.
const LIBRARY: &str = "gi:";

/// Prefix of the name of one of our examples. `cargo test` builds them, `cargo test --test NAME` does not.
const EXAMPLE: &str = "example:";

/// The Python that has the libraries of the system.
pub(crate) const SYSTEM_PYTHON: &str = "/usr/bin/python3";

/// One test.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    /// Programs that it needs beyond those that every test needs. `gst:NAME` is an element of GStreamer, `gi:NAME` a library
    /// for the system's Python, `example:NAME` one of our examples.
    pub(crate) tools: &'static [&'static str],
    pub(crate) run: fn(),
}

static SCRATCH: Mutex<Option<TempDir>> = Mutex::new(None);

/// A folder for this run's files, removed when the run is over.
pub(crate) fn scratch() -> PathBuf {
    let mut scratch = SCRATCH.lock().unwrap();
    let folder = scratch.get_or_insert_with(|| TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
    folder.path().to_owned()
}

/// Runs the tests, or the helper that the hidden first argument names.
pub(crate) fn main(tests: Vec<Test>) -> ExitCode {
    if let Some(code) = helper::dispatch() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // Tests mostly wait for pictures: two at once use a quarter of two cores. With four at once, beside five busy loops,
    // broadcasters skipped pictures.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads.get_or_insert(cores + 1);
    let must_run = std::env::var_os("STATIONCAST_TESTS_MUST_RUN").is_some_and(|value| value == "1");
    let trials = tests
        .into_iter()
        .map(|test| {
            Trial::ignorable_test(test.name, move || match obstacle(test.tools) {
                None => {
                    (test.run)();
                    Ok(Completion::Completed)
                }
                Some(reason) if must_run => Err(format!("cannot run here: {reason}").into()),
                Some(reason) => Ok(Completion::ignored_with(reason)),
            })
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(SCRATCH.lock().unwrap().take());
    conclusion.exit_code()
}

/// Why a test that needs `tools` cannot run on this machine; `None` if it can.
fn obstacle(tools: &[&str]) -> Option<String> {
    static NAMESPACES: OnceLock<Option<String>> = OnceLock::new();
    let missing = TOOLS.iter().chain(tools).find(|tool| !is_installed(tool));
    missing
        .map(|tool| match (tool.strip_prefix(ELEMENT), tool.strip_prefix(EXAMPLE)) {
            (Some(element), _) => format!("GStreamer has no {element}"),
            (_, Some(name)) => format!("the example is not built: cargo build --example {name}"),
            _ => format!("{tool} is not installed"),
        })
        .or_else(|| NAMESPACES.get_or_init(no_namespaces).clone())
}

/// Whether a tool is there.
pub(crate) fn is_installed(tool: &str) -> bool {
    if let Some(element) = tool.strip_prefix(ELEMENT) {
        let asked = Command::new("gst-inspect-1.0").args(["--exists", element]).status();
        return asked.is_ok_and(|status| status.success());
    }
    if let Some(library) = tool.strip_prefix(LIBRARY) {
        let program = format!("import gi; gi.require_version('{library}', '1.0')");
        let asked = Command::new(SYSTEM_PYTHON).args(["-c", &program]).stderr(Stdio::null()).status();
        return asked.is_ok_and(|status| status.success());
    }
    if let Some(name) = tool.strip_prefix(EXAMPLE) {
        return example(name).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(tool).exists())
}

fn no_namespaces() -> Option<String> {
    let all_commands = "mount -t tmpfs tmpfs /run && ip netns add x && ip link add v type veth peer name eth0 netns x \
                     && ip netns exec x true";
    let output = Command::new("unshare")
        .args(["-Urnmpf", "--kill-child", "sh", "-c", all_commands])
        .env("PATH", path())
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Some(format!("no network namespaces: {}", said.lines().next().unwrap_or("refused")))
        }
        Err(error) => Some(format!("no network namespaces: {error}")),
    }
}

/// The search path, with the folders where Debian keeps `ip` and `nft`, which users' paths lack.
pub(crate) fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// This test program, to be run again as a [`helper`].
pub(crate) fn this_program() -> PathBuf {
    std::env::current_exe().unwrap()
}

/// The path of one of our examples: `target/debug/examples/NAME` if this program is in `target/debug/deps`.
pub(crate) fn example(name: &str) -> PathBuf {
    let profile = this_program().ancestors().nth(2).map(Path::to_owned);
    profile.expect("cargo's folders").join("examples").join(name)
}

/// A path as the text of an argument or of a line-up.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}
