//! The listener: the library's probe on a sample of the groups, in a process of its own.
//!
//! The kernel stamps each datagram as it arrives, so reading it later costs no accuracy. The listener reads every few
//! milliseconds and never waits on a socket, since waking it would delay the sender.

use std::collections::VecDeque;
use std::io::Write;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use stationcast::media::RTP_CLOCK;
use stationcast::probe::{Probe, Timestamps};
use stationcast::tuner::source::DatagramSource;

use crate::network::{group, loopback};

/// How often it reads. The smallest receive buffer holds some eight pictures, 300 ms.
const READ: Duration = Duration::from_millis(5);

/// How long to wait for the first datagram: beside four busy processes a decoder starts slowly.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long a sender settles before it is measured.
const SETTLE: Duration = Duration::from_millis(500);

/// Printed when it begins to measure.
pub(crate) const BEGIN: &str = "begin";

/// The packets that arrived during one run, in all groups that are listened to.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Arrivals {
    /// Each picture's deviation from the ideal line, in nanoseconds: how much longer than the fastest one it took, by the
    /// sender's own timestamps.
    pub(crate) pacing: Vec<i64>,
    /// Each picture's arrival less its due time, in nanoseconds. Empty if the sender's timestamps are not times.
    pub(crate) lateness: Vec<i64>,
    /// Pictures that arrived.
    pub(crate) units: u64,
    /// Packets that were sent and did not arrive.
    pub(crate) lost: u64,
    /// Pictures that were not sent, by the timestamps of their neighbours.
    pub(crate) gaps: u64,
    /// Those of `lost` that were dropped here, because this process was too slow.
    pub(crate) kernel_drops: u64,
    /// Bytes of UDP payload.
    pub(crate) bytes: u64,
}

pub(crate) fn listen(seconds: &str, stations: &str) -> anyhow::Result<()> {
    let seconds = Duration::from_secs_f64(seconds.parse()?);
    let interface = loopback()?;
    let mut sources = Vec::new();
    for station in stations.split(',') {
        let group = group(station.parse()?);
        sources.push(
            DatagramSource::join(group, &interface, None).with_context(|| format!("cannot join {group}"))?,
        );
    }
    let read = |sources: &mut [DatagramSource], mut probes: Option<&mut [Probe]>| {
        let mut datagrams = 0;
        for (n, source) in sources.iter_mut().enumerate() {
            while let Some(datagram) = source.read()? {
                datagrams += 1;
                if let Some(probes) = &mut probes {
                    probes[n].packet(datagram.arrival, datagram.bytes)?;
                }
            }
        }
        std::thread::sleep(READ);
        anyhow::Ok(datagrams)
    };
    let from = Instant::now();
    while read(&mut sources, None)? == 0 {
        anyhow::ensure!(from.elapsed() < PATIENCE, "nothing was heard for {} s", PATIENCE.as_secs());
    }
    let from = Instant::now();
    while from.elapsed() < SETTLE {
        read(&mut sources, None)?;
    }
    let clock = NonZeroU32::new(RTP_CLOCK).context("a clock")?;
    let mut probes: Vec<Probe> =
        sources.iter().map(|_| Probe::new(clock, Timestamps::Unknown).keeping(1 << 17, 1 << 14)).collect();
    let dropped = |sources: &[DatagramSource]| sources.iter().map(DatagramSource::kernel_drops).sum::<u64>();
    let dropped_before = dropped(&sources);
    println!("{BEGIN}");
    std::io::stdout().flush()?;
    let from = Instant::now();
    while from.elapsed() < seconds {
        read(&mut sources, Some(&mut probes))?;
    }
    let mut arrivals = Arrivals { kernel_drops: dropped(&sources) - dropped_before, ..Arrivals::default() };
    for probe in &probes {
        let report = probe.report().context("a station fell silent")?;
        arrivals.units += report.units.received;
        arrivals.lost += report.packets.lost;
        arrivals.bytes += report.packets.bytes;
        let mut due = VecDeque::new();
        for sample in probe.samples() {
            arrivals.pacing.push(sample.pacing);
            arrivals.lateness.extend(sample.lateness);
            due.push_back(sample.arrival.0 as i64 - sample.pacing);
        }
        if let (Some(first), Some(last), Some(interval)) =
            (due.front(), due.back(), report.units.nominal_interval_ms)
        {
            let between = ((last - first) as f64 / 1e6 / interval).round() as u64 + 1;
            arrivals.gaps += between.saturating_sub(due.len() as u64 + report.packets.lost);
        }
    }
    println!("{}", serde_json::to_string(&arrivals)?);
    Ok(())
}
