//! Keeps all stations of the head-end on air, whichever they are: starts the task of a station that is added, and ends that of
//! a station that is removed. The other stations are not touched.

use std::sync::Arc;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tracing::info;

use super::keep_on_air;
use super::runtime::WakeSlots;
use crate::headend::{Handles, HeadEnd};

/// Keeps the stations on air, on `runtime`, until the head-end stops and all of them have ended. Connections to live sources are
/// on the runtime `sockets`.
pub(crate) async fn supervise(
    head_end: Arc<HeadEnd>,
    runtime: Handle,
    sockets: Handle,
    wake_slots: WakeSlots,
) {
    let mut current = head_end.station_changes();
    // A station that is told to stop stays here until it has ended. One that replaces it starts then.
    let mut on_air = Handles::new();
    let mut tasks = JoinSet::new();
    let mut stopping = false;
    loop {
        let wanted = if stopping { Arc::default() } else { current.borrow_and_update().clone() };
        let is_wanted =
            |handle: &Arc<_>, id| wanted.get(id).is_some_and(|wanted| Arc::ptr_eq(wanted, handle));
        on_air.iter().filter(|(id, handle)| !is_wanted(handle, id)).for_each(|(_, handle)| handle.stop());
        for (&id, handle) in &*wanted {
            // A handle that was stopped serves no second time.
            if !on_air.contains_key(&id) && !*handle.stopping().borrow() {
                on_air.insert(id, handle.clone());
                let station = keep_on_air(handle.clone(), head_end.clone(), wake_slots, sockets.clone());
                tasks.spawn_on(station.map(move |()| id), &runtime);
            }
        }
        if stopping && tasks.is_empty() {
            return;
        }
        tokio::select! {
            Some(ended) = tasks.join_next() => {
                let Some(handle) = ended.ok().and_then(|id| on_air.remove(&id)) else { continue };
                if stopping {
                    continue;
                }
                handle.feed.close();
                handle.sound_feed.close();
                let spec = handle.spec();
                info!("station {} \"{}\" has ended", spec.id, spec.name);
                if head_end.station(spec.id).is_none() {
                    head_end.table.remove(spec.id);
                }
                // Not on this thread, on which other stations would be late. A panic has said why.
                let head_end = head_end.clone();
                drop(runtime.spawn_blocking(move || head_end.forget_gone()));
            }
            Ok(()) = current.changed(), if !stopping => {}
            () = head_end.stopping(), if !stopping => stopping = true,
        }
    }
}
