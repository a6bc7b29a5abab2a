//! The guide: what is on all stations, and what follows for a day, as JSON and as XMLTV. Both are computed from the stations'
//! programmes when they are asked for.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Web;
use crate::access::Grant;
use crate::content::guide::GuideEntry;
use crate::media::{AirTime, StationId};

/// How far the guide reaches.
const HORIZON: Duration = Duration::from_secs(24 * 3600);

/// Most films of one station in the guide, and most of all stations together: a line-up of short films has a guide of some
/// megabytes, and reaches less far.
const MOST_OF_STATION: usize = 500;
const MOST: usize = 40_000;

/// What is on a station, and what follows.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct StationGuide {
    /// Its number.
    id: StationId,
    /// Its name.
    name: String,
    /// The film that is on, and those that follow without a gap. Empty while there is a slate.
    films: Vec<GuideFilm>,
}

/// A film in the guide.
#[derive(Debug, PartialEq, Serialize)]
struct GuideFilm {
    title: String,
    /// When it begins, RFC 3339, UTC.
    begin: String,
    /// When it ends; `None` if that is not known.
    end: Option<String>,
}

/// The films of a guide of `stations` stations that are on at `now` or follow.
fn within(films: impl Iterator<Item = GuideEntry>, now: AirTime, stations: usize) -> Vec<GuideEntry> {
    let most = (MOST / stations.max(1)).clamp(2, MOST_OF_STATION);
    films.take(most).take_while(|film| film.begin <= now + HORIZON).collect()
}

impl Web {
    /// The stations that a client may see, and their guides.
    #[expect(clippy::disallowed_methods, reason = "a shell: the guide begins now")]
    fn guide(&self, grant: &Grant) -> Vec<(StationId, String, Vec<GuideEntry>)> {
        let now = self.head_end.clock.now();
        let stations = self.head_end.stations_for(grant);
        let guide = stations.iter().map(|station| {
            let films = within(station.guide().entries(now), now, stations.len());
            (station.spec().id, station.spec().name.clone(), films)
        });
        guide.collect()
    }
}

/// `GET /api/guide`.
pub(super) async fn json(State(web): State<Arc<Web>>, Extension(grant): Extension<Grant>) -> Response {
    let time =
        |at: AirTime| humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_nanos(at.0)).to_string();
    let film = |film: GuideEntry| GuideFilm {
        title: film.title.to_string(),
        begin: time(film.begin),
        end: film.end.map(time),
    };
    let station = |(id, name, films): (_, _, Vec<_>)| StationGuide {
        id,
        name,
        films: films.into_iter().map(film).collect(),
    };
    let guide: Vec<_> = web.guide(&grant).into_iter().map(station).collect();
    ([(CACHE_CONTROL, "no-store")], Json(guide)).into_response()
}

/// `GET /guide.xml`: XMLTV.
pub(super) async fn xmltv(State(web): State<Arc<Web>>, Extension(grant): Extension<Grant>) -> Response {
    let headers = [(CONTENT_TYPE, "application/xml; charset=utf-8"), (CACHE_CONTROL, "no-store")];
    (headers, to_xmltv(&web.guide(&grant))).into_response()
}

/// The name of a station in XMLTV, and in the `tvg-id` of the playlist.
pub(super) fn channel(id: StationId) -> String {
    format!("{id}.stationcast")
}

/// A guide as XMLTV (xmltv.dtd of the XMLTV project). Times are whole seconds, so a film that begins and ends within one is left out.
fn to_xmltv(guide: &[(StationId, String, Vec<GuideEntry>)]) -> String {
    let mut xml =
        String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE tv SYSTEM \"xmltv.dtd\">\n");
    let generator = concat!("stationcast/", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(xml, "<tv generator-info-name=\"{generator}\">");
    for (id, name, _) in guide {
        let (channel, name) = (channel(*id), text(name));
        let _ = writeln!(
            xml,
            "  <channel id=\"{channel}\"><display-name>{name}</display-name><display-name>{id}</display-name></channel>"
        );
    }
    for (id, _, films) in guide {
        let channel = channel(*id);
        for GuideEntry { title, begin, end } in films {
            let (start, stop) = (xmltv_time(*begin), end.map(xmltv_time));
            if stop.as_ref() == Some(&start) {
                continue;
            }
            let stop = stop.map(|stop| format!(" stop=\"{stop}\"")).unwrap_or_default();
            let title = text(title);
            let _ = writeln!(
                xml,
                "  <programme start=\"{start}\"{stop} channel=\"{channel}\"><title>{title}</title></programme>"
            );
        }
    }
    xml + "</tv>\n"
}

/// A moment in XMLTV: `20261125203000 +0000`.
fn xmltv_time(at: AirTime) -> String {
    let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_nanos(at.0)).to_string();
    time.chars().filter(char::is_ascii_digit).chain(" +0000".chars()).collect()
}

/// Text in XML. Two characters that are no characters, and those that XML 1.0 does not allow, are left out.
fn text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\u{fffe}' | '\u{ffff}' => {}
            c if c.is_control() => {}
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: AirTime = AirTime(1_790_000_000_500_000_000);

    fn film(title: &str, begin_ms: u64, end_ms: Option<u64>) -> GuideEntry {
        let at = |ms| BEGIN + Duration::from_millis(ms);
        GuideEntry { title: title.into(), begin: at(begin_ms), end: end_ms.map(at) }
    }

    #[test]
    fn a_guide_in_xmltv_has_channels_then_programmes_in_utc() {
        let guide = [
            (
                StationId(2),
                "Tom & \"Jerry\" <1>".to_owned(),
                vec![
                    film("a\u{ffff}", 0, Some(24_000)),
                    film("too short", 24_000, Some(24_100)),
                    film("b", 24_100, None),
                ],
            ),
            (StationId(40), "Off".to_owned(), vec![]),
        ];
        let expected = "\
<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<!DOCTYPE tv SYSTEM \"xmltv.dtd\">
<tv generator-info-name=\"stationcast/0.1.0\">
  <channel id=\"2.stationcast\"><display-name>Tom &amp; &quot;Jerry&quot; &lt;1&gt;</display-name><display-name>2</display-name></channel>
  <channel id=\"40.stationcast\"><display-name>Off</display-name><display-name>40</display-name></channel>
  <programme start=\"20260921141320 +0000\" stop=\"20260921141344 +0000\" channel=\"2.stationcast\"><title>a</title></programme>
  <programme start=\"20260921141344 +0000\" channel=\"2.stationcast\"><title>b</title></programme>
</tv>
";
        assert_eq!(to_xmltv(&guide).replace(env!("CARGO_PKG_VERSION"), "0.1.0"), expected);
    }

    #[test]
    fn a_guide_of_short_films_is_bounded() {
        let films = || (0..).map(|n| film("x", n, Some(n + 1)));
        assert_eq!(within(films(), BEGIN, 1).len(), 500);
        assert_eq!(within(films(), BEGIN, 999).len(), 40);
        let hours = |n: u64| n * 3_600_000;
        let long = (0..).map(|n| film("x", hours(n), Some(hours(n + 1))));
        assert_eq!(within(long, BEGIN, 1).len(), 25, "a day, and what begins at its end");
    }
}
