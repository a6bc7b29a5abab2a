//! Live sources: the address of one in `media`, and whether a station would be its own source. Pure.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use hyper::Uri;

use super::camera::CameraDevice;
use super::password::PasswordPlace;
use super::report::{Report, short};
use super::{PublishRule, SoundChoice, StationSpec, World, has_sound_by};
use crate::media::StationId;

const EXAMPLE: &str = "as in \"http://192.0.2.20:8080/stream.mjpg\" or \"rtsp://192.0.2.21/stream1\"";

/// The programme of a station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Media {
    /// Films and folders of films, in playing order; at least one. Relative paths are joined to the file's folder.
    /// [`films()`](super::films()) expands the folders.
    Films(Vec<PathBuf>),
    /// A source that is live.
    Live(LiveSource),
    /// Other stations, at least one, each once.
    Mosaic(Vec<StationId>),
    /// The stream of a publisher.
    Published(PublishRule),
}

impl Media {
    /// The films and folders of films; none if the media is a live source or a mosaic.
    pub fn films(&self) -> &[PathBuf] {
        match self {
            Media::Films(films) => films,
            Media::Live(_) | Media::Mosaic(_) | Media::Published(_) => &[],
        }
    }

    /// Whether these are films.
    pub fn is_films(&self) -> bool {
        matches!(self, Media::Films(_))
    }

    /// The rule for publishers, if the content is published.
    pub fn published(&self) -> Option<&PublishRule> {
        match self {
            Media::Published(rule) => Some(rule),
            Media::Films(_) | Media::Live(_) | Media::Mosaic(_) => None,
        }
    }

    /// Whether a station of these media has sound: as `choice` says, or by its films, of which `of_film` tells. A station that is
    /// published to has sound unless it is turned off: nobody knows yet who will publish.
    pub fn has_sound(&self, choice: &SoundChoice, of_film: impl Fn(&Path) -> bool) -> bool {
        match self {
            Media::Published(_) => *choice != SoundChoice::Off,
            Media::Films(_) | Media::Live(_) | Media::Mosaic(_) => {
                has_sound_by(choice, self.films(), of_film)
            }
        }
    }

    /// The live source, if the media is one.
    pub fn live(&self) -> Option<&LiveSource> {
        match self {
            Media::Films(_) | Media::Mosaic(_) | Media::Published(_) => None,
            Media::Live(source) => Some(source),
        }
    }

    /// The stations of a mosaic; none if the media is something else.
    pub fn mosaic(&self) -> &[StationId] {
        match self {
            Media::Films(_) | Media::Live(_) | Media::Published(_) => &[],
            Media::Mosaic(stations) => stations,
        }
    }
}

impl From<Vec<PathBuf>> for Media {
    fn from(films: Vec<PathBuf>) -> Media {
        Media::Films(films)
    }
}

/// Most films that a list of them names.
const NAMED: usize = 3;

/// As `broadcaster check` shows it.
impl fmt::Display for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Media::Live(source) => source.fmt(f),
            Media::Mosaic(stations) => {
                let ids: Vec<_> = stations.iter().map(StationId::to_string).collect();
                write!(f, "mosaic of {}", ids.join(", "))
            }
            Media::Published(_) => f.write_str("what is published to it"),
            Media::Films(films) => {
                let mut named: Vec<_> =
                    films.iter().take(NAMED).map(|path| path.display().to_string()).collect();
                if films.len() > NAMED {
                    named.push(format!("and {} more", films.len() - NAMED));
                }
                f.write_str(&named.join(", "))
            }
        }
    }
}

/// A source that is live.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LiveSource {
    /// On the network.
    Network(NetworkSource),
    /// A camera of this machine.
    Camera(CameraDevice),
}

impl LiveSource {
    /// The source's name in messages: its host and port, or its device.
    pub fn name(&self) -> String {
        match self {
            LiveSource::Network(source) => source.authority(),
            LiveSource::Camera(camera) => camera.to_string(),
        }
    }
}

/// As in `media`, without user and password.
impl fmt::Display for LiveSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LiveSource::Network(source) => source.fmt(f),
            LiveSource::Camera(camera) => camera.fmt(f),
        }
    }
}

/// A live source on the network: motion JPEG by HTTP (`multipart/x-mixed-replace`), or whatever a camera sends by RTSP.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NetworkSource {
    scheme: Scheme,
    /// Without the password.
    user: Option<String>,
    password: Option<PasswordPlace>,
    /// A name or an address; that of IPv6 without brackets.
    host: String,
    port: u16,
    /// Path and query, from the first `/` on.
    target: String,
}

/// The protocol of a live source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// HTTP.
    Http,
    /// RTSP.
    Rtsp,
}

/// Whether an entry of `media` is an address and no path.
pub(super) fn is_address(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty()
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    })
}

/// Whether an address has a password, which no message may show.
pub(super) fn has_password(text: &str) -> bool {
    let behind = text.split_once("://").map_or("", |(_, behind)| behind);
    let authority = behind.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}

impl NetworkSource {
    /// The source at the address `text`, which may name a user.
    ///
    /// # Errors
    /// A sentence to stand behind `media = "..."`: it is no address of a source that can be played.
    pub fn parse(text: &str) -> Result<NetworkSource, String> {
        let (scheme, _) = text.split_once("://").unwrap_or_default();
        let (scheme, usual_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Scheme::Http, 80),
            "rtsp" => (Scheme::Rtsp, 554),
            "https" | "rtsps" => {
                return Err(format!(
                    "is encrypted, which is not supported yet; name an http or rtsp address, {EXAMPLE}"
                ));
            }
            other => {
                let other = short(other);
                return Err(format!(
                    "is {other}, which is not supported; a live source is motion JPEG by http, or a camera by rtsp, {EXAMPLE}"
                ));
            }
        };
        let wrong = || format!("is no address of a live source; write host, port and path, {EXAMPLE}");
        if has_password(text) || text.len() > 2000 || text.contains('#') {
            return Err(wrong());
        }
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let (user, place) = match authority.as_str().rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority.as_str()),
        };
        let user = match user.map(decoded) {
            Some(None) => return Err(wrong()),
            Some(user) => user,
            None => None,
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        // A port that is no number is none to the parser.
        let has_port = place.len() > authority.host().len();
        let port = match uri.port_u16() {
            Some(0) => return Err(wrong()),
            None if has_port => return Err(wrong()),
            port => port.unwrap_or(usual_port),
        };
        if host.is_empty() {
            return Err(wrong());
        }
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Ok(NetworkSource { scheme, user, password: None, host, port, target })
    }

    /// The same source, whose password is there.
    pub fn with_password(self, password: Option<PasswordPlace>) -> NetworkSource {
        NetworkSource { password, ..self }
    }

    /// The protocol.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The name of the user.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The password, if it has one. May block, since a disk may.
    ///
    /// # Errors
    /// The sentence that says why it cannot be read.
    pub fn password(&self) -> Result<Option<String>, String> {
        self.password.as_ref().map(PasswordPlace::read).transpose()
    }

    /// The name or the address of the machine that serves it; that of IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port, which is not 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, from the first `/` on.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Host and port, as in an HTTP `Host` field.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The station of this broadcaster that it is, if the broadcaster serves its stations at `own`.
    fn own_station(&self, own: &OwnAddresses<'_>) -> Option<StationId> {
        let listens_on = match self.scheme {
            Scheme::Http => own.http,
            Scheme::Rtsp => own.rtsp,
        }?;
        let is_own_address = |address: IpAddr| {
            let address = address.to_canonical();
            let is_own = address.is_loopback()
                || address.is_unspecified()
                || own.world.interfaces.iter().any(|interface| interface.has(address));
            let listens_there = listens_on.ip().is_unspecified() || listens_on.ip() == address;
            is_own && (listens_there || address.is_unspecified())
        };
        let is_own_name = || self.host.trim_end_matches('.') == "localhost" || own.hosts.contains(&self.host);
        let is_own = self.host.parse().map_or_else(|_| is_own_name(), is_own_address);
        if self.port != listens_on.port() || !is_own {
            return None;
        }
        let path = self.target.split('?').next().unwrap_or_default();
        let number = match self.scheme {
            Scheme::Http => {
                let file = Path::new(path.strip_prefix("/stations/")?);
                (file.extension()? == "mjpeg").then(|| file.file_stem()?.to_str())??
            }
            Scheme::Rtsp => path.strip_prefix('/')?.split('/').next()?,
        };
        number.parse().ok().map(StationId)
    }
}

/// A part of an address in which bytes may be written as `%40`; `None` if they are wrong.
fn decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty() && !text.chars().any(char::is_control))
}

/// The address, without its user, and without its query, which may be a secret.
impl fmt::Display for NetworkSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.split('?').next().unwrap_or_default();
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Rtsp => "rtsp",
        };
        write!(f, "{scheme}://{}{path}", self.authority())
    }
}

/// Where a broadcaster serves its own stations.
pub(super) struct OwnAddresses<'a> {
    pub(super) rtsp: Option<SocketAddr>,
    pub(super) http: Option<SocketAddr>,
    /// Names of this machine.
    pub(super) hosts: &'a [String],
    pub(super) world: &'a World,
}

/// Reports each station that is its own source, directly or by way of other stations of this broadcaster.
pub(super) fn refuse_loops(stations: &[StationSpec], own: &OwnAddresses<'_>, report: &mut Report<'_>) {
    // With those at times of day, a station has several.
    let sources_of = |spec: &StationSpec| -> Vec<StationId> {
        let all = spec.at.iter().map(|timed| &timed.media).chain([&spec.media]);
        let sources = |media: &Media| match media {
            Media::Live(LiveSource::Network(source)) => source.own_station(own).into_iter().collect(),
            Media::Mosaic(stations) => stations.clone(),
            Media::Live(LiveSource::Camera(_)) | Media::Films(_) | Media::Published(_) => Vec::new(),
        };
        all.flat_map(sources).collect()
    };
    let sources: HashMap<StationId, Vec<StationId>> =
        stations.iter().map(|spec| (spec.id, sources_of(spec))).collect();
    for spec in stations {
        let (mut reached, mut waiting) = (HashSet::new(), vec![spec.id]);
        while let Some(id) = waiting.pop() {
            let new = sources.get(&id).into_iter().flatten().filter(|&&id| reached.insert(id));
            waiting.extend(new.copied().collect::<Vec<_>>());
        }
        if !reached.contains(&spec.id) {
            continue;
        }
        let why = match spec.media {
            Media::Mosaic(_) => "shows this station itself, directly or by way of others; leave it out",
            _ => "is this station itself, at this broadcaster's own address; name another source",
        };
        report.fault_on(spec.line, format!("station \"{}\": media {why}", spec.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineup::{ConfigError, Lineup};

    #[test]
    fn an_address_is_host_port_and_target() {
        for (text, shown, target) in [
            ("http://cam/stream.mjpg", "http://cam:80/stream.mjpg", "/stream.mjpg"),
            ("HTTP://Cam.Example:8080", "http://cam.example:8080/", "/"),
            (
                "http://192.0.2.20:81/a?action=stream&key=secret",
                "http://192.0.2.20:81/a",
                "/a?action=stream&key=secret",
            ),
            ("http://[2001:db8::7]:8080/x", "http://[2001:db8::7]:8080/x", "/x"),
            ("rtsp://cam/stream1?secret=1", "rtsp://cam:554/stream1", "/stream1?secret=1"),
            ("rtsp://an%40na@cam:8554/a", "rtsp://cam:8554/a", "/a"),
        ] {
            let source = NetworkSource::parse(text).unwrap();
            assert_eq!((source.to_string().as_str(), source.target()), (shown, target), "{text}");
        }
        assert_eq!(NetworkSource::parse("http://[::1]/x").unwrap().host(), "::1");
        assert_eq!(NetworkSource::parse("rtsp://an%40na@[::1]/x").unwrap().user(), Some("an@na"));
    }

    #[test]
    fn what_cannot_be_played_is_refused_with_a_sentence() {
        for (text, sentence) in [
            ("https://cam/a", "is encrypted, which is not supported yet"),
            ("rtsps://cam/a", "is encrypted, which is not supported yet"),
            (
                "rtmp://cam/a",
                "is rtmp, which is not supported; a live source is motion JPEG by http, or a camera by rtsp",
            ),
            ("http://", "is no address of a live source"),
            ("http:///stream", "is no address of a live source"),
            ("http://:80/a", "is no address of a live source"),
            ("http://cam:0/a", "is no address of a live source"),
            ("http://cam:99999/a", "is no address of a live source"),
            ("http://cam:x/a", "is no address of a live source"),
            ("http://cam/a b", "is no address of a live source"),
            ("http://cam/a#b", "is no address of a live source"),
            ("http://anna:secret@cam/a", "is no address of a live source"),
            ("rtsp://an%4@cam/a", "is no address of a live source"),
            ("rtsp://@cam/a", "is no address of a live source"),
            ("rtsp://a@cam:x/a", "is no address of a live source"),
        ] {
            let fault = NetworkSource::parse(text).unwrap_err();
            assert!(fault.starts_with(sentence), "{text}: {fault}");
        }
        assert!(is_address("rtsp://x") && !is_address("films/a.mp4") && !is_address("://x"));
    }

    fn parse(http: &str, media: &[&str]) -> Result<Lineup, ConfigError> {
        let mut text = format!("[http]\n{http}\n");
        for (n, media) in (1..).zip(media) {
            text += &format!(
                "[[station]]\nid = {n}\nname = \"S{n}\"\nmedia = {media}\ngroup = \"239.1.1.{n}:5004\"\n"
            );
        }
        let world = World::for_tests();
        Lineup::parse(&text, Path::new("stations.toml"), &world)
    }

    #[test]
    fn a_station_that_would_be_its_own_source_is_refused() {
        let own = "is this station itself";
        let told = |http: &str, media: &[&str]| {
            let error = parse(http, media).err()?;
            Some(error.sentences().iter().filter(|sentence| sentence.contains(own)).count())
        };
        let here = "listen = \"127.0.0.1:8088\"\n[rtsp]\nlisten = \"127.0.0.1:8554\"";
        let everywhere = "listen = \"0.0.0.0:8088\"\nhosts = [\"tv.example\"]";
        for source in
            ["127.0.0.1:8554/1", "localhost:8554/1/video", "127.0.0.1:8554/1/demand", "a@[::1]:8554/1"]
        {
            let is_own = (!source.contains("::1")).then_some(1);
            assert_eq!(told(here, &[&format!("\"rtsp://{source}\"")]), is_own, "{source}");
        }
        for (http, source) in [
            (here, "127.0.0.1:8088/stations/1.mjpeg"),
            (here, "localhost:8088/stations/1.mjpeg?a"),
            (here, "0.0.0.0:8088/stations/1.mjpeg"),
            (everywhere, "127.0.0.1:8088/stations/01.mjpeg"),
            (everywhere, "tv.example:8088/stations/1.mjpeg"),
        ] {
            assert_eq!(told(http, &[&format!("\"http://{source}\"")]), Some(1), "{source}");
        }
        for (http, source) in [
            (here, "127.0.0.1:8089/stations/1.mjpeg"),
            (here, "192.0.2.1:8088/stations/1.mjpeg"),
            (here, "127.0.0.1:8088/stations/2.mjpeg"),
            (everywhere, "127.0.0.1:8088/stations/2.mjpeg"),
        ] {
            assert_eq!(told(http, &[&format!("\"http://{source}\""), "\"a.mp4\""]), None, "{source}");
        }
        let ring: Vec<String> =
            [2, 3, 1].map(|n| format!("\"http://127.0.0.1:8088/stations/{n}.mjpeg\"")).into();
        let ring: Vec<&str> = ring.iter().map(String::as_str).collect();
        assert_eq!(told(here, &ring), Some(3), "by way of others");
    }

    #[test]
    fn a_mosaic_shows_other_stations_that_exist() {
        let lineup = parse("", &["\"a.mp4\"", "\"mosaic:1, 3\"", "\"mosaic:1\""]).unwrap();
        assert_eq!(lineup.stations[1].media, Media::Mosaic(vec![StationId(1), StationId(3)]));
        assert_eq!(lineup.stations[1].media.to_string(), "mosaic of 1, 3");
        let faults = |media: &[&str]| parse("", media).unwrap_err().sentences().to_vec();
        let told = faults(&["\"mosaic:2,9\"", "\"a.mp4\""]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].ends_with("media shows station 9, which does not exist; name one that does"),
            "{told:?}"
        );
        let itself = "shows this station itself, directly or by way of others; leave it out";
        for (media, count) in [
            (vec!["\"mosaic:1\""], 1),
            (vec!["\"mosaic:2\"", "\"mosaic:3\"", "\"mosaic:4,1\"", "\"a.mp4\""], 3),
            (vec!["\"mosaic:2\"", "\"mosaic:2\""], 1),
        ] {
            let told = faults(&media);
            assert_eq!(told.iter().filter(|sentence| sentence.contains(itself)).count(), count, "{told:?}");
        }
        // By way of its own web server.
        let http = "listen = \"127.0.0.1:8088\"";
        let ring = parse(http, &["\"mosaic:2\"", "\"http://127.0.0.1:8088/stations/1.mjpeg\""]).unwrap_err();
        assert_eq!(ring.sentences().len(), 2, "{ring}");
        let list = faults(&["[\"mosaic:1\", \"b.mp4\"]"]);
        assert!(list[0].contains("is a mosaic; write it alone, not in a list"), "{list:?}");
    }

    #[test]
    fn no_message_shows_a_password() {
        let error = parse("", &["\"rtsp://anna:secret@cam/a\""]).unwrap_err().to_string();
        assert!(error.contains("media has a password in its address"), "{error}");
        assert!(!error.contains("secret"), "{error}");
        let list = parse("", &["[\"http://anna:secret@cam/a\"]"]).unwrap_err().to_string();
        assert!(!list.contains("secret"), "{list}");
        let list = parse("", &["[\"http://cam/a\", \"b.mp4\"]"]).unwrap_err().to_string();
        assert!(list.contains("is a live source; write it alone, not in a list"), "{list}");
    }
}
