//! A network namespace with nothing but loopback. If root makes it, it grants real-time priority; another user's is inside a
//! user namespace, where the kernel refuses that.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use anyhow::{Context, bail};
use stationcast::interface::{Interface, interfaces};

const SETUP: &str = "PATH=$PATH:/usr/sbin:/sbin; ip link set lo up && ip route add 224.0.0.0/4 dev lo";

/// Runs this program again, in a namespace.
pub(crate) fn enter(arguments: &[String]) -> anyhow::Result<()> {
    let mut reason = String::new();
    // Root tries without a user namespace first.
    let kinds: &[&str] = if nix::unistd::geteuid().is_root() { &["-nm", "-Urnm"] } else { &["-Urnm"] };
    for kind in kinds {
        let tried = Command::new("unshare").args([kind, "sh", "-c", SETUP]).output();
        let tried = tried.context("cannot start unshare (Debian: util-linux)")?;
        if !tried.status.success() {
            reason = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
            continue;
        }
        let script = format!("{SETUP}; exec setpriv --pdeathsig KILL \"$0\" --inside \"$@\"");
        let this = std::env::current_exe().context("where is this program?")?;
        let status =
            Command::new("unshare").args([kind, "sh", "-c", &script]).arg(this).args(arguments).status()?;
        return match status.code() {
            Some(0) => Ok(()),
            Some(_) => std::process::exit(1),
            None => bail!("ended by a signal"),
        };
    }
    bail!(
        "no network namespace of its own to measure in (unshare: {reason}); see kernel.unprivileged_userns_clone"
    )
}

/// The group of a station.
pub(crate) fn group(station: u16) -> SocketAddr {
    let [high, low] = station.to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(239, 77, high, low), 5004))
}

/// The loopback interface.
pub(crate) fn loopback() -> anyhow::Result<Interface> {
    let lo = interfaces()?.into_iter().find(|interface| interface.name == "lo");
    lo.context("there is no loopback interface")
}
