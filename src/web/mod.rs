//! The web: a page with all stations, single pictures, an API and metrics, over plain HTTP/1.1.
//!
//! `daemon` imports it, and `status` its types. It imports `headend`, `directory`, `air` (its histogram of lateness),
//! `media`, `interface`, `log`, `clock` and `limits`.
//!
//! ```text
//!                      +-> wall: one WebSocket carries all tiles        /, /wall
//! Feed -> JpegCache ---+-> pictures: one station to one client          /stations/2.mjpeg, /stations/2.jpg
//!                          m3u: a playlist for players                  /stations.m3u
//!                          api, metrics: what stations are and count    /api/stations, /healthz, /metrics
//! ```
//!
//! `hosts` refuses requests for other hosts than this machine before any of these sees them.
//!
//! The pictures are the access units on air. A station's cache offers each at its due time, while a client is subscribed,
//! and makes its JPEG file once, when the first client is sent it; all clients share those bytes. A slow client is sent
//! fewer pictures, never an old one, and the pictures it misses are counted. `docs/web.md` is the contract.
//!
//! [`server`] accepts connections and keeps one client from harming another.

pub mod api;
mod assets;
pub(crate) mod hosts;
mod jpeg_cache;
mod m3u;
mod metrics;
mod pictures;
pub mod server;
mod wall;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::http::header::ALLOW;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use tokio::net::TcpListener;

use crate::headend::{HeadEnd, StationHandle};
use crate::media::StationId;
use hosts::Hosts;
use jpeg_cache::JpegCache;
use server::HttpLimits;

/// Serves the web to requests for these `hosts`, until the head-end stops. There are at most `places` connections.
pub(crate) async fn serve(listener: TcpListener, head_end: Arc<HeadEnd>, places: usize, hosts: Hosts) {
    let router = router(Web::new(head_end.clone()), hosts);
    let limits = HttpLimits { connections: places, ..HttpLimits::default() };
    server::serve(listener, router, limits, head_end.stopping()).await;
}

/// What all connections share.
pub(crate) struct Web {
    head_end: Arc<HeadEnd>,
    jpegs: BTreeMap<StationId, Arc<JpegCache>>,
    status: wall::StatusCache,
}

impl Web {
    fn new(head_end: Arc<HeadEnd>) -> Arc<Web> {
        let jpegs = |station: &Arc<StationHandle>| {
            (station.spec.id, Arc::new(JpegCache::new(station.clone(), head_end.clock.clone())))
        };
        let jpegs = head_end.stations().map(jpegs).collect();
        Arc::new(Web { jpegs, status: wall::StatusCache::default(), head_end })
    }

    fn station(&self, id: StationId) -> Result<&Arc<StationHandle>, Refusal> {
        self.head_end.station(id).ok_or_else(|| Refusal(StatusCode::NOT_FOUND, format!("no station {id}")))
    }
}

fn router(web: Arc<Web>, hosts: Hosts) -> Router {
    assets::routes()
        // Not `get`, which takes HEAD too: an upgrade has no answer without a body.
        .route("/wall", any(wall::open))
        .route("/stations.m3u", get(m3u::playlist))
        .route("/stations/{file}", get(pictures::station))
        .route("/api/stations", get(api::all))
        .route("/api/stations/{id}", get(api::one))
        .route("/healthz", get(api::health))
        .route("/metrics", get(metrics::scrape))
        .fallback(|uri: Uri| async move {
            Refusal(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
        })
        .method_not_allowed_fallback(|method: Method| async { without_method(method, hosts::METHODS) })
        .layer(from_fn_with_state(Arc::new(hosts), hosts::check))
        .with_state(web)
}

/// The response to a method that a resource does not have. `allow` names those that it has.
fn without_method(method: Method, allow: &'static str) -> Response {
    let allow = [(ALLOW, allow)];
    if method == Method::OPTIONS {
        return allow.into_response();
    }
    let sentence = "this can only be read: use GET".into();
    (allow, Refusal(StatusCode::METHOD_NOT_ALLOWED, sentence)).into_response()
}

/// A refused request: the status, and a sentence that says why.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Refusal(status, sentence) = self;
        (status, format!("{sentence}\n")).into_response()
    }
}
