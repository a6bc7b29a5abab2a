//! Ten stations on one link: how full the buffers of a switch and of a receiver get, by the models of ST 2110-21.
//!
//! ```text
//! sender: broadcaster, 10.77.0.1 on link0 -- veth, MTU 1500 -- link0, 10.77.0.2: listener, receiver
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

use crate::fixture::Fixture;
use crate::network::group;
use crate::process::{Running, child_command};

/// Stations of 640x368 at 25 pictures a second: some 60 Mb/s in all.
const STATIONS: u16 = 10;

/// The network namespaces at the two ends of the link.
const SENDER: &str = "sender";
const RECEIVER: &str = "receiver";

/// The interface that each of them has.
const INTERFACE: &str = "link0";

/// How often the sockets are read, as in [`crate::listener`].
const READ: Duration = Duration::from_millis(5);

/// How long stations settle before they are measured.
const SETTLE: Duration = Duration::from_secs(1);

/// The factor by which the bucket drains faster than packets come on average (ST 2110-21 clause 6.6.1).
const BETA: f64 = 1.1;

/// Makes the link. Segments are cut before they reach it, as a network card does: otherwise all packets of a burst would have
/// one stamp.
const SETUP: &str =
    "set -e; PATH=$PATH:/usr/sbin:/sbin; mount -t tmpfs tmpfs /run; ip netns add sender; ip netns add receiver
    ip link add link0 mtu 1500 netns sender type veth peer name link0 mtu 1500 netns receiver
    n=1; for host in sender receiver; do
        ip -n $host link set lo up; ip -n $host addr add 10.77.0.$n/24 dev link0
        ip -n $host link set link0 gso_max_segs 1 up; ip -n $host route add 224.0.0.0/4 dev link0; n=2
    done";

/// Puts one station on air, then ten, and measures each time for `seconds`.
pub(crate) fn measure(folder: &Path, seconds: f64, fifo: bool) -> anyhow::Result<()> {
    let setup = Command::new("sh").args(["-c", SETUP]).output()?;
    anyhow::ensure!(setup.status.success(), "no link: {}", String::from_utf8_lossy(&setup.stderr).trim());
    let fixture = Fixture::prepare(folder)?;
    for stations in [1, STATIONS] {
        run(&fixture, stations, seconds, fifo)?;
    }
    Ok(())
}

/// Has so many stations send over the link, and the listener at its other end print what it measures in `seconds`.
fn run(fixture: &Fixture, stations: u16, seconds: f64, fifo: bool) -> anyhow::Result<()> {
    let lineup = fixture.lineup(stations, INTERFACE, true)?;
    let (mut sender, log, _) = fixture.broadcaster(&lineup, Some(SENDER), fifo, stations)?;
    let mut listener = child_command("ip", false);
    listener.args(["netns", "exec", RECEIVER]).arg(std::env::current_exe()?);
    listener.args(["hear", &seconds.to_string(), &stations.to_string()]);
    let heard = Running::start(&mut listener)?.0.wait()?;
    sender.must_run(&log)?;
    sender.end()?;
    anyhow::ensure!(heard.success(), "the listener failed");
    Ok(())
}

/// Listens to so many stations in the receiver's namespace, and prints what the models say.
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

/// How full the bucket of the network compatibility model gets. `arrivals` are in nanoseconds; the bucket drains [`BETA`] times
/// `per_second` packets a second.
fn c_inst(arrivals: &[u64], per_second: f64) -> f64 {
    let (mut level, mut highest, mut last) = (0.0f64, 0.0f64, None);
    for &at in arrivals {
        let since = (at - last.replace(at).unwrap_or(at)) as f64 / 1e9;
        // The level before this packet, as in the standard: the bucket drains whole packets.
        level = (level - since * per_second * BETA).max(0.0) + 1.0;
        highest = highest.max(level - 1.0);
    }
    highest.ceil()
}
