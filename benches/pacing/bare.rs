//! The bare sender, the limit of what is possible: one thread, a heap of due times, an absolute `clock_nanosleep`, and coded
//! pictures in memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::IoSlice;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use socket2::SockAddr;
use stationcast::clock::AirClock;
use stationcast::content;
use stationcast::media::{AirTime, StationId};
use stationcast::net;
use stationcast::wire::rtp;
use thread_priority::{RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};

use crate::film::Pictures;
use crate::network::{group, loopback};

/// The SCHED_FIFO priority of the broadcaster's air thread.
const PRIORITY: u8 = 40;

/// Sends for `seconds`.
pub(crate) fn send(film: &str, stations: &str, priority: &str, seconds: &str) -> anyhow::Result<()> {
    let Pictures { rate, payloads } = Pictures::read(Path::new(film))?;
    let stations: u16 = stations.parse()?;
    let seconds = Duration::from_secs_f64(seconds.parse()?);
    let interface = loopback()?;
    let mut senders = Vec::new();
    for station in 1..=stations {
        let group = group(station);
        senders.push((net::sender(group, &interface, 1)?, SockAddr::from(group), 0u64));
    }
    rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))?;
    match priority {
        "fifo" if !take_priority() => bail!("real-time priority is not granted"),
        "fifo" | "plain" => {}
        other => bail!("no priority is called {other}"),
    }
    let clock = AirClock::start();
    let began = clock.now() + Duration::from_millis(100);
    // As our stations are, which count from 1: in the same moments of an interval, and as many together.
    let phase = |station: usize| content::default_phase(StationId(station as u16 + 1));
    let due = |station: usize, n: u64| began + phase(station) + rate.nth(n);
    let mut heap: BinaryHeap<Reverse<(AirTime, usize)>> =
        (0..senders.len()).map(|station| Reverse((due(station, 0), station))).collect();
    while let Some(Reverse((at, station))) = heap.pop() {
        if at.since(began) > seconds {
            break;
        }
        while clock.now() < at {
            clock.sleep_until(at);
        }
        let (socket, group, n) = &mut senders[station];
        let header = rtp::Header {
            marker: true,
            payload_type: rtp::PAYLOAD_TYPE_JPEG,
            sequence: *n as u16,
            timestamp: at.rtp_timestamp(),
            ssrc: station as u32,
        };
        let mut bytes = [0; rtp::HEADER_LEN];
        header.emit(&mut bytes);
        let payload = &payloads[*n as usize % payloads.len()];
        let sent = socket.send_to_vectored(&[IoSlice::new(&bytes), IoSlice::new(payload)], group);
        sent.with_context(|| format!("station {station}, picture {n}"))?;
        *n += 1;
        heap.push(Reverse((due(station, *n), station)));
    }
    Ok(())
}

/// Whether this machine grants a thread real-time priority.
pub(crate) fn takes_priority() -> bool {
    std::thread::spawn(take_priority).join().unwrap_or(false)
}

fn take_priority() -> bool {
    let Ok(priority) = PRIORITY.try_into() else { return false };
    thread_priority::set_thread_priority_and_policy(
        thread_priority::thread_native_id(),
        ThreadPriority::Crossplatform(priority),
        ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo),
    )
    .is_ok()
}
