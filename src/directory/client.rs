//! The directory's client: one question, or a connection kept for as long as a viewer runs.

mod session;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use super::link::Link;
use super::message::{ErrorCode, MessageError, Reply, Request, Services, StationInfo, VERSION, encode};

pub use session::{Event, Session};

/// Why the directory could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there, or there is no way there.
    #[error("cannot connect to the directory at {addr}: {reason}; is the broadcaster running?")]
    Connect {
        /// The directory.
        addr: SocketAddr,
        /// What the system said.
        reason: io::Error,
    },
    /// The connection broke.
    #[error("lost the directory at {addr}: {reason}")]
    Io {
        /// The directory.
        addr: SocketAddr,
        /// What the system said.
        reason: io::Error,
    },
    /// No complete answer in time.
    #[error("the directory at {addr} did not answer within {after:?}")]
    TimedOut {
        /// The directory.
        addr: SocketAddr,
        /// The time it had.
        after: Duration,
    },
    /// The server closed before it had answered.
    #[error("the directory at {addr} closed the connection without an answer")]
    Closed {
        /// The directory.
        addr: SocketAddr,
    },
    /// The server said no.
    #[error("the directory at {addr} refused ({code:?}): {sentence}")]
    Refused {
        /// The directory.
        addr: SocketAddr,
        /// For programs.
        code: ErrorCode,
        /// The server's words.
        sentence: String,
    },
    /// What answered is no directory, or a broken one.
    #[error("{addr} does not answer as a directory does: {reason}")]
    Message {
        /// Who answered.
        addr: SocketAddr,
        /// What is wrong with it.
        reason: MessageError,
    },
    /// A reply that is none to what was asked.
    #[error("{addr} does not answer as a directory does: {what}")]
    Unexpected {
        /// Who answered.
        addr: SocketAddr,
        /// What was wrong.
        what: &'static str,
    },
}

/// Asks the directory at `addr` what is on, once: the stations, ascending by id. Takes at most
/// `timeout`. Needs a tokio runtime.
///
/// # Errors
/// [`ClientError`]; whatever answers, this returns within `timeout` and holds at most one reply.
pub async fn list(addr: SocketAddr, timeout: Duration) -> Result<Vec<StationInfo>, ClientError> {
    let stations = |reply| match reply {
        Reply::LineUp { stations, .. } => Some(stations),
        _ => None,
    };
    within(timeout, addr, ask(addr, Request::List, stations)).await
}

/// Asks the directory at `addr` where its stations are served besides multicast, as seen from here: what only its own
/// machine can reach is none. Takes at most `timeout`. Needs a tokio runtime.
///
/// # Errors
/// As [`list`].
pub async fn services(addr: SocketAddr, timeout: Duration) -> Result<Services, ClientError> {
    let services = |reply| match reply {
        Reply::Services(services) => Some(services),
        _ => None,
    };
    let Services { rtsp, http } = within(timeout, addr, ask(addr, Request::Services, services)).await?;
    let from_here = |service: Option<SocketAddr>| from_here(service?, addr);
    Ok(Services { rtsp: from_here(rtsp), http: from_here(http) })
}

/// Where a service is for who reached the directory at `directory`; `None` where that cannot be.
fn from_here(service: SocketAddr, directory: SocketAddr) -> Option<SocketAddr> {
    let by = directory.ip().to_canonical();
    if service.ip().is_unspecified() {
        let mut here = directory; // with its zone, if it has one
        here.set_port(service.port());
        // All addresses of IPv4 are none of IPv6. The other way round Linux serves both.
        return (by.is_ipv4() || service.is_ipv6()).then_some(here);
    }
    (by.is_loopback() || !service.ip().is_loopback()).then_some(service)
}

async fn within<T>(
    timeout: Duration,
    addr: SocketAddr,
    answer: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    match tokio::time::timeout(timeout, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(ClientError::TimedOut { addr, after: timeout }),
    }
}

/// Asks `question` in a connection of its own; `answer` picks what it needs from the reply that is one.
async fn ask<T>(
    addr: SocketAddr,
    question: Request,
    answer: impl Fn(Reply) -> Option<T>,
) -> Result<T, ClientError> {
    let stream = connect(addr).await.map_err(|reason| ClientError::Connect { addr, reason })?;
    let mut link = Link::<TcpStream, Reply>::new(stream);
    let lost = |reason| ClientError::Io { addr, reason };
    let wrong = |reason| ClientError::Message { addr, reason };
    let unexpected = ClientError::Unexpected { addr, what: "a reply to nothing that was asked" };

    let mut questions = encode(&hello()).map_err(wrong)?;
    questions.extend(encode(&question).map_err(wrong)?);
    // A server that is full answers and closes, perhaps before it has our questions: what it said
    // is worth more than that we could not finish.
    let sent = link.send(&questions).await;
    let mut greeted = false;
    loop {
        while let Some(reply) = link.take().map_err(wrong)? {
            match reply {
                Reply::Hello { version: VERSION, .. } if !greeted => greeted = true,
                Reply::Error { code, sentence } => return Err(ClientError::Refused { addr, code, sentence }),
                reply if greeted => return answer(reply).ok_or(unexpected),
                _ => return Err(unexpected),
            }
        }
        if !link.fill().await.map_err(lost)? {
            sent.map_err(lost)?;
            return Err(ClientError::Closed { addr });
        }
    }
}

async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?; // a Tune is a few bytes in the path of a zap
    Ok(stream)
}

fn hello() -> Request {
    Request::Hello { version: VERSION, agent: concat!("stationcast ", env!("CARGO_PKG_VERSION")).to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_where_it_can_be_reached_from_here() {
        for (service, directory, expected) in [
            ("0.0.0.0:8554", "192.0.2.7:9688", Some("192.0.2.7:8554")),
            ("[::]:8554", "192.0.2.7:9688", Some("192.0.2.7:8554")),
            ("[::]:8554", "[2001:db8::7]:9688", Some("[2001:db8::7]:8554")),
            ("[::]:8554", "[fe80::1%2]:9688", Some("[fe80::1%2]:8554")),
            ("0.0.0.0:8554", "[2001:db8::7]:9688", None),
            ("0.0.0.0:8554", "[::ffff:192.0.2.7]:9688", Some("[::ffff:192.0.2.7]:8554")),
            ("192.0.2.8:8554", "192.0.2.7:9688", Some("192.0.2.8:8554")),
            ("127.0.0.1:8554", "127.0.0.1:9688", Some("127.0.0.1:8554")),
            ("127.0.0.1:8554", "[::1]:9688", Some("127.0.0.1:8554")),
            // Somebody else's loopback is not ours.
            ("127.0.0.1:8554", "192.0.2.7:9688", None),
            ("[::1]:8554", "192.0.2.7:9688", None),
        ] {
            let address = |text: &str| text.parse::<SocketAddr>().expect(text);
            let found = from_here(address(service), address(directory));
            assert_eq!(found, expected.map(address), "{service}, directory at {directory}");
        }
    }
}
