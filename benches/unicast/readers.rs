//! The readers: many RTSP sessions in one process, each of which reads and counts pictures.

use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::Instant;

/// Printed once every reader has its first picture.
pub(crate) const BEGIN: &str = "begin";

/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The counts of all readers, from [`BEGIN`] on.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct ReadCounts {
    /// Pictures of all readers.
    pub(crate) pictures: u64,
    /// Pictures of the reader with the fewest.
    pub(crate) fewest: u64,
    /// Pictures of the reader with the most.
    pub(crate) most: u64,
    /// Missing pictures of all readers, by sequence numbers.
    pub(crate) lost: u64,
    /// Bytes of RTP packets of all readers.
    pub(crate) bytes: u64,
}

/// Reads for `seconds` by `transport`, "tcp" or "udp", once all readers have begun, and prints the counts.
pub(crate) fn read(address: &str, viewers: &str, seconds: &str, transport: &str) -> anyhow::Result<()> {
    let (viewers, seconds): (usize, f64) = (viewers.parse()?, seconds.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (begin, begun) = tokio::sync::watch::channel(None);
        let (first, mut firsts) = tokio::sync::mpsc::channel(viewers);
        let mut readers = Vec::new();
        for _ in 0..viewers {
            let stream = TcpStream::connect(address).await?;
            let reader = match transport {
                "udp" => RtspReader::play_by_udp(stream, address).await,
                _ => RtspReader::play(stream, address).await,
            };
            let reader = reader.context("a reader cannot begin")?;
            let count = ReadCounter {
                read: ReadCounts::default(),
                last: None,
                first: Some(first.clone()),
                begun: begun.clone(),
            };
            readers.push(tokio::spawn(reader.count(count)));
        }
        let all = async {
            for _ in 0..viewers {
                firsts.recv().await.context("a reader ended")?;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, all).await.context("not all readers have a picture")??;
        let now = Instant::now();
        println!("{BEGIN}");
        begin.send_replace(Some((now, now + Duration::from_secs_f64(seconds))));
        let mut sum = ReadCounts { fewest: u64::MAX, ..ReadCounts::default() };
        for reader in readers {
            let one = reader.await??;
            sum.pictures += one.pictures;
            sum.fewest = sum.fewest.min(one.pictures);
            sum.most = sum.most.max(one.pictures);
            sum.lost += one.lost;
            sum.bytes += one.bytes;
        }
        println!("{}", serde_json::to_string(&sum)?);
        Ok(())
    })
}

/// An RTSP session that plays a station.
pub(crate) struct RtspReader {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are filled.
    filled: usize,
    /// The sockets for RTP and RTCP, if packets do not come by `stream`. RTCP is not read.
    sockets: Option<(UdpSocket, UdpSocket)>,
}

/// Counts what one reader reads between the two moments that `begun` will tell.
struct ReadCounter {
    read: ReadCounts,
    last: Option<u16>,
    first: Option<tokio::sync::mpsc::Sender<()>>,
    begun: tokio::sync::watch::Receiver<Span>,
}

type Span = Option<(Instant, Instant)>;

impl RtspReader {
    /// Plays the station interleaved in `stream`, from the server at `address`.
    pub(crate) async fn play(stream: TcpStream, address: &str) -> anyhow::Result<RtspReader> {
        let mut reader = RtspReader { stream, buffer: vec![0; 1 << 17], filled: 0, sockets: None };
        reader.begin(address, "RTP/AVP/TCP;unicast;interleaved=0-1").await?;
        Ok(reader)
    }

    /// Plays the station by UDP, to two ports of its own.
    async fn play_by_udp(stream: TcpStream, address: &str) -> anyhow::Result<RtspReader> {
        let (rtp, rtcp) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
        let ports = format!("{}-{}", rtp.local_addr()?.port(), rtcp.local_addr()?.port());
        let sockets = Some((rtp, rtcp));
        let mut reader = RtspReader { stream, buffer: vec![0; 1 << 17], filled: 0, sockets };
        reader.begin(address, &format!("RTP/AVP;unicast;client_port={ports}")).await?;
        Ok(reader)
    }

    async fn begin(&mut self, address: &str, transport: &str) -> anyhow::Result<()> {
        let url = format!("rtsp://{address}/1");
        let set_up = self
            .ask(&format!("SETUP {url}/video RTSP/1.0\r\nCSeq: 1\r\nTransport: {transport}\r\n\r\n"))
            .await?;
        let session = set_up.lines().find_map(|line| line.strip_prefix("Session: ")).context("no session")?;
        let session = session.split(';').next().unwrap_or(session).to_owned();
        self.ask(&format!("PLAY {url} RTSP/1.0\r\nCSeq: 2\r\nSession: {session}\r\n\r\n")).await?;
        Ok(())
    }

    async fn ask(&mut self, request: &str) -> anyhow::Result<String> {
        self.stream.write_all(request.as_bytes()).await?;
        loop {
            let head = self.buffer[..self.filled].windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = head {
                let answer = String::from_utf8_lossy(&self.buffer[..end + 4]).into_owned();
                anyhow::ensure!(answer.starts_with("RTSP/1.0 200"), "{request:?} was answered {answer:?}");
                self.drop_front(end + 4);
                return Ok(answer);
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        match self.stream.read(&mut self.buffer[self.filled..]).await? {
            0 => bail!("the server closed a connection"),
            read => self.filled += read,
        }
        Ok(())
    }

    fn drop_front(&mut self, bytes: usize) {
        self.buffer.copy_within(bytes..self.filled, 0);
        self.filled -= bytes;
    }

    /// Counts pictures until the end. On loopback each is one packet; by TCP they are on channel 0.
    async fn count(mut self, mut count: ReadCounter) -> anyhow::Result<ReadCounts> {
        if let Some((rtp, _)) = &self.sockets {
            loop {
                let length = rtp.recv(&mut self.buffer).await?;
                if count.is_over() {
                    return Ok(count.read);
                }
                count.packet(&self.buffer[..length]).await?;
            }
        }
        loop {
            self.fill().await?;
            if count.is_over() {
                return Ok(count.read);
            }
            let mut at = 0;
            while let Some([b'$', channel, high, low]) = self.buffer[at..self.filled].first_chunk::<4>() {
                let length = 4 + usize::from(u16::from_be_bytes([*high, *low]));
                if at + length > self.filled {
                    break;
                }
                if *channel == 0 {
                    count.packet(&self.buffer[at + 4..at + length]).await?;
                }
                at += length;
            }
            self.drop_front(at);
        }
    }
}

impl ReadCounter {
    fn is_over(&self) -> bool {
        self.begun.borrow().is_some_and(|(_, end)| Instant::now() >= end)
    }

    async fn packet(&mut self, packet: &[u8]) -> anyhow::Result<()> {
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        let gap = self.last.map_or(0, |last| sequence.wrapping_sub(last).wrapping_sub(1));
        self.last = Some(sequence);
        if let Some(first) = self.first.take() {
            first.send(()).await?;
        }
        if self.begun.borrow().is_some() {
            self.read.pictures += 1;
            self.read.bytes += packet.len() as u64;
            self.read.lost += u64::from(gap);
        }
        Ok(())
    }
}
