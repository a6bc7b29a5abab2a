//! All that an abusive client may do to the servers, bounded in number and time.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use futures_util::SinkExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Message};

use crate::addresses::{HTTP, RTSP};
use crate::readers::RtspReader;

/// The longest time for which a connection is held before it is opened again. Longer than the 10 s after which a server gives
/// up a client that reads nothing, counted from when all buffers are full.
pub(crate) const HOLD: Duration = Duration::from_secs(15);

/// The pause between two attempts of a client: 32,000 attempts a second at most.
const REST: Duration = Duration::from_millis(50);

/// The behaviour of an abusive client.
#[derive(Clone, Copy)]
enum Abuse {
    /// Sends these bytes to RTSP, and reads a little now and then until the server closes the connection.
    Rtsp(fn() -> Vec<u8>),
    /// The same with HTTP.
    Http(fn() -> Vec<u8>),
    /// Plays by RTSP, and does not read.
    Player,
    /// Asks the wall's WebSocket for the station again and again, so that pictures are sent without flow control, and does not read.
    Page,
    /// Asks for the MJPEG stream, and does not read.
    Mjpeg,
}

/// How many clients do what at one time. Each kind has an address of its own, since servers limit the connections of one address.
const KINDS: [(u32, Abuse); 11] = [
    // Half a request.
    (1000, Abuse::Rtsp(|| b"OPTIONS rtsp://127.0.0.1".to_vec())),
    // Garbage.
    (100, Abuse::Rtsp(|| std::iter::repeat_with(|| fastrand::u8(..)).take(4096).collect())),
    // An endless header line.
    (
        100,
        Abuse::Rtsp(|| {
            [b"DESCRIBE rtsp://127.0.0.1:8554/1 RTSP/1.0\r\nCSeq: 1\r\nX: ".to_vec(), vec![b'x'; 100_000]]
                .concat()
        }),
    ),
    // A request of endless short lines: each of them is parsed.
    (
        100,
        Abuse::Rtsp(|| {
            [b"DESCRIBE rtsp://127.0.0.1:8554/1 RTSP/1.0\r\nCSeq: 1\r\n".to_vec(), b"X:y\r\n".repeat(20_000)]
                .concat()
        }),
    ),
    // Requests without CSeq.
    (100, Abuse::Rtsp(|| b"OPTIONS rtsp://127.0.0.1:8554/1 RTSP/1.0\r\n\r\n".repeat(100))),
    // Requests out of order, pictures to another client's address, and unknown methods.
    (
        100,
        Abuse::Rtsp(|| {
            let play = "PLAY rtsp://127.0.0.1:8554/1 RTSP/1.0\r\nCSeq: 1\r\nSession: 12345678\r\n\r\n";
            let away = "SETUP rtsp://127.0.0.1:8554/1/video RTSP/1.0\r\nCSeq: 2\r\nTransport: RTP/AVP;unicast;destination=127.0.0.9;client_port=9000-9001\r\n\r\n";
            let unknown = "FLY rtsp://127.0.0.1:8554/1 RTSP/1.0\r\nCSeq: 3\r\n\r\n";
            [play, away, unknown].concat().repeat(20).into_bytes()
        }),
    ),
    // SETUP again and again.
    (
        100,
        Abuse::Rtsp(|| {
            let set_up = "SETUP rtsp://127.0.0.1:8554/1/video RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n";
            set_up.repeat(20).into_bytes()
        }),
    ),
    (100, Abuse::Player),
    // Half a request.
    (100, Abuse::Http(|| b"GET / HTTP/1.1\r\nHost: 127".to_vec())),
    (100, Abuse::Page),
    (100, Abuse::Mjpeg),
];

/// The number of abusive clients.
pub(crate) fn all() -> u32 {
    KINDS.iter().map(|(count, _)| count).sum()
}

/// Abuses the servers for `seconds`.
pub(crate) fn abuse(seconds: &str) -> anyhow::Result<()> {
    let ends = Instant::now() + Duration::from_secs_f64(seconds.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut all = tokio::task::JoinSet::new();
        for (kind, (count, abuse)) in KINDS.into_iter().enumerate() {
            let own = Ipv4Addr::new(127, 0, 0, 10 + kind as u8);
            for _ in 0..count {
                all.spawn(async move {
                    // Not all at once, so that every stage of each abuse is under way at any time.
                    sleep(HOLD.mul_f64(fastrand::f64())).await;
                    while Instant::now() < ends {
                        // The server may refuse, reset or close: none of that is an error.
                        let _ = timeout(HOLD, attempt(own, abuse)).await;
                        sleep(REST).await;
                    }
                });
            }
        }
        while all.join_next().await.is_some() {}
    });
    Ok(())
}

/// One attempt. It holds the connection; a client that reads does so until the server closes it.
async fn attempt(own: Ipv4Addr, abuse: Abuse) -> anyhow::Result<()> {
    match abuse {
        Abuse::Rtsp(request) => hold(connect(own, RTSP).await?, request()).await,
        Abuse::Http(request) => hold(connect(own, HTTP).await?, request()).await,
        Abuse::Player => {
            let _player = RtspReader::play(connect(own, RTSP).await?, RTSP).await?;
            std::future::pending().await
        }
        Abuse::Page => {
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
        Abuse::Mjpeg => {
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

async fn hold(mut stream: TcpStream, request: Vec<u8>) -> anyhow::Result<()> {
    stream.write_all(&request).await?;
    let mut answer = [0; 64];
    // Small reads, so that the server's answers pile up at the server and not here.
    while stream.read(&mut answer).await? > 0 {
        sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}
