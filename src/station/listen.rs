//! Listens on the groups of all stations: for other senders, and tells of them in the log, and on the station's handle; and for the
//! reports of [receivers].
//!
//! Each station has a socket that has joined its group. The kernel drops the station's own packets
//! ([`listener`]), so that nothing wakes up while no other sends. But each packet that comes back costs the air thread a part of
//! what sending it costs, so the socket hears for [`SPELL`] of each [`PERIOD`] only, and for as long as another sends.

#![expect(clippy::disallowed_methods, reason = "a shell: it waits between two reads")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::receivers;
use crate::clock::AirClock;
use crate::conflict::{Conflict, ConflictChange, addresses};
use crate::headend::{HeadEnd, StationHandle, SyncSource};
use crate::net::{listener, set_deaf};
use crate::wire::sdp::is_source_specific;

/// Time between two reads while others send. Whatever comes meanwhile and does not fit into the socket's buffer is dropped by the
/// kernel: a flood costs no more than a second sender.
pub(super) const READ_INTERVAL: Duration = Duration::from_millis(200);

/// Most datagrams of one read.
pub(super) const READ_MAX: usize = 64;

/// How long a station listens at its beginning: it hears who is there already, and tells.
const FIRST_SPELL: Duration = Duration::from_secs(5);

/// How long it listens afterwards, in each [`PERIOD`]. A station sends five pictures a second at least, and other programs more.
const SPELL: Duration = Duration::from_secs(1);

/// A second sender is noticed after so long at most. Without pauses, the packets that come back take 15 % of the air thread's time
/// (999 stations on loopback, by `perf`).
const PERIOD: Duration = Duration::from_secs(10);

/// Bytes of a datagram that are looked at: all headers, three tables included. Each station has such a buffer.
const HEAD: usize = 256;

/// Pause before another attempt to open a socket.
const RETRY: Duration = Duration::from_secs(5);

/// Listens on the groups of all stations until the head-end stops. Needs a runtime with an I/O driver.
pub(crate) async fn listen(head_end: Arc<HeadEnd>) {
    let mut current = head_end.station_changes();
    let mut listening = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let stations = current.borrow_and_update().clone();
        listening.retain(|id, (station, task): &mut (Arc<StationHandle>, tokio::task::AbortHandle)| {
            let wanted = stations.get(id).is_some_and(|wanted| Arc::ptr_eq(wanted, station));
            if !wanted {
                task.abort();
            }
            wanted
        });
        for (&id, station) in &*stations {
            listening.entry(id).or_insert_with(|| {
                let others = listen_for(station.clone(), head_end.clock.clone());
                let reports = receivers::count(station.clone(), head_end.clone());
                let task = tasks.spawn(async {
                    tokio::join!(others, reports);
                });
                (station.clone(), task)
            });
        }
        tokio::select! {
            Some(_) = tasks.join_next() => {}
            Ok(()) = current.changed() => {}
            () = head_end.stopping() => return,
        }
    }
}

/// Listens on the group of one station.
async fn listen_for(station: Arc<StationHandle>, clock: AirClock) {
    let mut source = station.sync_source();
    let mut conflict = Conflict::default();
    let mut refused = None;
    loop {
        let own = source.borrow_and_update().clone();
        let socket = own.as_ref().map(|own| open(&station, own));
        let listened = async {
            match socket {
                Some(Ok(socket)) => {
                    refused = None;
                    hear(&station, &socket, &mut conflict, &clock).await;
                }
                Some(Err(error)) => {
                    let reason = error.to_string();
                    if refused.as_ref() != Some(&reason) {
                        let spec = station.spec();
                        info!(
                            "station {} \"{}\" cannot listen on {} for other senders; retrying: {reason}",
                            spec.id, spec.name, spec.group
                        );
                    }
                    refused = Some(reason);
                    let _ = timeout(RETRY, hear_nothing(&station, &mut conflict, &clock)).await;
                }
                None => hear_nothing(&station, &mut conflict, &clock).await,
            }
        };
        tokio::select! {
            () = listened => {}
            changed = source.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

fn open(station: &StationHandle, own: &SyncSource) -> std::io::Result<UdpSocket> {
    let group = station.spec().group;
    let socket = listener(group, &own.interface, own.interface.source(group.ip()), own.ssrc)?;
    UdpSocket::from_std(socket)
}

/// Hears and tells until the socket fails.
async fn hear(station: &StationHandle, socket: &UdpSocket, conflict: &mut Conflict, clock: &AirClock) {
    let group = station.spec().group;
    let mut bytes = [0; HEAD];
    // Stations that began together do not listen together.
    let mut spell = FIRST_SPELL + PERIOD.mul_f64(fastrand::f64());
    loop {
        if conflict.is_idle() {
            match timeout(spell, socket.readable()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    spell = SPELL;
                    if set_deaf(socket, group, true).is_ok() {
                        sleep(PERIOD - SPELL).await;
                        if set_deaf(socket, group, false).is_err() {
                            return;
                        }
                    }
                    continue;
                }
            }
        } else {
            sleep(READ_INTERVAL).await;
        }
        for _ in 0..READ_MAX {
            match socket.try_recv_from(&mut bytes) {
                // Whatever was sent before the kernel joined a source-specific group for the station's own address alone.
                Ok((_, from)) if is_source_specific(group.ip()) && Some(from.ip()) != station.source() => {}
                Ok((length, from)) => conflict.hear(clock.now(), from, &bytes[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => {}
            }
        }
        tell(station, conflict.look(clock.now()), conflict.senders());
        if conflict.is_idle() {
            // Garbage that is queued faster than it is read wakes this task no more often than a second sender.
            sleep(READ_INTERVAL).await;
        }
    }
}

/// Without a socket: tells that a conflict is over, when it is. Never returns.
async fn hear_nothing(station: &StationHandle, conflict: &mut Conflict, clock: &AirClock) {
    while !conflict.is_idle() {
        sleep(READ_INTERVAL).await;
        tell(station, conflict.look(clock.now()), conflict.senders());
    }
    std::future::pending().await
}

fn tell(station: &StationHandle, change: Option<ConflictChange>, senders: Vec<SocketAddr>) {
    let spec = station.spec();
    match change {
        Some(ConflictChange::Begins) => warn!(
            "station {} \"{}\" is not alone on {}: {} sends there too, and players may show either; give one of them another group",
            spec.id,
            spec.name,
            spec.group,
            addresses(&senders)
        ),
        Some(ConflictChange::Over) => {
            info!("station {} \"{}\" is alone on {} again", spec.id, spec.name, spec.group);
        }
        None => {}
    }
    station.set_other_senders(senders);
}
