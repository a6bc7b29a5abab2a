//! Messages about live sources, what replaces them, and when.

use super::messages::with;
use super::*;

/// The messages about the station "Ocean" with this `media`, on line 2, and `more` from line 6 on.
fn messages(media: &str, more: &str) -> Vec<String> {
    let text = with("media", Some(media)) + "\n" + more;
    let sentences = parse(&text).map_or_else(|error| error.sentences().to_vec(), |_| Vec::new());
    sentences.iter().map(|sentence| sentence.replacen("conf/stations.toml", "", 1)).collect()
}

#[test]
#[rustfmt::skip] // one message a line, as it is printed
fn messages_about_live_sources() {
    let camera = "\"rtsp://anna@cam/1\"";
    for (media, more, expected) in [
        (camera, "password_file = \"cam.password\"", ""),
        (camera, "password_env = \"CAM\"", ""),
        (camera, "fallback = [\"a.mp4\"]", ""),
        ("\"/dev/video0\"", "size = \"1280x720\"\nrate = 25\ncamera_format = \"YUYV\"", ""),
        ("\"/dev/video0\"", "microphone = \"plughw:1\"\nsound = true", ""),
        ("\"/dev/video0\"", "microphone = \"plughw:1\"",
            r#":6: station "Ocean": microphone = "plughw:1" has no effect on a station without sound; write sound = true beside it, or remove it"#),
        ("\"/dev/video0\"", "microphone = \"\"\nsound = true",
            r#":6: station "Ocean": microphone = "" cannot be the name of a device of ALSA; name a capture device of ALSA, as in "default" or "plughw:1""#),
        (camera, "microphone = \"default\"\nsound = true",
            r#":6: station "Ocean": microphone = "default" is for a camera of this machine, as in media = "/dev/video0"; remove it"#),
        (camera, "password_file = \"a\"\npassword_env = \"CAM\"",
            r#":7: station "Ocean": password_env = "CAM" is there beside password_file; keep one of them"#),
        (camera, "password_file = \"\"",
            r#":6: station "Ocean": password_file = "" is empty; name a file whose first line is the password, as in "camera.password""#),
        (camera, "password_env = \"A=B\"",
            r#":6: station "Ocean": password_env = "A=B" is no name of a variable; name a variable of the environment that holds the password, as in "CAMERA_PASSWORD""#),
        ("\"rtsp://cam/1\"", "password_env = \"CAM\"",
            r#":6: station "Ocean": password_env = "CAM" is a password without a user; write the user into media, as in "rtsp://user@192.0.2.21/""#),
        ("\"a.mp4\"", "password_env = \"CAM\"",
            r#":6: station "Ocean": password_env = "CAM" is for a live source that has a user, as in media = "rtsp://user@192.0.2.21/"; remove it"#),
        ("\"rtsp://anna:secret@cam/1\"", "",
            r#":2: station "Ocean": media has a password in its address; write the user alone, as in "rtsp://user@192.0.2.21/", and set password_file or password_env"#),
        ("\"a.mp4\"", "fallback = \"a.mp4\"",
            r#":6: station "Ocean": fallback = "a.mp4" is for a live source, and media are films; remove it"#),
        (camera, "fallback = \"http://cam/a\"",
            r#":6: station "Ocean": fallback = "http://cam/a" is a live source; name films"#),
        (camera, "fallback = []",
            r#":6: station "Ocean": fallback = [] is an empty list; name a film, a folder of films or a list of them, as in "films/pause.mp4""#),
        (camera, "size = \"1280x720\"",
            r#":6: station "Ocean": size = "1280x720" is for a camera of this machine, as in media = "/dev/video0"; remove it"#),
        ("\"camera:0\"", "size = \"large\"",
            r#":6: station "Ocean": size = "large" is no size of pictures; write width and height, as in "1280x720""#),
        ("\"camera:0\"", "rate = 0",
            r#":6: station "Ocean": rate = 0 is out of range; choose a whole number from 1 to 240 (pictures a second)"#),
        ("\"camera:0\"", "camera_format = \"JPEGS\"",
            r#":6: station "Ocean": camera_format = "JPEGS" is no format; write the four letters of a format of Video4Linux, as in "MJPG" or "YUYV""#),
    ] {
        let found = messages(media, more).join("\n");
        assert_eq!(found, expected, "{media} {more}");
    }
}

#[test]
#[rustfmt::skip] // one message a line, as it is printed
fn messages_about_media_at_times() {
    let evening = "from = \"18:00\"\nto = \"19:30\"\nmedia = \"rtsp://cam/1\"\n";
    for (keys, expected) in [
        (evening, ""),
        ("from = \"18:00\"\nto = \"24:00\"\nmedia = \"a.mp4\"\ndays = [\"Mon\", \"sun\"]", ""),
        ("from = \"18\"\nto = \"19:30\"\nmedia = \"a.mp4\"",
            r#":7: station "Ocean", at #1: from = "18" is no time of day; write hours and minutes, as in "18:00""#),
        ("from = \"18:00\"\nmedia = \"a.mp4\"",
            r#":6: station "Ocean", at #1: `to` is missing; write hours and minutes, as in "18:00""#),
        ("from = \"18:00\"\nto = \"18:00\"\nmedia = \"a.mp4\"",
            r#":8: station "Ocean", at #1: to = "18:00" is when it begins; choose another time"#),
        ("from = \"18:00\"\nto = \"19:00\"",
            r#":6: station "Ocean", at #1: `media` is missing; name a film, a folder of films or a list of them, as in "media/ocean.mp4""#),
        ("from = \"18:00\"\nto = \"19:00\"\nmedia = \"a.mp4\"\ndays = \"mon\"",
            r#":10: station "Ocean", at #1: days = "mon" is text; list days as in ["mon", "fri"]"#),
        ("from = \"18:00\"\nto = \"19:00\"\nmedia = \"a.mp4\"\ndays = []",
            r#":10: station "Ocean", at #1: days = [] is an empty list; list days as in ["mon", "fri"], or leave it out for every day"#),
        ("from = \"18:00\"\nto = \"19:00\"\nmedia = \"a.mp4\"\ndays = [\"mo\"]",
            r#":10: station "Ocean", at #1: days = ["mo"] has "mo", which is no day; choose of mon, tue, wed, thu, fri, sat, sun"#),
        ("from = \"18:00\"\nto = \"19:00\"\nmedia = \"a.mp4\"\nwidth = 640",
            r#":10: station "Ocean", at #1: unknown key `width`; [[station.at]] has the keys from, to, days, media, password_file, password_env, size, rate, camera_format and microphone"#),
    ] {
        let found = messages("\"a.mp4\"", &format!("[[station.at]]\n{keys}")).join("\n");
        assert_eq!(found, expected, "{keys}");
    }
    let heard = "from = \"18:00\"\nto = \"19:00\"\nmedia = \"camera:0\"\nmicrophone = \"plughw:1\"";
    let found = messages("\"a.mp4\"", &format!("sound = true\n[[station.at]]\n{heard}"));
    assert_eq!(found, [""; 0]);
    let found = messages("\"a.mp4\"", &format!("[[station.at]]\n{heard}")).join("\n");
    assert_eq!(found, r#":10: station "Ocean", at #1: microphone = "plughw:1" has no effect on a station without sound; write sound = true beside it, or remove it"#);
    let single = messages("\"a.mp4\"", &format!("[station.at]\n{evening}")).join("\n");
    assert_eq!(single, r#":6: station "Ocean": at = [station.at] is no list of tables; write [[station.at]], once for each time, below the station's keys"#);
}

#[test]
fn media_at_times_are_no_way_around_the_check_for_loops() {
    let evening =
        "[[station.at]]\nfrom = \"18:00\"\nto = \"19:30\"\nmedia = \"rtsp://127.0.0.1:8554/1\"\n[rtsp]";
    let found = messages("\"a.mp4\"", evening).join("\n");
    assert!(found.contains("media is this station itself"), "{found}");
}
