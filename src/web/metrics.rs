//! `/metrics`: counters for Prometheus, read at the moment of the scrape. Prometheus's text format, or OpenMetrics 1.0 text
//! for a client that asks for it.
//!
//! The number of series is bounded: a fixed number for each of at most 999 stations, and two for each of the first
//! [`MOST_CLIENTS`] clients, or five if it is an RTSP client.

mod exposition;
mod process;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::extract::{Extension, State};
use axum::http::header::{CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use self::exposition::{Format, to_text_format};
use super::api::{Sending, SoundStatus, StationStatus};
use super::{Refusal, Web, api};
use crate::access::Grant;
use crate::air::lateness::{BOUNDS, Lateness};
use crate::headend::{Client, ClientKind, HeadEnd};
use crate::media::RTP_CLOCK;

/// Clients with series of their own: the ones that came first. `stationcast_clients` counts all of them.
const MOST_CLIENTS: usize = 1000;

/// `GET /metrics`.
pub(super) async fn scrape(
    State(web): State<Arc<Web>>,
    Extension(grant): Extension<Grant>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(StationMetrics(web.head_end.clone(), grant)));
    registry.register_collector(Box::new(process::Process { since: web.head_end.since }));
    let mut answer = String::new();
    text::encode(&mut answer, &registry)
        .map_err(|_| Refusal(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written".into()))?;
    let format = Format::wanted(&headers);
    if format == Format::Text {
        answer = to_text_format(&answer);
    }
    Ok(([(CONTENT_TYPE, format.media_type()), (VARY, "accept")], answer).into_response())
}

/// The metrics of the stations that a client may see, and of their unicast clients.
struct StationMetrics(Arc<HeadEnd>, Grant);

impl fmt::Debug for StationMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StationMetrics")
    }
}

impl Collector for StationMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.stations(&mut encoder)?;
        self.lateness(&mut encoder)?;
        self.clients(&mut encoder)
    }
}

/// A counter of each station: its name without `stationcast_` and `_total`, its unit, its help, and its value.
type StationCounter = (&'static str, Option<Unit>, &'static str, fn(&StationStatus) -> u64);

const COUNTERS: [StationCounter; 6] = [
    ("pictures_aired", None, "Pictures sent completely", |station| station.aired),
    ("packets_sent", None, "RTP packets of the pictures sent completely", |station| station.packets),
    ("sent", Some(Unit::Bytes), "UDP payload of the pictures sent completely", |station| station.bytes),
    ("pictures_squeezed", None, "Pictures encoded at a lower quality to fit", |station| station.squeezed),
    ("send_errors", None, "Pictures of which the system refused to send at least one packet", |station| {
        station.send_errors
    }),
    ("rounds", None, "Rounds of the programme that have begun", |station| station.rounds),
];

/// A counter of the sound of each station that has sound: as [`StationCounter`].
type SoundCounter = (&'static str, &'static str, fn(&SoundStatus) -> u64);

const SOUND_COUNTERS: [SoundCounter; 3] = [
    ("packets", "Packets of sound made, silence included", |sound| sound.packets),
    ("silent_packets", "Packets of silence, made while no film is heard", |sound| sound.silent),
    ("missed", "Packets of sound not sent: they were late, or the system refused them", |sound| sound.missed),
];

impl StationMetrics {
    fn stations(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let stations = api::stations(&self.0, &self.1);
        for (name, unit, help, value) in COUNTERS {
            let name = format!("stationcast_{name}");
            let mut family = encoder.encode_descriptor(&name, help, unit.as_ref(), MetricType::Counter)?;
            for station in &stations {
                let metric = ConstCounter::new(value(station));
                metric.encode(family.encode_family(&labels(station))?)?;
            }
        }

        for (name, help, value) in SOUND_COUNTERS {
            let name = format!("stationcast_sound_{name}");
            let mut family = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
            for (station, sound) in with_sound(&stations) {
                ConstCounter::new(value(sound)).encode(family.encode_family(&labels(station))?)?;
            }
        }
        let (help, unit) = ("Loudness of the film that is heard", Unit::Other("lufs".into()));
        let name = "stationcast_sound_loudness";
        let mut family = encoder.encode_descriptor(name, help, Some(&unit), MetricType::Gauge)?;
        for (station, sound) in with_sound(&stations) {
            if let Some(loudness) = sound.loudness {
                ConstGauge::new(loudness).encode(family.encode_family(&labels(station))?)?;
            }
        }

        let help = "Pictures skipped because they were late, before they reached the air thread or in it";
        let mut family =
            encoder.encode_descriptor("stationcast_pictures_skipped", help, None, MetricType::Counter)?;
        for station in &self.0.stations_for(&self.1) {
            let [id, name] = names(&station.spec().id.to_string(), &station.spec().name);
            for (place, counter) in [("task", &station.task.skipped), ("air", &station.air.skipped)] {
                let labels = [id.clone(), name.clone(), ("where", place.to_owned())];
                ConstCounter::new(counter.load(Relaxed)).encode(family.encode_family(&labels)?)?;
            }
        }

        let help = "Viewers tuned to a station";
        let mut family = encoder.encode_descriptor("stationcast_audience", help, None, MetricType::Gauge)?;
        for station in &stations {
            ConstGauge::new(i64::from(station.audience)).encode(family.encode_family(&labels(station))?)?;
        }

        let help = "Other senders whose pictures come to a station's group";
        let mut family =
            encoder.encode_descriptor("stationcast_other_senders", help, None, MetricType::Gauge)?;
        for station in &stations {
            let metric = ConstGauge::new(station.other_senders.len() as i64);
            metric.encode(family.encode_family(&labels(station))?)?;
        }

        let help =
            "Players that receive a station from its group and report so by RTCP; they are in its audience";
        let mut family =
            encoder.encode_descriptor("stationcast_reporting_receivers", help, None, MetricType::Gauge)?;
        for station in &stations {
            let metric = ConstGauge::new(i64::from(station.reporting));
            metric.encode(family.encode_family(&labels(station))?)?;
        }

        let help = "Share of the packets of pictures that those players lost lately, the mean";
        let mut family =
            encoder.encode_descriptor("stationcast_reported_loss_ratio", help, None, MetricType::Gauge)?;
        for station in &stations {
            if let Some(loss) = station.reported_loss {
                ConstGauge::new(loss).encode(family.encode_family(&labels(station))?)?;
            }
        }

        let help = "What a station is sending: 1 for its state, 0 for the others";
        let mut family = encoder.encode_descriptor("stationcast_state", help, None, MetricType::Gauge)?;
        for station in &stations {
            let [id, name] = labels(station);
            // Nothing is wrong with a station that is on hold.
            let now = match station.state {
                Sending::Slate if station.is_on_hold() => "hold",
                Sending::Film => "film",
                Sending::Slate => "slate",
                Sending::Starting => "starting",
            };
            for state in ["film", "slate", "starting", "hold"] {
                let labels = [id.clone(), name.clone(), ("state", state.to_owned())];
                ConstGauge::new(i64::from(now == state)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn lateness(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Lateness of the first packet of each picture";
        let unit = Unit::Seconds;
        let mut family =
            encoder.encode_descriptor("stationcast_lateness", help, Some(&unit), MetricType::Histogram)?;
        for station in &self.0.stations_for(&self.1) {
            let labels = names(&station.spec().id.to_string(), &station.spec().name);
            let (sum, count, buckets) = histogram(&station.air.lateness);
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }

    fn clients(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut clients = self.0.clients.all();
        let seen: BTreeSet<_> =
            self.0.stations_for(&self.1).iter().map(|station| station.spec().id).collect();
        clients.retain(|client| seen.contains(&client.station));
        let help = "Clients served by unicast";
        let mut family = encoder.encode_descriptor("stationcast_clients", help, None, MetricType::Gauge)?;
        let over_http = [ClientKind::Mjpeg, ClientKind::Matroska, ClientKind::Wall];
        for kind in [ClientKind::RtspUdp, ClientKind::RtspTcp].into_iter().chain(over_http) {
            let count = clients.iter().filter(|client| client.kind == kind).count();
            ConstGauge::new(count as i64).encode(family.encode_family(&[("way", name_of(kind))])?)?;
        }

        clients.truncate(MOST_CLIENTS);
        // Only RTSP clients send receiver reports.
        let reporting = |client: &Client| matches!(client.kind, ClientKind::RtspUdp | ClientKind::RtspTcp);
        type Counted = (&'static str, &'static str, bool, fn(&Client) -> &AtomicU64);
        let counted: [Counted; 3] = [
            ("stationcast_client_pictures", "Pictures sent completely to a client", false, |client| {
                &client.pictures
            }),
            (
                "stationcast_client_pictures_dropped",
                "Pictures dropped because a client was slow",
                false,
                |client| &client.dropped,
            ),
            (
                "stationcast_client_packets_lost",
                "Packets lost in the network, by receiver reports",
                true,
                |client| &client.lost,
            ),
        ];
        for (name, help, by_report, value) in counted {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for client in clients.iter().filter(|client| !by_report || reporting(client)) {
                let metric = ConstCounter::new(value(client).load(Relaxed));
                metric.encode(family.encode_family(&client_labels(client))?)?;
            }
        }
        let ratio = Unit::Other("ratio".into());
        type Measured<'a> = (&'a str, &'a Unit, &'a str, fn(&Client) -> f64);
        let measured: [Measured<'_>; 2] = [
            (
                "stationcast_client_packet_loss",
                &ratio,
                "Share of packets lost in the interval of the last receiver report",
                |client| f64::from(client.fraction_lost.load(Relaxed)) / 256.0,
            ),
            (
                "stationcast_client_jitter",
                &Unit::Seconds,
                "Interarrival jitter, by the last receiver report",
                |client| f64::from(client.jitter.load(Relaxed)) / f64::from(RTP_CLOCK),
            ),
        ];
        for (name, unit, help, value) in measured {
            let mut family = encoder.encode_descriptor(name, help, Some(unit), MetricType::Gauge)?;
            for client in clients.iter().filter(|client| reporting(client)) {
                ConstGauge::new(value(client)).encode(family.encode_family(&client_labels(client))?)?;
            }
        }
        Ok(())
    }
}

/// The stations that have sound.
fn with_sound(stations: &[StationStatus]) -> impl Iterator<Item = (&StationStatus, &SoundStatus)> {
    stations.iter().filter_map(|station| Some((station, station.sound.as_ref()?)))
}

type Label = (&'static str, String);

fn labels(station: &StationStatus) -> [Label; 2] {
    names(&station.id.to_string(), &station.name)
}

fn names(id: &str, name: &str) -> [Label; 2] {
    [("station", id.to_owned()), ("name", name.to_owned())]
}

/// Two clients may have the same station and connection; only the `id` is unique.
fn client_labels(client: &Client) -> [Label; 4] {
    [
        ("station", client.station.to_string()),
        ("client", client.peer.to_string()),
        ("way", name_of(client.kind).to_owned()),
        ("id", client.number.to_string()),
    ]
}

fn name_of(kind: ClientKind) -> &'static str {
    match kind {
        ClientKind::RtspUdp => "rtsp_udp",
        ClientKind::RtspTcp => "rtsp_tcp",
        ClientKind::Mjpeg => "mjpeg",
        ClientKind::Matroska => "mkv",
        ClientKind::Wall => "wall",
    }
}

/// The sum in seconds, the count, and the buckets: the upper bound of each in seconds, and its own count. The encoder
/// makes the counts cumulative.
fn histogram(lateness: &Lateness) -> (f64, u64, Vec<(f64, u64)>) {
    let sum = lateness.sum().as_secs_f64();
    let counts = lateness.counts();
    let bounds = BOUNDS.iter().map(|&micros| micros as f64 / 1e6).chain([f64::INFINITY]);
    (sum, counts.iter().sum(), bounds.zip(counts).collect())
}
