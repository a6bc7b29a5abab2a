//! More films of the kinds that OpenCV shows wrong: each is shown as ffmpeg shows it, picture by picture.

use super::*;

/// The faults of a film of this `size` as it is played, compared with ffmpeg's pictures after `filter`.
fn faults(film: &Path, filter: &str, (width, height): (usize, usize)) -> Vec<String> {
    let name = film.file_name().unwrap().to_string_lossy().into_owned();
    let expected = reference(film, filter, (width, height));
    let played = play(film);
    let mut faults = Vec::new();
    let mut add = |wrong: bool, what: String| {
        if wrong {
            faults.push(format!("{name} ({:?}): {what}", played.facts().reasons));
        }
    };
    add(played.end != Ok(()), format!("{:?}", played.end));
    add(played.source.size() != (width as u32, height as u32), format!("size {:?}", played.source.size()));
    add(played.pictures.len() != expected.len(), format!("{} of {}", played.pictures.len(), expected.len()));
    for (n, ((shown, ..), expected)) in played.pictures.iter().zip(&expected).enumerate() {
        if (shown.width, shown.height) != (width, height) {
            add(true, format!("picture {n} is {}x{}", shown.width, shown.height));
            break;
        }
        let difference = shown.difference(expected);
        add(difference > COLOUR, format!("picture {n} differs by {difference}"));
        if difference > COLOUR {
            break;
        }
    }
    faults
}

const SMALL: &str = "-f lavfi -i testsrc2=s=320x240:r=25:d=1";

#[test]
fn films_of_all_pixel_formats_are_shown() {
    let workshop = Workshop::new();
    let mut all = Vec::new();
    let mut names = Vec::new();
    for (codec, formats, ending) in [
        (
            "libx264 -preset ultrafast -crf 6",
            "yuv422p yuv444p yuv420p10le yuv422p10le yuv444p10le gray gray10le nv12 yuvj420p",
            "mp4",
        ),
        ("libx264rgb -preset ultrafast -crf 6", "rgb24", "mkv"),
        (
            "libx265 -preset ultrafast -crf 6 -x265-params log-level=none",
            "yuv420p yuv420p10le yuv422p12le gray",
            "mp4",
        ),
        ("ffv1", "yuv420p yuv444p16le gray16le bgr0 gbrp10le yuva420p rgb48le", "mkv"),
        ("prores_ks", "yuv422p10le yuva444p10le", "mov"),
        ("png", "rgb24 rgba pal8 gray monob", "mov"),
        ("qtrle", "rgb24 argb", "mov"),
        ("huffyuv", "yuv422p rgb24", "avi"),
        ("rawvideo", "yuv420p uyvy422 bgr24", "avi"),
        ("mjpeg -q:v 2", "yuvj420p yuvj422p yuvj444p", "avi"),
        ("libvpx-vp9 -deadline realtime -cpu-used 8 -crf 10 -b:v 0", "yuv420p yuv444p yuv420p10le", "webm"),
        ("mpeg2video -q:v 2", "yuv420p yuv422p", "mpg"),
        ("mpeg4 -q:v 2", "yuv420p", "avi"),
        ("dnxhd -profile:v dnxhr_hq", "yuv422p", "mov"),
    ] {
        for format in formats.split(' ') {
            let name = format!("{}-{format}.{ending}", codec.split(' ').next().unwrap());
            names.push(name.clone());
            let film = workshop.make(&format!("{SMALL} -frames:v 8 -c:v {codec} -pix_fmt {format}"), &name);
            all.extend(faults(&film, "", (320, 240)));
        }
    }
    assert!(all.is_empty(), "{all:#?}");
}

#[test]
fn films_of_all_containers_are_shown_whole() {
    let workshop = Workshop::new();
    let mut all = Vec::new();
    for (args, name) in [
        ("-c:v libx264 -preset ultrafast -bf 2 -f h264", "raw.h264"),
        ("-c:v libx265 -preset ultrafast -x265-params log-level=none -f hevc", "raw.hevc"),
        ("-c:v mpeg2video -q:v 2 -f mpeg2video", "raw.m2v"),
        ("-c:v mjpeg -q:v 2 -f mjpeg", "raw.mjpeg"),
        ("-pix_fmt yuv420p", "raw.y4m"),
        ("-c:v libx264 -preset ultrafast -bf 2", "film.flv"),
        ("-c:v flv -q:v 2", "old.flv"),
        ("-c:v libtheora -q:v 9", "film.ogv"),
        ("-c:v wmv2 -q:v 2", "film.wmv"),
        ("-c:v h263 -s 352x288 -q:v 2 -vf scale=352:288", "film.3gp"),
        ("-c:v mpeg2video -q:v 2", "film.mxf"),
        ("-c:v mpeg1video -q:v 2", "film.mpg"),
        ("-c:v mpeg2video -q:v 2", "film.vob"),
        ("-c:v libx264 -preset ultrafast -bf 2", "film.m2ts"),
        ("-c:v libsvtav1 -preset 12 -crf 20", "film.mkv"),
        ("-c:v libsvtav1 -preset 12 -crf 20", "av1.mp4"),
        (
            "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -crf 20 -b:v 0 -auto-alt-ref 1 -lag-in-frames 16",
            "film.webm",
        ),
        ("-c:v gif", "film.gif"),
        (
            "-c:v libx264 -preset ultrafast -bf 2 -movflags +frag_every_frame+empty_moov+default_base_moof",
            "every.mp4",
        ),
        ("-c:v libx264 -preset ultrafast -bf 2 -movflags +negative_cts_offsets", "negative.mp4"),
        ("-c:v libx264 -preset ultrafast -bf 2 -use_editlist 0", "no-edit-list.mp4"),
        ("-c:v libx264 -preset ultrafast -bf 2 -output_ts_offset 3600", "late.ts"),
        ("-c:v libx264 -preset ultrafast -bf 2 -output_ts_offset 95443", "wraps.ts"),
    ] {
        let size = if name == "film.3gp" { (352, 288) } else { (320, 240) };
        let film = workshop.make(&format!("{SMALL} {args}"), name);
        all.extend(faults(&film, "", size));
        let played = play(&film);
        if played.pictures.is_empty() {
            continue;
        }
        let length = played.length();
        if length.abs_diff(Duration::from_secs(1)) > Duration::from_millis(41) && name != "film.3gp" {
            all.push(format!("{name} plays for {length:?}"));
        }
    }
    assert!(all.is_empty(), "{all:#?}");
}

#[test]
fn flipped_and_turned_films_are_shown_in_their_shape() {
    let workshop = Workshop::new();
    let mut all = Vec::new();
    let wide = format!("-f lavfi -i testsrc2=s=352x288:r=25:d=0.2 -vf setsar=12/11 {H264}");
    let plain = workshop.make(&wide, "wide.mp4");
    for (name, matrix, swaps) in [
        ("180.mp4", [-ONE, 0, 0, -ONE], false),
        ("mirrored.mp4", [-ONE, 0, 0, ONE], false),
        ("upside-down.mp4", [ONE, 0, 0, -ONE], false),
        ("transposed.mp4", [0, ONE, ONE, 0], true),
        ("transversed.mp4", [0, -ONE, -ONE, 0], true),
        ("270.mp4", [0, -ONE, ONE, 0], true),
        ("scaled.mp4", [ONE / 2, 0, 0, ONE / 2], false),
        ("scaled-90.mp4", [0, 2 * ONE, -2 * ONE, 0], true),
    ] {
        let film = workshop.turned(&plain, matrix, name);
        all.extend(faults(&film, "", if swaps { (288, 352) } else { (352, 288) }));
        let aspect = if swaps { 11.0 / 12.0 } else { 12.0 / 11.0 };
        if (play(&film).source.pixel_aspect() - aspect).abs() > 1e-6 {
            all.push(format!("{name}: its pixels are {} wide", play(&film).source.pixel_aspect()));
        }
    }
    assert!(all.is_empty(), "{all:#?}");
}

#[test]
fn edit_lists_of_many_kinds_are_followed() {
    let workshop = Workshop::new();
    workshop.make(
        &format!("-f lavfi -i testsrc2=s=320x240:r=25:d=5 -f lavfi -i sine=d=5 {H264} -bf 2 -g 50 -c:a aac"),
        "long.mp4",
    );
    let mut all = Vec::new();
    for (args, name) in [
        ("-ss 3 -i long.mp4 -c copy", "trimmed.mp4"),
        ("-ss 2.98 -t 1.5 -i long.mp4 -c copy", "both-ends.mp4"),
        ("-ss 3 -i long.mp4 -an -c copy", "mute.mov"),
        ("-itsoffset 1.3 -i long.mp4 -i long.mp4 -map 0:v -map 1:a -c copy", "begins-empty.mp4"),
        ("-i long.mp4 -itsoffset 1.3 -i long.mp4 -map 0:v -map 1:a -c copy", "sound-later.mp4"),
        ("-ss 1.1 -i long.mp4 -c copy -movflags +frag_keyframe", "fragments.mp4"),
        ("-ss 3 -i long.mp4 -c copy", "trimmed.mkv"),
        ("-ss 3 -i long.mp4 -c copy", "trimmed.ts"),
    ] {
        let film = workshop.make(args, name);
        all.extend(faults(&film, "", (320, 240)));
    }
    assert!(all.is_empty(), "{all:#?}");
}

#[test]
fn interlaced_films_of_many_kinds_are_deinterlaced_as_ffmpeg_does_it() {
    let workshop = Workshop::new();
    let moving = "-f lavfi -i testsrc2=s=720x576:r=50:d=1 -vf tinterlace=interleave_top";
    let bottom = "-f lavfi -i testsrc2=s=720x576:r=50:d=1 -vf tinterlace=interleave_bottom";
    let film = "-f lavfi -i testsrc2=s=720x480:r=24000/1001:d=1 -vf telecine";
    let x264 = "-c:v libx264 -preset ultrafast -crf 10 -flags +ilme+ildct -pix_fmt yuv420p";
    let mut all = Vec::new();
    for (args, name, height) in [
        (format!("{moving} -c:v mpeg2video -flags +ilme+ildct -b:v 12M -top 1"), "mpeg2-top.ts", 576),
        (format!("{bottom} -c:v mpeg2video -flags +ilme+ildct -b:v 12M -top 0"), "mpeg2-bottom.mpg", 576),
        (format!("{moving} {x264} -x264opts tff=1"), "mbaff-top.mp4", 576),
        (format!("{bottom} {x264} -x264opts bff=1"), "mbaff-bottom.mkv", 576),
        (format!("{bottom} -c:v dvvideo -pix_fmt yuv420p"), "camera.avi", 576),
        (format!("{bottom} -c:v dvvideo -pix_fmt yuv420p"), "camera.mov", 576),
        (format!("{film} -c:v mpeg2video -flags +ilme+ildct -b:v 12M -top 1"), "telecined.ts", 480),
        (format!("{moving} -c:v prores_ks -flags +ilme+ildct -top 1"), "prores.mov", 576),
    ] {
        let film = workshop.make(&args, name);
        all.extend(faults(&film, "bwdif=mode=send_frame:deint=interlaced", (720, height)));
    }
    assert!(all.is_empty(), "{all:#?}");
}

#[test]
fn films_with_damaged_ends_and_indexes_are_shown_as_far_as_they_go() {
    let workshop = Workshop::new();
    let mut all = Vec::new();
    // An AVI without its index, and one whose header counts too few pictures.
    let film = workshop.make(&format!("{SMALL} -c:v mpeg4 -q:v 2"), "whole.avi");
    let bytes = fs::read(&film).unwrap();
    let index = bytes.windows(4).rposition(|four| four == b"idx1").unwrap();
    fs::write(workshop.path("no-index.avi"), &bytes[..index]).unwrap();
    let mut fewer = bytes.clone();
    let avih = bytes.windows(4).position(|four| four == b"avih").unwrap();
    fewer[avih + 8 + 16..][..4].copy_from_slice(&5u32.to_le_bytes());
    let strh = bytes.windows(4).position(|four| four == b"strh").unwrap();
    fewer[strh + 8 + 32..][..4].copy_from_slice(&5u32.to_le_bytes());
    fs::write(workshop.path("few.avi"), fewer).unwrap();
    // The last picture has no duration.
    workshop.make(
        &format!("{SMALL} {H264} -bf 2 -bsf:v setts=duration=if(eq(N\\,24)\\,0\\,DURATION)"),
        "no-duration.mp4",
    );
    workshop.make(&format!("{SMALL} {H264} -bf 2"), "no-cues.mkv");
    let bytes = fs::read(workshop.path("no-cues.mkv")).unwrap();
    let cues = bytes.windows(4).rposition(|four| four == [0x1c, 0x53, 0xbb, 0x6b]).unwrap();
    fs::write(workshop.path("no-cues.mkv"), &bytes[..cues]).unwrap();
    for name in ["no-index.avi", "few.avi", "no-duration.mp4", "no-cues.mkv"] {
        all.extend(faults(&workshop.path(name), "", (320, 240)));
    }
    assert!(all.is_empty(), "{all:#?}");
}

#[test]
fn covers_in_other_containers_are_not_the_film() {
    let workshop = Workshop::new();
    workshop.make(&format!("{PATTERN} {H264}"), "plain.mp4");
    workshop.make("-f lavfi -i color=c=red:s=600x600 -frames:v 1", "cover.png");
    let film = workshop.make(
        "-i plain.mp4 -c copy -attach cover.png -metadata:s:t mimetype=image/png -metadata:s:t filename=cover.png",
        "attached.mkv",
    );
    let played = play(&film);
    assert_eq!((played.end.clone(), played.pictures.len(), played.source.size()), (Ok(()), 50, (320, 240)));
    let sound = "-f lavfi -i sine=d=4 -i cover.png -map 0 -map 1";
    for (args, name) in [
        (format!("{sound} -c:a libmp3lame -c:v copy -id3v2_version 3"), "song.mp3"),
        (format!("{sound} -c:a flac -c:v copy -disposition:v attached_pic"), "song.flac"),
        (
            "-f lavfi -i sine=d=4 -c:a libopus -attach cover.png -metadata:s:t mimetype=image/png".to_owned(),
            "song.mka",
        ),
        ("-f lavfi -i sine=d=4 -c:a libopus".to_owned(), "song.opus"),
        ("-f lavfi -i sine=d=4".to_owned(), "song.wav"),
    ] {
        let film = workshop.make(&args, name);
        let error = open(&film).err().expect("it is no film").to_string();
        assert_eq!(error, format!("{name} is music: it has no video, at most cover art"));
    }
}

#[test]
fn recordings_of_screens_play_by_their_stamps() {
    let workshop = Workshop::new();
    // Pictures come when something moves: three quick ones, and then a second of nothing.
    let times = "settb=1/1000,setpts='floor(N/3)*1000+mod(N,3)*33'";
    let mut all = Vec::new();
    for (codec, name) in [
        ("libx264 -preset ultrafast -crf 10 -bf 2 -pix_fmt yuv420p", "screen.mp4"),
        ("libx264 -preset ultrafast -crf 10 -bf 2 -pix_fmt yuv420p", "screen.mkv"),
        ("libvpx-vp9 -deadline realtime -cpu-used 8 -crf 10 -b:v 0", "screen.webm"),
        ("libvpx -deadline realtime -cpu-used 8 -b:v 4M -live 1", "live.webm"),
        ("libsvtav1 -preset 12 -crf 10", "screen-av1.mkv"),
    ] {
        let args = format!("{SMALL} -vf {times} -vsync vfr -enc_time_base 1:1000 -c:v {codec}");
        let film = workshop.make(&args, name);
        all.extend(faults(&film, "", (320, 240)));
        let played = play(&film);
        for (n, (_, stamp, _)) in played.pictures.iter().enumerate() {
            let expected = Duration::from_millis((n as u64 / 3) * 1000 + (n as u64 % 3) * 33);
            if stamp.abs_diff(expected) > Duration::from_millis(2) {
                all.push(format!("{name}: picture {n} at {stamp:?}, not {expected:?}"));
            }
        }
    }
    assert!(all.is_empty(), "{all:#?}");
}
