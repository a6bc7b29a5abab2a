//! Encrypted stations, by the programs as they are shipped, and by FFmpeg.

use std::fs;

use crate::common::film::pal;
use crate::common::harness::text;
use crate::common::lan::{Lan, head, station};
use crate::common::picture::Picture;
use crate::common::watch::watch;

/// Pictures that each client is to show.
const PICTURES: &str = "50";

pub(crate) fn encrypted_stations_are_watched_by_those_who_are_told_the_key() {
    let lan = Lan::new(&["tower", "desk"]);
    let (tower, desk) = (lan.host("tower"), lan.host("desk"));
    let at = |port: u16| format!("{}:{port}", tower.address());
    let (directory, rtsp, http) = (at(9688), at(8554), at(8088));
    let films = [pal(1), pal(2)];
    let lineup = format!(
        "[directory]\nlisten = \"{directory}\"\ntls = \"both\"\n[rtsp]\nlisten = \"{rtsp}\"\ntls = \"both\"\n\
         [http]\nlisten = \"{http}\"\ntls = \"both\"\n[announce]\n[defaults]\ninterface = \"eth0\"\n"
    ) + &station(1, &[&films[0].path], "239.77.0.1:5004", "encrypt = true\n")
        + &station(2, &[&films[1].path], "239.77.0.2:5004", "encrypt = \"compat\"\n");
    let _broadcaster = tower.on_air(&lineup);

    // Our viewer, by TLS.
    let viewer = |args: &[&str]| desk.viewer(&[&["--directory", &directory], args].concat());
    for film in &films {
        let folder = lan.folder().join(format!("seen-{}", film.station));
        let number = film.station.to_string();
        let watch = ["--tls", "--station", &number, "--headless", "--frames", PICTURES, "--json"];
        let summary = viewer(&[&watch[..], &["--save-frames", text(&folder)]].concat()).json();
        assert_eq!(summary["frames_lost"], 0, "{summary}");
        let mut saved: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
        saved.sort();
        let pictures: Vec<_> = saved.iter().map(|file| Picture::of_jpeg(&fs::read(file).unwrap())).collect();
        film.check_most(&pictures);
    }

    // To those whom anybody could overhear, these stations do not exist.
    let other = lan.folder().join("other");
    fs::create_dir(&other).unwrap();
    let plain = desk.run(
        "env",
        &[
            &format!("XDG_STATE_HOME={}", text(&other)),
            env!("CARGO_BIN_EXE_viewer"),
            "--directory",
            &directory,
            "--list",
        ],
    );
    let plain = plain.finish();
    assert!(!plain.stdout.contains("239.77.0"), "{plain:?}");
    let curl = |args: &[&str]| desk.run("curl", &[&["-sk"], args].concat()).succeed().stdout;
    assert_eq!(curl(&[&format!("http://{http}/stations/2.sdp")]), "no station 2\n");
    let refused =
        desk.run("ffmpeg", &["-v", "error", "-i", &format!("rtsp://{rtsp}/1"), "-f", "null", "-"]).finish();
    assert!(refused.stderr.contains("404 Not Found"), "{refused:?}");

    // Nor is the group of use to them.
    for group in ["239.77.0.1:5004", "239.77.0.2:5004"] {
        let watch = ["--rtp", group, "--interface", "eth0", "--headless", "--seconds", "3", "--json"];
        let ended = desk.viewer(&watch).finish();
        assert!(ended.code == Some(1) && ended.stderr.contains("no picture of RTP on"), "{group}: {ended:?}");
    }

    // FFmpeg, with the description that is told by TLS.
    let sdp = lan.folder().join("2.sdp");
    fs::write(&sdp, curl(&[&format!("https://{http}/stations/2.sdp")])).unwrap();
    let planes = lan.folder().join("planes");
    let input = ["-v", "warning", "-nostdin", "-protocol_whitelist", "file,udp,rtp,srtp", "-i", text(&sdp)];
    let output = ["-vsync", "passthrough", "-frames:v", PICTURES, "-pix_fmt", "yuvj420p", "-f", "rawvideo"];
    desk.run("ffmpeg", &[&input[..], &output, &[text(&planes)]].concat()).succeed();
    films[1].check_most(&Picture::all_of_i420(&planes, 640, 368));

    // And by RTSP in TLS.
    let url = format!("rtsps://{rtsp}/1");
    let args = ["-v", "error", "-rtsp_transport", "tcp", "-i", &url, "-frames:v", "3", "-f", "null", "-"];
    desk.run("ffmpeg", &args).succeed();
}

pub(crate) fn a_viewer_follows_a_station_into_encryption_and_out_of_it() {
    let lan = Lan::alone();
    let host = lan.machine();
    let (directory, film) = ("127.0.0.1:9688", pal(1));
    let lineup = |encrypt| head(directory, "lo") + &station(1, &[&film.path], "239.77.0.1:5004", encrypt);
    let file = host.lineup(&lineup(""));
    let mut broadcaster = host.run(env!("CARGO_BIN_EXE_broadcaster"), &["--config", text(&file)]);
    broadcaster.await_log(" on air: ", 1);
    let mut watching = watch(&lan, "alone", directory, 1, 100_000);
    watching.await_more(25);
    for encrypt in ["encrypt = true\n", "encrypt = \"compat\"\n", ""] {
        fs::write(&file, lineup(encrypt)).unwrap();
        let reload = ["reload", "--config", text(&file)];
        let done = host.run(env!("CARGO_BIN_EXE_broadcaster"), &reload).succeed();
        assert_eq!(done.stdout.lines().last(), Some("station 1 is on air"), "{encrypt}");
        watching.await_more(25);
    }
    let seen = watching.stop();
    film.check_most(&seen[seen.len() - 20..]);
}
