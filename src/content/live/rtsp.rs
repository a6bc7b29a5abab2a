//! A camera by RTSP (RFC 2326), its packets on the connection itself, so that none is lost or late by another way. retina speaks
//! RTSP; the packets are put together here, since it does not know Opus.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use retina::client::{
    Credentials, Described, InitialTimestampPolicy, PacketItem, PlayOptions, Session, SessionOptions,
    SetupOptions, UnknownRtcpSsrcPolicy,
};
use retina::rtcp::ReceivedCompoundPacket;
use retina::rtp::ReceivedPacket;
use sdp_types::Session as Description;
use tracing::debug;
use url::Url;

use super::arrivals::{ArrivalSender, PictureBody};
use super::connection::{MOST_ADDRESSES, SILENCE, Target, within};
use super::sender_clocks::{Clock, SenderClocks};
use crate::media::AirTime;
use crate::wire::payload::aac::{AAC_FRAME, AacFrames};
use crate::wire::payload::h26x::AccessUnits;
use crate::wire::payload::jpeg::Depacketizer;
use crate::wire::rtp;
use crate::wire::sdp::offers::{Coding, OfferedTrack, offered_codecs, offered_tracks};

/// Timeout of each request, connecting included. Cameras take up to 2 s to describe themselves.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Most bytes of a description.
const MOST_DESCRIPTION: usize = 64 << 10;

/// Reads until the source is gone. Returns why it is.
pub(super) async fn read(target: &Target, sender: &mut ArrivalSender) -> String {
    match Box::pin(play(target, sender)).await {
        Ok(never) => match never {},
        Err(reason) => reason,
    }
}

async fn play(target: &Target, sender: &mut ArrivalSender) -> Result<std::convert::Infallible, String> {
    let host = target.source.authority();
    let mut session = describe(target).await?;
    if session.sdp().len() > MOST_DESCRIPTION {
        return Err(format!("the description of {host} has more than {} kB", MOST_DESCRIPTION >> 10));
    }
    let description =
        Description::parse(session.sdp()).map_err(|_| format!("{host} describes itself in no SDP"))?;
    let tracks = offered_tracks(&description);
    let picture = tracks.iter().find(|track| track.coding.is_picture()).cloned().ok_or_else(|| {
        let codecs = offered_codecs(&description);
        format!("{host} offers {codecs}, and no pictures in JPEG, H.264 or H.265")
    })?;
    let sound = tracks.into_iter().find(|track| target.wants_sound && !track.coding.is_picture());

    let mut streams = Vec::new();
    for track in [Some(picture.clone()), sound.clone()].into_iter().flatten() {
        let kind = if track.coding.is_picture() { ["video", "image"] } else { ["audio", "audio"] };
        let is_it = |stream: &retina::client::Stream| {
            kind.contains(&stream.media()) && stream.rtp_payload_type() == track.payload_type
        };
        let place = session.streams().iter().position(is_it);
        let place = place.ok_or_else(|| format!("the description of {host} cannot be read"))?;
        let setup = session.setup(place, SetupOptions::default());
        answer(target, "SETUP", setup).await?;
        streams.push((place, TrackReader::new(&track)));
    }
    let policy = PlayOptions::default()
        .initial_timestamp(InitialTimestampPolicy::Permissive)
        .unknown_rtcp_ssrc(UnknownRtcpSsrcPolicy::ProcessPackets);
    let mut session = answer(target, "PLAY", session.play(policy)).await?;
    let of_sound = sound.map(|track| (track.coding, track.clock_rate));
    sender.tracks(picture.coding, of_sound).await;

    let mut clocks = SenderClocks::new(sender.now());
    loop {
        let item = match within(SILENCE, session.next()).await {
            None => return Err(format!("{host} sends nothing for {} s", SILENCE.as_secs())),
            Some(None) => return Err(format!("{host} closed the connection")),
            Some(Some(Err(error))) => return Err(fault(target, "the stream", &error)),
            Some(Some(Ok(item))) => item,
        };
        match item {
            PacketItem::Rtp(packet) => {
                sender.count(packet.raw().len()).map_err(|fault| format!("{host} {fault}"))?;
                let stream = streams.iter_mut().find(|(place, _)| *place == packet.stream_id());
                if let Some((_, reader)) = stream {
                    reader.take(&packet, &clocks, sender);
                }
            }
            PacketItem::Rtcp(report) => {
                let clock = if Some(report.stream_id()) == streams.first().map(|(place, _)| *place) {
                    Clock::Pictures
                } else {
                    Clock::Sound
                };
                note_report(&report, clock, &mut clocks);
            }
            _ => {}
        }
    }
}

/// Connects to the first address that answers, and asks for the description.
async fn describe(target: &Target) -> Result<Session<Described>, String> {
    let source = &target.source;
    let host = source.authority();
    let mut reason = format!("nothing answers at {host}: its name has no address");
    for address in target.addresses.iter().take(MOST_ADDRESSES) {
        let mut options =
            SessionOptions::default().user_agent(concat!("stationcast/", env!("CARGO_PKG_VERSION")).into());
        if let Some(user) = source.user() {
            let password = target.password.clone().unwrap_or_default();
            options = options.creds(Some(Credentials { username: user.to_owned(), password }));
        }
        let url =
            url(*address, source.target()).map_err(|error| format!("{source} is no address: {error}"))?;
        match answer(target, "DESCRIBE", Session::describe(url, options)).await {
            Ok(session) => return Ok(session),
            Err(sentence) => reason = sentence,
        }
    }
    Err(reason)
}

/// With the address instead of the name: retina would look up the name, and may wait for that for ever.
fn url(address: SocketAddr, target: &str) -> Result<Url, url::ParseError> {
    Url::parse(&format!("rtsp://{address}{target}"))
}

/// The answer to a request.
async fn answer<T>(
    target: &Target,
    method: &str,
    request: impl Future<Output = Result<T, retina::Error>>,
) -> Result<T, String> {
    match within(ANSWER_TIMEOUT, request).await {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(error)) => Err(fault(target, method, &error)),
        None => {
            let (host, seconds) = (target.source.authority(), ANSWER_TIMEOUT.as_secs());
            Err(format!("{host} does not answer {method} within {seconds} s"))
        }
    }
}

/// Why a request, or the stream, has failed.
fn fault(target: &Target, method: &str, error: &retina::Error) -> String {
    let host = target.source.authority();
    match error.status_code() {
        Some(401 | 403) if target.source.user().is_none() => format!(
            "{host} asks for a password; write the user into the address, and set password_file or password_env"
        ),
        Some(401 | 403) => format!("{host} refuses the user or the password"),
        Some(404) => format!("{host} has no {}", target.source),
        Some(status @ 300..=399) => {
            format!("{host} sends on to another address ({status}); name that address in the line-up")
        }
        Some(status) if !(200..300).contains(&status) => {
            format!("{host} answers {status} to {method}")
        }
        _ => {
            // Below the first line, retina tells where to find the packet in a capture.
            let text = error.to_string();
            let line: String = text.lines().next().unwrap_or_default().chars().take(200).collect();
            match line.strip_prefix("Unable to connect to RTSP server: ") {
                Some(reason) => format!("nothing answers at {host}: {reason}"),
                None => format!("{method} of {host} failed: {line}"),
            }
        }
    }
}

/// Notes the time that a sender report tells.
fn note_report(report: &ReceivedCompoundPacket, clock: Clock, clocks: &mut SenderClocks) {
    let Some(timestamp) = report.rtp_timestamp() else { return };
    let first = report.pkts().next().and_then(|packet| packet.as_sender_report().ok().flatten());
    if let Some(first) = first {
        let elapsed = nanoseconds(timestamp.elapsed(), timestamp.clock_rate().get());
        clocks.note(clock, first.ntp_timestamp().0, elapsed);
    }
}

/// Ticks of a clock in nanoseconds.
fn nanoseconds(ticks: i64, clock_rate: u32) -> i64 {
    let nanos = i128::from(ticks) * 1_000_000_000 / i128::from(clock_rate.max(1));
    i64::try_from(nanos).unwrap_or(i64::MAX)
}

/// Puts the packets of a track together.
struct TrackReader {
    clock_rate: u32,
    /// Bytes of a sample in all channels, of sound whose packets are samples.
    sample: usize,
    depacketizer: TrackDepacketizer,
}

enum TrackDepacketizer {
    Jpeg(Box<Depacketizer>),
    Nal(AccessUnits),
    Aac(AacFrames),
    /// Each packet is what the decoder takes.
    Plain,
}

impl TrackReader {
    fn new(track: &OfferedTrack) -> TrackReader {
        let (depacketizer, sample) = match &track.coding {
            Coding::Jpeg => (TrackDepacketizer::Jpeg(Box::default()), 0),
            Coding::Nal(codec, _) => (TrackDepacketizer::Nal(AccessUnits::new(*codec)), 0),
            Coding::Aac(format, _) => (TrackDepacketizer::Aac(AacFrames::new(*format)), 0),
            Coding::Pcmu(channels) | Coding::Pcma(channels) => {
                (TrackDepacketizer::Plain, usize::from(*channels))
            }
            Coding::L16(channels) => (TrackDepacketizer::Plain, 2 * usize::from(*channels)),
            Coding::Opus => (TrackDepacketizer::Plain, 0),
        };
        TrackReader { clock_rate: track.clock_rate, sample, depacketizer }
    }

    /// Takes a packet, and passes on what it completes. A packet that is wrong is dropped.
    fn take(&mut self, packet: &ReceivedPacket, clocks: &SenderClocks, sender: &ArrivalSender) {
        let (timestamp, lost, payload) = (packet.timestamp(), packet.loss() > 0, packet.payload());
        let raw = timestamp.timestamp() as u32;
        // The elapsed time of a timestamp near this packet's.
        let elapsed = |of: u32| {
            let ticks = timestamp.elapsed().saturating_add(i64::from(of.wrapping_sub(raw).cast_signed()));
            nanoseconds(ticks, self.clock_rate)
        };
        match &mut self.depacketizer {
            TrackDepacketizer::Jpeg(depacketizer) => {
                if lost {
                    depacketizer.gap();
                }
                let header = rtp::Header {
                    marker: packet.mark(),
                    payload_type: packet.header().payload_type(),
                    sequence: packet.sequence_number(),
                    timestamp: raw,
                    ssrc: packet.ssrc(),
                };
                match depacketizer.push(&header, payload) {
                    Ok(Some(jpeg)) => {
                        sender.picture(PictureBody::Jpeg(jpeg), Some(clocks.pictures(elapsed(raw))))
                    }
                    Ok(None) => {}
                    Err(error) => debug!("{error}"),
                }
            }
            TrackDepacketizer::Nal(units) => match units.push(payload, raw, packet.mark(), lost) {
                Ok(units) => units.into_iter().for_each(|unit| {
                    let stamp = clocks.pictures(elapsed(unit.timestamp));
                    sender.picture(PictureBody::Unit(unit.bytes), Some(stamp));
                }),
                Err(error) => debug!("{error}"),
            },
            TrackDepacketizer::Aac(frames) => match frames.push(payload, raw) {
                Ok(frames) => (0u32..).zip(frames).for_each(|(n, frame)| {
                    // The clock of AAC counts samples.
                    let at = raw.wrapping_add(n.wrapping_mul(AAC_FRAME));
                    pass_sound(sender, clocks, frame, elapsed(at));
                }),
                Err(error) => debug!("{error}"),
            },
            TrackDepacketizer::Plain => {
                let whole = payload.len() - payload.len().checked_rem(self.sample).unwrap_or(0);
                pass_sound(sender, clocks, Bytes::copy_from_slice(&payload[..whole]), elapsed(raw));
            }
        }
    }
}

fn pass_sound(sender: &ArrivalSender, clocks: &SenderClocks, packet: Bytes, elapsed: i64) {
    let (stamp, in_step): (AirTime, bool) = clocks.sound(elapsed);
    if !packet.is_empty() {
        sender.sound(packet, stamp, in_step);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::clock::AirClock;
    use crate::content::live::arrivals::arrivals;
    use crate::lineup::NetworkSource;

    #[test]
    fn ticks_are_nanoseconds() {
        assert_eq!(nanoseconds(90_000, 90_000), 1_000_000_000);
        assert_eq!(nanoseconds(-1, 8000), -125_000);
        assert_eq!(nanoseconds(i64::MAX, 1), i64::MAX);
    }

    /// Why a source at `user@` of a server is not played. The server gives these answers on one connection, to one request each,
    /// with the number of the request; then it says nothing more.
    async fn refused(user: &str, answers: &[&'static str]) -> String {
        let answers = answers.to_vec();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut asked, mut answers) = (String::new(), answers.into_iter());
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                asked += &String::from_utf8_lossy(&bytes[..count]);
                let Some((request, rest)) = asked.split_once("\r\n\r\n") else { continue };
                let number = request.lines().find_map(|line| line.strip_prefix("CSeq: ")).unwrap_or("0");
                let Some(answer) = answers.next() else { continue };
                stream.write_all(answer.replace("NUMBER", number).as_bytes()).await.unwrap();
                asked = rest.to_owned();
            }
        });
        let source = NetworkSource::parse(&format!("rtsp://{user}{address}/a?key=1")).unwrap();
        let password = (!user.is_empty()).then(|| "sesame".to_owned());
        let target = Target { source, addresses: vec![address], password, wants_sound: true };
        let reason = read(&target, &mut arrivals(AirClock::start()).0).await;
        server.abort();
        assert!(!reason.contains("sesame") && !reason.contains("key=1"), "{reason}");
        reason.replace(&address.to_string(), "HOST")
    }

    #[tokio::test]
    async fn each_refusal_of_a_server_has_its_sentence() {
        let asks = "RTSP/1.0 401 Unauthorized\r\nCSeq: NUMBER\r\nWWW-Authenticate: Digest realm=\"a\", nonce=\"b\"\r\n\r\n";
        let vp8 = "RTSP/1.0 200 OK\r\nCSeq: NUMBER\r\nContent-Type: application/sdp\r\nContent-Length: 109\r\n\r\n\
                   v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\na=control:trackID=1\r\n";
        let cases: [(&str, &[&'static str], &str); 7] = [
            ("", &["RTSP/1.0 404 Not Found\r\nCSeq: NUMBER\r\n\r\n"], "HOST has no rtsp://HOST/a"),
            (
                "",
                &["RTSP/1.0 302 Found\r\nCSeq: NUMBER\r\nLocation: rtsp://127.0.0.1/b\r\n\r\n"],
                "HOST sends on to another address (302); name that address in the line-up",
            ),
            ("", &["RTSP/1.0 500 Oh\r\nCSeq: NUMBER\r\n\r\n"], "HOST answers 500 to DESCRIBE"),
            (
                "",
                &[asks],
                "HOST asks for a password; write the user into the address, and set password_file or password_env",
            ),
            ("anna@", &[asks, asks], "HOST refuses the user or the password"),
            ("", &[vp8], "HOST offers VP8 video, and no pictures in JPEG, H.264 or H.265"),
            ("", &["HTTP/1.0 200 OK\r\n\r\n"], "DESCRIBE of HOST failed: "),
        ];
        for (user, answers, sentence) in cases {
            let found = refused(user, answers).await;
            assert!(found.starts_with(sentence), "{found}, not {sentence}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_nothing_is_not_waited_for() {
        assert_eq!(refused("", &[]).await, "HOST does not answer DESCRIBE within 5 s");
    }
}
