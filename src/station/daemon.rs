//! A line-up on air: all its stations, the thread that sends, the clock, the directory.

use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{info, warn};

use super::catalogue::Catalogue;
use super::onair::Air;
use super::reel::Store;
use super::{Studio, keep_on_air};
use crate::clock::AirClock;
use crate::directory::{Board, Limits, serve};
use crate::lineup::Lineup;
use crate::units::AirTime;

/// Longest time for stations and connections to end once they are told to.
const GRACE: Duration = Duration::from_millis(1500);

/// Keeps every station of `lineup` on air, and the directory on `listener`, until `shutdown` is ready.
///
/// # Errors
/// The system has no thread for the air.
pub async fn broadcast(
    lineup: Lineup,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    // A socket and a reel for each station, a connection for each viewer.
    if let Err(error) = raise_open_files() {
        warn!("cannot raise the limit of open files: {error}");
    }
    let clock = AirClock::start();
    let air = Air::start(clock.clone())?;
    let catalogue = Arc::new(Catalogue::new(clock.clone(), store(&lineup, clock.now())));
    let (stop, stopped) = watch::channel(false);
    let studio =
        Arc::new(Studio { clock: clock.clone(), air, catalogue, board: Board::new(), stop: stopped.clone() });
    let following = tokio::spawn(clock.keep_following());
    let stations: Vec<_> = lineup
        .stations
        .into_iter()
        .map(|station| tokio::spawn(keep_on_air(Arc::new(station), studio.clone())))
        .collect();
    let directory = tokio::spawn(serve(listener, studio.board.clone(), Limits::default(), async move {
        let mut stopped = stopped;
        let _ = stopped.wait_for(|&stop| stop).await;
    }));

    shutdown.await;
    info!("going off air");
    following.abort();
    stop.send_replace(true);
    let end = async {
        for task in stations {
            let _ = task.await;
        }
        let _ = directory.await;
    };
    if tokio::time::timeout(GRACE, end).await.is_err() {
        warn!("a station did not end in time and is left behind");
    }
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

/// Takes as many open files as the system allows: the usual 1,024 are for programs that use select(2).
fn raise_open_files() -> rustix::io::Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
}
