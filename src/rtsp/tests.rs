//! The server and its clients, on loopback TCP and UDP. The station shows the pictures that a test puts on air.

#![expect(clippy::disallowed_methods, reason = "a test reads the clock of its scene")]

mod bounds;
mod clients;
mod live_playback;
mod publish;
mod sound;
mod udp;
mod vod_films;
mod vod_playback;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use rtcp_types::{Compound, Packet, ReceiverReport, ReportBlock, prelude::*};
use rtsp_types::{Message, ParseError, Response, headers};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::*;
use crate::content::reel::{Encoding, Reel, Store};
use crate::directory::{State, StationInfo};
use crate::headend::Publishers;
use crate::lineup::{PublishSpec, Spread, StationSpec};
use crate::media::Due;
use crate::media::Unit;
use crate::media::jpeg::{Chroma, Jpeg, Tables};
use crate::media::{AirTime, FrameRate, Size, StationId};
use crate::wire::payload::jpeg::PACKET_OVERHEAD;
use crate::wire::rtp;

const ID: StationId = StationId(2);
const SIZE: Size = Size { width: 32, height: 16 };
const ENCODING: Encoding = Encoding { size: SIZE, quality: 80 };
/// High, so that a programme is over soon.
pub(super) const RATE: FrameRate = FrameRate::new(100, 1).unwrap();
/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(20);
const TCP: &str = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1";

/// A picture whose scan begins with its number.
pub(super) fn picture(n: usize, bytes: usize) -> Jpeg {
    let mut scan = vec![0; bytes];
    scan[..8].copy_from_slice(&(n as u64).to_le_bytes());
    Jpeg {
        size: SIZE,
        chroma: Chroma::Yuv420,
        tables: Tables::Standard(80),
        restart_interval: None,
        scan: scan.into(),
    }
}

/// Records a reel of `count` pictures, for the film at `film`, in a store in `dir`.
pub(super) fn record(dir: &Path, film: &Path, first: usize, count: usize) -> Arc<Reel> {
    std::fs::write(film, film.as_os_str().as_encoded_bytes()).unwrap();
    let now = AirTime(4_000_000_000_000_000_000);
    let store = Store::open(dir, u64::MAX, now).unwrap();
    let key = store.key(film, ENCODING, now).unwrap();
    let mut recorder = store.record(&key, film).unwrap().unwrap();
    for n in 0..count {
        recorder.add(RATE.nth(n as u64), &picture(first + n, 100)).unwrap();
    }
    recorder.finish(RATE, RATE.nth(count as u64), now).unwrap()
}

struct TestRtspServer {
    head_end: Arc<HeadEnd>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
    address: SocketAddr,
    folder: TempDir,
}

impl TestRtspServer {
    /// A station with a programme of two films of 20 and 30 pictures.
    async fn new() -> TestRtspServer {
        TestRtspServer::with(|_| {}).await
    }

    /// The same with a changed station.
    async fn with(change: impl FnOnce(&mut StationSpec)) -> TestRtspServer {
        TestRtspServer::start(change, None).await
    }

    /// The same with stations that are made by publishing.
    async fn publishing(publish: Option<PublishSpec>) -> TestRtspServer {
        TestRtspServer::start(|_| {}, publish).await
    }

    async fn start(change: impl FnOnce(&mut StationSpec), publish: Option<PublishSpec>) -> TestRtspServer {
        let folder = TempDir::new().unwrap();
        let reels = folder.path().join("reels");
        let media = vec![folder.path().join("a.mp4"), folder.path().join("b.mp4")];
        record(&reels, &media[0], 0, 20);
        record(&reels, &media[1], 20, 30);
        let store = Store::open(&reels, u64::MAX, crate::clock::wall_clock()).unwrap();
        let spread = Spread::NONE;
        let mut spec = StationSpec {
            id: ID,
            media: media.into(),
            width: SIZE.width,
            spread,
            ..StationSpec::sample("239.77.0.2:5004")
        };
        change(&mut spec);
        let entry = StationInfo {
            size: Some(SIZE),
            rate: Some(RATE),
            state: State::Film,
            ..StationInfo::starting(ID, &spec.name, spec.group, &spec.interface.name, 80)
        };
        let (mut head_end, stop) = HeadEnd::for_tests(vec![spec], Some((store, &reels)));
        Arc::get_mut(&mut head_end).unwrap().publishers = Publishers::new(publish);
        head_end.table.enter(entry, || None).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(serve(listener, head_end.clone(), 2048));
        TestRtspServer { head_end, stop, task, address, folder }
    }

    /// Puts picture `n` on air, due in `ahead`.
    fn show(&self, n: usize, bytes: usize, ahead: Duration) -> AirTime {
        let at = self.head_end.clock.now() + ahead;
        self.show_at(n, bytes, Due { at, interval: Duration::from_millis(40) });
        at
    }

    /// Puts picture `n` on air, due at any time, which may be over.
    fn show_at(&self, n: usize, bytes: usize, due: Due) {
        self.head_end.show(ID, Unit::picture(due, picture(n, bytes)));
    }

    /// Pictures that the only client was sent, and those that were left out.
    fn counts(&self) -> (u64, u64) {
        let client = self.head_end.clients.all().remove(0);
        (client.pictures.load(Relaxed), client.dropped.load(Relaxed))
    }

    async fn connect(&self) -> TestRtspClient {
        TestRtspClient::from("127.0.0.1:0", self.address).await
    }

    async fn wait_until(&self, condition: impl Fn(&HeadEnd) -> bool) {
        let wait = async {
            while !condition(&self.head_end) {
                sleep_until(Instant::now() + Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, wait).await.expect("the condition comes true");
    }
}

struct TestRtspClient {
    stream: TcpStream,
    bytes: Vec<u8>,
    cseq: u32,
    session: Option<String>,
    /// Number of interleaved packets that came before the last response.
    early: usize,
}

#[derive(Debug)]
enum ReceivedMessage {
    /// Sequence number, timestamp, picture.
    Picture(u16, u32, usize),
    /// Sequence number, timestamp, packet.
    Sound(u16, u32, Vec<u8>),
    Rtcp(Vec<u8>),
    Response(Response<Vec<u8>>),
}

impl TestRtspClient {
    async fn from(own: &str, server: SocketAddr) -> TestRtspClient {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(8192).unwrap();
        socket.bind(own.parse().unwrap()).unwrap();
        let stream = socket.connect(server).await.unwrap();
        TestRtspClient { stream, bytes: Vec::new(), cseq: 0, session: None, early: 0 }
    }

    /// The next message; `None` if the server has closed the connection.
    async fn receive(&mut self) -> Option<ReceivedMessage> {
        loop {
            match Message::<Vec<u8>>::parse(&self.bytes) {
                Ok((message, length)) => {
                    self.bytes.drain(..length);
                    return Some(match message {
                        Message::Response(response) => ReceivedMessage::Response(response),
                        Message::Data(data) if data.channel_id() == 0 => {
                            let (header, picture) = parse_packet(data.as_slice());
                            ReceivedMessage::Picture(header.sequence, header.timestamp, picture)
                        }
                        Message::Data(data) if data.channel_id() == 2 => {
                            let (header, packet) = rtp::Header::parse(data.as_slice()).unwrap();
                            let packet = packet.to_vec();
                            ReceivedMessage::Sound(header.sequence, header.timestamp, packet)
                        }
                        Message::Data(data) => ReceivedMessage::Rtcp(data.into_body()),
                        Message::Request(_) => panic!("the server sends a request"),
                    });
                }
                Err(ParseError::Incomplete(_)) => {}
                Err(error) => panic!("{error}: {}", self.bytes.escape_ascii()),
            }
            let read =
                timeout(PATIENCE, self.stream.read_buf(&mut self.bytes)).await.expect("a message comes");
            if matches!(read, Ok(0) | Err(_)) {
                return None;
            }
        }
    }

    async fn picture(&mut self) -> (u16, u32, usize) {
        loop {
            match self.receive().await.expect("the connection is open") {
                ReceivedMessage::Picture(sequence, timestamp, n) => return (sequence, timestamp, n),
                ReceivedMessage::Rtcp(_) | ReceivedMessage::Sound(..) => {}
                ReceivedMessage::Response(response) => panic!("{response:?}"),
            }
        }
    }

    async fn request(&mut self, line: &str, header: &str) -> Response<Vec<u8>> {
        self.cseq += 1;
        let session = self.session.iter().map(|id| format!("Session: {id}\r\n")).collect::<String>();
        let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
        let request = format!("{line} RTSP/1.0\r\nCSeq: {}\r\n{session}{header}\r\n", self.cseq);
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.early = 0;
        loop {
            match self.receive().await.expect("the connection is open") {
                ReceivedMessage::Response(response) => {
                    if let Ok(Some(session)) = response.typed_header::<headers::Session>() {
                        self.session = Some(session.0);
                    }
                    return response;
                }
                ReceivedMessage::Picture(..) | ReceivedMessage::Sound(..) | ReceivedMessage::Rtcp(_) => {
                    self.early += 1;
                }
            }
        }
    }

    async fn status(&mut self, line: &str, header: &str) -> u16 {
        self.request(line, header).await.status().into()
    }

    /// Plays. Returns sequence number and timestamp of the first picture, by the response's RTP-Info.
    async fn play(&mut self, line: &str, header: &str) -> (Option<u16>, Option<u32>) {
        let response = self.request(line, header).await;
        assert_eq!(u16::from(response.status()), 200);
        let Some(headers::RtpInfos::V1(infos)) = response.typed_header::<headers::RtpInfos>().unwrap() else {
            panic!("{response:?}")
        };
        (infos[0].seq, infos[0].rtptime)
    }
}

/// The header of an RTP packet, and the number of its picture.
fn parse_packet(packet: &[u8]) -> (rtp::Header, usize) {
    let (header, _) = rtp::Header::parse(packet).unwrap();
    let number = packet[PACKET_OVERHEAD..].first_chunk::<8>().unwrap();
    (header, u64::from_le_bytes(*number) as usize)
}

/// The RTCP packet types of a compound packet.
fn packet_types(packet: &[u8]) -> Vec<&'static str> {
    let packet_type = |packet| match packet {
        Ok(Packet::Sr(_)) => "SR",
        Ok(Packet::Sdes(_)) => "SDES",
        Ok(Packet::Bye(_)) => "BYE",
        other => panic!("{other:?}"),
    };
    Compound::parse(packet).unwrap().map(packet_type).collect()
}
