//! Exit codes and messages of the broadcaster's commands that need no network.

#![expect(clippy::disallowed_methods, reason = "a test waits for programs, and not for ever")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
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

/// A broadcaster that was started. It is killed when this is dropped, as when its test fails.
struct Started {
    child: Child,
    /// The lines of its log.
    log: Receiver<String>,
}

impl Started {
    fn new(mut command: Command) -> Started {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, log) = mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Started { child, log }
    }

    /// As [`new`](Self::new), when it is on air.
    fn on_air(command: Command) -> Started {
        let started = Started::new(command);
        started.until(" on air: ");
        started
    }

    /// The next line of the log, awaited since `begun`; `None` after the last one.
    fn line(&self, begun: Instant) -> Option<String> {
        match self.log.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("waited {} s in vain for its log", PATIENCE.as_secs()),
        }
    }

    /// Reads the log up to the line that contains `text`.
    fn until(&self, text: &str) {
        let begun = Instant::now();
        let mut lines = std::iter::from_fn(|| self.line(begun));
        assert!(lines.any(|line| line.contains(text)), "the log ends without {text:?}");
    }

    /// Sends it a signal.
    fn send(&self, signal: &str) {
        let status =
            Command::new("kill").args(["-s", signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Its exit status, and the rest of its log.
    fn finish(mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        let said: Vec<String> = std::iter::from_fn(|| self.line(begun)).collect();
        (self.child.wait().unwrap().code(), said.join("\n"))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
        let mut command = broadcaster(&["prepare", "--config", config.to_str().unwrap()]);
        command.stdout(Stdio::null());
        let preparing = Started::new(command);
        let begun = Instant::now();
        while reels(&dir) == 0 {
            assert!(begun.elapsed() < PATIENCE, "no reel is made");
            std::thread::yield_now();
        }
        preparing.send(signal);
        let (code, said) = preparing.finish();
        assert_eq!(code, Some(1), "after SIG{signal}: {said}");
        assert!(said.contains("stopped before the end; run it again to continue"), "{said}");
        assert!(reels(&dir) < 40);
    }
}

/// Standard output, standard error, and the exit status of a command in the repository's folder.
fn said(args: &[&str]) -> (String, String, Option<i32>) {
    let Output { status, stdout, stderr } = broadcaster(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&stdout), text(&stderr), status.code())
}

#[test]
fn check_tells_what_each_film_is() {
    let (out, err, code) = said(&["check"]);
    assert_eq!((err.as_str(), code), ("", Some(0)));
    let document = include_str!("../docs/stations.md");
    let output = document.split("$ broadcaster check --config stations.toml\n").nth(1).unwrap();
    let shown = output.split("```").next().unwrap();
    assert_eq!(out, shown, "the document shows it");
    assert!(shown.contains("2   media/nature.mp4  640x360  29.97/s    0:24  aac    -     OpenCV\n"));
    let (out, _, code) = said(&["check", "--films"]);
    assert!(out.contains("media/ocean.mp4\n  decoder  OpenCV\n") && code == Some(0), "{out}");
}

#[test]
fn check_tells_that_only_one_picture_of_an_animation_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let animation = folder.path().join("moves.webp");
    let status = Command::new("ffmpeg")
        .args("-nostdin -v error -f lavfi -i testsrc=s=320x240:r=2 -frames:v 4 -c:v libwebp_anim".split(' '))
        .arg(&animation)
        .status();
    assert!(status.unwrap().success());
    let config = folder.path().join("stations.toml");
    let keys = format!("id = 1\nname = \"1\"\nmedia = {animation:?}\ngroup = \"239.78.2.1:5004\"");
    fs::write(&config, format!("[[station]]\n{keys}\n")).unwrap();
    let (out, err, code) = said(&["check", "--films", "--config", config.to_str().unwrap()]);
    let note = "  note     moves.webp is an animated WebP; only its first picture is shown\n";
    assert!(out.contains(note) && code == Some(0), "{out}{err}");
}

#[test]
fn why_the_program_ends_is_an_error_to_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("stations.toml");
    fs::write(&config, "[[station]]\nid = 0\nnmae = \"x\"\n").unwrap();
    let run = |is_journal: bool| {
        let stderr = fs::File::create(folder.path().join("stderr")).unwrap();
        let told = stderr.metadata().unwrap();
        let stream = format!("{}:{}", told.dev(), told.ino() + u64::from(!is_journal));
        let mut broadcaster = broadcaster(&["--config", config.to_str().unwrap()]);
        let code = broadcaster.env("JOURNAL_STREAM", stream).stderr(stderr).status().unwrap().code();
        assert_eq!(code, Some(2));
        fs::read_to_string(folder.path().join("stderr")).unwrap()
    };
    let plain = run(false);
    assert!(plain.lines().count() > 1 && plain.contains("nmae") && !plain.contains("<3>"), "{plain}");
    let expected: String = plain.lines().map(|line| format!("<3>{line}\n")).collect();
    assert_eq!(run(true), expected);
}

#[test]
fn the_films_of_a_fallback_and_of_times_of_day_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["pause.mp4", "evening.mp4"] {
        fs::write(folder.path().join(name), "no film").unwrap();
    }
    let config = folder.path().join("stations.toml");
    let keys = "id = 1\nname = \"1\"\nmedia = \"rtsp://192.0.2.1/a\"\nfallback = \"pause.mp4\"\ngroup = \"239.78.2.1:5004\"";
    let at = "[[station.at]]\nfrom = \"18:00\"\nto = \"19:30\"\nmedia = \"evening.mp4\"";
    fs::write(&config, format!("[[station]]\n{keys}\n{at}\n")).unwrap();
    let (_, err, code) = said(&["check", "--config", config.to_str().unwrap()]);
    for name in ["pause.mp4", "evening.mp4"] {
        assert!(err.contains(&format!("{name} is not a film")), "{err}");
    }
    assert_eq!((err.lines().count(), code), (2, Some(2)), "{err}");
}

/// FFmpeg takes any file for a film of text if its name ends in txt or bin, and random bytes for many things.
#[test]
fn what_is_not_a_film_is_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let readme = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    // A generator that needs no state worth naming: the high bytes of a linear congruence (Knuth, MMIX).
    let mut state = 1u64;
    let random: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(300_000)
    .collect();
    let mut films = Vec::new();
    for (kind, bytes) in [("text", &readme[..]), ("random", &random), ("empty", b"")] {
        for name in [".md", ".txt", ".nfo", ".bin", ".mp4", ".mkv", ".ts", ".mpg", ".avi", ""] {
            let film = folder.path().join(format!("{kind}{name}"));
            fs::write(&film, bytes).unwrap();
            films.push(film.to_str().unwrap().to_owned());
        }
    }
    let config = folder.path().join("stations.toml");
    let keys = format!("id = 1\nname = \"1\"\nmedia = {films:?}\ngroup = \"239.78.2.1:5004\"");
    fs::write(&config, format!("[[station]]\n{keys}")).unwrap();
    let config = config.to_str().unwrap();
    let are_refused = |err: &str, start: &str| {
        let lines: Vec<&str> = err.lines().collect();
        assert_eq!(lines.len(), films.len(), "{err}");
        for (line, film) in lines.iter().zip(&films) {
            let name = Path::new(film).file_name().unwrap().to_str().unwrap();
            // Random bytes may look like sound.
            let sentences = [
                "is not a film: there is no video in it that this system can decode",
                "is music: it has no video, at most cover art",
            ];
            assert!(sentences.iter().any(|sentence| *line == format!("{start}{name} {sentence}")), "{line}");
        }
    };

    let (_, err, code) = said(&["check", "--config", config]);
    are_refused(&err, &format!("{config}:1: station \"1\": "));
    assert_eq!(code, Some(2));
    let mut play = vec!["play"];
    play.extend(films.iter().map(String::as_str));
    let (out, err, code) = said(&play);
    are_refused(&err, "broadcaster: ");
    assert_eq!((out.as_str(), code), ("", Some(2)));
    assert_eq!(said(&["check", "--fast", "--config", config]).2, Some(0), "the films are not opened");
}

/// The path of a line-up with one station on loopback, whose directory listens on a free port.
fn one_station(folder: &Path) -> String {
    let film = Path::new(env!("CARGO_MANIFEST_DIR")).join("media/nature.mp4");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = folder.join("stations.toml");
    let station =
        format!("id = 1\nname = \"1\"\nmedia = {film:?}\ngroup = \"239.78.2.1:5004\"\nttl = 0\nreel = false");
    fs::write(&config, format!("[directory]\nlisten = \"{free}\"\n[[station]]\n{station}")).unwrap();
    config.to_str().unwrap().to_owned()
}

#[test]
fn a_hang_up_reloads_the_line_up() {
    let folder = tempfile::tempdir().unwrap();
    let started = Started::on_air(broadcaster(&["--config", &one_station(folder.path())]));
    for _ in 0..2 {
        started.send("HUP");
        started.until("reload: nothing has changed");
    }
    started.send("TERM");
    started.until("off air: ");
    assert_eq!(started.finish().0, Some(0));
}

/// The filter drops the log lines of the program itself; a line of the library says that it is on air.
#[test]
fn a_log_filter_does_not_decide_whether_the_broadcaster_stays_on_air() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = broadcaster(&["--config", &one_station(folder.path())]);
    command.env("RUST_LOG", "stationcast=info");
    let started = Started::on_air(command);
    started.send("TERM");
    started.until("off air: ");
    assert_eq!(started.finish().0, Some(0));
}

#[test]
fn an_abort_is_exit_status_1() {
    let folder = tempfile::tempdir().unwrap();
    let started = Started::on_air(broadcaster(&["--config", &one_station(folder.path())]));
    started.send("ABRT");
    assert_eq!(started.finish().0, Some(1));
}

#[test]
fn a_broadcaster_with_a_key_writes_no_core_file() {
    let folder = tempfile::tempdir().unwrap();
    let config = one_station(folder.path());
    for (keys, dumps) in [("", true), ("\nencrypt = true", false)] {
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text + keys).unwrap();
        let script = "ulimit -c unlimited; exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_broadcaster"), "--config", &config]);
        command.current_dir(folder.path());
        let mut started = Started::on_air(command);
        started.send("SYS");
        let status = started.child.wait().unwrap();
        assert_eq!(status.signal(), Some(31), "{keys:?}");
        // Whether one without secrets leaves a core file depends on the machine (core(5)).
        assert!(dumps || !status.core_dumped(), "{keys:?}");
    }
}

/// The exit status and stderr of a broadcaster that may use `kibibytes` KiB of address space; no status if a signal ended it.
fn within(kibibytes: u64, args: &[&str]) -> (Option<i32>, String) {
    let script = format!("ulimit -c 0; ulimit -v {kibibytes}; exec \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh", "timeout", "20", env!("CARGO_BIN_EXE_broadcaster")]).args(args);
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_broadcaster_with_too_little_address_space_says_so_and_fails() {
    let folder = tempfile::tempdir().unwrap();
    let config = one_station(folder.path());
    // With less than `check --fast` needs, the dynamic loader or a library fails before the program begins.
    let (mut too_little, mut enough) = (0, 8 << 20);
    while enough - too_little > 64 {
        let middle = (too_little + enough) / 2;
        let (code, _) = within(middle, &["check", "--fast", "--config", &config]);
        *(if code == Some(0) { &mut enough } else { &mut too_little }) = middle;
    }
    // With more, up to 1.1 GB, a broadcaster ended at random, also by a segmentation fault.
    for kibibytes in [enough, 600_000, 1_000_000, (3 << 19) - 1] {
        for args in
            [&["--config", &config][..], &["check", "--config", &config], &["prepare", "--config", &config]]
        {
            let (code, said) = within(kibibytes.max(enough), args);
            assert_eq!(code, Some(1), "{said}");
            assert!(said.contains("the limit of address space is"), "{said}");
        }
    }
}
