//! Exit codes and messages of the broadcaster's commands that need no network.

#![expect(clippy::disallowed_methods, reason = "a test waits for programs, and not for ever")]

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer than any step takes here.
const PATIENCE: Duration = Duration::from_secs(60);

fn broadcaster(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_broadcaster"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(args);
    command
}

#[test]
fn a_client_that_stops_reading_is_not_a_failure() {
    for args in [&["check"][..], &["sdp", "1"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let Output { status, stderr, .. } =
            broadcaster(args).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&stderr));
    }
}

/// How many finished reels are in `folder`.
fn reels(folder: &Path) -> usize {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter(|file| file.path().extension().is_some_and(|extension| extension == "reel")).count()
}

fn finish(mut child: Child) -> (Option<i32>, String) {
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (child.wait().unwrap().code(), said)
}

#[test]
fn an_interrupted_preparation_says_how_to_go_on() {
    // One film in 40 qualities, which takes a while.
    let film = Path::new(env!("CARGO_MANIFEST_DIR")).join("media/nature.mp4");
    let station = |n: u16| {
        format!(
            "[[station]]\nid = {n}\nname = \"{n}\"\nmedia = {film:?}\ngroup = \"239.78.1.{n}:5004\"\nquality = {}\n",
            40 + n
        )
    };
    for signal in ["TERM", "INT"] {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("reels");
        let config = folder.path().join("stations.toml");
        let stations: String = (1..=40).map(station).collect();
        fs::write(&config, format!("[reel]\ndir = {dir:?}\n{stations}")).unwrap();
        let preparing = broadcaster(&["prepare", "--config", config.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while reels(&dir) == 0 {
            assert!(begun.elapsed() < PATIENCE, "no reel is made");
            std::thread::yield_now();
        }
        let pid = preparing.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        let (code, said) = finish(preparing);
        assert_eq!(code, Some(1), "after SIG{signal}: {said}");
        assert!(said.contains("stopped before the end; start it again to go on"), "{said}");
        assert!(reels(&dir) < 40);
    }
}
