//! Films for the tests: each picture carries its station and its number in the strip of the demo clips.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use super::harness::{scratch, text};
use super::picture::Picture;
use super::strip;

/// A film whose pictures are numbered from 0.
#[derive(Debug, Clone)]
pub(crate) struct Film {
    pub(crate) path: PathBuf,
    /// The station in its strip.
    pub(crate) station: u8,
    pub(crate) pictures: u16,
    /// Pictures a second, as a fraction.
    pub(crate) rate: (u32, u32),
}

/// Held while a film is made, so that each is made once.
static MAKING: Mutex<()> = Mutex::new(());

/// 50 pictures of 640x360 at 25 a second: 2 s.
pub(crate) fn pal(station: u8) -> Film {
    numbered(station, (640, 360), (25, 1), 50)
}

/// 60 pictures of 640x360 at 30000/1001 a second: 2.002 s.
pub(crate) fn ntsc(station: u8) -> Film {
    numbered(station, (640, 360), (30_000, 1001), 60)
}

/// A film with numbered pictures: H.264 with B-frames, in MP4.
pub(crate) fn numbered(
    station: u8,
    (width, height): (usize, usize),
    rate: (u32, u32),
    pictures: u16,
) -> Film {
    let _making = MAKING.lock().unwrap();
    let name = format!("numbered-{station}-{width}x{height}-{}-{}-{pictures}.mp4", rate.0, rate.1);
    let path = scratch().join(name);
    let film = Film { path: path.clone(), station, pictures, rate };
    if path.exists() {
        return film;
    }
    let (size, rate) = (format!("{width}x{height}"), format!("{}/{}", rate.0, rate.1));
    let mut ffmpeg = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", &size, "-r", &rate, "-i", "-"])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-crf", "14", "-y", text(&path)])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = ffmpeg.stdin.take().unwrap();
    for number in 0..pictures {
        pipe.write_all(&paint(station, number, width, height)).unwrap();
    }
    drop(pipe);
    assert!(ffmpeg.wait().unwrap().success());
    film
}

/// A picture as planar 4:2:0: waves that move, colours that change, and the strip. All colours are within RGB, so that no
/// conversion clips any.
fn paint(station: u8, number: u16, width: usize, height: usize) -> Vec<u8> {
    let phase = f32::from(number) * 0.25;
    let mut luma = waves((width, height), (120.0 + f32::from(station), 48.0), (3.1, 4.3), phase);
    for y in strip::rows(height) {
        for (cell, lit) in strip::cells(station, number).into_iter().enumerate() {
            luma[y * width..][strip::columns(cell, width)].fill(if lit { 235 } else { 16 });
        }
    }
    let half = (width / 2, height / 2);
    luma.extend(waves(half, (128.0, 24.0), (60.0, 40.0), phase / 4.0));
    luma.extend(waves(half, (128.0, 24.0), (35.0, 90.0), phase / 6.0));
    luma
}

/// A plane of waves: a level, plus or minus an amplitude.
fn waves(size: (usize, usize), (level, amplitude): (f32, f32), periods: (f32, f32), phase: f32) -> Vec<u8> {
    let wave = |length: usize, period: f32, phase: f32| {
        (0..length).map(move |at| (at as f32 / period + phase).sin())
    };
    let across: Vec<f32> = wave(size.0, periods.0, phase).collect();
    let sample = |y: f32| across.iter().map(move |x| (level + amplitude * x * y) as u8);
    wave(size.1, periods.1, -phase).flat_map(sample).collect()
}

/// Makes a file with ffmpeg, by these arguments and the file's path.
pub(crate) fn ffmpeg(args: &str, path: &Path) {
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-y"])
        .args(args.split_whitespace())
        .arg(path)
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "ffmpeg {args}");
}

impl Film {
    /// Checks that `pictures` are this film's, in their order, over any number of rounds. Returns how many are missing in
    /// between, not counting whole rounds.
    pub(crate) fn check_order<'a>(&self, pictures: impl IntoIterator<Item = &'a Picture>) -> u64 {
        self.check_numbers(pictures.into_iter().map(Picture::strip))
    }

    /// As [`check_order`](Self::check_order); one in twenty may be missing, since a busy machine skips late pictures.
    pub(crate) fn check_most(&self, pictures: &[Picture]) {
        let missing = self.check_order(pictures);
        assert!(missing <= pictures.len() as u64 / 20, "{missing} pictures are missing");
    }

    /// Its pictures, decoded by ffmpeg, in the full range of JPEG. A temporary file is put into `folder`.
    pub(crate) fn decoded(&self, folder: &Path, (width, height): (usize, usize)) -> Vec<Picture> {
        let file = folder.join("film");
        let planes =
            format!("-i {} -vf scale=out_range=full -pix_fmt yuvj420p -f rawvideo", text(&self.path));
        ffmpeg(&planes, &file);
        Picture::all_of_i420(&file, width, height)
    }

    /// As [`check_order`](Self::check_order), by the numbers that were read from the strips.
    pub(crate) fn check_numbers(&self, strips: impl IntoIterator<Item = Option<(u8, u16)>>) -> u64 {
        let mut last = None;
        let mut missing = 0;
        for (at, strip) in strips.into_iter().enumerate() {
            let (station, number) =
                strip.unwrap_or_else(|| panic!("no strip in picture {at}, after {last:?}"));
            assert_eq!(station, self.station, "picture {at} is another station's");
            assert!(number < self.pictures, "picture {at} says {number} of {}", self.pictures);
            if let Some(last) = last {
                let step = (number + self.pictures - last) % self.pictures;
                assert_ne!(step, 0, "picture {at} shows {number} again");
                missing += u64::from(step) - 1;
            }
            last = Some(number);
        }
        assert!(last.is_some(), "no pictures");
        missing
    }
}
