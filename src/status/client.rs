//! Asks a broadcaster for the status of its stations, over its HTTP API.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::web::api::StationStatus;

/// Timeout of the whole request. A broadcaster answers in a millisecond; over the worst of networks in a second.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Most bytes of an answer: 999 stations of 1 kB, several times over.
const MAX_ANSWER: u64 = 8 * 1024 * 1024;

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// Nothing answers at the address, or not in time.
    #[error(
        "no broadcaster answers at http://{address}/: {reason}; start it, or give its [http] listen with --http"
    )]
    Unreachable {
        /// The host and port that were asked.
        address: String,
        /// The system's error.
        reason: String,
    },
    /// The broadcaster does not know the name by which it was asked.
    #[error(
        "the broadcaster at http://{address}/ does not answer to that name; give its address with --http, or add the name \
         to `hosts` under [http] of its line-up"
    )]
    Misnamed {
        /// The host and port that were asked.
        address: String,
    },
    /// The answer is not a broadcaster's.
    #[error(
        "the server at http://{address}/ is not a broadcaster: {reason}; give the broadcaster's [http] listen with --http"
    )]
    Unknown {
        /// The host and port that were asked.
        address: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

/// The host and port at which a broadcaster that listens on `listen` can be asked from this machine: an unspecified address
/// becomes loopback.
pub fn address_of(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listen.port()).to_string()
}

/// The status of the stations of the broadcaster at `address`, a host and a port, as the JSON it sent. Blocks.
///
/// # Errors
/// Nothing answers at `address`, or something that is not a broadcaster.
pub fn fetch_json(address: &str) -> Result<String, StatusError> {
    Ok(ask(address)?.0)
}

/// The status of the stations of the broadcaster at `address`, a host and a port. Blocks.
///
/// # Errors
/// As [`fetch_json`].
pub fn fetch(address: &str) -> Result<Vec<StationStatus>, StatusError> {
    Ok(ask(address)?.1)
}

/// The answer, as text and parsed.
fn ask(address: &str) -> Result<(String, Vec<StationStatus>), StatusError> {
    let unknown = |reason: String| StatusError::Unknown { address: address.into(), reason };
    // Never by a proxy: it would look for a loopback address on its own machine.
    let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).proxy(None).build();
    let answer = ureq::Agent::from(config).get(format!("http://{address}/api/stations")).call();
    let text =
        answer.and_then(|mut answer| answer.body_mut().with_config().limit(MAX_ANSWER).read_to_string());
    let text = text.map_err(|error| match error {
        // Misdirected Request (RFC 9110 section 15.5.20).
        ureq::Error::StatusCode(421) => StatusError::Misnamed { address: address.into() },
        ureq::Error::StatusCode(code) => unknown(format!("it answers with status {code}")),
        ureq::Error::BodyExceedsLimit(_) => unknown("its answer is too long".into()),
        ureq::Error::Protocol(_) => unknown("it does not speak HTTP".into()),
        ureq::Error::Io(error) => {
            StatusError::Unreachable { address: address.into(), reason: error.to_string() }
        }
        error => StatusError::Unreachable { address: address.into(), reason: error.to_string() },
    })?;
    let stations = serde_json::from_str(&text)
        .map_err(|error| unknown(format!("its answer is not the status of stations ({error})")))?;
    Ok((text, stations))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_answer_that_is_not_a_broadcasters_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>");
            }
        });
        let expected = format!("the server at http://{address}/ is not a broadcaster: ");
        for error in [fetch_json(&address).unwrap_err(), fetch(&address).unwrap_err()] {
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn a_broadcaster_that_does_not_know_the_name_it_was_asked_by_is_one_sentence_with_the_fix() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 421 Misdirected Request\r\nContent-Length: 2\r\n\r\n!\n");
        });
        let expected = format!("the broadcaster at http://{address}/ does not answer to that name; ");
        let error = fetch(&address).unwrap_err().to_string();
        assert!(error.starts_with(&expected), "{error}");
    }

    #[test]
    fn an_unspecified_address_is_asked_on_loopback() {
        for (listen, at) in
            [("0.0.0.0:8088", "127.0.0.1:8088"), ("[::]:80", "[::1]:80"), ("192.0.2.7:1", "192.0.2.7:1")]
        {
            assert_eq!(address_of(listen.parse().unwrap()), at);
        }
    }

    #[test]
    fn an_unreachable_broadcaster_is_one_sentence_with_the_fix() {
        // Nothing listens on a port that was just released.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = fetch(&port.to_string()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("no broadcaster answers at http://{port}/: ")), "{error}");
        assert!(error.ends_with("give its [http] listen with --http"), "{error}");
    }
}
