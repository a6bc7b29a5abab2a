//! Runs without a window: one receives a station, counts and saves its pictures; the other zaps through the line-up and
//! times each change. For tests, scripts and machines without a display.

#![expect(clippy::disallowed_methods, reason = "a shell: it ends after a time")]

mod verdict;

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use self::verdict::subject;
use super::showing::Showing;
pub use super::signal_log::Signal;
use super::signal_log::SignalLog;
use super::talk::{Said, Talk};
use super::zapper::{CodedPicture, SignalState, Zapper, ZapperEvent};
use crate::clock::wall_clock;
use crate::conflict::addresses;
use crate::media::StationId;
use crate::screen::Decoder;
use crate::speaker::Speaker;
use crate::tuner::distribution::Distribution;

/// Timeout for the directory's first answer.
const FIRST_CONTACT: Duration = Duration::from_secs(5);

/// Longest change of station; a longer one fails the series.
const LONGEST_ZAP: Duration = Duration::from_secs(5);

/// Time on a station between two changes: longer than the interval of pictures, so that changes fall into any phase of
/// it.
const DWELL: Duration = Duration::from_millis(45);

/// Longest wait for the sound of a station that has some.
const LONGEST_SOUND: Duration = Duration::from_secs(1);

/// Most pictures queued in a headless run: ten seconds at 25 a second, for a slow disk.
pub const QUEUE: usize = 256;

/// Number of pictures measured: eleven hours at 25 a second, 16 MB.
pub const MEASURED: usize = 1_000_000;

/// Plan of a headless run: its station, its end, its output.
#[derive(Debug, Clone, Default)]
pub struct HeadlessPlan {
    /// The station; `None`: the first of the line-up.
    pub station: Option<StationId>,
    /// Ends after this long; `None`: no limit.
    pub duration: Option<Duration>,
    /// Ends after this many pictures; `None`: no limit.
    pub pictures: Option<u64>,
    /// Folder for the JPEG files as received; `None`: they are not saved.
    pub save: Option<PathBuf>,
    /// Whether times.csv beside the saved pictures tells when each was shown.
    pub times: bool,
    /// Whether figures are written to stderr meanwhile.
    pub talk: bool,
    /// Ends the run early when it becomes true; the summary covers the run until then.
    pub stop: Arc<AtomicBool>,
}

/// Result of a headless run. The names are a contract.
#[derive(Debug, Clone, Serialize)]
pub struct HeadlessSummary {
    /// The station's number; `None` of a stream that no directory lists.
    pub station: Option<StationId>,
    /// The station's name.
    pub name: String,
    /// The station's group and port.
    pub group: String,
    /// What came from the station at the end of the run.
    pub state: Signal,
    /// Why the station was lost at the end, or the reason of its slate; `None` if unknown.
    pub reason: Option<String>,
    /// Pauses of more than two seconds without a picture, in all, in seconds.
    pub silent_s: f64,
    /// How long pictures of the station's slate came, in seconds, as far as the directory told of it.
    pub slate_s: f64,
    /// The pause at the end, in seconds.
    #[serde(skip)]
    pub lost_s: f64,
    /// Length of the run, in seconds.
    pub seconds: f64,
    /// Whole pictures received.
    pub frames: u64,
    /// Pictures a second, between the first and the last.
    pub fps: f64,
    /// Pictures sent and not received whole.
    pub frames_lost: u64,
    /// Whole pictures dropped because saving was too slow. They are not among `frames`.
    pub frames_dropped: u64,
    /// Packets sent and not received.
    pub packets_lost: u64,
    /// UDP payload bytes received.
    pub bytes: u64,
    /// Width of the last picture, in pixels.
    pub width: u16,
    /// Height of the last picture, in pixels.
    pub height: u16,
    /// Time from the start of the run to the first picture, in milliseconds.
    pub first_picture_ms: f64,
    /// How much later than the fastest picture each arrived, by the sender's timestamps, in microseconds.
    #[serde(serialize_with = "brief")]
    pub pacing_us: Distribution,
    /// Time between the first packets of successive pictures, in microseconds.
    #[serde(serialize_with = "brief")]
    pub interval_us: Distribution,
    /// Pictures whose signature is valid; `None` if signatures are not required.
    pub signed: Option<u64>,
    /// Packets that belong to no picture with a valid signature; `None` if signatures are not required.
    pub unsigned_refused: Option<u64>,
    /// Other senders whose pictures came to the group during the run, the first few: their addresses and ports.
    pub other_senders: Vec<SocketAddr>,
    /// The station's sound; `None` if it has none, or if it is not received.
    pub sound: Option<SoundSummary>,
}

/// The sound of a headless run. The names are a contract.
#[derive(Debug, Clone, Serialize)]
pub struct SoundSummary {
    /// Packets received.
    pub packets: u64,
    /// Packets sent and not received.
    pub lost: u64,
    /// Packets that came after their sound was needed.
    pub late: u64,
    /// Milliseconds of sound that were concealed.
    pub concealed_ms: u64,
    /// Jumps to the right place, and times that the packets ran out.
    pub resyncs: u64,
    /// Times that the packets ran out.
    pub stalls: u64,
    /// By how much the sound was heard after the picture that belongs to it, the median, in milliseconds; negative if before.
    /// `None` if no sound was heard.
    pub av_offset_ms: Option<f64>,
    /// The largest distance of that offset from 0 once pictures are in step.
    pub av_offset_max_ms: Option<f64>,
}

/// Result of a series of zaps. The names are a contract.
#[derive(Debug, Clone, Serialize)]
pub struct ZapSummary {
    /// Number of changes of station.
    pub zaps: usize,
    /// Time from a change's request until the first picture of the new station is decoded, in milliseconds.
    #[serde(serialize_with = "brief")]
    pub zap_ms: Distribution,
    /// Time from the first picture of the new station until its sound is heard, in milliseconds; `None` if no station has sound.
    /// A headless run has no device: its latency is to be added.
    #[serde(serialize_with = "brief_if_any")]
    pub sound_ms: Option<Distribution>,
}

/// Serializes the three keys of a distribution that a summary has; the probe's report has more.
fn brief<S: Serializer>(distribution: &Distribution, serializer: S) -> Result<S::Ok, S::Error> {
    let mut keys = serializer.serialize_struct("Distribution", 3)?;
    keys.serialize_field("p50", &distribution.p50)?;
    keys.serialize_field("p99", &distribution.p99)?;
    keys.serialize_field("max", &distribution.max)?;
    keys.end()
}

fn brief_if_any<S: Serializer>(
    distribution: &Option<Distribution>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match distribution {
        Some(distribution) => brief(distribution, serializer),
        None => serializer.serialize_none(),
    }
}

/// One line for people.
impl fmt::Display for HeadlessSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HeadlessSummary { frames, width, height, seconds, .. } = self;
        write!(f, "{}: {frames} pictures of {width}x{height} in {seconds:.1} s", self.subject())?;
        let HeadlessSummary {
            fps,
            frames_lost,
            frames_dropped,
            pacing_us: Distribution { p50, p99, .. },
            ..
        } = self;
        write!(f, ", {fps:.2} a second, {frames_lost} lost, {frames_dropped} dropped")?;
        write!(f, ", pacing p50 {p50:.0} us, p99 {p99:.0} us")?;
        if let Some(sound) = &self.sound {
            write!(
                f,
                "; sound: {} packets, {} lost, {} ms concealed",
                sound.packets, sound.lost, sound.concealed_ms
            )?;
            if let Some(offset) = sound.av_offset_ms {
                write!(f, ", {offset:+.1} ms to the picture")?;
            }
        }
        if let (Some(signed), Some(refused)) = (self.signed, self.unsigned_refused) {
            write!(f, "; {signed} signed, {refused} packets refused")?;
        }
        for sentence in [self.silence(), self.slate()].into_iter().flatten() {
            write!(f, "; {sentence}")?;
        }
        if !self.other_senders.is_empty() {
            write!(f, "; others sent to the group: {}", addresses(&self.other_senders))?;
        }
        Ok(())
    }
}

/// One line for people.
impl fmt::Display for ZapSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ZapSummary { zaps, zap_ms: Distribution { p50, p99, max, .. }, sound_ms } = self;
        write!(f, "{zaps} changes of station: p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms")?;
        if let Some(Distribution { p50, p99, max, .. }) = sound_ms {
            write!(f, "; sound {p50:.1} ms, p99 {p99:.1} ms, max {max:.1} ms after the picture")?;
        }
        Ok(())
    }
}

/// Receives one station according to `plan`.
///
/// # Errors
/// There is no directory, no such station or no picture at all, or a file cannot be written.
pub fn receive(zapper: &mut Zapper, plan: &HeadlessPlan) -> anyhow::Result<HeadlessSummary> {
    let began = Instant::now();
    let mut first_picture = None;
    let mut size = None;
    let mut pictures = 0;
    let mut showing = Showing::new(plan.save.is_some() && plan.times);
    let mut signal = SignalLog::default();
    let mut next_line = began + Duration::from_secs(1);
    let mut talk = Talk::to_stderr();
    // An end beyond the clock's range is no end.
    let ends = plan.duration.and_then(|duration| began.checked_add(duration));
    if let Some(folder) = &plan.save {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    open(zapper, plan.station)?;
    while !plan.stop.load(Relaxed)
        && plan.pictures.is_none_or(|wanted| pictures < wanted)
        && ends.is_none_or(|ends| Instant::now() < ends)
    {
        let timeout = ends.unwrap_or(next_line).min(next_line).saturating_duration_since(Instant::now());
        let timeout = timeout.min(showing.next_in(wall_clock()).unwrap_or(timeout));
        match zapper.next(timeout)? {
            Some(ZapperEvent::Picture { station, picture }) => {
                zapper.shown(station);
                first_picture.get_or_insert_with(|| began.elapsed());
                let CodedPicture::Air(received) = picture else { continue };
                pictures += 1;
                signal.picture(began.elapsed());
                showing.take(zapper.speaker(), pictures, received.due(), received.first_arrival);
                size = Some(received.jpeg.size);
                if let Some(folder) = &plan.save {
                    save(folder, pictures, &received.jpeg.to_jfif())?;
                }
            }
            Some(event) => note(&event)?,
            None => {}
        }
        if let Some(station) = zapper.station() {
            signal.station(began.elapsed(), &station.state);
        }
        showing.show(zapper.speaker(), wall_clock());
        if Instant::now() >= next_line {
            next_line += Duration::from_secs(1);
            if plan.talk {
                talk.say(Instant::now(), line(zapper));
            }
        }
    }
    talk.end();
    let (station, status) = zapper.on_screen().context("no station was found")?;
    let station = station.clone();
    if let (Some(folder), Some(began)) =
        (plan.save.as_ref().filter(|_| plan.times), zapper.speaker().and_then(Speaker::began))
    {
        showing.save(&folder.join("times.csv"), began)?;
    }
    let sound = zapper.speaker().and_then(|speaker| showing.summary(speaker.status()));
    let number = (!zapper.is_stream()).then_some(station.id);
    let (Some(first_picture), Some(size)) = (first_picture, size) else {
        let why = status.problem.map_or_else(String::new, |problem| format!(": {problem}"));
        bail!("no picture of {} arrived{why}", subject(number, &station.name, &station.group.to_string()));
    };
    let ended = began.elapsed();
    let signal = signal.summary(ended);
    Ok(HeadlessSummary {
        station: number,
        name: station.name,
        group: station.group.to_string(),
        state: signal.state,
        reason: if signal.state == Signal::Lost { status.problem } else { signal.slate },
        silent_s: signal.silent_s,
        slate_s: signal.slate_s,
        lost_s: signal.lost_s,
        seconds: ended.as_secs_f64(),
        frames: pictures,
        fps: status.reading.rate,
        frames_lost: status.counters.pictures_lost,
        frames_dropped: zapper.dropped(),
        packets_lost: status.counters.packets_lost,
        bytes: status.counters.bytes,
        width: size.width,
        height: size.height,
        first_picture_ms: first_picture.as_secs_f64() * 1e3,
        pacing_us: status.reading.pacing,
        interval_us: status.reading.interval,
        signed: status.signed.map(|signed| signed.pictures),
        unsigned_refused: status.signed.map(|signed| signed.refused),
        other_senders: status.all_other_senders,
        sound,
    })
}

/// Changes station `zaps` times, through the line-up and over its end, and times each change.
///
/// # Errors
/// There is no directory, the line-up has fewer than two stations, or one shows no picture within 5 s.
pub fn zap(zapper: &mut Zapper, first: Option<StationId>, zaps: usize) -> anyhow::Result<ZapSummary> {
    open(zapper, first)?;
    let mut decoder = Decoder::new()?;
    let mut nanos = Vec::with_capacity(zaps);
    let mut sounds = Vec::new();
    let settle = |zapper: &mut Zapper, decoder: &mut Decoder| -> anyhow::Result<Duration> {
        let ends = Instant::now() + LONGEST_ZAP;
        loop {
            match zapper.next(ends.saturating_duration_since(Instant::now()))? {
                Some(ZapperEvent::Picture { station, picture }) => {
                    // A damaged picture does not complete the change; the next one does.
                    if decoder.decode(&picture.into_jfif()).is_ok()
                        && let Some(took) = zapper.shown(station)
                    {
                        return Ok(took);
                    }
                }
                Some(event) => note(&event)?,
                None if Instant::now() < ends => {}
                None => bail!("a station showed no picture for {} s", LONGEST_ZAP.as_secs()),
            }
        }
    };
    settle(zapper, &mut decoder)?;
    let ids: Vec<StationId> = zapper.line_up().iter().map(|station| station.id).collect();
    ensure!(ids.len() > 1, "--zap needs two stations; the line-up has {}", ids.len());
    let first = zapper.station().map(|station| station.id);
    let mut at = ids.iter().position(|&id| Some(id) == first).unwrap_or(0);
    for _ in 0..zaps {
        let until = Instant::now() + DWELL;
        while let Some(event) = zapper.next(until.saturating_duration_since(Instant::now()))? {
            note(&event)?;
        }
        at = (at + 1) % ids.len();
        zapper.tune(ids[at])?;
        nanos.push(settle(zapper, &mut decoder)?.as_nanos() as i64);
        let shown = wall_clock();
        if zapper.has_sound() {
            let ends = Instant::now() + LONGEST_SOUND;
            while zapper.sound_began().is_none() && Instant::now() < ends {
                if let Some(event) = zapper.next(Duration::from_millis(2))? {
                    note(&event)?;
                }
            }
            let began = zapper.sound_began().unwrap_or_else(|| shown + LONGEST_SOUND);
            sounds.push(began.signed_since(shown));
        }
    }
    let zap_ms = Distribution::of(nanos, 1e6).unwrap_or_default();
    Ok(ZapSummary { zaps, zap_ms, sound_ms: Distribution::of(sounds, 1e6) })
}

/// Waits for the line-up and tunes to `station`, or to the first one.
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
            None => bail!("no answer from the directory in {} s: {lost}", FIRST_CONTACT.as_secs()),
        }
    }
    if station.is_none() {
        zapper.tune(zapper.line_up()[0].id)?;
    }
    Ok(())
}

/// Logs a lost directory; an unknown station is an error.
fn note(event: &ZapperEvent) -> anyhow::Result<()> {
    match event {
        ZapperEvent::NoSuchStation(id) => bail!("there is no station {id}; viewer --list shows them"),
        ZapperEvent::DirectoryLost { reason, .. } => tracing::warn!("lost the directory: {reason}"),
        _ => {}
    }
    Ok(())
}

fn save(folder: &Path, number: u64, jpeg: &[u8]) -> anyhow::Result<()> {
    let path = folder.join(format!("frame-{number:06}.jpg"));
    fs::write(&path, jpeg).with_context(|| format!("cannot write {}", path.display()))
}

/// What is said of the run at this moment.
fn line(zapper: &Zapper) -> Said {
    let Some((station, status)) = zapper.on_screen() else {
        return Said::new("waiting for the directory".into(), String::new(), 0);
    };
    let (counters, reading) = (status.counters, status.reading);
    let number = (!zapper.is_stream()).then_some(station.id);
    let name = subject(number, &station.name, &station.group.to_string());
    match (status.problem, zapper.signal()) {
        (Some(problem), _) => return Said::new(format!("{name}: no packets: {problem}"), String::new(), 0),
        (None, SignalState::Lost(silent)) => {
            let figures = format!(" for {:.1} s", silent.as_secs_f64());
            return Said::new(format!("{name}: no signal"), figures, 0);
        }
        (None, _) => {}
    }
    let others = match &status.other_senders[..] {
        [] => String::new(),
        senders => format!(", others send to the group: {}", addresses(senders)),
    };
    let dropped = zapper.dropped();
    let figures = format!(
        ": {} pictures, {:.2} a second, {} lost, {dropped} dropped, pacing p99 {:.0} us",
        counters.pictures, reading.rate, counters.pictures_lost, reading.pacing.p99
    );
    Said::new(name + &others, figures, counters.pictures_lost + dropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_has_the_keys_that_scripts_read() {
        let zap_ms = Distribution::of(vec![4_000_000, 6_000_000], 1e6).unwrap();
        let json = serde_json::to_string(&ZapSummary { zaps: 2, zap_ms, sound_ms: None }).unwrap();
        assert_eq!(json, r#"{"zaps":2,"zap_ms":{"p50":4.0,"p99":6.0,"max":6.0},"sound_ms":null}"#);
    }
}
