//! The wall's WebSocket: what a page is sent, and what it may send.

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{SOON, TestBroadcaster};

pub(super) struct Page(WebSocketStream<TcpStream>);

#[derive(Debug, PartialEq)]
pub(super) struct WallPicture {
    pub(super) station: u16,
    number: u32,
    due: u64,
}

impl Page {
    pub(super) async fn open(broadcaster: &TestBroadcaster) -> Page {
        let stream = TcpStream::connect(broadcaster.http).await.unwrap();
        let (socket, _) = client_async(format!("ws://{}/wall", broadcaster.http), stream).await.unwrap();
        Page(socket)
    }

    /// With these headers besides.
    pub(super) async fn open_with(
        broadcaster: &TestBroadcaster,
        headers: &[(&'static str, &str)],
    ) -> Result<Page, Error> {
        let stream = TcpStream::connect(broadcaster.http).await.unwrap();
        let mut request = format!("ws://{}/wall", broadcaster.http).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        client_async(request, stream).await.map(|(socket, _)| Page(socket))
    }

    /// The numbers of the stations in the next status, and its `login`.
    pub(super) async fn stations(&mut self) -> (Vec<u64>, Value) {
        loop {
            if let Message::Text(text) = self.next().await {
                let status: Value = serde_json::from_str(&text).unwrap();
                let ids =
                    status["stations"].as_array().unwrap().iter().map(|one| one["id"].as_u64().unwrap());
                return (ids.collect(), status.get("login").cloned().unwrap_or_default());
            }
        }
    }

    /// Waits until the broadcaster closes it. Returns its reason.
    pub(super) async fn closed_because(&mut self) -> String {
        loop {
            if let Message::Close(frame) = self.next().await {
                return frame.map(|frame| frame.reason.to_string()).unwrap_or_default();
            }
        }
    }

    pub(super) async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    async fn next(&mut self) -> Message {
        let message = tokio::time::timeout(SOON, self.0.next()).await.expect("a message");
        message.expect("it is open").unwrap()
    }

    /// The next picture. Status messages before it are ignored.
    pub(super) async fn picture(&mut self) -> WallPicture {
        loop {
            if let Message::Binary(bytes) = self.next().await {
                assert_eq!(&bytes[..2], [1, 0]);
                assert!(bytes[16..].starts_with(&[0xff, 0xd8]) && bytes.ends_with(&[0xff, 0xd9]));
                return WallPicture {
                    station: u16::from_be_bytes([bytes[2], bytes[3]]),
                    number: u32::from_be_bytes(bytes[4..8].try_into().unwrap()),
                    due: u64::from_be_bytes(bytes[8..16].try_into().unwrap()),
                };
            }
        }
    }

    /// The next message with sound: its station, its number, when it is due, and its samples. Other messages before it are ignored.
    async fn sound(&mut self) -> (u16, u32, u64, Vec<i16>) {
        loop {
            if let Message::Binary(bytes) = self.next().await
                && bytes[..2] == [1, 1]
            {
                let samples = bytes[16..].chunks_exact(2).map(|two| i16::from_le_bytes([two[0], two[1]]));
                return (
                    u16::from_be_bytes([bytes[2], bytes[3]]),
                    u32::from_be_bytes(bytes[4..8].try_into().unwrap()),
                    u64::from_be_bytes(bytes[8..16].try_into().unwrap()),
                    samples.collect(),
                );
            }
        }
    }

    /// The station with this number in the next status message. No picture may come before it.
    async fn status(&mut self, station: u64) -> Value {
        loop {
            match self.next().await {
                Message::Text(text) => {
                    let status: Value = serde_json::from_str(&text).unwrap();
                    let stations = status["stations"].as_array().unwrap();
                    return stations.iter().find(|s| s["id"] == station).unwrap().clone();
                }
                Message::Binary(_) => panic!("a picture that was not asked for"),
                _ => {}
            }
        }
    }

    async fn closed(&mut self) -> CloseCode {
        loop {
            if let Message::Close(frame) = self.next().await {
                return frame.expect("with a reason").code;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tile_is_sent_the_newest_picture_when_the_last_one_is_drawn() {
    let broadcaster = TestBroadcaster::start(false).await;
    let mut page = Page::open(&broadcaster).await;
    let begun = page.status(40).await["aired"].as_u64().unwrap();
    page.send(r#"{"want": {"stations": [40, 7]}}"#).await;
    let first = page.picture().await;
    assert_eq!(first.station, 40);
    // Only status messages come while the station goes on, even if another picture or tile is acknowledged.
    page.send(r#"{"drawn": [40, 4000000000]}"#).await;
    page.send(r#"{"drawn": [1, 1]}"#).await;
    while page.status(40).await["aired"].as_u64().unwrap() < begun + 10 {}
    page.send(&format!(r#"{{"drawn": [40, {}]}}"#, first.number)).await;
    let second = page.picture().await;
    let dropped = second.number - first.number - 1;
    assert!(dropped >= 5, "{first:?} {second:?}");
    assert!(second.due > first.due + 1_000_000_000);
    let metrics = broadcaster.get("/metrics").await;
    let of = |name: &str| {
        let start = format!("stationcast_client_{name}_total{{station=\"40\",");
        let line =
            metrics.text().lines().find(|line| line.starts_with(&start) && line.contains("way=\"wall\""));
        line.unwrap().rsplit_once(' ').unwrap().1.parse::<u32>().unwrap()
    };
    assert_eq!((of("pictures"), of("pictures_dropped")), (2, dropped));

    // Not visible: no more pictures come.
    page.send(r#"{"want": {"stations": []}}"#).await;
    page.send(&format!(r#"{{"drawn": [40, {}]}}"#, second.number)).await;
    broadcaster
        .until("/metrics", |answer| answer.text().contains("stationcast_clients{way=\"wall\"} 0"))
        .await;
    let aired = page.status(40).await["aired"].as_u64().unwrap();
    while page.status(40).await["aired"].as_u64().unwrap() < aired + 5 {}
    // Visible again: the picture on air comes at once.
    page.send(r#"{"want": {"stations": [40]}}"#).await;
    assert!(page.picture().await.due > second.due);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sound_of_the_station_that_is_heard_comes_without_a_gap() {
    let broadcaster = TestBroadcaster::start(false).await;
    let mut page = Page::open(&broadcaster).await;
    assert_eq!(page.status(1).await["sound"], Value::Null, "no film of station 1 has sound");
    // Station 1 has no sound, so nothing comes, and station 40 does not wait for it.
    page.send(r#"{"want": {"stations": [], "heard": 1}}"#).await;
    page.send(r#"{"want": {"stations": [], "heard": 40}}"#).await;
    let (station, mut number, mut due, mut samples) = page.sound().await;
    assert_eq!(station, 40);
    for _ in 0..20 {
        let frames = samples.len() as u64 / 2;
        assert!((960..1920).contains(&frames), "{frames}");
        assert!(samples.iter().all(|sample| sample.abs() < 10), "silence, behind a slate");
        let next = page.sound().await;
        assert_eq!((next.0, next.1), (40, number + 1));
        assert!(next.2.abs_diff(due + frames * 1_000_000_000 / 48_000) < 25_000, "to a sample");
        (_, number, due, samples) = next;
    }
    let sound = broadcaster.get("/api/stations/40").await.json()["sound"].clone();
    assert_eq!((&sound["codec"], &sound["port"]), (&"opus".into(), &5006.into()));
    assert!(sound["packets"].as_u64() >= Some(20) && sound["packets"] == sound["silent"], "{sound}");

    // Not heard any more: what is on its way comes, and then nothing but the status.
    page.send(r#"{"want": {"stations": []}}"#).await;
    let ended = async {
        let mut quiet = 0;
        while quiet < 2 {
            quiet = if matches!(page.next().await, Message::Text(_)) { quiet + 1 } else { 0 };
        }
    };
    tokio::time::timeout(SOON, ended).await.expect("the sound ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_carries_all_tiles() {
    let broadcaster = TestBroadcaster::start(false).await;
    let mut page = Page::open(&broadcaster).await;
    page.send(r#"{"want": {"stations": [1, 40]}}"#).await;
    let mut last = [(1, 0), (40, 0)];
    let mut seen = [0, 0];
    let mut drawn = Vec::new();
    while seen.iter().any(|&seen| seen < 3) {
        let picture = page.picture().await;
        let tile = usize::from(picture.station == 40);
        assert_eq!(picture.station, last[tile].0);
        assert!(picture.number > last[tile].1);
        last[tile].1 = picture.number;
        seen[tile] += 1;
        drawn.push(format!("[{}, {}]", picture.station, picture.number));
        // Both tiles have to be in the list before either goes on.
        if drawn.len() == 2 {
            page.send(&format!(r#"{{"drawn": [{}]}}"#, std::mem::take(&mut drawn).join(", "))).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watched_station_has_an_audience_and_a_tile_does_not() {
    let broadcaster = TestBroadcaster::start(false).await;
    let mut page = Page::open(&broadcaster).await;
    page.send(r#"{"want": {"stations": [1, 40]}}"#).await;
    page.picture().await;
    assert_eq!(broadcaster.get("/api/stations/40").await.json()["audience"], 0);
    page.send(r#"{"want": {"stations": [40], "watched": 40}}"#).await;
    broadcaster.until("/api/stations/40", |answer| answer.json()["audience"] == 1).await;
    page.send(r#"{"want": {"stations": [1], "watched": 1}}"#).await;
    broadcaster.until("/api/stations/40", |answer| answer.json()["audience"] == 0).await;
    broadcaster.until("/api/stations/1", |answer| answer.json()["audience"] == 1).await;
    drop(page);
    broadcaster.until("/api/stations/1", |answer| answer.json()["audience"] == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_message_closes_the_wall() {
    let broadcaster = TestBroadcaster::start(false).await;
    for text in [
        "",
        "{",
        "null",
        r#"{"want": [1]}"#,
        r#"{"drawn": [1]}"#,
        r#"{"drawn": [[1, 2], 3]}"#,
        r#"{"want": {"stations": [70000]}}"#,
        r#"{"other": 1}"#,
    ] {
        let mut page = Page::open(&broadcaster).await;
        page.send(text).await;
        assert_eq!(page.closed().await, CloseCode::Policy, "{text}");
    }
    let mut page = Page::open(&broadcaster).await;
    page.0.send(Message::binary(vec![1])).await.unwrap();
    assert_eq!(page.closed().await, CloseCode::Unsupported);
    // A message about the longest line-up is read; one beyond the limit is not.
    let mut page = Page::open(&broadcaster).await;
    let all: Vec<String> = (1..1000).map(|id| id.to_string()).collect();
    page.send(&format!(r#"{{"want": {{"stations": [{}]}}}}"#, all.join(", "))).await;
    page.picture().await;
    page.send(&" ".repeat(10_000)).await;
    let ended = async { while let Some(Ok(_)) = page.0.next().await {} };
    tokio::time::timeout(SOON, ended).await.expect("it is closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_another_site_may_not_open_the_wall() {
    let broadcaster = TestBroadcaster::start(false).await;
    let http = broadcaster.http;
    for (origin, welcome) in [
        (format!("http://{http}"), true),
        (format!("https://{http}"), true),
        ("http://elsewhere.example".into(), false),
        ("http://television.example".into(), false),
        ("null".into(), false),
        (format!("http://elsewhere.example/{http}"), false),
    ] {
        let request = tokio_tungstenite::tungstenite::ClientRequestBuilder::new(
            format!("ws://{http}/wall").parse().unwrap(),
        )
        .with_header("Origin", &origin);
        let stream = TcpStream::connect(http).await.unwrap();
        match client_async(request, stream).await {
            Ok(_) => assert!(welcome, "{origin}"),
            Err(Error::Http(answer)) => assert!(!welcome && answer.status() == 403, "{origin}"),
            Err(error) => panic!("{origin}: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_is_refused_is_told_the_version_that_is_spoken() {
    let broadcaster = TestBroadcaster::start(false).await;
    let shake = async |headers: &str| {
        broadcaster.ask(&format!("GET /wall HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")).await
    };
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (version, key) in [
        ("Sec-WebSocket-Version: 8\r\n", key),
        ("Sec-WebSocket-Version: 13, 8\r\n", key),
        ("Sec-WebSocket-Version: \r\n", key),
        ("", key),
        ("Sec-WebSocket-Version: 13\r\n", ""),
        ("Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Key: short\r\n"),
        ("Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ\"==\r\n"),
        ("Sec-WebSocket-Version: 13\r\n", &key.repeat(2)),
    ] {
        let answer = shake(&format!("{upgrade}{version}{key}Connection: close\r\n")).await;
        assert_eq!(answer.status, 400, "{version}{key}");
        assert!(answer.has("sec-websocket-version: 13"), "{version}{key}: {}", answer.head);
    }
    let plain = shake("Connection: close\r\n").await;
    assert_eq!((plain.status, plain.text()), (426, "this is a WebSocket: ask to upgrade to it\n"));
    assert!(plain.has("upgrade: websocket") && plain.has("sec-websocket-version: 13"), "{}", plain.head);
}
