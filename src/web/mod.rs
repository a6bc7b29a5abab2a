//! The web: a page with all stations, single pictures, an API and metrics, over plain HTTP/1.1.
//!
//! `daemon` imports it, and `status` its types. It imports `control`, `headend`, `directory`, `air` (its histogram of lateness),
//! `content` (the guide), `media`, `wire` (the port of sound), `interface`, `log`, `clock`, `limits`, `tls` and
//! `access`.
//!
//! ```text
//!                      +-> wall: one WebSocket carries all tiles        /, /wall
//! Feed -> JpegCache ---+-> pictures: one station to one client          /stations/2.mjpeg, /stations/2.jpg
//! Feed -> PcmCache ----+   (the sound of one tile, to the wall)
//! LiveUnits ---------------> mkv: one station with its sound, in `matroska` /stations/2.mkv
//!                          m3u: a playlist for players                  /stations.m3u
//!                          links: all addresses of a station            /api/stations/2/links
//!                          guide: what is on and what follows           /api/guide, /guide.xml
//!                          api, metrics: what stations are and count    /api/stations, /healthz, /metrics
//!                          control: orders of operators                 /api/stations/2/control, /api/reload
//! ```
//!
//! `hosts` refuses requests for other hosts than this machine before any of these sees them, and `login` tells what the client may
//! see.
//!
//! The pictures are the access units on air. A station's cache offers each at its due time, while a client is subscribed,
//! and makes its JPEG file once, when the first client is sent it; all clients share those bytes. A slow client is sent
//! fewer pictures, never an old one, and the pictures it misses are counted. `docs/web.md` is the contract.
//!
//! [`server`] accepts connections and keeps one client from harming another.

pub mod api;
mod assets;
mod control;
mod guide;
pub(crate) mod hosts;
mod jpeg_cache;
mod links;
mod login;
mod m3u;
mod matroska;
mod metrics;
mod mkv;
mod pcm;
mod pictures;
pub mod server;
mod wall;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use axum::Router;
use axum::http::header::ALLOW;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};

use crate::access::Grant;
use crate::control::Commands;
use crate::headend::{HeadEnd, StationHandle};
use crate::media::StationId;
use crate::tls::Secured;
use hosts::Hosts;
use jpeg_cache::JpegCache;
use pcm::PcmCache;
use server::HttpLimits;

/// Serves the web to requests for these `hosts`, until the head-end stops. There are at most `places` connections.
/// Orders of operators are handed to `commands`.
pub(crate) async fn serve(
    listener: Secured,
    head_end: Arc<HeadEnd>,
    places: usize,
    hosts: Hosts,
    commands: Commands,
) {
    let router = router(Web::new(head_end.clone(), commands), hosts);
    let limits = HttpLimits { connections: places, ..HttpLimits::default() };
    server::serve(listener, router, limits, head_end.stopping()).await;
}

/// The answer to a client that does not speak TLS where it must.
pub(crate) const TLS_ONLY: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 39\r\n\r\n\
    This port speaks TLS only: use https://";

/// What all connections share.
pub(crate) struct Web {
    head_end: Arc<HeadEnd>,
    /// Each lives while a client is subscribed.
    jpegs: Mutex<BTreeMap<StationId, Weak<JpegCache>>>,
    /// Each lives while a page listens.
    pcms: Mutex<BTreeMap<StationId, Weak<PcmCache>>>,
    status: wall::StatusCache,
    commands: Commands,
}

impl Web {
    fn new(head_end: Arc<HeadEnd>, commands: Commands) -> Arc<Web> {
        Arc::new(Web {
            jpegs: Mutex::default(),
            pcms: Mutex::default(),
            status: wall::StatusCache::default(),
            commands,
            head_end,
        })
    }

    /// A station, for a client that may see it. To others it does not exist.
    fn station(&self, id: StationId, grant: &Grant) -> Result<Arc<StationHandle>, Refusal> {
        let station = self.head_end.station(id).filter(|station| station.spec().is_open_to(grant));
        station.ok_or_else(|| Refusal(StatusCode::NOT_FOUND, format!("no station {id}")))
    }

    /// The pictures of a station; `None` if there is none of that number.
    fn jpegs(&self, id: StationId) -> Option<Arc<JpegCache>> {
        let mut jpegs = self.jpegs.lock().unwrap_or_else(PoisonError::into_inner);
        let station = self.head_end.station(id)?;
        let known = jpegs.get(&id).and_then(Weak::upgrade).filter(|cache| cache.is_of(&station));
        Some(known.unwrap_or_else(|| {
            let cache = Arc::new(JpegCache::new(station, self.head_end.clock.clone()));
            jpegs.retain(|_, cache| cache.strong_count() > 0);
            jpegs.insert(id, Arc::downgrade(&cache));
            cache
        }))
    }

    /// The sound of a station; `None` if it has none, or there is no station of that number.
    fn pcm(&self, id: StationId) -> Option<Arc<PcmCache>> {
        let mut pcms = self.pcms.lock().unwrap_or_else(PoisonError::into_inner);
        let station = self.head_end.station(id).filter(|station| station.has_sound())?;
        let known = pcms.get(&id).and_then(Weak::upgrade).filter(|cache| cache.is_of(&station));
        Some(known.unwrap_or_else(|| {
            let cache = Arc::new(PcmCache::new(station, self.head_end.clock.clone()));
            pcms.retain(|_, cache| cache.strong_count() > 0);
            pcms.insert(id, Arc::downgrade(&cache));
            cache
        }))
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
        .route("/api/stations/{id}/control", post(control::order).fallback(control::without_method))
        .route("/api/reload", post(control::reload).fallback(control::without_method))
        .route("/api/stations/{id}/links", get(links::all))
        .route("/api/stations/{id}/links/{file}", get(links::code))
        .route("/api/guide", get(guide::json))
        .route("/guide.xml", get(guide::xmltv))
        .route("/healthz", get(api::health))
        .route("/metrics", get(metrics::scrape))
        .route("/login", get(login::page).post(login::enter))
        .route("/logout", post(login::leave).fallback(control::without_method))
        .fallback(|uri: Uri| async move {
            Refusal(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
        })
        .method_not_allowed_fallback(|method: Method| async { without_method(method, hosts::METHODS) })
        .layer(from_fn_with_state(web.clone(), login::identify))
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

/// For the fuzzer: reads a message of a page, and the headers by which a page is let in.
#[cfg(fuzzing)]
pub fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = serde_json::from_str::<wall::PageMessage>(&text);
    hosts::fuzz(&text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineup::StationSpec;

    #[tokio::test]
    async fn the_pictures_follow_the_stations() {
        let spec = StationSpec::sample("239.77.0.2:5004");
        let id = spec.id;
        let (head_end, _stop) = HeadEnd::for_tests(vec![spec.clone()], None);
        let web = Web::new(head_end.clone(), Commands::new().0);
        let cache = web.jpegs(id).unwrap();
        let mut pictures = cache.subscribe();
        assert!(Arc::ptr_eq(&cache, &web.jpegs(id).unwrap()), "all clients share one");
        drop(cache);

        let old = head_end.station(id).unwrap();
        head_end.change_stations(|stations| drop(stations.insert(id, Arc::new(StationHandle::new(spec)))));
        assert!(web.jpegs(id).unwrap().is_of(&head_end.station(id).unwrap()));
        old.feed.close();
        while pictures.changed().await.is_ok() {}

        head_end.change_stations(|stations| drop(stations.remove(&id)));
        assert!(web.jpegs(id).is_none());
        // Of stations that come and go nothing is left.
        for n in 1..=50 {
            let id = StationId(n);
            let spec = StationSpec { id, ..StationSpec::sample("239.77.0.3:5004") };
            head_end.change_stations(|all| drop(all.insert(id, Arc::new(StationHandle::new(spec)))));
            let mut pictures = web.jpegs(id).unwrap().subscribe();
            let station = head_end.station(id).unwrap();
            head_end.change_stations(|stations| drop(stations.remove(&id)));
            station.feed.close();
            while pictures.changed().await.is_ok() {}
        }
        assert!(web.jpegs.lock().unwrap().len() < 10);
        assert_eq!(web.station(id, &Grant::default()).err().unwrap().0, StatusCode::NOT_FOUND);
    }
}
