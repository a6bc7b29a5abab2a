//! Films of many kinds, each made with ffmpeg and compared with the pictures that ffmpeg itself decodes from it.

mod files;
mod others;
mod reference;

mod seeking;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use self::reference::{
    COLOUR, H264, PATTERN, Shown, Workshop, are_made_alike, may_be_made_for_stations, play, plays_as,
    plays_as_ffmpeg, reference,
};
use super::facts::HighRange;
use super::*;

const ONE: i32 = 1 << 16;

#[test]
fn a_plain_film_is_decoded_by_opencv() {
    let workshop = Workshop::new();
    let film = workshop.make(&format!("{PATTERN} {H264}"), "plain.mp4");
    let played = plays_as_ffmpeg(&film, (320, 240));
    assert_eq!(played.facts().decoder, FilmDecoder::OpenCv, "{:?}", played.facts().reasons);
    assert_eq!((played.length(), played.source.announced()), (Duration::from_secs(2), 50));
}

#[test]
fn a_film_of_a_telephone_is_shown_the_right_way_up() {
    let workshop = Workshop::new();
    let plain = workshop.make(&format!("{PATTERN} -frames:v 5 {H264}"), "plain.mp4");
    for (name, matrix, size) in [
        ("90.mp4", [0, ONE, -ONE, 0], (240, 320)),
        ("180.mp4", [-ONE, 0, 0, -ONE], (320, 240)),
        ("270.mp4", [0, -ONE, ONE, 0], (240, 320)),
        ("mirrored.mp4", [-ONE, 0, 0, ONE], (320, 240)),
        ("upside-down.mp4", [ONE, 0, 0, -ONE], (320, 240)),
        ("transposed.mp4", [0, ONE, ONE, 0], (240, 320)),
        ("transversed.mp4", [0, -ONE, -ONE, 0], (240, 320)),
        ("tilted.mp4", [56_756, 32_768, -32_768, 56_756], (320, 240)),
    ] {
        let film = workshop.turned(&plain, matrix, name);
        plays_as_ffmpeg(&film, size);
    }
}

#[test]
fn a_film_is_broken_if_it_ends_long_before_what_its_container_announced() {
    let pal = FrameRate::new(25, 1).unwrap();
    let seconds = Duration::from_secs;
    for (read, span, announced, counted, broken, why) in [
        (250, seconds(10), 250, true, false, "whole"),
        (246, seconds(10), 250, true, false, "a few at the edges"),
        (230, seconds(9), 250, true, true, "cut off"),
        (250, Duration::ZERO, 250, true, false, "no stamps"),
        (100, seconds(10), 250, false, false, "12 of 30 a second, at a rate that varies"),
        (250, seconds(10), 275, false, false, "sound goes on for a second"),
        (100, seconds(4), 250, false, true, "cut off, without a count"),
        (250, seconds(10), 0, false, false, "nothing is announced"),
    ] {
        assert_eq!(breaks_off(read, span, announced, pal, counted), broken, "{why}");
    }
}

/// FFmpeg's colour bars in `matrix` and `range`, with these tags or none.
fn bars(workshop: &Workshop, size: &str, (matrix, range): (&str, &str), tags: &str, name: &str) -> PathBuf {
    let format = if name.contains("10bit") { "yuv420p10le" } else { "yuv420p" };
    let scale = format!("scale=out_color_matrix={matrix}:out_range={range},format={format}");
    let args = format!(
        "-f lavfi -i smptehdbars=s={size}:r=25:d=0.2 -vf {scale} -c:v libx264 -preset ultrafast -crf 4 {tags}"
    );
    workshop.make(&args, name)
}

#[test]
fn colours_are_those_of_the_tags() {
    let workshop = Workshop::new();
    let size = (640, 368);
    for (name, colours, tags, words, decoder) in [
        ("709.mp4", ("bt709", "tv"), "-colorspace bt709 -color_range tv", "BT.709", FilmDecoder::Libav),
        ("601.mp4", ("bt601", "tv"), "-colorspace smpte170m", "BT.601", FilmDecoder::OpenCv),
        (
            "full.mp4",
            ("bt601", "pc"),
            "-colorspace smpte170m -color_range pc",
            "BT.601, full range",
            FilmDecoder::Libav,
        ),
        (
            "full709.mkv",
            ("bt709", "pc"),
            "-colorspace bt709 -color_range pc",
            "BT.709, full range",
            FilmDecoder::Libav,
        ),
        (
            "full709.10bit.mkv",
            ("bt709", "pc"),
            "-colorspace bt709 -color_range pc",
            "BT.709, full range",
            FilmDecoder::Libav,
        ),
        ("2020.mp4", ("bt2020", "tv"), "-colorspace bt2020nc", "BT.2020", FilmDecoder::Libav),
        ("untagged.mp4", ("bt601", "tv"), "", "BT.601 (untagged)", FilmDecoder::OpenCv),
    ] {
        let film = bars(&workshop, "640x368", colours, tags, name);
        let played = plays_as_ffmpeg(&film, size);
        let facts = played.facts();
        assert_eq!((facts.colours.words().as_str(), facts.decoder), (words, decoder), "{name}");
        let mut source = open(&film).unwrap();
        source.make_for(Size { width: 320, height: 192 });
        let made = source.next_picture().unwrap().unwrap();
        assert_eq!(matches!(made.pixels, Pixels::Planes(_)), decoder == FilmDecoder::Libav, "{name}");
    }
}

#[test]
fn an_untagged_film_of_720_lines_has_the_colours_of_bt709() {
    let workshop = Workshop::new();
    let film = bars(&workshop, "1280x720", ("bt709", "tv"), "", "hd.mp4");
    let played = plays_as(&film, "scale=in_color_matrix=bt709", (1280, 720));
    assert_eq!(played.facts().colours.words(), "BT.709 (untagged)");
}

#[test]
fn a_film_of_high_dynamic_range_looks_as_the_same_film_of_ordinary_range() {
    let workshop = Workshop::new();
    let ordinary = workshop.make(
        "-f lavfi -i testsrc2=s=320x240:r=25:d=0.2 -vf scale=out_color_matrix=bt709,format=yuv444p -c:v libx264 \
         -preset ultrafast -crf 4 -colorspace bt709 -color_primaries bt709 -color_trc bt709",
        "ordinary.mkv",
    );
    let ordinary = reference(&ordinary, "", (320, 240));
    for (transfer, kind, codec) in [
        ("smpte2084", HighRange::Pq, "-c:v libx265 -preset ultrafast -crf 4 -x265-params log-level=none"),
        ("arib-std-b67", HighRange::Hlg, "-c:v libx264 -preset ultrafast -crf 4"),
    ] {
        let graded = format!(
            "zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=2020,zscale=t={transfer}:m=2020_ncl:r=tv:npl=203"
        );
        let tags = format!("-colorspace bt2020nc -color_trc {transfer} -color_primaries bt2020");
        let args =
            format!("-i ordinary.mkv -vf {graded},format=yuv420p10le {codec} -pix_fmt yuv420p10le {tags}");
        let film = workshop.make(&args, &format!("{}.mp4", kind.name()));
        let played = play(&film);
        assert_eq!(played.end, Ok(()));
        assert_eq!(played.facts().colours.high_range, Some(kind));
        // For a station, pictures are scaled before their tones are mapped, where the mean of a bright and a dark pixel is another colour.
        are_made_alike(&film, 2, 20.0);
        assert_eq!(played.source.size(), (320, 240));
        for ((shown, ..), ordinary) in played.pictures.iter().zip(&ordinary) {
            let difference = shown.difference(ordinary);
            assert!(difference < 40.0, "{}: {difference}", kind.name());
        }
        let told = &played.facts().remarks[..];
        assert!(matches!(told, [told] if told.contains("high dynamic range")), "{told:?}");
    }
}

#[test]
fn a_large_film_of_high_dynamic_range_is_made_smaller_before_its_tones_are_mapped() {
    let workshop = Workshop::new();
    let args = "-f lavfi -i testsrc2=s=3840x2160:r=25:d=0.08 -c:v libx264 -preset ultrafast -pix_fmt yuv420p10le \
         -colorspace bt2020nc -color_trc smpte2084 -color_primaries bt2020";
    let played = play(&workshop.make(args, "large.mp4"));
    assert_eq!((played.end, played.source.size()), (Ok(()), (3840, 2160)));
    assert_eq!(played.pictures.len(), 2);
    assert!(played.pictures.iter().all(|(shown, ..)| (shown.width, shown.height) == (1920, 1080)));
}

#[test]
fn a_film_may_be_turned_and_anamorphic() {
    let workshop = Workshop::new();
    let wide = workshop
        .make(&format!("-f lavfi -i testsrc2=s=720x576:r=25:d=0.2 -vf setsar=64/45 {H264}"), "wide.mp4");
    let played = plays_as_ffmpeg(&wide, (720, 576));
    assert!((played.source.pixel_aspect() - 64.0 / 45.0).abs() < 1e-6);
    let turned = workshop.turned(&wide, [0, ONE, -ONE, 0], "turned.mp4");
    let played = plays_as_ffmpeg(&turned, (576, 720));
    assert!((played.source.pixel_aspect() - 45.0 / 64.0).abs() < 1e-6);
    let station =
        crate::content::encode::station_size(played.source.size(), played.source.pixel_aspect(), 2040);
    assert_eq!(station.to_string(), "400x720", "576x1024, never enlarged");
}

#[test]
fn pictures_that_an_edit_list_hides_are_neither_shown_nor_missed() {
    let workshop = Workshop::new();
    workshop
        .make(&format!("-f lavfi -i testsrc2=s=320x240:r=25:d=5 {H264} -g 250 -sc_threshold 0"), "long.mp4");
    let film = workshop.make("-ss 3 -i long.mp4 -c copy", "trimmed.mp4");
    let played = plays_as_ffmpeg(&film, (320, 240));
    assert_eq!((played.pictures.len(), played.source.announced()), (50, 50));
    assert_eq!(played.length(), Duration::from_secs(2));
}

#[test]
fn a_film_whose_sound_is_longer_than_its_pictures_is_not_broken() {
    let workshop = Workshop::new();
    let sound = format!("{PATTERN} -f lavfi -i sine=d=9 {H264} -c:a aac");
    for (args, name) in [
        ("-movflags +frag_keyframe+empty_moov", "fragments.mp4"),
        ("-movflags +dash -frag_duration 500000", "dash.mp4"),
        ("", "whole.mp4"),
        ("", "sound.mkv"),
    ] {
        let film = workshop.make(&format!("{sound} {args}"), name);
        let played = plays_as_ffmpeg(&film, (320, 240));
        let off = played.length().abs_diff(Duration::from_secs(2));
        assert!(off < Duration::from_millis(40), "{name}: {:?}", played.length());
    }
}

#[test]
fn each_slide_of_a_film_lasts_as_long_as_the_film_says() {
    let workshop = Workshop::new();
    for (colour, n) in [("red", 1), ("green", 2), ("blue", 3)] {
        workshop
            .make(&format!("-f lavfi -i color=c={colour}:s=320x240 -frames:v 1"), &format!("slide{n}.png"));
    }
    let forty = workshop.make(&format!("-framerate 1/40 -i slide%d.png {H264}"), "forty.mp4");
    assert_eq!(plays_as_ffmpeg(&forty, (320, 240)).length(), Duration::from_secs(120));
    // 12, 40 and 45 seconds, and a moment.
    let list = "file slide1.png\nduration 12\nfile slide2.png\nduration 40\nfile slide3.png\nduration 45\nfile slide1.png\n";
    fs::write(workshop.path("list"), list).unwrap();
    for name in ["mixed.mp4", "mixed.mkv"] {
        let film = workshop.make(&format!("-f concat -i list -vsync vfr -enc_time_base 1:1000 {H264}"), name);
        let played = plays_as_ffmpeg(&film, (320, 240));
        let stamps: Vec<u64> = played.pictures.iter().map(|(_, stamp, _)| stamp.as_secs()).collect();
        assert_eq!(stamps, [0, 12, 52, 97], "{name}");
        let mut line = crate::content::timeline::Timeline::new(Default::default(), played.source.rate());
        line.begin_film(played.source.rate(), Default::default());
        for (_, stamp, lasts) in &played.pictures {
            line.next(*stamp);
            line.lasts(*lasts);
            assert_eq!(line.film_offset(), *stamp, "{name}");
        }
        assert!(line.film_length() >= Duration::from_secs(97), "{name}");
    }
}

#[test]
fn cover_art_is_not_the_film() {
    let workshop = Workshop::new();
    workshop.make(&format!("{PATTERN} {H264}"), "plain.mp4");
    workshop.make("-f lavfi -i color=c=red:s=200x200 -frames:v 1", "cover.jpg");
    for (args, name) in [
        ("-i cover.jpg -i plain.mp4 -map 0 -map 1 -c copy -disposition:v:0 attached_pic", "first.mkv"),
        ("-i plain.mp4 -i cover.jpg -map 0 -map 1 -c copy -disposition:v:1 attached_pic", "second.mp4"),
        ("-i cover.jpg -i plain.mp4 -map 0 -map 1 -c copy -disposition:v:0 attached_pic", "first.mp4"),
    ] {
        let film = workshop.make(args, name);
        let played = play(&film);
        assert_eq!((played.end.clone(), played.pictures.len()), (Ok(()), 50), "{name}");
        assert_eq!(played.source.size(), (320, 240), "{name}");
    }
}

#[test]
fn the_default_one_of_several_picture_tracks_is_played() {
    let workshop = Workshop::new();
    let tracks =
        "-f lavfi -i color=red:s=320x240:r=25:d=1 -f lavfi -i color=blue:s=160x128:r=25:d=1 -map 0 -map 1";
    let args = format!("{tracks} {H264} -disposition:v:0 0 -disposition:v:1 default");
    for name in ["tracks.mkv", "tracks.mp4"] {
        let film = workshop.make(&args, name);
        let played = play(&film);
        assert_eq!(played.source.size(), (160, 128), "{name}");
        assert_eq!((played.end.clone(), played.pictures.len()), (Ok(()), 25), "{name}");
    }
}

#[test]
fn the_error_for_a_file_of_music_says_so() {
    let workshop = Workshop::new();
    workshop.make("-f lavfi -i color=c=red:s=200x200 -frames:v 1", "cover.jpg");
    let sound = "-f lavfi -i sine=d=4";
    for (args, name) in [
        (
            format!("{sound} -i cover.jpg -map 0 -map 1 -c:a aac -c:v copy -disposition:v:0 attached_pic"),
            "song.m4a",
        ),
        (format!("{sound} -i cover.jpg -map 0 -map 1 -c:a aac -c:v copy"), "song.mkv"),
        (format!("{sound} -c:a aac"), "song.mp4"),
    ] {
        let film = workshop.make(&args, name);
        let error = open(&film).err().expect("it is no film").to_string();
        assert_eq!(error, format!("{name} is music: it has no video, at most cover art"));
    }
}

#[test]
fn a_size_that_changes_within_a_film_changes_its_pictures() {
    let workshop = Workshop::new();
    let (small, big) = ("testsrc2=s=320x240:r=25:d=1", "testsrc2=s=640x480:r=25:d=1");
    let x264 = "-c:v libx264 -preset ultrafast -crf 10";
    workshop.make(&format!("-f lavfi -i {small} {x264} -pix_fmt yuv420p"), "small.ts");
    workshop.make(&format!("-f lavfi -i {big} {x264} -pix_fmt yuv422p -output_ts_offset 1"), "big.ts");
    let (small, big) = (workshop.path("small.ts"), workshop.path("big.ts"));
    let both = [fs::read(&small).unwrap(), fs::read(&big).unwrap()].concat();
    fs::write(workshop.path("both.ts"), both).unwrap();
    fs::write(workshop.path("list"), "file small.ts\nfile big.ts\n").unwrap();
    workshop.make("-f concat -i list -c copy", "both.mp4");
    workshop.make("-f concat -i list -c copy", "both.mkv");
    for name in ["both.ts", "both.mp4", "both.mkv"] {
        let played = play(&workshop.path(name));
        assert_eq!(played.end, Ok(()), "{name}");
        let expected = [reference(&small, "", (320, 240)), reference(&big, "", (640, 480))].concat_pictures();
        assert_eq!(played.pictures.len(), expected.len(), "{name}");
        for (n, ((shown, ..), expected)) in played.pictures.iter().zip(&expected).enumerate() {
            assert_eq!((shown.width, shown.height), (expected.width, expected.height), "{name}, picture {n}");
            let difference = shown.difference(expected);
            assert!(difference <= COLOUR, "{name}, picture {n} differs by {difference}");
        }
        may_be_made_for_stations(&workshop.path(name), expected.len());
    }
}

#[test]
fn a_broadcast_whose_pixel_aspect_changes_changes_its_pictures() {
    let workshop = Workshop::new();
    let part = |aspect: &str, at: u8, name: &str| {
        workshop.make(
            &format!(
                "-f lavfi -i testsrc2=s=360x288:r=25:d=0.4 -vf setsar={aspect} {H264} -output_ts_offset {at}"
            ),
            name,
        )
    };
    let (wide, narrow) = (part("64/45", 0, "wide.ts"), part("16/15", 1, "narrow.ts"));
    let both = workshop.path("both.ts");
    fs::write(&both, [fs::read(wide).unwrap(), fs::read(narrow).unwrap()].concat()).unwrap();
    let played = play(&both);
    let widths: Vec<usize> = played.pictures.iter().map(|(shown, ..)| shown.width).collect();
    assert_eq!(widths, [[512; 10], [384; 10]].concat());
    may_be_made_for_stations(&both, widths.len());
}

#[test]
fn a_broadcast_whose_range_changes_keeps_its_colours() {
    let workshop = Workshop::new();
    let parts = [("tv", 0), ("pc", 1)].map(|(range, at)| {
        let scale = format!("scale=out_color_matrix=bt709:out_range={range},format=yuv420p");
        let tags = format!("-colorspace bt709 -color_range {range} -output_ts_offset {at}");
        let bars = "-f lavfi -i smptehdbars=s=320x192:r=25:d=0.4";
        let args = format!("{bars} -vf {scale} -c:v libx264 -preset ultrafast -crf 4 {tags}");
        fs::read(workshop.make(&args, &format!("{range}.ts"))).unwrap()
    });
    let both = workshop.path("both.ts");
    fs::write(&both, parts.concat()).unwrap();
    assert_eq!(play(&both).pictures.len(), 20);
    may_be_made_for_stations(&both, 20);
}

trait ConcatPictures {
    fn concat_pictures(self) -> Vec<Shown>;
}

impl ConcatPictures for [Vec<Shown>; 2] {
    fn concat_pictures(self) -> Vec<Shown> {
        self.into_iter().flatten().collect()
    }
}

#[test]
fn a_container_that_counts_milliseconds_has_the_rate_of_its_pictures() {
    let workshop = Workshop::new();
    let film = workshop.make(
        "-f lavfi -i testsrc2=s=320x240:r=30:d=2 -vf setpts='(N*37+mod(N*N*7,29))/1000/TB' -vsync vfr \
         -enc_time_base 1:1000 -c:v libvpx -deadline realtime -cpu-used 8 -b:v 1M -live 1",
        "live.webm",
    );
    let rate = play(&film).source.rate().as_f64();
    assert!((25.0..32.0).contains(&rate), "{rate}");
    let film = workshop.make(
        &format!("{PATTERN} -vsync passthrough -r 1000 {H264} -video_track_timescale 1000"),
        "fast.mkv",
    );
    let played = play(&film);
    assert_eq!((played.pictures.len(), played.source.rate().as_f64()), (50, 25.0));
}

/// Whether in many places a line differs much from both of its neighbours, in the same direction.
fn has_combs(shown: &Shown) -> bool {
    let value = |x: usize, y: usize| f64::from(shown.bytes[3 * (y * shown.width + x)]);
    let inner = (100..shown.height - 100).flat_map(|y| (0..shown.width).map(move |x| (x, y)));
    let combs = inner.filter(|&(x, y)| {
        let (above, here, below) = (value(x, y - 1), value(x, y), value(x, y + 1));
        (here - above) * (here - below) > 100.0 * 100.0
    });
    combs.count() >= 200
}

#[test]
fn an_interlaced_film_has_no_combs() {
    let workshop = Workshop::new();
    // A bar that moves by 8 pixels a field.
    let moving = "-f lavfi -i color=black:s=720x576:r=50:d=1 -f lavfi -i color=white:s=80x576:r=50:d=1 \
                  -filter_complex [0][1]overlay=x=n*8,tinterlace=interleave_top,setsar=16/15";
    for (args, name) in [
        ("-c:v mpeg2video -flags +ilme+ildct -b:v 8M -top 1", "broadcast.ts"),
        (
            "-c:v libx264 -preset ultrafast -crf 10 -flags +ilme+ildct -x264opts tff=1 -pix_fmt yuv420p",
            "camera.mp4",
        ),
    ] {
        let film = workshop.make(&format!("{moving} {args}"), name);
        let played = play(&film);
        assert_eq!((played.end.clone(), played.source.rate().as_f64()), (Ok(()), 25.0), "{name}");
        assert_eq!(played.pictures.len(), 25, "{name}");
        for (n, (shown, ..)) in played.pictures.iter().enumerate() {
            assert!(!has_combs(shown), "{name}, picture {n} has combs");
        }
    }
}

#[test]
fn a_recording_that_is_interlaced_from_its_middle_on_has_no_combs() {
    let workshop = Workshop::new();
    let still = "-f lavfi -i color=gray:s=720x576:r=25:d=1 -c:v mpeg2video -b:v 8M";
    let moving = "-f lavfi -i color=black:s=720x576:r=50:d=1 -f lavfi -i color=white:s=80x576:r=50:d=1 \
                  -filter_complex [0][1]overlay=x=n*8,tinterlace=interleave_top \
                  -c:v mpeg2video -flags +ilme+ildct -b:v 8M -top 1";
    let parts = [workshop.make(still, "first.ts"), workshop.make(moving, "second.ts")];
    let film = workshop.path("recording.ts");
    fs::write(&film, parts.map(|part| fs::read(part).unwrap()).concat()).unwrap();
    let played = play(&film);
    assert!(played.pictures.len() >= 48, "{}", played.pictures.len());
    for (n, (shown, ..)) in played.pictures.iter().enumerate() {
        assert!(!has_combs(shown), "picture {n} has combs");
    }
}

#[test]
fn a_recording_whose_stamps_do_not_begin_at_0_is_as_long_as_its_pictures() {
    let workshop = Workshop::new();
    for name in ["late.mkv", "late.webm", "late.ts", "late.mp4", "late.wmv"] {
        let codec = match name.rsplit_once('.') {
            Some((_, "webm")) => "-c:v libvpx -deadline realtime",
            Some((_, "wmv")) => "-c:v wmv2 -b:v 2M",
            _ => H264,
        };
        let played = play(&workshop.make(&format!("{PATTERN} {codec} -output_ts_offset 100"), name));
        assert_eq!((played.end.clone(), played.pictures.len()), (Ok(()), 50), "{name}");
        let facts = played.source.facts().unwrap();
        let seconds = facts.length.map_or(2.0, |length| length.as_secs_f64());
        assert!((1.9..2.1).contains(&seconds), "{name}: {seconds}");
        assert!((1.9..2.1).contains(&facts.longest.unwrap().as_secs_f64()), "{name}: {:?}", facts.longest);
    }
}

#[test]
fn the_only_picture_of_a_film_with_sound_stays_for_as_long_as_the_sound() {
    let workshop = Workshop::new();
    let film = workshop.make(
        "-f lavfi -i testsrc2=s=320x240:d=0.04 -f lavfi -i sine=d=12 -c:v libx264 -pix_fmt yuv420p -c:a aac",
        "podcast.mp4",
    );
    let played = play(&film);
    assert_eq!((played.end.clone(), played.pictures.len()), (Ok(()), 1));
    assert!((11.9..12.1).contains(&played.length().as_secs_f64()), "{:?}", played.length());
    assert_eq!(played.facts().length, Some(played.length()));
    // A cover that is not marked as one.
    workshop.make("-f lavfi -i testsrc2=s=320x240 -frames:v 1", "cover.jpg");
    let music =
        workshop.make("-f lavfi -i sine=d=5 -i cover.jpg -map 1 -map 0 -c:v mjpeg -c:a aac", "music.mp4");
    assert!(matches!(open(&music), Err(SourceError::Music { .. })));
}

#[test]
fn a_clip_may_lack_some_pictures_at_its_edges() {
    let workshop = Workshop::new();
    let clip = "-f lavfi -i testsrc2=s=320x240:r=25:d=1";
    workshop.make(&format!("{clip} -c:v mpeg4 -bf 2"), "xvid.avi");
    // A recording that begins in the middle of a group of pictures.
    let whole = workshop.make(
        "-f lavfi -i testsrc2=s=320x240:r=25:d=2 -c:v libx264 -g 25 -bf 0 -pix_fmt yuv420p -muxrate 2M",
        "whole.ts",
    );
    let bytes = fs::read(whole).unwrap();
    let from = bytes.len() / 4 / 188 * 188;
    fs::write(workshop.path("part.ts"), &bytes[from..]).unwrap();
    for name in ["xvid.avi", "part.ts"] {
        let played = play(&workshop.path(name));
        assert_eq!(played.end, Ok(()), "{name}: {} of {}", played.pictures.len(), played.source.announced());
    }
}

#[test]
fn h264_in_avi_has_the_rate_of_its_pictures_and_not_of_its_fields() {
    let workshop = Workshop::new();
    workshop.make(&format!("{PATTERN} {H264}"), "plain.mp4");
    let played = play(&workshop.make("-i plain.mp4 -c copy", "camera.avi"));
    assert_eq!((played.end.clone(), played.source.rate().as_f64()), (Ok(()), 25.0));
    assert_eq!(played.pictures.len(), 50);
}

#[test]
fn an_empty_edit_before_the_first_picture_is_no_part_of_the_film() {
    let workshop = Workshop::new();
    workshop.make("-f lavfi -i testsrc2=s=320x240:r=25:d=4 -c:v libx264 -g 25 -pix_fmt yuv420p", "long.mp4");
    let film = workshop.make("-ss 2 -i long.mp4 -t 1.5 -c copy -output_ts_offset 0.5", "late.mp4");
    let played = play(&film);
    assert_eq!(played.end, Ok(()), "{} of {}", played.pictures.len(), played.source.announced());
    let length = played.facts().length.unwrap().as_secs_f64();
    assert!((length - played.length().as_secs_f64()).abs() < 0.1, "{length}");
}

#[test]
fn a_camera_s_motion_jpeg_is_played_and_not_the_small_copy_beside_it() {
    let workshop = Workshop::new();
    let film = workshop.make(
        "-f lavfi -i testsrc2=s=320x240:r=25:d=1 -f lavfi -i testsrc2=s=160x120:r=25:d=1 -map 0 -map 1 \
         -c:v:0 mjpeg -pix_fmt:0 yuvj420p -c:v:1 libx264 -disposition:0 default -disposition:1 0",
        "camera.mov",
    );
    assert_eq!(open(&film).unwrap().size(), (320, 240));
}

#[test]
fn a_turn_that_the_pictures_themselves_tell_is_made() {
    let workshop = Workshop::new();
    workshop.make(&format!("{PATTERN} {H264}"), "plain.mp4");
    let turned = "h264_metadata=display_orientation=insert:rotate=90";
    // The first picture alone tells it. ffmpeg turns only that one then; players turn the film.
    let expected = reference(&workshop.path("plain.mp4"), "transpose=cclock", (240, 320));
    for name in ["turned.mp4", "turned.ts", "turned.mkv"] {
        let film = workshop.make(&format!("-i plain.mp4 -c copy -bsf:v {turned}"), name);
        let played = play(&film);
        assert_eq!((played.source.size(), played.pictures.len()), ((240, 320), expected.len()), "{name}");
        for (n, ((shown, ..), expected)) in played.pictures.iter().zip(&expected).enumerate() {
            assert!(shown.difference(expected) <= COLOUR, "{name}, picture {n}");
        }
    }
}

#[test]
fn a_film_that_is_cut_off_plays_to_its_last_picture_and_a_remark_says_so() {
    let workshop = Workshop::new();
    workshop.make(&format!("{PATTERN} {H264}"), "plain.mp4");
    workshop.make("-i plain.mp4 -c copy -movflags +faststart", "fast.mp4");
    workshop.make("-i plain.mp4 -c copy", "whole.mkv");
    workshop.make("-i plain.mp4 -c copy", "whole.avi");
    for (whole, cut) in [("whole.mkv", "cut.mkv"), ("fast.mp4", "cut.mp4"), ("whole.avi", "cut.avi")] {
        let bytes = fs::read(workshop.path(whole)).unwrap();
        fs::write(workshop.path(cut), &bytes[..bytes.len() * 6 / 10]).unwrap();
        let remarks = |name| open(&workshop.path(name)).unwrap().facts().unwrap().remarks.clone();
        assert_eq!(remarks(whole), Vec::<String>::new());
        assert!(remarks(cut)[0].starts_with(&format!("{cut} is cut off")), "{cut}");
        let played = play(&workshop.path(cut));
        assert!((20..45).contains(&played.pictures.len()), "{cut}: {}", played.pictures.len());
        assert_eq!(played.end, Ok(()), "{cut}");
    }
    // The index of this film was at its end, which is cut off.
    let bytes = fs::read(workshop.path("plain.mp4")).unwrap();
    fs::write(workshop.path("torn.mp4"), &bytes[..bytes.len() * 6 / 10]).unwrap();
    assert!(matches!(open(&workshop.path("torn.mp4")), Err(SourceError::NotAFilm { .. })));
}
