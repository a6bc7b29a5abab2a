//! The probe's shell: joins a group, feeds its datagrams to the [instrument](crate::probe), and reports the
//! measurements as a table, as JSON or as a [plot].
//!
//! A station's group is looked up in the directory; any other RTP stream is measured by its group alone. Nothing is
//! decoded.

#![expect(clippy::disallowed_methods, reason = "a shell: it ends after a time")]

use std::fmt;
use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::Context;
use serde::Serialize;

use super::{capture, plot};
use crate::clock::wall_clock;
use crate::directory::{self, Endpoint, StationInfo};
use crate::interface::{Interface, named};
use crate::media::{AirTime, RTP_CLOCK, StationId};
use crate::probe::report::{Distribution, ProbeReport};
use crate::probe::traffic::{Traffic, Verdict};
use crate::probe::{Probe, Timestamps, UnitSample};
use crate::tuner::join;
use crate::tuner::source::{DatagramSource, MOST_AT_ONCE, wait};

/// Default length of a measurement.
const DURATION: Duration = Duration::from_secs(10);

/// How often the stop flag is polled.
const LOOK: Duration = Duration::from_millis(200);

/// Timeout for the directory.
const FIRST_CONTACT: Duration = Duration::from_secs(5);

/// The stream to measure.
#[derive(Debug, Clone)]
pub enum ProbeTarget {
    /// A station of ours.
    Station {
        /// The directory that lists it.
        directory: Endpoint,
        /// Its number; `None`: the first of the line-up.
        station: Option<StationId>,
    },
    /// Any RTP stream.
    Stream {
        /// The group and port that it is sent to.
        group: SocketAddr,
        /// Ticks a second of its timestamps.
        clock: NonZeroU32,
    },
    /// An RTP stream that was captured.
    Capture {
        /// The file.
        file: PathBuf,
        /// The address and port that the stream was sent to; `None`: the file has only one stream.
        to: Option<SocketAddr>,
        /// Ticks a second of its timestamps.
        clock: NonZeroU32,
    },
}

/// Plan of a measurement: its stream, its length, its output.
#[derive(Debug, Clone)]
pub struct ProbePlan {
    /// The stream to measure.
    pub target: ProbeTarget,
    /// Name or address of the interface to receive on; `None`: it is [chosen](join).
    pub interface: Option<String>,
    /// Length of the measurement; `None`: ten seconds.
    pub seconds: Option<Duration>,
    /// SVG file to draw the measurement into.
    pub plot: Option<PathBuf>,
    /// Whether a line on stderr says what is being measured.
    pub talk: bool,
    /// Ends the measurement early when it becomes true; the summary covers the time until then.
    pub stop: Arc<AtomicBool>,
}

/// Result of a measurement. The names are a contract; the report's keys stand beside these.
#[derive(Debug, Clone, Serialize)]
pub struct ProbeSummary {
    /// The station's number; `null` if the stream is not a station.
    pub station: Option<StationId>,
    /// The station's name; `null` if the stream is not a station.
    pub name: Option<String>,
    /// Group and port.
    pub group: String,
    /// Interface on which it was received, or the capture file.
    pub interface: String,
    /// The machine that measured: name, kernel, processors.
    pub host: String,
    /// Start of the measurement: RFC 3339, UTC.
    pub started: String,
    /// Length of the measurement, in seconds.
    pub seconds: f64,
    /// Datagrams that this machine's kernel dropped because the probe read too slowly. They count as lost.
    pub kernel_drops: u64,
    /// Receive buffer that the kernel granted, in bytes.
    pub receive_buffer_bytes: usize,
    /// The measurements.
    #[serde(flatten)]
    pub report: ProbeReport,
}

/// Measures according to `plan`, and draws the plot.
///
/// # Errors
/// There is no directory, station or interface as planned, nothing is received, or the plot cannot be written.
///
/// # Panics
/// Outside a tokio runtime, or in one of its tasks.
pub fn run(plan: ProbePlan) -> anyhow::Result<ProbeSummary> {
    let Some(path) = &plan.plot else { return Ok(measure(&plan)?.0) };
    // A file that cannot be written is an error before the measurement, not after it.
    let there = path.exists();
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    open.with_context(|| format!("cannot write {}", path.display()))?;
    let drawn = measure(&plan).and_then(|(summary, samples)| {
        let svg = plot::svg(&summary, &samples).context("cannot draw the plot")?;
        fs::write(path, svg).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(summary)
    });
    if drawn.is_err() && !there {
        // Best effort: the error that matters is reported.
        let _ = fs::remove_file(path);
    }
    drawn
}

fn measure(plan: &ProbePlan) -> anyhow::Result<(ProbeSummary, Vec<UnitSample>)> {
    let wanted = plan.interface.as_deref();
    let duration = plan.seconds.unwrap_or(DURATION);
    let (station, group, interface, mut probe) = match plan.target {
        ProbeTarget::Capture { ref file, to, clock } => return measure_capture(plan, file, to, clock),
        ProbeTarget::Station { ref directory, station } => {
            let station = look_up(directory, station)?;
            let directory = directory.address;
            let local = join::local_address(directory)?;
            let interface = named(&join::interface_for_station(&station, wanted, directory.ip(), local))?;
            let clock = NonZeroU32::new(RTP_CLOCK).context("the clock of RTP/JPEG is not 0")?;
            let group = station.group;
            (Some(station), group, interface, Probe::new(clock, Timestamps::WallClock))
        }
        ProbeTarget::Stream { group, clock } => {
            let interface = join::interface_for_group(group, wanted)?;
            (None, group, interface, Probe::new(clock, Timestamps::Unknown))
        }
    };
    let mut source = DatagramSource::join(group, &interface, None)
        .with_context(|| format!("cannot join {group} on {}", interface.name))?;
    if plan.talk {
        eprintln!("listening to {group} on {interface} for {} s", duration.as_secs_f64());
    }
    let started = wall_clock();
    let (received, duration) = listen(&mut source, &mut probe, duration, &plan.stop)?;
    let Some(report) = probe.report() else { return Err(no_rtp(group, &interface, duration, received)) };
    let summary = ProbeSummary {
        station: station.as_ref().map(|station| station.id),
        name: station.map(|station| station.name),
        group: group.to_string(),
        interface: interface.name,
        host: host(),
        started: rfc3339(started),
        seconds: duration.as_secs_f64(),
        kernel_drops: source.kernel_drops(),
        receive_buffer_bytes: source.buffer(),
        report,
    };
    Ok((summary, probe.samples()))
}

/// Measures a stream of a capture file, all of it or its first seconds.
fn measure_capture(
    plan: &ProbePlan,
    file: &Path,
    to: Option<SocketAddr>,
    clock: NonZeroU32,
) -> anyhow::Result<(ProbeSummary, Vec<UnitSample>)> {
    let to = match to {
        Some(to) => to,
        None => capture::only_stream(file)?,
    };
    let mut probe = Probe::new(clock, Timestamps::Unknown);
    let (mut span, mut datagrams, mut refused) = (None, 0, None);
    capture::read(file, |arrival, destination, payload| {
        if destination == to {
            let (began, _) = *span.get_or_insert((arrival, arrival));
            if plan.seconds.is_some_and(|seconds| arrival.since(began) > seconds) || plan.stop.load(Relaxed) {
                return false;
            }
            span = Some((began, arrival));
            datagrams += 1;
            if let Err(error) = probe.packet(arrival, payload) {
                refused = Some(error.to_string());
            }
        }
        true
    })?;
    let name = file.display();
    let (began, ended) = span.with_context(|| format!("{name} has no packet to {to}"))?;
    let report = probe.report().with_context(|| {
        let why = refused.unwrap_or_else(|| "RTCP only".into());
        format!("{name} has {datagrams} datagrams to {to}, none of them RTP: {why}")
    })?;
    let summary = ProbeSummary {
        station: None,
        name: None,
        group: to.to_string(),
        interface: name.to_string(),
        host: host(),
        started: rfc3339(began),
        // To a microsecond, as captures are stamped.
        seconds: (ended.since(began).as_secs_f64() * 1e6).round() / 1e6,
        kernel_drops: 0,
        receive_buffer_bytes: 0,
        report,
    };
    Ok((summary, probe.samples()))
}

fn look_up(directory: &Endpoint, station: Option<StationId>) -> anyhow::Result<StationInfo> {
    let asked = directory::list(directory.clone(), FIRST_CONTACT);
    let stations = tokio::runtime::Handle::current().block_on(asked)?;
    match station {
        None => stations.into_iter().next().context("the line-up is empty"),
        Some(id) => {
            let found = stations.into_iter().find(|station| station.id == id);
            found.with_context(|| format!("there is no station {id}; viewer --list shows them"))
        }
    }
}

/// Number of datagrams received, and why the last one that was not RTP was refused.
type Received = (u64, Option<String>);

/// Feeds the probe for `duration`, or until `stop`. Returns how long it listened.
fn listen(
    source: &mut DatagramSource,
    probe: &mut Probe,
    duration: Duration,
    stop: &AtomicBool,
) -> anyhow::Result<(Received, Duration)> {
    let began = Instant::now();
    let ends = began.checked_add(duration).context("--seconds is too large")?;
    let (mut datagrams, mut refused) = (0, None);
    loop {
        let left = ends.saturating_duration_since(Instant::now());
        if left.is_zero() || stop.load(Relaxed) {
            return Ok(((datagrams, refused), began.elapsed().min(duration)));
        }
        wait(Some(source.as_fd()), None, Some(left.min(LOOK)))?;
        for _ in 0..MOST_AT_ONCE {
            let Some(datagram) = source.read()? else { break };
            datagrams += 1;
            if let Err(error) = probe.packet(datagram.arrival, datagram.bytes) {
                refused = Some(error.to_string());
            }
        }
    }
}

/// The error of a measurement without any RTP.
fn no_rtp(group: SocketAddr, interface: &Interface, duration: Duration, received: Received) -> anyhow::Error {
    let (name, seconds) = (&interface.name, duration.as_secs_f64());
    match received {
        (0, _) => anyhow::anyhow!(
            "no packets from {group} on {name} in {seconds} s. Is it on air? Is {name} the right interface (--interface)?"
        ),
        (n, refused) => {
            let why = refused.unwrap_or_else(|| "RTCP only".into());
            anyhow::anyhow!("{n} packets came from {group} on {name}, but none of them is RTP: {why}")
        }
    }
}

fn rfc3339(at: AirTime) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_nanos(at.0)).to_string()
}

/// This machine: name, kernel, processors.
fn host() -> String {
    let system = rustix::system::uname();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let plural = if processors == 1 { "" } else { "s" };
    format!(
        "{}, {} {} {}, {processors} CPU{plural}",
        system.nodename().to_string_lossy(),
        system.sysname().to_string_lossy(),
        system.release().to_string_lossy(),
        system.machine().to_string_lossy(),
    )
}

impl ProbeSummary {
    /// The stream that was measured: `station 2 "Nature" on 239.77.0.2:5004`.
    pub fn subject(&self) -> String {
        match (&self.station, &self.name) {
            (Some(id), Some(name)) => format!("station {id} \"{name}\" on {}", self.group),
            _ => format!("RTP on {}", self.group),
        }
    }
}

/// A table for people.
impl fmt::Display for ProbeSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = &self.report;
        let p = &r.packets;
        writeln!(f, "{} by {}, {} s from {}", self.subject(), self.interface, self.seconds, self.started)?;
        writeln!(f, "{}", self.host)?;
        writeln!(f)?;
        let row = |f: &mut fmt::Formatter<'_>, key: &str, text: String| writeln!(f, "{key:<12}{text}");
        row(
            f,
            "stream",
            format!("payload type {}, clock {} Hz, SSRC {}", r.payload_type, r.clock_hz, r.ssrc),
        )?;
        let interval = r
            .units
            .nominal_interval_ms
            .map_or(String::new(), |ms| format!(", {ms:.3} ms apart by their timestamps"));
        row(f, "units", format!("{} at {:.3} a second{interval}", r.units.received, r.units.per_s))?;
        let rate = p.bytes_per_s * 8.0 / 1e6;
        row(
            f,
            "packets",
            format!(
                "{} at {:.1} a second, {rate:.2} Mb/s, up to {} bytes",
                p.received, p.per_s, p.largest_bytes
            ),
        )?;
        row(
            f,
            "losses",
            format!(
                "{} lost ({:.4} %), {} reordered, {} duplicates",
                p.lost,
                p.loss * 100.0,
                p.reordered,
                p.duplicates
            ),
        )?;
        if self.kernel_drops > 0 {
            let (drops, buffer) = (self.kernel_drops, self.receive_buffer_bytes);
            row(
                f,
                "",
                format!(
                    "{drops} of them dropped by this machine: its receive buffer is {buffer} bytes; raise net.core.rmem_max"
                ),
            )?;
        }
        row(
            f,
            "jitter",
            format!(
                "{:.1} us by RFC 3550 ({:.2} ticks), at most {:.1} us",
                r.jitter.us, r.jitter.ticks, r.jitter.max_us
            ),
        )?;
        match r.drift {
            // No oscillator is off by one per cent.
            Some(drift) if drift.ppm.abs() > 10_000.0 => {
                row(
                    f,
                    "drift",
                    format!("{:.0} ppm: is the stream's clock {} Hz (--clock)?", drift.ppm, r.clock_hz),
                )?;
            }
            Some(drift) => {
                row(f, "drift", format!("{:+.2} ppm, standard error {:.2}", drift.ppm, drift.stderr_ppm))?
            }
            None => row(f, "drift", "measurement too short".into())?,
        }
        if let Some(traffic) = &r.st2110_21 {
            row(f, "ST 2110-21", verdict(traffic))?;
        }
        let o = r.oddities;
        for (count, what) in [
            (o.malformed, "datagrams were not RTP"),
            (o.rtcp, "packets were RTCP"),
            (o.other_sources, "packets were from another sender"),
            (p.strays + p.too_old, "packets had implausible sequence numbers"),
            (o.restarts, "times the sender started over"),
            (o.timestamp_jumps, "times the timestamps jumped"),
        ] {
            if count > 0 {
                row(f, "", format!("{count} {what}"))?;
            }
        }
        write!(f, "\n{:<24}", "")?;
        for head in ["min", "p50", "p90", "p99", "p99.9", "max"] {
            write!(f, "{head:>11}")?;
        }
        let less_drift = r
            .pacing_less_drift_us
            .filter(|_| r.drift.is_some_and(|drift| drift.ppm.abs() > 3.0 * drift.stderr_ppm));
        for (what, digits, values) in [
            ("lateness, us", 1, r.lateness_us),
            ("pacing, us", 1, r.pacing_us),
            ("pacing less drift, us", 1, less_drift),
            ("between units, us", 1, r.interval_us),
            ("unit, first to last, us", 1, r.units.span_us),
            ("between packets, us", 1, r.packet_interval_us),
            ("packets in a burst", 0, r.burst_packets),
            ("packets in a unit", 0, r.units.packets),
            ("bytes in a unit", 0, r.units.bytes),
        ] {
            let Some(Distribution { min, p50, p90, p99, p999, max, .. }) = values else { continue };
            write!(f, "\n{what:<24}")?;
            for value in [min, p50, p90, p99, p999, max] {
                write!(f, "{value:>11.digits$}")?;
            }
        }
        Ok(())
    }
}

/// The row about ST 2110-21.
fn verdict(traffic: &Traffic) -> String {
    let t = traffic;
    let name = match t.verdict {
        Verdict::Narrow => "narrow (N)",
        Verdict::NarrowLinear => "narrow linear (NL)",
        Verdict::Wide => "wide (W)",
        Verdict::NotCompliant => "not compliant",
        Verdict::NotApplicable => return format!("does not apply: {}", t.reason),
    };
    let why = if t.reason.is_empty() { String::new() } else { format!("; {}", t.reason) };
    format!(
        "{name}: C_INST up to {} (narrow {}, wide {}), VRX {} to {} (narrow {}, wide {}) packets{why}",
        t.cinst_max,
        t.narrow.c_max,
        t.wide.c_max,
        t.vrx_linear.min,
        t.vrx_linear.max,
        t.narrow.vrx_full,
        t.wide.vrx_full
    )
}
