//! Without a window: receive, count, save; or hop from station to station and time it. For tests, scripts
//! and machines without a display.

#![expect(clippy::disallowed_methods, reason = "a shell: it ends after a time")]

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use super::zapper::{CodedPicture, Zapper, ZapperEvent};
use crate::media::StationId;
use crate::screen::Decoder;
use crate::tuner::distribution::Distribution;

/// How long the directory may take to answer at all.
const FIRST_CONTACT: Duration = Duration::from_secs(5);

/// How long one station may take to show a picture before a series of hops fails.
const LONGEST_ZAP: Duration = Duration::from_secs(5);

/// What a viewer stays on a station between two hops: longer than a picture's interval, so that
/// the hops fall at any phase of it.
const DWELL: Duration = Duration::from_millis(45);

/// Pictures the queue of a headless run holds: ten seconds at 25 a second, for a slow disk.
pub const QUEUE: usize = 256;

/// Pictures the meter keeps: eleven hours at 25 a second, 16 MB.
pub const MEASURED: usize = 1_000_000;

/// When a headless run ends, and what it leaves behind.
#[derive(Debug, Clone, Default)]
pub struct HeadlessPlan {
    /// The station.
    pub station: Option<StationId>,
    /// After so long; `None`: no limit.
    pub duration: Option<Duration>,
    /// After so many pictures; `None`: no limit.
    pub pictures: Option<u64>,
    /// A folder for the JPEG files as received.
    pub save: Option<PathBuf>,
    /// A line a second on stderr.
    pub talk: bool,
    /// Turns true when the run is to end before its time: the summary is of what has come by then.
    pub stop: Arc<AtomicBool>,
}

/// What a headless run measured. The names are a contract.
#[derive(Debug, Clone, Serialize)]
pub struct HeadlessSummary {
    /// The station's number.
    pub station: StationId,
    /// The station's name.
    pub name: String,
    /// Its group and port.
    pub group: String,
    /// How long it was received, in seconds, from the first picture's wait on.
    pub seconds: f64,
    /// Whole pictures received.
    pub frames: u64,
    /// Pictures a second, between the first and the last.
    pub fps: f64,
    /// Pictures sent and not received whole.
    pub frames_lost: u64,
    /// Pictures received whole that nobody had time for: saving them took too long. They are not among `frames`.
    pub frames_dropped: u64,
    /// Packets sent and not received.
    pub packets_lost: u64,
    /// Bytes received, of UDP payload.
    pub bytes: u64,
    /// Of the last picture, in pixels.
    pub width: u16,
    /// Of the last picture, in pixels.
    pub height: u16,
    /// From the start of the run to the first picture, in milliseconds.
    pub first_picture_ms: f64,
    /// By how much pictures came after the best one, on the sender's time line.
    #[serde(serialize_with = "brief")]
    pub pacing_us: Distribution,
    /// Between the first packets of pictures that follow each other.
    #[serde(serialize_with = "brief")]
    pub interval_us: Distribution,
}

/// What a series of hops measured. The names are a contract.
#[derive(Debug, Clone, Serialize)]
pub struct ZapSummary {
    /// How many changes of station.
    pub zaps: usize,
    /// From the decision to change until the first picture of the new station is decoded, in milliseconds.
    #[serde(serialize_with = "brief")]
    pub zap_ms: Distribution,
}

/// The keys of a distribution in a summary: a part of those that the probe writes.
fn brief<S: Serializer>(distribution: &Distribution, serializer: S) -> Result<S::Ok, S::Error> {
    let mut keys = serializer.serialize_struct("Distribution", 3)?;
    keys.serialize_field("p50", &distribution.p50)?;
    keys.serialize_field("p99", &distribution.p99)?;
    keys.serialize_field("max", &distribution.max)?;
    keys.end()
}

/// One line for people.
impl fmt::Display for HeadlessSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HeadlessSummary { station, name, group, frames, width, height, seconds, .. } = self;
        write!(
            f,
            "station {station} \"{name}\" on {group}: {frames} pictures of {width}x{height} in {seconds:.1} s"
        )?;
        let HeadlessSummary {
            fps,
            frames_lost,
            frames_dropped,
            pacing_us: Distribution { p50, p99, .. },
            ..
        } = self;
        write!(f, ", {fps:.3} a second, {frames_lost} lost, {frames_dropped} dropped")?;
        write!(f, ", pacing p50 {p50:.0} us, p99 {p99:.0} us")
    }
}

/// One line for people.
impl fmt::Display for ZapSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ZapSummary { zaps, zap_ms: Distribution { p50, p99, max, .. } } = self;
        write!(f, "{zaps} changes of station: p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms")
    }
}

/// Receives one station according to `plan`.
///
/// # Errors
/// No directory, no such station, no picture at all, or a file cannot be written.
pub fn receive(zapper: &mut Zapper, plan: &HeadlessPlan) -> anyhow::Result<HeadlessSummary> {
    let began = Instant::now();
    let mut first_picture = None;
    let mut size = None;
    let mut pictures = 0;
    let mut next_line = began + Duration::from_secs(1);
    // What ends beyond the clock's range does not end.
    let ends = plan.duration.and_then(|duration| began.checked_add(duration));
    if let Some(folder) = &plan.save {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    open(zapper, plan.station)?;
    while !plan.stop.load(Relaxed)
        && plan.pictures.is_none_or(|wanted| pictures < wanted)
        && ends.is_none_or(|ends| Instant::now() < ends)
    {
        let patience = ends.unwrap_or(next_line).min(next_line).saturating_duration_since(Instant::now());
        match zapper.next(patience)? {
            Some(ZapperEvent::Picture { station, picture }) => {
                zapper.shown(station);
                first_picture.get_or_insert_with(|| began.elapsed());
                let CodedPicture::Air(received) = picture else { continue };
                pictures += 1;
                size = Some(received.jpeg.size);
                if let Some(folder) = &plan.save {
                    save(folder, pictures, &received.jpeg.to_jfif())?;
                }
            }
            Some(other) => note(&other)?,
            None => {}
        }
        if Instant::now() >= next_line {
            next_line += Duration::from_secs(1);
            if plan.talk {
                eprintln!("{}", line(zapper));
            }
        }
    }
    let (entry, report) = zapper.on_screen().context("no station was received")?;
    let entry = entry.clone();
    let (Some(first_picture), Some(size)) = (first_picture, size) else {
        let why = report.problem.map_or_else(String::new, |problem| format!(": {problem}"));
        bail!("no picture of station {} \"{}\" on {} came{why}", entry.id, entry.name, entry.group);
    };
    Ok(HeadlessSummary {
        station: entry.id,
        name: entry.name,
        group: entry.group.to_string(),
        seconds: began.elapsed().as_secs_f64(),
        frames: pictures,
        fps: report.reading.rate,
        frames_lost: report.counters.pictures_lost,
        frames_dropped: zapper.dropped(),
        packets_lost: report.counters.packets_lost,
        bytes: report.counters.bytes,
        width: size.width,
        height: size.height,
        first_picture_ms: first_picture.as_secs_f64() * 1e3,
        pacing_us: report.reading.pacing,
        interval_us: report.reading.interval,
    })
}

/// Hops through the line-up `hops` times and times each change.
///
/// # Errors
/// No directory, fewer than two stations, or a station that shows nothing within 5 s.
pub fn zap(zapper: &mut Zapper, first: Option<StationId>, hops: usize) -> anyhow::Result<ZapSummary> {
    open(zapper, first)?;
    let mut decoder = Decoder::new()?;
    let mut nanos = Vec::with_capacity(hops);
    let settle = |zapper: &mut Zapper, decoder: &mut Decoder| -> anyhow::Result<Duration> {
        let ends = Instant::now() + LONGEST_ZAP;
        loop {
            match zapper.next(ends.saturating_duration_since(Instant::now()))? {
                Some(ZapperEvent::Picture { station, picture }) => {
                    // A damaged one shows nothing: the next one ends the change.
                    if decoder.decode(&picture.into_jfif()).is_ok()
                        && let Some(took) = zapper.shown(station)
                    {
                        return Ok(took);
                    }
                }
                Some(other) => note(&other)?,
                None if Instant::now() < ends => {}
                None => bail!("a station showed no picture for {} s", LONGEST_ZAP.as_secs()),
            }
        }
    };
    settle(zapper, &mut decoder)?;
    let ids: Vec<StationId> = zapper.line_up().iter().map(|entry| entry.id).collect();
    ensure!(ids.len() > 1, "hopping needs two stations; the line-up has {}", ids.len());
    let mut at = zapper.station().and_then(|entry| ids.iter().position(|&id| id == entry.id)).unwrap_or(0);
    for _ in 0..hops {
        let until = Instant::now() + DWELL;
        while let Some(output) = zapper.next(until.saturating_duration_since(Instant::now()))? {
            note(&output)?;
        }
        at = (at + 1) % ids.len();
        zapper.tune(ids[at])?;
        nanos.push(settle(zapper, &mut decoder)?.as_nanos() as i64);
    }
    Ok(ZapSummary { zaps: hops, zap_ms: Distribution::of(nanos, 1e6).unwrap_or_default() })
}

/// Waits for the line-up and tunes to `station`, or to the first there is.
fn open(zapper: &mut Zapper, station: Option<StationId>) -> anyhow::Result<()> {
    let ends = Instant::now() + FIRST_CONTACT;
    if let Some(station) = station {
        zapper.tune(station)?;
    }
    let mut lost = String::from("it does not answer");
    while zapper.line_up().is_empty() {
        match zapper.next(ends.saturating_duration_since(Instant::now()))? {
            Some(ZapperEvent::DirectoryLost { reason, .. }) => lost = reason,
            Some(_) => {}
            None => bail!("no directory within {} s: {lost}", FIRST_CONTACT.as_secs()),
        }
    }
    if station.is_none() {
        zapper.tune(zapper.line_up()[0].id)?;
    }
    Ok(())
}

fn note(output: &ZapperEvent) -> anyhow::Result<()> {
    match output {
        ZapperEvent::NoSuchStation(id) => bail!("the line-up has no station {id}; --list shows those it has"),
        ZapperEvent::DirectoryLost { reason, .. } => tracing::warn!("directory lost: {reason}"),
        _ => {}
    }
    Ok(())
}

fn save(folder: &Path, number: u64, jpeg: &[u8]) -> anyhow::Result<()> {
    let path = folder.join(format!("frame-{number:06}.jpg"));
    fs::write(&path, jpeg).with_context(|| format!("cannot write {}", path.display()))
}

fn line(zapper: &Zapper) -> String {
    let Some((entry, report)) = zapper.on_screen() else {
        return "waiting for the directory".into();
    };
    let (counters, reading) = (report.counters, report.reading);
    let name = format!("station {} \"{}\" on {}", entry.id, entry.name, entry.group);
    match report.problem {
        Some(problem) => format!("{name}: nothing comes: {problem}"),
        None => format!(
            "{name}: {} pictures, {:.3} a second, {} lost, {} dropped, pacing p99 {:.0} us",
            counters.pictures,
            reading.rate,
            counters.pictures_lost,
            zapper.dropped(),
            reading.pacing.p99
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_has_the_keys_that_scripts_read() {
        let zap_ms = Distribution::of(vec![4_000_000, 6_000_000], 1e6).unwrap();
        let json = serde_json::to_string(&ZapSummary { zaps: 2, zap_ms }).unwrap();
        assert_eq!(json, r#"{"zaps":2,"zap_ms":{"p50":4.0,"p99":6.0,"max":6.0}}"#);
    }
}
