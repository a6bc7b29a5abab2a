//! Every command line of README.md and docs/*.md is run as it stands there, or says here why it is not.
//!
//! A command line is a line of a code block without a language, or of `sh`, and what stands in backquotes in a table and begins with
//! the name of a program. Square brackets are options: the command is run with all of them, and without.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::common::display::Display;
use crate::common::harness::{is_installed, text};
use crate::common::lan::{Host, Lan};
use crate::common::process::Process;
use crate::common::until;

/// How a command line that is run ends.
#[derive(Clone, Copy, Debug)]
enum Ends {
    /// By itself, with exit status 0.
    Well,
    /// By itself, with exit status 1, and this on standard error.
    Badly(&'static str),
    /// Not by itself: it opens a window with this in its title.
    Window(&'static str),
    /// Not by itself: it logs this.
    Log(&'static str),
    /// Like `Window(ANY)`, started by `viewer --player`, which replaces what stands in braces.
    Player,
    /// Like `Player`, where the groups have a route.
    PlayerWithRoute,
    /// By itself, as a player, with exit status 0.
    PlayerWell,
}

use Ends::{Badly, Log, Player, PlayerWell, PlayerWithRoute, Well, Window};

/// A part of the title of our window while it shows a station.
const OURS: &str = " - stationcast";

/// A part of any title. The root window has none.
const ANY: &str = ".";

/// The command lines that are run while no broadcaster is.
const OFF_AIR: [(&str, Ends); 8] = [
    ("target/release/broadcaster --config stations.toml", Log(" on air: ")),
    ("broadcaster [--config stations.toml]", Log(" on air: ")),
    ("broadcaster check --config stations.toml", Well),
    ("broadcaster check [--config stations.toml]", Well),
    ("broadcaster check", Well),
    ("broadcaster check --films --config stations.toml", Well),
    ("broadcaster sdp 2 [--config stations.toml]", Well),
    ("broadcaster sdp 2 --config stations.toml >2.sdp", Well),
];

/// The command lines that are run while the demo is on air.
const ON_AIR: &[(&str, Ends)] = &[
    ("target/release/viewer --station 2", Window(OURS)),
    ("viewer [--station 2] [--directory 127.0.0.1:9688]", Window(OURS)),
    ("viewer --mosaic [1,2,901]", Window(OURS)),
    ("viewer --station 2 --tcp", Window(OURS)),
    ("viewer --tcp", Window(OURS)),
    ("viewer --list [--json]", Well),
    ("viewer --station 2 --headless --seconds 5 --json", Well),
    ("viewer --station 2 --headless --frames 40 --save-frames DIR", Well),
    ("viewer --headless --zap 100 --json", Well),
    ("viewer --rtp 239.1.1.1:5004 [--interface eth0]", Window(OURS)),
    ("viewer --sdp http://127.0.0.1:8088/stations/2.sdp", Window(OURS)),
    ("viewer --sdp rtsp://127.0.0.1:8554/2", Window(OURS)),
    ("viewer --station 2 --probe --seconds 5 [--json] [--plot out.svg]", Well),
    ("viewer --probe --rtp 239.1.1.1:5004 --clock 90000 [--interface eth0]", Well),
    ("viewer --station 2 --player \"mpv {rtsp}\"", Window(ANY)),
    ("viewer --station 2 --player \"mpv --profile=low-latency {sdp}\"", Window(ANY)),
    ("viewer --station 2 --player \"ffplay -i {sdp}\"", Window(ANY)),
    ("broadcaster status [--watch | --json]", Well),
    ("broadcaster status", Well),
    ("broadcaster reload [--dry-run] [--config stations.toml]", Well),
    ("broadcaster control 2 skip", Well),
    ("broadcaster control 2 play media/ocean.mp4", Well),
    ("broadcaster control 2 hold \"back at 14:00\"", Well),
    ("broadcaster control 2 resume", Well),
    ("ffplay -rtsp_transport tcp rtsp://127.0.0.1:8554/2", Window(ANY)),
    ("ffplay -rtsp_transport http rtsp://127.0.0.1:8554/2", Window(ANY)),
    (
        "broadcaster sdp 2 >2.sdp; ffplay -protocol_whitelist file,udp,rtp -localaddr 127.0.0.1 -i 2.sdp",
        Window(ANY),
    ),
    ("mpv rtsp://127.0.0.1:8554/2/demand", Window(ANY)),
    ("mpv http://127.0.0.1:8088/stations.m3u", Window(ANY)),
    ("mpv http://127.0.0.1:8088/stations/2.mkv", Window(ANY)),
    (
        "gst-launch-1.0 rtspsrc location=rtsp://127.0.0.1:8554/2 ! rtpjpegdepay ! jpegdec ! videoconvert ! autovideosink",
        Window(ANY),
    ),
    (
        "ffplay -protocol_whitelist file,udp,rtp -localaddr {local} -fflags nobuffer -flags low_delay -probesize 32 {sdp}",
        Player,
    ),
    ("mpv --profile=low-latency --demuxer-lavf-o=localaddr={local} {sdp}", Player),
    ("ffmpeg -protocol_whitelist file,udp,rtp -localaddr {local} -i {sdp} -t 5 -c copy 2.mkv", PlayerWell),
    (
        "gst-launch-1.0 udpsrc multicast-iface=lo address={group} port={port} \
         caps=\"application/x-rtp,media=video,clock-rate=90000,encoding-name=JPEG,payload=26\" ! rtpjitterbuffer latency=50 \
         ! rtpjpegdepay ! jpegdec ! videoconvert ! autovideosink",
        Player,
    ),
    (
        "gst-launch-1.0 filesrc location={sdp} ! sdpdemux ! rtpjpegdepay ! jpegdec ! videoconvert ! autovideosink",
        PlayerWithRoute,
    ),
    (
        "gst-launch-1.0 souphttpsrc location={http} is-live=true do-timestamp=true ! multipartdemux single-stream=true \
         ! jpegdec ! videoconvert ! autovideosink",
        Player,
    ),
    ("gst-play-1.0 {rtsp}", Player),
    ("mplayer -demuxer lavf {http}", Player),
];

/// Command lines that stand in no document, and are of a kind that has failed.
const MORE: &[(&str, Ends)] = &[
    ("viewer --station 2 --player \"ffplay -i /nowhere.sdp\"", Badly("the player ffplay ended after")),
    ("viewer --station 2 --player \"mpv /nowhere.sdp\"", Badly("the player mpv ended with exit status: 2")),
    ("viewer --station 2 --player \"nosuchplayer {sdp}\"", Badly("the player nosuchplayer is not installed")),
];

/// The command lines that are not run, by their beginnings, and why.
const NOT_RUN: &[(&str, &str)] = &[
    ("make ", "installs packages, or builds everything; this test is a part of `make test`"),
    ("sudo ", "changes this machine"),
    ("sudoedit ", "changes this machine"),
    ("journalctl ", "needs a service"),
    ("cargo build ", "builds everything once more"),
    ("echo 'net.core.rmem_max", "changes this machine"),
    ("xdg-open ", "opens a browser"),
    (
        "viewer --sdp rtsps://192.0.2.7",
        "is another machine; a station for some is watched that way in its own test",
    ),
    (
        "curl -H \"Authorization: Bearer $TOKEN\"",
        "is another machine, and needs a token; orders by HTTP have tests of their own",
    ),
    ("vlc ", "VLC refuses to run as root, which everybody is in a test's namespace"),
    ("gst-play-1.0 {http}", "takes 8 s and more, as the table says"),
    ("broadcaster prepare", "encodes every film; `an_interrupted_preparation_goes_on` runs it"),
    ("broadcaster check --config my.toml", "a file of the reader's"),
    ("broadcaster play", "`a_film_is_on_air_by_one_command` runs it"),
    ("target/release/broadcaster play", "`a_film_is_on_air_by_one_command` runs it"),
    ("broadcaster publish", "`our_publisher_connects_again` and `our_publisher_sends_a_camera` run it"),
    (
        "ffmpeg -re -i film.mp4 -c",
        "`ffmpeg_publishes_over_tcp` and `ffmpeg_publishes_over_udp_and_in_h264` run it",
    ),
    ("ffmpeg -f v4l2 ", "needs a camera"),
    ("gst-launch-1.0 v4l2src ", "needs a camera; `gstreamer_publishes` runs the rest of it"),
    ("broadcaster status --watch", "needs a terminal"),
    ("broadcaster check --config /etc/stationcast/stations.toml", "the file of an installed package"),
    ("viewer --probe --pcap ", "needs a capture; `a_capture_is_measured` makes one"),
    ("viewer --directory 192.0.2.7:9688", "an address of documents"),
    ("viewer --directory tv.example.org:9688", "a name of documents"),
    (
        "viewer --require-signed ",
        "`a_viewer_that_requires_signatures_shows_the_signed_station_alone` runs it",
    ),
    (
        "broadcaster token ",
        "needs [access]; `a_station_for_some_is_watched_by_those_and_by_no_others` runs it",
    ),
];

/// Programs whose names begin a command line in a table.
const PROGRAMS: [&str; 18] = [
    "broadcaster",
    "cargo",
    "curl",
    "cvlc",
    "ffmpeg",
    "ffplay",
    "gst-launch-1.0",
    "gst-play-1.0",
    "ip",
    "journalctl",
    "make",
    "mplayer",
    "mpv",
    "sudo",
    "systemctl",
    "viewer",
    "vlc",
    "xdg-open",
];

/// A command line, and where it stands.
struct Line {
    command: String,
    place: String,
}

/// The command lines of a document.
fn lines(name: &str, document: &str) -> Vec<Line> {
    let mut found = Vec::new();
    let mut language = None;
    let mut prompts = false;
    for (at, line) in document.lines().enumerate() {
        let mut add = |command: &str| {
            let place = format!("{name}:{}", at + 1);
            found.push(Line { command: command.to_owned(), place });
        };
        if let Some(fence) = line.trim_start().strip_prefix("```") {
            language = language.is_none().then(|| fence.to_owned());
            prompts = false;
            continue;
        }
        match &language {
            Some(language) if language.is_empty() || language == "sh" => {
                let line = line.trim();
                // Behind the first prompt, other lines are output.
                prompts |= line.starts_with("$ ");
                let command = line.strip_prefix("$ ").or((!prompts).then_some(line)).unwrap_or_default();
                // Two spaces begin a remark.
                let command = command.split("  ").next().unwrap_or_default();
                if !command.is_empty() {
                    add(command);
                }
            }
            Some(_) => {}
            None if line.starts_with('|') => {
                for code in line.split('`').skip(1).step_by(2) {
                    let is_program =
                        |first: &str| PROGRAMS.contains(&first) || first.starts_with("target/release/");
                    if code.split_once(' ').is_some_and(|(first, _)| is_program(first)) {
                        add(code);
                    }
                }
            }
            None => {}
        }
    }
    found
}

/// A command with all of its options in brackets, the first of alternatives, and without.
fn forms(command: &str) -> Vec<String> {
    let (mut with, mut without) = (String::new(), String::new());
    let mut rest = command;
    while let Some((before, after)) = rest.split_once('[') {
        let (options, after) = after.split_once(']').expect("a bracket that is closed");
        // The last one: `--watch` of the status needs a terminal.
        let chosen = options.rsplit('|').next().unwrap_or_default().trim();
        with += &format!("{before}{chosen}");
        without += before;
        rest = after;
    }
    (with, without) = (with + rest, without + rest);
    let mut forms = vec![with.trim().to_owned(), without.trim().to_owned()];
    forms.dedup();
    forms
}

fn documents() -> Vec<Line> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> = vec![root.join("README.md")];
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    files.extend(docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    files.sort();
    let read = |file: &PathBuf| {
        let name = file.strip_prefix(root).unwrap().display().to_string();
        lines(&name, &fs::read_to_string(file).unwrap())
    };
    files.iter().flat_map(read).collect()
}

/// A folder as a checkout after `make build`, in which the command lines are typed.
struct Checkout<'a> {
    host: Host<'a>,
    folder: PathBuf,
}

impl<'a> Checkout<'a> {
    fn new(lan: &'a Lan, host: Host<'a>) -> Checkout<'a> {
        let folder = lan.folder().join("checkout");
        fs::create_dir_all(folder.join("target/release")).unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in ["media", "stations.toml"] {
            symlink(root.join(name), folder.join(name)).unwrap();
        }
        for (name, program) in
            [("broadcaster", env!("CARGO_BIN_EXE_broadcaster")), ("viewer", env!("CARGO_BIN_EXE_viewer"))]
        {
            symlink(program, folder.join("target/release").join(name)).unwrap();
        }
        Checkout { host, folder }
    }

    /// Types a command line. The shell is replaced by the last program of it, so that this is what ends.
    fn script(&self, command: &str) -> String {
        let (first, last) = command.rsplit_once("; ").map_or(("", command), |(first, last)| (first, last));
        let first = if first.is_empty() { String::new() } else { format!("{first}; ") };
        format!("cd {0}; PATH={0}/target/release:$PATH; {first}exec {last}", text(&self.folder))
    }

    fn run(&self, command: &str) -> Process {
        self.host.run("sh", &["-c", &self.script(command)])
    }

    fn check(&self, place: &str, command: &str, ends: Ends) {
        let program = command.split(' ').next().unwrap_or_default();
        let is_ours = program == "broadcaster" || program == "viewer" || program.starts_with("target/");
        let player = command.split_once("--player ").map(|(_, player)| player.trim_matches(['"', '\'']));
        let player = player.and_then(|player| player.split(' ').next());
        let is_to_be_missing = matches!(ends, Badly(said) if said.ends_with("is not installed"));
        let programs = [Some(program).filter(|_| !is_ours), player.filter(|_| !is_to_be_missing)];
        if let Some(missing) = programs.into_iter().flatten().find(|program| !is_installed(program)) {
            eprintln!("{place}: {missing} is not installed: {command}");
            return;
        }
        match ends {
            Well => {
                let ended = self.run(command).finish();
                assert_eq!(ended.code, Some(0), "{place}: {command}: {}", ended.stderr);
            }
            Badly(said) => {
                let display = Display::new(self.host, "640x480");
                let ended = display.run(&[], "sh", &["-c", &self.script(command)]).finish();
                assert!(
                    ended.code == Some(1) && ended.stderr.contains(said),
                    "{place}: {command}: {ended:?}"
                );
            }
            Log(said) => {
                let mut program = self.run(command);
                program.await_log(said, 1);
                // Its ports are free for the next one when it has ended.
                program.signal("TERM");
                let _ = program.finish();
            }
            Window(title) => self.opens(place, command, title),
            PlayerWell => self.check(place, &format!("viewer --station 2 --player '{command}'"), Well),
            Player => self.opens(place, &format!("viewer --station 2 --player '{command}'"), ANY),
            PlayerWithRoute => {
                self.host.tool("ip", &["route", "add", "239.77.0.0/24", "dev", "lo"]);
                self.opens(place, &format!("viewer --station 2 --player '{command}'"), ANY);
                self.host.tool("ip", &["route", "del", "239.77.0.0/24", "dev", "lo"]);
            }
        }
    }

    /// A window is there once a picture has been decoded.
    fn opens(&self, place: &str, command: &str, title: &str) {
        let display = Display::new(self.host, "1280x800");
        let settings = ["SDL_AUDIODRIVER=dummy"];
        let mut program = display.run(&settings, "sh", &["-c", &self.script(command)]);
        until(&format!("a window of {command} ({place})"), || {
            assert!(program.runs(), "{place}: {command} ended: {}", program.stderr());
            let search = ["search", "--onlyvisible", "--name", title];
            let found = display.run(&[], "xdotool", &search).finish();
            (!found.stdout.trim().is_empty()).then_some(())
        });
        program.signal("TERM");
        let _ = program.finish();
    }
}

pub(crate) fn every_command_line_of_the_documents() {
    let lines = documents();
    let known = |command: &str| OFF_AIR.iter().chain(ON_AIR).find(|(known, _)| *known == command);
    let is_left_out =
        |command: &str| NOT_RUN.iter().any(|(begin, _)| format!("{command} ").starts_with(begin));
    let unknown: Vec<String> = lines
        .iter()
        .filter(|line| known(&line.command).is_none() && !is_left_out(&line.command))
        .map(|line| format!("{}: {}", line.place, line.command))
        .collect();
    assert!(unknown.is_empty(), "neither run nor left out with a reason:\n{}", unknown.join("\n"));

    let place =
        |command: &str| lines.iter().find(|line| line.command == command).map(|line| line.place.as_str());
    {
        let lan = Lan::alone();
        let checkout = Checkout::new(&lan, lan.machine());
        for (command, ends) in OFF_AIR {
            for form in forms(command) {
                checkout.check(place(command).unwrap_or("here"), &form, ends);
            }
        }
    }
    // The groups of the demo are on loopback, and the default route is elsewhere, as on most machines.
    let lan = Lan::new(&["demo"]);
    let demo = lan.host("demo");
    let checkout = Checkout::new(&lan, demo);
    let mut broadcaster = checkout.run("broadcaster --config stations.toml");
    broadcaster.await_log(" on air: ", 3);
    let stranger = "-v error -nostdin -re -f lavfi -i testsrc2=s=320x240:r=25 -c:v mjpeg -huffman default \
                    -force_duplicated_matrix 1 -pix_fmt yuvj420p -f rtp rtp://239.1.1.1:5004?ttl=1&pkt_size=1400";
    let _stranger = demo.run("ffmpeg", &stranger.split_whitespace().collect::<Vec<_>>());
    for (command, ends) in ON_AIR.iter().chain(MORE) {
        for form in forms(command) {
            checkout.check(place(command).unwrap_or("here"), &form, *ends);
        }
    }
}

/// A document line that is new is found.
pub(crate) fn command_lines_are_found() {
    let document = "```\n$ viewer --new      a remark\noutput\n```\n| `viewer --table x` | `--option` and `sdp` |\n\
                    ```toml\nid = 1\n```\n```sh\nmpv [--a | --b] x   # remark\n```\n`viewer --prose y`\n";
    let found: Vec<String> =
        lines("X.md", document).into_iter().map(|line| line.place + " " + &line.command).collect();
    assert_eq!(found, ["X.md:2 viewer --new", "X.md:5 viewer --table x", "X.md:10 mpv [--a | --b] x"]);
    assert_eq!(forms("mpv [--a | --b] x"), ["mpv --b x", "mpv  x"]);
}
