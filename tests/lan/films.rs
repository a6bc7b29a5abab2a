//! Films as people have them: odd sizes, rates and codecs, and files that are not films.

use std::fs;
use std::path::PathBuf;

use crate::common::film::ffmpeg;
use crate::common::harness::text;
use crate::common::lan::{Lan, head, station};
use crate::common::process::Process;
use crate::common::wire::{Unit, steps, units};

const DIRECTORY: &str = "127.0.0.1:9688";

fn group(id: u16) -> String {
    format!("239.77.0.{id}:5004")
}

/// Captures so many pictures of stations 1 to `count`, from now on.
fn capture(lan: &Lan, count: u16, pictures: &str) -> Vec<Vec<Unit>> {
    let file = |id: u16| lan.folder().join(format!("capture-{id}"));
    let start = |id| lan.machine().helper("capture", &[&group(id), "lo", pictures, text(&file(id))]);
    let captures: Vec<Process> = (1..=count).map(start).collect();
    captures.into_iter().for_each(|capture| drop(capture.succeed()));
    (1..=count).map(|id| units(&file(id))).collect()
}

/// How ffmpeg makes a film; the size, with `width = 640`, of a station that plays it; and the station's rate.
type Recipe = (String, (u64, u64), (u64, u64));

/// Each film plays at the right size and rate.
pub(crate) fn odd_films() {
    let lan = Lan::alone();
    let h264 = "-c:v libx264 -preset ultrafast";
    let films: [Recipe; 11] = [
        (format!("-f lavfi -i testsrc2=s=176x144:r=25:d=2 {h264} -pix_fmt yuv420p"), (176, 144), (25, 1)),
        (format!("-f lavfi -i testsrc2=s=400x225:r=25:d=2 {h264} -pix_fmt yuv444p"), (400, 224), (25, 1)),
        (format!("-f lavfi -i testsrc2=s=853x480:r=25:d=2 {h264} -pix_fmt yuv444p"), (640, 368), (25, 1)),
        (format!("-f lavfi -i testsrc2=s=240x426:r=25:d=2 {h264} -pix_fmt yuv420p"), (240, 432), (25, 1)),
        (
            format!("-f lavfi -i testsrc2=s=320x180:r=24000/1001:d=2 {h264} -pix_fmt yuv420p"),
            (320, 176),
            (24_000, 1001),
        ),
        (
            format!("-f lavfi -i testsrc2=s=320x240:r=30000/1001:d=2 {h264} -pix_fmt yuv420p"),
            (320, 240),
            (30_000, 1001),
        ),
        (format!("-f lavfi -i testsrc2=s=320x240:r=50:d=2 {h264} -pix_fmt yuv420p"), (320, 240), (50, 1)),
        (format!("-f lavfi -i testsrc2=s=320x240:r=60:d=2 {h264} -pix_fmt yuv420p"), (320, 240), (60, 1)),
        ("-f lavfi -i testsrc2=s=352x288:r=25:d=2 -c:v mpeg4 -bf 2 -q:v 4".into(), (352, 288), (25, 1)),
        (
            format!("-f lavfi -i testsrc2=s=320x240:r=25:d=2 {h264} -bf 3 -g 50 -pix_fmt yuv420p"),
            (320, 240),
            (25, 1),
        ),
        // Its sound is longer than its pictures, and the file has no count of pictures.
        (
            format!(
                "-f lavfi -i testsrc2=s=320x240:r=25:d=2 -f lavfi -i sine=d=2.4 {h264} -pix_fmt yuv420p -f matroska"
            ),
            (320, 240),
            (25, 1),
        ),
    ];
    let mut lineup = head(DIRECTORY, "127.0.0.1");
    let stations = 1..=films.len() as u16;
    for (id, (recipe, ..)) in stations.clone().zip(&films) {
        let ending = if recipe.contains("matroska") { "mkv" } else { "mp4" };
        let path = lan.folder().join(format!("film-{id}.{ending}"));
        ffmpeg(recipe, &path);
        lineup += &station(id, &[&path], &group(id), "");
    }
    // A film whose pictures come at intervals of one to four thirtieths of a second.
    let variable = films.len() as u16 + 1;
    let path = lan.folder().join("variable.mp4");
    let drop = "select='lt(mod(n,30),10)+not(mod(n,4))+not(mod(n,7))'";
    ffmpeg(
        &format!("-f lavfi -i testsrc2=s=320x240:r=30:d=2,{drop} -vsync vfr {h264} -pix_fmt yuv420p"),
        &path,
    );
    lineup += &station(variable, &[&path], &group(variable), "");

    let _broadcaster = lan.machine().on_air(&lineup);
    let list = lan.machine().list(DIRECTORY);
    let rate = &list[films.len()]["rate"];
    let mean = 90_000.0 * rate["den"].as_f64().expect("a rate") / rate["num"].as_f64().expect("a rate");
    let mut captured = capture(&lan, variable, "70");
    let of_variable = captured.pop().expect("the last one");
    for (((recipe, size, rate), entry), units) in films.iter().zip(list).zip(captured) {
        assert_eq!(entry["state"], "Film", "{recipe}");
        let said = |key: &str, part: &str| entry[key][part].as_u64().expect("a number");
        assert_eq!((said("size", "width"), said("size", "height")), *size, "{recipe}");
        assert_eq!((said("rate", "num"), said("rate", "den")), *rate, "{recipe}");
        assert!(units.iter().all(|unit| (unit.picture.width as u64, unit.picture.height as u64) == *size));
        // Every timestamp is on the rate's grid, to within the rounding of two; almost no picture is left out.
        let interval = 90_000.0 * rate.1 as f64 / rate.0 as f64;
        let steps = steps(&units);
        for step in &steps {
            let places = f64::from(*step) / interval;
            assert!(
                places >= 0.99 && (places - places.round()).abs() * interval < 1.01,
                "{recipe}: {step} ticks"
            );
        }
        let ticks: u32 = steps.iter().sum();
        let mean = f64::from(ticks) / steps.len() as f64 / interval;
        assert!((0.999..1.1).contains(&mean), "{recipe}: {mean} of the interval between pictures");
    }
    let mut seen = std::collections::BTreeSet::new();
    for step in steps(&of_variable) {
        // The file has no duration of the last picture, which gets the mean.
        if (f64::from(step) - mean).abs() <= 2.0 {
            continue;
        }
        let thirtieths = (f64::from(step) / 3000.0).round();
        assert!((f64::from(step) - 3000.0 * thirtieths).abs() <= 2.0, "{step} ticks");
        seen.insert(thirtieths as u32);
    }
    assert!([1, 2, 3].iter().all(|steps| seen.contains(steps)), "a variable rate: {seen:?} thirtieths");
}

/// Each shows a slate that says why, and disturbs no other station.
pub(crate) fn files_that_are_not_films() {
    let lan = Lan::alone();
    let path = |name: &str| -> PathBuf { lan.folder().join(name) };
    let film = "-f lavfi -i testsrc2=s=320x240:r=25:d=4 -c:v libx264 -preset ultrafast -pix_fmt yuv420p";
    ffmpeg(film, &path("good.mp4"));
    ffmpeg(&format!("{film} -movflags +faststart"), &path("fast.mp4"));
    ffmpeg("-f lavfi -i sine=d=2 -c:a aac", &path("sound.mp4"));
    let half = |from: &str, to: &str| {
        let bytes = fs::read(path(from)).unwrap();
        fs::write(path(to), &bytes[..bytes.len() / 2]).unwrap();
    };
    half("good.mp4", "no-index.mp4");
    half("fast.mp4", "breaks-off.mp4");
    let mut random = fastrand::Rng::with_seed(9688);
    let garbage: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(100_000).collect();
    fs::write(path("garbage.mp4"), garbage).unwrap();
    fs::write(path("empty.mp4"), "").unwrap();

    let none = ["sound", "no-index", "garbage", "empty"];
    let mut lineup = head(DIRECTORY, "127.0.0.1");
    for (id, name) in (1..).zip(none.iter().chain(&["breaks-off", "good"])) {
        lineup += &station(id, &[&path(&format!("{name}.mp4"))], &group(id), "");
    }
    let machine = lan.machine();
    let mut broadcaster = machine.broadcaster(&lineup);
    broadcaster.await_log("directory on", 1);
    for (id, name) in (1..).zip(none) {
        let reason = match name {
            "sound" => "sound.mp4 is music: it has no video, at most cover art".to_owned(),
            _ => format!("{name}.mp4 is not a film: there is no video in it that this system can decode"),
        };
        let slate = |entry: &serde_json::Value| entry["state"]["Slate"]["reason"] == reason;
        let entry = machine.await_station(DIRECTORY, id, "on a slate", slate);
        assert_eq!((&entry["size"]["width"], &entry["size"]["height"]), (&640.into(), &368.into()));
    }
    // The station plays as far as the film goes, again and again, and the log says why that is not the whole.
    let cut = machine.await_station(DIRECTORY, 5, "on air", |entry| entry["state"] == "Film");
    assert_eq!((&cut["size"]["width"], &cut["size"]["height"]), (&320.into(), &240.into()));
    broadcaster.await_log("breaks-off.mp4 is cut off: ", 1);
    broadcaster.await_log("/breaks-off.mp4: ", 1);

    machine.await_station(DIRECTORY, 6, "on air", |entry| entry["state"] == "Film");
    assert!(broadcaster.runs());
    assert!(!broadcaster.stderr().contains("panicked"));
    // A slate is sent five times a second, except in the moments when the film is tried again.
    for units in capture(&lan, 4, "8") {
        let steps = steps(&units);
        assert!(steps.iter().all(|step| *step >= 17_999), "{steps:?}");
        let longer = steps.iter().filter(|step| **step >= 2 * 18_000).count();
        assert!(longer <= steps.len() / 4, "{steps:?}");
    }
}
