//! A program that runs in a network namespace, and its output.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::until;

/// A program that was started. It is killed when this is dropped.
pub(crate) struct Process {
    label: String,
    /// `nsenter`, which waits for the program and takes over its exit code.
    child: Child,
    pub(super) files: Files,
}

/// Where a program's output goes.
#[derive(Clone)]
pub(super) struct Files {
    pub(super) out: PathBuf,
    pub(super) err: PathBuf,
    /// The file with its process number outside the namespaces.
    pub(super) pid: PathBuf,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Process {
    pub(super) fn start(label: String, mut command: Command, files: Files) -> Process {
        let create = |path: &PathBuf| File::create(path).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(create(&files.out))
            .stderr(create(&files.err))
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {label}: {error}"));
        Process { label, child, files }
    }

    pub(crate) fn stdout(&self) -> String {
        fs::read(&self.files.out)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read(&self.files.err)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until its standard error has `text` at least `times` times.
    pub(crate) fn await_log(&mut self, text: &str, times: usize) {
        let what = format!("{} x {text:?} in what {} logs", times, self.label);
        until(&what, || {
            let found = self.stderr().matches(text).count() >= times;
            assert!(found || self.runs(), "{} ended before it logged {text:?} x {times}", self.label);
            found.then_some(())
        });
    }

    /// Waits until its standard output has `text`.
    pub(crate) fn await_output(&mut self, text: &str) {
        until(&format!("{text:?} from {}", self.label), || {
            let found = self.stdout().contains(text);
            assert!(found || self.runs(), "{} ended before it said {text:?}", self.label);
            found.then_some(())
        });
    }

    /// Its process number outside the namespaces.
    fn number(&self) -> String {
        let pid = until("a process number", || {
            fs::read_to_string(&self.files.pid).ok().filter(|pid| pid.ends_with('\n'))
        });
        pid.trim().to_owned()
    }

    /// The paths of its open files, as the kernel shows them: with ` (deleted)` after those that were removed.
    pub(crate) fn open_files(&self) -> Vec<String> {
        let Ok(files) = fs::read_dir(format!("/proc/{}/fd", self.number())) else { return Vec::new() };
        let target = |entry: std::io::Result<fs::DirEntry>| fs::read_link(entry.ok()?.path()).ok();
        files.filter_map(target).map(|path| path.to_string_lossy().into_owned()).collect()
    }

    /// Whether it has mapped a file whose path has this in it.
    pub(crate) fn has_mapped(&self, path: &str) -> bool {
        fs::read_to_string(format!("/proc/{}/maps", self.number())).unwrap().contains(path)
    }

    /// How many threads it has.
    pub(crate) fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.number())).map_or(0, Iterator::count)
    }

    /// How many threads of this name it has.
    pub(crate) fn threads_named(&self, name: &str) -> usize {
        let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", self.number())) else { return 0 };
        let is_it = |task: &std::io::Result<fs::DirEntry>| {
            let comm = task.as_ref().ok().and_then(|task| fs::read_to_string(task.path().join("comm")).ok());
            comm.is_some_and(|comm| comm.trim_end() == name)
        };
        tasks.filter(is_it).count()
    }

    /// Sends it a signal, such as `TERM`.
    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([&format!("-{signal}"), &self.number()]).status().unwrap();
        assert!(status.success(), "cannot signal {}", self.label);
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Ended {
        let status = until(&format!("the end of {}", self.label), || self.child.try_wait().unwrap());
        Ended { code: status.code(), stdout: self.stdout(), stderr: self.stderr() }
    }

    /// Waits for its end with code 0.
    pub(crate) fn succeed(self) -> Ended {
        let label = self.label.clone();
        let ended = self.finish();
        assert_eq!(ended.code, Some(0), "{label}: {}", ended.stderr);
        ended
    }

    /// Waits for its end with code 0 and one JSON document on standard output.
    pub(crate) fn json(self) -> Value {
        let label = self.label.clone();
        let ended = self.succeed();
        serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|error| panic!("{label}: {error}: {}", ended.stdout))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            if let Ok(pid) = fs::read_to_string(&self.files.pid) {
                let _ = Command::new("kill").args(["-KILL", pid.trim()]).stderr(Stdio::null()).status();
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
