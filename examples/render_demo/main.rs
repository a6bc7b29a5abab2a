//! Renders the demo clips of `media/`: three stations whose pictures and sound are made in code, encoded by `ffmpeg` children.
//!
//! ```text
//! cargo run --release --example render_demo -- [--sound] [OUTDIR]
//! ```
//!
//! With `--sound` only the sound is made anew: the pictures are copied, bit for bit, from the clips that are there.
//!
//! Every picture shows its station's name, the film's clock and its own number. It also has the number as a strip, for programs
//! (`examples/strip/mod.rs`). The period of every motion divides the film, so that the loop point is invisible.
//! The sound (`sound.rs`) joins itself in the same way. It has a soft tick at each picture on which the film's clock reaches a
//! full second, so that an ear and an eye can tell whether both are in step.

mod canvas;
mod lettering;
mod nature;
mod ocean;
mod sound;
mod space;
#[path = "../strip/mod.rs"]
mod strip;

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use canvas::{Canvas, HEIGHT, Rgb, WIDTH, rgb};
use lettering::Pen;
use sound::{Round, Tick};

/// One clip.
struct Film {
    station: u8,
    name: &'static str,
    file: &'static str,
    /// Pictures a second, as a fraction.
    rate: (u32, u32),
    pictures: u16,
    /// x264's quality, where lower is better: the best that fits a megabyte.
    crf: u8,
    /// Draws the scene at a share of the film, 0 to 1; 1 would be 0 again.
    scene: fn(&mut Canvas, f32),
    /// Adds the scene's sound to a silent round.
    sound: fn(&mut Round),
    tick: Tick,
}

const WHITE: Rgb = rgb(0xffffff);
const SMALL: Pen = Pen { height: 11.0, half_width: 0.85, spacing: 0.34, colour: WHITE };
const BIG: Pen = Pen { height: 38.0, half_width: 2.6, spacing: 0.32, colour: WHITE };
const CLOCK: Pen = Pen { height: 25.0, half_width: 1.5, spacing: 0.26, colour: WHITE };

const FILMS: [Film; 3] = [
    Film {
        station: 1,
        name: "OCEAN",
        file: "ocean.mp4",
        rate: (25, 1),
        pictures: 600,
        crf: 23,
        scene: ocean::draw,
        sound: sound::ocean,
        tick: Tick { hertz: 520.0, decay: 0.030, level: 0.10 },
    },
    Film {
        station: 2,
        name: "NATURE",
        file: "nature.mp4",
        rate: (30_000, 1001),
        pictures: 720,
        crf: 26,
        scene: nature::draw,
        sound: sound::nature,
        tick: Tick { hertz: 780.0, decay: 0.016, level: 0.10 },
    },
    Film {
        station: 3,
        name: "SPACE",
        file: "space.mp4",
        rate: (24_000, 1001),
        pictures: 576,
        crf: 22,
        scene: space::draw,
        sound: sound::space,
        tick: Tick { hertz: 1_318.5, decay: 0.022, level: 0.07 },
    },
];

fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let sound_only = arguments.first().is_some_and(|first| first == "--sound");
    if sound_only {
        arguments.remove(0);
    }
    let folder = PathBuf::from(arguments.into_iter().next().unwrap_or_else(|| "media".into()));
    match render_all(&folder, sound_only) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("render_demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn render_all(folder: &Path, sound_only: bool) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for film in &FILMS {
        let path = folder.join(film.file);
        // The pictures are encoded to a file of their own, and stay as they are when the sound is put to them.
        let mute = path.with_extension("mute.mp4");
        if sound_only {
            std::fs::copy(&path, &mute).with_context(|| format!("cannot copy {}", path.display()))?;
        } else {
            encode(picture_encoder(film, &mute), &mute, |pipe| draw_all(film, pipe))?;
        }
        encode(sound_encoder(&mute, &path), &path, |pipe| pipe.write_all(&compose(film).to_s16le()))?;
        std::fs::remove_file(&mute).with_context(|| format!("cannot remove {}", mute.display()))?;
        let bytes = std::fs::metadata(&path).with_context(|| format!("{}", path.display()))?.len();
        println!("{}: {} pictures, {bytes} bytes", path.display(), film.pictures);
    }
    Ok(())
}

/// Starts the encoder that makes `path`, and writes what it encodes into it.
fn encode(
    mut encoder: Command,
    path: &Path,
    write: impl FnOnce(&mut ChildStdin) -> io::Result<()>,
) -> Result<()> {
    let mut ffmpeg = match encoder.stdin(Stdio::piped()).spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!(
                "ffmpeg is not installed, or not in the PATH; it encodes the clips, so install it and try again"
            )
        }
        spawned => spawned.context("cannot start ffmpeg")?,
    };
    let mut pipe = ffmpeg.stdin.take().context("ffmpeg has no standard input")?;
    let written = write(&mut pipe);
    drop(pipe);
    // If the encoder has failed, its status says more than the broken pipe.
    let status = ffmpeg.wait().context("cannot wait for ffmpeg")?;
    if !status.success() {
        bail!("ffmpeg could not encode {}: it ended with {status}", path.display());
    }
    written.map_err(|error| anyhow::anyhow!("ffmpeg stopped reading: {error}"))
}

/// Draws every picture of a film into `pipe`.
fn draw_all(film: &Film, pipe: &mut ChildStdin) -> io::Result<()> {
    let (mut canvas, mut bytes) = (Canvas::new(), Vec::new());
    (0..film.pictures).try_for_each(|number| {
        draw(film, number, &mut canvas, &mut bytes);
        pipe.write_all(&bytes)
    })
}

/// The sound of one film, exactly as long as its pictures.
fn compose(film: &Film) -> Round {
    let (num, den) = film.rate;
    let sample_of = |picture: u32| picture as usize * (sound::RATE * den) as usize / num as usize;
    let mut round = Round::new(sample_of(film.pictures.into()));
    (film.sound)(&mut round);
    // The first pictures whose clock shows a new second, without one in the last half second, as the next round begins with a tick.
    let pictures = u32::from(film.pictures);
    let seconds = (0..).map(|second: u32| (second * num).div_ceil(den));
    let ticks = seconds.take_while(|picture| (pictures - picture.min(&pictures)) * den * 2 > num);
    round.tick(ticks.map(sample_of), &film.tick);
    round
}

fn picture_encoder(film: &Film, path: &Path) -> Command {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-hide_banner", "-loglevel", "warning", "-y"])
        .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", &format!("{WIDTH}x{HEIGHT}")])
        .args(["-framerate", &format!("{}/{}", film.rate.0, film.rate.1), "-i", "-"])
        .args(["-c:v", "libx264", "-preset", "slow", "-tune", "animation"])
        .args(["-crf", &film.crf.to_string(), "-pix_fmt", "yuv420p"])
        // No date and no version of the muxer in the file, so that it changes only with its pictures.
        .args(["-fflags", "+bitexact", "-flags:v", "+bitexact", "-movflags", "+faststart"])
        .arg(path);
    command
}

/// Puts the sound of its standard input to the pictures of `mute`.
fn sound_encoder(mute: &Path, path: &Path) -> Command {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-hide_banner", "-loglevel", "error", "-y", "-i"])
        .arg(mute)
        .args(["-f", "s16le", "-ar", &sound::RATE.to_string(), "-ac", "2", "-i", "-"])
        .args(["-map", "0:v", "-c:v", "copy", "-map", "1:a", "-c:a", "aac", "-b:a", "128k"])
        .args(["-fflags", "+bitexact", "-flags:a", "+bitexact", "-movflags", "+faststart"])
        .arg(path);
    command
}

/// One picture as `rgb24`: the scene, the lettering, the strip.
fn draw(film: &Film, number: u16, canvas: &mut Canvas, bytes: &mut Vec<u8>) {
    (film.scene)(canvas, f32::from(number) / f32::from(film.pictures));

    let (num, den) = film.rate;
    let centiseconds = u32::from(number) * den * 100 / num;
    let (seconds, centis) = (centiseconds / 100, centiseconds % 100);
    let clock = format!("{:02}:{:02}.{centis:02}", seconds / 60, seconds % 60);
    let (station, picture) = (format!("STATION {}", film.station), format!("PICTURE {number:05}"));
    SMALL.write(canvas, &station, [27.0, 22.0]);
    BIG.write(canvas, film.name, [27.0, 44.0]);
    SMALL.write(canvas, &picture, [27.0, 318.0]);
    CLOCK.write(canvas, &clock, [468.0, 304.0]);

    canvas.to_rgb24(bytes);
    let cells = strip::cells(film.station, number);
    for y in strip::rows(HEIGHT) {
        for (cell, &lit) in cells.iter().enumerate() {
            let columns = strip::columns(cell, WIDTH);
            bytes[(y * WIDTH + columns.start) * 3..(y * WIDTH + columns.end) * 3].fill(255 * u8::from(lit));
        }
    }
}
