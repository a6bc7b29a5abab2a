//! The viewer's window on a virtual display: keys are pressed, and the station and the picture that it shows are read from
//! screenshots.

#[path = "../common/mod.rs"]
mod common;
mod mosaic;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use common::display::Display;
use common::film::{ntsc, pal};
use common::harness::{Test, main as run, text};
use common::lan::{Lan, head, station};
use common::process::Process;
use common::{strip, until};
use stationcast::media::StationId;
use stationcast::screen::{List, ListPlace, Row};

fn main() -> ExitCode {
    let tools = &["Xvfb", "xdotool", "import"];
    run(vec![
        Test { name: "keys_change_what_is_seen", tools, run: keys_change_what_is_seen },
        Test {
            name: "a_lost_station_is_reported_and_comes_back",
            tools,
            run: a_lost_station_is_reported_and_comes_back,
        },
        Test {
            name: "after_a_wrong_number_the_viewer_follows_its_station",
            tools,
            run: after_a_wrong_number_the_viewer_follows_its_station,
        },
        Test { name: "escape_leaves_panel_and_full_screen", tools, run: escape_leaves_panel_and_full_screen },
        Test { name: "the_mouse_does_what_keys_do", tools, run: the_mouse_does_what_keys_do },
        Test { name: "a_name_is_found_by_typing", tools, run: a_name_is_found_by_typing },
        Test { name: "window_and_station_are_remembered", tools, run: window_and_station_are_remembered },
        Test {
            name: "all_stations_are_shown_and_one_alone_at_a_key",
            tools,
            run: mosaic::all_stations_are_shown_and_one_alone_at_a_key,
        },
        Test {
            name: "tiles_follow_stations_that_come_and_leave",
            tools,
            run: mosaic::tiles_follow_stations_that_come_and_leave,
        },
        Test { name: "the_guide_leads_to_a_station", tools, run: mosaic::the_guide_leads_to_a_station },
        Test {
            name: "a_display_that_cannot_read_our_memory_is_sent_the_pixels",
            tools,
            run: a_display_that_cannot_read_our_memory_is_sent_the_pixels,
        },
        Test { name: "without_a_display", tools: &[], run: without_a_display },
    ])
}

const DIRECTORY: &str = "127.0.0.1:9688";

/// A viewer's window on a display.
struct ViewerWindow<'a> {
    lan: &'a Lan,
    display: Display<'a>,
    viewer: Process,
    /// The window's number.
    id: String,
}

/// A screenshot of the window, in grey.
struct Screenshot {
    width: usize,
    height: usize,
    luma: Vec<u8>,
}

impl<'a> ViewerWindow<'a> {
    fn new(lan: &'a Lan, args: &[&str]) -> ViewerWindow<'a> {
        ViewerWindow::on(Display::new(lan.machine(), "1280x800"), lan, args)
    }

    fn on(display: Display<'a>, lan: &'a Lan, args: &[&str]) -> ViewerWindow<'a> {
        let mut viewer = display.run(&[], env!("CARGO_BIN_EXE_viewer"), args);
        let id = display.window(&mut viewer, "stationcast");
        ViewerWindow { lan, display, viewer, id }
    }

    fn press(&self, key: &str) {
        self.display.tool("xdotool", &["key", "--delay", "0", key]);
    }

    fn screenshot(&self) -> Screenshot {
        let file = self.lan.folder().join("screenshot.pgm");
        let output = format!("pgm:{}", text(&file));
        self.display.tool("import", &["-window", &self.id, "-colorspace", "Gray", "-depth", "8", &output]);
        // P5, width, height, 255; then one byte a pixel.
        let bytes = fs::read(&file).unwrap();
        let head: Vec<&[u8]> = bytes.splitn(4, |byte| byte.is_ascii_whitespace()).collect();
        let number = |n: usize| std::str::from_utf8(head[n]).unwrap().parse::<usize>().unwrap();
        let (width, height) = (number(1), number(2));
        Screenshot { width, height, luma: bytes[bytes.len() - width * height..].to_vec() }
    }

    /// Waits until this station is on the screen. Returns the number of its picture.
    fn await_station(&self, station: u8) -> u16 {
        until(&format!("station {station} on the screen"), || {
            self.screenshot().strip().filter(|strip| strip.0 == station).map(|strip| strip.1)
        })
    }

    /// Waits until there is another picture.
    fn await_motion(&self) {
        let before = self.screenshot().strip();
        until("another picture", || self.screenshot().strip().filter(|strip| Some(*strip) != before));
    }
}

impl Screenshot {
    /// The strip of the picture, which keeps its shape in a window of any other.
    fn strip(&self) -> Option<(u8, u16)> {
        let width = self.width.min(self.height * 640 / 368);
        let height = self.height.min(self.width * 368 / 640 + 1);
        let (left, top) = ((self.width - width) / 2, (self.height - height) / 2);
        // The banner darkens it, and a lost station's picture is dim, so each row is made as bright as it can be.
        let brightened = self.luma.chunks(self.width).skip(top).take(height).flat_map(|row| {
            let row = &row[left..left + width];
            let most = u32::from(row.iter().copied().max().unwrap_or(0)).max(8);
            row.iter().map(move |&luma| (u32::from(luma) * 255 / most) as u8)
        });
        let luma: Vec<u8> = brightened.collect();
        strip::read(&luma, width, height, width)
    }

    /// Whether the picture is dim, as a lost station's is.
    fn is_dim(&self) -> bool {
        let half = &self.luma[..self.luma.len() / 2];
        half.iter().all(|&luma| luma <= 125) && half.iter().any(|&luma| luma > 20)
    }
}

fn three_stations(lan: &Lan) -> Process {
    three_stations_on(lan, "239.77.0")
}

/// Stations 1 to 3, each on the group that ends in its number, in this network.
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
    let window = ViewerWindow::new(&lan, &["--station", "2", "--save-to", text(&saved)]);
    window.await_station(2);
    window.await_motion();

    window.press("3");
    window.await_station(3);
    window.press("Up");
    window.await_station(1);
    window.press("Down");
    window.await_station(3);
    window.press("BackSpace");
    window.await_station(1);
    // Two keys at once: neither is lost.
    window.display.tool("xdotool", &["key", "--delay", "0", "2", "Page_Up"]);
    window.await_station(3);

    window.press("space");
    let held = until("a held picture", || {
        let strips: Vec<_> = (0..4).map(|_| window.screenshot().strip()).collect();
        strips.iter().all(|strip| strip.is_some() && *strip == strips[0]).then(|| strips[0])
    });
    window.press("s");
    let (name, file) = await_saved(&saved);
    assert!(name.starts_with("stationcast-03-Station_3-") && name.ends_with(".png"), "{name}");
    assert_eq!(png_strip(&file), held, "the saved picture is the one on the screen");
    window.press("space");
    window.await_motion();

    // A window of another shape: the picture keeps its own, between bars.
    window.display.tool("xdotool", &["windowsize", "--sync", &window.id, "900", "400"]);
    until("bars at the sides", || {
        let screenshot = window.screenshot();
        let (left, right) = (102, 798); // 696 of 900: 640x368 in 400 lines
        let row = &screenshot.luma[200 * screenshot.width..][..screenshot.width];
        let dark = row[..left].iter().chain(&row[right..]).all(|&pixel| pixel == 0);
        let inside = screenshot.strip();
        (screenshot.width == 900 && dark && inside.is_some_and(|strip| strip.0 == 3)).then_some(())
    });

    window.press("q");
    assert_eq!(window.viewer.finish().code, Some(0));
}

/// Waits for a saved picture in the folder. Returns its name and path.
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

fn a_lost_station_is_reported_and_comes_back() {
    let lan = Lan::alone();
    let broadcaster = three_stations(&lan);
    let saved = lan.folder().join("saved");
    fs::create_dir(&saved).unwrap();
    let mut window = ViewerWindow::new(&lan, &["--station", "1", "--save-to", text(&saved)]);
    window.await_station(1);
    broadcaster.signal("KILL");
    broadcaster.finish();
    // The last picture stays, dim, with number, name and a sentence over it.
    let last = until("a dim picture", || {
        Some(window.screenshot()).filter(|now| now.is_dim() && now.strip().is_some())
    });
    assert!(window.viewer.runs());
    window.viewer.await_log("directory lost", 1);
    window.press("s");
    let (name, file) = await_saved(&saved);
    assert!(name.starts_with("stationcast-01-Station_1-"), "{name}");
    assert_eq!(png_strip(&file), last.strip());
    fs::remove_file(&file).unwrap();
    // Another station is chosen and does not arrive: the screen is that station's, without a picture.
    window.press("3");
    until("a screen without a picture", || window.screenshot().strip().is_none().then_some(()));
    window.press("s");
    // Several attempts later, the log has said it once.
    until("a message instead of a picture", || {
        let (first, second) = (window.screenshot(), window.screenshot());
        (first.strip().is_none() && first.luma != second.luma).then_some(())
    });
    assert_eq!(fs::read_dir(&saved).unwrap().count(), 0);
    assert_eq!(window.viewer.stderr().matches("directory lost").count(), 1);

    let _broadcaster = three_stations(&lan);
    window.await_station(3);
    window.await_motion();
    // The directory is back, too: stations can be changed.
    window.press("2");
    window.await_station(2);
    window.press("q");
    assert_eq!(window.viewer.finish().code, Some(0));
}

/// The width of the window as soon as it is this.
fn await_width(window: &ViewerWindow<'_>, width: usize) {
    until(&format!("a window {width} pixels wide"), || (window.screenshot().width == width).then_some(()));
}

fn escape_leaves_panel_and_full_screen() {
    let lan = Lan::alone();
    let _broadcaster = three_stations(&lan);
    let mut window = ViewerWindow::new(&lan, &["--station", "2"]);
    window.await_station(2);
    // 60 % of 1280x800, in the shape of the picture.
    await_width(&window, 768);
    window.press("f");
    await_width(&window, 1280);
    window.press("l");
    // It closes the line-up: the arrow changes the station, and the window still fills the screen.
    window.press("Escape");
    window.press("Up");
    window.await_station(3);
    assert_eq!(window.screenshot().width, 1280);
    window.press("Escape");
    await_width(&window, 768);
    window.press("Escape");
    window.await_motion();
    assert!(window.viewer.runs());
    window.press("ctrl+q");
    assert_eq!(window.viewer.finish().code, Some(0));
}

/// The middle of a row of the line-up of three stations, in this window.
fn row_of_three(window: &ViewerWindow<'_>, row: usize) -> (i32, i32) {
    let Screenshot { width, height, .. } = window.screenshot();
    let rows = (1..=3).map(|id| Row { id: StationId(id), name: "", state: "".into(), off_air: false });
    let list = List { rows: rows.collect(), ..List::default() };
    let x = width as i32 * 9 / 10;
    let lines: Vec<i32> =
        (0..height as i32).filter(|&y| list.at((x, y), (width, height)) == ListPlace::Row(row)).collect();
    (x, lines[lines.len() / 2])
}

fn the_mouse_does_what_keys_do() {
    let lan = Lan::alone();
    let _broadcaster = three_stations(&lan);
    let window = ViewerWindow::new(&lan, &["--station", "2"]);
    window.await_station(2);
    let mouse = |at: (i32, i32), rest: &[&str]| {
        let (x, y) = (at.0.to_string(), at.1.to_string());
        let to = ["mousemove", "--sync", "--window", &window.id, &x, &y];
        window.display.tool("xdotool", &[&to, rest].concat());
    };
    let third = row_of_three(&window, 2);
    // A right click opens the line-up, and a click on a row tunes, however short the presses.
    mouse(third, &["click", "3", "click", "1"]);
    window.await_station(3);
    // The line-up is closed again: a double click is one on the picture.
    mouse((300, 100), &["click", "--repeat", "2", "--delay", "20", "1"]);
    await_width(&window, 1280);
    mouse((301, 101), &["click", "--repeat", "2", "--delay", "20", "1"]);
    await_width(&window, 768);
    mouse((300, 100), &["keydown", "ctrl", "click", "4", "keyup", "ctrl"]);
    window.await_station(1);
    mouse((310, 100), &["keydown", "ctrl", "click", "5", "keyup", "ctrl"]);
    window.await_station(3);
}

fn a_name_is_found_by_typing() {
    let lan = Lan::alone();
    let _broadcaster = three_stations(&lan);
    let mut window = ViewerWindow::new(&lan, &["--station", "2"]);
    window.await_station(2);
    // All are called "Station N". While a name is typed, q and digits belong to it.
    window.display.tool("xdotool", &["key", "--delay", "0", "l", "t", "i", "o", "n", "space", "1", "Return"]);
    window.await_station(1);
    window.display.tool("xdotool", &["key", "--delay", "0", "l", "q", "BackSpace", "End", "Return"]);
    window.await_station(3);
    assert!(window.viewer.runs());
}

fn window_and_station_are_remembered() {
    let lan = Lan::alone();
    let _broadcaster = three_stations(&lan);
    let window = ViewerWindow::new(&lan, &[]);
    window.await_station(1);
    until("the window tells its process", || {
        let told = window.display.run(&[], "xdotool", &["getwindowpid", &window.id]).finish().stdout;
        told.trim().parse::<u32>().ok()
    });
    window.display.tool("xdotool", &["windowsize", "--sync", &window.id, "700", "420"]);
    await_width(&window, 700);
    window.press("3");
    window.await_station(3);
    window.press("q");
    assert_eq!(window.viewer.finish().code, Some(0));

    let window = ViewerWindow::new(&lan, &[]);
    window.await_station(3);
    let Screenshot { width, height, .. } = window.screenshot();
    assert_eq!((width, height), (700, 420));
    // The command line is stronger.
    let window = ViewerWindow::new(&lan, &["--station", "2"]);
    window.await_station(2);
}

/// The number of a station that does not exist is typed; then the broadcaster comes back with its stations on other groups.
fn after_a_wrong_number_the_viewer_follows_its_station() {
    let lan = Lan::alone();
    let broadcaster = three_stations(&lan);
    let window = ViewerWindow::new(&lan, &["--station", "2"]);
    window.await_station(2);
    window.press("7");
    window.await_motion();
    broadcaster.signal("TERM");
    broadcaster.finish();

    let _broadcaster = three_stations_on(&lan, "239.77.1");
    window.await_motion();
    window.await_station(2);
    lan.machine().await_station(DIRECTORY, 2, "watched again", |entry| entry["audience"] == 1);
}

fn a_display_that_cannot_read_our_memory_is_sent_the_pixels() {
    let lan = Lan::alone();
    let _broadcaster = three_stations(&lan);
    for (options, reads) in [
        (["-nolisten", "tcp"].as_slice(), true),
        (&["-nolisten", "tcp", "-extension", "MIT-SHM"], false),
        (&["-listen", "tcp"], false),
    ] {
        let display = Display::with(lan.machine(), "1280x800", options);
        let window = ViewerWindow::on(display, &lan, &["--station", "2"]);
        window.await_station(2);
        window.await_motion();
        window.display.tool("xdotool", &["windowsize", "--sync", &window.id, "900", "600"]);
        window.await_station(2);
        window.await_motion();
        window.press("3");
        window.await_station(3);
        assert_eq!(window.viewer.has_mapped("/memfd:pixels"), reads, "{options:?}");
    }
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
