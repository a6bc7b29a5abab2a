//! The web of a whole broadcaster whose films cannot be opened: slates are pictures like any other, and need no film.

mod closed;
mod exposition;
mod operated;
mod walls;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::control;
use crate::daemon::{LineupSource, Listeners, broadcast};
use crate::lineup::{Lineup, World};

const SOON: Duration = Duration::from_secs(20);

const LINEUP: &str = r#"
[http]
hosts = ["television.example"]
[[station]]
id = 1
name = "First"
media = "no such film.mp4"
group = "239.79.3.1:5004"
reel = false
[[station]]
id = 40
name = 'With "quotes" \ and more'
media = "nor this.mp4"
group = "239.79.3.40:5004"
width = 160
reel = false
sound = true
"#;

/// A broadcaster that runs until it is dropped.
struct TestBroadcaster {
    http: SocketAddr,
    rtsp: Option<SocketAddr>,
    directory: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl TestBroadcaster {
    async fn start(rtsp: bool) -> TestBroadcaster {
        TestBroadcaster::of(LINEUP, rtsp).await
    }

    /// A broadcaster of this line-up.
    async fn of(lineup: &str, rtsp: bool) -> TestBroadcaster {
        TestBroadcaster::following(lineup, rtsp, None).await
    }

    /// A broadcaster of this line-up, which obeys commands if that is the content of a file.
    async fn following(lineup: &str, rtsp: bool, file: Option<&Path>) -> TestBroadcaster {
        let source = file.map(|file| LineupSource {
            file: file.to_owned(),
            control: Some(control::listen(&file.with_extension("sock")).unwrap()),
        });
        let world = World::for_tests();
        let lineup = Lineup::parse(lineup, Path::new("stations.toml"), &world).unwrap();
        let listen = || TcpListener::bind("127.0.0.1:0");
        let http = listen().await.unwrap();
        let address = http.local_addr().unwrap();
        let rtsp = if rtsp { Some(listen().await.unwrap()) } else { None };
        let rtsp_at = rtsp.as_ref().map(|rtsp| rtsp.local_addr().unwrap());
        let directory = listen().await.unwrap();
        let directory_at = directory.local_addr().unwrap();
        let listeners = Listeners { directory, rtsp, http: Some(http) };
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(broadcast(lineup, listeners, source, async move { drop(stopped.await) }));
        let broadcaster =
            TestBroadcaster { http: address, rtsp: rtsp_at, directory: directory_at, _stop: stop };
        broadcaster.until("/healthz", |answer| answer.status == 200).await;
        broadcaster
    }

    /// Asks for `path` until `right` accepts the answer.
    async fn until(&self, path: &str, right: impl Fn(&Answer) -> bool) -> Answer {
        let asked = async {
            loop {
                let answer = self.get(path).await;
                if right(&answer) {
                    return answer;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, asked).await.expect("it comes")
    }

    async fn get(&self, path: &str) -> Answer {
        self.get_from("television.example:80", path).await
    }

    /// Asks as a client that knows this host as `host`.
    async fn get_from(&self, host: &str, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await
    }

    async fn accept(&self, path: &str, kinds: &str) -> Answer {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {kinds}\r\nConnection: close\r\n\r\n");
        self.ask(&request).await
    }

    async fn ask(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.http).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        tokio::time::timeout(SOON, stream.read_to_end(&mut all)).await.expect("an answer").unwrap();
        Answer::parse(&all)
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn parse(all: &[u8]) -> Answer {
        let end = all.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(all[..end].to_vec()).unwrap();
        let status = head[9..12].parse().unwrap();
        Answer { status, head, body: all[end + 4..].to_vec() }
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn has(&self, line: &str) -> bool {
        self.head.lines().any(|header| header.eq_ignore_ascii_case(line))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_sdp_playlist_and_page_are_served() {
    let broadcaster = TestBroadcaster::start(false).await;
    let picture = broadcaster.get("/stations/40.jpg").await;
    assert!(picture.has("content-type: image/jpeg") && picture.has("cache-control: no-store"));
    assert!(picture.body.starts_with(&[0xff, 0xd8]) && picture.body.ends_with(&[0xff, 0xd9]));

    let sdp = broadcaster.get("/stations/40.sdp").await;
    assert!(sdp.has("content-type: application/sdp"));
    assert!(sdp.text().contains("\r\nc=IN IP4 239.79.3.40/1\r\n"), "{}", sdp.text());

    let list = broadcaster.get("/stations.m3u").await;
    let expected = "#EXTM3U url-tvg=\"http://television.example:80/guide.xml\" \
        x-tvg-url=\"http://television.example:80/guide.xml\"\n\
        #EXTINF:-1 tvg-id=\"1.stationcast\" tvg-chno=\"1\" tvg-name=\"First\",1 First\n\
        http://television.example:80/stations/1.mjpeg\n\
        #EXTINF:-1 tvg-id=\"40.stationcast\" tvg-chno=\"40\" tvg-name=\"With 'quotes' \\ and more\",40 With \"quotes\" \\ and more\n\
        http://television.example:80/stations/40.mkv\n";
    assert_eq!(list.text(), expected);
    let one = broadcaster.get("/stations/1.m3u").await;
    let one = one.text();
    assert_eq!(one.lines().count(), 3, "{one}");
    assert!(one.starts_with("#EXTM3U\n#EXTINF:-1 tvg-id=\"1.stationcast\""), "{one}");

    let links = broadcaster.get("/api/stations/1/links").await.json();
    let urls: Vec<_> = links.as_array().unwrap().iter().map(|link| link["url"].as_str().unwrap()).collect();
    assert_eq!(urls[0], "http://television.example:80/stations/1.mjpeg", "RTSP is not served");
    let code = broadcaster.get("/api/stations/1/links/mjpeg.svg").await;
    assert!(code.has("content-type: image/svg+xml") && code.text().contains("<svg"), "{}", code.head);
    for nothing in ["1/links/rtsp.svg", "1/links/mjpeg.png", "1/links/", "9/links", "x/links"] {
        assert_eq!(broadcaster.get(&format!("/api/stations/{nothing}")).await.status, 404, "{nothing}");
    }

    let page = broadcaster.get("/").await;
    // Data URLs are of pictures alone: no script, style or frame may be one.
    let policy = "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    assert!(page.has(&format!("content-security-policy: {policy}")), "{}", page.head);
    for (path, kind) in
        [("/wall.js", "text/javascript"), ("/wall.css", "text/css"), ("/icon.svg", "image/svg+xml")]
    {
        let file = broadcaster.get(path).await;
        assert!(file.status == 200 && file.head.contains(kind), "{path}: {}", file.head);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_playlist_names_rtsp_if_the_client_can_reach_it() {
    let broadcaster = TestBroadcaster::start(true).await;
    let first = async |host, path| {
        let list = broadcaster.get_from(host, path).await;
        list.text().lines().nth(2).unwrap().to_owned()
    };
    let entry = first("localhost:80", "/stations.m3u").await;
    assert!(entry.starts_with("rtsp://127.0.0.1:") && entry.ends_with("/1"), "{entry}");
    assert_eq!(first("localhost:80", "/stations.m3u?via=http").await, "http://localhost:80/stations/1.mjpeg");
    // RTSP listens on loopback, which on a client's machine is that machine's own.
    assert_eq!(
        first("television.example:80", "/stations.m3u").await,
        "http://television.example:80/stations/1.mjpeg"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_cannot_be_served_is_refused_in_a_sentence() {
    let broadcaster = TestBroadcaster::start(false).await;
    for (path, status, sentence) in [
        ("/nothing", 404, "there is nothing at /nothing\n"),
        ("/stations/7.jpg", 404, "no station 7\n"),
        ("/stations/1.png", 404, "there is no /stations/1.png\n"),
        ("/stations/1", 404, "there is no /stations/1\n"),
        ("/stations/99999999.jpg", 404, "there is no /stations/99999999.jpg\n"),
        ("/api/stations/7", 404, "no station 7\n"),
        ("/api/stations/x", 404, "a station's number is 1 to 999\n"),
    ] {
        let answer = broadcaster.get(path).await;
        assert_eq!((answer.status, answer.text()), (status, sentence), "{path}");
    }
    for query in ["via=AAA", "via=", "via", "via=http&via=http"] {
        assert_eq!(broadcaster.get(&format!("/stations.m3u?{query}")).await.status, 400, "{query}");
    }
    let without_host = broadcaster.ask("GET /stations.m3u HTTP/1.0\r\n\r\n").await;
    assert_eq!(
        (without_host.status, without_host.text()),
        (400, "without a Host header there is no address to list\n")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_405_says_what_is_allowed_and_options_says_it_too() {
    let broadcaster = TestBroadcaster::start(false).await;
    let ask = async |method: &str, path: &str| {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        broadcaster.ask(&request).await
    };
    let paths = [
        "/",
        "/wall.js",
        "/wall",
        "/stations.m3u",
        "/stations/1.jpg",
        "/api/stations",
        "/api/stations/1",
        "/api/stations/1/links",
        "/api/stations/1/links/sdp.svg",
        "/api/guide",
        "/guide.xml",
        "/api/openapi.json",
        "/healthz",
        "/metrics",
    ];
    for path in paths {
        let allow = if path == "/wall" { "allow: GET, OPTIONS" } else { "allow: GET, HEAD, OPTIONS" };
        for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"] {
            let answer = ask(method, path).await;
            assert_eq!((answer.status, answer.has(allow)), (405, true), "{method} {path}: {}", answer.head);
            assert_eq!(answer.text(), "this can only be read: use GET\n");
        }
        let options = ask("OPTIONS", path).await;
        assert_eq!((options.status, options.has(allow)), (200, true), "{path}: {}", options.head);
        let head = ask("HEAD", path).await;
        let expected = if path == "/wall" { 405 } else { 200 };
        assert_eq!((head.status, head.body.len()), (expected, 0), "{path}");
        assert!(expected == 200 || head.has(allow), "{}", head.head);
    }
    let all = ask("OPTIONS", "*").await;
    assert!(all.status == 200 && all.has("allow: GET, HEAD, OPTIONS"), "{}", all.head);
    assert_eq!(ask("GET", "*").await.status, 400);
    assert_eq!(ask("OPTIONS", "/nothing").await.status, 404);
    let proxy = ask("CONNECT", "localhost:80").await;
    assert!(proxy.status == 405 && proxy.has("allow: GET, HEAD, OPTIONS"), "{}", proxy.head);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_names_one_host_and_the_host_is_this_machine() {
    let broadcaster = TestBroadcaster::start(false).await;
    let paths = [
        "/",
        "/wall",
        "/stations.m3u",
        "/stations/1.jpg",
        "/stations/1.sdp",
        "/api/stations",
        "/healthz",
        "/metrics",
        "/nothing",
    ];
    for path in paths {
        for hosts in [
            "",
            "Host: \r\n",
            "Host: a b\r\n",
            "Host: user@localhost\r\n",
            "Host: a\"b\r\n",
            "Host: localhost\r\nHost: localhost\r\n",
            "Host: localhost:http\r\n",
        ] {
            let answer =
                broadcaster.ask(&format!("GET {path} HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n")).await;
            assert_eq!(answer.status, 400, "{path} with {hosts}");
        }
        let rebound = broadcaster.get_from("rebind.example:8088", path).await;
        assert_eq!(rebound.status, 421, "{path}");
        assert_eq!(
            rebound.text(),
            "this machine is not known as rebind.example: ask for one of its own addresses or names; `hosts` under \
             [http] in the line-up adds names\n"
        );
    }
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    for host in [&broadcaster.http.to_string(), "localhost", "Television.Example", "[::1]:80", &own] {
        assert_eq!(broadcaster.get_from(host, "/api/stations").await.status, 200, "{host}");
    }
    // The target names the host, whatever the header says.
    assert_eq!(broadcaster.get_from("localhost", "http://rebind.example/api/stations").await.status, 421);
    assert_eq!(broadcaster.get_from("rebind.example", "http://localhost/api/stations").await.status, 200);
    assert_eq!(broadcaster.ask("GET /api/stations HTTP/1.0\r\n\r\n").await.status, 200);
    assert_eq!(
        broadcaster.ask("GET /api/stations HTTP/1.0\r\nHost: rebind.example\r\n\r\n").await.status,
        421
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_mjpeg_stream_is_a_multipart_sequence_of_pictures() {
    let broadcaster = TestBroadcaster::start(false).await;
    let mut stream = TcpStream::connect(broadcaster.http).await.unwrap();
    stream.write_all(b"GET /stations/1.mjpeg HTTP/1.0\r\n\r\n").await.unwrap();
    // HTTP/1.0 has no chunked encoding, so the body is plain.
    let mut all = Vec::new();
    // The end of the head and the first boundary are the first of the four matches.
    let three = async {
        while String::from_utf8_lossy(&all).matches("\r\n--picture\r\n").count() < 4 {
            assert_ne!(stream.read_buf(&mut all).await.unwrap(), 0);
        }
    };
    tokio::time::timeout(SOON, three).await.expect("three pictures");
    let answer = Answer::parse(&all);
    assert!(answer.has("content-type: multipart/x-mixed-replace; boundary=picture"));
    let mut rest = answer.body.strip_prefix(b"--picture\r\n").expect("begins with the boundary");
    let mut before = 0.0;
    for _ in 0..3 {
        let end = rest.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = std::str::from_utf8(&rest[..end]).unwrap();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let length: usize = field("Content-Length: ").parse().unwrap();
        let time: f64 = field("X-Timestamp: ").parse().unwrap();
        assert!(time > before);
        before = time;
        let (file, after) = rest[end + 4..].split_at(length);
        assert!(file.starts_with(&[0xff, 0xd8]) && file.ends_with(&[0xff, 0xd9]));
        rest = after.strip_prefix(b"\r\n--picture\r\n").expect("the boundary follows at once");
    }
    let station = broadcaster.get("/api/stations/1").await.json();
    assert_eq!(station["audience"], 1);
    drop(stream);
    broadcaster.until("/api/stations/1", |answer| answer.json()["audience"] == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_matroska_stream_is_a_header_and_blocks() {
    let broadcaster = TestBroadcaster::start(false).await;
    let head = broadcaster.ask("HEAD /stations/1.mkv HTTP/1.0\r\n\r\n").await;
    assert!(head.status == 200 && head.body.is_empty() && head.has("content-type: video/x-matroska"));
    assert_eq!(broadcaster.get("/stations/7.mkv").await.status, 404);
    let mut stream = TcpStream::connect(broadcaster.http).await.unwrap();
    stream.write_all(b"GET /stations/1.mkv HTTP/1.0\r\n\r\n").await.unwrap();
    let mut all = Vec::new();
    let three = async {
        // A picture is a JPEG file, whose first bytes are nowhere else.
        while all.windows(4).filter(|bytes| *bytes == [0xff, 0xd8, 0xff, 0xe0]).count() < 3 {
            assert_ne!(stream.read_buf(&mut all).await.unwrap(), 0);
        }
    };
    tokio::time::timeout(SOON, three).await.expect("three pictures");
    let answer = Answer::parse(&all);
    assert!(answer.has("content-type: video/x-matroska") && answer.has("cache-control: no-store"));
    assert!(answer.body.starts_with(&[0x1a, 0x45, 0xdf, 0xa3]));
    let has = |text: &[u8]| answer.body.windows(text.len()).any(|bytes| bytes == text);
    assert!(has(b"V_MJPEG") && !has(b"A_OPUS"), "the station has no sound");
    assert_eq!(broadcaster.get("/api/stations/1").await.json()["audience"], 1);
    assert!(broadcaster.get("/metrics").await.text().contains("stationcast_clients{way=\"mkv\"} 1"));
    drop(stream);
    broadcaster.until("/api/stations/1", |answer| answer.json()["audience"] == 0).await;
}

/// Asserts that `value` matches `schema`, with exactly its properties.
fn check(value: &Value, schema: &Value, document: &Value, place: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let schema = document.pointer(name.trim_start_matches('#')).expect("the reference resolves");
        return check(value, schema, document, place);
    }
    if let Some(any) = schema["oneOf"].as_array() {
        let (null, one) = (&any[1]["type"], &any[0]);
        assert_eq!(null, "null");
        if !value.is_null() {
            check(value, one, document, place);
        }
        return;
    }
    let is = |kind: &Value| match kind.as_str().unwrap() {
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("{place}: unknown type {other}"),
    };
    let kinds = &schema["type"];
    let right = kinds.as_array().map_or_else(|| is(kinds), |kinds| kinds.iter().any(is));
    assert!(right, "{place}: {value} is not {kinds}");
    if let Some(values) = schema["enum"].as_array() {
        assert!(values.contains(value), "{place}: {value}");
    }
    if let Some(properties) = schema["properties"].as_object() {
        let mut described: Vec<_> = properties.keys().collect();
        let mut answered: Vec<_> = value.as_object().unwrap().keys().collect();
        described.sort();
        answered.sort();
        assert_eq!(described, answered, "{place}");
        for (name, schema) in properties {
            check(&value[name], schema, document, &format!("{place}.{name}"));
        }
    }
    for (n, item) in value.as_array().into_iter().flatten().enumerate() {
        check(item, &schema["items"], document, &format!("{place}[{n}]"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_answers_as_openapi_json_describes() {
    let lineup = LINEUP.replace("no such film.mp4", "media/nature.mp4");
    let broadcaster = TestBroadcaster::of(&lineup, true).await;
    let document = broadcaster.get("/api/openapi.json").await.json();
    for (path, template) in [
        ("/api/stations", "/api/stations"),
        ("/api/stations/1", "/api/stations/{id}"),
        ("/api/stations/40", "/api/stations/{id}"),
        ("/api/stations/40/links", "/api/stations/{id}/links"),
        ("/api/guide", "/api/guide"),
    ] {
        let sign = match path {
            "/api/guide" | "/api/stations/1" => "\"title\"",
            "/api/stations/40/links" => "\"page\"",
            _ => "\"slate\"",
        };
        let answer = broadcaster.until(path, |answer| answer.text().contains(sign)).await;
        let content = &document["paths"][template]["get"]["responses"]["200"]["content"];
        check(&answer.json(), &content["application/json"]["schema"], &document, path);
    }
    let station = broadcaster.get("/api/stations/40").await.json();
    assert_eq!(station["reason"], "cannot read nor this.mp4: no such file or directory");
    assert_eq!((&station["now"], &station["demand"]["state"]), (&Value::Null, &Value::from("unknown")));
    let station = broadcaster.get("/api/stations/1").await.json();
    assert_eq!((&station["now"]["title"], &station["next"]["title"]), (&"Nature".into(), &"Nature".into()));
    assert_eq!((&station["now"]["length_s"], &station["demand"]["state"]), (&24.024.into(), &"ready".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_station_that_could_not_be_played_on_demand_can_be_when_it_is_on_air() {
    let folder = tempfile::tempdir().unwrap();
    let film = folder.path().join("film.mp4");
    let lineup = LINEUP.replace("no such film.mp4", film.to_str().unwrap());
    let broadcaster = TestBroadcaster::of(&lineup, true).await;
    let mut client = TcpStream::connect(broadcaster.rtsp.unwrap()).await.unwrap();
    client.write_all(b"DESCRIBE rtsp://h/1/demand RTSP/1.0\r\nCSeq: 1\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    client.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"RTSP/1.0 503");
    let station = broadcaster.get("/api/stations/1").await.json();
    assert_eq!(station["demand"]["state"], "refused");
    assert_eq!(station["demand"]["reason"], "cannot read film.mp4: no such file or directory");
    std::fs::copy("media/nature.mp4", &film).unwrap();
    let ready = r#""demand":{"state":"ready","reason":null}"#;
    broadcaster.until("/api/stations/1", |answer| answer.text().contains(ready)).await;
}
