//! Requests as clients of others write them, on a connection.

use super::*;

/// Sends `request` as it is. Returns the response.
async fn exchange(client: &mut TestRtspClient, request: &[u8]) -> Response<Vec<u8>> {
    client.stream.write_all(request).await.unwrap();
    loop {
        match client.receive().await.expect("the connection is open") {
            ReceivedMessage::Response(response) => return response,
            ReceivedMessage::Picture(..) | ReceivedMessage::Rtcp(_) => {}
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
