//! Going to a position: which picture comes is told by comparing it with all pictures of the film.

use super::reference::{Played, ffmpeg};
use super::*;

/// Pictures that refer to later ones, in open groups, a key picture every 2 s at most.
const B_FRAMES: &str =
    "-c:v libx264 -preset veryfast -bf 3 -g 50 -x264opts open-gop=1 -crf 10 -pix_fmt yuv420p";

const LONG: &str = "-f lavfi -i testsrc2=s=160x128:r=25:d=8";

/// The picture of `film` that is most like this one.
fn number(film: &Played, shown: &Shown) -> usize {
    let off = |(other, ..): &(Shown, Duration, Option<Duration>)| {
        // A part of them is enough, and all take a minute.
        let pairs = other.bytes.iter().zip(&shown.bytes).step_by(29);
        let differences = pairs.map(|(a, b)| u64::from(a.abs_diff(*b)));
        differences.sum::<u64>()
    };
    film.pictures.iter().map(off).enumerate().min_by_key(|(_, off)| *off).unwrap().0
}

fn next(source: &mut dyn PictureSource) -> Option<(Shown, Duration)> {
    let picture = source.next_picture().unwrap()?;
    Some((Shown::of(&picture), picture.stamp))
}

/// Goes to each picture of some of `film`, in sources that have played and in new ones.
fn goes_anywhere(film: &Path) -> Played {
    let played = play(film);
    let name = film.display();
    assert_eq!(played.end, Ok(()), "{name}");
    let stamp = |n: usize| played.pictures[n].1;
    let count = played.pictures.len();
    assert!(stamp(0).is_zero());
    let mut used = open(film).unwrap();
    for n in [count * 3 / 4, 1, count - 1, count / 2, 0, count / 2 + 1, count / 3, count - 2] {
        let end = if n + 1 < count { stamp(n + 1) } else { played.length() };
        for position in [stamp(n), (stamp(n) + end) / 2] {
            let mut fresh = open(film).unwrap();
            for source in [&mut used, &mut fresh] {
                source.seek(position).unwrap();
                for n in n..count.min(n + 4) {
                    let (shown, at) = next(source.as_mut()).unwrap_or_else(|| panic!("{name}: {position:?}"));
                    assert_eq!(number(&played, &shown), n, "{name}: the picture at {position:?}");
                    assert!(at.abs_diff(stamp(n)) < Duration::from_millis(1), "{name}: {at:?}");
                }
            }
            if n + 10 > count {
                while next(fresh.as_mut()).is_some() {}
            }
        }
    }
    for beyond in [played.length() + Duration::from_millis(2), Duration::from_secs(1 << 40)] {
        let mut fresh = open(film).unwrap();
        for source in [&mut used, &mut fresh] {
            source.seek(beyond).unwrap();
            assert!(next(source.as_mut()).is_none(), "{name}: {beyond:?}");
            assert!(next(source.as_mut()).is_none());
            source.seek(Duration::ZERO).unwrap();
            assert_eq!(number(&played, &next(source.as_mut()).unwrap().0), 0, "{name}: back again");
        }
    }
    played
}

#[test]
fn a_plain_film_is_gone_through_by_opencv() {
    let workshop = Workshop::new();
    for (args, name) in [
        (H264, "plain.mp4"),
        (B_FRAMES, "reordered.mp4"),
        (B_FRAMES, "reordered.mkv"),
        ("-c:v mpeg4 -q:v 2 -bf 2 -g 25", "divx.avi"),
        ("-vf fps=30000/1001 -c:v libx264 -bf 3 -g 30 -pix_fmt yuv420p", "ntsc.mp4"),
    ] {
        let film = workshop.make(&format!("{LONG} {args}"), name);
        let played = goes_anywhere(&film);
        assert_eq!(played.facts().decoder, FilmDecoder::OpenCv, "{name}: {:?}", played.facts().reasons);
        let mut source = OpenCvSource::open(&film, played.facts().clone()).unwrap();
        for n in [0, 77, 150, 1, 190] {
            let found = source.finds(played.pictures[n].1).unwrap();
            assert!(found, "{name}: OpenCV does not find picture {n}");
        }
    }
}

#[test]
fn a_film_with_an_edit_list_begins_where_it_shows_something() {
    let workshop = Workshop::new();
    workshop.make(&format!("{LONG} {B_FRAMES}"), "long.mp4");
    let film = workshop.make("-ss 3.3 -i long.mp4 -c copy", "trimmed.mp4");
    assert_eq!(goes_anywhere(&film).facts().decoder, FilmDecoder::Libav);
}

#[test]
fn a_film_of_variable_rate_is_gone_through_by_its_stamps() {
    let workshop = Workshop::new();
    let vary =
        "-vf settb=1/1000,setpts=N*40+mod(N*7\\,31)+700*gt(N\\,100) -vsync passthrough -enc_time_base 1:1000";
    for name in ["vary.mp4", "vary.ts"] {
        let film = workshop.make(&format!("{LONG} {vary} {B_FRAMES}"), name);
        goes_anywhere(&film);
    }
}

/// Makes a film as one that is sent is made, without going back in it: it has no index.
fn piped(workshop: &Workshop, args: &str, format: &str, name: &str) -> PathBuf {
    let path = workshop.path(name);
    let made = ffmpeg()
        .args(args.split_whitespace())
        .args(["-f", format, "pipe:1"])
        .stdout(fs::File::create(&path).unwrap())
        .status();
    assert!(made.unwrap().success(), "ffmpeg {args}");
    path
}

#[test]
fn a_film_without_an_index_is_gone_through_too() {
    let workshop = Workshop::new();
    let sound = "-f lavfi -i sine=d=8 -c:a mp2";
    for (args, format, name) in [
        (B_FRAMES, "mpegts", "broadcast.ts"),
        (B_FRAMES, "matroska", "live.mkv"),
        ("-c:v mpeg2video -bf 2 -g 25 -q:v 2", "vob", "disc.vob"),
        ("-c:v flv1 -q:v 2 -g 50 -ar 44100 -c:a mp3", "flv", "old.flv"),
        (
            "-c:v libx264 -preset ultrafast -g 50 -movflags +frag_keyframe+empty_moov+skip_trailer -c:a aac",
            "mp4",
            "fragments.mp4",
        ),
    ] {
        let film = piped(&workshop, &format!("{LONG} {sound} {args}"), format, name);
        goes_anywhere(&film);
    }
    goes_anywhere(&piped(&workshop, &format!("{LONG} {B_FRAMES}"), "h264", "raw.h264"));
    let divx = workshop.make(&format!("{LONG} -c:v mpeg4 -q:v 2 -bf 2 -g 25"), "divx.avi");
    let mut bytes = fs::read(&divx).unwrap();
    let index = bytes.windows(4).rposition(|four| four == b"idx1").unwrap();
    bytes[index..][..4].copy_from_slice(b"JUNK");
    fs::write(&divx, bytes).unwrap();
    goes_anywhere(&divx);
}

#[test]
fn a_turned_film_and_an_interlaced_one_are_gone_through() {
    let workshop = Workshop::new();
    let plain = workshop.make(&format!("{LONG} {B_FRAMES}"), "plain.mp4");
    goes_anywhere(&workshop.turned(&plain, [0, ONE, -ONE, 0], "turned.mp4"));
    let fields = "-vf scale=320:256,tinterlace=interleave_top,setsar=1 -c:v mpeg2video -flags +ilme+ildct -b:v 8M -top 1";
    goes_anywhere(&workshop.make(&format!("-f lavfi -i testsrc2=s=160x128:r=50:d=8 {fields}"), "camera.ts"));
}

#[test]
fn slides_are_gone_through_by_the_time_they_are_on() {
    let workshop = Workshop::new();
    for (colour, n) in [("red", 1), ("green", 2), ("blue", 3)] {
        workshop
            .make(&format!("-f lavfi -i color=c={colour}:s=160x128 -frames:v 1"), &format!("slide{n}.png"));
    }
    goes_anywhere(&workshop.make(&format!("-framerate 1/40 -i slide%d.png {H264}"), "forty.mp4"));

    let mut slide = open(&workshop.path("slide1.png")).unwrap();
    slide.show_for(Duration::from_secs(7));
    for (position, is_on) in [(6999, true), (7000, false), (0, true)] {
        slide.seek(Duration::from_millis(position)).unwrap();
        assert_eq!(next(slide.as_mut()).is_some(), is_on, "{position} ms");
        assert!(next(slide.as_mut()).is_none(), "once");
    }
}
