//! `broadcaster prepare`: reels made beforehand.

use std::fs;

use crate::common::film::numbered;
use crate::common::harness::text;
use crate::common::lan::{Lan, head, station};
use crate::common::process::Process;
use crate::common::until;

/// After an interruption, a second run makes only the reels that are missing. A film that cannot be read is named, and costs no
/// other film its reel.
pub(crate) fn an_interrupted_preparation_goes_on() {
    let lan = Lan::alone();
    let machine = lan.machine();
    // The first reel is made quickly, the others slowly.
    let short = numbered(1, (320, 240), (25, 1), 5);
    let long: Vec<_> = (2..5).map(|station| numbered(station, (640, 360), (25, 1), 250)).collect();
    let broken = lan.folder().join("broken.mp4");
    fs::write(&broken, "no film").unwrap();
    let films: Vec<_> = [&short].into_iter().chain(&long).map(|film| film.path.as_path()).collect();
    let lineup = head("127.0.0.1:9688", "127.0.0.1") + &station(1, &films, "239.77.0.1:5004", "");
    let prepare = |lineup: &str| -> Process {
        let config = machine.lineup(lineup);
        machine.run(env!("CARGO_BIN_EXE_broadcaster"), &["prepare", "--config", text(&config)])
    };
    let reels = lan.folder().join("stationcast");
    let count = |ending: &str| {
        let files = fs::read_dir(&reels).into_iter().flatten();
        files.filter(|file| file.as_ref().is_ok_and(|file| text(&file.path()).ends_with(ending))).count()
    };

    let first = prepare(&lineup);
    until("the first reel", || (count(".reel") > 0).then_some(()));
    first.signal("INT");
    let ended = first.finish();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("stopped before the end; run it again to continue"), "{}", ended.stderr);
    let made = count(".reel");
    assert!((1..films.len()).contains(&made) && count(".part") == 0, "{made} reels");

    let again = prepare(&lineup).succeed();
    let missing = films.len() - made;
    let s = if missing == 1 { "" } else { "s" };
    let says = format!("{missing} film{s} encoded, {made} encoded before; {} reels in ", films.len());
    assert!(again.stdout.starts_with(&says), "{}", again.stdout);
    assert_eq!((count(".reel"), count(".part")), (films.len(), 0));

    let with_broken = lineup + &station(2, &[&short.path, &broken], "239.77.0.2:5004", "");
    let ended = prepare(&with_broken).finish();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stdout.starts_with(&format!("0 films encoded, {} encoded before", films.len())),
        "{}",
        ended.stdout
    );
    let sentence = "broken.mp4 is not a film: there is no video in it that this system can decode";
    assert!(
        ended.stderr.contains(sentence) && ended.stderr.contains("1 of 5 films could not be encoded"),
        "{}",
        ended.stderr
    );
}
