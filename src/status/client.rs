//! Asks a broadcaster for the status of its stations, over its HTTP API.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};

use crate::access::Secret;
use crate::tls::pin::{Fingerprint, InsecureError, KnownServers, secure};
use crate::web::api::StationStatus;

/// Timeout of the whole request. A broadcaster answers in a millisecond; over the worst of networks in a second.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Most bytes of an answer: 999 stations of 1 kB, several times over.
const MAX_ANSWER: u64 = 8 * 1024 * 1024;

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// Nothing answers at the address, or not in time.
    #[error(
        "no broadcaster answers at http://{address}/: {reason}; start it, or give its [http] listen with --http"
    )]
    Unreachable {
        /// The host and port that were asked.
        address: String,
        /// The system's error.
        reason: String,
    },
    /// The broadcaster does not know the name by which it was asked.
    #[error(
        "the broadcaster at http://{address}/ does not answer to that name; give its address with --http, or add the name \
         to `hosts` under [http] of its line-up"
    )]
    Misnamed {
        /// The host and port that were asked.
        address: String,
    },
    /// The connection is not secure.
    #[error(transparent)]
    Insecure(InsecureError),
    /// The broadcaster does not let the token in.
    #[error("no status of the broadcaster at {address}: {sentence}")]
    Denied {
        /// The host and port that were asked.
        address: String,
        /// The broadcaster's sentence.
        sentence: String,
    },
    /// The answer is not a broadcaster's.
    #[error(
        "the server at http://{address}/ is not a broadcaster: {reason}; give the broadcaster's [http] listen with --http"
    )]
    Unknown {
        /// The host and port that were asked.
        address: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

/// A broadcaster that is asked, and how.
#[derive(Debug, Clone, Default)]
pub struct StatusTarget {
    /// A host and a port.
    pub address: String,
    /// Whether by TLS.
    pub tls: bool,
    /// The fingerprint that its certificate must have. Without one, it is trusted as the viewer trusts a directory.
    pub fingerprint: Option<Fingerprint>,
    /// Shown to it, so that it tells of the stations that are not open to all.
    pub token: Option<Secret>,
}

/// By a plain connection.
impl From<&str> for StatusTarget {
    fn from(address: &str) -> StatusTarget {
        StatusTarget { address: address.to_owned(), ..StatusTarget::default() }
    }
}

/// The host and port at which a broadcaster that listens on `listen` can be asked from this machine: an unspecified address
/// becomes loopback.
pub fn address_of(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listen.port()).to_string()
}

/// The status of the stations of a broadcaster, as the JSON it sent. Blocks.
///
/// # Errors
/// Nothing answers there, or something that is not a broadcaster, or it refuses.
pub fn fetch_json(target: &StatusTarget) -> Result<String, StatusError> {
    Ok(ask(target)?.0)
}

/// The status of the stations of a broadcaster. Blocks.
///
/// # Errors
/// As [`fetch_json`].
pub fn fetch(target: &StatusTarget) -> Result<Vec<StationStatus>, StatusError> {
    Ok(ask(target)?.1)
}

/// The answer, as text and parsed.
fn ask(target: &StatusTarget) -> Result<(String, Vec<StationStatus>), StatusError> {
    let text = if target.tls { by_tls(target)? } else { plainly(target)? };
    let unknown = |reason| StatusError::Unknown { address: target.address.clone(), reason };
    let stations = serde_json::from_str(&text)
        .map_err(|error| unknown(format!("its answer is not the status of stations ({error})")))?;
    Ok((text, stations))
}

/// The meaning of a status other than 200.
fn refused(address: &str, status: u16, sentence: String) -> StatusError {
    let address = address.to_owned();
    match status {
        // Misdirected Request (RFC 9110 section 15.5.20).
        421 => StatusError::Misnamed { address },
        401 | 403 | 429 => StatusError::Denied { address, sentence: sentence.trim_end().to_owned() },
        _ => StatusError::Unknown { address, reason: format!("it answers with status {status}") },
    }
}

fn plainly(target: &StatusTarget) -> Result<String, StatusError> {
    let address = &target.address;
    let unknown = |reason: String| StatusError::Unknown { address: address.into(), reason };
    let is_here = address.starts_with("localhost:")
        || address.parse().is_ok_and(|address: SocketAddr| address.ip().to_canonical().is_loopback());
    if target.token.is_some() && !is_here {
        let sentence = "a token is shown by TLS only, and not over a plain connection: add --tls".into();
        return Err(StatusError::Denied { address: address.clone(), sentence });
    }
    // Never by a proxy: it would look for a loopback address on its own machine.
    let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).proxy(None);
    let config = config.http_status_as_error(false).build();
    let mut request = ureq::Agent::from(config).get(format!("http://{address}/api/stations"));
    if let Some(token) = &target.token {
        request = request.header("Authorization", format!("Bearer {}", token.reveal()));
    }
    let answer = request.call().and_then(|mut answer| {
        let text = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_string()?;
        Ok((answer.status().as_u16(), text))
    });
    let (status, text) = answer.map_err(|error| match error {
        ureq::Error::BodyExceedsLimit(_) => unknown("its answer is too long".into()),
        ureq::Error::Protocol(_) => unknown("it does not speak HTTP".into()),
        ureq::Error::Io(error) => {
            StatusError::Unreachable { address: address.into(), reason: error.to_string() }
        }
        error => StatusError::Unreachable { address: address.into(), reason: error.to_string() },
    })?;
    if status == 200 { Ok(text) } else { Err(refused(address, status, text)) }
}

fn by_tls(target: &StatusTarget) -> Result<String, StatusError> {
    let unreachable = |error: io::Error| {
        let (address, reason) = (target.address.clone(), error.to_string());
        StatusError::Unreachable { address, reason }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unreachable)?;
    let late = || unreachable(io::ErrorKind::TimedOut.into());
    runtime.block_on(async {
        tokio::time::timeout(TIMEOUT, answer_by_tls(target)).await.unwrap_or_else(|_| Err(late()))
    })
}

async fn answer_by_tls(target: &StatusTarget) -> Result<String, StatusError> {
    let StatusTarget { address, fingerprint, token, .. } = target;
    let unreachable = |error: io::Error| {
        let (address, reason) = (address.clone(), error.to_string());
        StatusError::Unreachable { address, reason }
    };
    let unknown = |reason: &str| StatusError::Unknown { address: address.clone(), reason: reason.to_owned() };
    let mut found = lookup_host(address).await.map_err(unreachable)?;
    let found = found.next().ok_or_else(|| unreachable(io::ErrorKind::NotFound.into()))?;
    let tcp = TcpStream::connect(found).await.map_err(unreachable)?;
    // The fingerprint of the line-up's own certificate need not be remembered.
    let known = if fingerprint.is_some() { KnownServers::default() } else { KnownServers::of_this_user() };
    let stream = secure(tcp, found, *fingerprint, &known).await.map_err(StatusError::Insecure)?;
    let no_http = |_: hyper::Error| unknown("it does not speak HTTP");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(no_http)?;
    tokio::spawn(connection);
    let mut request = Request::get("/api/stations").header(HOST, address);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {}", token.reveal()));
    }
    let request =
        request.body(Body::empty()).map_err(|_| unknown("its name or the token has odd characters"))?;
    let answer = sender.send_request(request).await.map_err(no_http)?;
    let status = answer.status();
    let body = to_bytes(Body::new(answer.into_body()), MAX_ANSWER as usize).await;
    let body = body.map_err(|_| unknown("its answer is too long, or it breaks off"))?;
    let text = String::from_utf8(body.into()).map_err(|_| unknown("its answer is not UTF-8"))?;
    if status == StatusCode::OK { Ok(text) } else { Err(refused(address, status.as_u16(), text)) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_answer_that_is_not_a_broadcasters_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>");
            }
        });
        let expected = format!("the server at http://{address}/ is not a broadcaster: ");
        for error in
            [fetch_json(&(&address[..]).into()).unwrap_err(), fetch(&(&address[..]).into()).unwrap_err()]
        {
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn a_broadcaster_that_does_not_know_the_name_it_was_asked_by_is_one_sentence_with_the_fix() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 421 Misdirected Request\r\nContent-Length: 2\r\n\r\n!\n");
        });
        let expected = format!("the broadcaster at http://{address}/ does not answer to that name; ");
        let error = fetch(&(&address[..]).into()).unwrap_err().to_string();
        assert!(error.starts_with(&expected), "{error}");
    }

    #[test]
    fn an_unspecified_address_is_asked_on_loopback() {
        for (listen, at) in
            [("0.0.0.0:8088", "127.0.0.1:8088"), ("[::]:80", "[::1]:80"), ("192.0.2.7:1", "192.0.2.7:1")]
        {
            assert_eq!(address_of(listen.parse().unwrap()), at);
        }
    }

    #[test]
    fn an_unreachable_broadcaster_is_one_sentence_with_the_fix() {
        // Nothing listens on a port that was just released.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = fetch(&(&port.to_string()[..]).into()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("no broadcaster answers at http://{port}/: ")), "{error}");
        assert!(error.ends_with("give its [http] listen with --http"), "{error}");
    }
}
