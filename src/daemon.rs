//! A line-up on air: all its stations, the thread that sends, the clock, the directory.

use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::air::Air;
use crate::clock::AirClock;
use crate::content::catalogue::Catalogue;
use crate::content::reel::Store;
use crate::directory::{Limits, Services, StationTable, serve};
use crate::headend::report::Totals;
use crate::headend::{Clients, HeadEnd, StationHandle};
use crate::lineup::Lineup;
use crate::media::AirTime;
use crate::station::keep_on_air;
use crate::station::runtime::StationRuntime;
use crate::{announce, rtsp, web};

/// Longest time for stations and connections to end once they are told to.
const GRACE: Duration = Duration::from_millis(1500);

/// The most threads of a station that can wait for the system at once. They are made when they are needed; should all films of a full
/// line-up hang at once, each station's few wait there and nobody else waits for a thread.
const MOST_BLOCKED: usize = 4;

/// What a broadcaster listens on.
pub struct Listeners {
    /// For the directory.
    pub directory: TcpListener,
    /// For RTSP, if that is served.
    pub rtsp: Option<TcpListener>,
    /// For the web, if that is served.
    pub http: Option<TcpListener>,
}

/// Keeps every station of `lineup` on air, and served by `listeners`, until `shutdown` is ready.
///
/// # Errors
/// The system has no thread for the air or for the stations.
pub async fn broadcast(
    lineup: Lineup,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    // A socket and a reel for each station, a connection for each viewer.
    if let Err(error) = raise_open_files() {
        warn!("cannot raise the limit of open files: {error}");
    }
    match lock_memory() {
        Ok(()) => info!("memory is locked: no page that is in use is swapped out"),
        Err(_) => info!(
            "memory is not locked: grant CAP_IPC_LOCK or an unlimited memlock limit if this machine swaps"
        ),
    }
    let clock = AirClock::start();
    let catalogue = Arc::new(Catalogue::new(clock.clone(), store(&lineup, clock.now())));
    let (stop, stopped) = watch::channel(false);
    let announced = announce::Announced::new(&lineup, listeners.directory.local_addr().ok());
    let runtime = StationRuntime::start(MOST_BLOCKED * lineup.stations.len())?;
    let handles = lineup.stations.into_iter().map(|spec| (spec.id, Arc::new(StationHandle::new(spec))));
    let head_end = Arc::new(HeadEnd {
        air: Air::start(clock.clone())?,
        table: StationTable::new(),
        clients: Clients::default(),
        since: clock.now(),
        catalogue,
        stop: stopped,
        interfaces: Default::default(),
        handles: handles.collect(),
        clock,
    });
    let address = |listener: &Option<TcpListener>| listener.as_ref()?.local_addr().ok();
    head_end.table.set_services(Services { rtsp: address(&listeners.rtsp), http: address(&listeners.http) });
    let following = runtime.handle().spawn(head_end.clock.clone().keep_following());
    let mut tasks = JoinSet::new();
    for station in head_end.stations() {
        tasks
            .spawn_on(keep_on_air(station.clone(), head_end.clone(), runtime.wake_slots()), runtime.handle());
    }
    tasks.spawn({
        let head_end = head_end.clone();
        let table = head_end.table.clone();
        serve(listeners.directory, table, Limits::default(), async move { head_end.stopping().await })
    });
    if let Some(listener) = listeners.rtsp {
        tasks.spawn(rtsp::serve(listener, head_end.clone()));
    }
    if let Some(listener) = listeners.http {
        tasks.spawn(web::serve(listener, head_end.clone()));
    }
    tasks.spawn(announce::announce(announced, head_end.clone()));

    shutdown.await;
    info!("going off air");
    following.abort();
    stop.send_replace(true);
    let end = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, end).await.is_err() {
        warn!("a station did not end in time and is left behind");
    }
    runtime.end().await;
    info!("off air: {}", Totals::of(head_end.stations().map(|station| &**station)));
    Ok(())
}

/// Where the reels are. Without a place for them every pass of a film is encoded anew: no reason to stay off air.
fn store(lineup: &Lineup, now: AirTime) -> Option<(Store, &Path)> {
    let dir = lineup.reel.dir.as_ref().filter(|_| lineup.stations.iter().any(|station| station.reel))?;
    Store::open(dir, lineup.reel.bytes, now)
        .map(|store| (store, dir.as_path()))
        .inspect_err(|error| warn!("no reels are kept: cannot use the folder {}: {error}", dir.display()))
        .ok()
}

/// Locks all memory, as it comes to be used, if all of it may be: with less, some later allocation would fail.
fn lock_memory() -> rustix::io::Result<()> {
    let limit = rustix::process::getrlimit(Resource::Memlock);
    let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    if limit.current.is_none() {
        return mlockall(all);
    }
    // With a limit of nothing it is CAP_IPC_LOCK alone that allows it; and in a user namespace, where root has that in
    // name only, it does not.
    rustix::process::setrlimit(Resource::Memlock, Rlimit { current: Some(0), ..limit })?;
    let locked = mlockall(all);
    rustix::process::setrlimit(Resource::Memlock, limit)?;
    locked
}

/// Takes as many open files as the system allows: the usual 1,024 are for programs that use select(2).
fn raise_open_files() -> rustix::io::Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
}

#[cfg(test)]
mod tests;
