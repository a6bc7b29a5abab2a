//! The path of a film may have any file name, and be that of a picture, an animation, a pipe or a device.

use super::*;

#[test]
fn a_film_may_have_any_file_name() {
    use std::os::unix::ffi::OsStrExt;

    let workshop = Workshop::new();
    let plain = workshop.make(&format!("{PATTERN} -frames:v 3 {H264}"), "plain.mp4");
    let picture = workshop.make("-f lavfi -i color=c=red:s=64x48 -frames:v 1", "plain.jpg");
    for (from, name) in [
        (&plain, &b"Matrix: Reloaded.mp4"[..]),
        (&plain, b"pic%03d #1.mp4"),
        (&plain, b"http:host.mp4"),
        (&plain, b"what? [1] {2} *.mp4"),
        (&plain, b"-i.mp4"),
        (&plain, b"latin-1 \xe9.mp4"),
        (&picture, b"pic%03d.jpg"),
        (&picture, b"a:b*.jpg"),
    ] {
        let name = Path::new(std::ffi::OsStr::from_bytes(name));
        fs::copy(from, workshop.0.path().join(name)).unwrap();
        let played = play(&workshop.0.path().join(name));
        assert_eq!((played.end.clone(), played.pictures.is_empty()), (Ok(()), false), "{}", name.display());
    }
}

#[test]
fn a_picture_file_is_a_slide() {
    let workshop = Workshop::new();
    for name in ["picture.jpg", "picture.png", "picture.webp"] {
        let file = workshop.make("-f lavfi -i smptebars=s=320x240 -frames:v 1", name);
        let mut source = open(&file).unwrap();
        source.show_for(Duration::from_secs(7));
        assert_eq!((source.size(), source.rate().nth(1)), ((320, 240), Duration::from_secs(7)), "{name}");
        let picture = source.next_picture().unwrap().unwrap();
        assert_eq!((picture.stamp, picture.lasts), (Duration::ZERO, Some(Duration::from_secs(7))));
        let difference = Shown::of(&picture).difference(&reference(&file, "", (320, 240))[0]);
        assert!(difference <= COLOUR, "{name} differs by {difference}");
        assert!(source.next_picture().unwrap().is_none());
    }
    fs::write(workshop.path("torn.jpg"), b"\xff\xd8\xff\xe0 no picture").unwrap();
    let error = open(&workshop.path("torn.jpg")).err().unwrap().to_string();
    assert_eq!(error, "cannot decode torn.jpg: the picture is damaged");
}

#[test]
fn the_first_picture_of_an_animation_is_a_slide() {
    let workshop = Workshop::new();
    let two = "-f lavfi -i testsrc=s=320x240:r=2 -frames:v 4";
    let still = workshop.make("-f lavfi -i testsrc=s=320x240:r=2 -frames:v 1", "still.png");
    let expected = &reference(&still, "", (320, 240))[0];
    for (args, name, remark) in [
        (
            "-c:v libwebp_anim -quality 95",
            "moves.webp",
            "moves.webp is an animated WebP; only its first picture is shown",
        ),
        ("-c:v apng -f apng", "moves.png", ""),
    ] {
        let mut source = open(&workshop.make(&format!("{two} {args}"), name)).unwrap();
        source.show_for(Duration::from_secs(7));
        assert_eq!(source.remarks().join("; "), remark);
        assert_eq!((source.size(), source.length()), ((320, 240), Some(Duration::from_secs(7))), "{name}");
        let picture = source.next_picture().unwrap().unwrap();
        let difference = Shown::of(&picture).difference(expected);
        assert!(difference <= 2.0 * COLOUR, "{name} differs by {difference}");
        assert!(source.next_picture().unwrap().is_none());
    }
    // A GIF is a film, and is played.
    let gif = workshop.make(two, "moves.gif");
    assert_eq!(play(&gif).pictures.len(), 4);
}

#[test]
fn pipes_sockets_and_devices_are_refused_by_their_kind() {
    let workshop = Workshop::new();
    let (pipe, socket) = (workshop.path("pipe.mp4"), workshop.path("socket.mp4"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for (path, reason) in [
        (pipe.as_path(), "cannot read pipe.mp4: it is a named pipe, not a file"),
        (&socket, "cannot read socket.mp4: it is a socket, not a file"),
        (Path::new("/dev/zero"), "cannot read zero: it is a device, not a file"),
        (&workshop.path("gone.mp4"), "cannot read gone.mp4: no such file or directory"),
    ] {
        assert_eq!(open(path).err().unwrap().to_string(), reason);
        assert_eq!(check_readable(path).unwrap_err().to_string(), reason);
    }
}

/// Each reader opens the film by itself, after it was checked.
#[test]
fn a_pipe_that_has_taken_a_films_name_is_refused_by_each_reader() {
    let workshop = Workshop::new();
    let film = workshop.make(&format!("{PATTERN} {H264}"), "plain.mp4");
    let facts = facts::read(&film).unwrap();
    fs::remove_file(&film).unwrap();
    assert!(Command::new("mkfifo").arg(&film).status().unwrap().success());
    let refused = "cannot read plain.mp4: it is a named pipe, not a file";
    let by_opencv = OpenCvSource::open(&film, facts.clone()).err().unwrap();
    assert_eq!(by_opencv.to_string(), refused);
    let by_libav = LibavSource::open(&film, facts).err().unwrap().to_string();
    assert!(by_libav.ends_with("it is a named pipe, not a file"), "{by_libav}");
    assert!(film_facts::read(&film).is_err() && film_facts::title(&film).is_err());
}
