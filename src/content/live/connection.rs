//! The connection to a live source: motion JPEG over HTTP. A task reads it, notes when each picture has come, and ends with the
//! connection. No step waits for ever, and pictures that nobody takes are dropped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, LOCATION, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::multipart::Multipart;
use crate::clock::AirClock;
use crate::lineup::LiveSource;
use crate::media::AirTime;

/// Timeout of connecting to an address, and of the answer's header.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// A source that sends nothing for so long is gone. The station, which takes its pictures, is less patient.
const SILENCE: Duration = Duration::from_secs(15);

/// Most pictures that wait: those of a buffer of 2 s, at 60 a second.
const MOST_WAITING: usize = 128;

/// Most bytes of the pictures that wait.
const MOST_BYTES: usize = 32 << 20;

/// Most bytes a second: a source that sends more would take the time of other stations.
const MOST_A_SECOND: usize = 32 << 20;

/// Most bytes of the answer's header.
const MOST_HEADER: usize = 16 << 10;

/// A picture that has arrived.
#[derive(Debug)]
pub(super) struct Arrival {
    /// When its last byte had come.
    pub(super) at: AirTime,
    /// When it was taken, by the clock of the source, if that tells.
    pub(super) stamp: Option<AirTime>,
    /// The part's body, which should be a JPEG file.
    pub(super) body: Bytes,
}

/// A connection. It is closed when this is dropped.
pub(super) struct Connection {
    arrivals: mpsc::Receiver<Result<Arrival, String>>,
    waiting: Arc<Waiting>,
    _reader: JoinSet<()>,
}

/// The pictures that wait to be taken.
#[derive(Default)]
struct Waiting {
    bytes: AtomicUsize,
    /// Pictures that found no place.
    dropped: AtomicU64,
}

impl Connection {
    /// Begins to connect to the source at the first of `addresses` that answers, on `runtime`.
    pub(super) fn begin(
        source: LiveSource,
        addresses: Vec<SocketAddr>,
        clock: AirClock,
        runtime: &Handle,
    ) -> Connection {
        let (tell, arrivals) = mpsc::channel(MOST_WAITING);
        let waiting = Arc::new(Waiting::default());
        let mut reader = JoinSet::new();
        let reading = Reading { source, clock, tell, waiting: waiting.clone() };
        let read = async move {
            let reason = reading.run(addresses).await;
            let _ = reading.tell.send(Err(reason)).await;
        };
        reader.spawn_on(read, runtime);
        Connection { arrivals, waiting, _reader: reader }
    }

    /// The next picture.
    ///
    /// # Errors
    /// Why there is none: the sentence that names the source.
    pub(super) async fn next(&mut self) -> Result<Arrival, String> {
        let arrival = self.arrivals.recv().await.unwrap_or_else(|| Err("the connection broke".into()))?;
        self.waiting.bytes.fetch_sub(arrival.body.len(), Relaxed);
        Ok(arrival)
    }

    /// How many pictures were dropped since this was asked last.
    pub(super) fn take_dropped(&self) -> u64 {
        self.waiting.dropped.swap(0, Relaxed)
    }
}

/// The parts of the reading task.
struct Reading {
    source: LiveSource,
    clock: AirClock,
    tell: mpsc::Sender<Result<Arrival, String>>,
    waiting: Arc<Waiting>,
}

impl Reading {
    /// Reads until the source is gone. Returns why it is.
    async fn run(&self, addresses: Vec<SocketAddr>) -> String {
        let host = self.source.authority();
        let stream = match connect(addresses).await {
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
        let request = Request::get(self.source.target())
            .header(HOST, &host)
            .header(USER_AGENT, concat!("stationcast/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "multipart/x-mixed-replace")
            .body(Body::empty());
        let request = match request {
            Ok(request) => request,
            Err(error) => return format!("{host} cannot be asked: {error}"),
        };
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
            StatusCode::UNAUTHORIZED => {
                return format!("{host} asks for a password, which is not supported yet");
            }
            status if status.is_redirection() => {
                return format!("{host} sends on to {:?}; name that address in the line-up", field(LOCATION));
            }
            status => return format!("{host} answers {status} to {}", self.source),
        }
        let mut multipart = match Multipart::new(&field(CONTENT_TYPE)) {
            Ok(multipart) => multipart,
            Err(error) => return format!("{host}: {error}"),
        };
        let mut body = Body::new(answer.into_body()).into_data_stream();
        let mut second = Second::default();
        loop {
            let bytes = match within(SILENCE, body.next()).await {
                None => return format!("{host} sends nothing for {} s", SILENCE.as_secs()),
                Some(None) => return format!("{host} closed the connection"),
                Some(Some(Err(error))) => return format!("the connection to {host} broke: {error}"),
                Some(Some(Ok(bytes))) => bytes,
            };
            if !second.takes(bytes.len()) {
                return format!("{host} sends more than {} MB a second", MOST_A_SECOND >> 20);
            }
            multipart.push(&bytes);
            loop {
                match multipart.next() {
                    Ok(Some(part)) => self.pass(part.body, part.stamp),
                    Ok(None) => break,
                    Err(error) => return format!("{host}: {error}"),
                }
            }
        }
    }

    /// Passes a picture on, or drops it if too many wait.
    #[expect(clippy::disallowed_methods, reason = "a shell: a picture has come now")]
    fn pass(&self, body: Bytes, stamp: Option<AirTime>) {
        let length = body.len();
        let before = self.waiting.bytes.fetch_add(length, Relaxed);
        let arrival = Arrival { at: self.clock.now(), stamp, body };
        if before + length > MOST_BYTES || self.tell.try_send(Ok(arrival)).is_err() {
            self.waiting.bytes.fetch_sub(length, Relaxed);
            self.waiting.dropped.fetch_add(1, Relaxed);
        }
    }
}

async fn connect(addresses: Vec<SocketAddr>) -> Result<TcpStream, String> {
    let mut reason = "its name has no address".to_owned();
    for address in addresses.into_iter().take(4) {
        match within(ANSWER_TIMEOUT, TcpStream::connect(address)).await {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => reason = error.to_string(),
            None => reason = format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()),
        }
    }
    Err(reason)
}

async fn within<T>(span: Duration, work: impl Future<Output = T>) -> Option<T> {
    timeout(span, work).await.ok()
}

/// The bytes of the current second.
#[derive(Default)]
struct Second {
    began: Option<Instant>,
    bytes: usize,
}

impl Second {
    /// Counts bytes. Returns whether they are not too many.
    #[expect(clippy::disallowed_methods, reason = "a shell: bytes come now")]
    fn takes(&mut self, bytes: usize) -> bool {
        let now = Instant::now();
        if self.began.is_none_or(|began| now - began > Duration::from_secs(1)) {
            (self.began, self.bytes) = (Some(now), 0);
        }
        self.bytes += bytes;
        self.bytes <= MOST_A_SECOND
    }
}
