//! The list of this machine's interfaces, kept current by the kernel's notices (rtnetlink(7)).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use std::os::fd::{AsRawFd, OwnedFd};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tracing::{debug, warn};

use super::{Interface, interfaces};

/// This machine's current interfaces.
pub type Interfaces = watch::Receiver<Arc<[Interface]>>;

/// The multicast groups of rtnetlink(7) for links, IPv4 addresses and IPv6 addresses: RTMGRP_LINK, RTMGRP_IPV4_IFADDR and
/// RTMGRP_IPV6_IFADDR.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;

/// Pause after a notice before the list is made. A change comes as several notices, and one list serves all of them.
const SETTLE: Duration = Duration::from_millis(20);

/// Time between two lists if the kernel gives no notices.
const POLL: Duration = Duration::from_secs(2);

/// Keeps `current` up to date, until all its receivers are dropped.
///
/// While a driver is being reset, the system may not answer. The list then stays as it was, and no receiver waits.
#[expect(clippy::disallowed_methods, reason = "the shell that waits for the kernel")]
pub async fn keep_current(current: watch::Sender<Arc<[Interface]>>) {
    let notices = Notices::open()
        .inspect_err(|error| {
            warn!("no notices of interface changes from the kernel, polling every {POLL:?}: {error}")
        })
        .ok();
    loop {
        // Before the first notice too: an interface may have changed since the caller listed them.
        if let Ok(Ok(found)) = tokio::task::spawn_blocking(interfaces).await {
            current.send_if_modified(|known| {
                let changed = **known != *found;
                if changed {
                    debug!("interfaces: {found:?}");
                    *known = found.into();
                }
                changed
            });
        }
        let next = async {
            match &notices {
                Some(notices) if notices.next().await.is_ok() => tokio::time::sleep(SETTLE).await,
                _ => tokio::time::sleep(POLL).await,
            }
        };
        tokio::select! {
            () = next => {}
            () = current.closed() => return,
        }
    }
}

/// The kernel's notices that something about an interface has changed.
struct Notices(AsyncFd<OwnedFd>);

impl Notices {
    fn open() -> io::Result<Notices> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        #[expect(deprecated, reason = "unsound for types that change their descriptor; OwnedFd keeps it")]
        let notices = AsyncFd::new(socket)?;
        Ok(Notices(notices))
    }

    /// Waits for a notice and discards all that are queued. Their content does not matter, since the list is made anew.
    async fn next(&self) -> io::Result<()> {
        let mut ready = self.0.readable().await?;
        let mut notice = [0; 4096];
        loop {
            match recv(self.0.as_raw_fd(), &mut notice, MsgFlags::MSG_DONTWAIT) {
                Ok(_) => {}
                // The receive buffer overflowed, so there were notices.
                Err(nix::Error::ENOBUFS) => {}
                Err(nix::Error::EAGAIN) => {
                    ready.clear_ready();
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_outdated_list_is_replaced_and_the_task_ends_with_its_receivers() {
        let (sender, mut listener) = watch::channel(Arc::from([]));
        let watching = tokio::spawn(keep_current(sender));
        listener.changed().await.unwrap();
        assert_eq!(**listener.borrow(), *interfaces().unwrap());
        drop(listener);
        watching.await.unwrap();
    }

    #[tokio::test]
    async fn the_kernel_grants_a_netlink_socket() {
        let notices = Notices::open().unwrap();
        let nothing = tokio::time::timeout(Duration::from_millis(10), notices.next()).await;
        assert!(nothing.is_err() || nothing.is_ok_and(|notice| notice.is_ok()));
    }
}
