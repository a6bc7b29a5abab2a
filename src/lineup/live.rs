//! Live sources: the address of one in `media`, and whether a station would be its own source. Pure.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use hyper::Uri;

use super::report::{Report, short};
use super::{StationSpec, World};
use crate::media::StationId;

const EXAMPLE: &str = "as in \"http://192.0.2.20:8080/stream.mjpg\"";

/// The programme of a station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Media {
    /// Films and folders of films, in playing order; at least one. Relative paths are joined to the file's folder.
    /// [`films()`](super::films()) expands the folders.
    Films(Vec<PathBuf>),
    /// A source that is live.
    Live(LiveSource),
}

impl Media {
    /// The films and folders of films; none if the media is a live source.
    pub fn films(&self) -> &[PathBuf] {
        match self {
            Media::Films(films) => films,
            Media::Live(_) => &[],
        }
    }

    /// The live source, if the media is one.
    pub fn live(&self) -> Option<&LiveSource> {
        match self {
            Media::Films(_) => None,
            Media::Live(source) => Some(source),
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

/// A live source: motion JPEG by HTTP (`multipart/x-mixed-replace`), as network cameras serve it. Without credentials.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LiveSource {
    /// A name or an address; that of IPv6 without brackets.
    host: String,
    port: u16,
    /// Path and query, from the first `/` on.
    target: String,
}

/// Whether an entry of `media` is an address and no path.
pub(super) fn is_address(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty()
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    })
}

/// Whether an address names a user, and perhaps a password, which no message may show.
pub(super) fn has_user(text: &str) -> bool {
    let behind = text.split_once("://").map_or("", |(_, behind)| behind);
    behind.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
}

impl LiveSource {
    /// The source at the address `text`.
    ///
    /// # Errors
    /// A sentence to stand behind `media = "..."`: it is no address of a source that can be played.
    pub fn parse(text: &str) -> Result<LiveSource, String> {
        let (scheme, _) = text.split_once("://").unwrap_or_default();
        match scheme.to_ascii_lowercase().as_str() {
            "http" => {}
            "https" => {
                return Err(format!(
                    "is encrypted, which is not supported yet; name an http address, {EXAMPLE}"
                ));
            }
            other => {
                let other = short(other);
                return Err(format!(
                    "is {other}, which is not supported; a live source is motion JPEG by http, {EXAMPLE}"
                ));
            }
        }
        let wrong = || format!("is no address of a live source; write host, port and path, {EXAMPLE}");
        if has_user(text) || text.len() > 2000 || text.contains('#') {
            return Err(wrong());
        }
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        // A port that is no number is none to the parser.
        let has_port = authority.as_str().len() > authority.host().len();
        let port = match uri.port_u16() {
            Some(0) => return Err(wrong()),
            None if has_port => return Err(wrong()),
            port => port.unwrap_or(80),
        };
        if host.is_empty() {
            return Err(wrong());
        }
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Ok(LiveSource { host, port, target })
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

    /// The station of this broadcaster that it is, if the broadcaster's web listens on `http`.
    fn own_station(&self, http: SocketAddr, hosts: &[String], world: &World) -> Option<StationId> {
        let is_own_address = |address: IpAddr| {
            let address = address.to_canonical();
            let is_own = address.is_loopback()
                || address.is_unspecified()
                || world.interfaces.iter().any(|interface| interface.has(address));
            is_own && (http.ip().is_unspecified() || address.is_unspecified() || http.ip() == address)
        };
        let is_own_name = || self.host.trim_end_matches('.') == "localhost" || hosts.contains(&self.host);
        let is_own = self.host.parse().map_or_else(|_| is_own_name(), is_own_address);
        if self.port != http.port() || !is_own {
            return None;
        }
        let path = self.target.split('?').next().unwrap_or_default();
        let file = Path::new(path.strip_prefix("/stations/")?);
        (file.extension()? == "mjpeg").then(|| file.file_stem()?.to_str()?.parse().ok().map(StationId))?
    }
}

/// The address, without its query, which may be a secret.
impl fmt::Display for LiveSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.split('?').next().unwrap_or_default();
        write!(f, "http://{}{path}", self.authority())
    }
}

/// Reports each station that is its own source, directly or by way of other stations of this broadcaster.
pub(super) fn refuse_loops(
    stations: &[StationSpec],
    http: Option<SocketAddr>,
    hosts: &[String],
    world: &World,
    report: &mut Report<'_>,
) {
    let Some(http) = http else { return };
    let source_of = |spec: &StationSpec| Some((spec.id, spec.media.live()?.own_station(http, hosts, world)?));
    let sources: HashMap<StationId, StationId> = stations.iter().filter_map(source_of).collect();
    for spec in stations {
        let mut at = spec.id;
        for _ in 0..stations.len() {
            let Some(&source) = sources.get(&at) else { break };
            at = source;
            if at == spec.id {
                let sentence = format!(
                    "station \"{}\": media is this station itself, at this broadcaster's own address; name another source",
                    spec.name
                );
                report.fault_on(spec.line, sentence);
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::interfaces;
    use crate::lineup::{ConfigError, Lineup, MediaKind};

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
        ] {
            let source = LiveSource::parse(text).unwrap();
            assert_eq!((source.to_string().as_str(), source.target()), (shown, target), "{text}");
        }
        assert_eq!(LiveSource::parse("http://[::1]/x").unwrap().host(), "::1");
    }

    #[test]
    fn what_cannot_be_played_is_refused_with_a_sentence() {
        for (text, sentence) in [
            ("https://cam/a", "is encrypted, which is not supported yet"),
            ("rtsp://cam/a", "is rtsp, which is not supported; a live source is motion JPEG by http"),
            ("http://", "is no address of a live source"),
            ("http:///stream", "is no address of a live source"),
            ("http://:80/a", "is no address of a live source"),
            ("http://cam:0/a", "is no address of a live source"),
            ("http://cam:99999/a", "is no address of a live source"),
            ("http://cam:x/a", "is no address of a live source"),
            ("http://cam/a b", "is no address of a live source"),
            ("http://cam/a#b", "is no address of a live source"),
            ("http://anna:secret@cam/a", "is no address of a live source"),
        ] {
            let fault = LiveSource::parse(text).unwrap_err();
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
        let world = World {
            interfaces: interfaces().unwrap(),
            home: None,
            cache: None,
            state: None,
            media: Box::new(|_| MediaKind::File),
            sound: Box::new(|_, _| false),
        };
        Lineup::parse(&text, Path::new("stations.toml"), &world)
    }

    #[test]
    fn a_station_that_would_be_its_own_source_is_refused() {
        let own = "is this station itself";
        let told = |http: &str, media: &[&str]| {
            let error = parse(http, media).err()?;
            Some(error.sentences().iter().filter(|sentence| sentence.contains(own)).count())
        };
        let here = "listen = \"127.0.0.1:8088\"";
        let everywhere = "listen = \"0.0.0.0:8088\"\nhosts = [\"tv.example\"]";
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
    fn no_message_shows_a_password() {
        let error = parse("", &["\"http://anna:secret@cam/a\""]).unwrap_err().to_string();
        assert!(error.contains("media has a user"), "{error}");
        assert!(!error.contains("secret"), "{error}");
        let list = parse("", &["[\"http://anna:secret@cam/a\"]"]).unwrap_err().to_string();
        assert!(!list.contains("secret"), "{list}");
        let list = parse("", &["[\"http://cam/a\", \"b.mp4\"]"]).unwrap_err().to_string();
        assert!(list.contains("is a live source; write it alone, not in a list"), "{list}");
    }
}
