//! TLS, and a station that lets in only some, by the programs as they are shipped.

use std::fs;
use std::path::Path;

use crate::common::film::pal;
use crate::common::harness::text;
use crate::common::lan::{Host, Lan, station};
use crate::common::process::Ended;
use crate::common::until;

/// Runs `broadcaster token`. Returns its standard output.
fn token(host: Host, file: &Path, args: &[&str]) -> Ended {
    let all = [&["token"], args, &["--config", text(file)]].concat();
    host.run(env!("CARGO_BIN_EXE_broadcaster"), &all).finish()
}

pub(crate) fn a_station_for_some_is_watched_by_those_and_by_no_others() {
    let lan = Lan::new(&["tower", "desk"]);
    let (tower, desk) = (lan.host("tower"), lan.host("desk"));
    let film = pal(1);
    let at = |port: u16| format!("{}:{port}", tower.address());
    let (directory, rtsp, http) = (at(9688), at(8554), at(8088));
    let lineup = format!(
        "[directory]\nlisten = \"{directory}\"\ntls = true\n[rtsp]\nlisten = \"{rtsp}\"\ntls = \"both\"\n\
         [http]\nlisten = \"{http}\"\ntls = true\n[access]\nfile = \"access.toml\"\n[defaults]\ninterface = \"eth0\"\n"
    ) + &station(1, &[&film.path], "239.77.0.1:5004", "")
        + &station(7, &[&film.path], "239.77.0.7:5004", "access = [\"staff\"]\n");
    let file = tower.lineup(&lineup);
    let added = token(tower, &file, &["add", "staff", "--expires", "30d"]);
    assert_eq!(added.code, Some(0), "{added:?}");
    let secret = added.stdout.trim().to_owned();
    let secret_file = lan.folder().join("token");
    fs::write(&secret_file, &added.stdout).unwrap();
    let list = token(tower, &file, &["list"]).stdout;
    assert!(list.contains("staff") && !list.contains(&secret), "{list}");
    let id = list.lines().nth(1).unwrap().split(' ').next().unwrap().to_owned();
    for (args, code) in
        [(&["add", "a b"][..], 2), (&["add", "staff", "--expires", "soon"], 2), (&["remove", "nobody"], 1)]
    {
        assert_eq!(token(tower, &file, args).code, Some(code), "{args:?}");
    }

    let mut broadcaster = tower.run(env!("CARGO_BIN_EXE_broadcaster"), &["--config", text(&file)]);
    broadcaster.await_log(" on air: ", 2);
    let check = tower.run(env!("CARGO_BIN_EXE_broadcaster"), &["check", "--fast", "--config", text(&file)]);
    let check = check.succeed().stdout;
    let fingerprint = check.trim().rsplit(' ').next().unwrap().to_owned();
    broadcaster.await_log(&fingerprint, 1);

    // The viewer: told, remembered, with the token and without.
    let viewer = |args: &[&str]| desk.viewer(&[&["--directory", &directory], args].concat()).finish();
    let plain = viewer(&["--list"]);
    assert!(plain.code == Some(1) && plain.stderr.contains("speaks TLS only: try viewer --tls"), "{plain:?}");
    let plain = viewer(&["--list", "--token-file", text(&secret_file)]);
    assert!(
        plain.code == Some(1) && plain.stderr.contains("a token is not shown there: try --tls"),
        "{plain:?}"
    );
    let other = viewer(&["--list", "--fingerprint", &"0".repeat(64)]);
    assert!(other.code == Some(1) && other.stderr.contains("and not the one of --fingerprint"), "{other:?}");
    let first = viewer(&["--list", "--tls"]);
    assert!(first.code == Some(0) && first.stderr.contains(&fingerprint), "{first:?}");
    let known = viewer(&["--list"]);
    assert!(
        known.code == Some(0) && known.stderr.is_empty() && !known.stdout.contains("239.77.0.7"),
        "{known:?}"
    );
    let watched = viewer(&[
        "--token-file",
        text(&secret_file),
        "--station",
        "7",
        "--headless",
        "--frames",
        "20",
        "--json",
    ]);
    assert!(watched.code == Some(0) && watched.stdout.contains("\"station\":7"), "{watched:?}");
    let unseen = viewer(&["--station", "7", "--headless", "--frames", "20"]);
    assert!(unseen.code == Some(1) && unseen.stderr.contains("there is no station 7"), "{unseen:?}");

    // Other programs.
    let show = desk.run("openssl", &["s_client", "-connect", &rtsp]).finish();
    assert!(show.stdout.contains("BEGIN CERTIFICATE"), "{show:?}");
    let play = |url: &str| {
        let args = ["-loglevel", "error", "-i", url, "-frames:v", "3", "-f", "null", "-"];
        desk.run("ffmpeg", &args).finish()
    };
    let ended = play(&format!("rtsps://{rtsp}/1"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = play(&format!("rtsps://any:{secret}@{rtsp}/7"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for (url, said) in [
        (format!("rtsps://{rtsp}/7"), "401 Unauthorized"),
        (format!("rtsps://any:sct_00@{rtsp}/7"), "401 Unauthorized"),
        // Nothing tells a client to show its password where others could read it.
        (format!("rtsp://any:{secret}@{rtsp}/7"), "404 Not Found"),
    ] {
        let refused = play(&url);
        assert!(refused.code != Some(0) && refused.stderr.contains(said), "{url}: {refused:?}");
    }
    let bearer = format!("Authorization: Bearer {secret}");
    let curl = |args: &[&str]| desk.run("curl", &[&["-sk"], args].concat()).succeed().stdout;
    let playlist = curl(&["-H", &bearer, &format!("https://{http}/stations.m3u")]);
    assert!(playlist.contains(&format!("\nrtsps://{rtsp}/7\n")), "{playlist}");
    assert!(!curl(&[&format!("https://{http}/stations.m3u")]).contains("/7"));
    assert_eq!(curl(&[&format!("http://{http}/")]), "This port speaks TLS only: use https://");
    let certificate = lan.folder().join("stationcast/tls/certificate.pem");
    let health =
        desk.tool("curl", &["-s", "--cacert", text(&certificate), &format!("https://{http}/healthz")]);
    assert_eq!(health, "ok\n");
    let status = |args: &[&str]| {
        let all = [&["status", "--config", text(&file)], args].concat();
        tower.run(env!("CARGO_BIN_EXE_broadcaster"), &all).succeed().stdout
    };
    assert!(!status(&[]).contains("Station 7"));
    assert!(status(&["--token-file", text(&secret_file)]).contains("Station 7"));

    // The token is removed.
    assert_eq!(token(tower, &file, &["remove", &id]).code, Some(0));
    broadcaster.await_log(&format!("audit: removed the token \"staff\" ({id})"), 1);
    let over = viewer(&["--list", "--token-file", text(&secret_file)]);
    assert!(over.code == Some(1) && over.stderr.contains("is not let in"), "{over:?}");

    // The certificate is another one: refused, until the user names it.
    for name in ["certificate.pem", "key.pem"] {
        fs::remove_file(lan.folder().join("stationcast/tls").join(name)).unwrap();
    }
    broadcaster.signal("TERM");
    assert_eq!(broadcaster.finish().code, Some(0));
    let mut broadcaster = tower.run(env!("CARGO_BIN_EXE_broadcaster"), &["--config", text(&file)]);
    broadcaster.await_log(" on air: ", 2);
    let refused = viewer(&["--list"]);
    assert!(
        refused.code == Some(1) && refused.stderr.contains("shows another certificate than before"),
        "{refused:?}"
    );
    let new = refused.stderr.trim().trim_end_matches(" once").rsplit(' ').next().unwrap().to_owned();
    assert_ne!(new, fingerprint);
    broadcaster.await_log(&new, 1);
    assert_eq!(viewer(&["--list", "--fingerprint", &new]).code, Some(0));
    until("the new certificate to be known", || (viewer(&["--list"]).code == Some(0)).then_some(()));
    let log = broadcaster.stderr();
    assert!(!log.contains(&secret), "{log}");
}
