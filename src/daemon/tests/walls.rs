//! Walls: what a page is sent, and what it may say.

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{OnAir, SOON};

pub(super) struct Page(WebSocketStream<TcpStream>);

#[derive(Debug, PartialEq)]
pub(super) struct Picture {
    station: u16,
    number: u32,
    due: u64,
}

impl Page {
    pub(super) async fn open(on_air: &OnAir) -> Page {
        let stream = TcpStream::connect(on_air.http).await.unwrap();
        let (socket, _) = client_async(format!("ws://{}/wall", on_air.http), stream).await.unwrap();
        Page(socket)
    }

    pub(super) async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    async fn next(&mut self) -> Message {
        let message = tokio::time::timeout(SOON, self.0.next()).await.expect("a message");
        message.expect("it is open").unwrap()
    }

    /// The next picture; the bulletins before it are passed over.
    pub(super) async fn picture(&mut self) -> Picture {
        loop {
            if let Message::Binary(bytes) = self.next().await {
                assert_eq!(&bytes[..2], [1, 0]);
                assert!(bytes[16..].starts_with(&[0xff, 0xd8]) && bytes.ends_with(&[0xff, 0xd9]));
                return Picture {
                    station: u16::from_be_bytes([bytes[2], bytes[3]]),
                    number: u32::from_be_bytes(bytes[4..8].try_into().unwrap()),
                    due: u64::from_be_bytes(bytes[8..16].try_into().unwrap()),
                };
            }
        }
    }

    /// The next bulletin's station of that number; there must be no picture before it.
    async fn told(&mut self, station: u64) -> Value {
        loop {
            match self.next().await {
                Message::Text(text) => {
                    let bulletin: Value = serde_json::from_str(&text).unwrap();
                    let stations = bulletin["stations"].as_array().unwrap();
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
async fn a_tiles_next_picture_waits_until_the_last_is_drawn_and_is_the_newest() {
    let on_air = OnAir::start(false).await;
    let mut page = Page::open(&on_air).await;
    let begun = page.told(40).await["aired"].as_u64().unwrap();
    page.say(r#"{"want": {"stations": [40, 7]}}"#).await;
    let first = page.picture().await;
    assert_eq!(first.station, 40);
    // Nothing but bulletins, while the station goes on; nor for an answer about another picture.
    page.say(r#"{"drawn": [40, 4000000000]}"#).await;
    page.say(r#"{"drawn": [1, 1]}"#).await;
    while page.told(40).await["aired"].as_u64().unwrap() < begun + 10 {}
    page.say(&format!(r#"{{"drawn": [40, {}]}}"#, first.number)).await;
    let second = page.picture().await;
    let passed = second.number - first.number - 1;
    assert!(passed >= 5, "{first:?} {second:?}");
    assert!(second.due > first.due + 1_000_000_000);
    let metrics = on_air.get("/metrics").await;
    let of = |name: &str| {
        let start = format!("stationcast_client_{name}_total{{station=\"40\",");
        let line =
            metrics.text().lines().find(|line| line.starts_with(&start) && line.contains("way=\"wall\""));
        line.unwrap().rsplit_once(' ').unwrap().1.parse::<u32>().unwrap()
    };
    assert_eq!((of("pictures"), of("pictures_dropped")), (2, passed));

    // Out of sight: not one more.
    page.say(r#"{"want": {"stations": []}}"#).await;
    page.say(&format!(r#"{{"drawn": [40, {}]}}"#, second.number)).await;
    on_air.until("/metrics", |answer| answer.text().contains("stationcast_clients{way=\"wall\"} 0")).await;
    let aired = page.told(40).await["aired"].as_u64().unwrap();
    while page.told(40).await["aired"].as_u64().unwrap() < aired + 5 {}
    // Again in sight: what is on now, at once.
    page.say(r#"{"want": {"stations": [40]}}"#).await;
    assert!(page.picture().await.due > second.due);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_tiles_come_by_one_connection() {
    let on_air = OnAir::start(false).await;
    let mut page = Page::open(&on_air).await;
    page.say(r#"{"want": {"stations": [1, 40]}}"#).await;
    let mut last = [(1, 0), (40, 0)];
    let mut seen = [0, 0];
    while seen.iter().any(|&seen| seen < 3) {
        let picture = page.picture().await;
        let tile = usize::from(picture.station == 40);
        assert_eq!(picture.station, last[tile].0);
        assert!(picture.number > last[tile].1);
        last[tile].1 = picture.number;
        seen[tile] += 1;
        page.say(&format!(r#"{{"drawn": [{}, {}]}}"#, picture.station, picture.number)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_a_station_is_its_audience_and_a_tile_is_not() {
    let on_air = OnAir::start(false).await;
    let mut page = Page::open(&on_air).await;
    page.say(r#"{"want": {"stations": [1, 40]}}"#).await;
    page.picture().await;
    assert_eq!(on_air.get("/api/stations/40").await.json()["audience"], 0);
    page.say(r#"{"want": {"stations": [40], "watched": 40}}"#).await;
    on_air.until("/api/stations/40", |answer| answer.json()["audience"] == 1).await;
    page.say(r#"{"want": {"stations": [1], "watched": 1}}"#).await;
    on_air.until("/api/stations/40", |answer| answer.json()["audience"] == 0).await;
    on_air.until("/api/stations/1", |answer| answer.json()["audience"] == 1).await;
    drop(page);
    on_air.until("/api/stations/1", |answer| answer.json()["audience"] == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_message_ends_the_wall() {
    let on_air = OnAir::start(false).await;
    for text in [
        "",
        "{",
        "null",
        r#"{"want": [1]}"#,
        r#"{"drawn": [1]}"#,
        r#"{"want": {"stations": [70000]}}"#,
        r#"{"other": 1}"#,
    ] {
        let mut page = Page::open(&on_air).await;
        page.say(text).await;
        assert_eq!(page.closed().await, CloseCode::Policy, "{text}");
    }
    let mut page = Page::open(&on_air).await;
    page.0.send(Message::binary(vec![1])).await.unwrap();
    assert_eq!(page.closed().await, CloseCode::Unsupported);
    // The longest line-up is heard; more is not even read.
    let mut page = Page::open(&on_air).await;
    let all: Vec<String> = (1..1000).map(|id| id.to_string()).collect();
    page.say(&format!(r#"{{"want": {{"stations": [{}]}}}}"#, all.join(", "))).await;
    page.picture().await;
    page.say(&" ".repeat(10_000)).await;
    let ended = async { while let Some(Ok(_)) = page.0.next().await {} };
    tokio::time::timeout(SOON, ended).await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_another_site_may_not_open_it() {
    let on_air = OnAir::start(false).await;
    let http = on_air.http;
    for (origin, welcome) in [
        (format!("http://{http}"), true),
        (format!("https://{http}"), true),
        ("http://elsewhere.example".into(), false),
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
