//! What systemd is told of a broadcaster, by sd_notify(3).

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::common::film::pal;
use crate::common::harness::text;
use crate::common::lan::{Lan, head, station};
use crate::common::until;

/// Everything that the service manager is told.
struct Told {
    socket: UnixDatagram,
    datagrams: Vec<String>,
}

impl Told {
    /// Waits until it was told this, after what was awaited before. Returns the whole datagram.
    fn await_told(&mut self, what: &str) -> String {
        until(&format!("{what:?} after {:?}", self.datagrams), || {
            let mut datagram = [0; 4096];
            let Ok(length) = self.socket.recv(&mut datagram) else { return None };
            let datagram = String::from_utf8_lossy(&datagram[..length]).into_owned();
            self.datagrams.push(datagram.clone());
            datagram.contains(what).then_some(datagram)
        })
    }
}

pub(crate) fn the_service_manager_is_told() {
    let lan = Lan::alone();
    let host = lan.machine();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut told = Told { socket, datagrams: Vec::new() };

    let film = pal(1);
    let head = head("127.0.0.1:9688", "lo");
    let first = station(1, &[&film.path], "239.77.0.1:5004", "");
    let file = host.lineup(&(head.clone() + &first));
    let bad = station(3, &[&file], "239.77.0.3:5004", "");
    std::fs::write(&file, head.clone() + &first + &bad).unwrap();
    let notify = format!("NOTIFY_SOCKET={}", path.display());
    let program = env!("CARGO_BIN_EXE_broadcaster");
    let broadcaster = host.run("env", &[&notify, "WATCHDOG_USEC=400000", program, "--config", text(&file)]);

    // A station with a slate does not keep the service from being ready.
    let ready = told.await_told("READY=1");
    assert!(ready.contains("STATUS=1 of 2 stations on air; off air: 3 \"Station 3\""), "{ready}");
    told.await_told("WATCHDOG=1");
    told.await_told("WATCHDOG=1");

    std::fs::write(&file, head + &first).unwrap();
    host.tool(program, &["reload", "--config", text(&file)]);
    let reloading = told.await_told("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    told.await_told("READY=1");
    told.await_told("STATUS=1 of 1 stations on air");
    told.await_told("WATCHDOG=1");

    broadcaster.signal("TERM");
    told.await_told("STOPPING=1");
    broadcaster.succeed();
}
