//! What a client may see: its token, in a header, or the cookie of its log-in; and the page on which people log in.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Extension, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, LOCATION, REFERRER_POLICY,
    RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use super::hosts::{RequestHost, same_site};
use super::server::Admitted;
use super::{Refusal, Web};
use crate::access::{Credentials, Denied, Grant, Secret, Visitor};

/// The name of the cookie of a log-in.
const NAME: &str = "stationcast";

/// Most bytes of a form, and the time for it to come.
const FORM: usize = 4096;
const FORM_TIMEOUT: Duration = Duration::from_secs(10);

/// Nothing is loaded, and the form is sent to this host only.
const POLICY: &str = "default-src 'none'; img-src 'self'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

impl Admitted {
    pub(super) fn visitor(&self) -> Visitor {
        Visitor { address: self.peer.ip(), tls: self.tls, service: "http" }
    }
}

/// Gives each request the [`Grant`] of its client. Refuses a token that is not let in; a cookie that is over means nothing.
pub(super) async fn identify(
    State(web): State<Arc<Web>>,
    Extension(client): Extension<Admitted>,
    mut request: Request,
    next: Next,
) -> Response {
    let gatekeeper = &web.head_end.gatekeeper;
    let grant = match bearer(request.headers()) {
        Some(token) => match client.known(&token) {
            Some(grant) => grant,
            None => {
                let credentials = Credentials { name: String::new(), secret: token.clone() };
                match gatekeeper.admit(client.visitor(), credentials).await {
                    Ok(grant) => {
                        client.remember(token, grant.clone());
                        grant
                    }
                    Err(denied) => return refusal(denied),
                }
            }
        },
        None => {
            let known =
                cookie(request.headers()).and_then(|cookie| gatekeeper.logged_in(client.visitor(), &cookie));
            known.unwrap_or_else(|| Grant::of_a_stranger(client.visitor().is_private()))
        }
    };
    request.extensions_mut().insert(grant);
    next.run(request).await
}

/// The response to a token or a password that is not let in.
fn refusal(denied: Denied) -> Response {
    let sentence = denied.to_string();
    match denied {
        Denied::Plain => Refusal(StatusCode::FORBIDDEN, sentence).into_response(),
        Denied::Wrong => {
            ([(WWW_AUTHENTICATE, "Bearer")], Refusal(StatusCode::UNAUTHORIZED, sentence)).into_response()
        }
        Denied::TooMany(wait) => {
            let seconds = (wait.as_secs() + 1).to_string();
            ([(RETRY_AFTER, seconds)], Refusal(StatusCode::TOO_MANY_REQUESTS, sentence)).into_response()
        }
    }
}

/// The token of a request (RFC 6750 section 2.1).
pub(super) fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Secret::new(token.trim().to_owned()))
}

/// The cookie of a log-in (RFC 6265 section 5.4).
fn cookie(headers: &HeaderMap) -> Option<Secret> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == NAME).map(|(_, value)| Secret::new(value.to_owned()))
}

/// `GET /login`.
pub(super) async fn page(
    Extension(client): Extension<Admitted>,
    Extension(grant): Extension<Grant>,
) -> Response {
    document(StatusCode::OK, client.visitor().is_private(), grant.name(), None)
}

/// `POST /login`: a form with `name` and `secret`.
pub(super) async fn enter(
    State(web): State<Arc<Web>>,
    Extension(client): Extension<Admitted>,
    Extension(host): Extension<RequestHost>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if !same_site(&headers, &host) {
        return Refusal(StatusCode::FORBIDDEN, "a page of another site may not log in here".into())
            .into_response();
    }
    let Ok(Ok(form)) = timeout(FORM_TIMEOUT, to_bytes(body, FORM)).await else {
        let sentence = format!("a log-in is a form of at most {FORM} bytes");
        return Refusal(StatusCode::BAD_REQUEST, sentence).into_response();
    };
    let (mut name, mut secret) = (String::new(), String::new());
    for (key, value) in form_urlencoded::parse(&form) {
        match &*key {
            "name" => name = value.trim().to_owned(),
            "secret" => secret = value.trim().to_owned(),
            _ => {}
        }
    }
    let gatekeeper = &web.head_end.gatekeeper;
    let credentials = Credentials { name, secret: Secret::new(secret) };
    let grant = match gatekeeper.admit(client.visitor(), credentials).await {
        Ok(grant) => grant,
        Err(denied) => {
            let status = refusal(denied).status();
            return document(status, client.visitor().is_private(), None, Some(&denied.to_string()));
        }
    };
    match gatekeeper.log_in(&grant) {
        Ok((cookie, lasts)) => {
            // Strict: a link on another site opens the page as to anybody.
            let secure = if client.tls { "; Secure" } else { "" };
            let set = format!(
                "{NAME}={}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}",
                cookie.reveal(),
                lasts.as_secs()
            );
            see_wall(&set)
        }
        Err(sentence) => Refusal(StatusCode::INTERNAL_SERVER_ERROR, sentence).into_response(),
    }
}

/// `POST /logout`.
pub(super) async fn leave(
    State(web): State<Arc<Web>>,
    Extension(host): Extension<RequestHost>,
    headers: HeaderMap,
) -> Response {
    if !same_site(&headers, &host) {
        return Refusal(StatusCode::FORBIDDEN, "a page of another site may not log out here".into())
            .into_response();
    }
    if let Some(cookie) = cookie(&headers) {
        web.head_end.gatekeeper.log_out(&cookie);
    }
    see_wall(&format!("{NAME}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"))
}

/// Sends a browser to the wall, with this cookie.
fn see_wall(cookie: &str) -> Response {
    // A cookie of ours has plain characters only.
    let Ok(mut cookie) = HeaderValue::from_str(cookie) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    cookie.set_sensitive(true);
    let headers = [
        (SET_COOKIE, cookie),
        (LOCATION, HeaderValue::from_static("/")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// The page: the form, or the way to it. `name` is that of a browser that is logged in, `wrong` what was wrong with a log-in.
fn document(status: StatusCode, is_safe: bool, name: Option<&str>, wrong: Option<&str>) -> Response {
    let wrong = wrong.map(|sentence| format!("<p role=\"alert\">{sentence}.</p>\n")).unwrap_or_default();
    let content = match name {
        // A name has letters, digits and - _ . only.
        Some(name) => format!(
            "<p>You are logged in as {name}. <a href=\"/\">All stations</a></p>\n\
             <form method=\"post\" action=\"/logout\"><button>Log out</button></form>\n"
        ),
        None if !is_safe => {
            "<p>Tokens and passwords are taken by TLS only: open this page by https.</p>\n".to_owned()
        }
        None => "<form method=\"post\" action=\"/login\">\n\
             <p><label>Name (a token needs none) <input name=\"name\" autocomplete=\"username\" maxlength=\"32\"></label></p>\n\
             <p><label>Password or token <input name=\"secret\" type=\"password\" autocomplete=\"current-password\" maxlength=\"256\" required></label></p>\n\
             <p><button>Log in</button></p>\n</form>\n"
            .to_owned(),
    };
    let text = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"dark light\">\n<title>Log in – stationcast</title>\n\
         <link rel=\"icon\" href=\"/icon.svg\" type=\"image/svg+xml\">\n<link rel=\"stylesheet\" href=\"/wall.css\">\n</head>\n<body class=\"login\">\n<h1>stationcast</h1>\n{wrong}{content}</body>\n</html>\n"
    );
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
    ];
    (status, headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: axum::http::HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_token_is_found_in_its_header_and_a_log_in_among_cookies() {
        let found = |value| bearer(&headers(AUTHORIZATION, &[value])).map(|token| token.reveal().to_owned());
        assert_eq!(found("Bearer sct_1"), Some("sct_1".to_owned()));
        assert_eq!(found("bearer  sct_1 "), Some("sct_1".to_owned()));
        assert_eq!((found("Basic sct_1"), found("Bearer"), found("")), (None, None, None));
        let found =
            |lines: &[&'static str]| cookie(&headers(COOKIE, lines)).map(|one| one.reveal().to_owned());
        assert_eq!(found(&["a=b; stationcast=12; c=d"]), Some("12".to_owned()));
        assert_eq!(found(&["a=b", "stationcast=12"]), Some("12".to_owned()));
        assert_eq!((found(&["xstationcast=12"]), found(&["stationcast"]), found(&[])), (None, None, None));
    }
}
