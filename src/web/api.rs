//! The state and the counters of stations as JSON. `/api/openapi.json` describes it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::{Refusal, Web};
use crate::access::Grant;
use crate::air::lateness::Lateness;
use crate::content::guide::GuideEntry;
use crate::directory;
use crate::headend::{HeadEnd, Interlude, StationHandle};
use crate::media::{AirTime, FrameRate, StationId};
use crate::wire::sdp::sound_port;

/// A station that has sent nothing for this long is not on air. The slowest, on a slate, sends 5 pictures a second.
const SILENCE: Duration = Duration::from_secs(2);

/// A station in `/api/stations` and in messages to the wall. Counters count from the broadcaster's start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StationStatus {
    /// Its number.
    pub id: StationId,
    /// Its name.
    pub name: String,
    /// Its multicast group and port.
    pub group: SocketAddr,
    /// The interface it is sent on.
    pub interface: String,
    /// Pixels in a row, once known.
    pub width: Option<u16>,
    /// Rows, once known.
    pub height: Option<u16>,
    /// Pictures a second as a fraction, once known.
    pub rate: Option<FrameRate>,
    /// [`rate`](Self::rate) as a decimal number.
    pub fps: Option<f64>,
    /// The JPEG quality aimed at.
    pub quality: u8,
    /// What it is sending.
    pub state: Sending,
    /// Why it is showing a slate; `None` if it is not.
    pub reason: Option<String>,
    /// An operator's content, shown instead of its programme; `None` if it shows that. The film's title, or the text of the slate, is
    /// that of [`now`](Self::now).
    #[serde(default)]
    pub interlude: Option<InterludeKind>,
    /// Viewers tuned to it: by the directory, by RTSP, as the full picture of a wall, by an MJPEG stream, or from its group if they
    /// report by RTCP.
    pub audience: u32,
    /// The players among them that report by RTCP.
    #[serde(default)]
    pub reporting: u32,
    /// Share of the packets of pictures that those lost lately, the mean, 0 to 1; `None` if none has told.
    #[serde(default)]
    pub reported_loss: Option<f64>,
    /// Pictures sent completely.
    pub aired: u64,
    /// Packets of those pictures.
    pub packets: u64,
    /// UDP payload of those packets, in bytes.
    pub bytes: u64,
    /// Pictures skipped because they were late.
    pub skipped: u64,
    /// Pictures encoded at a lower quality so that they fit.
    pub squeezed: u64,
    /// Pictures of which the system refused to send at least one packet.
    pub send_errors: u64,
    /// Rounds of the programme that have begun.
    pub rounds: u64,
    /// Other senders whose pictures come to its group, a few at most: their addresses and ports.
    #[serde(default)]
    pub other_senders: Vec<SocketAddr>,
    /// Lateness of the first packet of each picture, in microseconds.
    pub lateness_us: Quantiles,
    /// Its sound; `None` if it has none.
    #[serde(default)]
    pub sound: Option<SoundStatus>,
    /// The film that is on; `None` before the first, and while there is a slate.
    #[serde(default)]
    pub now: Option<FilmStatus>,
    /// The film that follows; `None` if that is not known.
    #[serde(default)]
    pub next: Option<NextFilm>,
    /// Whether its films can be played on demand; `None` if RTSP is not served.
    #[serde(default)]
    pub demand: Option<DemandStatus>,
}

/// What an operator has a station show instead of its programme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InterludeKind {
    /// A slate with a text, until it is resumed.
    Hold,
    /// A film, once.
    Film,
}

/// Whether the films of a station can be played on demand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DemandStatus {
    /// Whether they can.
    pub state: Demand,
    /// Why the last client that asked was refused; `None` if it was not.
    pub reason: Option<String>,
}

/// Whether the films of a station can be played on demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Demand {
    /// A film is on air.
    Ready,
    /// The last client that asked was refused.
    Refused,
    /// No film is on air, and no client has asked.
    Unknown,
}

impl DemandStatus {
    fn of(station: &StationHandle, state: Sending) -> DemandStatus {
        let reason = station.demand_refused();
        let state = match (&reason, state) {
            (Some(_), _) => Demand::Refused,
            (None, Sending::Film) => Demand::Ready,
            (None, Sending::Slate | Sending::Starting) => Demand::Unknown,
        };
        DemandStatus { state, reason }
    }
}

/// The film that is on a station.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FilmStatus {
    /// Its title: that of its metadata, or the name of its file, tidied.
    pub title: String,
    /// Seconds since it began.
    pub position_s: f64,
    /// How many seconds it plays; `None` if that is not known.
    pub length_s: Option<f64>,
}

/// The film that follows on a station.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NextFilm {
    /// Its title.
    pub title: String,
    /// Seconds until it begins.
    pub in_s: f64,
}

impl FilmStatus {
    fn of(entry: &GuideEntry, now: AirTime) -> FilmStatus {
        FilmStatus {
            title: entry.title.to_string(),
            position_s: seconds(now.since(entry.begin)),
            length_s: entry.end.map(|end| seconds(end.since(entry.begin))),
        }
    }
}

/// Seconds, to the millisecond.
fn seconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e3).round() / 1e3
}

/// The sound of a station. Counters count from the broadcaster's start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SoundStatus {
    /// Its codec: `opus` or `l16`.
    pub codec: String,
    /// Its port on the station's group.
    pub port: u16,
    /// Packets made, silence included.
    pub packets: u64,
    /// Packets of silence among them, while no film is heard.
    pub silent: u64,
    /// Packets among them that were not sent: they were late, or the system refused them.
    pub missed: u64,
    /// Loudness of the film that is heard, in LUFS as it is sent; `None` while silence is sent.
    pub loudness: Option<f64>,
}

impl SoundStatus {
    fn of(station: &StationHandle) -> Option<SoundStatus> {
        let StationHandle { sound_air, task, .. } = station;
        let not_sent = sound_air.skipped.load(Relaxed) + sound_air.send_errors.load(Relaxed);
        // A tenth is what meters show.
        let loudness = station.loudness().map(|loudness| (f64::from(loudness) * 10.0).round() / 10.0);
        station.sound_codec().map(|codec| SoundStatus {
            codec: codec.key().to_owned(),
            port: sound_port(station.spec().group.port()),
            packets: task.sound_packets.load(Relaxed),
            silent: task.silent_packets.load(Relaxed),
            missed: task.sound_missed.load(Relaxed) + not_sent,
            loudness,
        })
    }
}

/// What a station is sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sending {
    /// The films of its programme.
    Film,
    /// A still that says what is wrong.
    Slate,
    /// Nothing yet.
    Starting,
}

/// Quantiles, each as the upper bound of its histogram bucket. `None` without samples, and above the last bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Half of the samples do not exceed it.
    pub p50: Option<u64>,
    /// 99 % of the samples do not exceed it.
    pub p99: Option<u64>,
}

impl Quantiles {
    fn of(lateness: &Lateness) -> Quantiles {
        let micros = |share| lateness.quantile(share).map(|bound| bound.as_micros() as u64);
        Quantiles { p50: micros(0.5), p99: micros(0.99) }
    }
}

impl StationStatus {
    /// Whether it shows a slate because an operator wants it.
    pub fn is_on_hold(&self) -> bool {
        self.state == Sending::Slate && self.interlude == Some(InterludeKind::Hold)
    }

    #[expect(clippy::disallowed_methods, reason = "a shell: status is of this moment")]
    fn of(head_end: &HeadEnd, station: &StationHandle) -> StationStatus {
        let now = head_end.clock.now();
        let (film, next) = station.now_and_next(now);
        let StationHandle { air, task, .. } = station;
        let spec = station.spec();
        let entry = head_end.entry(spec.id);
        let size = entry.as_ref().and_then(|entry| entry.size);
        let rate = entry.as_ref().and_then(|entry| entry.rate);
        let audience = entry.as_ref().map_or(0, |entry| entry.audience);
        let reporting = station.reporting();
        let (state, reason) = match entry.map(|entry| entry.state) {
            Some(directory::State::Film) => (Sending::Film, None),
            Some(directory::State::Slate { reason }) => (Sending::Slate, Some(reason)),
            Some(directory::State::Starting) | None => (Sending::Starting, None),
        };
        StationStatus {
            id: spec.id,
            name: spec.name.clone(),
            group: spec.group,
            interface: spec.interface.name.clone(),
            width: size.map(|size| size.width),
            height: size.map(|size| size.height),
            rate,
            fps: rate.map(FrameRate::as_f64),
            quality: spec.quality,
            state,
            reason,
            interlude: station.interlude().map(|interlude| match interlude {
                Interlude::Hold(_) => InterludeKind::Hold,
                Interlude::Film(_) => InterludeKind::Film,
            }),
            audience,
            reporting: reporting.receivers,
            // Their reports have 256ths.
            reported_loss: reporting.loss.map(|loss| (loss * 10_000.0).round() / 10_000.0),
            aired: air.aired.load(Relaxed),
            packets: air.packets.load(Relaxed),
            bytes: air.bytes.load(Relaxed),
            skipped: air.skipped.load(Relaxed) + task.skipped.load(Relaxed),
            squeezed: task.squeezed.load(Relaxed),
            send_errors: air.send_errors.load(Relaxed),
            rounds: task.rounds.load(Relaxed),
            other_senders: station.other_senders(),
            lateness_us: Quantiles::of(&air.lateness),
            sound: SoundStatus::of(station),
            demand: head_end.table.services().rtsp.map(|_| DemandStatus::of(station, state)),
            now: film.map(|film| FilmStatus::of(&film, now)),
            next: next
                .map(|next| NextFilm { title: next.title.to_string(), in_s: seconds(next.begin.since(now)) }),
        }
    }
}

/// The stations that a client may see, as they are now, ascending by number.
pub(super) fn stations(head_end: &HeadEnd, grant: &Grant) -> Vec<StationStatus> {
    head_end.stations_for(grant).iter().map(|station| StationStatus::of(head_end, station)).collect()
}

/// `GET /api/stations`.
pub(super) async fn all(State(web): State<Arc<Web>>, Extension(grant): Extension<Grant>) -> Response {
    fresh(Json(stations(&web.head_end, &grant)))
}

/// `GET /api/stations/{id}`.
pub(super) async fn one(
    State(web): State<Arc<Web>>,
    Extension(grant): Extension<Grant>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let id = id.parse().map(StationId);
    let id = id.map_err(|_| Refusal(StatusCode::NOT_FOUND, "a station's number is 1 to 999".into()))?;
    let station = web.station(id, &grant)?;
    Ok(fresh(Json(StationStatus::of(&web.head_end, &station))))
}

/// `GET /healthz`.
#[expect(clippy::disallowed_methods, reason = "a shell: status is of this moment")]
pub(super) async fn health(State(web): State<Arc<Web>>, Extension(grant): Extension<Grant>) -> Response {
    let now = web.head_end.clock.now();
    let silent = |station: &&Arc<StationHandle>| now.since(AirTime(station.air.last.load(Relaxed))) > SILENCE;
    // Of a station that the client may not see, it is told neither the number nor the name.
    let name = |station: &Arc<StationHandle>| match station.spec() {
        spec if spec.is_open_to(&grant) => format!("{} \"{}\"", spec.id, spec.name),
        _ => "one that this client may not see".to_owned(),
    };
    let silent: Vec<String> = web.head_end.stations().values().filter(silent).map(name).collect();
    if silent.is_empty() {
        return fresh("ok\n");
    }
    let seconds = SILENCE.as_secs();
    let sentence = format!("no picture on air within the last {seconds} s: {}\n", silent.join(", "));
    fresh((StatusCode::SERVICE_UNAVAILABLE, sentence))
}

/// A response that no cache may keep.
fn fresh(response: impl IntoResponse) -> Response {
    ([(CACHE_CONTROL, "no-store")], response).into_response()
}
