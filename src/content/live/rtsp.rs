//! A camera by RTSP (RFC 2326), its packets on the connection itself, so that none is lost or late by another way. retina speaks
//! RTSP; the packets are put together here, since it does not know Opus.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use retina::client::{
    Credentials, Described, InitialTimestampPolicy, PacketItem, PlayOptions, Session, SessionOptions,
    SetupOptions, UnknownRtcpSsrcPolicy,
};
use retina::rtcp::ReceivedCompoundPacket;
use retina::rtp::ReceivedPacket;
use sdp_types::Session as Description;
use url::Url;

use super::arrivals::ArrivalSender;
use super::connection::{MOST_ADDRESSES, SILENCE, Target, within};
use super::sender_clocks::{Clock, SenderClocks};
use super::track_reader::{TrackPacket, TrackReader, TrackUnit, nanoseconds};
use crate::wire::rtp;
use crate::wire::sdp::offers::{offered_codecs, offered_tracks};

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
                let units = stream.map(|(_, reader)| reader.take(&track_packet(&packet)));
                for unit in units.unwrap_or_default() {
                    match unit {
                        TrackUnit::Picture(body, elapsed) => {
                            sender.picture(body, Some(clocks.pictures(elapsed)));
                        }
                        TrackUnit::Sound(packet, elapsed) => {
                            let (stamp, in_step) = clocks.sound(elapsed);
                            sender.sound(packet, stamp, in_step);
                        }
                    }
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

fn track_packet(packet: &ReceivedPacket) -> TrackPacket<'_> {
    let header = rtp::Header {
        marker: packet.mark(),
        payload_type: packet.header().payload_type(),
        sequence: packet.sequence_number(),
        timestamp: packet.timestamp().timestamp() as u32, // modulo 2^32, as on the wire
        ssrc: packet.ssrc(),
    };
    let (lost, ticks) = (packet.loss() > 0, packet.timestamp().elapsed());
    TrackPacket { header, payload: packet.payload(), lost, ticks }
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
