//! A stream that no directory lists: a group named on the command line, or what a description (SDP) says, from a file, a web
//! server or an RTSP server.

use std::fs::File;
use std::io::{self, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use rtsp_types::Url;

use crate::directory::{State, StationInfo};
use crate::interface::Interface;
use crate::media::StationId;
use crate::speaker::SoundFrom;
use crate::tuner::join;
use crate::tuner::receiver::ReceiveFrom;
use crate::wire::sdp::streams::{DescribedStreams, MAX_DESCRIPTION};

/// Timeout of a request for a description.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The port of RTSP (RFC 2326 section 3.2).
const RTSP_PORT: u16 = 554;

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
    /// itself is received, in the connection. Blocks.
    ///
    /// # Errors
    /// There is no such description, or none of RTP/JPEG to a group; or the interface cannot be told.
    pub fn described(place: &str, interface: Option<&str>) -> Result<Stream, StreamError> {
        let described = match place.split_once("://") {
            Some(("rtsp", _)) => return Stream::of_rtsp(place),
            Some(("http", _)) => fetch(place)?,
            Some((scheme, _)) => {
                return Err(StreamError::Usage(format!(
                    "--sdp {place}: {scheme} is not known; give a file, - for standard input, or a URL of http or rtsp"
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

    fn of_rtsp(place: &str) -> Result<Stream, StreamError> {
        let usage = |why: &str| StreamError::Usage(format!("--sdp {place}: {why}"));
        let mut url = Url::parse(place).map_err(|error| usage(&format!("not a URL: {error}")))?;
        // They do not belong into a request. A server that wants them refuses it, and says so.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| usage("names no host"))?;
        let at = (host.trim_matches(['[', ']']), url.port().unwrap_or(RTSP_PORT));
        let address = at.to_socket_addrs().map(|mut found| found.next()).map_err(|error| {
            StreamError::Failed(format!("--sdp {place}: cannot find {host}: {}", reason(&error)))
        })?;
        let address = address.ok_or_else(|| usage("its host has no address"))?;
        Ok(Stream {
            name: url.to_string(),
            address,
            interface: String::new(),
            from: ReceiveFrom::Rtsp(address, url),
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
        match Stream::described(place, Some("127.0.0.1")).unwrap_err() {
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
        check(&Stream::described(file, Some("127.0.0.1")).unwrap());

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/2.sdp", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            let length = DESCRIPTION.len();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{DESCRIPTION}").unwrap();
        });
        check(&Stream::described(&url, Some("127.0.0.1")).unwrap());
        server.join().unwrap();
        let refused = Stream::described(&url, Some("127.0.0.1")).unwrap_err();
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
    fn an_rtsp_url_is_played_in_its_connection_and_without_the_password() {
        let stream = Stream::described("rtsp://me:secret@127.0.0.1:8554/2", None).unwrap();
        let server: SocketAddr = "127.0.0.1:8554".parse().unwrap();
        let url = Url::parse("rtsp://127.0.0.1:8554/2").unwrap();
        assert_eq!((stream.from.clone(), stream.address), (ReceiveFrom::Rtsp(server, url), server));
        let v6 = Stream::described("rtsp://[::1]/x", None).unwrap();
        assert_eq!(v6.address, "[::1]:554".parse().unwrap());
    }
}
