//! The web: a wall of all stations, single pictures, the API, metrics.

use std::sync::Arc;

use tokio::net::TcpListener;

use crate::station::headend::HeadEnd;

/// Serves pages until the head-end stops.
pub async fn serve(listener: TcpListener, head_end: Arc<HeadEnd>) {
    let _ = listener;
    head_end.stopping().await;
}
