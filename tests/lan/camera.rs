//! A camera of this machine, by Video4Linux, and its microphone, by ALSA, where there is neither: a library that is loaded before
//! libc plays the camera (`v4l2_camera.c`), and PulseAudio without a sound card the microphone.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::common::capture::Capture;
use crate::common::display::Display;
use crate::common::film::{Film, numbered, pal};
use crate::common::harness::{scratch, text};
use crate::common::lan::{Host, Lan, head, station};
use crate::common::process::Process;
use crate::common::watch::watch;
use crate::common::wire::{Unit, check_scans};
use crate::live::jpegs;

const DIRECTORY: &str = "10.77.0.1:9688";
const BROADCASTER: &str = env!("CARGO_BIN_EXE_broadcaster");
const DEVICE: &str = "/dev/video0";

/// The tone that the microphone hears, in hertz. No film has it.
const TONE: f64 = 440.0;

/// PulseAudio's socket. Each network has a `/run` of its own.
const SOCKET: &str = "/run/pulse.sock";

/// A machine with a camera that gives the files of a folder.
struct CameraHost<'a> {
    host: Host<'a>,
    /// Environment variables of programs that see the camera, and hear the microphone.
    settings: Vec<String>,
    /// The folder of the configuration, for the sound server, too.
    home: String,
    files: PathBuf,
}

impl<'a> CameraHost<'a> {
    fn new(lan: &Lan, host: Host<'a>, files: &Path) -> CameraHost<'a> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lan/v4l2_camera.c");
        let library = tempfile::TempDir::new_in(scratch()).unwrap().keep().join("camera.so");
        let args = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"];
        let built = Command::new("cc").args(args).arg(&library).arg(source).arg("-ldl").status();
        assert!(built.unwrap().success());
        fs::write(lan.folder().join(".asoundrc"), "pcm.!default { type pulse }\n").unwrap();
        let home = format!("HOME={}", text(lan.folder()));
        let settings = vec![
            format!("LD_PRELOAD={}", text(&library)),
            format!("CAMERA={DEVICE}"),
            format!("CAMERA_FOLDER={}", text(files)),
            home.clone(),
            format!("PULSE_SERVER=unix:{SOCKET}"),
        ];
        CameraHost { host, settings, home, files: files.to_owned() }
    }

    /// Starts a broadcaster's command that sees the camera.
    fn run(&self, args: &[&str]) -> Process {
        let settings: Vec<&str> = self.settings.iter().map(String::as_str).collect();
        self.host.run("env", &[&settings[..], &[BROADCASTER], args].concat())
    }

    /// Starts the sound server, in which a tone is played.
    fn sound_server(&self) -> Process {
        let modules = [
            "module-null-sink sink_name=null rate=48000",
            &format!("module-sine sink=null frequency={TONE}"),
            &format!("module-native-protocol-unix auth-anonymous=1 socket={SOCKET}"),
        ];
        let server = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"];
        let modules = modules.iter().flat_map(|module| ["-L", module]);
        let args: Vec<&str> = [&self.home[..]].into_iter().chain(server).chain(modules).collect();
        self.host.run("env", &args)
    }

    fn unplug(&self) {
        fs::write(self.files.join("unplugged"), "").unwrap();
    }

    fn plug_in(&self) {
        fs::remove_file(self.files.join("unplugged")).unwrap();
    }
}

/// Listens to a station for 6 s. Returns the share of that in which something is heard, and the frequency of what is.
fn heard(lan: &Lan, host: &str, number: u16) -> (f64, f64) {
    let wav = tempfile::TempDir::new_in(lan.folder()).unwrap().keep().join("heard.wav");
    let station = number.to_string();
    let args = ["--directory", DIRECTORY, "--station", &station, "--headless", "--seconds", "6", "--json"];
    lan.host(host).viewer(&[&args[..], &["--save-sound", text(&wav)]].concat()).json();
    let bytes = fs::read(wav).unwrap();
    let left: Vec<i16> =
        bytes[44..].chunks_exact(4).map(|frame| i16::from_le_bytes([frame[0], frame[1]])).collect();
    let moments: Vec<&[i16]> = left.chunks_exact(12_000).collect();
    let mut tones: Vec<f64> = moments.iter().filter_map(|moment| frequency(moment)).collect();
    tones.sort_by(f64::total_cmp);
    let share = tones.len() as f64 / moments.len() as f64;
    (share, tones.get(tones.len() / 2).copied().unwrap_or(0.0))
}

/// The frequency of a tone of 48 kHz, in hertz, by its rising zeros; `None` if it is not loud.
fn frequency(samples: &[i16]) -> Option<f64> {
    let rises = samples.windows(2).enumerate().filter(|(_, two)| two[0] < 0 && two[1] >= 0);
    // Between two samples, where the line through both is zero.
    let at =
        |(n, two): (usize, &[i16])| n as f64 + f64::from(two[0]) / (f64::from(two[0]) - f64::from(two[1]));
    let zeros: Vec<f64> = rises.map(at).collect();
    let (first, last) = (zeros.first()?, zeros.last()?);
    let is_loud = samples.iter().map(|sample| sample.unsigned_abs()).max()? > 1000;
    (is_loud && zeros.len() > 2).then(|| (zeros.len() - 1) as f64 * 48_000.0 / (last - first))
}

fn check_tone(lan: &Lan, host: &str, number: u16) {
    let (share, tone) = heard(lan, host, number);
    assert!(share > 0.75, "the tone is heard for {share} of the time");
    assert!((tone - TONE).abs() < 2.0, "{tone} Hz are heard instead of {TONE}");
}

/// Checks that what is on air are the camera's pictures, byte by byte and in order.
fn check_pictures(units: &[Unit], film: &Film, folder: &Path) {
    check_scans(units, folder);
    film.check_order(units.iter().map(|unit| &unit.picture));
}

/// The camera's own JPEG is on air as it is, with the microphone's tone. The sound server ends: the pictures go on without sound, until
/// it is back. The camera is pulled out, and comes back, with its sound.
pub(crate) fn a_camera_of_this_machine_and_its_microphone() {
    let lan = Lan::new(&["sender", "one"]);
    let film = pal(1);
    let folder = jpegs(&lan, &film, (640, 360));
    let camera = CameraHost::new(&lan, lan.host("sender"), &folder);
    let server = camera.sound_server();
    let lineup = head("0.0.0.0:9688", "eth0")
        + &station(1, &[], "239.77.0.1:5004", "sound = true\nbuffer = 200")
            .replace("media = []", &format!("media = \"{DEVICE}\"\nmicrophone = \"default\""));
    let mut broadcaster = camera.run(&["--config", text(&camera.host.lineup(&lineup))]);
    broadcaster.await_log("the pictures of /dev/video0 are passed on as they are", 1);
    broadcaster.await_log("station 1 \"Station 1\": the microphone \"default\" is heard", 1);
    let capture = Capture::start(&lan, "one", "239.77.0.1:5004", "eth0", 80);
    check_tone(&lan, "one", 1);
    check_pictures(&capture.end(), &film, &folder);

    drop(server);
    broadcaster.await_log("station 1 \"Station 1\" is silent: the microphone \"default\" is lost: ", 1);
    let capture = Capture::start(&lan, "one", "239.77.0.1:5004", "eth0", 40);
    check_pictures(&capture.end(), &film, &folder);
    let (share, _) = heard(&lan, "one", 1);
    assert_eq!(share, 0.0, "nothing is heard");
    let silent = broadcaster.stderr().matches(" is silent: ").count();
    assert!(silent <= 3, "one sentence each for the loss and the attempts: {}", broadcaster.stderr());
    let _server = camera.sound_server();
    broadcaster.await_log("the microphone \"default\" is heard", 2);
    check_tone(&lan, "one", 1);

    camera.unplug();
    broadcaster.await_log("station 1 \"Station 1\" is off air and shows a slate: camera lost since", 1);
    camera.plug_in();
    broadcaster.await_log("station 1 \"Station 1\" on air: ", 2);
    broadcaster.await_log("the microphone \"default\" is heard", 3);
    let capture = Capture::start(&lan, "one", "239.77.0.1:5004", "eth0", 40);
    check_pictures(&capture.end(), &film, &folder);
    assert_eq!((broadcaster.threads_named("camera"), broadcaster.threads_named("microphone")), (1, 1));
}

/// The file as cameras write JPEG: no Huffman tables, a table of quantization for each component, a restart interval, half a
/// picture, and none of it. None of these changes the scan, of which half a picture has half.
fn as_cameras_write_it(n: usize, file: &[u8]) -> Vec<u8> {
    let at = |marker: u8| segments(file).find(|(_, kind)| *kind == marker).expect("a segment").0;
    match n % 5 {
        1 => {
            let tables = segments(file).filter(|(_, kind)| *kind == 0xc4);
            tables.collect::<Vec<_>>().into_iter().rev().fold(file.to_vec(), |mut bare, (begin, _)| {
                bare.drain(begin..end(file, begin));
                bare
            })
        }
        2 => {
            let chroma = segments(file).filter(|(_, kind)| *kind == 0xdb).last().expect("two tables").0;
            let mut third = file[chroma..end(file, chroma)].to_vec();
            assert_eq!(third[4], 1, "the table of both colours");
            third[4] = 2;
            let mut three = file.to_vec();
            // The third component's table, in the frame header.
            three[at(0xc0) + 18] = 2;
            three.splice(chroma..chroma, third);
            three
        }
        3 => [&file[..at(0xda)], &[0xff, 0xdd, 0, 4, 0xff, 0xff], &file[at(0xda)..]].concat(),
        4 => file[..file.len() / 2].to_vec(),
        _ => file.to_vec(),
    }
}

/// The end of the segment that begins there.
fn end(file: &[u8], begin: usize) -> usize {
    begin + 2 + usize::from(u16::from_be_bytes([file[begin + 2], file[begin + 3]]))
}

/// Where each segment of a JPEG file begins, up to its scan, and its marker.
fn segments(file: &[u8]) -> impl Iterator<Item = (usize, u8)> {
    let first = Some((2, file[3]));
    std::iter::successors(first, |(begin, marker)| {
        let next = end(file, *begin);
        (*marker != 0xda).then(|| (next, file[next + 1]))
    })
}

/// A camera leaves tables out, sends three of them, names a restart interval and sends half pictures: all but these are on air as they
/// are. Then its pictures have another size, as when somebody turns its switch.
pub(crate) fn odd_pictures_of_a_camera() {
    let lan = Lan::new(&["sender", "one"]);
    let (film, small) = (pal(1), numbered(1, (320, 240), (25, 1), 50));
    let (folder, smaller) = (jpegs(&lan, &film, (640, 360)), jpegs(&lan, &small, (320, 240)));
    let link = lan.folder().join("camera");
    // All pictures change at once.
    let show = |from: &Path| {
        let odd = tempfile::TempDir::new_in(lan.folder()).unwrap().keep();
        for n in 0..50 {
            let name = format!("{n:04}.jpg");
            fs::write(odd.join(&name), as_cameras_write_it(n, &fs::read(from.join(&name)).unwrap())).unwrap();
        }
        let new = lan.folder().join("new");
        symlink(odd, &new).unwrap();
        fs::rename(new, &link).unwrap();
    };
    show(&folder);
    let camera = CameraHost::new(&lan, lan.host("sender"), &link);
    let lineup = head("0.0.0.0:9688", "eth0")
        + &station(1, &[], "239.77.0.1:5004", "buffer = 200")
            .replace("media = []", &format!("media = \"{DEVICE}\""));
    let mut broadcaster = camera.run(&["--config", text(&camera.host.lineup(&lineup))]);
    broadcaster.await_log(" on air: ", 1);
    for (width, film, files) in [(640, &film, &folder), (320, &small, &smaller)] {
        show(files);
        let has_size = |entry: &Value| entry["state"] == "Film" && entry["size"]["width"] == width;
        camera.host.await_station(DIRECTORY, 1, "on air in this size", has_size);
        let mut units = Capture::start(&lan, "one", "239.77.0.1:5004", "eth0", 80).end();
        // The directory tells the new size as soon as a picture has it, which then waits for its moment.
        units.retain(|unit| unit.picture.width == width);
        assert!(units.len() > 60, "{} of 80 pictures are {width} wide", units.len());
        check_scans(&units, files);
        let numbers: Vec<usize> =
            units.iter().map(|unit| usize::from(unit.picture.strip().expect("a strip").1)).collect();
        for kind in 0..4 {
            assert!(numbers.iter().any(|number| number % 5 == kind), "{kind} of {numbers:?}");
        }
        assert!(numbers.iter().all(|number| number % 5 != 4), "half pictures are left out: {numbers:?}");
        let missing = film.check_order(units.iter().map(|unit| &unit.picture));
        assert!(missing <= 20 + 6, "{missing} are missing");
    }
    assert!(!broadcaster.stderr().contains("encoded anew"), "{}", broadcaster.stderr());
}

/// `broadcaster publish` sends a camera's pictures as they are, with its sound, and shows them in a window. The camera is pulled out,
/// and comes back, in the same connection.
pub(crate) fn our_publisher_sends_a_camera() {
    let lan = Lan::new(&["sender", "one", "two"]);
    let film = pal(1);
    let folder = jpegs(&lan, &film, (640, 360));
    let camera = CameraHost::new(&lan, lan.host("one"), &folder);
    let _server = camera.sound_server();
    let lineup = head("0.0.0.0:9688", "eth0")
        + "buffer = 200\n[rtsp]\nlisten = \"0.0.0.0:8554\"\n[publish]\nids = \"900-949\"\ntoken = \"kiwi-melon-fig\"\n";
    let mut broadcaster = lan.host("sender").broadcaster(&lineup);
    broadcaster.await_log("rtsp on", 1);
    let display = Display::new(camera.host, "800x600");
    let url = "rtsp://anna:kiwi-melon-fig@10.77.0.1:8554/publish/Anna";
    let settings: Vec<&str> = camera.settings.iter().map(String::as_str).collect();
    let args = ["publish", url, DEVICE, "--microphone", "--preview"];
    let mut publisher = display.run(&settings, BROADCASTER, &args);
    broadcaster.await_log("Anna (10.77.0.2) is on air as 900", 1);
    publisher.await_output("on air for 3 s: 2");
    publisher.await_log("the microphone \"default\" is heard", 1);
    let capture = Capture::start(&lan, "two", "239.77.3.132:5004", "eth0", 80);
    check_tone(&lan, "two", 900);
    check_pictures(&capture.end(), &film, &folder);
    assert!(broadcaster.stderr().contains("the pictures that are published are passed on as they are"));
    display.window(&mut publisher, "900");

    camera.unplug();
    publisher.await_output("nothing to send: /dev/video0 ");
    camera.plug_in();
    let mut seen = watch(&lan, "two", DIRECTORY, 900, 1_000_000);
    seen.await_pictures(20);
    check_tone(&lan, "two", 900);
    assert_eq!(publisher.stdout().matches("published to ").count(), 1, "{}", publisher.stdout());
    publisher.signal("INT");
    assert_eq!(publisher.finish().code, Some(0));
    broadcaster.await_log("Anna has left", 1);

    for (args, said) in [
        (&["/dev/video7"][..], "/dev/video7 is not there: No such file or directory"),
        (
            &[text(&film.path), "--microphone"],
            "--size, --rate and --microphone are for a camera of this machine",
        ),
        (&[DEVICE, "--size=large"], "write width and height, as in 1280x720"),
    ] {
        let ended = camera.run(&[&["publish", url], args].concat()).finish();
        assert!(ended.code == Some(2) && ended.stderr.contains(said), "{args:?}: {ended:?}");
    }
}
