//! The changes that operators may make by HTTP: `POST /api/stations/2/control` and `POST /api/reload`, for a token or log-in with `admin`.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Extension, FromRequestParts, Path, RawQuery, State};
use axum::http::header::{ALLOW, CACHE_CONTROL, ORIGIN, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::time::timeout;

use super::hosts::{RequestHost, same_site};
use super::login::bearer;
use super::server::Admitted;
use super::{Refusal, Web};
use crate::access::{Grant, NotAdmin};
use crate::control::{ControlAnswer, ControlCommand, Origin};
use crate::directory::message::MAX_SENTENCE;
use crate::headend::StationOrder;
use crate::media::StationId;

/// Most bytes of a command, and the time for it to come.
const MOST: usize = 4096;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How an order is written.
const FORM: &str = r#"write {"order": "skip"}, {"order": "play", "film": "ocean.mp4"}, {"order": "hold", "text": "back at 14:00"} or {"order": "resume"}"#;

/// An order as JSON.
#[derive(Debug, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
enum OrderText {
    Skip {},
    Play { film: String },
    Hold { text: String },
    Resume {},
}

impl OrderText {
    /// # Errors
    /// A sentence: it is no order.
    fn read(body: &[u8]) -> Result<StationOrder, String> {
        let wrong = |why: &dyn Display| format!("the body is no order: {why}; {FORM}");
        match serde_json::from_slice(body).map_err(|error| wrong(&error))? {
            OrderText::Skip {} => Ok(StationOrder::Skip),
            OrderText::Resume {} => Ok(StationOrder::Resume),
            OrderText::Play { film } if film.is_empty() => Err(wrong(&"film names none")),
            OrderText::Play { film } => Ok(StationOrder::Play(film.into())),
            OrderText::Hold { text } => match text.len() {
                0 => Err(wrong(&"text is empty; say what the slate is to show")),
                1..=MAX_SENTENCE => Ok(StationOrder::Hold(text)),
                _ => Err(format!("a slate has room for {MAX_SENTENCE} bytes at most")),
            },
        }
    }
}

/// The body of a reload, which may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReloadText {
    #[serde(default)]
    dry_run: bool,
}

/// Whether a reload only tells what would change: if the query or the body says so. A mistyped one must not reload.
///
/// # Errors
/// A sentence: the query or the body means nothing.
fn is_dry_run(query: Option<&str>, body: &[u8]) -> Result<bool, String> {
    let by_query = match query.unwrap_or_default() {
        "" | "dry_run=false" => false,
        "dry_run" | "dry_run=true" | "dry_run=1" => true,
        other => return Err(format!("the query ?{other} means nothing here; ?dry_run does")),
    };
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(by_query);
    }
    let ReloadText { dry_run } = serde_json::from_slice(body)
        .map_err(|error| format!("the body is not as {{\"dry_run\": true}}: {error}; or leave it out"))?;
    Ok(by_query || dry_run)
}

/// The operator that asks, as the audit log describes it.
pub(super) struct Operator(String);

impl FromRequestParts<Arc<Web>> for Operator {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, web: &Arc<Web>) -> Result<Operator, Response> {
        let client = extension::<Admitted>(parts, web).await?;
        let host = extension::<RequestHost>(parts, web).await?;
        let grant = extension::<Grant>(parts, web).await?;
        let elsewhere = "a page of another site may change nothing here";
        if !same_site(&parts.headers, &host) {
            return Err(Refusal(StatusCode::FORBIDDEN, elsewhere.into()).into_response());
        }
        let operator = web.head_end.gatekeeper.operator(client.visitor(), &grant).map_err(|refused| {
            let sentence = refused.to_string();
            match refused {
                NotAdmin::Unknown => {
                    let refusal = Refusal(StatusCode::UNAUTHORIZED, sentence);
                    ([(WWW_AUTHENTICATE, "Bearer")], refusal).into_response()
                }
                NotAdmin::Plain | NotAdmin::Watcher => {
                    Refusal(StatusCode::FORBIDDEN, sentence).into_response()
                }
            }
        })?;
        // A browser sends its cookie whichever page asks, and says which: it names the page's host in each POST (Fetch standard,
        // section 3.2). A token comes only from those that know it.
        if bearer(&parts.headers).is_none() && !parts.headers.contains_key(ORIGIN) {
            let sentence = "a request with the cookie of a log-in needs an Origin; a token needs none";
            return Err(Refusal(StatusCode::FORBIDDEN, sentence.into()).into_response());
        }
        Ok(Operator(operator))
    }
}

/// The facts about a request that the layers in front have found out.
async fn extension<T: Clone + Send + Sync + 'static>(
    parts: &mut Parts,
    web: &Arc<Web>,
) -> Result<T, Response> {
    let found = Extension::<T>::from_request_parts(parts, web).await;
    found.map(|Extension(found)| found).map_err(IntoResponse::into_response)
}

/// `POST /api/stations/{id}/control`.
pub(super) async fn order(
    operator: Operator,
    State(web): State<Arc<Web>>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Response, Refusal> {
    let id = id.parse().ok().map(StationId).filter(|&id| web.head_end.station(id).is_some());
    let station = id.ok_or_else(|| Refusal(StatusCode::NOT_FOUND, "there is no such station".into()))?;
    let order = OrderText::read(&read(body).await?).map_err(bad)?;
    Ok(web.obey(operator, ControlCommand::Order { station, order }).await)
}

/// `POST /api/reload`.
pub(super) async fn reload(
    operator: Operator,
    State(web): State<Arc<Web>>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Result<Response, Refusal> {
    let dry_run = is_dry_run(query.as_deref(), &read(body).await?).map_err(bad)?;
    Ok(web.obey(operator, ControlCommand::Reload { dry_run }).await)
}

/// The answer to any other method.
pub(super) async fn without_method(method: Method) -> Response {
    let allow = [(ALLOW, "POST, OPTIONS")];
    if method == Method::OPTIONS {
        return allow.into_response();
    }
    (allow, Refusal(StatusCode::METHOD_NOT_ALLOWED, "this is an order: use POST".into())).into_response()
}

impl Web {
    /// Has a command obeyed, and answers with the outcome.
    async fn obey(&self, Operator(operator): Operator, command: ControlCommand) -> Response {
        let answer = self.commands.give(command, Origin::Network(operator)).await;
        let status = match answer {
            ControlAnswer { done: true, .. } => StatusCode::OK,
            ControlAnswer { not_now: true, .. } => StatusCode::CONFLICT,
            ControlAnswer { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        };
        (status, [(CACHE_CONTROL, "no-store")], Json(answer)).into_response()
    }
}

fn bad(sentence: String) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, sentence)
}

/// Reads the body of a command.
async fn read(body: Body) -> Result<Vec<u8>, Refusal> {
    match timeout(BODY_TIMEOUT, to_bytes(body, MOST)).await {
        Ok(Ok(bytes)) => Ok(bytes.to_vec()),
        Ok(Err(_)) => Err(Refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a command has at most {MOST} bytes, and all of them"),
        )),
        Err(_) => {
            let seconds = BODY_TIMEOUT.as_secs();
            Err(Refusal(StatusCode::REQUEST_TIMEOUT, format!("a command has to come within {seconds} s")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_and_whatever_is_none_is_told_how_it_is_written() {
        let read = |body: &str| OrderText::read(body.as_bytes());
        assert_eq!(read(r#"{"order": "skip"}"#), Ok(StationOrder::Skip));
        assert_eq!(read(r#"{"order": "resume"}"#), Ok(StationOrder::Resume));
        assert_eq!(read(r#"{"film": "a b.mp4", "order": "play"}"#), Ok(StationOrder::Play("a b.mp4".into())));
        let hold = format!(r#"{{"order": "hold", "text": "{}"}}"#, "x".repeat(MAX_SENTENCE));
        assert_eq!(read(&hold), Ok(StationOrder::Hold("x".repeat(MAX_SENTENCE))));
        let long = hold.replace("\"}", "x\"}");
        assert_eq!(read(&long).unwrap_err(), "a slate has room for 512 bytes at most");
        for (body, why) in [
            ("", "the body is no order: EOF while parsing a value at line 1 column 0"),
            ("skip", "the body is no order: expected value at line 1 column 1"),
            (r#"{"order": "dance"}"#, "the body is no order: unknown variant `dance`"),
            (r#"{"order": "hold"}"#, "the body is no order: missing field `text`"),
            (r#"{"order": "hold", "text": ""}"#, "the body is no order: text is empty"),
            (r#"{"order": "play", "film": ""}"#, "the body is no order: film names none"),
            (r#"{"order": "play", "text": "x"}"#, "the body is no order: unknown field `text`"),
            (r#"{"order": "skip", "film": "x"}"#, "the body is no order: unknown field `film`"),
            (r#"{"order": "skip"} x"#, "the body is no order: trailing characters"),
        ] {
            let sentence = read(body).unwrap_err();
            assert!(sentence.starts_with(why) && sentence.ends_with(FORM), "{body}: {sentence}");
        }
    }

    #[test]
    fn a_reload_is_dry_if_query_or_body_says_so_and_is_refused_if_they_are_mistyped() {
        for (query, body, dry) in [
            (None, "", false),
            (Some(""), " \n", false),
            (Some("dry_run"), "", true),
            (Some("dry_run=true"), "{}", true),
            (Some("dry_run=false"), "", false),
            (None, r#"{"dry_run": true}"#, true),
            (None, r#"{"dry_run": false}"#, false),
        ] {
            assert_eq!(is_dry_run(query, body.as_bytes()), Ok(dry), "{query:?} {body}");
        }
        let wrong = is_dry_run(Some("dry-run"), b"").unwrap_err();
        assert_eq!(wrong, "the query ?dry-run means nothing here; ?dry_run does");
        for body in ["{\"dry-run\": true}", "true", "dry_run", "{\"dry_run\": 1}"] {
            assert!(is_dry_run(None, body.as_bytes()).is_err(), "{body}");
        }
    }
}
