//! What operators have a station do during an event.

use std::fs;

use serde_json::Value;

use crate::common::film::{numbered, pal};
use crate::common::harness::text;
use crate::common::lan::{Lan, head, station};
use crate::common::until;
use crate::common::watch::watch;

const DIRECTORY: &str = "127.0.0.1:9688";
const HTTP: &str = "127.0.0.1:8088";

pub(crate) fn a_station_obeys_its_operators() {
    let lan = Lan::alone();
    let host = lan.machine();
    let long = |station| numbered(station, (640, 360), (25, 1), 500);
    let (one, two, three) = (long(1), long(2), pal(3));
    let films = lan.folder().join("films");
    fs::create_dir(&films).unwrap();
    for (film, name) in [(&one, "Ocean"), (&two, "Forest"), (&three, "Speech")] {
        fs::copy(&film.path, films.join(name).with_extension("mp4")).unwrap();
    }
    let film = |name: &str| films.join(name).with_extension("mp4");
    let lineup = head(DIRECTORY, "lo")
        + &format!("[http]\nlisten = \"{HTTP}\"\n")
        + &station(2, &[&film("Ocean"), &film("Forest")], "239.77.0.2:5004", "");
    let file = host.lineup(&lineup);
    let mut broadcaster = host.run(env!("CARGO_BIN_EXE_broadcaster"), &["--config", text(&file)]);
    broadcaster.await_log(" on air: ", 1);
    let control = |args: &[&str]| {
        let args = [&["control", "--config", text(&file)], args].concat();
        let ended = host.run(env!("CARGO_BIN_EXE_broadcaster"), &args).finish();
        (ended.code.unwrap(), ended.stdout, ended.stderr)
    };
    let done = |sentence: &str| (0, format!("{sentence}\n"), String::new());
    let refused = |code: i32, sentence: &str| (code, String::new(), format!("{sentence}\n"));
    let api = |path: &str| -> Value {
        serde_json::from_str(&host.tool("curl", &["-s", &format!("http://{HTTP}/api/{path}")])).unwrap()
    };
    let titles =
        || api("guide")[0]["films"].as_array().unwrap().iter().map(|film| film["title"].clone()).collect();

    // What cannot be done is told, and changes nothing.
    let none = "there is no station 9; choose one of 2 \"Station 2\"";
    assert_eq!(control(&["9", "skip"]), refused(2, none));
    let missing = film("Gone");
    let no_film = format!("there is no film {}", missing.display());
    assert_eq!(control(&["2", "play", text(&missing)]), refused(2, &no_film));
    let folder = format!("{} is a folder; name a film", films.display());
    assert_eq!(control(&["2", "play", text(&films)]), refused(2, &folder));
    assert_eq!(control(&["2", "play", text(&file)]).0, 2);
    let nothing = "station 2 \"Station 2\" shows its programme; there is nothing to resume";
    assert_eq!(control(&["2", "resume"]), refused(1, nothing));
    for (text, why) in
        [("", "say what the slate is to show"), (&"x".repeat(513), "room for 512 bytes at most")]
    {
        let (code, _, said) = control(&["2", "hold", text]);
        assert!(code == 2 && said.contains(why), "{said}");
    }

    // The film must not end by itself before it is skipped.
    let first = until("the beginning of a film", || {
        let now = api("stations/2")["now"].take();
        (now["position_s"].as_f64()? < 5.0).then(|| now["title"].as_str().map(str::to_owned))?
    });
    let mut seen = watch(&lan, "alone", DIRECTORY, 2, 1_000_000);
    seen.await_pictures(10);
    let other = if first == "Ocean" { "Forest" } else { "Ocean" };
    assert_eq!(control(&["2", "skip"]), done(&format!("station 2 \"Station 2\" goes on with \"{other}\"")));
    until("the other film", || (api("stations/2")["now"]["title"] == other).then_some(()));

    // A film once, found beside the line-up or from here; then the programme.
    let speech = text(&film("Speech")).to_owned();
    assert_eq!(control(&["2", "play", &speech]), done("station 2 \"Station 2\" shows \"Speech\" once"));
    let during =
        until("the speech", || Some(api("stations/2")).filter(|station| station["now"]["title"] == "Speech"));
    assert_eq!((&during["state"], &during["interlude"]), (&"film".into(), &"film".into()), "{during}");
    let told: Vec<Value> = titles();
    assert!(told[0] == "Speech" && (told[1] == "Ocean" || told[1] == "Forest"), "{told:?}");
    until("the end of the speech", || api("stations/2")["interlude"].is_null().then_some(()));

    let held = done("station 2 \"Station 2\" is on hold: back at 14:00");
    assert_eq!(control(&["2", "hold", "back at 14:00"]), held);
    let during = until("the hold", || {
        Some(api("stations/2")).filter(|station| station["now"]["title"] == "back at 14:00")
    });
    let expected: [Value; 3] = ["slate".into(), "hold".into(), "back at 14:00".into()];
    assert_eq!([&during["state"], &during["interlude"], &during["reason"]].map(Value::clone), expected);
    assert_eq!(titles(), ["back at 14:00"].map(Value::from));
    let status = host.tool(env!("CARGO_BIN_EXE_broadcaster"), &["status", "--http", HTTP]);
    assert!(status.contains(" hold ") && status.contains("1 on hold"), "{status}");
    let entry = host.list(DIRECTORY).remove(0);
    assert!(entry.to_string().contains("back at 14:00"), "{entry}");
    let skip = "station 2 \"Station 2\" is on hold; resume it, or play a film";
    assert_eq!(control(&["2", "skip"]), refused(1, skip));

    let (code, resumed, _) = control(&["2", "resume"]);
    assert!(code == 0 && resumed.starts_with("station 2 \"Station 2\" goes on with \""), "{resumed}");
    until("the programme", || (api("stations/2")["state"] == "film").then_some(()));
    assert_eq!(control(&["2", "resume"]), refused(1, nothing));
    seen.await_more(25);

    // To the receiver all of it was one stream.
    broadcaster.signal("TERM");
    broadcaster.succeed();
    let pictures = seen.stop();
    let stations: Vec<Option<u8>> = pictures.iter().map(|picture| Some(picture.strip()?.0)).collect();
    let mut order = stations.clone();
    order.dedup();
    let number = |name: &str| Some(if name == "Ocean" { 1 } else { 2 });
    assert_eq!(order[..3], [number(&first), number(other), Some(3)], "{order:?}");
    let after = order.iter().skip(3).position(Option::is_none).expect("a slate");
    assert!(after >= 1 && order.len() > 3 + after + 1, "{order:?}");
    // Once, and whole. A busy machine skips a picture or repeats one.
    let speech: Vec<u16> = pictures
        .iter()
        .filter_map(|picture| picture.strip())
        .filter(|(film, _)| *film == 3)
        .map(|(_, n)| n)
        .collect();
    assert!(speech.is_sorted() && speech[0] < 5 && speech[speech.len() - 1] >= 45, "{speech:?}");
}
