//! The page's own files, compiled into the program: there is nothing to install beside it, and the page asks no other host.

use std::sync::Arc;

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::routing::get;

use super::Web;

/// Everything is loaded from this host, and nothing is inline. Pictures arrive over the WebSocket, which 'self' covers, and are decoded
/// by way of a data URL where the browser has nothing better. No other page may frame this one.
const POLICY: &str =
    "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Path, media type and text of each file.
const FILES: [(&str, &str, &str); 13] = [
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/wall.css", "text/css; charset=utf-8", include_str!("page/wall.css")),
    ("/wall.js", "text/javascript; charset=utf-8", include_str!("page/wall.js")),
    ("/stage.js", "text/javascript; charset=utf-8", include_str!("page/stage.js")),
    ("/remote.js", "text/javascript; charset=utf-8", include_str!("page/remote.js")),
    ("/sound.js", "text/javascript; charset=utf-8", include_str!("page/sound.js")),
    ("/link.js", "text/javascript; charset=utf-8", include_str!("page/link.js")),
    ("/decode.js", "text/javascript; charset=utf-8", include_str!("page/decode.js")),
    ("/painter.js", "text/javascript; charset=utf-8", include_str!("page/painter.js")),
    ("/search.js", "text/javascript; charset=utf-8", include_str!("page/search.js")),
    ("/links.js", "text/javascript; charset=utf-8", include_str!("page/links.js")),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("/api/openapi.json", "application/json", include_str!("openapi.json")),
];

pub(super) fn routes() -> Router<Arc<Web>> {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        let headers = [
            (CONTENT_TYPE, kind),
            // Browsers must revalidate: a newer program has newer files.
            (CACHE_CONTROL, "no-cache"),
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
        ];
        router.route(path, get(move || async move { (headers, text) }))
    })
}
