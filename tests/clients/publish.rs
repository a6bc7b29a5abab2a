//! FFmpeg and GStreamer publish to our broadcaster, by the command lines that our documents have. What is on air is compared with
//! what they sent.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::capture::Capture;
use crate::common::film::{Film, ffmpeg, pal};
use crate::common::harness::text;
use crate::common::lan::{Lan, head};
use crate::common::process::Process;
use crate::common::watch::watch;
use crate::common::wire::{Unit, check_scans};

const DIRECTORY: &str = "10.77.0.1:9688";
const GROUP: &str = "239.77.0.7:5004";
const TOKEN: &str = "kiwi-melon-fig";

/// FFmpeg's options for pictures that RTP/JPEG can carry.
const CODECS: &str = "-c:v mjpeg -pix_fmt yuvj420p -huffman default -force_duplicated_matrix 1 -q:v 5 \
                      -c:a libopus -ar 48000 -ac 2";

/// A broadcaster with one station that is published to, and others that are made by publishing.
fn lineup(more: &str) -> String {
    // For busy machines: what comes late is shown all the same.
    head("0.0.0.0:9688", "eth0")
        + "buffer = 300\n[rtsp]\nlisten = \"0.0.0.0:8554\"\n"
        + &format!("[publish]\nids = \"900-949\"\ntoken = \"{TOKEN}\"\n")
        + &format!("[[station]]\nid = 7\nname = \"Camera 7\"\ngroup = \"{GROUP}\"\n")
        + &format!("publish = {{ token = \"{TOKEN}\"{more} }}\n")
}

/// Starts FFmpeg, which publishes a film, over and over.
fn publish(lan: &Lan, host: &str, film: &Film, transport: &str, url: &str) -> Process {
    let input = ["-v", "warning", "-nostdin", "-re", "-stream_loop", "-1", "-i", text(&film.path)];
    let output = ["-f", "rtsp", "-rtsp_transport", transport, url];
    let args: Vec<&str> = input.into_iter().chain(CODECS.split_whitespace()).chain(output).collect();
    lan.host(host).run("ffmpeg", &args)
}

/// The film's pictures as FFmpeg codes them, one file each.
fn coded(lan: &Lan, film: &Film) -> PathBuf {
    let folder = lan.folder().join("coded");
    fs::create_dir(&folder).unwrap();
    let video = CODECS.split(" -c:a").next().unwrap();
    let args = format!("-i {} -an {video} -f image2 -start_number 0", text(&film.path));
    ffmpeg(&args, &folder.join("%04d.jpg"));
    folder
}

/// Without the token, and with a wrong one, FFmpeg is refused with a sentence. Then it is on air, byte for byte. It is killed, and
/// comes back: one stream, without a gap. A second publisher is refused meanwhile.
pub(crate) fn ffmpeg_publishes_over_tcp() {
    let lan = Lan::new(&["sender", "one", "two"]);
    let film = pal(1);
    let folder = coded(&lan, &film);
    let mut broadcaster = lan.host("sender").broadcaster(&lineup(""));
    broadcaster.await_log("nobody publishes to /publish/camera-7 yet", 1);
    for (login, said) in [("", "401"), ("anna:wrong-token@", "401")] {
        let refused =
            publish(&lan, "one", &film, "tcp", &format!("rtsp://{login}10.77.0.1:8554/publish/camera-7"));
        let ended = refused.finish();
        assert!(ended.code != Some(0) && ended.stderr.contains(said), "{login}: {}", ended.stderr);
    }
    let capture = Capture::start(&lan, "two", GROUP, "eth0", 1_000_000);
    let mut seen = watch(&lan, "two", DIRECTORY, 7, 1_000_000);
    let url = format!("rtsp://anna:{TOKEN}@10.77.0.1:8554/publish/camera-7");
    let first = publish(&lan, "one", &film, "tcp", &url);
    broadcaster.await_log("10.77.0.2 is on air as 7 \"Camera 7\"", 1);
    broadcaster.await_log("the pictures that are published are passed on as they are", 1);
    seen.await_more(40);
    let second =
        publish(&lan, "two", &film, "tcp", &format!("rtsp://10.77.0.1:8554/publish/7?token={TOKEN}"))
            .finish();
    assert_ne!(second.code, Some(0), "{}", second.stderr);
    assert!(
        second.stderr.contains("403 Forbidden: 10.77.0.2 publishes to /publish/7 already"),
        "{}",
        second.stderr
    );
    drop(first);
    broadcaster.await_log("10.77.0.2 has left 7", 1);
    broadcaster.await_log("10.77.0.2 has left at ", 1);
    let _again = publish(&lan, "one", &film, "tcp", &url);
    broadcaster.await_log("10.77.0.2 is on air as 7 \"Camera 7\"", 2);
    seen.await_more(50);
    seen.stop();
    // `stop` checks that it is one sender, and that no sequence number is missing.
    let units = capture.stop();
    let strips: Vec<bool> = units.iter().map(|unit| unit.picture.strip().is_some()).collect();
    // The last slate is that between the two runs.
    let back = strips.iter().rposition(|strip| !strip).expect("a slate") + 1;
    let lost = strips[..back].iter().rposition(|strip| *strip).expect("the first run") + 1;
    assert!(back - lost > 2 && units.len() - back >= 40, "{lost} {back} of {}", units.len());
    check_scans(units.iter().filter(|unit| unit.picture.strip().is_some()), &folder);
    let last = units[..lost].iter().rposition(|unit| unit.picture.strip() != units[lost - 1].picture.strip());
    let held = units[lost].timestamp.wrapping_sub(units[last.map_or(0, |last| last + 1)].timestamp);
    assert!(held > 140_000, "the last picture is held for {held} ticks");
}

/// What a made station is on air with, as the log tells it; waits for it.
fn is_made(broadcaster: &mut Process, name: &str, number: u16) {
    broadcaster.await_log(&format!("{name} (10.77.0.2) is on air as {number}"), 1);
    broadcaster.await_log(&format!("station {number} \"{name}\" on air: "), 1);
}

/// A flash and a beep at each full second, in the codecs that OBS publishes: H.264 without B-frames, and AAC.
fn flash_and_beep(lan: &Lan) -> PathBuf {
    let path = lan.folder().join("flash.mp4");
    let flash = "color=black:s=320x176:r=25:d=10,drawbox=c=white:t=fill:enable='lt(mod(t\\,1)\\,0.08)'";
    let beep = "aevalsrc='0.5*sin(2*PI*1000*t)*lt(mod(t,1),0.08)':s=48000:d=10";
    let status = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i", flash, "-f", "lavfi", "-i", beep])
        .args(["-c:v", "libx264", "-tune", "zerolatency", "-g", "25", "-pix_fmt", "yuv420p", "-c:a", "aac"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(status.success());
    path
}

/// By UDP, to a station that is made for it: byte for byte, and with sound that is passed on. H.264 with AAC, to another, is
/// decoded and coded. Both leave, and their stations go.
pub(crate) fn ffmpeg_publishes_over_udp_and_in_h264() {
    let lan = Lan::new(&["sender", "one", "two"]);
    let film = pal(1);
    let folder = coded(&lan, &film);
    let with_sound = lan.folder().join("tone.mkv");
    let tone = format!(
        "-stream_loop 9 -i {} -f lavfi -i sine=frequency=440:sample_rate=48000:duration=20 -map 0:v -map 1:a -c:v copy -c:a flac -shortest",
        text(&film.path)
    );
    ffmpeg(&tone, &with_sound);
    let mut broadcaster = lan.host("sender").broadcaster(&lineup(""));
    broadcaster.await_log("rtsp on", 1);
    let url = |name: &str| format!("rtsp://anna:{TOKEN}@10.77.0.1:8554/publish/{name}");
    let publisher = publish(&lan, "one", &Film { path: with_sound, ..film.clone() }, "udp", &url("Anna"));
    is_made(&mut broadcaster, "Anna", 900);
    broadcaster
        .await_log("station 900 \"Anna\": the pictures that are published are passed on as they are", 1);
    let capture = Capture::start(&lan, "two", "239.77.3.132:5004", "eth0", 60);
    let wav = lan.folder().join("anna.wav");
    let listen = ["--directory", DIRECTORY, "--station", "900", "--headless", "--seconds", "5", "--json"];
    let heard = lan.host("two").viewer(&[&listen[..], &["--save-sound", text(&wav)]].concat()).json();
    assert_eq!(heard["frames_lost"], 0, "{heard}");
    let units = capture.end();
    check_scans(&units, &folder);
    film.check_order(once(&units).into_iter().map(|unit| &unit.picture));
    assert!(loud(&wav) > 0.5, "{} of the sound is heard", loud(&wav));

    let flashes = flash_and_beep(&lan);
    let input =
        ["-v", "warning", "-nostdin", "-re", "-stream_loop", "-1", "-i", text(&flashes), "-c", "copy"];
    let (berta, output) = (url("Berta"), ["-f", "rtsp", "-rtsp_transport", "tcp"]);
    let copied = lan.host("one").run("ffmpeg", &[&input[..], &output, &[&berta]].concat());
    is_made(&mut broadcaster, "Berta", 901);
    broadcaster.await_log(
        "station 901 \"Berta\": the pictures that are published are encoded anew: they are not JPEG",
        1,
    );
    watch(&lan, "two", DIRECTORY, 901, 50).done().check_size((320, 176));
    drop((publisher, copied));
    broadcaster.await_log("Anna has left", 1);
    broadcaster.await_log("Berta has left", 1);
    broadcaster.await_log("station 900 \"Anna\" has ended", 1);
    broadcaster.await_log("station 901 \"Berta\" has ended", 1);
    let ids: Vec<u64> =
        lan.host("two").list(DIRECTORY).iter().map(|entry| entry["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [7]);
}

/// The share of a WAV file in which something is heard.
fn loud(wav: &Path) -> f64 {
    let bytes = fs::read(wav).unwrap();
    let is_loud = |frame: &&[u8]| i16::from_le_bytes([frame[0], frame[1]]).unsigned_abs() > 500;
    let frames = bytes[44..].chunks_exact(4);
    // A tone crosses zero.
    let moments: Vec<bool> =
        frames.collect::<Vec<_>>().chunks(480).map(|some| some.iter().any(is_loud)).collect();
    moments.iter().filter(|loud| **loud).count() as f64 / moments.len() as f64
}

/// The pictures without those that were repeated because the next one was late, as on a busy machine.
fn once(units: &[Unit]) -> Vec<&Unit> {
    let mut once: Vec<&Unit> = Vec::new();
    for unit in units {
        if once.last().is_none_or(|last| last.jpeg != unit.jpeg) {
            once.push(unit);
        }
    }
    once
}

/// GStreamer's rtspclientsink publishes JPEG pictures by TCP and by UDP: byte for byte.
pub(crate) fn gstreamer_publishes() {
    let lan = Lan::new(&["sender", "one", "two"]);
    let film = pal(1);
    let folder = coded(&lan, &film);
    let file = lan.folder().join("coded.mkv");
    let video = CODECS.split(" -c:a").next().unwrap();
    ffmpeg(&format!("-stream_loop 29 -i {} -an {video}", text(&film.path)), &file);
    let mut broadcaster = lan.host("sender").broadcaster(&lineup(""));
    broadcaster.await_log("rtsp on", 1);
    for (number, name, group) in [(900, "tcp", "239.77.3.132:5004"), (901, "udp", "239.77.3.133:5004")] {
        let url = format!("rtsp://anna:{TOKEN}@10.77.0.1:8554/publish/{name}");
        let pipeline = format!(
            "-q filesrc location={} ! matroskademux ! identity sync=true \
             ! rtspclientsink location={url} protocols={name}",
            text(&file)
        );
        let args: Vec<&str> = pipeline.split_whitespace().collect();
        let publisher = lan.host("one").run("gst-launch-1.0", &args);
        is_made(&mut broadcaster, name, number);
        let capture = Capture::start(&lan, "two", group, "eth0", 50);
        let units = capture.end();
        check_scans(&units, &folder);
        film.check_order(once(&units).into_iter().map(|unit| &unit.picture));
        drop(publisher);
        broadcaster.await_log(&format!("{name} has left"), 1);
    }
}

/// PyAV publishes by TCP, as scripts do: JPEG and Opus, which are passed on byte by byte, then H.264 and AAC, which are decoded and
/// coded.
pub(crate) fn pyav_publishes() {
    let lan = Lan::new(&["sender", "one", "two"]);
    let film = pal(1);
    let folder = lan.folder().join("coded");
    fs::create_dir(&folder).unwrap();
    let mut broadcaster = lan.host("sender").broadcaster(&lineup(""));
    broadcaster.await_log("rtsp on", 1);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/pyav_publish.py");
    let python = std::env::var("STATIONCAST_PYTHON").unwrap_or_else(|_| "python3".into());
    for (number, name, more) in [(900, "jpeg", &[text(&folder)][..]), (901, "h264", &[])] {
        let url = format!("rtsp://anna:{TOKEN}@10.77.0.1:8554/publish/{name}");
        let args = [&[text(&script), text(&film.path), &url, name], more].concat();
        let publisher = lan.host("one").run(&python, &args);
        is_made(&mut broadcaster, name, number);
        let wav = lan.folder().join(format!("{name}.wav"));
        let station = number.to_string();
        let listening = ["--directory", DIRECTORY, "--station", &station, "--headless", "--seconds", "4"];
        let listener = lan.host("two").viewer(&[&listening[..], &["--save-sound", text(&wav)]].concat());
        if name == "jpeg" {
            // From the second round on, each of its files is there.
            let capture = Capture::start(&lan, "two", "239.77.3.132:5004", "eth0", 80);
            let units = capture.end();
            check_scans(&units, &folder);
            film.check_order(once(&units).into_iter().map(|unit| &unit.picture));
            broadcaster.await_log("the pictures that are published are passed on as they are", 1);
        } else {
            let seen = watch(&lan, "two", DIRECTORY, number, 50).done();
            seen.check_size((640, 368));
            film.check_most(&seen.pictures);
        }
        listener.succeed();
        assert!(loud(&wav) > 0.9, "{name}: {} of the sound is heard", loud(&wav));
        drop(publisher);
        broadcaster.await_log(&format!("{name} has left"), 1);
    }
}
