//! A load of all that a stranger may do to the servers, bounded in number and time.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use futures_util::SinkExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Message};

use crate::readers::Reader;
use crate::run::{ADDRESS, HTTP};

/// How long one is held at most before it is opened anew. Longer than a server waits for who takes nothing: 10 s, from when all
/// is full on the way.
pub(crate) const HOLD: Duration = Duration::from_secs(15);

/// The rest between two attempts of the same: 32,000 attempts a second at most.
const REST: Duration = Duration::from_millis(50);

/// What somebody does who is up to no good.
#[derive(Clone, Copy)]
enum Manner {
    /// Says it to RTSP, and reads a little now and then until that has enough.
    Rtsp(fn() -> Vec<u8>),
    /// The same to HTTP.
    Http(fn() -> Vec<u8>),
    /// Plays, and does not read.
    Player,
    /// Has the station in sight, again and again so that pictures come undrawn, and does not read.
    Page,
    /// Asks for an endless picture, and does not read.
    Mjpeg,
}

/// How many do what at one time. Each kind has an address of its own, as servers bound what one address may have.
const KINDS: [(u32, Manner); 11] = [
    // Half open.
    (1000, Manner::Rtsp(|| b"OPTIONS rtsp://127.0.0.1".to_vec())),
    // Garbage.
    (100, Manner::Rtsp(|| std::iter::repeat_with(|| fastrand::u8(..)).take(4096).collect())),
    // A request without end.
    (
        100,
        Manner::Rtsp(|| {
            [b"DESCRIBE rtsp://127.0.0.1:8554/1 RTSP/1.0\r\nCSeq: 1\r\nX: ".to_vec(), vec![b'x'; 100_000]]
                .concat()
        }),
    ),
    // Many short lines without end: each is looked at.
    (
        100,
        Manner::Rtsp(|| {
            [b"DESCRIBE rtsp://127.0.0.1:8554/1 RTSP/1.0\r\nCSeq: 1\r\n".to_vec(), b"X:y\r\n".repeat(20_000)]
                .concat()
        }),
    ),
    // Without a number.
    (100, Manner::Rtsp(|| b"OPTIONS rtsp://127.0.0.1:8554/1 RTSP/1.0\r\n\r\n".repeat(100))),
    // Out of order, and to somebody else's address.
    (
        100,
        Manner::Rtsp(|| {
            let play = "PLAY rtsp://127.0.0.1:8554/1 RTSP/1.0\r\nCSeq: 1\r\nSession: 12345678\r\n\r\n";
            let away = "SETUP rtsp://127.0.0.1:8554/1/video RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/AVP;unicast;destination=127.0.0.9;client_port=9000-9001\r\n\r\n";
            let unknown = "FLY rtsp://127.0.0.1:8554/1 RTSP/1.0\r\nCSeq: 3\r\n\r\n";
            [play, away, unknown].concat().repeat(20).into_bytes()
        }),
    ),
    // Set up again and again.
    (
        100,
        Manner::Rtsp(|| {
            let set_up = "SETUP rtsp://127.0.0.1:8554/1/video RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n";
            set_up.repeat(20).into_bytes()
        }),
    ),
    (100, Manner::Player),
    // Slow.
    (100, Manner::Http(|| b"GET / HTTP/1.1\r\nHost: 127".to_vec())),
    (100, Manner::Page),
    (100, Manner::Mjpeg),
];

/// How many there are.
pub(crate) fn all() -> u32 {
    KINDS.iter().map(|(count, _)| count).sum()
}

/// Abuses the servers for `seconds`.
pub(crate) fn abuse(seconds: &str) -> anyhow::Result<()> {
    let ends = Instant::now() + Duration::from_secs_f64(seconds.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut all = tokio::task::JoinSet::new();
        for (kind, (count, manner)) in KINDS.into_iter().enumerate() {
            let own = Ipv4Addr::new(127, 0, 0, 10 + kind as u8);
            for _ in 0..count {
                all.spawn(async move {
                    // Not all at once: what takes time with them shall be under way at any time.
                    sleep(HOLD.mul_f64(fastrand::f64())).await;
                    while Instant::now() < ends {
                        // Refused, reset, closed: all of that is the server's right.
                        let _ = timeout(HOLD, attempt(own, manner)).await;
                        sleep(REST).await;
                    }
                });
            }
        }
        while all.join_next().await.is_some() {}
    });
    Ok(())
}

/// Does it, and holds the connection until the server closes it, where it reads what that says.
async fn attempt(own: Ipv4Addr, manner: Manner) -> anyhow::Result<()> {
    match manner {
        Manner::Rtsp(say) => hold(connect(own, ADDRESS).await?, say()).await,
        Manner::Http(say) => hold(connect(own, HTTP).await?, say()).await,
        Manner::Player => {
            let _player = Reader::play(connect(own, ADDRESS).await?, ADDRESS).await?;
            std::future::pending().await
        }
        Manner::Page => {
            let request = ClientRequestBuilder::new(format!("ws://{HTTP}/wall").parse()?)
                .with_header("Origin", format!("http://{HTTP}"));
            let (mut page, _) = client_async(request, connect(own, HTTP).await?).await?;
            loop {
                for want in [r#"{"want":{"stations":[1]}}"#, r#"{"want":{"stations":[]}}"#] {
                    page.send(Message::text(want)).await?;
                    sleep(REST).await;
                }
            }
        }
        Manner::Mjpeg => {
            let mut stream = connect(own, HTTP).await?;
            stream.write_all(b"GET /stations/1.mjpeg HTTP/1.1\r\nHost: 127.0.0.1:8088\r\n\r\n").await?;
            std::future::pending().await
        }
    }
}

async fn connect(own: Ipv4Addr, server: &str) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(own.into(), 0))?;
    socket.connect(server.parse()?).await.context("cannot connect")
}

async fn hold(mut stream: TcpStream, words: Vec<u8>) -> anyhow::Result<()> {
    stream.write_all(&words).await?;
    let mut answer = [0; 64];
    // One small read, so that what the server sends piles up there and not here.
    while stream.read(&mut answer).await? > 0 {
        sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}
