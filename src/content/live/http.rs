//! Motion JPEG over HTTP, as cameras serve it.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use hyper::client::conn::http1;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, LOCATION, USER_AGENT, WWW_AUTHENTICATE,
};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::arrivals::{ArrivalSender, PictureBody};
use super::connection::{MOST_ADDRESSES, SILENCE, Target, within};
use super::multipart::Multipart;

/// Timeout of connecting to an address, and of the answer's header.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Most bytes of the answer's header.
const MOST_HEADER: usize = 16 << 10;

/// Reads until the source is gone. Returns why it is.
pub(super) async fn read(target: &Target, sender: &mut ArrivalSender) -> String {
    let source = &target.source;
    let host = source.authority();
    let stream = match connect(&target.addresses).await {
        Ok(stream) => stream,
        Err(reason) => return format!("nothing answers at {host}: {reason}"),
    };
    let handshake = http1::Builder::new()
        .max_buf_size(MOST_HEADER)
        // Servers in cameras are small, and not all of them read or write HTTP by the book.
        .title_case_headers(true)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .ignore_invalid_headers_in_responses(true)
        .handshake(TokioIo::new(stream))
        .await;
    let (mut requests, connection) = match handshake {
        Ok(both) => both,
        Err(error) => return format!("no connection to {host}: {error}"),
    };
    let mut driver = JoinSet::new();
    driver.spawn(async move { drop(connection.await) });
    let request = Request::get(source.target())
        .header(HOST, &host)
        .header(USER_AGENT, concat!("stationcast/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "multipart/x-mixed-replace")
        .body(Body::empty());
    let mut request = match request {
        Ok(request) => request,
        Err(error) => return format!("{host} cannot be asked: {error}"),
    };
    if let Some(user) = source.user() {
        let both = format!("{user}:{}", target.password.as_deref().unwrap_or_default());
        if let Ok(mut basic) = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(both))) {
            basic.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, basic);
        }
    }
    let answer = match within(ANSWER_TIMEOUT, requests.send_request(request)).await {
        None => {
            return format!(
                "{host} takes a connection and does not answer within {} s",
                ANSWER_TIMEOUT.as_secs()
            );
        }
        Some(Err(error)) => return format!("{host} does not answer in HTTP: {error}"),
        Some(Ok(answer)) => answer,
    };
    let field = |name| {
        let value = answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.chars().take(200).collect::<String>()
    };
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED if source.user().is_none() => {
            return format!(
                "{host} asks for a password; write the user into the address, and set password_file or password_env"
            );
        }
        StatusCode::UNAUTHORIZED if !field(WWW_AUTHENTICATE).to_ascii_lowercase().contains("basic") => {
            return format!("{host} wants the password in a way that is not supported; by HTTP, Basic is");
        }
        StatusCode::UNAUTHORIZED => return format!("{host} refuses the user or the password"),
        status if status.is_redirection() => {
            return format!("{host} sends on to {:?}; name that address in the line-up", field(LOCATION));
        }
        status => return format!("{host} answers {status} to {source}"),
    }
    let mut multipart = match Multipart::new(&field(CONTENT_TYPE)) {
        Ok(multipart) => multipart,
        Err(error) => return format!("{host}: {error}"),
    };
    let mut body = Body::new(answer.into_body()).into_data_stream();
    loop {
        let bytes = match within(SILENCE, body.next()).await {
            None => return format!("{host} sends nothing for {} s", SILENCE.as_secs()),
            Some(None) => return format!("{host} closed the connection"),
            Some(Some(Err(error))) => return format!("the connection to {host} broke: {error}"),
            Some(Some(Ok(bytes))) => bytes,
        };
        if let Err(fault) = sender.count(bytes.len()) {
            return format!("{host} {fault}");
        }
        multipart.push(&bytes);
        loop {
            match multipart.next() {
                Ok(Some(part)) => sender.picture(PictureBody::File(part.body), part.stamp),
                Ok(None) => break,
                Err(error) => return format!("{host}: {error}"),
            }
        }
    }
}

async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let mut reason = "its name has no address".to_owned();
    for address in addresses.iter().take(MOST_ADDRESSES) {
        match within(ANSWER_TIMEOUT, TcpStream::connect(address)).await {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => reason = error.to_string(),
            None => reason = format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()),
        }
    }
    Err(reason)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::clock::AirClock;
    use crate::content::live::arrivals::arrivals;
    use crate::lineup::NetworkSource;

    /// The request that a server answers so, and the reason for which the source is not played.
    async fn asked(user: &str, answer: &'static str) -> (String, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(request).unwrap()
        });
        let source = NetworkSource::parse(&format!("http://{user}{address}/a")).unwrap();
        let password = (!user.is_empty()).then(|| "sesame".to_owned());
        let target = Target { source, addresses: vec![address], password, wants_sound: false };
        let reason = read(&target, &mut arrivals(AirClock::start()).0).await;
        assert!(!reason.contains("sesame"), "{reason}");
        (server.await.unwrap(), reason.replace(&address.to_string(), "HOST"))
    }

    #[tokio::test]
    async fn a_password_goes_out_as_basic_and_appears_in_no_message() {
        let asks =
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a\"\r\nContent-Length: 0\r\n\r\n";
        let (request, reason) = asked("anna@", asks).await;
        assert!(request.contains("Authorization: Basic YW5uYTpzZXNhbWU=\r\n"), "{request}");
        assert_eq!(reason, "HOST refuses the user or the password");
        let (request, reason) = asked("", asks).await;
        assert!(!request.contains("Authorization"), "{request}");
        assert!(reason.starts_with("HOST asks for a password; write the user into the address"), "{reason}");
        let digest =
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"a\"\r\nContent-Length: 0\r\n\r\n";
        let (_, reason) = asked("anna@", digest).await;
        assert_eq!(reason, "HOST wants the password in a way that is not supported; by HTTP, Basic is");
    }
}
