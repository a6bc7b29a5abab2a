//! What this machine's interfaces are like, kept up to date by the kernel's own notices.

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

/// This machine's interfaces as they are.
pub type Interfaces = watch::Receiver<Arc<[Interface]>>;

/// The groups of rtnetlink(7) that tell of links, IPv4 addresses and IPv6 addresses: RTMGRP_LINK, RTMGRP_IPV4_IFADDR,
/// RTMGRP_IPV6_IFADDR.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;

/// One change comes as several notices; what follows the first within this is looked up with it.
const SETTLE: Duration = Duration::from_millis(20);

/// How often to look where the kernel gives no notice.
const POLL: Duration = Duration::from_secs(2);

/// Lists the interfaces anew whenever something about one of them changes, for as long as somebody listens.
///
/// A driver that is being reset may answer nobody: the list then stays as it was, and nobody waits for it.
#[expect(clippy::disallowed_methods, reason = "the shell that waits for the kernel")]
pub async fn keep_current(current: watch::Sender<Arc<[Interface]>>) {
    let notices = Notices::open()
        .inspect_err(|error| warn!("no notice of changes of interfaces, looking every {POLL:?}: {error}"))
        .ok();
    loop {
        // Before the first notice too: something may have changed since the list was made.
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

    /// Waits for a notice, and takes all that there are. What they say is not read: the list is made anew in any case.
    async fn next(&self) -> io::Result<()> {
        let mut ready = self.0.readable().await?;
        let mut notice = [0; 4096];
        loop {
            match recv(self.0.as_raw_fd(), &mut notice, MsgFlags::MSG_DONTWAIT) {
                Ok(_) => {}
                // Notices were dropped for lack of room: at least one came.
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
    async fn an_outdated_list_is_made_anew_and_the_watch_ends_with_its_listeners() {
        let (sender, mut listener) = watch::channel(Arc::from([]));
        let watching = tokio::spawn(keep_current(sender));
        listener.changed().await.unwrap();
        assert_eq!(**listener.borrow(), *interfaces().unwrap());
        drop(listener);
        watching.await.unwrap();
    }

    #[tokio::test]
    async fn the_kernel_lets_us_listen() {
        let notices = Notices::open().unwrap();
        let nothing = tokio::time::timeout(Duration::from_millis(10), notices.next()).await;
        assert!(nothing.is_err() || nothing.is_ok_and(|notice| notice.is_ok()));
    }
}
