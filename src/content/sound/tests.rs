//! Films with known sound, from FFmpeg: what comes out of the decoder is compared with what went in.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use opus::{Channels, Decoder};
use tempfile::TempDir;

use super::line::{SoundCue, SoundLine};
use super::make::{SoundOrder, make};
use super::reel::SoundReel;
use super::source::SoundSource;
use super::{CHANNELS, RATE};
use crate::lineup::SoundChoice;
use crate::media::{AirTime, Payload};

/// Makes a film by FFmpeg, from the arguments behind its inputs and before its name.
fn film(folder: &TempDir, name: &str, args: &[&str]) -> PathBuf {
    let path = folder.path().join(name);
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-y"])
        .args(args)
        .arg(&path)
        .output()
        .expect("ffmpeg runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    path
}

const PICTURES: &[&str] = &["-f", "lavfi", "-i", "testsrc=s=64x64:r=25:d=4"];

fn order(length: Duration) -> SoundOrder {
    SoundOrder {
        choice: SoundChoice::Auto,
        length: SoundOrder::samples(length),
        bitrate: 128_000,
        loudness: false,
    }
}

fn reel(path: &Path, order: &SoundOrder) -> Arc<SoundReel> {
    let file = tempfile::tempfile().unwrap();
    assert!(make(path, order, &file).unwrap().is_some(), "{} has sound", path.display());
    Arc::new(SoundReel::from_file(file).unwrap())
}

/// What a receiver hears of `rounds` rounds of a film: the left channel. Sample 0 is due at `begin`.
fn heard(reel: &Arc<SoundReel>, begin: AirTime, rounds: u32) -> Vec<f32> {
    let mut line = SoundLine::default();
    line.skip_to(begin);
    let mut decoder = Decoder::new(RATE, Channels::Stereo).unwrap();
    let mut samples = Vec::new();
    let mut expected = line.due();
    for round in 0..rounds {
        let start = begin + reel.length() * round;
        line.set(Some(SoundCue::Film { begin: start, reel: reel.clone() }));
        while let Some(unit) = line.next(start + reel.length(), start) {
            let unit = unit.unwrap();
            assert_eq!(unit.due.at, expected, "no gap");
            expected = unit.due.at + unit.due.interval;
            let Payload::Opus(packet) = &unit.payload else { panic!() };
            let mut decoded = vec![0.0; 5760 * CHANNELS];
            let count = decoder.decode_float(packet, &mut decoded, false).unwrap();
            samples.extend(decoded[..count * CHANNELS].iter().step_by(CHANNELS));
        }
    }
    samples
}

const BEGIN: AirTime = AirTime(1_790_000_000_000_000_000);

/// The times, in seconds, at which a loud part begins after a quiet one.
fn beeps(samples: &[f32]) -> Vec<f64> {
    let (mut found, mut quiet) = (Vec::new(), 4800);
    for (n, sample) in samples.iter().enumerate() {
        if sample.abs() > 0.1 {
            if quiet >= 4800 {
                found.push(n as f64 / f64::from(RATE));
            }
            quiet = 0;
        } else {
            quiet += 1;
        }
    }
    found
}

/// A beep of 50 ms at each full second.
const BEEPS: &str = "aevalsrc='0.5*sin(2*PI*1000*t)*lt(mod(t,1),0.05)':s=48000:d=4";

#[test]
fn a_beep_is_heard_at_the_second_at_which_the_film_has_it() {
    let folder = TempDir::new().unwrap();
    let input = |expr: &'static str| [PICTURES, &["-f", "lavfi", "-i", expr]].concat();
    let h264: &[&str] = &["-c:v", "libx264", "-bf", "2", "-pix_fmt", "yuv420p"];
    let films = [
        film(&folder, "aac.mp4", &[&input(BEEPS), h264, &["-c:a", "aac"]].concat()),
        film(&folder, "mp3.mp4", &[&input(BEEPS), h264, &["-c:a", "libmp3lame"]].concat()),
        film(&folder, "opus.mkv", &[&input(BEEPS), h264, &["-c:a", "libopus"]].concat()),
        film(&folder, "pcm.mov", &[&input(BEEPS), h264, &["-c:a", "pcm_s16le", "-ac", "1"]].concat()),
        film(&folder, "44.mp4", &[&input(BEEPS), h264, &["-c:a", "aac", "-ar", "44100"]].concat()),
        film(&folder, "22.mkv", &[&input(BEEPS), h264, &["-c:a", "libvorbis", "-ar", "22050"]].concat()),
        film(&folder, "surround.mkv", &[&input(BEEPS), h264, &["-c:a", "ac3", "-ac", "6"]].concat()),
        film(&folder, "b.ts", &[&input(BEEPS), h264, &["-c:a", "aac"]].concat()),
        // Nothing says which channels these have.
        film(
            &folder,
            "windows.wmv",
            &[&input(BEEPS)[..], &["-c:v", "wmv2", "-c:a", "wmav2", "-ac", "2"]].concat(),
        ),
        film(
            &folder,
            "camera.avi",
            &[&input(BEEPS)[..], &["-c:v", "mpeg4", "-c:a", "adpcm_ima_wav"]].concat(),
        ),
    ];
    for film in films {
        let reel = reel(&film, &order(Duration::from_secs(4)));
        let found = beeps(&heard(&reel, BEGIN, 2));
        assert_eq!(found.len(), 8, "{}: {found:?}", film.display());
        for (second, at) in found.iter().enumerate() {
            // FFmpeg's muxer puts the picture 7 ms behind the sound there, which is what Opus needs to start.
            let written = if film.ends_with("opus.mkv") { -0.0065 } else { 0.0 };
            let off = at - second as f64 - written;
            // It begins before the round, or in the first block of Windows Media, which decoders leave out.
            if (written != 0.0 || film.ends_with("windows.wmv")) && second % 4 == 0 {
                continue;
            }
            assert!((-0.003..0.003).contains(&off), "{}: {found:?}", film.display());
        }
    }
}

#[test]
fn sound_that_starts_later_or_earlier_than_the_picture_keeps_its_place() {
    let folder = TempDir::new().unwrap();
    for (offset, first) in [("0.2", 0.2), ("-0.2", 0.8)] {
        let name = format!("{offset}.mkv");
        let args = [PICTURES, &["-itsoffset", offset, "-f", "lavfi", "-i", BEEPS]].concat();
        let tail: &[&str] = &["-c:v", "libx264", "-c:a", "flac"];
        let film = film(&folder, &name, &[&args, tail].concat());
        let mut source = SoundSource::open(&film, &SoundChoice::Auto).unwrap().unwrap();
        let mut left = Vec::new();
        while let Some(samples) = source.next() {
            left.extend(samples.iter().step_by(CHANNELS));
        }
        let found = beeps(&left);
        // FFmpeg moves a film whose first stamp is negative, so that the picture starts at 0.2 s: what counts is the distance.
        assert!((found[0] - first).abs() < 0.003, "{offset}: {found:?}");
    }
}

/// The residual of a sine after the best sine of its frequency is taken away, over the samples given: relative power in dB.
fn residual(samples: &[f32], frequency: f64) -> f64 {
    let (mut cc, mut ss, mut cs, mut xc, mut xs, mut xx) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    let terms = || {
        samples.iter().enumerate().map(|(n, &x)| {
            let phase = 2.0 * std::f64::consts::PI * frequency * n as f64 / f64::from(RATE);
            (f64::from(x), phase.cos(), phase.sin())
        })
    };
    for (x, c, s) in terms() {
        cc += c * c;
        ss += s * s;
        cs += c * s;
        xc += x * c;
        xs += x * s;
        xx += x * x;
    }
    let det = cc * ss - cs * cs;
    let (a, b) = ((xc * ss - xs * cs) / det, (xs * cc - xc * cs) / det);
    let rest: f64 = terms().map(|(x, c, s)| (x - a * c - b * s).powi(2)).sum();
    10.0 * (rest / xx).log10()
}

#[test]
fn nothing_is_heard_where_a_round_begins_anew() {
    let folder = TempDir::new().unwrap();
    // 440 Hz goes through the seam without a jump: 4 s are 1760 periods, and 3.975 s, which is no multiple of 20 ms, are 1749.
    for length in [Duration::from_secs(4), Duration::from_millis(3975)] {
        let sine = format!("aevalsrc='0.3*sin(2*PI*440*t)':s=48000:d={}", length.as_secs_f64());
        let args: &[&str] = &["-f", "lavfi", "-i", &sine, "-c:v", "libx264", "-c:a", "pcm_s16le"];
        let film = film(&folder, &format!("{}.mkv", length.as_millis()), &[PICTURES, args].concat());
        let reel = reel(&film, &order(length));
        let samples = heard(&reel, BEGIN, 3);
        let seam = (length.as_secs_f64() * f64::from(RATE)) as usize;
        let window = |centre: usize| residual(&samples[centre - 4800..centre + 4800], 440.0);
        let (middle, seams) = (window(seam / 2), [window(seam), window(2 * seam)]);
        for found in seams {
            assert!(found < middle + 3.0, "{length:?}: {seams:?} dB at the seams, {middle} dB in the middle");
        }
        assert!(middle < -40.0, "{middle} dB");
    }
}

#[test]
fn a_thousand_rounds_of_an_odd_length_keep_sound_and_picture_together() {
    let folder = TempDir::new().unwrap();
    let args: &[&str] = &["-f", "lavfi", "-i", BEEPS, "-c:v", "libx264", "-c:a", "pcm_s16le"];
    let film = film(&folder, "beeps.mkv", &[PICTURES, args].concat());
    let length = Duration::from_nanos(1_234_567_891);
    let reel = reel(&film, &order(length));
    let mut line = SoundLine::default();
    line.skip_to(BEGIN);
    for round in 0..1000 {
        let start = BEGIN + length * round;
        line.set(Some(SoundCue::Film { begin: start, reel: reel.clone() }));
        assert!(line.due().signed_since(start).abs() <= 1_300_000, "round {round}");
        let mut next = line.due();
        while let Some(unit) = line.next(start + length, start) {
            let unit = unit.unwrap();
            assert_eq!(unit.due.at, next);
            next = unit.due.at + unit.due.interval;
        }
    }
}

#[test]
fn films_are_brought_to_one_loudness() {
    let folder = TempDir::new().unwrap();
    for (volume, length) in [("0.02", 4), ("0.9", 4)] {
        let noise = format!("anoisesrc=a={volume}:c=pink:r=48000:d=4:seed=7");
        let args: &[&str] = &["-f", "lavfi", "-i", &noise, "-c:v", "libx264", "-c:a", "aac", "-ac", "2"];
        let film = film(&folder, &format!("{volume}.mp4"), &[PICTURES, args].concat());
        let order = SoundOrder { loudness: true, ..order(Duration::from_secs(length)) };
        let reel = reel(&film, &order);
        let mut meter = ebur128::EbuR128::new(1, RATE, ebur128::Mode::I | ebur128::Mode::TRUE_PEAK).unwrap();
        meter.set_channel(0, ebur128::Channel::DualMono).unwrap();
        meter.add_frames_f32(&heard(&reel, BEGIN, 2)).unwrap();
        let (loudness, peak) = (meter.loudness_global().unwrap(), 20.0 * meter.true_peak(0).unwrap().log10());
        let header = reel.header();
        assert!((loudness + 23.0).abs() < 0.5 && peak < -1.0, "{loudness} LUFS, {peak} dBTP: {header:?}");
    }
}

#[test]
fn a_silent_track_is_silence_and_not_damage() {
    let folder = TempDir::new().unwrap();
    let args: &[&str] =
        &["-f", "lavfi", "-i", "anullsrc=r=48000:d=4", "-c:v", "libx264", "-c:a", "aac", "-shortest"];
    let film = film(&folder, "silent.mp4", &[PICTURES, args].concat());
    let order = SoundOrder { loudness: true, ..order(Duration::from_secs(4)) };
    let heard = heard(&reel(&film, &order), BEGIN, 1);
    assert!(heard.len() == 4 * RATE as usize && heard.iter().all(|sample| sample.abs() < 1e-4));
}

#[test]
fn a_damaged_sound_track_is_silent_where_it_is_damaged() {
    let folder = TempDir::new().unwrap();
    let args: &[&str] =
        &["-f", "lavfi", "-i", BEEPS, "-c:v", "libx264", "-c:a", "libmp3lame", "-cluster_time_limit", "500"];
    let whole = film(&folder, "whole.mkv", &[PICTURES, args].concat());
    let mut bytes = std::fs::read(&whole).unwrap();
    // A quarter of the file in its middle: pictures and sound there are lost, and what follows keeps its time.
    let (from, to) = (bytes.len() * 3 / 8, bytes.len() * 5 / 8);
    bytes[from..to].iter_mut().for_each(|byte| *byte = 0x55);
    let damaged = folder.path().join("damaged.mkv");
    std::fs::write(&damaged, bytes).unwrap();
    let found = beeps(&heard(&reel(&damaged, &order(Duration::from_secs(4))), BEGIN, 1));
    assert!(found.first().is_some_and(|at| at.abs() < 0.003), "{found:?}");
    assert!(found.last().is_some_and(|at| (at - 3.0).abs() < 0.003), "{found:?}");
}

/// The folder of the sound files may be on a file system that cannot tell what is in memory, as tmpfs, which /tmp often is.
#[test]
#[expect(clippy::disallowed_methods, reason = "a test waits for a thread, and not for ever")]
fn sound_is_heard_from_any_file_system() {
    let folder = TempDir::new().unwrap();
    let args: &[&str] = &["-f", "lavfi", "-i", BEEPS, "-c:v", "libx264", "-c:a", "pcm_s16le"];
    let film = film(&folder, "beeps.mkv", &[PICTURES, args].concat());
    let order = order(Duration::from_secs(4));
    let file =
        std::fs::File::from(rustix::fs::memfd_create("sound", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    assert!(make(&film, &order, &file).unwrap().is_some());
    let in_memory = Arc::new(SoundReel::from_file(file).unwrap());
    let began = std::time::Instant::now();
    let heard = |reel: &Arc<SoundReel>| heard(reel, BEGIN, 1);
    while beeps(&heard(&in_memory)).len() < 4 {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing is heard");
        std::thread::yield_now();
    }
    assert_eq!(heard(&in_memory), heard(&reel(&film, &order)));
}
