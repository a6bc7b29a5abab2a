//! A whole broadcaster: composes the stations of a line-up, the air thread, the clock and all servers, and runs them.
//!
//! Only the binary imports it. It may import every room but those of the viewer.

mod commands;
mod follow;
pub mod invitation;
pub mod listeners;
pub mod protection;
mod reload;
pub mod scarcity;
mod service;

use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::air::Air;
use crate::announce::Announcements;
use crate::clock::AirClock;
use crate::content::catalogue::Catalogue;
use crate::content::reel::Store;
use crate::content::worker::Threads;
use crate::control::Commands;
use crate::directory::message::MAX_STATIONS;
use crate::directory::{Limits, Services, StationTable, serve};
use crate::headend::counters::Totals;
use crate::headend::{Clients, HeadEnd, Publishers, handles};
use crate::interface::netlink::keep_current;
use crate::limits::open_files::Places;
use crate::lineup::{Lineup, PublishSpec};
use crate::media::AirTime;
use crate::net::Network;
use crate::station::listen::listen;
use crate::station::runtime::StationRuntime;
use crate::station::supervise;
use crate::tls::Secured;
use crate::web::hosts::Hosts;
use crate::{announce, directory, memory, rtsp, web};
pub use commands::LineupSource;
use listeners::ListenerSwitch;
pub use listeners::Listeners;
use protection::Protection;
use reload::Reloader;
use service::ServiceManager;

/// Longest time for stations and connections to end after the shutdown has begun.
const GRACE: Duration = Duration::from_millis(1500);

/// Blocking threads for each station; the runtime starts them when they are needed. If every film of the line-up hangs at
/// once, each station blocks its own few threads, and none waits for a thread of another.
const BLOCKING_THREADS: usize = 5;

/// Keeps every station of `lineup` on air, and serves `listeners`, until `shutdown` is ready. Follows changes of `source`.
///
/// # Errors
/// The system has no thread for the air or for the stations, or the certificate cannot be used.
#[expect(clippy::disallowed_methods, reason = "a shell: it starts everything")]
pub async fn broadcast(
    lineup: Lineup,
    listeners: Listeners,
    source: Option<LineupSource>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let protection = Protection::open(&lineup).map_err(io::Error::other)?;
    let made = lineup.publish.as_ref().map_or(0, PublishSpec::most);
    let places = places(lineup.stations.len() + made);
    match memory::lock() {
        Ok(()) => info!("memory is locked: no page that is in use is swapped out"),
        Err(_) => info!(
            "memory is not locked: grant CAP_IPC_LOCK or an unlimited memlock limit if this machine swaps"
        ),
    }
    keep_secrets(&lineup);
    let clock = AirClock::start();
    let store = store(&lineup, clock.now());
    let settled = store.as_ref().map(|(store, _)| {
        store.keep_all();
        let store = store.clone();
        tokio::spawn(async move {
            tokio::time::sleep(SETTLING).await;
            store.keep_none();
        })
    });
    let catalogue = Arc::new(Catalogue::new(clock.clone(), store));
    let (stop, stopped) = watch::channel(false);
    let (current, interfaces) = watch::channel(lineup.interfaces.as_slice().into());
    let (named, names) = watch::channel(hosts(&lineup));
    let hosts = Hosts::of_this_machine(names, interfaces.clone());
    let at = listeners.directory.local_addr().ok();
    let (announced, announcements) = watch::channel(Announcements::new(&lineup, at));
    let manager = ServiceManager::of_this_process();
    let runtime = StationRuntime::start(BLOCKING_THREADS * MAX_STATIONS)?;
    let head_end = Arc::new(HeadEnd {
        air: Air::start(clock.clone())?,
        table: StationTable::new(),
        clients: Clients::default(),
        since: clock.now(),
        catalogue,
        stop: stopped,
        network: Network::of_this_machine(interfaces),
        threads: Threads::default(),
        publishers: Publishers::new(lineup.publish.clone()),
        handles: handles(lineup.stations.iter().cloned()),
        gatekeeper: protection.gatekeeper.clone(),
        signing_key: Arc::default(),
        rtsp_security: lineup.security.rtsp,
        clock,
    });
    head_end.tell_directory();
    let address = |listener: &Option<TcpListener>| listener.as_ref()?.local_addr().ok();
    head_end.table.set_services(Services { rtsp: address(&listeners.rtsp), http: address(&listeners.http) });
    let (served, switch) = ListenerSwitch::new(listeners);
    let following = runtime.handle().spawn(head_end.clock.clone().keep_following());
    let mut tasks = JoinSet::new();
    let watching = tokio::spawn(keep_current(current));
    let wake_slots = runtime.wake_slots();
    // The stations' own runtime serves no sockets.
    let (stations, sockets) = (runtime.handle(), tokio::runtime::Handle::current());
    tasks.spawn_on(supervise(head_end.clone(), stations.clone(), sockets, wake_slots), stations);
    let security = &lineup.security;
    let door = |name, security, refusal| protection.door(name, security, refusal);
    tasks.spawn({
        let door = door("directory", security.directory, directory::server::tls_only());
        let listener = Secured::new(served.directory, door);
        let head_end = head_end.clone();
        let table = head_end.table.clone();
        let limits = Limits { connections: places.directory, ..Limits::default() };
        serve(listener, table, limits, async move { head_end.stopping().await })
    });
    let listener = Secured::new(served.rtsp, door("rtsp", security.rtsp, rtsp::TLS_ONLY.into()));
    tasks.spawn(rtsp::serve(listener, head_end.clone(), places.rtsp));
    let listener = Secured::new(served.http, door("http", security.http, web::TLS_ONLY.into()));
    let (commands, given) = Commands::new();
    tasks.spawn(web::serve(listener, head_end.clone(), places.http, hosts, commands.clone()));
    tasks.spawn(head_end.clone().keep_telling_now());
    tasks.spawn(head_end.clone().keep_publishers_numbers());
    tasks.spawn(announce::announce(announcements, head_end.clone()));
    tasks.spawn(listen(head_end.clone()));
    tasks.spawn(manager.clone().keep_told(head_end.clone()));
    tasks.spawn_on(manager.clone().keep_watchdog(head_end.clone()), stations);
    let protecting = tokio::spawn(protection.keep_current(head_end.clone()));
    let reloading = source.map(|source| {
        let reloader = Reloader {
            file: source.file.clone(),
            lineup,
            head_end: head_end.clone(),
            switch,
            hosts: named,
            announced,
            manager: manager.clone(),
        };
        tokio::spawn(commands::obey(source, commands, given, reloader))
    });

    shutdown.await;
    info!("going off air");
    manager.stopping();
    following.abort();
    protecting.abort();
    reloading.inspect(tokio::task::JoinHandle::abort);
    settled.inspect(tokio::task::JoinHandle::abort);
    watching.abort();
    stop.send_replace(true);
    let end = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, end).await.is_err() {
        warn!("a station did not stop in time; ending without it");
    }
    // Publishers have left with their connections.
    head_end.publishers.save_numbers();
    runtime.end().await;
    info!("off air: {}", Totals::of(head_end.stations().values().map(|station| &**station)));
    Ok(())
}

/// Keeps the keys, tokens and passwords of `lineup` out of core files, if it has some.
fn keep_secrets(lineup: &Lineup) {
    if lineup.has_secrets()
        && let Err(error) = memory::keep_secret()
    {
        warn!("keys and tokens would be in a core file: {error}");
    }
}

/// The names and addresses by which clients may address the web, besides this machine's own.
fn hosts(lineup: &Lineup) -> Vec<String> {
    let announced = announce::host_name(lineup.directory.port()).to_ascii_lowercase();
    lineup.hosts.iter().cloned().chain([announced]).collect()
}

/// In this time after the start all stations have looked for their reels: until then none is evicted.
const SETTLING: Duration = Duration::from_secs(10);

/// Opens the store of reels. Without it, every pass of a film is encoded again, and the stations still go on air.
fn store(lineup: &Lineup, now: AirTime) -> Option<(Store, &Path)> {
    let dir = lineup.reel.dir.as_ref().filter(|_| lineup.stations.iter().any(|station| station.reel))?;
    Store::open(dir, lineup.reel.bytes, now)
        .map(|store| (store, dir.as_path()))
        .inspect_err(|error| warn!("no reels are kept: cannot use the folder {}: {error}", dir.display()))
        .ok()
}

/// Raises the limit of open files to the hard limit, and returns how many connections that limit allows beside `stations`
/// stations. The usual soft limit of 1,024 is for programs that use select(2).
fn places(stations: usize) -> Places {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        warn!("cannot raise the limit of open files: {error}");
    }
    let files = rustix::process::getrlimit(Resource::Nofile).current;
    let places = Places::within(files, stations);
    if let Some(note) = places.note(files, stations) {
        warn!("{note}");
    }
    places
}

#[cfg(test)]
mod tests;
