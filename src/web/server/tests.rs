use std::convert::Infallible;

use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::*;

const SOON: Duration = Duration::from_secs(10);

/// Serves `router` until the sender that it returns is dropped.
async fn listen(router: Router, limits: HttpLimits) -> (SocketAddr, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(serve(listener, router, limits, async move { drop(stopped.await) }));
    (address, stop)
}

/// What the server sends until it closes, which it must.
async fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    // A reset is a close too.
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut all)).await.expect("it is closed");
    String::from_utf8_lossy(&all).into_owned()
}

fn hello() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

#[tokio::test]
async fn a_permit_is_held_until_the_connection_ends() {
    let (address, _stop) = listen(hello(), HttpLimits { per_address: 1, ..HttpLimits::default() }).await;
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut begun = [0; 15];
    first.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200 OK");
    let mut second = TcpStream::connect(address).await.unwrap();
    assert_eq!(rest(&mut second).await, "", "closed without a message");
    drop(first);
    // The permit is free when the server has seen the close.
    let admitted = async {
        loop {
            let mut third = TcpStream::connect(address).await.unwrap();
            let _ = third.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
            let answer = rest(&mut third).await;
            if answer.ends_with("hello") {
                return;
            }
            assert_eq!(answer, "");
        }
    };
    tokio::time::timeout(SOON, admitted).await.expect("it comes free");
}

#[tokio::test]
async fn a_slow_head_and_an_endless_head_close_the_connection() {
    let (address, _stop) =
        listen(hello(), HttpLimits { head: Duration::from_millis(50), ..HttpLimits::default() }).await;
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
    assert!(!rest(&mut slow).await.contains("hello"));
    let mut quiet = TcpStream::connect(address).await.unwrap();
    assert_eq!(rest(&mut quiet).await, "");

    let (address, _stop) = listen(hello(), HttpLimits::default()).await;
    let mut endless = TcpStream::connect(address).await.unwrap();
    let _ = endless.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX: ").await;
    let _ = endless.write_all(&[b'x'; HEAD + 1]).await;
    let answer = rest(&mut endless).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let mut many = TcpStream::connect(address).await.unwrap();
    let _ =
        many.write_all(format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(HEADERS + 1)).as_bytes()).await;
    assert!(rest(&mut many).await.starts_with("HTTP/1.1 431 "));
    let mut garbage = TcpStream::connect(address).await.unwrap();
    let _ = garbage.write_all(b"\x16\x03\x09\x02\x00\r\n\r\n").await;
    assert!(rest(&mut garbage).await.starts_with("HTTP/1.1 400 "));
}

/// Reports that it is dropped.
struct DropReport(Option<oneshot::Sender<()>>);

impl Drop for DropReport {
    fn drop(&mut self) {
        let _ = self.0.take().map(|told| told.send(()));
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed() {
    let (told, ended) = oneshot::channel();
    let told = Arc::new(std::sync::Mutex::new(Some(DropReport(Some(told)))));
    let endless = get(move || async move {
        let told = told.lock().unwrap().take();
        let piece = Bytes::from(vec![0; 50_000]);
        Body::from_stream(stream::unfold(told, move |told| {
            let piece = piece.clone();
            async move { Some((Ok::<_, Infallible>(piece), told)) }
        }))
    });
    let limits = HttpLimits { stuck: Duration::from_millis(300), ..HttpLimits::default() };
    let (address, _stop) = listen(Router::new().route("/", endless), limits).await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    tokio::time::timeout(SOON, ended).await.expect("it is ended").unwrap();
    drop(idle);
}

#[tokio::test]
async fn shutdown_closes_every_connection() {
    let (address, stop) = listen(hello(), HttpLimits::default()).await;
    let mut open = TcpStream::connect(address).await.unwrap();
    open.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut begun = [0; 15];
    open.read_exact(&mut begun).await.unwrap();
    drop(stop);
    assert!(rest(&mut open).await.ends_with("hello"));
}
