//! What the viewer receives without a directory: any RTP/JPEG group, and what a description says.

use std::fs;

use serde_json::Value;

use crate::common::film::pal;
use crate::common::harness::text;
use crate::common::lan::{Host, Lan, head, station};
use crate::common::process::{Ended, Process};
use crate::common::watch::watch_with;

const DIRECTORY: &str = "10.77.0.1:9688";

/// FFmpeg as a sender of RTP/JPEG and of Opus, with timestamps of its own.
const SENDER: &str = "-v warning -nostdin -re -f lavfi -i testsrc2=s=320x240:r=25 -re -f lavfi -i sine=440 \
    -map 0 -c:v mjpeg -huffman default -force_duplicated_matrix 1 -pix_fmt yuvj420p \
    -f rtp rtp://239.77.0.7:5004?ttl=1&pkt_size=1400 \
    -map 1 -c:a libopus -ac 2 -f rtp rtp://239.77.0.7:5006?ttl=1";

fn stranger(host: Host<'_>) -> Process {
    host.run("ffmpeg", &SENDER.split_whitespace().collect::<Vec<_>>())
}

fn receive(host: Host<'_>, place: &[&str], more: &[&str]) -> Value {
    host.viewer(&[place, &["--headless", "--json"], more].concat()).json()
}

pub(crate) fn a_group_that_no_directory_lists_is_received() {
    let lan = Lan::new(&["sender", "one"]);
    let _sender = stranger(lan.host("sender"));
    let one = lan.host("one");
    let group = ["--rtp", "239.77.0.7:5004", "--interface", "eth0"];
    let pictures = lan.folder().join("pictures");
    let summary = receive(one, &group, &["--frames", "50", "--save-frames", text(&pictures)]);
    assert_eq!((&summary["station"], &summary["group"]), (&Value::Null, &"239.77.0.7:5004".into()));
    assert_eq!((&summary["frames"], &summary["frames_lost"]), (&50.into(), &0.into()), "{summary}");
    assert_eq!((&summary["width"], &summary["height"]), (&320.into(), &240.into()));
    assert_eq!((&summary["state"], &summary["sound"]), (&"live".into(), &Value::Null));
    assert_eq!(fs::read_dir(&pictures).unwrap().count(), 50);
    // The routing table says which interface it is.
    assert_eq!(receive(one, &group[..2], &["--frames", "5"])["frames"], 5);

    let silent = one.viewer(&["--rtp", "239.77.0.8:5004", "--headless", "--seconds", "0.3"]).finish();
    assert_eq!((silent.code, silent.stdout.as_str()), (Some(1), ""));
    assert!(silent.stderr.contains("no picture of RTP on 239.77.0.8:5004 arrived"), "{}", silent.stderr);
}

pub(crate) fn what_a_description_says_is_received() {
    let lan = Lan::new(&["sender", "one"]);
    let one = lan.host("one");
    let _sender = stranger(lan.host("sender"));
    let file = lan.folder().join("stranger.sdp");
    let description = "v=0\no=- 0 0 IN IP4 10.77.0.1\ns=Yard\nc=IN IP4 239.77.0.7/1\nt=0 0\n\
                       m=video 5004 RTP/AVP 26\nm=audio 5006 RTP/AVP 97\na=rtpmap:97 opus/48000/2\n";
    fs::write(&file, description).unwrap();
    let wav = lan.folder().join("yard.wav");
    let save = ["--seconds", "4", "--save-sound", text(&wav)];
    let summary = receive(one, &["--sdp", text(&file)], &save);
    assert_eq!((&summary["station"], &summary["name"]), (&Value::Null, &"Yard".into()));
    // Its streams have timestamps with an offset of their own each: pictures are in step with the sound that arrives then.
    let sound = &summary["sound"];
    assert!(sound["packets"].as_u64().unwrap() > 100 && sound["lost"] == 0, "{summary}");
    assert!(sound["av_offset_ms"].as_f64().unwrap().abs() < 15.0, "{summary}");
    assert!(summary["frames"].as_u64().unwrap() > 60, "{summary}");
    assert!(fs::metadata(&wav).unwrap().len() > 48_000 * 4, "2 s at least");

    // Our own description, from the web server and by a pipe.
    let web = "[http]\nlisten = \"0.0.0.0:8088\"\n";
    let lineup = head("0.0.0.0:9688", "eth0") + web + &station(2, &[&pal(2).path], "239.77.0.2:5004", "");
    let _broadcaster = lan.host("sender").on_air(&lineup);
    let url = "http://10.77.0.1:8088/stations/2.sdp";
    let summary = receive(one, &["--sdp", url], &["--frames", "25"]);
    assert_eq!((&summary["name"], &summary["frames"]), (&"Station 2".into(), &25.into()), "{summary}");
    let script = "curl -s \"$1\" | \"$0\" --sdp - --headless --frames 5 --json";
    let piped = one.run("sh", &["-c", script, env!("CARGO_BIN_EXE_viewer"), url]).json();
    assert_eq!(piped["frames"], 5, "{piped}");

    for (place, code, said) in [
        ("http://10.77.0.1:8088/stations/9.sdp", 1, "404"),
        ("http://10.77.0.1:8088/", 2, "not a session description"),
        ("/nowhere.sdp", 2, "cannot read the file: No such file"),
        ("rtsp://10.77.0.1:8088/1", 1, "10.77.0.1:8088"),
    ] {
        let Ended { code: ended, stderr, .. } =
            one.viewer(&["--sdp", place, "--headless", "--seconds", "2"]).finish();
        assert!(ended == Some(code) && stderr.contains(said), "{place}: {ended:?}, {stderr}");
    }
}

/// A run without a window says that it has lost its station, and fails if it has at its end.
pub(crate) fn a_lost_station_is_told_and_fails_the_run() {
    let lan = Lan::new(&["sender", "one"]);
    let film = lan.folder().join("film.mp4");
    fs::copy(&pal(2).path, &film).unwrap();
    let lineup = head("0.0.0.0:9688", "eth0") + &station(2, &[&film], "239.77.0.2:5004", "reel = false");
    let sender = lan.host("sender");
    let broadcaster = sender.on_air(&lineup);
    let mut lost = watch_with(&lan, lan.host("one"), DIRECTORY, 2, 1_000_000, &["--seconds", "7"]);
    lost.await_pictures(25);
    broadcaster.signal("KILL");
    let Ended { code, stdout, stderr } = lost.viewer.finish();
    let summary: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &summary["state"]), (Some(1), &"lost".into()), "{summary}, {stderr}");
    let silent = summary["silent_s"].as_f64().unwrap();
    assert!((2.0..7.0).contains(&silent), "{summary}");
    let sentence =
        format!("station 2 \"Station 2\" on 239.77.0.2:5004: no signal for the last {silent:.1} s");
    assert!(stderr.contains(&sentence), "{stderr}");

    fs::write(&film, "not a film").unwrap();
    let mut broadcaster = sender.broadcaster(&lineup);
    broadcaster.await_log("off air", 1);
    let watch = ["--directory", DIRECTORY, "--headless", "--json", "--seconds", "2"];
    let summary = lan.host("one").viewer(&watch).json();
    assert_eq!((&summary["state"], &summary["silent_s"]), (&"slate".into(), &0.0.into()), "{summary}");
    assert!(summary["slate_s"].as_f64().unwrap() > 1.0, "{summary}");
    assert!(summary["reason"].as_str().unwrap().contains("film.mp4"), "{summary}");
}
