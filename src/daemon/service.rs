//! Tells the service manager, systemd, how the broadcaster is (sd_notify(3)): that all stations are on air, how many are, that it
//! reads its line-up again, and that its threads are alive.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tracing::warn;

use crate::directory::State;
use crate::headend::{HeadEnd, Interlude};

/// Longest time until the service manager is told that the broadcaster is ready, though some stations have shown nothing yet: no
/// station may keep the others from being started.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Longest time for which a service manager that reads nothing is waited for. No station waits meanwhile.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// Time between two attempts to tell it.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// Shortest time between two sentences on the stations.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// The service manager that started this program, if one did.
#[derive(Clone)]
pub(super) struct ServiceManager {
    /// To the service manager. It never blocks: a service manager that is busy must not stop a thread of ours.
    socket: Option<Arc<UnixDatagram>>,
    /// How often it wants to hear that the broadcaster is alive, at least; `None`: it does not.
    watchdog: Option<Duration>,
    /// Whether it was told that the broadcaster is ready.
    ready: Arc<AtomicBool>,
}

impl ServiceManager {
    /// The service manager by this program's environment.
    pub(super) fn of_this_process() -> ServiceManager {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|address| {
            let connected = connect(&address);
            connected.inspect_err(|error| warn!("the service manager is not told anything: {error}")).ok()
        });
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog =
            number("WATCHDOG_USEC").filter(|&micros| is_ours && micros > 0).map(Duration::from_micros);
        ServiceManager { socket: socket.map(Arc::new), watchdog, ready: Arc::default() }
    }

    /// Tells the service manager. While its queue is full, it is tried again.
    #[expect(clippy::disallowed_methods, reason = "a shell: it does not wait for ever")]
    async fn tell(&self, state: &str) {
        let Some(socket) = &self.socket else { return };
        let until = Instant::now() + TOLD_WITHIN;
        loop {
            match socket.send(state.as_bytes()) {
                Ok(_) => return,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    return warn!("the service manager cannot be told: {error}");
                }
                Err(_) if Instant::now() >= until => return warn!("the service manager reads nothing"),
                Err(_) => sleep(TRY_AGAIN).await,
            }
        }
    }

    /// The line-up is read again.
    #[expect(clippy::disallowed_methods, reason = "a shell: systemd wants to know when")]
    pub(super) async fn reloading(&self) {
        if self.ready.load(Relaxed) {
            let now = clock_gettime(ClockId::Monotonic);
            let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
            self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}")).await;
        }
    }

    /// The line-up was read again.
    pub(super) async fn reloaded(&self) {
        if self.ready.load(Relaxed) {
            self.tell("READY=1").await;
        }
    }

    /// The broadcaster ends.
    pub(super) fn stopping(&self) {
        if let Some(socket) = &self.socket {
            // It is not waited for, since stations end meanwhile.
            let _ = socket.send(b"STOPPING=1\nSTATUS=going off air");
        }
    }

    /// Tells when all stations have something to show, and from then on how many are on air, until the head-end stops.
    #[expect(clippy::disallowed_methods, reason = "a shell: it does not wait for ever, nor tell too often")]
    pub(super) async fn keep_told(self, head_end: Arc<HeadEnd>) {
        if self.socket.is_none() {
            return;
        }
        let mut changes = head_end.table.changes();
        let all_shown = async {
            loop {
                let Stations { starting, all, .. } = Stations::of(&head_end);
                // Until a station has entered the table, it is missing there.
                if starting == 0 && all >= head_end.stations().len() {
                    return;
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = head_end.stopping() => return,
            _ = timeout(READY_WITHIN, all_shown) => {}
        }
        let mut told = Stations::of(&head_end).sentence();
        self.tell(&format!("READY=1\nSTATUS={told}")).await;
        self.ready.store(true, Relaxed);
        loop {
            tokio::select! {
                () = head_end.stopping() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
            sleep(STATUS_EVERY).await;
            let sentence = Stations::of(&head_end).sentence();
            if sentence != told {
                self.tell(&format!("STATUS={sentence}")).await;
                told = sentence;
            }
        }
    }

    /// Tells that the broadcaster is alive, as long as the air thread answers and the runtime on which this runs goes on, until the
    /// head-end stops. For the runtime of the stations.
    #[expect(clippy::disallowed_methods, reason = "a shell: it asks every few seconds")]
    pub(super) async fn keep_watchdog(self, head_end: Arc<HeadEnd>) {
        let Some(limit) = self.watchdog.filter(|_| self.socket.is_some()) else { return };
        let mut ticks = interval((limit / 4).max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked = 0;
        loop {
            tokio::select! {
                () = head_end.stopping() => return,
                _ = ticks.tick() => {}
            }
            if head_end.air.last_answered() == asked {
                self.tell("WATCHDOG=1").await;
                asked += 1;
                head_end.air.ask(asked);
            }
        }
    }
}

/// A socket that is connected to a service manager's address: a path, or after an `@`, a name that is in no folder.
fn connect(address: &OsString) -> io::Result<UnixDatagram> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Counts of the stations by what they send.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stations {
    all: usize,
    starting: usize,
    on_hold: usize,
    /// The names of those that show a slate because of a fault.
    off_air: Vec<String>,
}

impl Stations {
    fn of(head_end: &HeadEnd) -> Stations {
        let mut stations = Stations::default();
        for entry in head_end.table.line_up().1 {
            stations.all += 1;
            let interlude = head_end.station(entry.id).and_then(|station| station.interlude());
            match (entry.state, interlude) {
                (State::Starting, _) => stations.starting += 1,
                (State::Slate { .. }, Some(Interlude::Hold(_))) => stations.on_hold += 1,
                (State::Slate { .. }, _) => stations.off_air.push(format!("{} \"{}\"", entry.id, entry.name)),
                (State::Film, _) => {}
            }
        }
        stations
    }

    fn sentence(&self) -> String {
        let Stations { all, starting, on_hold, off_air } = self;
        let on_air = all - starting - on_hold - off_air.len();
        let mut sentence = format!("{on_air} of {all} stations on air");
        if *on_hold > 0 {
            sentence += &format!(", {on_hold} on hold");
        }
        if !off_air.is_empty() {
            const MOST: usize = 5;
            let more = off_air.len().saturating_sub(MOST);
            let names = off_air[..off_air.len() - more].join(", ");
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            sentence += &format!("; off air: {names}{more}");
        }
        sentence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    #[expect(clippy::disallowed_methods, reason = "in virtual time")]
    async fn a_name_in_no_folder_is_reached_and_a_manager_that_reads_nothing_stops_no_thread() {
        let name = format!("stationcast-test-{}", std::process::id());
        let reader = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let socket = connect(&format!("@{name}").into()).unwrap();
        let manager =
            ServiceManager { socket: Some(Arc::new(socket)), watchdog: None, ready: Arc::default() };
        let mut sent = 0;
        while manager.socket.as_ref().unwrap().send(b"WATCHDOG=1").is_ok() {
            sent += 1;
        }
        assert!(sent > 0);
        // It is given up after a time.
        manager.tell("lost").await;
        let mut datagrams = Vec::new();
        let read = async {
            sleep(2 * TRY_AGAIN).await;
            for _ in 0..=sent {
                let mut datagram = [0; 64];
                let length = reader.recv(&mut datagram).unwrap();
                datagrams.push(String::from_utf8_lossy(&datagram[..length]).into_owned());
                sleep(TRY_AGAIN).await;
            }
        };
        tokio::join!(manager.tell("READY=1"), read);
        assert_eq!(datagrams.last().unwrap(), "READY=1");
        assert!(datagrams[..sent].iter().all(|datagram| datagram == "WATCHDOG=1"));
    }

    #[test]
    fn the_sentence_names_a_few_stations_that_are_off_air() {
        let mut stations = Stations { all: 9, ..Stations::default() };
        assert_eq!(stations.sentence(), "9 of 9 stations on air");
        stations.on_hold = 1;
        stations.off_air = vec!["2 \"Nature\"".into()];
        assert_eq!(stations.sentence(), "7 of 9 stations on air, 1 on hold; off air: 2 \"Nature\"");
        stations.off_air = (1..=7).map(|n| n.to_string()).collect();
        assert_eq!(
            stations.sentence(),
            "1 of 9 stations on air, 1 on hold; off air: 1, 2, 3, 4, 5 and 2 more"
        );
    }
}
