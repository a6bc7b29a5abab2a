//! Stations whose source is live: motion JPEG by HTTP, from Python's http.server and from a broadcaster; cameras by RTSP, from
//! GStreamer's server and from a broadcaster.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use turbojpeg::{Subsamp, YuvImage};

use crate::common::film::{Film, ffmpeg, numbered, pal};
use crate::common::harness::{SYSTEM_PYTHON, text};
use crate::common::lan::{Lan, head, station};
use crate::common::picture::Picture;
use crate::common::process::Process;
use crate::common::watch::watch;
use crate::common::wire::{Unit, check_scans, scan, units};
use crate::sound::{check_in_step, flash_and_beep, listen};

const DIRECTORY: &str = "10.77.0.1:9688";
const GROUP: &str = "239.77.0.1:5004";
const CAMERA: &str = "10.77.0.2";

/// A station of a live source by HTTP.
fn live(id: u16, source: &str, more: &str) -> String {
    live_by("http", id, source, more)
}

/// A station of a live source by this protocol.
fn live_by(scheme: &str, id: u16, source: &str, more: &str) -> String {
    let group = format!("239.77.0.{id}:5004");
    station(id, &[], &group, more).replace("media = []", &format!("media = \"{scheme}://{source}\""))
}

/// The film's pictures as JPEG files, in a folder.
pub(crate) fn jpegs(lan: &Lan, film: &Film, size: (usize, usize)) -> PathBuf {
    let folder = lan.folder().join(format!("jpegs-{}x{}", size.0, size.1));
    fs::create_dir(&folder).unwrap();
    for (n, picture) in film.decoded(lan.folder(), size).iter().enumerate() {
        let pixels: Vec<u8> = picture.planes.iter().flat_map(|plane| plane.samples.clone()).collect();
        let image = YuvImage {
            pixels: &pixels[..],
            width: size.0,
            align: 1,
            height: size.1,
            subsamp: Subsamp::Sub2x2,
        };
        let mut compressor = turbojpeg::Compressor::new().unwrap();
        compressor.set_quality(77).unwrap();
        fs::write(folder.join(format!("{n:04}.jpg")), compressor.compress_yuv_to_vec(image).unwrap())
            .unwrap();
    }
    folder
}

/// Starts the camera on its host.
fn camera(lan: &Lan, folders: &[&Path]) -> Process {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lan/camera.py");
    let mut args = vec![text(&script), CAMERA, "8080"];
    args.extend(folders.iter().map(|folder| text(folder)));
    let mut camera = lan.host("camera").run("python3", &args);
    camera.await_output("ready");
    camera
}

fn is_on_air(entry: &Value) -> bool {
    entry["state"] == "Film"
}

fn on_slate(reason: &str) -> impl Fn(&Value) -> bool {
    move |entry| entry["state"]["Slate"]["reason"].as_str().is_some_and(|said| said.contains(reason))
}

fn capture(lan: &Lan, group: &str, pictures: &str, file: &Path) -> Process {
    let mut capture = lan.host("one").helper("capture", &[group, "eth0", pictures, text(file)]);
    capture.await_output("listening");
    capture
}

/// A camera's pictures are on air as they are, with the size that they have; two other cameras have no lengths, and send half
/// pictures. A station that is narrower encodes them anew.
pub(crate) fn a_live_source_is_passed_on_unchanged() {
    let lan = Lan::new(&["sender", "camera", "one"]);
    let film = pal(1);
    let folder = jpegs(&lan, &film, (640, 360));
    let _camera = camera(&lan, &[&folder]);
    let lineup = head("0.0.0.0:9688", "eth0")
        + &live(1, "10.77.0.2:8080/stream.mjpg", "")
        + &live(2, "10.77.0.2:8080/bare.mjpg", "buffer = 0")
        + &live(3, "10.77.0.2:8080/half.mjpg", "")
        + &live(4, "10.77.0.2:8080/stream.mjpg", "width = 320\nsound = true");
    let mut broadcaster = lan.host("sender").on_air(&lineup);
    let file = |n: u16| lan.folder().join(format!("capture-{n}"));
    let captures: Vec<Process> =
        [1, 2, 3].map(|n| capture(&lan, &format!("239.77.0.{n}:5004"), "80", &file(n))).into();
    let narrow = watch(&lan, "one", DIRECTORY, 4, 40).done();
    captures.into_iter().for_each(|capture| drop(capture.succeed()));
    for n in [1, 2, 3] {
        let units = units(&file(n));
        assert!(units.len() > 60);
        assert!(units.iter().all(|unit| (unit.picture.width, unit.picture.height) == (640, 360)));
        check_scans(&units, &folder);
        // Every second picture of the third is a half one.
        let missing = film.check_order(units.iter().map(|unit| &unit.picture));
        let halves = if n == 3 { units.len() as u64 } else { 0 };
        assert!(missing.abs_diff(halves) <= 6, "station {n}: {missing} missing");
    }
    narrow.check_size((320, 176));
    film.check_most(&narrow.pictures);
    for n in [1, 2, 3] {
        broadcaster
            .await_log(&format!("station {n} \"Station {n}\": the pictures of http://10.77.0.2:8080/"), 1);
    }
    let log = broadcaster.stderr();
    assert_eq!(log.matches(" are passed on as they are").count(), 3, "{log}");
    assert_eq!(
        log.matches("are encoded anew: its pictures are 640 wide, and the station's at most 320").count(),
        1
    );
}

/// A camera is killed and comes back. Another stops in the middle. Viewers see the last picture, then a slate, then the camera
/// again: one stream, without a gap. Retries take no thread.
pub(crate) fn a_live_source_that_is_lost_and_comes_back() {
    let lan = Lan::new(&["sender", "camera", "one"]);
    let film = pal(1);
    let folder = jpegs(&lan, &film, (640, 360));
    let first = camera(&lan, &[&folder]);
    let lineup = head("0.0.0.0:9688", "eth0")
        + &live(1, "10.77.0.2:8080/stream.mjpg", "")
        + &live(2, "10.77.0.2:8080/stops.mjpg", "");
    let sender = lan.host("sender");
    let mut broadcaster = sender.on_air(&lineup);
    let file = lan.folder().join("capture");
    let captured = capture(&lan, GROUP, "1000000", &file);
    let mut seen = watch(&lan, "one", DIRECTORY, 1, 1_000_000);
    seen.await_pictures(20);
    broadcaster.await_log("station 2 \"Station 2\" is off air and shows a slate: camera lost since", 1);
    broadcaster.await_log("10.77.0.2:8080 sends no picture for 2 s", 1);
    let (threads, files) = (broadcaster.threads(), broadcaster.open_files().len());

    drop(first);
    let slate = sender.await_station(DIRECTORY, 1, "on a slate", on_slate("camera lost since "));
    assert_eq!((&slate["size"]["width"], &slate["size"]["height"]), (&640.into(), &360.into()));
    let reason = slate["state"]["Slate"]["reason"].as_str().unwrap().to_owned();
    broadcaster.await_log(&reason, 1);
    // Retries, of both stations, after 1 s and 2 s of slate, five pictures a second.
    seen.await_more(25);
    assert!(broadcaster.threads() <= threads + 3, "{threads} threads, then {}", broadcaster.threads());
    let later = broadcaster.open_files().len();
    assert!(later <= files + 1, "{files} open files, then {later}");

    let _second = camera(&lan, &[&folder]);
    sender.await_station(DIRECTORY, 1, "on air again", is_on_air);
    seen.await_more(30);
    seen.stop();
    fs::write(lan.folder().join("capture.enough"), b"").unwrap();
    captured.succeed();

    // `units` checks that it is one sender, and that no sequence number is missing.
    let units = units(&file);
    let strips: Vec<_> = units.iter().map(|unit| unit.picture.strip()).collect();
    let (from, to) =
        (strips.iter().position(Option::is_none).unwrap(), strips.iter().rposition(Option::is_none).unwrap());
    assert!(strips[from..=to].iter().all(Option::is_none), "one slate");
    assert!(from > 20 && to + 20 < strips.len());
    check_scans(units[..from].iter().chain(&units[to + 1..]), &folder);
    let held = units[from].timestamp.wrapping_sub(units[from - 8].timestamp);
    assert!(
        strips[from - 4..from].iter().all(|strip| *strip == strips[from - 1]),
        "the last picture is held"
    );
    assert!(held > 90_000, "held for {held} ticks");
}

/// A camera changes its size; others send garbage, nothing, another type, or send the broadcaster elsewhere. Each station tells
/// what is wrong; a film loses nothing by them.
pub(crate) fn odd_live_sources() {
    let lan = Lan::new(&["sender", "camera", "one"]);
    let (film, small, other) = (pal(1), numbered(1, (320, 240), (25, 1), 50), pal(9));
    let folders = [jpegs(&lan, &film, (640, 360)), jpegs(&lan, &small, (320, 240))];
    let _camera = camera(&lan, &[&folders[0], &folders[1]]);
    let faults = [
        (2, "garbage.mjpg", "10.77.0.2:8080 sends no pictures: it is no JPEG file"),
        (3, "flood.mjpg", "10.77.0.2:8080: it sends 1 MB without a boundary"),
        (4, "silent.mjpg", "10.77.0.2:8080 takes a connection and does not answer within 3 s"),
        (5, "still.jpg", "10.77.0.2:8080: it sends \"image/jpeg\" and not multipart/x-mixed-replace"),
        (6, "moved.mjpg", "10.77.0.2:8080 sends on to \"/stream.mjpg\"; name that address in the line-up"),
        (7, "none", "10.77.0.2:8080 answers 404 Not Found to http://10.77.0.2:8080/none"),
    ];
    let mut lineup = head("0.0.0.0:9688", "eth0")
        + &live(1, "10.77.0.2:8080/size.mjpg", "")
        + &station(9, &[&other.path], "239.77.0.9:5004", "");
    for (id, target, _) in faults {
        lineup += &live(id, &format!("10.77.0.2:8080/{target}"), "");
    }
    lineup += &live(8, "10.77.0.2:8081/closed.mjpg", "");
    let sender = lan.host("sender");
    let mut broadcaster = sender.broadcaster(&lineup);
    broadcaster.await_log(" on air: ", 2);
    let undisturbed = watch(&lan, "one", DIRECTORY, 9, 150);
    let file = lan.folder().join("capture");
    let captured = capture(&lan, GROUP, "150", &file);
    for (id, _, reason) in faults {
        sender.await_station(
            DIRECTORY,
            id,
            "on a slate",
            on_slate(&format!("no picture from the camera: {reason}")),
        );
    }
    sender.await_station(
        DIRECTORY,
        8,
        "on a slate",
        on_slate("nothing answers at 10.77.0.2:8081: Connection refused"),
    );
    captured.succeed();
    undisturbed.done().check_whole(&other);
    let units = units(&file);
    for (folder, size) in folders.iter().zip([(640, 360), (320, 240)]) {
        let of_size = |unit: &&Unit| (unit.picture.width, unit.picture.height) == size;
        assert!(units.iter().filter(of_size).count() >= 40);
        check_scans(units.iter().filter(of_size), folder);
    }
    assert!(broadcaster.runs());
}

/// A station of one broadcaster is the source of another's, by its MJPEG.
pub(crate) fn a_station_of_another_broadcaster() {
    let lan = Lan::new(&["sender", "camera", "one"]);
    let film = pal(1);
    let source = head("0.0.0.0:9688", "eth0")
        + "[http]\nlisten = \"0.0.0.0:8080\"\n"
        + &station(1, &[&film.path], "239.77.0.101:5004", "");
    let _source = lan.host("camera").on_air(&source);
    let relay = head("0.0.0.0:9688", "eth0") + &live(1, "10.77.0.2:8080/stations/1.mjpeg", "");
    let _relay = lan.host("sender").on_air(&relay);
    let files = [lan.folder().join("source"), lan.folder().join("relay")];
    let captures = ["239.77.0.101:5004", GROUP].map(|group| (group, "110"));
    let captures: Vec<Process> = captures
        .iter()
        .zip(&files)
        .map(|((group, pictures), file)| capture(&lan, group, pictures, file))
        .collect();
    captures.into_iter().for_each(|capture| drop(capture.succeed()));
    let (sent, relayed) = (units(&files[0]), units(&files[1]));
    film.check_order(relayed.iter().map(|unit| &unit.picture));
    let mut same = 0;
    for unit in &relayed {
        let number = unit.picture.strip();
        let Some(original) = sent.iter().find(|sent| sent.picture.strip() == number) else { continue };
        assert_eq!(scan(&unit.jpeg), scan(&original.jpeg), "{number:?}");
        same += 1;
    }
    assert!(same > 80, "{same} pictures are the source's");
}

/// Starts GStreamer's cameras on their host. They send the JPEG files of a folder, for two minutes.
fn rtsp_cameras(lan: &Lan, folder: &Path) -> Process {
    let film = lan.folder().join("cameras.mov");
    let files = text(&folder.join("%04d.jpg")).to_owned();
    ffmpeg(&format!("-framerate 25 -stream_loop 60 -i {files} -c copy"), &film);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lan/rtsp_camera.py");
    let mut cameras = lan.host("camera").run(SYSTEM_PYTHON, &[text(&script), CAMERA, "8554", text(&film)]);
    cameras.await_output("ready");
    cameras
}

/// GStreamer's RTSP server as cameras: JPEG is passed on byte by byte, H.264 and H.265 are decoded, and sound is heard. One asks for
/// a password, which nothing shows; without it, with a wrong one, and without a camera the stations tell why, and one of them has
/// a fallback, which is on until its camera is there.
pub(crate) fn cameras_by_rtsp() {
    let lan = Lan::new(&["sender", "camera", "one"]);
    let (film, pause) = (pal(1), pal(9));
    let folder = jpegs(&lan, &film, (640, 360));
    let password = lan.folder().join("gate.password");
    fs::write(&password, "open sesame\n").unwrap();
    let file = format!("password_file = \"{}\"", text(&password));
    let fallback = format!("fallback = \"{}\"", text(&pause.path));
    let camera = |id, path: &str, more: &str| live_by("rtsp", id, &format!("10.77.0.2:8554{path}"), more);
    let secret =
        |id, user: &str, more: &str| live_by("rtsp", id, &format!("{user}10.77.0.2:8555/secret"), more);
    let lineup = head("0.0.0.0:9688", "eth0")
        + &camera(1, "/jpeg-l16", &format!("sound = true\n{fallback}"))
        + &camera(2, "/h264-aac", "sound = true")
        + &camera(3, "/h265-opus", "")
        + &camera(4, "/none", "")
        + &secret(5, "anna@", &file)
        + &secret(6, "anna@", "password_env = \"HOME\"")
        + &secret(7, "", "");
    let sender = lan.host("sender");
    let mut broadcaster = sender.broadcaster(&lineup);
    broadcaster.await_log(
        "station 1 \"Station 1\" is off air and shows its fallback: no picture from the camera: ",
        1,
    );
    let meanwhile = watch(&lan, "one", DIRECTORY, 1, 50).done();
    let is_of_pause = |picture: &Picture| picture.strip().is_some_and(|(station, _)| station == 9);
    assert!(meanwhile.pictures.iter().all(is_of_pause));

    let cameras = rtsp_cameras(&lan, &folder);
    for n in [1, 5] {
        let how = "are passed on as they are";
        broadcaster.await_log(
            &format!(
                "station {n} \"Station {n}\": the pictures of rtsp://10.77.0.2:855{}",
                if n == 1 { 4 } else { 5 }
            ),
            1,
        );
        assert!(broadcaster.stderr().contains(how));
    }
    for n in [2, 3] {
        broadcaster.await_log(&format!("station {n} \"Station {n}\" on air: "), 1);
    }
    // Its fallback was on air first, and stays for up to a second after the camera has come.
    broadcaster.await_log("station 1 \"Station 1\" on air: ", 2);
    let captured = lan.folder().join("capture");
    let capture = capture(&lan, GROUP, "80", &captured);
    let seen: Vec<_> = [2, 3, 5].map(|n| watch(&lan, "one", DIRECTORY, n, 60)).into();
    capture.succeed();
    let units = units(&captured);
    check_scans(&units, &folder);
    // While an encoder of the cameras gets no time, the last picture stays.
    let check_order = |pictures: Vec<&Picture>| {
        let mut strips: Vec<_> = pictures.into_iter().map(Picture::strip).collect();
        strips.dedup();
        film.check_numbers(strips);
    };
    check_order(units.iter().map(|unit| &unit.picture).collect());
    for seen in seen {
        check_order(seen.done().pictures.iter().collect());
    }
    for n in ["1", "2"] {
        let wav = lan.folder().join(format!("sound-{n}.wav"));
        let args = ["--directory", DIRECTORY, "--station", n, "--headless", "--seconds", "3"];
        lan.host("one").viewer(&[&args[..], &["--save-sound", text(&wav)]].concat()).succeed();
        let file = fs::read(&wav).unwrap();
        let loud = file[44..].chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]]));
        let (all, loud) =
            loud.fold((0, 0), |(all, loud), s| (all + 1, loud + u32::from(s.unsigned_abs() > 4000)));
        // A tone of that volume is above the threshold for five sixths of its time.
        assert!(loud > all / 2, "station {n}: {loud} of {all} samples are loud");
    }
    let refused = "10.77.0.2:8555 refuses the user or the password";
    sender.await_station(DIRECTORY, 6, "on a slate", on_slate(refused));
    let asked = "10.77.0.2:8555 asks for a password; write the user into the address";
    sender.await_station(DIRECTORY, 7, "on a slate", on_slate(asked));
    sender.await_station(
        DIRECTORY,
        4,
        "on a slate",
        on_slate("10.77.0.2:8554 has no rtsp://10.77.0.2:8554/none"),
    );
    assert!(!broadcaster.stderr().contains("sesame"), "the log shows the password");

    // The cameras are pulled out: one station has its fallback again.
    drop(cameras);
    broadcaster.await_log("station 1 \"Station 1\" is off air and shows its fallback: camera lost since ", 1);
    let meanwhile = watch(&lan, "one", DIRECTORY, 1, 50).done();
    // Some of them may have been on air before.
    assert!(meanwhile.pictures[25..].iter().all(is_of_pause));
    assert!(broadcaster.runs());
}

/// A broadcaster's station by RTSP, with its sound in Opus: beeps are heard when their flashes are seen.
pub(crate) fn a_camera_and_its_sound_are_in_step() {
    let lan = Lan::new(&["sender", "camera", "one"]);
    let source = head("0.0.0.0:9688", "eth0")
        + "[rtsp]\nlisten = \"0.0.0.0:8554\"\n"
        + &station(1, &[&flash_and_beep()], "239.77.0.101:5004", "");
    let mut source = lan.host("camera").on_air(&source);
    source.await_log("made the sound of", 1);
    let relay = head("0.0.0.0:9688", "eth0") + &live_by("rtsp", 1, "10.77.0.2:8554/1", "sound = true");
    let mut relay = lan.host("sender").on_air(&relay);
    relay.await_log("are passed on as they are", 1);
    check_in_step(|run| listen(&lan, &["--directory", DIRECTORY], &run.to_string()));
}
