//! Makes films with ffmpeg, plays them as a station does, and compares each picture with the one that ffmpeg decodes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ::opencv::prelude::*;

use crate::content::decode::facts::Facts;
use crate::content::decode::{PictureSource, SourceError, SourcePicture, open};
use crate::content::encode::{Encoder, Pixels, station_size};
use crate::media::Size;

/// H.264 of a quality that keeps the colours.
pub(super) const H264: &str = "-c:v libx264 -preset ultrafast -crf 10 -pix_fmt yuv420p";

/// Two seconds of FFmpeg's test picture, which is neither symmetric nor still.
pub(super) const PATTERN: &str = "-f lavfi -i testsrc2=s=320x240:r=25:d=2";

/// The largest difference of a mean colour in a part of a picture from ffmpeg's, of 255.
pub(super) const COLOUR: f64 = 3.0;

/// The same between a picture that is made for a station and one that is scaled as RGB. RGB cuts negative values off, which there are at
/// the edges between saturated colours: the mean of green is up to 4 higher then.
const MADE: f64 = 5.0;

/// A folder in which films are made.
pub(super) struct Workshop(pub(super) tempfile::TempDir);

impl Workshop {
    pub(super) fn new() -> Workshop {
        Workshop(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes a film by arguments for ffmpeg, which may name files of the folder.
    pub(super) fn make(&self, args: &str, name: &str) -> PathBuf {
        let path = self.path(name);
        let status = ffmpeg().args(args.split_whitespace()).arg(&path).current_dir(self.0.path()).status();
        assert!(status.unwrap().success(), "ffmpeg {args}");
        path
    }

    /// The film at `from` with another display matrix.
    pub(super) fn turned(&self, from: &Path, matrix: [i32; 4], name: &str) -> PathBuf {
        let mut bytes = fs::read(from).unwrap();
        // In the track header, the matrix begins 40 bytes after the version.
        let at = bytes.windows(4).position(|four| four == b"tkhd").unwrap() + 4 + 40;
        for (place, value) in [0, 1, 3, 4].into_iter().zip(matrix) {
            bytes[at + 4 * place..][..4].copy_from_slice(&value.to_be_bytes());
        }
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

pub(super) fn ffmpeg() -> Command {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error", "-y"]).stdin(Stdio::null());
    ffmpeg
}

/// A picture in BGR.
pub(super) struct Shown {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) bytes: Vec<u8>,
}

impl Shown {
    /// A picture at its film's own size.
    pub(super) fn of(picture: &SourcePicture) -> Shown {
        let Pixels::Bgr { pixels, .. } = &picture.pixels else { panic!("made for a station") };
        let (width, height) = (pixels.cols() as usize, pixels.rows() as usize);
        Shown { width, height, bytes: pixels.data_bytes().unwrap().to_vec() }
    }

    /// The mean colours of 8 by 6 parts of the picture.
    pub(super) fn parts(&self) -> Vec<[f64; 3]> {
        let mean = |column: usize, row: usize| {
            // One in `step` columns and rows of a large picture is enough.
            let step = self.width.div_ceil(320);
            let columns = (column * self.width / 8..(column + 1) * self.width / 8).step_by(step);
            let rows = (row * self.height / 6..(row + 1) * self.height / 6).step_by(step);
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
    pub(super) fn difference(&self, other: &Shown) -> f64 {
        let parts = self.parts().into_iter().zip(other.parts());
        parts.flat_map(|(a, b)| (0..3).map(move |n| (a[n] - b[n]).abs())).fold(0.0, f64::max)
    }
}

/// The pictures of a film as ffmpeg decodes them, after a filter if there is one.
pub(super) fn reference(film: &Path, filter: &str, (width, height): (usize, usize)) -> Vec<Shown> {
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
pub(super) struct Played {
    pub(super) source: Box<dyn PictureSource>,
    pub(super) pictures: Vec<(Shown, Duration, Option<Duration>)>,
    pub(super) end: Result<(), SourceError>,
}

impl Played {
    /// From the first picture to the end of the last one.
    pub(super) fn length(&self) -> Duration {
        let (_, stamp, lasts) = self.pictures.last().unwrap();
        *stamp + lasts.unwrap_or(self.source.rate().interval()) - self.pictures[0].1
    }

    pub(super) fn facts(&self) -> &Facts {
        self.source.facts().unwrap()
    }
}

pub(super) fn play(film: &Path) -> Played {
    let mut source = open(film).unwrap();
    let mut pictures = Vec::new();
    let end = loop {
        match source.next_picture() {
            Ok(Some(picture)) => {
                pictures.push((Shown::of(&picture), picture.stamp, picture.lasts));
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    Played { source, pictures, end }
}

/// Plays a film whose size is `size` by ffmpeg, and checks each of its pictures.
pub(super) fn plays_as_ffmpeg(film: &Path, size: (usize, usize)) -> Played {
    plays_as(film, "", size)
}

pub(super) fn plays_as(film: &Path, filter: &str, size: (usize, usize)) -> Played {
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
    may_be_made_for_stations(film, 1);
    played
}

/// Checks that the first pictures of a film that are made for a station look on air as those that the encoder scales.
pub(super) fn may_be_made_for_stations(film: &Path, pictures: usize) {
    are_made_alike(film, pictures, MADE);
}

/// As [`may_be_made_for_stations`], with another largest difference.
pub(super) fn are_made_alike(film: &Path, pictures: usize, most: f64) {
    let own = open(film).unwrap();
    let fits = station_size(own.size(), own.pixel_aspect(), 320);
    for station in [fits, Size { width: 192, height: 64 }] {
        let mut sources = [open(film).unwrap(), open(film).unwrap()];
        sources[0].make_for(station);
        let mut encoders = [(); 2].map(|()| Encoder::new(station, 95).unwrap());
        for n in 0..pictures {
            let [Some(made), Some(scaled)] = sources.each_mut().map(|source| source.next_picture().unwrap())
            else {
                return;
            };
            assert_eq!((made.stamp, made.lasts), (scaled.stamp, scaled.lasts));
            let [made, scaled] = [(0, made), (1, scaled)].map(|(place, picture): (usize, SourcePicture)| {
                let encoded = encoders[place].encode(&picture.pixels).unwrap();
                let image =
                    turbojpeg::decompress(&encoded.jpeg.to_jfif(), turbojpeg::PixelFormat::BGR).unwrap();
                Shown { width: image.width, height: image.height, bytes: image.pixels }
            });
            let difference = made.difference(&scaled);
            assert!(difference <= most, "picture {n}, made for {station}, differs by {difference}");
        }
    }
}
