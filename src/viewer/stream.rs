//! A stream that no directory lists: a group named on the command line, or what a description (SDP) says, from a file, a web
//! server or an RTSP server.

use std::fs::File;
use std::io::{self, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use rtsp_types::Url;

use crate::access::Secret;
use crate::directory::{Reach, State, StationInfo};
use crate::interface::Interface;
use crate::media::StationId;
use crate::speaker::SoundFrom;
use crate::tls::pin::Trust;
use crate::tuner::join;
use crate::tuner::receiver::ReceiveFrom;
use crate::tuner::rtsp_client::RtspServer;
use crate::wire::rtsp::{basic, take_login};
use crate::wire::sdp::streams::{DescribedStreams, MAX_DESCRIPTION};

/// Timeout of a request for a description.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The port of RTSP (RFC 2326 section 3.2), and that of RTSP by TLS (RFC 7826 section 19.2).
const RTSP_PORT: u16 = 554;
const RTSPS_PORT: u16 = 322;

/// The number under which the stream is the only station of a line-up.
const NUMBER: StationId = StationId(1);

/// Where a stream is received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Its name, for people.
    name: String,
    /// The group and port of its pictures, or the address and port of its server.
    address: SocketAddr,
    interface: String,
    pub(super) from: ReceiveFrom,
    /// `None` if it has none, or if it comes with the pictures.
    pub(super) sound: Option<SoundFrom>,
}

/// Why a stream cannot be received.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// What the user has named is of no use.
    #[error("{0}")]
    Usage(String),
    /// The network or a server fails.
    #[error("{0}")]
    Failed(String),
}

impl Stream {
    /// The RTP/JPEG pictures of a group. Without a description nothing is known of its sound.
    ///
    /// # Errors
    /// There is no such interface, or several and no route.
    pub fn of_group(group: SocketAddr, interface: Option<&str>) -> Result<Stream, StreamError> {
        let interface = choose(group, interface)?;
        Ok(Stream {
            name: group.to_string(),
            address: group,
            from: ReceiveFrom::Group(group, interface.name.clone(), None),
            interface: interface.name,
            sound: None,
        })
    }

    /// What a description says that `place` has: the path of a file, `-` for standard input, or a URL. Of an RTSP server the stream
    /// itself is received, in the connection. `reach` has the fingerprint that the server must show by TLS, the fingerprints that are
    /// known, and a token to show to the server. Blocks.
    ///
    /// # Errors
    /// There is no such description, or none of RTP/JPEG to a group; the interface cannot be told; or a secret would be shown where others
    /// can read it.
    pub fn described(place: &str, interface: Option<&str>, reach: &Reach) -> Result<Stream, StreamError> {
        let scheme = place.split_once("://").map(|(scheme, _)| scheme);
        if scheme != Some("rtsps") && reach.fingerprint.is_some() {
            return Err(StreamError::Usage(format!("--sdp {place}: --fingerprint is for rtsps:// only")));
        }
        let described = match place.split_once("://") {
            Some(("rtsp" | "rtsps", _)) => return Stream::of_rtsp(place, reach),
            Some(("http", _)) => fetch(place)?,
            Some((scheme, _)) => {
                return Err(StreamError::Usage(format!(
                    "--sdp {place}: {scheme} is not known; give a file, - for standard input, or a URL of http, rtsp or rtsps"
                )));
            }
            None if place == "-" => read(io::stdin(), place)?,
            None => {
                let file = File::open(place).map_err(|error| {
                    StreamError::Usage(format!("--sdp {place}: cannot read the file: {}", reason(&error)))
                })?;
                read(file, place)?
            }
        };
        let streams = DescribedStreams::parse(&described)
            .map_err(|error| StreamError::Usage(format!("--sdp {place}: {error}")))?;
        let interface = choose(streams.pictures, interface)?.name;
        let sound = streams.sound.map(|sound| SoundFrom {
            group: sound.group,
            interface: interface.clone(),
            source: streams.source,
            payload_type: sound.payload_type,
            codec: sound.codec,
        });
        Ok(Stream {
            name: if streams.name.is_empty() { streams.pictures.to_string() } else { streams.name },
            address: streams.pictures,
            from: ReceiveFrom::Group(streams.pictures, interface.clone(), streams.source),
            interface,
            sound,
        })
    }

    fn of_rtsp(place: &str, reach: &Reach) -> Result<Stream, StreamError> {
        let mut url = Url::parse(place)
            .map_err(|error| StreamError::Usage(format!("--sdp {place}: not a URL: {error}")))?;
        let login = take_login(&mut url);
        // Without the password.
        let place = url.to_string();
        let usage = |why: &str| StreamError::Usage(format!("--sdp {place}: {why}"));
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| usage("names no host"))?;
        let is_tls = url.scheme() == "rtsps";
        let port = url.port().unwrap_or(if is_tls { RTSPS_PORT } else { RTSP_PORT });
        let at = (host.trim_matches(['[', ']']), port);
        let address = at.to_socket_addrs().map(|mut found| found.next()).map_err(|error| {
            StreamError::Failed(format!("--sdp {place}: cannot find {host}: {}", reason(&error)))
        })?;
        let address = address.ok_or_else(|| usage("its host has no address"))?;
        let token = || Some(basic("viewer", reach.token.as_ref()?.reveal()));
        let authorization = login.or_else(token).map(Secret::new);
        if authorization.is_some() && !is_tls && !address.ip().to_canonical().is_loopback() {
            return Err(usage(
                "a password or token is shown by TLS only, or to this machine: write rtsps, or leave it out",
            ));
        }
        let trust = || Trust::User { named: reach.fingerprint, servers: reach.known.clone() };
        let server = RtspServer { address, tls: is_tls.then(trust), authorization };
        Ok(Stream {
            name: url.to_string(),
            address,
            interface: String::new(),
            from: ReceiveFrom::Rtsp(server.into(), url),
            sound: None,
        })
    }

    /// The stream as the only station of a line-up.
    pub(super) fn station(&self) -> StationInfo {
        let station = StationInfo::starting(NUMBER, &self.name, self.address, &self.interface, 0);
        StationInfo { state: State::Film, ..station }
    }
}

fn choose(group: SocketAddr, interface: Option<&str>) -> Result<Interface, StreamError> {
    join::interface_for_group(group, interface).map_err(|error| StreamError::Usage(error.to_string()))
}

/// Reads a description, and no more than one may have.
fn read(from: impl Read, place: &str) -> Result<Vec<u8>, StreamError> {
    let mut bytes = Vec::new();
    let took = from.take(MAX_DESCRIPTION as u64 + 1).read_to_end(&mut bytes);
    took.map_err(|error| StreamError::Usage(format!("--sdp {place}: cannot read it: {}", reason(&error))))?;
    if bytes.len() > MAX_DESCRIPTION { Err(too_long(place)) } else { Ok(bytes) }
}

fn too_long(place: &str) -> StreamError {
    let most = MAX_DESCRIPTION / 1024;
    StreamError::Usage(format!("--sdp {place}: is longer than {most} KiB, so not SDP"))
}

/// Fetches a description from a web server.
fn fetch(url: &str) -> Result<Vec<u8>, StreamError> {
    let failed = |error: ureq::Error| match error {
        ureq::Error::BodyExceedsLimit(_) => too_long(url),
        ureq::Error::StatusCode(status) => {
            StreamError::Failed(format!("--sdp {url}: the server answers with status {status}"))
        }
        ureq::Error::Io(error) => StreamError::Failed(format!("--sdp {url}: {}", reason(&error))),
        ureq::Error::HostNotFound => StreamError::Failed(format!("--sdp {url}: there is no such host")),
        ureq::Error::Timeout(_) => {
            let seconds = TIMEOUT.as_secs();
            StreamError::Failed(format!("--sdp {url}: the server has not answered within {seconds} s"))
        }
        error => StreamError::Failed(format!("--sdp {url}: {error}")),
    };
    let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).proxy(None).build();
    let mut answer = ureq::Agent::from(config).get(url).call().map_err(failed)?;
    answer.body_mut().with_config().limit(MAX_DESCRIPTION as u64).read_to_vec().map_err(failed)
}

/// An error of the system without its number.
fn reason(error: &io::Error) -> String {
    error.to_string().split(" (os error").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::wire::rtp::PAYLOAD_TYPE_OPUS;

    const DESCRIPTION: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=Two\r\nc=IN IP4 239.1.1.1/1\r\nt=0 0\r\n\
                               m=video 5004 RTP/AVP 26\r\nm=audio 5006 RTP/AVP 97\r\na=rtpmap:97 opus/48000/2\r\n";

    fn refused(place: &str) -> String {
        match Stream::described(place, Some("127.0.0.1"), &Reach::default()).unwrap_err() {
            StreamError::Usage(sentence) => sentence,
            error @ StreamError::Failed(_) => panic!("{error}"),
        }
    }

    fn check(stream: &Stream) {
        let group: SocketAddr = "239.1.1.1:5004".parse().unwrap();
        assert_eq!(stream.from, ReceiveFrom::Group(group, "lo".into(), None));
        let sound = stream.sound.as_ref().unwrap();
        assert_eq!((sound.group.port(), sound.payload_type), (5006, PAYLOAD_TYPE_OPUS));
        let station = stream.station();
        assert_eq!((station.name.as_str(), station.group, station.state), ("Two", group, State::Film));
    }

    #[test]
    fn a_description_is_read_from_a_file_or_from_a_web_server() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("two.sdp");
        std::fs::write(&file, DESCRIPTION).unwrap();
        let file = file.to_str().unwrap();
        check(&Stream::described(file, Some("127.0.0.1"), &Reach::default()).unwrap());

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/2.sdp", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            let length = DESCRIPTION.len();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{DESCRIPTION}").unwrap();
        });
        check(&Stream::described(&url, Some("127.0.0.1"), &Reach::default()).unwrap());
        server.join().unwrap();
        let refused = Stream::described(&url, Some("127.0.0.1"), &Reach::default()).unwrap_err();
        assert_eq!(refused.to_string(), format!("--sdp {url}: Connection refused"));
    }

    #[test]
    fn a_place_without_a_description_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("not.sdp");
        let file = file.to_str().unwrap();
        assert_eq!(refused(file), format!("--sdp {file}: cannot read the file: No such file or directory"));
        std::fs::write(file, "<html>").unwrap();
        assert_eq!(refused(file), format!("--sdp {file}: not a session description (SDP)"));
        std::fs::write(file, vec![b'x'; MAX_DESCRIPTION + 1]).unwrap();
        assert_eq!(refused(file), format!("--sdp {file}: is longer than 64 KiB, so not SDP"));
        assert!(refused("https://h/2.sdp").contains("https is not known"));
        assert!(refused("rtsp://").contains("rtsp://: "));
    }

    #[test]
    fn an_rtsp_url_is_played_in_its_connection_and_shows_a_password_apart_from_the_url() {
        let described = |place: &str, reach: &Reach| Stream::described(place, None, reach);
        let reach = Reach::default();
        let stream = described("rtsp://me:secret@127.0.0.1:8554/2", &reach).unwrap();
        let address: SocketAddr = "127.0.0.1:8554".parse().unwrap();
        let url = Url::parse("rtsp://127.0.0.1:8554/2").unwrap();
        let authorization = Some(Secret::new(basic("me", "secret")));
        let server = RtspServer { address, tls: None, authorization };
        assert_eq!((stream.from.clone(), stream.address), (ReceiveFrom::Rtsp(server.into(), url), address));
        assert_eq!(stream.name, "rtsp://127.0.0.1:8554/2");
        let v6 = described("rtsp://[::1]/x", &reach).unwrap();
        assert_eq!(v6.address, "[::1]:554".parse().unwrap());
        let far = described("rtsp://me:secret@192.0.2.7/2", &reach).unwrap_err().to_string();
        assert!(
            far.starts_with("--sdp rtsp://192.0.2.7/2: a password or token is shown by TLS only"),
            "{far}"
        );
        assert!(described("rtsp://192.0.2.7/2", &reach).is_ok());
    }

    #[test]
    fn an_rtsps_url_is_reached_by_tls_with_the_token_and_the_fingerprint_of_the_user() {
        let named = "7A".repeat(32).parse().unwrap();
        let token = Some(Secret::new("sct_1".into()));
        let reach = Reach { fingerprint: Some(named), token, ..Reach::default() };
        let stream = Stream::described("rtsps://192.0.2.7/2", None, &reach).unwrap();
        assert_eq!(stream.address, "192.0.2.7:322".parse().unwrap());
        let ReceiveFrom::Rtsp(server, _) = stream.from else { panic!("it is RTSP") };
        let trust = Trust::User { named: Some(named), servers: Default::default() };
        assert_eq!(server.tls, Some(trust));
        assert_eq!(server.authorization, Some(Secret::new(basic("viewer", "sct_1"))));
        let own = Stream::described("rtsps://anna:mine@192.0.2.7/2", None, &reach).unwrap();
        let ReceiveFrom::Rtsp(server, _) = own.from else { panic!("it is RTSP") };
        assert_eq!(
            server.authorization,
            Some(Secret::new(basic("anna", "mine"))),
            "the URL's own comes first"
        );
        for place in ["rtsp://192.0.2.7/2", "-", "two.sdp"] {
            let wrong = Stream::described(place, None, &reach).unwrap_err().to_string();
            assert!(wrong.ends_with("--fingerprint is for rtsps:// only"), "{wrong}");
        }
    }
}
