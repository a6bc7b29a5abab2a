//! The window: the viewer under a display without a screen, its keys pressed, and photographs of it. Which
//! station and which picture it shows is read from the photograph.

#[path = "../common/mod.rs"]
mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use common::display::Display;
use common::film::{ntsc, pal};
use common::harness::{Test, main as run, text};
use common::lan::{Lan, head, station};
use common::process::Process;
use common::{strip, until};

fn main() -> ExitCode {
    let tools = &["Xvfb", "xdotool", "import"];
    run(vec![
        Test { name: "keys_change_what_is_seen", tools, run: keys_change_what_is_seen },
        Test {
            name: "a_lost_station_is_told_and_comes_back",
            tools,
            run: a_lost_station_is_told_and_comes_back,
        },
        Test { name: "after_a_wrong_number_it_follows", tools, run: after_a_wrong_number_it_follows },
        Test { name: "without_a_display", tools: &[], run: without_a_display },
    ])
}

const DIRECTORY: &str = "127.0.0.1:9688";

/// A machine with a display, and a viewer on it.
struct Desk<'a> {
    lan: &'a Lan,
    display: Display<'a>,
    viewer: Process,
    window: String,
}

/// A photograph of the window, in grey.
struct Photograph {
    width: usize,
    height: usize,
    luma: Vec<u8>,
}

impl<'a> Desk<'a> {
    fn new(lan: &'a Lan, args: &[&str]) -> Desk<'a> {
        let display = Display::new(lan.machine(), "1280x800");
        let mut viewer = display.run(&[], env!("CARGO_BIN_EXE_viewer"), args);
        let window = display.window(&mut viewer, "stationcast");
        Desk { lan, display, viewer, window }
    }

    fn press(&self, key: &str) {
        self.display.tool("xdotool", &["key", "--delay", "0", key]);
    }

    fn photograph(&self) -> Photograph {
        let file = self.lan.folder().join("photograph.pgm");
        let output = format!("pgm:{}", text(&file));
        self.display
            .tool("import", &["-window", &self.window, "-colorspace", "Gray", "-depth", "8", &output]);
        // P5, width, height, 255, then a byte a pixel.
        let bytes = fs::read(&file).unwrap();
        let head: Vec<&[u8]> = bytes.splitn(4, |byte| byte.is_ascii_whitespace()).collect();
        let number = |n: usize| std::str::from_utf8(head[n]).unwrap().parse::<usize>().unwrap();
        let (width, height) = (number(1), number(2));
        Photograph { width, height, luma: bytes[bytes.len() - width * height..].to_vec() }
    }

    /// Waits until this station is on the screen; the number of its picture.
    fn await_station(&self, station: u8) -> u16 {
        until(&format!("station {station} on the screen"), || {
            self.photograph().strip().filter(|strip| strip.0 == station).map(|strip| strip.1)
        })
    }

    /// Waits until the picture is another one.
    fn await_motion(&self) {
        let before = self.photograph().strip();
        until("another picture", || self.photograph().strip().filter(|strip| Some(*strip) != before));
    }
}

impl Photograph {
    fn strip(&self) -> Option<(u8, u16)> {
        strip::read(&self.luma, self.width, self.height, self.width)
    }
}

fn three_stations(lan: &Lan) -> Process {
    three_stations_on(lan, "239.77.0")
}

/// Stations 1 to 3 on the groups of their numbers in this net.
fn three_stations_on(lan: &Lan, net: &str) -> Process {
    let films = [pal(1), ntsc(2), pal(3)];
    let stations =
        films.iter().zip(1..).map(|(film, id)| station(id, &[&film.path], &format!("{net}.{id}:5004"), ""));
    lan.machine().on_air(&(head(DIRECTORY, "127.0.0.1") + &stations.collect::<String>()))
}

fn keys_change_what_is_seen() {
    let lan = Lan::alone();
    let _broadcaster = three_stations(&lan);
    let saved = lan.folder().join("saved");
    fs::create_dir(&saved).unwrap();
    let desk = Desk::new(&lan, &["--station", "2", "--save-to", text(&saved)]);
    desk.await_station(2);
    desk.await_motion();

    desk.press("3");
    desk.await_station(3);
    desk.press("Up");
    desk.await_station(1);
    desk.press("Down");
    desk.await_station(3);
    desk.press("BackSpace");
    desk.await_station(1);
    // Two at once: none is lost.
    desk.display.tool("xdotool", &["key", "--delay", "0", "2", "Page_Up"]);
    desk.await_station(3);

    desk.press("space");
    let held = until("a held picture", || {
        let strips: Vec<_> = (0..4).map(|_| desk.photograph().strip()).collect();
        strips.iter().all(|strip| strip.is_some() && *strip == strips[0]).then(|| strips[0])
    });
    desk.press("s");
    let (name, file) = await_saved(&saved);
    assert!(name.starts_with("stationcast-03-Station_3-") && name.ends_with(".png"), "{name}");
    assert_eq!(png_strip(&file), held, "what is saved is what is seen");
    desk.press("space");
    desk.await_motion();

    // A window of another shape: the picture keeps its own, between bars.
    desk.display.tool("xdotool", &["windowsize", "--sync", &desk.window, "900", "400"]);
    until("bars at the sides", || {
        let photograph = desk.photograph();
        let (left, right) = (102, 798); // 696 of 900: 640x368 in 400 lines
        let row = &photograph.luma[200 * photograph.width..][..photograph.width];
        let dark = row[..left].iter().chain(&row[right..]).all(|&pixel| pixel == 0);
        let inside = strip::read(&photograph.luma[left..], right - left, photograph.height, photograph.width);
        (photograph.width == 900 && dark && inside.is_some_and(|strip| strip.0 == 3)).then_some(())
    });

    desk.press("q");
    assert_eq!(desk.viewer.finish().code, Some(0));
}

/// Waits for a picture in the folder: its name and path.
fn await_saved(folder: &Path) -> (String, PathBuf) {
    let file = until("a saved picture", || {
        let mut files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        files.find(|file| file.extension().is_some_and(|ending| ending == "png"))
    });
    (file.file_name().unwrap().to_str().unwrap().to_owned(), file)
}

fn png_strip(file: &Path) -> Option<(u8, u16)> {
    let mut reader =
        png::Decoder::new(std::io::BufReader::new(fs::File::open(file).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    let (width, height) = (info.width as usize, info.height as usize);
    let channels = info.line_size / width;
    let luma: Vec<u8> = pixels.chunks(channels).map(|pixel| pixel[1]).collect();
    strip::read(&luma, width, height, width)
}

fn a_lost_station_is_told_and_comes_back() {
    let lan = Lan::alone();
    let broadcaster = three_stations(&lan);
    let saved = lan.folder().join("saved");
    fs::create_dir(&saved).unwrap();
    let mut desk = Desk::new(&lan, &["--station", "1", "--save-to", text(&saved)]);
    desk.await_station(1);
    broadcaster.signal("KILL");
    broadcaster.finish();
    // The last picture stays, and something is written over it.
    let last = until("a picture that stands still", || {
        let (first, second) = (desk.photograph(), desk.photograph());
        (first.strip().is_some() && first.strip() == second.strip()).then_some(first)
    });
    let told = until("a note over it", || {
        let now = desk.photograph();
        let changed = now.luma.iter().zip(&last.luma).filter(|(now, before)| now != before).count();
        (changed > 500).then_some(now)
    });
    assert_eq!(told.strip(), last.strip());
    assert!(desk.viewer.runs());
    desk.viewer.await_log("directory lost", 1);
    // Another one is chosen and does not come: what is seen, and saved, is still the first.
    desk.press("3");
    desk.press("s");
    let (name, file) = await_saved(&saved);
    assert!(name.starts_with("stationcast-01-Station_1-"), "{name}");
    assert_eq!(png_strip(&file), last.strip());

    let _broadcaster = three_stations(&lan);
    desk.await_station(3);
    desk.await_motion();
    // The directory is back as well: stations can be changed.
    desk.press("2");
    desk.await_station(2);
    desk.press("Escape");
    assert_eq!(desk.viewer.finish().code, Some(0));
}

/// The number of a station that does not exist is typed; then the broadcaster comes back with its stations elsewhere.
fn after_a_wrong_number_it_follows() {
    let lan = Lan::alone();
    let broadcaster = three_stations(&lan);
    let desk = Desk::new(&lan, &["--station", "2"]);
    desk.await_station(2);
    desk.press("7");
    desk.await_motion();
    broadcaster.signal("TERM");
    broadcaster.finish();

    let _broadcaster = three_stations_on(&lan, "239.77.1");
    desk.await_motion();
    desk.await_station(2);
    lan.machine().await_station(DIRECTORY, 2, "watched again", |entry| entry["audience"] == 1);
}

fn without_a_display() {
    let lan = Lan::alone();
    let _broadcaster = three_stations(&lan);
    let viewer =
        lan.machine().run("env", &["-u", "DISPLAY", "-u", "WAYLAND_DISPLAY", env!("CARGO_BIN_EXE_viewer")]);
    let ended = viewer.finish();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("DISPLAY") && ended.stderr.contains("--headless"), "{}", ended.stderr);
}
