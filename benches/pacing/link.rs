//! Ten stations on one link: what a switch's buffer and a receiver's would have to bear, by the models of ST 2110-21.
//!
//! ```text
//! tower: broadcaster, 10.77.0.1 on air0 -- veth, MTU 1500 -- air0, 10.77.0.2: the listener, away
//! ```

use std::num::NonZeroU32;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use stationcast::interface::interfaces;
use stationcast::media::RTP_CLOCK;
use stationcast::probe::{Probe, Timestamps};
use stationcast::tuner::source::DatagramSource;

use crate::network::group;
use crate::run::Studio;

/// Of 640x368 at 25 a second: some 60 Mb/s in all.
const STATIONS: u16 = 10;

/// The network namespaces, and the interface that each has.
pub(crate) const TOWER: &str = "tower";
pub(crate) const AWAY: &str = "away";
pub(crate) const INTERFACE: &str = "air0";

/// As [`crate::listener`]'s.
const READ: Duration = Duration::from_millis(5);
const SETTLE: Duration = Duration::from_secs(1);

/// ST 2110-21 clause 6.6.1: the bucket drains by so much faster than packets come on average.
const BETA: f64 = 1.1;

/// Segments are cut before they reach the link, as a card does it: else the packets of a burst would have one stamp.
const SETUP: &str =
    "set -e; PATH=$PATH:/usr/sbin:/sbin; mount -t tmpfs tmpfs /run; ip netns add tower; ip netns add away
    ip link add air0 mtu 1500 netns tower type veth peer name air0 mtu 1500 netns away
    n=1; for host in tower away; do
        ip -n $host link set lo up; ip -n $host addr add 10.77.0.$n/24 dev air0
        ip -n $host link set air0 gso_max_segs 1 up; ip -n $host route add 224.0.0.0/4 dev air0; n=2
    done";

/// Puts one station on air, then ten, and measures each time for `seconds`.
pub(crate) fn measure(folder: &Path, seconds: f64, fifo: bool) -> anyhow::Result<()> {
    let setup = Command::new("sh").args(["-c", SETUP]).output()?;
    anyhow::ensure!(setup.status.success(), "no link: {}", String::from_utf8_lossy(&setup.stderr).trim());
    let studio = Studio::prepare(folder)?;
    for stations in [1, STATIONS] {
        studio.on_link(stations, seconds, fifo)?;
    }
    Ok(())
}

/// Listens to so many stations, away, and prints what the models say.
pub(crate) fn hear(seconds: &str, stations: &str) -> anyhow::Result<()> {
    let (seconds, stations) = (Duration::from_secs_f64(seconds.parse()?), stations.parse::<u16>()?);
    let interface = interfaces()?.into_iter().find(|interface| interface.name == INTERFACE);
    let interface = interface.context("there is no link")?;
    let clock = NonZeroU32::new(RTP_CLOCK).context("a clock")?;
    let mut receivers = Vec::new();
    for station in 1..=stations {
        let probe = Probe::new(clock, Timestamps::Unknown).keeping(1 << 18, 1 << 14);
        receivers.push((DatagramSource::join(group(station), &interface, None)?, probe));
    }
    let mut arrivals = Vec::new();
    let from = Instant::now();
    while from.elapsed() < SETTLE + seconds {
        let settled = from.elapsed() >= SETTLE;
        for (source, probe) in &mut receivers {
            while let Some(datagram) = source.read()? {
                if settled {
                    probe.packet(datagram.arrival, datagram.bytes)?;
                    arrivals.push(datagram.arrival.0);
                }
            }
        }
        std::thread::sleep(READ);
    }
    arrivals.sort_unstable();

    let mut per_second = 0.0;
    let mut lost = 0;
    println!("\n{stations} on air, {} packets:", arrivals.len());
    println!("| station | packets a picture | C_INST | narrow, wide | VRX | narrow, wide | verdict |");
    println!("|---|---:|---:|---:|---:|---:|---|");
    for (n, (_, probe)) in receivers.iter().enumerate() {
        let report = probe.report().with_context(|| format!("station {} is not on air", n + 1))?;
        let traffic = report.st2110_21.context("too few pictures for the models")?;
        per_second += traffic.packets_per_frame as f64 / traffic.frame_ms * 1e3;
        lost += report.packets.lost;
        println!(
            "| {} | {} | {} | {}, {} | {} to {} | {}, {} | {:?} |",
            n + 1,
            traffic.packets_per_frame,
            traffic.cinst_max,
            traffic.narrow.c_max,
            traffic.wide.c_max,
            traffic.vrx_linear.min,
            traffic.vrx_linear.max,
            traffic.narrow.vrx_full,
            traffic.wide.vrx_full,
            traffic.verdict,
        );
    }
    let c_inst = c_inst(&arrivals, per_second);
    let limit = |least: f64, rate: f64| (per_second / rate).floor().max(least);
    let (narrow, wide) = (limit(4.0, 43_200.0 * 1080.0 / 1125.0), limit(16.0, 21_600.0));
    let verdict = match c_inst {
        _ if c_inst <= narrow => "narrow",
        _ if c_inst <= wide => "wide",
        _ => "worse than wide",
    };
    println!(
        "together: {per_second:.0} packets a second at the most, C_INST {c_inst:.0} (narrow {narrow:.0}, wide {wide:.0}): \
         {verdict}; {lost} lost"
    );
    Ok(())
}

/// How full the bucket of the network compatibility model gets by packets at these nanoseconds, if it drains `per_second` packets
/// and a tenth more.
fn c_inst(arrivals: &[u64], per_second: f64) -> f64 {
    let (mut level, mut highest, mut last) = (0.0f64, 0.0f64, None);
    for &at in arrivals {
        let since = (at - last.replace(at).unwrap_or(at)) as f64 / 1e9;
        // What there is before this packet, as the standard has it: the bucket drains whole packets.
        level = (level - since * per_second * BETA).max(0.0) + 1.0;
        highest = highest.max(level - 1.0);
    }
    highest.ceil()
}
