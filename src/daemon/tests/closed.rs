//! A station that lets in only some, and connections by TLS.

use std::time::SystemTime;

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Error;

use super::walls::Page;
use super::{Answer, SOON, TestBroadcaster};
use crate::access::{ADMIN, Keys, Secret, Terms};
use crate::directory::{self, Endpoint, QueryError, Reach};
use crate::tls::identity::make;
use crate::tls::pin::{Fingerprint, KnownServers, secure};

/// A broadcaster with a station that is open to all, and one for the staff.
struct Closed {
    broadcaster: TestBroadcaster,
    folder: TempDir,
    staff: (String, Secret),
    admin: Secret,
}

impl Closed {
    #[expect(clippy::disallowed_methods, reason = "a test counts from now")]
    async fn new() -> Closed {
        let folder = TempDir::new().unwrap();
        let (certificate, key) = make(folder.path(), vec!["localhost".into()]).unwrap();
        let file = folder.path().join("access.toml");
        let (mut keys, now) = (Keys::default(), SystemTime::now());
        let staff = keys.add_token("staff", now, Terms::default()).unwrap();
        let admin = keys.add_token(ADMIN, now, Terms::default()).unwrap().1;
        keys.add_password("staff", &Secret::new("correct horse".into()), now, Terms::default()).unwrap();
        keys.write(&file).unwrap();
        let lineup = format!(
            "[tls]\ncert = {certificate:?}\nkey = {key:?}\n[access]\nfile = {file:?}\n\
             [directory]\ntls = true\n[rtsp]\ntls = \"both\"\n[http]\nhosts = [\"television.example\"]\ntls = \"both\"\n\
             [[station]]\nid = 1\nname = \"Open\"\nmedia = \"none.mp4\"\ngroup = \"239.79.4.1:5004\"\nreel = false\n\
             [[station]]\nid = 7\nname = \"Hidden\"\nmedia = \"none.mp4\"\ngroup = \"239.79.4.7:5004\"\nreel = false\n\
             access = [\"staff\"]\n\
             [[station]]\nid = 9\nname = \"Camera\"\ngroup = \"239.79.4.9:5004\"\npublish = {{ access = [\"staff\"] }}\naccess = [\"staff\"]\n"
        );
        let broadcaster = TestBroadcaster::of(&lineup, true).await;
        broadcaster.until("/api/stations/1", |answer| answer.status == 200).await;
        Closed { broadcaster, folder, staff, admin }
    }

    /// Asks by HTTP, with these header lines besides.
    async fn get(&self, path: &str, headers: &str) -> Answer {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n");
        self.broadcaster.ask(&request).await
    }

    async fn post(&self, path: &str, headers: &str, form: &str) -> Answer {
        let length = form.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{form}"
        );
        self.broadcaster.ask(&request).await
    }

    fn directory(&self, token: Option<&Secret>) -> Endpoint {
        let known = KnownServers::in_file(&self.folder.path().join("known"));
        let reach = Reach { tls: true, known, token: token.cloned(), ..Reach::default() };
        Endpoint { address: self.broadcaster.directory, reach }
    }

    /// The numbers of the stations that the directory lists.
    async fn listed(&self, token: Option<&Secret>) -> Result<Vec<u16>, QueryError> {
        let stations = directory::list(self.directory(token), SOON).await?;
        Ok(stations.iter().map(|station| station.id.0).collect())
    }
}

/// An RTSP request, and the status of its response.
async fn rtsp(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    method: &str,
    path: &str,
    headers: &str,
) -> String {
    let request = format!("{method} rtsp://localhost{path} RTSP/1.0\r\nCSeq: 1\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = [0; 4096];
    let length = tokio::time::timeout(SOON, stream.read(&mut answer)).await.unwrap().unwrap();
    String::from_utf8_lossy(&answer[..length]).lines().next().unwrap().replace("RTSP/1.0 ", "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_station_for_some_is_nowhere_for_others() {
    let closed = Closed::new().await;
    let bearer = |token: &Secret| format!("Authorization: Bearer {}\r\n", token.reveal());
    let (staff, admin) = (bearer(&closed.staff.1), bearer(&closed.admin));
    for path in
        ["/api/stations", "/stations.m3u", "/api/guide", "/guide.xml", "/metrics", "/stations.m3u?via=http"]
    {
        let shows = async |headers: &str| {
            let text = closed.get(path, headers).await.text().to_owned();
            assert!(text.contains("Open"), "{path}: {text}");
            text.contains("Hidden")
        };
        assert!(!shows("").await && shows(&staff).await && shows(&admin).await, "{path}");
        let wrong = closed.get(path, "Authorization: Bearer sct_00\r\n").await;
        assert!(wrong.status == 401 && wrong.has("www-authenticate: Bearer"), "{path}: {}", wrong.head);
    }
    for path in [
        "/stations/7.jpg",
        "/stations/7.mjpeg",
        "/stations/7.mkv",
        "/stations/7.sdp",
        "/stations/7.m3u",
        "/api/stations/7",
        "/api/stations/7/links",
        "/api/stations/7/links/sdp.svg",
    ] {
        let absent = path.replace('7', "8");
        let [none, some] = [&absent, path].map(|path| closed.get(path, ""));
        let (none, some) = (none.await, some.await);
        assert_eq!((some.status, some.text()), (404, &*none.text().replace('8', "7")), "{path}");
        if !path.ends_with(".mjpeg") && !path.ends_with(".mkv") {
            assert_eq!(closed.get(path, &staff).await.status, 200, "{path}");
        }
    }

    assert_eq!(closed.listed(None).await.unwrap(), [1]);
    assert_eq!(closed.listed(Some(&closed.staff.1)).await.unwrap(), [1, 7, 9]);
    let wrong = closed.listed(Some(&Secret::new("sct_00".into()))).await.unwrap_err().to_string();
    assert!(wrong.ends_with("refused: this token or password is not let in"), "{wrong}");
    let plain = directory::list(closed.broadcaster.directory, SOON).await.unwrap_err().to_string();
    assert!(plain.ends_with("refused: this directory speaks TLS only: try viewer --tls"), "{plain}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_logs_in_and_its_wall_ends_with_its_password() {
    let closed = Closed::new().await;
    let form = closed.get("/login", "").await;
    assert!(
        form.text().contains("name=\"secret\"") && form.head.contains("form-action 'self'"),
        "{}",
        form.text()
    );
    for (headers, form, status) in [
        ("", "name=staff&secret=wrong+horse", 401),
        ("", "name=nobody&secret=correct+horse", 401),
        ("", "", 401),
        ("Origin: http://elsewhere.example\r\n", "name=staff&secret=correct+horse", 403),
        ("", &format!("name=staff&secret={}", "x".repeat(5000)), 400),
    ] {
        let refused = closed.post("/login", headers, form).await;
        assert_eq!(refused.status, status, "{form}: {}", refused.text());
        assert!(!refused.head.to_lowercase().contains("set-cookie"));
    }
    let entered =
        closed.post("/login", "Origin: http://localhost\r\n", "name=staff&secret=correct+horse").await;
    assert_eq!(entered.status, 303, "{}", entered.text());
    let cookie = entered.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.contains("; HttpOnly; SameSite=Strict;") && !cookie.contains("Secure"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    let header = format!("Cookie: {cookie}\r\n");
    assert_eq!(closed.get("/api/stations/7", &header).await.status, 200);
    assert!(closed.get("/login", &header).await.text().contains("logged in as staff"));

    let mut guest = Page::open(&closed.broadcaster).await;
    assert_eq!(guest.stations().await, (vec![1], serde_json::Value::Null));
    guest.send(r#"{"want":{"stations":[1,7],"watched":7,"heard":7}}"#).await;
    let mut staff = Page::open_with(&closed.broadcaster, &[("cookie", cookie)]).await.unwrap();
    assert_eq!(staff.stations().await, (vec![1, 7, 9], "staff".into()));
    staff.send(r#"{"want":{"stations":[7]}}"#).await;
    assert_eq!(staff.picture().await.station, 7);
    for _ in 0..3 {
        assert_eq!(guest.picture().await.station, 1);
        guest.send(r#"{"want":{"stations":[]}}"#).await;
        guest.send(r#"{"want":{"stations":[1,7]}}"#).await;
    }
    let elsewhere = Page::open_with(&closed.broadcaster, &[("origin", "http://elsewhere.example")]).await;
    assert!(matches!(elsewhere, Err(Error::Http(response)) if response.status() == 403));

    let left = closed.post("/logout", &header, "").await;
    assert_eq!(left.status, 303);
    assert_eq!(closed.get("/api/stations/7", &header).await.status, 404);
    // The password is removed: all that was let in with it ends.
    let file = closed.folder.path().join("access.toml");
    let mut keys = Keys::read(&file).unwrap();
    assert_eq!(keys.remove("staff").len(), 2);
    keys.write(&file).unwrap();
    assert_eq!(staff.closed_because().await, "the log-in is over");
    let over =
        closed.get("/stations.m3u", &format!("Authorization: Bearer {}\r\n", closed.staff.1.reveal())).await;
    assert_eq!(over.status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rtsp_asks_for_a_name_and_a_password() {
    use base64::Engine;
    let closed = Closed::new().await;
    let basic = |text: &str| {
        let text = base64::engine::general_purpose::STANDARD.encode(text);
        format!("Authorization: Basic {text}\r\n")
    };
    let address = closed.broadcaster.rtsp.unwrap();
    let connect = || TcpStream::connect(address);
    let mut plain = connect().await.unwrap();
    // Whether there is such a station is told to nobody who has shown nothing.
    assert_eq!(rtsp(&mut plain, "DESCRIBE", "/7", "").await, "401 Unauthorized");
    assert_eq!(rtsp(&mut plain, "DESCRIBE", "/8", "").await, "401 Unauthorized");
    assert_eq!(rtsp(&mut plain, "DESCRIBE", "/1", "").await, "200 OK");
    let wrong = "401 Unauthorized: this token or password is not let in";
    assert_eq!(rtsp(&mut plain, "DESCRIBE", "/7", &basic("staff:wrong horse")).await, wrong);
    assert_eq!(rtsp(&mut plain, "DESCRIBE", "/7", &basic("nobody:correct horse")).await, wrong);
    let right = basic("staff:correct horse");
    assert_eq!(rtsp(&mut plain, "DESCRIBE", "/7", &right).await, "200 OK");
    let not_found = "404 Not Found: there is no station 8";
    assert_eq!(rtsp(&mut plain, "DESCRIBE", "/8", &right).await, not_found);
    let udp = format!("{right}Transport: RTP/AVP;unicast;client_port=5000-5001\r\n");
    assert_eq!(rtsp(&mut plain, "SETUP", "/7/video", &udp).await, "461 Unsupported Transport");

    let known = KnownServers::default();
    let mut tls = secure(connect().await.unwrap(), address, None, &known).await.unwrap();
    let token = basic(&format!("anybody:{}", closed.staff.1.reveal()));
    assert_eq!(rtsp(&mut tls, "DESCRIBE", "/7", &token).await, "200 OK");
    let tcp = format!("{token}Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n");
    assert_eq!(rtsp(&mut tls, "SETUP", "/7/video", &tcp).await, "200 OK");
    let file = closed.folder.path().join("access.toml");
    let mut keys = Keys::read(&file).unwrap();
    assert_eq!(keys.remove(&closed.staff.0).len(), 1);
    keys.write(&file).unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(SOON, tls.read_to_end(&mut rest)).await.expect("it is closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_are_of_tls_for_a_client_that_came_by_it() {
    let closed = Closed::new().await;
    let address = closed.broadcaster.http;
    let tcp = TcpStream::connect(address).await.unwrap();
    let known = KnownServers::in_file(&closed.folder.path().join("known"));
    let mut tls = secure(tcp, address, None, &known).await.unwrap();
    tls.write_all(b"GET /stations.m3u HTTP/1.1\r\nHost: localhost:1\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut all = Vec::new();
    tokio::time::timeout(SOON, tls.read_to_end(&mut all)).await.unwrap().unwrap();
    let text = Answer::parse(&all).text().to_owned();
    assert!(
        text.contains("\"https://localhost:1/guide.xml\"") && text.contains("\nrtsps://127.0.0.1:"),
        "{text}"
    );
    let fingerprint: Fingerprint = known.get(address).unwrap();
    assert_eq!(fingerprint.to_string().len(), 95);
}

/// The viewer's client against the server, by TLS: pictures that are larger than a record, on a socket that does not block.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg(feature = "viewer")]
async fn the_viewer_receives_a_station_for_some_by_rtsps() {
    use crate::media::StationId;
    use crate::tls::pin::Trust;
    use crate::tuner::receiver::{ReceiveFrom, Receiver};
    use crate::viewer::rtsp;

    let closed = Closed::new().await;
    let address = closed.broadcaster.rtsp.unwrap();
    let directory = closed.directory(Some(&closed.staff.1));
    closed.listed(Some(&closed.staff.1)).await.unwrap(); // the directory is known now
    let reach = tokio::task::spawn_blocking(move || rtsp::reach(&directory, address));
    let (server, is_less_safe) = reach.await.unwrap().unwrap();
    assert!(matches!(server.tls, Some(Trust::Directory(_))) && !is_less_safe, "{server:?}");
    let receive = |server| {
        let (sender, pictures) = std::sync::mpsc::channel();
        let from = ReceiveFrom::rtsp_station(&server, StationId(7));
        let receiver = Receiver::start(from, 10, move |picture| drop(sender.send(picture))).unwrap();
        (receiver, pictures)
    };
    let (receiver, pictures) = receive(server.clone());
    let received = tokio::task::spawn_blocking(move || {
        let received: Vec<_> = (0..5).map(|_| pictures.recv_timeout(SOON).is_ok()).collect();
        drop(receiver);
        received
    });
    assert_eq!(received.await.unwrap(), [true; 5]);

    let (receiver, pictures) =
        receive(crate::tuner::rtsp_client::RtspServer { authorization: None, ..server });
    let refused = async {
        while receiver.status().problem.is_none() {
            tokio::task::yield_now().await;
        }
        receiver.status().problem.unwrap()
    };
    let refused = tokio::time::timeout(SOON, refused).await.unwrap();
    assert!(refused.contains("RTSP DESCRIBE was refused: 401"), "{refused}");
    assert!(pictures.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_may_publish_does_so_by_its_password() {
    use base64::Engine;
    let closed = Closed::new().await;
    let mut stream = TcpStream::connect(closed.broadcaster.rtsp.unwrap()).await.unwrap();
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:0\r\n";
    let mut announce = async |login: Option<&str>| {
        let encoded = login.map(|login| base64::engine::general_purpose::STANDARD.encode(login));
        let login = encoded.map(|code| format!("Authorization: Basic {code}\r\n")).unwrap_or_default();
        let length = sdp.len();
        let headers =
            format!("{login}Content-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{sdp}");
        // The helper ends the head, which the body has done.
        let headers = headers.strip_suffix("\r\n").unwrap().to_owned();
        rtsp(&mut stream, "ANNOUNCE", "/publish/camera", &headers).await
    };
    let asked = announce(None).await;
    assert!(asked.starts_with("401 Unauthorized: no token or password was shown"), "{asked}");
    assert_eq!(
        announce(Some("staff:wrong horse")).await,
        "401 Unauthorized: this token or password is not let in"
    );
    assert_eq!(announce(Some("staff:correct horse")).await, "200 OK");
}
