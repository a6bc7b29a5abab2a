//! The sound of a station, as a viewer hears it: a film with a flash and a beep at each full second.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use serde_json::Value;

use crate::common::film::ffmpeg;
use crate::common::harness::{scratch, text};
use crate::common::lan::{Lan, head, station};

const DIRECTORY: &str = "10.77.0.1:9688";

/// How far sound and picture may be apart, in seconds: half of what ATSC IS-191 allows for sound that is early.
const IN_STEP: f64 = 0.015;

/// Most runs until one is undisturbed.
const RUNS: usize = 4;

/// 10 s at 25 pictures a second, in H.264 with B-frames and AAC.
pub(crate) fn flash_and_beep() -> PathBuf {
    // Tests that run at the same time share it.
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap();
    let path = scratch().join("flash-and-beep.mp4");
    if path.exists() {
        return path;
    }
    let unfinished = scratch().join("flash-and-beep-unfinished.mp4");
    let flash = "color=black:s=320x180:r=25:d=10,drawbox=c=white:t=fill:enable='lt(mod(t\\,1)\\,0.08)'";
    let beep = "aevalsrc='0.5*sin(2*PI*1000*t)*lt(mod(t,1),0.08)':s=48000:d=10";
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i", flash, "-f", "lavfi", "-i", beep])
        .args(["-c:v", "libx264", "-bf", "2", "-pix_fmt", "yuv420p", "-c:a", "aac", text(&unfinished)])
        .status()
        .unwrap();
    assert!(status.success());
    fs::rename(unfinished, &path).unwrap();
    path
}

/// Three pictures of 4 s each, and a tone that never pauses.
fn slides_with_a_tone() -> PathBuf {
    let path = scratch().join("slides-with-a-tone.mkv");
    let pictures = "testsrc2=s=320x180:r=1/4:d=12";
    let tone = "sine=frequency=440:sample_rate=48000:duration=12";
    let inputs = format!("-f lavfi -i {pictures} -f lavfi -i {tone}");
    let codecs = "-c:v libx264 -pix_fmt yuv420p -c:a flac";
    ffmpeg(&format!("{inputs} {codecs}"), &path);
    path
}

/// The pauses of 30 ms or more in a WAV file, from its first sound on, as FFmpeg tells them.
fn pauses(wav: &Path) -> Vec<String> {
    let filter = "silenceremove=start_periods=1:start_threshold=0.01,silencedetect=noise=0.01:d=0.03";
    let args = ["-nostdin", "-nostats", "-i", text(wav), "-af", filter, "-f", "null", "-"];
    let said = Command::new("ffmpeg").args(args).output().unwrap().stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("muxing overhead") || said.contains("video:0kB"), "{said}");
    said.lines().filter(|line| line.contains("silence_")).map(str::to_owned).collect()
}

/// When each beep of a WAV file begins, in seconds: after 0.2 s of silence.
fn beeps(wav: &Path) -> Vec<f64> {
    let bytes = fs::read(wav).unwrap();
    assert_eq!(bytes[..4], *b"RIFF");
    assert_eq!(
        u32::from_le_bytes(bytes[40..44].try_into().unwrap()) as usize,
        bytes.len() - 44,
        "its header is right"
    );
    let (mut beeps, mut quiet) = (Vec::new(), 0);
    for (n, frame) in bytes[44..].chunks_exact(4).enumerate() {
        if i16::from_le_bytes([frame[0], frame[1]]).unsigned_abs() > 1000 {
            if quiet > 9600 {
                beeps.push(n as f64 / 48_000.0);
            }
            quiet = 0;
        } else {
            quiet += 1;
        }
    }
    beeps
}

/// When each flash was shown, in seconds of the WAV file.
fn flashes(folder: &Path) -> Vec<f64> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i", text(&folder.join("frame-%06d.jpg"))])
        .args(["-vf", "scale=1:1,format=gray", "-f", "rawvideo", "-"])
        .output()
        .unwrap();
    let table = fs::read_to_string(folder.join("times.csv")).unwrap();
    let shown = table.lines().skip(1).filter_map(|line| {
        let (number, seconds) = line.split_once(',')?;
        Some((number.parse::<usize>().ok()?, seconds.parse::<f64>().ok()?))
    });
    let bright = |number: usize| output.stdout.get(number - 1).is_some_and(|luma| *luma > 150);
    shown
        .filter(|(number, _)| *number > 1 && bright(*number) && !bright(*number - 1))
        .map(|(_, at)| at)
        .collect()
}

/// The times of flashes and of beeps, in seconds.
type FlashesAndBeeps = (Vec<f64>, Vec<f64>);

/// Watches `place`, the arguments of a viewer, for 8 s. Returns the summary, and when flashes were seen and beeps heard.
pub(crate) fn listen(lan: &Lan, place: &[&str], name: &str) -> (Value, FlashesAndBeeps) {
    let folder = lan.folder().join(format!("pictures-{name}"));
    let wav = folder.with_extension("wav");
    let args = ["--headless", "--seconds", "8", "--json"];
    let save = ["--save-sound", text(&wav), "--save-frames", text(&folder)];
    let summary = lan.host("one").viewer(&[place, &args, &save].concat()).json();
    (summary, (flashes(&folder), beeps(&wav)))
}

/// The first run that nothing has disturbed: one in which a busy machine has held up a program for 100 ms or more says nothing of
/// the viewer.
fn undisturbed<T>(run: impl FnMut(usize) -> (Value, T)) -> (Value, T) {
    (0..RUNS)
        .map(run)
        .find(|(summary, _)| summary["sound"]["stalls"] == 0 && summary["sound"]["resyncs"] == 0)
        .expect("a run that nothing has disturbed")
}

/// Checks that each flash comes with a beep. Returns the summary of the run.
pub(crate) fn check_in_step(run: impl FnMut(usize) -> (Value, FlashesAndBeeps)) -> Value {
    let (summary, (flashes, beeps)) = undisturbed(run);
    // The first pictures are shown before any sound is heard.
    let steady: Vec<f64> = flashes.into_iter().filter(|at| *at > 1.0).collect();
    assert!(steady.len() >= 4, "{steady:?}, {summary}");
    for flash in &steady {
        let heard = beeps.iter().any(|beep| (beep - flash).abs() < IN_STEP);
        assert!(heard, "flashes {steady:?}, beeps {beeps:?}, {summary}");
    }
    summary
}

pub(crate) fn a_beep_is_heard_when_its_flash_is_seen() {
    let lan = Lan::new(&["sender", "one"]);
    let film = flash_and_beep();
    let lineup = head("0.0.0.0:9688", "eth0") + &station(1, &[&film], "239.77.0.1:5004", "");
    let mut broadcaster = lan.host("sender").on_air(&lineup);
    let one = lan.host("one");
    // The film's sound is made while its pictures are on air already.
    broadcaster.await_log("made the sound of", 1);
    for loss in [false, true] {
        if loss {
            // Of the packets of sound, each hundredth.
            let rule = "add table netdev t; add chain netdev t c { type filter hook ingress device eth0 priority 0; }; \
                        add rule netdev t c udp dport 5006 numgen inc mod 100 0 drop";
            one.tool("nft", &[rule]);
        }
        let summary =
            check_in_step(|run| listen(&lan, &["--directory", DIRECTORY], &format!("{loss}-{run}")));
        let sound = &summary["sound"];
        let count = |key: &str| sound[key].as_u64().unwrap_or_else(|| panic!("{key} in {summary}"));
        assert!(count("packets") > 300, "{summary}");
        assert!(sound["av_offset_ms"].as_f64().unwrap().abs() < 15.0, "{summary}");
        // One packet at a time: what is concealed is what is lost.
        assert!(count("lost") > 0 || !loss, "{summary}");
        assert!(count("concealed_ms") <= 20 * (count("lost") + count("late") + 1), "{summary}");
    }
}

/// A picture that stays for seconds does not hold up the sound: a film of slides, from the group and over TCP.
pub(crate) fn a_picture_that_stays_does_not_hold_up_the_sound() {
    let lan = Lan::new(&["sender", "one"]);
    let rtsp = "[rtsp]\nlisten = \"0.0.0.0:8554\"\n";
    let stations = station(1, &[&slides_with_a_tone()], "239.77.0.1:5004", "");
    let mut broadcaster =
        lan.host("sender").on_air(&format!("{}{rtsp}{stations}", head("0.0.0.0:9688", "eth0")));
    broadcaster.await_log("made the sound of", 1);
    for (transport, by) in [(&[][..], "group"), (&["--tcp"], "tcp")] {
        let (summary, pauses) = undisturbed(|run| {
            let wav = lan.folder().join(format!("{by}-{run}.wav"));
            let args = ["--directory", DIRECTORY, "--headless", "--seconds", "14", "--json", "--save-sound"];
            let viewer = lan.host("one").viewer(&[&args[..], &[text(&wav)], transport].concat());
            (viewer.json(), pauses(&wav))
        });
        let sound = &summary["sound"];
        // More than a round of the film, and so all three slides.
        assert!(sound["packets"].as_u64().unwrap() >= 13 * 50, "{by}: {summary}");
        assert_eq!((&sound["lost"], &summary["silent_s"]), (&0.into(), &0.0.into()), "{by}: {summary}");
        assert!(pauses.is_empty(), "{by}: {pauses:?} in {summary}");
        // A slide is sent again and again meanwhile.
        assert!(summary["frames"].as_u64().unwrap() >= 50, "{by}: {summary}");
    }
}

/// Over TCP, picture and sound come in one connection, in step; linear samples are in step from the group, too.
pub(crate) fn a_beep_is_heard_over_tcp_and_as_linear_samples() {
    let lan = Lan::new(&["sender", "one"]);
    let rtsp = "[rtsp]\nlisten = \"0.0.0.0:8554\"\n";
    let stations = station(1, &[&flash_and_beep()], "239.77.0.1:5004", "")
        + &station(2, &[&flash_and_beep()], "239.77.0.2:5004", "sound = false\n")
        + &station(3, &[&flash_and_beep()], "239.77.0.3:5004", "sound_codec = \"l16\"\n");
    let mut broadcaster =
        lan.host("sender").on_air(&format!("{}{rtsp}{stations}", head("0.0.0.0:9688", "eth0")));
    broadcaster.await_log("made the sound of", 1);
    for place in [
        &["--directory", DIRECTORY, "--tcp"][..],
        &["--sdp", "rtsp://10.77.0.1:8554/1"],
        &["--directory", DIRECTORY, "--station", "3"],
        &["--directory", DIRECTORY, "--tcp", "--station", "3"],
    ] {
        let summary = check_in_step(|run| listen(&lan, place, &format!("{}-{run}", place.len())));
        assert_eq!(summary["sound"]["lost"], 0, "{summary}");
    }
    let mute =
        ["--directory", DIRECTORY, "--tcp", "--station", "2", "--headless", "--frames", "25", "--json"];
    let summary = lan.host("one").viewer(&mute).json();
    assert_eq!((&summary["frames"], &summary["sound"]), (&25.into(), &Value::Null), "{summary}");
}
