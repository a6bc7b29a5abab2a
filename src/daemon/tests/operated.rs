//! Orders of operators, by HTTP and by the control socket.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::{Answer, TestBroadcaster};
use crate::access::{Keys, Secret, Terms};

/// A broadcaster with operators: "anna", whose password may change what is on air, and "staff", who may only watch.
struct Operated {
    broadcaster: TestBroadcaster,
    file: PathBuf,
    lineup: String,
    token: String,
    watcher: String,
    _folder: TempDir,
}

impl Operated {
    #[expect(clippy::disallowed_methods, reason = "a test counts from now")]
    async fn new() -> Operated {
        let folder = TempDir::new().unwrap();
        let access = folder.path().join("access.toml");
        let (mut keys, now) = (Keys::default(), SystemTime::now());
        let admin = Terms { admin: true, ..Terms::default() };
        let token = keys.add_token("anna", now, admin).unwrap().1;
        keys.add_password("anna", &Secret::new("correct horse".into()), now, admin).unwrap();
        let watcher = keys.add_token("staff", now, Terms::default()).unwrap().1;
        keys.write(&access).unwrap();
        fs::create_dir(folder.path().join("films")).unwrap();
        fs::write(folder.path().join("films/broken.mp4"), "no film").unwrap();
        fs::copy("media/nature.mp4", folder.path().join("films/other.mp4")).unwrap();
        fs::copy("media/nature.mp4", folder.path().join("secret.mp4")).unwrap();
        let film = folder.path().join("films/broken.mp4");
        // The listeners are not those of the line-up, and stay as they are.
        let lineup = format!(
            "[access]\nfile = {access:?}\n[http]\nhosts = [\"television.example\"]\n[[station]]\nid = 2\nname = \"Two\"\nmedia = {film:?}\n\
             group = \"239.79.5.2:5004\"\nreel = false\naccess = [\"nobody\"]\n"
        );
        let file = folder.path().join("stations.toml");
        fs::write(&file, &lineup).unwrap();
        let broadcaster = TestBroadcaster::following(&lineup, false, Some(&file)).await;
        let bearer = |token: Secret| format!("Authorization: Bearer {}\r\n", token.reveal());
        let (token, watcher) = (bearer(token), bearer(watcher));
        Operated { broadcaster, file, lineup, token, watcher, _folder: folder }
    }

    async fn post(&self, path: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        self.broadcaster.ask(&request).await
    }

    async fn order(&self, order: &Value) -> (u16, Value) {
        let answer = self.post("/api/stations/2/control", &self.token, &order.to_string()).await;
        (answer.status, answer.json())
    }

    /// The station, once it is as it should be.
    async fn until(&self, right: impl Fn(&Value) -> bool) {
        let get = format!(
            "GET /api/stations/2 HTTP/1.1\r\nHost: localhost\r\n{}Connection: close\r\n\r\n",
            self.token
        );
        let asked = async {
            while !right(&self.broadcaster.ask(&get).await.json()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(super::SOON, asked).await.expect("it comes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_an_operator_orders_and_no_page_of_another_site_does() {
    let operated = Operated::new().await;
    let hold = r#"{"order": "hold", "text": "back at 14:00"}"#;
    let entered = operated.post("/login", "", "name=anna&secret=correct+horse").await;
    let cookie = entered.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    let cookie = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    let elsewhere = "Origin: http://elsewhere.example\r\n";
    for path in ["/api/stations/2/control", "/api/reload?dry_run"] {
        let body = if path.contains("reload") { "" } else { hold };
        for (headers, status, why) in [
            ("", 401, "this needs a token or password with admin"),
            ("Authorization: Bearer sct_00\r\n", 401, "this token or password is not let in"),
            ("Cookie: stationcast=00\r\n", 401, "this needs a token or password with admin"),
            (&operated.watcher, 403, "this token or password has no admin: it may only watch"),
            (&(cookie.clone() + elsewhere), 403, "a page of another site may change nothing here"),
            (&(operated.token.clone() + elsewhere), 403, "a page of another site may change nothing here"),
            (&(cookie.clone() + "Origin: null\r\n"), 403, "a page of another site may change nothing here"),
            (&cookie, 403, "a request with the cookie of a log-in needs an Origin"),
        ] {
            let refused = operated.post(path, headers, body).await;
            let text = refused.text();
            assert!(refused.status == status && text.starts_with(why), "{path} {headers:?}: {text}");
        }
        let read = operated.broadcaster.get_from("localhost", path).await;
        assert!(read.status == 405 && read.has("allow: POST, OPTIONS"), "{}", read.head);
    }
    operated.until(|station| station["state"] == "slate" && station["interlude"].is_null()).await;

    let held =
        operated.post("/api/stations/2/control", &(cookie + "Origin: http://localhost\r\n"), hold).await;
    let done =
        json!({"done": true, "not_now": false, "sentences": ["station 2 \"Two\" is on hold: back at 14:00"]});
    assert_eq!((held.status, held.json()), (200, done));
    operated.until(|station| station["interlude"] == "hold" && station["reason"] == "back at 14:00").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_are_obeyed_or_told_why_not() {
    let operated = Operated::new().await;
    let sentence = |answer: &Value| answer["sentences"][0].as_str().unwrap().to_owned();
    let (status, answer) = operated.order(&json!({"order": "resume"})).await;
    assert_eq!((status, answer["not_now"].as_bool()), (409, Some(true)), "{answer}");
    assert!(sentence(&answer).ends_with("there is nothing to resume"));

    let (status, answer) = operated.order(&json!({"order": "play", "film": "other.mp4"})).await;
    assert_eq!(
        (status, sentence(&answer)),
        (200, "station 2 \"Two\" shows \"Other\" once".into()),
        "{answer}"
    );
    operated.until(|station| station["interlude"] == "film").await;
    let secret = operated.file.with_file_name("secret.mp4");
    for film in ["secret.mp4", "../films/../secret.mp4", secret.to_str().unwrap(), "/etc/passwd", "none.mp4"]
    {
        let (status, answer) = operated.order(&json!({"order": "play", "film": film})).await;
        let why =
            "is no film of the line-up, nor one in the same folder: others are played from this machine only";
        assert_eq!((status, sentence(&answer)), (422, format!("{film} {why}")));
    }
    assert_eq!(operated.order(&json!({"order": "resume"})).await.0, 409, "its own film is broken");

    let path = "/api/stations/2/control";
    let wrong = operated.post(path, &operated.token, "{\"order\": \"dance\"}").await;
    assert!(wrong.status == 400 && wrong.text().contains("unknown variant `dance`"), "{}", wrong.text());
    let large = operated.post(path, &operated.token, &" ".repeat(5000)).await;
    assert_eq!((large.status, large.text()), (413, "a command has at most 4096 bytes, and all of them\n"));
    let unknown = operated.post("/api/stations/9/control", &operated.token, "{}").await;
    assert_eq!(unknown.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_by_http_tells_first_and_then_changes() {
    let operated = Operated::new().await;
    let reload = async |query: &str, body: &str| {
        let answer = operated.post(&format!("/api/reload{query}"), &operated.token, body).await;
        (answer.status, answer.json()["sentences"].to_string())
    };
    fs::write(&operated.file, operated.lineup.replace("Two", "Zwei")).unwrap();
    let renamed = "station 2 \\\"Two\\\" is renamed \\\"Zwei\\\"";
    for (query, body) in [("?dry_run", ""), ("", "{\"dry_run\": true}")] {
        let (status, told) = reload(query, body).await;
        assert!(status == 200 && told.contains(renamed) && told.contains("nothing was changed"), "{told}");
    }
    operated.until(|station| station["name"] == "Two").await;
    let (status, done) = reload("", "").await;
    assert!(status == 200 && done.contains(renamed), "{done}");
    operated.until(|station| station["name"] == "Zwei").await;
    fs::write(&operated.file, operated.lineup.replace("reel", "real")).unwrap();
    let (status, wrong) = reload("", "").await;
    assert!(status == 422 && wrong.contains("real") && wrong.contains("stays as it is"), "{wrong}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_is_half_read_when_the_file_changes_is_obeyed() {
    let operated = Operated::new().await;
    let followed = "[reload]\nwatch = true\n".to_owned() + &operated.lineup;
    fs::write(&operated.file, &followed).unwrap();
    assert_eq!(operated.post("/api/reload", &operated.token, "").await.status, 200);
    let mut client = UnixStream::connect(operated.file.with_extension("sock")).await.unwrap();
    client.write_all(b"{\"reload\": {\"dry_run\":").await.unwrap();
    fs::write(&operated.file, followed.replace("Two", "Zwei")).unwrap();
    operated.until(|station| station["name"] == "Zwei").await;
    client.write_all(b" true}}\n").await.unwrap();
    let mut line = String::new();
    let mut client = BufReader::new(client);
    let read = client.read_line(&mut line);
    tokio::time::timeout(super::SOON, read).await.expect("it is answered").unwrap();
    assert!(line.starts_with("{\"done\":true,") && line.contains("nothing was changed"), "{line}");
}
