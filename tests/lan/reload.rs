//! An edited line-up takes effect on a broadcaster that runs.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::film::pal;
use crate::common::harness::text;
use crate::common::lan::{Host, Lan, head, station};
use crate::common::process::Ended;
use crate::common::until;
use crate::common::watch::watch;

const DIRECTORY: &str = "127.0.0.1:9688";
const HTTP: &str = "127.0.0.1:8088";

/// Has the broadcaster reload its line-up.
fn reload(host: Host, file: &Path, more: &[&str]) -> Ended {
    let args = [&["reload", "--config", text(file)], more].concat();
    host.run(env!("CARGO_BIN_EXE_broadcaster"), &args).finish()
}

/// Number, name and width of each station in the directory.
fn listed(host: Host) -> Vec<(u64, String, u64)> {
    let row = |entry: &Value| {
        let name = entry["name"].as_str().unwrap().to_owned();
        (entry["id"].as_u64().unwrap(), name, entry["size"]["width"].as_u64().unwrap_or_default())
    };
    host.list(DIRECTORY).iter().map(row).collect()
}

pub(crate) fn a_reload_touches_no_station_that_is_the_same() {
    let lan = Lan::alone();
    let host = lan.machine();
    let (one, two) = (pal(1), pal(2));
    let head = head(DIRECTORY, "lo") + &format!("[http]\nlisten = \"{HTTP}\"\n");
    let first = station(1, &[&one.path], "239.77.0.1:5004", "");
    let second = station(2, &[&two.path], "239.77.0.2:5004", "");
    let lineup = head.clone() + &first + &second;
    let file = host.lineup(&lineup);
    let mut broadcaster = host.run(env!("CARGO_BIN_EXE_broadcaster"), &["--config", text(&file)]);
    broadcaster.await_log(" on air: ", 2);
    let mut unchanged = watch(&lan, "alone", DIRECTORY, 1, 600);
    unchanged.await_pictures(25);

    let same = reload(host, &file, &[]);
    assert_eq!((same.code, &same.stdout[..]), (Some(0), "nothing has changed\n"), "{same:?}");

    // A fault anywhere changes nothing, and is told to the operator and in the log.
    let third = station(3, &[&two.path], "239.77.0.3:5004", "");
    fs::write(&file, lineup.clone() + &third + "witdh = 320\n").unwrap();
    let wrong = reload(host, &file, &[]);
    assert_eq!((wrong.code, &wrong.stdout[..]), (Some(2), ""), "{wrong:?}");
    assert!(wrong.stderr.contains("witdh") && wrong.stderr.contains("stays as it is"), "{wrong:?}");
    broadcaster.await_log("witdh", 1);

    // Renamed, and one more. First only told.
    let renamed = second.replace("Station 2", "Zwei");
    fs::write(&file, head.clone() + &renamed + &third + &first).unwrap();
    let told = reload(host, &file, &["--dry-run"]);
    let sentences = "station 2 \"Station 2\" is renamed \"Zwei\"\nstation 3 \"Station 3\" is added\n";
    assert_eq!((told.code, told.stdout), (Some(0), format!("{sentences}nothing was changed\n")));
    assert_eq!(listed(host).len(), 2);
    let done = reload(host, &file, &[]);
    assert_eq!((done.code, done.stdout), (Some(0), format!("{sentences}station 3 is on air\n")));
    let names: Vec<_> = listed(host).into_iter().map(|(_, name, _)| name).collect();
    assert_eq!(names, ["Station 1", "Zwei", "Station 3"]);
    assert!(host.tool("curl", &["-s", &format!("http://{HTTP}/stations.m3u")]).contains("2 Zwei\n"));
    assert!(host.tool("curl", &["-s", &format!("http://{HTTP}/stations/2.sdp")]).contains("s=Zwei\r\n"));

    // Another film from the next one on, and a station of another size; at SIGHUP.
    let other = station(2, &[&one.path], "239.77.0.2:5004", "").replace("Station 2", "Zwei");
    let narrow = third.clone() + "width = 320\n";
    fs::write(&file, head.clone() + &first + &other + &narrow).unwrap();
    let mut turned = watch(&lan, "alone", DIRECTORY, 2, 200);
    turned.await_pictures(1);
    broadcaster.signal("HUP");
    broadcaster.await_log("reload: station 2 \"Zwei\" stays on air, with another media", 1);
    broadcaster.await_log("reload: station 3 \"Station 3\" starts again, with another width", 1);
    until("the narrow station", || listed(host).contains(&(3, "Station 3".into(), 320)).then_some(()));

    let turned = turned.done();
    assert_eq!((turned.count("frames_lost"), turned.count("packets_lost")), (0, 0), "{}", turned.summary);
    let (before, after) = turned.pictures.split_at(150);
    two.check_most(&before[..1]);
    one.check_most(after);

    // A station goes; a viewer of it is told.
    let gone = watch(&lan, "alone", DIRECTORY, 3, 100_000);
    fs::write(&file, head.clone() + &first + &other).unwrap();
    let removed = reload(host, &file, &[]);
    assert_eq!(removed.stdout, "station 3 \"Station 3\" is removed\n");
    until("station 3 to be gone", || (listed(host).len() == 2).then_some(()));
    gone.stop();

    // A film that cannot be played is a slate. The web has another name at once.
    let bad = station(4, &[&file], "239.77.0.4:5004", "");
    let answer = |at: &str| {
        let format = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: tv.example"];
        host.run("curl", &[&format[..], &[&format!("http://{at}/healthz")]].concat()).finish().stdout
    };
    assert_eq!(answer(HTTP), "421");
    fs::write(&file, head.clone() + "hosts = [\"tv.example\"]\n" + &first + &other + &bad).unwrap();
    let slate = reload(host, &file, &[]);
    assert_eq!(slate.code, Some(0));
    let lines: Vec<_> = slate.stdout.lines().collect();
    assert_eq!(lines[..2], ["station 4 \"Station 4\" is added", "http.hosts changes at once"]);
    assert!(lines[2].starts_with("station 4 shows a slate: "), "{lines:?}");
    assert_eq!(answer(HTTP), "200");

    // Listeners move, even to all addresses of the same port; but not where another program is.
    let moved = head.replace(DIRECTORY, "0.0.0.0:9688").replace(HTTP, "127.0.0.1:8090");
    fs::write(&file, moved.replace("8090", "9999") + &first + &other).unwrap();
    let listens = "import socket, time; s = socket.create_server((\"127.0.0.1\", 9999)); print(\"listens\", flush=True); time.sleep(600)";
    let mut stranger = host.run("python3", &["-c", listens]);
    stranger.await_output("listens");
    let taken = reload(host, &file, &[]);
    assert_eq!(taken.code, Some(2), "{taken:?}");
    assert!(
        taken.stderr.contains("cannot listen on 127.0.0.1:9999, because another program does"),
        "{taken:?}"
    );
    assert_eq!((listed(host).len(), answer(HTTP)), (3, "200".to_owned()), "nothing has changed");
    fs::write(&file, moved.clone() + "[reload]\nwatch = true\n" + &first + &other).unwrap();
    let done = reload(host, &file, &[]);
    let sentences = "station 4 \"Station 4\" is removed\n\
        listeners: [directory] moves from 127.0.0.1:9688 to 0.0.0.0:9688; its connections stay\n\
        listeners: [http] moves from 127.0.0.1:8088 to 127.0.0.1:8090; its connections stay\n\
        http.hosts changes at once\nreload.watch changes at once\n";
    assert_eq!((done.code, &done.stdout[..]), (Some(0), sentences), "{done:?}");
    until("the old address to be closed", || (answer(HTTP) == "000").then_some(()));
    assert_eq!(answer("127.0.0.1:8090"), "421");

    // The file is followed now.
    let renamed = lan.folder().join("renamed.toml");
    fs::write(&renamed, moved + "[reload]\nwatch = true\n" + &first + &other.replace("Zwei", "Deux"))
        .unwrap();
    fs::rename(&renamed, &file).unwrap();
    broadcaster.await_log("reload: station 2 \"Zwei\" is renamed \"Deux\"", 1);

    // All the while, the station that was the same lost nothing.
    let seen = unchanged.done();
    seen.check_whole(&one);
    let log = broadcaster.stderr();
    assert_eq!(log.matches("station 1 \"Station 1\" on air").count(), 1, "{log}");

    broadcaster.signal("TERM");
    broadcaster.succeed();
    let nobody = reload(host, &file, &[]);
    assert_eq!(nobody.code, Some(1), "{nobody:?}");
    assert!(nobody.stderr.contains("no broadcaster of this user runs"), "{nobody:?}");
}
