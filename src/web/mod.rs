//! The web: a wall of all stations, single pictures, the API, metrics. Plain HTTP/1.1, for a browser or any program.
//!
//! ```text
//!                 +-> wall: one WebSocket carries all tiles        /, /wall
//! Feed -> Relay --+-> pictures: one station to one client          /stations/2.mjpeg, /stations/2.jpg
//!                     playlist: what opens stations in a player    /stations.m3u, /stations/2.sdp
//!                     api: what stations are and have counted      /api/stations, /healthz, /metrics
//! ```
//!
//! The pictures are the access units on air. A relay shows each at its time, while somebody looks, and makes its JPEG
//! file once, when the first client is sent it; all share those bytes. Nobody is ever sent an old picture because it is
//! slow: it is sent fewer, and what it missed is counted. `docs/web.md` is the contract.
//!
//! - [`server`]: connections, and everything that keeps one of them from harming the others;
//! - [`status`]: `broadcaster status`, a client of the API.

pub mod api;
mod assets;
mod metrics;
mod pictures;
mod playlist;
mod relay;
pub mod server;
pub mod status;
mod wall;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::headend::{HeadEnd, StationHandle};
use crate::media::StationId;
use relay::Relay;
use server::Limits;

/// Serves pages until the head-end stops.
pub async fn serve(listener: TcpListener, head_end: Arc<HeadEnd>) {
    let router = router(Web::new(head_end.clone()));
    server::serve(listener, router, Limits::default(), head_end.stopping()).await;
}

/// What all connections share.
pub(crate) struct Web {
    head_end: Arc<HeadEnd>,
    relays: BTreeMap<StationId, Arc<Relay>>,
    bulletin: wall::Bulletin,
}

impl Web {
    fn new(head_end: Arc<HeadEnd>) -> Arc<Web> {
        let relay = |station: &Arc<StationHandle>| {
            (station.spec.id, Arc::new(Relay::new(station.clone(), head_end.clock.clone())))
        };
        let relays = head_end.stations().map(relay).collect();
        Arc::new(Web { relays, bulletin: wall::Bulletin::default(), head_end })
    }

    fn station(&self, id: StationId) -> Result<&Arc<StationHandle>, Refusal> {
        self.head_end.station(id).ok_or_else(|| Refusal(StatusCode::NOT_FOUND, format!("no station {id}")))
    }
}

fn router(web: Arc<Web>) -> Router {
    assets::routes()
        .route("/wall", get(wall::open))
        .route("/stations.m3u", get(playlist::m3u))
        .route("/stations/{file}", get(pictures::station))
        .route("/api/stations", get(api::all))
        .route("/api/stations/{id}", get(api::one))
        .route("/healthz", get(api::health))
        .route("/metrics", get(metrics::scrape))
        .fallback(|uri: Uri| async move {
            Refusal(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
        })
        .method_not_allowed_fallback(|| async {
            Refusal(StatusCode::METHOD_NOT_ALLOWED, "this can only be read: use GET".into())
        })
        .with_state(web)
}

/// A request that is not served, and the sentence that says why.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Refusal(status, sentence) = self;
        (status, format!("{sentence}\n")).into_response()
    }
}
