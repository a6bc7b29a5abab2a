//! Films of the kinds that people have, each made with ffmpeg and compared with what ffmpeg itself shows of it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use ::opencv::prelude::*;

use super::*;

/// H.264 of a quality that leaves colours alone.
const H264: &str = "-c:v libx264 -preset ultrafast -crf 10 -pix_fmt yuv420p";

/// Two seconds of FFmpeg's test picture, which is neither symmetric nor still.
const PATTERN: &str = "-f lavfi -i testsrc2=s=320x240:r=25:d=2";

/// Most that the mean colour of a part of a picture may differ from what ffmpeg shows, of 255.
const COLOUR: f64 = 3.0;

/// A folder in which films are made.
struct Workshop(tempfile::TempDir);

impl Workshop {
    fn new() -> Workshop {
        Workshop(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes a film by ffmpeg's arguments, in which a file of the folder may be named.
    fn make(&self, args: &str, name: &str) -> PathBuf {
        let path = self.path(name);
        let status = ffmpeg().args(args.split_whitespace()).arg(&path).current_dir(self.0.path()).status();
        assert!(status.unwrap().success(), "ffmpeg {args}");
        path
    }

    /// The film at `from` with another display matrix.
    fn turned(&self, from: &Path, matrix: [i32; 4], name: &str) -> PathBuf {
        let mut bytes = fs::read(from).unwrap();
        // The header of the picture track: its matrix begins 40 bytes behind the version, before width and height.
        let at = bytes.windows(4).position(|four| four == b"tkhd").unwrap() + 4 + 40;
        for (place, value) in [0, 1, 3, 4].into_iter().zip(matrix) {
            bytes[at + 4 * place..][..4].copy_from_slice(&value.to_be_bytes());
        }
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

fn ffmpeg() -> Command {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error", "-y"]).stdin(Stdio::null());
    ffmpeg
}

/// A picture in BGR.
struct Shown {
    width: usize,
    height: usize,
    bytes: Vec<u8>,
}

impl Shown {
    /// The mean colours of 8 by 6 parts of the picture.
    fn parts(&self) -> Vec<[f64; 3]> {
        let mean = |column: usize, row: usize| {
            let columns = column * self.width / 8..(column + 1) * self.width / 8;
            let rows = row * self.height / 6..(row + 1) * self.height / 6;
            let mut sums = [0.0; 3];
            for (x, y) in rows.clone().flat_map(|y| columns.clone().map(move |x| (x, y))) {
                let pixel = &self.bytes[3 * (y * self.width + x)..][..3];
                sums.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += f64::from(value));
            }
            sums.map(|sum| sum / (columns.len() * rows.len()) as f64)
        };
        (0..48).map(|part| mean(part % 8, part / 8)).collect()
    }

    /// The largest difference between the mean colours of two pictures' parts.
    fn difference(&self, other: &Shown) -> f64 {
        let parts = self.parts().into_iter().zip(other.parts());
        parts.flat_map(|(a, b)| (0..3).map(move |n| (a[n] - b[n]).abs())).fold(0.0, f64::max)
    }
}

/// The pictures of a film as ffmpeg shows them, after a filter if there is one.
fn reference(film: &Path, filter: &str, (width, height): (usize, usize)) -> Vec<Shown> {
    let mut ffmpeg = ffmpeg();
    ffmpeg.arg("-i").arg(format!("file:{}", film.display()));
    if !filter.is_empty() {
        ffmpeg.args(["-vf", filter]);
    }
    ffmpeg.args(["-vsync", "passthrough", "-f", "rawvideo", "-pix_fmt", "bgr24", "-"]);
    let bytes = ffmpeg.output().unwrap().stdout;
    assert_eq!(bytes.len() % (3 * width * height), 0, "ffmpeg has another size");
    bytes
        .chunks_exact(3 * width * height)
        .map(|bytes| Shown { width, height, bytes: bytes.to_vec() })
        .collect()
}

/// A whole film as a station decodes it.
struct Played {
    source: Box<dyn Source>,
    pictures: Vec<(Shown, Duration, Option<Duration>)>,
    end: Result<(), SourceError>,
}

impl Played {
    /// From the first picture to the end of the last one.
    fn length(&self) -> Duration {
        let (_, stamp, lasts) = self.pictures.last().unwrap();
        *stamp + lasts.unwrap_or(self.source.rate().interval()) - self.pictures[0].1
    }

    fn facts(&self) -> &Facts {
        self.source.facts().unwrap()
    }
}

fn play(film: &Path) -> Played {
    let mut source = open(film).unwrap();
    let mut pictures = Vec::new();
    let end = loop {
        match source.next_picture() {
            Ok(Some(picture)) => {
                let shown = Shown {
                    width: picture.pixels.cols() as usize,
                    height: picture.pixels.rows() as usize,
                    bytes: picture.pixels.data_bytes().unwrap().to_vec(),
                };
                pictures.push((shown, picture.stamp, picture.lasts));
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    Played { source, pictures, end }
}

/// Plays a film that ffmpeg shows in this size, and checks each of its pictures.
fn plays_as_ffmpeg(film: &Path, size: (usize, usize)) -> Played {
    plays_as(film, "", size)
}

fn plays_as(film: &Path, filter: &str, size: (usize, usize)) -> Played {
    let reference = reference(film, filter, size);
    let played = play(film);
    assert_eq!(played.end, Ok(()));
    assert_eq!(played.source.size(), (size.0 as u32, size.1 as u32), "the size that is announced");
    assert_eq!(played.pictures.len(), reference.len(), "pictures");
    for (n, ((shown, ..), reference)) in played.pictures.iter().zip(&reference).enumerate() {
        assert_eq!((shown.width, shown.height), size, "picture {n}");
        let difference = shown.difference(reference);
        assert!(difference <= COLOUR, "picture {n} differs by {difference}");
    }
    played
}

const ONE: i32 = 1 << 16;

#[test]
fn a_plain_film_is_decoded_by_opencv() {
    let workshop = Workshop::new();
    let film = workshop.make(&format!("{PATTERN} {H264}"), "plain.mp4");
    let played = plays_as_ffmpeg(&film, (320, 240));
    assert_eq!(played.facts().decoder, Decoder::OpenCv, "{:?}", played.facts().reasons);
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
fn a_film_is_broken_by_what_its_container_can_know() {
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
        assert_eq!(is_broken(read, span, announced, pal, counted), broken, "{why}");
    }
}
