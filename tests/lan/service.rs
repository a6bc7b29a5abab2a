//! What systemd is told of a broadcaster, by sd_notify(3).

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::common::film::pal;
use crate::common::harness::text;
use crate::common::lan::{Lan, head, station};
use crate::common::until;

/// Everything that the service manager is told. It reads at once, as systemd does.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn on(path: &Path) -> Told {
        let socket = UnixDatagram::bind(path).unwrap();
        let told = Told::default();
        let datagrams = told.0.clone();
        std::thread::spawn(move || {
            let mut datagram = [0; 4096];
            while let Ok(length) = socket.recv(&mut datagram) {
                let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
                datagrams.lock().unwrap().push(text);
            }
        });
        told
    }

    /// Waits until it was told this, after what was awaited before. Returns the whole datagram.
    fn await_told(&self, what: &str) -> String {
        until(&format!("the service manager to be told {what:?}"), || {
            let mut datagrams = self.0.lock().unwrap();
            let at = datagrams.iter().position(|datagram| datagram.contains(what))?;
            datagrams.drain(..=at).next_back()
        })
    }
}

pub(crate) fn the_service_manager_is_told() {
    let lan = Lan::alone();
    let host = lan.machine();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let told = Told::on(&path);

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
