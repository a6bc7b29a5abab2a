//! A load of all that a stranger may do to the servers, bounded in number and time.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::run::{ADDRESS, HTTP};

/// Connections of each kind at one time.
const EACH: usize = 100;

/// How long one is held at most before it is opened anew.
const HOLD: Duration = Duration::from_secs(2);

/// The rest between two attempts: with 700 connections some 14,000 attempts a second at most.
const REST: Duration = Duration::from_millis(50);

/// What is said.
type Words = fn() -> Vec<u8>;

/// Where, and what is said there.
const KINDS: [(&str, Words); 7] = [
    // Half open.
    (ADDRESS, || b"OPTIONS rtsp://127.0.0.1".to_vec()),
    // Garbage.
    (ADDRESS, || std::iter::repeat_with(|| fastrand::u8(..)).take(4096).collect()),
    // A request without end.
    (ADDRESS, || {
        [b"DESCRIBE rtsp://127.0.0.1:8554/1 RTSP/1.0\r\nCSeq: 1\r\nX: ".to_vec(), vec![b'x'; 100_000]]
            .concat()
    }),
    // Out of order, and to somebody else's address.
    (ADDRESS, || {
        let play = "PLAY rtsp://127.0.0.1:8554/1 RTSP/1.0\r\nCSeq: 1\r\nSession: 12345678\r\n\r\n";
        let away = "SETUP rtsp://127.0.0.1:8554/1/video RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/AVP;unicast;destination=127.0.0.9;client_port=9000-9001\r\n\r\n";
        let unknown = "FLY rtsp://127.0.0.1:8554/1 RTSP/1.0\r\nCSeq: 3\r\n\r\n";
        [play, away, unknown].concat().repeat(20).into_bytes()
    }),
    // A player that never reads.
    (ADDRESS, || {
        let set_up = "SETUP rtsp://127.0.0.1:8554/1/video RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n";
        // Without the session's number, which it would have to read: the server's work is the same up to here.
        set_up.into()
    }),
    // Slow.
    (HTTP, || b"GET / HTTP/1.1\r\nHost: 127".to_vec()),
    // A page that never reads.
    (HTTP, || {
        let upgrade = "GET /wall HTTP/1.1\r\nHost: 127.0.0.1:8088\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://127.0.0.1:8088\r\n\r\n";
        upgrade.into()
    }),
];

/// Abuses the servers for `seconds`.
pub(crate) fn abuse(seconds: &str) -> anyhow::Result<()> {
    let ends = Instant::now() + Duration::from_secs_f64(seconds.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut all = tokio::task::JoinSet::new();
        for (address, say) in KINDS {
            for _ in 0..EACH {
                all.spawn(async move {
                    while Instant::now() < ends {
                        // Refused, reset, closed: all of that is the server's right.
                        let _ = timeout(HOLD, attempt(address, say())).await;
                        sleep(REST).await;
                    }
                });
            }
        }
        while all.join_next().await.is_some() {}
    });
    Ok(())
}

/// Says it, and holds the connection until the server closes it.
async fn attempt(address: &str, words: Vec<u8>) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&words).await?;
    let mut answer = [0; 64];
    // One small read, so that what the server sends piles up there and not here.
    while stream.read(&mut answer).await? > 0 {
        sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}
