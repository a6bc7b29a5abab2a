//! Reels: a film is encoded once and then aired from its reel, and whatever happens to a reel, the right pictures are on air.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use stationcast::media::{AirTime, FrameRate};

use crate::common::capture::Capture;
use crate::common::film::{Film, numbered};
use crate::common::harness::text;
use crate::common::lan::{Lan, head, station};
use crate::common::process::Process;
use crate::common::until;
use crate::common::wire::{Unit, check_grid};

const DIRECTORY: &str = "127.0.0.1:9688";

/// The log's words for a reel that has been made, and for one that is damaged.
const MADE: &str = " a reel of ";
const DAMAGED: &str = " is damaged: ";

/// A film of one second.
fn short(station: u8) -> Film {
    numbered(station, (640, 360), (25, 1), 25)
}

fn group(id: u16) -> String {
    format!("239.77.0.{id}:5004")
}

fn setup() -> String {
    head(DIRECTORY, "127.0.0.1")
}

/// A line-up of one station that plays these films.
fn one_station(films: &[&Path]) -> String {
    setup() + &station(1, films, &group(1), "")
}

/// The folder of a test's reels, unless the line-up names one.
fn reel_folder(lan: &Lan) -> PathBuf {
    lan.folder().join("stationcast")
}

/// The files of a folder whose names have this ending.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| text(path).ends_with(ending)).collect()
}

/// The one reel there is.
fn the_reel(folder: &Path) -> PathBuf {
    let reels = files(folder, ".reel");
    assert_eq!(reels.len(), 1, "{reels:?}");
    reels[0].clone()
}

/// Waits until a broadcaster has so many reels open, and no film: then all its pictures come from reels. A recording that is
/// still on air has its file open beside the reel that it became.
fn await_reels(broadcaster: &mut Process, reels: usize) {
    until(&format!("{reels} reels on air and no film"), || {
        assert!(broadcaster.runs(), "the broadcaster ended");
        let open = broadcaster.open_files();
        let mut of_reels: Vec<_> = open.iter().filter(|path| path.ends_with(".reel")).collect();
        of_reels.sort();
        let twice = of_reels.windows(2).any(|pair| pair[0] == pair[1]);
        let films = open.iter().filter(|path| path.ends_with(".mp4")).count();
        (of_reels.len() == reels && !twice && films == 0).then_some(())
    });
}

/// Warnings and errors of a log, without those that depend on the machine.
fn complaints(log: &str) -> Vec<&str> {
    let lines = log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR"));
    let of_the_machine = ["no real-time priority", "stood still"];
    lines.filter(|line| !of_the_machine.iter().any(|text| line.contains(text))).collect()
}

/// Ends a broadcaster. Returns its log.
fn end(broadcaster: Process) -> String {
    broadcaster.signal("TERM");
    broadcaster.succeed().stderr
}

/// Captures so many pictures of a station, from now on.
fn capture_pictures(lan: &Lan, id: u16, pictures: usize) -> Capture {
    Capture::start(lan, "alone", &group(id), "lo", pictures)
}

/// Captures a station from now on, until the capture is stopped.
fn capture_until_stopped(lan: &Lan, id: u16) -> Capture {
    capture_pictures(lan, id, 1_000_000)
}

/// Each picture as it was on air first: from then on it must be the same, byte by byte.
#[derive(Default)]
struct Originals(BTreeMap<(u8, u16), Vec<u8>>);

impl Originals {
    fn check(&mut self, units: &[Unit]) {
        for (at, unit) in units.iter().enumerate() {
            let strip = unit.picture.strip().unwrap_or_else(|| panic!("no strip in picture {at}"));
            let first = self.0.entry(strip).or_insert_with(|| unit.jpeg.clone());
            assert!(*first == unit.jpeg, "picture {at}, {strip:?}, is not as it was before");
        }
    }
}

fn numbers(units: &[Unit]) -> impl Iterator<Item = Option<(u8, u16)>> {
    units.iter().map(|unit| unit.picture.strip())
}

/// The first pass records, and the others play the reel. Neither the bytes of the pictures nor their order and times show a
/// difference.
pub(crate) fn later_passes_air_from_the_reel() {
    let lan = Lan::alone();
    let film = numbered(1, (640, 360), (30_000, 1001), 30);
    let capture = capture_until_stopped(&lan, 1);
    let mut broadcaster = lan.machine().on_air(&one_station(&[&film.path]));
    await_reels(&mut broadcaster, 1);
    // Twice more through the loop point.
    capture_pictures(&lan, 1, 65).end();
    let sent = capture.stop();
    await_reels(&mut broadcaster, 1);

    check_grid(&sent, &film);
    let missing = film.check_numbers(numbers(&sent));
    assert!(sent.len() > 65 && missing <= sent.len() as u64 / 20, "{missing} of {} are missing", sent.len());
    let mut originals = Originals::default();
    originals.check(&sent);
    assert_eq!(originals.0.len(), 30);
    let log = end(broadcaster);
    assert_eq!((log.matches(MADE).count(), complaints(&log).len()), (1, 0), "{log}");
    the_reel(&reel_folder(&lan));
}

/// Two stations with the same film and encoding share a recorder and a reel. Another quality is another encoding.
pub(crate) fn one_reel_for_two_stations() {
    let lan = Lan::alone();
    let film = short(1);
    let lineup = setup()
        + &station(1, &[&film.path], &group(1), "")
        + &station(2, &[&film.path], &group(2), "")
        + &station(3, &[&film.path], &group(3), "quality = 60");
    let mut broadcaster = lan.machine().broadcaster(&lineup);
    until("both reels", || {
        let parts = files(&reel_folder(&lan), ".part");
        for kind in ["-q80.", "-q60."] {
            let recorders = parts.iter().filter(|part| text(part).contains(kind)).count();
            assert!(recorders <= 1, "{parts:?}");
        }
        (broadcaster.stderr().matches(MADE).count() >= 2).then_some(())
    });
    await_reels(&mut broadcaster, 2);
    let captures = [1, 2, 3].map(|id| capture_pictures(&lan, id, 30));
    let [first, second, other] = captures.map(Capture::end);
    for sent in [&first, &second, &other] {
        check_grid(sent, &film);
    }
    let mut originals = Originals::default();
    originals.check(&first);
    originals.check(&second);
    assert_ne!(
        originals.0[&(1, 7)],
        other.iter().find(|unit| unit.picture.strip() == Some((1, 7))).unwrap().jpeg
    );
    assert_eq!(files(&reel_folder(&lan), ".reel").len(), 2);
    let log = end(broadcaster);
    assert_eq!((log.matches(MADE).count(), complaints(&log).len()), (2, 0), "{log}");
}

/// The phase of a station's round of films against the time of day, in nanoseconds, by each picture that was sent.
fn phases(capture: Capture, films: &[&Film]) -> Vec<i128> {
    let file = capture.file().to_owned();
    let sent = capture.end();
    // A timestamp is the time of day modulo 2^32 ticks, which is 13 hours.
    let near = fs::metadata(&file).unwrap().modified().unwrap().duration_since(UNIX_EPOCH).unwrap();
    let near = AirTime(near.as_nanos() as u64);
    let nth = |film: &Film, n: u16| {
        FrameRate::new(film.rate.0, film.rate.1).unwrap().nth(n.into()).as_nanos() as i128
    };
    let lengths: Vec<i128> = films.iter().map(|film| nth(film, film.pictures)).collect();
    let round: i128 = lengths.iter().sum();
    let phase = |unit: &Unit| {
        let (station, number) = unit.picture.strip().expect("a strip");
        let place = films.iter().position(|film| film.station == station).expect("a film of this round");
        let ago = near.rtp_timestamp().wrapping_sub(unit.timestamp) as i32;
        let at = i128::from(near.0) - i128::from(ago) * 1_000_000_000 / 90_000;
        (at - lengths[..place].iter().sum::<i128>() - nth(films[place], number)).rem_euclid(round)
    };
    sent.iter().map(phase).collect()
}

/// Checks that all phases are `expected`, to within the rounding of two timestamps.
fn check_phases(phases: &[i128], expected: i128) {
    assert!(!phases.is_empty());
    for (at, phase) in phases.iter().enumerate() {
        // A round is 2.001 s; just before the beginning of one is just after the end of another.
        let distance = (phase - expected).abs();
        let distance = distance.min(2_001_000_000 - distance);
        assert!(distance < 25_000, "picture {at} is {distance} ns from where the programme is");
    }
}

/// After a broadcaster was ended or killed and started again, the programme is where it would have been without. On another
/// machine with the same reels it is where the time of day puts it.
pub(crate) fn the_programme_goes_on_over_a_restart() {
    let lan = Lan::alone();
    let machine = lan.machine();
    let (first, second) = (numbered(1, (640, 360), (30_000, 1001), 30), short(2));
    let films = [&first, &second];
    let stations = station(1, &[&first.path, &second.path], &group(1), "");
    let lineup = setup() + &stations;
    let mut broadcaster = machine.on_air(&lineup);
    await_reels(&mut broadcaster, 2);
    let before = phases(capture_pictures(&lan, 1, 20), &films);
    check_phases(&before, before[0]);

    for signal in ["TERM", "KILL"] {
        broadcaster.signal(signal);
        broadcaster.finish();
        broadcaster = machine.on_air(&lineup);
        check_phases(&phases(capture_pictures(&lan, 1, 30), &films), before[0]);
        await_reels(&mut broadcaster, 2);
    }
    let log = end(broadcaster);
    assert_eq!((log.matches(MADE).count(), complaints(&log).len()), (0, 0), "{log}");

    let elsewhere = lan.folder().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for reel in files(&reel_folder(&lan), ".reel") {
        fs::copy(&reel, elsewhere.join(reel.file_name().unwrap())).unwrap();
    }
    let lineup = setup() + &format!("[reel]\ndir = {:?}\n", text(&elsewhere)) + &stations;
    let broadcaster = machine.on_air(&lineup);
    let own = Duration::from_millis(40).mul_f64(158.0 / 256.0); // 0.618 on a grid of 256
    check_phases(&phases(capture_pictures(&lan, 1, 30), &films), own.as_nanos() as i128);
    let log = end(broadcaster);
    assert_eq!((log.matches(MADE).count(), complaints(&log).len()), (0, 0), "{log}");
}

/// The part of a recording that is left over is not aired, and does not hinder the next recording.
pub(crate) fn a_recording_that_is_killed() {
    let lan = Lan::alone();
    // So long that it takes longer to record than the longest capture.
    let film = numbered(1, (1280, 720), (25, 1), 500);
    let lineup = one_station(&[&film.path]);
    let mut originals = Originals::default();
    let mut torn = 0;
    let mut random = fastrand::Rng::with_seed(2435);
    for earliest in (1..72).step_by(12) {
        let capture = capture_pictures(&lan, 1, earliest + random.usize(..12));
        let old = files(&reel_folder(&lan), ".reel");
        let broadcaster = lan.machine().broadcaster(&lineup);
        let sent = capture.end();
        broadcaster.signal("KILL");
        let log = broadcaster.finish().stderr;
        assert!(complaints(&log).is_empty(), "{log}");
        if !sent.is_empty() {
            film.check_numbers(numbers(&sent));
        }
        originals.check(&sent);
        torn += files(&reel_folder(&lan), ".part").len();
        // A reel that was whole has been aired by now.
        old.iter().for_each(|reel| fs::remove_file(reel).unwrap());
    }
    assert!(torn > 0, "no recording was killed");

    let capture = capture_until_stopped(&lan, 1);
    let mut broadcaster = lan.machine().on_air(&lineup);
    await_reels(&mut broadcaster, 1);
    capture_pictures(&lan, 1, 30).end();
    let sent = capture.stop();
    check_grid(&sent, &film);
    originals.check(&sent);
    the_reel(&reel_folder(&lan));
    let log = end(broadcaster);
    assert!(complaints(&log).is_empty(), "{log}");
    assert_eq!(files(&reel_folder(&lan), ".part"), [""; 0].map(PathBuf::from), "parts are left over");
}

/// A reel is damaged in three ways while no broadcaster runs, and once while it is on air. Each time there is one line in the
/// log, never a wrong picture, and a new reel.
pub(crate) fn a_damaged_reel_is_made_again() {
    let lan = Lan::alone();
    let film = short(1);
    let lineup = one_station(&[&film.path]);
    let mut originals = Originals::default();
    let capture = capture_until_stopped(&lan, 1);
    let mut broadcaster = lan.machine().on_air(&lineup);
    await_reels(&mut broadcaster, 1);
    originals.check(&capture.stop());

    let reel = the_reel(&reel_folder(&lan));
    let good = fs::read(&reel).unwrap();
    let flip = |at: usize| {
        let file = fs::File::options().write(true).open(&reel).unwrap();
        file.write_all_at(&[good[at] ^ 0x10], at as u64).unwrap();
    };
    let damages: [&dyn Fn(); 3] = [
        &|| flip(good.len() / 2),
        &|| fs::File::options().write(true).open(&reel).unwrap().set_len(good.len() as u64 - 100).unwrap(),
        &|| flip(60),
    ];
    for damage in damages {
        end(broadcaster);
        damage();
        let capture = capture_until_stopped(&lan, 1);
        broadcaster = lan.machine().on_air(&lineup);
        broadcaster.await_log(DAMAGED, 1);
        broadcaster.await_log(MADE, 1);
        await_reels(&mut broadcaster, 1);
        originals.check(&capture.stop());
        let log = broadcaster.stderr();
        assert_eq!((complaints(&log).len(), log.matches(DAMAGED).count()), (1, 1), "{log}");
        // A station that joins in the middle of the film has that recorded first: the same pictures, in another order.
        assert_eq!(fs::metadata(&reel).unwrap().len(), good.len() as u64);
    }

    let capture = capture_until_stopped(&lan, 1);
    flip(good.len() / 2);
    broadcaster.await_log(DAMAGED, 2);
    broadcaster.await_log(MADE, 2);
    await_reels(&mut broadcaster, 1);
    let sent = capture.stop();
    originals.check(&sent);
    // The damaged picture is left out, once, and the programme goes on in time. A busy machine may skip others.
    let missing = film.check_numbers(numbers(&sent));
    assert!((1..=1 + sent.len() as u64 / 20).contains(&missing), "{missing} of {} are missing", sent.len());
    check_grid(&sent, &film);
    let log = end(broadcaster);
    assert_eq!(complaints(&log).len(), 2, "{log}");
}

/// A film of the same rate and length takes another's place while that is being recorded, and while its reel is on air. The
/// pictures on air change once, between two passes.
pub(crate) fn a_film_that_changes_under_its_reel() {
    let lan = Lan::alone();
    let films = [short(1), short(2)];
    let (here, beside) = (lan.folder().join("film.mp4"), lan.folder().join("beside.mp4"));
    fs::copy(&films[0].path, &here).unwrap();
    let mut broadcaster = lan.machine().on_air(&one_station(&[&here]));
    let mut originals = Originals::default();
    for (from, to) in [(&films[0], &films[1]), (&films[1], &films[0])] {
        fs::copy(&to.path, &beside).unwrap();
        let capture = capture_until_stopped(&lan, 1);
        fs::rename(&beside, &here).unwrap();
        broadcaster.await_log(MADE, usize::from(from.station));
        // The old film may have a reel, too, which is on air for up to two passes.
        until("the new film to be on air", || {
            let seen = capture_pictures(&lan, 1, 5).end();
            numbers(&seen).last()?.filter(|strip| strip.0 == to.station)
        });
        await_reels(&mut broadcaster, 1);
        capture_pictures(&lan, 1, 30).end();
        let sent = capture.stop();
        originals.check(&sent);
        let strips: Vec<_> = numbers(&sent).map(|strip| strip.unwrap()).collect();
        let change = strips.iter().position(|strip| strip.0 == to.station).expect("the new film");
        let is_new = |strip: &(u8, u16)| strip.0 == to.station;
        assert!(strips[change..].iter().all(is_new), "the old film came again: {strips:?}");
        let (old, new) = sent.split_at(change);
        if !old.is_empty() {
            from.check_numbers(numbers(old));
            // The pass that was on air, and the one that was prepared already.
            assert!(old.len() <= 60, "{} pictures of the old film", old.len());
        }
        check_grid(new, to);
        let (last, first) = (strips[change.saturating_sub(1)], strips[change]);
        // A busy machine skips pictures at the seam.
        assert!(change == 0 || last.1 > 15 && first.1 < 10, "{first:?} after {last:?}");
    }
    let log = end(broadcaster);
    let complaints = complaints(&log);
    assert!(
        complaints.len() <= 1
            && complaints.iter().all(|line| line.contains("the film was changed meanwhile")),
        "{log}"
    );
}

/// A full disk costs the reel and nothing else. When it has room, the reel is made.
pub(crate) fn a_full_disk() {
    let lan = Lan::alone();
    let film = short(1);
    lan.mount(&reel_folder(&lan), "200k");
    let capture = capture_until_stopped(&lan, 1);
    let mut broadcaster = lan.machine().on_air(&one_station(&[&film.path]));
    let refused = "No space left";
    broadcaster.await_log(refused, 1);
    // Two more passes, of which the log says nothing more.
    capture_pictures(&lan, 1, 2 * usize::from(film.pictures)).end();
    lan.mount(&reel_folder(&lan), "8m");
    broadcaster.await_log(MADE, 1);
    await_reels(&mut broadcaster, 1);
    let sent = capture.stop();
    check_grid(&sent, &film);
    let missing = film.check_numbers(numbers(&sent));
    assert!(missing <= sent.len() as u64 / 20, "{missing} of {} are missing", sent.len());
    let log = end(broadcaster);
    let complaints = complaints(&log);
    assert!(
        complaints.len() == 1 && complaints[0].contains("no reel of "),
        "once, not once for each pass: {log}"
    );
}

pub(crate) fn no_reel_where_none_is_wanted() {
    let lan = Lan::alone();
    let film = short(1);
    let lineup = setup() + &station(1, &[&film.path], &group(1), "reel = false");
    let broadcaster = lan.machine().on_air(&lineup);
    let sent = capture_pictures(&lan, 1, 60).end();
    check_grid(&sent, &film);
    let log = end(broadcaster);
    assert!(!reel_folder(&lan).exists() && complaints(&log).is_empty(), "{log}");
}

/// There is a file where the folder should be.
pub(crate) fn no_folder_for_reels() {
    let lan = Lan::alone();
    let film = short(1);
    fs::write(reel_folder(&lan), "in the way").unwrap();
    let broadcaster = lan.machine().on_air(&one_station(&[&film.path]));
    let sent = capture_pictures(&lan, 1, 60).end();
    check_grid(&sent, &film);
    let log = end(broadcaster);
    let complaints = complaints(&log);
    assert!(complaints.len() == 1 && complaints[0].contains("no reels are kept: cannot use "), "{log}");
    assert_eq!(fs::read_to_string(reel_folder(&lan)).unwrap(), "in the way");
}

/// Bytes in the reels and parts of a folder. A file that is renamed meanwhile counts once.
fn usage(folder: &Path) -> u64 {
    let found = [files(folder, ".part"), files(folder, ".reel")].concat();
    let sizes = found.iter().filter_map(|path| fs::metadata(path).ok()).map(|file| (file.ino(), file.len()));
    sizes.collect::<BTreeMap<_, _>>().values().sum()
}

/// Two films whose reels together exceed the limit. On one station, one after the other, they make room for each other. On two
/// stations at the same time, the reel that is on air stays, and the other film is encoded each time.
pub(crate) fn reels_over_the_limit() {
    let lan = Lan::alone();
    let films = [short(1), short(2)];
    let setup = setup() + "[reel]\nbytes = 1_000_000\n";
    let in_turn = setup.clone() + &station(1, &[&films[0].path, &films[1].path], &group(1), "");
    let mut broadcaster = lan.machine().on_air(&in_turn);
    let capture = capture_until_stopped(&lan, 1);
    // Which films get reels depends on where the station joins: one recording may take the room of the other.
    broadcaster.await_log(MADE, 1);
    watch_usage(&lan, &broadcaster, capture_pictures(&lan, 1, 100));
    let strips: Vec<_> = numbers(&capture.stop()).map(|strip| strip.unwrap()).collect();
    for pair in strips.windows(2) {
        let ((a, x), (b, y)) = (pair[0], pair[1]);
        assert!(if a == b { y > x } else { x >= 23 && y <= 1 }, "picture {y} of {b} after {x} of {a}");
    }
    let log = end(broadcaster);
    assert!(complaints(&log).iter().all(|line| line.contains("raise [reel] bytes")), "{log}");

    // One of the two reels is left.
    let kept = the_reel(&reel_folder(&lan));
    let lineup =
        setup + &station(1, &[&films[0].path], &group(1), "") + &station(2, &[&films[1].path], &group(2), "");
    let broadcaster = lan.machine().on_air(&lineup);
    let captures = [1, 2].map(|id| capture_until_stopped(&lan, id));
    watch_usage(&lan, &broadcaster, capture_pictures(&lan, 1, 60));
    for (capture, film) in captures.into_iter().zip(&films) {
        check_grid(&capture.stop(), film);
    }
    assert_eq!(the_reel(&reel_folder(&lan)), kept);
    let log = end(broadcaster);
    let complaints = complaints(&log);
    assert_eq!(log.matches(MADE).count(), 0, "{log}");
    assert!(!complaints.is_empty(), "{log}");
    assert!(
        complaints.iter().all(|line| line.contains("leave no room for another in 1000000 bytes")),
        "{log}"
    );
}

/// Checks, until the capture ends, that reels and parts stay below the limit, and that no reel on air is removed.
fn watch_usage(lan: &Lan, broadcaster: &Process, mut capture: Capture) {
    until("the end of the capture", || {
        let used = usage(&reel_folder(lan));
        assert!(used <= 1_000_000, "{used} bytes are used");
        let open = broadcaster.open_files();
        assert!(!open.iter().any(|path| path.ends_with(".reel (deleted)")), "{open:?}");
        (!capture.runs()).then_some(())
    });
    capture.end();
}
