//! Renders the demo clips of `media/`: three stations drawn in code, encoded by an `ffmpeg` child.
//!
//! ```text
//! cargo run --release --example render_demo -- [OUTDIR]
//! ```
//!
//! Every picture shows its station's name, the film's clock and its own number. It also has the number as a strip, for programs
//! (`examples/strip/mod.rs`). The period of every motion divides the film, so that the loop point is invisible.

mod canvas;
mod lettering;
mod nature;
mod ocean;
mod space;
#[path = "../strip/mod.rs"]
mod strip;

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use canvas::{Canvas, HEIGHT, Rgb, WIDTH, rgb};
use lettering::Pen;

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
    },
    Film {
        station: 2,
        name: "NATURE",
        file: "nature.mp4",
        rate: (30_000, 1001),
        pictures: 720,
        crf: 26,
        scene: nature::draw,
    },
    Film {
        station: 3,
        name: "SPACE",
        file: "space.mp4",
        rate: (24_000, 1001),
        pictures: 576,
        crf: 22,
        scene: space::draw,
    },
];

fn main() -> ExitCode {
    let folder = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| "media".into()));
    match render_all(&folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("render_demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn render_all(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for film in &FILMS {
        let path = folder.join(film.file);
        render(film, &path)?;
        let bytes = std::fs::metadata(&path).with_context(|| format!("{}", path.display()))?.len();
        println!("{}: {} pictures, {bytes} bytes", path.display(), film.pictures);
    }
    Ok(())
}

/// Draws one film and pipes it through ffmpeg into `path`.
fn render(film: &Film, path: &Path) -> Result<()> {
    let mut ffmpeg = match encoder(film, path).spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!(
                "ffmpeg is not installed, or not in the PATH; it encodes the clips, so install it and try again"
            )
        }
        spawned => spawned.context("cannot start ffmpeg")?,
    };
    let mut pipe = ffmpeg.stdin.take().context("ffmpeg has no standard input")?;
    let written = (0..film.pictures).try_for_each({
        let (mut canvas, mut bytes) = (Canvas::new(), Vec::new());
        move |number| {
            draw(film, number, &mut canvas, &mut bytes);
            pipe.write_all(&bytes)
        }
    });
    // If the encoder has failed, its status says more than the broken pipe.
    let status = ffmpeg.wait().context("cannot wait for ffmpeg")?;
    if !status.success() {
        bail!("ffmpeg could not encode {}: it ended with {status}", path.display());
    }
    written.map_err(|error: io::Error| anyhow::anyhow!("ffmpeg stopped reading: {error}"))
}

fn encoder(film: &Film, path: &Path) -> Command {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-hide_banner", "-loglevel", "warning", "-y"])
        .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", &format!("{WIDTH}x{HEIGHT}")])
        .args(["-framerate", &format!("{}/{}", film.rate.0, film.rate.1), "-i", "-"])
        .args(["-c:v", "libx264", "-preset", "slow", "-tune", "animation"])
        .args(["-crf", &film.crf.to_string(), "-pix_fmt", "yuv420p"])
        // No date and no version of the muxer in the file, so that it changes only with its pictures.
        .args(["-fflags", "+bitexact", "-flags:v", "+bitexact", "-movflags", "+faststart"])
        .arg(path)
        .stdin(Stdio::piped());
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
