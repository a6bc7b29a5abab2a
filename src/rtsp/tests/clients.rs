//! Requests as clients of others write them, on a connection.

use super::*;

/// Sends `request` as it is. Returns the response.
async fn exchange(client: &mut TestRtspClient, request: &[u8]) -> Response<Vec<u8>> {
    client.stream.write_all(request).await.unwrap();
    response(client).await
}

/// The next response.
async fn response(client: &mut TestRtspClient) -> Response<Vec<u8>> {
    loop {
        match client.receive().await.expect("the connection is open") {
            ReceivedMessage::Response(response) => return response,
            ReceivedMessage::Picture(..) | ReceivedMessage::Sound(..) | ReceivedMessage::Rtcp(_) => {}
        }
    }
}

fn header<'a>(response: &'a Response<Vec<u8>>, name: &rtsp_types::HeaderName) -> &'a str {
    response.header(name).map_or("", |value| value.as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_appends_the_control_and_plays_the_medium_gets_pictures() {
    // yellowstone of npm, before 3.0: whatever the control is, it goes behind the URL, and every request has that URL.
    let server = TestRtspServer::new().await;
    for resource in ["2", "2/demand"] {
        let mut client = server.connect().await;
        let mut url = format!("rtsp://h:8554/{resource}");
        let described = client.request(&format!("DESCRIBE {url}"), "Accept: application/sdp").await;
        assert!(header(&described, &headers::CONTENT_BASE).ends_with(&format!("/{resource}/")));
        let sdp = String::from_utf8(described.into_body()).unwrap();
        let medium = sdp.split_once("m=video").unwrap().1;
        let control = medium.lines().find_map(|line| line.strip_prefix("a=control:")).unwrap();
        url = format!("{url}/{control}");
        let transport = "Transport: RTP/AVP/TCP;interleaved=0-1";
        assert_eq!(client.status(&format!("SETUP {url}"), transport).await, 200, "{url}");
        client.play(&format!("PLAY {url}"), "").await;
        server.show(7, 100, Duration::ZERO);
        client.picture().await;
        assert_eq!(client.status(&format!("PAUSE {url}"), "").await, 200);
        assert_eq!(client.status(&format!("TEARDOWN {url}"), "").await, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sets_up_the_url_it_was_given_gets_pictures() {
    let server = TestRtspServer::new().await;
    // The last one appends the control behind a query.
    for url in ["rtsp://h/2", "rtsp://h/2/", "rtsp://h/2?token=1/video"] {
        let mut client = server.connect().await;
        assert_eq!(client.status(&format!("SETUP {url}"), TCP).await, 200, "{url}");
        client.play(&format!("PLAY {url}"), "").await;
        server.show(7, 100, Duration::ZERO);
        client.picture().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_careless_request_is_taken() {
    let server = TestRtspServer::new().await;
    let mut client = server.connect().await;
    for request in [
        &b"DESCRIBE rtsp://h/2 RTSP/1.0\nCSeq: 4294967296\nAccept: application/SDP\n\n"[..],
        b"DESCRIBE rtsp://h/2 RTSP/1.0\rCSeq: 4294967296\rAccept-Language: de\r\r",
        b"\n\r\nDESCRIBE rtsp://h/2 RTSP/1.0\r\nCSeq: 4294967296\r\nUser-Agent: M\xfcller\r\n\r\n",
        b"DESCRIBE rtsp://h/2 RTSP/1.0\r\nCSeq : 4294967296\r\nR: 1\r\nSession-Hint: x\r\nP: 1\r\n\r\n",
    ] {
        let response = exchange(&mut client, request).await;
        assert_eq!(u16::from(response.status()), 200, "{}", request.escape_ascii());
        assert_eq!(header(&response, &headers::CSEQ), "4294967296");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_response_has_the_timestamp_of_its_request() {
    let server = TestRtspServer::new().await;
    let mut client = server.connect().await;
    for (line, status) in [("OPTIONS *", 200), ("DESCRIBE rtsp://h/9", 404), ("OPTIONS http://h/2", 400)] {
        let response = client.request(line, "Timestamp: 12.5").await;
        assert_eq!((u16::from(response.status()), header(&response, &headers::TIMESTAMP)), (status, "12.5"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_closed_behind_the_response_if_the_client_wants_that() {
    let server = TestRtspServer::new().await;
    for (line, status) in [("OPTIONS *", 200), ("DESCRIBE rtsp://h/2", 200), ("PLAY rtsp://h/2", 454)] {
        let mut client = server.connect().await;
        assert_eq!(client.status(line, "Connection: keep-alive").await, status);
        // The second request comes too late.
        let request = format!(
            "{line} RTSP/1.0\r\nCSeq: 2\r\nConnection: Close\r\n\r\nOPTIONS * RTSP/1.0\r\nCSeq: 3\r\n\r\n"
        );
        let response = exchange(&mut client, request.as_bytes()).await;
        assert_eq!(
            (u16::from(response.status()), header(&response, &headers::CONNECTION)),
            (status, "close")
        );
        assert!(client.receive().await.is_none(), "the connection is closed");
    }
}

/// Both connections of a tunnel, its GET and its POST, and the number of requests so far.
struct TunnelClient {
    get: TestRtspClient,
    post: TestRtspClient,
    cseq: u32,
}

const BASE64: base64::engine::GeneralPurpose = base64::engine::general_purpose::STANDARD;

/// Sends the head of an HTTP request.
async fn begin_http(client: &mut TestRtspClient, method: &str, cookie: &str) {
    let tunnelled = "application/x-rtsp-tunnelled";
    let headers = format!("x-sessioncookie: {cookie}\r\nAccept: {tunnelled}\r\nContent-Length: 32767\r\n");
    let head = format!("{method} /2 HTTP/1.0\r\n{headers}\r\n");
    client.stream.write_all(head.as_bytes()).await.unwrap();
}

/// The head of an HTTP response, with what has come behind it.
async fn http_response(client: &mut TestRtspClient) -> String {
    let read = async {
        while !client.bytes.windows(4).any(|four| four == b"\r\n\r\n") {
            assert_ne!(client.stream.read_buf(&mut client.bytes).await.unwrap(), 0);
        }
    };
    timeout(PATIENCE, read).await.expect("a response comes");
    String::from_utf8(std::mem::take(&mut client.bytes)).unwrap()
}

impl TunnelClient {
    async fn open(server: &TestRtspServer, cookie: &str) -> TunnelClient {
        let mut get = server.connect().await;
        begin_http(&mut get, "GET", cookie).await;
        let head = http_response(&mut get).await;
        assert!(
            head.starts_with("HTTP/1.0 200 OK\r\n") && head.contains("application/x-rtsp-tunnelled"),
            "{head}"
        );
        let mut post = server.connect().await;
        begin_http(&mut post, "POST", cookie).await;
        TunnelClient { get, post, cseq: 0 }
    }

    /// Sends a request by the POST, in pieces. Returns the response, which comes by the GET.
    async fn request(&mut self, line: &str, header: &str) -> Response<Vec<u8>> {
        self.cseq += 1;
        let session = self.get.session.iter().map(|id| format!("Session: {id}\r\n")).collect::<String>();
        let text = format!("{line} RTSP/1.0\r\nCSeq: {}\r\n{session}{header}\r\n\r\n", self.cseq);
        let encoded = base64::Engine::encode(&BASE64, text);
        let (first, second) = encoded.split_at(encoded.len() / 3);
        for piece in [first, second] {
            self.post.stream.write_all(piece.as_bytes()).await.unwrap();
        }
        let response = response(&mut self.get).await;
        if let Some(id) = response.header(&headers::SESSION) {
            self.get.session = Some(id.as_str().to_owned());
        }
        response
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_station_plays_through_http() {
    let server = TestRtspServer::new().await;
    // A second tunnel with a cookie of its own stays apart.
    for cookie in ["a1", "b2"] {
        let mut client = TunnelClient::open(&server, cookie).await;
        assert_eq!(
            u16::from(client.request("DESCRIBE rtsp://h/2", "Accept: application/sdp").await.status()),
            200
        );
        assert_eq!(u16::from(client.request("SETUP rtsp://h/2/video", TCP).await.status()), 200);
        assert_eq!(u16::from(client.request("PLAY rtsp://h/2", "Range: npt=0-").await.status()), 200);
        server.show(7, 60_000, Duration::ZERO);
        assert_eq!(client.get.picture().await.2, 7);
        // A client that sends a POST for each request.
        client.post = server.connect().await;
        begin_http(&mut client.post, "POST", cookie).await;
        assert_eq!(u16::from(client.request("PAUSE rtsp://h/2", "").await.status()), 200);
        assert_eq!(server.head_end.clients.all().len(), 1);
        // The session ends with the GET, and the POST with it.
        drop(client.get);
        server.wait_until(|head_end| head_end.clients.all().is_empty()).await;
        assert!(client.post.receive().await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_that_is_no_tunnel_is_refused_in_http() {
    let server = TestRtspServer::new().await;
    let _open = TunnelClient::open(&server, "a1").await;
    let long = "x".repeat(1000);
    for (method, cookie, body, status) in [
        ("GET", "", "", "400"),
        ("GET", long.as_str(), "", "400"),
        ("POST", "other", "", "404"),
        ("POST", "a1", "****", "400"),
        ("PUT", "a1", "", "400"),
    ] {
        let mut client = server.connect().await;
        let head = format!("{method} / HTTP/1.1\r\nHost: h\r\n");
        let cookie = if cookie.is_empty() { String::new() } else { format!("X-SessionCookie: {cookie}\r\n") };
        client.stream.write_all(format!("{head}{cookie}\r\n{body}").as_bytes()).await.unwrap();
        let mut response = String::new();
        let read = client.stream.read_to_string(&mut response);
        timeout(PATIENCE, read).await.expect("the connection is closed").unwrap();
        assert!(response.starts_with(&format!("HTTP/1.0 {status} ")), "{method}: {response}");
    }
    // Another address does not find the tunnel.
    let mut foreign = TestRtspClient::from("127.0.0.2:0", server.address).await;
    begin_http(&mut foreign, "POST", "a1").await;
    assert!(http_response(&mut foreign).await.starts_with("HTTP/1.0 404 "));
    // Behind RTSP, HTTP is nonsense.
    let mut client = server.connect().await;
    assert_eq!(client.status("OPTIONS *", "").await, 200);
    begin_http(&mut client, "GET", "c3").await;
    assert_eq!(u16::from(response(&mut client).await.status()), 400);
    assert!(client.receive().await.is_none(), "the connection is closed");
}
